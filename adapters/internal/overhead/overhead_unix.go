//go:build unix

// Package overhead measures what the metrics of an adapter cost, on real servers.
package overhead

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/adapters/internal/redistest"
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/supervisor"
)

// An Instrument makes a supervisor with metrics, and what collects them.
type Instrument func(testing.TB, supervisor.Config) (sup *supervisor.Supervisor, collect func())

// Acquire measures Acquire and Release. A turn lasts 50 ms, and every fifth is collected. That is often: each
// 250 ms.
func Acquire(b *testing.B, instrument Instrument) {
	cfg := supervisor.Config{Nodes: redistest.Conns(redistest.Start(b, 3)), DisableGuard: true}
	wall, ctx, turn := clock.Runtime(), context.Background(), 0
	compare(b, cfg, instrument, func(sup *supervisor.Supervisor, collect func()) float64 {
		n, began := 0, wall.Now()
		for ; wall.Now().Sub(began) < 50*time.Millisecond; n++ {
			held, err := sup.Acquire(ctx, "x")
			if err != nil {
				b.Fatal(err)
			}
			if err := held.Release(ctx); err != nil {
				b.Fatal(err)
			}
		}
		if turn++; turn%10 < 2 { // two turns make a pair
			collect()
		}
		return float64(wall.Now().Sub(began)) / float64(n)
	}, "ns/acquire")
}

// Held measures the CPU time of this process while it holds 1,000 leases of a TTL of 1 s. A turn lasts 2 s, and is
// collected twice.
func Held(b *testing.B, instrument Instrument) {
	const leases = 1000
	cfg := supervisor.Config{Nodes: redistest.Conns(redistest.Start(b, 3)), DisableGuard: true, TTL: time.Second}
	wall, ctx := clock.Runtime(), context.Background()
	compare(b, cfg, instrument, func(sup *supervisor.Supervisor, collect func()) float64 {
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
			second := wall.NewTimer(time.Second)
			<-second.C()
			collect()
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

// compare measures with metrics off and on, in turns on the same servers, b.N pairs of turns. It reports the medians, and
// as on/off the median of the ratios of the pairs: what else the machine does concerns both turns of a pair alike.
func compare(b *testing.B, cfg supervisor.Config, instrument Instrument, measure func(*supervisor.Supervisor, func()) float64, unit string) {
	off, err := supervisor.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	on, collect := instrument(b, cfg)
	defer func() {
		_ = off.Close(context.Background())
		_ = on.Close(context.Background())
	}()
	var offs, ons, ratios []float64
	for i := -1; i < b.N; i++ { // the first pair warms up
		var without, with float64
		if i%2 == 0 {
			without = measure(off, func() {})
			with = measure(on, collect)
		} else {
			with = measure(on, collect)
			without = measure(off, func() {})
		}
		if i >= 0 {
			offs, ons, ratios = append(offs, without), append(ons, with), append(ratios, with/without)
		}
	}
	b.ReportMetric(median(offs), "off-"+unit)
	b.ReportMetric(median(ons), "on-"+unit)
	b.ReportMetric(median(ratios), "on/off")
}

func median(of []float64) float64 {
	slices.Sort(of)
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
