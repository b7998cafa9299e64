package supervisor

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// A Holding is who holds a name, as the nodes said at one moment. A key that is
// reserved for a waiter is neither held nor free.
type Holding struct {
	Name  string        // the name, prefix included
	Held  bool          // a quorum of nodes keeps the same token
	Free  bool          // a quorum of nodes keeps nothing
	Owner string        // where Held: who; empty if the token does not say, as those of other libraries
	Token string        // where Held: the value of the key; whoever knows it can delete it
	Left  time.Duration // where Held: unless renewed, a quorum keeps it for so long at most; -1 for ever
	Fence uint64        // the highest that a node has stored for the name; 0 if none

	// Waiting is how many callers of Acquire stand in line for the name, one for each
	// process, on the node that knows of most. Some of them may be gone.
	Waiting int

	// Since is where Held when that lease began, at the latest, by the nodes' clocks;
	// zero if no node knows. It is Fence read as a time, and as exact as the nodes'
	// clocks agree with each other if nobody has tried for the name since; attempts
	// that were refused move it on.
	Since time.Time

	Nodes []Answer // what each node said
}

type inspected struct {
	answers answers
	err     error
}

// Inspect asks every node who holds a name. It is for display: by the time that
// it returns, the answer may be another, so never decide by it whether to work;
// acquire instead. It waits for every node that answers, a node timeout for one
// that does not, or for ctx. Held and Free are both false where no quorum says the
// same; that so few nodes could be reached is an error that wraps [ErrNoQuorum].
func (s *Supervisor) Inspect(ctx context.Context, name string) (Holding, error) {
	return s.inspect(ctx, name, false)
}

// inspect has the nodes tell of the next change as well, where they can, if track is
// set.
func (s *Supervisor) inspect(ctx context.Context, name string, track bool) (Holding, error) {
	if err := s.cfg.checkName(name); err != nil {
		return Holding{}, fmt.Errorf("inspect: %w", err)
	}
	h := Holding{Name: s.cfg.Prefix + name}
	result := make(chan inspected, 1)
	if !s.post(inspectMessage{h.Name, track, result}) {
		return h, fmt.Errorf("inspect %q: %w", h.Name, ErrClosed)
	}
	select {
	case r := <-result:
		if r.err != nil {
			return h, fmt.Errorf("inspect %q: %w", h.Name, r.err)
		}
		h.Nodes = s.core.named(r.answers) // reads labels only, which never change
		return h.judge(r.answers, s.core.quorum)
	case <-ctx.Done():
		return h, fmt.Errorf("inspect %q: %w", h.Name, ctx.Err())
	}
}

type inspectMessage struct {
	key   string
	track bool
	asker chan<- inspected
}

func (m inspectMessage) apply(c *Core, now clock.Instant) { c.Inspect(now, m.key, m.track, m.asker) }

// judge fills in what a quorum of the answers says.
func (h Holding) judge(as answers, quorum int) (Holding, error) {
	left := make(map[string][]time.Duration)
	for _, a := range as {
		h.Fence = max(h.Fence, a.Fence)
		h.Waiting = max(h.Waiting, a.Waiting)
		if a.Verdict != Held || a.Value == "" || isReservation(a.Value) {
			continue
		}
		d := a.Left
		if d < 0 {
			d = 1<<63 - 1
		}
		left[a.Value] = append(left[a.Value], d)
		if ds := left[a.Value]; len(ds) >= quorum {
			slices.Sort(ds)
			h.Held, h.Token, h.Owner = true, a.Value, ownerOf(a.Value)
			h.Left = ds[len(ds)-quorum]
		}
	}
	if h.Left == 1<<63-1 {
		h.Left = -1
	}
	if h.Held && h.Fence != 0 {
		h.Since = time.UnixMicro(int64(h.Fence))
	}
	h.Free = as.with(Free).len() >= quorum
	if reached := len(as) - (as.with(Unreachable) | as.with(Silent)).len(); reached < quorum {
		return h, &AcquireError{Name: h.Name, Quorum: quorum, Nodes: h.Nodes, why: ErrNoQuorum, op: "inspect"}
	}
	return h, nil
}

// A NodeStatus is how one node is.
type NodeStatus struct {
	Node     string        // its address, without credentials
	Enrolled bool          // commands are being sent to it
	Err      error         // why not, in its own words
	Latency  time.Duration // of the last exchange
	Offset   time.Duration // how far its clock is ahead of the median of all nodes
	Rate     float64       // how much faster than ours its clock runs, as a fraction; 0 if not known yet
	Guarded  bool          // the server says which incarnation it is, so a loss of its data is noticed
	Young    time.Duration // for how long it is still asked for no new lease, after it was started or has lost its data
	MaxTTL   time.Duration // the largest of all clients, as its marker told; 0 if it is not Guarded
	// Disagrees says how the nodes of other clients that use this one differ from ours, or
	// is empty. Two clients that do not agree on the nodes can hold one name at once.
	Disagrees string
	Tracks    bool // the server tells at once when the key of a held lease is changed
	// NoInbox is why the server cannot tell waiters at once that a name was handed to
	// them, so that they only find out when they ask again; nil if it can, or if nothing
	// has waited yet.
	NoInbox error
	// Incarnation counts the lives of its data that this supervisor has met, from
	// 1: it grows when the server was restarted or replaced. 0 if it was not met.
	Incarnation uint32
}

