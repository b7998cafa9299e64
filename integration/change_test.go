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
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// The list of nodes is changed as docs/operating.md says it under "One node at a time",
// while one process holds a name that another one wants, and all of them contend for
// a second name. Each of them is restarted with the next list, one after the other.
func TestNodesAreChanged(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, x := range []struct {
		name  string
		lists [][]int // the first is that of all processes at the beginning
		dead  bool    // node 2 is, from the beginning of the change
	}{
		{"two are added", [][]int{{0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}}, false},
		{"one is replaced", [][]int{{0, 1, 2}, {0, 1, 2, 3}, {0, 1, 3}}, false},
		{"a dead one is replaced", [][]int{{0, 1, 2}, {0, 1}, {0, 1, 3}}, true},
	} {
		for _, handed := range []bool{true, false} {
			how := "the holder lives on"
			if handed {
				how = "leases are handed over"
			}
			t.Run(x.name+", "+how, func(t *testing.T) {
				onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
					// "Start the new server, empty."
					c.Servers = append(c.Servers, cluster.OpenYoung(t, cluster.Process, 2).Servers...)
					newRollout(t, c, x.lists[0], n).run(x.lists, x.dead, handed)
				})
			})
		}
	}
}

// A rollout is a deployment whose processes get one list of nodes after the other.
type rollout struct {
	t         *testing.T
	c         *cluster.Cluster
	n         *notes
	processes []*participant
	x, y      *vigil // over the name that one holds, and over that for which all contend
	holder    *participant
	held      *lease.Lease // of x
	won       chan win     // of x, by one that has waited for it
	tenures   atomic.Int32 // of y
	watch     watch
}

// A participant is a process: a supervisor, and what it does.
type participant struct {
	*rollout
	wires []front // to all servers, those of its list or not
	sup   *supervisor.Supervisor
	stop  func() // what it does
}

type win struct {
	by *participant
	l  *lease.Lease
}

func newRollout(t *testing.T, c *cluster.Cluster, list []int, n *notes) *rollout {
	r := &rollout{t: t, c: c, n: n, x: keepVigil(t), y: keepVigil(t), won: make(chan win, 4), watch: newWatch()}
	for range 4 {
		p := &participant{rollout: r, wires: fronts(t, c)}
		p.begin(list, 0)
		r.processes = append(r.processes, p)
	}
	r.holder = r.processes[0]
	r.held = acquire(t, r.holder.sup, "x")
	r.x.over(r.held)
	isRenewed(t, r.held) // every node has it by then
	for _, p := range r.processes {
		p.work()
	}
	return r
}

// begin makes a supervisor with a list of nodes, and waits until it has enrolled them, but
// for some that it does not reach.
func (p *participant) begin(list []int, without int) {
	p.t.Helper()
	var conns []node.Conn
	for _, i := range list {
		conns = append(conns, node.URL(p.wires[i].proxy.URL()))
	}
	p.sup = begin(p.t, conns, func(cfg *supervisor.Config) { cfg.NodeTimeout = ttl / 5 }) // this is not about slow nodes
	await(p.t, "nodes to be enrolled", func() error {
		missing := 0
		for _, s := range p.sup.Nodes() {
			if !s.Enrolled {
				missing++
			}
		}
		if missing > without {
			return fmt.Errorf("%d are not", missing)
		}
		return nil
	})
}

// work has the process contend for y, and wait for x unless it holds that.
func (p *participant) work() {
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	sup := p.sup
	wg.Go(func() {
		for ctx.Err() == nil {
			l, err := sup.Acquire(ctx, "y")
			if err != nil {
				continue
			}
			p.y.over(l)
			p.tenures.Add(1)
			<-time.After(rand.N(20 * time.Millisecond))
			_ = l.Release(p.t.Context()) // what it leaves there runs out
		}
	})
	if p != p.holder {
		wg.Go(func() {
			if l, err := sup.Acquire(ctx, "x"); err == nil {
				p.x.over(l)
				p.won <- win{p, l}
			}
		})
	}
	p.stop = func() { cancel(); wg.Wait() }
}

