//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/redistest"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// These tests run the operator's commands on real servers.

// realNodes starts three servers that were known for long, and returns their URLs.
func realNodes(t *testing.T) ([]*redistest.Server, string) {
	servers := redistest.StartAll(t, 3)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	return servers, strings.Join(urls, ",")
}

// holder holds names until the test ends.
func holder(t *testing.T, urls string, names ...string) (held []*lease.Lease) {
	t.Helper()
	sup, err := supervisor.New(supervisor.Config{Nodes: node.URLs(strings.Split(urls, ",")...), Owner: "holder"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sup.Close(t.Context()) })
	for _, name := range names {
		l, err := sup.Acquire(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
	}
	return held
}

// show says what keeps a name from everybody if that is no lease.
func TestShowOfOtherValues(t *testing.T) {
	t.Parallel()
	servers, urls := realNodes(t)
	for _, s := range servers {
		s.Do([]string{"SET", "redlock", "8f3a0c", "PX", "60000"}, []string{"RPUSH", "list", "x"}, []string{"SET", "reserved", "?me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
	}
	for name, want := range map[string]struct {
		status int
		words  string
		each   string
	}{
		"redlock":  {ok, "held by a client of another library for ", "held by a client of another library for at most "},
		"list":     {no, "taken by another kind of value than a lock", "another kind of value, with no expiry"},
		"reserved": {no, "reserved for the first in line", "reserved for the first in line"},
	} {
		out := start(t, urls, "show", name).ends(t, want.status)
		if !strings.HasPrefix(out, want.words) || strings.Contains(out, "since") || strings.Count(out, "\n  ") != 3 || strings.Count(out, ": "+want.each) != 3 {
			t.Errorf("%s: %s", name, out)
		}
		var h struct{ Name, Kind, Token string }
		out = start(t, urls, "show", name, "-o", "json").ends(t, want.status)
		if err := json.Unmarshal([]byte(out), &h); err != nil || h.Name != name || h.Kind == "" || h.Token != "" {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
	held := holder(t, urls, "x")
	var h struct{ Token string }
	out := start(t, urls, "show", "-token", "-o=json", "x").ends(t, ok)
	if err := json.Unmarshal([]byte(out), &h); err != nil || !strings.HasPrefix(h.Token, "holder/") {
		t.Errorf("%s, %v", out, err)
	}
	token := []string{"LEASEHOLD_TOKEN=" + h.Token}
	for _, args := range [][]string{{"show", "x"}, {"list"}, {"show", "-o", "json", "x"}} {
		p := startIn(t, token, urls, args...)
		if out := p.ends(t, ok); strings.Contains(out+p.errors.String(), h.Token) {
			t.Errorf("%q: %s%s", args, out, &p.errors)
		}
	}
	startIn(t, token, urls, "revoke", "x").ends(t, ok)
	select {
	case <-held[0].Lost():
	case <-time.After(patience):
		t.Error("the lease was not taken away")
	}
}

// A name that stays taken after its lease is listed, with who has left it.
func TestListOfWhatWasLeft(t *testing.T) {
	t.Parallel()
	_, urls := realNodes(t)
	start(t, urls, "run", "-owner", "job", "-at-least", "50s", "x", "--", "true").ends(t, ok)
	if out := start(t, urls, "show", "x").ends(t, ok); !strings.HasPrefix(out, "left by job, free in ") {
		t.Errorf("%s", out)
	}
	if out := start(t, urls, "list").ends(t, ok); !strings.Contains(out, "job, who has left it") || !strings.Contains(out, "free in ") {
		t.Errorf("%s", out)
	}
}

// Each line of watch is an object with its time, if that is wanted.
func TestWatchInJSON(t *testing.T) {
	t.Parallel()
	_, urls := realNodes(t)
	p := start(t, urls, "watch", "-o", "json", "x")
	change := func() (owner string, held bool) {
		t.Helper()
		for {
			var h struct {
				Time  time.Time
				Owner string
				Held  bool
				Err   string
			}
			if line := p.line(t); json.Unmarshal([]byte(line), &h) != nil || time.Since(h.Time).Abs() > patience {
				t.Fatalf("%s", line)
			}
			if h.Err == "" { // or the machine stood still
				return h.Owner, h.Held
			}
		}
	}
	if owner, held := change(); owner != "" || held {
		t.Errorf("%q holds it", owner)
	}
	holder(t, urls, "x")
	if owner, held := change(); owner != "holder" || !held {
		t.Errorf("%q holds it, %t", owner, held)
	}
	p.Process.Signal(syscall.SIGTERM)
	p.ends(t, ok)
}

func TestList(t *testing.T) {
	t.Parallel()
	servers, urls := realNodes(t)
	servers[0].Do([]string{"SET", "cache:1", "x"})
	if out := start(t, urls, "list").ends(t, ok); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "NAME ") {
		t.Errorf("%s", out)
	}
	held := holder(t, urls, "b", "a", "jobs:c")
	out := start(t, urls, "list").ends(t, ok)
	lines := strings.Split(out, "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[1], "a ") || !strings.HasPrefix(lines[2], "b ") || strings.Count(out, "holder") != 3 || strings.Contains(out, string(held[0].Token())) {
		t.Errorf("%s", out)
	}
	var h struct {
		Name, Owner string
		Held        bool
		Fence       uint64
	}
	out = start(t, urls, "list", "-prefix", "jobs:", "-o", "json").ends(t, ok)
	if err := json.Unmarshal([]byte(out), &h); err != nil || h.Name != "jobs:c" || h.Owner != "holder" || !h.Held || h.Fence != held[2].Fence() {
		t.Errorf("%s, %v", out, err)
	}
	p := start(t, urls, "list", "-limit", "2")
	if out := p.ends(t, ok); strings.Count(out, "\n") != 3 || !strings.Contains(p.errors.String(), "there are more names: give a --limit above 2") {
		t.Errorf("%s%s", out, &p.errors)
	}
	for _, args := range [][]string{{"list", "x"}, {"list", "-limit", "0"}, {"top", "-limit", "0"}, {"top", "-every", "1ms"}, {"doctor", "-for", "-1s"}} {
		if out := start(t, urls, args...).ends(t, usage); out != "" {
			t.Errorf("%q: %s", args, out)
		}
	}
	p = start(t, "redis://127.0.0.1:1,redis://127.0.0.1:2,"+servers[0].URL(), "list")
	if p.ends(t, noQuorum); !strings.Contains(p.errors.String(), "1 of 3 nodes were looked through") || strings.Count(p.errors.String(), "\n") != 1 {
		t.Errorf("%s", &p.errors)
	}
}

// Without a terminal top shows how things are, once.
func TestTopWithoutATerminal(t *testing.T) {
	t.Parallel()
	servers, urls := realNodes(t)
	holder(t, urls, "x", "y")
	out := start(t, urls, "top").ends(t, ok)
	if !strings.HasPrefix(out, "leasehold top ") || strings.Count(out, "holder") != 2 || !strings.Contains(out, servers[1].Addr) || strings.Contains(out, "\x1b") {
		t.Errorf("%s", out)
	}
	var p struct {
		Nodes []struct{ Node string }
		Names []struct{ Name string }
	}
	out = start(t, urls, "top", "-o", "json").ends(t, ok)
	if err := json.Unmarshal([]byte(out), &p); err != nil || len(p.Nodes) != 3 || len(p.Names) != 2 {
		t.Errorf("%s, %v", out, err)
	}
}

// The exit status of doctor is 0, 1 and 2.
func TestDoctorStatus(t *testing.T) {
	t.Parallel()
	servers, urls := realNodes(t)
	two, first, _ := strings.Cut(urls, ",")
	p := start(t, urls, "doctor", "-for", "300ms")
	if out := p.ends(t, ok); !strings.Contains(out, "fine: nothing is wrong") || p.errors.Len() > 0 {
		t.Errorf("%s%s", out, &p.errors)
	}
	servers[0].Do([]string{"FLUSHALL"})
	if out := start(t, urls, "doctor", "-for", "300ms").ends(t, 1); !strings.Contains(out, "WARNING  "+servers[0].Addr+": young: ") {
		t.Errorf("%s", out)
	}
	p = start(t, "redis://:geheim@127.0.0.1:1,"+two+","+first, "doctor", "-for", "300ms", "-o", "json")
	var report struct {
		Level    string
		Findings []struct{ Check, Level, Node string }
	}
	out := p.ends(t, 2)
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Level != "broken" || strings.Contains(out, "geheim") || p.errors.Len() > 0 {
		t.Errorf("%s%s, %v", out, &p.errors, err)
	}
	p = start(t, "", "doctor")
	if p.ends(t, usage); !strings.Contains(p.errors.String(), "no nodes") {
		t.Errorf("%s", &p.errors)
	}
}

// A tty is a program on a pseudo-terminal.
type tty struct {
	*exec.Cmd
	keyboard *os.File
	mu       sync.Mutex
	shown    bytes.Buffer
	over     chan struct{} // closed when all it has shown was read
}

func onTerminal(t *testing.T, urls string, args ...string) *tty {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &tty{Cmd: exec.Command(self, args...), over: make(chan struct{})}
	p.Env = append(os.Environ(), played+"=leasehold", "LEASEHOLD_NODES="+urls)
	if p.keyboard, err = pty.StartWithSize(p.Cmd, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.keyboard.Close() })
	go func() {
		defer close(p.over)
		io.Copy(p, p.keyboard)
	}()
	return p
}

func (p *tty) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.Write(b)
}

func (p *tty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String()
}

// shows waits until it shows some words.
func (p *tty) shows(t *testing.T, words string) {
	t.Helper()
	redistest.Until(t, "it shows "+words, func() bool { return strings.Contains(p.text(), words) })
}

// ends waits until it has ended, and compares the exit status.
func (p *tty) ends(t *testing.T, want int) {
	t.Helper()
	hung := time.AfterFunc(patience, func() { p.Process.Kill() })
	defer hung.Stop()
	_ = p.Wait()
	<-p.over
	if got := p.ProcessState.ExitCode(); got != want {
		t.Errorf("exit status %d, want %d: %q", got, want, p.text())
	}
}

// On a terminal revoke shows whom it takes the lease from, and asks.
func TestRevokeAsks(t *testing.T) {
	t.Parallel()
	_, urls := realNodes(t)
	held := holder(t, urls, "x")[0]
	for _, answer := range []string{"n\n", "\n", "yess\n", "\x04"} {
		p := onTerminal(t, urls, "revoke", "x")
		p.shows(t, `"x" is held by holder for `)
		p.shows(t, "[y/N] ")
		p.keyboard.WriteString(answer)
		if p.ends(t, no); !strings.Contains(p.text(), "nothing was revoked") || strings.Contains(p.text(), string(held.Token())) {
			t.Errorf("%q: %q", answer, p.text())
		}
	}
	p := onTerminal(t, urls, "revoke", "x")
	p.shows(t, "[y/N] ")
	p.keyboard.WriteString("\x03")
	p.ends(t, 128+int(syscall.SIGINT))
	if !held.Valid() {
		t.Fatal("the lease is gone although nobody has said yes")
	}
	p = onTerminal(t, urls, "revoke", "x")
	p.shows(t, "[y/N] ")
	p.keyboard.WriteString("y\n")
	p.ends(t, ok)
	select {
	case <-held.Lost():
	case <-time.After(patience):
		t.Error("the lease was not taken away")
	}
	p = onTerminal(t, urls, "revoke", "x")
	if p.ends(t, no); !strings.Contains(p.text(), `"x" is free`) {
		t.Errorf("%q", p.text())
	}
}

// top leaves the terminal as it was, however it ends.
func TestTopOnATerminal(t *testing.T) {
	t.Parallel()
	_, urls := realNodes(t)
	holder(t, urls, "x", "y")
	for _, end := range []struct {
		by     func(*tty)
		status int
	}{
		{func(p *tty) { p.keyboard.WriteString("q") }, ok},
		{func(p *tty) { p.keyboard.WriteString("\x03") }, ok},
		{func(p *tty) { p.Process.Signal(syscall.SIGTERM) }, 128 + int(syscall.SIGTERM)},
	} {
		p := onTerminal(t, urls, "top", "-every", "100ms")
		p.shows(t, "2 names")
		p.shows(t, "q quits")
		end.by(p)
		p.ends(t, end.status)
		if text := p.text(); !strings.Contains(text, "\x1b[?1049h") || !strings.Contains(text, "\x1b[?25h\x1b[?1049l") {
			t.Errorf("%q", text[max(0, len(text)-200):])
		}
	}
}
