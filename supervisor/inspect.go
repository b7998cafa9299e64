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
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
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
	c := newCall(opInspect)
	if !s.post(inspectMessage{c, h.Name, track}) {
		return h, fmt.Errorf("inspect %q: %w", h.Name, ErrClosed)
	}
	select {
	case o := <-c.result:
		if o.err != nil {
			return h, fmt.Errorf("inspect %q: %w", h.Name, o.err)
		}
		h.Nodes = s.answers(o.report)
		return h.judge(o.report.Answers, s.quorum)
	case <-ctx.Done():
		return h, fmt.Errorf("inspect %q: %w", h.Name, ctx.Err())
	}
}

type inspectMessage struct {
	call  *call
	key   string
	track bool
}

func (m inspectMessage) apply(s *Supervisor, now clock.Instant) {
	s.core.Inspect(now, m.key, m.track, s.number(m.call))
}

// judge fills in what a quorum of the answers says.
func (h Holding) judge(as []core.Answer, quorum int) (Holding, error) {
	left := make(map[string][]time.Duration)
	free, reached := 0, 0
	for _, a := range as {
		h.Fence = max(h.Fence, a.Fence)
		h.Waiting = max(h.Waiting, a.Waiting)
		switch a.Verdict {
		case core.VerdictUnreachable, core.VerdictSilent:
			continue
		case core.VerdictFree:
			free++
		}
		reached++
		if a.Verdict != core.VerdictHeld || a.Value == "" || node.IsReservation(a.Value) {
			continue
		}
		d := a.Left
		if d < 0 {
			d = math.MaxInt64
		}
		left[a.Value] = append(left[a.Value], d)
		if ds := left[a.Value]; len(ds) >= quorum {
			slices.Sort(ds)
			h.Held, h.Token, h.Owner = true, a.Value, node.OwnerOf(a.Value)
			h.Left = ds[len(ds)-quorum]
		}
	}
	if h.Left == math.MaxInt64 {
		h.Left = -1
	}
	if h.Held && h.Fence != 0 {
		h.Since = time.UnixMicro(int64(h.Fence))
	}
	h.Free = free >= quorum
	if reached < quorum {
		return h, &AcquireError{Name: h.Name, Quorum: quorum, Nodes: h.Nodes, why: ErrNoQuorum, op: opInspect}
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
	views := make([]core.NodeView, len(s.labels))
	var twins core.Twins
	s.read(func(c *core.Core) {
		twins = c.Twins()
		for i := range views {
			views[i] = c.Node(i)
		}
	})
	now := s.clock.Now()
	var offsets []time.Duration
	for i := range views {
		if st := &views[i].State; st.OffsetAt != 0 {
			offsets = append(offsets, st.Offset)
		}
	}
	slices.Sort(offsets)
	list := make([]NodeStatus, len(views))
	for i, v := range views {
		st := v.State
		if v.Twin {
			st.Enrolled, st.Err = false, s.twins(twins)
		}
		list[i] = NodeStatus{
			Node: s.labels[i], Enrolled: st.Enrolled, Err: st.Err,
			Latency: st.Latency, Incarnation: st.Life, Rate: v.Rate, Guarded: st.Guarded,
			Tracks: st.Tracks, NoInbox: st.NoInbox,
			Young: max(0, v.YoungUntil.Sub(now)), MaxTTL: st.MaxTTL, Disagrees: s.disagreement(v.Disagreement),
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
		s.read(func(c *core.Core) {
			left = min(left, c.Counts().Held)
			from := max(0, left-piece)
			for _, id := range c.HeldIDs(from, left) {
				byID[id] = s.leases[core.Slot(id)].Lease()
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

	begun clock.Instant
}

// Stats returns the counters.
func (s *Supervisor) Stats() Stats {
	st := Stats{
		Acquired: s.count.acquired.Load(), Failed: s.count.failed.Load(), Released: s.count.released.Load(),
		Lost: s.count.lost.Load(), Untold: s.count.untold.Load(),
		Up: s.clock.Now().Sub(s.count.begun), Longest: s.busy.takeLongest(),
	}
	s.read(func(c *core.Core) {
		n := c.Counts()
		st.Held, st.Waiting, st.Owed = n.Held, n.Waiting, n.Owed
	})
	st.Busy = max(0, st.Up-time.Duration(s.busy.idle.Load()))
	return st
}
