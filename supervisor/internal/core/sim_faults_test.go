package core

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A faultKind is something that goes wrong at a random moment.
type faultKind uint8

const (
	crashEmpty  faultKind = iota // a restart without data
	crashStale                   // with those of some writes ago
	crashFull                    // with all of them
	failOver                     // to a replica that lags, and back
	flushAll                     // the data, and not the server
	replaced                     // by an empty server that has been up for long
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
	adminRevoke // deletion on a majority, and the holder hears of it late
	revoked     // by a client
	clockBack
	clockAhead
	crashStep    // a restart without data, and the clock is set forward far right after that
	clocksNudged // those of all nodes are set forward a little, at once
	faultKinds
)

var faultNames = [faultKinds]string{
	crashEmpty: "crash, empty", crashStale: "crash, stale", crashFull: "crash, full", failOver: "failover",
	flushAll: "FLUSHALL", replaced: "spare", hang: "hang",
	down: "down", cutLink: "link cut", cutClient: "client cut off", cutNode: "node cut off", resetLink: "reset",
	slowLink: "slow", lateLink: "late bytes", pauseClient: "pause", killClient: "process killed", forgets: "",
	pauseUnseen: "unseen pause", adminDelete: "DEL", adminSet: "SET", adminRevoke: "deletion", revoked: "Revoke",
	clockBack: "clock back", clockAhead: "clock ahead", crashStep: "crash, and clock ahead", clocksNudged: "clocks nudged",
}

// loses reports whether a node's data are lost by a fault, which nothing answers for
// without guard.
func (k faultKind) loses() bool {
	switch k {
	case crashEmpty, crashStale, failOver, flushAll, replaced, crashStep:
		return true
	}
	return false
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

	handles float64 // share of leases that are to be adopted

	// How often something happens just when it hurts.
	atVote, atWin, atHolder, atRelease, atRenew, atHeal, atFresh, atSlowVoter, atLate, atCopy, atOverdue float64
	lateGifts                                                                                            float64
	losing                                                                                               faultKind // how the nodes lose their data then

	atScene float64
	scene   scene
}

// simLongestMinHold is for how many times the largest TTL a name is to stay taken at most.
const simLongestMinHold = 2

// A guard that is off answers for no loss of data, and for no MaxTTL that differs.
const simGuardOff = 0.05

// inOneRegister returns names that share a register.
var inOneRegister = sync.OnceValue(func() (names [maxNames]string) {
	names[0] = "a"
	for i, n := 1, 0; i < len(names); n++ {
		if name := fmt.Sprint("a", n); node.FenceKey(name) == node.FenceKey("a") {
			names[i] = name
			i++
		}
	}
	return names
})

func newWorld(seed uint64, stats *simStats) *world {
	w := &world{seed: seed, rand: rand.New(rand.NewPCG(seed, 0x1ea5e401d)), stats: stats, leftTokens: map[string]excuse{}, formers: map[string]string{}, ofCopies: map[string]bool{}}
	n := []int{1, 3, 3, 5, 5}[w.rand.IntN(5)]
	if w.chance(0.03) {
		n = 2 * (1 + w.rand.IntN(2))
	}
	w.quorum = n/2 + 1
	w.maxTTL = []time.Duration{time.Second, time.Second, 2 * time.Second, 5 * time.Second}[w.rand.IntN(4)]
	w.guard = !w.chance(simGuardOff)
	w.widths, w.most = []time.Duration{w.maxTTL}, w.maxTTL
	if w.guard && w.chance(0.3) { // without it nobody learns the largest
		w.widths = append(w.widths, w.maxTTL/2, w.maxTTL/4)
	}
	w.timeout = w.maxTTL / 20 // of the smallest TTL a fifth
	switch {
	case w.chance(0.2):
		w.timeout /= 2
	case len(w.widths) == 1 && w.chance(0.3):
		w.timeout = w.maxTTL / 8
	}
	if w.chance(0.3) {
		w.most = w.between(1, 2).Truncate(time.Millisecond)
	}
	w.names = []string{"a", "b", "c"}[:1+max(0, w.rand.IntN(12)-8)/2]
	if seed%8 == 2 {
		w.choices = true
		w.names = []string{"a", "b", "c"}[:2+w.rand.IntN(2)]
	}
	if w.chance(0.7) {
		names := inOneRegister()
		w.names = names[:len(w.names)]
	}
	for i, name := range w.names {
		w.keys[i] = keyspace.KeysOf(name)
	}
	// Where fences are forgotten, the order rests on the clocks, which must not differ by
	// more than the window.
	if w.chance(0.5) {
		w.maxLooks = 1 + w.rand.IntN(3) // else nobody dies so often that a hand-over must go on
	}
	w.spread = w.widths[len(w.widths)-1] / 10
	if w.chance(0.5) {
		w.spread *= 8
	}
	w.newFaults(n)
	w.minHolds = (seed%4 == 0 || seed%16 == 2) && w.faults.atScene == 0 // without chance: the others stay as they were
	for i := range n {
		w.nodes = append(w.nodes, newSimNode(w, i))
	}
	return w
}

