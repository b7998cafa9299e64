package core

import (
	"errors"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// forgets has nodes begin another life without the lease's key, and returns the heals that
// come when every election is over which may have their vote.
func (b *bench) forgets(nodes ...int) []send {
	b.t.Helper()
	says := make(map[int]node.Status)
	for _, i := range nodes {
		b.restart(i)
		says[i] = node.Absent
	}
	b.advance(b.c.healFrom(nodes[0], true).Sub(b.now()) - 1)
	b.renewNow()
	b.answerAll(says)
	b.wantNodes(b.take(node.Heal))
	b.advance(1)
	b.answerAll(says)
	heals := b.take(node.Heal)
	b.wantNodes(heals, nodes...)
	return heals
}

// A heal that finds another's value has found a rival: the vote does not count any more,
// and the loss says that the lease was taken.
func TestHealFindsAnother(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	heals := b.forgets(0, 1)
	held := b.c.lines["x"].holder
	b.say(heals[0], node.Other)
	if held.counting().has(0) || held.votes.of[0].standing != taken || held.votes.of[0].until != 0 {
		t.Fatalf("votes %v", held.votes.of)
	}
	if err := l.Err(); err != nil {
		t.Fatalf("with two of three: %v", err)
	}
	b.wantNodes(b.take(node.Heal)) // as after any deletion it waits
	b.say(heals[1], node.Other)
	if !errors.Is(l.Err(), lease.ErrTaken) {
		t.Errorf("Err() = %v, want %v", l.Err(), lease.ErrTaken)
	}
}

// A heal that is never answered decides nothing: the vote is what it was, and the node is
// asked again soon.
func TestHealUnanswered(t *testing.T) {
	for says, late := range map[node.Status]bool{node.Unknown: true, node.Unsent: false} {
		b := enrolled(t, 3)
		l := b.hold("x")
		held := b.c.lines["x"].holder
		before := held.votes.of[0].until
		heal := b.forgets(0)
		b.say(heal[0], says)
		if v := held.votes.of[0]; v.until != before || v.life != 1 || !held.counting().has(0) {
			t.Errorf("%v: until %v of life %d, want %v of the first", says, v.until, v.life, before)
		}
		if held.hold.isSilent(0) != late {
			t.Errorf("%v: may it come late? %v", says, !late)
		}
		b.advance(b.c.terms.RenewEvery / 8)
		if again := b.take(node.Renew); len(again) == 0 || again[0].node != 0 {
			t.Errorf("%v: asked %v, want node 0 soon", says, nodesOf(again))
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
	}
}

// A heal that comes late may give the key a shorter TTL than a renewal has since.
func TestLateHealShortens(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x")
	b.say(b.forgets(0)[0], node.Unknown)
	long := termsOf(30 * time.Second)
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, long, b.call())
	b.perform()
	for _, s := range b.take(node.Renew) {
		b.say(s, node.OK)
	}
	if got, most := l.Remaining(), b.c.terms.TTL; got > most {
		t.Errorf("it is believed for %v, and a heal for %v may come yet", got, most)
	}
}

// The release after a heal that was never answered is owed for as long as that may come.
func TestDebtBehindALateHeal(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	b.say(b.forgets(0)[0], node.Unknown)
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unsent)
	}
	b.drop(0)
	b.advance(owedFor - time.Second)
	b.enrol(0)
	b.wantNodes(b.take(node.Release), 0)
}

// A heal that is answered when the time of the lease is up revives nothing.
func TestHealTooLate(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x")
	heal := b.forgets(0)[0]
	b.clock.Advance(b.c.terms.TTL)
	b.say(heal, node.OK)
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Errorf("Err() = %v", l.Err())
	}
}

// A lease that was released while it was healed is given back on that node as well, and
// forgotten after its answer.
func TestHealBehindARelease(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	heal := b.forgets(0)[0]
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	release := b.take(node.Release)
	b.wantNodes(release, 0)
	b.say(heal, node.OK)
	b.say(release[0], node.OK)
	if b.c.tenures.len() != 0 {
		t.Error("the tenure was not forgotten")
	}
}

// A heal waits for the elections of the widest MaxTTL that any node has told, also for one
// that was told after the node began another life.
func TestHealWaitsForTheWidest(t *testing.T) {
	const widest = 8 * time.Second
	b := enrolled(t, 3)
	b.hold("x")
	b.restart(0)
	begun := b.now()
	b.told(2, func(s *node.State) { s.MaxTTL = widest })
	at := begun.Add(widest/4 + widest/100 + 2*time.Millisecond)
	for b.now() < at-1 {
		b.advance(min(50*time.Millisecond, at.Sub(b.now())-1))
		b.answerAll(map[int]node.Status{0: node.Absent})
		b.wantNodes(b.take(node.Heal))
	}
	b.advance(1)
	b.answerAll(map[int]node.Status{0: node.Absent})
	b.wantNodes(b.take(node.Heal), 0)
}

// onTrial has a lease won by nodes 1 and 2 of three, and node 0 healed, whose vote the
// others have yet to confirm. It returns what they were asked for that.
func (b *bench) onTrial(t *testing.T) (held *tenure, asked []send) {
	t.Helper()
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.Unsent)
	b.say(grants[1], node.OK)
	b.say(grants[2], node.OK)
	b.got(w)
	b.renewNow()
	b.answerAll(map[int]node.Status{0: node.Absent})
	b.say(b.take(node.Heal)[0], node.OK)
	held = b.c.lines["x"].holder
	asked = b.take(node.Renew)
	b.wantNodes(asked, 1, 2)
	if held.votes.of[0].until == 0 || held.counting().has(0) {
		t.Fatalf("until %v, counting %b: want it on trial, with the key", held.votes.of[0].until, held.counting())
	}
	return held, asked
}

