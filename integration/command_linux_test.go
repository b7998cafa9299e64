package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/leasehold-go/leasehold/integration/cluster"
)

// These tests run the command as it is built, on real servers, and some of them in a shell on a
// pseudo-terminal. What runs under a lease writes a line to a file again and again, each by an
// append of its own: so the file is a store whose order says whether two have worked at once.

// binary is the command, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "leasehold-command-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "leasehold")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "../cmd/leasehold"
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// A yard is where the commands of one run work.
type yard struct {
	t       *testing.T
	servers []cluster.Server
	file    string // the store
	env     []string
}

func openYard(t *testing.T, c *cluster.Cluster) *yard {
	t.Helper()
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		// What nohup has these tests ignore, a shell of theirs would ignore as well; what a
		// program catches, the ones that it starts do not inherit.
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	y := &yard{t: t, servers: c.Servers, file: filepath.Join(t.TempDir(), "store")}
	y.env = append(os.Environ(),
		"PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"), "STORE="+y.file,
		"LEASEHOLD_NODES="+strings.Join(c.URLs(), ","), "LEASEHOLD_TTL="+ttl.String(), "LEASEHOLD_MAX_TTL_CAP="+ttl.String())
	t.Cleanup(func() {
		// Whatever a test has found, nothing of it goes on.
		for _, pid := range y.workers() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return y
}

// works is a job that writes lines until it is ended. Each has the store among its arguments, by which it is
// found. It starts nothing: a shell that is stopped while it does may hang, by itself as under leasehold.
func (y *yard) works(line string) string {
	return fmt.Sprintf(`bash -c 'exec 3<> <(:); while :; do echo %s >> "$0"; read -t 0.01 -u 3; done' %s`, line, y.file)
}

// workers returns the processes that work for this yard.
func (y *yard) workers() (list []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		args, err := os.ReadFile(file)
		if err == nil && slices.Contains(strings.Split(string(args), "\x00"), y.file) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				list = append(list, pid)
			}
		}
	}
	return list
}

// order returns the lines of the store, equal ones in a row as one.
func (y *yard) order() string {
	text, err := os.ReadFile(y.file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		y.t.Fatal(err)
	}
	return strings.Join(slices.Compact(strings.Fields(string(text))), " ")
}

// settles waits until the store has an order.
func (y *yard) settles(want string) {
	y.t.Helper()
	y.within("the store to say "+want, func() error {
		if got := y.order(); got != want {
			return fmt.Errorf("the store says %.200s", got)
		}
		return nil
	})
}

// within waits until ok returns nil, for a minute at most.
func (y *yard) within(what string, ok func() error) {
	y.t.Helper()
	if err := poll(time.Minute, ok); err != nil {
		y.t.Fatalf("waited for %s: %v", what, err)
	}
}

// idle waits until nothing works.
func (y *yard) idle() {
	y.t.Helper()
	y.within("nothing to work", func() error {
		if left := y.workers(); len(left) > 0 {
			return fmt.Errorf("%d processes do", len(left))
		}
		return nil
	})
}

// A ran is a leasehold that was started.
type ran struct {
	y   *yard
	cmd *exec.Cmd
	out *spoken
}

// A spoken is what a process writes.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *spoken) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *spoken) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// run starts leasehold by a line for a shell, which is replaced by it.
func (y *yard) run(line string, change ...func(*exec.Cmd)) *ran {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	y.t.Cleanup(cancel)
	r := &ran{y, exec.CommandContext(ctx, "sh", "-c", "exec leasehold "+line), new(spoken)}
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = y.env, r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, whatever runs the tests
	r.cmd.WaitDelay = 10 * time.Second
	for _, f := range change {
		f(r.cmd)
	}
	if err := r.cmd.Start(); err != nil {
		y.t.Fatal(err)
	}
	return r
}

// ends waits for the end of leasehold, and wants its exit status.
func (r *ran) ends(want int) {
	r.y.t.Helper()
	err := r.cmd.Wait()
	if got := statusOf(r.cmd.ProcessState); got != want {
		r.y.t.Errorf("exit status %d, want %d: %v: %s", got, want, err, r.out)
	}
}

