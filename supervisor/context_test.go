package supervisor_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// ending is a context that is done when its Err is asked for the n-th time: just when the
// lease is there. A cancelled one may look like that to a caller that was not told yet.
type ending struct {
	context.Context
	left atomic.Int32
}

func endingAt(t *testing.T, n int32) *ending {
	c := &ending{Context: t.Context()}
	c.left.Store(n)
	return c
}

func (c *ending) Err() error {
	if c.left.Add(-1) <= 0 {
		return context.Canceled
	}
	return nil
}

// No lease is returned after its context was done, and none is kept: neither by this
// process nor on any node.
func TestNoLeaseAfterItsContext(t *testing.T) {
	for name, try := range map[string]func(*supervisor.Supervisor, context.Context) (any, error){
		"Acquire": func(s *supervisor.Supervisor, ctx context.Context) (any, error) {
			l, err := s.Acquire(ctx, "x")
			return l != nil, err
		},
		"TryAcquire": func(s *supervisor.Supervisor, ctx context.Context) (any, error) {
			l, err := s.TryAcquire(ctx, "x")
			return l != nil, err
		},
		"Do": func(s *supervisor.Supervisor, ctx context.Context) (any, error) {
			ran := false
			err := s.Do(ctx, "x", func(context.Context) error { ran = true; return nil })
			return ran, err
		},
		"Lead": func(s *supervisor.Supervisor, ctx context.Context) (any, error) {
			ran := false
			err := s.Lead(ctx, "x", func(context.Context) error { ran = true; return nil })
			return ran, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes)
				got, err := try(sup, endingAt(t, 2))
				var e *supervisor.AcquireError
				if got != false || !errors.Is(err, context.Canceled) || !errors.As(err, &e) {
					t.Fatalf("%v, %v", got, err)
				}
				synctest.Wait()
				wantKeys(t, nodes, "x", "", 0)
				if n := len(sup.Leases()); n != 0 {
					t.Errorf("%d leases are kept", n)
				}
				if s := sup.Stats(); s.Held+s.Waiting+s.Owed != 0 {
					t.Errorf("%+v", s)
				}
				acquire(t, sup, "x")
			})
		})
	}
}

// So it is with all of several.
func TestNoLeasesAfterTheirContext(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		leases, err := sup.AcquireAll(endingAt(t, 2), []string{"x", "y"})
		if leases != nil || !errors.Is(err, context.Canceled) {
			t.Fatalf("%d leases, %v", len(leases), err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
		wantKeys(t, nodes, "y", "", 0)
		if n := len(sup.Leases()); n != 0 {
			t.Errorf("%d leases are kept", n)
		}
	})
}

// An adoption returns none either, and keeps none; but the handle may be tried again, so
// the nodes keep the name.
func TestNoAdoptionAfterItsContext(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, former := start(t, nodes), start(t, nodes, owner("former"))
		held := acquire(t, former, "x")
		handle, err := held.HandOver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stop := always(t, nodes, "x")
		l, err := sup.Adopt(endingAt(t, 2), handle)
		var e *supervisor.AcquireError
		if l != nil || !errors.Is(err, context.Canceled) || !errors.As(err, &e) {
			t.Fatalf("%v, %v", l, err)
		}
		synctest.Wait()
		if n := len(sup.Leases()); n != 0 {
			t.Errorf("%d leases are kept", n)
		}
		again, err := sup.Adopt(t.Context(), handle)
		if err != nil {
			t.Fatalf("tried again: %v", err)
		}
		synctest.Wait()
		stop()
		if again.Fence() <= held.Fence() {
			t.Errorf("fence %d after %d", again.Fence(), held.Fence())
		}
		if err := again.Err(); err != nil { // one node may keep the token of the attempt before
			t.Error(err)
		}
		if err := again.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := sup.Adopt(t.Context(), handle); !errors.Is(err, lease.ErrLost) {
			t.Errorf("after its release: %v", err)
		}
	})
}

