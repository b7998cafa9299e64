package supervisor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// secret is the random part of a token.
const secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// A loss is one way to lose a lease on three nodes, and what its holder is told.
type loss struct {
	name    string
	change  func(*supervisor.Config)
	opts    []supervisor.Option
	do      func(t *testing.T, sup *supervisor.Supervisor, nodes []*nodetest.Node)
	kind    error
	kindNot error
	nodes   map[int]string // what is said of them; of no others
	untold  bool           // the nodes tell of no change, as over RESP2
}

func onNodes(indices []int, f func(*nodetest.Node)) func(*testing.T, *supervisor.Supervisor, []*nodetest.Node) {
	return func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
		for _, i := range indices {
			f(nodes[i])
		}
	}
}

func failing(with string) func(*nodetest.Node) {
	return func(n *nodetest.Node) { n.Fail("EVALSHA", with); n.Fail("EVAL", with) }
}

const (
	noRight  = "NOPERM User worker has no permissions to run the 'pexpire' command"
	noSave   = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk"
	noMemory = "OOM command not allowed when used memory > 'maxmemory'."
	replica  = "READONLY You can't write against a read only replica."
	noSlot   = "CROSSSLOT Keys in request don't hash to the same slot"
)

var both = []int{0, 1}

var losses = []loss{
	{name: "no right", do: onNodes(both, failing(noRight)), kind: lease.ErrExpired, nodes: map[int]string{0: noRight, 1: noRight}},
	{name: "each its own", kind: lease.ErrExpired, nodes: map[int]string{0: noSave, 1: noMemory, 2: noSlot},
		do: func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
			failing(noSave)(nodes[0])
			failing(noMemory)(nodes[1])
			failing(noSlot)(nodes[2])
		}},
	{name: "replicas", do: onNodes(both, failing(replica)), kind: lease.ErrExpired, nodes: map[int]string{0: replica, 1: replica}},
	{name: "silence", do: onNodes(both, (*nodetest.Node).Hang), kind: lease.ErrExpired,
		nodes: map[int]string{0: "no answer within", 1: "no answer within"}},
	{name: "gone", do: onNodes([]int{0, 1, 2}, (*nodetest.Node).Crash), kind: lease.ErrExpired,
		nodes: map[int]string{0: "not connected: ", 1: "not connected: ", 2: "not connected: "}},
	{name: "silence, gone and no right", kind: lease.ErrExpired,
		nodes: map[int]string{0: "no answer within", 1: "not connected: ", 2: noRight},
		do: func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
			nodes[0].Hang()
			nodes[1].Crash()
			failing(noRight)(nodes[2])
		}},
	{name: "deleted", do: onNodes(both, func(n *nodetest.Node) { n.Del("x") }), kind: lease.ErrRevoked,
		nodes: map[int]string{0: "its key was deleted", 1: "its key was deleted"}},
	{name: "deleted without renewal", do: onNodes(both, func(n *nodetest.Node) { n.Del("x") }), kind: lease.ErrRevoked,
		opts: []supervisor.Option{supervisor.WithoutRenewal()}, nodes: map[int]string{0: "its key was deleted", 1: "its key was deleted"}},
	{name: "overwritten", kind: lease.ErrTaken,
		nodes: map[int]string{0: "overwritten by rival:1", 1: "overwritten by another client"},
		do: func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
			nodes[0].Set("x", "rival:1/"+secret, time.Minute)
			nodes[1].Set("x", "8d7f8e0e-"+secret, time.Minute)
		}},
	{name: "overwritten by much", kind: lease.ErrTaken,
		do:    onNodes(both, func(n *nodetest.Node) { n.Set("x", strings.Repeat("much", 1<<10), 0) }),
		nodes: map[int]string{0: "overwritten by another client", 1: "overwritten by another client"}},
	{name: "overwritten here and deleted there", kind: lease.ErrTaken, kindNot: lease.ErrRevoked,
		nodes: map[int]string{0: "overwritten by rival:1", 1: "its key was deleted"},
		do: func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
			nodes[0].Set("x", "rival:1/"+secret, time.Minute)
			nodes[1].Del("x")
		}},
	{name: "flushed again and again", kind: lease.ErrForgotten,
		nodes: map[int]string{0: "it forgot its data (restarted or flushed)", 1: "it forgot its data (restarted or flushed)"},
		do: func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
			for range 2 * ttl / (ttl / 8) { // before it is healed
				nodes[0].Flush()
				nodes[1].Flush()
				time.Sleep(ttl / 8)
			}
		}},
	{name: "flushed and taken", kind: lease.ErrTaken,
		nodes: map[int]string{0: "it forgot its data (restarted or flushed), and was then overwritten by rival:1", 1: "and was then overwritten by rival:1"},
		do: onNodes(both, func(n *nodetest.Node) {
			n.Flush()
			n.Set("x", "rival:1/"+secret, time.Minute)
		})},
	{name: "flushed without a guard", change: func(cfg *supervisor.Config) { cfg.DisableGuard = true }, kind: lease.ErrRevoked,
		do:    onNodes(both, (*nodetest.Node).Flush),
		nodes: map[int]string{0: "its data was flushed", 1: "its data was flushed"}},
	{name: "flushed without a guard, not renewed", change: func(cfg *supervisor.Config) { cfg.DisableGuard = true }, kind: lease.ErrRevoked,
		do: onNodes(both, (*nodetest.Node).Flush), opts: []supervisor.Option{supervisor.WithoutRenewal()},
		nodes: map[int]string{0: "its data was flushed", 1: "its data was flushed"}},
	{name: "flushed without a guard, untold", kind: lease.ErrRevoked, untold: true,
		change: func(cfg *supervisor.Config) { cfg.DisableGuard = true },
		do:     onNodes(both, (*nodetest.Node).Flush),
		nodes:  map[int]string{0: "its key was deleted, or its data flushed", 1: "its key was deleted, or its data flushed"}},
	{name: "flushed before without a guard, then deleted", change: func(cfg *supervisor.Config) { cfg.DisableGuard = true }, kind: lease.ErrRevoked,
		do: func(_ *testing.T, _ *supervisor.Supervisor, nodes []*nodetest.Node) {
			nodes[0].Flush()
			time.Sleep(3 * ttl)
			nodes[0].Del("x")
			nodes[1].Del("x")
		},
		nodes: map[int]string{0: "its key was deleted, or its data flushed", 1: "its key was deleted, or its data flushed"}},
	{name: "restarted without a guard", change: func(cfg *supervisor.Config) { cfg.DisableGuard = true }, kind: lease.ErrForgotten,
		do: func(t *testing.T, sup *supervisor.Supervisor, nodes []*nodetest.Node) {
			// Without a guard a lease outlives two restarts if the first node has it again before the
			// second is seen to have lost it. Answers that take as long from both rule that out.
			onNodes(both, func(n *nodetest.Node) { n.Delay(5 * time.Millisecond) })(t, sup, nodes)
			onNodes(both, (*nodetest.Node).Restart)(t, sup, nodes)
		},
		nodes: map[int]string{0: "it forgot its data", 1: "it forgot its data"}},
	{name: "clocks that gained", do: onNodes(both, func(n *nodetest.Node) { n.Jump(5 * time.Second) }), kind: lease.ErrPaused,
		nodes: map[int]string{0: "its clock gained 5s", 1: "its clock gained 5s"}},
	{name: "not renewed", kind: lease.ErrExpired, opts: []supervisor.Option{supervisor.WithoutRenewal()}},
	{name: "held for long enough", kind: lease.ErrMaxHold, kindNot: lease.ErrExpired, opts: []supervisor.Option{supervisor.WithMaxHold(ttl / 2)}},
	{name: "closed", kind: lease.ErrClosed, kindNot: lease.ErrExpired,
		do: func(_ *testing.T, sup *supervisor.Supervisor, _ []*nodetest.Node) { _ = sup.Close(canceled()) }},
}

