package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// debts has the releases that one node has not confirmed. The node was silent, and may have the
// key, or may yet get a grant that lies in some buffer on the way. They are sent again when it is
// enrolled again, and now and then before. See invariant 6 of package supervisor.
type debts struct {
	alarm
	node int
	owed map[uint64]debt // by the tenure's ID
	due  []uint64        // those to send, in this order; what is owed no more is skipped
}

type debt struct {
	key, token string
	queued     bool
	until      clock.Instant // it is pointless after that
	sent       bool          // and not answered yet
	stays      clock.Instant // the name is to stay taken until then; 0 without
}

const (
	// owedFor is how long a release is owed to a node whose answer to the grant is unknown. The
	// bytes of a grant were never seen to arrive later; TTL ends its key in any case.
	owedFor = 15 * time.Minute
	// collectEvery is how often debts are tried on a node that stays enrolled.
	collectEvery = time.Second / 4
	// maxCollect bounds how many are looked at at once; the next ones follow soon.
	maxCollect  = 256
	collectMore = 5 * time.Millisecond
)

// owe notes that node i must be sent the release of t once more.
func (c *Core) owe(now clock.Instant, t *tenure, i int) {
	if c.cut {
		return
	}
	d := &c.nodes[i].debts
	if o, again := d.owed[t.id]; again {
		c.unpaid(i, t.id, o)
		return
	}
	// A key that was to stay taken may live for days, with the token of its adopter, say.
	until := now.Add(max(owedFor, t.longestTTL()+2*t.terms.Drift+c.settings.NodeTimeout))
	if t.votes.of[i].until != 0 && !t.pending.has(i) && !t.hold.isSilent(i) {
		// It has answered everything but the release: its key ends by itself.
		until = now.Add(max(c.settings.MaxTTL, t.longestTTL()) + 2*t.terms.Drift + c.settings.NodeTimeout)
	}
	// A node that was stopped leaves the key when it goes on, and for too long unless it is told
	// again.
	until = max(until, t.staysUntil())
	if d.owed == nil {
		d.node, d.owed = i, make(map[uint64]debt)
	}
	d.due = append(d.due, t.id)
	d.owed[t.id] = debt{key: t.key, token: t.token, queued: t.inQueueOf(i), until: until, stays: t.staysUntil()}
	if !d.isSet() {
		c.alarms.set(d, now.Add(collectEvery))
	}
}

// unpaid records that a release which was sent again was not answered either.
func (c *Core) unpaid(i int, id uint64, o debt) {
	d := &c.nodes[i].debts
	if o.sent {
		d.due = append(d.due, id)
	}
	o.sent = false
	d.owed[id] = o
}

func (d *debts) wake(c *Core, now clock.Instant) { c.collect(now, d.node) }

// collect sends releases that are owed to a node, beginning with those that have waited longest.
// While it is not enrolled, it forgets those that are pointless by now.
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
			c.send(i, releaseOf(now, node.Command{ID: id, Op: node.Release, Name: o.key, Token: o.token, Queued: o.queued, By: o.until}, o.stays))
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

// restIfPaid stops the alarm of a node's debts if there are none.
func (c *Core) restIfPaid(d *debts) {
	if len(d.owed) == 0 {
		c.alarms.clear(d)
		d.due = nil
	}
}

// onOwedRelease handles the answer to an owed release.
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
		c.unpaid(i, r.ID, o)
	}
}
