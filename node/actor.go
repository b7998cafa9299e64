package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

const (
	maxPipeline = 512              // commands that fill a pipeline
	probeAfter  = 10 * time.Second // of silence, and the age at which an Offset is measured again
	firstPause  = 20 * time.Millisecond
	lastPause   = 250 * time.Millisecond // between two attempts to enrol
	neededFor   = 2 * time.Second        // after it was lost, and was needed: for so long the pauses are short
	refusedFor  = 8 * time.Second        // between two of those that the server refuses for good
	grownAfter  = time.Hour              // and the window: a life that began so long ago is grown
)

// Config configures an [Actor].
type Config struct {
	Index     int           // of the node in the deployment; comes back in every Batch
	Conn      Conn          //
	Clock     clock.Clock   // default clock.System
	Timeout   time.Duration // of one pipeline, and of each step of connecting; default 500ms
	Window    time.Duration // 0 turns the guard off; else the longest for which a server that forgot is young, see State.Age
	MaxTTL    time.Duration // whole milliseconds; the marker is raised to it, see State.MaxTTL
	Retention time.Duration // how long a node keeps the fence of a name that is not used; default 1h
	Mailbox   int           // room for commands; default 8192
	Replies   chan<- Batch  // must be received from until Run has returned

	Wakes chan<- Wake // news of the node; nil if nobody wants them; must be received from until Run has returned

	// Of those who wait, see Enqueue.
	Inbox   string        // the channel on which reservations are told to this process, without spaces; "" if it never waits
	Reserve time.Duration // how long a reservation lasts; default 3*Timeout
	Alive   time.Duration // for how long an Enqueue keeps its place; default 4*Reserve
}

// An Actor does what is asked of one node, over a connection that it makes,
// watches and replaces by itself. Commands are sent in the order in which they
// were taken. While one pipeline is under way the next one gathers in the mailbox,
// so pipelines grow exactly as fast as the node is slow.
type Actor struct {
	Config
	mailbox mailbox

	// Of the goroutine of Run alone.
	session  *session // nil while there is none
	attempt  chan enrolment
	holdBack bool // commands wait for the attempt that is under way
	timer    clock.Timer
	pause    *backoff.ExponentialBackOff
	refused  *backoff.ExponentialBackOff // instead of pause, after a refusal for good
	refusal  bool                        // that was the outcome of the latest attempt
	answered bool                        // the server is there, and has said no to it
	tried    clock.Instant               // when that ended
	needed   clock.Instant               // when a lease was last to be kept or given back without a connection
	lostAt   clock.Instant               // when the latest connection was
	state    State
	run      identity      // the latest that was told
	trip     time.Duration // in which State.Offset was measured
	known    string        // the identity of this node's data, or what it is to be
	grown    bool          // this Life is, if it is guarded
	queued   []Command
	pipe     pipeline
	loaded   [lastOp + 1]bool
	used     clock.Instant // when the latest pipeline was sent
	lender   lender
	tasks    sync.WaitGroup

	callouts callouts

	// The inbox.
	waits     bool          // something has waited: from now on it is listened to
	listening chan struct{} // closed when the latest listener has ended; nil before the first
	heard     chan error    // what becomes State.NoInbox
	inboxes   lender
}

type enrolment struct {
	session *session // nil if it failed
	id      identity
	err     error
	refusal bool // for good

	answered bool // the server is there, and has said no
}

