package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The text that a mutant replaces is in its file, once: planting them all takes minutes,
// and nobody does that after each change.
func TestTextsAreFound(t *testing.T) {
	for _, m := range mutants {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		} else if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s: its text is found %d times in %s, want once", m.name, n, m.file)
		}
	}
}
