package conform

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/internal/script"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// queue are the cases of waiters, of several processes.
func queue(t *testing.T, target Target) {
	q := &queueing{target: target, a: begin(t, target, "inbox-a"), b: begin(t, target, "inbox-b"), mute: begin(t, target, "")}
	for _, d := range []*driver{q.a, q.b} {
		d.one(t, node.Command{Op: node.Enqueue, Name: "first", Token: "t", Ticket: 1})
		d.wake(t, "")
		d.one(t, node.Command{Op: node.Leave, Name: "first", Token: "t"})
	}
	q.a.ask("DEL", "first")
	for _, d := range []*driver{q.a, q.b} {
		d.silent(t)
	}
	for _, c := range []struct {
		what string
		play func(*queueing, *testing.T)
	}{
		{"in the order of tickets", (*queueing).inOrder},
		{"the new stand behind all", (*queueing).newLast},
		{"equal tickets", (*queueing).equalTickets},
		{"of a free key", (*queueing).freeKey},
		{"the dead are skipped", (*queueing).deadSkipped},
		{"more dead than one call looks at", (*queueing).manyDead},
		{"the dead leave a queue in use", (*queueing).deadDropped},
		{"a reservation is another's value", (*queueing).othersValue},
		{"a release by who does not hold it", (*queueing).notTheHolder},
		{"a release of two names", (*queueing).twoNames},
		{"claims", (*queueing).claims},
		{"gifts", (*queueing).gifts},
		{"leaving", (*queueing).leaving},
		{"left keys", (*queueing).leftKeys},
		{"keys of another type", (*queueing).otherTypes},
		{"many names", (*queueing).manyNames},
	} {
		t.Run(c.what, func(t *testing.T) {
			q.name = "queue: " + c.what
			c.play(q, t)
		})
	}
}

// A queueing is three processes and the name that they are at.
type queueing struct {
	target     Target
	a, b, mute *driver // the inbox of mute is heard by nobody
	name       string
}

func (q *queueing) on(op node.Op, token string) node.Command {
	return node.Command{Op: op, Name: q.name, Token: token}
}

func (q *queueing) briefly() node.Command {
	return node.Command{Op: node.Inspect, Name: q.name, Brief: true}
}

func (q *queueing) at(ticket uint64, token string) node.Command {
	return node.Command{Op: node.Enqueue, Name: q.name, Token: token, Ticket: ticket}
}

// held is how Enqueue answers of a key that the rival holds, and reserved of one that is.
func held(ahead int) node.Reply {
	return node.Reply{Status: node.Other, Value: rival, Left: prepared, Ahead: ahead}
}

func reserved(status node.Status, token string, ahead int) node.Reply {
	return node.Reply{Status: status, Value: node.Reserved(token), Left: reserve, Ahead: ahead}
}

func (q *queueing) inOrder(t *testing.T) {
	q.a.prepare(t, q.name, others, "5")
	with := func(r node.Reply, fence uint64) node.Reply {
		r.Fence = fence
		return r
	}
	q.a.expect(t, q.at(7, "a"), with(held(0), 5))
	q.b.expect(t, q.at(6, "b"), with(held(0), 5))
	q.a.expect(t, q.at(7, "a"), with(held(1), 5))
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.OK, Value: rival, Left: prepared, Fence: 5, Ahead: 2})
	q.a.expect(t, q.briefly(), node.Reply{Status: node.OK, Value: rival, Ahead: 2})
	q.a.lookTTL(t, script.QueueKey(q.name), true, alive)

	q.mute.expect(t, q.on(node.Release, rival), node.Reply{Status: node.OK})
	q.b.wake(t, "b")
	q.a.expect(t, q.at(7, "a"), with(reserved(node.Other, "b", 1), 5))
	q.a.expect(t, q.on(node.Claim, "a"), with(node.Reply{Status: node.Other, Value: "?b", Left: reserve, Ahead: 1, Raised: true}, fence))
	q.b.expect(t, q.at(6, "b"), with(reserved(node.OK, "b", 0), fence))
	q.b.expect(t, node.Command{Op: node.Claim, Name: q.name, Token: "b", Fence: 20}, node.Reply{Status: node.OK, Raised: true, Fence: 20})
	q.b.lookTTL(t, q.name, true, ttl)
	q.b.lookTTL(t, script.FenceKey(q.name), true, fenceTTL)
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.OK, Value: "b+20", Left: ttl, Fence: 20, Ahead: 1})

	q.b.expect(t, q.on(node.Release, "b"), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	q.a.expect(t, node.Command{Op: node.Claim, Name: q.name, Token: "a", Fence: 30}, node.Reply{Status: node.OK, Raised: true, Fence: 30})
	q.a.expect(t, q.on(node.Release, "a"), node.Reply{Status: node.OK})
	q.a.gone(t, q.name)
}

