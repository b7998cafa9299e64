package supervisor

import (
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A saturation tells how busy the loop is, as the gauge of that name in hashicorp/raft. It
// reads a clock that costs half as much as the other.
type saturation struct {
	idle    atomic.Int64 // time that the loop has slept
	longest atomic.Int64 // that it has worked without sleeping, since it was read last

	clock        clock.Clock // the loop's alone, as are these
	fellAsleepAt clock.Instant
	wokeAt       clock.Instant
}

func (m *saturation) begin() {
	m.clock = clock.Runtime()
	m.fellAsleepAt = m.clock.Now()
}

// woke is called when the loop begins to work.
func (m *saturation) woke() {
	m.wokeAt = m.clock.Now()
	m.idle.Add(int64(m.wokeAt.Sub(m.fellAsleepAt)))
}

// sleeps is called when it has done so.
func (m *saturation) sleeps() {
	m.fellAsleepAt = m.clock.Now()
	d := int64(m.fellAsleepAt.Sub(m.wokeAt))
	for {
		was := m.longest.Load()
		if d <= was || m.longest.CompareAndSwap(was, d) {
			return
		}
	}
}

// takeLongest returns the longest stretch of work since it was called last.
func (m *saturation) takeLongest() time.Duration { return time.Duration(m.longest.Swap(0)) }
