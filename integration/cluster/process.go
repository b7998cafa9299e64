//go:build unix

package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cenkalti/backoff/v4"
	"github.com/leasehold-go/leasehold/internal/testserver"
)

type process struct {
	address
	t    testing.TB
	dir  string
	args []string
	env  []string // besides ours

	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

func redisServer() (string, error) { return testserver.Program() }

func openProcess(t testing.TB, args []string) (Server, error) {
	return open(&process{t: t, dir: t.TempDir(), args: args})
}

// open starts a server on a free port.
func open(p *process) (Server, error) {
	err := onFreePort(p.t, func(a address) error {
		p.address = a
		return p.start()
	})
	if err != nil {
		return nil, err
	}
	p.t.Cleanup(p.Kill)
	return p, nil
}

func (p *process) start() error {
	path, err := redisServer()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{
		"--port", p.port(), "--bind", "127.0.0.1", "--dir", p.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, p.args...)
	if slices.Contains(p.args, "--cluster-enabled") {
		// By itself it would take the port 10,000 above, which an outgoing connection may have.
		bus, err := freePort(p.t)
		if err != nil {
			return err
		}
		args = append(args, "--cluster-port", bus.port())
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = childAttr()
	if err := onKeeper(cmd.Start); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }() // how it ended is of no interest
	p.cmd, p.gone = cmd, gone

	// The port may be another server's, which answers as well: ask who it is.
	mine := fmt.Sprintf("process_id:%d\r\n", cmd.Process.Pid)
	err = await(func() error {
		select {
		case <-gone:
			said, _ := os.ReadFile(log.Name())
			return backoff.Permanent(fmt.Errorf("%s has ended: %s", path, last(said)))
		default:
		}
		info, err := p.Do("INFO", "server")
		if s, ok := info.(string); err == nil && (!ok || !strings.Contains(s, mine)) {
			return errors.New("another server has the port")
		}
		return err
	})
	if err != nil {
		p.Kill()
	}
	return err
}

func (p *process) Start() {
	p.t.Helper()
	if err := p.start(); err != nil {
		p.t.Errorf("start the Redis server %s again: %v", p.address, err)
	}
}

func (p *process) Kill() {
	_ = p.cmd.Process.Kill() // it fails only if the process has ended
	<-p.gone
}

func (p *process) Pause() { p.signal(syscall.SIGSTOP) }

func (p *process) Resume() { p.signal(syscall.SIGCONT) }

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%v to the Redis server %s: %v", s, p.address, err)
	}
}

// last returns the end of a log.
func last(log []byte) string {
	const most = 500
	return strings.TrimSpace(string(log[max(0, len(log)-most):]))
}

// keeper runs functions on one thread that lives as long as this process: on
// Linux a child that is to die with its parent dies with the thread that started
// it.
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