func statusOf(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

func (r *ran) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

// guard returns the process that watches over the command.
func (r *ran) guard() (pid int) {
	r.y.t.Helper()
	r.y.within("the guard", func() error {
		for _, child := range childrenOf(r.cmd.Process.Pid) {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(name) == "lh-guard\n" {
				pid = child
				return nil
			}
		}
		return errors.New("there is none")
	})
	return pid
}

func childrenOf(pid int) (list []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var state string
		var parent int
		if _, err := fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &state, &parent); err == nil && parent == pid {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			list = append(list, child)
		}
	}
	return list
}

// next has another leasehold of the same name write the line B a few times.
func (y *yard) next() {
	y.t.Helper()
	y.run(`run x -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do echo B >> "$STORE"; sleep 0.01; done'`).ends(0)
}

// A shell is an interactive one on a terminal of its own.
type shell struct {
	y     *yard
	cmd   *exec.Cmd
	tty   *os.File
	out   *spoken
	typed int // how much it had shown when something was typed last
}

// unblocked returns a terminal whose closing ends the reading of it.
func unblocked(t *testing.T, tty *os.File) *os.File {
	t.Helper()
	defer tty.Close()
	fd, err := syscall.Dup(int(tty.Fd()))
	if err == nil {
		syscall.CloseOnExec(fd)
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "terminal")
}

func (y *yard) shell() *shell {
	y.t.Helper()
	cmd := exec.Command("bash", "--norc", "--noprofile", "-b", "-i")
	cmd.Env = append(y.env, "PS1=$ ", `PROMPT_COMMAND=echo "status $?."`, "TERM=dumb", "HISTFILE=", "INPUTRC=/dev/null")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 500})
	if err != nil {
		y.t.Fatal(err)
	}
	tty = unblocked(y.t, tty)
	s := &shell{y: y, cmd: cmd, tty: tty, out: new(spoken)}
	gone := make(chan struct{})
	go func() { _, _ = s.out.from(tty); close(gone) }()
	y.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = tty.Close(); <-gone })
	s.says("$ ")
	return s
}

func (h *spoken) from(f *os.File) (n int, err error) {
	b := make([]byte, 4096)
	for {
		n, err := f.Read(b)
		_, _ = h.Write(b[:n])
		if err != nil {
			return n, err
		}
	}
}

// keys types something.
func (s *shell) keys(text string) {
	s.y.t.Helper()
	s.typed = len(s.out.String())
	if _, err := s.tty.WriteString(text); err != nil {
		s.y.t.Fatal(err)
	}
}

// says waits until the terminal has shown a text, after what was typed last.
func (s *shell) says(text string) {
	s.y.t.Helper()
	s.y.within(fmt.Sprintf("the terminal to show %q", text), func() error {
		if shown := s.out.String()[s.typed:]; !strings.Contains(shown, text) {
			return fmt.Errorf("it shows %q", shown)
		}
		return nil
	})
}

// status waits until the shell says the exit status of what was typed last.
func (s *shell) status(want int) {
	s.y.t.Helper()
	s.says(fmt.Sprintf("status %d.", want))
}

// leasehold returns the process that the shell has started.
func (s *shell) leasehold() (pid int) {
	s.y.t.Helper()
	s.y.within("leasehold in the shell", func() error {
		for _, child := range childrenOf(s.cmd.Process.Pid) {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(name) == "leasehold\n" {
				pid = child
				return nil
			}
		}
		return errors.New("there is none")
	})
	return pid
}

// TestCommand is the cases in which a command must not work beside the next one, and those in
// which it must be as usable as without leasehold.
func TestCommand(t *testing.T) {
	takesLong(t)
	for _, c := range []struct {
		name string
		play func(*yard)
	}{
		{"StoppedByTheTerminal", stoppedByTheTerminal},
		{"ContinuedInTime", continuedInTime},
		{"StoppedByASignal", stoppedByASignal},
		{"Killed", killedCommand},
		{"KilledWhileStopped", killedWhileStopped},
		{"KilledWithSessions", killedWithSessions},
		{"GuardKilled", guardKilled},
		{"Frozen", frozenCommand},
		{"FrozenGuard", frozenGuard},
		{"Stubborn", stubbornChild},
		{"Background", background},
		{"BackgroundKilled", backgroundKilled},
		{"ReadsTheTerminal", readsTheTerminal},
		{"ReadsInAPipeline", readsInAPipeline},
		{"InterruptedTwice", interruptedTwice},
		{"Script", inAScript},
		{"BackgroundReads", backgroundReads},
		{"HangUp", hangUp},
		{"NoTerminal", noTerminal},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onProcesses(t, 3, 2, func(t *testing.T, c2 *cluster.Cluster, _ *notes) { c.play(openYard(t, c2)) })
		})
	}
}