// A vote on trial confirms no extension and no hand-over: the lease would last by less than
// a quorum, or be handed over by less.
func TestOnTrialConfirmsNoExtension(t *testing.T) {
	for _, handOver := range []bool{false, true} {
		b := enrolled(t, 3)
		mine, asked := b.onTrial(t)
		answer := b.call()
		if handOver {
			b.c.HandOver(b.now(), mine.id, answer)
		} else {
			b.c.Extend(b.now(), mine.id, b.c.terms, answer)
		}
		b.perform()
		b.say(b.take(node.Renew)[0], node.OK) // of node 0
		b.say(to(asked, 1), node.OK)
		b.say(to(b.take(node.Renew), 1), node.OK)
		if b.done(answer) {
			t.Fatalf("hand-over %v: confirmed by one vote, and one on trial", handOver)
		}
		if mine.phase != phaseHeld {
			t.Fatalf("hand-over %v: phase %v", handOver, mine.phase)
		}
		b.say(to(asked, 2), node.OK)
		for _, s := range b.take(node.Renew) {
			b.say(s, node.OK)
		}
		if !b.done(answer) || b.answer(answer) != nil {
			t.Errorf("hand-over %v: not confirmed by all three", handOver)
		}
	}
}

// The key is back on a node, and its trial begins anew: what others have confirmed before
// that proves nothing of the time between. So it is however it came back.
func TestTrialBeginsAnewWithTheKey(t *testing.T) {
	for _, how := range []string{"healed", "renewed"} {
		b := enrolled(t, 3)
		w := b.acquire("x")
		grants := b.take(node.Grant)
		b.say(grants[0], node.Unsent)
		b.say(grants[1], node.OK)
		b.say(grants[2], node.OK)
		b.got(w)
		b.renewNow()
		b.answerAll(map[int]node.Status{0: node.Absent})
		held := b.c.lines["x"].holder
		if x := held.votes.trials()[0]; x.confirmed.len() != 2 {
			t.Fatalf("confirmed by %b", x.confirmed)
		}
		heal := b.take(node.Heal)[0]
		if how == "healed" {
			b.say(heal, node.OK)
		} else {
			b.say(heal, node.Unknown)
			b.advance(b.c.terms.RenewEvery / 8)
			b.say(b.take(node.Renew)[0], node.OK)
		}
		if x := held.votes.trials()[0]; x.confirmed != 0 || held.counting().has(0) {
			t.Errorf("%s: confirmed by %b, counting %b", how, x.confirmed, held.counting())
		}
	}
}

// A node that has no vote of a new lease is asked soon, and not if another has the key;
// and as soon as it is enrolled again.
func TestNodesWithoutAVoteAreAsked(t *testing.T) {
	b := enrolled(t, 5)
	b.drop(4)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.Unsent)
	b.say(grants[1], node.OK)
	b.say(grants[4], node.Unsent)
	b.say(grants[2], node.OK)
	b.say(grants[3], node.OK)
	b.got(w)
	b.advance(trackAfter - 1)
	b.wantNodes(b.take(node.Renew))
	b.advance(1)
	b.wantNodes(b.take(node.Renew), 0)
	b.enrol(4)
	b.wantNodes(b.take(node.Renew), 4)

	b = enrolled(t, 3)
	w = b.acquire("x")
	grants = b.take(node.Grant)
	b.say(grants[0], node.Other)
	b.say(grants[1], node.OK)
	b.say(grants[2], node.OK)
	b.got(w)
	b.advance(trackAfter)
	b.wantNodes(b.take(node.Renew)) // it has said who has it
}

// Nor does a lease that is not renewed ask anybody, or mend anything.
func TestUnrenewedIsNotMended(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", func(w *Request) { w.NoRenew = true })
	grants := b.take(node.Grant)
	b.say(grants[0], node.Unsent)
	b.say(grants[1], node.OK)
	b.say(grants[2], node.OK)
	b.got(w)
	b.drop(0)
	b.enrol(0)
	b.restart(1)
	for range 10 {
		b.advance(b.c.terms.TTL / 20)
		for _, s := range b.take(node.Inspect) {
			b.look(s)
		}
	}
	b.wantNodes(b.take(node.Renew))
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, b.c.terms, b.call())
	b.perform()
	b.answerAll(map[int]node.Status{0: node.Absent, 1: node.Absent})
	b.wantNodes(b.take(node.Heal))
}

// A late grant is in doubt when a vote that was ours has lapsed and is gone; that a node
// never had the key says nothing of it.
func TestOnlyWhatWasOursRaisesDoubt(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	for _, i := range []int{0, 1, 2} {
		b.say(grants[i], node.OK)
	}
	b.say(grants[4], node.Unsent)
	l := b.got(w)
	b.clock.Advance(lateAfter + 1)
	b.say(grants[3], node.OK)
	mine := b.c.lines["x"].holder
	b.renewNow()
	says := b.take(node.Renew)
	b.say(to(says, 4), node.Absent)
	if !mine.counting().has(3) || mine.votes.suspect() != 1<<4 || mine.votes.of[4].standing != onProbation {
		t.Fatalf("votes %v", mine.votes.of)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}
