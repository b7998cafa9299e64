package core

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// An adoption that is under way when two nodes turn out to be one server ends as well, and
// deletes nothing.
func TestOneServerTwiceEndsAdoptions(t *testing.T) {
	for _, waits := range []bool{false, true} {
		b := enrolled(t, 3)
		b.identify("a", "b")
		w := b.adoptAfter("x", false)
		swaps := b.take(node.Adopt)
		b.say(swaps[0], node.OK, left(time.Second))
		if waits { // for its former holder
			b.say(swaps[1], node.OK, left(time.Second))
		}
		b.waits(w)
		b.told(2, func(s *node.State) { s.Identity, s.Run = "a", "run-a" })
		b.refused(w, ReasonMisconfigured)
		b.wantNodes(b.take(node.Release))
	}
}

// It is mended when either of the two is another server.
func TestOneServerTwiceNoLonger(t *testing.T) {
	for _, mended := range []int{0, 2} {
		b := enrolled(t, 3)
		b.identify("a", "b")
		b.told(2, func(s *node.State) { s.Identity, s.Run = "a", "run-a" })
		b.refused(b.acquire("x"), ReasonMisconfigured)
		b.told(mended, func(s *node.State) { s.Identity, s.Run, s.Life = "c", "run-c", s.Life+1 })
		b.hold("x")
		if got := b.c.lines["x"].holder.counting(); got != all(3) {
			t.Errorf("node %d was mended: counting %b", mended, got)
		}
		b.told(1, func(s *node.State) { s.Identity, s.Run, s.Life = "c", "run-c", s.Life+1 })
		b.refused(b.acquire("y"), ReasonMisconfigured)
		if n := len(b.warned); n != 2 {
			t.Errorf("%d warnings, want one for each time", n)
		}
	}
}

// The three of one server are told as such: none of the others counts.
func TestOneServerThrice(t *testing.T) {
	b := enrolled(t, 5)
	b.identify("a", "b", "a", "a", "c")
	for i, twin := range []bool{false, false, true, true, false} {
		if got := b.c.nodes[i].twin != 0; got != twin {
			t.Errorf("node %d is the same as another: %v", i, got)
		}
	}
	b.told(0, func(s *node.State) { s.Identity, s.Run = "d", "run-d" })
	if twins := b.c.twins(); twins != (Twins{2, 3}) {
		t.Errorf("two of them are left: %v", twins)
	}
}

// Clocks are compared if they were read lately, of nodes that are reached.
func TestClocksApartOfThePresent(t *testing.T) {
	for _, how := range []string{"reached", "gone", "old"} {
		b := enrolled(t, 3)
		b.told(1, func(s *node.State) { s.Offset += time.Hour })
		b.warned = nil
		switch how {
		case "gone":
			b.drop(1)
		case "old":
			b.clock.Advance(offsetFor + 1)
			for _, i := range []int{0, 2} {
				b.told(i, func(s *node.State) { s.OffsetAt = b.now() })
			}
		}
		b.c.warnIfApart(b.now())
		b.perform()
		if told := len(b.warned) > 0; told != (how == "reached") {
			t.Errorf("%s: told %v", how, told)
		}
	}
}

// Another client's MaxTTL that is above our cap is told, once.
func TestMaxTTLAboveTheCap(t *testing.T) {
	b := newBench(t, 3)
	for _, maxTTL := range []time.Duration{b.c.settings.MaxTTLCap, b.c.settings.MaxTTLCap + 1, b.c.settings.MaxTTLCap + 2} {
		s := b.state()
		s.MaxTTL = maxTTL
		s.Enrolled = false
		b.c.Receive(b.now(), node.Batch{Node: 1, State: s})
		s.Enrolled = true
		b.c.Receive(b.now(), node.Batch{Node: 1, State: s})
		b.perform()
		if n := len(b.warned); n != min(1, int(maxTTL-b.c.settings.MaxTTLCap)) {
			t.Errorf("%d warnings of %v", n, maxTTL)
		}
	}
	if w := b.warned[0]; w.Kind != WarnCap || w.Node != 1 || w.Time != b.c.settings.MaxTTLCap+1 {
		t.Errorf("%+v", w)
	}
}