// C1: ^Z, and the next one comes; then fg.
func stoppedByTheTerminal(y *yard) {
	s := y.shell()
	s.keys("leasehold run x -- " + y.works("A") + "\n")
	y.settles("A")
	s.keys("\x1a")
	s.says("Stopped")
	y.next()
	y.settles("A B")
	s.keys("fg\n")
	s.says("the command has ended")
	s.status(76)
	y.settles("A B")
}

// ^Z, and fg while the lease is held: it goes on, and has the terminal again.
func continuedInTime(y *yard) {
	y.env = append(y.env, "LEASEHOLD_TTL=30s", "LEASEHOLD_MAX_TTL_CAP=30s")
	s := y.shell()
	s.keys(`leasehold run x -- bash -c 'echo he""re; read a; echo "read:$a"; read b; echo "read:$b"'` + "\n")
	s.says("here")
	s.keys("one\n")
	s.says("read:one")
	s.keys("\x1a")
	s.says("Stopped")
	s.keys("fg\n")
	s.keys("two\n")
	s.says("read:two")
	s.status(0)
}

// A signal that stops does as ^Z, also if the command is not told by a terminal.
func stoppedByASignal(y *yard) {
	s := y.shell()
	s.keys("leasehold run x -- " + y.works("A") + " </dev/null &\n")
	y.settles("A")
	_ = syscall.Kill(s.leasehold(), syscall.SIGTSTP)
	y.next()
	s.keys("fg\n")
	s.says("the command has ended")
	s.status(76)
	y.settles("A B")
}

// C2: leasehold is killed, and what its command has started goes with it.
func killedCommand(y *yard) {
	r := y.run(`run x -- sh -c '` + strings.ReplaceAll(y.works("A"), "'", `'\''`) + `; echo end'`)
	y.settles("A")
	r.signal(syscall.SIGKILL)
	r.ends(137)
	y.next()
	y.idle()
	y.settles("A B")
}

func killedWhileStopped(y *yard) {
	s := y.shell()
	s.keys("leasehold run x -- " + y.works("A") + "\n")
	y.settles("A")
	pid := s.leasehold()
	s.keys("\x1a")
	s.says("Stopped")
	_ = syscall.Kill(pid, syscall.SIGKILL)
	y.idle()
	y.next()
	y.settles("A B")
}

// What has a session of its own, and whose parents are gone, is killed as well.
func killedWithSessions(y *yard) {
	r := y.run(`run x -- sh -c '(setsid sh -c "while :; do echo A >> \$0; sleep 0.01; done" "$STORE" &); setsid sleep 1000; echo end'`)
	y.settles("A")
	r.signal(syscall.SIGKILL)
	r.ends(137)
	y.next()
	y.idle()
	y.settles("A B")
}

func guardKilled(y *yard) {
	r := y.run(`run x -- sh -c '(setsid sh -c "while :; do echo A >> \$0; sleep 0.01; done" "$STORE" &); sleep 1000; echo end'`)
	y.settles("A")
	_ = syscall.Kill(r.guard(), syscall.SIGKILL)
	r.ends(137)
	if left := y.workers(); len(left) > 0 {
		y.t.Errorf("%d processes work on", len(left))
	}
	y.next()
	y.settles("A B")
}

// leasehold does not run while its lease is over.
func frozenCommand(y *yard) {
	r := y.run(`run x -- ` + y.works("A"))
	y.settles("A")
	r.signal(syscall.SIGSTOP)
	y.next()
	r.signal(syscall.SIGCONT)
	r.ends(76)
	y.settles("A B")
}

