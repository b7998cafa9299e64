package core

import (
	"errors"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// relist gives a core other lists.
func (b *bench) relist(nodes int, former, present []int) *Refusal {
	r := b.c.Reconfigure(b.now(), Lists{Nodes: nodes, Former: former, Present: present})
	b.perform()
	return r
}

// begins has a core that was given nodes a, b and c be given d, e and f as well.
func (b *bench) begins() {
	b.t.Helper()
	if r := b.relist(6, []int{0, 1, 2}, []int{3, 4, 5}); r != nil {
		b.t.Fatalf("%+v", r)
	}
}

// meets has new nodes enrol.
func (b *bench) meets(nodes map[int]string) {
	for i, id := range nodes {
		s := b.state()
		s.Identity, s.Run = id, "run-"+id
		b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	}
	b.perform()
	b.signs = nil
}

// stages has all nodes say how far the change from a, b, c to d, e, f has come.
func (b *bench) stages(stage node.Stage, nodes ...int) {
	b.marks(changeOf("abc", "def", stage), 0, nodes...)
	b.take(node.Advance)
}

// filled returns a bench with a lease that rests on both lists since they were given.
func filled(t *testing.T) (*bench, *lease.Lease) {
	b := given(t, "", "abc")
	l := b.hold("x")
	b.begins()
	b.meets(map[int]string{3: "d", 4: "e", 5: "f"})
	b.take(node.Advance)
	b.fillIn(3, 4, 5)
	if b.c.lines["x"].holder.mode != modeBoth {
		t.Fatal("it does not rest on both lists")
	}
	return b, l
}

// fillIn answers commands until some nodes, which have no key at first, have it and count.
func (b *bench) fillIn(nodes ...int) {
	has := make(map[int]bool)
	for _, i := range nodes {
		has[i] = true
	}
	keeps := make(map[int]bool)
	for _, t := range b.c.held {
		for i, v := range t.votes.of {
			keeps[i] = keeps[i] || v.until > b.now()
		}
	}
	for range 8 {
		for len(b.sent) > 0 {
			s := b.sent[0]
			b.sent = b.sent[1:]
			switch {
			case !b.c.nodes[s.node].state.Enrolled:
				b.say(s, node.Unsent)
			case s.cmd.Op == node.Heal && has[s.node]:
				keeps[s.node] = true
				b.say(s, node.OK)
			case s.cmd.Op == node.Renew && keeps[s.node]:
				b.say(s, node.OK)
			case s.cmd.Op == node.Renew:
				b.say(s, node.Absent)
			}
		}
		b.advance(b.c.terms.RenewEvery / 4)
	}
}

// A lease that is held when a second list is given rests on the first: its deadline takes no notice
// of the new nodes.
func TestHeldLeaseRestsOnTheFormerList(t *testing.T) {
	b := given(t, "", "abc")
	l := b.hold("x")
	b.begins()
	held := b.c.lines["x"].holder
	if held.mode != modeFormer {
		t.Fatalf("it rests on %v", held.mode)
	}
	for end := b.now().Add(b.c.settings.Window(b.c.settings.MaxTTLCap) + 2*b.c.terms.TTL); b.now() < end; {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			b.say(s, map[bool]node.Status{true: node.OK, false: node.Unsent}[s.node < 3])
		}
	}
	if err := l.Err(); err != nil {
		t.Errorf("lost although all of its list keep it: %v", err)
	}
	if _, n := b.c.Unfilled(b.now()); n != 1 {
		t.Errorf("%d leases are not filled in, want 1", n)
	}
	// An election needs both.
	b.acquire("y")
	if got := b.take(node.Grant); len(got) != 3 && len(got) != 0 {
		t.Errorf("asked %v", nodesOf(got))
	}
}

