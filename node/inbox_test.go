package node_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// listening returns an actor with an inbox, and where its wakes arrive.
func listening(t *testing.T, c node.Conn, inbox string, configure ...func(*node.Config)) (*rig, chan node.Wake) {
	wakes := make(chan node.Wake)
	r := start(t, c, append(configure, func(c *node.Config) { c.Inbox, c.Wakes = inbox, wakes })...)
	r.enrolled()
	return r, wakes
}

func enqueue(name, token string, ticket uint64) node.Command {
	return node.Command{Op: node.Enqueue, Name: name, Token: token, Ticket: ticket}
}

func wantWake(t *testing.T, wakes <-chan node.Wake, token string) {
	t.Helper()
	select {
	case w := <-wakes:
		if w != (node.Wake{Node: 3, Token: token}) {
			t.Fatalf("%+v: want one for %q", w, token)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no wake for %q", token)
	}
}

// conns are the ways to reach a node which subscribe in different ways.
func conns(t *testing.T, n *nodetest.Node) map[string]node.Conn {
	two := node.OptionOf(n.Conn())
	two.AlwaysRESP2 = true
	client := lend(t, n)
	t.Cleanup(client.Close)
	return map[string]node.Conn{"RESP3": n.Conn(), "RESP2": node.FromOption(two), "client": node.FromClient(client)}
}

func TestInbox(t *testing.T) {
	for _, kind := range []string{"RESP3", "RESP2", "client"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r, wakes := listening(t, conns(t, n)[kind], "in")
				wantStatuses(t, r.ask(grant("a", "1", 1), grant("b", "1", 1)), "ok ok")
				synctest.Wait()
				if c := n.Commands(); c["SUBSCRIBE"] != 0 {
					t.Errorf("subscribed before anything waits: %v", c)
				}
				wantStatuses(t, r.ask(enqueue("a", "2", 1)), "other")
				wantWake(t, wakes, "")
				// Nobody takes the wakes, and the actor goes on.
				wantStatuses(t, r.ask(on(node.Release, "a", "1"), enqueue("b", "3", 1), on(node.Release, "b", "1")), "ok other ok")
				for range 100 {
					wantStatuses(t, r.ask(grant("c", "1", 1), on(node.Release, "c", "1")), "ok ok")
				}
				wantWake(t, wakes, "2")
				wantWake(t, wakes, "3")
				c := on(node.Claim, "a", "2")
				c.Fence = 2
				wantStatuses(t, r.ask(c), "ok")

				for range 3 { // it is listened to again after each
					n.Recover()
					r.ask(on(node.Inspect, "a", "")) // whatever this finds
					r.enrolled()
					wantWake(t, wakes, "")
					r.ask(enqueue("a", "4", 1))
					wantStatuses(t, r.ask(on(node.Release, "a", "2"), grant("x", "1", 1), on(node.Release, "x", "1")), "ok ok ok")
					wantWake(t, wakes, "4")
					wantStatuses(t, r.ask(on(node.Leave, "a", "4"), grant("a", "2", 1)), "ok ok")
				}
				if r.state.NoInbox != nil {
					t.Error(r.state.NoInbox)
				}

				// Neither a wake that nobody takes nor a hung node delays the end.
				r.ask(enqueue("a", "5", 1), on(node.Release, "a", "2"))
				n.Hang()
				begin := time.Now()
				r.cancel()
				<-r.done
				if took := time.Since(begin); took != 0 {
					t.Errorf("took %v", took)
				}
				n.Resume()
			})
		})
	}
}

// Each step of subscribing has the whole timeout, over RESP2 too, which has more of them.
func TestInboxFromFar(t *testing.T) {
	for _, kind := range []string{"RESP3", "RESP2", "client"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				c := conns(t, n)[kind]
				if kind == "client" {
					n.Delay(timeout * 6 / 10)
				} else {
					c = far(n, c, timeout*6/10)
				}
				r, wakes := listening(t, c, "in", guarded(time.Minute))
				wantStatuses(t, r.ask(grant("a", "1", 1), enqueue("a", "2", 1)), "ok other")
				wantWake(t, wakes, "")
				if c := n.Commands()["SUBSCRIBE"]; c != 1 {
					t.Errorf("subscribed %d times", c)
				}
				wantStatuses(t, r.ask(on(node.Release, "a", "1")), "ok")
				wantWake(t, wakes, "2")
				if r.state.NoInbox != nil {
					t.Error(r.state.NoInbox)
				}
			})
		})
	}
}

