package supervisor

import (
	"context"
	"errors"
	"sync"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A call is what one caller waits for. The core decides it, and knows only its number. It is
// embedded in the message that asks, so that both cost one allocation.
type call struct {
	op     string          // the name of the operation, with which errors begin
	ctx    context.Context // of Acquire, AcquireAny and Adopt: the caller's, for events
	result chan outcome    // with room for one; the loop sends on it
	quiet  bool            // an attempt of Once: it tells no failure after which Once tries again, or returns no error

	number core.Call     // the loop's
	since  clock.Instant // the loop's: when it heard of the call; of Once: when it was called
	cause  error         // the loop's: the error of its context, once the loop has heard that it ended
}

// An outcome is what a call gets in the end.
type outcome struct {
	err    error
	lease  *lease.Lease // of Acquire and Adopt
	id     uint64       // of that lease
	handle *core.Handle // of HandOver
	report *core.Report // of Inspect
}

// newCall returns a call that the loop has not heard of.
func (s *Supervisor) newCall(op string) call {
	if result, ok := s.results.Get().(chan outcome); ok {
		return call{op: op, result: result}
	}
	return call{op: op, result: make(chan outcome, 1)}
}

// recycle lets another call use the channel of one that has got its outcome. There is only one
// outcome, so no more is sent on it. It saves a third of what a pair of Acquire and Release
// allocates. The pool is the supervisor's: a channel that was made in a bubble of testing/synctest
// must not leave it.
func (s *Supervisor) recycle(c *call) { s.results.Put(c.result) }

// A message is something that a caller asks of the loop. Its one method is the handling, so a
// message without one does not compile.
type message interface {
	apply(s *Supervisor, now clock.Instant)
}

// post hands a message to the core at once, or to the loop. It reports false if the loop has ended.
// It does not wait long: the loop waits for no goroutine.
func (s *Supervisor) post(m message) bool {
	if s.enter() {
		now := s.clock.Now()
		m.apply(s, now)
		s.leave(now)
		return true
	}
	s.coming.Add(1)
	select {
	case s.inbox <- m:
		return true
	case <-s.done:
		return false
	}
}

// calls holds those that were not answered, by the slots of their numbers.
type calls struct {
	slots []*call // nil if there is none
	free  []int32 // of the slots
	last  core.Call
}

// add gives a call its number.
func (t *calls) add(c *call, now clock.Instant) core.Call {
	if c.since == 0 {
		c.since = now
	}
	slot := len(t.slots)
	if n := len(t.free); n > 0 {
		slot, t.free = int(t.free[n-1]), t.free[:n-1]
		t.slots[slot] = c
	} else {
		t.slots = append(t.slots, c)
	}
	t.last = core.Call(core.NextID(uint64(t.last), slot))
	c.number = t.last
	return c.number
}

// get returns the call with that number, or nil if it was answered.
func (t *calls) get(number core.Call) *call {
	if slot := core.Slot(uint64(number)); slot < len(t.slots) && t.slots[slot] != nil && t.slots[slot].number == number {
		return t.slots[slot]
	}
	return nil
}

// answer hands a call its outcome, and forgets it.
func (t *calls) answer(c *call, o outcome) {
	slot := core.Slot(uint64(c.number))
	t.slots[slot] = nil
	t.free = append(t.free, int32(slot))
	c.result <- o
}

// len returns how many there are.
func (t *calls) len() int { return len(t.slots) - len(t.free) }

// giveUps holds the calls whose contexts have ended. They are on a list, and none waits for the
// loop to take it. If a hundred thousand gave up at once and waited, all would have to be woken
// once more.
type giveUps struct {
	some chan struct{} // with room for one: there are some
	mu   sync.Mutex
	list []giveUp
}

type giveUp struct {
	call *call
	why  error
}

func (g *giveUps) add(c *call, why error) {
	g.mu.Lock()
	g.list = append(g.list, giveUp{c, why})
	g.mu.Unlock()
	g.signal()
}

func (g *giveUps) signal() {
	select {
	case g.some <- struct{}{}:
	default:
	}
}

// take appends the next few to a list of the loop's.
func (g *giveUps) take(few []giveUp) []giveUp {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(maxGiveUps, len(g.list))
	few = append(few, g.list[:n]...)
	if g.list = g.list[n:]; len(g.list) > 0 {
		g.signal()
	} else {
		g.list = nil
	}
	return few
}

// maxGiveUps is how many the loop hears of at one instant.
const maxGiveUps = 256

// hearGiveUps tells the core of a few calls whose contexts have ended.
func (s *Supervisor) hearGiveUps(now clock.Instant) {
	s.givenUp = s.giveUps.take(s.givenUp[:0])
	for _, g := range s.givenUp {
		g.call.cause = g.why
		s.core.Cancel(now, g.call.number)
	}
	clear(s.givenUp)
}

// errCut is the outcome of a call that the core could not answer any more, because the context of
// Close has ended before.
var errCut = errors.New("the context of Close has ended")

// errNoTime is the error of a node whose connection Close has cut, because its context has ended.
var errNoTime = errors.New("it did not answer in the time that Close was given")

// cutRest answers the calls that the core has not answered.
func (t *calls) cutRest() {
	for _, c := range t.slots {
		if c != nil {
			t.answer(c, outcome{err: errCut})
		}
	}
}

// read runs f in the loop. f must not wait and must not change anything.
func (s *Supervisor) read(f func(*core.Core)) {
	m := readMessage{f, make(chan struct{})}
	if !s.post(m) {
		f(s.core) // the loop has ended: the core does not change any more
		return
	}
	<-m.done
}

type readMessage struct {
	f    func(*core.Core)
	done chan struct{}
}

func (m readMessage) apply(s *Supervisor, _ clock.Instant) {
	m.f(s.core)
	close(m.done)
}
