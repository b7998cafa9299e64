package supervisor

import (
	"runtime"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// run is the supervisor's goroutine. The select is the only place where it waits: every goroutine
// may wait for the supervisor, so the supervisor waits for none. No other goroutine touches s.core,
// unless it brings something while there is nothing else to do, see enter.
func (s *Supervisor) run() {
	defer func() {
		close(s.done)
		s.calls.cutRest() // Close does not wait for it
	}()
	timer := s.clock.NewTimer(0)
	defer timer.Stop()
	napping := clock.Runtime().NewTimer(nap)
	defer napping.Stop()
	stop := s.stop
	wake := func() clock.Instant {
		s.mu.Lock()
		s.busy.woke()
		now := s.clock.Now()
		if now >= s.armed {
			s.armed = clock.Never // the timer sees no suspension: it is set again, for what is due by now
		}
		return now
	}
	s.mu.Lock()
	for !s.core.Drained() {
		if s.armed == clock.Never || s.core.Next() < s.armed {
			now := s.clock.Now()
			wait := s.core.Wait(now)
			s.armed = now.Add(wait)
			timer.Reset(wait)
		}
		s.mu.Unlock()
		var now clock.Instant
		select {
		case m := <-s.inbox: // unbuffered: what is accepted is handled
			now = wake()
			s.coming.Add(-1)
			m.apply(s, now)
			s.hear(now)
		case <-s.giveUps.some:
			now = wake()
			s.hearGiveUps(now)
		case b := <-s.replies: // one message per pipeline, not per command
			now = wake()
			s.core.Receive(now, b)
			b.Done()
		case w := <-s.wakes:
			now = wake()
			s.core.Hear(now, w)
			s.watchers.touch(w.Key)
		case <-timer.C():
			now = wake()
			s.armed = clock.Never
			s.core.Tick(now)
		case <-s.look: // what was done meanwhile has set an alarm, or was the end
			now = wake()
		case <-stop:
			stop = nil // a nil channel is never ready
			now = wake()
			if s.endless {
				s.core.BoundClose()
			}
			s.core.Close(now)
		}
		perform.All(now, s.core, len(s.actors), performer{s})
		s.busy.sleeps()
		if s.core.Waiting() > maxYielding {
			// If all of these can run, a goroutine that yields waits until each had its turn. So
			// does one that is interrupted because its time slice ends. A timer wakes the loop
			// before them, with a fresh one.
			s.mu.Unlock()
			napping.Reset(nap)
			<-napping.C()
			s.mu.Lock()
		}
	}
	s.over = true
	s.mu.Unlock()
	for _, a := range s.actors {
		if a != nil {
			a.Close() // its sole sender closes
		}
	}
	go func() { _ = s.tasks.Wait(); close(s.replies); close(s.wakes) }()
	go func() {
		for range s.wakes { // and its listener a message
		}
	}()
	for range s.replies { // an actor may still be handing over its last batch
	}
	s.kill(nil)
	s.stopTelling()
}

// enter lets a goroutine have the core decide at once, if no other does. So the loop need not be
// woken first. It returns false if the caller must go to the loop. A message that is on its way
// there comes first, as messages of one sender stay in their order. If several callers wait, the
// loop decides for all of them at once, and their commands share pipelines.
func (s *Supervisor) enter() bool {
	if s.coming.Load() != 0 || !s.mu.TryLock() {
		return false
	}
	if s.over || s.calls.len() > maxEntering || s.core.Drained() {
		s.mu.Unlock()
		return false
	}
	s.busy.woke()
	return true
}

// leave performs what was decided, and makes the loop look if that concerns it.
func (s *Supervisor) leave(now clock.Instant) {
	perform.All(now, s.core, len(s.actors), performer{s})
	s.busy.sleeps()
	look := s.core.Drained() || s.core.Next() < s.armed || now >= s.armed
	s.mu.Unlock()
	if look {
		select {
		case s.look <- struct{}{}:
		default: // it is about to
		}
	}
}

// maxEntering is how many callers may wait for the core without the loop.
const maxEntering = 2

// hear handles the messages of all others that are waiting, at the same instant. Their commands
// share pipelines. If several callers wait, those that were just told something have their turn
// before.
func (s *Supervisor) hear(now clock.Instant) {
	yielded := false
	perform.Messages(now, s.core, performer{s}, func() bool {
		for {
			select {
			case m := <-s.inbox:
				s.coming.Add(-1)
				m.apply(s, now)
				return true
			default:
			}
			// With very many callers, all that can run would have their turn before the loop.
			if n := s.core.Waiting(); yielded || n < 2 || n > maxYielding {
				return false
			}
			runtime.Gosched()
			yielded = true
		}
	})
}

const (
	// maxYielding is how many callers may wait for the loop to let them have their turn while it
	// works.
	maxYielding = 1024
	// nap is how long the loop sleeps after each piece of work if more callers wait than that.
	nap = 50 * time.Microsecond
)

// A performer does what the core has decided. None of it can wait: a send to a node is refused if
// there is no room, answers go to channels with room for one, and a close is a close.
type performer struct{ s *Supervisor }

// Send hands commands to a node's actor.
func (p performer) Send(i int, commands []node.Command) (unsent []node.Command) {
	return p.s.actors[i].TrySendAll(commands)
}

// Effect performs an effect that concerns a caller or a holder.
func (p performer) Effect(now clock.Instant, e *core.Effect) {
	s := p.s
	switch e.Kind {
	case core.EffectWon:
		s.won(now, e)
	case core.EffectFailed:
		if c := s.calls.get(e.Call); c != nil {
			err := s.refusal(c, e.Report)
			s.calls.answer(c, outcome{err: err})
			if !c.quiet || !inconclusive(err) {
				s.tell(Event{Kind: EventFailed, Name: e.Report.Key, Err: err, Waited: now.Sub(c.since), Ctx: c.ctx})
			}
		}
	case core.EffectRenewed:
		if l := s.leases[core.Slot(e.ID)]; !l.Renewed(e.Until, e.Grace) {
			// The holder has read the clock, and knows that the lease is over, or has released it.
			s.core.HolderEnded(now, e.ID, reasonOf(l.Lease().Err()))
		}
	case core.EffectEnded:
		s.ended(e)
	case core.EffectAnswered:
		if c := s.calls.get(e.Call); c != nil {
			s.calls.answer(c, outcome{err: s.failed(c, e.Report), handle: e.Handle})
		}
	case core.EffectInspected:
		if c := s.calls.get(e.Call); c != nil {
			s.calls.answer(c, outcome{err: reasons[e.Report.Reason], report: e.Report})
		}
	case core.EffectNodeUp:
		s.tell(Event{Kind: EventNodeUp, Node: s.label(e.Node)})
	case core.EffectNodeDown:
		s.tell(Event{Kind: EventNodeDown, Node: s.label(e.Node), Err: e.Err})
	case core.EffectReconnected:
		s.tell(Event{Kind: EventReconnected, Node: s.label(e.Node), Err: e.Err})
	case core.EffectWarned:
		s.tell(Event{Kind: EventWarning, Node: s.label(e.Warning.Node), Err: s.warning(e.Warning)})
	case core.EffectWaits:
		if c := s.calls.get(e.Call); c != nil {
			s.tell(Event{Kind: EventWaiting, Name: e.Key, Ctx: c.ctx})
		}
	case core.EffectYoung:
		s.tell(Event{Kind: EventYoung, Err: s.warning(e.Warning), Elapsed: e.Elapsed})
	}
}

// won hands a new lease to the caller.
func (s *Supervisor) won(now clock.Instant, e *core.Effect) {
	l, control := lease.New(lease.Spec{
		Name: e.Key[len(s.cfg.Prefix):], Token: lease.Token(node.ValueOf(e.Token, e.Fence)), Owner: node.OwnerOf(e.Token), Fence: e.Fence,
		Until: e.Until, Grace: e.Grace, Home: s.home, ID: e.ID,
	})
	slot := core.Slot(e.ID)
	for len(s.leases) <= slot {
		s.leases = append(s.leases, lease.Control{})
	}
	s.leases[slot] = control
	c := s.calls.get(e.Call)
	s.calls.answer(c, outcome{lease: l, id: e.ID})
	s.watchers.touch(e.Key)
	s.tell(Event{Kind: EventAcquired, Name: e.Key, Fence: e.Fence, Elapsed: e.Elapsed, Waited: now.Sub(c.since), Raise: e.Raise, Ctx: c.ctx})
}

// ended ends a lease, unless its holder was first.
func (s *Supervisor) ended(e *core.Effect) {
	slot := core.Slot(e.ID)
	l := s.leases[slot]
	s.leases[slot] = lease.Control{}
	if e.Report != nil {
		l.End(s.lossOf(e.Report))
	} else {
		l.End(endOf(e.Reason))
	}
	kind, why := EventLost, l.Lease().Err()
	switch why {
	case lease.ErrReleased:
		kind, why = EventReleased, nil
	case lease.ErrHandedOver:
		kind = EventReleased
	}
	s.tell(Event{Kind: kind, Name: e.Key, Fence: e.Fence, Err: why, Elapsed: e.Elapsed})
}
