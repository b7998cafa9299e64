package top_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/list"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/redistest"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/top"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A screen is a terminal that shows what is drawn last.
type screen struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

// shown returns the last whole picture, without escape sequences.
func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	pictures := strings.Split(s.all.String(), "\x1b[H")
	last := pictures[len(pictures)-1]
	return strings.NewReplacer("\x1b[K", "", "\x1b[J", "", "\x1b[1m", "", "\x1b[0m", "", "\r", "").Replace(last)
}

func TestRun(t *testing.T) {
	servers := redistest.StartAll(t, 3)
	var nodes []node.Conn
	for _, s := range servers {
		nodes = append(nodes, node.URL(s.URL()))
	}
	start := func(owner string) *supervisor.Supervisor {
		sup, err := supervisor.New(supervisor.Config{Nodes: nodes, Owner: owner})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sup.Close(t.Context()) })
		return sup
	}
	alpha, beta := start("alpha"), start("beta")
	for i := range 40 {
		if _, err := alpha.Acquire(t.Context(), fmt.Sprintf("job %02d", i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() {
		_, err := beta.Acquire(ctx, "job 17")
		waits <- err
	}()
	redistest.Until(t, "somebody waits", func() bool {
		h, err := alpha.Inspect(t.Context(), "job 17")
		return err == nil && h.Waiting == 1
	})
	finder := list.NewFinder(list.Config{Nodes: nodes, Limit: 100, Within: time.Minute})
	defer finder.Close()
	out := new(screen)
	cfg := top.Config{Supervisor: alpha, Finder: finder, Every: 20 * time.Millisecond, Out: out}

	keys, typed := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- top.Run(t.Context(), cfg, top.Terminal{Keys: keys, Size: func() (int, int) { return 100, 20 }})
	}()
	redistest.Until(t, "the longest queue is first", func() bool {
		_, names, _ := strings.Cut(out.shown(), "NAME ")
		lines := strings.Split(names, "\n")
		return len(lines) > 2 && strings.HasPrefix(lines[1], "job 17") && strings.HasPrefix(lines[2], "job 00")
	})
	picture := out.shown()
	for _, want := range []string{"leasehold top ", "3 of 3 nodes", "40 names", "1 waiting", servers[2].Addr, "alpha", "q quits"} {
		if !strings.Contains(picture, want) {
			t.Errorf("no %q in\n%s", want, picture)
		}
	}
	if n := strings.Count(picture, "\n"); n != 19 {
		t.Errorf("%d lines in a terminal of 20:\n%s", n+1, picture)
	}
	typed.Write([]byte("\x1b[6~"))
	redistest.Until(t, "it has moved down", func() bool {
		return strings.Contains(out.shown(), "job 20") && !strings.Contains(out.shown(), "leasehold top")
	})
	for range 10 {
		typed.Write([]byte("\x1b[6~"))
	}
	redistest.Until(t, "it has moved to the end", func() bool { return strings.Contains(out.shown(), "job 39") })
	for range 20 {
		typed.Write([]byte("k\x1b[A\x1b[5~"))
	}
	redistest.Until(t, "it has moved up again", func() bool { return strings.Contains(out.shown(), "leasehold top") })

	one := top.Once(t.Context(), cfg)
	b, err := json.Marshal(one)
	var read struct {
		Nodes []struct{ Node, Mean, Up, Latency string }
		Names []struct {
			Name, Owner string
			Waiting     int
		}
	}
	if err == nil {
		err = json.Unmarshal(b, &read)
	}
	if err != nil || len(read.Nodes) != 3 || len(read.Names) != 40 || read.Names[0].Name != "job 17" || read.Names[0].Waiting != 1 || read.Nodes[0].Mean == "" || read.Nodes[0].Node != servers[0].Addr {
		t.Errorf("%v: %s", err, b)
	}

	typed.Write([]byte("q"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if all := out.all.String(); !strings.HasPrefix(all, "\x1b[?1049h") || !strings.HasSuffix(all, "\x1b[?25h\x1b[?1049l") {
		t.Errorf("the terminal is not as it was: %q", all[max(0, len(all)-100):])
	}
	cancel()
	<-waits
}

// It ends with its context, and says so.
func TestRunEnds(t *testing.T) {
	servers := redistest.StartAll(t, 1)
	nodes := []node.Conn{node.URL(servers[0].URL())}
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	defer sup.Close(t.Context())
	finder := list.NewFinder(list.Config{Nodes: nodes, Limit: 100, Within: time.Minute})
	defer finder.Close()
	ctx, cancel := context.WithCancel(t.Context())
	keys, typed := io.Pipe()
	defer typed.Close()
	ended := make(chan error, 1)
	out := new(screen)
	go func() {
		ended <- top.Run(ctx, top.Config{Supervisor: sup, Finder: finder, Every: time.Hour, Out: out},
			top.Terminal{Keys: keys, Size: func() (int, int) { return 3, 1 }})
	}()
	redistest.Until(t, "it has drawn", func() bool { return strings.Contains(out.shown(), "q") })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What is wrong with a node is said under the nodes.
func TestLines(t *testing.T) {
	p := top.Picture{Nodes: []top.Node{
		{NodeStatus: supervisor.NodeStatus{Node: "a:1", Err: errors.New("refused\x1b[2J")}},
		{NodeStatus: supervisor.NodeStatus{Node: "b:1", Enrolled: true, Guarded: true, Young: 3 * time.Second, Disagrees: "other clients use 5 nodes"}},
		{NodeStatus: supervisor.NodeStatus{Node: "c:1", Enrolled: true, Guarded: true, NoInbox: errors.New("NOPERM")}},
		{NodeStatus: supervisor.NodeStatus{Node: "d:1"}},
	}, More: true, Err: "1 of 3 nodes were looked through"}
	text := strings.Join(p.Lines(), "\n")
	for _, want := range []string{"a:1   DOWN", "b:1   young 3s", "c:1   up", "d:1   connecting", "  a:1: refused [2J\n", "  b:1: other clients use 5 nodes\n", "  c:1: waiters are not notified: NOPERM\n", "\n... and more\n1 of 3 nodes"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
