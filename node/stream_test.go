package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// show writes a value down.
func show(v *value) string {
	switch {
	case v.kind == 0:
		return fmt.Sprintf("failed(%v)", v.failed)
	case v.kind == '_':
		return "nil"
	case v.kind == ':':
		return fmt.Sprint(v.n)
	case v.isList():
		var all []string
		for i := range v.elements {
			all = append(all, show(&v.elements[i]))
		}
		return string(v.kind) + "[" + strings.Join(all, " ") + "]"
	}
	return string(v.kind) + string(v.text)
}

func showAll(vs []value) string {
	var all []string
	for i := range vs {
		all = append(all, show(&vs[i]))
	}
	return strings.Join(all, " ")
}

// newStream returns one, whose other side is a pipe.
func newStream(t *testing.T) (*stream, net.Conn) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	w := newWire(ours, invalidations)
	w.taken.Store(true)
	return &stream{wire: w}, theirs
}

// Answers are what was sent, in whatever pieces they come, and pushes between them are not.
func TestStreamAnswers(t *testing.T) {
	answers := []string{
		"+OK\r\n", "$5\r\na\r\nbc\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "_\r\n", ":-12\r\n", "-ERR no\r\n", "!5\r\nERR x\r\n",
		"*0\r\n", "*3\r\n:1\r\n*2\r\n+x\r\n$1\r\ny\r\n_\r\n", "%1\r\n+a\r\n*1\r\n:2\r\n", "=7\r\ntxt:abc\r\n", "#t\r\n", ",1.5\r\n",
		"$20000\r\n" + strings.Repeat("z", 20000) + "\r\n",
	}
	want := "+OK $a\r\nbc $ nil nil nil -12 -ERR no !ERR x *[] *[1 *[+x $y] nil] %[+a *[2]] =txt:abc #t ,1.5 $" + strings.Repeat("z", 20000)
	push := ">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nk\r\n$1\r\nl\r\n"
	for _, piece := range []int{1, 2, 3, 7, 100, 1 << 20} {
		s, theirs := newStream(t)
		news := ""
		s.news = func(keys []value) { news += showAll(keys) + "," }
		for round := range 3 {
			for range answers {
				s.add("A", "", "b\r\n")
			}
			go func() {
				all := push + strings.Join(answers, push)
				asked := make([]byte, len(answers)*len("*3\r\n$1\r\nA\r\n$0\r\n\r\n$3\r\nb\r\n\r\n"))
				_, _ = io.ReadFull(theirs, asked)
				for len(all) > 0 {
					n := min(piece, len(all))
					_, _ = io.WriteString(theirs, all[:n])
					all = all[n:]
				}
			}()
			if got := showAll(s.exchange(t.Context())); got != want {
				t.Fatalf("by %d: %.200q", piece, got)
			}
			if told := strings.Repeat("$k $l,", (round+1)*len(answers)); news != told {
				t.Fatalf("by %d: news %q", piece, news)
			}
		}
	}
}

// What was not written and not answered when the waiting was ended comes before all that is asked
// later, and nobody gets it.
func TestStreamGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, theirs := newStream(t)
		asked := "*1\r\n$1\r\nA\r\n"
		for cut := range 2*len(asked) + 1 {
			s.add("A")
			s.add("A")
			go func() {
				time.Sleep(time.Second)
				s.endWaiting()
			}()
			go func() {
				_, _ = io.ReadFull(theirs, make([]byte, cut))
				if cut == 2*len(asked) {
					_, _ = io.WriteString(theirs, "+first\r\n+sec")
				}
			}()
			vs := s.exchange(t.Context())
			if _, err := vs[1].string(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("cut at %d: %s", cut, showAll(vs))
			}
			s.goOn()
			s.add("A")
			go func() {
				rest := make([]byte, 3*len(asked)-cut)
				_, _ = io.ReadFull(theirs, rest)
				if got := string(rest); got != strings.Repeat(asked, 3)[cut:] {
					t.Errorf("cut at %d: then %q", cut, got)
				}
				late := "+first\r\n+second\r\n"
				if cut == 2*len(asked) {
					late = "ond\r\n"
				}
				_, _ = io.WriteString(theirs, late+"+third\r\n")
			}()
			if got := showAll(s.exchange(t.Context())); got != "+third" {
				t.Fatalf("cut at %d: %s", cut, got)
			}
		}
	})
}

// What could not be written at all was not sent; of what was, nobody knows.
func TestStreamUnsent(t *testing.T) {
	s, theirs := newStream(t)
	s.add("A")
	_ = theirs.Close()
	if err := s.exchange(t.Context())[0].err(); !errors.As(err, new(*unsentError)) {
		t.Errorf("%v", err)
	}
	s, theirs = newStream(t)
	s.add("A")
	go func() {
		_, _ = theirs.Read(make([]byte, 3))
		_ = theirs.Close()
	}()
	if err := s.exchange(t.Context())[0].err(); err == nil || errors.As(err, new(*unsentError)) {
		t.Errorf("%v", err)
	}
}

// FuzzStream reads whatever passes the wire, and does not panic.
func FuzzStream(f *testing.F) {
	f.Add("+OK\r\n$3\r\nabc\r\n*2\r\n:1\r\n_\r\n", 3)
	f.Add(">2\r\n+invalidate\r\n*1\r\n+a\r\n+OK\r\n%1\r\n+a\r\n*-1\r\n", 1)
	f.Fuzz(func(t *testing.T, answer string, piece int) {
		ours, theirs := net.Pipe()
		w := newWire(ours, invalidations)
		w.taken.Store(true)
		s := &stream{wire: w, news: func([]value) {}}
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			for len(answer) > 0 {
				n := min(max(1, piece), len(answer))
				if _, err := io.WriteString(theirs, answer[:n]); err != nil {
					break
				}
				answer = answer[n:]
			}
			_ = theirs.Close()
		}()
		for range 3 {
			s.add("A")
			s.add("B")
			for _, v := range s.exchange(context.Background()) {
				_, _ = v.string()
				_, _ = v.integer()
				_, _ = v.decimal()
				_, _ = v.array()
			}
		}
		_ = ours.Close()
	})
}
