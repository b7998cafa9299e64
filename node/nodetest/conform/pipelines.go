package conform

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// pipelines are the cases of more than one command.
func pipelines(t *testing.T, d *driver) {
	of := func(op node.Op, names ...string) []node.Command {
		commands := make([]node.Command, len(names))
		for i, name := range names {
			commands[i] = node.Command{Op: op, Name: name}
		}
		return commands
	}
	expect := func(t *testing.T, replies []node.Reply, want ...node.Status) {
		t.Helper()
		for i, r := range replies {
			if w := want[i%len(want)]; r.Status != w || r.Err != nil {
				t.Errorf("reply %d of %d to %v is %v, %v: want %v", i+1, len(replies), r.Op, r.Status, r.Err, w)
			}
		}
	}

	many := make([]string, 3*script.MaxNames+7)
	for i := range many {
		many[i] = fmt.Sprint("many-", i)
	}
	everything := func(t *testing.T, names []string, between func()) {
		t.Helper()
		for _, step := range []struct {
			op   node.Op
			want node.Status
		}{
			{node.Inspect, node.Absent},
			{node.Grant, node.OK},
			{node.Grant, node.Other},
			{node.Raise, node.OK},
			{node.Renew, node.OK},
			{node.Adopt, node.OK},
			{node.Inspect, node.OK},
			{node.Release, node.OK},
			{node.Release, node.Absent},
		} {
			between()
			replies := d.do(t, of(step.op, names...)...)
			expect(t, replies, step.want)
			for i, r := range replies {
				if step.op == node.Inspect && step.want == node.OK &&
					(r.Value != token || r.Fence != fence || !near(r.Left, ttl)) {
					t.Errorf("%.40q holds %q for %v with fence %d", names[i], r.Value, r.Left, r.Fence)
				}
			}
		}
	}

	t.Run("many names", func(t *testing.T) {
		everything(t, many, func() {})
	})

	t.Run("scripts flushed between", func(t *testing.T) {
		d.ask("FLUSHALL")
		everything(t, many, func() {
			if got := d.ask("SCRIPT", "FLUSH"); got != "OK" {
				t.Fatalf("SCRIPT FLUSH: %s", got)
			}
		})
	})

	t.Run("odd names", func(t *testing.T) {
		everything(t, []string{
			" ", "a b", `"quoted"`, `it's`, "back\\slash", "new\r\nline", "nul\x00", "\xff\xfe", "名前", "🔑",
			"{braces}", "}{", "*", "$5\r\nhello\r\n", "%d%s", strings.Repeat("k", 1024), strings.Repeat("長", 400),
		}, func() {})
	})

	t.Run("odd tokens", func(t *testing.T) {
		for i, odd := range []string{"a b", "\x00\r\n", "名前/1", strings.Repeat("t", 1024)} {
			name := fmt.Sprint("odd-", i)
			replies := d.do(t,
				node.Command{Op: node.Grant, Name: name, Token: odd},
				node.Command{Op: node.Inspect, Name: name},
				node.Command{Op: node.Release, Name: name, Token: odd[:len(odd)-1] + "?"},
				node.Command{Op: node.Release, Name: name, Token: odd},
			)
			expect(t, replies, node.OK, node.OK, node.Other, node.OK)
			if got := replies[1].Value; got != odd {
				t.Errorf("the key holds %q: want %q", got, odd)
			}
		}
	})

	t.Run("a name given on", func(t *testing.T) {
		replies := d.do(t,
			node.Command{Op: node.Grant, Name: "on"},
			node.Command{Op: node.Release, Name: "on"},
			node.Command{Op: node.Grant, Name: "on", Token: rival, Fence: 20},
			node.Command{Op: node.Renew, Name: "on"},
			node.Command{Op: node.Renew, Name: "on", Token: rival},
			node.Command{Op: node.Raise, Name: "on", Fence: 30},
			node.Command{Op: node.Raise, Name: "on", Token: rival, Fence: 40},
			node.Command{Op: node.Inspect, Name: "on"},
		)
		expect(t, replies, node.OK, node.OK, node.OK, node.Other, node.OK, node.Other, node.OK, node.OK)
		if r := replies[7]; r.Value != rival || r.Fence != 40 {
			t.Errorf("it ends as %q with fence %d: want %q with 40", r.Value, r.Fence, rival)
		}
	})

	// A name twice in a row must not stand twice in one script call: the second
	// command is to see what the first did.
	t.Run("a name twice", func(t *testing.T) {
		grant := of(node.Grant, "twice", "once")
		expect(t, d.do(t, grant...), node.OK)
		expect(t, d.do(t, of(node.Renew, "twice", "once", "twice")...), node.OK)
		expect(t, d.do(t, of(node.Release, "twice", "once", "twice", "once")...),
			node.OK, node.OK, node.Absent, node.Absent)
	})

	t.Run("others between", func(t *testing.T) {
		d.prepare(t, "mixed-1", others, none)
		d.prepare(t, "mixed-3", wrong, none)
		names := []string{"mixed-0", "mixed-1", "mixed-2", "mixed-3"}
		expect(t, d.do(t, of(node.Grant, names...)...), node.OK, node.Other)
		expect(t, d.do(t, of(node.Raise, names...)...), node.OK, node.Other)
		expect(t, d.do(t, of(node.Renew, names...)...), node.OK, node.Other)
		expect(t, d.do(t, of(node.Inspect, names...)...), node.OK, node.OK, node.OK, node.Other)
		expect(t, d.do(t, of(node.Release, names...)...), node.OK, node.Other)
		d.look(t, "mixed-1", others, prepared)
		d.look(t, "mixed-3", wrong, -1)
	})

	// Fences are kept as floats, which are exact up to 2^53.
	t.Run("large fences", func(t *testing.T) {
		for i, f := range []uint64{1 << 52, 1<<53 - 2, 1<<53 - 1} {
			r := d.do(t,
				node.Command{Op: node.Grant, Name: "large", Token: fmt.Sprint(i), Fence: f},
				node.Command{Op: node.Inspect, Name: "large"},
				node.Command{Op: node.Release, Name: "large", Token: fmt.Sprint(i)},
			)
			if r[1].Fence != f || !r[0].Raised {
				t.Errorf("fence %d comes back as %d, raised %v", f, r[1].Fence, r[0].Raised)
			}
		}
	})

	t.Run("short TTL", func(t *testing.T) {
		short := 150 * time.Millisecond
		expect(t, d.do(t, node.Command{Op: node.Grant, Name: "short", TTL: short}), node.OK)
		gone(t, d.Target, d.client, "short", short)
		expect(t, d.do(t,
			node.Command{Op: node.Renew, Name: "short", TTL: short},
			node.Command{Op: node.Grant, Name: "short"},
			node.Command{Op: node.Renew, Name: "short", TTL: short},
		), node.Absent, node.OK, node.OK)
		gone(t, d.Target, d.client, "short", short)
	})
}
