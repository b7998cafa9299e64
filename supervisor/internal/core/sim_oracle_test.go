package core

import (
	"maps"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// This file is what a history is judged by. It knows what became of each key on each
// node, and when, and asks no core what that thinks of its votes.

// A simLease is a tenure as the world sees it.
type simLease struct {
	c       *simClient
	wk      *simWorker
	id      uint64
	key     int
	token   string
	fence   uint64
	ttl     time.Duration // the longest asked for
	held    *lease.Lease
	noRenew bool
	minHold time.Duration // the name is to stay taken for so long
	begunAt time.Duration // when its election began, in true time
	wonAt   time.Duration

	until clock.Instant // by its client's clock
	over  bool

	// A rival was let in by what the protocol does not promise to survive.
	interrupted   bool
	interruptedAt clock.Instant // by its client's clock
	never         bool          // it never was a lease: its holder was stopped unseen when it won

	// What became of its keys by hand.
	spoilt   nodeSet // nodes that broke their promise, in true time last at
	spoiltAt [maxSimNodes]time.Duration
	told     nodeSet // those of them that have said so
	blurred  nodeSet // those that can say so no longer: they have lost data since
	late     nodeSet // nodes that got its key by its election after that
	given    nodeSet // nodes that gave the key to the one that adopts the lease
	revoked  bool    // a client was told to

	lists  []electorate // on which it rests, of the world's nodes
	yields string       // why its client must not have won it, by the entries of others; "" if it may
	left   bool         // it was won on former nodes that have forgotten that they were left

	// Of a scene.
	rival  *simClient
	healed *simNode
}

// An excuse is a reason why what is not promised did not happen.
type excuse uint8

const (
	// Two believers, and the older one had lost votes by hand.
	heldByHand excuse = iota
	// Two believers, and the newer one had lost votes by hand before it won.
	wonByHand
	// Two believers, and one of them was stopped by what its clock does not see.
	heldUnseen
	wonUnseen
	// A fence that is not larger: of one that had overlapped, so was excused already; of an
	// adoption whose keys were taken by hand while it waited for the former holder;
	// if so many clocks were stepped that the median is nobody's; of a winner that was
	// stopped by what its clock does not see.
	fenceOverlaps
	fenceByHand
	fenceStepped
	fenceUnseen
	// A holder that does not learn that it was not alone: a node forgot what was done there
	// before it was asked; nodes started anew while the holder was stopped unseen; a node
	// of the deletion is silent, and a grant that came later stands in for it.
	learnErased
	learnPaused
	learnLate
	// An adoption although somebody had the name since: its own keys were taken by hand
	// while it waited, a command of the former holder's came late, or a node came back with
	// a copy.
	adoptByHand
	adoptLate
	adoptCopy
	// A key that is left: its command came after its connection was given up, it is of a
	// copy, its node's clock was put back, it was handed over and not adopted, or adopted
	// in vain.
	leftLate
	leftCopy
	leftBack
	leftHandle
	// Two believers, one on the former list alone and one on the present list alone, their fences, and
	// an adoption between their tenures: the former servers were left, and have lost their data since.
	formerEmptied
	// The same of two whose lists do not meet, if neither can have seen the other.
	listsUnseen
	excuses
)

var excuseNames = [excuses]string{
	heldByHand: "older holder's keys taken by hand", wonByHand: "newer holder's keys taken by hand",
	heldUnseen: "older holder stopped unseen", wonUnseen: "newer holder stopped unseen",
	fenceOverlaps: "fences of two that overlapped", fenceByHand: "fence of an adoption, keys taken by hand", fenceStepped: "fences after stepped clocks", fenceUnseen: "fence of one stopped unseen",
	learnErased: "not learned, erased", learnPaused: "not learned, stopped unseen", learnLate: "not learned, late grant and silent node",
	adoptByHand: "adopted after a rival, keys taken by hand",
	adoptLate:   "adopted after a rival, late command", adoptCopy: "adopted after a rival, copy",
	leftLate: "key left by a late command", leftCopy: "key left by a copy", leftBack: "key left, clock put back",
	leftHandle:    "key left of a handle",
	formerEmptied: "former servers emptied after they were left",
	listsUnseen:   "lists that do not meet, and did not see each other",
}

func (w *world) excuse(e excuse, l *simLease) {
	w.stats.excused[e]++
	if l != nil {
		w.tell("excused for %s: %s", l.token, excuseNames[e])
	}
}

// probe asks the lease, as its holder does before a write.
func (l *simLease) probe() {
	if l.over {
		return
	}
	if !l.held.Valid() {
		l.over = true
	}
}

func (w *world) leaseOf(held *lease.Lease) *simLease {
	return w.leaseBy(w.nameIndex(held.Name()), string(held.Token()))
}

// leaseBy returns a lease that may be believed in, or nil.
func (w *world) leaseBy(k int, token string) *simLease {
	for _, l := range w.leases[k] {
		if l.token == token {
			return l
		}
	}
	return nil
}

func (w *world) nameIndex(name string) int {
	i := slices.Index(w.names, name)
	if i < 0 {
		w.fail("what name is %q?", name)
	}
	return i
}

// believed reports whether its holder may act on it now.
func (l *simLease) believed() bool { return !l.over && l.c.Now() < l.until }

// unseen reports whether its holder was stopped by something that its clock does not
// know of, so lately that what it believes may come from before.
func (l *simLease) unseen() bool {
	at := l.c.unseenAt
	return at != 0 && l.c.Now().Sub(at) < l.c.w.maxTTL+l.c.w.maxTTL/4
}

// unaware reports whether it is unseen, and the nodes have not shown it to its holder.
func (l *simLease) unaware() bool { return l.unseen() && !l.c.knowsPause() }

// blinded reports whether its holder cannot learn what has become of it, and why.
func (l *simLease) blinded() (excuse, bool) {
	w := l.c.w
	switch {
	case l.blurred != 0:
		return learnErased, true
	case l.spoilt&^l.told != 0 && l.late != 0:
		return learnLate, true
	}
	for _, n := range w.nodes {
		if l.c.unseenAt != 0 && n.lifeAt > l.c.unseenFrom-w.maxTTL {
			return learnPaused, true
		}
	}
	return 0, false
}

// takenBefore notes which of a lease's keys were taken by hand before it was won: an heir
// may wait for long with them.
func (w *world) takenBefore(l *simLease) {
	for _, n := range w.nodes {
		for _, p := range n.spoilt {
			if p.token != l.token || p.end < w.now {
				continue
			}
			if !l.spoilt.has(n.id) { // what came first counts: a rival may have been there since
				l.spoilt.add(n.id)
				l.spoiltAt[n.id] = p.at
			}
			if n.lifeAt > p.at { // it lost, after that, what would have told of it
				l.blurred.add(n.id)
			}
		}
	}
}

// granted notes that a node has set a key by a grant or a claim.
func (w *world) granted(n *simNode, k int, token string) {
	if l := w.leaseBy(k, token); l != nil && l.spoilt != 0 {
		l.late.add(n.id)
	}
}

// observes notes what a node says of a lease that was taken away there.
func (w *world) observes(n *simNode, p *simPipe, k int, cmd *node.Command, r *node.Reply) {
	l := w.leaseBy(k, cmd.Token)
	if l == nil || !l.spoilt.has(n.id) || l.blurred.has(n.id) {
		return
	}
	switch r.Status {
	case node.Absent, node.Other:
		p.tells = append(p.tells, l)
	case node.OK:
		if n.data.keys[k].set < l.spoiltAt[n.id] {
			l.spoilt.del(n.id) // its clock was stepped, and the key is there all the same
		}
	}
}

// looks notes the same of a lease that only looks.
func (w *world) looks(n *simNode, p *simPipe, k int, token string, r *node.Reply) {
	says := *r
	switch {
	case r.Status == node.OK && node.IsReservation(r.Value):
		says.Status = node.Absent
	case r.Status == node.OK && r.Value != token:
		says.Status = node.Other
	}
	w.observes(n, p, k, &node.Command{Token: token}, &says)
}

// deletes notes that a key is about to be deleted, or left, if that is a release.
func (w *world) deletes(n *simNode, k int, token string, cmd *node.Command) {
	if was, left := node.CutLeft(token); left && cmd.Op == node.Release && was == cmd.Token {
		w.handAt[k] = w.now // it is revoked
	}
	if cmd.Op != node.Release && cmd.Op != node.Vacate || token != cmd.Token {
		return
	}
	l := w.leaseBy(k, token)
	if l == nil || !l.believed() {
		return
	}
	if !l.revoked {
		w.fail("node %d: %s is released, and client %d believes in it", n.id, token, l.c.id)
	}
	n.spoils(k, 0)
}

// support counts the nodes that keep a lease up to its deadline, or would, had they
// not forgotten it, or had it not been taken from them.
func (w *world) support(l *simLease) (kept, forgot, spoilt nodeSet) {
	l.learnLists()
	end := w.now + l.c.clock.until(time.Duration(l.until)+l.grace())
	for _, n := range w.nodes {
		k, f, s := n.keeps(l, end)
		switch {
		case k:
			kept.add(n.id)
		case f:
			forgot.add(n.id)
		case s:
			spoilt.add(n.id)
		}
	}
	return kept, forgot, spoilt
}

func (l *simLease) grace() time.Duration {
	if t := l.c.core.tenures.get(l.id); t != nil {
		return t.terms.Grace
	}
	return 0
}

// wonLease checks a new tenure: nobody else may believe in the name, the fence is
// larger than all before, and a quorum keeps the key to the end.
func (w *world) wonLease(l *simLease) {
	w.stats.won++
	if w.calm {
		w.progress[l.key] = true
	}
	if w.ending {
		w.fail("client %d got a lease that nobody waits for", l.c.id)
	}
	before := w.fence[l.key]
	l.left, l.yields = w.forgotChange(l), l.c.mustYield()
	overlaps := false // with the tenure of that fence, which by then has been excused

	others := w.leases[l.key][:0]
	for _, o := range w.leases[l.key] {
		if !o.believed() {
			continue
		}
		others = append(others, o)
		w.overlap(o, l)
		overlaps = overlaps || o.fence == before
	}
	if l.fence <= before {
		kept, forgot, _ := w.support(l)
		switch {
		case overlaps:
			w.excuse(fenceOverlaps, l)
		case l.wk.adopts != nil && !l.enough(kept|forgot):
			w.excuse(fenceByHand, l)
		case l.unseen():
			w.excuse(fenceUnseen, l)
		case slices.ContainsFunc(w.tenures[l.key], func(o *simLease) bool { return o.fence >= l.fence && l.leftBy(o) }):
			w.excuse(formerEmptied, l)
		case w.change != nil && w.change.skipped && slices.ContainsFunc(w.tenures[l.key], func(o *simLease) bool { return o.fence >= l.fence && o.c.role != l.c.role }):
			w.excuse(listsUnseen, l) // nothing carries fences from one list to the other
		case (w.anyMedian() || w.change != nil && w.change.behind) && w.lostData:
			w.excuse(fenceStepped, l)
		default:
			w.fail("client %d: fence %d of %s is not larger than %d, which was handed out before", l.c.id, l.fence, l.token, before)
		}
	}
	w.checkStayed(l)
	w.fence[l.key] = max(before, l.fence)
	w.leases[l.key] = append(others, l)
	w.tenures[l.key] = append(w.tenures[l.key], l)
	w.takenBefore(l)
	if l.interrupted {
		w.mustLearn(l)
	}
	w.checkSupport(l, "got")
}

// checkStayed checks that nobody has a name that is to stay taken after a tenure, unless a node has
// forgotten that, or somebody has taken it away.
func (w *world) checkStayed(l *simLease) {
	for _, o := range w.tenures[l.key] {
		// Clocks run at rates of their own.
		end := o.begunAt + o.minHold*98/100 - 2*time.Millisecond
		if o.minHold == 0 || w.now >= end || o.interrupted || o.never || o.revoked || o.c.unseenAt != 0 ||
			w.stepped != 0 || max(w.nudgedAt, w.handAt[l.key]) >= o.begunAt {
			continue
		}
		forgot := slices.ContainsFunc(w.nodes, func(n *simNode) bool { return n.lifeAt >= o.begunAt })
		if !forgot && !slices.Contains(slices.Collect(maps.Values(w.formers)), o.token) {
			w.fail("client %d got %q with %s, which is to stay taken for %v more after %s of client %d", l.c.id, w.names[l.key], l.token, end-w.now, o.token, o.c.id)
		}
	}
}

// overlap judges two that believe at the same time: excused is the one that had lost votes
// by hand, or was stopped unseen.
func (w *world) overlap(o, l *simLease) {
	interrupts := func(l *simLease, e excuse) {
		if l.interrupted {
			return
		}
		w.excuse(e, l)
		l.interrupted, l.interruptedAt = true, l.c.Now()
	}
	mine, lapsed, lost := w.support(l)
	if l.leftBy(o) { // neither will ever hear of the other
		w.excuse(formerEmptied, l)
		return
	}
	if w.isUnseen(o, l) {
		w.excuse(listsUnseen, l)
		return
	}
	switch {
	case l.unaware() && !l.enough(mine): // its votes are older than it knows
		interrupts(l, wonUnseen)
		l.never = true
		return
	case !l.enough(mine|lapsed) && l.enough(mine|lapsed|lost) && !l.enough(w.untouched(l)):
		interrupts(l, wonByHand)
		return
	}
	kept, forgot, spoilt := w.support(o)
	if w.descends(l.token, o.token) { // what the heir has says nothing of what o was promised
		broken := w.brokenBy(o, l)
		kept, spoilt = kept&^broken, spoilt|broken
	}
	clean := (kept | forgot) &^ w.late(o, l)
	switch {
	case o.unaware():
		interrupts(o, heldUnseen)
	case !o.enough(clean) && o.enough(clean|spoilt):
		interrupts(o, heldByHand)
	default:
		w.fail("two holders: client %d got %q with %s while client %d holds it with %s until %v from now (of %v and %v; kept by %b, forgotten by %b, spoilt on %b)",
			l.c.id, w.names[l.key], l.token, o.c.id, o.token, o.until.Sub(o.c.Now()), l.lists, o.lists, kept, forgot, spoilt)
	}
	w.mustLearn(o)
}

// untouched counts the nodes that have let nobody in since they were given to a lease that is
// won now: its key is there, for how long ever, or was forgotten.
func (w *world) untouched(l *simLease) (nodes nodeSet) {
	for _, n := range w.nodes {
		_, forgot, _ := n.keeps(l, w.now)
		if forgot || n.key(l.key) == l.token && !n.data.keys[l.key].restored {
			nodes.add(n.id)
		}
	}
	return nodes
}

// unbroken counts the nodes that have kept a lease ever since it was won. If a quorum has, there is
// nothing that its holder could learn: it believed too long, and has renewed before that mattered.
func (w *world) unbroken(l *simLease) (nodes nodeSet) {
	for _, n := range w.nodes {
		if k := n.data.keys[l.key]; n.key(l.key) == l.token && !k.restored && k.set <= l.wonAt {
			nodes.add(n.id)
		}
	}
	return nodes
}

// brokenBy counts the nodes that keep the name for an heir, but broke their promise to the
// lease itself: their clocks were stepped, so the heir was told too little. It must have waited
// for as long as it was told.
func (w *world) brokenBy(o, heir *simLease) (nodes nodeSet) {
	end := w.now + o.c.clock.until(time.Duration(o.until)+o.grace())
	for _, n := range w.nodes {
		kept, _, _ := n.keeps(o, end)
		broken := func(p promise) bool { return p.token == o.token && p.end >= end && !n.shows(o, &p) }
		if told, is := n.swapped[heir.token]; is && told <= w.now && kept && slices.ContainsFunc(n.spoilt, broken) {
			nodes.add(n.id)
		}
	}
	return nodes
}

// late counts the nodes that keep a lease only since they have forgotten another one, or kept it
// only then and have forgotten it as well: no vote of them counts so soon.
func (w *world) late(o, l *simLease) (nodes nodeSet) {
	for _, n := range w.nodes {
		kept, lost, _ := n.keeps(o, w.now)
		_, forgot, _ := n.keeps(l, w.now)
		if forgot && (kept || lost && n.forgotAt(o) > n.forgotAt(l)) {
			nodes.add(n.id)
		}
	}
	return nodes
}

// anyMedian reports whether so many nodes' clocks were stepped that the median of a
// quorum's may be one of theirs.
func (w *world) anyMedian() bool { return w.stepped.len() > (w.quorum-1)/2 }

// renewed checks a new end of a tenure.
func (w *world) renewed(l *simLease, now, until clock.Instant) {
	w.stats.renewals++
	if now >= l.until {
		w.fail("client %d: %s was lost at %d, and is revived at %d until %d", l.c.id, l.token, l.until, now, until)
	}
	if l.over {
		w.fail("client %d: %s is over, and is renewed", l.c.id, l.token)
	}
	l.until = until
	if l.interrupted && until > l.interruptedAt.Add(l.ttl) {
		if e, blind := l.blinded(); blind {
			w.excuse(e, l)
		} else if !l.never || !l.enough(w.unbroken(l)) {
			w.fail("client %d never learned that %s was interrupted %v ago: it is held for %v more", l.c.id, l.token, now.Sub(l.interruptedAt), until.Sub(now))
		}
	}
	w.checkSupport(l, "renewed")
}

func (w *world) checkSupport(l *simLease, what string) {
	if l.unaware() {
		return
	}
	kept, forgot, spoilt := w.support(l)
	if !l.enough(kept | forgot | spoilt) {
		w.fail("client %d %s %s until %v from now, but only nodes %b keep it for so long (%b have forgotten, %b were spoilt), of %v",
			l.c.id, what, l.token, l.until.Sub(l.c.Now()), kept, forgot, spoilt, l.lists)
	}
}

// checkKept checks, after a node has done something, that what is believed is still
// kept.
func (w *world) checkKept() {
	for k := range w.names {
		for _, l := range w.leases[k] {
			if l.believed() {
				w.checkSupport(l, "believes in")
			}
		}
	}
}

// mustLearn checks that a holder who was interrupted learns it within a renewal
// interval and a node timeout, if nothing else is in its way, such as a connection that
// broke: answers are slow now and then without a fault. It was told of the rest by the
// deadline in any case.
func (w *world) mustLearn(l *simLease) {
	if l.unseen() {
		return
	}
	c, from := l.c, w.now
	t := c.core.tenures.get(l.id)
	if t == nil {
		return
	}
	w.after(t.terms.RenewEvery*101/100+2*w.timeout, func() {
		for _, a := range c.actors {
			if a.brokeAt >= from-w.maxTTL {
				return
			}
		}
		if !l.believed() || c.dead || w.faults.latest >= from-w.maxTTL {
			return
		}
		if e, blind := l.blinded(); blind {
			w.excuse(e, l)
			return
		}
		w.fail("client %d has not learned within a renewal interval that %s was interrupted, although nothing else is wrong", c.id, l.token)
	})
}

func (w *world) ended(l *simLease, why Reason) {
	switch why {
	case ReasonReleased:
	case ReasonHandedOver:
		w.stats.handOvers++
		l.minHold = 0 // the one that adopts it has none
		w.leftTokens[l.token] = leftHandle
	case ReasonExpired:
		w.stats.lost["expired"]++
	case ReasonTaken:
		w.stats.lost["taken"]++
	case ReasonRevoked:
		w.stats.lost["revoked"]++
	case ReasonPaused:
		w.stats.lost["paused"]++
		if !l.unseen() && w.now > w.ranAt+2*w.maxTTL {
			w.fail("client %d: the clocks of nodes end %s, which were set by nothing that matters", l.c.id, l.token)
		}
	case ReasonMaxHold:
		w.stats.lost["max hold"]++
	default:
		w.stats.lost["closed"]++
	}
	l.over = true
	w.heldAt[l.key] = w.now
	if l.wk.lease == l && l.held.Err() != nil {
		wk := l.wk
		wk.c.after(wk.c.w.upTo(10*time.Millisecond), func() { wk.dropped(l) }) // it stops its work
	}
}

// released checks that a quorum does not have the key of a lease whose holder was told that the
// name is free.
func (w *world) released(l *simLease, r *Report) {
	if r != nil || l.minHold != 0 { // the keys of one that was not told to be left stay as well
		return
	}
	w.stats.freed++
	var kept nodeSet
	back := false
	for _, n := range w.nodes {
		if token, _ := node.CutLeft(n.key(l.key)); token == l.token { // nor one that was left
			kept.add(n.id)
			back = back || n.setBack
		}
	}
	if l.c.isFree(kept) {
		return
	}
	why, excused := w.leftTokens[l.token]
	if !excused && back {
		why, excused = leftBack, true
	}
	if !excused {
		w.fail("client %d was told that %s is given back, and nodes %b keep it", l.c.id, l.token, kept)
	}
	w.excuse(why, l)
}
