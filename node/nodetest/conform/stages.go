package conform

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// stages are the cases of a change of the nodes, and of the floor for fences, which stand in the
// marker.
func stages(t *testing.T, target Target) {
	if slices.Contains(target.Lacks, Info) {
		return // such a server is not guarded
	}
	s := &staging{&living{target: target, client: dial(t, target)}}
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"a stage grows only", s.growsOnly},
		{"a second pair", s.secondPair},
		{"a floor grows only", s.floorGrowsOnly},
		{"a change that is undone", s.undone},
		{"a client that enrolled before", s.enrolledBefore},
		{"a node that was emptied", s.emptied},
		{"a marker that is another one", s.anotherMarker},
		{"what neither begins nor ends", s.nothingToDo},
	} {
		s.ask("FLUSHALL")
		t.Run(c.name, c.run)
	}
	s.ask("FLUSHALL")
}

type staging struct{ *living }

var (
	three   = node.Electorate{Nodes: 3, Identities: []string{"A", "B", "C"}}
	five    = node.Electorate{Nodes: 5, Identities: []string{"A", "B", "C", "D", "E"}}
	replace = node.Electorate{Nodes: 3, Identities: []string{"A", "B", "D"}}
)

func advance(stage node.Stage, former, present node.Electorate) node.Command {
	return node.Command{Op: node.Advance, Token: node.Change{Former: former, Present: present, Stage: stage}.String()}
}

// tells sends one command, checks the answer, and waits until the client is enrolled.
func (s *staging) tells(t *testing.T, d *driver, c node.Command, status node.Status, change string, floor uint64) {
	t.Helper()
	r := d.do(t, c)[0]
	if r.Status != status || r.Value != change || r.Fence != floor || status != node.Unknown && r.Err != nil {
		t.Errorf("told %q, %d: %+v: want %v, %q, %d", c.Token, c.Fence, r, status, change, floor)
	}
	s.keeps(t, d, change, floor)
}

// keeps checks what the node says of the change and the floor once the client is enrolled.
func (s *staging) keeps(t *testing.T, d *driver, change string, floor uint64) {
	t.Helper()
	for !d.state.Enrolled {
		d.batch(t)
	}
	if st := d.state; st.Change.String() != change || st.Floor != floor || st.Life != 1 {
		t.Errorf("the state is %q, %d, life %d: want %q, %d", st.Change, st.Floor, st.Life, change, floor)
	}
}

func (s *staging) growsOnly(t *testing.T) {
	d := s.enrol(t)
	s.keeps(t, d, "", 0)
	for _, c := range []struct{ told, want node.Stage }{{1, 1}, {1, 1}, {2, 2}, {1, 2}, {3, 3}, {2, 3}, {1, 3}, {3, 3}} {
		want := node.Change{Former: three, Present: five, Stage: c.want}.String()
		s.tells(t, d, advance(c.told, three, five), node.OK, want, 0)
	}
	// What a client knows that has not met all nodes is the same, and what either knows is kept.
	some := node.Electorate{Nodes: 5, Identities: []string{"B"}}
	s.tells(t, d, advance(1, node.Electorate{Nodes: 3, Identities: []string{"B"}}, some), node.OK, "3 3>5:=A,=B,=C,+D,+E", 0)
	s.ask("FLUSHALL")
	d = s.enrol(t)
	s.tells(t, d, advance(2, node.Electorate{Nodes: 3}, some), node.OK, "2 3>5:+B", 0)
	s.tells(t, d, advance(1, node.Electorate{Nodes: 3, Identities: []string{"A"}}, node.Electorate{Nodes: 5, Identities: []string{"A", "D"}}), node.OK, "2 3>5:=A,+B,+D", 0)
}

func (s *staging) secondPair(t *testing.T) {
	d := s.enrol(t)
	begun := advance(1, three, five)
	begun.Fence = 7
	s.tells(t, d, begun, node.OK, begun.Token, 7)
	second := advance(3, three, replace)
	second.Fence = 8 // nothing of it is taken
	s.tells(t, d, second, node.Other, begun.Token, 7)
	closed := advance(2, three, five)
	s.tells(t, d, closed, node.OK, closed.Token, 7)
	s.tells(t, d, advance(1, five, three), node.Other, closed.Token, 7)
	opened := advance(3, three, five)
	s.tells(t, d, opened, node.OK, opened.Token, 7)
	back := advance(1, five, three)
	s.tells(t, d, back, node.OK, back.Token, 7)
	s.tells(t, d, opened, node.Other, back.Token, 7)
}

