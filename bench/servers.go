package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/internal/testserver"
	"github.com/redis/rueidis"
)

// A kind is a kind of server.
type kind uint8

const (
	redisKind kind = iota
	etcdKind
)

func (k kind) String() string { return [...]string{"redis-server", "etcd"}[k] }

// program returns the path of such a server.
func (k kind) program() (string, error) {
	if k == redisKind {
		return testserver.Program()
	}
	path, err := exec.LookPath(k.String())
	if err != nil {
		return "", fmt.Errorf("there is no %v on the PATH", k)
	}
	return path, nil
}

// missing tells why this machine has no such server, or nil.
func (k kind) missing() error {
	_, err := k.program()
	return err
}

// A fleet is the servers of one scenario, and how they are reached.
type fleet struct {
	servers []*server
	addrs   []string // of the servers, or of the proxies in front of them
	proxies []*proxy
	crowded bool // there will be many clients: they use small buffers

	etcdOnce sync.Once
	etcdErr  error
	etcdSrv  *server
}

// startFleet starts n Redis servers, empty and without persistence. It returns when
// they answer.
func startFleet(n int) (*fleet, error) {
	f := &fleet{}
	for range n {
		s, err := startRedis()
		if err != nil {
			f.close()
			return nil, err
		}
		f.servers = append(f.servers, s)
		f.addrs = append(f.addrs, s.addr)
	}
	return f, nil
}

// away puts a proxy in front of each server, which adds d in each direction.
func (f *fleet) away(d time.Duration) error {
	for i, s := range f.servers {
		p, err := startProxy(s.addr, d)
		if err != nil {
			return err
		}
		f.proxies = append(f.proxies, p)
		f.addrs[i] = p.addr()
	}
	return nil
}

// etcd returns the address of an etcd server, which is started when it is first
// asked for.
func (f *fleet) etcd() (string, error) {
	f.etcdOnce.Do(func() { f.etcdSrv, f.etcdErr = startEtcd() })
	if f.etcdErr != nil {
		return "", f.etcdErr
	}
	return f.etcdSrv.addr, nil
}

// shrink has a rueidis client make do with 130 kB instead of some MB.
func (f *fleet) shrink(o *rueidis.ClientOption) {
	if f.crowded {
		o.PipelineMultiplex, o.RingScaleEachConn = -1, 8
		o.ReadBufferEachConn, o.WriteBufferEachConn = 16<<10, 16<<10
	}
}

func (f *fleet) close() {
	for _, p := range f.proxies {
		p.close()
	}
	for _, s := range f.servers {
		s.kill()
	}
	if f.etcdSrv != nil {
		f.etcdSrv.kill()
	}
}

// cpu returns how much processor time the Redis servers have used.
func (f *fleet) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, s := range f.servers {
		info, err := s.info("cpu")
		if err != nil {
			return 0, err
		}
		for _, field := range []string{"used_cpu_sys", "used_cpu_user"} {
			seconds, err := strconv.ParseFloat(info[field], 64)
			if err != nil {
				return 0, fmt.Errorf("INFO cpu: %s: %w", field, err)
			}
			sum += time.Duration(seconds * float64(time.Second))
		}
	}
	return sum, nil
}

