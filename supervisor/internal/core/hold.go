package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A hold is what a tenure needs while it is held. It is part of the tenure: each renewal
// touches it, and with very many leases what that costs is waiting for memory.
type hold struct {
	until      clock.Instant // the lease is lost then: the deadline less the grace
	renewAt    clock.Instant // the next renewal on every node; Never without renewal
	*rareState               // nil before it is held; plain, which is never written to, while there are none
}

// odds are what most leases do without most of the time.
type rareState struct {
	retryAt     clock.Instant // the next renewal on those in retry
	retry       nodeSet       // nodes whose last renewal failed
	ask         nodeSet       // nodes that are to be renewed as soon as it is known that the lease goes on
	fails       uint8         // retries since the last regular renewal
	longer      bool          // a node may have been sent a longer TTL than the present one
	changesFrom clock.Instant // it is not looked at because of news before that
	endAt       clock.Instant // the longest that the holder wants it; Never without
	leaveAt     clock.Instant // it is taken out of the queues where it still stands; Never if it does not

	extend *extension // one that is under way
	trials []trial    // of the votes that are withdrawn or on probation
	ttlCap *ttlCap    // about renewals whose answer never came; nil without
}

// plain are the odds of all leases that have none.
var noRare = newRare()

func newRare() rareState {
	return rareState{retryAt: clock.Never, endAt: clock.Never, leaveAt: clock.Never}
}

// odd returns the odds, to be written to.
func (h *hold) rare() *rareState {
	if h.rareState == nil || h.rareState == &noRare {
		o := newRare()
		h.rareState = &o
	}
	return h.rareState
}

// everHeld reports whether the tenure is held, or was.
func (h *hold) everHeld() bool { return h.rareState != nil }

// regular takes in that every node is being asked again, and forgets odds that have
// come to nothing.
func (h *hold) regular(now clock.Instant) {
	o := h.rareState
	if o == &noRare {
		return
	}
	o.retryAt, o.retry, o.fails = clock.Never, 0, 0
	if o.ttlCap != nil && now >= o.ttlCap.until {
		o.ttlCap = nil
	}
	if !o.longer && o.changesFrom <= now && o.endAt == clock.Never && o.leaveAt == clock.Never &&
		o.extend == nil && len(o.trials) == 0 && o.ttlCap == nil && o.ask == 0 {
		h.rareState = &noRare
	}
}

// heard takes in that node i need not be asked again before the others.
func (h *hold) heard(i int) {
	if h.retry.has(i) {
		h.rare().retry.del(i)
	}
}

// A doubt is about renewals that may come late: one for a shorter TTL would shorten
// what a later one for a longer TTL was promised. So a node that may yet get such a
// one is believed for the shorter TTL only.
type ttlCap struct {
	silent nodeSet       // nodes that never answered a renewal
	until  clock.Instant // such a renewal has arrived by then, or never will
	capped nodeSet       // nodes that may yet get one for a shorter TTL
	terms  *Terms        // the shortest of those
}

// unanswered takes in that node i may have got a renewal, or may get it yet.
func (h *hold) onSilence(now clock.Instant, i int) {
	if h.ttlCap == nil {
		h.rare().ttlCap = &ttlCap{}
	}
	h.ttlCap.silent.add(i)
	h.ttlCap.until = now.Add(owedFor)
}

// isLate reports whether node i may have got a renewal that it never answered, or may
// get it yet. It may be asked of a tenure that was never held.
func (h *hold) isSilent(i int) bool { return h.everHeld() && h.ttlCap != nil && h.ttlCap.silent.has(i) }

// answered takes in that node i has no renewal before it that was not answered,
// but for those that it never will.
func (h *hold) onAnswer(i int) {
	if h.ttlCap != nil && !h.isSilent(i) {
		h.ttlCap.capped.del(i)
	}
}

