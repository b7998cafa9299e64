package node

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// Op says what a [Command] asks of a node.
type Op uint8

const (
	// Grant sets the key to Token for TTL if it is free, and proposes Fence. Token is to be
	// made for that fence, see [NewToken].
	Grant Op = iota + 1
	// Raise stores the larger of Fence and what is stored, if the key still
	// holds Token, which then tells Fence. With a TTL it gives the key that as well.
	Raise
	// Renew gives the key another TTL, if it still holds Token.
	Renew
	// Release deletes the key, if it still holds Token or was left with it, and hands a key that is
	// absent over to who waits for it.
	Release
	// Inspect reads who holds the key. It changes nothing.
	Inspect
	// Heal sets the key to Token for TTL again if it is free or reserved for a waiter, whoever
	// that is, with the lease's own Fence, on the incarnation Life alone.
	Heal
	// Enqueue has Token wait for the key, at Ticket, or tells that it still does. A
	// key that is free is handed over to the first who waits, except by a young node.
	Enqueue
	// Claim sets the key to Token for TTL if it is free or reserved for Token, or holds
	// Token already, takes Token out of the queue then, and proposes Fence.
	Claim
	// Leave takes Token out of the queue, and hands a key that was reserved for it
	// over to the next. A key that holds Token itself is left alone.
	Leave
	// Adopt sets a key that holds Former to Token for TTL, and proposes Fence then. A
	// key that holds Token already gets the TTL, and Fence is proposed.
	Adopt
	// Vacate marks the key as left, see [CutLeft], if it still holds Token: it lives on for
	// TTL, and is handed to nobody. It takes Token out of the queue.
	Vacate
	// Sign leaves Token, the fingerprint of the sender's electorate, for TTL, and reads
	// those of others. With Grown it also writes down that the incarnation Life has been
	// known for the window, under a key of its own beside the marker. Name is not used.
	Sign
	// RenewAll does what Renew does for every member of Group.
	RenewAll
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
	}
	return "no operation"
}

// A Command asks one node one thing about one key. It is a plain value: sending
// one allocates nothing.
type Command struct {
	ID     uint64        // the sender's; comes back in the Reply
	Op     Op            // what is asked
	Name   string        // the lock key, prefix included
	Token  string        // unused by Inspect; of Sign: the fingerprint, without a line feed
	Former string        // of Adopt: the token that is to be replaced
	TTL    time.Duration // whole milliseconds; of Grant, Renew, Heal, Claim, Adopt, Vacate and Sign; of Raise: 0, or the key is given it
	Fence  uint64        // of Grant, Raise, Heal, Claim and Adopt; of Release: 0, or the key may be given with it to who waits, see [Wake]
	Ticket uint64        // of Enqueue: whose is smaller comes first; less than 2^53
	New    bool          // of Enqueue: Token is to stand behind all that stand there, and Ticket is only the least
	Queued bool          // of Release: Token may wait for the key, or the key be reserved for it, and that ends as well
	Track  bool          // of Inspect: a change of the key that comes after is told by a Wake, if State.Tracks
	Grown  bool          // of Sign: Life is grown, see State.Grown
	Life   uint32        // of Heal, and of Sign with Grown: the State.Life for which it is meant
	By     clock.Instant // it is not sent after this instant, because nobody wants it any more
	Group  *Group        // of RenewAll, which uses no other field but ID, Op and By
	Brief  bool          // of Inspect: Left and Fence are not asked, nor is Ahead of an absent key; they are 0

	own bool // the actor's, which tells nobody of it
}

// Status is what is known of a node after a [Command]. Silence is not a no: only
// Absent, Other and Unsent say that the key does not hold the token by this
// command's doing.
type Status uint8

