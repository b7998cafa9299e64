package core

import "math/bits"

// MaxNodes is how many nodes a deployment has at most: a set of nodes is a word.
const MaxNodes = 64

// A nodeSet is a set of nodes, by their index.
type nodeSet uint64

func (s nodeSet) has(i int) bool { return s&(1<<i) != 0 }

func (s *nodeSet) add(i int) { *s |= 1 << i }

func (s *nodeSet) del(i int) { *s &^= 1 << i }

func (s nodeSet) len() int { return bits.OnesCount64(uint64(s)) }

// all returns the set of nodes 0 to n-1.
func all(n int) nodeSet { return ^nodeSet(0) >> (MaxNodes - n) }
