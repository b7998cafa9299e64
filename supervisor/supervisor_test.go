package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// These tests run real supervisors, actors and rueidis clients against in-memory
// nodes, inside bubbles of fake time: a goroutine that is left over fails them.

const ttl = 2 * time.Second

// bubble runs f in a bubble with n nodes, and ends them after it.
func bubble(t *testing.T, n int, f func(t *testing.T, nodes []*nodetest.Node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(n)
		defer func() {
			for _, n := range nodes {
				n.Close()
			}
		}()
		f(t, nodes)
	})
}

// start makes a supervisor on the nodes, and closes it after the test.
func start(t *testing.T, nodes []*nodetest.Node, change ...func(*supervisor.Config)) *supervisor.Supervisor {
	t.Helper()
	cfg := supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: ttl, Clock: clock.Runtime(), Owner: "me"}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.MaxTTLCap == 0 {
		cfg.MaxTTLCap = max(cfg.TTL, cfg.MaxTTL) // all clients of a test agree
	}
	sup, err := supervisor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sup.Close(canceled()) })
	synctest.Wait() // for every node that can be enrolled
	return sup
}

func owner(name string) func(*supervisor.Config) {
	return func(cfg *supervisor.Config) { cfg.Owner = name }
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func acquire(t *testing.T, sup *supervisor.Supervisor, name string, opts ...supervisor.Option) *lease.Lease {
	t.Helper()
	held, err := sup.Acquire(t.Context(), name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait() // for the votes beyond the quorum
	return held
}

// within returns a context with a timeout of d that the test need not cancel.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func wantKeys(t *testing.T, nodes []*nodetest.Node, key, token string, want int) {
	t.Helper()
	got := 0
	for _, n := range nodes {
		value, _, ok := n.Get(key)
		is, _ := node.TokenOf(value)
		if want, _ := node.TokenOf(token); ok && (token == "" || is == want) {
			got++
		}
	}
	if got != want {
		t.Fatalf("%d nodes keep %q, want %d", got, key, want)
	}
}

// A lease is held for as long as it is wanted, and given back cleanly.
func TestHeldUntilReleased(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes)
				held := acquire(t, sup, "x")
				select {
				case <-held.Lost():
					t.Fatalf("lost: %v", held.Err())
				case <-time.After(20 * ttl):
				}
				if !held.Valid() || held.Fence() == 0 || held.Name() != "x" || held.Owner() != "me" {
					t.Errorf("valid %v, fence %d, name %q, owner %q", held.Valid(), held.Fence(), held.Name(), held.Owner())
				}
				wantKeys(t, nodes, "x", string(held.Token()), n)
				if err := held.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				wantKeys(t, nodes, "x", "", 0)
				select {
				case <-held.Done():
				default:
					t.Error("Done is open after Release")
				}
				if err := held.Err(); err != lease.ErrReleased {
					t.Errorf("Err() = %v", err)
				}
			})
		})
	}
}

// A minority of nodes that crash or hang is not noticed by the holder, and costs an
// acquisition nothing.
func TestMinorityDoesNotMatter(t *testing.T) {
	for what, fail := range map[string]func(*nodetest.Node){
		"crash": (*nodetest.Node).Crash,
		"hang":  (*nodetest.Node).Hang,
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes)
				held := acquire(t, sup, "x")
				fail(nodes[0])
				fail(nodes[1])
				select {
				case <-held.Lost():
					t.Fatalf("lost: %v", held.Err())
				case <-time.After(5 * ttl):
				}
				from := time.Now()
				other := acquire(t, sup, "y")
				if took := time.Since(from); took > 0 { // the healthy nodes answer in no time here
					t.Errorf("an acquisition took %v", took)
				}
				if err := other.Release(t.Context()); err != nil {
					t.Errorf("release: %v", err)
				}
			})
		})
	}
}

