package core

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// heartbeat has a waiter's next heartbeat come, and these nodes answer it. It returns when that
// was sent, and until when it counts by the nodes' TIME.
func (b *bench) heartbeat(nodes ...int) (sent clock.Instant, beat time.Duration) {
	b.t.Helper()
	b.take(node.Enqueue)
	b.advance(b.c.settings.Heartbeat())
	sent = b.now()
	beat = (nodesTime + time.Duration(sent) + b.c.settings.Alive()).Truncate(time.Millisecond)
	for _, s := range b.take(node.Enqueue) {
		for _, i := range nodes {
			if s.node == i {
				b.say(s, node.Other, theirs, func(r *node.Reply) { r.Ticket, r.Until = s.cmd.Ticket, beat })
			}
		}
	}
	return sent, beat
}

// give has nodes say that they have given the key to a token, by a heartbeat that ends then.
func (b *bench) give(token string, fence uint64, beat time.Duration, nodes ...int) {
	for _, i := range nodes {
		b.c.Hear(b.now(), b.gift(i, token, fence, beat))
		b.perform()
	}
}

// gift is what node i says when it gives a key.
func (b *bench) gift(i int, token string, fence uint64, beat time.Duration) node.Wake {
	at := nodesTime + time.Duration(b.now())
	return node.Wake{
		Node: i, Token: token, Fence: fence, Life: b.c.nodes[i].state.Life,
		Beat: beat, At: at, Until: at + b.c.settings.Reserve(),
	}
}

// placed has a waiter stand in the queue of every node, at its place.
func (b *bench) placed(change ...func(*Request)) (w Call, token string) {
	b.t.Helper()
	w, token = b.stand("x", change...)
	b.c.lines["x"].placed = true
	return w, token
}

// A quorum that was given to a waiter is a lease: for as long as the nodes keep the key, counted
// from before the heartbeat was sent for which they have given it.
func TestGifts(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	sent, until := b.heartbeat(0, 1, 2)
	b.advance(20 * time.Millisecond)
	b.give(token, 7000, until, 0)
	b.waits(w)
	b.wantNodes(b.take(node.Claim))
	b.give(token, 7000, until, 2)
	held := b.got(w)
	if held.Fence() != 7000 || string(held.Token()) != token {
		t.Errorf("%q with fence %d", held.Token(), held.Fence())
	}
	tn := b.c.lines["x"].holder
	// 20 ms after the heartbeat the node began to keep it for as long as a reservation.
	if want := sent.Add(20*time.Millisecond + b.c.settings.Reserve() - tn.terms.Drift - tn.terms.Grace); tn.hold.until != want {
		t.Errorf("until %v after the heartbeat: want %v", tn.hold.until.Sub(sent), want.Sub(sent))
	}
	b.wantNodes(b.take(node.Renew))
	b.wantNodes(b.take(node.Claim))
	// The third has given it too: that is one more vote.
	b.clock.Advance(10 * time.Millisecond)
	b.give(token, 7000, until, 1)
	if v := tn.votes.of[1]; v.until != sent.Add(30*time.Millisecond+b.c.settings.Reserve()-tn.terms.Drift) {
		t.Errorf("the third: %v", v)
	}
	// It is renewed soon, whatever it is given for.
	b.wantNodes(b.take(node.Renew))
	b.advance(trackAfter - 10*time.Millisecond)
	renewals := b.take(node.Renew)
	b.wantNodes(renewals, 0, 1, 2)
	for _, s := range renewals {
		b.say(s, node.OK)
	}
	if m := b.c.Margins(b.now()); m != (Margins{}) {
		t.Errorf("a lease that was given and renewed at once counts as nearly lost: %+v", m)
	}
	if want := b.now().Add(tn.terms.TTL - tn.terms.Drift - tn.terms.Grace); tn.hold.until != want {
		t.Errorf("renewed until %v: want %v", tn.hold.until, want)
	}
	b.clock.Advance(tn.hold.renewAt.Sub(b.now()))
	b.advance(0)
	for _, s := range b.take(node.Renew) {
		b.say(s, node.OK)
	}
	if m := b.c.Margins(b.now()); m.Least < tn.terms.TTL/2 || m.Tenths[5]+m.Tenths[6] == 0 {
		t.Errorf("renewed in time: %+v", m)
	}
}

