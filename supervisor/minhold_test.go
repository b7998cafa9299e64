package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

const minHold = 5 * ttl

// A name stays taken for as long as it was to, however its lease ends: by a release, by Close, by
// the end of the process, by a loss. A waiter has it right after that, and not before.
func TestNameStaysTaken(t *testing.T) {
	for what, end := range map[string]func(t *testing.T, sup *supervisor.Supervisor, held *lease.Lease, nodes []*nodetest.Node){
		"released": func(t *testing.T, _ *supervisor.Supervisor, held *lease.Lease, _ []*nodetest.Node) {
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"closed": func(t *testing.T, sup *supervisor.Supervisor, _ *lease.Lease, _ []*nodetest.Node) {
			if err := sup.Close(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"stopped": func(_ *testing.T, sup *supervisor.Supervisor, _ *lease.Lease, _ []*nodetest.Node) {
			sup.Close(canceled()) // no node is told
		},
		"lost": func(t *testing.T, _ *supervisor.Supervisor, held *lease.Lease, nodes []*nodetest.Node) {
			for _, n := range nodes {
				n.Hang()
			}
			<-held.Lost()
			for _, n := range nodes {
				n.Resume()
			}
		},
		"one node is down": func(t *testing.T, _ *supervisor.Supervisor, held *lease.Lease, nodes []*nodetest.Node) {
			nodes[0].Crash()
			if err := held.Release(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup, other := start(t, nodes, owner("first")), start(t, nodes, owner("second"))
				begun := time.Now()
				held := acquire(t, sup, "x", supervisor.WithMinHold(minHold))
				waits := make(chan error, 1)
				var took time.Duration
				go func() {
					next, err := other.Acquire(context.Background(), "x")
					if took = time.Since(begun); err == nil {
						err = next.Release(context.Background())
					}
					waits <- err
				}()
				time.Sleep(ttl)
				end(t, sup, held, nodes)
				if err := <-waits; err != nil {
					t.Error(err)
				}
				if took < minHold || took > minHold+ttl/10 {
					t.Errorf("the next has it after %v, want %v", took, minHold)
				}
			})
		})
	}
}

// A lease whose name is to stay taken ends as any other, and its name is free at once if that time is
// over.
func TestStayingChangesNoLease(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x", supervisor.WithMinHold(minHold), supervisor.WithoutRenewal())
		if left := held.Remaining(); left > ttl {
			t.Errorf("%v remain, of a TTL of %v", left, ttl)
		}
		<-held.Lost()
		if !errors.Is(held.Err(), lease.ErrExpired) {
			t.Error(held.Err())
		}
		held = acquire(t, sup, "y", supervisor.WithMinHold(ttl/2))
		time.Sleep(3 * ttl)
		if !held.Valid() {
			t.Fatal(held.Err())
		}
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "y", "", 0)
	})
}

// An attempt that is not won leaves nothing, also if its process ends: two that died while each had
// a node of three would keep the name from everybody for as long as it was to stay taken.
func TestAttemptThatDiesDoesNotStay(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for i := range 2 {
			client := fmt.Sprint("dies ", i)
			sup := start(t, nodes, func(cfg *supervisor.Config) {
				cfg.Nodes = nil
				for _, n := range nodes {
					cfg.Nodes = append(cfg.Nodes, n.ConnOf(client))
				}
			})
			for _, n := range nodes {
				if n != nodes[i] {
					n.Cut(client)
				}
			}
			go sup.Acquire(t.Context(), "x", supervisor.WithMinHold(time.Hour))
			synctest.Wait()
			nodes[i].Cut(client)
			sup.Close(canceled())
			wantKeys(t, nodes[i:i+1], "x", "", 1)
		}
		begun := time.Now()
		acquire(t, start(t, nodes), "x")
		if took := time.Since(begun); took < ttl/2 || took > ttl+ttl/10 {
			t.Errorf("nobody has had the name, and it is free after %v", took)
		}
	})
}