// lengthened takes in that renewals for a TTL are followed by such for a longer one,
// while some nodes have yet to answer.
func (h *hold) lengthened(now clock.Instant, short *Terms, pending nodeSet) {
	if h.ttlCap == nil {
		if pending == 0 {
			return
		}
		h.rare().ttlCap = &ttlCap{until: now.Add(owedFor)}
	}
	d := h.ttlCap
	d.capped |= d.silent | pending
	if d.terms == nil || short.TTL < d.terms.TTL {
		d.terms = short
	}
}

// shortened returns by which terms a node is believed that may yet get a renewal for
// a shorter TTL, or nil if there is no such node. It may be asked of a tenure that was
// never held.
func (h *hold) shortened(now clock.Instant) *Terms {
	if !h.everHeld() {
		return nil
	}
	if d := h.ttlCap; d != nil && d.capped != 0 && now < d.until {
		return d.terms
	}
	return nil
}

// An extension is a renewal by hand: it is done when a quorum has answered
// renewals that were sent since it was asked for.
type extension struct {
	early   nodeSet // nodes that have yet to answer an earlier renewal
	done    nodeSet
	waiters []Call

	handOver Call // that of them for which the lease ends here then; 0 without
}

// beginHold fills in what a tenure needs from now on.
func (c *Core) beginHold(t *tenure, w *waiter, until clock.Instant) {
	t.hold = hold{until: until, renewAt: clock.Never, rareState: &noRare}
	h := &t.hold
	if !w.NoRenew {
		h.renewAt = c.nextRenewal(t, t.begun, t.terms.RenewEvery)
		if c.tracks() {
			h.renewAt = min(h.renewAt, t.begun.Add(c.jitter(trackAfter)))
		}
	}
	if w.MaxHold > 0 {
		h.rare().endAt = t.begun.Add(w.MaxHold)
	}
	if t.inQueues && t.stand.gone != all(len(c.nodes)) {
		h.rare().leaveAt = t.begun.Add(c.settings.NodeTimeout) // the other nodes may yet be claimed
	}
}

// slot returns how far apart the moments are at which leases are renewed: those that
// are due within a slot are renewed together, and so share pipelines, one of which
// costs as much as several dozen renewals. Slots are narrower where they would hold
// more than a pipeline does: by half each time, so that a lease more or less does not
// put the others out of step.
func (c *Core) spacing(every time.Duration) clock.Instant {
	n := leastMoments
	for n*mostAtMoment < len(c.held) {
		n *= 2
	}
	return clock.Instant(every/time.Duration(n) + 1)
}

const (
	leastMoments = 40
	mostAtMoment = 512
)

// nextRenewal returns when to renew a lease that was renewed at last. A lease that has
// just begun is renewed at any moment of the interval but for its first quarter: many
// may have begun at once, and a burst would come again and again.
func (c *Core) nextRenewal(t *tenure, last clock.Instant, every time.Duration) clock.Instant {
	d := c.jitter(every)
	if last.Sub(t.begun) < every/4 {
		d = every - time.Duration(c.rand.Int64N(int64(every)*3/4+1))
	}
	at := last.Add(d)
	return at - at%c.spacing(every)
}

// jitter returns nine to ten tenths of d, so that leases which began together do
// not stay in step.
func (c *Core) jitter(d time.Duration) time.Duration {
	return d - time.Duration(c.rand.Int64N(int64(d)/10+1))
}

// counting returns the nodes whose votes count.
func (t *tenure) counting() nodeSet { return t.asked &^ t.suspect() }

// suspect returns the nodes that had the lease no longer, or never, when they were
// last asked.
func (t *tenure) suspect() nodeSet { return t.withdrawn | t.probation }

// schedule sets the alarm of a held lease to what comes first.
func (c *Core) schedule(t *tenure) {
	h := &t.hold
	c.alarms.set(t, min(h.until, h.endAt, h.leaveAt, h.renewAt, h.retryAt))
}

