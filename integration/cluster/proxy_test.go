package cluster

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

// echo is a server that answers each request with its words, and tells them on
// heard.
func echo(t *testing.T) (addr string, heard ear) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heard = make(ear, 4096)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					f, err := readFrame(r)
					if err != nil {
						return
					}
					var words []string
					for _, arg := range f.what.([]any) {
						words = append(words, arg.(string))
					}
					text := strings.Join(words, " ")
					heard <- text
					if _, err := c.Write([]byte("+" + text + "\r\n")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), heard
}

// An ear is what a server heard.
type ear chan string

func (e ear) want(t *testing.T, words string) {
	t.Helper()
	select {
	case got := <-e:
		if got != words {
			t.Errorf("the server heard %q, want %q", got, words)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("the server did not hear %q", words)
	}
}

// request returns the words as a client sends them.
func request(words string) string {
	return string(encode(strings.Fields(words)))
}

func through(t *testing.T) (p *Proxy, c net.Conn, heard ear) {
	server, heard := echo(t)
	p = NewProxy(t, server)
	c = dial(t, p.Addr())
	send(t, c, request("hello"))
	receive(t, c, "+hello\r\n")
	heard.want(t, "hello")
	return p, c, heard
}

func TestProxyHandsOn(t *testing.T) {
	_, c, _ := through(t)
	var sent, back strings.Builder
	for range 1000 {
		sent.WriteString(request("a 1") + request("b 2"))
		back.WriteString("+a 1\r\n+b 2\r\n")
	}
	go c.Write([]byte(sent.String()))
	receive(t, c, back.String())
}

func TestProxyCut(t *testing.T) {
	p, c, _ := through(t)
	p.Cut()
	ended(t, c)
	if again, err := net.Dial("tcp", p.Addr()); err == nil {
		again.Close()
		t.Error("a dial through a cut wire succeeds")
	}
	p.Cut()
	p.Mend()
	p.Mend()
	c = dial(t, p.Addr())
	send(t, c, request("again"))
	receive(t, c, "+again\r\n")
}

func TestProxySilence(t *testing.T) {
	p, hit, heard := through(t)
	idle := dial(t, p.Addr())
	send(t, idle, request("idle"))
	receive(t, idle, "+idle\r\n")
	heard.want(t, "idle")

	p.Silence()
	send(t, hit, request("lost"))
	late := dial(t, p.Addr())
	send(t, late, request("lost"))
	quiet(t, hit, 30*time.Millisecond)
	quiet(t, late, 10*time.Millisecond)
	if len(heard) > 0 {
		t.Errorf("the server has heard %q", <-heard)
	}
	p.Mend()
	ended(t, hit)
	ended(t, late)
	send(t, idle, request("still there"))
	receive(t, idle, "+still there\r\n")
}

// A server that ends during the silence is not heard of either.
func TestProxySilenceHidesTheEnd(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := NewProxy(t, server.Addr().String())
	c := dial(t, p.Addr())
	behind, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.Silence()
	behind.Close()
	quiet(t, c, 30*time.Millisecond)
	p.Mend()
	ended(t, c)
}

func TestProxyDelay(t *testing.T) {
	const d = 30 * time.Millisecond
	p, c, heard := through(t)
	p.Delay(d)
	start := time.Now()
	send(t, c, request("a")+request("b"))
	heard.want(t, "a")
	if took := time.Since(start); took < d {
		t.Errorf("the server was reached after %v", took)
	}
	receive(t, c, "+a\r\n+b\r\n")
	if took := time.Since(start); took < 2*d {
		t.Errorf("the answers took %v", took)
	}
	heard.want(t, "b")

	// What was sent arrives, although its sender has gone.
	send(t, c, request("late"))
	c.Close()
	heard.want(t, "late")
}

func TestProxyLie(t *testing.T) {
	p, c, heard := through(t)
	p.Lie("client GETNAME", "+first\r\n")
	p.Lie("client getname", "$5\r\nother\r\n")
	send(t, c, request("a")+request("CLIENT GETNAME")+request("client id")+request("client getname x")+request("b"))
	receive(t, c, "+a\r\n$5\r\nother\r\n+client id\r\n$5\r\nother\r\n+b\r\n")
	heard.want(t, "a")
	heard.want(t, "client id")
	heard.want(t, "b")
	send(t, c, request("client getname"))
	receive(t, c, "$5\r\nother\r\n") // with nothing else on the way
	p.Mend()
	send(t, c, request("client getname"))
	receive(t, c, "+client getname\r\n")
}

func TestProxyHangUp(t *testing.T) {
	p, c, heard := through(t)
	p.HangUp("get", "$100\r\nhalf")
	send(t, c, request("a")+request("get k")+request("b"))
	receive(t, c, "+a\r\n$100\r\nhalf")
	ended(t, c)
	heard.want(t, "a")
}

func TestProxyLose(t *testing.T) {
	p, c, heard := through(t)
	p.Lose("set")
	send(t, c, request("a")+request("set k v"))
	receive(t, c, "+a\r\n")
	ended(t, c)
	heard.want(t, "a")
	heard.want(t, "set k v")
}

func TestProxyLead(t *testing.T) {
	p, before, _ := through(t)
	other, heard := echo(t)
	p.Lead(other)
	ended(t, before)
	c := dial(t, p.Addr())
	send(t, c, request("hello"))
	receive(t, c, "+hello\r\n")
	heard.want(t, "hello")
	p.Cut()
	p.Mend()
	c = dial(t, p.Addr())
	send(t, c, request("again"))
	receive(t, c, "+again\r\n")
	heard.want(t, "again")
}

func TestProxyWatch(t *testing.T) {
	p, c, heard := through(t)
	seen := make(chan string, 10)
	p.Watch("set k", func() { seen <- "set k" })
	p.Lie("set", "+no\r\n")
	p.Mend()
	send(t, c, request("set other")+request("SET k v"))
	receive(t, c, "+set other\r\n+SET k v\r\n")
	heard.want(t, "set other")
	heard.want(t, "SET k v")
	if n := len(seen); n != 1 {
		t.Errorf("seen %d times, want once", n)
	}
}

func TestProxyServerDown(t *testing.T) {
	nobody, err := freePort(t)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", NewProxy(t, nobody.Addr()).Addr())
	if err != nil {
		return // the reset was quicker
	}
	defer c.Close()
	ended(t, c)
}

func TestReadFrame(t *testing.T) {
	for in, want := range map[string]any{
		"+OK\r\n":                         "OK",
		"-ERR no\r\n":                     failure("ERR no"),
		"!6\r\nERR no\r\n":                failure("ERR no"),
		":-7\r\n":                         int64(-7),
		",1.5\r\n":                        "1.5",
		"#t\r\n":                          "t",
		"_\r\n":                           nil,
		"$-1\r\n":                         nil,
		"*-1\r\n":                         nil,
		"$4\r\na\r\nb\r\n":                "a\r\nb",
		"=5\r\ntxt:a\r\n":                 "txt:a",
		"|1\r\n+ttl\r\n:1\r\n$1\r\nx\r\n": "x",
	} {
		f, err := readFrame(bufio.NewReader(strings.NewReader(in + "rest")))
		if err != nil || f.what != want || string(f.raw) != in {
			t.Errorf("%q: %v, raw %q, %v", in, f.what, f.raw, err)
		}
	}
	for in, want := range map[string]int{"*2\r\n+a\r\n*0\r\n": 2, "%1\r\n+a\r\n:1\r\n": 2, ">1\r\n+a\r\n": 1, "~1\r\n_\r\n": 1} {
		f, err := readFrame(bufio.NewReader(strings.NewReader(in)))
		if list, _ := f.what.([]any); err != nil || len(list) != want || string(f.raw) != in || f.push() != (in[0] == '>') {
			t.Errorf("%q: %v, raw %q, %v", in, f.what, f.raw, err)
		}
	}
	for _, in := range []string{"", "+OK", "HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "$5\r\nab", "$99999999999\r\n", "\r\n", "*1\r\n"} {
		if f, err := readFrame(bufio.NewReader(strings.NewReader(in))); err == nil {
			t.Errorf("%q: %v, want an error", in, f.what)
		}
	}
}
