package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A ballot has the nodes' answers to one attempt.
type ballot struct {
	answers  answers
	granted  nodeSet
	raised   nodeSet // the fence is larger than what they had stored, and is stored now
	known    nodeSet // their stored fence is no more than highest, or than the fence first proposed
	highest  uint64  // that they are known to have stored
	outdated nodeSet // while raising: nodes whose next answer is to a lower fence
	unsure   nodeSet // nodes that never answered a claim, which may arrive later than the commands after it

	raisedAt clock.Instant // when the first raise was decided; 0 if there was none

	longer bool // the attempt waited twice as long for the nodes' time

	claims     bool          // it is for a waiter that stands in the queue
	begun      bool          // a node was claimed
	claimedAll bool          // every node was claimed at least once
	patience   time.Duration // until all that have not granted are claimed again
}

// proposal returns the fence to propose: the nodes' time in microseconds, by the median of their
// offsets, or one more than the highest that was seen. So no client's wall clock matters. It
// reports false until the time of a quorum is known. Offsets that are old, or of nodes that are
// unreachable, count only if there are too few others.
func (c *Core) proposal(now clock.Instant, seen uint64) (uint64, bool) {
	told := c.told()
	median, known := c.median(now, &told.first)
	if known && told.isDouble() {
		var other time.Duration
		other, known = c.median(now, &told.second)
		median = max(median, other)
	}
	if !known {
		return 0, false
	}
	return max(uint64((time.Duration(now)+median)/time.Microsecond), seen+1, c.changing.floor+1), true
}

// median returns by how much the clocks of an electorate are ahead of ours, by their median. It
// reports false until the time of a quorum is known.
func (c *Core) median(now clock.Instant, e *electorate) (time.Duration, bool) {
	var buf, stale [MaxNodes]time.Duration
	offsets, old := buf[:0], stale[:0]
	for i := range c.nodes {
		s := &c.nodes[i].state
		switch {
		case s.OffsetAt == 0 || !e.nodes.has(i):
		case s.Enrolled && now.Sub(s.OffsetAt) <= offsetFor:
			offsets = append(offsets, s.Offset)
		default:
			old = append(old, s.Offset)
		}
	}
	if len(offsets) < e.quorum {
		offsets = append(offsets, old...)
	}
	if len(offsets) < e.quorum {
		return 0, false
	}
	slices.Sort(offsets)
	return offsets[(len(offsets)-1)/2], true // the lower one of an even number
}

// maxFence is the largest fence: nodes keep it as a float64, which is exact so far.
const maxFence = 1 << 53

// propose starts the attempts that have waited for the nodes' time.
func (c *Core) propose(now clock.Instant) {
	c.proposing.begin(c, now, &c.waited, task{kind: taskPropose})
}

// waitLonger waits once more for the nodes' time if they may be slow rather than gone: a new
// connection takes several answers, and no election has begun. It reports whether it does.
func (c *Core) waitLonger(now clock.Instant, t *tenure) bool {
	if t.phase != phaseWaiting || t.ballot.longer || now.Sub(t.begun) < t.terms.Window {
		return false
	}
	var slow nodeSet
	for i := range c.nodes {
		if s := &c.nodes[i].state; s.OffsetAt != 0 || s.Err == nil || s.Overdue {
			slow.add(i)
		}
	}
	if !c.mode(t).reached(slow) {
		return false
	}
	t.ballot.longer, t.begun = true, now
	c.alarms.set(t, now.Add(t.terms.Window))
	return true
}