// A name that was left is seen as such, and an operator frees it.
func TestInspectOfALeftName(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, operator := start(t, nodes, owner("the job")), start(t, nodes)
		var told []string
		ctx, stop := context.WithCancel(t.Context())
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for h := range operator.Watch(ctx, "x") {
				told = append(told, fmt.Sprint(h.Held, h.Vacated, h.Free))
			}
		}()
		synctest.Wait()
		held := acquire(t, sup, "x", supervisor.WithMinHold(minHold))
		token := held.Token()
		time.Sleep(ttl)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h, err := operator.Inspect(t.Context(), "x")
		if err != nil || !h.Held || !h.Vacated || h.Owner != "the job" || h.Token != token || h.Fence != held.Fence() || h.Left > minHold-ttl || h.Left < minHold-ttl-time.Millisecond {
			t.Errorf("%+v, %v", h, err)
		}
		if a := h.Nodes[0]; !a.Vacated || !strings.Contains(a.String(), "left by the job, free in at most ") {
			t.Errorf("%v", a)
		}
		time.Sleep(ttl)
		// By the value of the key, or by the token: it is the same lease.
		value, _, _ := nodes[0].Get("x")
		is, left := node.CutLeft(value)
		is, _ = node.TokenOf(is)
		if want, _ := node.TokenOf(string(token)); !left || is != want {
			t.Errorf("the key holds %q", value)
		}
		if err := operator.Revoke(t.Context(), "x", h.Token); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
		acquire(t, operator, "x")
		if err := operator.Revoke(t.Context(), "y", lease.Token(value)); !errors.Is(err, supervisor.ErrNotHolder) {
			t.Error(err)
		}
		time.Sleep(ttl)
		stop()
		<-watched
		if want := []string{"false false true", "true false false", "true true false"}; len(told) < 4 || !slices.Equal(told[:3], want) {
			t.Errorf("told %q", told)
		}
	})
}

// The value of a key that was left revokes it as well as the token does.
func TestRevokeByTheValue(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x", supervisor.WithMinHold(minHold))
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		value, _, _ := nodes[0].Get("x")
		if err := sup.Revoke(t.Context(), "x", lease.Token(value)); err != nil {
			t.Errorf("%q: %v", value, err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
	})
}

// A lease that is handed over takes nothing of that along: its heir frees the name.
func TestHandOverEndsTheStay(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, heir := start(t, nodes), start(t, nodes, owner("heir"))
		held := acquire(t, sup, "x", supervisor.WithMinHold(time.Hour))
		handle, err := held.HandOver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next, err := heir.Adopt(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := next.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)

		// A former holder that lives has its promise out, and not the time that the name was to stay.
		held = acquire(t, sup, "y", supervisor.WithMinHold(time.Hour))
		begun := time.Now()
		if _, err = heir.Adopt(t.Context(), held.Handle()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > ttl+ttl/10 || !errors.Is(held.Err(), lease.ErrLost) {
			t.Errorf("adopted after %v, and the former is over by %v", took, held.Err())
		}
	})
}

// Three processes that call Once at any moment of a period run its function once in it. Of the
// others each is told so at once.
func TestOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		const interval, period = 10 * time.Second, 8 * time.Second
		var sups []*supervisor.Supervisor
		failed := make([]atomic.Int64, 3)
		for i := range 3 {
			sups = append(sups, start(t, nodes, owner(fmt.Sprint("host ", i)), func(cfg *supervisor.Config) {
				cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
					if e.Kind == supervisor.EventFailed && errors.Is(e.Err, supervisor.ErrHeld) {
						failed[i].Add(1)
					}
				})
			}))
		}
		const periods = 50
		ran := make([]atomic.Int64, periods)
		offsets := []time.Duration{0, interval / 120, interval / 12} // 0.5 s and 5 s of a minute
		var wg sync.WaitGroup
		for i, sup := range sups {
			wg.Go(func() {
				time.Sleep(offsets[i])
				for k := range periods {
					begun := time.Now()
					did, err := sup.Once(t.Context(), "report", period, func(ctx context.Context) error {
						ran[k].Add(1)
						if lease.FromContext(ctx) == nil {
							t.Error("no lease in the context")
						}
						time.Sleep(interval / 600)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					if took := time.Since(begun); !did && took > time.Second {
						t.Errorf("told after %v that another runs it", took)
					}
					time.Sleep(interval - time.Since(begun))
				}
			})
		}
		wg.Wait()
		for k := range ran {
			if n := ran[k].Load(); n != 1 {
				t.Errorf("period %d: run %d times", k, n)
			}
		}
		for i := range failed {
			if n := failed[i].Load(); n != 0 {
				t.Errorf("host %d: told of %d failures", i, n)
			}
		}
	})
}

