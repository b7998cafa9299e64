package core

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// raw collects what is sent as it is, groups included.
type raw struct {
	*bench
	sent [][]node.Command // by node
}

func (r *raw) Send(i int, commands []node.Command) []node.Command {
	for _, cmd := range commands {
		if cmd.Op != node.Sign {
			r.sent[i] = append(r.sent[i], cmd)
		}
	}
	return nil
}

func (r *raw) perform() { perform.All(r.now(), r.c, len(r.c.nodes), r) }

// tick moves the clock up to when the next is due.
func (r *raw) tick() {
	r.clock.Advance(r.c.Wait(r.now()))
	r.c.Tick(r.now())
	r.perform()
}

// answer has a node say something to its first command.
func (r *raw) answer(i int, statuses ...node.Status) {
	cmd := r.sent[i][0]
	r.sent[i] = r.sent[i][1:]
	r.c.Receive(r.now(), node.Batch{Node: i, State: r.c.nodes[i].state, Replies: []node.Reply{replyTo(cmd, statuses)}})
	r.perform()
}

// replyTo is the reply to a command: to a group what its members have fared.
func replyTo(cmd node.Command, statuses []node.Status) node.Reply {
	r := node.Reply{ID: cmd.ID, Op: cmd.Op, Status: statuses[0]}
	if cmd.Group == nil {
		if r.Status == node.Unknown {
			r.Err = errDown
		}
		return r
	}
	r.Status = node.OK
	var but node.Exceptions
	for k, status := range statuses {
		if status == node.OK {
			continue
		}
		e := node.Exception{Member: k, Status: status}
		if status == node.Unknown {
			e.Err = errDown
		}
		but = append(but, e)
		r.But = &but
	}
	return r
}

// holding returns a bench with leases on n nodes, all of which are renewed at once from now on:
// by groups, or one by one.
func holding(t *testing.T, n, leases, fewest int) *raw {
	b := enrolled(t, n)
	b.c.groups.fewest = fewest
	for k := range leases {
		b.hold(fmt.Sprint("name-", k))
	}
	return gathering(b)
}

// holdingSome does so with leases that have the votes of all nodes but the last.
func holdingSome(t *testing.T, n, leases, fewest int) *raw {
	b := enrolled(t, n)
	b.c.groups.fewest = fewest
	for k := range leases {
		w := b.acquire(fmt.Sprint("name-", k))
		for _, s := range b.take(node.Grant) {
			if s.node == n-1 {
				b.say(s, node.Unknown)
				continue
			}
			b.say(s, node.OK)
		}
		b.got(w)
	}
	return gathering(b)
}

// gathering returns the bench, of which all that is sent is kept as it is from now on.
func gathering(b *bench) *raw {
	b.c.alarms.clear(&b.c.agreement)
	return &raw{b, make([][]node.Command, len(b.c.nodes))}
}

// Leases that are renewed at the same instant are one message to each node, and what it answers
// is the answer to each of them.
func TestRenewedTogether(t *testing.T) {
	const leases = maxGroup + 44
	r := holding(t, 3, leases, 2)
	c := r.c
	r.clock.Advance(c.terms.RenewEvery)
	for c.Next() <= r.now() {
		c.Tick(r.now())
	}
	r.perform()
	for i, sent := range r.sent {
		if len(sent) != 2 || len(sent[0].Group.Members) != maxGroup || len(sent[1].Group.Members) != leases-maxGroup {
			t.Fatalf("node %d was sent %d commands: %+v", i, len(sent), sent)
		}
		if sent[0].Group != r.sent[0][0].Group {
			t.Errorf("node %d gets a group of its own", i)
		}
	}
	g := r.sent[0][0].Group
	first, second := c.tenures.get(g.Members[0].ID), c.tenures.get(g.Members[1].ID)
	until := first.hold.until
	says := slices.Repeat([]node.Status{node.OK}, maxGroup)
	says[1] = node.Absent
	r.answer(0, says...)
	if first.hold.until != until || first.votes.of[0].until != first.votes.of[0].promise || first.pending.has(0) {
		t.Errorf("after one answer: %+v", first.votes.of)
	}
	if second.votes.of[0].standing != withdrawn || second.votes.of[0].until != 0 {
		t.Errorf("of a key that is gone: %+v", second.votes.of)
	}
	says[1] = node.OK
	r.answer(1, says...)
	if want := r.now().Add(c.terms.TTL - c.terms.Drift - c.terms.Grace); first.hold.until != want {
		t.Errorf("after two answers until %v, want %v", first.hold.until, want)
	}
	if left := r.leases[Slot(first.id)].Lease().Remaining(); left != first.hold.until.Add(c.terms.Grace).Sub(r.now()) {
		t.Errorf("the holder was told of %v", left)
	}
	r.answer(2, says...)
	if len(c.groups.out) != 1 || len(c.groups.spare) != 1 {
		t.Errorf("%d groups are out, %d may be used again: want one each", len(c.groups.out), len(c.groups.spare))
	}
}

