package core

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// cutOff has a lease released while so many nodes answer nothing, and are found to be away. It
// returns the caller and the lease's ID.
func (b *bench) cutOff(name string, away int) (answer Call, id uint64) {
	b.t.Helper()
	id, answer = b.c.lines[name].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	for _, s := range b.take(node.Release) {
		if s.node < away {
			b.say(s, node.Unknown)
		} else {
			b.say(s, node.OK)
		}
	}
	for i := range away {
		b.drop(i)
	}
	return answer, id
}

// wantNothingLeft wants nothing to be remembered.
func (b *bench) wantNothingLeft() {
	b.t.Helper()
	debts := 0
	for i := range b.c.nodes {
		debts += len(b.c.nodes[i].debts.owed)
	}
	if b.c.tenures.len()+debts+b.alarms() != 0 {
		b.t.Errorf("%d tenures, %d debts and %d alarms are left", b.c.tenures.len(), debts, b.alarms())
	}
}

// A release that a majority did not answer is sent again as soon as nodes are back, and its caller
// waits until a quorum is free.
func TestReleaseWaitsForNodes(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := enrolled(t, n)
			b.hold("x")
			quorum := b.c.Quorum()
			answer, _ := b.cutOff("x", quorum)
			b.advance(300 * time.Millisecond)
			b.wantNodes(b.take(node.Release))
			needed := 2*quorum - n // so many of those that are away
			for i := range quorum {
				if i < needed {
					b.waits(answer)
				}
				b.enrol(i)
				owed := b.take(node.Release)
				b.wantNodes(owed, i)
				b.say(owed[0], node.OK)
			}
			if r := b.answer(answer); r != nil {
				t.Errorf("%+v", r)
			}
			b.wantNothingLeft()
		})
	}
}

// A release that is not answered the second time either is sent again, and its failures do not
// make it owed for longer.
func TestReleaseIsOwedForAsLong(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	answer, id := b.cutOff("x", 1)
	until := b.c.nodes[0].debts.owed[id].until
	for range 3 {
		b.enrol(0)
		b.say(b.take(node.Release)[0], node.Unknown)
		b.drop(0)
		b.advance(100 * time.Millisecond)
	}
	b.waits(answer)
	if got := b.c.nodes[0].debts.owed[id].until; got != until {
		t.Errorf("it is owed for %v longer", got.Sub(until))
	}
}

// When the keys must have expired the name is free, whether a node says so or not. A node that
// has answered everything but the release keeps the key as long as it has said; one that has not
// may have executed something until it was given up.
func TestReleaseUntilTheKeysExpire(t *testing.T) {
	for _, silent := range []bool{false, true} {
		b := enrolled(t, 3)
		b.hold("x", func(r *Request) { r.NoRenew = !silent })
		terms := b.c.terms
		b.advance(terms.RenewEvery)
		for _, s := range b.take(node.Renew) {
			b.say(s, node.Unknown)
		}
		for _, s := range b.take(node.Inspect) {
			b.say(s, node.Unknown) // a look leaves nothing behind
		}
		answer, _ := b.cutOff("x", 2)
		want := terms.TTL - terms.RenewEvery + terms.Drift + terms.Window
		if silent {
			want = terms.TTL + terms.Drift
		}
		b.advance(want - 1)
		b.waits(answer)
		b.advance(1)
		if r := b.answer(answer); r != nil {
			t.Errorf("%+v", r)
		}
		if n := b.c.tenures.len(); n != 0 {
			t.Errorf("%d tenures are left", n)
		}
	}
}

