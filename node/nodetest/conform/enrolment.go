package conform

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// enrolment are the cases of a node that forgets, and of what its clients leave on it.
func enrolment(t *testing.T, target Target) {
	if slices.Contains(target.Lacks, Info) {
		return // such a server is not guarded
	}
	guarded := func(maxTTL time.Duration) func(*node.Config) {
		return func(c *node.Config) { c.Window, c.MaxTTL = time.Minute, maxTTL }
	}
	ask(dial(t, target), "FLUSHALL")
	a := begin(t, target, "", guarded(ttl))
	again := func(d *driver) {
		t.Helper()
		if r := d.do(t, node.Command{Op: node.Inspect, Name: "a"})[0]; r.Status != node.Unknown || d.state.Enrolled {
			t.Errorf("over an enrolment that is over: %+v", r)
		}
		for !d.state.Enrolled {
			d.batch(t)
		}
	}
	want := func(d *driver, life uint32, grown bool, maxTTL time.Duration) {
		t.Helper()
		s := d.state
		if !s.Guarded || s.Life != life || s.Grown != grown || s.MaxTTL != maxTTL || s.Age > patience ||
			s.Run == "" || s.Identity != a.state.Identity || s.Identity != d.ask("GET", script.Identity) {
			t.Errorf("%+v: want life %d, grown %v, MaxTTL %v", s, life, grown, maxTTL)
		}
	}
	status := func(d *driver, c node.Command, want node.Status) {
		t.Helper()
		if r := d.do(t, c)[0]; r.Status != want {
			t.Errorf("%v: %+v: want %v", c.Op, r, want)
		}
	}
	grant := node.Command{Op: node.Grant, Name: "a"}
	want(a, 1, false, ttl)
	status(a, grant, node.Unsent)

	b := begin(t, target, "", guarded(2*ttl))
	want(b, 1, false, 2*ttl)
	again(a)
	want(a, 1, false, 2*ttl)

	// The pipeline has read the node's TIME before the entries were written.
	const early = prepared / 4
	replies := a.do(t,
		node.Command{Op: node.Sign, Token: "3 x,y"},
		node.Command{Op: node.Sign, Token: "5 x,y", TTL: ttl / 2, Grown: true},
		grant)
	all := node.Fingerprints(replies[1].Value)
	if len(all) != 2 || all[0].Text != "3 x,y" || all[1].Text != "5 x,y" ||
		!near(all[0].Until-a.state.Time-early, ttl) || !near(all[1].Until-a.state.Time-early, ttl/2) {
		t.Errorf("%+v, %+v", replies[1], all)
	}
	a.lookTTL(t, script.Clients, true, ttl)
	if replies[2].Status != node.OK {
		t.Errorf("behind that the node grew: %+v", replies[2])
	}
	want(a, 1, true, 2*ttl)
	if marker, life := a.ask("GET", script.Marker), a.ask("GET", script.Grown); !strings.HasPrefix(marker, life+" ") {
		t.Errorf("the marker is %q, and grown is %q", marker, life)
	}
	want(begin(t, target, "", guarded(ttl)), 1, true, 2*ttl)

	// Who knew its identity gives it back.
	a.ask("FLUSHALL")
	again(a)
	want(a, 2, false, ttl)
	status(a, grant, node.Unsent)
	again(b)
	want(b, 2, false, 2*ttl)
	a.ask("FLUSHALL")
}
