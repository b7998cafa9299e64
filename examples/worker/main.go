// Worker shows the long-running holder of a lease: it takes jobs from a channel,
// stops at once when the lease is lost, and goes on when it has it again. Every
// write carries the fence, and the store refuses those of a holder that was
// replaced. Start it as often as you like with the same -nodes: one works.
//
// On embedded nodes an operator revokes the lease half-way.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("worker")
	name := fs.String("name", "example-worker", "the name to hold while working")
	count := fs.Int("jobs", 40, "how many jobs to do before it ends")
	ttl := fs.Duration("ttl", time.Second, "how long a crashed worker blocks the others")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: *ttl})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	// A context of its own: the nodes are to be told also after a signal.
	defer sup.Close(context.WithoutCancel(ctx))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs := make(chan int)
	go func() {
		for n := 1; n <= *count; n++ {
			if n == *count/2+1 && nodes.Embedded != nil {
				fmt.Fprintln(out, "an operator deletes the key on three of five nodes")
				for _, node := range nodes.Embedded[:3] {
					node.Del(*name)
				}
			}
			select {
			case jobs <- n:
			case <-ctx.Done():
				return // without closing jobs: they are not all done
			}
		}
		close(jobs)
	}()

	w := worker{sup: sup, name: *name, jobs: jobs, store: &store{}, out: out}
	switch err := w.run(ctx); {
	case err == nil:
		fmt.Fprintf(out, "done: %d jobs, total %d\n", w.store.jobs, w.store.total)
	case ctx.Err() != nil:
		fmt.Fprintf(out, "stopped: %v\n", err)
	default:
		fmt.Fprintf(out, "failed: %v\n", err)
		return 1
	}
	return 0
}

type worker struct {
	sup   *supervisor.Supervisor
	name  string
	jobs  <-chan int
	store *store
	out   io.Writer

	job int // taken from jobs, and not written yet; 0 for none
}

// run works until there are no more jobs, under as many leases as that takes.
func (w *worker) run(ctx context.Context) error {
	for {
		held, err := w.sup.Acquire(ctx, w.name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w.out, "holding %q with fence %d\n", w.name, held.Fence())
		err = w.work(ctx, held)
		// After a loss this is a matter of form, and returns at once.
		if e := held.Release(context.WithoutCancel(ctx)); e != nil && !errors.Is(e, lease.ErrLost) {
			fmt.Fprintln(w.out, e) // harmless: the keys expire
		}
		if !errors.Is(err, lease.ErrLost) && !errors.Is(err, errStale) {
			return err
		}
		fmt.Fprintf(w.out, "stopped at once: %v\n", err)
	}
}

// work does jobs while the lease is held. It returns nil when there are no more.
func (w *worker) work(ctx context.Context, held *lease.Lease) error {
	under := held.Context(ctx) // ends with the lease; its cause says why
	for {
		if w.job == 0 {
			select {
			case <-held.Lost():
				return held.Err()
			case <-ctx.Done():
				return ctx.Err()
			case job, ok := <-w.jobs:
				if !ok {
					return nil
				}
				w.job = job
			}
		}
		// The slow part. It ends early when the lease does; the job is kept, and
		// done again under the next lease.
		if err := setup.Pause(under, 40*time.Millisecond); err != nil {
			return err
		}
		// Right before the write, ask the clock. What happens between this line and
		// the next, only the store can notice: hence the fence.
		if !held.Valid() {
			return held.Err()
		}
		if err := w.store.add(held.Fence(), w.job); err != nil {
			return err
		}
		fmt.Fprintf(w.out, "wrote job %d\n", w.job)
		w.job = 0
	}
}
