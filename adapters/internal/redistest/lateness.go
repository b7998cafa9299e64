package redistest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// InTime plays a part of a test in real time, up to three times, until this process was late by no
// more than most meanwhile, and reports whether it was. A process is late if the machine has too
// much to do, or was paused. A test of ticks of that time cannot tell one that was lost by
// the subject of the test from one that the machine has lost.
func InTime(t testing.TB, most time.Duration, play func()) bool {
	t.Helper()
	for range 3 {
		late := lateness()
		play()
		d := late()
		if d <= most {
			return true
		}
		t.Logf("this process was late by %v, and not by %v at most: nothing is known of the ticks", d, most)
	}
	return false
}

// lateness begins to watch how late this process is. The function that it returns ends that, and
// tells by how much at most.
func lateness() func() time.Duration {
	const every = 10 * time.Millisecond
	var most atomic.Int64
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		wall := clock.Runtime()
		timer := wall.NewTimer(every)
		defer timer.Stop()
		for last := wall.Now(); ; timer.Reset(every) {
			select {
			case <-stop:
				return
			case <-timer.C():
			}
			now := wall.Now()
			most.Store(max(most.Load(), int64(now.Sub(last)-every)))
			last = now
		}
	}()
	return func() time.Duration {
		close(stop)
		<-over
		return time.Duration(most.Load())
	}
}
