// Package testserver says which server the tests and benchmarks of all modules start.
package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Variable is the environment variable that chooses the server: an absolute path, or a name on the
// PATH, as valkey-server.
const Variable = "LEASEHOLD_SERVER"

// Program returns the path of the server: that of [Variable] or, if that is not set, of redis-server.
func Program() (string, error) {
	if name := os.Getenv(Variable); name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", Variable, err)
		}
		return path, nil
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errors.New("there is no redis-server on the PATH")
	}
	return path, nil
}

// Version returns what the server at a path says of its version, as "Redis server 7.0.15".
func Version(path string) (string, error) {
	said, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	what, rest, ok := strings.Cut(string(said), " v=")
	version, _, _ := strings.Cut(rest, " ")
	if !ok {
		return "", fmt.Errorf("%s --version says %q", path, said)
	}
	return what + " " + version, nil
}

// Required reports whether a test that finds no server fails, and is not skipped: with REQUIRE_REAL
// in the environment, as in CI, and if a server was chosen.
func Required() bool { return os.Getenv("REQUIRE_REAL") != "" || os.Getenv(Variable) != "" }
