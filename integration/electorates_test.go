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
	crashes atomic.Int32 // of servers
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
		for i, m := range f.members {
			f.t.Logf("process %d: %+v", i, m.sup.Stats())
			for _, n := range m.sup.Nodes() {
				f.t.Logf("%s %v: enrolled %t (%v), stage %v, young for %v, latency %v, %s", n.Node, n.List, n.Enrolled, n.Err, n.Stage, n.Young, n.Latency, n.Disagrees)
			}
			for name := range f.vigils {
				h, err := m.sup.Inspect(f.t.Context(), name)
				f.t.Logf("%s: %+v, %v", name, h, err)
			}
		}
	}
}

// rollOut gives lists to one process after the other, at random moments. If there are faults one process
// in three crashes, and one at least.
func (f *fleet) rollOut(nodes, former []int, faults bool) {
	f.t.Helper()
	for k, i := range rand.Perm(len(f.members)) {
		<-time.After(rand.N(renewEvery / 2))
		m := f.members[i]
		m.end(faults && (k == 0 || rand.IntN(3) == 0))
		m.given(nodes, former)
	}
}

// crashing has one server after the other crash, which comes back empty, until what it returns is called.
// There is one at least. The next one comes when the last one is not young any more.
func (f *fleet) crashing(servers ...int) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			s := f.c.Servers[servers[rand.IntN(len(servers))]]
			<-time.After(rand.N(renewEvery))
			s.Kill()
			<-time.After(rand.N(ttl))
			s.Start()
			f.crashes.Add(1)
			select {
			case <-stopped:
				return
			case <-time.After(2 * ttl):
			}
		}
	}()
	return sync.OnceFunc(func() { close(stopped); <-done })
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

// kinds are the changes of these tests.
var kinds = []struct {
	name string
	of   lists
}{{"all three replaced", allThree}, {"two of five replaced", twoOfFive}, {"3 to 5", threeToFive}, {"5 to 3", fiveToThree}}