// A loss carries its reasons: what was wrong at each node that did not renew, or no longer
// counts, in Err, in the event, in the log and in the cause of a context, and never a token.
func TestLossCarriesItsReasons(t *testing.T) {
	for _, c := range losses {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				var log bytes.Buffer
				told := make(chan supervisor.Event, 1)
				change := func(cfg *supervisor.Config) {
					cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
					cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
						if e.Kind == supervisor.EventLost {
							told <- e
						}
					})
					if c.change != nil {
						c.change(cfg)
					}
					if c.untold {
						untracked(nodes)(cfg)
					}
				}
				sup := start(t, nodes, change)
				held := acquire(t, sup, "x", c.opts...)
				ctx := held.Context(t.Context())
				time.Sleep(ttl / 8)
				if c.do != nil {
					c.do(t, sup, nodes)
				}
				select {
				case <-ctx.Done():
				case <-time.After(5 * ttl):
					t.Fatalf("never told: %+v", sup.Nodes())
				}
				err := held.Err()
				var lost *lease.LostError
				switch {
				case !errors.Is(err, lease.ErrLost) || !errors.Is(err, c.kind) || !errors.As(err, &lost):
					t.Fatalf("%v: want %v", err, c.kind)
				case c.kindNot != nil && errors.Is(err, c.kindNot), errors.Is(err, context.DeadlineExceeded):
					t.Errorf("%v is more than it should be", err)
				case context.Cause(ctx) != err:
					t.Errorf("the cause is %v, Err %v", context.Cause(ctx), err)
				}
				if e := <-told; e.Err != err {
					t.Errorf("the event says %v, Err %v", e.Err, err)
				}
				synctest.Wait() // for the log
				wantReasons(t, lost, nodes, c.nodes)
				if text := fmt.Sprintf("%v %+v", err, lost.Nodes); strings.Contains(text, secret) || strings.Contains(text, "\n") || strings.Contains(text, string(held.Token())) {
					t.Errorf("%q tells a token, or is of several lines", text)
				}
				for _, r := range lost.Nodes {
					if !strings.Contains(log.String(), r.Node+": ") {
						t.Errorf("the log does not name %s: %s", r.Node, log.String())
					}
				}
			})
		})
	}
}

