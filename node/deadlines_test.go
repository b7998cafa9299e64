package node_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// odd is a connection of a user's dialer that knows no deadlines, as a channel of SSH, or
// only says that it does.
type odd struct {
	net.Conn
	err error
}

func (c odd) SetDeadline(time.Time) error      { return c.err }
func (c odd) SetReadDeadline(time.Time) error  { return c.err }
func (c odd) SetWriteDeadline(time.Time) error { return c.err }

func oddly(n *nodetest.Node, err error) node.Conn {
	o := n.Option("")
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, dst string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		c, bad := dial(ctx, dst, d, t)
		if bad != nil {
			return nil, bad
		}
		return odd{c, err}, nil
	}
	return node.FromOption(o)
}

// Over a connection without deadlines the client library goes on. A node that hangs is noticed in
// time, and its answer after that counts; only the news of keys is missing.
func TestConnectionWithoutDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, _ := listening(t, oddly(n, errors.New("deadlines are not supported")), "")
		if r.state.Tracks {
			t.Errorf("%+v", r.state)
		}
		for range 3 {
			wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1"), on(node.Release, "a", "1")), "ok ok ok")
			time.Sleep(time.Second)
		}
		n.Hang()
		from := time.Now()
		got := r.ask(grant("a", "2", 2))
		if took := time.Since(from); took != timeout || got[0].Status != node.Unknown {
			t.Errorf("%v after %v", got, took)
		}
		n.Resume()
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Renew, "a", "2")), "ok")
	})
}

// A connection that says it has deadlines, and does not heed them, keeps nobody waiting for good:
// neither a caller after a pause nor one that gets no answer.
func TestConnectionThatHeedsNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, oddly(n, nil))
		r.enrolled()
		n.Hang() // at once: nothing watches yet
		from := time.Now()
		got := r.ask(grant("a", "1", 1))
		if took := time.Since(from); took != 2*timeout || got[0].Status == node.OK {
			t.Errorf("hangs: %v after %v", got, took)
		}
		n.Resume()
		r.enrolled()
		for range 3 {
			time.Sleep(time.Second)
			from = time.Now()
			got = r.ask(grant("b", "1", 1))
			if took := time.Since(from); took > timeout {
				t.Errorf("behind a pause: %v after %v", got, took)
			}
			if !r.state.Enrolled {
				r.enrolled()
			}
		}
	})
}
