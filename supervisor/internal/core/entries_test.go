package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// left has a node tell what was left on it: our own entry since an instant, and others, each with
// "text since until", all by the node's clock in ms.
func (b *bench) holds(i int, ours int, texts ...string) {
	b.t.Helper()
	own := b.c.text
	if b.c.entryText() != own {
		own = b.c.entryText()
	}
	all := append([]string{}, texts...)
	all = append(all, fmt.Sprintf("%s %d 9000000000000", own, ours))
	if b.entries == nil {
		b.entries = make(map[int]string)
	}
	b.entries[i] = strings.Join(all, "\n")
	b.c.sign(b.now(), i, false)
	b.perform()
}

// ms is an instant of the nodes' clock so much later than now, as entries say it.
func (b *bench) ms(later time.Duration) int64 {
	return (nodesTime + time.Duration(b.now()) + later).Milliseconds()
}

// tells has a node tell its time in its state.
func (b *bench) tells(i int) {
	b.told(i, func(s *node.State) {
		s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(b.now()), b.now(), b.now()
	})
}

// Which lists keep out of each other's way: those of which a quorum each may have no node in common, for
// certain.
func TestWhichListsMeet(t *testing.T) {
	for name, c := range map[string]struct {
		former, present, theirs string
		apart, doubtful         bool
	}{
		"the same":                        {"", "abc", "3 a,b,c", false, false},
		"the same, of which none was met": {"", "abc", "3 ", false, false},
		"one more":                        {"", "abc", "4 a,b,c,d", false, false},
		"two more":                        {"", "abc", "5 a,b,c,d,e", true, false},
		"five of which none was met":      {"", "abc", "5 ", true, false},
		"one replaced of three":           {"", "abc", "3 a,b,x", true, true},
		"one replaced of three, not met":  {"", "abc", "3 a,b", false, false},
		"two replaced of three":           {"", "abc", "3 c,d,e", true, false},
		"two replaced, one of them met":   {"", "abc", "3 c,d", true, true},
		"one replaced of four":            {"", "abcd", "4 a,b,c,x", false, false},
		"two replaced of five":            {"", "abcde", "5 a,b,c,x,y", true, true},
		"another one":                     {"", "a", "1 x", true, false},
		"one of three":                    {"", "abc", "1 a", true, false},
		"both, and the former":            {"abc", "def", "3 a,b,c", false, false},
		"both, and the present":           {"abc", "def", "3 d,e,f", false, false},
		"both, and others":                {"abc", "def", "3 x,y,z", true, false},
		"one, and both with it":           {"", "abc", ">3>3:-a,-b,-c,+d,+e,+f", false, false},
		"one, and both without it":        {"", "xyz", ">3>3:-a,-b,-c,+d,+e,+f", true, false},
	} {
		b := given(t, c.former, c.present)
		theirs, ok := node.ParseEntry(c.theirs)
		if !ok {
			t.Fatal(c.theirs)
		}
		if apart, doubtful := b.c.isApart(b.now(), &theirs, time.Hour); apart != c.apart || doubtful != c.doubtful {
			t.Errorf("%s: apart %v, doubtful %v; want %v, %v", name, apart, doubtful, c.apart, c.doubtful)
		}
	}
}

// Identities of young nodes are not certain: they may have lost others, and get them back.
func TestYoungIdentityIsNotCertain(t *testing.T) {
	b := given(t, "", "abc")
	theirs, _ := node.ParseEntry("3 c,d,e")
	for i := range 2 {
		b.restart(i, func(s *node.State) { s.Identity, s.Run = fmt.Sprint("new", i), fmt.Sprint("run", i) })
	}
	if apart, _ := b.c.isApart(b.now(), &theirs, time.Hour); apart {
		t.Error("apart by identities of young nodes")
	}
}

// A node cannot have lost its identity since others left an entry, if its present life had begun before.
func TestOldNodesHaveLostNoIdentity(t *testing.T) {
	b := given(t, "", "abcde")
	theirs, _ := node.ParseEntry("5 a,b,c,x,y")
	for young := range 5 { // of those that others do not name, and then of the others
		for i := range 5 {
			b.told(4-i, func(s *node.State) {
				if s.Age, s.LifeAt = time.Hour, b.now(); i < young {
					s.Age = time.Hour / 2
				}
			})
		}
		// As many as would have had to lose theirs must be as young as the entry.
		apart, doubtful := b.c.isApart(b.now(), &theirs, time.Hour*3/4)
		if !apart || doubtful != (young >= 2) {
			t.Errorf("%d young: apart %v, doubtful %v", young, apart, doubtful)
		}
	}
}

