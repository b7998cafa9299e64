package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

const (
	maxPipeline = 512              // names that fill a pipeline
	probeAfter  = 10 * time.Second // of silence, and the age at which an Offset is measured again
	signMoment  = time.Millisecond // for which a fingerprint waits for what is sent with it
	watchAfter  = time.Millisecond // without a command: to begin to watch a connection, and to end that, costs a wake-up
	firstPause  = 20 * time.Millisecond
	lastPause   = 250 * time.Millisecond // between two attempts to enrol
	shortPause  = 10 * time.Millisecond  // between two while the node is needed
	neededFor   = 2 * time.Second        // and MaxTTL, after it was lost: a lease or a caller may need it for so long
	mostDials   = 8                      // of one attempt to an address that does not answer
	refusedFor  = 8 * time.Second        // between two attempts if the server refuses for good
	grownAfter  = time.Hour              // and the window: a life that began so long ago is grown
)

// Config configures an [Actor].
type Config struct {
	Index   int           // of the node in the deployment; comes back in every Batch
	Conn    Conn          // how the node is reached
	Clock   clock.Clock   // default clock.System
	Timeout time.Duration // how long to wait for the answer of a fast node; default 500 ms
	Longest time.Duration // the same for a node that is slow but answers, and for each step of connecting; at least Timeout, which is the default
	Window  time.Duration // 0 turns the guard off; else the longest for which a server that forgot is young, see State.Age
	MaxTTL  time.Duration // whole milliseconds; the marker is raised to it, see State.MaxTTL
	Mailbox int           // room for commands, of which a group takes that of its members; default 8192
	Replies chan<- Batch  // must be received from until Run has returned

	Wakes chan<- Wake // messages from the node; nil if they are not wanted; must be received from until Run has returned

	// These are for waiters, see Enqueue.
	Inbox   string        // the channel on which the nodes announce reservations to this process, without spaces; "" if it never waits
	Reserve time.Duration // how long a reservation lasts, longer if the node takes more than Timeout; default 3*Timeout
	Alive   time.Duration // for how long an Enqueue keeps its place; default 4*Reserve
}

// An Actor makes one node carry out commands, over a connection that it makes, watches and replaces
// by itself. Commands are sent in the order in which they were taken. While one pipeline is under
// way the next one gathers in the mailbox, so pipelines grow exactly as fast as the node is slow.
type Actor struct {
	Config
	mailbox mailbox

	// These are for the goroutine of Run alone.
	session  *session // nil while there is none
	attempt  chan enrolment
	trying   *session       // of the attempt
	asked    *session       // an answer over it is overdue, and a later one is waited for; nil if there is none
	behind   chan enrolment // receives the later one
	holdBack bool           // commands wait for the attempt that is under way
	patience patience
	reserve  script.Millis // how long a reservation lasts if the node is fast
	overdue  int           // attempts in a row that ended because an answer was overdue
	timer    clock.Timer
	idle     clock.Timer // when it fires, nothing was asked for a moment
	pause    *backoff.ExponentialBackOff
	refused  *backoff.ExponentialBackOff // instead of pause, after a refusal for good
	refusal  bool                        // that was the outcome of the latest attempt
	answered bool                        // the server is there, and has said no to it
	triedAt  clock.Instant               // when the latest attempt ended
	needed   clock.Instant               // until then a lease or a caller misses the connection
	lostAt   clock.Instant               // when the latest connection was
	state    State
	run      identity      // the latest one received
	trip     time.Duration // the round trip in which State.Offset was measured
	known    string        // the identity of this node's data when it was last met; "" before that
	grown    bool          // this Life is, if it is guarded
	queued   []Command
	pipe     pipeline
	loaded   [lastOp + 1]bool
	used     clock.Instant // when the latest pipeline was sent
	lender   lender
	tasks    sync.WaitGroup

	callouts callouts

	// These are for the inbox.
	waits     bool          // something has waited: from now on the actor listens
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
	c.Longest = max(c.Longest, c.Timeout)
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
		Config:   c,
		mailbox:  newMailbox(c.Mailbox),
		pause:    newPause(lastPause),
		refused:  newPause(refusedFor),
		patience: patience{least: c.Timeout, most: c.Longest},
		reserve:  script.InMillis(c.Reserve),
		lender:   lender{client: c.Conn.client},
		state:    State{Patience: c.Timeout},
		heard:    make(chan error),
		inboxes:  lender{client: c.Conn.client},
		pipe: pipeline{
			inbox: c.Inbox,
			alive: script.InMillis(c.Alive),
			names: map[string]struct{}{},
			spare: make(chan []Reply, maxSpare),
		},
	}
}

