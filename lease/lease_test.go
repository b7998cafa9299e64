package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
)

const (
	ttl   = 10 * time.Second
	grace = 500 * time.Millisecond
)

// held returns a lease that is held for ttl - grace by a clock that stands still.
func held(keeper Keeper) (*Lease, Control, *clocktest.Manual) {
	m := clocktest.NewManual(clock.Instant(time.Hour))
	l, c := New(Spec{
		Name: "n", Token: "me/1", Owner: "me", Fence: 7,
		Clock: m, Until: m.Now().Add(ttl - grace), Grace: grace, Keeper: keeper,
	})
	return l, c, m
}

// A keeper notes what it is asked, and answers err.
type keeper struct {
	err       error
	meanwhile func() // during Extend

	mu                sync.Mutex
	releases, extends int
	ctx               context.Context // of the last call
	asked             error           // its Err() then, of Release
	ttl               time.Duration
}

func (k *keeper) Release(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.releases++
	k.ctx, k.asked = ctx, ctx.Err()
	return k.err
}

func (k *keeper) Extend(ctx context.Context, ttl time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.extends++
	if k.meanwhile != nil {
		k.meanwhile()
	}
	k.ctx, k.ttl = ctx, ttl
	return k.err
}

func (k *keeper) Handle() Handle { return "handle" }

func (k *keeper) HandOver(ctx context.Context) (Handle, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ctx = ctx
	return "handle", k.err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWhatItSaysOfItself(t *testing.T) {
	l, c, _ := held(nil)
	if l.Name() != "n" || l.Token() != "me/1" || l.Owner() != "me" || l.Fence() != 7 {
		t.Errorf("%q %q %q %d", l.Name(), l.Token(), l.Owner(), l.Fence())
	}
	if c.Lease() != l {
		t.Error("Control.Lease is another lease")
	}
	if !l.Valid() || l.Err() != nil || l.Remaining() != ttl {
		t.Errorf("Valid %v, Err %v, Remaining %v: want a lease held for %v", l.Valid(), l.Err(), l.Remaining(), ttl)
	}
}

// Without a clock of its own a lease lives by the system's.
func TestDefaultClock(t *testing.T) {
	now := clock.System().Now()
	if l, _ := New(Spec{Until: now.Add(time.Hour)}); !l.Valid() {
		t.Error("a lease that ends in an hour is not valid")
	}
	if l, _ := New(Spec{Until: now}); l.Valid() {
		t.Error("a lease that has ended is valid")
	}
}

// The end of a lease is told the same, whether its channels were asked for before
// or are only now.
func TestEnd(t *testing.T) {
	for _, why := range []error{ErrReleased, ErrHandedOver, ErrExpired, ErrRevoked, ErrTaken, ErrPaused, ErrMaxHold, ErrClosed} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/asked before %v", why, before), func(t *testing.T) {
				l, c, _ := held(nil)
				var lost, done <-chan struct{}
				if before {
					lost, done = l.Lost(), l.Done()
					if isClosed(lost) || isClosed(done) {
						t.Fatal("a channel of a held lease is closed")
					}
				} else if l.ends.Load() != nil {
					t.Fatal("a channel was made that nobody asked for")
				}
				if !c.End(why) {
					t.Fatal("End = false on a held lease")
				}
				if before && (l.Lost() != lost || l.Done() != done) {
					t.Error("a second call returns another channel")
				}
				loss := why != ErrReleased && why != ErrHandedOver
				if got, want := isClosed(l.Lost()), loss; got != want {
					t.Errorf("Lost closed %v, want %v", got, want)
				}
				if !isClosed(l.Done()) {
					t.Error("Done is open")
				}
				if l.Err() != why || errors.Is(l.Err(), ErrLost) != loss {
					t.Errorf("Err = %v, want %v", l.Err(), why)
				}
				if l.Valid() || l.Remaining() != 0 {
					t.Errorf("Valid %v, Remaining %v", l.Valid(), l.Remaining())
				}

				// Once and for ever: closing a channel again would panic.
				if c.End(ErrTaken) || c.Renewed(clock.Never, grace) {
					t.Error("what is over was ended or renewed again")
				}
				if l.Err() != why {
					t.Errorf("Err = %v after a second End, want %v", l.Err(), why)
				}
			})
		}
	}
}

