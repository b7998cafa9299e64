package core

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A lease that does not renew itself looks instead which client has the key. It looks as often as
// it would be renewed, and when a node reports a change. So it learns that it was taken away as
// soon as the others do. A look changes nothing on a node, and moves no until. If the key is there,
// that confirms what a renewal would confirm. If it is not, that takes the vote away.

// look asks which client has the key, of those of the nodes that are believed to keep it.
func (c *Core) look(now clock.Instant, t *tenure, nodes nodeSet) {
	for i := range c.nodes {
		if nodes.has(i) && !t.pending.has(i) && t.votes.of[i].until > now {
			t.hold.rare().looking.add(i)
			t.pending.add(i)
			c.send(i, node.Command{ID: t.id, Op: node.Inspect, Name: t.key, Track: true, By: t.hold.until})
		}
	}
}

// lookDue looks, and sets when to look next.
func (c *Core) lookDue(now clock.Instant, t *tenure) {
	t.hold.rare().lookAt = c.nextRenewal(t, now, t.terms.RenewEvery)
	c.look(now, t, c.all)
	c.schedule(t)
}

// lookSoon looks because of a node's message, but not all the time.
func (c *Core) lookSoon(now clock.Instant, t *tenure) {
	o := t.hold.rare()
	if o.looking != 0 || now < o.changesFrom {
		// A look that is under way may have been answered before that.
		o.lookAt = min(o.lookAt, now.Add(changesEvery))
		c.schedule(t)
		return
	}
	o.changesFrom = now.Add(changesEvery)
	c.look(now, t, c.all)
}

// isLooking reports whether a look at node i is unanswered. It may be asked of a tenure that was
// never held.
func (h *hold) isLooking(i int) bool { return h.everHeld() && h.looking.has(i) }

// onLook handles a node's answer about which client has the key.
func (c *Core) onLook(now clock.Instant, t *tenure, i int, r node.Reply) {
	h := &t.hold
	h.rare().looking.del(i)
	t.pending.del(i)
	if t.phase != phaseHeld {
		c.settled(now, t)
		return
	}
	if now >= h.until {
		c.end(now, t, ReasonExpired)
		return
	}
	if t.votes.of[i].until > now {
		c.seen(now, t, i, r)
	}
	if t.phase == phaseHeld && h.extend != nil && h.extend.early.has(i) {
		h.onAnswer(i)
		c.extended(now, t, i)
	}
}

// seen handles such an answer of a node that is believed to keep the key.
func (c *Core) seen(now clock.Instant, t *tenure, i int, r node.Reply) {
	suspect, v, s := t.votes.suspect(), &t.votes.of[i], &c.nodes[i].state
	switch {
	case r.Status == node.Unknown || r.Status == node.Unsent:
		return // nothing is known, and nothing is missing: it need not be renewed
	case r.Status == node.OK && r.Value == t.token:
		if v.life == s.Life && c.bars(i, t) == 0 {
			c.confirm(now, t, i)
		}
		return
	case r.Status == node.Absent || node.IsReservation(r.Value):
		if v.life == s.Life || !s.Guarded { // otherwise it has forgotten, and its vote counts on
			r.Status = node.Absent
			c.heardOf(now, t, i, r)
		}
		c.onKeyAbsent(now, t, i)
	default:
		r.Status = node.Other
		c.heardOf(now, t, i, r)
		c.onOverwritten(now, t, i)
	}
	c.recomputeDeadline(now, t)
	if t.phase == phaseHeld && t.votes.suspect() != suspect {
		c.look(now, t, c.all) // one deletion rarely comes alone
	}
}
