package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A giving is the giving back of one tenure.
type giving struct {
	answer     Call // the caller of Release, or 0
	begun      clock.Instant
	holding    nodeSet     // nodes that may still have the key
	unanswered nodeSet     // a release is unanswered
	errs       []error     // by node; nil while there is none
	revoke     *revocation // of somebody else's lease; nil of one's own
}

// Release hears that the holder gives the name up, and is answered by EffectAnswered; its lease is over already. A
// renewal that was answered in between has found that out, or its time was up: then
// it is being given back, and the holder waits for that.
func (c *Core) Release(now clock.Instant, id uint64, call Call) {
	switch t := c.tenures.get(id); {
	case t != nil && t.phase == phaseHeld:
		c.endFor(now, t, ReasonReleased, call)
	case t != nil && t.give != nil && t.give.answer == 0:
		t.give.answer = call
		c.releaseNow(now, t)
		c.settled(now, t)
	default:
		c.answer(call, nil)
	}
}

// HolderEnded hears that the holder of a lease was the first to notice that it is over.
func (c *Core) HolderEnded(now clock.Instant, id uint64, why Reason) {
	if t := c.tenures.get(id); t != nil && t.phase == phaseHeld {
		c.end(now, t, why)
	}
}

// end ends a held lease, once and for ever, and gives it back. The next waiter of
// this process sends its grants right behind the releases.
func (c *Core) end(now clock.Instant, t *tenure, why Reason) { c.endFor(now, t, why, 0) }

// endFor does the same for a caller who is told when it is given back.
func (c *Core) endFor(now clock.Instant, t *tenure, why Reason, call Call) {
	c.effects = append(c.effects, Effect{Kind: EffectEnded, ID: t.id, Reason: why, Key: t.key, Fence: t.fence, Elapsed: now.Sub(t.begun)})
	if x := t.hold.extend; x != nil {
		for _, w := range x.waiters {
			c.answer(w, &Report{Key: t.key, Reason: why})
		}
		t.hold.rare().extend = nil
	}
	l := t.line
	l.holder = nil
	c.held.del(t)
	c.markContended(now, t)
	free := now
	if why == ReasonExpired && !c.closing {
		free = deadline(t.votes, t.counting(), c.quorum) // its holder has the grace to stop in
	}
	c.giveBackAt(free, now, t, call)
	if l.waitList != nil && !c.closing {
		c.try(now, l)
	}
	c.forgetIdle(t.key, l)
}

// abandon ends an attempt that is not won.
func (c *Core) abandon(now clock.Instant, t *tenure) {
	t.line.attempt = nil
	c.giveBack(now, t)
}

// giveBack gives a tenure back at once.
func (c *Core) giveBack(now clock.Instant, t *tenure) {
	c.giveBackAt(now, now, t, 0)
}

// giveBackAt gives a tenure back as soon as an instant has come.
func (c *Core) giveBackAt(at, now clock.Instant, t *tenure, call Call) {
	c.alarms.clear(t)
	t.phase = phaseReleasing
	t.ballot = nil
	t.give = &giving{answer: call, begun: now, holding: t.asked, unanswered: t.asked}
	if at > now {
		c.alarms.set(t, at)
		return
	}
	c.sendReleases(now, t)
}

// hasten sends the releases of a tenure that is to be given back later.
func (c *Core) releaseNow(now clock.Instant, t *tenure) {
	if t.phase == phaseReleasing && t.isSet() {
		c.alarms.clear(t)
		c.sendReleases(now, t)
	}
}

// sendReleases sends a release to every node that may have the key, also to the silent
// ones: the command may have arrived. It goes behind whatever was sent before.
func (c *Core) sendReleases(now clock.Instant, t *tenure) {
	t.give.unanswered = t.asked
	for i := range c.nodes {
		if t.asked.has(i) {
			c.sendRelease(t, i)
		}
	}
	c.settled(now, t)
}

func (c *Core) sendRelease(t *tenure, i int) {
	c.send(i, node.Command{ID: t.id, Op: node.Release, Name: t.key, Token: t.token, Queued: t.stands(i), By: clock.Never})
}

