package core

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A revocation takes another client's lease away.
type revocation struct {
	call    Call // the caller; 0 once answered
	answers answers
	deleted nodeSet // nodes that had the token
}

// Revoke takes the lease with token away. EffectAnswered answers it. It is a tenure that is given
// back without ever having been held here.
func (c *Core) Revoke(now clock.Instant, key, token string, call Call) {
	if c.closing {
		c.answer(call, &Report{Key: key, Reason: ReasonClosed})
		return
	}
	n := len(c.nodes)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), key: key, token: token, terms: c.terms, begun: now, mode: c.toldKind,
		votes: newVotes(n), asked: c.all, // its holder has asked them
	}
	c.tenures.add(t)
	c.giveBack(now, t)
	t.give.revoke = &revocation{call: call, answers: make(answers, n)}
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
	var r *Report
	if why != ReasonNone {
		r = c.report(t.key, why, v.answers)
	}
	c.answer(v.call, r)
	v.call = 0
}
