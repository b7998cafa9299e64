//go:build linux

package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// workerFormer names the former nodes of a worker, if there are any.
const workerFormer = "LEASEHOLD_TEST_WORKER_FORMER"

// TestElectoratesWorker is another process of TestElectoratesOfProcesses. It contends for a name until
// its standard input ends. It says when it has got a lease, and when it has last seen it valid.
func TestElectoratesWorker(t *testing.T) {
	if os.Getenv(workerNodes) == "" || os.Getenv(workerName) == "" || os.Getenv(workerFile) != "electorates" {
		t.Skip("this is another process of TestElectoratesOfProcesses")
	}
	cfg := configured(node.URLs(strings.Fields(os.Getenv(workerNodes))...), func(cfg *supervisor.Config) {
		cfg.Former, cfg.NodeTimeout = node.URLs(strings.Fields(os.Getenv(workerFormer))...), ttl/5
	})
	sup, err := supervisor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for ctx.Err() == nil {
		l, err := sup.Acquire(ctx, os.Getenv(workerName))
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(ttl / 20):
			}
			continue
		}
		from := time.Now().UnixNano()
		to := from
		if l.Valid() {
			fmt.Println("took", l.Fence(), from)
		}
		for end := time.Now().Add(rand.N(20 * time.Millisecond)); time.Now().Before(end); <-time.After(time.Millisecond) {
			if now := time.Now().UnixNano(); l.Valid() {
				to = now
			}
		}
		fmt.Println("had", l.Fence(), to)
		_ = l.Release(ctx) // what it leaves there runs out
	}
	closeSoon(sup)
}

// A hold is a lease as a process has seen it.
type hold struct {
	fence    uint64
	from, to int64 // when it was valid; if the process was killed both are when it began
}

// A book has the holds of all processes.
type book struct {
	mu    sync.Mutex
	holds map[uint64]hold
	read  sync.WaitGroup
}

// reads writes down what a worker says.
func (b *book) reads(w *worker) {
	b.read.Go(func() {
		for w.out.Scan() {
			var what string
			var fence uint64
			var at int64
			if n, _ := fmt.Sscan(w.out.Text(), &what, &fence, &at); n != 3 {
				continue // of the test's own
			}
			b.mu.Lock()
			h := b.holds[fence]
			if what == "took" {
				h = hold{fence, at, at}
			}
			h.to = max(h.to, at)
			b.holds[fence] = h
			b.mu.Unlock()
		}
	})
}

func (b *book) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.holds)
}

// check wants no two holds at once, and fences in the order in which they began.
func (b *book) check(t *testing.T) {
	b.read.Wait()
	var all []hold
	for _, h := range b.holds {
		if h.fence != 0 && h.from != 0 {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(x, y hold) int { return cmp.Compare(x.from, y.from) })
	for i := 1; i < len(all); i++ {
		was, is := all[i-1], all[i]
		if is.from < was.to {
			t.Errorf("two holders: fence %d from %d on, fence %d until %d", is.fence, is.from, was.fence, was.to)
		}
		if is.fence <= was.fence {
			t.Errorf("fence %d after %d", is.fence, was.fence)
		}
	}
}

// Two rollouts over processes of their own, of which some are killed and none knows of the others.
func TestElectoratesOfProcesses(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			takesLong(t)
			of := kind.of
			onProcesses(t, 7, 2, func(t *testing.T, c *cluster.Cluster, n *notes) {
				urls := func(list []int) string {
					var text []string
					for _, i := range list {
						text = append(text, c.Servers[i].URL())
					}
					return strings.Join(text, " ")
				}
				b := &book{holds: map[uint64]hold{}}
				workers := make([]*worker, 5)
				given := func(i int, nodes, former []int) {
					workers[i] = newWorker(t, "TestElectoratesWorker", 5*time.Minute, workerNodes+"="+urls(nodes), workerFormer+"="+urls(former), workerName+"=x", workerFile+"=electorates")
					b.reads(workers[i])
				}
				end := func(i int, crashes bool) {
					if w := workers[i]; crashes {
						w.signal(syscall.SIGKILL)
					} else if c, ok := w.in.(io.Closer); ok {
						_ = c.Close()
					}
				}
				goesOn := func(when string) {
					t.Helper()
					begun := b.len()
					if err := poll(10*ttl, func() error {
						if n := b.len() - begun; n < 10 {
							return fmt.Errorf("%d tenures", n)
						}
						return nil
					}); err != nil {
						t.Errorf("%s: %v", when, err)
					}
				}
				rollOut := func(nodes, former []int) {
					for _, i := range rand.Perm(len(workers)) {
						<-time.After(rand.N(renewEvery))
						end(i, rand.IntN(3) == 0)
						given(i, nodes, former)
					}
				}
				for i := range workers {
					given(i, of.former, nil)
				}
				goesOn("former alone")
				f := &fleet{t: t, c: c, of: of}
				stop := f.crashing(slices.Concat(of.former, of.present)...)
				defer func() { stop() }()
				rollOut(of.present, of.former)
				goesOn("both")
				f.finish(supervisor.FinishOptions{})
				stop()
				stop = f.crashing(of.present...)
				rollOut(of.present, nil)
				stop()
				f.shutDown()
				goesOn("present alone")
				for i := range workers {
					end(i, false)
				}
				b.check(t)
				n.add("tenures", float64(b.len()))
				n.add("servers crashed", float64(f.crashes.Load()))
			})
		})
	}
}
