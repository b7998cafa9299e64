package node_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

func TestURL(t *testing.T) {
	for _, tc := range []struct{ url, label, err string }{
		{"redis://10.0.0.1:6379", "10.0.0.1:6379", ""},
		{"redis://10.0.0.1", "10.0.0.1:6379", ""},
		{"10.0.0.1:7000", "10.0.0.1:7000", ""},
		{"10.0.0.1:7000/2", "10.0.0.1:7000/2", ""},
		{"localhost", "localhost:6379", ""},
		{"redis://user:hunter2@h:1/3", "h:1/3", ""},
		{"redis://:hunter2@h:1?db=4", "h:1/4", ""},
		{"user:hunter2@h:1", "h:1", ""},
		{"redis://:hun%2Fter2@h:1", "h:1", ""},
		{"rediss://:hunter2@h:1", "h:1", ""},
		{"unix:///run/redis.sock?db=1", "/run/redis.sock/1", ""},
		{"unix://user:hunter2@/run/redis.sock", "/run/redis.sock", ""},
		{"redis://s1:26379?addr=s2:26379&master_set=main", "main@s1:26379,s2:26379", ""},
		{"", "none", "empty: want one URL for each node"},
		{"h1:1,h2:1", "redis://h1:1,h2:1", "want one URL for each node"},
		{"redis://u:hunter2@h1,redis://u:hunter2@h2", "redis://h2", "want one URL for each node"},
		{"unix:///run/a,b.sock", "/run/a,b.sock", ""},
		{"redis://:hunter2,@h:1", "h:1", ""},
		{"gopher://h", "gopher://h", "invalid URL scheme"},
		{"redis://:hunter2@h:1/x", "redis://h:1/x", "invalid database number"},
		{"redis://:hunter2@h:x", "redis://h:x", "invalid port"},
		{"redis://:hunter2@h:1/1/2", "redis://h:1/1/2", "invalid URL path"},
		{"redis://:hunter2/@h:1", "redis://h:1", "percent-encoded"},
		{"redis://:hunter2%zz@h:1", "redis://h:1", "percent-encoded"},
		{"redis://:12?hunter2@h:1", "redis://h:1", "percent-encoded"},
		{"redis://:12#hunter2@h:1", "redis://h:1", "percent-encoded"},
		{"redis://u:12/hunter2@h:1", "redis://h:1", "percent-encoded"},
		{"redis://u:hunter2@12?hunter2@h:1", "redis://h:1", "percent-encoded"},
		{"redis://h:1?addr=h2:1", "h:1,h2:1", "without a master set"},
		{"unix://", "", "no address"},
	} {
		c := node.URL(tc.url)
		err := c.Err()
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: error %v, want %q", tc.url, err, tc.err)
		}
		if tc.label != "" && c.String() != tc.label {
			t.Errorf("%s: String() = %q, want %q", tc.url, c, tc.label)
		}
		if all := fmt.Sprint(err, c.String()); strings.Contains(all, "hunter2") || strings.Contains(all, "hun/ter2") {
			t.Errorf("%s: password in %q", tc.url, all)
		}
	}
	if cs := node.URLs("a", "b:1"); len(cs) != 2 || cs[0].String() != "a:6379" || cs[1].String() != "b:1" {
		t.Errorf("URLs: %v", cs)
	}
}

// A caller that brings a client of its own reaches the same one, in the same way.
func TestOption(t *testing.T) {
	o, ok := node.URL("rediss://me:geheim@a:1/2").Option()
	if !ok || o.Username != "me" || o.Password != "geheim" || o.SelectDB != 2 || o.TLSConfig == nil || len(o.InitAddress) != 1 || o.InitAddress[0] != "a:1" {
		t.Errorf("%t, %q, %d", ok, o.InitAddress, o.SelectDB)
	}
	c := node.URL("redis://a:1")
	o, _ = c.Option()
	o.InitAddress[0], o.SelectDB = "b:1", 7
	if again, _ := c.Option(); again.InitAddress[0] != "a:1" || again.SelectDB != 0 {
		t.Error("a caller that is told changes the connection")
	}
	for _, c := range []node.Conn{{}, node.URL("http://a:1")} {
		if _, ok := c.Option(); ok {
			t.Errorf("%v has an option", c)
		}
	}
}

