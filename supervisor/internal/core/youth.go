package core

import (
	"github.com/leasehold-go/leasehold/clock"
)

// This file decides how long a node that may have forgotten something gets no new grant.

// A youth is that of one node: it ends when this process has known its present life for the window.
type youth struct {
	alarm
	node int
}

// youngUntil returns the instant up to which a node is asked for no vote, because it may have
// forgotten one that is still believed in; 0 if it is not young. It is counted from when we first
// heard of the node's present life, and on our own clock: a node's clock may be set right after a
// restart.
func (c *Core) youngUntil(i int) clock.Instant {
	p := &c.nodes[i]
	if p.state.Grown || !p.state.Guarded {
		return 0
	}
	widest := c.widest
	if !p.known {
		// It may have forgotten a lease for a longer TTL than any we have heard of.
		widest = max(widest, c.settings.MaxTTLCap)
	}
	return p.state.LifeAt.Add(c.settings.Window(widest))
}

// healFrom returns the instant from which every election is over that may have had a vote of an
// earlier life of a node. Its window is longer, so a node that is grown needs no wait. believed
// says that the lease in question still counts on the earlier life: that life gave no other client
// its vote meanwhile. Otherwise it may have, and for longer than we have heard of.
func (c *Core) healFrom(i int, believed bool) clock.Instant {
	p := &c.nodes[i]
	s := &p.state
	if s.Guarded && s.Grown {
		return 0
	}
	widest := c.widest
	if s.Guarded && !p.known && !believed {
		widest = max(widest, c.settings.MaxTTLCap)
	}
	return s.LifeAt.Add(widest/4 + c.settings.DriftOf(widest))
}

// tellYoung reports, once each time, that so many nodes are young, or down, that nothing can be
// acquired, and for how long. If it is the nodes that are down alone, or nothing can be acquired
// before one of them is back, their own effects tell that.
func (c *Core) tellYoung(now clock.Instant) {
	var until [MaxNodes]clock.Instant
	down := 0
	for i := range c.nodes {
		if p := &c.nodes[i]; p.away && !p.state.Enrolled {
			down++
			until[i] = clock.Never
		} else if c.young.has(i) {
			until[i] = c.youngUntil(i)
		}
	}
	end := byQuorum(c.told(), until[:len(c.nodes)])
	if end <= now {
		c.few = false
	}
	if end <= now || end == clock.Never || c.few {
		return
	}
	c.few = true
	left := end.Sub(now)
	young := 0
	for _, at := range until {
		if at > now && at != clock.Never {
			young++
		}
	}
	c.effects = append(c.effects, Effect{
		Kind: EffectYoung, Elapsed: left, Warning: &Warning{Kind: WarnYoung, Count: young, Down: down, Time: left},
	})
}

// askMarkers asks the others whether their markers still say the same, now that a node is known to
// be young. That node may have forgotten a lease for a longer TTL. Any quorum that has granted it
// has one of n-q+1 others in it.
func (c *Core) askMarkers(now clock.Instant, young int) {
	for i := range c.nodes {
		if i != young {
			c.sign(now, i, false)
		}
	}
}

// countYouth computes until when a node is young.
func (c *Core) countYouth(now clock.Instant, i int) {
	p := &c.nodes[i]
	if !p.known {
		var sure nodeSet
		for k := range c.nodes {
			if c.nodes[k].state.Grown && c.nodes[k].confirmed > p.state.LifeAt {
				sure.add(k)
			}
		}
		p.known = c.told().informedBy(sure, i)
	}
	p.youth.node = i
	switch at := c.youngUntil(i); {
	case at > now:
		c.alarms.set(&p.youth, at)
	case p.youth.due() > now.Add(c.settings.NodeTimeout): // no command tells its marker so at present
		c.alarms.set(&p.youth, now)
	}
}

// stillYoung returns the same as youngUntil, before a node is asked for a vote. The window may end
// at this instant, before the alarm was handled. Then it first has the marker say so: otherwise the
// actor would refuse the vote, and an attempt would be lost.
func (c *Core) stillYoung(now clock.Instant, i int) clock.Instant {
	until := c.youngUntil(i)
	if y := &c.nodes[i].youth; y.isSet() && y.due() <= now && until <= now {
		c.alarms.clear(y)
		c.writeGrown(now, y)
	}
	return until
}

func (y *youth) wake(c *Core, now clock.Instant) { c.writeGrown(now, y) }

// writeGrown makes a node's marker say that it is grown.
func (c *Core) writeGrown(now clock.Instant, y *youth) {
	switch at := c.youngUntil(y.node); {
	case at == 0 || c.closing:
	case now < at:
		c.alarms.set(y, at)
	default:
		c.sign(now, y.node, true)
		c.alarms.set(y, now.Add(c.settings.NodeTimeout)) // unless its state says so before
	}
}