func (q *queueing) newLast(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	isNew := func(ticket uint64, token string) node.Command {
		c := q.at(ticket, token)
		c.New = true
		return c
	}
	with := func(ahead int, ticket uint64) node.Reply {
		r := held(ahead)
		r.Ticket = ticket
		return r
	}
	micros := uint64(1_700_000_000_000_000)
	q.a.expect(t, isNew(micros, "a"), with(0, micros))
	q.b.expect(t, isNew(micros, "b"), with(1, micros+1))
	q.mute.expect(t, isNew(micros-7, "m"), with(2, micros+2))
	q.a.expect(t, isNew(micros+9, "a2"), with(3, micros+9))
	q.b.expect(t, isNew(micros, "b"), with(1, micros+1)) // it is known here
	q.mute.expect(t, q.at(micros-7, "m"), with(0, micros-7))
	q.mute.expect(t, isNew(micros, "m"), with(0, micros-7))
}

func (q *queueing) equalTickets(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	q.b.expect(t, q.at(10, "1"), held(0))
	q.a.expect(t, q.at(10, "2"), held(0))
	q.b.expect(t, q.at(10, "1"), held(1))
	q.mute.expect(t, q.on(node.Release, rival), node.Reply{Status: node.OK})
	q.a.wake(t, "2")
}

func (q *queueing) freeKey(t *testing.T) {
	q.b.ask("ZADD", script.QueueKey(q.name), "5", script.Waiter("inbox-b", "b"), "-99999999999999", script.Alive("inbox-b", "b"))
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.Absent, Ahead: 1})
	q.a.expect(t, q.briefly(), node.Reply{Status: node.Absent})
	q.a.expect(t, q.at(10, "a"), reserved(node.Other, "b", 1))
	q.b.wake(t, "b")
	q.b.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	q.a.expect(t, q.on(node.Leave, "a"), node.Reply{Status: node.OK})
	q.a.gone(t, q.name)
	// The answer tells the caller, which needs no inbox for that.
	q.mute.expect(t, q.at(10, "m"), reserved(node.OK, "m", 0))
	q.mute.expect(t, q.at(10, "m"), reserved(node.OK, "m", 0))
	q.mute.expect(t, q.on(node.Claim, "m"), node.Reply{Status: node.OK, Raised: true, Fence: fence})
	q.mute.expect(t, q.at(10, "m"), node.Reply{Status: node.OK, Value: "m+10", Left: ttl, Fence: fence})
	q.mute.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "m", Queued: true}, node.Reply{Status: node.OK})
	q.a.gone(t, q.name)
}

func (q *queueing) deadSkipped(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	for i := range 5 {
		q.mute.expect(t, q.at(uint64(i), fmt.Sprint("m", i)), held(i))
		q.b.expect(t, q.at(uint64(10+i), fmt.Sprint("b", i)), held(2*i+1))
	}
	q.b.ask("ZADD", script.QueueKey(q.name), "7", "garbage", "8", "w")
	q.a.expect(t, q.at(20, "a"), held(12))
	for i := range 5 {
		q.b.ask("ZADD", script.QueueKey(q.name), past, script.Alive("inbox-b", fmt.Sprint("b", i)))
	}
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.OK, Value: rival, Left: prepared, Ahead: 6}) // the living
	q.a.expect(t, q.briefly(), node.Reply{Status: node.OK, Value: rival, Ahead: 6})
	q.mute.expect(t, q.on(node.Release, rival), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	q.b.silent(t)
	// It did not act, so it is dead until it says otherwise.
	q.a.ask("DEL", q.name)
	q.b.expect(t, q.at(30, "b"), reserved(node.OK, "b", 0))
	q.a.expect(t, q.at(20, "a"), reserved(node.Other, "b", 0))
	q.b.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
}

