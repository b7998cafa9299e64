package core

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// A simClient is one process: a real core, its actors, and who calls it.
type simClient struct {
	w       *world
	id      int
	cfg     Settings
	channel string // on which nodes tell it what they have reserved for it
	clock   rateClock
	core    *Core
	actors  []*simActor // of all nodes there are, also of those that it was not given
	members []int       // the nodes by the core's indices
	role    simRole     // which lists it was given
	asks    bool        // it only asks
	dead    bool        // the process has ended
	crowded bool        // its mailboxes have next to no room
	idle    bool        // nobody in it wants anything by himself

	pausedUntil time.Duration
	unseenAt    clock.Instant // when it was last paused without its own clock noticing
	unseenFrom  time.Duration // the same in true time
	unseenUntil time.Duration // and when its clock went on
	unprovable  bool          // that was so short that the nodes' clocks need not show it

	tickAt  time.Duration
	tickNo  int
	workers []*simWorker

	lastCall  Call
	answered  map[Call]bool             // each is to be, once
	inbox     []func(now clock.Instant) // messages of callers
	following map[Call]func(e Effect)   // what is done about some of them
	leases    map[uint64]lease.Control
}

// newSimClient starts a process, and the callers in it unless it is to be idle.
func newSimClient(w *world, id int, idle bool) *simClient {
	c := &simClient{w: w, id: id, idle: idle, channel: fmt.Sprintf("%04d", id), answered: map[Call]bool{}, following: map[Call]func(Effect){}, leases: map[uint64]lease.Control{}}
	c.clock = rateClock{w: w, rate: w.rate(), base: time.Duration(simOrigin) + w.upTo(time.Hour), from: w.now}
	maxTTL := w.widths[w.rand.IntN(len(w.widths))]
	if maxTTL < w.maxTTL {
		w.stats.disagreeing++
	}
	ttl := maxTTL
	if w.chance(0.2) {
		ttl = max(ttl/2, 5*w.timeout)
	}
	retry := ttl/40 + w.upTo(ttl/10)
	former, present := w.giveLists(c)
	c.cfg = Settings{
		Nodes: len(c.members), TTL: ttl, MaxTTL: maxTTL, MaxTTLCap: w.most, RenewEvery: ttl / 3, NodeTimeout: w.timeout,
		RetryMin: retry, RetryMax: 2 * retry, Guard: w.guard, Owner: fmt.Sprint(id),
	}
	binary.LittleEndian.PutUint64(c.cfg.Seed[:], w.seed)
	binary.LittleEndian.PutUint64(c.cfg.Seed[8:], uint64(id))
	c.cfg.Former, c.cfg.Present, c.cfg.NoLeases = former, present, c.asks
	c.core = New(c.cfg)
	if (w.seed+uint64(id))%2 == 0 {
		c.core.groups.fewest = 1 // few leases are renewed at the same instant here
	}
	room := 8192
	if w.chance(0.05) && !c.asks {
		room = 2 + w.rand.IntN(8)
		c.crowded = true
	}
	stealthy := w.chance(0.15)
	for _, n := range w.nodes {
		a := &simActor{c: c, n: n, room: room, stealthy: stealthy, known: w.newID(), index: slices.Index(c.members, n.id)}
		if w.change != nil {
			a.known = ""
		}
		c.actors = append(c.actors, a)
		if a.index >= 0 {
			a.try(true)
		}
	}
	for k := range w.names {
		if idle {
			break
		}
		for range 1 + w.rand.IntN(5)/4 {
			wk := &simWorker{c: c, key: k}
			c.workers = append(c.workers, wk)
			wk.think()
		}
	}
	if !idle && len(w.names) > 1 && w.chance(0.4) {
		g := &simGroup{}
		for k := range w.names {
			wk := &simWorker{c: c, key: k, group: g}
			g.workers = append(g.workers, wk)
		}
		c.workers = append(c.workers, g.workers...)
		g.workers[0].think()
	}
	if !idle && w.choices && len(w.names) > 1 {
		for range 1 + w.rand.IntN(2) {
			wk := &simWorker{c: c, any: true}
			c.workers = append(c.workers, wk)
			wk.think()
		}
		if w.chance(0.5) { // as if these were many names
			c.core.spread = spread{most: 1, least: 1 + w.rand.IntN(2)}
		}
	}
	w.clients = append(w.clients, c)
	c.arm()
	w.tell("client %d starts, TTL %v of %v", id, ttl, maxTTL)
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

// post has a caller's message heard: at once, or a little later together with others.
func (c *simClient) post(m func(now clock.Instant)) {
	c.inbox = append(c.inbox, m)
	if c.w.chance(0.2) {
		c.after(c.w.upTo(50*time.Microsecond), c.hear)
		return
	}
	c.hear()
}

// input has a message heard at once, after those that came before.
func (c *simClient) input(m func(now clock.Instant)) {
	c.inbox = append(c.inbox, m)
	c.hear()
}

// hear hears all that were posted, at one instant, as the loop does.
func (c *simClient) hear() {
	now := c.Now()
	next := func() bool {
		if len(c.inbox) == 0 {
			return false
		}
		m := c.inbox[0]
		c.inbox = c.inbox[1:]
		m(now)
		return true
	}
	for next() {
		perform.Messages(now, c.core, c, next)
		c.perform(now)
	}
	c.arm()
}

// arm has the core wake up when it wants to.
func (c *simClient) arm() {
	now := c.Now()
	at := c.w.now + c.clock.until(time.Duration(now)+c.core.Wait(now))
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
		c.core.Tick(now)
		c.perform(now)
		for _, t := range c.core.tenures.slots {
			if t != nil && t.phase == phaseHeld && t.hold.until <= now {
				c.w.fail("client %d woke up at %d and did not end %s, which was lost at %d", c.id, now, t.token, t.hold.until)
			}
			if t != nil {
				if broken := t.votes.check(c.w.guard); broken != "" {
					c.w.fail("client %d: %s of %s: %v", c.id, broken, t.token, t.votes.of)
				}
			}
		}
		c.arm()
	})
}

