package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A giving is the giving back of one tenure. It ends when every node has answered its first
// release, and a quorum is free or the keys must have expired.
type giving struct {
	answer     Call          // the caller of Release, or 0
	patience   clock.Instant // until when that caller waits if its context never ends; 0 if it does
	hasty      bool          // that caller has no time left
	begun      clock.Instant
	told       bool          // the releases were sent
	gives      bool          // they may give the keys to waiters
	holding    nodeSet       // nodes that may still have the key
	unanswered nodeSet       // the first release is unanswered
	expires    clock.Instant // a quorum is free then, whatever the nodes say; 0 while all have yet to answer
	leave      clock.Instant // Close waits no longer than that, and for the answers; 0 if its context bounds it
	errs       []error       // by node; nil while there is none
	revoke     *revocation   // of another client's lease; nil for one's own
}

// Release handles a holder that gives the name up, whose lease is over already. EffectAnswered
// answers it: as soon as a quorum is free or the keys must have expired, or when StopWaiting,
// Bound, Hasten or Cut ends the waiting. The lease may be being given back already: its time was
// up, or a renewal that was answered in between has shown that it is over. Then the holder waits
// for that.
func (c *Core) Release(now clock.Instant, id uint64, call Call) {
	switch t := c.tenures.get(id); {
	case t != nil && t.phase == phaseHeld:
		c.endFor(now, t, ReasonReleased, call)
	case t != nil && t.give != nil && t.give.answer == 0:
		t.give.answer = call
		c.releaseNow(now, t)
		c.settled(now, t)
	default:
		c.answer(call, c.LeftBy(id))
	}
}

// Bound records that the context of the caller of Release never ends. It waits for as long as a
// node may take to answer: nodes that are down must not hold up a caller that merely defers a
// release. That needs an alarm only once a node has failed. Until then each answers in its own
// time, and to set one for each release would cost as much as the release.
func (c *Core) Bound(now clock.Instant, id uint64) {
	if t := c.tenures.get(id); t != nil && t.give != nil && t.give.answer != 0 {
		t.give.patience = now.Add(t.terms.Window)
		if t.give.errs != nil {
			c.awaitRelease(t)
		}
	}
}

// Hasten records that the caller of Release has no time left. It waits for the answers that are on
// their way, as long as a quorum may be free by them, and not for nodes that are down.
func (c *Core) Hasten(now clock.Instant, id uint64) {
	if t := c.tenures.get(id); t != nil && t.give != nil && t.give.answer != 0 {
		t.give.hasty = true
		c.settled(now, t)
	}
}

// HolderEnded records that the holder of a lease was the first to notice that it is over.
func (c *Core) HolderEnded(now clock.Instant, id uint64, why Reason) {
	if t := c.tenures.get(id); t != nil && t.phase == phaseHeld {
		c.end(now, t, why)
	}
}

// end ends a held lease, once and for ever, and gives it back. The next waiter of this
// process sends its grants right after the releases, see Serve.
func (c *Core) end(now clock.Instant, t *tenure, why Reason) { c.endFor(now, t, why, 0) }

// endFor ends a lease too, and tells the caller when it is given back.
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
	l := c.lines[t.key]
	l.holder = nil
	c.held.del(t)
	valid := why == ReasonReleased && now < t.hold.until
	c.markContended(now, t)
	free := now
	if why == ReasonExpired && !c.closing {
		free = c.mode(t).deadline(t.votes.of, t.counting()) // its holder has the grace to stop in
	}
	c.giveBackAt(free, now, t, call, valid)
	c.makeReady(now, l)
	c.forgetIdle(t.key, l)
}

// abandon ends an attempt that is not won.
func (c *Core) abandon(now clock.Instant, t *tenure) {
	t.line.attempt = nil
	c.giveBack(now, t)
	if w := t.line.first; w != nil {
		c.unchoose(now, w)
	}
}

