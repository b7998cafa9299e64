package core

import (
	"slices"

	"github.com/leasehold-go/leasehold/clock"
)

// An electorate is a set of nodes that decide together, and how many of them are a quorum.
type electorate struct {
	nodes  nodeSet
	quorum int
}

// electorateOf returns the electorate of these nodes: more than half of them are a quorum. See
// invariant 1 of package supervisor.
func electorateOf(nodes nodeSet) electorate { return electorate{nodes, QuorumOf(nodes.len())} }

// quorumIn reports whether a quorum is among the given nodes.
func (e *electorate) quorumIn(nodes nodeSet) bool { return (nodes & e.nodes).len() >= e.quorum }

// A mode is what a lease rests on: on one electorate, or on two while the nodes are being changed.
// Whatever needs a quorum needs one of each. All that counts nodes asks a mode. See invariant 26 of
// package supervisor.
type mode struct {
	first  electorate // the former one, if there are two
	second electorate // without nodes, and with a quorum of 0, if there is one only
}

// A modeKind says which electorates a lease rests on. It is kept with each tenure, so it is small.
type modeKind uint8

const (
	modePresent modeKind = iota // the only one there is without a former list
	modeFormer
	modeBoth
	modeKinds
)

// setModes sets the electorates of this process.
func (c *Core) setModes(former, present nodeSet) {
	c.all = former | present
	c.modes, c.toldKind = [modeKinds]mode{modePresent: {first: electorateOf(present)}}, modePresent
	if former != 0 {
		c.toldKind = modeBoth
		c.modes[modeFormer].first = electorateOf(former)
		c.modes[modeBoth] = mode{electorateOf(former), electorateOf(present)}
	}
}

// setOf returns the set of some nodes.
func setOf(nodes []int) (s nodeSet) {
	for _, i := range nodes {
		s.add(i)
	}
	return s
}

// former and present return the electorates of the two lists. There is no former one without a
// change.
func (c *Core) former() *electorate  { return &c.modes[modeFormer].first }
func (c *Core) present() *electorate { return &c.modes[modePresent].first }

// mode returns what a tenure rests on.
func (c *Core) mode(t *tenure) *mode { return &c.modes[t.mode] }

// told returns the electorates that this process was given: an election needs a quorum of each.
func (c *Core) told() *mode { return &c.modes[c.toldKind] }

// isDouble reports whether there are two electorates.
func (m *mode) isDouble() bool { return m.second.quorum != 0 }

// reached reports whether a quorum of each is among the given nodes.
func (m *mode) reached(nodes nodeSet) bool {
	return m.first.quorumIn(nodes) && m.second.quorumIn(nodes)
}

// reachedWithout reports whether a quorum of each is among all nodes but the given ones.
func (m *mode) reachedWithout(nodes nodeSet) bool { return m.reached(^nodes) }

// reachedByOne reports whether a quorum of one of the electorates is among the given nodes.
func (m *mode) reachedByOne(nodes nodeSet) bool {
	return m.first.quorumIn(nodes) || m.isDouble() && m.second.quorumIn(nodes)
}

// informedBy reports whether every lease that node i may have voted for is known to one of the given
// others as well: each quorum with node i has one of them.
func (m *mode) informedBy(others nodeSet, i int) bool {
	others.del(i)
	return m.first.meets(others, i) && m.second.meets(others, i)
}

func (e *electorate) meets(others nodeSet, i int) bool {
	return !e.nodes.has(i) || (others&e.nodes).len() >= e.nodes.len()-e.quorum+1
}

// deadline returns the instant up to which a quorum of each of the nodes in count surely keeps the
// lease: the earlier one of the two. It is 0 if they are too few. See invariant 3 of package
// supervisor.
func (m *mode) deadline(votes []vote, count nodeSet) clock.Instant {
	at := deadline(votes, count&m.first.nodes, m.first.quorum)
	if m.isDouble() {
		at = min(at, deadline(votes, count&m.second.nodes, m.second.quorum))
	}
	return at
}

// keptUntil reports whether a quorum of each surely keeps the lease up to an instant.
func (m *mode) keptUntil(votes []vote, at clock.Instant) bool {
	var keep nodeSet
	for i := range votes {
		if votes[i].until >= at {
			keep.add(i)
		}
	}
	return m.reached(keep)
}

// byQuorum returns the least value that is no less than that of a quorum of each electorate: by
// then so many have done what each does by its own. at has one value of each node.
func byQuorum[T ~int64](m *mode, at []T) T {
	by := byQuorumOf(&m.first, at)
	if m.isDouble() {
		by = max(by, byQuorumOf(&m.second, at))
	}
	return by
}

func byQuorumOf[T ~int64](e *electorate, at []T) T {
	var buf [MaxNodes]T
	values := buf[:0]
	for i := range at {
		if e.nodes.has(i) {
			values = append(values, at[i])
		}
	}
	slices.Sort(values)
	return values[e.quorum-1]
}
