package list_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/list"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/redistest"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// supervise makes a supervisor, which ends with the test.
func supervise(t *testing.T, cfg supervisor.Config) *supervisor.Supervisor {
	t.Helper()
	sup, err := supervisor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sup.Close(t.Context()) })
	return sup
}

func nodesOf(servers []*redistest.Server) (nodes []node.Conn) {
	for _, s := range servers {
		nodes = append(nodes, node.URL(s.URL()))
	}
	return nodes
}

// Names that are held are found among very many other keys, and others are not.
func TestFind(t *testing.T) {
	servers := redistest.StartAll(t, 3)
	nodes := nodesOf(servers)
	alpha := supervise(t, supervisor.Config{Nodes: nodes, Owner: "alpha", Prefix: "lock[1]*:"})
	beta := supervise(t, supervisor.Config{Nodes: nodes, Owner: "beta", Prefix: "lock[1]*:"})
	other := supervise(t, supervisor.Config{Nodes: nodes, Owner: "other"})
	for _, s := range servers {
		var fill [][]string
		for i := range 3000 {
			fill = append(fill, []string{"SET", fmt.Sprint("cache:", i), "x"})
		}
		s.Do(append(fill, []string{"SET", "lock[1]*:redlock", "8f3a", "PX", "60000"}, []string{"RPUSH", "lock[1]*:list", "alpha/ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
			[]string{"SET", "lock1:x", "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"})...)
	}
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("job %02d", i)
		held, err := alpha.Acquire(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Release(t.Context())
		want = append(want, name)
	}
	if _, err := other.Acquire(t.Context(), "elsewhere"); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := beta.Acquire(ctx, "job 07")
		waits <- err
	}()
	redistest.Until(t, "somebody waits", func() bool {
		h, err := alpha.Inspect(t.Context(), "job 07")
		return err == nil && h.Waiting == 1
	})

	f := list.NewFinder(list.Config{Nodes: nodes, Prefix: "lock[1]*:", Limit: 100, Within: time.Minute})
	defer f.Close()
	for range 2 {
		found := f.Find(t.Context())
		if !slices.Equal(found.Names, want) || found.More || found.Err != nil || len(found.Up) != 3 {
			t.Fatalf("%q, want %q; %v", found.Names, want, found)
		}
	}
	all := list.InUse(list.Look(t.Context(), alpha, append(want, "nobody has this"), 3))
	if len(all) != 20 || all[7].Name != "lock[1]*:job 07" || all[7].Waiting != 1 || all[7].Owner != "alpha" || all[6].Waiting != 0 || all[6].Fence == 0 {
		t.Errorf("%+v", all)
	}

	few := list.NewFinder(list.Config{Nodes: nodes, Prefix: "lock[1]*:", Limit: 5, Within: time.Minute})
	defer few.Close()
	if found := few.Find(t.Context()); len(found.Names) != 5 || !found.More {
		t.Errorf("%+v", found)
	}
	without := list.NewFinder(list.Config{Nodes: nodes, Limit: 100, Within: time.Minute})
	defer without.Close()
	if found := without.Find(t.Context()); len(found.Names) != 22 || !slices.Contains(found.Names, "elsewhere") || !slices.Contains(found.Names, "lock[1]*:job 19") {
		t.Errorf("%+v", found)
	}
	cancel()
	<-waits
}

// With one of three nodes down all names are found; with two, it is said that some may be missing.
func TestFindWithNodesDown(t *testing.T) {
	servers := redistest.StartAll(t, 2)
	nodes := append(nodesOf(servers), node.URL("redis://:geheim@127.0.0.1:1"))
	sup := supervise(t, supervisor.Config{Nodes: nodes})
	held, err := sup.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release(t.Context())
	f := list.NewFinder(list.Config{Nodes: nodes, Limit: 10, Within: time.Minute})
	defer f.Close()
	if found := f.Find(t.Context()); !slices.Equal(found.Names, []string{"x"}) || found.Err != nil {
		t.Errorf("%+v", found)
	}
	g := list.NewFinder(list.Config{Nodes: append(nodes[1:], node.URL("redis://127.0.0.1:2")), Limit: 10, Within: time.Minute})
	defer g.Close()
	found := g.Find(t.Context())
	if found.Err == nil || !strings.Contains(found.Err.Error(), "1 of 3 nodes were looked through") || strings.Contains(found.Err.Error(), "geheim") {
		t.Errorf("%+v", found)
	}
}

// Nodes that have once been too slow are asked again, and those that are down are not.
func TestInspectAgain(t *testing.T) {
	servers := redistest.StartAll(t, 3)
	slow := func(s *redistest.Server) node.Conn {
		return node.URL(s.Proxy(redistest.Fault{Delay: 60 * time.Millisecond}))
	}
	sup := supervise(t, supervisor.Config{Nodes: []node.Conn{slow(servers[0]), slow(servers[1]), node.URL(servers[2].URL())}, TTL: 2 * time.Second})
	redistest.Until(t, "all are connected", func() bool { return sup.Healthy() == nil })
	if h, err := list.Inspect(t.Context(), sup, "x", 8); err != nil || !h.Free {
		t.Errorf("%+v, %v", h, err)
	}
	down := supervise(t, supervisor.Config{Nodes: node.URLs("redis://127.0.0.1:1", "redis://127.0.0.1:2", servers[2].URL())})
	redistest.Until(t, "the third is connected", func() bool { return down.Nodes()[2].Enrolled })
	if _, err := list.Inspect(t.Context(), down, "x", 1<<30); !errors.Is(err, supervisor.ErrNoQuorum) {
		t.Error(err)
	}
}
