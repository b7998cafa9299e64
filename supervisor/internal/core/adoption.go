package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// An adoption passes a lease to this supervisor. It is an election among the nodes that keep the
// former token: each of them swaps it for that of the attempt, and a quorum of those stores the
// fence. Until no process believes in the former lease any more, the lease is only renewed. Then a
// quorum must still have it, because a node that has lost its data meanwhile may have taken the key
// for the former holder again. See invariant 14 of package supervisor.
type adoption struct {
	heir    *waiter
	former  string   // the token of the handle
	earlier []string // those of earlier attempts here
	over    bool     // no process believes in the former lease any more
	elected bool     // a quorum has swapped the token, and stored the fence

	overAt  clock.Instant // then the nodes' promises to the former holder have run out
	late    nodeSet       // nodes that swapped the token after a quorum had
	lateAt  clock.Instant // the same for the promises of these
	kept    nodeSet       // nodes that had the key for the adopter after that
	reborn  nodeSet       // nodes that have begun another life after they swapped the token
	longest time.Duration // the time for which a node was sent the key, if that is longer than the TTL
	absent  nodeSet
	other   nodeSet
}

// adoptions has the tokens of the attempts to adopt a handle, by the handle's token. A node may
// have swapped it for one whose answer was lost.
type adoptions map[string][]string

// maxAdoptions bounds for how many handles the attempts are remembered.
const maxAdoptions = 256

// Adopt begins to adopt the lease of a handle for a caller. EffectWon or EffectFailed answers it.
// Of the request only Call, Key, Terms and Owner count.
func (c *Core) Adopt(now clock.Instant, r Request, h Handle) {
	n := len(c.nodes)
	w := &waiter{Request: r}
	kind, common := c.commonMode(h.Electorates)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), key: h.Key, token: c.newToken(w.Owner, 0), terms: w.Terms, begun: now, mode: kind,
		votes: newVotes(n), stages: &stages{
			ballot: &ballot{answers: make(answers, n), highest: h.Fence},
			adopt:  &adoption{heir: w, former: h.Token, over: h.Over},
		},
	}
	w.adoption = t
	c.waiters.add(w)
	c.tenures.add(t)
	c.adopting.add(t)
	switch l := c.lines[t.key]; {
	case c.unfit() != ReasonNone:
		c.failAdoption(t, c.unfit())
	case !common:
		c.failAdoption(t, ReasonOtherNodes)
	case l != nil && l.holder != nil:
		t.ballot.answers = c.ownAnswers(nil, l.holder)
		c.failAdoption(t, ReasonHeld)
	case slices.ContainsFunc(c.adopting, func(o *tenure) bool { return o != t && o.adopt.former == t.adopt.former }):
		// It would swap the token of the other one, which still counts these nodes.
		c.failAdoption(t, ReasonHeld)
	default:
		t.adopt.earlier = c.attempts[t.adopt.former]
		c.swapAll(now, t)
	}
}

// swapAll makes every node that has not answered yet swap the lease's token. A node that keeps a
// token of an earlier attempt swaps that one.
func (c *Core) swapAll(now clock.Instant, t *tenure) {
	if t.phase != phaseWaiting && t.phase != phaseElecting {
		return
	}
	a, b := t.adopt, t.ballot
	fence, known := c.proposal(now, b.highest)
	begins := t.phase == phaseWaiting && known
	if begins {
		t.begun = now
	}
	c.alarms.set(t, min(t.begun.Add(t.terms.Window), now.Add(t.terms.Window/8)))
	switch {
	case t.phase == phaseWaiting && !known:
		return
	case begins:
		if t.phase, t.fence = phaseElecting, fence; fence > maxFence {
			c.exhausted(now, t)
			return
		}
		if len(c.attempts) >= maxAdoptions {
			clear(c.attempts)
		}
		c.attempts[a.former] = append(slices.Clone(a.earlier), t.token)
	}
	for i := range c.nodes {
		if (c.all &^ (b.granted | a.absent | a.other | t.pending)).has(i) {
			c.swap(now, t, i, a.former)
		}
	}
}

