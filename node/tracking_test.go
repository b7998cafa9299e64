package node_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

func wantNews(t *testing.T, wakes <-chan node.Wake, key string) {
	t.Helper()
	select {
	case w := <-wakes:
		if w != (node.Wake{Node: 3, Key: key}) {
			t.Fatalf("%+v: want one of %q", w, key)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no news of %q", key)
	}
}

func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "")
		for range 3 {
			if !r.state.Tracks {
				t.Fatalf("%+v", r.state)
			}
			wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1")), "ok ok")
			n.Del("a")
			wantNews(t, wakes, "a")
			inspect := on(node.Inspect, "a", "")
			inspect.Track = true
			wantStatuses(t, r.ask(inspect, on(node.Inspect, "b", "")), "absent absent")
			n.Set("b", "1", time.Second)
			n.Set("a", "1", time.Second)
			wantNews(t, wakes, "a")
			n.Crash() // that is told otherwise
			r.ended()
			if r.state.Tracks {
				t.Error("still tracks")
			}
			n.Restart()
			r.enrolled()
		}
		synctest.Wait()
		select {
		case w := <-wakes:
			t.Errorf("%+v", w)
		default:
		}
	})
}

// A reader that does not take the news for a long time is told to look at everything. The
// actor goes on meanwhile, and ends.
func TestTooMuchNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "")
		const names = 3000
		for i := range names {
			name := fmt.Sprint("n", i)
			r.ask(grant(name, "1", 1), on(node.Renew, name, "1"))
		}
		for i := range names {
			n.Del(fmt.Sprint("n", i))
		}
		wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1")), "ok ok")
		synctest.Wait()
		// How many of them were taken before the rest came depends; there may be more than one that
		// stands for all.
		heard, all := 0, false
		for more := true; more; synctest.Wait() {
			select {
			case w := <-wakes:
				heard++
				all = all || w.Key == "*"
			default:
				more = false
			}
		}
		if heard >= names || !all {
			t.Errorf("heard %d, everything %v", heard, all)
		}
		n.Del("a")
		wantNews(t, wakes, "a")
		n.Flush()
		wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1")), "ok ok")
		n.Del("a")
		synctest.Wait()
		r.cancel() // while news wait to be taken
		<-r.done
	})
}

// That a server was flushed is told with the answers that come after it, as long as the
// connection lasts.
func TestFlushOfAllIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, _ := listening(t, n.Conn(), "")
		renew := func(flushed bool) {
			t.Helper()
			if r.ask(on(node.Renew, "a", "1")); (r.state.FlushedAt != 0) != flushed {
				t.Errorf("flushed at %v", r.state.FlushedAt)
			}
		}
		r.ask(grant("a", "1", 1))
		renew(false)
		n.Del("a")
		renew(false)
		n.Flush()
		renew(true)
		n.Crash() // which the library tells as a flush
		r.ended()
		n.Recover()
		r.enrolled()
		renew(false)
	})
}

// If keys cannot be tracked, everything else is as ever.
func TestNoNews(t *testing.T) {
	for _, kind := range []string{"RESP2", "client", "refused", "odd", "unwanted"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				c, ok := conns(t, n)[kind]
				if !ok {
					c = n.Conn()
				}
				wakes := make(chan node.Wake)
				r := prepare(t, c, func(c *node.Config) {
					if kind != "unwanted" {
						c.Wakes = wakes
					}
				})
				switch kind {
				case "refused":
					n.Fail("CLIENT TRACKING", "NOPERM no")
				case "odd":
					n.Reply("CLIENT TRACKING", ":1\r\n")
				}
				r.run()
				r.enrolled()
				if r.state.Tracks {
					t.Error("tracks")
				}
				wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1"), on(node.Release, "a", "1")), "ok ok ok")
				if got := n.Commands()["CLIENT CACHING"]; got != 0 {
					t.Errorf("%d CLIENT CACHING", got)
				}
			})
		})
	}
}

// A push that nobody asked for ends the enrolment; what is no key of a string is left.
func TestOddNews(t *testing.T) {
	for answer, ends := range map[string]bool{
		">2\r\n$10\r\ninvalidate\r\n*2\r\n:5\r\n$1\r\nx\r\n+OK\r\n": false,
		">2\r\n$10\r\ninvalidate\r\n:5\r\n+OK\r\n":                  false,
		">1\r\n$10\r\ninvalidate\r\n+OK\r\n":                        false,
		">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n+OK\r\n":         true,
		">3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\nx\r\n+OK\r\n":      true,
	} {
		t.Run(fmt.Sprintf("%q", answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				wakes := make(chan node.Wake, 10)
				r := start(t, n.Conn(), func(c *node.Config) { c.Wakes = wakes })
				r.enrolled()
				n.Reply("SET", answer)
				r.ask(grant("a", "1", 1))
				synctest.Wait()
				if r.state.Enrolled == ends {
					t.Errorf("%+v", r.state)
				}
			})
		})
	}
}

// While nothing is asked, news and the end of the connection are heard at once; right after a
// command within 2 ms.
func TestNewsWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "")
		for _, pause := range []time.Duration{0, time.Second} {
			wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1")), "ok ok")
			time.Sleep(pause)
			from := time.Now()
			n.Del("a")
			wantNews(t, wakes, "a")
			if took := time.Since(from); took > 2*time.Millisecond || pause > 0 && took > 0 {
				t.Errorf("the news took %v", took)
			}
			wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
			time.Sleep(pause)
			from = time.Now()
			n.Crash()
			r.ended()
			if took := time.Since(from); took > 2*time.Millisecond || pause > 0 && took > 0 {
				t.Errorf("the end took %v", took)
			}
			n.Restart()
			r.enrolled()
		}
	})
}