// wake looks at what has become due: the end of an election, or of a held lease,
// or a renewal, or the end of an expired lease's grace.
func (t *tenure) wake(c *Core, now clock.Instant) {
	switch t.phase {
	case phaseQueued:
		c.heartbeat(now, t)
	case phaseWaiting, phaseElecting, phaseRaising:
		if t.adopt != nil {
			c.adoptionDue(now, t)
			return
		}
		if b := t.ballot; t.phase == phaseElecting && b.claims && now.Sub(t.begun) < t.terms.Window {
			c.claimRest(now, t)
			return
		}
		c.lose(now, t)
	case phaseAdopting:
		c.adoptionDue(now, t)
	case phaseReleasing:
		c.sendReleases(now, t)
	case phaseHeld:
		h := &t.hold
		switch {
		case now >= h.until:
			c.end(now, t, ReasonExpired)
		case now >= h.endAt:
			c.end(now, t, ReasonMaxHold)
		case now >= h.leaveAt:
			h.rare().leaveAt = clock.Never
			if c.leaveAll(now, t) != 0 {
				h.rare().leaveAt = now.Add(c.settings.NodeTimeout)
			}
			c.schedule(t)
		case now >= h.renewAt:
			h.renewAt = c.nextRenewal(t, now, t.every(now))
			h.regular(now)
			c.renewAnd(now, t, all(len(c.nodes)))
		default: // h.retryAt
			again := h.retry
			o := h.rare()
			o.retryAt, o.retry = clock.Never, 0
			c.renewAnd(now, t, again)
		}
	}
}

// promise returns until when node i will surely keep a lease, if it says yes to a
// renewal or a claim that is queued now.
func (t *tenure) promise(now clock.Instant, i int) clock.Instant {
	ttl := t.terms.TTL
	if short := t.hold.shortened(now); short != nil && t.hold.ttlCap.capped.has(i) {
		ttl = min(ttl, short.TTL)
	}
	return now.Add(ttl - t.terms.Drift)
}

// every returns how often the nodes are to be asked.
func (t *tenure) every(now clock.Instant) time.Duration {
	if short := t.hold.shortened(now); short != nil {
		return min(t.terms.RenewEvery, short.RenewEvery)
	}
	return t.terms.RenewEvery
}

// renewAnd sends renewals, and works out anew until when the lease is held if one of
// them, for a shorter time than the node has promised, is the first since an extension.
func (c *Core) renewAnd(now clock.Instant, t *tenure, nodes nodeSet) {
	if c.renew(now, t, nodes) {
		c.recomputeDeadline(now, t)
	} else {
		c.schedule(t)
	}
}

// renew sends a renewal to each of the nodes that has none unanswered. It reports
// whether that has shortened what a node has promised.
func (c *Core) renew(now clock.Instant, t *tenure, nodes nodeSet) (shortened bool) {
	nodes &^= t.pending
	for i := range c.nodes {
		if !nodes.has(i) {
			continue
		}
		v := &t.votes[i]
		v.promise = t.promise(now, i)
		// A renewal for a shorter time than the node has promised shortens it as
		// soon as it arrives, answered or not.
		if v.until > v.promise {
			v.until, shortened = v.promise, true
		}
		t.pending.add(i)
		c.send(i, node.Command{ID: t.id, Op: node.Renew, Name: t.key, Token: t.token, TTL: t.terms.TTL, By: t.hold.until})
	}
	return shortened
}

// renewed takes in an answer to a renewal.
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
	h := &t.hold
	if t.askAgain.has(i) {
		defer c.askPostponed(now, t, i)
	}
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
	v := &t.votes[i]
	switch r.Status {
	case node.OK:
		if from := c.healFrom(i, v.until > now); v.life != c.nodes[i].state.Life && now < from {
			// It was asked for its vote in another life, and may have forgotten that: a
			// command that came late has set the key. A rival whose election had the vote
			// of that life may still win by it.
			c.retryAt(now, t, i, from)
			c.recomputeDeadline(now, t)
			return
		}
		first := v.until == 0
		v.until = v.promise
		v.life = c.nodes[i].state.Life
		h.heard(i)
		if first {
			c.firstVote(now, t, i) // its grant was never answered, or it is on trial
		}
		c.confirm(now, t, i)
		// Whoever waits for an extension finds it in the lease.
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
		c.suspectOf(now, t, i, &t.withdrawn)
		t.taken.add(i)
	default:
		c.retryLater(now, t, i)
	}
	c.recomputeDeadline(now, t)
}

