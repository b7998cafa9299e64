package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// Youth is counted on our own clock from when we first heard of a life. How long ago it
// began by the node's clock, which may be set after a restart, shortens nothing.
func TestYouthByOurOwnClock(t *testing.T) {
	b := enrolled(t, 3)
	b.restart(0, func(s *node.State) { s.Age = time.Hour })
	b.clock.Advance(time.Millisecond)
	b.confirmedBy(1)
	b.confirmedBy(2)
	window := b.c.settings.Window(b.c.settings.MaxTTL)
	if got := b.c.youngUntil(0).Sub(b.c.nodes[0].state.LifeAt); got != window {
		t.Errorf("young for %v, want %v", got, window)
	}
	b.clock.Advance(b.c.youngUntil(0).Sub(b.now()) - 1)
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 1, 2)
	b.clock.Advance(1)
	b.acquire("y")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// A node that others have said to be grown is asked at once by a caller that waits for it.
func TestGrownByOthers(t *testing.T) {
	b := enrolled(t, 1)
	b.restart(0)
	b.acquire("x")
	b.wantNodes(b.take(node.Grant))
	b.advance(b.c.settings.RetryMax * 2)
	b.take(node.Grant)
	b.told(0, func(s *node.State) { s.Grown = true })
	b.advance(b.c.settings.RetryMin / 4)
	b.wantNodes(b.take(node.Grant), 0)
}

// What others have left on a node is of one life of it: it went with the data.
func TestFingerprintsGoWithTheLife(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("a", "b", "c")
	b.found(1, "5  60000")
	if b.c.nodes[1].disagreement.Nodes == 0 {
		t.Fatal("another number of nodes is not told")
	}
	b.found(2, "3 a,b,x 60000") // it may be one that has not heard of a new identity
	b.deaf = all(3)             // before its entries are read again
	b.restart(1, func(s *node.State) { s.Identity, s.Run = "b", "run-b" })
	b.restart(2, func(s *node.State) { s.Identity, s.Run = "c", "run-c" })
	if said := b.c.nodes[1].disagreement; said.Nodes != 0 {
		t.Errorf("%+v of a life that is over", said)
	}
	b.found(2, "3 a,b,x 90000")
	if said := b.c.nodes[2].disagreement; said.Nodes != 0 {
		t.Errorf("%+v when it was seen for the first time in this life", said)
	}
}

// Nothing is signed by one that is closing.
func TestNothingIsSignedBehindClose(t *testing.T) {
	b := enrolled(t, 3)
	b.restart(0)
	b.c.Close(b.now())
	b.perform()
	b.signs = nil
	for range 100 {
		b.advance(b.c.settings.signEvery())
	}
	if len(b.signs) > 0 {
		t.Errorf("%d times", len(b.signs))
	}
}

// Another identity is told if it was signed for again, at the usual distance: not by the
// same signature that is told twice, and not by one that came a little later.
func TestAnotherIdentityIsToldWhenSignedAgain(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("a", "b", "c")
	every := b.c.settings.signEvery()
	at := func(d time.Duration) bool {
		b.found(1, fmt.Sprint("3 a,b,x ", (time.Hour+d).Milliseconds()))
		return b.c.nodes[1].disagreement.Nodes != 0
	}
	for _, d := range []time.Duration{0, 0, every, 3*every/2 - time.Millisecond} {
		if at(d) {
			t.Errorf("told %v after the first", d)
		}
	}
	if !at(3 * every / 2) {
		t.Errorf("not told %v after the first", 3*every/2)
	}
	b.found(1)
	if at(10 * every) {
		t.Error("told at once when it has come again")
	}
}
