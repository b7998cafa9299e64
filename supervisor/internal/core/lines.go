package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A line has all callers of this process that want one name. The first waiter talks to the nodes;
// the others wait after it, first come, first served. None talks to the nodes while this process
// itself holds the name.
type line struct {
	holder    *tenure // this process's own
	*waitList         // nil while there is no waiter: most leases are held without
}

// A waitList is the part of a line that it has while there are waiters.
type waitList struct {
	alarm
	key         string
	inSet       int32    // of the lines with waiters
	first, last *waiter  // in the order in which they came
	attempt     *tenure  // the first waiter's
	inquiry     *inquiry // about the holder because of which the first waiter was refused

	ready     bool // it is on the list of those that may begin an attempt
	dismissed bool // all in it must be told that there is no lease

	tries   int     // failed attempts of the first waiter
	yields  int     // how often it has given way there
	ticket  uint64  // its place in the nodes' queues: at least the fence that it proposed first; 0 before that
	placed  bool    // a quorum has it after all that came before
	answers answers // the nodes' latest, shown to a caller that gives up
	why     Reason  // the reason that follows from them: Held or NoQuorum
	fence   uint64  // the highest seen in its register
}

// A waiter is one caller of Acquire or Adopt that has not been answered, or a seat of one of
// AcquireAny.
type waiter struct {
	Request
	list       *waitList // nil if it is in no line: of Adopt, and of those with an inquiry of their own
	prev, next *waiter   // in its line
	inquiry    *inquiry  // of TryAcquire, if others of this process are before it
	adoption   *tenure   // of Adopt
	choice     *choice   // of AcquireAny
	waits      bool      // its caller was told so
}

func (l *line) slot() *int32 { return &l.inSet }

// Acquire begins to acquire a name for a caller. EffectWon or EffectFailed answers it.
func (c *Core) Acquire(now clock.Instant, r Request) {
	if why := c.unfit(); why != ReasonNone {
		c.fail(r.Call, c.report(r.Key, why, nil))
		return
	}
	w := &waiter{Request: r}
	c.waiters.add(w)
	if w.Once && c.lines[r.Key] != nil {
		// Another caller of this process is before it. An attempt of its own would only split the
		// votes. It is told instead which client holds the name.
		w.inquiry = c.inquire(now, node.Command{Name: r.Key}, c.all)
		w.inquiry.waiter = w
		return
	}
	l := c.lineFor(r.Key)
	c.addWaiter(l, w)
	if l.first == w && l.holder == nil {
		c.try(now, l)
	} else {
		c.waits(w)
	}
}

// lineFor returns the line of a name, for a waiter to join.
func (c *Core) lineFor(key string) *line {
	l := c.lines[key]
	if l == nil {
		l = &line{}
		c.lines[key] = l
	}
	if l.waitList == nil {
		l.waitList = &waitList{key: key}
		if l.holder != nil {
			l.fence = l.holder.fence
		}
	}
	return l
}

// unfit returns why nothing can be acquired, or ReasonNone.
func (c *Core) unfit() Reason {
	switch {
	case c.closing:
		return ReasonClosed
	case c.twins() != Twins{}:
		return ReasonMisconfigured
	}
	if c.changing.why == ReasonNone && c.newcomer {
		return ReasonNewcomer
	}
	return c.changing.why
}

// Cancel handles a caller of Acquire, AcquireAny or Adopt that has given up. It is answered if it
// was not answered before.
func (c *Core) Cancel(now clock.Instant, call Call) {
	w := c.waiters.get(call)
	switch {
	case w == nil:
		return
	case w.inquiry != nil:
		c.closeInquiry(w.inquiry, ReasonNone)
		return
	case w.adoption != nil:
		c.cancelAdoption(w.adoption)
		return
	case w.choice != nil:
		c.failChoice(now, w.choice, ReasonNone)
		return
	case w.list.dismissed:
		return // it is about to be told
	}
	l := c.lines[w.Key]
	if w == l.first && l.attempt != nil && l.answers == nil {
		c.tally(l, l.attempt) // half an answer is better than none, and worse than the last
	}
	c.fail(call, c.failure(l, ReasonNone))
	c.drop(now, l, w)
}

// drop takes a waiter out of its line. If it was the first, it is the next one's turn at once.
func (c *Core) drop(now clock.Instant, l *line, w *waiter) {
	key, first := l.key, l.first == w // the list may be gone below
	c.removeWaiter(l, w)
	if !first {
		return
	}
	c.stopFirst(now, l)
	l.resetCounters()
	c.makeReady(now, l)
	c.forgetIdle(key, l)
}

// stopFirst ends all that is under way for the first waiter of a line.
func (c *Core) stopFirst(now clock.Instant, l *line) {
	if l.attempt != nil {
		c.abandon(now, l.attempt)
	}
	if l.inquiry != nil {
		delete(c.inquiries, l.inquiry.id)
		l.inquiry = nil
	}
	c.alarms.clear(l)
}

// addWaiter puts a waiter at the end of a line.
func (c *Core) addWaiter(l *line, w *waiter) {
	if w.prev = l.last; w.prev != nil {
		w.prev.next = w
	} else {
		l.first = w
	}
	l.last, w.list = w, l.waitList
	c.waited.add(l)
	if w.choice == nil { // which counts once
		c.callers++
	}
}