// The new nodes get the key of a held lease as nodes that never had it: after a quorum of the former
// list has renewed, and they count when that has renewed again. With a quorum of them the lease rests
// on both lists, and its deadline is the earlier one.
func TestNewNodesAreFilledIn(t *testing.T) {
	b := given(t, "", "abc")
	l := b.hold("x")
	b.begins()
	held := b.c.lines["x"].holder
	b.meets(map[int]string{3: "d", 4: "e", 5: "f"})
	b.take(node.Advance)
	asked := b.take(node.Renew)
	b.wantNodes(asked, 3, 4, 5)
	for _, s := range asked {
		b.say(s, node.Absent)
	}
	b.wantNodes(b.take(node.Heal)) // not before others have confirmed
	for range 4 {
		for _, s := range b.take(node.Renew) {
			switch {
			case s.node == 0 || s.node == 1:
				b.say(s, node.OK)
			case s.node >= 3:
				b.say(s, node.Absent)
			}
		}
	}
	heals := b.take(node.Heal)
	b.wantNodes(heals, 3, 4, 5)
	for _, s := range heals {
		b.say(s, node.OK)
	}
	if held.mode != modeFormer || held.counting().has(3) {
		t.Fatal("they count before the former list has renewed again")
	}
	for range 4 {
		for _, s := range b.take(node.Renew) {
			if s.node == 0 || s.node == 1 || s.node == 3 {
				b.say(s, node.OK)
			}
		}
	}
	if held.mode != modeBoth {
		t.Fatal("it does not rest on both lists")
	}
	// From now on the present list must keep it as well.
	for range 8 {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			b.say(s, map[bool]node.Status{true: node.OK, false: node.Unknown}[s.node < 3])
		}
	}
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Errorf("the present list is silent, and the lease goes on: %v", l.Err())
	}
}

// If three of five nodes stay, they are a quorum of both lists. The lease waits for the other two of the
// present list, so that it can lose two of each: as long as one of them may be young, and not once a node
// of the former list is closed.
func TestLeaseWaitsForAllNewNodes(t *testing.T) {
	const old = 5
	begun := func() (*bench, *tenure) {
		b := given(t, "", "abcde")
		b.hold("x")
		if r := b.relist(7, []int{0, 1, 2, 3, 4}, []int{2, 3, 4, 5, 6}); r != nil {
			t.Fatalf("%+v", r)
		}
		return b, b.c.lines["x"].holder
	}
	renewed := func(b *bench) {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			b.say(s, map[bool]node.Status{true: node.OK, false: node.Unsent}[s.node < old])
		}
	}
	window := func(b *bench) time.Duration { return b.c.settings.Window(b.c.settings.MaxTTLCap) }

	b, held := begun()
	b.meets(map[int]string{5: "f"})
	for range 4 {
		renewed(b)
	}
	if held.mode != modeFormer {
		t.Error("it rests on both lists although one more node has no vote")
	}
	b.fillIn(5)
	if held.mode != modeFormer || !held.counting().has(5) {
		t.Error("it does not wait for the last node")
	}
	b.meets(map[int]string{6: "g"})
	b.fillIn(6)
	if held.mode != modeBoth {
		t.Error("it rests on the former list although all nodes keep it")
	}

	b, held = begun()
	from := b.now()
	for b.now().Sub(from) < window(b)-b.c.terms.RenewEvery {
		renewed(b)
	}
	if held.mode != modeFormer {
		t.Error("it did not wait for long enough")
	}
	for b.now().Sub(from) < window(b)+b.c.terms.RenewEvery {
		renewed(b)
	}
	if held.mode != modeBoth {
		t.Error("it waits for nodes that do not come")
	}

	b, held = begun()
	b.marks(changeOf("abcde", "cdefg", node.StageClosed), 0, 0)
	renewed(b)
	if held.mode != modeBoth {
		t.Error("it rests on a list that is closed")
	}
}

// A lease that is adopted with both lists, and rests on the former one, waits for all new nodes as well.
func TestAdoptedLeaseWaitsForAllNewNodes(t *testing.T) {
	b := given(t, "abcde", "cdefg") // node 4 is g
	heir := b.call()
	h := Handle{Key: "h", Token: former, Fence: 7, Over: true, Electorates: "5 a,b,c,d,e"}
	b.c.Adopt(b.now(), Request{Call: heir, Key: "h", Terms: b.c.terms}, h)
	b.perform()
	for _, s := range b.take(node.Adopt) {
		b.say(s, map[bool]node.Status{true: node.OK, false: node.Absent}[s.node != 4])
	}
	if l := b.got(heir); l.Err() != nil {
		t.Fatal(l.Err())
	}
	held := b.c.lines["h"].holder
	for range 4 {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			b.say(s, map[bool]node.Status{true: node.OK, false: node.Absent}[s.node != 4])
		}
	}
	if held.mode != modeFormer {
		t.Error("it rests on both lists although the last node has no vote")
	}
	b.fillIn(4)
	if held.mode != modeBoth {
		t.Error("it rests on the former list although all nodes keep it")
	}
}

