package supervisor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A world is one history: clients with real cores, nodes in memory, and what goes
// wrong between them. It has one queue of events and one source of chance, no
// goroutine and no clock but its own, so a seed replays exactly.
//
// Its time is the true one. Each client and each node has a clock that runs at a
// rate of its own, and may be stepped or stopped.
type world struct {
	seed   uint64
	rand   *rand.Rand
	now    time.Duration
	queue  []event
	seq    uint64
	events int
	trace  func(format string, args ...any) // nil for none

	names   []string
	quorum  int
	maxTTL  time.Duration
	timeout time.Duration
	window  time.Duration // of the guard; 0 where it is off
	keep    time.Duration // of fences
	spread  time.Duration // of the nodes' clocks

	nodes   []*simNode
	clients []*simClient
	lastID  int
	faults  faults
	calm    bool // no fault any more
	ending  bool // no acquisition any more

	leases     [maxNames][]*simLease // by name: those that may be believed in
	fence      [maxNames]uint64      // the highest that was handed out
	progress   [maxNames]bool        // somebody got it since the faults have stopped
	lostData   bool
	jumped     bool                    // a node's clock was stepped
	setBack    time.Duration           // by how much the nodes' clocks were put back
	flushedAt  time.Duration           // 0 if never
	strandedAt [maxNames]time.Duration // since when a name is free that somebody waits for
	leftTokens map[string]bool         // what may be found on a node after its release: it came late, or is a copy
	stats      *simStats
}

const maxNames = 2

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// after has something happen a while from now.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	q := append(w.queue, event{w.now + max(0, d), w.seq, do})
	i := len(q) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if q[parent].before(&q[i]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
	w.queue = q
}

// step lets the next event happen, and reports whether there was one before end.
func (w *world) step(end time.Duration) bool {
	q := w.queue
	if len(q) == 0 || q[0].at > end {
		w.now = end
		return false
	}
	e := q[0]
	last := len(q) - 1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q[child].before(&q[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	w.queue = q
	w.now = e.at
	w.stats.events++
	if w.events++; w.events > 5_000_000 {
		w.fail("there is no end of events")
	}
	e.do()
	return true
}

func (w *world) run(d time.Duration) {
	for end := w.now + d; w.step(end); {
	}
}

// A violation ends a history.
type violation string

func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.tell("VIOLATION: %s", text)
	panic(violation(fmt.Sprintf("at %v: %s", w.now, text)))
}

func (w *world) tell(format string, args ...any) {
	if w.trace != nil {
		w.trace("%12v  "+format, append([]any{w.now}, args...)...)
	}
}

func (w *world) chance(p float64) bool { return w.rand.Float64() < p }

// upTo returns anything from 0 to d.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(d) + 1))
}

// between returns anything from a to b times the largest TTL.
func (w *world) between(a, b float64) time.Duration {
	return time.Duration((a + (b-a)*w.rand.Float64()) * float64(w.maxTTL))
}

// rate is that of a clock. Any two of them differ by less than the drift that is
// allowed for: 1 % and 2 ms of the TTL.
func (w *world) rate() float64 { return 1 + 0.0045*(2*w.rand.Float64()-1) }

// A rateClock runs at a rate of its own against the true time.
type rateClock struct {
	w    *world
	rate float64
	base time.Duration // what it said
	from time.Duration // then
	stop bool
}

func (c *rateClock) now() time.Duration { return c.at(c.w.now) }

func (c *rateClock) at(t time.Duration) time.Duration {
	if c.stop {
		return c.base
	}
	return c.base + time.Duration(float64(t-c.from)*c.rate)
}

// until returns the true time that passes until it says t, rounded up.
func (c *rateClock) until(t time.Duration) time.Duration {
	return time.Duration(float64(t-c.now())/c.rate) + 1
}

func (c *rateClock) jump(d time.Duration) { c.base, c.from = c.now()+d, c.w.now }

func (c *rateClock) freeze(stop bool) {
	c.base, c.from = c.now(), c.w.now
	c.stop = stop
}

// A simNode is one server, or one after the other in its place.
type simNode struct {
	w     *world
	id    int
	clock rateClock // what TIME tells, and what keys expire by

	up         bool
	setBack    bool // its clock was: keys live longer
	hungUntil  time.Duration
	boot       int           // counts processes
	upAt       time.Duration // when this one came up
	run        int
	repl       int
	promoted   bool          // its second replication id is not all zeros
	started    time.Duration // by its clock, for the uptime
	earlierRun int           // the server before the last failover; it may come back

	data simData
	past []simData // before the latest writes, oldest first

	// What it no longer keeps although it had promised to, by whose fault.
	forgot  []promise // a restart's: the guard answers for it
	flushed []promise // a FLUSHALL's: it does unless who comes first never saw a marker here
	spoilt  []promise // an administrator's, or its clock's: nobody does
}

type simData struct {
	keys   [maxNames]simKey
	queues [maxNames][]simWaiter // by ticket; never changed in place
	fences [maxNames]simFence
	marker simMarker
}

type simKey struct {
	value string
	end   int64 // in ms of the node's clock
}

type simFence struct {
	value uint64
	end   int64
}

type simMarker struct {
	run, repl int // 0: there is none
	since     time.Duration
}

// A promise is a key as it would still be.
type promise struct {
	token string
	end   int64
}

const pastWrites = 40

