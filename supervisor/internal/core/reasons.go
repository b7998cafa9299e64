package core

import (
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// A Reason says why something has ended, or was not done. It is kept as a number: package
// supervisor has the words.
type Reason uint8

const (
	ReasonNone Reason = iota

	// These say why there is no lease.
	ReasonHeld           // another client has the name
	ReasonNoQuorum       // too few nodes could be reached
	ReasonClosed         // the core was closed
	ReasonMisconfigured  // two nodes are one server, see Report.Twins
	ReasonFenceExhausted // no larger fence can be stored
	ReasonNotHolder      // the lease that was to be revoked does not hold the name
	ReasonNotFinished    // the nodes are being changed, and this process was given the present list alone
	ReasonNodesLeft      // the nodes were changed, and this process was given the former list alone
	ReasonOtherChange    // a node is part of another change, which is not finished, or of lists that this process was not given
	ReasonTooManyNodes   // no index is left for another node, or there is none
	ReasonRelisted       // the lists of nodes were changed here meanwhile
	ReasonFormerHolder   // the former holder of an adopted lease may still believe in it
	ReasonNewcomer       // older clients use other nodes, see Report.Disagreement
	ReasonOtherNodes     // the lease to be adopted rests on lists of nodes that this process was not given

	// These say why a lease is over.
	ReasonReleased   // its holder gave it back
	ReasonHandedOver // its holder handed it over
	ReasonLost       // no reason is known
	ReasonExpired    // it was not renewed in time
	ReasonRevoked    // its key was deleted
	ReasonTaken      // its key was overwritten
	ReasonPaused     // the nodes' clocks ran away from ours
	ReasonMaxHold    // it was held for its maximum
	ReasonForgotten  // it has expired because most nodes have lost their data; of a Report only
	ReasonNotRenewed // it has expired as it was meant to, without renewal; of a Report only

	// These say why something was not confirmed.
	ReasonUnconfirmed // a quorum is not known to be free of the lease
	ReasonHandingOver // it is being handed over already
	ReasonKept        // its holder stopped waiting, and keeps it
)

// A Report says why a caller did not get what it asked for, and what each node said.
type Report struct {
	Key          string
	Reason       Reason
	Answers      []Answer
	Flaws        []Flaw        // of a lease that was lost: of the nodes that do not keep it
	Left         time.Duration // Unconfirmed: how long the key may remain at most
	Twins        Twins         // Misconfigured
	Disagreement Disagreement

	mode *mode // what a quorum is; nil if it is of as many nodes as Taken says
}

// Taken reports whether the answers show that a client has the name, or has left it. Then a quorum
// keeps one token, or a node keeps one that was left, as only a held lease is. Otherwise they may
// be of several attempts, none of which succeeds.
func (r *Report) Taken(quorum int) bool {
	as, m := answers(r.Answers), r.mode
	if m == nil {
		m = &mode{first: electorate{all(len(as)), quorum}}
	} else { // some nodes were left, which have no answer
		as = make(answers, MaxNodes)
		for _, a := range r.Answers {
			as[a.Node] = a
		}
	}
	return as.held(m) || slices.ContainsFunc(r.Answers, func(a Answer) bool {
		_, left := node.CutLeft(a.Value)
		return a.Verdict == VerdictHeld && left
	})
}

// Twins are two nodes which are the same database of one server; zero if there are none.
type Twins struct{ First, Second int }

// A Disagreement says how the electorate of other clients differs from ours, as a node has
// reported; zero if it does not.
type Disagreement struct {
	Node    int  // the node that reported it
	Nodes   int  // how many they use
	Unknown int  // how many of them this client does not know
	Older   bool // they were there before, so this client acquires nothing
}

// A Fault says why an answer does not count, if the node itself did not say so, or why a node does
// not keep a lease any more.
type Fault uint8

const (
	FaultNoRoom       Fault = iota + 1 // the node's mailbox was full
	FaultTwin                          // it is the same server as another node
	FaultNotConnected                  // nothing is known of it yet
	FaultNoEntry                       // our entry there does not count for as long as the vote would
	FaultBarred                        // the nodes are being changed, and its stage lets no such vote count

	FaultDeleted  // a client has deleted the key
	FaultGone     // a client has deleted the key, or all data: the node does not say which
	FaultFlushed  // all data was deleted
	FaultForgot   // it has lost its data since it gave its vote
	FaultExpired  // the key has expired there
	FaultNeverHad // it has not had the key, as it did not grant it
	FaultUnproven // its vote was not confirmed by enough others since something was wrong with it
	FaultNoAnswer // a command was not answered yet
	FaultLate     // it has answered, but too late
	FaultNotAsked // it should have been asked by now, so this process was paused or is too busy
	faultNoted    // see failures
)

// Error returns the fault in words.
func (f Fault) Error() string {
	switch f {
	case FaultTwin:
		return "it is the same server as another node"
	case FaultBarred:
		return "its vote does not count: the nodes are being changed, and it counts clients with other lists of nodes"
	case FaultNoEntry:
		return "its vote does not count before this client has left there which nodes it uses"
	case FaultNotConnected:
		return "it is being connected to"
	case FaultDeleted:
		return "its key was deleted"
	case FaultGone:
		return "its key was deleted, or its data flushed"
	case FaultFlushed:
		return "its data was flushed"
	case FaultForgot:
		return "it forgot its data (restarted or flushed)"
	case FaultExpired:
		return "its key has expired, because it was not renewed there in time"
	case FaultNeverHad:
		return "it did not have the key"
	case FaultUnproven:
		return "its vote was in doubt, and not confirmed by enough other nodes yet"
	case FaultNoAnswer:
		return "no answer yet"
	case FaultLate:
		return "its answer came too late"
	case FaultNotAsked:
		return "not asked in time: this process was paused or is too busy"
	}
	return "too many commands are waiting for this node"
}

// A Warning describes something that is wrong.
type Warning struct {
	Kind    WarningKind
	Node    int
	Other   int           // another node
	Count   int           // of nodes
	Down    int           // Young: how many nodes are down
	Unknown int           // Disagreement: how many of them this client does not know
	Time    time.Duration // by how much, or how long
	Of      time.Duration // Paused: in how much of our own time
	Policy  string        // Evicts
}

// WarningKind says what is wrong.
type WarningKind uint8

const (
	WarnPaused       WarningKind = iota // the clocks of Count nodes ran away from ours, that of Node by Time in Of
	WarnNoGuard                         // Node does not say which incarnation it is
	WarnEvicts                          // Node may evict the keys of leases, by Policy
	WarnCap                             // another client has a MaxTTL of Time, more than our MaxTTLCap
	WarnTwins                           // Node and Other are the same database of one server
	WarnDatabases                       // Node and Other are two databases of one server
	WarnDisagreement                    // other clients on Node use Count nodes, of which Unknown are not known to us
	WarnNewcomer                        // the same, and they were there before, so nothing is acquired
	WarnClocksApart                     // the clock of Node is Time ahead of that of Other
	WarnYoung                           // Count nodes are young, and Down are down, so nothing is acquired for Time
)
