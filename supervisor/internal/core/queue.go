package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file is the story of a waiter between the attempt that was refused and the one
// that wins: it stands in the queue on every node, in the order of its ticket, which
// is the same on all of them. Whoever releases the name has each node reserve it for
// the first in the queue, and say so to that one's supervisor. Once a quorum has, the
// waiter claims them all: that is an election like any other.
//
// A reservation is a promise and no vote: what counts is the answered claim. And it
// is never needed: a waiter asks again after a pause, and when the holder's grant runs
// out, whatever it was told.

// A standing is what a tenure needs while it stands in the queue.
type standing struct {
	ticket   uint64        // its place: the last of those that it was given
	in       nodeSet       // nodes that have it in their queue
	exact    nodeSet       // those of them that have it at just this ticket
	reserved nodeSet       // nodes that have reserved the name for it; each vote's promise says for how long
	head     nodeSet       // nodes that have it first in their queue, as they said last
	patience time.Duration // until it looks where the other reservations stay; 0 while it waits for the first
	gaveWay  bool          // since it beat last
	gone     nodeSet       // nodes in whose queue it certainly does not stand any more
	tracked  nodeSet       // nodes that will tell when a foreign holder lets go
}

// stand has the first waiter of a line stand in the queue, with the token of its
// next attempt.
func (c *Core) stand(now clock.Instant, l *line) {
	t := c.newAttempt(l)
	t.phase, t.inQueues, t.stand = phaseQueued, true, &standing{ticket: l.ticket}
	c.standing[t.token] = t
	c.heartbeat(now, t)
}

// crowd remembers that a lease which is over had been waited for: others may well be
// waiting now, and an ordinary attempt would be refused, and cost every node a pipeline.
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

// standAtOnce has the first waiter of a line stand in the queue if the name is crowded,
// and reports whether it does. That costs one exchange more if nobody waits there any more;
// then the next attempt is an ordinary one.
func (c *Core) standIfContended(now clock.Instant, l *line) bool {
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
	c.stand(now, l)
	return true
}

// beat tells every node that the waiter still stands there, and asks who has the
// name. It comes again about when a reservation for somebody else, who does not claim
// it, has lapsed; and soon where a part of a quorum has reserved the name.
func (c *Core) heartbeat(now clock.Instant, t *tenure) {
	s := t.stand
	s.gaveWay = false
	at := now.Add(c.jitter(c.settings.Heartbeat()))
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

// enqueue has the waiter stand in the queue of one node, or beat there.
func (c *Core) enqueue(now clock.Instant, t *tenure, i int) {
	if t.pending.has(i) {
		return
	}
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Enqueue, Name: t.key, Token: t.token, Ticket: t.stand.ticket, New: !t.line.placed,
		By: now.Add(t.terms.Window),
	})
}

