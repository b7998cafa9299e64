// Semaphore runs jobs, of which a few at most run at once among all processes: a job runs while it
// holds any of the places. Start it as often as you like with the same -nodes.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/supervisor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("semaphore")
	count := fs.Int("places", 3, "how many jobs run at once, of all processes")
	jobs := fs.Int("jobs", 12, "how many jobs this process has")
	ttl := fs.Duration("ttl", 2*time.Second, "for how long a crashed process takes a place")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	if *count < 1 || *jobs < 1 {
		return setup.Wrong(fs, fmt.Errorf("-places %d, -jobs %d: want at least 1", *count, *jobs))
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: *ttl})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	defer sup.Close(context.WithoutCancel(ctx))

	// As many names as there are places: all processes use the same.
	places := make([]string, *count)
	for i := range places {
		places[i] = fmt.Sprintf("example-place-%d", i)
	}
	b := board{out: out}
	var all sync.WaitGroup
	for job := range *jobs {
		all.Go(func() {
			place, err := sup.AcquireAny(ctx, places)
			if err != nil {
				b.say("job %d: %v", job, err)
				return
			}
			defer place.Release(context.WithoutCancel(ctx))
			b.begin("job %d in %s with fence %d", job, place.Name(), place.Fence())
			defer b.end()
			// The work. Its context ends if the place is lost.
			_ = setup.Pause(place.Context(ctx), 100*time.Millisecond)
		})
	}
	all.Wait()
	b.say("done: of this process %d at once at most", b.most)
	return 0
}

// A board shows what runs.
type board struct {
	mu        sync.Mutex
	out       io.Writer
	now, most int
}

func (b *board) begin(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now++
	b.most = max(b.most, b.now)
	fmt.Fprintf(b.out, format+"\n", args...)
}

func (b *board) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now--
}

func (b *board) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.out, format+"\n", args...)
}
