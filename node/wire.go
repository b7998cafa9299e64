package node

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// The client library panics in a goroutine of its own, which nobody can recover,
// when a server sends one reply too many, an announcement of a subscription that
// was never made, or a length below -1; and it allocates whatever length it is
// told. A port with something else behind it must not end a user's process, so
// each connection that we dial is watched: whatever would get that far becomes
// an error of Read.
const (
	maxDepth = 8       // of nested arrays and maps; HELLO needs 4
	maxItems = 1 << 16 // of one array, of one map
	maxBulk  = 16 << 20
	maxLine  = 64 << 10
)

var errSurplus = errors.New("the server sent a reply that nobody asked for")

// What a server may send that is no reply.
type pushes uint8

const (
	nothing       pushes = iota
	invalidations        // of keys that are tracked
	messages             // of the channels that were subscribed to
	anything             // a Sentinel
)

// A wire is a connection to a server. What is read from it is well-formed, and
// is no more than was asked for.
type wire struct {
	net.Conn
	pushes  pushes
	onClose func(*wire)        // before Close
	onError func(*wire, error) // a Read failed

	open       atomic.Int64 // commands written less replies begun
	subscribed atomic.Bool  // SUBSCRIBE was written
	written    scanner      // of Write alone
	read       scanner      // of Read alone
	three      bool         // of Read alone: RESP3 is spoken, as a map tells
	failed     error        // of Read alone

	severing sync.Once
}

func newWire(c net.Conn, p pushes) *wire {
	w := &wire{Conn: c, pushes: p}
	w.written.begin = func(byte) error {
		w.open.Add(1)
		return nil
	}
	w.read.begin = func(kind byte) error {
		w.three = w.three || kind == '%'
		switch {
		case p == anything, p == messages && (kind == '>' || kind == '*'), p == invalidations && kind == '>': // see below
			return nil
		case kind == '>':
			return errSurplus
		}
		return w.reply()
	}
	switch p {
	case invalidations:
		w.read.named = func(kind byte, first []byte) error {
			if kind == '>' && string(first) != "invalidate" {
				return errSurplus
			}
			return nil
		}
	case messages:
		w.written.named = func(_ byte, first []byte) error {
			if string(first) == "SUBSCRIBE" {
				w.subscribed.Store(true)
			}
			return nil
		}
		// In RESP2 a message is an array like any other, over a connection that does
		// nothing else. The confirmation of a subscription is the reply to it.
		w.read.named = func(kind byte, first []byte) error {
			subscribed := w.subscribed.Load()
			switch {
			case string(first) == "message" && subscribed && (kind == '>' || !w.three):
				return nil
			case kind == '>' && !(string(first) == "subscribe" && subscribed):
				return errSurplus
			}
			return w.reply()
		}
	}
	return w
}

// reply counts one.
func (w *wire) reply() error {
	if w.open.Add(-1) < 0 {
		return errSurplus
	}
	return nil
}

// Write counts the commands before they leave, so that no answer can be here
// earlier than its count.
func (w *wire) Write(p []byte) (int, error) {
	if err := w.written.scan(p); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func (w *wire) Read(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		if bad := w.read.scan(p[:n]); bad != nil {
			n, err = 0, bad // what came with it is not believed either
		}
	}
	if err != nil {
		w.failed = err
		if w.onError != nil {
			w.onError(w, err)
		}
	}
	return n, err
}

// Close is called by the client library, when it is done with the connection.
func (w *wire) Close() error {
	if w.onClose != nil {
		w.onClose(w)
	}
	w.sever()
	return nil
}

// sever closes the connection at once. A TLS connection is closed below TLS,
// whose farewell would wait five seconds for a hung peer.
func (w *wire) sever() {
	w.severing.Do(func() {
		c := w.Conn
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		_ = c.Close() // nothing that could be done about it
	})
}

// A scanner follows a stream of RESP values of either version. It allocates
// nothing unless something is wrong.
type scanner struct {
	begin func(kind byte) error // a value begins that is not part of another
	// named is told the first element of an array or push that is not part of another,
	// nothing if that is no short string. It may be nil.
	named func(kind byte, first []byte) error

	kind  byte // of the element whose line is being read; 0 between two elements
	line  int  // bytes of that line so far
	last  byte // the latest of them
	head  [24]byte
	bulk  int // bytes of a string that are still to come, with the line end
	depth int
	left  [maxDepth]int // elements still to come, at each depth

	naming byte     // the kind of array or push whose first element is being read, or 0
	first  [16]byte // of that element
	length int      // of that element so far
}

