package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A reading is how far a node's clock is ahead of ours by one answer, counted from our sending, and
// from our receipt. The node has read it in between, so it is no further ahead than most, and no
// less than least.
type reading struct{ most, least time.Duration }

// readingOf returns the latest reading of a node.
func readingOf(s *node.State) reading {
	return reading{s.Time - time.Duration(s.TimeSent), s.Time - time.Duration(s.TimeBack)}
}

// Aging makes votes be believed for less by the clock of their node. A key loses the time that a
// node's clock gains on ours, for example during a pause of our machine that our clock does not
// notice. The drift covers a gain of no more than the drift.
//
// There may be very many votes. So all are looked at only after a reading that has passed the least
// gain that any of them bears.
type aging struct {
	limit time.Duration // no vote has aged by a clock that is no further ahead than that
	shown reading       // by which the votes are looked at, as long as that takes

	held, adopting sweep[*tenure]
	waited         sweep[*line]
}

// noLimit is the limit if there are no votes.
const noLimit = time.Duration(1<<63 - 1)

// isUnderWay reports whether some votes are still to be looked at.
func (a *aging) isUnderWay() bool { return a.held.isSet() || a.adopting.isSet() || a.waited.isSet() }

// bears records that a vote bears a clock that is so far ahead.
func (a *aging) bears(lead time.Duration) { a.limit = min(a.limit, lead) }

// hasKey records that node i has the key of a tenure. It reports whether it was not known to. The
// node has read its clock before it did anything of the batch that says so. If the vote does not
// count, nothing is believed.
func (c *Core) hasKey(t *tenure, i int) (first bool) {
	if c.bars(i, t) != 0 {
		return false
	}
	p := &c.nodes[i]
	lead := readingOf(&p.state).most
	p.aging.bears(lead + t.terms.Drift)
	first = t.votes.kept(i, p.state.Life, lead)
	if t.hold.everHeld() && t.hold.short.has(i) {
		t.votes.loose.add(i)
	}
	return first
}

// toleratesLess records that a lease gets a smaller drift.
func (c *Core) toleratesLess(t *tenure, drift time.Duration) {
	for i := range t.votes.of {
		if v := &t.votes.of[i]; v.until != 0 {
			c.nodes[i].aging.bears(v.lead + drift)
		}
	}
}

// onClockReading compares a node's clock with ours.
func (c *Core) onClockReading(now clock.Instant, i int, was node.State) {
	p := &c.nodes[i]
	s, a := &p.state, &p.aging
	r, before := readingOf(s), readingOf(&was)
	switch {
	case r == before && s.TimeBack == was.TimeBack:
		return
	case was.TimeSent == 0 || s.Life != was.Life:
		p.firstReading = *s // another server has another clock
		a.limit = noLimit
		c.alarms.clear(&a.held)
		c.alarms.clear(&a.adopting)
		c.alarms.clear(&a.waited)
		return
	}
	c.watchForPause(now, i, r.least-before.most, s.TimeBack.Sub(was.TimeSent))
	underWay := a.isUnderWay()
	if underWay && r.most < a.shown.least {
		// The clock was set back. Votes that are given from now on know nothing of what was shown,
		// and the others must hear of it before these come.
		a.held.finish(c, now)
		a.adopting.finish(c, now)
		a.waited.finish(c, now)
		underWay = false
	}
	aged := r.least > a.limit
	if aged || underWay && r.least > a.shown.least {
		a.shown = r
	}
	if !aged {
		return
	}
	a.limit = noLimit // it is found again
	what := task{kind: taskAge, node: i}
	a.held.hasty, a.adopting.hasty, a.waited.hasty = true, true, true
	a.held.begin(c, now, &c.held, what)
	a.adopting.begin(c, now, &c.adopting, what)
	a.waited.begin(c, now, &c.waited, what)
}

// age makes node i's vote be believed for less if the node's clock has gained more than the drift
// since that was given: by what it has gained at most. It reports whether that is so. A vote of
// another incarnation was given by another clock. See invariant 22 of package supervisor.
func (c *Core) age(t *tenure, i int) bool {
	v, p := &t.votes.of[i], &c.nodes[i]
	if v.until == 0 || v.lead == 0 || v.life != p.state.Life {
		return false
	}
	aged := p.aging.shown.least-v.lead > t.terms.Drift
	if aged {
		t.votes.aged(i, p.aging.shown.most)
	}
	p.aging.bears(v.lead + t.terms.Drift)
	return aged
}