// The node hangs while it is subscribed to.
func TestInboxHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "in")
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		n.Reply("SUBSCRIBE", " "+nodetest.EOF) // whatever, it is broken
		wantStatuses(t, r.ask(enqueue("a", "2", 1)), "other")
		r.until("an error", func(s node.State) bool { return s.NoInbox != nil })
		if !r.state.Enrolled {
			t.Errorf("%+v", r.state)
		}
		n.Reply("SUBSCRIBE", "")
		wantWake(t, wakes, "")
		r.until("a subscription", func(s node.State) bool { return s.NoInbox == nil })

		n.Hang()
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "unknown")
		time.Sleep(2 * timeout)
		n.Resume() // it releases after all, and tells a connection that is gone
		r.enrolled()
		wantWake(t, wakes, "")
		wantStatuses(t, r.ask(enqueue("a", "2", 1)), "ok")
		r.Close()
		<-r.done
	})
}

// A client that may not subscribe can do everything else, and no password is told.
func TestInboxRefused(t *testing.T) {
	for _, answer := range []string{
		"-NOPERM No permissions to access a channel, hunter2\r\n", "-ERR unknown command\r\n", "+OK\r\n", "*0\r\n", ":1\r\n", "_\r\n",
		">3\r\n$7\r\nmessage\r\n$2\r\nin\r\n$1\r\nx\r\n+OK\r\n",
		">3\r\n$9\r\nsubscribe\r\n$2\r\nin\r\n:1\r\n>3\r\n$9\r\nsubscribe\r\n$2\r\nin\r\n:1\r\n",
		">3\r\n$9\r\nsubscribe\r\n$2\r\nin\r\n:1\r\n+OK\r\n",
		">3\r\n$11\r\nunsubscribe\r\n$2\r\nin\r\n:1\r\n", ">2\r\n$10\r\ninvalidate\r\n_\r\n", "",
	} {
		for _, proto := range []string{"RESP3", "RESP2"} {
			t.Run(fmt.Sprintf("%s %q", proto, answer), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := nodetest.New()
					defer n.Close()
					answer := answer
					if proto == "RESP2" {
						answer = strings.ReplaceAll(answer, ">", "*")
					}
					n.Reply("SUBSCRIBE", answer+nodetest.EOF)
					o := node.OptionOf(n.Conn())
					o.Password, o.AlwaysRESP2 = "hunter2", proto == "RESP2"
					n.RequirePass("hunter2")
					wakes := make(chan node.Wake, 1000)
					r := start(t, node.FromOption(o), func(c *node.Config) { c.Inbox, c.Wakes = "in", wakes })
					wantStatuses(t, r.ask(grant("a", "1", 1), enqueue("a", "2", 1)), "ok other")
					r.until("an error", func(s node.State) bool { return s.NoInbox != nil })
					t.Log(r.state.NoInbox)
					if strings.Contains(r.state.NoInbox.Error(), "hunter2") {
						t.Error("a password is told")
					}
					time.Sleep(9 * time.Second) // in fake time
					if got := n.Commands()["HELLO"]; got > 60 {
						t.Errorf("%d connections in nine seconds", got)
					}
					for len(r.replies) > 0 {
						r.batch()
					}
					if !r.state.Enrolled {
						t.Errorf("%+v", r.state)
					}
					wantStatuses(t, r.ask(on(node.Release, "a", "1"), on(node.Leave, "a", "2")), "ok absent")
				})
			})
		}
	}
}

