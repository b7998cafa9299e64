package doctor

import (
	"fmt"
	"slices"
)

// A Level is how bad a finding is.
type Level uint8

const (
	Fine    Level = iota // nothing is wrong
	Note                 // it is good to know, and nothing need be done
	Warning              // leases work, but worse than they could, or not for ever
	Broken               // a node gives no lease, or one may have two holders
)

var levels = []string{"fine", "note", "warning", "broken"}

// String returns the level in a word.
func (l Level) String() string { return levels[l] }

// MarshalText returns what String returns.
func (l Level) MarshalText() ([]byte, error) { return []byte(levels[l]), nil }

// These are the names of the checks.
const (
	Reachable   = "reachable"        // a connection, and an answer in time
	Login       = "login"            // user and password
	Version     = "version"          // of a server that speaks Redis 6.2
	Role        = "role"             // a primary
	ClusterMode = "cluster-mode"     // is off
	SameServer  = "same-server"      // each server once
	Rights      = "rights"           // each command, key and channel that is needed
	Eviction    = "eviction"         // no key is evicted
	Memory      = "memory"           // there is some left
	Clients     = "room-for-clients" // some more may connect
	Persistence = "persistence"      // does not keep it from writing
	Writes      = "writes"           // nothing else does, either
	ClockOffset = "clock-offset"     // the nodes' clocks agree
	ClockRate   = "clock-rate"       // and run as ours
	RoundTrip   = "round-trip"       // fits into the times of the configuration
	Agreement   = "agreement"        // others have the same nodes
	LongestTTL  = "max-ttl"          // others have none that is longer than our cap
	Number      = "number-of-nodes"  // is odd, and more than one
	Enrolment   = "enrolment"        // the library accepts the node
	Guard       = "guard"            // the loss of its data is noticed
	Young       = "young"            // it is old enough to be asked for a lease
	Tracking    = "tracking"         // changed keys are told at once
	Inbox       = "inbox"            // waiters are told at once
	Acquisition = "acquisition"      // a lease is to be had
	HandOver    = "hand-over"        // and goes to the waiter
)

// A Finding is something worth saying.
type Finding struct {
	Check  string // the name of what was looked at
	Level  Level
	Node   string `json:",omitempty"` // empty if it is about all of them
	Text   string // what was found
	Advice string `json:",omitempty"` // what to do
}

// found adds a finding about a node, or about all if there is none.
func (d *doctor) found(p *patient, check string, level Level, advice, format string, args ...any) {
	f := Finding{Check: check, Level: level, Text: fmt.Sprintf(format, args...), Advice: advice}
	if p != nil {
		f.Node = p.facts.Node
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Findings = append(d.report.Findings, f)
	d.report.Level = max(d.report.Level, level)
	if p != nil && level == Broken {
		p.broken = append(p.broken, check)
	}
}

// sort puts the worst findings first, and those of one level in the order of the nodes. Findings
// about all nodes come last.
func (d *doctor) sort() {
	at := make(map[string]int)
	for i, p := range d.patients {
		at[p.facts.Node] = i
	}
	at[""] = len(d.patients)
	slices.SortStableFunc(d.report.Findings, func(a, b Finding) int {
		if byLevel := int(b.Level) - int(a.Level); byLevel != 0 {
			return byLevel
		}
		return at[a.Node] - at[b.Node]
	})
}
