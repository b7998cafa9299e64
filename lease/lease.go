// Package lease is what the holder of a name has in hand: a [Lease], which says
// whether the name is still held, and ends once and for ever.
//
// A lease is obtained from a supervisor (package supervisor). It does no IO of its
// own, costs no goroutine, and makes its channels when they are first asked for.
//
// # What a lease does not promise
//
// A process can be paused between asking [Lease.Valid] and the moment at which
// its write lands, by its scheduler, its garbage collector or its hypervisor. No
// lease can prevent that late write; only the resource can refuse it. Pass
// [Lease.Fence] along with every write, and let the resource advance its own mark
// before it reads.
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

// Why a lease is over. Test with errors.Is: everything but [ErrReleased] and
// [ErrHandedOver] is [ErrLost].
var (
	// ErrReleased: the holder gave the name back.
	ErrReleased = errors.New("lease: released")

	// ErrHandedOver: the holder handed the lease over, and the process that adopts its
	// handle goes on with the name. Stop the work, as after a release.
	ErrHandedOver = errors.New("lease: handed over")

	// ErrLost: the lease ended without its holder asking. Stop the work; somebody
	// else may start. The lease does not come back: acquire the name again.
	ErrLost = errors.New("lease: lost")

	// ErrExpired: no quorum of nodes renewed it in time, by the clock of this process.
	// It alone leaves the configured grace to stop in.
	ErrExpired = fmt.Errorf("%w: not renewed in time", ErrLost)

	// ErrForgotten: it has expired because most of its nodes have lost their data: they were
	// restarted without it, or flushed. It wraps [ErrExpired]. If the guard is off, others may
	// hold the name already.
	ErrForgotten error = forgottenError{}

	// ErrRevoked: so many nodes do not have the key any more that no quorum keeps it. On most of
	// these it was deleted; where no guard tells a flush, the data may have been flushed.
	ErrRevoked = fmt.Errorf("%w: revoked: its key is gone from too many nodes", ErrLost)

	// ErrTaken: so many nodes keep another value that no quorum keeps this one; on up to half of
	// these the key was deleted instead. Another process may have adopted its handle, or another
	// client have overwritten the key.
	ErrTaken = fmt.Errorf("%w: taken: too many nodes keep another value, or none", ErrLost)

	// ErrPaused: the clocks of a quorum of nodes have run away from this process's, as
	// where its machine was paused by a hypervisor. The keys have aged meanwhile, so
	// others may have the name already: there is no grace left.
	ErrPaused = fmt.Errorf("%w: the nodes' clocks ran away from ours", ErrLost)

	// ErrMaxHold: it reached the longest time that its holder had asked for.
	ErrMaxHold = fmt.Errorf("%w: held for its maximum", ErrLost)

	// ErrClosed: the supervisor that kept it was closed. It is also supervisor.ErrClosed.
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

// Is reports whether target is of an acquisition that failed for the same reason.
func (closedError) Is(target error) bool {
	t, ok := target.(interface{ Closed() bool })
	return ok && t.Closed()
}

// A Lease is one tenure of one name. All methods may be called from any goroutine.
// Release, Extend and HandOver wait for a quorum of nodes, or for their context, see each; Handle
// waits for the supervisor, which waits for nobody; the others return at once.
type Lease struct {
	name  string
	token hidden // and the owner
	fence uint64
	home  *Home
	id    uint64 // there

	// until is the instant at which the lease is lost unless it is renewed, or
	// over. Only a holder of ends sets it to over, together with err; a renewal moves
	// it by compare-and-swap, so that a lease which was seen to have ended never
	// comes back.
	until atomic.Int64
	grace atomic.Int64 // how much longer the nodes keep it

	ends atomic.Pointer[ends] // nil until somebody wants to be told of its end, or that has come
}

// ends are who is to be told that a lease is over.
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
		e = l.ends.Load() // somebody else may have been first
	}
	return e
}

// lock returns ends, locked.
func (l *Lease) lock() *ends {
	e := l.toEnd()
	e.Lock()
	return e
}

// keeper returns who does for the lease what costs IO, or nil.
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

// Token returns the value that stands under the name on the nodes. Whoever knows it can
// delete the key, so treat it as the lease itself.
func (l *Lease) Token() Token { return l.token.token() }

// Owner returns whom others are shown as the holder.
func (l *Lease) Owner() string { return l.token.ownerName() }

// Fence returns the fencing token: it grows strictly from each tenure of a name
// to the next. A resource that remembers the largest fence it has seen, and
// advances that mark before it reads, refuses a holder that was replaced.
func (l *Lease) Fence() uint64 { return l.fence }

// Lost returns a channel that is closed once, when the lease has ended without
// its holder asking: a quorum of nodes no longer keeps it, or can no longer be
// shown to. If the lease was not renewed in time ([ErrExpired]), it is closed at least
// the configured grace before another client can hold the name, as far as this process's
// scheduler allows. With any other reason there is no grace: others may hold the name
// already, or from now on. A holder that must be certain asks [Lease.Valid] right before
// it writes. It stays open after Release and HandOver.
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

