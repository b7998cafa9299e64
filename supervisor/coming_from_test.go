package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock/clocktest"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// comingFrom are the tests behind the table of docs/coming-from.md, one for each of
// its rows.
var comingFrom = []struct {
	name string
	test func(t *testing.T)
}{
	{"Connections", comingFromConnections},
	{"DefaultNode", comingFromDefaultNode},
	{"Timeout", comingFromTimeout},
	{"Drift", comingFromDrift},
	{"RetryCount", comingFromRetryCount},
	{"RetryDelay", comingFromRetryDelay},
	{"Lock", comingFromLock},
	{"NotAcquired", comingFromNotAcquired},
	{"NoQuorum", comingFromNoQuorum},
	{"Valid", comingFromValid},
	{"IsLocked", comingFromIsLocked},
	{"Extend", comingFromExtend},
	{"ExtendFails", comingFromExtendFails},
	{"Unlock", comingFromUnlock},
	{"UnlockFails", comingFromUnlockFails},
	{"Scope", comingFromScope},
	{"Destroy", comingFromDestroy},
	{"ValidityExpires", comingFromValidityExpires},
}

func TestComingFrom(t *testing.T) {
	for _, c := range comingFrom {
		t.Run(c.name, c.test)
	}
}

// Every row of the table names its test, and every test is named.
func TestComingFromTable(t *testing.T) {
	page, err := os.ReadFile("../docs/coming-from.md")
	if err != nil {
		t.Fatal(err)
	}
	var named, have []string
	for _, m := range regexp.MustCompile("`TestComingFrom/([A-Za-z]+)`").FindAllSubmatch(page, -1) {
		if name := string(m[1]); !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	for _, c := range comingFrom {
		have = append(have, c.name)
	}
	slices.Sort(named)
	slices.Sort(have)
	if !slices.Equal(named, have) {
		t.Errorf("the page names the tests\n%v, but there are\n%v", named, have)
	}
}

// Every test that a document names exists.
func TestTestsNamedInDocs(t *testing.T) {
	exists := make(map[string]bool)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(code, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	must := map[string]bool{"coming-from.md": true, "guarantees.md": true, "mutants.md": true, "operating.md": true, "testing.md": true}
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/decisions/*.md"} {
		some, err := filepath.Glob(pattern)
		if err != nil || len(some) == 0 {
			t.Fatalf("%s: no pages, %v", pattern, err)
		}
		pages = append(pages, some...)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`(Test\\w+)").FindAllSubmatch(text, -1)
		if len(named) == 0 && must[filepath.Base(page)] {
			t.Errorf("%s names no test", page)
		}
		for _, m := range named {
			if !exists[string(m[1])] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// standard starts a supervisor with nothing set but what a test cannot do without.
func standard(t *testing.T, nodes []*nodetest.Node) *supervisor.Supervisor {
	return start(t, nodes, func(cfg *supervisor.Config) {
		*cfg = supervisor.Config{Nodes: cfg.Nodes, Clock: cfg.Clock}
	})
}

// Host and port, parts with a database number, and a URL all reach their server. It
// runs on real sockets and in real time: a bubble has none.
func comingFromConnections(t *testing.T) {
	nodes := nodetest.Start(3)
	lines := make([]*line, len(nodes))
	for i, n := range nodes {
		n.Reply("SELECT", "+OK\r\n") // it has but one database
		lines[i] = listen(t, n)
	}
	host, port, err := net.SplitHostPort(lines[0].addr)
	if err != nil {
		t.Fatal(err)
	}
	parts := nodes[1].Option("") // its type is the client library's
	parts.InitAddress, parts.SelectDB, parts.DialCtxFn = []string{lines[1].addr}, 1, nil
	up := make(chan string, 100)
	sup, err := supervisor.New(supervisor.Config{
		Nodes: []node.Conn{
			node.URL(net.JoinHostPort(host, port)),
			node.FromOption(parts),
			node.URL("redis://" + lines[2].addr + "/2"),
		},
		TTL: time.Minute, // and so 3 s for a node to answer, on however busy a machine
		Observer: observer(func(e supervisor.Event) {
			if e.Kind == supervisor.EventNodeUp {
				up <- e.Node
			}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sup.Close(context.Background())
	for reached := make(map[string]bool); len(reached) < 3; {
		select {
		case label := <-up:
			reached[label] = true
		case <-time.After(time.Minute):
			t.Fatalf("reached %v only: %+v", reached, sup.Nodes())
		}
	}
	if _, err := sup.TryAcquire(t.Context(), "resource"); err != nil {
		t.Error(err)
	}
	for i, want := range []string{"", "SELECT\r\n$1\r\n1\r\n", "SELECT\r\n$1\r\n2\r\n"} {
		sent := lines[i].sent()
		if !strings.Contains(sent, want) || want == "" && strings.Contains(sent, "SELECT") {
			t.Errorf("node %d was not asked for its database:\n%q", i, sent)
		}
	}
}

// A line connects a port of the loopback interface to a node in memory.
type line struct {
	addr string
	mu   sync.Mutex
	log  []byte
}

// sent returns what clients have sent over it.
func (l *line) sent() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.log)
}

func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, b...)
	return len(b), nil
}

func listen(t *testing.T, n *nodetest.Node) *line {
	t.Helper()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{addr: port.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := port.Accept()
			if err != nil {
				return
			}
			server, err := n.Dial(context.Background(), "")
			if err != nil {
				client.Close()
				continue
			}
			wg.Go(func() { io.Copy(io.MultiWriter(server, l), client); server.Close() })
			wg.Go(func() { io.Copy(client, server); client.Close() })
		}
	})
	t.Cleanup(func() {
		port.Close()
		n.Close()
		wg.Wait()
	})
	return l
}

// Without a list of nodes there is one, on localhost, and a warning says so: a list that was
// forgotten would lock on nobody else's server.
func comingFromDefaultNode(t *testing.T) {
	var logged bytes.Buffer
	var told []supervisor.Event
	sup, err := supervisor.New(supervisor.Config{
		Observer:     supervisor.ObserverFunc(func(e supervisor.Event) { told = append(told, e) }),
		Logger:       slog.New(slog.NewTextHandler(&logged, nil)),
		DisableGuard: true, // it writes nothing, should there be a server
	})
	if err != nil {
		t.Fatal(err)
	}
	if nodes := sup.Nodes(); len(nodes) != 1 || nodes[0].Node != "localhost:6379" {
		t.Errorf("nodes %v", nodes)
	}
	_ = sup.Close(within(t, time.Minute))
	const words = "Config.Nodes is empty: only redis://localhost:6379 is used"
	if len(told) == 0 || told[0].Kind != supervisor.EventWarning || !strings.Contains(told[0].Err.Error(), words) {
		t.Errorf("told %v", told)
	}
	if text := logged.String(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, words) {
		t.Errorf("logged %s", text)
	}

	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
				if e.Kind == supervisor.EventWarning && strings.Contains(e.Err.Error(), "Config.Nodes") {
					t.Errorf("told %v of nodes that were given", e.Err)
				}
			})
		})
	})
}

// The lock's timeout is the TTL of its keys: 10 s, or the supervisor's, or the
// lease's own.
func comingFromTimeout(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		five := start(t, nodes, func(cfg *supervisor.Config) { cfg.TTL = 5 * time.Second })
		for name, c := range map[string]struct {
			sup  *supervisor.Supervisor
			opts []supervisor.Option
			want time.Duration
		}{
			"default":   {standard(t, nodes), nil, 10 * time.Second},
			"set":       {five, nil, 5 * time.Second},
			"one lease": {five, opts(supervisor.WithTTL(2 * time.Second)), 2 * time.Second},
		} {
			acquire(t, c.sup, name, c.opts...)
			synctest.Wait()
			if _, left, ok := nodes[0].Get(name); !ok || left != c.want {
				t.Errorf("%s: the key lives for %v, want %v", name, left, c.want)
			}
		}
	})
}

// The allowance for clock drift is a hundredth of the TTL and 2 ms unless it is set,
// and is taken off the validity.
func comingFromDrift(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, standard(t, nodes), "x")
		if left, want := held.Remaining(), 10*time.Second-102*time.Millisecond; left != want {
			t.Errorf("valid for %v, want %v", left, want)
		}
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.TTL, cfg.Drift = 10*time.Second, time.Second })
		if left := acquire(t, sup, "y").Remaining(); left != 9*time.Second {
			t.Errorf("valid for %v, want 9s", left)
		}
	})
}

// WithAttempts bounds how often a name is tried for.
func comingFromRetryCount(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Set("resource", "another library's", 0)
		}
		_, err := standard(t, nodes).Acquire(t.Context(), "resource", supervisor.WithAttempts(3))
		if !errors.Is(err, supervisor.ErrHeld) {
			t.Errorf("Acquire = %v, want ErrHeld", err)
		}
		synctest.Wait()
		for _, n := range nodes {
			if tries := n.Commands()["SET"]; tries != 3 {
				t.Errorf("%v was tried %d times, want 3", n, tries)
			}
		}
	})
}

// A retry waits for a random time between two bounds, 0.1 and 0.3 s unless set.
func comingFromRetryDelay(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Set("resource", "another library's", 0)
		}
		pause := func(sup *supervisor.Supervisor) time.Duration {
			_, _ = sup.TryAcquire(t.Context(), "resource") // the nodes are known from here on
			from := time.Now()
			if _, err := sup.Acquire(t.Context(), "resource", supervisor.WithAttempts(2)); !errors.Is(err, supervisor.ErrHeld) {
				t.Errorf("Acquire = %v, want ErrHeld", err)
			}
			return time.Since(from)
		}
		sup, seen := standard(t, nodes), make(map[time.Duration]bool)
		for range 20 {
			d := pause(sup)
			if seen[d] = true; d < 100*time.Millisecond || d > 300*time.Millisecond {
				t.Errorf("paused for %v", d)
			}
		}
		if len(seen) < 2 {
			t.Error("every pause was as long as the others")
		}
		sup = start(t, nodes, func(cfg *supervisor.Config) { cfg.RetryMin, cfg.RetryMax = time.Second, time.Second })
		if d := pause(sup); d != time.Second {
			t.Errorf("paused for %v, want 1s", d)
		}
	})
}

// Acquire locks the name on the nodes.
func comingFromLock(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, standard(t, nodes), "resource")
		if !held.Valid() {
			t.Error("not valid")
		}
		synctest.Wait()
		wantKeys(t, nodes, "resource", string(held.Token()), 3)
	})
}

// A name that another has is an error that says so, and who has it.
func comingFromNotAcquired(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		acquire(t, start(t, nodes, owner("the other")), "resource")
		sup := standard(t, nodes)
		_, try := sup.TryAcquire(t.Context(), "resource")
		_, err := sup.Acquire(within(t, time.Second), "resource")
		for call, err := range map[string]error{"TryAcquire": try, "Acquire": err} {
			var e *supervisor.AcquireError
			if !errors.Is(err, supervisor.ErrHeld) || errors.Is(err, supervisor.ErrNoQuorum) ||
				!errors.As(err, &e) || !slices.ContainsFunc(e.Nodes, func(a supervisor.Answer) bool { return a.Owner == "the other" }) {
				t.Errorf("%s = %v, want ErrHeld by the other", call, err)
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire = %v, want the context's error as well", err)
		}
	})
}

// That no quorum can be had is another error, which says why.
func comingFromNoQuorum(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		nodes[0].Crash()
		nodes[1].Crash()
		_, err := standard(t, nodes).TryAcquire(t.Context(), "resource")
		if !errors.Is(err, supervisor.ErrNoQuorum) || errors.Is(err, supervisor.ErrHeld) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("TryAcquire = %v, want ErrNoQuorum", err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "resource", "", 0)
	})
}

// Valid is true from the acquisition to the release.
func comingFromValid(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, standard(t, nodes), "resource")
		time.Sleep(time.Minute) // it renews itself
		if !held.Valid() {
			t.Fatal(held.Err())
		}
		if err := held.Release(t.Context()); err != nil || held.Valid() {
			t.Errorf("Release = %v, valid %v", err, held.Valid())
		}
	})
}

// Inspect tells whether a name is locked, by whom, and for how long.
func comingFromIsLocked(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes, owner("sup")), standard(t, nodes)
		look := func(held bool) supervisor.Holding {
			h, err := other.Inspect(t.Context(), "resource")
			if err != nil || h.Held != held || h.Free == held {
				t.Errorf("%+v, %v; want held %v", h, err, held)
			}
			return h
		}
		look(false)
		held := acquire(t, sup, "resource")
		synctest.Wait()
		if h := look(true); h.Owner != "sup" || h.Left != ttl || h.Fence != held.Fence() {
			t.Errorf("%+v", h)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		look(false)
	})
}

// Extend gives the lock its whole lifetime again.
func comingFromExtend(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, standard(t, nodes), "resource", supervisor.WithoutRenewal())
		full := held.Remaining()
		time.Sleep(8 * time.Second)
		if left := held.Remaining(); left != full-8*time.Second {
			t.Errorf("valid for %v", left)
		}
		if err := held.Extend(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if left := held.Remaining(); left != full {
			t.Errorf("valid for %v after Extend, want %v", left, full)
		}
		synctest.Wait() // a quorum has confirmed it; now every node has
		if _, left, _ := nodes[0].Get("resource"); left != 10*time.Second {
			t.Errorf("the key lives for %v after Extend, want 10s", left)
		}
	})
}

// An extension that a quorum has not confirmed is an error, but not yet a loss.
func comingFromExtendFails(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, standard(t, nodes), "resource", supervisor.WithoutRenewal())
		nodes[0].Hang()
		nodes[1].Hang()
		if err := held.Extend(within(t, time.Second), 10*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Extend = %v, want the context's error", err)
		}
		if !held.Valid() {
			t.Error("lost although its time is not over")
		}
		<-held.Lost()
		if err := held.Extend(t.Context(), 10*time.Second); !errors.Is(err, lease.ErrExpired) {
			t.Errorf("Extend of a lost lease = %v, want ErrExpired", err)
		}
	})
}

// Release unlocks the name on every node, and no name of another.
func comingFromUnlock(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := standard(t, nodes)
		held := acquire(t, sup, "resource")
		synctest.Wait()
		nodes[2].Set("resource", "another's", 0)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if held.Valid() {
			t.Error("valid after Release")
		}
		synctest.Wait()
		wantKeys(t, nodes, "resource", "", 1)
		wantKeys(t, nodes, "resource", "another's", 1)
		if err := held.Release(t.Context()); err != nil {
			t.Errorf("Release once more = %v", err)
		}
		acquire(t, sup, "resource") // two of three are enough
	})
}

// A release that a quorum has not confirmed is an error that names the nodes.
func comingFromUnlockFails(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		held := acquire(t, standard(t, nodes), "resource")
		synctest.Wait()
		nodes[0].Crash()
		nodes[1].Hang()
		err := held.Release(within(t, time.Second))
		var e *supervisor.ReleaseError
		if !errors.As(err, &e) || len(e.Nodes) != 2 || e.Nodes[0].Node != nodes[0].String() || e.Nodes[1].Node != nodes[1].String() || e.Left > 10*time.Second || e.Left < 9*time.Second {
			t.Fatalf("Release = %v, want an error that names two nodes", err)
		}
		if held.Valid() {
			t.Error("valid after Release")
		}
		nodes[1].Resume() // it is told again without anybody asking
		time.Sleep(2 * time.Second)
		if _, _, ok := nodes[1].Get("resource"); ok {
			t.Error("the key is still there")
		}
	})
}

// Do holds the name while a function runs, which may extend it.
func comingFromScope(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := standard(t, nodes)
		var held *lease.Lease
		err := sup.Do(t.Context(), "resource", func(ctx context.Context) error {
			held = lease.FromContext(ctx)
			if !held.Valid() {
				t.Error("not valid in its scope")
			}
			return held.Extend(ctx, 10*time.Second)
		})
		if err != nil || held.Valid() {
			t.Errorf("Do = %v, valid afterwards %v", err, held.Valid())
		}
		synctest.Wait()
		wantKeys(t, nodes, "resource", "", 0)
	})
}

// Close releases everything that is held, and closes every connection.
func comingFromDestroy(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := standard(t, nodes)
		for i := range 10 {
			acquire(t, sup, fmt.Sprintf("resource-%d", i))
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for i := range 10 {
			wantKeys(t, nodes, fmt.Sprintf("resource-%d", i), "", 0)
		}
	}) // whose end fails if a goroutine of a connection is left
}

// The to-do of that README: a lock's validity that expires by itself, safely. It
// ends by the grace and the drift before the first key does, told at the
// instant to a caller that asks, and by a channel to one that waits; a client that runs fast or
// slow by a hundredth makes no difference.
func comingFromValidityExpires(t *testing.T) {
	for _, rate := range []float64{0.99, 1, 1.01} {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, func(cfg *supervisor.Config) {
				*cfg = supervisor.Config{Nodes: cfg.Nodes, Clock: clocktest.Skewed(cfg.Clock, rate)}
			})
			held := acquire(t, sup, "resource", supervisor.WithoutRenewal())
			synctest.Wait()
			for _, n := range nodes {
				n.Hang() // nobody is told anything any more
			}
			from := time.Now()
			ctx := held.Context(t.Context())
			<-held.Lost()
			wantKeys(t, nodes, "resource", string(held.Token()), 3)
			for _, n := range nodes {
				if _, left, _ := n.Get("resource"); left < 400*time.Millisecond || left > 800*time.Millisecond {
					t.Errorf("rate %v: %v still keeps the key for %v when its holder is told", rate, n, left)
				}
			}
			if lasted := time.Since(from).Truncate(time.Microsecond); rate == 1 && lasted != (10000-102-500)*time.Millisecond {
				t.Errorf("lasted %v, want the TTL less drift and grace", lasted)
			}
			<-ctx.Done()
			if held.Valid() || !errors.Is(held.Err(), lease.ErrExpired) || !errors.Is(context.Cause(ctx), held.Err()) {
				t.Errorf("valid %v, Err %v, cause %v", held.Valid(), held.Err(), context.Cause(ctx))
			}
		})
	}
}
