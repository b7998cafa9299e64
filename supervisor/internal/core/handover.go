package core

import (
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
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
	return *c.handle(now, t), true
}

// A Handle has what another supervisor needs to adopt a lease.
type Handle struct {
	Key, Token string
	Fence      uint64
	TTL        time.Duration
	Over       bool // no process believes in the lease any more
	// Electorates says on which nodes the lease rests, see restsOn. It is "" in a handle that was
	// made before handles said so.
	Electorates string
}

// restsOn returns the electorates of a mode as text: one, or the former and the present one.
func (c *Core) restsOn(m *mode) string {
	text := c.describeGrown(&m.first).String()
	if m.isDouble() {
		text += ";" + c.describeGrown(&m.second).String()
	}
	return text
}

// commonMode returns by which electorates a lease may be adopted that rests on those of a handle: by
// those that were told to this process. It reports false if there is none. A list that may be either
// of ours counts as both: a quorum of each is enough in either case. A process that was told one list
// may adopt what rests on another one if the two meet, as they do when one node is added or removed:
// then each quorum of the one keeps out those of the other.
func (c *Core) commonMode(electorates string) (modeKind, bool) {
	if electorates == "" {
		return modePresent, c.toldKind == modePresent
	}
	var former, present bool
	for _, text := range strings.Split(electorates, ";") {
		theirs, ok := node.ParseElectorate(text)
		if !ok {
			return modePresent, false
		}
		_, same := mayBe(c.describeGrown(c.present()), theirs)
		present = present || same || c.toldKind == modePresent && mayMeet(c.describeGrown(c.present()), theirs)
		if c.toldKind == modeBoth {
			_, same = mayBe(c.describeGrown(c.former()), theirs)
			former = former || same
		}
	}
	switch {
	case former && present:
		return modeBoth, true
	case former:
		return modeFormer, true
	}
	return modePresent, present
}

// handle returns the handle of a held lease. Its TTL is the one to which a node may yet shorten the
// key, if that is less than the lease's own.
func (c *Core) handle(now clock.Instant, t *tenure) *Handle {
	h := &Handle{Key: t.key, Token: t.token, Fence: t.fence, TTL: t.terms.TTL, Electorates: c.restsOn(c.mode(t))}
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
