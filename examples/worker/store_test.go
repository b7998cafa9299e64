package main

import (
	"errors"
	"testing"
)

func TestStoreRefusesTheReplaced(t *testing.T) {
	var s store
	for i, w := range []struct {
		fence uint64
		stale bool
	}{{5, false}, {5, false}, {9, false}, {5, true}, {8, true}, {9, false}} {
		if err := s.add(w.fence, 1); errors.Is(err, errStale) != w.stale {
			t.Errorf("write %d, with fence %d: %v", i, w.fence, err)
		}
	}
	if s.jobs != 4 || s.total != 4 || s.mark != 9 {
		t.Errorf("jobs %d, total %d, mark %d", s.jobs, s.total, s.mark)
	}
}
