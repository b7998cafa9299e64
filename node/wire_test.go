package node

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/redis/rueidis"
)

// scanAll returns how many values began, and the error if there was one, for the
// stream in pieces of that size.
func scanAll(stream string, piece int) (begun int, err error) {
	s := scanner{begin: func(byte) error {
		begun++
		return nil
	}}
	for len(stream) > 0 && err == nil {
		n := min(piece, len(stream))
		err = s.scan([]byte(stream[:n]))
		stream = stream[n:]
	}
	return begun, err
}

func TestScanner(t *testing.T) {
	for _, tc := range []struct {
		stream string
		begun  int
		bad    bool
	}{
		{"", 0, false},
		{"+OK\r\n-ERR x\r\n:12\r\n:-12\r\n", 4, false},
		{"$0\r\n\r\n$5\r\na\r\nbc\r\n$-1\r\n", 3, false},
		{"*0\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n+OK\r\n", 4, false},
		{"%1\r\n+a\r\n*2\r\n_\r\n#t\r\n~0\r\n", 2, false},
		{"=7\r\ntxt:abc\r\n!3\r\nERR\r\n,1.5\r\n(123\r\n_\r\n#f\r\n", 6, false},
		{">2\r\n+a\r\n+b\r\n:1\r\n", 2, false},
		{"+\r\n", 1, false},
		{"+OK\n", 1, true}, {"\r\n", 0, true}, {"HTTP/1.1\r\n", 0, true},
		{"$\r\n", 1, true}, {"$x\r\n", 1, true}, {"$-2\r\n", 1, true}, {"$3\r\nabcd\r\n", 1, true},
		{"$16777217\r\n", 1, true}, {"$99999999999999999999999999999\r\n", 1, true},
		{"*-2\r\n", 1, true}, {"*65537\r\n", 1, true}, {"%-1\r\n", 1, true}, {"~-1\r\n", 1, true},
		{"$?\r\n", 1, true}, {"*?\r\n", 1, true}, {"|1\r\n+a\r\n+b\r\n+c\r\n", 0, true},
		{"_x\r\n", 1, true}, {"#\r\n", 1, true}, {"#tt\r\n", 1, true}, {":\r\n", 1, true}, {":1.5\r\n", 1, true},
		{"*1\r\n>1\r\n+a\r\n", 1, true},
		{strings.Repeat("*1\r\n", maxDepth) + ":1\r\n:2\r\n", 2, false},
		{strings.Repeat("*1\r\n", maxDepth+1), 1, true},
		{"+" + strings.Repeat("x", maxLine-1) + "\r\n", 1, false},
		{"+" + strings.Repeat("x", maxLine) + "\r\n", 1, true},
	} {
		for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
			begun, err := scanAll(tc.stream, piece)
			if begun != tc.begun || (err != nil) != tc.bad {
				t.Errorf("%.40q by %d: %d values, %v", tc.stream, piece, begun, err)
			}
		}
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	stream := []byte("*3\r\n$3\r\nabc\r\n:1\r\n%1\r\n+a\r\n,1.5\r\n+OK\r\n$-1\r\n")
	s := scanner{begin: func(byte) error { return nil }}
	if n := testing.AllocsPerRun(100, func() {
		if err := s.scan(stream); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzScanner(f *testing.F) {
	f.Add("+OK\r\n$3\r\nabc\r\n*2\r\n:1\r\n_\r\n", 3)
	f.Add("%1\r\n+a\r\n*-1\r\n>1\r\n+x\r\n", 1)
	f.Fuzz(func(t *testing.T, stream string, piece int) {
		whole, err1 := scanAll(stream, len(stream)+1)
		begun, err2 := scanAll(stream, max(1, piece))
		if whole != begun || (err1 == nil) != (err2 == nil) {
			t.Errorf("%d, %v and by %d: %d, %v", whole, err1, piece, begun, err2)
		}
	})
}

// FuzzWire puts the real client on top. A panic in its reader ends the test, as it
// would end a user's process.
func FuzzWire(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n:1\r\n$1\r\nx\r\n", "+OK\r\n:1\r\n_\r\n+more\r\n", "*1\r\n>1\r\n+x\r\n", "$-2\r\n", "%-3\r\n", "|1\r\n+a\r\n+b\r\n+c\r\n",
		">3\r\n+subscribe\r\n+a\r\n:1\r\n", ">3\r\n+unsubscribe\r\n+a\r\n:1\r\n", "*?\r\n:1\r\n.\r\n", "=3\r\nabc\r\n(1\r\n~1\r\n#t\r\n",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, answer string, resp2 bool) {
		hello := "%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+version\r\n+6.0.0\r\n"
		if resp2 {
			hello = "*4\r\n+proto\r\n:2\r\n+version\r\n+6.0.0\r\n"
		}
		conn := Option(rueidis.ClientOption{InitAddress: []string{"x"}, AlwaysRESP2: resp2,
			DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
				c, s := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, s) }()
				go func() {
					_, _ = io.WriteString(s, hello+answer)
					_ = s.Close()
				}()
				return newWire(c, nothing), nil
			}})
		client, err := rueidis.NewClient(conn.options(timeoutOfFuzz,
			func(_ bool, dial func(context.Context) (net.Conn, error)) (net.Conn, error) { return dial(t.Context()) },
			func(string) {}))
		if err == nil {
			b := client.B()
			client.DoMulti(t.Context(), b.Arbitrary("A").Build(), b.Arbitrary("B").Build(), b.Arbitrary("C").Build())
		}
		if client != nil {
			client.Close()
		}
	})
}

const timeoutOfFuzz = 5e9
