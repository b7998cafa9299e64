package supervisor

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// The core decides. It is a function of (state, input, instant): it holds no
// channel, no context and no clock, and does no IO. Each input — acquire, cancel,
// release, extend, look, replies, unsent, woken, tick, close — takes the present instant
// and appends to sends and effects what is to be done. Its caller performs the effects
// before the next input, and sends, in their order, behind the effects of the last of a
// few inputs: so a holder hears that its lease is lost before any node hears the release.
type Core struct {
	terms  Terms // of a lease that asks for no other TTL
	limits limits
	token  func() string // fresh for each attempt
	rand   *rand.Rand    // jitter

	nodes     []peer
	quorum    int
	tenures   table
	inquiries map[uint64]*inquiry
	lines     map[string]*line
	standing  map[string]*tenure // by token: those that may be reserved for
	held      set[*tenure]
	adopting  set[*tenure]
	waited    set[*line]               // those that somebody waits in
	contended map[string]clock.Instant // names that had to be waited for, by when they were given back
	callers   int                      // who wait
	alarms    alarms
	agreement
	attempts adoptions
	lastID   uint64
	closing  bool
	cut      bool // nothing can be sent any more

	// Walks that are under way, or were.
	proposing, retrying sweep[*line]
	asking, ending      sweep[*tenure]

	unreleased []error // by close: what a quorum is not known to be free of

	sends   []send
	effects []Effect
}

// newCore returns a core for n nodes. token returns a fresh one for each attempt.
func newCore(cfg Config, n int, token func() string, r *rand.Rand) Core {
	return Core{
		terms:     *cfg.terms(cfg.TTL),
		limits:    cfg.limits(),
		agreement: agreement{widest: cfg.MaxTTL},
		token:     token,
		rand:      r,
		nodes:     make([]peer, n),
		quorum:    n/2 + 1,
		attempts:  make(adoptions),
		standing:  make(map[string]*tenure),
		contended: make(map[string]clock.Instant),
		inquiries: make(map[uint64]*inquiry),
		lines:     make(map[string]*line),
	}
}

// limits are the settings that do not depend on a lease's TTL.
type limits struct {
	prefix             string
	nodeTimeout        time.Duration
	retryMin, retryMax time.Duration

	guard       bool
	guardWindow time.Duration // for how long a node that forgot is young at least
	maxTTL      time.Duration // our own
	maxTTLCap   time.Duration // of all clients
	drift       time.Duration // the configured one; 0 for that of each TTL
	reserve     time.Duration // how long a node keeps a name for the first in its queue
	heartbeat   time.Duration // about how often a waiter in a queue asks again
}

// terms are the times of a lease, all derived from its TTL. Leases of the same
// TTL share one.
type Terms struct {
	TTL, Drift, Grace, RenewEvery time.Duration
	Window                        time.Duration // an election takes at most so long
}

// A peer is what the core knows of one node.
type peer struct {
	label   string
	state   node.State
	debts   debts
	backlog backlog

	youth     youth
	confirmed clock.Instant // when what its marker has confirmed last was sent, while it was grown
	known     bool          // enough others have confirmed theirs since its present life began: see youngUntil
	twin      int           // one more than the index of the node that it is the same server as; 0 if there is none
	foreign   map[string]sighting
	disagrees string // how the nodes of others differ, by what they have left there; "" if they do not

	firstReading node.State    // the earliest reading of this incarnation's clock
	ranAt        clock.Instant // when its clock was last seen to run away from ours; 0 if never
	warned       map[string]bool

	// Walks that are under way, or were, because of what it said.
	heldChanges, filling      sweep[*tenure]
	waitedChanges, requeueing sweep[*line]
}

// A send is a command for one node.
type send struct {
	node int
	cmd  node.Command
}

