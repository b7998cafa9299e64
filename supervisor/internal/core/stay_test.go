package core

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

const minHold = 10 * time.Second

func stays(r *Request) { r.MinHold = minHold }

// holdStaying acquires a name that is to stay taken.
func (b *bench) holdStaying(name string, change ...func(*Request)) *lease.Lease {
	b.t.Helper()
	w := b.acquire(name, append(change, stays)...)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	for _, s := range b.take(node.Raise) {
		b.say(s, node.OK)
	}
	return b.got(w)
}

// An attempt asks for the TTL, whatever comes after: one that dies on its way keeps nobody else
// from the name for longer. It is won when a quorum keeps the key for as long as the name is to
// stay taken, and what is believed is the TTL.
func TestStaysTakenBeforeItIsWon(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", stays)
	begun, grants := b.now(), b.take(node.Grant)
	b.wantNodes(grants, 0, 1, 2)
	for _, s := range grants {
		if s.cmd.TTL != b.c.terms.TTL {
			t.Errorf("a grant for %v", s.cmd.TTL)
		}
	}
	b.clock.Advance(3*time.Millisecond + 1)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	b.waits(w)
	raises := b.take(node.Raise)
	b.wantNodes(raises, 0, 1)
	for _, s := range raises {
		if s.cmd.TTL != minHold-3*time.Millisecond || s.cmd.Fence <= grants[0].cmd.Fence {
			t.Errorf("%+v: want the rest of %v, and a larger fence", s.cmd, minHold)
		}
	}
	b.say(raises[0], node.OK)
	b.waits(w)
	b.say(raises[1], node.OK)
	held := b.got(w)
	if tn := b.c.lines["x"].holder; tn.hold.until != begun.Add(tn.terms.TTL-tn.terms.Drift-tn.terms.Grace) || tn.stretched != 0 {
		t.Errorf("held until %v after its beginning; %+v", tn.hold.until.Sub(begun), tn.stages)
	}
	if held.Fence() != raises[0].cmd.Fence {
		t.Errorf("fence %d", held.Fence())
	}

	// It is raised once more if a node had a larger fence stored, and no node is asked for less.
	w = b.acquire("y", stays)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK, func(r *node.Reply) { r.Raised = false })
	}
	for _, s := range b.take(node.Raise) {
		b.say(s, node.OK, func(r *node.Reply) { r.Fence = s.cmd.Fence + 5 })
	}
	b.waits(w)
	again := b.take(node.Raise)
	b.wantNodes(again, 0, 1)
	for _, s := range again {
		if s.cmd.TTL != minHold {
			t.Errorf("%+v", s.cmd)
		}
		b.say(s, node.OK)
	}
	b.got(w)

	// Nobody else's raise touches what a key lives for.
	w = b.acquire("z")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK, func(r *node.Reply) { r.Raised = false })
	}
	for _, s := range b.take(node.Raise) {
		if s.cmd.TTL != 0 {
			t.Errorf("%+v", s.cmd)
		}
		b.say(s, node.OK)
	}
	b.got(w)
}

// What a waiter is given has a short life, and a release would not lengthen it. So it is claimed.
func TestGiftToOneThatStays(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed(stays)
	_, until := b.heartbeat(0, 1, 2)
	b.give(token, 7000, until, 0, 1)
	b.waits(w)
	claims := b.take(node.Claim)
	b.wantNodes(claims, 0, 1)
	for _, s := range claims {
		if s.cmd.TTL != b.c.terms.TTL {
			t.Errorf("a claim for %v", s.cmd.TTL)
		}
		b.say(s, node.OK)
	}
	b.waits(w)
	for _, s := range b.take(node.Raise) {
		if s.cmd.TTL != minHold {
			t.Errorf("a raise for %v", s.cmd.TTL)
		}
		b.say(s, node.OK)
	}
	b.got(w)
}

// An attempt that is not won deletes its keys, whatever they would have lived for: nobody has had
// the name. Until that is confirmed it is not said to be free.
func TestAttemptThatWouldStayIsGivenBack(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", stays)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	raises := b.take(node.Raise)
	tn := b.c.lines["x"].attempt
	b.c.Cancel(b.now(), w)
	b.perform()
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 1, 2)
	b.wantNodes(b.take(node.Vacate))
	if tn.longestTTL() != minHold {
		t.Errorf("the keys may live for %v", tn.longestTTL())
	}
	for _, s := range append(raises, releases...) {
		b.say(s, node.Unknown)
	}
	b.c.Close(b.now())
	b.perform()
	b.advance(minHold - time.Millisecond)
	if b.c.Drained() {
		t.Error("drained, and a quorum may keep the keys")
	}
	b.advance(time.Second)
	if !b.c.Drained() || b.c.UnreleasedInAll() != 0 {
		t.Errorf("not drained when the keys must have expired, or %d are left", b.c.UnreleasedInAll())
	}
}

