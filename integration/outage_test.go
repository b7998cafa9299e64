package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// All connections are reset, and refused for a part of the TTL; or all bytes vanish. A lease asks
// the nodes as soon as they are back, and so does who waits for a name: within the reconnecting, and
// not after a pause that has grown with the outage; or within a node timeout.
func TestAskedAsSoonAsBack(t *testing.T) {
	takesLong(t)
	t.Parallel()
	// The figure is under 20 ms, on a machine that does nothing else and without the race detector.
	// Pauses that had grown with the outage made it 75 to 195.
	const quick = 50 * time.Millisecond
	for _, x := range []struct {
		nodes       int
		ttl, outage time.Duration
		how         string
		begin       func(*cluster.Proxy)
		most        time.Duration // a median
	}{
		{1, 10 * time.Second, 4 * time.Second, "cut", (*cluster.Proxy).Cut, quick},
		{3, 10 * time.Second, 4 * time.Second, "cut", (*cluster.Proxy).Cut, quick},
		{3, 10 * time.Second, 8 * time.Second, "cut", (*cluster.Proxy).Cut, quick},
		{3, 10 * time.Second, 4 * time.Second, "silent", (*cluster.Proxy).Silence, 10 * time.Second / 20},
		{3, ttl, 4 * ttl / 10, "cut", (*cluster.Proxy).Cut, quick},
		{3, ttl, 4 * ttl / 10, "silent", (*cluster.Proxy).Silence, nodeTimeout},
	} {
		t.Run(fmt.Sprintf("%d nodes, TTL %v, %s for %v", x.nodes, x.ttl, x.how, x.outage), func(t *testing.T) {
			t.Parallel()
			c := processes(t, x.nodes)
			var n notes
			w := newWatch()
			// One at a time: the six scenes run at once, and more of them would measure each other.
			repeat(t, max(3, howOften(t)/4), 1, func(t *testing.T, run int) {
				list := fronts(t, c)
				sup := supervise(t, proxied(list), func(cfg *supervisor.Config) { cfg.TTL = x.ttl })
				held := acquire(t, sup, fmt.Sprint("held", run))
				grows(t, held) // and so it outlasts the outage
				for _, f := range list {
					x.begin(f.proxy)
				}
				got := make(chan *lease.Lease, 1)
				go func() {
					l, _ := sup.Acquire(t.Context(), fmt.Sprint("waited for", run))
					got <- l
				}()
				<-time.After(x.outage)
				for _, f := range list {
					f.proxy.Mend()
				}
				n.took("the promise grows after", grows(t, held))
				begun := time.Now()
				if l := <-got; l != nil {
					n.took("who waited has the name after another", time.Since(begun))
					giveBack(t, l)
				}
				giveBack(t, held)
			})
			n.log(t)
			all := slices.Sorted(slices.Values(n.all["the promise grows after"]))
			switch median := time.Duration(quantile(all, .5) * 1e6); {
			case median <= x.most:
			case median <= x.most+w.starved(), w.busy():
				t.Logf("the promise grows after a median of %v; %v", median, w)
			default:
				t.Errorf("the promise grows after a median of %v, want %v at most; %v", median, x.most, w)
			}
		})
	}
}

// grows waits until the promise of a lease has grown, and returns for how long that was.
func grows(t *testing.T, held *lease.Lease) time.Duration {
	t.Helper()
	begun, last := time.Now(), held.Remaining()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for range look.C {
		left := held.Remaining()
		if left > last {
			break
		}
		if last = left; left <= 0 {
			t.Fatalf("lost: %v", held.Err())
		}
	}
	return time.Since(begun)
}
