// Package clock tells leasehold what time it is. Everything else asks a [Clock] and never the time
// package, so that a test can stop time, skew it or jump it.
//
// Two clocks are for use; package clocktest has two more for tests:
//
//   - [System] counts the time that the machine was suspended. It is the default.
//   - [Runtime] is the Go runtime's monotonic clock. It follows the fake time of
//     a testing/synctest bubble, and on Linux it stops during a suspension.
package clock

import "time"

// An Instant is a point on one Clock's time line: nanoseconds since an origin of
// that clock's own choosing. Compare instants of one clock with < and >. Never compare those of
// different clocks, processes or machines; so never store or send one.
type Instant int64

// Never is later than every other instant.
const Never Instant = 1<<63 - 1

// Add returns the instant d after t. It stays at [Never] instead of overflowing.
func (t Instant) Add(d time.Duration) Instant {
	if s := t + Instant(d); d < 0 || s >= t {
		return s
	}
	return Never
}

// Sub returns the time from u to t, negative if t is earlier. Both must be of one clock.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// A Clock reads instants and makes timers. Its methods may be called from any goroutine, and Now
// never goes back.
type Clock interface {
	// Now returns the present instant. It does not block and does not allocate.
	Now() Instant

	// NewTimer returns a timer that fires once d has passed. A timer may be late, and may not
	// notice a suspension: the goroutine that it wakes reads Now again.
	NewTimer(d time.Duration) Timer
}

// A Timer fires once, on C, after the duration of its last Reset. It has the
// semantics of time.Timer since Go 1.23: after Stop or Reset returns, no value of
// an earlier setting is received. It may be used by one goroutine at a time.
type Timer interface {
	C() <-chan time.Time
	Reset(d time.Duration)
	Stop()
}

// Runtime returns the clock of the Go runtime: the monotonic reading of time.Now. Inside a
// testing/synctest bubble it follows the bubble's time; give it to supervisor.Config.Clock there.
// On Linux it does not count suspension: for real leases use [System].
func Runtime() Clock { return runtimeClock{} }

var origin = time.Now()

// lead keeps instants positive if the time starts long before the origin. In a synctest bubble,
// which starts in the year 2000, that is 36 years.
const lead = 1 << 60

type runtimeClock struct{}

func (runtimeClock) Now() Instant { return Instant(lead + time.Since(origin)) }

func (runtimeClock) NewTimer(d time.Duration) Timer { return runtimeTimer{time.NewTimer(d)} }

type runtimeTimer struct{ t *time.Timer }

func (t runtimeTimer) C() <-chan time.Time   { return t.t.C }
func (t runtimeTimer) Reset(d time.Duration) { t.t.Reset(d) }
func (t runtimeTimer) Stop()                 { t.t.Stop() }

// System returns the default clock. It goes on counting while the machine is suspended, as the
// expiry of a key on a Redis node does:
//
//   - Linux: CLOCK_BOOTTIME. A reading takes about 60 ns if time.Now is no system call; one in
//     10 ms takes 400 ns.
//   - macOS and iOS: CLOCK_MONOTONIC, which counts sleep there.
//   - Windows: GetTickCount64, in steps of 10 to 16 ms.
//   - elsewhere: the Go runtime's clock; whether that counts suspension depends on
//     the system.
//
// No local clock notices a pause that a hypervisor imposes.
func System() Clock { return systemClock{} }

type systemClock struct{ runtimeClock }

func (systemClock) Now() Instant { return systemNow() }