// A server is one process that serves one address on loopback. On Linux it dies
// with this process, however that ends.
type server struct {
	addr string
	dir  string
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

func startRedis() (*server, error) {
	program, err := redisKind.program()
	if err != nil {
		return nil, err
	}
	return start(func(dir, addr, port string) []string {
		return []string{
			program, "--port", port, "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no",
		}
	}, func(s *server) error {
		// The port may be another server's, which answers as well: ask who it is.
		info, err := s.info("server")
		if err == nil && info["process_id"] != strconv.Itoa(s.cmd.Process.Pid) {
			err = errors.New("another server has the port")
		}
		if err != nil {
			return err
		}
		return s.age()
	})
}

func startEtcd() (*server, error) {
	return start(func(dir, addr, port string) []string {
		url, peer := "http://"+addr, "http://127.0.0.1:0"
		return []string{
			"etcd", "--data-dir", dir, "--log-level", "error",
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", "default=" + peer,
		}
	}, func(s *server) error {
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// start starts a server on a free port, which somebody else may be quicker to take,
// and waits until ready says so.
func start(command func(dir, addr, port string) []string, ready func(*server) error) (*server, error) {
	var errs []error
	for range 3 {
		s, err := startOnce(command, ready)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func startOnce(command func(dir, addr, port string) []string, ready func(*server) error) (*server, error) {
	dir, err := os.MkdirTemp("", "leasehold-bench-")
	if err != nil {
		return nil, err
	}
	// Below the ports that systems give to outgoing connections.
	port := strconv.Itoa(20000 + rand.IntN(12000))
	s := &server{addr: "127.0.0.1:" + port, dir: dir, gone: make(chan struct{})}
	args := command(filepath.Join(dir), s.addr, port)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = childAttr()
	if err := onKeeper(s.cmd.Start); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() { _ = s.cmd.Wait(); close(s.gone) }() // how it ended is of no interest

	for until := time.Now().Add(10 * time.Second); ; {
		if err = ready(s); err == nil {
			return s, nil
		}
		select {
		case <-s.gone:
			said, _ := os.ReadFile(log.Name())
			s.kill()
			return nil, fmt.Errorf("%s has ended: %s", args[0], last(said))
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(until) {
			s.kill()
			return nil, fmt.Errorf("%s at %s: %w", args[0], s.addr, err)
		}
	}
}

// last returns the end of a log.
func last(log []byte) string {
	const most = 500
	return strings.TrimSpace(string(log[max(0, len(log)-most):]))
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it fails only if the process has ended
	<-s.gone
	_ = os.RemoveAll(s.dir) // what is left of it is in the directory for temporary files
}

// pause stops the server from running, as one that hangs: its connections stay
// open, and new ones are accepted by the system.
func (s *server) pause() error  { return s.cmd.Process.Signal(syscall.SIGSTOP) }
func (s *server) resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// age has leasehold take the server for one that it has known for long: it writes the
// marker of the server's incarnation, with a beginning in 1970, and that this
// incarnation is grown. A server that was just started is young, and leasehold asks it
// for nothing for a minute: a measurement would be of that.
func (s *server) age() error {
	info, err := s.info("everything")
	if err != nil {
		return err
	}
	life := info["run_id"] + "/" + info["master_replid"] + " 0"
	for key, value := range map[string]string{
		"leasehold:incarnation":                   life + " 0", // no client has told its MaxTTL
		"leasehold:{leasehold:incarnation}:grown": life,
	} {
		if _, err := s.do("SET " + key + " " + strconv.Quote(value)); err != nil {
			return err
		}
	}
	return nil
}

// info returns the fields of a section of INFO.
func (s *server) info(section string) (map[string]string, error) {
	text, err := s.do("INFO " + section)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// do sends one command, as it would be typed, over a connection of its own, and
// returns its answer, which must be a string or a number.
func (s *server) do(command string) (string, error) {
	c, err := net.DialTimeout("tcp", s.addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	switch line = strings.TrimSpace(line); {
	case strings.HasPrefix(line, "+"), strings.HasPrefix(line, ":"):
		return line[1:], nil
	case strings.HasPrefix(line, "$"):
		size, err := strconv.Atoi(line[1:])
		if err != nil || size < 0 {
			return "", fmt.Errorf("%s: %q", command, line)
		}
		text := make([]byte, size)
		_, err = io.ReadFull(r, text)
		return string(text), err
	}
	return "", fmt.Errorf("%s: %s", command, line)
}

// keeper runs functions on one thread that lives as long as this process: on Linux
// a child that is to die with its parent dies with the thread that started it.
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
