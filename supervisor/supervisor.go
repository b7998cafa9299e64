package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// A Supervisor acquires names and keeps the leases on them. Its methods may be
// called from any goroutine. Make it with [New], and end it with Close.
type Supervisor struct {
	cfg    Config
	clock  clock.Clock
	terms  *Terms
	actors []*node.Actor
	outbox [][]node.Command // by node; empty but while perform runs

	core    Core // the loop's alone
	inbox   chan message
	replies chan node.Batch
	wakes   chan node.Wake
	stop    chan struct{} // closed to begin the end
	done    chan struct{} // closed by the loop, at its end
	kill    context.CancelFunc
	tasks   errgroup.Group // the actors
	ending  sync.Once
	told    chan Event
	telling sync.WaitGroup
	count   counters

	watchers watchers
}

// A message is something that a caller asks of the core. Handling is its one
// method, so that a message which nobody handles does not compile.
type message interface {
	apply(c *Core, now clock.Instant)
}

// acquired is what a waiter gets in the end: a lease, or why not.
type acquired struct {
	lease *lease.Lease
	id    uint64
	err   error
}

// New makes a supervisor. It does not wait for the nodes: it succeeds while they
// are down, and they join when they come up. Only a broken configuration is an
// error, which names every broken rule with its value and bound.
func New(cfg Config) (*Supervisor, error) {
	cfg, long := cfg.capped()
	cfg = cfg.withDefaults()
	if err := cfg.validate(long); err != nil {
		return nil, err
	}
	n := len(cfg.Nodes)
	var window time.Duration
	if limits := cfg.limits(); limits.guard {
		window = limits.window(cfg.MaxTTLCap)
	}
	ctx, kill := context.WithCancel(context.Background())
	s := &Supervisor{
		cfg: cfg, clock: cfg.Clock, terms: cfg.terms(cfg.TTL),
		inbox: make(chan message), replies: make(chan node.Batch), wakes: make(chan node.Wake),
		stop: make(chan struct{}), done: make(chan struct{}), kill: kill,
	}
	s.core = newCore(cfg, n, func() string { return cfg.Owner + "/" + rand.Text() },
		mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64())))
	s.outbox = make([][]node.Command, n)
	inbox := node.InboxChannel(rand.Text())
	for i, conn := range cfg.Nodes {
		s.core.nodes[i].label = conn.String()
		a := node.NewActor(node.Config{
			Index: i, Conn: conn, Clock: cfg.Clock, Timeout: cfg.NodeTimeout,
			Window: window, MaxTTL: cfg.MaxTTL, Retention: cfg.FenceRetention, Replies: s.replies,
			Inbox: inbox, Wakes: s.wakes, Reserve: cfg.reserve(), Alive: cfg.alive(),
		})
		s.actors = append(s.actors, a)
		s.tasks.Go(func() error { a.Run(ctx); return nil })
	}
	s.startTelling()
	if n%2 == 0 {
		s.tell(Event{Kind: Warning, Err: fmt.Errorf("an even number of nodes, %d, tolerates no more failures than %d", n, n-1)})
	}
	go s.run()
	return s, nil
}

// run is the supervisor's goroutine. It alone touches s.core, and the select is
// the only place where it waits: everybody may wait for the supervisor, so the
// supervisor waits for nobody.
func (s *Supervisor) run() {
	defer close(s.done)
	timer := s.clock.NewTimer(0)
	defer timer.Stop()
	stop := s.stop
	armed := clock.Never // when the timer fires, which may be earlier than it must
	// How busy it is, is told by a clock that costs half as much as the other.
	stint := clock.Runtime()
	slept := stint.Now()
	woke := slept
	wake := func() clock.Instant {
		woke = stint.Now()
		s.count.idle.Add(int64(woke.Sub(slept)))
		now := s.clock.Now()
		if now >= armed {
			armed = clock.Never // the timer sees no suspension: it is set anew, for what is due by now
		}
		return now
	}
	for !s.core.Drained() {
		if armed == clock.Never || s.core.Next() < armed {
			now := s.clock.Now()
			wait := s.core.Wait(now)
			armed = now.Add(wait)
			timer.Reset(wait)
		}
		var now clock.Instant
		select {
		case m := <-s.inbox: // unbuffered: what is accepted is handled
			now = wake()
			m.apply(&s.core, now)
			s.hear(now)
		case b := <-s.replies: // one message per pipeline, not per command
			now = wake()
			s.core.receive(now, b)
		case w := <-s.wakes:
			now = wake()
			s.core.hear(now, w)
			s.watchers.touch(w.Key)
		case <-timer.C():
			now = wake()
			armed = clock.Never
			s.core.Tick(now)
		case <-stop:
			stop = nil // a nil channel is never ready
			now = wake()
			s.core.Close(now)
		}
		s.perform(now)
		slept = stint.Now()
		s.count.worked(slept.Sub(woke))
	}
	for _, a := range s.actors {
		a.Close() // its sole sender closes
	}
	go func() { _ = s.tasks.Wait(); close(s.replies); close(s.wakes) }()
	go func() {
		for range s.wakes { // and its listener a message
		}
	}()
	for range s.replies { // an actor may still be handing over its last batch
	}
	s.kill()
	s.stopTelling()
}

