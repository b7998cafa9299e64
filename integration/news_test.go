package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// instant is within which what a server tells by itself is known.
const instant = 20 * time.Millisecond

// A lease whose key is deleted or overwritten on a majority ends at once if the
// servers tell of it, and otherwise at its next renewal.
func TestRevocationIsTold(t *testing.T) {
	c := processes(t, 5)
	for _, x := range []struct {
		name    string
		conns   []node.Conn
		tracked bool
		most    time.Duration
	}{
		{"tracked", c.Conns(), true, instant},
		{"untracked", untracked(c), false, renewEvery + nodeTimeout},
	} {
		for _, way := range []struct {
			name   string
			change func(s cluster.Server, key string) error
			want   error
		}{
			{"deleted", func(s cluster.Server, key string) error { _, err := s.Do("DEL", key); return err }, lease.ErrRevoked},
			{"overwritten", func(s cluster.Server, key string) error { _, err := s.Do("SET", key, "somebody else"); return err }, lease.ErrTaken},
		} {
			t.Run(x.name+", "+way.name, func(t *testing.T) {
				sup := supervise(t, x.conns)
				var n notes
				repeat(t, howOften(t), 1, func(t *testing.T, run int) {
					name := fmt.Sprint(x.name, way.name, run)
					asked := followed(t, c)
					l := acquire(t, sup, name)
					if x.tracked {
						follows(t, c, asked) // from its first renewal on
					}
					kept(t, l, anyMoment())
					w, begun := newWatch(), time.Now()
					atOnce(3, func(i int) {
						if err := way.change(c.Servers[(run+i)%5], name); err != nil {
							t.Error(err)
						}
					})
					soon(t, &n, x.name+", "+way.name+" on three of five: told after", l.Lost(), begun, x.most, w)
					if !errors.Is(l.Err(), way.want) {
						t.Errorf("Err() = %v, want %v", l.Err(), way.want)
					}
				})
				n.log(t)
			})
		}
	}
}

// A waiter after a holder of another library, who hands nothing over, has the name
// at once when it is let go if the servers tell of it, and otherwise after a pause.
func TestForeignHolderLetsGo(t *testing.T) {
	const handOver = 5 * time.Millisecond // and no more than that: two round trips, and two cores
	c := processes(t, 5)
	for _, x := range []struct {
		name    string
		conns   []node.Conn
		tracked bool
		most    time.Duration
	}{
		{"tracked", c.Conns(), true, instant + handOver},
		{"untracked", untracked(c), false, reservation + handOver},
	} {
		t.Run(x.name, func(t *testing.T) {
			sup := supervise(t, x.conns)
			var n notes
			repeat(t, howOften(t), 1, func(t *testing.T, run int) {
				name := fmt.Sprint("foreign-", x.name, run)
				for _, s := range c.Servers {
					if _, err := s.Do("SET", name, "of another library", "NX", "PX", "60000"); err != nil {
						t.Fatal(err)
					}
				}
				asked := followed(t, c)
				got := make(chan struct{})
				var l *lease.Lease
				wait(t, sup, name, func(held *lease.Lease) { l = held; close(got) })
				lined(t, c, name, 1)
				if x.tracked {
					follows(t, c, asked)
				}
				<-time.After(rand.N(ttl / 4)) // at any moment of its pause
				w, begun := newWatch(), time.Now()
				atOnce(5, func(i int) {
					if _, err := c.Servers[i].Do("DEL", name); err != nil {
						t.Error(err)
					}
				})
				soon(t, &n, x.name+", let go by a foreign holder: held after", got, begun, x.most, w)
				giveBack(t, l)
			})
			n.log(t)
		})
	}
}

// soon waits for something, and notes how long after its cause it came.
func soon(t *testing.T, n *notes, what string, done <-chan struct{}, begun time.Time, most time.Duration, w watch) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: never", what)
	}
	n.within(t, w, what, time.Since(begun), most)
}

// followed returns how often each server was asked to tell of the changes of what is
// read next.
func followed(t *testing.T, c *cluster.Cluster) []int {
	t.Helper()
	calls := make([]int, len(c.Servers))
	for i, s := range c.Servers {
		calls[i] = commandsOn(t, s)["client|caching"]
	}
	return calls
}

// follows waits until every server was asked that once more.
func follows(t *testing.T, c *cluster.Cluster, before []int) {
	t.Helper()
	if err := poll(5*time.Second, func() error {
		for i, calls := range followed(t, c) {
			if calls == before[i] {
				return fmt.Errorf("server %d tells nothing", i)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
