package nodetest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node/internal/script"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A peer is a plain RESP client.
type peer struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, n *nodetest.Node, client string) *peer {
	t.Helper()
	conn, err := n.Dial(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &peer{conn, bufio.NewReader(conn)}
}

// send writes commands, given as words.
func (p *peer) send(commands ...string) {
	var b strings.Builder
	for _, c := range commands {
		args := strings.Fields(c)
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, arg := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	io.WriteString(p, b.String())
}

// get reads one answer: a line, or the text of a bulk string.
func (p *peer) get() string {
	line, err := p.r.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[0] {
	case '$', '=':
		n, _ := strconv.Atoi(line[1:])
		if n < 0 {
			return "nil"
		}
		text := make([]byte, n+2)
		if _, err := io.ReadFull(p.r, text); err != nil {
			return err.Error()
		}
		return string(text[:n])
	case '*', '>':
		n, _ := strconv.Atoi(line[1:])
		out := make([]string, n)
		for i := range out {
			out[i] = p.get()
		}
		return strings.Join(out, " ")
	}
	return line
}

func (p *peer) do(command string) string {
	p.send(command)
	return p.get()
}

// silent tells whether nothing comes for an hour of the bubble's time.
func (p *peer) silent() bool {
	p.SetReadDeadline(time.Now().Add(time.Hour))
	defer p.SetReadDeadline(time.Time{})
	_, err := p.r.ReadByte()
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q: want %q", got, want)
	}
}

// others are the keys but those of the node itself.
func others(n *nodetest.Node) []string {
	return slices.DeleteFunc(n.Keys(), func(key string) bool { return key == script.Marker || key == script.Grown })
}

func info(t *testing.T, p *peer, field string) string {
	t.Helper()
	for line := range strings.Lines(p.do("INFO")) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("INFO says nothing of %s", field)
	return ""
}

// A new node has been known for as long as it has been up. A restarted one is not, and one
// that has recovered is another than its keys say.
func TestBeginsGrown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		enrol := func() string {
			p := dial(t, n, "")
			at := fmt.Sprint(info(t, p, "run_id"), "/", info(t, p, "master_replid"))
			args := []string{"EVAL", script.Enrol.Text, "3", script.Marker, script.Grown, script.Identity, at, "5", "ME"}
			var request strings.Builder
			fmt.Fprintf(&request, "*%d\r\n", len(args))
			for _, arg := range args {
				fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(arg), arg)
			}
			io.WriteString(p, request.String())
			_, rest, _ := strings.Cut(p.get(), at+" ")
			return rest
		}
		micros := func(age time.Duration) int64 {
			now := strings.Fields(dial(t, n, "").do("TIME"))
			sec, _ := strconv.ParseInt(now[0], 10, 64)
			usec, _ := strconv.ParseInt(now[1], 10, 64)
			return sec*1e6 + usec - age.Microseconds()
		}
		want := func(grown int, age time.Duration) {
			t.Helper()
			expect(t, enrol(), fmt.Sprintf("%d 5 :%d ME", micros(age), grown))
		}
		if _, _, there := n.Get(script.Identity); there {
			t.Error("it has an identity")
		}
		want(1, 24*time.Hour)
		n.Jump(time.Hour)
		n.Recover()
		want(0, 0)
		n.Restart()
		n.Jump(time.Hour)
		want(0, 0)
		n.Jump(time.Hour)
		n.Flush()
		want(0, 0)
	})
}

func TestClusterMode(t *testing.T) {
	n := nodetest.New()
	p := dial(t, n, "")
	expect(t, info(t, p, "redis_mode"), "standalone")
	n.ClusterMode(true)
	expect(t, info(t, p, "redis_mode"), "cluster")
	n.ClusterMode(false)
	expect(t, info(t, p, "redis_mode"), "standalone")
	n.Slots(true)
	expect(t, p.do("EVALSHA x 2 a b")[:10], "-CROSSSLOT")
	expect(t, p.do("EVALSHA x 2 a x{b}")[:10], "-CROSSSLOT")
	expect(t, p.do("EVALSHA x 3 b x{b} {b}{c}")[:9], "-NOSCRIPT")
	expect(t, p.do("EVALSHA x 2 {} {}")[:9], "-NOSCRIPT")
	n.Slots(false)
	expect(t, p.do("EVALSHA x 2 a b")[:9], "-NOSCRIPT")
}

func TestCrashRestartRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		p := dial(t, n, "")
		expect(t, p.do("SET a 1"), "+OK")
		run, repl := info(t, p, "run_id"), info(t, p, "master_replid")

		n.Crash()
		expect(t, p.get(), "EOF")
		if _, err := n.Dial(t.Context(), ""); !errors.Is(err, syscall.ECONNREFUSED) || n.Alive() {
			t.Errorf("dial of a crashed node: %v", err)
		}

		n.Recover()
		p = dial(t, n, "")
		expect(t, p.do("GET a"), "1")
		if r := info(t, p, "run_id"); r == run || len(r) != 40 {
			t.Errorf("run id %s after %s", r, run)
		}
		if r := info(t, p, "master_replid"); r == repl || r == info(t, p, "run_id") {
			t.Errorf("replication id %s after %s", r, repl)
		}
		time.Sleep(3 * time.Second)
		expect(t, info(t, p, "uptime_in_seconds"), "3")

		run = info(t, p, "run_id")
		n.Restart() // while it runs
		expect(t, p.get(), "EOF")
		p = dial(t, n, "")
		expect(t, p.do("GET a"), "nil")
		expect(t, info(t, p, "uptime_in_seconds"), "0")
		if r := info(t, p, "run_id"); r == run {
			t.Errorf("run id %s again", r)
		}
	})
}

// What reaches a hung node is executed when it goes on, although the client has
// given up and gone since, and in the order of arrival.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		before := dial(t, n, "")
		expect(t, before.do("PING"), "+PONG")
		n.Hang()
		before.send("SET a 1 PX 5000", "SET b 1")
		if !before.silent() {
			t.Error("a hung node answers")
		}
		before.Close()
		during := dial(t, n, "")
		during.send("SET b 2", "GET a")
		if !during.silent() {
			t.Error("a hung node answers")
		}
		expect(t, strings.Join(others(n), " "), "")
		n.Resume()
		expect(t, during.get(), "+OK")
		expect(t, during.get(), "1")
		expect(t, during.do("GET b"), "2")
		if _, left, ok := n.Get("a"); !ok || left != 5*time.Second {
			t.Errorf("a has %v left", left)
		}

		n.Hang()
		during.send("SET c 1")
		synctest.Wait()
		n.Restart()
		expect(t, during.get(), "EOF")
		expect(t, dial(t, n, "").do("GET c"), "nil")
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		p := dial(t, n, "")
		n.Delay(time.Second)
		begin := time.Now()
		p.send("SET a 1", "GET a")
		synctest.Wait()
		expect(t, others(n)[0], "a") // executed already
		time.Sleep(500 * time.Millisecond)
		n.Delay(0) // the answers on their way are not overtaken
		p.send("PING")
		expect(t, p.get(), "+OK")
		if d := time.Since(begin); d != time.Second {
			t.Errorf("the answer took %v", d)
		}
		expect(t, p.get(), "1")
		expect(t, p.get(), "+PONG")
		if d := time.Since(begin); d != time.Second {
			t.Errorf("the answers took %v", d)
		}
		expect(t, p.do("PING"), "+PONG")
		if d := time.Since(begin); d != time.Second {
			t.Errorf("without the delay the answers took %v", d)
		}
	})
}

