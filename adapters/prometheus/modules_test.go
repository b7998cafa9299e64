package leaseprom

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the adapters need enters no module that requires the library alone: `go list -m all` there has
// these and no others.
func TestConsumersOfTheLibraryAreLeftAlone(t *testing.T) {
	want, err := os.ReadFile("testdata/modules.txt")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.sum": string(sums),
		"go.mod": "module example.com/consumer\n\ngo 1.26.0\n\nrequire github.com/leasehold-go/leasehold v0.1.0\n\n" +
			"replace github.com/leasehold-go/leasehold => " + root + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-mod=mod", "-m", "-f", "{{.Path}}", "all")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	if !slices.Equal(got, strings.Fields(string(want))) {
		t.Errorf("a consumer has the modules\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}
