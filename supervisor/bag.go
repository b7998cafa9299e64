package supervisor

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A bag is a set that is kept in an order which depends on nothing but on what was
// put in and taken out, and when: it is walked without being sorted, and a seed
// replays exactly.
type bag[T bagged] []T

// bagged is what can be in one bag at a time.
type bagged interface {
	place() *int32 // in the bag, from 1; 0 if it is in none
}

func (b *bag[T]) add(x T) {
	if p := x.place(); *p == 0 {
		*b = append(*b, x)
		*p = int32(len(*b))
	}
}

// del takes x out; the last takes its place.
func (b *bag[T]) del(x T) {
	p := x.place()
	if *p == 0 {
		return
	}
	var none T
	last := len(*b) - 1
	moved := (*b)[last]
	(*b)[*p-1], *moved.place() = moved, *p
	(*b)[last], *b = none, (*b)[:last]
	*p = 0
}

// A walk looks at everything in a bag, a piece at a time, so that the loop is never
// away for long. It goes from the last to the first: what takes the place of something
// that is taken out meanwhile was looked at before. What is put in meanwhile may be
// looked at or not.
type walk[T bagged] struct {
	alarm
	bag   *bag[T]
	step  func(now clock.Instant, x T)
	left  int  // how many of the first are still to be looked at
	again bool // all are, because of something that came meanwhile
	hasty bool // there is no pause between two pieces
}

const (
	walkPiece = 128
	walkPause = 2 * time.Millisecond // between two pieces: others get a turn, and mailboxes empty
)

// begin begins to look at everything in b: at the first piece now. While w is under
// way, it is done again when it has come to its end.
func (w *walk[T]) begin(c *core, now clock.Instant, b *bag[T], step func(clock.Instant, T)) {
	if w.isSet() {
		w.again = true
		return
	}
	w.bag, w.step = b, step
	w.left, w.again = len(*b), false
	w.wake(c, now)
}

func (w *walk[T]) wake(c *core, now clock.Instant) {
	for range walkPiece {
		if w.left = min(w.left, len(*w.bag)); w.left == 0 {
			break
		}
		w.left--
		w.step(now, (*w.bag)[w.left])
	}
	if w.left == 0 && w.again {
		w.left, w.again = len(*w.bag), false
	}
	switch {
	case w.left == 0:
	case w.hasty:
		c.alarms.set(w, now)
	default:
		c.alarms.set(w, now.Add(walkPause))
	}
}
