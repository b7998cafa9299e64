package core

import (
	"errors"
	"fmt"
	"slices"
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

// says has a node answer a command while its clock is so far ahead of ours: it has read it
// before it did what it was asked.
func (b *bench) says(s send, status node.Status, ahead time.Duration) {
	state := b.c.nodes[s.node].state
	state.Time, state.TimeSent, state.TimeBack = nodesTime+time.Duration(b.now())+ahead, b.now(), b.now()
	r := node.Reply{ID: s.cmd.ID, Op: s.cmd.Op, Status: status, Raised: status == node.OK}
	b.c.Receive(b.now(), node.Batch{Node: s.node, Replies: []node.Reply{r}, State: state})
	b.perform()
}

// renewed has every node renew whatever it is asked to, by clocks that are so far ahead.
func (b *bench) renewed(ahead ...time.Duration) {
	for _, s := range b.take(node.Renew) {
		b.says(s, node.OK, ahead[s.node])
	}
}

// untils returns until when each node is believed to keep a lease, from now.
func (b *bench) untils(name string) (left []time.Duration) {
	for _, v := range b.c.lines[name].holder.votes.of {
		left = append(left, v.until.Sub(b.now()))
	}
	return left
}

func for10s(r *Request)  { r.Terms = termsOf(10 * time.Second) }
func noRenew(r *Request) { r.NoRenew = true }

// What is proved is gain = (T_b - T_a) - (b_r - a_s). If it is no more than the drift,
// nothing is believed for less; else until becomes b_s + TTL - (T_b - T_a) - drift.
func TestGainBound(t *testing.T) {
	for _, over := range []time.Duration{0, 1} {
		b := enrolled(t, 1)
		terms := b.c.terms
		as := b.now()
		w := b.acquire("x")
		b.clock.Advance(20 * time.Millisecond) // the grant is on its way
		ta := time.Duration(b.now())
		b.clock.Advance(20 * time.Millisecond)
		s := b.take(node.Grant)[0]
		state := b.c.nodes[0].state
		state.Time, state.TimeSent, state.TimeBack = nodesTime+ta, as, b.now()
		b.c.Receive(b.now(), node.Batch{Node: 0, State: state, Replies: []node.Reply{{ID: s.cmd.ID, Op: node.Grant, Status: node.OK, Raised: true}}})
		b.perform()
		b.got(w)
		before := b.c.lines["x"].holder.votes.of[0].until
		if want := as.Add(terms.TTL - terms.Drift); before != want {
			t.Fatalf("until %v, want %v", before, want)
		}

		b.clock.Advance(100 * time.Millisecond)
		bs := b.now()
		b.clock.Advance(30 * time.Millisecond)
		tb := ta + b.now().Sub(as) + terms.Drift + over
		b.reads(0, tb, bs, b.now())
		want := before
		if over > 0 {
			want = bs.Add(terms.TTL - (tb - ta) - terms.Drift)
		}
		if got := b.c.lines["x"].holder.votes.of[0].until; got != want {
			t.Errorf("%v more than the drift: until %v, want %v, %v before that", over, got, want, before)
		}
	}
}

// What a reading proves is too much for the drift of one lease, and not for that of another,
// although it may have gained more than that.
func TestGainOfOneAndNotOfAnother(t *testing.T) {
	const least, most = 40 * time.Millisecond, 140 * time.Millisecond
	b := enrolled(t, 1)
	b.hold("short") // its drift is 32 ms
	b.hold("long", for10s)
	short, long := b.untils("short")[0], b.untils("long")[0]
	sent := b.now()
	b.clock.Advance(most - least)
	b.reads(0, time.Duration(sent)+most, sent, b.now())
	short, long = short-(most-least), long-(most-least) // from now
	if got := b.untils("short")[0]; got != short-most {
		t.Errorf("short: until %v, want %v", got, short-most)
	}
	if got := b.untils("long")[0]; got != long {
		t.Errorf("long: until %v, want %v", got, long)
	}
}

// Steps of clocks that are within the drift take nothing of a lease.
func TestStepsWithinTheDrift(t *testing.T) {
	for _, step := range []time.Duration{4 * time.Millisecond, 15 * time.Millisecond, -15 * time.Millisecond, 32 * time.Millisecond} {
		for _, change := range []func(*Request){func(*Request) {}, for10s, noRenew} {
			b := enrolled(t, 3)
			l := b.hold("x", change)
			before := b.untils("x")
			for i := range 3 {
				b.gains(i, step)
			}
			for range 20 { // a busy client hears of it again and again
				for i := range 3 {
					b.gains(i, step)
				}
			}
			if got := b.untils("x"); l.Err() != nil || !slices.Equal(got, before) {
				t.Errorf("%v: %v, until %v, and %v before", step, l.Err(), got, before)
			}
		}
	}
}

// Steps add up, unless the vote was renewed in between.
func TestStepsOneAfterTheOther(t *testing.T) {
	const step = 20 * time.Millisecond
	for _, renewed := range []bool{true, false} {
		b := enrolled(t, 3)
		l := b.hold("x")
		for n := range time.Duration(5) {
			at := []time.Duration{(n + 1) * step, (n + 1) * step, (n + 1) * step}
			before := b.untils("x")
			for i := range 3 {
				b.gains(i, at[i])
			}
			if renewed {
				if got := b.untils("x"); !slices.Equal(got, before) {
					t.Errorf("until %v, and %v before", got, before)
				}
				b.advance(b.c.terms.RenewEvery)
				b.renewed(at...)
			}
		}
		want := b.c.terms.TTL - b.c.terms.Drift
		if !renewed { // the second passes the drift, and the fourth
			want -= 4 * step
		}
		if got := b.untils("x"); l.Err() != nil || got[0] != want || got[1] != want || got[2] != want {
			t.Errorf("renewed: %v: %v, until %v, want %v", renewed, l.Err(), got, want)
		}
	}
}

// A clock that runs faster than ours by half of what the drift is for takes nothing, and
// leases are looked at because of it once in a TTL or two.
func TestSlowGain(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	looks, limit := 0, b.c.nodes[0].aging.limit
	for n := range time.Duration(600) {
		b.advance(50 * time.Millisecond)
		ahead := (n + 1) * 50 * time.Millisecond / 200
		b.renewed(ahead, ahead, ahead)
		for i := range 3 {
			b.gains(i, ahead)
		}
		if now := b.c.nodes[0].aging.limit; now > limit {
			looks, limit = looks+1, now
		}
		v := b.c.lines["x"].holder.votes.of[0]
		if left := v.until.Sub(b.now()); left < b.c.terms.TTL-b.c.terms.Drift-b.c.terms.RenewEvery-50*time.Millisecond {
			t.Fatalf("believed for %v", left)
		}
	}
	if l.Err() != nil || looks > 6 {
		t.Errorf("%v; the leases were looked at %d times in ten TTLs", l.Err(), looks)
	}
}

// If the clock of one node of three is far ahead, its vote is over, and is asked for again
// soon. If that of a second one is, the lease is lost, with that reason.
func TestClockWatch(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.advance(100 * time.Millisecond)
	b.gains(0, 5*time.Second)
	if err := l.Err(); err != nil {
		t.Fatalf("one node's clock jumped: %v", err)
	}
	if got := b.untils("x"); got[0] > 0 || got[1] != got[2] || got[1] < 2*time.Second {
		t.Fatalf("until %v", got)
	}
	b.advance(b.c.terms.RenewEvery / 8)
	asked := b.take(node.Renew)
	b.wantNodes(asked, 0)
	b.says(asked[0], node.Absent, 5*time.Second)
	b.renewed(0, 0, 0) // they confirm that nobody came between
	b.says(b.take(node.Heal)[0], node.OK, 5*time.Second)
	b.renewed(0, 0, 0)
	if got := b.untils("x"); got[0] < 2*time.Second || !b.c.lines["x"].holder.counting().has(0) {
		t.Fatalf("until %v, counting %b", got, b.c.lines["x"].holder.counting())
	}
	b.gains(1, 5*time.Second)
	if err := l.Err(); err != nil {
		t.Fatalf("the first is back, and the second jumped: %v", err)
	}
	b.gains(0, 10*time.Second)
	if err := l.Err(); err != lease.ErrPaused || !errors.Is(err, lease.ErrLost) {
		t.Fatalf("Err() = %v after the clocks of two nodes of three ran away", l.Err())
	}
}

// A pause of the machine that our clock does not see: what must have expired is lost, and
// what has time left goes on for what is left, and is renewed before that is over.
func TestPauseOfTheMachine(t *testing.T) {
	const pause = 3 * time.Second
	b := enrolled(t, 3)
	short, unkept := b.hold("short"), b.hold("unkept", noRenew)
	long, alone := b.hold("long", for10s), b.hold("alone", for10s, noRenew)
	before := b.untils("long")
	for i := range 2 {
		b.gains(i, pause)
	}
	if short.Err() != lease.ErrPaused || unkept.Err() != lease.ErrPaused {
		t.Errorf("%v, %v: want those whose keys have expired to be lost", short.Err(), unkept.Err())
	}
	b.gains(2, pause)
	if long.Err() != nil || alone.Err() != nil {
		t.Fatalf("%v, %v: want those to go on whose keys have time left", long.Err(), alone.Err())
	}
	for _, name := range []string{"long", "alone"} {
		if got := b.untils(name); got[0] != before[0]-pause || got[2] != before[2]-pause {
			t.Errorf("%s: until %v, and %v before", name, got, before)
		}
	}
	if n := len(b.warned); n != 1 || b.warned[0].Kind != WarnPaused || b.warned[0].Node != 1 || b.warned[0].Time != pause {
		t.Errorf("warned of %+v", b.warned)
	}
	b.advance(termsOf(10 * time.Second).RenewEvery)
	b.renewed(pause, pause, pause)
	if got := b.untils("long"); got[0] <= before[0]-pause {
		t.Errorf("until %v: want it renewed", got)
	}
	// A pause of 8 s leaves less than what is left until the next renewal.
	b.take(node.Renew)
	for i := range 3 {
		b.gains(i, pause+8*time.Second)
	}
	left := b.c.lines["long"].holder.hold.until.Sub(b.now())
	if long.Err() != nil || left >= b.c.lines["long"].holder.hold.renewAt.Sub(b.now()) {
		t.Fatalf("%v, left %v", long.Err(), left)
	}
	b.advance(left / 2)
	b.wantNodes(b.take(node.Renew), 0, 1, 2)
}

// An extension to a shorter TTL has a smaller drift from then on, also on a node that has
// not renewed it.
func TestGainAfterExtension(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x", for10s)
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, b.c.terms, b.call())
	b.perform()
	before := b.untils("x")
	b.gains(0, 50*time.Millisecond) // less than the drift of 10 s
	if got := b.untils("x"); got[0] != before[0]-50*time.Millisecond {
		t.Errorf("until %v, and %v before", got, before)
	}
}

