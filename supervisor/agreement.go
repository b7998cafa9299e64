package supervisor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file is what the clients of a name must agree on, and how they find out whether
// they do: how long a node that may have forgotten something is asked for nothing, the
// largest TTL in use, and which nodes there are.

// An agreement is what is known of the other clients.
type agreement struct {
	alarm                // the next signing
	widest time.Duration // the largest MaxTTL that a node has ever told, or our own
	text   string        // the fingerprint of our own electorate
	young  nodeSet       // nodes that are not grown
	told   map[string]bool
	apart  bool // the nodes' clocks were said to differ
	few    bool // it was said that too few nodes are grown
}

// A youth is that of one node: it ends when this process has known its present life
// for the window.
type youth struct {
	alarm
	node int
}

// A sighting is a fingerprint of other clients on one node.
type sighting struct {
	first, last time.Duration // until when it counted, as it was told first and last
}

// signEvery is how often a client leaves its fingerprint, and signedFor for how long one
// counts: several may be lost.
func (s *limits) signEvery() time.Duration { return min(max(s.maxTTL/2, time.Second), 10*time.Second) }
func (s *limits) signedFor() time.Duration { return 4 * s.signEvery() }

// driftOf returns the allowance for clock rates during a TTL.
func driftOf(configured, ttl time.Duration) time.Duration {
	if configured != 0 {
		return configured
	}
	return ttl/100 + 2*time.Millisecond
}

// window returns for how long a node that forgot is young where leases last for maxTTL
// at most.
func (s *limits) window(maxTTL time.Duration) time.Duration {
	return max(s.guardWindow, maxTTL+driftOf(s.drift, maxTTL))
}

// youngUntil returns the instant up to which a node is asked for no vote, because it
// may have forgotten one that is still believed in; 0 if it is not young. It is counted
// from when we first heard of the node's present life, and on our own clock: a node's
// clock may be set right after a restart.
func (c *Core) youngUntil(i int) clock.Instant {
	p := &c.nodes[i]
	if p.state.Grown || !p.state.Guarded {
		return 0
	}
	widest := c.widest
	if !p.known {
		// It may have forgotten a lease for a longer TTL than any we have heard of.
		widest = max(widest, c.limits.maxTTLCap)
	}
	return p.state.LifeAt.Add(c.limits.window(widest))
}

// healFrom returns from when on every election is over that may have had a vote of an
// earlier life of a node. Its window is longer, so a node that is grown needs no wait.
// believed tells that the lease in question still counts on the earlier life: that gave
// nobody else its vote meanwhile. Else it may have, and for longer than we have heard of.
func (c *Core) healFrom(i int, believed bool) clock.Instant {
	p := &c.nodes[i]
	s := &p.state
	if s.Guarded && s.Grown {
		return 0
	}
	widest := c.widest
	if s.Guarded && !p.known && !believed {
		widest = max(widest, c.limits.maxTTLCap)
	}
	return s.LifeAt.Add(widest/4 + driftOf(c.limits.drift, widest))
}

// agree looks at what the state of a node says about the agreement.
func (c *Core) agree(now clock.Instant, i int, was *node.State) {
	p := &c.nodes[i]
	s := &p.state
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
		clear(p.foreign)
		p.disagrees = ""
	}
	if changed {
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
		c.twins(now, i)
		c.identify(now, i, s.Enrolled && !was.Enrolled)
		if s.Life != was.Life && c.young.has(i) {
			c.askMarkers(now, i)
		}
	}
	for k := range c.nodes {
		if c.young.has(k) {
			c.countYouth(now, k)
		}
	}
	if changed {
		c.tellYoung(now)
		c.warnIfApart(now)
	}
}

// tellYoung tells, once each time, that so many nodes are young that nothing can be
// acquired, and for how long.
func (c *Core) tellYoung(now clock.Instant) {
	n := len(c.nodes)
	if c.young.len() <= n-c.quorum {
		c.few = false
		return
	}
	if c.few {
		return
	}
	c.few = true
	until := make([]clock.Instant, n)
	for i := range until {
		until[i] = c.youngUntil(i)
	}
	slices.Sort(until)
	left := until[c.quorum-1].Sub(now)
	c.effects = append(c.effects, Effect{Kind: EffectYoung, Elapsed: left, err: fmt.Errorf(
		"%d of %d nodes are young: they were started or have lost their data, so nothing is acquired for %v; Config.MaxTTLCap bounds that time, and Config.DisableGuard ends it",
		c.young.len(), n, left.Round(time.Millisecond))})
}

