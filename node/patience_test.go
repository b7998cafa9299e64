package node_test

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// longest is what a slow node is waited for in these tests.
const longest = 5 * timeout

// firstPause is that between two attempts, a half of it more or less.
const firstPause = 40 * time.Millisecond

func patient(c *node.Config) { c.Longest = longest }

// wantConnections checks how many connections were enrolled.
func wantConnections(t *testing.T, n *nodetest.Node, want int) {
	t.Helper()
	if got := n.Commands()["CLIENT SETNAME"]; got != want {
		t.Errorf("enrolled %d times, want %d", got, want)
	}
}

// A node that is far from the beginning is enrolled, and then every answer is waited for, also
// of a command whose script the node has lost.
func TestFarFromTheBeginning(t *testing.T) {
	for name, trip := range map[string]func() time.Duration{
		"steady":   func() time.Duration { return 2 * timeout },
		"farther":  func() time.Duration { return longest - timeout/4 },
		"jittered": func() time.Duration { return timeout*7/10 + rand.N(timeout/2) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				n.Delay(trip())
				r := start(t, n.Conn(), patient, guarded(time.Minute))
				r.enrolled()
				for range 100 {
					n.Delay(trip())
					wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Release, "a", "1")), "ok ok")
					n.FlushScripts()
					wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
					time.Sleep(time.Second)
				}
				wantConnections(t, n, 1)
			})
		})
	}
}

// A node that becomes far is waited for in vain once. Its connection goes on with the next
// answer: to connect anew would take four.
func TestBecomesFar(t *testing.T) {
	for _, trip := range []time.Duration{timeout * 3 / 2, 2 * timeout, longest - timeout/4} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			r := start(t, n.Conn(), patient, guarded(time.Minute))
			r.enrolled()
			wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
			n.Delay(trip)
			begin := time.Now()
			got := r.ask(on(node.Renew, "a", "1"))
			wantStatuses(t, got, "unknown")
			if took := time.Since(begin); took != timeout || !errors.Is(got[0].Err, context.DeadlineExceeded) || r.state.Enrolled {
				t.Errorf("after %v: %v, %+v", took, got[0].Err, r.state)
			}
			r.enrolled()
			if took := time.Since(begin); took != timeout+trip || r.state.Life != 1 || r.state.Patience != min(2*trip, longest) {
				t.Errorf("after %v: %+v", took, r.state)
			}
			if r.state.MarkedAt != r.state.TimeSent {
				t.Errorf("its marker was read %v after it was asked for", r.state.MarkedAt.Sub(r.state.TimeSent))
			}
			wantStatuses(t, r.ask(on(node.Renew, "a", "1"), on(node.Release, "a", "1")), "ok ok")
		})
	}
}

// A node that hangs is noticed after the timeout if it was quick, and keeps nobody waiting
// for longer than that again.
func TestHangsAmongPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), patient, guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
		n.Hang()
		begin := time.Now()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
		if took := time.Since(begin); took != timeout {
			t.Errorf("noticed after %v", took)
		}
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
		if took := time.Since(begin); took != 2*timeout {
			t.Errorf("commands waited for %v", took)
		}
		for range 50 {
			begin := time.Now()
			wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unsent")
			if took := time.Since(begin); took != 0 {
				t.Errorf("refused after %v", took)
			}
			time.Sleep(timeout / 3)
		}
		n.Resume()
		begin = time.Now()
		r.enrolled()
		if took := time.Since(begin); took > 400*time.Millisecond {
			t.Errorf("enrolled after %v", took)
		}
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "ok")
	})
}

// A node that hangs for no longer than a slow one takes goes on with its connection, at once.
func TestHangsForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), patient, guarded(time.Minute))
		r.enrolled()
		n.Hang()
		time.AfterFunc(3*timeout, n.Resume)
		begin := time.Now()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
		r.enrolled()
		if took := time.Since(begin); took != 3*timeout {
			t.Errorf("enrolled after %v", took)
		}
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "ok")
	})
}

// What a node says after an overdue answer counts only if it still is who it was.
func TestForgetsWhileItHangs(t *testing.T) {
	for name, forget := range map[string]func(n *nodetest.Node){
		"flushed":   func(n *nodetest.Node) { n.Flush() },
		"restarted": func(n *nodetest.Node) { n.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn(), patient, guarded(time.Minute))
				r.enrolled()
				n.Hang()
				wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
				forget(n)
				n.Resume()
				r.enrolled()
				if r.state.Life != 2 || r.state.Grown {
					t.Errorf("%+v", r.state)
				}
				wantConnections(t, n, 2)
			})
		})
	}
}

