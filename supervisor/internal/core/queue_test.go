package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// theirs is what a node says of a name that another client has.
func theirs(r *node.Reply) { r.Value, r.Left = "them/"+fmt.Sprintf("%026d", 7), time.Minute }

// stand has a waiter stand in the queue of every node, after a foreign holder.
func (b *bench) stand(name string, change ...func(*Request)) (w Call, token string) {
	b.t.Helper()
	w = b.acquire(name, change...)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	for _, s := range b.take(node.Release) {
		b.say(s, node.Other)
	}
	sends := b.take(node.Enqueue)
	if len(sends) != len(b.c.nodes) {
		b.t.Fatalf("stands in the queues of %v", nodesOf(sends))
	}
	for _, s := range sends {
		b.say(s, node.Other, theirs)
	}
	return w, sends[0].cmd.Token
}

// announce has nodes say that they have reserved the name for a token.
func (b *bench) announce(token string, nodes ...int) {
	for _, i := range nodes {
		b.c.Hear(b.now(), node.Wake{Node: i, Token: token})
		b.perform()
	}
}

// beats has a waiter's next beat come, with an answer from each node.
func (b *bench) beats(answer func(i int) (node.Status, func(*node.Reply))) {
	for _, s := range b.take(node.Enqueue) {
		status, change := answer(s.node)
		b.say(s, status, change)
	}
}

// A waiter asks again right after the key has expired, however little of it was left when it asked:
// a node tells less than a millisecond as 0.
func TestAsksWhenTheKeyHasExpired(t *testing.T) {
	for _, left := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		b := enrolled(t, 3)
		b.acquire("x")
		for _, s := range b.take(node.Grant) {
			b.say(s, node.Other)
		}
		for _, s := range b.take(node.Enqueue) {
			b.say(s, node.Other, func(r *node.Reply) { theirs(r); r.Ticket, r.Left = s.cmd.Ticket, left })
		}
		b.wantNodes(b.take(node.Enqueue))
		b.advance(left + 2*lapse)
		if again := b.take(node.Enqueue); len(again) != 3 {
			t.Errorf("%v left: %d nodes are asked after it, want 3", left, len(again))
		}
	}
}

// A waiter that was refused stands in the queue of every node, with the token of its
// next attempt: as a new one, after all that stand there. The last of the places that
// a quorum has given it becomes its place on all nodes.
func TestRefusedWaiterStandsInQueue(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.advance(5 * time.Millisecond)
	for _, s := range grants {
		b.say(s, node.Other)
	}
	sends := b.take(node.Enqueue)
	b.wantNodes(sends, 0, 1, 2)
	first := grants[0].cmd.Fence
	for _, s := range sends {
		if s.cmd.Ticket != first || !s.cmd.New {
			t.Errorf("%+v: want a new one, at the fence that was proposed first, %d", s.cmd, first)
		}
		if s.cmd.Token == grants[0].cmd.Token || s.cmd.Token != sends[0].cmd.Token {
			t.Errorf("token %s: want a fresh one, the same on all nodes", s.cmd.Token)
		}
	}
	at := func(ticket uint64) func(*node.Reply) {
		return func(r *node.Reply) { theirs(r); r.Ticket = ticket }
	}
	b.say(sends[0], node.Other, at(first))
	b.wantNodes(b.take(node.Enqueue))
	b.say(sends[1], node.Other, at(first+9))
	moved := b.take(node.Enqueue)
	b.wantNodes(moved, 0)
	b.say(sends[2], node.Other, at(first+20)) // the quorum has decided without it
	moved = append(moved, b.take(node.Enqueue)...)
	b.wantNodes(moved, 0, 2)
	for _, s := range moved {
		if s.cmd.Ticket != first+9 || s.cmd.New {
			t.Errorf("%+v: want it moved to the last place that a quorum gave it, %d", s.cmd, first+9)
		}
		b.say(s, node.Other, at(first+9))
	}
	b.wantNodes(b.take(node.Enqueue))
	b.waits(w)
}

