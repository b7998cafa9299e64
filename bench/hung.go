package main

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// hung measures what servers that hang, and do not die, do to the callers.
func (p plan) hung() []scenario {
	var several []library
	for _, l := range libraries {
		if l.nodes == 0 {
			several = append(several, l)
		}
	}
	all := []scenario{{
		name: "hung/1 of 5", nodes: 5, libs: several, repeat: p.times(2), slow: true,
		about: "One caller acquires and releases; then one server of five is stopped.",
		measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
			return hungLonely(ctx, f, lib, 1, p.long(1500*time.Millisecond))
		},
	}}
	for _, n := range []int{1, 2} {
		all = append(all, scenario{
			name: fmt.Sprintf("hung/%d of 5, 256 callers", n), nodes: 5, libs: several, repeat: p.times(3 - n),
			bound: 30 * time.Second, slow: true, extra: n > 1,
			about: "256 callers acquire and release; then servers of five are stopped, and go on.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return hungCallers(ctx, f, lib, n, p.long(2*time.Second))
			},
		})
	}
	return all
}

// pause stops the last n servers.
func (f *fleet) pause(n int) error {
	for _, s := range f.servers[len(f.servers)-n:] {
		if err := s.pause(); err != nil {
			return err
		}
	}
	return nil
}

// resume lets every server go on. One that has ended fails the next measurement.
func (f *fleet) resume() {
	for _, s := range f.servers {
		_ = s.resume()
	}
}

func hungLonely(ctx context.Context, f *fleet, lib library, hang int, d time.Duration) (figures []figure, err error) {
	all := names(1024)
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 100); err != nil {
			return err
		}
		healthy := makePairs(ctx, l, all, d/3, 1<<14)
		if err := f.pause(hang); err != nil {
			return err
		}
		defer f.resume()
		ps := makePairs(ctx, l, names(1024), d, 1<<14)
		before := quantile(healthy.acquire, .5)
		figures = []figure{
			{"healthy acquire p50", "µs", micros(before)},
			{"acquire p50", "µs", micros(quantile(ps.acquire, .5))},
			{"acquire max", "ms", millis(quantile(ps.acquire, 1))},
			{"release p50", "µs", micros(quantile(ps.release, .5))},
			{"release max", "ms", millis(quantile(ps.release, 1))},
			{"acquire p50 to healthy", "x", float64(quantile(ps.acquire, .5)) / float64(before)},
			{"errors", "", float64(ps.failed + healthy.failed)},
		}
		return nil
	})
	return figures, err
}

func hungCallers(ctx context.Context, f *fleet, lib library, hang int, d time.Duration) (figures []figure, err error) {
	err = with(f, lib, func(l locker) error {
		w := startLoad(ctx, l, 256)
		defer w.stop()
		defer f.resume() // before stop
		time.Sleep(d / 8)
		first, begun := w.pairs.Load(), time.Now()
		time.Sleep(d / 2)
		healthy := float64(w.pairs.Load()-first) / time.Since(begun).Seconds()
		goroutines, mem := runtime.NumGoroutine(), memory()

		if err := f.pause(hang); err != nil {
			return err
		}
		first, begun = w.pairs.Load(), time.Now()
		time.Sleep(d)
		rate := float64(w.pairs.Load()-first) / time.Since(begun).Seconds()
		failed := w.failed.Load()
		more, moreMem := runtime.NumGoroutine()-goroutines, memory()-mem

		f.resume()
		figures = []figure{
			{"healthy pairs", "1/s", healthy},
			{"pairs", "1/s", rate},
			{"pairs to healthy", "x", rate / healthy},
			{"more goroutines", "", float64(more)},
			{"more memory", "MB", moreMem / 1e6},
			{"recovered after", "s", recovery(ctx, f, w, healthy, goroutines).Seconds()},
			{"errors", "", float64(failed)},
		}
		return nil
	})
	return figures, err
}

// recovery returns after how long the callers are as fast as before, but for a
// fifth, the goroutines are about as few, and the servers that hung are used as
// much as the others. After 5 s it gives up, and returns these.
func recovery(ctx context.Context, f *fleet, w *load, healthy float64, goroutines int) time.Duration {
	const most, window = 5 * time.Second, 50 * time.Millisecond
	begun := time.Now()
	for time.Since(begun) < most && ctx.Err() == nil {
		from, commands := w.pairs.Load(), f.commands()
		at := time.Now()
		time.Sleep(window)
		rate := float64(w.pairs.Load()-from) / time.Since(at).Seconds()
		if rate >= .8*healthy && runtime.NumGoroutine() <= goroutines+64 && busy(commands, f.commands()) {
			return time.Since(begun)
		}
	}
	return most
}

// commands returns how many commands each server has processed.
func (f *fleet) commands() []float64 {
	counts := make([]float64, len(f.servers))
	for i, s := range f.servers {
		if info, err := s.info("stats"); err == nil { // else it has done nothing yet
			_, _ = fmt.Sscan(info["total_commands_processed"], &counts[i])
		}
	}
	return counts
}

// busy tells whether every server has done at least half of what the first has.
func busy(before, after []float64) bool {
	for i := range after {
		if before[i] == 0 || after[i]-before[i] < (after[0]-before[0])/2 {
			return false
		}
	}
	return true
}