func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		a, idle, b := dial(t, n, "a"), dial(t, n, "a"), dial(t, n, "b")
		n.Cut("a")
		a.send("SET k 1")
		if !a.silent() {
			t.Error("an answer through a cut")
		}
		expect(t, b.do("GET k"), "nil")

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := n.Dial(ctx, "a")
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || time.Since(begin) != 3*time.Second {
			t.Errorf("dial through a cut: %v after %v", err, time.Since(begin))
		}

		time.AfterFunc(time.Second, func() { n.Mend("a") })
		begin = time.Now()
		again := dial(t, n, "a") // waits for the mending
		if d := time.Since(begin); d != time.Second {
			t.Errorf("a dial succeeded after %v", d)
		}
		expect(t, again.do("GET k"), "nil")
		expect(t, idle.do("PING"), "+PONG") // nothing of it was lost
		a.send("PING")
		if !a.silent() {
			t.Error("a connection that lost a command goes on")
		}

		// An answer that is on its way vanishes as well, but the command was done.
		n.Delay(time.Second)
		again.send("SET k 2")
		synctest.Wait()
		n.Cut("a")
		if !again.silent() {
			t.Error("an answer through a cut")
		}
		expect(t, b.do("GET k"), "2")

		n.Crash() // which a does not hear of
		expect(t, b.get(), "EOF")
		if !idle.silent() {
			t.Error("a crash is heard through a cut")
		}
	})
}

func TestJumpAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		p := dial(t, n, "")
		seconds := func() int {
			s, _, _ := strings.Cut(p.do("TIME"), " ")
			v, err := strconv.Atoi(s)
			if err != nil || v <= 0 {
				t.Fatalf("TIME says %q", s)
			}
			return v
		}
		begin := seconds()
		p.do("SET a 1 PX 10000")
		time.Sleep(4 * time.Second)
		expect(t, p.do("PTTL a"), ":6000")
		n.Jump(5 * time.Second)
		expect(t, p.do("PTTL a"), ":1000")
		if d := seconds() - begin; d != 9 {
			t.Errorf("TIME went %d s forward: want 9", d)
		}
		n.Jump(-2 * time.Second)
		expect(t, p.do("PTTL a"), ":3000")
		time.Sleep(3 * time.Second)
		expect(t, p.do("PTTL a"), ":0") // Redis keeps it for the rest of the millisecond
		time.Sleep(time.Millisecond - 1)
		expect(t, p.do("EXISTS a"), ":1")
		time.Sleep(time.Nanosecond)
		expect(t, p.do("EXISTS a"), ":0")
		expect(t, strings.Join(others(n), " "), "")
	})
}

func TestFailAndReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		p := dial(t, n, "")
		n.Fail("set", "OOM command not allowed")
		expect(t, p.do("SET a 1"), "-OOM command not allowed")
		expect(t, p.do("GET a"), "nil")
		n.Fail("SET", "")
		expect(t, p.do("SET a 1"), "+OK")

		n.Fail("*", "LOADING")
		expect(t, p.do("GET a"), "-LOADING")
		expect(t, p.do("SCRIPT LOAD x"), "-LOADING")
		expect(t, p.do("CLIENT GETNAME"), "nil")
		n.Reply("CLIENT GETNAME", ":7\r\n")
		expect(t, p.do("CLIENT GETNAME"), ":7")
		expect(t, p.do("CLIENT SETNAME x"), "+OK")
		n.Reply("CLIENT GETNAME", "")
		expect(t, p.do("CLIENT GETNAME"), "x")
		n.Fail("*", "")

		n.Reply("GET", "$10\r\nhalf"+nodetest.EOF)
		p.send("GET a", "SET a 2")
		expect(t, p.get(), io.ErrUnexpectedEOF.Error())
		if v, _, _ := n.Get("a"); v != "1" {
			t.Errorf("a is %q: what came behind a closing answer was executed", v)
		}
		if c := n.Commands(); c["SET"] != 1 || c["GET"] != 1 || c["CLIENT GETNAME"] != 2 {
			t.Errorf("executed: %v", c)
		}
	})
}

func TestPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		n.RequirePass("secret")
		p := dial(t, n, "")
		expect(t, p.do("PING"), "-NOAUTH Authentication required.")
		expect(t, p.do("AUTH wrong")[:10], "-WRONGPASS")
		expect(t, p.do("HELLO 3")[:7], "-NOAUTH")
		expect(t, p.do("AUTH default secret"), "+OK")
		expect(t, p.do("PING"), "+PONG")
		expect(t, dial(t, n, "").do("HELLO 3 AUTH default secret SETNAME x"), "%7")
	})
}

func TestData(t *testing.T) {
	n := nodetest.New()
	n.Set("b", "1", time.Hour)
	n.Set("a", "2", 0)
	if got := others(n); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("keys %q", got)
	}
	if v, left, ok := n.Get("a"); v != "2" || left != -1 || !ok {
		t.Errorf("a: %q %v %v", v, left, ok)
	}
	if !n.Del("a") || n.Del("a") {
		t.Error("Del does not tell whether the key was there")
	}
	expect(t, dial(t, n, "").do("ZADD f 1784000000123456 f"), ":1")
	if v, _, _ := n.Get("f"); v != "1784000000123456" {
		t.Errorf("f: %q", v)
	}
	n.Flush()
	if _, _, ok := n.Get("b"); ok || len(n.Keys()) > 0 {
		t.Error("keys after Flush")
	}
	expect(t, dial(t, n, "").do("SCRIPT EXISTS "+script.Renew.SHA), ":0")
}

// A node must not answer as if it ran scripts that it does not know.
func TestEveryScriptIsActedOut(t *testing.T) {
	n := nodetest.New()
	p := dial(t, n, "")
	for _, s := range script.All {
		fmt.Fprintf(p, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%d\r\n%s\r\n", len(s.Text), s.Text)
		expect(t, p.get(), s.SHA)
	}
	expect(t, p.do("EVAL x 0")[:4], "-ERR")
}

func TestProtocolError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, bad := range []string{"*x\r\n", "*99999999\r\n", "*1\r\n:1\r\n", "*1\r\n$-1\r\n", "*1\r\n$999999999\r\n", strings.Repeat("x", 5000)} {
			p := dial(t, nodetest.New(), "")
			go io.WriteString(p, bad+"*1\r\n$4\r\nPING\r\n")
			if got := p.get(); !strings.HasPrefix(got, "-ERR Protocol error") {
				t.Errorf("%.20q answers %q", bad, got)
			}
			expect(t, p.get(), "EOF")
		}
		p := dial(t, nodetest.New(), "")
		io.WriteString(p, "\r\nPING\r\n*0\r\nQUIT\r\n")
		expect(t, p.get(), "+PONG")
		expect(t, p.get(), "+OK")
		expect(t, p.get(), "EOF")
	})
}

// Close leaves no goroutine, whatever the connections are at: the bubble would
// not end.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		var peers []*peer
		for _, client := range []string{"reads", "deaf", "cut", "hung"} {
			p := dial(t, n, client)
			p.do("SET a 1")
			p.send("GET a", "GET a")
			peers = append(peers, p)
		}
		n.Cut("cut")
		n.Hang()
		peers[3].send("GET a")
		n.Crash()
		n.Restart()
		p := dial(t, n, "late")
		n.Delay(time.Hour)
		p.send("GET a")
		ended := make(chan error)
		go func() {
			_, err := n.Dial(context.Background(), "cut")
			ended <- err
		}()
		synctest.Wait()
		n.Close()
		if err := <-ended; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a dial that waited: %v", err)
		}
		n.Restart()
		if n.Alive() {
			t.Error("a closed node lives")
		}
	})
}

