package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// outages are what may become of a majority, or of all nodes, while a lease is given back. Each
// begins, and returns how it ends.
var outages = map[string]func(nodes []*nodetest.Node) (end func()){
	"killed, and back with its data": func(nodes []*nodetest.Node) func() {
		each(nodes, (*nodetest.Node).Crash)
		return func() { each(nodes, (*nodetest.Node).Recover) }
	},
	"killed, and back empty": func(nodes []*nodetest.Node) func() {
		each(nodes, (*nodetest.Node).Crash)
		return func() { each(nodes, (*nodetest.Node).Restart) }
	},
	"stopped": func(nodes []*nodetest.Node) func() {
		each(nodes, (*nodetest.Node).Hang)
		return func() { each(nodes, (*nodetest.Node).Resume) }
	},
	"cut off": func(nodes []*nodetest.Node) func() {
		each(nodes, func(n *nodetest.Node) { n.Cut("") })
		return func() { each(nodes, func(n *nodetest.Node) { n.Mend("") }) }
	},
}

func each(nodes []*nodetest.Node, do func(*nodetest.Node)) {
	for _, n := range nodes {
		do(n)
	}
}

// wantFree wants a quorum of the nodes to be free of some names.
func wantFree(t *testing.T, nodes []*nodetest.Node, names ...string) {
	t.Helper()
	for _, name := range names {
		taken := 0
		for _, n := range nodes {
			if _, _, ok := n.Get(name); ok {
				taken++
			}
		}
		if free := len(nodes) - taken; free < len(nodes)/2+1 {
			t.Errorf("%d of %d nodes keep %q", taken, len(nodes), name)
		}
	}
}

const longTTL = 10 * time.Second

func long(cfg *supervisor.Config) { cfg.TTL = longTTL }

// Release uses the time that it is given, and so does Close if Release was given too little: the
// name is free soon after the outage, and both know it.
func TestReleaseUsesItsTime(t *testing.T) {
	for what, begin := range outages {
		for _, n := range []int{1, 3, 5} {
			for _, patience := range []time.Duration{5 * time.Second, 100 * time.Millisecond} {
				t.Run(fmt.Sprintf("%s, %d nodes, %v", what, n, patience), func(t *testing.T) {
					bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
						sup := start(t, nodes, long)
						held := acquire(t, sup, "x")
						kept := acquire(t, sup, "y", supervisor.WithoutRenewal())
						away := nodes[:n/2+1]
						end := begin(away)
						outage := 300 * time.Millisecond
						if what == "stopped" {
							outage = time.Second
						}
						time.AfterFunc(outage, end)
						from := time.Now()
						err := held.Release(within(t, patience))
						if enough := patience > outage; enough && err != nil || !enough && !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("Release: %v after %v", err, time.Since(from))
						}
						if err := sup.Close(within(t, 5*time.Second)); err != nil {
							t.Errorf("Close: %v", err)
						}
						if took := time.Since(from); took > outage+longTTL/20+100*time.Millisecond {
							t.Errorf("it took %v", took)
						}
						if kept.Valid() {
							t.Error("a lease outlived Close")
						}
						wantFree(t, nodes, "x", "y")
					})
				})
			}
		}
	}
}

// Connections that are cut and can be made again at once cost a release hardly any time.
func TestReleaseAfterAReset(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, long)
			held := acquire(t, sup, "x")
			end := outages["cut off"](nodes)
			end()
			from := time.Now()
			if err := held.Release(within(t, 5*time.Second)); err != nil {
				t.Errorf("%d nodes: Release: %v", n, err)
			}
			if took := time.Since(from); took > 50*time.Millisecond {
				t.Errorf("%d nodes: Release took %v", n, took)
			}
			wantFree(t, nodes, "x")
		})
	}
}

