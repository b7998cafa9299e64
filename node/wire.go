package node

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The client library panics in a goroutine of its own if a server sends one reply too many, an
// announcement of a subscription that was never made, or a length below -1. No other code can
// recover that panic. The library also allocates any length that it is told. A port where something
// else listens must not end a user's process. So each connection that we dial is watched: input
// that would cause this becomes an error of Read.
const (
	maxDepth = 8       // of nested arrays and maps; HELLO needs 4
	maxItems = 1 << 16 // of one array, of one map
	maxBulk  = 16 << 20
	maxLine  = 64 << 10
)

var errSurplus = errors.New("the server sent a reply that nobody asked for")

// pushes are the kinds of messages that a server may send and that are no replies.
type pushes uint8

const (
	nothing       pushes = iota
	invalidations        // of keys that are tracked
	messages             // of the channels that were subscribed to
	anything             // a Sentinel
)

// A wire is a connection to a server. What is read from it is well-formed, and is no more than was
// asked for.
type wire struct {
	net.Conn
	pushes  pushes
	onClose func(*wire)        // before Close
	onError func(*wire, error) // a Read failed

	unanswered atomic.Int64 // commands written less replies begun
	subscribed atomic.Bool  // SUBSCRIBE was written
	written    scanner      // of Write alone
	read       scanner      // of Read alone
	three      bool         // of Read alone: RESP3 is spoken, which a map shows
	failed     error        // of Read alone

	taken    atomic.Bool // it is ours, and the client library reads and writes no more
	severing sync.Once
}

func newWire(c net.Conn, p pushes) *wire {
	w := &wire{Conn: c, pushes: p}
	w.written.begin = func(byte) error {
		w.unanswered.Add(1)
		return nil
	}
	w.read.begin = w.readBegins
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
		w.read.named = w.readMessage
	}
	return w
}

// readBegins counts a reply. It leaves a reply that its first element names to named.
func (w *wire) readBegins(kind byte) error {
	w.three = w.three || kind == '%'
	switch {
	case w.pushes == anything,
		w.pushes == messages && (kind == '>' || kind == '*'),
		w.pushes == invalidations && kind == '>':
		return nil
	case kind == '>':
		return errSurplus
	}
	return w.reply()
}

// readMessage tells a message from a reply. In RESP2 a message is an array like any other, over a
// connection that does nothing else. The confirmation of a subscription is the reply to it.
func (w *wire) readMessage(kind byte, first []byte) error {
	subscribed := w.subscribed.Load()
	switch {
	case string(first) == "message" && subscribed && (kind == '>' || !w.three):
		return nil
	case kind == '>' && !(string(first) == "subscribe" && subscribed):
		return errSurplus
	}
	return w.reply()
}

// reply counts a reply.
func (w *wire) reply() error {
	if w.unanswered.Add(-1) < 0 {
		return errSurplus
	}
	return nil
}

// Write counts the commands before they leave, so that no answer can be here before it is counted.
// The library calls it.
func (w *wire) Write(p []byte) (int, error) {
	if w.taken.Load() {
		return 0, net.ErrClosed
	}
	if err := w.written.scan(p); err != nil {
		return 0, err
	}
	return w.send(p)
}

// send writes commands that have been counted.
func (w *wire) send(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil {
		err = w.saidBefore(err)
	}
	return n, err
}

// saidBefore returns why a server has refused TLS, instead of the error of a write. The server
// refuses after our side of the handshake, for example if a certificate is missing, and then closes
// the connection. The alert can be read, but a write only sees that the connection was closed.
func (w *wire) saidBefore(err error) error {
	t, ok := w.Conn.(*tls.Conn)
	if !ok || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return err
	}
	if _, said := t.Read(make([]byte, 1)); isAlert(said) {
		return said
	}
	return err
}

// isAlert reports whether an error is an alert that the other side has sent by TLS.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// Read reads for the library.
func (w *wire) Read(p []byte) (int, error) {
	if w.taken.Load() {
		return 0, net.ErrClosed
	}
	return w.receive(p)
}

// SetDeadline sets a deadline for the library.
func (w *wire) SetDeadline(t time.Time) error {
	if w.taken.Load() {
		return nil
	}
	return w.Conn.SetDeadline(t)
}

