package supervisor

import (
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Stats holds counters since the supervisor was made, and how many leases, waiting callers and
// unconfirmed releases there are now.
type Stats struct {
	Acquired uint64 // leases won
	Failed   uint64 // acquisitions that ended without one
	Released uint64 // leases that their holders gave up
	Lost     uint64 // leases that ended in another way
	Waits    uint64 // callers that did not get their lease at once, and had to wait
	Untold   uint64 // events that were dropped because the Observer or Logger was too slow

	Held    int // leases now
	Waiting int // callers that wait for a name now
	Owed    int // releases that a node has yet to confirm
	Filling int // leases that rest on Config.Former alone, see Reconfigure; 0 without a change of the nodes

	// Up is how long the supervisor has existed, and Busy how much of that time its goroutine has
	// worked. If Busy grows nearly as much as Up does over a minute, the goroutine is saturated,
	// and leases will be lost.
	Busy, Up time.Duration
	// Longest is the longest time that the goroutine has worked without a pause in the last half to
	// whole minute. An answer, a caller or a loss had to wait for so long.
	Longest time.Duration

	// The margin of a renewal is the time that was left until the lease would have been lost.
	// LeastMargin is the least one in the last half to whole minute; 0 if no lease was renewed.
	// Margins counts all renewals since New by their margins. Margins[0] counts those of less than
	// a tenth of the TTL, Margins[9] those of nine tenths and more. A lease that renews itself in
	// time has about six tenths left. If the first of the Margins grow, leases will be lost. The
	// first renewal of a lease that a release has handed to a waiter does not count: the nodes keep
	// such a lease for a moment only, and it is renewed at once.
	LeastMargin time.Duration
	Margins     [10]uint64
}

type counters struct {
	acquired, failed, released, lost, waits, untold atomic.Uint64

	begun clock.Instant
}

// Stats returns the counters. It resets none of them, so several callers may read them. It asks no
// node.
func (s *Supervisor) Stats() Stats {
	if s.core == nil {
		return Stats{} // it is the zero Supervisor
	}
	now := s.clock.Now()
	st := Stats{
		Acquired: s.count.acquired.Load(), Failed: s.count.failed.Load(), Released: s.count.released.Load(),
		Lost: s.count.lost.Load(), Waits: s.count.waits.Load(), Untold: s.count.untold.Load(),
		Up: now.Sub(s.count.begun), Longest: s.busy.longest(),
	}
	s.read(func(c *core.Core) {
		n := c.Counts()
		st.Held, st.Waiting, st.Owed = n.Held, n.Waiting, n.Owed
		if s.lists.Load().formerQuorum > 0 {
			_, st.Filling = c.Unfilled(now)
		}
		m := c.Margins(now)
		st.LeastMargin, st.Margins = m.Least, m.Tenths
	})
	st.Busy = max(0, st.Up-time.Duration(s.busy.idle.Load()))
	return st
}
