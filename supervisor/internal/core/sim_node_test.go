package core

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A simNode is one server, or one after the other in its place.
type simNode struct {
	w     *world
	id    int
	clock rateClock // what TIME tells, and what keys expire by

	up         bool
	setBack    bool // its clock was: keys live longer
	hungUntil  time.Duration
	boot       int           // counts processes
	lifeAt     time.Duration // when it was last started, or emptied
	run, repl  string
	earlierRun string // that of the server before the last failover; it may come back

	data  simData
	past  []simData // before the latest writes, oldest first
	runs  bool      // a command, and
	saved bool      // has written already

	// What it no longer keeps although it had promised to, by whose fault.
	forgot []promise // it has lost data: the guard answers for it
	spoilt []promise // an administrator's, or its clock's: nobody does
}

type simData struct {
	keys                    [maxNames]simKey
	queues                  [maxNames][]simWaiter // by ticket; never changed in place
	queueEnds               [maxNames]int64
	fences                  [maxNames]simFence
	marker, grown, identity string     // "" if there is none
	prints                  []simPrint // never changed in place
}

type simKey struct {
	value string
	end   int64 // in ms of the node's clock

	// In true time.
	set, sent time.Duration // when it was set, and the command for that was sent
	restored  bool          // it came back with a copy of the data
}

type simFence struct {
	value uint64
	end   int64
}

// A simPrint is a fingerprint of an electorate.
type simPrint struct {
	text string
	end  int64
}

// A promise is a key as it would still be, in true time.
type promise struct {
	token string
	end   time.Duration
	at    time.Duration // when it was broken
}

const pastWrites = 40

func newSimNode(w *world, id int) *simNode {
	n := &simNode{w: w, id: id, up: true, boot: 1, lifeAt: -2 * time.Hour}
	n.clock = w.nodeClock()
	n.run, n.repl = w.newID(), w.newID()
	since := n.clock.now() - 2*time.Hour
	n.data.marker, n.data.grown = nodetest.Mark("", n.incarnation(), 0, since.Microseconds())
	n.data.identity = w.newID()
	switch {
	case w.chance(0.1): // a deployment that was just set up
		n.data = simData{}
	case w.chance(0.1): // one that processes only pass by
		n.data.grown = ""
	}
	return n
}

// nodeClock returns the clock of a server.
func (w *world) nodeClock() rateClock {
	return rateClock{w: w, rate: w.rate(), base: 1000*time.Hour + w.now + w.upTo(w.spread), from: w.now}
}

func (w *world) newID() string { w.lastID++; return fmt.Sprint("id", w.lastID) }

// incarnation is what tells a server that has forgotten from one that has not.
func (n *simNode) incarnation() string { return n.run + "/" + n.repl }

func (n *simNode) ms() int64 { return n.clock.now().Milliseconds() }

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

// key returns what a key holds, or "".
func (n *simNode) key(k int) string {
	e := &n.data.keys[k]
	if e.value != "" && n.ms() > e.end {
		*e = simKey{}
	}
	return e.value
}

// left returns for how long a node will keep a key that it has.
func (n *simNode) left(k int) time.Duration {
	return time.Duration(n.data.keys[k].end-n.ms()) * time.Millisecond
}

// endOf returns when a key will be gone.
func (e *simKey) endOf(c *rateClock) time.Duration {
	return c.when(time.Duration(e.end+1) * time.Millisecond)
}

func (n *simNode) fenceOf(k int) uint64 {
	e := &n.data.fences[k]
	if e.value != 0 && n.ms() > e.end {
		*e = simFence{}
	}
	return e.value
}

// written keeps the data as they are before a command writes: what a script writes is lost
// with all of it.
func (n *simNode) written() {
	if n.runs && n.saved {
		return
	}
	n.saved = true
	if n.past == nil {
		n.past = make([]simData, 0, pastWrites)
	}
	if len(n.past) == pastWrites {
		n.past = append(n.past[:0], n.past[pastWrites/2:]...)
	}
	n.past = append(n.past, n.data)
}

// set sets a key, by a command that was sent at some time. A promise that was broken and is
// given again is not broken any more.
func (n *simNode) set(k int, value string, ttl, sent time.Duration) {
	n.written()
	again := func(p promise) bool { return p.token == value }
	n.forgot, n.spoilt = slices.DeleteFunc(n.forgot, again), slices.DeleteFunc(n.spoilt, again)
	n.data.keys[k] = simKey{value: value, end: n.ms() + ttl.Milliseconds(), set: n.w.now, sent: sent}
	n.w.changed = true
}

// renew sets a key's expiry anew.
func (n *simNode) renew(k int, ttl time.Duration) {
	n.written()
	n.data.keys[k].end = n.ms() + ttl.Milliseconds()
	n.w.changed = true
}

func (n *simNode) del(k int) {
	n.written()
	n.data.keys[k] = simKey{}
	n.w.changed = true
}

