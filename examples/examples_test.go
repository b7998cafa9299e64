// Package examples_test runs every example as the program that it is.
package examples_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/leasehold-go/leasehold/internal/testserver"
)

// patience bounds every wait of these tests. Nothing comes near it unless it hangs.
const patience = time.Minute

// bin is where the programs are.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "examples")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", race, "-o", dir+string(filepath.Separator), "./...")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
			return 1
		}
		bin = dir
		return m.Run()
	}())
}

// A program is one that runs.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    chan string // lines of its standard output; closed at its end
	errors bytes.Buffer
	seen   []string
}

func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(filepath.Join(bin, name), args...), out: make(chan string, 10_000)}
	p.cmd.Stderr = &p.errors
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.out)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.out <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// next returns the next line of output, and false at its end.
func (p *program) next() (string, bool) {
	p.t.Helper()
	select {
	case line, ok := <-p.out:
		if ok {
			p.seen = append(p.seen, line)
		}
		return line, ok
	case <-time.After(patience):
		p.t.Fatalf("%v says nothing more after:\n%s", p.cmd, strings.Join(p.seen, "\n"))
		return "", false
	}
}

// await returns the first line from here on that matches a pattern, and its
// groups.
func (p *program) await(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		line, ok := p.next()
		if !ok {
			_ = p.cmd.Wait() // or it may still write errors
			p.t.Fatalf("%v does not say %q, but:\n%s%s", p.cmd, pattern, strings.Join(p.seen, "\n"), &p.errors)
		}
		if m := re.FindStringSubmatch(line); m != nil {
			return m
		}
	}
}

// end waits for the end, and returns all lines and the exit status.
func (p *program) end() (lines []string, status int) {
	p.t.Helper()
	for {
		if _, ok := p.next(); !ok {
			break
		}
	}
	_ = p.cmd.Wait() // its error is the status
	return p.seen, p.cmd.ProcessState.ExitCode()
}

// event is a line of the demo's -json.
type event struct {
	T         float64
	Event     string
	Owner     string
	Name      string
	Node      string
	Fence     uint64
	Remaining float64
	Text      string
}

func TestDemoJSON(t *testing.T) {
	t.Parallel()
	lines, status := start(t, "demo", "-json").end()
	if status != 0 {
		t.Fatalf("exit status %d:\n%s", status, strings.Join(lines, "\n"))
	}
	var order []string
	var fence uint64
	var leader string
	led := map[string]bool{}
	last := 0.0
	for _, line := range lines {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.T < last || e.T > 20 {
			t.Errorf("time runs from %v to %v", last, e.T)
		}
		last = e.T
		switch e.Event {
		case "acquired":
			if leader != "" {
				t.Errorf("%s leads while %s does", e.Owner, leader)
			}
			if e.Fence <= fence {
				t.Errorf("fence %d after %d", e.Fence, fence)
			}
			if e.Remaining <= 0 {
				t.Errorf("acquired with %v s in hand", e.Remaining)
			}
			leader, fence, led[e.Owner] = e.Owner, e.Fence, true
		case "lost", "released":
			if e.Owner != leader || e.Fence != fence {
				t.Errorf("%s of %s with fence %d, but %s leads with %d", e.Event, e.Owner, e.Fence, leader, fence)
			}
			if e.Event == "lost" && e.Remaining <= 0 {
				t.Errorf("told of the loss %v s too late", -e.Remaining)
			}
			leader = ""
		case "act", "candidate": // not part of the order
			continue
		case "node_down", "node_up":
			if e.Node == "" {
				t.Errorf("%s of no node", e.Event)
			}
		}
		order = append(order, e.Event)
	}
	want := []string{
		"acquired", "node_down", "node_down", "unharmed", "node_down", "lost",
		"node_up", "node_up", "node_up", "acquired", "released", "acquired", "released", "verdict",
	}
	if !slices.Equal(order, want) {
		t.Errorf("events %q, want %q", order, want)
	}
	if len(led) != 3 {
		t.Errorf("leaders were %v, want all three", led)
	}
}

