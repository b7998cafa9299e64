package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// release gives back the lease that is held on a name.
func (b *bench) release(name string) {
	b.c.Release(b.now(), b.c.lines[name].holder.id, b.call())
	b.perform()
}

// Callers leave a line in the middle and at its end, and others come after that. Those that
// have stayed are served in the order in which they came.
func TestLineWithGaps(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	var waiting []Call
	for range 5 {
		waiting = append(waiting, b.acquire("x"))
	}
	for _, k := range []int{2, 1, 4} {
		b.c.Cancel(b.now(), waiting[k])
		b.perform()
		b.refused(waiting[k], ReasonHeld)
	}
	for k, w := range []Call{waiting[0], waiting[3], b.acquire("x")} {
		b.waits(w)
		b.release("x")
		for _, s := range b.take(node.Grant) {
			b.say(s, node.OK)
		}
		if !b.done(w) {
			t.Fatalf("the caller who has become number %d is not served in its turn", k+1)
		}
		b.got(w)
	}
	b.release("x")
	if n := len(b.c.lines) + len(b.c.waited) + b.c.callers; n != 0 {
		t.Errorf("%d things are left of a line in which nobody waits", n)
	}
}

// A caller who makes one attempt is told who holds the name if somebody of this process waits
// for it, although nobody of this process holds it.
func TestTryBehindAWaiter(t *testing.T) {
	b := enrolled(t, 3)
	b.acquire("x")
	b.take(node.Grant)
	b.acquire("x", func(r *Request) { r.Once, r.Attempts = true, 1 })
	b.wantNodes(b.take(node.Inspect), 0, 1, 2)
}

// Somebody adopts the lease just when the next in its line is to have its turn: nothing is
// sent for that one while this process holds the name.
func TestTurnThatComesWithAnHeir(t *testing.T) {
	b := enrolled(t, 3)
	first, second := b.acquire("x"), b.acquire("x")
	heir := b.adopt("x")
	swaps := b.take(node.Adopt)
	b.say(swaps[0], node.OK)
	b.sent = nil
	b.c.Cancel(b.now(), first)
	b.say(swaps[1], node.OK) // before what the input begins is served
	b.got(heir)
	b.refused(first, ReasonNoQuorum)
	b.wantNodes(b.take(node.Grant))
	b.waits(second)
	b.release("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// All who wait are told that two nodes are one, those who give up meanwhile are told once, and
// a line is remembered only if this process holds the name.
func TestDismissedLines(t *testing.T) {
	const names, callers = 20, maxServed + 1 // for each name
	b := enrolled(t, 3)
	b.identify("a", "b", "c")
	b.hold("held")
	var waiting []Call
	for i := range names * callers {
		name := "held"
		if k := i % names; k > 0 {
			name = fmt.Sprint("name-", k)
		}
		waiting = append(waiting, b.acquire(name))
	}
	told := len(b.outcomes)
	b.told(2, func(s *node.State) { s.Identity, s.Run, s.Life = "a", "run-a", 2 })
	if n := len(b.outcomes) - told; n != maxServed {
		t.Errorf("%d callers of %d names were told at once", n, names)
	}
	for _, w := range waiting {
		b.c.Cancel(b.now(), w)
	}
	b.perform()
	for range 2 * names {
		b.advance(2 * time.Millisecond)
	}
	for _, w := range waiting {
		b.refused(w, ReasonMisconfigured)
	}
	if _, ok := b.c.Holder("held"); !ok || len(b.c.lines) != 1 {
		t.Errorf("%d lines are remembered, and that of the lease %v", len(b.c.lines), ok)
	}
}

// The first in a line was refused, and has asked who holds the name, before it won. The next
// one has its turn nevertheless.
func TestTurnAfterAnInquiry(t *testing.T) {
	b := enrolled(t, 3)
	first, second := b.acquire("x", func(r *Request) { r.Attempts = 2 }), b.acquire("x")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.Absent)
	}
	b.advance(b.c.Wait(b.now()))
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(first)
	b.release("x")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(second)
}
