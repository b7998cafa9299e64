package node

import (
	"slices"
	"strconv"
	"strings"
)

// A Stage says how far a change from one electorate to another has come. A node keeps it with its
// marker, and it only grows. It decides whose votes of that node count: clients that were told the
// former electorate alone, the present one alone, or both.
type Stage uint8

const (
	StageNone   Stage = iota // no change: all count
	StageBegun               // former alone and both
	StageClosed              // both
	StageOpened              // both and present alone
)

// String returns the stage in a word.
func (s Stage) String() string {
	switch s {
	case StageNone:
		return "none"
	case StageBegun:
		return "begun"
	case StageClosed:
		return "closed"
	case StageOpened:
		return "opened"
	}
	return "no stage"
}

// A Change is one change of the nodes: from which electorate to which, and how far it has come. Its
// zero value is no change.
type Change struct {
	Former, Present Electorate
	Stage           Stage
}

const (
	maxNodes    = 64 // of an electorate
	maxIdentity = 32 // bytes of an identity that a text tells
)

// What stands before an identity in the text of a change.
const (
	inFormer  = '-'
	inPresent = '+'
	inBoth    = '='
)

// String returns the text that a node keeps with its marker: the stage, a space, and [Change.Pair].
// It is "" if there is no change.
func (c Change) String() string {
	if c.Stage == StageNone {
		return ""
	}
	return strconv.Itoa(int(c.Stage)) + " " + c.Pair()
}

// Pair returns the text of the two electorates, without a space: how many nodes each has, and each
// identity once, with a mark that says in which of the two it is. An identity that is longer than
// those that we give is left out, as if its node had not been met. So the text has at most 4,357
// bytes.
func (c Change) Pair() string {
	text := strconv.Itoa(c.Former.Nodes) + ">" + strconv.Itoa(c.Present.Nodes) + ":"
	for i, of := range c.roles() {
		if i > 0 {
			text += ","
		}
		text += string(of.mark) + of.identity
	}
	return text
}

// A role says in which electorates of a change a node is.
type role struct {
	identity string
	mark     byte
}

// roles returns the identities of both electorates, in order.
func (c Change) roles() []role {
	var all []role
	for _, id := range c.Former.Identities {
		all = append(all, role{id, inFormer})
	}
	for _, id := range c.Present.Identities {
		if i := slices.IndexFunc(all, func(r role) bool { return r.identity == id }); i >= 0 {
			all[i].mark = inBoth
		} else {
			all = append(all, role{id, inPresent})
		}
	}
	all = slices.DeleteFunc(all, func(r role) bool { return len(r.identity) > maxIdentity || !isIdentity(r.identity) })
	slices.SortFunc(all, func(a, b role) int { return strings.Compare(a.identity, b.identity) })
	return all
}

// ParseChange reads the text of a change. It returns false if the text has another form.
func ParseChange(text string) (Change, bool) {
	if text == "" {
		return Change{}, true
	}
	stage, pair, _ := strings.Cut(text, " ")
	c, ok := ParsePair(pair)
	if !ok || len(stage) != 1 || stage[0] < '1' || stage[0] > '3' {
		return Change{}, false
	}
	c.Stage = Stage(stage[0] - '0')
	return c, true
}

// ParsePair reads the text of two electorates, see [Change.Pair]. It returns false if the text has
// another form. The Stage of the change is StageNone.
func ParsePair(text string) (Change, bool) {
	counts, list, told := strings.Cut(text, ":")
	former, present, both := strings.Cut(counts, ">")
	var c Change
	c.Former.Nodes, c.Present.Nodes = nodeCount(former), nodeCount(present)
	if !told || !both || c.Former.Nodes == 0 || c.Present.Nodes == 0 {
		return Change{}, false
	}
	for list != "" && len(c.Former.Identities)+len(c.Present.Identities) <= 2*maxNodes {
		var one string
		var more bool
		one, list, more = strings.Cut(list, ",")
		id := one[min(1, len(one)):]
		if !isIdentity(id) || len(id) > maxIdentity || more && list == "" {
			return Change{}, false
		}
		switch one[0] {
		case inFormer:
			c.Former.Identities = append(c.Former.Identities, id)
		case inPresent:
			c.Present.Identities = append(c.Present.Identities, id)
		case inBoth:
			c.Former.Identities = append(c.Former.Identities, id)
			c.Present.Identities = append(c.Present.Identities, id)
		default:
			return Change{}, false
		}
	}
	fits := len(c.Former.Identities) <= c.Former.Nodes && len(c.Present.Identities) <= c.Present.Nodes
	// Only the text that is written is read: two clients must not keep on correcting each other.
	if !fits || c.Pair() != text {
		return Change{}, false
	}
	return c, true
}

// nodeCount reads how many nodes an electorate has. It returns 0 if the text says no such number.
func nodeCount(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxNodes {
		return 0
	}
	return n
}

// SamePair reports whether two changes are of the same pair of electorates, as far as their
// identities are known: a process does not know those of nodes that it has not met. Electorates
// that do not fit into one of their size are not the same. Neither are two changes if a node leaves
// in one of them, and stays or comes in the other.
func (c Change) SamePair(d Change) bool {
	ours, theirs := c.roles(), d.roles()
	for _, r := range theirs {
		i := slices.IndexFunc(ours, func(o role) bool { return o.identity == r.identity })
		if i >= 0 && ours[i].mark != r.mark {
			return false
		}
	}
	_, former := c.Former.with(d.Former)
	_, present := c.Present.with(d.Present)
	return former && present
}

// with returns the electorate with the identities that are known of either, and whether all of them
// can be of one electorate.
func (e Electorate) with(f Electorate) (Electorate, bool) {
	both := NewElectorate(e.Nodes, slices.Concat(e.Identities, f.Identities))
	return both, e.Nodes == f.Nodes && len(both.Identities) <= e.Nodes
}

// Advanced returns the change that a node keeps after it was told another one. The stage only grows,
// and what either knows of the nodes is known. It returns false, and the change as it is, if the
// node is told of another pair than the one that it keeps, and the change of that is not opened.
func (c Change) Advanced(told Change) (Change, bool) {
	switch {
	case told.Stage == StageNone:
		return c, true
	case c.Stage == StageNone:
		return told, true
	case !c.SamePair(told):
		if c.Stage != StageOpened {
			return c, false
		}
		return told, true
	}
	c.Former, _ = c.Former.with(told.Former)
	c.Present, _ = c.Present.with(told.Present)
	c.Stage = max(c.Stage, told.Stage)
	return c, true
}

// Forgotten returns what a node keeps after it was told to forget a change. That can be undone as
// long as it is begun only. It returns false, and the change as it is, if it has come further, or
// is another one.
func (c Change) Forgotten(told Change) (Change, bool) {
	switch {
	case c.Stage == StageNone:
		return c, true
	case c.Stage != StageBegun || !c.SamePair(told):
		return c, false
	}
	return Change{}, true
}
