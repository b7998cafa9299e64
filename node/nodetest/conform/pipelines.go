package conform

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// pipelines are the cases of more than one command.
func pipelines(t *testing.T, d *driver) {
	p := pipelining{d}
	t.Run("many names", p.manyNames)
	t.Run("scripts flushed between", p.flushedBetween)
	t.Run("odd names", p.oddNames)
	t.Run("odd tokens", p.oddTokens)
	t.Run("a name given on", p.givenOn)
	t.Run("a name twice", p.nameTwice)
	t.Run("others between", p.othersBetween)
	t.Run("longer tokens", p.longerTokens)
	t.Run("large fences", p.largeFences)
	t.Run("short TTL", p.shortTTL)
	t.Run("a group", p.group)
}

type pipelining struct{ *driver }

// of returns one command for each name.
func of(op node.Op, names ...string) []node.Command {
	commands := make([]node.Command, len(names))
	for i, name := range names {
		commands[i] = node.Command{Op: op, Name: name}
	}
	return commands
}

// have checks what the replies say. The statuses begin again when there are more replies.
func have(t *testing.T, replies []node.Reply, want ...node.Status) {
	t.Helper()
	for i, r := range replies {
		if w := want[i%len(want)]; r.Status != w || r.Err != nil {
			t.Errorf("reply %d of %d to %v is %v, %v: want %v", i+1, len(replies), r.Op, r.Status, r.Err, w)
		}
	}
}

// many returns more names than one call of a script carries.
func many() []string {
	names := make([]string, 3*script.MaxNames+7)
	for i := range names {
		names[i] = fmt.Sprint("many-", i)
	}
	return names
}

// everything does to all names whatever can be done, and something else before each step.
func (d pipelining) everything(t *testing.T, names []string, between func()) {
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
		{node.Vacate, node.OK},
		{node.Vacate, node.Other},
		{node.Release, node.OK},
		{node.Release, node.Absent},
	} {
		between()
		replies := d.do(t, of(step.op, names...)...)
		have(t, replies, step.want)
		if step.op == node.Inspect && step.want == node.OK {
			described(t, names, replies)
		}
	}
}

// described checks what is said of names that are held.
func described(t *testing.T, names []string, replies []node.Reply) {
	t.Helper()
	for i, r := range replies {
		if r.Value != token || r.Fence != fence || !near(r.Left, ttl) {
			t.Errorf("%.40q holds %q for %v with fence %d", names[i], r.Value, r.Left, r.Fence)
		}
	}
}

func (d pipelining) manyNames(t *testing.T) {
	d.everything(t, many(), func() {})
}

func (d pipelining) flushedBetween(t *testing.T) {
	d.ask("FLUSHALL")
	d.everything(t, many(), func() {
		if got := d.ask("SCRIPT", "FLUSH"); got != "OK" {
			t.Fatalf("SCRIPT FLUSH: %s", got)
		}
	})
}

func (d pipelining) oddNames(t *testing.T) {
	d.everything(t, []string{
		" ", "a b", `"quoted"`, `it's`, "back\\slash", "new\r\nline", "nul\x00", "\xff\xfe", "名前", "🔑",
		"{braces}", "}{", "*", "$5\r\nhello\r\n", "%d%s", strings.Repeat("k", 1024), strings.Repeat("長", 400),
	}, func() {})
}

func (d pipelining) oddTokens(t *testing.T) {
	for i, odd := range []string{"a b", "\x00\r\n", "名前/1", strings.Repeat("t", 1024)} {
		name := fmt.Sprint("odd-", i)
		replies := d.do(t,
			node.Command{Op: node.Grant, Name: name, Token: odd},
			node.Command{Op: node.Inspect, Name: name},
			node.Command{Op: node.Release, Name: name, Token: odd[:len(odd)-1] + "?"},
			node.Command{Op: node.Release, Name: name, Token: odd},
		)
		have(t, replies, node.OK, node.OK, node.Other, node.OK)
		if got := replies[1].Value; got != odd {
			t.Errorf("the key holds %q: want %q", got, odd)
		}
	}
}

func (d pipelining) givenOn(t *testing.T) {
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
	have(t, replies, node.OK, node.OK, node.OK, node.Other, node.OK, node.Other, node.OK, node.OK)
	if r := replies[7]; r.Value != rival+"+40" || r.Fence != 40 {
		t.Errorf("it ends as %q with fence %d: want %q+40 with 40", r.Value, r.Fence, rival)
	}
}

