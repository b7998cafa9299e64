package node

import "strings"

// An Entry is what a client leaves on each node that it asks: which electorates it was told, and on
// which of them its leases rest. It is a lease on asking: see [Sign].
type Entry struct {
	// Former and Present are the two electorates that the client was told. A client that was told
	// one has that as Present, and no nodes in Former.
	Former, Present Electorate
	// Modes are those of the leases of a client that was told both. Who was told one has only leases
	// in that.
	Modes Modes
}

// Modes is a set of what leases rest on.
type Modes uint8

const (
	InFormer  Modes = 1 << iota // a quorum of the former electorate alone
	InBoth                      // one of each
	InPresent                   // one of the present electorate alone
)

// modes are the letters of each, in this order.
var modes = []struct {
	is     Modes
	letter string
}{{InFormer, "f"}, {InBoth, "b"}, {InPresent, "p"}}

// String returns a letter for each mode, or "" for none.
func (m Modes) String() string {
	text := ""
	for _, mode := range modes {
		if m&mode.is != 0 {
			text += mode.letter
		}
	}
	return text
}

// bothMark begins the text of an entry with two electorates. Clients of an earlier state read only
// a text that begins with the number of nodes.
const bothMark = ">"

// String returns the text that is left. If the client was told one electorate it is the text of
// that. Otherwise it is [Change.Pair] after a mark, and then the modes, if there are any.
func (e Entry) String() string {
	if e.Former.Nodes == 0 {
		return e.Present.String()
	}
	text := bothMark + Change{Former: e.Former, Present: e.Present}.Pair()
	if e.Modes != 0 {
		text += " " + e.Modes.String()
	}
	return text
}

// ParseEntry reads the text of an entry. It returns false if the text has another form.
func ParseEntry(text string) (Entry, bool) {
	pair, both := strings.CutPrefix(text, bothMark)
	if !both {
		e, ok := ParseElectorate(text)
		return Entry{Present: e}, ok
	}
	pair, letters, _ := strings.Cut(pair, " ")
	c, ok := ParsePair(pair)
	e := Entry{Former: c.Former, Present: c.Present}
	for _, mode := range modes {
		if strings.Contains(letters, mode.letter) {
			e.Modes |= mode.is
		}
	}
	return e, ok && e.String() == text
}