// askMarkers asks the others whether their markers still say the same, now that a node is
// known to be young: any quorum that has granted a lease for a longer TTL, which that
// node may have forgotten, has one of n-q+1 others in it.
func (c *Core) askMarkers(now clock.Instant, young int) {
	for i := range c.nodes {
		if i != young {
			c.sign(now, i, false)
		}
	}
}

// countYouth works out until when a node is young.
func (c *Core) countYouth(now clock.Instant, i int) {
	p := &c.nodes[i]
	if !p.known {
		sure := 0
		for k := range c.nodes {
			if k != i && c.nodes[k].state.Grown && c.nodes[k].confirmed > p.state.LifeAt {
				sure++
			}
		}
		p.known = sure >= len(c.nodes)-c.quorum+1
	}
	p.youth.node = i
	switch at := c.youngUntil(i); {
	case at > now:
		c.alarms.set(&p.youth, at)
	case p.youth.due() > now.Add(c.limits.nodeTimeout): // it is not being told
		c.alarms.set(&p.youth, now)
	}
}

// stillYoung returns the same as youngUntil, before a node is asked for a vote. If the
// window ends at this instant and the alarm has not been heard, it has the marker say so
// first: the actor would refuse the vote otherwise, and an attempt would be lost.
func (c *Core) stillYoung(now clock.Instant, i int) clock.Instant {
	until := c.youngUntil(i)
	if y := &c.nodes[i].youth; y.isSet() && y.due() <= now && until <= now {
		c.alarms.clear(y)
		y.wake(c, now)
	}
	return until
}

// wake has a node's marker say that it is grown.
func (y *youth) wake(c *Core, now clock.Instant) {
	switch at := c.youngUntil(y.node); {
	case at == 0 || c.closing:
	case now < at:
		c.alarms.set(y, at)
	default:
		c.sign(now, y.node, true)
		c.alarms.set(y, now.Add(c.limits.nodeTimeout)) // unless its state says so before
	}
}

// sign leaves our fingerprint on a node, and reads those of others.
func (c *Core) sign(now clock.Instant, i int, grown bool) {
	s := &c.nodes[i].state
	if !s.Enrolled || !s.Guarded || c.closing {
		return
	}
	c.send(i, node.Command{
		Op: node.Sign, Token: c.text, TTL: c.limits.signedFor(), Grown: grown, Life: s.Life,
		By: now.Add(c.limits.signEvery()),
	})
}

// wake signs everywhere.
func (a *agreement) wake(c *Core, now clock.Instant) {
	if c.closing {
		return
	}
	for i := range c.nodes {
		c.sign(now, i, false)
	}
	c.warnIfApart(now)
	c.alarms.set(a, now.Add(c.limits.signEvery()))
}

// identify works out our fingerprint, and leaves it: how many nodes there are, and the
// identities of those that were met.
func (c *Core) identify(now clock.Instant, i int, enrolled bool) {
	var ids []string
	for k := range c.nodes {
		if id := c.nodes[k].state.Identity; id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	text := fmt.Sprintf("%d %s", len(c.nodes), strings.Join(slices.Compact(ids), ","))
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
		c.alarms.set(&c.agreement, now.Add(c.limits.signEvery()))
	}
}

// electorate reads a fingerprint.
func electorate(text string) (n int, ids []string, ok bool) {
	count, list, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(count)
	if list != "" {
		ids = strings.Split(list, ",")
	}
	return n, ids, err == nil && n > 0
}

