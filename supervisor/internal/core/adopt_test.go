package core

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// adopt begins to continue a lease that others have handed over, and returns its heir.
func (b *bench) adopt(name string) Call { return b.adoptAfter(name, true) }

// adoptAfter does the same; over tells that the former holder is over.
func (b *bench) adoptAfter(name string, over bool) Call {
	r := Request{Call: b.call(), Key: name, Terms: b.c.terms}
	b.c.Adopt(b.now(), r, Handle{Key: name, Token: former, Fence: 7, TTL: r.Terms.TTL, Over: over})
	b.perform()
	return r.Call
}

const former = "former/ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// What the nodes say to an adoption decides as soon as the outcome is certain. Nothing
// is deleted, whatever that is.
func TestAdoptAnswers(t *testing.T) {
	const (
		ok, absent, other, silent, unsent = node.OK, node.Absent, node.Other, node.Unknown, node.Unsent
	)
	for name, c := range map[string]struct {
		says []node.Status // in the order in which they come; of five nodes
		done int           // how many of them it takes to be certain; 0 if it is the window's end
		want Reason
	}{
		"all have it":                  {[]node.Status{ok, ok, ok, ok, ok}, 3, ReasonNone},
		"a quorum has it":              {[]node.Status{absent, other, ok, ok, ok}, 5, ReasonNone},
		"two are silent":               {[]node.Status{silent, unsent, ok, ok, ok}, 5, ReasonNone},
		"it has expired":               {[]node.Status{absent, absent, absent, absent, absent}, 3, ReasonLost},
		"another has it":               {[]node.Status{other, other, other, ok, ok}, 3, ReasonLost},
		"it is gone from a quorum":     {[]node.Status{ok, ok, other, absent, other}, 5, ReasonLost},
		"too many are silent":          {[]node.Status{silent, silent, silent, ok, ok}, 0, ReasonNoQuorum},
		"nobody answers":               {[]node.Status{unsent, unsent, silent, silent, silent}, 0, ReasonNoQuorum},
		"neither had nor surely gone":  {[]node.Status{ok, ok, absent, absent, silent}, 0, ReasonNoQuorum},
		"neither had nor surely taken": {[]node.Status{other, ok, ok, other, unsent}, 0, ReasonNoQuorum},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 5)
			w := b.adopt("x")
			sends := b.take(node.Adopt)
			b.wantNodes(sends, 0, 1, 2, 3, 4)
			for i, s := range sends {
				if s.cmd.Former != former || s.cmd.Token == former || s.cmd.Fence <= 7 || s.cmd.Name != "x" || s.cmd.TTL != b.c.terms.TTL {
					t.Fatalf("sent %+v", s.cmd)
				}
				if i < c.done || c.done == 0 {
					b.waits(w)
				}
				b.say(s, c.says[i])
				if c.done != 0 && i+1 >= c.done && !b.done(w) {
					t.Fatalf("not decided after %d answers", i+1)
				}
			}
			for !b.done(w) {
				b.advance(b.c.terms.Window / 8) // it asks those that failed again
				for _, s := range b.take(node.Adopt) {
					if says := c.says[s.node]; says != silent && says != unsent {
						t.Fatalf("node %d was asked again after %v", s.node, says)
					}
					b.say(s, node.Unsent)
				}
			}
			if c.want == ReasonNone {
				l := b.got(w)
				if l.Fence() <= 7 || l.Token() == former || l.Name() != "x" || !l.Valid() {
					t.Errorf("fence %d, token %q, name %q, %v", l.Fence(), l.Token(), l.Name(), l.Err())
				}
				if b.c.lines["x"].holder == nil {
					t.Error("the line does not know its holder")
				}
				b.wantNodes(b.take(node.Release))
				return
			}
			e := b.refused(w, c.want)
			if len(e.Answers) != 5 || e.Key != "x" {
				t.Errorf("%+v", e)
			}
			b.wantNodes(b.take(node.Release))
			if b.c.tenures.len() != 0 || c.want == ReasonNoQuorum && b.now() != clock.Instant(time.Hour).Add(b.c.terms.Window) {
				t.Errorf("%d tenures after %v, want none, after the window", b.c.tenures.len(), b.now())
			}
			if len(b.c.lines) != 0 {
				t.Error("a line was left")
			}
		})
	}
}

