package core

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// changeOf returns a change between two lists of identities, each of one letter.
func changeOf(former, present string, stage node.Stage) node.Change {
	return node.Change{
		Former:  node.NewElectorate(len(former), strings.Split(former, "")),
		Present: node.NewElectorate(len(present), strings.Split(present, "")),
		Stage:   stage,
	}
}

// told returns a bench for a process that was given a list of nodes, each named by one letter. With
// a former list it was given both.
func given(t testing.TB, former, present string) *bench {
	names := present
	for _, id := range former {
		if !strings.ContainsRune(names, id) {
			names += string(id)
		}
	}
	s := defaults(len(names), 3*time.Second)
	index := func(list string) (nodes []int) {
		for _, id := range list {
			nodes = append(nodes, strings.IndexRune(names, id))
		}
		return nodes
	}
	s.Present = index(present)
	s.Former = index(former)
	b := newBench(t, 1)
	b.c = New(s)
	b.identified(strings.Split(names, "")...)
	return b
}

// marks has the marker of nodes say something of a change.
func (b *bench) marks(ch node.Change, floor uint64, nodes ...int) {
	for _, i := range nodes {
		s := b.c.nodes[i].state
		s.Change, s.Floor, s.MarkedAt = ch, floor, b.now()
		b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	}
	b.perform()
}

// advanced returns what nodes were told of a change, and has them forgotten.
func (b *bench) advanced() map[int]string {
	told := make(map[int]string)
	for _, s := range b.take(node.Advance) {
		told[s.node] = s.cmd.Token
	}
	return told
}

// Whose votes count at which stage, and what is told to those whose votes do not.
func TestWhoseVotesCount(t *testing.T) {
	const none, begun, closed, opened = node.StageNone, node.StageBegun, node.StageClosed, node.StageOpened
	for _, lists := range [][2]string{{"abc", "def"}, {"abc", "bcdef"}, {"abc", "bcd"}} {
		former, present := lists[0], lists[1]
		for name, c := range map[string]struct {
			former, present string
			want            [4]Reason
		}{
			"former alone":  {"", former, [...]Reason{none: ReasonNone, begun: ReasonNone, closed: ReasonNodesLeft, opened: ReasonNodesLeft}},
			"both":          {former, present, [...]Reason{none: ReasonNone, begun: ReasonNone, closed: ReasonNone, opened: ReasonNone}},
			"present alone": {"", present, [...]Reason{none: ReasonNone, begun: ReasonNotFinished, closed: ReasonNotFinished, opened: ReasonNone}},
			"neither":       {"", "acxyz", [...]Reason{none: ReasonNone, begun: ReasonOtherChange, closed: ReasonOtherChange, opened: ReasonOtherChange}},
		} {
			for stage, want := range c.want {
				b := given(t, c.former, c.present)
				b.marks(changeOf(former, present, node.Stage(stage)), 0, 0)
				b.take(node.Advance)
				w := b.acquire("x")
				if want != ReasonNone {
					b.refused(w, want)
					b.wantNodes(b.take(node.Grant))
					continue
				}
				if got, all := len(b.take(node.Grant)), len(b.c.nodes); got != all {
					t.Errorf("%v: %s at stage %v: %d of %d nodes were asked", lists, name, node.Stage(stage), got, all)
				}
			}
		}
	}
}

// A node is not asked for a vote that its stage lets not count, while others are.
func TestBarredNodeIsNotAsked(t *testing.T) {
	b := given(t, "", "def")
	b.marks(changeOf("abc", "def", node.StageOpened), 0, 0, 1)
	b.marks(changeOf("abc", "def", node.StageClosed), 0, 2)
	w := b.acquire("x", func(r *Request) { r.Attempts = 1 })
	grants := b.take(node.Grant)
	b.wantNodes(grants, 0, 1)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.Other)
	b.take(node.Release)
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.Absent)
	}
	if a := b.answer(w).Answers[2]; a.Verdict != VerdictNotAsked || a.Err != FaultBarred {
		t.Errorf("node 2: %+v", a)
	}
}

