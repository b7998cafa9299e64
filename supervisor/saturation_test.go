package supervisor

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
)

// The longest stretch of work is that of the present half-minute or of the one before; what the
// loop has slept is counted for ever.
func TestSaturation(t *testing.T) {
	c := clocktest.NewManual(clock.Instant(time.Hour))
	m := saturation{clock: c, fellAsleepAt: c.Now(), since: c.Now()}
	for _, x := range []struct{ sleeps, works, longest time.Duration }{
		{time.Second, 10 * time.Millisecond, 10 * time.Millisecond},
		{halfMinute - time.Second - 12*time.Millisecond, 2*time.Millisecond - 1, 10 * time.Millisecond},
		{10 * time.Millisecond, 1, 10 * time.Millisecond}, // the first is over
		{halfMinute - 3, 2, 10 * time.Millisecond},
		{0, 1, 2}, // and now the second is
		{halfMinute - 2, 1, 2},
		{0, 1, 1},
	} {
		before := m.idle.Load()
		c.Advance(x.sleeps)
		m.woke()
		c.Advance(x.works)
		m.sleeps()
		if got := m.longest(); got != x.longest {
			t.Errorf("%v after the start: %v, want %v", c.Now().Sub(clock.Instant(time.Hour)), got, x.longest)
		}
		if got := time.Duration(m.idle.Load() - before); got != x.sleeps {
			t.Errorf("it has slept %v, want %v", got, x.sleeps)
		}
	}
}
