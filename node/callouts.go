package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"golang.org/x/sync/singleflight"

	"github.com/leasehold-go/leasehold/clock"
)

// These begin an error that says what the actor waits for besides the server.
const (
	inCredentials = "AuthCredentialsFn has not returned"
	inDialer      = "the dialer has not connected"
	inClient      = "no connection from the client: its pool has none free (each supervisor keeps two for each node, see BlockingPoolSize), or its node does not answer,"
)

// callouts holds the calls of a user's functions that a connection needs and that are running: they
// may hang for as long as they like.
type callouts struct {
	// The function for credentials is not called once more for the same address until it has
	// returned.
	credentials singleflight.Group

	mu      sync.Mutex
	dialing map[string]*dialing // by address, and apart for what listens
}

// dialing counts the calls of a dialer that are running.
type dialing struct {
	n     int
	since clock.Instant // when the latest has begun
	pause time.Duration // until the next one may begin
}

// maxDialing is how many calls may hang before that is unusual. A dialer without a timeout takes
// two minutes to notice that no server answers.
const maxDialing = 16

var errDialing = errors.New(inDialer + ": an earlier call is still running")

// begin returns the function that ends a call of the dialer. While calls hang, the next one begins
// only after more and more time. So there are few of them, and yet a server that has come back is
// found before an old call has noticed.
func (c *callouts) begin(call string, now clock.Instant, timeout time.Duration) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.dialing[call]
	switch {
	case d == nil:
		d = &dialing{pause: timeout}
		if c.dialing == nil {
			c.dialing = make(map[string]*dialing)
		}
		c.dialing[call] = d
	case now.Sub(d.since) < d.pause:
		return nil, errDialing
	default:
		if d.pause *= 2; d.n < maxDialing {
			d.pause = min(d.pause, refusedFor)
		}
	}
	d.n++
	d.since = now
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if d.n--; d.n == 0 {
			delete(c.dialing, call)
		}
	}, nil
}

// waitFor makes errors say what the session waits for, until done is called.
func (s *session) waitFor(what string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits == nil {
		s.waits = make(map[string]int)
	}
	s.waits[what]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.waits[what]--; s.waits[what] == 0 {
			delete(s.waits, what)
		}
	}
}

// waitedFor returns what the session waits for: the server, unless it is something else.
func (s *session) waitedFor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(s.waits)) {
		return what
	}
	return "no answer"
}

// recovered makes an error of a panic of a user's function. The panic would end the process, as no
// other code can recover it.
func recovered(err *error, what string) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s has panicked: %v", what, p)
	}
}

// A credentialsError is the error that a user's function has returned, which may be that it had no
// answer in time. A pointer to one can be compared, whatever its type.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "AuthCredentialsFn: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// withCredentials returns a user's function for credentials, which ends with the session.
func (s *session) withCredentials(fn func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error)) func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
	return func(c rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
		defer s.waitFor(inCredentials)()
		address := ""
		if c.Address != nil {
			address = c.Address.String()
		}
		result := s.callouts.credentials.DoChan(address, func() (got any, err error) {
			defer recovered(&err, "it")
			return fn(c)
		})
		select {
		case r := <-result:
			if r.Err != nil {
				return rueidis.AuthCredentials{}, &credentialsError{r.Err}
			}
			got, _ := r.Val.(rueidis.AuthCredentials)
			return got, nil
		case <-s.ctx.Done():
			return rueidis.AuthCredentials{}, context.Cause(s.ctx)
		}
	}
}

// withDialer returns a user's dialer, which ends with the session whether or not it heeds its
// context.
func (s *session) withDialer(dial func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, dst string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		defer s.waitFor(inDialer)()
		call := dst
		if s.listens {
			call += " for the inbox"
		}
		end, err := s.callouts.begin(call, s.clock.Now(), s.within)
		if err != nil {
			return nil, err
		}
		done := make(chan result) // unbuffered: the connection has one owner
		go func() {
			defer end()
			c, err := func() (_ net.Conn, err error) {
				defer recovered(&err, "the dialer")
				return dial(ctx, dst, d, t)
			}()
			select {
			case done <- result{c, err}:
			case <-ctx.Done():
				if c != nil {
					_ = c.Close()
				}
			}
		}()
		select {
		case r := <-done:
			return r.conn, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// dialerOf returns a user's own way to dial, or nil.
func dialerOf(o *rueidis.ClientOption) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	switch fn := o.DialFn; {
	case o.DialCtxFn != nil:
		return o.DialCtxFn
	case fn != nil:
		return func(_ context.Context, dst string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			return fn(dst, d, t)
		}
	}
	return nil
}