// When a majority is gone Lost closes before the nodes can give the name away, and
// not before the time for which they had promised it, less the grace.
func TestMajorityGone(t *testing.T) {
	for what, fail := range map[string]func(*nodetest.Node){
		"crash": (*nodetest.Node).Crash,
		"hang":  (*nodetest.Node).Hang,
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes)
				held := acquire(t, sup, "x")
				time.Sleep(3*ttl + 100*time.Millisecond) // somewhere between two renewals
				for _, n := range nodes[2:] {
					fail(n)
				}
				deadline := time.Now().Add(held.Remaining())
				<-held.Lost()
				if left := time.Until(deadline); left < 10*time.Millisecond || left > 150*time.Millisecond {
					t.Errorf("told %v before the deadline, want the grace of 100ms", left)
				}
				if !errors.Is(held.Err(), lease.ErrExpired) || held.Valid() || held.Remaining() != 0 {
					t.Errorf("Err() = %v, Valid() = %v, Remaining() = %v", held.Err(), held.Valid(), held.Remaining())
				}
				if err := held.Release(t.Context()); !errors.Is(err, lease.ErrLost) {
					t.Errorf("Release of a lost lease: %v", err)
				}
			})
		})
	}
}

// Nobody has the name before the grace of an expired lease is over, even if the nodes
// could be told at once, and soon afterwards somebody does: a rival, or the next waiter
// of the same process.
func TestGraceIsKept(t *testing.T) {
	for _, same := range []bool{true, false} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes)
			next := sup
			if !same {
				next = start(t, nodes)
			}
			held := acquire(t, sup, "x", supervisor.WithoutRenewal())
			free := time.Now().Add(held.Remaining())
			got := make(chan time.Time, 1)
			go func() {
				if _, err := next.Acquire(t.Context(), "x"); err != nil {
					t.Error(err)
				}
				got <- time.Now()
			}()
			<-held.Lost()
			if after := (<-got).Sub(free); after < 0 || after > 50*time.Millisecond {
				t.Errorf("same process %v: the next has it %v after the grace", same, after)
			}
		})
	}
}

// A context that was done before is told by the same error as one that ended the waiting.
func TestNotTried(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		_, err := start(t, nodes).Acquire(canceled(), "x")
		var e *supervisor.AcquireError
		if !errors.As(err, &e) || e.Name != "x" || !errors.Is(err, context.Canceled) || err.Error() != `acquire "x": not tried: context canceled` {
			t.Errorf("%v", err)
		}
	})
}

// Every call returns by its context, and Close by its, while a majority hangs.
func TestCallsEndWithTheirContext(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		for _, n := range nodes[:3] {
			n.Hang()
		}
		const d = 37 * time.Millisecond
		for what, call := range map[string]func(context.Context) error{
			"Acquire":    func(ctx context.Context) error { _, err := sup.Acquire(ctx, "y"); return err },
			"TryAcquire": func(ctx context.Context) error { _, err := sup.TryAcquire(ctx, "z"); return err },
			"Inspect":    func(ctx context.Context) error { _, err := sup.Inspect(ctx, "x"); return err },
			"Extend":     func(ctx context.Context) error { return held.Extend(ctx, ttl) },
			"Do":         func(ctx context.Context) error { return sup.Do(ctx, "y", func(context.Context) error { return nil }) },
			"Lead":       func(ctx context.Context) error { return sup.Lead(ctx, "y", func(context.Context) error { return nil }) },
			"Release":    held.Release,
			"Close":      sup.Close,
		} {
			if what == "Release" || what == "Close" {
				continue
			}
			from := time.Now()
			err := call(within(t, d))
			if took := time.Since(from); took > d {
				t.Errorf("%s took %v with a context of %v", what, took, d)
			}
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, supervisor.ErrNoQuorum) {
				t.Errorf("%s: %v", what, err)
			}
		}
		from := time.Now()
		var e *supervisor.ReleaseError
		if err := held.Release(within(t, d)); !errors.As(err, &e) || len(e.Nodes) < 3 {
			t.Errorf("Release: %v", err)
		}
		if took := time.Since(from); took > d {
			t.Errorf("Release took %v", took)
		}
		from = time.Now()
		_ = sup.Close(within(t, d))
		if took := time.Since(from); took > d {
			t.Errorf("Close took %v", took)
		}
	})
}

