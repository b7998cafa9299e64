package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A simWaiter is who stands in the queue of one node.
type simWaiter struct {
	ticket uint64
	inbox  *simActor
	token  string
	alive  int64         // in ms of the node's clock; it counts as dead after that
	since  time.Duration // when it came, or came back to life, or was reserved for last
}

func (x simWaiter) String() string {
	return fmt.Sprintf("%s ticket %d since %v, alive until %d", x.token, x.ticket, x.since, x.alive)
}

// describe fills in what a node says of a key that it has.
func (n *simNode) describe(k int, r *node.Reply) {
	if r.Value = n.key(k); r.Value != "" {
		r.Left = n.left(k)
	}
}

// queueing is the scripts enqueue, claim and leave.
func (a *simActor) queueing(k int, cmd *node.Command, r *node.Reply, sent time.Duration) {
	n := a.n
	value := n.key(k)
	mine := value == cmd.Token || value == node.Reserved(cmd.Token)
	switch cmd.Op {
	case node.Enqueue:
		if value != cmd.Token {
			r.Ticket = n.enqueue(k, simWaiter{ticket: cmd.Ticket, inbox: a, token: cmd.Token}, cmd.New)
			defer func() { r.Ahead = max(0, n.standsAt(k, cmd.Token)) }()
		}
		if value == "" {
			a.hand(k, cmd.Token)
			mine = n.key(k) == node.Reserved(cmd.Token)
		}
		r.Status = node.Other
		if mine {
			r.Status = node.OK
		}
		n.describe(k, r)
		r.Fence = n.fenceOf(k)
	case node.Claim:
		r.Status = node.Other
		r.Raised = n.raise(k, cmd.Fence)
		r.Fence = n.fenceOf(k)
		if value == "" || mine {
			r.Status = node.OK
			n.leaveQueue(k, cmd.Token)
			n.set(k, cmd.Token, cmd.TTL, sent)
			n.w.granted(n, k, cmd.Token)
			n.w.aimAtVote(a)
		} else {
			n.describe(k, r)
			r.Ahead = max(0, n.standsAt(k, cmd.Token))
		}
	case node.Leave:
		n.leaveQueue(k, cmd.Token)
		if value == node.Reserved(cmd.Token) {
			n.del(k)
			r.Status = node.OK
		}
		a.hand(k, "")
	}
}

func (n *simNode) standsAt(k int, token string) int {
	return slices.IndexFunc(n.queue(k), func(x simWaiter) bool { return x.token == token })
}

// queue returns who waits for a name: nobody once all heartbeats are past.
func (n *simNode) queue(k int) []simWaiter {
	if len(n.data.queues[k]) > 0 && n.ms() > n.data.queueEnds[k] {
		n.data.queues[k] = nil
	}
	return n.data.queues[k]
}

// enqueue has a waiter stand in a queue, or beat there, and returns at which ticket. One
// that is new stands behind all.
func (n *simNode) enqueue(k int, x simWaiter, isNew bool) uint64 {
	n.written()
	x.alive = n.ms() + x.inbox.c.cfg.Alive().Milliseconds()
	x.since = n.w.now
	q := slices.Clone(n.queue(k))
	if len(q) == 0 {
		n.data.queueEnds[k] = 0
	}
	n.data.queueEnds[k] = max(n.data.queueEnds[k], x.alive)
	if i := slices.IndexFunc(q, func(y simWaiter) bool { return y.token == x.token }); i >= 0 {
		if q[i].alive > n.ms() {
			x.since = q[i].since
		}
		if isNew {
			x.ticket = q[i].ticket
		}
		q = slices.Delete(q, i, i+1)
	} else if isNew && len(q) > 0 {
		x.ticket = max(x.ticket, q[len(q)-1].ticket+1)
	}
	at, _ := slices.BinarySearchFunc(q, x, func(y, x simWaiter) int {
		switch {
		case y.ticket != x.ticket:
			if y.ticket < x.ticket {
				return -1
			}
			return 1
		case y.inbox.c.id != x.inbox.c.id:
			return y.inbox.c.id - x.inbox.c.id
		}
		return strings.Compare(y.token, x.token)
	})
	n.data.queues[k] = slices.Insert(q, at, x)
	return x.ticket
}

