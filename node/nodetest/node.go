package nodetest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A Node is an in-memory Redis server.
type Node struct {
	name  string
	clock clock.Clock
	wg    sync.WaitGroup // the goroutines of its connections

	mu       sync.Mutex
	up       bool
	closed   bool // for good
	life     int  // how many times it has started
	born     clock.Instant
	password string
	space    keyspace.Space
	scripts  map[string]bool // SHAs that EVALSHA knows
	counts   map[string]int
	sessions map[*session]struct{}
	lastID   int64
	current  *session                     // whose command is being executed
	tracked  map[string]map[*session]bool // the sessions that are told of a change of the key

	hung    bool
	waiting []arrival // what arrived while hung
	held    []func()  // what would have been pushed then
	delay   time.Duration
	jump    time.Duration
	cuts    map[string]chan struct{} // by client; closed when it is mended
	fails   map[string]string
	replies map[string]string
	cluster bool // INFO says so
	slots   bool // one call takes only keys of one slot
}

// An arrival is one request, in the order in which they reached the node.
type arrival struct {
	from *session
	args []string
}

var made atomic.Int64

// longUp is how long a new node has been up.
const longUp = 24 * time.Hour

// New returns a running node that has been up for a day, and that leasehold has known since then. So
// supervisors acquire names on it at once; a node that was restarted or flushed is young instead. It
// holds two keys, which tell that: leasehold:incarnation and
// leasehold:{leasehold:incarnation}:grown. A node needs no Close, unless the test asks for every
// goroutine to be gone while clients are still open.
func New() *Node {
	n := &Node{
		name:     fmt.Sprintf("nodetest-%d", made.Add(1)),
		clock:    clock.Runtime(),
		counts:   make(map[string]int),
		sessions: make(map[*session]struct{}),
		cuts:     make(map[string]chan struct{}),
		tracked:  make(map[string]map[*session]bool),
		fails:    make(map[string]string),
		replies:  make(map[string]string),
	}
	// Keys expire by whole milliseconds of the node's clock. It begins with one, so that a
	// test in a bubble goes the same way every time.
	n.jump = -time.Duration(n.clock.Now()) % time.Millisecond
	n.start(false)
	n.born -= clock.Instant(longUp)
	life := fmt.Sprintf("%s/%s %d", n.id("run"), n.id("replication"), (epoch + time.Duration(n.born)).Microseconds())
	n.turn().Set(script.Marker, life+" 0", keyspace.Never)
	n.turn().Set(script.Grown, life, keyspace.Never)
	return n
}

// Start returns n new running nodes, as [New] does.
func Start(n int) []*Node {
	nodes := make([]*Node, n)
	for i := range nodes {
		nodes[i] = New()
	}
	return nodes
}

// String returns the node's name, "nodetest-1" for the first of a process.
func (n *Node) String() string { return n.name }

// start needs n.mu, or a node that nobody else knows yet.
func (n *Node) start(keep bool) {
	if n.closed {
		return
	}
	n.up = true
	n.life++
	n.born = n.now()
	n.scripts = make(map[string]bool)
	if !keep {
		n.space = keyspace.Space{}
	}
}

// id returns 40 hexadecimal digits, as Redis uses them, that are the node's own
// and of its present life.
func (n *Node) id(kind string) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s of %s, life %d", kind, n.name, n.life))
	return hex.EncodeToString(sum[:])
}

// now needs n.mu.
func (n *Node) now() clock.Instant { return n.clock.Now().Add(n.jump) }

// Crash ends the server as kill -9 does: connections break, and dials are
// refused until [Node.Restart] or [Node.Recover].
func (n *Node) Crash() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crash()
}

func (n *Node) crash() {
	n.up, n.hung, n.waiting, n.held = false, false, nil, nil
	clear(n.tracked)
	for s := range n.sessions {
		s.gone = true
		// A client that is cut off does not hear of the crash either.
		if _, cut := n.cuts[s.client]; !cut && !s.lost {
			s.conn.Close()
		}
	}
}

// Restart starts the server again, after a crash if it is running, with nothing
// in it and a new run id and replication id.
func (n *Node) Restart() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crash()
	n.start(false)
}

// Recover starts the server again, after a crash if it is running, with its keys
// and a new run id and replication id.
func (n *Node) Recover() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crash()
	n.start(true)
}

// Hang stops the server as SIGSTOP does: connections are still accepted and
// requests taken, but nothing is executed until [Node.Resume]. Answers that were
// given before are still delivered.
func (n *Node) Hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hung = n.up
}