// Err and Valid turn at the very instant, although nobody has ended the lease.
func TestErrReadsTheClock(t *testing.T) {
	for name, ask := range map[string]func(*Lease) bool{
		"Err":   func(l *Lease) bool { return l.Err() == nil },
		"Valid": (*Lease).Valid,
	} {
		t.Run(name, func(t *testing.T) {
			l, c, m := held(nil)
			lost := l.Lost()
			m.Advance(ttl - grace - 1)
			if !ask(l) || l.Remaining() != grace+1 {
				t.Fatalf("over a nanosecond early, Remaining %v", l.Remaining())
			}
			m.Advance(1)
			if l.Remaining() != 0 {
				t.Errorf("Remaining = %v at the end", l.Remaining())
			}
			if ask(l) {
				t.Fatal("held at the instant of its end")
			}
			if !isClosed(lost) || !isClosed(l.Done()) || !errors.Is(l.Err(), ErrExpired) {
				t.Errorf("what was seen to be over is not: Err %v", l.Err())
			}
			if c.Renewed(m.Now().Add(ttl), grace) || l.Valid() {
				t.Error("a lease came back that was seen to be over")
			}
			if c.End(ErrRevoked) || !errors.Is(l.Err(), ErrExpired) {
				t.Errorf("the reason changed to %v", l.Err())
			}
		})
	}
}

func TestRenewed(t *testing.T) {
	l, c, m := held(nil)
	m.Advance(3 * time.Second)
	if !c.Renewed(m.Now().Add(20*time.Second), time.Second) {
		t.Fatal("Renewed = false on a held lease")
	}
	if l.Remaining() != 21*time.Second {
		t.Errorf("Remaining = %v, want 21s", l.Remaining())
	}
	// A shorter promise counts as well.
	if !c.Renewed(m.Now().Add(time.Second), grace) {
		t.Fatal("Renewed = false on a held lease")
	}
	m.Advance(time.Second)
	if !errors.Is(l.Err(), ErrExpired) {
		t.Errorf("Err = %v, want ErrExpired", l.Err())
	}
}

// A renewal that comes while somebody is just finding the lease to be over has won:
// its caller was told so, and the lease goes on.
func TestRenewedWhileSeenToBeOver(t *testing.T) {
	m := &hooked{Manual: clocktest.NewManual(clock.Instant(time.Hour))}
	l, c := New(Spec{Clock: m, Until: m.Now().Add(ttl), Grace: grace})
	m.Advance(ttl)
	m.hook = func() {
		if !c.Renewed(m.Manual.Now().Add(ttl), grace) {
			t.Error("Renewed = false before anybody has seen the end")
		}
	}
	if !l.Valid() || l.Err() != nil || isClosed(l.Done()) {
		t.Errorf("Err = %v after a renewal", l.Err())
	}
}

// A hooked clock calls hook when it is read next.
type hooked struct {
	*clocktest.Manual
	hook func()
}

func (h *hooked) Now() clock.Instant {
	if hook := h.hook; hook != nil {
		h.hook = nil
		hook()
	}
	return h.Manual.Now()
}

