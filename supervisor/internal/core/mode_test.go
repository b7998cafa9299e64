package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// toldBoth returns a bench whose core was given two lists of nodes, all of them enrolled.
func toldBoth(t testing.TB, former, present []int) *bench {
	s := defaults(1+slices.Max(slices.Concat(former, present)), 3*time.Second)
	s.Former, s.Present = former, present
	b := newBench(t, 1)
	b.c = New(s)
	for i := range s.Nodes {
		b.enrol(i)
	}
	return b
}

// apartLists returns a bench for a change from nodes 0 to 2 to nodes 3 to 5.
func apartLists(t testing.TB) *bench { return toldBoth(t, []int{0, 1, 2}, []int{3, 4, 5}) }

// sayOf has the given nodes answer their commands of some.
func (b *bench) sayOf(sends []send, status node.Status, nodes ...int) {
	for _, i := range nodes {
		b.say(to(sends, i), status)
	}
}

// What a mode says is what is found by counting one electorate after the other.
func TestModesCount(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(7)
		var lists [2]nodeSet
		for lists[0] == 0 || lists[1] == 0 {
			lists = [2]nodeSet{nodeSet(r.Uint64()) & all(n), nodeSet(r.Uint64()) & all(n)}
		}
		m := &mode{electorateOf(lists[0]), electorateOf(lists[1])}
		if seed%3 == 0 {
			m.second, lists[1] = electorate{}, lists[0]
		}
		some := nodeSet(r.Uint64()) & all(n)
		vs := make([]vote, n)
		at := make([]clock.Instant, n)
		for i := range vs {
			vs[i].until, at[i] = clock.Instant(1+r.IntN(5)), clock.Instant(1+r.IntN(5))
		}
		count := func(list nodeSet, in func(i int) bool) (k int) {
			for i := range n {
				if list.has(i) && in(i) {
					k++
				}
			}
			return k
		}
		quorums := func(in func(i int) bool) (of int) {
			for _, list := range lists {
				if count(list, in) > count(list, func(int) bool { return true })/2 {
					of++
				}
			}
			return of
		}
		if got, want := m.reached(some), quorums(some.has) == 2; got != want {
			t.Fatalf("seed %d: %b of %+v reached: %v", seed, some, m, got)
		}
		if got, want := m.reachedWithout(some), quorums(func(i int) bool { return !some.has(i) }) == 2; got != want {
			t.Fatalf("seed %d: %+v reached without %b: %v", seed, m, some, got)
		}
		if got, want := m.reachedByOne(some), quorums(some.has) > 0; got != want {
			t.Fatalf("seed %d: %b of one of %+v reached: %v", seed, some, m, got)
		}
		until := m.deadline(vs, some)
		kept := func(u clock.Instant) bool {
			return quorums(func(i int) bool { return some.has(i) && vs[i].until >= u }) == 2
		}
		if until == 0 && kept(1) || until != 0 && (!kept(until) || kept(until+1)) {
			t.Fatalf("seed %d: %+v by %b of %v: deadline %v", seed, m, some, vs, until)
		}
		for u := clock.Instant(1); u < 7; u++ {
			if got, want := m.keptUntil(vs, u), quorums(func(i int) bool { return vs[i].until >= u }) == 2; got != want {
				t.Fatalf("seed %d: %+v kept until %d by %v: %v", seed, m, u, vs, got)
			}
		}
		by := byQuorum(m, at)
		done := func(u clock.Instant) bool { return quorums(func(i int) bool { return at[i] <= u }) == 2 }
		if !done(by) || done(by-1) {
			t.Fatalf("seed %d: by a quorum of %+v of %v: %v", seed, m, at, by)
		}
	}
}

