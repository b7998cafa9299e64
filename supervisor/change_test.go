package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// change returns the configuration with which a change is looked at, finished and forgotten.
func change(was, is []*nodetest.Node) supervisor.Config {
	return supervisor.Config{Nodes: nodetest.Conns(is), Former: nodetest.Conns(was), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime()}
}

// finish finishes a change, and wants no error.
func finish(t *testing.T, was, is []*nodetest.Node, opts supervisor.FinishOptions) {
	t.Helper()
	if err := supervisor.FinishChange(t.Context(), change(was, is), opts); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// stages returns the stage of each node, as a supervisor that is told both would see it.
func stages(t *testing.T, was, is []*nodetest.Node) (list []node.Stage) {
	t.Helper()
	st, err := supervisor.InspectChange(t.Context(), change(was, is))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range st.Nodes {
		list = append(list, n.Stage)
	}
	return list
}

// A referee sees every lease on a name: no two are believed in at once, and fences grow.
type referee struct {
	t      *testing.T
	mu     sync.Mutex
	latest *lease.Lease
	wins   int
}

func (r *referee) sees(l *lease.Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wins++
	if was := r.latest; was != nil && was.Valid() {
		r.t.Errorf("fence %d while the lease with fence %d is valid", l.Fence(), was.Fence())
	} else if was != nil && l.Fence() <= was.Fence() {
		r.t.Errorf("fence %d after %d", l.Fence(), was.Fence())
	}
	r.latest = l
}

// count returns how many leases there were since it was last asked.
func (r *referee) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.wins
	r.wins = 0
	return n
}

// A contender is a process that wants a name again and again, with one list of nodes after the other.
type contender struct {
	*referee
	name string
	sup  *supervisor.Supervisor
	stop func()
}

// given starts the contender with lists of nodes; it ends what it was before.
func (c *contender) given(nodes, former []*nodetest.Node) {
	c.t.Helper()
	if c.stop != nil {
		c.stop()
	}
	cfg := supervisor.Config{Nodes: nodetest.Conns(nodes), Former: nodetest.Conns(former), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime(), Owner: c.name}
	sup, err := supervisor.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			l, err := sup.Acquire(ctx, "x")
			if err != nil {
				time.Sleep(ttl / 10)
				continue
			}
			c.sees(l)
			time.Sleep(rand.N(50 * time.Millisecond))
			_ = l.Release(ctx)
		}
	})
	c.sup = sup
	c.stop = func() {
		cancel()
		wg.Wait()
		sup.Close(canceled())
		c.stop = nil
	}
}

// contend starts some contenders.
func contend(t *testing.T, n int, nodes []*nodetest.Node) (*referee, []*contender) {
	r := &referee{t: t}
	var all []*contender
	for i := range n {
		c := &contender{referee: r, name: fmt.Sprint("process ", i)}
		c.given(nodes, nil)
		all = append(all, c)
		t.Cleanup(func() {
			if c.stop != nil {
				c.stop()
			}
		})
	}
	return r, all
}

// Two rollouts over processes that contend for a name, in every order if all nodes are replaced: at
// no time are there two holders, fences grow, and the name is had all the time.
func TestTwoRollouts(t *testing.T) {
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for name, c := range map[string]struct{ n, formerTo, presentFrom int }{
		"3 to 5 others":        {8, 3, 3},
		"5 to 3 of them":       {5, 5, 2},
		"two of five replaced": {7, 5, 2},
		"all three replaced":   {6, 3, 3},
		"one of three":         {4, 3, 1},
	} {
		for k, order := range orders {
			if c.n != 6 && k > 0 {
				break
			}
			if c.n != 6 {
				k = rand.IntN(len(orders))
				order = orders[k]
			}
			t.Run(fmt.Sprintf("%s, %v", name, order), func(t *testing.T) {
				bubble(t, c.n, func(t *testing.T, nodes []*nodetest.Node) {
					was, is := nodes[:c.formerTo], nodes[c.presentFrom:]
					r, all := contend(t, 3, was)
					goesOn := func(what string) {
						t.Helper()
						r.count()
						time.Sleep(2 * ttl)
						if r.count() == 0 {
							t.Errorf("nobody had the name: %s", what)
						}
					}
					goesOn("former alone")
					for i, p := range order {
						all[p].given(is, was)
						if i == 1 {
							if err := supervisor.FinishChange(t.Context(), change(was, is), supervisor.FinishOptions{}); err == nil || !strings.Contains(err.Error(), "clients use the former nodes alone") {
								t.Errorf("%v: want that it is too early", err)
							}
						}
						time.Sleep(rand.N(ttl))
					}
					goesOn("both")
					time.Sleep(5 * ttl) // what the former clients have told runs out
					finish(t, was, is, supervisor.FinishOptions{})
					goesOn("finished")
					for _, i := range orders[(k+3)%len(orders)] {
						all[i].given(is, nil)
						time.Sleep(rand.N(ttl))
					}
					goesOn("present alone")
					for _, n := range was {
						if !slices.Contains(is, n) {
							n.Crash()
						}
					}
					goesOn("former nodes switched off")
				})
			})
		}
	}
}

