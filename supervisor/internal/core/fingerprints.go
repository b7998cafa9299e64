package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// In this file the clients of a name find out whether they agree: on the largest TTL in use, and on
// which nodes there are.

// An agreement has what is known of the other clients. For widest see invariant 13 of package
// supervisor.
type agreement struct {
	alarm                  // the next signing
	widest   time.Duration // the largest MaxTTL that a node has ever reported, or our own
	text     string        // the entry of our own lists, without what its leases rest on
	newcomer bool          // older clients use other nodes, so nothing is acquired
	young    nodeSet       // nodes that are not grown
	warnedOf map[foreign]bool
	apart    bool // a warning said that the nodes' clocks differ
	few      bool // a warning said that too few nodes are grown
}

// A foreign is a fingerprint that does not agree with ours, on one node.
type foreign struct {
	node int
	text string
}

// agree looks at what the state of a node says about the agreement.
func (c *Core) agree(now clock.Instant, i int, was *node.State) {
	p := &c.nodes[i]
	s := &p.state
	if s.Life != was.Life || !s.Guarded {
		p.entry = entryAt{}
		if !s.Guarded && s.Life != 0 {
			p.entry.until = clock.Never // it keeps no entries
		}
	}
	if !s.Enrolled && p.entry.unread != 0 {
		c.wasRead(now, i)
	}
	changed := s.Life != was.Life || s.Grown != was.Grown || s.MaxTTL != was.MaxTTL ||
		s.Identity != was.Identity || s.Enrolled != was.Enrolled
	if !changed && c.young == 0 {
		return
	}
	if s.Grown {
		p.confirmed = s.MarkedAt
	}
	if s.Life != was.Life {
		p.known, p.confirmed = false, 0
		p.disagreement = Disagreement{}
	}
	if changed {
		c.onChangedState(now, i, was)
	}
	for k := range c.nodes {
		if c.young.has(k) {
			c.countYouth(now, k)
		}
	}
	if changed {
		c.warnIfApart(now)
	}
}

// onChangedState handles a node that differs from before in what concerns others.
func (c *Core) onChangedState(now clock.Instant, i int, was *node.State) {
	p := &c.nodes[i]
	s := &p.state
	c.widest = max(c.widest, s.MaxTTL)
	if s.Guarded && !s.Grown {
		c.young.add(i)
	} else {
		c.young.del(i)
		c.alarms.clear(&p.youth)
	}
	if s.Grown && !was.Grown && was.Guarded {
		c.retrySoon(now)
	}
	c.findTwins(now, i)
	c.identify(now, i, s.Enrolled && (!was.Enrolled || s.Life != was.Life))
	c.giveWay(now)
	if s.Life != was.Life && c.young.has(i) {
		c.askMarkers(now, i)
	}
}

// sign leaves our fingerprint on a node, and reads those of others.
func (c *Core) sign(now clock.Instant, i int, grown bool) {
	p := &c.nodes[i]
	s := &p.state
	if !s.Enrolled || !s.Guarded || c.closing {
		return
	}
	c.send(i, node.Command{
		ID: uint64(now), Op: node.Sign, Token: c.entryText(), TTL: c.settings.signedFor(), Age: c.ageOf(now, i), Grown: grown,
		Life: s.Life, By: now.Add(c.settings.signEvery()),
	})
	p.entry.text = c.text
	if c.outlives(i, now) { // others may have come since
		p.entry.unread = now.Add(c.patienceToRead(i))
	}
}

// wake signs everywhere.
func (a *agreement) wake(c *Core, now clock.Instant) {
	if c.closing {
		return
	}
	for i := range c.nodes {
		c.sign(now, i, false)
	}
	c.advanceSoon(now)
	c.warnIfApart(now)
	c.giveWay(now)
	c.alarms.set(a, now.Add(c.settings.signEvery()))
}

// identify computes our fingerprint, and leaves it: how many nodes there are, and the identities of
// those that were met.
func (c *Core) identify(now clock.Instant, i int, enrolled bool) {
	text := c.entry().String()
	switch {
	case text != c.text:
		c.text = text
		for k := range c.nodes {
			c.sign(now, k, false)
		}
	case enrolled:
		c.sign(now, i, false)
	}
	if enrolled && !c.agreement.isSet() {
		c.alarms.set(&c.agreement, now.Add(c.settings.signEvery()))
	}
}

// describe says which nodes an electorate has: how many, and the identities of those that were met.
func (c *Core) describe(e *electorate) node.Electorate { return c.describeOf(e, c.all) }

// describeGrown says the same, without the identities of nodes that are young: one that was emptied may yet
// get its former identity back.
func (c *Core) describeGrown(e *electorate) node.Electorate {
	var grown nodeSet
	for k := range c.nodes {
		if c.nodes[k].state.Grown {
			grown.add(k)
		}
	}
	return c.describeOf(e, grown)
}