// Of five nodes, three may have the key, so it is enough if one of these has expired.
func TestReleaseUntilEnoughKeysExpire(t *testing.T) {
	b := enrolled(t, 5)
	b.hold("x")
	terms := b.c.terms
	b.advance(terms.RenewEvery)
	for _, s := range b.take(node.Renew) {
		if s.node == 0 {
			continue // it is still to answer when the lease is released
		}
		b.say(s, []node.Status{0, node.Unknown, node.Unsent, node.OK, node.OK}[s.node])
	}
	id, answer := b.c.lines["x"].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	begun := b.now()
	for _, s := range b.take(node.Release) {
		if s.node < 3 {
			b.say(s, node.Unknown)
		} else {
			b.say(s, node.OK)
		}
	}
	b.clock.Advance(100 * time.Millisecond)
	b.c.onReply(b.now(), 0, node.Reply{ID: id, Op: node.Renew, Status: node.OK})
	b.perform()
	// That of node 2 is of the grant. Node 0 has got another renewal, and node 1 may have.
	end := begun.Add(terms.TTL - terms.RenewEvery + terms.Drift + terms.Window)
	b.advance(end.Sub(b.now()) - 1)
	b.waits(answer)
	b.advance(1)
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	// If two nodes must be free of three that may have executed a renewal lately, it takes longer.
	b = enrolled(t, 3)
	b.hold("y")
	b.advance(terms.RenewEvery)
	renewals := b.take(node.Renew)
	id, answer = b.c.lines["y"].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	b.clock.Advance(100 * time.Millisecond)
	for _, s := range renewals {
		b.say(s, node.OK)
	}
	b.advance(terms.TTL + terms.Drift - 1)
	b.waits(answer)
	b.advance(1)
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
}

// A caller that waits no longer is told which nodes may keep the key, why, and for how long from then
// on. The release is sent again all the same.
func TestReleaseIsSentWithoutItsCaller(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	answer, id := b.cutOff("x", 2)
	b.advance(time.Second)
	b.c.StopWaiting(b.now(), id)
	b.perform()
	r := b.refused(answer, ReasonUnconfirmed)
	terms := b.c.terms
	if want := terms.TTL + terms.Drift - time.Second; r.Left != want || len(r.Answers) != 2 || r.Answers[1].Err != errDown {
		t.Errorf("%+v, want nodes 0 and 1, for %v", r, want)
	}
	for i := range 2 {
		b.enrol(i)
		b.say(b.take(node.Release)[0], node.OK)
	}
	b.wantNothingLeft()
}

// A caller without an end of its own waits for a quarter of the TTL, whether all nodes are down, or one is
// and the others are slow.
func TestBoundRelease(t *testing.T) {
	for _, down := range []bool{false, true} {
		b := enrolled(t, 3)
		long := termsOf(4 * b.c.terms.TTL)
		b.hold("x", func(r *Request) { r.Terms = long })
		id, answer := b.c.lines["x"].holder.id, b.call()
		b.c.Release(b.now(), id, answer)
		b.c.Bound(b.now(), id)
		b.perform()
		releases := b.take(node.Release)
		b.say(releases[0], node.Unsent)
		if down {
			b.say(releases[1], node.Unsent)
			b.say(releases[2], node.Unsent)
		}
		b.advance(long.Window - 1)
		b.waits(answer)
		b.advance(1)
		b.refused(answer, ReasonUnconfirmed)
		if !down {
			b.say(releases[1], node.OK)
			b.say(releases[2], node.OK)
			b.say(b.resent(0), node.OK)
			b.wantNothingLeft()
		} else if n := b.c.tenures.len(); n != 1 {
			t.Errorf("%d tenures are remembered", n)
		}
	}
	b := enrolled(t, 3)
	b.hold("x")
	id, answer := b.c.lines["x"].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.c.Bound(b.now(), id)
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.OK)
	}
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	b.wantNothingLeft()
	b.c.Bound(b.now(), id) // it is over already
}

// The next waiter of this process asks as soon as a node is back, right after the release.
func TestReleaseDelaysNoWaiter(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	w := b.acquire("x")
	answer, _ := b.cutOff("x", 1)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Unsent)
	}
	b.enrol(0)
	b.log = nil
	b.say(b.take(node.Release)[0], node.OK)
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	b.advance(b.c.settings.RetryMin / 4)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(w)
}

