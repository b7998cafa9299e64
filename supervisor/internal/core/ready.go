package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// An end begins nothing. What ends a lease or loses an attempt puts the line on a list, and those
// on it are served after the input, a piece at a time. If each end began the next election itself,
// the stack and the time of one input would grow with the waiters. See invariant 21 of package
// supervisor.

// ready has the lists of waiters whose first may begin an attempt.
type ready struct {
	alarm // set while there are any: Serve may have been called already after this input
	lists []*waitList
}

// dismissals has the lists of waiters that are to be told that there is no lease.
type dismissals struct {
	alarm // the next piece
	lists []dismissal
}

type dismissal struct {
	list   *waitList
	report *Report
}

const (
	maxServed = 256 // lists, and waiters of those that are dismissed, at a time
	// dismissPause is the pause between two pieces: the callers that were told have their turn.
	// Otherwise the loop would wait for very many of them when its time slice ends.
	dismissPause = time.Millisecond
)

// makeReady makes the first waiter of a line begin an attempt soon.
func (c *Core) makeReady(now clock.Instant, l *line) {
	if l.waitList == nil || l.ready || c.closing {
		return
	}
	l.ready = true
	c.ready.lists = append(c.ready.lists, l.waitList)
	c.alarms.set(&c.ready, now)
}

// Serve begins the attempts that an input has made possible, in the order in which they became
// possible. What is more than a piece comes after others had their turn.
func (c *Core) Serve(now clock.Instant) {
	if len(c.ready.lists) > 0 {
		c.ready.wake(c, now)
	}
}

func (r *ready) wake(c *Core, now clock.Instant) {
	for n := 0; len(r.lists) > 0 && n < maxServed && c.queued <= maxSends; n++ {
		list := r.lists[0]
		r.lists[0], r.lists = nil, r.lists[1:]
		list.ready = false
		if l := c.lines[list.key]; l != nil && l.waitList == list && l.mayTry() && !c.dismissUnfit(now, l) {
			c.try(now, l)
		}
	}
	if len(r.lists) > 0 {
		c.alarms.set(r, now+1) // a tick at this instant would go on with it
		return
	}
	r.lists = nil
	c.alarms.clear(r)
}

// mayTry reports whether a line has a waiter, and nothing is under way for it.
func (l *line) mayTry() bool {
	return l.first != nil && l.holder == nil && l.attempt == nil && l.inquiry == nil && !l.isSet()
}

// dismissAll dismisses all lines, of which there may be very many, a piece at a time. Until it is
// its turn, a line gets answers, and begins nothing.
func (c *Core) dismissAll(now clock.Instant) {
	c.dismissing.hasty = true
	c.dismissing.begin(c, now, &c.waited, task{kind: taskDismiss})
}

// dismissUnfit dismisses a line if nothing can be acquired, and reports whether it does.
func (c *Core) dismissUnfit(now clock.Instant, l *line) bool {
	switch why := c.unfit(); why {
	case ReasonNone:
		return false
	case ReasonMisconfigured, ReasonNodesLeft, ReasonNotFinished, ReasonOtherChange: // whatever the nodes have said
		c.dismiss(now, l, c.report(l.key, why, nil))
	default:
		c.dismiss(now, l, c.failure(l, why))
	}
	return true
}

// takeList ends all that is under way for a line, and takes its waiters out.
func (c *Core) takeList(now clock.Instant, l *line) *waitList {
	list := l.waitList
	c.stopFirst(now, l)
	c.waited.del(l)
	l.waitList = nil
	if l.holder == nil {
		delete(c.lines, list.key)
	}
	list.dismissed = true
	return list
}

// dismiss makes sure that every waiter of a line is told that there is no lease, and why. It tells
// the first of them now, unless others come first.
func (c *Core) dismiss(now clock.Instant, l *line, r *Report) {
	list := c.takeList(now, l)
	d := &c.dismissals
	d.lists = append(d.lists, dismissal{list, r})
	if !d.isSet() {
		d.tellNext(c, now)
	}
}

func (d *dismissals) wake(c *Core, now clock.Instant) { d.tellNext(c, now) }

// tellNext tells the next piece.
func (d *dismissals) tellNext(c *Core, now clock.Instant) {
	for n := 0; len(d.lists) > 0 && n < maxServed; {
		next := &d.lists[0]
		if w := next.list.first; w != nil {
			c.fail(w.Call, next.report)
			if w.choice != nil {
				c.forgetChoice(now, w.choice)
			} else {
				c.unlink(next.list, w)
			}
			n++
		}
		if next.list.first == nil {
			d.lists = d.lists[1:]
		}
	}
	if len(d.lists) > 0 {
		c.alarms.set(d, now.Add(dismissPause))
	}
}
