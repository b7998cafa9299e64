package core

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// A release that is owed takes the waiter out of the queue as well, if it may stand there;
// else it would keep its place, and what is reserved for it lapses unused each time.
func TestOwedReleaseLeavesTheQueue(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	b.c.Cancel(b.now(), w)
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	b.drop(1)
	b.take(node.Release)
	b.enrol(1)
	owed := b.take(node.Release)
	b.wantNodes(owed, 1)
	if c := owed[0].cmd; !c.Queued || c.Token != token || c.Name != "x" {
		t.Errorf("%+v: want the waiter taken out of the queue", c)
	}
	// It is owed until it is answered, and sent once at a time.
	b.advance(collectEvery)
	b.wantNodes(on(b.take(node.Release), 1))
	b.say(owed[0], node.Unknown)
	b.advance(collectEvery)
	again := on(b.take(node.Release), 1)
	b.wantNodes(again, 1)
	if !again[0].cmd.Queued {
		t.Errorf("%+v", again[0].cmd)
	}
	b.say(again[0], node.Other)
	b.advance(collectEvery)
	b.wantNodes(on(b.take(node.Release), 1))
}

// on returns what was sent to one node.
func on(sends []send, i int) (there []send) {
	for _, s := range sends {
		if s.node == i {
			there = append(there, s)
		}
	}
	return there
}

// One whose claim was taken stands in no queue any more, which is cheaper.
func TestOwedReleaseOfAWinner(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	b.announce(token, 0, 1)
	for _, s := range b.take(node.Claim) {
		b.say(s, node.OK)
	}
	b.got(w)
	b.c.Release(b.now(), b.c.byToken[token].id, b.call())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	b.advance(collectEvery)
	for _, s := range b.take(node.Release) {
		if want := s.node == 2; s.cmd.Queued != want {
			t.Errorf("node %d: queued %v, want %v", s.node, s.cmd.Queued, want)
		}
	}
}

// Whose time is up by the answers that win it does not get the lease: it is given back, and
// the waiter tries again.
func TestWonTooLate(t *testing.T) {
	for _, late := range []time.Duration{0, 1} {
		b := enrolled(t, 3)
		b.c.terms.Grace = b.c.terms.TTL - b.c.terms.Drift - b.c.terms.Window/2 // as a configuration may have it
		w := b.acquire("x")
		grants := b.take(node.Grant)
		b.clock.Advance(b.c.terms.Window/2 - 1 + late)
		b.say(grants[0], node.OK)
		b.say(grants[1], node.OK)
		if late == 0 {
			if l := b.got(w); !l.Valid() {
				t.Errorf("%v", l.Err())
			}
			continue
		}
		b.waits(w)
		b.wantNodes(b.take(node.Release), 0, 1, 2)
		if b.c.lines["x"].holder != nil || b.c.lines["x"].attempt != nil {
			t.Error("it is held, or still tried")
		}
		b.advance(b.c.settings.RetryMax)
		b.wantNodes(b.take(node.Grant), 0, 1, 2)
	}
}

// The same with an adoption that waited for its former holder. Nothing is deleted.
func TestAdoptedTooLate(t *testing.T) {
	for _, late := range []bool{false, true} {
		b := enrolled(t, 1)
		b.c.terms.Grace = b.c.terms.TTL / 4
		w := b.adoptAfter("x", false)
		b.say(b.take(node.Adopt)[0], node.OK, left(time.Millisecond))
		b.say(b.take(node.Renew)[0], node.OK)
		b.advance(b.c.adopting[0].adopt.overAt.Sub(b.now()))
		asked := b.take(node.Renew)
		b.waits(w)
		wait := b.c.terms.TTL - b.c.terms.Drift - b.c.terms.Grace - 1
		if late {
			wait++
		}
		b.clock.Advance(wait)
		b.say(asked[0], node.OK)
		if !late {
			if l := b.got(w); !l.Valid() {
				t.Errorf("%v", l.Err())
			}
			continue
		}
		b.refused(w, ReasonNoQuorum)
		b.wantNodes(b.take(node.Release))
		if b.c.tenures.len()+len(b.c.lines) != 0 {
			t.Error("something was left")
		}
	}
}

// The votes of a claim, as those of a grant, count from before it was sent, each from its
// own.
func TestClaimsCountFromTheirSending(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	b.announce(token, 0, 1)
	begun := b.now()
	claims := b.take(node.Claim)
	b.say(claims[0], node.OK)
	b.say(claims[1], node.Unknown)
	b.advance(b.c.roundTrip())
	again := b.take(node.Claim)
	b.clock.Advance(10 * time.Millisecond)
	b.say(again[0], node.OK)
	l := b.got(w)
	if got, want := l.Remaining(), begun.Add(b.c.terms.TTL-b.c.terms.Drift).Sub(b.now()); got != want {
		t.Errorf("Remaining() = %v, want %v by the first of the two", got, want)
	}
}
