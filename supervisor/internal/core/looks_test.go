package core

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// look has a node say to a look that the key is there.
func (b *bench) look(s send) { b.say(s, node.OK, holds(b.c.tenures.get(s.cmd.ID).token)) }

func holds(value string) func(*node.Reply) {
	return func(r *node.Reply) { r.Value = value }
}

func unrenewed(w *Request) { w.NoRenew = true }

// looks lets the time pass up to the next look, and returns what was sent then.
func (b *bench) looks() []send {
	b.t.Helper()
	for end := b.now().Add(b.c.terms.RenewEvery); b.c.Next() <= end; {
		b.advance(b.c.Next().Sub(b.now()))
		if looks := b.take(node.Inspect); len(looks) > 0 {
			return looks
		}
	}
	b.t.Fatal("nobody looks")
	return nil
}

// changed has a node tell that somebody has changed a key.
func (b *bench) changed(i int, name string) {
	b.c.Hear(b.now(), node.Wake{Node: i, Key: name})
	b.perform()
}

// A lease that is not renewed looks as often as it would be renewed, which gives it no
// more time, and ends as soon as so many nodes say that they do not have it.
func TestLooks(t *testing.T) {
	for name, c := range map[string]struct {
		status node.Status
		value  string
		why    error
	}{
		"deleted":     {node.Absent, "", lease.ErrRevoked},
		"reserved":    {node.OK, "?you/B", lease.ErrRevoked},
		"overwritten": {node.OK, "you/B", lease.ErrTaken},
		"no string":   {node.OK, "", lease.ErrTaken},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 5)
			l := b.hold("x", unrenewed)
			end := b.now().Add(l.Remaining())
			first := b.looks()
			b.wantNodes(first, 0, 1, 2, 3, 4)
			for _, s := range first {
				if s.cmd.Name != "x" || !s.cmd.Track {
					t.Errorf("looked by %+v", s.cmd)
				}
				b.look(s)
			}
			if got := b.now().Add(l.Remaining()); got != end {
				t.Errorf("it is held until %v, and was until %v", got, end)
			}
			second := b.looks()
			b.wantNodes(second, 0, 1, 2, 3, 4)
			for _, s := range second[:2] {
				b.say(s, c.status, holds(c.value))
			}
			if err := l.Err(); err != nil {
				t.Fatalf("%v, and three of five have it", err)
			}
			b.say(second[2], c.status, holds(c.value))
			if err := l.Err(); !errors.Is(err, c.why) {
				t.Errorf("%v, want %v", err, c.why)
			}
			b.wantNodes(b.take(node.Renew))
		})
	}
}

// Silence, a restart and what was too late to be kept take nothing away, and a node that is
// not known to have the key is not asked.
func TestLooksThatSayNothing(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", unrenewed)
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	b.say(grants[2], node.Unsent)
	l := b.got(w)
	b.restart(1)
	looks := b.looks()
	b.wantNodes(looks, 0, 1)
	b.say(looks[0], node.Unknown)
	b.say(looks[1], node.Absent)
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(l.Remaining())
	b.advance(0)
	if err := l.Err(); !errors.Is(err, lease.ErrExpired) {
		t.Error(err)
	}
}

// What one node says has the others asked at once, and so does what it tells unasked, but not
// all the time.
func TestLooksAtOnce(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x", unrenewed)
	looks := b.looks()
	for _, s := range looks[1:] {
		b.look(s)
	}
	b.say(looks[0], node.Absent)
	again := b.take(node.Inspect)
	b.wantNodes(again, 1, 2, 3, 4)
	for _, s := range again {
		b.look(s)
	}
	b.changed(1, "x")
	looks = b.take(node.Inspect)
	b.wantNodes(looks, 1, 2, 3, 4)
	b.changed(2, "x") // the look may have been answered before that
	b.changed(2, "x")
	for _, s := range looks {
		b.look(s)
	}
	b.wantNodes(b.take(node.Inspect))
	b.advance(changesEvery)
	looks = b.take(node.Inspect)
	b.wantNodes(looks, 1, 2, 3, 4)
	b.say(looks[0], node.Absent)
	b.say(looks[1], node.Absent)
	if err := l.Err(); !errors.Is(err, lease.ErrRevoked) {
		t.Errorf("%v, want %v", err, lease.ErrRevoked)
	}
}

// Nothing is looked for a lease that is over soon, nor after its end.
func TestNoLook(t *testing.T) {
	for _, tracks := range []bool{false, true} {
		t.Run(fmt.Sprint(tracks), func(t *testing.T) {
			b := enrolled(t, 3)
			for i := range 3 {
				s := b.c.nodes[i].state
				s.Tracks = tracks
				b.c.Receive(b.now(), node.Batch{Node: i, State: s})
			}
			l := b.hold("x", unrenewed)
			at := b.c.terms.RenewEvery / 4
			if tracks {
				at = trackAfter * 9 / 10
			}
			b.advance(at - time.Millisecond)
			if !l.Valid() {
				t.Fatal(l.Err())
			}
			b.release("x")
			b.advance(b.c.terms.TTL)
			b.wantNodes(b.take(node.Inspect))
		})
	}
}