// A cancelled acquisition leaves no key anywhere, whenever the cancel comes and
// whatever hangs, and never returns a lease.
func TestCancelLeavesNothing(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for i, n := range nodes {
			n.Delay(time.Duration(i) * time.Millisecond)
		}
		r := rand.New(rand.NewPCG(1, 1))
		for i := range 200 {
			if i == 100 {
				nodes[1].Hang()
				nodes[3].Hang()
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(r.IntN(6000))*time.Microsecond, cancel)
			name := fmt.Sprint("x", i%7)
			held, err := sup.Acquire(ctx, name)
			if held != nil {
				if ctx.Err() != nil && err == nil && !held.Valid() {
					t.Fatal("a lease that is over was returned")
				}
				cancel()
				if err := held.Release(t.Context()); err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			cancel()
		}
		nodes[1].Resume()
		nodes[3].Resume()
		time.Sleep(time.Second)
		for i := range 7 {
			wantKeys(t, nodes, fmt.Sprint("x", i), "", 0)
		}
		if st := sup.Stats(); st.Held+st.Waiting+st.Owed != 0 {
			t.Errorf("left: %+v", st)
		}
	})
}

// Deleted or overwritten on a majority, the holder is told within a renewal
// interval; on a minority it keeps the lease.
func TestRevocation(t *testing.T) {
	for _, tt := range []struct {
		what  string
		nodes int
		fail  func(*nodetest.Node)
		want  error
	}{
		{"deleted on a majority", 3, func(n *nodetest.Node) { n.Del("x") }, lease.ErrRevoked},
		{"overwritten on a majority", 3, func(n *nodetest.Node) { n.Set("x", "another", time.Hour) }, lease.ErrTaken},
		{"deleted on a minority", 2, func(n *nodetest.Node) { n.Del("x") }, nil},
		{"overwritten on a minority", 2, func(n *nodetest.Node) { n.Set("x", "another", time.Hour) }, nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes)
				held := acquire(t, sup, "x")
				time.Sleep(ttl + 123*time.Millisecond)
				for _, n := range nodes[:tt.nodes] {
					tt.fail(n)
				}
				from := time.Now()
				select {
				case <-held.Lost():
				case <-time.After(5 * ttl):
				}
				if !errors.Is(held.Err(), tt.want) {
					t.Fatalf("Err() = %v, want %v", held.Err(), tt.want)
				}
				if took := time.Since(from); tt.want != nil && took > ttl/3+ttl/20 {
					t.Errorf("told after %v", took)
				}
			})
		})
	}
}

// Nodes that answer errors are unreachable, never held: a minority of them changes
// nothing, a majority gives an error that shows each node's own words.
func TestErrorsAreNoVotes(t *testing.T) {
	for _, words := range []string{
		"READONLY You can't write against a read only replica.",
		"LOADING Redis is loading the dataset in memory",
		"OOM command not allowed when used memory > 'maxmemory'.",
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
		"NOAUTH Authentication required.",
		"NOPERM this user has no permissions to run the 'set' command",
	} {
		t.Run(strings.Fields(words)[0], func(t *testing.T) {
			bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes)
				for i, n := range nodes {
					if i == 2 {
						held := acquire(t, sup, "x")
						if err := held.Release(t.Context()); err != nil {
							t.Error(err)
						}
						synctest.Wait()
					}
					n.Fail("*", words)
					if i == 2 {
						break
					}
				}
				_, err := sup.Acquire(within(t, ttl), "y")
				if !errors.Is(err, supervisor.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, supervisor.ErrHeld) {
					t.Fatalf("error %v", err)
				}
				var e *supervisor.AcquireError
				if !errors.As(err, &e) {
					t.Fatalf("error %T", err)
				}
				for _, a := range e.Nodes[:3] {
					if a.Verdict != supervisor.VerdictUnreachable || a.Err == nil || !strings.Contains(a.Err.Error(), words) {
						t.Errorf("answer %v, want the node's own words", a)
					}
				}
			})
		})
	}
}