// New nodes confirm nothing about themselves: a quorum of the former list must.
func TestFormerListConfirmsTheNew(t *testing.T) {
	b := given(t, "", "abc")
	b.hold("x")
	b.begins()
	b.meets(map[int]string{3: "d", 4: "e", 5: "f"})
	b.take(node.Advance)
	for range 6 {
		for _, s := range b.take(node.Renew) {
			switch {
			case s.node == 0:
				b.say(s, node.OK)
			case s.node >= 3:
				b.say(s, node.Absent)
			default:
				b.say(s, node.Unknown)
			}
		}
		b.wantNodes(b.take(node.Heal))
		b.advance(b.c.terms.RenewEvery / 4)
	}
}

// A lease whose new nodes another client has stays on the former list, and ends when that is closed.
// What keeps it there is told before.
func TestLeaseThatCannotBeFilledIn(t *testing.T) {
	b := given(t, "", "abc")
	l := b.hold("x")
	b.begins()
	b.meets(map[int]string{3: "d", 4: "e", 5: "f"})
	b.take(node.Advance)
	step := func() {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			if s.node < 3 {
				b.say(s, node.OK)
			} else {
				b.say(s, node.Other, theirs)
			}
		}
	}
	for range 8 {
		step()
	}
	if l.Err() != nil {
		t.Fatal(l.Err())
	}
	us, n := b.c.Unfilled(b.now())
	if n != 1 || us[0].Key != "x" || len(us[0].Flaws) != 3 || us[0].Flaws[0].Err != (Overwritten{Owner: "them"}) {
		t.Errorf("%d: %+v", n, us)
	}
	if r := b.relist(6, nil, []int{3, 4, 5}); r == nil || r.Reason != ReasonNotFinished || r.Count != 1 || r.Unfilled[0].Key != "x" {
		t.Errorf("refused with %+v", r)
	}
	b.stages(node.StageClosed, 0, 1, 2)
	for range 8 {
		step()
	}
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Errorf("it goes on behind the closing: %v", l.Err())
	}
}

// The former list is left behind the opening, by leases that rest on both: they go on, and the nodes
// that were left get nothing any more.
func TestFormerListIsLeft(t *testing.T) {
	b, l := filled(t)
	if r := b.relist(6, nil, []int{3, 4, 5}); r == nil || r.Reason != ReasonNotFinished || r.Count != 0 {
		t.Fatalf("left before it was opened: %+v", r)
	}
	b.stages(node.StageClosed, 0, 1, 2)
	if r := b.relist(6, nil, []int{3, 4, 5}); r == nil || r.Reason != ReasonNotFinished {
		t.Fatalf("left before it was opened: %+v", r)
	}
	if r := b.relist(6, nil, []int{0, 1, 2}); r == nil || r.Reason != ReasonNodesLeft {
		t.Fatalf("back behind the closing: %+v", r)
	}
	b.stages(node.StageOpened, 3, 4, 5)
	if r := b.relist(6, nil, []int{3, 4, 5}); r != nil {
		t.Fatalf("%+v", r)
	}
	b.sent = nil
	for range 12 {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			if s.node < 3 {
				t.Fatalf("node %d, which was left, was sent %v", s.node, s.cmd.Op)
			}
			b.say(s, node.OK)
		}
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
	w := b.acquire("y")
	grants := b.take(node.Grant)
	b.wantNodes(grants, 3, 4, 5)
	for _, s := range grants[:2] {
		b.say(s, node.OK)
	}
	b.got(w)
	answer := b.call()
	b.c.Release(b.now(), b.c.lines["x"].holder.id, answer)
	b.perform()
	releases := b.take(node.Release)
	b.wantNodes(releases, 3, 4, 5)
	for _, s := range releases {
		b.say(s, node.OK)
	}
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	call := b.call()
	b.c.Inspect(b.now(), "y", false, call)
	b.perform()
	inspections := b.take(node.Inspect)
	b.wantNodes(inspections, 3, 4, 5)
	for _, s := range inspections {
		b.say(s, node.Other, theirs)
	}
	if r := b.answer(call); len(r.Answers) != 3 || r.Answers[0].Node != 3 || !r.Taken(b.c.Quorum()) {
		t.Errorf("%+v", r)
	}
}

