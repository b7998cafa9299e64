package core

import (
	"fmt"
	"strings"
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

// A listed error is of a type that cannot be compared.
type listed []string

func (l listed) Error() string { return strings.Join(l, ", ") }

// Those who give up at once share a report if it says the same, and only then.
func TestReportsAreShared(t *testing.T) {
	c := enrolled(t, 3).c
	l := &line{waitList: &waitList{key: "x", why: ReasonHeld, answers: answers{
		{Verdict: VerdictHeld, Value: "a/1", At: 5},
		{Verdict: VerdictUnreachable, At: 6, Err: listed{"down"}},
		{Verdict: VerdictUnreachable, Err: listed{"never up"}},
	}}}
	if one, other := c.failure(l, ReasonNone), c.failure(l, ReasonNone); one == other {
		t.Error("an error that came at no known instant was taken for another one")
	}
	l.answers[2].At = 7
	first := c.failure(l, ReasonNone)
	if c.failure(l, ReasonNone) != first {
		t.Error("two reports of the same answers")
	}
	for what, change := range map[string]func(){
		"another name":       func() { l.key = "y" },
		"another answer":     func() { l.answers[0] = Answer{Verdict: VerdictFree, At: 8} },
		"another error":      func() { l.answers[1].At, l.answers[1].Err = 9, listed{"refused"} },
		"another reason":     func() { l.why = ReasonNoQuorum },
		"one answer fewer":   func() { l.answers = l.answers[:2] },
		"who disagrees":      func() { c.nodes[1].disagreement = Disagreement{Node: 1, Nodes: 5} },
		"nodes that are one": func() { c.nodes[1].twin = 1 },
	} {
		before := c.failure(l, ReasonNone)
		change()
		if c.failure(l, ReasonNone) == before {
			t.Errorf("%s: the report is that of before", what)
		}
	}
}

// The next waiter counts its own attempts, and gets a place of its own in the queues.
func TestNextWaiterCountsAnew(t *testing.T) {
	b := enrolled(t, 3)
	w, _ := b.stand("x")
	next := b.acquire("x")
	b.take(node.Enqueue)
	b.c.Cancel(b.now(), w)
	b.perform()
	b.waits(next)
	l := b.c.lines["x"]
	if l.tries+l.yields != 0 || l.placed || l.ticket != 0 {
		t.Errorf("%d tries, %d yields, placed %v at %d", l.tries, l.yields, l.placed, l.ticket)
	}
}

// A node that is back hurries nobody who waits for a holder.
func TestNodeIsBackForThoseOfNoQuorum(t *testing.T) {
	for _, why := range []Reason{ReasonNoQuorum, ReasonHeld} {
		b := enrolled(t, 3)
		b.acquire("x")
		grants := b.take(node.Grant)
		for _, s := range grants {
			if why == ReasonHeld {
				b.say(s, node.Other, theirs)
			} else {
				b.say(s, node.Unsent)
			}
		}
		l := b.c.lines["x"]
		var s sleeper = l
		if l.attempt != nil {
			s = l.attempt
		}
		b.c.alarms.set(s, b.now().Add(time.Hour))
		l.why = why
		b.c.retryLine(b.now(), l)
		if hurried := s.bell().due() < b.now().Add(time.Hour); hurried != (why == ReasonNoQuorum) {
			t.Errorf("%v: hurried %v", why, hurried)
		}
	}
}
