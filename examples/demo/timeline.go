package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/leasehold-go/leasehold/clock"
)

// An event is one line of the timeline.
type event struct {
	T         float64 `json:"t"` // seconds since the beginning
	Event     string  `json:"event"`
	Owner     string  `json:"owner,omitempty"`
	Name      string  `json:"name,omitempty"`
	Node      string  `json:"node,omitempty"`
	Fence     uint64  `json:"fence,omitempty"`
	Remaining float64 `json:"remaining,omitempty"` // seconds
	Alive     int     `json:"alive,omitempty"`     // nodes
	Text      string  `json:"text,omitempty"`
}

// A timeline prints events as they come, for people or as JSON. Its methods may be
// called from any goroutine.
type timeline struct {
	out    io.Writer
	asJSON bool
	color  bool

	mu     sync.Mutex
	begun  clock.Instant
	events []event
}

func newTimeline(out io.Writer, asJSON bool) *timeline {
	t := &timeline{out: out, asJSON: asJSON, begun: clock.System().Now()}
	if f, ok := out.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		t.color = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return t
}

const (
	width = 96 // of a line, at most
	left  = 22 // of what stands before the text
)

// colors of events, as ANSI codes; the others are plain.
var colors = map[string]string{
	"act": "1", "acquired": "32", "released": "33", "lost": "31", "node_down": "31",
	"node_up": "32", "violation": "1;31", "failed": "1;31", "verdict": "1",
}

// say prints an event and notes it for the chart.
func (t *timeline) say(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.T = clock.System().Now().Sub(t.begun).Round(100 * time.Microsecond).Seconds()
	t.events = append(t.events, e)
	if t.asJSON {
		_ = json.NewEncoder(t.out).Encode(e) // nobody is left to be told
		return
	}
	if e.Event == "act" || e.Event == "verdict" {
		fmt.Fprintf(t.out, "\n%s\n", t.paint(e.Event, wrap(e.Text, width, "")))
		return
	}
	text := t.paint(e.Event, wrap(e.Text, width-left, strings.Repeat(" ", left)))
	fmt.Fprintf(t.out, "%6.2f s  %-10s  %s\n", e.T, e.Owner+e.Node, text)
}

func (t *timeline) paint(event, text string) string {
	if code := colors[event]; t.color && code != "" {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// wrap breaks text into lines of at most width runes, if its words allow it, all
// but the first indented.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(text) {
		w := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case n+1+w > width:
			b.WriteString("\n" + indent)
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += w
	}
	return b.String()
}

// chart prints who led when, and how many nodes were alive.
func (t *timeline) chart(cast []candidate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asJSON || len(t.events) == 0 {
		return
	}
	const columns = 80
	step := clock.System().Now().Sub(t.begun).Seconds() / columns
	column := func(e event) int { return min(int(e.T/step), columns-1) }
	row := func(name string, cells []rune) {
		fmt.Fprintf(t.out, "%-6s %s\n", name, strings.TrimRight(string(cells), " "))
	}
	fmt.Fprintf(t.out, "\n%s\n", t.paint("act", fmt.Sprintf("Who led when (a column is %.0f ms):", step*1000)))
	for _, c := range cast {
		cells := []rune(strings.Repeat(" ", columns))
		since := -1
		for _, e := range t.events {
			if e.Owner != c.name {
				continue
			}
			switch e.Event {
			case "acquired":
				since = column(e)
			case "lost", "released":
				for i := since; i >= 0 && i <= column(e); i++ {
					cells[i] = '█'
				}
				since = -1
			}
		}
		row(c.name, cells)
	}
	cells := []rune(strings.Repeat("·", columns))
	for _, e := range t.events {
		if e.Alive > 0 {
			cells[column(e)] = rune('0' + e.Alive%10)
		}
	}
	row("nodes", cells)
}
