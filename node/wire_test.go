package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
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

// What comes first in an array or push is known before its end, in whatever pieces.
func TestScannerNames(t *testing.T) {
	stream := "*2\r\n$7\r\nmessage\r\n*1\r\n$3\r\nabc\r\n>1\r\n+subscribe\r\n*1\r\n:5\r\n*0\r\n*-1\r\n+OK\r\n" +
		"*2\r\n*1\r\n+x\r\n+y\r\n%1\r\n+a\r\n+b\r\n*1\r\n$-1\r\n*1\r\n$0\r\n\r\n>1\r\n$17\r\n12345678901234567\r\n*1\r\n+" +
		strings.Repeat("x", 40) + "\r\n*1\r\n$16\r\n1234567890123456\r\n"
	const want = "*message >subscribe * * * * * * > * *1234567890123456 "
	for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
		got := ""
		s := scanner{begin: func(byte) error { return nil }, named: func(kind byte, first []byte) error {
			got += string(kind) + string(first) + " "
			return nil
		}}
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			if err := s.scan([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if got != want {
			t.Errorf("by %d: %q", piece, got)
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
		">2\r\n+invalidate\r\n*1\r\n+a\r\n+OK\r\n", ">2\r\n+invalidate\r\n_\r\n", ">2\r\n+invalidate\r\n:5\r\n", ">1\r\n+invalidate\r\n",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, answer string, resp2 bool) {
		hello := "%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+version\r\n+6.0.0\r\n"
		if resp2 {
			hello = "*4\r\n+proto\r\n:2\r\n+version\r\n+6.0.0\r\n"
		}
		conn := FromOption(rueidis.ClientOption{InitAddress: []string{"x"}, AlwaysRESP2: resp2,
			DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
				c, s := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, s) }()
				go func() {
					_, _ = io.WriteString(s, hello+answer)
					_ = s.Close()
				}()
				return newWire(c, invalidations), nil
			}})
		o := conn.options(timeoutOfFuzz, timeoutOfFuzz, 0,
			func(_ bool, dial func(context.Context) (net.Conn, error)) (net.Conn, error) { return dial(t.Context()) },
			func(string) {})
		changed := newChangedKeys()
		o.OnInvalidations = (&session{changed: changed, clock: clock.Runtime()}).told
		client, err := rueidis.NewClient(o)
		if err == nil {
			b := client.B()
			client.DoMulti(t.Context(), b.Arbitrary("A").Build(), b.Arbitrary("B").Build(), b.Arbitrary("C").Build())
		}
		if client != nil {
			client.Close()
		}
	})
}

// FuzzInbox does the same with one that subscribes.
func FuzzInbox(f *testing.F) {
	for _, s := range []string{
		">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", ">2\r\n+message\r\n+a\r\n", ">1\r\n+subscribe\r\n",
		"+OK\r\n+OK\r\n", "-ERR no\r\n", "*0\r\n", "*1\r\n$-1\r\n", ">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n+PONG\r\n", ">2\r\n+invalidate\r\n_\r\n",
		">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n+OK\r\n", "*2\r\n$4\r\npong\r\n$0\r\n\r\n", ">0\r\n", "%0\r\n",
	} {
		f.Add(s, false)
		f.Add(strings.ReplaceAll(s, ">", "*"), true)
	}
	f.Fuzz(func(t *testing.T, answer string, resp2 bool) {
		hello := "%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+version\r\n+6.0.0\r\n"
		if resp2 {
			hello = "*4\r\n+proto\r\n:2\r\n+version\r\n+6.0.0\r\n"
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeoutOfFuzz)
		defer cancel()
		wakes := make(chan Wake, 1<<16)
		a := NewActor(Config{Inbox: "a", Wakes: wakes, Timeout: timeoutOfFuzz, Conn: FromOption(rueidis.ClientOption{
			InitAddress: []string{"x"}, AlwaysRESP2: resp2,
			DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
				c, s := net.Pipe()
				asked := make(chan struct{})
				go func() {
					defer close(asked)
					var got []byte
					for b := make([]byte, 1<<10); !bytes.Contains(got, []byte("SUBSCRIBE")); {
						n, err := s.Read(b)
						if err != nil {
							return
						}
						got = append(got, b[:n]...)
					}
					go func() { _, _ = io.Copy(io.Discard, s) }()
				}()
				go func() {
					_, _ = io.WriteString(s, hello)
					<-asked
					_, _ = io.WriteString(s, answer)
					_ = s.Close()
				}()
				return c, nil
			}})})
		go func() {
			for { // what becomes State.NoInbox
				select {
				case <-a.heard:
				case <-ctx.Done():
					return
				}
			}
		}()
		l := listener{Actor: a, ctx: ctx}
		if _, _, err := l.subscribe(); err == nil {
			t.Error("it ended without an error")
		}
		cancel()
		a.tasks.Wait()
	})
}

const timeoutOfFuzz = 5e9

// BenchmarkScanner reads what an enrolled connection does: the replies to calls of
// scripts and to grants, and, on the other side, the calls themselves.
func BenchmarkScanner(b *testing.B) {
	renewed := "$36\r\nleasehold-ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n*66\r\n$10\r\n1783641504\r\n$6\r\n613728\r\n" +
		strings.Repeat(":1\r\n", 64) + "$60\r\n" + strings.Repeat("m", 60) + "\r\n"
	call := "*68\r\n$7\r\nEVALSHA\r\n$40\r\n" + strings.Repeat("s", 40) + "\r\n$2\r\n64\r\n" +
		strings.Repeat("$20\r\nsome-name-of-a-lease\r\n", 64) + "$1\r\n1\r\n"
	mixed := strings.Repeat("+OK\r\n:1\r\n_\r\n$-1\r\n%1\r\n+a\r\n,1.5\r\n-ERR no\r\n", 10)
	for _, of := range []struct {
		name, stream string
		named        bool
	}{
		{"replies", renewed, false}, {"replies to one who tracks", renewed, true}, {"calls", call, false},
		{"grants", strings.Repeat("+OK\r\n:1\r\n:1\r\n", 64), false}, {"all kinds", mixed, false},
	} {
		for _, piece := range []int{len(of.stream), 100} {
			b.Run(fmt.Sprintf("%s/%d", of.name, piece), func(b *testing.B) {
				s := scanner{begin: func(byte) error { return nil }}
				if of.named {
					s.named = func(byte, []byte) error { return nil }
				}
				b.SetBytes(int64(len(of.stream)))
				b.ReportAllocs()
				stream := []byte(of.stream)
				for b.Loop() {
					for rest := stream; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
						if err := s.scan(rest[:min(piece, len(rest))]); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}
