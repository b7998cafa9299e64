package conform

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// queue are the cases of those who wait, of several processes.
func queue(t *testing.T, target Target) {
	a, b := begin(t, target, "inbox-a"), begin(t, target, "inbox-b")
	mute := begin(t, target, "") // its inbox is heard by nobody
	for _, d := range []*driver{a, b} {
		d.one(t, node.Command{Op: node.Enqueue, Name: "first", Token: "t", Ticket: 1})
		d.wake(t, "")
		d.one(t, node.Command{Op: node.Leave, Name: "first", Token: "t"})
	}
	a.ask("DEL", "first")
	for _, d := range []*driver{a, b} {
		d.silent(t)
	}
	name := ""
	run := func(what string, f func(t *testing.T)) {
		t.Run(what, func(t *testing.T) {
			name = "queue: " + what
			f(t)
		})
	}
	on := func(op node.Op, token string) node.Command { return node.Command{Op: op, Name: name, Token: token} }
	at := func(ticket uint64, token string) node.Command {
		return node.Command{Op: node.Enqueue, Name: name, Token: token, Ticket: ticket}
	}
	held := func(ahead int) node.Reply {
		return node.Reply{Status: node.Other, Value: rival, Left: prepared, Ahead: ahead}
	}
	reserved := func(status node.Status, token string, ahead int) node.Reply {
		return node.Reply{Status: status, Value: node.Reserved(token), Left: reserve, Ahead: ahead}
	}

	run("in the order of tickets", func(t *testing.T) {
		a.prepare(t, name, others, "5")
		with := func(r node.Reply, fence uint64) node.Reply {
			r.Fence = fence
			return r
		}
		a.expect(t, at(7, "a"), with(held(0), 5))
		b.expect(t, at(6, "b"), with(held(0), 5))
		a.expect(t, at(7, "a"), with(held(1), 5))
		a.expect(t, on(node.Inspect, ""), node.Reply{Status: node.OK, Value: rival, Left: prepared, Fence: 5, Ahead: 2})
		a.lookTTL(t, script.QueueKey(name), true, alive)

		mute.expect(t, on(node.Release, rival), node.Reply{Status: node.OK})
		b.wake(t, "b")
		a.expect(t, at(7, "a"), with(reserved(node.Other, "b", 1), 5))
		a.expect(t, on(node.Claim, "a"), with(node.Reply{Status: node.Other, Value: "?b", Left: reserve, Ahead: 1, Raised: true}, fence))
		b.expect(t, at(6, "b"), with(reserved(node.OK, "b", 0), fence))
		b.expect(t, node.Command{Op: node.Claim, Name: name, Token: "b", Fence: 20}, node.Reply{Status: node.OK, Raised: true, Fence: 20})
		b.lookTTL(t, name, true, ttl)
		b.lookTTL(t, script.FenceKey(name), true, retained)
		a.expect(t, on(node.Inspect, ""), node.Reply{Status: node.OK, Value: "b", Left: ttl, Fence: 20, Ahead: 1})

		b.expect(t, on(node.Release, "b"), node.Reply{Status: node.OK})
		a.wake(t, "a")
		a.expect(t, node.Command{Op: node.Claim, Name: name, Token: "a", Fence: 30}, node.Reply{Status: node.OK, Raised: true, Fence: 30})
		a.expect(t, on(node.Release, "a"), node.Reply{Status: node.OK})
		a.gone(t, name)
	})

	run("the new stand behind all", func(t *testing.T) {
		a.prepare(t, name, others, none)
		isNew := func(ticket uint64, token string) node.Command {
			c := at(ticket, token)
			c.New = true
			return c
		}
		with := func(ahead int, ticket uint64) node.Reply {
			r := held(ahead)
			r.Ticket = ticket
			return r
		}
		micros := uint64(1_700_000_000_000_000)
		a.expect(t, isNew(micros, "a"), with(0, micros))
		b.expect(t, isNew(micros, "b"), with(1, micros+1))
		mute.expect(t, isNew(micros-7, "m"), with(2, micros+2))
		a.expect(t, isNew(micros+9, "a2"), with(3, micros+9))
		b.expect(t, isNew(micros, "b"), with(1, micros+1)) // it is known here
		mute.expect(t, at(micros-7, "m"), with(0, micros-7))
		mute.expect(t, isNew(micros, "m"), with(0, micros-7))
	})

	run("equal tickets", func(t *testing.T) {
		a.prepare(t, name, others, none)
		b.expect(t, at(10, "1"), held(0))
		a.expect(t, at(10, "2"), held(0))
		b.expect(t, at(10, "1"), held(1))
		mute.expect(t, on(node.Release, rival), node.Reply{Status: node.OK})
		a.wake(t, "2")
	})

	run("of a free key", func(t *testing.T) {
		b.ask("ZADD", script.QueueKey(name), "5", script.Waiter("inbox-b", "b"), "-99999999999999", script.Alive("inbox-b", "b"))
		a.expect(t, at(10, "a"), reserved(node.Other, "b", 1))
		b.wake(t, "b")
		b.expect(t, on(node.Leave, "b"), node.Reply{Status: node.OK})
		a.wake(t, "a")
		a.expect(t, on(node.Leave, "a"), node.Reply{Status: node.OK})
		a.gone(t, name)
		// Who asks is told by the answer, and needs no inbox for that.
		mute.expect(t, at(10, "m"), reserved(node.OK, "m", 0))
		mute.expect(t, at(10, "m"), reserved(node.OK, "m", 0))
		mute.expect(t, on(node.Claim, "m"), node.Reply{Status: node.OK, Raised: true, Fence: fence})
		mute.expect(t, at(10, "m"), node.Reply{Status: node.OK, Value: "m", Left: ttl, Fence: fence})
		mute.expect(t, node.Command{Op: node.Release, Name: name, Token: "m", Queued: true}, node.Reply{Status: node.OK})
		a.gone(t, name)
	})

	run("the dead are skipped", func(t *testing.T) {
		a.prepare(t, name, others, none)
		for i := range 5 {
			mute.expect(t, at(uint64(i), fmt.Sprint("m", i)), held(i))
			b.expect(t, at(uint64(10+i), fmt.Sprint("b", i)), held(2*i+1))
			b.ask("ZADD", script.QueueKey(name), "-5", script.Alive("inbox-b", fmt.Sprint("b", i)))
		}
		b.ask("ZADD", script.QueueKey(name), "7", "garbage", "8", "w")
		a.expect(t, at(20, "a"), held(12))
		a.expect(t, on(node.Inspect, ""), node.Reply{Status: node.OK, Value: rival, Left: prepared, Ahead: 6}) // the living
		mute.expect(t, on(node.Release, rival), node.Reply{Status: node.OK})
		a.wake(t, "a")
		b.silent(t)
		// It did not act, so it is dead until it says otherwise.
		a.ask("DEL", name)
		b.expect(t, at(30, "b"), reserved(node.OK, "b", 0))
		a.expect(t, at(20, "a"), reserved(node.Other, "b", 0))
		b.expect(t, on(node.Leave, "b"), node.Reply{Status: node.OK})
		a.wake(t, "a")
	})

	run("a reservation is another's value", func(t *testing.T) {
		a.prepare(t, name, others, none)
		a.expect(t, at(1, "a"), held(0))
		mute.expect(t, on(node.Release, rival), node.Reply{Status: node.OK})
		a.wake(t, "a")
		for _, token := range []string{"a", "b"} {
			for _, op := range []node.Op{node.Renew, node.Raise, node.Heal, node.Release} {
				if r := mute.one(t, on(op, token)); r.Status != node.Other {
					t.Errorf("%v of %q: %+v", op, token, r)
				}
			}
			if r := mute.one(t, on(node.Grant, token)); r.Status != node.Other {
				t.Errorf("grant of %q: %+v", token, r)
			}
		}
		mute.expect(t, on(node.Leave, "b"), node.Reply{Status: node.Other})
		a.expect(t, on(node.Inspect, ""), node.Reply{Status: node.OK, Value: "?a", Left: reserve, Fence: fence})
	})

	run("claims", func(t *testing.T) {
		raised := func(fence uint64) node.Reply { return node.Reply{Status: node.OK, Raised: true, Fence: fence} }
		claim := func(fence uint64, token string) node.Command {
			return node.Command{Op: node.Claim, Name: name, Token: token, Fence: fence}
		}
		a.expect(t, claim(10, "a"), raised(10)) // of a free key, without a place in the queue
		a.expect(t, claim(10, "a"), node.Reply{Status: node.OK, Fence: 10})
		b.expect(t, claim(9, "b"), node.Reply{Status: node.Other, Fence: 10, Value: "a", Left: ttl})
		a.ask("SET", name, "?a", "PX", "4")
		gone(t, target, a.client, name, 4*time.Millisecond)
		mute.expect(t, node.Command{Op: node.Grant, Name: name, Token: rival, Fence: 11}, node.Reply{Status: node.OK, Raised: true})
		a.expect(t, claim(12, "a"), node.Reply{Status: node.Other, Raised: true, Fence: 12, Value: rival, Left: ttl})
		a.ask("DEL", name)
		a.ask("ZADD", name, "1", "x")
		a.expect(t, claim(12, "a"), node.Reply{Status: node.Other, Fence: 12, Left: -1})
		a.expect(t, at(1, "a"), node.Reply{Status: node.Other, Fence: 12, Left: -1})
	})

	run("leaving", func(t *testing.T) {
		a.prepare(t, name, others, none)
		a.expect(t, at(1, "a1"), held(0))
		a.expect(t, at(2, "a2"), held(1))
		b.expect(t, at(3, "b"), held(2))
		a.expect(t, on(node.Leave, "a2"), node.Reply{Status: node.Other})
		b.expect(t, at(3, "b"), held(1))
		a.expect(t, at(2, "a2"), held(1))
		mute.expect(t, on(node.Release, rival), node.Reply{Status: node.OK})
		a.wake(t, "a1")
		// As a release does that may be queued.
		a.expect(t, node.Command{Op: node.Release, Name: name, Token: "a1", Queued: true}, node.Reply{Status: node.OK})
		a.wake(t, "a2")
		a.expect(t, on(node.Claim, "a2"), node.Reply{Status: node.OK, Raised: true, Fence: fence})
		a.expect(t, on(node.Leave, "a2"), node.Reply{Status: node.OK})
		a.lookValue(t, name, "a2")
		a.expect(t, node.Command{Op: node.Release, Name: name, Token: "a2", Queued: true}, node.Reply{Status: node.OK})
		b.wake(t, "b")
		// Where a key is absent already, a release hands it over too.
		b.ask("DEL", name)
		if r := a.one(t, at(9, "a3")); r.Status != node.OK || r.Ahead != 0 {
			t.Errorf("%+v", r)
		}
		a.expect(t, on(node.Leave, "a3"), node.Reply{Status: node.OK})
		for _, op := range []node.Op{node.Release, node.Leave} {
			b.ask("ZADD", script.QueueKey(name), "5", script.Waiter("inbox-b", "b"), "-99999999999999", script.Alive("inbox-b", "b"))
			mute.expect(t, on(op, "x"), node.Reply{Status: node.Absent})
			b.wake(t, "b")
			b.expect(t, on(node.Leave, "b"), node.Reply{Status: node.OK})
		}
		a.gone(t, name)
	})

	run("keys of another type", func(t *testing.T) {
		a.ask("SET", script.QueueKey(name), "text")
		a.ask("SET", name, "a")
		for _, c := range []node.Command{at(1, "b"), on(node.Claim, "b")} {
			other := c
			other.Name = "another"
			a.ask("DEL", "another")
			got := a.do(t, c, other)
			if got[0].Status != node.Unknown || got[0].Err == nil || !strings.HasPrefix(got[0].Err.Error(), "WRONGTYPE") {
				t.Errorf("%+v", got[0])
			}
			if got[1].Status != node.OK {
				t.Errorf("%v refuses another name, too: %+v", c.Op, got[1])
			}
		}
		// The claim has proposed its fence all the same, which does no harm: it only grows.
		a.expect(t, on(node.Inspect, ""), node.Reply{Status: node.OK, Value: "a", Left: -1, Fence: 10})
		a.expect(t, on(node.Leave, "b"), node.Reply{Status: node.Other})
		a.expect(t, on(node.Release, "a"), node.Reply{Status: node.OK})
		a.ask("SET", name, "a")
		a.expect(t, node.Command{Op: node.Release, Name: name, Token: "a", Queued: true}, node.Reply{Status: node.OK})
		a.ask("DEL", script.QueueKey(name))
		a.ask("SET", script.FenceKey(name), "text")
		a.expect(t, at(1, "b"), reserved(node.OK, "b", 0))
		if got := a.one(t, on(node.Claim, "b")); got.Status != node.Unknown || got.Err == nil {
			t.Errorf("%+v", got)
		}
		a.lookValue(t, name, "?b")
	})

	run("many names", func(t *testing.T) {
		many := func(op node.Op, token string, queued bool) []node.Command {
			commands := make([]node.Command, script.MaxNames+3)
			for i := range commands {
				commands[i] = node.Command{Op: op, Name: fmt.Sprint(name, i), Token: token, Ticket: uint64(i), Queued: queued}
			}
			return commands
		}
		all := func(d *driver, commands []node.Command, want node.Status, ahead int) {
			t.Helper()
			for _, r := range d.do(t, commands...) {
				if r.Status != want || r.Ahead != ahead || r.Err != nil {
					t.Fatalf("%+v: want %v", r, want)
				}
			}
		}
		all(mute, many(node.Grant, "m", false), node.OK, 0)
		all(a, many(node.Enqueue, "a", false), node.Other, 0)
		all(b, many(node.Enqueue, "b", false), node.Other, 1)
		all(a, many(node.Inspect, "", false), node.OK, 2)
		all(mute, many(node.Release, "m", false), node.OK, 0)
		for range script.MaxNames + 3 {
			a.wake(t, "a")
		}
		all(a, many(node.Claim, "a", false), node.OK, 0)
		all(a, many(node.Release, "a", true), node.OK, 0)
		for range script.MaxNames + 3 {
			b.wake(t, "b")
		}
		all(b, many(node.Leave, "b", false), node.OK, 0)
		all(b, many(node.Inspect, "", false), node.Absent, 0)
	})
}

