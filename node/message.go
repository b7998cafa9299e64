package node

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// Op says what a [Command] asks of a node.
type Op uint8

const (
	// Grant sets the key to Token for TTL if it is free, and proposes Fence. Token must be made for
	// that fence, see [NewToken].
	Grant Op = iota + 1
	// Raise stores the larger of Fence and the stored one, if the key still holds Token. The key's
	// value then has Fence. If TTL is not 0, Raise gives the key that TTL as well.
	Raise
	// Renew gives the key another TTL, if it still holds Token.
	Renew
	// Release deletes the key, if it still holds Token or was left with it. It hands a key that is
	// absent over to the next waiter.
	Release
	// Inspect reads the holder of the key. It changes nothing.
	Inspect
	// Heal sets the key to Token for TTL again, with the lease's own Fence, if it is free or
	// reserved for a waiter, whichever that is. It does so only on the incarnation Life.
	Heal
	// Enqueue makes Token wait for the key, at Ticket, or confirms that it still waits. It hands a
	// key that is free over to the first waiter, except on a young node.
	Enqueue
	// Claim sets the key to Token for TTL if it is free or reserved for Token, or holds Token
	// already. Then it takes Token out of the queue, and proposes Fence.
	Claim
	// Leave takes Token out of the queue, and hands a key that was reserved for it over to the next
	// waiter. It leaves a key that holds Token itself alone.
	Leave
	// Adopt sets a key that holds Former to Token for TTL, and then proposes Fence. If the key
	// holds Token already, Adopt gives it the TTL and proposes Fence.
	Adopt
	// Vacate marks the key as left, see [CutLeft], if it still holds Token: it lives on for TTL,
	// and is handed to no waiter. Vacate takes Token out of the queue.
	Vacate
	// Sign leaves Token, the text of an [Entry], for TTL, and reads those of others. Age is how long
	// it has counted already, elsewhere: it is 0 for one that is new, or the sender's own. So a
	// sender that uses several nodes can leave on each what it has read on another one, for what is
	// left of its life. If Grown is set Sign also writes down that the incarnation Life has been
	// known for the window, under a key of its own beside the marker. Name is not used.
	Sign
	// RenewAll does what Renew does for every member of Group.
	RenewAll
	// Advance raises the node's stage of a change, and its floor, to those of Token, the text of a
	// [Change] or "", and of Fence. It lowers neither. The answer is Other, and nothing was changed,
	// if the node keeps another change that is not opened. Name is not used. After a change of
	// either the actor enrols again, as all others do.
	Advance
	// Forget takes back the change Token, if it is begun only. It leaves the floor alone. The answer
	// is Other, and nothing was changed, if it has come further, or the node keeps another one. Name
	// is not used. What it changes has the same consequences as an Advance.
	Forget
	// Highest reads the highest fence that the node has stored, one part of its registers at a time:
	// Ticket is the part, at first 0. Nothing else is used. The Ticket of the Reply is the next part,
	// 0 after the last.
	Highest
)

// String returns the operation's name.
func (o Op) String() string {
	switch o {
	case Grant:
		return "grant"
	case Raise:
		return "raise"
	case Renew:
		return "renew"
	case Release:
		return "release"
	case Inspect:
		return "inspect"
	case Heal:
		return "heal"
	case Enqueue:
		return "enqueue"
	case Claim:
		return "claim"
	case Leave:
		return "leave"
	case Adopt:
		return "adopt"
	case Vacate:
		return "vacate"
	case Sign:
		return "sign"
	case RenewAll:
		return "renew all"
	case Advance:
		return "advance"
	case Forget:
		return "forget"
	case Highest:
		return "highest"
	}
	return "no operation"
}

// A Command asks one node one thing about one key. It is a plain value: sending one allocates
// nothing.
type Command struct {
	ID     uint64        // the sender's; comes back in the Reply
	Op     Op            // what is asked
	Name   string        // the lock key, prefix included
	Token  string        // unused by Inspect; of Sign: the entry, without a line feed; of Advance and Forget: the change
	Former string        // of Adopt: the token that is to be replaced
	TTL    time.Duration // whole milliseconds; of Grant, Renew, Heal, Claim, Adopt, Vacate and Sign; of Raise: 0, or the key is given it
	Fence  uint64        // of Grant, Raise, Heal, Claim and Adopt; of Advance: the floor, less than 2^53; of Release: 0, or the key may be given with it to the next waiter, see [Wake]
	Ticket uint64        // of Enqueue: the smaller comes first; less than 2^53; of Highest: the part
	New    bool          // of Enqueue: Token is to stand after all that stand there, and Ticket is only the least
	Queued bool          // of Release: Token may wait for the key, or the key be reserved for it; Release ends that as well
	Track  bool          // of Inspect: a Wake reports the next change of the key, if State.Tracks
	Age    time.Duration // of Sign: not negative
	Grown  bool          // of Sign: Life is grown, see State.Grown
	Life   uint32        // of Heal, and of Sign with Grown: the State.Life for which it is meant
	By     clock.Instant // it is not sent after this instant, because its result would be of no use
	Group  *Group        // of RenewAll, which uses no other field but ID, Op and By
	Brief  bool          // of Inspect: Left and Fence are not asked, nor is Ahead of an absent key; they are 0

	own bool // the actor's own, of which it tells no one
}