// newPause returns the pauses between attempts, of at most last.
func newPause(last time.Duration) *backoff.ExponentialBackOff {
	// A jitter of a half either way is on top of the interval.
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(2*firstPause),
		backoff.WithMaxInterval(last*2/3), backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
}

// TrySend hands over a command, or returns false if there is no room for it; then nothing was sent
// and no reply will come. It never blocks. Commands that ask for a name may fill only half the
// room, so that leases which are held can still be renewed and released. After the context of Run
// is done there is no room. TrySend, TrySendAll and Close are for one goroutine.
func (a *Actor) TrySend(c Command) bool { return len(a.mailbox.put(c)) == 0 }

// TrySendAll hands over many commands at once, in their order, and returns those for which there is
// no room: see [Actor.TrySend]. It keeps nothing of its argument but groups.
func (a *Actor) TrySendAll(commands []Command) (refused []Command) {
	return a.mailbox.put(commands...)
}

// Close lets Run return once it has answered what was taken. It must be called
// once, and no TrySend after it.
func (a *Actor) Close() { close(a.mailbox.batches) }

// Run connects to the node and answers commands, each one exactly once, until Close was called and
// nothing is left. If ctx is done before, Run cuts the connection at once and answers what is left
// without sending it. It blocks while its Replies are not received. It leaves no goroutine,
// with two exceptions: if a user's own client or dialer does not return, and for a few milliseconds
// one of the client library that looks for a Sentinel.
func (a *Actor) Run(ctx context.Context) {
	a.timer = a.Clock.NewTimer(probeAfter)
	defer a.timer.Stop()
	a.idle = a.Clock.NewTimer(watchAfter)
	defer a.idle.Stop()
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
		var idle <-chan time.Time
		switch {
		case a.session != nil && a.session.isLost():
			a.lose(attempts, nil)
			continue
		case a.session != nil && len(a.pipe.rest) > 0:
			a.handle(attempts, a.goOn())
			continue
		case a.session != nil:
			lost = a.session.lost
			if a.session.isUnwatched() {
				a.idle.Reset(watchAfter)
				idle = a.idle.C()
			}
		case a.holdBack:
			batches = nil
		}
		select {
		case batch, ok := <-batches:
			if !ok {
				return
			}
			a.drain(batch)
			a.accompany(ctx)
			a.handle(attempts, a.queued)
		case e := <-a.attempt:
			a.tried(e)
		case e := <-a.behind:
			a.caughtUp(attempts, e)
		case err := <-a.heard:
			if fmt.Sprint(err) != fmt.Sprint(a.state.NoInbox) {
				a.state.NoInbox = err
				a.tell()
			}
		case <-lost: // dealt with above
		case <-idle:
			a.session.beginWatch()
		case <-a.timer.C():
			switch {
			case a.session == nil && !a.mayGetOne():
				a.try(attempts, false)
			case a.session != nil:
				a.probe(attempts)
			case a.holdBack:
				a.goOnHolding()
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
	a.stopAsking()
	a.stopTrying() // it was cancelled: disconnect is deferred before that, but runs later
	a.lender.giveBack()
}

// stopTrying ends the attempt that is under way, if any.
func (a *Actor) stopTrying() {
	if a.attempt == nil {
		return
	}
	a.trying.cancel(errEnded)
	if e := <-a.attempt; e.session != nil {
		e.session.end()
	}
	a.attempt, a.trying, a.holdBack = nil, nil, false
}

// stopAsking gives up the connection over which an answer is overdue, if any.
func (a *Actor) stopAsking() {
	if s := a.noMoreAsked(); s != nil {
		s.end()
	}
}

// noMoreAsked returns that connection, if any, and remembers how long it waited in vain.
func (a *Actor) noMoreAsked() *session {
	s := a.asked
	if s != nil {
		a.took(a.Clock.Now(), s.late)
		s.late, a.asked, a.behind = 0, nil, nil
	}
	return s
}

// accompany makes a fingerprint that would be sent alone wait a moment for another command. A grant
// that comes right after it would have to wait for its answer, a whole round trip. That happens if
// one caller goes from one name to the next: its next grant comes just after the answer to its
// release, and a fingerprint that came meanwhile would be sent before it.
func (a *Actor) accompany(ctx context.Context) {
	if slices.ContainsFunc(a.queued, func(c Command) bool { return c.Op != Sign }) {
		return
	}
	moment := a.Clock.NewTimer(signMoment)
	defer moment.Stop()
	select {
	case batch, ok := <-a.mailbox.batches:
		if ok { // otherwise the loop sees it as well
			a.queued = a.mailbox.take(a.queued, batch)
		}
	case <-moment.C():
	case <-ctx.Done():
	}
}

// drain takes a batch and whatever else is waiting, until that fills a pipeline.
func (a *Actor) drain(batch []Command) []Command {
	a.queued = a.mailbox.take(a.queued[:0], batch)
	return a.queued
}

// goOn returns the commands that hand over the names of which the latest pipeline has met only dead
// waiters, and the waiting commands. The former are releases of a token that no client has: they do
// nothing else, and only while the key is absent. If one does not get through, the next heartbeat
// of a waiter goes on.
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
		a.need(commands)
		switch pause := now.Sub(a.triedAt); {
		case a.mayGetOne():
		case a.refusal && pause >= lastPause && a.isAwaited(commands, now):
			a.try(ctx, false) // a caller waits, and the server may have been mended
		case !a.isNeeded(now):
		case pause < a.pauseIfNeeded(now):
			a.timer.Reset(a.pauseIfNeeded(now) - pause)
		default:
			a.try(ctx, false)
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
		a.need(commands)
		a.lose(ctx, over)
		return
	}
	a.tell()
}

// need notes until when commands without an answer miss the connection. A command that keeps a
// lease misses it until the lease is lost, and a caller for as long as isMissed allows. Sign and
// Leave can wait: they are for other clients.
func (a *Actor) need(commands []Command) {
	for i := range commands {
		switch c := &commands[i]; c.Op {
		case Renew, RenewAll, Heal:
			a.needed = max(a.needed, c.By)
		case Sign, Leave:
		default:
			a.needed = clock.Never
		}
	}
}

// isAwaited reports whether a caller waits for a server that refuses for good, or a lease that had
// its vote when the connection was lost. Commands for a lease that others keep come again and again
// for as long as it is held, and do not hurry.
func (a *Actor) isAwaited(commands []Command, now clock.Instant) bool {
	return a.isMissed(now) || slices.ContainsFunc(commands, func(c Command) bool {
		return c.Op != Renew && c.Op != RenewAll && c.Op != Heal && c.Op != Sign
	})
}

// guard takes out the commands that this incarnation must not get: a grant or a claim while it is
// young, and commands for another incarnation. A young node hands nothing over either: a
// reservation would stand in the way of the heal of a lease that it forgot.
func (a *Actor) guard() {
	p := &a.pipe
	for _, it := range p.live {
		if c := &p.commands[it.command]; c.Op == Sign && c.Grown && c.Life == a.state.Life {
			// It is grown, even if writing that down fails.
			a.grown, a.state.Grown = true, true
		}
	}
	young := !a.state.Grown
	p.young, p.tracks, p.life = young, a.state.Tracks, a.session.life
	wanted := p.live[:0]
	for _, it := range p.live {
		switch c := &p.commands[it.command]; {
		case (c.Op == Grant || c.Op == Claim) && young:
			p.unsent(it, errYoung)
		case (c.Op == Heal || c.Op == Sign && c.Grown) && c.Life != a.state.Life:
			p.unsent(it, errOtherLife)
		case c.by() == Advance && a.session.marker == "":
			p.unsent(it, errNoMarker)
		default:
			wanted = append(wanted, it)
		}
	}
	p.live = wanted
}

// probe notices a dead connection and measures the Offset again, if there was nothing to send for a
// while.
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

// exchange sends the live commands of the pipeline and reads the answers into its replies. An error
// means that the enrolment is over. It sends calls whose script the node had lost once more, and so
// after all the others. It also sends again calls that had too many names for the node, one name
// each. now was read a moment ago: reading it costs as much as much else here.
func (a *Actor) exchange(now clock.Instant, withTime bool) error {
	p := &a.pipe
	a.used = now
	withTime = withTime || a.used.Sub(a.state.OffsetAt) >= probeAfter
	over := a.roundTrip(withTime, false, a.used)
	if over != nil {
		p.fail(Unsent, over) // only commands are live that the node has refused to run
		return over
	}
	if len(p.live) == 0 {
		return nil
	}
	now = a.Clock.Now()
	wanted := p.live[:0]
	for _, it := range p.live {
		switch {
		case now > p.byOf(it):
			p.unsent(it, errStale)
		case givenUp(&p.commands[it.command], p.commands[it.command+1:]):
			p.unsent(it, errGivenUp)
		default:
			wanted = append(wanted, it)
		}
	}
	if p.live = wanted; len(wanted) == 0 {
		return nil
	}
	return a.roundTrip(false, true, now)
}

var errGivenUp = errors.New("not resent: already undone by a later command")

// givenUp reports whether a later command undoes what c would leave on the node. The node may have
// run that command already, and would not run it again.
func givenUp(c *Command, later []Command) bool {
	if c.Op != Claim && c.Op != Heal && c.Op != Enqueue && c.Op != Adopt {
		return false
	}
	for i := range later {
		l := &later[i]
		if (l.Op == Release || l.Op == Vacate || l.Op == Leave && c.Op == Enqueue) && l.Token == c.Token && l.Name == c.Name {
			return true
		}
	}
	return false
}

// roundTrip sends one pipeline and reads its answers.
func (a *Actor) roundTrip(withTime, eval bool, sent clock.Instant) error {
	s, p := a.session, &a.pipe
	if !s.unwatch() {
		p.fail(Unsent, errDeadlines)
		p.live = p.live[:0]
		return errDeadlines
	}
	p.sent, p.single = sent, s.single
	p.reserve = a.reserves(sent)
	p.build(s, withTime, eval, a.Conn.client == nil, &a.loaded)
	within := a.patience.of(sent)
	s.start(sent, within)
	vs := s.link.exchange(s.waiting)
	overdue := s.stop()
	back := a.Clock.Now()
	if overdue {
		s.await() // whether or not the answer came just then
	}
	at, err := p.readFirst(vs, s)
	marker := p.leaves(vs, s)
	status, over := s.disbelieve(vs, err, marker)
	if over != nil {
		if overdue && s.ctx.Err() == nil {
			status, over, s.late = Unknown, noAnswer(within), within
		}
		p.fail(status, over)
		p.live = p.live[:0]
		return over
	}
	a.took(back, back.Sub(sent))
	if s.marker != "" {
		a.state.MarkedAt = sent
	}
	t, over := p.read(vs, s, eval)
	if at == 0 {
		at = t
	}
	if p.time == 0 && at != 0 { // nothing was done before the time was read
		p.time = at
		a.measured(at, sent, back)
	}
	if over == nil {
		s.proved = true
		a.pause.Reset()
		a.refused.Reset()
		a.state.Latency = back.Sub(sent)
		a.state.RoundTrips++
		a.state.RoundTripTime += back.Sub(sent)
		if marker != s.marker {
			over = errAdvanced // the answers count, and what follows from the marker is learnt as always
		}
	}
	return over
}

// measured records a node's time. The node may have read its clock at any point of the round trip.
// So a slow answer does not replace that of a recent faster one; otherwise proposed fences would
// jitter. But if the two cannot both be right, one of the clocks has moved, as in a pause that ours
// did not see.
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
	a.state.FlushedAt = 0
	if a.session != nil {
		a.state.FlushedAt = clock.Instant(a.session.flushed.Load())
	}
	a.pipe.finish()
	b := Batch{Node: a.Index, Replies: a.pipe.replies[a.pipe.own:], State: a.state, spare: a.pipe.spare}
	a.pipe.replies, a.pipe.own = nil, 0
	a.Replies <- b
}

