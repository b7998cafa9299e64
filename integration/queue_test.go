package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// reservation is for how long a node keeps a name for the first in the queue.
const reservation = 3 * nodeTimeout

// A waiter whose inbox is cut, on every node at once and right before the holder
// releases the name, has it soon all the same; or else the one after it has, and then
// the first.
func TestInboxCut(t *testing.T) {
	c := processes(t, 5)
	holder := supervise(t, c.Conns())
	var n notes
	repeat(t, howOften(t), 1, func(t *testing.T, run int) {
		name := fmt.Sprint("cut-", run)
		sups := []*supervisor.Supervisor{supervise(t, c.Conns()), supervise(t, c.Conns())}[:1+run%2]
		l := acquire(t, holder, name)
		before := inboxes(t, c)
		got := make(chan *lease.Lease, len(sups))
		var cut [][]string
		for i, sup := range sups {
			wait(t, sup, name, func(l *lease.Lease) { got <- l })
			lined(t, c, name, int64(i+1))
			if i == 0 {
				cut = added(t, c, before)
			}
		}
		kept(t, l, rand.N(ttl))
		atOnce(len(c.Servers), func(i int) {
			for _, id := range cut[i] {
				if _, err := c.Servers[i].Do("CLIENT", "KILL", "ID", id); err != nil {
					t.Error(err)
				}
			}
		})
		for range sups {
			w, begun := newWatch(), time.Now()
			giveBack(t, l)
			select {
			case l = <-got:
			case <-time.After(10 * time.Second):
				t.Fatal("nobody has the name")
			}
			took := time.Since(begun)
			what := fmt.Sprintf("handed over where the first of %d had its inbox cut", len(sups))
			n.took(what, took)
			w.within(t, what, took, 2*reservation)
		}
		giveBack(t, l)
		for _, sup := range sups {
			closeSoon(sup)
		}
		if err := poll(5*time.Second, func() error {
			for i, now := range inboxes(t, c) {
				if len(now) > len(before[i]) {
					return fmt.Errorf("inboxes: %v, and before %v", now, before[i])
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
	n.log(t)
}

// Supervisors that began to wait one after the other are served in that order.
func TestServedInOrder(t *testing.T) {
	c := processes(t, 5)
	for _, x := range []struct {
		name  string
		conns []node.Conn
	}{{"RESP3", c.Conns()}, {"RESP2", untracked(c)}} {
		t.Run(x.name, func(t *testing.T) {
			holder := supervise(t, x.conns)
			sups := make([]*supervisor.Supervisor, 8)
			for i := range sups {
				sups[i] = supervise(t, x.conns)
			}
			var n notes
			repeat(t, howOften(t), 1, func(t *testing.T, run int) {
				name := fmt.Sprint(x.name, " ", run)
				served(t, &n, acquire(t, holder, name), queueUp(t, c, sups, name, 0))
				if err := poll(time.Second, func() error {
					h, err := holder.Inspect(t.Context(), name)
					if err == nil && h.Waiting != 0 {
						err = fmt.Errorf("%d still wait", h.Waiting)
					}
					return err
				}); err != nil {
					t.Error(err)
				}
			})
			n.log(t)
		})
	}
}

// A node that restarts empty while six wait loses its part of the queue, and who is
// waiting is served all the same, in order.
func TestQueueSurvivesRestart(t *testing.T) {
	onProcesses(t, 5, 3, func(t *testing.T, c *cluster.Cluster, n *notes) {
		holder := supervise(t, c.Conns())
		sups := make([]*supervisor.Supervisor, 6)
		for i := range sups {
			sups[i] = supervise(t, c.Conns())
		}
		l := acquire(t, holder, "x")
		turns := queueUp(t, c, sups, "x", 20*time.Millisecond)
		restart(c.Servers[rand.N(5)])
		kept(t, l, rand.N(100*time.Millisecond)) // in the midst of its coming back, or after
		served(t, n, l, turns)
	})
}

// Twenty waiters want one name, and now and then give up at a random moment: whenever
// it is free, somebody who still waits has it soon, and one second after the last has
// given up nothing is left of them.
func TestNoLostWakeUp(t *testing.T) {
	c := processes(t, 5)
	var n notes
	x := &contest{t: t, n: &n, rounds: 50 * howOften(t)}
	several(t, x.rounds)
	ctx, cancel := context.WithCancel(t.Context())
	x.over = cancel
	var wg sync.WaitGroup
	for range 5 {
		sup := supervise(t, c.Conns())
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					x.turn(ctx, sup)
				}
			})
		}
	}
	wg.Wait()
	n.took("the last key was seen after", cleanWithin(t, c, time.Second))
	n.log(t)
	t.Logf("%d leases, %d waiters gave up", x.leases, x.gaveUp)
}

// A contest is many who want one name.
type contest struct {
	t      *testing.T
	n      *notes
	rounds int
	over   func() // after so many leases

	mu             sync.Mutex
	holder         *lease.Lease
	waiting        int
	leases, gaveUp int
	free           time.Time // since when somebody waits and nobody holds it
	watch          watch     // since then
}

// turn waits for the name once.
func (x *contest) turn(ctx context.Context, sup *supervisor.Supervisor) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if rand.N(3) == 0 {
		defer time.AfterFunc(rand.N(50*time.Millisecond), cancel).Stop()
	}
	x.mu.Lock()
	if x.waiting++; x.waiting == 1 && x.holder == nil {
		x.free, x.watch = time.Now(), newWatch()
	}
	x.mu.Unlock()
	l, err := sup.Acquire(ctx, "x")
	x.mu.Lock()
	x.waiting--
	if err != nil {
		x.gaveUp++
		x.mu.Unlock()
		if !errors.Is(err, context.Canceled) {
			x.t.Error(err)
		}
		return
	}
	if x.holder != nil && x.holder.Valid() {
		x.t.Error("two holders")
	}
	took := time.Since(x.free)
	x.n.took("free, with somebody waiting, for", took)
	x.watch.within(x.t, "somebody waits, and the name was free for", took, 2*reservation)
	x.holder = l
	if x.leases++; x.leases == x.rounds {
		x.over()
	}
	x.mu.Unlock()
	<-time.After(rand.N(2 * time.Millisecond))
	x.mu.Lock()
	x.holder, x.free, x.watch = nil, time.Now(), newWatch()
	x.mu.Unlock()
	giveBack(x.t, l)
	<-time.After(rand.N(10 * time.Millisecond)) // sometimes nobody waits
}

// untracked returns how the servers are reached by clients that are told no news.
func untracked(c *cluster.Cluster) []node.Conn {
	conns := make([]node.Conn, len(c.Servers))
	for i, s := range c.Servers {
		conns[i] = node.FromOption(rueidis.ClientOption{InitAddress: []string{s.Addr()}, AlwaysRESP2: true})
	}
	return conns
}

// A turn is a lease that a waiter got.
type turn struct {
	waiter        int
	got, released time.Time
}

// queueUp has supervisors stand in line for a name that somebody holds, one after the
// other. Each holds it for a moment when its turn comes, which it tells.
func queueUp(t *testing.T, c *cluster.Cluster, sups []*supervisor.Supervisor, name string, hold time.Duration) (turns <-chan turn) {
	t.Helper()
	all := make(chan turn, len(sups))
	for i, sup := range sups {
		wait(t, sup, name, func(l *lease.Lease) {
			got := time.Now()
			if hold > 0 {
				<-time.After(rand.N(hold))
			}
			all <- turn{waiter: i, got: got, released: time.Now()} // the next one's comes after it
			giveBack(t, l)
		})
		lined(t, c, name, int64(i+1))
	}
	return all
}

// served releases a lease, and wants everybody who waits to be served soon, in order.
func served(t *testing.T, n *notes, l *lease.Lease, turns <-chan turn) {
	t.Helper()
	w := newWatch()
	last := turn{waiter: -1, released: time.Now()}
	giveBack(t, l)
	for range cap(turns) {
		select {
		case x := <-turns:
			took := x.got.Sub(last.released)
			n.took("handed over within", took)
			w.within(t, "handed over within", took, 2*reservation)
			// A waiter that does not run for as long as the name is reserved for it is passed over.
			if x.waiter != last.waiter+1 {
				w.within(t, fmt.Sprintf("waiter %d was served behind waiter %d, by reservations of", x.waiter, last.waiter), reservation, 0)
			}
			last = x
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody is served behind waiter %d", last.waiter)
		}
	}
}

// wait has a supervisor wait for a name, and calls got with its lease. The supervisor is
// not closed before that has returned.
func wait(t *testing.T, sup *supervisor.Supervisor, name string, got func(*lease.Lease)) {
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		l, err := sup.Acquire(t.Context(), name)
		if err == nil {
			got(l)
		} else if t.Context().Err() == nil {
			t.Error(err)
		}
	}()
}

