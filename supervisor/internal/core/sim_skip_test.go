package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// In this file the rollout of both lists is skipped: processes are given the former list alone, or the
// present list alone, at the same time, and no node is told of a change. Nothing but entries keeps them
// apart: see invariant 27 of package supervisor. What cannot be seen is excused: see mustYield.

// simSkippedOf are lists that do not meet, most of them with nodes in common.
var simSkippedOf = []struct{ n, former, from, present int }{
	{5, 3, 0, 5}, {5, 5, 0, 3}, {3, 1, 0, 3}, {3, 3, 0, 1}, {7, 3, 2, 5}, {5, 3, 2, 3}, {6, 5, 3, 3}, {7, 3, 2, 5},
	{6, 3, 3, 3}, {4, 1, 1, 3}, {8, 3, 3, 5},
}

// A simRead is what a node has told of the entries on it.
type simRead struct {
	at     time.Duration // when it was read, in true time
	text   string        // of the client's own entry
	all    []node.Fingerprint
	heard  time.Duration // when the client heard it
	before *simRead      // what it had heard before; nil if nothing in this life
}

// own returns the client's own entry.
func (r *simRead) own() node.Fingerprint {
	return r.all[slices.IndexFunc(r.all, func(f node.Fingerprint) bool { return withoutModes(f.Text) == r.text })]
}

// withoutModes returns the text of an entry without what leases rest on.
func withoutModes(text string) string {
	e, _ := node.ParseEntry(text)
	e.Modes = 0
	return e.String()
}

// Clients with lists that do not meet, most of which have nodes in common: at any instant one of them
// at most believes that it holds a name. Two are excused if neither was told of the other before it won,
// or had to wait to be told; and so are their fences, which nothing carries from one list to the other.
func TestSimulationOfSkippedRollouts(t *testing.T) { playChanges(t, (*world).newSkip) }

// newSkip has a world be one in which the first rollout is skipped.
func (w *world) newSkip() {
	w.newChange()
	w.queue = nil
	lists := simSkippedOf[w.rand.IntN(len(simSkippedOf))]
	x, f := w.change, &w.faults
	*x = simChange{former: listOf(0, lists.former), present: listOf(lists.from, lists.present), skipped: true, last: givenPresent}
	if w.chance(0.3) {
		x.last = givenFormer
	}
	// No node loses its data, or its life: entries may be forgotten then.
	f.kinds = slices.DeleteFunc(f.kinds, func(k faultKind) bool { return k.loses() || k == crashFull || k == down })
	f.atVote, f.atWin, f.atHeal, f.atOverdue = 0, 0, 0, 0
	f.end = w.between(14, 22)
	w.nodes = nil
	for i := range lists.n {
		w.nodes = append(w.nodes, newSimNode(w, i))
	}
	w.quorum = x.former.quorum
	asks := x.former.nodes&x.present.nodes == 0 || w.chance(0.2)
	if asks {
		w.after(w.between(0, 0.5), w.startAsking)
	}
	w.after(w.between(1, 6), func() {
		x.phase = rollingBoth
		w.tell("CHANGE: the first rollout is skipped, from %b to %b", x.former.nodes, x.present.nodes)
		w.mistake()
	})
	w.after(f.end, func() { x.phase = changed })
}

// startAsking starts a process that was given both lists, and only asks: it begins no change.
func (w *world) startAsking() {
	x := w.change
	x.asks = true
	newSimClient(w, len(w.clients), true)
	x.asks = false
}

// mistake has somebody be given one list or the other, or be stopped for as long as its entries live.
func (w *world) mistake() {
	x := w.change
	if w.calm {
		return
	}
	if c := w.anyClient(); w.chance(0.4) {
		d := time.Duration((0.8 + 0.6*w.rand.Float64()) * float64(c.cfg.signedFor()))
		w.affects(d)
		w.tell("CHANGE: client %d is stopped for %v", c.id, d)
		c.pause(d, false)
	} else {
		if !w.mayStart() || w.chance(0.5) {
			if c.asks {
				w.after(w.between(0, 0.5), w.startAsking)
			} else {
				c.kill()
			}
		}
		if w.mayStart() {
			w.start()
		}
	}
	w.after(w.between(0.2, 2), func() {
		if x.phase == rollingBoth {
			w.mistake()
		}
	})
}

// giveOne decides which list a new process is given.
func (x *simChange) giveOne(w *world) simRole {
	switch {
	case x.asks:
		return givenBoth
	case x.phase == beforeChange:
		return givenFormer
	case x.phase == changed || w.calm:
		return x.last
	}
	return []simRole{givenFormer, givenPresent}[w.rand.IntN(2)]
}

// reads notes what a node tells of the entries on it.
func (a *simActor) reads(p *simPipe, cmd *node.Command, all string) {
	if x := a.c.w.change; x == nil || !x.skipped || cmd.ID == relayed {
		return
	}
	p.read = &simRead{at: a.c.w.now, text: withoutModes(cmd.Token), all: node.Fingerprints(all)}
}

// wasTold notes what the client has heard of that.
func (a *simActor) wasTold(r *simRead) {
	heard := map[string]time.Duration{}
	for _, f := range r.all {
		at, before := a.heard[f.Text]
		// The copies of one that is about to run out are over before it is known that it was left anew.
		if !before || f.Until < a.n.clock.at(r.at)+3*a.c.cfg.signEvery()/2 {
			at = a.c.w.now
		}
		heard[f.Text] = at
	}
	r.heard, r.before = a.c.w.now, a.read
	if a.read != nil && a.read.heard < r.heard {
		a.read.before = nil
	}
	a.read, a.heard = r, heard
}

