package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Healthy returns nil if a quorum of nodes is enrolled, and the supervisor's goroutine does what is
// due in time, so that no lease is held past its time. Otherwise the error says what is wrong. It
// wraps [ErrNoQuorum] if too few nodes are enrolled, and [ErrClosed] if Close was called.
//
// Healthy is for probes. It asks no node anything. It returns within Config.NodeTimeout, or within
// 100 ms if that is more, even if the supervisor's goroutine hangs. A new supervisor is not healthy
// until a quorum is enrolled. A supervisor whose nodes are young is healthy, although it acquires
// nothing yet. A restart of this process does not mend an outage of the nodes, and the process must
// connect to them again after it. So use Healthy to take a process out of service rather than to
// kill it.
func (s *Supervisor) Healthy() error {
	if s.core == nil {
		return errNotMade
	}
	if s.isClosing() {
		return fmt.Errorf("supervisor: not healthy: %w", ErrClosed)
	}
	l := s.lists.Load()
	views := make([]core.NodeView, len(l.labels))
	var twins core.Twins
	var late time.Duration
	var held int
	if !s.peek(func(c *core.Core) {
		for i := range views {
			views[i] = c.Node(i)
		}
		twins, held = c.Twins(), c.Counts().Held
		late = s.clock.Now().Sub(c.Next())
	}) {
		return fmt.Errorf("supervisor: not healthy: its goroutine has answered no call for %v: it hangs, or this machine is overloaded, and leases are not renewed in time", s.patience())
	}
	var wrong []error
	if err := s.unenrolled(l, views, twins); err != nil {
		wrong = append(wrong, err)
	}
	if late > s.terms.Grace { // if it is late by less, that harms no lease
		wrong = append(wrong, fmt.Errorf("work that was due %v ago is not done: its goroutine does not run, or this machine was paused, and some of %d leases may be past their time",
			late.Round(time.Millisecond), held))
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("supervisor: not healthy: %w", errors.Join(wrong...))
}

// unenrolled returns the error that names the nodes that are not enrolled, if no quorum is.
func (s *Supervisor) unenrolled(l *lists, views []core.NodeView, twins core.Twins) error {
	var b strings.Builder
	var enrolled [ListBoth]int // by list
	for i, v := range views {
		why := v.State.Err
		switch {
		case l.in[i] == listLeft:
			continue
		case v.Twin:
			why = s.twins(twins)
		case v.State.Enrolled:
			for list := range enrolled {
				if l.in[i].has(List(list)) {
					enrolled[list]++
				}
			}
			continue
		case why == nil:
			why = errNotConnected
		}
		fmt.Fprintf(&b, "; %s: %s", l.labels[i], plain.Line(why.Error()))
	}
	nodes, former := enrolled[ListNodes], enrolled[ListFormer]
	switch {
	case nodes >= l.quorum && former >= l.formerQuorum:
		return nil
	case l.formerQuorum == 0:
		return fmt.Errorf("%w: %d of %d nodes are enrolled, and %d are needed%s", ErrNoQuorum, nodes, len(l.of(ListNodes)), l.quorum, &b)
	}
	return fmt.Errorf("%w: %d of the %d Nodes and %d of the %d Former ones are enrolled, and %d and %d are needed%s",
		ErrNoQuorum, nodes, len(l.of(ListNodes)), former, len(l.of(ListFormer)), l.quorum, l.formerQuorum, &b)
}

var errNotConnected = errors.New("not connected yet")

// Leading reports whether this supervisor holds a name at this moment, by [Supervisor.Lead] or
// otherwise. Like [lease.Lease.Valid] it reads the clock and asks no node. Like Healthy it does not
// wait for a supervisor that hangs: then it returns false.
func (s *Supervisor) Leading(name string) bool {
	if s.core == nil {
		return false
	}
	var held *lease.Lease
	s.peek(func(c *core.Core) {
		if id, ok := c.Holder(s.cfg.Prefix + name); ok {
			held = s.leases[core.Slot(id)].Lease()
		}
	})
	return held != nil && held.Valid()
}

// peek runs f while no other goroutine decides. f must not wait and must not change anything. peek
// reports false if it could not run f: unlike read it bounds the waiting, and leaves nothing
// waiting. It uses the clock of saturation, which goes on if the configured one does not.
func (s *Supervisor) peek(f func(*core.Core)) bool {
	wall := clock.Runtime()
	timer := wall.NewTimer(again)
	defer timer.Stop()
	for end := wall.Now().Add(s.patience()); !s.mu.TryLock(); timer.Reset(again) {
		if wall.Now() >= end {
			return false
		}
		<-timer.C()
	}
	defer s.mu.Unlock()
	f(s.core)
	return true
}

const again = 100 * time.Microsecond

// patience returns how long peek waits.
func (s *Supervisor) patience() time.Duration { return max(s.cfg.NodeTimeout, 100*time.Millisecond) }
