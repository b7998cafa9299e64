package script

import (
	"strconv"
	"strings"
	"sync"
)

// This file has the words that leasehold keeps for itself on a node: keys, channels, and
// what marks a value. The texts of the scripts are given keys and channels, and spell
// what marks a value themselves.

// Prefix begins every key and channel that leasehold keeps for itself.
const Prefix = "leasehold:"

// Reservation begins the value of a key that is reserved for a waiter; its token follows.
const Reservation = "?"

// Reserved returns what a lock key holds that is reserved for a token.
func Reserved(token string) string { return Reservation + token }

// LeftMark begins the value of a key that was left; what it held follows.
const LeftMark = "!"

// FenceMark stands in the value of a lock key between a token and the fence of its lease, in
// decimal, if the token itself does not tell it: a script has written the value, after the
// fence was raised, say. The texts of the scripts spell it themselves where they write.
const FenceMark = "+"

// Member is the one member of a register, a sorted set; its score is the fence.
const Member = "f"

// Registers is how many sorted sets keep the fences of all names. A register holds at least
// the fence of each of its names, so their fences grow in one order; it has no expiry. There is
// one for each slot of Redis Cluster, so that a name and its register can be in one script call
// through a proxy that spreads keys over servers. The number is the same for all clients, for
// ever: it decides where a fence is found.
const Registers = 1 << 14

// Register returns in which a name's fence is kept: that of its slot, see
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/.
func Register(name string) int {
	if _, behind, ok := strings.Cut(name, "{"); ok {
		if tag, _, closed := strings.Cut(behind, "}"); closed && tag != "" {
			name = tag
		}
	}
	return slot(name)
}

// slot returns the CRC-16 of a text, as XMODEM has it, modulo the number of slots.
func slot(text string) int {
	var crc uint16
	for i := range len(text) {
		crc = crc<<8 ^ crcs[byte(crc>>8)^text[i]]
	}
	return int(crc % Registers)
}

// crcs has the CRC-16 of each byte.
var crcs = func() (of [256]uint16) {
	for b := range of {
		crc := uint16(b) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
		of[b] = crc
	}
	return of
}()

// Name returns the lock key itself.
func Name(name string) string { return name }

// FenceKey returns the key of the register that keeps at least the highest fence known for a
// lock key.
func FenceKey(name string) string {
	at := Register(name) * lenRegister
	return registers()[at : at+lenRegister]
}

// Part returns the keys of one part of the registers, of Parts, for a client that asks all of them:
// so many that it does not take long, and so few that nobody else waits for long.
func Part(n int) (keys []string) {
	for at := n * perPart; at < (n+1)*perPart; at++ {
		keys = append(keys, registers()[at*lenRegister:(at+1)*lenRegister])
	}
	return keys
}

const (
	Parts   = 32
	perPart = Registers / Parts
)

const (
	beforeTag   = Prefix + "fence:{"
	lenRegister = len(beforeTag + "@@@@}")
)

// registers returns the keys of all registers, one after the other, made once: a grant
// allocates nothing for its own. The tag of each is the first of four letters from @ to O, of
// which four are in every slot.
var registers = sync.OnceValue(func() string {
	keys := make([]byte, Registers*lenRegister)
	for n := range 1 << 16 {
		tag := [...]byte{'@' + byte(n>>12), '@' + byte(n>>8&15), '@' + byte(n>>4&15), '@' + byte(n&15)}
		key := keys[slot(string(tag[:]))*lenRegister:][:lenRegister]
		if key[0] == 0 {
			copy(key, beforeTag)
			copy(key[len(beforeTag):], tag[:])
			key[lenRegister-1] = '}'
		}
	}
	return string(keys)
})

// QueueKey returns the key of the queue of those that wait for a lock key. The braces put it
// into the lock key's slot on a server that is a cluster.
func QueueKey(name string) string { return Prefix + "{" + name + "}:queue" }

// Waiter and Alive return the two members of one that waits.
func Waiter(inbox, token string) string { return "w" + inbox + " " + token }
func Alive(inbox, token string) string  { return "l" + inbox + " " + token }

// A Gift is what a node tells a waiter to whom a release has given the key: the waiter's token
// holds it, with that fence, for as long as a reservation lasts, and no longer than the waiter's
// heartbeat. Times are the node's, in ms.
type Gift struct {
	Token  string
	Fence  uint64
	Beat   int64  // when the heartbeat ends; it tells which one that is
	At     int64  // when it was given
	Until  int64  // when the key ends
	Marker string // the whole marker of the node that did it; "" if it has none
}

// giftVersion begins what tells a gift: no token does, so it is no reservation's message.
const giftVersion = Reservation + "1"

// Message returns what is published. An owner may have any bytes in it, so the length of the
// token comes before it. The text of the script spells it itself.
func (g *Gift) Message() string {
	return giftVersion + " " + decimal(g.Fence) + " " + strconv.FormatInt(g.Beat, 10) + " " + strconv.FormatInt(g.At, 10) + " " +
		strconv.FormatInt(g.Until, 10) + " " + strconv.Itoa(len(g.Token)) + " " + g.Token + g.Marker
}

// ReadGift reads such a message. It reports false if it is another one.
func ReadGift(message string) (g Gift, ok bool) {
	version, rest, _ := strings.Cut(message, " ")
	if version != giftVersion {
		return g, false
	}
	var n [5]int64
	for i := range n {
		var number string
		var err error
		number, rest, _ = strings.Cut(rest, " ")
		if n[i], err = strconv.ParseInt(number, 10, 64); err != nil || n[i] <= 0 || n[i] > 1<<53 {
			return g, false
		}
	}
	if n[3] > n[1] || n[4] > int64(len(rest)) {
		return g, false // nothing is given for longer than the heartbeat
	}
	return Gift{Token: rest[:n[4]], Fence: uint64(n[0]), Beat: n[1], At: n[2], Until: n[3], Marker: rest[n[4]:]}, true
}

// InboxChannel returns the channel on which nodes tell one process what they have
// reserved for it. random tells it from those of all other processes.
func InboxChannel(random string) string { return Prefix + "inbox:" + random }

// What a node keeps of itself, without expiry but for Clients, whose last entry takes it
// along.
const (
	// Marker tells which incarnation of a node's data this is, and what all clients must know
	// of it: see Mark. A marker of the first edition ends after the life.
	Marker = Prefix + "incarnation"

	// slotOfMarker begins the keys below. They are in the slot of the marker, so that one
	// script may read them all through a proxy that spreads keys over servers.
	slotOfMarker = Prefix + "{" + Marker + "}:"

	// Grown holds the life that somebody has known for the window. It is apart from the
	// marker, because every pipeline ends by comparing that, and to grow is no news for them.
	Grown = slotOfMarker + "grown"
	// Identity is what the data is called. A node is given it once, and again after it was emptied.
	Identity = slotOfMarker + "identity"
	// Clients is a sorted set of the entries of clients, which say what electorates they were
	// told: the entry, with the node's time in ms until which it counts for a score. See Sign.
	Clients = slotOfMarker + "clients"
)