// dead has very many stand in the queue whose inbox nobody listens to.
func (q *queueing) dead(t *testing.T, n int, until string) {
	t.Helper()
	words := []string{"ZADD", script.QueueKey(q.name)}
	for i := range n {
		token := fmt.Sprint("dead", i)
		words = append(words, "7", script.Waiter("inbox-x", token), until, script.Alive("inbox-x", token))
	}
	if got := q.a.ask(words...); got != fmt.Sprint(":", 2*n) {
		t.Fatal(got)
	}
}

const (
	toCome = "-99999999999999" // when a heartbeat is over, as it is kept
	past   = "-5"
)

// stand checks how many members the queue has: two for each that stands there.
func (q *queueing) stand(t *testing.T, n int) {
	t.Helper()
	if got := q.a.ask("ZCARD", script.QueueKey(q.name)); got != fmt.Sprint(":", 2*n) {
		t.Errorf("%s members in the queue, want two for each of %d", got, n)
	}
}

// evaluated returns the words by which a script is called for one name.
func evaluated(s *script.Script, name string, args []string) []string {
	words := []string{"EVAL", s.Text, fmt.Sprint(s.Keys)}
	for _, key := range s.KeysOf {
		words = append(words, key(name))
	}
	return append(words, args...)
}

func (q *queueing) manyDead(t *testing.T) {
	const more = 3
	ms := script.InMillis(reserve)
	for _, c := range []struct {
		what  string
		key   string
		says  int
		left  int
		words []string
	}{
		{"release", rival, script.Ours, 1, evaluated(&script.Release, q.name, script.ReleaseArgs(script.ReleaseCall(nil, ms), rival, 0))},
		{"release of nothing", "", script.Absent, 1, evaluated(&script.Release, q.name, script.ReleaseArgs(script.ReleaseCall(nil, ms), rival, 0))},
		{"leave", "?a", script.Ours, 1, evaluated(&script.Leave, q.name, script.LeaveArgs(script.LeaveCall(nil, "inbox-a", ms), "a", false, 0))},
		{"enqueue", "", script.Other, 2, evaluated(&script.Enqueue, q.name, script.EnqueueArgs(script.EnqueueCall(nil, "inbox-a", ms, ms), "a", 9, false))},
	} {
		q.a.ask("DEL", q.name, script.QueueKey(q.name))
		q.dead(t, script.MaxLooks+more, toCome)
		q.b.ask("ZADD", script.QueueKey(q.name), "8", script.Waiter("inbox-b", "b"), toCome, script.Alive("inbox-b", "b"))
		if c.key != "" {
			q.a.ask("SET", q.name, c.key)
		}
		answer := strings.Fields(q.a.ask(c.words...))
		if says := strings.Trim(answer[min(2, len(answer)-1)], ":[]"); says != fmt.Sprint(c.says+script.Unfinished) {
			t.Errorf("%s: %q, want to be told that it is unfinished", c.what, answer)
		}
		q.stand(t, more+c.left)
		q.a.lookValue(t, q.name, "nil")
		q.b.silent(t)
		// Any release goes on.
		q.mute.expect(t, q.on(node.Release, "x"), node.Reply{Status: node.Absent})
		q.b.wake(t, "b")
		q.stand(t, c.left)
	}
	// An actor does so by itself.
	q.a.ask("DEL", q.name, script.QueueKey(q.name))
	q.a.prepare(t, q.name, others, none)
	q.dead(t, 3*script.MaxLooks+more, toCome)
	q.b.ask("ZADD", script.QueueKey(q.name), "8", script.Waiter("inbox-b", "b"), toCome, script.Alive("inbox-b", "b"))
	q.mute.expect(t, q.on(node.Release, rival), node.Reply{Status: node.OK})
	for range 3 {
		if b := q.mute.batch(t); len(b.Replies) != 0 {
			t.Errorf("%+v is told of what nobody has asked", b.Replies)
		}
	}
	q.b.wake(t, "b")
	q.stand(t, 1)
	q.b.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.OK})
	q.b.gone(t, q.name)
}