func TestRelease(t *testing.T) {
	type ctxKey struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), ctxKey{}, 1))
	cancel() // it works although ctx is done

	k := &keeper{err: errors.New("no quorum")}
	l, _, _ := held(k)
	lost := l.Lost()
	if err := l.Release(ctx); err != k.err {
		t.Errorf("Release = %v, want the keeper's %v", err, k.err)
	}
	if k.ctx != ctx {
		t.Error("the keeper did not get the caller's context")
	}
	if isClosed(lost) || !isClosed(l.Done()) || l.Err() != ErrReleased {
		t.Errorf("Lost closed %v, Done closed %v, Err %v", isClosed(lost), isClosed(l.Done()), l.Err())
	}
	for range 2 {
		if err := l.Release(ctx); err != nil {
			t.Errorf("Release once more = %v, want nil", err)
		}
	}
	if n := k.releases; n != 1 {
		t.Errorf("the keeper was asked %d times, want once", n)
	}
	if isClosed(l.Lost()) {
		t.Error("Lost closed after Release")
	}

	l, _, _ = held(nil)
	if err := l.Release(ctx); err != nil {
		t.Errorf("Release without a keeper = %v", err)
	}
}

// The keeper finds the lease over already: Done is closed before any node is told.
func TestReleaseEndsFirst(t *testing.T) {
	var l *Lease
	over := false
	l, _, _ = held(keeperFunc(func() { over = isClosed(l.Done()) && !l.Valid() }))
	if err := l.Release(context.Background()); err != nil || !over {
		t.Errorf("Release = %v, over when the keeper was asked: %v", err, over)
	}
}

type keeperFunc func()

func (f keeperFunc) Release(context.Context) error               { f(); return nil }
func (f keeperFunc) Extend(context.Context, time.Duration) error { f(); return nil }
func (f keeperFunc) Handle() Handle                              { return "" }
func (f keeperFunc) HandOver(context.Context) (Handle, error)    { return "", nil }

func TestReleaseOfALostLease(t *testing.T) {
	k := &keeper{}
	l, c, _ := held(k)
	c.End(ErrTaken)
	if err := l.Release(context.Background()); err != ErrTaken {
		t.Errorf("Release = %v, want ErrTaken", err)
	}

	// One that has expired is lost too, though nobody has noticed yet.
	l, _, m := held(k)
	m.Advance(ttl)
	if err := l.Release(context.Background()); !errors.Is(err, ErrExpired) {
		t.Errorf("Release = %v, want ErrExpired", err)
	}
	if !isClosed(l.Lost()) {
		t.Error("Lost is open")
	}
	if n := k.releases; n != 0 {
		t.Errorf("the keeper of a lost lease was asked %d times", n)
	}
}

func TestExtend(t *testing.T) {
	k := &keeper{err: errors.New("no quorum")}
	l, c, _ := held(k)
	if err := l.Extend(t.Context(), time.Minute); err != k.err {
		t.Errorf("Extend = %v, want the keeper's %v", err, k.err)
	}
	if k.ttl != time.Minute || k.ctx != t.Context() {
		t.Errorf("the keeper got %v", k.ttl)
	}
	if !l.Valid() {
		t.Error("a failed extension ended the lease")
	}
	c.End(ErrRevoked)
	if err := l.Extend(t.Context(), time.Minute); err != ErrRevoked {
		t.Errorf("Extend of a lost lease = %v, want ErrRevoked", err)
	}
	if n := k.extends; n != 1 {
		t.Errorf("the keeper was asked %d times, want once", n)
	}

	l, _, m := held(nil)
	if err := l.Extend(t.Context(), time.Minute); err != nil {
		t.Errorf("Extend without a keeper = %v", err)
	}
	m.Advance(ttl)
	if err := l.Extend(t.Context(), time.Minute); !errors.Is(err, ErrExpired) {
		t.Errorf("Extend of an expired lease = %v, want ErrExpired", err)
	}
}

// A caller that extends a lease that ends meanwhile is told how it ended.
func TestExtendAndEnd(t *testing.T) {
	for _, why := range []error{ErrReleased, ErrHandedOver, ErrTaken} {
		k := &keeper{err: ErrLost}
		l, c, _ := held(k)
		k.meanwhile = func() { c.End(why) }
		if err := l.Extend(t.Context(), time.Minute); err != why {
			t.Errorf("Extend = %v, want %v", err, why)
		}
	}
}