// An answer that was under way when a node said over its other connection that it has
// the name reserved may be older than that: the node is asked again.
func TestMessageOvertakesAnswer(t *testing.T) {
	b := enrolled(t, 3)
	_, token := b.stand("x")
	b.advance(b.c.settings.Heartbeat())
	sends := b.take(node.Enqueue)
	b.wantNodes(sends, 0, 1, 2)
	b.announce(token, 0)
	b.say(sends[0], node.Other, theirs)
	again := b.take(node.Enqueue)
	b.wantNodes(again, 0)
	b.say(sends[1], node.Other, theirs)
	b.announce(token, 1) // now a quorum has it reserved
	b.wantNodes(b.take(node.Claim), 1)
	b.say(again[0], node.Other, theirs)
	b.wantNodes(b.take(node.Claim), 0)
}

// A claim that was never answered may come later than a renewal for a longer TTL, and
// would shorten what that was promised.
func TestLateShorterClaim(t *testing.T) {
	for _, early := range []bool{true, false} {
		b := enrolled(t, 3)
		w, token := b.stand("x")
		b.announce(token, 0, 1)
		claims := b.take(node.Claim)
		var late []send
		if early {
			b.say(claims[0], node.Unknown)
			b.advance(b.c.roundTrip())
			claims = append(claims[1:], b.take(node.Claim)...)
		} else {
			b.announce(token, 2)
			late = b.take(node.Claim)
		}
		for _, s := range claims {
			b.say(s, node.OK)
		}
		b.got(w)
		for _, s := range late {
			b.say(s, node.Unknown)
		}
		held := b.c.byToken[token]
		b.c.Extend(b.now(), held.id, termsOf(30*time.Second), b.call())
		b.perform()
		if d := held.hold.ttlCap; d == nil || d.capped == 0 || held.hold.shortened(b.now()) == nil {
			t.Errorf("before it was held: %v; a node that may yet get a claim for a shorter TTL is believed for the longer one", early)
		}
	}
}

// A waiter that counts its attempts makes them, and does not stand in line.
func TestCountedAttemptsDoNotQueue(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", func(w *Request) { w.Attempts = 2 })
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	b.wantNodes(b.take(node.Enqueue))
	b.waits(w)
}

// Nothing is claimed before a quorum has reserved the name; then all that have are,
// with the token that stood in the queue, and those that say so later.
func TestClaimsWhenQuorumHasReserved(t *testing.T) {
	b := enrolled(t, 5)
	w, token := b.stand("x")
	b.announce(token, 3, 1)
	b.wantNodes(b.take(node.Claim))
	b.announce(token, 0)
	claims := b.take(node.Claim)
	b.wantNodes(claims, 0, 1, 3)
	b.announce(token, 4)
	late := b.take(node.Claim)
	b.wantNodes(late, 4)
	if claims[0].cmd.Token != token || claims[0].cmd.Fence <= claims[0].cmd.Ticket {
		t.Errorf("claimed with %+v", claims[0].cmd)
	}
	b.say(claims[0], node.OK)
	b.say(claims[1], node.OK)
	b.waits(w)
	b.say(late[0], node.OK)
	if l := b.got(w); string(l.Token()) != token {
		t.Errorf("token %s, want %s", l.Token(), token)
	}
}

// A reservation is a promise, not a vote: only an answered claim counts.
func TestReservationIsNoVote(t *testing.T) {
	b := enrolled(t, 5)
	w, token := b.stand("x")
	b.announce(token, 0, 1, 2, 3, 4)
	claims := b.take(node.Claim)
	b.wantNodes(claims, 0, 1, 2, 3, 4)
	b.say(claims[0], node.OK)
	b.say(claims[1], node.OK)
	b.say(claims[2], node.Unknown)
	b.say(claims[3], node.Other, theirs)
	b.say(claims[4], node.Other, theirs)
	b.waits(w)
	// What it got is given back, and what may stand in a queue is taken out of it.
	b.advance(b.c.terms.Window)
	b.advance(b.c.terms.Window)
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 1, 2, 3, 4)
	for _, s := range releases {
		if claimed := s.node < 2; s.cmd.Queued == claimed {
			t.Errorf("release to node %d: queued %v", s.node, s.cmd.Queued)
		}
	}
	b.waits(w)
}

