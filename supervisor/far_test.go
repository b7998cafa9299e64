package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// distances are how far nodes are: each is asked anew now and then.
var distances = map[string]func() time.Duration{
	"150 ms":           func() time.Duration { return 150 * time.Millisecond },
	"200 ms":           func() time.Duration { return 200 * time.Millisecond },
	"300 ms":           func() time.Duration { return 300 * time.Millisecond },
	"70 to 120 ms":     func() time.Duration { return 70*time.Millisecond + rand.N(50*time.Millisecond) },
	"mostly quick":     func() time.Duration { return time.Duration(rand.N(10)/9) * 150 * time.Millisecond },
	"quick and slow":   func() time.Duration { return rand.N(200 * time.Millisecond) },
	"around the limit": func() time.Duration { return 95*time.Millisecond + rand.N(10*time.Millisecond) },
}

// moves has each node be as far as the distance says, and change that every 20 ms.
func moves(t *testing.T, nodes []*nodetest.Node, distance func() time.Duration) {
	for _, n := range nodes {
		n.Delay(distance())
	}
	ctx := t.Context()
	go func() {
		for ctx.Err() == nil {
			select {
			case <-time.After(20 * time.Millisecond):
				nodes[rand.N(len(nodes))].Delay(distance())
			case <-ctx.Done():
			}
		}
	}()
}

// wantHeld checks that a lease is held for so long.
func wantHeld(t *testing.T, held *lease.Lease, d time.Duration) {
	t.Helper()
	from := time.Now()
	select {
	case <-held.Lost():
		t.Fatalf("lost after %v: %v", time.Since(from), held.Err())
	case <-time.After(d):
	}
}