// A connection that breaks while an answer of it is overdue is made anew soon, and Run ends
// at once.
func TestBreaksWhileItHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), patient, guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
		n.Hang()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
		begin := time.Now()
		n.Recover()
		r.enrolled()
		if took := time.Since(begin); took > 2*firstPause {
			t.Errorf("enrolled after %v", took)
		}
		n.Hang()
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "unknown")
		begin = time.Now()
		r.cancel()
		<-r.done
		if took := time.Since(begin); took != 0 {
			t.Errorf("Run ended after %v", took)
		}
	})
}

// A node that was slow and is quick again is waited for less, and not all at once.
func TestQuickAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Delay(2 * timeout)
		r := start(t, n.Conn(), patient)
		r.enrolled()
		n.Delay(0)
		for range 1000 { // however many there are
			wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
		}
		if r.state.Patience != 4*timeout {
			t.Errorf("waits for %v after many quick answers", r.state.Patience)
		}
		for _, want := range []time.Duration{4 * timeout, 2 * timeout, timeout} {
			time.Sleep(8 * longest)
			wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
			if r.state.Patience != want {
				t.Errorf("waits for %v, want %v", r.state.Patience, want)
			}
		}
		n.Hang()
		begin := time.Now()
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "unknown")
		if took := time.Since(begin); took != timeout {
			t.Errorf("noticed after %v", took)
		}
	})
}

// A node that answers what is short, and not what is long, is waited for longer after each
// time, as it is a connection that goes on.
func TestSlowWithWhatIsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), patient)
		r.enrolled()
		missed := 0
		for range 20 {
			n.Hang() // while it works
			time.AfterFunc(timeout*3/2, n.Resume)
			if statuses(r.ask(on(node.Release, "a", "1"))) == "unknown" {
				missed++
				r.enrolled()
			}
		}
		if missed != 1 {
			t.Errorf("%d of 20 were waited for in vain", missed)
		}
	})
}

// A reservation lasts longer on a node that is far: who gets it hears of it late.
func TestReservesForFar(t *testing.T) {
	for trip, want := range map[time.Duration]time.Duration{
		0: 3 * timeout, timeout / 2: 3 * timeout, timeout: 3 * timeout, 2 * timeout: 5 * timeout,
	} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			n.Delay(trip)
			r := start(t, n.Conn(), patient, func(c *node.Config) { c.Inbox = node.InboxChannel("x") })
			r.enrolled()
			wantStatuses(t, r.ask(node.Command{Op: node.Enqueue, Name: "a", Token: "1", Ticket: 1}), "ok")
			if _, left, _ := n.Get("a"); left+trip != want {
				t.Errorf("%v away, it reserves for %v", trip, left+trip)
			}
		})
	}
}

// A dial that was in vain because it took too long may take longer the next time, and no longer
// than that, as a packet may have got lost.
func TestDialsFromFar(t *testing.T) {
	for trip, want := range map[time.Duration]time.Duration{
		timeout / 2: timeout / 2, 2*timeout - 1: 3*timeout - 1, longest - 1: (1+2+4)*timeout + longest - 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			o := node.OptionOf(n.Conn())
			dial := o.DialCtxFn
			o.DialCtxFn = func(ctx context.Context, dst string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, d.Timeout)
				defer cancel()
				select {
				case <-time.After(trip):
					return dial(ctx, dst, d, c)
				case <-ctx.Done():
					return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
				}
			}
			begin := time.Now()
			r := start(t, node.FromOption(o), patient, guarded(time.Minute))
			r.enrolled()
			const pauses = 3 * 250 * time.Millisecond
			if took := time.Since(begin); took < want || took > want+pauses {
				t.Errorf("%v away: enrolled after %v, want %v and the pauses", trip, took, want)
			}
		})
	}
}

// Once a dial was not in vain, or if one fails at once, the next one is not waited for longer.
func TestDialsAreQuickAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		var mu sync.Mutex
		var within []time.Duration // the dials were waited for
		vain, refused := 2, 0
		o := node.OptionOf(n.Conn())
		dial := o.DialCtxFn
		o.DialCtxFn = func(ctx context.Context, dst string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			within = append(within, d.Timeout)
			switch {
			case vain > 0:
				vain--
				return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
			case refused > 0:
				refused--
				return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			}
			return dial(ctx, dst, d, c)
		}
		r := start(t, node.FromOption(o), patient, guarded(time.Minute))
		r.enrolled()
		mu.Lock()
		refused = 2
		mu.Unlock()
		n.Crash()
		r.ended()
		n.Recover()
		r.enrolled()
		mu.Lock()
		defer mu.Unlock()
		want := []time.Duration{timeout, 2 * timeout, 4 * timeout, timeout, timeout, timeout}
		if !slices.Equal(within, want) {
			t.Errorf("dials were waited for %v, want %v", within, want)
		}
	})
}

