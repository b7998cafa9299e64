package core

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// Whatever a node says, or comes due, of very many leases: no wake-up of the loop
// deals with more than a few thousand commands, and every lease gets its turn.
func TestWorkOfOneWakeUp(t *testing.T) {
	const leases, most = 20_000, maxSends + sweepPiece*5
	b := enrolled(t, 5)
	for i := range leases {
		b.hold(fmt.Sprint("name-", i))
	}
	b.log = nil
	c := b.c
	// round lets all that is due be done, and says yes to it.
	asked := make(map[uint64]bool)
	round := func(what string) {
		t.Helper()
		for end := b.now().Add(c.terms.TTL); len(asked) < leases; {
			if b.now() > end {
				t.Fatalf("%s: %d of %d asked after %v", what, len(asked), leases, c.terms.TTL)
			}
			b.clock.Advance(c.Wait(b.now()))
			now := b.now()
			c.Tick(now)
			if n := c.queued; n > most {
				t.Fatalf("%s: %d commands in one wake-up, want %d at most", what, n, most)
			}
			b.perform()
			for _, s := range b.take(node.Renew) {
				asked[s.cmd.ID] = true
				c.onReply(now, s.node, node.Reply{ID: s.cmd.ID, Op: s.cmd.Op, Status: node.OK})
			}
			b.perform()
			b.log = nil
		}
	}
	c.Hear(b.now(), node.Wake{Node: 0, Key: "*"})
	if n := c.queued; n > most {
		t.Fatalf("news of all: %d commands at once", n)
	}
	round("news of all")

	b.clock.Advance(c.terms.RenewEvery)
	clear(asked)
	round("all renewals due at once")
	if len(c.held) != leases {
		t.Errorf("%d leases are held, want %d", len(c.held), leases)
	}
}

// BenchmarkWakeUp measures single wake-ups of the loop, apart from what the rest of a machine
// does meanwhile, in the worst bursts of 100,000 leases on five nodes: all are renewed at
// once; one node has forgotten all of them; all are lost at once.
func BenchmarkWakeUp(bm *testing.B) {
	const leases = 100_000
	for _, burst := range []string{"renewed", "forgotten", "lost"} {
		bm.Run(burst, func(bm *testing.B) {
			var took []time.Duration
			for range bm.N {
				bm.StopTimer()
				b := enrolled(bm, 5)
				for i := range leases {
					b.hold(fmt.Sprint("name-", i))
					b.log, b.sent = nil, nil
				}
				c := b.c
				runtime.GC()
				bm.StartTimer()
				var unanswered [5][]node.Reply
				wakeUp := func(what func(now clock.Instant)) {
					begun := time.Now()
					what(b.now())
					b.perform()
					took = append(took, time.Since(begun))
					for _, s := range b.sent {
						r := node.Reply{ID: s.cmd.ID, Op: s.cmd.Op, Status: node.OK}
						if burst == "forgotten" && s.node == 4 && r.Op == node.Renew {
							r.Status = node.Absent
						}
						unanswered[s.node] = append(unanswered[s.node], r)
					}
					b.log, b.sent = b.log[:0], b.sent[:0]
				}
				switch burst {
				case "renewed":
					b.clock.Advance(c.terms.RenewEvery)
				case "forgotten":
					b.restart(4)
					b.clock.Advance(c.terms.RenewEvery)
				case "lost":
					b.clock.Advance(c.terms.TTL)
				}
				for done := false; !done; {
					done = c.Next() > b.now()
					if !done {
						wakeUp(c.Tick)
					}
					for i, rs := range unanswered {
						if n := min(len(rs), 768); n > 0 {
							done = false
							unanswered[i] = rs[n:]
							wakeUp(func(now clock.Instant) { c.Receive(now, node.Batch{Node: i, State: c.nodes[i].state, Replies: rs[:n]}) })
						}
					}
				}
				if n := len(c.held); n != leases && burst != "lost" || n != 0 && burst == "lost" {
					bm.Fatalf("%d leases are held", n)
				}
			}
			slices.Sort(took)
			for name, q := range map[string]float64{"p50": .5, "p99": .99, "max": 1} {
				bm.ReportMetric(float64(took[int(q*float64(len(took)-1))].Microseconds()), "us/"+name)
			}
			bm.ReportMetric(float64(len(took))/float64(bm.N), "wake-ups")
		})
	}
}

