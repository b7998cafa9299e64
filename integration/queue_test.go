package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// reservation is for how long a node keeps a name for whoever is first in the queue.
const reservation = 3 * nodeTimeout

// A waiter whose inbox is cut, on every node at once and right before the holder
// releases the name, has it soon all the same; or else the one behind it has, and then
// the first.
func TestInboxCut(t *testing.T) {
	c := processes(t, 5)
	holder := supervise(t, c.Conns())
	var n notes
	for run := range howOften(t) {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
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
				before, begun := starved(), time.Now()
				giveBack(t, l)
				select {
				case l = <-got:
				case <-time.After(10 * time.Second):
					t.Fatal("nobody has the name")
				}
				took := time.Since(begun)
				what := fmt.Sprintf("handed over where the first of %d had its inbox cut", len(sups))
				n.took(what, took)
				if took > 2*reservation+starved()-before {
					t.Errorf("%s after %v, want %v at most", what, took, 2*reservation)
				}
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
	}
	n.log(t)
}

// wait has a supervisor wait for a name, and calls got with its lease.
func wait(t *testing.T, sup *supervisor.Supervisor, name string, got func(*lease.Lease)) {
	go func() {
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