// A clock that was ahead and is right again has aged what was given before, in however many
// pieces that is looked at, and nothing that is given after.
func TestClockThatIsSetBack(t *testing.T) {
	const leases, ahead = 5 * sweepPiece, time.Second
	b := enrolled(t, 1)
	b.c.settings.RetryMin = time.Hour
	var before []*lease.Lease
	for i := range leases {
		before = append(before, b.hold(fmt.Sprint(i)))
	}
	kept := b.untils("0")[0]
	b.gains(0, ahead)
	if !b.c.nodes[0].aging.isUnderWay() {
		t.Fatal("want it in pieces")
	}
	b.gains(0, 0)
	b.hold("new")
	for i := 0; b.c.nodes[0].aging.isUnderWay(); i++ {
		b.clock.Advance(1)
		b.c.Tick(b.now())
		if i > 2*leases {
			t.Fatal("it has no end")
		}
	}
	for i, l := range before {
		if got := b.untils(fmt.Sprint(i))[0]; l.Err() != nil || got > kept-ahead {
			t.Fatalf("lease %d of before: %v, until %v", i, l.Err(), got)
		}
	}
	if got := b.untils("new")[0]; got < kept-time.Millisecond {
		t.Errorf("the lease that came after: until %v", got)
	}
}

// What is shown while very many leases are being looked at counts for all of them.
func TestGainsWhileLooking(t *testing.T) {
	const leases = 3 * sweepPiece
	b := enrolled(t, 1)
	for i := range leases {
		b.hold(fmt.Sprint(i))
	}
	kept := b.untils("0")[0]
	b.gains(0, 100*time.Millisecond)
	b.gains(0, 200*time.Millisecond)
	for b.c.nodes[0].aging.isUnderWay() {
		b.clock.Advance(1)
		b.c.Tick(b.now())
	}
	for i := range leases {
		if got := b.untils(fmt.Sprint(i))[0]; got > kept-200*time.Millisecond {
			t.Fatalf("lease %d: until %v", i, got)
		}
	}
}