// A vote that was asked for at an earlier stage, and is given over an enrolment at a later one, does
// not count.
func TestVoteAtALaterStage(t *testing.T) {
	b := given(t, "", "abc")
	w := b.acquire("x", func(r *Request) { r.Attempts = 1 })
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	s := b.c.nodes[1].state
	s.Change = changeOf("abc", "def", node.StageClosed)
	b.c.changing.seen = node.Change{} // it is found out below
	r := node.Reply{ID: grants[1].cmd.ID, Op: node.Grant, Status: node.OK, Raised: true, Fence: grants[1].cmd.Fence}
	b.c.Receive(b.now(), node.Batch{Node: 1, Replies: []node.Reply{r}, State: s})
	b.perform()
	b.refused(w, ReasonNodesLeft)
	b.wantNodes(b.take(node.Release), 0, 1, 2)
}

// Renewals at a closed node move nothing: a lease of the former list ends when the votes from before
// have run out. It is not shortened.
func TestClosedLeaseRunsOut(t *testing.T) {
	for _, grouped := range []bool{false, true} {
		b := given(t, "", "abc")
		l := b.hold("x")
		if grouped {
			b.hold("y")
		}
		b.advance(b.c.terms.RenewEvery)
		for _, s := range b.take(node.Renew) {
			b.say(s, node.OK)
		}
		held := b.c.lines["x"].holder
		until := held.hold.until
		b.marks(changeOf("abc", "def", node.StageClosed), 0, 0, 1)
		for b.now() < until {
			if l.Err() != nil {
				t.Fatalf("over %v before its votes have run out: %v", until.Sub(b.now()), l.Err())
			}
			b.advance(min(b.c.terms.RenewEvery/4, until.Sub(b.now())))
			b.renewAll()
		}
		if !errors.Is(l.Err(), lease.ErrExpired) {
			t.Errorf("grouped %v: %v", grouped, l.Err())
		}
	}
}

// A vote of a closed node confirms nothing, and heals nothing.
func TestClosedNodeConfirmsNothing(t *testing.T) {
	b := given(t, "", "abc")
	b.hold("x")
	b.round(map[int]node.Status{0: node.Unknown, 1: node.Unknown, 2: node.Absent})
	b.marks(changeOf("abc", "def", node.StageClosed), 0, 0)
	b.round(map[int]node.Status{2: node.Absent})
	b.round(map[int]node.Status{2: node.Absent})
	b.wantNodes(b.take(node.Heal))
}

// Who waits is told when a node says that the process has the wrong list. What is held is not
// shortened.
func TestWaitersAreToldOfTheStage(t *testing.T) {
	b := given(t, "", "abc")
	l := b.hold("y")
	w, _ := b.stand("x")
	any := b.acquireAny("x", "z")
	heir := b.adopt("w")
	b.marks(changeOf("abc", "def", node.StageClosed), 0, 1)
	b.refused(w, ReasonNodesLeft)
	b.advance(b.c.settings.NodeTimeout) // it looks at the names before it waits
	b.refused(any, ReasonNodesLeft)
	b.refused(heir, ReasonNodesLeft)
	b.refused(b.adopt("v"), ReasonNodesLeft)
	if l.Err() != nil {
		t.Error(l.Err())
	}
	// It was emptied, and the process remembers.
	b.marks(node.Change{}, 0, 1)
	b.refused(b.acquire("x"), ReasonNodesLeft)
}

// While nodes are young, or were not met by the process that has begun a change, a list may be either one
// of it. Then votes of the node that says so do not count, and no waiter is told that it must not wait:
// that is known when more nodes were met.
func TestWaitersAreNotToldWhatIsDoubtful(t *testing.T) {
	b := given(t, "", "abcde")
	for i := range 5 {
		b.told(i, func(s *node.State) { s.Grown = s.Identity == "b" || s.Identity == "c"; s.MarkedAt = b.now() })
	}
	w, _ := b.stand("x")
	ch := node.Change{Former: node.NewElectorate(5, []string{"a", "c"}), Present: node.NewElectorate(5, []string{"c", "d", "e"}), Stage: node.StageBegun}
	b.marks(ch, 0, 0)
	b.waits(w)
	if !b.c.changing.barred[modePresent].has(0) {
		t.Error("a vote counts although the process may have the present list alone")
	}
	ch.Present = node.NewElectorate(5, []string{"c", "d", "e", "f", "g"})
	b.marks(ch, 0, 0)
	b.waits(w)
	if b.c.changing.barred[modePresent] != 0 {
		t.Error("no vote counts although the process has the former list")
	}
	ch.Former = node.NewElectorate(5, []string{"v", "w", "x", "y", "z"})
	b.marks(ch, 0, 0)
	b.refused(w, ReasonOtherChange)
}