// status looks at a change.
func status(t *testing.T, was, is []*nodetest.Node) supervisor.ChangeStatus {
	t.Helper()
	st, err := supervisor.InspectChange(t.Context(), change(was, is))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// What is told of a change, and which step is safe next, at each step. To look changes nothing.
func TestInspectChange(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		said := func(want string, stage node.Stage, uses ...supervisor.Use) {
			t.Helper()
			st := status(t, was, is)
			if !strings.Contains(st.Next, want) {
				t.Errorf("next is %q: want %q", st.Next, want)
			}
			for _, n := range st.Nodes {
				var got []supervisor.Use
				for _, c := range n.Clients {
					if got = append(got, c.Use); c.Left <= 0 {
						t.Errorf("%+v", c)
					}
				}
				if n.List == supervisor.ListNodes && (n.Stage != stage || n.Err != nil || n.Other) || n.List == supervisor.ListFormer && !slices.Equal(got, uses) {
					t.Errorf("%+v: want stage %v, and %v", n, stage, uses)
				}
			}
		}
		old := start(t, was)
		time.Sleep(10 * time.Millisecond) // until it has left its entry
		said("give each process both lists", node.StageNone, supervisor.UseFormer)
		if next := status(t, is, was).Next; !strings.Contains(next, "the wrong way round") || strings.Contains(next, "give each") {
			t.Error(next)
		}
		for _, n := range status(t, was, is).Nodes {
			if want := map[supervisor.List]time.Duration{supervisor.ListFormer: ttl}[n.List]; n.MaxTTL != want {
				t.Errorf("%+v: want MaxTTL %v", n, want)
			}
		}
		was[0].Hang() // it may be the reason for the change
		if next := status(t, was, is).Next; !strings.HasPrefix(next, "give each process both lists") {
			t.Error(next)
		}
		was[0].Resume()
		is[1].Hang()
		if next := status(t, was, is).Next; !strings.HasPrefix(next, "mend "+is[1].String()+" first; then give each process both lists") {
			t.Error(next)
		}
		is[1].Resume()
		time.Sleep(2 * ttl)
		held := acquire(t, old, "x")
		both := start(t, is, former(was))
		time.Sleep(10 * time.Millisecond)
		said("do not finish yet: clients use the former nodes alone", node.StageBegun, supervisor.UseFormer, supervisor.UseBoth)
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		old.Close(t.Context())
		time.Sleep(5 * ttl)
		said("finish, if each process was given both lists", node.StageBegun, supervisor.UseBoth)
		if next := status(t, is, was).Next; !strings.Contains(next, "finish or forget that one, which has these lists the other way round") {
			t.Error(next)
		}
		was[0].Hang()
		if next := status(t, was, is).Next; !strings.Contains(next, "mend "+was[0].String()) {
			t.Error(next)
		}
		was[0].Resume()
		time.Sleep(2 * ttl)
		finish(t, was, is, supervisor.FinishOptions{})
		said("give each process the present list alone", node.StageOpened, supervisor.UseBoth)
		both.Close(t.Context())
		start(t, is)
		time.Sleep(5 * ttl)
		said("switch off those that are in the former list alone", node.StageOpened)

		// Without a former list it says whether one is missing.
		if st := status(t, nil, is); !strings.Contains(st.Next, "finished") || st.Nodes[0].Stage != node.StageOpened || len(st.Nodes) != 3 {
			t.Errorf("%+v", st)
		}
		start(t, nodes[2:5], former(is))
		time.Sleep(5 * ttl)
		if st := status(t, nodes[1:3], is); !strings.Contains(st.Next, "another change of the nodes was begun") {
			t.Errorf("%+v", st)
		}
	})
}

