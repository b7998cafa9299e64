package testserver_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/leasehold-go/leasehold/internal/testserver"
)

// TestChosen checks that the variable chooses the server, by path and by name, and that a
// server that is not there is an error although another one is.
func TestChosen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("left out: the server of this test is a shell script")
	}
	dir := t.TempDir()
	server := func(name, says string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	redis := server("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0")
	valkey := server("valkey-server", "Valkey server v=8.1.1 sha=00000000:0")
	t.Setenv("PATH", dir)
	t.Setenv("REQUIRE_REAL", "")
	for chosen, want := range map[string]string{"": redis, "valkey-server": valkey, valkey: valkey} {
		t.Setenv(testserver.Variable, chosen)
		if path, err := testserver.Program(); path != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", chosen, path, err, want)
		}
		if required := testserver.Required(); required != (chosen != "") {
			t.Errorf("%q: required: %v", chosen, required)
		}
	}
	t.Setenv(testserver.Variable, filepath.Join(dir, "none"))
	if path, err := testserver.Program(); err == nil || !strings.Contains(err.Error(), testserver.Variable) {
		t.Errorf("a server that is not there: %q, %v", path, err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/bin:/bin")
	for path, want := range map[string]string{redis: "Redis server 7.0.15", valkey: "Valkey server 8.1.1"} {
		if version, err := testserver.Version(path); version != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", path, version, err, want)
		}
	}
	if version, err := testserver.Version(server("other", "something else")); err == nil {
		t.Errorf("a program that is no server: version %q", version)
	}
}
