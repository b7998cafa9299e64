// Shards shares a set of names among processes: each name is owned by one of them at a time,
// and all own about as many.
//
//	go run ./shards                        shows it: starts processes, kills one and has one leave
//	go run ./shards -nodes redis://a,redis://b,redis://c
//
// With -nodes it is one process that takes part, until it is interrupted. Start it as often as
// you like, and kill some.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/shards"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("shards")
	group := fs.String("group", "example-shards", "the group to take part in")
	count := fs.Int("names", 12, "how many names are shared")
	ttl := fs.Duration("ttl", 2*time.Second, "how long the names of a crashed process stay idle")
	eof := fs.Bool("eof", false, "leave at the end of the standard input as well")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	if *count < 1 {
		return setup.Wrong(fs, fmt.Errorf("-names %d: want at least 1", *count))
	}
	if *urls == "" {
		return show(ctx, out, *count, *ttl)
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: *ttl})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	defer sup.Close(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *eof {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}

	p := printer{out: out}
	names := make([]string, *count)
	for i := range names {
		names[i] = fmt.Sprintf("part-%02d", i)
	}
	err = shards.Own(ctx, sup, *group, names, func(ctx context.Context, name string) error {
		// The fence goes with each write, so that the store can refuse a late one.
		p.say("owns %s with fence %d", name, lease.FromContext(ctx).Fence())
		defer p.say("has stopped with %s", name)
		for {
			// A piece of work. It ends early when the name is lost, or another process is to
			// have it; context.Cause says which.
			if err := setup.Pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}, shards.WithObserver(func(e shards.Event) {
		switch e.Kind {
		case shards.EventMembers:
			p.say("is one of %d", e.Members)
		case shards.EventLost, shards.EventReturned, shards.EventFailed, shards.EventSlow:
			p.say("%v: %s: %v", e.Kind, e.Name, e.Err)
		}
	}))
	if !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A printer prints whole lines, of any process.
type printer struct {
	mu  sync.Mutex
	out io.Writer
}

func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}