// A process that is given the present list alone before the change is finished acquires nothing, and
// says why; and one that has the former list alone after it.
func TestSkippedRollouts(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		gets := func(sup *supervisor.Supervisor, name, want string) {
			t.Helper()
			l, err := sup.Acquire(within(t, 2*ttl), name)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want == "":
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			case err == nil:
				t.Errorf("acquired: want %q", want)
			case !strings.Contains(err.Error(), want):
				t.Errorf("%v: want %q", err, want)
			}
		}
		const early, left = "give it the former list as well, or finish the change", "give it the present list, alone or with the former one"
		old := start(t, was, owner("old"))
		kept := acquire(t, old, "kept")
		both := start(t, is, former(was), owner("both"))
		time.Sleep(ttl) // until the nodes know of the change; before, next is told that old uses other nodes
		next := start(t, is, owner("next"))
		gets(next, "x", early)
		gets(both, "x", "")
		gets(old, "x", "")

		// One process was forgotten. Finish says so, and forced it ends what that holds.
		opts := supervisor.FinishOptions{}
		if err := supervisor.FinishChange(t.Context(), change(was, is), opts); err == nil || !strings.Contains(err.Error(), "clients use the former nodes alone: give them both lists (seen at ") || !strings.Contains(err.Error(), was[0].String()) {
			t.Errorf("%v", err)
		}
		if got := stages(t, was, is); slices.Contains(got, node.StageClosed) {
			t.Errorf("%v after a refusal", got)
		}
		opts.Force = true
		begun, ended := time.Now(), make(chan time.Duration, 1)
		go func() { <-kept.Lost(); ended <- time.Since(begun) }()
		finish(t, was, is, opts)
		if took := time.Since(begun); took < ttl || took > 2*ttl {
			t.Errorf("finished after %v", took)
		}
		if took := <-ended; took > ttl {
			t.Errorf("lost after %v", took)
		}
		if err := kept.Err(); !errors.Is(err, lease.ErrLost) {
			t.Error(err)
		}
		gets(old, "x", left)
		gets(start(t, was, owner("older")), "x", left)
		gets(both, "x", "")
		time.Sleep(ttl)
		gets(next, "x", "")
		l := acquire(t, next, "kept")
		if l.Fence() <= kept.Fence() {
			t.Errorf("fence %d after %d", l.Fence(), kept.Fence())
		}
		gets(both, "kept", "held")
	})
}

// All were given the present list alone, and nobody has finished the change: none of them acquires
// anything until it is finished, also if all who knew both are gone.
func TestFinishIsForgotten(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		start(t, is, former(was)).Close(t.Context())
		next := start(t, is, owner("next"))
		if _, err := next.Acquire(within(t, 5*ttl), "x"); err == nil || !strings.Contains(err.Error(), "not finished") {
			t.Errorf("%v", err)
		}
		finish(t, was, is, supervisor.FinishOptions{})
		time.Sleep(ttl) // until it asks the nodes again
		acquire(t, next, "x")
	})
}

// A process that was frozen with the former list, and goes on after the change was finished, has no
// vote counted.
func TestFrozenOverAChange(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		frozen := start(t, was, as("frozen", was))
		acquire(t, frozen, "y")
		for _, n := range was {
			n.Cut("frozen")
		}
		time.Sleep(6 * ttl)
		start(t, is, former(was))
		finish(t, was, is, supervisor.FinishOptions{})
		held := acquire(t, start(t, is, owner("next")), "x")
		for _, n := range was {
			n.Mend("frozen")
		}
		if _, err := frozen.Acquire(within(t, 3*ttl), "x"); err == nil || !strings.Contains(err.Error(), "these nodes were left") {
			t.Errorf("%v", err)
		}
		if !held.Valid() {
			t.Error(held.Err())
		}
	})
}

// Fences grow over a change, although the name had no tenure while both lists were in use, and the
// clocks of the present nodes are behind.
func TestFencesGrowOverAChange(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		for _, n := range is {
			n.Jump(-time.Hour)
		}
		old := start(t, was)
		held := acquire(t, old, "x")
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.Close(t.Context())
		time.Sleep(6 * ttl)
		both := start(t, is, former(was))
		time.Sleep(ttl)
		finish(t, was, is, supervisor.FinishOptions{})
		both.Close(t.Context())
		for _, s := range start(t, is).Nodes() {
			if s.Floor < held.Fence() || s.Stage != node.StageOpened {
				t.Errorf("%+v: want a floor of at least %d", s, held.Fence())
			}
		}
		if l := acquire(t, start(t, is), "x"); l.Fence() <= held.Fence() {
			t.Errorf("fence %d after %d", l.Fence(), held.Fence())
		}
	})
}