// A counted connection is open until it is closed.
type counted struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// A connection that goes on although it was late is the only one: that which was being made
// meanwhile is closed.
func TestLateConnectionIsTheOnlyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		var open atomic.Int64
		o := node.OptionOf(n.Conn())
		dial := o.DialCtxFn
		o.DialCtxFn = func(ctx context.Context, dst string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
			conn, err := dial(ctx, dst, d, c)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			return &counted{Conn: conn, open: &open}, nil
		}
		r := start(t, node.FromOption(o), patient, guarded(time.Minute))
		r.enrolled()
		n.Delay(2 * timeout)
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unknown")
		r.enrolled()
		time.Sleep(10 * longest)
		if got := open.Load(); got != 1 {
			t.Errorf("%d connections are open, want 1", got)
		}
	})
}

// A connection that is silent for good, as its bytes got lost, does not keep another one from
// being made at once.
func TestSilentForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), patient, guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		n.Cut("")
		r.send(on(node.Renew, "a", "1"))
		time.Sleep(timeout / 2)
		n.Mend("")
		wantStatuses(t, r.wait(1), "unknown")
		begin := time.Now()
		r.enrolled()
		if took := time.Since(begin); took != 0 {
			t.Errorf("enrolled after %v", took)
		}
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "ok")
	})
}

// A client that was lent may have no other connection: while an answer of the one it has is overdue,
// none is asked for, and no command waits for it.
func TestLateConnectionOfAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		c, dialled := dialling(n)
		o := node.OptionOf(c)
		o.ForceSingleClient = true
		client, err := rueidis.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		r := start(t, node.FromClient(client), patient, guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "absent") // it was of use, so another would be made at once
		before := len(dialled)
		n.Hang()
		time.AfterFunc(3*timeout, n.Resume)
		begin := time.Now()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unknown")
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unsent") // though a lease needs the node
		if took := time.Since(begin); took != timeout {
			t.Errorf("refused after %v", took)
		}
		r.enrolled()
		if took := time.Since(begin); took != 3*timeout {
			t.Errorf("enrolled after %v", took)
		}
		if got := len(dialled) - before; got != 0 {
			t.Errorf("%d more connections", got)
		}
	})
}

// How long the marker took counts as well: it is the first answer for which a server works.
func TestMarkerFromFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		const trip = timeout / 10
		n.Delay(trip)
		time.AfterFunc(trip*3/2, func() { n.Delay(2 * timeout) }) // the greeting has come, the marker is not asked for
		r := start(t, n.Conn(), patient, guarded(time.Minute))
		r.enrolled()
		if r.state.Latency != trip || r.state.Patience != 4*timeout {
			t.Errorf("%+v", r.state)
		}
	})
}

// A dial that was in vain says for how long it was waited for, which is not as long as the node
// may take for an answer.
func TestSaysHowLongItHasDialled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Cut("")
		r := start(t, n.Conn(), patient)
		time.Sleep(10 * longest)
		said := map[string]bool{}
		for len(r.replies) > 0 {
			if err := r.batch().State.Err; err != nil {
				_, how, _ := strings.Cut(err.Error(), " within ") // the dialer's time ends with the attempt's
				said[how] = true
			}
		}
		for _, within := range []string{"200ms", "400ms", "800ms", "1s"} {
			if want := within + ": context deadline exceeded"; !said[want] {
				t.Errorf("%q was not said: %v", want, said)
			}
		}
	})
}

// A process that was stopped for long may handle an answer that came before that after one that came
// later. The earlier one counts in the present period.
func TestPatienceOfEarlierAnswer(t *testing.T) {
	for _, ago := range []time.Duration{longest, 8 * longest, 100 * longest, 1000 * longest} {
		now := clock.Instant(time.Hour)
		got := node.PatienceAfter(timeout, longest, node.Answer{At: now, Took: timeout}, node.Answer{At: now.Add(-ago), Took: 2 * timeout}, node.Answer{At: now, Took: 0})
		if want := []time.Duration{2 * timeout, 4 * timeout, 4 * timeout}; !slices.Equal(got, want) {
			t.Errorf("%v earlier: %v, want %v", ago, got, want)
		}
	}
}