func (c *Core) swap(now clock.Instant, t *tenure, i int, former string) {
	v := &t.votes.of[i]
	v.promise, v.life = now.Add(t.terms.TTL-t.terms.Drift), c.nodes[i].state.Life
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Adopt, Name: t.key, Token: t.token, Former: former,
		TTL: t.terms.TTL, Fence: t.fence, By: t.begun.Add(t.terms.Window),
	})
}

// retryAdoptions is called when a node has been enrolled.
func (c *Core) retryAdoptions(now clock.Instant) {
	c.asking.begin(c, now, &c.adopting, task{kind: taskAdopt})
}

// onAdopt handles a node's answer to the swap of the token.
func (c *Core) onAdopt(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	if r.Status == node.OK {
		t.sentFor(max(c.leftOf(i, r), r.Left)) // which a swap does not shorten, whatever the former holder may believe
	}
	switch t.phase {
	case phaseHeld:
		c.onLateAdopt(now, t, i, r)
		return
	case phaseReleasing:
		c.settled(now, t)
		return
	}
	a, b := t.adopt, t.ballot
	b.answers[i] = answerTo(now, r)
	c.heardOf(now, t, i, r)
	switch from := c.youngUntil(i); {
	case r.Status == node.OK && now < from:
		// The former token may have come back with a copy of the data, or by a command that was
		// late. Another client may then count on what the node has forgotten: a rival, or a process
		// that has adopted the handle before. As with a grant, the node does not count before it is
		// grown. It is asked again.
		t.votes.of[i].life = 0 // a renewal right after does not count either: see renewed
		b.answers[i] = Answer{Verdict: VerdictGuarded, Left: from.Sub(now), At: now}
	case r.Status == node.OK && c.bars(i, t) != 0:
		b.answers[i] = Answer{Verdict: VerdictNotAsked, Err: c.bars(i, t)}
	case r.Status == node.OK:
		c.hasKey(t, i)
		b.highest = max(b.highest, r.Fence)
		left := c.leftOf(i, r)
		over := now.Add(left + c.settings.DriftOf(max(left, c.widest)))
		if a.elected {
			// A quorum without this node keeps the former holder out already. It helps if one of
			// those falls silent.
			b.granted.add(i)
			a.late.add(i)
			a.lateAt = max(a.lateAt, over)
			break
		}
		a.overAt = max(a.overAt, over)
		if t.phase == phaseElecting {
			b.granted.add(i)
			b.known.add(i)
			if r.Raised {
				b.raised.add(i)
			}
		}
	case r.Status == node.Absent:
		a.absent.add(i)
	case r.Status == node.Other && slices.Contains(a.earlier, r.Value):
		c.swap(now, t, i, r.Value)
	case r.Status == node.Other:
		a.other.add(i)
	}
	c.decideAdoption(now, t)
}

// leftOf returns for how long at most a node that has swapped the token may keep the key for the
// former holder.
func (c *Core) leftOf(i int, r node.Reply) time.Duration {
	switch {
	case r.Left > 0:
		return min(r.Left, c.settings.MaxTTLCap)
	case c.nodes[i].state.Guarded:
		return c.widest // it had swapped it before, and its marker knows the former holder's MaxTTL
	}
	return c.settings.MaxTTLCap
}

// onLateAdopt handles the same for a lease that is held already.
func (c *Core) onLateAdopt(now clock.Instant, t *tenure, i int, r node.Reply) {
	v := &t.votes.of[i]
	c.heardOf(now, t, i, r)
	if now >= t.hold.until {
		c.end(now, t, ReasonExpired)
		return
	}
	switch from := c.healFrom(i, false); {
	case r.Status == node.OK && now < from:
		v.life = 0 // as if it had never been asked: see renewed
		c.retryAt(now, t, i, from)
	case r.Status == node.OK && c.bars(i, t) != 0:
	case r.Status == node.OK && v.until == 0:
		c.hasKey(t, i)
		c.firstVote(now, t, i)
	case r.Status == node.Absent:
		c.onKeyAbsent(now, t, i)
	case r.Status == node.Other:
		c.onOverwritten(now, t, i)
	default:
		c.retryLater(now, t, i)
	}
	c.recomputeDeadline(now, t)
}

