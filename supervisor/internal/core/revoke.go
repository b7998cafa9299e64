package core

import (
	"slices"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A revocation takes another client's lease away. Its holder heals what was deleted: a node that it
// takes for one which forgot at once, another one after a renewal interval, if others confirm. So a
// node counts only if it is not young, and if it was asked so lately that it cannot have been healed
// when the last one was reached. Otherwise it is asked again.
type revocation struct {
	call    Call // the caller; 0 once answered
	answers answers
	deleted nodeSet         // nodes that had the token
	sent    []clock.Instant // when each was asked last
}

// Revoke takes the lease with token away. EffectAnswered answers it. It is a tenure that is given
// back without ever having been held here.
func (c *Core) Revoke(now clock.Instant, key, token string, call Call) {
	if c.closing {
		c.answer(call, &Report{Key: key, Reason: ReasonClosed})
		return
	}
	if why := c.changing.why; why != ReasonNone {
		c.answer(call, c.report(key, why, nil)) // the lease may rest on nodes that it does not know
		return
	}
	n := len(c.nodes)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), key: key, token: token, terms: c.terms, begun: now, mode: c.toldKind,
		votes: newVotes(n), asked: c.all, // its holder has asked them
	}
	c.tenures.add(t)
	c.giveBack(now, t)
	t.give.revoke = &revocation{call: call, answers: make(answers, n), sent: slices.Repeat([]clock.Instant{now}, n)}
}

// onRevocation handles a node's answer to the release of a lease that is taken away. It tells the
// caller as soon as the outcome is certain.
func (c *Core) onRevocation(now clock.Instant, t *tenure, i int, said node.Reply) {
	v := t.give.revoke
	if v == nil || v.call == 0 {
		return
	}
	a := Answer{At: now, Err: said.Err}
	switch said.Status {
	case node.OK:
		v.deleted.add(i)
		a.Verdict = VerdictFree
	case node.Absent:
		a.Verdict = VerdictFree
	case node.Other:
		a.Verdict = VerdictHeld
	default:
		a.Verdict = VerdictUnreachable
	}
	if young := c.youngUntil(i); now < young && a.Verdict != VerdictUnreachable {
		a = Answer{Verdict: VerdictGuarded, Left: young.Sub(now), At: now}
	}
	v.answers[i] = a
	others, m := v.answers.with(VerdictHeld), c.mode(t)
	free := m.reached(v.answers.with(VerdictFree) | others)
	var why Reason
	switch {
	case m.reached(others):
		why = ReasonNotHolder
	case free && v.deleted != 0 && !m.reached(others|t.give.unanswered):
	case t.give.unanswered != 0:
		return
	case !free:
		why = ReasonNoQuorum
	case v.deleted == 0:
		why = ReasonNotHolder
	}
	if why == ReasonNone {
		why = c.changing.why // which was found out meanwhile
	}
	if why == ReasonNone && c.revokeAgain(now, t) {
		return
	}
	var r *Report
	if why != ReasonNone {
		r = c.report(t.key, why, v.answers)
	}
	c.answer(v.call, r)
	v.call = 0
}

// revokeAgain asks nodes again that were asked so long ago that the holder may have healed them. It
// reports whether the others are no quorum.
func (c *Core) revokeAgain(now clock.Instant, t *tenure) bool {
	v := t.give.revoke
	told := v.answers.with(VerdictFree) | v.answers.with(VerdictHeld)
	var old nodeSet
	for i, at := range v.sent {
		if told.has(i) && now.Sub(at) >= t.terms.RenewEvery {
			old.add(i)
		}
	}
	if c.mode(t).reached(told &^ old) {
		return false
	}
	for i := range v.sent {
		if old.has(i) {
			v.answers[i], v.sent[i] = Answer{}, now
			t.give.unanswered.add(i)
			c.sendRelease(now, t, i, 0)
		}
	}
	return true
}
