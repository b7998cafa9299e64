package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

func acquireAny(t *testing.T, sup *supervisor.Supervisor, names ...string) *lease.Lease {
	t.Helper()
	held, err := sup.AcquireAny(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// Three names are had by three, and the fourth waits until one of them is given back. It is
// another lease of the same name then, with a larger fence, and nothing is left where it waited
// in vain.
func TestAcquireAny(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		prefixed := func(cfg *supervisor.Config) { cfg.Prefix = "p:" }
		names := []string{"a", "b", "c"}
		held := make(map[string]*lease.Lease)
		for range names {
			l := acquireAny(t, start(t, nodes, prefixed), names...)
			if held[l.Name()] != nil || !slices.Contains(names, l.Name()) {
				t.Fatalf("%q once more", l.Name())
			}
			held[l.Name()] = l
			synctest.Wait() // for the votes beyond the quorum
			wantKeys(t, nodes, "p:"+l.Name(), string(l.Token()), 3)
		}
		sup := start(t, nodes, prefixed)
		got := make(chan *lease.Lease)
		go func() { got <- acquireAny(t, sup, names...) }()
		time.Sleep(5 * ttl)
		if st := sup.Stats(); st.Waiting != 1 || st.Held != 0 {
			t.Fatalf("%d wait, and %d are held", st.Waiting, st.Held)
		}
		for name, l := range held {
			if !l.Valid() {
				t.Fatalf("%q: %v", name, l.Err())
			}
		}
		begun := time.Now()
		if err := held["b"].Release(t.Context()); err != nil {
			t.Error(err)
		}
		next := <-got
		if next.Name() != "b" || next.Fence() <= held["b"].Fence() || time.Since(begun) > 50*time.Millisecond {
			t.Errorf("%q with fence %d, after %v", next.Name(), next.Fence(), time.Since(begun))
		}
		time.Sleep(ttl)
		for _, name := range []string{"a", "c"} {
			wantKeys(t, nodes, "p:"+name, string(held[name].Token()), 3)
			if h, err := sup.Inspect(t.Context(), name); err != nil || h.Waiting != 0 {
				t.Errorf("%q: %d wait, %v", name, h.Waiting, err)
			}
		}
		if st := sup.Stats(); st.Waiting != 0 || st.Held != 1 {
			t.Errorf("%d wait, and %d are held", st.Waiting, st.Held)
		}
	})
}

// What is wrong with the names is one clear error, before any node is asked.
func TestAcquireAnyArguments(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for what, c := range map[string]struct {
			names []string
			opts  []supervisor.Option
			want  string
		}{
			"none":     {nil, nil, "no name given"},
			"twice":    {[]string{"a", "b", "a", "a"}, nil, `name "a": given more than once`},
			"broken":   {[]string{"a", ""}, nil, `name ""`},
			"attempts": {[]string{"a"}, opts(supervisor.WithAttempts(3)), "WithAttempts: AcquireAny cannot use it"},
		} {
			before := nodes[0].Commands()["SET"] + nodes[0].Commands()["EVALSHA"]
			l, err := sup.AcquireAny(t.Context(), c.names, c.opts...)
			if l != nil || err == nil || !strings.HasPrefix(err.Error(), "acquire any: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v: want %q alone", what, err, c.want)
			}
			if errors.As(err, new(*supervisor.AcquireError)) {
				t.Errorf("%s: %v is no error about a name", what, err)
			}
			if after := nodes[0].Commands()["SET"] + nodes[0].Commands()["EVALSHA"]; after != before {
				t.Errorf("%s: a node was asked", what)
			}
		}
	})
}

// A caller that gives up is told why, of one of the names, and nothing is left.
func TestAcquireAnyGivesUp(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes, owner("other"))
		acquire(t, other, "a")
		acquire(t, other, "b")
		l, err := sup.AcquireAny(within(t, ttl), []string{"a", "b"})
		var e *supervisor.AcquireError
		is := errors.As(err, &e)
		if l != nil || !errors.Is(err, supervisor.ErrHeld) || !errors.Is(err, context.DeadlineExceeded) || !is {
			t.Fatal(err)
		}
		if e.Op != "acquire any" || e.Name != "a" && e.Name != "b" || len(e.Nodes) != 3 || e.Nodes[0].Owner != "other" {
			t.Errorf("%+v", e)
		}
		if _, err := sup.AcquireAny(canceled(), []string{"a", "b"}); !errors.Is(err, context.Canceled) || errors.Is(err, supervisor.ErrHeld) {
			t.Error(err)
		}
		for _, n := range nodes {
			n.Crash()
		}
		if _, err := sup.AcquireAny(within(t, ttl), []string{"a", "b"}); !errors.Is(err, supervisor.ErrNoQuorum) {
			t.Error(err)
		}
		for _, n := range nodes {
			n.Recover()
		}
		time.Sleep(3 * ttl)
		for _, name := range []string{"a", "b"} {
			if h, err := other.Inspect(t.Context(), name); err != nil || h.Waiting != 0 {
				t.Errorf("%q: %+v, %v", name, h, err)
			}
		}
		if st := sup.Stats(); st.Waiting+st.Held != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A node that hangs delays nobody who wants any of several names.
