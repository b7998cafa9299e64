package core

import (
	"math/rand/v2"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A Core decides. It is a function of (state, input, instant): it holds no channel, no context and
// no clock, and does no IO. Each input — Acquire, AcquireAny, Cancel, Release, Extend, Inspect,
// Receive, Unsent, Hear, Tick, Close and the like — takes the present instant. It appends effects
// for callers and holders, and commands for nodes. Package perform does these: effects right after
// each input, and commands, in their order, after the effects of the last of a few inputs. So a
// holder hears that its lease is lost before any node hears the release.
type Core struct {
	settings Settings
	terms    *Terms        // of a lease that asks for no other TTL
	random   *rand.ChaCha8 // tokens, and jitter
	rand     *rand.Rand

	nodes      []peer
	all        nodeSet         // of them
	modes      [modeKinds]mode // by what a lease rests on
	toldKind   modeKind        // what this process was given
	tenures    table
	waiters    waitTable
	inquiries  map[uint64]*inquiry
	lines      map[string]*line
	byToken    map[string]*tenure // by token: those for which a key may be reserved
	held       set[*tenure]
	adopting   set[*tenure]
	waited     set[*line]               // those with waiters
	contended  map[string]clock.Instant // names that had to be waited for, by when they were given back
	callers    int                      // that wait in lines, or are to be told why they got no lease
	ready      ready
	dismissals dismissals
	alarms     alarms
	groups     groups
	spread     spread
	agreement
	changing
	reader   reader
	attempts adoptions
	lastID   uint64
	closing  bool
	bounded  bool // and Close waits no longer than nodes may take to answer
	cut      bool // nothing can be sent any more

	// These sweeps are under way, or were.
	proposing, retrying, dismissing sweep[*line]
	asking, ending                  sweep[*tenure]

	failed     *Report    // the last that a waiter of a line was told
	own        answers    // kept to be used again, see failure
	lost       *Report    // of the lease that was lost last
	causes     [2][]cause // of that, and kept to be used again
	margins    margins
	unreleased unreleased // by Close

	fetched uint64 // of no meaning, see fetch

	outbox         [][]node.Command // by node
	spareBox       []node.Command
	queued         int // in all of them, and leases of the group that is being gathered
	effects, spare []Effect
}

// New returns a core that knows nothing of its nodes yet.
func New(s Settings) *Core {
	c := &Core{
		settings:  s,
		terms:     s.Terms(s.TTL),
		random:    rand.NewChaCha8(s.Seed),
		agreement: agreement{widest: s.MaxTTL, warnedOf: make(map[foreign]bool)},
		nodes:     make([]peer, s.Nodes),
		outbox:    make([][]node.Command, s.Nodes),
		attempts:  make(adoptions),
		byToken:   make(map[string]*tenure),
		groups:    groups{fewest: 2},
		spread:    spread{most: 8, least: 4},
		contended: make(map[string]clock.Instant),
		inquiries: make(map[uint64]*inquiry),
		lines:     make(map[string]*line),
	}
	if s.Former == nil && s.Present == nil {
		c.setModes(0, all(s.Nodes))
	} else {
		c.setModes(setOf(s.Former), setOf(s.Present))
	}
	for i := range c.nodes {
		c.nodes[i].aging.limit = noLimit
	}
	c.rand = rand.New(c.random)
	return c
}

// A peer has what the core knows of one node.
type peer struct {
	state   node.State
	away    bool // the caller was told that it is not enrolled
	debts   debts
	backlog backlog

	youth        youth
	confirmed    clock.Instant // when the command was sent that its marker has confirmed last, while it was grown
	known        bool          // enough others have confirmed theirs since its present life began: see youngUntil
	twin         int           // one more than the index of the node that it is the same server as; 0 if there is none
	entry        entryAt       // ours there, and those of others
	advised      advice        // what it was told of a change since its marker was read
	disagreement Disagreement  // how the nodes of others differ, by their fingerprints there
	failures     failures

	firstReading node.State    // the earliest reading of this incarnation's clock
	ranAt        clock.Instant // when its clock was last seen to run away from ours; 0 if never
	aging        aging         // of votes, by its clock
	warned       map[WarningKind]bool

	// These sweeps are under way, or were, because of what the node said.
	heldChanges, filling      sweep[*tenure]
	waitedChanges, requeueing sweep[*line]
}

// Next returns when Tick has something to do.
func (c *Core) Next() clock.Instant { return c.alarms.next() }

// Wait returns how long the loop may sleep at the present instant.
func (c *Core) Wait(now clock.Instant) time.Duration {
	return max(0, min(c.Next().Sub(now), maxSleep))
}

const (
	// maxSleep bounds a sleep of the loop. Timers do not notice a suspension of the machine, so the
	// clock is read at least so often.
	maxSleep = time.Second

	// maxWakes and maxSends bound the work of one tick, so that the loop is never away for long.
	// The rest comes in the next tick, before which answers get a turn.
	maxWakes = 512
	maxSends = 1024
)

// Tick wakes what has become due.
func (c *Core) Tick(now clock.Instant) {
	for n := range maxWakes {
		if c.alarms.next() > now || c.queued > maxSends {
			return
		}
		if n%fetchedAtOnce == 0 {
			c.fetchDue()
		}
		c.alarms.pop().wake(c, now)
	}
}

// Receive handles a node's answers and state. If two connections reach one server, the answers over
// the second are no votes of another node. What a node says that was left meanwhile is nothing.
func (c *Core) Receive(now clock.Instant, b node.Batch) {
	if !c.all.has(b.Node) {
		return
	}
	c.onState(now, b.Node, b.State)
	twin := c.nodes[b.Node].twin != 0
	for _, r := range b.Replies {
		if twin && r.Status != node.Unsent {
			r = node.Reply{ID: r.ID, Op: r.Op, Err: FaultTwin}
		}
		c.hear(now, b.Node, r)
	}
}

// Unsent handles a command that found no room in its node's mailbox.
func (c *Core) Unsent(now clock.Instant, i int, cmd node.Command) {
	if !c.all.has(i) {
		return
	}
	c.hear(now, i, node.Reply{ID: cmd.ID, Op: cmd.Op, Status: node.Unsent, Err: FaultNoRoom})
}

// hear handles an answer of a node: to one command, or to a group.
func (c *Core) hear(now clock.Instant, i int, r node.Reply) {
	if r.Op == node.RenewAll {
		c.onGroup(now, i, r)
		return
	}
	c.onReply(now, i, r)
}

func (c *Core) onReply(now clock.Instant, i int, r node.Reply) {
	if r.Op == node.Vacate {
		r.Op = node.Release // of either sort: it keeps the lease no more
	}
	if r.Op == node.Sign {
		c.onSign(now, i, r)
		return
	}
	if r.Op == node.Advance {
		if r.Status == node.Unsent {
			c.nodes[i].advised = advice{} // it is told with the next fingerprint
		}
		return // the marker says what became of it, when it is read again
	}
	if r.Op == node.Inspect {
		if q := c.inquiries[r.ID]; q != nil {
			c.onInspect(now, q, i, r)
		} else if t := c.tenures.get(r.ID); t != nil && t.hold.isLooking(i) {
			c.onLook(now, t, i, r)
		} else if t != nil {
			c.onTracking(now, t, i, r)
		}
		return
	}
	t := c.tenures.get(r.ID)
	if t == nil {
		if r.Op == node.Release {
			c.onOwedRelease(now, i, r)
		}
		return
	}
	if r.Op != node.Release && (r.Status == node.OK || r.Status == node.Unknown) {
		t.votes.loose.add(i) // until it is known what that is worth
	}
	switch r.Op {
	case node.Enqueue:
		c.onEnqueue(now, t, i, r)
	case node.Grant, node.Claim:
		c.onGrant(now, t, i, r)
	case node.Raise:
		c.onRaise(now, t, i, r)
	case node.Renew:
		c.onRenewal(now, t, i, r)
	case node.Heal:
		c.onHeal(now, t, i, r)
	case node.Adopt:
		c.onAdopt(now, t, i, r)
	case node.Release:
		c.onRelease(now, t, i, r)
	}
}

// onState handles the state of a node.
func (c *Core) onState(now clock.Instant, i int, s node.State) {
	p := &c.nodes[i]
	was := p.state
	p.state = s
	c.onClockReading(now, i, was)
	c.agree(now, i, &was)
	c.onMarker(now, i, &was)
	if was.OffsetAt == 0 && s.OffsetAt != 0 {
		c.propose(now)
	}
	c.tellNode(i, &was)
	if c.young != 0 || c.few {
		c.tellYoung(now)
	}
	if s.Enrolled && !was.Enrolled {
		c.inspectServer(i)
		c.collect(now, i)
		c.retrySoon(now)
		c.retryAdoptions(now)
		c.fillIn(now, i)
	}
}

// tellNode appends the effect which says that a node has come or gone. If a connection ended, and
// the first attempt made another one to the same data, that is ordinary.
func (c *Core) tellNode(i int, was *node.State) {
	p := &c.nodes[i]
	s := &p.state
	down := Effect{Kind: EffectNodeDown, Node: i, Err: s.Err}
	switch {
	case !s.Enrolled && s.Err != nil && !s.Reconnecting && !p.away:
		p.away = true
		c.effects = append(c.effects, down)
	case s.Enrolled && !was.Enrolled && was.Reconnecting && s.Life == was.Life:
		c.effects = append(c.effects, Effect{Kind: EffectReconnected, Node: i, Err: was.Err})
	case s.Enrolled && !was.Enrolled:
		if was.Reconnecting {
			down.Err = was.Err
			c.effects = append(c.effects, down)
		}
		p.away = false
		c.effects = append(c.effects, Effect{Kind: EffectNodeUp, Node: i})
	}
}
