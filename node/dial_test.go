package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
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

// A connection that comes after another one was first is closed.
func TestRaceClosesWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late, theirs := net.Pipe()
		first, _ := net.Pipe()
		got, err := race(t.Context(), []string{"late", "first"}, time.Second, 0, func(_ context.Context, address string) (net.Conn, error) {
			if address == "late" {
				<-time.After(time.Minute) // it heeds no context
				return late, nil
			}
			return first, nil
		})
		if got != first || err != nil {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	})
}

// A handshake has its time, a connection whose handshake fails is closed, and the configuration, which
// other addresses share, stays as it was.
func TestHandshake(t *testing.T) {
	for name, says := range map[string]string{"silent": "", "no TLS": "HTTP/1.1 400 Bad Request\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			closed := make(chan error, 1)
			go func() {
				c, err := l.Accept()
				if err == nil {
					defer c.Close()
					_, _ = io.WriteString(c, says)
					_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
					_, err = io.Copy(io.Discard, c)
				}
				closed <- err
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			config := &tls.Config{MinVersion: tls.VersionTLS12}
			_, err = dialTCP(ctx, l.Addr().String(), &net.Dialer{}, config, 50*time.Millisecond, 0)
			if err == nil || ctx.Err() != nil {
				t.Errorf("%v, %v", err, ctx.Err())
			}
			if err := <-closed; errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection was left open")
			}
			if config.ServerName != "" {
				t.Errorf("it is for %q alone", config.ServerName)
			}
		})
	}
}

// To look a name up takes no longer than a dial may.
func TestLookupHasItsTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	_, err := dialAny(ctx, "some.invalid:1", &net.Dialer{Timeout: 50 * time.Millisecond, Resolver: silent}, 0)
	if err == nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}
