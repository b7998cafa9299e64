package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// acquire measures one caller that takes one free name after the other.
func (p plan) acquire() []scenario {
	var all []scenario
	for _, n := range []int{1, 5} {
		all = append(all, scenario{
			name: fmt.Sprintf("acquire/N=%d", n), nodes: n, libs: libraries, repeat: p.times(4), fresh: true,
			about: "One caller acquires and releases one free name after the other: each a new one, and then 64 again and again.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return lonely(ctx, f, lib, p.long(400*time.Millisecond))
			},
		})
	}
	for _, n := range []int{1, 3, 5, 7, 9} {
		all = append(all, scenario{
			name: fmt.Sprintf("nodes/N=%d", n), nodes: n, repeat: p.times(3), extra: true, fresh: true,
			libs:  slices.DeleteFunc(slices.Clone(libraries), func(l library) bool { return l.nodes != 0 }),
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
func makePairs(ctx context.Context, l locker, names source, d time.Duration, room int) pairs {
	ps := pairs{acquire: make([]time.Duration, 0, room), release: make([]time.Duration, 0, room)}
	for i, begun := 0, time.Now(); i == 0 || time.Since(begun) < d; i++ {
		name := names()
		asked := time.Now()
		h, err := l.acquire(ctx, name)
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
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 100); err != nil {
			return err
		}
		for _, n := range []naming{newNames, usedNames} {
			some, err := lonelyWith(ctx, f, lib, l, n, d)
			if err != nil {
				return err
			}
			figures = append(figures, some...)
		}
		return nil
	})
	return figures, err
}

func lonelyWith(ctx context.Context, f *fleet, lib library, l locker, naming naming, d time.Duration) ([]figure, error) {
	names := naming.source()
	if err := warmWith(ctx, l, names, naming.used); err != nil {
		return nil, err
	}
	before, err := used(f)
	if err != nil {
		return nil, err
	}
	ps := makePairs(ctx, l, names, d, 1<<14)
	after, err := used(f)
	if err != nil {
		return nil, err
	}
	n := len(ps.acquire)
	if n == 0 {
		return nil, fmt.Errorf("not one name was acquired within %v", d)
	}
	return naming.figures(append([]figure{
		{"acquire p50", "µs", micros(quantile(ps.acquire, .5))},
		{"acquire p99", "µs", micros(quantile(ps.acquire, .99))},
		{"release p50", "µs", micros(quantile(ps.release, .5))},
		{"errors", "", float64(ps.failed)},
	}, after.since(before).aPair(n, lib)...)), nil
}

// aPair returns what each of n pairs has used.
func (u usage) aPair(n int, lib library) []figure {
	all := []figure{
		{"allocations a pair", "", float64(u.mallocs) / float64(n)},
		{"client CPU a pair", "µs", micros(u.client) / float64(n)},
	}
	if lib.needs == redisKind {
		all = append(all, figure{"server CPU a pair", "µs", micros(u.servers) / float64(n)})
	}
	return all
}

// figures names the figures after the names.
func (n naming) figures(all []figure) []figure {
	for i := range all {
		all[i].name += n.suffix
	}
	return all
}