// missing takes in that a node does not have the key.
func (c *Core) onKeyAbsent(now clock.Instant, t *tenure, i int) {
	v, s := &t.votes[i], &c.nodes[i].state
	forgot := v.life != 0 && v.life != s.Life
	switch {
	case now >= v.until:
		if v.until != 0 {
			t.doubtLate(now) // somebody may have deleted it, and a rival have come by it
		}
		c.suspectOf(now, t, i, &t.probation) // it has expired there, or never was there
	case !forgot:
		c.suspectOf(now, t, i, &t.withdrawn) // somebody deleted it
	case !s.Guarded:
		v.until = 0 // it may have given the name away already
	}
	// Otherwise the node has restarted, and the guard keeps it from giving the name
	// away for longer than it had promised it to this lease: the vote still counts.
}

// suspectOf puts a vote into one of the two sets of those that do not count, and on
// trial: from its beginning, unless the node was known to lack the key already.
func (c *Core) suspectOf(now clock.Instant, t *tenure, i int, of *nodeSet) {
	h := &t.hold
	k := h.trialOf(i)
	began := k < 0 || t.votes[i].until != 0 || of == &t.withdrawn && !t.withdrawn.has(i)
	if began && k >= 0 {
		h.rare().trials = slices.Delete(h.trials, k, k+1)
	}
	if of == &t.withdrawn {
		t.probation.del(i)
		t.doubtLate(now)
	}
	if !t.withdrawn.has(i) {
		of.add(i)
	}
	t.taken.del(i)
	t.votes[i].until = 0
	if began {
		o := h.rare()
		o.trials = append(o.trials, trial{node: i, since: now, early: t.pending})
		c.askOthers(t, i)
	}
}

// askOthers has a trial begin at once, and not with the next regular renewal.
func (c *Core) askOthers(t *tenure, i int) {
	if t.hold.renewAt != clock.Never {
		t.hold.rare().ask |= all(len(c.nodes)) &^ (1 << i)
	}
}

// trialOf returns which trial is that of node i's vote; -1 if it is on none.
func (h *hold) trialOf(i int) int {
	return slices.IndexFunc(h.trials, func(x trial) bool { return x.node == i })
}

// joined takes in that a node has the key of a lease that is held already, which it was
// not known to have. If it is on trial, that begins again: the others may have been lost
// to a rival before the key was there. Else its grant was long on its way, and somebody
// may have deleted the key on other nodes meanwhile, and a rival have come and gone on
// them and on this one: the vote counts only as long as no other is withdrawn, until a
// quorum of others has confirmed that it was not so.
func (c *Core) firstVote(now clock.Instant, t *tenure, i int) {
	h := &t.hold
	if k := h.trialOf(i); k >= 0 {
		x := &h.rare().trials[k]
		x.early, x.confirmed = t.pending, 0
		c.askOthers(t, i)
		return
	}
	if now.Sub(t.begun) <= lateAfter || t.suspect().has(i) {
		return
	}
	o := h.rare()
	o.trials = append(o.trials, trial{node: i, since: now, early: t.pending, counts: true})
}

// lateAfter is from when on a grant is late: it is taken that nobody deletes the keys of a
// lease sooner after it began.
const lateAfter = 10 * time.Millisecond

// doubtLate puts late grants that nobody has confirmed on probation: a vote was
// withdrawn, so a rival may have had that node and theirs before these grants arrived.
func (t *tenure) doubtLate(now clock.Instant) {
	for k := range t.hold.trials {
		if x := &t.hold.trials[k]; x.counts {
			*x = trial{node: x.node, since: now, early: t.pending}
			t.probation.add(x.node)
			t.votes[x.node].until = 0
		}
	}
}

