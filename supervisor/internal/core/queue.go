package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file handles a waiter between the attempt that was refused and the one that wins. The waiter
// stands in the queue on every node, in the order of its ticket, which is the same on all of them.
// A release makes each node reserve the name for the first in the queue, and notify that waiter's
// supervisor. Once a quorum has, the waiter claims them all: that is an election like any other.
//
// A reservation is a promise and no vote: what counts is the answered claim, see invariant 18 of
// package supervisor. And it is never needed. A waiter also asks again after a pause, and when the
// holder's grant runs out, whatever it was told.

// A standing is what a tenure needs while it stands in the queue.
type queuing struct {
	ticket   uint64        // its place: the last of those that it was given
	in       nodeSet       // nodes that have it in their queue
	exact    nodeSet       // those of them that have it at just this ticket
	reserved nodeSet       // nodes that have reserved the name for it; each vote's promise says for how long
	head     nodeSet       // nodes that have it first in their queue, as they said last
	patience time.Duration // until it asks the nodes that have not reserved; 0 while it waits for the first
	gaveWay  bool          // since its last heartbeat
	gone     nodeSet       // nodes in whose queue it certainly does not stand any more
	tracked  nodeSet       // nodes that will notify when a foreign holder lets go
	offers   []offer       // by node: what it may give the key by
	given    clock.Instant // when the first gift came; 0 if none did
	won      bool          // it holds the name by gifts
	holds    nodeSet       // nodes whose key holds its token, as they said last
}

// enterQueue makes the first waiter of a line stand in the queue, with the token of its next
// attempt.
func (c *Core) enterQueue(now clock.Instant, l *line) {
	t := c.newAttempt(l)
	t.token = c.newToken(l.first.Owner, 0) // a claim makes the key's value have its fence
	t.phase, t.inQueues, t.queuing = phaseQueued, true, &queuing{ticket: l.ticket, offers: make([]offer, len(c.nodes))}
	c.byToken[t.token] = t
	c.waits(l.first)
	c.heartbeat(now, t)
}

// markContended remembers that a lease which is over had been waited for. Others may well be
// waiting now, so an ordinary attempt would be refused, and cost every node a pipeline.
func (c *Core) markContended(now clock.Instant, t *tenure) {
	if !t.behind {
		return
	}
	if len(c.contended) >= maxContended {
		clear(c.contended)
	}
	c.contended[t.key] = now
}

const maxContended = 1024

// queueIfContended makes the first waiter of a line stand in the queue if the name is contended,
// and reports whether it does. If there is no other waiter any more, that costs one exchange more,
// and the next attempt is an ordinary one. See invariant 17 of package supervisor.
func (c *Core) queueIfContended(now clock.Instant, l *line) bool {
	at, was := c.contended[l.key]
	if !was || l.tries > 0 || l.first.Attempts > 0 {
		return false
	}
	delete(c.contended, l.key)
	ticket, known := c.proposal(now, l.fence)
	if !known || now.Sub(at) > c.settings.Heartbeat() {
		return false
	}
	l.ticket, l.answers = ticket, make(answers, len(c.nodes))
	c.enterQueue(now, l)
	return true
}

// heartbeat tells every node that the waiter still stands there, and asks which client has the
// name. The next heartbeat is due when another waiter's unclaimed reservation would lapse, or
// sooner if some, but not a quorum of, nodes have reserved the name.
func (c *Core) heartbeat(now clock.Instant, t *tenure) {
	s := t.queuing
	s.gaveWay = false
	at := c.nextBeat(now, t.line.first)
	if s.patience != 0 && t.promised(now) != 0 {
		s.patience *= 2
		at = min(at, now.Add(s.patience))
	} else {
		s.patience = 0
	}
	c.alarms.set(t, at)
	for i := range c.nodes {
		c.enqueue(now, t, i)
	}
}

// enqueue makes the waiter stand in the queue of one node, or sends its heartbeat there.
func (c *Core) enqueue(now clock.Instant, t *tenure, i int) {
	if t.pending.has(i) || !c.all.has(i) {
		return
	}
	t.asked.add(i)
	t.pending.add(i)
	t.queuing.offers[i].sent = now
	c.send(i, node.Command{
		ID: t.id, Op: node.Enqueue, Name: t.key, Token: t.token, Ticket: t.queuing.ticket, New: !t.line.placed,
		By: now.Add(t.terms.Window),
	})
}