// Close waits for what is owed: for a release whose caller waits no longer, and for an election
// that came to nothing.
func TestCloseWaitsForWhatIsOwed(t *testing.T) {
	for what, begin := range map[string]func(b *bench){
		"a release": func(b *bench) {
			b.hold("x")
			_, id := b.cutOff("x", 2)
			b.c.StopWaiting(b.now(), id)
		},
		"a lost lease": func(b *bench) {
			b.hold("x")
			b.c.HolderEnded(b.now(), b.c.lines["x"].holder.id, ReasonTaken)
			b.perform()
			for _, s := range b.take(node.Release) {
				b.say(s, node.Unknown)
			}
			b.drop(0)
			b.drop(1)
		},
		"an election": func(b *bench) {
			w := b.acquire("x")
			for _, s := range b.take(node.Grant) {
				b.say(s, node.Unknown)
			}
			b.c.Cancel(b.now(), w)
			b.perform()
			b.drop(0)
			b.drop(1)
			for _, s := range b.take(node.Release) {
				b.say(s, node.Unsent)
			}
		},
		"a lease that Close ends": func(b *bench) {
			b.hold("x")
			b.c.Close(b.now())
			b.perform()
			for _, s := range b.take(node.Release) {
				b.say(s, node.Unknown)
			}
			b.drop(0)
			b.drop(1)
		},
	} {
		for _, cut := range []bool{false, true} {
			b := enrolled(t, 3)
			begin(b)
			b.perform()
			b.take(node.Release)
			if !b.c.closing {
				b.c.Close(b.now())
				b.perform()
			}
			b.advance(time.Second)
			if b.c.Drained() {
				t.Fatalf("%s: drained while a quorum may have the key", what)
			}
			if cut {
				b.c.Cut(b.now())
				b.perform()
				if n := len(b.c.Unreleased()); !b.c.Drained() || n != 1 || b.c.Unreleased()[0].Left > b.c.terms.TTL {
					t.Errorf("%s: drained %v, %d names may stay taken: %+v", what, b.c.Drained(), n, b.c.Unreleased())
				}
				b.wantNoAlarms()
				continue
			}
			for i := 0; i < 2 && !b.c.Drained(); i++ {
				b.enrol(i)
				for _, s := range on(b.take(node.Release), i) {
					b.say(s, node.OK)
				}
			}
			if n := len(b.c.Unreleased()); !b.c.Drained() || n != 0 {
				t.Errorf("%s: drained %v, %d names may stay taken", what, b.c.Drained(), n)
			}
		}
	}
}

// wantNoAlarms wants nothing to be done any more.
func (b *bench) wantNoAlarms() {
	b.t.Helper()
	if n := b.alarms(); n != 0 {
		b.t.Errorf("%d alarms are left", n)
	}
}

// Close waits for the expiry of the keys at most, and what has expired is free.
func TestCloseUntilTheKeysExpire(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.c.Close(b.now())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unsent)
	}
	for i := range 3 {
		b.drop(i)
	}
	end := b.c.terms.TTL + b.c.terms.Drift
	b.advance(end - 1)
	if b.c.Drained() {
		t.Fatal("drained before the keys must have expired")
	}
	b.advance(1)
	if n := len(b.c.Unreleased()); !b.c.Drained() || n != 0 {
		t.Errorf("drained %v, %d names may stay taken", b.c.Drained(), n)
	}
}

// A minority is not waited for once it has answered, or was given up.
func TestCloseWaitsForNoMinority(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.c.Close(b.now())
	b.perform()
	for _, s := range b.take(node.Release) {
		if s.node == 2 {
			b.say(s, node.Unknown)
			b.drop(2)
			continue
		}
		b.say(s, node.OK)
	}
	if n := len(b.c.Unreleased()); !b.c.Drained() || n != 0 {
		t.Errorf("drained %v, %d names may stay taken", b.c.Drained(), n)
	}
}

