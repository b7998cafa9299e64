package core

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// In this file the nodes are changed under the clients of a history: processes are started with both
// lists one after the other, or are given them under held leases; an operator closes the former list
// and opens the present one; the processes are given that alone. Some do what they should not.

var (
	simChanges    = flag.Int("sim.changes", 0, "how many histories TestSimulationOfChanges and TestSimulationOfSkippedRollouts play; 0 for those of a few seconds")
	simChangeFrom = flag.Uint64("sim.changes.from", 1, "the seed of the first of them")
	simChangeSeed = flag.Uint64("sim.change", 0, "play this history of a change alone; with -v it is told step by step")
)

const maxSimNodes = 8

// A simRole says which lists a process was given.
type simRole uint8

const (
	givenFormer simRole = iota
	givenBoth
	givenPresent
)

func (r simRole) String() string { return [...]string{"former", "both", "present"}[r] }

// A simPhase says how far the operators are.
type simPhase uint8

const (
	beforeChange simPhase = iota
	rollingBoth           // processes are given both lists
	allBoth               // and all have them, unless somebody was forgotten
	rollingLast           // behind finish, or when it is undone
	changed
)

// A simChange is one change of the nodes.
type simChange struct {
	former, present electorate // of the world's nodes
	phase           simPhase
	last            simRole // which all are given in the end
	mistakes        float64 // how often somebody is given what he should not
	forced          bool    // finish does not look who is there
	behind          bool    // the clocks of new nodes are
	restful         bool    // nobody wants a name with both lists: only the floor carries the order of fences
	skipped         bool    // nobody is given both lists, but who only asks
	asks            bool    // the next one that starts only asks
	opened          bool    // finish was so far
	floor           uint64
	relisted        int
}

// simListsOf are the lists of a change: so many nodes, the first of the former list and of the
// present one, and how many they have.
var simListsOf = []struct{ n, former, from, present int }{
	{6, 3, 3, 3}, {4, 3, 1, 3}, {5, 3, 2, 3}, {5, 3, 0, 5}, {5, 5, 0, 3}, {4, 1, 1, 3}, {3, 1, 0, 3}, {2, 1, 1, 1},
	{7, 3, 2, 5}, {4, 3, 0, 4}, {8, 3, 3, 5}, {6, 4, 2, 4},
}

func listOf(from, n int) electorate { return electorateOf(all(n) << from) }

// newChange has a world be one in which the nodes are changed.
func (w *world) newChange() {
	lists := simListsOf[w.rand.IntN(len(simListsOf))]
	x := &simChange{former: listOf(0, lists.former), present: listOf(lists.from, lists.present), last: givenPresent}
	if w.chance(0.4) {
		x.mistakes = 0.4 * w.rand.Float64()
	}
	x.forced = w.chance(0.3)
	x.restful = w.chance(0.2)
	w.change = x
	f := &w.faults
	f.kinds = slices.DeleteFunc(f.kinds, func(k faultKind) bool { return k > forgets && k != revoked })
	f.atScene, f.atLate, f.atCopy, f.atFresh = 0, 0, 0, 0
	if f.losing == crashStep {
		f.losing = crashEmpty
	}
	if w.chance(0.5) {
		f.kinds, f.atVote, f.atWin = nil, 0, 0
	}
	f.end = w.between(10, 16)
	w.minHolds, w.widths, w.guard = false, w.widths[:1], true
	w.nodes = nil
	for i := range lists.n {
		w.nodes = append(w.nodes, newSimNode(w, i))
	}
	if x.behind = w.chance(0.4); x.behind {
		for _, n := range w.nodes {
			if !x.former.nodes.has(n.id) {
				n.clock.jump(-w.upTo(time.Minute))
			}
		}
	}
	w.quorum = x.former.quorum
	w.after(w.between(1, 3), w.rollOutBoth)
}

// giveLists decides which nodes a new process is given, and returns the lists by its own indices.
func (w *world) giveLists(c *simClient) (former, present []int) {
	x := w.change
	if x == nil {
		for i := range w.nodes {
			c.members = append(c.members, i)
		}
		return nil, nil
	}
	if x.skipped {
		c.role, c.asks = x.giveOne(w), x.asks
		return c.takeLists()
	}
	c.role = x.last
	switch x.phase {
	case beforeChange:
		c.role = givenFormer
	case rollingBoth:
		c.role = simRole(w.rand.IntN(2))
	case allBoth:
		c.role = givenBoth
	case rollingLast:
		if w.chance(0.5) {
			c.role = givenBoth
		}
	}
	if x.phase < changed && !w.calm && (x.last == givenPresent || x.phase < rollingLast) && w.chance(x.mistakes) {
		// Nobody sees that the present list alone is used before one process was given both.
		if role := simRole(w.rand.IntN(3)); role != givenPresent || w.isBegun() && x.last == givenPresent {
			c.role = role
		}
	}
	return c.takeLists()
}