// NewActor returns an actor. It does nothing before [Actor.Run].
func NewActor(c Config) *Actor {
	if c.Clock == nil {
		c.Clock = clock.System()
	}
	if c.Timeout <= 0 {
		c.Timeout = 500 * time.Millisecond
	}
	if c.Retention <= 0 {
		c.Retention = time.Hour
	}
	if c.Mailbox <= 0 {
		c.Mailbox = 8192
	}
	if c.Reserve <= 0 {
		c.Reserve = 3 * c.Timeout
	}
	if c.Alive <= 0 {
		c.Alive = 4 * c.Reserve
	}
	return &Actor{
		Config:  c,
		mailbox: newMailbox(c.Mailbox),
		pause:   newPause(lastPause),
		refused: newPause(refusedFor),
		known:   newIdentity(),
		lender:  lender{client: c.Conn.client},
		heard:   make(chan error),
		inboxes: lender{client: c.Conn.client},
		pipe: pipeline{
			retention: script.InMillis(c.Retention + c.Retention/8),
			renewal:   c.Retention / 8,
			retained:  map[string]retained{},
			inbox:     c.Inbox,
			reserve:   script.InMillis(c.Reserve),
			alive:     script.InMillis(c.Alive),
			names:     map[string]struct{}{},
		},
	}
}

// newPause returns the pauses between attempts, of at most last.
func newPause(last time.Duration) *backoff.ExponentialBackOff {
	// A jitter of a half either way is on top of the interval.
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*firstPause),
		backoff.WithMaxInterval(last*2/3), backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
}

// TrySend hands over a command, or returns false if there is no room for it; then
// nothing was sent and no reply will come. It never blocks. What asks for a name may
// fill only half the room, so that leases which are held can still be renewed and
// released. After the context of Run is done there is no room. TrySend, TrySendAll and Close are
// for one goroutine.
func (a *Actor) TrySend(c Command) bool { return len(a.mailbox.put(c)) == 0 }

// TrySendAll hands over many commands at once, in their order, and returns those for
// which there is no room: see [Actor.TrySend]. It keeps nothing of what it is given.
func (a *Actor) TrySendAll(commands []Command) (refused []Command) {
	return a.mailbox.put(commands...)
}

// Close lets Run return once it has answered what was taken. It must be called
// once, and no TrySend after it.
func (a *Actor) Close() { close(a.mailbox.batches) }

// Run connects to the node and answers commands, each one exactly once, until
// Close was called and nothing is left. If ctx is done before, Run cuts the
// connection at once and answers what is left without sending it. It blocks while
// nobody receives from Replies. It leaves no goroutine behind, except where a
// user's own client or dialer does not return, and for a few milliseconds one of
// the client library that looks for a Sentinel.
func (a *Actor) Run(ctx context.Context) {
	a.timer = a.Clock.NewTimer(probeAfter)
	defer a.timer.Stop()
	defer a.inboxes.giveBack()
	defer a.tasks.Wait()
	defer a.disconnect()
	// The attempts end with Run, however it returns.
	attempts, cancel := context.WithCancelCause(ctx)
	defer cancel(errEnded)

	a.try(attempts, true)
	for ctx.Err() == nil {
		batches := a.mailbox.batches
		var lost <-chan struct{}
		switch {
		case a.session != nil && a.session.isLost():
			a.lose(attempts, nil)
			continue
		case a.session != nil && len(a.pipe.rest) > 0:
			a.handle(attempts, a.goOn())
			continue
		case a.session != nil:
			lost = a.session.lost
		case a.holdBack:
			batches = nil
		}
		select {
		case batch, ok := <-batches:
			if !ok {
				return
			}
			a.handle(attempts, a.drain(batch))
		case e := <-a.attempt:
			a.enrolled(e)
		case err := <-a.heard:
			if fmt.Sprint(err) != fmt.Sprint(a.state.NoInbox) {
				a.state.NoInbox = err
				a.tell()
			}
		case <-lost: // dealt with above
		case <-a.timer.C():
			switch {
			case a.session == nil && a.attempt == nil:
				a.try(attempts, false)
			case a.session != nil:
				a.probe(attempts)
			}
		case <-ctx.Done():
		}
	}
	a.refuseRest(context.Cause(ctx))
}

