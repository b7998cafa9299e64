package supervisor

import (
	"context"
	"fmt"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// Revoke takes a lease away from its holder, whoever that is: the key is deleted on
// every node on which it holds token, as Inspect tells it. It is for operators who
// want a name free whose holder cannot be told to release it. The holder learns of it
// with lease.ErrRevoked, at once if the nodes track keys, and otherwise at its next
// renewal, a third of its TTL later at most: others may acquire the name before that,
// and only fences keep its late writes out. A name that was left, see [WithMinHold], is freed so
// as well.
//
// It returns nil when a quorum is known to be free of the lease. An error that wraps
// [ErrNotHolder] means that no node, of those that answered, had this token, or that
// a quorum keeps something else: look again who holds the name. One that wraps
// [ErrNoQuorum] means that too few nodes could be reached; it names them, and they are
// told again when they can be. Either is an [*AcquireError] with what each node said,
// and so is any other error that is not about the arguments.
// It waits for every node, as long as Config.NodeTimeout says for one that is silent, or for ctx, after
// which the nodes are told nevertheless.
func (s *Supervisor) Revoke(ctx context.Context, name string, token lease.Token) error {
	if err := s.cfg.checkName(name); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if token == "" {
		return fmt.Errorf("revoke %q: no token: want that of the lease, as Inspect tells it", s.cfg.Prefix+name)
	}
	key := s.cfg.Prefix + name
	if err := ctx.Err(); err != nil {
		return &AcquireError{Op: opRevoke, Name: key, Quorum: s.quorum, why: errNotTried, cause: err}
	}
	value, _ := node.CutLeft(string(token))
	is, _ := node.TokenOf(value)
	m := &revokeMessage{s.newCall(opRevoke), key, is}
	if !s.post(m) {
		return &AcquireError{Op: opRevoke, Name: key, Quorum: s.quorum, why: ErrClosed}
	}
	select {
	case o := <-m.result:
		return o.err
	case <-ctx.Done():
		return &AcquireError{Op: opRevoke, Name: key, Quorum: s.quorum, why: errNotTold, cause: ctx.Err()}
	}
}

type revokeMessage struct {
	call
	key, token string
}

func (m *revokeMessage) apply(s *Supervisor, now clock.Instant) {
	s.core.Revoke(now, m.key, m.token, s.calls.add(&m.call, now))
}
