package supervisor

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A call is somebody who waits for what the core decides. The core knows its number only.
// It is embedded in the message that asks, so that both cost one allocation.
type call struct {
	op     string       // what was asked for, as errors begin
	result chan outcome // with room for one; the loop sends on it

	number core.Call // the loop's
	cause  error     // the loop's: the end of its context, once the loop has heard of it
}

// An outcome is what a call gets in the end.
type outcome struct {
	err    error
	lease  *lease.Lease // of Acquire and Adopt
	id     uint64       // of that lease
	handle *core.Handle // of HandOver
	report *core.Report // of Inspect
}

func newCall(op string) call { return call{op: op, result: make(chan outcome, 1)} }

// A message is something that a caller asks of the loop. Handling is its one
// method, so that a message which nobody handles does not compile.
type message interface {
	apply(s *Supervisor, now clock.Instant)
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

// number has the loop know a call, and returns its number.
func (s *Supervisor) number(c *call) core.Call {
	s.lastCall++
	c.number = s.lastCall
	s.calls[c.number] = c
	return c.number
}

// answer hands a call its outcome, and forgets it.
func (s *Supervisor) answer(c *call, o outcome) {
	delete(s.calls, c.number)
	c.result <- o
}

// read has the loop run f, which must not wait and must not change anything.
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