// refuseRest answers what is left in the mailbox without sending it.
func (a *Actor) refuseRest(why error) {
	a.mailbox.stop()
	for {
		select {
		case batch, ok := <-a.mailbox.batches:
			if !ok {
				return
			}
			a.refuse(a.drain(batch), why)
		default:
			return
		}
	}
}

// disconnect gives up the connection, and the attempt to make one.
func (a *Actor) disconnect() {
	if a.session != nil {
		a.session.end()
	}
	if a.attempt != nil {
		// It was cancelled: disconnect is deferred before that, but runs later.
		if e := <-a.attempt; e.session != nil {
			e.session.end()
		}
	}
	a.lender.giveBack()
}

// drain takes a batch and whatever else is waiting, until that fills a pipeline.
func (a *Actor) drain(batch []Command) []Command {
	a.queued = a.mailbox.take(a.queued[:0], batch)
	return a.queued
}

// goOn returns what hands over the names of which the latest pipeline has met only dead
// waiters, and whatever is waiting. By a release, of a token that nobody has: it does no
// more than that, and only while the key is absent. If it does not get through, the next
// heartbeat of a waiter goes on.
func (a *Actor) goOn() []Command {
	a.queued = a.queued[:0]
	for _, name := range a.pipe.rest {
		a.queued = append(a.queued, Command{Op: Release, Name: name, Token: a.session.nonce, By: clock.Never, own: true})
	}
	a.pipe.rest = a.pipe.rest[:0]
	select {
	case batch, ok := <-a.mailbox.batches:
		if ok {
			a.queued = a.mailbox.take(a.queued, batch)
		}
	default:
	}
	return a.queued
}

// handle answers the commands, by one pipeline if there is a connection.
func (a *Actor) handle(ctx context.Context, commands []Command) {
	if !a.waits && slices.ContainsFunc(commands, func(c Command) bool { return c.Op == Enqueue }) {
		a.waits = true
		a.listen()
	}
	if a.session != nil && a.session.isLost() {
		a.lose(ctx, nil)
	}
	if a.session == nil {
		now := a.Clock.Now()
		a.need(commands, now)
		switch pause := now.Sub(a.tried); {
		case a.attempt != nil:
		case a.refusal && pause >= lastPause, !a.answered && a.isNeeded(now) && pause >= firstPause:
			a.try(ctx, false) // somebody waits, and the server may have been mended
		case !a.answered && a.isNeeded(now):
			a.timer.Reset(firstPause - pause)
		}
		a.refuse(commands, a.state.Err)
		return
	}
	now := a.Clock.Now()
	a.pipe.accept(commands, now)
	a.guard()
	var over error
	if len(a.pipe.live) > 0 {
		over = a.exchange(now, false)
	}
	if over != nil {
		a.need(commands, now)
		a.lose(ctx, over)
		return
	}
	a.tell()
}

// need notes that commands which get no answer are to keep a lease or give it back.
func (a *Actor) need(commands []Command, now clock.Instant) {
	if slices.ContainsFunc(commands, func(c Command) bool { return c.Op == Renew || c.Op == Release }) {
		a.needed = now
	}
}

// guard takes out what this incarnation must not be asked: a grant or a claim while it
// is young, and what was meant for another. A young node hands nothing over
// either: a reservation would stand in the way of the heal of what it forgot.
func (a *Actor) guard() {
	p := &a.pipe
	for _, i := range p.live {
		if c := &p.commands[i]; c.Op == Sign && c.Grown && c.Life == a.state.Life {
			// It is so, whatever becomes of writing it down.
			a.grown, a.state.Grown = true, true
		}
	}
	young := !a.state.Grown
	p.young, p.tracks, p.life = young, a.state.Tracks, a.session.life
	wanted := p.live[:0]
	for _, i := range p.live {
		switch c := &p.commands[i]; {
		case (c.Op == Grant || c.Op == Claim) && young:
			p.unsent(i, errYoung)
		case (c.Op == Heal || c.Op == Sign && c.Grown) && c.Life != a.state.Life:
			p.unsent(i, errOtherLife)
		default:
			wanted = append(wanted, i)
		}
	}
	p.live = wanted
}