// A change that was given up before it was closed keeps nobody out.
func TestChangeIsUndone(t *testing.T) {
	b := given(t, "", "def")
	b.marks(changeOf("abc", "def", node.StageBegun), 0, 1)
	b.refused(b.acquire("x"), ReasonNotFinished)
	b.marks(node.Change{}, 0, 1)
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// A process that was given both lists tells every node of both that a change has begun: once it has
// met all, or has waited for them.
func TestChangeIsBegun(t *testing.T) {
	b := given(t, "abc", "cde")
	want := changeOf("abc", "cde", node.StageBegun).String()
	got := b.advanced()
	for i := range 5 {
		if got[i] != want {
			t.Errorf("node %d was told %q, want %q", i, got[i], want)
		}
	}
	b.marks(changeOf("abc", "cde", node.StageBegun), 0, 0, 1, 2, 3, 4)
	if got := b.advanced(); len(got) != 0 {
		t.Errorf("told again: %v", got)
	}
	// One that was emptied is told again.
	b.marks(node.Change{}, 0, 3)
	if got := b.advanced(); len(got) != 1 || got[3] != want {
		t.Errorf("told %v, want node 3 to be told", got)
	}
	// A node that is down is not waited for for long, and adds its name later.
	s := defaults(4, 3*time.Second)
	s.Former, s.Present = []int{0, 1}, []int{2, 3}
	b = newBench(t, 1)
	b.c = New(s)
	b.identified("a", "b", "c")
	if got := b.advanced(); len(got) != 0 {
		t.Errorf("told before all were met: %v", got)
	}
	b.advance(b.c.settings.NodeTimeout)
	if got := b.advanced(); len(got) != 3 || got[0] != "1 2>2:-a,-b,+c" {
		t.Errorf("told %v", got)
	}
	ch, _ := node.ParseChange("1 2>2:-a,-b,+c")
	b.marks(ch, 0, 0, 1, 2)
	b.identified("a", "b", "c", "d")
	if got := b.advanced(); got[3] != "1 2>2:-a,-b,+c,+d" {
		t.Errorf("told %v", got)
	}
}

// What found no room at a node is told with the next fingerprint.
func TestUnsentAdviceIsGivenAgain(t *testing.T) {
	b := given(t, "abc", "cde")
	b.say(to(b.take(node.Advance), 1), node.Unsent)
	b.advance(b.c.settings.signEvery())
	if got := b.advanced(); len(got) != 1 || got[1] == "" {
		t.Errorf("told %v, want node 1", got)
	}
}

// A young node is not named: it may have another identity for a while. It is when it has grown.
func TestYoungNodeIsNotNamed(t *testing.T) {
	b := given(t, "abc", "cde")
	b.take(node.Advance)
	b.restart(3, func(s *node.State) { s.Identity, s.Run = "z", "run-z" })
	for i, told := range b.advanced() {
		if strings.Contains(told, "z") {
			t.Errorf("node %d was told %q", i, told)
		}
	}
	b.marks(changeOf("abc", "cde", node.StageBegun), 0, 0, 1, 2, 4)
	if b.c.changing.why != ReasonNone {
		t.Error("another identity of a young node is another change")
	}
}

// Each node is told the furthest stage and the largest floor that any has reported: by processes that
// were given both lists, and once it is opened by those of the present list. Those of the former list
// tell nothing.
func TestStagesAreToldOn(t *testing.T) {
	for name, c := range map[string]struct {
		former, present string
		stage           node.Stage
		want            node.Stage
	}{
		"both, closed":          {"abc", "def", node.StageClosed, node.StageClosed},
		"both, opened":          {"abc", "def", node.StageOpened, node.StageOpened},
		"present alone, opened": {"", "def", node.StageOpened, node.StageOpened},
		"present alone, closed": {"", "def", node.StageClosed, node.StageNone},
		"former alone, opened":  {"", "abc", node.StageOpened, node.StageNone},
	} {
		b := given(t, c.former, c.present)
		b.take(node.Advance)
		b.marks(changeOf("abc", "def", c.stage), 77, 0)
		sends := b.take(node.Advance)
		if c.want == node.StageNone {
			if len(sends) != 0 {
				t.Errorf("%s: told %v", name, nodesOf(sends))
			}
			continue
		}
		b.wantNodes(sends, func() (others []int) {
			for i := 1; i < len(b.c.nodes); i++ {
				others = append(others, i)
			}
			return others
		}()...)
		for _, s := range sends {
			if s.cmd.Token != changeOf("abc", "def", c.want).String() || s.cmd.Fence != 77 {
				t.Errorf("%s: told %q and %d", name, s.cmd.Token, s.cmd.Fence)
			}
		}
	}
}

// A second change waits for the first: it acquires nothing before that is opened, and then takes its
// place.
func TestOneChangeAtATime(t *testing.T) {
	for _, stage := range []node.Stage{node.StageBegun, node.StageClosed} {
		b := given(t, "abc", "axy")
		b.take(node.Advance)
		b.marks(changeOf("abc", "def", stage), 0, 2)
		b.refused(b.acquire("x"), ReasonOtherChange)
	}
	b := given(t, "def", "xyz")
	b.take(node.Advance)
	opened := changeOf("abc", "def", node.StageOpened)
	b.marks(opened, 0, 3, 4, 5) // def
	told := b.advanced()
	if want := changeOf("def", "xyz", node.StageBegun).String(); told[3] != want || told[5] != want {
		t.Errorf("told %v, want %q", told, want)
	}
	w := b.acquire("x", func(r *Request) { r.Attempts = 1 })
	b.wantNodes(b.take(node.Grant))
	b.refused(w, ReasonNoQuorum) // until they are told
	b.marks(changeOf("def", "xyz", node.StageBegun), 0, 0, 1, 2, 3, 4, 5)
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2, 3, 4, 5)
}

