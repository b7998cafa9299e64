package core

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// heal grants a node that does not have the key to the lease again, with its own fence. It does so
// once every election is over that may have had the vote of an earlier incarnation of the node, and
// in the present incarnation only. If the node's vote is suspect, a quorum of others must have
// confirmed before that no rival has come in between. Otherwise the key would look like an unbroken
// tenure to an adopter. If the vote was withdrawn, a renewal interval must have passed.
func (c *Core) heal(now clock.Instant, t *tenure, i int) {
	h := &t.hold
	if h.renewAt == clock.Never || t.pending.has(i) {
		return // a lease that does not renew itself is not mended either
	}
	at := c.healFrom(i, t.votes.of[i].until > now)
	if v := &t.votes.of[i]; v.standing >= onProbation {
		x := t.votes.trialOf(i)
		if !c.mode(t).reached(t.votes.confirmed(x)) {
			return
		}
		if v.standing >= withdrawn {
			// An operator that takes a lease away may reach one node after the other: what was
			// deleted first must not be back when the last is reached.
			at = max(at, x.since.Add(t.terms.RenewEvery))
		}
	}
	if now < at {
		c.retryAt(now, t, i, at)
		return
	}
	t.votes.of[i].promise = t.promise(now, i)
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Heal, Name: t.key, Token: t.token,
		TTL: t.stay(now), Fence: t.fence, Life: c.nodes[i].state.Life, By: h.until,
	})
}

// onHeal handles an answer to a heal. The vote of a node that had merely forgotten counts on; that
// of a suspect one stays on trial.
func (c *Core) onHeal(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	if t.phase != phaseHeld {
		c.settled(now, t)
		return
	}
	h := &t.hold
	c.heardOf(now, t, i, r)
	if now >= h.until {
		c.end(now, t, ReasonExpired)
		return
	}
	if r.Status == node.Unknown {
		h.onSilence(now, i)
	} else {
		h.onAnswer(i)
	}
	switch r.Status {
	case node.OK:
		if c.bars(i, t) != 0 {
			break
		}
		first := c.hasKey(t, i)
		h.heard(i)
		if first {
			c.firstVote(now, t, i)
		}
	case node.Other:
		c.onOverwritten(now, t, i)
	default:
		c.retryLater(now, t, i)
	}
	c.recomputeDeadline(now, t)
}
