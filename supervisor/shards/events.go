package shards

import "strconv"

// An Event is something that has happened in this process.
type Event struct {
	Kind    EventKind
	Group   string
	Name    string // of all but EventMembers: as in the list; of EventFailed empty if it is about the group
	Members int    // how many processes take part, as far as this one knows
	Fence   uint64 // of the lease, if there is or was one
	Err     error  // of EventLost and EventFailed why; of EventReturned and EventPanicked what the function returned
}

// An EventKind is what has happened.
type EventKind uint8

// The kinds of events.
const (
	_             EventKind = iota
	EventMembers            // another number of processes takes part
	EventTaken              // a name is owned, and its function begins
	EventGiving             // somebody else is to have a name: its function is told to return
	EventGiven              // its function has returned, and it was released
	EventLost               // a lease was lost, and its function has returned
	EventReturned           // a function has returned by itself: the name is left alone for a while
	EventPanicked           // a function has panicked: Own ends
	EventSlow               // a function has not returned 10 s after it was told to
	EventFailed             // the nodes or the supervisor refuse something, which is tried again
)

var kinds = [...]string{
	EventMembers: "members", EventTaken: "taken", EventGiving: "giving", EventGiven: "given", EventLost: "lost",
	EventReturned: "returned", EventPanicked: "panicked", EventSlow: "slow", EventFailed: "failed",
}

// String returns the name of a kind, or the number of one that has none.
func (k EventKind) String() string {
	if int(k) < len(kinds) && kinds[k] != "" {
		return kinds[k]
	}
	return strconv.Itoa(int(k))
}

// MarshalText returns what String returns.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