func (n *simNode) leaveQueue(k int, token string) {
	if n.standsAt(k, token) < 0 {
		return
	}
	n.written()
	n.data.queues[k] = slices.DeleteFunc(slices.Clone(n.data.queues[k]), func(x simWaiter) bool { return x.token == token })
}

// hand has a node reserve a key, unless it is young: it might then be healed.
func (a *simActor) hand(k int, asker string) {
	if a.state.Grown {
		a.n.hand(k, asker)
	}
}

// hand reserves a key that is free for the first living waiter.
func (n *simNode) hand(k int, asker string) {
	w := n.w
	for n.key(k) == "" && len(n.queue(k)) > 0 {
		x := n.data.queues[k][0]
		if x.alive <= n.ms() || x.token != asker && !x.inbox.announce(x.token) {
			w.stats.deadSkipped++
			n.leaveQueue(k, x.token)
			continue
		}
		w.stats.reservations++
		n.set(k, node.Reserved(x.token), x.inbox.c.cfg.Reserve(), w.now)
		q := slices.Clone(n.data.queues[k])
		q[0].alive, q[0].since = n.ms(), w.now
		n.data.queues[k] = q
	}
}

// A simListener is the subscription of an actor to its inbox.
type simListener struct {
	wanted bool // something was enqueued
	life   int  // counts connections
	up     bool // the node has it
	boot   int
	coming bool
	back   time.Duration // when the latest message arrives: they stay in order
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
		if s.life != life || a.conn != conn {
			return
		}
		s.coming = false
		if a.cutUntil > w.now || !a.n.up || a.n.boot != conn.boot || a.n.hungUntil > w.now {
			a.listenLater()
			return
		}
		s.up, s.boot = true, a.n.boot
		w.tell("client %d listens at node %d", a.c.id, a.n.id)
		a.hear(node.Wake{Node: a.n.id})
	})
}

func (a *simActor) listenLater() {
	a.c.after(a.c.w.upTo(100*time.Millisecond), a.listen)
}

// announce tells a supervisor that something is reserved for it, and reports whether
// the node knows of a subscription. It may be lost all the same.
func (a *simActor) announce(token string) bool {
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
	a.hear(node.Wake{Node: a.n.id, Token: token})
	return true
}

func (a *simActor) hear(m node.Wake) {
	s, w := &a.listener, a.c.w
	s.back = max(w.now+a.delay(), s.back)
	life := s.life
	a.c.after(s.back-w.now, func() {
		if s.life == life {
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
	if w.faults.latest > begun-2*w.maxTTL-5*time.Second || w.stepped != 0 || l.unseen() || t.queuing == nil {
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
				for _, x := range n.queue(l.key) {
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
	if w.now < w.lookAt {
		return
	}
	w.lookAt = w.now + w.timeout/4
	for k, name := range w.names {
		free, waits := 0, time.Duration(0)
		for _, n := range w.nodes {
			if v := n.key(k); w.grown(n) && (v == "" || strings.HasPrefix(v, "?")) {
				free++
			}
		}
		for _, c := range w.clients {
			if l := c.core.lines[name]; !c.dead && !c.crowded && l != nil && l.waitList != nil && l.attempt != nil && l.attempt.phase == phaseQueued {
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
				w.tell("node %d: %q, %d ms left, at %d; queue %v", n.id, n.key(k), n.data.keys[k].end-n.ms(), n.ms(), n.queue(k))
			}
			w.fail("%q is free for %v, and somebody waits for it", name, w.now-w.strandedAt[k])
		}
	}
}