// What is no answer to the latest heartbeat that was answered, or none in time, is worth what a
// reservation is: it is claimed.
func TestGiftsThatAreClaimed(t *testing.T) {
	type play struct {
		b     *bench
		token string
		until time.Duration
	}
	for _, c := range []struct {
		what   string
		give   func(p play)
		change func(*Request)
	}{
		{"two fences", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			p.b.give(p.token, 7001, p.until, 1)
		}, nil},
		{"an earlier heartbeat", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			p.b.give(p.token, 7000, p.until-time.Millisecond, 1)
		}, nil},
		{"a reservation", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			p.b.announce(p.token, 1)
		}, nil},
		{"later than the window", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			p.b.clock.Advance(p.b.c.terms.Window - 18*time.Millisecond)
			p.b.give(p.token, 7000, p.until, 0, 1)
		}, nil},
		{"too late to be renewed", func(p play) {
			for i := range 2 {
				late := p.b.gift(i, p.token, 7000, p.until)
				if i == 0 {
					p.b.clock.Advance(p.b.spare())
				} else {
					late.At, late.Until = late.At-p.b.spare(), late.Until-p.b.spare()
				}
				p.b.c.Hear(p.b.now(), late)
				p.b.perform()
			}
		}, nil},
		{"slow nodes", func(p play) {
			p.b.c.nodes[1].state.Patience = p.b.c.settings.Reserve()
			p.b.give(p.token, 7000, p.until, 0, 1)
		}, nil},
		{"another life", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			another := p.b.gift(1, p.token, 7000, p.until)
			another.Life = 2
			p.b.c.Hear(p.b.now(), another)
			p.b.perform()
		}, nil},
		{"a life that began since", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			p.b.restart(1, func(s *node.State) { s.Grown = true })
			p.b.give(p.token, 7000, p.until, 1)
		}, nil},
		{"a clock that has gained", func(p play) {
			s := p.b.state()
			s.Time += 800 * time.Millisecond
			p.b.c.Receive(p.b.now(), node.Batch{Node: 1, State: s})
			p.b.give(p.token, 7000, p.until, 0, 1)
		}, nil},
		{"it lay there through a pause", func(p play) {
			p.b.give(p.token, 7000, p.until, 0)
			w := p.b.gift(1, p.token, 7000, p.until)
			w.At += p.b.c.terms.Drift + 20*time.Millisecond
			p.b.c.Hear(p.b.now(), w)
			p.b.perform()
		}, nil},
		{"it is not renewed", func(p play) { p.b.give(p.token, 7000, p.until, 0, 1) }, func(r *Request) { r.NoRenew = true }},
		{"a heartbeat outlasts the lease", func(p play) { p.b.give(p.token, 7000, p.until, 0, 1) }, func(r *Request) {
			terms := *r.Terms
			terms.TTL = time.Second
			r.Terms = &terms
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := enrolled(t, 3)
			if c.what == "later than the window" {
				b.c.settings.NodeTimeout = 250 * time.Millisecond
			}
			var change []func(*Request)
			if c.change != nil {
				change = append(change, c.change)
			}
			w, token := b.placed(change...)
			_, until := b.heartbeat(0, 1, 2)
			b.clock.Advance(19 * time.Millisecond)
			c.give(play{b, token, until})
			b.waits(w)
			b.wantNodes(b.take(node.Claim), 0, 1)
		})
	}
}