// With all nodes down for good, Release and Close wait until the keys have expired, if their
// contexts can end, and for a quarter of the TTL if not.
func TestReleaseWithNodesDownForGood(t *testing.T) {
	for _, endless := range []bool{false, true} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, long)
			first, second := acquire(t, sup, "x"), acquire(t, sup, "y")
			each(nodes, (*nodetest.Node).Crash)
			ctx, most := t.Context(), longTTL+longTTL/4
			if endless {
				ctx, most = context.Background(), longTTL/4
			}
			from := time.Now()
			err := first.Release(ctx)
			var e *supervisor.ReleaseError
			if took := time.Since(from); took > most || endless != errors.As(err, &e) || endless && (took != most || len(e.Nodes) != 3 || e.Left > longTTL) {
				t.Errorf("Release: %v after %v", err, took)
			}
			each(nodes, (*nodetest.Node).Recover)
			time.Sleep(time.Second)
			wantKeys(t, nodes, "x", "", 0) // it was sent all the same, or has expired

			if endless { // the other one is still held, or was lost meanwhile
				each(nodes, (*nodetest.Node).Crash)
				from = time.Now()
				err := sup.Close(ctx)
				if took := time.Since(from); took > most+longTTL/20 || !errors.As(err, &e) || e.Name != "y" {
					t.Errorf("Close: %v after %v", err, took)
				}
				if err := second.Release(ctx); !errors.Is(err, lease.ErrClosed) {
					t.Errorf("Release after Close: %v", err)
				}
			}
		})
	}
}

// Close names what it could not give back when its context ends, and says nothing if the keys
// have expired before.
func TestCloseUsesItsTime(t *testing.T) {
	for _, patience := range []time.Duration{time.Second, 2 * longTTL} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, long)
			acquire(t, sup, "x")
			released := acquire(t, sup, "y")
			each(nodes, (*nodetest.Node).Crash)
			_ = released.Release(canceled())
			from := time.Now()
			err := sup.Close(within(t, patience))
			took := time.Since(from)
			var e *supervisor.ReleaseError
			switch {
			case patience < longTTL && (!errors.As(err, &e) || len(e.Nodes) != 3 || e.Left > longTTL+longTTL/50 || took != patience):
				t.Errorf("%v after %v", err, took)
			case patience > longTTL && (err != nil || took > longTTL+longTTL/4):
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

// Close says of how many names it does not tell by name that they may stay taken.
func TestCloseCountsWhatItDoesNotName(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, long)
		for i := range 150 {
			acquire(t, sup, fmt.Sprint("x", i))
		}
		each(nodes, (*nodetest.Node).Crash)
		err := sup.Close(within(t, time.Second))
		if text := fmt.Sprint(err); strings.Count(text, "may remain for up to") != 100 || !strings.HasSuffix(text, "\n50 more names may stay taken") {
			t.Error(text)
		}
	})
}

// A node that hangs when the context of Close ends has not answered in time. That the connection to it
// was cut is no reason of its own, and one that was down before keeps its own.
func TestCloseSaysWhoHangs(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		acquire(t, sup, "x")
		nodes[0].Crash()
		nodes[1].Hang()
		nodes[2].Hang()
		var e *supervisor.ReleaseError
		if err := sup.Close(within(t, ttl/100)); !errors.As(err, &e) || errors.Is(err, context.Canceled) || len(e.Nodes) != 3 {
			t.Fatal(err)
		}
		for i, n := range e.Nodes {
			if hung := i > 0; n.Err == nil || hung != (n.Err.Error() == "it did not answer in the time that Close was given") {
				t.Errorf("%v", n)
			}
		}
	})
}

// A minority that hangs is waited for no longer than until it is given up.
func TestCloseWithHungMinority(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, long)
		for i := range 20 {
			acquire(t, sup, fmt.Sprint("x", i))
		}
		each(nodes[:2], (*nodetest.Node).Hang)
		from := time.Now()
		if err := sup.Close(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
		if took := time.Since(from); took > longTTL/4 {
			t.Errorf("Close took %v", took)
		}
	})
}