func (s *staging) floorGrowsOnly(t *testing.T) {
	d := s.enrol(t)
	floor := func(f uint64) node.Command { return node.Command{Op: node.Advance, Fence: f} }
	s.tells(t, d, floor(10), node.OK, "", 10)
	s.tells(t, d, floor(9), node.OK, "", 10)
	s.tells(t, d, floor(100), node.OK, "", 100)
	begun := advance(1, three, five)
	begun.Fence = 20
	s.tells(t, d, begun, node.OK, begun.Token, 100)
	s.tells(t, d, floor(1<<53-1), node.OK, begun.Token, 1<<53-1)
	s.tells(t, s.enrol(t), floor(0), node.OK, begun.Token, 1<<53-1)
	if r := d.do(t, floor(1<<53))[0]; r.Status != node.Unsent {
		t.Errorf("a floor that no fence is above: %+v", r)
	}
}

// A change that is begun only can be taken back, the floor cannot.
func (s *staging) undone(t *testing.T) {
	d := s.enrol(t)
	forget := func(c node.Command) node.Command {
		c.Op = node.Forget
		return c
	}
	begun := advance(1, three, five)
	begun.Fence = 7
	s.tells(t, d, forget(begun), node.OK, "", 0)
	s.tells(t, d, begun, node.OK, begun.Token, 7)
	s.tells(t, d, forget(advance(1, five, three)), node.Other, begun.Token, 7)
	s.tells(t, d, forget(begun), node.OK, "", 7)
	s.tells(t, d, advance(1, three, replace), node.OK, advance(1, three, replace).Token, 7)
	closed := advance(2, three, replace)
	s.tells(t, d, closed, node.OK, closed.Token, 7)
	s.tells(t, d, forget(closed), node.Other, closed.Token, 7)
	// In one pipeline with others.
	s.ask("FLUSHALL")
	d = s.enrol(t)
	replies := d.do(t, begun, forget(begun), closed, forget(closed))
	for i, want := range []string{begun.Token, "", closed.Token, closed.Token} {
		if r := replies[i]; r.Value != want || r.Fence != 7 || (r.Status != node.OK) != (i == 3) {
			t.Errorf("%d: %+v: want %q", i, r, want)
		}
	}
	s.keeps(t, d, closed.Token, 7)
}

// The pipeline of the client that advances counts; that of every other one does not, and it learns
// the stage and the floor. A life goes on.
func (s *staging) enrolledBefore(t *testing.T) {
	a, b := s.enrol(t), s.enrol(t)
	a.do(t, node.Command{Op: node.Sign, Token: "3 A", Grown: true})
	opened := advance(3, three, five)
	opened.Fence = 5
	replies := a.do(t, node.Command{Op: node.Inspect, Name: "a"}, advance(1, three, five), opened, node.Command{Op: node.Grant, Name: "a"})
	for i, want := range []node.Status{node.Absent, node.OK, node.OK, node.OK} {
		if r := replies[i]; r.Status != want || r.Err != nil {
			t.Errorf("of the client that advances: %+v: want %v", r, want)
		}
	}
	s.keeps(t, a, opened.Token, 5)
	// Not even if it is about to do the same: what was run before the marker was compared is of
	// another stage than it knows.
	for _, r := range b.do(t, node.Command{Op: node.Inspect, Name: "a"}, advance(1, three, five), opened) {
		if r.Status != node.Unknown || r.Err == nil || r.Value != "" || b.state.Enrolled {
			t.Errorf("of a client that enrolled before: %+v", r)
		}
	}
	s.keeps(t, b, opened.Token, 5)
	if !a.state.Grown || !b.state.Grown {
		t.Errorf("a node is young because of a change: %+v, %+v", a.state, b.state)
	}
	// That it is told again changes nothing, and ends nothing.
	s.tells(t, b, opened, node.OK, opened.Token, 5)
	if r := a.do(t, node.Command{Op: node.Inspect, Name: "a"})[0]; r.Status != node.OK || !a.state.Enrolled {
		t.Errorf("%+v", r)
	}
	// A client with a larger MaxTTL leaves both.
	c := begin(t, s.target, "", func(c *node.Config) { c.Window, c.MaxTTL = time.Hour, 2*oursMS*time.Millisecond })
	s.keeps(t, c, opened.Token, 5)
	if got := c.state.MaxTTL; got != 2*oursMS*time.Millisecond {
		t.Errorf("the largest MaxTTL is %v", got)
	}
}

func (s *staging) emptied(t *testing.T) {
	d := s.enrol(t)
	closed := advance(2, three, five)
	closed.Fence = 5
	s.tells(t, d, closed, node.OK, closed.Token, 5)
	s.ask("FLUSHALL")
	s.keeps(t, s.enrol(t), "", 0)
	if r := d.do(t, closed)[0]; r.Status != node.Unknown || d.state.Enrolled {
		t.Errorf("over an enrolment that is over: %+v", r)
	}
	for !d.state.Enrolled {
		d.batch(t)
	}
	if st := d.state; st.Change.Stage != node.StageNone || st.Floor != 0 || st.Life != 2 {
		t.Errorf("%+v: want no stage and no floor", st)
	}
	if r := d.do(t, closed)[0]; r.Status != node.OK || r.Value != closed.Token || r.Fence != 5 {
		t.Errorf("told again: %+v", r)
	}
}

