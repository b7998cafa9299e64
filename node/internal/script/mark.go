package script

import (
	"strconv"
	"strings"
)

// A Mark is what the marker of a node says: the life, a space, the largest MaxTTL; and after more
// spaces the floor, if there is one or a change, and the change, if there is one.
type Mark struct {
	Life   string // the incarnation, a space, and the node's time in µs since when it counts as young
	MaxTTL int64  // the largest in ms that any client has raised it to
	Floor  uint64 // no fence that is proposed may be as small; less than 2^53
	Change string // how far a change of the nodes has come, and of which; "" if there is none
}

// String returns the marker.
func (m Mark) String() string {
	text := m.Life + " " + strconv.FormatInt(m.MaxTTL, 10)
	if m.Floor != 0 || m.Change != "" {
		text += " " + decimal(m.Floor)
	}
	if m.Change != "" {
		text += " " + m.Change
	}
	return text
}

// ReadMark reads a marker that an Enrol has answered. It returns false if it has another form.
// Whether the change has one is not its matter.
func ReadMark(marker string) (m Mark, ok bool) {
	words := strings.SplitN(marker, " ", 5)
	if len(words) < 3 {
		return m, false
	}
	m.Life = words[0] + " " + words[1]
	since, err := strconv.ParseInt(words[1], 10, 64)
	most, err2 := strconv.ParseInt(words[2], 10, 64)
	if err != nil || err2 != nil || since < 0 || most < 0 || words[0] == "" {
		return m, false
	}
	m.MaxTTL = most
	if len(words) > 3 {
		if m.Floor, err = strconv.ParseUint(words[3], 10, 64); err != nil || m.Floor >= 1<<53 {
			return m, false
		}
	}
	if len(words) > 4 {
		m.Change = words[4]
		return m, m.Change != ""
	}
	return m, true
}