// took records how long an answer has taken, or how long the actor waited for it at least.
func (a *Actor) took(now clock.Instant, trip time.Duration) {
	a.patience.took(now, trip)
	a.state.Patience = a.patience.of(now)
}

// reserves returns for how long the node reserves a name. The waiter hears of the reservation, and
// claims the name over a connection that may have another answer to wait for. Three times Timeout
// is enough if the node takes no longer than that.
func (a *Actor) reserves(now clock.Instant) script.Millis {
	more := 2 * (a.patience.slowest(now) - a.Timeout)
	if more <= 0 {
		return a.reserve
	}
	return script.InMillis(a.Reserve + more)
}

// goOnHolding lets commands wait as long as the attempt goes on. Each step of the attempt may take
// as long as the actor waits for an answer. After that no command waits for it, and their errors
// say what it waits for.
func (a *Actor) goOnHolding() {
	now := a.Clock.Now()
	within := a.patience.of(now)
	since, going := a.trying.stepped()
	if !going {
		return // its outcome is about to come
	}
	if left := within - now.Sub(since); left > 0 {
		a.timer.Reset(left)
		return
	}
	a.holdBack = false
	if a.state.Err == nil {
		a.state.Err, a.state.Overdue = a.trying.overdue(within), true
		a.tell()
	}
}

