package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file has the hand-over in one exchange. Each heartbeat of a waiter lets the node give it the
// key, until the heartbeat ends at the latest: it is a grant that has no answer yet. A release
// proposes the next fence. If that is larger than the stored one, the node gives the key to the
// first waiter, and sends a message with that and until when: the message is the answer. Once q
// nodes have sent it with one fence, the waiter holds the name, by the rules of every election. In
// all other cases it claims what it was given as if that was reserved for it. See invariant 18 of
// package supervisor.

// An offer is what one node may give a waiter the key by.
type offer struct {
	sent clock.Instant // when the latest heartbeat was queued

	// These are of the latest heartbeat that was answered. asked is 0 if there is none, or if no
	// gift that answers it is to be believed.
	asked clock.Instant
	lead  time.Duration // how far the node's clock was ahead of ours then
	life  uint32        // and in which incarnation
	beat  time.Duration // when that heartbeat ends, by the node's TIME

	gift  node.Wake     // the latest; its Fence is 0 if there is none
	least time.Duration // how far the node's clock was ahead of ours by the gift, counted to its receipt
}

// offered records that node i has answered a heartbeat.
func (c *Core) offered(i int, t *tenure, r node.Reply) {
	if r.Until == 0 {
		return // it has the key, which was given by an earlier heartbeat
	}
	o, s := &t.queuing.offers[i], &c.nodes[i].state
	o.asked, o.lead, o.life, o.beat = o.sent, readingOf(s).most, s.Life, r.Until
	if o.sent < c.youngUntil(i) {
		o.asked = 0
	}
}

// onGift records that a release has given a waiter the key of one node. It reports whether nothing
// else is to do.
func (c *Core) onGift(now clock.Instant, t *tenure, w node.Wake) (done bool) {
	if t.queuing == nil {
		return false
	}
	o := &t.queuing.offers[w.Node]
	o.gift, o.least = w, w.At-time.Duration(now)
	switch t.phase {
	case phaseQueued:
		if t.queuing.given == 0 {
			t.queuing.given = now
		}
		return c.takeGifts(now, t)
	case phaseHeld:
		return c.takeGift(now, t, w.Node)
	}
	return false
}

// keptUntil returns until when a node keeps what it has given, unless its clock has gained on ours.
// The heartbeat reached the node after it was queued, when the node's clock was that long before
// the end of the key.
func (c *Core) keptUntil(o *offer, t *tenure) clock.Instant {
	begun := o.beat - c.settings.Alive() // by the node's TIME
	return o.asked.Add(o.gift.Until - begun - t.terms.Drift)
}

// worth returns until when node i surely keeps what it has given, counted as for a vote from when
// it was asked. It is 0 if the gift does not answer the latest heartbeat, or came too late.
func (c *Core) worth(now clock.Instant, t *tenure, i int) clock.Instant {
	o := &t.queuing.offers[i]
	s := &c.nodes[i].state
	if o.gift.Fence == 0 || o.asked == 0 || o.gift.Beat != o.beat || now > o.asked.Add(t.terms.Window) {
		return 0
	}
	if o.life != s.Life || o.gift.Life != s.Life || now < c.youngUntil(i) || c.bars(i, t) != 0 {
		return 0
	}
	if o.least-o.lead > t.terms.Drift {
		return 0 // this process was stopped in a way that its clock does not see, and has the gift from before
	}
	until := c.keptUntil(o, t)
	if r := readingOf(s); r.least-o.lead > t.terms.Drift {
		until = until.Add(o.lead - r.most)
	}
	if c.outlives(i, until) {
		return 0
	}
	return until
}

// takeGifts makes a waiter hold the name if q nodes have given it with one fence. It reports
// whether the waiting is over.
func (c *Core) takeGifts(now clock.Instant, t *tenure) bool {
	s, w := t.queuing, t.line.first
	if w.NoRenew || w.MinHold > 0 || c.settings.Alive() > t.terms.TTL {
		return false // it would have the name for no longer than a reservation, or should have it for longer at once
	}
	for i := range c.nodes {
		if fence := s.offers[i].gift.Fence; fence > c.changing.floor && fence <= maxFence {
			if given := c.given(now, t, fence); c.mode(t).reached(given) {
				c.winGiven(now, t, given, fence)
				return true
			}
		}
	}
	return false
}