// A marker that is another one than at the enrolment is left alone: it says more than the client
// knows.
func (s *staging) anotherMarker(t *testing.T) {
	d := s.enrol(t)
	was := markerOf(d)
	for _, marker := range []string{was + "0", was + " 9", was + " 9 2 3>5:=A", ""} {
		s.ask("DEL", script.Marker)
		if marker != "" {
			s.ask("SET", script.Marker, marker)
		}
		if r := d.do(t, advance(1, three, five))[0]; r.Status != node.Unknown || r.Err == nil || d.state.Enrolled {
			t.Errorf("the marker is %q: %+v", marker, r)
		}
		if got := s.ask("GET", script.Marker); got != marker && marker != "" {
			t.Errorf("the marker was %q, and is %q", marker, got)
		}
		s.ask("SET", script.Marker, was)
		d = s.enrol(t)
	}
}

func (s *staging) nothingToDo(t *testing.T) {
	d := s.enrol(t)
	for _, text := range []string{"1 3>5", "0 3>5:", "1 3>5:=A =B", "x"} {
		if r := d.do(t, node.Command{Op: node.Advance, Token: text})[0]; r.Status != node.Unsent {
			t.Errorf("%q: %+v", text, r)
		}
	}
	was := markerOf(d)
	s.tells(t, d, node.Command{Op: node.Advance}, node.OK, "", 0)
	if got := markerOf(d); got != was {
		t.Errorf("the marker was %q, and is %q", was, got)
	}
}

// highest are the cases of the highest fence that is stored.
func highest(t *testing.T, d *driver) {
	read := func() (fences []uint64) {
		t.Helper()
		for part := uint64(0); ; {
			r := d.do(t, node.Command{Op: node.Highest, Ticket: part})[0]
			if r.Status != node.OK || r.Err != nil {
				t.Fatalf("part %d: %+v", part, r)
			}
			fences = append(fences, r.Fence)
			if part = r.Ticket; part == 0 {
				return fences
			}
		}
	}
	want := func(what string, want uint64) {
		t.Helper()
		if got := read(); slices.Max(got) != want || len(got) != script.Parts {
			t.Errorf("%s: the highest fences of %d parts are %d: want %d", what, len(got), got, want)
		}
	}
	d.ask("FLUSHALL")
	want("none is stored", 0)
	// One in each part, among smaller ones.
	names := map[int]string{}
	for i := 0; len(names) < script.Parts; i++ {
		name := fmt.Sprint("name-", i)
		names[script.Register(name)*script.Parts/script.Registers] = name
	}
	for part := range script.Parts {
		r := d.do(t, node.Command{Op: node.Grant, Name: names[part], Fence: uint64(1000 + part)})[0]
		if r.Status != node.OK {
			t.Fatalf("%+v", r)
		}
	}
	for i := range 3 * script.Parts {
		d.do(t, node.Command{Op: node.Grant, Name: fmt.Sprint("another-", i), Fence: uint64(i + 1)})
	}
	for part, got := range read() {
		if got != uint64(1000+part) {
			t.Errorf("the highest fence of part %d is %d: want %d", part, got, 1000+part)
		}
	}
	// The first and the last register, and those of two parts beside each other; the largest fence,
	// and what is none.
	const perPart = script.Registers / script.Parts
	var keys []string
	for i, register := range []int{perPart - 1, perPart, 0, script.Registers - 1} {
		name := ""
		for k := 0; name == "" || script.Register(name) != register; k++ {
			name = fmt.Sprint("in-", k)
		}
		keys = append(keys, script.FenceKey(name))
		d.ask("ZADD", keys[i], strconv.Itoa(5000+i), script.Member)
		want(fmt.Sprint("in register ", register), uint64(5000+i))
	}
	first, last := keys[2], keys[3]
	d.ask("ZADD", first, "9007199254740991", script.Member)
	want("the largest", 1<<53-1)
	d.ask("DEL", first)
	d.ask("ZADD", first, "7000", "another")
	want("another member", 5003)
	d.ask("DEL", first)
	d.ask("SET", first, "text")
	want("another type", 5003)
	d.ask("PEXPIRE", last, "5")
	gone(t, d.Target, d.client, last, 5*time.Millisecond)
	want("what has expired", 5001)
	for _, part := range []uint64{script.Parts, 1 << 40} {
		if r := d.do(t, node.Command{Op: node.Highest, Ticket: part})[0]; r.Status != node.Unsent {
			t.Errorf("part %d: %+v", part, r)
		}
	}
	// It goes with others.
	replies := d.do(t, node.Command{Op: node.Inspect, Name: names[0]}, node.Command{Op: node.Highest},
		node.Command{Op: node.Highest, Ticket: 1}, node.Command{Op: node.Inspect, Name: names[1]})
	if replies[1].Fence != 5000 || replies[2].Fence != 5001 || replies[0].Status != node.OK || replies[3].Value != token {
		t.Errorf("%+v", replies)
	}
}
