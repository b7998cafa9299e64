package conform

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// lives are the cases of what an enrolment makes of a marker that it finds, and of what
// belongs to it.
func lives(t *testing.T, target Target) {
	if slices.Contains(target.Lacks, Info) {
		return // such a server is not guarded
	}
	const ours, hour = 20_000, int64(time.Hour / time.Microsecond)
	client := dial(t, target)
	ask(client, "FLUSHALL")
	enrol := func() *driver {
		return begin(t, target, "", func(c *node.Config) { c.Window, c.MaxTTL = 100*time.Hour, ours*time.Millisecond })
	}
	incarnation, _, _ := strings.Cut(markerOf(enrol()), " ")
	const second = time.Second
	time := func() int64 {
		var sec, usec int64
		fmt.Sscanf(ask(client, "TIME"), "[%d %d]", &sec, &usec)
		return sec*1e6 + usec
	}
	before := time() - hour

	const none, same, other, first = "none", "the same", "another", "of the first edition"
	for _, c := range []struct {
		marker string
		maxTTL int64  // of the marker
		grown  string // which life is: none, the one of the marker, another

		kept       bool // since when
		wantGrown  bool
		wantMaxTTL int64
	}{
		{marker: none, grown: none, wantMaxTTL: ours},
		{marker: none, grown: same, wantMaxTTL: ours}, // the marker alone was lost
		{marker: same, maxTTL: ours, grown: none, kept: true, wantMaxTTL: ours},
		{marker: same, maxTTL: ours, grown: same, kept: true, wantGrown: true, wantMaxTTL: ours},
		{marker: same, maxTTL: ours, grown: other, kept: true, wantMaxTTL: ours},
		{marker: same, maxTTL: ours - 1, grown: same, kept: true, wantGrown: true, wantMaxTTL: ours},
		{marker: same, maxTTL: ours + 1, grown: same, kept: true, wantGrown: true, wantMaxTTL: ours + 1},
		{marker: same, maxTTL: 100_000, grown: same, kept: true, wantGrown: true, wantMaxTTL: 100_000},
		{marker: same, maxTTL: 3000, grown: same, kept: true, wantGrown: true, wantMaxTTL: ours}, // compared as numbers
		{marker: first, grown: none, kept: true, wantMaxTTL: ours},
		{marker: first, grown: same, kept: true, wantGrown: true, wantMaxTTL: ours},
		{marker: other, maxTTL: 100_000, grown: same, wantMaxTTL: 100_000},
		{marker: other, maxTTL: 1, grown: same, wantMaxTTL: ours},
	} {
		t.Run(fmt.Sprintf("marker %s of %d, grown %s", c.marker, c.maxTTL, c.grown), func(t *testing.T) {
			ask(client, "DEL", script.Marker, script.Grown)
			life := incarnation + " " + strconv.FormatInt(before, 10)
			switch c.marker {
			case same:
				ask(client, "SET", script.Marker, fmt.Sprint(life, " ", c.maxTTL))
			case first:
				ask(client, "SET", script.Marker, life)
			case other:
				life = strings.Replace(life, "/", "/0", 1)
				ask(client, "SET", script.Marker, fmt.Sprint(life, " ", c.maxTTL))
			}
			switch c.grown {
			case same:
				ask(client, "SET", script.Grown, life)
			case other:
				ask(client, "SET", script.Grown, incarnation+" "+strconv.FormatInt(before-1, 10))
			}
			from := time()
			d := enrol()
			var run string
			var since, maxTTL int64
			if _, err := fmt.Sscanf(markerOf(d), "%s %d %d", &run, &since, &maxTTL); err != nil {
				t.Fatalf("the marker is %q: %v", markerOf(d), err)
			}
			if run != incarnation || maxTTL != c.wantMaxTTL || c.kept != (since == before) || !c.kept && (since < from || since > time()) {
				t.Errorf("the marker is %q: want it since %v, kept: %v, with %d", markerOf(d), before, c.kept, c.wantMaxTTL)
			}
			if s := d.state; s.Grown != c.wantGrown || s.MaxTTL.Milliseconds() != c.wantMaxTTL {
				t.Errorf("%+v: want grown %v", s, c.wantGrown)
			}
		})
	}

	t.Run("grown of another life", func(t *testing.T) {
		d := enrol()
		for _, what := range []string{"lost", "later", "cut off", "longer"} {
			text := map[string]string{
				"later":   incarnation + " " + strconv.FormatInt(before+1, 10) + " 5",
				"cut off": incarnation,
				"longer":  markerOf(d) + "0", // the MaxTTL alone is another
			}[what]
			ask(client, "DEL", script.Marker, script.Grown)
			if text != "" {
				ask(client, "SET", script.Marker, text)
			}
			// The session still has the life from before.
			r := d.do(t, node.Command{Op: node.Sign, Grown: true, Token: "1 x"})[0]
			if r.Status != node.Unknown {
				t.Errorf("%s: %+v", what, r)
			}
			if got, want := ask(client, "EXISTS", script.Grown), map[bool]string{true: ":1", false: ":0"}[what == "longer"]; got != want {
				t.Errorf("%s: grown is there: %s, want %s", what, got, want)
			}
			d = enrol()
		}
	})

	t.Run("identity", func(t *testing.T) {
		d := enrol()
		id := d.state.Identity
		ask(client, "DEL", script.Identity, script.Marker)
		if r := d.do(t, node.Command{Op: node.Inspect, Name: "a"})[0]; r.Status != node.Unknown {
			t.Errorf("%+v", r)
		}
		for !d.state.Enrolled {
			d.batch(t)
		}
		if got := ask(client, "GET", script.Identity); got != id || d.state.Identity != id {
			t.Errorf("it is %q, and was %q", got, id)
		}
		if got := ask(client, "PTTL", script.Identity); got != ":-1" {
			t.Errorf("it is kept for %s", got)
		}
		ask(client, "SET", script.Identity, "SOMEBODY")
		if got := enrol().state.Identity; got != "SOMEBODY" {
			t.Errorf("%q: want the one that is there", got)
		}
	})

	// They age by the node's clock, one by one, and none goes earlier because it is left
	// for less.
	t.Run("fingerprints", func(t *testing.T) {
		d := enrol()
		score := func(d int64) string { return strconv.FormatInt(time()/1000+d, 10) }
		ask(client, "DEL", script.Clients)
		ask(client, "ZADD", script.Clients, score(-1), "1 old", score(60_000), "2 alive", score(60_000), "3 ours")
		r := d.do(t, node.Command{Op: node.Sign, Token: "3 ours"})[0] // for 20 s
		var texts []string
		for _, f := range node.Fingerprints(r.Value) {
			texts = append(texts, f.Text)
			if !near(f.Until-d.state.Time, 60*second) {
				t.Errorf("%s until %v after now", f.Text, f.Until-d.state.Time)
			}
		}
		slices.Sort(texts)
		if !slices.Equal(texts, []string{"2 alive", "3 ours"}) {
			t.Errorf("%q", texts)
		}
		if got := ask(client, "ZCARD", script.Clients); got != ":2" {
			t.Errorf("%s are kept", got)
		}
	})
	ask(client, "FLUSHALL")
}

