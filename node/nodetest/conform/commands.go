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

// What a lock key is before or after a command. A time that follows is what it has
// left.
const (
	free    = "free"
	ours    = "ours"
	others  = "other's"
	waits   = "reserved"
	wrong   = "of another type"
	expired = "expired"
	forever = "ours for ever"
	fenced  = "ours, and tells its fence"
	vacated = "left by us"
)

// What a fence key is, besides a number.
const (
	none    = ""
	misused = "a string"
)

// reservation is what a key holds that a waiter may claim.
const reservation = "?host:1/" + random

// left of a fence that was just set; it was prepared with less.
const fenceTTL = 30 * time.Minute

const forAll = time.Duration(-1)

var table = []struct {
	op    node.Op
	key   string // before
	fence string // before

	want     node.Reply // Left is what it was set to; of Err, only that there is one
	errBegin string
	after    string
	ttl      time.Duration // of the key, after
	stored   string        // the fence, after
	keeps    time.Duration // the fence key, after
}{
	// A grant takes what is free, and raises the fence in any case. A raise tells what
	// was stored before.
	{node.Grant, free, none, node.Reply{Status: node.OK, Raised: true}, "", ours, ttl, "10", forAll},
	{node.Grant, free, "9", node.Reply{Status: node.OK, Raised: true}, "", ours, ttl, "10", fenceTTL},
	{node.Grant, free, "10", node.Reply{Status: node.OK}, "", ours, ttl, "10", fenceTTL},
	{node.Grant, free, "11", node.Reply{Status: node.OK}, "", ours, ttl, "11", fenceTTL},
	{node.Grant, free, misused, node.Reply{}, "WRONGTYPE", ours, ttl, misused, fenceTTL},
	{node.Grant, expired, "9", node.Reply{Status: node.OK, Raised: true}, "", ours, ttl, "10", fenceTTL},
	{node.Grant, ours, none, node.Reply{Status: node.Other, Raised: true}, "", ours, prepared, "10", forAll},
	{node.Grant, others, "9", node.Reply{Status: node.Other, Raised: true}, "", others, prepared, "10", fenceTTL},
	{node.Grant, others, "11", node.Reply{Status: node.Other}, "", others, prepared, "11", fenceTTL},
	{node.Grant, others, misused, node.Reply{}, "WRONGTYPE", others, prepared, misused, fenceTTL},
	{node.Grant, wrong, "9", node.Reply{Status: node.Other, Raised: true}, "", wrong, forAll, "10", fenceTTL},
	{node.Grant, forever, none, node.Reply{Status: node.Other, Raised: true}, "", ours, forAll, "10", forAll},

	{node.Raise, free, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Raise, free, "9", node.Reply{Status: node.Absent}, "", free, 0, "9", fenceTTL},
	{node.Raise, expired, "9", node.Reply{Status: node.Absent}, "", free, 0, "9", fenceTTL},
	{node.Raise, ours, none, node.Reply{Status: node.OK}, "", fenced, prepared, "10", forAll},
	{node.Raise, ours, "9", node.Reply{Status: node.OK, Fence: 9}, "", fenced, prepared, "10", fenceTTL},
	{node.Raise, ours, "10", node.Reply{Status: node.OK, Fence: 10}, "", fenced, prepared, "10", fenceTTL},
	{node.Raise, ours, "11", node.Reply{Status: node.OK, Fence: 11}, "", fenced, prepared, "11", fenceTTL},
	{node.Raise, ours, misused, node.Reply{}, "WRONGTYPE", ours, prepared, misused, fenceTTL},
	{node.Raise, forever, "9", node.Reply{Status: node.OK, Fence: 9}, "", fenced, forAll, "10", fenceTTL},
	{node.Raise, others, "9", node.Reply{Status: node.Other}, "", others, prepared, "9", fenceTTL},
	{node.Raise, waits, "9", node.Reply{Status: node.Other}, "", waits, prepared, "9", fenceTTL},
	{node.Raise, others, misused, node.Reply{Status: node.Other}, "", others, prepared, misused, fenceTTL},
	{node.Raise, wrong, "9", node.Reply{Status: node.Other}, "", wrong, forAll, "9", fenceTTL},

	// A heal takes what is free, and leaves alone what is another's.
	{node.Heal, free, none, node.Reply{Status: node.OK}, "", fenced, ttl, "10", forAll},
	{node.Heal, free, "9", node.Reply{Status: node.OK}, "", fenced, ttl, "10", fenceTTL},
	{node.Heal, free, "11", node.Reply{Status: node.OK}, "", fenced, ttl, "11", fenceTTL},
	{node.Heal, free, misused, node.Reply{}, "WRONGTYPE", free, 0, misused, fenceTTL},
	{node.Heal, expired, none, node.Reply{Status: node.OK}, "", fenced, ttl, "10", forAll},
	{node.Heal, ours, "9", node.Reply{Status: node.OK}, "", ours, ttl, "9", fenceTTL},
	{node.Heal, forever, none, node.Reply{Status: node.OK}, "", ours, ttl, none, 0},
	{node.Heal, others, "9", node.Reply{Status: node.Other, Value: rival}, "", others, prepared, "9", fenceTTL},
	{node.Heal, waits, "9", node.Reply{Status: node.OK}, "", fenced, ttl, "10", fenceTTL},
	{node.Heal, wrong, "9", node.Reply{Status: node.Other}, "", wrong, forAll, "9", fenceTTL},

	{node.Renew, free, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Renew, expired, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Renew, ours, "9", node.Reply{Status: node.OK}, "", ours, ttl, "9", fenceTTL},
	{node.Renew, forever, none, node.Reply{Status: node.OK}, "", ours, ttl, none, 0},
	{node.Renew, others, none, node.Reply{Status: node.Other, Value: rival}, "", others, prepared, none, 0},
	{node.Renew, waits, none, node.Reply{Status: node.Absent}, "", waits, prepared, none, 0},
	{node.Renew, wrong, none, node.Reply{Status: node.Other}, "", wrong, forAll, none, 0},

	{node.Release, free, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Release, expired, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Release, ours, "9", node.Reply{Status: node.OK}, "", free, 0, "9", fenceTTL},
	{node.Release, forever, none, node.Reply{Status: node.OK}, "", free, 0, none, 0},
	{node.Release, others, none, node.Reply{Status: node.Other}, "", others, prepared, none, 0},
	{node.Release, wrong, none, node.Reply{Status: node.Other}, "", wrong, forAll, none, 0},

	// An adoption takes what the rival holds, or the token already. What it tells of the
	// fence is what is stored after it.
	{node.Adopt, free, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Adopt, free, "9", node.Reply{Status: node.Absent, Fence: 9}, "", free, 0, "9", fenceTTL},
	{node.Adopt, expired, "9", node.Reply{Status: node.Absent, Fence: 9}, "", free, 0, "9", fenceTTL},
	{node.Adopt, others, none, node.Reply{Status: node.OK, Left: prepared, Raised: true, Fence: 10}, "", fenced, ttl, "10", forAll},
	{node.Adopt, others, "9", node.Reply{Status: node.OK, Left: prepared, Raised: true, Fence: 10}, "", fenced, ttl, "10", fenceTTL},
	{node.Adopt, others, "11", node.Reply{Status: node.OK, Left: prepared, Fence: 11}, "", fenced, ttl, "11", fenceTTL},
	{node.Adopt, others, misused, node.Reply{}, "WRONGTYPE", others, prepared, misused, fenceTTL},
	{node.Adopt, ours, "9", node.Reply{Status: node.OK, Raised: true, Fence: 10}, "", fenced, ttl, "10", fenceTTL},
	{node.Adopt, ours, "10", node.Reply{Status: node.OK, Fence: 10}, "", fenced, ttl, "10", fenceTTL},
	{node.Adopt, ours, misused, node.Reply{}, "WRONGTYPE", ours, prepared, misused, fenceTTL},
	{node.Adopt, forever, none, node.Reply{Status: node.OK, Raised: true, Fence: 10}, "", fenced, ttl, "10", forAll},
	{node.Adopt, waits, "9", node.Reply{Status: node.Other, Left: prepared, Fence: 9, Value: reservation}, "", waits, prepared, "9", fenceTTL},
	{node.Adopt, waits, misused, node.Reply{Status: node.Other, Left: prepared, Value: reservation}, "", waits, prepared, misused, fenceTTL},
	{node.Adopt, wrong, "9", node.Reply{Status: node.Other, Left: -1, Fence: 9}, "", wrong, forAll, "9", fenceTTL},

	{node.Inspect, free, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Inspect, free, "9", node.Reply{Status: node.Absent, Fence: 9}, "", free, 0, "9", fenceTTL},
	{node.Inspect, expired, "9", node.Reply{Status: node.Absent, Fence: 9}, "", free, 0, "9", fenceTTL},
	{node.Inspect, ours, "9", node.Reply{Status: node.OK, Fence: 9, Left: prepared, Value: token}, "", ours, prepared, "9", fenceTTL},
	{node.Inspect, others, none, node.Reply{Status: node.OK, Left: prepared, Value: rival}, "", others, prepared, none, 0},
	{node.Inspect, forever, "1784000000123456", node.Reply{Status: node.OK, Fence: 1784000000123456, Left: -1, Value: token}, "", ours, forAll, "1784000000123456", fenceTTL},
	{node.Inspect, wrong, "9", node.Reply{Status: node.Other, Fence: 9, Left: -1}, "", wrong, forAll, "9", fenceTTL},
	{node.Inspect, ours, misused, node.Reply{Status: node.OK, Left: prepared, Value: token}, "", ours, prepared, misused, fenceTTL},

	// A value that tells its fence is the token's as one that does not.
	{node.Grant, fenced, "9", node.Reply{Status: node.Other, Raised: true}, "", fenced, prepared, "10", fenceTTL},
	{node.Raise, fenced, "9", node.Reply{Status: node.OK, Fence: 9}, "", fenced, prepared, "10", fenceTTL},
	{node.Heal, fenced, "9", node.Reply{Status: node.OK}, "", fenced, ttl, "9", fenceTTL},
	{node.Renew, fenced, "9", node.Reply{Status: node.OK}, "", fenced, ttl, "9", fenceTTL},
	{node.Release, fenced, "9", node.Reply{Status: node.OK}, "", free, 0, "9", fenceTTL},
	{node.Adopt, fenced, "9", node.Reply{Status: node.OK, Raised: true, Fence: 10}, "", fenced, ttl, "10", fenceTTL},
	{node.Inspect, fenced, "9", node.Reply{Status: node.OK, Fence: 9, Holds: 10, Left: prepared, Value: token}, "", fenced, prepared, "9", fenceTTL},

	// What is ours can be left. Then it is another's to all but a release with its token.
	{node.Vacate, free, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Vacate, expired, none, node.Reply{Status: node.Absent}, "", free, 0, none, 0},
	{node.Vacate, ours, "9", node.Reply{Status: node.OK}, "", vacated, ttl, "9", fenceTTL},
	{node.Vacate, fenced, "9", node.Reply{Status: node.OK}, "", vacated, ttl, "9", fenceTTL},
	{node.Vacate, forever, none, node.Reply{Status: node.OK}, "", vacated, ttl, none, 0},
	{node.Vacate, others, none, node.Reply{Status: node.Other}, "", others, prepared, none, 0},
	{node.Vacate, waits, none, node.Reply{Status: node.Other}, "", waits, prepared, none, 0},
	{node.Vacate, wrong, none, node.Reply{Status: node.Other}, "", wrong, forAll, none, 0},
	{node.Vacate, vacated, none, node.Reply{Status: node.OK}, "", vacated, ttl, none, 0},
	{node.Grant, vacated, "9", node.Reply{Status: node.Other, Raised: true}, "", vacated, prepared, "10", fenceTTL},
	{node.Raise, vacated, "9", node.Reply{Status: node.Other}, "", vacated, prepared, "9", fenceTTL},
	{node.Heal, vacated, "9", node.Reply{Status: node.Other, Value: node.LeftMark + token}, "", vacated, prepared, "9", fenceTTL},
	{node.Renew, vacated, none, node.Reply{Status: node.Other, Value: node.LeftMark + token}, "", vacated, prepared, none, 0},
	{node.Adopt, vacated, "9", node.Reply{Status: node.Other, Left: prepared, Fence: 9, Holds: 10, Value: node.LeftMark + token}, "", vacated, prepared, "9", fenceTTL},
	{node.Inspect, vacated, "9", node.Reply{Status: node.OK, Left: prepared, Fence: 9, Holds: 10, Value: node.LeftMark + token}, "", vacated, prepared, "9", fenceTTL},
	{node.Release, vacated, "9", node.Reply{Status: node.OK}, "", free, 0, "9", fenceTTL},
}

