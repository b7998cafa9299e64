package core

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A phase says how far a tenure is. It only moves forward.
type phase uint8

const (
	phaseWaiting   phase = iota // the nodes' time is not known yet: nothing was sent
	phaseQueued                 // it stands in the nodes' queues
	phaseElecting               // grants or claims are out
	phaseRaising                // q nodes granted; a higher fence is being stored on them
	phaseAdopting               // renewals are out for a lease that is to be adopted
	phaseHeld                   // a quorum granted it
	phaseReleasing              // it is over; releases are out
)

// A tenure is one attempt to hold a name. If the attempt is won it is also the holding, up to the
// last answer to its release.
type tenure struct {
	alarm
	id       uint64
	inSet    int32 // in the set of its phase
	phase    phase
	inQueues bool // its token stands, or stood, in the nodes' queues: see stand
	behind   bool // and another client had the name, or was before it
	mode     modeKind
	hold     hold

	asked   nodeSet // nodes that may have the key: all but those that certainly never got a command
	pending nodeSet // a command other than a release is unanswered
	key     string  // the name, prefix included
	token   string
	terms   *Terms
	fence   uint64
	begun   clock.Instant // when its grants were queued
	votes   votes
	*stages // noStages, which is never written to, while there are none
}

// Stages has the parts of a tenure that belong to some of its phases. Nearly all held tenures have
// none, and room for them would be a fifth of their size.
type stages struct {
	line     *line     // whose attempt it is
	queuing  *queuing  // from when it stands in the queue on
	ballot   *ballot   // while it is an election
	adopt    *adoption // while it is being adopted
	give     *giving   // while it is given back
	sent     nodeSet   // nodes that may have got a command, until it is held and all have answered
	askAgain nodeSet   // nodes to be asked once more as soon as they have answered

	stretched time.Duration // the time for which a raise may have given nodes the key; 0 if for no longer than the TTL
}

// noStages is shared by all tenures that have none of their own.
var noStages stages

// own returns the tenure's own stages, to write to.
func (t *tenure) own() *stages {
	if t.stages == nil || t.stages == &noStages {
		t.stages = &stages{}
	}
	return t.stages
}

// leaveStages forgets the stages of a tenure if all of them are empty.
func (t *tenure) leaveStages() {
	if *t.stages == noStages {
		t.stages = &noStages
	}
}

// allAnswered forgets which nodes may have got commands, once the tenure is held and none is
// unanswered.
func (t *tenure) allAnswered() {
	if t.phase == phaseHeld && t.pending == 0 && t.sent != 0 {
		t.sent = 0
		t.leaveStages()
	}
}

// askNoMore notes that node i need not be asked once more. It reports whether it was to be asked.
func (t *tenure) askNoMore(i int) bool {
	if !t.askAgain.has(i) {
		return false
	}
	t.askAgain.del(i)
	t.leaveStages()
	return true
}

func (t *tenure) slot() *int32 { return &t.inSet }

// newID returns an ID that was never used before, for the given slot of the table.
func (c *Core) newID(slot int) uint64 {
	c.lastID = NextID(c.lastID, slot)
	return c.lastID
}

// wake looks at what has become due: the end of an election, or of a held lease, or a renewal, or
// the end of an expired lease's grace, or of waiting for a release.
func (t *tenure) wake(c *Core, now clock.Instant) {
	switch t.phase {
	case phaseQueued:
		c.heartbeat(now, t)
	case phaseWaiting, phaseElecting, phaseRaising:
		if c.waitLonger(now, t) {
			return
		}
		if t.adopt != nil {
			c.adoptionDue(now, t)
			return
		}
		if b := t.ballot; t.phase == phaseElecting && b.claims && now.Sub(t.begun) < t.terms.Window {
			c.claimRest(now, t)
			return
		}
		c.lose(now, t)
	case phaseAdopting:
		c.adoptionDue(now, t)
	case phaseReleasing:
		if !t.give.told {
			c.sendReleases(now, t)
			return
		}
		c.settled(now, t)
	case phaseHeld:
		h := &t.hold
		switch {
		case now >= h.until:
			c.end(now, t, ReasonExpired)
		case now >= h.endAt:
			c.end(now, t, ReasonMaxHold)
		case now >= h.leaveAt:
			h.rare().leaveAt = clock.Never
			if c.leaveAll(now, t) != 0 {
				h.rare().leaveAt = now.Add(c.settings.NodeTimeout)
			}
			c.schedule(t)
		case now >= h.renewAt:
			h.renewAt = c.nextRenewal(t, now, t.every(now))
			h.regular(now)
			if t.allAnswered(); t.pending != 0 {
				t.own().askAgain |= t.pending // their answers are to commands of an interval ago
			}
			c.renewAnd(now, t, c.all)
		case now >= h.lookAt:
			c.lookDue(now, t)
		default: // h.retryAt
			again := h.retry
			o := h.rare()
			o.retryAt, o.retry = clock.Never, 0
			c.renewAnd(now, t, again)
		}
	}
}
