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

// These are the reasons why a call failed. Test with errors.Is. If the context ended the waiting,
// the error wraps the context's error as well.
var (
	// ErrHeld: another client has the name, or this process has it, or it was left to stay taken,
	// see WithMinHold. Wait, or do without the name.
	ErrHeld = errors.New("name is held")

	// ErrNoQuorum: too few nodes could be reached and may be asked, or too few answered in time.
	// Something is broken, or the nodes are young, see [AcquireError.Young]. The error says what is
	// wrong at each node, in the node's own words. Try again later.
	ErrNoQuorum = errors.New("no quorum of nodes could be reached")

	// ErrNotHolder: the lease that Revoke or StepDown was to end does not hold the name. Look again
	// which lease does.
	ErrNotHolder = errors.New("not the holder")

	// ErrMisconfigured: two of the nodes are the same database of one server, so its vote would
	// count twice; the error names both. Or the nodes are being changed, and this process was given
	// lists with which it must acquire nothing; the error says what to do. Or older clients use other
	// nodes. Nothing is acquired until Config.Nodes or Config.Former is mended, the change is finished,
	// or those clients are gone.
	ErrMisconfigured = errors.New("broken configuration")

	// ErrFenceExhausted: the fence of the name cannot grow, because its register on the nodes has
	// the largest value, 2^53. Other names may share the register. No lease brings it there, so
	// another program has written it. Delete the register, which the error names, on every node.
	ErrFenceExhausted = errors.New("the fence of the name cannot grow any more")

	// ErrTooEarly: FinishChange or ForgetChange was refused, because clients use lists of nodes with
	// which they would lose their leases, because another change is not finished, or because this
	// one has come too far to be forgotten. The error says which, and what to do.
	ErrTooEarly = errors.New("too early")

	// ErrClosed: the supervisor was closed. Make another. errors.Is finds lease.ErrClosed in it
	// too, but it is no loss: there was no lease.
	ErrClosed error = closedError{}
)

// closedError is the type of [ErrClosed].
type closedError struct{}

func (closedError) Error() string { return "supervisor closed" }

// Closed tells lease.ErrClosed that this is the same reason.
func (closedError) Closed() bool { return true }

// Is reports whether target is the error of a lease that has ended for the same reason.
func (closedError) Is(target error) bool { return target == lease.ErrClosed }

// These say why there is no lease if nothing but the end of the context stood in the way.
var (
	errNotTried  = errors.New("not tried")
	errGivenBack = errors.New("given back")
	errNotTaken  = errors.New("not taken")
	errNotTold   = errors.New("not confirmed by a quorum")
	errNotKnown  = errors.New("not known yet")
	errNotOver   = errors.New("its former holder may still rely on it")
)

// These say why the lists of nodes do not fit while the nodes are being changed.
var (
	errOtherNodes   = fmt.Errorf("%w: the lease rests on nodes that were not given to this process", ErrMisconfigured)
	errNotFinished  = fmt.Errorf("%w: the change of the nodes is not finished: give it the former list as well, or finish the change", ErrMisconfigured)
	errNodesLeft    = fmt.Errorf("%w: these nodes were left: give it the present list, alone or with the former one", ErrMisconfigured)
	errOtherChange  = fmt.Errorf("%w: another change of the nodes is not finished, or these nodes belong to other lists: look whether both lists are right, and not the wrong way round", ErrMisconfigured)
	errNewcomer     = fmt.Errorf("%w: older clients use other nodes, %s", ErrMisconfigured, bothCouldHold)
	errTooManyNodes = errors.New("this process was given too many nodes in its life: restart it")
	errRelisted     = errors.New("the lists of nodes have changed meanwhile: try again")
)

// bothCouldHold says why nothing is acquired beside older clients that use other nodes.
const bothCouldHold = "so nothing is acquired, because both could hold one name at once: give all clients the same nodes"

// errHandingOver is the error of the second of two calls of HandOver.
var errHandingOver = errors.New("another call is handing the lease over")

// A Verdict says what a node answered about a name.
type Verdict uint8

const (
	VerdictSilent      Verdict = iota // it has not answered yet
	VerdictGranted                    // it gave its vote, and was told to forget it; of Adopt: it keeps the lease for the adopter
	VerdictFree                       // no client has the key
	VerdictHeld                       // another client has the key
	VerdictGuarded                    // it was not asked: it is young, and may have forgotten a grant; it stays young for Left
	VerdictUnreachable                // it could not be asked, or its answer was an error: see Err
	VerdictNotAsked                   // it could have been asked, but too few other nodes could
)

