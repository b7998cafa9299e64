package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// This file puts into words what the core has decided: it names nodes by their number, and
// reasons and warnings by kinds.

// reasons are the core's, as errors.
var reasons = [...]error{
	core.ReasonHeld:           ErrHeld,
	core.ReasonNoQuorum:       ErrNoQuorum,
	core.ReasonClosed:         ErrClosed,
	core.ReasonMisconfigured:  ErrMisconfigured,
	core.ReasonFenceExhausted: ErrFenceExhausted,
	core.ReasonNotHolder:      ErrNotHolder,
	core.ReasonFormerHolder:   errNotOver,
	core.ReasonReleased:       lease.ErrReleased,
	core.ReasonHandedOver:     lease.ErrHandedOver,
	core.ReasonLost:           lease.ErrLost,
	core.ReasonExpired:        lease.ErrExpired,
	core.ReasonRevoked:        lease.ErrRevoked,
	core.ReasonTaken:          lease.ErrTaken,
	core.ReasonPaused:         lease.ErrPaused,
	core.ReasonMaxHold:        lease.ErrMaxHold,
	core.ReasonForgotten:      lease.ErrForgotten,
	core.ReasonNotRenewed:     errNotRenewed,
	core.ReasonHandingOver:    errHandingOver,
}

// endOf returns the error with which a lease ends: the same reason is another error to
// those who wait for a lease.
func endOf(r core.Reason) error {
	if r == core.ReasonClosed {
		return lease.ErrClosed
	}
	return reasons[r]
}

// A lostFor is the latest error that says why a lease was lost, and what it was made of: very
// many that are lost for the same reasons share it.
type lostFor struct {
	report *core.Report
	err    *lease.LostError
}

// lossOf returns why a lease is over.
func (s *Supervisor) lossOf(r *core.Report) error {
	if last := &s.lost; last.report != r {
		*last = lostFor{r, &lease.LostError{Kind: endOf(r.Reason)}}
		for _, f := range r.Flaws {
			err := f.Err
			switch {
			case err == core.FaultTwin:
				err = s.twins(r.Twins)
			case f.Apart:
				err = fmt.Errorf("not connected: %w", err)
			}
			last.err.Nodes = append(last.err.Nodes, lease.NodeReason{Node: s.labels[f.Node], Err: err})
		}
	}
	return s.lost.err
}

// errNotRenewed is lease.ErrExpired of a lease that nobody was to renew.
var errNotRenewed error = notRenewedError{}

type notRenewedError struct{}

func (notRenewedError) Error() string {
	return lease.ErrExpired.Error() + ": it was acquired without renewal"
}
func (notRenewedError) Unwrap() error { return lease.ErrExpired }

// reasonOf returns the reason for which a lease has ended by its holder's doing, who may
// have been the first to see that its time was over.
func reasonOf(end error) core.Reason {
	switch {
	case errors.Is(end, lease.ErrReleased):
		return core.ReasonReleased
	case errors.Is(end, lease.ErrHandedOver):
		return core.ReasonHandedOver
	}
	return core.ReasonExpired
}

// acquireError returns why there is no lease.
func (s *Supervisor) acquireError(op string, r *core.Report, cause error) *AcquireError {
	e := &AcquireError{
		Op: op, Name: r.Key, Quorum: s.quorum, Nodes: s.answers(r),
		why: reasons[r.Reason], cause: cause, disagrees: s.disagreement(r.Disagreement),
		taken: r.Taken(s.quorum),
	}
	switch r.Reason {
	case core.ReasonClosed:
		e.cause = nil
	case core.ReasonMisconfigured:
		e.why = s.twins(r.Twins)
	}
	if r.Disagreement.Nodes != 0 {
		e.disagrees = s.labels[r.Disagreement.Node] + ": " + e.disagrees
	}
	return e
}

// A refusal is the latest error that says why there is no lease, and what it was made of.
type refusal struct {
	op     string
	report *core.Report
	cause  error
	err    error
}

// refusal returns why there is no lease. Very many who wait for one name may share a report,
// because all of them are dismissed or give up: then they share the error as well.
func (s *Supervisor) refusal(c *call, r *core.Report) error {
	switch c.cause {
	case nil, context.Canceled, context.DeadlineExceeded:
	default: // it may be of a type that cannot be compared
		return s.acquireError(c.op, r, c.cause)
	}
	if last := &s.refused; last.report != r || last.op != c.op || last.cause != c.cause {
		*last = refusal{c.op, r, c.cause, s.acquireError(c.op, r, c.cause)}
	}
	return s.refused.err
}

