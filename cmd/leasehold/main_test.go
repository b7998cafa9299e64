//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// These tests run the command as a process of its own, on nodes in memory that listen
// on the loopback interface. The test's own binary plays the command.
const played = "LEASEHOLD_PLAYED_BY_TEST"

func TestMain(m *testing.M) {
	if os.Args[0] == guardName {
		main()
	}
	part := os.Getenv(played)
	os.Unsetenv(played)
	switch part {
	case "leasehold":
		main()
	case "stubborn":
		stubborn()
	}
	os.Exit(m.Run())
}

// stubborn is a command that does not want to end, and says at what time it still ran.
func stubborn() {
	signal.Ignore(syscall.SIGTERM)
	for now := range time.Tick(10 * time.Millisecond) {
		fmt.Println(now.UnixNano())
	}
}

// patience bounds every wait of these tests. Nothing comes near it unless it hangs.
const patience = time.Minute

// serve starts nodes, and returns them and their URLs.
func serve(t *testing.T, n int) ([]*nodetest.Node, string) {
	nodes := nodetest.Start(n)
	var urls []string
	for _, node := range nodes {
		t.Cleanup(node.Close)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				client, err := l.Accept()
				if err != nil {
					return
				}
				go relay(client, node)
			}
		}()
		urls = append(urls, "redis://"+l.Addr().String())
	}
	return nodes, strings.Join(urls, ",")
}

// relay carries one connection to a node, until either end closes it.
func relay(client net.Conn, n *nodetest.Node) {
	defer client.Close()
	server, err := n.Dial(context.Background(), "")
	if err != nil {
		return
	}
	defer server.Close()
	go func() { io.Copy(server, client); server.Close() }()
	io.Copy(client, server)
}

// A program is the command, running.
type program struct {
	*exec.Cmd
	lines  *bufio.Reader // of its standard output
	errors bytes.Buffer
}

func start(t *testing.T, urls string, args ...string) *program {
	t.Helper()
	return startIn(t, nil, urls, args...)
}

// startIn adds variables to the environment.
func startIn(t *testing.T, variables []string, urls string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), variables...)
	return begin(t, cmd, urls)
}

func begin(t *testing.T, cmd *exec.Cmd, urls string) *program {
	t.Helper()
	p := &program{Cmd: cmd}
	p.Env = append(p.Environ(), played+"=leasehold", "LEASEHOLD_NODES="+urls)
	p.Stderr = &p.errors
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(patience, func() { p.Process.Kill() })
	t.Cleanup(func() { hung.Stop(); p.Process.Kill() })
	return p
}

// line waits for the next line of output.
func (p *program) line(t *testing.T) string {
	t.Helper()
	s, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v: want a line; it says %s", s, err, &p.errors)
	}
	return strings.TrimSuffix(s, "\n")
}

// ends waits until the command and whatever has its output are gone, and compares the
// exit status.
func (p *program) ends(t *testing.T, want int) (out string) {
	t.Helper()
	rest, _ := io.ReadAll(p.lines)
	_ = p.Wait()
	if got := p.ProcessState.ExitCode(); got != want {
		t.Errorf("exit status %d, want %d; it says %s", got, want, &p.errors)
	}
	return string(rest)
}

