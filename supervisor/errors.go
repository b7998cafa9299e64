package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Why an acquisition failed. Test with errors.Is; if the context ended the
// waiting, the error is the context's as well.
var (
	// ErrHeld: another client has the name. Wait, or let it be.
	ErrHeld = errors.New("name is held")

	// ErrNoQuorum: too few nodes could be reached, or answered in time. Something
	// is broken; the error says at which node, in its own words.
	ErrNoQuorum = errors.New("no quorum of nodes could be reached")

	// ErrNotHolder: what was to be ended is not the lease that holds the name.
	ErrNotHolder = errors.New("not the holder")

	// ErrMisconfigured: two of the nodes are the same database of one server, whose vote
	// would count twice. The error names both. Nothing is acquired until Config.Nodes
	// is mended.
	ErrMisconfigured = errors.New("broken configuration")

	// ErrFenceExhausted: the nodes keep a fence for the name, or for another one that shares
	// its register, which is as large as fences can be, 2^53, so that no tenure could be told
	// from the one before. Somebody else has written it; delete the register, which the error
	// names, on every node.
	ErrFenceExhausted = errors.New("the fence of the name cannot grow any more")

	// ErrClosed: the supervisor was closed. Make another. It is also lease.ErrClosed, but
	// no loss: there was no lease.
	ErrClosed error = closedError{}
)

// closedError is the type of [ErrClosed].
type closedError struct{}

func (closedError) Error() string { return "supervisor closed" }

// Closed tells lease.ErrClosed that this is the same reason.
func (closedError) Closed() bool { return true }

// Is reports whether target is of a lease that has ended for the same reason.
func (closedError) Is(target error) bool { return target == lease.ErrClosed }

// Why there is no lease if nothing but the end of the context stood in the way.
var (
	errNotTried  = errors.New("not tried")
	errGivenBack = errors.New("given back")
	errNotTaken  = errors.New("not taken")
	errNotTold   = errors.New("not confirmed by a quorum")
	errNotKnown  = errors.New("not known yet")
	errNotOver   = errors.New("its former holder may still believe in it")
)

// errHandingOver is for the second of two.
var errHandingOver = errors.New("the lease is being handed over already")

// Verdict is what a node said of a name.
type Verdict uint8

const (
	VerdictSilent      Verdict = iota // it has not answered yet
	VerdictGranted                    // it gave its vote, which was given back; to Adopt: it keeps the lease for the heir
	VerdictFree                       // nobody has the key
	VerdictHeld                       // another client has the key
	VerdictGuarded                    // it was not asked: it is young, and for Left may have forgotten a grant
	VerdictUnreachable                // it could not be asked, or its answer was an error: see Err
	VerdictNotAsked                   // it could have been asked, but too few other nodes could
)

var verdicts = enum{"Verdict", []string{
	VerdictSilent:      "silent",
	VerdictGranted:     "granted",
	VerdictFree:        "free",
	VerdictHeld:        "held",
	VerdictGuarded:     "guarded",
	VerdictUnreachable: "unreachable",
	VerdictNotAsked:    "not asked: no quorum",
}}

// String returns the verdict in words, or its number if it has none: "Verdict(17)".
func (v Verdict) String() string { return verdicts.text(uint8(v)) }

// MarshalText returns what String returns.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText takes what MarshalText returns.
func (v *Verdict) UnmarshalText(text []byte) error {
	n, err := verdicts.parse(string(text))
	if err == nil {
		*v = Verdict(n)
	}
	return err
}

// A KeyKind is what sort of value the key of a name has.
type KeyKind uint8

const (
	KeyUnknown  KeyKind = iota // there is no key, or it is not known
	KeyLease                   // the token of a lease, also of one that was left
	KeyReserved                // it is kept for who waits, and has yet to claim it
	KeyForeign                 // a string that is none of these: that of a client of another library
	KeyOther                   // no string, or an empty one: nobody's lock, and nobody gets the name
)

