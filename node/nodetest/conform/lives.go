package conform

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// lives are the cases of what an enrolment makes of a marker that it finds, and of what
// belongs to it.
func lives(t *testing.T, target Target) {
	if slices.Contains(target.Lacks, Info) {
		return // such a server is not guarded
	}
	l := &living{target: target, client: dial(t, target)}
	l.ask("FLUSHALL")
	l.incarnation, _, _ = strings.Cut(markerOf(l.enrol(t)), " ")
	l.before = l.time() - time.Hour.Microseconds()
	for _, c := range found {
		t.Run(fmt.Sprintf("marker %s of %d%s, grown %s", c.marker, c.maxTTL, c.more, c.grown), func(t *testing.T) { l.finds(t, c) })
	}
	t.Run("grown of another life", l.grownOfAnother)
	t.Run("identity", l.identity)
	t.Run("fingerprints", l.fingerprints)
	l.ask("FLUSHALL")
}

// oursMS is the MaxTTL of the clients that enrol.
const oursMS = 20_000

// A living is a server, and what it is called.
type living struct {
	target      Target
	client      rueidis.Client
	incarnation string
	before      int64 // an hour ago, in the server's µs
}

func (l *living) ask(args ...string) string { return ask(l.client, args...) }

func (l *living) enrol(t *testing.T) *driver {
	t.Helper()
	return begin(t, l.target, "", func(c *node.Config) { c.Window, c.MaxTTL = 100*time.Hour, oursMS*time.Millisecond })
}

// time is the server's, in µs.
func (l *living) time() int64 {
	var sec, usec int64
	fmt.Sscanf(l.ask("TIME"), "[%d %d]", &sec, &usec)
	return sec*1e6 + usec
}

// What is found is nothing, or of the life that it is, of another, or of the first edition.
const noLife, same, another, first = "none", "the same", "another", "of the first edition"

// A finding is what a server has of its life before an enrolment, and what of it is left.
type finding struct {
	marker string
	maxTTL int64  // of the marker
	more   string // which follows in the marker
	grown  string // which life is: none, the one of the marker, another

	kept       bool // since when
	wantGrown  bool
	wantMaxTTL int64
	lost       bool // what follows
}

var found = []finding{
	{marker: noLife, grown: noLife, wantMaxTTL: oursMS},
	{marker: noLife, grown: same, wantMaxTTL: oursMS}, // the marker alone was lost
	{marker: same, maxTTL: oursMS, grown: noLife, kept: true, wantMaxTTL: oursMS},
	{marker: same, maxTTL: oursMS, grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS},
	{marker: same, maxTTL: oursMS, grown: another, kept: true, wantMaxTTL: oursMS},
	{marker: same, maxTTL: oursMS - 1, grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS},
	{marker: same, maxTTL: oursMS + 1, grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS + 1},
	{marker: same, maxTTL: 100_000, grown: same, kept: true, wantGrown: true, wantMaxTTL: 100_000},
	{marker: same, maxTTL: 3000, grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS}, // compared as numbers
	{marker: first, grown: noLife, kept: true, wantMaxTTL: oursMS},
	{marker: first, grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS},
	{marker: another, maxTTL: 100_000, grown: same, wantMaxTTL: 100_000},
	{marker: another, maxTTL: 1, grown: same, wantMaxTTL: oursMS},
	{marker: same, maxTTL: oursMS, more: " 9", grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS},
	{marker: same, maxTTL: oursMS, more: " 0 1 3>5:=A", grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS},
	{marker: same, maxTTL: 1, more: " 9 2 3>5:=A,+D", grown: same, kept: true, wantGrown: true, wantMaxTTL: oursMS},
	{marker: another, maxTTL: 100_000, more: " 9 3 3>5:=A,+D", grown: same, wantMaxTTL: 100_000},
	{marker: another, maxTTL: 1, more: " 9", grown: same, wantMaxTTL: oursMS},
	{marker: same, maxTTL: 100_000, more: " 9 ", grown: same, wantMaxTTL: oursMS, lost: true}, // as if there was none
	{marker: same, maxTTL: 100_000, more: " 9 4 3>5:=A", grown: same, wantMaxTTL: oursMS, lost: true},
	{marker: same, maxTTL: 100_000, more: " 9 1 3>5:=A x", grown: same, wantMaxTTL: oursMS, lost: true},
	{marker: same, maxTTL: 100_000, more: " x 1 3>5:=A", grown: same, wantMaxTTL: oursMS, lost: true},
}

// prepare leaves on the server what is to be found.
func (l *living) prepare(c finding) {
	l.ask("DEL", script.Marker, script.Grown)
	life := l.incarnation + " " + strconv.FormatInt(l.before, 10)
	switch c.marker {
	case same:
		l.ask("SET", script.Marker, fmt.Sprint(life, " ", c.maxTTL, c.more))
	case first:
		l.ask("SET", script.Marker, life)
	case another:
		life = strings.Replace(life, "/", "/0", 1)
		l.ask("SET", script.Marker, fmt.Sprint(life, " ", c.maxTTL, c.more))
	}
	switch c.grown {
	case same:
		l.ask("SET", script.Grown, life)
	case another:
		l.ask("SET", script.Grown, l.incarnation+" "+strconv.FormatInt(l.before-1, 10))
	}
}