// To finish twice, from several places, and again after it was interrupted at any moment, is to finish
// once.
func TestFinishedTwice(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, ttl / 2, ttl + ttl/200} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			bubble(t, 8, func(t *testing.T, nodes []*nodetest.Node) {
				was, is := nodes[:3], nodes[3:]
				both := start(t, is, former(was))
				held := acquire(t, both, "x")
				for _, n := range nodes {
					n.Delay(time.Millisecond)
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(after, cancel)
				if err := supervisor.FinishChange(ctx, change(was, is), supervisor.FinishOptions{}); err == nil {
					t.Error("finished before it was interrupted")
				}
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if err := supervisor.FinishChange(t.Context(), change(was, is), supervisor.FinishOptions{}); err != nil {
							t.Error(err)
						}
					})
					time.Sleep(time.Millisecond)
				}
				wg.Wait()
				if got := stages(t, was, is); slices.ContainsFunc(got[:5], func(s node.Stage) bool { return s != node.StageOpened }) {
					t.Errorf("%v", got)
				}
				begun := time.Now()
				finish(t, was, is, supervisor.FinishOptions{})
				if took := time.Since(begun); took > ttl {
					t.Errorf("it took %v to see that it is finished", took)
				}
				if !held.Valid() {
					t.Error(held.Err())
				}
			})
		})
	}
}

// Finish needs each node that was not named as dead, and a quorum of each list.
func TestFinishWithDeadNodes(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		start(t, is, former(was))
		was[0].Crash()
		is[1].Crash()
		time.Sleep(ttl)
		for want, opts := range map[string]supervisor.FinishOptions{
			was[0].String() + " cannot be asked":                     {Dead: []string{is[1].String()}},
			is[1].String() + " cannot be asked":                      {Dead: []string{was[0].String()}},
			"dead node h7:6379: want one of " + is[0].String():       {Dead: []string{"redis://me:secret@h7:6379"}},
			"1 of the nodes of Former are not dead: want at least 2": {Dead: []string{was[0].String(), was[1].String()}},
			"1 of the nodes of Nodes are not dead: want at least 2":  {Dead: []string{is[0].String(), is[1].String()}},
		} {
			if err := supervisor.FinishChange(t.Context(), change(was, is), opts); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v: want %q", err, want)
			}
		}
		finish(t, was, is, supervisor.FinishOptions{Dead: []string{was[0].String(), is[1].String()}})
		acquire(t, start(t, is), "x")
	})
}

// A change that was begun is given up: the nodes are as before, and the present ones may be used for
// another change.
func TestForgetChange(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		both := start(t, is, former(was))
		held := acquire(t, both, "x")
		if err := supervisor.ForgetChange(t.Context(), change(was, is), false); err == nil || !strings.Contains(err.Error(), "clients use both: give them the former list alone") {
			t.Errorf("%v", err)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		both.Close(t.Context())
		old := start(t, was)
		time.Sleep(5 * ttl)
		is[0].Hang()
		if err := supervisor.ForgetChange(t.Context(), change(was, is), false); err == nil || !strings.Contains(err.Error(), is[0].String()+" cannot be asked") {
			t.Errorf("%v", err)
		}
		is[0].Resume()
		time.Sleep(ttl)
		for range 2 {
			if err := supervisor.ForgetChange(t.Context(), change(was, is), false); err != nil {
				t.Error(err)
			}
		}
		if got := stages(t, was, is); slices.ContainsFunc(got, func(s node.Stage) bool { return s != node.StageNone }) {
			t.Errorf("%v", got)
		}
		if l := acquire(t, old, "x"); l.Fence() <= held.Fence() {
			t.Errorf("fence %d after %d", l.Fence(), held.Fence())
		}
		third := []*nodetest.Node{was[0], is[0], is[1]}
		acquire(t, start(t, third, former(was)), "y")

		// What is closed is not forgotten.
		time.Sleep(5 * ttl)
		finish(t, was, third, supervisor.FinishOptions{Force: true})
		if err := supervisor.ForgetChange(t.Context(), change(was, third), true); err == nil || !strings.Contains(err.Error(), "too late: the change is opened at ") || !errors.Is(err, supervisor.ErrTooEarly) {
			t.Errorf("%v", err)
		}
	})
}

// A change that was closed while a node was dead: what comes next needs that node, or names it as dead.
// It is too late to forget it, also while the node is off.
func TestClosedWithADeadNode(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		start(t, is, former(was))
		time.Sleep(10 * time.Millisecond)
		was[1].Crash()
		ctx, cancel := context.WithCancel(t.Context())
		opts := supervisor.FinishOptions{Dead: []string{was[1].String()}, Say: func(string) { cancel() }}
		if err := supervisor.FinishChange(ctx, change(was, is), opts); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "run it again") {
			t.Errorf("%v", err)
		}
		if next := status(t, was, is).Next; !strings.Contains(next, "finish, which goes on from there; it needs an answer of each node: mend "+was[1].String()) {
			t.Error(next)
		}
		if err := supervisor.ForgetChange(t.Context(), change(was, is), true); err == nil || !strings.Contains(err.Error(), "too late: the change is closed at ") {
			t.Errorf("%v", err)
		}
	})
}