func TestOptionRefused(t *testing.T) {
	one := []string{"h:1"}
	for want, o := range map[string]rueidis.ClientOption{
		"InitAddress []: no address":          {},
		"InitAddress has 2 addresses":         {InitAddress: []string{"a:1", "b:1"}},
		"PipelineMultiplex 2: want 0 or less": {InitAddress: one, PipelineMultiplex: 2},
		"ConnLifetime 1h0m0s: want 0":         {InitAddress: one, ConnLifetime: time.Hour},
		"ReplicaOnly":                         {InitAddress: one, ReplicaOnly: true},
	} {
		if err := node.FromOption(o).Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := (node.Conn{}).Err(); err == nil {
		t.Error("the zero Conn has no error")
	}
	if err := node.FromClient(nil).Err(); err == nil {
		t.Error("no client has no error")
	}
}

func TestSame(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"redis://h:1", "h:1", true},
		{"redis://u:p@H:1", "rediss://h:1", true},
		{"h:1", "h:2", false},
		{"h:1/1", "h:1", false},
		{"redis://a:1?addr=b:1&master_set=m", "redis://b:1?master_set=m", true},
		{"redis://a:1?master_set=n", "redis://a:1?master_set=m", false},
		{"gopher://a", "gopher://a", false},
	} {
		a, b := node.URL(tc.a), node.URL(tc.b)
		if a.Same(b) != tc.same || b.Same(a) != tc.same {
			t.Errorf("%s and %s: want %v", tc.a, tc.b, tc.same)
		}
	}
}

// lend returns a client of the node's, of the user's own making: with four
// connections, which each pipeline would be spread over.
func lend(t *testing.T, n *nodetest.Node) rueidis.Client {
	o := node.OptionOf(n.Conn())
	o.PipelineMultiplex = 2
	o.ForceSingleClient = true
	o.DisableCache = true
	o.BlockingPipeline = 8
	client, err := rueidis.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		client := lend(t, n)
		defer client.Close()
		c := node.FromClient(client)
		if !c.Same(node.FromClient(client)) || c.Same(n.Conn()) || !strings.Contains(c.String(), n.String()) {
			t.Errorf("%v", c)
		}
		r := start(t, c)
		r.enrolled()
		var commands []node.Command
		for i := range 100 {
			commands = append(commands, grant(fmt.Sprint("n", i), "t", 1), on(node.Release, fmt.Sprint("n", i), "t"))
		}
		for _, re := range r.ask(commands...) {
			if re.Status != node.OK {
				t.Fatalf("%+v", re)
			}
		}

		n.Hang()
		begin := time.Now()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
		if took := time.Since(begin); took != timeout {
			t.Errorf("took %v", took)
		}
		n.Resume()
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "ok")

		n.Restart()
		r.ask(grant("a", "1", 1)) // whatever this finds
		r.enrolled()
		if r.state.Life != 2 {
			t.Errorf("Life %d", r.state.Life)
		}
		// A user's own commands go on. The library may send this one again while the
		// connection that broke still reads it: so it must not be recycled.
		if err := client.Do(t.Context(), client.B().Get().Key("x").Build().Pin()).Error(); !rueidis.IsRedisNil(err) {
			t.Error(err)
		}

		n.Hang()
		r.send(grant("a", "1", 1))
		synctest.Wait()
		begin = time.Now()
		r.cancel()
		<-r.done
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %v", took)
		}
		n.Resume()
	})
}

// A client without a free connection is told from a node that does not answer, both if it
// is to enrol and if it is to wait, and is used as soon as there is one.
func TestClientWithTooSmallAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		o := node.OptionOf(n.Conn())
		o.ForceSingleClient, o.DisableCache = true, true
		o.BlockingPoolSize = 1
		client, err := rueidis.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		names := func(what string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), "BlockingPoolSize") {
				t.Errorf("%s: %v", what, err)
			}
		}
		first, _ := listening(t, node.FromClient(client), "in")
		wantStatuses(t, first.ask(enqueue("a", "1", 1)), "ok")
		time.Sleep(2 * timeout)
		wantStatuses(t, first.ask(on(node.Leave, "a", "1")), "ok")
		names("NoInbox", first.state.NoInbox)

		begin := time.Now()
		second := start(t, node.FromClient(client))
		wantStatuses(t, second.ask(grant("a", "1", 1)), "unsent")
		if took := time.Since(begin); took != timeout {
			t.Errorf("it has taken %v", took)
		}
		second.until("an error", func(s node.State) bool { return s.Err != nil })
		names("Err", second.state.Err)
		first.cancel()
		<-first.done
		second.enrolled()
		wantStatuses(t, second.ask(grant("a", "1", 1)), "ok")
	})
}

func TestRESP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		o := node.OptionOf(n.Conn())
		o.AlwaysRESP2 = true
		r := start(t, node.FromOption(o))
		r.enrolled()
		if r.state.Life != 1 {
			t.Errorf("%+v", r.state)
		}
		got := r.ask(grant("a", "1", 1<<52+1), grant("a", "2", 1), on(node.Inspect, "a", ""), on(node.Renew, "a", "1"), on(node.Release, "a", "2"), on(node.Release, "b", "2"))
		wantStatuses(t, got, "ok other ok ok other absent")
		if got[2].Fence != 1<<52+1 || got[2].Value != "1" {
			t.Errorf("%+v", got)
		}
	})
}

// A dialer that heeds nothing delays nobody.
func TestDialerThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		late, theirs := net.Pipe()
		r := start(t, node.FromOption(rueidis.ClientOption{InitAddress: []string{"h:1"},
			DialFn: func(string, *net.Dialer, *tls.Config) (net.Conn, error) {
				<-release
				return late, nil
			}}))
		begin := time.Now()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
		if took := time.Since(begin); took != timeout {
			t.Errorf("took %v", took)
		}
		r.cancel()
		<-r.done
		close(release)
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("what comes late is not closed: %v", err)
		}
	})
}

