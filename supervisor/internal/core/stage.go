package core

import (
	"slices"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file keeps clients apart that were given different lists while the nodes are being changed.
// Clients of the former list alone and clients of the present list alone may have no node in common.
// So each node keeps, with its marker, how far the change has come, and a vote counts only if the
// stage that was enrolled there lets it:
//
//	none     all
//	begun    clients of the former list alone, and of both
//	closed   clients of both
//	opened   clients of both, of the present list alone, and of a list that came after that
//
// See invariant 25 of package supervisor.

// A changing has what is known of a change.
type changing struct {
	alarm                     // before the nodes are told of a change by a process that has not met all of them
	begun  bool               // they were told
	seen   node.Change        // the furthest that a node has ever reported
	floor  uint64             // the largest that a node has ever reported: fences are larger
	barred [modeKinds]nodeSet // nodes whose stage does not let a vote count, by what a lease rests on
	why    Reason             // why nothing is acquired; ReasonNone if it is

	patience clock.Instant // until then a lease rests on both lists only if all present nodes keep it
}

// An advice is what a node was told of a change.
type advice struct {
	change string
	floor  uint64
}

// onMarker handles what the marker of a node says of a change.
func (c *Core) onMarker(now clock.Instant, i int, was *node.State) {
	s, x := &c.nodes[i].state, &c.changing
	if c.toldKind != modeBoth && s.Floor == was.Floor && s.Change.Stage|was.Change.Stage|x.seen.Stage == node.StageNone {
		return
	}
	if s.Enrolled == was.Enrolled && s.Guarded == was.Guarded && s.Grown == was.Grown && s.Identity == was.Identity && s.Floor == was.Floor && sameChange(&s.Change, &was.Change) {
		return
	}
	c.nodes[i].advised = advice{}
	x.floor = max(x.floor, s.Floor)
	x.learn(s.Change)
	c.reviewStages(now)
	c.advanceSoon(now)
}

func sameChange(a, b *node.Change) bool {
	return a.Stage == b.Stage && sameElectorate(&a.Former, &b.Former) && sameElectorate(&a.Present, &b.Present)
}

func sameElectorate(a, b *node.Electorate) bool {
	return a.Nodes == b.Nodes && slices.Equal(a.Identities, b.Identities)
}

// learn remembers a change. It takes the place of another one only if that is over.
func (x *changing) learn(ch node.Change) {
	switch {
	case ch.Stage == node.StageNone:
	case x.seen.Stage == node.StageNone:
		x.seen = ch
	default:
		x.seen, _ = x.seen.Advanced(ch)
	}
}

// ours returns the change between the lists that this process was given.
func (c *Core) ours() node.Change {
	return node.Change{Former: c.describeGrown(c.former()), Present: c.describeGrown(c.present())}
}

// parts reports whether a list may be the former or the present one of a change. One that may be
// either, as its nodes were not all met, counts as one of them only if that has all that were met:
// then a quorum of the list is one of that as well.
func parts(list node.Electorate, ch *node.Change) (former, present bool) {
	_, former = mayBe(list, ch.Former)
	_, present = mayBe(list, ch.Present)
	if former && present {
		unknown, _ := mayBe(ch.Former, list)
		former = unknown == 0
		unknown, _ = mayBe(ch.Present, list)
		present = unknown == 0
	}
	return former, present
}

// isDoubtful reports whether a list may still be the former one of a change and the present one: too few
// of its nodes were met, by us or by those who wrote the change.
func isDoubtful(list node.Electorate, ch *node.Change) bool {
	_, former := mayBe(list, ch.Former)
	_, present := mayBe(list, ch.Present)
	return former && present
}

// succeeds reports whether a list that is not the present one of an opened change came after it: nodes
// were changed one at a time since, or one has lost its identity while no client knew it. The change
// keeps clients of the former list out, so the list must not be that one. It is not if it certainly
// meets the present list, as its leases exclude those of that then. Nor is it if it has another number of
// nodes, or a node that came with the change; a node that left belongs to the former list.
func succeeds(list node.Electorate, ch *node.Change) bool {
	common, came := 0, false
	for _, id := range list.Identities {
		was, is := slices.Contains(ch.Former.Identities, id), slices.Contains(ch.Present.Identities, id)
		switch {
		case was && !is:
			return false
		case is:
			common++
			came = came || !was
		}
	}
	meet := QuorumOf(list.Nodes)+QuorumOf(ch.Present.Nodes) > list.Nodes+ch.Present.Nodes-common
	return meet || came || list.Nodes != ch.Former.Nodes
}

// follows reports whether a change may take the place of another one that a node keeps: if that is
// opened, and begins with the list to which it led, or with one that came after that. What only seems
// to be another one, as a node has lost its identity, must not begin anew: clients of the former list
// would count again.
func follows(next, ch *node.Change) bool {
	_, after := mayBe(next.Former, ch.Present)
	_, before := mayBe(next.Former, ch.Former)
	_, again := mayBe(next.Present, ch.Present)
	again = again && next.Former.Nodes == ch.Former.Nodes
	return ch.Stage == node.StageOpened && !before && (after || !again && succeeds(next.Former, ch))
}

// lets reports whether a stage lets votes of clients count that rest on one list.
func lets(list node.Electorate, ch *node.Change) bool {
	former, present := parts(list, ch)
	return former && ch.Stage <= node.StageBegun ||
		ch.Stage >= node.StageOpened && (present || !former && succeeds(list, ch))
}

// reviewStages finds out what the stages of the nodes allow.
func (c *Core) reviewStages(now clock.Instant) {
	x := &c.changing
	x.barred = [modeKinds]nodeSet{}
	both := c.toldKind == modeBoth
	present := c.describeGrown(c.present())
	var ours node.Change
	if both {
		ours = c.ours()
	}
	why := ReasonNone
	for i := range c.nodes {
		s := &c.nodes[i].state
		ch := &s.Change
		if both && s.Life != 0 && !s.Guarded {
			x.barred[modeBoth].add(i) // without a marker it keeps no stage
		}
		if ch.Stage == node.StageNone {
			continue
		}
		if !lets(present, ch) {
			x.barred[modePresent].add(i)
		}
		if both && !lets(ours.Former, ch) {
			x.barred[modeFormer].add(i)
		}
		same := both && ours.SamePair(*ch)
		if both && !same {
			x.barred[modeBoth].add(i)
		}
		switch {
		case both && !same && !follows(&ours, ch):
			why = ReasonOtherChange
		case !both:
			why = max(why, c.outside(present, ch))
		}
	}
	if !both && x.seen.Stage >= node.StageClosed {
		// What no node says any more is remembered of our own lists only: nodes may have lost their
		// identities since.
		if r := c.outside(present, &x.seen); r != ReasonOtherChange {
			why = max(why, r)
		}
	}
	was := x.why
	x.why = why
	if why != ReasonNone && why != was {
		c.failAll(now, why)
	}
	c.giveWay(now)
}

// outside returns why a process that was given one list acquires nothing while a change has come so
// far as a node has reported, or ReasonNone.
func (c *Core) outside(list node.Electorate, ch *node.Change) Reason {
	former, present := parts(list, ch)
	stage := ch.Stage
	if c.changing.seen.SamePair(*ch) {
		stage = max(stage, c.changing.seen.Stage)
	}
	switch {
	case former && stage <= node.StageBegun, present && stage == node.StageOpened:
		return ReasonNone
	case former:
		return ReasonNodesLeft
	case !present && stage == node.StageOpened && succeeds(list, ch):
		return ReasonNone
	case present:
		return ReasonNotFinished
	case isDoubtful(list, ch): // until more nodes were met no vote of this one counts, and nobody is told
		return ReasonNone
	}
	return ReasonOtherChange
}

// bars returns why a vote of node i does not count for a tenure: its stage does not let it, or our
// entry there would not count for as long. It returns 0 if the vote counts.
func (c *Core) bars(i int, t *tenure) Fault {
	switch {
	case c.changing.barred[t.mode].has(i):
		return FaultBarred
	case c.outlives(i, t.votes.of[i].promise):
		return FaultNoEntry
	}
	return 0
}

// advanceSoon tells the nodes of the change as far as they do not know it. For a moment it waits for
// the nodes that were not met yet: each of them adds to the text, which all clients then read again.
func (c *Core) advanceSoon(now clock.Instant) {
	x := &c.changing
	if c.toldKind != modeBoth && x.seen.Stage == node.StageNone {
		return
	}
	if !x.begun && c.toldKind == modeBoth {
		var met, enrolled nodeSet
		for i := range c.nodes {
			s := &c.nodes[i].state
			if s.Identity != "" {
				met.add(i)
			}
			if s.Enrolled {
				enrolled.add(i)
			}
		}
		if met != c.all {
			if enrolled != 0 && !x.isSet() && !c.closing {
				c.alarms.set(x, now.Add(c.settings.NodeTimeout))
			}
			return
		}
	}
	c.advance(now)
}

func (x *changing) wake(c *Core, now clock.Instant) { c.advance(now) }

// advance tells each node of the change what it does not know: that it has begun, how far it has
// come on another node, and the floor. A process that finds another change tells nothing. A process of
// the former list alone tells nothing, and one of the present list alone, or of one that came after that,
// only that it is opened.
func (c *Core) advance(now clock.Instant) {
	x := &c.changing
	c.alarms.clear(x)
	var told node.Change
	if c.toldKind == modeBoth {
		x.begun = true
		told = c.ours()
		if !c.settings.NoLeases {
			told.Stage = node.StageBegun
		}
		if x.seen.SamePair(told) {
			told.Stage = max(told.Stage, x.seen.Stage)
		}
	} else if former, _ := parts(c.describeGrown(c.present()), &x.seen); !former && x.seen.Stage == node.StageOpened {
		told = x.seen // if nothing speaks against it, see x.why
	}
	if told.Stage == node.StageNone || x.why != ReasonNone || c.closing {
		return
	}
	for i := range c.nodes {
		s := &c.nodes[i].state
		if !s.Enrolled || !s.Guarded || !c.all.has(i) {
			continue
		}
		next, ok := s.Change.Advanced(told)
		ok = ok && (s.Change.Stage == node.StageNone || s.Change.SamePair(told) || follows(&told, &s.Change))
		what := advice{told.String(), x.floor}
		if ok && (s.Floor < x.floor || !sameChange(&next, &s.Change)) && c.nodes[i].advised != what {
			c.nodes[i].advised = what
			c.send(i, node.Command{Op: node.Advance, Token: what.change, Fence: what.floor, By: now.Add(c.terms.Window)})
		}
	}
}
