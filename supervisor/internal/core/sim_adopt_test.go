package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A simHandle is a handle that somebody has kept: of a lease that was handed over, or of
// one that its holder may still believe in.
type simHandle struct {
	Handle
	former *simLease
	tried  int
	won    int
}

// passOn has a holder hand its lease over, or give away its handle and do something else:
// die, let go, or live on.
func (wk *simWorker) passOn(l *simLease) {
	c, w := wk.c, wk.c.w
	t := c.core.tenures.get(l.id)
	if wk.lease != l || !l.believed() || t == nil || t.phase != phaseHeld || w.ending {
		return
	}
	if w.chance(0.4) {
		wk.handOver(l)
		return
	}
	h := &simHandle{Handle: *c.core.handle(c.Now(), t), former: l}
	w.tell("client %d gives away the handle of %s", c.id, l.token)
	if w.chance(0.3) { // what it says of the TTL is soon too little
		wk.extend(l)
	}
	switch {
	case w.chance(0.3) && !w.calm:
		c.after(w.upTo(w.maxTTL/10), func() {
			if !w.calm && !c.dead {
				w.tell("client %d dies, whose lease is to be adopted", c.id)
				c.kill()
				w.start()
			}
		})
	case w.chance(0.3):
		c.after(w.upTo(w.maxTTL/10), func() { wk.release(l) })
	}
	w.adoptions(h)
}

// handOver has a holder hand its lease over, or begin to.
func (wk *simWorker) handOver(l *simLease) {
	c, w := wk.c, wk.c.w
	h := &simHandle{former: l}
	answer := c.answer()
	c.following[answer] = func(e Effect) {
		w.tell("client %d hands %s over: %+v", c.id, l.token, e.Report)
		if e.Report == nil {
			h.Handle = *e.Handle
			w.adoptions(h)
		}
	}
	c.post(func(now clock.Instant) { c.core.HandOver(now, l.id, answer) })
	if w.chance(0.1) {
		c.after(w.upTo(2*time.Millisecond), func() {
			c.post(func(now clock.Instant) { c.core.Keep(now, l.id, answer) })
		})
	}
}

// adoptions has a handle adopted, once or more often, by anybody.
func (w *world) adoptions(h *simHandle) {
	w.handles[h.former.key] = h
	for range 1 + w.rand.IntN(3)/2 {
		d := w.upTo(w.maxTTL / 20)
		if w.chance(0.4) {
			d = w.between(0, 1.2)
		}
		w.after(d, func() {
			switch {
			case w.ending:
			case !w.calm && w.chance(0.2) && w.mayStart():
				w.start()
				w.adopt(w.clients[len(w.clients)-1], h)
			default:
				w.adopt(w.anyClient(), h)
			}
		})
	}
}

// adopt has a client adopt a handle. It says that the former holder has ended only if that
// is so.
func (w *world) adopt(c *simClient, h *simHandle) {
	terms := c.cfg.Terms(h.TTL)
	if !c.fits(terms) || c.asks {
		return // the handle does not fit
	}
	c.when(func() {
		if w.ending {
			return
		}
		now := *h
		if !h.former.believed() && w.chance(0.5) {
			now.Over = true
		}
		h.tried++
		w.stats.adoptions++
		wk := &simWorker{c: c, key: h.former.key, guest: true, adopts: h, askedAt: w.now, call: c.call()}
		c.workers = append(c.workers, wk)
		w.tell("client %d adopts %s, over: %v", c.id, h.Token, now.Over)
		q := Request{Call: wk.call, Key: w.names[h.former.key], Terms: terms}
		c.post(func(at clock.Instant) { c.core.Adopt(at, q, now.Handle) })
		if w.chance(0.1) {
			c.after(w.between(0, 1), func() {
				if wk.call == q.Call {
					wk.cancel()
				}
			})
		}
	})
}

