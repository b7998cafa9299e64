package core

import (
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// This file is what a history tells of what the core has decided.

// write tells one thing, with the instant if it is another than that of the line before.
func (h *history) write(mark, format string, args ...any) {
	at := ""
	if h.told != h.now() {
		h.told, at = h.now(), instant(h.now())
	}
	h.out = append(h.out, fmt.Sprintf("    %7s %s %s", at, mark, fmt.Sprintf(format, args...)))
}

// instant writes how long after the start it is.
func instant(at clock.Instant) string { return fmt.Sprintf("%.3fs", at.Sub(start).Seconds()) }

// Send tells what nodes are sent: later, because several may be sent the same.
func (h *history) Send(i int, commands []node.Command) []node.Command {
	for _, cmd := range apart(commands) {
		if cmd.Op == node.Sign {
			h.c.nodes[i].entry = entryAt{until: clock.Never}
		}
		if cmd.Op == node.Sign && !cmd.Grown {
			continue // a fingerprint, which is left now and then
		}
		s := send{i, cmd}
		h.sends = append(h.sends, s)
		h.unanswered = append(h.unanswered, s)
		h.over = append(h.over, cmd.Op.String()+" "+h.subject(cmd))
	}
	return nil
}

// tellSends tells what was sent, and which nodes were sent the same.
func (h *history) tellSends() {
	var texts []string
	nodes := make(map[string]nodeSet)
	for _, s := range h.sends {
		text := h.command(s.cmd)
		if nodes[text] == 0 {
			texts = append(texts, text)
		}
		nodes[text] |= 1 << s.node
	}
	h.sends = nil
	for _, text := range texts {
		h.write("->", "%s: %s", h.nodes(nodes[text]), text)
	}
}

func (h *history) nodes(set nodeSet) string {
	var is []string
	for i := range h.c.nodes {
		if set.has(i) {
			is = append(is, fmt.Sprint(i))
		}
	}
	if len(is) == 1 {
		return "node " + is[0]
	}
	return "nodes " + strings.Join(is, " ")
}

// subject returns what a command is about: the letter of its token, the key, or the life.
func (h *history) subject(cmd node.Command) string {
	switch cmd.Op {
	case node.Inspect:
		return cmd.Name
	case node.Sign:
		return fmt.Sprint(cmd.Life)
	}
	return h.letter(cmd.Token)
}

func (h *history) command(cmd node.Command) string {
	token := h.subject(cmd)
	switch cmd.Op {
	case node.Grant, node.Claim:
		return fmt.Sprintf("%v %s, key %s, for %v, fence %d", cmd.Op, token, cmd.Name, cmd.TTL, cmd.Fence)
	case node.Raise:
		if cmd.TTL != 0 {
			return fmt.Sprintf("raise %s to fence %d, and keep it for %v", token, cmd.Fence, cmd.TTL)
		}
		return fmt.Sprintf("raise %s to fence %d", token, cmd.Fence)
	case node.Vacate:
		return fmt.Sprintf("vacate %s, which stays taken for %v", token, cmd.TTL)
	case node.Renew:
		return fmt.Sprintf("renew %s for %v", token, cmd.TTL)
	case node.Heal:
		return fmt.Sprintf("heal %s, key %s, for %v, fence %d, in life %d only", token, cmd.Name, cmd.TTL, cmd.Fence, cmd.Life)
	case node.Adopt:
		return fmt.Sprintf("adopt %s in place of %s, key %s, for %v, fence %d", token, h.letter(cmd.Former), cmd.Name, cmd.TTL, cmd.Fence)
	case node.Enqueue:
		if cmd.New {
			return fmt.Sprintf("enqueue %s for %s, behind all others", token, cmd.Name)
		}
		return fmt.Sprintf("enqueue %s for %s, at ticket %d", token, cmd.Name, cmd.Ticket)
	case node.Release:
		if cmd.Queued {
			return fmt.Sprintf("release %s, from the queue too", token)
		}
		if cmd.Fence != 0 {
			return fmt.Sprintf("release %s, or give it with fence %d", token, cmd.Fence)
		}
		return fmt.Sprintf("release %s", token)
	case node.Sign:
		return fmt.Sprintf("sign %d: this life is grown", cmd.Life)
	default:
		return fmt.Sprintf("%v %s", cmd.Op, token)
	}
}

// Effect tells an effect.
func (h *history) Effect(_ clock.Instant, e *Effect) {
	h.tellSends() // of the input before
	switch e.Kind {
	case EffectWon:
		h.over = append(h.over, fmt.Sprintf("call %d", e.Call))
		h.write("=>", "call %d: %s is held by %s until %s, fence %d", e.Call, e.Key, h.letter(e.Token), instant(e.Until), e.Fence)
	case EffectFailed, EffectAnswered:
		h.over = append(h.over, fmt.Sprintf("call %d", e.Call))
		switch {
		case e.Report != nil:
			h.write("=>", "call %d: %s", e.Call, h.report(e.Report))
		case e.Handle != nil:
			h.write("=>", "call %d: the handle of %s, fence %d", e.Call, h.letter(e.Handle.Token), e.Handle.Fence)
		default:
			h.write("=>", "call %d: done", e.Call)
		}
	case EffectRenewed:
		h.write("=>", "%s is held until %s", h.letter(h.c.tenures.get(e.ID).token), instant(e.Until))
	case EffectEnded:
		letter := h.letter(h.c.tenures.get(e.ID).token)
		h.over = append(h.over, "end "+letter)
		h.write("=>", "%s is over: %s", letter, reasonNames[e.Reason])
	case EffectWaits: // as is seen
	case EffectNodeUp:
		h.write("=>", "node %d is enrolled", e.Node)
	case EffectNodeDown:
		h.write("=>", "node %d is away: %v", e.Node, e.Err)
	case EffectReconnected:
		h.write("=>", "node %d is connected anew: %v", e.Node, e.Err)
	case EffectWarned, EffectYoung:
		w := e.Warning
		switch w.Kind {
		case WarnPaused:
			h.write("=>", "warning: the clocks of %d nodes ran away from ours, that of node %d by %v", w.Count, w.Node, w.Time)
		case WarnYoung:
			h.write("=>", "warning: %d nodes are young, nothing is acquired for %v", w.Count, w.Time)
		default:
			h.fail("no words for %+v", *w)
		}
	default:
		h.fail("no words for %+v", e)
	}
}

// report writes why a caller has no lease, and what the nodes said.
func (h *history) report(r *Report) string {
	text := reasonNames[r.Reason]
	if r.Left > 0 {
		text += fmt.Sprintf(", for %v at most", r.Left)
	}
	if len(r.Answers) == 0 {
		return text
	}
	var words []string
	for _, a := range r.Answers {
		word := fmt.Sprintf("node %d %s", a.Node, verdictNames[a.Verdict])
		switch {
		case a.Verdict == VerdictHeld && a.Value != "":
			word += " by " + h.letter(a.Value)
		case a.Verdict == VerdictGuarded:
			word += fmt.Sprintf(" for %v", a.Left.Round(time.Millisecond))
		}
		words = append(words, word)
	}
	return text + " (" + strings.Join(words, ", ") + ")"
}

var reasonNames = map[Reason]string{
	ReasonNone: "nothing", ReasonHeld: "held by another", ReasonNoQuorum: "no quorum", ReasonClosed: "closed",
	ReasonFormerHolder: "the former holder may still believe in it",
	ReasonReleased:     "released", ReasonHandedOver: "handed over", ReasonLost: "lost", ReasonExpired: "expired",
	ReasonRevoked: "revoked", ReasonTaken: "taken", ReasonPaused: "paused", ReasonUnconfirmed: "not confirmed",
}

var verdictNames = map[Verdict]string{
	VerdictSilent: "silent", VerdictGranted: "granted", VerdictFree: "free", VerdictHeld: "held",
	VerdictGuarded: "young", VerdictUnreachable: "unreachable",
}

var phaseNames = map[phase]string{
	phaseElecting: "electing", phaseRaising: "raising", phaseAdopting: "adopting", phaseHeld: "held",
}

// tellVotes tells the votes of every tenure, if they have changed.
func (h *history) tellVotes() {
	if h.c == nil {
		return
	}
	for _, t := range h.c.tenures.slots {
		if t == nil || phaseNames[t.phase] == "" {
			continue
		}
		var votes []string
		for i := range t.votes.of {
			votes = append(votes, fmt.Sprintf("%d %s", i, h.vote(t, i)))
		}
		letter := h.letter(t.token)
		if text := strings.Join(votes, "; "); text != h.shown[letter] {
			h.shown[letter] = text
			h.write(" |", "%s %s: %s", letter, phaseNames[t.phase], text)
		}
	}
}

// tellDrained tells once that a core which was closed has nothing left to wait for.
func (h *history) tellDrained() {
	if h.c == nil || h.drained || !h.c.Drained() {
		return
	}
	h.drained = true
	h.write("=>", "drained")
	for _, u := range h.c.Unreleased() {
		h.write("=>", "%s: %s", u.Key, h.report(u))
	}
}

// vote writes up to when node i surely keeps the lease, and how its vote stands if it is not
// one that merely counts.
func (h *history) vote(t *tenure, i int) string {
	text := "-"
	if v := t.votes.of[i]; v.until != 0 {
		text = instant(v.until)
	}
	if standing := t.votes.of[i].standing; standing != counts {
		text += " " + standing.String()
	}
	if x := t.votes.trialOf(i); x != nil {
		if sure := t.votes.confirmed(x); sure != 0 {
			text += ", confirmed by " + strings.TrimPrefix(h.nodes(sure), "node ")
		}
	}
	return text
}