// Nor is it forgotten because those that were looked at before bear it.
func TestSmallGainWhileLooking(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("short") // its drift is 32 ms
	for i := range sweepPiece {
		b.hold(fmt.Sprint(i), for10s) // these are looked at first
	}
	kept := b.untils("short")[0]
	b.gains(0, 50*time.Millisecond)
	if !b.c.nodes[0].aging.isUnderWay() {
		t.Fatal("want it in pieces")
	}
	b.gains(0, 90*time.Millisecond)
	for b.c.nodes[0].aging.isUnderWay() {
		b.clock.Advance(1)
		b.c.Tick(b.now())
	}
	if got := b.untils("short")[0]; got > kept-90*time.Millisecond {
		t.Errorf("until %v, and %v before", got, kept)
	}
}

// An election that is won while very many others are still being looked at counts its votes as
// they will be.
func TestWonWhileLooking(t *testing.T) {
	b := enrolled(t, 1)
	for i := range 3 * sweepPiece { // those that came last are looked at first
		b.acquire(fmt.Sprint(i))
	}
	grants := b.take(node.Grant)
	first := grants[0]
	b.say(first, node.OK, func(r *node.Reply) { r.Raised = false })
	b.gains(0, time.Second)
	if !b.c.nodes[0].aging.isUnderWay() {
		t.Fatal("want it in pieces")
	}
	b.say(b.take(node.Raise)[0], node.OK)
	if got, most := b.untils(first.cmd.Name)[0], b.c.terms.TTL-time.Second; got > most {
		t.Errorf("until %v, want %v at most", got, most)
	}
}