// perform does what the loop does.
func (c *simClient) perform(now clock.Instant) {
	perform.All(now, c.core, len(c.members), c)
	if c.w.choices {
		c.checkChoices()
	}
}

// checkChoices checks that a caller that wants any of several names asks for the vote of no node for
// two of them, and stands nowhere meanwhile.
func (c *simClient) checkChoices() {
	for _, head := range c.core.waiters {
		if head == nil || head.choice == nil {
			continue
		}
		elections, queued := 0, 0
		for _, s := range head.choice.seats {
			l := c.core.lineOf(s)
			if l == nil || l.first != s || l.attempt == nil {
				continue
			}
			switch l.attempt.phase {
			case phaseElecting, phaseRaising:
				elections++
			case phaseQueued:
				queued++
			}
		}
		if elections > 1 || elections == 1 && queued > 0 {
			c.w.fail("client %d: a choice is in %d elections and %d queues at once", c.id, elections, queued)
		}
	}
}

// wantsAny reports whether somebody waits for any of several names, and nobody of this process is
// before it in the line of this one.
func (c *simClient) wantsAny(name string) bool {
	for _, head := range c.core.waiters {
		if head == nil || head.choice == nil || head.choice.chosen != nil || !slices.Contains(head.choice.keys, name) {
			continue
		}
		if l := c.core.lines[name]; l == nil || l.waitList != nil && l.first != nil && l.first.choice == head.choice {
			return true
		}
	}
	return false
}

// Send hands commands to an actor.
func (c *simClient) Send(i int, commands []node.Command) (unsent []node.Command) {
	for _, cmd := range commands {
		if !c.actors[c.members[i]].trySend(cmd) {
			c.w.stats.noRoom++
			unsent = append(unsent, cmd)
		}
	}
	return unsent
}

