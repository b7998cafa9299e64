package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Connections are reset, and refused for a while, right before a lease is given back. The name is
// free as soon as the nodes are back, not only after its TTL, and Release and Close say so.
func TestReleaseThroughAnOutage(t *testing.T) {
	t.Parallel()
	const (
		longTTL = 10 * time.Second
		most    = 250 * time.Millisecond // until the name is free after the outage; TestReleaseAfterAReset is stricter
	)
	long := func(cfg *supervisor.Config) { cfg.TTL = longTTL }
	for _, x := range []struct {
		name     string
		nodes    int
		outage   time.Duration
		patience time.Duration // of Release; Close has 5s
	}{
		{"one node, for 0.3s", 1, 300 * time.Millisecond, 5 * time.Second},
		{"three nodes, for 0.3s", 3, 300 * time.Millisecond, 5 * time.Second},
		{"one node, for 0.3s, and Release gives up", 1, 300 * time.Millisecond, 100 * time.Millisecond},
		{"one node, one reset", 1, 0, 5 * time.Second},
		{"three nodes, one reset", 3, 0, 5 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			c := processes(t, x.nodes)
			other := supervise(t, c.Conns(), long)
			var n notes
			repeat(t, howOften(t), 2, func(t *testing.T, run int) {
				list := fronts(t, c)
				sup := supervise(t, proxied(list), long)
				name := fmt.Sprint("x", run)
				held := acquire(t, sup, name)
				all := func(do func(*cluster.Proxy)) {
					for _, f := range list {
						do(f.proxy)
					}
				}
				w := newWatch()
				all((*cluster.Proxy).Cut)
				var outage sync.WaitGroup
				if x.outage == 0 {
					all((*cluster.Proxy).Mend)
				} else {
					outage.Go(func() {
						<-time.After(x.outage)
						all((*cluster.Proxy).Mend)
					})
				}
				begun := time.Now()
				give := func(what string, patience time.Duration, call func(context.Context) error) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if err := call(ctx); (err != nil) != (patience < x.outage) {
						t.Errorf("%s: %v after %v; %v", what, err, time.Since(begun), w)
					}
				}
				give("Release", x.patience, held.Release)
				give("Close", 5*time.Second, sup.Close)
				took := time.Since(begun) - x.outage
				next, err := other.TryAcquire(t.Context(), name)
				if err != nil {
					t.Fatalf("%v after %v; %v", err, time.Since(begun), w)
				}
				n.within(t, w, "free after the outage", took, most)
				giveBack(t, next)
				outage.Wait()
			})
			n.log(t)
		})
	}
}
