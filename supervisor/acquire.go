package supervisor

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A line is who in this process wants one name: the first waiter talks to the
// nodes, the others queue behind it, first come, first served. Nobody talks to the
// nodes while this process itself holds the name.
type line struct {
	holder    *tenure // this process's own
	*waitList         // nil while nobody waits: most leases are held without
}

// A queue is what a line has while somebody waits in it.
type waitList struct {
	alarm
	key     string
	inSet   int32 // among the lines that somebody waits in
	waiters []*waiter
	attempt *tenure  // the first waiter's
	inquiry *inquiry // at who refused the first waiter

	tries   int     // failed attempts of the first waiter
	yields  int     // how often it has given way there
	ticket  uint64  // its place in the nodes' queues: at least the fence that it proposed first; 0 before that
	placed  bool    // a quorum has it behind all who came before
	answers answers // the nodes' latest, shown to whoever gives up
	why     error   // what they amount to: ErrHeld or ErrNoQuorum
	fence   uint64  // the highest seen
}

// A waiter is one caller of Acquire.
type waiter struct {
	Key      string
	Owner    string // what its lease says of the holder; the supervisor's where empty
	Terms    *Terms
	Attempts int  // how many it has left; 0 for as many as it takes
	Once     bool // do not queue: TryAcquire
	NoRenew  bool
	MaxHold  time.Duration
	result   chan acquired // with room for one; the loop's to send on
}

// A ballot is what the nodes answered to one attempt.
type ballot struct {
	answers  answers
	granted  nodeSet
	raised   nodeSet // the fence is larger than what they had stored, and is stored now
	known    nodeSet // what they had stored is no more than highest, or than the fence first proposed
	highest  uint64  // that they are known to have stored
	outdated nodeSet // while raising: nodes whose next answer is to a lower fence
	unsure   nodeSet // nodes that never answered a claim, which may arrive later than what follows

	claims     bool          // it is for a waiter that stands in the queue
	claimedAll bool          // every node was claimed at least once
	patience   time.Duration // until all that have not granted are claimed again
}

// acquire takes in a new waiter.
func (c *Core) Acquire(now clock.Instant, w *waiter) {
	key := c.limits.prefix + w.Key
	var broken error
	if c.closing {
		broken = ErrClosed
	} else {
		broken = c.misconfigured()
	}
	if broken != nil {
		c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: w, err: &AcquireError{Name: key, Quorum: c.quorum, why: broken}})
		return
	}
	l := c.lines[key]
	if l == nil {
		l = &line{}
		c.lines[key] = l
	}
	if w.Once && (l.holder != nil || l.waitList != nil) {
		// Somebody of this process is before it. An attempt of its own would only
		// split the votes; it is told who holds the name instead.
		k := c.inquire(now, key, false, all(len(c.nodes)), func(_ clock.Instant, k *inquiry) { c.closeInquiry(k, nil) })
		k.waiter = w
		return
	}
	if l.waitList == nil {
		l.waitList = &waitList{key: key}
		if l.holder != nil {
			l.fence = l.holder.fence
		}
	}
	l.waiters = append(l.waiters, w)
	c.waited.add(l)
	c.callers++
	if len(l.waiters) == 1 && l.holder == nil {
		c.try(now, l)
	}
}

// cancel takes in that a waiter's caller gave up, because of why. Its result is
// sent if it was not sent before.
func (c *Core) Cancel(now clock.Instant, w *waiter, why error) {
	if w.Once {
		for _, k := range c.inquiries {
			if k.waiter == w {
				c.closeInquiry(k, why)
				return
			}
		}
	}
	l := c.lines[c.limits.prefix+w.Key]
	if l == nil || l.waitList == nil {
		return
	}
	i := slices.Index(l.waiters, w)
	if i < 0 {
		return
	}
	if i == 0 && l.attempt != nil && l.answers == nil {
		c.tally(l, l.attempt) // half an answer is better than none, and worse than the last
	}
	c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: w, err: c.failure(l, why)})
	c.drop(now, l, i)
}