// given returns the nodes that have given a waiter the name with a fence, and keep it for long
// enough. It must last until the node has renewed, or the lease would be lost as soon as it is won.
func (c *Core) given(now clock.Instant, t *tenure, fence uint64) (nodes nodeSet) {
	for i := range c.nodes {
		renewed := now.Add(c.patience(i) + t.terms.Grace)
		if t.queuing.offers[i].gift.Fence == fence && c.worth(now, t, i) > renewed {
			nodes.add(i)
		}
	}
	return nodes
}

// winGiven hands a lease to a waiter to which these nodes have given the name.
func (c *Core) winGiven(now clock.Instant, t *tenure, given nodeSet, fence uint64) {
	t.phase, t.fence, t.begun = phaseElecting, fence, t.queuing.given
	t.ballot.claims, t.queuing.won = true, true
	for i := range c.nodes {
		if given.has(i) {
			c.receive(now, t, i)
		}
	}
	c.win(now, t)
	if t.phase == phaseHeld {
		c.renewSoon(now, t, given)
	}
}

// renewSoon renews a lease that was given as soon as that may be worth it, and so soon that the
// answers come in time. A holder that has the name for a moment needs no renewal.
func (c *Core) renewSoon(now clock.Instant, t *tenure, given nodeSet) {
	spare := t.hold.until.Sub(now)
	for i := range c.nodes {
		if given.has(i) {
			spare = min(spare, t.hold.until.Sub(now)-c.patience(i))
		}
	}
	t.hold.renewAt = min(t.hold.renewAt, now.Add(min(trackAfter, spare/2)))
	c.schedule(t)
}

// justGiven reports whether a lease was given and not renewed since. It has little time left, which is no
// sign that renewals are late.
func (c *Core) justGiven(t *tenure) bool {
	return t.queuing != nil && t.queuing.won && t.hold.until <= t.begun.Add(c.settings.Alive())
}

// patience returns how long to wait for an answer of a node.
func (c *Core) patience(i int) time.Duration {
	return max(c.settings.NodeTimeout, c.nodes[i].state.Patience)
}

// receive counts a gift as the vote that it is.
func (c *Core) receive(now clock.Instant, t *tenure, i int) {
	o := &t.queuing.offers[i]
	v := &t.votes.of[i]
	v.promise = c.keptUntil(o, t)
	t.votes.kept(i, o.life, o.lead)
	if r := readingOf(&c.nodes[i].state); r.least-o.lead > t.terms.Drift {
		t.votes.aged(i, r.most)
	}
	c.nodes[i].aging.bears(v.lead + t.terms.Drift)
	t.queuing.gone.add(i)
}

// takeGift counts the vote of a node that has given the name to a lease with its fence, and says so
// only now. It reports whether it did.
func (c *Core) takeGift(now clock.Instant, t *tenure, i int) bool {
	g, v := &t.queuing.offers[i].gift, &t.votes.of[i]
	if g.Fence != t.fence || v.until != 0 || v.standing != counts ||
		c.worth(now, t, i) <= now || now >= t.hold.until {
		return false
	}
	renewal := v.promise
	c.receive(now, t, i)
	if t.pending.has(i) {
		// It is asked to renew already, for longer: the answer counts for that, and until it comes the key
		// may be kept for that.
		v.promise = renewal
		t.votes.loose.add(i)
	}
	c.firstVote(now, t, i)
	t.hold.heard(i)
	c.recomputeDeadline(now, t)
	return true
}

// hasGifts reports whether one of these nodes may have given the name to a waiter, and not only
// reserved it.
func (c *Core) hasGifts(t *tenure, nodes nodeSet) bool {
	for i := range c.nodes {
		if nodes.has(i) && (t.queuing.offers[i].gift.Fence != 0 || t.queuing.holds.has(i)) {
			return true
		}
	}
	return false
}

// nextFence returns the fence that a release proposes for the next waiter, as a claim would: more
// than that of the lease. It is 0 if none can be proposed.
func (c *Core) nextFence(now clock.Instant, t *tenure) uint64 {
	fence, ok := c.proposal(now, 0)
	fence = max(fence+claimLead, t.fence+1)
	if !ok || fence > maxFence {
		return 0
	}
	return fence
}