// A change that is opened is not begun again because a node has lost its identity: the former list
// would count again. It acquires nothing until an operator has looked.
func TestLostIdentityBeginsNoChange(t *testing.T) {
	for _, lists := range [][2]string{{"abc", "abcde"}, {"abc", "bcd"}, {"abc", "def"}, {"a", "abc"}} {
		b := given(t, lists[0], lists[1])
		b.take(node.Advance)
		stored := changeOf(strings.Replace(lists[0], "a", "z", 1), strings.Replace(lists[1], "a", "z", 1), node.StageOpened)
		b.marks(stored, 5, 0, 1)
		if got := b.advanced(); got[0] != "" || got[1] != "" {
			t.Errorf("%v: told %v", lists, got)
		}
		b.refused(b.acquire("x"), ReasonOtherChange)
	}
}

// Lists that come after an opened change: one node at a time, or a node has lost its identity while no
// client knew it. What may be the former list acquires nothing.
func TestListsAfterAChange(t *testing.T) {
	const opened = node.StageOpened
	for _, c := range []struct {
		former, present, list string
		is                    bool
	}{
		{"abc", "def", "defx", true},    // one more: they meet
		{"abc", "def", "de", true},      // one less
		{"abc", "def", "defxy", true},   // two steps later
		{"abc", "def", "dxy", true},     // two have lost their identities
		{"abc", "def", "aef", false},    // a node that left
		{"abc", "bcd", "bcdx", true},    // they meet
		{"abcd", "bcd", "bcdx", true},   // they meet, and a may be x: then F and P meet as well
		{"abc", "bcd", "bdx", true},     // d came with the change
		{"abc", "bcd", "bcx", false},    // a or d has lost its identity
		{"abc", "bcd", "bxy", false},    // and c
		{"abc", "bcdef", "bcxyz", true}, // five were never the former list
		{"abcde", "cde", "cdx", true},
		{"abcde", "cdefg", "cdexy", false},
		{"abcde", "cdefg", "cdefx", true},
	} {
		for stage := node.StageBegun; stage <= opened; stage++ {
			want := ReasonOtherChange
			if c.is && stage == opened {
				want = ReasonNone
			}
			b := given(t, "", c.list)
			all := make([]int, len(c.list))
			for i := range all {
				all[i] = i
			}
			b.marks(changeOf(c.former, c.present, stage), 5, all[:2]...)
			if why := b.c.changing.why; why != want {
				t.Errorf("%+v at %v: %v, want %v", c, stage, why, want)
			}
			b.take(node.Advance)
			w := b.acquire("x")
			if want != ReasonNone {
				b.refused(w, want)
				continue
			}
			b.wantNodes(b.take(node.Grant), all...)
		}
		// What may follow the change is a change from such a list.
		next := changeOf(c.list, "rst", node.StageBegun)
		if ch := changeOf(c.former, c.present, opened); follows(&next, &ch) != c.is {
			t.Errorf("%+v: follows: %t", c, !c.is)
		}
		// It may lead back to the present list, but not from one that may be the former.
		back := changeOf(c.list, c.present, node.StageBegun)
		if ch := changeOf(c.former, c.present, opened); follows(&back, &ch) != (c.is && len(c.list) != len(c.former)) {
			t.Errorf("%+v: back: follows: %t", c, follows(&back, &ch))
		}
	}
	// Nodes that know nothing of the change are told that it is opened.
	b := given(t, "", "defx")
	b.marks(changeOf("abc", "def", opened), 5, 0)
	if told := b.advanced(); told[1] != changeOf("abc", "def", opened).String() || told[3] != told[1] || told[0] != "" {
		t.Errorf("told %v", told)
	}
}

