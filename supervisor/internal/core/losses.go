package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file says why a lease is lost, node by node. A vote keeps two small numbers for that: a
// fault, and which of the node's latest failures it is. A hundred thousand leases that are lost for
// the same reasons share one report.

// A Flaw says why a node does not keep a lease any more.
type Flaw struct {
	Node  int
	Err   error // the node's own, a Fault or an Overwritten
	Apart bool  // Err says why there was no connection
}

// Overwritten is the error of a node that keeps another value.
type Overwritten struct {
	Owner  string // of that value; "" if it does not say
	Forgot bool   // the node had lost its data before
}

// Error returns a text that says whose the value is.
func (o Overwritten) Error() string {
	text := "overwritten by another client"
	if o.Owner != "" {
		text = "overwritten by " + o.Owner
	}
	if o.Forgot {
		text = "it forgot its data (restarted or flushed), and was then " + text
	}
	return text
}

// Gained is the error of a node whose clock has gained so much on ours.
type Gained time.Duration

// Error returns a text with the time that the clock gained.
func (g Gained) Error() string { return "its clock gained " + time.Duration(g).String() + " on ours" }

// rounded returns about the same: a text that very many leases share is kept once.
func (g Gained) rounded() Gained {
	if d := time.Duration(g); d < time.Second {
		return Gained(d.Round(10 * time.Millisecond))
	}
	return Gained(time.Duration(g).Round(100 * time.Millisecond))
}

// failures has the latest errors of one node.
type failures struct {
	kept   []failure
	latest uint16 // its number: that of the next one is larger by one
	lack   lack
}

// A failure says why a node did not do what it was asked.
type failure struct {
	err   error
	apart bool // there was no connection
}

// A lack says what a node does not do at present for the leases that it should keep.
type lack struct {
	err error // why; nil if it does all
	at  clock.Instant
	op  node.Op
	id  uint64 // of the tenure
}

// heard records the outcome of a renewal or a heal. A node may refuse one command and not the
// other, or one lease and not the others. So a failure is shown until the same command succeeds, or
// the lease is renewed. If there was no connection, the node's State says so.
func (x *lack) heard(now clock.Instant, r node.Reply, apart bool) {
	switch {
	case apart:
		*x = lack{}
	case r.Err != nil:
		*x = lack{r.Err, now, r.Op, r.ID}
	case x.err != nil && r.Status == node.OK && (r.Op == x.op || r.Op == node.Renew && r.ID == x.id):
		*x = lack{}
	}
}

const keptFailures = 32 // a power of two

// note returns the number of a failure. It is that of the one before if that has the same text. It
// compares the text because a user's dialer may return errors that cannot be compared.
func (f *failures) note(err error, apart bool) uint16 {
	if len(f.kept) == 0 {
		f.kept = make([]failure, keptFailures)
	} else if last := f.get(f.latest); last.apart == apart && last.err.Error() == err.Error() {
		return f.latest
	}
	f.latest++
	f.kept[f.latest%keptFailures] = failure{err, apart}
	return f.latest
}

// known returns the number under which a failure is still known: that of the latest if it is too
// old.
func (f *failures) known(number uint16) uint16 {
	if f.latest-number >= keptFailures {
		return f.latest
	}
	return number
}

// get returns a failure that is known.
func (f *failures) get(number uint16) *failure { return &f.kept[number%keptFailures] }