// startElection asks every node for its vote, all at once.
func (c *Core) startElection(now clock.Instant, t *tenure, fence uint64) {
	t.phase, t.fence, t.begun = phaseElecting, fence, now
	t.token = c.newToken(t.line.first.Owner, fence)
	end := now.Add(t.terms.Window)
	c.alarms.set(t, end)
	if fence > maxFence {
		c.exhausted(now, t)
		return
	}
	grown := c.all
	for i := range c.nodes {
		if young := c.stillYoung(now, i); now < young {
			// It may have forgotten a grant that its holder still believes in.
			t.ballot.answers[i] = Answer{Verdict: VerdictGuarded, Left: young.Sub(now), At: now}
			grown.del(i)
		} else if c.changing.barred[t.mode].has(i) {
			t.ballot.answers[i] = Answer{Verdict: VerdictNotAsked, Err: FaultBarred}
			grown.del(i)
		}
	}
	if !c.mode(t).reached(grown) {
		for i := range c.nodes {
			if grown.has(i) {
				t.ballot.answers[i] = c.unasked(i)
			}
		}
		c.lose(now, t)
		return
	}
	for i := range c.nodes {
		if !grown.has(i) {
			continue
		}
		t.votes.of[i].promise = now.Add(t.terms.TTL - t.terms.Drift)
		c.signBefore(now, i, t.votes.of[i].promise)
		t.votes.of[i].life = c.nodes[i].state.Life
		t.asked.add(i)
		t.pending.add(i)
		c.send(i, node.Command{
			ID: t.id, Op: node.Grant, Name: t.key, Token: t.token,
			TTL: t.terms.TTL, Fence: fence, By: end,
		})
	}
}

// onGrant handles an answer to a grant or a claim. An answer that comes after the election was won
// still counts for what it is worth. If it comes after the election was lost, its release is
// already under way.
func (c *Core) onGrant(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	t.reached(i, r)
	t.allAnswered()
	c.heardOf(now, t, i, r)
	first := false
	switch {
	case r.Status == node.OK:
		first = c.hasKey(t, i)
		if r.Op == node.Claim {
			t.queuing.gone.add(i)
		}
	case r.Op == node.Claim && r.Status == node.Unknown:
		t.claimUnanswered(now, i)
	case r.Op == node.Grant && r.Status == node.Other:
		// The node has said itself that it does not keep the token, and it never will: every
		// attempt has a token of its own. So there is nothing to give back there.
		t.asked.del(i)
	}
	if t.askAgain.has(i) {
		c.askPostponed(now, t, i)
	}
	switch t.phase {
	case phaseElecting, phaseRaising:
		c.onVote(now, t, i, r)
	case phaseHeld:
		if r.Status == node.OK {
			if first {
				c.firstVote(now, t, i)
			}
			c.recomputeDeadline(now, t)
		}
	case phaseReleasing:
		c.settled(now, t)
	}
}

// claimUnanswered remembers that a claim may arrive at a node after the commands that follow it.
func (t *tenure) claimUnanswered(now clock.Instant, i int) {
	switch {
	case t.phase == phaseHeld:
		t.hold.onSilence(now, i)
	case t.ballot != nil:
		t.ballot.unsure.add(i)
	}
}

// onVote counts an answer to a grant or a claim while the election goes on.
func (c *Core) onVote(now clock.Instant, t *tenure, i int, r node.Reply) {
	b := t.ballot
	b.answers[i] = answerTo(now, r)
	if fault := c.bars(i, t); r.Status == node.OK && fault != 0 {
		b.answers[i] = Answer{Verdict: VerdictNotAsked, Err: fault}
		c.decide(now, t)
		return
	}
	if young := c.youngUntil(i); r.Status == node.Unsent && now < young {
		// It was found to be young while the command was on its way to it.
		b.answers[i] = Answer{Verdict: VerdictGuarded, Left: young.Sub(now), At: now}
	}
	if r.Status == node.OK && t.phase == phaseElecting {
		b.granted.add(i)
		b.highest = max(b.highest, r.Fence)
		if r.Raised {
			b.raised.add(i)
		}
		if r.Raised || r.Op == node.Claim { // a grant says no more
			b.known.add(i)
		}
	}
	c.decide(now, t)
}