func TestAcquireAnyWhileANodeHangs(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		nodes[1].Hang()
		begun := time.Now()
		acquireAny(t, sup, "a", "b")
		if took := time.Since(begun); took > 20*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// An anyCrowd is many processes that want any of some names, again and again.
type anyCrowd struct {
	t       *testing.T
	mu      sync.Mutex
	holders map[string]int // who has it
	turns   []int          // of each process
}

// crowded has a process for each set of names take turns for so long, in which it holds a name for
// a while.
func crowded(t *testing.T, nodes []*nodetest.Node, sets [][]string, hold, length time.Duration) *anyCrowd {
	t.Helper()
	for _, n := range nodes {
		n.Delay(500 * time.Microsecond)
	}
	c := &anyCrowd{t: t, holders: make(map[string]int), turns: make([]int, len(sets))}
	sups := make([]*supervisor.Supervisor, len(sets))
	for i := range sups {
		sups[i] = start(t, nodes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	for i, names := range sets {
		all.Go(func() {
			for ctx.Err() == nil {
				c.turn(ctx, i, sups[i], names, hold)
			}
		})
	}
	all.Wait()
	return c
}

func (c *anyCrowd) turn(ctx context.Context, i int, sup *supervisor.Supervisor, names []string, hold time.Duration) {
	l, err := sup.AcquireAny(ctx, names)
	if err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			c.t.Error(err)
		}
		return
	}
	c.mu.Lock()
	if who, held := c.holders[l.Name()]; held || !slices.Contains(names, l.Name()) {
		c.t.Errorf("%d has %q, and so has %d", i, l.Name(), who)
	}
	c.holders[l.Name()] = i
	c.mu.Unlock()
	select {
	case <-l.Done():
		c.t.Error(l.Err())
	case <-time.After(hold):
	}
	c.mu.Lock()
	delete(c.holders, l.Name())
	c.turns[i]++
	c.mu.Unlock()
	if err := l.Release(context.Background()); err != nil {
		c.t.Error(err)
	}
}

func (c *anyCrowd) sum() (turns int) {
	for _, n := range c.turns {
		turns += n
	}
	return turns
}

func numbered(n int) (names []string) {
	for k := range n {
		names = append(names, fmt.Sprintf("n%03d", k))
	}
	return names
}

// Ten processes and three names: hardly a moment in which one of them is not held, and all have as
// many turns.
func TestAnyCrowd(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		const hold, length = 60 * time.Millisecond, 20 * time.Second
		sets := slices.Repeat([][]string{numbered(3)}, 10)
		c := crowded(t, nodes, sets, hold, length)
		of := float64(c.sum()) / (3 * float64(length/hold))
		ratio := float64(slices.Max(c.turns)) / float64(slices.Min(c.turns))
		t.Logf("%d turns, %.3f of the most that there can be, max/min %.2f", c.sum(), of, ratio)
		if of < 0.95 || ratio > 1.1 {
			t.Errorf("%v turns: %.3f of the most that there can be, want 0.95; max/min %.2f, want at most 1.1", c.turns, of, ratio)
		}
	})
}

// Forty processes and twenty names that are held for a moment.
func TestAnyLargeCrowd(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		const length = time.Second / 2
		c := crowded(t, nodes, slices.Repeat([][]string{numbered(20)}, 40), 5*time.Millisecond, length)
		t.Logf("%d turns in %v, from %d to %d each", c.sum(), length, slices.Min(c.turns), slices.Max(c.turns))
		if c.sum() < 1500 {
			t.Errorf("%d turns in %v, want 1500 of 2000", c.sum(), length)
		}
	})
}

// Sets of names that overlap in a circle: nobody waits for another for ever.
func TestAnyOfOverlappingSets(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sets := [][]string{{"a", "b"}, {"b", "c"}, {"c", "a"}}
		c := crowded(t, nodes, slices.Repeat(sets, 3), 5*time.Millisecond, 2*time.Second)
		t.Logf("turns: %v", c.turns)
		if c.sum() < 1000 || slices.Max(c.turns) > 2*slices.Min(c.turns) {
			t.Errorf("turns: %v, want 1000 in all", c.turns)
		}
	})
}

