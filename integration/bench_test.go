package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/supervisor"
)

// BenchmarkAcquireRelease measures an uncontended acquire and release, against the
// floor: the same done with bare rueidis clients, without renewal, fencing, or any
// care for what fails. Both are measured in the same run, in blocks that alternate.
// ns/op and allocs/op are of leasehold; the medians are of what is written behind
// them.
func BenchmarkAcquireRelease(b *testing.B) {
	for _, n := range []int{1, 5} {
		b.Run(fmt.Sprintf("N=%d", n), func(b *testing.B) {
			if !slices.Contains(cluster.Kinds(b), cluster.Process) {
				b.Skip("left out: there is no redis-server on the PATH")
			}
			c := cluster.Open(b, cluster.Process, n)
			sup, err := supervisor.New(supervisor.Config{Nodes: c.Conns()})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = sup.Close(context.Background()) }()
			floor := newFloor(b, c)
			ctx := context.Background()
			const ttl = 10 * time.Second // the default

			ours := func(name string) (acquire time.Duration, err error) {
				begun := time.Now()
				l, err := sup.Acquire(ctx, name)
				acquire = time.Since(begun)
				if err == nil {
					err = l.Release(ctx)
				}
				return acquire, err
			}
			bare := func(name string) (acquire time.Duration, err error) {
				token := rand.Text()
				begun := time.Now()
				err = floor.acquire(ctx, name, token, ttl)
				acquire = time.Since(begun)
				if err == nil {
					err = floor.release(ctx, name, token)
				}
				return acquire, err
			}
			// A node that was not waited for may be behind: so the names take turns.
			var names [16]string
			for i := range names {
				names[i] = fmt.Sprint("bench-", i)
			}
			block := func(pairs int, pair func(string) (time.Duration, error), acquires, all *[]time.Duration) {
				for i := range pairs {
					begun := time.Now()
					acquire, err := pair(names[i%len(names)])
					if err != nil {
						b.Fatal(err)
					}
					*acquires, *all = append(*acquires, acquire), append(*all, time.Since(begun))
				}
			}
			var warmUp []time.Duration
			block(100, ours, &warmUp, &warmUp)
			block(100, bare, &warmUp, &warmUp)

			const size = 200
			acquires, all := make([]time.Duration, 0, b.N), make([]time.Duration, 0, b.N)
			bareAcquires, bareAll := make([]time.Duration, 0, b.N+size), make([]time.Duration, 0, b.N+size)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= size {
				block(min(size, left), ours, &acquires, &all)
				b.StopTimer()
				block(min(size, left), bare, &bareAcquires, &bareAll)
				b.StartTimer()
			}
			b.StopTimer()
			median := func(ds []time.Duration) float64 {
				slices.Sort(ds)
				return float64(quantile(ds, .5)) / 1e3
			}
			acquire, pair := median(acquires), median(all)
			floorAcquire, floorPair := median(bareAcquires), median(bareAll)
			b.ReportMetric(acquire, "acquire-µs")
			b.ReportMetric(pair, "pair-µs")
			b.ReportMetric(acquire/floorAcquire, "acquire-x-floor")
			b.ReportMetric(pair/floorPair, "pair-x-floor")
			b.ReportMetric(floorPair, "floor-pair-µs")
		})
	}
}

// A bareLock is the least that a lock over several nodes can be: one client for
// each node, one goroutine for each node and call, and no waiting for more than a
// quorum.
type bareLock struct {
	clients []rueidis.Client
	quorum  int
}

func newFloor(b *testing.B, c *cluster.Cluster) *bareLock {
	f := &bareLock{quorum: len(c.Servers)/2 + 1}
	for _, s := range c.Servers {
		client, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{s.Addr()}, DisableCache: true, ForceSingleClient: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(client.Close)
		f.clients = append(f.clients, client)
	}
	return f
}

var compareAndDelete = rueidis.NewLuaScript(
	`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

func (f *bareLock) acquire(ctx context.Context, name, token string, ttl time.Duration) error {
	return f.ask(func(c rueidis.Client) error {
		return c.Do(ctx, c.B().Set().Key(name).Value(token).Nx().Px(ttl).Build()).Error()
	})
}

func (f *bareLock) release(ctx context.Context, name, token string) error {
	return f.ask(func(c rueidis.Client) error {
		return compareAndDelete.Exec(ctx, c, []string{name}, []string{token}).Error()
	})
}

func (f *bareLock) ask(one func(rueidis.Client) error) error {
	answers := make(chan error, len(f.clients))
	for _, c := range f.clients {
		go func() { answers <- one(c) }()
	}
	var errs []error
	done := 0
	for range f.clients {
		if err := <-answers; err != nil {
			errs = append(errs, err)
		} else if done++; done == f.quorum {
			return nil
		}
	}
	return errors.Join(errs...)
}

// BenchmarkGuard measures what the guard costs an uncontended acquisition: against
// the same build with DisableGuard, in the same run, in blocks that alternate. Both
// have a fence, which cannot be switched off. ns/op and allocs/op are of an
// acquisition and a release with the guard.
func BenchmarkGuard(b *testing.B) {
	if !slices.Contains(cluster.Kinds(b), cluster.Process) {
		b.Skip("left out: there is no redis-server on the PATH")
	}
	c := cluster.Open(b, cluster.Process, 5)
	ctx := context.Background()
	open := func(off bool) *supervisor.Supervisor {
		sup, err := supervisor.New(supervisor.Config{Nodes: c.Conns(), DisableGuard: off})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = sup.Close(ctx) })
		return sup
	}
	with, without := open(false), open(true)
	block := func(sup *supervisor.Supervisor, pairs int, took *[]time.Duration) {
		for i := range pairs {
			begun := time.Now()
			l, err := sup.Acquire(ctx, fmt.Sprint("guard-", i%16))
			if err != nil {
				b.Fatal(err)
			}
			*took = append(*took, time.Since(begun))
			if err := l.Release(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	var warmUp []time.Duration
	block(with, 100, &warmUp)
	block(without, 100, &warmUp)

	const size = 100
	on, off := make([]time.Duration, 0, b.N), make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= size {
		block(with, min(size, left), &on)
		b.StopTimer()
		block(without, min(size, left), &off)
		b.StartTimer()
	}
	b.StopTimer()
	slices.Sort(on)
	slices.Sort(off)
	guarded, bare := float64(quantile(on, .5))/1e3, float64(quantile(off, .5))/1e3
	b.ReportMetric(guarded, "acquire-µs")
	b.ReportMetric(bare, "without-guard-µs")
	b.ReportMetric(guarded/bare, "acquire-x-without-guard")
}
