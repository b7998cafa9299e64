package conform

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// changes are the cases of keys that somebody else touches.
func changes(t *testing.T, d *driver) {
	if want := !slices.Contains(d.Lacks, Tracking); d.tracks != want {
		t.Fatalf("Tracks is %v: want %v", d.tracks, want)
	}
	if !d.tracks {
		return
	}
	tr := tracking{d}
	t.Run("renewed", tr.ofRenewed)
	t.Run("expired", tr.ofExpired)
	t.Run("inspected", tr.ofInspected)
	t.Run("many names", tr.ofMany)
	t.Run("everything", tr.ofAll)
}

// tracking is a process that is told what becomes of keys.
type tracking struct{ *driver }

func (d tracking) is(t *testing.T, c node.Command, want node.Status) {
	t.Helper()
	if r := d.one(t, c); r.Status != want {
		t.Fatalf("%v: %+v: want %v", c.Op, r, want)
	}
}

// told waits for the news that a key was changed.
func (d tracking) told(t *testing.T, key string) {
	t.Helper()
	d.hear(t, node.Wake{Key: key})
}

// toldNoMore checks that nothing more is told. A key that was touched last is heard of
// last: after it nothing is missing.
func (d tracking) toldNoMore(t *testing.T) {
	t.Helper()
	d.is(t, node.Command{Op: node.Inspect, Name: "last", Track: true}, node.Absent)
	d.ask("SET", "last", "1")
	d.told(t, "last")
	d.ask("DEL", "last")
}

func (d tracking) ofRenewed(t *testing.T) {
	for i, touch := range [][]string{{"DEL", "a"}, {"SET", "a", rival}, {"PEXPIRE", "a", "5000"}, {"PEXPIRE", "a", "0"}} {
		d.ask("DEL", "a")
		d.is(t, node.Command{Op: node.Grant, Name: "a"}, node.OK)
		for range 3 { // which is a change itself
			d.is(t, node.Command{Op: node.Renew, Name: "a"}, node.OK)
		}
		d.ask("SCRIPT", "FLUSH")
		d.is(t, node.Command{Op: node.Renew, Name: "a"}, node.OK)
		d.toldNoMore(t)
		d.ask(touch...)
		d.told(t, "a")
		d.ask("SET", "a", fmt.Sprint(i)) // that is told once
		d.toldNoMore(t)
	}
}

func (d tracking) ofExpired(t *testing.T) {
	short := 150 * time.Millisecond
	d.ask("DEL", "a")
	d.is(t, node.Command{Op: node.Grant, Name: "a"}, node.OK)
	d.is(t, node.Command{Op: node.Renew, Name: "a", TTL: short}, node.OK)
	gone(t, d.Target, d.client, "a", short)
	d.told(t, "a")
}

func (d tracking) ofInspected(t *testing.T) {
	d.ask("SET", "a", rival)
	d.is(t, node.Command{Op: node.Inspect, Name: "a"}, node.OK)
	d.ask("DEL", "a")
	d.toldNoMore(t)
	d.is(t, node.Command{Op: node.Inspect, Name: "a", Track: true}, node.Absent)
	d.ask("SET", "a", rival)
	d.told(t, "a")
	replies := d.do(t, node.Command{Op: node.Inspect, Name: "a", Track: true}, node.Command{Op: node.Inspect, Name: "b"},
		node.Command{Op: node.Inspect, Name: "c", Track: true})
	if len(replies) != 3 {
		t.Fatal(replies)
	}
	d.ask("SET", "b", "1")
	d.ask("SET", "c", "1")
	d.told(t, "c")
	d.ask("ZADD", script.FenceKey("a"), "5", script.Member) // of which nothing is told
	d.ask("DEL", "a")
	d.told(t, "a")
	d.toldNoMore(t)
}

func (d tracking) ofMany(t *testing.T) {
	var commands []node.Command
	names := map[string]bool{}
	for i := range 2*script.MaxNames + 3 {
		names[fmt.Sprint("many-", i)] = true
	}
	for _, op := range []node.Op{node.Grant, node.Renew} {
		for name := range names {
			commands = append(commands, node.Command{Op: op, Name: name})
		}
	}
	d.do(t, commands...)
	d.toldNoMore(t)
	for name := range names {
		d.ask("DEL", name)
	}
	for range len(names) {
		w := d.next(t)
		if !names[w.Key] {
			t.Fatalf("%+v", w)
		}
		delete(names, w.Key)
	}
	d.toldNoMore(t)
}

func (d tracking) ofAll(t *testing.T) {
	d.is(t, node.Command{Op: node.Grant, Name: "x"}, node.OK)
	d.is(t, node.Command{Op: node.Renew, Name: "x"}, node.OK)
	d.ask("FLUSHALL")
	d.told(t, "*")
	d.toldNoMore(t)
}
