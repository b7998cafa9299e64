package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"time"
)

// exchanges is no lock and no library, but the bytes of a hand-over and nothing else, over
// plain connections with a goroutine that reads each: on each server a script deletes a key
// and publishes a message, and the client that gets that sets the key. It is done when a quorum has
// said OK. So it shows what of a hand-over no library can save: the servers, the system,
// and a machine that wakes up.
const exchanges = "no lock: bytes alone"

// A bare is one server of it.
type bare struct {
	give, inbox, take *bareConn
}

type bareConn struct {
	net.Conn
	r *bufio.Reader
}

func dialBare(addr string) (*bareConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &bareConn{c, bufio.NewReader(c)}, nil
}

// encode returns the bytes of one command. What is measured sends them again and again.
func encode(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// read reads an answer of so many lines, of which the last is to begin so.
func (c *bareConn) read(lines int, last string) error {
	for i := range lines {
		text, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if i == lines-1 && !strings.HasPrefix(text, last) {
			return fmt.Errorf("unexpected answer %q", text)
		}
	}
	return nil
}

func bareHandovers(ctx context.Context, f *fleet, trip, d time.Duration) (figures []figure, err error) {
	const script = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.call('PUBLISH', ARGV[2], ARGV[1])`
	name := names(1)[0]
	sum := sha1.Sum([]byte(script))
	give := encode("EVALSHA", hex.EncodeToString(sum[:]), "1", name, "token", "inbox-"+name)
	take := encode("SET", name, "token", "PX", "10000")
	var servers []bare
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close() // ends its reader
		}
	}()
	for _, addr := range f.addrs {
		var conns [3]*bareConn
		for i := range conns {
			if conns[i], err = dialBare(addr); err != nil {
				return nil, err
			}
			open = append(open, conns[i])
		}
		s := bare{conns[0], conns[1], conns[2]}
		servers = append(servers, s)
		if _, err = s.give.Write(encode("SCRIPT", "LOAD", script)); err != nil {
			return nil, err
		}
		if err = s.give.read(2, ""); err != nil {
			return nil, err
		}
		if _, err = s.inbox.Write(encode("SUBSCRIBE", "inbox-"+name)); err != nil {
			return nil, err
		}
		if err = s.inbox.read(6, ":1"); err != nil {
			return nil, err
		}
	}

	n := len(servers)
	given, taken := make(chan error, 2*n), make(chan error, 3*n) // also for the errors of their end
	for _, s := range servers {
		go func() {
			for {
				err := s.give.read(1, ":1")
				if given <- err; err != nil {
					return
				}
			}
		}()
		go func() {
			for {
				err := s.inbox.read(7, "token")
				if err == nil {
					_, err = s.take.Write(take)
				}
				if err != nil {
					taken <- err
					return
				}
			}
		}()
		go func() {
			for {
				err := s.take.read(1, "+OK")
				if taken <- err; err != nil {
					return
				}
			}
		}()
	}
	next := func(from <-chan error) error {
		select {
		case err := <-from:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var took []time.Duration
	for begun := time.Now(); len(took) < 4 || time.Since(begun) < d; {
		holdersWork(trip)
		asked := time.Now()
		for _, s := range servers {
			if _, err := s.give.Write(give); err != nil {
				return nil, err
			}
		}
		for i := range n {
			if err := next(taken); err != nil {
				return nil, err
			}
			if i == n/2 {
				took = append(took, time.Since(asked))
			}
		}
		for range n {
			if err := next(given); err != nil {
				return nil, err
			}
		}
	}
	return []figure{
		{"hand-over p50", "ms", millis(quantile(took, .5))},
		{"hand-over p99", "ms", millis(quantile(took, .99))},
	}, nil
}
