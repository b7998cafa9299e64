package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// callers measures many callers of one client, each with a name of its own.
func (p plan) callers() []scenario {
	var all []scenario
	add := func(name string, n, callers, repeat int, d time.Duration, libs []library, about string) {
		all = append(all, scenario{
			name: name, nodes: n, libs: libs, repeat: p.times(repeat), about: about, extra: len(libs) < len(libraries),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return throughput(ctx, f, lib, callers, p.long(d))
			},
		})
	}
	for _, n := range []int{1, 5} {
		add(fmt.Sprintf("callers/N=%d", n), n, 256, 3, time.Second, libraries,
			"256 callers of one client acquire and release, each a name of its own.")
	}
	counts := []int{1, 4, 16, 64, 256, 1024}
	for _, c := range counts {
		add(fmt.Sprintf("callers/N=5/callers=%d", c), 5, c, 2, 500*time.Millisecond,
			named(ours, floor, "redsync rueidis, fail-fast"), "As callers, with more and more of them.")
	}
	return all
}

// A load is many callers who acquire and release, until they are stopped.
type load struct {
	pairs, failed atomic.Int64
	stopped       atomic.Bool
	cancel        context.CancelFunc
	all           sync.WaitGroup
}

// startLoad starts the callers, each with a name of its own.
func startLoad(ctx context.Context, l locker, callers int) *load {
	w := &load{}
	ctx, w.cancel = context.WithCancel(ctx)
	for _, name := range names(callers) {
		w.all.Go(func() {
			for !w.stopped.Load() {
				h, err := l.acquire(ctx, name)
				if err == nil {
					err = h.release(ctx)
				}
				if err == nil {
					w.pairs.Add(1)
					continue
				}
				if w.stopped.Load() || ctx.Err() != nil {
					return
				}
				w.failed.Add(1)
			}
		})
	}
	return w
}

// stop lets every caller finish its pair, for some seconds, and gives up those who
// wait longer.
func (w *load) stop() {
	w.stopped.Store(true)
	late := time.AfterFunc(3*time.Second, w.cancel)
	w.all.Wait()
	late.Stop()
	w.cancel()
}

func throughput(ctx context.Context, f *fleet, lib library, callers int, d time.Duration) (figures []figure, err error) {
	err = with(f, lib, func(l locker) error {
		w := startLoad(ctx, l, callers)
		time.Sleep(d / 4) // until it runs evenly
		before, err := used(f)
		first := w.pairs.Load()
		time.Sleep(d)
		n := float64(w.pairs.Load() - first)
		after, err2 := used(f)
		w.stop()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("not one pair within %v", d)
		}
		u := after.since(before)
		figures = []figure{
			{"pairs", "1/s", n / after.at.Sub(before.at).Seconds()},
			{"client CPU a pair", "µs", micros(u.client) / n},
			{"allocations a pair", "", float64(u.mallocs) / n},
			{"errors", "", float64(w.failed.Load())},
		}
		if lib.needs == redisKind {
			figures = append(figures, figure{"server CPU a pair", "µs", micros(u.servers) / n})
		}
		return nil
	})
	return figures, err
}
