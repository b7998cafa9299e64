package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// clockSlack is how much more than our own clock a node's may advance by, besides a
// hundredth, before it is said to have run away from ours.
const clockSlack = 2 * time.Millisecond

// onClockReading compares a node's clock with ours, and loses every lease and election if a
// quorum of them has run away: this process was paused by something that its own clock does
// not see, as a hypervisor's pause, and the keys have aged meanwhile.
//
// Between two readings a node's clock can have advanced by no more than ours from
// the sending of what the first one answered to the receipt of the second.
func (c *Core) onClockReading(now clock.Instant, i int, was node.State) {
	p := &c.nodes[i]
	s := &p.state
	if s.TimeBack == was.TimeBack {
		return
	}
	if was.TimeSent == 0 || s.Life != was.Life {
		p.firstReading = *s // another server has another clock
		return
	}
	ours, theirs := s.TimeBack.Sub(was.TimeSent), s.Time-was.Time
	if theirs <= ours+ours/100+clockSlack {
		return
	}
	p.ranAt = now
	ran := 0
	for k := range c.nodes {
		if at := c.nodes[k].ranAt; at != 0 && now.Sub(at) < c.settings.MaxTTL {
			ran++
		}
	}
	if ran < c.quorum {
		return
	}
	for k := range c.nodes {
		c.nodes[k].ranAt = 0
	}
	c.warn(Warning{Kind: WarnPaused, Node: i, Count: ran, Time: theirs - ours, Of: ours})
	for _, l := range slices.Clone(c.waited) {
		if t := l.attempt; t != nil && (t.phase == phaseElecting || t.phase == phaseRaising) {
			c.lose(now, t) // the votes have aged as well
		}
	}
	c.endAll(now, now, ReasonPaused) // others may have these names already
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], ReasonNoQuorum)
	}
}

// rate returns how much faster than ours a node's clock runs, as a fraction of ours;
// 0 if it was not watched for long enough to tell.
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
	// clocksApart is by how much the nodes' clocks may differ before it is said.
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