// A claim that waits for the answer to a heartbeat has the whole window of an election from when
// it is sent: over far nodes the two answers take longer than one window.
func TestWaitingForHeartbeatsIsNoElection(t *testing.T) {
	for _, n := range []int{1, 3} {
		b := enrolled(t, n)
		w, token := b.stand("x")
		window := b.c.terms.Window
		b.advance(b.c.settings.Heartbeat())
		beats := b.take(node.Enqueue)
		if len(beats) != n {
			t.Fatalf("%d nodes: heartbeats to %v", n, nodesOf(beats))
		}
		for i := range n {
			b.announce(token, i)
		}
		b.advance(window * 3 / 4)
		for _, s := range beats {
			b.say(s, node.Other, theirs) // the node has said it before the release
		}
		sends := b.take(node.Claim)
		if len(sends) != n {
			t.Fatalf("%d nodes: claims to %v", n, nodesOf(sends))
		}
		for _, s := range sends {
			if s.cmd.By != b.now().Add(window) {
				t.Errorf("%d nodes: a claim is sent within %v, want %v", n, s.cmd.By.Sub(b.now()), window)
			}
		}
		b.advance(window * 3 / 4)
		b.waits(w)
		for _, s := range sends {
			b.say(s, node.OK)
		}
		b.got(w)
	}
}

// The window begins with the first claim, whichever node gets that: later ones are sent within the
// same, as a vote must not count for longer.
func TestWindowBeginsWithTheFirstClaim(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	window := b.c.terms.Window
	b.advance(b.c.settings.Heartbeat())
	beats := b.take(node.Enqueue)
	b.announce(token, 0, 1, 2)
	b.advance(window / 4)
	b.say(beats[1], node.Other, theirs)
	end := b.now().Add(window)
	b.wantNodes(b.take(node.Claim), 1)
	b.advance(window / 2)
	b.say(beats[0], node.Other, theirs)
	late := b.take(node.Claim)
	b.wantNodes(late, 0)
	if by := late[0].cmd.By; by != end {
		t.Errorf("a later claim is sent until %v after the window of the first", by.Sub(end))
	}
	b.advance(window/2 + time.Nanosecond)
	b.say(late[0], node.OK)
	if b.done(w) {
		t.Error("an election lasts longer than a window")
	}
}

// An election of which nobody has been asked ends after a window as others do.
func TestElectionWithoutClaimsEnds(t *testing.T) {
	b := enrolled(t, 1)
	w, token := b.stand("x")
	b.advance(b.c.settings.Heartbeat())
	b.take(node.Enqueue)
	b.announce(token, 0)
	b.advance(b.c.terms.Window)
	b.advance(time.Nanosecond)
	b.wantNodes(b.take(node.Claim))
	b.wantNodes(b.take(node.Release), 0)
	b.waits(w)
}

