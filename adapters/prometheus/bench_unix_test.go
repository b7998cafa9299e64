//go:build unix

package leaseprom

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// instrumented makes a supervisor with metrics, and what scrapes it.
func instrumented(b *testing.B, cfg supervisor.Config) (sup *supervisor.Supervisor, scrape func()) {
	c := NewCollector(Config{})
	sup, err := supervisor.New(c.Instrument(cfg))
	if err != nil {
		b.Fatal(err)
	}
	c.Attach(sup)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	return sup, func() {
		families, err := registry.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(io.Discard, f); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkAcquire measures Acquire and Release, with metrics on against off, in turns on the same servers.
// It shows on/off: the ratio of the medians. A turn lasts 250 ms, and is scraped once.
func BenchmarkAcquire(b *testing.B) {
	cfg := supervisor.Config{Nodes: servers(b), DisableGuard: true}
	compare(b, cfg, func(sup *supervisor.Supervisor, scrape func()) float64 {
		ctx, n := context.Background(), 0
		began := time.Now()
		for ; time.Since(began) < 250*time.Millisecond; n++ {
			held, err := sup.Acquire(ctx, "x")
			if err != nil {
				b.Fatal(err)
			}
			if err := held.Release(ctx); err != nil {
				b.Fatal(err)
			}
		}
		scrape()
		return float64(time.Since(began)) / float64(n)
	}, "ns/acquire")
}

// BenchmarkHeld measures the CPU time of this process while it holds 1,000 leases of a TTL of 1 s, with metrics
// on against off, in turns. A turn lasts 2 s, and is scraped twice.
func BenchmarkHeld(b *testing.B) {
	const leases = 1000
	cfg := supervisor.Config{Nodes: servers(b), DisableGuard: true, TTL: time.Second}
	compare(b, cfg, func(sup *supervisor.Supervisor, scrape func()) float64 {
		ctx := context.Background()
		var all sync.WaitGroup
		for i := range leases {
			all.Go(func() {
				if _, err := sup.Acquire(ctx, fmt.Sprint("lease ", i)); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		began := cpu(b)
		for range 2 {
			<-time.After(time.Second)
			scrape()
		}
		used := cpu(b) - began
		if n := sup.Stats().Held; n != leases {
			b.Fatalf("%d leases are held, want %d", n, leases)
		}
		for _, l := range sup.Leases() {
			all.Go(func() { _ = l.Release(ctx) })
		}
		all.Wait()
		return float64(used) / 2 / leases
	}, "ns/lease/s")
}

// compare measures in turns, off and on, b.N times each, and reports the medians and their ratio.
func compare(b *testing.B, cfg supervisor.Config, measure func(*supervisor.Supervisor, func()) float64, unit string) {
	off, err := supervisor.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	on, scrape := instrumented(b, cfg)
	defer func() {
		_ = off.Close(context.Background())
		_ = on.Close(context.Background())
	}()
	without := func() float64 { return measure(off, func() {}) }
	with := func() float64 { return measure(on, scrape) }
	without() // to warm up
	with()
	var offs, ons []float64
	for i := range b.N {
		if i%2 == 0 {
			offs, ons = append(offs, without()), append(ons, with())
		} else {
			ons, offs = append(ons, with()), append(offs, without())
		}
	}
	b.ReportMetric(median(offs), "off-"+unit)
	b.ReportMetric(median(ons), "on-"+unit)
	b.ReportMetric(median(ons)/median(offs), "on/off")
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

// cpu returns how much CPU time this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// servers returns three redis-server processes, which end with the benchmark. Without a redis-server in the path
// they are nodes in memory, and with REQUIRE_REAL=1 it fails instead.
func servers(b *testing.B) []node.Conn {
	b.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("REQUIRE_REAL") == "1" {
			b.Fatal("REQUIRE_REAL=1, but there is no redis-server in the path")
		}
		b.Log("nodes in memory are measured, because there is no redis-server in the path")
		return nodetest.Conns(nodetest.Start(3))
	}
	var conns []node.Conn
	for try := 0; len(conns) < 3; try++ {
		if try == 10 {
			b.Fatal("redis-server cannot be started")
		}
		if address := server(b, path); address != "" { // else the port was taken
			conns = append(conns, node.URL("redis://"+address))
		}
	}
	return conns
}

// server starts one, and returns its address, or "" if it ends at once.
func server(b *testing.B, path string) string {
	port := fmt.Sprint(20000 + rand.IntN(12000)) // below those of outgoing connections
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", b.TempDir(), "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	b.Cleanup(func() {
		_ = cmd.Process.Kill() // it fails only if the process has ended
		<-gone
	})
	address := net.JoinHostPort("127.0.0.1", port)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		select {
		case <-gone:
			return ""
		case <-time.After(20 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			select {
			case <-gone:
				return "" // another has answered
			case <-time.After(50 * time.Millisecond):
				return address
			}
		}
	}
	b.Fatal("redis-server does not answer")
	return ""
}