// Before the change is closed it may be given up: leases go on, on the former list.
func TestChangeIsGivenUp(t *testing.T) {
	b, l := filled(t)
	b.stages(node.StageBegun, 0, 1, 2, 3, 4, 5)
	if r := b.relist(6, nil, []int{0, 1, 2}); r != nil {
		t.Fatalf("%+v", r)
	}
	for range 12 {
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			if s.node >= 3 {
				t.Fatalf("node %d, which was left, was sent %v", s.node, s.cmd.Op)
			}
			b.say(s, node.OK)
		}
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
	b.acquire("y")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// A process that has left the former list remembers that the change is opened, and tells it to a node
// that was emptied.
func TestOpenedIsRememberedWhenTheFormerListIsLeft(t *testing.T) {
	b, _ := filled(t)
	b.marks(changeOf("abc", "def", node.StageOpened), 77, 3, 4, 5)
	b.take(node.Advance)
	if r := b.relist(6, nil, []int{3, 4, 5}); r != nil {
		t.Fatalf("%+v", r)
	}
	b.marks(node.Change{}, 0, 4)
	sends := b.take(node.Advance)
	b.wantNodes(sends, 4)
	if c := sends[0].cmd; c.Token != changeOf("abc", "def", node.StageOpened).String() || c.Fence != 77 {
		t.Errorf("told %q and %d", c.Token, c.Fence)
	}
}

// The former list is not given again while a lease rests on the present list alone, as one may that was
// adopted.
func TestLeaseOfThePresentListKeepsIt(t *testing.T) {
	b := given(t, "abc", "def") // def are 0 to 2, and abc 3 to 5
	heir := b.call()
	b.c.Adopt(b.now(), Request{Call: heir, Key: "h", Terms: b.c.terms}, Handle{Key: "h", Token: former, Fence: 7, Over: true, Electorates: "3 d,e,f"})
	b.perform()
	for _, s := range b.take(node.Adopt) {
		b.say(s, map[bool]node.Status{true: node.OK, false: node.Absent}[s.node < 3])
	}
	b.got(heir)
	if r := b.relist(6, nil, []int{3, 4, 5}); r == nil || r.Reason != ReasonNodesLeft {
		t.Errorf("left with a lease of the present list: %+v", r)
	}
}

// A lease does not begin to rest on new nodes whose votes are about to end: it would be told at once
// that it is lost.
func TestLeaseDoesNotRestOnVotesThatEnd(t *testing.T) {
	b := given(t, "", "abc")
	b.hold("x")
	b.begins()
	held := b.c.lines["x"].holder
	for _, c := range []struct {
		left time.Duration
		want modeKind
	}{{held.terms.Grace, modeFormer}, {held.terms.Grace + 1, modeBoth}} {
		for i := 3; i < 6; i++ {
			held.asked.add(i)
			held.votes.of[i].until = b.now().Add(c.left)
		}
		b.c.restOnBoth(b.now(), held)
		if held.mode != c.want {
			t.Errorf("it rests on %v although votes end in %v", held.mode, c.left)
		}
	}
}

// A lease whose time was up by the lists that it rested on is not revived by others, by which it would
// not be.
func TestOtherListsReviveNothing(t *testing.T) {
	b, l := filled(t)
	held := b.c.lines["x"].holder
	for range 8 {
		if until := held.hold.until; until.Sub(b.now()) <= b.c.terms.RenewEvery/2 {
			b.clock.Advance(until.Sub(b.now()))
			break
		}
		b.advance(b.c.terms.RenewEvery / 2)
		for _, s := range b.take(node.Renew) {
			b.say(s, map[bool]node.Status{true: node.OK, false: node.Unknown}[s.node < 3])
		}
	}
	if b.c.lines["x"].holder == nil {
		t.Fatal("it is over already")
	}
	if r := b.relist(6, nil, []int{0, 1, 2}); r != nil {
		t.Fatalf("%+v", r)
	}
	if !errors.Is(l.Err(), lease.ErrExpired) || b.c.lines["x"] != nil {
		t.Errorf("it goes on: %v", l.Err())
	}
}

// A lease that rests on the former list keeps its process from leaving that, also behind the opening.
func TestUnfilledLeaseKeepsTheFormerList(t *testing.T) {
	b := given(t, "", "abc")
	b.hold("x")
	b.begins()
	b.meets(map[int]string{3: "d", 4: "e", 5: "f"})
	b.stages(node.StageOpened, 3)
	if r := b.relist(6, nil, []int{3, 4, 5}); r == nil || r.Count != 1 {
		t.Errorf("left with a lease of the former list: %+v", r)
	}
}

// Lists that would leave out a step are refused, and nothing is done.
func TestListsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		former string
		to     Lists
		want   Reason
	}{
		"one list to another":   {"", Lists{6, nil, []int{3, 4, 5}}, ReasonOtherChange},
		"another former list":   {"", Lists{6, []int{0, 1}, []int{3, 4, 5}}, ReasonOtherChange},
		"a second change":       {"def", Lists{9, []int{3, 4, 5}, []int{6, 7, 8}}, ReasonOtherChange},
		"another present list":  {"def", Lists{9, []int{3, 4, 5}, []int{0, 1, 6}}, ReasonOtherChange},
		"a third list":          {"def", Lists{9, nil, []int{6, 7, 8}}, ReasonOtherChange},
		"more than can be kept": {"", Lists{65, []int{0, 1, 2}, []int{3, 4, 5}}, ReasonTooManyNodes},
		"fewer than there were": {"", Lists{2, nil, []int{0, 1}}, ReasonTooManyNodes},
		"no nodes":              {"", Lists{3, nil, nil}, ReasonTooManyNodes},
	} {
		b := given(t, c.former, "abc")
		was := *b.c.told()
		if r := b.c.Reconfigure(b.now(), c.to); r == nil || r.Reason != c.want {
			t.Errorf("%s: %+v", name, r)
		}
		if *b.c.told() != was {
			t.Errorf("%s: something was done", name)
		}
	}
	b := given(t, "def", "abc")
	if r := b.relist(6, []int{3, 4, 5}, []int{0, 1, 2}); r != nil {
		t.Errorf("the same lists: %+v", r)
	}
	b.c.Close(b.now())
	if r := b.c.Reconfigure(b.now(), Lists{6, nil, []int{3, 4, 5}}); r == nil || r.Reason != ReasonClosed {
		t.Errorf("closed: %+v", r)
	}
}

