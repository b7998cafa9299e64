package node

import (
	"slices"
	"strconv"
	"strings"
)

// TokenRandom is how many bytes of a token follow its owner and a slash: 128 random bits
// in base32, and a little.
const TokenRandom = 26

// OwnerOf returns the owner that a value of a key names: "" if it is a reservation, or the
// value of another library.
func OwnerOf(value string) string {
	if IsReservation(value) {
		return ""
	}
	i := strings.LastIndexByte(value, '/')
	if i < 0 || len(value)-i-1 != TokenRandom {
		return ""
	}
	return value[:i]
}

// IsReservation reports whether a key with this value is kept for a waiter that has yet to
// claim it: nobody holds the name by it.
func IsReservation(value string) bool { return strings.HasPrefix(value, ReservationMark) }

// An Electorate is the nodes that a client uses, as its fingerprint tells.
type Electorate struct {
	Nodes      int
	Identities []string // of those that were met, each once, in order
}

// NewElectorate returns that of n nodes, some of whose identities are known. It keeps ids.
func NewElectorate(n int, ids []string) Electorate {
	slices.Sort(ids)
	return Electorate{Nodes: n, Identities: slices.Compact(ids)}
}

// String returns the text of a fingerprint.
func (e Electorate) String() string {
	return strconv.Itoa(e.Nodes) + " " + strings.Join(e.Identities, ",")
}

// ParseElectorate reads the text of a fingerprint. It reports false if that is of another
// form.
func ParseElectorate(text string) (Electorate, bool) {
	count, list, _ := strings.Cut(text, " ")
	n, err := strconv.Atoi(count)
	e := Electorate{Nodes: n}
	if list != "" {
		e.Identities = strings.Split(list, ",")
	}
	return e, err == nil && n > 0
}