// try starts an attempt to enrol. Commands wait for it if holdBack is set.
func (a *Actor) try(ctx context.Context, holdBack bool) {
	now := a.Clock.Now()
	patience := a.patience.of(now)
	dialled, again := a.dialling(patience)
	s := newSession(ctx, a.Clock, a.Longest, dialled, &a.callouts)
	s.again = again
	a.trying, a.holdBack = s, holdBack
	a.attempt = make(chan enrolment, 1)
	if holdBack {
		a.timer.Reset(patience)
	}
	if a.Wakes != nil && a.Conn.client == nil {
		s.changed = newChangedKeys()
	}
	a.tasks.Go(s.watchdog)
	known := a.known
	s.start(now, a.Longest)
	go func(done chan<- enrolment) {
		err := s.connect(a.Conn, a.lender.lend)
		var id identity
		if err == nil {
			id, err = s.enrol(a.Window > 0, a.MaxTTL, known)
		}
		s.stop()
		refusal, answered := isRefusal(err), hasSaid(err)
		if err != nil {
			err = s.why(err)
			s.end()
			s = nil
		}
		done <- enrolment{s, id, err, refusal, answered}
	}(a.attempt)
}

// dialling returns how long to wait for a dial, and after how long to begin another one meanwhile,
// 0 for never. To wait long for a dial that will fail is worse than to dial once more, as its
// packet may have got lost. So the actor waits longer only after a dial was in vain. Then it does
// both: the node may be far, or have been away.
func (a *Actor) dialling(patience time.Duration) (dialled, again time.Duration) {
	dialled = min(patience<<min(a.overdue, 8), a.Longest)
	if a.overdue > 0 {
		again = max(patience, dialled/mostDials)
	}
	return dialled, again
}

