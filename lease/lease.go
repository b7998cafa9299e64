// Package lease gives the holder of a name a [Lease], which says whether the name is still held,
// and ends once and for ever.
//
// Package supervisor acquires leases and renews them. A lease itself needs no goroutine, and makes
// its channels when they are first asked for. A test of code that holds a lease makes one with
// [New].
//
// # What a lease does not promise
//
// A process can be paused between asking [Lease.Valid] and the moment at which its write lands, by
// its scheduler, its garbage collector or its hypervisor. No lease can prevent that late write;
// only the resource can refuse it. Pass [Lease.Fence] along with every write, and let the resource
// advance its own mark before it reads.
package lease

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// These are the reasons why a lease is over. Test with errors.Is: every reason but [ErrReleased]
// and [ErrHandedOver] wraps [ErrLost].
var (
	// ErrReleased: the holder gave the name back.
	ErrReleased = errors.New("lease: released")

	// ErrHandedOver: the holder handed the lease over, and the process that adopts its
	// handle goes on with the name. Stop the work, as after a release.
	ErrHandedOver = errors.New("lease: handed over")

	// ErrLost: the lease ended without its holder asking. Stop the work; another client may start.
	// The lease does not come back: acquire the name again.
	ErrLost = errors.New("lease: lost")

	// ErrExpired: no quorum of nodes renewed the lease in time, by the clock of this process. Only
	// this loss leaves the configured grace to stop in.
	ErrExpired = fmt.Errorf("%w: not renewed in time", ErrLost)

	// ErrForgotten: the lease has expired because most of its nodes have lost their data: they were
	// restarted without it, or flushed. It wraps [ErrExpired]. If the guard is off, see
	// supervisor.Config.DisableGuard, others may hold the name already.
	ErrForgotten error = forgottenError{}

	// ErrRevoked: the key is missing on so many nodes that no quorum keeps the lease. Most of these
	// have deleted it, as Revoke of a supervisor makes them do. If the guard is off, the nodes may
	// have been flushed instead. Others may hold the name already.
	ErrRevoked = fmt.Errorf("%w: revoked: its key is gone from too many nodes", ErrLost)

	// ErrTaken: so many nodes keep another value that no quorum keeps the lease; on up to half of
	// these the key is missing instead. Another process may have adopted the lease's handle, or
	// another client may have overwritten the key. Others may hold the name already.
	ErrTaken = fmt.Errorf("%w: taken: too many nodes keep another value, or none", ErrLost)

	// ErrPaused: the clocks of a quorum of nodes have run away from this process's, for example
	// because a hypervisor paused its machine. The keys have aged meanwhile, so others may hold the
	// name already.
	ErrPaused = fmt.Errorf("%w: the nodes' clocks ran away from ours", ErrLost)

	// ErrMaxHold: the lease reached the time that its holder had set with WithMaxHold of package
	// supervisor. Others may hold the name from now on.
	ErrMaxHold = fmt.Errorf("%w: held for its maximum", ErrLost)

	// ErrClosed: the supervisor that kept the lease was closed. Others may hold the name from now
	// on. errors.Is finds supervisor.ErrClosed in it as well.
	ErrClosed error = closedError{}
)

// forgottenError is the type of [ErrForgotten].
type forgottenError struct{}

func (forgottenError) Error() string {
	return ErrLost.Error() + ": forgotten: most of its nodes were restarted or flushed"
}
func (forgottenError) Unwrap() error { return ErrExpired }

// closedError is the type of [ErrClosed].
type closedError struct{}

func (closedError) Error() string { return ErrLost.Error() + ": supervisor closed" }
func (closedError) Unwrap() error { return ErrLost }

// Is reports whether target is the error of an acquisition that failed for the same reason.
func (closedError) Is(target error) bool {
	t, ok := target.(interface{ Closed() bool })
	return ok && t.Closed()
}

// A Lease is one tenure of one name. All methods may be called from any goroutine. Release, Extend
// and HandOver wait for a quorum of nodes, and no longer than their contexts allow. Handle waits
// for the supervisor's goroutine, which never waits for a node. All others return at once. The zero
// Lease is of no use: a supervisor makes leases, and in tests [New] does.
type Lease struct {
	name  string
	token hidden // and the owner
	fence uint64
	home  *Home
	id    uint64 // there

	// until is the instant at which the lease is lost unless it is renewed, or over. Only the
	// goroutine that holds the lock of ends sets it to over, together with err. A renewal moves it
	// by compare-and-swap, so that a lease which was seen to have ended never comes back.
	until atomic.Int64
	grace atomic.Int64 // how much longer the nodes keep it

	ends atomic.Pointer[ends] // nil until a caller wants to be told of its end, or the end has come
}

// ends holds what is told that a lease is over.
type ends struct {
	sync.Mutex
	err      error // why it is over; nil while it is not
	lost     chan struct{}
	done     chan struct{}
	contexts atomic.Pointer[contexts] // nil until there is one; it needs no lock
}

// toEnd returns ends, and makes them if there are none yet.
func (l *Lease) toEnd() *ends {
	e := l.ends.Load()
	if e == nil {
		l.ends.CompareAndSwap(nil, &ends{})
		e = l.ends.Load() // another goroutine may have been first
	}
	return e
}