// rival holds a name on the same nodes.
func rival(t *testing.T, nodes []*nodetest.Node, name string) *lease.Lease {
	t.Helper()
	sup, err := supervisor.New(supervisor.Config{Nodes: conns(nodes), Owner: "rival"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sup.Close(context.Background()) })
	held, err := sup.Acquire(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func conns(nodes []*nodetest.Node) []node.Conn { return nodetest.Conns(nodes) }

func keys(nodes []*nodetest.Node, name string) (n int) {
	for _, node := range nodes {
		if _, _, ok := node.Get(name); ok {
			n++
		}
	}
	return n
}

// The command has the name while it runs, learns name and fence, and its exit status
// is passed on.
func TestRun(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	p := start(t, urls, "run", "-owner", "job", "x", "-ttl", "2s", "--", "sh", "-c", `echo "$LEASEHOLD_NAME $LEASEHOLD_FENCE $*"; read x; exit 7`, "sh", "-a", "b")
	var name, rest string
	var fence uint64
	if _, err := fmt.Sscan(p.line(t), &name, &fence, &rest); err != nil || name != "x" || fence == 0 || rest != "-a" {
		t.Errorf("%q, %d, %q, %v", name, fence, rest, err)
	}
	p.ends(t, 7) // its input is empty
	if n := keys(nodes, "x"); n != 0 {
		t.Errorf("%d nodes keep the name", n)
	}
	start(t, urls, "run", "x", "--", "sh", "-c", "kill -9 $$").ends(t, 128+9)
	start(t, urls, "run", "x", "--", "no-such-command-anywhere").ends(t, 127)
	start(t, urls, "run", "x", "--", "/").ends(t, 126)
	if n := keys(nodes, "x"); n != 0 {
		t.Errorf("%d nodes keep the name", n)
	}
}

// A name that is held, nodes that cannot be reached and wrong usage each have an exit
// status of their own.
func TestStatus(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	held := rival(t, nodes, "x")
	for _, args := range [][]string{
		{"run", "-try", "x", "--", "echo", "ran"},
		{"run", "-wait", "1s", "x", "--", "echo", "ran"},
	} {
		p := start(t, urls, args...)
		if out := p.ends(t, nameHeld); out != "" || !strings.Contains(p.errors.String(), "held by rival") {
			t.Errorf("%v: %q, %s", args, out, &p.errors)
		}
	}
	p := start(t, urls, "show", "x")
	if out := p.ends(t, ok); !strings.HasPrefix(out, "held by rival for ") || strings.Contains(out, string(held.Token())) || strings.Count(out, "\n") != 4 {
		t.Errorf("show: %q", out)
	}
	if out := start(t, urls, "show", "y").ends(t, no); !strings.HasPrefix(out, "free\n") {
		t.Errorf("show: %q", out)
	}
	for _, args := range [][]string{
		{}, {"steal", "x"}, {"run"}, {"run", "x"}, {"run", "x", "--"}, {"run", "-try", "-wait", "1s", "x", "--", "echo"},
		{"run", "-wait", "-1s", "x", "--", "echo"}, {"run", "-ttl", "1ms", "x", "--", "echo"}, {"run", "", "--", "echo"},
		{"run", "-owner", "?", "x", "--", "echo"}, {"show"}, {"show", "x", "y"}, {"show", "leasehold:x"}, {"watch"}, {"watch", ""}, {"revoke", "x"}, {"run", "-bogus", "x", "--", "echo"},
		{"show", "-nodes", "", "x"}, {"show", "-nodes", "http://u:secret@h", "x"},
	} {
		p := start(t, urls, args...)
		if out := p.ends(t, usage); out != "" || p.errors.Len() == 0 || strings.Contains(p.errors.String(), "secret") {
			t.Errorf("%q: %q, %s", args, out, &p.errors)
		}
	}
	for _, flag := range []string{"-wait", "-grace"} {
		p := start(t, urls, "run", flag, "-1s", "x", "--", "echo")
		if p.ends(t, usage); !strings.Contains(p.errors.String(), "-"+flag+" -1s: want 0 or more") {
			t.Errorf("%s", &p.errors)
		}
	}
	for want, args := range map[string][]string{
		"--max-ttl 5s: want at least --ttl = 10s":                {"-max-ttl", "5s"},
		"--max-ttl -1s: want at least --ttl = 10s":               {"-max-ttl", "-1s"},
		"--max-ttl-cap 1m0s: want at least --ttl = 1h0m0s":       {"-ttl", "1h"},
		"--max-ttl-cap 1m0s: want at least --max-ttl = 2m0s":     {"-max-ttl", "2m"},
		"--max-ttl-cap 20s: want at least --max-ttl = 30s":       {"-max-ttl", "30s", "-max-ttl-cap", "20s"},
		"--max-ttl-cap 0s: want at least --ttl = 10s, and the s": {"-max-ttl-cap", "0"},
	} {
		for _, args := range [][]string{append([]string{"show", "x"}, args...), append(append([]string{"run", "x"}, args...), "--", "echo", "ran")} {
			p := start(t, urls, args...)
			if out := p.ends(t, usage); out != "" || !strings.Contains(p.errors.String(), want) {
				t.Errorf("%q: %q, %s", args, out, &p.errors)
			}
		}
	}
	start(t, urls, "run", "-wait", "1ns", "y", "--", "echo", "ran").ends(t, nameHeld)
	for _, n := range nodes[1:] {
		n.Crash()
	}
	for _, args := range [][]string{
		{"run", "-try", "y", "--", "echo", "ran"}, {"run", "-wait", "1s", "y", "--", "echo", "ran"},
		{"show", "y"}, {"revoke", "y", "-token", "t"},
	} {
		if out := start(t, urls, args...).ends(t, noQuorum); out != "" {
			t.Errorf("%v: %q", args, out)
		}
	}
}

// On nodes that were just started -try waits for the window, once. It writes that all of
// them are grown, so that the next process need not wait, however short it is.
func TestTryOfYoungNodes(t *testing.T) {
	t.Parallel()
	const cap = 3 * time.Second
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("n=%d", n), func(t *testing.T) {
			nodes, urls := serve(t, n)
			for _, node := range nodes {
				node.Restart()
			}
			if n > 1 {
				nodes[n-1].Delay(30 * time.Millisecond) // it is met after the first attempt has failed
			}
			args := []string{"run", "-try", "-ttl", "2s", "-max-ttl", "2500ms", "-max-ttl-cap", cap.String(), "x", "--", "echo", "ran"}
			begun := time.Now()
			p := start(t, urls, args...)
			if out := p.ends(t, ok); out != "ran\n" || time.Since(begun) < cap || !strings.Contains(p.errors.String(), "waiting for that once") {
				t.Errorf("%q after %v, and it says %s", out, time.Since(begun), &p.errors)
			}
			for i, node := range nodes {
				marker, _, _ := node.Get("leasehold:incarnation")
				grown, _, _ := node.Get("leasehold:{leasehold:incarnation}:grown")
				if marker != grown+" 2500" {
					t.Errorf("node %d: marker %q, grown %q: want that it is, and the largest TTL", i, marker, grown)
				}
			}
			p = start(t, urls, args...)
			if out := p.ends(t, ok); out != "ran\n" || p.errors.Len() > 0 {
				t.Errorf("the next: %q, and it says %s", out, &p.errors)
			}
		})
	}
}

