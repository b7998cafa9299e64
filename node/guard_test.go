package node_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

func guarded(window time.Duration) func(*node.Config) {
	return func(c *node.Config) { c.Window = window }
}

// A grant that was sent before the node was known to be young is not sent on; what
// else is asked of it is.
func TestYoungNodeGrantsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		n.Restart()
		r.ended()
		r.enrolled()
		if left := r.state.YoungUntil.Sub(clock.Runtime().Now()); left != time.Minute {
			t.Errorf("young for %v", left)
		}
		wantStatuses(t, r.ask(grant("b", "1", 1), on(node.Renew, "a", "1")), "unsent absent")
		time.Sleep(time.Minute) // in fake time
		wantStatuses(t, r.ask(grant("b", "1", 1)), "ok")
	})
}

// A server that starts with its clock ahead, and sets it back, is young for no longer
// than a window from the enrolment.
func TestMarkerFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Jump(24 * time.Hour)
		n.Restart()
		start(t, n.ConnOf("first"), guarded(time.Minute)).enrolled() // it writes the marker
		n.Jump(-24 * time.Hour)
		time.Sleep(time.Second)
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		if left := r.state.YoungUntil.Sub(clock.Runtime().Now()); left != time.Minute {
			t.Errorf("young for %v", left)
		}
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
		time.Sleep(time.Minute) // in fake time
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
	})
}

// A heal is for the incarnation that it was decided for.
func TestHealOfAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		heal := on(node.Heal, "a", "1")
		heal.Fence, heal.Life = 7, r.state.Life
		wantStatuses(t, r.ask(heal), "ok")
		n.Restart()
		r.ended()
		r.enrolled()
		wantStatuses(t, r.ask(heal), "unsent")
		heal.Life = r.state.Life
		wantStatuses(t, r.ask(heal), "ok")
	})
}

// What is answered without the marker of the enrolment behind it is not believed:
// the node may have forgotten before it, or right behind it.
func TestMarkerBehindEveryPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		n.Flush()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1"), grant("b", "1", 1)), "unknown unknown")
		if r.state.Enrolled {
			t.Error("still enrolled")
		}
		r.enrolled()
		if r.state.Life != 1 || r.state.YoungUntil < clock.Runtime().Now() {
			t.Errorf("%+v: want the same incarnation, and young", r.state)
		}
		wantStatuses(t, r.ask(on(node.Release, "b", "1")), "ok") // it had been set
	})
}

// The right marker does not make up for the wrong connection.
func TestStrangerWithMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Reply("CLIENT GETNAME", "$7\r\nanother\r\n")
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
		if r.state.Enrolled {
			t.Error("still enrolled")
		}
	})
}