func (c *Core) describeOf(e *electorate, nodes nodeSet) node.Electorate {
	var ids []string
	for k := range c.nodes {
		if id := c.nodes[k].state.Identity; id != "" && (e.nodes & nodes).has(k) {
			ids = append(ids, id)
		}
	}
	return node.NewElectorate(e.nodes.len(), ids)
}

// entry returns which lists this process was given.
func (c *Core) entry() node.Entry {
	e := node.Entry{Present: c.describe(c.present())}
	if c.toldKind == modeBoth {
		e.Former = c.describe(c.former())
	}
	return e
}

// entryText returns the entry that we leave on the nodes. While the nodes are being changed it says
// what our leases rest on: the former list may not be closed while a lease rests on it alone.
func (c *Core) entryText() string {
	if c.toldKind != modeBoth {
		return c.text
	}
	e := c.entry()
	for _, t := range c.held {
		e.Modes |= [modeKinds]node.Modes{modePresent: node.InPresent, modeFormer: node.InFormer, modeBoth: node.InBoth}[t.mode]
	}
	return e.String()
}

// onSign looks at the fingerprints that a node has.
func (c *Core) onSign(now clock.Instant, i int, r node.Reply) {
	if r.ID == relayed {
		return // what the node has now is read with our own
	}
	p := &c.nodes[i]
	if r.Status == node.OK {
		c.onEntries(now, i, &r)
		p.disagreement = Disagreement{}
		for k := range p.entry.others {
			c.warnOfOther(now, i, &p.entry.others[k])
		}
		c.giveWay(now)
		c.relay(now, i)
	}
	if p.entry.unread != 0 {
		c.wasRead(now, i)
	}
}

// warnOfOther warns of clients that use other nodes.
func (c *Core) warnOfOther(now clock.Instant, i int, x *other) {
	unknown, agrees := c.compare(&x.entry)
	// A node that was emptied may get another identity, which the others learn when they enrol
	// again. So only the number of nodes is reported at once. Another identity is reported only
	// if clients still sign for it when all have had the time to enrol again.
	if agrees || c.hasAsMany(x.entry.Present) && !c.signsAgain(x) {
		return
	}
	p := &c.nodes[i]
	p.disagreement = Disagreement{Node: i, Nodes: x.entry.Present.Nodes, Unknown: unknown}
	if key := (foreign{i, x.text}); !c.warnedOf[key] && !c.givesWayTo(now, i, x) {
		c.warnedOf[key] = true
		c.warn(Warning{Kind: WarnDisagreement, Node: i, Count: x.entry.Present.Nodes, Unknown: unknown})
	}
}

// compare returns how many nodes of the present list of others this client does not know, and whether
// one of their lists may be one of ours: then a quorum of it keeps us apart.
func (c *Core) compare(theirs *node.Entry) (unknown int, agrees bool) {
	ours := c.entry()
	for _, our := range []*node.Electorate{&ours.Former, &ours.Present} {
		for _, their := range []*node.Electorate{&theirs.Former, &theirs.Present} {
			n, same := mayBe(*our, *their)
			agrees = agrees || same && their.Nodes != 0
			if our == &ours.Present && their == &theirs.Present {
				unknown = n
			}
		}
	}
	return unknown, agrees
}

// mayBe returns how many nodes of one electorate another one does not know, and whether both may
// have the same nodes: neither tells those that it has not met.
func mayBe(ours, theirs node.Electorate) (unknown int, same bool) {
	for _, id := range theirs.Identities {
		if !slices.Contains(ours.Identities, id) {
			unknown++
		}
	}
	return unknown, theirs.Nodes == ours.Nodes && len(ours.Identities)+unknown <= ours.Nodes
}

// mayMeet reports whether each quorum of one electorate may have a node in common with each of another
// one. Nodes that were not met may be the same.
func mayMeet(a, b node.Electorate) bool {
	shared := 0
	for _, id := range a.Identities {
		if slices.Contains(b.Identities, id) {
			shared++
		}
	}
	unmet := a.Nodes - len(a.Identities) + b.Nodes - len(b.Identities)
	together := a.Nodes + b.Nodes - min(a.Nodes, b.Nodes, shared+unmet)
	return QuorumOf(a.Nodes)+QuorumOf(b.Nodes) > together
}

// hasAsMany reports whether an electorate has as many nodes as one of ours.
func (c *Core) hasAsMany(theirs node.Electorate) bool {
	told := c.told()
	return theirs.Nodes == told.first.nodes.len() || theirs.Nodes == told.second.nodes.len()
}

// disagreement returns how other clients' nodes differ from ours, as the first node reports that
// has something to report: first of all why nothing is acquired.
func (c *Core) disagreement() (d Disagreement) {
	for i := range c.nodes {
		if x := c.nodes[i].disagreement; x.Nodes != 0 && (d.Nodes == 0 || x.Older && !d.Older) {
			d = x
		}
	}
	return d
}