// An effect is something to be done for a caller or a holder.
type Effect struct {
	Kind    EffectKind
	waiter  *waiter          // won, failed
	tenure  *tenure          // won, renewed, ended
	Until   clock.Instant    // renewed: when the lease will be lost
	err     error            // failed, ended, answered, looked
	answer  chan<- error     // answered: for Release and Extend
	asker   chan<- inspected // looked
	answers answers          // looked
	Elapsed time.Duration    // won, and answered for Release: how long it took
	Node    int              // nodeUp, nodeDown, warned
}

type EffectKind uint8

const (
	EffectWon       EffectKind = iota // hand the tenure's new lease to the waiter
	EffectFailed                      // hand the error to the waiter
	EffectRenewed                     // the lease will be lost at until
	EffectEnded                       // the lease is over, because of err
	EffectAnswered                    // hand err to whoever asked
	EffectInspected                   // hand the nodes' answers, or err, to whoever asked
	EffectNodeUp                      // a node was enrolled
	EffectNodeDown                    // an enrolment has ended, because of err
	EffectWarned                      // err is something that is not as it should be
	EffectYoung                       // too few nodes are grown for a while, as err says
)

// phase is where a tenure stands. It only moves forward.
type phase uint8

const (
	phaseWaiting   phase = iota // the nodes' time is not known yet: nothing was sent
	phaseQueued                 // it stands in the nodes' queues
	phaseElecting               // grants or claims are out
	phaseRaising                // q nodes granted; a higher fence is being stored on them
	phaseAdopting               // renewals are out for a lease that is to be continued
	phaseHeld                   // a quorum granted it
	phaseReleasing              // it is over; releases are out
)

// A tenure is one attempt to hold a name, and, if it is won, the holding of it, up
// to the last answer to its release.
type tenure struct {
	alarm
	id       uint64
	inSet    int32 // in the bag of its phase
	phase    phase
	inQueues bool // its token stands, or stood, in the nodes' queues: see stand
	behind   bool // and somebody else had the name, or was before it
	hold     hold

	asked   nodeSet // nodes that may have the key: not those that certainly never got a command
	pending nodeSet // a command other than a release is unanswered
	key     string  // the name, prefix included
	token   string
	terms   *Terms
	fence   uint64
	begun   clock.Instant // when its grants were queued
	votes   []vote        // by node
	line    *line

	withdrawn nodeSet // nodes that said they do not keep it any more
	taken     nodeSet // those of them that keep another value
	probation nodeSet // nodes that had it no longer, or never, and were healed or will be
	sent      nodeSet // nodes that may have got a command
	askAgain  nodeSet // nodes to be asked once more as soon as they have answered

	stand  *standing // from when it stands in the queue
	ballot *ballot   // while it is an election
	adopt  *adoption // while it is being adopted
	give   *giving   // while it is given back
}

func (t *tenure) slot() *int32 { return &t.inSet }

// newID returns an ID that was never used before, for the given place in the roster.
func (c *Core) newID(place uint64) uint64 {
	c.lastID = (c.lastID>>slotBits+1)<<slotBits | place
	return c.lastID
}

func (c *Core) send(i int, cmd node.Command) { c.sends = append(c.sends, send{i, cmd}) }

// next returns when tick has something to do.
func (c *Core) Next() clock.Instant { return c.alarms.next() }

// wait returns how long the loop may sleep at the present instant.
func (c *Core) Wait(now clock.Instant) time.Duration {
	return max(0, min(c.Next().Sub(now), maxSleep))
}

const (
	// maxSleep bounds a sleep of the loop: timers do not see a suspension of the
	// machine, so the clock is read at least so often.
	maxSleep = time.Second

	// maxWakes and maxSends bound the work of one tick, so that the loop is never away
	// for long. What is left comes next, before which answers get a turn.
	maxWakes = 256
	maxSends = 1024
)

// tick wakes what has become due.
func (c *Core) Tick(now clock.Instant) {
	for range maxWakes {
		if c.alarms.next() > now || len(c.sends) > maxSends {
			return
		}
		c.alarms.pop().wake(c, now)
	}
}

