package clocktest

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// fired reports whether a value lies in the timer's channel, and takes it.
func fired(t clock.Timer) bool {
	select {
	case <-t.C():
		return true
	default:
		return false
	}
}

func TestManual(t *testing.T) {
	m := NewManual(100)
	if m.Now() != 100 {
		t.Fatalf("Now = %d, want 100", m.Now())
	}
	a, b, now := m.NewTimer(10), m.NewTimer(20), m.NewTimer(0)
	if !fired(now) {
		t.Error("a timer for at once did not fire")
	}
	if m.Advance(9); fired(a) || m.Now() != 109 {
		t.Error("a timer fired early")
	}
	if m.Advance(1); !fired(a) || fired(b) {
		t.Error("want just the first timer to fire at its instant")
	}
	if m.Advance(time.Hour); !fired(b) || fired(a) {
		t.Error("want the other timer to fire, and the first only once")
	}

	// After Stop or Reset nothing of an earlier setting is received.
	a.Reset(10)
	m.Advance(10)
	a.Stop()
	if fired(a) {
		t.Error("received after Stop what was due before")
	}
	a.Reset(10)
	m.Advance(10)
	a.Reset(10)
	if fired(a) {
		t.Error("received after Reset what was due before")
	}
	if m.Advance(10); !fired(a) {
		t.Error("a timer that was set again did not fire")
	}
	b.Reset(10)
	b.Stop()
	if m.Advance(time.Hour); fired(b) {
		t.Error("a stopped timer fired")
	}
	if len(m.timers) != 0 {
		t.Errorf("%d timers are kept that are not set", len(m.timers))
	}

	if m.Advance(1<<63 - 1); m.Now() != clock.Never {
		t.Errorf("Now = %d at the end of time, want Never", m.Now())
	}
	defer func() {
		if recover() == nil {
			t.Error("Advance back: want a panic")
		}
	}()
	m.Advance(-1)
}

func TestManualFromManyGoroutines(t *testing.T) {
	m := NewManual(0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			timer, last := m.NewTimer(0), m.Now()
			for range 500 {
				timer.Reset(3)
				m.Advance(5)
				<-timer.C()
				now := m.Now()
				if now < last {
					t.Errorf("went back from %d to %d", last, now)
				}
				last = now
			}
			timer.Stop()
		})
	}
	wg.Wait()
	if m.Now() != 4*500*5 {
		t.Errorf("Now = %d, want %d", m.Now(), 4*500*5)
	}
}

func TestSkewed(t *testing.T) {
	m := NewManual(clock.Instant(time.Hour))
	fast, slow := Skewed(m, 1.01), Skewed(m, 0.5)
	if fast.Now() != m.Now() || slow.Now() != m.Now() {
		t.Error("a skewed clock must start at its base's instant")
	}
	f, s := fast.NewTimer(time.Second), slow.NewTimer(time.Second)
	m.Advance(time.Second)
	if d := fast.Now().Sub(m.Now()); d != 10*time.Millisecond {
		t.Errorf("the fast clock is %v ahead after a second, want 10ms", d)
	}
	if d := m.Now().Sub(slow.Now()); d != 500*time.Millisecond {
		t.Errorf("the slow clock is %v behind after a second, want 500ms", d)
	}
	if !fired(f) || fired(s) {
		t.Error("want the fast clock's timer to fire, and the slow one's not yet")
	}
	if m.Advance(time.Second + 1); !fired(s) {
		t.Error("the slow clock's timer did not fire")
	}
	s.Reset(time.Second)
	if m.Advance(2*time.Second - 1); fired(s) {
		t.Error("fired early after Reset")
	}
	if m.Advance(2); !fired(s) {
		t.Error("did not fire after Reset")
	}

	// Whatever the rate, a timer never fires early by its own clock, and is late
	// by no more than rounding.
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		base := NewManual(clock.Instant(r.Int64N(1 << 60)))
		rate := 0.1 + 4*r.Float64()
		c := Skewed(base, rate).(*skewed)
		d := time.Duration(r.Int64N(int64(time.Hour)))
		start := c.Now()
		base.Advance(c.wait(d))
		if late := c.Now().Sub(start) - d; late < 0 || late > 10 {
			t.Fatalf("at rate %v a timer for %v is %v late", rate, d, late)
		}
	}

	for _, rate := range []float64{0, -1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Skewed at rate %v: want a panic", rate)
				}
			}()
			Skewed(m, rate)
		}()
	}
}
