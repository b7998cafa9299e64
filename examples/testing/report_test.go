package report

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// bubble runs a test on three nodes in memory, in time that passes when everybody waits.
func bubble(t *testing.T, test func(t *testing.T, nodes []*nodetest.Node, sup *supervisor.Supervisor), change ...func(*supervisor.Config)) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3) // in the bubble: their time is its time
		cfg := supervisor.Config{
			Nodes: nodetest.Conns(nodes),
			Clock: clock.Runtime(), // and so is the supervisor's
		}
		for _, f := range change {
			f(&cfg)
		}
		sup, err := supervisor.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := sup.Close(t.Context()); err != nil && !t.Failed() {
				t.Log(err) // nodes that were crashed keep the name until its key expires
			}
			for _, n := range nodes {
				n.Close()
			}
		}()
		test(t, nodes, sup)
	})
}

// A lease needs no node: lease.New makes one, and its Control ends it.
func TestStopsWithoutNodes(t *testing.T) {
	held, control := lease.New(lease.Spec{Name: "report", Fence: 34, Until: clock.Never})
	sent := 0
	err := sendAll(held, []string{"a", "b", "c"}, func(string, uint64) {
		if sent++; sent == 2 {
			control.End(lease.ErrRevoked)
		}
	})
	if sent != 2 || !errors.Is(err, lease.ErrLost) {
		t.Errorf("%d pages sent, %v", sent, err)
	}
}

// Two of three nodes die under the lease. Ten seconds of it take no time.
func TestStopsWhenLost(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node, sup *supervisor.Supervisor) {
		held, err := sup.Acquire(t.Context(), "report")
		if err != nil {
			t.Fatal(err)
		}
		nodes[0].Crash()
		nodes[1].Crash()
		begun := time.Now()
		<-held.Lost() // never a time.Sleep: the lease says when
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("told after %v, more than the TTL", took)
		}
		err = sendAll(held, []string{"a"}, func(string, uint64) { t.Error("sent without a lease") })
		if !errors.Is(err, lease.ErrExpired) {
			t.Error(err)
		}
	})
}

// Another process has the name: that is a second supervisor on the same nodes.
func TestWaitsForItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node, sup *supervisor.Supervisor) {
		other, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close(context.Background())
		theirs, err := other.Acquire(t.Context(), "report")
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error)
		go func() { sent <- Send(t.Context(), sup, []string{"a"}, func(string, uint64) {}) }()
		synctest.Wait() // it waits now
		select {
		case err := <-sent:
			t.Errorf("sent while another held the name: %v", err)
		default:
		}
		if err := theirs.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// A flush between two tests is a loss of data: nothing is acquired for a window, that of
// MaxTTLCap if all nodes were flushed.
func TestFlushCostsAWindow(t *testing.T) {
	flush := func(t *testing.T, nodes []*nodetest.Node, sup *supervisor.Supervisor) time.Duration {
		if err := sup.Do(t.Context(), "report", func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			n.Flush()
		}
		begun := time.Now()
		if err := sup.Do(t.Context(), "report", func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return time.Since(begun)
	}
	bubble(t, func(t *testing.T, nodes []*nodetest.Node, sup *supervisor.Supervisor) {
		if took := flush(t, nodes, sup); took < time.Minute {
			t.Errorf("acquired after %v", took)
		}
	})
	bubble(t, func(t *testing.T, nodes []*nodetest.Node, sup *supervisor.Supervisor) {
		if took := flush(t, nodes, sup); took > time.Second {
			t.Errorf("acquired after %v without the guard", took)
		}
	}, func(cfg *supervisor.Config) { cfg.DisableGuard = true })
}