// When all nodes were flushed, entries may count that were left with the identities of before. Nobody
// gives way to them unless they are signed for again.
func TestFlushedIdentitiesAreDoubtful(t *testing.T) {
	b := given(t, "", "abc")
	for i, id := range []string{"x", "y", "z"} {
		b.told(i, func(s *node.State) { s.Identity, s.Run, s.Life, s.LifeAt = id, "run-"+id, 2, b.now() })
	}
	theirs, _ := node.ParseEntry("3 a,b,c")
	if apart, doubtful := b.c.isApart(b.now(), &theirs, time.Hour); !apart || !doubtful {
		t.Errorf("apart %v, doubtful %v", apart, doubtful)
	}
	b.clock.Advance(2*b.c.settings.signedFor() - time.Millisecond)
	if _, doubtful := b.c.isApart(b.now(), &theirs, time.Hour); !doubtful {
		t.Error("certain while entries may count from before")
	}
	b.clock.Advance(time.Millisecond)
	if _, doubtful := b.c.isApart(b.now(), &theirs, time.Hour); doubtful {
		t.Error("doubtful for ever")
	}
}

// Of two clients whose lists do not meet the younger one, by the word of any node, acquires nothing. The
// older one is warned.
func TestNewcomer(t *testing.T) {
	const ours = 1000
	for name, c := range map[string]struct {
		theirs   string
		since    int
		again    bool // it must be signed for again
		newcomer bool
	}{
		"older":                        {"5 a,b,c,d,e", ours - 1, false, true},
		"younger":                      {"5 a,b,c,d,e", ours + 1, false, false},
		"at once, the smaller text":    {"1 a", ours, false, true},
		"at once, the larger text":     {"5 a,b,c,d,e", ours, false, false},
		"older, and they meet":         {"4 a,b,c,d", ours - 1, false, false},
		"older, and identities differ": {"3 a,b,x", ours - 1, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := given(t, "", "abc")
			held := b.hold("y")
			w, _ := b.stand("x")
			b.tells(1)
			b.warned = nil
			b.holds(1, ours, fmt.Sprintf("%s %d %d", c.theirs, c.since, b.ms(8*time.Second)))
			if c.again {
				if b.c.newcomer {
					t.Error("before it was signed for again")
				}
				b.holds(1, ours, fmt.Sprintf("%s %d %d", c.theirs, c.since, b.ms(8*time.Second+3*b.c.settings.signEvery()/2)))
			}
			if b.c.newcomer != c.newcomer {
				t.Fatalf("%v, want %v", b.c.newcomer, c.newcomer)
			}
			if !c.newcomer {
				b.waits(w)
				return
			}
			if r := b.refused(w, ReasonNewcomer); !r.Disagreement.Older || r.Disagreement.Node != 1 {
				t.Errorf("%+v", r.Disagreement)
			}
			b.refused(b.acquire("z"), ReasonNewcomer)
			b.refused(b.adopt("z"), ReasonNewcomer)
			if len(b.warned) != 1 || b.warned[0].Kind != WarnNewcomer {
				t.Errorf("%+v", b.warned)
			}
			if held.Err() != nil {
				t.Error(held.Err())
			}
			b.holds(1, ours)
			if b.c.newcomer || b.c.nodes[1].disagreement.Nodes != 0 {
				t.Error("when they are gone")
			}
			b.acquire("z")
			b.wantNodes(b.take(node.Grant), 0, 1, 2)
		})
	}
}

// An entry of a node that is not reached any more counts until it ends.
func TestEntryOfNodeThatIsAway(t *testing.T) {
	b := given(t, "", "abc")
	b.tells(1)
	b.holds(1, 9, fmt.Sprintf("5  1 %d", b.ms(4*time.Second)))
	b.drop(1)
	b.advance(3 * time.Second)
	b.refused(b.acquire("x"), ReasonNewcomer)
	b.advance(2 * b.c.settings.signEvery())
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// Clients of the former list keep nobody from the present one after the nodes were closed for them.
func TestWhoIsShutOutStopsNobody(t *testing.T) {
	b := given(t, "", "cde")
	b.marks(changeOf("abc", "cde", node.StageOpened), 0, 0, 1, 2)
	b.tells(0)
	b.holds(0, 9, fmt.Sprintf("3 a,b,c 1 %d", b.ms(8*time.Second)))
	if b.c.newcomer {
		t.Error("it gives way to clients that are shut out")
	}
}

// No vote counts before our entry was left, and none that may be believed in for longer than it lives.
func TestEntryIsALeaseOnAsking(t *testing.T) {
	b := newBench(t, 3)
	b.strict, b.deaf = true, all(3)
	for i := range 3 {
		b.enrol(i)
	}
	w := b.acquire("x", func(r *Request) { r.Attempts = 1 })
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.Absent)
	}
	if a := b.answer(w).Answers[0]; a.Verdict != VerdictNotAsked || a.Err != FaultNoEntry {
		t.Errorf("%+v", a)
	}

	b = newBench(t, 3)
	b.strict = true
	for i := range 3 {
		b.enrol(i)
	}
	for range 10 { // in ordinary life it costs nothing
		b.advance(b.c.settings.signEvery())
	}
	l := b.hold("x")
	b.deaf = all(3)
	last := b.now()
	for b.now() < last.Add(b.c.settings.signedFor()-b.c.settings.MaxTTL-b.c.terms.RenewEvery) {
		b.round(nil)
	}
	if l.Err() != nil {
		t.Fatal(l.Err())
	}
	for range 4 {
		b.round(nil)
	}
	if until := b.c.nodes[0].entry.until; l.Err() == nil && l.Remaining() > until.Sub(b.now()) {
		t.Errorf("believed for longer than our entry lives, which ends in %v", until.Sub(b.now()))
	}
}

