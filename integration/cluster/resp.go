package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// A frame is one RESP value as it came over the wire: a request, or a reply of
// either protocol version.
type frame struct {
	raw  []byte
	what any // a string, int64, []any (also of a map), nil or a failure
}

// A failure is an error that a server answered.
type failure string

func (f failure) Error() string { return string(f) }

// push tells whether the frame came unasked, and so answers no request.
func (f frame) push() bool { return f.raw[0] == '>' }

// readFrame reads one value.
func readFrame(r *bufio.Reader) (frame, error) {
	var f frame
	var err error
	f.what, err = f.read(r)
	return f, err
}

func (f *frame) read(r *bufio.Reader) (any, error) {
	line, err := r.ReadBytes('\n')
	f.raw = append(f.raw, line...)
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("not RESP: %.40q", line)
	}
	kind, text := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+', ',', '#', '(': // status, double, boolean, big number
		return text, nil
	case '-':
		return failure(text), nil
	case '_':
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("not RESP: %.40q", line)
	}
	switch kind {
	case ':':
		return n, nil
	case '$', '=', '!': // string, verbatim string, long error
		return f.readString(r, kind, n)
	case '*', '~', '>': // array, set, push
		return f.readArray(r, n)
	case '%': // map
		return f.readArray(r, 2*n)
	case '|': // attributes, and then the value itself
		if _, err := f.readArray(r, 2*n); err != nil {
			return nil, err
		}
		return f.read(r)
	}
	return nil, fmt.Errorf("not RESP: %.40q", line)
}

func (f *frame) readString(r *bufio.Reader, kind byte, n int64) (any, error) {
	if n < 0 {
		return nil, nil
	}
	if n > 64<<20 {
		return nil, errors.New("not RESP: a string of more than 64 MB")
	}
	start := len(f.raw)
	f.raw = append(f.raw, make([]byte, n+2)...)
	if _, err := io.ReadFull(r, f.raw[start:]); err != nil {
		return nil, err
	}
	text := string(f.raw[start : start+int(n)])
	if kind == '!' {
		return failure(text), nil
	}
	return text, nil
}

func (f *frame) readArray(r *bufio.Reader, n int64) (any, error) {
	if n < 0 {
		return nil, nil
	}
	var all []any
	for range n {
		one, err := f.read(r)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// exchange sends one command and returns its answer.
func exchange(c net.Conn, args []string) (any, error) {
	if _, err := c.Write(encode(args)); err != nil {
		return nil, err
	}
	answer, err := readFrame(bufio.NewReader(c))
	if err != nil {
		return nil, err
	}
	if refused, ok := answer.what.(failure); ok {
		return nil, refused
	}
	return answer.what, nil
}

// encode returns a request as it goes over the wire.
func encode(args []string) []byte {
	request := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return request
}
