// Package keyspace is what a Redis server keeps and what leasehold's scripts make of it,
// without a network. Package nodetest serves it by RESP, and the simulation of package
// supervisor plays histories on it. The conformance table keeps both equal to real
// servers.
//
// A [Space] is the keys of one server. It iterates in the order of their names, so equal
// spaces behave alike, and [Space.Clone] costs nothing until one of the two is written to.
// A [Turn] is one command or script at work on it.
package keyspace

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
)

// A Space is the keys of one server. Its zero value is empty. Copy it by [Space.Clone]
// alone. Neither a space nor its clones may be used by two goroutines at once.
type Space struct {
	keys   []*entry // by name; what an entry holds is changed only if it is fresh
	shared bool     // a clone has the same keys
	fresh  *entry   // made since the last clone, so no other space has it
	last   int      // where a key was found last: a command often comes back to one
}

// An entry is one key. A sorted set is never empty.
type entry struct {
	name string
	text string
	set  []Member // of a sorted set: by score, then by name; else nil
	ends int64    // the last millisecond of the server's clock in which it is there
}

// Never is when a key ends that does not expire.
const Never = math.MaxInt64

// Bad is a number of milliseconds that could not be read. A command that is given it
// fails, as it does on a server.
const Bad = math.MinInt64

// Clone returns a space that is equal to s, and independent of it.
func (s *Space) Clone() Space {
	s.shared, s.fresh = true, nil
	return *s
}

// find returns where a key is, or belongs.
func (s *Space) find(name string) (at int, found bool) {
	if s.last < len(s.keys) && s.keys[s.last].name == name {
		return s.last, true
	}
	low, high := 0, len(s.keys)
	for low < high {
		at := int(uint(low+high) >> 1)
		switch c := strings.Compare(s.keys[at].name, name); {
		case c == 0:
			s.last = at
			return at, true
		case c < 0:
			low = at + 1
		default:
			high = at
		}
	}
	return low, false
}

// own gives the space keys of its own, before they are changed.
func (s *Space) own() {
	if s.shared {
		s.keys = append(make([]*entry, 0, len(s.keys)+1), s.keys...)
		s.shared = false
	}
}

func (s *Space) put(e *entry) {
	at, found := s.find(e.name)
	s.fresh = e
	s.own()
	if found {
		s.keys[at] = e
	} else {
		s.keys = slices.Insert(s.keys, at, e)
	}
}

func (s *Space) remove(at int) {
	s.own()
	s.keys = slices.Delete(s.keys, at, at+1)
}

// Look returns the text that a key holds, and the last millisecond in which it is there.
// It neither changes the space nor asks whether that is past.
func (s *Space) Look(name string) (text string, ends int64, found bool) {
	at, found := s.find(name)
	if !found {
		return "", 0, false
	}
	return s.keys[at].text, s.keys[at].ends, true
}

// Append appends an encoding of what is there at an instant of the server's clock. Two
// spaces have the same encoding if and only if no command can tell them apart then.
func (s *Space) Append(to []byte, now time.Duration) []byte {
	text := func(text string) { to = append(binary.AppendUvarint(to, uint64(len(text))), text...) }
	for _, e := range s.keys {
		if e.gone(now) {
			continue
		}
		text(e.name)
		to = binary.AppendVarint(to, e.ends)
		to = binary.AppendUvarint(to, uint64(len(e.set)))
		if e.set == nil {
			text(e.text)
		}
		for _, m := range e.set {
			to = binary.BigEndian.AppendUint64(to, math.Float64bits(m.Score))
			text(m.Name)
		}
	}
	return to
}

// gone reports whether a key has expired. Redis compares whole milliseconds.
func (e *entry) gone(now time.Duration) bool { return now.Milliseconds() > e.ends }

// A Server is what commands need besides the keys.
type Server interface {
	// Publish sends a message to all who have subscribed to a channel, and returns to how
	// many connections it is on its way.
	Publish(channel, message string) int
	// Reads is called before a command reads a key, be it there or not.
	Reads(key string)
	// Changes is called before a command changes a key.
	Changes(key string)
	// Expires is called after an expired key was met and removed.
	Expires(key string)
}

// A Turn is one command or script at work. Nothing else happens to its space, and its
// clock stands still.
type Turn struct {
	*Space
	Server Server
	Now    time.Duration // of the server's clock, since the Unix epoch

	Looked   int // entries of queues that the call has looked at
	MaxLooks int // how many it may look at; 0 for script.MaxLooks
}

func (t *Turn) ms() int64 { return t.Now.Milliseconds() }

// lookup returns a key, or nil.
func (t *Turn) lookup(key string) *entry {
	at, found := t.find(key)
	if !found {
		return nil
	}
	e := t.keys[at]
	if e.gone(t.Now) {
		t.remove(at)
		t.Server.Expires(key)
		return nil
	}
	return e
}

// read is lookup by a command that only reads.
func (t *Turn) read(key string) *entry {
	t.Server.Reads(key)
	return t.lookup(key)
}

// Names returns the names of all keys, sorted.
func (t *Turn) Names() []string {
	var names []string
	for _, e := range slices.Clone(t.keys) {
		if t.lookup(e.name) != nil {
			names = append(names, e.name)
		}
	}
	return names
}