// A change that no node tells of any more is nothing to a process whose nodes have all got other
// identities.
func TestChangeThatWasForgotten(t *testing.T) {
	b := given(t, "", "def")
	b.marks(changeOf("abc", "def", node.StageOpened), 0, 0)
	for i, id := range []string{"x", "y", "z"} {
		s := b.c.nodes[i].state
		s.Identity, s.Change = id, node.Change{}
		b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	}
	b.sent = nil
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// A node that keeps no marker keeps no stage, so its vote is none for both lists.
func TestUnguardedNodeInAChange(t *testing.T) {
	b := apartLists(t)
	s := b.state()
	s.Guarded = false
	b.c.Receive(b.now(), node.Batch{Node: 4, State: s})
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2, 3, 5)
	c := defaults(3, 3*time.Second)
	c.Guard = false
	b.c = New(c)
	if r := b.relist(6, []int{0, 1, 2}, []int{3, 4, 5}); r == nil || r.Reason != ReasonMisconfigured {
		t.Errorf("%+v", r)
	}
}

// A list that may be either of the two, as its nodes were not all met, counts as one that has all that
// were met.
func TestListThatMayBeEither(t *testing.T) {
	for name, c := range map[string]struct {
		met             []string // of three
		ch              string
		former, present bool
	}{
		"the one that left was not met":   {[]string{"b", "c"}, "3>3:-a,=b,=c,+d", true, true},
		"the one that left was met":       {[]string{"a", "b"}, "3>3:-a,=b,=c,+d", true, false},
		"the new one was met":             {[]string{"b", "d"}, "3>3:-a,=b,=c,+d", false, true},
		"the change does not name it":     {[]string{"b", "c", "d"}, "3>3:=b,=c", false, false},
		"the change does not name theirs": {[]string{"b", "c", "d"}, "3>3:-a,=b,=c", false, true},
		"another size":                    {[]string{"b", "c"}, "3>5:=b,=c,+d", true, false},
		"other nodes":                     {[]string{"x", "y"}, "3>3:-a,=b,=c,+d", false, false},
	} {
		ch, ok := node.ParsePair(c.ch)
		if !ok {
			t.Fatal(c.ch)
		}
		if former, present := parts(node.NewElectorate(3, c.met), &ch); former != c.former || present != c.present {
			t.Errorf("%s: former %v, present %v", name, former, present)
		}
	}
}

