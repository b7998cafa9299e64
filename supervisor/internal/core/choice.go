package core

import (
	"slices"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A choice is one caller that wants any of several names. It has a seat in the lines of some of
// them. A seat is a waiter as any other: the line serves it in its turn, and as the first there it
// has an attempt and a place in the queues of the nodes. The difference is that at most one of its
// seats is in an election. As soon as an election begins, the attempts of the other seats are
// abandoned, which gives back at once what was reserved for them or given to them. They keep their
// seats and their tickets, and go on if the election is lost. See invariant 24 of package
// supervisor.
type choice struct {
	alarm          // the end of a look, or the next one
	head  *waiter  // the waiter that is told; it stands in no line
	keys  []string // which it wants, in the caller's order
	seats []*waiter

	chosen *waiter       // the seat for which an election is under way, or which waits for the nodes' time; nil if there is none
	beat   clock.Instant // the next heartbeat of all its seats: they share pipelines

	looks  []*inquiry // about the holders of the names; nil while they are not asked for
	from   int        // of keys: the first of the next look
	unsure int        // names for which it is not known yet whether they are free

	looked   []*inquiry // what the first look has said, while the attempt after it goes on
	lookedAt clock.Instant
}

// A spread says in how many queues a choice stands.
type spread struct {
	// most is how many names a choice may want and stand in the queues of all of them. A choice
	// that wants more stands in the queues in which few wait, and looks at all names as often as it
	// beats.
	most  int
	least int // seats of a choice that wants more
}

const (
	fewWait  = 2 // in a queue in which fewer wait, a choice takes a seat in any case
	manyWait = 3 // a queue in which more stand, itself included, it may leave

	// mostAtOnce is at how many names one look is, and the largest number of seats of a choice that
	// wants more. A mailbox has room for 8192 commands, and others must find some.
	mostAtOnce = 512
)

func (c *Core) wantsMany(ch *choice) bool { return len(ch.keys) > c.spread.most }

// AcquireAny begins to acquire any of several names for a caller. EffectWon, whose Key is the name,
// or EffectFailed answers it. Of the request Key, Attempts and Once do not count.
func (c *Core) AcquireAny(now clock.Instant, r Request, keys []string) {
	r.Key = keys[0]
	if why := c.unfit(); why != ReasonNone {
		c.fail(r.Call, c.report(r.Key, why, nil))
		return
	}
	ch := &choice{keys: keys}
	if len(keys) > mostAtOnce { // not at the names at which all others look first
		ch.from = c.rand.IntN(len(keys))
	}
	ch.head = &waiter{Request: r, choice: ch}
	c.waiters.add(ch.head)
	c.callers++
	var empty []string
	for _, key := range keys {
		if c.lines[key] == nil {
			empty = append(empty, key)
		}
	}
	_, known := c.proposal(now, 0)
	switch {
	case len(empty) > 0 && !known:
		c.tryOne(now, ch, empty) // it waits for the nodes' time as any other
	case len(empty) > 0 || c.wantsMany(ch):
		c.lookAround(now, ch)
	default:
		c.seatEverywhere(now, ch)
	}
}

// lookAround asks all nodes about all names; if there are very many, about the next ones.
func (c *Core) lookAround(now clock.Instant, ch *choice) {
	ch.unsure = min(len(ch.keys), mostAtOnce)
	ch.looks = make([]*inquiry, ch.unsure)
	for k := range ch.looks {
		ch.looks[k] = c.inquire(now, node.Command{Name: ch.keys[ch.from], Brief: true}, c.all)
		ch.looks[k].choice = ch
		ch.from = (ch.from + 1) % len(ch.keys)
	}
	c.alarms.set(ch, now.Add(max(c.roundTrip(), c.settings.NodeTimeout/2)))
}

// onLookAround handles one node's answer about one name. The choice waits for no more answers than
// it needs to decide.
func (c *Core) onLookAround(now clock.Instant, q *inquiry, i int, r node.Reply) {
	was := q.decided(c.told())
	q.answers[i] = answerTo(now, r)
	q.unanswered.del(i)
	if was || !q.decided(c.told()) {
		return
	}
	if q.choice.unsure--; q.choice.unsure == 0 {
		c.lookedAround(now, q.choice)
	}
}

// free reports whether a quorum has said that no client has the name.
func (q *inquiry) free(m *mode) bool { return m.reached(q.answers.with(VerdictFree)) }

// decided reports whether it is known if the name is free.
func (q *inquiry) decided(m *mode) bool {
	not := q.asked &^ q.unanswered &^ q.answers.with(VerdictFree)
	return q.free(m) || !m.reachedWithout(not)
}

// waiting returns how many stand in the queue of the name; many if no node has said so.
func (q *inquiry) waiting() (most int) {
	most = -1
	for _, a := range q.answers {
		if a.Verdict == VerdictFree || a.Verdict == VerdictHeld {
			most = max(most, a.Waiting)
		}
	}
	if most < 0 {
		return fewWait
	}
	return most
}

// wake ends a look that takes long, or begins the next one.
func (ch *choice) wake(c *Core, now clock.Instant) {
	switch {
	case ch.looks != nil:
		c.lookedAround(now, ch)
	case !c.closing:
		c.lookAround(now, ch)
	}
}

// lookedAround tries to get one of the names that are free, at the first look. It is not the same
// name as that of all others that come now. Several would be more than it may have. If none is free
// it stands in queues.
func (c *Core) lookedAround(now clock.Instant, ch *choice) {
	if why := c.unfit(); why != ReasonNone {
		c.failChoice(now, ch, why)
		return
	}
	looks := ch.looks
	c.endLook(ch)
	if len(ch.seats) == 0 {
		var free []string
		for _, q := range looks {
			if q.free(c.told()) && c.lines[q.key] == nil {
				free = append(free, q.key)
			}
		}
		if len(free) > 0 {
			ch.looked, ch.lookedAt = looks, now
			c.tryOne(now, ch, free)
			return
		}
	}
	if c.wantsMany(ch) {
		c.spreadOut(now, ch, looks)
	} else {
		c.seatEverywhere(now, ch)
	}
}

func (c *Core) endLook(ch *choice) {
	for _, q := range ch.looks {
		delete(c.inquiries, q.id)
	}
	ch.looks = nil
	c.alarms.clear(ch)
}

// tryOne makes an ordinary attempt for one of these names, whose lines are empty.
func (c *Core) tryOne(now clock.Instant, ch *choice, keys []string) {
	l := c.sit(ch, keys[c.rand.IntN(len(keys))])
	ch.chosen = l.first
	c.attempt(now, l)
}

// sit gives a choice a seat at the end of a line.
func (c *Core) sit(ch *choice, key string) *line {
	s := &waiter{Request: ch.head.Request, choice: ch}
	s.Key = key
	ch.seats = append(ch.seats, s)
	l := c.lineFor(key)
	c.addWaiter(l, s)
	return l
}

// seatEverywhere gives a choice that wants few names the seats that it lacks.
func (c *Core) seatEverywhere(now clock.Instant, ch *choice) {
	seated := ch.seated()
	for _, key := range ch.keys {
		if !seated[key] {
			c.startSoon(now, c.sit(ch, key))
		}
	}
	c.waits(ch.head)
}

// seated returns the names for which a choice has seats.
func (ch *choice) seated() map[string]bool {
	keys := make(map[string]bool)
	for _, s := range ch.seats {
		keys[s.Key] = true
	}
	return keys
}

// spreadOut makes a choice that wants many names take seats in lines in which few wait, and leave
// some in which many do, by a look that has just ended. So a choice that waits alone is everywhere,
// and very many are not all in one place.
func (c *Core) spreadOut(now clock.Instant, ch *choice, looks []*inquiry) {
	if ch.chosen == nil {
		seated := ch.seated()
		for _, k := range slices.Backward(c.shortestFirst(looks)) {
			if len(ch.seats) <= c.spread.least {
				break
			}
			if n := looks[k].waiting(); seated[looks[k].key] && n > manyWait && c.rand.IntN(n) >= 2 {
				c.unseat(now, ch, looks[k].key)
			}
		}
	}
	c.takeSeats(now, ch, looks, now)
}

// takeSeats gives a choice that wants many names seats in lines in which few wait, by a look that
// ended at an instant.
func (c *Core) takeSeats(now clock.Instant, ch *choice, looks []*inquiry, lookedAt clock.Instant) {
	// The next look does not go with the heartbeats. If a mailbox has room for a few commands
	// only, the looks would take it from them each time.
	c.alarms.set(ch, lookedAt.Add(c.jitter(c.settings.Heartbeat())))
	c.waits(ch.head)
	if ch.chosen != nil {
		return
	}
	seated := ch.seated()
	for _, k := range c.shortestFirst(looks) {
		if len(ch.seats) >= c.spread.least && looks[k].waiting() >= fewWait {
			break
		}
		if !seated[looks[k].key] && (len(ch.seats) < mostAtOnce || looks[k].free(c.told())) {
			c.startSoon(now, c.sit(ch, looks[k].key))
		}
	}
}

// shortestFirst returns the indices of looks, those of the shortest queues first.
func (c *Core) shortestFirst(looks []*inquiry) []int {
	order := c.rand.Perm(len(looks))
	slices.SortStableFunc(order, func(a, b int) int { return looks[a].waiting() - looks[b].waiting() })
	return order
}

// startSoon makes the first waiter of a line begin, if nothing is under way there.
func (c *Core) startSoon(now clock.Instant, l *line) {
	if l.mayTry() {
		c.makeReady(now, l)
	}
}

// unseat takes a choice out of one line.
func (c *Core) unseat(now clock.Instant, ch *choice, key string) {
	i := slices.IndexFunc(ch.seats, func(s *waiter) bool { return s.Key == key })
	if l := c.lineOf(ch.seats[i]); l != nil {
		c.drop(now, l, ch.seats[i])
		ch.seats = slices.Delete(ch.seats, i, i+1)
	}
}

// lineOf returns the line of a seat. It returns nil if all in the line are to be told that there is
// no lease, or if the seat has won.
func (c *Core) lineOf(s *waiter) *line {
	if s.list == nil || s.list.dismissed {
		return nil
	}
	return c.lines[s.Key]
}

// tryChoice makes a choice that is the first of a line stand in the queue there, unless one of its
// other seats is in an election.
func (c *Core) tryChoice(now clock.Instant, l *line) {
	ch := l.first.choice
	if ch.chosen != nil {
		return
	}
	if l.ticket == 0 {
		ticket, known := c.proposal(now, l.fence)
		if !known { // any more maybe, since other nodes were given
			c.choose(now, l.first)
			c.attempt(now, l)
			return
		}
		l.ticket = ticket
	}
	if l.answers == nil {
		l.answers = make(answers, len(c.nodes))
	}
	c.enterQueue(now, l)
}

// choose handles the beginning of an election for a waiter. If that is a seat of a choice, its
// other seats give back at once what they have.
func (c *Core) choose(now clock.Instant, w *waiter) {
	ch := w.choice
	if ch == nil {
		return
	}
	ch.chosen = w
	for _, s := range ch.seats {
		if l := c.lineOf(s); s != w && l != nil && l.first == s {
			c.stopFirst(now, l)
		}
	}
}

// unchoose handles the failure of an attempt for a waiter. If it was the election of a choice, its
// other seats go on, at their old tickets.
func (c *Core) unchoose(now clock.Instant, w *waiter) {
	ch := w.choice
	if ch == nil || ch.chosen != w {
		return
	}
	if ch.chosen = nil; c.unfit() != ReasonNone {
		return
	}
	for _, s := range ch.seats {
		if l := c.lineOf(s); s != w && l != nil && l.first == s {
			c.startSoon(now, l)
		}
	}
	switch {
	case !c.wantsMany(ch):
		c.seatEverywhere(now, ch)
	case ch.looked != nil: // a moment ago: it need not ask again
		looks := ch.looked
		ch.looked = nil
		c.takeSeats(now, ch, looks, ch.lookedAt)
	case ch.looks == nil && len(ch.seats) < c.spread.least:
		c.lookAround(now, ch)
	}
}

// nextBeat returns when a waiter beats next. The seats of a choice beat together.
func (c *Core) nextBeat(now clock.Instant, w *waiter) clock.Instant {
	next := now.Add(c.jitter(c.settings.Heartbeat()))
	if w.choice == nil {
		return next
	}
	if w.choice.beat <= now {
		w.choice.beat = next
	}
	return w.choice.beat
}

// forgetChoice takes a choice that was answered out of all lines.
func (c *Core) forgetChoice(now clock.Instant, ch *choice) {
	c.callers--
	c.endLook(ch)
	seats := ch.seats
	ch.seats, ch.chosen = nil, nil
	for _, s := range seats {
		switch l := c.lineOf(s); {
		case l != nil:
			c.drop(now, l, s)
		case s.list != nil:
			c.unlink(s.list, s)
		}
	}
}

// failChoice tells the caller of a choice why there is no lease.
func (c *Core) failChoice(now clock.Instant, ch *choice, why Reason) {
	c.fail(ch.head.Call, c.choiceFailure(ch, why))
	c.forgetChoice(now, ch)
}

// choiceFailure returns why a choice gets no lease: what the nodes have said about one of its
// names, unless another reason is given.
func (c *Core) choiceFailure(ch *choice, why Reason) *Report {
	for _, s := range ch.seats {
		l := c.lineOf(s)
		if l == nil {
			continue
		}
		if l.first == s && l.attempt != nil && l.answers == nil {
			c.tally(l, l.attempt)
		}
		return c.failure(l, why)
	}
	key, as := ch.head.Key, answers(nil)
	if ch.looks != nil {
		key, as = ch.looks[0].key, ch.looks[0].answers
	}
	if why == ReasonNone {
		why = as.amountTo(c.told())
	}
	r := c.report(key, why, as)
	r.Disagreement = c.disagreement()
	return r
}