// Resume ends [Node.Hang]: all that arrived meanwhile is executed now, in the
// order of arrival, also what came over connections that their clients have
// closed since.
func (n *Node) Resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hung = false
	waiting, held := n.waiting, n.held
	n.waiting, n.held = nil, nil
	for _, push := range held {
		push()
	}
	for _, a := range waiting {
		n.serve(a.from, a.args)
	}
}

// Delay makes every answer come d later than it would, from the next request on; 0 ends that.
// Requests are executed as they arrive.
func (n *Node) Delay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// Cut parts the node from one client, the one of [Node.ConnOf], and from no other: bytes
// vanish both ways, and a dial waits until it is given up or the cut is mended.
func (n *Node) Cut(client string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cuts[client] == nil {
		n.cuts[client] = make(chan struct{})
	}
}

// Mend ends [Node.Cut]. A connection that lost bytes in the cut stays silent for ever, because what
// followed would be out of step: the client makes another one.
func (n *Node) Mend(client string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if mended := n.cuts[client]; mended != nil {
		close(mended)
		delete(n.cuts, client)
	}
}

// Jump sets the node's clock forward by d, or back if d is negative: TIME answers so, and keys expire
// that much earlier, or later.
func (n *Node) Jump(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jump += d
}

// Fail makes the node answer reply as an error, for example "OOM command not allowed", instead
// of executing the command, until Fail is called with an empty reply. A command is
// named as in "SET", "EVALSHA" or "CLIENT SETNAME"; "*" stands for all but HELLO,
// CLIENT, INFO and TIME.
func (n *Node) Fail(command, reply string) { n.override(n.fails, command, reply) }

// EOF at the end of the bytes given to [Node.Reply] closes the connection there.
const EOF = "\x00EOF\x00"

// Reply makes the node answer the bytes of raw, which need not be RESP, instead of
// executing the command, until Reply is called with no bytes. Commands are named as
// for [Node.Fail]; if both are set for a command, Reply wins.
func (n *Node) Reply(command, raw string) { n.override(n.replies, command, raw) }

func (n *Node) override(of map[string]string, command, with string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	command = strings.ToUpper(command)
	if with == "" {
		delete(of, command)
	} else {
		of[command] = with
	}
}

// ClusterMode makes INFO say that the server is one of a cluster; false ends that. It closes no
// connection.
func (n *Node) ClusterMode(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cluster = on
}

// Slots makes the node refuse a script whose keys are in several slots, as a cluster does,
// and a proxy in front of one, which calls itself standalone; false ends that. Here each hash tag has
// a slot of its own.
func (n *Node) Slots(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slots = on
}

// RequirePass makes the node ask new connections for this password of the
// default user; an empty one ends that.
func (n *Node) RequirePass(password string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.password = password
}

// Get returns the value of a key, and how long it has left, -1 if for ever; ok is false if there is no
// such key. For a sorted set, as a fence is one, the value is the highest score. Like the other methods
// that look at the data it also works on a node that hangs or is down.
func (n *Node) Get(key string) (value string, left time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.turn()
	value, ends, ok := t.Peek(key)
	if !ok {
		return "", 0, false
	}
	if set, err := t.Members(key); err == nil {
		value = keyspace.ScoreText(set[len(set)-1].Score)
	}
	if left = -1; ends != keyspace.Never {
		left = time.Duration(t.PTTL(key)) * time.Millisecond
	}
	return value, left, true
}

// Set gives a key a value for ttl, or for ever if ttl is 0 or less.
func (n *Node) Set(key, value string, ttl time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ends := int64(keyspace.Never)
	if ttl > 0 {
		ends = (n.wall() + ttl).Milliseconds()
	}
	n.turn().Set(key, value, ends)
}

// Del deletes a key, and reports whether it was there.
func (n *Node) Del(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.turn().Del(key)
}

// Keys returns all keys, sorted.
func (n *Node) Keys() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.turn().Names()
}

// Flush deletes every key, as FLUSHALL does.
func (n *Node) Flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flushed()
}

// FlushScripts forgets every script, as SCRIPT FLUSH does.
func (n *Node) FlushScripts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.scripts)
}

// Commands returns how often each command was executed, by name, as "SET", "EVALSHA" or
// "CLIENT GETNAME". A restart does not reset it. What [Node.Fail] and [Node.Reply]
// answered is not counted.
func (n *Node) Commands() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.counts)
}

// Alive reports whether the server is running; one that hangs or is cut off is.
func (n *Node) Alive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.up
}

// Close ends the node for good, and waits for its goroutines. Connections to it break.
func (n *Node) Close() {
	n.mu.Lock()
	n.crash()
	n.closed = true
	for client, mended := range n.cuts {
		close(mended)
		delete(n.cuts, client)
	}
	for s := range n.sessions {
		s.conn.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
}