// A lease is handed over by its keeper, and no handle is given for one that is over.
func TestHandOver(t *testing.T) {
	k := &keeper{}
	l, c, _ := held(k)
	if h := l.Handle(); h != "handle" || !l.Valid() {
		t.Errorf("Handle = %q, Err %v", h, l.Err())
	}
	if h, err := l.HandOver(t.Context()); h != "handle" || err != nil || k.ctx != t.Context() {
		t.Errorf("HandOver = %q, %v", h, err)
	}
	c.End(ErrHandedOver) // as the keeper would have done
	if h := l.Handle(); h != "" {
		t.Errorf("Handle = %q of a lease that was handed over", h)
	}
	if h, err := l.HandOver(t.Context()); h != "" || err != ErrHandedOver {
		t.Errorf("HandOver once more = %q, %v", h, err)
	}
	if err := l.Release(t.Context()); err != ErrHandedOver || k.releases != 0 {
		t.Errorf("Release = %v, and the keeper was asked %d times", err, k.releases)
	}

	l, _, _ = held(nil)
	if h := l.Handle(); h != "" {
		t.Errorf("Handle without a keeper = %q", h)
	}
	if h, err := l.HandOver(t.Context()); h != "" || err != nil || l.Err() != ErrHandedOver {
		t.Errorf("HandOver without a keeper = %q, %v; Err %v", h, err, l.Err())
	}
}

func TestContextEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type ctxKey struct{}
		parent := context.WithValue(context.Background(), ctxKey{}, "value")
		for _, why := range []error{ErrReleased, ErrTaken} {
			l, c, _ := held(nil)
			ctx := l.Context(parent)
			if ctx.Err() != nil || ctx.Value(ctxKey{}) != "value" {
				t.Fatalf("Err %v, value %v", ctx.Err(), ctx.Value(ctxKey{}))
			}
			c.End(why)
			late := l.Context(parent)
			for name, ctx := range map[string]context.Context{"made before": ctx, "made afterwards": late} {
				<-ctx.Done()
				if ctx.Err() != context.Canceled || context.Cause(ctx) != why {
					t.Errorf("%s: Err %v, cause %v; want the cause %v", name, ctx.Err(), context.Cause(ctx), why)
				}
			}
			if parent.Err() != nil {
				t.Error("the parent ended as well")
			}
			synctest.Wait()
			if n := l.keptContexts(); n != 0 {
				t.Errorf("%d contexts are kept by a lease that is over", n)
			}
		}
	})
}

func TestContextEndsWhenExpiryIsSeen(t *testing.T) {
	l, _, m := held(nil)
	ctx := l.Context(context.Background())
	m.Advance(ttl)
	l.Valid()
	if !errors.Is(context.Cause(ctx), ErrExpired) {
		t.Errorf("cause %v, want ErrExpired", context.Cause(ctx))
	}
}

func TestContextEndsWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := held(nil)
		why := errors.New("shutting down")
		done, end := context.WithCancelCause(context.Background())
		end(why)
		late := l.Context(done)
		if context.Cause(late) != why {
			t.Errorf("with a parent that is done: cause %v, want %v", context.Cause(late), why)
		}

		// A holder may ask for a context for each piece of work: one is kept for each
		// parent, and no longer than that lives.
		parent, end := context.WithCancelCause(context.Background())
		ctx := l.Context(parent)
		for range 100 {
			if l.Context(parent) != ctx {
				t.Error("the same parent has got another context")
			}
			l.Context(context.WithValue(parent, contextKey{}, 1))
			l.Context(listContext{parent})
		}
		synctest.Wait()
		if n := l.keptContexts(); n != 201 {
			t.Errorf("%d contexts are kept, want 201", n)
		}
		end(why)
		synctest.Wait()
		if context.Cause(ctx) != why {
			t.Errorf("cause %v, want the parent's %v", context.Cause(ctx), why)
		}
		if n := l.keptContexts(); n != 0 {
			t.Errorf("%d contexts are kept of parents that are done", n)
		}
		if !l.Valid() {
			t.Error("the end of a parent ended the lease")
		}
		c.End(ErrTaken)
		if context.Cause(ctx) != why {
			t.Errorf("cause %v after the lease ended too, want %v still", context.Cause(ctx), why)
		}
	})
}

