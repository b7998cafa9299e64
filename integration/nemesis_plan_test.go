//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
)

// A target is what a fault strikes: a node, a client, or the wire between the two.
type target struct{ client, node int }

// anyone stands for the end of a wire that a target does not have.
const anyone = -1

// A fault begins at some time from the beginning of all, and lasts for d.
type fault struct {
	kind  string
	at, d time.Duration
	delay time.Duration
}

// A plan is the faults of each target, one behind the other.
type plan struct {
	faults map[target][]fault
	kinds  map[string]int
	n      int
}

// String counts the faults of each kind.
func (p plan) String() string { return counted(p.kinds) }

const (
	killed  = "nodes killed"
	stopped = "nodes stopped"
	flushed = "scripts flushed"
	cut     = "wires cut"
	slow    = "wires slow"
	silent  = "wires silent"
	froze   = "clients stopped"
)

// draw makes the plan of a seed: the same each time.
func draw(seed uint64, length time.Duration) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{faults: map[target][]fault{}, kinds: map[string]int{}}
	between := func(least, most time.Duration) time.Duration {
		u := r.Float64() // mostly short: a short fault is felt too, and leaves room for others
		return least + time.Duration(u*u*float64(most-least))
	}
	busy := map[target]time.Duration{}
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() * float64(400*time.Millisecond))
		if r.IntN(25) == 0 {
			at += between(nemesisTTL, 4*nemesisTTL) // time to get over it
		}
		if at >= length {
			return p
		}
		f := fault{at: at}
		// One node mostly, sometimes a few, now and then all.
		nodes := r.Perm(nemesisNodes)[:1+[]int{0, 0, 0, 0, 0, 1, 1, 2, 2, 4}[r.IntN(10)]]
		var targets []target
		each := func(client int) {
			for _, n := range nodes {
				targets = append(targets, target{client, n})
			}
		}
		switch k := r.IntN(100); {
		case k < 25:
			f.kind, f.d = killed, between(time.Millisecond, 2*nemesisTTL)
			each(anyone)
		case k < 40:
			f.kind, f.d = stopped, between(20*time.Millisecond, 3*nemesisTTL)
			each(anyone)
		case k < 45:
			f.kind = flushed
			each(anyone)
		case k < 55:
			f.kind, f.d = froze, between(20*time.Millisecond, 3*nemesisTTL)
			targets = []target{{r.IntN(nemesisClients), anyone}}
		default:
			switch {
			case k < 70:
				f.kind, f.d = cut, between(time.Millisecond, 3*nemesisTTL)
			case k < 85:
				f.kind, f.d, f.delay = slow, between(nemesisTTL/10, 4*nemesisTTL), between(time.Millisecond, nemesisTTL/4)
			default:
				f.kind, f.d = silent, between(20*time.Millisecond, 3*nemesisTTL)
			}
			if r.IntN(3) > 0 {
				each(r.IntN(nemesisClients))
			} else {
				for client := range nemesisClients {
					each(client)
				}
			}
		}
		for _, x := range targets {
			if busy[x] <= at {
				busy[x] = at + f.d
				p.faults[x] = append(p.faults[x], f)
				p.kinds[f.kind]++
				p.n++
			}
		}
	}
}

// strike does something to a node, and returns when it is over.
func strike(t *testing.T, s cluster.Server, f fault) {
	switch f.kind {
	case killed:
		s.Kill()
		<-time.After(f.d)
		s.Start()
	case stopped:
		s.Pause()
		<-time.After(f.d)
		s.Resume()
	case flushed:
		if _, err := s.Do("SCRIPT", "FLUSH"); err != nil {
			t.Errorf("SCRIPT FLUSH: %v", err)
		}
	}
}

// halt stops a client, and returns when it goes on.
func halt(t *testing.T, w *worker, f fault) {
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := w.cmd.Process.Signal(s); err != nil {
			t.Errorf("%v to a client: %v", s, err)
		}
		if s == syscall.SIGSTOP {
			<-time.After(f.d)
		}
	}
}

// sever does something to a wire, and returns when it is over.
func sever(p *cluster.Proxy, f fault) {
	switch f.kind {
	case cut:
		p.Cut()
	case slow:
		p.Delay(f.delay)
	case silent:
		p.Silence()
	}
	<-time.After(f.d)
	p.Mend()
}

func TestNemesisPlan(t *testing.T) {
	a, b, c := draw(7, time.Minute), draw(7, time.Minute), draw(8, time.Minute)
	if !reflect.DeepEqual(a, b) {
		t.Error("one seed has two plans")
	}
	if reflect.DeepEqual(a, c) {
		t.Error("two seeds have one plan")
	}
	for _, kind := range []string{killed, stopped, flushed, cut, slow, silent, froze} {
		if a.kinds[kind] == 0 {
			t.Errorf("a minute of faults has no %s", kind)
		}
	}
	for x, faults := range a.faults {
		for i := 1; i < len(faults); i++ {
			if before := faults[i-1]; faults[i].at < before.at+before.d {
				t.Errorf("%v: %s", x, fmt.Sprint(before, " and then ", faults[i]))
			}
		}
	}
}