// Two supervisors never hold a name at once, and the fences of its tenures grow.
func TestOneHolderAtATime(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for i, n := range nodes {
			n.Delay(time.Duration(1+i) * time.Millisecond)
		}
		var holders, tenures atomic.Int32
		var last atomic.Uint64
		var done sync.WaitGroup
		for i := range 4 {
			sup := start(t, nodes, owner(fmt.Sprint("owner-", i)))
			for range 3 {
				done.Go(func() {
					for range 8 {
						err := sup.Do(t.Context(), "x", func(ctx context.Context) error {
							if holders.Add(1) != 1 {
								t.Error("two holders at once")
							}
							defer holders.Add(-1)
							fence := lease.FromContext(ctx).Fence()
							if before := last.Swap(fence); before >= fence {
								t.Errorf("fence %d after %d", fence, before)
							}
							tenures.Add(1)
							time.Sleep(5 * time.Millisecond)
							return ctx.Err()
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		done.Wait()
		if tenures.Load() != 4*3*8 {
			t.Errorf("%d tenures", tenures.Load())
		}
	})
}

// A release that is answered at the second asking, while another node has yet to
// answer its first, is owed no more.
func TestOwedIsPaid(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		nodes[0].Hang()
		nodes[1].Delay(60 * time.Millisecond)
		time.AfterFunc(10*time.Millisecond, func() { nodes[1].Crash(); nodes[1].Delay(0); nodes[1].Restart() })
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(50 * time.Millisecond)
		nodes[0].Resume()
		time.Sleep(500 * time.Millisecond)
		if st := sup.Stats(); st.Owed != 0 {
			t.Errorf("%d releases are owed although every node has been up and free for half a second", st.Owed)
		}
	})
}

// A waiter of the same process takes over in one exchange, or two: the release may
// be on its way before the grant is after it.
func TestHandOverInOneProcess(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		first := acquire(t, sup, "x")
		for _, n := range nodes {
			n.Delay(10 * time.Millisecond)
		}
		got := make(chan *lease.Lease)
		go func() { l, _ := sup.Acquire(t.Context(), "x"); got <- l }()
		time.Sleep(ttl / 2)
		go func() { _ = first.Release(context.Background()) }()
		from := time.Now()
		second := <-got
		if took := time.Since(from); took > 20*time.Millisecond {
			t.Errorf("the hand-over took %v, want one exchange of 10ms, or two", took)
		}
		if second.Fence() <= first.Fence() {
			t.Errorf("fence %d after %d", second.Fence(), first.Fence())
		}
	})
}

// Nodes that are down at the start join later.
func TestNodesComeUpLater(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Crash()
		}
		sup := start(t, nodes)
		_, err := sup.TryAcquire(t.Context(), "x")
		var e *supervisor.AcquireError
		if !errors.Is(err, supervisor.ErrNoQuorum) || !errors.As(err, &e) || e.Nodes[0].Err == nil {
			t.Fatalf("error %v", err)
		}
		time.AfterFunc(time.Minute, func() { nodes[0].Recover(); nodes[2].Recover() })
		from := time.Now()
		acquire(t, sup, "x")
		const longestPause = 1600 * time.Millisecond
		if took := time.Since(from); took > time.Minute+ttl+ttl/100+2*time.Millisecond+longestPause {
			t.Errorf("held %v after the nodes came up, which are young for a TTL", took-time.Minute)
		}
		if st := sup.Nodes(); !st[0].Enrolled || st[1].Enrolled || st[1].Err == nil || st[0].Incarnation != 1 {
			t.Errorf("Nodes() = %+v", st)
		}
	})
}

// A node that refuses for good is connected to at once if somebody waits for it.
func TestRefusedNodeIsTriedForAWaiter(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		for range 5 {
			nodes[0].RequirePass("right")
			sup := start(t, nodes)
			time.Sleep(time.Minute) // by now it is tried every few seconds
			nodes[0].RequirePass("")
			begun := time.Now()
			_, err := sup.Acquire(within(t, time.Minute), "x")
			if took := time.Since(begun); err != nil || took > time.Second {
				t.Fatalf("%v after %v", err, took)
			}
			if err := sup.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Inspect shows who holds a name, and how each node answered.
func TestInspect(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes, owner("holder")), start(t, nodes)
		held := acquire(t, sup, "x")
		nodes[4].Crash()
		nodes[3].Set("x", "a foreign value", 0)
		h, err := other.Inspect(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if !h.Held || h.Free || h.Owner != "holder" || h.Token != held.Token() || h.Fence != held.Fence() {
			t.Errorf("%+v", h)
		}
		if h.Left <= 0 || h.Left > ttl {
			t.Errorf("Left = %v", h.Left)
		}
		if h.Nodes[4].Verdict != supervisor.VerdictUnreachable || h.Nodes[3].Owner != "" || !h.Nodes[3].NoExpiry || h.Nodes[3].LeftKnown || h.Nodes[3].Left != 0 || h.NoExpiry || !h.Nodes[0].LeftKnown {
			t.Errorf("nodes %v", h.Nodes)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if h, err := other.Inspect(t.Context(), "x"); err != nil || h.Held || !h.Free {
			t.Errorf("%+v, %v", h, err)
		}
		for _, n := range nodes[:3] {
			n.Crash()
		}
		if _, err := other.Inspect(t.Context(), "x"); !errors.Is(err, supervisor.ErrNoQuorum) {
			t.Errorf("error %v with one node of five", err)
		}
	})
}

// Extend by hand keeps a lease that does not renew itself.
func TestExtendByHand(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.MaxTTL = time.Minute })
		held := acquire(t, sup, "x", supervisor.WithoutRenewal())
		time.Sleep(ttl / 2)
		if err := held.Extend(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if left := held.Remaining(); left < 50*time.Second || left > time.Minute {
			t.Errorf("Remaining() = %v", left)
		}
		if err := held.Extend(t.Context(), time.Hour); err == nil || !strings.Contains(err.Error(), "1m0s") {
			t.Errorf("an extension above MaxTTL: %v", err)
		}
		from := time.Now()
		<-held.Lost()
		if lasted := time.Since(from); lasted < 50*time.Second || lasted > time.Minute {
			t.Errorf("lasted %v", lasted)
		}
		if err := held.Extend(t.Context(), ttl); !errors.Is(err, lease.ErrLost) {
			t.Errorf("an extension of a lost lease: %v", err)
		}
	})
}

