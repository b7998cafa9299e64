package supervisor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A supervisor is healthy as long as a quorum of nodes is enrolled, and says which ones are not.
func TestHealthy(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Hang()
		}
		sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: ttl, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		says := func(want error, words ...string) {
			t.Helper()
			err := sup.Healthy()
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("Healthy() = %v, want %v", err, want)
				return
			}
			for _, w := range words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Healthy() = %v, want %q in it", err, w)
				}
			}
		}
		says(supervisor.ErrNoQuorum, "0 of 3 nodes are enrolled, and 2 are needed", nodes[2].String()+": not connected yet")
		for _, n := range nodes {
			n.Resume()
		}
		time.Sleep(ttl)
		says(nil) // although they are young
		nodes[0].Crash()
		time.Sleep(ttl)
		says(nil)
		nodes[1].Hang()
		time.Sleep(ttl)
		says(supervisor.ErrNoQuorum, "1 of 3 nodes are enrolled, and 2 are needed", nodes[0].String()+": ", nodes[1].String()+": ")
		if err := sup.Healthy(); strings.Contains(err.Error(), nodes[2].String()) {
			t.Errorf("%v names a node that is enrolled", err)
		}
		nodes[1].Resume()
		time.Sleep(ttl)
		says(nil)
		_ = sup.Close(within(t, ttl))
		says(supervisor.ErrClosed)
		if err := new(supervisor.Supervisor).Healthy(); err == nil {
			t.Error("one that New has not made is healthy")
		}
	})
}

// One server behind two addresses is no quorum.
func TestTwinsAreNotHealthy(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			o := nodes[0].Option("")
			o.InitAddress = []string{"again:6379"}
			cfg.Nodes = append(cfg.Nodes, node.FromOption(o))
		})
		if err := sup.Healthy(); !errors.Is(err, supervisor.ErrNoQuorum) || !strings.Contains(err.Error(), "the same database") {
			t.Errorf("Healthy() = %v", err)
		}
	})
}

// A loop that does not do what is due is not healthy. A caller that asks meanwhile is told so.
func TestHealthyIsNotLate(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		c := &suspended{Clock: clock.Runtime()}
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.Clock = c })
		acquire(t, sup, "a")
		time.Sleep(ttl)
		if err := sup.Healthy(); err != nil {
			t.Errorf("in time, and %v", err)
		}
		c.by.Add(int64(time.Hour)) // a timer does not notice
		if err := sup.Healthy(); err == nil || !strings.Contains(err.Error(), "is not done") || !strings.Contains(err.Error(), "of 1 leases") || errors.Is(err, supervisor.ErrNoQuorum) {
			t.Errorf("an hour late: %v", err)
		}
		time.Sleep(ttl)
		if err := sup.Healthy(); err != nil {
			t.Errorf("in time again, and %v", err)
		}
	})
}

// A process leads while it has a lease that is valid.
func TestLeading(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		c := &suspended{Clock: clock.Runtime()}
		prefixed := func(cfg *supervisor.Config) { cfg.Prefix = "p:" }
		sup, other := start(t, nodes, prefixed, func(cfg *supervisor.Config) { cfg.Clock = c }), start(t, nodes, prefixed)
		leading := func(want bool) {
			t.Helper()
			if got := sup.Leading("a"); got != want {
				t.Errorf("Leading() = %v, want %v", got, want)
			}
			if other.Leading("a") || sup.Leading("b") || sup.Leading("") || sup.Leading("p:a") || new(supervisor.Supervisor).Leading("a") {
				t.Error("who does not hold a name leads")
			}
		}
		leading(false)
		held := acquire(t, sup, "a")
		time.Sleep(10 * ttl)
		leading(true)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		leading(false)
		acquire(t, sup, "a")
		c.by.Add(int64(time.Hour)) // the lease is over, and the loop does not know it
		leading(false)
	})
}