// giveBack gives a tenure back at once.
func (c *Core) giveBack(now clock.Instant, t *tenure) {
	c.giveBackAt(now, now, t, 0, false)
}

// giveBackAt gives a tenure back as soon as an instant has come. Waiters may be given the keys if
// the lease was valid until now.
func (c *Core) giveBackAt(at, now clock.Instant, t *tenure, call Call, valid bool) {
	c.alarms.clear(t)
	t.phase = phaseReleasing
	t.own().ballot = nil
	t.give = &giving{answer: call, begun: now, holding: t.asked, unanswered: t.asked, gives: valid}
	if c.bounded {
		t.give.leave = now.Add(t.terms.Window)
	}
	if at > now {
		c.alarms.set(t, at)
		return
	}
	c.sendReleases(now, t)
}

// releaseNow sends the releases of a tenure that is to be given back later.
func (c *Core) releaseNow(now clock.Instant, t *tenure) {
	if t.give != nil && !t.give.told {
		c.alarms.clear(t)
		c.sendReleases(now, t)
	}
}

// sendReleases sends a release to every node that may have the key, even to the silent ones: the
// command may have arrived. It goes after all that was sent before.
func (c *Core) sendReleases(now clock.Instant, t *tenure) {
	t.give.told, t.give.unanswered = true, t.asked
	fence := uint64(0)
	if t.give.gives {
		fence = c.nextFence(now, t)
	}
	for i := range c.nodes {
		if t.asked.has(i) {
			c.sendRelease(now, t, i, fence)
		}
	}
	c.settled(now, t)
}

// sendRelease sends a release to one node. With a fence it gives the key, if it is there, to the
// next waiter.
func (c *Core) sendRelease(now clock.Instant, t *tenure, i int, fence uint64) {
	c.send(i, releaseOf(now, node.Command{
		ID: t.id, Op: node.Release, Name: t.key, Token: t.token, Queued: t.inQueueOf(i), Fence: fence, By: clock.Never,
	}, t.staysUntil()))
}

// onRelease handles an answer to a release. Whatever a node said, it does not have the key by this
// tenure's doing. If it said nothing, it is owed another release.
func (c *Core) onRelease(now clock.Instant, t *tenure, i int, r node.Reply) {
	if c.closing && !c.cut && r.Err == FaultNoRoom && t.give.unanswered.has(i) {
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
		c.awaitRelease(t)
	}
	c.settled(now, t)
}

// settled tells the caller as soon as a quorum is free, and forgets the tenure when there is
// nothing to wait for any more. What a minority may still keep is owed without it.
func (c *Core) settled(now clock.Instant, t *tenure) {
	g := t.give
	g.holding &= t.asked
	answered := g.unanswered == 0 && t.pending == 0
	free := c.told().reachedWithout(g.holding)
	if answered && !free && g.expires == 0 {
		g.expires = c.keysEnd(now, t)
	}
	free = free || g.expires != 0 && now >= g.expires
	switch {
	case g.answer == 0:
	case free:
		c.effects = append(c.effects, Effect{Kind: EffectAnswered, Call: g.answer, Elapsed: now.Sub(g.begun)})
		g.answer = 0
	case g.patience != 0 && now >= g.patience, g.hasty && !c.told().reachedWithout(g.holding&^g.unanswered):
		c.StopWaiting(now, t.id)
	}
	switch {
	case !answered:
	case free || g.revoke != nil || c.cut || g.leave != 0 && now >= g.leave:
		c.forgetReleased(now, t, free)
	default:
		c.awaitRelease(t)
	}
}

// forgetReleased ends the giving back of a tenure.
func (c *Core) forgetReleased(now clock.Instant, t *tenure, free bool) {
	c.StopWaiting(now, t.id)
	c.alarms.clear(t)
	c.tenures.del(t)
	delete(c.byToken, t.token)
	if c.closing && !free && t.give.revoke == nil {
		c.unreleased.add(t.id, c.remainsOf(now, t))
	}
}