// decide ends the election of votes as soon as its outcome is certain.
func (c *Core) decide(now clock.Instant, t *tenure) {
	b, m := t.ballot, c.mode(t)
	if t.adopt != nil {
		c.decideAdoption(now, t)
		return
	}
	switch {
	case now.Sub(t.begun) > t.terms.Window:
		c.lose(now, t)
	case t.phase == phaseElecting && m.reached(b.granted) && t.minHold() > 0:
		c.raise(now, t) // which also makes them keep the key for longer, see stay.go
	case m.reached(b.raised) && t.fence > c.changing.floor && c.waitsToRead(now):
		// Who has the nodes may be told in the same moment to give way.
	case m.reached(b.raised) && t.fence > c.changing.floor:
		c.win(now, t)
	case t.phase == phaseElecting && m.reached(b.granted):
		c.raise(now, t)
	case t.phase == phaseElecting && b.claims && !b.claimedAll:
		// Nodes that have not been claimed may yet say that they have reserved it.
	case t.phase == phaseElecting && !m.reached(b.granted|t.pending):
		c.lose(now, t)
	case t.phase == phaseRaising && !m.reached(b.granted):
		c.lose(now, t)
	case t.phase == phaseRaising && (!m.reached(b.raised|t.pending&b.granted) || t.fence <= c.changing.floor):
		c.raise(now, t) // one of them had a larger fence stored, or a floor, which is known now
	}
}

// raise makes the nodes that have granted store a fence that is larger than all that they are known
// to have had stored when they granted. A node that has not reported its stored fence does so in
// its answer. See invariant 8 of package supervisor.
func (c *Core) raise(now clock.Instant, t *tenure) {
	b := t.ballot
	t.fence = max(t.fence, b.highest, c.changing.floor) + 1
	if b.granted&^b.known != 0 {
		// What these have stored is often a claim, which is ahead of the nodes' time.
		if fence, ok := c.proposal(now, 0); ok {
			t.fence = max(t.fence, fence+2*claimLead)
		}
	}
	if t.fence > maxFence {
		c.exhausted(now, t)
		return
	}
	t.phase, b.raised = phaseRaising, 0
	if b.raisedAt == 0 {
		b.raisedAt = now
	}
	c.alarms.set(t, t.begun.Add(t.terms.Window)) // no further nodes are claimed
	b.outdated = t.pending & b.granted
	for i := range c.nodes {
		if b.granted.has(i) && !b.outdated.has(i) {
			c.raiseAt(now, t, i)
		}
	}
}

func (c *Core) raiseAt(now clock.Instant, t *tenure, i int) {
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Raise, Name: t.key, Token: t.token,
		Fence: t.fence, TTL: t.stretch(now), By: t.begun.Add(t.terms.Window),
	})
}

// onRaise handles an answer to a raise. What counts is the fence that the node had stored when it
// granted. A later one is of no lease, for the key is ours.
func (c *Core) onRaise(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	if t.phase == phaseReleasing {
		c.settled(now, t)
	}
	if t.phase != phaseRaising {
		return
	}
	b := t.ballot
	outdated := b.outdated.has(i)
	b.outdated.del(i)
	if r.Status != node.OK {
		b.answers[i] = answerTo(now, r)
		b.granted.del(i)
		c.decide(now, t)
		return
	}
	if !b.known.has(i) {
		b.known.add(i)
		b.highest = max(b.highest, r.Fence)
	}
	switch {
	case outdated:
		c.raiseAt(now, t, i)
	case b.highest < t.fence:
		b.raised.add(i)
	}
	c.decide(now, t)
}

// exhausted tells the first waiter that no larger fence can be stored for the name. The same fence
// a second time would order nothing.
func (c *Core) exhausted(now clock.Instant, t *tenure) {
	if t.adopt != nil {
		c.failAdoption(t, ReasonFenceExhausted)
		return
	}
	l := t.line
	c.tally(l, t)
	w := l.first
	c.fail(w.Call, c.failure(l, ReasonFenceExhausted))
	if w.choice != nil {
		c.forgetChoice(now, w.choice)
		return
	}
	c.drop(now, l, w)
}

