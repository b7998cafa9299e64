package core

import (
	"testing"

	"github.com/leasehold-go/leasehold/node"
)

// As in TestKeyOfAnotherLife, but the rival's TTL is longer than any that the holder has
// heard of: it was met by the rival at nodes 0 and 2 only, node 0 is out of the holder's
// reach, and node 2 has forgotten. Its election may take a quarter of MaxTTLCap.
//
//  1. The holder (TTL 3 s) has nodes 0 and 1; its grant to node 2 is late, and given up.
//  2. A rival (TTL 60 s, W 15 s) has raised the markers of nodes 0 and 2. It asks: node 2
//     grants, node 0 is slow.
//  3. Node 2 is flushed. The holder's late grant lands there.
//  4. The holder enrols at node 2 before the rival does, so the marker tells its own MaxTTL,
//     and renews there when W + drift of 3 s are over.
//  5. The holder's key on node 0 lapses, and the rival's grant lands there, inside its W.
func TestKeyOfAnotherLifeAndALongerRival(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	l := b.got(w)
	b.say(grants[2], node.Unknown)
	b.restart(2)
	held := b.c.lines["x"].holder
	for b.advance(b.healAfter() + 1); l.Err() == nil; b.advance(b.c.terms.RenewEvery / 4) {
		b.answerAll(map[int]node.Status{0: node.Unknown})
		if held.votes.of[2].until != 0 {
			t.Fatalf("it counts %v after the loss of data: a rival of the longest TTL may still win", b.now().Sub(b.c.nodes[2].state.LifeAt))
		}
	}
}

// What a node reserves for a lease that is held already is not claimed: a key that comes
// there before the others have confirmed would look like an unbroken tenure to one that
// adopts it.
//
//  1. The holder stood in the queues, and has nodes 0 and 1. It does not reach node 0.
//  2. Its key on node 0 is deleted by hand. A rival has nodes 0 and 2, its whole tenure,
//     and releases: node 2 reserves the key for the holder, who still stands there.
//  3. The holder claims it, and dies before it learns of the deletion. Nodes 1 and 2 keep
//     its token: one that has the handle adopts the lease by them.
func TestReservationForHolderWaitsForTrial(t *testing.T) {
	b := enrolled(t, 3)
	w, token := b.stand("x")
	b.announce(token, 0, 1)
	for _, s := range b.take(node.Claim) {
		b.say(s, node.OK)
	}
	b.got(w)
	b.announce(token, 2)
	b.wantNodes(b.take(node.Claim))
	b.answerAll(map[int]node.Status{0: node.Unknown})
	b.wantNodes(b.take(node.Heal))
	b.advance(b.c.terms.RenewEvery)
	b.answerAll(map[int]node.Status{2: node.Absent})
	b.answerAll(map[int]node.Status{2: node.Absent})
	b.wantNodes(b.take(node.Heal), 2)
}
