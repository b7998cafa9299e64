package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A reporter says what an acquisition waits for.
type reporter struct {
	*job
	sup       *supervisor.Supervisor
	reachedAt clock.Instant // when a quorum of nodes was reachable last
	said      string        // what was said last
	saidAt    clock.Instant
}

// sayAgain is the time after which a line that has not changed is repeated, with -v.
const sayAgain = 10 * time.Second

// look says what the acquisition waits for if that has changed, and with -v every now and then.
func (r *reporter) look(ctx context.Context, now clock.Instant) {
	nodes := r.sup.Nodes()
	reached := 0
	var young time.Duration
	for _, n := range nodes {
		if !n.Enrolled {
			continue
		}
		reached++
		if n.Young > 0 {
			young = max(young, n.Young)
		}
	}
	isReached := reachQuorum(nodes, func(n supervisor.NodeStatus) bool { return n.Enrolled })
	if isReached {
		r.reachedAt = now
	}
	if r.quiet || r.try {
		return // it says itself what it waits for
	}
	var kind, text string
	switch {
	case !isReached:
		kind = "unreachable"
		text = fmt.Sprintf("%d of %d nodes unreachable: %s", len(nodes)-reached, len(nodes), r.unreachable())
	case !reachQuorum(nodes, func(n supervisor.NodeStatus) bool { return n.Enrolled && n.Young == 0 }):
		kind, text = "young", fmt.Sprintf("servers are young for %s", seconds(young))
	default:
		asked, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		places := r.places()
		h, err := r.sup.Inspect(asked, places[0])
		if err != nil || !h.Held {
			return // the name is changing hands, or the nodes are
		}
		kind, text = "held "+string(h.Token), "held"
		if h.Vacated {
			text = "left"
		}
		if len(places) > 1 {
			text = fmt.Sprintf("all of %d names are held, %s ", len(places), plain.Line(places[0])) + text
			kind = "all held"
		}
		if h.Owner != "" {
			text += " by " + plain.Line(h.Owner) // which others have chosen
		}
		if h.NoExpiry {
			text += " with no expiry"
		} else if h.Vacated {
			text += fmt.Sprintf(", free in %s", seconds(h.Left))
		} else {
			text += fmt.Sprintf(" for %s at most, unless renewed", seconds(h.Left))
		}
		if h.Waiting > 1 {
			text += fmt.Sprintf("; %d waiting", h.Waiting)
		}
	}
	if kind == r.said && !(r.verbose && now.Sub(r.saidAt) >= sayAgain) {
		return
	}
	r.said, r.saidAt = kind, now
	fmt.Fprintf(r.err, "leasehold: waiting: %s\n", text)
}

// unreachable returns which nodes are unreachable, and why.
func (r *reporter) unreachable() string {
	var list []string
	for _, n := range r.sup.Nodes() {
		switch {
		case n.Enrolled:
		case n.Err != nil:
			list = append(list, fmt.Sprintf("%s (%s)", n.Node, plain.Line(n.Err.Error())))
		default:
			list = append(list, n.Node+" (no answer yet)")
		}
	}
	return strings.Join(list, "; ")
}

// done says that the waiting is over, if it was said to have begun.
func (r *reporter) done(held *lease.Lease) {
	if r.said != "" {
		fmt.Fprintf(r.err, "leasehold: %s is held\n", plain.Line(held.Name()))
	}
}

// seconds returns a duration for people: 8 s, 9.7 s, 130 s.
func seconds(d time.Duration) string {
	text := fmt.Sprintf("%.1f", d.Seconds())
	if d >= 10*time.Second {
		text = fmt.Sprintf("%.0f", d.Seconds())
	}
	return strings.TrimSuffix(text, ".0") + " s"
}
