// Package say puts the state of names into words for operators, in a line or a table.
package say

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A Span is a duration that is "1.5s" in JSON, and not a number of nanoseconds.
type Span time.Duration

// MarshalText returns the duration in that form.
func (d Span) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// String returns the duration with three digits or so: more are of no use.
func (d Span) String() string {
	t := time.Duration(d)
	switch abs := t.Abs(); {
	case abs >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", t/(24*time.Hour), abs%(24*time.Hour)/time.Hour)
	case abs >= time.Minute:
		t = t.Round(time.Second)
	case abs >= 10*time.Second:
		t = t.Round(100 * time.Millisecond)
	case abs >= time.Second:
		t = t.Round(10 * time.Millisecond)
	case abs >= 10*time.Millisecond:
		t = t.Round(100 * time.Microsecond)
	case abs >= 100*time.Microsecond:
		t = t.Round(10 * time.Microsecond)
	default:
		t = t.Round(time.Microsecond)
	}
	return t.String()
}

// Time returns an instant for people and programs: with its date, its zone and its milliseconds.
func Time(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z07:00") }

// Holder returns in a few words which client has a name: an owner, or what else keeps it taken.
func Holder(h supervisor.Holding) string {
	switch {
	case h.Err != nil:
		return "not known"
	case h.Held && h.Owner == "":
		return "a client of another library"
	case h.Held && h.Vacated:
		return owner(h) + ", who has left it"
	case h.Held:
		return owner(h)
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

// owner returns the owner that others have chosen, made safe to show.
func owner(h supervisor.Holding) string { return plain.Line(h.Owner) }

// Holding returns the state of a name in a line.
func Holding(h supervisor.Holding) string {
	switch {
	case h.Err != nil:
		return "not known: " + plain.Line(h.Err.Error())
	case !h.Held && !h.Free && h.Kind == supervisor.KeyUnknown:
		return Holder(h)
	case h.Free:
		return "free"
	case !h.Held && h.Kind == supervisor.KeyReserved:
		return "reserved for the first in line, which has yet to claim it"
	case !h.Held && h.Kind == supervisor.KeyOther:
		return "taken by another kind of value than a lock: no client gets the name until the key is deleted"
	case !h.Held:
		return Holder(h)
	}
	var b strings.Builder
	switch {
	case h.Vacated:
		fmt.Fprintf(&b, "left by %s, free in %v", owner(h), Span(h.Left))
	case h.NoExpiry:
		b.WriteString("held by " + Holder(h) + " with no expiry")
	default:
		fmt.Fprintf(&b, "held by %s for %v unless renewed", Holder(h), Span(h.Left))
	}
	if !h.Since.IsZero() {
		fmt.Fprintf(&b, ", since %s", Time(h.Since.Local()))
	}
	if h.Fence != 0 {
		fmt.Fprintf(&b, ", fence %d", h.Fence)
	}
	return b.String()
}

// Answer returns one node's answer about a name in a line.
func Answer(a supervisor.Answer) string {
	line := a.String()
	switch a.Kind {
	case supervisor.KeyForeign:
		return strings.Replace(line, ": held", ": held by a client of another library", 1)
	case supervisor.KeyOther:
		return strings.Replace(line, ": held", ": another kind of value", 1)
	case supervisor.KeyReserved:
		return strings.Replace(line, ": held", ": reserved for the first in line", 1)
	}
	return line
}

// Columns are the columns of a table of names.
const Columns = "NAME\tHOLDER\tSINCE\tFOR\tWAITING\tFENCE"

// Row returns the columns of one name, at an instant.
func Row(h supervisor.Holding, now time.Time) string {
	since, left, fence := "-", "-", "-"
	if !h.Since.IsZero() {
		since = h.Since.Local().Format("2006-01-02 15:04:05")
	}
	switch {
	case h.Held && h.NoExpiry:
		left = "no expiry"
	case h.Vacated:
		left = "free in " + Span(h.Left).String()
	case h.Held && !h.Since.IsZero() && h.Since.Before(now):
		left = Span(now.Sub(h.Since).Truncate(time.Second)).String()
	}
	if h.Fence != 0 {
		fence = fmt.Sprint(h.Fence)
	}
	waiting := fmt.Sprint(h.Waiting)
	if h.Err != nil {
		waiting = "-"
	}
	return strings.Join([]string{plain.Line(h.Name), Holder(h), since, left, waiting, fence}, "\t")
}

// Table writes lines whose columns have tabs between them.
func Table(w io.Writer, lines ...string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(t, line)
	}
	return t.Flush()
}

// JSON writes one value in one line.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// With returns a value that is a JSON object with a text before its fields.
func With(v any, field, text string) ([]byte, error) {
	object, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	first, err := json.Marshal(map[string]string{field: text})
	if err != nil {
		return nil, err
	}
	return append(append(first[:len(first)-1], ','), object[1:]...), nil
}