// removeWaiter takes a waiter out of its line, and does nothing else.
func (c *Core) removeWaiter(l *line, w *waiter) {
	c.unlink(l.waitList, w)
	if l.first == nil {
		c.waited.del(l)
	}
}

// unlink takes a waiter out of its list.
func (c *Core) unlink(list *waitList, w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		list.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		list.last = w.prev
	}
	w.prev, w.next, w.list = nil, nil, nil
	if w.choice == nil {
		c.callers--
	}
}

// resetCounters sets the counters for another first waiter.
func (l *line) resetCounters() { l.tries, l.yields, l.ticket, l.placed = 0, 0, 0, false }

// forgetIdle forgets the list of a line without waiters, and a line that is empty.
func (c *Core) forgetIdle(key string, l *line) {
	if l.waitList != nil && l.first == nil && l.attempt == nil {
		c.alarms.clear(l)
		l.waitList = nil
	}
	if l.waitList == nil && l.holder == nil {
		delete(c.lines, key)
	}
}

// try begins an attempt for the first waiter of a line.
func (c *Core) try(now clock.Instant, l *line) {
	switch {
	case l.first.choice != nil:
		c.tryChoice(now, l)
	case !c.queueIfContended(now, l):
		c.attempt(now, l)
	}
}

// attempt begins an ordinary attempt, with a fresh token: a late command of an earlier attempt can
// never touch this one.
func (c *Core) attempt(now clock.Instant, l *line) {
	t := c.newAttempt(l)
	c.alarms.set(t, now.Add(t.terms.Window))
	if fence, ok := c.proposal(now, l.fence); ok {
		c.startElection(now, t, fence)
		return
	}
	// The actor tries to connect to a node that refuses only rarely, and at once if it gets a
	// command. The answer is not read.
	for i := range c.nodes {
		if !c.nodes[i].state.Enrolled {
			c.send(i, node.Command{Op: node.Inspect, Name: l.key, By: now.Add(t.terms.Window)})
		}
	}
}

// newAttempt returns the next attempt of the first waiter of a line. It gets its token when
// something is sent for it.
func (c *Core) newAttempt(l *line) *tenure {
	n := len(c.nodes)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), key: l.key, terms: l.first.Terms, mode: c.toldKind,
		votes: newVotes(n), stages: &stages{line: l, ballot: &ballot{answers: make(answers, n)}},
	}
	c.tenures.add(t)
	l.attempt = t
	return t
}

// pause makes the first waiter pause after a failed attempt, or answers it if that was its last.
func (c *Core) pause(now clock.Instant, l *line) {
	w := l.first
	if w.Attempts > 0 {
		if w.Attempts--; w.Attempts == 0 {
			c.fail(w.Call, c.failure(l, ReasonNone))
			c.drop(now, l, w)
			return
		}
	}
	c.waits(w)
	at := now.Add(c.pauseAfter(l.tries))
	if free := l.answers.free(now, c.told()); free > now && free < at {
		at = free // the holder's grant runs out before
	}
	c.alarms.set(l, at)
}

// wake lets the first waiter try again.
func (l *line) wake(c *Core, now clock.Instant) {
	if c.dismissUnfit(now, l) {
		return
	}
	if l.yields > 0 && l.why == ReasonHeld && l.usesQueue() {
		c.enterQueue(now, l)
		return
	}
	c.try(now, l)
}

// retrySoon makes the waiters that found no quorum try again, soon but not all at once: a node has
// come back.
func (c *Core) retrySoon(now clock.Instant) {
	c.retrying.begin(c, now, &c.waited, task{kind: taskRetry})
}

func (c *Core) retryLine(now clock.Instant, l *line) {
	if l.why != ReasonNoQuorum {
		return
	}
	var a sleeper = l
	if t := l.attempt; t != nil && t.phase == phaseQueued {
		a = t
	}
	if at := now.Add(time.Duration(c.rand.Int64N(int64(c.settings.RetryMin)/4 + 1))); a.bell().isSet() && at < a.bell().due() {
		c.alarms.set(a, at)
	}
}

// failure returns why a waiter of a line gets no lease: what the nodes have said, unless another
// reason is given. A waiter that gives up right after another one gets the same report if it says
// the same. Otherwise a hundred thousand of them keep the garbage collector busy, and with it the
// loop.
func (c *Core) failure(l *line, why Reason) *Report {
	as, amounts := l.answers, l.why
	if l.holder != nil {
		c.own = c.ownAnswers(c.own[:0], l.holder)
		as, amounts = c.own, ReasonHeld
	}
	switch {
	case why != ReasonNone:
	case amounts != ReasonNone:
		why = amounts
	default:
		why = ReasonNoQuorum
	}
	if r := c.failed; r != nil && r.Key == l.key && r.Reason == why && r.Twins == c.twins() &&
		r.Disagreement == c.disagreement() && sameAnswers(r.Answers, as) {
		return r
	}
	c.failed = c.report(l.key, why, as)
	c.failed.Disagreement = c.disagreement()
	return c.failed
}

// sameAnswers reports whether two lists have the same answers. It does not compare errors, of
// whatever type they are: a node gives one answer at an instant.
func sameAnswers(as, bs answers) bool {
	return slices.EqualFunc(as, bs, func(a, b Answer) bool {
		if (a.Err != nil || b.Err != nil) && a.At == 0 {
			return false
		}
		a.Node, a.Err, b.Node, b.Err = 0, nil, 0, nil
		return a == b
	})
}
