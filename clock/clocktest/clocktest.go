// Package clocktest has clocks for tests: [Manual] moves only when told to, and [Skewed] runs fast
// or slow.
//
// A testing/synctest bubble needs neither: there clock.Runtime follows the bubble's time.
package clocktest

import (
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// Manual is a clock that moves only when told to. Its timers fire inside
// [Manual.Advance]. Its methods may be called from any goroutine. Make it with [NewManual].
type Manual struct {
	mu     sync.Mutex
	now    clock.Instant
	timers map[*manualTimer]struct{}
}

// NewManual returns a clock that stands at the given instant.
func NewManual(now clock.Instant) *Manual {
	return &Manual{now: now, timers: make(map[*manualTimer]struct{})}
}

// Now returns the instant at which the clock stands.
func (m *Manual) Now() clock.Instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Advance moves the clock forward by d, and fires every timer that has become due. It does not wait
// for the goroutines that the timers wake. It panics if d is negative.
func (m *Manual) Advance(d time.Duration) {
	if d < 0 {
		panic("clocktest: a Manual clock does not go back")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
	for t := range m.timers {
		t.fireIfDue()
	}
}

// NewTimer returns a timer that fires once the clock was advanced by d.
func (m *Manual) NewTimer(d time.Duration) clock.Timer {
	t := &manualTimer{clock: m, c: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

type manualTimer struct {
	clock *Manual
	at    clock.Instant
	c     chan time.Time
}

func (t *manualTimer) C() <-chan time.Time { return t.c }

func (t *manualTimer) Reset(d time.Duration) {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.drain()
	t.at = t.clock.now.Add(d)
	t.clock.timers[t] = struct{}{}
	t.fireIfDue()
}

func (t *manualTimer) Stop() {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.drain()
	delete(t.clock.timers, t)
}

func (t *manualTimer) drain() {
	select {
	case <-t.c:
	default:
	}
}

func (t *manualTimer) fireIfDue() {
	if t.at > t.clock.now {
		return
	}
	delete(t.clock.timers, t)
	t.c <- time.Time{} // room for one, and drained before each setting
}

// Skewed returns a clock that runs at rate times the speed of base, from the instant at which it is
// made. A clock with rate 1.01 gains a hundredth. Skewed panics if rate is not positive.
func Skewed(base clock.Clock, rate float64) clock.Clock {
	if rate <= 0 {
		panic("clocktest: the rate of a Skewed clock must be positive")
	}
	return &skewed{base: base, from: base.Now(), rate: rate}
}

type skewed struct {
	base clock.Clock
	from clock.Instant
	rate float64
}

func (s *skewed) Now() clock.Instant {
	passed := float64(s.base.Now().Sub(s.from))
	return s.from.Add(time.Duration(passed * s.rate))
}

func (s *skewed) NewTimer(d time.Duration) clock.Timer {
	return &skewedTimer{s.base.NewTimer(s.wait(d)), s}
}

// wait converts a duration of this clock into one of its base, rounded up: a
// timer may be late, never early.
func (s *skewed) wait(d time.Duration) time.Duration {
	return time.Duration(float64(d)/s.rate) + 1
}

type skewedTimer struct {
	clock.Timer
	s *skewed
}

func (t *skewedTimer) Reset(d time.Duration) { t.Timer.Reset(t.s.wait(d)) }
