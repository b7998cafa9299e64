package supervisor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// former has a supervisor be given a former list.
func former(nodes []*nodetest.Node) func(*supervisor.Config) {
	return func(cfg *supervisor.Config) { cfg.Former = nodetest.Conns(nodes) }
}

// A lease needs a quorum of each list, and an error says which one lacks it. A node that is in both
// has one vote in each.
func TestBothListsAreNeeded(t *testing.T) {
	bubble(t, 7, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[2:] // 2 stays
		sup := start(t, is, former(was))
		if got := fmt.Sprint(sup); got != "supervisor of 5 nodes and 3 former ones" {
			t.Error(got)
		}
		held := acquire(t, sup, "x")
		wantKeys(t, nodes, "x", string(held.Token()), 7)
		status := sup.Nodes()
		for i, want := range []supervisor.List{supervisor.ListBoth, 0, 0, 0, 0, supervisor.ListFormer, supervisor.ListFormer} {
			if s := status[i]; s.List != want || !s.Enrolled || s.Stage != node.StageBegun || s.Floor != 0 {
				t.Errorf("%+v: want it in list %v", s, want)
			}
		}
		text, err := json.Marshal(status[5])
		if err != nil || !strings.Contains(string(text), `"List":"former","Stage":"begun"`) {
			t.Errorf("%s, %v", text, err)
		}
		if h, err := sup.Inspect(t.Context(), "x"); err != nil || !h.Held || h.Token != held.Token() || h.Nodes[6].List != supervisor.ListFormer {
			t.Errorf("%+v, %v", h, err)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h, err := sup.Inspect(t.Context(), "x"); err != nil || !h.Free {
			t.Errorf("%+v, %v", h, err)
		}

		lacking := func(down []*nodetest.Node, want string) {
			t.Helper()
			for _, n := range down {
				n.Crash()
			}
			synctest.Wait()
			_, err := sup.TryAcquire(t.Context(), "x")
			var e *supervisor.AcquireError
			if !errors.As(err, &e) || !errors.Is(err, supervisor.ErrNoQuorum) || e.Quorum != 3 || e.FormerQuorum != 2 ||
				!strings.Contains(err.Error(), "(3 of the 5 Nodes and 2 of the 3 Former ones needed, and ") || !strings.Contains(err.Error(), want+")") {
				t.Errorf("%v: want that %s", err, want)
			}
			if err := sup.Healthy(); !errors.Is(err, supervisor.ErrNoQuorum) || !strings.Contains(err.Error(), "Former ones are enrolled, and 3 and 2 are needed") {
				t.Errorf("healthy: %v", err)
			}
			if h, err := sup.Inspect(t.Context(), "x"); !errors.Is(err, supervisor.ErrNoQuorum) || h.Free || h.Held {
				t.Errorf("%+v, %v", h, err)
			}
			for _, n := range down {
				n.Recover()
			}
			time.Sleep(3 * ttl) // for those that were emptied to grow
			synctest.Wait()
			if err := sup.Healthy(); err != nil {
				t.Error(err)
			}
		}
		lacking(nodes[:2], "and Former lack theirs")
		lacking(nodes[3:6], "and Nodes lack theirs")
		lacking([]*nodetest.Node{nodes[0], nodes[2], nodes[4], nodes[5]}, "lack theirs")
		held = acquire(t, sup, "x")
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A name that one list says is held is held, whichever list that is: a process that was given one
// list alone may hold it.
func TestInspectOfBothLists(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		held := acquire(t, start(t, was, owner("old")), "x")
		sup := start(t, is, former(was), owner("both"))
		if h, err := sup.Inspect(t.Context(), "x"); err != nil || !h.Held || h.Free || h.Owner != "old" || h.Token != held.Token() || h.Left <= 0 {
			t.Errorf("%+v, %v", h, err)
		}
		for _, n := range is {
			n.Crash()
		}
		if h, err := sup.Inspect(t.Context(), "x"); err != nil || !h.Held || h.Owner != "old" {
			t.Errorf("%+v, %v", h, err)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h, err := sup.Inspect(t.Context(), "x"); !errors.Is(err, supervisor.ErrNoQuorum) || h.Free {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

// A lease that rests on both lists is handed over to a process that was given both.
func TestHandOverOfBothLists(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		held := acquire(t, start(t, is, former(was)), "x")
		handle, err := held.HandOver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		third := start(t, nodes[:2])
		if _, err := third.Adopt(within(t, ttl), handle); err == nil {
			t.Error("adopted by a process with other lists")
		}
		l, err := start(t, is, former(was)).Adopt(t.Context(), handle)
		if err != nil || l.Fence() <= held.Fence() {
			t.Fatalf("%v, %v", l, err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", string(l.Token()), 6)
	})
}

// A lease is handed over to a process with another list if each majority of the one has a node in common
// with each of the other, as when nodes are changed one at a time. Otherwise two could hold it.
func TestHandOverToAnotherList(t *testing.T) {
	for name, c := range map[string]struct {
		from, to, until int
		meet            bool
	}{
		"one more":          {0, 4, 3, true},
		"one less":          {0, 2, 3, true},
		"two more":          {0, 5, 3, false},
		"one replaced":      {1, 4, 3, false},
		"one of four moved": {1, 5, 4, true},
		"all replaced":      {3, 6, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
				held := acquire(t, start(t, nodes[:c.until]), "x")
				handle, err := held.HandOver(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				heir := start(t, nodes[c.from:c.to])
				time.Sleep(ttl / 10)
				l, err := heir.Adopt(within(t, ttl/2), handle)
				switch {
				case c.meet && err != nil:
					t.Error(err)
				case c.meet && l.Fence() <= held.Fence():
					t.Errorf("fence %d after %d", l.Fence(), held.Fence())
				case !c.meet && (!errors.Is(err, supervisor.ErrMisconfigured) ||
					!strings.Contains(err.Error(), "rests on nodes that were not given") && !strings.Contains(err.Error(), "older clients use")):
					t.Errorf("%v: want that it rests on other nodes", err)
				}
			})
		})
	}
}

// A list is its word in a text, and read back.
func TestListsInWords(t *testing.T) {
	for list, want := range map[supervisor.List]string{supervisor.ListNodes: "nodes", supervisor.ListFormer: "former", supervisor.ListBoth: "both", 9: "List(9)"} {
		if got := list.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		var back supervisor.List
		if err := back.UnmarshalText([]byte(want)); err != nil || back != list {
			t.Errorf("%s is read as %v: %v", want, back, err)
		}
	}
}
