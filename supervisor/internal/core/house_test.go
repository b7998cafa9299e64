package core

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The table of CONTRIBUTING that says which file to open names files and histories that
// exist, and every file of the core.
func TestWhichFileToOpen(t *testing.T) {
	const root = "../../../"
	text, err := os.ReadFile(root + "CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "### Which file to open\n")
	if !found {
		t.Fatal("there is no table")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	for _, name := range regexp.MustCompile("`([a-z_/]+\\.go)`").FindAllStringSubmatch(table, -1) {
		path := name[1]
		if strings.Contains(path, "/") {
			path = root + path
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 5 || cells[1] == "---" || strings.Contains(row, "see the history") {
			continue
		}
		for _, history := range strings.FieldsFunc(cells[3], func(r rune) bool { return r == ',' || r == ' ' }) {
			if _, err := os.Stat(filepath.Join("testdata", history+".txt")); err != nil {
				t.Error(err)
			}
		}
	}
	_, files := sources(t)
	for name := range files {
		if !strings.Contains(table, fmt.Sprintf("`%s`", name)) {
			t.Errorf("the table does not name %s", name)
		}
	}
}
