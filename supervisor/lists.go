package supervisor

import (
	"fmt"
	"slices"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A List says in which of the lists of a configuration a node is. Without Config.Former all are in
// ListNodes.
type List uint8

const (
	ListNodes  List = iota // in Config.Nodes alone
	ListFormer             // in Config.Former alone: it is being left
	ListBoth               // in both: it stays
)

// listLeft is of a node that is in no list any more.
const listLeft List = 255

var listWords = plain.Enum{Package: "supervisor", Name: "List", Words: []string{
	ListNodes:  "nodes",
	ListFormer: "former",
	ListBoth:   "both",
}}

// String returns the list in a word, or its number if it has none: "List(17)".
func (l List) String() string { return listWords.Text(uint8(l)) }

// MarshalText returns what String returns.
func (l List) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText sets the list from what MarshalText returns.
func (l *List) UnmarshalText(text []byte) error {
	n, err := listWords.Parse(string(text))
	if err == nil {
		*l = List(n)
	}
	return err
}

// has reports whether a node of this sort is in one of the two lists.
func (l List) has(list List) bool { return l == list || l == ListBoth }

// checkLists returns an error for every rule that the two lists of nodes break.
func checkLists(nodes, former []node.Conn) (broken []error) {
	want := func(ok bool, format string, args ...any) {
		if !ok {
			broken = append(broken, fmt.Errorf(format, args...))
		}
	}
	for _, list := range []struct {
		name, bound string
		conns       []node.Conn
	}{{"Nodes", "1 to", nodes}, {"Former", "at most", former}} {
		want(len(list.conns) <= core.MaxNodes, "%s: %d given: want %s %d", list.name, len(list.conns), list.bound, core.MaxNodes)
		for i, n := range list.conns {
			if err := n.Err(); err != nil {
				want(false, "%s[%d]: %w", list.name, i, err)
				continue
			}
			for j := range i {
				want(!n.Same(list.conns[j]), "%s[%d] is the same node as %s[%d]: %v: want each node once, or its vote would count twice", list.name, i, list.name, j, n)
			}
		}
	}
	if len(former) == 0 || broken != nil {
		return broken
	}
	l := newLists(nodes, former)
	want(len(nodes) > 0, "Nodes: none given with %d in Former: want the nodes that take their place", len(former))
	want(len(l.conns) <= core.MaxNodes, "Nodes and Former: %d nodes together: want at most %d", len(l.conns), core.MaxNodes)
	want(slices.ContainsFunc(l.in, func(in List) bool { return in != ListBoth }), "Former: the same %d nodes as Nodes: want it empty if no node is changed", len(former))
	return broken
}

// lists are the nodes of a supervisor. The core and the actors know a node by its index in them.
type lists struct {
	conns  []node.Conn
	labels []string // of the nodes, in errors and logs
	in     []List

	quorum, formerQuorum int // of Config.Nodes, and of Config.Former; the latter is 0 without
}

// newLists returns the nodes of both lists, each once: first those of Nodes, and then those that are
// in Former alone.
func newLists(nodes, former []node.Conn) *lists {
	l := &lists{conns: slices.Clone(nodes), in: make([]List, len(nodes))}
	for _, conn := range former {
		if i := slices.IndexFunc(nodes, conn.Same); i >= 0 {
			l.in[i] = ListBoth
			continue
		}
		l.conns, l.in = append(l.conns, conn), append(l.in, ListFormer)
	}
	for _, conn := range l.conns {
		l.labels = append(l.labels, conn.String())
	}
	return l
}

// all returns the indices of all nodes.
func (l *lists) all() (nodes []int) {
	for i := range l.conns {
		nodes = append(nodes, i)
	}
	return nodes
}

// of returns the indices of the nodes of one list.
func (l *lists) of(list List) (nodes []int) {
	for i, in := range l.in {
		if in.has(list) {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// String says how many nodes there are.
func (l *lists) String() string {
	nodes := len(l.of(ListNodes))
	if former := len(l.of(ListFormer)); former > 0 {
		return fmt.Sprintf("%d nodes and %d former ones", nodes, former)
	}
	return fmt.Sprintf("%d nodes", nodes)
}

// label returns a node's address, as errors and logs have it.
func (s *Supervisor) label(i int) string { return s.lists.Load().labels[i] }

// set tells the core which nodes there are.
func (l *lists) set(s *core.Settings) {
	s.Nodes = len(l.conns)
	if slices.ContainsFunc(l.in, func(in List) bool { return in != ListNodes }) {
		s.Present, s.Former = l.of(ListNodes), l.of(ListFormer)
	}
}