// Do releases when its function returns and when it panics, and says that the
// lease was lost.
func TestDo(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		failure := errors.New("the work's own")
		if err := sup.Do(t.Context(), "x", func(context.Context) error { return failure }); err != failure && !errors.Is(err, failure) {
			t.Errorf("error %v", err)
		}
		func() {
			defer func() {
				if recover() != "stop" {
					t.Error("the panic was swallowed")
				}
			}()
			_ = sup.Do(t.Context(), "x", func(context.Context) error { panic("stop") })
		}()
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
		err := sup.Do(t.Context(), "x", func(ctx context.Context) error {
			for _, n := range nodes {
				n.Del("x")
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), lease.ErrRevoked) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return nil
		})
		if !errors.Is(err, lease.ErrLost) {
			t.Errorf("error %v of work whose lease was lost", err)
		}
	})
}

// Lead calls its function again after a loss, and ends with it or with its context.
func TestLead(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		terms := 0
		failure := errors.New("the job's own")
		err := sup.Lead(t.Context(), "x", func(ctx context.Context) error {
			if terms++; terms == 3 {
				return failure
			}
			for _, n := range nodes {
				n.Del("x")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if terms != 3 || !errors.Is(err, failure) {
			t.Errorf("%d terms, %v", terms, err)
		}
		ctx := within(t, 5*ttl)
		err = sup.Lead(ctx, "x", func(ctx context.Context) error { <-ctx.Done(); return nil })
		if err != nil {
			t.Errorf("a leader that stopped when it was asked to: %v", err)
		}
		err = sup.Lead(t.Context(), "x", func(ctx context.Context) error { return lease.FromContext(ctx).Release(ctx) })
		if err != nil {
			t.Errorf("a leader that stepped down: %v", err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
	})
}

// Close ends every lease before it tells the nodes, and leaves nothing behind.
func TestClose(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		var leases []*lease.Lease
		for i := range 50 {
			leases = append(leases, acquire(t, sup, fmt.Sprint("x", i)))
		}
		if n := len(sup.Leases()); n != 50 {
			t.Errorf("%d leases", n)
		}
		waiting := make(chan error, 1)
		go func() { _, err := sup.Acquire(context.Background(), "x0"); waiting <- err }()
		synctest.Wait()
		if err := sup.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, supervisor.ErrClosed) {
			t.Errorf("the waiter: %v", err)
		}
		for i, l := range leases {
			if !errors.Is(l.Err(), lease.ErrClosed) || !errors.Is(l.Err(), lease.ErrLost) {
				t.Fatalf("Err() = %v", l.Err())
			}
			wantKeys(t, nodes, fmt.Sprint("x", i), "", 0)
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	})
}

// The last events are told before Close returns, and a stuck observer does not keep
// it from returning.
func TestCloseAndObserver(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var told atomic.Int32
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				if e.Kind == supervisor.EventLost {
					time.Sleep(time.Millisecond)
					told.Add(1)
				}
			})
		})
		acquire(t, sup, "x")
		if err := sup.Close(t.Context()); err != nil || told.Load() != 1 {
			t.Errorf("error %v, %d events", err, told.Load())
		}

		stuck := make(chan struct{})
		defer close(stuck)
		sup = start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(supervisor.Event) { <-stuck })
		})
		from := time.Now()
		_ = sup.Close(t.Context())
		if took := time.Since(from); took > ttl/20 {
			t.Errorf("Close took %v", took)
		}
	})
}