// ask gives a connection over which an answer is overdue as long again as a step of connecting. If
// the node still answers, that is faster than a new connection, which takes several answers.
// Meanwhile no command for which a caller waits is sent over it, as its answer would come after the
// overdue one. See docs/decisions/3.
func (a *Actor) ask(s *session) {
	done := make(chan enrolment, 1)
	a.asked, a.behind = s, done
	sent := a.Clock.Now()
	s.endWait.Store(nil)
	s.start(sent, a.Longest)
	a.tasks.Go(func() {
		id := identity{sent: sent}
		var err error
		id.time, err = s.ask()
		s.stop()
		id.back = a.Clock.Now()
		done <- enrolment{session: s, id: id, err: err}
	})
}

// caughtUp handles the answer that comes after an overdue one, or its absence.
func (a *Actor) caughtUp(ctx context.Context, e enrolment) {
	if e.err != nil {
		a.stopAsking()
		if a.attempt == nil && a.Conn.client != nil {
			a.lostAt = a.Clock.Now()
			a.try(ctx, false)
		}
		return
	}
	a.noMoreAsked()
	a.stopTrying()
	a.resume(e)
}

// mayGetOne reports whether there may soon be a connection without a further attempt. An attempt is
// under way, or the connection of a client goes on, which may have no other one.
func (a *Actor) mayGetOne() bool { return a.attempt != nil || a.asked != nil && a.Conn.client != nil }

