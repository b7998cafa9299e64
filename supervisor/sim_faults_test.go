package supervisor

import (
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// A faultKind is something that goes wrong at a random moment.
type faultKind uint8

const (
	crashEmpty  faultKind = iota // a restart without data
	crashStale                   // with those of some writes ago
	crashFull                    // with all of them
	failOver                     // to a replica that lags, and back
	hang                         // a node answers nothing for a while
	down                         // a node is off for a while
	cutLink                      // between one client and one node
	cutClient                    // from some or all nodes
	cutNode                      // from all clients
	resetLink                    // the connection ends
	slowLink                     // answers take up to two timeouts
	lateLink                     // some bytes arrive long after they were sent
	pauseClient                  // its clock goes on
	killClient                   // another takes its place
	forgets                      // so far faults that nothing may be excused for

	pauseUnseen // its clock does not go on
	adminDelete
	adminSet
	adminRevoke // deletion on a majority, and whoever holds it hears of it late
	flushAll
	clockBack
	clockAhead
	faultKinds
)

var faultNames = [faultKinds]string{
	crashEmpty: "crash, empty", crashStale: "crash, stale", crashFull: "crash, full", failOver: "failover", hang: "hang",
	down: "down", cutLink: "link cut", cutClient: "client cut off", cutNode: "node cut off", resetLink: "reset",
	slowLink: "slow", lateLink: "late bytes", pauseClient: "pause", killClient: "process killed", forgets: "",
	pauseUnseen: "unseen pause", adminDelete: "DEL", adminSet: "SET", adminRevoke: "revocation", flushAll: "FLUSHALL",
	clockBack: "clock back", clockAhead: "clock ahead",
}

// The faults of one history. Each has some kinds and some aims only, and a pace of
// its own: what needs two faults of a kind in a row, or none of another, then gets
// it somewhere.
type faults struct {
	kinds  []faultKind
	pace   time.Duration // between two of them, on average
	end    time.Duration
	latest time.Duration // when the latest one began, or ended

	longHolds float64 // share of leases that are held for longer

	// How often something happens just when it hurts.
	atVote, atWin, atHolder, atRelease, atRenew, atHeal, atFresh, atSlowVoter, atLate float64
	losing                                                                            faultKind // how the nodes lose their data then
}

const (
	// simKnownErased: a key was taken by hand, a rival came, and the node forgot both
	// before the holder asked: it says "absent" in another incarnation, as if the
	// key had been there to the last.
	simKnownErased = true

	// simKnownPause: a holder was stopped by what its clock does not see, and nodes
	// restarted meanwhile: their time is not compared across incarnations.
	simKnownPause = true

	// A guard that is off answers for no loss of data.
	simGuardOff = 0.05
)

func newWorld(seed uint64, stats *simStats) *world {
	w := &world{seed: seed, rand: rand.New(rand.NewPCG(seed, 0x1ea5e401d)), stats: stats, leftTokens: map[string]bool{}}
	n := []int{1, 3, 3, 5, 5}[w.rand.IntN(5)]
	if w.chance(0.03) {
		n = 2 * (1 + w.rand.IntN(2))
	}
	w.quorum = n/2 + 1
	w.maxTTL = []time.Duration{time.Second, time.Second, 2 * time.Second, 5 * time.Second}[w.rand.IntN(4)]
	w.timeout = w.maxTTL / 40 // of the smallest TTL a twentieth
	w.names = []string{"a", "b"}[:1+w.rand.IntN(5)/4]
	w.keep = time.Hour
	if w.chance(0.2) {
		w.keep = w.maxTTL
	}
	w.spread = w.maxTTL / 10
	if w.chance(0.5) {
		w.spread = w.maxTTL * 9 / 10
	}
	widest := Config{TTL: w.maxTTL}.terms(w.maxTTL)
	w.window = w.maxTTL + widest.drift
	if w.chance(simGuardOff) {
		w.window = 0
	}
	f := &w.faults
	for k := range faultKinds {
		p := 0.35
		switch {
		case k == forgets:
			continue
		case k > forgets:
			p = 0.12
		}
		loses := k == crashEmpty || k == crashStale || k == failOver
		if w.chance(p) && (w.window > 0 || !loses) {
			f.kinds = append(f.kinds, k)
		}
	}
	f.pace = w.between(0.1, 2)
	f.end = w.between(8, 14)
	if w.maxTTL > 2*time.Second {
		f.end = w.between(3, 6)
	}
	f.latest = -time.Hour
	f.longHolds = w.rand.Float64()
	aim := func(p *float64, most float64) {
		if w.chance(0.3) {
			*p = most * w.rand.Float64()
		}
	}
	if w.window > 0 {
		aim(&f.atVote, 0.2)
		aim(&f.atWin, 1)
		aim(&f.atHeal, 1)
		aim(&f.atFresh, 0.3)
	}
	aim(&f.atHolder, 0.7)
	aim(&f.atRelease, 0.3)
	aim(&f.atSlowVoter, 0.3)
	aim(&f.atRenew, 0.05)
	aim(&f.atLate, 1)
	f.losing = []faultKind{crashEmpty, crashStale, failOver}[w.rand.IntN(3)]
	for i := range n {
		w.nodes = append(w.nodes, newSimNode(w, i))
	}
	return w
}

// simulate plays a history.
func (w *world) simulate() {
	f := &w.faults
	for range 2 + w.rand.IntN(3) {
		w.start()
	}
	w.tell("%d nodes, %d clients, guard %v, faults %v every %v until %v", len(w.nodes), len(w.clients), w.window, f.kinds, f.pace, f.end)
	if len(f.kinds) > 0 {
		w.nextFault()
	}
	w.run(f.end)
	w.mend()

	// Somebody must get each name, or have it: when the nodes are old, the keys of
	// the dead have expired and whoever has it now has given it back.
	bound := w.now + 8*w.maxTTL + 5*time.Second + w.setBack
	done := func() bool {
		for k := range w.names {
			if !w.progress[k] {
				return false
			}
		}
		return true
	}
	for !done() {
		if !w.step(bound) {
			for k, name := range w.names {
				held := false
				for _, l := range w.leases[k] {
					held = held || l.believed()
				}
				if !w.progress[k] && !held {
					w.fail("nobody got %q for %v without faults", name, w.now-f.end)
				}
			}
			break
		}
	}

	// Whoever holds or waits gives up; some processes end with that.
	w.tell("the end begins")
	w.ending = true
	for _, c := range w.clients {
		if c.dead {
			continue
		}
		closes := w.chance(0.3)
		if closes {
			c.input(c.core.close)
		}
		for _, wk := range c.workers {
			if closes {
				wk.lease = nil
				if wk.waiter != nil {
					w.fail("client %d: closed, and a caller still waits", c.id)
				}
			}
			wk.stop()
		}
	}
	w.run(collectEvery + 10*w.timeout + 100*time.Millisecond)
	w.checkClean()
	for _, c := range w.clients {
		if c.dead {
			continue
		}
		if !c.core.closing {
			c.input(c.core.close)
		}
		if !c.core.drained() {
			w.fail("client %d: not drained", c.id)
		}
	}
	w.stats.time += w.now
	w.stats.histories++
}

func (w *world) start() {
	id := len(w.clients)
	w.clients = append(w.clients, nil) // actors look for themselves
	w.clients = w.clients[:id]
	w.clients = append(w.clients, newSimClient(w, id))
}

// mend ends all faults.
func (w *world) mend() {
	w.tell("no more faults")
	w.calm = true
	for _, n := range w.nodes {
		if !n.up {
			n.restart(0, false)
		}
		for k := range w.names {
			if n.key(k) == "admin" {
				n.del(k)
			}
		}
	}
	for _, c := range w.clients {
		if c.clock.stop {
			c.clock.freeze(false)
		}
		for _, a := range c.actors {
			a.slowUntil, a.lateness = 0, 0
		}
	}
}

// checkClean checks that nothing is left behind.
func (w *world) checkClean() {
	for _, n := range w.nodes {
		for k, name := range w.names {
			v := n.key(k)
			if v == "" || w.leftTokens[v] || n.setBack {
				continue // it ends by itself
			}
			for _, c := range w.clients {
				if ownerOf(v) == ownerOf(c.core.token()) && !c.dead && !c.crowded && !c.core.closing {
					w.fail("node %d still has %q: %s", n.id, name, v)
				}
			}
		}
	}
	for _, c := range w.clients {
		if c.dead || c.crowded {
			continue // what is owed by who has no room goes out bit by bit
		}
		k := &c.core
		for i := range k.nodes {
			if owed := k.nodes[i].debts.owed; len(owed) > 0 {
				w.fail("client %d still owes node %d releases: %+v", c.id, i, owed)
			}
		}
		if !reflect.DeepEqual(plain, noOdds()) {
			w.fail("what all leases without odds share was written to: %+v", plain)
		}
		if k.tenures.len()+len(k.looks)+len(k.lines)+k.alarms.count > 0 {
			w.fail("client %d is left with %d tenures, %d looks, %d lines, %d alarms", c.id, k.tenures.len(), len(k.looks), len(k.lines), k.alarms.count)
		}
		for _, ch := range c.answers {
			if len(ch) != 1 {
				w.fail("client %d: a caller was not answered", c.id)
			}
		}
		for _, a := range c.actors {
			if len(a.mailbox) > 0 || a.pipe != nil && len(a.pipe.live) > 0 {
				w.fail("client %d: commands for node %d are left", c.id, a.n.id)
			}
		}
	}
}

func (w *world) nextFault() {
	f := &w.faults
	d := time.Duration(w.rand.ExpFloat64() * float64(f.pace))
	w.after(d, func() {
		if w.calm {
			return
		}
		w.fault(f.kinds[w.rand.IntN(len(f.kinds))])
		w.nextFault()
	})
}

func (w *world) anyNode() *simNode { return w.nodes[w.rand.IntN(len(w.nodes))] }

func (w *world) anyClient() *simClient {
	alive := 0
	for _, c := range w.clients {
		if !c.dead {
			alive++
		}
	}
	k := w.rand.IntN(alive)
	for _, c := range w.clients {
		if !c.dead {
			if k == 0 {
				return c
			}
			k--
		}
	}
	panic("unreachable")
}

func (w *world) holder() *simLease {
	for _, l := range w.leases[w.rand.IntN(len(w.names))] {
		if l.believed() {
			return l
		}
	}
	return nil
}

func (w *world) affects(d time.Duration) {
	w.faults.latest = max(w.faults.latest, w.now+d)
}

func (w *world) fault(k faultKind) {
	n, c := w.anyNode(), w.anyClient()
	a := c.actors[n.id]
	d := w.between(0, 0.3)
	if w.chance(0.3) {
		d = w.between(0.3, 2)
	}
	w.stats.faults[k]++
	if k < adminDelete || k > adminRevoke {
		w.affects(d)
	}
	w.tell("FAULT: %s: node %d, client %d, %v", faultNames[k], n.id, c.id, d)
	switch k {
	case crashEmpty, crashStale, crashFull, failOver:
		w.crash(n, k)
		if w.chance(0.2) {
			for _, other := range w.nodes {
				if other != n && w.chance(0.5) {
					w.crash(other, k)
				}
			}
		}
	case hang:
		n.hungUntil = max(n.hungUntil, w.until(d))
	case down:
		if n.up {
			n.restart(d, false)
		}
	case cutLink:
		a.cut(d)
	case cutClient:
		some := w.chance(0.5)
		for _, a := range c.actors {
			if !some || w.chance(0.6) {
				a.cut(d)
			}
		}
	case cutNode:
		for _, c := range w.clients {
			c.actors[n.id].cut(d)
		}
	case resetLink:
		if s := a.conn; s != nil {
			a.back(s, func() { a.lost(s, errReset) })
		}
	case slowLink:
		a.slowUntil, a.slowBy = w.now+d, w.upTo(2*w.timeout)
	case lateLink:
		a.lateness = w.upTo(w.maxTTL)
		w.after(d, func() { a.lateness = 0 })
	case pauseClient:
		c.pause(d, false)
	case pauseUnseen:
		c.pause(d, true)
	case killClient:
		c.kill()
		w.start()
	case adminDelete:
		k := w.rand.IntN(len(w.names))
		n.spoils(k)
		n.del(k)
	case adminSet:
		k := w.rand.IntN(len(w.names))
		n.spoils(k)
		n.set(k, "admin", d)
	case adminRevoke:
		w.revoke(d)
	case flushAll:
		w.flush(n)
		if w.chance(0.3) {
			for _, n := range w.nodes {
				w.flush(n)
			}
		}
	case clockBack:
		n.jump(-w.upTo(2 * time.Second))
	case clockAhead:
		n.jump(w.upTo(2 * time.Second))
	}
}

// until returns the end of a fault: with all others at the latest.
func (w *world) until(d time.Duration) time.Duration { return min(w.now+d, w.faults.end) }

func (a *simActor) cut(d time.Duration) {
	a.cutUntil = max(a.cutUntil, a.c.w.until(d))
}

func (w *world) flush(n *simNode) {
	for k := range w.names {
		if v := n.key(k); v != "" {
			p := promise{v, n.data.keys[k].end}
			if w.window > 0 {
				n.flushed = append(n.flushed, p)
			} else {
				n.spoilt = append(n.spoilt, p)
			}
		}
	}
	n.written()
	n.data = simData{}
	w.flushedAt = w.now
}

func (w *world) crash(n *simNode, k faultKind) {
	if !n.up {
		return
	}
	var data simData
	switch k {
	case crashFull:
		data = n.data
	case crashStale, failOver:
		if at := len(n.past) - 1 - w.rand.IntN(1+len(n.past)); at >= 0 {
			data = n.past[at]
			if w.chance(0.5) { // one of the latest writes only
				data = n.past[max(at, len(n.past)-1-w.rand.IntN(3))]
			}
		} else if len(n.past) < pastWrites/4 && w.chance(0.5) {
			data = n.data
		}
	}
	n.loses(data)
	down := time.Duration(0)
	if w.chance(0.5) {
		down = w.between(0, 0.1)
	}
	if w.chance(0.1) {
		down = w.between(0.1, 1.5)
	}
	w.affects(down)
	n.restart(down, k == failOver)
}

// revoke deletes the keys of a holder on a majority, one after the other, while it
// cannot reach one of those nodes: a rival may come and go before it learns of that.
func (w *world) revoke(d time.Duration) {
	l := w.holder()
	if l == nil {
		return
	}
	nodes := w.rand.Perm(len(w.nodes))[:w.quorum]
	if w.chance(0.7) {
		w.affects(d)
		l.c.actors[nodes[0]].cut(w.between(0.1, 1))
	}
	spread := w.upTo(w.maxTTL / 5)
	for _, i := range nodes {
		w.after(w.upTo(spread), func() {
			if n := w.nodes[i]; !w.calm && n.key(l.key) == l.token {
				n.spoils(l.key)
				n.del(l.key)
			}
		})
	}
}

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
			w.crash(n, f.losing)
		}
	})
	if w.chance(0.5) { // and its rivals' answers take their time
		for _, a := range w.anyClient().actors {
			a.slowUntil, a.slowBy = w.now+w.maxTTL/4, w.timeout
		}
	}
}