// wantReasons wants these of these nodes, and none of others.
func wantReasons(t *testing.T, lost *lease.LostError, nodes []*nodetest.Node, want map[int]string) {
	t.Helper()
	got := make(map[string]string)
	for _, r := range lost.Nodes {
		got[r.Node] = r.Err.Error()
		for _, word := range []string{"overwritten", "deleted"} { // what is told of all is so of each
			if strings.Contains(lost.Kind.Error(), word) && !strings.Contains(r.Err.Error(), word) {
				t.Errorf("%v: %s: %v", lost.Kind, r.Node, r.Err)
			}
		}
	}
	for i, n := range nodes {
		text, is := got[nodetest.Conns(nodes)[i].String()]
		if says, wanted := want[i]; wanted != is || !strings.Contains(text, says) {
			t.Errorf("%v: %q, want %q", n, text, says)
		}
	}
}

// A lease of its own that does not renew itself says that it did not.
func TestLossWithoutRenewal(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, start(t, nodes), "x", supervisor.WithoutRenewal())
		<-held.Lost()
		if text := held.Err().Error(); !strings.Contains(text, "without renewal") {
			t.Error(text)
		}
	})
}

// The former holder of a lease that was adopted is told by whom.
func TestLossByAdoption(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, start(t, nodes), "x")
		heir, err := start(t, nodes, owner("heir")).Adopt(t.Context(), held.Handle(), supervisor.FormerEnded())
		if err != nil {
			t.Fatal(err)
		}
		<-held.Lost()
		var lost *lease.LostError
		if err := held.Err(); !errors.Is(err, lease.ErrTaken) || !errors.As(err, &lost) || len(lost.Nodes) < 2 ||
			!strings.Contains(err.Error(), "overwritten by heir") || strings.Contains(err.Error(), string(heir.Token())) {
			t.Error(err)
		}
		if err := held.Extend(t.Context(), ttl); !errors.Is(err, lease.ErrTaken) || !errors.As(err, &lost) {
			t.Errorf("Extend: %v", err)
		}
	})
}