// A listContext cannot be compared.
type listContext []context.Context

func (c listContext) Deadline() (time.Time, bool) { return c[0].Deadline() }
func (c listContext) Done() <-chan struct{}       { return c[0].Done() }
func (c listContext) Err() error                  { return c[0].Err() }
func (c listContext) Value(key any) any           { return c[0].Value(key) }

// The goroutine that ends a lease runs no code of its holder's: that of a context's parent may wait for
// whatever it likes.
func TestEndRunsNothingOfOthers(t *testing.T) {
	l, c, _ := held(nil)
	parent := &slowContext{Context: context.Background(), asked: make(chan struct{}), wait: make(chan struct{})}
	ctx := l.Context(parent)
	parent.slow.Store(true)
	lost := l.Lost()
	if !c.End(ErrTaken) {
		t.Fatal("not ended")
	}
	<-lost
	<-parent.asked
	close(parent.wait)
	<-ctx.Done()
	if context.Cause(ctx) != ErrTaken {
		t.Error(context.Cause(ctx))
	}
}

// A slowContext is asked for its channel when a child of it ends, and takes its time.
type slowContext struct {
	context.Context
	slow  atomic.Bool
	asked chan struct{}
	wait  chan struct{}
}

func (c *slowContext) Done() <-chan struct{} {
	if c.slow.CompareAndSwap(true, false) {
		close(c.asked)
		<-c.wait
	}
	return c.Context.Done()
}

func (l *Lease) keptContexts() int {
	all := l.toEnd().makeContexts()
	all.Lock()
	defer all.Unlock()
	return len(all.of)
}

func TestFromContext(t *testing.T) {
	if l := FromContext(context.Background()); l != nil {
		t.Errorf("FromContext of none = %v", l)
	}
	outer, c1, _ := held(nil)
	inner, c2, _ := held(nil)
	defer c1.End(ErrReleased)
	defer c2.End(ErrReleased)
	ctx := outer.Context(context.Background())
	nested, cancel := context.WithCancel(inner.Context(ctx))
	defer cancel()
	if FromContext(ctx) != outer || FromContext(nested) != inner {
		t.Error("want the innermost lease")
	}
}

// Asking a lease whether it is held is what a holder does before each write.
func TestAskingAllocatesNothing(t *testing.T) {
	l, c, m := held(nil)
	if n := testing.AllocsPerRun(100, func() {
		l.Valid()
		_ = l.Err()
		l.Remaining()
		c.Renewed(m.Now().Add(ttl), grace)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Everybody does everything at once. The first one decides, and from then on all
// see the same end.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for round := range 200 {
			k := &keeper{}
			l, c, m := held(k)
			var wg sync.WaitGroup
			ends := make(chan error, 3)
			seen := make(chan error, 4)
			for _, why := range []error{ErrTaken, ErrRevoked} {
				wg.Go(func() {
					if c.End(why) {
						ends <- why
					}
				})
			}
			if round%2 == 0 {
				wg.Go(func() { m.Advance(ttl) })
			}
			wg.Go(func() { _ = l.Release(context.Background()) })
			wg.Go(func() {
				for range 10 {
					c.Renewed(m.Now().Add(ttl), grace)
				}
			})
			for range 2 {
				wg.Go(func() {
					lost, done := l.Lost(), l.Done()
					ctx := l.Context(context.Background())
					<-done
					if err := l.Err(); err == nil {
						seen <- errors.New("Done is closed and Err nil")
					} else if <-ctx.Done(); !errors.Is(context.Cause(ctx), err) {
						seen <- fmt.Errorf("the context's cause is %v, Err %v", context.Cause(ctx), err)
					} else if isClosed(lost) != errors.Is(err, ErrLost) {
						seen <- fmt.Errorf("Lost closed %v, Err %v", isClosed(lost), err)
					}
				})
				wg.Go(func() {
					over := false
					for range 100 {
						valid := l.Valid()
						if valid && over {
							seen <- errors.New("a lease came back")
							return
						}
						over = !valid
						l.Remaining()
						_ = l.Extend(context.Background(), ttl)
					}
				})
			}
			wg.Wait()
			close(ends)
			close(seen)
			for err := range seen {
				t.Errorf("round %d: %v", round, err)
			}
			n := 0
			for why := range ends {
				n++
				if l.Err() != why {
					t.Errorf("round %d: Err = %v, but End(%v) was first", round, l.Err(), why)
				}
			}
			if released := k.releases; n+released > 1 {
				t.Errorf("round %d: ended %d times, and released %d times", round, n, released)
			}
			synctest.Wait() // two may end the contexts at once, and the map goes last
			if l.until.Load() != math.MinInt64 || l.keptContexts() != 0 {
				t.Errorf("round %d: not over, or contexts left: %d", round, l.keptContexts())
			}
		}
	})
}