// unproven returns the nodes whose vote is on trial, whether it counts meanwhile or not.
func (t *tenure) unproven() (nodes nodeSet) {
	for k := range t.hold.trials {
		nodes.add(t.hold.trials[k].node)
	}
	return nodes
}

// confirm takes in that a node has renewed, and what this decides of the votes on trial:
// a node that lacks the key is healed, and the vote of one that has it counts again.
func (c *Core) confirm(now clock.Instant, t *tenure, i int) {
	h := &t.hold
	if len(h.trials) == 0 {
		return
	}
	unproven := t.unproven()
	if unproven.has(i) {
		return
	}
	o := h.rare()
	again := false
	for k := range o.trials {
		if x := &o.trials[k]; x.early.has(i) {
			x.early.del(i)
			again = true
		} else {
			x.confirmed.add(i)
		}
	}
	var absent nodeSet
	// A vote that is proven here was unproven until now, so it has confirmed no other.
	o.trials = slices.DeleteFunc(o.trials, func(x trial) bool {
		if (x.confirmed &^ unproven).len() < c.quorum {
			return false
		}
		if t.votes[x.node].until == 0 {
			absent.add(x.node)
			return false
		}
		t.withdrawn.del(x.node)
		t.taken.del(x.node)
		t.probation.del(x.node)
		return true
	})
	for k := range c.nodes {
		if absent.has(k) {
			c.heal(now, t, k)
		}
	}
	if again && h.renewAt != clock.Never {
		o.ask.add(i) // what it has answered was sent too early to confirm anything
	}
}

// heal grants a node that does not have the key to the lease again, with its own
// fence: once every election that may have had the vote of an earlier incarnation of
// the node is over, and in the present incarnation only. If its vote is suspect, a
// quorum of others must have confirmed before that no rival has come between: the key
// would look like an unbroken tenure to whoever adopts it. A vote that was withdrawn is
// healed not before a renewal interval has passed.
func (c *Core) heal(now clock.Instant, t *tenure, i int) {
	h := &t.hold
	if h.renewAt == clock.Never || t.pending.has(i) {
		return // a lease that does not renew itself is not mended either
	}
	at := c.healFrom(i, t.votes[i].until > now)
	if k := h.trialOf(i); k >= 0 && t.suspect().has(i) {
		x := &h.trials[k]
		if (x.confirmed &^ t.unproven()).len() < c.quorum {
			return
		}
		if t.withdrawn.has(i) {
			// Whoever takes a lease away may reach one node after the other: what was
			// deleted first must not be back when the last is reached.
			at = max(at, x.since.Add(t.terms.RenewEvery))
		}
	}
	if now < at {
		c.retryAt(now, t, i, at)
		return
	}
	t.votes[i].promise = t.promise(now, i)
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Heal, Name: t.key, Token: t.token,
		TTL: t.terms.TTL, Fence: t.fence, Life: c.nodes[i].state.Life, By: h.until,
	})
}

// healed takes in an answer to a heal. The vote of a node that had merely
// forgotten counts on; that of a suspect one stays on trial.
func (c *Core) onHeal(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	if t.phase != phaseHeld {
		c.settled(now, t)
		return
	}
	h := &t.hold
	if now >= h.until {
		c.end(now, t, ReasonExpired)
		return
	}
	if r.Status == node.Unknown {
		h.onSilence(now, i)
	} else {
		h.onAnswer(i)
	}
	v := &t.votes[i]
	switch r.Status {
	case node.OK:
		first := v.until == 0
		v.until = v.promise
		v.life = c.nodes[i].state.Life
		h.heard(i)
		if first {
			c.firstVote(now, t, i)
		}
	case node.Other:
		c.suspectOf(now, t, i, &t.withdrawn)
		t.taken.add(i)
	default:
		c.retryLater(now, t, i)
	}
	c.recomputeDeadline(now, t)
}

