package status

import (
	"errors"
	"fmt"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/supervisor"
)

// This file puts into words and numbers what the page shows.

// are returns the verb that goes with n things.
func are(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// showSpan returns a duration with two or three digits: nobody reads more.
func showSpan(s span) string {
	d := time.Duration(s)
	if d < 0 {
		return "−" + showSpan(-s)
	}
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d/time.Microsecond)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// showAge returns how long ago t was; nothing if it is not known, and "now" if it is less than a
// second ago, or later than now, as by a clock that is ahead.
func (r *report) showAge(t time.Time) string {
	age := r.Time.Sub(t)
	switch {
	case t.IsZero():
		return ""
	case age < time.Second:
		return "now"
	}
	return showSpan(span(age.Truncate(time.Second)))
}

// showOffset returns how far a clock is ahead.
func showOffset(d time.Duration) string {
	if d < 0 {
		return showSpan(span(d))
	}
	return "+" + showSpan(span(d))
}

// holder says in a few words who has a name.
func (n name) holder() string {
	h := n.Holding
	switch {
	case !n.Answered:
		return "not asked yet"
	case h.Err != nil:
		return "not known"
	case h.Held && h.Owner == "":
		return "a client of another library"
	case h.Held && h.Vacated:
		return plain.Line(h.Owner) + " (left, kept for its time)"
	case h.Held:
		return plain.Line(h.Owner)
	case h.Free:
		return "nobody"
	}
	switch h.Kind {
	case supervisor.KeyOther:
		return "another kind of value"
	case supervisor.KeyReserved:
		return "nobody yet: it is handed over"
	case supervisor.KeyForeign:
		return "clients of another library, none by a quorum"
	}
	return "not clear: no quorum says the same"
}

// state is the kind of a name's mark.
func (n name) state() string {
	h := n.Holding
	switch {
	case !n.Answered, h.Free:
		return "free"
	case h.Err != nil:
		return "unknown"
	case h.Held && !h.Vacated:
		return "held"
	}
	return "between"
}

// unknown says why the holder is not known. What each node says if there is no quorum is at the nodes.
func (n name) unknown() string {
	if errors.Is(n.Holding.Err, supervisor.ErrNoQuorum) {
		return "too few nodes answer"
	}
	return short(plain.Line(n.Holding.Err.Error()))
}

// about says what an event is about.
func (e event) about() string {
	if e.Event.Name != "" {
		return plain.Line(e.Event.Name)
	}
	return e.Event.Node
}

// level says how bad an event is.
func (e event) level() string {
	switch e.Event.Kind {
	case supervisor.EventLost, supervisor.EventNodeDown:
		return "bad"
	case supervisor.EventWarning, supervisor.EventYoung:
		return "warning"
	case supervisor.EventAcquired, supervisor.EventNodeUp:
		return "ok"
	}
	return "plain"
}

// detail says more of an event.
func (e event) detail() string {
	ev := e.Event
	text := ""
	switch {
	case ev.Kind == supervisor.EventAcquired && ev.Waited > 0:
		text = "after " + showSpan(span(ev.Waited))
	case ev.Kind == supervisor.EventFailed && ev.Waited > 0:
		text = "after " + showSpan(span(ev.Waited))
	case ev.Elapsed > 0 && (ev.Kind == supervisor.EventLost || ev.Kind == supervisor.EventReleased):
		text = "held for " + showSpan(span(ev.Elapsed))
	case ev.Elapsed > 0 && ev.Kind == supervisor.EventYoung:
		text = "for " + showSpan(span(ev.Elapsed))
	}
	if ev.Err != nil {
		if text != "" {
			text += ": "
		}
		text += plain.Line(ev.Err.Error())
	}
	return short(text)
}

// short cuts a text that nobody reads to its end on a page.
func short(text string) string {
	const most = 400
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// late reports that a lease was not renewed when that was due: it has less than half of what it had.
// Renewals begin at two thirds, unless Config.RenewEvery says otherwise.
func (l leaseReport) late() bool { return 2*l.Left < l.Longest }

// part is how much of a lease is left, in percent of the most that was.
func (l leaseReport) part() string {
	if l.Longest <= 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f", 100*float64(l.Left)/float64(l.Longest))
}

// tab is the title of the browser's tab: the state first, as there is little room.
func (r *report) tab() string {
	what := "OK"
	down := 0
	for _, n := range r.Nodes {
		if n.State == nodeDown {
			down++
		}
	}
	switch {
	case r.Level == levelBad:
		what = "NOT WORKING"
	case down == 1:
		what = "1 node down"
	case down > 1:
		what = fmt.Sprintf("%d nodes down", down)
	case r.Level == levelWarning:
		what = "Warning"
	}
	return what + " – " + plain.Line(r.Title)
}
