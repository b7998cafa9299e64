//go:build linux

package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

func init() {
	childAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	frozen = freezeAll
}

// These say to the test binary that it is a worker: which nodes, the name, and the
// file that it appends to while it holds the name.
const (
	workerNodes = "LEASEHOLD_TEST_WORKER_NODES"
	workerName  = "LEASEHOLD_TEST_WORKER_NAME"
	workerFile  = "LEASEHOLD_TEST_WORKER_FILE"
)

// TestFrozenWorker is the other process of TestFrozen. It says "held" with its
// fence, waits for a line on stdin, writes for as long as the lease is valid, and
// says how that ended.
func TestFrozenWorker(t *testing.T) {
	if os.Getenv(workerNodes) == "" {
		t.Skip("this is the other process of TestFrozen")
	}
	in := bufio.NewReader(os.Stdin)
	out, err := os.OpenFile(os.Getenv(workerFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	sup, err := supervisor.New(configured(node.URLs(strings.Fields(os.Getenv(workerNodes))...)))
	if err != nil {
		t.Fatal(err)
	}
	defer closeSoon(sup)
	l, err := sup.Acquire(t.Context(), os.Getenv(workerName))
	if err != nil {
		t.Fatal(err)
	}
	lost := l.Lost()
	fmt.Println("held", l.Fence())
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	line := []byte("\n")
	for {
		select {
		case <-lost:
			fmt.Println("over: told:", l.Err())
			return
		default:
		}
		if !l.Valid() {
			break
		}
		if _, err := out.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	why := l.Err() // waits for the goroutine that is ending the lease right now
	select {
	case <-lost:
		fmt.Println("over: not valid:", why)
	default:
		fmt.Println("Valid() is false, and Lost is open")
	}
}

// A worker that is stopped for two TTL writes at most once more when it goes on:
// what it had already asked for. A rival has the name by then.
func TestFrozen(t *testing.T) {
	t.Parallel()
	freezeAll(t, processes(t, 5), howOften(t))
}
func freezeAll(t *testing.T, c *cluster.Cluster, runs int) {
	sup := supervise(t, c.Conns())
	var n notes
	awake := make(chan struct{}, 1) // a worker that writes occupies a core
	repeat(t, runs, runs, func(t *testing.T, i int) { freeze(t, c, sup, fmt.Sprint("frozen-", i), awake, &n) })
	n.log(t)
}

func freeze(t *testing.T, c *cluster.Cluster, sup *supervisor.Supervisor, name string, awake chan struct{}, n *notes) {
	file := filepath.Join(t.TempDir(), "written")
	awake <- struct{}{}
	asleep := sync.OnceFunc(func() { <-awake })
	defer asleep()
	w := newWorker(t, "TestFrozenWorker", time.Minute, workerNodes+"="+strings.Join(c.URLs(), " "), workerName+"="+name, workerFile+"="+file)
	var fence uint64
	if _, err := fmt.Sscanf(w.line(), "held %d", &fence); err != nil {
		t.Fatalf("the worker: %v", err)
	}
	if _, err := io.WriteString(w.in, "\n"); err != nil {
		t.Fatal(err)
	}
	<-time.After(20*time.Millisecond + rand.N(200*time.Millisecond)) // stopped at any moment of its work
	w.stop()
	asleep()
	over := time.NewTimer(2 * ttl)
	defer over.Stop()
	before := size(t, file)
	if before == 0 {
		t.Fatal("the worker has not written")
	}

	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*ttl)
	defer cancel()
	rival, err := sup.Acquire(ctx, name)
	if err != nil {
		t.Fatalf("a rival of the stopped worker: %v", err)
	}
	n.took("rival after", time.Since(begun))
	if rival.Fence() <= fence {
		t.Errorf("fence %d of the rival, behind %d", rival.Fence(), fence)
	}
	<-over.C
	if now := size(t, file); now != before {
		t.Fatalf("the worker has written %d times while it was stopped", now-before)
	}

	awake <- struct{}{}
	defer func() { <-awake }()
	w.signal(syscall.SIGCONT)
	said := w.line()
	if !strings.HasPrefix(said, "over: ") || !strings.Contains(said, ": "+lease.ErrExpired.Error()) {
		t.Errorf("the worker said %q", said)
	}
	late := size(t, file) - before
	n.add("written afterwards (times)", float64(late))
	if late > 1 {
		t.Errorf("the worker has written %d times after it was continued, want once at most", late)
	}
	stays(t, rival, 0)
	newWatch().released(t, rival.Release(t.Context()))
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A worker is another process of this test binary.
type worker struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

// newWorker starts the test binary as the process that a test of its is, for so long at
// most, 0 for as long as it takes.
func newWorker(t *testing.T, test string, limit time.Duration, env ...string) *worker {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	spawn(t, cmd)
	return &worker{t, cmd, in, bufio.NewScanner(out)}
}

// line returns the next line that the worker has printed.
func (w *worker) line() string {
	w.t.Helper()
	if !w.out.Scan() {
		w.t.Fatalf("the worker has ended: %v", w.out.Err())
	}
	return w.out.Text()
}

func (w *worker) signal(s syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		w.t.Fatal(err)
	}
}

// stop stops the worker, and returns when all its threads stand still.
func (w *worker) stop() {
	w.t.Helper()
	w.signal(syscall.SIGSTOP)
	tasks := fmt.Sprintf("/proc/%d/task", w.cmd.Process.Pid)
	if err := poll(5*time.Second, func() error {
		threads, err := os.ReadDir(tasks)
		if err != nil {
			return err
		}
		for _, thread := range threads {
			stat, err := os.ReadFile(filepath.Join(tasks, thread.Name(), "stat"))
			if err != nil {
				return err
			}
			// "pid (name) state ...", and the name may have anything in it
			if s := string(stat); !strings.HasPrefix(s[strings.LastIndex(s, ")")+1:], " T") {
				return fmt.Errorf("thread %s is not stopped", thread.Name())
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}