// Claims whose fence must be raised have as long for it as any election.
func TestClaimsAreRaisedInTime(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	b.announce(token, 0, 1, 2)
	claims := b.take(node.Claim)
	for _, s := range claims[:2] {
		b.say(s, node.OK, func(r *node.Reply) { r.Raised, r.Fence = false, s.cmd.Fence+7 })
	}
	raises := b.take(node.Raise)
	b.advance(b.c.terms.Window / 2)
	for _, s := range raises {
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() != claims[0].cmd.Fence+8 {
		t.Errorf("fence %d, want one more than %d", l.Fence(), claims[0].cmd.Fence+7)
	}
}

// A promise ends: a quorum must have reserved the name at the same time.
func TestReservationsLapse(t *testing.T) {
	b := enrolled(t, 3)
	_, token := b.stand("x")
	b.announce(token, 0)
	b.clock.Advance(b.c.settings.Reserve() + 1)
	b.announce(token, 1)
	b.wantNodes(b.take(node.Claim))
}

// A waiter whose claims come to nothing stands in line again, with a fresh token
// and its old ticket: its place does not get worse.
func TestLosersKeepTheirPlace(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	ticket := b.c.byToken[token].queuing.ticket + 3
	for i := range 2 {
		b.c.onTicket(b.now(), b.c.byToken[token], i, ticket)
	}
	b.announce(token, 0, 1)
	for _, s := range b.take(node.Claim) {
		b.say(s, node.Other, theirs)
	}
	b.advance(b.c.roundTrip()) // the third is claimed as well
	for _, s := range b.take(node.Claim) {
		b.say(s, node.Other, theirs)
	}
	sends := b.take(node.Enqueue)
	b.wantNodes(sends, 0, 1, 2)
	if s := sends[0].cmd; s.Token == token || s.Ticket != ticket || s.New {
		t.Errorf("stands with %s, ticket %d: want another token than %s, and ticket %d", s.Token, s.Ticket, token, ticket)
	}
	b.waits(w)
}

// Nodes that do not say that they have reserved the name, because a message was
// lost or they have no queue any more, are claimed a little later.
func TestCanvass(t *testing.T) {
	b := enrolled(t, 5)
	w, token := b.stand("x")
	b.announce(token, 0, 1, 2)
	claims := b.take(node.Claim)
	b.say(claims[0], node.OK)
	b.say(claims[1], node.OK)
	b.say(claims[2], node.Other, theirs)
	b.waits(w)
	b.advance(b.c.roundTrip())
	claims = b.take(node.Claim)
	b.wantNodes(claims, 2, 3, 4)
	b.say(to(claims, 3), node.OK)
	b.got(w)
}

// A waiter with a part of a quorum soon asks where the rest stays. Somebody with an earlier
// ticket who came later to some nodes is before it: it passes on what it has.
func TestGivesWay(t *testing.T) {
	b := enrolled(t, 5)
	w, token := b.stand("x")
	b.announce(token, 0, 1)
	b.advance(b.c.roundTrip())
	b.wantNodes(b.take(node.Leave))
	b.beats(func(i int) (node.Status, func(*node.Reply)) {
		if i < 2 {
			return node.OK, func(r *node.Reply) { r.Ahead = 1 }
		}
		return node.Other, func(r *node.Reply) { r.Value, r.Ahead = fmt.Sprintf("?rival%d/%026d", i, i), 1 }
	})
	b.wantNodes(b.take(node.Leave), 0, 1)
	again := b.take(node.Enqueue)
	b.wantNodes(again, 0, 1) // and stands there anew, after that one
	// Once in a while: else two of them would go on for ever.
	for _, s := range again {
		b.say(s, node.OK, func(r *node.Reply) { r.Ahead = 1 })
	}
	b.wantNodes(b.take(node.Leave))
	b.waits(w)
}

// The first in line does not give way: the others do.
func TestFirstInLineIsPatient(t *testing.T) {
	b := enrolled(t, 5)
	w, token := b.stand("x")
	b.announce(token, 0, 1)
	b.advance(b.c.roundTrip())
	b.beats(func(i int) (node.Status, func(*node.Reply)) {
		if i < 2 {
			return node.OK, func(*node.Reply) {}
		}
		return node.Other, func(r *node.Reply) { r.Value = fmt.Sprintf("?rival%d/%026d", i, i) }
	})
	b.wantNodes(b.take(node.Leave))
	b.announce(token, 4) // a rival gave way
	claims := b.take(node.Claim)
	b.wantNodes(claims, 0, 1, 4)
	for _, s := range claims {
		b.say(s, node.OK)
	}
	b.got(w)
}

// A waiter beats on every node after a pause, with the same token, and where a beat
// is not answered yet does not send another.
func TestBeat(t *testing.T) {
	b := enrolled(t, 3)
	_, token := b.stand("x")
	b.advance(10 * b.c.settings.RetryMax)
	sends := b.take(node.Enqueue)
	b.wantNodes(sends, 0, 1, 2)
	if sends[0].cmd.Token != token {
		t.Errorf("token %s, want %s", sends[0].cmd.Token, token)
	}
	b.say(sends[0], node.Other, theirs)
	b.say(sends[1], node.Unknown)
	b.advance(10 * b.c.settings.RetryMax)
	b.wantNodes(b.take(node.Enqueue), 0, 1)
}

// One that has what it can reach reserved for it, and reaches no quorum, asks more
// rarely: one that reaches more may need just these nodes.
func TestBeatsRarelyWithoutQuorum(t *testing.T) {
	b := enrolled(t, 3)
	b.stand("x")
	b.advance(b.c.settings.Heartbeat())
	b.beats(func(i int) (node.Status, func(*node.Reply)) {
		if i == 0 {
			return node.OK, func(*node.Reply) {}
		}
		return node.Unknown, func(*node.Reply) {}
	})
	b.advance(2 * b.c.settings.Heartbeat())
	b.wantNodes(b.take(node.Enqueue))
	b.advance(b.c.settings.Heartbeat())
	b.wantNodes(b.take(node.Enqueue), 0, 1, 2)
}

// When the holder's grant runs out the waiter asks at once.
func TestBeatsWhenTheHolderRunsOut(t *testing.T) {
	b := enrolled(t, 3)
	b.acquire("x")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	for _, s := range b.take(node.Enqueue) {
		b.say(s, node.Other, theirs, func(r *node.Reply) { r.Left = 20 * time.Millisecond })
	}
	b.advance(20*time.Millisecond + lapse - 1)
	b.wantNodes(b.take(node.Enqueue))
	b.advance(1)
	b.wantNodes(b.take(node.Enqueue), 0, 1, 2)
}

// After a subscription was made anew every waiter asks that node once.
func TestNewSubscription(t *testing.T) {
	b := enrolled(t, 3)
	b.stand("x")
	b.stand("y")
	b.hold("z")
	b.announce("", 1)
	sends := b.take(node.Enqueue)
	b.wantNodes(sends, 1, 1)
	if sends[0].cmd.Name == sends[1].cmd.Name {
		t.Errorf("asked for %s twice", sends[0].cmd.Name)
	}
}

// A cancelled waiter is taken out of every queue, also of those that have not
// answered, and nothing of it is left.
func TestCancelledWaiterLeavesQueues(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	for _, s := range b.take(node.Release) {
		b.say(s, node.Other)
	}
	enqueues := b.take(node.Enqueue)
	b.say(enqueues[0], node.Other, theirs)
	b.say(enqueues[1], node.Unsent)
	b.c.Cancel(b.now(), w)
	b.perform()
	b.refused(w, ReasonHeld)
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 2) // node 1 never got it
	for _, s := range releases {
		if !s.cmd.Queued {
			t.Errorf("release to node %d does not take it out of the queue", s.node)
		}
		b.say(s, node.Other)
	}
	b.say(enqueues[2], node.OK)
	if left := b.c.tenures.len() + len(b.c.lines) + len(b.c.inquiries) + b.alarms() + len(b.c.byToken); left != 0 {
		t.Errorf("%d things are left behind", left)
	}
	b.announce(enqueues[0].cmd.Token, 0) // comes too late
	b.wantNodes(b.take(node.Claim))
}