// An election of a process that was given two lists asks all nodes, and needs a quorum of each.
func TestElectionNeedsBoth(t *testing.T) {
	for name, c := range map[string]struct {
		grants []int
		won    bool
	}{
		"all of the former list":      {[]int{0, 1, 2, 3}, false},
		"all of the present list":     {[]int{3, 4, 5, 0}, false},
		"a quorum of each":            {[]int{0, 2, 3, 5}, true},
		"more than half of all nodes": {[]int{0, 1, 2, 4}, false},
	} {
		b := apartLists(t)
		w := b.acquire("x")
		grants := b.take(node.Grant)
		b.wantNodes(grants, 0, 1, 2, 3, 4, 5)
		b.sayOf(grants, node.OK, c.grants...)
		if b.done(w) != c.won {
			t.Errorf("%s: decided %v", name, b.done(w))
		}
	}
	// A node of both lists counts in both.
	b := toldBoth(t, []int{0, 1, 2}, []int{1, 2, 3})
	w := b.acquire("x")
	b.sayOf(b.take(node.Grant), node.OK, 1, 2)
	b.got(w)
}

// An election is lost as soon as a quorum of one list is out of reach, and not before.
func TestElectionLostByOneList(t *testing.T) {
	for _, list := range [][]int{{0, 1}, {4, 5}} {
		b := apartLists(t)
		b.acquire("x", func(r *Request) { r.Attempts = 1 })
		grants := b.take(node.Grant)
		b.sayOf(grants, node.Other, list[0])
		b.wantNodes(b.take(node.Release))
		b.sayOf(grants, node.Other, list[1])
		if len(b.take(node.Release)) == 0 {
			t.Errorf("the election goes on after nodes %v have refused", list)
		}
	}
}

// The fence is raised on all nodes that have granted, of both lists, above all that these have
// stored, and confirmed by a quorum of each.
func TestRaiseOfBoth(t *testing.T) {
	for _, old := range []int{1, 4} { // the node that has stored a larger fence
		b := apartLists(t)
		w := b.acquire("x")
		grants := b.take(node.Grant)
		const stored = 1 << 52
		for _, i := range []int{0, 1, 3, 4} {
			b.say(to(grants, i), node.OK, func(r *node.Reply) {
				if i == old {
					r.Raised, r.Fence = false, stored
				}
			})
		}
		raises := b.take(node.Raise)
		b.wantNodes(raises, 0, 1, 3, 4)
		for _, s := range raises {
			if s.cmd.Fence != stored+1 {
				t.Errorf("raised to %d where node %d has %d", s.cmd.Fence, old, uint64(stored))
			}
		}
		for _, i := range []int{0, 3, 4} {
			b.say(to(raises, i), node.OK)
		}
		b.waits(w)
		b.say(to(raises, 1), node.OK)
		if l := b.got(w); l.Fence() != stored+1 {
			t.Errorf("fence %d, want %d", l.Fence(), uint64(stored)+1)
		}
	}
}

// A fence that one list has raised at once is none that both have.
func TestRaisedByOneListAlone(t *testing.T) {
	b := apartLists(t)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.sayOf(grants, node.OK, 0, 1, 3)
	b.say(to(grants, 4), node.OK, func(r *node.Reply) { r.Raised, r.Fence = false, 1<<52 })
	b.waits(w)
	b.wantNodes(b.take(node.Raise), 0, 1, 3, 4)
}

// A lease lasts as long as a quorum of each list keeps it: to the earlier of the two deadlines.
func TestDeadlineOfBoth(t *testing.T) {
	for _, silent := range [][]int{{0, 1}, {4, 5}} {
		b := apartLists(t)
		l := b.hold("x")
		begun := b.now()
		for b.now() < begun.Add(b.c.terms.TTL) && l.Err() == nil {
			b.advance(b.c.terms.RenewEvery / 4)
			for _, s := range b.take(node.Renew) {
				if slices.Contains(silent, s.node) {
					b.say(s, node.Unknown)
				} else {
					b.say(s, node.OK)
				}
			}
		}
		if !errors.Is(l.Err(), lease.ErrExpired) {
			t.Errorf("nodes %v are silent for a TTL, and the lease goes on: %v", silent, l.Err())
		}
	}
}

// It is lost at once when so many votes of one list are withdrawn that no quorum of that is left.
func TestLostByOneList(t *testing.T) {
	for _, gone := range [][]int{{0, 1}, {4, 5}} {
		b := apartLists(t)
		l := b.hold("x")
		b.round(map[int]node.Status{gone[0]: node.Absent})
		if l.Err() != nil {
			t.Fatalf("lost with node %d: %v", gone[0], l.Err())
		}
		b.round(map[int]node.Status{gone[0]: node.Absent, gone[1]: node.Absent})
		if !errors.Is(l.Err(), lease.ErrRevoked) {
			t.Errorf("deleted on %v of one list: %v", gone, l.Err())
		}
	}
}