// All that call at the same moment split the votes, and one of them runs it all the same.
func TestOnceAtTheSameMoment(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
			var sups []*supervisor.Supervisor
			for i := range 8 {
				sups = append(sups, start(t, nodes, owner(fmt.Sprint("host ", i))))
			}
			for i, n := range nodes {
				n.Delay(time.Duration(i) * time.Millisecond)
			}
			for round := range 20 {
				var ran, told atomic.Int64
				var wg sync.WaitGroup
				for _, sup := range sups {
					for range 2 { // and two of each process
						wg.Go(func() {
							did, err := sup.Once(t.Context(), fmt.Sprint("job ", round), time.Minute, func(context.Context) error {
								ran.Add(1)
								return nil
							})
							if err != nil {
								t.Error(err)
							}
							if did {
								told.Add(1)
							}
						})
					}
				}
				wg.Wait()
				if ran.Load() != 1 || told.Load() != 1 {
					t.Errorf("%d nodes, round %d: run %d times, told %d", n, round, ran.Load(), told.Load())
				}
			}
		})
	}
}

// Two others have a node each, and so refuse it without having the name: it is no run, and is tried
// again when they have given up.
func TestOnceAfterASplitVote(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for _, n := range nodes {
			n.Delay(time.Millisecond)
		}
		nodes[0].Set("x", "one/ABCDEFGHIJKLMNOPQRSTUVWXYZ", ttl/2)
		nodes[1].Set("x", "other/ABCDEFGHIJKLMNOPQRSTUVWXYZ", ttl/2)
		begun, before := time.Now(), nodes[2].Commands()["SET"]
		ran, err := sup.Once(t.Context(), "x", time.Minute, func(context.Context) error { return nil })
		if took := time.Since(begun); !ran || err != nil || took < ttl/2 || took > ttl {
			t.Errorf("%v, %v after %v", ran, err, took)
		}
		if n := nodes[2].Commands()["SET"] - before; n > 20 {
			t.Errorf("it was tried %d times in %v", n, ttl/2)
		}
	})
}

// A function that fails has used the period up, and so has one that panics, or one whose process
// dies: it is not run again before that is over.
func TestOnceThatFails(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes, owner("other"))
		failure := errors.New("the job's own")
		for name, c := range map[string]struct {
			fn   func(context.Context) error
			want error
		}{
			"fails":    {func(context.Context) error { return failure }, failure},
			"panics":   {func(context.Context) error { panic("stop") }, nil},
			"released": {func(ctx context.Context) error { return lease.FromContext(ctx).Release(ctx) }, nil},
			"lost": {func(ctx context.Context) error {
				for _, n := range nodes[:2] {
					n.Del("lost")
				}
				<-ctx.Done()
				return failure
			}, lease.ErrLost},
		} {
			begun := time.Now()
			func() {
				defer func() {
					if r := recover(); (r != nil) != (name == "panics") {
						t.Errorf("%s: %v", name, r)
					}
				}()
				if ran, err := sup.Once(t.Context(), name, time.Minute, c.fn); !ran || !errors.Is(err, c.want) {
					t.Errorf("%s: %v, %v", name, ran, err)
				}
			}()
			if name == "lost" {
				continue // a quorum was freed by hand
			}
			for _, sup := range []*supervisor.Supervisor{sup, other} {
				if ran, err := sup.Once(t.Context(), name, time.Minute, never(t)); ran || err != nil {
					t.Errorf("%s, again: %v, %v", name, ran, err)
				}
			}
			time.Sleep(time.Minute - time.Since(begun))
			time.Sleep(10 * time.Millisecond)
			if ran, err := other.Once(t.Context(), name, time.Minute, func(context.Context) error { return nil }); !ran || err != nil {
				t.Errorf("%s, in the next period: %v, %v", name, ran, err)
			}
		}
	})
}

