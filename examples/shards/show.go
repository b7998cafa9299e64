package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A stage is where processes of this program share names on embedded nodes.
type stage struct {
	args []string
	p    printer

	mu     sync.Mutex
	all    []*actor
	owners map[string]*actor
}

// An actor is one process.
type actor struct {
	id    int
	cmd   *exec.Cmd
	stdin io.Closer
	heard chan struct{} // closed at the end of what it says
	gone  bool
}

// show starts processes, kills one and has one leave. It returns 0 if all went as it should.
func show(ctx context.Context, out io.Writer, names int, ttl time.Duration) int {
	s := &stage{p: printer{out: out}, owners: map[string]*actor{}}
	var urls []string
	for _, n := range nodetest.Start(3) {
		url, err := serve(ctx, n)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		urls = append(urls, url)
	}
	s.args = []string{"-nodes", strings.Join(urls, ","), "-names", fmt.Sprint(names), "-ttl", ttl.String(), "-eof"}
	defer s.end()
	for _, act := range []struct {
		what string
		do   func() error
	}{
		{"two processes start", func() error { return s.start(2) }},
		{"a third one starts", func() error { return s.start(1) }},
		{"process 1 is killed", func() error { return s.kill(s.all[0]) }},
		{"process 2 leaves", func() error { return s.leave(s.all[1]) }},
	} {
		s.p.say("--- %s", act.what)
		begun := time.Now()
		if err := act.do(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		parts, ok := s.balanced(names)
		for !ok && time.Since(begun) < 3*ttl+10*time.Second {
			if err := setup.Pause(ctx, 20*time.Millisecond); err != nil {
				s.p.say("stopped: %v", err)
				return 1
			}
			parts, ok = s.balanced(names)
		}
		s.p.say("--- after %.1f s they own %v", time.Since(begun).Seconds(), parts)
		if !ok {
			return 1
		}
	}
	return 0
}

// serve has a node be reached from other processes, until ctx is done.
func serve(ctx context.Context, n *nodetest.Node) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			outer, err := l.Accept()
			if err != nil {
				return
			}
			inner, err := n.Dial(ctx, "")
			if err != nil {
				_ = outer.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = to.Close(), from.Close()
			}
			go pass(inner, outer)
			go pass(outer, inner)
		}
	}()
	return "redis://" + l.Addr().String(), nil
}

func (s *stage) start(n int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for range n {
		a := &actor{id: len(s.all) + 1, cmd: exec.Command(self, s.args...), heard: make(chan struct{})}
		a.cmd.Stderr = os.Stderr
		if a.stdin, err = a.cmd.StdinPipe(); err != nil {
			return err
		}
		out, err := a.cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := a.cmd.Start(); err != nil {
			return err
		}
		s.mu.Lock()
		s.all = append(s.all, a)
		s.mu.Unlock()
		go func() {
			defer close(a.heard)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				s.hear(a, lines.Text())
			}
		}()
	}
	return nil
}

// hear takes in what a process says.
func (s *stage) hear(a *actor, line string) {
	s.p.say("process %d %s", a.id, line)
	s.mu.Lock()
	defer s.mu.Unlock()
	var name string
	var fence uint64
	if n, _ := fmt.Sscanf(line, "owns %s with fence %d", &name, &fence); n == 2 {
		// It may be said before the former owner has been heard to stop: a killed one never is.
		s.owners[name] = a
	}
	if n, _ := fmt.Sscanf(line, "has stopped with %s", &name); n == 1 && s.owners[name] == a {
		delete(s.owners, name)
	}
}

// balanced returns how many names each process owns, and whether that is as it should be.
func (s *stage) balanced(names int) (parts map[string]int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts = map[string]int{}
	for _, a := range s.all {
		if !a.gone {
			parts[fmt.Sprint("process ", a.id)] = 0
		}
	}
	owned := 0
	for _, a := range s.owners {
		if !a.gone {
			parts[fmt.Sprint("process ", a.id)]++
			owned++
		}
	}
	least, most := names, 0
	for _, n := range parts {
		least, most = min(least, n), max(most, n)
	}
	return parts, owned == names && most-least <= 1
}

func (s *stage) kill(a *actor) error {
	err := a.cmd.Process.Kill()
	<-a.heard
	_ = a.cmd.Wait() // it was killed
	s.remove(a)
	return err
}

func (s *stage) leave(a *actor) error {
	_ = a.stdin.Close()
	<-a.heard
	err := a.cmd.Wait()
	s.remove(a)
	return err
}

func (s *stage) remove(a *actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.gone = true
}

// end ends the processes that are left.
func (s *stage) end() {
	for _, a := range s.all {
		if !a.gone {
			_ = s.leave(a)
		}
	}
}
