package supervisor

import (
	"testing"
	"testing/synctest"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// More than half of the nodes that are configured, whatever their number.
func TestQuorumOfTheConfigured(t *testing.T) {
	for n, want := range []int{1: 1, 2, 2, 3, 3, 4, 4} {
		if n == 0 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			nodes := nodetest.Start(n)
			s, err := New(Config{Nodes: nodetest.Conns(nodes), Clock: clock.Runtime()})
			if err != nil {
				t.Fatal(err)
			}
			if s.core.quorum != want {
				t.Errorf("a quorum of %d of %d nodes, want %d", s.core.quorum, n, want)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			for _, x := range nodes {
				x.Close()
			}
		})
	}
}

// A node that confirmed a trial and then turns out to have been taken itself
// confirms nothing.
func TestSuspectsConfirmNothing(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	b.round(map[int]node.Status{0: node.Absent})
	b.round(map[int]node.Status{0: node.Absent}) // it is healed a renewal interval later
	b.say(b.take(node.Heal)[0], node.OK)
	b.advance(b.c.terms.renewEvery)
	first := b.take(node.Renew)
	for _, i := range []int{0, 1, 2} {
		b.say(to(first, i), node.OK)
	}
	b.say(to(first, 3), node.Unknown)
	b.say(to(first, 4), node.Unknown)
	held := b.c.lines["x"].holder
	if held.counting().has(0) {
		t.Fatal("it counts by the word of two others")
	}
	b.advance(b.c.terms.renewEvery)
	second := b.take(node.Renew)
	b.say(to(second, 1), node.Absent)
	b.say(to(second, 3), node.OK)
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	if held.counting().has(0) {
		t.Fatal("it counts by the word of one that was taken itself")
	}
	b.say(to(second, 4), node.OK)
	if !held.counting().has(0) {
		t.Fatal("it does not count by the word of three others")
	}
}