// A raise that was never answered may have given the keys their long life. So the release of such an
// attempt is owed for as long, and not for a quarter of an hour: a name that nobody has had would stay
// taken for a day, and a caller that asks would be told that somebody has it.
func TestAttemptThatWouldStayIsOwed(t *testing.T) {
	const long = 24 * time.Hour
	b := enrolled(t, 3)
	w := b.acquire("x", func(r *Request) { r.MinHold = long })
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	raises := b.take(node.Raise)
	b.c.Cancel(b.now(), w)
	b.perform()
	for _, s := range append(raises, b.take(node.Release)...) {
		b.say(s, node.Unknown)
	}
	for i := range 3 {
		b.drop(i)
	}
	b.advance(long - time.Second)
	b.enrol(0)
	b.enrol(1)
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 1)
	for _, s := range releases {
		b.say(s, node.OK)
	}
	b.advance(time.Minute)
	if n := len(b.c.nodes[2].debts.owed); n != 0 || b.c.tenures.len() != 0 {
		t.Errorf("%d are owed and %d tenures are left when the keys have expired", n, b.c.tenures.len())
	}
}

// A lease whose caller had given up before he was told of it was had by nobody: its keys are deleted,
// and until that is confirmed they may live for as long as the name was to stay taken.
func TestForgoneLeaseDoesNotStay(t *testing.T) {
	b := enrolled(t, 3)
	b.holdStaying("x")
	tn, answer := b.c.lines["x"].holder, b.call()
	b.advance(5 * time.Millisecond)
	b.c.Forgo(b.now(), tn.id, answer)
	b.perform()
	b.wantNodes(b.take(node.Vacate))
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 1, 2)
	if d := minHold - 5*time.Millisecond; tn.longestTTL() != d {
		t.Errorf("the keys may live for %v, want %v", tn.longestTTL(), d)
	}
	b.say(releases[0], node.OK)
	b.say(releases[1], node.Unknown)
	b.say(releases[2], node.Unknown)
	b.waits(answer)
	b.advance(collectEvery)
	owed := b.take(node.Release)
	b.wantNodes(owed, 1, 2)
	b.wantNodes(b.take(node.Vacate))
	for _, s := range owed {
		b.say(s, node.OK)
	}
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}

	// One that is over by then is left, as it was when it ended.
	b = enrolled(t, 3)
	b.holdStaying("x")
	id := b.c.lines["x"].holder.id
	b.c.HolderEnded(b.now(), id, ReasonExpired)
	b.c.Forgo(b.now(), id, b.call())
	b.perform()
	b.wantNodes(b.take(node.Release))
	b.wantNodes(b.take(node.Vacate), 0, 1, 2)
}

// An heir's nodes keep the key for as long as it was to stay taken, until they have renewed. A
// release that is not confirmed says so, and is owed for as long.
func TestAdoptedLeaseMayStay(t *testing.T) {
	const long = 24 * time.Hour
	b := enrolled(t, 3)
	w := b.adopt("x")
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK, func(r *node.Reply) { r.Left = long })
	}
	b.got(w)
	b.renewNow()
	for _, s := range b.take(node.Renew) {
		b.say(s, node.Unknown)
	}
	id, answer := b.c.lines["x"].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	b.c.StopWaiting(b.now(), id)
	b.perform()
	if r := b.refused(answer, ReasonUnconfirmed); r.Left < long-time.Second {
		t.Errorf("it is said to stay for %v", r.Left)
	}
	for i, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
		b.drop(i)
	}
	b.advance(long - time.Minute)
	for i := range 3 {
		b.enrol(i)
	}
	b.wantNodes(b.take(node.Release), 0, 1, 2)
}

// Renewals and heals ask for what is left of the time, and for no less than the TTL. Nothing
// more is believed, and after it the lease is one as any other.
func TestStayingLeaseIsRenewed(t *testing.T) {
	b := enrolled(t, 3)
	b.holdStaying("x")
	tn := b.c.lines["x"].holder
	ends := tn.begun.Add(minHold)
	for b.now() < ends.Add(2*time.Second) {
		b.advance(50 * time.Millisecond)
		for _, s := range b.take(node.Renew) {
			if want := max(tn.terms.TTL, ends.Sub(b.now())); s.cmd.TTL != want {
				t.Fatalf("renewed for %v, want %v", s.cmd.TTL, want)
			}
			b.say(s, node.OK)
		}
		if most := b.now().Add(tn.terms.TTL - tn.terms.Drift - tn.terms.Grace); tn.hold.until > most {
			t.Fatalf("believed for %v more than may be", tn.hold.until.Sub(most))
		}
	}
	if tn.hold.rareState != &noRare {
		t.Errorf("%+v", tn.hold.rareState)
	}

	b = enrolled(t, 3)
	b.holdStaying("x")
	tn = b.c.lines["x"].holder
	for _, s := range b.forgets(0) {
		if want := tn.begun.Add(minHold).Sub(b.now()); s.cmd.TTL != wholeMillis(want) {
			t.Errorf("healed for %v, want %v", s.cmd.TTL, want)
		}
	}
}

