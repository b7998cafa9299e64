package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// spacing returns how far apart the moments are at which leases are renewed. Leases that are due
// within a slot are renewed together, and so share pipelines, one of which costs as much as some
// hundred renewals. Slots are narrower if they would hold more than a pipeline does: by half each
// time, so that a lease more or less does not put the others out of step. They are narrower, too,
// for few leases. These have little to share, and so are not renewed earlier than they must be.
func (c *Core) spacing(every time.Duration) clock.Instant {
	n := leastMoments
	if len(c.held) <= fewLeases {
		n *= 2
	}
	for n*mostAtMoment < len(c.held) {
		n *= 2
	}
	return clock.Instant(every/time.Duration(n) + 1)
}

const (
	leastMoments = 20
	fewLeases    = 64
	mostAtMoment = 512
)

// nextRenewal returns when to renew a lease again that was renewed at last. A lease that has just
// begun is renewed at any moment of the interval but for its first quarter. Many may have begun at
// once, and a burst would come again and again.
func (c *Core) nextRenewal(t *tenure, last clock.Instant, every time.Duration) clock.Instant {
	d := c.jitter(every)
	if last.Sub(t.begun) < every/4 {
		d = every - time.Duration(c.rand.Int64N(int64(every)*3/4+1))
	}
	at := last.Add(d)
	return at - at%c.spacing(every)
}

// jitter returns nine to ten tenths of d, so that leases which began together do not stay in step.
func (c *Core) jitter(d time.Duration) time.Duration {
	return d - time.Duration(c.rand.Int64N(int64(d)/10+1))
}

// schedule sets the alarm of a held lease to what comes first.
func (c *Core) schedule(t *tenure) {
	h := &t.hold
	c.alarms.set(t, min(h.until, h.endAt, h.leaveAt, h.renewAt, h.lookAt, h.retryAt))
}

// promise returns until when node i will surely keep a lease, if it says yes to a renewal or a
// claim that is queued now.
func (t *tenure) promise(now clock.Instant, i int) clock.Instant {
	ttl := t.terms.TTL
	if short := t.hold.shortened(now); short != nil && short.TTL < ttl && t.hold.ttlCap.capped.has(i) {
		ttl = short.TTL
		t.hold.rare().short.add(i)
	} else if t.hold.everHeld() && t.hold.short.has(i) {
		t.hold.short.del(i)
	}
	return now.Add(ttl - t.terms.Drift)
}

// every returns how often to ask the nodes.
func (t *tenure) every(now clock.Instant) time.Duration {
	if short := t.hold.shortened(now); short != nil {
		return min(t.terms.RenewEvery, short.RenewEvery)
	}
	return t.terms.RenewEvery
}

// renewAnd sends renewals. If one of them is for a shorter time than the node has promised, and is
// the first since an extension, it also computes the deadline again.
func (c *Core) renewAnd(now clock.Instant, t *tenure, nodes nodeSet) {
	if t.phase == phaseHeld && now >= t.hold.until {
		// A message has woken this process, and not the lease's timer. The lease is over, and no
		// node is to blame.
		c.end(now, t, ReasonExpired)
		return
	}
	if c.renew(now, t, nodes) {
		c.recomputeDeadline(now, t)
	} else {
		c.schedule(t)
	}
}

// renew sends a renewal to each of the nodes that has none unanswered. It reports whether that has
// shortened what a node has promised.
func (c *Core) renew(now clock.Instant, t *tenure, nodes nodeSet) (shortened bool) {
	nodes &= c.all &^ t.pending
	ttl := t.stay(now)
	together := nodes == c.all && ttl == t.terms.TTL // a group has one TTL
	for i := range c.nodes {
		if !nodes.has(i) {
			continue
		}
		v := &t.votes.of[i]
		v.promise = t.promise(now, i)
		// If a renewal is for a shorter time than the node has promised, it shortens that as soon
		// as it arrives, even if it is not answered.
		if v.until > v.promise {
			v.until, shortened = v.promise, true
			t.votes.loose.add(i)
		}
		t.pending.add(i)
		if !together {
			c.send(i, node.Command{ID: t.id, Op: node.Renew, Name: t.key, Token: t.token, TTL: ttl, By: t.hold.until})
		}
	}
	if together {
		c.gather(t)
	}
	return shortened
}

// onRenewal hears an answer to a renewal.
func (c *Core) onRenewal(now clock.Instant, t *tenure, i int, r node.Reply) {
	if t.phase == phaseAdopting {
		c.onKeeping(now, t, i, r)
		return
	}
	t.pending.del(i)
	if t.phase != phaseHeld {
		c.settled(now, t)
		return
	}
	again := t.askNoMore(i)
	c.onHeldRenewal(now, t, i, r)
	if again && t.phase == phaseHeld {
		c.renewAnd(now, t, 1<<i)
	}
}

