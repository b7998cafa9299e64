package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// In these tests the nodes are changed by two rollouts and "leasehold nodes finish", as
// docs/operating.md says it under "Changing the nodes", while ten processes contend for names. At no
// time are there two holders, and fences grow.

// lists are the servers of the former and of the present list, by their numbers.
type lists struct{ former, present []int }

var (
	threeToFive = lists{[]int{0, 1, 2}, []int{0, 1, 2, 3, 4}}
	fiveToThree = lists{[]int{0, 1, 2, 3, 4}, []int{2, 3, 4}}
	twoOfFive   = lists{[]int{0, 1, 2, 3, 4}, []int{2, 3, 4, 5, 6}}
	allThree    = lists{[]int{0, 1, 2}, []int{3, 4, 5}}
)

// A member is one process of a fleet: a supervisor, and what it does.
type member struct {
	*fleet
	wires []front
	sup   *supervisor.Supervisor
	stop  func()
}

// A fleet is processes that contend for two names.
type fleet struct {
	t       *testing.T
	c       *cluster.Cluster
	of      lists
	members []*member
	vigils  map[string]*vigil // over each name
	tenures atomic.Int32
}

func newFleet(t *testing.T, c *cluster.Cluster, of lists, n int) *fleet {
	f := &fleet{t: t, c: c, of: of, vigils: map[string]*vigil{"x": keepVigil(t), "y": keepVigil(t)}}
	for range n {
		m := &member{fleet: f, wires: fronts(t, c)}
		m.given(of.former, nil)
		f.members = append(f.members, m)
	}
	t.Cleanup(func() {
		for _, m := range f.members {
			m.end(false)
		}
	})
	f.goesOn("before")
	return f
}

// conns returns the connections of a process that can be cut for it alone.
func (m *member) conns(list []int) (conns []node.Conn) {
	for _, i := range list {
		conns = append(conns, node.URL(m.wires[i].proxy.URL()))
	}
	return conns
}

// given starts the process with lists of nodes.
func (m *member) given(nodes, former []int) {
	m.t.Helper()
	sup, err := supervisor.New(configured(m.conns(nodes), func(cfg *supervisor.Config) {
		cfg.Former, cfg.NodeTimeout = m.conns(former), ttl/5 // this is not about slow nodes
	}))
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	var wg sync.WaitGroup
	for name, v := range m.vigils {
		wg.Go(func() {
			for ctx.Err() == nil {
				l, err := sup.Acquire(ctx, name)
				if err != nil {
					select {
					case <-ctx.Done():
					case <-time.After(ttl / 20):
					}
					continue
				}
				v.over(l)
				m.tenures.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(rand.N(20 * time.Millisecond)):
				}
				_ = l.Release(ctx) // what it leaves there runs out
			}
		})
	}
	m.sup, m.stop = sup, func() { cancel(); wg.Wait() }
}

// end ends the process. If it crashes, no node hears of it, and what it holds stays until it expires.
func (m *member) end(crashes bool) {
	if m.stop == nil {
		return
	}
	if crashes {
		for _, w := range m.wires {
			w.proxy.Cut()
		}
	}
	m.stop()
	if m.stop = nil; crashes {
		_ = m.sup.Close(ended())
	} else {
		closeSoon(m.sup)
	}
	for _, w := range m.wires {
		w.proxy.Mend()
	}
}

// goesOn wants names to be had. Nodes may be young until then.
func (f *fleet) goesOn(when string) {
	f.t.Helper()
	begun := f.tenures.Load()
	if err := poll(10*ttl, func() error {
		if n := f.tenures.Load() - begun; n < 20 {
			return fmt.Errorf("%d tenures", n)
		}
		return nil
	}); err != nil {
		f.t.Errorf("%s: %v in %v", when, err, 10*ttl)
	}
}