// isBegun reports whether every node of the present list says that a change has begun.
func (w *world) isBegun() bool {
	return !slices.ContainsFunc(w.nodes, func(n *simNode) bool {
		mark, _ := keyspace.ReadMark(n.text(simOwn.Marker))
		return w.change.present.nodes.has(n.id) && mark.Change == ""
	})
}

// takeLists adds the nodes of the client's lists to those that it has.
func (c *simClient) takeLists() (former, present []int) {
	x := c.w.change
	index := func(e electorate) (list []int) {
		for i := range c.w.nodes {
			if !e.nodes.has(i) {
				continue
			}
			k := slices.Index(c.members, i)
			if k < 0 {
				k = len(c.members)
				c.members = append(c.members, i)
			}
			list = append(list, k)
		}
		return list
	}
	switch c.role {
	case givenFormer:
		return nil, index(x.former)
	case givenPresent:
		return nil, index(x.present)
	}
	former = index(x.former)
	return former, index(x.present)
}

// told returns the world's nodes that the client was given.
func (c *simClient) told() nodeSet {
	x := c.w.change
	switch {
	case x == nil:
		return all(len(c.w.nodes))
	case c.role == givenFormer:
		return x.former.nodes
	case c.role == givenPresent:
		return x.present.nodes
	}
	return x.former.nodes | x.present.nodes
}

// rollOutBoth has the processes be given both lists, one after the other.
func (w *world) rollOutBoth() {
	x := w.change
	x.phase = rollingBoth
	w.tell("CHANGE: both lists are rolled out, from %b to %b", x.former.nodes, x.present.nodes)
	w.rollOut(givenBoth, func() {
		x.phase = allBoth
		for _, c := range w.clients {
			if !c.dead && c.role == givenBoth && w.chance(x.mistakes) {
				w.after(w.between(0, 1), func() { w.leaveEarly(c) })
			}
		}
		if w.chance(0.15) {
			x.last, x.phase, x.mistakes = givenFormer, rollingLast, 0
			w.tell("CHANGE: it is undone")
			w.rollOut(givenFormer, func() {
				// Whoever has another list then is not seen any more.
				for _, c := range slices.Clone(w.clients) {
					if !c.dead && c.role != givenFormer {
						c.kill()
						w.start()
					}
				}
				w.eachNode(all(len(w.nodes)), 0, w.forget, func() { x.phase = changed })
			})
			return
		}
		w.after(w.between(0, 2), func() { w.finish(0) })
	})
}

// rollOut gives lists to every process that has others, unless it is forgotten.
func (w *world) rollOut(role simRole, then func()) {
	x := w.change
	spread := w.between(0.1, 2)
	for _, c := range slices.Clone(w.clients) {
		if c.dead || c.role == role || !w.calm && w.chance(x.mistakes) {
			continue
		}
		restart := w.chance(0.5)
		w.after(w.upTo(spread), func() { w.give(c, role, restart) })
	}
	w.after(spread, then)
}

// give gives a process lists: it is started anew, or takes them while it runs.
func (w *world) give(c *simClient, role simRole, restart bool) {
	if c.dead || c.role == role {
		return
	}
	if restart || c.role == givenFormer && role == givenPresent || c.role == givenPresent {
		w.tell("CHANGE: client %d is started anew, for %v", c.id, role)
		c.kill()
		w.start()
		return
	}
	was := c.role
	c.when(func() {
		if c.dead || c.role != was {
			return
		}
		c.input(func(now clock.Instant) {
			c.role = role
			former, present := c.takeLists()
			r := c.core.Reconfigure(now, Lists{Nodes: len(c.members), Former: former, Present: present})
			w.tell("CHANGE: client %d takes %v while it runs: %+v", c.id, role, r)
			if r == nil {
				w.change.relisted++
				return
			}
			c.role = was
		})
		if c.role != role {
			c.after(w.between(0.1, 0.5), func() {
				if w.change.phase >= rollingLast || role == givenBoth {
					w.give(c, role, w.chance(0.2))
				}
			})
		}
		c.meet()
	})
}

