package core

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// told has a node say something of its state.
func (b *bench) told(i int, change func(*node.State)) {
	s := b.c.nodes[i].state
	change(&s)
	b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	b.perform()
}

// confirmedBy has a node confirm its marker.
func (b *bench) confirmedBy(i int) {
	b.told(i, func(s *node.State) { s.MarkedAt = b.now() })
}

// grown takes the commands that have a marker say that its node is grown.
func (b *bench) grown() (nodes []int) {
	for _, s := range b.signs {
		if s.cmd.Grown {
			nodes = append(nodes, s.node)
		}
	}
	b.signs = nil
	return nodes
}

// The window of a node that forgot is that of MaxTTLCap until so many others have
// confirmed their markers, to what was sent since, that every quorum which may have
// granted a longer lease has one of them; then that of the largest MaxTTL told.
func TestWindowIsKnownByOthers(t *testing.T) {
	for n, others := range map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 5: 3} {
		b := enrolled(t, n)
		longest := b.c.settings.Window(b.c.settings.MaxTTLCap)
		b.restart(0)
		young := func() time.Duration { return b.c.youngUntil(0).Sub(b.c.nodes[0].state.LifeAt) }
		for i := 1; i < n; i++ {
			if got := young(); got != longest && i <= others {
				t.Errorf("n=%d: window %v by the word of %d others, want %v", n, got, i-1, longest)
			}
			b.confirmedBy(i) // to what was sent at the very instant, and so before
			b.clock.Advance(time.Millisecond)
			b.confirmedBy(i)
		}
		want := b.c.settings.Window(b.c.settings.MaxTTL)
		if n == 1 {
			want = longest // nobody else can tell
		}
		if got := young(); got != want {
			t.Errorf("n=%d: window %v by the word of all others, want %v", n, got, want)
		}
	}
}

// A node that is young itself confirms nothing: it may have forgotten the same lease.
func TestTheYoungConfirmNothing(t *testing.T) {
	b := enrolled(t, 3)
	b.restart(0)
	b.restart(1)
	b.clock.Advance(time.Millisecond)
	b.confirmedBy(1)
	b.confirmedBy(2)
	if b.c.nodes[0].known || b.c.nodes[1].known {
		t.Error("known by the word of a young node")
	}
	// What one has confirmed while it was young does not count when it is grown.
	b.told(1, func(s *node.State) { s.Grown = true; s.MarkedAt = b.c.nodes[0].state.LifeAt })
	if b.c.nodes[0].known {
		t.Error("known by what was sent before")
	}
	b.confirmedBy(1)
	if !b.c.nodes[0].known {
		t.Error("not known by the word of two that are grown")
	}
	// Another life has to be known anew.
	b.restart(0)
	if b.c.nodes[0].known {
		t.Error("known before anybody was asked")
	}
}

// As soon as a node is known to be young the others are asked, so that its window is
// known a round trip later.
func TestOthersAreAskedForTheWindow(t *testing.T) {
	b := enrolled(t, 3)
	b.signs = nil
	b.restart(0)
	asked := map[int]bool{}
	for _, s := range b.signs {
		asked[s.node] = true
	}
	if !asked[1] || !asked[2] {
		t.Errorf("asked %v", asked)
	}
}