// The guard does not run when the lease is lost: leasehold does its work.
func frozenGuard(y *yard) {
	r := y.run(`run x -- sh -c 'trap "" TERM; ` + strings.ReplaceAll(y.works("A"), "'", `'\''`) + `'`)
	y.settles("A")
	_ = syscall.Kill(r.guard(), syscall.SIGSTOP)
	each(y.servers, cluster.Server.Pause)
	r.ends(76)
	each(y.servers, cluster.Server.Resume)
	y.idle()
	y.next()
	y.settles("A B")
}

// C11: the servers go away, the command does not heed SIGTERM, and then leasehold is asked to end.
func stubbornChild(y *yard) {
	r := y.run(`run x -- sh -c 'trap "" TERM INT HUP; while :; do echo A >> "$0"; sleep 0.01; done' "$STORE"`)
	y.settles("A")
	each(y.servers, cluster.Server.Kill)
	r.signal(syscall.SIGTERM)
	r.ends(76)
	if left := y.workers(); len(left) > 0 {
		y.t.Errorf("%d processes work on", len(left))
	}
}

// C8: what a command leaves in the background is waited for.
func background(y *yard) {
	r := y.run(`run x -- sh -c '(setsid sh -c "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo A >> \$0; sleep 0.05; done" "$STORE" &); exit 3'`)
	y.settles("A")
	y.next()
	r.ends(3)
	y.settles("A B")
	if !strings.Contains(r.out.String(), "waiting for the processes it has left behind") {
		y.t.Errorf("it says %s", r.out)
	}
}

// Or it is killed.
func backgroundKilled(y *yard) {
	r := y.run(`run --children kill --grace 200ms x -- sh -c '(trap "" TERM; setsid sh -c "while :; do echo A >> \$0; sleep 0.01; done" "$STORE" & :); while ! [ -s "$STORE" ]; do sleep 0.01; done; exit 3'`)
	r.ends(3)
	y.idle()
	y.next()
	y.settles("A B")
}

// C3: the command reads the terminal, and ^C ends it.
func readsTheTerminal(y *yard) {
	s := y.shell()
	s.keys(`leasehold run x -- bash -c 'read -p "na""me? " a; echo "hello $a."; read -p "mo""re? " b'` + "\n")
	s.says("name? ")
	s.keys("you\n")
	s.says("hello you.")
	s.says("more? ")
	s.keys("\x03")
	s.status(130)
	y.next()
}

// One that is not alone in the foreground has the terminal when it reads it.
func readsInAPipeline(y *yard) {
	s := y.shell()
	s.keys(`leasehold run x -- bash -c 'read -p "na""me? " a </dev/tty; echo "hello $a."' | cat` + "\n")
	s.says("name? ")
	s.keys("you\n")
	s.says("hello you.")
	s.status(0)
	s.keys(`echo | leasehold run x -- bash -c 'read -p "mo""re? " a </dev/tty; echo "bye $a."'` + "\n")
	s.says("more? ")
	s.keys("\x03")
	s.status(130)
}

// A command that does not heed the first ^C may heed the second, and has each of them once.
func interruptedTwice(y *yard) {
	s := y.shell()
	// Not a shell: bash itself, without leasehold, misses a ^C now and then, if it comes while bash starts a child.
	s.keys(`leasehold run x -- perl -e '$|=1; $SIG{INT}=sub{print "int:".++$n."\n"; exit 9 if $n==2}; print "rea","dy\n"; sleep 1 while 1'` + "\n")
	s.says("ready")
	s.keys("\x03")
	s.says("int:1")
	s.keys("\x03")
	s.says("int:2")
	s.status(9)
}

// ^C ends a script with the command in it.
func inAScript(y *yard) {
	s := y.shell()
	s.keys(`bash -c 'leasehold run x -- sh -c "echo rea\"\"dy; sleep 1000"; echo went-on-$?'` + "\n")
	s.says("ready")
	s.keys("\x03")
	s.status(130)
	if strings.Contains(s.out.String(), "went-on-130") {
		y.t.Errorf("the script went on: %s", s.out)
	}
	y.next()
}

