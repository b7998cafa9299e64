package cluster

import (
	"fmt"
	"testing"
	"time"
)

// A server's clock can be set while it runs, back too, and is still so after a restart:
// TIME shows it, and keys die by it.
func TestClocked(t *testing.T) {
	list, err := OpenClocked(t, 2)
	if err != nil {
		t.Skipf("left out: %v", err)
	}
	s, other := list[0], list[1]
	ahead := func(s Server, ahead time.Duration) {
		t.Helper()
		answer, err := s.Do("TIME")
		var sec, usec int64
		if clock, _ := answer.([]any); len(clock) == 2 {
			fmt.Sscanln(fmt.Sprintln(clock...), &sec, &usec)
		}
		off := time.Until(time.Unix(sec, usec*1000).Add(-ahead))
		if err != nil || off.Abs() > time.Second {
			t.Errorf("TIME is %v, %v, which is off by %v", answer, err, off)
		}
	}
	ahead(s, 0)
	want(t, s, "OK", "set", "dies", "x", "px", "20000")
	want(t, s, "OK", "set", "lives", "x", "px", "60000")
	s.SetAhead(30 * time.Second)
	ahead(s, 30*time.Second)
	ahead(other, 0)
	want(t, s, nil, "get", "dies")
	want(t, s, "x", "get", "lives")
	want(t, s, "PONG", "ping")
	s.Kill()
	s.Start()
	ahead(s, 30*time.Second)
	s.SetAhead(-2 * time.Hour)
	ahead(s, -2*time.Hour)
	s.SetAhead(0)
	ahead(s, 0)
}