func markerOf(d *driver) string { return d.ask("GET", script.Marker) }

// adoptions are cases that the table of commands has no room for.
func adoptions(t *testing.T, d *driver) {
	adopt := func(name, former, token string) node.Reply {
		r := d.do(t, node.Command{Op: node.Adopt, Name: name, Former: former, Token: token})[0]
		r.ID = 0
		return r
	}
	// It shortens no expiry: its former holder may count on it.
	d.ask("SET", "long", rival, "PX", "60000")
	r := adopt("long", rival, token)
	if r.Status != node.OK || !near(r.Left, time.Minute) {
		t.Errorf("%+v", r)
	}
	d.lookTTL(t, "long", true, time.Minute)
	// That its own token has it does not tell for how long the former one would have.
	if r := adopt("long", rival, token); r.Status != node.OK || r.Left != 0 {
		t.Errorf("%+v", r)
	}
	// Nobody else's token is swapped, nor is it by a former one that is swapped already.
	if r := adopt("long", rival, "owner/3"); r.Status != node.Other || r.Value != token {
		t.Errorf("%+v", r)
	}
	d.look(t, "long", ours, time.Minute)
	d.ask("DEL", "long", script.FenceKey("long"))
	// One that was swapped before is found by its own token.
	if r := adopt("long", rival, token); r.Status != node.Absent || d.ask("EXISTS", script.FenceKey("long")) != ":0" {
		t.Errorf("%+v", r)
	}
}
