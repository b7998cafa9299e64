package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A simNode is one server, or one after the other in its place. What it keeps and does
// with that is package keyspace's, which nodetest serves too.
type simNode struct {
	w     *world
	id    int
	clock rateClock // what TIME tells, and what keys expire by

	up         bool
	setBack    bool          // its clock was: keys live longer
	backAt     time.Duration // when that was last
	hungUntil  time.Duration
	boot       int           // counts processes
	lifeAt     time.Duration // when it was last started, or emptied
	run, repl  string
	earlierRun string // that of the server before the last failover; it may come back

	data  simData
	turn  keyspace.Turn // of what is being executed, on data
	past  []simData     // before the latest writes, oldest first
	saved bool          // past has what was there before what is being executed

	closedAt time.Duration // when it was last told that the former list is closed; 0 if it never was

	// What it no longer keeps although it had promised to, by whose fault.
	forgot []promise // it has lost data: the guard answers for it
	spoilt []promise // an administrator's, or its clock's: nobody does

	// By the token of an adoption: when the former key would have been gone, in true time, as
	// the node tells the one that adopts.
	swapped map[string]time.Duration
}

// A simData is what a server keeps, and what the world notes about that.
type simData struct {
	space  keyspace.Space
	keys   [maxNames]simKey
	stands [maxNames][]simStand // never changed in place
}

func (d *simData) clone() simData {
	other := *d
	other.space = d.space.Clone()
	return other
}

// A simKey is what is noted of a key, in true time.
type simKey struct {
	set, sent time.Duration // when it was set, and the command for that was sent
	restored  bool          // it came back with a copy of the data
}

// A simStand is who stands in a queue, and since when it came, or came back to life, or
// was reserved for last.
type simStand struct {
	token string
	since time.Duration
}

var simOwn = keyspace.OwnKeys()

// A promise is a key as it would still be, in true time.
type promise struct {
	token string
	end   time.Duration
	at    time.Duration // when it was broken
	step  time.Duration // by a step of the clock, if so
	beat  bool          // it is what a waiter is to have if it is given the key: to the end of its heartbeat
}

const pastWrites = 40

func newSimNode(w *world, id int) *simNode {
	n := &simNode{w: w, id: id, up: true, boot: 1, lifeAt: -2 * time.Hour}
	n.clock = w.nodeClock()
	n.run, n.repl = w.newID(), w.newID()
	n.turn = keyspace.Turn{Space: &n.data.space, Server: n, MaxLooks: w.maxLooks}
	since := n.clock.now() - 2*time.Hour
	marker, life := keyspace.Mark("", n.incarnation(), 0, since.Microseconds())
	t := n.begin()
	t.Set(simOwn.Marker, marker, keyspace.Never)
	t.Set(simOwn.Grown, life, keyspace.Never)
	t.Set(simOwn.Identity, w.newID(), keyspace.Never)
	switch {
	case w.chance(0.1): // a deployment that was just set up
		n.data = simData{}
	case w.chance(0.1): // one that processes only pass by
		t.Del(simOwn.Grown)
	}
	n.past = n.past[:0]
	return n
}

// now returns the turn of what is being executed, at the present instant.
func (n *simNode) now() *keyspace.Turn {
	n.turn.Now = n.clock.now()
	return &n.turn
}

// begin is now for a command of its own: what one writes is lost with all of it.
func (n *simNode) begin() *keyspace.Turn {
	n.saved, n.turn.Looked = false, 0
	return n.now()
}

// Changes keeps the data as they are before a command writes.
func (n *simNode) Changes(key string) {
	n.save()
	n.w.changed = n.w.changed || !strings.HasPrefix(key, node.ReservedPrefix)
}

func (n *simNode) save() {
	if n.saved {
		return
	}
	n.saved = true
	if n.past == nil {
		n.past = make([]simData, 0, pastWrites)
	}
	if len(n.past) == pastWrites {
		n.past = append(n.past[:0], n.past[pastWrites/2:]...)
	}
	n.past = append(n.past, n.data.clone())
}

func (n *simNode) Expires(string) {}
func (n *simNode) Reads(string)   {}

// Publish tells the process that listens to a channel.
func (n *simNode) Publish(channel, message string) int {
	for _, c := range n.w.clients {
		if c.channel == channel && c.actors[n.id].announce(message) {
			return 1
		}
	}
	return 0
}

// nodeClock returns the clock of a server.
func (w *world) nodeClock() rateClock {
	return rateClock{w: w, rate: w.rate(), base: 1000*time.Hour + w.now + w.upTo(w.spread), from: w.now}
}

func (w *world) newID() string { w.lastID++; return fmt.Sprint("id", w.lastID) }

// incarnation is what tells a server that has forgotten from one that has not.
func (n *simNode) incarnation() string { return n.run + "/" + n.repl }

