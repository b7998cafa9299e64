package main

import (
	"errors"
	"sync"
)

// errStale is the store's answer to a holder that was replaced.
var errStale = errors.New("store: a larger fence was seen: this holder was replaced")

// A store is a toy of a database that checks fences. A real one keeps the mark
// next to the data and does the steps of add in one transaction.
type store struct {
	mu    sync.Mutex
	mark  uint64 // the largest fence seen
	jobs  int
	total int
}

// add is a read-modify-write. The mark is advanced before anything is read: a
// store that only compared it when it writes would let an old holder's
// read-modify-write overlap with that of the new one.
func (s *store) add(fence uint64, value int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fence < s.mark {
		return errStale
	}
	s.mark = fence
	jobs, total := s.jobs, s.total
	s.jobs, s.total = jobs+1, total+value
	return nil
}
