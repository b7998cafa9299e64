package supervisor

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A NodeStatus is the state of one node, as this supervisor knows it.
type NodeStatus struct {
	Node     string // its address, without credentials
	List     List   // in which list of nodes it is
	Enrolled bool   // commands are being sent to it
	// Err says why the node is not Enrolled, in its own words; nil if that was not tried yet. If
	// the node is Enrolled, Err says why it has refused to renew a lease, or to take back a lease
	// whose key it had lost. It is set for a minute after the latest refusal, or until the node has
	// done the same for some lease.
	Err     error
	Latency time.Duration // how long the latest answer took
	// Patience is how long the supervisor waits for an answer at present, see Config.NodeTimeout.
	Patience time.Duration
	// RoundTrips is how many pipelines of commands the node has answered since New, and
	// RoundTripTime how long they took together. The growth of RoundTripTime divided by that of
	// RoundTrips is the mean latency.
	RoundTrips    uint64
	RoundTripTime time.Duration

	Offset  time.Duration // how far its clock is ahead of the median of all nodes; 0 if not known yet
	Rate    float64       // how much faster than ours its clock runs, as a fraction; 0 if not known yet
	Guarded bool          // the server says which incarnation it is, so a loss of its data is noticed
	Young   time.Duration // for how long it is still asked for no new lease, after it was started or has lost its data
	MaxTTL  time.Duration // the largest MaxTTL of all clients, as its marker says; 0 if it is not Guarded
	// Disagrees says how the nodes of other clients that use this one differ from ours, or is
	// empty. Two clients that do not agree on the nodes could hold one name at once. If it says
	// "older clients", this one acquires nothing beside them.
	Disagrees string
	Tracks    bool // the server notifies at once when the key of a held lease is changed
	// Stage says how far a change of the nodes has come, as the node's marker told when it was
	// enrolled, and Floor the fence that the fences of all names are larger than since then. Both
	// are zero if there was no change.
	Stage node.Stage
	Floor uint64
	// NoInbox says why the server cannot notify waiters at once that it has handed a name to them.
	// Then they find out only when they ask again. It is nil if the server can, or if no call has
	// waited yet.
	NoInbox error
	// Incarnation counts the lives of the server's data that this supervisor has met, from 1. It
	// grows when the server was restarted or replaced. It is 0 if the server was not met yet.
	Incarnation uint32
}

// MarshalJSON returns the fields, durations as in "1.5s" and errors as their texts.
func (n NodeStatus) MarshalJSON() ([]byte, error) {
	type fields NodeStatus // without this method
	return json.Marshal(struct {
		fields
		List    List       `json:",omitzero"`
		Stage   node.Stage `json:",omitzero"`
		Floor   uint64     `json:",omitempty"`
		Err     string     `json:",omitempty"`
		NoInbox string     `json:",omitempty"`

		Latency, Patience, RoundTripTime, Offset, Young, MaxTTL span
	}{
		fields(n), n.List, n.Stage, n.Floor, plain.ErrorText(n.Err), plain.ErrorText(n.NoInbox),
		span(n.Latency), span(n.Patience), span(n.RoundTripTime), span(n.Offset), span(n.Young), span(n.MaxTTL),
	})
}

// Nodes returns the state of each node, in the order of Config.Nodes. Those that are in Config.Former
// alone follow. It asks no node.
func (s *Supervisor) Nodes() []NodeStatus {
	if s.core == nil {
		return nil // it is the zero Supervisor
	}
	l := s.lists.Load()
	views := make([]core.NodeView, len(l.labels))
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
	list := make([]NodeStatus, 0, len(views))
	for i, v := range views {
		if l.in[i] == listLeft {
			continue
		}
		st := v.State
		if v.Twin {
			st.Enrolled, st.Err = false, s.twins(twins)
		}
		n := NodeStatus{
			Node: l.labels[i], List: l.in[i], Stage: st.Change.Stage, Floor: st.Floor, Enrolled: st.Enrolled, Err: st.Err,
			Latency: st.Latency, Patience: st.Patience, RoundTrips: st.RoundTrips, RoundTripTime: st.RoundTripTime, Incarnation: st.Life, Rate: v.Rate, Guarded: st.Guarded,
			Tracks: st.Tracks, NoInbox: st.NoInbox,
			Young: max(0, v.YoungUntil.Sub(now)), MaxTTL: st.MaxTTL, Disagrees: s.disagreement(v.Disagreement),
		}
		if st.Enrolled && v.Failing != nil && now.Sub(v.FailedAt) < time.Minute {
			n.Err = v.Failing
		}
		if st.OffsetAt != 0 {
			n.Offset = st.Offset - offsets[(len(offsets)-1)/2]
		}
		list = append(list, n)
	}
	return list
}
