package nodetest

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// The types of answers that a Go type of their own does not tell; the others are
// int64, string (a bulk string), float64, []any and nil.
type (
	status   string // a simple string
	failure  string // an error
	verbatim string // text, told as such in RESP3
	pairs    []any  // a map in RESP3, an array before
	push     []any  // told as such in RESP3, an array before
	each     []any  // several answers to one command
)

func encode(b []byte, proto int, v any) []byte {
	switch v := v.(type) {
	case nil:
		if proto == 3 {
			return append(b, "_\r\n"...)
		}
		return append(b, "$-1\r\n"...)
	case status:
		return fmt.Appendf(b, "+%s\r\n", string(v))
	case failure:
		return fmt.Appendf(b, "-%s\r\n", string(v))
	case int64:
		return fmt.Appendf(b, ":%d\r\n", v)
	case string:
		return fmt.Appendf(b, "$%d\r\n%s\r\n", len(v), v)
	case verbatim:
		if proto == 3 {
			return fmt.Appendf(b, "=%d\r\ntxt:%s\r\n", len(v)+4, string(v))
		}
		return encode(b, proto, string(v))
	case float64:
		if proto == 3 {
			return fmt.Appendf(b, ",%s\r\n", keyspace.ScoreText(v))
		}
		return encode(b, proto, keyspace.ScoreText(v))
	case []any:
		return encodeAll(fmt.Appendf(b, "*%d\r\n", len(v)), proto, v)
	case pairs:
		if proto == 3 {
			return encodeAll(fmt.Appendf(b, "%%%d\r\n", len(v)/2), proto, v)
		}
		return encode(b, proto, []any(v))
	case push:
		if proto == 3 {
			return encodeAll(fmt.Appendf(b, ">%d\r\n", len(v)), proto, v)
		}
		return encode(b, proto, []any(v))
	case each:
		return encodeAll(b, proto, v)
	}
	panic(fmt.Sprintf("nodetest: no RESP for %T", v))
}

func encodeAll(b []byte, proto int, vs []any) []byte {
	for _, v := range vs {
		b = encode(b, proto, v)
	}
	return b
}

// A protocolError says why a request cannot be read.
type protocolError string

func (e protocolError) Error() string { return string(e) }

const maxBulk, maxArgs = 64 << 20, 1 << 20

// readRequest reads one request, an array of bulk strings or a line of words. It
// is empty for an empty line.
func readRequest(r *bufio.Reader) ([]string, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "*") {
		return strings.Fields(line), nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n > maxArgs {
		return nil, protocolError("invalid multibulk length")
	}
	var args []string
	for range max(n, 0) {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(line, "$") {
			return nil, protocolError(fmt.Sprintf("expected '$', got '%.1s'", line))
		}
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > maxBulk {
			return nil, protocolError("invalid bulk length")
		}
		arg := make([]byte, n+2)
		if _, err := io.ReadFull(r, arg); err != nil {
			return nil, err
		}
		args = append(args, string(arg[:n]))
	}
	return args, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return "", protocolError("too big inline request")
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}