// The largest MaxTTL that any node has ever told widens the window of all, and the wait
// of a heal.
func TestWidestMaxTTL(t *testing.T) {
	b := enrolled(t, 3)
	b.told(2, func(s *node.State) { s.MaxTTL = 8 * time.Second })
	b.told(2, func(s *node.State) { s.MaxTTL = b.c.settings.MaxTTL }) // it was emptied
	b.restart(0)
	b.clock.Advance(time.Millisecond)
	b.confirmedBy(1)
	b.confirmedBy(2)
	life := b.c.nodes[0].state.LifeAt
	if got, want := b.c.youngUntil(0).Sub(life), b.c.settings.Window(8*time.Second); got != want {
		t.Errorf("window %v, want %v", got, want)
	}
	for _, believed := range []bool{false, true} {
		if got, want := b.c.healFrom(0, believed).Sub(life), 2*time.Second+b.c.settings.DriftOf(8*time.Second); got != want {
			t.Errorf("healed after %v, want %v", got, want)
		}
	}
	if b.c.settings.Window(8*time.Second) != 8*time.Second+8*time.Second/100+2*time.Millisecond {
		t.Error("a window without its drift")
	}
	b.c.settings.GuardWindow = time.Hour
	if got := b.c.youngUntil(0).Sub(life); got != time.Hour {
		t.Errorf("window %v, want the configured hour", got)
	}
}

// When its window is over a node's marker is told that it is grown, until it says so; and
// not when it has begun another life meanwhile.
func TestGrownIsWritten(t *testing.T) {
	b := enrolled(t, 3)
	b.restart(0)
	b.clock.Advance(time.Millisecond)
	b.confirmedBy(1)
	b.confirmedBy(2)
	b.grown()
	left := b.c.youngUntil(0).Sub(b.now())
	b.advance(left - 1)
	if got := b.grown(); len(got) != 0 {
		t.Fatalf("%v were said to be grown before", got)
	}
	b.advance(1)
	if got := b.grown(); len(got) != 1 || got[0] != 0 {
		t.Fatalf("%v are said to be grown, want node 0", got)
	}
	b.advance(b.c.settings.NodeTimeout)
	if got := b.grown(); len(got) != 1 {
		t.Errorf("%v: want it said again", got)
	}
	b.told(0, func(s *node.State) { s.Grown = true })
	b.advance(b.c.settings.NodeTimeout)
	if got := b.grown(); len(got) != 0 {
		t.Errorf("%v: said to one that knows it", got)
	}
	b.restart(0)
	b.advance(b.c.settings.NodeTimeout)
	if got := b.grown(); len(got) != 0 || b.c.youngUntil(0) < b.now() {
		t.Errorf("%v: a new life is grown", got)
	}
}

// An attempt may come at the very end of a window, before the alarm of that instant is
// heard. The markers are told first then, or the nodes would refuse their votes.
func TestGrownIsWrittenBeforeAVote(t *testing.T) {
	b := enrolled(t, 3)
	for i := range 3 {
		b.restart(i)
	}
	b.grown()
	b.clock.Advance(b.c.youngUntil(0).Sub(b.now()))
	b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
	if got := b.grown(); len(got) != 3 {
		t.Errorf("%v were said to be grown, want all", got)
	}
	b.advance(0)
	if got := b.grown(); len(got) != 0 {
		t.Errorf("%v were said to be grown twice", got)
	}
}

// found has a node tell the fingerprints that were left on it, each with the time until which it
// counts.
func (b *bench) found(i int, texts ...string) {
	value := b.c.text + " 1 9000000\n" // we were there before
	for _, x := range texts {
		at := strings.LastIndexByte(x, ' ')
		value += x[:at] + " 2" + x[at:] + "\n"
	}
	if b.entries == nil {
		b.entries = make(map[int]string)
	}
	b.entries[i] = strings.TrimSuffix(value, "\n")
	r := node.Reply{ID: uint64(b.now()), Op: node.Sign, Status: node.OK, Value: b.entries[i]}
	b.c.Receive(b.now(), node.Batch{Node: i, State: b.c.nodes[i].state, Replies: []node.Reply{r}})
	b.perform()
}

// electorate gives the nodes identities.
func (b *bench) identify(ids ...string) {
	for i, id := range ids {
		b.told(i, func(s *node.State) { s.Identity, s.Run = id, "run-"+id })
	}
}