var verdicts = plain.Enum{Package: "supervisor", Name: "Verdict", Words: []string{
	VerdictSilent:      "silent",
	VerdictGranted:     "granted",
	VerdictFree:        "free",
	VerdictHeld:        "held",
	VerdictGuarded:     "guarded",
	VerdictUnreachable: "unreachable",
	VerdictNotAsked:    "not asked: no quorum",
}}

// String returns the verdict in words, or its number if it has none: "Verdict(17)".
func (v Verdict) String() string { return verdicts.Text(uint8(v)) }

// MarshalText returns what String returns.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText sets the verdict from what MarshalText returns.
func (v *Verdict) UnmarshalText(text []byte) error {
	n, err := verdicts.Parse(string(text))
	if err == nil {
		*v = Verdict(n)
	}
	return err
}

// A KeyKind says what sort of value the key of a name has.
type KeyKind uint8

const (
	KeyUnknown  KeyKind = iota // there is no key, or it is not known
	KeyLease                   // the token of a lease, also of one that was left
	KeyReserved                // it is reserved for a waiter, which has yet to claim it
	KeyForeign                 // a string that is none of these: that of a client of another library
	KeyOther                   // no string, or an empty one: it is no client's lock, but no client gets the name
)

var keyKinds = plain.Enum{Package: "supervisor", Name: "KeyKind", Words: []string{
	KeyUnknown:  "unknown",
	KeyLease:    "lease",
	KeyReserved: "reserved",
	KeyForeign:  "foreign",
	KeyOther:    "other",
}}

// String returns the kind in a word, or its number if it has none: "KeyKind(17)".
func (k KeyKind) String() string { return keyKinds.Text(uint8(k)) }

// MarshalText returns what String returns.
func (k KeyKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText sets the kind from what MarshalText returns.
func (k *KeyKind) UnmarshalText(text []byte) error {
	n, err := keyKinds.Parse(string(text))
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

// shorter says how the time for which nodes are young becomes shorter.
const shorter = "Config.MaxTTLCap bounds that time: set it to the largest TTL of all clients (Config.DisableGuard is for tests)"

// An Answer says what one node answered about a name.
type Answer struct {
	Node      string        // the node's address, without credentials
	List      List          // in which list of nodes it is
	Verdict   Verdict       // what it answered, in a word
	Kind      KeyKind       // if VerdictHeld: what sort of value the key has
	Owner     string        // if VerdictHeld: the holder; empty if its value does not say, as with other libraries
	Left      time.Duration // if LeftKnown: how long the key lives at most; if VerdictGuarded: how long the node is still young
	LeftKnown bool          // whether Left is known; false if NoExpiry
	NoExpiry  bool          // if VerdictHeld: the key stays until a client deletes it
	Vacated   bool          // if VerdictHeld: the lease is over, and its keys stay for a while, see WithMinHold
	Err       error         // if VerdictUnreachable: why, in the node's own words
}

// String returns the answer in one line.
func (a Answer) String() string {
	var b strings.Builder
	switch {
	case a.Verdict == VerdictHeld && a.Vacated:
		fmt.Fprintf(&b, "%s: left", a.Node)
	case a.Verdict == VerdictSilent: // which reads as a fault of the node, and need not be one
		fmt.Fprintf(&b, "%s: no answer yet", a.Node)
	default:
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
		fmt.Fprintf(&b, " for %v: it is used for the first time, was started or has lost its data", a.Left.Round(time.Millisecond))
	}
	if a.Err != nil {
		fmt.Fprintf(&b, " (%s)", plain.Line(a.Err.Error()))
	}
	return b.String()
}

// MarshalJSON returns the fields that are set: Verdict as a word, Left as in "1.5s", Err as its
// text.
func (a Answer) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Node     string
		List     List `json:",omitzero"`
		Verdict  Verdict
		Kind     KeyKind `json:",omitzero"`
		Owner    string  `json:",omitempty"`
		Left     string  `json:",omitempty"`
		NoExpiry bool    `json:",omitempty"`
		Vacated  bool    `json:",omitempty"`
		Err      string  `json:",omitempty"`
	}{a.Node, a.List, a.Verdict, a.Kind, a.Owner, spanIf(a.LeftKnown, a.Left), a.NoExpiry, a.Vacated, plain.ErrorText(a.Err)})
}

