package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// What an acquisition and a release of a free name may cost, counted and not timed.
//
// A change that makes it cheaper lowers the bounds, to what the test then
// prints. A change that has to raise one says what is bought with it. The
// allocations leave room for those that are not in every pair, such as the growth
// of a buffer; the commands leave none.
var bounds = []struct {
	nodes       int
	allocations float64 // of the whole process, everything that the nodes' clients do included
	raced       float64 // the same with the race detector, which has some of its own
	commands    float64 // that the servers run, all of them together, also those inside of scripts
}{
	{nodes: 1, allocations: 20, raced: 25, commands: 12},
	{nodes: 5, allocations: 32, raced: 45, commands: 60},
}

// TestCostOfAPair fails if a pair costs more than its bounds.
func TestCostOfAPair(t *testing.T) {
	needRedis(t)
	for _, b := range bounds {
		t.Run(fmt.Sprintf("N=%d", b.nodes), func(t *testing.T) {
			f, err := startFleet(b.nodes)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.close)
			// With a long TTL there is no renewal in between, and a slow machine is late
			// for nothing.
			const long = 10 * time.Minute
			sup, err := supervisor.New(supervisor.Config{Nodes: node.URLs(f.addrs...), TTL: long, MaxTTLCap: long, NodeTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sup.Close(context.Background()) }() // a second time, or if the test has failed
			pairs := func(names []string) {
				for _, name := range names {
					l, err := sup.Acquire(t.Context(), name)
					if err != nil {
						t.Fatal(err)
					}
					if err := l.Release(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			pairs(names(100)) // scripts are loaded, buffers have grown

			const n = 2000
			all := names(n)
			commands := calls(t, f)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			pairs(all)
			runtime.ReadMemStats(&after)
			// A pair does not wait for the slowest server; Close does.
			if err := sup.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Now and then a pipeline asks for the time as well: that is rounded off.
			perPair := math.Round((calls(t, f)-commands)/n*100) / 100
			// And now and then a map or a buffer grows.
			allocations := math.Round(float64(after.Mallocs-before.Mallocs) / n)

			most := b.allocations
			if raced {
				most = b.raced
			}
			t.Logf("a pair: %v allocations, at most %v; %v commands, at most %v", allocations, most, perPair, b.commands)
			if allocations > most {
				t.Errorf("a pair makes %v allocations: want at most %v", allocations, most)
			}
			if perPair > b.commands {
				t.Errorf("a pair is %v commands on all servers: want at most %v", perPair, b.commands)
			}
		})
	}
}

// calls returns how many commands the servers have run, without INFO, which asks for
// that, and the PINGs of idle connections.
func calls(t *testing.T, f *fleet) float64 {
	t.Helper()
	var sum float64
	for _, s := range f.servers {
		stats, err := s.info("commandstats")
		if err != nil {
			t.Fatal(err)
		}
		for command, text := range stats {
			switch command = strings.TrimPrefix(command, "cmdstat_"); command {
			case "info", "ping":
				continue
			}
			var n float64
			if _, err := fmt.Sscanf(text, "calls=%f,", &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}

// needRedis skips the test if there is no redis-server, and says so. With
// REQUIRE_REAL=1 in the environment, as in CI, it fails instead.
func needRedis(t *testing.T) { need(t, redisKind.missing()) }

func need(t *testing.T, missing error) {
	t.Helper()
	switch {
	case missing == nil:
	case os.Getenv("REQUIRE_REAL") == "1":
		t.Fatalf("REQUIRE_REAL=1, but left out, because %v", missing)
	default:
		t.Skipf("left out, because %v", missing)
	}
}