// A winner before all nodes have answered is taken out of the other queues a
// little later. What they reserve for it until then is healed, as a vote on trial is: a
// rival may have had the node meanwhile.
func TestReservedForHolder(t *testing.T) {
	b := enrolled(t, 5)
	w, token := b.stand("x")
	b.announce(token, 0, 1, 2)
	for _, s := range b.take(node.Claim) {
		b.say(s, node.OK)
	}
	b.got(w)
	held := b.c.byToken[token]
	b.announce(token, 3)
	b.wantNodes(b.take(node.Claim))
	b.wantNodes(b.take(node.Heal))
	b.answerAll(map[int]node.Status{3: node.Unknown, 4: node.Absent}) // the trial asks them
	heals := b.take(node.Heal)
	b.wantNodes(heals, 3, 4)
	for _, s := range heals {
		b.say(s, node.OK)
	}
	if held.counting().has(3) {
		t.Error("the vote of a node that was reserved for it when it held already counts at once")
	}
	b.answerAll(map[int]node.Status{3: node.Unknown})
	b.advance(b.c.settings.NodeTimeout)
	b.wantNodes(b.take(node.Leave), 3, 4)

	b.advance(b.c.terms.RenewEvery)
	for _, s := range b.take(node.Renew) {
		if s.node < 3 {
			b.say(s, node.OK)
		}
	}
	if !held.counting().has(3) {
		t.Error("the vote does not count although a quorum of others has renewed since")
	}
}

