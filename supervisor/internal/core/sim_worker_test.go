package core

import (
	"context"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
)

// A simWorker is one caller: it wants a name, holds it for a while, and gives it
// back.
type simWorker struct {
	c       *simClient
	key     int
	call    Call // its own, while it waits; 0 if it does not
	lease   *simLease
	thinks  bool
	noRenew bool
	minHold time.Duration
	brief   bool          // it lets go at once next time
	group   *simGroup     // it wants other names as well; nil if not
	adopts  *simHandle    // what it adopts; nil if it acquires
	askedAt time.Duration // when it began to, in true time
	guest   bool          // it is there for this once
	any     bool          // it wants any of several names; key is that of its latest lease
}

// idle reports whether it wants nothing, and has nothing.
func (wk *simWorker) idle() bool { return wk.call == 0 && wk.lease == nil }

// rush has the worker want the name soon, if it is one for that alone and wants nothing.
func (wk *simWorker) rush(brief bool) {
	w := wk.c.w
	if wk.group != nil || wk.guest {
		return
	}
	wk.c.after(w.upTo(5*time.Millisecond), func() {
		if !w.ending && wk.idle() {
			wk.brief = brief
			wk.acquire()
		}
	})
}

// think has the worker want the name again in a while.
func (wk *simWorker) think() {
	w := wk.c.w
	if wk.guest || wk.group != nil && wk.group.workers[0] != wk {
		return
	}
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
		switch {
		case w.ending:
		case wk.group != nil && !wk.group.idle():
			wk.think() // it is still being given up
		case wk.idle():
			wk.acquire()
		}
	})
}

func (wk *simWorker) acquire() {
	c, w := wk.c, wk.c.w
	if x := w.change; x != nil && x.restful && wk.group == nil && c.role == givenBoth && !w.calm {
		wk.think()
		return
	}
	q := Request{Call: c.call(), Key: w.names[wk.key], Terms: c.core.terms}
	if w.chance(0.2) {
		q.Terms = c.terms()
	}
	switch {
	case wk.group != nil || wk.any:
	case w.chance(0.1):
		q.Once, q.Attempts = true, 1
	case w.chance(0.1):
		q.Attempts = 1 + w.rand.IntN(4)
	}
	q.NoRenew = w.chance(0.05)
	if w.chance(0.05) {
		q.MaxHold = w.between(0.1, 3)
	}
	if w.minHolds && wk.group == nil && w.chance(0.2) {
		q.MinHold = w.between(0.05, simLongestMinHold)
	}
	wk.call, wk.noRenew, wk.minHold = q.Call, q.NoRenew, q.MinHold
	if w.chance(0.4) {
		c.after(w.between(0, 2), func() {
			if wk.call == q.Call {
				w.stats.cancels++
				wk.cancel()
			}
		})
	}
	if wk.any {
		var keys []string
		for _, k := range w.rand.Perm(len(w.names))[:2+w.rand.IntN(len(w.names)-1)] {
			keys = append(keys, w.names[k])
		}
		c.post(func(now clock.Instant) { c.core.AcquireAny(now, q, keys) })
		return
	}
	c.post(func(now clock.Instant) { c.core.Acquire(now, q) })
}

// cancel has the worker wait no longer.
func (wk *simWorker) cancel() {
	c, call := wk.c, wk.call
	c.input(func(now clock.Instant) { c.core.Cancel(now, call) })
	if wk.call == call {
		c.w.fail("client %d: cancelled, and no result for %q, which is adopted: %v", c.id, c.w.names[wk.key], wk.adopts != nil)
	}
}

// terms are those of any TTL that may be asked for.
func (c *simClient) terms() *Terms {
	ttl := []time.Duration{c.cfg.MaxTTL, c.cfg.TTL, c.cfg.TTL / 2}[c.w.rand.IntN(3)].Truncate(time.Millisecond)
	t := c.cfg.Terms(max(ttl, 5*c.w.timeout))
	if !c.fits(t) {
		c.w.fail("renewals do not fit into %+v", t)
	}
	return t
}

// fits reports whether renewals fit into a TTL, as the configuration wants it.
func (c *simClient) fits(t *Terms) bool {
	return t.TTL <= c.cfg.MaxTTL && c.cfg.NodeTimeout <= t.TTL/4 && t.RenewEvery+c.cfg.NodeTimeout+t.Grace+t.Drift < t.TTL
}

func (wk *simWorker) failed(e *Effect) {
	w := wk.c.w
	wk.call = 0
	if wk.adopts != nil {
		w.stats.refused++
		w.tell("client %d adopts nothing: %v", wk.c.id, e.Report.Reason)
		return
	}
	switch e.Report.Reason {
	case ReasonHeld:
		w.stats.held++
	case ReasonNoQuorum:
		w.stats.noQuorum++
	}
	if g := wk.group; g != nil {
		wk.c.after(w.upTo(100*time.Microsecond), g.giveUp)
		return
	}
	wk.think()
}