// A node whose clock was ahead may be right again, and keep the key for as long as it had
// promised: a name is not taken for free because a vote is believed for less.
func TestReleasedAfterAGain(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	held := b.c.lines["x"].holder
	b.gains(0, time.Second)
	b.release("x")
	b.drop(0)
	if end := b.c.keysEnd(b.now(), held); end < b.now().Add(b.c.terms.TTL) {
		t.Errorf("its key must have expired in %v", end.Sub(b.now()))
	}
}

// A clock that goes back, or stands, has not gained; nor has one whose latest reading is
// told again.
func TestClockThatGoesBack(t *testing.T) {
	b := enrolled(t, 1)
	b.gains(0, time.Hour)
	l := b.hold("x")
	b.clock.Advance(time.Millisecond)
	b.gains(0, 0)
	b.clock.Advance(time.Second)
	b.told(0, func(*node.State) {})
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// A warning says that clocks have gained together if that was within the largest TTL.
func TestClocksThatRunAwayOneAfterTheOther(t *testing.T) {
	for _, late := range []time.Duration{0, 1} {
		b := enrolled(t, 3)
		b.clock.Advance(time.Millisecond)
		b.gains(0, time.Second)
		b.clock.Advance(b.c.settings.MaxTTL - 1 + late)
		b.gains(1, time.Second)
		if n, want := len(b.warned), 1-int(late); n != want {
			t.Errorf("the second %v after the first: %d warnings, want %d", b.c.settings.MaxTTL-1+late, n, want)
		}
	}
}

// A pause that was told of is over: one clock more is one clock.
func TestClockAfterAPause(t *testing.T) {
	b := enrolled(t, 3)
	before := b.hold("x")
	b.clock.Advance(time.Millisecond)
	b.gains(0, 5*time.Second)
	b.gains(1, 5*time.Second)
	if before.Err() != lease.ErrPaused {
		t.Fatalf("Err() = %v", before.Err())
	}
	after := b.hold("y") // at the very instant, after it
	b.clock.Advance(time.Millisecond)
	b.gains(2, 5*time.Second)
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
	l := b.hold("x")
	b.clock.Advance(time.Minute / 100)
	for n := range time.Duration(2) { // also when it has gained
		for i := range 2 {
			b.told(i, func(s *node.State) {
				s.Life = 2
				s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(b.now())+time.Hour+n*time.Second, b.now(), b.now()
				s.Offset = nodesTime + time.Hour
			})
		}
		if err := l.Err(); err != nil {
			t.Fatalf("two spare servers: %v", err)
		}
		if n == 0 {
			b.hold("y") // so that the leases are looked at
		}
		b.clock.Advance(time.Minute / 100)
	}
	b.told(0, func(s *node.State) {
		s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(b.now())+time.Hour, b.now(), b.now()
	})
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

// What the clock of the one before has shown says nothing of votes of the other, also while very
// many are being looked at because of it.
func TestAnotherServerWhileLooking(t *testing.T) {
	b := enrolled(t, 1)
	for i := range 3 * sweepPiece {
		b.hold(fmt.Sprint(i))
	}
	b.gains(0, time.Second)
	if !b.c.nodes[0].aging.isUnderWay() {
		t.Fatal("want it in pieces")
	}
	b.told(0, func(s *node.State) {
		s.Life = 2
		s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(b.now()), b.now(), b.now()
	})
	b.hold("new")
	if got, want := b.untils("new")[0], b.c.terms.TTL-b.c.terms.Drift; got != want {
		t.Errorf("until %v, want %v", got, want)
	}
}

// An election counts its votes in the same way: one that was given before a gain is believed
// for less, and one that tells of it was given after it.
func TestPausedElection(t *testing.T) {
	for _, gain := range []time.Duration{time.Second, time.Hour} {
		b := enrolled(t, 1)
		w := b.acquire("x")
		b.say(b.take(node.Grant)[0], node.OK, func(r *node.Reply) { r.Raised = false })
		b.says(b.take(node.Raise)[0], node.OK, gain)
		if gain == time.Hour {
			b.waits(w)
			b.wantNodes(b.take(node.Release), 0)
			continue
		}
		b.got(w)
		if got := b.untils("x")[0]; got != b.c.terms.TTL-b.c.terms.Drift-gain {
			t.Errorf("until %v", got)
		}
	}
	b := enrolled(t, 1)
	w := b.acquire("x")
	b.says(b.take(node.Grant)[0], node.OK, time.Hour)
	b.got(w)
}

// So does an adoption, that waits for its former holder; what has asked for no vote yet
// goes on.
func TestPauseEndsWhatHasVotes(t *testing.T) {
	for _, gain := range []time.Duration{time.Second, time.Hour} {
		b := enrolled(t, 1)
		adopted := b.adoptAfter("adopted", false)
		b.say(b.take(node.Adopt)[0], node.OK, left(100*time.Millisecond))
		b.take(node.Renew) // is not answered
		b.acquire("queued")
		b.say(b.take(node.Grant)[0], node.Other)
		b.take(node.Release)
		queued := b.take(node.Enqueue)
		b.clock.Advance(time.Millisecond)
		b.gains(0, gain)
		b.advance(200 * time.Millisecond)
		if gain == time.Hour {
			b.refused(adopted, ReasonNoQuorum)
		} else {
			b.waits(adopted)
			until := b.c.adoptedUntil(b.c.adopting[0]).Sub(b.now())
			if until > b.c.terms.TTL-b.c.terms.Drift-b.c.terms.Grace-gain-200*time.Millisecond {
				t.Errorf("until %v", until)
			}
		}
		b.say(queued[0], node.Other, theirs)
		if t2 := b.c.lines["queued"].attempt; t2 == nil || t2.token != queued[0].cmd.Token {
			t.Error("a waiter has lost its place")
		}
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
