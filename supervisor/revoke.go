package supervisor

import (
	"context"
	"fmt"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// Revoke takes a lease away from its holder: it deletes the key on every node on which the key
// holds token. [Supervisor.Inspect] returns the token. Revoke is for operators that want a name
// free whose holder cannot be told to release it. The holder learns of it with lease.ErrRevoked: at
// once if the nodes track keys, otherwise at its next renewal, a third of its TTL later at most.
// Others may acquire the name before that, and only fences keep the holder's late writes out.
// Revoke also frees a name that was left, see [WithMinHold].
//
// Revoke returns nil when a quorum is known to be free of the lease. An error that wraps
// [ErrNotHolder] means that none of the nodes that answered had this token, or that a quorum keeps
// something else: look again which lease holds the name. An error that wraps [ErrNoQuorum] means
// that too few nodes could be reached. It names them, and the supervisor tells them again when it
// can reach them. Either is an [*AcquireError] with what each node answered, and so is any other
// error that is not about the arguments.
//
// Revoke waits until every node has answered, for a silent one as long as Config.NodeTimeout says,
// and for no longer than ctx allows. The supervisor goes on telling the nodes after the end of ctx.
func (s *Supervisor) Revoke(ctx context.Context, name string, token lease.Token) error {
	if err := s.cfg.checkName(name); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	if token == "" {
		return fmt.Errorf("revoke %q: no token: use that of the lease, from Inspect", s.cfg.Prefix+name)
	}
	key := s.cfg.Prefix + name
	if err := ctx.Err(); err != nil {
		return s.newError(opRevoke, key, errNotTried, err)
	}
	value, _ := node.CutLeft(string(token))
	is, _ := node.TokenOf(value)
	m := &revokeMessage{s.newCall(opRevoke), key, is}
	if !s.post(m) {
		return s.newError(opRevoke, key, ErrClosed, nil)
	}
	select {
	case o := <-m.result:
		return o.err
	case <-ctx.Done():
		return s.newError(opRevoke, key, errNotTold, ctx.Err())
	}
}

type revokeMessage struct {
	call
	key, token string
}

func (m *revokeMessage) apply(s *Supervisor, now clock.Instant) {
	s.core.Revoke(now, m.key, m.token, s.calls.add(&m.call, now))
}