// What a node promises counts from before its renewal was sent, and the lease lives to
// the q-th latest of these instants.
func TestAdoptedDeadline(t *testing.T) {
	b := enrolled(t, 5)
	w := b.adopt("x")
	sends := b.take(node.Adopt)
	begun := b.now()
	b.clock.Advance(20 * time.Millisecond) // the answers take their time
	b.say(sends[0], node.OK)
	b.say(sends[1], node.Unknown)
	b.advance(b.c.terms.Window / 8)
	again := b.take(node.Adopt)
	b.wantNodes(again, 1)
	b.clock.Advance(50 * time.Millisecond)
	b.say(again[0], node.OK)
	b.waits(w)
	b.say(sends[4], node.OK)
	l := b.got(w)
	if got, want := l.Remaining(), begun.Add(b.c.terms.TTL-b.c.terms.Drift).Sub(b.now()); got != want {
		t.Errorf("Remaining() = %v, want %v", got, want)
	}
	// One whose time is up by the last answer is not handed out, nor is it given back.
	b = enrolled(t, 1)
	w = b.adopt("x")
	b.clock.Advance(b.c.terms.TTL)
	b.say(b.take(node.Adopt)[0], node.OK)
	b.refused(w, ReasonNoQuorum)
	b.wantNodes(b.take(node.Release))
}

// Nodes that are not reachable at first are asked as soon as they are enrolled; none is
// asked before the nodes' time is known, of which the fence is made.
func TestAdoptWaitsForNodes(t *testing.T) {
	b := newBench(t, 3)
	w := b.adopt("x")
	b.wantNodes(b.take(node.Adopt))
	b.enrol(0)
	b.wantNodes(b.take(node.Adopt))
	b.enrol(1)
	sends := b.take(node.Adopt)
	b.wantNodes(sends, 0, 1, 2)
	b.say(to(sends, 0), node.OK)
	b.say(to(sends, 1), node.Unsent)
	b.say(to(sends, 2), node.Unsent)
	b.waits(w)
	b.enrol(2)
	sends = b.take(node.Adopt)
	b.wantNodes(sends, 1, 2)
	b.say(to(sends, 2), node.OK)
	b.got(w)
}

// Once it is adopted a lease is kept like any other: renewed, and healed where it was
// absent. Votes that it did not have count only after a quorum of others has confirmed.
func TestAdoptedIsKept(t *testing.T) {
	b := enrolled(t, 5)
	w := b.adopt("x")
	for i, s := range b.take(node.Adopt) {
		b.say(s, []node.Status{node.Absent, node.Other, node.OK, node.OK, node.OK}[i])
	}
	l := b.got(w)
	held := b.c.lines["x"].holder
	if held.votes.suspect() != 1<<0|1<<1 || held.votes.of[0].standing != onProbation || held.votes.of[1].standing != taken {
		t.Fatalf("votes %v", held.votes.of)
	}
	b.wantNodes(b.take(node.Heal)) // others must have confirmed before
	b.answerAll(map[int]node.Status{0: node.Absent, 1: node.Other})
	heals := b.take(node.Heal)
	b.wantNodes(heals, 0)
	if heals[0].cmd.Fence != l.Fence() || heals[0].cmd.Token != string(l.Token()) {
		t.Errorf("healed with %+v", heals[0].cmd)
	}
	b.say(heals[0], node.OK)
	if held.counting().has(0) {
		t.Error("a vote counts that was healed only now")
	}
	b.answerAll(map[int]node.Status{1: node.Other})
	if !held.counting().has(0) || held.counting().has(1) {
		t.Errorf("counting %b after a quorum has confirmed", held.counting())
	}
	if !l.Valid() || l.Remaining() < b.c.terms.TTL-b.c.terms.Drift-time.Millisecond {
		t.Errorf("Remaining() = %v after a renewal", l.Remaining())
	}
}