// A node that lost the key is healed, and counts, only after a quorum of others of each list has
// renewed.
func TestTrialOfBoth(t *testing.T) {
	for _, silent := range [][]int{{0, 1}, {4, 5}} {
		b := apartLists(t)
		b.hold("x")
		held := b.c.lines["x"].holder
		b.round(map[int]node.Status{2: node.Absent, silent[0]: node.Unknown, silent[1]: node.Unknown})
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			switch {
			case s.node == 2:
				b.say(s, node.Absent)
			case !slices.Contains(silent, s.node):
				b.say(s, node.OK)
			}
		}
		if got := b.take(node.Heal); len(got) != 0 {
			t.Errorf("healed without a word of %v", silent)
		}
		if held.counting().has(2) {
			t.Error("counts without its trial")
		}
	}
	// And with them it is. When it has the key again, both lists renew once more.
	for _, lists := range [][2][]int{{{3, 4, 5}, {0, 1}}, {{0, 1}, {3, 4, 5}}} {
		b := apartLists(t)
		b.hold("x")
		b.round(map[int]node.Status{2: node.Absent})
		b.round(map[int]node.Status{2: node.Absent})
		heal := b.take(node.Heal)
		b.wantNodes(heal, 2)
		b.take(node.Renew)
		b.say(heal[0], node.OK)
		held := b.c.lines["x"].holder
		for k, list := range lists {
			for range 3 {
				b.advance(b.c.terms.RenewEvery / 4)
				for _, s := range b.take(node.Renew) {
					if slices.Contains(list, s.node) || s.node != 2 && k == 1 {
						b.say(s, node.OK)
					} else {
						b.say(s, node.Unknown)
					}
				}
			}
			if counts := held.counting().has(2); counts != (k == 1) {
				t.Errorf("after the word of %v: counts %v", lists[:k+1], counts)
			}
		}
	}
}

// A release is confirmed when a quorum of each list is free.
func TestReleaseConfirmedByBoth(t *testing.T) {
	b := apartLists(t)
	b.hold("x")
	answer := b.call()
	b.c.Release(b.now(), b.c.lines["x"].holder.id, answer)
	b.perform()
	releases := b.take(node.Release)
	b.sayOf(releases, node.OK, 0, 1, 2, 3)
	b.waits(answer)
	b.sayOf(releases, node.OK, 4)
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
}

// Keys that are silent are gone when those of a quorum of each list must have expired.
func TestReleaseExpiredOnBoth(t *testing.T) {
	b := apartLists(t)
	b.hold("x")
	answer := b.call()
	b.c.Release(b.now(), b.c.lines["x"].holder.id, answer)
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, map[bool]node.Status{true: node.OK, false: node.Unknown}[s.node < 3])
	}
	b.advance(b.c.terms.TTL / 2)
	b.waits(answer)
	b.advance(b.c.terms.TTL)
	b.answer(answer)
}

// What is proposed is the larger of the two medians, and known when both are.
func TestProposalOfBoth(t *testing.T) {
	for _, ahead := range [][]int{{0, 1, 2}, {3, 4, 5}} {
		b := apartLists(t)
		for i := range 6 {
			s := b.state()
			if slices.Contains(ahead, i) {
				s.Offset += time.Minute
			}
			b.c.Receive(b.now(), node.Batch{Node: i, State: s})
		}
		fence, ok := b.c.proposal(b.now(), 0)
		if want := uint64((time.Duration(b.now()) + nodesTime + time.Minute) / time.Microsecond); !ok || fence != want {
			t.Errorf("%v are ahead: proposed %d, want %d", ahead, fence, want)
		}
	}
	s := defaults(6, 3*time.Second)
	s.Former, s.Present = []int{0, 1, 2}, []int{3, 4, 5}
	b := newBench(t, 1)
	b.c = New(s)
	for _, i := range []int{0, 1, 2, 3} {
		b.enrol(i)
	}
	if _, ok := b.c.proposal(b.now(), 0); ok {
		t.Error("proposed without the time of a quorum of the present list")
	}
}