// onEnqueue handles a node's answer about the waiter's place in its queue, and about the holder.
func (c *Core) onEnqueue(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	t.reached(i, r)
	switch t.phase {
	case phaseReleasing:
		c.settled(now, t)
		return
	case phaseQueued:
		l, s := t.line, t.queuing
		if c.offered(i, t, r); c.takeGifts(now, t) {
			return
		}
		switch {
		case r.Status == node.OK:
			t.askNoMore(i)
		case r.Status == node.Other && t.askAgain.has(i):
			// The node has said something meanwhile that this answer may not know of.
			t.askNoMore(i)
			c.enqueue(now, t, i)
			return
		}
		c.onTicket(now, t, i, r.Ticket)
		t.behind = t.behind || r.Status == node.Other && (r.Ahead > 0 || !unheld(r))
		l.answers[i] = answerTo(now, r)
		if young := c.youngUntil(i); now < young && unheld(r) {
			l.answers[i] = Answer{Verdict: VerdictGuarded, Left: young.Sub(now), At: now}
		}
		l.fence = max(l.fence, r.Fence)
		s.reserved.del(i)
		s.head.del(i)
		s.holds.del(i)
		if r.Status == node.OK && r.Value == t.token {
			s.holds.add(i)
		}
		if r.Ahead == 0 && (r.Status == node.OK || r.Status == node.Other) {
			s.head.add(i)
		}
		c.track(now, t, i, r)
	}
	if r.Status == node.OK {
		c.onReservation(now, t, i)
	} else if t.askAgain.has(i) {
		c.askPostponed(now, t, i)
	}
	if t.phase == phaseQueued && t.pending == 0 {
		c.reviewAnswers(now, t)
	}
}

// onTicket handles the ticket that a waiter has in a node's queue. Each node by itself puts a new
// waiter after all that stand there. As soon as a quorum has done so, the last of these tickets is
// its place on all of them. So it comes after every waiter that had a place before it came,
// whatever the clocks of the two say.
func (c *Core) onTicket(now clock.Instant, t *tenure, i int, ticket uint64) {
	l, s := t.line, t.queuing
	if ticket == 0 {
		return
	}
	s.in.add(i)
	if !l.placed && ticket > s.ticket {
		s.ticket, s.exact = ticket, 0
	}
	s.exact.del(i)
	if ticket == s.ticket {
		s.exact.add(i)
	}
	if !l.placed && c.mode(t).reached(s.in) {
		l.placed, l.ticket = true, s.ticket
	}
	if !l.placed {
		return
	}
	for i := range c.nodes {
		if (s.in &^ s.exact).has(i) {
			c.enqueue(now, t, i)
		}
	}
}

// reviewAnswers decides by what all nodes have said to a waiter.
func (c *Core) reviewAnswers(now clock.Instant, t *tenure) {
	l, s := t.line, t.queuing
	l.judge(c.told())
	kept := t.promised(now)
	switch {
	case kept != 0 && (l.why == ReasonNoQuorum || l.answers.held(c.told())):
		// The nodes that have reserved the name are a node or two that the holder lacks, or all
		// that can be reached. They decide nothing, so asking again soon is of no use.
		s.patience = 0
		every := c.settings.Heartbeat()
		if l.why == ReasonNoQuorum {
			every *= 3 // a waiter that reaches more of them may need just these
		}
		c.alarms.set(t, now.Add(c.jitter(every)))
		c.askWhenFree(now, t)
	case kept != 0 && !c.mode(t).first.quorumIn(s.head) && !s.gaveWay:
		s.gaveWay = true
		if c.hasGifts(t, kept) {
			// A command that gives a key back may come late, and must not delete a later vote. So
			// the waiter gets a fresh token from now on.
			c.abandon(now, t)
			c.enterQueue(now, l)
			l.attempt.queuing.gaveWay = true
			return
		}
		// Another waiter is before it, and came to these nodes later. The nodes then reserve for
		// that one what this one hands back, so a split vote does not last.
		for i := range c.nodes {
			if kept.has(i) {
				s.reserved.del(i)
				c.leaveQueue(now, t, i)
				c.enqueue(now, t, i)
			}
		}
	default:
		c.askWhenFree(now, t)
	}
}