// A group for which a node has no room, or which a second connection to the same server has
// answered, is renewed on the others, and there again.
func TestGroupThatWasNotSent(t *testing.T) {
	r := holding(t, 3, 10, 2)
	c := r.c
	r.clock.Advance(c.terms.RenewEvery)
	c.Tick(r.now())
	r.perform()
	cmd := r.sent[0][0]
	c.Unsent(r.now(), 0, cmd)
	for _, m := range cmd.Group.Members {
		if x := c.tenures.get(m.ID); x.pending.has(0) || !x.hold.retry.has(0) {
			t.Fatalf("%+v", x)
		}
	}
	c.nodes[1].twin = 1
	r.answer(1, slices.Repeat([]node.Status{node.OK}, len(cmd.Group.Members))...)
	for _, m := range cmd.Group.Members {
		if x := c.tenures.get(m.ID); x.pending.has(1) || x.votes.of[1].until == x.votes.of[1].promise {
			t.Fatalf("%+v", x)
		}
	}
}

// What is sent after a group was gathered arrives after it: a release most of all, after which a
// renewal must not come.
func TestGroupIsNotOvertaken(t *testing.T) {
	r := holding(t, 3, 10, 2)
	c := r.c
	r.clock.Advance(c.terms.RenewEvery)
	c.Tick(r.now())
	x := c.held[0]
	c.Release(r.now(), x.id, r.call())
	r.perform()
	for i, sent := range r.sent {
		if len(sent) != 2 || sent[0].Op != node.RenewAll || sent[1].Op != node.Release {
			t.Fatalf("node %d: %+v", i, sent)
		}
	}
	// It is over, and forgotten only when its renewal was answered as well.
	for i := range r.sent {
		members := len(r.sent[i][0].Group.Members)
		release := r.sent[i][1]
		r.sent[i][0], r.sent[i][1] = release, r.sent[i][0]
		r.answer(i, node.OK)
		if c.tenures.get(x.id) == nil {
			t.Fatal("forgotten before its renewal was answered")
		}
		r.answer(i, slices.Repeat([]node.Status{node.OK}, members)...)
	}
	if c.tenures.get(x.id) != nil {
		t.Error("not forgotten")
	}
}

