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

// advance raises the stage of a change from three nodes to five, and the floor.
func advance(stage node.Stage, floor uint64) node.Command {
	c := on(node.Advance, "", change(stage, electorate(3, "abc"), electorate(5, "abcde")).String())
	c.Fence = floor
	return c
}

// The client that advances a node has its answers, and is enrolled again at once, as is every other
// one when it next asks: then each knows the stage and the floor, however it is connected.
func TestAdvance(t *testing.T) {
	for _, way := range []string{"RESP3", "RESP2", "client"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, conns(t, n)[way], guarded(time.Minute))
				r.enrolled()
				other := start(t, n.ConnOf("other"), guarded(time.Minute))
				other.enrolled()
				got := r.ask(grant("a", "1", 1), advance(node.StageBegun, 7), on(node.Renew, "a", "1"))
				wantStatuses(t, got, "ok ok ok")
				if got[1].Value != advance(node.StageBegun, 0).Token || got[1].Fence != 7 || r.state.Enrolled || r.state.Err == nil {
					t.Errorf("%+v, %+v", got[1], r.state)
				}
				r.enrolled()
				want := func(r *rig, stage node.Stage, floor uint64) {
					t.Helper()
					if s := r.state; s.Change.Stage != stage || s.Change.Present.Nodes != 5 || s.Floor != floor || s.Life != 1 || !s.Grown {
						t.Errorf("%+v: want stage %v and floor %d", s, stage, floor)
					}
				}
				want(r, node.StageBegun, 7)
				got = other.ask(on(node.Renew, "a", "1"))
				wantStatuses(t, got, "unknown")
				if !strings.Contains(got[0].Err.Error(), "the floor or the change in the node's marker") {
					t.Error(got[0].Err)
				}
				other.enrolled()
				want(other, node.StageBegun, 7)
				// What changes nothing ends nothing.
				wantStatuses(t, r.ask(advance(node.StageBegun, 6), on(node.Renew, "a", "1")), "ok ok")
				refused := on(node.Advance, "", change(node.StageOpened, electorate(3, "abc"), electorate(3, "abd")).String())
				refused.Fence = 100
				wantStatuses(t, r.ask(refused, on(node.Renew, "a", "1")), "other ok")
				wantStatuses(t, other.ask(on(node.Renew, "a", "1")), "ok")
				if !r.state.Enrolled || !other.state.Enrolled || r.state.RoundTrips < 2 {
					t.Errorf("%+v, %+v", r.state, other.state)
				}
			})
		})
	}
}

// Without a marker there is no stage, and nothing is sent.
func TestAdvanceWithoutGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		marker, _, _ := n.Get(markerKey)
		r := start(t, n.Conn())
		r.enrolled()
		got := r.ask(advance(node.StageBegun, 7), grant("a", "1", 1))
		wantStatuses(t, got, "unsent ok")
		if is, _, _ := n.Get(markerKey); is != marker || !strings.Contains(got[0].Err.Error(), "not guarded") || !r.state.Enrolled {
			t.Errorf("the marker is %q and was %q: %+v", is, marker, got[0])
		}
	})
}

// A node that forgot between the command and the end of its pipeline has confirmed nothing.
func TestAdvanceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Reply("GET", "_\r\n")
		wantStatuses(t, r.ask(grant("a", "1", 1), advance(node.StageBegun, 7), grant("b", "1", 1)), "unknown unknown unknown")
		n.Reply("GET", "")
		r.enrolled()
		if s := r.state; s.Change.Stage != node.StageBegun || s.Floor != 7 {
			t.Errorf("%+v", s)
		}
	})
}

// What does not answer as the script, or as the command, confirms nothing.
func TestWrongAnswersOfAChange(t *testing.T) {
	const at = "$10\r\n1700000000\r\n$1\r\n5\r\n"
	for _, tc := range []struct {
		command string
		send    node.Command
		answer  string
	}{
		{"EVAL", advance(node.StageBegun, 7), "+OK\r\n"},
		{"EVAL", advance(node.StageBegun, 7), "*2\r\n" + at},
		{"EVAL", advance(node.StageBegun, 7), "*4\r\n" + at + ":1\r\n:1\r\n"},
		{"EVAL", advance(node.StageBegun, 7), "*3\r\n" + at + "$1\r\n1\r\n"},
		{"EVAL", advance(node.StageBegun, 7), "*3\r\n" + at + ":0\r\n"},
		{"EVAL", advance(node.StageBegun, 7), "*3\r\n" + at + ":1\r\n"}, // it has done nothing: the marker shows it
		{"EVAL", advance(node.StageBegun, 7), "*3\r\n" + at + ":2\r\n"},
		{"EVAL", advance(node.StageBegun, 7), "*3\r\n" + at + ":3\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), "+OK\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), ":5\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), "*0\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), "$3\r\n1.5\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), "$2\r\n-1\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), "$16\r\n9007199254740994\r\n"},
		{"ZSCORE", on(node.Highest, "", ""), "-NOPERM no right to zscore\r\n"},
	} {
		t.Run(fmt.Sprintf("%v %q", tc.send.Op, tc.answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn(), guarded(time.Minute))
				r.enrolled()
				n.Reply(tc.command, tc.answer)
				got := r.ask(tc.send)[0]
				if got.Status != node.Unknown || got.Err == nil || got.Fence != 0 || got.Value != "" {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// A gift counts after the marker has got another stage: whoever listens enrols again.
func TestGiftAfterAnAdvance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "in", guarded(time.Minute))
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		wantStatuses(t, r.ask(enqueue("a", "2", 1)), "other")
		wantWake(t, wakes, "")
		wantStatuses(t, r.ask(advance(node.StageClosed, 5)), "ok")
		r.enrolled()
		wantStatuses(t, r.ask(enqueue("a", "2", 1)), "other")
		wantWake(t, wakes, "")
		give := on(node.Release, "a", "1")
		give.Fence = 7
		wantStatuses(t, r.ask(give), "ok")
		if w := <-wakes; w.Token != "2" || w.Fence != 7 {
			t.Errorf("%+v: want the gift", w)
		}
	})
}
