package core

import "github.com/leasehold-go/leasehold/clock"

// findTwins looks whether a node is the same server as another one: then its vote would
// count twice. The one that was met last is not counted, and as long as there is such
// a one nothing is acquired.
func (c *Core) findTwins(now clock.Instant, i int) {
	p := &c.nodes[i]
	same := func(k int) bool {
		s, o := &c.nodes[k].state, &p.state
		if k == i || s.Run == "" || s.Run != o.Run {
			return false
		}
		if s.Identity == "" && o.Identity == "" { // without a guard
			return s.Database >= 0 && s.Database == o.Database
		}
		return s.Identity == o.Identity
	}
	for k := range c.nodes {
		if c.nodes[k].twin == i+1 && !same(k) {
			c.nodes[k].twin = 0
			defer c.findTwins(now, k) // it may be the same as a third one
		}
	}
	if p.twin != 0 && !same(p.twin-1) {
		p.twin = 0
	}
	for k := range c.nodes {
		o := &c.nodes[k]
		switch {
		case k == i || p.state.Run == "" || o.state.Run != p.state.Run || p.twin != 0 || o.twin != 0:
		case same(k):
			p.twin = k + 1
			twins := c.twins()
			c.warn(Warning{Kind: WarnTwins, Node: twins.First, Other: twins.Second})
			c.failAllWaiting(now)
		default:
			c.warnOnce(Warning{Kind: WarnDatabases, Node: i, Other: k})
		}
	}
}

// twins returns two nodes that are the same database of one server, which means that
// nothing can be acquired; zero if there are none.
func (c *Core) twins() Twins {
	for i := range c.nodes {
		if k := c.nodes[i].twin; k != 0 {
			return Twins{k - 1, i}
		}
	}
	return Twins{}
}

// failAllWaiting fails all who wait for a name, because of twins.
func (c *Core) failAllWaiting(now clock.Instant) {
	for len(c.waited) > 0 {
		l := c.waited[len(c.waited)-1]
		c.dismiss(now, l, c.report(l.key, ReasonMisconfigured, nil))
	}
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], ReasonMisconfigured)
	}
}
