package redistest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// Lateness watches how late this process is, until the test ends: because the machine has too much to
// do, or was paused. The function that it returns tells by how much at most, so far. A test in real time
// cannot tell a tick that was lost by its subject from one that the machine has lost.
func Lateness(t testing.TB) func() time.Duration {
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
	t.Cleanup(func() {
		close(stop)
		<-over
	})
	return func() time.Duration { return time.Duration(most.Load()) }
}