// A young node is asked for no vote by a claim either.
func TestYoungNodesAreNotClaimed(t *testing.T) {
	b := enrolled(t, 3)
	_, token := b.stand("x")
	s := b.state()
	s.Life, s.LifeAt, s.Grown = 2, b.now(), false
	b.c.Receive(b.now(), node.Batch{Node: 2, State: s})
	b.perform()
	b.announce(token, 0, 2)
	b.wantNodes(b.take(node.Claim), 0)
}

// News of a key while the grant for it is not answered yet has a held lease ask whether
// the node keeps it, and never claim it: a claim's vote would count at once, although a
// rival may have had the node.
func TestNewsDuringLateGrant(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	b.got(w)
	b.c.Hear(b.now(), node.Wake{Node: 2, Key: "x"})
	b.perform()
	b.say(grants[2], node.Other)
	b.wantNodes(b.take(node.Claim))
	b.wantNodes(b.take(node.Renew), 2)
}

// A client that had to wait for a name, and wants it again soon, stands in the queue at once:
// an attempt would be refused. If it finds that nobody waits there any more it makes an attempt
// the next time.
func TestCrowdedName(t *testing.T) {
	once := func(w *Request) { w.Attempts = 1 }
	for _, tt := range []struct {
		name   string
		after  time.Duration // of the release
		change []func(*Request)
		want   node.Op
	}{
		{"soon", time.Millisecond, nil, node.Enqueue},
		{"later", 2 * time.Minute, nil, node.Grant},
		{"one attempt", time.Millisecond, []func(*Request){once}, node.Grant},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := enrolled(t, 3)
			_, token := b.stand("x")
			b.announce(token, 0, 1, 2)
			b.claimAndRelease("x")
			b.advance(tt.after)
			b.acquire("x", tt.change...)
			b.wantOnly(tt.want)
		})
	}
	t.Run("nobody waits any more", func(t *testing.T) {
		b := enrolled(t, 3)
		_, token := b.stand("x")
		b.announce(token, 0, 1, 2)
		b.claimAndRelease("x")
		b.acquire("x")
		for _, s := range b.take(node.Enqueue) {
			if s.cmd.Ticket == 0 || !s.cmd.New {
				t.Errorf("%+v: want a new one with a ticket", s.cmd)
			}
			b.say(s, node.OK)
		}
		b.claimAndRelease("x")
		b.acquire("x")
		b.wantOnly(node.Grant)
	})
	t.Run("a young node is nobody", func(t *testing.T) {
		b := enrolled(t, 3)
		young := b.c.nodes[0].state
		young.Grown, young.LifeAt = false, b.now()
		b.c.Receive(b.now(), node.Batch{Node: 0, State: young})
		b.perform()
		w := b.acquire("x")
		for _, s := range b.take(node.Grant) {
			b.say(s, node.Other)
		}
		b.waits(w)
		b.take(node.Inspect)
		for _, s := range b.take(node.Enqueue) {
			if s.node == 0 {
				b.say(s, node.Other) // it hands nothing over
			} else {
				b.say(s, node.OK)
			}
		}
		b.claimAndRelease("x")
		b.acquire("x")
		if n := len(b.take(node.Enqueue)); n > 0 {
			t.Errorf("stands in %d queues, in which nobody was before it", n)
		}
	})
	t.Run("what is remembered is bounded", func(t *testing.T) {
		b := enrolled(t, 1)
		for i := range maxContended + 10 {
			name := fmt.Sprint(i)
			_, token := b.stand(name)
			b.announce(token, 0)
			b.claimAndRelease(name)
		}
		if n := len(b.c.contended); n > maxContended {
			t.Errorf("%d names are remembered", n)
		}
	})
}

