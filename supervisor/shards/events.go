package shards

import (
	"encoding/json"

	"github.com/leasehold-go/leasehold/internal/plain"
)

// An Event describes something that has happened in this process.
type Event struct {
	Kind    EventKind
	Group   string
	Name    string // as in the list of names; empty for EventMembers, and for EventFailed if it is about the group
	Members int    // how many processes take part, as far as this one knows
	Fence   uint64 // of the lease, if there is or was one; 0 otherwise
	Err     error  // of EventLost and EventFailed: why; of EventGiven and EventReturned: what the function returned; of EventPanicked: a *PanicError
}

// An EventKind says what has happened.
type EventKind uint8

// These are the kinds of events.
const (
	_             EventKind = iota
	EventMembers            // another number of processes takes part
	EventTaken              // a name is owned, and its function begins
	EventGiving             // another process is to get a name: its function is told to return
	EventGiven              // a function was told to return and has returned, and the name was released
	EventLost               // a lease was lost, and its function has returned
	EventReturned           // a function has returned by itself: this process leaves the name alone for a while
	EventPanicked           // a function has panicked: Own ends
	EventSlow               // a function has not returned 10 s after it was told to
	EventFailed             // the nodes or the supervisor have refused something, which is tried again
)

var kinds = plain.Enum{Package: "shards", Name: "EventKind", Words: []string{
	EventMembers: "members", EventTaken: "taken", EventGiving: "giving", EventGiven: "given", EventLost: "lost",
	EventReturned: "returned", EventPanicked: "panicked", EventSlow: "slow", EventFailed: "failed",
}}

// String returns the name of a kind, or its number if it has none: "EventKind(17)".
func (k EventKind) String() string { return kinds.Text(uint8(k)) }

// MarshalText returns what String returns.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText sets the kind from what MarshalText returns.
func (k *EventKind) UnmarshalText(text []byte) error {
	n, err := kinds.Parse(string(text))
	if err == nil {
		*k = EventKind(n)
	}
	return err
}

// MarshalJSON returns the fields that are set, Err as its text.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind    EventKind
		Group   string
		Name    string `json:",omitempty"`
		Members int
		Fence   uint64 `json:",omitempty"`
		Err     string `json:",omitempty"`
	}{e.Kind, e.Group, e.Name, e.Members, e.Fence, plain.ErrorText(e.Err)})
}