func (q *queueing) deadDropped(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	q.a.expect(t, q.at(1, "a"), held(0))
	q.dead(t, script.MaxLooks+3, past)
	q.b.expect(t, q.at(20, "b"), held(4)) // three that are dead are left before it
	q.stand(t, 5)
	q.a.expect(t, q.at(1, "a"), held(0))
	q.stand(t, 2)
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.OK, Value: rival, Left: prepared, Ahead: 2})
	// A waiter that comes back has kept its place, if it knows that.
	q.b.ask("ZADD", script.QueueKey(q.name), past, script.Alive("inbox-a", "a"))
	q.b.expect(t, q.at(20, "b"), held(0))
	q.stand(t, 1)
	q.a.expect(t, q.at(1, "a"), held(0))
	q.b.expect(t, q.at(20, "b"), held(1))
}

func (q *queueing) othersValue(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	q.a.expect(t, q.at(1, "a"), held(0))
	q.mute.expect(t, q.on(node.Release, rival), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	for _, token := range []string{"a", "b"} {
		for _, op := range []node.Op{node.Renew, node.Raise, node.Heal, node.Release} {
			if r := q.mute.one(t, q.on(op, token)); r.Status != node.Other {
				t.Errorf("%v of %q: %+v", op, token, r)
			}
		}
		if r := q.mute.one(t, q.on(node.Grant, token)); r.Status != node.Other {
			t.Errorf("grant of %q: %+v", token, r)
		}
	}
	q.mute.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.Other})
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.OK, Value: "?a", Left: reserve, Fence: fence})
}

// A release hands over what is free, and nothing that somebody else has.
func (q *queueing) notTheHolder(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	q.a.expect(t, q.at(1, "a"), held(0))
	q.b.ask("PEXPIRE", script.QueueKey(q.name), "3600000")
	q.a.expect(t, q.at(1, "a"), held(0))
	q.a.lookTTL(t, script.QueueKey(q.name), true, time.Hour) // a heartbeat makes it no shorter
	q.mute.expect(t, q.on(node.Release, "m"), node.Reply{Status: node.Other})
	q.a.lookValue(t, q.name, rival)
	q.a.silent(t)
	// What is like a reservation but for its end is another's.
	q.a.ask("SET", q.name, "?owner/token!")
	for _, op := range []node.Op{node.Renew, node.Heal} {
		if r := q.mute.one(t, q.on(op, "m")); r.Status != node.Other || r.Value != "?owner/token!" {
			t.Errorf("%v: %+v", op, r)
		}
	}
}

// Of two names in one call the second alone is waited for.
func (q *queueing) twoNames(t *testing.T) {
	var grants, releases []node.Command
	for i := range 2 {
		c := node.Command{Op: node.Grant, Name: fmt.Sprint(q.name, i), Token: "m"}
		grants = append(grants, c)
		c.Op = node.Release
		releases = append(releases, c)
	}
	q.mute.do(t, grants...)
	q.name = grants[1].Name
	q.a.expect(t, q.at(1, "a"), node.Reply{Status: node.Other, Value: "m", Left: ttl, Fence: fence})
	q.mute.do(t, releases...)
	q.a.wake(t, "a")
	q.a.lookValue(t, q.name, "?a")
	q.a.gone(t, grants[0].Name)
}

func (q *queueing) claims(t *testing.T) {
	raised := func(fence uint64) node.Reply { return node.Reply{Status: node.OK, Raised: true, Fence: fence} }
	claim := func(fence uint64, token string) node.Command {
		return node.Command{Op: node.Claim, Name: q.name, Token: token, Fence: fence}
	}
	q.a.expect(t, claim(10, "a"), raised(10)) // of a free key, without a place in the queue
	q.a.expect(t, claim(10, "a"), node.Reply{Status: node.OK, Fence: 10})
	// One that comes late takes nothing from what a raise has given since.
	name := q.name
	q.name += " late"
	q.a.expect(t, claim(10, "a"), raised(10))
	q.a.expect(t, node.Command{Op: node.Raise, Name: q.name, Token: "a", Fence: 20, TTL: alive}, node.Reply{Status: node.OK, Fence: 10})
	q.a.expect(t, claim(10, "a"), node.Reply{Status: node.OK, Fence: 20})
	q.a.lookValue(t, q.name, "a+20")
	q.a.lookTTL(t, q.name, true, alive)
	q.a.ask("DEL", q.name)
	q.name = name
	q.b.expect(t, claim(9, "b"), node.Reply{Status: node.Other, Fence: 10, Value: "a+10", Left: ttl})
	q.a.ask("SET", q.name, "?a", "PX", "4")
	gone(t, q.target, q.a.client, q.name, 4*time.Millisecond)
	q.mute.expect(t, node.Command{Op: node.Grant, Name: q.name, Token: rival, Fence: 11}, node.Reply{Status: node.OK, Raised: true})
	q.a.expect(t, claim(12, "a"), node.Reply{Status: node.Other, Raised: true, Fence: 12, Value: rival, Left: ttl})
	q.a.ask("DEL", q.name)
	q.a.ask("ZADD", q.name, "1", "x")
	q.a.expect(t, claim(12, "a"), node.Reply{Status: node.Other, Fence: 12, Left: -1})
	q.a.expect(t, q.at(1, "a"), node.Reply{Status: node.Other, Fence: 12, Left: -1})
}

