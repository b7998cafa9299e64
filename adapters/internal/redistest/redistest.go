// Package redistest starts real Redis servers for the tests of the adapters. They are processes of
// a redis-server in the path, and end with the test.
package redistest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// patience bounds the start of a server. Nothing comes near it unless it hangs.
const patience = 30 * time.Second

// Start starts n empty servers, and returns their addresses, each host:port. If there is no
// redis-server in the path the test is skipped, or fails if REQUIRE_REAL is set.
func Start(t testing.TB, n int) []string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("REQUIRE_REAL") != "" {
			t.Fatal(err)
		}
		t.Skip("left out: there is no redis-server in the path")
	}
	addrs := make([]string, n)
	for i := range addrs {
		var last error
		for range 5 { // the port may be taken
			if addrs[i], last = start(t, path); last == nil {
				break
			}
		}
		if last != nil {
			t.Fatal(last)
		}
	}
	return addrs
}

// Conns returns how a supervisor reaches servers.
func Conns(addrs []string) []node.Conn {
	conns := make([]node.Conn, len(addrs))
	for i, a := range addrs {
		conns[i] = node.URL("redis://" + a)
	}
	return conns
}

func start(t testing.TB, path string) (string, error) {
	dir := t.TempDir()
	port := strconv.Itoa(20000 + rand.IntN(12000)) // below those of outgoing connections
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no")
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, childAttr()
	gone, err := run(cmd)
	if err != nil {
		return "", err
	}
	end := func() {
		_ = cmd.Process.Kill() // it fails only if the process has ended
		<-gone
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		said, _ := os.ReadFile(log.Name())
		if strings.Contains(string(said), "Ready to accept connections") {
			t.Cleanup(end)
			return net.JoinHostPort("127.0.0.1", port), nil
		}
		pause, done := context.WithTimeout(ctx, 5*time.Millisecond)
		select {
		case <-gone:
			done()
			return "", fmt.Errorf("redis-server on port %s has ended: %s", port, said)
		case <-pause.Done():
			done()
		}
		if ctx.Err() != nil {
			end()
			return "", fmt.Errorf("redis-server on port %s is not ready: %s", port, said)
		}
	}
}

// run starts a process, on a thread that lives until the process has ended: on Linux a child that
// is to die with its parent dies with the thread that started it. gone is closed after its end.
func run(cmd *exec.Cmd) (gone <-chan struct{}, err error) {
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		if started <- err; err == nil {
			_ = cmd.Wait() // how it ended is of no interest
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return ended, nil
}
