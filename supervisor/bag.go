package supervisor

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A bag is a set that is kept in an order which depends on nothing but on what was
// put in and taken out, and when: it is walked without being sorted, and a seed
// replays exactly.
type set[T member] []T

// bagged is what can be in one bag at a time.
type member interface {
	slot() *int32 // in the bag, from 1; 0 if it is in none
}

func (b *set[T]) add(x T) {
	if p := x.slot(); *p == 0 {
		*b = append(*b, x)
		*p = int32(len(*b))
	}
}

// del takes x out; the last takes its place.
func (b *set[T]) del(x T) {
	p := x.slot()
	if *p == 0 {
		return
	}
	var none T
	last := len(*b) - 1
	moved := (*b)[last]
	(*b)[*p-1], *moved.slot() = moved, *p
	(*b)[last], *b = none, (*b)[:last]
	*p = 0
}

// A walk looks at everything in a bag, a piece at a time, so that the loop is never
// away for long. It goes from the last to the first: what takes the place of something
// that is taken out meanwhile was looked at before. What is put in meanwhile may be
// looked at or not.
type sweep[T member] struct {
	alarm
	of        *set[T]
	step      func(now clock.Instant, x T)
	remaining int  // how many of the first are still to be looked at
	restart   bool // all are, because of something that came meanwhile
	hasty     bool // there is no pause between two pieces
}

const (
	sweepPiece = 128
	sweepPause = 2 * time.Millisecond // between two pieces: others get a turn, and mailboxes empty
)

// begin begins to look at everything in b: at the first piece now. While w is under
// way, it is done again when it has come to its end.
func (w *sweep[T]) begin(c *Core, now clock.Instant, b *set[T], step func(clock.Instant, T)) {
	if w.isSet() {
		w.restart = true
		return
	}
	w.of, w.step = b, step
	w.remaining, w.restart = len(*b), false
	w.wake(c, now)
}

func (w *sweep[T]) wake(c *Core, now clock.Instant) {
	for range sweepPiece {
		if w.remaining = min(w.remaining, len(*w.of)); w.remaining == 0 {
			break
		}
		w.remaining--
		w.step(now, (*w.of)[w.remaining])
	}
	if w.remaining == 0 && w.restart {
		w.remaining, w.restart = len(*w.of), false
	}
	switch {
	case w.remaining == 0:
	case w.hasty:
		c.alarms.set(w, now)
	default:
		c.alarms.set(w, now.Add(sweepPause))
	}
}