// What comes of a group is what would come of its leases if each had a renewal of its own,
// whatever the nodes say, and whatever happens meanwhile.
func TestGroupIsAsOneByOne(t *testing.T) {
	const nodes, leases = 3, 6
	quick := 0
	for seed := range uint64(600) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		hold := holding
		if seed%3 == 0 {
			hold = holdingSome
		}
		groups, single := hold(t, nodes, leases, 1), hold(t, nodes, leases, 1<<30)
		both := []*raw{groups, single}
		rarely := 2 << rnd.IntN(5) // does a node not say yes
		alone := rnd.IntN(2) == 0  // only one node ever lacks a key
		for step := range 60 {
			i := rnd.IntN(nodes)
			what := rnd.IntN(20)
			d := time.Duration(rnd.Int64N(int64(groups.c.terms.TTL / 20)))
			x := rnd.IntN(leases)
			switch {
			case what < 4:
				for _, r := range both {
					r.clock.Advance(d)
					r.c.Tick(r.now())
					r.perform()
				}
			case what < 7:
				for _, r := range both {
					r.tick()
				}
			case what == 7:
				for _, r := range both {
					r.c.Hear(r.now(), node.Wake{Node: i, Key: fmt.Sprint("name-", x)})
					r.perform()
				}
			case what == 8 && rnd.IntN(3) == 0:
				for _, r := range both {
					s := r.c.nodes[i].state
					s.Life++
					s.LifeAt, s.Grown = r.now(), false
					r.c.Receive(r.now(), node.Batch{Node: i, State: s})
					r.perform()
				}
			case what == 9:
				for _, r := range both {
					if l := r.c.lines[fmt.Sprint("name-", x)]; l != nil && l.holder != nil {
						r.c.Extend(r.now(), l.holder.id, termsOf(time.Second+30*d), r.call())
						r.perform()
					}
				}
			case what == 10 && rnd.IntN(3) == 0:
				for _, r := range both {
					r.clock.Advance(20 * d) // and nobody has looked at what is due
				}
			case what == 10:
				for _, r := range both {
					s := r.c.nodes[i].state // the time that it tells now
					s.Time, s.TimeSent, s.TimeBack = nodesTime+time.Duration(r.now())+d, r.now(), r.now()
					r.c.Receive(r.now(), node.Batch{Node: i, State: s})
					r.perform()
				}
			case len(groups.sent[i]) == 0:
			default:
				cmd := groups.sent[i][0]
				members := apart([]node.Command{cmd})
				says := make([]node.Status, len(members))
				for k := range says {
					says[k] = node.OK
					if rnd.IntN(rarely) == 0 {
						says[k] = []node.Status{node.Unknown, node.Absent, node.Other}[rnd.IntN(3)]
						if alone && i != int(seed)%nodes {
							says[k] = node.Unknown
						}
					}
				}
				quick += len(members)
				groups.answer(i, says...)
				var replies []node.Reply
				for k, m := range members {
					at := slices.IndexFunc(single.sent[i], func(s node.Command) bool { return s.ID == m.ID && s.Op == m.Op })
					if at < 0 {
						t.Fatalf("seed %d, step %d: %v of %d was sent by a group alone\n%+v\n%+v", seed, step, m.Op, m.ID, groups.sent[i], single.sent[i])
					}
					single.sent[i] = slices.Delete(single.sent[i], at, at+1)
					replies = append(replies, replyTo(m, says[k:k+1]))
				}
				single.c.Receive(single.now(), node.Batch{Node: i, State: single.c.nodes[i].state, Replies: replies})
				single.perform()
			}
			for slot, a := range groups.c.tenures.slots {
				b := single.c.tenures.slots[slot]
				if (a == nil) != (b == nil) || a != nil && leaseText(a) != leaseText(b) {
					t.Fatalf("seed %d, step %d: by groups\n%s\none by one\n%s", seed, step, leaseText(a), leaseText(b))
				}
				if a == nil || a.phase != phaseHeld {
					continue
				}
				if told, want := groups.leases[slot].Lease().Remaining(), single.leases[slot].Lease().Remaining(); told != want {
					t.Fatalf("seed %d, step %d: a holder of a group was told of %v, want %v: %s", seed, step, told, want, leaseText(a))
				}
			}
		}
	}
	if quick < 1000 {
		t.Errorf("%d renewals were answered by group", quick)
	}
}

// leaseText is all that may come of renewals.
func leaseText(t *tenure) string {
	if t == nil {
		return "none"
	}
	text := fmt.Sprint(t.id, t.phase, t.pending, t.askAgain, t.hold.until, t.hold.renewAt, t.votes.of, t.votes.trials(), t.votes.loose, t.alarm.due())
	if o := t.hold.rareState; o != nil {
		text += fmt.Sprint(o.retryAt, o.retry, o.ask, o.fails, o.short, o.extend != nil, o.ttlCap != nil)
	}
	return text
}