func commands(t *testing.T, d *driver) {
	for i, c := range table {
		t.Run(fmt.Sprintf("%v/%s/fence=%s", c.op, c.key, c.fence), func(t *testing.T) {
			name := fmt.Sprint("name-", i)
			d.ask("DEL", script.FenceKey(name)) // which another one may share
			d.prepare(t, name, c.key, c.fence)
			got := d.do(t, node.Command{Op: c.op, Name: name, Former: rival})[0]
			got.ID = 0
			if c.errBegin != "" {
				anyWill := c.op != node.Grant && slices.Contains(d.Lacks, ScriptCodes)
				if got.Err == nil || !anyWill && !strings.HasPrefix(got.Err.Error(), c.errBegin) {
					t.Errorf("Err = %v: want %s...", got.Err, c.errBegin)
				}
				got = node.Reply{Op: got.Op, Status: got.Status} // the rest means nothing
			}
			c.want.Op = c.op
			if near(got.Left, c.want.Left) {
				got.Left = c.want.Left
			}
			if got != c.want {
				t.Errorf("reply %+v\n want %+v", got, c.want)
			}
			if c.op == node.Inspect { // a brief one tells no more than this
				d.expect(t, node.Command{Op: c.op, Name: name, Brief: true}, node.Reply{Status: c.want.Status, Value: c.want.Value, Holds: c.want.Holds})
			}
			d.look(t, name, c.after, c.ttl)
			d.lookFence(t, name, c.stored, c.keeps)
		})
	}
}

