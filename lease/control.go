package lease

import (
	"context"
	"errors"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A Spec describes a new lease. In a test Until is enough: clock.Never for a lease that is held
// until its [Control] ends it.
type Spec struct {
	Name, Owner string
	Token       Token
	Fence       uint64

	// Clock is the clock that Valid, Err and Remaining read. Default: clock.System().
	Clock clock.Clock
	// Until is the instant at which the lease is lost unless [Control.Renewed]
	// moves it.
	Until clock.Instant
	// Grace is how much longer the nodes keep the lease than Until.
	Grace time.Duration
	// Keeper does the work that needs IO. Without one Release, Extend and HandOver succeed at once,
	// and handles are empty.
	Keeper Keeper
	// Home, if there is one, is used instead of Clock and Keeper, and knows the lease by ID. It is
	// for supervisors.
	Home *Home
	ID   uint64
}

// A Home holds what many leases share, so that each is a fifth smaller than with a Clock and a
// Keeper of its own. Do not change it once a lease has it.
type Home struct {
	Clock  clock.Clock
	Keeper func(id uint64) Keeper // of the lease with that ID; nil means no Keeper
}

// A Keeper does for one lease the work that needs the nodes. Its methods may be called from any
// goroutine.
type Keeper interface {
	// Release tells the nodes. The lease is over already.
	Release(ctx context.Context) error
	// Extend renews the lease at once, with another TTL.
	Extend(ctx context.Context, ttl time.Duration) error
	// Handle returns the handle with which another supervisor takes the lease over; empty if it is
	// over.
	Handle() Handle
	// HandOver renews the lease at once. When a quorum has confirmed that, it ends the lease with
	// [ErrHandedOver] and tells no node of the end.
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

// Lease returns the lease that this control renews and ends.
func (c Control) Lease() *Lease { return c.l }

// Renewed moves the instant at which the lease will be lost, and sets how much longer the nodes
// keep it. It reports false, and does nothing, if the lease is over: its holder has been told, and
// a lease never comes back. See invariant 5 of package supervisor.
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

// End ends the lease for the given reason, which is [ErrReleased] or [ErrHandedOver] or wraps
// [ErrLost], as a [*LostError] does. It closes Done, and Lost if this is a loss. A goroutine then
// ends the contexts that were made of the lease, so that End runs no code of others.
//
// End reports false if the lease was over already. Then it changes only one thing: if the holder
// was the first to see that the lease has expired, Err gets the nodes' reasons of a [*LostError].
func (c Control) End(why error) bool {
	ended := c.l.finish(why, over)
	if ended {
		c.l.endContextsSoon()
	} else {
		c.l.explain(why)
	}
	return ended
}

// explain adds the reasons why it was not renewed to a lease that has expired by the clock.
func (l *Lease) explain(why error) {
	lost, ok := why.(*LostError)
	if !ok {
		return
	}
	if !errors.Is(lost, ErrExpired) { // a lease that was seen to expire stays expired
		lost = &LostError{ErrExpired, lost.Nodes}
	}
	e := l.lock()
	defer e.Unlock()
	if e.err == error(expired) {
		e.err = lost
	}
}
