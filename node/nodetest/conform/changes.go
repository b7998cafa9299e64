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
	expect := func(t *testing.T, c node.Command, want node.Status) {
		t.Helper()
		if r := d.one(t, c); r.Status != want {
			t.Fatalf("%v: %+v: want %v", c.Op, r, want)
		}
	}
	hear := func(t *testing.T, keys ...string) {
		t.Helper()
		for _, key := range keys {
			d.hear(t, node.Wake{Key: key})
		}
	}
	// A key that was touched last is heard of last: behind it nothing is missing.
	silent := func(t *testing.T) {
		t.Helper()
		expect(t, node.Command{Op: node.Inspect, Name: "last", Track: true}, node.Absent)
		d.ask("SET", "last", "1")
		hear(t, "last")
		d.ask("DEL", "last")
	}

	t.Run("renewed", func(t *testing.T) {
		for i, touch := range [][]string{{"DEL", "a"}, {"SET", "a", rival}, {"PEXPIRE", "a", "5000"}, {"PEXPIRE", "a", "0"}} {
			d.ask("DEL", "a")
			expect(t, node.Command{Op: node.Grant, Name: "a"}, node.OK)
			for range 3 { // which is a change itself
				expect(t, node.Command{Op: node.Renew, Name: "a"}, node.OK)
			}
			d.ask("SCRIPT", "FLUSH")
			expect(t, node.Command{Op: node.Renew, Name: "a"}, node.OK)
			silent(t)
			d.ask(touch...)
			hear(t, "a")
			d.ask("SET", "a", fmt.Sprint(i)) // that is told once
			silent(t)
		}
	})

	t.Run("expired", func(t *testing.T) {
		short := 150 * time.Millisecond
		d.ask("DEL", "a")
		expect(t, node.Command{Op: node.Grant, Name: "a"}, node.OK)
		expect(t, node.Command{Op: node.Renew, Name: "a", TTL: short}, node.OK)
		gone(t, d.Target, d.client, "a", short)
		hear(t, "a")
	})

	t.Run("inspected", func(t *testing.T) {
		d.ask("SET", "a", rival)
		expect(t, node.Command{Op: node.Inspect, Name: "a"}, node.OK)
		d.ask("DEL", "a")
		silent(t)
		expect(t, node.Command{Op: node.Inspect, Name: "a", Track: true}, node.Absent)
		d.ask("SET", "a", rival)
		hear(t, "a")
		replies := d.do(t, node.Command{Op: node.Inspect, Name: "a", Track: true}, node.Command{Op: node.Inspect, Name: "b"},
			node.Command{Op: node.Inspect, Name: "c", Track: true})
		if len(replies) != 3 {
			t.Fatal(replies)
		}
		d.ask("SET", "b", "1")
		d.ask("SET", "c", "1")
		hear(t, "c")
		d.ask("ZADD", script.FenceKey("a"), "5", script.Member) // of which nothing is told
		d.ask("DEL", "a")
		hear(t, "a")
		silent(t)
	})

	t.Run("many names", func(t *testing.T) {
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
		silent(t)
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
		silent(t)
	})

	t.Run("everything", func(t *testing.T) {
		expect(t, node.Command{Op: node.Grant, Name: "x"}, node.OK)
		expect(t, node.Command{Op: node.Renew, Name: "x"}, node.OK)
		d.ask("FLUSHALL")
		hear(t, "*")
		silent(t)
	})
}