// drop takes the i-th waiter out of its line; the next one is at once in turn.
func (c *Core) drop(now clock.Instant, l *line, i int) {
	key := l.key // the queue may be gone below
	c.removeWaiter(l, i)
	if i > 0 {
		return
	}
	if t := l.attempt; t != nil {
		c.abandon(now, t)
	}
	if l.inquiry != nil {
		delete(c.inquiries, l.inquiry.id)
		l.inquiry = nil
	}
	c.alarms.clear(l)
	l.resetCounters()
	if len(l.waiters) > 0 && l.holder == nil {
		c.try(now, l)
	}
	c.forgetIdle(key, l)
}

func (l *line) slot() *int32 { return &l.inSet }

// unline takes the i-th waiter out of its line, and does nothing else.
func (c *Core) removeWaiter(l *line, i int) {
	l.waiters = slices.Delete(l.waiters, i, i+1)
	c.callers--
	if len(l.waiters) == 0 {
		c.waited.del(l)
	}
}

// anew begins to count for another first waiter.
func (l *line) resetCounters() { l.tries, l.yields, l.ticket, l.placed = 0, 0, 0, false }

// leave forgets the queue of a line that nobody waits in, and a line that nobody
// stands in.
func (c *Core) forgetIdle(key string, l *line) {
	if l.waitList != nil && len(l.waiters) == 0 && l.attempt == nil {
		c.alarms.clear(l)
		l.waitList = nil
	}
	if l.waitList == nil && l.holder == nil {
		delete(c.lines, key)
	}
}

// try begins an attempt for the first waiter of a line, with a fresh token: a
// late command of an earlier attempt can never touch this one.
func (c *Core) try(now clock.Instant, l *line) {
	if c.standIfContended(now, l) {
		return
	}
	t := c.newTenure(l)
	c.alarms.set(t, now.Add(t.terms.Window))
	if fence, ok := c.proposal(now, l.fence); ok {
		c.startElection(now, t, fence)
	}
}

// newTenure returns the next attempt of the first waiter of a line.
func (c *Core) newTenure(l *line) *tenure {
	n, w := len(c.nodes), l.waiters[0]
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), line: l, key: l.key, token: c.tokenFor(w), terms: w.Terms,
		votes: make([]vote, n), ballot: &ballot{answers: make(answers, n)},
	}
	c.tenures.add(t)
	l.attempt = t
	return t
}

// tokenFor returns a fresh token for an attempt of w.
func (c *Core) tokenFor(w *waiter) string {
	token := c.token()
	if w.Owner == "" {
		return token
	}
	return w.Owner + token[len(token)-randomLen-1:]
}

// proposal returns the fence to propose: the nodes' time in microseconds, by the
// median of their offsets, or one more than the highest that was seen. So no
// client's wall clock matters. It reports false until the time of a quorum is
// known. Offsets that are old, or of nodes that are unreachable, count only if there
// are too few others.
func (c *Core) proposal(now clock.Instant, seen uint64) (uint64, bool) {
	var buf, stale [maxNodes]time.Duration
	offsets, old := buf[:0], stale[:0]
	for i := range c.nodes {
		s := &c.nodes[i].state
		switch {
		case s.OffsetAt == 0:
		case s.Enrolled && now.Sub(s.OffsetAt) <= offsetFor:
			offsets = append(offsets, s.Offset)
		default:
			old = append(old, s.Offset)
		}
	}
	if len(offsets) < c.quorum {
		offsets = append(offsets, old...)
	}
	if len(offsets) < c.quorum {
		return 0, false
	}
	slices.Sort(offsets)
	median := offsets[(len(offsets)-1)/2] // the lower one of an even number
	return max(uint64((time.Duration(now)+median)/time.Microsecond), seen+1), true
}

// maxFence is the largest fence: nodes keep it as a float64, which is exact so far.
const maxFence = 1 << 53

// propose starts the attempts that have waited for the nodes' time.
func (c *Core) propose(now clock.Instant) {
	c.proposing.begin(c, now, &c.waited, func(now clock.Instant, l *line) {
		if t := l.attempt; t != nil && t.phase == phaseWaiting {
			if fence, ok := c.proposal(now, l.fence); ok {
				c.startElection(now, t, fence)
			}
		}
	})
}