// An entry counts from when it was sent: the node may have taken it at once.
func TestEntryCountsFromItsSending(t *testing.T) {
	b := newBench(t, 1)
	b.strict, b.deaf = true, all(1)
	b.enrol(0)
	sign, sent := to(b.signs, 0), b.now()
	b.clock.Advance(time.Second)
	b.c.Receive(b.now(), node.Batch{Node: 0, State: b.c.nodes[0].state, Replies: []node.Reply{{ID: sign.cmd.ID, Op: node.Sign, Status: node.OK}}})
	b.perform()
	if e := &b.c.nodes[0].entry; e.until == 0 || e.until >= sent.Add(b.c.settings.signedFor()) {
		t.Errorf("it counts until %v after it was sent, for %v", e.until.Sub(sent), b.c.settings.signedFor())
	}
}

// An entry went with the data of its node, so no vote of another life counts before it was left again.
func TestEntryOfAnotherLife(t *testing.T) {
	b := newBench(t, 1)
	b.strict = true
	b.enrol(0)
	if b.c.nodes[0].entry.until == 0 {
		t.Fatal("it was not left")
	}
	b.deaf = all(1)
	b.restart(0)
	if b.c.nodes[0].entry.until != 0 {
		t.Error("it counts in another life")
	}
}

// A process that was stopped for longer than its entries live leaves them anew before it asks.
func TestEntryIsLeftAnew(t *testing.T) {
	b := newBench(t, 3)
	b.strict = true
	for i := range 3 {
		b.enrol(i)
	}
	b.signs = nil
	b.clock.Advance(time.Hour)
	w := b.acquire("x")
	if len(b.signs) != 3 {
		t.Errorf("%d entries are left", len(b.signs))
	}
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(w)
}

// An election is not won while the entries of a node are unread that was just enrolled. One that hangs
// does not keep it for long.
func TestEntriesAreReadFirst(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		b := newBench(t, 3)
		for i := range 2 {
			b.enrol(i)
		}
		b.deaf.add(2)
		b.enrol(2)
		sign := to(b.signs, 2)
		w := b.acquire("x")
		for _, s := range b.take(node.Grant)[:2] {
			b.say(s, node.OK)
		}
		b.waits(w)
		if hangs {
			b.advance(b.c.patienceToRead(2))
		} else {
			b.c.Receive(b.now(), node.Batch{Node: 2, State: b.c.nodes[2].state, Replies: []node.Reply{{ID: sign.cmd.ID, Op: node.Sign}}})
			b.perform()
			b.advance(0)
		}
		b.got(w)
	}
}

// A process that was stopped for longer than its entries live reads what was left meanwhile before it wins:
// also by a node that has not voted for it.
func TestEntriesAreReadAfterAStop(t *testing.T) {
	b := newBench(t, 3)
	b.strict = true
	for i := range 3 {
		b.enrol(i)
	}
	b.deaf.add(2)
	b.advance(time.Hour)
	b.signs = nil
	w := b.acquire("x")
	sign := to(b.signs, 2)
	for _, s := range b.take(node.Grant)[:2] {
		b.say(s, node.OK)
	}
	b.waits(w)
	b.c.Receive(b.now(), node.Batch{Node: 2, State: b.c.nodes[2].state, Replies: []node.Reply{{ID: sign.cmd.ID, Op: node.Sign}}})
	b.advance(0)
	b.got(w)
}

// A caller that has waited for entries, and wants any of several names, leaves all other lines as soon as
// it has one.
func TestAnyWaitsForEntries(t *testing.T) {
	b := newBench(t, 3)
	for i := range 2 {
		b.enrol(i)
	}
	w, tokens := b.standAny("x", "y", "z")
	b.announce(tokens["x"], 0, 1)
	claims := b.take(node.Claim)
	b.deaf.add(2)
	b.enrol(2)
	sign := to(b.signs, 2)
	for _, s := range claims[:2] {
		b.say(s, node.OK)
	}
	b.waits(w)
	b.c.Receive(b.now(), node.Batch{Node: 2, State: b.c.nodes[2].state, Replies: []node.Reply{{ID: sign.cmd.ID, Op: node.Sign}}})
	b.advance(0)
	b.got(w)
}