// A client leaves how many nodes it has, and the identities of those that it has met.
func TestFingerprint(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("c", "a")
	if b.c.text != "3 a,c" {
		t.Errorf("%q", b.c.text)
	}
	b.signs = nil
	b.told(2, func(s *node.State) { s.Identity, s.Run = "b", "run-b" })
	for i := range 3 {
		if s := to(b.signs, i); s.cmd.Token != "3 a,b,c" || s.cmd.TTL != b.c.settings.signedFor() {
			t.Errorf("%+v", s.cmd)
		}
	}
	b.signs = nil
	b.advance(b.c.settings.signEvery())
	if len(b.signs) != 3 {
		t.Errorf("%d: want it left on each again", len(b.signs))
	}
}

// Another number of nodes is told at once; another identity only if it is signed for
// again, because the others learn late that a node was emptied.
func TestDisagreement(t *testing.T) {
	for name, c := range map[string]struct {
		once, again string
		at          int // 1: told at once, 2: when it is signed for again; 0: never
	}{
		"our own":                     {"3 a,b,c 60000", "3 a,b,c 90000", 0},
		"one who has not met all":     {"3 a,c 60000", "3 a,c 90000", 0},
		"one more":                    {"4 a,b,c,d 60000", "4 a,b,c,d 90000", 1},
		"five of which none is met":   {"5  60000", "5  90000", 1},
		"one of another":              {"1 a 60000", "1 a 90000", 1},
		"another one":                 {"3 a,b,x 60000", "3 a,b,x 90000", 2},
		"another one, not signed for": {"3 a,b,x 60000", "3 a,b,x 60000", 0},
		"two of which one is ours":    {"3 a,x 60000", "3 a,x 90000", 2},
		"not a fingerprint":           {"none 60000", "x y z", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 3)
			b.identify("a", "b", "c")
			b.warned = nil
			for k, text := range []string{c.once, c.again} {
				b.found(1, text)
				said := b.c.nodes[1].disagreement
				if want := c.at != 0 && k+1 >= c.at; (said.Nodes != 0) != want {
					t.Fatalf("the %d. time: %+v", k+1, said)
				}
			}
			if n := len(b.warned); n != min(c.at, 1) {
				t.Errorf("%d warnings", n)
			}
			if c.at != 0 {
				w := b.acquire("x", func(w *Request) { w.Attempts = 1 })
				for _, s := range b.take(node.Grant) {
					b.say(s, node.Unsent)
				}
				if e := b.refused(w, ReasonNoQuorum); e.Disagreement.Nodes == 0 || e.Disagreement.Node != 1 {
					t.Errorf("%+v", e)
				}
			}
			b.found(1, "3 a,b,c 120000")
			if said := b.c.nodes[1].disagreement; said.Nodes != 0 {
				t.Errorf("%+v when they are gone", said)
			}
		})
	}
}

// Two connections to one database of one server are no two votes: everybody who waits is
// told at once, and so is who comes next, until it is mended. Nothing that the second
// one says counts.
func TestOneServerTwice(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("a", "b")
	waiting := b.acquire("x")
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
	b.told(2, func(s *node.State) { s.Identity, s.Run = "a", "run-a" })
	e := b.refused(waiting, ReasonMisconfigured)
	if e.Twins != (Twins{0, 2}) {
		t.Errorf("%+v", e)
	}
	b.refused(b.acquire("y"), ReasonMisconfigured)
	b.refused(b.adopt("z"), ReasonMisconfigured)
	b.wantNodes(b.take(node.Grant))
	b.told(2, func(s *node.State) { s.Identity, s.Run, s.Life = "c", "run-c", 2 })
	b.hold("y")
}

// A lease that is held does not count the same server twice either.
func TestOneServerTwiceUnderALease(t *testing.T) {
	b := enrolled(t, 3)
	b.identify("a", "b", "c")
	l := b.hold("x")
	b.told(2, func(s *node.State) { s.Identity, s.Run, s.Life = "a", "run-a", 2 })
	for range 4 {
		b.round(map[int]node.Status{1: node.Unknown})
	}
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Errorf("Err() = %v: held by one server of three", l.Err())
	}
}