// heardOf remembers what an answer of node i says about its vote for a lease, before that is
// counted. Others decide what it does to the vote.
func (c *Core) heardOf(now clock.Instant, t *tenure, i int, r node.Reply) {
	p, v := &c.nodes[i], &t.votes.of[i]
	apart := r.Status == node.Unsent && !p.state.Enrolled
	if r.Op == node.Renew || r.Op == node.Heal {
		p.failures.lack.heard(now, r, apart)
	}
	forgot := v.life != 0 && v.life != p.state.Life
	switch r.Status {
	case node.OK:
		if t.phase == phaseHeld && now >= t.hold.until {
			v.fault = FaultLate
		}
	case node.Other:
		c.blame(t, i, Overwritten{node.OwnerOf(r.Value), forgot}, false)
	case node.Absent:
		switch {
		case v.standing >= withdrawn: // nothing has changed
		case forgot:
			v.fault = FaultForgot
		case v.until == 0 && (v.standing < onProbation || v.fault == FaultNeverHad):
			v.fault = FaultNeverHad
		case now >= v.until && v.fault == faultNoted: // it has expired, or is not put back, because of that
		case now >= v.until:
			v.fault = FaultExpired
		case !p.state.Guarded && p.state.FlushedAt > v.until.Add(t.terms.Drift-t.terms.TTL): // since it gave its vote
			v.fault = FaultFlushed
		case !p.state.Guarded:
			v.fault = FaultGone
		default:
			v.fault = FaultDeleted
		}
	case node.Unknown, node.Unsent:
		switch {
		case v.standing >= withdrawn: // that counts for more
		case r.Err == nil:
			v.fault = FaultNotConnected
		default:
			c.blame(t, i, r.Err, apart)
		}
	}
}

// blame sets an error as the reason why node i does not keep a lease.
func (c *Core) blame(t *tenure, i int, err error, apart bool) {
	v := &t.votes.of[i]
	v.fault, v.failure = faultNoted, c.nodes[i].failures.note(err, apart)
}

// A cause is a flaw as two numbers.
type cause struct {
	node    int
	fault   Fault
	failure uint16
}

// causeOf returns why node i does not keep a lease beyond now; none if it does.
func (c *Core) causeOf(now clock.Instant, t *tenure, i int) Fault {
	v, renewal := &t.votes.of[i], t.hold.renewAt
	switch {
	case v.standing < onProbation && v.until.Add(-t.terms.Grace) > now:
		return 0
	case v.fault != 0:
		return v.fault
	case renewal == clock.Never: // it was not asked, and need not have been
		return 0
	case v.standing >= onProbation:
		return FaultUnproven
	case t.pending.has(i):
		return FaultNoAnswer
	case v.until == 0:
		return FaultNeverHad
	case renewal <= now:
		return FaultNotAsked
	}
	return FaultLate
}

// flawOf returns what is wrong with node i. failure is the number of what the node has said.
func (c *Core) flawOf(i int, fault Fault, failure uint16) Flaw {
	if fault != faultNoted {
		return Flaw{Node: i, Err: fault}
	}
	f := &c.nodes[i].failures
	noted := f.get(f.known(failure))
	return Flaw{Node: i, Err: noted.err, Apart: noted.apart}
}

// loss returns why a lease is lost: the reason, and what is wrong with each node that does not keep
// it. The report is that of the lease before if it says the same.
func (c *Core) loss(now clock.Instant, t *tenure, why Reason) *Report {
	causes, forgot := c.causes[1][:0], 0
	var wrong nodeSet
	if why != ReasonClosed && why != ReasonMaxHold {
		for i := range c.nodes {
			fault := c.causeOf(now, t, i)
			if fault == 0 || !c.all.has(i) {
				continue
			}
			x := cause{node: i, fault: fault}
			if fault == faultNoted {
				x.failure = c.nodes[i].failures.known(t.votes.of[i].failure)
			}
			if fault == FaultForgot {
				forgot++
			}
			causes = append(causes, x)
			wrong.add(i)
		}
	}
	switch {
	case why != ReasonExpired:
	case 2*forgot > len(causes):
		why = ReasonForgotten
	case t.hold.renewAt == clock.Never && c.mode(t).reachedWithout(wrong):
		why, causes = ReasonNotRenewed, causes[:0] // a minority has lost it, which ends nothing
	}
	c.causes[1] = causes
	if r := c.lost; r != nil && r.Reason == why && r.Twins == c.twins() && slices.Equal(causes, c.causes[0]) {
		return r
	}
	c.causes[0], c.causes[1] = c.causes[1], c.causes[0]
	r := &Report{Reason: why, Twins: c.twins()}
	for _, x := range causes {
		r.Flaws = append(r.Flaws, c.flawOf(x.node, x.fault, x.failure))
	}
	c.lost = r
	return r
}