func newSimNode(w *world, id int) *simNode {
	n := &simNode{w: w, id: id, up: true, boot: 1}
	offset := 1000*time.Hour + w.upTo(w.spread)
	n.clock = rateClock{w: w, rate: w.rate(), base: offset}
	n.run, n.repl = w.newID(), w.newID()
	n.started = offset - time.Minute
	if w.chance(0.1) {
		n.started = offset - w.upTo(w.maxTTL) // a deployment that was just set up
	}
	return n
}

func (w *world) newID() int { w.lastID++; return w.lastID }

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

func (n *simNode) fenceOf(k int) uint64 {
	e := &n.data.fences[k]
	if e.value != 0 && n.ms() > e.end {
		*e = simFence{}
	}
	return e.value
}

// written keeps the data as they are before a write.
func (n *simNode) written() {
	if len(n.past) == pastWrites {
		n.past = append(n.past[:0], n.past[pastWrites/2:]...)
	}
	n.past = append(n.past, n.data)
}

// set sets a key. A promise that was forgotten and is given again is not forgotten any
// more: behind a clock that was set back it would seem to last longer than the new one.
func (n *simNode) set(k int, value string, ttl time.Duration) {
	n.written()
	again := func(p promise) bool { return p.token == value }
	n.forgot, n.flushed = slices.DeleteFunc(n.forgot, again), slices.DeleteFunc(n.flushed, again)
	n.data.keys[k] = simKey{value, n.ms() + ttl.Milliseconds()}
}

// renew sets a key's expiry anew.
func (n *simNode) renew(k int, ttl time.Duration) {
	n.written()
	n.data.keys[k].end = n.ms() + ttl.Milliseconds()
}

func (n *simNode) del(k int) {
	n.written()
	n.data.keys[k] = simKey{}
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

// enrol is the script of that name.
func (n *simNode) enrol(run, repl int, ago time.Duration) simMarker {
	m := &n.data.marker
	if m.run == run && m.repl == repl {
		return *m
	}
	since := n.clock.now()
	if m.run == 0 {
		since -= ago
		if ago > 0 {
			n.spoilt = append(n.spoilt, n.flushed...)
		}
	}
	n.written()
	*m = simMarker{run, repl, since}
	return *m
}

// upFor is for how long it has been up at least, as far as that can be told from an
// uptime in whole seconds.
func (n *simNode) upFor() time.Duration {
	latest := n.started.Truncate(time.Second) + time.Second
	return max(0, n.clock.now()-latest)
}

// loses has the node go on with other data.
func (n *simNode) loses(data simData) {
	for k := range n.w.names {
		had := simKey{n.key(k), n.data.keys[k].end}
		has := data.keys[k]
		if had.value != "" && (has.value != had.value || has.end < had.end) {
			n.forgot = append(n.forgot, promise{had.value, had.end})
		}
		if has.value != had.value && has.value != "" {
			n.w.leftTokens[has.value] = true
		}
	}
	n.data = data
	n.past = n.past[:0]
	n.w.lostData = true
}

// spoils has the node break its promise about a name.
func (n *simNode) spoils(k int) {
	if v := n.key(k); v != "" {
		n.spoilt = append(n.spoilt, promise{v, n.data.keys[k].end})
	}
}

// restart ends the process and starts another a while later.
func (n *simNode) restart(down time.Duration, failover bool) {
	w := n.w
	n.up = false
	n.boot++
	n.hungUntil = 0
	if simKnownErased {
		for k := range n.w.names {
			for _, l := range n.w.leases[k] {
				for _, p := range n.spoilt {
					l.blurred = l.blurred || p.token == l.token
				}
			}
		}
	}
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
		n.up, n.upAt = true, w.now
		if failover {
			was := n.run
			n.run = n.earlierRun
			if n.run == 0 || w.chance(0.5) {
				n.run = w.newID()
			}
			n.earlierRun = was
			n.promoted = true
			n.started = n.clock.now() - time.Minute
		} else {
			n.run = w.newID()
			n.promoted = false
			n.started = n.clock.now()
		}
		n.repl = w.newID()
		w.tell("node %d is up: run %d/%d", n.id, n.run, n.repl)
	}
	if down == 0 {
		up()
	} else {
		w.after(down, up)
	}
}

// jump steps the node's clock. What it had promised ends sooner if that is forward.
func (n *simNode) jump(d time.Duration) {
	n.w.jumped = true
	if d > 0 {
		ms := d.Milliseconds() + 1
		for i := range n.spoilt {
			n.spoilt[i].end += ms
		}
		for k := range n.w.names {
			if v := n.key(k); v != "" {
				n.spoilt = append(n.spoilt, promise{v, n.data.keys[k].end + ms})
			}
		}
		for _, p := range append(n.forgot, n.flushed...) {
			n.spoilt = append(n.spoilt, promise{p.token, p.end + ms})
		}
		n.forgot, n.flushed = n.forgot[:0], n.flushed[:0]
	} else {
		n.w.setBack -= d
		n.setBack = true
	}
	n.clock.jump(d)
}

// keeps reports how a node stands to a lease that is believed in up to a true time:
// whether it keeps it for so long, or has forgotten it, or was made to.
func (n *simNode) keeps(l *simLease, end time.Duration) (kept, forgot, spoilt bool) {
	ms := n.clock.at(end).Milliseconds()
	if n.key(l.key) == l.token && n.data.keys[l.key].end >= ms {
		return true, false, false
	}
	for _, p := range n.spoilt {
		if p.token == l.token && p.end >= ms {
			return false, false, true
		}
	}
	for _, ps := range [][]promise{n.forgot, n.flushed} {
		for _, p := range ps {
			if p.token == l.token && p.end >= ms {
				return false, true, false
			}
		}
	}
	return false, false, false
}

var simOrigin = clock.Instant(time.Hour)