// elect asks every node for its vote, all at once.
func (c *Core) startElection(now clock.Instant, t *tenure, fence uint64) {
	t.phase, t.fence, t.begun = phaseElecting, fence, now
	end := now.Add(t.terms.Window)
	c.alarms.set(t, end)
	if fence > maxFence {
		c.exhausted(now, t)
		return
	}
	grown := all(len(c.nodes))
	for i := range c.nodes {
		if young := c.stillYoung(now, i); now < young {
			// It may have forgotten a grant that its holder still believes in.
			t.ballot.answers[i] = answer{Verdict: Guarded, Left: young.Sub(now), At: now}
			grown.del(i)
		}
	}
	if grown.len() < c.quorum {
		c.lose(now, t)
		return
	}
	for i := range c.nodes {
		if !grown.has(i) {
			continue
		}
		t.votes[i].promise = now.Add(t.terms.TTL - t.terms.Drift)
		t.votes[i].life = c.nodes[i].state.Life
		t.asked.add(i)
		t.pending.add(i)
		c.send(i, node.Command{
			ID: t.id, Op: node.Grant, Name: t.key, Token: t.token,
			TTL: t.terms.TTL, Fence: fence, By: end,
		})
	}
}

// granted takes in an answer to a grant or a claim. One that comes after the election was won
// still counts for what it is worth; one that comes after it was lost finds its
// release already under way.
func (c *Core) onGrant(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	v := &t.votes[i]
	t.reached(i, r)
	first := v.until == 0
	if r.Status == node.OK {
		v.until = v.promise
		v.life = c.nodes[i].state.Life
		if r.Op == node.Claim {
			t.stand.gone.add(i)
		}
	}
	if r.Op == node.Claim && r.Status == node.Unknown {
		switch {
		case t.phase == phaseHeld:
			t.hold.onSilence(now, i)
		case t.ballot != nil:
			t.ballot.unsure.add(i)
		}
	}
	if r.Op == node.Grant && r.Status == node.Other {
		// It has said itself that it does not keep the token, and never will: every
		// attempt has one of its own. So there is nothing to be given back there.
		t.asked.del(i)
	}
	if t.askAgain.has(i) {
		c.askPostponed(now, t, i)
	}
	switch t.phase {
	case phaseElecting, phaseRaising:
		b := t.ballot
		b.answers[i] = answerTo(now, r)
		if young := c.youngUntil(i); r.Status == node.Unsent && now < young {
			// It was found to be young while the command was on its way to it.
			b.answers[i] = answer{Verdict: Guarded, Left: young.Sub(now), At: now}
		}
		if r.Status == node.OK && t.phase == phaseElecting {
			b.granted.add(i)
			b.highest = max(b.highest, r.Fence)
			if r.Raised {
				b.raised.add(i)
			}
			if r.Raised || r.Op == node.Claim { // a grant tells no more
				b.known.add(i)
			}
		}
		c.decide(now, t)
	case phaseHeld:
		if r.Status == node.OK {
			if first {
				c.firstVote(now, t, i)
			}
			c.recomputeDeadline(now, t)
		}
	case phaseReleasing:
		c.settled(now, t)
	}
}

// decide ends the election of votes as soon as its outcome is certain.
func (c *Core) decide(now clock.Instant, t *tenure) {
	b := t.ballot
	if t.adopt != nil {
		c.decideAdoption(now, t)
		return
	}
	switch {
	case now.Sub(t.begun) > t.terms.Window:
		c.lose(now, t)
	case b.raised.len() >= c.quorum:
		c.win(now, t)
	case t.phase == phaseElecting && b.granted.len() >= c.quorum:
		c.raise(now, t)
	case t.phase == phaseElecting && b.claims && !b.claimedAll:
		// Nodes that have not been claimed may yet say that they have reserved it.
	case t.phase == phaseElecting && (b.granted|t.pending).len() < c.quorum:
		c.lose(now, t)
	case t.phase == phaseRaising && b.granted.len() < c.quorum:
		c.lose(now, t)
	case t.phase == phaseRaising && (b.raised|t.pending&b.granted).len() < c.quorum:
		c.raise(now, t) // one of them had a larger fence stored, which is known now
	}
}

