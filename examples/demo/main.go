// Demo shows three candidates compete for one name while the nodes under them die
// and come back:
//
//	go run ./demo                          on five embedded nodes
//	go run ./demo -nodes redis://a,redis://b,redis://c
//	go run ./demo -json                    one JSON object a line
//
// It ends by itself. The exit status is 0 if all went as leasehold promises, 1 if
// not (two leaders at once, above all) or if it could not be shown, and 2 after
// wrong flags.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/supervisor"
)

const (
	minTTL   = 300 * time.Millisecond
	maxTTL   = 3 * time.Second  // or else the demo takes too long
	patience = 8 * time.Second  // with a name that nobody gets
	limit    = 19 * time.Second // for the whole of it
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("demo")
	name := fs.String("name", "example-demo", "what to compete for")
	ttl := fs.Duration("ttl", 2*time.Second, fmt.Sprintf("how long the nodes keep a lease that is not renewed: %v to %v", minTTL, maxTTL))
	asJSON := fs.Bool("json", false, "print one JSON object a line")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	if *ttl < minTTL || *ttl > maxTTL {
		return setup.Wrong(fs, fmt.Errorf("-ttl %v: want %v to %v", *ttl, minTTL, maxTTL))
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()
	p := &play{
		name: *name, ttl: *ttl, nodes: nodes, alive: len(nodes.Conns),
		timeline: newTimeline(out, *asJSON), leaders: make(chan *tenure),
	}
	// A node that comes back empty is young for this long. Embedded nodes have no clients
	// but these three, so no lease is longer than their TTL; real ones may have others.
	longest := time.Duration(0)
	if nodes.Embedded != nil {
		longest = *ttl
	}
	for _, who := range []string{"alpha", "beta", "gamma"} {
		// Each has a supervisor, as if it were a process of its own.
		sup, err := supervisor.New(supervisor.Config{
			Nodes: nodes.Conns, Owner: who, TTL: *ttl, MaxTTLCap: longest,
			// The rest is made for watching: a loss is told early and on a busy machine
			// too, and a candidate need not be patient.
			Grace: *ttl / 8, NodeTimeout: *ttl / 6,
			RetryMin: 10 * time.Millisecond, RetryMax: 30 * time.Millisecond,
		})
		if err != nil {
			return setup.Wrong(fs, err)
		}
		defer sup.Close(context.WithoutCancel(ctx))
		p.cast = append(p.cast, candidate{who, sup})
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	return p.perform(ctx)
}
