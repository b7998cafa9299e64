package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A hold is what a tenure needs while it is held. It is part of the tenure: each renewal touches
// it, and with very many leases most of that cost is waiting for memory.
type hold struct {
	until      clock.Instant // the lease is lost then: the deadline less the grace
	renewAt    clock.Instant // the next renewal on every node; Never without renewal
	*rareState               // nil before it is held; noRare, which is never written to, while there is none
}

// A rareState is what most leases do without most of the time.
type rareState struct {
	retryAt     clock.Instant // the next renewal on those in retry
	retry       nodeSet       // nodes whose last renewal failed
	ask         nodeSet       // nodes that are to be renewed as soon as it is known that the lease goes on
	fails       uint8         // retries since the last regular renewal
	longest     time.Duration // the longest time for which a node may have been sent the key; 0 if for no longer than the TTL
	short       nodeSet       // nodes whose latest promise is for less than they were asked for, see ttlCap
	changesFrom clock.Instant // before that a message makes it look no more
	lookAt      clock.Instant // the next look of a lease that does not renew itself; Never of others
	looking     nodeSet       // nodes that have yet to answer one
	endAt       clock.Instant // the longest that the holder wants it; Never without
	stayUntil   clock.Instant // the name is to stay taken until then, see stay.go; 0 without
	leaveAt     clock.Instant // it is taken out of the queues in which it still stands; Never if it does not

	extend *extension // one that is under way
	ttlCap *ttlCap    // about renewals whose answer never came; nil without
}

// noRare is shared by all leases that have no rareState of their own.
var noRare = newRare()

func newRare() rareState {
	return rareState{retryAt: clock.Never, lookAt: clock.Never, endAt: clock.Never, leaveAt: clock.Never}
}

// rare returns the lease's own rareState, to write to.
func (h *hold) rare() *rareState {
	if h.rareState == nil || h.rareState == &noRare {
		o := newRare()
		h.rareState = &o
	}
	return h.rareState
}

// everHeld reports whether the tenure is held, or was.
func (h *hold) everHeld() bool { return h.rareState != nil }

// regular records that every node is being asked again. It forgets a rareState that has become
// empty.
func (h *hold) regular(now clock.Instant) {
	o := h.rareState
	if o == &noRare {
		return
	}
	o.retryAt, o.retry, o.fails = clock.Never, 0, 0
	if o.ttlCap != nil && now >= o.ttlCap.until {
		o.ttlCap = nil
	}
	if o.longest == 0 && o.short == 0 && o.changesFrom <= now && o.lookAt == clock.Never && o.endAt == clock.Never && o.leaveAt == clock.Never && o.stayUntil <= now &&
		o.extend == nil && o.ttlCap == nil && o.ask == 0 {
		h.rareState = &noRare
	}
}

// heard records that node i need not be asked again before the others.
func (h *hold) heard(i int) {
	if h.retry.has(i) {
		h.rare().retry.del(i)
	}
}

// beginHold sets what a tenure needs from now on.
func (c *Core) beginHold(t *tenure, w *waiter, until clock.Instant) {
	t.stretched = 0 // see stay, from now on
	t.allAnswered()
	t.leaveStages()
	t.hold = hold{until: until, renewAt: clock.Never, rareState: &noRare}
	h := &t.hold
	first := c.nextRenewal(t, t.begun, t.terms.RenewEvery)
	if c.tracks() {
		first = min(first, t.begun.Add(c.jitter(trackAfter)))
	}
	if w.NoRenew {
		h.rare().lookAt = first
	} else {
		h.renewAt = first
	}
	if w.MaxHold > 0 {
		h.rare().endAt = t.begun.Add(w.MaxHold)
	}
	if w.MinHold > 0 {
		h.rare().stayUntil = t.begun.Add(w.MinHold)
	}
	if t.inQueues && t.queuing.gone != c.all {
		h.rare().leaveAt = t.begun.Add(c.settings.NodeTimeout) // the other nodes may yet be claimed
	}
}