// Callers of one process are served in turn, whichever way they want a name.
func TestAnyInOneProcess(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		a, b := acquire(t, sup, "a"), acquire(t, sup, "b")
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		wait := func(who string, acquire func() (*lease.Lease, error)) {
			all.Go(func() {
				l, err := acquire()
				if err != nil {
					t.Error(who, err)
					return
				}
				mu.Lock()
				order = append(order, who+" "+l.Name())
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				_ = l.Release(context.Background())
			})
			synctest.Wait()
		}
		both := func() (*lease.Lease, error) { return sup.AcquireAny(t.Context(), []string{"a", "b"}) }
		wait("1", func() (*lease.Lease, error) { return sup.Acquire(t.Context(), "a") })
		wait("2", both)
		wait("3", both)
		wait("4", func() (*lease.Lease, error) { return sup.Acquire(t.Context(), "b") })
		_ = a.Release(t.Context())
		time.Sleep(5 * time.Millisecond)
		_ = b.Release(t.Context())
		all.Wait()
		if want := []string{"1 a", "2 b", "3 a", "4 b"}; !slices.Equal(order, want) {
			t.Errorf("%v, want %v", order, want)
		}
	})
}

// What somebody costs who waits for any of a hundred names: with thirty of them, and three nodes.
func TestAnyCost(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		const waiters, length = 30, 15 * time.Second
		names := numbered(100)
		for _, n := range nodes {
			for _, name := range names {
				n.Set(name, "them/"+strings.Repeat("A", 26), time.Hour)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range waiters {
			sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.TTL = 10 * time.Second })
			all.Go(func() {
				if _, err := sup.AcquireAny(ctx, names); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		time.Sleep(10 * time.Second)
		count := func() (all int) {
			for _, n := range nodes[0].Commands() {
				all += n
			}
			return all
		}
		before := count()
		time.Sleep(length)
		each := float64(count()-before) / waiters / length.Seconds()
		h, err := start(t, nodes).Inspect(t.Context(), names[0])
		t.Logf("%.1f commands a second, node and waiter; %d wait for the first name, %v", each, h.Waiting, err)
		if each > 20 {
			t.Errorf("%.1f commands a second, node and waiter: want at most 20", each)
		}
		cancel()
		all.Wait()
	})
}

// With a minimum each name is a ticket: never more than so many turns begin within that time, and
// hardly fewer, also if each is over at once.
func TestAnyAsARate(t *testing.T) {
	for _, d := range []time.Duration{2 * ttl, ttl / 2} {
		t.Run(d.String(), func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				for _, n := range nodes {
					n.Delay(500 * time.Microsecond)
				}
				const length = 30 * ttl
				ctx, cancel := context.WithTimeout(t.Context(), length)
				defer cancel()
				var mu sync.Mutex
				begun := make(map[string][]time.Time)
				turns := make([]int, 5)
				var all sync.WaitGroup
				for i := range turns {
					sup := start(t, nodes)
					all.Go(func() {
						for {
							l, err := sup.AcquireAny(ctx, numbered(3), supervisor.WithMinHold(d))
							if err != nil {
								if !errors.Is(err, context.DeadlineExceeded) {
									t.Error(err)
								}
								return
							}
							mu.Lock()
							begun[l.Name()] = append(begun[l.Name()], time.Now())
							turns[i]++
							mu.Unlock()
							time.Sleep(10 * time.Millisecond)
							if err := l.Release(t.Context()); err != nil {
								t.Error(err)
							}
						}
					})
				}
				all.Wait()
				sum := 0
				for name, at := range begun {
					sum += len(at)
					for k := range at[1:] {
						// The lease began a round trip or two before its caller has it.
						if gap := at[k+1].Sub(at[k]); gap < d-20*time.Millisecond {
							t.Errorf("%s is had %v after it was", name, gap)
						}
					}
				}
				of := float64(sum) / (3 * float64(length/d))
				t.Logf("%d turns, %.2f of the most that there can be; of each process %v", sum, of, turns)
				if of < 0.7 || slices.Max(turns) > 2*slices.Min(turns) {
					t.Errorf("%d turns, %.2f of the most that there can be; of each process %v", sum, of, turns)
				}
			})
		})
	}
}

// A free name among very many is found, wherever it stands in the list, and renewals of other leases
// find room meanwhile.
func TestAnyOfVeryMany(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		const n = 9000
		names := make([]string, n)
		for k := range names {
			names[k] = fmt.Sprintf("n%04d", k)
			if k != n-1 {
				nodes[0].Set(names[k], "them/"+strings.Repeat("A", 26), time.Hour)
			}
		}
		sup := start(t, nodes)
		other := acquire(t, sup, "other")
		begun := time.Now()
		most := time.Duration(n/512+2) * 3 * ttl / 20
		l, err := sup.AcquireAny(within(t, 2*most), names)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); l.Name() != names[n-1] || took > most {
			t.Errorf("%q after %v, want %q within %v", l.Name(), took, names[n-1], most)
		}
		if !other.Valid() {
			t.Error(other.Err())
		}
	})
}