func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		two, three, far := dial(t, n, ""), dial(t, n, "three"), dial(t, n, "far")
		sender := dial(t, n, "sender")
		if got := three.do("HELLO 3"); got[0] != '%' {
			t.Fatal(got)
		}
		for range 7 { // of the map
			three.get()
			three.get()
		}
		expect(t, two.do("SUBSCRIBE in"), "subscribe in :1")
		three.send("SUBSCRIBE in out")
		expect(t, three.get(), "subscribe in :1")
		expect(t, three.get(), "subscribe out :2")
		expect(t, far.do("SUBSCRIBE in"), "subscribe in :1")

		expect(t, sender.do("PUBLISH in hello"), ":3")
		expect(t, sender.do("PUBLISH none hello"), ":0")
		for _, p := range []*peer{two, three, far} {
			expect(t, p.get(), "message in hello")
		}
		expect(t, two.do("PING"), "pong ")
		expect(t, three.do("PING"), "+PONG")
		if got := two.do("GET a"); !strings.HasPrefix(got, "-ERR Can't execute") {
			t.Error(got)
		}
		expect(t, three.do("GET a"), "_")

		n.Delay(time.Second)
		begin := time.Now()
		sender.send("PUBLISH in late")
		expect(t, two.get(), "message in late")
		expect(t, fmt.Sprint(time.Since(begin)), "1s")
		n.Delay(0)
		sender.get()
		three.get()
		far.get()

		// A subscriber that is cut off is counted, and hears nothing.
		n.Cut("far")
		expect(t, sender.do("PUBLISH in x"), ":3")
		two.get()
		three.get()
		synctest.Wait()
		n.Mend("far")
		if !far.silent() {
			t.Error("heard through a cut")
		}

		n.Hang()
		sender.send("PUBLISH in hung")
		if !two.silent() {
			t.Error("a hung node told something")
		}
		n.Resume()
		expect(t, two.get(), "message in hung")
		expect(t, sender.get(), ":3")
		three.get()

		two.Close()
		three.send("UNSUBSCRIBE")
		expect(t, three.get(), "unsubscribe in :1")
		expect(t, three.get(), "unsubscribe out :0")
		expect(t, three.do("UNSUBSCRIBE"), "unsubscribe _ :0")
		synctest.Wait()
		expect(t, sender.do("PUBLISH in x"), ":1") // whom the cut left behind

		expect(t, three.do("SUBSCRIBE in"), "subscribe in :1")
		n.Recover()
		expect(t, three.get(), "EOF")
		expect(t, dial(t, n, "").do("PUBLISH in x"), ":0")
	})
}

func TestTracking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		two, three, other := dial(t, n, ""), dial(t, n, ""), dial(t, n, "")
		three.do("HELLO 3")
		for range 14 { // of the map
			three.get()
		}
		for _, p := range []*peer{two, three} {
			if got := p.do("CLIENT CACHING YES"); !strings.HasPrefix(got, "-ERR CLIENT CACHING") {
				t.Error(got)
			}
			expect(t, p.do("CLIENT TRACKING ON OPTIN NOLOOP"), "+OK")
			for _, key := range []string{"a", "b"} {
				expect(t, p.do("CLIENT CACHING YES"), "+OK")
				p.do("GET " + key)
			}
			p.do("GET c") // which is not asked for
		}
		for _, c := range []string{"SET c 1", "SET a 1", "SET a 2"} {
			expect(t, other.do(c), "+OK")
		}
		expect(t, three.get(), "invalidate a")
		expect(t, three.do("SET b 1"), "+OK") // its own doing
		expect(t, other.do("SET b 2"), "+OK")
		if !two.silent() || !three.silent() {
			t.Error("told too much")
		}

		three.do("CLIENT CACHING YES")
		three.do("MGET a b")
		n.Hang()
		n.Del("a")
		if !three.silent() {
			t.Error("a hung node told something")
		}
		n.Resume()
		expect(t, three.get(), "invalidate a")
		n.Set("b", "3", time.Second)
		expect(t, three.get(), "invalidate b")
		expect(t, other.do("FLUSHALL"), "+OK")
		expect(t, three.get(), "invalidate _")
		expect(t, three.do("CLIENT TRACKING OFF"), "+OK")
		n.Flush()
		if !three.silent() {
			t.Error("told although it is off")
		}
	})
}