// After a finished change the nodes can be changed back, which is another change.
func TestChangedBack(t *testing.T) {
	bubble(t, 7, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[2:]
		r, all := contend(t, 2, was)
		lists := [][2][]*nodetest.Node{{was, is}, {is, was}, {was, is}}
		for _, l := range lists {
			for _, c := range all {
				c.given(l[1], l[0])
			}
			time.Sleep(5 * ttl)
			finish(t, l[0], l[1], supervisor.FinishOptions{})
			for _, c := range all {
				c.given(l[1], nil)
			}
			r.count()
			time.Sleep(ttl)
			if r.count() == 0 {
				t.Error("nobody had the name")
			}
		}
	})
}

// One node at a time, A B C to A B C D to A B C D E: a fence is stored on A and B, and the name has no
// tenure until C, D and E alone are asked, whose clocks are behind. The floor keeps the order.
func TestFloorOfOneNodeAtATime(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes[2:] {
			n.Jump(-time.Hour)
		}
		c := as("me", nodes)
		old := start(t, nodes[:3], func(cfg *supervisor.Config) { c(cfg); cfg.Nodes = cfg.Nodes[:3] })
		nodes[2].Cut("me")
		held := acquire(t, old, "x")
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.Close(t.Context())
		nodes[2].Mend("me")
		if _, err := supervisor.RaiseFloor(t.Context(), change(nil, nodes)); err == nil || !strings.Contains(err.Error(), "want the nodes of the step before") {
			t.Errorf("%v", err)
		}
		for n := 4; n <= 5; n++ {
			floor, err := supervisor.RaiseFloor(t.Context(), change(nodes[:n-1], nodes[:n]))
			if err != nil || floor < held.Fence() {
				t.Errorf("%d, %v: want at least %d", floor, err, held.Fence())
			}
		}
		time.Sleep(5 * ttl) // until the entry of the old client is gone
		sup := start(t, nodes, func(cfg *supervisor.Config) { c(cfg) })
		time.Sleep(10 * time.Millisecond)
		nodes[0].Cut("me")
		nodes[1].Cut("me")
		if l := acquire(t, sup, "x"); l.Fence() <= held.Fence() {
			t.Errorf("fence %d after %d", l.Fence(), held.Fence())
		}
	})
}

// A program that only asks begins no change, although it was given both lists.
func TestAskingBeginsNoChange(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		held := acquire(t, start(t, was), "x")
		sup := start(t, is, former(was), func(cfg *supervisor.Config) { cfg.NoLeases = true })
		time.Sleep(5 * ttl)
		if h, err := sup.Inspect(t.Context(), "x"); err != nil || h.Token != held.Token() {
			t.Errorf("%+v, %v", h, err)
		}
		if got := stages(t, was, is); slices.ContainsFunc(got, func(s node.Stage) bool { return s != node.StageNone }) {
			t.Errorf("%v", got)
		}
	})
}

// Finish waits for the longest lease that a client may have on the former nodes alone. If one of these
// has lost its data, it may have forgotten how long that is.
func TestFinishWaitsForTheLargestMaxTTL(t *testing.T) {
	for name, c := range map[string]struct {
		maxTTL, cap time.Duration
		emptied     bool
		want        time.Duration
	}{
		"our own":            {ttl, 10 * ttl, false, ttl},
		"another client's":   {3 * ttl, 10 * ttl, false, 3 * ttl},
		"a node was emptied": {3 * ttl, 10 * ttl, true, 10 * ttl},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
				was, is := nodes[:3], nodes[3:]
				cap := func(cfg *supervisor.Config) { cfg.MaxTTLCap = c.cap }
				start(t, was, cap, func(cfg *supervisor.Config) { cfg.MaxTTL = c.maxTTL }).Close(t.Context())
				time.Sleep(12 * ttl)
				start(t, is, former(was), cap)
				time.Sleep(12 * ttl)
				if c.emptied {
					was[0].Restart()
					time.Sleep(ttl)
				}
				cfg := change(was, is)
				cfg.MaxTTLCap = c.cap
				begun := time.Now()
				if err := supervisor.FinishChange(t.Context(), cfg, supervisor.FinishOptions{}); err != nil {
					t.Fatal(err)
				}
				// The holder's clock may be slow by the drift.
				want := c.want + c.want/100 + 2*time.Millisecond
				if took := time.Since(begun); took < want || took > want+ttl/2 {
					t.Errorf("finished after %v, want %v", took, want)
				}
			})
		})
	}
}

