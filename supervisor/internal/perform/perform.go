// Package perform does what a core has decided. The supervisor's loop, the tests of the core, its
// benchmarks and its simulation all use these functions. So the simulation plays the order in which
// production performs. The model is the Ready of etcd's raft.
package perform

import (
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A Core has decided effects of type E for callers and holders, and commands for nodes.
type Core[E any] interface {
	// Serve decides what the inputs have made possible.
	Serve(now clock.Instant)
	// Idle reports whether there is nothing to do.
	Idle() bool
	// TakeEffects returns the effects, in their order, and ReturnEffects takes them back.
	TakeEffects() []E
	ReturnEffects(taken []E)
	// TakeCommands returns the commands for a node, in their order.
	TakeCommands(node int) []node.Command
	// Unsent handles a command that found no room.
	Unsent(now clock.Instant, node int, cmd node.Command)
}

// A Doer does one thing of each kind. It does not wait.
type Doer[E any] interface {
	// Effect does what an effect asks for, and keeps no pointer to it. It may give the core inputs.
	Effect(now clock.Instant, e *E)
	// Send hands commands to a node, and returns those for which there is no room.
	Send(node int, commands []node.Command) (unsent []node.Command)
}

// Effects performs the effects for callers and holders, until there are no more.
func Effects[E any](now clock.Instant, c Core[E], d Doer[E]) {
	for {
		effects := c.TakeEffects()
		if len(effects) == 0 {
			c.ReturnEffects(effects)
			return
		}
		for i := range effects {
			d.Effect(now, &effects[i])
		}
		c.ReturnEffects(effects)
	}
}

// All performs everything for n nodes, callers and holders: effects before the commands of each
// node, so that a holder hears of the end of its lease before any node does. A node that has no
// room for a command may be what ends it.
func All[E any](now clock.Instant, c Core[E], n int, d Doer[E]) {
	Effects(now, c, d)
	c.Serve(now)
	for !c.Idle() {
		for i := range n {
			Effects(now, c, d)
			commands := c.TakeCommands(i)
			if len(commands) == 0 {
				continue
			}
			for _, cmd := range d.Send(i, commands) {
				c.Unsent(now, i, cmd)
			}
		}
	}
}

// MaxHeard is how many messages are handled at one instant.
const MaxHeard = 64

// Messages gives the core up to MaxHeard messages at the same instant: to wait for the next one and
// to read the clock costs more than most messages do. An instant that is a little old promises
// less, never more. The commands that they cause share pipelines; their effects are performed
// between them. next hands over one more message, or reports false.
func Messages[E any](now clock.Instant, c Core[E], d Doer[E], next func() bool) {
	for range MaxHeard {
		Effects(now, c, d)
		if !next() {
			return
		}
	}
}
