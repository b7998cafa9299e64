package clock

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A machine has the clocks of one that is suspended, and whose wall clock is set.
type machine struct {
	mono, slept, wall int64
	before, behind    time.Duration // how long who reads CLOCK_BOOTTIME is held up
	asked             int
}

func (m *machine) suspend(d time.Duration) { m.slept += int64(d); m.wall += int64(d) }
func (m *machine) pass(d time.Duration)    { m.mono += int64(d); m.wall += int64(d) }
func (m *machine) boot() int64             { return m.mono + m.slept }

func (m *machine) suspensions() *suspensions {
	return &suspensions{
		read: func() (int64, int64) { return m.mono, m.wall },
		boot: func() int64 {
			m.asked++
			m.pass(m.before)
			defer m.pass(m.behind)
			return m.boot()
		},
	}
}

// The clock counts a suspension from the first reading after it, asks for it once, and
// never goes back.
func TestSuspensions(t *testing.T) {
	m := &machine{mono: lead + 1, slept: -int64(time.Hour), wall: 1e18, before: 200, behind: 200}
	s := m.suspensions()
	last := s.now()
	check := func(what string, asks int) {
		t.Helper()
		asked, before := m.asked, m.boot()
		now := s.now()
		if int64(now) < before-unmoved || int64(now) > m.boot()+unmoved {
			t.Fatalf("%s: it is %v off", what, time.Duration(int64(now)-before))
		}
		if now < last {
			t.Fatalf("%s: it went back by %v", what, last.Sub(now))
		}
		if n := m.asked - asked; n != asks {
			t.Fatalf("%s: CLOCK_BOOTTIME was asked %d times, want %d", what, n, asks)
		}
		last = now
	}
	check("at once", 0)
	m.pass(time.Millisecond)
	check("a moment later", 0)
	m.suspend(time.Hour)
	check("behind a suspension", 1)
	check("and again", 0)
	m.suspend(150 * time.Microsecond)
	check("behind the shortest", 1)
	m.suspend(time.Millisecond)
	m.wall -= int64(3 * time.Hour)
	check("suspended, and set", 1)
	m.wall += int64(3 * time.Hour)
	check("set", 1)
	m.pass(time.Duration(trusted))
	check("late", 1)

	// A wall clock that is set by what the suspension took hides it, but not for long.
	m.suspend(time.Minute)
	m.wall -= int64(time.Minute)
	m.pass(time.Duration(trusted))
	check("hidden", 1)

	// A reader that is held up while it reads the clocks has not slept, and the clock does not go
	// back if the next one is quicker.
	m.before = 5 * time.Millisecond
	m.pass(time.Duration(trusted))
	check("held up", 10)
	check("behind that", 0)
	m.before = 0
	m.pass(time.Duration(trusted))
	check("and no longer", 1)
	m.before = 90 * time.Microsecond
	m.wall += int64(time.Hour)
	check("slow", 1)
	check("and no longer slow", 0)
	m.before = 0
	m.wall += int64(time.Hour)
	check("quick", 1)
}

// A reader that is held up when it asks for the first time is ahead for ever, and does not go back.
func TestSuspensionsHeldUpFirst(t *testing.T) {
	m := &machine{mono: lead + 1, wall: 1e18, slept: -int64(time.Hour), before: 5 * time.Millisecond}
	s := m.suspensions()
	last := s.now()
	m.before = 0
	for range 200 {
		m.pass(100 * time.Microsecond)
		now := s.now()
		if d := now.Sub(last); d < 0 || d > 10*time.Millisecond {
			t.Fatalf("moved by %v in 0.1 ms", d)
		}
		last = now
	}
}

// A testing/synctest bubble, whose time is another, spoils nothing: neither for who is in
// it nor for who runs beside it.
func TestSuspensionsBesideABubble(t *testing.T) {
	c := System()
	steady := func(last *Instant) {
		now := c.Now()
		if d := now.Sub(*last); d < 0 || d > time.Minute {
			t.Errorf("moved by %v", d)
		}
		*last = now
	}
	stop := make(chan struct{})
	var beside sync.WaitGroup
	last := c.Now()
	beside.Go(func() {
		for {
			select {
			case <-stop:
				steady(&last)
				return
			default:
				steady(&last)
			}
		}
	})
	for range 20 {
		synctest.Test(t, func(*testing.T) {
			last := c.Now()
			for range 100 {
				time.Sleep(time.Millisecond)
				steady(&last)
			}
		})
	}
	close(stop)
	beside.Wait()
}