// A failover that the library follows behind our back ends the enrolment, while
// the loss of a Sentinel does not.
func TestSentinel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, promoted := nodetest.New(), nodetest.New()
		defer old.Close()
		defer promoted.Close()
		for _, n := range []*nodetest.Node{old, promoted} {
			n.Reply("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")
		}
		s := &sentinel{t: t, primary: "old:6379"}
		dial := func(ctx context.Context, dst string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
			switch dst {
			case "old:6379":
				return node.OptionOf(old.Conn()).DialCtxFn(ctx, dst, d, c)
			case "promoted:6379":
				return node.OptionOf(promoted.Conn()).DialCtxFn(ctx, dst, d, c)
			}
			return s.dial()
		}
		c := node.FromOption(rueidis.ClientOption{InitAddress: []string{"s1:26379"}, DialCtxFn: dial,
			Sentinel: rueidis.SentinelOption{MasterSet: "main"}})
		if c.String() != "main@s1:26379" {
			t.Errorf("String() = %q", c)
		}
		r, wakes := listening(t, c, "in")
		wantStatuses(t, r.ask(grant("a", "1", 1), enqueue("x", "1", 1)), "ok ok")
		wantWake(t, wakes, "")

		s.cut() // it is dialled again, and nothing else happens
		time.Sleep(9 * time.Second)
		wantStatuses(t, r.ask(grant("a", "2", 1)), "other")
		if !r.state.Enrolled || s.dials() < 2 {
			t.Errorf("%+v after %d dials", r.state, s.dials())
		}

		// Nor does that lengthen a pipeline.
		old.Hang()
		r.send(grant("a", "2", 1))
		time.Sleep(timeout / 2)
		begin, before := time.Now(), s.dials()
		s.cut()
		wantStatuses(t, r.wait(1), "unknown")
		if took := time.Since(begin); took != timeout/2 || s.dials() == before {
			t.Errorf("answered after %v, and %d dials", took, s.dials()-before)
		}
		time.Sleep(2 * timeout)
		old.Resume()
		r.enrolled()
		wantWake(t, wakes, "")

		s.switchTo("promoted:6379")
		r.ended()
		r.enrolled()
		if r.state.Life != 2 {
			t.Errorf("Life %d", r.state.Life)
		}
		wantStatuses(t, r.ask(grant("a", "2", 1)), "ok")
		wantWake(t, wakes, "")
		wantStatuses(t, r.ask(enqueue("a", "1", 1), on(node.Release, "a", "2"), grant("a", "2", 2)), "other ok other")
		wantWake(t, wakes, "1")
		if _, _, ok := promoted.Get("a"); !ok {
			t.Error("not on the promoted server")
		}
		r.cancel()
		<-r.done
		time.Sleep(time.Second) // the library looks for a Sentinel until it wakes
	})
}

// A primary that hangs costs one timeout, however many Sentinels name it: the library
// asks each of them in turn.
func TestHungPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Hang()
		s := &sentinel{t: t, primary: "hung:6379"}
		dial := func(ctx context.Context, dst string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
			if dst == "hung:6379" {
				return node.OptionOf(n.Conn()).DialCtxFn(ctx, dst, d, c)
			}
			return s.dial()
		}
		var sentinels []string
		for i := range 10 {
			sentinels = append(sentinels, fmt.Sprintf("s%d:26379", i))
		}
		begin := time.Now()
		r := start(t, node.FromOption(rueidis.ClientOption{InitAddress: sentinels, DialCtxFn: dial,
			Sentinel: rueidis.SentinelOption{MasterSet: "main"}}))
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
		if took := time.Since(begin); took != timeout {
			t.Errorf("took %v, of %d dials of Sentinels", took, s.dials())
		}
		r.cancel()
		<-r.done
		s.cut()
		time.Sleep(time.Second)
	})
}

// In an unexported field package fmt does not ask a Conn how it wants to be printed.
func TestNoVerbShowsAPassword(t *testing.T) {
	n := nodetest.New()
	defer n.Close()
	option := n.Option("")
	option.Password = "PASSWORD"
	n.RequirePass(option.Password)
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, c := range []node.Conn{node.FromOption(option), node.FromClient(client), node.URL("redis://me:PASSWORD@host:1"), node.URL("redis://me:PASSWORD@host:x")} {
		for _, v := range []any{c, &c, struct{ c node.Conn }{c}, struct{ c *node.Conn }{&c}, struct{ c any }{c}, []struct{ c []node.Conn }{{[]node.Conn{c}}}} {
			for verb := 'A'; verb <= 'z'; verb++ {
				if text := fmt.Sprintf("%"+string(verb), v); strings.Contains(text, "PASSWORD") || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", "PASSWORD")) {
					t.Errorf("%T of %v is printed by %%%c as %s", v, c, verb, text)
				}
			}
		}
	}
}