// Whatever two of three nodes do instead of renewing is told in their own words: of the lease,
// and of each node.
func TestRefusalsAreTold(t *testing.T) {
	answering := func(with string) func(*nodetest.Node) {
		return func(n *nodetest.Node) { failing(with)(n); n.Fail("*", with) }
	}
	var dialled atomic.Pointer[string] // what a dial ends with instead
	refusing := func(with string) func(*nodetest.Node) {
		return func(n *nodetest.Node) { dialled.Store(&with); n.Crash(); n.Recover() }
	}
	hangUp := func(n *nodetest.Node) { n.Reply("EVALSHA", nodetest.EOF); n.Reply("EVAL", nodetest.EOF) }
	for says, do := range map[string]func(*nodetest.Node){
		"BUSY Redis is busy running a script.":          answering("BUSY Redis is busy running a script."),
		"LOADING Redis is loading the dataset":          answering("LOADING Redis is loading the dataset"),
		"MASTERDOWN Link with MASTER is down":           answering("MASTERDOWN Link with MASTER is down"),
		"NOREPLICAS Not enough good replicas to write.": failing("NOREPLICAS Not enough good replicas to write."),
		replica:                             answering(replica),
		noMemory:                            failing(noMemory),
		"connection closed by the node":     hangUp,
		"tls: failed to verify certificate": refusing("tls: failed to verify certificate"),
	} {
		t.Run(says, func(t *testing.T) {
			dialled.Store(nil)
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes, func(cfg *supervisor.Config) {
					for i, n := range nodes[:2] {
						o := n.Option("")
						dial := o.DialCtxFn
						o.DialCtxFn = func(ctx context.Context, to string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
							if with := dialled.Load(); with != nil {
								return nil, errors.New(*with)
							}
							return dial(ctx, to, d, c)
						}
						cfg.Nodes[i] = node.FromOption(o)
					}
				})
				held := acquire(t, sup, "x")
				time.Sleep(ttl / 8)
				each(nodes[:2], do)
				<-held.Lost()
				var lost *lease.LostError
				if err := held.Err(); !errors.Is(err, lease.ErrExpired) || !errors.As(err, &lost) {
					t.Fatal(err)
				}
				wantReasons(t, lost, nodes, map[int]string{0: says, 1: says})
				for i, st := range sup.Nodes() {
					if text := fmt.Sprint(st.Err); strings.Contains(text, says) != (i < 2) {
						t.Errorf("%s is shown with %s", st.Node, text)
					}
				}
			})
		})
	}
}

// Very many leases that are lost for the same reasons share one error.
func TestLossesShareTheirReasons(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		var all []*lease.Lease
		for i := range 200 {
			all = append(all, acquire(t, sup, fmt.Sprint("x", i)))
		}
		for _, n := range nodes {
			n.Hang()
		}
		shared := make(map[error]bool)
		for _, l := range all {
			<-l.Lost()
			shared[l.Err()] = true
		}
		if len(shared) > 4 {
			t.Errorf("%d errors for %d leases", len(shared), len(all))
		}
	})
}

