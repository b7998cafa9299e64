//go:build linux

package integration

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
)

// A target is what a fault strikes: a node, a client, or the wire between the two; or
// whatever client there is.
type target struct{ client, node int }

// anyone stands for the end of a wire that a target does not have.
const anyone = -1

// clockOf is the one node whose clock is set now and then. If those of a majority were, the
// order of fences that are forgotten would be lost with them.
const clockOf = 0

// A fault begins at some time from the beginning of all, and lasts for d.
type fault struct {
	kind  string
	at, d time.Duration
	delay time.Duration
	ahead time.Duration // what the node's clock is set to
}

// A plan is the faults of each target, one after the other.
type plan struct {
	faults map[target][]fault
	kinds  map[string]int
	n      int
}

// String counts the faults of each kind.
func (p plan) String() string { return counted(p.kinds) }

const (
	killed   = "nodes killed"
	stepped  = "nodes killed and their clocks set"
	stopped  = "nodes stopped"
	emptied  = "nodes emptied"
	swapped  = "spares that took an address"
	flushed  = "scripts flushed"
	cut      = "wires cut"
	slow     = "wires slow"
	silent   = "wires silent"
	froze    = "clients stopped"
	murdered = "clients killed"
	revoked  = "revocations"
	came     = "newcomers"
)

// draw makes the plan of a seed for so many nodes: the same each time.
func draw(seed uint64, length time.Duration, count int) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{faults: map[target][]fault{}, kinds: map[string]int{}}
	between := func(least, most time.Duration) time.Duration {
		u := r.Float64() // mostly short: a short fault is felt too, and leaves room for others
		return least + time.Duration(u*u*float64(most-least))
	}
	busy := map[target]time.Duration{}
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() * float64(400*time.Millisecond))
		if r.IntN(10) == 0 {
			at += between(2*nemesisTTL, 5*nemesisTTL) // time to get over it, and to be young
		}
		if at >= length {
			return p
		}
		f := fault{at: at}
		// One node mostly, sometimes a few, now and then all.
		nodes := r.Perm(count)[:1+[]int{0, 0, 0, 0, 0, 0, 1, 1, 2, 4}[r.IntN(10)]]
		var targets []target
		each := func(client int) {
			for _, n := range nodes {
				targets = append(targets, target{client, n})
			}
		}
		switch k := r.IntN(100); {
		case k < 14:
			f.kind, f.d = killed, between(time.Millisecond, 2*nemesisTTL)
			each(anyone)
		case k < 17:
			f.kind, f.d = stepped, between(time.Millisecond, nemesisTTL)
			f.ahead = time.Duration(r.Int64N(int64(time.Minute))) - 30*time.Second
			targets = []target{{anyone, clockOf}}
		case k < 21:
			f.kind = emptied
			each(anyone)
		case k < 26:
			f.kind, f.d = swapped, between(time.Millisecond, nemesisTTL)
			each(anyone)
		case k < 35:
			f.kind, f.d = stopped, between(20*time.Millisecond, 3*nemesisTTL)
			each(anyone)
		case k < 38:
			f.kind = flushed
			each(anyone)
		case k < 45:
			f.kind, f.d = froze, between(20*time.Millisecond, 3*nemesisTTL)
			targets = []target{{r.IntN(nemesisClients), anyone}}
		case k < 52:
			f.kind = murdered
			targets = []target{{r.IntN(nemesisClients), anyone}}
		case k < 56:
			f.kind = revoked
			targets = []target{{anyone, anyone}}
		case k < 60:
			f.kind = came
			targets = []target{{anyone, anyone}}
		default:
			switch {
			case k < 73:
				f.kind, f.d = cut, between(time.Millisecond, 3*nemesisTTL)
			case k < 87:
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
	a, b, c := draw(7, time.Minute, nemesisNodes), draw(7, time.Minute, nemesisNodes), draw(8, time.Minute, nemesisNodes)
	if !reflect.DeepEqual(a, b) {
		t.Error("one seed has two plans")
	}
	if reflect.DeepEqual(a, c) {
		t.Error("two seeds have one plan")
	}
	for _, kind := range []string{
		killed, stepped, stopped, emptied, swapped, flushed, cut, slow, silent, froze, murdered, revoked, came,
	} {
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
