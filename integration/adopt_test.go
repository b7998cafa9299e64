//go:build linux

package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// TestAdoptWorker is another process, whose lease is adopted. It says "held" with its
// handle, and keeps the lease until it reads a line.
func TestAdoptWorker(t *testing.T) {
	if os.Getenv(workerNodes) == "" {
		t.Skip("this is another process of TestAdoptBehindACrash")
	}
	sup := supervise(t, node.URLs(strings.Fields(os.Getenv(workerNodes))...))
	l := acquire(t, sup, os.Getenv(workerName))
	fmt.Println("held", string(l.Handle()))
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// refused wants a handle not to be adopted any more.
func refused(t *testing.T, sup *supervisor.Supervisor, handle lease.Handle, opts ...supervisor.AdoptOption) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var err error
	for range 5 { // on a busy machine too few nodes may answer in time
		l, e := sup.Adopt(ctx, handle, opts...)
		if err = e; err == nil {
			t.Errorf("adopted again, with fence %d: valid %v", l.Fence(), l.Valid())
			return
		}
		if !errors.Is(err, supervisor.ErrNoQuorum) {
			break
		}
	}
	if !errors.Is(err, lease.ErrLost) {
		t.Errorf("refused, but not because the lease is lost: %v", err)
	}
}

// A lease is handed over and adopted, at once, in another process, and then once more. The
// second heir is refused, whenever it tries, and the first one keeps the lease. Of two that
// try at the same moment one has it.
func TestHandleIsAdoptedOnce(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, nodes := range []int{1, 3, 5} {
		t.Run(fmt.Sprintf("N=%d, one after the other", nodes), func(t *testing.T) {
			onProcesses(t, nodes, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				v := keepVigil(t)
				former, heir, late := start(t, c), start(t, c), start(t, c)
				held := acquire(t, former, "x")
				v.over(held)
				kept(t, held, anyMoment())
				handle := handOver(t, held)
				adopted, took := adopt(t, heir, handle)
				v.over(adopted)
				n.took("adopted after", took)
				if most := ttl/4 + slack; took > most {
					t.Errorf("adopted after %v, want %v at most: nobody believes in the lease any more", took, most)
				}
				if adopted.Token() == held.Token() {
					t.Error("the adopted lease has the former token")
				}
				refused(t, late, handle)
				refused(t, late, handle, supervisor.FormerEnded())
				refused(t, former, handle)
				kept(t, adopted, ttl+ttl/2) // what is not renewed is over by then
				refused(t, late, handle)
				giveBack(t, adopted)
				v.over(acquire(t, late, "x"))
				refused(t, heir, handle)
			})
		})
		t.Run(fmt.Sprintf("N=%d, at once", nodes), func(t *testing.T) {
			onProcesses(t, nodes, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				v := keepVigil(t)
				former, heirs := start(t, c), []*supervisor.Supervisor{start(t, c), start(t, c)}
				held := acquire(t, former, "x")
				v.over(held)
				handle, w := handOver(t, held), newWatch()
				var mu sync.Mutex
				var adopted []*lease.Lease
				atOnce(len(heirs), func(i int) {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					l, err := heirs[i].Adopt(ctx, handle)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						v.over(l)
						adopted = append(adopted, l)
					case errors.Is(err, lease.ErrLost):
					case errors.Is(err, supervisor.ErrNoQuorum) && w.busy():
						excuse(t, "%v; %v", err, w)
					default:
						t.Errorf("refused, but not because the lease is lost: %v", err)
					}
				})
				if len(adopted) == 0 && w.busy() {
					excuse(t, "no heir has the lease; %v", w)
					t.SkipNow()
				}
				if len(adopted) != 1 {
					t.Fatalf("%d heirs have the lease", len(adopted))
				}
				kept(t, adopted[0], ttl)
			})
		})
	}
}