// A process that holds the name does not adopt it, and the waiters of one that does
// stand back until it has ended.
func TestAdoptInALine(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.refused(b.adopt("x"), ReasonHeld)
	b.wantNodes(b.take(node.Adopt))

	b = enrolled(t, 3)
	patient := b.acquire("x")
	attempt := b.take(node.Grant)
	w, twice := b.adopt("x"), b.adopt("x")
	renewals := b.take(node.Adopt)
	for _, s := range renewals[:3] {
		b.say(s, node.OK)
	}
	l := b.got(w)
	b.wantNodes(b.take(node.Release), 0, 1, 2) // of the attempt, which had begun before
	for _, s := range attempt {
		b.say(s, node.Other)
	}
	for _, s := range renewals[3:] {
		b.say(s, node.OK)
	}
	b.refused(twice, ReasonHeld)
	b.waits(patient)
	b.advance(b.c.settings.RetryMax * 5)
	b.wantNodes(b.take(node.Grant))
	b.waits(patient)

	answer := b.call()
	_ = l.Release(t.Context())
	b.c.Release(b.now(), b.c.lines["x"].holder.id, answer)
	b.perform()
	b.wantNodes(b.take(node.Release), 0, 1, 2)
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// One who does not want to wait is told at once that the name is held now.
func TestAdoptBeforeATry(t *testing.T) {
	b := enrolled(t, 3)
	once := b.acquire("x", func(w *Request) { w.Once, w.Attempts = true, 1 })
	w := b.adopt("x")
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK)
	}
	b.got(w)
	b.refused(once, ReasonHeld)
	b.wantNodes(b.take(node.Release), 0, 1, 2)
}

// An heir that gives up, or is given up, leaves the lease to the next that has the handle.
func TestAdoptEnds(t *testing.T) {
	for name, end := range map[string]func(*bench, Call) Reason{
		"canceled": func(b *bench, w Call) Reason {
			b.c.Cancel(b.now(), w)
			return ReasonNoQuorum
		},
		"closed": func(b *bench, _ Call) Reason {
			b.c.Close(b.now())
			return ReasonClosed
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 3)
			w := b.adopt("x")
			sends := b.take(node.Adopt)
			b.say(sends[0], node.OK)
			want := end(b, w)
			b.perform()
			b.refused(w, want)
			b.c.Cancel(b.now(), w) // too late, and harmless
			for _, s := range sends[1:] {
				b.say(s, node.OK)
			}
			b.advance(b.c.terms.TTL)
			b.wantNodes(b.take(node.Release))
			if b.c.tenures.len()+len(b.c.lines)+b.alarms() != 0 {
				t.Error("something was left")
			}
		})
	}

	// A cancellation that comes after the end is one too many.
	b := enrolled(t, 1)
	w := b.adopt("x")
	b.say(b.take(node.Adopt)[0], node.Absent)
	b.c.Cancel(b.now(), w)
	b.perform()
	b.refused(w, ReasonLost)
}

// left has an answer to Adopt tell how long the former key would have lived.
func left(d time.Duration) func(*node.Reply) {
	return func(r *node.Reply) { r.Left, r.Raised = d, true }
}

