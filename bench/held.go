package main

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// held measures what it costs to keep leases.
func (p plan) held() []scenario {
	var all []scenario
	add := func(n, leases int, extra bool, libs ...string) {
		all = append(all, scenario{
			name:  fmt.Sprintf("held/N=%d, %d leases", n, leases),
			nodes: n, libs: named(libs...), repeat: 1, fresh: true, bound: 40 * time.Second, extra: extra, slow: true,
			about: "One client keeps that many leases, with a TTL of 10 s, and does nothing else.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return keep(ctx, f, lib, leases, ttl/3) // in which everybody renews each lease once
			},
		})
	}
	add(5, 1_000, true, ours, floor)
	add(5, 10_000, false, ours, floor, "redsync rueidis", "redsync go-redis")
	add(5, 100_000, true, ours)
	add(1, 1_000, true, ours, floor)
	add(1, 10_000, true, ours, floor, "redsync rueidis", "rueidislock, 1 key", "rueidislock, 3 keys", "etcd")
	add(1, 100_000, true, ours, floor, "redsync rueidis", "rueidislock, 1 key")
	return all
}

func keep(ctx context.Context, f *fleet, lib library, leases int, d time.Duration) (figures []figure, err error) {
	all := names(leases)
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 100); err != nil {
			return err
		}
		goroutines, mem := runtime.NumGoroutine(), memory()
		begun := time.Now()
		if err := l.hold(ctx, all); err != nil {
			return err
		}
		took := time.Since(begun)
		mem = memory() - mem
		goroutines = runtime.NumGoroutine() - goroutines
		before, err := used(f)
		if err != nil {
			return err
		}
		time.Sleep(d)
		after, err := used(f)
		if err != nil {
			return err
		}
		u, wall := after.since(before), after.at.Sub(before.at)
		figures = []figure{
			{"client CPU", "%", 100 * u.client.Seconds() / wall.Seconds()},
			{"memory a lease", "B", mem / float64(leases)},
			{"more goroutines", "", float64(goroutines)},
			{"acquired after", "s", took.Seconds()},
		}
		if lib.needs == redisKind {
			figures = append(figures, figure{"server CPU", "%", 100 * u.servers.Seconds() / wall.Seconds()})
		}
		return nil
	})
	runtime.KeepAlive(all)
	return figures, err
}
