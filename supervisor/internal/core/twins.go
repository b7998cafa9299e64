package core

import "github.com/leasehold-go/leasehold/clock"

// findTwins looks whether a node is the same server as another one: then its vote would count
// twice. It does not count the one that was met last. As long as there is one, nothing is acquired.
func (c *Core) findTwins(now clock.Instant, i int) {
	var orphans nodeSet // those that are no longer the same as this one, but may be as a third
	for k := range c.nodes {
		if c.nodes[k].twin == i+1 && !c.sameServer(i, k) {
			c.nodes[k].twin = 0
			orphans.add(k)
		}
	}
	c.findTwinOf(now, i)
	for k := len(c.nodes) - 1; k >= 0; k-- {
		if orphans.has(k) {
			c.findTwinOf(now, k)
		}
	}
}

// sameServer reports whether two nodes are one.
func (c *Core) sameServer(i, k int) bool {
	s, o := &c.nodes[k].state, &c.nodes[i].state
	if k == i || s.Run == "" || s.Run != o.Run {
		return false
	}
	if s.Identity == "" && o.Identity == "" { // without a guard
		return s.Database >= 0 && s.Database == o.Database
	}
	return s.Identity == o.Identity
}

// findTwinOf looks for another node that is the same server as this one.
func (c *Core) findTwinOf(now clock.Instant, i int) {
	p := &c.nodes[i]
	if p.twin != 0 && !c.sameServer(i, p.twin-1) {
		p.twin = 0
	}
	for k := range c.nodes {
		o := &c.nodes[k]
		switch {
		case k == i || p.state.Run == "" || o.state.Run != p.state.Run || p.twin != 0 || o.twin != 0:
		case c.sameServer(i, k):
			p.twin = k + 1
			twins := c.twins()
			c.warn(Warning{Kind: WarnTwins, Node: twins.First, Other: twins.Second})
			c.failAll(now, ReasonMisconfigured)
		default:
			c.warnOnce(Warning{Kind: WarnDatabases, Node: i, Other: k})
		}
	}
}

// twins returns two nodes that are the same database of one server, so that nothing can be
// acquired; zero if there are none.
func (c *Core) twins() Twins {
	for i := range c.nodes {
		if k := c.nodes[i].twin; k != 0 {
			return Twins{k - 1, i}
		}
	}
	return Twins{}
}

// failAll fails all waiters.
func (c *Core) failAll(now clock.Instant, why Reason) {
	c.dismissAll(now)
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], why)
	}
}
