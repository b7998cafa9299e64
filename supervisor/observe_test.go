package supervisor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A line to a node, whose connections a test can end as a server ends an idle one.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) conn(n *nodetest.Node) node.Conn {
	o := n.Option("")
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
		made, err := dial(ctx, addr, d, cfg)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.conns = append(c.conns, made)
		}
		return made, err
	}
	return node.FromOption(o)
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, made := range c.conns {
		_ = made.Close()
	}
	c.conns = nil
}

// What is ordinary warns nobody: a connection that was idle, or broke, and is made anew at
// once. A node that stays away, hangs or has lost its data is told.
func TestOrdinaryWarnsNobody(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(n *nodetest.Node, line *cutter)
		want string // of the events of nodes
		warn bool   // that there are lines at level warn
	}{
		{"idle connections end", func(_ *nodetest.Node, line *cutter) {
			for range 3 {
				time.Sleep(time.Minute)
				line.cut()
			}
		}, "node reconnected, node reconnected, node reconnected", false},
		{"cut under way", func(n *nodetest.Node, line *cutter) {
			n.Delay(10 * time.Millisecond)
			time.Sleep(11 * ttl / 20) // at any moment of a renewal
			line.cut()
		}, "node reconnected", false},
		{"it stays away", func(n *nodetest.Node, _ *cutter) { n.Crash(); time.Sleep(time.Second); n.Recover() }, "node down, node up", true},
		{"it becomes a replica", func(n *nodetest.Node, _ *cutter) {
			n.Fail("EVALSHA", "READONLY You can't write against a read only replica.")
			time.Sleep(ttl) // each renewal is told that
			n.Fail("EVALSHA", "")
		}, "node down, node up", true},
		{"it hangs", func(n *nodetest.Node, _ *cutter) { n.Hang(); time.Sleep(ttl); n.Resume() }, "node down, node up", true},
		{"it is flushed", func(n *nodetest.Node, _ *cutter) { n.Flush() }, "node down, node up", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				line := &cutter{}
				var logged bytes.Buffer
				var mu sync.Mutex
				var kinds []string
				sup := start(t, nodes, func(cfg *supervisor.Config) {
					cfg.Nodes[0] = line.conn(nodes[0])
					cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelInfo}))
					cfg.Observer = observer(func(e supervisor.Event) {
						mu.Lock()
						defer mu.Unlock()
						if e.Node != "" {
							kinds = append(kinds, e.Kind.String())
						}
						if e.Kind == supervisor.EventReconnected && e.Err == nil {
							t.Error("nobody knows why it had ended")
						}
					})
				})
				held := acquire(t, sup, "x")
				mu.Lock()
				kinds = nil
				mu.Unlock()
				c.do(nodes[0], line)
				time.Sleep(time.Second)
				if !held.Valid() {
					t.Error(held.Err())
				}
				synctest.Wait()
				mu.Lock()
				told := slices.Clone(kinds)
				mu.Unlock()
				sup.Close(canceled()) // cuts the connections, which is ordinary as well
				synctest.Wait()
				got := strings.Join(told, ", ")
				for twice := "node down, node up, node down, node up"; strings.HasPrefix(got, twice); {
					got = strings.TrimPrefix(got, "node down, node up, ")
				}
				if got != c.want {
					t.Errorf("told %q, want %q", got, c.want)
				}
				if strings.Contains(logged.String(), "level=WARN") != c.warn {
					t.Errorf("warned, or not, other than wanted:\n%s", logged.String())
				}
				if !c.warn && strings.Count(logged.String(), "node up") != 3 {
					t.Errorf("more than the first enrolments is told:\n%s", logged.String())
				}
			})
		})
	}
}
