// Package cluster starts real Redis servers for tests, and does to them what
// happens to servers: [Server] kills, restarts and pauses one of them, a [Proxy]
// in front of one breaks, silences, delays or falsifies what goes over the wire.
//
// There are two kinds of servers, with the same behaviour: redis-server processes
// and containers, both on loopback. A test that wants real servers asks [Kinds],
// runs once for each, and gets its servers from [Open]:
//
//	for _, kind := range cluster.Kinds(t) {
//		t.Run(kind.String(), func(t *testing.T) {
//			c := cluster.Open(t, kind, 5)
//			...
//		})
//	}
//
// Nothing is persisted: a server that was killed has lost its data. Everything is
// ended when the test is over; on Linux the processes end too when the test's own
// process is killed.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/leasehold-go/leasehold/node"
)

// A Server is one Redis server. What fails in its methods is reported to the test
// as an error, so they may be called from any goroutine; the calls of one server
// must not overlap. All of them wait until it is done.
type Server interface {
	// Addr returns its host:port on loopback. It stays the same over restarts.
	Addr() string

	// URL returns the redis:// URL of its address.
	URL() string

	// Do sends one command over a connection of its own and returns the answer: a
	// string, an int64, nil, or a []any of these. An error answer is an error. It
	// gives up after 5 s.
	Do(args ...string) (any, error)

	// Kill ends it at once, without a farewell. Its data is lost. It may be paused.
	Kill()

	// Start starts it again after a Kill, empty and on the same address. It
	// returns when the server answers.
	Start()

	// Pause stops it from running. Its connections stay open, new ones are
	// accepted by the system, and what is sent to it is answered after Resume.
	Pause()

	// Resume lets a paused server go on.
	Resume()
}

// A Cluster is some independent servers of one kind.
type Cluster struct {
	Servers []Server
}

// URLs returns the URL of each server.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		urls[i] = s.URL()
	}
	return urls
}

// Conns returns how leasehold reaches each server.
func (c *Cluster) Conns() []node.Conn { return node.URLs(c.URLs()...) }

// Open is OpenYoung, and then [Age] for each server: what most tests want, which would
// otherwise have to wait until their servers are asked for a lease.
func Open(t testing.TB, kind Kind, n int, args ...string) *Cluster {
	t.Helper()
	c := OpenYoung(t, kind, n, args...)
	for _, s := range c.Servers {
		if err := Age(s); err != nil {
			t.Fatalf("%s: %v", s.Addr(), err)
		}
	}
	return c
}

// OpenYoung starts n empty servers, with args (such as "--maxmemory", "1mb") after the
// arguments that it gives them itself. It returns when they answer, and ends them
// when the test is over.
func OpenYoung(t testing.TB, kind Kind, n int, args ...string) *Cluster {
	t.Helper()
	open := openProcess
	if kind == Container {
		open = openContainer
	}
	c := &Cluster{Servers: make([]Server, n)}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { c.Servers[i], errs[i] = open(t, args) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("start %d Redis servers (%v): %v", n, kind, err)
	}
	return c
}

// Age has leasehold take a server for one that it has known for long: it writes the
// marker of the server's incarnation, with a beginning a day ago, and that this
// incarnation is grown. No client is known to have a longer TTL than any other.
func Age(s Server) error {
	info, err := s.Do("INFO")
	if err != nil {
		return err
	}
	text, _ := info.(string)
	field := func(name string) string {
		_, rest, _ := strings.Cut(text, "\n"+name+":")
		value, _, _ := strings.Cut(rest, "\r")
		return value
	}
	answer, err := s.Do("TIME")
	if err != nil {
		return err
	}
	var sec int64
	if clock, _ := answer.([]any); len(clock) == 2 {
		_, err = fmt.Sscan(fmt.Sprint(clock[0]), &sec)
	}
	if err != nil || sec == 0 {
		return fmt.Errorf("TIME: %v, %v", answer, err)
	}
	life := fmt.Sprintf("%s/%s %d", field("run_id"), field("master_replid"), (sec-24*60*60)*1_000_000)
	_, err = s.Do("MSET", "leasehold:incarnation", life+" 0", "leasehold:{leasehold:incarnation}:grown", life)
	return err
}

// address is a server's host:port.
type address string

func (a address) Addr() string { return string(a) }
func (a address) URL() string  { return "redis://" + string(a) }

func (a address) port() string {
	_, port, _ := net.SplitHostPort(string(a))
	return port
}

func (a address) Do(args ...string) (any, error) {
	c, err := net.DialTimeout("tcp", string(a), 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	return exchange(c, args)
}

// await waits until ask succeeds or says that it never will (backoff.Permanent).
func await(ask func() error) error {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(2*time.Millisecond),
		backoff.WithMaxInterval(100*time.Millisecond),
		backoff.WithMaxElapsedTime(20*time.Second),
	)
	return backoff.Retry(ask, pause)
}

// within bounds what a test asks of the system.
func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

var taken sync.Map // the ports that tests of this process have, and what reserves them

// freePort returns a loopback port that nobody listens on now. It lies below the
// ports that systems give to outgoing connections (from 32768 on Linux), so that
// a server that is down does not lose it to some client. Another process may
// still be quicker: a caller that cannot listen on it tries another one.
//
// No other test is given it, in this process or in another, until this one is over. Clients of
// a server that is down would find another test's server at its port, and disturb that.
func freePort(t testing.TB) (address, error) {
	for range 1000 {
		a := address(net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000))))
		if _, again := taken.LoadOrStore(a, true); again {
			continue
		}
		if runtime.GOOS == "linux" { // there a socket may have a name and no file
			reserved, err := net.Listen("unix", "@leasehold-test-"+a.port())
			if err != nil {
				taken.Delete(a)
				continue
			}
			taken.Store(a, reserved) // or it would be collected, and closed
			t.Cleanup(func() { reserved.Close() })
		}
		t.Cleanup(func() { taken.Delete(a) })
		if l, err := net.Listen("tcp", string(a)); err == nil {
			return a, l.Close()
		}
	}
	return "", errors.New("no free port between 20000 and 32000")
}

// onFreePort calls start with one free port after the other until it succeeds, a
// few times: in the meantime somebody else may have taken the port.
func onFreePort(t testing.TB, start func(address) error) error {
	var errs []error
	for range 3 {
		a, err := freePort(t)
		if err != nil {
			return err
		}
		if err = start(a); err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", a, err))
	}
	return errors.Join(errs...)
}
