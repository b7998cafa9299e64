package script

// This file has the words that leasehold keeps for itself on a node: keys, channels, and
// what marks a value. The texts of the scripts are given keys and channels, and spell
// what marks a value themselves.

// Prefix begins every key and channel that leasehold keeps for itself.
const Prefix = "leasehold:"

// Reservation begins the value of a key that is reserved for a waiter; its token follows.
const Reservation = "?"

// Reserved returns what a lock key holds that is reserved for a token.
func Reserved(token string) string { return Reservation + token }

// Member is the one member of a fence's sorted set; its score is the fence.
const Member = "f"

// Name returns the lock key itself.
func Name(name string) string { return name }

// FenceKey returns the key that keeps the highest fence known for a lock key. The
// braces put it into the lock key's slot on a server that is a cluster.
func FenceKey(name string) string { return Prefix + "{" + name + "}:fence" }

// QueueKey returns the key of the queue of those that wait for a lock key.
func QueueKey(name string) string { return Prefix + "{" + name + "}:queue" }

// Waiter and Alive return the two members of one that waits.
func Waiter(inbox, token string) string { return "w" + inbox + " " + token }
func Alive(inbox, token string) string  { return "l" + inbox + " " + token }

// InboxChannel returns the channel on which nodes tell one process what they have
// reserved for it. random tells it from those of all other processes.
func InboxChannel(random string) string { return Prefix + "inbox:" + random }

// What a node keeps of itself, without expiry but for Clients, whose last entry takes it
// along.
const (
	// Marker tells which incarnation of a node's data this is: the incarnation, a space,
	// the node's time in microseconds since when it counts as young, a space, and the
	// largest MaxTTL in ms that any client has raised it to. A marker of the first edition
	// ends after the time. The first two are what is called a life.
	Marker = Prefix + "incarnation"

	// slotOfMarker begins the keys below. They are in the slot of the marker, so that one
	// script may read them all through a proxy that spreads keys over servers.
	slotOfMarker = Prefix + "{" + Marker + "}:"

	// Grown holds the life that somebody has known for the window. It is apart from the
	// marker, because every pipeline ends by comparing that, and to grow is no news for them.
	Grown = slotOfMarker + "grown"
	// Identity is what the data is called. A node is given it once.
	Identity = slotOfMarker + "identity"
	// Clients is a sorted set of the electorates that clients have here: the fingerprint,
	// with the node's time in ms until which it counts for a score.
	Clients = slotOfMarker + "clients"
)
