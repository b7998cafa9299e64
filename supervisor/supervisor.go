package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A Supervisor acquires names and keeps the leases on them. Its methods may be
// called from any goroutine. Make it with [New], and end it with Close.
type Supervisor struct {
	cfg      Config
	settings core.Settings
	clock    clock.Clock
	home     *lease.Home // what its leases share
	terms    *core.Terms
	lists    atomic.Pointer[lists]       // its nodes
	addActor func(i int, conn node.Conn) // starts the next one

	// mu guards these: the loop holds it while it works, and a caller while it has entered.
	mu      sync.Mutex
	over    bool          // the loop has ended
	armed   clock.Instant // when the loop's timer fires, which may be earlier than it must
	core    *core.Core
	actors  []*node.Actor // nil for a node that was left
	calls   calls
	givenUp []giveUp        // kept to be used again
	leases  []lease.Control // by the slots of their IDs
	refused refusal
	lost    lostFor

	results sync.Pool // of the channels of calls that were answered
	inbox   chan message
	giveUps giveUps
	replies chan node.Batch
	coming  atomic.Int32  // messages on their way to the loop
	look    chan struct{} // with room for one: makes the loop look at what was decided without it
	wakes   chan node.Wake
	stop    chan struct{} // closed to begin the end
	done    chan struct{} // closed by the loop, at its end
	kill    context.CancelCauseFunc
	tasks   errgroup.Group // the actors
	ending  sync.Once
	endless bool // the context of Close never ends; written before stop is closed
	told    chan Event
	telling sync.WaitGroup
	count   counters
	busy    saturation

	watchers watchers
	tenures  tenures
}

// New makes a supervisor, and starts to connect to the nodes. It does not wait for them: it
// succeeds while they are down, and they join when they come up. It fails only if the configuration
// is broken. The error names every broken rule with its value and bound. End the supervisor with
// [Supervisor.Close].
func New(cfg Config) (*Supervisor, error) {
	given := len(cfg.Nodes) > 0
	cfg, long := cfg.capped()
	cfg = cfg.withDefaults()
	if err := cfg.validate(long); err != nil {
		return nil, err
	}
	settings, n, l := cfg.settings(), len(cfg.Nodes), newLists(cfg.Nodes, cfg.Former)
	l.set(&settings)
	_, _ = rand.Read(settings.Seed[:]) // it never fails
	var window time.Duration
	if settings.Guard {
		window = settings.Window(cfg.MaxTTLCap)
	}
	longest := cfg.MaxTTL
	if cfg.NoLeases {
		longest = time.Millisecond // less than that of any client with leases, so it raises nothing
	}
	ctx, kill := context.WithCancelCause(context.Background())
	s := &Supervisor{
		cfg: cfg, settings: settings, clock: cfg.Clock, terms: settings.Terms(cfg.TTL),
		core:  core.New(settings),
		inbox: make(chan message), giveUps: giveUps{some: make(chan struct{}, 1)}, replies: make(chan node.Batch), wakes: make(chan node.Wake),
		stop: make(chan struct{}), done: make(chan struct{}), kill: kill,
	}
	s.lists.Store(l)
	s.home = &lease.Home{Clock: cfg.Clock, Keeper: func(id uint64) lease.Keeper { return keeper{s, id} }}
	s.mu.Lock() // the actors run before everything below is set
	s.armed, s.look = clock.Never, make(chan struct{}, 1)
	s.busy.begin()
	l.quorum, l.formerQuorum = s.core.Quorum(), s.core.FormerQuorum()
	inbox := node.InboxChannel(rand.Text())
	s.addActor = func(i int, conn node.Conn) {
		a := node.NewActor(node.Config{
			Index: i, Conn: conn, Clock: cfg.Clock, Timeout: cfg.NodeTimeout, Longest: cfg.TTL / 4,
			Window: window, MaxTTL: longest, Replies: s.replies,
			Inbox: inbox, Wakes: s.wakes, Reserve: settings.Reserve(), Alive: settings.Alive(),
		})
		s.actors = append(s.actors, a)
		s.tasks.Go(func() error { a.Run(ctx); return nil })
	}
	for i, conn := range l.conns {
		s.addActor(i, conn)
	}
	s.startTelling()
	if !given {
		s.tell(Event{Kind: EventWarning, Err: fmt.Errorf("Config.Nodes is empty: only %s is used, and nothing can be acquired while it is down", defaultNode)})
	}
	if n%2 == 0 {
		s.tell(Event{Kind: EventWarning, Err: fmt.Errorf("an even number of nodes, %d, tolerates no more failures than %d", n, n-1)})
	}
	s.mu.Unlock()
	go s.run()
	return s, nil
}

// Format prints, for every verb, how many nodes the supervisor has, and nothing of what it holds.
func (s *Supervisor) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	l := s.lists.Load()
	if l == nil {
		l = new(lists) // it is the zero Supervisor
	}
	fmt.Fprintf(f, "supervisor of %v", l)
}

// Acquire waits until name is held, or until ctx is done. ctx bounds the waiting only: the lease
// lives on until it is released or lost. The callers of one process are served in order of arrival.
// A name is 1 to 512 bytes, Config.Prefix included.
//
// If Acquire returns an error it holds nothing, and leaves nothing behind. If ctx ended the
// waiting, the error is an [*AcquireError] that wraps ctx's error. It also wraps [ErrHeld] or
// [ErrNoQuorum] if one of these stood in the way. If ctx did not end, it wraps [ErrClosed],
// [ErrMisconfigured] or [ErrFenceExhausted], with [WithAttempts] also [ErrHeld] or [ErrNoQuorum];
// or it is about the arguments.
//
// A lease is not re-entrant: a second Acquire of the same name waits for the first lease to end.
func (s *Supervisor) Acquire(ctx context.Context, name string, opts ...Option) (*lease.Lease, error) {
	r, err := s.request(callAcquire, name, opts)
	if err != nil {
		return nil, err
	}
	return s.acquire(ctx, r.of(s.cfg.Prefix+name))
}