// raise has the nodes that have granted store a fence that is larger than all that
// they are known to have stored when they granted. One that has not told what that was
// tells it in its answer.
func (c *Core) raise(now clock.Instant, t *tenure) {
	b := t.ballot
	t.fence = max(t.fence, b.highest) + 1
	if b.granted&^b.known != 0 {
		// What these have stored is often a claim, which is ahead of the nodes' time.
		if fence, ok := c.proposal(now, 0); ok {
			t.fence = max(t.fence, fence+2*claimLead)
		}
	}
	if t.fence > maxFence {
		c.exhausted(now, t)
		return
	}
	t.phase, b.raised = phaseRaising, 0
	c.alarms.set(t, t.begun.Add(t.terms.Window)) // nothing is canvassed any more
	b.outdated = t.pending & b.granted
	for i := range c.nodes {
		if b.granted.has(i) && !b.outdated.has(i) {
			c.raiseAt(t, i)
		}
	}
}

func (c *Core) raiseAt(t *tenure, i int) {
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Raise, Name: t.key, Token: t.token,
		Fence: t.fence, By: t.begun.Add(t.terms.Window),
	})
}

// raised takes in an answer to a raise. What counts is what the node had stored when
// it granted: whatever came later is of no lease, for the key is ours.
func (c *Core) onRaise(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	if t.phase == phaseReleasing {
		c.settled(now, t)
	}
	if t.phase != phaseRaising {
		return
	}
	b := t.ballot
	late := b.outdated.has(i)
	b.outdated.del(i)
	if r.Status != node.OK {
		b.answers[i] = answerTo(now, r)
		b.granted.del(i)
		c.decide(now, t)
		return
	}
	if !b.known.has(i) {
		b.known.add(i)
		b.highest = max(b.highest, r.Fence)
	}
	switch {
	case late:
		c.raiseAt(t, i)
	case b.highest < t.fence:
		b.raised.add(i)
	}
	c.decide(now, t)
}

// exhausted tells the first waiter that no larger fence can be stored for the name. The
// same one a second time would order nothing.
func (c *Core) exhausted(now clock.Instant, t *tenure) {
	if t.adopt != nil {
		c.failAdoption(t, ErrFenceExhausted, nil)
		return
	}
	l := t.line
	c.tally(l, t)
	l.why = ErrFenceExhausted
	c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: l.waiters[0], err: c.failure(l, nil)})
	c.drop(now, l, 0)
}

// win hands the lease to the first waiter.
func (c *Core) win(now clock.Instant, t *tenure) {
	if t.adopt != nil {
		c.elected(now, t)
		return
	}
	l := t.line
	until := deadline(t.votes, t.counting(), c.quorum).Add(-t.terms.Grace)
	if until <= now { // the answers were as old as the lease is long
		c.lose(now, t)
		return
	}
	w := l.waiters[0]
	c.removeWaiter(l, 0)
	l.attempt, l.holder = nil, t
	l.resetCounters()
	l.answers, l.why, l.fence = nil, nil, max(l.fence, t.fence)
	c.forgetIdle(t.key, l)
	unsure, taken := t.ballot.unsure, t.ballot.answers.with(Held)
	t.ballot = nil
	t.phase = phaseHeld
	c.beginHold(t, w, until)
	for i := range c.nodes {
		if unsure.has(i) {
			t.hold.onSilence(now, i)
		}
	}
	c.held.add(t)
	c.effects = append(c.effects, Effect{Kind: EffectWon, waiter: w, tenure: t, Until: until, Elapsed: now.Sub(t.begun)})
	c.askTheRest(t, taken)
	c.schedule(t)
}