// An AcquireError says why a call did not get what it asked for a name, and what each node
// answered. Op is the call. Branch with errors.Is. The error wraps [ErrHeld], [ErrNoQuorum],
// [ErrMisconfigured], [ErrFenceExhausted] or [ErrClosed]. That of Adopt may wrap lease.ErrLost
// instead, and those of Revoke and StepDown [ErrNotHolder]. If the context ended the waiting, it
// wraps the context's error too, or only that if nothing else stood in the way. Use errors.As to
// show the nodes' answers. An error about the arguments of a call is not of this type.
type AcquireError struct {
	Op     string   // what was tried: "acquire", "acquire any", "adopt", "revoke", "inspect" or "step down"
	Name   string   // the name, prefix included; of AcquireAny one of them
	Quorum int      // how many of Config.Nodes must say yes
	Nodes  []Answer // what each node answered last; empty if no node was asked, or none stood in the way

	FormerQuorum int // how many of Config.Former must say yes as well; 0 without such a list

	why       error
	cause     error  // the context's
	disagrees string // how other clients' nodes differ from ours; "" if they are not known to
	taken     bool   // a client has the name, or has left it: see core.Report.Taken
}

// Young returns how long it takes until a quorum of nodes may be asked for a vote, if the attempt
// failed because the others are young. Young nodes were started, or have lost their data, and may
// have forgotten a lease that is still believed in. Try again with the same supervisor after that
// time. It is 0 if something else stood in the way.
func (e *AcquireError) Young() time.Duration {
	present, ok := e.young(ListNodes, e.Quorum)
	if ok && e.FormerQuorum > 0 {
		var former time.Duration
		former, ok = e.young(ListFormer, e.FormerQuorum)
		present = max(present, former)
	}
	if !ok {
		return 0 // nodes that are young are not all that stands in the way
	}
	return present
}

// young returns how long it takes until a quorum of a list may be asked, or false if it may not even
// then.
func (e *AcquireError) young(list List, quorum int) (time.Duration, bool) {
	left := make([]time.Duration, 0, len(e.Nodes))
	for _, a := range e.Nodes {
		if !a.List.has(list) {
			continue
		}
		switch a.Verdict {
		case VerdictGuarded:
			left = append(left, a.Left)
		case VerdictFree, VerdictGranted, VerdictSilent, VerdictNotAsked:
			left = append(left, 0)
		}
	}
	if len(left) < quorum || quorum == 0 {
		return 0, false
	}
	slices.Sort(left)
	return left[quorum-1], true
}

// needs returns how many nodes must say yes, in words, and which list has too few that could be
// asked if both are needed.
func (e *AcquireError) needs() string {
	if e.FormerQuorum == 0 {
		return fmt.Sprintf("%d of %d nodes needed", e.Quorum, len(e.Nodes))
	}
	var in, asked [ListBoth]int // by list
	for _, a := range e.Nodes {
		for _, list := range []List{ListNodes, ListFormer} {
			if !a.List.has(list) {
				continue
			}
			in[list]++
			switch a.Verdict {
			case VerdictGuarded, VerdictUnreachable:
			default: // a silent one was asked, and may not have been waited for
				asked[list]++
			}
		}
	}
	text := fmt.Sprintf("%d of the %d Nodes and %d of the %d Former ones needed", e.Quorum, in[ListNodes], e.FormerQuorum, in[ListFormer])
	nodes, former := asked[ListNodes] < e.Quorum, asked[ListFormer] < e.FormerQuorum
	switch {
	case e.why != ErrNoQuorum:
	case nodes && former:
		text += ", and both lack theirs"
	case nodes:
		text += ", and Nodes lack theirs"
	case former:
		text += ", and Former lack theirs"
	}
	return text
}

// Error returns a text with what was tried, the name, the reason and every node's answer.
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
		fmt.Fprintf(&b, " (%s)", e.needs())
		list(&b, e.Nodes)
	}
	if left := e.Young(); left > 0 {
		fmt.Fprintf(&b, "; too few nodes may be asked for %v: %s", left.Round(time.Millisecond), shorter)
	}
	if e.disagrees != "" {
		fmt.Fprintf(&b, "; the clients do not agree on the nodes: %s", e.disagrees)
	}
	return b.String()
}

// MarshalText returns what Error returns, so that an error is its text in JSON too, as it is in
// package slog. To log fields of their own use e.Name and e.Nodes.
func (e *AcquireError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the reason, and the context's error if there is one.
func (e *AcquireError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.why}
	}
	return []error{e.why, e.cause}
}

// A ReleaseError says that a name was given up, but no quorum of nodes has confirmed that it is
// free. The others keep the key until it expires at most. It asks nothing of the caller. After an
// error of Release the supervisor tells the nodes again when it can reach them, and Close waits for
// that. After an error of Close it does not tell them.
type ReleaseError struct {
	Name  string        // the name, prefix included
	Nodes []Answer      // those that may keep the key, and why it is not known whether they do
	Left  time.Duration // how long they keep it at most, counted from when the waiting ended

	cause error // the context's, if that ended the waiting
}

// Error returns a text with the name and the nodes.
func (e *ReleaseError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "release %q: not confirmed by a quorum; the key may remain for up to %v on", e.Name, e.Left.Round(time.Millisecond))
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
