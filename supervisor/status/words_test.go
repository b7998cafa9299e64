package status

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/supervisor"
)

func TestShowSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0 µs",
		900 * time.Nanosecond:   "0 µs",
		421 * time.Microsecond:  "421 µs",
		1234 * time.Microsecond: "1.2 ms",
		-3 * time.Millisecond:   "−3.0 ms",
		62 * time.Millisecond:   "62 ms",
		6699 * time.Millisecond: "6.6 s",
		42 * time.Second:        "42 s",
		63 * time.Second:        "1 min 03 s",
		time.Hour:               "1 h 00 min",
		47*time.Hour + 59*time.Minute + 59*time.Second: "47 h 59 min",
		50 * time.Hour: "2 d 2 h",
	} {
		if got := showSpan(span(d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestShowAge(t *testing.T) {
	r := &report{Time: time.Unix(1_000_000, 0)}
	for back, want := range map[time.Duration]string{0: "now", -time.Hour: "now", 999 * time.Millisecond: "now", time.Second: "1.0 s", 90 * time.Second: "1 min 30 s"} {
		if got := r.showAge(r.Time.Add(-back)); got != want {
			t.Errorf("%v ago: %q, want %q", back, got, want)
		}
	}
	if got := r.showAge(time.Time{}); got != "" {
		t.Errorf("a time that is not known: %q", got)
	}
}

// Only an outage of the nodes leaves the supervisor alive.
func TestIsAlive(t *testing.T) {
	outage := fmt.Errorf("%w: 1 of 3", supervisor.ErrNoQuorum)
	late := errors.New("what was due was not done")
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, true},
		{fmt.Errorf("not healthy: %w", errors.Join(outage)), true},
		{fmt.Errorf("not healthy: %w", errors.Join(outage, late)), false},
		{fmt.Errorf("not healthy: %w", errors.Join(late)), false},
		{fmt.Errorf("not healthy: %w", supervisor.ErrClosed), false},
		{late, false},
	} {
		if got := isAlive(test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
	}
}

func TestLate(t *testing.T) {
	for _, test := range []struct {
		left, longest span
		late          bool
		part          string
	}{{10, 10, false, "100.0"}, {5, 10, false, "50.0"}, {4, 10, true, "40.0"}, {0, 0, false, "0"}} {
		l := leaseReport{Left: test.left, Longest: test.longest}
		if l.late() != test.late || l.part() != test.part {
			t.Errorf("%+v: %v, %s", test, l.late(), l.part())
		}
	}
}