// gifts are what a release gives that has a fence.
func (q *queueing) gifts(t *testing.T) {
	release := func(token string, fence uint64) node.Command {
		return node.Command{Op: node.Release, Name: q.name, Token: token, Fence: fence}
	}
	queue, register := script.QueueKey(q.name), script.FenceKey(q.name)
	begin := func(stored string) (until time.Duration) {
		t.Helper()
		q.a.ask("DEL", q.name, queue, register)
		q.a.prepare(t, q.name, others, stored)
		until = q.a.one(t, q.at(6, "a")).Until
		q.b.one(t, q.at(7, "b"))
		return until
	}
	stored := func(want string) {
		t.Helper()
		if got := q.a.ask("ZSCORE", register, script.Member); got != want {
			t.Errorf("stored: %q, want %q", got, want)
		}
	}

	until := begin("5")
	now, _ := strconv.ParseInt(strings.Trim(strings.Fields(q.a.ask("TIME"))[0], "["), 10, 64)
	if left := until - time.Duration(now)*time.Second; !near(left, alive) && !near(left, alive+time.Second) {
		t.Errorf("the heartbeat ends in %v", left)
	}
	q.b.expect(t, release(rival, 6), node.Reply{Status: node.OK})
	q.a.hear(t, node.Wake{Token: "a", Fence: 6, Beat: until, Life: 1})
	q.b.silent(t)
	q.a.lookValue(t, q.name, "a+6")
	q.a.lookTTL(t, q.name, true, reserve)
	q.stand(t, 1)
	stored("6")
	q.a.expect(t, q.at(6, "a"), node.Reply{Status: node.OK, Value: "a+6", Left: reserve, Fence: 6})
	q.b.expect(t, release(rival, 7), node.Reply{Status: node.Other})
	stored("6") // nothing is given that is another's
	q.a.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "a", Queued: true}, node.Reply{Status: node.OK})
	q.b.wake(t, "b")

	// A fence that is not larger gives nothing.
	for _, had := range []string{"6", "7", misused} {
		begin(had)
		q.b.expect(t, release(rival, 6), node.Reply{Status: node.OK})
		q.a.wake(t, "a")
		q.a.lookValue(t, q.name, "?a")
		if had != misused {
			stored(had)
		}
	}
	// Nor does one to a waiter whose heartbeat ends before a reservation would.
	begin(none)
	left := fmt.Sprintf("%.0f", -float64((until + reserve - alive - time.Second).Milliseconds()))
	q.a.ask("ZADD", queue, left, script.Alive("inbox-a", "a"))
	q.b.expect(t, release(rival, 6), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	q.a.lookValue(t, q.name, "?a")
	// Nor one of a key that is absent.
	begin(none)
	q.a.ask("DEL", q.name)
	q.b.expect(t, release(rival, 6), node.Reply{Status: node.Absent})
	q.a.wake(t, "a")
	q.a.lookValue(t, q.name, "?a")
	// Nor does a server on which the marker cannot be read, as one that a proxy hides with others.
	begin("5")
	before := q.a.ask("GET", script.Marker)
	q.a.ask("DEL", script.Marker)
	q.a.ask("ZADD", script.Marker, "1", "x")
	q.a.ask(evaluated(&script.Release, q.name, script.ReleaseArgs(script.ReleaseCall(nil, script.InMillis(reserve)), rival, 6))...)
	q.a.wake(t, "a")
	q.a.lookValue(t, q.name, "?a")
	stored("5")
	q.a.ask("SET", script.Marker, before)
	// A waiter that does not listen is passed over, and keeps nothing. The next one is not given.
	begin("5")
	q.mute.one(t, q.at(1, "m"))
	q.b.expect(t, release(rival, 6), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	q.a.lookValue(t, q.name, "?a")
	q.a.one(t, node.Command{Op: node.Claim, Name: q.name, Token: "a", TTL: alive, Fence: 7})
	q.a.lookValue(t, q.name, "a+7")
	q.stand(t, 1)
	// What is released with its place in the queue is given as well.
	until = q.b.one(t, q.at(7, "b")).Until
	both := node.Command{Op: node.Release, Name: q.name, Token: "a", Queued: true, Fence: 8}
	q.a.expect(t, both, node.Reply{Status: node.OK})
	q.b.hear(t, node.Wake{Token: "b", Fence: 8, Beat: until, Life: 1})
	q.b.lookValue(t, q.name, "b+8")
	until = q.a.one(t, q.at(6, "a")).Until
	q.b.expect(t, release("b", 9), node.Reply{Status: node.OK})
	q.a.hear(t, node.Wake{Token: "a", Fence: 9, Beat: until, Life: 1})
	q.a.expect(t, node.Command{Op: node.Leave, Name: q.name, Token: "a"}, node.Reply{Status: node.OK})
	q.a.lookValue(t, q.name, "a+9")
	q.a.ask("DEL", queue)
	q.mute.expect(t, q.at(1, "m"), node.Reply{Status: node.Other, Value: "a+9", Left: reserve, Fence: 9})
	q.mute.expect(t, release("a", 10), node.Reply{Status: node.OK})
	q.mute.one(t, node.Command{Op: node.Leave, Name: q.name, Token: "m"})
	q.a.gone(t, q.name)
	stored("10")
}

func (q *queueing) leaving(t *testing.T) {
	q.a.prepare(t, q.name, others, none)
	q.a.expect(t, q.at(1, "a1"), held(0))
	q.a.expect(t, q.at(2, "a2"), held(1))
	q.b.expect(t, q.at(3, "b"), held(2))
	q.a.expect(t, q.on(node.Leave, "a2"), node.Reply{Status: node.Other})
	q.b.expect(t, q.at(3, "b"), held(1))
	q.a.expect(t, q.at(2, "a2"), held(1))
	q.mute.expect(t, q.on(node.Release, rival), node.Reply{Status: node.OK})
	q.a.wake(t, "a1")
	// As a release does that may be queued.
	q.a.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "a1", Queued: true}, node.Reply{Status: node.OK})
	q.a.wake(t, "a2")
	q.a.expect(t, q.on(node.Claim, "a2"), node.Reply{Status: node.OK, Raised: true, Fence: fence})
	q.a.expect(t, q.on(node.Leave, "a2"), node.Reply{Status: node.OK})
	q.a.lookValue(t, q.name, "a2+10")
	q.a.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "a2", Queued: true}, node.Reply{Status: node.OK})
	q.b.wake(t, "b")
	// If a key is absent already, a release hands it over too.
	q.b.ask("DEL", q.name)
	if r := q.a.one(t, q.at(9, "a3")); r.Status != node.OK || r.Ahead != 0 {
		t.Errorf("%+v", r)
	}
	q.a.expect(t, q.on(node.Leave, "a3"), node.Reply{Status: node.OK})
	for _, op := range []node.Op{node.Release, node.Leave} {
		q.b.ask("ZADD", script.QueueKey(q.name), "5", script.Waiter("inbox-b", "b"), "-99999999999999", script.Alive("inbox-b", "b"))
		q.mute.expect(t, q.on(op, "x"), node.Reply{Status: node.Absent})
		q.b.wake(t, "b")
		q.b.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.OK})
	}
	q.a.gone(t, q.name)
}