// A name is held if a quorum of either list keeps one token, and free only if a quorum of each is.
func TestHeldByEither(t *testing.T) {
	for _, list := range [][]int{{0, 1}, {4, 5}} {
		b := apartLists(t)
		call := b.call()
		b.c.Inspect(b.now(), "x", false, call)
		b.perform()
		for _, s := range b.take(node.Inspect) {
			if slices.Contains(list, s.node) {
				b.say(s, node.Other, theirs)
			} else {
				b.say(s, node.Absent)
			}
		}
		if r := b.answer(call); !r.Taken(b.c.Quorum()) {
			t.Errorf("held by %v, and not told so", list)
		}
	}
	as := make(answers, 6)
	for i := range as {
		as[i] = Answer{Verdict: VerdictHeld, Left: time.Second, At: 1}
	}
	as[0].Verdict, as[1].Verdict = VerdictFree, VerdictFree
	b := apartLists(t)
	if at := as.free(5, b.c.told()); at != clock.Instant(1).Add(time.Second) {
		t.Errorf("free at %v while a quorum of the present list keeps it", at)
	}
	if q := (&inquiry{answers: as}); q.free(b.c.told()) {
		t.Error("free by the former list alone")
	}
}

// A revocation is done when a quorum of each list is known not to hold the lease.
func TestRevokedOnBoth(t *testing.T) {
	b := apartLists(t)
	call := b.call()
	b.c.Revoke(b.now(), "x", "them/1", call)
	b.perform()
	sends := b.take(node.Release)
	b.wantNodes(sends, 0, 1, 2, 3, 4, 5)
	b.sayOf(sends, node.OK, 3, 4, 5, 0)
	b.waits(call)
	b.sayOf(sends, node.OK, 1)
	if r := b.answer(call); r != nil {
		t.Errorf("%+v", r)
	}
	// Another value on a quorum of one list says nothing of the other list.
	b = apartLists(t)
	call = b.call()
	b.c.Revoke(b.now(), "x", "them/1", call)
	b.perform()
	sends = b.take(node.Release)
	b.sayOf(sends, node.Other, 3, 4, 5)
	b.waits(call)
	b.sayOf(sends, node.OK, 0, 1, 2)
	if r := b.answer(call); r != nil {
		t.Errorf("%+v", r)
	}
}

// A waiter has its place when a quorum of each list has given it one.
func TestPlaceInBothQueues(t *testing.T) {
	b := apartLists(t)
	b.acquire("x")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	enqueued := b.take(node.Enqueue)
	b.wantNodes(enqueued, 0, 1, 2, 3, 4, 5)
	first := enqueued[0].cmd.Ticket
	at := func(i int, ticket uint64) {
		b.say(to(enqueued, i), node.Other, func(r *node.Reply) { theirs(r); r.Ticket = ticket })
	}
	for _, i := range []int{0, 1, 2, 3} {
		at(i, first+uint64(i))
	}
	if l := b.c.lines["x"]; l.placed {
		t.Error("it has its place by the former list alone")
	}
	at(4, first+9)
	if l := b.c.lines["x"]; !l.placed || l.ticket != first+9 {
		t.Errorf("placed %v, at %d: want the last, %d", l.placed, l.ticket, first+9)
	}
}

// Claims begin when a quorum of each list has reserved the name.
func TestReservationsOfBoth(t *testing.T) {
	b := apartLists(t)
	_, token := b.stand("x")
	b.announce(token, 0, 1, 2, 3)
	b.wantNodes(b.take(node.Claim))
	b.announce(token, 5)
	b.wantNodes(b.take(node.Claim), 0, 1, 2, 3, 5)
}

// A waiter that is first on a quorum of the former list keeps what was reserved for it, and one
// that is not gives it back: whatever the present list says.
func TestWhoGivesWayLooksAtTheFormerList(t *testing.T) {
	for _, first := range [][]int{{0, 1}, {3, 4, 5}} {
		b := apartLists(t)
		b.stand("x")
		b.advance(b.c.settings.Heartbeat())
		for _, s := range b.take(node.Enqueue) {
			if slices.Contains(first, s.node) {
				b.say(s, node.OK)
			} else {
				b.say(s, node.Other, func(r *node.Reply) { r.Value, r.Left, r.Ahead = "?other/"+fmt.Sprintf("%026d", 3), time.Second, 1 })
			}
		}
		gives := len(b.take(node.Leave)) > 0
		if keeps := first[0] == 0; gives == keeps {
			t.Errorf("first on %v: gives way %v", first, gives)
		}
	}
}