// If its former holder may still believe in it, a lease begins when the promises to that
// one have run out, by the longest that a node tells, and is renewed meanwhile.
func TestAdoptWaitsForTheFormerHolder(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adoptAfter("x", false)
	for i, s := range b.take(node.Adopt) {
		b.say(s, node.OK, left(time.Duration(i+1)*time.Second))
	}
	over := 2*time.Second + b.c.terms.Drift // the third came when a quorum had been enough
	begun := b.now()
	for b.now().Sub(begun) < over-100*time.Millisecond {
		b.waits(w)
		for _, s := range b.take(node.Renew) {
			if s.cmd.Token == former {
				t.Fatalf("renewed %+v", s.cmd)
			}
			b.say(s, node.OK)
		}
		b.advance(100 * time.Millisecond)
	}
	b.advance(begun.Add(over).Sub(b.now()) - 1)
	b.answerAll(nil)
	b.waits(w)
	b.advance(1)
	b.waits(w)
	b.answerAll(nil)
	if l := b.got(w); !l.Valid() || l.Fence() <= 7 {
		t.Errorf("%v, fence %d", l.Err(), l.Fence())
	}
	b.wantNodes(b.take(node.Release))

	t.Run("not known", func(t *testing.T) {
		// A node that had swapped it before does not say for how long that was promised.
		b := enrolled(t, 1)
		w := b.adoptAfter("x", false)
		b.say(b.take(node.Adopt)[0], node.OK, left(0))
		begun := b.now()
		for b.now().Sub(begun) < b.c.terms.TTL {
			b.waits(w)
			for _, s := range b.take(node.Renew) {
				b.say(s, node.OK)
			}
			b.advance(100 * time.Millisecond)
		}
		b.advance(b.c.terms.Drift)
		b.answerAll(nil)
		b.got(w)
	})
	t.Run("without a guard", func(t *testing.T) {
		// Nobody has told this client for how long others may hold: only the node has.
		for _, says := range []time.Duration{30 * time.Second, 0} {
			b := enrolled(t, 1)
			b.told(0, func(s *node.State) { s.Guarded = false })
			w := b.adoptAfter("x", false)
			b.say(b.take(node.Adopt)[0], node.OK, left(says))
			begun := b.now()
			want := says
			if says == 0 {
				want = b.c.settings.MaxTTLCap
			}
			for b.now().Sub(begun) < want {
				b.waits(w)
				b.answerAll(nil)
				b.advance(250 * time.Millisecond)
			}
			b.answerAll(nil)
			b.advance(time.Second)
			b.answerAll(nil)
			b.got(w)
		}
	})
	t.Run("taken meanwhile", func(t *testing.T) {
		b := enrolled(t, 3)
		w := b.adoptAfter("x", false)
		for _, s := range b.take(node.Adopt)[:2] {
			b.say(s, node.OK, left(time.Second))
		}
		b.waits(w)
		b.say(b.take(node.Renew)[0], node.Other)
		b.refused(w, ReasonLost)
		b.wantNodes(b.take(node.Release))
	})
	t.Run("given up", func(t *testing.T) {
		b := enrolled(t, 1)
		w := b.adoptAfter("x", false)
		b.say(b.take(node.Adopt)[0], node.OK, left(time.Second))
		b.c.Cancel(b.now(), w)
		b.perform()
		b.refused(w, ReasonFormerHolder)
		b.wantNodes(b.take(node.Release))
	})
}

// A larger fence than all that is stored is raised on the nodes that have swapped the
// token, as in an election.
func TestAdoptRaises(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adopt("x")
	swaps := b.take(node.Adopt)
	stored := swaps[0].cmd.Fence + 1000
	for i, s := range swaps[:2] {
		b.say(s, node.OK, func(r *node.Reply) { r.Fence, r.Raised = stored-uint64(i), false })
	}
	b.waits(w)
	raises := b.take(node.Raise)
	b.wantNodes(raises, 0, 1)
	if raises[0].cmd.Fence != stored+1 {
		t.Errorf("raised to %d, want %d", raises[0].cmd.Fence, stored+1)
	}
	b.say(raises[0], node.OK)
	b.say(raises[1], node.Unknown)
	b.waits(w)
	b.advance(0)
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK, func(r *node.Reply) { r.Fence, r.Raised = stored+1, false })
	}
	for _, s := range b.take(node.Raise) {
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() <= stored {
		t.Errorf("fence %d, and %d was stored", l.Fence(), stored)
	}
}