// An extension does not change for how long the name stays taken.
func TestExtendOneThatStays(t *testing.T) {
	b := enrolled(t, 3)
	b.holdStaying("x")
	tn := b.c.lines["x"].holder
	b.advance(200 * time.Millisecond)
	b.answerAll(nil)
	for _, ttl := range []time.Duration{2 * time.Second, 20 * time.Second} {
		b.c.Extend(b.now(), tn.id, termsOf(ttl), b.call())
		b.perform()
		for _, s := range b.take(node.Renew) {
			if want := max(ttl, tn.begun.Add(minHold).Sub(b.now())); s.cmd.TTL != want {
				t.Errorf("to %v: renewed for %v, want %v", ttl, s.cmd.TTL, want)
			}
			b.say(s, node.OK)
		}
	}
	if tn.staysUntil() != tn.begun.Add(minHold) {
		t.Errorf("until %v after its beginning", tn.staysUntil().Sub(tn.begun))
	}
}

// However a lease ends, the name stays taken for the rest of the time: the nodes are told to leave
// the keys. After that time they are told to delete them.
func TestLeavesTheName(t *testing.T) {
	for _, c := range []struct {
		what  string
		after time.Duration
		end   func(b *bench, id uint64)
		want  error
	}{
		{"released", 4 * time.Second, func(b *bench, id uint64) { b.c.Release(b.now(), id, b.call()) }, lease.ErrReleased},
		{"released at the end", minHold - time.Microsecond, func(b *bench, id uint64) { b.c.Release(b.now(), id, b.call()) }, lease.ErrReleased},
		{"released after the end", minHold, func(b *bench, id uint64) { b.c.Release(b.now(), id, b.call()) }, lease.ErrReleased},
		{"closed", 4 * time.Second, func(b *bench, _ uint64) { b.c.Close(b.now()) }, lease.ErrClosed},
		{"held for its maximum", 5 * time.Second, func(*bench, uint64) {}, lease.ErrMaxHold},
		{"revoked", 4 * time.Second, func(b *bench, _ uint64) {
			b.renewNow()
			b.answerAll(map[int]node.Status{0: node.Absent, 1: node.Absent})
		}, lease.ErrRevoked},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := enrolled(t, 3)
			l := b.holdStaying("x", func(r *Request) {
				if c.want == lease.ErrMaxHold {
					r.MaxHold = c.after
				}
			})
			tn := b.c.lines["x"].holder
			end := tn.begun.Add(c.after)
			for b.now() < end {
				b.advance(min(50*time.Millisecond, end.Sub(b.now())))
				b.answerAll(nil)
			}
			c.end(b, tn.id)
			b.perform()
			if !errors.Is(l.Err(), c.want) {
				t.Fatalf("Err() = %v, want %v", l.Err(), c.want)
			}
			left, deleted := b.take(node.Vacate), b.take(node.Release)
			if c.after >= minHold {
				b.wantNodes(left)
				left = deleted
			} else {
				b.wantNodes(deleted)
			}
			b.wantNodes(left, 0, 1, 2)
			for _, s := range left {
				rest := wholeMillis(tn.begun.Add(minHold).Sub(b.now()))
				if s.cmd.Op == node.Vacate && (s.cmd.TTL != rest || s.cmd.Fence != 0 || s.cmd.Queued) {
					t.Errorf("%+v: want it left for %v", s.cmd, rest)
				}
				b.say(s, node.OK)
			}
			b.advance(time.Second)
			if b.c.tenures.len() != 0 {
				t.Error("the tenure is not forgotten")
			}
		})
	}
}

// A lease that is lost because no node answers is left as well, as far as it can be told.
func TestExpiredLeaseStays(t *testing.T) {
	b := enrolled(t, 3)
	l := b.holdStaying("x")
	tn := b.c.lines["x"].holder
	for tn.give == nil || !tn.give.told {
		b.advance(50 * time.Millisecond)
		for _, s := range b.take(node.Renew) {
			b.say(s, node.Unknown)
		}
	}
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Fatal(l.Err())
	}
	b.wantNodes(b.take(node.Vacate), 0, 1, 2)
}

