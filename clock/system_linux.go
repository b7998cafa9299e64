package clock

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// CLOCK_BOOTTIME is the monotonic clock, which time.Now uses, plus the time that the machine was
// suspended. Reading it is a system call, and a lease reads it many times: the two clocks of
// time.Now cost a fifth of that. So suspensions remembers what the monotonic clock lacks. It asks
// again when that is old, or when the wall clock has moved against the monotonic one: a suspension
// moves the wall clock as much as it moves CLOCK_BOOTTIME.
type suspensions struct {
	read func() (mono, wall int64)
	boot func() int64

	mu    sync.Mutex   // to write what follows, in this order; it is read in the other
	lacks atomic.Int64 // CLOCK_BOOTTIME less the monotonic clock
	wall  atomic.Int64 // the wall clock less the monotonic one, when that was asked for
	at    atomic.Int64 // when that was, by the monotonic clock
}

const (
	// trusted is how long the remembered value is believed. If the wall clock is set back by just
	// the time of a suspension, that hides the suspension, but not for longer than this.
	trusted = int64(10 * time.Millisecond)

	// unmoved is less than what a suspension takes, and more than readings differ by without one.
	unmoved = int64(100 * time.Microsecond)
)

var system = suspensions{read: goTime, boot: bootTime}

func systemNow() Instant { return system.now() }

func (s *suspensions) now() Instant {
	mono, wall := s.read()
	if mono < lead {
		return Instant(s.boot()) // the time of a testing/synctest bubble
	}
	if within(mono-s.at.Load(), trusted) && within(wall-mono-s.wall.Load(), unmoved) {
		return Instant(mono + s.lacks.Load())
	}
	return s.ask()
}

// ask reads CLOCK_BOOTTIME, between two readings of the other clocks. The remembered value never
// becomes less. A goroutine that is held up between two readings takes it for more than it is, and
// the clock would go back as soon as another is faster. Only differences count.
func (s *suspensions) ask() Instant {
	s.mu.Lock()
	defer s.mu.Unlock()
	var mono, wall, boot, after int64
	for range 10 { // a goroutine that is interrupted in between tries again
		mono, wall = s.read()
		boot = s.boot()
		if after, _ = s.read(); within(after-mono, unmoved) {
			break
		}
	}
	lacks := s.lacks.Load()
	if s.at.Load() == 0 || lacks < boot-after-unmoved {
		lacks = boot - mono
		s.lacks.Store(lacks)
	}
	s.wall.Store(wall - mono)
	s.at.Store(mono)
	return Instant(mono + lacks)
}

func within(d, of int64) bool { return -of < d && d < of }

func goTime() (mono, wall int64) {
	t := time.Now()
	return lead + int64(t.Sub(origin)), t.UnixNano()
}

func bootTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had this clock since 2.6.39. If a sandbox filters it away, nothing is left that
		// a lease could be measured with.
		panic(fmt.Sprintf("clock: CLOCK_BOOTTIME: %v", err))
	}
	return ts.Nano()
}
