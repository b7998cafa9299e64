package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A report is what was known at one moment. It does not change. Its exported fields are status.json.
type report struct {
	Title   string
	Time    time.Time
	Level   level
	Summary string // what the level is about, without numbers that change all the time
	Detail  string `json:",omitempty"` // what follows from it
	Why     string `json:",omitempty"` // what Healthy says

	Up, Need int // nodes that are enrolled, and how many are a quorum
	Nodes    []nodeReport
	Held     int           // leases, of which Leases has the first
	Leases   []leaseReport // in the order in which they were acquired
	Names    []name        `json:",omitempty"` // to watch
	Events   []event       `json:",omitempty"` // the latest first
	Counts   counts

	at       clock.Instant
	namesAt  clock.Instant
	Recorded bool `json:"-"` // there is a Recorder
	main     func() []byte
}

// A level is how bad things are.
type level string

const (
	levelOK      level = "ok"
	levelWarning level = "warning" // it works, and something is to be mended
	levelBad     level = "bad"     // it does not work
)

// A nodeReport is how one node is.
type nodeReport struct {
	State   nodeState
	Since   time.Time // up or not up; the page may have come later than that began
	Remarks []string  `json:",omitempty"` // what is wrong
	Status  supervisor.NodeStatus
}

// A nodeState is a NodeStatus in a word.
type nodeState string

const (
	nodeUp         nodeState = "up"
	nodeYoung      nodeState = "young"      // enrolled, and not asked for a new lease
	nodeRefuses    nodeState = "refuses"    // enrolled, and has refused to renew or to restore a lease
	nodeConnecting nodeState = "connecting" // not enrolled, and no reason is known yet
	nodeDown       nodeState = "down"
)

// A leaseReport is one lease that is held here.
type leaseReport struct {
	Name, Owner string
	Fence       uint64
	Since       time.Time // by the nodes' clocks
	Left        span      // how long the nodes surely keep it if it is never renewed again
	Longest     span      // that was left of it at any time
}

// A name is one to watch.
type name struct {
	Asked    string // as in Options.Watch
	Answered bool   // the nodes were asked
	Here     bool   // this process holds it
	Holding  supervisor.Holding
}

// Counts are those of supervisor.Stats that the page shows.
type counts struct {
	Acquired, Failed, Released, Lost, Waits, Untold uint64
	Waiting, Owed                                   int
	Busy, Up, Longest, LeastMargin                  span
}

// A span is a duration that is "1.5s" in JSON, and not a number of nanoseconds.
type span time.Duration

func (d span) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// draw makes a report of what is known. Only look calls it.
func (p *Page) draw(now time.Time, unhealthy error, names []name, namesAt clock.Instant) *report {
	st := p.stats
	r := &report{
		Title: p.opt.Title, Time: now.Truncate(time.Millisecond), Why: plain.Line(plain.ErrorText(unhealthy)),
		Need: len(p.nodes)/2 + 1, Names: names, Recorded: p.opt.Events != nil, at: p.clock.Now(), namesAt: namesAt,
		Nodes: make([]nodeReport, len(p.nodes)), Leases: []leaseReport{}, Held: st.Held,
		Counts: counts{
			Acquired: st.Acquired, Failed: st.Failed, Released: st.Released, Lost: st.Lost, Waits: st.Waits, Untold: st.Untold,
			Waiting: st.Waiting, Owed: st.Owed,
			Busy: span(st.Busy), Up: span(st.Up), Longest: span(st.Longest), LeastMargin: span(st.LeastMargin),
		},
	}
	for i, n := range p.nodes {
		r.Nodes[i] = nodeReport{State: stateOf(n), Since: p.since[i], Remarks: remarks(n), Status: n}
		if n.Enrolled {
			r.Up++
		}
	}
	r.Leases = p.drawLeases()
	if r.Recorded {
		r.Events = p.opt.Events.last()
	}
	r.judge(unhealthy)
	r.main = sync.OnceValue(func() []byte { return render("main", r) })
	return r
}