// What a clock has gained since the heartbeat, its vote loses: the key ends by that clock.
func TestGiftAges(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	sent, until := b.heartbeat(0, 1, 2)
	gain := b.c.terms.Drift + 20*time.Millisecond
	early := b.gift(1, token, 7000, until) // the clock jumps after this
	s := b.state()
	s.Time += gain
	b.c.Receive(b.now(), node.Batch{Node: 1, State: s})
	b.c.Hear(b.now(), early)
	b.give(token, 7000, until, 0)
	b.got(w)
	tn := b.c.lines["x"].holder
	if want := sent.Add(b.c.settings.Reserve() - tn.terms.Drift - gain); tn.votes.of[1].until != want {
		t.Errorf("until %v after the heartbeat: want %v", tn.votes.of[1].until.Sub(sent), want.Sub(sent))
	}
}

// A node that was given by another release is one that may have been a rival's.
func TestGiftOfAnotherRelease(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	_, until := b.heartbeat(0, 1, 2)
	b.give(token, 7000, until, 0, 1)
	b.got(w)
	b.give(token, 6000, until, 2)
	if v := b.c.lines["x"].holder.votes.of[2]; v.until != 0 || v.standing != onProbation {
		t.Errorf("%v: want it on probation", v)
	}
	b.wantNodes(b.take(node.Renew)) // it is renewed soon
	b.advance(trackAfter)
	b.wantNodes(b.take(node.Renew), 0, 1, 2)
}

// In a crowd one lease follows another sooner than a claim is ahead of the nodes' time. Their
// fences do not run away from it.
func TestReleaseProposesTheNext(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	_, until := b.heartbeat(0, 1, 2)
	ahead := uint64((nodesTime+time.Duration(b.now()))/time.Microsecond) + 2*claimLead
	b.give(token, ahead, until, 0, 1)
	b.got(w)
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	for _, s := range b.take(node.Release) {
		if s.cmd.Fence != ahead+1 {
			t.Errorf("node %d: fence %d, want %d", s.node, s.cmd.Fence, ahead+1)
		}
	}
}

// spare is how late a gift may come, and still be believed.
func (b *bench) spare() time.Duration {
	return b.c.settings.Reserve() - b.c.settings.NodeTimeout - b.c.terms.Drift - b.c.terms.Grace
}

// A node may say that it has given the key when it was asked to renew it already. The answer to that is
// worth what it was asked for, and until it comes the key may be kept for so long.
func TestGiftAfterTheRenewalWasSent(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	_, until := b.heartbeat(0, 1, 2)
	third := b.gift(1, token, 7000, until)
	b.give(token, 7000, until, 0, 2)
	b.got(w)
	tn := b.c.lines["x"].holder
	b.advance(trackAfter)
	renewals, want := b.take(node.Renew), b.now().Add(tn.terms.TTL-tn.terms.Drift)
	b.wantNodes(renewals, 0, 1, 2)
	b.c.Hear(b.now(), third)
	b.perform()
	if v := tn.votes.of[1]; v.until == 0 || v.until >= want || !tn.votes.loose.has(1) {
		t.Errorf("given: until %v, loose %t", v.until, tn.votes.loose.has(1))
	}
	for _, s := range renewals {
		b.say(s, node.OK)
	}
	if v := tn.votes.of[1]; v.until != want || tn.votes.loose.has(1) {
		t.Errorf("renewed: until %v, want %v; loose %t", v.until, want, tn.votes.loose.has(1))
	}
}

// What is left of a gift may be little: then it is renewed before an answer would be late.
func TestGiftIsRenewedInTime(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	_, until := b.heartbeat(0, 1, 2)
	gifts := []node.Wake{b.gift(0, token, 7000, until), b.gift(1, token, 7000, until)}
	b.clock.Advance(b.spare() - 10*time.Millisecond)
	for _, g := range gifts {
		b.c.Hear(b.now(), g)
		b.perform()
	}
	b.got(w)
	b.advance(5 * time.Millisecond)
	b.wantNodes(b.take(node.Renew), 0, 1, 2)
}

