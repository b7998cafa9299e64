package core

import "github.com/leasehold-go/leasehold/clock"

// A ttlCap is about renewals that may come late. A late one for a shorter TTL would shorten what a
// later one for a longer TTL was promised. So a node that may yet get such a renewal is believed
// for the shorter TTL only.
type ttlCap struct {
	silent nodeSet       // nodes that never answered a renewal
	until  clock.Instant // such a renewal has arrived by then, or never will
	capped nodeSet       // nodes that may yet get a renewal for a shorter TTL
	terms  *Terms        // the shortest of those
}

// onSilence records that node i may have got a renewal, or may get it yet.
func (h *hold) onSilence(now clock.Instant, i int) {
	if h.ttlCap == nil {
		h.rare().ttlCap = &ttlCap{}
	}
	h.ttlCap.silent.add(i)
	h.ttlCap.until = now.Add(owedFor)
}

// isSilent reports whether node i may have got a renewal that it never answered, or may get it yet.
// It may be asked of a tenure that was never held.
func (h *hold) isSilent(i int) bool { return h.everHeld() && h.ttlCap != nil && h.ttlCap.silent.has(i) }

// onAnswer records that node i has no unanswered renewal left, except those that it never will
// answer.
func (h *hold) onAnswer(i int) {
	if h.ttlCap != nil && !h.isSilent(i) {
		h.ttlCap.capped.del(i)
	}
}

// lengthened records that renewals for a longer TTL follow those for a shorter one, while some
// nodes have yet to answer.
func (h *hold) lengthened(now clock.Instant, short *Terms, pending nodeSet) {
	if h.ttlCap == nil {
		if pending == 0 {
			return
		}
		h.rare().ttlCap = &ttlCap{until: now.Add(owedFor)}
	}
	d := h.ttlCap
	d.capped |= d.silent | pending
	if d.terms == nil || short.TTL < d.terms.TTL {
		d.terms = short
	}
}

// shortened returns the terms by which a node is believed that may yet get a renewal for a shorter
// TTL, or nil if there is no such node. It may be asked of a tenure that was never held.
func (h *hold) shortened(now clock.Instant) *Terms {
	if !h.everHeld() {
		return nil
	}
	if d := h.ttlCap; d != nil && d.capped != 0 && now < d.until {
		return d.terms
	}
	return nil
}
