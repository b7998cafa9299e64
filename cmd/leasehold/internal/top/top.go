// Package top shows nodes, names and queues in a terminal, and refreshes them. It draws with a
// dozen escape sequences that every terminal knows, and golang.org/x/term for the rest: that needs
// no more modules than the command has.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/list"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config says what to show, and where.
type Config struct {
	Supervisor *supervisor.Supervisor
	Finder     *list.Finder
	Every      time.Duration // between two pictures
	Out        io.Writer
}

// A Picture is the state that is shown at one moment.
type Picture struct {
	Time  time.Time
	Nodes []Node
	Names []supervisor.Holding // with the longest queue first
	More  bool                 // there are more names than were looked for
	Err   string               `json:",omitempty"` // why names may be missing
}

// A Node is the state of one node.
type Node struct {
	supervisor.NodeStatus
	Mean time.Duration // of the round trips since the picture before; the last one if there were none
	Up   time.Duration // of the server; 0 if not known
}

// MarshalJSON returns the fields of the status, and ours.
func (n Node) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	if err := say.JSON(&b, n.NodeStatus); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `%s,"Mean":%q,"Up":%q}`, strings.TrimSuffix(strings.TrimSpace(b.String()), "}"), n.Mean, n.Up), nil
}

// A viewer makes one picture after the other.
type viewer struct {
	cfg    Config
	before []supervisor.NodeStatus
	found  list.Names
}

// look asks the nodes about the names that are known, as list.Look does.
func (v *viewer) look(ctx context.Context, times int) Picture {
	names := list.InUse(list.Look(ctx, v.cfg.Supervisor, v.found.Names, times))
	slices.SortStableFunc(names, func(a, b supervisor.Holding) int { return b.Waiting - a.Waiting })
	p := Picture{Time: time.Now(), Names: names, More: v.found.More}
	if v.found.Err != nil {
		p.Err = plain.Line(v.found.Err.Error())
	}
	for i, n := range v.cfg.Supervisor.Nodes() {
		node := Node{NodeStatus: n, Mean: n.Latency}
		if i < len(v.before) {
			if trips := n.RoundTrips - v.before[i].RoundTrips; trips > 0 && n.RoundTrips > v.before[i].RoundTrips {
				node.Mean = (n.RoundTripTime - v.before[i].RoundTripTime) / time.Duration(trips)
			}
		}
		if i < len(v.found.Up) {
			node.Up = v.found.Up[i]
		}
		p.Nodes = append(p.Nodes, node)
	}
	v.before = v.cfg.Supervisor.Nodes()
	return p
}

// Once makes a single picture.
func Once(ctx context.Context, cfg Config) Picture {
	v := &viewer{cfg: cfg, found: cfg.Finder.Find(ctx)}
	return v.look(ctx, list.Patient)
}