// The leases of a burst are not renewed in a burst.
func TestRenewalsAreSpread(t *testing.T) {
	const leases, tenth = 5_000, 100 * time.Millisecond
	b := enrolled(t, 1)
	for i := range leases {
		b.hold(fmt.Sprint("name-", i))
	}
	c := b.c
	var bursts []int
	begun := b.now()
	for b.now() < begun.Add(5*c.terms.TTL) {
		b.clock.Advance(min(c.Wait(b.now()), tenth))
		now := b.now()
		c.Tick(now)
		k := int(now.Sub(begun) / tenth)
		for len(bursts) <= k {
			bursts = append(bursts, 0)
		}
		bursts[k] += c.queued
		perform.All(now, c, len(c.nodes), agreeable{b})
	}
	sum, most := 0, 0
	for _, n := range bursts {
		sum += n
		most = max(most, n)
	}
	if mean := sum / len(bursts); 2*most > 3*mean {
		t.Errorf("%d renewals in %v, and %d on average: want half as many more at most", most, tenth, mean)
	} else {
		t.Logf("%d renewals in %v at most, %d on average", most, tenth, mean)
	}
}

// A lease that is held costs a known part of the heap: of the core, and what its
// holder has in hand.
func TestHeapOfALease(t *testing.T) {
	const leases = 10_000
	for n, most := range map[int]float64{1: 450, 5: 585} {
		names := make([]string, leases)
		for i := range names {
			names[i] = fmt.Sprint("name-", i)
		}
		b := enrolled(t, n)
		held := make([]*lease.Lease, leases)
		heap := func() float64 {
			runtime.GC()
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			return float64(s.HeapAlloc)
		}
		before := heap()
		for i, name := range names {
			held[i] = b.hold(name)
			b.log, b.sent = nil, nil
		}
		b.outcomes = nil // which the loop does not keep
		each := (heap() - before) / leases
		runtime.KeepAlive(names)
		runtime.KeepAlive(held)
		runtime.KeepAlive(b)
		t.Logf("N=%d: %.0f B", n, each)
		if each > most {
			t.Errorf("N=%d: a lease costs %.0f B of heap, want %.0f at most", n, each, most)
		}
	}
}

// A lease that is held has no stages of its own, but while a grant is unanswered, or a node is to
// be asked once more.
func TestStages(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	for k, grant := range b.take(node.Grant) {
		if b.say(grant, node.OK); k == 1 {
			b.got(w)
			if held := b.c.lines["x"].holder; held.sent != 1<<0|1<<1 {
				t.Errorf("%+v while a grant is unanswered", held.stages)
			}
		}
	}
	held := b.c.lines["x"].holder
	if held.stages != &noStages {
		t.Errorf("%+v once it is held", held.stages)
	}
	b.clock.Advance(b.c.terms.RenewEvery)
	b.c.Tick(b.now())
	b.c.Hear(b.now(), node.Wake{Node: 1, Key: "x"})
	b.perform()
	renewals := b.take(node.Renew)
	if held.askAgain != 1<<1 || noStages != (stages{}) {
		t.Errorf("%+v after news, and shared are %+v", held.stages, noStages)
	}
	for _, s := range renewals {
		b.say(s, node.OK)
	}
	b.wantNodes(b.take(node.Renew), 1)
	if held.stages != &noStages {
		t.Errorf("%+v once it was asked once more", held.stages)
	}
}

// A renewal allocates nothing in the core.
func TestRenewalAllocatesNothing(t *testing.T) {
	b := enrolled(t, 5)
	for i := range 1000 {
		b.hold(fmt.Sprintf("lease-%d", i))
	}
	b.c.alarms.clear(&b.c.agreement) // fingerprints are no renewals
	b.renewAll()
	if n := testing.AllocsPerRun(20, b.renewAll); n != 0 {
		t.Errorf("1,000 renewals on five nodes allocated %v times", n)
	}
}

// Close has every lease released, although there are more than a mailbox takes; and
// ends at once if nothing can be sent any more.
func TestCloseWithLittleRoom(t *testing.T) {
	const leases, room = 1000, 100
	for _, cut := range []bool{false, true} {
		b := enrolled(t, 3)
		for i := range leases {
			b.hold(fmt.Sprint("name-", i))
		}
		b.sent = nil
		c := b.c
		c.Close(b.now())
		if n := leases - len(c.held); n != sweepPiece {
			t.Fatalf("Close ended %d leases at once, want %d", n, sweepPiece)
		}
		released := make(map[send]bool)
		for round := 0; !c.Drained(); round++ {
			if round > 3*leases {
				t.Fatalf("%d tenures are left", c.tenures.len())
			}
			b.perform()
			taken := 0
			for _, s := range b.take(node.Release) {
				if taken++; taken > room {
					c.Unsent(b.now(), s.node, s.cmd)
					continue
				}
				released[s] = true
				b.say(s, node.OK)
			}
			if cut {
				c.Cut(b.now())
				continue
			}
			b.advance(c.Wait(b.now()))
		}
		if n := len(released); !cut && n != 3*leases {
			t.Errorf("%d releases were sent, want %d", n, 3*leases)
		}
		if got := c.UnreleasedInAll() > 0; got != cut {
			t.Errorf("cut %v: Close says of %d names that they may stay taken", cut, c.UnreleasedInAll())
		}
		if n := b.alarms(); n > 0 {
			t.Errorf("%d alarms are left", n)
		}
	}
}

