// Daemon is an HTTP server with a background job that runs on one of its replicas:
//
//	GET /healthz  200 while the process serves
//	GET /readyz   200 if the supervisor is healthy, with "leader" or "standby"
//	GET /leader   who leads, and how the nodes are, as JSON
//
// On SIGTERM it gives its leadership back before it exits, so that another replica
// need not wait for the TTL.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs, urls := setup.Flags("daemon")
	listen := fs.String("listen", "127.0.0.1:8080", "the address to serve on")
	name := fs.String("name", "example-daemon", "what to lead")
	ttl := fs.Duration("ttl", 5*time.Second, "how long a crashed leader blocks the others")
	patience := fs.Duration("patience", 10*time.Second, "how long a shutdown may take")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	log := slog.New(slog.NewTextHandler(out, nil))
	nodes := setup.Open(*urls)
	defer nodes.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes.Conns, TTL: *ttl, Logger: log})
	if err != nil {
		return setup.Wrong(fs, err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		_ = sup.Close(ctx)
		return setup.Wrong(fs, err)
	}
	d := &daemon{sup: sup, name: *name, log: log}
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("listening", "url", "http://"+listener.Addr().String())

	// The leader has a context of its own: it goes on until the server is drained.
	leaderCtx, stopLeader := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLeader()
	led := make(chan error, 1)
	go func() { led <- sup.Lead(leaderCtx, *name, d.lead) }()

	status := 0
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err := <-served:
		log.Error("cannot serve", "error", err)
		status = 1
	case err := <-led:
		log.Error("the background job ended", "error", err)
		led <- err // read below
		status = 1
	}

	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), *patience)
	defer cancel()
	d.stopping.Store(true) // probes on open connections hear it
	if err := server.Shutdown(shutdown); err != nil {
		log.Error("requests were cut off", "error", err)
		status = 1
	}
	stopLeader()
	select {
	case <-led: // the job has stopped, and the name was given back
	case <-shutdown.Done():
		// Giving the name back now would start a second one beside it.
		log.Error("the background job does not stop: exiting with the name held")
		return 1
	}
	if err := sup.Close(shutdown); err != nil {
		log.Warn("a name may stay taken until its keys expire", "error", err)
	} else {
		log.Info("stopped: nothing is held")
	}
	return status
}

type daemon struct {
	sup      *supervisor.Supervisor
	name     string
	log      *slog.Logger
	stopping atomic.Bool
}

// lead is the background job. Its context ends with the lease.
func (d *daemon) lead(ctx context.Context) error {
	held := lease.FromContext(ctx)
	d.log.Info("leading", "fence", held.Fence())
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.log.Info("stepping down", "why", context.Cause(ctx))
			return nil
		case <-tick.C:
			if held.Valid() {
				d.log.Info("job done", "fence", held.Fence())
			}
		}
	}
}

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", d.ready)
	mux.HandleFunc("GET /leader", d.leader)
	return mux
}

func (d *daemon) ready(w http.ResponseWriter, _ *http.Request) {
	if d.stopping.Load() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	if err := d.sup.Healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	role := "standby"
	if d.sup.Leading(d.name) {
		role = "leader"
	}
	fmt.Fprintln(w, role)
}

// A view is what /leader shows: no token, because a client that knows it can delete the
// key.
type view struct {
	Name  string     `json:"name"`
	Held  bool       `json:"held"`
	Owner string     `json:"owner,omitempty"`
	Left  float64    `json:"left_seconds"`
	Fence uint64     `json:"fence"`
	Error string     `json:"error,omitempty"`
	Nodes []nodeView `json:"nodes"`
}

type nodeView struct {
	Node     string  `json:"node"`
	Enrolled bool    `json:"enrolled"`
	Latency  float64 `json:"latency_seconds"`
	Says     string  `json:"says,omitempty"`
	Error    string  `json:"error,omitempty"`
}

func (d *daemon) leader(w http.ResponseWriter, r *http.Request) {
	h, err := d.sup.Inspect(r.Context(), d.name)
	v := view{Name: h.Name, Held: h.Held, Owner: h.Owner, Left: max(0, h.Left.Seconds()), Fence: h.Fence}
	for i, n := range d.sup.Nodes() {
		nv := nodeView{Node: n.Node, Enrolled: n.Enrolled, Latency: n.Latency.Seconds()}
		if i < len(h.Nodes) {
			nv.Says = h.Nodes[i].Verdict.String()
		}
		if n.Err != nil {
			nv.Error = n.Err.Error()
		}
		v.Nodes = append(v.Nodes, nv)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		v.Error = err.Error()
		if errors.Is(err, supervisor.ErrNoQuorum) || errors.Is(err, supervisor.ErrClosed) {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client has gone
}