// probe notices a dead connection and measures the Offset again, if there was
// nothing to send for a while.
func (a *Actor) probe(ctx context.Context) {
	now := a.Clock.Now()
	if idle := now.Sub(a.used); idle < probeAfter {
		a.timer.Reset(probeAfter - idle)
		return
	}
	a.timer.Reset(probeAfter)
	a.pipe.accept(nil, 0)
	if over := a.exchange(now, true); over != nil {
		a.lose(ctx, over)
		return
	}
	a.tell()
}

// exchange sends the live commands of the pipeline and reads the answers into its
// replies. An error means that the enrolment is over. Calls whose script the node
// had lost are sent once more, within the same timeout, and so after all the others; and
// so are those that had too many names for it, a name each.
// now was read a moment ago: reading it costs as much as much else here.
func (a *Actor) exchange(now clock.Instant, withTime bool) error {
	s := a.session
	p := &a.pipe
	a.used = now
	s.start(a.used)
	defer s.stop()

	withTime = withTime || a.used.Sub(a.state.OffsetAt) >= probeAfter
	over := a.roundTrip(withTime, false, a.used)
	if over != nil {
		p.fail(Unsent, over) // live are only those which the node has refused to run
		return over
	}
	if len(p.live) == 0 {
		return nil
	}
	now = a.Clock.Now()
	wanted := p.live[:0]
	for _, i := range p.live {
		switch {
		case now > p.commands[i].By:
			p.unsent(i, errStale)
		case givenUp(p.commands[i], p.commands[i+1:]):
			p.unsent(i, errGivenUp)
		default:
			wanted = append(wanted, i)
		}
	}
	if p.live = wanted; len(wanted) == 0 {
		return nil
	}
	return a.roundTrip(false, true, now)
}

var errGivenUp = errors.New("not resent: already undone by a later command")

// givenUp reports whether a later command undoes what c would leave on the node. That
// may have been done already, and would not be done again.
func givenUp(c Command, later []Command) bool {
	if c.Op != Claim && c.Op != Heal && c.Op != Enqueue && c.Op != Adopt {
		return false
	}
	for i := range later {
		l := &later[i]
		if (l.Op == Release || l.Op == Leave && c.Op == Enqueue) && l.Token == c.Token && l.Name == c.Name {
			return true
		}
	}
	return false
}

// roundTrip sends one pipeline and reads its answers.
func (a *Actor) roundTrip(withTime, eval bool, sent clock.Instant) error {
	s, p := a.session, &a.pipe
	p.sent, p.single = sent, s.single
	p.build(s.client.B(), withTime, eval, s.marker != "", &a.loaded)
	rs := s.client.DoMulti(s.ctx, p.multi...)
	back := a.Clock.Now()

	// The library has recycled the commands that were answered, and may still be
	// reading the slice if one was not: then it is not used again.
	if rs[len(rs)-1].NonRedisError() != nil {
		p.multi = nil
	}
	if status, over := a.disbelieve(rs, sent); over != nil {
		p.fail(status, over)
		p.live = p.live[:0]
		return over
	}
	if withTime {
		if t, err := nodeTime(rs[1].ToArray()); err == nil {
			a.measured(t, sent, back)
		}
	}
	t, over := p.read(rs, s, eval)
	if t != 0 {
		a.measured(t, sent, back)
	}
	if over == nil {
		s.proved = true
		a.pause.Reset()
		a.refused.Reset()
		a.state.Latency = back.Sub(sent)
		a.state.RoundTrips++
		a.state.RoundTripTime += back.Sub(sent)
	}
	return over
}