// leftKeys are told to nobody, and handed to nobody before a release with their token.
func (q *queueing) leftKeys(t *testing.T) {
	value := func(r node.Reply, value string) node.Reply {
		r.Value, r.Fence = value, 20
		return r
	}
	q.mute.expect(t, q.on(node.Grant, "m"), node.Reply{Status: node.OK, Raised: true})
	q.mute.expect(t, node.Command{Op: node.Raise, Name: q.name, Token: "m", Fence: 20, TTL: alive}, node.Reply{Status: node.OK, Fence: fence})
	q.a.lookValue(t, q.name, "m+20")
	q.a.lookTTL(t, q.name, true, alive)
	q.a.expect(t, q.at(1, "a"), value(node.Reply{Status: node.Other, Left: alive}, "m+20"))
	q.b.expect(t, q.at(2, "b"), value(node.Reply{Status: node.Other, Left: alive, Ahead: 1}, "m+20"))
	q.mute.expect(t, q.on(node.Vacate, "m"), node.Reply{Status: node.OK})
	q.a.lookValue(t, q.name, "!m+20")
	q.a.lookTTL(t, q.name, true, ttl)
	q.a.silent(t)
	q.a.expect(t, q.at(1, "a"), value(node.Reply{Status: node.Other, Left: ttl}, "!m+20"))
	q.a.expect(t, q.on(node.Claim, "a"), value(node.Reply{Status: node.Other, Left: ttl}, "!m+20"))
	q.b.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.Other})
	q.b.expect(t, q.on(node.Release, "b"), node.Reply{Status: node.Other})
	q.b.expect(t, node.Command{Op: node.Vacate, Name: q.name, Token: "b", TTL: alive}, node.Reply{Status: node.Other})
	q.mute.expect(t, q.on(node.Leave, "m"), node.Reply{Status: node.Other})
	q.a.silent(t)
	q.a.lookValue(t, q.name, "!m+20")
	q.a.lookTTL(t, q.name, true, ttl)
	q.b.expect(t, q.on(node.Release, "m"), node.Reply{Status: node.OK})
	q.a.wake(t, "a")
	q.a.lookValue(t, q.name, "?a")
	// A release that is for the queue too frees it likewise.
	q.a.ask("SET", q.name, "!m+20")
	q.b.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "b", Queued: true}, node.Reply{Status: node.Other})
	q.mute.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "m", Queued: true}, node.Reply{Status: node.OK})
	q.a.silent(t)
	q.a.gone(t, q.name)
	q.a.expect(t, q.at(1, "a"), node.Reply{Status: node.OK, Left: reserve, Value: "?a", Fence: 20})
	// A client that leaves a key leaves the queue as well.
	q.b.expect(t, q.on(node.Vacate, "a"), node.Reply{Status: node.Other})
	q.stand(t, 1)
	q.a.expect(t, q.on(node.Vacate, "a"), node.Reply{Status: node.Other})
	q.stand(t, 0)
	q.a.lookValue(t, q.name, "?a")
	// Each of several names is left for its own time, and again for another one.
	two := q.name + ", two"
	for _, times := range [][2]time.Duration{{alive, ttl}, {ttl, alive}} {
		q.mute.ask("SET", two, "m")
		q.mute.ask("SET", q.name, node.LeftMark+"m+7")
		for _, r := range q.mute.do(t, node.Command{Op: node.Vacate, Name: q.name, Token: "m", TTL: times[0]}, node.Command{Op: node.Vacate, Name: two, Token: "m", TTL: times[1]}) {
			if r.Status != node.OK {
				t.Errorf("%+v", r)
			}
		}
		q.a.lookValue(t, q.name, "!m+7")
		q.a.lookValue(t, two, "!m")
		q.a.lookTTL(t, q.name, true, times[0])
		q.a.lookTTL(t, two, true, times[1])
	}
	q.mute.ask("DEL", two)
	// The key is free when its time is up.
	q.mute.ask("SET", q.name, "m")
	short := 150 * time.Millisecond
	q.mute.expect(t, node.Command{Op: node.Vacate, Name: q.name, Token: "m", TTL: short}, node.Reply{Status: node.OK})
	gone(t, q.target, q.mute.client, q.name, short)
	q.a.expect(t, q.at(1, "a"), value(node.Reply{Status: node.OK, Left: reserve}, "?a"))
	q.a.expect(t, q.on(node.Leave, "a"), node.Reply{Status: node.OK})
	q.a.gone(t, q.name)
}

