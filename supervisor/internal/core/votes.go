package core

import (
	"math/bits"

	"github.com/leasehold-go/leasehold/clock"
)

// MaxNodes is how many nodes a deployment has at most: a set of nodes is a word.
const MaxNodes = 64

// A nodeSet is a set of nodes, by their index.
type nodeSet uint64

func (s nodeSet) has(i int) bool { return s&(1<<i) != 0 }
func (s *nodeSet) add(i int)     { *s |= 1 << i }
func (s *nodeSet) del(i int)     { *s &^= 1 << i }
func (s nodeSet) len() int       { return bits.OnesCount64(uint64(s)) }

// all returns the set of nodes 0 to n-1.
func all(n int) nodeSet { return ^nodeSet(0) >> (MaxNodes - n) }

// A vote is what is known of one node for one lease.
type vote struct {
	// promise is what until becomes when the node says yes to the latest grant or
	// renewal: the instant before that was queued + TTL - drift.
	promise clock.Instant
	// until is the instant up to which the node surely keeps the lease. 0 if it
	// never said so.
	until clock.Instant
	// life is the incarnation that was asked for the vote, or has answered last.
	life uint32
}

// A trial is what a vote that was withdrawn, or is on probation, must pass before it
// counts again: enough other nodes must have answered renewals that were sent after
// it was noticed, and then, when the node has the key again, renewals that were sent
// after that was known. Otherwise a holder that heals faster than it learns of the
// deletions would never know that it had not been alone. Which of the two is under way
// is told by the vote: its until is 0 while the node lacks the key.
type trial struct {
	node      int
	since     clock.Instant // when it was noticed first
	early     nodeSet       // nodes that have yet to answer an earlier renewal
	confirmed nodeSet       // nodes that have answered a later one
	counts    bool          // as long as no vote is withdrawn: it is a late grant
}

// deadline returns the instant up to which at least need of the nodes in count
// surely keep the lease: the need-th largest of their until, or 0 if they are too
// few.
func deadline(votes []vote, count nodeSet, need int) clock.Instant {
	var top [MaxNodes]clock.Instant // the largest so far, in falling order
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
