package supervisor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// disagrees returns what a supervisor says of other clients' nodes, with the labels of those that say so.
func disagrees(sup *supervisor.Supervisor) string {
	var all []string
	for _, s := range sup.Nodes() {
		if s.Disagrees != "" {
			all = append(all, s.Node+": "+s.Disagrees)
		}
	}
	return strings.Join(all, "; ")
}

// Of two clients whose lists of nodes do not meet, the younger one acquires nothing, says why, and
// keeps nothing from the older one. When that is gone it acquires.
func TestNewcomerGivesWay(t *testing.T) {
	for name, c := range map[string]struct {
		was, is []int
		words   string
	}{
		"two of three are others": {[]int{0, 1, 2}, []int{2, 3, 4}, "older clients use 3 nodes, 2 of them unknown to this client"},
		"five after three":        {[]int{0, 1, 2}, []int{0, 1, 2, 3, 4}, "older clients use 3 nodes"},
		"three after five":        {[]int{0, 1, 2, 3, 4}, []int{0, 1, 2}, "older clients use 5 nodes, 2 of them unknown to this client"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
				some := func(list []int) (of []*nodetest.Node) {
					for _, i := range list {
						of = append(of, nodes[i])
					}
					return of
				}
				older := start(t, some(c.was), owner("older"))
				kept := acquire(t, older, "kept")
				time.Sleep(10 * time.Millisecond)
				younger := start(t, some(c.is), owner("younger"))
				for k := range 3 {
					_, err := younger.TryAcquire(t.Context(), "x")
					if err == nil || !strings.Contains(err.Error(), "so nothing is acquired, because both could hold one name at once: give all clients the same nodes") {
						t.Fatalf("%v", err)
					}
					if k > 0 && !strings.Contains(err.Error(), c.words) { // at first not all nodes were met
						t.Errorf("%v: want %q", err, c.words)
					}
					begun := time.Now()
					if _, err := younger.Acquire(t.Context(), "x"); err == nil || time.Since(begun) > 0 {
						t.Errorf("%v after %v", err, time.Since(begun))
					}
					time.Sleep(ttl)
				}
				if got := disagrees(younger); !strings.Contains(got, c.words) {
					t.Errorf("the younger one says %q", got)
				}
				if got := disagrees(older); !strings.Contains(got, "other clients use") && name != "two of three are others" {
					t.Errorf("the older one says %q", got)
				}
				if err := acquire(t, older, "x").Release(t.Context()); err != nil {
					t.Error(err)
				}
				if kept.Err() != nil {
					t.Error(kept.Err())
				}
				older.Close(t.Context())
				time.Sleep(6 * ttl)
				acquire(t, younger, "x")
				if got := disagrees(younger); got != "" {
					t.Errorf("the younger one says %q when it is alone", got)
				}
			})
		})
	}
}

// What a client holds goes on when it finds an older one on a node that it had not reached.
func TestNewcomerKeepsWhatItHolds(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		older := start(t, nodes[:3], owner("older"))
		acquire(t, older, "x")
		time.Sleep(10 * time.Millisecond)
		nodes[2].Crash()
		younger := start(t, nodes[2:], owner("younger"))
		held := acquire(t, younger, "y")
		nodes[2].Recover()
		time.Sleep(3 * ttl)
		if _, err := younger.TryAcquire(t.Context(), "z"); err == nil {
			t.Error("acquired")
		}
		if held.Err() != nil {
			t.Error(held.Err())
		}
	})
}

// A client that finds no common node sees the other one by a process that was told both lists.
func TestEntriesAreCopied(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		start(t, nodes[:3], owner("old"))
		time.Sleep(10 * time.Millisecond)
		start(t, nodes[3:], former(nodes[:3]), owner("both"))
		time.Sleep(2 * ttl)
		lone := start(t, nodes[3:], owner("lone"))
		time.Sleep(time.Second)
		if got := disagrees(lone); !strings.Contains(got, "other clients use 3 nodes") && !strings.Contains(got, "older clients use 3 nodes") {
			t.Errorf("it says %q", got)
		}
	})
}
