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
	home     *lease.Home // of its leases
	terms    *core.Terms
	labels   []string // of the nodes
	quorum   int
	actors   []*node.Actor

	// Of whoever holds mu: the loop while it works, or who has entered.
	mu      sync.Mutex
	over    bool          // the loop has
	armed   clock.Instant // when the loop's timer fires, which may be earlier than it must
	core    *core.Core
	calls   calls
	givenUp []giveUp        // used again
	leases  []lease.Control // by the slots of their IDs
	refused refusal
	lost    lostFor

	results sync.Pool // of the channels of calls that were answered
	inbox   chan message
	giveUps giveUps
	replies chan node.Batch
	coming  atomic.Int32  // messages on their way to the loop
	look    chan struct{} // with room for one: has the loop look at what was decided without it
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
}

// New makes a supervisor, and starts to connect to the nodes. It does not wait for them: it succeeds
// while they are down, and they join when they come up. Only a broken configuration is an
// error, which names every broken rule with its value and bound. End the supervisor with
// [Supervisor.Close].
func New(cfg Config) (*Supervisor, error) {
	given := len(cfg.Nodes)
	cfg, long := cfg.capped()
	cfg = cfg.withDefaults()
	if err := cfg.validate(long); err != nil {
		return nil, err
	}
	settings, n := cfg.settings(), len(cfg.Nodes)
	_, _ = rand.Read(settings.Seed[:]) // it never fails
	var window time.Duration
	if settings.Guard {
		window = settings.Window(cfg.MaxTTLCap)
	}
	ctx, kill := context.WithCancelCause(context.Background())
	s := &Supervisor{
		cfg: cfg, settings: settings, clock: cfg.Clock, terms: settings.Terms(cfg.TTL),
		core:  core.New(settings),
		inbox: make(chan message), giveUps: giveUps{some: make(chan struct{}, 1)}, replies: make(chan node.Batch), wakes: make(chan node.Wake),
		stop: make(chan struct{}), done: make(chan struct{}), kill: kill,
	}
	s.home = &lease.Home{Clock: cfg.Clock, Keeper: func(id uint64) lease.Keeper { return keeper{s, id} }}
	s.mu.Lock() // actors run before all is there
	s.armed, s.look = clock.Never, make(chan struct{}, 1)
	s.busy.begin()
	s.quorum = s.core.Quorum()
	inbox := node.InboxChannel(rand.Text())
	for i, conn := range cfg.Nodes {
		s.labels = append(s.labels, conn.String())
		a := node.NewActor(node.Config{
			Index: i, Conn: conn, Clock: cfg.Clock, Timeout: cfg.NodeTimeout, Longest: cfg.TTL / 4,
			Window: window, MaxTTL: cfg.MaxTTL, Replies: s.replies,
			Inbox: inbox, Wakes: s.wakes, Reserve: settings.Reserve(), Alive: settings.Alive(),
		})
		s.actors = append(s.actors, a)
		s.tasks.Go(func() error { a.Run(ctx); return nil })
	}
	s.startTelling()
	if given == 0 {
		s.tell(Event{Kind: EventWarning, Err: fmt.Errorf("Config.Nodes is empty: %s alone is used, and nothing is acquired while it is down", defaultNode)})
	}
	if n%2 == 0 {
		s.tell(Event{Kind: EventWarning, Err: fmt.Errorf("an even number of nodes, %d, tolerates no more failures than %d", n, n-1)})
	}
	s.mu.Unlock()
	go s.run()
	return s, nil
}

// Format prints of how many nodes it is, whatever the verb, and nothing of what it holds.
func (s *Supervisor) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	fmt.Fprintf(f, "supervisor of %d nodes", len(s.labels))
}

// Acquire waits until name is held, or until ctx is done. ctx bounds the waiting
// only: the lease lives on until it is released or lost. The callers of one
// process are served in the order in which they came. A name is 1 to 512 bytes, Config.Prefix
// included.
//
// With an error nothing is held, and nothing is left behind. If ctx ended the waiting, the error is an
// [*AcquireError] that wraps ctx's error, and [ErrHeld] or [ErrNoQuorum] for what stood in the
// way, if anything did. Without the end of ctx it wraps [ErrClosed], [ErrMisconfigured] or
// [ErrFenceExhausted], with [WithAttempts] also [ErrHeld] or [ErrNoQuorum]; or it is about the
// arguments.
//
// A lease is not re-entrant: a second Acquire of the same name waits for the
// first lease to end.
func (s *Supervisor) Acquire(ctx context.Context, name string, opts ...Option) (*lease.Lease, error) {
	r, err := s.request(callAcquire, name, opts)
	if err != nil {
		return nil, err
	}
	return s.acquire(ctx, r.of(s.cfg.Prefix+name))
}