// one sends one command.
func (d *driver) one(t *testing.T, c node.Command) node.Reply {
	t.Helper()
	return d.do(t, c)[0]
}

func (d *driver) expect(t *testing.T, c node.Command, want node.Reply) {
	t.Helper()
	got := d.one(t, c)
	want.ID, want.Op = got.ID, c.Op
	if c.Op == node.Enqueue && want.Ticket == 0 && want.Value != c.Token {
		want.Ticket = c.Ticket
	}
	if near(got.Left, want.Left) {
		got.Left = want.Left
	}
	if got != want {
		t.Errorf("%v of %q: %+v\nwant %+v", c.Op, c.Token, got, want)
	}
}

// wake waits for the next wake, which must be for that token.
func (d *driver) wake(t *testing.T, token string) {
	t.Helper()
	d.hear(t, node.Wake{Token: token})
}

func (d *driver) hear(t *testing.T, want node.Wake) {
	t.Helper()
	if w := d.next(t); w != want {
		t.Fatalf("%+v: want %+v", w, want)
	}
}

// next waits for the next wake.
func (d *driver) next(t *testing.T) node.Wake {
	t.Helper()
	timer := clock.Runtime().NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case w := <-d.wakes:
			return w
		case <-d.replies: // the state, if anything
		case <-timer.C():
			t.Fatalf("no wake within %v", patience)
		}
	}
}

// silent checks that nothing was told before this.
func (d *driver) silent(t *testing.T) {
	t.Helper()
	if got := d.ask("PUBLISH", d.inbox, "silence"); got != ":1" {
		t.Fatalf("%s listen to %q", got, d.inbox)
	}
	d.wake(t, "silence")
}

func (d *driver) lookValue(t *testing.T, name, want string) {
	t.Helper()
	if got := d.ask("GET", name); got != want {
		t.Errorf("%q holds %q: want %q", name, got, want)
	}
}

// gone checks that neither the key nor a queue is left.
func (d *driver) gone(t *testing.T, name string) {
	t.Helper()
	if got := d.ask("EXISTS", name, script.QueueKey(name)); got != ":0" {
		t.Errorf("%s of %q and its queue are left", got, name)
	}
}