// The handle of a lease whose holder lives on is adopted: also if the holder cannot be told
// so, because it is cut off from its nodes. At no instant do both believe.
func TestHandleOfALivingHolder(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, x := range []struct {
		name  string
		query string
		part  func(list []front)
		told  error
	}{
		{"told at once", "", func([]front) {}, lease.ErrTaken},
		{"told when it renews", "?protocol=2", func([]front) {}, lease.ErrTaken},
		{"cut off from all nodes", "", func(list []front) {
			for _, f := range list {
				f.proxy.Silence()
			}
		}, lease.ErrExpired},
		{"cut off from most nodes", "", func(list []front) {
			list[0].proxy.Cut()
			list[1].proxy.Cut()
		}, lease.ErrExpired},
		{"cut off from one node", "", func(list []front) { list[0].proxy.Silence() }, lease.ErrTaken},
	} {
		t.Run(x.name, func(t *testing.T) {
			onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				list := fronts(t, c)
				v := keepVigil(t)
				holder, heir, late := supervise(t, asked(list, x.query)), start(t, c), start(t, c)
				held := acquire(t, holder, "x")
				v.over(held)
				handle := held.Handle()
				kept(t, held, anyMoment())
				x.part(list)
				begun, w := time.Now(), newWatch()
				adopted, took := adopt(t, heir, handle)
				if held.Valid() {
					t.Errorf("adopted after %v, while the holder believes for another %v", took, held.Remaining())
				}
				v.over(adopted)
				tooLate := time.NewTimer(ttl)
				defer tooLate.Stop()
				select {
				case <-held.Lost():
					if !errors.Is(held.Err(), x.told) && !w.expired(t, held) {
						t.Errorf("the holder was told %v, want %v", held.Err(), x.told)
					}
				case <-tooLate.C:
					t.Fatal("the holder was never told")
				}
				n.took("adopted after", took)
				w.within(t, "adopted after", took, guardWindow+nodeTimeout)
				refused(t, late, handle)
				kept(t, adopted, ttl)
				n.took("the whole took", time.Since(begun))
			})
		})
	}
}

// A process that holds a name is killed, and another one adopts the handle that it had
// given away: at once if it says that the former has ended, and when what the nodes had
// promised to that one is over if it does not.
func TestAdoptBehindACrash(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known to have ended %v", known), func(t *testing.T) {
			onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				v := keepVigil(t)
				heir, late := start(t, c), start(t, c)
				w := newWorker(t, "TestAdoptWorker", time.Minute, workerNodes+"="+strings.Join(c.URLs(), " "), workerName+"=x")
				said, text, _ := strings.Cut(w.line(), " ")
				handle := lease.Handle(text)
				if said != "held" || handle == "" {
					t.Fatalf("the worker said %s", said)
				}
				<-time.After(anyMoment())
				w.signal(syscall.SIGKILL)
				var opts []supervisor.AdoptOption
				most := guardWindow + nodeTimeout // a round of the nodes after it
				if known {
					opts, most = []supervisor.AdoptOption{supervisor.FormerEnded()}, ttl/4+slack
				}
				meanwhile := newWatch()
				adopted, took := adopt(t, heir, handle, opts...)
				v.over(adopted)
				n.took("adopted after", took)
				meanwhile.within(t, "adopted after", took, most)
				refused(t, late, handle, supervisor.FormerEnded())
				kept(t, adopted, ttl)
				giveBack(t, adopted)
				v.over(acquire(t, late, "x"))
			})
		})
	}
}

// The keys of a lease are deleted on a majority, one of which its holder does not reach; a
// rival comes by these, works, and goes. Keys that the holder mends meanwhile must not make
// it an unbroken tenure for one who adopts its handle.
func TestInterruptedTenureIsNotAdopted(t *testing.T) {
	t.Parallel()
	const often = ttl / 10
	patient := func(cfg *supervisor.Config) { cfg.TTL, cfg.NodeTimeout, cfg.RenewEvery = longest, nodeTimeout, often }
	for _, all := range []bool{true, false} {
		t.Run(fmt.Sprintf("all nodes are reached %v", all), func(t *testing.T) {
			onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				toHolder, toRival, toHeir := fronts(t, c), fronts(t, c), fronts(t, c)
				v := keepVigil(t)
				toRival[2].proxy.Cut()
				if !all {
					toHeir[1].proxy.Cut()
				}
				holder := supervise(t, proxied(toHolder), patient)
				rival := superviseSome(t, proxied(toRival), 2, patient)
				held := acquire(t, holder, "x")
				isRenewed(t, held)
				handle := held.Handle()
				toHolder[1].proxy.Cut()
				atOnce(2, func(i int) {
					if _, err := c.Servers[i].Do("DEL", "x"); err != nil {
						t.Error(err)
					}
				})
				// A revocation by hand may let a rival in before the holder learns of it.
				between := acquire(t, rival, "x")
				v.over(between)
				giveBack(t, between)
				over := time.NewTimer(6 * often)
				<-over.C // it would have healed the first of them by now
				for _, f := range toHolder {
					f.proxy.Cut()
				}
				n.took("it still believed, for", held.Remaining())
				_ = holder.Close(ended())

				heir := begin(t, proxied(toHeir), patient)
				for _, opts := range [][]supervisor.AdoptOption{{supervisor.FormerEnded()}, nil} {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					l, err := heir.Adopt(ctx, handle, opts...)
					cancel()
					switch {
					case err == nil:
						t.Errorf("adopted, with fence %d behind %d", l.Fence(), between.Fence())
					case errors.Is(err, lease.ErrLost), !all && errors.Is(err, supervisor.ErrNoQuorum):
					default:
						t.Errorf("refused, but not because the lease is lost: %v", err)
					}
				}
				v.over(acquire(t, rival, "x"))
			})
		})
	}
}
