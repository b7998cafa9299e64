package conform

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
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
	t.Run("identity of a node that was emptied", l.givenBack)
	t.Run("fingerprints", l.fingerprints)
	t.Run("entries", l.entries)
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

// A client that does not know the node may come first after it was emptied. What it makes up gives
// way to what another client knows, and all learn that, as long as the life is not grown.
func (l *living) givenBack(t *testing.T) {
	l.ask("FLUSHALL")
	knows := l.enrol(t)
	id := knows.state.Identity
	again := func(d *driver) {
		t.Helper()
		if r := d.do(t, node.Command{Op: node.Inspect, Name: "a"})[0]; r.Status != node.Unknown || d.state.Enrolled {
			t.Errorf("%+v", r)
		}
		for !d.state.Enrolled {
			d.batch(t)
		}
	}
	for _, grown := range []bool{false, true} {
		l.ask("FLUSHALL")
		fresh := l.enrol(t)
		made := fresh.state.Identity
		if made == id || len(made) != script.LenIdentity {
			t.Errorf("a node that was emptied is called %q, and was %q before", made, id)
		}
		if grown {
			fresh.do(t, node.Command{Op: node.Sign, Token: "1 x", Grown: true})
		}
		life := fresh.state.Life
		again(knows)
		want := map[bool]string{false: id, true: made}[grown]
		if got := l.ask("GET", script.Identity); got != want || knows.state.Identity != want || knows.state.Grown != grown {
			t.Errorf("grown %v: it is %q, and %+v: want %q", grown, got, knows.state, want)
		}
		if !grown {
			again(fresh)
		}
		if s := fresh.state; s.Identity != want || grown != (s.Life == life) {
			t.Errorf("grown %v: %+v: want %q, and life %d before", grown, s, want, life)
		}
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
	if got := l.ask("ZCARD", script.Clients); got != ":4" { // each with its beginning
		t.Errorf("%s are kept", got)
	}
}

// An entry counts since it was left first, or earlier if that is said of another node, until its
// last word is over. It began before one that comes later, whatever that holds.
func (l *living) entries(t *testing.T) {
	d := l.enrol(t)
	// sign leaves an entry, and returns the others by their texts.
	sign := func(text string, ttl, age time.Duration) map[string]node.Fingerprint {
		t.Helper()
		r := d.do(t, node.Command{Op: node.Sign, Token: text, TTL: ttl, Age: age})[0]
		if r.Status != node.OK || r.Err != nil {
			t.Fatalf("%+v", r)
		}
		all := map[string]node.Fingerprint{}
		for _, f := range node.Fingerprints(r.Value) {
			if _, ok := node.ParseEntry(f.Text); !ok || f.Since > f.Until {
				t.Errorf("%+v", f)
			}
			all[f.Text] = f
		}
		return all
	}
	l.ask("DEL", script.Clients)
	both := node.Entry{Former: three, Present: five}
	holding := both
	holding.Modes = node.InFormer | node.InBoth
	first := sign(three.String(), time.Minute, 0)[three.String()]
	if (d.state.Time - first.Since).Abs() > patience {
		t.Errorf("%+v, and the node's time is %v", first, d.state.Time)
	}
	// A relayed one began earlier, and ends earlier.
	relayed := sign(replace.String(), prepared, time.Hour)
	if f := relayed[replace.String()]; f.Since > first.Since-time.Hour+patience || f.Since < first.Since-time.Hour || (f.Until-d.state.Time-prepared).Abs() > prepared/2 {
		t.Errorf("relayed: %+v after %+v", f, first)
	}
	if f := relayed[three.String()]; f != first {
		t.Errorf("it was %+v, and is %+v", first, f)
	}
	// To leave it again, for less or as a new one, takes nothing from it.
	again := sign(replace.String(), time.Second, 0)[replace.String()]
	if again != relayed[replace.String()] {
		t.Errorf("left again: %+v, and was %+v", again, relayed[replace.String()])
	}
	earlier := sign(three.String(), time.Minute, 2*time.Hour)[three.String()]
	if ago := first.Since - earlier.Since; ago < 2*time.Hour-time.Minute || ago > 2*time.Hour {
		t.Errorf("that is older elsewhere: %+v, and was %+v", earlier, first)
	}
	// What a client holds comes and goes: it counts since it was told both.
	began := sign(both.String(), time.Minute, time.Hour)[both.String()]
	all := sign(holding.String(), time.Minute, 0)
	if f := all[holding.String()]; f.Since != began.Since {
		t.Errorf("that holds something: %+v, and of what was told: %+v", f, began)
	}
	if len(all) != 4 {
		t.Errorf("%+v", all)
	}
	// A client of an earlier state is younger than whom it finds, and older than who finds it.
	l.ask("ZADD", script.Clients, strconv.FormatInt(l.time()/1000+60_000, 10), "7 old")
	all = sign("9 new", time.Minute, 0)
	if old, young := all["7 old"], all["9 new"]; old.Since >= young.Since || old.Since <= began.Since || sign("9 new", time.Minute, 0)["7 old"] != old {
		t.Errorf("of an earlier state: %+v; before it: %+v; after it: %+v", old, began, young)
	}
	// Such a client says it again without the beginning, which the others keep for as long.
	l.ask("ZADD", script.Clients, strconv.FormatInt(l.time()/1000+90_000, 10), "7 old")
	sign("9 new", time.Minute, 0)
	ends, begins := l.ask("ZSCORE", script.Clients, "7 old"), fmt.Sprintf("@%d 7 old", all["7 old"].Since.Milliseconds())
	if got := l.ask("ZSCORE", script.Clients, begins); got != ends {
		t.Errorf("it ends at %s, and its beginning %q is forgotten at %s", ends, begins, got)
	}
	// What is over begins anew.
	short := sign("2 short", 150*time.Millisecond, time.Hour)["2 short"]
	isOver := func() bool {
		_, there := sign("9 new", time.Minute, 0)["2 short"]
		return !there
	}
	if l.target.Elapse != nil {
		l.target.Elapse(time.Second)
	}
	c := clock.Runtime()
	for end := c.Now().Add(patience); !isOver(); <-c.NewTimer(50 * time.Millisecond).C() {
		if c.Now() > end {
			t.Fatal("an entry does not end")
		}
	}
	if f := sign("2 short", time.Minute, 0)["2 short"]; f.Since <= short.Until {
		t.Errorf("after a break: %+v, and was %+v", f, short)
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
