package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file is scenes: several things that happen to one lease in an order which chance
// does not find. Each has made two holders of one rule that is missing. What belongs to no
// scene goes on meanwhile, but the other clients are dead: their reservations would be in
// the way.

// A scene is one of them.
type scene uint8

const (
	// A grant that was given up lands on a node that has just forgotten a rival's, and the
	// holder renews it there (S10).
	lateAfterFlush scene = iota
	// A rival comes and goes while a node that had lapsed is healed (S11).
	rivalBeforeHeal
	// A rival comes and goes before a grant lands, by a node that the holder does not reach
	// before its vote has lapsed (S12).
	rivalBeforeLate
	// A rival comes and goes, the holder that has not learned it dies, and its lease is
	// adopted (S8).
	rivalBeforeHeir
	scenes
)

var sceneNames = [scenes]string{
	lateAfterFlush: "late after a flush", rivalBeforeHeal: "rival before a heal",
	rivalBeforeLate: "rival before a late grant", rivalBeforeHeir: "rival before an heir",
}

// prepare has the bytes of a grant wait at the sender, for a scene that needs it, if it
// seems that the others win.
func (w *world) prepare(a *simActor, cmd *node.Command) {
	f := &w.faults
	if f.scene != lateAfterFlush && f.scene != rivalBeforeLate || !w.chance(f.atScene) {
		return
	}
	for _, n := range w.nodes {
		if !n.free(w.nameIndex(cmd.Name), cmd.Token) || a.c.actors[n.id].parked > w.now {
			return
		}
	}
	switch f.scene {
	case lateAfterFlush:
		a.park(w.now + 3*w.maxTTL)
	case rivalBeforeLate:
		a.park(w.now + w.timeout*3/4 + w.upTo(w.timeout/8))
	}
}

// free reports whether a key could be granted to a token.
func (n *simNode) free(k int, token string) bool {
	v := n.key(k)
	return v == "" || v == node.Reserved(token)
}

// play plays a scene for a lease that was just won, if it fits.
func (w *world) play(l *simLease) {
	f := &w.faults
	if w.calm || l.noRenew || !w.guard || !w.chance(f.atScene) {
		return
	}
	var voters []*simNode
	var away *simNode // that has its grant still before it
	for _, n := range w.nodes {
		switch {
		case n.key(l.key) == l.token:
			voters = append(voters, n)
		case n.free(l.key, l.token) && l.c.actors[n.id].parked > w.now:
			away = n
		}
	}
	if len(voters) < w.quorum || len(w.nodes) < 3 || f.scene != rivalBeforeHeir && len(w.nodes) != 3 {
		return
	}
	gone := voters[w.rand.IntN(len(voters))]
	switch f.scene {
	case lateAfterFlush:
		if away != nil {
			w.lateAfterFlush(l, gone, away)
		}
	case rivalBeforeHeal:
		w.rivalBeforeHeal(l, gone)
	case rivalBeforeLate:
		if away != nil {
			w.rivalBeforeLate(l, gone, away)
		}
	case rivalBeforeHeir:
		w.rivalBeforeHeir(l, voters)
	}
}

// stage leaves nobody but the holder of a lease and one other client, which wants nothing
// until it is told. The others come back when it is over.
func (w *world) stage(l *simLease, d time.Duration) *simClient {
	w.stats.scenes[w.faults.scene]++
	w.affects(d)
	w.tell("SCENE: %s, with %s", sceneNames[w.faults.scene], l.token)
	for _, c := range w.clients {
		if c != l.c && !c.dead {
			c.kill()
		}
	}
	rival := newSimClient(w, len(w.clients), true)
	w.after(d, func() {
		if !w.calm {
			w.start()
		}
	})
	return rival
}

// try has a client try for a name once, and let go at once.
func (c *simClient) try(key int) {
	c.when(func() {
		if c.w.ending || c.w.calm {
			return
		}
		wk := &simWorker{c: c, key: key, guest: true, brief: true, call: c.call()}
		q := Request{Call: wk.call, Key: c.w.names[key], Terms: c.core.terms, Once: true, Attempts: 1}
		c.workers = append(c.workers, wk)
		c.post(func(now clock.Instant) { c.core.Acquire(now, q) })
	})
}

