package main

import (
	"context"
	"fmt"
	"time"
)

// distance measures on servers that are some way off.
func (p plan) distance() []scenario {
	var all []scenario
	for _, away := range []time.Duration{500 * time.Microsecond, 5 * time.Millisecond} {
		some := named(ours, floor, "redsync rueidis, fail-fast")
		all = append(all, scenario{
			name: fmt.Sprintf("distance/%v, acquire", away), nodes: 5, libs: some, repeat: p.times(3), away: away, extra: true,
			about: fmt.Sprintf("As acquire, through a proxy that adds %v each way, against a PING to all through it that a quorum answers.", away),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return distant(ctx, f, lib, p.long(600*time.Millisecond))
			},
		}, scenario{
			name: fmt.Sprintf("distance/%v, hand-over", away), nodes: 5, libs: append(some, library{name: exchanges}), repeat: p.times(3), away: away, extra: true,
			about: fmt.Sprintf("As hand-over, through a proxy that adds %v each way. The release is at the servers half a round trip behind its call.", away),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return distantHandovers(ctx, f, lib, p.long(1200*time.Millisecond))
			},
		})
	}
	return all
}

func distant(ctx context.Context, f *fleet, lib library, d time.Duration) (figures []figure, err error) {
	err = with(f, lib, func(l locker) error {
		if err := warm(ctx, l, 20); err != nil {
			return err
		}
		trip, err := roundTrip(f.addrs, d/4)
		if err != nil {
			return err
		}
		ps := makePairs(ctx, l, newNames.source(), d, 1<<10)
		if ps.failed > 0 {
			return fmt.Errorf("%d calls failed", ps.failed)
		}
		acquire := quantile(ps.acquire, .5)
		figures = []figure{
			{"round trip", "ms", millis(trip)},
			{"acquire p50", "ms", millis(acquire)},
			{"acquire p50 to round trip", "x", float64(acquire) / float64(trip)},
		}
		return nil
	})
	return figures, err
}

func distantHandovers(ctx context.Context, f *fleet, lib library, d time.Duration) ([]figure, error) {
	trip, err := roundTrip(f.addrs, d/4)
	if err != nil {
		return nil, err
	}
	figures, err := handovers(ctx, f, lib, trip, d)
	if err != nil {
		return nil, err
	}
	trips := figures[0].value / millis(trip) // from the call of the release
	return append(figures, figure{"round trip", "ms", millis(trip)},
		figure{"hand-over p50 to round trip", "x", trips},
		figure{"from when the servers have the release to round trip", "x", trips - .5}), nil
}

// roundTrip returns the median time of a PING that is sent to all servers at once, over
// plain connections with a goroutine that reads each, until a quorum has answered.
func roundTrip(addrs []string, d time.Duration) (time.Duration, error) {
	n := len(addrs)
	answers := make(chan error, 2*n) // also for the errors of their end
	var conns []*bareConn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for _, addr := range addrs {
		c, err := dialBare(addr)
		if err != nil {
			return 0, err
		}
		conns = append(conns, c)
		if err := c.SetDeadline(time.Now().Add(d + 5*time.Second)); err != nil {
			return 0, err
		}
		go func() {
			for {
				err := c.read(1, "+PONG")
				if answers <- err; err != nil {
					return
				}
			}
		}()
	}
	ping := encode("PING")
	var took []time.Duration
	for begun := time.Now(); time.Since(begun) < d; {
		asked := time.Now()
		for _, c := range conns {
			if _, err := c.Write(ping); err != nil {
				return 0, err
			}
		}
		for i := range n {
			if err := <-answers; err != nil {
				return 0, err
			}
			if i == n/2 {
				took = append(took, time.Since(asked))
			}
		}
	}
	return quantile(took, .5), nil
}