// One in the background that reads the terminal is stopped, as any other; fg brings it back in time.
func backgroundReads(y *yard) {
	y.env = append(y.env, "LEASEHOLD_TTL=30s", "LEASEHOLD_MAX_TTL_CAP=30s")
	s := y.shell()
	s.keys(`leasehold run x -- bash -c 'read -p "name? " a; echo "hello $a."' &` + "\n")
	s.says("Stopped")
	s.keys("fg\n")
	s.keys("you\n")
	s.says("hello you.")
	s.status(0)
}

// The terminal goes away.
func hangUp(y *yard) {
	s := y.shell()
	s.keys("leasehold run x -- " + y.works("A") + "\n")
	y.settles("A")
	_ = s.tty.Close()
	y.idle()
	y.next()
	y.settles("A B")
}

// There is none, nor any input; and what is written to goes away.
func noTerminal(y *yard) {
	r := y.run(`run x -- sh -c 'read a; echo "read:$a"; echo A >> "$STORE"' <&-`)
	r.ends(0)
	if got := r.out.String(); got != "read:\n" {
		y.t.Errorf("it says %q", got)
	}
	pipeline := exec.Command("bash", "-c", `leasehold run x -- sh -c 'echo one; sleep 0.1; echo two >&2; echo B >> "$STORE"' 2>&1 | head -1`)
	pipeline.Env = y.env
	if out, err := pipeline.CombinedOutput(); err != nil || string(out) != "one\n" {
		y.t.Errorf("%q, %v", out, err)
	}
}

// C4, C6: leasehold says what it waits for after a second, and nothing if it is told to be quiet.
func TestCommandSays(t *testing.T) {
	takesLong(t)
	t.Parallel()
	onProcesses(t, 3, 2, func(t *testing.T, c *cluster.Cluster, _ *notes) {
		y := openYard(t, c)
		y.patient()
		holder := y.run(`run --owner alpha x -- sleep 1000`)
		y.within("x to be held", func() error {
			if r := y.run("show x"); r.cmd.Wait() != nil {
				return errors.New("it is not")
			}
			return nil
		})
		waiter := y.run(`run --owner beta x -- true`)
		y.within("a line", func() error {
			if !strings.HasPrefix(waiter.out.String(), "leasehold: waiting: held by alpha for ") {
				return fmt.Errorf("it says %s", waiter.out)
			}
			return nil
		})
		waiter.signal(syscall.SIGINT)
		waiter.ends(130)
		loser := y.run(`run -try x -- true`)
		if loser.ends(75); !strings.Contains(loser.out.String(), "held by alpha") {
			t.Errorf("it says %s", loser.out)
		}
		quiet := y.run(`run -try -q -held-status 0 x -- true`)
		if quiet.ends(0); quiet.out.String() != "" {
			t.Errorf("it says %s", quiet.out)
		}
		holder.signal(syscall.SIGTERM)
		holder.ends(143)
		each(c.Servers[1:], cluster.Server.Kill)
		down := y.run(`run --outage 2s y -- true`)
		down.ends(69)
		if said := down.out.String(); !strings.HasPrefix(said, "leasehold: waiting: 2 of 3 nodes unreachable: "+c.Servers[1].Addr()) || !strings.Contains(said, "--outage 2s") {
			t.Errorf("it says %s", said)
		}
		each(c.Servers[1:], cluster.Server.Start)
		young := y.run(`run z -- true`)
		young.ends(0)
		if said := young.out.String(); !strings.Contains(said, "waiting: servers are young for ") {
			t.Errorf("it says %s", said)
		}
	})
}

// patient has a yard's commands wait longer for a node than a loaded machine takes: -try makes one attempt.
func (y *yard) patient() { y.env = append(y.env, "LEASEHOLD_TTL=10s", "LEASEHOLD_MAX_TTL_CAP=10s") }

