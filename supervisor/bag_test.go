package supervisor

import (
	"math/rand/v2"
	"testing"

	"github.com/leasehold-go/leasehold/clock"
)

// What stays in a bag throughout a walk is looked at, whatever is put in and taken out
// meanwhile; and no more than a piece at once.
func TestWalk(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &Core{}
		var b set[*line]
		stays := make(map[*line]bool)
		var others []*line
		for i := range 5 * sweepPiece {
			l := &line{waitList: &waitList{}}
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
		var w sweep[*line]
		seen, now := make(map[*line]bool), clock.Instant(0)
		w.begin(c, now, &b, func(_ clock.Instant, l *line) { seen[l] = true; change() })
		for pieces := 1; c.alarms.count > 0; pieces++ {
			if pieces > 20 {
				t.Fatalf("seed %d: a walk without an end", seed)
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
				t.Fatalf("seed %d: the bag does not know where its things are", seed)
			}
		}
	}
}

// What comes during a walk has it done again, once.
func TestWalkAgain(t *testing.T) {
	c := &Core{}
	var b set[*line]
	for range 2 * sweepPiece {
		b.add(&line{waitList: &waitList{}})
	}
	var w sweep[*line]
	seen := 0
	step := func(clock.Instant, *line) { seen++ }
	for range 3 {
		w.begin(c, 0, &b, step)
	}
	for c.alarms.count > 0 {
		c.Tick(c.alarms.next())
	}
	if seen != 2*len(b) {
		t.Errorf("%d steps of %d things, want two each", seen, len(b))
	}
}