func TestElectoratesTwoRollouts(t *testing.T) {
	t.Parallel()
	for i, kind := range kinds {
		for _, faults := range []bool{true, false} {
			how := ""
			if faults {
				how = ", with crashes"
			}
			t.Run(kind.name+how, func(t *testing.T) {
				if i > 0 || !faults {
					takesLong(t)
				}
				of := kind.of
				onProcesses(t, 7, 2, func(t *testing.T, c *cluster.Cluster, n *notes) {
					f := newFleet(t, c, of, 10)
					crash := func(servers ...int) (stop func()) {
						if !faults {
							return func() {}
						}
						return f.crashing(servers...)
					}
					stop := crash(slices.Concat(of.former, of.present)...)
					defer func() { stop() }()
					f.rollOut(of.present, of.former, faults)
					f.goesOn("both lists")
					begun := time.Now()
					f.finish(supervisor.FinishOptions{})
					n.took("finishing took", time.Since(begun))
					f.goesOn("finished")
					stop()
					stop = crash(of.present...)
					f.rollOut(of.present, nil, faults)
					f.goesOn("present list alone")
					stop()
					f.shutDown()
					f.goesOn("former nodes are off")
					n.add("tenures", float64(f.tenures.Load()))
					n.add("servers crashed", float64(f.crashes.Load()))
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

// The same without a restart of any process: what one of them holds is held all the time, whether others
// wait for it or not, while one server after the other crashes and comes back empty.
func TestElectoratesReconfigured(t *testing.T) {
	t.Parallel()
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			if i > 0 {
				takesLong(t)
			}
			of := kind.of
			onProcesses(t, 7, 2, func(t *testing.T, c *cluster.Cluster, n *notes) {
				f, w := newFleet(t, c, of, 10), newWatch()
				holder := f.members[0].sup
				held, wanted := acquire(t, holder, "held"), acquire(t, holder, "wanted")
				heirs := make(chan *lease.Lease, 2)
				var waiting sync.WaitGroup
				for _, m := range f.members[1:3] {
					waiting.Go(func() {
						if l, err := m.sup.Acquire(t.Context(), "wanted"); err == nil {
							heirs <- l
						}
					})
				}
				defer waiting.Wait()
				stop := f.crashing(slices.Concat(of.former, of.present)...)
				defer stop()
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
				f.finish(supervisor.FinishOptions{})
				f.goesOn("finished")
				f.reconfigure(of.present, nil)
				stop()
				f.shutDown()
				f.goesOn("former nodes are off")
				for _, l := range []*lease.Lease{held, wanted} {
					if !l.Valid() && !w.expired(t, l) {
						t.Errorf("%s: %v", l.Name(), l.Err())
					}
				}
				_ = wanted.Release(t.Context())
				for range 2 {
					l := <-heirs
					if l.Fence() <= wanted.Fence() {
						t.Errorf("fence %d after %d", l.Fence(), wanted.Fence())
					}
					giveBack(t, l)
				}
				n.add("tenures", float64(f.tenures.Load()))
				n.add("servers crashed", float64(f.crashes.Load()))
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

// forgottenFor is for how long a process is forgotten.
func forgottenFor(t *testing.T) time.Duration {
	if howOften(t) > 1 {
		return time.Minute
	}
	return ttl
}

// refuses wants finish to be refused, and to say why.
func (f *fleet) refuses(want string) {
	f.t.Helper()
	if err := poll(5*ttl, func() error { // on a busy machine a node may not answer in time
		switch err := supervisor.FinishChange(f.t.Context(), f.config(), supervisor.FinishOptions{}); {
		case err == nil:
			f.t.Errorf("finished: want %q", want)
			return nil
		case !errors.Is(err, supervisor.ErrTooEarly) || !strings.Contains(err.Error(), want):
			return err
		}
		return nil
	}); err != nil {
		f.t.Errorf("finish: %v: want %q", err, want)
	}
}

// One rollout is skipped, the order is wrong, and a process is forgotten: there is no second holder
// and no smaller fence, and what gets nothing says why.
func TestElectoratesMistakes(t *testing.T) {
	t.Parallel()
	const (
		early = "not finished: give it the former list as well, or finish the change"
		left  = "these nodes were left: give it the present list, alone or with the former one"
		older = "older clients use 5 nodes"
		alone = "clients use the former nodes alone: give them both lists"
	)
	for _, mistake := range []struct {
		name  string
		of    lists
		quick bool
		run   func(f *fleet)
	}{
		{"a process is forgotten", allThree, false, func(f *fleet) {
			forgotten, w := f.members[0], newWatch()
			held := acquire(f.t, forgotten.sup, "held")
			for _, m := range f.members[1:] {
				m.end(false)
				m.given(f.of.present, f.of.former)
			}
			for end := time.Now().Add(forgottenFor(f.t)); time.Now().Before(end); {
				f.goesOn("both")
				f.refuses(alone)
			}
			if !held.Valid() && !w.expired(f.t, held) {
				f.t.Errorf("lost before finish: %v", held.Err())
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
		}},
		{"the second rollout comes before finish", allThree, true, func(f *fleet) {
			f.members[0].end(false)
			f.members[0].given(f.of.present, f.of.former)
			f.goesOn("one has both")
			for _, m := range f.members[1:3] {
				m.end(false)
				m.given(f.of.present, nil)
				fails(f.t, m.sup, early)
			}
			f.goesOn("the others")
		}},
		{"the second rollout is over before finish", allThree, false, func(f *fleet) {
			f.rollOut(f.of.present, f.of.former, false)
			f.goesOn("both")
			f.rollOut(f.of.present, nil, false)
			fails(f.t, f.members[0].sup, early)
			f.finish(supervisor.FinishOptions{})
			f.goesOn("finished at last")
		}},
		{"the first rollout is skipped", twoOfFive, true, func(f *fleet) {
			for _, m := range f.members[:2] {
				m.end(false)
				m.given(f.of.present, nil)
				fails(f.t, m.sup, older)
			}
			f.goesOn("the others")
			f.refuses(alone)
		}},
		{"the former list comes back", twoOfFive, false, func(f *fleet) {
			f.refuses(alone)
			f.rollOut(f.of.present, f.of.former, false)
			f.goesOn("both")
			f.finish(supervisor.FinishOptions{})
			f.rollOut(f.of.present, nil, false)
			for _, m := range f.members[:2] {
				m.end(false)
				m.given(f.of.former, nil)
				fails(f.t, m.sup, left)
			}
			f.goesOn("the others")
		}},
	} {
		t.Run(mistake.name, func(t *testing.T) {
			if !mistake.quick {
				takesLong(t)
			}
			onProcesses(t, 7, 3, func(t *testing.T, c *cluster.Cluster, n *notes) {
				f := newFleet(t, c, mistake.of, 5)
				mistake.run(f)
				n.add("tenures", float64(f.tenures.Load()))
			})
		})
	}
}
