package supervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// keeper connects a lease to its supervisor.
type keeper struct {
	s  *Supervisor
	id uint64
}

// Release gives the lease back. It is called once, when the lease is over.
func (k keeper) Release(ctx context.Context) error {
	late := ctx.Err() != nil
	m := &releaseMessage{call: k.s.newCall(opRelease), id: k.id, endless: ctx.Done() == nil, late: late}
	if !k.s.post(m) {
		if r := k.s.core.LeftBy(k.id); r != nil {
			return k.s.unconfirmed(r, nil)
		}
		return nil // Close has given it back
	}
	if late {
		// It is too late to wait, but many a process ends right after this call.
		moment := k.s.clock.NewTimer(lastMoment)
		defer moment.Stop()
		select {
		case o := <-m.result:
			return o.err
		case <-moment.C():
		}
	}
	select {
	case o := <-m.result:
		k.s.recycle(&m.call)
		return o.err
	case <-ctx.Done():
		k.s.post(stopWaitingMessage{&m.call, k.id, ctx.Err()})
		return (<-m.result).err
	}
}

// lastMoment is how long Release waits if its context is done already.
const lastMoment = 3 * time.Millisecond

type releaseMessage struct {
	call
	id      uint64
	endless bool // its context never ends
	late    bool // its context is done
	unused  bool // no caller has got the lease
}

func (m *releaseMessage) apply(s *Supervisor, now clock.Instant) {
	number := s.calls.add(&m.call, now)
	if m.unused {
		s.core.Forgo(now, m.id, number)
		return
	}
	s.core.Release(now, m.id, number)
	switch {
	case m.endless:
		s.core.Bound(now, m.id)
	case m.late:
		s.core.Hasten(now, m.id)
	}
}

type stopWaitingMessage struct {
	call *call
	id   uint64
	why  error
}

func (m stopWaitingMessage) apply(s *Supervisor, now clock.Instant) {
	m.call.cause = m.why
	s.core.StopWaiting(now, m.id)
}

// Extend renews at once, with another TTL.
func (k keeper) Extend(ctx context.Context, ttl time.Duration) error {
	terms, err := k.s.termsFor(ttl)
	if err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	m := &extendMessage{k.s.newCall(opExtend), k.id, terms}
	if !k.s.post(m) {
		return lease.ErrClosed
	}
	select {
	case o := <-m.result:
		return o.err
	case <-ctx.Done():
		return fmt.Errorf("extend: not confirmed by a quorum: %w", ctx.Err())
	}
}

type extendMessage struct {
	call
	id    uint64
	terms *core.Terms
}

func (m *extendMessage) apply(s *Supervisor, now clock.Instant) {
	s.core.Extend(now, m.id, m.terms, s.calls.add(&m.call, now))
}

// Handle returns the handle with which the lease is continued, or "" if it is over.
func (k keeper) Handle() (handle lease.Handle) {
	now := k.s.clock.Now()
	k.s.read(func(c *core.Core) {
		if h, ok := c.Handle(now, k.id); ok {
			handle = encodeHandle(h)
		}
	})
	return handle
}

// HandOver renews at once and ends the lease here.
func (k keeper) HandOver(ctx context.Context) (lease.Handle, error) {
	m := &handOverMessage{k.s.newCall(opGive), k.id}
	if !k.s.post(m) {
		return "", lease.ErrClosed
	}
	var o outcome
	select {
	case o = <-m.result:
	case <-ctx.Done():
		k.s.post(keepMessage{&m.call, k.id, ctx.Err()})
		o = <-m.result
	}
	if o.err != nil {
		return "", fmt.Errorf("hand over: %w", o.err)
	}
	return encodeHandle(*o.handle), nil
}

type handOverMessage struct {
	call
	id uint64
}

func (m *handOverMessage) apply(s *Supervisor, now clock.Instant) {
	s.core.HandOver(now, m.id, s.calls.add(&m.call, now))
}

type keepMessage struct {
	call *call
	id   uint64
	why  error
}

func (m keepMessage) apply(s *Supervisor, now clock.Instant) {
	m.call.cause = m.why
	s.core.Keep(now, m.id, m.call.number)
}