func (l *living) finds(t *testing.T, c finding) {
	l.prepare(c)
	from := l.time()
	d := l.enrol(t)
	var run string
	var since, maxTTL int64
	if _, err := fmt.Sscanf(markerOf(d), "%s %d %d", &run, &since, &maxTTL); err != nil {
		t.Fatalf("the marker is %q: %v", markerOf(d), err)
	}
	low, high := from, l.time() // it begins now, unless it is known
	if c.kept {
		low, high = l.before, l.before
	}
	if run != l.incarnation || maxTTL != c.wantMaxTTL || since < low || since > high {
		t.Errorf("the marker is %q: want it since %v, kept: %v, with %d", markerOf(d), l.before, c.kept, c.wantMaxTTL)
	}
	wantMore := c.more
	if c.lost {
		wantMore = ""
	}
	if _, more, _ := strings.Cut(markerOf(d), fmt.Sprint(" ", maxTTL)); more != wantMore {
		t.Errorf("the marker is %q: want %q at its end", markerOf(d), wantMore)
	}
	if s := d.state; s.Grown != c.wantGrown || s.MaxTTL.Milliseconds() != c.wantMaxTTL {
		t.Errorf("%+v: want grown %v", s, c.wantGrown)
	}
}

func (l *living) grownOfAnother(t *testing.T) {
	d := l.enrol(t)
	for _, what := range []string{"lost", "later", "cut off", "longer"} {
		text := map[string]string{
			"later":   l.incarnation + " " + strconv.FormatInt(l.before+1, 10) + " 5",
			"cut off": l.incarnation,
			"longer":  markerOf(d) + "0", // the MaxTTL alone is another
		}[what]
		l.ask("DEL", script.Marker, script.Grown)
		if text != "" {
			l.ask("SET", script.Marker, text)
		}
		// The session still has the life from l.before.
		r := d.do(t, node.Command{Op: node.Sign, Grown: true, Token: "1 x"})[0]
		if r.Status != node.Unknown {
			t.Errorf("%s: %+v", what, r)
		}
		if got, want := l.ask("EXISTS", script.Grown), map[bool]string{true: ":1", false: ":0"}[what == "longer"]; got != want {
			t.Errorf("%s: grown is there: %s, want %s", what, got, want)
		}
		d = l.enrol(t)
	}
}

func (l *living) identity(t *testing.T) {
	d := l.enrol(t)
	id := d.state.Identity
	l.ask("DEL", script.Identity, script.Marker)
	if r := d.do(t, node.Command{Op: node.Inspect, Name: "a"})[0]; r.Status != node.Unknown {
		t.Errorf("%+v", r)
	}
	for !d.state.Enrolled {
		d.batch(t)
	}
	if got := l.ask("GET", script.Identity); got != id || d.state.Identity != id {
		t.Errorf("it is %q, and was %q", got, id)
	}
	if got := l.ask("PTTL", script.Identity); got != ":-1" {
		t.Errorf("it is kept for %s", got)
	}
	l.ask("SET", script.Identity, "SOMEBODY")
	if got := l.enrol(t).state.Identity; got != "SOMEBODY" {
		t.Errorf("%q: want the one that is there", got)
	}
}

// They age by the node's clock, one by one, and none goes earlier because it is left
// for less.
func (l *living) fingerprints(t *testing.T) {
	d := l.enrol(t)
	score := func(d int64) string { return strconv.FormatInt(l.time()/1000+d, 10) }
	l.ask("DEL", script.Clients)
	l.ask("ZADD", script.Clients, score(-1), "1 old", score(60_000), "2 alive", score(60_000), "3 ours")
	r := d.do(t, node.Command{Op: node.Sign, Token: "3 ours"})[0] // for 20 s
	var texts []string
	for _, f := range node.Fingerprints(r.Value) {
		texts = append(texts, f.Text)
		if !near(f.Until-d.state.Time, time.Minute) {
			t.Errorf("%s until %v after now", f.Text, f.Until-d.state.Time)
		}
	}
	slices.Sort(texts)
	if !slices.Equal(texts, []string{"2 alive", "3 ours"}) {
		t.Errorf("%q", texts)
	}
	if got := l.ask("ZCARD", script.Clients); got != ":2" {
		t.Errorf("%s are kept", got)
	}
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
	d.look(t, "long", fenced, time.Minute)
	d.ask("SET", "told", rival+"+7", "PX", "60000")
	if r := adopt("told", rival, token); r.Status != node.OK {
		t.Errorf("a key that tells its fence: %+v", r)
	}
	d.look(t, "told", fenced, time.Minute)
	d.ask("DEL", "long", script.FenceKey("long"))
	// One that was swapped before is found by its own token.
	if r := adopt("long", rival, token); r.Status != node.Absent || d.ask("EXISTS", script.FenceKey("long")) != ":0" {
		t.Errorf("%+v", r)
	}
}
