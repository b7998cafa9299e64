package node_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// tells has a node say which server it is, and since when a primary of which history.
func tells(n *nodetest.Node, run, replication, role string) {
	text := fmt.Sprintf("# Server\r\nredis_mode:standalone\r\nrun_id:%s\r\n# Replication\r\nrole:%s\r\nmaster_replid:%s\r\n", run, role, replication)
	n.Reply("INFO", fmt.Sprintf("$%d\r\n%s\r\n", len(text), text))
}

// again ends an enrolment, which the node would not have done by itself, and waits for the
// next one.
func (r *rig) again(n *nodetest.Node) {
	r.t.Helper()
	n.Fail("SET", "READONLY You can't write against a read only replica.")
	wantStatuses(r.t, r.ask(grant("again", "1", 1)), "unknown")
	n.Fail("SET", "")
	r.enrolled()
}

// An incarnation is a run id and a replication id: a server that was demoted and promoted
// again has its old run id, but not its data; and one that has restarted may have its old
// replication id. Each of the two begins another life, which nobody has known for the
// window, and so does the loss of the marker.
func TestLifeIsRunAndReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		tells(n, "R", "P", "master")
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		for i, step := range []struct {
			run, replication string
			lose             func()
			another          bool
		}{
			{"R", "P", nil, true}, // the first one
			{"R", "P", nil, false},
			{"R", "Q", nil, true},
			{"S", "Q", nil, true},
			{"S", "Q", nil, false},
			{"R", "P", nil, true}, // there and back
			{"R", "P", func() { n.Del(markerKey) }, true},
			{"R", "P", func() { n.Del(grownKey) }, false},
		} {
			life := r.state.Life
			if i > 0 {
				tells(n, step.run, step.replication, "master")
				if step.lose != nil {
					n.Jump(time.Microsecond)
					step.lose()
				}
				r.again(n)
				if step.another {
					life++
				}
			}
			s := r.state
			if s.Life != life || s.Grown == step.another || s.Run != step.run {
				t.Fatalf("step %d: %+v: want life %d", i, s, life)
			}
			if marker, _, _ := n.Get(markerKey); !strings.HasPrefix(marker, step.run+"/"+step.replication+" ") {
				t.Errorf("step %d: marker %q", i, marker)
			}
			// A process that comes new knows no more than the node says.
			fresh := start(t, n.ConnOf("fresh"), guarded(time.Minute))
			fresh.enrolled()
			if want := s.Grown && step.lose == nil; fresh.state.Grown != want {
				t.Errorf("step %d: a process that comes new: %+v", i, fresh.state)
			}
			wantStatuses(t, r.ask(grown(r.state.Life)), "ok")
		}
	})
}

// Without the guard it is the same, but for what the marker tells.
func TestLifeWithoutGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		tells(n, "R", "P", "master")
		r := start(t, n.Conn())
		r.enrolled()
		at := r.state.LifeAt
		for i, step := range []struct {
			run, replication string
			life             uint32
		}{{"R", "P", 1}, {"R", "Q", 2}, {"S", "Q", 3}, {"S", "Q", 3}} {
			<-time.After(time.Second) // in fake time
			tells(n, step.run, step.replication, "master")
			r.again(n)
			if s := r.state; s.Life != step.life || (s.LifeAt != at) != (i == 1 || i == 2) {
				t.Errorf("step %d: %+v", i, s)
			}
			at = r.state.LifeAt
		}
	})
}

// A replica that is promoted without the marker had been up for days: it is young all the
// same. Until then it is no primary, and is not asked.
func TestPromotedWithoutAMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New() // up for a day
		defer n.Close()
		n.Del(markerKey)
		tells(n, "R", "P", "slave")
		r := start(t, n.Conn(), guarded(time.Minute))
		got := r.ask(grant("a", "1", 1))
		wantStatuses(t, got, "unsent")
		if got[0].Err == nil || !strings.Contains(got[0].Err.Error(), "not a primary") {
			t.Errorf("%v", got[0].Err)
		}
		if _, _, there := n.Get(markerKey); there {
			t.Error("a replica was marked")
		}
		tells(n, "R", "Q", "master")
		r.enrolled()
		if s := r.state; s.Grown || s.Age != 0 || s.Life != 1 {
			t.Errorf("%+v", s)
		}
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
	})
}

// A server that tells only one of the two is not guarded: half an incarnation would not
// show every loss.
func TestHalfAnIncarnation(t *testing.T) {
	for _, half := range [][2]string{{"R", ""}, {"", "P"}, {"", ""}} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			n.Del(markerKey)
			tells(n, half[0], half[1], "master")
			r := start(t, n.Conn(), guarded(time.Minute))
			r.enrolled()
			if s := r.state; s.Guarded || !s.Grown || s.MaxTTL != 0 {
				t.Errorf("%q: %+v", half, s)
			}
			if marker, _, there := n.Get(markerKey); there {
				t.Errorf("%q: marker %q", half, marker)
			}
			wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		})
	}
}

// A grant that has waited in the mailbox while the node was enrolled anew is for the life
// that it finds, if that is grown; a heal is not.
func TestWhatWaitsForAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		tells(n, "R", "P", "master")
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(grown(1)), "ok")
		tells(n, "R", "Q", "master")
		other := start(t, n.ConnOf("other"), guarded(time.Minute)) // which says that it is grown
		other.enrolled()
		wantStatuses(t, other.ask(grown(1)), "ok")
		heal := on(node.Heal, "b", "1")
		heal.Fence, heal.Life = 1, 1
		wantStatuses(t, r.ask(on(node.Inspect, "a", "")), "unknown") // the marker is another
		r.send(heal, grant("a", "1", 1))
		r.enrolled()
		if s := r.state; s.Life != 2 || !s.Grown {
			t.Errorf("%+v", s)
		}
		wantStatuses(t, r.wait(2), "unsent ok")
	})
}

// A connection that has no name, or does not tell it, is not the one that was enrolled,
// also where the server and its marker are the same.
func TestNamelessIsAStranger(t *testing.T) {
	for _, answer := range []string{"$-1\r\n", "$0\r\n\r\n", "-NOPERM no\r\n", ":1\r\n"} {
		for _, window := range []time.Duration{0, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn(), guarded(window))
				r.enrolled()
				n.Reply("CLIENT GETNAME", answer)
				wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unknown")
				if r.state.Enrolled {
					t.Errorf("%q, window %v: still enrolled", answer, window)
				}
			})
		}
	}
}

// A server that did not say who it is, and does so later, gets an identity then.
func TestIdentityOfALaterLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		tells(n, "", "", "master")
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		tells(n, "R", "P", "master")
		r.again(n)
		if s := r.state; !s.Guarded || len(s.Identity) != 12 {
			t.Errorf("%+v", s)
		}
	})
}
