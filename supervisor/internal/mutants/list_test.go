package main

import (
	"path/filepath"
	"testing"
)

// The text that a mutant replaces is in its file, once: planting them all takes minutes,
// and nobody does that after each change.
func TestTextsAreFound(t *testing.T) {
	for _, m := range mutants {
		if _, _, err := m.find(filepath.Join("..", "..", "..")); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}
