package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A Call is the number by which the caller of the core knows the goroutine that waits for an
// answer. It is in the effect that answers. It is never 0, and its [Slot] is that of no other call
// that was not answered.
type Call uint64

// A Request is one caller's wish for a lease.
type Request struct {
	Call     Call
	Key      string
	Owner    string // the holder that its lease shows; Settings.Owner if empty
	Terms    *Terms
	Attempts int  // how many it has left; 0 for as many as it takes
	Once     bool // do not queue: TryAcquire
	NoRenew  bool
	MaxHold  time.Duration // 0 for no bound
	MinHold  time.Duration // for how long the name is to stay taken, see stay.go; 0 for no longer than the lease
}

// An Effect is something to do for a caller or a holder.
type Effect struct {
	Kind    EffectKind
	Reason  Reason        // Ended, and Warned for a pause
	Node    int           // NodeUp, NodeDown, Reconnected
	Call    Call          // Won, Failed, Answered, Inspected, Waits
	ID      uint64        // Won, Renewed, Ended: the lease
	Until   clock.Instant // Won, Renewed: when the lease will be lost
	Grace   time.Duration // Won, Renewed: how much longer the nodes keep it
	Elapsed time.Duration // Won and Answered: how long it took; Ended: how long it was held
	Raise   time.Duration // Won: how much of Elapsed the raise took; 0 if there was none
	Key     string        // Won, Ended, Waits
	Token   string        // Won
	Fence   uint64        // Won, Ended
	Report  *Report       // Failed and Inspected; Answered if it has failed; Ended for a loss
	Handle  *Handle       // Answered for HandOver
	Warning *Warning      // Warned, Young
	Err     error         // NodeDown, Reconnected: why, in the node's own words
}

// EffectKind says what to do.
type EffectKind uint8

const (
	EffectWon         EffectKind = iota // hand a new lease to the caller
	EffectFailed                        // tell the caller why there is no lease
	EffectRenewed                       // the lease will be lost at Until
	EffectEnded                         // the lease is over, because of Reason
	EffectAnswered                      // tell the caller that it is done, or why not
	EffectInspected                     // hand the nodes' answers to the caller
	EffectNodeUp                        // a node was enrolled
	EffectNodeDown                      // an enrolment has ended, because of Err, and was not made again at once
	EffectReconnected                   // an enrolment had ended, because of Err, and was made again at once
	EffectWarned                        // something is wrong
	EffectYoung                         // too few nodes are grown for a while
	EffectWaits                         // the caller gets no answer at once, and waits from now on
)

// warn appends the effect that warns of something wrong.
func (c *Core) warn(w Warning) {
	c.effects = append(c.effects, Effect{Kind: EffectWarned, Warning: &w})
}

// answer tells a caller that its request is done, or, with a report, why not.
func (c *Core) answer(call Call, r *Report) {
	c.effects = append(c.effects, Effect{Kind: EffectAnswered, Call: call, Report: r})
}

// fail tells a caller why there is no lease.
func (c *Core) fail(call Call, r *Report) {
	c.waiters.del(call)
	c.effects = append(c.effects, Effect{Kind: EffectFailed, Call: call, Report: r})
}

// waits tells a caller of Acquire, AcquireAny or Adopt, once, that it does not get its answer at
// once.
func (c *Core) waits(w *waiter) {
	if w.choice != nil {
		w = w.choice.head
	}
	if w.waits {
		return
	}
	w.waits = true
	c.effects = append(c.effects, Effect{Kind: EffectWaits, Call: w.Call, Key: w.Key})
}

// send gives a node a command, after all effects that were decided until now. See invariant 4 of
// package supervisor.
func (c *Core) send(i int, cmd node.Command) {
	if cmd.Op != node.Renew { // which is of another lease than those that are being gathered
		c.sendGroup()
	}
	c.put(i, cmd)
}

// put gives a node a command even while a group is being gathered. A node that was left gets none.
func (c *Core) put(i int, cmd node.Command) {
	if !c.all.has(i) {
		return
	}
	c.outbox[i] = append(c.outbox[i], cmd)
	c.queued++
}

// Idle reports whether nothing is to be performed.
func (c *Core) Idle() bool { return len(c.effects)+c.queued == 0 }

// TakeEffects returns the effects that were decided, in the order in which they must be performed.
// They are valid until ReturnEffects. Before that the core may be given inputs.
func (c *Core) TakeEffects() []Effect {
	taken := c.effects
	c.effects, c.spare = c.spare[:0], nil
	return taken
}

// ReturnEffects gives back the result of TakeEffects, to be used again.
func (c *Core) ReturnEffects(taken []Effect) {
	clear(taken)
	c.spare = taken[:0]
}

// TakeCommands returns the commands for a node, in this order. It is valid until TakeCommands is
// called again: inputs in between do not touch it.
func (c *Core) TakeCommands(i int) []node.Command {
	c.sendGroup()
	taken := c.outbox[i]
	c.outbox[i], c.spareBox = c.spareBox, taken[:0]
	c.queued -= len(taken)
	return taken
}
