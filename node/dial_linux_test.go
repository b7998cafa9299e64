package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A name may have a dead address, whose packets nobody answers: the next one is dialled long
// before the timeout, in whatever order the resolver gives them.
func TestNameWithADeadAddress(t *testing.T) {
	alive, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	_, port, _ := net.SplitHostPort(alive.Addr().String())
	jam(t, alive.Addr().(*net.TCPAddr).Port)
	for _, addresses := range [][]string{{"127.0.0.2", "127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}} {
		d := &net.Dialer{Timeout: 4 * time.Second, Resolver: resolver(addresses...)}
		begun := time.Now()
		c, err := dialTCP(t.Context(), net.JoinHostPort("db.example.", port), d, nil, time.Second, 0)
		if err != nil {
			t.Fatalf("%v: %v", addresses, err)
		}
		if got, took := c.RemoteAddr().String(), time.Since(begun); got != alive.Addr().String() || took > 3*time.Second {
			t.Errorf("%v: connected to %s after %v", addresses, got, took)
		}
		c.Close()
	}
	// One that has no other is waited for, and no longer than the timeout.
	d := &net.Dialer{Timeout: 100 * time.Millisecond, Resolver: resolver("127.0.0.2")}
	if _, err := dialTCP(t.Context(), net.JoinHostPort("db.example.", port), d, nil, time.Second, 0); err == nil {
		t.Error("connected to an address that is dead")
	}
}

// A server that lets nobody connect for a while is connected to as soon as it does. The kernel by
// itself asks again a second after the dial has begun.
func TestDialsAgain(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	fd := jam(t, port)
	replies := make(chan Batch, 100)
	a := NewActor(Config{
		Conn: URL(fmt.Sprintf("redis://127.0.0.2:%d", port)), Timeout: 100 * time.Millisecond, Longest: 2 * time.Second, Replies: replies,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for b := range replies {
		if b.State.Err != nil && strings.Contains(b.State.Err.Error(), "no answer within 800ms") {
			break // the next dial is to last for 1.6 s
		}
	}
	<-time.After(400 * time.Millisecond) // in the midst of that
	own, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(own), "listener")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun, first := time.Now(), make(chan time.Duration, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			took := time.Since(begun)
			go func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 1)); err == nil { // those who jam say nothing
					first <- took
				}
			}()
		}
	}()
	if took := <-first; took > 550*time.Millisecond { // the kernel by itself asks after 600
		t.Errorf("connected after %v", took)
	}
}

// jam listens on 127.0.0.2, and lets nobody connect. It returns the listener.
func jam(t *testing.T, port int) int {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 2}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 10 { // until the queue of what is to be accepted is full
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), uint16(port)).String(), 100*time.Millisecond)
		if err != nil {
			return fd
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue of connections does not become full")
	return 0
}

// resolver answers that every name has these addresses, and none of IPv6.
func resolver(addresses ...string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe() // which is spoken to as TCP: with the length before each message
		go func() {
			defer ours.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(ours, length[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(ours, query); err != nil {
					return
				}
				end := 12 + strings.IndexByte(string(query[12:]), 0) + 5 // of the question
				answer := slices.Concat(query[:2], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end])
				if query[end-3] == 1 { // it asks for A
					answer[7] = byte(len(addresses))
					for _, a := range addresses {
						ip := netip.MustParseAddr(a).As4()
						answer = slices.Concat(answer, []byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4}, ip[:])
					}
				}
				if _, err := ours.Write(slices.Concat(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer)); err != nil {
					return
				}
			}
		}()
		return theirs, nil
	}}
}