// A message may overtake the answer to its heartbeat. It counts when that has come.
func TestGiftBeforeTheAnswer(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	var late send
	b.take(node.Enqueue)
	b.advance(b.c.settings.Heartbeat())
	until := (nodesTime + time.Duration(b.now()) + b.c.settings.Alive()).Truncate(time.Millisecond)
	answer := func(s send) {
		b.say(s, node.Other, theirs, func(r *node.Reply) { r.Ticket, r.Until = s.cmd.Ticket, until })
	}
	for _, s := range b.take(node.Enqueue) {
		if s.node == 1 {
			late = s
		} else {
			answer(s)
		}
	}
	b.give(token, 7000, until, 1)
	answer(late)
	b.waits(w)
	b.give(token, 7000, until, 0)
	if held := b.got(w); held.Fence() != 7000 {
		t.Errorf("fence %d", held.Fence())
	}
}

// What a young node has been asked for counts for nothing, also if it has grown since.
func TestGiftOfAYoungNode(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.placed()
	b.restart(1)
	_, until := b.heartbeat(0, 1, 2)
	s := b.c.nodes[1].state
	s.Grown = true
	b.c.Receive(b.now(), node.Batch{Node: 1, State: s})
	b.give(token, 7000, until, 0, 1)
	b.waits(w)
	b.wantNodes(b.take(node.Claim), 0, 1)
}

// What gives a key back that was given may come late. So the waiter goes on with another token.
func TestGiftIsGivenBackWithItsToken(t *testing.T) {
	b := enrolled(t, 3)
	_, token := b.placed()
	_, until := b.heartbeat(0, 1, 2)
	ahead := func(r *node.Reply) { theirs(r); r.Value, r.Ahead = node.Reserved(r.Value), 1 }
	b.give(token, 7000, until, 0)
	b.advance(b.c.settings.NodeTimeout / 2)
	for _, s := range b.take(node.Enqueue) {
		if s.node == 0 {
			b.say(s, node.OK, func(r *node.Reply) { r.Value = token })
		} else {
			b.say(s, node.Other, ahead)
		}
	}
	released := b.take(node.Release)
	b.wantNodes(released, 0, 1, 2)
	for _, s := range released {
		if s.cmd.Token != token || !s.cmd.Queued {
			t.Errorf("%+v: want the token that it was given to, in the queue and the key", s.cmd)
		}
	}
	again := b.take(node.Enqueue)
	b.wantNodes(again, 0, 1, 2)
	for _, s := range again {
		if s.cmd.Token == token || s.cmd.New {
			t.Errorf("%+v: want a fresh token, at the old place", s.cmd)
		}
	}
}

// A release proposes the next fence to all nodes that may have the key, once, and only while
// the lease is valid.
func TestReleaseGives(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x")
	for _, s := range b.take(node.Grant)[:3] {
		b.say(s, node.OK)
	}
	held := b.got(w)
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	next := uint64((nodesTime + time.Duration(b.now())) / time.Microsecond)
	for _, s := range b.take(node.Release) {
		if want := max(next+claimLead, held.Fence()+1); s.cmd.Fence != want {
			t.Errorf("node %d: fence %d, want %d", s.node, s.cmd.Fence, want)
		}
		b.say(s, node.Unknown)
	}
	b.advance(collectEvery)
	for _, s := range b.take(node.Release) {
		if s.cmd.Fence != 0 {
			t.Errorf("owed to node %d: fence %d", s.node, s.cmd.Fence)
		}
	}

	b = enrolled(t, 3)
	b.hold("x")
	b.clock.Advance(b.c.terms.TTL)
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	for _, s := range b.take(node.Release) {
		if s.cmd.Fence != 0 {
			t.Errorf("of a lease that is over, node %d: fence %d", s.node, s.cmd.Fence)
		}
	}
}