// Very many callers wait for one name. However they end, no input and no tick does more
// than a piece, the lease that is lost meanwhile is told first, and every caller is told.
func TestManyWaitersOfOneName(t *testing.T) {
	const callers = 20_000
	for how, end := range map[string]func(b *bench, waiting []Call){
		"closed": func(b *bench, _ []Call) { b.c.Close(b.now()) },
		"the nodes are one server": func(b *bench, _ []Call) {
			for i := range 2 {
				s := b.state()
				s.Run, s.Identity = "run", "id"
				b.c.Receive(b.now(), node.Batch{Node: i, State: s})
			}
		},
		"given up, the first first": func(b *bench, waiting []Call) {
			for _, w := range waiting {
				b.c.Cancel(b.now(), w)
			}
		},
		"given up, the last first": func(b *bench, waiting []Call) {
			for _, w := range slices.Backward(waiting) {
				b.c.Cancel(b.now(), w)
			}
		},
	} {
		b := enrolled(t, 3)
		b.hold("y")
		b.hold("x")
		var waiting []Call
		for range callers {
			waiting = append(waiting, b.acquire("x"))
		}
		b.sent, b.log = nil, nil
		end(b, waiting)
		b.perform()
		if how == "closed" && b.log[0] != "ended" {
			t.Errorf("%s: %s before the leases were told", how, b.log[0])
		}
		for round := 0; b.c.callers > 0; round++ {
			if round > callers {
				t.Fatalf("%s: %d callers were not told", how, b.c.callers)
			}
			told := len(b.outcomes)
			b.clock.Advance(b.c.Wait(b.now()))
			b.c.Tick(b.now())
			b.perform()
			if n := len(b.outcomes) - told; n > 2*maxServed {
				t.Fatalf("%s: %d callers were told by one wake-up", how, n)
			}
			b.sent = nil
		}
		for _, w := range waiting {
			if b.answer(w) == nil {
				t.Fatalf("%s: a caller has got a lease", how)
			}
		}
		for _, w := range b.c.waiters {
			if w != nil {
				t.Fatalf("%s: the waiter of call %d is remembered", how, w.Call)
			}
		}
	}
}

// Very many names are waited for, by one caller each. However all of that ends, no input and
// no tick tells more than a piece, and nothing is acquired any more.
func TestManyNamesThatAreWaitedFor(t *testing.T) {
	const names = 5000
	for how, end := range map[string]func(b *bench){
		"closed": func(b *bench) { b.c.Close(b.now()) },
		"the nodes are one server": func(b *bench) {
			for i := range 2 {
				s := b.state()
				s.Run, s.Identity = "run", "id"
				b.c.Receive(b.now(), node.Batch{Node: i, State: s})
			}
		},
	} {
		b := enrolled(t, 3)
		var waiting []Call
		var late []send // grants that the nodes answer only then
		for i := range names {
			name := fmt.Sprint("name", i)
			if i%4 != 0 {
				b.hold(name)
			}
			waiting = append(waiting, b.acquire(name))
			late = append(late, b.take(node.Grant)...)
		}
		told := len(b.outcomes)
		end(b)
		b.perform()
		for round := 0; b.c.callers > 0; round++ {
			if round > names {
				t.Fatalf("%s: %d callers were not told", how, b.c.callers)
			}
			if n := len(b.outcomes) - told; n > 2*maxServed {
				t.Fatalf("%s: %d callers were told at once", how, n)
			}
			told = len(b.outcomes)
			b.c.onReply(b.now(), late[0].node, node.Reply{ID: late[0].cmd.ID, Op: node.Grant, Status: node.OK})
			late = late[1:]
			b.clock.Advance(max(b.c.Wait(b.now()), time.Millisecond))
			b.c.Tick(b.now())
			b.perform()
			b.sent = nil
		}
		for _, w := range waiting {
			if b.answer(w) == nil {
				t.Fatalf("%s: a caller has got a lease", how)
			}
		}
		if len(b.c.waited) != 0 {
			t.Errorf("%s: %d lines are left", how, len(b.c.waited))
		}
	}
}