// When the change is finished, finish does not need the former nodes, which may be off.
func TestFinishedAgainWithoutTheFormerNodes(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		both := start(t, is, former(was))
		held := acquire(t, both, "x")
		finish(t, was, is, supervisor.FinishOptions{})
		both.Close(t.Context())
		sup := start(t, is)
		for _, n := range was {
			n.Crash()
		}
		is[0].Restart()
		time.Sleep(ttl) // until it has its identity back
		if err := sup.Healthy(); err != nil {
			t.Error(err)
		}
		finish(t, was, is, supervisor.FinishOptions{})
		for _, n := range status(t, was, is).Nodes[:3] {
			if n.Stage != node.StageOpened || n.Floor < held.Fence() {
				t.Errorf("%+v: want a floor of at least %d", n, held.Fence())
			}
		}

		// Clients with the present list alone are known as such without the former nodes.
		time.Sleep(5 * ttl)
		st := status(t, was, is)
		for _, n := range st.Nodes[:3] {
			if len(n.Clients) != 1 || n.Clients[0].Use != supervisor.UseNodes {
				t.Errorf("%+v", n)
			}
		}
		if !strings.Contains(st.Next, "no client uses the former nodes any more") {
			t.Error(st.Next)
		}
	})
}

// A former node that forgot that it is closed, while finish waited, may have counted votes again. If it
// takes such nodes for a quorum finish waits again, and for the longest lease that was begun meanwhile.
func TestFinishWaitsAgain(t *testing.T) {
	for name, c := range map[string]struct {
		n, forget int
		maxTTL    time.Duration // of a client that has come meanwhile
		least     time.Duration
		most      time.Duration
	}{
		"the only one":                     {1, 1, ttl, 2 * ttl, 3 * ttl},
		"the only one, and a longer lease": {1, 1, 3 * ttl, 4 * ttl, 5 * ttl},
		"one of three":                     {3, 1, ttl, ttl, 2 * ttl},
		"two of three":                     {3, 2, ttl, 2 * ttl, 3 * ttl},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.n+3, func(t *testing.T, nodes []*nodetest.Node) {
				was, is := nodes[:c.n], nodes[c.n:]
				cap := func(cfg *supervisor.Config) { cfg.MaxTTLCap = 10 * ttl }
				start(t, is, former(was), cap)
				time.Sleep(12 * ttl)
				cfg := change(was, is)
				cfg.MaxTTLCap = 10 * ttl
				begun := time.Now()
				time.AfterFunc(ttl/2, func() {
					for _, n := range was[:c.forget] {
						n.Restart()
					}
					if c.maxTTL > ttl {
						start(t, was, cap, func(cfg *supervisor.Config) { cfg.MaxTTL = c.maxTTL })
					}
				})
				if err := supervisor.FinishChange(t.Context(), cfg, supervisor.FinishOptions{}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < c.least || took > c.most {
					t.Errorf("finished after %v, want %v to %v", took, c.least, c.most)
				}
			})
		})
	}
}

// A former node that forgot between its answer and when finish looks in which life it is closed has to be
// closed in its new life first.
func TestFinishClosesANewLife(t *testing.T) {
	bubble(t, 4, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:1], nodes[1:]
		start(t, is, former(was)).Close(t.Context())
		time.Sleep(6 * ttl)
		was[0].Delay(10 * time.Millisecond)
		begun := time.Now()
		go func() {
			for {
				if marker, _, _ := was[0].Get("leasehold:incarnation"); strings.Contains(marker, " 2 1>3:") {
					break
				}
				time.Sleep(time.Millisecond)
			}
			time.Sleep(12 * time.Millisecond) // its answer is there, and it was not asked again
			was[0].Del("leasehold:incarnation")
		}()
		finish(t, was, is, supervisor.FinishOptions{})
		if took := time.Since(begun); took < 2*ttl {
			t.Errorf("finished after %v", took)
		}
	})
}

