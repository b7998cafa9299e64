package core

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A giving is the giving back of one tenure.
type giving struct {
	answer     Call // the caller of Release, or 0
	begun      clock.Instant
	holding    nodeSet     // nodes that may still have the key
	unanswered nodeSet     // a release is unanswered
	errs       []error     // by node; nil while there is none
	revoke     *revocation // of somebody else's lease; nil of one's own
}

// Release hears that the holder gives the name up, whose lease is over already. It is answered
// by EffectAnswered. If a renewal that was answered in between has found that out, or its time
// was up, the lease is being given back already, and the holder waits for that.
func (c *Core) Release(now clock.Instant, id uint64, call Call) {
	switch t := c.tenures.get(id); {
	case t != nil && t.phase == phaseHeld:
		c.endFor(now, t, ReasonReleased, call)
	case t != nil && t.give != nil && t.give.answer == 0:
		t.give.answer = call
		c.releaseNow(now, t)
		c.settled(now, t)
	default:
		c.answer(call, nil)
	}
}

// HolderEnded hears that the holder of a lease was the first to notice that it is over.
func (c *Core) HolderEnded(now clock.Instant, id uint64, why Reason) {
	if t := c.tenures.get(id); t != nil && t.phase == phaseHeld {
		c.end(now, t, why)
	}
}

// end ends a held lease, once and for ever, and gives it back. The next waiter of this
// process sends its grants right after the releases, see Serve.
func (c *Core) end(now clock.Instant, t *tenure, why Reason) { c.endFor(now, t, why, 0) }

// endFor does the same for a caller who is told when it is given back.
func (c *Core) endFor(now clock.Instant, t *tenure, why Reason, call Call) {
	var lost *Report
	if why != ReasonReleased && why != ReasonHandedOver {
		lost = c.loss(now, t, why)
	}
	c.effects = append(c.effects, Effect{
		Kind: EffectEnded, ID: t.id, Reason: why, Report: lost, Key: t.key, Fence: t.fence, Elapsed: now.Sub(t.begun),
	})
	if x := t.hold.extend; x != nil {
		ended := lost
		if ended == nil {
			ended = &Report{Key: t.key, Reason: why}
		}
		for _, w := range x.waiters {
			c.answer(w, ended)
		}
		t.hold.rare().extend = nil
	}
	l := t.line
	l.holder = nil
	c.held.del(t)
	c.markContended(now, t)
	free := now
	if why == ReasonExpired && !c.closing {
		free = deadline(t.votes.of, t.counting(), c.quorum) // its holder has the grace to stop in
	}
	c.giveBackAt(free, now, t, call)
	c.makeReady(now, l)
	c.forgetIdle(t.key, l)
}

// abandon ends an attempt that is not won.
func (c *Core) abandon(now clock.Instant, t *tenure) {
	t.line.attempt = nil
	c.giveBack(now, t)
}

// giveBack gives a tenure back at once.
func (c *Core) giveBack(now clock.Instant, t *tenure) {
	c.giveBackAt(now, now, t, 0)
}

// giveBackAt gives a tenure back as soon as an instant has come.
func (c *Core) giveBackAt(at, now clock.Instant, t *tenure, call Call) {
	c.alarms.clear(t)
	t.phase = phaseReleasing
	t.ballot = nil
	t.give = &giving{answer: call, begun: now, holding: t.asked, unanswered: t.asked}
	if at > now {
		c.alarms.set(t, at)
		return
	}
	c.sendReleases(now, t)
}

// releaseNow sends the releases of a tenure that is to be given back later.
func (c *Core) releaseNow(now clock.Instant, t *tenure) {
	if t.phase == phaseReleasing && t.isSet() {
		c.alarms.clear(t)
		c.sendReleases(now, t)
	}
}

// sendReleases sends a release to every node that may have the key, also to the silent
// ones: the command may have arrived. It goes after all that was sent before.
func (c *Core) sendReleases(now clock.Instant, t *tenure) {
	t.give.unanswered = t.asked
	for i := range c.nodes {
		if t.asked.has(i) {
			c.sendRelease(t, i)
		}
	}
	c.settled(now, t)
}

func (c *Core) sendRelease(t *tenure, i int) {
	c.send(i, node.Command{ID: t.id, Op: node.Release, Name: t.key, Token: t.token, Queued: t.inQueueOf(i), By: clock.Never})
}

// onRelease hears an answer to a release. Whatever a node said, it does not have
// the key by this tenure's doing; if it said nothing, it is owed another.
func (c *Core) onRelease(now clock.Instant, t *tenure, i int, r node.Reply) {
	if c.closing && !c.cut && r.Err == FaultNoRoom {
		c.sendLater(now, t, i)
		return
	}
	t.give.unanswered.del(i)
	c.onRevocation(now, t, i, r)
	switch r.Status {
	case node.OK, node.Absent, node.Other:
		t.give.holding.del(i)
		c.onOwedRelease(now, i, r) // if this answers one that was sent again
	default:
		if t.give.errs == nil {
			t.give.errs = make([]error, len(c.nodes))
		}
		t.give.errs[i] = r.Err
		if t.asked.has(i) {
			c.owe(now, t, i)
		}
	}
	c.settled(now, t)
}

// settled tells the caller as soon as a quorum is free, or cannot be known to be,
// and forgets the tenure after the last answer.
func (c *Core) settled(now clock.Instant, t *tenure) {
	g := t.give
	g.holding &= t.asked
	if g.answer != 0 {
		n := len(c.nodes)
		if n-g.holding.len() >= c.quorum {
			c.effects = append(c.effects, Effect{Kind: EffectAnswered, Call: g.answer, Elapsed: now.Sub(g.begun)})
			g.answer = 0
		} else if g.unanswered == 0 || n-(g.holding&^g.unanswered).len() < c.quorum {
			c.answer(g.answer, c.unconfirmed(t))
			g.answer = 0
		}
	}
	if g.unanswered == 0 && t.pending == 0 {
		c.tenures.del(t)
		delete(c.byToken, t.token)
		if c.closing && t.hold.everHeld() && len(c.nodes)-g.holding.len() < c.quorum && len(c.unreleased) < maxUnreleased {
			c.unreleased = append(c.unreleased, c.unconfirmed(t))
		}
	}
}

// StopWaiting hears that the caller of Release waits no longer.
func (c *Core) StopWaiting(_ clock.Instant, id uint64) {
	t := c.tenures.get(id)
	if t == nil || t.give == nil || t.give.answer == 0 {
		return // it was answered
	}
	c.answer(t.give.answer, c.unconfirmed(t))
	t.give.answer = 0
}

// unconfirmed reports the nodes which may still have the key.
func (c *Core) unconfirmed(t *tenure) *Report {
	e := c.report(t.key, ReasonUnconfirmed, nil)
	e.Left = t.terms.TTL
	if t.hold.everHeld() && t.hold.longer {
		e.Left = c.settings.MaxTTL // a node that missed the shorter renewals keeps the longer
	}
	for i := range c.nodes {
		if g := t.give; g.holding.has(i) {
			a := Answer{Node: i, Verdict: VerdictSilent}
			if !g.unanswered.has(i) {
				a.Verdict, a.Err = VerdictUnreachable, g.errs[i]
			}
			e.Answers = append(e.Answers, a)
		}
	}
	return e
}