// ageAll ages the votes of every node whose votes are being looked at, before they decide.
func (c *Core) ageAll(t *tenure) {
	for i := range c.nodes {
		if c.nodes[i].aging.isUnderWay() {
			c.age(t, i)
		}
	}
}

// ageTenure ages a vote of a lease, which may end by that, or of an adoption.
func (c *Core) ageTenure(now clock.Instant, t *tenure, i int) {
	before := t.votes.of[i].lead
	if !c.age(t, i) || t.phase != phaseHeld {
		return
	}
	gained := Gained(t.votes.of[i].lead - before).rounded()
	c.blame(t, i, gained, false)
	h := &t.hold
	if now < h.until && c.lostAt(t) <= now {
		c.end(now, t, ReasonPaused) // others may have the name already
		return
	}
	if c.recomputeDeadline(now, t); t.phase == phaseHeld && t.votes.of[i].until < h.renewAt {
		c.retryLater(now, t, i) // the vote would be over before it is asked for again
		c.schedule(t)
	}
}

// watchForPause warns if the clocks of a quorum of nodes have gained on ours, within the largest
// TTL. Most likely this process was paused by something that its own clock does not notice. gained
// is what node i's clock has gained since its last reading, and within how much of our time that
// took.
func (c *Core) watchForPause(now clock.Instant, i int, gained, within time.Duration) {
	if gained <= within/100+c.terms.Drift {
		return
	}
	c.nodes[i].ranAt = now
	var ran nodeSet
	for k := range c.nodes {
		if at := c.nodes[k].ranAt; at != 0 && now.Sub(at) < c.settings.MaxTTL {
			ran.add(k)
		}
	}
	if !c.told().reached(ran) {
		return
	}
	for k := range c.nodes {
		c.nodes[k].ranAt = 0
	}
	c.warn(Warning{Kind: WarnPaused, Node: i, Count: ran.len(), Time: gained, Of: within})
}

// rate returns how much faster than ours a node's clock runs, as a fraction of ours; 0 if it was
// not watched for long enough to know.
func (p *peer) rate() float64 {
	s := &p.state
	ours := s.OffsetAt.Sub(p.firstReading.OffsetAt)
	if p.firstReading.OffsetAt == 0 || ours < 10*time.Second {
		return 0
	}
	return float64(s.Offset-p.firstReading.Offset) / float64(ours)
}

// inspectServer warns of what makes a node a bad keeper of leases.
func (c *Core) inspectServer(i int) {
	s := &c.nodes[i].state
	if c.settings.Guard && !s.Guarded {
		c.warnOnce(Warning{Kind: WarnNoGuard, Node: i})
	}
	if s.Evicts != "" {
		c.warnOnce(Warning{Kind: WarnEvicts, Node: i, Policy: s.Evicts})
	}
	if s.MaxTTL > c.settings.MaxTTLCap {
		c.warnOnce(Warning{Kind: WarnCap, Node: i, Time: s.MaxTTL})
	}
}

// warnOnce warns once of one kind of thing at one node.
func (c *Core) warnOnce(w Warning) {
	p := &c.nodes[w.Node]
	if p.warned[w.Kind] {
		return
	}
	if p.warned == nil {
		p.warned = make(map[WarningKind]bool)
	}
	p.warned[w.Kind] = true
	c.warn(w)
}

const (
	// clocksApart is by how much the nodes' clocks must differ before there is a warning.
	clocksApart = 3 * time.Second
	// offsetFor is for how long an offset counts as fresh.
	offsetFor = time.Minute
)

// warnIfApart warns if the nodes' clocks differ: if fences are forgotten, the order
// of those that are proposed rests on these clocks.
func (c *Core) warnIfApart(now clock.Instant) {
	first, last := -1, -1
	for i := range c.nodes {
		s := &c.nodes[i].state
		if s.OffsetAt == 0 || !s.Enrolled || now.Sub(s.OffsetAt) > offsetFor {
			continue
		}
		if first < 0 || s.Offset < c.nodes[first].state.Offset {
			first = i
		}
		if last < 0 || s.Offset > c.nodes[last].state.Offset {
			last = i
		}
	}
	if first < 0 {
		return
	}
	d := c.nodes[last].state.Offset - c.nodes[first].state.Offset
	if d <= clocksApart {
		c.apart = false
		return
	}
	if !c.apart {
		c.apart = true
		c.warn(Warning{Kind: WarnClocksApart, Node: last, Other: first, Time: d})
	}
}
