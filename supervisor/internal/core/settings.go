package core

import (
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// Settings are the inputs with which a core is made. They are complete and were checked: the maker
// of a core fills in the defaults. See supervisor.Config for what each means.
type Settings struct {
	Nodes int // how many there are in all, 1 to MaxNodes
	// Former and Present are the indices of the nodes that belong to the former and to the present
	// list, while the nodes are being changed. Without a change both are nil: all are in one list.
	Former, Present []int

	TTL, MaxTTL, MaxTTLCap time.Duration
	Drift, Grace           time.Duration // 0 for those of each TTL
	RenewEvery             time.Duration // of TTL
	NodeTimeout            time.Duration
	RetryMin, RetryMax     time.Duration
	Guard                  bool
	GuardWindow            time.Duration // for how long a node that forgot is young at least

	NoLeases bool // it only asks: it begins no change of the nodes

	Owner string   // the holder that tokens show
	Seed  [32]byte // of tokens and jitter: from a good source, as all tokens follow from it
}

// Terms are the times of a lease, all derived from its TTL. Leases of the same TTL share one.
type Terms struct {
	TTL, Drift, Grace, RenewEvery time.Duration
	Window                        time.Duration // an election takes at most so long
}

// MinGrace is the least grace of a lease.
const MinGrace = 10 * time.Millisecond

// Terms derives the times of a lease from its TTL.
func (s *Settings) Terms(ttl time.Duration) *Terms {
	t := &Terms{TTL: ttl, Drift: s.DriftOf(ttl), Grace: s.Grace, RenewEvery: s.RenewEvery, Window: ttl / 4}
	if t.Grace == 0 {
		t.Grace = max(ttl/20, MinGrace)
	}
	if ttl != s.TTL {
		t.RenewEvery = time.Duration(float64(s.RenewEvery) * (float64(ttl) / float64(s.TTL)))
	}
	return t
}

// DriftOf returns the allowance for clock rates during a TTL.
func (s *Settings) DriftOf(ttl time.Duration) time.Duration {
	if s.Drift != 0 {
		return s.Drift
	}
	return ttl/100 + 2*time.Millisecond
}

// Window returns for how long a node that forgot is young if leases last for maxTTL at most.
func (s *Settings) Window(maxTTL time.Duration) time.Duration {
	return max(s.GuardWindow, maxTTL+s.DriftOf(maxTTL))
}

// Reserve returns for how long a node keeps a name for the first in its queue. That is long enough
// to hear of it and to claim it, even from a node that is late.
func (s *Settings) Reserve() time.Duration { return 3 * s.NodeTimeout }

// Heartbeat returns about how often a waiter in a queue asks again. It is so seldom that it costs
// next to nothing, and so often that a waiter which does not claim its reservation is found out
// soon.
func (s *Settings) Heartbeat() time.Duration { return max(s.Reserve(), s.RetryMin) }

// Alive returns for how long a waiter in a queue counts as alive after its last heartbeat: one
// heartbeat may be lost. It is sent in whole milliseconds.
func (s *Settings) Alive() time.Duration {
	return (2*s.Heartbeat() + s.NodeTimeout).Truncate(time.Millisecond)
}

// signEvery returns how often a client leaves its fingerprint, and signedFor for how long a
// fingerprint counts: several may be lost, and it outlives what is believed of a vote that was asked
// for a MaxTTL later.
func (s *Settings) signEvery() time.Duration {
	return min(max(s.MaxTTL/2, time.Second), 10*time.Second)
}
func (s *Settings) signedFor() time.Duration {
	return max(4*s.signEvery(), 2*s.MaxTTL+s.DriftOf(s.MaxTTL)).Truncate(time.Millisecond)
}

// pauseAfter returns how long to wait after so many failed attempts. The pause grows, and is
// jittered so that rivals do not collide for ever.
func (c *Core) pauseAfter(tries int) time.Duration {
	s := &c.settings
	d := s.RetryMin
	if spread := s.RetryMax - s.RetryMin; spread > 0 {
		d += time.Duration(c.rand.Int64N(int64(spread) + 1))
	}
	for i := 1; i < min(tries, 5); i++ {
		d += d / 2
	}
	return d
}

// newToken returns a fresh token, for a lease with that fence, 0 if it is not known yet. A token is
// never used for a second attempt: a late command of the first would touch it. See invariant 7 of
// package supervisor.
func (c *Core) newToken(owner string, fence uint64) string {
	if owner == "" {
		owner = c.settings.Owner
	}
	return node.NewToken(owner, fence, c.random)
}