// What a quorum of each list gave with one fence is a lease.
func TestGiftsOfBoth(t *testing.T) {
	b := apartLists(t)
	w, token := b.placed()
	_, beat := b.heartbeat(0, 1, 2, 3, 4, 5)
	fence := b.c.lines["x"].attempt.queuing.ticket + 1000
	b.give(token, fence, beat, 0, 1, 2, 3)
	b.waits(w)
	b.give(token, fence, beat, 4)
	b.got(w)
}

// The window of a young node is known when enough others of each list that it is in have confirmed
// their markers.
func TestWindowIsKnownByBothLists(t *testing.T) {
	b := toldBoth(t, []int{0, 1, 2}, []int{2, 3, 4})
	b.restart(2)
	b.clock.Advance(time.Millisecond)
	b.confirmedBy(0)
	b.confirmedBy(1)
	if b.c.nodes[2].known {
		t.Fatal("known by the former list alone")
	}
	b.confirmedBy(3)
	b.confirmedBy(4)
	if !b.c.nodes[2].known {
		t.Error("not known by the others of both lists")
	}
	// A node of the present list alone concerns that list alone.
	b.restart(3)
	b.clock.Advance(time.Millisecond)
	b.confirmedBy(2)
	b.confirmedBy(4)
	if b.c.nodes[3].known {
		t.Error("node 2 is young itself")
	}
}

// A young list elects nobody.
func TestYoungListElectsNobody(t *testing.T) {
	b := apartLists(t)
	b.restart(3)
	b.restart(4)
	w := b.acquire("x", func(r *Request) { r.Attempts = 1 })
	b.wantNodes(b.take(node.Grant))
	b.refused(w, ReasonNoQuorum)
}

// identified gives the nodes of a bench identities.
func (b *bench) identified(ids ...string) {
	for i, id := range ids {
		s := b.state()
		s.Identity, s.Run = id, "run-"+id
		b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	}
	b.perform()
	b.signs = nil
}

// A handle names the lists on which its lease rests. It is adopted by those of them that the adopter
// was given as well, and refused if there are none.
func TestAdoptByCommonLists(t *testing.T) {
	for name, c := range map[string]struct {
		rests string
		says  []node.Status // of nodes 0 to 5
		want  Reason
	}{
		"former, which all have":               {"3 a,b,c", []node.Status{0: node.OK, 1: node.OK, 2: node.OK, 3: node.Absent, 4: node.Absent, 5: node.Absent}, ReasonNone},
		"former, which the present list has":   {"3 a,b,c", []node.Status{0: node.Absent, 1: node.Absent, 2: node.OK, 3: node.OK, 4: node.OK, 5: node.OK}, ReasonLost},
		"present, which all have":              {"3 d,e,f", []node.Status{0: node.Absent, 1: node.Absent, 2: node.Absent, 3: node.OK, 4: node.OK, 5: node.OK}, ReasonNone},
		"both, which the former list has":      {"3 a,b,c;3 d,e,f", []node.Status{0: node.OK, 1: node.OK, 2: node.OK, 3: node.OK, 4: node.Absent, 5: node.Absent}, ReasonLost},
		"both, which both have":                {"3 a,b,c;3 d,e,f", []node.Status{0: node.OK, 1: node.OK, 2: node.Other, 3: node.OK, 4: node.OK, 5: node.Absent}, ReasonNone},
		"of other nodes":                       {"3 x,y,z", nil, ReasonOtherNodes},
		"of more nodes":                        {"5 a,b,c", nil, ReasonOtherNodes},
		"of nobody knows which":                {"", nil, ReasonOtherNodes},
		"broken":                               {"a,b,c", nil, ReasonOtherNodes},
		"either of the two, which one has":     {"3 ", []node.Status{0: node.OK, 1: node.OK, 2: node.OK, 3: node.Absent, 4: node.Absent, 5: node.Absent}, ReasonLost},
		"former, and one that we do not know":  {"3 a,b,c;3 x,y,z", []node.Status{0: node.OK, 1: node.OK, 2: node.OK, 3: node.Absent, 4: node.Absent, 5: node.Absent}, ReasonNone},
		"present, and one that we do not know": {"3 x,y,z;3 d,e,f", []node.Status{0: node.OK, 1: node.OK, 2: node.OK, 3: node.Absent, 4: node.Absent, 5: node.Absent}, ReasonLost},
	} {
		t.Run(name, func(t *testing.T) {
			b := apartLists(t)
			b.identified("a", "b", "c", "d", "e", "f")
			call := b.call()
			b.c.Adopt(b.now(), Request{Call: call, Key: "x", Terms: b.c.terms}, Handle{Key: "x", Token: former, Fence: 7, Over: true, Electorates: c.rests})
			b.perform()
			for _, s := range b.take(node.Adopt) {
				b.say(s, c.says[s.node])
			}
			if c.want != ReasonNone {
				b.refused(call, c.want)
				return
			}
			b.got(call)
			h, _ := b.c.Handle(b.now(), b.c.lines["x"].holder.id)
			want := map[string]string{"3 a,b,c;3 x,y,z": "3 a,b,c"}[c.rests]
			if want == "" {
				want = c.rests
			}
			if h.Electorates != want {
				t.Errorf("the handle of what was adopted names %q", h.Electorates)
			}
		})
	}
}