// lock locks ends and returns it.
func (l *Lease) lock() *ends {
	e := l.toEnd()
	e.Lock()
	return e
}

// keeper returns the Keeper of the lease, or nil.
func (l *Lease) keeper() Keeper {
	if l.home.Keeper == nil {
		return nil
	}
	return l.home.Keeper(l.id)
}

const over = math.MinInt64

// closed is the channel of everything that has already happened.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Name returns the name that is held, without the supervisor's prefix.
func (l *Lease) Name() string { return l.name }

// Token returns the value of the name's key on the nodes. A client that knows it can delete the
// key: keep it as you would a password.
func (l *Lease) Token() Token { return l.token.token() }

// Owner returns the text that others see as the holder: Config.Owner of the supervisor, or that of
// WithOwner.
func (l *Lease) Owner() string { return l.token.ownerName() }

// Fence returns the fencing token, a number of at most 2^53 that grows strictly from each tenure of
// a name to the next. A resource can use it to refuse a holder that was replaced: it remembers the
// largest fence it has seen, and advances that mark before it reads. See package fence.
func (l *Lease) Fence() uint64 { return l.fence }

// Lost returns a channel that is closed once, when the lease has ended without its holder asking: a
// quorum of nodes no longer keeps it, or can no longer be shown to. If the lease was not renewed in
// time ([ErrExpired]), the channel is closed at least the configured grace before another client
// can hold the name, as far as this process's scheduler allows. With any other reason there is no
// grace: others may hold the name already, or from now on. A holder that must be certain asks
// [Lease.Valid] right before it writes. The channel stays open after Release and HandOver.
func (l *Lease) Lost() <-chan struct{} {
	e := l.lock()
	defer e.Unlock()
	if e.lost == nil {
		e.lost = make(chan struct{})
		if isLoss(e.err) {
			e.lost = closed
		}
	}
	return e.lost
}

// Done returns a channel that is closed once, when the lease is over for any
// reason, Release and HandOver included.
func (l *Lease) Done() <-chan struct{} {
	e := l.lock()
	defer e.Unlock()
	if e.done == nil {
		e.done = make(chan struct{})
		if e.err != nil {
			e.done = closed
		}
	}
	return e.done
}

// Err returns nil while the lease is held. Afterwards it returns why the lease ended:
// [ErrReleased], [ErrHandedOver] or a [*LostError], which wraps [ErrLost] and says what was wrong
// at which node. It reads the clock, so it turns non-nil in time even if the goroutine that closes
// Lost is late. It never turns back.
func (l *Lease) Err() error {
	if l.Valid() {
		return nil
	}
	return l.reason()
}

// reason returns why a lease is over.
func (l *Lease) reason() error {
	e := l.lock()
	defer e.Unlock()
	return e.err
}

// cause returns the cause with which contexts of a lease that is over have ended.
func (l *Lease) cause() error {
	why := l.reason()
	if why == error(expired) {
		return unexplained{l}
	}
	return why
}

// Valid reports whether the lease is held at this instant. It reads the clock, never a flag: it is
// right in a process that was just continued after a pause. It is cheap (one reading of the clock).
// Ask it right before a write.
func (l *Lease) Valid() bool {
	for {
		until := l.until.Load()
		if until == over {
			return false
		}
		if int64(l.home.Clock.Now()) < until {
			return true
		}
		// What has been seen to be over stays over. Otherwise a renewal whose answer is being
		// handled right now would bring it back.
		if l.finish(expired, until) {
			l.endContexts()
			return false
		}
	}
}

// Remaining returns how long the nodes surely keep the lease if it is never renewed again; 0 once
// it is over. Lost closes earlier than that, by the grace.
func (l *Lease) Remaining() time.Duration {
	until := l.until.Load()
	if until == over {
		return 0
	}
	now := l.home.Clock.Now()
	if int64(now) >= until {
		return 0
	}
	return clock.Instant(until).Sub(now) + time.Duration(l.grace.Load())
}

// Context returns a context that ends with the lease, or with parent if that ends first. Its
// context.Cause then matches [Lease.Err] by errors.Is and errors.As, or is the parent's cause. With
// the same parent it returns the same context, so a holder may ask for one for each piece of work.
// Put what belongs to one piece of work alone, as values and timeouts, into a context that is
// derived from the one returned. What Context keeps is freed as soon as the parent is done, or the
// lease is over.
func (l *Lease) Context(parent context.Context) context.Context {
	l.Valid() // one that has expired unseen is over
	key := any(parent)
	if !reflect.TypeOf(parent).Comparable() || !reflect.ValueOf(parent).Comparable() {
		key = new(byte) // no other parent is known to be the same
	}
	all := l.toEnd().makeContexts()
	if c := all.get(key); c != nil && l.until.Load() != over {
		return c.ctx
	}
	c := &leaseContext{}
	c.ctx, c.cancel = context.WithCancelCause(context.WithValue(parent, contextKey{}, origin{l, parent}))
	all.Lock() // before AfterFunc: with a parent that is done it runs at once
	// The end of the lease reaches all that is kept here before it takes the lock. What comes later
	// sees that the lease is over.
	ended := l.until.Load() == over
	if first := all.of[key]; first != nil && !ended { // another goroutine has asked meanwhile
		all.Unlock()
		c.cancel(nil)
		return first.ctx
	}
	c.forget = context.AfterFunc(c.ctx, func() { all.forget(key, c) })
	if !ended {
		all.keep(key, c)
	}
	all.Unlock()
	if ended {
		c.end(l.cause())
	}
	return c.ctx
}