// A holder who is the first to see that the lease has expired ends its contexts. Their cause
// names the nodes as soon as these are known, and is the same kind of end before.
func TestCauseIsExplained(t *testing.T) {
	l, c, m := held(nil)
	contexts := []context.Context{l.Context(t.Context())}
	m.Advance(ttl)
	if l.Valid() {
		t.Fatal("valid")
	}
	contexts = append(contexts, l.Context(context.Background()))
	var lost *LostError
	for _, ctx := range contexts {
		<-ctx.Done()
		if why := context.Cause(ctx); !errors.Is(why, ErrExpired) || errors.Is(why, ErrReleased) || !errors.As(why, &lost) || why.Error() != ErrExpired.Error() {
			t.Errorf("at first: %v", why)
		}
	}
	c.End(&LostError{ErrExpired, []NodeReason{{"a:6379", errors.New("no answer")}}})
	contexts = append(contexts, l.Context(t.Context()))
	for _, ctx := range contexts {
		if why := context.Cause(ctx); !errors.Is(why, ErrExpired) || !errors.As(why, &lost) || len(lost.Nodes) != 1 || jsonOf(why) != jsonOf(l.Err()) {
			t.Errorf("after the supervisor has said why: %v, Err %v", why, l.Err())
		}
	}
}

func jsonOf(err error) string {
	b, _ := json.Marshal(err)
	return string(b)
}

// A context that was made of the lease, and has ended with it, is replaced by its parent and
// its deadline; whatever else the caller gives is what bounds the waiting.
func TestContextOfRelease(t *testing.T) {
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, c := range map[string]struct {
		of       func(held context.Context) context.Context
		done     bool // when Release asks its keeper
		deadline bool
		itself   bool
	}{
		"of the lease": {of: func(ctx context.Context) context.Context { return ctx }},
		"of the lease, with a deadline": {of: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			t.Cleanup(cancel)
			return ctx
		}, deadline: true},
		"detached, with a deadline": {of: func(ctx context.Context) context.Context {
			cancel()
			ctx, end := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
			t.Cleanup(end)
			return ctx
		}, deadline: true, itself: true},
		"ended before": {of: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx
		}, done: true, itself: true},
	} {
		k := &keeper{}
		l, _, _ := held(k)
		p := parent
		if name != "detached, with a deadline" {
			p = context.Background()
		}
		ctx := c.of(l.Context(p))
		if err := l.Release(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, deadline := k.ctx.Deadline()
		if (k.asked != nil) != c.done || deadline != c.deadline || (k.ctx == ctx) != c.itself {
			t.Errorf("%s: asked with a context whose Err() is %v, deadline %v, the caller's %v", name, k.asked, deadline, k.ctx == ctx)
		}
	}
}