// awaitRelease makes sure that a tenure is looked at when its caller has waited for the release
// long enough.
func (c *Core) awaitRelease(t *tenure) {
	g := t.give
	at := clock.Never
	if g.answer != 0 && g.patience != 0 {
		at = g.patience
	}
	if g.expires != 0 {
		at = min(at, g.expires)
		if g.leave != 0 {
			at = min(at, g.leave)
		}
	}
	if g.told && at != clock.Never {
		c.alarms.set(t, at)
	}
}

// keysEnd returns when so many keys of a tenure must have expired that a quorum is free. Every node
// has answered what it was sent, or was given up by now. If a node may execute a command later all
// the same, it is owed a release for longer, see owe.
func (c *Core) keysEnd(now clock.Instant, t *tenure) clock.Instant {
	g := t.give
	ttl := t.longestTTL()
	latest := now.Add(ttl + c.settings.DriftOf(ttl))
	if t.begun == 0 {
		latest = now.Add(c.settings.Alive()) // it never had more than its place in the queues, and a key that was given for it
	}
	var ends [MaxNodes]clock.Instant
	for i := range c.nodes {
		if !g.holding.has(i) {
			continue
		}
		end := latest
		if c.nodes[i].state.Overdue {
			// It may yet get the latest command: the connection goes on for so long, in case it
			// answers.
			end = end.Add(c.terms.Window)
		}
		if v := &t.votes.of[i]; v.until != 0 && !t.votes.loose.has(i) && ttl == t.terms.TTL {
			// It said yes, within the window as all answers do, and has got nothing since.
			end = min(end, v.until.Add(2*t.terms.Drift+t.terms.Window))
		}
		ends[i] = end
	}
	return byQuorum(c.told(), ends[:len(c.nodes)])
}

// sentFor records for how long a node may have been sent the key. If that is longer than the TTL,
// it may miss a command that shortens it.
func (t *tenure) sentFor(ttl time.Duration) {
	switch {
	case ttl <= t.terms.TTL:
	case t.adopt != nil:
		t.adopt.longest = max(t.adopt.longest, ttl)
	default:
		t.hold.rare().longest = max(t.hold.longest, ttl)
	}
}

// longestTTL returns the longest time for which a node may have been sent the key. It does not
// count a longer time because the name is to stay taken.
func (t *tenure) longestTTL() time.Duration {
	if t.hold.everHeld() {
		return max(t.terms.TTL, t.hold.longest) // a node that missed the shorter renewals keeps the longer
	}
	return max(t.terms.TTL, t.stretched)
}

// StopWaiting records that the caller of Release has stopped waiting.
func (c *Core) StopWaiting(now clock.Instant, id uint64) {
	t := c.tenures.get(id)
	if t == nil || t.give == nil || t.give.answer == 0 {
		return // it was answered
	}
	c.answer(t.give.answer, c.unconfirmed(c.remainsOf(now, t)))
	t.give.answer = 0
}

// remainsOf returns why a quorum is not known to be free of a tenure.
func (c *Core) remainsOf(now clock.Instant, t *tenure) remains {
	g := t.give
	r := remains{t.key, t.longestTTL(), g.holding, g.unanswered, g.errs}
	if g.expires != 0 {
		r.left = g.expires.Sub(now)
	}
	r.left = max(r.left, t.staysUntil().Sub(now)) // a key that was not marked as left stays as well
	return r
}

// unconfirmed returns the report with the nodes that may still have a key.
func (c *Core) unconfirmed(r remains) *Report {
	e := c.report(r.key, ReasonUnconfirmed, nil)
	e.Left = r.left
	for i := range c.nodes {
		if r.holding.has(i) {
			a := Answer{Node: i, Verdict: VerdictSilent}
			if !r.unanswered.has(i) {
				a.Verdict, a.Err = VerdictUnreachable, r.errs[i]
			}
			e.Answers = append(e.Answers, a)
		}
	}
	return e
}
