package doctor

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each right that docs/operating.md lists is tried, and each command that a script runs.
func TestAllRightsAreTried(t *testing.T) {
	tried := []string{"info", "subscribe"} // apart from the others
	for _, r := range rightsOn("k", "q", "c") {
		tried = append(tried, r.name)
	}
	page, err := os.ReadFile("../../../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, least, found := strings.Cut(string(page), "-@all ")
	least, _, _ = strings.Cut(least, "\n")
	if !found {
		t.Fatal("docs/operating.md lists no rights")
	}
	for right := range strings.FieldsSeq(least) {
		if !slices.Contains(tried, strings.TrimPrefix(right, "+")) {
			t.Errorf("%s of docs/operating.md is not tried", right)
		}
	}
	scripts, err := os.ReadFile("../../../../node/internal/script/script.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`).FindAllSubmatch(scripts, -1)
	if len(calls) < 20 {
		t.Fatalf("%d calls were found in the scripts", len(calls))
	}
	for _, call := range calls {
		if !slices.Contains(tried, strings.ToLower(string(call[1]))) {
			t.Errorf("%s of a script is not tried", call[1])
		}
	}
}
