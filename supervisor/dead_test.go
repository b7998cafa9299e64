package supervisor_test

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// heartbeat is that of a waiter by the defaults.
const heartbeat = 3 * ttl / 20

// A crowd is very many who stand in the queue of a name and are dead.
type crowd struct {
	size   int
	ticket uint64
	alive  time.Duration // for how long they count as alive; negative for how long they do not
}

// join has them stand there on one node.
func (c crowd) join(t *testing.T, n *nodetest.Node, name string) {
	t.Helper()
	words := []string{"ZADD", "leasehold:{" + name + "}:queue"}
	now := ask(t, n, 3, "TIME")
	until := fmt.Sprint(-time.Unix(now, 0).Add(c.alive).UnixMilli())
	for i := range c.size {
		id := fmt.Sprintf("leasehold:inbox:dead dead:%d/%d", c.ticket, i)
		words = append(words, fmt.Sprint(c.ticket), "w"+id, until, "l"+id)
	}
	if got := ask(t, n, 1, words...); got != int64(2*c.size) {
		t.Fatalf("%d have joined the queue", got)
	}
}

// stand returns how many stand in the queue of a name on a node.
func stand(t *testing.T, n *nodetest.Node, name string) int64 {
	t.Helper()
	return ask(t, n, 1, "ZCOUNT", "leasehold:{"+name+"}:queue", "0", "+inf")
}

// ask asks a node directly, and returns the number in a line of its answer.
func ask(t *testing.T, n *nodetest.Node, line int, words ...string) (number int64) {
	t.Helper()
	conn, err := n.Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	command := []byte(fmt.Sprintf("*%d\r\n", len(words)))
	for _, word := range words {
		command = fmt.Appendf(command, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := conn.Write(command); err != nil {
		t.Fatal(err)
	}
	answer := bufio.NewReader(conn)
	text := ""
	for range line {
		if text, err = answer.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fmt.Sscan(strings.TrimPrefix(text, ":"), &number); err != nil {
		t.Fatalf("%s: %q", words[0], text)
	}
	return number
}

// A waiter after very many dead has a name that becomes free no later than by a heartbeat,
// and nothing is left of them. They are more than one call looks at, whose heartbeats are
// over, or are not.
func TestVeryManyDeadWait(t *testing.T) {
	const size = 1200
	crowds := map[string]crowd{
		"dead for long":  {size, 1, -time.Hour},
		"dead just now":  {size, 1, time.Hour},
		"behind as well": {size, 1 << 52, -time.Hour},
	}
	for where, on := range map[string][]int{"everywhere": {0, 1, 2}, "on a minority": {1}, "on a quorum": {0, 2}} {
		for what, c := range crowds {
			for _, how := range []string{"released", "expired"} {
				t.Run(what+", "+where+", "+how, func(t *testing.T) {
					bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
						sup := start(t, nodes)
						holder := start(t, nodes, func(cfg *supervisor.Config) {
							for i, n := range nodes {
								cfg.Nodes[i] = n.ConnOf("holder")
							}
						})
						held := acquire(t, holder, "x", supervisor.WithoutRenewal())
						free := time.Now().Add(ttl)
						got := make(chan *lease.Lease, 1)
						if c.ticket == 1 {
							for _, i := range on {
								c.join(t, nodes[i], "x")
							}
						}
						go func() {
							l, err := sup.Acquire(t.Context(), "x")
							if err != nil {
								t.Error(err)
							}
							got <- l
						}()
						synctest.Wait()
						if c.ticket != 1 {
							for _, i := range on {
								c.join(t, nodes[i], "x")
							}
						}
						switch how {
						case "released":
							if err := held.Release(t.Context()); err != nil {
								t.Fatal(err)
							}
							free = time.Now()
						case "expired":
							for _, n := range nodes {
								n.Cut("holder")
							}
						}
						l := <-got
						if took := time.Since(free); took > heartbeat {
							t.Errorf("it took %v", took)
						}
						time.Sleep(ttl)
						synctest.Wait()
						if l != nil && !l.Valid() {
							t.Errorf("the lease: %v", l.Err())
						}
						for i, n := range nodes {
							if left := stand(t, n, "x"); left != 0 {
								t.Errorf("%d stand in the queue of node %d", left, i)
							}
						}
					})
				})
			}
		}
	}
}

// Waiters whose heartbeats are over leave a queue although the name stays held, and are not
// counted: neither in it nor by Inspect.
func TestDeadLeaveAQueueInUse(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		holder, sup := start(t, nodes), start(t, nodes)
		acquire(t, holder, "x")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := sup.Acquire(ctx, "x"); err == nil {
				t.Error("it has a name that is held")
			}
		}()
		synctest.Wait()
		for k, c := range []crowd{{5, 1, -time.Hour}, {5, 1 << 52, -time.Hour}, {1200, 2, time.Second}} {
			for _, n := range nodes {
				c.join(t, n, "x")
			}
			h, err := holder.Inspect(t.Context(), "x")
			want := 1
			if c.alive > 0 {
				want += c.size
			}
			if err != nil || h.Waiting != want {
				t.Errorf("crowd %d: %d wait, want %d: %v", k, h.Waiting, want, err)
			}
		}
		time.Sleep(time.Second + 5*heartbeat)
		synctest.Wait()
		for i, n := range nodes {
			if left := stand(t, n, "x"); left != 1 {
				t.Errorf("%d stand in the queue of node %d", left, i)
			}
		}
		if h, err := holder.Inspect(t.Context(), "x"); err != nil || h.Waiting != 1 {
			t.Errorf("%d wait: %v", h.Waiting, err)
		}
		cancel()
		<-done
	})
}

// A waiter that was away for longer than it counts as alive has left the queues, and has its
// place again when it is back.
func TestBackInItsPlace(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		holder, later := start(t, nodes), start(t, nodes)
		first := start(t, nodes, func(cfg *supervisor.Config) {
			for i, n := range nodes {
				cfg.Nodes[i] = n.ConnOf("first")
			}
		})
		held := acquire(t, holder, "x")
		order := make(chan string, 2)
		var both sync.WaitGroup
		defer both.Wait()
		wait := func(who string, sup *supervisor.Supervisor) {
			both.Go(func() {
				l, err := sup.Acquire(t.Context(), "x")
				if err != nil {
					t.Error(err)
					return
				}
				order <- who
				if err := l.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		wait("first", first)
		wait("later", later)
		for _, n := range nodes {
			n.Cut("first")
		}
		time.Sleep(4 * heartbeat)
		for i, n := range nodes {
			if left := stand(t, n, "x"); left != 1 {
				t.Errorf("%d stand in the queue of node %d", left, i)
			}
		}
		for _, n := range nodes {
			n.Mend("first")
		}
		time.Sleep(2 * heartbeat)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"first", "later"} {
			if got := <-order; got != want {
				t.Errorf("it is the turn of %s, want %s", got, want)
			}
		}
	})
}