// A client that begins at the same time as finish is enrolled before it says what it uses. Finish sees it.
func TestFinishSeesWhoHasJustBegun(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		start(t, is, former(was))
		time.Sleep(ttl)
		for _, n := range nodes {
			n.Delay(ttl / 100)
		}
		time.AfterFunc(ttl/500, func() {
			if sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(was), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime()}); err != nil {
				t.Error(err)
			} else {
				t.Cleanup(func() { sup.Close(canceled()) })
			}
		})
		err := supervisor.FinishChange(t.Context(), change(was, is), supervisor.FinishOptions{})
		if !errors.Is(err, supervisor.ErrTooEarly) || !strings.Contains(err.Error(), "clients use the former nodes alone") {
			t.Errorf("%v", err)
		}
		if list := stages(t, was, is); slices.Max(list) != node.StageBegun {
			t.Errorf("%v", list)
		}
	})
}

// Nodes may be changed one at a time after a change in two rollouts, and a node may lose its data while no
// client knows it. Only if the present list may be the former one by now an operator must look: then
// finish, with the same lists, says which one it is.
func TestAfterAChange(t *testing.T) {
	begin := func(t *testing.T, was, is []*nodetest.Node, fence uint64) uint64 {
		t.Helper()
		sup := start(t, is, former(was))
		held := acquire(t, sup, "x")
		if held.Fence() <= fence {
			t.Errorf("fence %d after %d", held.Fence(), fence)
		}
		finish(t, was, is, supervisor.FinishOptions{})
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second) // until the nodes have forgotten it
		return held.Fence()
	}
	goesOn := func(t *testing.T, is []*nodetest.Node, fence uint64) uint64 {
		t.Helper()
		sup := start(t, is)
		for range 3 {
			l := acquire(t, sup, "x")
			if l.Fence() <= fence {
				t.Errorf("fence %d after %d", l.Fence(), fence)
			}
			fence = l.Fence()
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(3 * ttl) // until no node is young
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		return fence
	}
	t.Run("one at a time", func(t *testing.T) {
		bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
			fence := begin(t, nodes[:3], nodes[1:4], 0)
			fence = goesOn(t, nodes[1:4], fence)
			fence = goesOn(t, nodes[1:5], fence)
			fence = goesOn(t, nodes[1:6], fence)
			goesOn(t, nodes[2:6], fence)
		})
	})
	t.Run("and then in two rollouts", func(t *testing.T) {
		bubble(t, 7, func(t *testing.T, nodes []*nodetest.Node) {
			fence := begin(t, nodes[:3], nodes[1:4], 0)
			fence = goesOn(t, nodes[1:5], fence)
			fence = begin(t, nodes[1:5], nodes[4:], fence)
			goesOn(t, nodes[4:], fence)
		})
	})
	t.Run("and then back", func(t *testing.T) {
		bubble(t, 4, func(t *testing.T, nodes []*nodetest.Node) {
			was, is := nodes[:3], nodes[1:]
			fence := begin(t, was, is, 0)
			fence = begin(t, is, was, fence)
			if list := stages(t, is, was); !slices.Equal(list, []node.Stage{3, 3, 3, 3}) {
				t.Errorf("%v: want all opened", list)
			}
			goesOn(t, was, fence)
		})
	})
	t.Run("a node is emptied", func(t *testing.T) {
		bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
			fence := begin(t, nodes[:3], nodes[3:], 0)
			nodes[3].Restart()
			fence = goesOn(t, nodes[3:], fence)
			fence = goesOn(t, nodes[3:], fence)
			nodes[4].Restart()
			fence = goesOn(t, nodes[3:], fence)
			goesOn(t, nodes[3:], fence)
			if err := acquireError(t, start(t, nodes[:3])); err == nil || !strings.Contains(err.Error(), "these nodes were left") {
				t.Errorf("former alone: %v", err)
			}
		})
	})
	t.Run("the node that came is emptied", func(t *testing.T) {
		bubble(t, 4, func(t *testing.T, nodes []*nodetest.Node) {
			was, is := nodes[:3], nodes[1:]
			fence := begin(t, was, is, 0)
			nodes[3].Restart()
			nodes[0].Crash() // it is off
			sup := start(t, is)
			time.Sleep(3 * ttl)
			if err := acquireError(t, sup); err == nil || !strings.Contains(err.Error(), "another change of the nodes is not finished, or these nodes belong to other lists") {
				t.Fatal(err)
			}
			if err := supervisor.FinishChange(t.Context(), change(was, is), supervisor.FinishOptions{}); !errors.Is(err, supervisor.ErrTooEarly) {
				t.Errorf("%v: want that clients use other nodes, or may", err)
			}
			finish(t, was, is, supervisor.FinishOptions{Force: true})
			time.Sleep(10 * time.Second) // until it has heard of it
			l := acquire(t, sup, "x")
			if l.Fence() <= fence {
				t.Errorf("fence %d after %d", l.Fence(), fence)
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
			if list := stages(t, was, is); !slices.Equal(list[:3], []node.Stage{3, 3, 3}) {
				t.Errorf("%v", list)
			}
			nodes[0].Recover()
			old := start(t, was)
			time.Sleep(3 * ttl) // before, a quorum is one of the present list as well
			if err := acquireError(t, old); err == nil || !strings.Contains(err.Error(), "these nodes were left") {
				t.Errorf("former alone: %v", err)
			}
		})
	})
}

