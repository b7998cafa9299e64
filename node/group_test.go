package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// tokenFor returns one that begins and is as long as those of one client.
func tokenFor(i int) string { return fmt.Sprintf("me/%037d", i) }

// group returns a command for so many names, the keys of which hold the tokens.
func group(n *nodetest.Node, members int) node.Command {
	g := &node.Group{TTL: 10 * time.Second}
	for i := range members {
		name := fmt.Sprint("name-", i)
		n.Set(name, tokenFor(i), 5*time.Second)
		g.Members = append(g.Members, node.Member{ID: uint64(i), Name: name, Token: tokenFor(i), By: clock.Never})
	}
	return node.Command{Op: node.RenewAll, Group: g}
}

// wantBut checks the reply to a group.
func wantBut(t *testing.T, r node.Reply, want ...node.Exception) {
	t.Helper()
	got := slices.Clone(r.But.All())
	for i := range got {
		if got[i].Err != nil {
			got[i].Err = nil // see the status
		}
	}
	if r.Op != node.RenewAll || r.Status != node.OK || r.Err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v\nbut %+v\nwant but %+v", r, got, want)
	}
}

// lives returns how many keys were renewed.
func renewed(n *nodetest.Node, members int) (count int) {
	for i := range members {
		if _, left, ok := n.Get(fmt.Sprint("name-", i)); ok && left > 9*time.Second {
			count++
		}
	}
	return count
}

// All leases of a group are renewed by few calls, and the reply names those that are not.
func TestRenewAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		const members = 150
		wantBut(t, r.ask(group(n, members))[0])
		if got := renewed(n, members); got != members {
			t.Errorf("%d were renewed", got)
		}
		if c := n.Commands(); c["EVAL"]+c["EVALSHA"] != 3 || c["MGET"] != 0 {
			t.Errorf("%v", c)
		}
		c := group(n, members)
		n.Del("name-1")
		n.Set("name-63", "they/1+5", time.Minute)
		n.Set("name-64", "?"+tokenFor(1), time.Minute)
		n.Set("name-100", tokenFor(100)+"+7", time.Second) // it tells another fence
		c.Group.Members[70].By = 0
		c.Group.Members[2].By = 0
		wantBut(t, r.ask(c)[0],
			node.Exception{Member: 1, Status: node.Absent}, node.Exception{Member: 2, Status: node.Unsent},
			node.Exception{Member: 63, Status: node.Other, Value: "they/1+5"}, node.Exception{Member: 64, Status: node.Absent},
			node.Exception{Member: 70, Status: node.Unsent})
		if got := renewed(n, members); got != members-5+2 { // two are others', which have a minute
			t.Errorf("%d were renewed", got)
		}
	})
}

// A group whose tokens are not alike, or which is cut into calls of one name, or whose script is
// lost, is renewed all the same.
func TestRenewAllOtherwise(t *testing.T) {
	for what, change := range map[string]func(n *nodetest.Node, c node.Command){
		"another owner": func(n *nodetest.Node, c node.Command) {
			c.Group.Members[3].Token = "we" + tokenFor(3)[2:]
			n.Set("name-3", c.Group.Members[3].Token, 5*time.Second)
		},
		"a longer token": func(n *nodetest.Node, c node.Command) {
			c.Group.Members[69].Token += "x"
			n.Set("name-69", c.Group.Members[69].Token, 5*time.Second)
		},
		"no owner": func(n *nodetest.Node, c node.Command) {
			for i := range c.Group.Members {
				m := &c.Group.Members[i]
				m.Token = strings.Repeat("t", 5)
				n.Set(m.Name, m.Token, 5*time.Second)
			}
		},
		"several slots":  func(n *nodetest.Node, _ node.Command) { n.Slots(true) },
		"scripts lost":   func(n *nodetest.Node, _ node.Command) { n.FlushScripts() },
		"nothing in way": func(*nodetest.Node, node.Command) {},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn())
				r.enrolled()
				const members = 70
				r.ask(group(n, members))
				for range 2 {
					c := group(n, members)
					change(n, c)
					n.Del("name-68")
					wantBut(t, r.ask(c)[0], node.Exception{Member: 68, Status: node.Absent})
					if got := renewed(n, members); got != members-1 {
						t.Errorf("%d were renewed", got)
					}
				}
			})
		})
	}
}

