package supervisor_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// The leases come in the order of the names, which were acquired in sorted order.
func TestAcquireAll(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		var order []string
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Prefix = "p:"
			cfg.Observer = observer(func(e supervisor.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Kind == supervisor.EventAcquired {
					order = append(order, e.Name)
				}
			})
		})
		names := []string{"b", "c", "a"}
		leases, err := sup.AcquireAll(t.Context(), names)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		if want := []string{"p:a", "p:b", "p:c"}; !slices.Equal(order, want) {
			t.Errorf("acquired in the order %v, want %v", order, want)
		}
		mu.Unlock()
		for i, l := range leases {
			if l.Name() != names[i] || !l.Valid() {
				t.Errorf("lease %d is of %q: %v", i, l.Name(), l.Err())
			}
			wantKeys(t, nodes, "p:"+names[i], string(l.Token()), 3)
		}
		// They renew themselves, and are independent of each other now.
		if err := leases[0].Release(t.Context()); err != nil {
			t.Error(err)
		}
		select {
		case <-leases[1].Done():
			t.Error(leases[1].Err())
		case <-leases[2].Done():
			t.Error(leases[2].Err())
		case <-time.After(5 * ttl):
		}
	})
}

// If one name cannot be had, or a lease is lost on the way, everything is given back
// and the error says where it ended.
func TestAcquireAllOrNothing(t *testing.T) {
	for what, c := range map[string]struct {
		meanwhile func(cancel func(), sup *supervisor.Supervisor, nodes []*nodetest.Node)
		want      []error
		not       error
		says      string
	}{
		"canceled": {
			func(cancel func(), _ *supervisor.Supervisor, _ []*nodetest.Node) { cancel() },
			[]error{context.Canceled, supervisor.ErrHeld}, lease.ErrLost, `acquire "b"`,
		},
		"one is lost": {
			func(_ func(), _ *supervisor.Supervisor, nodes []*nodetest.Node) {
				for _, n := range nodes {
					n.Del("a")
				}
			},
			[]error{lease.ErrRevoked}, context.Canceled, `"a" ended before "b" was acquired`,
		},
		"one is stepped down from": {
			func(_ func(), sup *supervisor.Supervisor, _ []*nodetest.Node) {
				_ = sup.StepDown(context.Background(), "a")
			},
			[]error{lease.ErrReleased}, context.Canceled, `"a" ended before "b" was acquired`,
		},
		"closed": {
			func(_ func(), sup *supervisor.Supervisor, _ []*nodetest.Node) { sup.Close(context.Background()) },
			[]error{lease.ErrClosed}, context.Canceled, `"a" ended before "b" was acquired`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup, other := start(t, nodes), start(t, nodes, owner("other"))
				rival := acquire(t, other, "b")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(3*ttl, func() { c.meanwhile(cancel, sup, nodes) })
				leases, err := sup.AcquireAll(ctx, []string{"c", "b", "a"})
				if leases != nil || err == nil {
					t.Fatalf("%d leases, %v", len(leases), err)
				}
				for _, want := range c.want {
					if !errors.Is(err, want) {
						t.Errorf("%v: want %v", err, want)
					}
				}
				if errors.Is(err, c.not) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v: want %q, and not %v", err, c.says, c.not)
				}
				synctest.Wait()
				wantKeys(t, nodes, "a", "", 0)
				wantKeys(t, nodes, "b", string(rival.Token()), 3)
				wantKeys(t, nodes, "c", "", 0)
				if st := sup.Stats(); st.Held+st.Waiting != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// Callers who want the same names in all orders all get them, one after the other.
func TestAcquireAllCannotDeadlock(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sups := []*supervisor.Supervisor{start(t, nodes, owner("one")), start(t, nodes, owner("two"))}
		ctx := within(t, time.Hour)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				names := []string{"a", "b", "c", "d"}
				rand.Shuffle(4, func(i, j int) { names[i], names[j] = names[j], names[i] })
				leases, err := sups[i%2].AcquireAll(ctx, names[:3])
				if err != nil {
					t.Error(err)
					return
				}
				for _, l := range leases {
					defer l.Release(ctx)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		for _, name := range []string{"a", "b", "c", "d"} {
			wantKeys(t, nodes, name, "", 0)
		}
	})
}

// Options are for each of the leases.
func TestAcquireAllWithOptions(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes)
		leases, err := sup.AcquireAll(t.Context(), []string{"b", "a"}, supervisor.WithTTL(ttl/2), supervisor.WithMaxHold(10*ttl), supervisor.WithOwner("both"))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			if l.Owner() != "both" || l.Remaining() > ttl/2 {
				t.Errorf("%s: owner %s, %v left", l.Name(), l.Owner(), l.Remaining())
			}
		}
		begun := time.Now()
		_, err = other.AcquireAll(t.Context(), []string{"a", "b"}, supervisor.WithAttempts(2))
		if !errors.Is(err, supervisor.ErrHeld) || time.Since(begun) > 5*ttl {
			t.Errorf("two attempts: %v after %v", err, time.Since(begun))
		}
		for _, l := range leases {
			select {
			case <-l.Lost():
			case <-time.After(20 * ttl):
			}
			if !errors.Is(l.Err(), lease.ErrMaxHold) {
				t.Errorf("%s: %v", l.Name(), l.Err())
			}
		}
	})
}

// Broken names are one error that names each of them, before any node is asked.
func TestAcquireAllBrokenNames(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for _, c := range []struct{ names, want []string }{
			{nil, []string{"no name given"}},
			{[]string{"a", "b", "a", "a", "b"}, []string{`name "a": given more than once`, `name "b": given more than once`}},
			{[]string{"a", "", "leasehold:x", "a", ""}, []string{`name "": must`, `name "leasehold:x": must`, `name "a": given`, `name "": given`}},
		} {
			_, err := sup.AcquireAll(t.Context(), c.names)
			if err == nil {
				t.Fatalf("%q: accepted", c.names)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q: %v\nwant %q", c.names, err, want)
				}
			}
			if lines := 1 + strings.Count(err.Error(), "\n"); lines != len(c.want) {
				t.Errorf("%q: %d rules are said to be broken, want %d:\n%v", c.names, lines, len(c.want), err)
			}
		}
		if n := nodes[0].Commands()["SET"]; n != 0 {
			t.Errorf("a node was asked %d times", n)
		}
	})
}

// An event tells how long a caller has waited, and apart from that how long its election took.
func TestEventsTellTheWait(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		var events []supervisor.Event
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Kind == supervisor.EventAcquired || e.Kind == supervisor.EventFailed {
					events = append(events, e)
				}
			})
		})
		held := acquire(t, sup, "x")
		const wait = 300 * time.Millisecond
		if _, err := sup.Acquire(within(t, wait), "x"); err == nil {
			t.Fatal("held twice")
		}
		time.AfterFunc(2*wait, func() { _ = held.Release(t.Context()) })
		acquire(t, sup, "x")
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(events) != 3 {
			t.Fatalf("%+v", events)
		}
		gaveUp, won := events[1], events[2]
		if gaveUp.Kind != supervisor.EventFailed || gaveUp.Waited != wait {
			t.Errorf("%+v", gaveUp)
		}
		if won.Waited < 2*wait || won.Waited > 2*wait+ttl/10 || won.Elapsed > ttl/10 {
			t.Errorf("%+v", won)
		}
	})
}
