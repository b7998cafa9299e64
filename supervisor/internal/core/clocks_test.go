package core

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// reads has a node's TIME read, between two instants of our clock.
func (b *bench) reads(i int, at time.Duration, sent, back clock.Instant) {
	b.told(i, func(s *node.State) { s.Time, s.TimeSent, s.TimeBack = nodesTime+at, sent, back })
}

// gains has a node's clock read now, which is so far ahead of ours.
func (b *bench) gains(i int, ahead time.Duration) {
	b.reads(i, time.Duration(b.now())+ahead, b.now(), b.now())
}

// A node's clock may advance by a hundredth and the slack more than ours, from the sending
// of the first question to the receipt of the second answer, and by no more.
func TestClockWatchBound(t *testing.T) {
	for _, over := range []time.Duration{0, 1} {
		b := enrolled(t, 1)
		l := b.hold("x")
		first := b.now()
		b.clock.Advance(20 * time.Millisecond)
		b.reads(0, time.Duration(first), first, b.now()) // it was read when it arrived
		b.clock.Advance(100 * time.Millisecond)
		asked := b.now()
		b.clock.Advance(20 * time.Millisecond)
		ours := b.now().Sub(first)
		b.reads(0, time.Duration(first)+ours+ours/100+clockSlack+over, asked, b.now()) // when it was answered
		if ran := l.Err() == lease.ErrPaused; ran != (over > 0) {
			t.Errorf("%v more than the bound: Err() = %v", over, l.Err())
		}
	}
}

// A clock that goes back, or stands, has not run away; nor has one whose latest reading is
// told again.
func TestClockThatGoesBack(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x")
	b.gains(0, time.Hour)
	b.clock.Advance(time.Millisecond)
	b.gains(0, 0)
	b.clock.Advance(time.Second)
	b.told(0, func(*node.State) {})
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// Clocks have run away together if that was within the largest TTL. What is longer ago has
// aged no key that still counts.
func TestClocksThatRunAwayOneAfterTheOther(t *testing.T) {
	for _, late := range []time.Duration{0, 1} {
		b := enrolled(t, 3)
		for i := range 3 {
			b.gains(i, 0)
		}
		b.clock.Advance(time.Millisecond)
		b.gains(0, time.Second)
		first := b.now()
		b.clock.Advance(b.c.settings.MaxTTL / 2)
		l := b.hold("x")
		b.clock.Advance(first.Add(b.c.settings.MaxTTL - 1 + late).Sub(b.now()))
		b.gains(1, time.Second)
		want := lease.ErrPaused
		if late > 0 {
			want = nil
		}
		if err := l.Err(); err != want {
			t.Errorf("the second %v after the first: Err() = %v, want %v", b.now().Sub(first), err, want)
		}
	}
}

// A pause that was dealt with is over: one clock more is one clock.
func TestClockAfterAPause(t *testing.T) {
	b := enrolled(t, 3)
	for i := range 3 {
		b.gains(i, 0)
	}
	before := b.hold("x")
	b.clock.Advance(time.Millisecond)
	b.gains(0, time.Second)
	b.gains(1, time.Second)
	if before.Err() != lease.ErrPaused {
		t.Fatalf("Err() = %v", before.Err())
	}
	after := b.hold("y") // at the very instant, behind it
	b.clock.Advance(time.Millisecond)
	b.gains(2, time.Second)
	if err := after.Err(); err != nil {
		t.Errorf("a lease that began after the pause: %v", err)
	}
	if n := len(b.warned); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
}

// Another server has another clock: how far it is ahead of the one before says nothing.
func TestClockOfAnotherServer(t *testing.T) {
	b := enrolled(t, 3)
	for i := range 3 {
		b.gains(i, 0)
	}
	l := b.hold("x")
	b.clock.Advance(time.Minute / 100)
	for i := range 2 {
		b.told(i, func(s *node.State) {
			s.Life++
			s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(b.now())+time.Hour, b.now(), b.now()
			s.Offset += time.Hour
		})
	}
	if err := l.Err(); err != nil {
		t.Fatalf("two spare servers: %v", err)
	}
	// From then on it is compared with itself, and so is its rate.
	b.clock.Advance(10 * time.Second)
	b.told(0, func(s *node.State) {
		s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(b.now())+time.Hour, b.now(), b.now()
		s.OffsetAt = b.now()
	})
	if got := b.c.nodes[0].rate(); got != 0 {
		t.Errorf("rate %v: want that of the present server", got)
	}
}

// The rate is told after ten seconds, not before: until then the round trips hide it.
func TestRate(t *testing.T) {
	b := enrolled(t, 1)
	b.gains(0, 0)
	at := func(d time.Duration) float64 {
		b.clock.Advance(d)
		b.told(0, func(s *node.State) {
			s.OffsetAt = b.now()
			s.Offset = nodesTime + b.now().Sub(b.c.nodes[0].firstReading.OffsetAt)/1000
		})
		return b.c.nodes[0].rate()
	}
	if got := at(10*time.Second - 1); got != 0 {
		t.Errorf("%v before its time", got)
	}
	if got := at(1); got < 0.00099 || got > 0.00101 {
		t.Errorf("%v, want a thousandth", got)
	}
}

// A pause ends an adoption too that waits for its former holder, and an election whose
// fence is being raised; what has asked for no vote yet goes on.
func TestPauseEndsWhatHasVotes(t *testing.T) {
	b := enrolled(t, 1)
	b.gains(0, 0)
	raising := b.acquire("raising")
	b.say(b.take(node.Grant)[0], node.OK, func(r *node.Reply) { r.Raised = false })
	b.take(node.Raise)
	adopted := b.adoptAfter("adopted", false)
	b.say(b.take(node.Adopt)[0], node.OK, left(time.Second))
	b.acquire("queued")
	b.say(b.take(node.Grant)[0], node.Other)
	b.take(node.Release)
	queued := b.take(node.Enqueue)
	b.clock.Advance(time.Millisecond)
	b.gains(0, time.Hour)
	b.waits(raising)
	released := b.take(node.Release)
	if len(released) != 1 || released[0].cmd.Name != "raising" {
		t.Errorf("released %+v: want the election that has a vote, and it alone", released)
	}
	b.refused(adopted, ReasonNoQuorum)
	b.say(queued[0], node.Other, theirs)
	if t2 := b.c.lines["queued"].attempt; t2 == nil || t2.token != queued[0].cmd.Token {
		t.Error("a waiter has lost its place")
	}
}