const (
	// Unknown: it may or may not have acted. A timeout, a broken connection, an
	// error in the answer.
	Unknown Status = iota
	// Unsent: it was certainly not sent, or the node had lost its script and did not
	// run it. No room in the mailbox, no enrolled connection, By has passed, a Release
	// of the token is ahead of it by now.
	Unsent
	// OK: the key is as the command asked; for Inspect, the key exists; for Enqueue, it
	// is reserved for the token or holds it; for Leave, it was, or does.
	OK
	// Absent: there was no such key, and nothing was changed. For Renew, it may have been
	// reserved for a waiter as well: nobody holds it.
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

// A Reply answers the [Command] with the same ID and Op. Every command that an
// [Actor] has taken is answered exactly once.
type Reply struct {
	ID     uint64
	Op     Op
	Status Status
	Raised bool   // of Grant, Claim and Adopt: Fence was larger than what was stored, and is stored now
	Fence  uint64 // of Claim, Adopt, Inspect and Enqueue: what the register of the name has, 0 if nothing; of Raise: what it had before
	Holds  uint64 // of the same but Raise: the fence of the lease that holds the key, 0 if its value tells none
	Ticket uint64 // of Enqueue: at which it stands there; 0 if it does not
	// Until is, of Enqueue, when the waiter's heartbeat ends, by the node's TIME since the Unix
	// epoch in whole milliseconds; 0 if it does not stand there.
	Until time.Duration
	// Left is how long the key will live at most, of Inspect and Enqueue, and of Claim
	// and Adopt if Other; -1 if for ever. Of Adopt if OK it is how long the key would have
	// lived with Former; 0 if it held Token already, so that this is not known.
	Left time.Duration
	// Value is what the key holds, of the same but Adopt if OK, and of Renew and Heal if Other,
	// the beginning of it, without the fence that may stand after a token; of Sign: the fingerprints, see [Fingerprints].
	Value string
	Ahead int // of Enqueue, and of Claim if Other: how many stand before it in this node's queue; of Inspect: how many stand there and are alive
	// Err is why Status is Unknown or Unsent, in the node's own words; else nil. It can be
	// compared with ==, and what many commands have failed by is one value.
	Err error
	// But are the members of a Group, in their order, of which Status does not hold: nil of all
	// commands but RenewAll, and then nearly always.
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

// Reserved returns what a key holds that is reserved for a token: nobody else's Grant
// is taken then, but nobody holds the name either.
func Reserved(token string) string { return script.Reserved(token) }

// InboxChannel returns a channel for [Config.Inbox]. random tells it from those of all
// other processes.
func InboxChannel(random string) string { return script.InboxChannel(random) }

// A Wake is what a node has told unasked: that Token has got a name, that Key has changed, or that the
// node is listened to. Any of them may be lost.
type Wake struct {
	Node int
	// Token tells that the key for which it waits was reserved for it. If it is empty
	// and so is Key, then the node is listened to, from the beginning or again: what it
	// told before may have been missed.
	Token string
	// Key tells that the key was changed, or has expired, since it was last renewed, or
	// inspected with Track. That is told once, and may be our own doing. "*" stands for
	// every key.
	Key string
	// Fence tells that the key was given to Token: it holds Token, and Fence was larger than what
	// was stored, and is stored now. The node was of Life. It is 0 if the key was only reserved.
	Fence uint64
	Life  uint32
	// Of what was given, by the node's TIME since the Unix epoch, in whole milliseconds: when the
	// heartbeat ends that Token had then, see Reply; when the key was given; and when it ends, which
	// is no later than the heartbeat does.
	Beat, At, Until time.Duration
}

// A Fingerprint is that of an electorate, which some client has left on a node.
type Fingerprint struct {
	Text  string
	Until time.Duration // the node's TIME, since the Unix epoch, until which it counts
}

// Fingerprints reads the fingerprints in the Value of a reply to [Sign]. The sender's own is among
// them.
func Fingerprints(value string) []Fingerprint { return fingerprints(value) }

// A Batch carries the replies to one pipeline, and how the node is. The receiver
// owns Replies, and may give them back by Done. An enrolment that came or ended is told by a
// Batch as well, which may carry no reply.
type Batch struct {
	Node    int // the node's index in the deployment
	Replies []Reply
	State   State

	spare chan<- []Reply // takes the buffer of Replies back; nil if nothing does
}

// Done gives Replies back to the actor, which uses them for another Batch. The receiver must
// have kept nothing of them by then but copies. Without Done they are garbage as any other.
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

// State is how a node is, as its [Actor] knows it.
type State struct {
	// Enrolled tells whether commands are being sent to it.
	Enrolled bool
	// Err is why the node is not enrolled; nil if it is, or if that was not tried yet. Overdue
	// tells that the reason is an answer that has not come in time.
	Err     error
	Overdue bool
	// Reconnecting tells that the connection has ended as connections do, and that the first
	// attempt to make another one is under way.
	Reconnecting bool
	// Life counts the incarnations that this actor has met, from 1: one ends when the
	// server restarts, when another takes its place, and when it has lost its marker. An
	// answer of another Life may come from a server that has forgotten everything.
	Life uint32
	// LifeAt is when this actor first heard from that incarnation. How long it is young is
	// counted from then, see invariant 12 of package supervisor.
	LifeAt clock.Instant
	// Run is the server's run id, "" if it does not say. Identity is that of its data:
	// two connections that tell the same Run and Identity are one node. Identity is "" if
	// the node is not Guarded.
	Run, Identity string
	// Database is the number of the one that is used there; -1 if a client was lent, whose
	// number is not known.
	Database int
	// Guarded tells that the server says which incarnation it is, so that one which
	// forgot is known. Grown is then set once somebody has known this incarnation for the
	// window: the node says so, or a Sign with Grown was taken, or the incarnation is older
	// than the window and an hour. One that is not grown is young: it may have forgotten a
	// grant that is still believed in. A node that is not Guarded is always Grown. Age is how long ago the incarnation began when this actor
	// first heard of it, by the node's clock.
	Guarded, Grown bool
	Age            time.Duration
	// MaxTTL is the largest that the marker knew of at the enrolment, our own included.
	// MarkedAt is when the latest pipeline was sent whose answers ended with the marker.
	MaxTTL   time.Duration
	MarkedAt clock.Instant
	// NoInbox is why the node's announcements are not heard, or nil if they are, or if
	// nothing has waited yet. All else works without them.
	NoInbox error
	// Tracks tells that keys which were renewed, or inspected with Track, are watched
	// from then on, see Wake.
	Tracks bool
	// FlushedAt is when the server last told over this connection that it has flushed a
	// database, ours or another one. It tells that before it answers what came later. 0 if it has
	// not told; only a server that Tracks does.
	FlushedAt clock.Instant
	// Evicts is the server's maxmemory-policy, if it may evict lock keys.
	Evicts string
	// Time is the node's TIME, since the Unix epoch, as it was answered last to what
	// was sent at TimeSent; that answer was received at TimeBack. The node has read it before
	// it did anything of what the Replies of the same Batch tell.
	Time               time.Duration
	TimeSent, TimeBack clock.Instant
	// Offset is the node's TIME, since the Unix epoch, less our clock's reading
	// since its origin, measured to half a round trip at OffsetAt. It is known if
	// OffsetAt is not 0, also of a node that is not enrolled now.
	Offset   time.Duration
	OffsetAt clock.Instant
	// Latency is how long the last answered pipeline took. Patience is how long an answer is
	// waited for at present.
	Latency, Patience time.Duration
	// RoundTrips is how many pipelines it has answered, and RoundTripTime how long all of them
	// took together.
	RoundTrips    uint64
	RoundTripTime time.Duration
}
