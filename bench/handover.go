package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// handover measures how long a name lies idle between one holder and the next,
// which waits for it in another client.
func (p plan) handover() []scenario {
	var all []scenario
	for _, n := range []int{1, 5} {
		all = append(all, scenario{
			name: fmt.Sprintf("hand-over/N=%d", n), nodes: n, libs: append(slices.Clone(libraries), library{name: exchanges}), repeat: p.times(3),
			about: "A holder releases while one waiter of another client waits: from the call of the release to the waiter's return.",
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return handovers(ctx, f, lib, 0, p.long(time.Second))
			},
		})
	}
	return all
}

// handovers measures for d, on servers that are a round trip away.
func handovers(ctx context.Context, f *fleet, lib library, trip, d time.Duration) (figures []figure, err error) {
	if lib.name == exchanges {
		return bareHandovers(ctx, f, trip, d)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a waiter if the rest has failed
	err = withMany(f, lib, 2, func(ls []locker) error {
		for _, l := range ls {
			if err := warm(ctx, l, 20); err != nil {
				return err
			}
		}
		name := names(1)[0]
		h, err := ls[0].acquire(ctx, name)
		if err != nil {
			return err
		}
		var took, behind []time.Duration
		for i, begun := 1, time.Now(); len(took) < 4 || time.Since(begun) < d; i++ {
			type turn struct {
				h   held
				err error
				at  time.Time
			}
			next := make(chan turn, 1)
			go func() {
				h, err := ls[i%2].acquire(ctx, name)
				next <- turn{h, err, time.Now()}
			}()
			holdersWork(trip)
			asked := time.Now()
			if err := h.release(ctx); err != nil {
				return err
			}
			released := time.Now()
			t := <-next
			if t.err != nil {
				return t.err
			}
			h = t.h
			took = append(took, t.at.Sub(asked))
			behind = append(behind, max(0, t.at.Sub(released)))
		}
		figures = []figure{
			{"hand-over p50", "ms", millis(quantile(took, .5))},
			{"hand-over p99", "ms", millis(quantile(took, .99))},
			{"behind the return of the release p50", "ms", millis(quantile(behind, .5))},
		}
		return h.release(ctx)
	})
	return figures, err
}

// holdersWork takes long enough for the other one to be waiting, and any time, so that it
// is at any point of its pauses.
func holdersWork(trip time.Duration) {
	time.Sleep(10*time.Millisecond + 4*trip + rand.N(20*time.Millisecond))
}

// withMany opens n clients for as long as do runs.
func withMany(f *fleet, lib library, n int, do func([]locker) error) error {
	var ls []locker
	defer func() {
		for _, l := range ls {
			l.close()
		}
	}()
	for range n {
		l, err := lib.open(f)
		if err != nil {
			return err
		}
		ls = append(ls, l)
	}
	return do(ls)
}
