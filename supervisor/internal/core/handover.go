package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// HandOver renews a lease at once, and disowns it when a quorum has confirmed that. EffectAnswered
// answers it with the handle.
func (c *Core) HandOver(now clock.Instant, id uint64, call Call) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld {
		// Its holder asks the lease itself why.
		c.answer(call, &Report{Reason: ReasonLost})
		return
	}
	if x := t.hold.extend; x != nil && x.handOver != 0 {
		c.answer(call, &Report{Key: t.key, Reason: ReasonHandingOver})
		return
	}
	c.Extend(now, id, t.terms, call)
	if x := t.hold.extend; x != nil {
		x.handOver = call
	}
}

// Keep records that the caller of HandOver has stopped waiting: the lease stays held here.
func (c *Core) Keep(_ clock.Instant, id uint64, call Call) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld || t.hold.extend == nil || t.hold.extend.handOver != call {
		return // it was answered
	}
	x := t.hold.extend
	x.handOver = 0
	x.waiters = slices.DeleteFunc(x.waiters, func(w Call) bool { return w == call })
	c.answer(call, &Report{Key: t.key, Reason: ReasonKept})
}

// Handle returns the handle with which a held lease is adopted, or false if it is over.
func (c *Core) Handle(now clock.Instant, id uint64) (Handle, bool) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld {
		return Handle{}, false
	}
	return *t.handle(now), true
}

// A Handle has what another supervisor needs to adopt a lease.
type Handle struct {
	Key, Token string
	Fence      uint64
	TTL        time.Duration
	Over       bool // no process believes in the lease any more
}

// handle returns the handle of a held lease. Its TTL is the one to which a node may yet shorten the
// key, if that is less than the lease's own.
func (t *tenure) handle(now clock.Instant) *Handle {
	h := &Handle{Key: t.key, Token: t.token, Fence: t.fence, TTL: t.terms.TTL}
	if short := t.hold.shortened(now); short != nil {
		h.TTL = min(h.TTL, short.TTL)
	}
	return h
}

// disown ends a lease here and leaves it to the owner of its handle: no node is told.
func (c *Core) disown(now clock.Instant, t *tenure) {
	if t == nil || t.phase != phaseHeld {
		return
	}
	t.asked = 0
	c.end(now, t, ReasonHandedOver)
}
