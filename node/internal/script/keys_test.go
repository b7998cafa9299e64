package script

import (
	"fmt"
	"testing"
)

// The register of a name is in its slot, whatever braces the name has, and each slot has one,
// which never changes: other clients look for the fence there.
func TestRegisters(t *testing.T) {
	if got := slot("123456789"); got != 0x31C3 {
		t.Errorf("%#x: want what the specification of Redis Cluster says", got)
	}
	for name, key := range map[string]string{
		"x": "leasehold:fence:{BJN@}", "jobs/report": "leasehold:fence:{BFII}", "{a}b": "leasehold:fence:{BBGA}",
	} {
		if got := FenceKey(name); got != key {
			t.Errorf("the fence of %q is in %q: want %q", name, got, key)
		}
	}
	seen := make(map[string]bool)
	for n := 0; len(seen) < Registers; n++ {
		if n == 1<<20 {
			t.Fatalf("only %d registers", len(seen))
		}
		name := fmt.Sprint("name-", n)
		key := FenceKey(name)
		seen[key] = true
		if Register(key) != Register(name) {
			t.Fatalf("%q has the register %q, in another slot", name, key)
		}
	}
	for name, like := range map[string]string{"{a}b": "a", "x{a}": "a", "{a": "{a", "{}a": "{}a", "a}{b}{c}": "b", "{{a}": "{a"} {
		if got, want := Register(name), slot(like); got != want {
			t.Errorf("%q is in %d: want %d, as %q", name, got, want, like)
		}
	}
}