// A node may keep the token of an earlier attempt of this process: it is asked to swap
// that one, and nobody else's.
func TestAdoptAgain(t *testing.T) {
	b := enrolled(t, 1)
	w := b.adopt("x")
	first := b.take(node.Adopt)[0]
	b.say(first, node.Unknown)
	b.c.Cancel(b.now(), w)
	b.perform()
	b.refused(w, ReasonNoQuorum)

	w = b.adopt("x")
	second := b.take(node.Adopt)[0]
	if second.cmd.Token == first.cmd.Token || second.cmd.Former != former {
		t.Fatalf("sent %+v after %+v", second.cmd, first.cmd)
	}
	b.say(second, node.Other, func(r *node.Reply) { r.Value = first.cmd.Token })
	third := b.take(node.Adopt)[0]
	if third.cmd.Token != second.cmd.Token || third.cmd.Former != first.cmd.Token {
		t.Fatalf("sent %+v", third.cmd)
	}
	b.say(third, node.OK, left(time.Second))
	b.got(w)

	b = enrolled(t, 1)
	w = b.adopt("x")
	b.say(b.take(node.Adopt)[0], node.Other, func(r *node.Reply) { r.Value = "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ" })
	b.refused(w, ReasonLost)
}

// Of two adoptions of one handle at once the second is refused, and asks no node: it would swap
// the token of the first, which still counts those nodes.
func TestAdoptTwiceAtOnce(t *testing.T) {
	b := enrolled(t, 3)
	first := b.adopt("x")
	asked := b.take(node.Adopt)
	second := b.adopt("x")
	b.refused(second, ReasonHeld)
	b.wantNodes(b.take(node.Adopt))
	for _, cmd := range asked {
		b.say(cmd, node.OK, left(time.Second))
	}
	b.got(first)
}

// What a node keeps that lost its data lately is no vote: a command may have come late.
func TestAdoptFromANewLife(t *testing.T) {
	b := enrolled(t, 1)
	b.restart(0)
	w := b.adopt("x")
	b.say(b.take(node.Adopt)[0], node.OK, left(time.Second))
	b.waits(w)
	b.advance(b.healAfter() / 2)
	b.waits(w)
}

// A lease is handed over once a quorum has confirmed renewals that were sent since,
// and no node is told of the end.
func TestHandOverInCore(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	id := b.c.lines["x"].holder.id
	next := b.acquire("x")
	b.advance(b.c.terms.RenewEvery)
	early := b.take(node.Renew)
	b.say(early[0], node.OK)

	answer, second := b.call(), b.call()
	b.c.HandOver(b.now(), id, answer)
	b.c.HandOver(b.now(), id, second)
	b.perform()
	b.refused(second, ReasonHandingOver)
	later := b.take(node.Renew)
	b.wantNodes(later, 0)
	b.say(later[0], node.OK)
	b.say(early[1], node.OK)
	b.say(early[2], node.OK)
	if b.done(answer) || !l.Valid() {
		t.Fatal("handed over on renewals that were sent before")
	}
	later = b.take(node.Renew)
	b.say(later[0], node.OK)
	b.log = nil
	b.say(later[1], node.OK)
	if err := b.answer(answer); err != nil || l.Err() != lease.ErrHandedOver {
		t.Errorf("%v, and the lease is %v", err, l.Err())
	}
	if b.log[0] == "renewed" {
		b.log = b.log[1:]
	}
	if b.log[0] != "ended" {
		t.Errorf("done: %v; want the end told first", b.log)
	}
	b.wantNodes(b.take(node.Release))
	b.wantNodes(b.take(node.Grant), 0, 1, 2, 3, 4) // of the next waiter, who will be refused
	b.waits(next)

	// Late answers change nothing.
	for _, s := range early[3:] {
		b.say(s, node.OK)
	}
	b.wantNodes(b.take(node.Release))
	if b.c.tenures.get(id) != nil {
		t.Error("the tenure was not forgotten")
	}
}

// A holder that gives up handing over keeps the lease; if it loses it meanwhile it is told that.
func TestHandOverEnds(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	id := b.c.lines["x"].holder.id
	answer := b.call()
	b.c.HandOver(b.now(), id, answer)
	b.c.Keep(b.now(), id, answer)
	b.c.Keep(b.now(), id, answer)
	b.perform()
	b.refused(answer, ReasonKept)
	for _, s := range b.take(node.Renew) {
		b.say(s, node.OK)
	}
	if !l.Valid() {
		t.Error("handed over although nobody wanted it any more")
	}

	answer = b.call()
	b.c.HandOver(b.now(), id, answer)
	b.perform()
	for _, s := range b.take(node.Renew)[:2] {
		b.say(s, node.Other)
	}
	if b.refused(answer, ReasonTaken); l.Err() != lease.ErrTaken {
		t.Errorf("the lease is %v", l.Err())
	}
	answer = b.call()
	b.c.HandOver(b.now(), id, answer)
	b.perform()
	b.refused(answer, ReasonLost)
}

