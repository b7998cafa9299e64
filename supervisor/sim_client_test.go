package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
)

// A simClient is one process: a real core, its actors, and who calls it.
type simClient struct {
	w       *world
	id      int
	cfg     Config
	clock   rateClock
	core    core
	actors  []*simActor
	dead    bool // the process has ended
	crowded bool // its mailboxes have next to no room

	pausedUntil time.Duration
	unseenAt    clock.Instant // when it was last paused without its own clock noticing
	unseenFrom  time.Duration // the same in true time

	tickAt  time.Duration
	tickNo  int
	workers []*simWorker
	answers []chan error // each is to get one
}

func newSimClient(w *world, id int) *simClient {
	c := &simClient{w: w, id: id}
	c.clock = rateClock{w: w, rate: w.rate(), base: time.Duration(simOrigin) + w.upTo(time.Hour), from: w.now}
	ttl := w.maxTTL
	if w.chance(0.2) {
		ttl /= 2
	}
	retry := ttl/40 + w.upTo(ttl/10)
	c.cfg = Config{
		TTL: ttl, MaxTTL: w.maxTTL, NodeTimeout: w.timeout, RetryMin: retry, RetryMax: 2 * retry,
		Owner: fmt.Sprint("client-", id), Clock: c,
	}.withDefaults()
	widest := c.cfg.terms(c.cfg.MaxTTL)
	tokens := 0
	c.core = core{
		terms: *c.cfg.terms(c.cfg.TTL),
		limits: limits{
			nodeTimeout: c.cfg.NodeTimeout, retryMin: c.cfg.RetryMin, retryMax: c.cfg.RetryMax,
			guard: w.window > 0, maxTTL: c.cfg.MaxTTL, healAfter: widest.window + widest.drift,
			reserve: c.cfg.reserve(), beat: c.cfg.beat(),
		},
		token:    func() string { tokens++; return fmt.Sprintf("%d/%026d", id, tokens) },
		rand:     rand.New(rand.NewPCG(w.seed, uint64(id))),
		nodes:    make([]peer, len(w.nodes)),
		quorum:   w.quorum,
		looks:    make(map[uint64]*look),
		lines:    make(map[string]*line),
		standing: make(map[string]*tenure),
		crowded:  make(map[string]clock.Instant),
	}
	room := 8192
	if w.chance(0.05) {
		room = 2 + w.rand.IntN(8)
		c.crowded = true
	}
	stealthy := w.chance(0.15)
	for i, n := range w.nodes {
		c.core.nodes[i].label = fmt.Sprint("node-", i)
		a := &simActor{c: c, n: n, room: room, stealthy: stealthy}
		c.actors = append(c.actors, a)
		a.try(true)
	}
	for k := range w.names {
		for range 1 + w.rand.IntN(5)/4 {
			wk := &simWorker{c: c, key: k}
			c.workers = append(c.workers, wk)
			wk.think()
		}
	}
	c.arm()
	w.tell("client %d starts, TTL %v", id, ttl)
	return c
}

// Now is what the client's clock says: a simClient is a clock.Clock.
func (c *simClient) Now() clock.Instant { return clock.Instant(c.clock.now()) }

// NewTimer is never asked for.
func (c *simClient) NewTimer(time.Duration) clock.Timer { panic("no timers here") }

// after has something happen in this process: later if that is paused then, in an
// order that nobody knows.
func (c *simClient) after(d time.Duration, do func()) {
	c.w.after(d, func() { c.when(do) })
}

func (c *simClient) when(do func()) {
	switch {
	case c.dead:
	case c.pausedUntil > c.w.now:
		c.after(c.pausedUntil-c.w.now+c.w.upTo(200*time.Microsecond), do)
	default:
		do()
	}
}

// atLocal has something happen once the client's clock says so.
func (c *simClient) atLocal(at clock.Instant, do func()) {
	c.after(c.clock.until(time.Duration(at)), func() {
		if c.Now() < at { // it stood still meanwhile
			c.atLocal(at, do)
			return
		}
		do()
	})
}

// input gives the core one input, and does what it decides.
func (c *simClient) input(f func(now clock.Instant)) {
	now := c.Now()
	f(now)
	c.perform(now)
	c.arm()
}