// What is kept for a great many contexts is freed with the last of them, and not only with the
// lease.
func TestManyContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := held(nil)
		stays, end := context.WithCancel(context.Background())
		defer end()
		l.Context(stays)
		all, endAll := context.WithCancel(context.Background())
		for i := range 10_000 {
			l.Context(context.WithValue(all, contextKey{}, i))
		}
		endAll()
		synctest.Wait()
		kept := l.toEnd().makeContexts()
		if len(kept.of) != 1 || kept.most > 64 {
			t.Errorf("%d contexts are kept, in a map for %d", len(kept.of), kept.most)
		}
		if ctx := l.Context(stays); ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		c.End(ErrTaken)
		synctest.Wait()
		if n := l.keptContexts(); n != 0 {
			t.Errorf("%d contexts are kept by a lease that is over", n)
		}
	})
}

// The goroutine that ends a lease does not wait for those that are forgetting contexts.
func TestEndWaitsForNoContext(t *testing.T) {
	l, c, _ := held(nil)
	ctx := l.Context(context.Background())
	all := l.toEnd().makeContexts()
	all.Lock() // as they do
	ended := make(chan bool, 1)
	go func() { ended <- c.End(ErrTaken) }()
	select {
	case ok := <-ended:
		if !ok {
			t.Error("not ended")
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
	}
	all.Unlock()
	<-ctx.Done()
}

// A context that is made while the lease ends has ended, and none is kept.
func TestContextWhileItEnds(t *testing.T) {
	for range 1000 {
		l, c, _ := held(nil)
		parent, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { c.End(ErrRevoked) })
		wg.Go(func() {
			ctx := l.Context(parent)
			<-ctx.Done()
			if context.Cause(ctx) != ErrRevoked {
				t.Error(context.Cause(ctx))
			}
		})
		wg.Wait()
		l.endContexts()
		if n := l.keptContexts(); n != 0 {
			t.Fatalf("%d contexts are kept", n)
		}
		cancel()
	}
}

// A context of a lease may have been made of one of another lease.
func TestContextOfNestedLeases(t *testing.T) {
	k := &keeper{}
	outer, _, _ := held(k)
	inner, _, _ := held(&keeper{})
	ctx, cancel := context.WithTimeout(inner.Context(outer.Context(context.Background())), time.Hour)
	defer cancel()
	if err := outer.Release(ctx); err != nil || k.asked != nil {
		t.Errorf("%v: asked with a context whose Err() is %v", err, k.asked)
	}
	if _, ok := k.ctx.Deadline(); !ok {
		t.Error("the deadline was dropped")
	}

	// One that has ended with another lease has not ended because of this one.
	k = &keeper{}
	outer, _, _ = held(k)
	inner, _, _ = held(&keeper{})
	ended := inner.Context(outer.Context(context.Background()))
	if err := inner.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := outer.Release(ended); err != nil || k.ctx != ended {
		t.Errorf("%v: asked with %v", err, k.ctx)
	}
}

// A lease asks its home for its keeper, by its own ID; a home may have none.
func TestLeaseOfAHome(t *testing.T) {
	var asked []uint64
	home := &Home{Clock: clock.System(), Keeper: func(id uint64) Keeper {
		asked = append(asked, id)
		return nil
	}}
	for id := range uint64(2) {
		l, _ := New(Spec{Until: clock.Never, Home: home, ID: id + 7})
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if len(asked) != 2 || asked[0] != 7 || asked[1] != 8 {
		t.Errorf("asked for the keepers of %v", asked)
	}
	l, _ := New(Spec{Until: clock.Never, Home: &Home{Clock: clock.System()}})
	if err := l.Extend(t.Context(), time.Second); err != nil || !l.Valid() {
		t.Errorf("%v, valid %v", err, l.Valid())
	}
}