// newFaults chooses what goes wrong in a history with n nodes.
func (w *world) newFaults(n int) {
	f := &w.faults
	for k := range faultKinds {
		p := 0.35
		switch {
		case k == forgets:
			continue
		case k > forgets:
			p = 0.12
		}
		if w.chance(p) && (w.guard || !k.loses()) {
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
	if w.guard {
		aim(&f.atVote, 0.2)
		aim(&f.atWin, 1)
		aim(&f.atHeal, 1)
		aim(&f.atFresh, 0.3)
		aim(&f.atOverdue, 0.5)
	}
	aim(&f.atHolder, 0.7)
	aim(&f.atRelease, 0.3)
	aim(&f.atSlowVoter, 0.3)
	aim(&f.atRenew, 0.05)
	aim(&f.atLate, 1)
	aim(&f.lateGifts, 0.5)
	aim(&f.handles, 0.7)
	if w.guard {
		aim(&f.atCopy, 1)
	}
	f.losing = []faultKind{crashEmpty, crashStale, failOver, flushAll, replaced, crashStep}[w.rand.IntN(6)]
	if w.guard && n > 1 && w.chance(0.15) {
		w.newScenes(n)
	}
}

// newScenes has a history be of scenes, and of little else.
func (w *world) newScenes(n int) {
	f := &w.faults
	if w.chance(0.7) {
		f.kinds = nil
	}
	*f = faults{kinds: f.kinds, pace: 3 * f.pace, end: f.end, latest: f.latest, longHolds: 1, losing: f.losing}
	w.names = w.names[:1]
	f.atScene = 0.3 + 0.7*w.rand.Float64()
	f.scene = scene(w.rand.IntN(int(scenes)))
	switch {
	case n != 3: // the others need it
		f.scene = rivalBeforeHeir
	case w.timeout == w.maxTTL/8 && w.chance(0.5): // only then is there time for it
		f.scene = lateAfterFlush
	}
}

// simulate plays a history.
func (w *world) simulate() {
	f := &w.faults
	for range 2 + w.rand.IntN(3) {
		w.start()
	}
	w.tell("%d nodes, %d clients, guard %v, faults %v every %v until %v", len(w.nodes), len(w.clients), w.guard, f.kinds, f.pace, f.end)
	if len(f.kinds) > 0 {
		w.nextFault()
	}
	w.run(f.end)
	w.mend()
	w.settleChange()

	// Somebody must get each name: when the nodes are old, the keys of the dead have expired,
	// and the holder has given it back. One that comes then has as long again.
	within := 8*w.maxTTL + 2*w.most + 5*time.Second + w.setBack
	for bound := w.now + within; slices.Contains(w.progress[:len(w.names)], false); {
		if w.step(bound) {
			continue
		}
		bound = math.MaxInt64
		for k, name := range w.names {
			if w.progress[k] {
				continue
			}
			free := max(w.freeSince(k), f.end)
			if w.now-free >= within {
				w.fail("nobody got %q for %v without faults", name, w.now-free)
			}
			bound = min(bound, free+within)
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
			c.input(c.core.Close)
		}
		for _, wk := range slices.Clone(c.workers) {
			if closes {
				wk.lease = nil
				if wk.call != 0 {
					w.fail("client %d: closed, and a caller still waits", c.id)
				}
			}
			wk.stop()
		}
	}
	// A connection that drops everything is noticed after TTL/4 if its node was slow, and given
	// up after as long again.
	w.run(collectEvery + 10*w.timeout + w.maxTTL/2 + 100*time.Millisecond)
	if w.minHolds { // what was left is gone by then
		w.run(105 * simLongestMinHold * w.maxTTL / 100)
	}
	w.checkClean()
	for _, c := range w.clients {
		if c.dead {
			continue
		}
		if !c.core.closing {
			c.input(c.core.Close)
		}
		if !c.core.Drained() {
			w.fail("client %d: not drained", c.id)
		}
	}
	w.stats.time += w.now
	w.stats.histories++
}

// freeSince returns since when nobody believes in a name: now if somebody does.
func (w *world) freeSince(k int) time.Duration {
	for _, l := range w.leases[k] {
		if l.believed() {
			return w.now
		}
	}
	return w.heldAt[k]
}

func (w *world) start() {
	newSimClient(w, len(w.clients), false)
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
	if !slices.ContainsFunc(w.clients, func(c *simClient) bool { return !c.dead && !c.idle }) {
		w.start() // a scene has left nobody
	}
}

// checkClean checks that nothing is left behind.
func (w *world) checkClean() {
	for _, n := range w.nodes {
		for k, name := range w.names {
			v := n.key(k)
			if v == "" {
				continue
			}
			token, _ := node.CutLeft(v)
			why, excused := w.leftTokens[token]
			if !excused && n.setBack {
				why, excused = leftBack, true
			}
			for _, c := range w.clients {
				if node.OwnerOf(v) != c.cfg.Owner || c.dead || c.crowded || !c.told().has(n.id) {
					continue
				}
				if !excused {
					w.fail("node %d still has %q: %s", n.id, name, v)
				}
				w.excuse(why, nil) // it ends by itself
			}
		}
	}
	for _, c := range w.clients {
		if c.dead || c.crowded {
			continue // what is owed by who has no room goes out bit by bit
		}
		k := c.core
		for i := range k.nodes {
			if owed := k.nodes[i].debts.owed; len(owed) > 0 {
				w.fail("client %d still owes node %d releases: %+v", c.id, i, owed)
			}
		}
		if !reflect.DeepEqual(noRare, newRare()) || noStages != (stages{}) {
			w.fail("what all leases without odds share was written to: %+v, %+v", noRare, noStages)
		}
		alarms := k.alarms.count // but for those that never end
		if k.agreement.isSet() {
			alarms--
		}
		for i := range k.nodes {
			if k.nodes[i].youth.isSet() {
				alarms--
			}
		}
		if k.tenures.len()+len(k.inquiries)+len(k.lines)+alarms > 0 {
			w.fail("client %d is left with %d tenures, %d looks, %d lines, %d alarms", c.id, k.tenures.len(), len(k.inquiries), len(k.lines), alarms)
		}
		for call, done := range c.answered {
			if !done {
				w.fail("client %d: caller %d was not answered", c.id, call)
			}
		}
		for _, a := range c.actors {
			signs := func(cmd node.Command) bool { return cmd.Op == node.Sign || cmd.Op == node.Advance }
			left := slices.DeleteFunc(slices.Clone(a.mailbox), signs)
			if a.pipe != nil {
				left = append(left, slices.DeleteFunc(slices.Clone(a.pipe.commands), signs)...)
			}
			if len(left) > 0 {
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
	d := w.between(0, 0.3)
	if w.chance(0.3) {
		d = w.between(0.3, 2)
	}
	w.stats.faults[k]++
	if k < adminDelete || k > revoked {
		w.affects(d)
	}
	w.tell("FAULT: %s: node %d, client %d, %v", faultNames[k], n.id, c.id, d)
	switch {
	case k.loses() || k == crashFull:
		w.strike(n, k)
		if w.chance(0.2) {
			for _, other := range w.nodes {
				if other != n && w.chance(0.5) {
					w.strike(other, k)
				}
			}
		}
		if w.chance(0.3) {
			w.newcomer()
		}
	case k >= pauseUnseen:
		w.faultByHand(k, n, c, d)
	default:
		w.faultOfLinks(k, n, c, d)
	}
}

func (w *world) faultOfLinks(k faultKind, n *simNode, c *simClient, d time.Duration) {
	a := c.actors[n.id]
	switch k {
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
	case killClient:
		c.kill()
		w.start()
	}
}

func (w *world) faultByHand(k faultKind, n *simNode, c *simClient, d time.Duration) {
	switch k {
	case pauseUnseen:
		c.pause(d, true)
	case adminDelete:
		k := w.rand.IntN(len(w.names))
		n.spoils(k, 0)
		n.del(k)
	case adminSet:
		k := w.rand.IntN(len(w.names))
		n.spoils(k, 0)
		n.set(k, "admin", d)
	case adminRevoke:
		w.takeAway(d)
	case revoked:
		if l := w.holder(); l != nil {
			w.revoke(c, l)
		}
	case clockBack:
		n.jump(-w.upTo(2 * time.Second))
	case clockAhead:
		n.jump(w.upTo(2 * time.Second))
	case clocksNudged:
		w.nudge()
	}
}

// nudge sets the clocks of all nodes forward: by what the drift is for, or by so little that it
// is for that and for clocks that run at different rates: for that there is no excuse.
func (w *world) nudge() {
	little := time.Millisecond/2 + w.widths[len(w.widths)-1]/1000
	if w.now >= w.nudgedAt+2*w.maxTTL && w.chance(0.5) {
		w.nudgedAt = w.now
		d := w.upTo(little)
		w.changed = true
		for _, n := range w.nodes {
			n.clock.jump(d)
		}
		return
	}
	d := 1 + w.upTo(15*time.Millisecond)
	for _, n := range w.nodes {
		n.jump(d)
	}
}

// strike has a node lose its data, in one of the ways.
func (w *world) strike(n *simNode, k faultKind) {
	switch k {
	case flushAll:
		w.stats.flushes++
		n.flush()
		w.affects(0)
	case replaced:
		back := time.Duration(0)
		if w.chance(0.5) {
			back = w.between(0, 2.5)
		}
		w.affects(back)
		n.replace(back)
	case crashStep:
		w.crash(n, crashEmpty)
		w.after(w.upTo(w.maxTTL/3), func() {
			if !w.calm && n.up {
				d := 5*time.Second + w.upTo(55*time.Second)
				w.tell("node %d has its clock set, %v ahead", n.id, d)
				w.stats.steps++
				w.affects(0)
				n.jump(d)
			}
		})
	default:
		w.crash(n, k)
	}
}

// newcomer has a process start that was never there before, in the place of another one if
// there are many. It wants every name at once.
func (w *world) newcomer() {
	w.after(w.upTo(w.maxTTL/20), func() {
		if w.calm {
			return
		}
		if !w.mayStart() {
			w.anyClient().kill()
		}
		w.stats.newcomers++
		w.start()
		for _, wk := range w.clients[len(w.clients)-1].workers {
			wk.rush(false)
		}
	})
}

// mayStart reports whether there may be another process.
func (w *world) mayStart() bool {
	alive := 0
	for _, c := range w.clients {
		if !c.dead {
			alive++
		}
	}
	return alive < 5
}

// until returns the end of a fault: with all others at the latest.
func (w *world) until(d time.Duration) time.Duration { return min(w.now+d, w.faults.end) }

func (a *simActor) cut(d time.Duration) {
	a.cutUntil = max(a.cutUntil, a.c.w.until(d))
}

func (w *world) crash(n *simNode, k faultKind) {
	if !n.up {
		return
	}
	var data simData
	switch k {
	case crashFull:
		data = n.data.clone()
	case crashStale, failOver:
		if at := len(n.past) - 1 - w.rand.IntN(1+len(n.past)); at >= 0 {
			data = n.past[at]
			if w.chance(0.5) { // one of the latest writes only
				data = n.past[max(at, len(n.past)-1-w.rand.IntN(3))]
			}
		} else if len(n.past) < pastWrites/4 && w.chance(0.5) {
			data = n.data.clone()
		}
	}
	n.loses(data, n.clock)
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

// takeAway deletes the keys of a holder on a majority, one after the other, while it
// cannot reach one of those nodes: a rival may come and go before it learns of that.
func (w *world) takeAway(d time.Duration) {
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
				n.spoils(l.key, 0)
				n.del(l.key)
			}
		})
	}
}
