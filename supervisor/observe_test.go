package supervisor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
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

type ctxKey struct{}

// An observer can tell what a lease is for: the events of a call have its context.
func TestEventsHaveTheContextOfTheCall(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		got := make(map[string][]supervisor.EventKind)
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Ctx == nil {
					got["none"] = append(got["none"], e.Kind)
					return
				}
				of, _ := e.Ctx.Value(ctxKey{}).(string)
				got[of] = append(got[of], e.Kind)
			})
		})
		of := func(call string) context.Context { return context.WithValue(t.Context(), ctxKey{}, call) }
		nothing := func(context.Context) error { return nil }
		want := func(what string, err error, kinds ...supervisor.EventKind) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if !slices.Equal(got[what], kinds) {
				t.Errorf("%s: told %v with its context, want %v", what, got[what], kinds)
			}
		}
		won := supervisor.EventAcquired
		held, err := sup.Acquire(of("Acquire"), "a")
		want("Acquire", err, won)
		_, err = sup.TryAcquire(of("TryAcquire"), "a")
		if err == nil {
			t.Error("TryAcquire has what is held")
		}
		want("TryAcquire", nil, supervisor.EventFailed)
		want("Do", sup.Do(of("Do"), "b", nothing), won)
		want("Lead", sup.Lead(of("Lead"), "c", nothing), won)
		_, err = sup.Once(of("Once"), "d", time.Minute, nothing)
		want("Once", err, won)
		_, err = sup.AcquireAll(of("AcquireAll"), []string{"e", "f"})
		want("AcquireAll", err, won, won)
		_, err = sup.AcquireAny(of("AcquireAny"), []string{"g", "a"})
		want("AcquireAny", err, won)
		_, err = start(t, nodes, func(cfg *supervisor.Config) { cfg.Owner, cfg.Observer = "heir", nil }).Adopt(t.Context(), held.Handle())
		want("Adopt of one without an observer", err)

		ctx, cancel := context.WithCancel(of("given up"))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = sup.Acquire(ctx, "e") })
		time.Sleep(ttl)
		want("given up", nil, supervisor.EventWaiting)
		cancel()
		wg.Wait()
		want("given up", nil, supervisor.EventWaiting, supervisor.EventFailed)

		elder := start(t, nodes, owner("elder"))
		_, err = sup.Adopt(of("Adopt"), acquire(t, elder, "h").Handle())
		want("Adopt", err, supervisor.EventWaiting, won)
		mu.Lock()
		defer mu.Unlock()
		for _, k := range got["none"] {
			if k == won || k == supervisor.EventFailed || k == supervisor.EventWaiting {
				t.Errorf("%v without a context", k)
			}
		}
		if len(got[""]) != 0 {
			t.Errorf("%v with another context", got[""])
		}
	})
}

// An election that has to store a larger fence tells how long that took, and any other tells 0.
func TestEventTellsTheRaise(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		events := make(chan supervisor.Event, 100)
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				if e.Kind == supervisor.EventAcquired {
					events <- e
				}
			})
		})
		const way = 10 * time.Millisecond
		for _, n := range nodes {
			n.Delay(way)
		}
		acquire(t, sup, "plain")
		if e := <-events; e.Raise != 0 || e.Elapsed < way {
			t.Errorf("an election of %v with a raise of %v, want none", e.Elapsed, e.Raise)
		}
		acquire(t, sup, "kept", supervisor.WithMinHold(time.Minute))
		e := <-events
		if e.Raise < way || e.Raise > e.Elapsed-way || e.Elapsed > e.Waited {
			t.Errorf("waited %v, an election of %v and a raise of %v, want one of at least %v that begins as late", e.Waited, e.Elapsed, e.Raise, way)
		}
		text, err := e.MarshalJSON()
		if err != nil || !bytes.Contains(text, []byte(`"Raise":"`+e.Raise.String()+`"`)) || bytes.Contains(text, []byte("Ctx")) {
			t.Errorf("%s, %v: want the raise, and no context", text, err)
		}
	})
}

// A service that holds very many leases logs nothing while they are renewed: a line for each
// renewal would be most of what it writes.
func TestRenewalsAreNotLogged(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		const leases = 10_000
		var logged bytes.Buffer
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		var wg sync.WaitGroup
		for i := range leases {
			wg.Go(func() {
				if _, err := sup.Acquire(t.Context(), fmt.Sprint("lease ", i)); err != nil {
					t.Error(err)
				}
			})
			if i%500 == 499 {
				wg.Wait() // the logger hears up to 1,024 events late
				synctest.Wait()
			}
		}
		before := logged.Len()
		if got := strings.Count(logged.String(), "msg=acquired"); got != leases {
			t.Fatalf("%d leases are logged, want %d", got, leases)
		}
		renewals := func() (n uint64) {
			for _, m := range sup.Stats().Margins {
				n += m
			}
			return n
		}
		from := renewals()
		time.Sleep(3 * ttl)
		synctest.Wait()
		if n := renewals() - from; n < 6*leases {
			t.Errorf("%d renewals, want at least %d", n, 6*leases)
		}
		if more := logged.String()[before:]; more != "" {
			t.Errorf("logged while leases were renewed: %.300s", more)
		}
		if st := sup.Stats(); st.Held != leases || st.Untold != 0 {
			t.Errorf("%d leases are held, and %d events were not told", st.Held, st.Untold)
		}
	})
}

// The keys of what is logged are those that docs/metrics.md lists, each told at least once.
func TestKeysOfTheLog(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(text), "## What is logged\n")
	list, _, _ = strings.Cut(list, "\n## ")
	listed := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| (?:string|uint64|duration) \\|").FindAllStringSubmatch(list, -1) {
		listed[m[1]] = false
	}
	if !ok || len(listed) == 0 {
		t.Fatal("docs/metrics.md lists no keys")
	}
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var mu sync.Mutex
		keys := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				mu.Lock()
				defer mu.Unlock()
				switch a.Key {
				case slog.TimeKey, slog.LevelKey, slog.MessageKey:
				default:
					if _, is := listed[a.Key]; !is {
						t.Errorf("docs/metrics.md does not list the key %q", a.Key)
					}
					listed[a.Key] = true
				}
				return a
			},
		}))
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.Logger = keys })
		nodes[0].Delay(time.Millisecond)
		nodes[1].Delay(time.Millisecond)
		held := acquire(t, sup, "x")
		if _, err := sup.TryAcquire(t.Context(), "x"); err == nil {
			t.Error("acquired twice")
		}
		time.Sleep(ttl)
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		nodes[2].Crash()
		nodes[1].Restart() // it is young now, and with the other that is down nothing can be acquired
		time.Sleep(ttl)
	})
	for key, is := range listed {
		if !is {
			t.Errorf("docs/metrics.md lists the key %q, which nothing was logged with", key)
		}
	}
}