// leaveEarly has a process be given the present list alone before that is opened.
func (w *world) leaveEarly(c *simClient) {
	c.when(func() {
		if c.role != givenBoth || w.change.last != givenPresent || w.calm {
			return
		}
		c.input(func(now clock.Instant) {
			c.role = givenPresent
			former, present := c.takeLists()
			if c.core.Reconfigure(now, Lists{Nodes: len(c.members), Former: former, Present: present}) != nil {
				c.role = givenBoth
			}
		})
		c.meet()
	})
}

// meet has the actors of nodes that were added begin, and those of nodes that were left end.
func (c *simClient) meet() {
	for _, a := range c.actors {
		index := slices.Index(c.members, a.n.id)
		switch has := c.told().has(a.n.id); {
		case has && a.index < 0:
			a.index = index
			a.try(true)
		case !has && a.index >= 0:
			a.index = -1
			a.listener.end()
			for _, s := range []*simConn{a.conn, a.attempt, a.asked} {
				if s != nil {
					s.closed = true
				}
			}
			a.conn, a.attempt, a.asked, a.pipe, a.mailbox, a.rest, a.hold = nil, nil, nil, nil, nil, nil, false
		}
	}
	c.arm()
}

// eachNode does something on every node of some, as soon as that is up, unless it is missing for long
// and enough others have it done; and then goes on.
func (w *world) eachNode(nodes nodeSet, need int, do func(n *simNode), then func()) {
	var done nodeSet
	from := w.now
	var try func()
	try = func() {
		for _, n := range w.nodes {
			if nodes.has(n.id) && !done.has(n.id) && n.up && n.hungUntil <= w.now && w.chance(0.7) {
				do(n)
				done.add(n.id)
			}
		}
		if done == nodes || need > 0 && done.len() >= need && w.now-from > w.maxTTL/2 {
			then()
			return
		}
		w.after(w.upTo(w.maxTTL/10), try)
	}
	try()
}

// finish closes the former list, waits until no lease of it can be believed in any more, and opens the
// present one, above all fences of the former.
func (w *world) finish(tries int) {
	x := w.change
	for _, c := range w.clients {
		alone := !c.dead && (c.role == givenFormer || c.role == givenBoth && slices.ContainsFunc(c.core.held, func(t *tenure) bool { return t.mode == modeFormer }))
		if alone && !x.forced && tries < 20 {
			w.after(w.between(0.05, 0.3), func() { w.finish(tries + 1) })
			return
		}
	}
	stage := func(s node.Stage) func(n *simNode) {
		return func(n *simNode) { w.write(n, s, 0) }
	}
	f, p := x.former, x.present
	var closing func()
	closing = func() {
		w.tell("CHANGE: the former list is closed")
		since := make(map[int]time.Duration)
		w.eachNode(f.nodes, f.nodes.len()-f.quorum+1, func(n *simNode) {
			stage(node.StageClosed)(n)
			since[n.id] = n.lifeAt
		}, func() {
			wait := w.maxTTL + driftOf(w)
			w.after(time.Duration(float64(wait)/1.0045), func() {
				var floor uint64
				read := func(n *simNode) {
					for k := range w.names {
						stored, _ := n.now().Members(w.keys[k].Fence)
						for _, m := range stored {
							floor = max(floor, keyspace.Whole(m.Score))
						}
					}
				}
				w.eachNode(f.nodes, f.quorum, read, func() {
					var kept nodeSet // closed all the time
					for _, n := range w.nodes {
						if at, is := since[n.id]; is && n.up && n.lifeAt == at {
							kept.add(n.id)
						}
						if p.nodes.has(n.id) && n.up {
							read(n)
						}
					}
					if kept.len() < f.nodes.len()-f.quorum+1 {
						w.tell("CHANGE: former nodes have forgotten that they were closed")
						w.after(w.between(0.05, 0.3), closing)
						return
					}
					x.opened, x.floor = true, floor
					w.tell("CHANGE: the present list is opened, the floor is %d", floor)
					open := func(n *simNode) { w.write(n, node.StageOpened, floor) }
					w.eachNode(p.nodes, p.quorum, open, func() {
						x.phase = rollingLast
						w.quorum = p.quorum
						w.rollOut(givenPresent, func() { x.phase = changed })
					})
				})
			})
		})
	}
	closing()
}

// driftOf is the drift of the largest TTL, by the defaults.
func driftOf(w *world) time.Duration { return w.maxTTL/100 + 2*time.Millisecond }

