package core

import (
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// aimAtVote strikes a node that has just given its vote.
func (w *world) aimAtVote(a *simActor) {
	f := &w.faults
	if w.calm || !w.chance(f.atVote) {
		return
	}
	w.stats.aims++
	n := a.n
	w.after(w.upTo(3*time.Millisecond), func() {
		if !w.calm {
			w.tell("AIM: node %d has just voted", n.id)
			w.strike(n, f.losing)
			if w.chance(0.3) {
				w.newcomer()
			}
		}
	})
	if w.chance(0.5) { // and its rivals' answers take their time
		for _, a := range w.anyClient().actors {
			a.slowUntil, a.slowBy = w.now+w.maxTTL/4, w.timeout
		}
	}
}

// aimAtOverdue has a node lose its data while an answer of it is overdue: the connection may go
// on afterwards, but not the life.
func (w *world) aimAtOverdue(n *simNode) {
	f := &w.faults
	if w.calm || !w.chance(f.atOverdue) {
		return
	}
	w.stats.aims++
	w.tell("AIM: an answer of node %d is overdue", n.id)
	w.strike(n, flushAll)
	if w.chance(0.3) {
		w.newcomer()
	}
}

// aimAtHolder strikes right after a win: the voters lose their data, and the holder
// alone is cut off.
func (w *world) aimAtHolder(l *simLease, t *tenure) {
	f := &w.faults
	if w.calm {
		return
	}
	if w.chance(f.atWin) {
		w.stats.aims++
		for _, n := range w.nodes {
			if n.key(l.key) == l.token && w.chance(0.5) {
				w.after(w.upTo(w.maxTTL/10), func() {
					if !w.calm {
						w.tell("AIM: node %d has elected", n.id)
						w.strike(n, f.losing)
					}
				})
			}
		}
		w.newcomer()
	}
	if w.chance(f.atFresh) {
		w.stats.aims++
		w.freshRival(l)
	}
	if h := w.handles[l.key]; h != nil && w.chance(f.atCopy) {
		w.stats.aims++
		w.copyBack(l, h)
	}
	if t.pending != 0 && w.chance(f.atLate) {
		w.stats.aims++
		w.rivalBeforeGrant(l, t)
	}
	if w.chance(f.atHolder) {
		w.stats.aims++
		d := w.between(0.1, 2)
		w.affects(d)
		some := w.chance(0.5)
		w.tell("AIM: client %d, which holds it, is cut off for %v", l.c.id, d)
		for _, a := range l.c.actors {
			if !some || w.chance(0.5) {
				a.cut(d)
			}
		}
	}
}

// freshRival has the voters of a lease lose their data, and somebody come first who
// never saw them before: nothing but what they say tells that they are young.
func (w *world) freshRival(l *simLease) {
	d := w.between(0.3, 1.2)
	w.affects(d)
	w.tell("AIM: the voters lose their data, and a rival comes who never saw them")
	for _, n := range w.nodes {
		if n.key(l.key) != l.token || w.chance(0.3) {
			continue
		}
		for _, c := range w.clients {
			c.actors[n.id].cut(d)
		}
		w.after(w.upTo(100*time.Millisecond), func() {
			if !w.calm {
				w.strike(n, w.faults.losing)
			}
		})
	}
	w.after(w.upTo(d), w.newcomer)
}

// copyBack has the voters of a lease restart with copies in which a former holder still has
// the name, and somebody adopt the handle of that one, while the holder is cut off.
func (w *world) copyBack(l *simLease, h *simHandle) {
	d := w.between(0.3, 1.5)
	w.affects(d)
	w.tell("AIM: the voters restart with copies, and the handle of %s is adopted by them", h.former.token)
	for _, a := range l.c.actors {
		a.cut(d)
	}
	for _, n := range w.nodes {
		if w.chance(0.2) {
			continue
		}
		w.after(w.upTo(20*time.Millisecond), func() {
			for i := len(n.past) - 1; i >= 0 && !w.calm && n.up; i-- {
				v, _, _ := n.past[i].space.Look(w.keys[l.key].Name)
				if v, _ = node.TokenOf(v); v == h.former.token {
					n.loses(n.past[i], n.clock)
					n.restart(0, false)
					return
				}
			}
		})
	}
	for range 3 {
		w.after(w.between(0.1, 1.2), func() {
			if !w.calm {
				w.adopt(w.anyClient(), h)
			}
		})
	}
}

// rivalBeforeGrant takes a new lease away on so many nodes that a rival can have it,
// with those to which a grant is still on its way: not so soon after it began that the
// grant would not be late.
func (w *world) rivalBeforeGrant(l *simLease, t *tenure) {
	gone := max(1, w.quorum-1-w.rand.IntN(t.pending.len()))
	w.after(lateAfter, func() {
		if w.calm || !l.believed() {
			return
		}
		w.tell("AIM: %s is taken away, and may be before a grant has come", l.token)
		for _, i := range w.rand.Perm(len(w.nodes)) {
			if n := w.nodes[i]; gone > 0 && n.key(l.key) == l.token {
				n.spoils(l.key, 0)
				n.del(l.key)
				gone--
			}
		}
		for _, c := range w.clients {
			for _, wk := range c.workers {
				if c != l.c && wk.key == l.key {
					wk.rush(true)
				}
			}
		}
	})
}

// aimAtSend delays the bytes of a release, and cuts the connection meanwhile; or
// strikes while a lease is healed. It reports whether the bytes are late.
func (w *world) aimAtSend(a *simActor, cmd *node.Command) (late bool) {
	f := &w.faults
	if w.calm {
		return false
	}
	switch cmd.Op {
	case node.Release, node.Vacate:
		if w.chance(f.atRelease) {
			w.stats.aims++
			return true
		}
	case node.Grant:
		w.prepare(a, cmd)
		if w.chance(f.atSlowVoter) {
			a.slowUntil, a.slowBy = w.now+w.maxTTL/4, w.timeout
		} else if w.chance(f.atLate) {
			a.slowUntil, a.slowBy = w.now+1, w.timeout // these bytes alone
		}
	case node.Claim:
		w.prepare(a, cmd)
	case node.Renew:
		// The process stops, and goes on between the end of its lease and the one
		// that the answer would have given it.
		if w.chance(f.atRenew) {
			if t := a.c.core.tenures.get(cmd.ID); t != nil && t.phase == phaseHeld {
				w.stats.aims++
				d := t.hold.until.Sub(a.c.Now()) + w.upTo(t.terms.RenewEvery)
				w.affects(d)
				w.after(w.upTo(3*time.Millisecond), func() {
					if !w.calm && !a.c.dead {
						w.tell("AIM: client %d is paused for %v while it renews", a.c.id, d)
						a.c.pause(d, false)
					}
				})
			}
		}
	case node.Heal:
		w.heals(a, cmd)
		if w.chance(f.atHeal) {
			w.stats.aims++
			n := w.anyNode()
			w.after(w.upTo(2*w.timeout), func() {
				if !w.calm {
					w.tell("AIM: node %d, while another is healed", n.id)
					w.strike(n, f.losing)
				}
			})
		}
	}
	return false
}