// A node that is connected and does not renew says why, until it does again.
func TestNodeSaysWhyItDoesNotRenew(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		acquire(t, sup, "x")
		failing(noRight)(nodes[1])
		time.Sleep(ttl / 2)
		if st := sup.Nodes(); !st[1].Enrolled || st[1].Err == nil || !strings.Contains(st[1].Err.Error(), "NOPERM") || st[0].Err != nil {
			t.Errorf("%+v", st)
		}
		failing("")(nodes[1])
		time.Sleep(ttl / 2)
		if st := sup.Nodes(); st[1].Err != nil {
			t.Errorf("it renews again, and says %v", st[1].Err)
		}
	})
}

// Nor does it say so for longer than a minute: nothing may have been renewed since.
func TestNodeThatDidNotRenewLongAgo(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		failing(noRight)(nodes[1])
		time.Sleep(ttl / 2)
		failing("")(nodes[1])
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - ttl/2)
		if st := sup.Nodes(); st[1].Err == nil {
			t.Error("it is forgotten too soon")
		}
		time.Sleep(ttl / 2)
		if st := sup.Nodes(); st[1].Err != nil {
			t.Errorf("a minute later it says %v", st[1].Err)
		}
	})
}

// Events that metrics are made of: how long each caller has waited, and when a wait began.
func TestEventsOfWaiting(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		var events []supervisor.Event
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Name != "" {
					events = append(events, e)
				}
			})
		})
		other := start(t, nodes, owner("other"))
		const wait = 1500 * time.Millisecond
		want := func(what string, kinds ...supervisor.EventKind) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			var got []supervisor.EventKind
			for _, e := range events {
				got = append(got, e.Kind)
				if (e.Kind == supervisor.EventAcquired || e.Kind == supervisor.EventFailed) && (e.Waited < wait || e.Waited > wait+ttl/4) {
					t.Errorf("%s: %v after %v, want %v", what, e.Kind, e.Waited, wait)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(kinds) {
				t.Errorf("%s: %v, want %v", what, got, kinds)
			}
			events = nil
		}
		taken := func(name string, do func(ctx context.Context)) {
			t.Helper()
			held := acquire(t, other, name)
			var wg sync.WaitGroup
			wg.Go(func() { do(t.Context()) })
			time.Sleep(wait)
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
			wg.Wait()
		}
		waits, ends := supervisor.EventWaiting, []supervisor.EventKind{supervisor.EventWaiting, supervisor.EventAcquired, supervisor.EventReleased}
		taken("a", func(ctx context.Context) {
			if err := sup.Do(ctx, "a", func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		})
		want("Do", ends...)
		taken("b", func(ctx context.Context) {
			if err := sup.Lead(ctx, "b", func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		})
		want("Lead", ends...)
		taken("c", func(ctx context.Context) {
			leases, err := sup.AcquireAll(ctx, []string{"c"})
			if err != nil {
				t.Error(err)
				return
			}
			_ = leases[0].Release(ctx)
		})
		want("AcquireAll", ends...)

		held := acquire(t, other, "d")
		if _, err := sup.Acquire(within(t, wait), "d"); err == nil {
			t.Error("acquired")
		}
		want("given up", waits, supervisor.EventFailed)
		_ = held.Release(t.Context())
		if st := sup.Stats(); st.Waits != 4 || other.Stats().Waits != 0 {
			t.Errorf("%d waits, and %d of the other", st.Waits, other.Stats().Waits)
		}
	})
}

// However often a caller tries again, it is told once that it waits.
func TestWaitIsToldOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		told := make(map[supervisor.EventKind]int)
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) { told[e.Kind]++ })
		})
		acquire(t, start(t, nodes, owner("other")), "x")
		if _, err := sup.Acquire(t.Context(), "x", supervisor.WithAttempts(4)); !errors.Is(err, supervisor.ErrHeld) {
			t.Error(err)
		}
		synctest.Wait()
		if told[supervisor.EventWaiting] != 1 || told[supervisor.EventFailed] != 1 {
			t.Errorf("told %v", told)
		}
	})
}

