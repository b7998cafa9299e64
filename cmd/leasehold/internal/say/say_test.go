package say_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/supervisor"
)

var holdings = []struct {
	name   string
	h      supervisor.Holding
	line   string
	holder string
}{
	{"a lease", supervisor.Holding{Held: true, Kind: supervisor.KeyLease, Owner: "alpha:1", Left: time.Second},
		"held by alpha:1 for 1s unless renewed", "alpha:1"},
	// What another client has written into the key breaks neither the line nor the terminal.
	{"an owner who is evil", supervisor.Holding{Held: true, Owner: "evil\x1b[2J\nfree", Left: time.Second},
		"held by evil [2J free for 1s unless renewed", "evil [2J free"},
	{"one who has left", supervisor.Holding{Held: true, Vacated: true, Kind: supervisor.KeyLease, Owner: "me", Left: time.Minute},
		"left by me, free in 1m0s", "me, who has left it"},
	{"another library", supervisor.Holding{Held: true, Kind: supervisor.KeyForeign, NoExpiry: true},
		"held by a client of another library with no expiry", "a client of another library"},
	{"a list", supervisor.Holding{Kind: supervisor.KeyOther},
		"taken by another kind of value than a lock: no client gets the name until the key is deleted", "another kind of value"},
	{"a reservation", supervisor.Holding{Kind: supervisor.KeyReserved},
		"reserved for the first in line, which has yet to claim it", "nobody yet: it is handed over"},
	{"several libraries", supervisor.Holding{Kind: supervisor.KeyForeign},
		"clients of another library, none by a quorum", "clients of another library, none by a quorum"},
	{"nobody", supervisor.Holding{Free: true}, "free", "nobody"},
	{"an election", supervisor.Holding{}, "not clear: no quorum says the same", "not clear: no quorum says the same"},
	{"an outage", supervisor.Holding{Err: errors.New("no\x1b quorum")}, "not known: no quorum", "not known"},
}

func TestHolding(t *testing.T) {
	for _, c := range holdings {
		if got := say.Holding(c.h); got != c.line {
			t.Errorf("%s: %q, want %q", c.name, got, c.line)
		}
		if got := say.Holder(c.h); got != c.holder {
			t.Errorf("%s: the holder is %q, want %q", c.name, got, c.holder)
		}
	}
	h := supervisor.Holding{Held: true, Owner: "a", Left: time.Second, Fence: 1764547200000000, Since: time.UnixMicro(1764547200000000)}
	if got := say.Holding(h); !strings.Contains(got, ", since 20") || !strings.HasSuffix(got, ", fence 1764547200000000") {
		t.Error(got)
	}
}

func TestAnswer(t *testing.T) {
	for want, a := range map[string]supervisor.Answer{
		"a: held by b for at most 1s":                           {Kind: supervisor.KeyLease, Owner: "b", Left: time.Second, LeftKnown: true},
		"a: held by a client of another library for at most 1s": {Kind: supervisor.KeyForeign, Left: time.Second, LeftKnown: true},
		"a: another kind of value, with no expiry":              {Kind: supervisor.KeyOther, NoExpiry: true},
		"a: reserved for the first in line for at most 1s":      {Kind: supervisor.KeyReserved, Left: time.Second, LeftKnown: true},
	} {
		a.Node, a.Verdict = "a", supervisor.VerdictHeld
		if got := say.Answer(a); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	now := time.UnixMicro(1764547200000000)
	var b strings.Builder
	err := say.Table(&b, say.Columns,
		say.Row(supervisor.Holding{Name: "nightly", Held: true, Owner: "alpha", Since: now.Add(-90 * time.Second), Fence: 17, Waiting: 3}, now),
		say.Row(supervisor.Holding{Name: "bad\nname", Held: true, NoExpiry: true}, now),
		say.Row(supervisor.Holding{Name: "gone", Err: errors.New("no quorum")}, now))
	lines := strings.Split(b.String(), "\n")
	if err != nil || len(lines) != 5 || !strings.Contains(lines[1], "1m30s") || !strings.HasPrefix(lines[2], "bad name  a client of another library") ||
		strings.Fields(lines[1])[5] != "3" || strings.Fields(lines[3])[1]+strings.Fields(lines[3])[5] != "not-" {
		t.Errorf("%s%v", &b, err)
	}
}

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"1.5s": 1500 * time.Millisecond, "2µs": 2100 * time.Nanosecond, "12.3ms": 12345 * time.Microsecond, "-1.23ms": -1234 * time.Microsecond,
		"12.3s": 12345 * time.Millisecond, "1m2s": 62300 * time.Millisecond, "47h59m0s": 48*time.Hour - time.Minute, "3d2h": 74*time.Hour + time.Minute,
	} {
		if got := say.Span(d).String(); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
		if b, err := json.Marshal(say.Span(d)); err != nil || string(b) != `"`+d.String()+`"` {
			t.Errorf("%s, %v", b, err)
		}
	}
}

func TestWith(t *testing.T) {
	b, err := say.With(supervisor.Holding{Name: "x", Free: true}, "Time", "now")
	if want := `{"Time":"now","Name":"x","Held":false,"Free":true,"Waiting":0,"Nodes":null}`; err != nil || string(b) != want {
		t.Errorf("%s, %v, want %s", b, err, want)
	}
}