// arm has the core wake up when it wants to.
func (c *simClient) arm() {
	now := c.Now()
	at := c.w.now + c.clock.until(time.Duration(now)+c.core.wait(now))
	if at == c.tickAt {
		return
	}
	c.tickAt = at
	c.tickNo++
	no := c.tickNo
	c.after(at-c.w.now, func() {
		if c.tickNo != no {
			return
		}
		c.tickAt = 0
		now := c.Now()
		c.core.tick(now)
		c.perform(now)
		for _, t := range c.core.tenures.places {
			if t != nil && t.phase == held && t.hold.until <= now {
				c.w.fail("client %d woke up at %d and did not end %s, which was lost at %d", c.id, now, t.token, t.hold.until)
			}
		}
		c.arm()
	})
}

// perform does what the loop does.
func (c *simClient) perform(now clock.Instant) {
	k := &c.core
	for len(k.effects)+len(k.sends) > 0 {
		for i := 0; i < len(k.effects); i++ {
			c.effect(now, k.effects[i])
		}
		clear(k.effects)
		k.effects = k.effects[:0]
		sends := len(k.sends)
		for i := range sends {
			if x := k.sends[i]; !c.actors[x.node].trySend(x.cmd) {
				c.w.stats.noRoom++
				k.unsent(now, x.node, x.cmd)
			}
		}
		k.sends = append(k.sends[:0], k.sends[sends:]...)
	}
}

func (c *simClient) effect(now clock.Instant, e effect) {
	w := c.w
	switch e.kind {
	case won:
		c.workerOf(e.waiter).won(e)
	case failed:
		c.workerOf(e.waiter).failed(e)
	case renewed:
		t := e.tenure
		if t.phase == held && !t.hold.lease.Renewed(e.until, t.terms.grace) {
			c.core.end(now, t, t.hold.lease.Lease().Err(), nil)
			return
		}
		if l := w.leaseOf(t); l != nil && t.phase == held {
			w.renewed(l, now, e.until)
		}
	case ended:
		t := e.tenure
		t.hold.lease.End(e.err)
		w.tell("client %d: %s is over: %v", c.id, t.token, e.err)
		if l := w.leaseOf(t); l != nil {
			w.ended(l, e.err)
		}
	case answered:
		select {
		case e.answer <- e.err:
		default:
			w.fail("client %d: a caller was answered twice", c.id)
		}
	case nodeUp, nodeDown:
	case warned:
		w.stats.warnings++
		w.tell("client %d: warning: %v", c.id, e.err)
	default:
		w.fail("client %d: an effect that nobody expects: %v", c.id, e.kind)
	}
}

func (c *simClient) workerOf(w *waiter) *simWorker {
	for _, wk := range c.workers {
		if wk.waiter == w {
			return wk
		}
	}
	c.w.fail("client %d: a result for nobody: there was one before", c.id)
	return nil
}

func (c *simClient) answer() chan error {
	ch := make(chan error, 1)
	c.answers = append(c.answers, ch)
	return ch
}

// kill ends the process.
func (c *simClient) kill() {
	c.dead = true
	for _, a := range c.actors {
		if a.c.w.chance(0.7) {
			a.listener.end() // else nothing tells the node that its host is gone
		}
		if a.conn != nil {
			a.conn.closed = true
		}
		if a.attempt != nil {
			a.attempt.closed = true
		}
	}
	for k := range c.w.leases {
		for _, l := range c.w.leases[k] {
			if l.c == c {
				l.over = true
			}
		}
	}
}

// pause stops the process; its own clock goes on, or stops too.
func (c *simClient) pause(d time.Duration, unseen bool) {
	w := c.w
	c.pausedUntil = max(c.pausedUntil, w.until(d))
	if unseen && !c.clock.stop {
		c.clock.freeze(true)
		c.unseenAt, c.unseenFrom = c.Now(), w.now
		c.thaw()
	}
}

func (c *simClient) thaw() {
	w := c.w
	w.after(c.pausedUntil-w.now, func() {
		if w.now < c.pausedUntil {
			c.thaw()
			return
		}
		c.clock.freeze(false)
	})
}

// A simWorker is one caller: it wants a name, holds it for a while, and gives it
// back.
type simWorker struct {
	c      *simClient
	key    int
	waiter *waiter
	lease  *simLease
	thinks bool
	brief  bool // it lets go at once next time
}

// think has the worker want the name again in a while.
func (wk *simWorker) think() {
	w := wk.c.w
	if wk.thinks || w.ending {
		return
	}
	wk.thinks = true
	d := w.upTo(w.maxTTL / 10)
	if w.chance(0.1) {
		d = w.between(0, 3)
	}
	wk.c.after(d, func() {
		wk.thinks = false
		if !w.ending && wk.waiter == nil && wk.lease == nil {
			wk.acquire()
		}
	})
}