// pair returns the change between the lists, by the identities of the nodes.
func (w *world) pair(s node.Stage) node.Change {
	ids := func(e electorate) node.Electorate {
		var ids []string
		for _, n := range w.nodes {
			if id := n.text(simOwn.Identity); e.nodes.has(n.id) && id != "" && n.lifeAt < w.now-2*w.most {
				ids = append(ids, id)
			}
		}
		return node.NewElectorate(e.nodes.len(), ids)
	}
	return node.Change{Former: ids(w.change.former), Present: ids(w.change.present), Stage: s}
}

// write writes a stage and a floor to a node.
func (w *world) write(n *simNode, s node.Stage, floor uint64) {
	t := n.begin()
	e, err := t.Enrol(&simOwn, n.incarnation(), w.maxTTL.Milliseconds(), "")
	if err != nil {
		w.fail("node %d: enrol: %v", n.id, err)
	}
	ok := n.advance(t, w.pair(s).String(), floor, e.Marker)
	if !ok { // nodes have lost their identities for good, and the operator sees that it is the same change
		w.rename(n, s, floor)
	}
	w.tell("CHANGE: node %d is %v: %v, %q", n.id, s, ok, n.text(simOwn.Marker))
}

// rename has the marker of a node name the lists by the identities that their nodes have now.
func (w *world) rename(n *simNode, s node.Stage, floor uint64) {
	mark, ok := keyspace.ReadMark(n.text(simOwn.Marker))
	had, _ := node.ParseChange(mark.Change)
	if next := w.pair(max(s, had.Stage)).String(); ok && (next != mark.Change || floor > mark.Floor) {
		if had.Stage < node.StageClosed && s >= node.StageClosed {
			n.closedAt = w.now
		}
		mark.Change, mark.Floor = next, max(floor, mark.Floor)
		n.begin().Set(simOwn.Marker, mark.String(), keyspace.Never)
	}
}

// forget takes a change that was undone off a node.
func (w *world) forget(n *simNode) {
	mark, ok := keyspace.ReadMark(n.text(simOwn.Marker))
	if ok && mark.Change != "" {
		mark.Change = ""
		n.begin().Set(simOwn.Marker, mark.String(), keyspace.Never)
	}
}

// advance is what the pipeline of an Advance does: a marker is computed from the one that was told,
// and takes its place. It reports whether it has.
func (n *simNode) advance(t *keyspace.Turn, change string, floor uint64, told string) bool {
	mark, ok := keyspace.ReadMark(told)
	to, isChange := node.ParseChange(change)
	had, hadChange := node.ParseChange(mark.Change)
	next, taken := had.Advanced(to)
	if !ok || !isChange || !hadChange || !taken {
		return false
	}
	mark.Change, mark.Floor = next.String(), max(mark.Floor, floor)
	says, err := t.Advance(&simOwn, told, mark.String())
	if err != nil {
		n.w.fail("node %d: advance: %v", n.id, err)
	}
	if says != keyspace.Ours {
		return false
	}
	if had.Stage < node.StageClosed && next.Stage >= node.StageClosed {
		n.closedAt = n.w.now
	}
	return true
}

// forgotChange reports whether a lease is of a client that was told the former list alone, and a quorum
// of that list says no more that it is closed, although the present list was opened: servers that were
// left, and have lost their data since. One that was closed anew counts for as long as votes may be
// believed in from before that.
func (w *world) forgotChange(l *simLease) bool {
	x := w.change
	if x == nil || !x.opened || l.c.role != givenFormer {
		return false
	}
	var open nodeSet
	for _, n := range w.nodes {
		mark, _ := keyspace.ReadMark(n.text(simOwn.Marker))
		if ch, _ := node.ParseChange(mark.Change); ch.Stage < node.StageClosed || w.now-n.closedAt < w.maxTTL {
			open.add(n.id)
		}
	}
	return x.former.quorumIn(open)
}

// leftBy reports whether one of two leases was won on former nodes that have forgotten that they were
// left, and the other one rests on the present list alone.
func (l *simLease) leftBy(o *simLease) bool {
	isPresent := func(l *simLease) bool {
		return len(l.lists) == 1 && l.lists[0].nodes == l.c.w.change.present.nodes && l.c.role != givenFormer
	}
	return l.left && isPresent(o) || o.left && isPresent(l)
}

// enough reports whether a quorum of each list on which a lease rests is among some nodes.
func (l *simLease) enough(nodes nodeSet) bool {
	for i := range l.lists {
		if !l.lists[i].quorumIn(nodes) {
			return false
		}
	}
	return true
}