// hear takes in whoever else is waiting to be heard, at the same instant: to wait in a
// select and to read the clock costs more than most messages do. An instant that is a
// little old promises less, never more. What they ask of the nodes shares pipelines; so
// where several callers wait, those that were just told something have their turn before.
func (s *Supervisor) hear(now clock.Instant) {
	yielded := false
	for range maxHeard {
		s.effects(now)
		select {
		case m := <-s.inbox:
			m.apply(&s.core, now)
		default:
			if yielded || s.core.callers < 2 {
				return
			}
			runtime.Gosched()
			yielded = true
		}
	}
}

// maxHeard is how many messages are taken in at one instant.
const maxHeard = 64

// perform does what the core has decided. None of it can wait: a send to a node
// is refused where there is no room, answers go to channels with room for one, and
// a close is a close.
func (s *Supervisor) perform(now clock.Instant) {
	c := &s.core
	for len(c.effects)+len(c.sends) > 0 {
		s.effects(now)
		for i := range c.sends {
			x := &c.sends[i]
			s.outbox[x.node] = append(s.outbox[x.node], x.cmd)
		}
		c.sends = c.sends[:0]
		for i, commands := range s.outbox {
			if len(commands) == 0 {
				continue
			}
			s.outbox[i] = commands[:0]
			for _, cmd := range s.actors[i].TrySendAll(commands) {
				c.Unsent(now, i, cmd)
			}
		}
	}
}

// effects does what concerns callers and holders.
func (s *Supervisor) effects(now clock.Instant) {
	c := &s.core
	for i := 0; i < len(c.effects); i++ { // it may grow meanwhile
		s.effect(now, c.effects[i])
	}
	clear(c.effects)
	c.effects = c.effects[:0]
}

func (s *Supervisor) effect(now clock.Instant, e Effect) {
	switch e.Kind {
	case EffectWon:
		t := e.tenure
		l, control := lease.New(lease.Spec{
			Name: e.waiter.Key, Token: t.token, Owner: ownerOf(t.token), Fence: t.fence,
			Clock: s.clock, Until: e.Until, Grace: t.terms.Grace, Keeper: keeper{s, t.id},
		})
		t.hold.lease = control
		e.waiter.result <- acquired{lease: l, id: t.id}
		s.watchers.touch(t.key)
		s.tell(Event{Kind: Acquired, Name: t.key, Fence: t.fence, Elapsed: e.Elapsed})
	case EffectFailed:
		e.waiter.result <- acquired{err: e.err}
		s.tell(Event{Kind: Failed, Name: s.cfg.Prefix + e.waiter.Key, Err: e.err})
	case EffectRenewed:
		if e.tenure.phase == phaseHeld && !e.tenure.hold.lease.Renewed(e.Until, e.tenure.terms.Grace) {
			// The holder has read the clock, and knows that it is over, or has released it.
			s.core.end(now, e.tenure, e.tenure.hold.lease.Lease().Err(), nil)
		}
	case EffectEnded:
		t := e.tenure
		t.hold.lease.End(e.err) // the holder may have been first
		kind, why := Lost, t.hold.lease.Lease().Err()
		switch why {
		case lease.ErrReleased:
			kind, why = Released, nil
		case lease.ErrHandedOver:
			kind = Released
		}
		s.tell(Event{Kind: kind, Name: t.key, Fence: t.fence, Err: why, Elapsed: now.Sub(t.begun)})
	case EffectAnswered:
		e.answer <- e.err
	case EffectInspected:
		e.asker <- inspected{e.answers, e.err}
	case EffectNodeUp:
		s.tell(Event{Kind: NodeUp, Node: s.core.nodes[e.Node].label})
	case EffectWarned:
		s.tell(Event{Kind: Warning, Node: s.core.nodes[e.Node].label, Err: e.err})
	case EffectYoung:
		s.tell(Event{Kind: Young, Err: e.err, Elapsed: e.Elapsed})
	case EffectNodeDown:
		s.tell(Event{Kind: NodeDown, Node: s.core.nodes[e.Node].label, Err: e.err})
	}
}

// post hands a message to the loop. It reports false if there is no loop any more.
// It does not wait long: the loop waits for nobody.
func (s *Supervisor) post(m message) bool {
	select {
	case s.inbox <- m:
		return true
	case <-s.done:
		return false
	}
}

// Acquire waits until name is held, or until ctx is done. ctx bounds the waiting
// only: the lease lives on until it is released or lost. The callers of one
// process are served in the order in which they came. An error is an
// [*AcquireError] that wraps ctx's error, and [ErrHeld] or [ErrNoQuorum] for what
// stood in the way, if anything did; or one that wraps [ErrClosed]; or else it is about
// the arguments. With an error nothing is held, and nothing is left behind.
//
// A lease is not re-entrant: a second Acquire of the same name waits for the
// first lease to end.
func (s *Supervisor) Acquire(ctx context.Context, name string, opts ...Option) (*lease.Lease, error) {
	w, err := s.waiter(name, opts)
	if err != nil {
		return nil, err
	}
	return s.acquire(ctx, w)
}

