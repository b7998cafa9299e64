// Example serves the metrics of a supervisor at work, on nodes in memory:
//
//	go run ./example -listen 127.0.0.1:9464
//
// Three workers of one process take turns at two names, and another process is after one of them too. A
// fourth worker holds a name for longer than it may, and so loses it. The program runs until it is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	leaseprom "github.com/leasehold-go/leasehold/adapters/prometheus"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9464", "the address to serve metrics on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, out io.Writer) error {
	cfg := supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3)), TTL: 2 * time.Second}
	metrics := leaseprom.NewCollector(leaseprom.Config{MaxNames: 10})
	sup, err := supervisor.New(metrics.Instrument(cfg))
	if err != nil {
		return err
	}
	metrics.Attach(sup)
	rival, err := supervisor.New(cfg)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)

	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "serving http://%s/metrics\n", listener.Addr())

	working, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	for _, w := range []struct {
		sup   *supervisor.Supervisor
		name  string
		takes time.Duration
		opts  []supervisor.Option
	}{
		{sup, "report", 3 * time.Second, nil},
		{sup, "import", 50 * time.Millisecond, nil},
		{sup, "import", 20 * time.Millisecond, nil},
		{rival, "import", 30 * time.Millisecond, nil},
		{sup, "export", time.Minute, []supervisor.Option{supervisor.WithMaxHold(time.Second)}},
	} {
		workers.Go(func() {
			for working.Err() == nil {
				_ = w.sup.Do(working, w.name, func(ctx context.Context) error {
					work, done := context.WithTimeout(ctx, w.takes)
					defer done()
					<-work.Done()
					return nil
				}, w.opts...) // it fails when the lease is lost, or the program ends
			}
		})
	}

	select {
	case <-ctx.Done():
	case err = <-served:
	}
	stop()
	workers.Wait()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, sup.Close(bounded), rival.Close(bounded), server.Shutdown(bounded))
}