// learnLists notes on which lists a lease rests.
func (l *simLease) learnLists() {
	c, x := l.c, l.c.w.change
	t := c.core.tenures.get(l.id)
	switch {
	case x == nil:
		if l.lists == nil {
			l.lists = []electorate{electorateOf(all(len(c.w.nodes)))}
		}
	case t == nil || t.phase != phaseHeld:
	default:
		l.lists = nil
		m := c.core.mode(t)
		for _, e := range []electorate{m.first, m.second} {
			if e.quorum == 0 {
				continue
			}
			of := electorate{quorum: e.quorum}
			for k, i := range c.members {
				if e.nodes.has(k) {
					of.nodes.add(i)
				}
			}
			l.lists = append(l.lists, of)
		}
	}
}

// isFree reports whether a quorum of each list of a client is without some nodes.
func (c *simClient) isFree(without nodeSet) bool {
	x := c.w.change
	if x == nil {
		e := electorateOf(all(len(c.w.nodes)))
		return e.quorumIn(^without)
	}
	return (c.role == givenPresent || x.former.quorumIn(^without)) && (c.role == givenFormer || x.present.quorumIn(^without))
}

// settleChange has all processes be given the last lists, after the faults.
func (w *world) settleChange() {
	x := w.change
	if x == nil {
		return
	}
	x.forced, x.mistakes = true, 0
	for bound := w.now + 60*w.maxTTL; x.phase != changed; {
		if !w.step(bound) {
			w.fail("the change is in phase %d for ever", x.phase)
		}
	}
	for _, c := range slices.Clone(w.clients) {
		if !c.dead && c.role != x.last {
			c.kill()
			w.start()
		}
	}
	if !slices.ContainsFunc(w.clients, func(c *simClient) bool { return !c.dead && !c.idle }) {
		w.start()
	}
	var repair func()
	repair = func() {
		for _, n := range w.nodes {
			mark, _ := keyspace.ReadMark(n.text(simOwn.Marker))
			switch {
			case mark.Change != "" && x.opened && x.present.nodes.has(n.id):
				w.rename(n, node.StageOpened, x.floor) // finish is run again: what was opened may be lost
			case mark.Change != "":
				w.rename(n, node.StageNone, 0)
			}
		}
		if !w.ending {
			w.after(w.maxTTL, repair) // some are young, and named later
		}
	}
	repair()
	w.progress = [maxNames]bool{}
	w.quorum = x.present.quorum
}

// Nodes are changed under clients that compete, some of which were given other lists than they should
// have been: at any instant one of them at most believes that it holds a name, and fences grow. What
// is checked is what TestSimulation checks, with a quorum of each list on which a lease rests. One more
// excuse is for two believers, and for their fences, if one rests on the present list alone and the other
// one on former servers that were left, and have forgotten that since.
func TestSimulationOfChanges(t *testing.T) { playChanges(t, (*world).newChange) }

func playChanges(t *testing.T, begins func(*world)) {
	if *simChangeSeed != 0 {
		var trace func(string, ...any)
		if testing.Verbose() {
			trace = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		}
		if err := playChange(begins, *simChangeSeed, &simStats{lost: map[string]int{}}, trace); err != nil {
			t.Fatalf("seed %d: %v", *simChangeSeed, err)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	begin := time.Now()
	const fixed, seconds = 60, 2
	stats := &simStats{lost: map[string]int{}}
	fresh := rand.Uint64() >> 16
	failed := 0
	for k := 1; ; k++ {
		if *simChanges > 0 && k > *simChanges || *simChanges == 0 && k > fixed && time.Since(begin) > seconds*time.Second {
			break
		}
		seed := uint64(k)
		switch {
		case *simChanges > 0:
			seed += *simChangeFrom - 1
		case k > fixed:
			seed += fresh
		}
		if err := playChange(begins, seed, stats, nil); err != nil {
			t.Errorf("seed %d: %v\nreplay: go test ./supervisor/internal/core -run '%s$' -v -sim.change=%d", seed, err, t.Name(), seed)
			if failed++; !*simAll || failed > 20 {
				break
			}
		}
	}
	t.Logf("%d histories in %v; %d acquisitions; lists were taken under held leases %d times; %d changes were finished, %d undone",
		stats.histories, time.Since(begin).Round(time.Millisecond), stats.won, stats.relisted, stats.finished, stats.undone)
	t.Log(stats.String())
}

func playChange(begins func(*world), seed uint64, stats *simStats, trace func(string, ...any)) error {
	w := newWorld(seed, stats)
	begins(w)
	err := playWorld(w, trace)
	stats.relisted += w.change.relisted
	if w.change.last == givenPresent {
		stats.finished++
	} else {
		stats.undone++
	}
	return err
}