// released takes in an answer to a release. Whatever a node said, it does not have
// the key by this tenure's doing; if it said nothing, it is owed another.
func (c *Core) onRelease(now clock.Instant, t *tenure, i int, r node.Reply) {
	if c.closing && !c.cut && r.Err == FaultNoRoom {
		c.sendLater(now, t, i)
		return
	}
	t.give.unanswered.del(i)
	c.onRevocation(now, t, i, r)
	switch r.Status {
	case node.OK, node.Absent, node.Other:
		t.give.holding.del(i)
		c.onOwedRelease(now, i, r) // where this answers one that was sent again
	default:
		if t.give.errs == nil {
			t.give.errs = make([]error, len(c.nodes))
		}
		t.give.errs[i] = r.Err
		if t.asked.has(i) {
			c.owe(now, t, i)
		}
	}
	c.settled(now, t)
}

// settled tells the caller as soon as a quorum is free, or cannot be known to be,
// and forgets the tenure after the last answer.
func (c *Core) settled(now clock.Instant, t *tenure) {
	g := t.give
	g.holding &= t.asked
	if g.answer != 0 {
		n := len(c.nodes)
		if n-g.holding.len() >= c.quorum {
			c.effects = append(c.effects, Effect{Kind: EffectAnswered, Call: g.answer, Elapsed: now.Sub(g.begun)})
			g.answer = 0
		} else if g.unanswered == 0 || n-(g.holding&^g.unanswered).len() < c.quorum {
			c.answer(g.answer, c.unconfirmed(t))
			g.answer = 0
		}
	}
	if g.unanswered == 0 && t.pending == 0 {
		c.tenures.del(t)
		delete(c.standing, t.token)
		if c.closing && t.hold.everHeld() && len(c.nodes)-g.holding.len() < c.quorum && len(c.unreleased) < maxUnreleased {
			c.unreleased = append(c.unreleased, c.unconfirmed(t))
		}
	}
}

// maxUnreleased bounds how many names the error of Close lists.
const maxUnreleased = 100

// StopWaiting hears that the caller of Release waits no longer.
func (c *Core) StopWaiting(_ clock.Instant, id uint64) {
	t := c.tenures.get(id)
	if t == nil || t.give == nil || t.give.answer == 0 {
		return // it was answered
	}
	c.answer(t.give.answer, c.unconfirmed(t))
	t.give.answer = 0
}

// Unreleased returns, once the core is drained, of which leases a quorum is not known to be
// free: of the first hundred.
func (c *Core) Unreleased() []*Report { return c.unreleased }

// unconfirmed reports the nodes which may still have the key.
func (c *Core) unconfirmed(t *tenure) *Report {
	e := c.report(t.key, ReasonUnconfirmed, nil)
	e.Left = t.terms.TTL
	if t.hold.everHeld() && t.hold.longer {
		e.Left = c.settings.MaxTTL // a node that missed the shorter renewals keeps the longer
	}
	for i := range c.nodes {
		if g := t.give; g.holding.has(i) {
			a := Answer{Node: i, Verdict: VerdictSilent}
			if !g.unanswered.has(i) {
				a.Verdict, a.Err = VerdictUnreachable, g.errs[i]
			}
			e.Answers = append(e.Answers, a)
		}
	}
	return e
}

// debts are the releases that one node has not confirmed: it was silent, and may
// have the key, or may yet get a grant that lies in some buffer on the way. They
// are sent again when it is enrolled anew, and now and then before.
type debts struct {
	alarm
	node int
	owed map[uint64]debt // by the tenure's ID
	due  []uint64        // those that are to be sent, in this order; what is owed no more is skipped
}

type debt struct {
	key, token string
	queued     bool
	until      clock.Instant // it is pointless after that
	sent       bool          // and not answered yet
}

const (
	// owedFor is how long a release is owed to a node whose answer to the grant is
	// unknown. The bytes of a grant were never seen to arrive later; TTL ends its
	// key in any case.
	owedFor = 15 * time.Minute
	// collectEvery is how often debts are tried on a node that stays enrolled.
	collectEvery = time.Second / 4
	// maxCollect bounds how many are looked at at once; the next ones follow soon.
	maxCollect  = 256
	collectMore = 5 * time.Millisecond
)

