package node

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A connection is made to the first address that answers; the next one does not wait for long.
func TestRace(t *testing.T) {
	const within = 40 * time.Millisecond
	var dead = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		answers []func(context.Context) (net.Conn, error) // by address; nil answers at once
		want    int                                       // the address; -1 for an error
		took    time.Duration
	}{
		"the first":             {[]func(context.Context) (net.Conn, error){nil, dead}, 0, 0},
		"the first is dead":     {[]func(context.Context) (net.Conn, error){dead, nil}, 1, within},
		"two of three dead":     {[]func(context.Context) (net.Conn, error){dead, dead, nil}, 2, within},
		"the first refuses":     {[]func(context.Context) (net.Conn, error){func(context.Context) (net.Conn, error) { return nil, refused }, nil}, 1, 0},
		"all refuse":            {[]func(context.Context) (net.Conn, error){func(context.Context) (net.Conn, error) { return nil, refused }, func(context.Context) (net.Conn, error) { return nil, refused }}, -1, 0},
		"one, which is dead":    {[]func(context.Context) (net.Conn, error){dead}, -1, time.Second},
		"one refuses, one dead": {[]func(context.Context) (net.Conn, error){dead, func(context.Context) (net.Conn, error) { return nil, refused }}, -1, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				conns := make([]net.Conn, len(c.answers))
				addresses := make([]string, len(c.answers))
				for i := range addresses {
					addresses[i] = string(rune('0' + i))
				}
				from := time.Now()
				got, err := race(ctx, addresses, within, 0, func(ctx context.Context, address string) (net.Conn, error) {
					i := int(address[0] - '0')
					if c.answers[i] != nil {
						return c.answers[i](ctx)
					}
					conns[i], _ = net.Pipe()
					return conns[i], nil
				})
				if took := time.Since(from); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if (c.want < 0) != (err != nil) || c.want >= 0 && got != conns[c.want] {
					t.Errorf("%v, %v", got, err)
				}
			})
		})
	}
}

// An address that does not answer is dialled again, until one of the dials is answered.
func TestRaceAgain(t *testing.T) {
	const again, end = 30 * time.Millisecond, 100 * time.Millisecond
	for name, c := range map[string]struct {
		addresses int           // negative if the last one is dead
		answered  time.Duration // what is dialled from then on is
		refused   bool          // by that
		dials     int
		took      time.Duration
	}{
		"one refuses, one is dead":    {-2, 0, true, 8, end},
		"at once":                     {1, 0, false, 1, 0},
		"refused":                     {1, 0, true, 1, 0},
		"the first packet is lost":    {1, again, false, 2, again},
		"two packets are lost":        {1, 2 * again, false, 3, 2 * again},
		"lost, then refused":          {1, again, true, 2, again},
		"all are lost":                {1, time.Hour, false, 4, end},
		"two addresses, and one loss": {2, 10 * time.Millisecond, false, 2, 10 * time.Millisecond},
		"two addresses, and losses":   {2, 20 * time.Millisecond, false, 3, 25 * time.Millisecond},
		"two addresses, then refused": {2, 20 * time.Millisecond, true, 4, 40 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), end)
				defer cancel()
				var dials atomic.Int64
				from := time.Now()
				addresses := []string{"a", "b"}[:max(c.addresses, -c.addresses)]
				_, err := race(ctx, addresses, 10*time.Millisecond, again, func(ctx context.Context, address string) (net.Conn, error) {
					switch dials.Add(1); {
					case time.Since(from) < c.answered, c.addresses < 0 && address == "b":
						<-ctx.Done()
						return nil, ctx.Err()
					case c.refused:
						return nil, errors.New("refused")
					}
					conn, _ := net.Pipe()
					return conn, nil
				})
				if took := time.Since(from); took != c.took || dials.Load() != int64(c.dials) {
					t.Errorf("took %v and %d dials, want %v and %d", took, dials.Load(), c.took, c.dials)
				}
				if (err != nil) != (c.refused || c.took == end) {
					t.Error(err)
				}
			})
		})
	}
}

// A dial is given longer and longer, and others are begun meanwhile, a few at most.
func TestDialling(t *testing.T) {
	for _, c := range []struct{ overdue, patience, dialled, again int }{
		{0, 100, 100, 0}, {1, 100, 200, 100}, {2, 100, 400, 100}, {3, 100, 800, 100}, {4, 100, 1000, 125}, {9, 100, 1000, 125},
		{4, 1, 16, 2}, {100, 1, 256, 32}, {0, 1000, 1000, 0}, {1, 1000, 1000, 1000},
	} {
		a := Actor{Config: Config{Longest: 1000}, overdue: c.overdue}
		if dialled, again := a.dialling(time.Duration(c.patience)); int(dialled) != c.dialled || int(again) != c.again {
			t.Errorf("%d overdue, patience %d: dialled within %d and again after %d, want %d and %d", c.overdue, c.patience, dialled, again, c.dialled, c.again)
		}
	}
}