// TryAcquire makes one attempt to get name. It fails with [ErrHeld] if another client holds the
// name, or if this process holds it or has a caller that waits for it.
//
// It does not wait for young nodes, which were started or have lost their data. If too few others
// are left, it fails with [ErrNoQuorum], and [AcquireError.Young] says how long they stay young.
// Try again with the same supervisor after that. It then counts the nodes as grown, and notes that
// on the nodes for all processes. If it is closed before, the nodes stay young, because each
// supervisor counts the window on its own clock.
//
// Without a shorter ctx TryAcquire takes at most:
//
//   - TTL/4 until the nodes' time is known (first use only), or TTL/2 if they answer late or not
//     at all;
//   - TTL/4 for the election;
//   - if the name is refused, TTL/2 to find the holder, or TTL/4 + NodeTimeout if the nodes were
//     fast.
func (s *Supervisor) TryAcquire(ctx context.Context, name string, opts ...Option) (*lease.Lease, error) {
	r, err := s.request(callTryAcquire, name, opts)
	if err != nil {
		return nil, err
	}
	once := r.of(s.cfg.Prefix + name)
	once.Attempts, once.Once = 1, true
	return s.acquire(ctx, once)
}

func (s *Supervisor) acquire(ctx context.Context, r core.Request) (*lease.Lease, error) {
	m := &acquireMessage{s.newCall(opAcquire), r}
	return s.wait(ctx, m, &m.call, r.Key)
}

// wait waits for the lease that a message asks for. Its errors are about key, unless the core names
// another.
func (s *Supervisor) wait(ctx context.Context, m message, c *call, key string) (*lease.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.newError(c.op, key, errNotTried, err)
	}
	c.ctx = ctx
	if !s.post(m) {
		return nil, s.newError(c.op, key, ErrClosed, nil)
	}
	o := s.await(ctx, c, key)
	if o.err != nil {
		return nil, o.err
	}
	if err := ctx.Err(); err != nil {
		// No lease is returned after its context was done. The loop sees to the release.
		if o.lease.Err() == nil {
			s.post(&releaseMessage{call: s.newCall(opRelease), id: o.id, unused: true})
		}
		return nil, s.newError(c.op, s.cfg.Prefix+o.lease.Name(), errGivenBack, err)
	}
	return o.lease, nil
}

// await waits for the outcome of an acquisition or an adoption, until its context ends.
func (s *Supervisor) await(ctx context.Context, c *call, key string) outcome {
	var o outcome
	select {
	case o = <-c.result:
	case <-ctx.Done():
		// The loop decides which came first, the lease or the end of the context. Either way there
		// is one outcome.
		s.giveUps.add(c, ctx.Err())
		o = <-c.result
	}
	s.recycle(c)
	if o.err == errCut {
		o.err = s.newError(c.op, key, ErrClosed, nil)
	}
	return o
}

type acquireMessage struct {
	call
	request core.Request
}

func (m *acquireMessage) apply(s *Supervisor, now clock.Instant) {
	m.request.Call = s.calls.add(&m.call, now)
	s.core.Acquire(now, m.request)
}

type cutMessage struct{}

func (cutMessage) apply(s *Supervisor, now clock.Instant) { s.core.Cut(now) }

// Close ends the supervisor: it accepts nothing more, ends every lease with lease.ErrClosed, tells
// all nodes at once, and stops every goroutine.
//
// Close waits until every name is free that a node may keep for this supervisor. Such names are
// those of the leases that it ends, of releases that were not confirmed, and of acquisitions that
// failed. It connects again to nodes that are down, and tells them again, until a quorum of them is
// free of each name or the keys must have expired. Then it returns nil. When ctx is done it cuts
// the connections and returns an error that wraps a [*ReleaseError] for each of up to a hundred
// names. Each says which name may stay taken, on which nodes and for how long at most. The error
// also says how many more there are. It asks nothing of the caller.
//
// A context that never ends, as context.Background(), is no reason to wait for nodes that are down.
// Then Close waits for each name a quarter of its TTL, and until each node has answered or
// Config.NodeTimeout is over. A second Close waits for the same end and returns the same error.
//
// Stop the work that runs under a lease before: others may start as soon as Close has told the
// nodes.
func (s *Supervisor) Close(ctx context.Context) error {
	if s.done == nil {
		return nil // it is the zero Supervisor
	}
	s.ending.Do(func() {
		s.endless = ctx.Done() == nil
		close(s.stop)
	})
	select {
	case <-s.done:
	case <-ctx.Done():
		s.kill(errNoTime)
		s.post(cutMessage{})
		<-s.done
	}
	s.waitTold(ctx)
	var unreleased []error
	for _, r := range s.core.Unreleased() {
		unreleased = append(unreleased, s.unconfirmed(r, nil))
	}
	if more := s.core.UnreleasedInAll() - len(unreleased); more > 0 {
		unreleased = append(unreleased, fmt.Errorf("%d more names may stay taken", more))
	}
	return errors.Join(unreleased...)
}
