package supervisor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// as has a supervisor reach the nodes by a path that can be cut for it alone.
func as(client string, nodes []*nodetest.Node) func(*supervisor.Config) {
	return func(cfg *supervisor.Config) {
		cfg.Owner = client
		cfg.Nodes = nil
		for _, n := range nodes {
			cfg.Nodes = append(cfg.Nodes, n.ConnOf(client))
		}
	}
}

// All nodes restart empty one after the other under a held lease that a rival
// wants: it is kept, and the rival never gets it.
func TestRollingRestart(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		for _, apart := range []time.Duration{1500 * time.Millisecond, 600 * time.Millisecond, 300 * time.Millisecond} {
			t.Run(fmt.Sprintf("n=%d, %v apart", n, apart), func(t *testing.T) {
				bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
					holder := start(t, nodes)
					held := acquire(t, holder, "x")
					rival := start(t, nodes, owner("rival"))
					ctx := within(t, 4*ttl+time.Duration(n)*apart)
					var won atomic.Bool
					go func() {
						if _, err := rival.Acquire(ctx, "x"); err == nil {
							won.Store(true)
						}
					}()
					for _, node := range nodes {
						time.Sleep(apart)
						node.Restart()
					}
					<-ctx.Done()
					if err := held.Err(); err != nil {
						t.Errorf("lost: %v", err)
					}
					if won.Load() {
						t.Error("a second holder")
					}
					synctest.Wait()
					wantKeys(t, nodes, "x", string(held.Token()), n)
				})
			})
		}
	}
}

// TryAcquire does not wait for young nodes, and its error says for how long they are.
// An attempt after that wins, and from then on the nodes are grown for everybody.
func TestTryAcquireOfYoungNodes(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Restart()
		}
		var logged bytes.Buffer
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
		begun := time.Now()
		_, err := sup.TryAcquire(t.Context(), "x")
		var e *supervisor.AcquireError
		if !errors.As(err, &e) || !errors.Is(err, supervisor.ErrNoQuorum) || e.Young() <= ttl || e.Young() > 2*ttl || time.Since(begun) != 0 {
			t.Fatalf("%v after %v: want at once that the nodes are young", err, time.Since(begun))
		}
		synctest.Wait()
		for who, text := range map[string]string{"error": err.Error(), "log": logged.String()} {
			if !strings.Contains(text, "Config.MaxTTLCap bounds that time: set it to the largest TTL of all clients") || !strings.Contains(text, e.Young().Round(time.Millisecond).String()) {
				t.Errorf("the %s does not say what the guard costs, and how to end that: %s", who, text)
			}
		}
		if n := strings.Count(logged.String(), `level=INFO msg="nodes are young"`); n != 1 {
			t.Errorf("told %d times:\n%s", n, logged.String())
		}
		<-time.After(e.Young())
		held, err := sup.TryAcquire(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		sup.Close(t.Context())
		next, err := start(t, nodes).TryAcquire(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The hole of the original algorithm: the holder has A, B and C, of which B and C
// restart empty, and a rival reaches B to E. Nobody else holds the name while the
// holder believes, whether it can reach the nodes or is cut off just then.
func TestForgetfulNodesElectNobody(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut off=%v", cut), func(t *testing.T) {
			bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
				nodes[3].Cut("holder")
				nodes[4].Cut("holder")
				nodes[0].Cut("rival")
				holder := start(t, nodes, as("holder", nodes))
				time.Sleep(ttl / 2)
				held := acquire(t, holder, "x")
				rival := start(t, nodes, as("rival", nodes))
				time.Sleep(ttl / 2)
				wantKeys(t, nodes, "x", string(held.Token()), 3)
				nodes[1].Restart()
				nodes[2].Restart()
				if cut {
					for _, n := range nodes[:3] {
						n.Cut("holder")
					}
				}
				other, err := rival.Acquire(within(t, 6*ttl), "x")
				if cut {
					if err != nil {
						t.Fatalf("the rival never got it: %v", err)
					}
					if held.Valid() {
						t.Error("two holders at once")
					}
					if other.Fence() <= held.Fence() {
						t.Errorf("fence %d after %d", other.Fence(), held.Fence())
					}
					return
				}
				if !errors.Is(err, supervisor.ErrHeld) && !errors.Is(err, supervisor.ErrNoQuorum) {
					t.Errorf("the rival: %v", err)
				}
				if err := held.Err(); err != nil {
					t.Errorf("the holder: %v", err)
				}
			})
		})
	}
}