// TryAcquire makes one attempt to get name. It fails with [ErrHeld] if another client
// holds the name, or if this process holds it or has a caller who waits for it.
//
// It does not wait for nodes that are young: that were started, or have lost their data. If too few
// others are left, it fails with [ErrNoQuorum], and [AcquireError.Young] says for how long. Try again
// with the same supervisor after that: it finds the nodes grown, and notes that on the nodes for all
// processes. If it is closed before, the nodes stay young, because each supervisor counts the window
// on its own clock.
//
// Without a shorter ctx it takes at most: TTL/4 until the nodes' time is known (first use
// only; TTL/2 if they answer late or not at all), TTL/4 for the election, and, if refused, TTL/2 to
// find out who holds the name, or TTL/4 + NodeTimeout if the nodes have been quick.
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
	return s.acquireFor(ctx, r, false)
}

// acquireFor does so for a caller to whom it may be no failure, see call.quiet.
func (s *Supervisor) acquireFor(ctx context.Context, r core.Request, quiet bool) (*lease.Lease, error) {
	m := &acquireMessage{s.newCall(opAcquire), r}
	m.quiet = quiet
	return s.wait(ctx, m, &m.call, r.Key)
}

// wait waits for the lease that a message asks for. Errors are about key, if the core does not
// say of which name they are.
func (s *Supervisor) wait(ctx context.Context, m message, c *call, key string) (*lease.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, &AcquireError{Op: c.op, Name: key, Quorum: s.quorum, why: errNotTried, cause: err}
	}
	c.ctx = ctx
	if !s.post(m) {
		return nil, &AcquireError{Op: c.op, Name: key, Quorum: s.quorum, why: ErrClosed}
	}
	o := s.await(ctx, c, key)
	if o.err != nil {
		return nil, o.err
	}
	if err := ctx.Err(); err != nil {
		// No lease is returned after its context was done. What becomes of the
		// release is the loop's business.
		if o.lease.Err() == nil {
			s.post(&releaseMessage{call: s.newCall(opRelease), id: o.id, unused: true})
		}
		return nil, &AcquireError{Op: c.op, Name: s.cfg.Prefix + o.lease.Name(), Quorum: s.quorum, why: errGivenBack, cause: err}
	}
	return o.lease, nil
}

// await waits for the outcome of an acquisition or an adoption, which its context bounds.
func (s *Supervisor) await(ctx context.Context, c *call, key string) outcome {
	var o outcome
	select {
	case o = <-c.result:
	case <-ctx.Done():
		// The loop decides whether the lease or the end of the context was first;
		// either way there is one outcome.
		s.giveUps.add(c, ctx.Err())
		o = <-c.result
	}
	s.recycle(c)
	if o.err == errCut {
		o.err = &AcquireError{Op: c.op, Name: key, Quorum: s.quorum, why: ErrClosed}
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

// Close ends the supervisor: it accepts nothing more, ends every lease with
// lease.ErrClosed, tells all nodes at once, and stops every goroutine.
//
// Close waits until every name is free that a node may keep for this supervisor: of the leases that
// it ends, of releases that were not confirmed, and of acquisitions that came to nothing. It connects
// again to nodes that are down, and tells them again, until a quorum of them is free of each name or
// the keys must have expired. Then it returns nil. When ctx is done it cuts the connections and
// returns an error that wraps a [*ReleaseError] for each of up to a hundred names: which may stay
// taken, on which nodes and for how long at most. It also says how many more there are. The error
// asks nothing of the caller.
//
// A context that never ends, as context.Background(), is no reason to wait for nodes that are
// down: then Close waits for each name a quarter of its TTL, and until each node has answered or
// Config.NodeTimeout is over. Closing the supervisor again waits for the same end and returns the
// same error.
//
// Work that runs under a lease should have stopped before: others may start as
// soon as Close has told the nodes.
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