// A waiter for which nothing was ever reserved has no key. What may be reserved for it, or
// given to it, is gone when its heartbeat ends.
func TestCloseAndTheQueues(t *testing.T) {
	b := enrolled(t, 3)
	b.stand("x")
	b.c.Close(b.now())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	for i := range 3 {
		b.drop(i)
	}
	b.advance(b.c.settings.Reserve())
	if b.c.Drained() {
		t.Error("drained, and a node may have given the key away")
	}
	b.advance(b.c.settings.Alive() - b.c.settings.Reserve())
	if n := len(b.c.Unreleased()); !b.c.Drained() || n != 0 {
		t.Errorf("drained %v, %d names may stay taken", b.c.Drained(), n)
	}
}

// Close of who has no end of its own waits for each name as such a release does: a quarter of its
// TTL, and until every node has answered. What it could not give back it names, also to a holder
// that releases too late.
func TestBoundClose(t *testing.T) {
	b := enrolled(t, 3)
	long := termsOf(2 * b.c.terms.TTL)
	b.hold("x")
	b.hold("y", func(r *Request) { r.Terms = long })
	b.hold("z")
	ids := map[string]uint64{}
	for _, name := range []string{"x", "y", "z"} {
		ids[name] = b.c.lines[name].holder.id
	}
	first, _ := b.cutOff("x", 3)
	b.c.BoundClose()
	b.c.Close(b.now())
	b.perform()
	var last send
	for _, s := range b.take(node.Release) {
		switch {
		case s.cmd.Name == "z" && s.node == 2:
			last = s
		case s.cmd.Name == "z" && s.node == 1:
			b.say(s, node.OK)
		default:
			b.say(s, node.Unsent)
		}
	}
	b.advance(long.Window)
	if b.c.Drained() {
		t.Fatal("drained before every node has answered")
	}
	b.say(last, node.Unsent)
	if !b.c.Drained() {
		t.Fatal("not drained")
	}
	b.refused(first, ReasonUnconfirmed)
	var names []string
	for _, u := range b.c.Unreleased() {
		names = append(names, u.Key)
		if r := b.c.LeftBy(ids[u.Key]); !reflect.DeepEqual(r, u) {
			t.Errorf("%+v, want %+v", r, u)
		}
	}
	if fmt.Sprint(names) != "[x y z]" {
		t.Errorf("%v may stay taken", names)
	}
	answer := b.call()
	b.c.Release(b.now(), ids["z"], answer)
	b.perform()
	b.refused(answer, ReasonUnconfirmed)
	for i := range b.c.nodes {
		b.c.alarms.clear(&b.c.nodes[i].debts) // they are of no use any more
	}
	b.wantNoAlarms()
}

// However many names Close could not give back, the caller that releases one of them is told, and how
// many there are.
func TestReleaseOfWhatCloseGaveUp(t *testing.T) {
	const names = maxUnreleased + 50
	b := enrolled(t, 3)
	for i := range names {
		b.hold(fmt.Sprint("x", i))
	}
	ids := map[string]uint64{}
	for name, l := range b.c.lines {
		ids[name] = l.holder.id
	}
	b.c.Cut(b.now())
	b.perform()
	for _, s := range b.take(node.Release) {
		if s.node == 0 {
			b.say(s, node.OK)
		} else {
			b.say(s, node.Unknown, func(r *node.Reply) { r.Err = errDown })
		}
	}
	if first, all := len(b.c.Unreleased()), b.c.UnreleasedInAll(); first != maxUnreleased || all != names || !b.c.Drained() {
		t.Errorf("%d names may stay taken, %d of them are named; drained %v", all, first, b.c.Drained())
	}
	for name, id := range ids {
		answer := b.call()
		b.c.Release(b.now(), id, answer)
		b.perform()
		b.refused(answer, ReasonUnconfirmed)
		if r := b.c.LeftBy(id); r == nil || r.Key != name || r.Left <= 0 || len(r.Answers) != 2 || r.Answers[0].Err != errDown {
			t.Fatalf("%s: %+v", name, r)
		}
	}
}

// A release that is sent again while everything is closed may find no room either.
func TestOwedReleaseWithoutRoom(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	b.cutOff("x", 1)
	b.c.Close(b.now())
	b.perform()
	b.enrol(0)
	s := b.take(node.Release)[0]
	b.c.Unsent(b.now(), 0, s.cmd)
	b.advance(collectEvery)
	again := b.take(node.Release)
	b.wantNodes(again, 0)
	b.say(again[0], node.OK)
	if !b.c.Drained() {
		t.Error("not drained")
	}
}

