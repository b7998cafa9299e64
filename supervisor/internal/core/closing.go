package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// Close accepts nothing more and ends everything: very many leases a piece at a time. It goes on
// sending what is owed until a quorum is free of each name, or the keys must have expired, or until
// Cut.
func (c *Core) Close(now clock.Instant) {
	c.closing = true
	c.endAll(now, clock.Never, ReasonClosed) // before callers are told, which may ask for the state of a lease
	c.dismissAll(now)
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], ReasonClosed)
	}
	for _, t := range c.tenures.slots {
		if t == nil || t.give == nil {
			continue
		}
		if c.bounded && t.give.leave == 0 {
			t.give.leave = now.Add(t.terms.Window)
			c.awaitRelease(t)
		}
		c.releaseNow(now, t)
	}
	for _, id := range c.inquiryIDs() {
		switch q := c.inquiries[id]; {
		case q == nil: // of a choice that was told
		case q.choice != nil:
			c.failChoice(now, q.choice, ReasonClosed)
		case q.line == nil:
			c.closeInquiry(q, ReasonClosed)
		}
	}
}

// BoundClose records, before Close, that the context of its caller never ends. Close then waits for
// each name as the caller of a bounded release does, see Bound, but until each node has answered.
func (c *Core) BoundClose() { c.bounded = true }

// endAll ends every lease that began before an instant. The loop performs what it has decided
// between two pieces: holders need not wait until the last of very many is ended.
func (c *Core) endAll(now, before clock.Instant, why Reason) {
	c.alarms.clear(&c.ending) // this one ends what an earlier one had left
	c.ending = sweep[*tenure]{hasty: true}
	c.ending.begin(c, now, &c.held, task{kind: taskEnd, before: before, reason: why})
}

// Drained reports whether nothing is left to wait for after Close. It does not wait for a release
// that only a minority of nodes owes us.
func (c *Core) Drained() bool {
	return c.closing && c.tenures.len()+len(c.waited)+len(c.dismissals.lists) == 0
}

// A backlog has the releases that found no room at a node when everything was closed: far more
// leases end then at once than a mailbox takes.
type backlog struct {
	alarm
	node int
	ids  []uint64 // of the tenures
}

// sendLater sends the release of t to node i as soon as there may be room.
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
		c.sendRelease(now, c.tenures.get(id), l.node, 0) // it exists as long as one is not answered
	}
	if l.ids = l.ids[n:]; len(l.ids) > 0 {
		c.alarms.set(l, now.Add(collectMore))
	}
}

// Cut records that nothing can be sent any more: Close waits no longer.
func (c *Core) Cut(now clock.Instant) {
	c.cut = true
	if !c.closing { // both were waiting to be heard: otherwise no error would name what ends here
		c.Close(now)
	}
	// The loop tells those that were not told yet, at its end.
	c.alarms.clear(&c.dismissing)
	for len(c.waited) > 0 {
		c.takeList(now, c.waited[len(c.waited)-1])
	}
	c.alarms.clear(&c.dismissals)
	c.dismissals.lists, c.callers = nil, 0
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
		c.alarms.clear(&c.nodes[i].debts)
	}
	for _, t := range c.tenures.slots {
		if t != nil && t.give != nil {
			c.settled(now, t)
		}
	}
}

// maxUnreleased bounds how many names the error of Close lists.
const maxUnreleased = 100

// unreleased has the tenures for which a quorum is not known to be free after Close. There may be
// very many, each of which its holder may still release.
type unreleased struct {
	by  map[uint64]remains // by the tenure's ID
	ids []uint64           // of the first of them
}

// remains says why a quorum is not known to be free of a tenure.
type remains struct {
	key                 string
	left                time.Duration // for how long the key may remain at most
	holding, unanswered nodeSet
	errs                []error // by node; may be nil
}

// add notes what remains of a tenure.
func (u *unreleased) add(id uint64, r remains) {
	if u.by == nil {
		u.by = make(map[uint64]remains)
	}
	u.by[id] = r
	if len(u.ids) < maxUnreleased {
		u.ids = append(u.ids, id)
	}
}

// Unreleased returns, once the core is drained, why a quorum is not known to be free of some
// tenures: of the first hundred.
func (c *Core) Unreleased() []*Report {
	var first []*Report
	for _, id := range c.unreleased.ids {
		first = append(first, c.LeftBy(id))
	}
	return first
}

// UnreleasedInAll returns how many tenures there are for which a quorum is not known to be free.
func (c *Core) UnreleasedInAll() int { return len(c.unreleased.by) }

// LeftBy returns why a quorum is not known to be free of a tenure that Close gave up, or nil.
func (c *Core) LeftBy(id uint64) *Report {
	if r, left := c.unreleased.by[id]; left {
		return c.unconfirmed(r)
	}
	return nil
}
