package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
)

// A key that an operator deletes or overwrites on a majority ends the lease, which
// is told at the next renewal. On a minority it does nothing.
func TestRevoke(t *testing.T) {
	takesLong(t)
	t.Parallel()
	revoke(t, processes(t, 5), howOften(t))
}

func revoke(t *testing.T, c *cluster.Cluster, runs int) {
	type way struct {
		name    string
		command []string // in front of the key, and after it
		behind  []string
		nodes   int
		want    error
	}
	ways := []way{
		{"delete on three", []string{"DEL"}, nil, 3, lease.ErrRevoked},
		{"overwrite on three", []string{"SET"}, []string{"somebody else"}, 3, lease.ErrTaken},
		{"delete on two", []string{"DEL"}, nil, 2, nil},
		{"overwrite on two", []string{"SET"}, []string{"somebody else"}, 2, nil},
	}
	var busy [5]sync.Mutex // calls of one server must not overlap
	atOnce(len(ways), func(i int) {
		w := ways[i]
		t.Run(w.name, func(t *testing.T) {
			sup := supervise(t, c.Conns())
			var told notes
			repeat(t, runs, runs, func(t *testing.T, run int) {
				name := fmt.Sprintf("%d-%d", i, run)
				watch := newWatch()
				l, err := sup.Acquire(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				isRenewed(t, l)
				stays(t, l, rand.N(2*renewEvery)) // any moment between two renewals
				// On a machine that stalls a third vote may be one that came late. It is in
				// doubt as soon as a key is deleted, and then these two are too many.
				stalled := func() bool { return !l.Valid() && watch.starved() > nodeTimeout/2 }
				atOnce(w.nodes, func(k int) {
					node := (run + k) % 5
					<-time.After(time.Duration(k) * renewEvery / 4) // a person at a keyboard takes a while
					if w.want == nil && stalled() {
						return
					}
					stays(t, l, 0)
					busy[node].Lock()
					defer busy[node].Unlock()
					command := append(append(append([]string{}, w.command...), name), w.behind...)
					if _, err := c.Servers[node].Do(command...); err != nil {
						t.Error(err)
					}
				})
				begun := time.Now()
				if w.want == nil {
					over := time.NewTimer(3 * ttl)
					defer over.Stop()
					select {
					case <-l.Lost():
					case <-over.C:
					}
					if stalled() {
						excuse(t, "%v; %v", l.Err(), watch)
						return
					}
					stays(t, l, 0)
					newWatch().released(t, l.Release(t.Context()))
					return
				}
				tooLate := time.NewTimer(3 * ttl)
				defer tooLate.Stop()
				select {
				case <-l.Lost():
					told.took("told after", time.Since(begun))
				case <-tooLate.C:
					t.Error("never told")
					return
				}
				if took, most := time.Since(begun), renewEvery+nodeTimeout; took > most {
					t.Errorf("told after %v, want %v at most", took, most)
				}
				if !errors.Is(l.Err(), w.want) || l.Valid() {
					t.Errorf("Err() = %v, want %v; Valid() = %v", l.Err(), w.want, l.Valid())
				}
			})
			told.log(t)
		})
	})
}
