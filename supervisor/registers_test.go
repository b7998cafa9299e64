package supervisor_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// sharing returns names that share a register.
func sharing(n int) []string {
	names := []string{"a"}
	for i := 0; len(names) < n; i++ {
		if name := fmt.Sprint("a", i); node.FenceKey(name) == node.FenceKey("a") {
			names = append(names, name)
		}
	}
	return names
}

// What Inspect tells of a name is of its own lease, however far the register is that it shares
// with others, and however the lease came by its fence; and the value under the name is the
// lease's token.
func TestInspectTellsOfItsOwn(t *testing.T) {
	names := sharing(3)
	for what, prepare := range map[string]func(t *testing.T, sup *supervisor.Supervisor, nodes []*nodetest.Node) func(){
		"granted": func(*testing.T, *supervisor.Supervisor, []*nodetest.Node) func() { return nil },
		// The register is ahead of the nodes' time: the fence has to be raised.
		"raised": func(t *testing.T, sup *supervisor.Supervisor, nodes []*nodetest.Node) func() {
			for _, n := range nodes {
				n.Jump(time.Minute)
			}
			time.Sleep(time.Minute) // the clocks of the nodes are measured again; fake time
			giveBack(t, acquire(t, sup, names[2]))
			for _, n := range nodes {
				n.Jump(-2 * time.Minute)
			}
			time.Sleep(time.Minute)
			return nil
		},
		// A claim is made with a token that has waited in the queue.
		"claimed": func(t *testing.T, sup *supervisor.Supervisor, _ []*nodetest.Node) func() {
			held := acquire(t, sup, names[0])
			return func() { giveBack(t, held) }
		},
	} {
		for _, healed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, healed %v", what, healed), func(t *testing.T) {
				bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
					another := start(t, nodes, owner("another"))
					sup := start(t, nodes)
					if free := prepare(t, another, nodes); free != nil {
						go func() {
							time.Sleep(time.Second)
							free()
						}()
					}
					held := acquire(t, sup, names[0])
					giveBack(t, acquire(t, another, names[1])) // raises the register
					if healed {
						for _, n := range nodes {
							n.Restart()
							time.Sleep(5 * ttl)
						}
					}
					h, err := another.Inspect(t.Context(), names[0])
					if err != nil || h.Fence != held.Fence() || h.Token != held.Token() || h.Owner != "me" {
						t.Errorf("fence %d of %q with %q: %v; want %d of %q", h.Fence, h.Owner, string(h.Token), err, held.Fence(), string(held.Token()))
					}
					if want := time.UnixMicro(int64(held.Fence())); !h.Since.Equal(want) {
						t.Errorf("since %v, want %v", h.Since, want)
					}
					told := strings.Contains(string(held.Token()), "+")
					if want := what != "granted"; told != want {
						t.Errorf("the token %q tells its fence after it: %v", string(held.Token()), told)
					}
					wantExactly(t, nodes, names[0], string(held.Token()))
					giveBack(t, held)
					synctest.Wait() // the last node has heard of it
					for _, n := range nodes {
						for _, key := range n.Keys() {
							if _, left, _ := n.Get(key); strings.HasPrefix(key, "leasehold:fence:") && left >= 0 || !strings.HasPrefix(key, "leasehold:") {
								t.Errorf("%s keeps %q for %v", n, key, left)
							}
						}
					}
					if h, err := another.Inspect(t.Context(), names[0]); err != nil || h.Fence != 0 || !h.Since.IsZero() || !h.Free {
						t.Errorf("a free name: %+v, %v", h, err)
					}
				})
			})
		}
	}
}

func giveBack(t *testing.T, held *lease.Lease) {
	t.Helper()
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// wantExactly wants a quorum of nodes to hold just that value, as GET shows it.
func wantExactly(t *testing.T, nodes []*nodetest.Node, key, value string) {
	t.Helper()
	got := 0
	for _, n := range nodes {
		if v, _, _ := n.Get(key); v == value {
			got++
		}
	}
	if got <= len(nodes)/2 {
		t.Errorf("%d of %d nodes hold %q", got, len(nodes), value)
	}
}

// A lease whose value tells its fence is renewed, revoked, handed over and adopted as any
// other: to its nodes it is its own.
func TestFenceAfterTheToken(t *testing.T) {
	claimed := func(t *testing.T, nodes []*nodetest.Node) (sup, another *supervisor.Supervisor) {
		another, sup = start(t, nodes, owner("another")), start(t, nodes)
		held := acquire(t, another, "x")
		go func() {
			time.Sleep(time.Second)
			giveBack(t, held)
		}()
		return sup, another
	}
	t.Run("renewed", func(t *testing.T) {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup, _ := claimed(t, nodes)
			held := acquire(t, sup, "x")
			time.Sleep(10 * ttl)
			if !held.Valid() {
				t.Error(held.Err())
			}
		})
	})
	t.Run("revoked", func(t *testing.T) {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup, another := claimed(t, nodes)
			held := acquire(t, sup, "x")
			if err := another.Revoke(t.Context(), "x", held.Token()); err != nil {
				t.Error(err)
			}
			time.Sleep(ttl)
			if held.Valid() {
				t.Error("still held")
			}
			wantKeys(t, nodes, "x", "", 0)
		})
	})
	t.Run("handed over, twice", func(t *testing.T) {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup, another := claimed(t, nodes)
			held := acquire(t, sup, "x")
			for _, next := range []*supervisor.Supervisor{another, sup} {
				synctest.Wait() // a swap that comes after the next one is left until the TTL ends
				handle, err := held.HandOver(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				before := held.Fence()
				if held, err = next.Adopt(t.Context(), handle); err != nil {
					t.Fatal(err)
				}
				if held.Fence() <= before {
					t.Errorf("fence %d after %d", held.Fence(), before)
				}
				wantExactly(t, nodes, "x", string(held.Token()))
				h, err := sup.Inspect(t.Context(), "x")
				if err != nil || h.Fence != held.Fence() || h.Token != held.Token() {
					t.Errorf("Inspect tells fence %d, want %d: %v", h.Fence, held.Fence(), err)
				}
			}
			giveBack(t, held)
			synctest.Wait()
			wantKeys(t, nodes, "x", "", 0)
		})
	})
}
