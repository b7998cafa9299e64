package supervisor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Every call is answered, and forgotten then, whether its caller waits or has gone.
func TestCallsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		defer func() {
			for _, n := range nodes {
				n.Close()
			}
		}()
		s, err := New(Config{Nodes: nodetest.Conns(nodes), TTL: time.Second, MaxTTLCap: time.Second, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		acquire := func() *lease.Lease {
			t.Helper()
			l, err := s.Acquire(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		for what, do := range map[string]func(l *lease.Lease){
			"Acquire": func(*lease.Lease) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				_, _ = s.Acquire(ctx, "x")
			},
			"TryAcquire":            func(*lease.Lease) { _, _ = s.TryAcquire(t.Context(), "x") },
			"Adopt":                 func(l *lease.Lease) { _, _ = s.Adopt(t.Context(), l.Handle()) },
			"Extend":                func(l *lease.Lease) { _ = l.Extend(t.Context(), time.Second) },
			"Extend, and gone":      func(l *lease.Lease) { _ = l.Extend(gone, time.Second) },
			"Inspect":               func(*lease.Lease) { _, _ = s.Inspect(t.Context(), "x") },
			"Inspect, and gone":     func(*lease.Lease) { _, _ = s.Inspect(gone, "x") },
			"Revoke":                func(l *lease.Lease) { _ = s.Revoke(t.Context(), "y", l.Token()) },
			"HandOver, and gone":    func(l *lease.Lease) { _, _ = l.HandOver(gone) },
			"HandOver, and release": func(l *lease.Lease) { go func() { _, _ = l.HandOver(t.Context()) }() },
			"Release, and gone":     func(l *lease.Lease) { _ = l.Release(gone) },
		} {
			l := acquire()
			do(l)
			_ = l.Release(t.Context())
			time.Sleep(time.Second) // until all nodes have answered
			left := 0
			s.read(func(*core.Core) { left = s.calls.len() })
			if left != 0 {
				t.Errorf("%s: %d calls are remembered", what, left)
			}
		}
		acquire()
		go func() { _, _ = s.Acquire(context.Background(), "x") }()
		go func() { _, _ = s.TryAcquire(context.Background(), "x") }()
		synctest.Wait()
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := s.calls.len(); n != 0 {
			t.Errorf("Close has left %d calls", n)
		}
	})
}

// Very many may give up at once: all of them are told, a piece at a time, and those of one
// name by one error.
func TestManyGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		defer func() {
			for _, n := range nodes {
				n.Close()
			}
		}()
		s, err := New(Config{Nodes: nodetest.Conns(nodes), TTL: time.Second, MaxTTLCap: time.Second, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		if _, err := s.Acquire(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		const callers = 3*maxGiveUps + 1
		ctx, giveUp := context.WithCancel(t.Context())
		errs := make(chan error, callers)
		for range callers {
			go func() {
				_, err := s.Acquire(ctx, "x")
				errs <- err
			}()
		}
		synctest.Wait()
		giveUp()
		same := make(map[error]int)
		for range callers {
			same[<-errs]++
		}
		if len(same) != 1 {
			t.Errorf("%d callers were told by %d errors", callers, len(same))
		}
		for err := range same {
			if !errors.Is(err, ErrHeld) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		g := giveUps{some: make(chan struct{}, 1)}
		for range callers {
			g.add(&call{}, context.Canceled)
		}
		heard := 0
		for len(g.some) > 0 {
			<-g.some
			n := len(g.take(nil))
			if heard += n; n > maxGiveUps {
				t.Errorf("the loop hears of %d at one instant", n)
			}
		}
		if heard != callers {
			t.Errorf("the loop hears of %d of %d", heard, callers)
		}
	})
}

// Close whose context is done does not wait until very many callers are told, and none of
// them waits for ever.
func TestManyWaitersAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		defer func() {
			for _, n := range nodes {
				n.Close()
			}
		}()
		s, err := New(Config{Nodes: nodetest.Conns(nodes), TTL: time.Second, MaxTTLCap: time.Second, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		const callers = 2000
		errs := make(chan error, callers)
		for range callers {
			go func() {
				_, err := s.Acquire(context.Background(), "x", WithAttempts(1000))
				errs <- err
			}()
		}
		synctest.Wait()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_ = s.Close(gone)
		for range callers - 1 { // one has the lease
			if err := <-errs; err != nil && !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		}
	})
}