// An attempt begins anew with the new lists, in its old place in the queues.
func TestAttemptBeginsAnew(t *testing.T) {
	b := given(t, "", "abc")
	w, _ := b.placed()
	ticket := b.c.lines["x"].ticket
	b.begins()
	b.meets(map[int]string{3: "d", 4: "e", 5: "f"})
	b.c.Serve(b.now())
	b.advance(b.c.settings.RetryMax)
	b.waits(w)
	var elected, queued []int
	for _, s := range b.sent {
		switch s.cmd.Op {
		case node.Grant:
			elected = append(elected, s.node)
		case node.Enqueue:
			queued = append(queued, s.node)
			if s.cmd.Ticket != ticket || s.cmd.New {
				t.Errorf("%+v: want its old place, %d", s.cmd, ticket)
			}
		}
	}
	if len(elected)+len(queued) == 0 {
		t.Error("nothing goes on")
	}
	if t2 := b.c.lines["x"].attempt; t2 == nil || t2.mode != modeBoth {
		t.Error("it does not need both lists")
	}
}

// What a node is owed, and an adoption, go on when nodes are added.
func TestWhatIsUnderWayWhenNodesAreAdded(t *testing.T) {
	b := given(t, "", "abc")
	b.hold("x")
	answer, _ := b.cutOff("x", 1)
	heir := b.adopt("h")
	call := b.call()
	b.c.Inspect(b.now(), "z", false, call)
	revoked := b.call()
	b.c.Revoke(b.now(), "r", "them/1", revoked)
	b.perform()
	b.begins()
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK)
	}
	if l := b.got(heir); l.Err() != nil || b.c.lines["h"].holder.mode != modeFormer {
		t.Error("adopted by other lists than those that were asked")
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.Absent)
	}
	b.answer(call)
	for _, s := range b.take(node.Release) {
		if s.cmd.Name == "r" {
			b.say(s, node.OK)
		}
	}
	if r := b.answer(revoked); r != nil {
		t.Errorf("%+v", r)
	}
	if b.done(answer) {
		b.answer(answer)
	}
	b.meets(map[int]string{0: "a"})
	owed := false
	for range 8 {
		b.advance(collectEvery)
		for _, s := range b.take(node.Release) {
			owed = owed || s.cmd.Name == "x"
		}
	}
	if !owed {
		t.Error("the release is owed no more")
	}
}