// do runs something on the server, once it is not hung; gone instead if that
// process is no more.
func (n *simNode) do(boot int, do, gone func()) {
	if n.hungUntil > n.w.now && n.boot == boot {
		n.w.after(n.hungUntil-n.w.now, func() { n.do(boot, do, gone) })
		return
	}
	if n.boot != boot || !n.up {
		gone()
		return
	}
	do()
}

// key returns the token or the reservation that a key holds, or "".
func (n *simNode) key(k int) string {
	value, _, _ := n.now().Peek(n.w.keys[k].Name)
	token, _ := node.TokenOf(value)
	return token
}

// endOf returns when a key will be gone, in true time.
func (n *simNode) endOf(k int) time.Duration {
	_, end, _ := n.data.space.Look(n.w.keys[k].Name)
	return endOf(end, &n.clock)
}

func endOf(end int64, c *rateClock) time.Duration {
	return c.when(time.Duration(end+1) * time.Millisecond)
}

// noteSet notes that a key was set, by a command that was sent at some time.
func (n *simNode) noteSet(k int, value string, sent time.Duration) {
	n.notBroken(k, value)
	n.data.keys[k] = simKey{set: n.w.now, sent: sent}
}

// notBroken notes that a promise which was broken is given again. If it was forgotten, and the
// key is there for less, after an extension to a shorter TTL, the guard keeps the rest. Nobody
// keeps the rest of what was broken by hand.
func (n *simNode) notBroken(k int, value string) {
	end := n.endOf(k)
	again := func(p promise) bool { return p.token == value }
	n.forgot = slices.DeleteFunc(n.forgot, func(p promise) bool { return again(p) && p.end <= end })
	n.spoilt = slices.DeleteFunc(n.spoilt, again)
}

// set sets a key by hand.
func (n *simNode) set(k int, value string, ttl time.Duration) {
	n.w.handAt[k] = n.w.now
	n.begin().SetFor(n.w.keys[k].Name, value, max(1, ttl.Milliseconds()))
	n.noteSet(k, value, n.w.now)
}

// del deletes a key by hand.
func (n *simNode) del(k int) {
	n.w.handAt[k] = n.w.now
	n.begin().Del(n.w.keys[k].Name)
}

// text returns what the server keeps of itself under a key.
func (n *simNode) text(key string) string {
	text, _, _ := n.now().Peek(key)
	return text
}

// queue returns who stands in the queue of a name, and since when.
func (n *simNode) queue(t *keyspace.Turn, k int) []simStand {
	if _, _, is := t.Peek(n.w.keys[k].Queue); !is {
		return nil
	}
	return n.data.stands[k]
}

// grown reports whether it says that nothing is forgotten which could matter.
func (n *simNode) grown() bool {
	return keyspace.MayGrow(n.text(simOwn.Marker), n.text(simOwn.Grown))
}

// loses has the node go on with other data, by another clock maybe. What it had promised
// is forgotten then.
func (n *simNode) loses(data simData, clock rateClock) {
	w := n.w
	n.forgot = slices.DeleteFunc(n.forgot, func(p promise) bool { return p.end < w.now })
	for k := range w.names {
		had, end := n.key(k), n.endOf(k)
		has, hasEnd, _ := data.space.Look(w.keys[k].Name)
		has, _ = node.TokenOf(has)
		if had != "" && (has != had || endOf(hasEnd, &clock) < end) {
			// The guard answers for no more than a MaxTTL, also if a clock that was set back would
			// have kept the key for longer.
			n.forgot = append(n.forgot, promise{token: had, end: min(end, w.now+w.maxTTL+w.maxTTL/50), at: n.w.now})
		}
		if has != "" && has != had {
			data.keys[k].restored = true
			w.leftTokens[has] = leftCopy
		}
	}
	n.data, n.clock = data, clock
	n.past = n.past[:0]
	n.newLife()
}

// newLife notes that the node has lost data, or seems to: what it says of a key from now on
// is not what it would have said before.
func (n *simNode) newLife() {
	w := n.w
	n.lifeAt = w.now
	w.lostData, w.changed = true, true
	for k := range w.names {
		for _, l := range w.leases[k] {
			l.blurred |= l.spoilt & (1 << n.id) &^ l.told
		}
	}
}

// flush is FLUSHALL.
func (n *simNode) flush() {
	n.begin()
	n.save()
	past := n.past
	n.loses(simData{}, n.clock)
	n.past = past
}

