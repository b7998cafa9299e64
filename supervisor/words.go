package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// This file puts into words what the core has decided. The core names nodes by their number, and
// reasons and warnings by kinds.

// reasons are the core's reasons, as errors.
var reasons = [...]error{
	core.ReasonHeld:           ErrHeld,
	core.ReasonNoQuorum:       ErrNoQuorum,
	core.ReasonClosed:         ErrClosed,
	core.ReasonMisconfigured:  ErrMisconfigured,
	core.ReasonFenceExhausted: ErrFenceExhausted,
	core.ReasonNotHolder:      ErrNotHolder,
	core.ReasonOtherNodes:     errOtherNodes,
	core.ReasonNotFinished:    errNotFinished,
	core.ReasonNodesLeft:      errNodesLeft,
	core.ReasonNewcomer:       errNewcomer,
	core.ReasonOtherChange:    errOtherChange,
	core.ReasonTooManyNodes:   errTooManyNodes,
	core.ReasonRelisted:       errRelisted,
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

// endOf returns the error with which a lease ends. A caller that waits for a lease gets another
// error for the same reason.
func endOf(r core.Reason) error {
	if r == core.ReasonClosed {
		return lease.ErrClosed
	}
	return reasons[r]
}

// A lostFor keeps the latest error that says why a lease was lost, and what the error was made of.
// Very many leases that are lost for the same reasons share it.
type lostFor struct {
	report *core.Report
	err    *lease.LostError
}

// lossOf returns the error that says why a lease is over.
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
			last.err.Nodes = append(last.err.Nodes, lease.NodeReason{Node: s.label(f.Node), Err: err})
		}
	}
	return s.lost.err
}

// errNotRenewed is lease.ErrExpired for a lease that was acquired without renewal.
var errNotRenewed error = notRenewedError{}

type notRenewedError struct{}

func (notRenewedError) Error() string {
	return lease.ErrExpired.Error() + ": it was acquired without renewal"
}
func (notRenewedError) Unwrap() error { return lease.ErrExpired }

// reasonOf returns the core's reason for an end that the holder caused or saw first.
func reasonOf(end error) core.Reason {
	switch {
	case errors.Is(end, lease.ErrReleased):
		return core.ReasonReleased
	case errors.Is(end, lease.ErrHandedOver):
		return core.ReasonHandedOver
	}
	return core.ReasonExpired
}

// newError returns an error without the nodes' answers.
func (s *Supervisor) newError(op, name string, why, cause error) *AcquireError {
	l := s.lists.Load()
	return &AcquireError{Op: op, Name: name, Quorum: l.quorum, FormerQuorum: l.formerQuorum, why: why, cause: cause}
}

// acquireError returns the error that says why there is no lease.
func (s *Supervisor) acquireError(op string, r *core.Report, cause error) *AcquireError {
	e := s.newError(op, r.Key, reasons[r.Reason], cause)
	e.Nodes, e.disagrees, e.taken = s.answers(r), s.disagreement(r.Disagreement), r.Taken(e.Quorum)
	switch r.Reason {
	case core.ReasonClosed:
		e.cause = nil
	case core.ReasonMisconfigured:
		e.why = s.twins(r.Twins)
	case core.ReasonNewcomer:
		if r.Disagreement.Older {
			e.why, e.disagrees = s.newcomer(r.Disagreement), ""
		}
	}
	if e.disagrees != "" {
		e.disagrees = s.label(r.Disagreement.Node) + ": " + e.disagrees
	}
	return e
}

// A refusal keeps the latest error that says why there is no lease, and what the error was made of.
type refusal struct {
	op     string
	report *core.Report
	cause  error
	err    error
}

// refusal returns the error that says why there is no lease. Very many callers that wait for one
// name may share a report, because all of them are dismissed or give up. Then they share the error
// as well.
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

// unconfirmed returns the error that says why a name may stay taken.
func (s *Supervisor) unconfirmed(r *core.Report, cause error) *ReleaseError {
	return &ReleaseError{Name: r.Key, Left: r.Left, Nodes: s.answers(r), cause: cause}
}

// failed returns the error that says why the supervisor did not do what a call has asked for.
func (s *Supervisor) failed(c *call, r *core.Report) error {
	switch {
	case r == nil:
		return nil
	case r.Reason == core.ReasonUnconfirmed:
		return s.unconfirmed(r, c.cause)
	case r.Reason == core.ReasonKept:
		return c.cause
	case c.op == opRevoke && r.Reason == core.ReasonClosed:
		return s.newError(c.op, r.Key, ErrClosed, nil)
	case c.op == opRevoke:
		return s.acquireError(c.op, r, nil)
	}
	return endOf(r.Reason)
}