// rollOut gives lists to one process after the other, at random moments. Meanwhile processes crash,
// and a minority of the nodes does, which come back empty.
func (f *fleet) rollOut(nodes, former []int, faults bool) {
	f.t.Helper()
	down := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, i := range rand.Perm(len(f.members)) {
		<-time.After(rand.N(renewEvery / 2))
		m := f.members[i]
		m.end(faults && rand.IntN(3) == 0)
		m.given(nodes, former)
		if !faults || rand.IntN(4) > 0 {
			continue
		}
		select {
		case down <- struct{}{}: // one at a time, and only one that is not young any more
			s := f.c.Servers[nodes[rand.IntN(len(nodes))]]
			wg.Go(func() {
				s.Kill()
				<-time.After(rand.N(ttl))
				s.Start()
				<-time.After(2 * ttl)
				<-down
			})
		default:
		}
	}
}

// config returns the configuration of the command.
func (f *fleet) config() supervisor.Config {
	conns := func(list []int) (conns []node.Conn) {
		for _, i := range list {
			conns = append(conns, node.URL(f.c.Servers[i].URL()))
		}
		return conns
	}
	return configured(conns(f.of.present), func(cfg *supervisor.Config) { cfg.Former = conns(f.of.former) })
}

// finish finishes the change, as soon as nothing is in the way.
func (f *fleet) finish(opts supervisor.FinishOptions) {
	f.t.Helper()
	if err := poll(20*ttl, func() error { return supervisor.FinishChange(f.t.Context(), f.config(), opts) }); err != nil {
		f.t.Fatal(err)
	}
}

// shutDown ends the servers that are in the former list alone.
func (f *fleet) shutDown() {
	var left []cluster.Server
	for _, i := range f.of.former {
		if !slices.Contains(f.of.present, i) {
			left = append(left, f.c.Servers[i])
		}
	}
	kill(f.t, left)
}

func TestElectoratesTwoRollouts(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]lists{"3 to 5": threeToFive, "5 to 3": fiveToThree, "two of five replaced": twoOfFive, "all three replaced": allThree} {
		for _, faults := range []bool{false, true} {
			how := ""
			if faults {
				how = ", with crashes"
			}
			t.Run(name+how, func(t *testing.T) {
				onProcesses(t, 7, 2, func(t *testing.T, c *cluster.Cluster, n *notes) {
					f := newFleet(t, c, of, 10)
					f.rollOut(of.present, of.former, faults)
					f.goesOn("both lists")
					begun := time.Now()
					f.finish(supervisor.FinishOptions{})
					n.took("finishing took", time.Since(begun))
					f.goesOn("finished")
					f.rollOut(of.present, nil, faults)
					f.goesOn("present list alone")
					f.shutDown()
					f.goesOn("former nodes are off")
					n.add("tenures", float64(f.tenures.Load()))
				})
			})
		}
	}
}