// isMissed reports whether a connection was lost so lately that a lease may still have a vote there.
func (a *Actor) isMissed(now clock.Instant) bool {
	return a.lostAt != 0 && now.Sub(a.lostAt) < max(neededFor, a.MaxTTL)
}

// isNeeded reports whether such a connection is needed by a lease that must be kept or given back,
// or by a caller, and its server has not said no. To a server that stays away, so many attempts of
// each process would be a load. See docs/decisions/24.
func (a *Actor) isNeeded(now clock.Instant) bool {
	return now < a.needed && a.isMissed(now) && !a.answered && !a.refusal
}

// pauseIfNeeded returns how long to wait before the next attempt in that case. The longer the node
// has been away, the less it matters how quickly it is found.
func (a *Actor) pauseIfNeeded(now clock.Instant) time.Duration {
	return min(max(shortPause, now.Sub(a.lostAt)/1000), lastPause)
}

// nextPause returns how long to wait before the next attempt.
func (a *Actor) nextPause(now clock.Instant) time.Duration {
	if a.isNeeded(now) {
		return a.pauseIfNeeded(now)
	}
	return a.pause.NextBackOff()
}

// tried handles the outcome of an attempt.
func (a *Actor) tried(e enrolment) {
	a.attempt, a.trying, a.holdBack = nil, nil, false
	if e.session == nil {
		a.failed(e)
		return
	}
	a.stopAsking()
	a.overdue = 0
	a.enrolled(e)
}

// failed handles the failure of an attempt.
func (a *Actor) failed(e enrolment) {
	changed := a.state.Err == nil || a.state.Err.Error() != e.err.Error() || a.state.Reconnecting
	a.state.Err, a.state.Overdue, a.state.Reconnecting = e.err, errors.Is(e.err, context.DeadlineExceeded), false
	if changed {
		a.tell()
	}
	now := a.Clock.Now()
	if a.state.Overdue {
		a.overdue++
	}
	a.refusal, a.answered, a.triedAt = e.refusal, e.answered, now
	if e.refusal {
		a.timer.Reset(a.refused.NextBackOff())
	} else {
		a.timer.Reset(a.nextPause(now))
	}
}