// drawLeases reports the leases that are held still.
func (p *Page) drawLeases() []leaseReport {
	list := make([]leaseReport, 0, len(p.leases))
	longest := make(map[leaseKey]time.Duration, len(p.leases)) // without those that are over
	for _, l := range p.leases {
		key, left := leaseKey{l.Name(), l.Fence()}, l.Remaining()
		if left == 0 { // it is over; Valid would be the first to end it
			continue
		}
		longest[key] = max(left, p.longest[key])
		list = append(list, leaseReport{
			Name: l.Name(), Owner: l.Owner(), Fence: l.Fence(), Since: time.UnixMicro(int64(l.Fence())).UTC(),
			Left: span(left), Longest: span(longest[key]),
		})
	}
	p.longest = longest
	return list
}

func stateOf(n supervisor.NodeStatus) nodeState {
	switch {
	case !n.Enrolled && n.Err == nil:
		return nodeConnecting
	case !n.Enrolled:
		return nodeDown
	case n.Err != nil:
		return nodeRefuses
	case n.Young > 0:
		return nodeYoung
	}
	return nodeUp
}

// remarks returns what is wrong with a node.
func remarks(n supervisor.NodeStatus) (list []string) {
	if n.Err != nil {
		list = append(list, plain.Line(n.Err.Error()))
	}
	if n.Disagrees != "" {
		list = append(list, plain.Line(n.Disagrees))
	}
	if n.NoInbox != nil {
		list = append(list, "waiters are not told at once: "+plain.Line(n.NoInbox.Error()))
	}
	if n.Enrolled && !n.Guarded {
		list = append(list, "the loss of its data is not noticed")
	}
	return list
}

// judge puts the whole into a few words.
func (r *report) judge(unhealthy error) {
	grown, wrong := 0, 0
	for _, n := range r.Nodes {
		if n.Status.Enrolled && n.Status.Young == 0 {
			grown++
		}
		if n.State == nodeRefuses || n.Status.Disagrees != "" {
			wrong++
		}
	}
	all := len(r.Nodes)
	up := fmt.Sprintf("%d of %d nodes %s up, and %d %s needed", r.Up, all, are(r.Up), r.Need, are(r.Need))
	down, spare := all-r.Up, r.Up-r.Need
	switch {
	case errors.Is(unhealthy, supervisor.ErrClosed):
		r.Level, r.Summary, r.Detail = levelBad, "The supervisor was closed", "Nothing is held, and nothing is acquired any more."
	case !isAlive(unhealthy):
		r.Level, r.Summary, r.Detail = levelBad, "The supervisor does not work in time", sentence(r.Why)+" What is shown below may be old."
	case unhealthy != nil:
		r.Level, r.Summary, r.Detail = levelBad, "Too few nodes: "+up, "Nothing can be acquired or renewed."
		if left := r.mostLeft(); left > 0 {
			r.Detail += " Every lease held here ends within " + showSpan(span(left)) + " unless nodes come back."
		}
	case grown < r.Need:
		r.Level, r.Summary = levelWarning, "Nothing can be acquired yet: too many nodes are young"
		r.Detail = "Leases that are held are renewed. A node is young for a while after it was started or has lost its data."
	case down > 0:
		r.Level, r.Summary = levelWarning, up
		r.Detail = "Leases are kept. If one more node fails, they end."
		if spare > 0 {
			r.Detail = fmt.Sprintf("Leases are kept. They end if %d more nodes fail.", spare+1)
		}
	case wrong > 0:
		r.Level, r.Summary, r.Detail = levelWarning, up, "Something is to be mended: see the remarks at the nodes."
	default:
		r.Level, r.Summary = levelOK, "All is well: "+up
	}
}

// mostLeft returns how long the last of the leases shown lives at most.
func (r *report) mostLeft() (most time.Duration) {
	for _, l := range r.Leases {
		most = max(most, time.Duration(l.Left))
	}
	return most
}

// isAlive reports whether the supervisor's goroutine does its work, by what Healthy says: that has
// nothing against it but that too few nodes are enrolled.
func isAlive(unhealthy error) bool {
	if unhealthy == nil {
		return true
	}
	if several, is := unhealthy.(interface{ Unwrap() []error }); is {
		for _, err := range several.Unwrap() {
			if !isAlive(err) {
				return false
			}
		}
		return true
	}
	if inner := errors.Unwrap(unhealthy); inner != nil {
		return isAlive(inner)
	}
	return unhealthy == supervisor.ErrNoQuorum
}

// json returns the report as JSON.
func (r *report) json() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "\t")
	return append(text, '\n'), err
}

// sentence ends a text with a full stop.
func sentence(text string) string {
	return strings.TrimSuffix(text, ".") + "."
}
