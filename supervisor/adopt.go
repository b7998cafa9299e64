package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Adopt continues the lease of a handle, see [lease.Lease.HandOver] and [lease.Lease.Handle]. The
// name passes to this supervisor without a moment in which others can have it. The adopted lease
// has a token and an owner of its own and a larger fence. So whatever its former holder still
// writes or renews is refused. A handle can be adopted once.
//
// Adopt takes the key over on all nodes at once, and a quorum stores the fence. It waits for nodes
// that are not reachable yet, for a quarter of the lease's TTL or until ctx is done. If the handle
// is from HandOver, or with [FormerEnded], the lease is held then. Otherwise its former holder may
// still believe in it until its next renewal, which tells it that the lease was taken. So Adopt
// waits until what the nodes had promised to the former holder has run out, for the lease's former
// TTL at most. It keeps the keys meanwhile. The adopted lease renews itself, whatever options it
// was acquired with. Its name is free as soon as it is given back, see [WithMinHold].
//
// An error that wraps lease.ErrLost means that no quorum keeps the lease of the handle any more: it
// has expired, was revoked, or was adopted before. Acquire the name instead. [ErrNoQuorum] means
// that too few nodes could be reached. [ErrHeld] means that this process itself holds the name, or
// is adopting this handle already. After either, and after an error that wraps only ctx's, the same
// supervisor may try the handle again. No key is deleted, so the name stays taken for the TTL at
// most. All these are an [*AcquireError] with what each node answered. Any other error is about the
// arguments. The handle may be broken, or printed instead of stored, or its lease does not fit this
// supervisor's Prefix, MaxTTL or NodeTimeout.
func (s *Supervisor) Adopt(ctx context.Context, handle lease.Handle, opts ...AdoptOption) (*lease.Lease, error) {
	h, err := parseHandle(handle)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	r, err := s.heir(h)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	var a adoption
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("adopt: nil option")
		}
		o(&a)
	}
	h.Over = h.Over || a.formerEnded
	if err := ctx.Err(); err != nil {
		return nil, s.newError(opAdopt, h.Key, errNotTried, err)
	}
	m := &adoptMessage{s.newCall(opAdopt), r, h}
	m.ctx = ctx
	if !s.post(m) {
		return nil, s.newError(opAdopt, h.Key, ErrClosed, nil)
	}
	o := s.await(ctx, &m.call, h.Key)
	if o.err != nil {
		return nil, o.err
	}
	if err := ctx.Err(); err != nil {
		// No lease is returned after its context was done. But the handle may be tried again, so
		// the nodes keep it.
		s.post(disownMessage{o.id, h.Token})
		return nil, s.newError(opAdopt, h.Key, errNotTaken, err)
	}
	return o.lease, nil
}

// An AdoptOption changes one adoption.
type AdoptOption func(*adoption)

// An adoption holds the sum of the options of one call.
type adoption struct{ formerEnded bool }

// FormerEnded says that the process which held the lease has ended, or will surely do nothing under
// it any more. Then Adopt does not wait until what the nodes had promised to that process has run
// out. If the process goes on after all, there are two holders for up to the lease's TTL, and only
// fences keep the former one out.
func FormerEnded() AdoptOption { return func(a *adoption) { a.formerEnded = true } }

type adoptMessage struct {
	call
	request core.Request
	handle  core.Handle
}

func (m *adoptMessage) apply(s *Supervisor, now clock.Instant) {
	m.request.Call = s.calls.add(&m.call, now)
	s.core.Adopt(now, m.request, m.handle)
}

type disownMessage struct {
	id     uint64
	former string // the token of the handle
}

func (m disownMessage) apply(s *Supervisor, now clock.Instant) { s.core.Disown(now, m.id, m.former) }