func (s *scanner) scan(p []byte) error {
	for len(p) > 0 {
		switch {
		case s.bulk > 0:
			n := min(s.bulk, len(p))
			if s.naming != 0 {
				s.note(p[:max(0, min(n, s.bulk-2))])
			}
			// The last two are the line end: anything else there means that the
			// two sides count differently.
			for i := max(0, s.bulk-2); i < s.bulk && i < n; i++ {
				if p[i] != "\r\n"[i-s.bulk+2] {
					return malformed("a string that ends with", p[i])
				}
			}
			s.bulk -= n
			p = p[n:]
			if s.bulk == 0 {
				if err := s.done(); err != nil {
					return err
				}
			}
		case s.kind == 0:
			n, err := s.quick(p)
			if err != nil {
				return err
			}
			if n > 0 {
				p = p[n:]
				continue
			}
			s.kind, s.line, s.last = p[0], 0, 0
			p = p[1:]
			switch s.kind {
			case '+', '-', ':', '$', '*', '_', ',', '#', '!', '=', '(', '%', '~':
			case '>':
				if s.depth > 0 {
					return malformed("a push within a value of type", s.kind)
				}
			default:
				return malformed("a value of type", s.kind)
			}
			if s.depth == 0 {
				if err := s.begin(s.kind); err != nil {
					return err
				}
			} else if s.naming != 0 && s.kind != '+' && s.kind != '$' {
				if err := s.name(); err != nil {
					return err
				}
			}
		default:
			end := bytes.IndexByte(p, '\n')
			part := p
			if end >= 0 {
				part = p[:end]
			}
			if s.line < len(s.head) {
				copy(s.head[s.line:], part)
			}
			if len(part) > 0 {
				s.line += len(part)
				s.last = part[len(part)-1]
			}
			if s.line > maxLine {
				return malformed("too long a line of type", s.kind)
			}
			if end < 0 {
				return nil
			}
			p = p[end+1:]
			if s.last != '\r' {
				return malformed("a broken line of type", s.kind)
			}
			if err := s.header(); err != nil {
				return err
			}
		}
	}
	return nil
}

// quick takes in what nearly everything consists of, a string, a number or the length of
// an array, where all of it is there and right, and returns its length; or 0, and the
// rest of scan looks at it. It takes less than half the time, and every byte comes through
// here.
func (s *scanner) quick(p []byte) (int, error) {
	kind := p[0]
	if kind != '$' && kind != ':' && kind != '*' || s.naming != 0 || kind == '*' && (s.named != nil || s.depth == maxDepth) {
		return 0, nil
	}
	n, i := 0, 1
	for ; i < len(p) && i < 8 && '0' <= p[i] && p[i] <= '9'; i++ {
		n = 10*n + int(p[i]-'0')
	}
	if i == 1 || len(p) < i+2 || p[i] != '\r' || p[i+1] != '\n' {
		return 0, nil
	}
	i += 2
	switch {
	case kind == '$':
		if i += n + 2; len(p) < i || p[i-2] != '\r' || p[i-1] != '\n' {
			return 0, nil
		}
	case kind == '*' && n > maxItems:
		return 0, nil
	}
	if s.depth == 0 {
		if err := s.begin(kind); err != nil {
			return 0, err
		}
	}
	if kind == '*' && n > 0 {
		s.left[s.depth] = n
		s.depth++
		return i, nil
	}
	return i, s.done()
}

// header acts on a complete line, without its end.
func (s *scanner) header() error {
	kind, line := s.kind, s.line-1 // less the carriage return
	switch kind {
	case '+', '-', ',', '(':
		if s.naming != 0 {
			s.note(s.head[:min(line, len(s.head))])
		}
		return s.done()
	case '_', '#':
		// Exactly "_" or "#t": the library skips as many bytes, whatever they are.
		if (kind == '_') != (line == 0) || line > 1 {
			return malformed("a broken value of type", kind)
		}
		return s.done()
	}
	n, ok := number(s.head[:min(line, len(s.head))])
	if !ok || line > len(s.head) {
		return malformed("a broken number of type", kind)
	}
	switch kind {
	case ':':
		return s.done()
	case '$', '!', '=':
		if n == -1 && kind == '$' {
			return s.done()
		}
		if n < 0 || n > maxBulk {
			return malformed("a length out of range, of type", kind)
		}
		s.bulk = int(n) + 2
	default:
		if s.depth == 0 && s.named != nil && (kind == '*' || kind == '>') {
			s.naming, s.length = kind, 0
		}
		if n == -1 && kind == '*' {
			return s.done()
		}
		if n < 0 || n > maxItems {
			return malformed("a length out of range, of type", kind)
		}
		if kind == '%' {
			n *= 2
		}
		if n == 0 {
			return s.done()
		}
		if s.depth == maxDepth {
			return malformed("too deep a value of type", kind)
		}
		s.left[s.depth] = int(n)
		s.depth++
		s.kind = 0
	}
	return nil
}

// note adds to the first element.
func (s *scanner) note(p []byte) {
	if s.length < len(s.first) {
		copy(s.first[s.length:], p)
	}
	s.length += len(p)
}

// name tells the first element.
func (s *scanner) name() error {
	kind := s.naming
	s.naming = 0
	if s.length > len(s.first) {
		s.length = 0
	}
	return s.named(kind, s.first[:s.length])
}

// done ends an element, and every value that it was the last element of.
func (s *scanner) done() error {
	if s.naming != 0 {
		if err := s.name(); err != nil {
			return err
		}
	}
	s.kind = 0
	for s.depth > 0 {
		if s.left[s.depth-1]--; s.left[s.depth-1] > 0 {
			return nil
		}
		s.depth--
	}
	return nil
}

// number reads an optional minus and 1 to 19 digits.
func number(p []byte) (int64, bool) {
	neg := len(p) > 0 && p[0] == '-'
	if neg {
		p = p[1:]
	}
	if len(p) == 0 || len(p) > 19 {
		return 0, false
	}
	n := uint64(0) // 19 digits fit
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	if n > 1<<63-1 {
		return 0, false
	}
	if neg {
		return -int64(n), true
	}
	return int64(n), true
}

func malformed(what string, c byte) error {
	return fmt.Errorf("the server does not speak the Redis protocol: %s %q", what, c)
}
