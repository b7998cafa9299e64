package supervisor

import (
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A saturation measures how busy the loop is, like the gauge of that name in hashicorp/raft. It
// reads a clock that costs half as much as the other.
type saturation struct {
	idle   atomic.Int64    // time that the loop has slept
	worked [2]atomic.Int64 // the longest without sleeping, in the present half-minute and in the one before

	clock        clock.Clock // of the goroutine that works, as are these
	fellAsleepAt clock.Instant
	wokeAt       clock.Instant
	since        clock.Instant // when the present half-minute began
}

func (m *saturation) begin() {
	m.clock = clock.Runtime()
	m.fellAsleepAt = m.clock.Now()
	m.since = m.fellAsleepAt
}

// woke notes that the loop begins to work.
func (m *saturation) woke() {
	m.wokeAt = m.clock.Now()
	m.idle.Add(int64(m.wokeAt.Sub(m.fellAsleepAt)))
}

// sleeps notes that the loop has done its work.
func (m *saturation) sleeps() {
	m.fellAsleepAt = m.clock.Now()
	if m.fellAsleepAt.Sub(m.since) >= halfMinute { // the loop wakes every second
		m.worked[1].Store(m.worked[0].Swap(0))
		m.since = m.fellAsleepAt
	}
	if d := int64(m.fellAsleepAt.Sub(m.wokeAt)); d > m.worked[0].Load() {
		m.worked[0].Store(d)
	}
}

const halfMinute = 30 * time.Second

// longest returns the longest stretch of work in the last half to whole minute.
func (m *saturation) longest() time.Duration {
	return time.Duration(max(m.worked[0].Load(), m.worked[1].Load()))
}