// A name twice in a row must not stand twice in one script call: the second
// command is to see what the first did.
func (d pipelining) nameTwice(t *testing.T) {
	grant := of(node.Grant, "twice", "once")
	have(t, d.do(t, grant...), node.OK)
	have(t, d.do(t, of(node.Renew, "twice", "once", "twice")...), node.OK)
	have(t, d.do(t, of(node.Release, "twice", "once", "twice", "once")...),
		node.OK, node.OK, node.Absent, node.Absent)
}

func (d pipelining) othersBetween(t *testing.T) {
	d.prepare(t, "mixed-1", others, none)
	d.prepare(t, "mixed-3", wrong, none)
	names := []string{"mixed-0", "mixed-1", "mixed-2", "mixed-3"}
	have(t, d.do(t, of(node.Grant, names...)...), node.OK, node.Other)
	have(t, d.do(t, of(node.Raise, names...)...), node.OK, node.Other)
	have(t, d.do(t, of(node.Renew, names...)...), node.OK, node.Other)
	have(t, d.do(t, of(node.Inspect, names...)...), node.OK, node.OK, node.OK, node.Other)
	have(t, d.do(t, of(node.Release, names...)...), node.OK, node.Other)
	d.look(t, "mixed-1", others, prepared)
	d.look(t, "mixed-3", wrong, -1)
}

// A value that only begins as a token does is another's, unless its fence follows.
func (d pipelining) longerTokens(t *testing.T) {
	longer := token + "A"
	d.ask("SET", "longer", longer, "PX", "60000")
	for _, op := range []node.Op{node.Renew, node.Raise, node.Heal, node.Release, node.Claim, node.Leave, node.Enqueue} {
		have(t, d.do(t, node.Command{Op: op, Name: "longer", Ticket: 1}), node.Other)
	}
	have(t, d.do(t, node.Command{Op: node.Adopt, Name: "longer", Token: "heir/1", Former: token}), node.Other)
	if got := d.ask("GET", "longer"); got != longer {
		t.Errorf("the key holds %q: want %q", got, longer)
	}
}

// Fences are kept as floats, which are exact up to 2^53.
func (d pipelining) largeFences(t *testing.T) {
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
}

// A group is renewed but for those that its reply names, whether its tokens are alike or not.
func (d pipelining) group(t *testing.T) {
	for _, alike := range []bool{true, false} {
		d.ask("FLUSHALL")
		names := many()
		members := make([]node.Member, len(names))
		for i, name := range names {
			members[i] = node.Member{Name: name, Token: fmt.Sprintf("owner/%026d", i), By: clock.Never}
			d.ask("SET", name, members[i].Token, "PX", "5000")
		}
		if !alike {
			members[2].Token = rival
			d.ask("SET", names[2], rival, "PX", "5000")
		}
		d.ask("DEL", names[0])
		d.ask("SET", names[63], rival+"+5", "PX", "5000")
		d.ask("SET", names[64], members[64].Token+"+7", "PX", "5000")
		d.ask("SET", names[65], node.Reserved(token), "PX", "5000")
		d.ask("DEL", names[150])
		d.ask("ZADD", names[150], "1", "x")
		r := d.do(t, node.Command{Op: node.RenewAll, Group: &node.Group{TTL: ttl, Members: members}})[0]
		others := []node.Exception{
			{Member: 0, Status: node.Absent}, {Member: 63, Status: node.Other, Value: rival + "+5"},
			{Member: 65, Status: node.Absent}, {Member: 150, Status: node.Other},
		}
		if got := r.But.All(); r.Status != node.OK || r.Err != nil || !slices.Equal(got, others) {
			t.Errorf("alike %v: %v, %v, but %+v: want but %+v", alike, r.Status, r.Err, got, others)
		}
		next := others
		for i, r := range d.do(t, of(node.Inspect, names...)...) {
			if len(next) > 0 && next[0].Member == i {
				next = next[1:]
			} else if r.Status != node.OK || !near(r.Left, ttl) {
				t.Errorf("alike %v: name %d of the group lives for %v", alike, i, r.Left)
			}
		}
	}
}

func (d pipelining) shortTTL(t *testing.T) {
	short := 150 * time.Millisecond
	have(t, d.do(t, node.Command{Op: node.Grant, Name: "short", TTL: short}), node.OK)
	gone(t, d.Target, d.client, "short", short)
	have(t, d.do(t,
		node.Command{Op: node.Renew, Name: "short", TTL: short},
		node.Command{Op: node.Grant, Name: "short"},
		node.Command{Op: node.Renew, Name: "short", TTL: short},
	), node.Absent, node.OK, node.OK)
	gone(t, d.Target, d.client, "short", short)
}
