package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// Votes has what is known of every node for one lease. The model is the Progress of etcd's raft:
// all that changes a vote is a method here, named for what happened at the node.
//
// Invariants:
//
//  1. A vote counts unless it is on probation, withdrawn or taken.
//  2. A vote that is late, on probation, withdrawn or taken has one trial; no other has one.
//  3. When a vote ceases to count, its until becomes 0, and stays 0 until its node says
//     again that it has the key.
//  4. A vote that is on trial, late or not, confirms no other.
//  5. A withdrawn vote becomes one that is on probation by nothing: only a passed trial
//     ends it.
type votes struct {
	of    []vote   // by node
	under *[]trial // in the order in which they began; nil if there is none, as nearly always
	// loose has the nodes that may keep the key for longer than until says. A later command was not
	// answered, or its answer is not believed; or a renewal that may not have arrived, or may yet
	// arrive, shortened until; or the node's clock was ahead for a while.
	loose nodeSet
}

// A vote has what is known of one node.
type vote struct {
	// promise is the next until if the node says yes to the latest grant or renewal: the instant
	// before that was queued + TTL - drift. See invariant 2 of package supervisor.
	promise clock.Instant
	// until is the instant up to which the node surely keeps the lease. 0 if it is not
	// known to have the key.
	until clock.Instant
	// lead is by how much the node's TIME was ahead of our clock when the vote was given. The
	// node's TIME is the one that it had read before it did anything of that command; our clock's
	// is that of the sending. It is 0 if that is not known. So the key must be there until until +
	// lead by the node's clock.
	lead time.Duration
	// life is the incarnation that was asked for the vote, or has answered last.
	life     uint32
	standing standing
	// fault is what is wrong with the vote since the node last said that it has the key. failure is
	// the number of what the node has said then. Neither decides anything.
	fault   Fault
	failure uint16
}

// A standing says whether a vote counts.
type standing uint8

const (
	counts      standing = iota // with its until
	late                        // it counts as long as no other is withdrawn: its grant came late
	onProbation                 // the node no longer had the key, or never had it
	withdrawn                   // the node gave the key up before its time
	taken                       // and keeps another value
)

// String returns the standing in words.
func (s standing) String() string {
	return [...]string{"counts", "late", "on probation", "withdrawn", "taken"}[s]
}

// String returns the vote in words.
func (v vote) String() string {
	if v.until == 0 {
		return v.standing.String() + ", without the key"
	}
	return v.standing.String() + " until " + time.Duration(v.until).String()
}

// A trial is what a vote that is late or does not count must pass before it counts again. First,
// enough other nodes must have answered renewals that were sent after it was noticed. Then, when
// the node has the key again, they must have answered renewals that were sent after that was known.
// Otherwise a holder that heals faster than it learns of the deletions would never know that it had
// not been alone. The vote shows which of the two is under way: its until is 0 while the node lacks
// the key. See invariant 9 of package supervisor.
type trial struct {
	node      int
	since     clock.Instant // when it was noticed first
	early     nodeSet       // nodes that have yet to answer an earlier renewal
	confirmed nodeSet       // nodes that have answered a later one
}

func newVotes(n int) votes { return votes{of: make([]vote, n)} }

// suspect returns the nodes whose votes do not count.
func (vs *votes) suspect() (nodes nodeSet) {
	for k := range vs.trials() {
		if i := vs.trials()[k].node; vs.of[i].standing >= onProbation {
			nodes.add(i)
		}
	}
	return nodes
}

// onTrial returns the nodes whose votes are on trial, whether they count meanwhile or not.
func (vs *votes) onTrial() (nodes nodeSet) {
	for k := range vs.trials() {
		nodes.add(vs.trials()[k].node)
	}
	return nodes
}

// trialOf returns the trial of node i's vote; nil if it is on none.
func (vs *votes) trialOf(i int) *trial {
	for k := range vs.trials() {
		if vs.trials()[k].node == i {
			return &vs.trials()[k]
		}
	}
	return nil
}

// kept records that a node of that life has the key, by the latest promise, and how far its clock
// is ahead of ours. It reports whether the node was not known to have it.
func (vs *votes) kept(i int, life uint32, lead time.Duration) (first bool) {
	v := &vs.of[i]
	first = v.until == 0
	v.until, v.life, v.lead = v.promise, life, lead
	vs.loose.del(i)
	if v.standing < onProbation {
		v.fault = 0
	}
	return first
}

// aged records that a node's clock has gained so much that it is now that far ahead of ours. The
// node will give the key up so much earlier. The rest is believed as a new vote is.
func (vs *votes) aged(i int, lead time.Duration) {
	v := &vs.of[i]
	v.until = max(v.until.Add(v.lead-lead), 1) // 0 is another thing
	v.lead = lead
	vs.loose.add(i) // the clock may be set back
}

// trials returns the trials that are under way.
func (vs *votes) trials() []trial {
	if vs.under == nil {
		return nil
	}
	return *vs.under
}

// beginTrial adds a trial.
func (vs *votes) beginTrial(x trial) { vs.goOn(append(vs.trials(), x)) }

// goOn sets the trials that are under way from now on.
func (vs *votes) goOn(with []trial) {
	switch {
	case len(with) == 0:
		vs.under = nil
	case vs.under == nil:
		kept := with
		vs.under = &kept
	default:
		*vs.under = with
	}
}

