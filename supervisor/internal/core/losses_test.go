package core

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

var (
	errRight  = errors.New("NOPERM no right")
	errMemory = errors.New("OOM no memory")
)

// failRenewals has a node fail every renewal that is out.
func (b *bench) failRenewals(i int, err error) {
	for _, s := range b.take(node.Renew) {
		if s.node == i {
			b.say(s, node.Unknown, func(r *node.Reply) { r.Err = err })
		} else {
			b.sent = append(b.sent, s)
		}
	}
}

// expire lets the time of all leases run out, unanswered.
func (b *bench) expire() { b.advance(b.c.terms.TTL) }

var lossesOfNodes = []struct {
	name   string
	do     func(b *bench)
	reason Reason
	flaws  []Flaw
}{
	{"not asked", func(b *bench) { b.clock.Advance(time.Hour); b.advance(0) }, ReasonExpired,
		[]Flaw{{Node: 0, Err: FaultNotAsked}, {Node: 1, Err: FaultNotAsked}, {Node: 2, Err: FaultNotAsked}}},
	{"not asked, and told first that its keys have expired", func(b *bench) {
		b.clock.Advance(time.Hour)
		b.c.Hear(b.now(), node.Wake{Node: 1, Key: "x"})
		b.perform()
		b.advance(0)
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultNotAsked}, {Node: 1, Err: FaultNotAsked}, {Node: 2, Err: FaultNotAsked}}},
	{"no answer", func(b *bench) { b.advance(b.c.terms.RenewEvery); b.expire() }, ReasonExpired,
		[]Flaw{{Node: 0, Err: FaultNoAnswer}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
	{"too late", func(b *bench) {
		b.advance(b.c.terms.RenewEvery)
		s := to(b.take(node.Renew), 1)
		b.clock.Advance(b.c.terms.TTL)
		b.say(s, node.OK)
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultNoAnswer}, {Node: 1, Err: FaultLate}, {Node: 2, Err: FaultNoAnswer}}},
	{"the latest failure of each", func(b *bench) {
		b.advance(b.c.terms.RenewEvery)
		b.failRenewals(0, errRight)
		b.failRenewals(1, errRight)
		b.advance(b.c.terms.RenewEvery)
		b.failRenewals(1, errMemory)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: errRight}, {Node: 1, Err: errMemory}, {Node: 2, Err: FaultNoAnswer}}},
	{"a failure that was overcome", func(b *bench) {
		b.advance(b.c.terms.RenewEvery)
		b.failRenewals(0, errRight)
		b.answerAll(nil)
		b.round(nil)
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultNoAnswer}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
	{"one that has renewed", func(b *bench) {
		b.advance(b.c.terms.RenewEvery)
		sends := b.take(node.Renew)
		b.say(to(sends, 0), node.Absent)
		b.say(to(sends, 1), node.Absent)
	}, ReasonRevoked, []Flaw{{Node: 0, Err: FaultDeleted}, {Node: 1, Err: FaultDeleted}}},
	{"deleted, then silent", func(b *bench) {
		b.round(map[int]node.Status{0: node.Absent})
		b.advance(b.c.terms.RenewEvery)
		b.failRenewals(0, errRight)
		b.failRenewals(1, errMemory)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultDeleted}, {Node: 1, Err: errMemory}, {Node: 2, Err: FaultNoAnswer}}},
	{"deleted, healed and counted, then silent", func(b *bench) {
		b.round(map[int]node.Status{0: node.Absent})
		b.round(map[int]node.Status{0: node.Absent})
		b.say(b.take(node.Heal)[0], node.OK)
		b.answerAll(nil) // they confirm that nobody came between
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultNoAnswer}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
	{"one has forgotten, and another is silent", func(b *bench) {
		b.restart(0)
		for range 3 {
			b.advance(b.c.terms.RenewEvery)
			for _, s := range b.take(node.Renew) {
				if s.node != 1 {
					b.say(s, []node.Status{0: node.Absent, 2: node.OK}[s.node])
				}
			}
		}
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultForgot}, {Node: 1, Err: FaultNoAnswer}}},
	{"overwritten, then gone", func(b *bench) {
		b.round(map[int]node.Status{0: node.Other})
		b.round(map[int]node.Status{0: node.Absent})
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: Overwritten{}}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
	{"away", func(b *bench) {
		b.drop(0)
		b.advance(b.c.terms.RenewEvery)
		for _, i := range []int{0, 1} {
			b.say(to(b.sent, i), node.Unsent)
		}
		b.expire()
	}, ReasonExpired, []Flaw{{0, errDown, true}, {Node: 1, Err: errDown}, {Node: 2, Err: FaultNoAnswer}}},
	{"clocks that have gained", func(b *bench) {
		b.gains(2, 50*time.Millisecond)
		b.gains(0, 5*time.Second)
		b.gains(1, 3*time.Second)
	}, ReasonPaused, []Flaw{{Node: 0, Err: Gained(5 * time.Second)}, {Node: 1, Err: Gained(3 * time.Second)}}},
	{"a clock that has gained, then silent", func(b *bench) {
		b.gains(0, 500*time.Millisecond)
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: Gained(500 * time.Millisecond)}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
	{"forgotten", func(b *bench) {
		for i := range 3 {
			b.restart(i)
		}
		b.round(map[int]node.Status{0: node.Absent, 1: node.Absent, 2: node.Absent})
		b.expire()
	}, ReasonForgotten, []Flaw{{Node: 0, Err: FaultForgot}, {Node: 1, Err: FaultForgot}, {Node: 2, Err: FaultForgot}}},
}

// Each node has one reason: what is wrong with it now. One that keeps the lease has none.
func TestReasonsOfALoss(t *testing.T) {
	for _, c := range lossesOfNodes {
		t.Run(c.name, func(t *testing.T) {
			b := enrolled(t, 3)
			l := b.hold("x")
			b.round(nil)
			c.do(b)
			if !errors.Is(l.Err(), lease.ErrLost) || b.c.lost == nil {
				t.Fatalf("Err() = %v", l.Err())
			}
			if r := b.c.lost; r.Reason != c.reason || !slices.Equal(r.Flaws, c.flaws) {
				t.Errorf("%v: %v\nwant %v: %v", r.Reason, r.Flaws, c.reason, c.flaws)
			}
		})
	}
}

// A vote keeps the lease no longer than until its grace begins.
func TestReasonsWithGrace(t *testing.T) {
	s := defaults(3, 3*time.Second)
	s.Grace = time.Second
	b := newBench(t, 3)
	b.c = New(s)
	for i := range 3 {
		b.enrol(i)
	}
	b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	b.advance(b.c.lines["x"].holder.hold.until.Sub(b.now()))
	want := []Flaw{{Node: 0, Err: FaultNoAnswer}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}
	if r := b.c.lost; r == nil || r.Reason != ReasonExpired || !slices.Equal(r.Flaws, want) {
		t.Errorf("%+v, want %v", r, want)
	}
}

// No node is blamed for what is not its doing, whatever a minority has done.
func TestLossesWithoutFlaws(t *testing.T) {
	for want, change := range map[Reason]func(*Request){
		ReasonMaxHold:    func(r *Request) { r.MaxHold = 1500 * time.Millisecond },
		ReasonNotRenewed: noRenew,
	} {
		b := enrolled(t, 3)
		b.hold("x", change)
		b.advance(b.c.terms.RenewEvery)
		for _, s := range append(b.take(node.Renew), b.take(node.Inspect)...) {
			b.say(s, []node.Status{node.Other, node.OK, node.OK}[s.node], func(r *node.Reply) {
				if s.node > 0 {
					r.Value = b.c.lines["x"].holder.token
				}
			})
		}
		b.advance(b.c.terms.TTL - b.c.terms.RenewEvery)
		if r := b.c.lost; r == nil || r.Reason != want || len(r.Flaws) != 0 {
			t.Errorf("%+v, want %v without flaws", r, want)
		}
	}
}

// A renewal for which there was no connection is not shown as failing: there may be one again.
func TestRenewalWithoutConnectionIsNotShown(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.drop(0)
	b.advance(b.c.terms.RenewEvery)
	b.say(to(b.take(node.Renew), 0), node.Unsent, func(r *node.Reply) { r.Err = errDown })
	if v := b.c.Node(0); v.Failing != nil {
		t.Error(v.Failing)
	}
}

// A heal that fails is shown as a renewal that does.
func TestFailingHealIsShown(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.c.heardOf(b.now(), b.c.lines["x"].holder, 0, node.Reply{Op: node.Heal, Status: node.Unknown, Err: errMemory})
	if v := b.c.Node(0); v.Failing != errMemory || v.FailedAt != b.now() {
		t.Errorf("%v, %v ago", v.Failing, b.now().Sub(v.FailedAt))
	}
}

// Two leases that one node refuses for different reasons are told each its own.
func TestReasonsOfTwoLeases(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	b.hold("y")
	want := map[string]error{"x": errRight, "y": errMemory}
	b.advance(b.c.terms.RenewEvery)
	for _, s := range b.take(node.Renew) {
		b.say(s, node.Unknown, func(r *node.Reply) { r.Err = want[s.cmd.Name] })
	}
	for name := range want {
		h := b.c.lines[name].holder
		if got := b.c.loss(h.votes.of[0].until, h, ReasonExpired).Flaws; !slices.Equal(got, []Flaw{{Node: 0, Err: want[name]}}) {
			t.Errorf("%s: %v, want %v", name, got, want[name])
		}
	}
}

// A failure that is too old to be known is told as the latest one of its node.
func TestFailuresAreFew(t *testing.T) {
	var f failures
	first := f.note(1, errRight, false)
	if again := f.note(2, errRight, false); again != first {
		t.Errorf("the same one is number %d and %d", first, again)
	}
	if at := f.get(first).at; at != 2 {
		t.Errorf("it was said last at %v, want 2", at)
	}
	if apart := f.note(2, errRight, true); apart == first {
		t.Error("the same one says that there was no connection")
	}
	same := f.note(2, listed{"no route"}, false)
	if again := f.note(2, listed{"no route"}, false); again != same {
		t.Errorf("the same text is number %d and %d", same, again)
	}
	first = f.note(2, errRight, false)
	for i := range keptFailures - 1 {
		f.note(3, fmt.Errorf("failure %d", i), false)
	}
	if got := f.get(f.known(first)).err; got != errRight {
		t.Errorf("%v, want the first", got)
	}
	f.note(4, errMemory, true)
	if got := f.get(f.known(first)); got.err != errMemory || !got.apart {
		t.Errorf("%+v, want the latest", got)
	}
}

// What is told of a loss costs a held lease nothing: a vote is no larger for it.
func TestSizeOfAVote(t *testing.T) {
	const word = unsafe.Sizeof(uintptr(0))
	without := unsafe.Offsetof(vote{}.standing) + unsafe.Sizeof(vote{}.standing)
	if got := unsafe.Sizeof(vote{}); got > (without+word-1)/word*word {
		t.Errorf("%d bytes, and %d without what is wrong with it", got, without)
	}
}
