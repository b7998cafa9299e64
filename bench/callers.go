package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// callers measures many callers of one client, each with names of its own.
func (p plan) callers() []scenario {
	var all []scenario
	add := func(name string, n, callers, repeat int, d time.Duration, libs []library, about string) {
		all = append(all, scenario{
			name: name, nodes: n, libs: libs, repeat: p.times(repeat), about: about, fresh: true, extra: len(libs) < len(libraries),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return throughput(ctx, f, lib, callers, p.long(d))
			},
		})
	}
	for _, n := range []int{1, 5} {
		add(fmt.Sprintf("callers/N=%d", n), n, 256, 3, time.Second, libraries,
			"256 callers of one client acquire and release: each a new name for each pair, and then each one name again and again.")
	}
	counts := []int{1, 4, 16, 64, 256, 1024}
	for _, c := range counts {
		add(fmt.Sprintf("callers/N=5/callers=%d", c), 5, c, 2, 500*time.Millisecond,
			named(ours, floor, "redsync rueidis, fail-fast"), "As callers, with more and more of them.")
	}
	return all
}

// A load is many callers that acquire and release, until they are stopped.
type load struct {
	pairs, failed atomic.Int64
	stopped       atomic.Bool
	cancel        context.CancelFunc
	all           sync.WaitGroup
}

// startLoad starts the callers, each with names of its own.
func startLoad(ctx context.Context, l locker, callers int, naming naming) *load {
	w := &load{}
	ctx, w.cancel = context.WithCancel(ctx)
	for range callers {
		names := naming.source()
		w.all.Go(func() {
			for !w.stopped.Load() {
				h, err := l.acquire(ctx, names())
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

// stop lets every caller finish its pair, for some seconds, and gives up those that
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
		for _, n := range []naming{newNames, usedName} {
			some, err := throughputWith(ctx, f, lib, l, n, callers, d)
			if err != nil {
				return err
			}
			figures = append(figures, some...)
		}
		return nil
	})
	return figures, err
}

func throughputWith(
	ctx context.Context, f *fleet, lib library, l locker, naming naming, callers int, d time.Duration,
) ([]figure, error) {
	w := startLoad(ctx, l, callers, naming)
	time.Sleep(d / 4) // until it runs evenly
	before, err := used(f)
	first := w.pairs.Load()
	time.Sleep(d)
	n := w.pairs.Load() - first
	after, err2 := used(f)
	w.stop()
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("not one pair within %v", d)
	}
	return naming.figures(append([]figure{
		{"pairs", "1/s", float64(n) / after.at.Sub(before.at).Seconds()},
		{"errors", "", float64(w.failed.Load())},
	}, after.since(before).aPair(int(n), lib)...)), nil
}
