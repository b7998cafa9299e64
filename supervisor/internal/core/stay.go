package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file has the name that stays taken, Request.MinHold, for so long after its election began.
// It stays taken even if the holder gives the lease back before, or loses it, or dies. The nodes
// keep the key for that long then, and what is believed takes no notice of it: a vote is good for
// the TTL as always. The purpose is to keep a job from running twice, and not safety.
//
// An election asks for the TTL. Once a quorum has granted, the raise gives these keys the longer
// time, before any caller is told that the lease is won. So a holder's name is surely kept, and an
// attempt that dies on the way leaves keys for no longer than the TTL. With keys for a day, two
// such attempts, on a node each of three, would keep the name from all clients for a day, in which
// none has had it. See invariant 23 of package supervisor.

// stay returns how long the key should live for which a tenure asks now: for its TTL, or until the
// name may be free.
func (t *tenure) stay(now clock.Instant) time.Duration {
	if !t.hold.everHeld() {
		return t.terms.TTL
	}
	return max(t.terms.TTL, wholeMillis(t.hold.stayUntil.Sub(now)))
}

// stretch returns how long the raise of an election makes the key live; 0 if it leaves it as it is.
func (t *tenure) stretch(now clock.Instant) time.Duration {
	d := t.minHold()
	if d == 0 {
		return 0
	}
	ttl := max(t.terms.TTL, wholeMillis(t.begun.Add(d).Sub(now)))
	t.own().stretched = max(t.stretched, ttl)
	return ttl
}

// minHold returns for how long the name is to stay taken after an election.
func (t *tenure) minHold() time.Duration {
	if t.line == nil {
		return 0 // of an adoption: it has none
	}
	return t.line.first.MinHold
}

// wholeMillis rounds up to what can be sent.
func wholeMillis(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// staysUntil returns up to when the name stays taken after a lease; 0 if that is not wanted.
func (t *tenure) staysUntil() clock.Instant {
	if !t.hold.everHeld() {
		return 0
	}
	return t.hold.stayUntil
}

// Forgo handles a lease that was won after its caller had given up. No process has had the name, so
// it does not stay taken: it is given back as an attempt that was not won. A node that is not told
// so keeps the key for as long as it was asked to.
func (c *Core) Forgo(now clock.Instant, id uint64, call Call) {
	if t := c.tenures.get(id); t != nil && t.phase == phaseHeld && t.hold.stayUntil > now {
		t.sentFor(wholeMillis(t.hold.stayUntil.Sub(now)))
		t.hold.rare().stayUntil = 0
	}
	c.Release(now, id, call)
}

// releaseOf turns a release into one that leaves the key, if the name is to stay taken. It then
// gives the key to no waiter.
func releaseOf(now clock.Instant, cmd node.Command, until clock.Instant) node.Command {
	if left := until.Sub(now); left > 0 {
		cmd.Op, cmd.TTL, cmd.Fence, cmd.Queued = node.Vacate, wholeMillis(left), 0, false
	}
	return cmd
}