// A process that was given one list adopts by that what rests on that and on another one.
func TestAdoptByOneList(t *testing.T) {
	for rests, want := range map[string]bool{"": true, "3 a,b,c": true, "3 a,b,c;5 ": true, "3 x,y,z;3 a,b,c": true, "3 x,y,z": false, "5 a,b,c,d,e": false} {
		b := enrolled(t, 3)
		b.identified("a", "b", "c")
		call := b.call()
		b.c.Adopt(b.now(), Request{Call: call, Key: "x", Terms: b.c.terms}, Handle{Key: "x", Token: former, Fence: 7, Over: true, Electorates: rests})
		b.perform()
		for _, s := range b.take(node.Adopt) {
			b.say(s, node.OK)
		}
		if want {
			b.got(call)
		} else {
			b.refused(call, ReasonOtherNodes)
		}
	}
}

// On each node is left which lists a process was given, and what its leases rest on. A client that
// shares one of the two lists agrees.
func TestFingerprintsOfBoth(t *testing.T) {
	b := toldBoth(t, []int{0, 1, 2}, []int{1, 2, 3, 4, 5})
	b.identified("a", "b", "c", "d", "e", "f")
	b.advance(b.c.settings.signEvery())
	for _, s := range b.signs {
		if want := ">3>5:-a,=b,=c,+d,+e,+f"; s.cmd.Token != want {
			t.Errorf("node %d is left %q", s.node, s.cmd.Token)
		}
	}
	b.signs = nil
	b.hold("x")
	b.c.lines["x"].holder.mode = modeFormer
	b.hold("y")
	b.advance(b.c.settings.signEvery())
	for _, s := range b.signs {
		if want := ">3>5:-a,=b,=c,+d,+e,+f fb"; s.cmd.Token != want {
			t.Errorf("node %d is left %q", s.node, s.cmd.Token)
		}
	}
	b.found(1, ">3>4:-a,=b,=c,+x,+y 60000", ">5>1:-b,-c,-d,=e,-f 60000")
	if d := b.c.nodes[1].disagreement; d.Nodes != 0 {
		t.Errorf("%+v: want none", d)
	}
	b.found(1, ">4>7:-a,=b,=c,+x,=y 60000")
	if d := b.c.nodes[1].disagreement; d.Nodes != 7 || d.Unknown != 2 {
		t.Errorf("%+v: want 7 nodes of which two are unknown", d)
	}
	b.found(1, "3 a,b,c 60000", "5 b,c,d,e,f 60000")
	if d := b.c.nodes[1].disagreement; d.Nodes != 0 {
		t.Errorf("%+v: want none", d)
	}
	b.found(1, "4 a,b,c,d 60000")
	if d := b.c.nodes[1].disagreement; d.Nodes != 4 {
		t.Errorf("%+v: want 4 nodes", d)
	}
}
