// Status serves the page of package status, and has something to show there: leases that come and go,
// and, on embedded nodes, one that is killed and comes back.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/status"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("status")
	listen := fs.String("listen", "127.0.0.1:8080", "the `address` to serve on: one that only operators and probes reach")
	calm := fs.Bool("calm", false, "kill no node")
	if code, ok := setup.Parse(fs, args); !ok {
		return code
	}
	nodes := setup.Open(*urls)
	defer nodes.Close()

	// The Recorder comes first, because the supervisor tells it from its start.
	var events status.Recorder
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: 5 * time.Second, Observer: &events})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	defer sup.Close(context.WithoutCancel(ctx))
	names := []string{"example-report", "example-mailer", "example-import"}
	page, err := status.New(sup, status.Options{Title: "Leases of the example", Events: &events, Watch: names})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	defer page.Close()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return setup.Wrong(fs, err)
	}

	mux := http.NewServeMux()
	mux.Handle("/leases/", http.StripPrefix("/leases", page))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	server.RegisterOnShutdown(func() { page.Close() }) // or Shutdown would wait for browsers
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "the page is http://%s/leases/\n", listener.Addr())

	for _, name := range names {
		go work(ctx, sup, name)
	}
	if nodes.Embedded != nil && !*calm {
		go trouble(ctx, nodes.Embedded, out)
	}
	select {
	case <-ctx.Done():
	case err := <-served:
		fmt.Fprintf(out, "cannot serve: %v\n", err)
		return 1
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(shutdown); err != nil {
		fmt.Fprintf(out, "requests were cut off: %v\n", err)
		return 1
	}
	fmt.Fprintln(out, "done")
	return 0
}

// work holds a name for a while, again and again.
func work(ctx context.Context, sup *supervisor.Supervisor, name string) {
	for ctx.Err() == nil {
		err := sup.Do(ctx, name, func(ctx context.Context) error {
			return setup.Pause(ctx, 10*time.Second+rand.N(20*time.Second))
		})
		if errors.Is(err, supervisor.ErrClosed) {
			return
		}
		_ = setup.Pause(ctx, rand.N(5*time.Second))
	}
}

// trouble kills one node after the other, and starts each again.
func trouble(ctx context.Context, nodes []*nodetest.Node, out io.Writer) {
	for i := 0; ctx.Err() == nil; i++ {
		n := nodes[i%len(nodes)]
		if setup.Pause(ctx, 10*time.Second); ctx.Err() != nil {
			return
		}
		n.Crash()
		fmt.Fprintf(out, "%v is killed\n", n)
		_ = setup.Pause(ctx, 8*time.Second)
		n.Recover()
		fmt.Fprintf(out, "%v is back\n", n)
	}
}
