package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"time"
)

// A stream is a connection that the client library has made and greeted. From then on the actor
// itself writes and reads over it, so no goroutine has to be woken in between. It is for one
// goroutine at a time: the actor, the goroutine that waits for an overdue answer, or a watch.
//
// The wire has looked at every byte that comes. So what is read here is well-formed, and no more
// than was asked for.
type stream struct {
	wire *wire
	news func(keys []value) // handles keys that are tracked; an empty list stands for all of them

	out   []byte // gathered, and not yet written
	count int    // of the commands gathered
	idle  int    // uses in a row of less than a quarter of the buffers
	owed  int    // answers for which no caller waits any more

	in       []byte // received
	at       int    // how much of it has been read
	answers  []value
	elements []value // of these
}

const (
	leastIn = 4 << 10  // room to receive
	mostIn  = 16 << 10 // of a buffer that is kept however little of it is used
	maxIdle = 16       // uses of less than a quarter of a larger one, after which it is given up
)

// longAgo is a deadline that is over, by whatever clock.
var longAgo = time.Unix(1, 0)

func (s *stream) add(words ...string) {
	s.count++
	s.out = append(s.out, '*')
	s.out = strconv.AppendUint(s.out, uint64(len(words)), 10)
	for _, w := range words {
		s.out = append(s.out, "\r\n$"...)
		s.out = strconv.AppendUint(s.out, uint64(len(w)), 10)
		s.out = append(s.out, '\r', '\n')
		s.out = append(s.out, w...)
	}
	s.out = append(s.out, '\r', '\n')
}

func (s *stream) gathered() int { return s.count }

// exchange ends early when endWaiting is called, or the wire is severed. After endWaiting the next
// exchange begins with what was not written and what was not answered.
func (s *stream) exchange(context.Context) []value {
	n := s.count
	s.count = 0
	s.answers, s.elements = s.answers[:0], s.elements[:0]
	s.shrink()
	err := s.write(n)
	if err == nil {
		err = s.read(n)
	}
	if err != nil {
		s.owed += n - len(s.answers)
		for len(s.answers) < n {
			s.answers = append(s.answers, value{failed: err})
		}
	}
	return s.answers
}

// shrink makes room for new input, and gives up buffers that were of a burst.
func (s *stream) shrink() {
	much := max(len(s.out), len(s.in))
	if most := max(cap(s.out), cap(s.in)); most > mostIn && much < most/4 {
		s.idle++
	} else {
		s.idle = 0
	}
	s.in = s.in[:copy(s.in, s.in[s.at:])]
	s.at = 0
	if s.idle > maxIdle {
		s.idle = 0
		s.in, s.out = append(make([]byte, 0, leastIn), s.in...), append([]byte(nil), s.out...)
		s.answers, s.elements = nil, nil
	}
}

// write sends what was gathered, with n commands more than was counted before.
func (s *stream) write(n int) error {
	s.wire.unanswered.Add(int64(n)) // before they leave, so that no answer is here earlier
	written, err := s.wire.send(s.out)
	whole := written == len(s.out)
	s.out = s.out[:copy(s.out, s.out[written:])]
	if whole {
		return nil
	}
	if written == 0 && s.owed == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		return &unsentError{err}
	}
	return err
}

// An unsentError says that nothing of what was written has left.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// read reads n answers after those for which no caller waits.
func (s *stream) read(n int) error {
	for len(s.answers) < n {
		v, ok := s.next()
		switch {
		case !ok:
			if err := s.receive(); err != nil {
				return err
			}
		case v.kind == '>':
			s.pushed(v)
		case s.owed > 0:
			s.owed--
		default:
			s.answers = append(s.answers, v)
		}
	}
	return nil
}

// pushed handles a message that the server sends unasked: the wire has let through one kind of it.
func (s *stream) pushed(v value) {
	if s.news != nil && len(v.elements) > 1 {
		s.news(v.elements[1].elements)
	}
}

// watch reads while nothing is asked, until unwatch is called or the connection has broken.
func (s *stream) watch() {
	for {
		s.elements = s.elements[:0]
		for v, ok := s.next(); ok; v, ok = s.next() {
			if v.kind == '>' {
				s.pushed(v)
			} else {
				s.owed--
			}
		}
		s.in = s.in[:copy(s.in, s.in[s.at:])]
		s.at = 0
		if s.receive() != nil {
			return // the wire reports it, unless it is the end of the watch
		}
	}
}

// endWaiting ends what is being written or read, by deadlines. Another goroutine may call it.
func (s *stream) endWaiting() { _ = s.wire.Conn.SetDeadline(longAgo) }

// endWatch ends a watch. Another goroutine may call it. It leaves writing alone: TLS may have to
// write meanwhile, and is broken for good if it cannot.
func (s *stream) endWatch() { _ = s.wire.Conn.SetReadDeadline(longAgo) }

// goOn lets the stream wait again.
func (s *stream) goOn() { _ = s.wire.Conn.SetDeadline(time.Time{}) }

// receive reads what there is, one byte at least.
func (s *stream) receive() error {
	if cap(s.in)-len(s.in) < leastIn/2 {
		room := max(leastIn, 2*len(s.in))
		s.in = append(make([]byte, 0, room), s.in...)
	}
	n, err := s.wire.receive(s.in[len(s.in):cap(s.in)])
	s.in = s.in[:len(s.in)+n]
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// next reads a value, if all of it is there.
func (s *stream) next() (v value, ok bool) {
	before := len(s.elements)
	n, ok := s.parse(s.in[s.at:], &v)
	if !ok {
		s.elements = s.elements[:before]
		return value{}, false
	}
	s.at += n
	return v, true
}

// parse reads a value, which begins p, and returns how long it is.
func (s *stream) parse(p []byte, v *value) (int, bool) {
	end := bytes.IndexByte(p, '\n')
	if end < 2 {
		return 0, false
	}
	kind, line := p[0], p[1:end-1]
	end++
	switch r := &grammar[kind]; r.form {
	case sizedText:
		n, _ := number(line)
		switch {
		case n < 0:
			kind = '_'
		case end+int(n)+2 > len(p):
			return 0, false
		default:
			v.text = p[end : end+int(n)]
			end += int(n) + 2
		}
	case countedList:
		n, _ := number(line)
		if n < 0 {
			kind = '_'
			break
		}
		all := int(n) * int(r.each)
		if 3*all > len(p)-end { // each takes three bytes at least
			return 0, false
		}
		from := len(s.elements)
		s.elements = append(s.elements, make([]value, all)...)
		elements := s.elements[from : from+all : from+all]
		for i := range elements {
			n, ok := s.parse(p[end:], &elements[i])
			if !ok {
				return 0, false
			}
			end += n
		}
		v.elements = elements
	case numberLine:
		v.n, _ = number(line)
	default:
		v.text = line
	}
	v.kind = kind
	return end, true
}