// A line that is not dismissed yet begins nothing, wins nothing, and is cut with the rest.
func TestDismissedInTurn(t *testing.T) {
	begin := func() (*bench, Call, []send) {
		b := enrolled(t, 3)
		w := b.acquire("first", func(r *Request) { r.Attempts = 9 }) // the last in its turn
		grants := b.take(node.Grant)
		for i := range 2 * sweepPiece {
			b.acquire(fmt.Sprint("name", i))
		}
		b.take(node.Grant)
		b.c.Close(b.now())
		b.perform()
		b.waits(w)
		return b, w, grants
	}
	b, w, grants := begin()
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	if r := b.answer(w); r == nil || r.Reason != ReasonClosed {
		t.Errorf("%+v after Close", r)
	}
	b, w, grants = begin()
	for _, g := range grants {
		b.say(g, node.Other)
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.Absent)
	}
	b.c.alarms.clear(&b.c.dismissing) // its turn is late
	for range 5 {
		b.advance(time.Second)
	}
	if r := b.answer(w); r == nil || r.Reason != ReasonClosed || len(b.take(node.Grant)) > 0 {
		t.Errorf("%+v after Close", r)
	}
	b, w, _ = begin()
	b.c.Cut(b.now())
	b.perform()
	if b.done(w) || len(b.c.waited) != 0 || b.c.callers != 0 || b.alarms() != 0 {
		t.Errorf("told %v, %d lines and %d callers are left", b.done(w), len(b.c.waited), b.c.callers)
	}
}

// The core is not drained before all were told, also if nothing is out for them.
func TestNotDrainedBeforeAllAreTold(t *testing.T) {
	b := enrolled(t, 3)
	var waiting []Call
	for i := range 2 * sweepPiece {
		waiting = append(waiting, b.acquire(fmt.Sprint("name", i), func(r *Request) { r.Attempts = 9 }))
		for _, s := range b.take(node.Grant) {
			b.say(s, node.Other)
		}
		for _, s := range b.take(node.Inspect) {
			b.say(s, node.Absent)
		}
		for _, s := range b.take(node.Release) {
			b.say(s, node.OK)
		}
	}
	if n := b.c.tenures.len(); n != 0 {
		t.Fatalf("%d attempts are out", n)
	}
	b.c.Close(b.now())
	b.perform()
	for !b.c.Drained() {
		b.advance(b.c.Wait(b.now()))
	}
	for _, w := range waiting {
		if r := b.answer(w); r == nil || r.Reason != ReasonClosed {
			t.Fatalf("%+v", r)
		}
	}
}

// A lease is given back while very many wait for it, all of whom have given up but the
// last: it begins one attempt, and not one for each of them.
func TestGivenUpInTurn(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	var waiting []Call
	for range 1000 {
		waiting = append(waiting, b.acquire("x"))
	}
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	for _, w := range waiting[:999] {
		b.c.Cancel(b.now(), w)
	}
	b.perform()
	if n := len(b.take(node.Grant)); n != 3 {
		t.Errorf("%d grants were sent to three nodes", n)
	}
}

// crowdedNodes are nodes that have no room for a command.
type crowdedNodes struct{ *bench }

func (crowdedNodes) Send(_ int, commands []node.Command) []node.Command { return commands }

// The first in a line gives up because no node has room. The next one tries at once, although
// no answer of a node has the core look again.
func TestNextInLineAfterNoRoom(t *testing.T) {
	b := enrolled(t, 3)
	b.c.alarms.clear(&b.c.agreement)
	first := Request{Call: b.call(), Key: "x", Terms: b.c.terms, Attempts: 1}
	second := Request{Call: b.call(), Key: "x", Terms: b.c.terms}
	b.c.Acquire(b.now(), first)
	b.c.Acquire(b.now(), second)
	perform.All(b.now(), b.c, 3, crowdedNodes{b})
	b.refused(first.Call, ReasonNoQuorum)
	if wait := b.c.Wait(b.now()); wait != 0 {
		t.Errorf("the next one waits %v for its turn", wait)
	}
	b.advance(0)
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// Very many wait whose only attempt fails at once, because the nodes are young. No wake-up
// serves more than a piece of them.
func TestManyAttemptsThatFailAtOnce(t *testing.T) {
	const callers = 20 * maxServed
	b := enrolled(t, 3)
	b.hold("x")
	for range callers {
		b.acquire("x", func(r *Request) { r.Attempts = 1 })
	}
	for i := range 3 {
		b.restart(i)
	}
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	for round := 0; b.c.callers > 0; round++ {
		if round > callers {
			t.Fatalf("%d callers were not told", b.c.callers)
		}
		told := len(b.outcomes)
		b.advance(b.c.Wait(b.now()))
		if n := len(b.outcomes) - told; n > 2*maxServed {
			t.Fatalf("%d callers were told by one wake-up", n)
		}
	}
}