// A call of Once is one acquisition to an observer, however often it tries: it waits from the call
// on, and fails at most once.
func TestOnceIsToldOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		var told []supervisor.Event
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				if e.Kind == supervisor.EventFailed || e.Kind == supervisor.EventAcquired {
					mu.Lock()
					told = append(told, e)
					mu.Unlock()
				}
			})
		})
		away := func(d time.Duration) {
			each(nodes[:2], (*nodetest.Node).Hang)
			time.AfterFunc(d, func() { each(nodes[:2], (*nodetest.Node).Resume) })
		}
		wants := func(what string, kind supervisor.EventKind, waited time.Duration) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(told) != 1 || told[0].Kind != kind || told[0].Waited < waited || told[0].Waited > waited+ttl || told[0].Name != "x" {
				t.Errorf("%s: told %+v, want one %v that waited for %v or a little more", what, told, kind, waited)
			}
			told = nil
		}
		away(8 * ttl)
		if _, err := sup.Once(within(t, 5*ttl), "x", time.Minute, never(t)); err == nil {
			t.Error("it has no error")
		}
		wants("given up", supervisor.EventFailed, 5*ttl)
		failed := sup.Stats().Failed
		time.Sleep(4 * ttl)
		away(5 * ttl)
		if ran, err := sup.Once(t.Context(), "x", time.Minute, func(context.Context) error { return nil }); !ran || err != nil {
			t.Errorf("%v, %v", ran, err)
		}
		wants("won after an outage", supervisor.EventAcquired, 5*ttl)
		if failed != 1 || sup.Stats().Failed != 1 {
			t.Errorf("%d and %d failures are counted, want 1", failed, sup.Stats().Failed)
		}
	})
}

// What Once cannot know it waits for, or for its context; what it cannot do it says.
func TestOnceWaits(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for _, n := range nodes[:2] {
			n.Hang()
		}
		ran, err := sup.Once(within(t, ttl), "x", time.Minute, never(t))
		if ran || !errors.Is(err, supervisor.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", ran, err)
		}
		go func() {
			time.Sleep(ttl)
			for _, n := range nodes[:2] {
				n.Resume()
			}
		}()
		begun := time.Now()
		if ran, err := sup.Once(t.Context(), "x", time.Minute, func(context.Context) error { return nil }); !ran || err != nil || time.Since(begun) < ttl {
			t.Errorf("%v, %v after %v", ran, err, time.Since(begun))
		}
		// One node that was told is enough to know that it was run.
		for _, n := range nodes[:2] {
			n.Hang()
		}
		if ran, err := sup.Once(within(t, 5*ttl), "x", time.Minute, never(t)); ran || err != nil {
			t.Errorf("%v, %v", ran, err)
		}
		for _, n := range nodes[:2] {
			n.Resume()
		}
		for _, period := range []time.Duration{0, -1, 8760*time.Hour + 1} {
			ran, err := sup.Once(t.Context(), "leasehold:x", period, never(t))
			if ran || err == nil || !strings.Contains(err.Error(), fmt.Sprintf("period %v: want more than 0 and at most 8760h", period)) || !strings.Contains(err.Error(), `name "leasehold:x"`) {
				t.Errorf("%v, %v", ran, err)
			}
		}
		if _, err := sup.Once(t.Context(), "x", time.Minute, nil); err == nil || !strings.Contains(err.Error(), "want a function, not nil") {
			t.Error(err)
		}
		sup.Close(t.Context())
		if ran, err := sup.Once(t.Context(), "z", time.Minute, never(t)); ran || !errors.Is(err, supervisor.ErrClosed) {
			t.Errorf("%v, %v", ran, err)
		}
	})
}

// A leader whose name stays taken is followed by nobody sooner.
func TestLeadThatStays(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		var begun []time.Time
		err := sup.Lead(t.Context(), "x", func(ctx context.Context) error {
			if begun = append(begun, time.Now()); len(begun) == 3 {
				return nil
			}
			if err := sup.StepDown(ctx, "x"); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return nil
		}, supervisor.WithMinHold(minHold), supervisor.WithCoolDown(time.Millisecond))
		if err != nil || len(begun) != 3 {
			t.Fatal(err, begun)
		}
		for i := range 2 {
			if d := begun[i+1].Sub(begun[i]); d < minHold || d > minHold+ttl/10 {
				t.Errorf("the next leads after %v, want %v", d, minHold)
			}
		}
	})
}

// endsLater is a context that is done as soon as it was asked once whether it is: in the moment in
// which its caller is given a lease.
type endsLater struct {
	context.Context
	asked *atomic.Bool
}

func (endsLater) Done() <-chan struct{} { return nil }

func (c endsLater) Err() error {
	if c.asked.Swap(true) {
		return context.Canceled
	}
	return nil
}