// raise stores a fence if it is larger.
func (n *simNode) raise(k int, fence uint64) (raised bool) {
	n.written()
	if fence > n.fenceOf(k) {
		n.data.fences[k].value = fence
		raised = true
	}
	n.data.fences[k].end = n.ms() + n.w.keep.Milliseconds()
	return raised
}

// enrol is the script of that name. It returns the present life, and whether that is grown.
func (n *simNode) enrol(maxTTL time.Duration, known string) (life string, grown bool) {
	d := &n.data
	marker, life := nodetest.Mark(d.marker, n.incarnation(), maxTTL.Milliseconds(), n.clock.now().Microseconds())
	if marker != d.marker || d.identity == "" {
		n.written()
		d.marker = marker
		if d.identity == "" {
			d.identity = known
		}
	}
	return life, d.grown == life
}

// sign is the script of that name.
func (n *simNode) sign(text string, alive time.Duration, life string) (all string) {
	n.written()
	d := &n.data
	if nodetest.MayGrow(d.marker, life) {
		d.grown = life
	}
	now := n.ms()
	mine := simPrint{text, now + alive.Milliseconds()}
	prints := make([]simPrint, 0, len(d.prints)+1)
	for _, p := range d.prints {
		switch {
		case p.text == text:
			mine.end = max(mine.end, p.end)
		case p.end > now:
			prints = append(prints, p)
		}
	}
	d.prints = append(prints, mine)
	var b []byte
	slices.SortFunc(d.prints, func(a, b simPrint) int { return cmp.Or(cmp.Compare(a.end, b.end), strings.Compare(a.text, b.text)) })
	for i, p := range d.prints {
		if i > 0 {
			b = append(b, '\n')
		}
		b = strconv.AppendInt(append(append(b, p.text...), ' '), p.end, 10)
	}
	return string(b)
}

// adopt is the script of that name.
func (n *simNode) adopt(k int, cmd *node.Command, r *node.Reply, sent time.Duration) {
	switch value := n.key(k); value {
	case cmd.Former, cmd.Token:
		r.Status = node.OK
		key := n.data.keys[k]
		if value == cmd.Former {
			r.Left = n.left(k)
			n.w.swaps(n, k, cmd)
		}
		n.set(k, cmd.Token, max(cmd.TTL, n.left(k)), sent)
		n.data.keys[k].set, n.data.keys[k].sent, n.data.keys[k].restored = key.set, key.sent, key.restored
		r.Raised = n.raise(k, cmd.Fence)
	case "":
		r.Status = node.Absent
	default:
		r.Status = node.Other
		n.describe(k, r)
	}
	r.Fence = n.fenceOf(k)
}

// grown reports whether it says that nothing is forgotten which could matter.
func (n *simNode) grown() bool { return nodetest.MayGrow(n.data.marker, n.data.grown) }

// loses has the node go on with other data, by another clock maybe. What it had promised
// is forgotten then.
func (n *simNode) loses(data simData, clock rateClock) {
	w := n.w
	n.forgot = slices.DeleteFunc(n.forgot, func(p promise) bool { return p.end < w.now })
	for k := range w.names {
		had, has := n.key(k), &data.keys[k]
		end := n.data.keys[k].endOf(&n.clock)
		if had != "" && (has.value != had || has.endOf(&clock) < end) {
			n.forgot = append(n.forgot, promise{had, end, n.w.now})
		}
		if has.value != "" && has.value != had {
			has.restored = true
			w.leftTokens[has.value] = leftCopy
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
	n.written()
	past := n.past
	n.loses(simData{}, n.clock)
	n.past = past
}

// spoils has the node break its promise about a name.
func (n *simNode) spoils(k int) {
	v := n.key(k)
	if v == "" {
		return
	}
	w := n.w
	n.spoilt = slices.DeleteFunc(n.spoilt, func(p promise) bool { return p.end < w.now })
	n.spoilt = append(n.spoilt, promise{v, n.data.keys[k].endOf(&n.clock), n.w.now})
	for _, l := range w.leases[k] {
		if w.descends(v, l.token) {
			l.spoilt.add(n.id)
			l.told.del(n.id)
			l.spoiltAt[n.id] = w.now
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
	data, clock := n.data, n.clock
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
		for k := range w.names {
			n.spoils(k)
		}
	} else {
		w.setBack -= d
		n.setBack = true
	}
	n.clock.jump(d)
}

// keeps reports how a node stands to a lease that is believed in up to a true time:
// whether it keeps it for so long, or has forgotten it, or was made to. Who adopts a lease
// keeps others out for its former holder.
func (n *simNode) keeps(l *simLease, end time.Duration) (kept, forgot, spoilt bool) {
	w := n.w
	x := &n.data.keys[l.key]
	has := n.key(l.key) != "" && w.descends(x.value, l.token) && x.endOf(&n.clock) >= end
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
	case broken(n.spoilt):
		return false, false, true
	case has: // by a copy, and somebody may have had the node since if it was taken away there
		return true, false, false
	case broken(n.forgot):
		return false, true, false
	}
	return false, false, false
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