// An answer that is not as the script gives it is none: nothing is known of the names of that
// call. So is none at all.
func TestRenewAllUnanswered(t *testing.T) {
	now := "*%d\r\n$1\r\n1\r\n$1\r\n1\r\n"
	for _, answer := range []string{
		fmt.Sprintf(now, 2),                                    // as to TIME
		fmt.Sprintf(now, 3) + ":2\r\n",                         // of fewer names
		fmt.Sprintf(now, 3) + ":4\r\n",                         // of more
		fmt.Sprintf(now, 3) + ":-1\r\n",                        //
		fmt.Sprintf(now, 3) + "$1\r\n3\r\n",                    //
		fmt.Sprintf(now, 5) + ":2\r\n:4\r\n:0\r\n",             // of another name
		fmt.Sprintf(now, 5) + ":2\r\n:0\r\n:0\r\n",             //
		fmt.Sprintf(now, 5) + ":2\r\n:1\r\n:1\r\n",             // which is ours
		fmt.Sprintf(now, 5) + ":2\r\n:1\r\n$1\r\nx\r\n",        //
		fmt.Sprintf(now, 7) + ":1\r\n:2\r\n:0\r\n:2\r\n:0\r\n", // twice
		fmt.Sprintf(now, 7) + ":1\r\n:2\r\n:0\r\n:1\r\n:0\r\n",
		"*3\r\n:1\r\n$1\r\nx\r\n:3\r\n", // no time
		"*0\r\n", ":3\r\n", "-ERR no\r\n", "$-1\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			r := start(t, n.Conn())
			r.enrolled()
			n.Reply("EVALSHA", answer)
			n.Reply("EVAL", answer)
			got := r.ask(group(n, 3))[0]
			unknown := func(k int) node.Exception { return node.Exception{Member: k, Status: node.Unknown} }
			wantBut(t, got, unknown(0), unknown(1), unknown(2))
			for _, x := range got.But.All() {
				if x.Err == nil {
					t.Errorf("%q: %+v", answer, x)
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		n.Hang()
		r.send(group(n, 2))
		wantBut(t, r.wait(1)[0], node.Exception{Member: 0}, node.Exception{Member: 1})
		r.ask(group(n, 2)) // there is no connection
		n.Resume()
		n.Crash()
		wantBut(t, r.ask(group(n, 2))[0], node.Exception{Member: 0, Status: node.Unsent}, node.Exception{Member: 1, Status: node.Unsent})
	})
}

// A group is tracked as other renewals are.
func TestRenewAllTracked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		wakes := make(chan node.Wake, 10)
		r := start(t, n.Conn(), func(c *node.Config) { c.Wakes = wakes })
		r.enrolled()
		wantBut(t, r.ask(group(n, 2))[0])
		n.Del("name-1")
		time.Sleep(2 * time.Millisecond) // fake time: news are heard when nothing was asked for one
		synctest.Wait()
		if len(wakes) != 1 {
			t.Fatalf("%d wakes", len(wakes))
		}
		if w := <-wakes; w.Key != "name-1" {
			t.Errorf("%+v", w)
		}
	})
}

// Releases of one pipeline share a call, whatever stands between them; but what concerns one name
// is done in its order, and nothing is done before a group that stands before it.
func TestReleasesGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1), grant("b", "2", 2), grant("c", "3", 3)), "ok ok ok")
		rs := r.ask(
			grant("x", "4", 4), on(node.Release, "a", "1"),
			grant("y", "5", 5), on(node.Release, "b", "2"),
			grant("a", "6", 6), on(node.Release, "c", "3"),
			grant("z", "7", 7), on(node.Release, "z", "7"))
		wantStatuses(t, rs, "ok ok ok ok ok ok ok ok")
		for i := range rs[1:] {
			if rs[i+1].ID != rs[i].ID+1 {
				t.Errorf("reply %d is of command %d, behind %d", i+1, rs[i+1].ID, rs[i].ID)
			}
		}
		for name, want := range map[string]string{"a": "6", "b": "", "c": "", "x": "4", "y": "5", "z": ""} {
			if got, _, _ := n.Get(name); got != want {
				t.Errorf("%s holds %q, want %q", name, got, want)
			}
		}
		if c := n.Commands(); c["EVAL"]+c["EVALSHA"] != 2 {
			t.Errorf("%v: want a call for a, b and c, and one for z", c)
		}

		renewals := group(n, 3)
		rs = r.ask(on(node.Release, "x", "4"), grant("b", "8", 8), renewals, on(node.Release, "name-1", tokenFor(1)))
		wantStatuses(t, rs, "ok ok ok ok")
		wantBut(t, rs[2])
	})
}