// disbelieve returns why no answer of a round trip counts, if so, and what is known of the
// commands then: another connection answered, or the server has forgotten something, or
// one answer too many has shifted the others.
func (a *Actor) disbelieve(rs []rueidis.RedisResult, sent clock.Instant) (Status, error) {
	s := a.session
	name, err := rs[0].ToString()
	if err != nil || name != s.nonce {
		switch {
		case err == nil || rueidis.IsRedisNil(err):
			return Unknown, errStranger
		case errors.Is(err, errSealed): // the library would have had to dial
			return Unsent, s.why(plain(err, "CLIENT GETNAME"))
		}
		return Unknown, s.why(plain(err, "CLIENT GETNAME"))
	}
	last, want := errShifted, s.nonce
	if s.marker != "" {
		last, want = errForgot, s.marker
	}
	if got, err := rs[len(rs)-1].ToString(); err != nil || got != want {
		if s.marker != "" && strings.HasPrefix(got, s.life+" ") {
			last = errRaised
		}
		// Whatever it answered, it may have forgotten before that or after it, or have
		// answered something else.
		if err != nil && !rueidis.IsRedisNil(err) {
			last = s.why(err)
		}
		return Unknown, last
	}
	if s.marker != "" {
		a.state.MarkedAt = sent
	}
	return OK, nil
}

// measured takes in a node's time. It may be from the beginning of the round trip or from
// its end: so a slow answer does not replace what a quicker one has told lately, as fences
// that are proposed by it would go to and fro. But if the two cannot both be right, one
// of the clocks has moved, as in a pause that ours did not see.
func (a *Actor) measured(nodeTime time.Duration, sent, back clock.Instant) {
	a.state.Time, a.state.TimeSent, a.state.TimeBack = nodeTime, sent, back
	trip := back.Sub(sent)
	middle := sent.Add(trip / 2)
	offset := nodeTime - time.Duration(middle)
	s := &a.state
	moved := (offset - s.Offset).Abs() > (trip+a.trip)/2
	if s.OffsetAt == 0 || trip <= a.trip || moved || sent.Sub(s.OffsetAt) >= probeAfter/2 {
		s.Offset, s.OffsetAt, a.trip = offset, middle, trip
	}
}

// refuse answers commands that are not sent.
func (a *Actor) refuse(commands []Command, err error) {
	a.pipe.accept(commands, 0)
	a.pipe.fail(Unsent, err)
	a.tell()
}

// tell hands over the replies of the pipeline, if any, and the state.
func (a *Actor) tell() {
	b := Batch{Node: a.Index, Replies: a.pipe.replies[a.pipe.own:], State: a.state}
	a.pipe.replies, a.pipe.own = nil, 0
	clear(a.pipe.multi) // the library has these back, and its pools are collected
	a.Replies <- b
}

// try starts an attempt to enrol. Commands wait for it if holdBack is set.
func (a *Actor) try(ctx context.Context, holdBack bool) {
	a.holdBack = holdBack
	a.attempt = make(chan enrolment, 1)
	s := newSession(ctx, a.Clock, a.Timeout, &a.callouts)
	if a.Wakes != nil && a.Conn.client == nil {
		s.changed = newChangedKeys()
	}
	a.tasks.Go(s.watchdog)
	known := a.known
	go func(done chan<- enrolment) {
		s.start(a.Clock.Now())
		err := s.connect(a.Conn, a.lender.lend)
		var id identity
		if err == nil {
			id, err = s.enrol(a.Window > 0, a.MaxTTL, known)
		}
		s.stop()
		refusal, answered := isRefusal(err), errors.As(err, new(*rueidis.RedisError))
		if err != nil {
			err = s.why(err)
			s.end()
			s = nil
		}
		done <- enrolment{s, id, err, refusal, answered}
	}(a.attempt)
}