// swaps notes that a node is about to give a key to another token, if that is an adoption.
func (w *world) swaps(n *simNode, k int, had string, cmd *node.Command) {
	if cmd.Op != node.Adopt || had != cmd.Former {
		return
	}
	if cmd.Token != cmd.Former {
		w.formers[cmd.Token] = cmd.Former
	}
	if n.data.keys[k].restored {
		w.ofCopies[cmd.Token] = true
	}
	if n.swapped == nil {
		n.swapped = map[string]time.Duration{}
	}
	n.swapped[cmd.Token] = n.endOf(k)
	w.leftTokens[cmd.Token] = leftHandle // until the adoption is won
	l := w.leaseBy(k, cmd.Former)
	if l == nil || !l.believed() {
		return
	}
	before := l.enough(l.given)
	l.given.add(n.id)
	if !before && l.enough(l.given) {
		w.stats.livingAdopted++
		w.mustLearn(l)
	}
}

// adopted checks a tenure that began by adoption: it is the first of its handle, and nobody
// else had the name since the former one began.
func (w *world) adopted(l *simLease, h *simHandle) {
	w.stats.adopted++
	delete(w.leftTokens, l.token)
	h.won++
	if l.token == h.former.token {
		w.fail("client %d adopts %s with its own token", l.c.id, h.Token)
	}
	for _, r := range w.tenures[l.key] {
		if r.wonAt <= h.former.wonAt || r == l || r.never {
			continue
		}
		late, copied := false, w.ofCopies[l.token]
		for _, n := range w.nodes {
			if x := &n.data.keys[l.key]; n.key(l.key) == l.token {
				copied = copied || x.restored
				late = late || x.set > r.wonAt-w.maxTTL/4 && x.sent < r.wonAt+2*w.timeout
			}
		}
		e, blind := h.former.blinded()
		kept, forgot, _ := w.support(l)
		switch {
		case !l.enough(kept | forgot): // its own keys were deleted while it waited
			w.excuse(adoptByHand, l)
		case w.descends(r.token, h.former.token) && !copied:
			w.fail("client %d adopts %s, which was adopted before", l.c.id, h.Token)
		case l.leftBy(r):
			w.excuse(formerEmptied, l)
		case w.change != nil && w.change.skipped && r.c.role != l.c.role:
			w.excuse(listsUnseen, l)
		case blind: // it could not learn that it was not alone, and so the heir cannot
			w.excuse(e, l)
		case late:
			w.excuse(adoptLate, l)
		case copied:
			w.excuse(adoptCopy, l)
		default:
			w.fail("client %d adopts %s although client %d had the name in between, with %s", l.c.id, h.Token, r.c.id, r.token)
		}
	}
}

// revoke has a client take a lease away.
func (w *world) revoke(c *simClient, l *simLease) {
	w.stats.revocations++
	l.revoked = true
	c.when(func() {
		answer := c.answer()
		c.following[answer] = func(e Effect) {
			if e.Report == nil && (w.change == nil || !w.change.skipped || c.role == l.c.role) { // of another list it knows nothing
				w.isRevoked(l)
			}
		}
		c.post(func(now clock.Instant) { c.core.Revoke(now, w.names[l.key], l.token, answer) })
	})
}

// isRevoked checks that a lease which was taken away is not believed in for longer than what its
// nodes may have promised before that.
func (w *world) isRevoked(l *simLease) {
	w.after(l.ttl*102/100+2*w.timeout, func() {
		if l.believed() && !l.c.dead && w.stepped == 0 && l.c.unseenAt == 0 {
			if e, blind := l.blinded(); blind {
				w.excuse(e, l)
				return
			}
			kept, forgot, spoilt := w.support(l)
			w.fail("client %d believes in %s, which was revoked a TTL ago (kept by %b, forgotten by %b, spoilt on %b, of %v)", l.c.id, l.token, kept, forgot, spoilt, l.lists)
		}
	})
}