// replies takes in what a node answered. What a second connection to one server says
// is no vote of another one.
func (c *Core) receive(now clock.Instant, b node.Batch) {
	c.onState(now, b.Node, b.State)
	twin := c.nodes[b.Node].twin != 0
	for _, r := range b.Replies {
		if twin && r.Status != node.Unsent {
			r = node.Reply{ID: r.ID, Op: r.Op, Err: c.misconfigured()}
		}
		c.onReply(now, b.Node, r)
	}
}

// unsent takes in that a command found no room in its node's mailbox.
func (c *Core) Unsent(now clock.Instant, i int, cmd node.Command) {
	c.onReply(now, i, node.Reply{ID: cmd.ID, Op: cmd.Op, Status: node.Unsent, Err: errNoRoom})
}

func (c *Core) onReply(now clock.Instant, i int, r node.Reply) {
	if r.Op == node.Sign {
		c.onSign(now, i, r)
		return
	}
	if r.Op == node.Inspect {
		if l := c.inquiries[r.ID]; l != nil {
			c.onInspect(now, l, i, r)
		} else if t := c.tenures.get(r.ID); t != nil {
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

// stateOf takes in how a node is.
func (c *Core) onState(now clock.Instant, i int, s node.State) {
	p := &c.nodes[i]
	was := p.state
	p.state = s
	c.onClockReading(now, i, was)
	c.agree(now, i, &was)
	if was.OffsetAt == 0 && s.OffsetAt != 0 {
		c.propose(now)
	}
	if s.Enrolled && !was.Enrolled {
		c.effects = append(c.effects, Effect{Kind: EffectNodeUp, Node: i})
		c.inspectServer(i)
		c.collect(now, i)
		c.retrySoon(now)
		c.retryAdoptions(now)
		c.fillIn(now, i)
	}
	if !s.Enrolled && s.Err != nil && (was.Enrolled || was.Err == nil) {
		c.effects = append(c.effects, Effect{Kind: EffectNodeDown, Node: i, err: s.Err})
	}
}

// close accepts nothing more and ends everything: very many leases a piece at a time.
func (c *Core) Close(now clock.Instant) {
	c.closing = true
	for len(c.waited) > 0 {
		l := c.waited[len(c.waited)-1]
		c.dismiss(now, l, c.failure(l, ErrClosed))
	}
	c.endAll(now, clock.Never, lease.ErrClosed)
	for len(c.adopting) > 0 {
		c.failAdoption(c.adopting[len(c.adopting)-1], ErrClosed, nil)
	}
	for _, t := range c.tenures.slots {
		if t != nil {
			c.releaseNow(now, t)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.inquiries)) {
		c.closeInquiry(c.inquiries[id], ErrClosed)
	}
}

// dismiss tells everybody who waits in a line that there is no lease, and why.
func (c *Core) dismiss(now clock.Instant, l *line, why error) {
	if l.attempt != nil {
		c.abandon(now, l.attempt)
	}
	if l.inquiry != nil {
		delete(c.inquiries, l.inquiry.id)
		l.inquiry = nil
	}
	for len(l.waiters) > 0 {
		c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: l.waiters[0], err: why})
		c.removeWaiter(l, 0)
	}
	c.forgetIdle(l.key, l)
}

// endAll ends every lease that began before an instant. The loop does what it has decided
// between two pieces: holders need not wait until the last of very many is ended.
func (c *Core) endAll(now, before clock.Instant, why error) {
	c.alarms.clear(&c.ending) // this one ends what an earlier one had left
	c.ending = sweep[*tenure]{hasty: true}
	c.ending.begin(c, now, &c.held, func(now clock.Instant, t *tenure) {
		if t.begun < before {
			c.end(now, t, why, nil)
		}
	})
}

// drained reports whether nothing is left to wait for after close.
func (c *Core) Drained() bool { return c.closing && c.tenures.len() == 0 }