// TryAcquire makes one attempt to get name. It fails with [ErrHeld] if another client
// holds the name, or if this process holds it or has a caller who waits for it.
//
// It does not wait for nodes that are young, which were started or have lost their data.
// If they leave too few others, it fails with [ErrNoQuorum], and [AcquireError.Young]
// says for how long. Try again with the same supervisor after that: it finds the nodes
// grown, and writes so for all processes. A supervisor that is closed before leaves them
// young, because each counts the window on its own clock.
//
// Without a shorter ctx it takes at most: TTL/4 until the nodes' time is known (first use
// only), TTL/4 for the election, and, if refused, TTL/4 + NodeTimeout to find out who
// holds the name.
func (s *Supervisor) TryAcquire(ctx context.Context, name string, opts ...Option) (*lease.Lease, error) {
	w, err := s.waiter(name, opts)
	if err != nil {
		return nil, err
	}
	w.Attempts, w.Once = 1, true
	return s.acquire(ctx, w)
}

func (s *Supervisor) acquire(ctx context.Context, w *waiter) (*lease.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, &AcquireError{Name: s.cfg.Prefix + w.Key, Quorum: s.core.quorum, why: errNotTried, cause: err}
	}
	if !s.post(acquireMessage{w}) {
		return nil, &AcquireError{Name: s.cfg.Prefix + w.Key, Quorum: s.core.quorum, why: ErrClosed}
	}
	var r acquired
	select {
	case r = <-w.result:
	case <-ctx.Done():
		// The loop decides whether the lease or the end of the context was first;
		// either way there is one result, and it comes at once.
		s.post(cancelMessage{w, ctx.Err()})
		r = <-w.result
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := ctx.Err(); err != nil {
		// No lease is returned after its context was done. What becomes of the
		// release is the loop's business.
		if r.lease.Err() == nil {
			s.post(releaseMessage{r.id, make(chan error, 1)})
		}
		return nil, &AcquireError{Name: s.cfg.Prefix + w.Key, Quorum: s.core.quorum, why: errGivenBack, cause: err}
	}
	return r.lease, nil
}

type acquireMessage struct{ w *waiter }

func (m acquireMessage) apply(c *Core, now clock.Instant) { c.Acquire(now, m.w) }

type cancelMessage struct {
	w   *waiter
	why error
}

func (m cancelMessage) apply(c *Core, now clock.Instant) { c.Cancel(now, m.w, m.why) }

// keeper is how a lease reaches its supervisor.
type keeper struct {
	s  *Supervisor
	id uint64
}

// Release is called once, when the lease is over.
func (k keeper) Release(ctx context.Context) error {
	answer := make(chan error, 1)
	if !k.s.post(releaseMessage{k.id, answer}) {
		return nil // Close has given it back
	}
	if ctx.Err() != nil {
		// Too late to wait, but many a process ends right behind this call.
		moment := k.s.clock.NewTimer(lastMoment)
		defer moment.Stop()
		select {
		case err := <-answer:
			return err
		case <-moment.C():
		}
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		k.s.post(unwaitMessage{k.id, ctx.Err()})
		return <-answer
	}
}

// lastMoment is how long Release waits where its context is done already.
const lastMoment = 3 * time.Millisecond

type releaseMessage struct {
	id     uint64
	answer chan<- error
}

func (m releaseMessage) apply(c *Core, now clock.Instant) { c.Release(now, m.id, m.answer) }

type unwaitMessage struct {
	id  uint64
	why error
}

func (m unwaitMessage) apply(c *Core, now clock.Instant) { c.stopWaiting(now, m.id, m.why) }

// Extend renews at once, with another TTL.
func (k keeper) Extend(ctx context.Context, ttl time.Duration) error {
	terms, err := k.s.termsFor(ttl)
	if err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	answer := make(chan error, 1)
	if !k.s.post(extendMessage{k.id, terms, answer}) {
		return lease.ErrClosed
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("extend: not confirmed by a quorum: %w", ctx.Err())
	}
}

type extendMessage struct {
	id     uint64
	terms  *Terms
	answer chan<- error
}

func (m extendMessage) apply(c *Core, now clock.Instant) { c.Extend(now, m.id, m.terms, m.answer) }

type cutMessage struct{}

func (cutMessage) apply(c *Core, now clock.Instant) { c.Cut(now) }

// Close ends the supervisor: it accepts nothing more, ends every lease with
// lease.ErrClosed, tells all nodes at once, and stops every goroutine. It waits for
// the nodes until ctx is done, and then cuts the connections. Its error says which
// names may stay taken until their keys expire. Closing it again waits for the
// same end and returns the same error.
//
// Work that runs under a lease should have stopped before: others may start as
// soon as Close has told the nodes.
func (s *Supervisor) Close(ctx context.Context) error {
	s.ending.Do(func() { close(s.stop) })
	select {
	case <-s.done:
	case <-ctx.Done():
		s.kill()
		s.post(cutMessage{})
		<-s.done
	}
	s.waitTold(ctx)
	return errors.Join(s.core.unreleased...)
}
