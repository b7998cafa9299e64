package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// counting returns the nodes whose votes count.
func (t *tenure) counting() nodeSet { return t.asked &^ t.votes.suspect() }

// onKeyAbsent handles a node that does not have the key.
func (c *Core) onKeyAbsent(now clock.Instant, t *tenure, i int) {
	v, s := &t.votes.of[i], &c.nodes[i].state
	switch {
	case now >= v.until: // it has expired there, or never was there
		if t.votes.lapsed(now, i, t.pending) {
			c.askOthers(t, i)
		}
	case v.life == 0 || v.life == s.Life: // a client deleted it
		c.onDeleted(now, t, i)
	case !s.Guarded:
		t.votes.forgot(i)
	}
	// Otherwise the node has restarted, and the guard keeps it from giving the name away for longer
	// than it had promised it to this lease: the vote still counts. See invariant 11 of package
	// supervisor.
}

// onDeleted handles a node on which a client has deleted the key.
func (c *Core) onDeleted(now clock.Instant, t *tenure, i int) {
	if t.votes.deleted(now, i, t.pending) {
		c.askOthers(t, i)
	}
}

// onOverwritten handles a node that keeps another value.
func (c *Core) onOverwritten(now clock.Instant, t *tenure, i int) {
	if t.votes.overwritten(now, i, t.pending) {
		c.askOthers(t, i)
	}
}

// askOthers makes a trial begin at once, and not with the next regular renewal.
func (c *Core) askOthers(t *tenure, i int) {
	if t.hold.renewAt != clock.Never {
		t.hold.rare().ask |= c.all &^ (1 << i)
	}
}

// firstVote handles a node that has the key of a lease that is held already, and was not known to
// have it.
func (c *Core) firstVote(now clock.Instant, t *tenure, i int) {
	if t.votes.joined(now, i, now.Sub(t.begun) > lateAfter, t.pending) {
		c.askOthers(t, i)
	}
}

// lateAfter is the age from which a grant counts as late. We assume that nobody deletes a
// lease's keys within that time of its start.
const lateAfter = 10 * time.Millisecond

// confirm records that a node has renewed, and does what this decides for the votes on trial: a
// node that lacks the key is healed.
func (c *Core) confirm(now clock.Instant, t *tenure, i int) {
	healable, early := t.votes.confirmedBy(i, c.mode(t))
	for k := range c.nodes {
		if healable.has(k) {
			c.heal(now, t, k)
		}
	}
	if early && t.hold.renewAt != clock.Never {
		t.hold.rare().ask.add(i) // its answer is to a renewal that was sent too early to confirm anything
	}
}