// lose gives back what an attempt got, and has the waiter try again later or
// tells it why not.
func (c *Core) lose(now clock.Instant, t *tenure) {
	if t.adopt != nil {
		c.failAdoption(t, ErrNoQuorum, nil)
		return
	}
	l := t.line
	c.tally(l, t)
	refused, claims := l.answers.with(Held), t.ballot.claims
	c.abandon(now, t)
	l.tries++
	switch {
	case refused == 0 || claims && l.why == ErrNoQuorum:
		c.pause(now, l)
		return
	case claims:
		c.yield(now, l)
		return
	case l.usesQueue():
		c.stand(now, l)
		return
	}
	// Who holds it, and for how long? That tells when to try again, and is what the
	// caller is told.
	l.inquiry = c.inquire(now, l.key, false, refused, func(now clock.Instant, k *inquiry) {
		l.inquiry = nil
		l.answers.merge(k.answers, refused)
		c.pause(now, l)
	})
}

// count draws up what the nodes answered to an attempt.
func (c *Core) tally(l *line, t *tenure) {
	l.answers, l.fence = t.ballot.answers, max(l.fence, t.ballot.highest)
	for i := range l.answers {
		a := &l.answers[i]
		l.fence = max(l.fence, a.Fence)
		if a.Verdict == Silent && t.phase == phaseWaiting {
			*a = answer{Verdict: Unreachable, Err: c.nodes[i].state.Err}
		}
	}
	if l.ticket == 0 && t.phase != phaseWaiting {
		l.ticket = t.fence
	}
	l.judge(c.quorum)
}

// judge works out what the answers amount to.
func (l *line) judge(quorum int) {
	as := l.answers
	away := as.with(Unreachable) | as.with(Silent) | as.with(Guarded)
	l.why = ErrHeld
	if len(as)-away.len() < quorum || as.with(Held) == 0 {
		l.why = ErrNoQuorum
	}
}

// pause puts the first waiter to sleep after a failed attempt, or sends it away if
// that was its last.
func (c *Core) pause(now clock.Instant, l *line) {
	w := l.waiters[0]
	if w.Attempts > 0 {
		if w.Attempts--; w.Attempts == 0 {
			c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: w, err: c.failure(l, nil)})
			c.drop(now, l, 0)
			return
		}
	}
	at := now.Add(c.limits.pause(c.rand, l.tries))
	if free := l.answers.free(now, c.quorum); free > now && free < at {
		at = free // the holder's grant runs out before
	}
	c.alarms.set(l, at)
}

// pause returns how long to wait after so many failed attempts: jittered, so that
// rivals do not collide for ever, and growing.
func (s *limits) pause(r *rand.Rand, tries int) time.Duration {
	d := s.retryMin
	if spread := s.retryMax - s.retryMin; spread > 0 {
		d += time.Duration(r.Int64N(int64(spread) + 1))
	}
	for i := 1; i < min(tries, 5); i++ {
		d += d / 2
	}
	return d
}

// wake lets the first waiter try again.
func (l *line) wake(c *Core, now clock.Instant) {
	if l.yields > 0 && l.why == ErrHeld && l.usesQueue() {
		c.stand(now, l)
		return
	}
	c.try(now, l)
}

// hurry has the waiters that found no quorum try again, soon but not all at once:
// a node has come back.
func (c *Core) retrySoon(now clock.Instant) {
	c.retrying.begin(c, now, &c.waited, func(now clock.Instant, l *line) {
		if l.why != ErrNoQuorum {
			return
		}
		var a sleeper = l
		if t := l.attempt; t != nil && t.phase == phaseQueued {
			a = t
		}
		if at := now.Add(time.Duration(c.rand.Int64N(int64(c.limits.retryMin)/4 + 1))); a.bell().isSet() && at < a.bell().due() {
			c.alarms.set(a, at)
		}
	})
}

// failure returns the error for a waiter of a line that gets no lease, and why not
// where that is not the nodes' doing.
func (c *Core) failure(l *line, cause error) error {
	e := &AcquireError{Name: l.key, Quorum: c.quorum, Nodes: c.named(l.answers), why: l.why, cause: cause}
	if l.holder != nil {
		e.why = ErrHeld
		e.Nodes = c.named(c.ownAnswers(l.holder))
	}
	if cause == ErrClosed {
		e.why, e.cause = ErrClosed, nil
	}
	if e.why == nil {
		e.why = ErrNoQuorum
	}
	e.disagrees = c.disagrees()
	return e
}
