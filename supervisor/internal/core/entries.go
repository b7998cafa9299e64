package core

import (
	"maps"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// In this file clients that use different nodes keep out of each other's way, as far as they see each
// other. An entry is a lease on asking: as long as a client believes in a vote, its entry on that node
// is alive. Of two clients whose lists do not meet, the one that came later acquires nothing. See
// invariant 27 of package supervisor.

// An entryAt is what is known of the entries on one node.
type entryAt struct {
	until  clock.Instant // until when ours surely counts; 0 if it was not left, Never if the node keeps none
	text   string        // of ours, as it was last sent
	since  time.Duration // since when ours counts, by the node's TIME; 0 if that is not known
	unread clock.Instant // ours is under way to where it does not count: an election waits until then to read the others; 0 if not
	others []other
	copied map[string]clock.Instant // until when entries count that were copied from other nodes
}

// An other is an entry of other clients on one node.
type other struct {
	text        string // without what their leases rest on
	entry       node.Entry
	since       time.Duration // since when it counts, by the node's TIME
	first, last time.Duration // until when it counted, as first and last reported
	until       clock.Instant // until when it counts, by our clock
}

// relayed is the ID of the commands that copy entries of others. Those that leave our own have the
// instant at which they were sent.
const relayed = 1<<64 - 1

// onEntries reads the entries of a node.
func (c *Core) onEntries(now clock.Instant, i int, r *node.Reply) {
	p := &c.nodes[i]
	e := &p.entry
	sent := clock.Instant(r.ID)
	e.until = max(e.until, sent.Add(c.settings.signedFor()-c.settings.DriftOf(c.settings.MaxTTL)))
	was := e.others
	e.others = nil
	ours := time.Duration(-1)
	for _, f := range node.Fingerprints(r.Value) {
		text := f.Text
		var entry node.Entry
		if text != e.text { // as all clients write it while nothing is changed: that is not parsed
			var ok bool
			if entry, ok = node.ParseEntry(text); !ok {
				continue
			}
			entry.Modes = 0
			text = entry.String()
		}
		if text == e.text {
			if ours < 0 || f.Since < ours {
				ours = f.Since
			}
			continue
		}
		x := other{
			text: text, entry: entry, since: f.Since, first: f.Until, last: f.Until,
			until: now.Add(f.Until - p.state.Time),
		}
		for k := range was {
			if was[k].text == text {
				x.first = was[k].first
			}
		}
		e.others = append(e.others, x)
	}
	if ours >= 0 {
		e.since = ours
	}
}

// ageOf returns how long our entry on a node has counted already, if it is about to get another text
// because more nodes were met: others must not take it for a younger one.
func (c *Core) ageOf(now clock.Instant, i int) time.Duration {
	p := &c.nodes[i]
	e := &p.entry
	if e.text == "" || e.text == c.text || e.since == 0 || now > e.until {
		return 0
	}
	return max(0, p.state.Time+now.Sub(p.state.TimeBack)-e.since)
}

// A reader says when elections go on that have waited for the entries of nodes that were just enrolled,
// or on which ours has run out.
// They would be won before it is known that they must not be, if another node answers first.
type reader struct{ alarm }

// wake decides elections that have waited.
func (r *reader) wake(c *Core, now clock.Instant) {
	if c.waitsToRead(now) {
		return
	}
	for _, l := range slices.Clone(c.waited) {
		if l.waitList == nil || l.attempt == nil {
			continue // its waiter wanted any of several names, and has just got another one
		}
		if t := l.attempt; t.phase == phaseElecting || t.phase == phaseRaising {
			c.decide(now, t)
		}
	}
}

// patienceToRead returns for how long an election waits for the entries of a node: they were asked for
// before its vote. A node that hangs must not keep it.
func (c *Core) patienceToRead(i int) time.Duration {
	return max(c.settings.NodeTimeout/8, 2*c.nodes[i].state.Latency)
}

// wasRead records that nothing more is to be heard for now of the entries on a node that was just
// enrolled.
func (c *Core) wasRead(now clock.Instant, i int) {
	c.nodes[i].entry.unread = 0
	if c.reader.isSet() {
		c.alarms.clear(&c.reader)
		c.alarms.set(&c.reader, now)
	}
}

// waitsToRead reports whether the entries of a node are still to be read that was just enrolled.
func (c *Core) waitsToRead(now clock.Instant) bool {
	var until clock.Instant
	for i := range c.nodes {
		until = max(until, c.nodes[i].entry.unread)
	}
	if until > now && !c.reader.isSet() {
		c.alarms.set(&c.reader, until)
	}
	return until > now
}

// outlives reports whether a vote of node i may be believed in when our entry there counts no more.
// Such a vote does not count.
func (c *Core) outlives(i int, until clock.Instant) bool { return until > c.nodes[i].entry.until }

// signBefore leaves our entry anew before a node is asked for a vote, if that would not count: this
// process was stopped for a while.
func (c *Core) signBefore(now clock.Instant, i int, until clock.Instant) {
	if e := &c.nodes[i].entry; e.until != 0 && c.outlives(i, until) {
		c.sign(now, i, false)
	}
}

// giveWay finds out whether older clients use other nodes. Then nothing is acquired until they are
// gone, or the lists agree. What is held is not shortened.
func (c *Core) giveWay(now clock.Instant) {
	was := c.newcomer
	c.newcomer = false
	for i := range c.nodes {
		p := &c.nodes[i]
		p.disagreement.Older = false
		for k := range p.entry.others {
			x := &p.entry.others[k]
			if now >= x.until || !c.givesWayTo(now, i, x) {
				continue
			}
			unknown, _ := c.compare(&x.entry)
			p.disagreement = Disagreement{Node: i, Nodes: x.entry.Present.Nodes, Unknown: unknown, Older: true}
			if !c.newcomer && !was {
				c.warn(Warning{Kind: WarnNewcomer, Node: i, Count: x.entry.Present.Nodes, Unknown: unknown})
			}
			c.newcomer = true
		}
	}
	if c.newcomer && !was {
		c.failAll(now, ReasonNewcomer)
	}
}

// givesWayTo reports whether this client is the younger one of two whose lists do not meet, by the word
// of one node. Of two that have come at once it is the one whose text is the larger.
func (c *Core) givesWayTo(now clock.Instant, i int, x *other) bool {
	e := &c.nodes[i].entry
	if e.since != 0 && (x.since > e.since || x.since == e.since && x.text > e.text) {
		return false
	}
	apart, doubtful := c.isApart(now, &x.entry, c.nodes[i].state.Time+now.Sub(c.nodes[i].state.TimeBack)-x.since)
	return apart && (!doubtful || c.signsAgain(x)) && !c.isShutOut(&x.entry)
}

// signsAgain reports whether clients still sign for an entry when all have had the time to enrol again
// since it was found.
func (c *Core) signsAgain(x *other) bool { return x.last-x.first >= 3*c.settings.signEvery()/2 }

// isShutOut reports whether the stages of the nodes let no vote of other clients count any more, as they
// were given the former list alone.
func (c *Core) isShutOut(theirs *node.Entry) bool {
	if theirs.Former.Nodes != 0 {
		return false
	}
	leaves := func(ch *node.Change) bool {
		return ch.Stage >= node.StageClosed && c.outside(theirs.Present, ch) == ReasonNodesLeft
	}
	for i := range c.nodes {
		if leaves(&c.nodes[i].state.Change) {
			return true
		}
	}
	return leaves(&c.changing.seen)
}

// isApart reports whether none of our lists certainly meets one of theirs, whose entry has so counted for
// some time. It is doubtful if the lists of some two would meet had nodes not lost their identities
// since: fewer than a quorum, or any of those that have begun their present lives a short time ago.
func (c *Core) isApart(now clock.Instant, theirs *node.Entry, counted time.Duration) (apart, doubtful bool) {
	ours := []node.Electorate{c.describeGrown(c.present())}
	if c.toldKind == modeBoth {
		ours = append(ours, c.describeGrown(c.former()))
	}
	for _, our := range ours {
		for _, their := range []*node.Electorate{&theirs.Former, &theirs.Present} {
			if their.Nodes == 0 {
				continue
			}
			common := mostCommon(our, *their)
			need := our.Nodes + their.Nodes - QuorumOf(our.Nodes) - QuorumOf(their.Nodes) + 1
			if common >= need {
				return false, false
			}
			few := need-common <= min(our.Nodes-QuorumOf(our.Nodes), c.younger(now, our, *their, counted))
			doubtful = doubtful || need <= min(our.Nodes, their.Nodes) && (few || c.haveBegun(now))
		}
	}
	return true, doubtful
}

// younger returns how many nodes of ours, that others do not name, have begun their present lives later
// than the others have left their entry, or not long before: so they may be nodes that the others name,
// which have lost their identities since.
func (c *Core) younger(now clock.Instant, ours, theirs node.Electorate, counted time.Duration) (n int) {
	for i := range c.nodes {
		s := &c.nodes[i].state
		if slices.Contains(ours.Identities, s.Identity) && !slices.Contains(theirs.Identities, s.Identity) &&
			s.Age+now.Sub(s.LifeAt) < counted+c.settings.signedFor() {
			n++
		}
	}
	return n
}

// haveBegun reports whether one of our nodes has begun its present life so lately that entries may count
// which were left before all clients enrolled there again.
func (c *Core) haveBegun(now clock.Instant) bool {
	for i := range c.nodes {
		s := &c.nodes[i].state
		if s.Identity != "" && s.Age+now.Sub(s.LifeAt) < 2*c.settings.signedFor() {
			return true
		}
	}
	return false
}

// mostCommon returns how many nodes two electorates have in common at most, as far as they tell their
// identities. Two of them meet if a quorum of each, of nodes that are not all in common, must share one.
func mostCommon(a, b node.Electorate) int {
	onlyB, _ := mayBe(a, b)
	both := len(b.Identities) - onlyB
	onlyA := len(a.Identities) - both
	unmetA, unmetB := a.Nodes-len(a.Identities), b.Nodes-len(b.Identities)
	fromA, fromB := min(onlyA, unmetB), min(onlyB, unmetA)
	return both + fromA + fromB + min(unmetA-fromB, unmetB-fromA)
}

// relay copies the entries of clients that were given one list from a node of that to the nodes of the
// other list, for what is left of their lives. So clients see each other that have no node in common,
// as long as one process was given both lists.
func (c *Core) relay(now clock.Instant, i int) {
	if c.toldKind != modeBoth || c.closing {
		return
	}
	every := c.settings.signEvery()
	former, present := c.former().nodes, c.present().nodes
	from := &c.nodes[i]
	for k := range from.entry.others {
		x := &from.entry.others[k]
		left := x.until.Sub(now).Truncate(time.Millisecond)
		if x.entry.Former.Nodes != 0 || left <= 0 {
			continue
		}
		// A copy must not be over before the original, or a newcomer sees nobody for a while. As it lives
		// on for a little longer it must not be copied back, or it would live for ever. If it is not
		// certain which is the copy, it is copied only if that makes much of a difference.
		longer, spare := every/4, time.Duration(0)
		home := c.homeOf(&x.entry.Present)
		if home == 0 {
			longer, spare = 0, every
		}
		for j := range c.nodes {
			p := &c.nodes[j]
			across := former.has(i) && present.has(j) || present.has(i) && former.has(j)
			if i == j || !across || home.has(j) || !p.state.Enrolled || !p.state.Guarded || p.entry.until == 0 {
				continue
			}
			if p.entry.countsUntil(x.text).Add(spare) >= x.until {
				continue
			}
			if p.entry.copied == nil {
				p.entry.copied = make(map[string]clock.Instant)
			}
			maps.DeleteFunc(p.entry.copied, func(_ string, until clock.Instant) bool { return until <= now })
			p.entry.copied[x.text] = x.until.Add(longer)
			c.send(j, node.Command{
				ID: relayed, Op: node.Sign, Token: x.text, TTL: left + longer, Age: c.ageAt(now, home|1<<i, x.text),
				By: now.Add(every / 2),
			})
		}
	}
}

// homeOf returns the nodes on which clients of a list leave their entries themselves, or none if it is not
// certain that the list is one of ours.
func (c *Core) homeOf(list *node.Electorate) nodeSet {
	is := func(e *electorate) bool {
		unknown, same := mayBe(c.describe(e), *list)
		return same && unknown == 0
	}
	switch former, present := is(c.former()), is(c.present()); {
	case former && !present:
		return c.former().nodes
	case present && !former:
		return c.present().nodes
	}
	return 0
}

// ageAt returns for how long an entry has counted on that one of some nodes on which it is the oldest.
func (c *Core) ageAt(now clock.Instant, nodes nodeSet, text string) (age time.Duration) {
	for i := range c.nodes {
		s := &c.nodes[i].state
		for k := range c.nodes[i].entry.others {
			if x := &c.nodes[i].entry.others[k]; nodes.has(i) && x.text == text && now < x.until {
				age = max(age, s.Time+now.Sub(s.TimeBack)-x.since)
			}
		}
	}
	return age
}

// countsUntil returns until when an entry counts on a node, as far as it is known; 0 if it is not there.
func (e *entryAt) countsUntil(text string) (until clock.Instant) {
	for k := range e.others {
		if e.others[k].text == text {
			until = e.others[k].until
		}
	}
	return max(until, e.copied[text])
}