// A signal ends the waiting for young nodes, and nothing is run.
func TestSignalWhileNodesAreYoung(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	for _, node := range nodes {
		node.Restart()
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := begin(t, exec.Command("sh", "-c", `exec "$0" run -try x -- echo ran 2>&1`, self), urls)
	if got := p.line(t); !strings.HasSuffix(got, "waiting for that once") {
		t.Fatal(got)
	}
	p.Process.Signal(syscall.SIGTERM)
	if out := p.ends(t, 128+15); out != "" {
		t.Errorf("%q", out)
	}
}

// A signal is passed on to a running command, whose exit status counts.
func TestSignalIsPassedOn(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1} {
		p := start(t, urls, "run", "x", "--", "sh", "-c", `trap 'exit 9' TERM INT USR1; echo ready; while :; do sleep 0.05; done`)
		if got := p.line(t); got != "ready" {
			t.Fatal(got)
		}
		p.Process.Signal(s)
		p.ends(t, 9)
		if n := keys(nodes, "x"); n != 0 {
			t.Errorf("%v: %d nodes keep the name", s, n)
		}
	}
}

// A signal that its parent has had it ignore, as nohup does, ends neither it nor its command.
func TestIgnoredSignals(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	held := rival(t, nodes, "x")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nohup := exec.Command("sh", "-c", `trap '' HUP INT QUIT; exec "$0" run x -- sh -c 'echo ready; read x; echo over'`, self)
	in, err := nohup.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := begin(t, nohup, urls)
	stands(t, urls, "x")
	ignored := []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT}
	for _, s := range ignored {
		p.Process.Signal(s)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.line(t); got != "ready" {
		t.Fatal(got)
	}
	for _, s := range ignored {
		p.Process.Signal(s)
	}
	in.Close()
	if out := p.ends(t, 0); out != "over\n" {
		t.Errorf("%q", out)
	}
}