// enqueued takes in that a node has the waiter in its queue, and who has the name.
func (c *Core) onEnqueue(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	t.reached(i, r)
	switch t.phase {
	case phaseReleasing:
		c.settled(now, t)
		return
	case phaseQueued:
		l, s := t.line, t.stand
		switch {
		case r.Status == node.OK:
			t.askAgain.del(i)
		case r.Status == node.Other && t.askAgain.has(i):
			// It has said something meanwhile that this answer may not know of.
			t.askAgain.del(i)
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

// place takes in at which ticket a node has a waiter in its queue. A new one is put
// behind all that stand there, on each node by itself; as soon as a quorum has done so,
// the last of these tickets is its place on all of them. So it is behind everybody who
// had a place before it came, whatever the clocks of the two say.
func (c *Core) onTicket(now clock.Instant, t *tenure, i int, ticket uint64) {
	l, s := t.line, t.stand
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
	if !l.placed && s.in.len() >= c.quorum {
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

// looked draws up what all nodes have said to a waiter.
func (c *Core) reviewAnswers(now clock.Instant, t *tenure) {
	l, s := t.line, t.stand
	l.judge(c.quorum)
	kept := t.promised(now)
	switch {
	case kept != 0 && (l.why == ReasonNoQuorum || l.answers.held(c.quorum)):
		// A node or two that the holder does not have, or all that can be reached: they
		// come to nothing, and so does asking again soon.
		s.patience = 0
		every := c.settings.Heartbeat()
		if l.why == ReasonNoQuorum {
			every *= 3 // whoever reaches more of them may need just these
		}
		c.alarms.set(t, now.Add(c.jitter(every)))
	case kept != 0 && s.head.len() < c.quorum && !s.gaveWay:
		s.gaveWay = true
		// Somebody is before it, and came to these nodes later. What it passes on is
		// reserved for that one then, so a split vote does not last.
		for i := range c.nodes {
			if kept.has(i) {
				s.reserved.del(i)
				c.leaveQueue(now, t, i)
				c.enqueue(now, t, i)
			}
		}
	case kept == 0:
		if at := l.answers.free(now, c.quorum); at > now && at < t.due() {
			c.alarms.set(t, at.Add(lapse)) // the holder's grant runs out before
		}
	}
}

// lapse is how much later than a node said a key is looked for: it tells what is left
// in whole milliseconds.
const lapse = time.Millisecond

// promised returns the nodes that have reserved the name for a waiter.
func (t *tenure) promised(now clock.Instant) (nodes nodeSet) {
	for i := range t.votes {
		if t.stand.reserved.has(i) && t.votes[i].promise > now {
			nodes.add(i)
		}
	}
	return nodes
}

// Hear hears what a node said without being asked.
func (c *Core) Hear(now clock.Instant, w node.Wake) {
	switch {
	case w.Key != "":
		c.onChange(now, w.Node, w.Key)
		return
	case w.Token == "":
		// Its subscription is new: what was announced before may have been missed,
		// and a server that has restarted has lost its part of the queue.
		c.nodes[w.Node].requeueing.begin(c, now, &c.waited, task{kind: taskRequeue, node: w.Node})
		return
	}
	if t := c.standing[w.Token]; t != nil {
		c.postpone(t, w.Node)
		c.onReservation(now, t, w.Node)
	}
}

// askOnceMore has a waiter ask a node again whose answer is under way: it may be older
// than what the node has just said over another connection.
func (c *Core) postpone(t *tenure, i int) {
	if t.phase == phaseQueued && t.pending.has(i) {
		t.askAgain.add(i)
	}
}

// reserved takes in that a node has the name reserved for a waiter.
func (c *Core) onReservation(now clock.Instant, t *tenure, i int) {
	switch t.phase {
	case phaseQueued:
		s := t.stand
		s.reserved.add(i)
		t.votes[i].promise = now.Add(c.settings.Reserve())
		if t.promised(now).len() >= c.quorum {
			c.startClaims(now, t)
		} else if s.patience == 0 {
			s.patience = c.roundTrip()
			c.alarms.set(t, min(t.due(), now.Add(s.patience)))
		}
	case phaseElecting, phaseRaising:
		c.claim(now, t, i)
	case phaseHeld:
		if t.votes[i].until == 0 {
			// The election is over. This must not hide a rival who has had the node since,
			// and whose release has put it up for this lease: so it is not claimed, but
			// healed, when a quorum of others has confirmed.
			c.suspectOf(now, t, i, &t.probation)
			c.recomputeDeadline(now, t)
		}
	}
}

// campaign begins the election of a waiter for whom a quorum has reserved the name.
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
	// Whoever has just released often wants the name again at once. What it proposes
	// raises the stored fence, though it is refused, just before the claims arrive: so
	// they propose a little more, and need not raise it in another round trip.
	t.phase, t.fence, t.begun = phaseElecting, fence+claimLead, now
	if t.fence > maxFence {
		c.exhausted(now, t)
		return
	}
	c.alarms.set(t, now.Add(b.patience))
	for i := range c.nodes {
		if kept.has(i) {
			c.claim(now, t, i)
		}
	}
}

// claimLead is by how many microseconds a claim proposes more than the nodes' time. It
// is the same for all clients, so that the next claim proposes more than this one.
const claimLead = 2000

// claim asks one node for its vote, for a waiter that stands in its queue.
func (c *Core) claim(now clock.Instant, t *tenure, i int) {
	t.askAgain.del(i)
	if t.phase != phaseElecting && t.phase != phaseRaising {
		return
	}
	if t.votes[i].until != 0 {
		return // it has given it
	}
	if t.pending.has(i) {
		t.askAgain.add(i)
		return
	}
	if young := c.stillYoung(now, i); now < young {
		if b := t.ballot; b != nil {
			b.answers[i] = Answer{Verdict: VerdictGuarded, Left: young.Sub(now), At: now}
		}
		return
	}
	t.votes[i].promise = t.promise(now, i)
	t.votes[i].life = c.nodes[i].state.Life
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Claim, Name: t.key, Token: t.token,
		TTL: t.terms.TTL, Fence: t.fence, By: t.begun.Add(t.terms.Window),
	})
}

// askAgainOf asks a node that has just answered what could not be asked meanwhile: for
// its vote, while that is what is wanted, and else whether it still keeps the lease. A
// lease that is held claims nothing so: such a vote would not be on trial.
func (c *Core) askPostponed(now clock.Instant, t *tenure, i int) {
	t.askAgain.del(i)
	switch t.phase {
	case phaseElecting, phaseRaising:
		c.claim(now, t, i)
	case phaseHeld:
		c.renewAnd(now, t, 1<<i)
	}
}

// canvass claims all nodes that have not granted yet, also those that did not say
// that they have reserved the name. It comes again, more and more rarely, until the
// election is over.
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

// yield has a waiter whose claims were refused stand in the queue anew: at once, and
// when that comes again and again, after a while.
func (c *Core) yield(now clock.Instant, l *line) {
	if l.yields++; l.yields == 1 {
		c.stand(now, l)
		return
	}
	most := min(c.roundTrip()<<min(l.yields, 10), c.settings.RetryMin)
	c.alarms.set(l, now.Add(time.Duration(c.rand.Int64N(int64(most)+1))))
}

// queues reports whether the first waiter of a line is to stand in the queue: one that
// counts its attempts makes them instead, and one that never knew the nodes' time has
// no ticket yet.
func (l *line) usesQueue() bool { return l.first.Attempts == 0 && l.ticket != 0 }

// roundTrip returns how long to wait for what should come at once: two round trips to
// the slowest node.
func (c *Core) roundTrip() time.Duration {
	d := time.Millisecond / 2
	for i := range c.nodes {
		if s := &c.nodes[i].state; s.Enrolled {
			d = max(d, s.Latency)
		}
	}
	return min(2*d, c.settings.NodeTimeout/2)
}

// reached takes in whether a command has got to a node; if none of a tenure's has,
// there is nothing to give back.
func (t *tenure) reached(i int, r node.Reply) {
	if r.Status != node.Unsent {
		t.sent.add(i)
	} else if !t.sent.has(i) {
		t.asked.del(i)
	}
}

// stands reports whether the token of a tenure may stand in the queue of a node, or
// be what the name is reserved for there.
func (t *tenure) stands(i int) bool { return t.inQueues && !t.stand.gone.has(i) }

// leaveAll takes a lease that was won out of the queues in which it still stands: it
// won before these nodes had answered its claim. It returns those that have something
// else to answer before.
func (c *Core) leaveAll(now clock.Instant, t *tenure) (rest nodeSet) {
	for i := range c.nodes {
		switch {
		case !t.stands(i) || !t.asked.has(i):
		case t.pending.has(i):
			rest.add(i)
		default:
			c.leaveQueue(now, t, i)
		}
	}
	return rest
}

// leaveQueue takes a token out of the queue of one node, which passes a reservation
// for it on.
func (c *Core) leaveQueue(now clock.Instant, t *tenure, i int) {
	c.send(i, node.Command{ID: t.id, Op: node.Leave, Name: t.key, Token: t.token, By: now.Add(t.terms.Window)})
}
