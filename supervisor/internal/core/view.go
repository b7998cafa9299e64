package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// Counts says how much there is of some things.
type Counts struct {
	Held    int // leases
	Waiting int // callers that wait in lines
	Owed    int // releases that a node has yet to confirm
}

// Counts returns how much there is now.
func (c *Core) Counts() Counts {
	n := Counts{Held: len(c.held), Waiting: c.callers}
	for i := range c.nodes {
		n.Owed += len(c.nodes[i].debts.owed)
	}
	return n
}

// Margins says how near to their ends leases were renewed.
type Margins struct {
	Least  time.Duration // in the last half to whole minute; 0 if none was renewed
	Tenths [10]uint64    // renewals, by how many tenths of its TTL the lease would still have been held
}

// margins has what Margins is made from.
type margins struct {
	tenths [10]uint64
	least  [2]time.Duration // of the present half-minute and of the one before; 0 if none was renewed
	since  clock.Instant
}

const halfMinute = 30 * time.Second

// renewed records that a lease goes on which would have been lost so much later.
func (m *margins) renewed(now clock.Instant, left, ttl time.Duration) {
	m.tenths[min(max(0, 10*left/ttl), 9)]++
	if now.Sub(m.since) >= halfMinute {
		m.least = m.recent(now)
		m.least[0], m.least[1], m.since = 0, m.least[0], now
	}
	if m.least[0] == 0 || left < m.least[0] {
		m.least[0] = left
	}
}

// recent returns the values of least that are not too old.
func (m *margins) recent(now clock.Instant) [2]time.Duration {
	switch age := now.Sub(m.since); {
	case age < halfMinute:
		return m.least
	case age < 2*halfMinute:
		return [2]time.Duration{m.least[0]}
	}
	return [2]time.Duration{}
}

// Margins returns how near to their ends leases were renewed.
func (c *Core) Margins(now clock.Instant) Margins {
	m := Margins{Tenths: c.margins.tenths}
	for _, least := range c.margins.recent(now) {
		if least != 0 && (m.Least == 0 || least < m.Least) {
			m.Least = least
		}
	}
	return m
}

// Quorum returns how many nodes of the present list decide: more than half of those that are
// configured. See invariant 1 of package supervisor.
func (c *Core) Quorum() int { return c.present().quorum }

// QuorumOf returns how many of so many nodes are a quorum.
func QuorumOf(nodes int) int { return nodes/2 + 1 }

// FormerQuorum returns the same of the former list; 0 if there is none.
func (c *Core) FormerQuorum() int { return c.former().quorum }

// Waiting returns how many callers wait in lines.
func (c *Core) Waiting() int { return c.callers }

// HeldIDs returns the IDs of the leases that are held from the i-th up to the j-th. To see all of
// them in pieces, go from the last to the first, as a sweep does.
func (c *Core) HeldIDs(i, j int) []uint64 {
	ids := make([]uint64, 0, j-i)
	for _, t := range c.held[i:j] {
		ids = append(ids, t.id)
	}
	return ids
}

// Holder returns the ID of the lease that this process holds on a key, or false.
func (c *Core) Holder(key string) (id uint64, ok bool) {
	l := c.lines[key]
	if l == nil || l.holder == nil {
		return 0, false
	}
	return l.holder.id, true
}

// A NodeView has what is known of one node.
type NodeView struct {
	State        node.State
	YoungUntil   clock.Instant // 0 if it is not young
	Rate         float64       // how much faster than ours its clock runs, as a fraction; 0 if not known
	Twin         bool          // it is the same server as another node, see Twins
	Disagreement Disagreement
	Failing      error         // why its latest renewal or heal has failed; nil if it has not
	FailedAt     clock.Instant // when that was
}

// Node returns what is known of a node.
func (c *Core) Node(i int) NodeView {
	p := &c.nodes[i]
	return NodeView{
		Failing: p.failures.lack.err, FailedAt: p.failures.lack.at,
		State: p.state, YoungUntil: c.youngUntil(i), Rate: p.rate(),
		Twin: p.twin != 0, Disagreement: p.disagreement,
	}
}

// Twins returns two nodes that are the same database of one server; zero if there are
// none.
func (c *Core) Twins() Twins { return c.twins() }