// stands waits until somebody stands in line for a name that is held.
func stands(t *testing.T, urls, name string) {
	t.Helper()
	end := time.Now().Add(patience)
	for out := ""; !strings.Contains(out, "\n1 waiting\n"); {
		if out = start(t, urls, "show", name).ends(t, ok); time.Now().After(end) {
			t.Fatalf("nobody waits:\n%s", out)
		}
	}
}

// A signal ends the waiting, and leaves nothing.
func TestSignalWhileWaiting(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	held := rival(t, nodes, "x")
	p := start(t, urls, "run", "x", "--", "echo", "ran")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(patience)
	for tries := 0; tries <= len(nodes); <-tick.C { // the rival's, one for each node, and then its own
		if tries = 0; time.Now().After(end) {
			t.Fatal("it does not try")
		}
		for _, n := range nodes {
			tries += n.Commands()["SET"]
		}
	}
	stands(t, urls, "x")
	p.Process.Signal(syscall.SIGINT)
	if out := p.ends(t, 128+2); out != "" {
		t.Errorf("%q", out)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A signal ends a question that nobody answers.
func TestSignalWhileAsking(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{
		{"show", "-ttl", "1h", "-max-ttl-cap", "1h", "x"}, {"revoke", "-ttl", "1h", "-max-ttl-cap", "1h", "x", "-token", "t"},
	} {
		p := start(t, "redis://"+l.Addr().String(), args...)
		asked, err := l.Accept() // it listens for signals by then
		if err != nil {
			t.Fatal(err)
		}
		p.Process.Signal(syscall.SIGTERM)
		p.ends(t, 128+15)
		asked.Close()
	}
}

// A command whose lease is lost is ended with all that it has started, before the nodes
// may let others in, even if it does not want to.
func TestLost(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	job := `trap 'echo asked' TERM; ` + played + `=stubborn "$0" & while :; do wait; done`
	p := start(t, urls, "run", "-ttl", "4s", "x", "--", "sh", "-c", job, self)
	p.line(t) // it runs
	nodes[1].Hang()
	nodes[2].Hang()
	var free time.Time // when the first of them may let others in, who then have a quorum
	for _, n := range nodes[1:] {
		if _, left, ok := n.Get("x"); ok && (free.IsZero() || time.Now().Add(left).Before(free)) {
			free = time.Now().Add(left)
		}
	}
	out := p.ends(t, leaseLost)
	if !strings.Contains(out, "asked\n") {
		t.Error("it was not asked")
	}
	lines := strings.Fields(strings.ReplaceAll(out, "asked\n", ""))
	var last int64
	if _, err := fmt.Sscan(lines[len(lines)-1], &last); err != nil {
		t.Fatal(err)
	}
	if early := free.Sub(time.Unix(0, last)); early <= 0 {
		t.Errorf("it ran on for %v after the nodes might have let others in", -early)
	}
}

// One whose lease is revoked is killed.
func TestRevoked(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	p := start(t, urls, "run", "-ttl", "4s", "x", "--", "sh", "-c", `trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done`)
	if got := p.line(t); got != "ready" {
		t.Fatal(got)
	}
	start(t, urls, "revoke", "x", "-token", "not-the-token").ends(t, no)
	out := start(t, urls, "show", "-token", "x").ends(t, ok)
	token := strings.TrimPrefix(strings.Split(out, "\n")[1], "token ")
	if value, _, _ := nodes[0].Get("x"); value != token {
		t.Fatalf("show: %q, want the token %q", out, value)
	}
	start(t, urls, "revoke", "x", "-token", token).ends(t, ok)
	p.ends(t, leaseLost)
	if got := p.errors.String(); !strings.HasPrefix(got, `leasehold: the lease on "x" was lost, and the command has ended: `) {
		t.Error(got)
	}
}

// A warning names its node once.
func TestWarning(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 1)
	other, err := supervisor.New(supervisor.Config{Nodes: conns(nodes), MaxTTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close(context.Background()) })
	held, err := other.Acquire(t.Context(), "x") // so the node has its MaxTTL by now
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := start(t, urls, "run", "-max-ttl-cap", "10s", "x", "--", "echo", "ran")
	p.ends(t, ok)
	addr := strings.TrimPrefix(urls, "redis://")
	if got := p.errors.String(); !strings.Contains(got, "leasehold: warning: "+addr+": another client has a MaxTTL of 30s") || strings.Count(got, addr) != 1 {
		t.Errorf("%q: want one warning that names %s once", got, addr)
	}
}

// One that was paused with its whole machine, which its own clock does not see, is
// killed at once: the nodes may have let others in.
func TestPaused(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	p := start(t, urls, "run", "-ttl", "4s", "x", "--", "sh", "-c", `trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done`)
	if got := p.line(t); got != "ready" {
		t.Fatal(got)
	}
	// The command runs as soon as two nodes have the lease. A clock that is ahead before its node's
	// first answer is not known to have gained anything.
	for _, n := range nodes {
		untilRenewed(n, "x")
	}
	for _, n := range nodes {
		n.Jump(5 * time.Second)
	}
	if out := p.ends(t, leaseLost); out != "" {
		t.Errorf("%q: want that it was killed and not asked: %s", out, p.errors.String())
	}
}

// untilRenewed waits until a key has been given more time than it had left.
func untilRenewed(n *nodetest.Node, key string) {
	tick := time.Tick(time.Millisecond)
	for had := time.Hour; ; <-tick {
		_, left, there := n.Get(key)
		if there && left > had {
			return
		}
		if there {
			had = left
		}
	}
}

// watch prints changes until it is interrupted, each with its time.
func TestWatch(t *testing.T) {
	t.Parallel()
	nodes, urls := serve(t, 3)
	rival(t, nodes, "y") // the nodes have had clients with leases
	p := start(t, urls, "watch", "x")
	change := func() string {
		t.Helper()
		at, how, _ := strings.Cut(p.line(t), " ")
		if when, err := time.Parse("2006-01-02T15:04:05.000Z07:00", at); err != nil || time.Since(when).Abs() > patience {
			t.Errorf("%q: %v", at, err)
		}
		return how
	}
	if got := change(); got != "free" {
		t.Errorf("%q, want free", got)
	}
	held := rival(t, nodes, "x")
	if got := change(); !strings.HasPrefix(got, "held by rival for ") || !strings.Contains(got, ", since ") {
		t.Errorf("%q, want that the rival has it", got)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if got := change(); got != "free" {
		t.Errorf("%q, want free", got)
	}
	p.Process.Signal(syscall.SIGINT)
	p.ends(t, ok)
}

// A command does not outlive the process that renews its lease.
func TestDiesWithParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // nothing is promised elsewhere
	}
	_, urls := serve(t, 1)
	p := start(t, urls, "run", "x", "--", "cat", "/dev/zero")
	if _, err := p.lines.ReadByte(); err != nil {
		t.Fatal(err)
	}
	p.Process.Kill()
	p.ends(t, -1)
}