// A caller that gives up just when the name is won has not had it, so it is free for the next one: with any
// call, and at any moment.
func TestGivenUpWhenItIsWon(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes, owner("other"))
		stays := supervisor.WithMinHold(time.Hour)
		for what, call := range map[string]func(ctx context.Context) error{
			"Acquire": func(ctx context.Context) error {
				_, err := sup.Acquire(ctx, "Acquire", stays)
				return err
			},
			"TryAcquire": func(ctx context.Context) error {
				_, err := sup.TryAcquire(ctx, "TryAcquire", stays)
				return err
			},
			"AcquireAny": func(ctx context.Context) error {
				_, err := sup.AcquireAny(ctx, []string{"AcquireAny"}, stays)
				return err
			},
			"Do":   func(ctx context.Context) error { return sup.Do(ctx, "Do", never(t), stays) },
			"Lead": func(ctx context.Context) error { return sup.Lead(ctx, "Lead", never(t), stays) },
			"Once": func(ctx context.Context) error {
				ran, err := sup.Once(ctx, "Once", time.Hour, never(t))
				if ran {
					t.Error("Once says that it ran")
				}
				return err
			},
		} {
			if err := call(endsLater{t.Context(), new(atomic.Bool)}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
			synctest.Wait()
			wantKeys(t, nodes, what, "", 0)
			if ran, err := other.Once(t.Context(), what, time.Minute, func(context.Context) error { return nil }); !ran || err != nil {
				t.Errorf("after %s nobody has run it, and Once says %v, %v", what, ran, err)
			}
		}
		for i, n := range nodes {
			n.Delay(time.Duration(i+1) * time.Millisecond)
		}
		for k := range 40 {
			name, ran := fmt.Sprint("x", k), false
			did, err := sup.Once(within(t, time.Duration(k)*250*time.Microsecond), name, time.Hour, func(context.Context) error {
				ran = true
				return nil
			})
			time.Sleep(50 * time.Millisecond)
			if did != ran || ran != (err == nil) {
				t.Fatalf("%d: %v, and says %v, %v", k, ran, did, err)
			}
			if !ran {
				wantKeys(t, nodes, name, "", 0)
			}
		}
	})
}

// A server that was stopped when it was told to leave a key does so as soon as it goes on, for as long
// as it was told then. It is told again, so the name is free in time all the same; also if its
// holder had waited in the queue, and if d is over by then.
func TestLeftLate(t *testing.T) {
	for _, stopped := range []time.Duration{minHold / 2, 2 * minHold} {
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprint(stopped, " ", queued), func(t *testing.T) {
				bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
					sup, other := start(t, nodes), start(t, nodes, owner("other"))
					if queued {
						before := acquire(t, other, "x")
						time.AfterFunc(ttl/4, func() { _ = before.Release(context.Background()) })
					}
					held := acquire(t, sup, "x", supervisor.WithMinHold(minHold))
					begun := time.Now()
					time.Sleep(ttl / 2)
					nodes[0].Hang()
					if err := held.Release(within(t, ttl/4)); err == nil {
						t.Error("the release is confirmed by a server that is stopped")
					}
					time.Sleep(stopped - time.Since(begun))
					nodes[0].Resume()
					acquire(t, other, "x")
					if took, want := time.Since(begun), max(minHold, stopped); took < want-ttl/10 || took > want+ttl/2 {
						t.Errorf("it is free after %v, want %v", took, want)
					}
				})
			})
		}
	}
}

// Periods of any length: one that is over when the function returns leaves nothing, and one of a year
// leaves the name for a year, however short the TTL.
func TestOnceOfAnyPeriod(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes, owner("other"))
		run := func(d time.Duration) func(context.Context) error {
			return func(context.Context) error { time.Sleep(d); return nil }
		}
		for _, c := range []struct{ period, job time.Duration }{
			{1, 0}, {time.Microsecond, 0}, {time.Millisecond, 5 * time.Millisecond}, {ttl / 4, ttl}, {ttl, 3 * ttl}, {ttl / 4, 0}, {3 * ttl, ttl / 2}, {8760 * time.Hour, 0},
		} {
			name := fmt.Sprint(c.period, c.job)
			begun := time.Now()
			if ran, err := sup.Once(t.Context(), name, c.period, run(c.job)); !ran || err != nil {
				t.Fatalf("%s: %v, %v", name, ran, err)
			}
			synctest.Wait()
			rest := c.period - time.Since(begun)
			if rest <= 0 {
				wantKeys(t, nodes, name, "", 0)
			} else if ran, err := other.Once(t.Context(), name, c.period, never(t)); ran || err != nil {
				t.Errorf("%s, again: %v, %v", name, ran, err)
			}
			if h, err := other.Inspect(t.Context(), name); err != nil || h.Vacated != (rest > 0) || h.Left > max(0, rest)+time.Millisecond || h.Left < rest-10*time.Millisecond {
				t.Errorf("%s: %+v, %v; want it left for %v", name, h, err, rest)
			}
			if c.period > time.Hour {
				continue
			}
			time.Sleep(max(0, rest) + 5*time.Millisecond)
			if ran, err := other.Once(t.Context(), name, c.period, run(0)); !ran || err != nil {
				t.Errorf("%s, in the next period: %v, %v", name, ran, err)
			}
		}
	})
}

