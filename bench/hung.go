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
		name: "hung/1 of 5", nodes: 5, libs: several, repeat: p.times(2), slow: true, fresh: true,
		about: "One caller acquires and releases; then one server of five is stopped.",
		measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
			return hungLonely(ctx, f, lib, 1, p.long(1500*time.Millisecond))
		},
	}}
	for _, n := range []int{1, 2} {
		all = append(all, scenario{
			name: fmt.Sprintf("hung/%d of 5, 256 callers", n), nodes: 5, libs: several, repeat: p.times(3 - n),
			bound: 30 * time.Second, slow: true, fresh: true, extra: n > 1,
			about: "256 callers acquire and release new names; then servers of five are stopped, and go on: before, meanwhile, and in the whole first second after.",
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
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 100); err != nil {
			return err
		}
		healthy := makePairs(ctx, l, newNames.source(), d/3, 1<<14)
		if err := f.pause(hang); err != nil {
			return err
		}
		defer f.resume()
		ps := makePairs(ctx, l, newNames.source(), d, 1<<14)
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
		w := startLoad(ctx, l, 256, newNames)
		defer w.stop()
		defer f.resume() // before stop
		time.Sleep(d / 8)
		healthy := w.rate(d / 2)
		goroutines, mem := runtime.NumGoroutine(), memory()

		if err := f.pause(hang); err != nil {
			return err
		}
		rate := w.rate(d)
		more, moreMem := runtime.NumGoroutine()-goroutines, memory()-mem

		f.resume()
		rated, begun := w.rated(), time.Now()
		commands := f.commands() // which the hung one answers as soon as it goes on
		time.Sleep(time.Until(begun.Add(time.Second)))
		after := rated()
		share := growth(commands, f.commands())
		figures = []figure{
			{"pairs before", "1/s", healthy},
			{"pairs", "1/s", rate},
			{"pairs in the first second after", "1/s", after},
			{"pairs to before", "x", rate / healthy},
			{"first second to before", "x", after / healthy},
			{"commands then, of the last server to the first", "x", share},
			{"more goroutines", "", float64(more)},
			{"more memory", "MB", moreMem / 1e6},
			{"errors", "", float64(w.failed.Load())},
		}
		return nil
	})
	return figures, err
}

// rate returns how many pairs a second are made in the d that follow, as a whole.
func (w *load) rate(d time.Duration) float64 {
	rated := w.rated()
	time.Sleep(d)
	return rated()
}

// rated returns what tells how many pairs a second were made since.
func (w *load) rated() func() float64 {
	first, begun := w.pairs.Load(), time.Now()
	return func() float64 { return float64(w.pairs.Load()-first) / time.Since(begun).Seconds() }
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

// growth returns by how much the last count has grown, to the growth of the first.
func growth(before, after []float64) float64 {
	last := len(after) - 1
	return (after[last] - before[last]) / (after[0] - before[0])
}
