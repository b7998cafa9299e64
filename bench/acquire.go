package main

import (
	"context"
	"fmt"
	"time"
)

// acquire measures one caller who takes one free name after the other.
func (p plan) acquire() []scenario {
	var all []scenario
	for _, n := range []int{1, 5} {
		all = append(all, scenario{
			name: fmt.Sprintf("acquire/N=%d", n), nodes: n, libs: libraries, repeat: p.times(4),
			about: "One caller acquires and releases one free name after the other.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return lonely(ctx, f, lib, p.long(400*time.Millisecond))
			},
		})
	}
	for _, n := range []int{1, 3, 5, 7, 9} {
		all = append(all, scenario{
			name: fmt.Sprintf("nodes/N=%d", n), nodes: n, repeat: p.times(3), extra: true,
			libs:  named(ours, floor, "redsync rueidis", "redsync rueidis, fail-fast"),
			about: "As acquire, on more and more servers.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return lonely(ctx, f, lib, p.long(300*time.Millisecond))
			},
		})
	}
	return all
}

// pairs is what one caller measures.
type pairs struct {
	acquire, release []time.Duration
	failed           int
}

// makePairs acquires and releases names in turn for d, and for at least one pair.
func makePairs(ctx context.Context, l locker, names []string, d time.Duration, room int) pairs {
	ps := pairs{acquire: make([]time.Duration, 0, room), release: make([]time.Duration, 0, room)}
	for i, begun := 0, time.Now(); i == 0 || time.Since(begun) < d; i++ {
		asked := time.Now()
		h, err := l.acquire(ctx, names[i%len(names)])
		got := time.Now()
		if err != nil {
			ps.failed++
			if ctx.Err() != nil {
				break
			}
			continue
		}
		ps.acquire = append(ps.acquire, got.Sub(asked))
		if err := h.release(ctx); err != nil {
			ps.failed++
		}
		ps.release = append(ps.release, time.Since(got))
	}
	return ps
}

func lonely(ctx context.Context, f *fleet, lib library, d time.Duration) (figures []figure, err error) {
	names := names(1024) // a server that is not waited for may be behind: names take turns
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 100); err != nil {
			return err
		}
		before, err := used(f)
		if err != nil {
			return err
		}
		ps := makePairs(ctx, l, names, d, 1<<14)
		after, err := used(f)
		if err != nil {
			return err
		}
		u, n := after.since(before), float64(len(ps.acquire))
		if n == 0 {
			return fmt.Errorf("not one name was acquired within %v", d)
		}
		figures = []figure{
			{"acquire p50", "µs", micros(quantile(ps.acquire, .5))},
			{"acquire p99", "µs", micros(quantile(ps.acquire, .99))},
			{"release p50", "µs", micros(quantile(ps.release, .5))},
			{"allocations a pair", "", float64(u.mallocs) / n},
			{"client CPU a pair", "µs", micros(u.client) / n},
			{"errors", "", float64(ps.failed)},
		}
		if lib.needs == redisKind {
			figures = append(figures, figure{"server CPU a pair", "µs", micros(u.servers) / n})
		}
		return nil
	})
	return figures, err
}
