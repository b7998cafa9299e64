package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file is the name that stays taken, Request.MinHold, for so long after its election began:
// also if the holder gives the lease back before, or loses it, or is no more. The nodes keep the
// key for that long then, and what is believed takes no notice of it: a vote is good for the TTL
// as always. It is there to keep a job from running twice, and not for safety.
//
// An election asks for the TTL. Once a quorum has granted, the raise gives these keys the longer
// time, before anybody is told that the lease is won. So whoever runs under it has the name kept,
// and an attempt that dies on the way leaves keys for no longer than the TTL: with keys for a day
// two of them, on a node each of three, would keep the name from everybody for a day, in which
// nobody has had it. See invariant 23 of package supervisor.

// stay returns for how long the key is to live that a tenure asks for now: for its TTL, or until
// the name may be free.
func (t *tenure) stay(now clock.Instant) time.Duration {
	if !t.hold.everHeld() {
		return t.terms.TTL
	}
	return max(t.terms.TTL, wholeMillis(t.hold.stayUntil.Sub(now)))
}

// stretch returns for how long the raise of an election has the key live; 0 if it leaves it as it is.
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

// staysUntil returns up to when the name is to stay taken after a lease; 0 if that is not wanted.
func (t *tenure) staysUntil() clock.Instant {
	if !t.hold.everHeld() {
		return 0
	}
	return t.hold.stayUntil
}

// releaseOf turns a release into one that leaves the key, if the name is to stay taken. It gives
// the key to nobody then.
func releaseOf(now clock.Instant, cmd node.Command, until clock.Instant) node.Command {
	if left := until.Sub(now); left > 0 {
		cmd.Op, cmd.TTL, cmd.Fence, cmd.Queued = node.Vacate, wholeMillis(left), 0, false
	}
	return cmd
}