func (wk *simWorker) won(e *Effect) {
	c, w, t := wk.c, wk.c.w, wk.c.core.tenures.get(e.ID)
	wk.call = 0
	if wk.any {
		w.stats.any++
		wk.key = w.nameIndex(e.Key)
	}
	l := &simLease{
		c: c, wk: wk, id: t.id, key: wk.key, token: t.token, fence: t.fence, ttl: t.terms.TTL,
		until: e.Until, noRenew: wk.noRenew, minHold: wk.minHold, wonAt: w.now,
		begunAt: w.now - time.Duration(float64(c.Now().Sub(t.begun))/c.clock.rate),
	}
	if wk.adopts != nil {
		l.begunAt = wk.askedAt // it waited for its former holder, and its votes are as old as that
	}
	held, control := lease.New(lease.Spec{
		Name: e.Key, Token: lease.Token(e.Token), Fence: e.Fence, Clock: c, Until: e.Until, Grace: e.Grace,
	})
	c.leases[e.ID] = control
	l.held = held
	wk.lease = l
	l.learnLists()
	if t.inQueues {
		w.stats.handed++
		if t.queuing.won {
			w.stats.given++
		}
		w.checkOrder(l, t)
	}
	w.tell("client %d WON %q with %s, fence %d, until %d", c.id, e.Key, t.token, t.fence, e.Until)
	w.wonLease(l)
	if wk.adopts != nil {
		w.adopted(l, wk.adopts)
	}
	if l.minHold > 0 && wk.adopts == nil && w.chance(0.1) {
		c.after(w.upTo(50*time.Microsecond), func() { wk.forgo(l) })
		return
	}
	// How long it works under the lease, and what it does meanwhile.
	d := w.between(0, 0.3)
	switch {
	case wk.brief:
		d, wk.brief = w.upTo(5*time.Millisecond), false
	case w.chance(w.faults.longHolds), w.chance(w.faults.atScene), t.pending != 0 && w.chance(w.faults.atLate):
		d = w.between(0.3, 4)
	}
	if wk.group != nil {
		wk.group.won(wk, d)
	} else {
		c.after(d, func() { wk.release(l) })
	}
	if w.chance(0.15) {
		c.after(w.upTo(d), func() { wk.extend(l) })
	}
	if w.chance(0.3) {
		c.after(w.upTo(d), func() { l.probe() })
	}
	// Whoever adopts a lease waits for no more than the cap, whatever the nodes keep of it.
	if w.chance(w.faults.handles) && l.minHold <= w.most {
		c.after(w.upTo(d), func() { wk.passOn(l) })
	}
	w.aimAtHolder(l, t)
	if !wk.guest {
		w.play(l)
	}
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
	w.heldAt[l.key] = w.now // the core hears of it later
	tell := func() {
		call := c.answer()
		c.following[call] = func(e Effect) { w.released(l, e.Report) }
		c.post(func(now clock.Instant) { c.core.Release(now, l.id, call) })
	}
	if w.chance(0.3) {
		c.after(w.upTo(2*time.Millisecond), tell) // the loop is busy
	} else {
		tell()
	}
	wk.think()
}

// forgo has the lease given back because its caller had given up just before.
func (wk *simWorker) forgo(l *simLease) {
	c, w := wk.c, wk.c.w
	if wk.lease != l {
		return
	}
	wk.lease = nil
	call := c.answer()
	c.input(func(now clock.Instant) {
		l.over = true
		if t := c.core.tenures.get(l.id); t != nil && t.phase == phaseHeld {
			w.stats.forgone++
			l.minHold = 0
			c.following[call] = func(e Effect) { w.released(l, e.Report) }
		}
		c.core.Forgo(now, l.id, call)
	})
	wk.think()
}

func (wk *simWorker) extend(l *simLease) {
	c, w := wk.c, wk.c.w
	if wk.lease != l || l.held.Err() != nil {
		return
	}
	w.stats.extends++
	terms := c.terms()
	w.tell("client %d extends %s to %v", c.id, l.token, terms.TTL)
	l.ttl = max(l.ttl, terms.TTL)
	c.post(func(now clock.Instant) { c.core.Extend(now, l.id, terms, c.answer()) })
}

// stop has the worker want nothing more.
func (wk *simWorker) stop() {
	if wk.call != 0 {
		wk.cancel()
	}
	if l := wk.lease; l != nil {
		wk.release(l)
	}
}

// dropped has a worker find out that its lease is over.
func (wk *simWorker) dropped(l *simLease) {
	if wk.lease != l {
		return
	}
	wk.lease = nil
	if g := wk.group; g != nil {
		g.giveUp()
	}
	wk.think()
}

// A simGroup is one caller of AcquireAll: it wants every name, one after the other in
// sorted order, and all or none.
type simGroup struct {
	workers []*simWorker // by name
	leaves  bool
}

func (g *simGroup) idle() bool {
	for _, wk := range g.workers {
		if !wk.idle() {
			return false
		}
	}
	return true
}

// won has the next name acquired, or all of them held for a while.
func (g *simGroup) won(wk *simWorker, d time.Duration) {
	c, w := wk.c, wk.c.w
	if wk.key < len(g.workers)-1 {
		c.after(w.upTo(100*time.Microsecond), func() {
			next := g.workers[wk.key+1]
			switch {
			case w.ending || wk.lease == nil || !next.idle():
				g.giveUp()
			default:
				next.acquire()
			}
		})
		return
	}
	whole := true
	for _, o := range g.workers {
		whole = whole && o.lease != nil && o.lease.believed()
	}
	if whole {
		w.stats.all++
	} else {
		d = 0
	}
	c.after(d, g.giveUp)
}

// giveUp gives back what there is, and waits for nothing more.
func (g *simGroup) giveUp() {
	if g.leaves {
		return // from within
	}
	g.leaves = true
	for _, wk := range g.workers {
		wk.stop()
	}
	g.leaves = false
	g.workers[0].think()
}