// What Close could not give back it names.
func TestCloseWithoutNodes(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		acquire(t, sup, "x")
		nodes[0].Crash()
		nodes[1].Hang()
		err := sup.Close(within(t, ttl/2))
		var e *supervisor.ReleaseError
		if !errors.As(err, &e) || e.Name != "x" || len(e.Nodes) != 2 {
			t.Errorf("error %v", err)
		}
	})
}

// SCRIPT FLUSH at any moment fails no call.
func TestScriptFlush(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for _, n := range nodes {
			n.Delay(time.Millisecond)
		}
		stop := make(chan struct{})
		var flusher sync.WaitGroup
		flusher.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
					for _, n := range nodes {
						n.FlushScripts()
					}
				}
			}
		})
		kept := acquire(t, sup, "kept")
		for i := range 500 {
			held := acquire(t, sup, fmt.Sprint("x", i%3))
			if err := held.Extend(t.Context(), ttl); err != nil {
				t.Error(err)
			}
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		flusher.Wait()
		if err := kept.Err(); err != nil {
			t.Error(err)
		}
	})
}

// An observer and a logger are told, and neither a stuck nor a panicking observer
// disturbs a lease.
func TestObserver(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		var kinds []string
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				mu.Lock()
				defer mu.Unlock()
				kinds = append(kinds, e.Kind.String())
				if e.Kind == supervisor.EventAcquired {
					panic("a broken observer")
				}
			})
		})
		held := acquire(t, sup, "x")
		nodes[0].Crash()
		time.Sleep(ttl)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := "node up, node up, node up, acquired, node down, released"
		if got := strings.Join(kinds, ", "); got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
		if st := sup.Stats(); st.Untold != 1 || st.Acquired != 1 || st.Released != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// An acquisition that failed is told with its name, as every lease is.
func TestFailedIsTold(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var failed []supervisor.Event
		var logged bytes.Buffer
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Prefix = "jobs:"
			cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			cfg.Observer = observer(func(e supervisor.Event) {
				if e.Kind == supervisor.EventFailed {
					failed = append(failed, e)
				}
			})
		})
		acquire(t, sup, "x")
		_, err := sup.TryAcquire(t.Context(), "x")
		if err := sup.Close(t.Context()); err != nil { // all is told after it
			t.Fatal(err)
		}
		if len(failed) != 1 || failed[0].Name != "jobs:x" || failed[0].Err != err {
			t.Errorf("told %+v, want of jobs:x: %v", failed, err)
		}
		if want := `level=DEBUG msg="not acquired" name=jobs:x error=`; !strings.Contains(logged.String(), want) {
			t.Errorf("logged %s\nwant %s", &logged, want)
		}
	})
}

type observer func(supervisor.Event)

func (f observer) Observe(e supervisor.Event) { f(e) }

// suspended counts for how long the machine was suspended, which its timers do not.
type suspended struct {
	clock.Clock
	by atomic.Int64
}

func (s *suspended) Now() clock.Instant { return s.Clock.Now().Add(time.Duration(s.by.Load())) }

// Timers do not see a suspension, so what has become due meanwhile is looked at as soon as
// anything wakes the loop.
func TestWokenAfterASuspension(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		c := &suspended{Clock: clock.Runtime()}
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.Clock = c })
		held := acquire(t, sup, "a", supervisor.WithoutRenewal())
		lost := held.Lost()
		time.Sleep(ttl / 100)
		for _, n := range nodes {
			n.Jump(time.Hour)
		}
		c.by.Add(int64(time.Hour))
		acquire(t, sup, "b")
		select {
		case <-lost:
		default:
			t.Error("not told by a loop that is awake")
		}
	})
}

// Release whose context ends before a silent node is given up says so.
func TestReleaseEndsWithItsContext(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, start(t, nodes), "x")
		for _, n := range nodes {
			n.Hang()
		}
		if err := held.Release(within(t, 10*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