// Whatever is proposed is larger than the floor of every node that was enrolled.
func TestFloor(t *testing.T) {
	const floor = 1 << 52
	opened := changeOf("abc", "def", node.StageOpened)
	b := given(t, "", "def")
	b.marks(opened, floor, 0)
	b.take(node.Advance)
	w := b.acquire("x")
	for _, s := range b.take(node.Grant) {
		if s.cmd.Fence <= floor {
			t.Errorf("proposed %d, not above the floor", s.cmd.Fence)
		}
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() <= floor {
		t.Errorf("fence %d", l.Fence())
	}
	// It is found out while the votes are given.
	b = given(t, "", "def")
	w = b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.marks(opened, floor, 1)
	b.say(grants[1], node.OK)
	b.waits(w)
	for _, s := range b.take(node.Raise) {
		if s.cmd.Fence <= floor {
			t.Errorf("raised to %d, not above the floor", s.cmd.Fence)
		}
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() <= floor {
		t.Errorf("fence %d", l.Fence())
	}
	// And while they are being raised.
	b = given(t, "", "def")
	w = b.acquire("x")
	grants = b.take(node.Grant)
	for _, s := range grants[:2] {
		b.say(s, node.OK, func(r *node.Reply) { r.Raised = false })
	}
	first := b.take(node.Raise)
	b.marks(opened, floor, 1)
	for _, s := range first {
		b.say(s, node.OK)
	}
	b.waits(w)
	for _, s := range b.take(node.Raise) {
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() <= floor {
		t.Errorf("fence %d", l.Fence())
	}
}

// An adoption and a gift keep to the floor as well.
func TestFloorOfAdoptionsAndGifts(t *testing.T) {
	const floor = 1 << 52
	opened := changeOf("abc", "def", node.StageOpened)
	b := given(t, "", "def")
	w := b.adopt("x")
	swaps := b.take(node.Adopt)
	b.say(swaps[0], node.OK)
	b.marks(opened, floor, 1)
	b.say(swaps[1], node.OK)
	b.waits(w)
	for _, s := range b.take(node.Raise) {
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() <= floor {
		t.Errorf("fence %d", l.Fence())
	}
	b = given(t, "", "def")
	w, token := b.placed()
	_, beat := b.heartbeat(0, 1, 2)
	b.marks(opened, floor, 1)
	b.give(token, floor-1, beat, 0, 1, 2)
	b.waits(w)
	if b.c.lines["x"].holder != nil {
		t.Error("won by a gift below the floor")
	}
}

// A gift of a node whose stage lets it not count is none.
func TestBarredGift(t *testing.T) {
	b := given(t, "", "def")
	w, token := b.placed()
	_, beat := b.heartbeat(0, 1, 2)
	fence := b.c.lines["x"].attempt.queuing.ticket + 1000
	b.marks(changeOf("abc", "def", node.StageOpened), 0, 0)
	b.take(node.Advance)
	b.marks(changeOf("abc", "def", node.StageClosed), 0, 1, 2)
	b.give(token, fence, beat, 0, 1, 2)
	b.waits(w)
	if got := nodesOf(b.take(node.Claim)); slices.Contains(got, 1) || slices.Contains(got, 2) {
		t.Errorf("claimed from %v", got)
	}
}

// Another change does not take the place of one that is not over, however far it has come: what is
// closed stays so when the node that has told it is emptied.
func TestClosedChangeIsNotReplaced(t *testing.T) {
	b := given(t, "", "def")
	b.marks(changeOf("abc", "def", node.StageClosed), 0, 0)
	b.marks(changeOf("xyz", "def", node.StageOpened), 0, 1)
	b.marks(node.Change{}, 0, 0)
	b.refused(b.acquire("x"), ReasonNotFinished)
}
