package lease

import (
	"encoding/json"
	"strings"

	"github.com/leasehold-go/leasehold/internal/plain"
)

// A LostError says why a lease was lost. [Lease.Err] returns it then. It wraps Kind, and so
// [ErrLost]. Branch with errors.Is, and use errors.As to show what was wrong at which node. Very
// many leases that are lost for the same reasons share one, so do not change it.
type LostError struct {
	// Kind is [ErrExpired], [ErrForgotten], [ErrRevoked], [ErrTaken], [ErrPaused],
	// [ErrMaxHold] or [ErrClosed].
	Kind error
	// Nodes are those that do not keep the lease, in the order of Config.Nodes. A node that has
	// renewed it in time is not among them. Nodes is empty if the lease did not end because of its
	// nodes. It is also empty at first if the holder has asked for Err before the supervisor
	// noticed that the time was up. Err, and the cause of a context, name the nodes a moment later.
	Nodes []NodeReason
}

// A NodeReason says why one node does not keep a lease.
type NodeReason struct {
	Node string // its address, without credentials
	Err  error  // why, in the node's own words if it has answered an error
}

// MarshalJSON returns the fields, Err as its text.
func (n NodeReason) MarshalJSON() ([]byte, error) {
	text := ""
	if n.Err != nil {
		text = n.Err.Error()
	}
	return json.Marshal(struct{ Node, Err string }{n.Node, text})
}

// Error returns the kind and every node's reason, in one line.
func (e *LostError) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.Error())
	for i, n := range e.Nodes {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep)
		b.WriteString(n.Node)
		b.WriteString(": ")
		b.WriteString(plain.Line(n.Err.Error()))
	}
	return b.String()
}

// MarshalText returns what Error returns, so that an error is its text in JSON too, as it is in
// package slog. To log fields of their own use e.Kind.Error() and e.Nodes.
func (e *LostError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the kind. It does not wrap what the nodes answered: if one of them did not answer
// in time, that does not mean that a deadline of the caller was exceeded.
func (e *LostError) Unwrap() error { return e.Kind }

// expired is the error of a lease that was seen to have expired before its supervisor has said why.
var expired = &LostError{Kind: ErrExpired}

// unexplained is the cause of a context that has ended before the supervisor has said why. It
// returns what the lease knows when it is asked.
type unexplained struct{ l *Lease }

func (u unexplained) Error() string { return u.l.reason().Error() }
func (u unexplained) Unwrap() error { return u.l.reason() }

// MarshalText returns what Error returns, as that of a LostError does.
func (u unexplained) MarshalText() ([]byte, error) { return []byte(u.Error()), nil }