// retryAt has a node asked again at an instant.
func (c *Core) retryAt(now clock.Instant, t *tenure, i int, at clock.Instant) {
	if t.hold.renewAt == clock.Never && t.hold.extend == nil {
		return
	}
	o := t.hold.rare()
	o.retry.add(i)
	o.retryAt = min(o.retryAt, max(at, now))
}

// askTheRest has the nodes that did not vote for a new lease asked soon, but for those
// where somebody else has the key: one that is young, or was late, may be healed. What
// is held for less than a moment is not worth it.
func (c *Core) askTheRest(t *tenure, taken nodeSet) {
	for i := range c.nodes {
		if t.votes[i].until == 0 && !t.pending.has(i) && !taken.has(i) && c.nodes[i].state.Enrolled {
			c.retryAt(t.begun, t, i, t.begun.Add(trackAfter))
		}
	}
}

// fillIn asks a node that was just enrolled about the leases that do not have its vote,
// or whose latest renewal it did not answer.
func (c *Core) fillIn(now clock.Instant, i int) {
	c.nodes[i].filling.begin(c, now, &c.held, task{kind: taskFillIn, node: i})
}

// retryLater has a node asked again before the next regular renewal: after an
// eighth of the interval, or of what is left of the lease if that is less, as after
// an extension; then a quarter, then a half.
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

// lostAt returns when a held lease will be lost unless it is renewed; 0 if too few votes
// count.
func (c *Core) lostAt(t *tenure) clock.Instant {
	until := deadline(t.votes, t.counting(), c.quorum)
	if until == 0 {
		return 0
	}
	return until.Add(-t.terms.Grace)
}

// reckon works out anew until when the lease is held, and ends it if that is now.
func (c *Core) recomputeDeadline(now clock.Instant, t *tenure) {
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
			h.until = until
			c.effects = append(c.effects, Effect{Kind: EffectRenewed, ID: t.id, Until: until, Grace: t.terms.Grace})
		}
		c.schedule(t)
	case t.withdrawn.len() == 0:
		c.end(now, t, ReasonExpired)
	case 2*t.taken.len() >= t.withdrawn.len():
		c.end(now, t, ReasonTaken)
	default:
		c.end(now, t, ReasonRevoked)
	}
}

// Extend renews a held lease at once, with another TTL. It is answered by EffectAnswered.
func (c *Core) Extend(now clock.Instant, id uint64, terms *Terms, call Call) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld {
		// Its holder asks the lease itself why.
		c.answer(call, &Report{Reason: ReasonLost})
		return
	}
	h := &t.hold
	if grace := t.terms.Grace; grace < terms.Grace {
		// The larger one of a longer TTL must not eat up what is left of a short one.
		shared := *terms
		shared.Grace = grace
		terms = &shared
	}
	if terms.TTL > t.terms.TTL {
		h.lengthened(now, t.terms, t.pending)
	} else if terms.TTL < t.terms.TTL {
		h.rare().longer = true
	}
	t.terms = terms
	if h.extend == nil {
		h.rare().extend = &extension{}
	}
	h.extend.early, h.extend.done = t.pending, 0
	h.extend.waiters = append(h.extend.waiters, call)
	if h.renewAt != clock.Never {
		h.renewAt = c.nextRenewal(t, now, t.every(now))
	}
	h.regular(now)
	c.renew(now, t, all(len(c.nodes)))
	c.recomputeDeadline(now, t)
}

// extended takes in a renewal for an extension that is under way.
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
	if (x.done & t.counting()).len() < c.quorum {
		return
	}
	t.hold.rare().extend = nil
	var handle *Handle
	if x.handOver != 0 {
		handle = t.handle(now)
		handle.Over = true
		c.disown(now, t) // before anybody is told that there is an heir
	}
	for _, w := range x.waiters {
		e := Effect{Kind: EffectAnswered, Call: w}
		if w == x.handOver {
			e.Handle = handle
		}
		c.effects = append(c.effects, e)
	}
}
