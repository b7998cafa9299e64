package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestInstant(t *testing.T) {
	for _, c := range []struct {
		t    Instant
		d    time.Duration
		want Instant
	}{
		{0, 0, 0},
		{5, 7, 12},
		{5, -7, -2},
		{Never, 0, Never},
		{Never, 1, Never},
		{Never, 1<<63 - 1, Never},
		{Never - 1, 1, Never},
		{Never - 1, 2, Never},
		{Never - 5, -1, Never - 6},
		{1 << 62, 1 << 62, Never},
	} {
		if got := c.t.Add(c.d); got != c.want {
			t.Errorf("Instant(%d).Add(%d) = %d, want %d", c.t, c.d, got, c.want)
		}
	}
	if d := Instant(5).Sub(12); d != -7 {
		t.Errorf("Instant(5).Sub(12) = %d, want -7", d)
	}
}

// fired reports whether a value lies in the timer's channel, and takes it.
func fired(t Timer) bool {
	select {
	case <-t.C():
		return true
	default:
		return false
	}
}

// In a bubble the runtime's clock is the bubble's, to the nanosecond, and its
// instants are positive although the bubble's time lies before the process began.
func TestRuntimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Runtime()
		start := c.Now()
		if start <= 0 {
			t.Fatalf("Now = %d, want a positive instant", start)
		}
		timer := c.NewTimer(time.Hour)
		<-timer.C()
		if d := c.Now().Sub(start); d != time.Hour {
			t.Errorf("%v passed, want 1h", d)
		}
		timer.Reset(time.Minute)
		<-timer.C()
		if d := c.Now().Sub(start); d != time.Hour+time.Minute {
			t.Errorf("%v passed, want 1h1m", d)
		}
		timer.Reset(time.Second)
		timer.Stop()
		other := c.NewTimer(2 * time.Second)
		<-other.C()
		if fired(timer) {
			t.Error("a stopped timer fired")
		}
	})
}

// Both real clocks go forward at the same pace, as long as nobody suspends the
// machine under this test.
func TestSystemAndRuntime(t *testing.T) {
	sys, run := System(), Runtime()
	for name, c := range map[string]Clock{"System": sys, "Runtime": run} {
		last := c.Now()
		if last <= 0 {
			t.Errorf("%s: Now = %d, want a positive instant", name, last)
		}
		for range 100_000 {
			now := c.Now()
			if now < last {
				t.Fatalf("%s went back from %d to %d", name, last, now)
			}
			last = now
		}
		if n := testing.AllocsPerRun(100, func() { c.Now() }); n != 0 {
			t.Errorf("%s: %v allocations a reading", name, n)
		}
	}

	// One reading stands between two of the other clock, so that a pause of this
	// goroutine widens the bounds instead of breaking them.
	before1, s1, after1 := run.Now(), sys.Now(), run.Now()
	timer := sys.NewTimer(50 * time.Millisecond)
	<-timer.C()
	before2, s2, after2 := run.Now(), sys.Now(), run.Now()
	const slack = 20 * time.Millisecond // the steps of Windows' clock
	passed := s2.Sub(s1)
	if least, most := before2.Sub(after1)-slack, after2.Sub(before1)+slack; passed < least || passed > most {
		t.Errorf("%v passed by System, %v to %v by Runtime", passed, least, most)
	}
	if passed < 50*time.Millisecond-slack {
		t.Errorf("a timer for 50ms fired after %v", passed)
	}
}