// signed looks at the fingerprints that a node has.
func (c *Core) onSign(_ clock.Instant, i int, r node.Reply) {
	if r.Status != node.OK {
		return // the next one will do
	}
	p := &c.nodes[i]
	p.disagrees = ""
	_, ours, _ := electorate(c.text)
	alive := make(map[string]sighting)
	for _, f := range node.Fingerprints(r.Value) {
		n, theirs, ok := electorate(f.Text)
		if !ok {
			continue
		}
		strange := 0
		for _, id := range theirs {
			if !slices.Contains(ours, id) {
				strange++
			}
		}
		if n == len(c.nodes) && len(ours)+strange <= n {
			continue
		}
		x, seen := p.foreign[f.Text]
		if !seen {
			x.first = f.Until
		}
		x.last = f.Until
		alive[f.Text] = x
		// A node that was emptied gets another identity, which the others learn when they
		// enrol again. So that many alone is told at once, and another identity only if
		// it is still signed for when everybody has done so.
		if n == len(c.nodes) && x.last-x.first < 3*c.limits.signEvery()/2 {
			continue
		}
		p.disagrees = disagreement(n, strange)
		if key := p.label + f.Text; !c.told[key] {
			if c.told == nil {
				c.told = make(map[string]bool)
			}
			c.told[key] = true
			c.effects = append(c.effects, Effect{Kind: EffectWarned, Node: i,
				err: fmt.Errorf("%s: %s, and this client uses %d: two clients that do not agree on the nodes can hold one name at once", p.label, p.disagrees, len(c.nodes))})
		}
	}
	p.foreign = alive
}

// disagreement says how the electorate of others differs.
func disagreement(n, strange int) string {
	if strange == 0 {
		return fmt.Sprintf("other clients use %d nodes", n)
	}
	return fmt.Sprintf("other clients use %d nodes, of which this client does not know %d", n, strange)
}

// disagrees returns how other clients' nodes differ from ours, or "".
func (c *Core) disagrees() string {
	for i := range c.nodes {
		if d := c.nodes[i].disagrees; d != "" {
			return c.nodes[i].label + ": " + d
		}
	}
	return ""
}

// twins looks whether a node is the same server as another one: then its vote would
// count twice. The one that was met last is not counted, and as long as there is such
// a one nothing is acquired.
func (c *Core) twins(now clock.Instant, i int) {
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
			defer c.twins(now, k) // it may be the same as a third one
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
			c.effects = append(c.effects, Effect{Kind: EffectWarned, Node: i, err: c.misconfigured()})
			c.failAllWaiting(now)
		default:
			c.warn(i, "database", fmt.Errorf("%s and %s are two databases of one server: it takes both votes with it when it fails", o.label, p.label))
		}
	}
}

// misconfigured returns why nothing can be acquired with these nodes, or nil.
func (c *Core) misconfigured() error {
	for i := range c.nodes {
		if k := c.nodes[i].twin; k != 0 {
			return fmt.Errorf("%w: %s and %s are the same database of one server, whose vote would count twice", ErrMisconfigured, c.nodes[k-1].label, c.nodes[i].label)
		}
	}
	return nil
}

// turnAwayAll fails everybody who waits for a name.
func (c *Core) failAllWaiting(now clock.Instant) {
	why := c.misconfigured()
	for len(c.waited) > 0 {
		l := c.waited[len(c.waited)-1]
		c.dismiss(now, l, &AcquireError{Name: l.key, Quorum: c.quorum, why: why})
	}
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], why, nil)
	}
}

const (
	// clocksApart is by how much the nodes' clocks may differ before it is said.
	clocksApart = 3 * time.Second
	// offsetFor is for how long an offset counts as fresh.
	offsetFor = time.Minute
)

// compareClocks warns if the nodes' clocks differ: where fences are forgotten, the order
// of those that are proposed rests on these clocks.
func (c *Core) warnIfApart(now clock.Instant) {
	first, last := -1, -1
	for i := range c.nodes {
		s := &c.nodes[i].state
		if s.OffsetAt == 0 || !s.Enrolled || now.Sub(s.OffsetAt) > offsetFor {
			continue
		}
		if first < 0 || s.Offset < c.nodes[first].state.Offset {
			first = i
		}
		if last < 0 || s.Offset > c.nodes[last].state.Offset {
			last = i
		}
	}
	if first < 0 {
		return
	}
	d := c.nodes[last].state.Offset - c.nodes[first].state.Offset
	if d <= clocksApart {
		c.apart = false
		return
	}
	if !c.apart {
		c.apart = true
		c.effects = append(c.effects, Effect{Kind: EffectWarned, Node: last, err: fmt.Errorf(
			"the clock of %s is %v ahead of that of %s: if nodes lose their data, fences may go back by as much; have them set by NTP",
			c.nodes[last].label, d.Round(time.Millisecond), c.nodes[first].label)})
	}
}
