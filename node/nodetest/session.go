package nodetest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/leasehold-go/leasehold/clock"
)

// A session is the server's side of one connection. One goroutine reads it all
// the time, as a kernel takes bytes for a server that is stopped; another writes,
// so that a client which does not read stops nobody but itself.
type session struct {
	n      *Node
	client string // by whose path it came
	conn   net.Conn
	id     int64
	done   chan struct{} // closed when the reader has met the end
	wake   chan struct{} // says that out has grown

	// Guarded by n.mu:
	out                     []answer
	name                    string          // CLIENT SETNAME
	proto                   int             // 2 or 3
	known                   bool            // gave the password
	tracking, optin, noloop bool            // CLIENT TRACKING
	caching                 bool            // CLIENT CACHING YES came right before
	channels                map[string]bool // subscribed to
	lost                    bool            // something of it vanished in a cut; it is silent from there on
	gone                    bool            // its server has crashed
	ended                   bool            // by the client: answers have nowhere to go
	last                    bool            // the last answer was given: nothing more is executed
}

// An answer is on its way to the client.
type answer struct {
	data []byte
	at   clock.Instant // of the Go runtime's clock, which does not jump
	last bool          // the connection is closed after it
}

func (s *session) read() {
	r := bufio.NewReader(s.conn)
	for {
		args, err := readRequest(r)
		if err != nil {
			if bad := (protocolError)(""); errors.As(err, &bad) {
				s.n.arrive(s, []string{protocolBroken, string(bad)})
				io.Copy(io.Discard, s.conn) // until the writer closes it
			}
			break
		}
		if len(args) > 0 {
			s.n.arrive(s, args)
		}
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	delete(s.n.sessions, s)
	s.ended = true
	close(s.done)
	s.conn.Close()
}

// protocolBroken stands for a request that cannot be read. No client can send a
// command of this name, because names are looked up in upper case.
const protocolBroken = "protocol error"

func (n *Node) arrive(s *session, args []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cuts[s.client] != nil {
		s.lost = true
	}
	switch {
	case s.lost || s.gone:
	case n.hung:
		n.waiting = append(n.waiting, arrival{s, args})
	default:
		n.serve(s, args)
	}
}

// serve executes one request, and sends its answer on its way. It needs n.mu.
func (n *Node) serve(s *session, args []string) {
	if s.last {
		return
	}
	var data []byte
	data, s.last = n.answer(s, args)
	n.send(s, data)
}

// push sends what nobody asked for on its way, once the node does not hang any more.
// It needs n.mu.
func (n *Node) push(s *session, v push) {
	if n.hung {
		n.held = append(n.held, func() { n.push(s, v) })
		return
	}
	n.send(s, encode(nil, s.proto, v))
}

func (n *Node) send(s *session, data []byte) {
	if s.ended {
		return
	}
	s.out = append(s.out, answer{data, n.clock.Now().Add(n.delay), s.last})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) write() {
	for {
		a, ok := s.next()
		if !ok {
			select {
			case <-s.wake:
				continue
			case <-s.done:
				return
			}
		}
		if d := a.at.Sub(s.n.clock.Now()); d > 0 {
			timer := s.n.clock.NewTimer(d)
			select {
			case <-timer.C():
			case <-s.done:
				timer.Stop()
				return
			}
		}
		if s.vanished() {
			continue
		}
		if _, err := s.conn.Write(a.data); err != nil || a.last {
			s.conn.Close() // the reader notices, and ends the session
			return
		}
	}
}

// next takes what is to be written together: all that is due, else all of the
// instant that comes first.
func (s *session) next() (a answer, ok bool) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if len(s.out) == 0 {
		return a, false
	}
	a.at = max(s.out[0].at, s.n.clock.Now())
	n := 0
	for ; n < len(s.out) && s.out[n].at <= a.at; n++ {
		a.data = append(a.data, s.out[n].data...)
		a.last = s.out[n].last
	}
	s.out = s.out[n:]
	return a, true
}

func (s *session) vanished() bool {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.n.cuts[s.client] != nil {
		s.lost = true
	}
	return s.lost || s.gone
}

// answer returns the bytes that answer a request, and whether the connection is
// closed after them. It needs n.mu.
func (n *Node) answer(s *session, args []string) (data []byte, last bool) {
	if args[0] == protocolBroken {
		return encode(nil, s.proto, failure("ERR Protocol error: "+args[1])), true
	}
	name := commandName(args)
	first, _, _ := strings.Cut(name, " ")
	for _, named := range []string{name, first, "*"} {
		if named == "*" && alwaysAnswered[first] {
			continue
		}
		if raw := n.replies[named]; raw != "" {
			raw, last = strings.CutSuffix(raw, EOF)
			return []byte(raw), last
		}
		if text := n.fails[named]; text != "" {
			return encode(nil, s.proto, failure(text)), false
		}
	}
	v := n.execute(s, name, args)
	return encode(nil, s.proto, v), name == "QUIT"
}

var alwaysAnswered = map[string]bool{"HELLO": true, "CLIENT": true, "INFO": true, "TIME": true}