// win hands the lease to the first waiter.
func (c *Core) win(now clock.Instant, t *tenure) {
	if t.adopt != nil {
		c.elected(now, t)
		return
	}
	l := t.line
	if c.dismissUnfit(now, l) {
		return
	}
	c.ageAll(t)
	until := c.mode(t).deadline(t.votes.of, t.counting()).Add(-t.terms.Grace)
	if until <= now { // the answers were as old as the lease is long
		c.lose(now, t)
		return
	}
	w := l.first
	c.removeWaiter(l, w)
	l.attempt, l.holder = nil, t
	l.resetCounters()
	l.answers, l.why, l.fence = nil, ReasonNone, max(l.fence, t.fence)
	c.forgetIdle(t.key, l)
	unsure, taken := t.ballot.unsure, t.ballot.answers.with(VerdictHeld)
	var raise time.Duration
	if at := t.ballot.raisedAt; at != 0 {
		raise = now.Sub(at)
	}
	t.line, t.ballot = nil, nil
	t.phase = phaseHeld
	c.beginHold(t, w, until)
	for i := range c.nodes {
		if unsure.has(i) {
			t.hold.onSilence(now, i)
		}
	}
	c.held.add(t)
	c.tellWon(w, t, until, now.Sub(t.begun), raise)
	if w.choice != nil {
		c.forgetChoice(now, w.choice)
	}
	c.askTheRest(t, taken)
	c.schedule(t)
}

// tellWon hands a lease to the caller that has waited for it.
func (c *Core) tellWon(w *waiter, t *tenure, until clock.Instant, took, raise time.Duration) {
	c.waiters.del(w.Call)
	c.effects = append(c.effects, Effect{
		Kind: EffectWon, Call: w.Call, ID: t.id, Until: until, Grace: t.terms.Grace, Elapsed: took, Raise: raise,
		Key: t.key, Token: t.token, Fence: t.fence,
	})
}

// lose gives back what an attempt got. It makes the waiter try again later or tells it why not.
func (c *Core) lose(now clock.Instant, t *tenure) {
	if t.adopt != nil {
		c.failAdoption(t, ReasonNoQuorum)
		return
	}
	l := t.line
	c.tally(l, t)
	refused, claims := l.answers.with(VerdictHeld), t.ballot.claims
	c.abandon(now, t)
	l.tries++
	switch {
	case refused == 0 || claims && l.why == ReasonNoQuorum:
		c.pause(now, l)
		return
	case claims:
		c.yield(now, l)
		return
	case l.usesQueue():
		c.enterQueue(now, l)
		return
	}
	// Which client holds the name, and for how long? The answer says when to try again, and the
	// caller gets it.
	l.inquiry = c.inquire(now, node.Command{Name: l.key}, refused)
	l.inquiry.line, l.inquiry.asked = l, refused
}

// tally collects what the nodes answered to an attempt.
func (c *Core) tally(l *line, t *tenure) {
	l.answers, l.fence = t.ballot.answers, max(l.fence, t.ballot.highest)
	for i := range l.answers {
		a := &l.answers[i]
		l.fence = max(l.fence, a.Fence)
		if a.Verdict == VerdictSilent && t.phase == phaseWaiting {
			*a = c.unasked(i)
		}
	}
	if l.ticket == 0 && t.phase != phaseWaiting {
		l.ticket = t.fence
	}
	l.judge(c.told())
}

// unasked returns why a node was not asked, while the nodes' time is not known or too few others
// are grown.
func (c *Core) unasked(i int) Answer {
	switch s := c.nodes[i].state; {
	case s.Enrolled:
		return Answer{Verdict: VerdictNotAsked}
	case s.Err != nil:
		return Answer{Verdict: VerdictUnreachable, Err: s.Err}
	}
	return Answer{Verdict: VerdictUnreachable, Err: FaultNotConnected}
}

// judge sets the reason that follows from the answers.
func (l *line) judge(m *mode) { l.why = l.answers.amountTo(m) }

// amountTo returns ReasonHeld or ReasonNoQuorum.
func (as answers) amountTo(m *mode) Reason {
	away := as.with(VerdictUnreachable) | as.with(VerdictSilent) | as.with(VerdictGuarded) | as.with(VerdictNotAsked)
	if len(as) == 0 || !m.reachedWithout(away) || as.with(VerdictHeld) == 0 {
		return ReasonNoQuorum
	}
	return ReasonHeld
}
