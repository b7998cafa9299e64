package supervisor

import (
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Stats are counters since the supervisor was made, and how much there is of some
// things now.
type Stats struct {
	Acquired uint64 // leases won
	Failed   uint64 // acquisitions that ended without one
	Released uint64 // leases that their holders gave up
	Lost     uint64 // leases that ended otherwise
	Waits    uint64 // callers that did not get their lease at once, and had to wait for it
	Untold   uint64 // events that were dropped because the Observer or Logger was too slow

	Held    int // leases now
	Waiting int // callers that wait for a name now
	Owed    int // releases that a node has yet to confirm

	// Busy is for how long the supervisor's goroutine has worked, of Up. If
	// their growth over a minute is nearly the same, it is saturated, and leases
	// will be lost.
	Busy, Up time.Duration
	// Longest is the longest that it has worked at one stretch in the last half to whole
	// minute: for so long an answer, a caller or a loss had to wait for it.
	Longest time.Duration

	// LeastMargin is the least time that was left of a lease when it was renewed, until it would
	// have been lost, in the last half to whole minute; 0 if none was renewed. Margins counts all
	// renewals since New by that time: Margins[0] those with less than a tenth of the TTL left,
	// Margins[9] those with nine tenths and more. A lease that renews itself in time has about
	// six tenths left. If the first of them grow, leases will be lost.
	LeastMargin time.Duration
	Margins     [10]uint64
}

type counters struct {
	acquired, failed, released, lost, waits, untold atomic.Uint64

	begun clock.Instant
}

// Stats returns the counters. It changes nothing: whoever reads them a second time, or besides
// others, is told the same.
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
		m := c.Margins(now)
		st.LeastMargin, st.Margins = m.Least, m.Tenths
	})
	st.Busy = max(0, st.Up-time.Duration(s.busy.idle.Load()))
	return st
}