// Effect does what concerns callers and holders.
func (c *simClient) Effect(now clock.Instant, e *Effect) {
	w := c.w
	switch e.Kind {
	case EffectWon:
		c.workerOf(e.Call).won(e)
	case EffectFailed:
		c.workerOf(e.Call).failed(e)
	case EffectRenewed:
		held := c.leases[e.ID]
		if !held.Renewed(e.Until, e.Grace) {
			why := ReasonExpired
			if held.Lease().Err() == lease.ErrReleased {
				why = ReasonReleased
			}
			c.core.HolderEnded(now, e.ID, why)
			return
		}
		if l := w.leaseOf(held.Lease()); l != nil {
			w.renewed(l, now, e.Until)
		}
	case EffectEnded:
		held := c.leases[e.ID]
		held.End(ends[e.Reason])
		delete(c.leases, e.ID)
		c.wantFlaws(e)
		w.tell("client %d: %s is over: %v", c.id, string(held.Lease().Token()), ends[e.Reason])
		if l := w.leaseOf(held.Lease()); l != nil {
			w.ended(l, e.Reason)
		}
	case EffectAnswered:
		if done, asked := c.answered[e.Call]; done || !asked {
			w.fail("client %d: a caller was answered twice", c.id)
		}
		c.answered[e.Call] = true
		if f := c.following[e.Call]; f != nil {
			told := *e
			c.after(w.upTo(100*time.Microsecond), func() { f(told) })
		}
	case EffectWaits:
		c.workerOf(e.Call)
	case EffectNodeUp, EffectNodeDown, EffectReconnected, EffectYoung:
	case EffectWarned:
		w.stats.warnings++
		w.tell("client %d: warning: %+v", c.id, *e.Warning)
	default:
		w.fail("client %d: an effect that nobody expects: %v", c.id, e.Kind)
	}
}

// wantFlaws wants a lost lease to say what was wrong with so many nodes that the others are no
// quorum, one thing of each.
func (c *simClient) wantFlaws(e *Effect) {
	if e.Reason != ReasonExpired && e.Reason != ReasonRevoked && e.Reason != ReasonTaken {
		return
	}
	if t := c.core.tenures.get(e.ID); t.hold.renewAt == clock.Never {
		return
	}
	last := -1
	for _, f := range e.Report.Flaws {
		if f.Node <= last || f.Err == nil {
			c.w.fail("client %d: the reasons of a loss are %v", c.id, e.Report.Flaws)
		}
		last = f.Node
	}
	if n := len(c.actors); c.w.change == nil && n-len(e.Report.Flaws) >= c.core.Quorum() {
		c.w.fail("client %d: a lease was lost, %v, and of %d nodes there was only this wrong: %v", c.id, e.Reason, n, e.Report.Flaws)
	}
}

func (c *simClient) workerOf(call Call) *simWorker {
	for _, wk := range c.workers {
		if wk.call == call {
			return wk
		}
	}
	c.w.fail("client %d: a result for nobody: there was one before", c.id)
	return nil
}

// call returns the number of a caller.
func (c *simClient) call() Call {
	c.lastCall++
	return c.lastCall
}

// answer returns that of one who is to be answered.
func (c *simClient) answer() Call {
	call := c.call()
	c.answered[call] = false
	return call
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
		if a.asked != nil {
			a.asked.closed = true
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
		if c.unseenAt == 0 || c.knowsPause() {
			c.unprovable = false
		}
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
		c.unseenUntil = w.now
		c.unprovable = c.unprovable || w.now-c.unseenFrom <= c.provable()
	})
}

// provable is how much a node's clock must gain on the client's so that it shows, whatever the
// way of an answer.
func (c *simClient) provable() time.Duration {
	return c.cfg.DriftOf(c.w.maxTTL) + 2*c.actors[0].longest() + c.w.maxTTL/100
}

// knowsPause reports whether every node has told its time since the client's clock has gone on,
// and has kept its life, and its clock was not set back: then no vote is believed for longer than its node keeps it.
func (c *simClient) knowsPause() bool {
	if c.unprovable || c.clock.stop {
		return false
	}
	for _, i := range c.members {
		a := c.actors[i]
		if a.timeAt <= c.unseenUntil || max(a.n.lifeAt, a.n.backAt) > c.unseenFrom-c.w.maxTTL {
			return false
		}
	}
	return true
}