// aimAtHolder strikes right behind a win: the voters lose their data, and the holder
// alone is cut off.
func (w *world) aimAtHolder(l *simLease, t *tenure) {
	f := &w.faults
	if w.calm {
		return
	}
	if w.chance(f.atWin) {
		w.stats.aims++
		for i := range t.votes {
			if t.votes[i].until != 0 && w.chance(0.5) {
				w.after(w.upTo(w.maxTTL/10), func() {
					if !w.calm {
						w.tell("AIM: node %d has elected", i)
						w.crash(w.nodes[i], f.losing)
					}
				})
			}
		}
	}
	if w.chance(f.atFresh) {
		w.stats.aims++
		w.freshRival(t)
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

// freshRival has the voters of a lease restart empty, and somebody come first who
// never saw them before: nothing but their uptime tells that they are young.
func (w *world) freshRival(t *tenure) {
	d := w.between(0.3, 1.2)
	w.affects(d)
	w.tell("AIM: the voters restart, and a rival comes who never saw them")
	for i := range t.votes {
		if t.votes[i].until == 0 || w.chance(0.3) {
			continue
		}
		for _, c := range w.clients {
			c.actors[i].cut(d)
		}
		w.after(w.upTo(100*time.Millisecond), func() {
			if !w.calm {
				w.crash(w.nodes[i], crashEmpty)
			}
		})
	}
	w.after(w.upTo(d), func() {
		if !w.calm && len(w.clients) < 12 {
			w.start()
		}
	})
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
				n.spoils(l.key)
				n.del(l.key)
				gone--
			}
		}
		for _, c := range w.clients {
			for _, wk := range c.workers {
				if c != l.c && wk.key == l.key {
					c.after(w.upTo(5*time.Millisecond), func() {
						if !w.ending && wk.waiter == nil && wk.lease == nil {
							wk.brief = true
							wk.acquire()
						}
					})
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
	case node.Release:
		if w.chance(f.atRelease) {
			w.stats.aims++
			return true
		}
	case node.Grant:
		if w.chance(f.atSlowVoter) {
			a.slowUntil, a.slowBy = w.now+w.maxTTL/4, w.timeout
		} else if w.chance(f.atLate) {
			a.slowUntil, a.slowBy = w.now+1, w.timeout // these bytes alone
		}
	case node.Renew:
		// The process stops, and goes on between the end of its lease and the one
		// that the answer would have given it.
		if w.chance(f.atRenew) {
			if t := a.c.core.tenures.get(cmd.ID); t != nil && t.phase == held {
				w.stats.aims++
				d := t.hold.until.Sub(a.c.Now()) + w.upTo(t.terms.renewEvery)
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
		if w.chance(f.atHeal) {
			w.stats.aims++
			n := w.anyNode()
			w.after(w.upTo(2*w.timeout), func() {
				if !w.calm {
					w.tell("AIM: node %d, while another is healed", n.id)
					w.crash(n, f.losing)
				}
			})
		}
	}
	return false
}