// C5: a job that is shorter than the clocks differ runs once.
func TestCommandAtLeast(t *testing.T) {
	t.Parallel()
	onProcesses(t, 3, 4, func(t *testing.T, c *cluster.Cluster, _ *notes) {
		y := openYard(t, c)
		y.patient()
		y.run(`run -try -at-least 30s x -- sh -c 'echo A >> "$STORE"'`).ends(0)
		late := y.run(`run -try -at-least 30s x -- sh -c 'echo B >> "$STORE"'`)
		if late.ends(75); !strings.Contains(late.out.String(), "free in") {
			t.Errorf("it says %s", late.out)
		}
		y.settles("A")
	})
}

// C10: nodes with a private authority, which want a certificate; and no credential reaches the command.
func TestCommandTLS(t *testing.T) {
	t.Parallel()
	s := processes(t, 1).Servers[0]
	dir := t.TempDir()
	certificates(t, dir)
	addr := speakTLS(t, s, dir, true)
	y := openYard(t, &cluster.Cluster{Servers: []cluster.Server{s}})
	file := filepath.Join(dir, "nodes")
	if err := os.WriteFile(file, []byte("# one\nrediss://default:@"+addr+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	y.env = append(y.env, "LEASEHOLD_NODES=", "LEASEHOLD_NODES_FILE="+file, "DIR="+dir)
	y.run(`run -ca "$DIR/ca.pem" -cert "$DIR/cert.pem" -key "$DIR/key.pem" x -- true`).ends(0)
	y.run(`run -outage 2s -ca "$DIR/ca.pem" x -- true`).ends(69)
	y.env = append(y.env, "LEASEHOLD_NODES=redis://default:@"+s.Addr(), "LEASEHOLD_NODES_FILE=")
	r := y.run(`run x -- sh -c 'env | grep -c ^LEASEHOLD_NODES=; env | grep ^LEASEHOLD_NAME'`)
	if r.ends(0); r.out.String() != "0\nLEASEHOLD_NAME=x\n" {
		t.Errorf("it says %s", r.out)
	}
}

// At most n at once, and each has a place of its own.
func TestCommandSlots(t *testing.T) {
	t.Parallel()
	onProcesses(t, 3, 2, func(t *testing.T, c *cluster.Cluster, _ *notes) {
		y := openYard(t, c)
		y.patient()
		first := y.run(`run -n 2 x -- sh -c 'echo "$LEASEHOLD_NAME"; sleep 1000'`)
		second := y.run(`run -n 2 x -- sh -c 'echo "$LEASEHOLD_NAME"; sleep 1000'`)
		y.within("both to run", func() error {
			names := []string{strings.TrimSpace(first.out.String()), strings.TrimSpace(second.out.String())}
			if slices.Sort(names); !slices.Equal(names, []string{"x-1", "x-2"}) {
				return fmt.Errorf("%q", names)
			}
			return nil
		})
		y.run(`run -n 2 -try -q x -- true`).ends(75)
		y.run(`run -try x-1 x-2 x-3 -- true`).ends(0)
		third := y.run(`run -q -n 2 x -- sh -c 'echo "$LEASEHOLD_NAME"'`)
		first.signal(syscall.SIGTERM)
		first.ends(143)
		third.ends(0)
		if got, want := third.out.String(), strings.SplitAfter(first.out.String(), "\n")[0]; got != want {
			t.Errorf("it had %q, want %q", got, want)
		}
		second.signal(syscall.SIGTERM)
		second.ends(143)
	})
}

// elect runs the command again after a loss, and ends with it.
func TestCommandElect(t *testing.T) {
	t.Parallel()
	onProcesses(t, 3, 4, func(t *testing.T, c *cluster.Cluster, _ *notes) {
		y := openYard(t, c)
		r := y.run(`elect x -- sh -c 'echo "$LEASEHOLD_FENCE" >> "$STORE"; if [ $(wc -l < "$STORE") = 2 ]; then exit 7; fi; sleep 1000'`)
		y.within("it to lead", func() error {
			if y.order() == "" {
				return errors.New("it does not")
			}
			return nil
		})
		each(c.Servers, func(s cluster.Server) { _, _ = s.Do("DEL", "x") })
		r.ends(7)
		fences := strings.Fields(y.order())
		if len(fences) != 2 || fences[0] >= fences[1] || !strings.Contains(r.out.String(), "waiting for the name again") {
			t.Errorf("fences %q; it says %s", fences, r.out)
		}
	})
}