// Status says what is known of a node after a [Command]. Silence is not a no. Only Absent, Other
// and Unsent say that this command has not set the key to the token.
type Status uint8

const (
	// Unknown: the node may or may not have acted. A timeout, a broken connection, an error in the
	// answer.
	Unknown Status = iota
	// Unsent: the command was certainly not sent, or the node had lost its script and did not run
	// it. There was no room in the mailbox or no enrolled connection, By has passed, or a Release
	// of the token is ahead of it by now.
	Unsent
	// OK: the key is as the command asked. For Inspect, the key exists; for Enqueue, it is reserved
	// for the token or holds it; for Leave, it was or does.
	OK
	// Absent: there was no such key, and nothing was changed. For Renew, it may have been reserved
	// for a waiter as well: no client holds it.
	Absent
	// Other: the key holds another value, a reservation for another token included, and
	// nothing was changed. For Enqueue, it is not reserved for the token, and maybe free.
	Other
)

// String returns the status in a word.
func (s Status) String() string {
	switch s {
	case Unsent:
		return "unsent"
	case OK:
		return "ok"
	case Absent:
		return "absent"
	case Other:
		return "other"
	}
	return "unknown"
}

// A Reply answers the [Command] with the same ID and Op. Every command that an [Actor] has taken is
// answered exactly once.
type Reply struct {
	ID     uint64
	Op     Op
	Status Status
	Raised bool   // of Grant, Claim and Adopt: Fence was larger than what was stored, and is stored now
	Fence  uint64 // of Claim, Adopt, Inspect and Enqueue: what the register of the name has, 0 if nothing; of Raise: what it had before; of Advance and Forget: the floor; of Highest: the highest fence of the part, 0 if there is none
	Holds  uint64 // of the same but Raise: the fence of the lease that holds the key, 0 if its value has none
	Ticket uint64 // of Enqueue: at which it stands there; 0 if it does not; of Highest: the next part
	// Until is, of Enqueue, when the waiter's heartbeat ends, by the node's TIME since the Unix
	// epoch in whole milliseconds; 0 if it does not stand there.
	Until time.Duration
	// Left is how long the key will live at most, of Inspect and Enqueue, and of Claim and Adopt if
	// Other; -1 if for ever. Of Adopt if OK it is how long the key would have lived with Former; 0
	// if it held Token already, so that this is not known.
	Left time.Duration
	// Value is what the key holds, of the same but Adopt if OK. Of Renew and Heal if Other it is
	// the beginning of that, without the fence that may stand after a token. Of Sign it is the
	// entries, see [Fingerprints]. Of Advance
	// and Forget it is the change that the node keeps, see [ParseChange].
	Value string
	Ahead int // of Enqueue, and of Claim if Other: how many stand before it in this node's queue; of Inspect: how many stand there and are alive
	// Err says why Status is Unknown or Unsent, in the node's own words; nil otherwise. It can be
	// compared with ==. Very many commands that failed for one reason share one value.
	Err error
	// But has the members of a Group for which Status does not hold, in their order. It is nil for
	// all commands but RenewAll, and then nearly always.
	But *Exceptions
}

// ReservedPrefix begins every key and channel that leasehold keeps for itself on a node.
// No lock key may begin with it.
const ReservedPrefix = script.Prefix

// ReservationMark begins the value of a key that is reserved for a waiter, see
// [Reserved]. No token may begin with it.
const ReservationMark = script.Reservation

// LeftMark begins the value of a key that was left, see [CutLeft]. No token may begin with it.
const LeftMark = script.LeftMark

// FenceKey returns the key of the register that keeps the fence of a name, and of those that
// share it.
func FenceKey(name string) string { return script.FenceKey(name) }

// Reserved returns the value of a key that is reserved for a token. The key then refuses every
// other Grant, but no client holds the name either.
func Reserved(token string) string { return script.Reserved(token) }

// InboxChannel returns a channel for [Config.Inbox]. random tells it from those of all other
// processes.
func InboxChannel(random string) string { return script.InboxChannel(random) }

// A Wake is a message that a node has sent unasked: Token has got a name, Key has changed, or the
// actor listens to the node. Any Wake may be lost.
type Wake struct {
	Node int
	// Token is the waiter for which its key was reserved. If Token and Key are both empty, the
	// actor listens to the node, from the beginning or again: earlier messages may have been
	// missed.
	Token string
	// Key is a key that was changed, or has expired, since it was last renewed, or inspected with
	// Track. That is sent once, and our own command may be the cause. "*" stands for every key.
	Key string
	// Fence, if not 0, says that the key was given to Token: it holds Token, and Fence was larger
	// than the stored one, and is stored now. The node was of Life. It is 0 if the key was only
	// reserved.
	Fence uint64
	Life  uint32
	// These are about what was given, by the node's TIME since the Unix epoch, in whole
	// milliseconds. Beat is when the heartbeat ends that Token had then, see Reply. At is when the
	// key was given. Until is when it ends, which is no later than the heartbeat does.
	Beat, At, Until time.Duration
}