func (d *driver) prepare(t *testing.T, name, key, fence string) {
	t.Helper()
	ms := strconv.FormatInt(prepared.Milliseconds(), 10)
	switch key {
	case ours:
		d.ask("SET", name, token, "PX", ms)
	case fenced:
		d.ask("SET", name, token+"+10", "PX", ms)
	case vacated:
		d.ask("SET", name, node.LeftMark+token+"+10", "PX", ms)
	case others:
		d.ask("SET", name, rival, "PX", ms)
	case waits:
		d.ask("SET", name, reservation, "PX", ms)
	case forever:
		d.ask("SET", name, token)
	case wrong:
		d.ask("ZADD", name, "1", token)
	case expired:
		d.ask("SET", name, token, "PX", "4")
		gone(t, d.Target, d.client, name, 4*time.Millisecond)
	}
	switch fence {
	case none:
		return
	case misused:
		d.ask("SET", script.FenceKey(name), "text")
	default:
		d.ask("ZADD", script.FenceKey(name), fence, script.Member)
	}
	d.ask("PEXPIRE", script.FenceKey(name), strconv.FormatInt(fenceTTL.Milliseconds(), 10))
}

func (d *driver) look(t *testing.T, name, want string, left time.Duration) {
	t.Helper()
	is := map[string]string{
		"nil": free, token: ours, token + "+10": fenced, node.LeftMark + token: vacated, node.LeftMark + token + "+10": vacated, rival: others, reservation: waits, "-WRONGTYPE": wrong,
	}[d.ask("GET", name)]
	if is != want {
		t.Errorf("the key is %q afterwards: want %q", is, want)
	}
	d.lookTTL(t, name, want != free, left)
}

func (d *driver) lookFence(t *testing.T, name, want string, left time.Duration) {
	t.Helper()
	is := d.ask("ZSCORE", script.FenceKey(name), script.Member)
	switch is {
	case "nil":
		is = none
	case "-WRONGTYPE":
		is = misused
	}
	if is != want {
		t.Errorf("the fence is %q afterwards: want %q", is, want)
	}
	d.lookTTL(t, script.FenceKey(name), want != none, left)
}

func (d *driver) lookTTL(t *testing.T, key string, exists bool, left time.Duration) {
	t.Helper()
	want := ":-2"
	if exists {
		want = ":-1"
	}
	got := d.ask("PTTL", key)
	if left > 0 {
		ms, _ := strconv.ParseInt(got[1:], 10, 64)
		if !near(time.Duration(ms)*time.Millisecond, left) {
			t.Errorf("PTTL of %q is %s: want %v", key, got, left)
		}
	} else if got != want {
		t.Errorf("PTTL of %q is %s: want %s", key, got, want)
	}
}
