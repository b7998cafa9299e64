package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// distance measures on servers that are some way off.
func (p plan) distance() []scenario {
	var all []scenario
	for _, away := range []time.Duration{500 * time.Microsecond, 5 * time.Millisecond} {
		some := named(ours, floor, "redsync rueidis, fail-fast")
		all = append(all, scenario{
			name: fmt.Sprintf("distance/%v, acquire", away), nodes: 5, libs: some, repeat: p.times(3), away: away, extra: true,
			about: fmt.Sprintf("As acquire, through a proxy that adds %v each way, against a PING through it.", away),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return distant(ctx, f, lib, p.long(600*time.Millisecond))
			},
		}, scenario{
			name: fmt.Sprintf("distance/%v, hand-over", away), nodes: 5, libs: some, repeat: p.times(3), away: away, extra: true,
			about: fmt.Sprintf("As hand-over, through a proxy that adds %v each way.", away),
			measure: func(ctx context.Context, f *fleet, lib library) ([]figure, error) {
				return handovers(ctx, f, lib, p.long(1200*time.Millisecond))
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
		trip, err := roundTrip(f.addrs[0], d/4)
		if err != nil {
			return err
		}
		ps := makePairs(ctx, l, names(1024), d, 1<<10)
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

// roundTrip returns the median time of a PING over one connection, for d.
func roundTrip(addr string, d time.Duration) (time.Duration, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(d + 5*time.Second)); err != nil {
		return 0, err
	}
	r := bufio.NewReader(c)
	var took []time.Duration
	for begun := time.Now(); time.Since(begun) < d; {
		asked := time.Now()
		if _, err := io.WriteString(c, "PING\r\n"); err != nil {
			return 0, err
		}
		if _, err := r.ReadString('\n'); err != nil {
			return 0, err
		}
		took = append(took, time.Since(asked))
	}
	return quantile(took, .5), nil
}