func (q *queueing) otherTypes(t *testing.T) {
	q.a.ask("SET", script.QueueKey(q.name), "text")
	q.a.ask("SET", q.name, "a")
	for _, c := range []node.Command{q.at(1, "b"), q.on(node.Claim, "b")} {
		other := c
		other.Name = "another"
		q.a.ask("DEL", "another")
		got := q.a.do(t, c, other)
		if got[0].Status != node.Unknown || got[0].Err == nil || !strings.HasPrefix(got[0].Err.Error(), "WRONGTYPE") {
			t.Errorf("%+v", got[0])
		}
		if got[1].Status != node.OK {
			t.Errorf("%v refuses another name, too: %+v", c.Op, got[1])
		}
	}
	// The claim has proposed its fence all the same, which does no harm: it only grows.
	q.a.expect(t, q.on(node.Inspect, ""), node.Reply{Status: node.OK, Value: "a", Left: -1, Fence: 10})
	q.a.expect(t, q.briefly(), node.Reply{Status: node.OK, Value: "a"})
	q.a.expect(t, q.on(node.Leave, "b"), node.Reply{Status: node.Other})
	q.a.expect(t, q.on(node.Release, "a"), node.Reply{Status: node.OK})
	q.a.ask("SET", q.name, "a")
	q.a.expect(t, node.Command{Op: node.Release, Name: q.name, Token: "a", Queued: true}, node.Reply{Status: node.OK})
	q.a.ask("DEL", script.QueueKey(q.name))
	q.a.ask("SET", script.FenceKey(q.name), "text")
	q.a.expect(t, q.at(1, "b"), reserved(node.OK, "b", 0))
	if got := q.a.one(t, q.on(node.Claim, "b")); got.Status != node.Unknown || got.Err == nil {
		t.Errorf("%+v", got)
	}
	q.a.lookValue(t, q.name, "?b")
}

