// Leader runs a background job on one of many processes: start it as often as you
// like with the same -nodes, and one of them leads while the others stand by.
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
	fs, urls := setup.Flags("leader")
	name := fs.String("name", "example-leader", "what to lead")
	length := fs.Duration("for", 3*time.Second, "how long to take part")
	ttl := fs.Duration("ttl", 2*time.Second, "how long a crashed leader blocks the others")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: *ttl})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	defer sup.Close(context.WithoutCancel(ctx))

	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	fmt.Fprintf(out, "candidate for %q on %v\n", *name, nodes)

	// Lead returns when the work does, or when ctx ends. After a loss it waits for
	// work to return and becomes a candidate again.
	err = sup.Lead(ctx, *name, func(ctx context.Context) error { return work(ctx, out) })
	switch {
	case err == nil:
		fmt.Fprintln(out, "done: the name is free again")
	case ctx.Err() != nil && errors.Is(err, supervisor.ErrHeld):
		fmt.Fprintf(out, "done: another one leads: %v\n", err)
	default:
		fmt.Fprintf(out, "done: %v\n", err)
		return 1
	}
	return 0
}

// work is the leader's. Its context ends with the lease; returning then is what
// allows this process to become a candidate again.
func work(ctx context.Context, out io.Writer) error {
	held := lease.FromContext(ctx)
	fmt.Fprintf(out, "leading with fence %d\n", held.Fence())
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			fmt.Fprintf(out, "no longer leading: %v\n", context.Cause(ctx))
			return nil
		case <-tick.C:
		}
		// If both were ready, select has chosen at random, and this goroutine may
		// have been late: ask the clock before acting.
		if held.Valid() {
			fmt.Fprintf(out, "job %d, with %v in hand\n", n, held.Remaining().Round(time.Millisecond))
		}
	}
}