// A handle is of the TTL that is in force when the lease ends here, even if that was
// changed since it was asked for.
func TestHandOverAndExtend(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x")
	id := b.c.lines["x"].holder.id
	answer, extended := b.call(), b.call()
	b.c.HandOver(b.now(), id, answer)
	short := *b.c.terms
	short.TTL /= 2
	b.c.Extend(b.now(), id, &short, extended)
	b.perform()
	for !b.done(answer) {
		b.say(b.take(node.Renew)[0], node.OK)
	}
	h := b.outcomes[answer].handle
	if err := b.answer(answer); err != nil || l.Err() != lease.ErrHandedOver || h.TTL != short.TTL {
		t.Errorf("%v, the lease is %v, and the handle of TTL %v: want %v", err, l.Err(), h.TTL, short.TTL)
	}
}

// A handle is of the TTL that a late renewal may yet set, if that is the shorter.
func TestHandleAfterExtend(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	held := b.c.lines["x"].holder
	if h := b.c.handle(b.now(), held); h.TTL != b.c.terms.TTL || h.Key != "x" || h.Token != held.token || h.Fence != held.fence {
		t.Errorf("%+v", h)
	}
	b.advance(b.c.terms.RenewEvery)
	b.say(b.take(node.Renew)[0], node.Unknown)
	long := *b.c.terms
	long.TTL *= 10
	b.c.Extend(b.now(), held.id, &long, b.call())
	b.perform()
	b.say(b.take(node.Renew)[0], node.OK)
	if h := b.c.handle(b.now(), held); h.TTL != b.c.terms.TTL {
		t.Errorf("TTL %v while a renewal for %v may be under way", h.TTL, b.c.terms.TTL)
	}
	if h := b.c.handle(b.now().Add(owedFor), held); h.TTL != long.TTL {
		t.Errorf("TTL %v, want %v", h.TTL, long.TTL)
	}
}

// A swap leaves the key as long as the former holder was promised: a name is not free because the
// lease's own time would be up there. That goes for what is answered late as well.
func TestReleasedAfterTheFormerHolder(t *testing.T) {
	const long = 10 * time.Second
	for _, when := range []string{"counted", "beyond the quorum", "when it is held", "when it is released", "young"} {
		t.Run(when, func(t *testing.T) {
			b := enrolled(t, 3)
			w := b.adopt("x")
			swaps, lefts := b.take(node.Adopt), []time.Duration{long, 1, 1}
			if when == "young" {
				b.restart(0)
			}
			if when == "counted" || when == "young" {
				b.say(swaps[0], node.OK, left(long))
			}
			b.say(swaps[1], node.OK, left(lefts[1]))
			if when == "beyond the quorum" {
				lefts[2] = long
			}
			b.say(swaps[2], node.OK, left(lefts[2]))
			b.got(w)
			if when == "when it is held" || when == "beyond the quorum" {
				b.say(swaps[0], node.OK, left(long))
			}
			id, answer := b.c.lines["x"].holder.id, b.call()
			b.c.Release(b.now(), id, answer)
			b.perform()
			for _, s := range b.take(node.Release) {
				b.say(s, node.Unknown)
			}
			if when == "when it is released" {
				b.say(swaps[0], node.OK, left(long))
			}
			if until := b.c.nodes[0].debts.owed[id].until; until < b.now().Add(long) {
				t.Errorf("the release is owed for %v, and the key may be there for %v", until.Sub(b.now()), long)
			}
			b.advance(long)
			b.waits(answer)
			b.advance(b.c.settings.DriftOf(long))
			if r := b.answer(answer); r != nil {
				t.Errorf("%+v", r)
			}
		})
	}
}
