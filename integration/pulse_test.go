package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A test lets the machine off if other work kept it from running the test. The pulse
// measures how long that was: another process, which sleeps for a beat at a time and is
// late if it gets no core. What this process uses itself excuses nothing, or a product
// that burns processor time would excuse itself.
const (
	beat     = 2 * time.Millisecond
	pulseArg = "pulse" // says to the test binary that it is the pulse of its parent
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == pulseArg {
		measure(os.Getppid(), os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// usedBy returns the processor time that a process has used. A system that does not tell
// it has the pulse take all that it lacks for the work of others.
var usedBy = func(pid int) time.Duration { return 0 }

// lacked returns how much of the lateness of a beat others have caused, if a process used
// so much of n processors meanwhile.
func lacked(late, used time.Duration, n int) time.Duration {
	return max(0, late-used/time.Duration(n))
}

// measure is the pulse of a process. For each instant that it reads it writes the longest
// gap since and the sum of all. It returns at the end of the questions.
func measure(pid int, questions io.Reader, answers io.Writer) {
	asked := make(chan clock.Instant)
	go func() {
		defer close(asked)
		in := bufio.NewReader(questions)
		for from := clock.Instant(0); ; asked <- from {
			if _, err := fmt.Fscan(in, &from); err != nil {
				return
			}
		}
	}()
	type gap struct {
		end clock.Instant
		d   time.Duration
	}
	var gaps []gap
	last, used := clock.System().Now(), usedBy(pid)
	look := func() {
		at, all := clock.System().Now(), usedBy(pid)
		// A timer is late by up to 1 ms on an idle machine, too.
		if d := lacked(at.Sub(last)-beat, all-used, runtime.NumCPU()); d > time.Millisecond {
			gaps = append(gaps, gap{at, d})
		}
		last, used = at, all
	}
	for {
		select {
		case <-time.After(beat):
			look()
		case from, ok := <-asked:
			if !ok {
				return
			}
			look()
			var worst, sum time.Duration
			for _, g := range slices.Backward(gaps) {
				if g.end <= from {
					break
				}
				d := min(g.d, g.end.Sub(from))
				worst, sum = max(worst, d), sum+d
			}
			fmt.Fprintln(answers, int64(worst), int64(sum))
		}
	}
}

// A pulse is the process that measures.
type pulse struct {
	cmd *exec.Cmd
	mu  sync.Mutex // held from a question to its answer
	in  io.WriteCloser
	out *bufio.Reader
}

// machine returns the pulse of this process, which ends with it: at the end of its input.
var machine = sync.OnceValue(newPulse)

func newPulse() *pulse {
	p := &pulse{cmd: exec.Command(os.Args[0], pulseArg)}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		panic(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := p.cmd.Start(); err != nil {
		panic(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	p.since(0) // it measures from now on
	return p
}

// since returns the longest gap since an instant, and the sum of all.
func (p *pulse) since(from clock.Instant) (worst, sum time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintln(p.in, int64(from))
	if err == nil {
		_, err = fmt.Fscan(p.out, &worst, &sum)
	}
	if err != nil {
		panic(fmt.Sprint("the pulse: ", err))
	}
	return worst, sum
}

// A watch tells how far others kept this machine from running the test since an instant.
// Each of its excuses has a measure, is shown, and is counted: see excuse.
type watch struct{ from clock.Instant }

func newWatch() watch {
	machine()
	return watch{clock.System().Now()}
}

// starved returns the longest time for which others kept this process from running.
func (w watch) starved() time.Duration {
	worst, _ := machine().since(w.from)
	return worst
}

// String tells for how long, and out of how much time.
func (w watch) String() string {
	worst, sum := machine().since(w.from)
	return fmt.Sprintf("others took the machine for %v of %v, %v at once", sum, clock.System().Now().Sub(w.from), worst)
}

// busy reports whether nodes may have answered too late because of others: they took half
// of a node's timeout at once, and a twentieth of all the time.
func (w watch) busy() bool {
	worst, sum := machine().since(w.from)
	return worst > nodeTimeout/2 && sum > clock.System().Now().Sub(w.from)/20
}

// within wants what took so long to take no longer than most. It may take longer by as
// much as others kept this process from running at once.
func (w watch) within(t *testing.T, what string, took, most time.Duration) {
	t.Helper()
	if took <= most {
		return
	}
	if took <= most+w.starved() {
		excuse(t, "%s %v, want %v at most; %v", what, took, most, w)
	} else {
		t.Errorf("%s %v, want %v at most; %v", what, took, most, w)
	}
}

// expired reports whether a lease has ended for no other reason than that it was not
// renewed in time, on a machine that others kept busy. What ended it may have begun a TTL
// before.
func (w watch) expired(t *testing.T, l *lease.Lease) bool {
	t.Helper()
	w.from = w.from.Add(-ttl)
	if !errors.Is(l.Err(), lease.ErrExpired) || !w.busy() {
		return false
	}
	excuse(t, "%s: %v; %v", l.Name(), l.Err(), w)
	return true
}

// released wants a release to have been confirmed. If nodes were slow because of others it
// need not have been; the key must go all the same.
func (w watch) released(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case unanswered(err) && w.busy():
		excuse(t, "%v; %v", err, w)
	default:
		t.Errorf("%v; %v", err, w)
	}
}

// unanswered reports whether a release was not confirmed because nodes were slow.
func unanswered(err error) bool {
	var unconfirmed *supervisor.ReleaseError
	return errors.As(err, &unconfirmed) && strings.Contains(err.Error(), "no answer within")
}

// excuses are counted for each test that may have some, by its name: see repeat, several.
var excuses sync.Map // of *atomic.Int32

// excuse lets a test off something, shows that, and counts it. A test that was not
// made for it fails.
func excuse(t *testing.T, format string, args ...any) {
	t.Helper()
	count, ok := excuses.Load(t.Name())
	if !ok {
		t.Errorf("nothing excuses this test: "+format, args...)
		return
	}
	count.(*atomic.Int32).Add(1)
	t.Logf("left out, as this machine is too busy: "+format, args...)
}

// repeat runs f n times, a few at once. A run with an excuse is left out, and another one
// is made instead.
func repeat(t *testing.T, n, atOnce int, f func(t *testing.T, run int)) {
	t.Helper()
	room := make(chan struct{}, atOnce)
	made, out := 0, 0
	for made < n+out && out <= tenth(n) {
		counts := make([]atomic.Int32, n+out-made)
		var wg sync.WaitGroup
		for i := range counts {
			room <- struct{}{}
			wg.Go(func() {
				defer func() { <-room }()
				t.Run(fmt.Sprint(made+i), func(t *testing.T) {
					excuses.Store(t.Name(), &counts[i])
					f(t, made+i)
				})
			})
		}
		wg.Wait()
		made += len(counts)
		for i := range counts {
			out += int(min(1, counts[i].Load()))
		}
	}
	leftOut(t, "runs", out, n, made)
}

// several lets a test that makes n runs within itself have excuses. They are not repeated.
func several(t *testing.T, n int) {
	count := new(atomic.Int32)
	excuses.Store(t.Name(), count)
	t.Cleanup(func() { leftOut(t, "runs", int(count.Load()), n, n) })
}

// leftOut shows how many of those that were made were left out. It must be no more than a
// tenth of the n that were wanted.
func leftOut(t *testing.T, what string, out, n, made int) {
	t.Helper()
	switch {
	case out > tenth(n):
		t.Errorf("%s: %d of %d were left out, want %d at most: this machine is too busy", what, out, made, tenth(n))
	case out > 0:
		t.Logf("%s: %d of %d were left out", what, out, made)
	}
}

// tenth returns a tenth of n, rounded up: one of up to ten, two of twenty.
func tenth(n int) int { return (n + 9) / 10 }
