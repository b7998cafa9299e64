package supervisor

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// What stays in a bag throughout a walk is looked at, whatever is put in and taken out
// meanwhile; and no more than a piece at once.
func TestWalk(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &core{}
		var b bag[*line]
		stays := make(map[*line]bool)
		var others []*line
		for i := range 5 * walkPiece {
			l := &line{queue: &queue{}}
			b.add(l)
			if stays[l] = i%3 == 0; !stays[l] {
				others = append(others, l)
			}
		}
		change := func() {
			switch l := others[r.IntN(len(others))]; {
			case l.spot == 0:
				b.add(l)
			default:
				b.del(l)
			}
		}
		var w walk[*line]
		seen, now := make(map[*line]bool), clock.Instant(0)
		w.begin(c, now, &b, func(_ clock.Instant, l *line) { seen[l] = true; change() })
		for pieces := 1; len(c.alarms) > 0; pieces++ {
			if pieces > 20 {
				t.Fatalf("seed %d: a walk without an end", seed)
			}
			now = c.alarms[0].at
			before := len(seen)
			c.tick(now)
			if n := len(seen) - before; n > walkPiece {
				t.Fatalf("seed %d: %d at once, want %d at most", seed, n, walkPiece)
			}
			change()
		}
		for l, stay := range stays {
			if stay && !seen[l] {
				t.Fatalf("seed %d: something was passed over", seed)
			}
		}
		for i, l := range b {
			if int(l.spot) != i+1 {
				t.Fatalf("seed %d: the bag does not know where its things are", seed)
			}
		}
	}
}

// What comes during a walk has it done again, once.
func TestWalkAgain(t *testing.T) {
	c := &core{}
	var b bag[*line]
	for range 2 * walkPiece {
		b.add(&line{queue: &queue{}})
	}
	var w walk[*line]
	seen := 0
	step := func(clock.Instant, *line) { seen++ }
	for range 3 {
		w.begin(c, 0, &b, step)
	}
	for len(c.alarms) > 0 {
		c.tick(c.alarms[0].at)
	}
	if seen != 2*len(b) {
		t.Errorf("%d steps of %d things, want two each", seen, len(b))
	}
}

// Whatever a node says, or comes due, of very many leases: no wake-up of the loop
// deals with more than a few thousand commands, and every lease gets its turn.
func TestWorkOfOneWakeUp(t *testing.T) {
	const leases, most = 20_000, maxSends + walkPiece*5
	b := enrolled(t, 5)
	for i := range leases {
		b.hold(fmt.Sprint("name-", i))
	}
	b.log = nil
	c := &b.c
	// round lets all that is due be done, and says yes to it.
	asked := make(map[uint64]bool)
	round := func(what string) {
		t.Helper()
		for end := b.now().Add(c.terms.ttl); len(asked) < leases; {
			if b.now() > end {
				t.Fatalf("%s: %d of %d asked after %v", what, len(asked), leases, c.terms.ttl)
			}
			b.clock.Advance(c.wait(b.now()))
			now := b.now()
			c.tick(now)
			if n := len(c.sends); n > most {
				t.Fatalf("%s: %d commands in one wake-up, want %d at most", what, n, most)
			}
			for _, s := range c.sends {
				asked[s.cmd.ID] = true
				c.reply(now, s.node, node.Reply{ID: s.cmd.ID, Op: s.cmd.Op, Status: node.OK})
			}
			b.c.sends = b.c.sends[:0]
			b.perform()
			b.log, b.sent = nil, nil
		}
	}
	c.woken(b.now(), node.Wake{Node: 0, Key: "*"})
	if n := len(c.sends); n > most {
		t.Fatalf("news of all: %d commands at once", n)
	}
	round("news of all")

	b.clock.Advance(c.terms.renewEvery)
	clear(asked)
	round("all renewals due at once")
	if len(c.held) != leases {
		t.Errorf("%d leases are held, want %d", len(c.held), leases)
	}
}

// The leases of a burst are not renewed in a burst.
func TestRenewalsAreSpread(t *testing.T) {
	const leases, tenth = 5_000, 100 * time.Millisecond
	b := enrolled(t, 1)
	for i := range leases {
		b.hold(fmt.Sprint("name-", i))
	}
	c := &b.c
	var bursts []int
	begun := b.now()
	for b.now() < begun.Add(5*c.terms.ttl) {
		b.clock.Advance(min(c.wait(b.now()), tenth))
		now := b.now()
		c.tick(now)
		k := int(now.Sub(begun) / tenth)
		for len(bursts) <= k {
			bursts = append(bursts, 0)
		}
		bursts[k] += len(c.sends)
		for _, s := range c.sends {
			c.reply(now, s.node, node.Reply{ID: s.cmd.ID, Op: s.cmd.Op, Status: node.OK})
		}
		c.sends = c.sends[:0]
		b.perform()
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