// restart gives a process the next list.
func (p *participant) restart(list []int, without int) {
	p.t.Helper()
	p.stop()
	var handle lease.Handle
	if p == p.holder && p.held.Valid() {
		handle = handOver(p.t, p.held)
	}
	closeSoon(p.sup)
	p.begin(list, without)
	if handle != "" {
		p.held, _ = adopt(p.t, p.sup, handle)
		p.x.over(p.held)
	}
	p.work()
}

func (r *rollout) run(lists [][]int, dead, handed bool) {
	t, w := r.t, newWatch()
	defer func() {
		for _, p := range r.processes {
			p.stop()
		}
	}()
	if dead {
		kill(t, r.c.Servers[2:3])
	}
	for i, list := range lists[1:] {
		begun := time.Now()
		r.step(list, handed, dead)
		r.n.took(fmt.Sprintf("step %d took", i+1), time.Since(begun))
	}
	if last := lists[len(lists)-1]; !dead && len(last) == 3 {
		kill(t, r.c.Servers[2:3]) // "Shut the old server down."
	}
	r.kept(ttl)
	giveBack(t, r.held)
	r.next()
	r.kept(renewEvery)
	r.n.add("tenures of the other name", float64(r.tenures.Load()))
	if tenures := r.tenures.Load(); tenures < 10 {
		if !w.busy() {
			t.Fatalf("only %d tenures of the other name; %v", tenures, w)
		}
		excuse(t, "only %d tenures of the other name; %v", tenures, w)
	}
}

// kept wants x to be held for so long. It may have been lost before, while a whole step
// kept the machine busy.
func (r *rollout) kept(d time.Duration) {
	r.t.Helper()
	if r.watch.expired(r.t, r.held) {
		r.t.SkipNow()
	}
	kept(r.t, r.held, d)
}

// next takes in who has x after a release.
func (r *rollout) next() {
	r.t.Helper()
	tooLate := time.NewTimer(4 * ttl)
	defer tooLate.Stop()
	select {
	case w := <-r.won:
		r.holder, r.held = w.by, w.l
	case <-tooLate.C:
		r.t.Fatal("nobody has the name behind its release")
	}
}

// step gives the next list to every process, and waits until all have it.
func (r *rollout) step(list []int, handed, dead bool) {
	r.t.Helper()
	unreached := func(p *participant) int {
		if handed || dead {
			return 0 // all that there are, are needed
		}
		p.wires[list[rand.IntN(len(list))]].proxy.Cut()
		return 1
	}
	// "Give the next list to one process after the other." In the meantime clients of both
	// lists rest on one majority or another.
	for _, i := range rand.Perm(len(r.processes)) {
		if p := r.processes[i]; p != r.holder {
			p.restart(list, unreached(p))
			<-time.After(rand.N(renewEvery / 2))
		}
	}
	former := r.holder
	if !handed {
		// "A process that holds a lease for long may also be the last one. Others wait for
		// it as ever."
		r.kept(anyMoment())
		giveBack(r.t, r.held)
		r.next()
	} else {
		r.kept(anyMoment())
	}
	former.restart(list, 0) // "What it holds it may hand over to its successor."
	for _, p := range r.processes {
		for _, w := range p.wires {
			w.proxy.Mend()
		}
	}
	// "Wait until Supervisor.Nodes shows the same in every process, for every node."
	var last error
	if poll(20*time.Second, func() error {
		last = nil
		for k, p := range r.processes {
			for _, s := range p.sup.Nodes() {
				if !s.Enrolled || s.Disagrees != "" || s.Young != 0 {
					last = errors.Join(last, fmt.Errorf("process %d: %s: enrolled %v (%v), %q, young for %v", k, s.Node, s.Enrolled, s.Err, s.Disagrees, s.Young))
				}
			}
		}
		return last
	}) != nil {
		r.t.Fatalf("the step does not end: %v", last)
	}
}
