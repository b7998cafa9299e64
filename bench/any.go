package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// anyOf measures many clients that want any of several names. Only leasehold has such a call, so the
// comparison is with the most that there can be: each name held all the time.
func (p plan) anyOf() []scenario {
	var all []scenario
	for _, x := range []struct {
		clients, names int
		hold, length   time.Duration
	}{
		{10, 3, 60 * time.Millisecond, 20 * time.Second},
		{40, 20, 5 * time.Millisecond, 3 * time.Second},
	} {
		all = append(all, scenario{
			name: fmt.Sprintf("any/%d clients, %d names", x.clients, x.names), nodes: 3, libs: named(ours), repeat: p.times(2),
			crowded: true, extra: true, bound: x.length + 20*time.Second,
			about: fmt.Sprintf("%d clients take any of %d names in turns, for %v each.", x.clients, x.names, x.hold),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return turnsOfAny(ctx, f, lib, x.clients, names(x.names), x.hold, p.long(x.length))
			},
		})
	}
	return all
}

func turnsOfAny(ctx context.Context, f *fleet, lib library, clients int, of []string, hold, length time.Duration) (figures []figure, err error) {
	err = withMany(f, lib, clients, func(ls []locker) error {
		for _, l := range ls {
			if err := warm(ctx, l, 1); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, length)
		defer cancel()
		counts := make([]int, clients)
		var all sync.WaitGroup
		for i, l := range ls {
			all.Go(func() {
				for ctx.Err() == nil {
					h, err := l.(leaseholdLocker).sup.AcquireAny(ctx, of)
					if err != nil {
						return // its time is over; a client that fails has few turns
					}
					time.Sleep(hold)
					counts[i]++
					if h.Release(context.WithoutCancel(ctx)) != nil {
						return
					}
				}
			})
		}
		all.Wait()
		sum := 0
		for _, n := range counts {
			sum += n
		}
		most := float64(len(of)) * length.Seconds() / hold.Seconds()
		figures = []figure{
			{"turns", "1/s", float64(sum) / length.Seconds()},
			{"turns to the most that there can be", "", float64(sum) / most},
			{"most to fewest turns", "x", float64(slices.Max(counts)) / float64(max(1, slices.Min(counts)))},
		}
		return nil
	})
	return figures, err
}