// A Fingerprint is an [Entry] that some client has left on a node. Times are the node's TIME, since
// the Unix epoch.
type Fingerprint struct {
	Text  string        // of the entry
	Since time.Duration // when it began to count; there was no break since
	Until time.Duration // until then it counts
}

// Fingerprints reads the entries in the Value of a reply to [Sign]. The sender's own is among
// them.
func Fingerprints(value string) []Fingerprint { return fingerprints(value) }

// A Batch carries the replies to one pipeline, and the state of the node. The receiver owns
// Replies, and may give them back by Done. A Batch also reports an enrolment that began or ended,
// and may then carry no reply.
type Batch struct {
	Node    int // the node's index in the deployment
	Replies []Reply
	State   State

	spare chan<- []Reply // takes the buffer of Replies back; nil if nothing does
}

// Done gives Replies back to the actor, which uses them for another Batch. By then the receiver
// must have kept only copies. Without Done they are garbage like any other.
func (b *Batch) Done() {
	if cap(b.Replies) == 0 {
		return
	}
	clear(b.Replies)
	select {
	case b.spare <- b.Replies[:0]:
	default: // it has enough of them
	}
	b.Replies = nil
}

// State is the state of a node, as its [Actor] knows it.
type State struct {
	// Enrolled says whether commands are being sent to the node.
	Enrolled bool
	// Err says why the node is not enrolled; nil if it is, or if that was not tried yet. Overdue
	// says that the reason is an answer that has not come in time.
	Err     error
	Overdue bool
	// Reconnecting says that the connection has ended as connections do, and that the first attempt
	// to make another one is under way.
	Reconnecting bool
	// Life counts the incarnations that this actor has met, from 1. An incarnation ends when the
	// server restarts, when another takes its place, and when it has lost its marker. An answer of
	// another Life may come from a server that has forgotten everything.
	Life uint32
	// LifeAt is when this actor first heard from that incarnation. Its youth is counted from then,
	// see invariant 12 of package supervisor.
	LifeAt clock.Instant
	// Run is the server's run id, "" if it does not say. Identity is that of its data: two
	// connections with the same Run and Identity reach one node. Identity is "" if the node is not
	// Guarded.
	Run, Identity string
	// Database is the number of the database that is used there; -1 if a client was lent, whose
	// number is not known.
	Database int
	// Guarded says that the server says which incarnation it is, so that one which forgot is known.
	// Grown is then set once some process has known this incarnation for the window: the node says
	// so, or a Sign with Grown was taken, or the incarnation is older than the window and an hour.
	// An incarnation that is not grown is young: it may have forgotten a grant that is still
	// believed in. A node that is not Guarded is always Grown. Age is how long ago the incarnation
	// began when this actor first heard of it, by the node's clock.
	Guarded, Grown bool
	Age            time.Duration
	// MaxTTL is the largest that the marker knew of at the enrolment, our own included. MarkedAt is
	// when the latest pipeline was sent whose answers ended with the marker.
	MaxTTL   time.Duration
	MarkedAt clock.Instant
	// Change and Floor are what the marker said at the enrolment of a change of the nodes, and of
	// the fence than which nobody may propose a smaller one: the next is Floor + 1. They are zero
	// if it said nothing, as that of a node which was emptied. An Advance, by this client or
	// another one, ends the enrolment, and the next one has what it left.
	Change Change
	Floor  uint64
	// NoInbox says why the actor does not hear the node's announcements. It is nil if it does, or
	// if nothing has waited yet. All else works without them.
	NoInbox error
	// Tracks says that the node watches keys once they were renewed, or inspected with Track, see
	// Wake.
	Tracks bool
	// FlushedAt is when the server last reported over this connection that it has flushed a
	// database, ours or another one. It reports that before it answers what came later. It is 0 if
	// it has not reported a flush. Only a server that Tracks does.
	FlushedAt clock.Instant
	// Evicts is the server's maxmemory-policy, if it may evict lock keys.
	Evicts string
	// Time is the node's TIME, since the Unix epoch, in the latest answer. It was asked for at
	// TimeSent and received at TimeBack. The node has read it before it did anything that the
	// Replies of the same Batch report.
	Time               time.Duration
	TimeSent, TimeBack clock.Instant
	// Offset is the node's TIME, since the Unix epoch, less our clock's reading since its origin,
	// measured to half a round trip at OffsetAt. It is known if OffsetAt is not 0, even if the node
	// is not enrolled now.
	Offset   time.Duration
	OffsetAt clock.Instant
	// Latency is how long the last answered pipeline took. Patience is how long the actor waits for
	// an answer at present.
	Latency, Patience time.Duration
	// RoundTrips is how many pipelines the node has answered, and RoundTripTime how long all of
	// them took together.
	RoundTrips    uint64
	RoundTripTime time.Duration
}