// onHeldRenewal hears an answer to a renewal of a lease that is held.
func (c *Core) onHeldRenewal(now clock.Instant, t *tenure, i int, r node.Reply) {
	h := &t.hold
	c.heardOf(now, t, i, r)
	if now >= h.until {
		// The answer is too late, and a lease that was lost is never revived.
		c.end(now, t, ReasonExpired)
		return
	}
	if r.Status == node.Unknown {
		h.onSilence(now, i)
	} else {
		h.onAnswer(i)
	}
	v := &t.votes.of[i]
	switch r.Status {
	case node.OK:
		if fault := c.bars(i, t); fault != 0 {
			// What it keeps, it keeps for a lease that must end unless it rests on both lists, or until
			// our entry is left there again.
			h.heard(i)
			v.fault = fault
			if fault == FaultNoEntry {
				c.retryLater(now, t, i)
			}
			c.recomputeDeadline(now, t)
			return
		}
		if from := c.healFrom(i, v.until > now); v.life != c.nodes[i].state.Life && now < from {
			// The node was asked for its vote in another life, and may have forgotten that: a
			// command that came late has set the key. A rival whose election had the vote of that
			// life may still win by it.
			c.retryAt(now, t, i, from)
			c.recomputeDeadline(now, t)
			return
		}
		first := c.hasKey(t, i)
		h.heard(i)
		if first {
			c.firstVote(now, t, i) // its grant was never answered, or it is on trial
		}
		c.confirm(now, t, i)
		// The caller of Extend finds it in the lease.
		if c.recomputeDeadline(now, t); t.phase == phaseHeld {
			c.extended(now, t, i)
		}
		return
	case node.Absent:
		c.onKeyAbsent(now, t, i)
		if c.recomputeDeadline(now, t); t.phase == phaseHeld {
			c.heal(now, t, i)
			c.schedule(t)
		}
		return
	case node.Other:
		c.onOverwritten(now, t, i)
	default:
		c.retryLater(now, t, i)
	}
	c.recomputeDeadline(now, t)
}

// retryAt makes sure that a node is asked again at an instant.
func (c *Core) retryAt(now clock.Instant, t *tenure, i int, at clock.Instant) {
	if t.hold.renewAt == clock.Never && t.hold.extend == nil {
		return
	}
	o := t.hold.rare()
	o.retry.add(i)
	o.retryAt = min(o.retryAt, max(at, now))
}

// retryLater makes sure that a node is asked again before the next regular renewal. The first time
// is after an eighth of the interval, or of the rest of the lease if that is less, as after an
// extension; then a quarter, then a half.
func (c *Core) retryLater(now clock.Instant, t *tenure, i int) {
	h := &t.hold
	if h.renewAt == clock.Never && h.extend == nil {
		return
	}
	o := h.rare()
	o.retry.add(i)
	if o.retryAt == clock.Never && o.fails < 3 {
		o.retryAt = now.Add(c.jitter(min(t.every(now), h.until.Sub(now)) >> (3 - o.fails)))
		o.fails++
	}
}

// askTheRest asks the nodes that did not vote for a new lease soon, except those on which another
// client has the key. A node that is young, or was late, may be healed. If the lease is held for
// less than a moment that is not worth it.
func (c *Core) askTheRest(t *tenure, taken nodeSet) {
	for i := range c.nodes {
		if t.votes.of[i].until == 0 && !t.pending.has(i) && !taken.has(i) && c.nodes[i].state.Enrolled {
			c.retryAt(t.begun, t, i, t.begun.Add(trackAfter))
		}
	}
}

// fillIn asks a node that was just enrolled about the leases that do not have its vote, or whose
// latest renewal it did not answer.
func (c *Core) fillIn(now clock.Instant, i int) {
	c.nodes[i].filling.begin(c, now, &c.held, task{kind: taskFillIn, node: i})
}

// lostAt returns when a held lease will be lost unless it is renewed; 0 if too few votes count.
func (c *Core) lostAt(t *tenure) clock.Instant {
	until := c.mode(t).deadline(t.votes.of, t.counting())
	if until == 0 {
		return 0
	}
	return until.Add(-t.terms.Grace)
}

// recomputeDeadline computes until when the lease is held, and ends it if that is now.
func (c *Core) recomputeDeadline(now clock.Instant, t *tenure) {
	c.restOnBoth(now, t)
	h := &t.hold
	until := c.lostAt(t)
	if until > now && h.ask != 0 {
		ask := h.ask
		h.rare().ask = 0
		if c.renew(now, t, ask) {
			until = c.lostAt(t)
		}
	}
	switch {
	case until > now:
		if until != h.until {
			if until > h.until && !c.justGiven(t) {
				c.margins.renewed(now, h.until.Sub(now), t.terms.TTL)
			}
			h.until = until
			c.effects = append(c.effects, Effect{Kind: EffectRenewed, ID: t.id, Until: until, Grace: t.terms.Grace})
		}
		c.schedule(t)
	default:
		c.end(now, t, t.votes.whyLost())
	}
}
