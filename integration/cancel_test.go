package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// 200 acquisitions that are cancelled at random moments, half of them against a
// rival: none returns a lease after its context was done, and one second later no
// key is left on any node; also not on two nodes that were stopped meanwhile, one
// second after they go on.
func TestCancel(t *testing.T) {
	t.Parallel()
	onProcesses(t, 5, 5, cancelHealthy)
}

func TestCancelStoppedBriefly(t *testing.T) {
	t.Parallel()
	onProcesses(t, 5, 5, cancelStoppedBriefly)
}

func TestCancelStoppedForLong(t *testing.T) {
	takesLong(t)
	t.Parallel()
	onProcesses(t, 5, 10, cancelStoppedForLong)
}

// longTTL is one with which no key goes away by itself before it is looked for.
const longTTL = 10 * time.Second

func cancelHealthy(t *testing.T, c *cluster.Cluster, n *notes) {
	cancelling(t, c, n, longTTL, func() func() { return func() {} })
}

// Stopped for less than the TTL.
func cancelStoppedBriefly(t *testing.T, c *cluster.Cluster, n *notes) {
	cancelling(t, c, n, longTTL, func() func() { return pause(t, c.Servers[:2]) })
}

// Stopped for longer than the TTL: what the other nodes keep has expired by then.
func cancelStoppedForLong(t *testing.T, c *cluster.Cluster, n *notes) {
	cancelling(t, c, n, ttl, func() func() {
		resume, end := pause(t, c.Servers[:2]), time.After(2*ttl)
		return func() { <-end; resume() }
	})
}

// cancelling makes the acquisitions between fault and what fault returns.
func cancelling(t *testing.T, c *cluster.Cluster, n *notes, ttl time.Duration, fault func() (mend func())) {
	terms := func(cfg *supervisor.Config) { cfg.TTL, cfg.NodeTimeout = ttl, nodeTimeout }
	sup, rival := start(t, c, terms), start(t, c, terms)
	mend := fault()
	stop := contend(t, rival)
	won := storm(t, sup, n)
	stop()
	mend()
	n.took("the last key was seen after", cleanWithin(t, c, time.Second))
	if t.Failed() {
		for _, s := range []*supervisor.Supervisor{sup, rival} {
			t.Logf("%d releases are owed; the nodes: %+v", s.Stats().Owed, s.Nodes())
		}
	}
	n.ratio("won of 200 acquisitions", float64(won)/200)
	await(t, "the supervisors to owe nothing", func() error {
		for _, s := range []*supervisor.Supervisor{sup, rival} {
			if st := s.Stats(); st.Held+st.Waiting+st.Owed != 0 {
				return fmt.Errorf("%d leases, %d waiters, %d owed releases", st.Held, st.Waiting, st.Owed)
			}
		}
		return nil
	})
}

// Every second one of the names x0 to x9 is the rival's too.
func nameOf(i int) string { return fmt.Sprint("x", i%10) }

// storm makes 200 acquisitions, eight at once, and cancels each at some moment. It
// returns how many had a lease before.
func storm(t *testing.T, sup *supervisor.Supervisor, n *notes) int {
	var next, won atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= 200; i = next.Add(1) {
				most := 3 * time.Millisecond // about what an acquisition takes
				if i%4 < 2 {
					most = 150 * time.Millisecond // and a waiter's pause
				}
				ctx := newWatched(t.Context())
				timer := time.AfterFunc(rand.N(most), ctx.end)
				held, err := sup.Acquire(ctx, nameOf(int(i)))
				back := time.Now()
				if err != nil {
					if held != nil || !errors.Is(err, context.Canceled) {
						t.Errorf("acquisition %d: %v, %v", i, held, err)
					}
					continue
				}
				won.Add(1)
				if ctx.told.Load() {
					t.Errorf("acquisition %d returned a lease after it had seen that its context was done", i)
				}
				if ended := ctx.ended.Load(); ended != nil {
					// The end may come right after the last look at the context.
					d := back.Sub(*ended)
					n.took("a lease was returned after the cancelling", d)
					if d > 100*time.Millisecond {
						t.Errorf("acquisition %d returned a lease %v after its context was done", i, d)
					}
				}
				timer.Stop()
				giveBack(t, held)
				ctx.end()
			}
		})
	}
	wg.Wait()
	return int(won.Load())
}

// giveBack releases a lease. Now and then it need not be confirmed, as the clients of a test
// use the machine too; what is left there then is what the test looks for.
func giveBack(t *testing.T, held *lease.Lease) {
	t.Helper()
	w := newWatch()
	// The last waiter of a test may be giving back what it had when the test ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	switch err := held.Release(ctx); {
	case err == nil:
	case unanswered(err):
		excuse(t, "%v; %v", err, w)
	default:
		t.Error(err)
	}
}

// contend has a supervisor acquire, hold for a moment and release the even ones of
// the names, until stop is called.
func contend(t *testing.T, rival *supervisor.Supervisor) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				held, err := rival.Acquire(ctx, nameOf(2*rand.IntN(5)))
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("the rival: %v", err)
					}
					continue
				}
				<-time.After(rand.N(3 * time.Millisecond))
				giveBack(t, held)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// cleanWithin wants no server to have a key from d on, and returns when the last
// one was seen.
func cleanWithin(t *testing.T, c *cluster.Cluster, d time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	var last time.Duration
	for look := time.Duration(0); look <= d+d/4; look += d / 20 {
		<-time.After(time.Until(begun.Add(look)))
		for i, s := range c.Servers {
			at := time.Since(begun)
			keys, err := lockKeys(s)
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) == 0 {
				continue
			}
			if last = max(last, at); at >= d {
				t.Errorf("after %v server %d keeps %q", at, i, keys)
			}
		}
	}
	return last
}

// A watched context knows when it was ended, and whether anyone was told.
type watched struct {
	context.Context
	cancel context.CancelFunc
	ended  atomic.Pointer[time.Time]
	told   atomic.Bool
}

func newWatched(parent context.Context) *watched {
	ctx, cancel := context.WithCancel(parent)
	return &watched{Context: ctx, cancel: cancel}
}

func (w *watched) Err() error {
	err := w.Context.Err()
	if err != nil {
		w.told.Store(true)
	}
	return err
}

func (w *watched) end() {
	w.cancel()
	now := time.Now()
	w.ended.CompareAndSwap(nil, &now)
}