// isNeeded reports whether a connection that was lost a moment ago is missed by a lease that is
// to be kept or given back. To one that stays away, so many attempts of each process would be a
// load.
func (a *Actor) isNeeded(now clock.Instant) bool {
	return a.needed != 0 && now.Sub(a.needed) < neededFor && now.Sub(a.lostAt) < neededFor
}

// nextPause returns how long to wait before the next attempt.
func (a *Actor) nextPause(now clock.Instant) time.Duration {
	if a.isNeeded(now) && !a.answered {
		return firstPause
	}
	return a.pause.NextBackOff()
}

// enrolled takes the outcome of an attempt.
func (a *Actor) enrolled(e enrolment) {
	a.attempt, a.holdBack = nil, false
	if e.session == nil {
		changed := a.state.Err == nil || a.state.Err.Error() != e.err.Error() || a.state.Reconnecting
		a.state.Err, a.state.Reconnecting = e.err, false
		a.refusal, a.answered, a.tried = e.refusal, e.answered, a.Clock.Now()
		if e.refusal {
			a.timer.Reset(a.refused.NextBackOff())
		} else {
			a.timer.Reset(a.nextPause(a.tried))
		}
		if changed {
			a.tell()
		}
		return
	}
	a.session, a.refusal, a.answered = e.session, false, false
	a.loaded = [lastOp + 1]bool{}
	clear(a.pipe.retained)
	a.used = e.session.begun
	a.timer.Reset(probeAfter)
	// A server that does not say who it is keeps its Life: nothing shows that it
	// has forgotten anything. One whose marker is of another time has lost the old one, and
	// whatever else it had.
	if known := e.id.run != "" || e.id.replication != ""; a.state.Life == 0 ||
		known && (e.id.run != a.run.run || e.id.replication != a.run.replication || e.id.since != a.run.since) {
		a.state.Life++
		a.state.LifeAt = e.id.heard
		a.run = e.id
		// Where only short-lived processes come by, nobody knows it for the window. So its
		// age may tell, but only as it was when it was first heard of: the clock of a
		// server that has just started is the one that is set.
		a.grown = e.id.age-grownAfter > a.Window
	}
	a.grown = a.grown || e.id.grown
	a.state.Enrolled, a.state.Err, a.state.Reconnecting = true, nil, false
	a.state.Tracks = a.session.tracks
	a.state.Latency = e.id.latency
	a.state.Evicts = e.id.evicts
	a.state.Guarded = e.id.marker != ""
	a.state.Grown = a.grown || !a.state.Guarded
	a.state.Run, a.state.Identity = e.id.run, e.id.identity
	a.state.Database = a.Conn.database()
	a.state.Age, a.state.MaxTTL, a.state.MarkedAt = a.run.age, e.id.maxTTL, e.id.marked
	if a.state.Guarded {
		a.known = e.id.identity
	}
	a.state.OffsetAt = 0 // it may be another server
	a.measured(e.id.time, e.id.sent, e.id.back)
	a.tell()
	a.listen()
	if a.session.tracks {
		a.tasks.Go(func() { a.forward(e.session) })
	}
}

// lose ends the enrolment, tells that together with the replies of the pipeline,
// and tries again: at once, unless the connection has never been of any use. That a connection
// ends is ordinary; unless the server has said why, or answers what it was not asked.
func (a *Actor) lose(ctx context.Context, over error) {
	s := a.session
	if over == nil {
		over = s.why(s.broken)
	}
	a.session, a.pipe.rest = nil, nil
	s.end()
	a.lostAt = a.Clock.Now()
	again := ctx.Err() == nil && (s.proved || a.lostAt.Sub(s.begun) >= lastPause)
	a.state.Reconnecting = again && over != errShifted && !errors.As(over, new(*rueidis.RedisError))
	a.state.Enrolled, a.state.Tracks, a.state.Err = false, false, over
	a.tell()
	switch {
	case again:
		a.try(ctx, true)
	case ctx.Err() == nil:
		a.timer.Reset(a.nextPause(a.lostAt))
	}
}
