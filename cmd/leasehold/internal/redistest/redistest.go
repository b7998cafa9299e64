// Package redistest starts real Redis servers for tests, and puts between them and a client what
// makes them slow or their clocks wrong. Everything ends with the test.
package redistest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/server"
	"github.com/leasehold-go/leasehold/internal/testserver"
	"github.com/leasehold-go/leasehold/node"
)

// patience bounds every wait. Nothing comes near it unless it hangs.
const patience = 30 * time.Second

// A Server is a process of redis-server, or of what LEASEHOLD_SERVER names, without persistence.
type Server struct {
	Addr     string // host:port
	Dir      string
	Password string // of the user default, which Do needs
	Product  string // as "Redis"
	Version  string

	t    *testing.T
	hang func() error
}

// Start starts an empty server, with args after its own arguments. If there is no
// server the test is left out, or fails if REQUIRE_REAL or LEASEHOLD_SERVER is set.
func Start(t *testing.T, args ...string) *Server {
	t.Helper()
	path, err := testserver.Program()
	if err != nil {
		if testserver.Required() {
			t.Fatal(err)
		}
		t.Skipf("left out: %v", err)
	}
	says, err := testserver.Version(path)
	if err != nil {
		t.Fatal(err)
	}
	product, version, _ := strings.Cut(says, " server ")
	s := &Server{Dir: t.TempDir(), Product: product, Version: version, t: t}
	var last error
	for range 5 { // the port may be taken
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000))) // below those of outgoing connections
		if last = s.start(path, args); last == nil {
			return s
		}
	}
	t.Fatal(last)
	return nil
}

// StartAll starts n servers that leasehold takes for some that it has known for long.
func StartAll(t *testing.T, n int, args ...string) []*Server {
	t.Helper()
	all := make([]*Server, n)
	for i := range all {
		all[i] = Start(t, args...)
		all[i].Age()
	}
	return all
}

func (s *Server) start(path string, args []string) error {
	_, port, _ := net.SplitHostPort(s.Addr)
	log, err := os.Create(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	all := []string{"--port", port, "--bind", "127.0.0.1", "--dir", s.Dir, "--save", "", "--appendonly", "no"}
	if slices.Contains(args, "--cluster-enabled") {
		// By itself it would take the port 10,000 above, which an outgoing connection may have.
		bus, _ := strconv.Atoi(port)
		all = append(all, "--cluster-port", strconv.Itoa(bus-8000))
	}
	cmd := exec.Command(path, append(all, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, childAttr()
	if err := onKeeper(cmd.Start); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }() // how it ended is of no interest
	end := func() {
		_ = cmd.Process.Kill() // it fails only if the process has ended
		<-gone
	}
	said := func() string {
		text, _ := os.ReadFile(log.Name())
		return string(text)
	}
	ready := false
	wait(func() bool {
		select {
		case <-gone:
			return true
		default:
			ready = strings.Contains(said(), "Ready to accept connections")
			return ready
		}
	})
	if !ready {
		end()
		return fmt.Errorf("%s on %s: %s", path, s.Addr, said())
	}
	s.hang = func() error { return suspend(cmd.Process) }
	s.t.Cleanup(end)
	return nil
}

// Hang stops it from running. Its connections stay open, and new ones are accepted by the system.
func (s *Server) Hang() {
	s.t.Helper()
	if err := s.hang(); err != nil {
		s.t.Fatal(err)
	}
}

// URL returns the URL of its address.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Do sends commands, and fails the test if the server refuses one.
func (s *Server) Do(commands ...[]string) []server.Answer {
	s.t.Helper()
	url := s.URL()
	if s.Password != "" {
		url = "redis://:" + s.Password + "@" + s.Addr
	}
	c, err := server.Dial(context.Background(), node.URL(url), patience)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	answers, err := c.Do(context.Background(), commands...)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, a := range answers {
		if err := a.Err(); err != nil {
			s.t.Fatalf("%q: %v", commands[i], err)
		}
	}
	return answers
}

// Age has leasehold take the server for one that it has known for a day.
func (s *Server) Age() {
	s.t.Helper()
	was := s.Do([]string{"INFO"}, []string{"TIME"})
	info := was[0].Info()
	now, err := was[1].Time()
	if err != nil {
		s.t.Fatal(err)
	}
	life := fmt.Sprintf("%s/%s %d", info["run_id"], info["master_replid"], (now - 24*time.Hour).Microseconds())
	s.Do([]string{"MSET", "leasehold:incarnation", life + " 0", "leasehold:{leasehold:incarnation}:grown", life})
}

// A Fault is what a proxy does to what it carries.
type Fault struct {
	Delay time.Duration // in each direction
	Ahead time.Duration // whole seconds, by which the server's TIME is ahead
}

// seconds is the first of the two texts of which TIME is made, as every script answers them, too.
var seconds = regexp.MustCompile(`\$10\r\n1\d{9}\r\n`)

// Proxy returns the URL of a proxy before a server.
func (s *Server) Proxy(f Fault) string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", s.Addr)
			if err != nil {
				client.Close()
				continue
			}
			go carry(to, client, f.Delay, func(b []byte) []byte { return b })
			go carry(client, to, f.Delay, f.ahead)
		}
	}()
	return "redis://" + l.Addr().String()
}

func (f Fault) ahead(b []byte) []byte {
	if f.Ahead == 0 {
		return b
	}
	return seconds.ReplaceAllFunc(b, func(b []byte) []byte {
		at, _ := strconv.ParseInt(string(b[5:15]), 10, 64)
		return fmt.Appendf(nil, "$10\r\n%d\r\n", at+int64(f.Ahead/time.Second))
	})
}

// carry hands on what comes, later by the delay, until one side closes.
func carry(to, from net.Conn, delay time.Duration, change func([]byte) []byte) {
	type parcel struct {
		bytes []byte
		due   time.Time
	}
	on := make(chan parcel, 1024)
	go func() {
		defer close(on)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			on <- parcel{change(buf[:n]), time.Now().Add(delay)}
		}
	}()
	late := time.NewTimer(0)
	defer late.Stop()
	for p := range on {
		if delay > 0 {
			late.Reset(time.Until(p.due))
			<-late.C
		}
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range on { // what was read before it is closed
	}
}

// Until waits until something is so, and fails the test if that takes too long.
func Until(t *testing.T, what string, is func() bool) {
	t.Helper()
	if !wait(is) {
		t.Fatalf("not so after %v: %s", patience, what)
	}
}

func wait(is func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if is() {
			return true
		}
	}
	return is()
}

// keeper runs functions on one thread that lives as long as this process: on Linux a child that is
// to die with its parent dies with the thread that started it.
var keeper = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func onKeeper(f func() error) error {
	done := make(chan error)
	keeper() <- func() { done <- f() }
	return <-done
}