// Nodes returns how each node is, in the order of Config.Nodes.
func (s *Supervisor) Nodes() []NodeStatus {
	states := make([]node.State, len(s.actors))
	list := make([]NodeStatus, len(s.actors))
	young := make([]clock.Instant, len(s.actors))
	s.read(func(c *Core) {
		for i := range c.nodes {
			p := &c.nodes[i]
			states[i], young[i] = p.state, c.youngUntil(i)
			list[i].Rate, list[i].Disagrees = p.rate(), p.disagrees
			if p.twin != 0 {
				states[i].Enrolled, states[i].Err = false, c.misconfigured()
			}
		}
	})
	now := s.clock.Now()
	var offsets []time.Duration
	for _, st := range states {
		if st.OffsetAt != 0 {
			offsets = append(offsets, st.Offset)
		}
	}
	slices.Sort(offsets)
	for i, st := range states {
		list[i] = NodeStatus{
			Node: s.core.nodes[i].label, Enrolled: st.Enrolled, Err: st.Err,
			Latency: st.Latency, Incarnation: st.Life, Rate: list[i].Rate, Guarded: st.Guarded,
			Tracks: st.Tracks, NoInbox: st.NoInbox,
			Young: max(0, young[i].Sub(now)), MaxTTL: st.MaxTTL, Disagrees: list[i].Disagrees,
		}
		if st.OffsetAt != 0 {
			list[i].Offset = st.Offset - offsets[(len(offsets)-1)/2]
		}
	}
	return list
}

// Leases returns the leases that are held, in the order in which they were
// acquired.
func (s *Supervisor) Leases() []*lease.Lease {
	const piece = 4096 // for which the loop is away at once
	byID := make(map[uint64]*lease.Lease)
	for left := math.MaxInt; left > 0; {
		s.read(func(c *Core) {
			// From the last to the first, as a walk goes.
			left = min(left, len(c.held))
			from := max(0, left-piece)
			for _, t := range c.held[from:left] {
				byID[t.id] = t.hold.lease.Lease()
			}
			left = from
		})
	}
	list := make([]*lease.Lease, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		list = append(list, byID[id])
	}
	return list
}

// read has the loop run f, which must not wait and must not change anything.
func (s *Supervisor) read(f func(*Core)) {
	m := readMessage{f, make(chan struct{})}
	if !s.post(m) {
		f(&s.core) // the loop has ended: the core does not change any more
		return
	}
	<-m.done
}

type readMessage struct {
	f    func(*Core)
	done chan struct{}
}

func (m readMessage) apply(c *Core, _ clock.Instant) {
	m.f(c)
	close(m.done)
}

// Stats are counters since the supervisor was made, and how much there is of some
// things now.
type Stats struct {
	Acquired uint64 // leases won
	Failed   uint64 // acquisitions that ended without one
	Released uint64 // leases that their holders gave up
	Lost     uint64 // leases that ended otherwise
	Untold   uint64 // events that were dropped because the Observer or Logger was too slow

	Held    int // leases now
	Waiting int // callers that wait for a name now
	Owed    int // releases that a node has yet to confirm

	// Busy is for how long the supervisor's goroutine has worked, of Up. Where
	// their growth over a minute is nearly the same, it is saturated, and leases
	// will be lost.
	Busy, Up time.Duration
	// Longest is the longest that it has worked at one stretch since Stats was called
	// last: for so long an answer, a caller or a loss had to wait for it.
	Longest time.Duration
}

type counters struct {
	acquired, failed, released, lost, untold atomic.Uint64

	idle    atomic.Int64 // time that the loop has slept
	longest atomic.Int64 // that it has worked without sleeping, since it was read last
	begun   clock.Instant
}

// worked takes in for how long the loop has worked at one stretch.
func (n *counters) worked(d time.Duration) {
	for {
		was := n.longest.Load()
		if int64(d) <= was || n.longest.CompareAndSwap(was, int64(d)) {
			return
		}
	}
}

// Stats returns the counters.
func (s *Supervisor) Stats() Stats {
	st := Stats{
		Acquired: s.count.acquired.Load(), Failed: s.count.failed.Load(), Released: s.count.released.Load(),
		Lost: s.count.lost.Load(), Untold: s.count.untold.Load(),
		Up: s.clock.Now().Sub(s.count.begun), Longest: time.Duration(s.count.longest.Swap(0)),
	}
	s.read(func(c *Core) {
		st.Held, st.Waiting = len(c.held), c.callers
		for i := range c.nodes {
			st.Owed += len(c.nodes[i].debts.owed)
		}
	})
	st.Busy = max(0, st.Up-time.Duration(s.count.idle.Load()))
	return st
}