// claimAndRelease has all claims granted, and the lease released.
func (b *bench) claimAndRelease(name string) {
	b.t.Helper()
	for _, s := range b.take(node.Claim) {
		b.say(s, node.OK)
	}
	b.c.Release(b.now(), b.c.lines[name].holder.id, b.call())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.OK)
	}
}

// wantOnly wants an operation to have been sent to all nodes, and nothing else.
func (b *bench) wantOnly(op node.Op) {
	b.t.Helper()
	for _, s := range b.sent {
		if s.cmd.Op != op {
			b.t.Errorf("%v was sent, want %v alone", s.cmd.Op, op)
		}
	}
	if len(b.sent) != len(b.c.nodes) {
		b.t.Errorf("%d were sent, want one to each node", len(b.sent))
	}
}

// What should come at once is waited for by the round trips of the slowest node; by half of
// NodeTimeout if these are longer, or by those of a quorum if all of it is far.
func TestRoundTrip(t *testing.T) {
	const away = -1
	c := New(defaults(5, 3*time.Second))
	patience, window := c.settings.NodeTimeout/2/time.Millisecond, c.terms.Window/2/time.Millisecond
	for _, x := range []struct {
		latencies [5]time.Duration // in milliseconds
		want      time.Duration
	}{
		{[5]time.Duration{away, away, away, away, away}, 1},
		{[5]time.Duration{}, 1},
		{[5]time.Duration{9, 2, 3, 4, 5}, 18},
		{[5]time.Duration{9, away, away, away, away}, 18},
		{[5]time.Duration{1, 1, 400, 1, 1}, patience},
		{[5]time.Duration{1, 400, 400, 1, 1}, patience},
		{[5]time.Duration{1, 400, 100, 1, 60}, 120},
		{[5]time.Duration{away, 60, away, 100, 60}, 200},
		{[5]time.Duration{away, away, away, 100, 60}, patience},
		{[5]time.Duration{400, 400, 400, 400, 400}, window},
	} {
		for i, ms := range x.latencies {
			c.nodes[i].state = node.State{Enrolled: ms != away, Latency: max(ms, 0) * time.Millisecond}
			if ms == away {
				c.nodes[i].state.Latency = time.Second // as it was
			}
		}
		if got := c.roundTrip(); got != x.want*time.Millisecond {
			t.Errorf("%v: %v, want %v", x.latencies, got, x.want*time.Millisecond)
		}
	}
}

// A node that says of a waiter's name that another has it has taken its reservation back.
func TestReservationThatIsTakenBack(t *testing.T) {
	b := enrolled(t, 3)
	_, token := b.stand("x")
	b.announce(token, 0)
	b.take(node.Enqueue)
	tn := b.c.byToken[token]
	b.c.onEnqueue(b.now(), tn, 0, node.Reply{ID: tn.id, Op: node.Enqueue, Status: node.Other, Value: "them/A", Left: time.Minute})
	b.announce(token, 1)
	b.wantNodes(b.take(node.Claim))
}

// That a name was crowded is remembered for a beat: those who waited have asked again by then.
func TestCrowdedForABeat(t *testing.T) {
	for _, late := range []time.Duration{0, 1} {
		b := enrolled(t, 3)
		l := &line{waitList: &waitList{key: "x"}}
		b.c.lines["x"] = l
		w := &waiter{Request: Request{Call: b.call(), Key: "x", Terms: b.c.terms}}
		b.c.waiters.add(w)
		b.c.addWaiter(l, w)
		b.c.contended["x"] = b.now().Add(-b.c.settings.Heartbeat() - late)
		if got := b.c.queueIfContended(b.now(), l); got != (late == 0) {
			t.Errorf("a beat and %v later: %v", late, got)
		}
	}
}