// If a user may not subscribe, that is tried more and more rarely; and less than a second after
// it broke otherwise.
func TestInboxRefusedForGood(t *testing.T) {
	for _, c := range []struct {
		command, answer string
		least, most     int // in ten minutes
	}{
		{"SUBSCRIBE", "-NOPERM No permissions to access a channel\r\n", 50, 150},
		{"SUBSCRIBE", "-LOADING Redis is loading the dataset in memory\r\n", 500, 1000},
		{"HELLO", "-ERR max number of clients reached\r\n", 50, 150},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			conn, dialled := dialling(n)
			r := start(t, conn, func(cfg *node.Config) { cfg.Inbox, cfg.Wakes = "in", make(chan node.Wake, 1000) })
			r.enrolled()
			n.Reply(c.command, c.answer)
			r.ask(grant("a", "1", 1), enqueue("a", "2", 1))
			time.Sleep(time.Minute)
			before := len(dialled)
			time.Sleep(10 * time.Minute)
			if got := len(dialled) - before; got < c.least || got > c.most {
				t.Errorf("%q: tried %d times in ten minutes", c.answer, got)
			}
			n.Reply(c.command, "")
			time.Sleep(9 * time.Second)
			for len(r.replies) > 0 {
				r.batch()
			}
			if r.state.NoInbox != nil {
				t.Error(r.state.NoInbox)
			}
		})
	}
}

// Nothing is left when Run has returned, whatever the listener was about to do.
func TestInboxLeavesNothing(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault func(*nodetest.Node)
	}{
		{"well", func(*nodetest.Node) {}},
		{"hung", func(n *nodetest.Node) { n.Hang() }},
		{"down", func(n *nodetest.Node) { n.Crash() }},
		{"cut off", func(n *nodetest.Node) { n.Cut("") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				r, _ := listening(t, n.Conn(), "in") // whose wakes nobody takes
				r.ask(grant("a", "1", 1), enqueue("a", "2", 1))
				synctest.Wait()
				tc.fault(n)
				synctest.Wait()
				before := time.Now()
				r.cancel()
				<-r.done
				if took := time.Since(before); took != 0 {
					t.Errorf("took %v", took)
				}
				n.Close()
				synctest.Wait()
				stacks := make([]byte, 1<<20)
				if s := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(s, "leasehold/node.(") {
					t.Errorf("left:\n%s", s)
				}
			})
		})
	}
}

// A young node takes who waits, and neither reserves nor grants anything: what it
// forgot may be healed.
func TestYoungNodeReservesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "in", guarded(time.Minute))
		n.Restart()
		r.ended()
		r.enrolled()
		claim := on(node.Claim, "a", "1")
		claim.Fence = 1
		queued := on(node.Release, "a", "2")
		queued.Queued = true
		got := r.ask(enqueue("a", "1", 1), claim, on(node.Release, "a", "2"), queued, on(node.Leave, "a", "2"), on(node.Inspect, "a", ""))
		wantStatuses(t, got, "other unsent absent absent absent absent")
		if got[0].Value != "" || got[0].Left != 0 || got[5].Ahead != 1 {
			t.Errorf("%+v", got)
		}
		wantWake(t, wakes, "")
		heal := on(node.Heal, "a", "h")
		heal.Fence, heal.Life = 1, r.state.Life
		wantStatuses(t, r.ask(heal), "ok")
		wantStatuses(t, r.ask(grown(r.state.Life), grant("b", "1", 1)), "ok ok")
		wantStatuses(t, r.ask(enqueue("a", "1", 1), on(node.Release, "a", "h"), enqueue("a", "1", 1)), "other ok ok")
		wantWake(t, wakes, "1")
		wantStatuses(t, r.ask(claim), "ok")
	})
}

func TestQueueHasHalfTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn(), func(c *node.Config) { c.Mailbox = 4 })
		r.send(enqueue("a", "1", 1), on(node.Claim, "b", "1"))
		for _, op := range []node.Op{node.Grant, node.Enqueue, node.Claim, node.Adopt, node.Sign} {
			if r.TrySend(on(op, "c", "1")) {
				t.Errorf("a %v took the other half", op)
			}
		}
		r.send(on(node.Leave, "a", "1"))
		r.run()
		r.wait(3)
	})
}

