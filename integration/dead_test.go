//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// TestQueueWaiter is a waiter of its own process. It says "ready", waits for the name
// when it reads a line, says "held" and when, and releases it at the next line.
func TestQueueWaiter(t *testing.T) {
	if os.Getenv(workerNodes) == "" {
		t.Skip("this is another process of TestNobodyWaitsForTheDead")
	}
	in := bufio.NewReader(os.Stdin)
	sup := supervise(t, node.URLs(strings.Fields(os.Getenv(workerNodes))...))
	fmt.Println("ready")
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	l, err := sup.Acquire(t.Context(), os.Getenv(workerName))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("held", int64(clock.System().Now()))
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(t.Context()); err != nil { // its key must go all the same
		t.Log(err)
	}
}

// Waiters that were killed or stand still, first in the queue of a name, cost who
// comes after them two reservations at most when the holder releases it.
func TestNobodyWaitsForTheDead(t *testing.T) {
	takesLong(t)
	c := processes(t, 5)
	holder := supervise(t, c.Conns())
	killed := func(w *worker) { w.signal(syscall.SIGKILL) }
	// Ten processes take so long to end that the last of them are not dead yet when the
	// first one's reservation is over.
	buried := func(w *worker) {
		w.signal(syscall.SIGKILL)
		for w.out.Scan() {
		}
	}
	for _, x := range []struct {
		name          string
		waiters, dead int
		die           func(*worker)
		runs, atOnce  int
		most          time.Duration
	}{
		{"the first is killed", 3, 1, killed, howOften(t), 3, 2 * reservation},
		{"ten of twelve are killed", 12, 10, buried, max(1, howOften(t)/2), 1, 2 * reservation},
		{"the first is stopped", 3, 1, (*worker).stop, howOften(t), 3, 2*reservation + time.Millisecond + slack},
	} {
		t.Run(x.name, func(t *testing.T) {
			var n notes
			repeat(t, x.runs, x.atOnce, func(t *testing.T, run int) {
				name := fmt.Sprint(x.name, " ", run)
				l := acquire(t, holder, name)
				ws := make([]*worker, x.waiters)
				for i := range ws {
					ws[i] = newWorker(t, "TestQueueWaiter", time.Minute, workerNodes+"="+strings.Join(c.URLs(), " "), workerName+"="+name)
				}
				for i, w := range ws {
					w.says("ready")
					w.tell()
					lined(t, c, name, int64(i+1))
				}
				// The longer they wait the more rarely they ask.
				kept(t, l, rand.N(3*ttl))
				atOnce(x.dead, func(i int) { x.die(ws[i]) })
				meanwhile, begun := newWatch(), clock.System().Now()
				giveBack(t, l)
				for i, w := range ws[x.dead:] {
					at := clock.Instant(w.says("held"))
					took := at.Sub(begun)
					if i == 0 {
						n.took("the next one had the name after", took)
						meanwhile.within(t, "the next one had the name after", took, x.most)
					} else {
						n.took("a living one handed it over within", took)
					}
					begun = clock.System().Now()
					w.tell()
				}
			})
			n.log(t)
		})
	}
}

// says wants the next line to begin with a word, and returns the number after it.
func (w *worker) says(word string) (number int64) {
	w.t.Helper()
	line := w.line()
	first, rest, _ := strings.Cut(line, " ")
	if _, err := fmt.Sscan(rest, &number); first != word || rest != "" && err != nil {
		w.t.Fatalf("the worker said %q, want %s", line, word)
	}
	return number
}

// tell has the worker go on.
func (w *worker) tell() {
	w.t.Helper()
	if _, err := io.WriteString(w.in, "\n"); err != nil {
		w.t.Fatal(err)
	}
}