func (q *queueing) manyNames(t *testing.T) {
	many := func(op node.Op, token string, queued bool) []node.Command {
		commands := make([]node.Command, script.MaxNames+3)
		for i := range commands {
			commands[i] = node.Command{Op: op, Name: fmt.Sprint(q.name, i), Token: token, Ticket: uint64(i), Queued: queued}
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
	all(q.mute, many(node.Grant, "m", false), node.OK, 0)
	all(q.a, many(node.Enqueue, "a", false), node.Other, 0)
	all(q.b, many(node.Enqueue, "b", false), node.Other, 1)
	all(q.a, many(node.Inspect, "", false), node.OK, 2)
	looks := many(node.Inspect, "", false)
	for i := range looks {
		looks[i].Brief = i >= 20 // they are of one pipeline, and of calls of their own
	}
	all(q.a, looks, node.OK, 2)
	for i, r := range q.a.do(t, looks...) {
		if looks[i].Brief && r.Left != 0 || !looks[i].Brief && !near(r.Left, ttl) || r.Value != "m" {
			t.Errorf("inspected, brief: %v: %+v", looks[i].Brief, r)
		}
	}
	all(q.mute, many(node.Release, "m", false), node.OK, 0)
	for range script.MaxNames + 3 {
		q.a.wake(t, "a")
	}
	all(q.a, many(node.Claim, "a", false), node.OK, 0)
	all(q.a, many(node.Release, "a", true), node.OK, 0)
	for range script.MaxNames + 3 {
		q.b.wake(t, "b")
	}
	all(q.b, many(node.Leave, "b", false), node.OK, 0)
	all(q.b, many(node.Inspect, "", false), node.Absent, 0)
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
	if stands := c.Op == node.Enqueue && !keyspace.Holds(want.Value, c.Token); stands {
		want.Ticket = cmp.Or(want.Ticket, c.Ticket)
		if got.Until != 0 {
			want.Until = got.Until
		} else {
			want.Until = -1
		}
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
	w := d.next(t)
	if w.Fence != 0 && (w.At <= 0 || w.Until-w.At != reserve || w.Until > w.Beat) {
		t.Errorf("%+v: given for %v, %v before the end of a heartbeat", w, w.Until-w.At, w.Beat-w.At)
	}
	w.At, w.Until = 0, 0
	if w != want {
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
