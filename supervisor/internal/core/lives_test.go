package core

import (
	"errors"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// A vote is of the life of the node that answered for it last. If the node loses the key
// in that life, somebody has deleted it; if it does so in another one, it has forgotten.

// keptData has a node come back as another life that still has all its keys.
func (b *bench) keptData(i int, change ...func(*node.State)) { b.restart(i, change...) }

// deleted has a node say that the key is gone, and reports whether that was taken for a
// deletion.
func (b *bench) deleted(i int) bool {
	b.answerAll(map[int]node.Status{i: node.Absent})
	return b.c.lines["x"].holder.votes.of[i].standing == withdrawn
}

// renewNow asks all nodes at once.
func (b *bench) renewNow() {
	b.c.renewAnd(b.now(), b.c.lines["x"].holder, all(len(b.c.nodes)))
	b.perform()
}

// A renewal that counted in another life makes the vote one of that life.
func TestRenewedVoteIsOfItsLife(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.round(nil) // no regular renewal comes before the life is known for long enough
	b.keptData(0)
	b.advance(b.healAfter())
	b.renewNow()
	b.answerAll(nil)
	b.renewNow()
	if !b.deleted(0) {
		t.Error("a key that was deleted in the life that renewed it passes for forgotten")
	}
}

// So does a heal.
func TestHealedVoteIsOfItsLife(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.restart(0)
	b.advance(b.healAfter())
	b.renewNow()
	b.answerAll(map[int]node.Status{0: node.Absent})
	b.say(b.take(node.Heal)[0], node.OK)
	b.renewNow()
	if !b.deleted(0) {
		t.Error("a key that was deleted in the life that was healed passes for forgotten")
	}
}

// And a grant that was sent to one life and answered by another.
func TestGrantedVoteIsOfItsLife(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	b.keptData(0, func(s *node.State) { s.Guarded, s.Grown = false, true }) // it had waited in the mailbox
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(w)
	b.renewNow()
	if !b.deleted(0) {
		t.Error("a key that was deleted in the life that granted it passes for forgotten")
	}
}

// A vote that was asked for in one life, and never answered, is of that one: if another
// has the key, it came late. It counts when every election is over that may have the vote
// of the life before, and is asked for again just then.
func TestUnansweredVoteIsOfTheLifeThatWasAsked(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[1], node.OK)
	b.say(grants[2], node.OK)
	l := b.got(w)
	b.say(grants[0], node.Unknown)
	b.keptData(0)
	b.c.nodes[0].known = true // the others have told that nobody has a longer TTL
	held := b.c.lines["x"].holder
	b.renewNow()
	b.answerAll(nil)
	if held.votes.of[0].until != 0 {
		t.Fatal("it counts at once")
	}
	b.advance(b.c.healFrom(0, false).Sub(b.now()) - 1)
	b.answerAll(nil)
	if held.votes.of[0].until != 0 {
		t.Fatal("it counts too early")
	}
	b.advance(1)
	b.wantNodes(b.take(node.Renew), 0)
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// Until it counts there, what the life before had promised stands, and no longer.
func TestVoteOfAnotherLifeIsNotProlonged(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x")
	until := l.Remaining()
	b.advance(b.c.terms.TTL / 10)
	b.keptData(0)
	b.renewNow()
	b.answerAll(nil)
	if got, want := l.Remaining(), until-b.c.terms.TTL/10; got != want {
		t.Errorf("Remaining() = %v, want the %v that were promised before", got, want)
	}
	b.advance(b.healAfter())
	b.answerAll(nil)
	if got, want := l.Remaining(), b.c.terms.TTL-b.c.terms.Drift; got != want {
		t.Errorf("Remaining() = %v, want %v after every election is over", got, want)
	}
}

// An adopted key is a vote of the life that swapped its token.
func TestAdoptedVoteIsOfItsLife(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adopt("x")
	b.keptData(0, func(s *node.State) { s.Grown = true }) // others have known it for long
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK)
	}
	b.got(w)
	b.renewNow()
	if !b.deleted(0) {
		t.Error("a key that was deleted in the life that swapped it passes for forgotten")
	}
}

// While an adopted lease waits for its former holder, a renewal that another life has
// answered counts when every election is over that may have the vote of the life before.
func TestAdoptedVoteOfAnotherLifeIsNotProlonged(t *testing.T) {
	for _, after := range []bool{false, true} {
		b := enrolled(t, 1)
		w := b.adoptAfter("x", false)
		b.say(b.take(node.Adopt)[0], node.OK, left(b.c.terms.TTL/2))
		begun := b.now()
		b.say(b.take(node.Renew)[0], node.OK)
		b.clock.Advance(10 * time.Millisecond)
		b.keptData(0)
		wait := b.healAfter() - 1
		if after {
			wait++
		}
		b.clock.Advance(wait)
		b.c.adoptionDue(b.now(), b.c.adopting[0])
		b.perform()
		asked := b.now()
		b.say(b.take(node.Renew)[0], node.OK)
		want := begun
		if after {
			want = asked
		}
		if got, want := b.c.adoptedUntil(b.c.adopting[0]), want.Add(b.c.terms.TTL-b.c.terms.Drift-b.c.terms.Grace); got != want {
			t.Errorf("after=%v: until %v, want %v", after, got, want)
		}
		if after {
			for b.now() < b.c.youngUntil(0) {
				b.waits(w)
				b.advance(100 * time.Millisecond)
				b.answerAll(nil)
			}
			b.advance(b.c.terms.RenewEvery)
			b.answerAll(nil)
			l := b.got(w)
			b.renewNow()
			b.answerAll(map[int]node.Status{0: node.Absent})
			if !errors.Is(l.Err(), lease.ErrRevoked) {
				t.Error("a key that was deleted in the life that renewed it passes for forgotten")
			}
		}
	}
}