// receive reads. A deadline that has passed is no failure of a connection that is ours: its reading
// goes on later.
func (w *wire) receive(p []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.Conn.Read(p)
	if n > 0 {
		if bad := w.read.scan(p[:n]); bad != nil {
			n, err = 0, bad // what came with it is not believed either
		}
	}
	if err != nil && !(w.taken.Load() && errors.Is(err, os.ErrDeadlineExceeded)) {
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
		_ = c.Close() // if this fails, nothing could be done about it
	})
}

// A form says how a value goes on after its first byte. All of them begin with a line.
type form uint8

const (
	noValue     form = iota
	textLine         // a text
	fixedLine        // a text of a certain length: the library skips as many bytes, whatever they are
	numberLine       // a number
	sizedText        // the length of a string; its bytes and a line end follow
	countedList      // how many values follow
)

// A rule has what is known of the values that begin with one byte.
type rule struct {
	form        form
	names       bool  // as the first element it may name what it is part of
	named       bool  // its first element names it
	each        uint8 // values that follow for each one counted
	length      int32 // of a fixedLine
	least, most int32 // of a sizedText and a countedList; -1 stands for no value at all
}

// grammar has the rules of RESP by the first byte. A byte without a rule begins no value.
// Attributes and values of unknown length have none either: no server sends them unasked.
var grammar = [256]rule{
	'+': {form: textLine, names: true},
	'-': {form: textLine},
	',': {form: textLine},
	'(': {form: textLine},
	'_': {form: fixedLine, length: 0},
	'#': {form: fixedLine, length: 1},
	':': {form: numberLine},
	'$': {form: sizedText, least: -1, most: maxBulk, names: true},
	'!': {form: sizedText, most: maxBulk},
	'=': {form: sizedText, most: maxBulk},
	'*': {form: countedList, least: -1, most: maxItems, each: 1, named: true},
	'%': {form: countedList, most: maxItems, each: 2},
	'~': {form: countedList, most: maxItems, each: 1},
	'>': {form: countedList, most: maxItems, each: 1, named: true},
}

// A scanner follows a stream of RESP values of either version, in whatever pieces it comes. It is
// before a value, within its line, or within its bytes. It allocates nothing unless something is
// wrong.
type scanner struct {
	begin func(kind byte) error // a value begins that is not part of another
	// named gets the first element of an array or push that is not part of another, or nothing if
	// that is no short string. It may be nil.
	named func(kind byte, first []byte) error

	kind  byte     // the first byte of the value; 0 before one
	bulk  int      // bytes of a string that are still to come, with the line end; 0 outside one
	line  int      // bytes of a line that comes in pieces, so far
	head  [24]byte // the first of them
	last  byte     // the latest of them
	depth int
	left  [maxDepth]int // elements still to come, at each depth

	naming byte     // the kind of array or push whose first element is being read, or 0
	first  [16]byte // of that element
	length int      // of that element so far
}

