package supervisor

import (
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// An answer is what one node said of one name.
type answer struct {
	Verdict Verdict
	Value   string        // what the key holds, where verdict is Held
	Fence   uint64        // the stored one
	Left    time.Duration // how long the key lives at most from at on; 0 if not known, -1 for ever
	At      clock.Instant
	Waiting int // how many stand in its queue, where that was asked
	Err     error
}

// answers are those of all nodes, by index.
type answers []answer

// answerTo reads the reply to a grant, a raise or an inspection.
func answerTo(now clock.Instant, r node.Reply) answer {
	a := answer{Value: r.Value, Fence: r.Fence, Left: r.Left, At: now, Err: r.Err}
	if r.Op == node.Inspect {
		a.Waiting = r.Ahead
	}
	switch {
	case r.Status == node.Unknown || r.Status == node.Unsent:
		a.Verdict = Unreachable
	case r.Op == node.Enqueue && (r.Status == node.OK || unheld(r)):
		a.Verdict = Free // but for the one that asks, nobody has it
	case r.Status == node.OK && r.Op != node.Inspect:
		a.Verdict = Granted
	case r.Status == node.Absent:
		a.Verdict = Free
	default:
		a.Verdict = Held
	}
	return a
}

// unheld reports whether a node that has a waiter in its queue neither keeps the key
// nor has reserved it: it is young, or has no room for a reservation.
func unheld(r node.Reply) bool { return r.Status == node.Other && r.Value == "" && r.Left == 0 }

// with returns the nodes with the given verdict.
func (as answers) with(v Verdict) (nodes nodeSet) {
	for i := range as {
		if as[i].Verdict == v {
			nodes.add(i)
		}
	}
	return nodes
}

// merge takes over the answers of some nodes.
func (as answers) merge(from answers, nodes nodeSet) {
	for i := range as {
		if nodes.has(i) {
			as[i] = from[i]
		}
	}
}

// free returns when a quorum of nodes will be free unless the holder renews, or
// Never if that is not known.
func (as answers) free(now clock.Instant, quorum int) clock.Instant {
	at := make([]clock.Instant, len(as))
	for i, a := range as {
		switch {
		case a.Verdict == Free || a.Verdict == Granted:
			at[i] = now
		case (a.Verdict == Held || a.Verdict == Guarded) && a.Left > 0:
			at[i] = a.At.Add(a.Left)
		default:
			at[i] = clock.Never
		}
	}
	slices.Sort(at)
	return at[quorum-1]
}

// held reports whether a quorum of nodes keeps the same value, and not for a waiter.
func (as answers) held(quorum int) bool {
	for i := range as {
		if as[i].Verdict != Held || isReservation(as[i].Value) {
			continue
		}
		same := 1
		for _, a := range as[i+1:] {
			if a.Verdict == Held && a.Value == as[i].Value {
				same++
			}
		}
		if same >= quorum {
			return true
		}
	}
	return false
}

// isReservation reports whether a node keeps a value for a waiter that has yet to
// claim it.
func isReservation(value string) bool { return strings.HasPrefix(value, reservation) }

// A look is a question to some nodes: who holds a name?
type inquiry struct {
	id         uint64
	key        string
	answers    answers
	unanswered nodeSet // nodes that have not answered
	done       func(now clock.Instant, k *inquiry)

	// Who gets the answers, unless the core itself does:
	asker  chan<- inspected // of Inspect
	waiter *waiter          // of TryAcquire, which others of this process are before
}

// look asks the given nodes. It ends with their last answer, which an actor gives
// in bounded time even for a node that hangs.
func (c *Core) inquire(now clock.Instant, key string, track bool, nodes nodeSet, done func(clock.Instant, *inquiry)) *inquiry {
	k := &inquiry{id: c.newID(noSlot), key: key, answers: make(answers, len(c.nodes)), unanswered: nodes, done: done}
	c.inquiries[k.id] = k
	for i := range c.nodes {
		if nodes.has(i) {
			c.send(i, node.Command{ID: k.id, Op: node.Inspect, Name: key, Track: track, By: now.Add(c.terms.Window)})
		}
	}
	return k
}

// seen takes in the answer of one node to a look.
func (c *Core) onInspect(now clock.Instant, k *inquiry, i int, r node.Reply) {
	k.answers[i] = answerTo(now, r)
	if k.unanswered.del(i); k.unanswered == 0 {
		delete(c.inquiries, k.id)
		k.done(now, k)
	}
}

// inspect answers with what every node says of a name.
func (c *Core) Inspect(now clock.Instant, key string, track bool, asker chan<- inspected) {
	if c.closing {
		c.effects = append(c.effects, Effect{Kind: EffectInspected, asker: asker, err: ErrClosed})
		return
	}
	k := c.inquire(now, key, track, all(len(c.nodes)), func(_ clock.Instant, k *inquiry) { c.closeInquiry(k, nil) })
	k.asker = asker
}

// shut ends a look: with all its answers, or early because of why.
func (c *Core) closeInquiry(k *inquiry, why error) {
	delete(c.inquiries, k.id)
	switch {
	case k.asker != nil:
		c.effects = append(c.effects, Effect{Kind: EffectInspected, asker: k.asker, answers: k.answers, err: why})
	case k.waiter != nil:
		e := &AcquireError{Name: k.key, Quorum: c.quorum, Nodes: c.named(k.answers), why: ErrHeld, cause: why}
		if why == ErrClosed {
			e.why, e.cause = ErrClosed, nil
		}
		c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: k.waiter, err: e})
	}
}

// named returns the answers as a caller sees them.
func (c *Core) named(as answers) []Answer {
	named := make([]Answer, len(as))
	for i, a := range as {
		named[i] = Answer{Node: c.nodes[i].label, Verdict: a.Verdict, Owner: ownerOf(a.Value), Left: a.Left, Err: a.Err}
	}
	return named
}

// ownAnswers returns what the nodes said of a lease that this process holds.
func (c *Core) ownAnswers(t *tenure) answers {
	as := make(answers, len(c.nodes))
	for i, v := range t.votes {
		switch {
		case t.suspect().has(i):
			as[i].Verdict = Unreachable
		case v.until != 0:
			as[i] = answer{Verdict: Held, Value: t.token}
		}
	}
	return as
}
