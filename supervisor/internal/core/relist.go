package core

import (
	"slices"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file gives a core other lists of nodes while it holds leases. See invariant 26 of package
// supervisor.

// Lists says which nodes a process is given, by their indices.
type Lists struct {
	Nodes           int   // how many indices there are: those of new nodes follow those that there were
	Former, Present []int // Former is nil but while the nodes are being changed
}

// A Refusal says why lists cannot be given to a process.
type Refusal struct {
	Reason   Reason
	Unfilled []Unfilled // NotFinished: leases that would be left without a quorum, the first hundred
	Count    int        // of all such leases
}

// An Unfilled is a lease that does not rest on both lists, as too few nodes of one keep it.
type Unfilled struct {
	Key   string
	Flaws []Flaw // of the nodes that do not keep it
}

// maxUnfilled bounds how many leases a refusal names.
const maxUnfilled = 100

// Reconfigure gives a process other lists: both before the nodes are changed, and one after that, the
// present list or, before the change is closed, the former one again. It returns nil, or why nothing
// is done.
//
// Leases go on. With a second list they rest on the first alone until a quorum of the second keeps
// them as well. Attempts begin anew, in their old places in the queues.
//
// A node keeps its index. One that is in no list is left: its index is never used again, and what is
// still heard of it is nothing. The caller performs what was decided before for that node, and ends
// its actor.
func (c *Core) Reconfigure(now clock.Instant, to Lists) *Refusal {
	former, present := setOf(to.Former), setOf(to.Present)
	was := *c.told()
	if to.Nodes > MaxNodes || to.Nodes < len(c.nodes) || present == 0 {
		return &Refusal{Reason: ReasonTooManyNodes}
	}
	switch {
	case c.closing:
		return &Refusal{Reason: ReasonClosed}
	case former == c.former().nodes && present == c.present().nodes:
		return nil
	case !c.settings.Guard: // the nodes keep no stage
		return &Refusal{Reason: ReasonMisconfigured}
	case !was.isDouble() && former == c.present().nodes: // a change begins
	case was.isDouble() && former == 0 && present == was.second.nodes: // it is over
		if r := c.mayLeave(now); r != nil {
			return r
		}
	case was.isDouble() && former == 0 && present == was.first.nodes: // it is given up
		if r := c.mayReturn(now); r != nil {
			return r
		}
	default:
		return &Refusal{Reason: ReasonOtherChange}
	}
	for _, t := range slices.Clone(c.held) {
		if now >= t.hold.until { // by the lists that it had: other ones revive nothing
			c.end(now, t, ReasonExpired)
		}
	}
	c.sendGroup()
	for _, l := range c.waited {
		if l.attempt != nil {
			c.abandon(now, l.attempt)
		}
	}
	if was.isDouble() {
		for len(c.adopting) > 0 {
			c.failAdoption(c.adopting[len(c.adopting)-1], ReasonRelisted)
		}
	}
	c.addNodes(to.Nodes)
	for _, t := range c.tenures.slots {
		if t != nil {
			t.mode = modePresent
			if former != 0 {
				t.mode = modeFormer
			}
		}
	}
	left := c.all &^ (former | present)
	c.setModes(former, present)
	for i := range c.nodes {
		if left.has(i) {
			c.leaveNode(now, i)
		}
	}
	c.failed = nil
	c.bePatient(now)
	x := &c.changing
	c.alarms.clear(x)
	x.begun = false
	if x.seen.Stage < node.StageClosed {
		x.seen = node.Change{}
	}
	for i := range c.nodes {
		c.nodes[i].entry.text, c.nodes[i].entry.since = "", 0 // it is another entry, and a young one
	}
	c.identify(now, 0, false)
	c.reviewStages(now)
	c.giveWay(now)
	c.advanceSoon(now)
	for _, t := range slices.Clone(c.held) {
		c.recomputeDeadline(now, t)
	}
	for _, l := range c.waited {
		c.makeReady(now, l)
	}
	return nil
}

// mayLeave returns why the former list cannot be left, or nil. Who leaves it while a lease rests on
// that alone believes in a lease that nobody else knows of.
func (c *Core) mayLeave(now clock.Instant) *Refusal {
	r := &Refusal{Reason: ReasonNotFinished}
	r.Unfilled, r.Count = c.Unfilled(now)
	opened := c.changing.seen.Stage == node.StageOpened && c.changing.seen.SamePair(c.ours())
	if opened && r.Count == 0 {
		return nil
	}
	return r
}

// mayReturn returns why the present list cannot be given up, or nil.
func (c *Core) mayReturn(now clock.Instant) *Refusal {
	closed := c.changing.seen.Stage >= node.StageClosed && c.changing.seen.SamePair(c.ours())
	alone := slices.ContainsFunc(c.held, func(t *tenure) bool { return t.mode == modePresent })
	if closed || alone {
		return &Refusal{Reason: ReasonNodesLeft}
	}
	return nil
}

// Unfilled returns the leases that do not rest on both lists, the first hundred of them, and how many
// there are. There is none unless two lists were given.
func (c *Core) Unfilled(now clock.Instant) (first []Unfilled, count int) {
	for _, t := range c.held {
		if t.mode == c.toldKind {
			continue
		}
		if count++; len(first) == maxUnfilled {
			continue
		}
		u := Unfilled{Key: t.key}
		for i := range c.nodes {
			if fault := c.causeOf(now, t, i); fault != 0 && c.all.has(i) {
				u.Flaws = append(u.Flaws, c.flawOf(i, fault, t.votes.of[i].failure))
			}
		}
		first = append(first, u)
	}
	return first, count
}

// restOnBoth makes a lease rest on both lists, for good, if a quorum of each surely keeps it. That only
// makes its deadline earlier. For a while it waits for the rest of the present list: if three of five
// nodes stay, these alone are a quorum of it, and the first that is late would end the lease. It does not
// wait if a node of the former list is closed: votes of that list alone run out.
func (c *Core) restOnBoth(now clock.Instant, t *tenure) {
	if t.mode == c.toldKind {
		return
	}
	var keep nodeSet
	for i, counting := 0, t.counting(); i < len(t.votes.of); i++ {
		if counting.has(i) && t.votes.of[i].until.Add(-t.terms.Grace) > now {
			keep.add(i)
		}
	}
	closed := c.changing.barred[modeFormer] & c.former().nodes
	if c.present().nodes&^keep != 0 && closed == 0 && now < c.changing.patience {
		return
	}
	if c.told().reached(keep) {
		t.mode = c.toldKind
	}
}

// bePatient has leases wait for all nodes of the present list, for as long as one may be young that is
// enrolled now.
func (c *Core) bePatient(now clock.Instant) {
	c.changing.patience = now.Add(c.settings.Window(max(c.widest, c.settings.MaxTTLCap)))
}

// addNodes makes room for more nodes, of which nothing is known yet.
func (c *Core) addNodes(n int) {
	more := n - len(c.nodes)
	if more == 0 {
		return
	}
	// Alarms are found where they are, and the nodes' move with them.
	type setAlarm struct {
		node, which int
		at          clock.Instant
	}
	var alarms []setAlarm
	for i := range c.nodes {
		for k, a := range c.nodes[i].bells() {
			if a.bell().isSet() {
				alarms = append(alarms, setAlarm{i, k, a.bell().due()})
				c.alarms.clear(a)
			}
		}
	}
	for range more {
		c.nodes = append(c.nodes, peer{aging: aging{limit: noLimit}})
		c.outbox = append(c.outbox, nil)
	}
	for _, a := range alarms {
		c.alarms.set(c.nodes[a.node].bells()[a.which], a.at)
	}
	c.settings.Nodes = n
	for _, t := range c.tenures.slots {
		if t != nil {
			t.widen(more)
		}
	}
	for _, l := range c.waited {
		l.answers.lengthen(more)
	}
	for _, q := range c.inquiries {
		q.answers.lengthen(more)
	}
}

// bells returns the alarms of a node.
func (p *peer) bells() []sleeper {
	return []sleeper{
		&p.youth, &p.debts, &p.backlog, &p.aging.held, &p.aging.adopting, &p.aging.waited,
		&p.heldChanges, &p.filling, &p.waitedChanges, &p.requeueing,
	}
}

// widen makes room for more nodes.
func (t *tenure) widen(more int) {
	t.votes.of = append(t.votes.of, make([]vote, more)...)
	s := t.stages
	if s.ballot != nil {
		s.ballot.answers.lengthen(more)
	}
	if s.queuing != nil {
		s.queuing.offers = append(s.queuing.offers, make([]offer, more)...)
	}
	if g := s.give; g != nil {
		if g.errs != nil {
			g.errs = append(g.errs, make([]error, more)...)
		}
		if g.revoke != nil {
			g.revoke.answers.lengthen(more)
			g.revoke.sent = append(g.revoke.sent, make([]clock.Instant, more)...)
		}
	}
}

func (as *answers) lengthen(more int) {
	if *as != nil {
		*as = append(*as, make(answers, more)...)
	}
}

// leaveNode forgets a node that is in no list any more.
func (c *Core) leaveNode(now clock.Instant, i int) {
	p := &c.nodes[i]
	for _, a := range p.bells() {
		c.alarms.clear(a)
	}
	for _, id := range p.backlog.ids {
		c.onRelease(now, c.tenures.get(id), i, node.Reply{ID: id, Op: node.Release, Status: node.Unsent, Err: FaultNoRoom})
	}
	for k := range c.nodes {
		if c.nodes[k].twin == i+1 {
			c.nodes[k].twin = 0
		}
	}
	c.nodes[i] = peer{aging: aging{limit: noLimit}}
	c.young.del(i)
	for id, g := range c.groups.out {
		if g.unanswered.del(i); g.unanswered == 0 {
			delete(c.groups.out, id)
		}
	}
	for _, id := range c.inquiryIDs() {
		if q := c.inquiries[id]; q != nil && q.unanswered.has(i) {
			c.onInspect(now, q, i, node.Reply{ID: id, Op: node.Inspect, Status: node.Unsent, Err: FaultNotConnected})
		}
	}
	for _, t := range slices.Clone(c.tenures.slots) {
		if t == nil {
			continue
		}
		t.strip(i)
		if t.phase == phaseReleasing && t.give.told {
			c.settled(now, t)
		}
	}
}

// strip forgets what a tenure has of a node.
func (t *tenure) strip(i int) {
	for _, s := range [...]*nodeSet{&t.asked, &t.pending, &t.votes.loose} {
		s.del(i)
	}
	t.votes.left(i)
	if h := &t.hold; h.rareState != nil && h.rareState != &noRare {
		for _, s := range [...]*nodeSet{&h.retry, &h.ask, &h.short, &h.looking} {
			s.del(i)
		}
		if x := h.extend; x != nil {
			x.early.del(i)
			x.done.del(i)
		}
		if x := h.ttlCap; x != nil {
			x.silent.del(i)
			x.capped.del(i)
		}
	}
	s := t.stages
	if s == &noStages {
		return
	}
	s.sent.del(i)
	s.askAgain.del(i)
	if q := s.queuing; q != nil {
		for _, in := range [...]*nodeSet{&q.in, &q.exact, &q.reserved, &q.head, &q.tracked, &q.holds} {
			in.del(i)
		}
		q.gone.add(i)
		q.offers[i] = offer{}
	}
	if g := s.give; g != nil {
		g.holding.del(i)
		g.unanswered.del(i)
		if v := g.revoke; v != nil {
			v.deleted.del(i)
			v.answers[i] = Answer{}
		}
	}
	t.leaveStages()
}

// left forgets a node.
func (vs *votes) left(i int) {
	vs.of[i] = vote{}
	vs.goOn(slices.DeleteFunc(vs.trials(), func(x trial) bool { return x.node == i }))
	for k := range vs.trials() {
		x := &vs.trials()[k]
		x.early.del(i)
		x.confirmed.del(i)
	}
}