// Names are acquired, held and handed over by default if all nodes are farther than the
// node timeout, from the beginning.
func TestFarNodes(t *testing.T) {
	for name, distance := range distances {
		for _, n := range []int{1, 5} {
			t.Run(fmt.Sprint(name, ", ", n), func(t *testing.T) {
				bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
					moves(t, nodes, distance)
					a, b := start(t, nodes, owner("a")), start(t, nodes, owner("b"))
					held, err := a.Acquire(within(t, 3*ttl), "x")
					if err != nil {
						t.Fatal(err)
					}
					waits := make(chan *lease.Lease)
					go func() {
						next, err := b.Acquire(within(t, 10*ttl), "x")
						if err != nil {
							t.Error(err)
						}
						waits <- next
					}()
					wantHeld(t, held, 3*ttl)
					if err := held.Release(within(t, ttl)); err != nil {
						t.Error(err)
					}
					from := time.Now()
					if held = <-waits; held == nil {
						return
					}
					t.Logf("handed over within %v", time.Since(from))
					if took := time.Since(from); took > ttl {
						t.Errorf("handed over after %v", took)
					}
					wantHeld(t, held, 2*ttl)
					if err := held.Release(within(t, ttl)); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// Whenever a name is released, the next one has it two trips after that is confirmed at most: the
// answer to a heartbeat may be under way, and then the claim is.
func TestFarHandOver(t *testing.T) {
	const trip = 300 * time.Millisecond // two of them are more than an election takes at most
	for since := time.Duration(0); since < 2*trip; since += trip / 15 {
		bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
			nodes[0].Delay(trip)
			unguarded := func(cfg *supervisor.Config) { cfg.DisableGuard = true } // a fingerprint may take a trip as well
			a, b := start(t, nodes, unguarded), start(t, nodes, unguarded)
			held := acquire(t, a, "x")
			waits := make(chan *lease.Lease)
			go func() {
				next, err := b.Acquire(within(t, 5*ttl), "x")
				if err != nil {
					t.Error(err)
				}
				waits <- next
			}()
			time.Sleep(2*ttl + since)
			if err := held.Release(within(t, ttl)); err != nil {
				t.Error(err)
			}
			from := time.Now()
			if held = <-waits; held == nil {
				return
			}
			if took := time.Since(from); took > 2*trip {
				t.Errorf("released after %v more: handed over after %v", since, took)
			}
			if err := held.Release(within(t, ttl)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A fresh process can acquire by a single attempt, and adopt.
func TestFarNodesAtFirstTry(t *testing.T) {
	for _, trip := range []time.Duration{150 * time.Millisecond, 200 * time.Millisecond} {
		bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
			moves(t, nodes, func() time.Duration { return trip })
			held, err := start(t, nodes).TryAcquire(t.Context(), "x")
			if err != nil {
				t.Fatalf("%v away: %v", trip, err)
			}
			handle, err := held.HandOver(within(t, ttl))
			if err != nil {
				t.Fatal(err)
			}
			if held, err = start(t, nodes).Adopt(t.Context(), handle); err != nil {
				t.Fatalf("%v away: %v", trip, err)
			}
			if err := held.Release(within(t, ttl)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Leases are kept if the nodes become far while they are held, and come nearer again.
func TestNodesBecomeFar(t *testing.T) {
	for name, distance := range distances {
		for _, n := range []int{1, 5} {
			t.Run(fmt.Sprint(name, ", ", n), func(t *testing.T) {
				bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
					sup := start(t, nodes)
					var all []*lease.Lease
					for i := range 20 {
						all = append(all, acquire(t, sup, fmt.Sprint(i)))
						time.Sleep(rand.N(ttl / 10))
					}
					moves(t, nodes, distance)
					for range 4 {
						wantHeld(t, all[0], ttl)
					}
					for _, held := range all {
						if !held.Valid() {
							t.Errorf("%s is lost: %v", held.Name(), held.Err())
						}
					}
				})
			})
		}
	}
}

// A node that hangs among far ones costs no lease, and nobody waits long for it.
func TestHangAmongFarNodes(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		moves(t, nodes[1:], func() time.Duration { return 150 * time.Millisecond })
		sup := start(t, nodes)
		held, err := sup.Acquire(within(t, 3*ttl), "x")
		if err != nil {
			t.Fatal(err)
		}
		wantHeld(t, held, ttl)
		for range 3 {
			nodes[0].Hang()
			wantHeld(t, held, ttl)
			from := time.Now()
			other, err := sup.Acquire(within(t, ttl), "y")
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(from); took > 350*time.Millisecond {
				t.Errorf("acquired after %v", took)
			}
			if err := other.Release(within(t, ttl)); err != nil {
				t.Error(err)
			}
			from = time.Now()
			if _, err := sup.Inspect(within(t, ttl), "x"); err != nil {
				t.Error(err)
			}
			if took := time.Since(from); took > 2*150*time.Millisecond { // the release may be ahead of it
				t.Errorf("inspected after %v", took)
			}
			nodes[0].Resume()
			wantHeld(t, held, ttl)
		}
	})
}

// A node that hangs is noticed after the node timeout: Inspect, which waits for all nodes, waits
// no longer, and with the configured one.
func TestHangIsNoticed(t *testing.T) {
	for configured, want := range map[time.Duration]time.Duration{0: ttl / 20, ttl / 100: ttl / 100, ttl / 5: ttl / 5} {
		bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.NodeTimeout = configured })
			nodes[0].Hang()
			from := time.Now()
			if _, err := sup.Inspect(t.Context(), "x"); err != nil {
				t.Error(err)
			}
			if took := time.Since(from); took != want {
				t.Errorf("NodeTimeout %v: inspected after %v", configured, took)
			}
			if p := sup.Nodes()[1].Patience; p != want {
				t.Errorf("NodeTimeout %v: waits for %v", configured, p)
			}
			time.Sleep(ttl)
			from = time.Now()
			if _, err := sup.Inspect(t.Context(), "x"); err != nil {
				t.Error(err)
			}
			if took := time.Since(from); took != 0 {
				t.Errorf("NodeTimeout %v: inspected again after %v", configured, took)
			}
		})
	}
}

// All nodes that are so far that no election fits: the error says so in time.
func TestTooFar(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		moves(t, nodes, func() time.Duration { return ttl })
		sup := start(t, nodes)
		_, err := sup.Acquire(within(t, 3*ttl), "x")
		if !errors.Is(err, supervisor.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
	})
}
