package core

import (
	"errors"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// More than half of the nodes that are configured, whatever their number.
func TestQuorumOfTheConfigured(t *testing.T) {
	for n, want := range []int{1: 1, 2, 2, 3, 3, 4, 4} {
		if n == 0 {
			continue
		}
		if got := New(defaults(n, time.Second)).Quorum(); got != want {
			t.Errorf("a quorum of %d of %d nodes, want %d", got, n, want)
		}
	}
}

// A node that confirmed a trial and then turns out to have been taken itself
// confirms nothing.
func TestSuspectsConfirmNothing(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	b.round(map[int]node.Status{0: node.Absent})
	b.round(map[int]node.Status{0: node.Absent}) // it is healed a renewal interval later
	b.say(b.take(node.Heal)[0], node.OK)
	b.advance(b.c.terms.RenewEvery)
	first := b.take(node.Renew)
	for _, i := range []int{0, 1, 2} {
		b.say(to(first, i), node.OK)
	}
	b.say(to(first, 3), node.Unknown)
	b.say(to(first, 4), node.Unknown)
	held := b.c.lines["x"].holder
	if held.counting().has(0) {
		t.Fatal("it counts by the word of two others")
	}
	b.advance(b.c.terms.RenewEvery)
	second := b.take(node.Renew)
	b.say(to(second, 1), node.Absent)
	b.say(to(second, 3), node.OK)
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	if held.counting().has(0) {
		t.Fatal("it counts by the word of one that was taken itself")
	}
	b.say(to(second, 4), node.OK)
	if !held.counting().has(0) {
		t.Fatal("it does not count by the word of three others")
	}
}

// lateGrants has a lease won by three of five nodes, and the others answer late.
func (b *bench) lateGrants(says node.Status) *lease.Lease {
	b.t.Helper()
	w := b.acquire("x")
	grants := b.take(node.Grant)
	for _, s := range grants[:3] {
		b.say(s, node.OK)
	}
	l := b.got(w)
	b.advance(lateAfter + 1)
	b.say(grants[3], says)
	b.say(grants[4], says)
	return l
}

// A grant that was long on its way counts; but not any more once the key is found
// deleted elsewhere, because a rival may have had that node and this one before it came,
// unless a quorum of others has renewed since.
func TestLateGrantHidesNoRival(t *testing.T) {
	for _, how := range []string{"unconfirmed", "confirmed", "told by a renewal"} {
		t.Run(how, func(t *testing.T) {
			b := enrolled(t, 5)
			says := node.OK
			if how == "told by a renewal" {
				says = node.Unknown // it has arrived all the same
			}
			l := b.lateGrants(says)
			if held := b.c.lines["x"].holder; !held.counting().has(3) {
				t.Fatal("a late grant does not count")
			}
			if how == "confirmed" {
				b.round(nil)
			}
			b.advance(b.c.terms.RenewEvery)
			renewals := b.take(node.Renew)
			for _, i := range []int{4, 3, 2, 1} {
				b.say(to(renewals, i), node.OK)
			}
			if err := l.Err(); err != nil {
				t.Fatal(err)
			}
			b.say(to(renewals, 0), node.Absent)
			if err := l.Err(); (err == nil) != (how == "confirmed") {
				t.Errorf("Err() = %v", err)
			}
		})
	}
}

// Late grants that are in doubt confirm neither each other nor anything else.
func TestLateGrantsConfirmNothing(t *testing.T) {
	b := enrolled(t, 5)
	l := b.lateGrants(node.OK)
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	for _, i := range []int{4, 3, 2, 1} {
		b.say(to(renewals, i), node.OK)
	}
	b.say(to(renewals, 0), node.Unknown) // it was deleted there, before the grants came
	b.advance(b.c.terms.RenewEvery)
	for _, s := range b.take(node.Renew) {
		b.say(s, map[bool]node.Status{true: node.Absent, false: node.OK}[s.node == 0])
	}
	if l.Err() == nil {
		t.Error("two late grants stand in for what was deleted")
	}
}

// These three were found by a search through all interleavings of three nodes and two
// clients (S10 to S12 in the order below). Each is what the nodes answer to the holder
// while a rival has its tenure.

// A grant that was late lands after a loss of data, after its connection was given up.
// A renewal finds the key, in a life that was never asked for a vote: it counts only when
// every election is over that may have the vote of the life before.
func TestKeyOfAnotherLife(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	l := b.got(w)
	b.say(grants[2], node.Unknown) // it lands on node 2 nevertheless, which has been flushed
	b.restart(2)
	b.c.nodes[2].known = true // the others have told that nobody has a longer TTL
	held := b.c.lines["x"].holder
	b.renewNow()
	b.answerAll(map[int]node.Status{0: node.Unknown})
	if held.votes.of[2].until != 0 {
		t.Fatal("a key that another life was asked for counts at once")
	}
	// The rival's election had the vote of the life before. It gets node 0, where the
	// holder's key has lapsed, and is over within W: so the holder is told by then.
	b.advance(b.healAfter() - 1)
	b.answerAll(map[int]node.Status{0: node.Unknown})
	if held.votes.of[2].until != 0 {
		t.Fatal("it counts before the rival's election must be over")
	}
	b.advance(1)
	b.answerAll(map[int]node.Status{0: node.Unknown})
	if held.votes.of[2].until == 0 {
		t.Error("it does not count when that is over")
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// The others confirmed before the node had the key again: one of them was deleted in
// between, and a rival came by it and by the node to which the heal was on its way.
func TestHealBehindARival(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	held := b.c.lines["x"].holder
	b.round(map[int]node.Status{2: node.Unknown})
	b.round(map[int]node.Status{2: node.Unknown})
	b.round(map[int]node.Status{2: node.Unknown})
	b.round(map[int]node.Status{2: node.Absent}) // it has lapsed there
	heal := b.take(node.Heal)
	b.wantNodes(heal, 2) // by the word of both others
	// Node 1 is deleted, the rival has 1 and 2, works, and releases 2. The heal lands.
	b.say(heal[0], node.OK)
	if held.counting().has(2) {
		t.Fatal("it counts by what was confirmed before it had the key")
	}
	b.answerAll(map[int]node.Status{1: node.Absent})
	if !errors.Is(l.Err(), lease.ErrRevoked) {
		t.Errorf("Err() = %v: the holder was not alone", l.Err())
	}
}

// A key was deleted, which is found only after it would have lapsed: a rival may have
// come by that node and by one to which a grant was still on its way.
func TestLateGrantBehindALapse(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	l := b.got(w)
	b.advance(lateAfter + 1)
	b.say(grants[2], node.OK) // after the rival, who had nodes 0 and 2
	held := b.c.lines["x"].holder
	lapses := held.votes.of[0].until
	for b.now() < lapses {
		b.round(map[int]node.Status{0: node.Unknown})
	}
	if err := l.Err(); err != nil || !held.counting().has(2) {
		t.Fatalf("Err() = %v: node 1 and the late grant keep it", err)
	}
	b.round(map[int]node.Status{0: node.Absent})
	if l.Err() == nil {
		t.Error("held by a grant that came late and by one other, and the third is gone")
	}
}

// Renewals for a trial are sent when it begins, and not when the next regular ones are due:
// also if all others have answered by then.
func TestTrialBeginsAtOnce(t *testing.T) {
	b := enrolled(t, 5)
	b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	for _, i := range []int{1, 2, 3, 4, 0} {
		b.say(to(renewals, i), map[bool]node.Status{true: node.Absent, false: node.OK}[i == 0])
	}
	b.wantNodes(b.take(node.Renew), 1, 2, 3, 4)
}