func (wk *simWorker) acquire() {
	c, w := wk.c, wk.c.w
	q := &waiter{name: w.names[wk.key], terms: &c.core.terms}
	if w.chance(0.2) {
		q.terms = c.terms()
	}
	switch {
	case w.chance(0.1):
		q.once, q.attempts = true, 1
	case w.chance(0.1):
		q.attempts = 1 + w.rand.IntN(4)
	}
	q.noRenew = w.chance(0.05)
	if w.chance(0.05) {
		q.maxHold = w.between(0.1, 3)
	}
	wk.waiter = q
	if w.chance(0.4) {
		c.after(w.between(0, 2), func() {
			if wk.waiter == q {
				w.stats.cancels++
				c.input(func(now clock.Instant) { c.core.cancel(now, q, context.Canceled) })
				if wk.waiter == q {
					w.fail("client %d: cancelled, and no result", c.id)
				}
			}
		})
	}
	c.input(func(now clock.Instant) { c.core.acquire(now, q) })
}

// terms are those of any TTL that may be asked for.
func (c *simClient) terms() *terms {
	ttl := []time.Duration{c.cfg.MaxTTL, c.cfg.TTL, c.cfg.TTL / 2}[c.w.rand.IntN(3)].Truncate(time.Millisecond)
	t := c.cfg.terms(ttl)
	if err := t.validate(c.cfg.NodeTimeout); err != nil {
		c.w.fail("%v", err)
	}
	return t
}

func (wk *simWorker) failed(e effect) {
	w := wk.c.w
	wk.waiter = nil
	switch {
	case errors.Is(e.err, ErrHeld):
		w.stats.held++
	case errors.Is(e.err, ErrNoQuorum):
		w.stats.noQuorum++
	}
	wk.think()
}

func (wk *simWorker) won(e effect) {
	c, w, t := wk.c, wk.c.w, e.tenure
	q := e.waiter
	wk.waiter = nil
	l := &simLease{
		c: c, wk: wk, id: t.id, key: wk.key, token: t.token, fence: t.fence, ttl: t.terms.ttl,
		until: e.until, noRenew: q.noRenew,
	}
	held, control := lease.New(lease.Spec{
		Name: q.name, Token: t.token, Fence: t.fence, Clock: c, Until: e.until, Grace: t.terms.grace,
	})
	t.hold.lease = control
	l.held = held
	wk.lease = l
	if t.queued {
		w.stats.handed++
		w.checkOrder(l, t)
	}
	w.tell("client %d WON %q with %s, fence %d, until %d", c.id, q.name, t.token, t.fence, e.until)
	w.wonLease(l, t)
	// How long it works under the lease, and what it does meanwhile.
	d := w.between(0, 0.3)
	switch {
	case wk.brief:
		d, wk.brief = w.upTo(5*time.Millisecond), false
	case w.chance(w.faults.longHolds), t.pending != 0 && w.chance(w.faults.atLate):
		d = w.between(0.3, 4)
	}
	c.after(d, func() { wk.release(l) })
	if w.chance(0.15) {
		c.after(w.upTo(d), func() { wk.extend(l) })
	}
	if w.chance(0.3) {
		c.after(w.upTo(d), func() { l.probe() })
	}
	w.aimAtHolder(l, t)
}

func (wk *simWorker) release(l *simLease) {
	c, w := wk.c, wk.c.w
	if wk.lease != l {
		return
	}
	wk.lease = nil
	if err := l.held.Release(context.Background()); err != nil {
		wk.think() // it was lost
		return
	}
	w.stats.releases++
	l.over = true
	tell := func() {
		c.input(func(now clock.Instant) { c.core.release(now, l.id, c.answer()) })
	}
	if w.chance(0.3) {
		c.after(w.upTo(2*time.Millisecond), tell) // the loop is busy
	} else {
		tell()
	}
	wk.think()
}

func (wk *simWorker) extend(l *simLease) {
	c, w := wk.c, wk.c.w
	if wk.lease != l || l.held.Err() != nil {
		return
	}
	w.stats.extends++
	terms := c.terms()
	w.tell("client %d extends %s to %v", c.id, l.token, terms.ttl)
	l.ttl = max(l.ttl, terms.ttl)
	c.input(func(now clock.Instant) { c.core.extend(now, l.id, terms, c.answer()) })
}

// stop has the worker want nothing more.
func (wk *simWorker) stop() {
	c := wk.c
	if q := wk.waiter; q != nil {
		c.input(func(now clock.Instant) { c.core.cancel(now, q, context.Canceled) })
	}
	if l := wk.lease; l != nil {
		wk.release(l)
	}
}