type contextKey struct{}

// An origin says what a lease's context was made from.
type origin struct {
	lease  *Lease
	parent context.Context
}

// originOf returns the origin of the context of l that is ctx, or that ctx was made from. A context
// of another lease may lie in between, if it was made from that of l.
func (l *Lease) originOf(ctx context.Context) (origin, bool) {
	for {
		o, ok := ctx.Value(contextKey{}).(origin)
		if !ok || o.lease == l {
			return o, ok
		}
		ctx = o.parent
	}
}

// FromContext returns the lease whose [Lease.Context] ctx was derived from, the innermost if there
// are several, or nil if there is none. The contexts of the functions that Do, Once, Lead and
// shards.Own run have one.
func FromContext(ctx context.Context) *Lease {
	o, _ := ctx.Value(contextKey{}).(origin)
	return o.lease
}

// Extend renews the lease at once, with the given TTL, which stays in force for the renewals to
// come. It waits until a quorum of nodes keeps the lease for that long, and then returns nil. A
// lease that renews itself has no need of it.
//
// If the lease is over, Extend returns [Lease.Err]. Any other error leaves the lease held. If ctx
// was done first, the error wraps ctx's, and the new TTL still applies to later renewals. Otherwise
// the error is about the TTL, and no node was asked: a TTL is at least 100 ms, at most the
// supervisor's MaxTTL, and not too short for the supervisor's other times.
func (l *Lease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := l.Err(); err != nil {
		return err
	}
	keeper := l.keeper()
	if keeper == nil {
		return nil
	}
	err := keeper.Extend(ctx, ttl)
	if err != nil && l.Err() != nil {
		err = l.Err() // it ended meanwhile
	}
	return err
}

// Release gives the name up: it closes Done, tells every node, and waits until a quorum of them is
// free of the name or the keys must have expired. Then it returns nil, and the name is free. The
// supervisor tells nodes that cannot be reached as soon as they can. If ctx is done before, Release
// returns a *supervisor.ReleaseError. It names the nodes that may keep the key, and says for how
// long at most. That error asks nothing of the caller: the supervisor still tells the nodes as soon
// as they can be reached, and its Close waits for that.
//
// A name that is to stay taken, see supervisor.WithMinHold, is not free then, but left. Release
// waits until a quorum has confirmed that, and the name is free when its time is over.
//
// A ctx that never ends, as context.Background(), bounds nothing. Then Release waits for a quarter
// of the TTL at most, which is as long as a node may take to answer. So nodes that are down do not
// hold up for longer a caller that merely defers Release. If ctx is done already, Release waits for
// 3 ms, in which nodes nearby can confirm it; they are told in any case. If ctx was made by
// [Lease.Context], it has just ended with the lease. Then its parent and its deadline bound the
// waiting instead.
//
// If the lease was released before, Release returns nil at once. If it was lost, Release returns at
// once an error that wraps [ErrLost] and says how; if it was handed over, [ErrHandedOver]. Neither
// asks anything of the caller.
func (l *Lease) Release(ctx context.Context) error {
	alive := ctx.Err() == nil
	l.Valid() // a lease that has expired is lost, not released
	if !l.finish(ErrReleased, over) {
		if err := l.reason(); err != ErrReleased {
			return err
		}
		return nil
	}
	l.endContexts()
	keeper := l.keeper()
	if keeper == nil {
		return nil
	}
	// Only a context that this release has just ended is replaced. A context that was detached from
	// the lease, or has ended for another reason, bounds the waiting as it is.
	if o, ok := l.originOf(ctx); ok && alive && context.Cause(ctx) == ErrReleased {
		if end, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(o.parent, end)
			defer cancel()
		} else {
			ctx = o.parent
		}
	}
	return keeper.Release(ctx)
}

// isLoss reports whether a lease that is over because of why has ended without its holder asking.
func isLoss(why error) bool { return why != nil && why != ErrReleased && why != ErrHandedOver }

// finish ends the lease, once, and reports whether this call did. Unless seen is over, it does
// nothing if the lease was renewed since until was read as seen. Its caller must still end the
// contexts that end with the lease: that calls code of their parents.
func (l *Lease) finish(why error, seen int64) bool {
	e := l.lock()
	defer e.Unlock()
	if e.err != nil {
		return false
	}
	if seen == over {
		l.until.Store(over)
	} else if !l.until.CompareAndSwap(seen, over) {
		return false
	}
	e.err = why
	if e.lost != nil && isLoss(why) {
		close(e.lost)
	}
	if e.done != nil {
		close(e.done)
	}
	return true
}
