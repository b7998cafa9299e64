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
	Untold   uint64 // events that were dropped because the Observer or Logger was too slow

	Held    int // leases now
	Waiting int // callers that wait for a name now
	Owed    int // releases that a node has yet to confirm

	// Busy is for how long the supervisor's goroutine has worked, of Up. If
	// their growth over a minute is nearly the same, it is saturated, and leases
	// will be lost.
	Busy, Up time.Duration
	// Longest is the longest that it has worked at one stretch since Stats was called
	// last: for so long an answer, a caller or a loss had to wait for it.
	Longest time.Duration
}

type counters struct {
	acquired, failed, released, lost, untold atomic.Uint64

	begun clock.Instant
}

// Stats returns the counters.
func (s *Supervisor) Stats() Stats {
	if s.core == nil {
		return Stats{} // it is the zero Supervisor
	}
	st := Stats{
		Acquired: s.count.acquired.Load(), Failed: s.count.failed.Load(), Released: s.count.released.Load(),
		Lost: s.count.lost.Load(), Untold: s.count.untold.Load(),
		Up: s.clock.Now().Sub(s.count.begun), Longest: s.busy.takeLongest(),
	}
	s.read(func(c *core.Core) {
		n := c.Counts()
		st.Held, st.Waiting, st.Owed = n.Held, n.Waiting, n.Owed
	})
	st.Busy = max(0, st.Up-time.Duration(s.busy.idle.Load()))
	return st
}
