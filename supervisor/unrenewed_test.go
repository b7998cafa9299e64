package supervisor_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// untracked has a supervisor be told of no change: over RESP2 no server does.
func untracked(nodes []*nodetest.Node) func(*supervisor.Config) {
	return func(cfg *supervisor.Config) {
		cfg.Nodes = nil
		for _, n := range nodes {
			o := n.Option("")
			o.AlwaysRESP2 = true
			cfg.Nodes = append(cfg.Nodes, node.FromOption(o))
		}
	}
}

// A lease that does not renew itself is told that it was taken away as soon as the others
// are, also for a second time of its life: at once by nodes that track keys, and else within
// a third of its TTL. Nothing of that makes it last longer.
func TestUnrenewedIsRevoked(t *testing.T) {
	for how, c := range map[string]struct {
		take func(*testing.T, []*nodetest.Node, *supervisor.Supervisor, *lease.Lease)
		why  error
	}{
		"revoked": {func(t *testing.T, _ []*nodetest.Node, operator *supervisor.Supervisor, held *lease.Lease) {
			if err := operator.Revoke(t.Context(), "x", held.Token()); err != nil {
				t.Fatal(err)
			}
		}, lease.ErrRevoked},
		"deleted on a quorum": {func(_ *testing.T, nodes []*nodetest.Node, _ *supervisor.Supervisor, _ *lease.Lease) {
			for _, n := range nodes[2:] {
				n.Del("x")
			}
		}, lease.ErrRevoked},
		"overwritten": {func(_ *testing.T, nodes []*nodetest.Node, _ *supervisor.Supervisor, _ *lease.Lease) {
			for _, n := range nodes[:3] {
				n.Set("x", "other", time.Minute)
			}
		}, lease.ErrTaken},
	} {
		for _, tracks := range []bool{false, true} {
			for _, after := range []time.Duration{100 * time.Millisecond, ttl * 2 / 5} {
				t.Run(fmt.Sprintf("%s, tracked %v, after %v", how, tracks, after), func(t *testing.T) {
					bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
						operator := start(t, nodes)
						sup, most := start(t, nodes, untracked(nodes)), ttl/3
						if tracks {
							sup, most = start(t, nodes), 10*time.Millisecond
						}
						held := acquire(t, sup, "x", supervisor.WithoutRenewal())
						end := time.Now().Add(held.Remaining())
						time.Sleep(after)
						if got := time.Now().Add(held.Remaining()); !got.Equal(end) || held.Err() != nil {
							t.Fatalf("held until %v, and was until %v: %v", got, end, held.Err())
						}
						c.take(t, nodes, operator, held)
						from := time.Now()
						<-held.Lost()
						if took := time.Since(from); took > most || !errors.Is(held.Err(), c.why) {
							t.Errorf("told %v after %v, want %v within %v", held.Err(), took, c.why, most)
						}
					})
				})
			}
		}
	}
}

// What takes away the key of a minority ends nothing, and neither does the restart of all
// nodes but a quorum: the lease ends when its TTL does.
func TestUnrenewedOutlivesAMinority(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x", supervisor.WithoutRenewal())
		end := time.Now().Add(held.Remaining())
		time.Sleep(ttl / 4)
		nodes[0].Del("x")
		nodes[1].Crash()
		<-held.Lost()
		if early := time.Until(end); early > 110*time.Millisecond || !errors.Is(held.Err(), lease.ErrExpired) {
			t.Errorf("%v, %v before its time", held.Err(), early)
		}
	})
}

// A lease that is given back soon costs no look.
func TestUnrenewedForAMoment(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		acquire(t, sup, "warm").Release(t.Context()) // all scripts are loaded
		count := func() (n int) {
			for name, times := range nodes[0].Commands() {
				if name != "PUBLISH" {
					n += times
				}
			}
			return n
		}
		cost := func(opts ...supervisor.Option) int {
			before := count()
			held := acquire(t, sup, "x", opts...)
			time.Sleep(40 * time.Millisecond)
			if err := held.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return count() - before
		}
		cost()
		if with, without := cost(), cost(supervisor.WithoutRenewal()); without > with {
			t.Errorf("%d commands, and %d with renewal", without, with)
		}
	})
}
