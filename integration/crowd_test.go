package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
)

// Ten thousand who have died before a waiter cost it no more than a heartbeat when the holder
// releases the name, and are gone then: whether their heartbeats are over or not.
func TestTenThousandDeadReal(t *testing.T) {
	const size = 10_000
	c := processes(t, 3)
	holder := supervise(t, c.Conns())
	sup := supervise(t, c.Conns())
	for _, x := range []struct {
		name    string
		alive   time.Duration // for how long they count as alive
		servers []cluster.Server
	}{
		{"dead for long", -time.Minute, c.Servers},
		{"dead just now", time.Minute, c.Servers},
		{"dead just now, on one server", time.Minute, c.Servers[:1]},
	} {
		t.Run(x.name, func(t *testing.T) {
			var n notes
			repeat(t, max(2, howOften(t)/4), 1, func(t *testing.T, run int) {
				name := fmt.Sprint(x.name, " ", run)
				queue := "leasehold:{" + name + "}:queue"
				l := acquire(t, holder, name)
				words := []string{"ZADD", queue}
				until := fmt.Sprint(-time.Now().Add(x.alive).UnixMilli())
				for i := range size {
					id := fmt.Sprintf("leasehold:inbox:%026d host:1/%026d", 1, i)
					words = append(words, "1", "w"+id, until, "l"+id)
				}
				each(x.servers, func(s cluster.Server) {
					if _, err := s.Do(words...); err != nil {
						t.Error(err)
					}
				})
				got := make(chan *lease.Lease, 1)
				wait(t, sup, name, func(l *lease.Lease) { got <- l })
				each(c.Servers, func(s cluster.Server) {
					stands(t, "who lives stands in the queue", s, []string{"ZCOUNT", queue, "2", "+inf"}, 1)
				})
				w, begun := newWatch(), time.Now()
				giveBack(t, l)
				select {
				case l = <-got:
				case <-time.After(20 * time.Second):
					t.Fatal("nobody has the name")
				}
				n.within(t, w, "who lives had the name after", time.Since(begun), reservation)
				giveBack(t, l)
				each(c.Servers, func(s cluster.Server) {
					stands(t, "members are left in the queue", s, []string{"ZCARD", queue}, 0)
				})
			})
			n.log(t)
		})
	}
}

// stands waits until a server answers a number.
func stands(t *testing.T, what string, s cluster.Server, ask []string, want int64) {
	t.Helper()
	if err := poll(5*time.Second, func() error {
		got, err := s.Do(ask...)
		if err == nil && got != want {
			err = fmt.Errorf("%s: %v, want %d", what, got, want)
		}
		return err
	}); err != nil {
		t.Errorf("%s: %v", s.Addr(), err)
	}
}