// takes deletes the key of a lease on a node by hand.
func (w *world) takes(n *simNode, l *simLease) {
	if v := n.key(l.key); !w.calm && v != "" && w.descends(v, l.token) {
		n.spoils(l.key, 0)
		n.del(l.key)
	}
}

// lateAfterFlush: the holder has A and B. A rival gets C, which then is flushed; the
// holder's grant lands there, and it renews that. Its key on A lapses, which it does not
// reach any more, just before the rival's grant arrives there.
func (w *world) lateAfterFlush(l *simLease, a, c *simNode) {
	lapse := a.endOf(l.key)
	lost := w.now + l.c.clock.until(time.Duration(l.until))
	lands := lost - 12*time.Millisecond - w.upTo(10*time.Millisecond)
	begins := lands - 2*time.Millisecond
	if lapse-begins+3*time.Millisecond > w.timeout || begins < w.now+20*time.Millisecond || lapse > w.faults.end {
		return
	}
	rival := w.stage(l, lapse+w.maxTTL/2-w.now)
	l.c.actors[a.id].cut(lapse + w.maxTTL - w.now)
	l.c.actors[c.id].park(lands)
	w.after(begins-w.now, func() {
		rival.actors[a.id].park(lapse + w.upTo(time.Millisecond))
		rival.try(l.key)
	})
	w.after(lands-w.upTo(300*time.Microsecond)-w.now, func() {
		if !w.calm {
			w.tell("node %d is flushed", c.id)
			c.flush()
		}
	})
}

// rivalBeforeHeal: the holder does not reach C before its vote there has lapsed. While C
// is healed, B is deleted; a rival gets both, works, and lets go.
func (w *world) rivalBeforeHeal(l *simLease, c *simNode) {
	d := l.ttl + w.upTo(w.maxTTL/4)
	l.rival = w.stage(l, 3*d)
	l.healed = c
	l.c.actors[c.id].cut(d)
}

// heals has a rival come and go while a node is healed, if that belongs to a scene.
func (w *world) heals(a *simActor, cmd *node.Command) {
	k := w.nameIndex(cmd.Name)
	l := w.leaseBy(k, cmd.Token)
	if l == nil || l.rival == nil || l.healed != a.n || w.calm {
		return
	}
	a.park(w.now + w.timeout*3/4)
	for _, n := range w.nodes {
		if n != a.n && n.key(k) == l.token {
			w.takes(n, l)
			break
		}
	}
	l.rival.try(k)
	l.rival = nil
}

// rivalBeforeLate: the holder has A and B, and its grant is still on its way to C. A is
// deleted, and the holder does not reach it before its vote has lapsed. A rival gets A and
// C, works, and lets go, before the grant lands.
func (w *world) rivalBeforeLate(l *simLease, a, c *simNode) {
	l.c.actors[c.id].park(l.begunAt + w.timeout*9/10)
	if l.c.actors[c.id].parked < w.now+15*time.Millisecond {
		return
	}
	rival := w.stage(l, 3*l.ttl)
	l.c.actors[a.id].cut(l.ttl + w.upTo(w.maxTTL/4))
	lands := l.c.actors[c.id].parked - w.now
	begins := max(lands/2, lands-8*time.Millisecond)
	w.after(begins-w.upTo(time.Millisecond), func() { w.takes(a, l) })
	w.after(begins, func() { rival.try(l.key) })
}

// rivalBeforeHeir: the keys of a quorum are deleted, on one node of which the holder does
// not learn that. A rival works, and lets go. Before its time is up the holder dies, and
// the rival's process adopts its lease.
func (w *world) rivalBeforeHeir(l *simLease, voters []*simNode) {
	t := l.c.core.tenures.get(l.id)
	lost := l.c.clock.until(time.Duration(l.until))
	h := &simHandle{Handle: *l.c.core.handle(l.c.Now(), t), former: l}
	rival := w.stage(l, 2*lost)
	l.c.actors[voters[0].id].cut(2 * lost)
	w.after(10*time.Millisecond, func() {
		for _, n := range voters[:w.quorum] {
			w.takes(n, l)
		}
		rival.try(l.key)
	})
	w.after(lost*3/4+w.upTo(lost/5), func() {
		if !w.calm && !l.c.dead {
			l.c.kill()
			w.adopt(rival, h)
		}
	})
}