// A simLease is a tenure as the world sees it.
type simLease struct {
	c       *simClient
	wk      *simWorker
	id      uint64
	key     int
	token   string
	fence   uint64
	ttl     time.Duration // the longest asked for
	held    *lease.Lease
	noRenew bool

	until clock.Instant // by its client's clock
	over  bool

	// A rival was let in by what the protocol does not promise to survive.
	interrupted   bool
	interruptedAt clock.Instant // by its client's clock
	blurred       bool          // what its holder could learn that by is gone with a node's data
}

// probe asks the lease, as its holder does before a write.
func (l *simLease) probe() {
	if l.over {
		return
	}
	if !l.held.Valid() {
		l.over = true
	}
}

func (w *world) leaseOf(t *tenure) *simLease {
	for _, l := range w.leases[w.nameIndex(t.key)] {
		if l.token == t.token {
			return l
		}
	}
	return nil
}

func (w *world) nameIndex(name string) int {
	i := slices.Index(w.names, name)
	if i < 0 {
		w.fail("what name is %q?", name)
	}
	return i
}

// believed reports whether its holder may act on it now.
func (l *simLease) believed() bool { return !l.over && l.c.Now() < l.until }

// unseen reports whether its holder was stopped by something that its clock does not
// know of, so lately that what it believes may come from before.
func (l *simLease) unseen() bool {
	at := l.c.unseenAt
	return at != 0 && l.c.Now().Sub(at) < l.c.w.maxTTL+l.c.core.terms.window
}

// blinded reports whether its holder cannot learn what has become of it: the
// evidence is gone.
func (l *simLease) blinded() bool {
	if l.blurred {
		return true
	}
	for _, n := range l.c.w.nodes {
		if simKnownPause && l.c.unseenAt != 0 && n.upAt > l.c.unseenFrom-l.c.w.maxTTL {
			return true
		}
	}
	return false
}

// support counts the nodes that keep a lease up to its deadline, or would, had they
// not forgotten it, or had it not been taken from them.
func (w *world) support(l *simLease) (kept, forgot, spoilt int) {
	end := w.now + l.c.clock.until(time.Duration(l.until)+l.grace())
	for _, n := range w.nodes {
		k, f, s := n.keeps(l, end)
		switch {
		case k:
			kept++
		case f:
			forgot++
		case s:
			spoilt++
		}
	}
	return kept, forgot, spoilt
}

func (l *simLease) grace() time.Duration {
	if t := l.c.core.tenures.get(l.id); t != nil {
		return t.terms.grace
	}
	return 0
}

// wonLease checks a new tenure: nobody else may believe in the name, the fence is
// larger than all before, and a quorum keeps the key to the end.
func (w *world) wonLease(l *simLease, t *tenure) {
	w.stats.won++
	if w.calm {
		w.progress[l.key] = true
	}
	if w.ending {
		w.fail("client %d got a lease that nobody waits for", l.c.id)
	}
	before := w.fence[l.key]
	overlaps := false // with the tenure of that fence, which by then has been excused

	others := w.leases[l.key][:0]
	for _, o := range w.leases[l.key] {
		if !o.believed() {
			continue
		}
		others = append(others, o)
		mine, lapsed, lost := w.support(l)
		if l.unseen() && mine < w.quorum {
			l.interrupted, l.interruptedAt = true, l.c.Now() // its votes are older than it knows
			overlaps = overlaps || o.fence == before
			continue
		}
		if mine+lapsed < w.quorum && mine+lapsed+lost >= w.quorum {
			// One of its votes was taken by hand before it had won, and given to the other.
			if !l.interrupted {
				w.stats.interrupted++
				w.tell("excused: %s is interrupted by %s", l.token, o.token)
				l.interrupted, l.interruptedAt = true, l.c.Now()
			}
			overlaps = overlaps || o.fence == before
			continue
		}
		kept, forgot, spoilt := w.support(o)
		excused := o.unseen() || o.blurred || kept+forgot < w.quorum && kept+forgot+spoilt >= w.quorum
		if !excused {
			w.fail("two holders: client %d got %q with %s while client %d holds it with %s until %v from now (kept by %d, forgotten by %d, spoilt on %d)",
				l.c.id, w.names[l.key], l.token, o.c.id, o.token, o.until.Sub(o.c.Now()), kept, forgot, spoilt)
		}
		if !o.interrupted {
			w.stats.interrupted++
			w.tell("excused: %s is interrupted by %s", o.token, l.token)
			o.interrupted, o.interruptedAt = true, o.c.Now()
			w.mustLearn(o)
		}
		overlaps = overlaps || o.fence == before
	}
	if l.fence <= before {
		if !w.fenceExcused() && !l.unseen() && !overlaps {
			w.fail("client %d: fence %d of %s is not larger than %d, which was handed out before", l.c.id, l.fence, l.token, before)
		}
		w.stats.fencesExcused++
	}
	w.fence[l.key] = max(before, l.fence)
	w.leases[l.key] = append(others, l)
	if l.interrupted {
		w.mustLearn(l)
	}
	w.checkSupport(l, "got")
}