// One that found no room is not waited for if the name is free by what others say.
func TestOwedReleaseWithoutRoomIsOfAFreeName(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.cutOff("x", 2)
	b.c.Close(b.now())
	b.perform()
	b.enrol(0)
	b.enrol(1)
	owed := b.take(node.Release)
	b.wantNodes(owed, 0, 1)
	b.c.Unsent(b.now(), 0, owed[0].cmd)
	b.say(owed[1], node.OK)
	b.advance(collectMore)
	if !b.c.Drained() {
		t.Error("not drained")
	}
}

// So many keys must have expired that a quorum is free: two of these four, of five nodes.
func TestExpiryIsOfTheQuorum(t *testing.T) {
	c := New(defaults(5, 3*time.Second))
	tn := &tenure{begun: 1, terms: c.terms, votes: newVotes(5), stages: &stages{give: &giving{holding: all(4)}}}
	tn.hold = hold{rareState: &noRare}
	for i, until := range []time.Duration{3, 1, 4, 2} {
		tn.votes.of[i].until = clock.Instant(until * time.Millisecond)
	}
	want := clock.Instant(2 * time.Millisecond).Add(2*c.terms.Drift + c.terms.Window)
	if got := c.keysEnd(clock.Instant(time.Hour), tn); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// A connection over which an answer is overdue goes on for a while, so its node may get the last
// renewal that much later: one of 42,000 histories.
func TestExpiryOverAConnectionThatIsOverdue(t *testing.T) {
	c := New(defaults(1, 3*time.Second))
	c.nodes[0].state.Overdue = true
	tn := &tenure{begun: 1, terms: c.terms, votes: newVotes(1), stages: &stages{give: &giving{holding: all(1)}}}
	tn.hold = hold{rareState: &noRare}
	if got, want := c.keysEnd(0, tn), clock.Instant(0).Add(c.terms.TTL+c.terms.Drift+c.terms.Window); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// Extended to less, and then to as much as at first: the renewals for less may not have arrived, and
// what they have shortened is not when the key ends.
func TestExpiryOfWhatWasShorterMeanwhile(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	won, long, held := b.now(), b.c.terms, b.c.lines["x"].holder
	b.drop(0)
	b.c.Extend(b.now(), held.id, b.c.settings.Terms(long.TTL/2), 101)
	b.advance(long.TTL / 10)
	b.c.Extend(b.now(), held.id, long, 102)
	b.release("x")
	b.say(b.take(node.Release)[0], node.Unsent)
	if end := b.c.keysEnd(b.now(), held); end < won.Add(long.TTL) {
		t.Errorf("%v after it was won", end.Sub(won))
	}
}

// A renewal was never answered, and the lease was extended after it: its node is believed for the shorter
// TTL, but keeps the key for the longer.
func TestExpiryOfWhatMayYetBeShortened(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	short, held := b.c.terms, b.c.lines["x"].holder
	b.c.settings.MaxTTL *= 2
	b.advance(short.RenewEvery)
	b.answerAll(map[int]node.Status{0: node.Unknown})
	b.c.Extend(b.now(), held.id, b.c.settings.Terms(2*short.TTL), 101)
	b.perform()
	b.answerAll(nil)
	kept := b.now()
	b.release("x")
	b.say(b.take(node.Release)[0], node.Unsent)
	if end := b.c.keysEnd(b.now(), held); end < kept.Add(2*short.TTL) {
		t.Errorf("%v after it was renewed", end.Sub(kept))
	}
}

// A caller without time waits for what is on its way, as long as a quorum may be free by it.
func TestHastyRelease(t *testing.T) {
	for _, says := range []node.Status{node.OK, node.Unknown} {
		b := enrolled(t, 3)
		b.hold("x")
		id, answer := b.c.lines["x"].holder.id, b.call()
		b.c.Release(b.now(), id, answer)
		b.c.Hasten(b.now(), id)
		b.perform()
		releases := b.take(node.Release)
		b.say(releases[0], node.Unsent)
		b.waits(answer)
		b.say(releases[1], says)
		if says == node.OK {
			b.waits(answer)
			b.say(releases[2], node.OK)
			if r := b.answer(answer); r != nil {
				t.Errorf("%+v", r)
			}
			continue
		}
		b.refused(answer, ReasonUnconfirmed)
		b.c.Hasten(b.now(), id) // it was answered
		b.say(releases[2], node.OK)
		b.say(b.resent(1), node.OK)
		b.say(b.resent(0), node.OK)
		b.wantNothingLeft()
	}
}

// resent returns what is sent to a node of what it owes.
func (b *bench) resent(i int) send {
	b.t.Helper()
	for range 3 {
		if there := on(b.sent, i); len(there) > 0 {
			return there[len(there)-1]
		}
		b.advance(collectEvery)
	}
	b.t.Fatalf("node %d is asked for nothing", i)
	return send{}
}

// What found no room is sent a piece at a time, until all is.
func TestBacklogInPieces(t *testing.T) {
	b := enrolled(t, 1)
	for i := range maxCollect + 1 {
		b.hold(fmt.Sprint(i))
	}
	b.c.Close(b.now())
	sent := 0
	for i := 0; !b.c.Drained(); i++ {
		b.perform()
		for _, s := range b.take(node.Release) {
			if sent++; sent <= maxCollect+1 {
				b.c.Unsent(b.now(), s.node, s.cmd)
			} else {
				b.say(s, node.OK)
			}
		}
		if len(b.c.held) > 0 {
			b.advance(1) // the next piece, before there is room
			continue
		}
		b.advance(collectMore)
		if i > 10 {
			t.Fatalf("%d releases were never sent", len(b.c.nodes[0].backlog.ids))
		}
	}
	if sent != 2*(maxCollect+1) {
		t.Errorf("%d releases, want each twice", sent)
	}
}

// A bounded Close waits for the leases that it ends in later pieces no longer than for the first.
func TestBoundCloseInPieces(t *testing.T) {
	b := enrolled(t, 1)
	for i := range sweepPiece + 1 {
		b.hold(fmt.Sprint(i))
	}
	b.c.BoundClose()
	b.c.Close(b.now())
	b.perform()
	b.advance(1)
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	b.advance(b.c.terms.Window)
	if !b.c.Drained() {
		t.Errorf("it waits for %d", b.c.tenures.len())
	}
}

// A second release of a lease, without an end of its own, waits no longer
// although the nodes have failed before.
func TestBoundReleaseOfALostLease(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	id, answer := b.c.lines["x"].holder.id, b.call()
	b.c.HolderEnded(b.now(), id, ReasonTaken)
	b.perform()
	releases := b.take(node.Release)
	b.say(releases[0], node.Unknown)
	b.say(releases[1], node.Unknown) // and the third is silent
	b.c.Release(b.now(), id, answer)
	b.c.Bound(b.now(), id)
	b.perform()
	b.advance(b.c.terms.Window - 1)
	b.waits(answer)
	b.advance(1)
	b.refused(answer, ReasonUnconfirmed)
}

// An extension that the holder did not wait for is not confirmed by the end of the lease.
func TestReleaseDuringAnExtension(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	id, extended := b.c.lines["x"].holder.id, b.call()
	b.c.Extend(b.now(), id, b.c.terms, extended)
	b.perform()
	b.c.Release(b.now(), id, b.call())
	b.perform()
	b.refused(extended, ReasonReleased)
}

// A node that certainly never got a grant has nothing to give back, whether it has answered the
// release or not.
func TestReleaseOfWhatWasNotSent(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.c.Cancel(b.now(), w)
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	for _, s := range grants {
		b.say(s, node.Unsent)
	}
	if n := b.c.tenures.len(); n != 0 {
		t.Errorf("%d tenures are waited for", n)
	}
}
