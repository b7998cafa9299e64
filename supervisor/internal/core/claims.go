package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// onReservation records that a node has reserved the name for a waiter.
func (c *Core) onReservation(now clock.Instant, t *tenure, i int) {
	switch t.phase {
	case phaseQueued:
		s := t.queuing
		s.reserved.add(i)
		t.votes.of[i].promise = now.Add(c.settings.Reserve())
		if c.mode(t).reached(t.promised(now)) {
			c.startClaims(now, t)
		} else if s.patience == 0 {
			s.patience = c.roundTrip()
			c.alarms.set(t, min(t.due(), now.Add(s.patience)))
		}
	case phaseElecting, phaseRaising:
		c.claim(now, t, i)
	case phaseHeld:
		if t.votes.of[i].until == 0 {
			// The election is over. This must not hide a rival that has had the node since, and
			// whose release has put it up for this lease. So the node is not claimed, but healed,
			// when a quorum of others has confirmed. See invariant 19 of package supervisor. A
			// lease that was given is renewed soon anyway, and if many wait it is over by then.
			if t.votes.lapsed(now, i, t.pending) && t.hold.renewAt > now.Add(trackAfter) {
				c.askOthers(t, i)
			}
			c.recomputeDeadline(now, t)
		}
	}
}

// startClaims begins the election of a waiter for which a quorum has reserved the name.
func (c *Core) startClaims(now clock.Instant, t *tenure) {
	fence, ok := c.proposal(now, t.line.fence)
	if !ok {
		return // never: without it there was no ticket
	}
	kept := t.promised(now)
	b := t.ballot
	b.claims = true
	copy(b.answers, t.line.answers)
	b.patience = c.roundTrip()
	// The client that has just released often wants the name again at once. Its proposal is
	// refused, but it raises the stored fence just before the claims arrive. So the claims propose
	// a little more, and need not raise it in another round trip.
	t.phase, t.fence, t.begun = phaseElecting, fence+claimLead, now
	if t.fence > maxFence {
		c.exhausted(now, t)
		return
	}
	c.choose(now, t.line.first)
	c.alarms.set(t, now.Add(b.patience))
	for i := range c.nodes {
		if kept.has(i) {
			c.claim(now, t, i)
		}
	}
}

// claimLead is by how many microseconds a claim proposes more than the nodes' time. It is the same
// for all clients, so that the next claim proposes more than this one.
const claimLead = 2000

// claim asks one node for its vote, for a waiter that stands in its queue.
func (c *Core) claim(now clock.Instant, t *tenure, i int) {
	t.askNoMore(i)
	if t.phase != phaseElecting && t.phase != phaseRaising {
		return
	}
	if t.votes.of[i].until != 0 || !c.all.has(i) {
		return // it has given it, or was left
	}
	if t.pending.has(i) {
		t.own().askAgain.add(i)
		return
	}
	if young := c.stillYoung(now, i); now < young {
		if b := t.ballot; b != nil {
			b.answers[i] = Answer{Verdict: VerdictGuarded, Left: young.Sub(now), At: now}
		}
		return
	}
	if c.changing.barred[t.mode].has(i) {
		if b := t.ballot; b != nil {
			b.answers[i] = Answer{Verdict: VerdictNotAsked, Err: FaultBarred}
		}
		return
	}
	if b := t.ballot; !b.begun {
		// Waiting for answers to heartbeats is no part of the election. Otherwise nodes that are
		// far away would have no time left for it.
		b.begun, t.begun = true, now
	}
	t.votes.of[i].promise = t.promise(now, i)
	t.votes.of[i].life = c.nodes[i].state.Life
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Claim, Name: t.key, Token: t.token,
		TTL: t.terms.TTL, Fence: t.fence, By: t.begun.Add(t.terms.Window),
	})
}

// claimRest claims all nodes that have not granted yet, even those that did not say that they have
// reserved the name. It comes again, more and more rarely, until the election is over.
func (c *Core) claimRest(now clock.Instant, t *tenure) {
	b := t.ballot
	b.claimedAll = true
	b.patience *= 2
	c.alarms.set(t, min(now.Add(b.patience), t.begun.Add(t.terms.Window)))
	for i := range c.nodes {
		if !t.pending.has(i) {
			c.claim(now, t, i)
		}
	}
	c.decide(now, t)
}

// askPostponed asks a node that has just answered what could not be asked meanwhile. In an election
// that is its vote, and otherwise whether it still keeps the lease. It makes no claim for a lease
// that is held: such a vote would not be on trial.
func (c *Core) askPostponed(now clock.Instant, t *tenure, i int) {
	t.askNoMore(i)
	switch t.phase {
	case phaseElecting, phaseRaising:
		c.claim(now, t, i)
	case phaseHeld:
		c.renewAnd(now, t, 1<<i)
	}
}

// yield makes a waiter whose claims were refused stand in the queue again: at once, and when that
// happens again and again, after a while.
func (c *Core) yield(now clock.Instant, l *line) {
	if l.yields++; l.yields == 1 {
		c.enterQueue(now, l)
		return
	}
	most := min(c.roundTrip()<<min(l.yields, 10), c.settings.RetryMin)
	c.alarms.set(l, now.Add(time.Duration(c.rand.Int64N(int64(most)+1))))
}

// reached records whether a command has got to a node. If none of a tenure's has, there is nothing
// to give back.
func (t *tenure) reached(i int, r node.Reply) {
	if r.Status != node.Unsent {
		t.sent.add(i)
	} else if !t.sent.has(i) {
		t.asked.del(i)
	}
}