// decideAdoption ends the election of an adoption as soon as its outcome is certain.
func (c *Core) decideAdoption(now clock.Instant, t *tenure) {
	a, b, m := t.adopt, t.ballot, c.mode(t)
	if t.phase == phaseRaising { // a node may have said that the key is gone again
		gone := b.answers.with(VerdictFree) | b.answers.with(VerdictHeld)
		gone &^= b.granted | t.pending
		a.absent |= gone & b.answers.with(VerdictFree)
		a.other |= gone & b.answers.with(VerdictHeld)
	}
	switch {
	case a.elected:
	case now.Sub(t.begun) > t.terms.Window:
		c.failAdoption(t, ReasonNoQuorum)
	case !m.reachedWithout(a.absent | a.other):
		c.failAdoption(t, ReasonLost)
	case m.reached(b.raised) && t.fence > c.changing.floor:
		c.elected(now, t)
	case !m.reached(b.granted):
		if t.phase == phaseRaising { // a node did not answer: the swap there is asked for again
			t.phase = phaseElecting
			c.swapAll(now, t)
		}
	case t.phase == phaseElecting, !m.reached(b.raised | t.pending&b.granted), t.fence <= c.changing.floor:
		c.raise(now, t)
	}
}

// elected records that the nodes have done their part of an adoption.
func (c *Core) elected(now clock.Instant, t *tenure) {
	t.adopt.elected = true
	t.phase = phaseAdopting
	c.adoptionDue(now, t)
}

// adoptionDue asks the nodes that have failed again, and ends an adoption that takes too long. It
// keeps a lease until its former holder is over, and hands it out then.
func (c *Core) adoptionDue(now clock.Instant, t *tenure) {
	a := t.adopt
	switch {
	case a.elected && (a.over || c.mode(t).reached(a.kept)):
		c.completeAdoption(now, t)
	case a.elected && c.adoptedUntil(t) <= now && now >= a.overAt:
		c.failAdoption(t, ReasonNoQuorum)
	case a.elected:
		c.waits(a.heir)
		// The former holder may have been promised more than this lease's TTL.
		ttl := max(t.terms.TTL, (a.overAt.Sub(now) + time.Millisecond).Truncate(time.Millisecond))
		for i := range c.nodes {
			if t.ballot.granted.has(i) && !t.pending.has(i) {
				c.keep(now, t, i, ttl)
			}
		}
		next := now.Add(t.terms.RenewEvery)
		for _, over := range [...]clock.Instant{a.overAt, a.lateAt} {
			if now < over {
				next = min(over, next)
			}
		}
		c.alarms.set(t, next)
	case now < t.begun.Add(t.terms.Window):
		c.swapAll(now, t)
	default:
		c.failAdoption(t, ReasonNoQuorum)
	}
}

// adoptedUntil returns the instant up to which an adopter that waits has a lease.
func (c *Core) adoptedUntil(t *tenure) clock.Instant {
	return c.mode(t).deadline(t.votes.of, t.ballot.granted).Add(-t.terms.Grace)
}

// keep renews the key for an adopter that waits.
func (c *Core) keep(now clock.Instant, t *tenure, i int, ttl time.Duration) {
	t.votes.of[i].promise = now.Add(t.terms.TTL - t.terms.Drift)
	t.pending.add(i)
	c.send(i, node.Command{ID: t.id, Op: node.Renew, Name: t.key, Token: t.token, TTL: ttl, By: now.Add(t.terms.TTL)})
}

