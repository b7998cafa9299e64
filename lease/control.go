package lease

import (
	"context"
	"errors"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A Spec says what a new lease is. In a test Until is enough: clock.Never for a lease that is held until
// its [Control] ends it.
type Spec struct {
	Name, Owner string
	Token       Token
	Fence       uint64

	// Clock is asked by Valid, Err and Remaining. Default: clock.System().
	Clock clock.Clock
	// Until is the instant at which the lease is lost unless [Control.Renewed]
	// moves it.
	Until clock.Instant
	// Grace is how much longer the nodes keep the lease than Until.
	Grace time.Duration
	// Keeper does what costs IO. Without one Release, Extend and HandOver succeed at
	// once, and handles are empty.
	Keeper Keeper
	// Home, if there is one, is asked instead of Clock and Keeper, and knows the lease by ID. It
	// is for supervisors.
	Home *Home
	ID   uint64
}

// A Home holds what many leases have in common, so that each is a fifth smaller than with a Clock and a
// Keeper of its own. Do not change it once a lease has it.
type Home struct {
	Clock  clock.Clock
	Keeper func(id uint64) Keeper // of the lease with that ID; nil is as no Keeper
}

// A Keeper does for one lease what needs the nodes. Its methods may be called from any goroutine.
type Keeper interface {
	// Release tells the nodes; the lease is over already.
	Release(ctx context.Context) error
	// Extend renews at once.
	Extend(ctx context.Context, ttl time.Duration) error
	// Handle returns what another supervisor takes the lease over with; empty if it
	// is over.
	Handle() Handle
	// HandOver renews at once, ends the lease with [ErrHandedOver] when a quorum has
	// confirmed that, and tells no node of the end.
	HandOver(ctx context.Context) (handle Handle, err error)
}

// A Control is the other end of a [Lease]: it renews and ends the lease. The supervisor has one for
// each lease, and so may a test of code that holds one. Its methods may be called from any
// goroutine, and return at once.
type Control struct{ l *Lease }

// New makes a lease that is held until spec.Until, and its control. It asks no node: it is for
// supervisors, and for tests.
func New(spec Spec) (*Lease, Control) {
	if spec.Home == nil {
		spec.Home = homeOfOne(spec.Clock, spec.Keeper)
	}
	l := &Lease{
		name: spec.Name, token: hide(spec.Token, spec.Owner), fence: spec.Fence,
		home: spec.Home, id: spec.ID,
	}
	l.until.Store(int64(spec.Until))
	l.grace.Store(int64(spec.Grace))
	return l, Control{l}
}

func homeOfOne(c clock.Clock, k Keeper) *Home {
	h := &Home{Clock: c}
	if c == nil {
		h.Clock = clock.System()
	}
	if k != nil {
		h.Keeper = func(uint64) Keeper { return k }
	}
	return h
}

// Lease returns the lease that is controlled.
func (c Control) Lease() *Lease { return c.l }

// Renewed moves the instant at which the lease will be lost, and says how much
// longer the nodes keep it. It reports false, and does nothing, if the lease is
// over: its holder has been told, and a lease never comes back. See invariant 5 of
// package supervisor.
func (c Control) Renewed(until clock.Instant, grace time.Duration) bool {
	for {
		old := c.l.until.Load()
		if old == over {
			return false
		}
		if c.l.until.CompareAndSwap(old, int64(until)) {
			c.l.grace.Store(int64(grace))
			return true
		}
	}
}

// End ends the lease for the given reason, which is [ErrReleased] or [ErrHandedOver]
// or wraps [ErrLost], as a [*LostError] does. It closes Done, and Lost if this is a loss. A
// goroutine then ends the contexts that were made of the lease, so that End runs no code of others.
//
// End reports false if the lease was over already. Then it changes nothing but one thing: if the
// holder was the first to see that the lease has expired, Err gets the nodes' reasons of a
// [*LostError].
func (c Control) End(why error) bool {
	ended := c.l.finish(why, over)
	if ended {
		c.l.endContextsSoon()
	} else {
		c.l.explain(why)
	}
	return ended
}

// explain has a lease that has expired by the clock tell why it was not renewed.
func (l *Lease) explain(why error) {
	lost, ok := why.(*LostError)
	if !ok {
		return
	}
	if !errors.Is(lost, ErrExpired) { // as it has been seen to be: that does not change
		lost = &LostError{ErrExpired, lost.Nodes}
	}
	e := l.lock()
	defer e.Unlock()
	if e.err == error(expired) {
		e.err = lost
	}
}
