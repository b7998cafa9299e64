package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/internal/testserver"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// failoverTTL is longer than a failover takes and the healing after it.
const failoverTTL = 12 * time.Second

// A primary is lost together with the writes that its replica had not got, the lock
// key among them, and the replica takes its place: nobody else gets the name, and
// the lease goes on.
func TestFailover(t *testing.T) {
	takesLong(t)
	t.Parallel()
	processes(t, 0) // or skip
	var n notes
	room := make(chan struct{}, 3)
	atOnce(max(1, howOften(t)/2), func(i int) {
		room <- struct{}{}
		defer func() { <-room }()
		t.Run(fmt.Sprint(i), func(t *testing.T) { failOver(t, &n) })
	})
	n.log(t)
}

func failOver(t *testing.T, n *notes) {
	c := processes(t, 2, "--repl-diskless-sync-delay", "0")
	primary, replica := c.Servers[0], c.Servers[1]
	mustDo(t, replica, "REPLICAOF", "127.0.0.1", portOf(primary))
	waitFor(t, replica, "master_link_status:up")
	// With its first replica a server gets a new replication id: it counts as young.
	if err := cluster.Age(primary); err != nil {
		t.Fatal(err)
	}
	sentinel := watchPrimary(t, primary)
	conns := []node.Conn{node.URL("redis://" + sentinel + "?master_set=main")}
	patient := func(cfg *supervisor.Config) { cfg.TTL = failoverTTL }
	sup, other := supervise(t, conns, patient), supervise(t, conns, patient)

	// The replica keeps asking for what it misses, and is refused.
	mustDo(t, primary, "ACL", "SETUSER", "default", "-psync", "-sync")
	mustDo(t, primary, "CLIENT", "KILL", "TYPE", "replica")
	waitFor(t, replica, "master_link_status:down")

	held := acquire(t, sup, "x")
	lost := held.Lost()
	type win struct {
		l     *lease.Lease
		early error // of the holder's lease, which had not ended
	}
	released, won, failed := make(chan struct{}), make(chan win, 1), make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 6*failoverTTL)
	defer cancel()
	tries := 0
	go func() {
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for ctx.Err() == nil {
			tries++
			l, err := other.TryAcquire(ctx, "x")
			if err == nil {
				w := win{l: l}
				select {
				case <-released:
				default:
					w.early = fmt.Errorf("the holder's lease: valid %v, %v", held.Valid(), held.Err())
				}
				won <- w
				return
			}
			if !errors.Is(err, supervisor.ErrHeld) && !errors.Is(err, supervisor.ErrNoQuorum) && ctx.Err() == nil {
				failed <- err
				return
			}
			<-again.C
		}
		failed <- fmt.Errorf("no lease after %v: %w", 6*failoverTTL, ctx.Err())
	}()

	<-time.After(anyMoment() * (failoverTTL / ttl))
	killed := time.Now()
	primary.Kill()
	if err := poll(failoverTTL, func() error { return says(replica.Addr(), "replication", "role:master") }); err != nil {
		t.Fatalf("no failover: %v", err)
	}
	n.took("promoted after", time.Since(killed))
	if value := mustDo(t, replica, "GET", "x"); value != nil {
		t.Fatalf("the replica had got the key: %v", value)
	}
	over := time.NewTimer(failoverTTL + failoverTTL/4 - time.Since(killed))
	defer over.Stop()
	if err := poll(failoverTTL-time.Since(killed), func() error {
		value, err := replica.Do("GET", "x")
		if err == nil && value != string(held.Token()) {
			err = fmt.Errorf("it keeps %v; the lease: %v", value, held.Err())
		}
		return err
	}); err != nil {
		select {
		case w := <-won:
			t.Errorf("two holders: fences %d and %d; %v", held.Fence(), w.l.Fence(), w.early)
		default:
		}
		t.Fatalf("not healed: %v", err)
	}
	n.took("healed after", time.Since(killed))

	// It goes on after the end of what the old primary had promised, and of the
	// window in which the new one is asked for nothing.
	select {
	case <-lost:
		t.Fatalf("lost %v after the primary: %v", time.Since(killed), held.Err())
	case w := <-won:
		t.Fatalf("two holders: fences %d and %d; %v", held.Fence(), w.l.Fence(), w.early)
	case err := <-failed:
		t.Fatal(err)
	case <-over.C:
	}
	if !held.Valid() {
		t.Fatalf("not valid: %v", held.Err())
	}
	close(released)
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case w := <-won:
		if w.early != nil {
			t.Errorf("two holders: fences %d and %d; %v", held.Fence(), w.l.Fence(), w.early)
		}
		if w.l.Fence() <= held.Fence() {
			t.Errorf("fence %d behind %d", w.l.Fence(), held.Fence())
		}
		n.add("tries of the rival", float64(tries))
		n.took("the rival had it after the primary's end by", time.Since(killed))
		if err := w.l.Release(t.Context()); err != nil {
			t.Error(err)
		}
	case err := <-failed:
		t.Error(err)
	}
}

// watchPrimary starts a Sentinel, and returns its address when it knows the primary
// and its replica.
func watchPrimary(t *testing.T, primary cluster.Server) (addr string) {
	t.Helper()
	program, err := testserver.Program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := poll(20*time.Second, func() error { // the port may be taken by then
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr = l.Addr().String()
		l.Close()
		_, port, _ := net.SplitHostPort(addr)
		conf := filepath.Join(dir, "sentinel-"+port+".conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor main 127.0.0.1 %s 1\n"+
			"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n", port, dir, portOf(primary))
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		spawn(t, exec.Command(program, conf, "--sentinel"))
		return poll(5*time.Second, func() error {
			return says(addr, "sentinel", "status=ok,address="+primary.Addr()+",slaves=1")
		})
	}); err != nil {
		t.Fatal(err)
	}
	return addr
}

func portOf(s cluster.Server) string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return port
}

func mustDo(t *testing.T, s server, args ...string) any {
	t.Helper()
	answer, err := s.Do(args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return answer
}

// waitFor waits until a server says so of its replication.
func waitFor(t *testing.T, s cluster.Server, what string) {
	t.Helper()
	if err := poll(20*time.Second, func() error { return says(s.Addr(), "replication", what) }); err != nil {
		t.Fatal(err)
	}
}

// says tells whether something stands in a section of what a server or a Sentinel
// tells of itself.
func says(addr, section, what string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "INFO %s\r\n", section); err != nil {
		return err
	}
	in, n := bufio.NewReader(c), 0
	if _, err := fmt.Fscanf(in, "$%d\r\n", &n); err != nil {
		return err
	}
	text := make([]byte, n)
	if _, err = io.ReadFull(in, text); err == nil && !strings.Contains(string(text), what) {
		err = fmt.Errorf("%s does not say %s, but %s", addr, what, text)
	}
	return err
}