func TestDemoForPeople(t *testing.T) {
	t.Parallel()
	lines, status := start(t, "demo", "-ttl", "1500ms").end()
	if status != 0 {
		t.Fatalf("exit status %d:\n%s", status, strings.Join(lines, "\n"))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.ContainsAny(line, "\x1b\t") {
			t.Errorf("not plain: %q", line)
		}
	}
	if last := lines[len(lines)-1]; last != "Tenures: 3; nodes killed: 3; two leaders at once: never." {
		t.Errorf("verdict %q", last)
	}
}

func TestDemoWithoutNodes(t *testing.T) {
	t.Parallel()
	// Nothing listens there, and nothing can: port 0 is nobody's.
	lines, status := start(t, "demo", "-ttl", "300ms", "-nodes", "redis://x:secret@127.0.0.1:0").end()
	out := strings.Join(lines, "\n")
	if status != 1 || !strings.Contains(out, "nobody leads") || !strings.Contains(out, "127.0.0.1:0: unreachable") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if strings.Contains(out, "secret") {
		t.Errorf("it tells the password:\n%s", out)
	}
}

func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line, want string
		status     int
	}{
		{"demo -ttl 1h", "-ttl 1h0m0s: want 300ms to 3s", 2},
		{"demo -nodes a,a", "is the same node as", 2},
		{"demo -nodes http://u:secret@a", "Nodes[0]", 2},
		{"worker -jobs many", "invalid value", 2},
		{"leader now", `unexpected argument "now"`, 2},
		{"daemon -listen 127.0.0.1:-1", "invalid port", 2},
		{"demo -h", "separated by commas", 0},
	} {
		words := strings.Fields(test.line)
		p := start(t, words[0], words[1:]...)
		_, status := p.end()
		if got := p.errors.String(); status != test.status || !strings.Contains(got, test.want) || strings.Contains(got, "secret") {
			t.Errorf("%s: exit status %d, %s", test.line, status, got)
		}
	}
}

func TestWorker(t *testing.T) {
	t.Parallel()
	p := start(t, "worker")
	p.await(`^holding "example-worker" with fence \d+$`)
	p.await(`^an operator deletes the key`)
	p.await(`^stopped at once: lease: lost`)
	p.await(`^holding "example-worker" with fence \d+$`)
	lines, status := p.end()
	if last := lines[len(lines)-1]; status != 0 || last != "done: 40 jobs, total 820" {
		t.Errorf("exit status %d:\n%s", status, strings.Join(lines, "\n"))
	}
	wrote := 0
	for _, line := range lines {
		if strings.HasPrefix(line, "wrote") {
			wrote++
			if want := fmt.Sprintf("wrote job %d", wrote); line != want {
				t.Errorf("%q, want %q", line, want)
			}
		}
	}
}

// The write of a holder that was frozen is refused by a real store.
func TestFencing(t *testing.T) {
	t.Parallel()
	p := start(t, "fencing")
	p.await(`^the first worker reads 100 under fence \d+, and is frozen$`)
	p.await(`^the second one holds the name, reads 100 and writes 150 under fence \d+$`)
	p.await(`^the first one goes on and writes 120: refused `)
	lines, status := p.end()
	if last := lines[len(lines)-1]; status != 0 || last != "done: the balance is 150, and nothing was lost" {
		t.Errorf("exit status %d:\n%s", status, strings.Join(lines, "\n"))
	}
}

func TestWorkerStops(t *testing.T) {
	t.Parallel()
	p := start(t, "worker", "-jobs", "100000")
	p.await(`^wrote job 3$`)
	p.signal(syscall.SIGTERM)
	lines, status := p.end()
	if last := lines[len(lines)-1]; status != 0 || !strings.HasPrefix(last, "stopped: ") {
		t.Errorf("exit status %d, %q", status, last)
	}
}