// Lines returns the picture as lines of text.
func (p Picture) Lines() []string {
	var b strings.Builder
	enrolled, waiting := 0, 0
	for _, n := range p.Nodes {
		if n.Enrolled {
			enrolled++
		}
	}
	for _, h := range p.Names {
		waiting += h.Waiting
	}
	fmt.Fprintf(&b, "leasehold top  %s  %d of %d nodes  %d names  %d waiting\n\n", p.Time.Format(time.DateTime), enrolled, len(p.Nodes), len(p.Names), waiting)
	rows := []string{"NODE\tSTATE\tUP\tROUND TRIP\tCLOCK\tTRACKS\tMAX TTL"}
	var remarks []string
	for _, n := range p.Nodes {
		rows = append(rows, n.row())
		for _, remark := range n.remarks() {
			remarks = append(remarks, n.NodeStatus.Node+": "+plain.Line(remark))
		}
	}
	_ = say.Table(&b, rows...)
	for _, remark := range remarks {
		fmt.Fprintln(&b, "  "+remark)
	}
	b.WriteByte('\n')
	rows = []string{say.Columns}
	for _, h := range p.Names {
		rows = append(rows, say.Row(h, p.Time))
	}
	_ = say.Table(&b, rows...)
	if p.More {
		fmt.Fprintln(&b, "... and more")
	}
	if p.Err != "" {
		fmt.Fprintln(&b, p.Err)
	}
	if err := list.Unknown(p.Names); err != nil {
		fmt.Fprintln(&b, plain.Line(err.Error()))
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func (n Node) row() string {
	state, trip, clock, tracks, most, up := "up", "-", "-", "no", "-", "-"
	switch {
	case !n.Enrolled && n.Err == nil:
		state = "connecting"
	case !n.Enrolled:
		state = "DOWN"
	case n.Young > 0:
		state = "young " + say.Span(n.Young.Truncate(100*time.Millisecond)).String()
	case n.Err != nil:
		state = "refuses"
	}
	if n.Enrolled {
		trip, clock = say.Span(n.Mean).String(), say.Span(n.Offset).String()
		if n.Offset >= 0 {
			clock = "+" + clock
		}
		if n.Tracks {
			tracks = "yes"
		}
	}
	if n.MaxTTL > 0 {
		most = n.MaxTTL.String()
	}
	if n.Up > 0 {
		up = say.Span(n.Up).String()
	}
	return strings.Join([]string{n.NodeStatus.Node, state, up, trip, clock, tracks, most}, "\t")
}

// remarks returns what is wrong with a node.
func (n Node) remarks() (list []string) {
	if n.Err != nil {
		list = append(list, n.Err.Error())
	}
	if n.Disagrees != "" {
		list = append(list, n.Disagrees)
	}
	if n.NoInbox != nil {
		list = append(list, "waiters are not notified: "+n.NoInbox.Error())
	}
	if n.Enrolled && !n.Guarded {
		list = append(list, "a loss of its data cannot be noticed")
	}
	return list
}

// These are escape sequences.
const (
	enter = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	leave = "\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	clear = "\x1b[K" // to the end of the line
	below = "\x1b[J" // and of the screen
	bold  = "\x1b[1m"
	off   = "\x1b[0m"
)

// draw draws a picture over the one before. first is the line of the names with which it begins.
func draw(out io.Writer, lines []string, width, height, first int) error {
	const foot = "q quits; j and k, or the arrows, move"
	var b strings.Builder
	b.WriteString(home)
	room := max(1, height-1)
	first = min(first, max(0, len(lines)-room))
	for _, line := range lines[first:min(len(lines), first+room)] {
		line = cut(line, width)
		if strings.HasPrefix(line, "NODE ") || strings.HasPrefix(line, "NAME ") || strings.HasPrefix(line, "leasehold ") {
			line = bold + line + off
		}
		b.WriteString(line + clear + "\r\n")
	}
	b.WriteString(cut(foot, width) + clear + below)
	_, err := io.WriteString(out, b.String())
	return err
}

// cut returns the part that fits into a line.
func cut(line string, width int) string {
	runes := []rune(line)
	if len(runes) <= width {
		return line
	}
	return string(runes[:max(0, width-1)]) + "…"
}

// A Terminal is the screen for pictures, and the source of keys.
type Terminal struct {
	Keys io.Reader
	Size func() (width, height int)
}

var errQuit = errors.New("quit")

// Run draws pictures until q or ^C is typed, or ctx is done. It looks for names all the time, with
// pauses ten times as long as that takes, and a second at least. So it is no burden for servers
// with very many keys. Each picture asks about the known names.
func Run(ctx context.Context, cfg Config, t Terminal) error {
	if _, err := io.WriteString(cfg.Out, enter); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(cfg.Out, leave) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	keys := make(chan int)
	go func() {
		err := readKeys(ctx, t.Keys, keys)
		stop(err)
	}()
	found := make(chan list.Names)
	finding := make(chan struct{})
	go func() {
		defer close(finding)
		cfg.search(ctx, found)
	}()
	defer func() { <-finding }() // it uses the connections
	defer stop(nil)
	v := &viewer{cfg: cfg}
	first := 0
	next := time.NewTicker(cfg.Every)
	defer next.Stop()
	p := v.look(ctx, 1)
	for {
		width, height := t.Size()
		lines := p.Lines()
		first = max(0, min(first, len(lines)-max(1, height-1)))
		if err := draw(cfg.Out, lines, width, height, first); err != nil {
			return err
		}
		select {
		case by := <-keys:
			first += by
		case v.found = <-found:
			p = v.look(ctx, 1)
		case <-next.C:
			p = v.look(ctx, 1)
		case <-ctx.Done():
			if cause := context.Cause(ctx); cause != errQuit && cause != io.EOF {
				return cause
			}
			return nil
		}
	}
}

// search finds names, over and over.
func (cfg Config) search(ctx context.Context, found chan<- list.Names) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		begun := time.Now()
		n := cfg.Finder.Find(ctx)
		select {
		case found <- n:
		case <-ctx.Done():
			return
		}
		pause.Reset(max(time.Second, 10*time.Since(begun)))
	}
}

// moves are the keys that move, and by how many lines.
var moves = map[string]int{
	"k": -1, "\x1b[A": -1, "\x1b[5~": -10, // up
	"j": 1, "\x1b[B": 1, "\x1b[6~": 10, " ": 10, // down
}

// readKeys sends by how many lines the keys move, and returns errQuit for those that end it.
func readKeys(ctx context.Context, from io.Reader, keys chan<- int) error {
	buf := make([]byte, 64)
	for {
		n, err := from.Read(buf)
		typed := string(buf[:n])
		if strings.ContainsAny(typed, "qQ\x03\x04") { // ^C and ^D are no signals here
			return errQuit
		}
		by := 0
		for key, lines := range moves {
			by += lines * strings.Count(typed, key)
		}
		if by != 0 {
			select {
			case keys <- by:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}
