package supervisor_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every invariant of the package comment is cited by the code that keeps it, and what is
// cited exists.
func TestInvariantsAreCited(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(doc), "// # Invariants\n")
	if !ok {
		t.Fatal("no invariants")
	}
	comments := regexp.MustCompile(`\n\s*// `) // a line of a comment goes on on the next one
	citation := regexp.MustCompile(`invariant (\d+) of package supervisor`)
	cited := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^// +(\d+)\. `).FindAllStringSubmatch(list, -1) {
		cited[m[1]] = false
	}
	for _, pattern := range []string{"*.go", "internal/core/*.go", "internal/perform/*.go", "../node/*.go", "../lease/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", pattern, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range citation.FindAllStringSubmatch(comments.ReplaceAllString(string(text), " "), -1) {
				if _, is := cited[m[1]]; !is {
					t.Errorf("%s cites invariant %s, which is not in doc.go", file, m[1])
				}
				cited[m[1]] = true
			}
		}
	}
	if len(cited) < 10 {
		t.Errorf("%d invariants are found in doc.go", len(cited))
	}
	for n, is := range cited {
		if !is {
			t.Errorf("no code cites invariant %s", n)
		}
	}
}