// begun takes over a session that is enrolled, from the beginning or again.
func (a *Actor) begun(s *session) {
	a.session, a.refusal, a.answered, a.needed = s, false, false, 0
	s.await()
	a.loaded = [lastOp + 1]bool{}
	a.timer.Reset(probeAfter)
	a.state.Enrolled, a.state.Err, a.state.Overdue, a.state.Reconnecting, a.state.Tracks = true, nil, false, false, s.tracks
}

// resume goes on with a connection over which an answer was overdue.
func (a *Actor) resume(e enrolment) {
	a.begun(e.session)
	a.used = e.id.sent
	if e.session.marker != "" {
		a.state.MarkedAt = e.id.sent
	}
	a.took(e.id.back, e.id.back.Sub(e.id.sent))
	a.measured(e.id.time, e.id.sent, e.id.back)
	a.tell()
	a.listen()
}

// enrolled takes over a connection that was made.
func (a *Actor) enrolled(e enrolment) {
	a.begun(e.session)
	a.took(e.id.back, e.id.latency)
	if e.id.marker != "" {
		a.took(e.id.heard, e.id.heard.Sub(e.id.marked))
	}
	a.used = e.session.begun
	// A server that does not say which one it is keeps its Life: nothing shows that it has
	// forgotten anything. A server whose marker is of another time has lost the old one, and
	// everything else it had.
	if known := e.id.run != "" || e.id.replication != ""; a.state.Life == 0 ||
		known && (e.id.run != a.run.run || e.id.replication != a.run.replication || e.id.since != a.run.since) {
		a.state.Life++
		a.state.LifeAt = e.id.heard
		a.run = e.id
		// If only short-lived processes come by, none of them knows the life for the window. So its
		// age may count, but only as it was when it was first heard of: the clock of a server that
		// has just started is likely to be set.
		a.grown = e.id.age-grownAfter > a.Window
	}
	a.grown = a.grown || e.id.grown
	a.state.Latency = e.id.latency
	a.state.Evicts = e.id.evicts
	a.state.Guarded = e.id.marker != ""
	a.state.Grown = a.grown || !a.state.Guarded
	a.state.Run, a.state.Identity = e.id.run, e.id.identity
	a.state.Database = a.Conn.database()
	a.state.Age, a.state.MaxTTL, a.state.MarkedAt = a.run.age, e.id.maxTTL, e.id.marked
	a.state.Change, a.state.Floor = e.id.change, e.id.floor
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

// lose ends the enrolment, reports that together with the replies of the pipeline, and tries again:
// at once, unless the connection has never been of any use. The end of a connection is ordinary,
// unless the server has said why, or answers what it was not asked. If an answer is overdue the
// connection may still go on, if it does so before there is another one. A client that was lent may
// have no other one.
func (a *Actor) lose(ctx context.Context, over error) {
	s := a.session
	if over == nil {
		over = s.why(s.broken)
	}
	a.session, a.pipe.rest = nil, nil
	ask := s.late != 0 && !s.isLost() && ctx.Err() == nil
	if !ask {
		s.end()
	}
	a.lostAt = a.Clock.Now()
	again := ctx.Err() == nil && (s.proved || a.lostAt.Sub(s.begun) >= lastPause)
	a.state.Reconnecting = again && over != errShifted && !hasSaid(over)
	a.state.Enrolled, a.state.Tracks, a.state.Err, a.state.Overdue = false, false, over, s.late != 0
	a.tell()
	if ask {
		a.ask(s)
	}
	switch {
	case ask && a.Conn.client != nil:
	case again:
		a.try(ctx, true)
	case ctx.Err() == nil:
		a.timer.Reset(a.nextPause(a.lostAt))
	}
}