// Release and Close at once agree on what has become of the name.
func TestReleaseAndClose(t *testing.T) {
	for _, mends := range []bool{true, false} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, long)
			held := acquire(t, sup, "x")
			each(nodes, (*nodetest.Node).Crash)
			if mends {
				time.AfterFunc(300*time.Millisecond, func() { each(nodes, (*nodetest.Node).Recover) })
			}
			var wg sync.WaitGroup
			var release, end error
			ctx := within(t, 2*time.Second)
			wg.Go(func() { release = held.Release(ctx) })
			synctest.Wait()
			wg.Go(func() { end = sup.Close(ctx) })
			wg.Wait()
			if (release == nil) != mends || (end == nil) != mends {
				t.Errorf("Release: %v; Close: %v", release, end)
			}
			if mends {
				wantFree(t, nodes, "x")
			}
		})
	}
}

// Leases of AcquireAll, of Do and of Lead are given back through an outage too, and an acquisition
// that was interrupted by it.
func TestCloseAfterAnOutage(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, long)
		leases, err := sup.AcquireAll(t.Context(), []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		until := func(ctx context.Context) error { <-ctx.Done(); return nil }
		var wg sync.WaitGroup
		wg.Go(func() { _ = sup.Do(ctx, "c", until) })
		wg.Go(func() { _ = sup.Lead(ctx, "d", until) })
		synctest.Wait()
		each(nodes, func(n *nodetest.Node) { n.Delay(time.Millisecond) })
		wg.Go(func() { _, _ = sup.Acquire(ctx, "e") })
		synctest.Wait() // its grants were executed, and are not answered yet
		each(nodes, (*nodetest.Node).Crash)
		time.AfterFunc(300*time.Millisecond, func() { each(nodes, (*nodetest.Node).Recover) })
		cancel()
		for _, l := range leases {
			_ = l.Release(canceled())
		}
		wg.Wait()
		from := time.Now()
		if err := sup.Close(within(t, 5*time.Second)); err != nil {
			t.Error(err)
		}
		if took := time.Since(from); took > 400*time.Millisecond {
			t.Errorf("Close took %v", took)
		}
		wantFree(t, nodes, "a", "b", "c", "d", "e")
	})
}

// A waiter of the same process has the name as soon as the nodes are back.
func TestReleaseThroughAnOutageDelaysNoWaiter(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, long)
		held := acquire(t, sup, "x")
		got := make(chan *lease.Lease)
		go func() { l, _ := sup.Acquire(t.Context(), "x"); got <- l }()
		synctest.Wait()
		each(nodes, func(n *nodetest.Node) { n.Cut("") })
		const outage = 300 * time.Millisecond
		time.AfterFunc(outage, func() { each(nodes, func(n *nodetest.Node) { n.Mend("") }) })
		from := time.Now()
		released := make(chan error)
		go func() { released <- held.Release(within(t, 5*time.Second)) }()
		if l := <-got; l == nil || time.Since(from) > outage+longTTL/20+200*time.Millisecond {
			t.Errorf("%v after %v", l, time.Since(from))
		}
		if err := <-released; err != nil {
			t.Error(err)
		}
	})
}

// A releasing is a context whose Err, asked for the second time, closes the supervisor: just when
// Release has ended the lease, and nobody was told yet.
type releasing struct {
	context.Context
	asked int
	close func()
}

func (c *releasing) Err() error {
	if c.asked++; c.asked == 2 {
		c.close()
	}
	return nil
}

// Release that comes when the supervisor is closed already says what Close has found out.
func TestReleaseAfterTheEnd(t *testing.T) {
	for _, down := range []bool{false, true} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes)
			held := acquire(t, sup, "x")
			if down {
				each(nodes, (*nodetest.Node).Crash)
			}
			var end error
			ctx := &releasing{Context: t.Context(), close: func() { end = sup.Close(within(t, ttl/2)) }}
			err := held.Release(ctx)
			if !down {
				if err != nil || end != nil {
					t.Errorf("Release: %v; Close: %v", err, end)
				}
				return
			}
			var e, of *supervisor.ReleaseError
			if !errors.As(err, &e) || !errors.As(end, &of) || e.Name != "x" || len(e.Nodes) != 3 || e.Left != of.Left {
				t.Errorf("Release: %v; Close: %v", err, end)
			}
		})
	}
}