func (s *scanner) scan(p []byte) error {
	for len(p) > 0 {
		var n int
		var err error
		switch {
		case s.bulk > 0:
			n, err = s.scanBytes(p)
		case s.kind == 0:
			n, err = s.scanFirst(p)
		default:
			n, err = s.scanLine(p)
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// scanFirst reads the first byte of a value, and as much of its line as there is.
func (s *scanner) scanFirst(p []byte) (int, error) {
	kind := p[0]
	r := &grammar[kind]
	switch {
	case r.form == noValue:
		return 0, malformed("a value of type", kind)
	case kind == '>' && s.depth > 0:
		return 0, malformed("a push within a value of type", kind)
	}
	var err error
	switch {
	case s.depth == 0:
		err = s.begin(kind)
	case s.naming != 0 && !r.names:
		err = s.name()
	}
	if err != nil {
		return 0, err
	}
	s.kind = kind
	if r.form >= numberLine {
		if n, length := shortNumber(p[1:]); length > 0 {
			return s.scanShort(p, r, n, 1+length)
		}
	}
	s.line, s.last = 0, 0
	n, err := s.scanLine(p[1:])
	return 1 + n, err
}

// scanShort goes on after a short number, and reads the whole value if that is there.
func (s *scanner) scanShort(p []byte, r *rule, n int64, length int) (int, error) {
	switch r.form {
	case numberLine:
		return length, s.done()
	case sizedText:
		end := length + int(n) + 2
		if s.naming == 0 && end <= len(p) && p[end-2] == '\r' && p[end-1] == '\n' {
			return end, s.done()
		}
	}
	return length, s.counted(r, n)
}

// scanLine reads a line, or the part of it that is there.
func (s *scanner) scanLine(p []byte) (int, error) {
	end := bytes.IndexByte(p, '\n')
	if s.line == 0 && end > 0 && end <= maxLine && p[end-1] == '\r' { // nearly always
		return end + 1, s.header(p[:end-1])
	}
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
	switch {
	case s.line > maxLine:
		return 0, malformed("too long a line of type", s.kind)
	case end < 0:
		return len(p), nil
	case s.last != '\r':
		return 0, malformed("a broken line of type", s.kind)
	}
	return end + 1, s.header(s.head[:min(s.line-1, len(s.head))])
}

// header acts on a complete line, without its first byte and its end. If the line came in pieces,
// header gets its beginning: no number is as long as that, and no name.
func (s *scanner) header(line []byte) error {
	r := &grammar[s.kind]
	switch r.form {
	case textLine:
		if s.naming != 0 {
			s.note(line)
		}
		return s.done()
	case fixedLine:
		if len(line) != int(r.length) {
			return malformed("a broken value of type", s.kind)
		}
		return s.done()
	}
	n, ok := number(line)
	if !ok {
		return malformed("a broken number of type", s.kind)
	}
	return s.counted(r, n)
}

// counted acts on a number, or on the length of a string or a list.
func (s *scanner) counted(r *rule, n int64) error {
	if r.form == numberLine {
		return s.done()
	}
	if r.named && s.depth == 0 && s.named != nil {
		s.naming, s.length = s.kind, 0
	}
	switch {
	case n < int64(r.least) || n > int64(r.most):
		return malformed("a length out of range, of type", s.kind)
	case n < 0:
		return s.done()
	case r.form == sizedText:
		s.bulk = int(n) + 2
		return nil
	case n == 0:
		return s.done()
	case s.depth == maxDepth:
		return malformed("too deep a value of type", s.kind)
	}
	s.left[s.depth] = int(n) * int(r.each)
	s.depth++
	s.kind = 0
	return nil
}

// scanBytes reads the bytes of a string, or the part of them that is there. The last two are the
// line end: anything else there means that the two sides count differently.
func (s *scanner) scanBytes(p []byte) (int, error) {
	n := min(s.bulk, len(p))
	text := max(0, min(n, s.bulk-2))
	if s.naming != 0 {
		s.note(p[:text])
	}
	for i := text; i < n; i++ {
		if p[i] != "\r\n"[i-s.bulk+2] {
			return 0, malformed("a string that ends with", p[i])
		}
	}
	if s.bulk -= n; s.bulk > 0 {
		return n, nil
	}
	return n, s.done()
}

// note adds to the first element.
func (s *scanner) note(p []byte) {
	if s.length < len(s.first) {
		copy(s.first[s.length:], p)
	}
	s.length += len(p)
}

// name passes the first element to named.
func (s *scanner) name() error {
	kind := s.naming
	s.naming = 0
	if s.length > len(s.first) {
		s.length = 0
	}
	return s.named(kind, s.first[:s.length])
}

// done ends an element, and every value whose last element it was.
func (s *scanner) done() error {
	s.kind = 0
	for d := s.depth - 1; d >= 0; d-- {
		if s.left[d]--; s.left[d] > 0 {
			break
		}
		s.depth = d
	}
	if s.naming != 0 {
		return s.name()
	}
	return nil
}

// shortNumber reads at most seven digits and the line end after them. It returns how many bytes
// that are, or 0 if something else is there, which number may understand. Nearly all lines are
// such, and each of them costs half as much by it.
func shortNumber(p []byte) (n int64, length int) {
	i := 0
	for ; i < len(p) && i < 7 && '0' <= p[i] && p[i] <= '9'; i++ {
		n = 10*n + int64(p[i]-'0')
	}
	if i == 0 || len(p) < i+2 || p[i] != '\r' || p[i+1] != '\n' {
		return 0, 0
	}
	return n, i + 2
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

var errNoRedis = errors.New("the server does not speak the Redis protocol")

func malformed(what string, c byte) error { return fmt.Errorf("%w: %s %q", errNoRedis, what, c) }