// Nothing that the scripts of the queue, or a raise, should not say is a vote.
func TestWrongAnswersOfTheQueue(t *testing.T) {
	const (
		at    = "$10\r\n1700000000\r\n$1\r\n5\r\n"
		empty = "$0\r\n\r\n"
	)
	for _, tc := range []struct {
		op     node.Op
		answer string
	}{
		{node.Claim, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n" + empty + ":0\r\n:1\r\n"}, // no fence
		{node.Claim, "*8\r\n" + at + ":0\r\n" + empty + ":-2\r\n$1\r\n5\r\n:0\r\n:1\r\n"},
		{node.Claim, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n$1\r\n5\r\n:0\r\n:2\r\n"},
		{node.Claim, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n$1\r\n5\r\n:-1\r\n:1\r\n"},
		{node.Claim, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n$3\r\n1.5\r\n:0\r\n:1\r\n"},
		{node.Claim, "*7\r\n" + at + ":1\r\n" + empty + ":-2\r\n$1\r\n5\r\n:0\r\n"},
		{node.Claim, "+OK\r\n"},
		{node.Enqueue, "*8\r\n" + at + ":0\r\n" + empty + ":-2\r\n" + empty + ":0\r\n" + empty},
		{node.Enqueue, "*8\r\n" + at + ":1\r\n" + empty + ":-3\r\n" + empty + ":0\r\n" + empty},
		{node.Enqueue, "*8\r\n" + at + ":1\r\n:1\r\n:-2\r\n" + empty + ":0\r\n" + empty},
		{node.Enqueue, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n" + empty + empty + empty},
		{node.Enqueue, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n" + empty + ":0\r\n$3\r\n1.5\r\n"},
		{node.Enqueue, "*8\r\n" + at + ":1\r\n" + empty + ":-2\r\n" + empty + ":0\r\n:5\r\n"},
		{node.Enqueue, "*7\r\n" + at + ":1\r\n" + empty + ":-2\r\n" + empty + ":0\r\n"},
		{node.Raise, "*3\r\n" + at + ":1\r\n"},
		{node.Raise, "*4\r\n" + at + ":1\r\n:5\r\n"},
		{node.Raise, "*4\r\n" + at + ":1\r\n$2\r\n-1\r\n"},
		{node.Raise, "*4\r\n" + at + ":1\r\n_\r\n"},
		{node.Leave, "*3\r\n" + at + ":3\r\n"}, {node.Leave, "_\r\n"},
		{node.Adopt, "*7\r\n" + at + ":1\r\n" + empty + ":5\r\n" + empty + ":0\r\n"}, // no fence
		{node.Adopt, "*7\r\n" + at + ":4\r\n" + empty + ":5\r\n$1\r\n5\r\n:0\r\n"},
		{node.Adopt, "*7\r\n" + at + ":1\r\n" + empty + ":-3\r\n$1\r\n5\r\n:0\r\n"},
		{node.Adopt, "*7\r\n" + at + ":1\r\n" + empty + ":5\r\n$1\r\n5\r\n:2\r\n"},
		{node.Adopt, "*7\r\n" + at + ":1\r\n" + empty + ":5\r\n$16\r\n9007199254740994\r\n:1\r\n"}, // above 2^53
		{node.Adopt, "*6\r\n" + at + ":1\r\n" + empty + ":5\r\n$1\r\n5\r\n"},
		{node.Sign, "*4\r\n" + at + ":1\r\n:5\r\n"}, {node.Sign, "*4\r\n" + at + ":0\r\n" + empty},
		{node.Sign, "*3\r\n" + at + ":1\r\n"}, {node.Sign, "*4\r\n" + at + ":1\r\n_\r\n"},
	} {
		t.Run(fmt.Sprintf("%v %q", tc.op, tc.answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				n.Reply("EVAL", tc.answer)
				r := start(t, n.Conn())
				r.enrolled()
				got := r.ask(node.Command{Op: tc.op, Name: "a", Token: "1", TTL: time.Second, Fence: 5, Ticket: 5, By: clock.Never})[0]
				if got.Status != node.Unknown || got.Err == nil || errors.Is(got.Err, nil) || got.Raised || got.Fence != 0 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// crowded returns an actor and a name that is held, for which so many wait of whom none listens.
func crowded(t *testing.T, n *nodetest.Node, size int) (r *rig, name, token string) {
	r = start(t, n.Conn(), func(c *node.Config) { c.Inbox = "in" })
	r.enrolled()
	wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
	for i := range size {
		r.send(enqueue("a", fmt.Sprint("w", i), uint64(i+1)))
	}
	r.wait(size)
	return r, "a", "1"
}

// A hand-over that has met only dead goes on by itself, and nobody hears of what that was answered:
// not then, and not later.
func TestHandOverGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, name, token := crowded(t, n, 1100)
		wantStatuses(t, r.ask(on(node.Release, name, token)), "ok")
		synctest.Wait()
		n.Crash()
		r.ended() // which is told without any reply
		n.Recover()
		r.enrolled()
		got := r.ask(on(node.Inspect, name, ""))
		if wantStatuses(t, got, "absent"); got[0].Ahead != 0 {
			t.Errorf("%d of the dead are left", got[0].Ahead)
		}
	})
}

// It does not go on over another connection, which may be to another server: the next heartbeat
// of a waiter has it go on there, if there is one.
func TestHandOverEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, name, token := crowded(t, n, 1100)
		n.Fail("SET", "READONLY You can't write against a read only replica.")
		wantStatuses(t, r.ask(on(node.Release, name, token), grant("b", "1", 1)), "ok unknown")
		n.Fail("SET", "")
		r.enrolled()
		got := r.ask(on(node.Inspect, name, ""))
		if wantStatuses(t, got, "absent"); got[0].Ahead != 600 {
			t.Errorf("%d of the dead are left, want those that one call has not looked at", got[0].Ahead)
		}
	})
}

// A release with a fence gives the key, and the message tells which server did: only that of the
// session is believed. A replica that is listened to passes on what its primary was told, and a
// server that has lost its data since may have a message on its way.
func TestGiftOfAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r, wakes := listening(t, n.Conn(), "in", guarded(time.Minute))
		client := lend(t, n)
		defer client.Close()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		replies := r.ask(enqueue("a", "2", 1))
		wantStatuses(t, replies, "other")
		wantWake(t, wakes, "")
		give := on(node.Release, "a", "1")
		give.Fence = 7
		wantStatuses(t, r.ask(give), "ok")
		until := replies[0].Until
		w := <-wakes
		if want := (node.Wake{Node: 3, Token: "2", Fence: 7, Life: 1, Beat: until, At: w.At, Until: w.Until}); w != want || w.At <= 0 || w.At >= w.Until || w.Until >= until {
			t.Errorf("%+v: want %+v", w, want)
		}
		for _, message := range []string{
			fmt.Sprintf("?1 7 %d 5 6 1 2other/server 17 10000", until.Milliseconds()),
			fmt.Sprintf("?1 7 %d 5 6 1 2", until.Milliseconds()),
		} {
			if err := client.Do(t.Context(), client.B().Publish().Channel("in").Message(message).Build()).Error(); err != nil {
				t.Fatal(err)
			}
			wantWake(t, wakes, "2")
		}
		// What is no such message is a token that nobody has.
		for _, message := range []string{"?1", "?1 7", "?1 0 5 5 5 1 2", "?1 7 5 5 5 9 2", "?1 7 x 5 5 1 2", "?1 9007199254740993 5 5 5 1 2", "?2 7 5 5 5 1 2", "?1 7 5 5 6 1 2"} {
			if err := client.Do(t.Context(), client.B().Publish().Channel("in").Message(message).Build()).Error(); err != nil {
				t.Fatal(err)
			}
			wantWake(t, wakes, message)
		}
	})
}