// joined records that a node was not known to have the key of a lease that is held already. If its
// vote is on trial, the trial begins again, which joined reports: the others may have been lost to
// a rival before the key was there. If it is not, but the grant came late, a client may have
// deleted the key on other nodes meanwhile. A rival may have come and gone on them and on this one.
// Then the vote is late. See invariant 10 of package supervisor. pending are the nodes that have
// yet to answer a renewal.
func (vs *votes) joined(now clock.Instant, i int, cameLate bool, pending nodeSet) (again bool) {
	if x := vs.trialOf(i); x != nil {
		x.early, x.confirmed = pending, 0
		return true
	}
	if cameLate {
		vs.of[i].standing = late
		vs.beginTrial(trial{node: i, since: now, early: pending})
	}
	return false
}

// deleted records that a node gave the key up before its time. It reports whether a trial has
// begun.
func (vs *votes) deleted(now clock.Instant, i int, pending nodeSet) (began bool) {
	return vs.suspend(now, i, withdrawn, pending)
}

// overwritten records that a node keeps another value. It reports whether a trial has begun.
func (vs *votes) overwritten(now clock.Instant, i int, pending nodeSet) (began bool) {
	return vs.suspend(now, i, taken, pending)
}

// lapsed records that a node no longer has the key, because its time was up, or never had it. It
// reports whether a trial has begun.
func (vs *votes) lapsed(now clock.Instant, i int, pending nodeSet) (began bool) {
	if vs.of[i].until != 0 {
		vs.doubtLate(now, pending) // a client may have deleted it, and a rival have come by it
	}
	return vs.suspend(now, i, onProbation, pending)
}

// forgot records that a node has lost its data, and may have given the name away already.
func (vs *votes) forgot(i int) { vs.of[i].until = 0 }

// suspend makes a vote count no more. Its trial begins, unless it was under way already and the
// node was known to lack the key.
func (vs *votes) suspend(now clock.Instant, i int, to standing, pending nodeSet) (began bool) {
	v := &vs.of[i]
	gone := v.standing >= withdrawn
	x := vs.trialOf(i)
	began = x == nil || v.until != 0 || to >= withdrawn && !gone
	if began && x != nil {
		vs.goOn(slices.DeleteFunc(vs.trials(), func(x trial) bool { return x.node == i }))
	}
	if to >= withdrawn {
		vs.doubtLate(now, pending)
	}
	if gone {
		to = max(to, withdrawn)
	}
	v.standing, v.until = to, 0
	if began {
		vs.beginTrial(trial{node: i, since: now, early: pending})
	}
	return began
}

// doubtLate makes late votes that no node has confirmed count no more. A vote was withdrawn, so a
// rival may have had that node and theirs before these grants arrived.
func (vs *votes) doubtLate(now clock.Instant, pending nodeSet) {
	for k := range vs.trials() {
		if i := vs.trials()[k].node; vs.of[i].standing == late {
			vs.trials()[k] = trial{node: i, since: now, early: pending}
			vs.of[i].standing, vs.of[i].until = onProbation, 0
		}
	}
}

// confirmedBy records that a node has renewed, and ends the trials that this decides. It returns
// the nodes that may be healed now, because enough others have confirmed. It also reports whether
// the answer came too early to confirm anything for one of the trials.
func (vs *votes) confirmedBy(i int, m *mode) (healable nodeSet, early bool) {
	if vs.under == nil {
		return 0, false
	}
	unproven := vs.onTrial()
	if unproven.has(i) {
		return 0, false
	}
	for k := range vs.trials() {
		if x := &vs.trials()[k]; x.early.has(i) {
			x.early.del(i)
			early = true
		} else {
			x.confirmed.add(i)
		}
	}
	// A vote whose trial ends here was on trial until now, so it has confirmed no other.
	vs.goOn(slices.DeleteFunc(vs.trials(), func(x trial) bool {
		if !m.reached(x.confirmed &^ unproven) {
			return false
		}
		if vs.of[x.node].until == 0 {
			healable.add(x.node)
			return false
		}
		vs.of[x.node].standing, vs.of[x.node].fault = counts, 0
		return true
	}))
	return healable, early
}

// confirmed returns the nodes that have confirmed a trial and are on none themselves.
func (vs *votes) confirmed(x *trial) nodeSet { return x.confirmed &^ vs.onTrial() }

// whyLost returns why a lease is lost for which too few votes count.
func (vs *votes) whyLost() Reason {
	gone, overwritten := 0, 0
	for i := range vs.of {
		switch vs.of[i].standing {
		case withdrawn:
			gone++
		case taken:
			gone++
			overwritten++
		}
	}
	switch {
	case gone == 0:
		return ReasonExpired
	case 2*overwritten >= gone:
		return ReasonTaken
	}
	return ReasonRevoked
}

// deadline returns the instant up to which at least need of the nodes in count surely keep the
// lease. That is the need-th largest of their until, or 0 if they are too few.
func deadline(votes []vote, count nodeSet, need int) clock.Instant {
	if need <= fewNodes { // to clear room for all would take as long as the rest
		var top [fewNodes]clock.Instant
		return nthLargest(top[:], votes, count, need)
	}
	var top [MaxNodes]clock.Instant
	return nthLargest(top[:], votes, count, need)
}

const fewNodes = 4

// nthLargest returns the need-th largest until. top has the largest so far, in falling order.
func nthLargest(top []clock.Instant, votes []vote, count nodeSet, need int) clock.Instant {
	n := 0
	for i := range votes {
		if !count.has(i) {
			continue
		}
		u := votes[i].until
		j := n
		if n < need {
			n++
		} else if j--; top[j] >= u {
			continue
		}
		for ; j > 0 && top[j-1] < u; j-- {
			top[j] = top[j-1]
		}
		top[j] = u
	}
	if n < need {
		return 0
	}
	return top[need-1]
}
