package node

import (
	"math"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// lastOp is the largest Op.
const lastOp = Highest

// An operation says how a script does commands of one Op: which fields of a Command it gets, and
// which fields of a Reply it answers. The script defines the form of both.
type operation struct {
	*script.Script
	call func(p *pipeline, to []string, first item) []string // nil if there is nothing to send
	args func(p *pipeline, to []string, c *Command) []string // nil likewise; of Renew see renewArgs
	read func(a *answer, r *Reply)                           // what follows the status; nil if nothing does
}

// operations has all but Grant and Highest, which are no scripts, and Forget, which is done by that
// of Advance. The script of RenewAll renews most groups. That
// of Renew is for the rest of one, and for groups whose tokens are not alike.
var operations = [lastOp + 1]operation{
	Renew: {
		Script: &script.Renew,
		call: func(p *pipeline, to []string, first item) []string {
			return script.RenewCall(to, p.tracks, p.millis(p.ttlOf(first)))
		},
	},
	RenewAll: {Script: &script.RenewAll}, // see renewAll
	Release: {
		Script: &script.Release,
		call:   func(p *pipeline, to []string, _ item) []string { return script.ReleaseCall(to, p.reserves()) },
		args:   func(_ *pipeline, to []string, c *Command) []string { return script.ReleaseArgs(to, c.Token, c.Fence) },
	},
	Leave: {
		Script: &script.Leave,
		call: func(p *pipeline, to []string, _ item) []string {
			return script.LeaveCall(to, p.inbox, p.reserves())
		},
		args: func(_ *pipeline, to []string, c *Command) []string {
			if c.Op == Leave {
				return script.LeaveArgs(to, c.Token, false, 0)
			}
			return script.LeaveArgs(to, c.Token, true, c.Fence)
		},
	},
	Raise: {
		Script: &script.Raise,
		args: func(p *pipeline, to []string, c *Command) []string {
			ttl := script.KeepTTL
			if c.TTL > 0 {
				ttl = p.millis(c.TTL)
			}
			return script.RaiseArgs(to, c.Token, c.Fence, ttl)
		},
		read: func(a *answer, r *Reply) { r.Fence = a.score(script.RaiseBefore) },
	},
	Inspect: {
		Script: &script.Inspect,
		call: func(p *pipeline, to []string, first item) []string {
			return script.InspectCall(to, p.commands[first.command].Brief)
		},
		read: func(a *answer, r *Reply) {
			a.holding(r)
			r.Ahead = int(a.number(script.InspectWaiting, math.MaxInt32))
		},
	},
	Enqueue: {
		Script: &script.Enqueue,
		call: func(p *pipeline, to []string, _ item) []string {
			return script.EnqueueCall(to, p.inbox, p.reserves(), p.alive)
		},
		args: func(_ *pipeline, to []string, c *Command) []string {
			return script.EnqueueArgs(to, c.Token, c.Ticket, c.New)
		},
		read: func(a *answer, r *Reply) {
			a.holding(r)
			r.Ahead = int(a.number(script.EnqueueAhead, math.MaxInt32))
			r.Ticket = a.score(script.EnqueueTicket)
			r.Until = time.Duration(a.number(script.EnqueueUntil, maxMillis)) * time.Millisecond
		},
	},
	Claim: {
		Script: &script.Claim,
		call:   func(p *pipeline, to []string, _ item) []string { return script.ClaimCall(to, p.inbox) },
		args: func(p *pipeline, to []string, c *Command) []string {
			return script.ClaimArgs(to, c.Token, p.millis(c.TTL), c.Fence)
		},
		read: func(a *answer, r *Reply) {
			a.holding(r)
			r.Ahead = int(a.number(script.ClaimAhead, math.MaxInt32))
			if r.Err == nil { // whether or not it was taken
				a.hasFence()
			}
			r.Raised = a.flag(script.ClaimRaised)
		},
	},
	Heal: {
		Script: &script.Heal,
		args: func(p *pipeline, to []string, c *Command) []string {
			return script.HealArgs(to, c.Token, p.millis(c.TTL), c.Fence, suffix(c.Token, c.Fence))
		},
	},
	Adopt: {
		Script: &script.Adopt,
		args: func(p *pipeline, to []string, c *Command) []string {
			return script.AdoptArgs(to, c.Token, c.Former, p.millis(c.TTL), c.Fence)
		},
		read: func(a *answer, r *Reply) {
			a.holding(r)
			if r.Status == OK {
				a.hasFence()
			}
			r.Raised = a.flag(script.AdoptRaised)
		},
	},
	Vacate: {
		Script: &script.Vacate,
		call:   func(p *pipeline, to []string, _ item) []string { return script.VacateCall(to, p.inbox) },
		args: func(p *pipeline, to []string, c *Command) []string {
			return script.VacateArgs(to, c.Token, p.millis(c.TTL))
		},
	},
	Sign: {
		Script: &script.Sign,
		args: func(p *pipeline, to []string, c *Command) []string {
			life := ""
			if c.Grown {
				life = p.life
			}
			return script.SignArgs(to, c.Token, p.millis(c.TTL), life, c.Age)
		},
		read: func(a *answer, r *Reply) { r.Value = a.text(script.SignEntries) },
	},
	Advance: {
		Script: &script.Advance,
		args: func(p *pipeline, to []string, c *Command) []string {
			was := p.marker
			p.advance(c)
			return script.AdvanceArgs(to, was, p.marker)
		},
	},
}

// An answer is what a script has answered for one name. It keeps the first broken element in err,
// and reads nothing after that.
type answer struct {
	elements []value
	script   string
	err      error
}

// number reads a number from 0 to most.
func (a *answer) number(at int, most int64) int64 {
	n := a.integer(at)
	if a.err == nil && (n < 0 || n > most) {
		a.err = unexpected(a.script, n)
	}
	return n
}

func (a *answer) flag(at int) bool { return a.number(at, 1) == 1 }

func (a *answer) integer(at int) (n int64) {
	if a.err == nil {
		n, a.err = a.elements[at].integer()
		a.err = plain(a.err, a.script)
	}
	return n
}

func (a *answer) text(at int) (text string) {
	switch {
	case a.err != nil:
	case !a.elements[at].isString():
		a.err = unexpected(a.script, "no string")
	default:
		text, a.err = a.elements[at].string()
		a.err = plain(a.err, a.script)
	}
	return text
}

// score reads a fence or a ticket, which is 0 if there is none.
func (a *answer) score(at int) (n uint64) {
	if text := a.text(at); text != "" {
		n, a.err = score(text)
	}
	return n
}

// hasFence requires that a fence is stored.
func (a *answer) hasFence() {
	if a.text(script.Fence) == "" && a.err == nil {
		a.err = unexpected(a.script, "no fence")
	}
}

// holding reads which token holds the key, with which fence, and for how long.
func (a *answer) holding(r *Reply) {
	r.Value, r.Holds = TokenOf(a.text(script.Value))
	switch left := a.integer(script.Left); {
	case left >= 0:
		r.Left = time.Duration(min(left, maxMillis)) * time.Millisecond
	case left == -1:
		r.Left = -1
	case left != -2: // there is no key
		a.err = unexpected(a.script, left)
	}
	r.Fence = a.score(script.Fence)
}

// status reads what the script says of the key, and reports whether its hand-over must go on. Two
// scripts answer with the value that stands in the way instead.
func (a *answer) status(by *script.Script, r *Reply) (unfinished bool) {
	if (r.Op == Renew || r.Op == Heal) && a.elements[script.Says].isString() {
		var is bool
		if r.Value, is = strings.CutPrefix(a.text(script.Says), script.Told); !is {
			a.err = unexpected(a.script, "a string")
		}
		r.Value, _ = TokenOf(r.Value)
		r.Status = Other
		return false
	}
	n := a.number(script.Says, script.Broken|script.Unfinished)
	if a.err != nil {
		return false
	}
	unfinished = n&script.Unfinished != 0
	n &^= script.Unfinished
	if !by.Says[n] || unfinished && !by.Hands {
		a.err = unexpected(a.script, n)
		return false
	}
	switch n {
	case script.Absent:
		r.Status = Absent
	case script.Ours:
		r.Status = OK
	case script.Other:
		r.Status = Other
	case script.Broken:
		r.Err = errBroken
	}
	return unfinished
}
