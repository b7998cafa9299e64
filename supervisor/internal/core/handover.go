package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// HandOver renews a lease at once, and disowns it when a quorum has confirmed that. It is
// answered by EffectAnswered with the handle.
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

// Keep hears that the caller of HandOver waits no longer: the lease stays held here.
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

// Handle returns what a held lease is continued with, or false if it is over.
func (c *Core) Handle(now clock.Instant, id uint64) (Handle, bool) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld {
		return Handle{}, false
	}
	return *t.handle(now), true
}

// A Handle is what a lease is continued with.
type Handle struct {
	Key, Token string
	Fence      uint64
	TTL        time.Duration
	Over       bool // nobody believes in the lease any more
}

// handle returns what a held lease is continued with: with the TTL that a node may
// yet shorten it to, if that is less than its own.
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