// When nobody holds and all nodes restart at once, the next tenure begins when the
// window is over, and not much later.
func TestAllRestartAtOnce(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		before := acquire(t, sup, "x")
		if err := before.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			n.Restart()
		}
		from := time.Now()
		time.Sleep(50 * time.Millisecond) // it notices, and is enrolled anew
		_, err := sup.TryAcquire(t.Context(), "x")
		if !errors.Is(err, supervisor.ErrNoQuorum) || !strings.Contains(err.Error(), "guarded for") || !strings.Contains(err.Error(), "used for the first time") {
			t.Errorf("error %v", err)
		}
		if st := sup.Nodes()[0]; !st.Guarded || st.Young <= 0 || st.Incarnation != 2 {
			t.Errorf("%+v", st)
		}
		after := acquire(t, sup, "x")
		window := ttl + ttl/100 + 2*time.Millisecond
		if took := time.Since(from); took < window || took > window+500*time.Millisecond {
			t.Errorf("the next tenure began after %v, want the window of %v and up to 500ms", took, window)
		}
		if after.Fence() <= before.Fence() {
			t.Errorf("fence %d after %d", after.Fence(), before.Fence())
		}
	})
}

// With the guard off a deployment that restarts gives leases at once.
func TestGuardOff(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Restart()
		}
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.DisableGuard = true })
		if _, err := sup.TryAcquire(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		synctest.Wait() // a quorum was enough
		if keys := nodes[0].Keys(); len(keys) != 2 {
			t.Errorf("keys %v, want the lock and its fence", keys)
		}
	})
}

// A server that does not say who it is cannot be guarded, which is said once; it
// serves all the same.
func TestServerWithoutRunID(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		nodes[0].Reply("INFO", "$0\r\n\r\n")
		var warnings atomic.Int32
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				if e.Kind == supervisor.EventWarning {
					warnings.Add(1)
				}
			})
		})
		held := acquire(t, sup, "x")
		nodes[0].Crash()
		nodes[0].Recover()
		time.Sleep(2 * ttl)
		if err := held.Err(); err != nil {
			t.Error(err)
		}
		if n := warnings.Load(); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}

// A flush of all data takes the marker too: no answer after it counts, the node is
// young until the window is over, for a process that has just started too, and a lease
// that it forgot is kept and restored.
func TestFlushAll(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		for _, n := range nodes {
			n.Flush()
		}
		fresh := start(t, nodes)
		if _, err := fresh.TryAcquire(t.Context(), "x"); !errors.Is(err, supervisor.ErrNoQuorum) {
			t.Errorf("a process that has just started: %v", err)
		}
		time.Sleep(2 * ttl)
		if st := sup.Nodes()[0]; !st.Enrolled || st.Incarnation != 2 {
			t.Errorf("%+v", st)
		}
		if err := held.Err(); err != nil {
			t.Errorf("all nodes were flushed: %v", err)
		}
		wantKeys(t, nodes, "x", string(held.Token()), 3)
		if _, err := fresh.TryAcquire(t.Context(), "x"); !errors.Is(err, supervisor.ErrHeld) {
			t.Errorf("after the window: %v", err)
		}
	})
}