// An heir that waits for the former holder says so, and for how long it did.
func TestEventsOfAdoption(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		events := make(chan supervisor.Event, 10)
		held := acquire(t, start(t, nodes), "x")
		heir := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
				if e.Name != "" {
					events <- e
				}
			})
		})
		if _, err := heir.Adopt(t.Context(), held.Handle()); err != nil {
			t.Fatal(err)
		}
		if e := <-events; e.Kind != supervisor.EventWaiting {
			t.Errorf("first %v", e.Kind)
		}
		if e := <-events; e.Kind != supervisor.EventAcquired || e.Waited < ttl/2 {
			t.Errorf("%v after %v", e.Kind, e.Waited)
		}
	})
}

// Stats has no side effect, and tells how near to its end a lease was renewed, and how often a
// node was asked.
func TestStatsOfRenewals(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		before := sup.Nodes()
		time.Sleep(10 * ttl)
		first, second := sup.Stats(), sup.Stats()
		if second.Busy = first.Busy; first != second {
			t.Errorf("the second reader is told\n%+v, the first\n%+v", second, first)
		}
		if first.LeastMargin < ttl/2 || first.LeastMargin > ttl*7/10 || first.Margins[5]+first.Margins[6] < 20 || first.Margins[0] != 0 {
			t.Errorf("renewed in time: %+v", first)
		}
		for i, st := range sup.Nodes() {
			if n := st.RoundTrips - before[i].RoundTrips; n < 20 || n > 60 {
				t.Errorf("%s: %d round trips", st.Node, n)
			}
		}
		nodes[0].Hang()
		nodes[1].Hang()
		for held.Remaining() > ttl/4 {
			time.Sleep(ttl / 100)
		}
		nodes[0].Resume()
		nodes[1].Resume()
		time.Sleep(ttl)
		late := sup.Stats()
		if late.LeastMargin > ttl/4 || late.LeastMargin <= 0 || late.Margins[0]+late.Margins[1] == 0 {
			t.Errorf("renewed at the last moment: %+v", late)
		}
		time.Sleep(time.Minute)
		if now := sup.Stats().LeastMargin; now < ttl/2 {
			t.Errorf("a minute later the least margin is %v", now)
		}
	})
}

// An observer that is no function is refused.
func TestObserverIsAFunction(t *testing.T) {
	nodes := nodetest.Start(1)
	defer nodes[0].Close()
	_, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), Observer: supervisor.ObserverFunc(nil)})
	if err == nil || !strings.Contains(err.Error(), "Observer") {
		t.Error(err)
	}
}

// Stats tell how much there is of each, and how busy the loop was.
func TestStatsOfThePresent(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		acquire(t, sup, "x")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _, _ = sup.Acquire(ctx, "x"); close(done) }()
		time.Sleep(time.Minute)
		st := sup.Stats()
		if st.Held != 1 || st.Waiting != 1 || st.Owed != 0 || st.Up < time.Minute || st.Busy > 2*time.Second {
			t.Errorf("%+v", st)
		}
		cancel()
		<-done
	})
}

// How far a node's clock is ahead is counted from the lower median of those that were read.
func TestOffsetsOfNodes(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		for i, ahead := range []time.Duration{4, 1, 2, 3} {
			nodes[i].Jump(ahead * time.Hour)
		}
		nodes[3].Crash()
		nodes[4].Crash()
		sup := start(t, nodes)
		wants := func(want ...time.Duration) {
			t.Helper()
			for i, st := range sup.Nodes() {
				if got := st.Offset.Round(time.Minute); got != want[i]*time.Hour {
					t.Errorf("node %d: %v, want %d h", i, got, want[i])
				}
			}
		}
		wants(2, -1, 0, 0, 0)
		nodes[3].Recover()
		time.Sleep(time.Minute)
		wants(2, -1, 0, 1, 0)
	})
}
