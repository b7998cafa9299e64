package core

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// Leases that are renewed on all nodes at the same instant, for the same TTL, are one message to
// each node, and one answer. With very many leases, a message costs nearly all that a renewal
// costs. Groups change nothing else: each lease has its promises and its deadline, and is asked
// once at a time. See docs/decisions/26.

// A group is a set of such leases. All nodes share it, until each has answered.
type group struct {
	node.Group
	by         clock.Instant // the latest of its members'
	unanswered nodeSet
	tenures    []*tenure // its members'; none is forgotten before the last answer
}

// groups has those that are out, and the one that is being gathered.
type groups struct {
	gathering *group // nil while there is none
	out       map[uint64]*group
	lastID    uint64
	fewest    int      // leases of one: fewer are sent one by one
	spare     []*group // to be used again
}

const (
	maxGroup    = 512 // leases of one group
	spareGroups = 4
)

// gather makes a lease part of the group that is renewed on all nodes. The group is sent before any
// command for which the order matters, see send.
func (c *Core) gather(t *tenure) {
	gs := &c.groups
	if g := gs.gathering; g != nil && (g.TTL != t.terms.TTL || len(g.Members) == maxGroup) {
		c.sendGroup()
	}
	g := gs.gathering
	if g == nil {
		g = gs.empty()
		g.TTL = t.terms.TTL
		gs.gathering = g
	}
	g.Members = append(g.Members, node.Member{ID: t.id, Name: t.key, Token: t.token, By: t.hold.until})
	g.tenures = append(g.tenures, t)
	g.by = max(g.by, t.hold.until)
	c.queued++
}

// empty returns a group without members.
func (gs *groups) empty() *group {
	last := len(gs.spare) - 1
	if last < 0 {
		return &group{}
	}
	g := gs.spare[last]
	gs.spare[last], gs.spare = nil, gs.spare[:last]
	return g
}

// recycle keeps a group that is no longer used.
func (gs *groups) recycle(g *group) {
	if len(gs.spare) == spareGroups {
		return
	}
	clear(g.Members)
	clear(g.tenures)
	*g = group{Group: node.Group{Members: g.Members[:0]}, tenures: g.tenures[:0]}
	gs.spare = append(gs.spare, g)
}

// sendGroup sends the gathered group. If it has one lease, that is sent alone.
func (c *Core) sendGroup() {
	gs := &c.groups
	g := gs.gathering
	if g == nil {
		return
	}
	gs.gathering = nil
	c.queued -= len(g.Members)
	if len(g.Members) < gs.fewest {
		for k := range g.Members {
			m := &g.Members[k]
			for i := range c.nodes {
				c.put(i, node.Command{ID: m.ID, Op: node.Renew, Name: m.Name, Token: m.Token, TTL: g.TTL, By: m.By})
			}
		}
		gs.recycle(g)
		return
	}
	gs.lastID++
	if gs.out == nil {
		gs.out = make(map[uint64]*group)
	}
	gs.out[gs.lastID] = g
	g.unanswered = c.all
	for i := range c.nodes {
		c.put(i, node.Command{ID: gs.lastID, Op: node.RenewAll, By: g.by, Group: &g.Group})
	}
}

// onGroup handles a node's answer to a group. It is true for all members but those that it names.
func (c *Core) onGroup(now clock.Instant, i int, r node.Reply) {
	g := c.groups.out[r.ID]
	if g == nil || !g.unanswered.has(i) {
		return
	}
	others := r.But.All()
	for k := range g.Members {
		if k%fetchedAtOnce == 0 {
			c.fetch(g.tenures[k:min(k+fetchedAtOnce, len(g.tenures))])
		}
		one := node.Reply{ID: g.Members[k].ID, Op: node.Renew, Status: r.Status, Err: r.Err}
		if len(others) > 0 && others[0].Member == k {
			one.Status, one.Value, one.Err = others[0].Status, others[0].Value, others[0].Err
			others = others[1:]
		}
		if one.Status != node.OK || !c.goesOn(now, i, g.tenures[k]) {
			c.onReply(now, i, one)
		}
	}
	if g.unanswered.del(i); g.unanswered == 0 {
		delete(c.groups.out, r.ID)
		c.groups.recycle(g)
	}
}

// goesOn records that node i has renewed a lease, and does what nearly always follows: the vote is
// good for longer. It reports false, and has done nothing, if anything is out of the ordinary.
func (c *Core) goesOn(now clock.Instant, i int, t *tenure) bool {
	if t.phase != phaseHeld || now >= t.hold.until || t.hold.rareState != &noRare ||
		t.votes.under != nil || t.askAgain.has(i) {
		return false
	}
	p, v := &c.nodes[i], &t.votes.of[i]
	if c.bars(i, t) != 0 || v.until == 0 || v.until > v.promise || v.life != p.state.Life || p.failures.lack.err != nil {
		return false
	}
	t.pending.del(i)
	c.hasKey(t, i)
	if c.mode(t).keptUntil(t.votes.of, t.hold.until.Add(t.terms.Grace)+1) {
		c.recomputeDeadline(now, t)
	}
	return true
}

// fetch reads a little of each lease, and decides nothing. Very many leases are not in the
// processor's caches when they are due. To wait for one after the other takes longer than all the
// rest. These reads do not depend on one another, so the processor waits for many at once.
func (c *Core) fetch(ts []*tenure) {
	var sum uint64
	for _, t := range ts {
		sum += t.id + uint64(t.votes.of[0].until) + uint64(t.votes.loose)
	}
	c.fetched = sum
}

// fetchedAtOnce is for how many leases fetch reads at a time: they must still be in the cache when
// it is their turn.
const fetchedAtOnce = 64

// fetchDue fetches the leases whose alarms are next.
func (c *Core) fetchDue() {
	next := c.alarms.heap[0].tenures
	next = next[max(0, len(next)-fetchedAtOnce):]
	var sum uint64
	for _, t := range next {
		sum += uint64(t.index)
	}
	for _, t := range next {
		if len(t.token) > 0 {
			sum += uint64(t.votes.of[0].until) + uint64(t.phase) + uint64(t.key[0]) + uint64(t.token[0]) + uint64(t.token[len(t.token)-1])
		}
	}
	c.fetched = sum
}
