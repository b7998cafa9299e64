package core

import (
	"math/rand/v2"
	"testing"

	"github.com/leasehold-go/leasehold/clock"
)

// A counted is a member that says when something is done to it.
type counted struct {
	inSet int32
	done  func(*counted)
}

func (x *counted) slot() *int32                  { return &x.inSet }
func (x *counted) do(*Core, clock.Instant, task) { x.done(x) }

// What stays in a set throughout a sweep is dealt with, whatever is put in and taken out
// meanwhile; and no more than a piece at once.
func TestSweep(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &Core{}
		var b set[*counted]
		var done func(*counted)
		stays := make(map[*counted]bool)
		var others []*counted
		for i := range 5 * sweepPiece {
			l := &counted{done: func(l *counted) { done(l) }}
			b.add(l)
			if stays[l] = i%3 == 0; !stays[l] {
				others = append(others, l)
			}
		}
		change := func() {
			switch l := others[r.IntN(len(others))]; {
			case l.inSet == 0:
				b.add(l)
			default:
				b.del(l)
			}
		}
		var w sweep[*counted]
		seen, now := make(map[*counted]bool), clock.Instant(0)
		done = func(l *counted) { seen[l] = true; change() }
		w.begin(c, now, &b, task{})
		for pieces := 1; c.alarms.count > 0; pieces++ {
			if pieces > 20 {
				t.Fatalf("seed %d: a sweep without an end", seed)
			}
			now = c.alarms.next()
			before := len(seen)
			c.Tick(now)
			if n := len(seen) - before; n > sweepPiece {
				t.Fatalf("seed %d: %d at once, want %d at most", seed, n, sweepPiece)
			}
			change()
		}
		for l, stay := range stays {
			if stay && !seen[l] {
				t.Fatalf("seed %d: something was passed over", seed)
			}
		}
		for i, l := range b {
			if int(l.inSet) != i+1 {
				t.Fatalf("seed %d: the set does not know where its things are", seed)
			}
		}
	}
}

// What comes during a sweep has it done again, once.
func TestSweepAgain(t *testing.T) {
	c := &Core{}
	var b set[*counted]
	seen := 0
	for range 2 * sweepPiece {
		b.add(&counted{done: func(*counted) { seen++ }})
	}
	var w sweep[*counted]
	for range 3 {
		w.begin(c, 0, &b, task{})
	}
	for c.alarms.count > 0 {
		c.Tick(c.alarms.next())
	}
	if seen != 2*len(b) {
		t.Errorf("%d steps of %d things, want two each", seen, len(b))
	}
}