// acquireError returns why a name is not acquired.
func acquireError(t *testing.T, sup *supervisor.Supervisor) error {
	t.Helper()
	l, err := sup.TryAcquire(t.Context(), "y")
	if l != nil {
		_ = l.Release(t.Context())
	}
	return err
}

// A floor is no floor if it was read on less than a quorum of the former nodes, or if these have lost
// their fences while they were read.
func TestFloorIsOfAQuorum(t *testing.T) {
	for name, c := range map[string]struct {
		ends func(n *nodetest.Node)
		want string
	}{
		"refused": {func(n *nodetest.Node) { n.Fail("ZSCORE", "NOPERM no right to zscore") }, "NOPERM"},
		"emptied": {func(n *nodetest.Node) { time.AfterFunc(10*time.Millisecond, n.Restart) }, "it has lost its data"},
	} {
		for broken := 1; broken <= 2; broken++ {
			t.Run(fmt.Sprintf("%s, %d of three", name, broken), func(t *testing.T) {
				bubble(t, 4, func(t *testing.T, nodes []*nodetest.Node) {
					was, is := nodes[:3], nodes
					sup := start(t, was)
					held := acquire(t, sup, "x")
					if err := held.Release(t.Context()); err != nil {
						t.Fatal(err)
					}
					sup.Close(t.Context())
					for _, n := range nodes {
						n.Delay(time.Millisecond)
					}
					for _, n := range was[:broken] {
						c.ends(n)
					}
					floor, err := supervisor.RaiseFloor(t.Context(), change(was, is))
					if broken == 1 {
						if c.want != "NOPERM" && err == nil && floor < held.Fence() || c.want == "NOPERM" && err != nil {
							t.Errorf("%d, %v", floor, err)
						}
						return
					}
					if !errors.Is(err, supervisor.ErrNoQuorum) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "of 1 former nodes: want at least 2") {
						t.Errorf("%d, %v: want %q", floor, err, c.want)
					}
				})
			})
		}
	}
}

// Clients that were given other lists than the two are in the way of closing, and of giving up.
func TestOtherListsAreInTheWay(t *testing.T) {
	bubble(t, 7, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:6]
		start(t, is, former(was))
		start(t, append(slices.Clone(was[:2]), nodes[6]), owner("other"))
		time.Sleep(ttl)
		if err := supervisor.FinishChange(t.Context(), change(was, is), supervisor.FinishOptions{}); !errors.Is(err, supervisor.ErrTooEarly) || !strings.Contains(err.Error(), "clients use other lists of nodes") {
			t.Errorf("%v", err)
		}
	})
}

// An opened change is that of two lists, but for nodes that have lost their identities, only if a quorum
// of the present list has not, and no node is in another list than before.
func TestSameButForLost(t *testing.T) {
	changeOf := func(former, present string, stage node.Stage) node.Change {
		of := func(list string) node.Electorate { return node.NewElectorate(len(list), strings.Split(list, "")) }
		return node.Change{Former: of(former), Present: of(present), Stage: stage}
	}
	for _, c := range []struct {
		former, present string // that are given
		kept            node.Change
		is              bool
	}{
		{"abc", "bcx", changeOf("abc", "bcd", node.StageOpened), true},
		{"xbc", "bcy", changeOf("abc", "bcd", node.StageOpened), true},
		{"abc", "bcx", changeOf("abc", "bcd", node.StageClosed), false},
		{"bcd", "abc", changeOf("abc", "bcd", node.StageOpened), false}, // back
		{"xyz", "abc", changeOf("abc", "bcd", node.StageOpened), false},
		{"abc", "dex", changeOf("abc", "def", node.StageOpened), true},
		{"abc", "dxy", changeOf("abc", "def", node.StageOpened), false},
		{"abcx", "def", changeOf("abc", "def", node.StageOpened), false},
		{"abc", "defx", changeOf("abc", "def", node.StageOpened), false},
	} {
		if is := supervisor.IsSameButForLost(changeOf(c.former, c.present, node.StageNone), c.kept); is != c.is {
			t.Errorf("%+v: %t", c, is)
		}
	}
}
