package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// An UnfilledLease is a lease that still rests on the former nodes alone, because too few of the
// present ones surely keep its key.
type UnfilledLease struct {
	Name  string             // the name, prefix included
	Nodes []lease.NodeReason // the nodes that do not keep it, and why
}

// A ReconfigureError says why a supervisor keeps the lists of nodes that it has.
type ReconfigureError struct {
	Unfilled []UnfilledLease // leases that would be left without a quorum, up to a hundred
	More     int             // how many more there are

	why error
}

// Error returns a text with the reason and the leases.
func (e *ReconfigureError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "reconfigure: %v", e.why)
	for i, u := range e.Unfilled {
		sep := "; "
		if i == 0 {
			sep = "; these leases rest on the former nodes alone: "
		}
		fmt.Fprintf(&b, "%s%q", sep, u.Name)
		for k, n := range u.Nodes {
			sep := ", "
			if k == 0 {
				sep = " ("
			}
			fmt.Fprintf(&b, "%s%s: %s", sep, n.Node, plain.Line(n.Err.Error()))
		}
		if u.Nodes != nil {
			b.WriteString(")")
		}
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "; and %d more", e.More)
	}
	return b.String()
}

// Unwrap returns the reason.
func (e *ReconfigureError) Unwrap() error { return e.why }

// Reconfigure gives the supervisor other lists of nodes, as Config.Nodes and Config.Former do, without
// a restart: first both, later the present ones alone, or the former ones alone again if the change was
// not closed. See docs/operating.md.
//
// Leases go on, and callers that wait keep their places. When both lists are given, a lease that is
// held rests on the former nodes until all of the present ones keep its key as well; that takes a few
// renewals. From then on it needs a quorum of each. If some of the present nodes do not come, it waits
// for them for MaxTTLCap, and then rests on both with a quorum of them. Stats.Filling is how many
// leases are not so far. Adoptions that are under way when a list is left
// fail, and may be tried again.
//
// Reconfigure does not wait for the nodes, and tries once: ctx bounds how long it waits for the
// supervisor. A [*ReconfigureError] says why nothing was changed. It wraps [ErrTooEarly] if the
// present nodes alone were given, and the change is not finished as far as this process knows, or a
// lease does not rest on both lists. It names these leases. Try again later: a process hears within ten
// seconds that a change was finished. Other errors are about the lists, or wrap [ErrClosed]. A
// supervisor may be given 64 nodes in its life.
func (s *Supervisor) Reconfigure(ctx context.Context, nodes, former []node.Conn) error {
	if s.core == nil {
		return errNotMade
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reconfigure: %w", err)
	}
	broken := checkLists(nodes, former)
	if len(nodes) == 0 {
		broken = append(broken, fmt.Errorf("no Nodes given: want 1 to %d", core.MaxNodes))
	}
	if len(former) > 0 && s.cfg.DisableGuard {
		broken = append(broken, errors.New("a former list with DisableGuard: want the guard on"))
	}
	if broken != nil {
		return fmt.Errorf("reconfigure: %w", errors.Join(broken...))
	}
	m := &reconfigureMessage{nodes: slices.Clone(nodes), former: slices.Clone(former), result: make(chan error, 1)}
	if !s.post(m) {
		return &ReconfigureError{why: ErrClosed}
	}
	select {
	case err := <-m.result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("reconfigure: not known whether it was done: %w", ctx.Err())
	}
}

type reconfigureMessage struct {
	nodes, former []node.Conn
	result        chan error
}

func (m *reconfigureMessage) apply(s *Supervisor, now clock.Instant) {
	m.result <- s.reconfigure(now, m.nodes, m.former)
}

func (s *Supervisor) reconfigure(now clock.Instant, nodes, former []node.Conn) error {
	was := s.lists.Load()
	l := was.with(nodes, former)
	to := core.Lists{Nodes: len(l.conns), Present: l.of(ListNodes)}
	if len(former) > 0 {
		to.Former = l.of(ListFormer)
	}
	perform.All(now, s.core, len(s.actors), performer{s}) // nodes that are left are told first
	if r := s.core.Reconfigure(now, to); r != nil {
		return s.notReconfigured(r)
	}
	l.quorum, l.formerQuorum = s.core.Quorum(), s.core.FormerQuorum()
	s.lists.Store(l)
	for i := len(s.actors); i < len(l.conns); i++ {
		s.addActor(i, l.conns[i])
	}
	perform.All(now, s.core, len(s.actors), performer{s})
	for i, in := range l.in {
		if in == listLeft && s.actors[i] != nil {
			s.actors[i].Close() // its sole sender closes
			s.actors[i] = nil
		}
	}
	return nil
}

// notReconfigured returns the error for a refusal of the core.
func (s *Supervisor) notReconfigured(r *core.Refusal) error {
	e := &ReconfigureError{why: reasons[r.Reason], More: r.Count - len(r.Unfilled)}
	if r.Reason == core.ReasonNotFinished {
		e.why = fmt.Errorf("%w: the change of the nodes is not finished, as far as this process knows", ErrTooEarly)
		if r.Count > 0 {
			e.why = fmt.Errorf("%w: %d leases do not rest on both lists of nodes", ErrTooEarly, r.Count)
		}
	}
	for _, u := range r.Unfilled {
		is := UnfilledLease{Name: u.Key}
		for _, f := range u.Flaws {
			is.Nodes = append(is.Nodes, lease.NodeReason{Node: s.label(f.Node), Err: f.Err})
		}
		e.Unfilled = append(e.Unfilled, is)
	}
	return e
}

// with returns other lists, in which each node keeps its index. Nodes that are in neither list are
// left: their indices are not used again.
func (l *lists) with(nodes, former []node.Conn) *lists {
	next := &lists{conns: slices.Clone(l.conns), labels: slices.Clone(l.labels), in: make([]List, len(l.in))}
	for i := range next.in {
		next.in[i] = listLeft
	}
	for _, list := range []struct {
		is    List
		conns []node.Conn
	}{{ListNodes, nodes}, {ListFormer, former}} {
		for _, conn := range list.conns {
			i := slices.IndexFunc(next.conns, conn.Same)
			for i >= 0 && i < len(l.in) && l.in[i] == listLeft { // it comes again, with another index
				k := slices.IndexFunc(next.conns[i+1:], conn.Same)
				if i += k + 1; k < 0 {
					i = -1
				}
			}
			switch {
			case i < 0:
				next.conns, next.labels, next.in = append(next.conns, conn), append(next.labels, conn.String()), append(next.in, list.is)
			case next.in[i] == listLeft:
				next.in[i] = list.is
			default:
				next.in[i] = ListBoth
			}
		}
	}
	return next
}
