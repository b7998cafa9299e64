package node

import (
	"context"
	"errors"
	"net"
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
				got, err := race(ctx, addresses, within, func(ctx context.Context, address string) (net.Conn, error) {
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