// spoils has the node break its promise about a name, by a step of its clock unless that is 0.
func (n *simNode) spoils(k int, step time.Duration) {
	n.w.handAt[k] = n.w.now
	v := n.key(k)
	if v == "" {
		return
	}
	w := n.w
	n.spoilt = slices.DeleteFunc(n.spoilt, func(p promise) bool { return p.end < w.now })
	n.spoilt = append(n.spoilt, promise{token: v, end: n.endOf(k), at: n.w.now, step: step})
	for _, l := range w.leases[k] {
		if w.descends(v, l.token) {
			if !l.spoilt.has(n.id) || l.told.has(n.id) { // else what came first is still to be told
				l.spoiltAt[n.id] = w.now
			}
			l.spoilt.add(n.id)
			l.told.del(n.id)
		}
	}
}

// restart ends the process and starts another a while later.
func (n *simNode) restart(down time.Duration, failover bool) {
	w := n.w
	n.up = false
	n.boot++
	n.hungUntil = 0
	n.newLife()
	boot := n.boot
	for _, c := range w.clients {
		a := c.actors[n.id]
		if s := a.conn; s != nil && w.chance(0.7) { // else nobody says so
			a.back(s, func() { a.lost(s, errReset) })
		}
	}
	up := func() {
		if n.boot != boot {
			return
		}
		n.up, n.lifeAt = true, w.now
		was := n.run
		n.run = w.newID()
		if failover {
			if n.earlierRun != "" && w.chance(0.5) {
				n.run = n.earlierRun
			}
			n.earlierRun = was
		}
		n.repl = w.newID()
		w.tell("node %d is up: %s", n.id, n.incarnation())
	}
	if down == 0 {
		up()
	} else {
		w.after(down, up)
	}
}

// replace has another server take the node's address: one that is empty, and has been up
// for long. The one that was there may be started again in its old place, with its data.
func (n *simNode) replace(back time.Duration) {
	w := n.w
	data, clock := n.data.clone(), n.clock
	n.loses(simData{}, w.nodeClock())
	n.restart(0, false)
	w.stats.spares++
	boot := n.boot
	if back > 0 {
		w.after(back, func() {
			if n.boot == boot && !w.calm {
				w.tell("the server that was node %d is back", n.id)
				w.stats.sparesBack++
				n.loses(data, clock)
				n.restart(0, false)
			}
		})
	}
}

// jump steps the node's clock. What it had promised ends sooner if that is forward.
func (n *simNode) jump(d time.Duration) {
	w := n.w
	w.stepped.add(n.id)
	w.changed = true
	if d > 0 {
		w.ranAt = w.now
		for k := range w.names {
			n.spoils(k, d)
			for _, x := range n.now().Waiters(w.keys[k].Queue) {
				n.spoilt = append(n.spoilt, promise{token: x.Token, end: endOf(x.Until, &n.clock), at: w.now, step: d, beat: true})
			}
		}
	} else {
		w.setBack -= d
		n.setBack, n.backAt = true, w.now
	}
	n.clock.jump(d)
}

// keeps reports how a node stands to a lease that is believed in up to a true time:
// whether it keeps it for so long, or has forgotten it, or was made to. An adopter of a lease
// keeps others out for its former holder.
func (n *simNode) keeps(l *simLease, end time.Duration) (kept, forgot, spoilt bool) {
	w := n.w
	x := &n.data.keys[l.key]
	value := n.key(l.key)
	has := value != "" && w.descends(value, l.token) && n.endOf(l.key) >= end
	broken := func(ps []promise) bool {
		for i := range ps {
			if ps[i].end >= end && w.descends(ps[i].token, l.token) {
				return true
			}
		}
		return false
	}
	switch {
	case has && !x.restored:
		return true, false, false
	case slices.ContainsFunc(n.spoilt, func(p promise) bool {
		return p.end >= end && w.descends(p.token, l.token) && !n.shows(l, &p)
	}):
		return false, false, true
	case has: // by a copy, and somebody may have had the node since if it was taken away there
		return true, false, false
	case broken(n.forgot):
		return false, true, false
	}
	return false, false, false
}

// forgotAt returns when a node last forgot a lease.
func (n *simNode) forgotAt(l *simLease) (at time.Duration) {
	for i := range n.forgot {
		if n.w.descends(n.forgot[i].token, l.token) {
			at = max(at, n.forgot[i].at)
		}
	}
	return at
}

// shows reports whether the holder of a lease has heard that the node's clock was stepped, by so
// much that this is proved whatever the way of an answer: then it must not count on what was
// broken by that. The clock of a life that has begun since the lease has is not compared: the
// vote may be of the life before, for which the guard answers. And what is ahead and back again
// between two answers shows in none.
func (n *simNode) shows(l *simLease, p *promise) bool {
	return p.step > l.c.provable() && n.lifeAt < l.begunAt && n.backAt < p.at && l.c.actors[n.id].timeAt > p.at
}

// descends reports whether a token is another, or took its place by adoption.
func (w *world) descends(token, of string) bool {
	if len(w.formers) == 0 {
		return token == of
	}
	for token != of {
		if token = w.formers[token]; token == "" {
			return false
		}
	}
	return true
}