// Err returns nil while the lease is held, and why it ended afterwards: a [*LostError], which
// wraps [ErrLost] and tells what was wrong at which node; or [ErrReleased], or [ErrHandedOver].
// It reads the clock, so it turns non-nil in time even if the goroutine that closes Lost is
// late, and never turns back.
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

// cause returns why contexts of a lease that is over have ended.
func (l *Lease) cause() error {
	why := l.reason()
	if why == error(expired) {
		return unexplained{l}
	}
	return why
}

// Valid reports whether the lease is held at this instant. It reads the clock,
// never a flag: it is right in a process that was just continued after a pause.
// It is cheap (one reading of the clock); ask it right before a write.
func (l *Lease) Valid() bool {
	for {
		until := l.until.Load()
		if until == over {
			return false
		}
		if int64(l.home.Clock.Now()) < until {
			return true
		}
		// What has been seen to be over stays over: else a renewal whose answer
		// is being taken in right now would bring it back.
		if l.finish(expired, until) {
			l.endContexts()
			return false
		}
	}
}

// Remaining returns for how long the nodes keep the lease even if it is never
// renewed again; 0 once it is over. Lost closes the grace before that.
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

// Context returns a context that ends with the lease, or with parent if that ends
// first. Its context.Cause is then what [Lease.Err] is, to errors.Is and errors.As, or the
// parent's cause. With the same parent it returns the same context, so a holder may ask for
// one for each piece of work. What is kept for it is freed as soon as the parent is done, or
// the lease over: values that are of one piece of work belong to a context that is made of the
// one returned.
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
	// The end of the lease comes to all that is kept here before it takes the lock, and what
	// comes later sees that it is over.
	ended := l.until.Load() == over
	if first := all.of[key]; first != nil && !ended { // somebody else has asked meanwhile
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

// An origin is what a lease's context was made from.
type origin struct {
	lease  *Lease
	parent context.Context
}

// originOf returns what a context of l was made from that ctx is, or was made from. It may be
// a context of another lease, which that was given.
func (l *Lease) originOf(ctx context.Context) (origin, bool) {
	for {
		o, ok := ctx.Value(contextKey{}).(origin)
		if !ok || o.lease == l {
			return o, ok
		}
		ctx = o.parent
	}
}

// FromContext returns the lease that ctx was made from with [Lease.Context], or
// nil: the innermost, if there are several.
func FromContext(ctx context.Context) *Lease {
	o, _ := ctx.Value(contextKey{}).(origin)
	return o.lease
}

// Extend renews the lease at once, with the given TTL, which stays in force for
// the renewals to come. It returns nil when a quorum of nodes keeps the lease for
// that long, and what [Lease.Err] does when the lease is over. With any other error it is
// held: one about the TTL, before any node was asked, if that is less than 100 ms, more
// than the supervisor's MaxTTL, or too short for its other times; or ctx's, and then the
// new TTL stays in force nevertheless. It waits for a quorum or for ctx. A lease that
// renews itself has no need of it.
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

// Release gives the name up: Done is closed, then every node is told, and Release waits until
// a quorum is free. It uses the time that ctx gives: nodes that cannot be reached are told as
// soon as they can, until ctx is done, or until the keys must have expired. It returns nil if
// the name is free: a quorum has confirmed it, or the keys have expired. If ctx is done before, the
// error names the nodes that may keep the key, and says for how long at most. It asks nothing
// of the caller: the nodes are told as soon as they can be reached, and Close of the supervisor
// waits for that. A name that is to stay taken, see supervisor.WithMinHold, is left instead, and
// free when that time is over: what is said of the key here is said of that.
//
// A ctx that never ends, as context.Background(), bounds nothing. So Release waits for a quarter of
// the TTL then, which is as long as a node may take to answer: a caller that merely defers
// it is not held up for longer by nodes that are down. A ctx that is done already is given a
// moment, 3 ms, in which nodes nearby can confirm the release; they are told in any case. A
// context that was made by [Lease.Context], and so has just ended with the lease, is no bound: its
// parent and its deadline are.
//
// It returns nil at once if the lease was released before. On a lost lease it returns at once and
// says how it was lost (an error that wraps [ErrLost]), and on one that was handed over
// [ErrHandedOver]: informational, nothing is left to do.
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
	// Only a context that this release has just ended is replaced. One that was detached from
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

// isLoss reports whether a lease that is over because of why has ended without its
// holder asking.
func isLoss(why error) bool { return why != nil && why != ErrReleased && why != ErrHandedOver }

// finish ends the lease, once, and reports whether it was this call that did.
// Unless seen is over, it does nothing if the lease was renewed since until was
// read as seen. The contexts that end with the lease are still to be ended: that calls code
// of their parents.
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
