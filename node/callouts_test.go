package node_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A dialer that hangs is called more and more rarely, and the state says what is waited for. When
// the server is back it is found although the calls still hang.
func TestHangingDialer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		var hangs atomic.Bool
		hangs.Store(true)
		var calls, running atomic.Int64
		release := make(chan struct{})
		o := n.Option("")
		dial := o.DialCtxFn
		o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
			calls.Add(1)
			running.Add(1)
			defer running.Add(-1)
			if hangs.Load() {
				<-release
			}
			return dial(ctx, addr, d, cfg)
		}
		r := start(t, node.FromOption(o))
		r.until("an error", func(s node.State) bool { return s.Err != nil })
		if !strings.Contains(r.state.Err.Error(), "the dialer has not connected within 200ms") {
			t.Error(r.state.Err)
		}
		time.Sleep(time.Hour)
		if n := running.Load(); n < 16 || n > 30 {
			t.Errorf("%d calls hang after an hour", n)
		}
		if !hangs.CompareAndSwap(true, false) {
			t.Fatal()
		}
		time.Sleep(time.Hour)
		for len(r.replies) > 0 {
			r.batch()
		}
		if !r.state.Enrolled {
			t.Error("not enrolled while old calls hang")
		}
		close(release)
		synctest.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("%d calls are left", n)
		}
		n.Restart()
		r.ended()
		before := calls.Load()
		r.enrolled()
		if n := calls.Load() - before; n > 2 {
			t.Errorf("%d calls to connect anew", n)
		}
	})
}

// A dialer without a timeout, which takes two minutes to notice that nobody is there, finds a
// server within seconds after that is back.
func TestDialerWithoutTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		var away atomic.Bool
		away.Store(true)
		var running, most atomic.Int64
		o := n.Option("")
		dial := o.DialCtxFn
		o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			if away.Load() {
				time.Sleep(127 * time.Second)
				return nil, errors.New("connection timed out")
			}
			return dial(ctx, addr, d, cfg)
		}
		r := start(t, node.FromOption(o))
		time.Sleep(10 * time.Minute)
		if n := most.Load(); n > 20 {
			t.Errorf("%d calls at once", n)
		}
		away.Store(false)
		time.Sleep(10 * time.Second)
		for len(r.replies) > 0 {
			r.batch()
		}
		if !r.state.Enrolled {
			t.Errorf("not enrolled 10 s after the server was back: %v", r.state.Err)
		}
		r.cancel()
		<-r.done
		time.Sleep(127 * time.Second) // for the calls that are left
	})
}

// What a user's function fails with is told in its own words, and a panic of it too: neither
// ends the process.
func TestFailingCallouts(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(o *rueidis.ClientOption)
		want   string
	}{
		{"credentials", func(o *rueidis.ClientOption) {
			o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
				return rueidis.AuthCredentials{}, fmt.Errorf("the vault is sealed: %w", context.DeadlineExceeded)
			}
		}, "AuthCredentialsFn: the vault is sealed: context deadline exceeded"},
		{"credentials behind a connection of their own", func(o *rueidis.ClientOption) {
			o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
				return rueidis.AuthCredentials{}, fmt.Errorf("the vault is gone: %w", io.EOF)
			}
		}, "AuthCredentialsFn: the vault is gone: EOF"},
		{"credentials that panic", func(o *rueidis.ClientOption) {
			o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) { panic("no vault") }
		}, "AuthCredentialsFn: it has panicked: no vault"},
		{"dialer that panics", func(o *rueidis.ClientOption) {
			o.DialCtxFn = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
				panic(errors.New("no network"))
			}
		}, "the dialer has panicked: no network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				o := n.Option("")
				c.change(&o)
				r := start(t, node.FromOption(o))
				got := r.ask(grant("a", "1", 1))
				if got[0].Err == nil || got[0].Err.Error() != c.want {
					t.Errorf("%v, want %q", got[0].Err, c.want)
				}
			})
		})
	}
}