// An extension waits for a look that is under way, and the look goes on by the new TTL.
func TestLookAndExtend(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x", unrenewed)
	looks := b.looks()
	answer := b.call()
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, termsOf(9*time.Second), answer)
	b.perform()
	b.wantNodes(b.take(node.Renew))
	for _, s := range looks {
		b.look(s)
	}
	for _, s := range b.take(node.Renew) {
		b.say(s, node.OK)
	}
	if b.answer(answer) != nil || l.Remaining() < 8*time.Second {
		t.Errorf("%+v, %v left", b.answer(answer), l.Remaining())
	}
	b.advance(3 * time.Second)
	b.wantNodes(b.take(node.Inspect), 0, 1, 2)
}

// A late grant is in no doubt any more once a quorum of others was seen to have the key.
func TestLooksConfirm(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x", unrenewed)
	grants := b.take(node.Grant)
	for _, s := range grants[:4] {
		b.say(s, node.OK)
	}
	l := b.got(w)
	b.clock.Advance(lateAfter + 1)
	b.say(grants[4], node.OK)
	for _, s := range b.looks() {
		b.look(s)
	}
	looks := b.looks()
	b.say(looks[0], node.Absent)
	b.say(looks[1], node.Absent)
	if err := l.Err(); err != nil {
		t.Errorf("%v, and three of five have it", err)
	}
}

// What was asked before a late grant was in doubt says nothing of what came after.
func TestLooksConfirmNothingEarlier(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x", unrenewed)
	grants := b.take(node.Grant)
	for _, s := range grants[:4] {
		b.say(s, node.OK)
	}
	b.got(w)
	looks := b.looks()
	b.clock.Advance(lateAfter + 1)
	b.say(grants[4], node.OK)
	for _, s := range looks {
		b.look(s)
	}
	if v := &b.c.lines["x"].holder.votes; v.of[4].standing != late {
		t.Errorf("the late grant: %v", v.of[4])
	}
}

// What a node tells while a look is under way is looked at again: that one may have been
// answered before.
func TestChangeWhileLooking(t *testing.T) {
	b := enrolled(t, 5)
	b.hold("x", unrenewed)
	looks := b.looks()
	b.changed(1, "x")
	for _, s := range looks {
		b.look(s)
	}
	b.wantNodes(b.take(node.Inspect))
	b.advance(changesEvery)
	b.wantNodes(b.take(node.Inspect), 0, 1, 2, 3, 4)
}

// A node that keeps the key no longer, because its time is up there, says nothing of what the
// others keep by its answer to an earlier look.
func TestLookThatIsAnsweredTooLate(t *testing.T) {
	for _, left := range []time.Duration{1, 0} {
		b := enrolled(t, 3)
		l := b.hold("x", unrenewed)
		looks := b.looks()
		b.gains(0, b.untils("x")[0]-time.Millisecond)
		b.look(looks[1])
		b.look(looks[2])
		b.clock.Advance(time.Millisecond - left)
		b.say(looks[0], node.Absent)
		if left > 0 {
			b.wantNodes(b.take(node.Inspect), 1, 2)
			continue
		}
		b.wantNodes(b.take(node.Inspect))
		if v := b.c.lines["x"].holder.votes.of[0]; l.Err() != nil || v.standing != counts {
			t.Errorf("%v, node 0 %v", l.Err(), v)
		}
	}
}

// That the key is there does not confirm an extension: a look moves no until.
func TestLookConfirmsNoExtension(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x", unrenewed)
	answer := b.call()
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, termsOf(9*time.Second), answer)
	b.perform()
	renewals := b.take(node.Renew)
	b.say(renewals[0], node.OK)
	b.say(renewals[1], node.Unknown)
	b.changed(0, "x")
	looks := b.take(node.Inspect)
	b.wantNodes(looks, 0, 1)
	for _, s := range looks {
		b.look(s)
	}
	b.waits(answer)
	b.say(renewals[2], node.OK)
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
}

// A change that is told again and again is looked at now and then, also between two looks that
// were answered.
func TestLooksNotAllTheTime(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x", unrenewed)
	for n := range 3 {
		b.changed(0, "x")
		looks := b.take(node.Inspect)
		if want := 3; n > 0 && len(looks) > 0 || n == 0 && len(looks) != want {
			t.Fatalf("told for the %d. time, %d look", n+1, len(looks))
		}
		for _, s := range looks {
			b.look(s)
		}
	}
}

// What a node keeps that has another life confirms nothing, and a reservation is told as what it
// is: the key was deleted.
func TestLooksAtOtherLives(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x", unrenewed)
	grants := b.take(node.Grant)
	for _, s := range grants[:4] {
		b.say(s, node.OK)
	}
	b.got(w)
	b.clock.Advance(lateAfter + 1)
	b.say(grants[4], node.OK)
	for i := range 3 {
		b.keptData(i)
	}
	for range 2 {
		for _, s := range b.looks() {
			b.look(s)
		}
	}
	held := b.c.lines["x"].holder
	if v := held.votes.of[4]; v.standing != late {
		t.Errorf("the late grant: %v", v)
	}
	b.say(to(b.looks(), 3), node.OK, holds("?you/B"))
	if got := held.votes.of[3].fault; got != FaultDeleted {
		t.Errorf("%v, want %v", got, FaultDeleted)
	}
}