// reconfigure gives lists to one process after the other, at random moments, without a restart.
func (f *fleet) reconfigure(nodes, former []int) {
	f.t.Helper()
	for _, i := range rand.Perm(len(f.members)) {
		<-time.After(rand.N(renewEvery / 2))
		m := f.members[i]
		if err := poll(10*ttl, func() error {
			return m.sup.Reconfigure(f.t.Context(), m.conns(nodes), m.conns(former))
		}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// The same without a restart of any process: what one of them holds is held all the time, while a
// minority of the nodes crashes and comes back empty.
func TestElectoratesReconfigured(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]lists{"3 to 5": threeToFive, "5 to 3": fiveToThree, "two of five replaced": twoOfFive, "all three replaced": allThree} {
		t.Run(name, func(t *testing.T) {
			onProcesses(t, 7, 2, func(t *testing.T, c *cluster.Cluster, n *notes) {
				f, w := newFleet(t, c, of, 10), newWatch()
				holder := f.members[0].sup
				held := acquire(t, holder, "held")
				f.reconfigure(of.present, of.former)
				begun := time.Now()
				if err := poll(10*ttl, func() error {
					if n := holder.Stats().Filling; n > 0 {
						return fmt.Errorf("%d leases do not rest on both lists", n)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
				n.took("rests on both lists after", time.Since(begun))
				// New nodes are young. Until they have the key too, no other may be missed.
				if err := poll(10*ttl, func() error {
					for _, i := range of.present {
						if is, err := c.Servers[i].Do("EXISTS", "held"); err != nil || is != int64(1) {
							return fmt.Errorf("server %d: %v, %v: want the key", i, is, err)
						}
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
				isRenewed(t, held)
				s := c.Servers[of.present[rand.IntN(len(of.present))]]
				s.Kill()
				<-time.After(rand.N(ttl))
				s.Start()
				f.finish(supervisor.FinishOptions{})
				f.goesOn("finished")
				f.reconfigure(of.present, nil)
				f.shutDown()
				f.goesOn("former nodes are off")
				if !held.Valid() && !w.expired(t, held) {
					t.Error(held.Err())
				}
				n.add("tenures", float64(f.tenures.Load()))
			})
		})
	}
}

// fails wants a process to get no lease, and to say why.
func fails(t *testing.T, sup *supervisor.Supervisor, want string) {
	t.Helper()
	if err := poll(5*ttl, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), ttl)
		defer cancel()
		l, err := sup.Acquire(ctx, "z")
		switch {
		case err == nil:
			t.Errorf("acquired with fence %d: want %q", l.Fence(), want)
			giveBack(t, l)
			return nil
		case !strings.Contains(err.Error(), want):
			return err
		}
		return nil
	}); err != nil {
		t.Errorf("%v: want %q", err, want)
	}
}

// One rollout is skipped, the order is wrong, and a process is forgotten: there is no second holder
// and no smaller fence, and what gets nothing says why.
func TestElectoratesMistakes(t *testing.T) {
	t.Parallel()
	const early, left = "not finished: give it the former list as well, or finish the change", "these nodes were left"
	for name, run := range map[string]func(f *fleet){
		"the second rollout comes before finish": func(f *fleet) {
			f.members[0].end(false)
			f.members[0].given(f.of.present, f.of.former)
			f.goesOn("one has both")
			for _, m := range f.members[1:3] {
				m.end(false)
				m.given(f.of.present, nil)
				fails(f.t, m.sup, early)
			}
			f.goesOn("the others")
		},
		"the second rollout is over before finish": func(f *fleet) {
			f.rollOut(f.of.present, f.of.former, false)
			f.goesOn("both")
			f.rollOut(f.of.present, nil, false)
			fails(f.t, f.members[0].sup, early)
			f.finish(supervisor.FinishOptions{})
			f.goesOn("finished at last")
		},
		"a process is forgotten": func(f *fleet) {
			forgotten := f.members[0]
			held := acquire(f.t, forgotten.sup, "held")
			for _, m := range f.members[1:] {
				m.end(false)
				m.given(f.of.present, f.of.former)
			}
			f.goesOn("both")
			if err := supervisor.FinishChange(f.t.Context(), f.config(), supervisor.FinishOptions{}); !errors.Is(err, supervisor.ErrTooEarly) {
				f.t.Errorf("%v", err)
			}
			f.finish(supervisor.FinishOptions{Force: true})
			if held.Valid() {
				f.t.Error("a lease that rests on the former nodes alone is held after finish")
			}
			fails(f.t, forgotten.sup, left)
			for _, m := range f.members[1:] {
				m.end(false)
				m.given(f.of.present, nil)
			}
			f.goesOn("present list alone")
			l := acquire(f.t, f.members[1].sup, "held")
			if l.Fence() <= held.Fence() {
				f.t.Errorf("fence %d after %d", l.Fence(), held.Fence())
			}
			giveBack(f.t, l)
			if !errors.Is(held.Err(), lease.ErrLost) {
				f.t.Error(held.Err())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onProcesses(t, 6, 3, func(t *testing.T, c *cluster.Cluster, n *notes) {
				run(newFleet(t, c, allThree, 5))
			})
		})
	}
}