// An entry that gets another text, because more nodes were met, is as old as before; one that tells
// other lists is not, and none of a life that is over.
func TestAgeOfAnEntry(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("a", "b")
	b.tells(0)
	b.holds(0, int(b.ms(-5*time.Second)))
	b.signs = nil
	b.told(2, func(s *node.State) { s.Identity, s.Run = "c", "run-c" })
	if s := to(b.signs, 0); s.cmd.Token != "3 a,b,c" || s.cmd.Age != 5*time.Second {
		t.Errorf("%+v", s.cmd)
	}
	// One that has run out is a new one.
	b.c.nodes[1].entry.since, b.c.nodes[1].entry.until = nodesTime, b.now()
	b.clock.Advance(time.Millisecond)
	b.signs = nil
	b.told(2, func(s *node.State) { s.Identity, s.Run = "d", "run-d" })
	if s := to(b.signs, 1); s.cmd.Token != "3 a,b,d" || s.cmd.Age != 0 {
		t.Errorf("it had run out: %+v", s.cmd)
	}
	b.identify("a", "b", "c")
	b.signs = nil
	b.begins()
	for _, s := range b.signs {
		if s.cmd.Age != 0 {
			t.Errorf("node %d: %v", s.node, s.cmd.Age)
		}
	}
}

// A process that was told both lists copies the entries of others from one list to the other, for what
// is left of their lives, and not back.
func TestEntriesAreRelayed(t *testing.T) {
	b := given(t, "abc", "def") // def are 0 to 2, and abc 3 to 5
	for i := range 6 {
		b.tells(i)
	}
	b.signs = nil
	b.holds(3, 1, fmt.Sprintf("3 a,b,c %d %d", b.ms(-time.Minute), b.ms(4*time.Second)))
	copies := func() (of []send) {
		for _, s := range b.signs {
			if s.cmd.ID == relayed {
				of = append(of, s)
			}
		}
		b.signs = nil
		return of
	}
	got := copies()
	b.wantNodes(got, 0, 1, 2)
	for _, s := range got {
		if s.cmd.Token != "3 a,b,c" || s.cmd.TTL != 4*time.Second+b.c.settings.signEvery()/4 || s.cmd.Age != time.Minute {
			t.Errorf("%+v", s.cmd)
		}
	}
	b.holds(0, 1, fmt.Sprintf("3 a,b,c %d %d", b.ms(-time.Minute), b.ms(4*time.Second+5*time.Millisecond)))
	b.holds(4, 1, fmt.Sprintf("3 a,b,c %d %d", b.ms(-time.Minute), b.ms(4*time.Second)))
	if got := copies(); len(got) > 0 {
		for _, s := range got {
			if s.node < 4 { // where it was not read yet
				t.Errorf("copied again to node %d", s.node)
			}
		}
	}
	// A copy is not over before the original, nor younger than the oldest.
	b.holds(4, 1, fmt.Sprintf("3 a,b,c %d %d", b.ms(-2*time.Minute), b.ms(4*time.Second+b.c.settings.signEvery()/3)))
	got = copies()
	b.wantNodes(got, 0, 1, 2)
	b.holds(5, 1, fmt.Sprintf("3 a,b,c %d %d", b.ms(-time.Second), b.ms(5*time.Second)))
	for _, s := range append(got, copies()...) {
		if s.cmd.Age != 2*time.Minute {
			t.Errorf("%+v: want the age of the oldest", s.cmd)
		}
	}
	// Of another list it is not known which is the copy.
	b.holds(0, 1, fmt.Sprintf("3 x,y,z %d %d", b.ms(-time.Minute), b.ms(4*time.Second)))
	b.wantNodes(copies(), 3, 4, 5)
	b.holds(3, 1, fmt.Sprintf("3 x,y,z %d %d", b.ms(-time.Minute), b.ms(4*time.Second+5*time.Millisecond)))
	for _, s := range copies() {
		if s.node == 0 {
			t.Error("copied back")
		}
	}
	lone := given(t, "", "abc")
	lone.holds(0, 1, fmt.Sprintf("3 d,e,f 2 %d", lone.ms(4*time.Second)))
	for _, s := range lone.signs {
		if s.cmd.ID == relayed {
			t.Error("copied by a process that was told one list")
		}
	}
	if b.c.nodes[0].entry.until == clock.Never && b.strict {
		t.Error("a copy counts as our own")
	}
}
