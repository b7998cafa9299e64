package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A set is kept in an order that depends only on what was added and removed, and when. So it is
// swept without being sorted, and a seed replays exactly.
type set[T member] []T

// A member is what can be in one set at a time.
type member interface {
	slot() *int32 // in the set, from 1; 0 if it is in none
	// do does what a sweep does to each member.
	do(c *Core, now clock.Instant, what task)
}

func (s *set[T]) add(x T) {
	if p := x.slot(); *p == 0 {
		*s = append(*s, x)
		*p = int32(len(*s))
	}
}

// del removes x; the last takes its slot.
func (s *set[T]) del(x T) {
	p := x.slot()
	if *p == 0 {
		return
	}
	var none T
	last := len(*s) - 1
	moved := (*s)[last]
	(*s)[*p-1], *moved.slot() = moved, *p
	(*s)[last], *s = none, (*s)[:last]
	*p = 0
}

// A sweep does something to every member of a set, a piece at a time, so that the loop is never
// away for long. It goes from the last to the first. So the member that takes the slot of one that
// is removed meanwhile was dealt with before. A member that is added meanwhile may be dealt with or
// not.
type sweep[T member] struct {
	alarm
	of        *set[T]
	task      task
	remaining int  // how many of the first are still to be dealt with
	restart   bool // all are, because of something that came meanwhile
	hasty     bool // there is no pause between two pieces, but others get a turn
}

// A task is what a sweep does. It is a value, so that a core can be copied.
type task struct {
	kind   taskKind
	node   int
	before clock.Instant // taskEnd
	reason Reason        // taskEnd
}

type taskKind uint8

const (
	taskPropose taskKind = iota // a line: begin an attempt that has waited for the nodes' time
	taskRetry                   // a line: try again soon
	taskDismiss                 // a line: nothing can be acquired any more
	taskRequeue                 // a line: stand in the queue of a node again
	taskRecheck                 // a line or a lease: ask a node whether anything has changed
	taskFillIn                  // a lease: ask a node for its vote
	taskAdopt                   // an adoption: ask the nodes again
	taskEnd                     // a lease: end it
	taskAge                     // an election, an adoption or a lease: believe a vote for less
)

const (
	sweepPiece = 128
	sweepPause = 2 * time.Millisecond // between two pieces: others get a turn, and mailboxes empty
)

// begin begins to do something to every member of s: to the first piece now. If w is under way, it
// starts again when it has come to its end.
func (w *sweep[T]) begin(c *Core, now clock.Instant, s *set[T], what task) {
	if w.isSet() {
		w.restart = true
		return
	}
	w.of, w.task = s, what
	w.remaining, w.restart = len(*s), false
	w.piece(c, now)
}

func (w *sweep[T]) wake(c *Core, now clock.Instant) { w.piece(c, now) }

// piece deals with the next few.
func (w *sweep[T]) piece(c *Core, now clock.Instant) {
	for range sweepPiece {
		if w.remaining = min(w.remaining, len(*w.of)); w.remaining == 0 {
			break
		}
		w.remaining--
		(*w.of)[w.remaining].do(c, now, w.task)
	}
	if w.remaining == 0 && w.restart {
		w.remaining, w.restart = len(*w.of), false
	}
	switch {
	case w.remaining == 0:
	case w.hasty:
		c.alarms.set(w, now+1) // a tick at this instant would go on with it
	default:
		c.alarms.set(w, now.Add(sweepPause))
	}
}

// finish does the rest at once.
func (w *sweep[T]) finish(c *Core, now clock.Instant) {
	for w.isSet() {
		c.alarms.clear(w)
		w.piece(c, now)
	}
}

// do does to a line what a sweep does to each of them.
func (l *line) do(c *Core, now clock.Instant, what task) {
	switch t := l.attempt; what.kind {
	case taskPropose:
		if t != nil && t.phase == phaseWaiting {
			if fence, ok := c.proposal(now, l.fence); ok {
				c.startElection(now, t, fence)
			}
		}
	case taskRetry:
		c.retryLine(now, l)
	case taskDismiss:
		c.dismissUnfit(now, l)
	case taskRequeue:
		if t != nil && t.phase == phaseQueued {
			c.postpone(t, what.node)
			c.enqueue(now, t, what.node)
		}
	case taskRecheck:
		if l.holder == nil {
			c.recheck(now, l, what.node)
		}
	case taskAge:
		if t != nil {
			c.age(t, what.node)
		}
	}
}

// do does to a tenure what a sweep does to each of them.
func (t *tenure) do(c *Core, now clock.Instant, what task) {
	switch what.kind {
	case taskRecheck:
		c.recheck(now, c.lines[t.key], what.node)
	case taskFillIn:
		if i := what.node; t.hold.renewAt != clock.Never && (t.votes.of[i].until == 0 || t.hold.retry.has(i)) {
			c.renewAnd(now, t, 1<<i)
		}
	case taskAdopt:
		c.swapAll(now, t)
	case taskAge:
		c.ageTenure(now, t, what.node)
	case taskEnd:
		if t.begun < what.before {
			c.end(now, t, what.reason)
		}
	}
}
