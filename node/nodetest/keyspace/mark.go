package keyspace

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// This file is what the scripts make of a node's marker, as pure functions. A simulation
// that has servers of its own plays them by these, and the conformance table holds
// nodetest, which uses them too, to real servers.

// A Marked is what a marker says.
type Marked = script.Mark

// ReadMark reads a marker that [Turn.Enrol] has answered. It returns false if it has another form.
func ReadMark(marker string) (Marked, bool) { return script.ReadMark(marker) }

// markerParts are those of a marker: the incarnation, since when, the largest MaxTTL, and what
// stands after it.
var markerParts = regexp.MustCompile(`^(\S+) ([0-9]+)(?: ?([0-9]*)|( [0-9]+)( [0-9]+(?: [123] \S+)?))$`)

// Mark returns what the enrolment leaves as the marker of a node, and the life that it
// tells, which is the incarnation and since when. The marker before is "" if there was
// none. What it says of a floor and of a change stays. maxTTL is the client's in ms, now the node's TIME in µs.
func Mark(before, incarnation string, maxTTL, now int64) (marker, life string) {
	run, since, most, more := "", "", "", ""
	if parts := markerParts.FindStringSubmatch(before); parts != nil {
		run, since, most, more = parts[1], parts[2], parts[3], parts[5]
		if more != "" {
			most = parts[4][1:]
		}
	}
	if run != incarnation {
		since = strconv.FormatInt(now, 10)
	}
	if largest, _ := strconv.ParseInt(most, 10, 64); largest < maxTTL {
		most = strconv.FormatInt(maxTTL, 10)
	} else if most == "" {
		most = "0"
	}
	life = incarnation + " " + since
	return life + " " + most + more, life
}

// MayGrow reports whether a Sign writes down that a life is grown: only of the present one.
func MayGrow(marker, life string) bool { return life != "" && strings.HasPrefix(marker, life+" ") }