// onKeeping handles an answer to the renewal of an adopted lease that has not begun.
func (c *Core) onKeeping(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	a, b, v := t.adopt, t.ballot, &t.votes.of[i]
	c.heardOf(now, t, i, r)
	switch r.Status {
	case node.OK:
		if c.bars(i, t) != 0 {
			return
		}
		same := v.life == c.nodes[i].state.Life
		if !same {
			a.reborn.add(i)
		}
		asked, over := v.promise.Add(t.terms.Drift-t.terms.TTL), a.overAt
		if a.late.has(i) {
			over = a.lateAt
		}
		if same || now >= c.healFrom(i, v.until > now) {
			c.hasKey(t, i)
		}
		switch {
		case now < over:
		case asked < over: // it may have taken the key for the former holder in between
			c.keep(now, t, i, t.terms.TTL)
		case !a.reborn.has(i), now >= c.youngUntil(i):
			a.kept.add(i)
			if c.mode(t).reached(a.kept) {
				c.completeAdoption(now, t)
			}
		}
		return
	case node.Absent:
		a.absent.add(i)
	case node.Other:
		a.other.add(i)
	default:
		return
	}
	b.answers[i] = answerTo(now, r)
	b.granted.del(i)
	a.kept.del(i)
	t.votes.forgot(i)
	if !c.mode(t).reached(b.granted) {
		c.failAdoption(t, ReasonLost)
	}
}

// completeAdoption hands an adopted lease to its caller. From here on it is a held lease like any
// other; the votes of nodes that did not have it are on trial.
func (c *Core) completeAdoption(now clock.Instant, t *tenure) {
	a := t.adopt
	c.ageAll(t)
	if t.mode != c.toldKind {
		c.bePatient(now)
	}
	c.restOnBoth(now, t)
	until := c.adoptedUntil(t)
	if until <= now { // the answers were as old as the lease is long
		c.failAdoption(t, ReasonNoQuorum)
		return
	}
	l := c.lines[t.key]
	if l == nil {
		l = &line{}
		c.lines[t.key] = l
	}
	if l.holder != nil { // it was adopted twice at the same time, or acquired meanwhile
		c.failAdoption(t, ReasonHeld)
		return
	}
	l.holder = t
	if l.waitList != nil {
		l.fence = max(l.fence, t.fence)
	}
	c.adopting.del(t)
	c.held.add(t)
	delete(c.attempts, a.former)
	taken, elapsed := a.other, now.Sub(t.begun)
	t.begun = now // it may have waited for its former holder
	t.adopt, t.ballot, t.phase = nil, nil, phaseHeld
	c.beginHold(t, a.heir, until)
	t.sentFor(a.longest)
	c.tellWon(a.heir, t, until, elapsed, 0)
	for i := range c.nodes {
		switch {
		case a.absent.has(i):
			if t.votes.lapsed(now, i, t.pending) {
				c.askOthers(t, i)
			}
		case a.other.has(i):
			c.onOverwritten(now, t, i)
		}
	}
	c.askTheRest(t, taken)
	c.recomputeDeadline(now, t)
	c.standBack(now, l)
}

// standBack makes the waiters of a line send nothing, because this process itself holds the name
// now. See invariant 16 of package supervisor.
func (c *Core) standBack(now clock.Instant, l *line) {
	if l.waitList == nil {
		return
	}
	if w := l.first; w.Once {
		c.fail(w.Call, c.failure(l, ReasonNone))
		c.drop(now, l, w)
		return
	}
	c.waits(l.first)
	c.stopFirst(now, l)
}

// failAdoption tells the caller why there is no lease, and forgets the tenure. Nothing is deleted:
// the former holder may still count these nodes, and the keys that they have swapped expire by
// themselves. See invariant 15 of package supervisor.
func (c *Core) failAdoption(t *tenure, why Reason) {
	r := c.report(t.key, why, t.ballot.answers)
	r.Disagreement = c.disagreement()
	c.fail(t.adopt.heir.Call, r)
	t.adopt, t.ballot = nil, nil
	c.adopting.del(t)
	c.alarms.clear(t)
	c.tenures.del(t)
}

// cancelAdoption fails an adoption whose caller has given up.
func (c *Core) cancelAdoption(t *tenure) {
	if t.adopt.elected {
		c.failAdoption(t, ReasonFormerHolder)
		return
	}
	c.failAdoption(t, ReasonNoQuorum)
}

// Disown ends a lease that was adopted a moment ago, and that no caller has heard of. The handle,
// whose token is former, may be tried again.
func (c *Core) Disown(now clock.Instant, id uint64, former string) {
	if t := c.tenures.get(id); t != nil && t.phase == phaseHeld {
		c.attempts[former] = []string{t.token} // which a quorum has now
		c.disown(now, t)
	}
}