// inboxes returns the connections of each server that are subscribed to an inbox.
func inboxes(t *testing.T, c *cluster.Cluster) [][]string {
	t.Helper()
	ids := make([][]string, len(c.Servers))
	for i, s := range c.Servers {
		answer, err := s.Do("CLIENT", "LIST", "TYPE", "pubsub")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := answer.(string)
		for line := range strings.Lines(text) {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			ids[i] = append(ids[i], id)
		}
	}
	return ids
}

// added waits until each server has an inbox more than before, and returns those.
func added(t *testing.T, c *cluster.Cluster, before [][]string) [][]string {
	t.Helper()
	more := make([][]string, len(before))
	if err := poll(5*time.Second, func() error {
		for i, now := range inboxes(t, c) {
			more[i] = slices.DeleteFunc(now, func(id string) bool { return slices.Contains(before[i], id) })
			if len(more[i]) == 0 {
				return fmt.Errorf("no inbox on server %d", i)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return more
}

// lined waits until so many stand in the queue of a name on every server.
func lined(t *testing.T, c *cluster.Cluster, name string, n int64) {
	t.Helper()
	for _, s := range c.Servers {
		if err := poll(10*time.Second, func() error {
			got, err := s.Do("ZCOUNT", "leasehold:{"+name+"}:queue", "0", "+inf")
			if err == nil && got != n {
				err = fmt.Errorf("%v stand in the queue, want %d", got, n)
			}
			return err
		}); err != nil {
			t.Fatalf("%s: %v", s.Addr(), err)
		}
	}
}
