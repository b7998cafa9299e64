package supervisor_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// becomes waits until a condition holds, and not for ever.
func becomes(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 200 {
		if is() {
			return
		}
		time.Sleep(ttl / 10)
	}
	t.Fatalf("not so after %v: %s", 20*ttl, what)
}

// All nodes are replaced under a held lease for which another process waits: it goes on, and the waiter
// gets the name after it, with a larger fence.
func TestReconfigure(t *testing.T) {
	for name, c := range map[string]struct{ formerTo, presentFrom int }{"all": {3, 3}, "two of five": {5, 2}, "to five": {3, 0}} {
		t.Run(name, func(t *testing.T) {
			n := map[string]int{"all": 6, "two of five": 7, "to five": 5}[name]
			bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
				was, is := nodes[:c.formerTo], nodes[c.presentFrom:]
				sups := []*supervisor.Supervisor{start(t, was, owner("first")), start(t, was, owner("second"))}
				held := acquire(t, sups[0], "x")
				got := make(chan *lease.Lease, 1)
				go func() {
					l, err := sups[1].Acquire(t.Context(), "x")
					if err != nil {
						t.Error(err)
					}
					got <- l
				}()
				time.Sleep(ttl)
				for _, sup := range sups {
					if err := sup.Reconfigure(t.Context(), nodetest.Conns(is), nodetest.Conns(was)); err != nil {
						t.Fatal(err)
					}
					if err := sup.Reconfigure(t.Context(), nodetest.Conns(is), nil); !errors.Is(err, supervisor.ErrTooEarly) {
						t.Errorf("%v: want that it is too early", err)
					}
				}
				becomes(t, "the lease rests on both lists", func() bool { return sups[0].Stats().Filling == 0 })
				time.Sleep(3 * ttl) // for the nodes beyond the quorum, which were young
				wantKeys(t, nodes, "x", string(held.Token()), n)
				if err := sups[0].Reconfigure(t.Context(), nodetest.Conns(is), nil); !errors.Is(err, supervisor.ErrTooEarly) || !strings.Contains(err.Error(), "not finished, as far as this process knows") {
					t.Errorf("%v: want that it is too early", err)
				}
				time.Sleep(5 * ttl) // what they told before runs out
				finish(t, was, is, supervisor.FinishOptions{})
				for _, sup := range sups {
					becomes(t, "the present list alone", func() bool {
						err := sup.Reconfigure(t.Context(), nodetest.Conns(is), nil)
						if err != nil && !errors.Is(err, supervisor.ErrTooEarly) {
							t.Fatal(err)
						}
						return err == nil
					})
				}
				for _, n := range was[:min(len(was), c.presentFrom)] {
					n.Crash()
				}
				time.Sleep(2 * ttl)
				if !held.Valid() {
					t.Fatal(held.Err())
				}
				for i, s := range sups[0].Nodes() {
					if len(sups[0].Nodes()) != len(is) || s.Node != is[i].String() && name != "to five" || s.List != supervisor.ListNodes || !s.Enrolled || s.Stage != node.StageOpened {
						t.Errorf("%+v", s)
					}
				}
				if err := sups[0].Healthy(); err != nil {
					t.Error(err)
				}
				if err := held.Release(t.Context()); err != nil {
					t.Error(err)
				}
				if l := <-got; l != nil && (!l.Valid() || l.Fence() <= held.Fence()) {
					t.Errorf("fence %d after %d: %v", l.Fence(), held.Fence(), l.Err())
				}
				for _, sup := range sups {
					if err := sup.Close(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// A lease whose key is another's on the present nodes is not filled in: the error names it, and why.
// The supervisor keeps both lists.
func TestReconfigureNamesWhatIsNotFilledIn(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[3:]
		sup := start(t, was)
		held, other := acquire(t, sup, "x"), acquire(t, sup, "y")
		for _, n := range is[:2] {
			n.Set("x", "foreign", 0)
		}
		if err := sup.Reconfigure(t.Context(), nodetest.Conns(is), nodetest.Conns(was)); err != nil {
			t.Fatal(err)
		}
		becomes(t, "the other lease rests on both lists", func() bool { return sup.Stats().Filling == 1 })
		err := sup.Reconfigure(t.Context(), nodetest.Conns(is), nil)
		var e *supervisor.ReconfigureError
		if !errors.As(err, &e) || !errors.Is(err, supervisor.ErrTooEarly) || len(e.Unfilled) != 1 || e.Unfilled[0].Name != "x" || e.More != 0 {
			t.Fatalf("%v", err)
		}
		for i, n := range e.Unfilled[0].Nodes {
			if n.Node != is[i].String() || n.Err == nil {
				t.Errorf("%+v", n)
			}
		}
		if text := err.Error(); !strings.Contains(text, `these leases rest on the former nodes alone: "x" (`+is[0].String()+": ") {
			t.Error(text)
		}
		time.Sleep(5 * ttl)
		if err := supervisor.FinishChange(t.Context(), change(was, is), supervisor.FinishOptions{}); !errors.Is(err, supervisor.ErrTooEarly) || !strings.Contains(err.Error(), "still rest on the former nodes alone") {
			t.Errorf("%v", err)
		}
		if !held.Valid() || !other.Valid() {
			t.Errorf("%v, %v", held.Err(), other.Err())
		}
		finish(t, was, is, supervisor.FinishOptions{Force: true})
		becomes(t, "the present list alone", func() bool { return sup.Reconfigure(t.Context(), nodetest.Conns(is), nil) == nil })
		if held.Valid() || !other.Valid() {
			t.Errorf("%v, %v", held.Err(), other.Err())
		}
	})
}

// Before a change is finished the former list can be given again, and the nodes forget the change.
func TestReconfigureBack(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodes[:3], nodes[2:]
		sup := start(t, was)
		held := acquire(t, sup, "x")
		for range 2 {
			if err := sup.Reconfigure(t.Context(), nodetest.Conns(is), nodetest.Conns(was)); err != nil {
				t.Fatal(err)
			}
			becomes(t, "the lease rests on both lists", func() bool { return sup.Stats().Filling == 0 })
			if err := sup.Reconfigure(t.Context(), nodetest.Conns(was), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * ttl)
			if err := supervisor.ForgetChange(t.Context(), change(was, is), false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(ttl)
		}
		synctest.Wait()
		if !held.Valid() {
			t.Error(held.Err())
		}
		for _, s := range sup.Nodes() {
			if s.Stage != node.StageNone || !s.Enrolled || len(sup.Nodes()) != 3 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// Lists that break a rule are refused, with the rule, and so is a change within a change.
func TestReconfigureOfBrokenLists(t *testing.T) {
	bubble(t, 6, func(t *testing.T, nodes []*nodetest.Node) {
		was, is := nodetest.Conns(nodes[:3]), nodetest.Conns(nodes[3:])
		sup := start(t, nodes[:3])
		for want, lists := range map[string][2][]node.Conn{
			"no Nodes given":                        {nil, nil},
			"Nodes[1] is the same node as Nodes[0]": {{is[0], is[0]}, was},
			"Former: the same 3 nodes as Nodes":     {was, was},
			"another change of the nodes":           {is, nil},
			"or these nodes belong to other lists":  {is, was[:2]},
		} {
			if err := sup.Reconfigure(t.Context(), lists[0], lists[1]); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: want %q", err, want)
			}
		}
		if err := sup.Reconfigure(t.Context(), was, nil); err != nil {
			t.Errorf("the same list: %v", err)
		}
		if err := sup.Reconfigure(canceled(), is, was); err == nil {
			t.Error("with a context that is done")
		}
		sup.Close(t.Context())
		if err := sup.Reconfigure(t.Context(), is, was); !errors.Is(err, supervisor.ErrClosed) {
			t.Errorf("%v", err)
		}
		if err := new(supervisor.Supervisor).Reconfigure(t.Context(), is, was); err == nil {
			t.Error("the zero Supervisor")
		}
	})
}