// These are the names of the operations, with which errors begin.
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

// answers returns the nodes' answers as a caller sees them.
func (s *Supervisor) answers(r *core.Report) []Answer {
	if r.Answers == nil {
		return nil
	}
	list, l := make([]Answer, len(r.Answers)), s.lists.Load()
	for i, a := range r.Answers {
		_, vacated := node.CutLeft(a.Value)
		list[i] = Answer{
			Node: l.labels[a.Node], List: l.in[a.Node], Verdict: Verdict(a.Verdict), Kind: keyKindOf(a), Owner: node.OwnerOf(a.Value),
			Left: max(0, a.Left), LeftKnown: a.Left > 0, NoExpiry: a.Left < 0, Vacated: vacated, Err: a.Err,
		}
		if a.Err == core.FaultTwin {
			list[i].Err = s.twins(r.Twins)
		}
	}
	return list
}

// twins returns the error that names the nodes that are one.
func (s *Supervisor) twins(t core.Twins) error {
	return fmt.Errorf("%w: %s and %s are the same database of one server, so its vote would count twice",
		ErrMisconfigured, s.label(t.First), s.label(t.Second))
}

// disagreement returns how the nodes of other clients differ; "" if they do not.
func (s *Supervisor) disagreement(d core.Disagreement) string {
	if d.Nodes == 0 {
		return ""
	}
	others := "other clients"
	if d.Older {
		others = "older clients"
	}
	text := fmt.Sprintf("%s use %d nodes", others, d.Nodes)
	if d.Unknown > 0 {
		text += fmt.Sprintf(", %d of them unknown to this client", d.Unknown)
	}
	return text
}

// newcomer returns the error that says why nothing is acquired beside older clients.
func (s *Supervisor) newcomer(d core.Disagreement) error {
	return fmt.Errorf("%w: %s: %s, and this client uses %s, %s", ErrMisconfigured,
		s.label(d.Node), s.disagreement(d), strings.TrimSuffix(s.lists.Load().String(), " nodes"), bothCouldHold)
}

// warning returns a warning as an error with its text.
func (s *Supervisor) warning(w *core.Warning) error {
	label, other := s.label(w.Node), s.label(w.Other)
	switch w.Kind {
	case core.WarnPaused:
		return fmt.Errorf("the clocks of %d nodes ran away from ours, that of %s by %v in %v: was this machine paused?",
			w.Count, label, w.Time, w.Of)
	case core.WarnNoGuard:
		return fmt.Errorf("%s does not say which incarnation it is, so a restart that loses its data cannot be noticed", label)
	case core.WarnEvicts:
		return fmt.Errorf("%s may evict the keys of leases: its maxmemory-policy is %s; set it to noeviction", label, w.Policy)
	case core.WarnCap:
		return fmt.Errorf("%s: another client has a MaxTTL of %v, and our MaxTTLCap is %v: give all clients the same MaxTTLCap, no less than each MaxTTL",
			label, w.Time, s.cfg.MaxTTLCap)
	case core.WarnTwins:
		return s.twins(core.Twins{First: w.Node, Second: w.Other})
	case core.WarnDatabases:
		return fmt.Errorf("%s and %s are two databases of one server: when it fails, both votes are gone", other, label)
	case core.WarnDisagreement:
		d := core.Disagreement{Nodes: w.Count, Unknown: w.Unknown}
		return fmt.Errorf("%s: %s, and this client uses %s: two clients that do not agree on the nodes can hold one name at once",
			label, s.disagreement(d), strings.TrimSuffix(s.lists.Load().String(), " nodes"))
	case core.WarnNewcomer:
		return s.newcomer(core.Disagreement{Node: w.Node, Nodes: w.Count, Unknown: w.Unknown, Older: true})
	case core.WarnClocksApart:
		return fmt.Errorf("the clock of %s is %v ahead of that of %s: if nodes lose their data, fences may go back by as much; set the clocks by NTP",
			label, w.Time.Round(time.Millisecond), other)
	}
	down := ""
	if w.Down > 0 {
		down = fmt.Sprintf(", and %d more cannot be reached", w.Down)
	}
	return fmt.Errorf("%d of %s nodes are young%s: young nodes are used for the first time, were started or have lost their data, so nothing is acquired for %v; %s",
		w.Count, strings.TrimSuffix(s.lists.Load().String(), " nodes"), down, w.Time.Round(time.Millisecond), shorter)
}