// Two databases of one server are two nodes that fail together: a warning.
func TestTwoDatabases(t *testing.T) {
	b := enrolled(t, 3)
	b.warned = nil
	b.identify("a", "b")
	b.told(2, func(s *node.State) { s.Identity, s.Run = "c", "run-a" })
	if len(b.warned) != 1 || b.warned[0] != (Warning{Kind: WarnDatabases, Node: 2, Other: 0}) {
		t.Errorf("%v", b.warned)
	}
	b.hold("x")
}

// Clocks of nodes that differ are told once, and again after they had agreed.
func TestClocksApart(t *testing.T) {
	b := enrolled(t, 3)
	set := func(d time.Duration) {
		for i := range 3 {
			b.told(i, func(s *node.State) { s.OffsetAt = b.now() })
		}
		b.told(1, func(s *node.State) { s.Offset = nodesTime + d })
		b.advance(b.c.settings.signEvery())
	}
	for _, c := range []struct {
		by   time.Duration
		want int
	}{{clocksApart, 0}, {-2 * time.Hour, 1}, {-time.Hour, 1}, {0, 1}, {time.Minute, 2}} {
		set(c.by)
		if len(b.warned) != c.want {
			t.Fatalf("%d warnings with clocks %v apart, want %d: %v", len(b.warned), c.by, c.want, b.warned)
		}
	}
	if w := b.warned[0]; w.Kind != WarnClocksApart || w.Time != 2*time.Hour || w.Other != 1 {
		t.Errorf("%+v", w)
	}
}

// Offsets that are old, or of nodes that are not reached, count only without a quorum of
// others.
func TestStaleOffsets(t *testing.T) {
	median := func(b *bench) time.Duration {
		fence, ok := b.c.proposal(b.now(), 0)
		if !ok {
			t.Fatal("no proposal")
		}
		return time.Duration(fence)*time.Microsecond - time.Duration(b.now()) - nodesTime
	}
	b := enrolled(t, 5)
	for i, d := range []time.Duration{0, 1, 2, 30, 40} {
		b.told(i, func(s *node.State) { s.Offset = nodesTime + d*time.Hour })
	}
	if got := median(b); got != 2*time.Hour {
		t.Errorf("%v", got)
	}
	b.drop(0)
	b.drop(1)
	if got := median(b); got != 30*time.Hour {
		t.Errorf("%v: want the median of those that are reached", got)
	}
	b.drop(2)
	if got := median(b); got != 2*time.Hour {
		t.Errorf("%v: want that of all, where those that are reached are no quorum", got)
	}
	b = enrolled(t, 3)
	b.told(0, func(s *node.State) { s.Offset = nodesTime + 5*time.Hour })
	b.clock.Advance(2 * time.Minute)
	for _, i := range []int{1, 2} {
		b.told(i, func(s *node.State) { s.OffsetAt = b.now() })
	}
	b.told(2, func(s *node.State) { s.Offset = nodesTime + time.Hour })
	if got := median(b); got != 0 {
		t.Errorf("%v: an old one counts", got)
	}
}

