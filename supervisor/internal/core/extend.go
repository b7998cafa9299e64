package core

import "github.com/leasehold-go/leasehold/clock"

// An extension is a renewal by hand: it is done when a quorum has answered renewals that were sent
// since it was asked for.
type extension struct {
	early   nodeSet // nodes that have yet to answer an earlier renewal
	done    nodeSet
	waiters []Call

	handOver Call // the call among them for which the lease then ends here; 0 without
}

// Extend renews a held lease at once, with another TTL. EffectAnswered answers it.
func (c *Core) Extend(now clock.Instant, id uint64, terms *Terms, call Call) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld {
		// Its holder asks the lease itself why.
		c.answer(call, &Report{Reason: ReasonLost})
		return
	}
	h := &t.hold
	if grace := t.terms.Grace; grace < terms.Grace {
		// The larger drift or grace of a longer TTL must not eat up the rest of a short one.
		shared := *terms
		shared.Grace = grace
		terms = &shared
	}
	if terms.TTL > t.terms.TTL {
		h.lengthened(now, t.terms, t.pending)
	}
	if terms.Drift < t.terms.Drift {
		c.toleratesLess(t, terms.Drift)
	}
	former := t.terms.TTL
	t.terms = terms
	t.sentFor(former)
	if h.extend == nil {
		h.rare().extend = &extension{}
	}
	h.extend.early, h.extend.done = t.pending, 0
	h.extend.waiters = append(h.extend.waiters, call)
	if h.renewAt != clock.Never {
		h.renewAt = c.nextRenewal(t, now, t.every(now))
	} else {
		h.rare().lookAt = c.nextRenewal(t, now, terms.RenewEvery)
	}
	h.regular(now)
	c.renew(now, t, c.all)
	c.recomputeDeadline(now, t)
}

// extended records a renewal for an extension that is under way.
func (c *Core) extended(now clock.Instant, t *tenure, i int) {
	x := t.hold.extend
	if x == nil {
		return
	}
	if x.early.has(i) {
		x.early.del(i)
		c.renewAnd(now, t, 1<<i) // there is never more than one under way
		return
	}
	x.done.add(i)
	if !c.mode(t).reached(x.done & t.counting()) {
		return
	}
	t.hold.rare().extend = nil
	var handle *Handle
	if x.handOver != 0 {
		handle = c.handle(now, t)
		handle.Over = true
		c.disown(now, t) // before the caller gets the handle
	}
	for _, w := range x.waiters {
		e := Effect{Kind: EffectAnswered, Call: w}
		if w == x.handOver {
			e.Handle = handle
		}
		c.effects = append(c.effects, e)
	}
}
