package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const crowdSize = 64

// work is what a holder in a crowd does.
const work = time.Millisecond

// crowd measures many clients that want one name.
func (p plan) crowd() []scenario {
	var all []scenario
	for _, n := range []int{1, 5} {
		for _, clients := range []int{1, crowdSize} {
			of := "of one client"
			if clients > 1 {
				of = "each a client of its own"
			}
			all = append(all, scenario{
				name:  fmt.Sprintf("drain/N=%d, %s", n, of),
				nodes: n, libs: among(clients), repeat: p.times(2), crowded: true, slow: true,
				about: "64 wait for one name, " + of + ": from the release of its holder until each has had it for 1 ms.",
				measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
					return drain(ctx, f, lib, clients)
				},
			})
		}
	}
	for _, n := range []int{1, 5} {
		all = append(all, scenario{
			name: fmt.Sprintf("crowd/N=%d", n), nodes: n, libs: libraries, repeat: p.times(min(2, n)), crowded: true, slow: true,
			about: "64 clients take one name in turns, for 1 ms each, again and again, after one of them has done so alone. Waits that were not over at the end count as long as they were.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return turns(ctx, f, lib, p.long(3*time.Second))
			},
		})
	}
	return all
}

// among returns the libraries in which the callers of that many clients can compete.
func among(clients int) []library {
	return slices.DeleteFunc(slices.Clone(libraries), func(l library) bool { return clients == 1 && !l.rivals })
}

func drain(ctx context.Context, f *fleet, lib library, clients int) (figures []figure, err error) {
	all := clients
	if clients > 1 {
		all++ // the holder is not one of the waiters: etcd lets a client have its own name again
	}
	err = withMany(f, lib, all, func(ls []locker) error {
		holder, ls := ls[all-1], ls[:clients]
		name := names(1)[0]
		for _, l := range ls {
			if err := warm(ctx, l, 1); err != nil {
				return err
			}
		}
		h, err := holder.acquire(ctx, name)
		if err != nil {
			return err
		}
		errs := make(chan error, crowdSize)
		for i := range crowdSize {
			go func() { errs <- turn(ctx, ls[i%len(ls)], name) }()
		}
		time.Sleep(300 * time.Millisecond) // until all of them wait
		begun := time.Now()
		if err := h.release(ctx); err != nil {
			return err
		}
		for range crowdSize {
			if e := <-errs; e != nil {
				err = e
			}
		}
		figures = []figure{{"drained after", "ms", millis(time.Since(begun))}}
		return err
	})
	return figures, err
}

// turn holds the name once, for as long as the work takes.
func turn(ctx context.Context, l locker, name string) error {
	h, err := l.acquire(ctx, name)
	if err != nil {
		return err
	}
	time.Sleep(work)
	return h.release(ctx)
}

func turns(ctx context.Context, f *fleet, lib library, d time.Duration) (figures []figure, err error) {
	err = withMany(f, lib, crowdSize, func(ls []locker) error {
		for _, l := range ls {
			if err := warm(ctx, l, 1); err != nil {
				return err
			}
		}
		name := names(1)[0]
		alone, begun := 0, time.Now()
		for time.Since(begun) < d/6 {
			if err := turn(ctx, ls[0], name); err != nil {
				return err
			}
			alone++
		}
		perSecond := float64(alone) / time.Since(begun).Seconds()
		ctx, cancel := context.WithCancel(ctx)
		counts, waits := make([]int, len(ls)), make([][]time.Duration, len(ls))
		end := time.Now().Add(d)
		var all sync.WaitGroup
		for i, l := range ls {
			all.Go(func() {
				for time.Now().Before(end) {
					asked := time.Now()
					h, err := l.acquire(ctx, name)
					waits[i] = append(waits[i], time.Since(asked))
					if err != nil {
						return // its time is over; a client that fails has few turns
					}
					counts[i]++
					time.Sleep(work)
					if h.release(ctx) != nil {
						return
					}
				}
			})
		}
		time.Sleep(time.Until(end))
		cancel()
		all.Wait()

		sum, without := 0, 0
		for _, n := range counts {
			sum += n
			if n == 0 {
				without++
			}
		}
		figures = []figure{
			{"turns", "1/s", float64(sum) / d.Seconds()},
			{"turns to those of one alone", "", float64(sum) / d.Seconds() / perSecond},
			{"most to fewest turns", "x", float64(slices.Max(counts)) / float64(max(1, slices.Min(counts)))},
			{"without a turn", "", float64(without)},
			{"wait p99", "ms", millis(quantile(slices.Concat(waits...), .99))},
		}
		return nil
	})
	return figures, err
}
