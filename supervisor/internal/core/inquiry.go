package core

import (
	"maps"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// Verdict says what a node answered about a name.
type Verdict uint8

const (
	VerdictSilent      Verdict = iota // it has not answered yet
	VerdictGranted                    // it gave its vote
	VerdictFree                       // no client has the key
	VerdictHeld                       // another client has the key
	VerdictGuarded                    // it was not asked: it is young
	VerdictUnreachable                // it could not be asked, or its answer was an error
	VerdictNotAsked                   // it could have been, but too few others could
)

// An Answer is one node's answer about one name.
type Answer struct {
	Node    int // set for a Report
	Verdict Verdict
	Value   string        // what the key holds, if Verdict is Held
	Fence   uint64        // what its register has
	Holds   uint64        // the fence of the lease that has it, if its value has one
	Left    time.Duration // how long the key lives at most from at on; 0 if not known, -1 for ever
	At      clock.Instant
	Waiting int // how many stand in its queue, if that was asked
	Err     error
}

// answers has those of all nodes, by index.
type answers []Answer

// answerTo reads the reply to a grant, a raise or an inspection.
func answerTo(now clock.Instant, r node.Reply) Answer {
	a := Answer{Value: r.Value, Fence: r.Fence, Holds: r.Holds, Left: r.Left, At: now, Err: r.Err}
	if r.Op == node.Inspect {
		a.Waiting = r.Ahead
	}
	if r.Left == 0 && r.Value != "" && (r.Op == node.Enqueue || r.Op == node.Claim) {
		a.Left = lapse // less than a millisecond, which the node calls 0: the waiter asks again then
	}
	switch {
	case r.Status == node.Unknown || r.Status == node.Unsent:
		a.Verdict = VerdictUnreachable
	case r.Op == node.Enqueue && (r.Status == node.OK || unheld(r)):
		a.Verdict = VerdictFree // no client has it, except the one that asks
	case r.Status == node.OK && r.Op != node.Inspect:
		a.Verdict = VerdictGranted
	case r.Status == node.Absent:
		a.Verdict = VerdictFree
	default:
		a.Verdict = VerdictHeld
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

// free returns when a quorum of nodes will be free unless the holder renews, or Never if that is
// not known.
func (as answers) free(now clock.Instant, m *mode) clock.Instant {
	var at [MaxNodes]clock.Instant
	for i, a := range as {
		switch {
		case a.Verdict == VerdictFree || a.Verdict == VerdictGranted:
			at[i] = now
		case (a.Verdict == VerdictHeld || a.Verdict == VerdictGuarded) && a.Left > 0:
			at[i] = a.At.Add(a.Left)
		default:
			at[i] = clock.Never
		}
	}
	return byQuorum(m, at[:len(as)])
}

// held reports whether a quorum of nodes, of some electorate, keeps the same token, and not for a
// waiter.
func (as answers) held(m *mode) bool {
	for i := range as {
		if as[i].Verdict != VerdictHeld || node.IsReservation(as[i].Value) {
			continue
		}
		token, _ := node.CutLeft(as[i].Value)
		same := nodeSet(1 << i)
		for k, a := range as[i+1:] {
			if other, _ := node.CutLeft(a.Value); a.Verdict == VerdictHeld && other == token {
				same.add(i + 1 + k)
			}
		}
		if m.reachedByOne(same) {
			return true
		}
	}
	return false
}

// An inquiry asks some nodes which client holds a name.
type inquiry struct {
	id         uint64
	key        string
	answers    answers
	asked      nodeSet
	unanswered nodeSet

	// One of these gets the answers:
	call   Call    // of Inspect; 0 if it is one of the others
	waiter *waiter // of TryAcquire, if others of this process are before it
	line   *line   // whose first waiter was refused by these nodes
	choice *choice // of AcquireAny, which looks at all its names
}

// inquire asks the given nodes, by an Inspect with the Name, Track and Brief of a command. It ends
// with their last answer, which an actor gives in bounded time even for a node that hangs.
func (c *Core) inquire(now clock.Instant, cmd node.Command, nodes nodeSet) *inquiry {
	q := &inquiry{id: c.newID(noSlot), key: cmd.Name, answers: make(answers, len(c.nodes)), asked: nodes, unanswered: nodes}
	c.inquiries[q.id] = q
	cmd.ID, cmd.Op, cmd.By = q.id, node.Inspect, now.Add(c.terms.Window)
	for i := range c.nodes {
		if nodes.has(i) {
			c.send(i, cmd)
		}
	}
	return q
}

// inquiryIDs returns the IDs of all that are under way, in order.
func (c *Core) inquiryIDs() []uint64 { return slices.Sorted(maps.Keys(c.inquiries)) }

// onInspect handles one node's answer to an inquiry.
func (c *Core) onInspect(now clock.Instant, q *inquiry, i int, r node.Reply) {
	if q.choice != nil {
		c.onLookAround(now, q, i, r)
		return
	}
	q.answers[i] = answerTo(now, r)
	if q.unanswered.del(i); q.unanswered != 0 {
		return
	}
	if l := q.line; l != nil {
		delete(c.inquiries, q.id)
		l.inquiry = nil
		l.answers.merge(q.answers, q.asked)
		c.pause(now, l)
		return
	}
	c.closeInquiry(q, ReasonNone)
}

// Inspect asks every node about a name. EffectInspected answers it, with ReasonClosed if the core
// is closed before. If track is set the nodes notify of the next change.
func (c *Core) Inspect(now clock.Instant, key string, track bool, call Call) {
	if c.closing {
		c.tellInspected(call, &Report{Key: key, Reason: ReasonClosed})
		return
	}
	c.inquire(now, node.Command{Name: key, Track: track}, c.all).call = call
}

func (c *Core) tellInspected(call Call, r *Report) {
	c.effects = append(c.effects, Effect{Kind: EffectInspected, Call: call, Report: r})
}

// closeInquiry ends an inquiry: with all its answers, or early if the core is closed or
// its caller has given up.
func (c *Core) closeInquiry(q *inquiry, why Reason) {
	delete(c.inquiries, q.id)
	r := c.report(q.key, why, q.answers)
	switch {
	case q.call != 0:
		c.tellInspected(q.call, r)
	case q.waiter != nil:
		if why == ReasonNone {
			r.Reason = ReasonHeld
		}
		c.fail(q.waiter.Call, r)
	}
}

// report returns a report with the nodes' answers and the reason.
func (c *Core) report(key string, why Reason, as answers) *Report {
	r := &Report{Key: key, Reason: why, Answers: slices.Clone(as), Twins: c.twins()}
	if why == ReasonNewcomer {
		r.Disagreement = c.disagreement()
	}
	for i := range r.Answers {
		r.Answers[i].Node = i
	}
	if m := *c.told(); m.isDouble() || c.all != all(len(c.nodes)) {
		r.mode = &m
		r.Answers = slices.DeleteFunc(r.Answers, func(a Answer) bool { return !c.all.has(a.Node) })
	}
	return r
}

// ownAnswers appends what the nodes said about a lease that this process holds.
func (c *Core) ownAnswers(as answers, t *tenure) answers {
	for i, v := range t.votes.of {
		var a Answer
		switch {
		case t.votes.suspect().has(i):
			a.Verdict = VerdictUnreachable
		case v.until != 0:
			a = Answer{Verdict: VerdictHeld, Value: t.token}
		}
		as = append(as, a)
	}
	return as
}