// A held lease asks the nodes as soon as they are back: its promise grows again within the
// reconnecting, however long the outage was. The wires break, and connections are refused. Who
// waits for a name has it soon after.
func TestOutageShorterThanALease(t *testing.T) {
	for _, c := range []struct {
		nodes       int
		ttl, outage time.Duration
	}{
		{3, ttl, ttl * 4 / 10},
		{3, longTTL, longTTL * 4 / 10},
		{1, longTTL, longTTL * 4 / 10},
		{3, longTTL, longTTL * 6 / 10},
	} {
		t.Run(fmt.Sprintf("%d nodes, TTL %v, for %v", c.nodes, c.ttl, c.outage), func(t *testing.T) {
			var grown, won []time.Duration
			for i := range 20 {
				bubble(t, c.nodes, func(t *testing.T, nodes []*nodetest.Node) {
					var w breakable
					sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.TTL, cfg.Nodes = c.ttl, w.conns(nodes) })
					held := acquire(t, sup, "x")
					time.Sleep(c.ttl/2 + time.Duration(i)*17*time.Millisecond)
					w.cut()
					from := time.Now().Add(c.outage)
					waited := make(chan time.Duration, 1)
					go func() {
						if _, err := sup.Acquire(t.Context(), "y"); err != nil {
							t.Error(err)
						}
						waited <- time.Since(from)
					}()
					time.Sleep(c.outage)
					w.mend()
					was := held.Remaining()
					for held.Remaining() <= was && time.Since(from) < c.ttl {
						time.Sleep(time.Millisecond)
					}
					grown, won = append(grown, time.Since(from)), append(won, <-waited)
					if err := held.Err(); err != nil {
						t.Error(err)
					}
				})
			}
			wantMedian(t, "kept again", grown, 20*time.Millisecond)
			wantMedian(t, "acquired", won, 40*time.Millisecond) // which has pauses of its own
		})
	}
}

func wantMedian(t *testing.T, what string, after []time.Duration, most time.Duration) {
	t.Helper()
	slices.Sort(after)
	if median := after[len(after)/2]; median >= most {
		t.Errorf("%s after %v, a median of %v", what, after, median)
	}
}

// breakable are wires that break all at once; connections are refused then.
type breakable struct {
	mu      sync.Mutex
	wires   []net.Conn
	refuses bool
}

func (b *breakable) conns(nodes []*nodetest.Node) []node.Conn {
	conns := make([]node.Conn, len(nodes))
	for i, n := range nodes {
		o := n.Option("")
		dial := o.DialCtxFn
		o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.refuses {
				return nil, errors.New("connection refused")
			}
			c, err := dial(ctx, addr, d, cfg)
			b.wires = append(b.wires, c)
			return c, err
		}
		conns[i] = node.FromOption(o)
	}
	return conns
}

func (b *breakable) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses = true
	for _, c := range b.wires {
		c.Close()
	}
}

func (b *breakable) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuses = false
}

// A supervisor that only asks raises no node's MaxTTL, acquires nothing, and sees and revokes what
// others hold.
func TestNoLeases(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		asks := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.TTL, cfg.MaxTTLCap, cfg.NoLeases = 100*ttl, 100*ttl, true
		})
		holder := start(t, nodes, func(cfg *supervisor.Config) { cfg.MaxTTLCap = 100 * ttl })
		held := acquire(t, holder, "x")
		for i, n := range holder.Nodes() {
			if n.MaxTTL != ttl {
				t.Errorf("node %d has a MaxTTL of %v, want %v", i, n.MaxTTL, ttl)
			}
		}
		handle, ctx := held.Handle(), within(t, time.Minute)
		calls := map[string]error{
			"Do":   asks.Do(ctx, "y", never(t)),
			"Lead": asks.Lead(ctx, "y", never(t)),
		}
		_, calls["Acquire"] = asks.Acquire(ctx, "y")
		_, calls["TryAcquire"] = asks.TryAcquire(ctx, "y")
		_, calls["AcquireAll"] = asks.AcquireAll(ctx, []string{"y"})
		_, calls["AcquireAny"] = asks.AcquireAny(ctx, []string{"y"})
		_, calls["Once"] = asks.Once(ctx, "y", time.Minute, never(t))
		_, calls["Adopt"] = asks.Adopt(ctx, handle)
		for call, err := range calls {
			if err == nil || !strings.Contains(err.Error(), "Config.NoLeases is set") {
				t.Errorf("%s: %v", call, err)
			}
		}
		_, _ = asks.Inspect(t.Context(), "x") // it came first, and learns of the holder's MaxTTL by this
		time.Sleep(ttl)
		h, err := asks.Inspect(t.Context(), "x")
		if err != nil || !h.Held {
			t.Fatal(err, h)
		}
		if err := asks.Revoke(t.Context(), "x", h.Token); err != nil {
			t.Error(err)
		}
		<-held.Lost()
	})
}