// Two nodes of three are a quorum, of which two callers that come at once have one each. One of them
// runs it all the same, and the node that was away changes nothing when it is back, with its data or
// without.
func TestOnceWithoutANode(t *testing.T) {
	for _, back := range []func(*nodetest.Node){(*nodetest.Node).Recover, (*nodetest.Node).Restart} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			var sups []*supervisor.Supervisor
			for i := range 6 {
				sups = append(sups, start(t, nodes, owner(fmt.Sprint("host ", i))))
			}
			nodes[0].Crash()
			time.Sleep(ttl)
			for i, n := range nodes {
				n.Delay(time.Duration(i) * time.Millisecond)
			}
			count := func(name string, want int64) {
				t.Helper()
				var ran atomic.Int64
				var wg sync.WaitGroup
				for _, sup := range sups {
					wg.Go(func() {
						if _, err := sup.Once(t.Context(), name, time.Hour, func(context.Context) error { ran.Add(1); return nil }); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if n := ran.Load(); n != want {
					t.Errorf("%q: run %d times, want %d", name, n, want)
				}
			}
			for round := range 10 {
				count(fmt.Sprint(round), 1)
			}
			back(nodes[0])
			for range 20 {
				time.Sleep(ttl / 2)
				for round := range 10 {
					count(fmt.Sprint(round), 0)
				}
			}
			count("another", 1)
		})
	}
}

// A node that has lost its data is healed for what is left of the time, so that another one may
// lose its own after that.
func TestStaysOnANodeThatWasHealed(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes, owner("other"))
		begun := time.Now()
		held := acquire(t, sup, "x", supervisor.WithMinHold(20*ttl))
		nodes[0].Restart()
		time.Sleep(4 * ttl)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		nodes[1].Restart()
		time.Sleep(4 * ttl) // it is grown
		if ran, err := other.Once(t.Context(), "x", ttl, never(t)); ran || err != nil {
			t.Errorf("%v, %v", ran, err)
		}
		acquire(t, other, "x")
		if took := time.Since(begun); took < 20*ttl || took > 20*ttl+ttl/2 {
			t.Errorf("free after %v, want %v", took, 20*ttl)
		}
	})
}

// A process that runs it tells so to all its other callers at once, and so it does while one of them
// merely waits for the name.
func TestOnceInOneProcess(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes, owner("other"))
		told := func(what string) {
			t.Helper()
			begun := time.Now()
			for _, sup := range []*supervisor.Supervisor{sup, other, sup} {
				if ran, err := sup.Once(t.Context(), "x", time.Minute, never(t)); ran || err != nil {
					t.Errorf("%s: %v, %v", what, ran, err)
				}
			}
			if took := time.Since(begun); took > ttl/10 {
				t.Errorf("%s: told after %v", what, took)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			ran, err := sup.Once(t.Context(), "x", time.Minute, func(context.Context) error {
				time.Sleep(20 * time.Second)
				return nil
			})
			if !ran || err != nil {
				t.Error(ran, err)
			}
		})
		time.Sleep(time.Second)
		told("it runs")
		for _, sup := range []*supervisor.Supervisor{sup, other} {
			wg.Go(func() {
				if held, err := sup.Acquire(t.Context(), "x", supervisor.WithMinHold(time.Minute)); err != nil {
					t.Error(err)
				} else if err := held.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		told("it runs, and others wait")
		time.Sleep(30 * time.Second)
		told("it was run, and others wait")
		time.Sleep(30 * time.Second)
		told("another had the name")
		time.Sleep(2 * time.Minute)
		wg.Wait()
	})
}
