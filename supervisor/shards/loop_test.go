package shards

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// lone runs f with an owner of one name, which has not begun.
func lone(t *testing.T, fn func(context.Context, string) error, f func(o *owner, sup *supervisor.Supervisor, nodes []*nodetest.Node)) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		o, err := prepare(sup, "g", []string{"a"}, fn, nil)
		if err != nil {
			t.Fatal(err)
		}
		f(o, sup, nodes)
		_ = sup.Close(context.Background())
		for _, n := range nodes {
			n.Close()
		}
	})
}

// A lease that was won although its name is not wanted any more is released at once, and no
// function runs under it.
func TestWonTooLate(t *testing.T) {
	ran := false
	lone(t, func(context.Context, string) error { ran = true; return nil }, func(o *owner, _ *supervisor.Supervisor, _ []*nodetest.Node) {
		ctx := context.Background()
		held, _ := lease.New(lease.Spec{Name: "g/a", Until: clock.Never})
		_, o.jobs[0].cancel = context.WithCancelCause(ctx)
		o.busy++
		o.plan.spots[0].at = leaving
		o.hear(ctx, report{kind: reportAcquired, held: held})
		for o.busy > 0 {
			o.hear(ctx, <-o.in)
		}
		if ran || held.Valid() || o.plan.spots[0].at != none {
			t.Errorf("the function has run: %v, the lease is held: %v, place %v", ran, held.Valid(), o.plan.spots[0].at)
		}
	})
}

// One for whom the name of the group is reserved takes part as well.
func TestCountsTheReserved(t *testing.T) {
	lone(t, func(context.Context, string) error { return nil }, func(o *owner, sup *supervisor.Supervisor, nodes []*nodetest.Node) {
		synctest.Wait()
		for _, n := range nodes {
			n.Set("g", "?another", time.Minute)
		}
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _ = sup.Acquire(ctx, "g")
		}()
		time.Sleep(time.Second)
		if r := o.count(ctx); r.err != nil || r.members != 2 {
			t.Errorf("%d take part, %v: want 2", r.members, r.err)
		}
		cancel()
		<-over
		if r := o.count(ctx); r.err == nil {
			t.Error("counted although its context is done")
		}
	})
}