// unconfirmed returns why a name may stay taken.
func (s *Supervisor) unconfirmed(r *core.Report, cause error) *ReleaseError {
	return &ReleaseError{Name: r.Key, Left: r.Left, Nodes: s.answers(r), cause: cause}
}

// failed returns why what a call has asked for was not done.
func (s *Supervisor) failed(c *call, r *core.Report) error {
	switch {
	case r == nil:
		return nil
	case r.Reason == core.ReasonUnconfirmed:
		return s.unconfirmed(r, c.cause)
	case r.Reason == core.ReasonKept:
		return c.cause
	case c.op == opRevoke && r.Reason == core.ReasonClosed:
		return &AcquireError{Op: c.op, Name: r.Key, Quorum: s.quorum, why: ErrClosed}
	case c.op == opRevoke:
		return s.acquireError(c.op, r, nil)
	}
	return endOf(r.Reason)
}

// What is asked for, as errors begin.
const (
	opAcquire = "acquire"
	opAny     = "acquire any"
	opAdopt   = "adopt"
	opRelease = "release"
	opExtend  = "extend"
	opGive    = "hand over"
	opRevoke  = "revoke"
	opInspect = "inspect"

	opStepDown = "step down"
)

// answers returns what nodes said as a caller sees it.
func (s *Supervisor) answers(r *core.Report) []Answer {
	if r.Answers == nil {
		return nil
	}
	list := make([]Answer, len(r.Answers))
	for i, a := range r.Answers {
		_, vacated := node.CutLeft(a.Value)
		list[i] = Answer{
			Node: s.labels[a.Node], Verdict: Verdict(a.Verdict), Kind: keyKindOf(a), Owner: node.OwnerOf(a.Value),
			Left: max(0, a.Left), LeftKnown: a.Left > 0, NoExpiry: a.Left < 0, Vacated: vacated, Err: a.Err,
		}
		if a.Err == core.FaultTwin {
			list[i].Err = s.twins(r.Twins)
		}
	}
	return list
}

// twins says which nodes are one.
func (s *Supervisor) twins(t core.Twins) error {
	return fmt.Errorf("%w: %s and %s are the same database of one server, whose vote would count twice",
		ErrMisconfigured, s.labels[t.First], s.labels[t.Second])
}

// disagreement says how the nodes of other clients differ; "" if they do not.
func (s *Supervisor) disagreement(d core.Disagreement) string {
	switch {
	case d.Nodes == 0:
		return ""
	case d.Unknown == 0:
		return fmt.Sprintf("other clients use %d nodes", d.Nodes)
	}
	return fmt.Sprintf("other clients use %d nodes, of which this client does not know %d", d.Nodes, d.Unknown)
}

// warning puts a warning into words.
func (s *Supervisor) warning(w *core.Warning) error {
	label, other := s.labels[w.Node], s.labels[w.Other]
	switch w.Kind {
	case core.WarnPaused:
		return fmt.Errorf("the clocks of %d nodes ran away from ours, that of %s by %v in %v: was this machine paused?",
			w.Count, label, w.Time, w.Of)
	case core.WarnNoGuard:
		return fmt.Errorf("%s does not say which incarnation it is, so a restart of it that loses data is not noticed", label)
	case core.WarnEvicts:
		return fmt.Errorf("%s may evict the keys of leases: its maxmemory-policy is %s; want noeviction", label, w.Policy)
	case core.WarnCap:
		return fmt.Errorf("%s: another client has a MaxTTL of %v, and our MaxTTLCap is %v: want one that is the same for all, and no less than each MaxTTL",
			label, w.Time, s.cfg.MaxTTLCap)
	case core.WarnTwins:
		return s.twins(core.Twins{First: w.Node, Second: w.Other})
	case core.WarnDatabases:
		return fmt.Errorf("%s and %s are two databases of one server: it takes both votes with it when it fails", other, label)
	case core.WarnDisagreement:
		d := core.Disagreement{Nodes: w.Count, Unknown: w.Unknown}
		return fmt.Errorf("%s: %s, and this client uses %d: two clients that do not agree on the nodes can hold one name at once",
			label, s.disagreement(d), len(s.labels))
	case core.WarnClocksApart:
		return fmt.Errorf("the clock of %s is %v ahead of that of %s: if nodes lose their data, fences may go back by as much; have them set by NTP",
			label, w.Time.Round(time.Millisecond), other)
	}
	return fmt.Errorf("%d of %d nodes are young: they are used for the first time, were started or have lost their data, so nothing is acquired for %v; Config.MaxTTLCap bounds that time, and Config.DisableGuard ends it",
		w.Count, len(s.labels), w.Time.Round(time.Millisecond))
}