// owe notes that node i is to be sent the release of t once more.
func (c *Core) owe(now clock.Instant, t *tenure, i int) {
	if c.closing {
		return
	}
	until := now.Add(owedFor)
	if t.votes[i].until != 0 && !t.pending.has(i) && !t.hold.isSilent(i) {
		// It has answered everything but the release: its key ends by itself.
		until = now.Add(c.settings.MaxTTL + 2*t.terms.Drift + c.settings.NodeTimeout)
	}
	d := &c.nodes[i].debts
	if d.owed == nil {
		d.node, d.owed = i, make(map[uint64]debt)
	}
	if o, again := d.owed[t.id]; !again || o.sent {
		d.due = append(d.due, t.id)
	}
	d.owed[t.id] = debt{key: t.key, token: t.token, queued: t.stands(i), until: until}
	if !d.isSet() {
		c.alarms.set(d, now.Add(collectEvery))
	}
}

func (d *debts) wake(c *Core, now clock.Instant) { c.collect(now, d.node) }

// collect sends releases that are owed to a node, those first that have waited
// longest. While it is not enrolled, it forgets those that are pointless by now.
func (c *Core) collect(now clock.Instant, i int) {
	d := &c.nodes[i].debts
	if len(d.owed) == 0 {
		return
	}
	enrolled, more := c.nodes[i].state.Enrolled, false
	for range min(len(d.due), maxCollect) {
		id := d.due[0]
		d.due = d.due[1:]
		o, owed := d.owed[id]
		switch {
		case !owed || o.sent:
			more = true
		case now > o.until:
			delete(d.owed, id)
			more = true
		case enrolled:
			o.sent = true
			d.owed[id] = o
			c.send(i, node.Command{ID: id, Op: node.Release, Name: o.key, Token: o.token, Queued: o.queued, By: o.until})
			more = true
		default:
			d.due = append(d.due, id)
		}
	}
	at := now.Add(collectEvery)
	if more && len(d.due) > 0 {
		at = now.Add(collectMore)
	}
	c.alarms.set(d, at)
	c.restIfPaid(d)
}

// paidUp has the debts of a node rest where there are none.
func (c *Core) restIfPaid(d *debts) {
	if len(d.owed) == 0 {
		c.alarms.clear(d)
		d.due = nil
	}
}

// repaid takes in the answer to an owed release.
func (c *Core) onOwedRelease(_ clock.Instant, i int, r node.Reply) {
	d := &c.nodes[i].debts
	o, ok := d.owed[r.ID]
	if !ok {
		return
	}
	switch r.Status {
	case node.OK, node.Absent, node.Other:
		delete(d.owed, r.ID)
		c.restIfPaid(d)
	default:
		if o.sent {
			d.due = append(d.due, r.ID)
		}
		o.sent = false
		d.owed[r.ID] = o
	}
}

// A leaving is the releases that found no room at a node when everything was closed:
// far more leases end then at once than a mailbox takes.
type backlog struct {
	alarm
	node int
	ids  []uint64 // of the tenures
}

// sendLater has the release of t sent to node i as soon as there may be room.
func (c *Core) sendLater(now clock.Instant, t *tenure, i int) {
	l := &c.nodes[i].backlog
	l.node = i
	l.ids = append(l.ids, t.id)
	if !l.isSet() {
		c.alarms.set(l, now.Add(collectMore))
	}
}

func (l *backlog) wake(c *Core, now clock.Instant) {
	n := min(len(l.ids), maxCollect)
	for _, id := range l.ids[:n] {
		c.sendRelease(c.tenures.get(id), l.node) // it is there as long as one is not answered
	}
	if l.ids = l.ids[n:]; len(l.ids) > 0 {
		c.alarms.set(l, now.Add(collectMore))
	}
}

// Cut hears that nothing can be sent any more: Close waits no longer.
func (c *Core) Cut(now clock.Instant) {
	c.cut = true
	if !c.closing { // both were waiting to be heard: else what ends here would be in no error
		c.Close(now)
	}
	c.alarms.clear(&c.ending)
	for len(c.held) > 0 {
		c.end(now, c.held[len(c.held)-1], ReasonClosed)
	}
	for i := range c.nodes {
		l := &c.nodes[i].backlog
		c.alarms.clear(l)
		for _, id := range l.ids {
			c.onRelease(now, c.tenures.get(id), i, node.Reply{ID: id, Op: node.Release, Status: node.Unsent, Err: FaultNoRoom})
		}
		l.ids = nil
	}
}
