package supervisor

import (
	"context"
	"fmt"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// Revoke takes a lease away from its holder, whoever that is: the key is deleted on
// every node where it holds token, as Inspect tells it. It is for operators who
// want a name free whose holder cannot be told to release it. The holder learns of it
// with lease.ErrRevoked, at once where the nodes track keys, and otherwise at its next
// renewal, a third of its TTL later at most: others may acquire the name before that,
// and only fences keep its late writes out.
//
// It returns nil when a quorum is known to be free of the lease. An error that wraps
// [ErrNotHolder] means that no node, of those that answered, had this token, or that
// a quorum keeps something else: look again who holds the name. One that wraps
// [ErrNoQuorum] means that too few nodes could be reached; it names them, and they are
// told again when they can be. Either is an [*AcquireError] with what each node said.
// It waits for every node, a node timeout for one that is silent, or for ctx, after
// which the nodes are told nevertheless.
func (s *Supervisor) Revoke(ctx context.Context, name, token string) error {
	if err := s.cfg.checkName(name); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if token == "" {
		return fmt.Errorf("revoke %q: no token: want that of the lease, as Inspect tells it", s.cfg.Prefix+name)
	}
	m := revokeMessage{s.cfg.Prefix + name, token, make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("revoke %q: not tried: %w", m.key, err)
	}
	if !s.post(m) {
		return fmt.Errorf("revoke %q: %w", m.key, ErrClosed)
	}
	select {
	case err := <-m.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("revoke %q: not confirmed by a quorum: %w", m.key, ctx.Err())
	}
}

type revokeMessage struct {
	key, token string
	answer     chan error
}

func (m revokeMessage) apply(c *Core, now clock.Instant) { c.Revoke(now, m.key, m.token, m.answer) }

// A revocation is the taking away of somebody else's lease.
type revocation struct {
	answer  chan<- error // whoever asked; nil once answered
	answers answers
	deleted nodeSet // nodes that had the token
}

// revoke takes in that the lease with token is to be taken away. That is a tenure
// which is given back without ever having been held here.
func (c *Core) Revoke(now clock.Instant, key, token string, answer chan<- error) {
	if c.closing {
		c.effects = append(c.effects, Effect{Kind: EffectAnswered, answer: answer, err: fmt.Errorf("revoke %q: %w", key, ErrClosed)})
		return
	}
	n := len(c.nodes)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), key: key, token: token, terms: &c.terms, begun: now,
		votes: make([]vote, n), asked: all(n), // its holder has asked them
	}
	c.tenures.add(t)
	c.giveBack(now, t, nil)
	t.give.revoke = &revocation{answer: answer, answers: make(answers, n)}
}

// revoked takes in what a node said to the release of a lease that is taken away, and
// tells who asked as soon as the outcome is certain.
func (c *Core) onRevocation(now clock.Instant, t *tenure, i int, r node.Reply) {
	v := t.give.revoke
	if v == nil || v.answer == nil {
		return
	}
	a := answer{At: now, Err: r.Err}
	switch r.Status {
	case node.OK:
		v.deleted.add(i)
		a.Verdict = Free
	case node.Absent:
		a.Verdict = Free
	case node.Other:
		a.Verdict = Held
	default:
		a.Verdict = Unreachable
	}
	v.answers[i] = a
	others := v.answers.with(Held).len()
	free := v.answers.with(Free).len()+others >= c.quorum
	var why error
	switch {
	case others >= c.quorum:
		why = ErrNotHolder
	case free && v.deleted != 0 && others+t.give.unanswered.len() < c.quorum:
	case t.give.unanswered != 0:
		return
	case !free:
		why = ErrNoQuorum
	case v.deleted == 0:
		why = ErrNotHolder
	}
	var err error
	if why != nil {
		err = &AcquireError{Name: t.key, Quorum: c.quorum, Nodes: c.named(v.answers), why: why, op: "revoke"}
	}
	c.effects = append(c.effects, Effect{Kind: EffectAnswered, answer: v.answer, err: err})
	v.answer = nil
}
