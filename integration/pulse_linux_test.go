package integration

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leasehold-go/leasehold/clock"
)

func init() {
	usedBy = func(pid int) time.Duration {
		var used unix.Timespec
		// The id of the clock that counts what a process uses, see clock_getcpuclockid(3).
		if unix.ClockGettime(int32(^pid<<3|2), &used) != nil {
			return 0 // it has ended
		}
		return time.Duration(used.Nano())
	}
}

// The pulse stands still for 0.3 s, as if it got no core. That excuses a test that sleeps
// meanwhile, also if another process uses the cores, and none that uses them itself.
func TestPulse(t *testing.T) {
	p := newPulse()
	t.Cleanup(func() {
		_ = p.in.Close()
		if err := p.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	const still, inexact = 300 * time.Millisecond, 30 * time.Millisecond
	sleep := func(t *testing.T) { <-time.After(still) }
	cores := time.Duration(runtime.NumCPU())
	for _, x := range []struct {
		name      string
		meanwhile func(*testing.T)
		most      time.Duration // that this process uses of each core
	}{
		{"this process sleeps", sleep, inexact},
		{"another process burns", func(t *testing.T) {
			for range cores {
				spawn(t, exec.Command("sh", "-c", "while :; do :; done"))
			}
			sleep(t)
		}, inexact},
		{"this process burns", func(t *testing.T) {
			end := time.Now().Add(still)
			atOnce(int(cores), func(int) {
				for time.Now().Before(end) {
				}
			})
		}, still + inexact},
	} {
		t.Run(x.name, func(t *testing.T) {
			from, before := clock.System().Now(), usedBy(os.Getpid())
			signal(syscall.SIGSTOP)
			x.meanwhile(t)
			signal(syscall.SIGCONT)
			worst, _ := p.since(from)
			took, used := clock.System().Now().Sub(from), (usedBy(os.Getpid())-before)/cores
			t.Logf("%v in all: others took the machine for %v, this process for %v", took, worst, used)
			if d := worst - (took - used); d < -inexact || d > inexact {
				t.Errorf("others took the machine for %v, want %v", worst, took-used)
			}
			if used > x.most {
				t.Errorf("this process took the machine for %v", used)
			}
		})
	}
}

// Only what a process has not used itself was lacking.
func TestLacked(t *testing.T) {
	const ms = time.Millisecond
	for _, x := range []struct {
		late, used time.Duration
		n          int
		want       time.Duration
	}{
		{-ms, 0, 2, 0},
		{0, 0, 2, 0},
		{100 * ms, 0, 2, 100 * ms},
		{100 * ms, 100 * ms, 1, 0},
		{100 * ms, 100 * ms, 2, 50 * ms},
		{100 * ms, 204 * ms, 2, 0},
	} {
		if got := lacked(x.late, x.used, x.n); got != x.want {
			t.Errorf("late by %v, having used %v of %d cores: lacked %v, want %v", x.late, x.used, x.n, got, x.want)
		}
	}
}