// A node that was not told is told later, for what is left then.
func TestLeavingIsOwed(t *testing.T) {
	b := enrolled(t, 3)
	b.holdStaying("x")
	tn := b.c.lines["x"].holder
	ends, answer := tn.begun.Add(minHold), b.call()
	b.c.Release(b.now(), tn.id, answer)
	b.perform()
	for _, s := range b.take(node.Vacate) {
		b.say(s, node.Unknown)
	}
	b.waits(answer)
	b.advance(collectEvery)
	again := b.take(node.Vacate)
	b.wantNodes(again, 0, 1, 2)
	for _, s := range again {
		if s.cmd.TTL != ends.Sub(b.now()) {
			t.Errorf("left for %v, want %v", s.cmd.TTL, ends.Sub(b.now()))
		}
		if s.node > 0 {
			b.say(s, node.OK)
		} else {
			b.say(s, node.Unknown)
		}
	}
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	b.advance(collectEvery)
	again = b.take(node.Vacate)
	b.wantNodes(again, 0)
	b.wantNodes(b.take(node.Release))
	b.say(again[0], node.Unknown)

	// It is owed for as long as the name is to stay taken: a server that was stopped for so long
	// leaves the key when it goes on, and for too long.
	b.drop(0)
	b.advance(ends.Sub(b.now()) - time.Second)
	b.enrol(0)
	late := b.take(node.Vacate)
	b.wantNodes(late, 0)
	if late[0].cmd.TTL != time.Second {
		t.Errorf("left for %v, want a second", late[0].cmd.TTL)
	}
}

// The error says for how long the key may stay: not told to be left, it does so nevertheless.
func TestUnconfirmedLeaving(t *testing.T) {
	b := enrolled(t, 3)
	b.holdStaying("x")
	id, answer := b.c.lines["x"].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	b.c.StopWaiting(b.now(), id)
	b.perform()
	if r := b.refused(answer, ReasonUnconfirmed); r.Left != minHold {
		t.Errorf("for %v, want %v", r.Left, minHold)
	}
}

// An adopted lease has none: its name is free when it is given back.
func TestAdoptedLeaseDoesNotStay(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adopt("x")
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK)
	}
	b.got(w)
	b.release("x")
	b.wantNodes(b.take(node.Vacate))
	b.wantNodes(b.take(node.Release), 0, 1, 2)
}

// A waiter asks when a key that was left ends, also if some nodes are reserved for it already.
func TestWaitsForWhatWasLeft(t *testing.T) {
	for reserved := range 2 {
		t.Run(fmt.Sprint(reserved), func(t *testing.T) {
			b := enrolled(t, 3)
			b.acquire("x")
			for _, s := range b.take(node.Grant) {
				b.say(s, node.Other)
			}
			b.take(node.Release)
			for _, s := range b.take(node.Enqueue) {
				if s.node < reserved {
					b.say(s, node.OK, func(r *node.Reply) { r.Value = node.Reserved(s.cmd.Token) })
				} else {
					b.say(s, node.Other, wasLeft)
				}
			}
			if left := lapse + 20*time.Millisecond; b.c.lines["x"].attempt.due() != b.now().Add(left) {
				t.Errorf("it asks after %v, want %v", b.c.lines["x"].attempt.due().Sub(b.now()), left)
			}
		})
	}
}

// wasLeft is what a node says of a name that another client has left.
func wasLeft(r *node.Reply) {
	theirs(r)
	r.Value, r.Left = node.LeftMark+r.Value, 20*time.Millisecond
}

// Somebody has a name, or has left it, if a quorum keeps one token or a node one that was left.
// Else the answers may be of attempts that come to nothing.
func TestTaken(t *testing.T) {
	var one, other node.Reply
	theirs(&one)
	other.Value = "them/" + fmt.Sprintf("%026d", 8)
	held := func(value string) Answer { return Answer{Verdict: VerdictHeld, Value: value} }
	for _, c := range []struct {
		what string
		as   []Answer
		want bool
	}{
		{"nothing", make([]Answer, 3), false},
		{"one of each", []Answer{held(one.Value), held(other.Value), {Verdict: VerdictGranted}}, false},
		{"a quorum", []Answer{held(one.Value), {Verdict: VerdictUnreachable}, held(one.Value)}, true},
		{"a minority", []Answer{held(one.Value), {Verdict: VerdictUnreachable}, {Verdict: VerdictFree}}, false},
		{"one that was left", []Answer{held(node.LeftMark + one.Value), {Verdict: VerdictUnreachable}, {Verdict: VerdictFree}}, true},
		{"left on one of a quorum", []Answer{held(node.LeftMark + one.Value), held(one.Value), {Verdict: VerdictUnreachable}}, true},
		{"reserved", []Answer{held(node.Reserved(one.Value)), held(node.Reserved(one.Value)), held(node.Reserved(one.Value))}, false},
		{"of another library, with our mark", []Answer{held("!abc"), held("abc"), {}}, false},
	} {
		if got := (&Report{Answers: c.as}).Taken(2); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