// A context that is done before is not tried with, and one that ends while others have the
// name ends the waiting at once.
func TestContextDoneWhileWaiting(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, start(t, nodes, owner("other")), "x")
		ctx, cancel := context.WithCancel(t.Context())
		ended := time.Now().Add(ttl)
		time.AfterFunc(ttl, cancel)
		if _, err := sup.Acquire(ctx, "x"); !errors.Is(err, context.Canceled) || !errors.Is(err, supervisor.ErrHeld) {
			t.Errorf("%v", err)
		}
		if now := time.Now(); now != ended {
			t.Errorf("it returned %v after its context was done", now.Sub(ended))
		}
		before := nodes[0].Commands()["SET"]
		if _, err := sup.Acquire(ctx, "y"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if _, err := sup.Adopt(ctx, held.Handle()); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if after := nodes[0].Commands()["SET"]; after != before {
			t.Errorf("%d commands were sent for a context that was done before", after-before)
		}
		wantKeys(t, nodes, "x", string(held.Token()), 3)
	})
}

// Release whose context is done already waits for a moment, so that the nodes hear of it
// even if the process ends right after; and not for longer.
func TestReleaseInTheLastMoment(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		for _, n := range nodes {
			n.Delay(time.Millisecond)
		}
		from := time.Now()
		if err := held.Release(canceled()); err != nil || time.Since(from) < time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(from))
		}
		held = acquire(t, sup, "x")
		for _, n := range nodes {
			n.Hang()
		}
		from = time.Now()
		err := held.Release(canceled())
		if took := time.Since(from); !errors.Is(err, context.Canceled) || took != 3*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		for _, n := range nodes {
			n.Recover()
		}
		held = acquire(t, sup, "y")
		for _, n := range nodes {
			n.Crash()
		}
		time.Sleep(100 * time.Millisecond) // they are known to be down: there is nothing to wait for
		from = time.Now()
		err = held.Release(canceled())
		if took := time.Since(from); err == nil || took != 0 {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A healthy node that was not asked, because too few others can be, is not called
// unreachable; and of one that is, the error says why.
func TestNotAsked(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		nodes[0].Crash()
		nodes[1].Hang()
		sup := start(t, nodes)
		time.Sleep(ttl)
		_, err := sup.TryAcquire(t.Context(), "x")
		var e *supervisor.AcquireError
		if !errors.As(err, &e) || !errors.Is(err, supervisor.ErrNoQuorum) || len(e.Nodes) != 3 {
			t.Fatal(err)
		}
		for i, want := range []supervisor.Verdict{supervisor.VerdictUnreachable, supervisor.VerdictUnreachable, supervisor.VerdictNotAsked} {
			if a := e.Nodes[i]; a.Verdict != want || (a.Err == nil) != (want == supervisor.VerdictNotAsked) {
				t.Errorf("%v, want %v", a, want)
			}
		}
		if !strings.Contains(err.Error(), "not asked: no quorum") {
			t.Error(err)
		}
	})
}

// A healthy node that is not asked because the others are young was not asked either, and one that
// is away is not waited for.
func TestNotAskedAsOthersAreYoung(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		nodes[0].Restart()
		nodes[1].Restart()
		synctest.Wait()
		verdicts := func() (e *supervisor.AcquireError) {
			time.Sleep(100 * time.Millisecond)
			_, err := sup.TryAcquire(t.Context(), "x")
			if !errors.As(err, &e) || len(e.Nodes) != 3 || e.Nodes[0].Verdict != supervisor.VerdictGuarded || e.Nodes[1].Verdict != supervisor.VerdictGuarded {
				t.Fatal(err)
			}
			return e
		}
		if e := verdicts(); e.Nodes[2].Verdict != supervisor.VerdictNotAsked || e.Young() == 0 {
			t.Errorf("%v, young for %v", e, e.Young())
		}
		nodes[2].Crash()
		if e := verdicts(); e.Nodes[2].Verdict != supervisor.VerdictUnreachable || e.Nodes[2].Err == nil || e.Young() == 0 {
			t.Errorf("%v, young for %v", e, e.Young())
		}
	})
}

// What others have written into a key, or a server says, breaks no line of ours.
func TestAnswerIsOneLine(t *testing.T) {
	for _, a := range []supervisor.Answer{
		{Node: "a:1", Verdict: supervisor.VerdictHeld, Owner: "evil\x1b[2J\nlevel=ERROR\r\nhost:1"},
		{Node: "a:1", Verdict: supervisor.VerdictUnreachable, Err: errors.New("ERR\r\nlevel=ERROR host:1")},
	} {
		if text := a.String(); strings.ContainsAny(text, "\r\n\x1b") || !strings.Contains(text, "level=ERROR host:1") {
			t.Errorf("%q", text)
		}
	}
}