// A release for which only nodes that are left have not answered is over.
func TestReleaseIsOverWhenNodesAreLeft(t *testing.T) {
	b, _ := filled(t)
	b.stages(node.StageOpened, 0, 1, 2, 3, 4, 5)
	id, answer := b.c.lines["x"].holder.id, b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	for _, s := range b.take(node.Release) {
		if s.node != 2 {
			b.say(s, node.OK)
		}
	}
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	if b.c.tenures.get(id) == nil {
		t.Fatal("it does not wait for node 2")
	}
	if r := b.relist(6, nil, []int{3, 4, 5}); r != nil {
		t.Fatalf("%+v", r)
	}
	if b.c.tenures.get(id) != nil {
		t.Error("it waits for a node that was left")
	}
}

// Everything that waits for a node that is left goes on without it.
func TestWhatIsUnderWayWhenNodesAreLeft(t *testing.T) {
	b, l := filled(t)
	b.stages(node.StageOpened, 0, 1, 2, 3, 4, 5)
	call := b.call()
	b.c.Inspect(b.now(), "z", false, call)
	b.perform()
	b.advance(b.c.terms.RenewEvery)
	revoked := b.call()
	b.c.Revoke(b.now(), "r", "them/1", revoked)
	b.perform()
	b.sent = nil // and renewals are under way
	heir := b.call()
	b.c.Adopt(b.now(), Request{Call: heir, Key: "h", Terms: b.c.terms}, Handle{Key: "h", Token: former, Fence: 7, Over: true, Electorates: "3 a,b,c;3 d,e,f"})
	b.waits(heir)
	w := b.acquire("y")
	if r := b.relist(6, nil, []int{3, 4, 5}); r != nil {
		t.Fatalf("%+v", r)
	}
	b.refused(heir, ReasonRelisted)
	for i := range 6 {
		for _, id := range b.c.inquiryIDs() {
			if i >= 3 {
				b.c.Receive(b.now(), node.Batch{Node: i, Replies: []node.Reply{{ID: id, Op: node.Inspect, Status: node.Absent}}, State: b.c.nodes[i].state})
			}
		}
		if i < 3 {
			continue
		}
		for _, tn := range b.c.tenures.slots {
			if tn != nil && tn.give != nil && tn.pending.has(i) {
				b.c.Receive(b.now(), node.Batch{Node: i, Replies: []node.Reply{{ID: tn.id, Op: node.Grant, Status: node.Unsent}}, State: b.c.nodes[i].state})
			}
			if tn != nil && tn.give != nil && tn.give.unanswered.has(i) {
				b.c.Receive(b.now(), node.Batch{Node: i, Replies: []node.Reply{{ID: tn.id, Op: node.Release, Status: node.OK}}, State: b.c.nodes[i].state})
			}
		}
	}
	b.perform()
	b.answer(call)
	if r := b.answer(revoked); r != nil {
		t.Errorf("%+v", r)
	}
	held := b.c.lines["x"].holder
	if held.pending&0b111 != 0 || held.asked&0b111 != 0 || held.votes.of[0].until != 0 {
		t.Error("something is left of the nodes that were left")
	}
	for _, tn := range b.c.tenures.slots {
		if tn != nil && tn.phase == phaseReleasing {
			t.Errorf("%s is still being given back: %+v", tn.key, tn.give)
		}
	}
	b.waits(w)
	if l.Err() != nil {
		t.Error(l.Err())
	}
	b.advance(time.Second)
}