var keyKinds = enum{"KeyKind", []string{
	KeyUnknown:  "unknown",
	KeyLease:    "lease",
	KeyReserved: "reserved",
	KeyForeign:  "foreign",
	KeyOther:    "other",
}}

// String returns the kind in a word, or its number if it has none: "KeyKind(17)".
func (k KeyKind) String() string { return keyKinds.text(uint8(k)) }

// MarshalText returns what String returns.
func (k KeyKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText takes what MarshalText returns.
func (k *KeyKind) UnmarshalText(text []byte) error {
	n, err := keyKinds.parse(string(text))
	if err == nil {
		*k = KeyKind(n)
	}
	return err
}

// keyKindOf returns what sort of value a node has.
func keyKindOf(a core.Answer) KeyKind {
	switch {
	case a.Verdict != core.VerdictHeld:
		return KeyUnknown
	case a.Value == "":
		return KeyOther
	case node.IsReservation(a.Value):
		return KeyReserved
	case node.OwnerOf(a.Value) == "":
		return KeyForeign
	}
	return KeyLease
}

// An Answer is what one node said of a name.
type Answer struct {
	Node      string        // the node's address, without credentials
	Verdict   Verdict       //
	Kind      KeyKind       // if VerdictHeld: what sort of value the key has
	Owner     string        // if VerdictHeld: who has the key; empty if it does not say, as clients of other libraries
	Left      time.Duration // if LeftKnown: how long the key lives at most; of VerdictGuarded for how long it is
	LeftKnown bool          // whether Left is; not if NoExpiry
	NoExpiry  bool          // if VerdictHeld: the key stays until somebody deletes it
	Vacated   bool          // if VerdictHeld: the lease is over, and Owner has left the key, see WithMinHold
	Err       error         // if VerdictUnreachable: why, in the node's own words
}

// String returns the answer in one line.
func (a Answer) String() string {
	var b strings.Builder
	if a.Verdict == VerdictHeld && a.Vacated {
		fmt.Fprintf(&b, "%s: left", a.Node)
	} else {
		fmt.Fprintf(&b, "%s: %v", a.Node, a.Verdict)
	}
	if a.Verdict == VerdictHeld {
		if a.Owner != "" {
			fmt.Fprintf(&b, " by %s", plain.Line(a.Owner)) // which others have chosen
		}
		switch left := a.Left.Round(time.Millisecond); {
		case a.LeftKnown && a.Vacated:
			fmt.Fprintf(&b, ", free in at most %v", left)
		case a.LeftKnown:
			fmt.Fprintf(&b, " for at most %v", left)
		case a.NoExpiry:
			b.WriteString(", with no expiry")
		}
	}
	if a.Verdict == VerdictGuarded {
		fmt.Fprintf(&b, " for %v, as it is used for the first time, was started or has lost its data", a.Left.Round(time.Millisecond))
	}
	if a.Err != nil {
		fmt.Fprintf(&b, " (%s)", plain.Line(a.Err.Error()))
	}
	return b.String()
}

// MarshalJSON returns the fields that say something: Verdict as a word, Left as in "1.5s", Err as its text.
func (a Answer) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Node     string
		Verdict  Verdict
		Kind     KeyKind `json:",omitzero"`
		Owner    string  `json:",omitempty"`
		Left     string  `json:",omitempty"`
		NoExpiry bool    `json:",omitempty"`
		Vacated  bool    `json:",omitempty"`
		Err      string  `json:",omitempty"`
	}{a.Node, a.Verdict, a.Kind, a.Owner, spanIf(a.LeftKnown, a.Left), a.NoExpiry, a.Vacated, textOf(a.Err)})
}

