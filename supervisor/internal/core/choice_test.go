package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// acquireAny asks for any of several names.
func (b *bench) acquireAny(names ...string) Call {
	r := Request{Call: b.call(), Terms: b.c.terms}
	b.c.AcquireAny(b.now(), r, names)
	b.perform()
	return r.Call
}

// of returns those of some commands that are about a name.
func of(sends []send, name string) []send {
	return slices.DeleteFunc(slices.Clone(sends), func(s send) bool { return s.cmd.Name != name })
}

// namesOf returns the names that commands are about, each once, in order.
func namesOf(sends []send) (names []string) {
	for _, s := range sends {
		names = append(names, s.cmd.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (b *bench) wantNames(what string, sends []send, want ...string) {
	b.t.Helper()
	if got := namesOf(sends); !slices.Equal(got, want) {
		b.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// lookedAt has all nodes say to a look that nobody has the names of free, and another client all
// others.
func (b *bench) lookedAt(free ...string) {
	for _, s := range b.take(node.Inspect) {
		if slices.Contains(free, s.cmd.Name) {
			b.say(s, node.Absent)
		} else {
			b.say(s, node.OK, theirs)
		}
	}
}

// standAny has a choice stand in the queues of names that another client has. It returns its
// token for each of them.
func (b *bench) standAny(names ...string) (w Call, tokens map[string]string) {
	b.t.Helper()
	w = b.acquireAny(names...)
	b.lookedAt()
	return w, b.stands(names...)
}

// stands has a choice be told, with places, that it stands in the queues of these names alone.
func (b *bench) stands(names ...string) map[string]string {
	b.t.Helper()
	sends := b.take(node.Enqueue)
	b.wantNames("it stands in the queues of", sends, names...)
	tokens := make(map[string]string)
	for _, s := range sends {
		tokens[s.cmd.Name] = s.cmd.Token
		b.say(s, node.Other, theirs, func(r *node.Reply) {
			if r.Ticket = s.cmd.Ticket; s.cmd.New { // after somebody
				r.Ticket += 7
			}
		})
	}
	if len(sends) != len(names)*len(b.c.nodes) {
		b.t.Fatalf("%d places in %d queues", len(sends), len(names))
	}
	b.wantNames("it moves in the queues of", b.take(node.Enqueue))
	return tokens
}

// nothingLeft wants nothing to be left when what was sent is answered.
func (b *bench) nothingLeft() {
	b.t.Helper()
	for len(b.sent) > 0 {
		s := b.sent[0]
		b.sent = b.sent[1:]
		if s.cmd.Op == node.Release {
			b.say(s, node.OK)
		} else {
			b.say(s, node.Unsent)
		}
	}
	c := b.c
	if n := c.tenures.len() + len(c.inquiries) + len(c.lines) + len(c.waited) + c.callers + b.alarms(); n != 0 {
		b.t.Fatalf("left: %d tenures, %d inquiries, %d lines, %d of which are waited in, %d callers, %d alarms",
			c.tenures.len(), len(c.inquiries), len(c.lines), len(c.waited), c.callers, b.alarms())
	}
	for _, w := range c.waiters {
		if w != nil {
			b.t.Fatalf("left: %+v", w)
		}
	}
}

// All names are looked at, and one that is free is asked for: not several, whatever a node says
// that a quorum can do without.
func TestAnyLooksAndAsksForOne(t *testing.T) {
	asked := make(map[string]bool)
	for seed := range byte(20) {
		b := enrolled(t, 3)
		b.c.random.Seed([32]byte{seed})
		w := b.acquireAny("x", "y", "z")
		looks := b.take(node.Inspect)
		b.wantNames("looked at", looks, "x", "y", "z")
		if slices.ContainsFunc(looks, func(s send) bool { return !s.cmd.Brief }) {
			t.Fatal("a look is not brief")
		}
		b.wantNames("asked for before it is known what is free", b.take(node.Grant))
		for _, s := range looks {
			switch {
			case s.node == 2: // is silent
			case s.cmd.Name == "x":
				b.say(s, node.OK, theirs)
			default:
				b.say(s, node.Absent)
			}
		}
		grants := b.take(node.Grant)
		b.wantNodes(grants, 0, 1, 2)
		b.wantNames("stands in the queue of", b.take(node.Enqueue))
		for _, s := range grants {
			b.say(s, node.OK)
		}
		name := b.got(w).Name()
		asked[name] = true
		b.wantNames("asked for", grants, name)
		b.say(to(looks, 2), node.Absent) // that is too late, and does not matter
		b.release(name)
		b.nothingLeft()
	}
	if len(asked) != 2 || asked["x"] {
		t.Errorf("asked for %v: want y and z, now this and now that", asked)
	}
}

// A look does not wait for long for a node that may decide.
func TestAnyDoesNotLookForLong(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquireAny("x", "y")
	for _, s := range b.take(node.Inspect) {
		switch {
		case s.node == 0:
			b.say(s, node.Absent)
		case s.node == 1 && s.cmd.Name == "x":
			b.say(s, node.OK, theirs) // what is left of somebody, say
		case s.node == 1:
			b.say(s, node.Absent)
		}
	}
	b.wantNodes(b.take(node.Grant))
	b.advance(b.c.settings.NodeTimeout / 2)
	grants := b.take(node.Grant)
	b.wantNames("asked for", grants, "y")
	for _, s := range grants {
		b.say(s, node.OK)
	}
	b.got(w)
	b.release("y")
	b.nothingLeft()
}

// An attempt that is lost is followed by the queues of all names, that one's included.
func TestAnyStandsEverywhere(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquireAny("x", "y", "z")
	b.lookedAt("y")
	grants := b.take(node.Grant)
	b.wantNames("asked for", grants, "y")
	for _, s := range grants {
		b.say(s, node.Other, theirs)
	}
	b.stands("x", "y", "z")
	b.waits(w)
	if b.c.callers != 1 {
		t.Errorf("%d callers wait, want 1", b.c.callers)
	}
	// They beat together.
	b.advance(b.c.settings.Heartbeat())
	b.stands("x", "y", "z")
	due := b.c.lines["x"].attempt.due()
	for _, name := range []string{"y", "z"} {
		if at := b.c.lines[name].attempt.due(); at != due {
			t.Errorf("%s beats %v behind x", name, at.Sub(due))
		}
	}
}

// The first name that a quorum has reserved is claimed, and no other: what is reserved elsewhere
// is given back in that step, and not when the claim is answered.
func TestAnyClaimsOne(t *testing.T) {
	b := enrolled(t, 5)
	w, tokens := b.standAny("x", "y", "z")
	b.announce(tokens["y"], 0, 1)
	b.wantNames("claimed for a minority", b.take(node.Claim))
	b.wantNames("given back for a minority", b.take(node.Release))
	// Both have a quorum before anything is sent.
	for _, i := range []int{2, 3, 4} {
		b.c.Hear(b.now(), node.Wake{Node: i, Token: tokens["x"]})
		b.c.Hear(b.now(), node.Wake{Node: i, Token: tokens["y"]})
	}
	b.perform()
	claims := b.take(node.Claim)
	b.wantNames("claimed", claims, "y")
	back := b.take(node.Release)
	b.wantNames("given back", back, "x", "z")
	for _, name := range []string{"x", "z"} {
		b.wantNodes(of(back, name), 0, 1, 2, 3, 4)
	}
	for _, s := range back {
		if !s.cmd.Queued || s.cmd.Token != tokens[s.cmd.Name] {
			t.Errorf("%+v: want it taken out of the queue", s.cmd)
		}
	}
	b.announce(tokens["z"], 0, 1, 2, 3, 4) // is on its way meanwhile
	b.wantNames("claimed", b.take(node.Claim))
	for _, s := range back {
		b.say(s, node.OK)
	}
	for _, s := range claims {
		b.say(s, node.OK)
	}
	if name := b.got(w).Name(); name != "y" {
		t.Errorf("it has %q", name)
	}
	b.wantNames("stands in the queue of", b.take(node.Enqueue))
	b.take(node.Release) // it may stand in queues that have not answered its claim
	b.release("y")
	b.nothingLeft()
}

// Claims that are refused cost no turn: it stands in all queues again, at its old places.
func TestAnyKeepsItsPlaces(t *testing.T) {
	b := enrolled(t, 3)
	w, tokens := b.standAny("x", "y")
	tickets := map[string]uint64{}
	for _, name := range []string{"x", "y"} {
		tickets[name] = b.c.lines[name].attempt.queuing.ticket
	}
	b.advance(10 * time.Millisecond)
	b.announce(tokens["x"], 0, 1)
	b.wantNames("given back", b.take(node.Release), "y")
	claims := b.take(node.Claim)
	b.advance(b.c.roundTrip())
	for _, s := range append(claims, b.take(node.Claim)...) {
		b.say(s, node.Other, theirs)
	}
	sends := b.take(node.Enqueue)
	b.wantNames("stands in the queues of", sends, "x", "y")
	for _, s := range sends {
		if s.cmd.Token == tokens[s.cmd.Name] || s.cmd.Ticket != tickets[s.cmd.Name] || s.cmd.New {
			t.Errorf("%+v: want another token than %s, at the ticket %d", s.cmd, tokens[s.cmd.Name], tickets[s.cmd.Name])
		}
	}
	b.waits(w)
}

// A release gives a key by a message alone. The first name of which a quorum was given is the
// lease; another one that comes is given back, and so is a part of one.
func TestAnyIsGivenTwo(t *testing.T) {
	b := enrolled(t, 3)
	w, tokens := b.standAny("x", "y", "z")
	_, until := b.heartbeat(0, 1, 2)
	b.give(tokens["y"], 7000, until, 0)
	b.waits(w)
	b.c.Hear(b.now(), b.gift(0, tokens["x"], 9000, until))
	b.c.Hear(b.now(), b.gift(1, tokens["x"], 9000, until))
	b.c.Hear(b.now(), b.gift(1, tokens["y"], 7000, until))
	b.perform()
	if name := b.got(w).Name(); name != "x" {
		t.Fatalf("it has %q", name)
	}
	back := b.take(node.Release)
	b.wantNames("given back", back, "y", "z")
	for _, s := range back {
		if !s.cmd.Queued || s.cmd.Token != tokens[s.cmd.Name] {
			t.Errorf("%+v", s.cmd)
		}
	}
	b.give(tokens["z"], 8000, until, 0, 1, 2)
	b.wantNames("claimed", b.take(node.Claim))
	b.wantNames("held", b.take(node.Renew))
	for _, s := range back {
		b.say(s, node.OK)
	}
	if n := len(b.c.held); n != 1 {
		t.Errorf("%d leases are held", n)
	}
	b.take(node.Release)
	b.release("x")
	b.nothingLeft()
}

// A caller may give up at any moment, and nothing is left.
func TestAnyIsCancelled(t *testing.T) {
	b := enrolled(t, 3)
	for what, bring := range map[string]func() Call{
		"looking": func() Call { return b.acquireAny("x", "y") },
		"electing": func() Call {
			w := b.acquireAny("x", "y")
			b.lookedAt("x", "y")
			return w
		},
		"standing": func() Call { w, _ := b.standAny("x", "y"); return w },
		"claiming": func() Call {
			w, tokens := b.standAny("x", "y")
			b.announce(tokens["y"], 0, 1, 2)
			return w
		},
		"standing again": func() Call {
			w, tokens := b.standAny("x", "y")
			b.announce(tokens["y"], 0, 1, 2)
			for _, s := range b.take(node.Claim) {
				b.say(s, node.Other, theirs)
			}
			return w
		},
	} {
		t.Run(what, func(t *testing.T) {
			b = enrolled(t, 3)
			w := bring()
			b.waits(w)
			b.c.Cancel(b.now(), w)
			b.perform()
			if r := b.answer(w); r == nil || r.Key != "x" && r.Key != "y" || len(r.Answers) != 3 {
				t.Errorf("%+v", r)
			}
			for _, op := range []node.Op{node.Inspect, node.Enqueue, node.Grant, node.Claim} {
				for _, s := range b.take(op) {
					b.say(s, node.Unsent)
				}
			}
			b.nothingLeft()
		})
	}
}

// All who want any of several names are told of Close, and that two nodes are one, whatever is
// under way for them; once.
func TestAnyIsDismissed(t *testing.T) {
	for _, why := range []Reason{ReasonClosed, ReasonMisconfigured} {
		b := enrolled(t, 3)
		b.identify("a", "b", "c")
		b.hold("held")
		standing, _ := b.standAny("x", "y")
		claiming, others := b.standAny("v", "w")
		b.announce(others["v"], 0, 1, 2)
		behind := b.acquireAny("x", "y", "held")
		b.lookedAt()
		looking := b.acquireAny("p", "q")
		if why == ReasonClosed {
			b.c.Close(b.now())
			b.perform()
		} else {
			b.told(2, func(s *node.State) { s.Identity, s.Run, s.Life = "a", "run-a", 2 })
			b.lookedAt("p", "q")
		}
		for range 5 {
			b.advance(2 * time.Millisecond)
		}
		for _, w := range []Call{standing, claiming, behind, looking} {
			b.refused(w, why)
		}
		if n := len(b.c.waited) + b.c.callers + len(b.c.inquiries); n != 0 {
			t.Errorf("%v: %d things are left", why, n)
		}
	}
}

// A caller that wants any of several names has its turn in each line of its process as all others, and holds
// nobody up who comes after it.
func TestAnyInLine(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	before := b.acquire("x")
	w := b.acquireAny("x", "y")
	b.lookedAt()
	b.stands("y")
	after := b.acquire("y")
	b.release("x")
	for _, s := range b.take(node.Grant) {
		b.wantNames("asked for", []send{s}, "x")
		b.say(s, node.OK)
	}
	b.got(before)
	b.release("x") // it is the first of both lines now
	tokens := b.stands("x")
	b.waits(w)
	b.announce(tokens["x"], 0, 1, 2)
	for _, s := range b.take(node.Claim) {
		b.say(s, node.OK)
	}
	if name := b.got(w).Name(); name != "x" {
		t.Fatalf("it has %q", name)
	}
	for _, s := range b.take(node.Grant) {
		b.wantNames("asked for", []send{s}, "y")
		b.say(s, node.OK)
	}
	b.got(after)
}

// Somebody of this process adopts the name that is just being claimed: the others go on.
func TestAnyBehindAnHeir(t *testing.T) {
	b := enrolled(t, 3)
	w, tokens := b.standAny("x", "y")
	b.announce(tokens["x"], 0, 1)
	b.take(node.Claim)
	heir := b.adopt("x")
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK)
	}
	b.got(heir)
	b.stands("y")
	b.waits(w)
}

// While the nodes' time is not known one name is waited for as by any other caller, and the
// others when that has come to nothing.
func TestAnyBeforeTheNodesAreKnown(t *testing.T) {
	b := newBench(t, 3)
	w := b.acquireAny("x", "y")
	b.advance(2 * b.c.terms.Window)
	b.waits(w)
	b.advance(2 * b.c.terms.Window)
	b.waits(w)
	for i := range 3 {
		b.enrol(i)
	}
	grants := b.take(node.Grant)
	if names := namesOf(grants); len(names) != 1 {
		t.Fatalf("asked for %v", names)
	}
	for _, s := range grants {
		b.say(s, node.OK)
	}
	b.got(w)
}

// A caller that wants very many names stands where few wait, at the four shortest queues at least, and
// looks at all of them with each heartbeat.
func TestAnyOfMany(t *testing.T) {
	var names []string
	for k := range 30 {
		names = append(names, fmt.Sprintf("n%02d", k))
	}
	b := enrolled(t, 3)
	queues := func(waiting func(k int) int) {
		t.Helper()
		for _, s := range b.take(node.Inspect) {
			k := slices.Index(names, s.cmd.Name)
			b.say(s, node.OK, theirs, func(r *node.Reply) { r.Ahead = waiting(k) })
		}
	}
	w := b.acquireAny(names...)
	queues(func(k int) int { return k % 10 }) // 0 and 1 of three each
	b.stands("n00", "n01", "n10", "n11", "n20", "n21")
	b.advance(b.c.settings.Heartbeat())
	looks := b.take(node.Inspect)
	b.wantNames("looked at", looks, names...)
	b.stands("n00", "n01", "n10", "n11", "n20", "n21")
	b.sent = looks
	queues(func(k int) int { // they come where it stands, but not to n02
		if k == 2 {
			return 1
		}
		return 1000
	})
	left := b.take(node.Release)
	b.wantNames("stands now too in", b.take(node.Enqueue), "n02")
	if n := len(namesOf(left)); n != 2 {
		t.Errorf("it leaves %v: want four seats of six", namesOf(left))
	}
	// A name is free where it does not stand: it does now, and has it.
	b.advance(b.c.settings.Heartbeat())
	for _, s := range b.take(node.Inspect) {
		if s.cmd.Name == "n29" {
			b.say(s, node.Absent)
		} else {
			b.say(s, node.OK, theirs, func(r *node.Reply) { r.Ahead = 1000 })
		}
	}
	sends := of(b.take(node.Enqueue), "n29")
	b.wantNodes(sends, 0, 1, 2)
	for _, s := range sends {
		b.say(s, node.OK, func(r *node.Reply) { r.Value = s.cmd.Token })
	}
	claims := b.take(node.Claim)
	b.wantNames("claimed", claims, "n29")
	for _, s := range claims {
		b.say(s, node.OK)
	}
	b.got(w)
	if n := len(b.c.waited) + len(b.c.inquiries) + b.c.callers; n != 0 {
		t.Errorf("%d things are left", n)
	}
}

// Of very many names it looks at some at a time, all in turn: more would fill the mailboxes, the
// last of them would never be looked at, and renewals would find no room. It stands in the queues of
// no more than so many either.
func TestAnyOfVeryMany(t *testing.T) {
	var names []string
	for k := range 2*mostAtOnce + 100 {
		names = append(names, fmt.Sprintf("n%04d", k))
	}
	for _, waiting := range []int{0, 1000} {
		b := enrolled(t, 3)
		w := b.acquireAny(names...)
		seen := make(map[string]bool)
		for range 3 {
			looks := b.take(node.Inspect)
			if len(looks) != 3*mostAtOnce {
				t.Fatalf("%d commands for a look", len(looks))
			}
			for _, s := range looks {
				seen[s.cmd.Name] = true
				b.say(s, node.OK, theirs, func(r *node.Reply) { r.Ahead = waiting })
			}
			for _, s := range b.take(node.Enqueue) {
				b.say(s, node.Other, theirs, func(r *node.Reply) { r.Ticket = s.cmd.Ticket })
			}
			b.advance(b.c.settings.Heartbeat())
			for len(b.c.inquiries) == 0 { // a tick sends no more than some
				b.advance(time.Millisecond)
			}
		}
		if len(seen) != len(names) {
			t.Errorf("%d of %d names were looked at", len(seen), len(names))
		}
		if n := len(b.c.waited); waiting == 0 && n != mostAtOnce || waiting > 0 && n != b.c.spread.least {
			t.Errorf("where %d wait it stands in %d queues", waiting, n)
		}
		b.c.Cancel(b.now(), w)
		b.perform()
		b.refused(w, ReasonHeld)
		if n := len(b.c.waited) + len(b.c.inquiries) + b.c.callers; n != 0 {
			t.Errorf("%d things are left", n)
		}
	}
	// A caller that gives up while it looks is told of a name that it has looked at.
	b := enrolled(t, 3)
	w := b.acquireAny(names...)
	looked := b.take(node.Inspect)[0]
	b.say(looked, node.OK, theirs)
	b.c.Cancel(b.now(), w)
	b.perform()
	if r := b.answer(w); r.Key != looked.cmd.Name || r.Answers[0].Verdict != VerdictHeld {
		t.Errorf("%+v: want what was said of %q", r, looked.cmd.Name)
	}
}

// A name for which somebody of this process waits is not asked for out of turn, though a look says
// that nobody has it.
func TestAnyAsksForNoneThatIsWaitedFor(t *testing.T) {
	b := enrolled(t, 3)
	before := b.acquire("x")
	grants := b.take(node.Grant)
	w := b.acquireAny("x", "y")
	b.lookedAt("x") // as before the grants have come
	b.wantNames("asked for", b.take(node.Grant))
	b.wantNames("stands in the queue of", b.take(node.Enqueue), "y")
	for _, s := range grants {
		b.say(s, node.OK)
	}
	b.got(before)
	b.waits(w)
}

// A caller that wants many names stands in queues by the look before its first attempt, if that is lost, and
// looks again a heartbeat after that look. If there was none it looks now.
func TestAnyOfManyLooksOn(t *testing.T) {
	var names []string
	for k := range 30 {
		names = append(names, fmt.Sprintf("n%02d", k))
	}
	b := enrolled(t, 3)
	w := b.acquireAny(names...)
	for _, s := range b.take(node.Inspect) {
		if k := slices.Index(names, s.cmd.Name); k == 7 {
			b.say(s, node.Absent)
		} else {
			b.say(s, node.OK, theirs, func(r *node.Reply) { r.Ahead = k % 10 })
		}
	}
	took := b.c.settings.Heartbeat() / 5 // more than what heartbeats differ by
	b.advance(took)
	grants := b.take(node.Grant)
	b.wantNames("asked for", grants, "n07")
	for _, s := range grants {
		b.say(s, node.Other, theirs)
	}
	b.wantNames("looked at", b.take(node.Inspect))
	b.stands("n00", "n01", "n07", "n10", "n11", "n20", "n21")
	b.waits(w)
	b.advance(b.c.settings.Heartbeat() - took)
	b.wantNames("looked at", b.take(node.Inspect), names...)

	b = newBench(t, 3)
	w = b.acquireAny(names...)
	for i := range 3 {
		b.enrol(i)
	}
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other, theirs)
	}
	b.wantNames("looked at", b.take(node.Inspect), names...)
	b.waits(w)
}

// A look that ends while a name is being claimed changes nothing: neither are seats taken, nor is one
// given up whose claim is on its way.
func TestAnyLooksInTheMidstOfAnElection(t *testing.T) {
	var names []string
	for k := range 30 {
		names = append(names, fmt.Sprintf("n%02d", k))
	}
	b := enrolled(t, 3)
	w := b.acquireAny(names...)
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.OK, theirs, func(r *node.Reply) { r.Ahead = 3 })
	}
	var seats []string
	tokens := make(map[string]string)
	for _, s := range b.take(node.Enqueue) {
		tokens[s.cmd.Name] = s.cmd.Token
		b.say(s, node.Other, theirs, func(r *node.Reply) { r.Ticket = s.cmd.Ticket })
	}
	for name := range tokens {
		seats = append(seats, name)
	}
	if len(seats) != b.c.spread.least {
		t.Fatalf("it stands in the queues of %v", seats)
	}
	b.advance(b.c.settings.Heartbeat())
	looks := b.take(node.Inspect)
	for _, s := range b.take(node.Enqueue) {
		b.say(s, node.Other, theirs, func(r *node.Reply) { r.Ticket = s.cmd.Ticket })
	}
	b.announce(tokens[seats[0]], 0, 1)
	claims := b.take(node.Claim)
	b.wantNames("claimed", claims, seats[0])
	b.take(node.Release)
	for _, s := range looks {
		b.say(s, node.OK, theirs, func(r *node.Reply) {
			if r.Ahead = 0; s.cmd.Name == seats[0] {
				r.Ahead = 100
			}
		})
	}
	b.wantNames("stands now in the queues of", b.take(node.Enqueue))
	b.wantNames("given back", b.take(node.Release))
	if n := len(b.c.waited); n != len(seats) {
		t.Errorf("it has %d seats, and had %d", n, len(seats))
	}
	for _, s := range claims {
		b.say(s, node.OK)
	}
	if name := b.got(w).Name(); name != seats[0] {
		t.Errorf("it has %q", name)
	}
}
