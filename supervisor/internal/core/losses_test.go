package core

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/leasehold-go/leasehold/clock"
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

// refuseUntilExpired has node 0 refuse renewals until it has the key no longer.
func (b *bench) refuseUntilExpired(err error) {
	for v := &b.c.lines["x"].holder.votes.of[0]; b.now() < v.until; {
		b.advance(b.c.terms.RenewEvery)
		b.failRenewals(0, err)
		b.answerAll(nil)
	}
	b.round(map[int]node.Status{0: node.Absent})
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
	{"deleted, and still gone", func(b *bench) {
		b.round(map[int]node.Status{0: node.Absent})
		b.round(map[int]node.Status{0: node.Absent})
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: FaultDeleted}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
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
	{"refused until the key has expired", func(b *bench) {
		b.refuseUntilExpired(errRight)
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: errRight}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
	{"expired, and then not put back", func(b *bench) {
		b.refuseUntilExpired(errRight)
		b.round(map[int]node.Status{0: node.Absent})
		for _, s := range b.take(node.Heal) {
			b.say(s, node.Unknown, func(r *node.Reply) { r.Err = errMemory })
		}
		b.round(map[int]node.Status{0: node.Absent})
		b.advance(b.c.terms.RenewEvery)
		b.expire()
	}, ReasonExpired, []Flaw{{Node: 0, Err: errMemory}, {Node: 1, Err: FaultNoAnswer}, {Node: 2, Err: FaultNoAnswer}}},
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

// What a node refuses is shown until it does the same, or renews that lease: whatever else it
// does, and whatever is wrong with the vote.
func TestWhatANodeLacksIsShown(t *testing.T) {
	refused := func(op node.Op, id uint64, err error) node.Reply {
		return node.Reply{Op: op, ID: id, Status: node.Unknown, Err: err}
	}
	done := func(op node.Op, id uint64) node.Reply { return node.Reply{Op: op, ID: id, Status: node.OK} }
	absent := node.Reply{Op: node.Renew, ID: 1, Status: node.Absent}
	for name, c := range map[string]struct {
		heard []node.Reply
		shown error
	}{
		"a renewal":                        {[]node.Reply{refused(node.Renew, 1, errRight)}, errRight},
		"a heal":                           {[]node.Reply{refused(node.Heal, 1, errMemory)}, errMemory},
		"the latest":                       {[]node.Reply{refused(node.Renew, 1, errRight), refused(node.Heal, 1, errMemory)}, errMemory},
		"a renewal, then one that is done": {[]node.Reply{refused(node.Renew, 1, errRight), done(node.Renew, 2)}, nil},
		"a heal, and the key is not there": {[]node.Reply{refused(node.Heal, 1, errMemory), absent}, errMemory},
		"a heal, and others are renewed":   {[]node.Reply{refused(node.Heal, 1, errMemory), done(node.Renew, 2)}, errMemory},
		"a heal that was done after all":   {[]node.Reply{refused(node.Heal, 1, errMemory), done(node.Renew, 1)}, nil},
		"a heal, then one that is done":    {[]node.Reply{refused(node.Heal, 1, errMemory), done(node.Heal, 2)}, nil},
		"a renewal, and a heal is done":    {[]node.Reply{refused(node.Renew, 1, errRight), done(node.Heal, 1)}, errRight},
		"a grant":                          {[]node.Reply{refused(node.Grant, 1, errMemory)}, nil},
	} {
		for _, standing := range []standing{counts, late, onProbation, withdrawn, taken} {
			b := enrolled(t, 3)
			b.hold("x")
			h := b.c.lines["x"].holder
			h.votes.of[0].standing = standing
			for _, r := range c.heard {
				b.clock.Advance(time.Second)
				b.c.heardOf(b.now(), h, 0, r)
			}
			if v := b.c.Node(0); v.Failing != c.shown || c.shown != nil && len(c.heard) == 1 && v.FailedAt != b.now() {
				t.Errorf("%s, of a vote that %v: %v, %v ago; want %v", name, standing, v.Failing, b.now().Sub(v.FailedAt), c.shown)
			}
		}
	}
}

// A node that fails for long is shown as long.
func TestWhatANodeLacksForLong(t *testing.T) {
	var x lack
	for now := range clock.Instant(3) {
		x.heard(now, node.Reply{Op: node.Heal, Err: errMemory}, false)
		if x.at != now {
			t.Errorf("at %v it was heard at %v", now, x.at)
		}
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
	first := f.note(errRight, false)
	if again := f.note(errRight, false); again != first {
		t.Errorf("the same one is number %d and %d", first, again)
	}
	if apart := f.note(errRight, true); apart == first {
		t.Error("the same one says that there was no connection")
	}
	same := f.note(listed{"no route"}, false)
	if again := f.note(listed{"no route"}, false); again != same {
		t.Errorf("the same text is number %d and %d", same, again)
	}
	first = f.note(errRight, false)
	for i := range keptFailures - 1 {
		f.note(fmt.Errorf("failure %d", i), false)
	}
	if got := f.get(f.known(first)).err; got != errRight {
		t.Errorf("%v, want the first", got)
	}
	f.note(errMemory, true)
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

// The reasons name twins: of a node that is one they tell whose.
func TestReasonsWithOtherTwins(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("a", "b", "c")
	b.hold("x")
	h := b.c.lines["x"].holder
	reasons := func() *Report { return b.c.loss(h.hold.until, h, ReasonExpired) }
	before := reasons()
	if again := reasons(); again != before {
		t.Error("the same reasons are kept twice")
	}
	b.told(2, func(s *node.State) { s.Identity, s.Run = "a", "run-a" })
	if got, want := reasons().Twins, (Twins{0, 2}); got != want || before.Twins != (Twins{}) {
		t.Errorf("twins %v, and %v before; want %v, and none", got, before.Twins, want)
	}
}

// What is wrong with a vote is told by what was known of it when the key was not there.
func TestFaultsOfAVote(t *testing.T) {
	const life = 1
	for _, c := range []struct {
		name      string
		unguarded bool
		status    node.Status
		vote      vote
		late      time.Duration // how long after until the answer comes
		want      Fault
	}{
		{"deleted", false, node.Absent, vote{life: life}, -1, FaultDeleted},
		{"deleted, or all data", true, node.Absent, vote{life: life}, -1, FaultGone},
		{"forgotten", false, node.Absent, vote{life: life + 1}, -1, FaultForgot},
		{"expired", false, node.Absent, vote{life: life}, 0, FaultExpired},
		{"never had", false, node.Absent, vote{}, unknown, FaultNeverHad},
		{"still never had", false, node.Absent, vote{standing: onProbation, fault: FaultNeverHad}, unknown, FaultNeverHad},
		{"had it before", false, node.Absent, vote{standing: onProbation, fault: FaultNoAnswer}, unknown, FaultExpired},
		{"as it was", false, node.Absent, vote{standing: withdrawn, fault: FaultLate}, unknown, FaultLate},
		{"no connection yet", false, node.Unsent, vote{life: life}, -1, FaultNotConnected},
		{"in time", false, node.OK, vote{life: life}, -1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := enrolled(t, 1)
			b.told(0, func(s *node.State) { s.Guarded = !c.unguarded })
			b.hold("x")
			held := b.c.lines["x"].holder
			if c.late != unknown {
				c.vote.until = b.now().Add(-c.late)
			}
			held.votes.of[0] = c.vote
			b.c.heardOf(b.now(), held, 0, node.Reply{Op: node.Renew, Status: c.status})
			if got := held.votes.of[0].fault; got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

const unknown = time.Hour

// A renewal that was due at the very end of the lease was not asked for, and one that is answered
// then is too late.
func TestFaultsAtTheEnd(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	held := b.c.lines["x"].holder
	end := held.hold.until
	for _, late := range []time.Duration{0, 1} {
		held.hold.renewAt = end.Add(late)
		if got, want := b.c.causeOf(end, held, 0), []Fault{FaultNotAsked, FaultLate}[late]; got != want {
			t.Errorf("due %v after the end: %v, want %v", late, got, want)
		}
	}
	b.c.heardOf(end, held, 0, node.Reply{Op: node.Renew, Status: node.OK})
	if got := held.votes.of[0].fault; got != FaultLate {
		t.Errorf("%v, want %v", got, FaultLate)
	}
}

// A loss has its own reason, although the nodes have the same, and says of a node that has failed
// too often since what it has said last.
func TestReasonsThatAreNotShared(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	held := b.c.lines["x"].holder
	b.c.blame(held, 0, errRight, false)
	number := held.votes.of[0].failure
	for _, why := range []Reason{ReasonExpired, ReasonPaused} {
		if r := b.c.loss(held.hold.until, held, why); r.Reason != why || !slices.Equal(r.Flaws, []Flaw{{Node: 0, Err: errRight}}) {
			t.Errorf("%+v, want %v", r, why)
		}
	}
	for i := range keptFailures {
		b.c.blame(held, 0, fmt.Errorf("failure %d", i), false)
	}
	b.c.blame(held, 0, errMemory, false)
	held.votes.of[0].failure = number
	if r := b.c.loss(held.hold.until, held, ReasonExpired); !slices.Equal(r.Flaws, []Flaw{{Node: 0, Err: errMemory}}) {
		t.Errorf("%v, want the latest", r.Flaws)
	}
}

// Very many leases are told about as much of what one clock has gained.
func TestGainsAreRounded(t *testing.T) {
	for gained, want := range map[time.Duration]time.Duration{
		123 * time.Millisecond:  120 * time.Millisecond,
		988 * time.Millisecond:  990 * time.Millisecond,
		1249 * time.Millisecond: 1200 * time.Millisecond,
	} {
		if got := Gained(gained).rounded(); got != Gained(want) {
			t.Errorf("%v: %v, want %v", gained, time.Duration(got), want)
		}
	}
}