// AcquireError says why a supervisor was refused what it tried with a name, whatever that was: see
// Op. It wraps [ErrHeld], [ErrNoQuorum], [ErrMisconfigured], [ErrFenceExhausted] or [ErrClosed], of
// Adopt also lease.ErrLost, of Revoke and StepDown also [ErrNotHolder]; and the error of the context if that ended
// the waiting, or that alone if nothing else stood in the way: branch with errors.Is, and use errors.As
// to show the nodes' answers. What is wrong with the arguments of a call is another error.
type AcquireError struct {
	Op     string   // what was tried: "acquire", "acquire any", "adopt", "revoke", "inspect" or "step down"
	Name   string   // the name, prefix included; of AcquireAny one of them
	Quorum int      // how many nodes must grant it
	Nodes  []Answer // what each node said last; empty if none was asked, or none stood in the way

	why       error
	cause     error  // the context's
	disagrees string // how other clients' nodes differ from ours; "" if they are not known to
	taken     bool   // somebody has the name, or has left it: see core.Report.Taken
}

// Young returns for how long too few nodes may be asked for a vote, because the others
// are young: they were started, or have lost their data, and may have forgotten a lease
// that is still believed in. It is 0 if that is not what stood in the way. An attempt of
// the same supervisor after that finds them grown.
func (e *AcquireError) Young() time.Duration {
	left := make([]time.Duration, 0, len(e.Nodes))
	for _, a := range e.Nodes {
		switch a.Verdict {
		case VerdictGuarded:
			left = append(left, a.Left)
		case VerdictFree, VerdictGranted, VerdictSilent, VerdictNotAsked:
			left = append(left, 0)
		}
	}
	if len(left) < e.Quorum || e.Quorum == 0 {
		return 0 // nodes that are young are not all that stands in the way
	}
	slices.Sort(left)
	return left[e.Quorum-1]
}

// Error names what was tried, the name, the reason and every node's answer.
func (e *AcquireError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q: %v", e.Op, e.Name, e.why)
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	if e.why == ErrFenceExhausted {
		fmt.Fprintf(&b, ": delete the key %q on each node", node.FenceKey(e.Name))
	}
	if len(e.Nodes) > 0 {
		fmt.Fprintf(&b, " (%d of %d nodes needed)", e.Quorum, len(e.Nodes))
		list(&b, e.Nodes)
	}
	if left := e.Young(); left > 0 {
		fmt.Fprintf(&b, "; too few nodes may be asked for %v: Config.MaxTTLCap bounds that time, and Config.DisableGuard ends it", left.Round(time.Millisecond))
	}
	if e.disagrees != "" {
		fmt.Fprintf(&b, "; the clients do not agree on the nodes: %s", e.disagrees)
	}
	return b.String()
}

// MarshalText returns what Error returns, so that an error is its text in JSON too, as it is in package
// slog. For fields of their own log e.Name and e.Nodes.
func (e *AcquireError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the reason, and the context's error if there is one.
func (e *AcquireError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.why}
	}
	return []error{e.why, e.cause}
}

// ReleaseError says that a name was given up, but that a quorum of nodes is not
// known to be free of it: they did not confirm it, and keep the key until it
// expires at most. It asks nothing of the caller. If it is of Release, the nodes are told again
// when they can be reached, and Close waits for that; if it is of Close, nobody tells them.
type ReleaseError struct {
	Name  string        // the name, prefix included
	Nodes []Answer      // those that may keep the key, and why that is not known
	Left  time.Duration // for how long at most, from when the waiting ended

	cause error // the context's, if that ended the waiting
}

// Error names the name and the nodes.
func (e *ReleaseError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "release %q: not confirmed by a quorum; for %v at most the key may stay on", e.Name, e.Left.Round(time.Millisecond))
	list(&b, e.Nodes)
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	return b.String()
}

// MarshalText returns what Error returns, as that of an [*AcquireError] does.
func (e *ReleaseError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the context's error, if that ended the waiting.
func (e *ReleaseError) Unwrap() error { return e.cause }

func list(b *strings.Builder, nodes []Answer) {
	for i, a := range nodes {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep)
		b.WriteString(a.String())
	}
}
