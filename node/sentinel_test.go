package node_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A sentinel is as much of a Redis Sentinel as the client library asks for.
type sentinel struct {
	t *testing.T

	mu      sync.Mutex
	primary string
	conns   []net.Conn
	dialled int
}

func (s *sentinel) dial() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ours, theirs := net.Pipe()
	s.dialled++
	s.conns = append(s.conns, ours)
	out := make(chan string, 100)
	go func() {
		for answer := range out {
			if _, err := io.WriteString(ours, answer); err != nil {
				for range out {
				}
				return
			}
		}
	}()
	go func() {
		defer close(out)
		in := bufio.NewReader(ours)
		for {
			args, err := request(in)
			if err != nil {
				return
			}
			out <- s.answer(args)
		}
	}()
	return theirs, nil
}

func (s *sentinel) answer(args []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch command := strings.ToUpper(strings.Join(args[:min(2, len(args))], " ")); {
	case strings.HasPrefix(command, "HELLO"):
		return "%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n"
	case strings.HasPrefix(command, "SUBSCRIBE"), strings.HasPrefix(command, "UNSUBSCRIBE"):
		var b strings.Builder
		for _, channel := range args[1:] {
			fmt.Fprintf(&b, ">3\r\n+%s\r\n+%s\r\n:1\r\n", strings.ToLower(args[0]), channel)
		}
		return b.String()
	case command == "SENTINEL SENTINELS":
		return "*0\r\n"
	case command == "SENTINEL GET-MASTER-ADDR-BY-NAME":
		host, port, _ := net.SplitHostPort(s.primary)
		return fmt.Sprintf("*2\r\n+%s\r\n+%s\r\n", host, port)
	case command == "PING":
		return "+PONG\r\n"
	}
	s.t.Errorf("the sentinel was asked %q", args)
	return "-ERR unknown command\r\n"
}

// cut breaks every connection.
func (s *sentinel) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// switchTo makes another server the primary. Nobody is told: the client looks
// again by itself.
func (s *sentinel) switchTo(primary string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.primary = primary
}

func (s *sentinel) dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

func request(in *bufio.Reader) ([]string, error) {
	n, err := length(in)
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := length(in)
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}

func length(in *bufio.Reader) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}
