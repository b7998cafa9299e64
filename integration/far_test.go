package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
)

// Nodes that are farther than the node timeout, which is 100 ms: names are acquired, held,
// given back and handed over by default.
func TestFarNodes(t *testing.T) {
	takesLong(t)
	t.Parallel()
	cases := []struct {
		name        string
		least, most time.Duration // one way; drawn for each node every 20 ms
		later       bool          // they are near until the lease is held
	}{
		{"150 ms", 75 * time.Millisecond, 75 * time.Millisecond, false},
		{"70 to 120 ms", 35 * time.Millisecond, 60 * time.Millisecond, false},
		{"200 ms", 100 * time.Millisecond, 100 * time.Millisecond, false},
		{"150 ms, later", 75 * time.Millisecond, 75 * time.Millisecond, true},
		{"200 ms, later", 100 * time.Millisecond, 100 * time.Millisecond, true},
	}
	c := processes(t, 5)
	var notes notes
	repeat(t, howOften(t), len(cases), func(t *testing.T, run int) {
		x := cases[run%len(cases)]
		list := fronts(t, c)
		move := func() {
			for _, f := range list {
				f.proxy.Delay(x.least + rand.N(x.most-x.least+1))
			}
		}
		if !x.later {
			move()
		}
		name := fmt.Sprint("far ", run)
		holder, waiter := begin(t, proxied(list)), begin(t, proxied(list))
		begun := time.Now()
		held := acquire(t, holder, name)
		notes.took("acquired by a new client, "+x.name, time.Since(begun))
		moving, stop := context.WithCancel(t.Context())
		defer stop()
		move()
		go func() {
			for every := time.NewTicker(20 * time.Millisecond); moving.Err() == nil; <-every.C {
				move()
			}
		}()
		next := make(chan *lease.Lease, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			l, err := waiter.Acquire(ctx, name)
			if err != nil {
				t.Error(err)
			}
			next <- l
		}()
		kept(t, held, 2*ttl)
		begun, w := time.Now(), newWatch()
		giveBack(t, held)
		if held = <-next; held == nil {
			return
		}
		notes.within(t, w, "handed over, "+x.name, time.Since(begun), 2*ttl)
		kept(t, held, ttl)
		giveBack(t, held)
	})
	notes.log(t)
}