// list returns the list of a client that was given one.
func (c *simClient) list() electorate {
	if c.role == givenFormer {
		return c.w.change.former
	}
	return c.w.change.present
}

// isApart reports whether another entry is certainly of clients whose list does not meet a client's: by
// its length, or as all identities are known and hardly any is the same.
func (c *simClient) isApart(f *node.Fingerprint, own string) bool {
	their, ok := node.ParseEntry(f.Text)
	if !ok || their.Former.Nodes != 0 {
		return false
	}
	our := c.list()
	n := our.nodes.len()
	need := n + their.Present.Nodes - our.quorum - QuorumOf(their.Present.Nodes) + 1
	if need > min(n, their.Present.Nodes) {
		return true
	}
	mine, _ := node.ParseEntry(own)
	common := 0
	for _, id := range mine.Present.Identities {
		if slices.Contains(their.Present.Identities, id) {
			common++
		}
	}
	for _, i := range c.members {
		if st := &c.actors[i].state; !st.Grown || st.Age+c.Now().Sub(st.LifeAt) < 3*c.cfg.signedFor() {
			return false // identities may have been lost
		}
	}
	return len(mine.Present.Identities) == n && len(their.Present.Identities) == their.Present.Nodes && need-common > n-our.quorum
}

// mustYield returns why a client must not acquire anything now, or "": a node has told it of older
// clients whose list does not meet its own; or it was asked for its entries a moment ago, and there are
// such; or a process that was given both lists has had the time to copy the entry of such clients.
// Everything else cannot be seen: a node that only one of two clients reaches, or that the younger one
// has not met yet.
func (c *simClient) mustYield() string {
	w := c.w
	if w.change == nil || !w.change.skipped || c.role == givenBoth {
		return ""
	}
	margin := c.cfg.signedFor()/50 + time.Millisecond // for rates
	for _, i := range c.members {
		a, n := c.actors[i], w.nodes[i]
		now := n.clock.now()
		older := func(r *simRead) string {
			own := r.own()
			for k := range r.all {
				f := &r.all[k]
				if (f.Since < own.Since || f.Since == own.Since && f.Text < own.Text) && now+margin < f.Until && c.isApart(f, r.text) {
					return f.Text
				}
			}
			return ""
		}
		r := a.read
		for r != nil && r.heard == w.now { // the vote that it lacked may have come first in the same batch
			r = r.before
		}
		if r != nil && now <= r.own().Until {
			if text := older(r); text != "" {
				return fmt.Sprintf("node %d has told of %s", i, text)
			}
			continue
		}
		if a.conn == nil || a.signedAt == 0 || w.now-a.signedAt >= w.timeout/8*98/100 {
			continue
		}
		text, space := "", n.data.space.Clone()
		will := &keyspace.Turn{Space: &space, Server: &stepper{}, Now: now}
		if a.read != nil && a.read.heard == w.now {
			text = older(a.read)
		} else if all, err := will.Sign(&simOwn, a.signed.Token, a.signed.TTL.Milliseconds(), a.signed.Age.Milliseconds(), ""); err == nil {
			text = older(&simRead{text: withoutModes(a.signed.Token), all: node.Fingerprints(all)}) // what it is about to tell
		}
		if text != "" {
			return fmt.Sprintf("node %d was just asked, and has %s", i, text)
		}
	}
	return c.mustYieldToCopies()
}

// mustYieldToCopies returns the same of entries that a process which was given both lists has copied.
func (c *simClient) mustYieldToCopies() string {
	w, x := c.w, c.w.change
	for _, b := range w.clients {
		if b.dead || !b.asks || b.pausedUntil != 0 {
			continue
		}
		every := b.cfg.signEvery()
		var broke time.Duration
		for _, a := range b.actors {
			broke = max(broke, a.brokeAt)
		}
		for _, from := range b.actors {
			if from.read == nil {
				continue
			}
			for k := range from.read.all {
				f := &from.read.all[k]
				at := from.heard[f.Text]
				copied := at + 2*every + 4*w.timeout
				if at <= broke || w.now < copied || f.Until < from.n.clock.now()+every*11/10 || !c.isApart(f, "") {
					continue
				}
				for _, i := range c.members {
					across := x.former.nodes.has(from.n.id) && x.present.nodes.has(i) || x.present.nodes.has(from.n.id) && x.former.nodes.has(i)
					r := c.actors[i].read
					if across && r != nil && w.nodes[i].clock.when(r.own().Since) > copied && w.nodes[i].clock.now() < r.own().Until {
						return fmt.Sprintf("node %d must have been told of %s", i, f.Text)
					}
				}
			}
		}
	}
	return ""
}

// isUnseen judges two that believe at the same time, and rest on lists that do not meet: it is excused
// if neither could know of the other when it won.
func (w *world) isUnseen(o, l *simLease) bool {
	if w.change == nil || !w.change.skipped || o.c.role == l.c.role {
		return false
	}
	for _, l := range []*simLease{o, l} {
		if l.yields != "" {
			w.fail("two holders of %q, with lists that do not meet: client %d got %s although %s; they are %s and %s", w.names[l.key], l.c.id, l.token, l.yields, o.token, l.token)
		}
	}
	return true
}