// A swap that is answered late, by a life that has just begun, is no vote.
func TestLateSwapOfAnotherLife(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adopt("x")
	swaps := b.take(node.Adopt)
	b.say(swaps[1], node.OK)
	b.say(swaps[2], node.OK)
	b.got(w)
	held := b.c.lines["x"].holder
	b.keptData(0)
	b.c.nodes[0].known = true // the others have told that nobody has a longer TTL
	b.say(swaps[0], node.OK)
	if held.votes.of[0].until != 0 {
		t.Error("it counts at once")
	}
	b.advance(b.healAfter())
	b.answerAll(nil)
	if held.votes.of[0].until == 0 {
		t.Error("it is not asked again")
	}
}

// A young node that has swapped the token was not counted by the adoption, and a renewal
// right after the lease began is no more than that: the wait for elections that may have
// the node's vote of before is the same.
func TestSwapByAYoungNode(t *testing.T) {
	for _, late := range []bool{false, true} {
		b := enrolled(t, 3)
		b.keptData(0)
		b.c.nodes[0].known = true
		w := b.adopt("x")
		swaps := b.take(node.Adopt)
		if !late {
			b.say(swaps[0], node.OK)
		}
		b.say(swaps[1], node.OK)
		b.say(swaps[2], node.OK)
		b.got(w)
		held := b.c.lines["x"].holder
		if late {
			b.say(swaps[0], node.OK)
		}
		b.advance(trackAfter)
		b.answerAll(nil)
		if held.votes.of[0].until != 0 {
			t.Errorf("late %v: the vote of a young node counts at once", late)
		}
		b.advance(b.healAfter())
		b.answerAll(nil)
		if held.votes.of[0].until == 0 {
			t.Errorf("late %v: it never counts", late)
		}
	}
}

// What a late answer to a swap says of the key is taken in like that of a renewal.
func TestLateSwap(t *testing.T) {
	for says, want := range map[node.Status]func(*tenure) bool{
		node.OK:     func(t *tenure) bool { return t.counting().has(0) && t.votes.of[0].until != 0 },
		node.Absent: func(t *tenure) bool { return t.votes.of[0].standing == onProbation },
		node.Other:  func(t *tenure) bool { return t.votes.of[0].standing == taken },
		node.Unsent: func(t *tenure) bool { return t.hold.retry.has(0) && t.votes.of[0].until == 0 },
	} {
		b := enrolled(t, 3)
		w := b.adopt("x")
		swaps := b.take(node.Adopt)
		b.say(swaps[1], node.OK)
		b.say(swaps[2], node.OK)
		b.got(w)
		held := b.c.lines["x"].holder
		b.say(swaps[0], says)
		if !want(held) {
			t.Errorf("%v: votes %v", says, held.votes.of)
		}
	}
}

// One whose key goes while it waits for its former holder is not kept by fewer than a
// quorum, and deletes nothing.
func TestAdoptionThatIsGoneMeanwhile(t *testing.T) {
	for says, kept := range map[node.Status]bool{node.Absent: false, node.Other: false, node.Unknown: true, node.Unsent: true} {
		b := enrolled(t, 3)
		w := b.adoptAfter("x", false)
		swaps := b.take(node.Adopt)
		b.say(swaps[0], node.OK, left(time.Second))
		b.say(swaps[1], node.OK, left(time.Second))
		b.say(swaps[2], node.Absent)
		b.say(to(b.take(node.Renew), 0), says)
		if kept {
			b.waits(w)
		} else {
			b.refused(w, ReasonLost)
		}
		b.wantNodes(b.take(node.Release))
	}
}

// If the life that was asked has the key, a renewal counts at once, however young that is:
// with the guard off young nodes are asked.
func TestUnansweredVoteInTheSameLife(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		b := enrolled(t, 3)
		for i := range 3 {
			b.keptData(i, func(s *node.State) { s.Guarded, s.Grown = false, true })
		}
		var w Call
		var votes []send
		if claimed {
			var token string
			w, token = b.stand("x")
			b.announce(token, 0, 1, 2)
			votes = b.take(node.Claim)
		} else {
			w = b.acquire("x")
			votes = b.take(node.Grant)
		}
		b.say(votes[0], node.Unknown)
		b.say(votes[1], node.OK)
		b.say(votes[2], node.OK)
		b.got(w)
		b.renewNow()
		b.answerAll(nil)
		if b.c.lines["x"].holder.votes.of[0].until == 0 {
			t.Errorf("claimed %v: a key that this life was asked for does not count", claimed)
		}
	}
}