func TestLeader(t *testing.T) {
	t.Parallel()
	p := start(t, "leader", "-for", "1s")
	p.await(`^candidate for "example-leader" on 5 embedded nodes`)
	p.await(`^leading with fence \d+$`)
	p.await(`^job 1, with [\d.]+m?s in hand$`)
	p.await(`^no longer leading: context deadline exceeded$`)
	p.await(`^done: the name is free again$`)
	if _, status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestDaemon(t *testing.T) {
	t.Parallel()
	p := start(t, "daemon", "-listen", "127.0.0.1:0")
	url := p.await(`msg=listening url=(http://127\.0\.0\.1:\d+)`)[1]
	if body, code := get(t, url+"/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	p.await(`msg=leading fence=\d+`)
	if body, code := get(t, url+"/readyz"); code != 200 || body != "leader\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
	if v := leader(t, url); !v.Held || v.Name != "example-daemon" || v.Owner == "" || v.Fence == 0 || v.Left <= 0 || len(v.Nodes) != 5 {
		t.Errorf("leader: %+v", v)
	}
	p.signal(syscall.SIGTERM)
	p.await(`msg=stopping`)
	p.await(`msg="stepping down"`)
	p.await(`msg="stopped: nothing is held"`)
	if _, status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestDaemonWithoutNodes(t *testing.T) {
	t.Parallel()
	p := start(t, "daemon", "-listen", "127.0.0.1:0", "-nodes", "127.0.0.1:0")
	url := p.await(`msg=listening url=(\S+)`)[1]
	if body, code := get(t, url+"/healthz"); code != 200 {
		t.Errorf("healthz: %d %q", code, body)
	}
	if body, code := get(t, url+"/readyz"); code != 503 || !strings.Contains(body, "0 of 1 nodes are enrolled") {
		t.Errorf("readyz: %d %q", code, body)
	}
	if body, code := get(t, url+"/leader"); code != 503 || !strings.Contains(body, "no quorum") {
		t.Errorf("leader: %d %q", code, body)
	}
	p.signal(syscall.SIGTERM)
	if _, status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestShards(t *testing.T) {
	t.Parallel()
	p := start(t, "shards", "-names", "6", "-ttl", "1s")
	p.await(`^--- after [\d.]+ s they own map\[process 1:3 process 2:3\]$`)
	p.await(`^--- after [\d.]+ s they own map\[process 1:2 process 2:2 process 3:2\]$`)
	p.await(`^--- process 1 is killed$`)
	p.await(`^process [23] owns part-\d+ with fence \d+$`)
	p.await(`^--- after [\d.]+ s they own map\[process 2:3 process 3:3\]$`)
	p.await(`^--- after [\d.]+ s they own map\[process 3:6\]$`)
	if _, status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestSemaphore(t *testing.T) {
	t.Parallel()
	p := start(t, "semaphore", "-places", "3", "-jobs", "9")
	places := map[string]int{}
	for range 9 {
		places[p.await(`^job \d in (example-place-\d) with fence \d+$`)[1]]++
	}
	p.await(`^done: of this process 3 at once at most$`)
	if _, status := p.end(); status != 0 || len(places) != 3 {
		t.Errorf("exit status %d, jobs in each place: %v", status, places)
	}
}

// Two of five nodes are replaced under a lease, which is held all the time.
func TestReplace(t *testing.T) {
	t.Parallel()
	p := start(t, "replace")
	var fences []string
	fences = append(fences, p.await(`^held with fence (\d+)$`)[1])
	for _, step := range []string{"both lists are given", "the lease rests on both lists", "finished", "the former nodes are off", "held all the time: true"} {
		p.await("^" + step + "$")
	}
	fences = append(fences, p.await(`^then held with fence (\d+)$`)[1])
	if _, status := p.end(); status != 0 || fences[1] <= fences[0] {
		t.Errorf("exit status %d, fences %v", status, fences)
	}
}

// On real servers, two replicas take turns.
func TestRealNodes(t *testing.T) {
	t.Parallel()
	sockets := servers(t, 3)
	urls := "unix://" + strings.Join(sockets, ",unix://")

	t.Run("daemon", func(t *testing.T) {
		const name = "real-daemon"
		args := []string{"-listen", "127.0.0.1:0", "-nodes", urls, "-name", name}
		first := start(t, "daemon", args...)
		first.await(`msg=leading fence=\d+`)
		for _, s := range sockets {
			// The third vote may come after the quorum's.
			until(t, "the key is set on "+s, func() bool { return do(t, s, "EXISTS "+name) == ":1" })
		}
		second := start(t, "daemon", args...)
		url := second.await(`msg=listening url=(\S+)`)[1]
		until(t, "the second is ready", func() bool { body, code := get(t, url+"/readyz"); return code == 200 && body == "standby\n" })
		if v := leader(t, url); !v.Held || !strings.HasSuffix(v.Owner, fmt.Sprint(":", first.cmd.Process.Pid)) {
			t.Errorf("leader: %+v", v)
		}

		first.signal(syscall.SIGTERM)
		if _, status := first.end(); status != 0 {
			t.Errorf("the first one's exit status: %d", status)
		}
		second.await(`msg=leading fence=\d+`)
		until(t, "the second leads", func() bool { body, _ := get(t, url+"/readyz"); return body == "leader\n" })
		second.signal(syscall.SIGTERM)
		if _, status := second.end(); status != 0 {
			t.Errorf("the second one's exit status: %d", status)
		}
		for _, s := range sockets {
			if got := do(t, s, "EXISTS "+name); got != ":0" {
				t.Errorf("%s still has the key: %s", s, got)
			}
		}
	})

	t.Run("demo", func(t *testing.T) {
		lines, status := start(t, "demo", "-ttl", "1s", "-nodes", urls).end()
		out := strings.Join(lines, "\n")
		if status != 0 || !strings.Contains(out, "The nodes are yours") || lines[len(lines)-1] != "Tenures: 2; nodes killed: 0; two leaders at once: never." {
			t.Errorf("exit status %d:\n%s", status, out)
		}
	})
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

var client = http.Client{Timeout: patience}

func get(t *testing.T, url string) (body string, code int) {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), r.StatusCode
}

// view is what /leader answers.
type view struct {
	Name  string
	Held  bool
	Owner string
	Left  float64 `json:"left_seconds"`
	Fence uint64
	Nodes []struct {
		Node     string
		Enrolled bool
	}
}

func leader(t *testing.T, url string) (v view) {
	t.Helper()
	body, code := get(t, url+"/leader")
	if err := json.Unmarshal([]byte(body), &v); err != nil || code != 200 {
		t.Fatalf("leader: %d, %v: %s", code, err, body)
	}
	return v
}

// until polls for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

// servers starts so many redis-servers and returns their sockets. Sockets need no
// free port; their folder is short, because their names may not be long.
func servers(t *testing.T, n int) []string {
	t.Helper()
	server, err := testserver.Program()
	if err != nil {
		if testserver.Required() {
			t.Fatal(err)
		}
		t.Skipf("the examples are not run on real nodes: %v", err)
	}
	dir, err := os.MkdirTemp("", "lh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var sockets []string
	for i := range n {
		s := filepath.Join(dir, fmt.Sprint(i))
		cmd := exec.Command(server, "--port", "0", "--unixsocket", s, "--dir", dir, "--save", "", "--appendonly", "no")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		until(t, "redis-server answers", func() bool {
			c, err := net.Dial("unix", s)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		age(t, s)
		sockets = append(sockets, s)
	}
	return sockets
}

// age has leasehold take a server for one that it has known for long: it writes the
// marker of its incarnation, with a beginning in 1970, and that this incarnation is
// grown. A server that was just started grants nothing for a minute otherwise.
func age(t *testing.T, socket string) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "INFO\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	var run, replication string
	for run == "" || replication == "" {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "run_id":
			run = value
		case "master_replid":
			replication = value
		}
	}
	life := run + "/" + replication + " 0"
	for key, value := range map[string]string{
		"leasehold:incarnation":                   life + " 0", // no client has told its MaxTTL
		"leasehold:{leasehold:incarnation}:grown": life,
	} {
		if got := do(t, socket, fmt.Sprintf("SET %s %q", key, value)); got != "+OK" {
			t.Fatal(got)
		}
	}
}

// do sends a command as it would be typed, and returns the first line of the answer.
func do(t *testing.T, socket, command string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