// fenceExcused: fences need not grow where the values were flushed by hand just now,
// or were lost, or are kept for a moment only, and a node's clock was stepped as well.
func (w *world) fenceExcused() bool {
	return w.flushedAt != 0 && w.now-w.flushedAt < 2*w.maxTTL ||
		w.jumped && (w.lostData || w.flushedAt != 0 || w.keep < time.Hour)
}

// renewed checks a new end of a tenure.
func (w *world) renewed(l *simLease, now, until clock.Instant) {
	w.stats.renewals++
	if now >= l.until {
		w.fail("client %d: %s was lost at %d, and is revived at %d until %d", l.c.id, l.token, l.until, now, until)
	}
	if l.over {
		w.fail("client %d: %s is over, and is renewed", l.c.id, l.token)
	}
	l.until = until
	if l.interrupted && !l.blinded() && !l.filledIn() && until > l.interruptedAt.Add(l.ttl) {
		w.fail("client %d never learned that %s was interrupted %v ago: it is held for %v more", l.c.id, l.token, now.Sub(l.interruptedAt), until.Sub(now))
	}
	w.checkSupport(l, "renewed")
}

func (w *world) checkSupport(l *simLease, what string) {
	if l.unseen() {
		return
	}
	kept, forgot, spoilt := w.support(l)
	if kept+forgot+spoilt < w.quorum {
		w.fail("client %d %s %s until %v from now, but only %d nodes keep it for so long (%d have forgotten, %d were spoilt)",
			l.c.id, what, l.token, l.until.Sub(l.c.Now()), kept, forgot, spoilt)
	}
}

// checkKept checks, after a node has done something, that what is believed is still
// kept.
func (w *world) checkKept(n *simNode) {
	for k := range w.names {
		for _, l := range w.leases[k] {
			if l.believed() {
				w.checkSupport(l, "believes in")
			}
		}
	}
}

// filledIn reports whether a late grant that nobody has confirmed stands in for a node
// that is silent: what was deleted there is not known yet.
func (l *simLease) filledIn() bool {
	t := l.c.core.tenures.get(l.id)
	return t != nil && t.hold.everHeld() && slices.ContainsFunc(t.hold.trials, func(x trial) bool { return x.counts })
}

// mustLearn checks that a holder who was interrupted learns it within a renewal
// interval and a node timeout, if nothing else is in its way, such as a connection that
// broke: answers are slow now and then without a fault. It was told of the rest by the
// deadline in any case.
func (w *world) mustLearn(l *simLease) {
	if l.noRenew || l.unseen() {
		return
	}
	c, from := l.c, w.now
	t := c.core.tenures.get(l.id)
	if t == nil {
		return
	}
	w.after(t.terms.renewEvery*101/100+2*w.timeout, func() {
		for _, a := range c.actors {
			if a.brokeAt >= from-w.maxTTL {
				return
			}
		}
		if l.believed() && !l.blinded() && !c.dead && w.faults.latest < from-w.maxTTL {
			w.fail("client %d has not learned within a renewal interval that %s was interrupted, although nothing else is wrong", c.id, l.token)
		}
	})
}

func (w *world) ended(l *simLease, why error) {
	switch why {
	case lease.ErrReleased:
	case lease.ErrExpired:
		w.stats.lost["expired"]++
	case lease.ErrTaken:
		w.stats.lost["taken"]++
	case lease.ErrRevoked:
		w.stats.lost["revoked"]++
	case lease.ErrPaused:
		w.stats.lost["paused"]++
	case lease.ErrMaxHold:
		w.stats.lost["max hold"]++
	default:
		w.stats.lost["closed"]++
	}
	l.over = true
	if l.wk.lease == l && l.held.Err() != nil {
		wk := l.wk
		wk.c.after(wk.c.w.upTo(10*time.Millisecond), func() { // it stops its work
			if wk.lease == l {
				wk.lease = nil
				wk.think()
			}
		})
	}
}
