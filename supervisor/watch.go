package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// slack is how much more than our own clock a node's may advance by, besides a
// hundredth, before it is said to have run away from ours.
const clockSlack = 2 * time.Millisecond

// watch compares a node's clock with ours, and loses every lease and election where a
// quorum of them has run away: this process was paused by something that its own clock does
// not see, as a hypervisor's pause, and the keys have aged meanwhile.
//
// Between two readings a node's clock can have advanced by no more than ours from
// the sending of what the first one answered to the receipt of the second.
func (c *Core) onClockReading(now clock.Instant, i int, was node.State) {
	p := &c.nodes[i]
	s := &p.state
	if s.TimeBack == was.TimeBack {
		return
	}
	if was.TimeSent == 0 || s.Life != was.Life {
		p.firstReading = *s // another server has another clock
		return
	}
	ours, theirs := s.TimeBack.Sub(was.TimeSent), s.Time-was.Time
	if theirs <= ours+ours/100+clockSlack {
		return
	}
	p.ranAt = now
	ran := 0
	for k := range c.nodes {
		if at := c.nodes[k].ranAt; at != 0 && now.Sub(at) < c.limits.maxTTL {
			ran++
		}
	}
	if ran < c.quorum {
		return
	}
	for k := range c.nodes {
		c.nodes[k].ranAt = 0
	}
	c.effects = append(c.effects, Effect{Kind: EffectWarned, Node: i, err: fmt.Errorf("the clocks of %d nodes ran away from ours, that of %s by %v in %v: was this machine paused?", ran, p.label, theirs-ours, ours)})
	for _, l := range slices.Clone(c.waited) {
		if t := l.attempt; t != nil && (t.phase == phaseElecting || t.phase == phaseRaising) {
			c.lose(now, t) // the votes have aged as well
		}
	}
	c.endAll(now, now, lease.ErrPaused) // others may have these names already
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], ErrNoQuorum, nil)
	}
}

// rate returns how much faster than ours a node's clock runs, as a fraction of ours;
// 0 if it was not watched for long enough to tell.
func (p *peer) rate() float64 {
	s := &p.state
	ours := s.OffsetAt.Sub(p.firstReading.OffsetAt)
	if p.firstReading.OffsetAt == 0 || ours < 10*time.Second {
		return 0
	}
	return float64(s.Offset-p.firstReading.Offset) / float64(ours)
}

// inspectServer warns of what makes a node a bad keeper of leases.
func (c *Core) inspectServer(i int) {
	p := &c.nodes[i]
	if c.limits.guard && !p.state.Guarded {
		c.warn(i, "guard", fmt.Errorf("%s does not say which incarnation it is, so a restart of it that loses data is not noticed", p.label))
	}
	if policy := p.state.Evicts; policy != "" {
		c.warn(i, "policy", fmt.Errorf("%s may evict the keys of leases: its maxmemory-policy is %s; want noeviction", p.label, policy))
	}
	if told := p.state.MaxTTL; told > c.limits.maxTTLCap {
		c.warn(i, "cap", fmt.Errorf("%s: another client has a MaxTTL of %v, and our MaxTTLCap is %v: want one that is the same for all, and no less than each MaxTTL", p.label, told, c.limits.maxTTLCap))
	}
}

// warn tells something of a node once.
func (c *Core) warn(i int, what string, err error) {
	p := &c.nodes[i]
	if p.warned[what] {
		return
	}
	if p.warned == nil {
		p.warned = make(map[string]bool)
	}
	p.warned[what] = true
	c.effects = append(c.effects, Effect{Kind: EffectWarned, Node: i, err: err})
}