// askWhenFree makes a waiter ask when the holder's grant runs out, if it would ask later.
func (c *Core) askWhenFree(now clock.Instant, t *tenure) {
	if at := t.line.answers.free(now, c.told()); at > now && at < t.due() {
		c.alarms.set(t, at.Add(lapse))
	}
}

// lapse is how much later than a node said a key is looked for: the node says what is left in whole
// milliseconds.
const lapse = time.Millisecond

// promised returns the nodes that have reserved the name for a waiter.
func (t *tenure) promised(now clock.Instant) (nodes nodeSet) {
	for i := range t.votes.of {
		if t.queuing.reserved.has(i) && t.votes.of[i].promise > now {
			nodes.add(i)
		}
	}
	return nodes
}

// Hear handles a message that a node sent without being asked.
func (c *Core) Hear(now clock.Instant, w node.Wake) {
	switch {
	case !c.all.has(w.Node):
		return
	case w.Key != "":
		c.onChange(now, w.Node, w.Key)
		return
	case w.Token == "":
		// Its subscription is new. Earlier messages may have been missed, and a server that has
		// restarted has lost its part of the queue.
		c.nodes[w.Node].requeueing.begin(c, now, &c.waited, task{kind: taskRequeue, node: w.Node})
		return
	}
	t := c.byToken[w.Token]
	if t == nil {
		return
	}
	c.postpone(t, w.Node)
	if w.Fence == 0 || !c.onGift(now, t, w) {
		c.onReservation(now, t, w.Node)
	}
}

// postpone makes a waiter ask a node again if that node's answer is under way. That answer may be
// older than what the node has just said over another connection.
func (c *Core) postpone(t *tenure, i int) {
	if t.phase == phaseQueued && t.pending.has(i) {
		t.own().askAgain.add(i)
	}
}

// usesQueue reports whether the first waiter of a line should stand in the queue. One that counts
// its attempts makes them instead, and one that never knew the nodes' time has no ticket yet.
func (l *line) usesQueue() bool { return l.first.Attempts == 0 && l.ticket != 0 }

const forEver = time.Duration(1<<63 - 1) // of a node that is not enrolled

// roundTrip returns how long to wait for what should come at once: two round trips to the slowest
// node. A few slow nodes do not make that longer than half of NodeTimeout.
func (c *Core) roundTrip() time.Duration {
	var trips [MaxNodes]time.Duration
	var enrolled nodeSet
	most, slowest := c.settings.NodeTimeout/2, time.Millisecond
	for i := range c.nodes {
		trips[i] = forEver
		if s := &c.nodes[i].state; s.Enrolled {
			enrolled.add(i)
			trips[i] = 2 * s.Latency
			slowest = max(slowest, trips[i])
		}
	}
	if told := c.told(); told.reached(enrolled) {
		most = max(most, min(byQuorum(told, trips[:len(c.nodes)]), c.terms.Window/2))
	}
	return min(slowest, most)
}

// inQueueOf reports whether the token of a tenure may stand in the queue of a node, or the node may
// have reserved the name for it.
func (t *tenure) inQueueOf(i int) bool { return t.inQueues && !t.queuing.gone.has(i) }

// leaveAll takes a lease that was won out of the queues in which it still stands: it won before
// these nodes had answered its claim. It returns those that have something else to answer before.
func (c *Core) leaveAll(now clock.Instant, t *tenure) (rest nodeSet) {
	for i := range c.nodes {
		switch {
		case !t.inQueueOf(i) || !t.asked.has(i):
		case t.pending.has(i):
			rest.add(i)
		default:
			c.leaveQueue(now, t, i)
		}
	}
	return rest
}

// leaveQueue takes a token out of the queue of one node, which passes a reservation for it on.
func (c *Core) leaveQueue(now clock.Instant, t *tenure, i int) {
	c.send(i, node.Command{ID: t.id, Op: node.Leave, Name: t.key, Token: t.token, By: now.Add(t.terms.Window)})
}
