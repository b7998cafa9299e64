package core

import (
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// noteQueue notes what a script has done to the queue of a name. Before it the key had
// another value, others stood there, and who asks was alive or not.
func (n *simNode) noteQueue(t *keyspace.Turn, k int, cmd *node.Command, was simBefore) {
	w, stands := n.w, was.stands
	set, _ := t.Members(w.keys[k].Queue)
	value, _, _ := t.Peek(w.keys[k].Name)
	value, _ = node.TokenOf(value)
	if cmd.Op == node.Enqueue && value != cmd.Token && len(n.spoilt) > 0 { // its heartbeat lasts from now on
		n.spoilt = slices.DeleteFunc(n.spoilt, func(p promise) bool { return p.token == cmd.Token && p.beat })
	}
	if was.alive && value == was.value && len(stands) == len(set)/2 {
		return // nearly always: it is there still
	}
	stand := func(since time.Duration, token string) {
		if i := slices.IndexFunc(stands, func(x simStand) bool { return x.token == token }); i >= 0 {
			stands = slices.Clone(stands)
			stands[i].since = since
		} else {
			stands = append(slices.Clip(stands), simStand{token, since})
		}
	}
	in := func(token string) bool {
		return slices.ContainsFunc(set, func(m keyspace.Member) bool { return strings.HasSuffix(m.Name, token) })
	}
	switch {
	case cmd.Op == node.Enqueue && value != cmd.Token && !was.alive:
		stand(w.now, cmd.Token)
	case cmd.Op != node.Enqueue && !in(cmd.Token):
		stands = slices.DeleteFunc(slices.Clone(stands), func(x simStand) bool { return x.token == cmd.Token })
	}
	if value != was.value && strings.HasPrefix(value, node.ReservationMark) {
		w.stats.reservations++
		n.noteSet(k, value, w.now)
		stand(w.now, strings.TrimPrefix(value, node.ReservationMark))
	}
	if value != "" && value != was.value && cmd.Op == node.Release && value != cmd.Token && !strings.HasPrefix(value, node.ReservationMark) {
		w.stats.gifts++
		n.data.keys[k] = simKey{set: w.now, sent: w.now} // what was promised by the heartbeat stays broken
		w.granted(n, k, value)
		stands = slices.DeleteFunc(slices.Clone(stands), func(x simStand) bool { return x.token == value })
	}
	if dead := len(stands) - len(set)/2; dead > 0 {
		w.stats.deadSkipped += dead
		stands = slices.DeleteFunc(slices.Clone(stands), func(x simStand) bool { return !in(x.token) })
	}
	n.data.stands[k] = stands
}

// A simBefore is how a name stands before a script.
type simBefore struct {
	value  string
	stands []simStand
	alive  bool // whose command it is
}

// A simListener is the subscription of an actor to its inbox.
type simListener struct {
	wanted bool // something was enqueued
	life   int  // counts connections
	up     bool // the node has it
	boot   int
	coming bool
	back   time.Duration // when the latest message arrives: they stay in order
	marker string        // of the enrolment that it belongs to, and which life that is
	lives  uint32
}

func (s *simListener) end() { s.up, s.coming = false, false; s.life++ }

// listen subscribes, unless that was done.
func (a *simActor) listen() {
	s, w := &a.listener, a.c.w
	if !s.wanted || s.up || s.coming || a.conn == nil {
		return
	}
	s.coming = true
	s.life++
	life, conn := s.life, a.conn
	a.c.after(200*time.Microsecond+a.delay(), func() {
		if s.life != life {
			return
		}
		s.coming = false
		if a.conn != conn {
			return // an answer is overdue; it listens when that has come
		}
		if a.cutUntil > w.now || !a.n.up || a.n.boot != conn.boot || a.n.hungUntil > w.now {
			a.listenLater()
			return
		}
		s.up, s.boot, s.marker, s.lives = true, a.n.boot, conn.marker, a.state.Life
		w.tell("client %d listens at node %d", a.c.id, a.n.id)
		a.hear(node.Wake{Node: a.index})
	})
}

func (a *simActor) listenLater() {
	a.c.after(a.c.w.upTo(100*time.Millisecond), a.listen)
}

// announce tells a supervisor that something is reserved for it, or given to it, and reports
// whether the node knows of a subscription. It may be lost all the same.
func (a *simActor) announce(message string) bool {
	s, w := &a.listener, a.c.w
	if !s.up || s.boot != a.n.boot {
		return false
	}
	if !w.calm && (a.cutUntil > w.now || w.chance(0.01)) {
		// The connection breaks, or drops everything, and is made anew some time.
		w.after(w.upTo(w.maxTTL/2), func() {
			s.end()
			a.listenLater()
		})
		return true
	}
	a.hear(a.wakeOf(message))
	return true
}

// wakeOf reads a message. What another incarnation gives is worth no more than news.
func (a *simActor) wakeOf(message string) node.Wake {
	g, is := keyspace.ReadGift(message)
	if !is {
		return node.Wake{Node: a.index, Token: message}
	}
	m := node.Wake{Node: a.index, Token: g.Token}
	if a.listener.marker == "" || g.Marker == a.listener.marker {
		m.Fence, m.Life = g.Fence, a.listener.lives
		m.Beat, m.At, m.Until = time.Duration(g.Beat)*time.Millisecond, time.Duration(g.At)*time.Millisecond, time.Duration(g.Until)*time.Millisecond
	}
	return m
}

func (a *simActor) hear(m node.Wake) {
	s, w := &a.listener, a.c.w
	late := time.Duration(0)
	if m.Fence != 0 && !w.calm && w.chance(w.faults.lateGifts) {
		late = w.upTo(w.maxTTL)
	}
	s.back = max(w.now+a.delay()+late, s.back)
	life := s.life
	a.c.after(s.back-w.now, func() {
		if s.life == life && a.index >= 0 {
			a.c.input(func(now clock.Instant) { a.c.core.Hear(now, m) })
		}
	})
}

// checkOrder checks, where nothing has gone wrong for long, that nobody who wins out
// of the queue passes over somebody who stood in all of it before: alive, and for longer
// than a reservation lasts. Who was reserved for and did not claim has had its chance,
// and counts as dead until its next beat.
func (w *world) checkOrder(l *simLease, t *tenure) {
	begun := w.now - time.Duration(float64(l.c.Now().Sub(t.begun))/l.c.clock.rate)
	if w.change != nil || w.faults.latest > begun-2*w.maxTTL-5*time.Second || w.stepped != 0 || l.unseen() || t.queuing == nil {
		return
	}
	for _, c := range w.clients {
		if c.dead || c == l.c || c.crowded {
			continue
		}
		for _, line := range c.core.waited {
			o := line.attempt
			if o == nil || o.phase != phaseQueued || o.key != t.key || !line.placed || o.queuing.ticket >= t.queuing.ticket {
				continue
			}
			stood := 0
			for _, n := range w.nodes {
				for _, x := range n.queue(n.now(), l.key) {
					if x.token == o.token && x.since < begun-c.cfg.Reserve()*101/100-w.timeout && n.up {
						stood++
					}
				}
			}
			if stood == len(w.nodes) {
				w.fail("client %d won %s with ticket %d before client %d, which stood in every queue with ticket %d", l.c.id, t.token, t.queuing.ticket, c.id, o.queuing.ticket)
			}
		}
	}
}

// quiet reports whether nothing has gone wrong for long, and every living process has
// had its connections all the time: answers are slow now and then without a fault.
func (w *world) quiet() bool {
	from := w.now - 2*w.maxTTL - 5*time.Second
	if w.faults.latest > from {
		return false
	}
	for _, c := range w.clients {
		for _, a := range c.actors {
			if !c.dead && (a.conn == nil || a.brokeAt > from && a.brokeAt != 0) {
				return false
			}
		}
	}
	return true
}

// grown reports whether a node counts as grown with every client.
func (w *world) grown(n *simNode) bool {
	if !w.guard {
		return true
	}
	for _, c := range w.clients {
		if !c.dead && !c.actors[n.id].state.Grown {
			return false
		}
	}
	return n.grown()
}

// checkStranded checks, where nothing has gone wrong for long, that a name which
// nobody has, and somebody waits for, is not free for longer than a reservation and
// the longest pause.
func (w *world) checkStranded() {
	if w.now < w.lookAt || w.change != nil {
		return
	}
	w.lookAt = w.now + w.timeout/4
	for k, name := range w.names {
		free, waits := 0, time.Duration(0)
		for _, n := range w.nodes {
			if v := n.key(k); (v == "" || strings.HasPrefix(v, "?")) && w.grown(n) {
				free++
			}
		}
		for _, c := range w.clients {
			l := c.core.lines[name]
			queued := l != nil && l.waitList != nil && l.attempt != nil && l.attempt.phase == phaseQueued
			if !c.dead && !c.crowded && (queued || c.wantsAny(name)) {
				waits = max(waits, c.cfg.Alive()+c.cfg.Reserve()+10*w.timeout)
			}
		}
		if free < w.quorum || waits == 0 || w.stepped != 0 || !w.quiet() {
			w.strandedAt[k] = 0
			continue
		}
		if w.strandedAt[k] == 0 {
			w.strandedAt[k] = w.now
		}
		if w.now-w.strandedAt[k] > waits {
			for _, n := range w.nodes {
				t := n.now()
				w.tell("node %d: %q, %d ms left, at %v; queue %v", n.id, n.key(k), t.PTTL(w.keys[k].Name), t.Now, t.Waiters(w.keys[k].Queue))
			}
			w.fail("%q is free for %v, and somebody waits for it", name, w.now-w.strandedAt[k])
		}
	}
}
