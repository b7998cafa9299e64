package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// Servers that track reads report that a key has changed, and the core then looks at it. The
// message is never itself a reason, and nothing depends on it. The next renewal, or the next
// heartbeat, finds a change that was not reported.

// onChange handles a node's message that another client has changed a key. See invariant 20 of
// package supervisor.
func (c *Core) onChange(now clock.Instant, i int, key string) {
	if key == "*" {
		p := &c.nodes[i]
		p.heldChanges.begin(c, now, &c.held, task{kind: taskRecheck, node: i})
		p.waitedChanges.begin(c, now, &c.waited, task{kind: taskRecheck, node: i})
		return
	}
	if l := c.lines[key]; l != nil {
		c.recheck(now, l, i)
	}
}

// recheck asks a node about a lease that is held, or for a waiter.
func (c *Core) recheck(now clock.Instant, l *line, i int) {
	switch t := l.holder; {
	case t != nil && t.hold.renewAt == clock.Never:
		c.lookSoon(now, t) // it is not renewed before its holder says so
	case t != nil && t.pending.has(i):
		t.own().askAgain.add(i) // a command that is under way may have been answered before that
	case t != nil && now < t.hold.changesFrom:
		// If a client changes it all the time, it must not be renewed all the time.
		o := t.hold.rare()
		o.retry.add(i)
		o.retryAt = min(o.retryAt, o.changesFrom)
		c.schedule(t)
	case t != nil:
		t.hold.rare().changesFrom = now.Add(changesEvery)
		c.renewAnd(now, t, c.all) // one deletion rarely comes alone
	case l.attempt != nil && l.attempt.phase == phaseQueued:
		l.attempt.queuing.tracked.del(i)
		c.enqueue(now, l.attempt, i)
	}
}

// track makes a node notify when a client of another library, which hands nothing over, lets the
// name go.
func (c *Core) track(now clock.Instant, t *tenure, i int, r node.Reply) {
	s := t.queuing
	if r.Status != node.Other || unheld(r) || node.IsReservation(r.Value) || node.OwnerOf(r.Value) != "" || s.tracked.has(i) || !c.nodes[i].state.Tracks {
		return
	}
	s.tracked.add(i)
	c.send(i, node.Command{ID: t.id, Op: node.Inspect, Name: t.key, Track: true, By: now.Add(t.terms.Window)})
}

// onTracking handles the state of a name when its tracking began.
func (c *Core) onTracking(now clock.Instant, t *tenure, i int, r node.Reply) {
	if t.phase != phaseQueued {
		return
	}
	if r.Status != node.OK && r.Status != node.Other {
		t.queuing.tracked.del(i)
	}
	if r.Status == node.Absent {
		c.enqueue(now, t, i) // it was let go in between
	}
}

// changesEvery is how often a lease is looked at because of nodes' messages.
const changesEvery = 5 * time.Millisecond

// trackAfter is how long after its beginning a new lease is renewed for the first time if that
// makes nodes track its keys. For a lease that is held for less it is not worth it.
const trackAfter = 50 * time.Millisecond

// tracks reports whether a node would notify of changes.
func (c *Core) tracks() bool {
	for i := range c.nodes {
		if c.nodes[i].state.Tracks {
			return true
		}
	}
	return false
}