// The largest fence is handed out, and then none: the same one twice would order nothing.
func TestFenceExhausted(t *testing.T) {
	const last = maxFence - 1
	for _, how := range []string{"acquire", "adopt"} {
		b := enrolled(t, 1)
		var w Call
		var op node.Op
		begin := func() {
			if how == "acquire" {
				w, op = b.acquire("x", func(w *Request) { w.Once, w.Attempts = true, 1 }), node.Grant
			} else {
				w, op = b.adopt("x"), node.Adopt
			}
		}
		stored := func(fence uint64) {
			b.say(b.take(op)[0], node.OK, func(r *node.Reply) { r.Raised, r.Fence = false, fence })
			raise := b.take(node.Raise)
			if len(raise) == 0 {
				return // it was known, and cannot grow
			}
			b.say(raise[0], node.OK, func(r *node.Reply) { r.Fence = fence })
			for _, s := range b.take(node.Raise) {
				b.say(s, node.OK, func(r *node.Reply) { r.Fence = raise[0].cmd.Fence })
			}
		}
		begin()
		stored(last)
		if l := b.got(w); l.Fence() != maxFence {
			t.Errorf("%s: fence %d, want %d", how, l.Fence(), uint64(maxFence))
		}
		b.c.disown(b.now(), b.c.lines["x"].holder)
		b.perform()
		begin()
		stored(maxFence)
		b.refused(w, ReasonFenceExhausted)
		if b.c.tenures.len() != 0 && how == "adopt" {
			t.Errorf("%s: %d tenures are left", how, b.c.tenures.len())
		}
	}
}

// That so many nodes are young that nothing can be acquired is told once each time, and
// for how long.
func TestYoungNodesAreTold(t *testing.T) {
	b := enrolled(t, 3)
	b.restart(0)
	if len(b.young) != 0 {
		t.Fatal("told of one node of three")
	}
	b.restart(1)
	b.restart(1)
	if want := b.c.settings.Window(b.c.settings.MaxTTLCap); len(b.young) != 1 || b.young[0].Elapsed != want {
		t.Fatalf("%v: want it told once, for %v", b.young, want)
	}
	for i := range 2 {
		b.told(i, func(s *node.State) { s.Grown = true })
	}
	b.restart(0)
	b.restart(2)
	if len(b.young) != 2 {
		t.Errorf("told %d times", len(b.young))
	}
}

// A node that is down is as little help as a young one: with one of each, of three, nothing can be
// acquired for as long as the young one is young. If no time helps, as two are down, nothing is told.
func TestYoungNodesAreToldWithThoseThatAreDown(t *testing.T) {
	b := enrolled(t, 3)
	window := b.c.settings.Window(b.c.settings.MaxTTLCap)
	down := func(i int) { b.told(i, func(s *node.State) { s.Enrolled, s.Err = false, errors.New("refused") }) }
	down(0)
	down(1)
	if len(b.young) != 0 {
		t.Fatal("told, and none is young")
	}
	b.restart(1)
	if len(b.young) != 1 || b.young[0].Elapsed != window || b.young[0].Warning.Count != 1 || b.young[0].Warning.Down != 1 {
		t.Fatalf("%+v: want it told once, of one young and one down, for %v", b.young, window)
	}
	b.restart(1)
	if len(b.young) != 1 {
		t.Errorf("told %d times of one time", len(b.young))
	}
	down(2)
	if len(b.young) != 1 {
		t.Error("told that time will help, but two are down")
	}
	b.told(0, func(s *node.State) { s.Enrolled, s.Err = true, nil })
	b.told(2, func(s *node.State) { s.Enrolled, s.Err = true, nil })
	if len(b.young) != 1 {
		t.Error("told of one young node of three")
	}
	down(0)
	if len(b.young) != 2 {
		t.Errorf("told %d times, want 2: one more has gone while one is young", len(b.young))
	}
}

// Without a guard nodes have no identity: then the number of the database tells two from
// one. That of a client which was lent is not known.
func TestOneServerTwiceWithoutGuard(t *testing.T) {
	for _, c := range []struct {
		first, second int
		broken        bool
	}{{0, 0, true}, {0, 1, false}, {-1, -1, false}, {-1, 0, false}} {
		b := enrolled(t, 3)
		for i, db := range []int{c.first, c.second} {
			b.told(i, func(s *node.State) { s.Guarded, s.Run, s.Database, s.Life = false, "run", db, 2 })
		}
		if twins := b.c.twins(); (twins != Twins{}) != c.broken {
			t.Errorf("databases %d and %d: %v", c.first, c.second, twins)
		}
	}
}
