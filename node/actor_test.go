package node_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

const timeout = 200 * time.Millisecond

// A rig is an actor that runs in a bubble, and what it has told.
type rig struct {
	*node.Actor
	t       *testing.T
	replies chan node.Batch
	cancel  context.CancelFunc
	done    chan struct{}
	state   node.State
	id      uint64
}

func start(t *testing.T, c node.Conn, configure ...func(*node.Config)) *rig {
	r := prepare(t, c, configure...)
	r.run()
	return r
}

func prepare(t *testing.T, c node.Conn, configure ...func(*node.Config)) *rig {
	r := &rig{t: t, replies: make(chan node.Batch, 10_000), done: make(chan struct{})}
	config := node.Config{Index: 3, Conn: c, Clock: clock.Runtime(), Timeout: timeout, Replies: r.replies}
	for _, f := range configure {
		f(&config)
	}
	r.Actor = node.NewActor(config)
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-r.done
	})
}

// send hands over the commands at once, so that they share a pipeline, gives them numbers and
// returns the first. By defaults to never.
func (r *rig) send(commands ...node.Command) uint64 {
	r.t.Helper()
	first := r.id + 1
	commands = slices.Clone(commands)
	for i := range commands {
		c := &commands[i]
		r.id++
		c.ID = r.id
		if c.By == 0 {
			c.By = clock.Never
		}
	}
	if left := r.TrySendAll(commands); len(left) > 0 {
		r.t.Fatalf("no room for %v", left)
	}
	return first
}

// wait returns the next n replies.
func (r *rig) wait(n int) []node.Reply {
	r.t.Helper()
	var got []node.Reply
	for len(got) < n {
		got = append(got, r.batch().Replies...)
	}
	if len(got) > n {
		r.t.Fatalf("%d replies too many: %v", len(got)-n, got)
	}
	return got
}

func (r *rig) batch() node.Batch {
	r.t.Helper()
	select {
	case b := <-r.replies:
		if b.Node != 3 {
			r.t.Fatalf("Batch.Node = %d", b.Node)
		}
		r.state = b.State
		return b
	case <-time.After(time.Minute):
		r.t.Fatal("no batch within a minute")
		return node.Batch{}
	}
}

func (r *rig) ask(commands ...node.Command) []node.Reply {
	r.t.Helper()
	r.send(commands...)
	return r.wait(len(commands))
}

// until reads batches, which must have no replies, until the state is as wanted.
func (r *rig) until(what string, want func(node.State) bool) {
	r.t.Helper()
	for !want(r.state) {
		if b := r.batch(); len(b.Replies) > 0 {
			r.t.Fatalf("replies %v while waiting for %s", b.Replies, what)
		}
	}
}

func (r *rig) enrolled() {
	r.t.Helper()
	r.until("an enrolment", func(s node.State) bool { return s.Enrolled })
}

func (r *rig) ended() {
	r.t.Helper()
	r.until("its end", func(s node.State) bool { return !s.Enrolled })
}

func grant(name, token string, fence uint64) node.Command {
	return node.Command{Op: node.Grant, Name: name, Token: token, TTL: 10 * time.Second, Fence: fence}
}

func on(op node.Op, name, token string) node.Command {
	return node.Command{Op: op, Name: name, Token: token, TTL: 10 * time.Second}
}

func statuses(rs []node.Reply) string {
	var s []string
	for _, r := range rs {
		s = append(s, r.Status.String())
	}
	return strings.Join(s, " ")
}

func wantStatuses(t *testing.T, rs []node.Reply, want string) {
	t.Helper()
	if got := statuses(rs); got != want {
		t.Fatalf("statuses %q, want %q: %v", got, want, rs)
	}
}

func TestOnePipelineInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn())
		r.send(
			grant("a", "1", 7), grant("a", "2", 8),
			on(node.Release, "a", "1"), on(node.Release, "a", "1"),
			grant("a", "2", 8),
			on(node.Renew, "a", "2"), on(node.Renew, "b", "2"), on(node.Renew, "a", "1"),
			node.Command{Op: node.Raise, Name: "a", Token: "2", Fence: 9},
			on(node.Inspect, "a", ""), on(node.Inspect, "b", ""))
		r.run()
		r.enrolled()
		b := r.batch()
		wantStatuses(t, b.Replies, "ok other ok absent ok ok absent other ok ok absent")
		for i, re := range b.Replies {
			if re.ID != uint64(i+1) || re.Err != nil {
				t.Errorf("reply %d: %+v", i, re)
			}
		}
		if g := b.Replies[0]; !g.Raised {
			t.Errorf("first grant: %+v", g)
		}
		if g := b.Replies[1]; !g.Raised {
			t.Errorf("refused grant: %+v", g)
		}
		if g := b.Replies[4]; g.Raised {
			t.Errorf("second grant of the same fence: %+v", g)
		}
		if g := b.Replies[8]; g.Fence != 8 {
			t.Errorf("raise: %+v", g)
		}
		if g := b.Replies[9]; g.Value != "2+9" || g.Fence != 9 || g.Left != 10*time.Second {
			t.Errorf("inspect: %+v", g)
		}
		if b.State.Life != 1 || b.State.Offset == 0 {
			t.Errorf("state %+v", b.State)
		}
		c := n.Commands()
		if c["CLIENT GETNAME"] != 1 || c["TIME"] != 2 {
			t.Errorf("asked for the name %d times and for the time %d times, want each once for one pipeline, and the time at the enrolment", c["CLIENT GETNAME"], c["TIME"])
		}
		if c["EVAL"] != 4 || c["EVALSHA"] != 1 { // release twice: a name is never twice in a call, but for a renewal
			t.Errorf("commands %v", c)
		}
	})
}

// Each key gets the TTL of its own renewal, though one call of the script has one.
func TestRenewalsOfSeveralTTLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn())
		ttls := []time.Duration{5 * time.Second, 5 * time.Second, 20 * time.Second, time.Second}
		var renewals []node.Command
		for i, ttl := range ttls {
			name := string(rune('a' + i))
			r.send(grant(name, "1", 1))
			c := on(node.Renew, name, "1")
			c.TTL = ttl
			renewals = append(renewals, c)
		}
		r.send(renewals...)
		r.send(on(node.Inspect, "a", ""), on(node.Inspect, "b", ""), on(node.Inspect, "c", ""), on(node.Inspect, "d", ""))
		r.run()
		r.enrolled()
		b := r.batch()
		wantStatuses(t, b.Replies, strings.TrimSpace(strings.Repeat("ok ", 12)))
		for i, ttl := range ttls {
			if left := b.Replies[8+i].Left; left != ttl {
				t.Errorf("the TTL of renewal %d is %v, want %v", i, left, ttl)
			}
		}
	})
}

func TestManyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn())
		const names = 1000
		for i := range names {
			r.send(grant(fmt.Sprint("n", i), "t", 1))
		}
		for i := range names {
			r.send(on(node.Release, fmt.Sprint("n", i), "t"))
		}
		r.run()
		r.enrolled()
		for i, re := range r.wait(2 * names) {
			if re.Status != node.OK || re.ID != uint64(i+1) {
				t.Fatalf("reply %d: %+v", i, re)
			}
		}
		if c := n.Commands(); c["EVAL"]+c["EVALSHA"] > names/64+4 {
			t.Errorf("too many calls: %v", c)
		}
	})
}

func TestNotSentAfterBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		stale, fresh := grant("a", "1", 1), grant("b", "1", 1)
		stale.By = clock.Runtime().Now().Add(-1)
		fresh.By = clock.Runtime().Now()
		got := r.ask(stale, fresh)
		wantStatuses(t, got, "unsent ok")
		if got[0].Err == nil || slices.Contains(n.Keys(), "a") {
			t.Errorf("%+v, keys %v", got[0], n.Keys())
		}
	})
}

func TestFullMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn(), func(c *node.Config) { c.Mailbox = 4 })
		r.send(grant("a", "1", 1), grant("b", "1", 1))
		if r.TrySend(grant("c", "1", 1)) {
			t.Error("a grant took the other half")
		}
		r.send(on(node.Release, "a", "1"), on(node.Release, "b", "1"))
		if r.TrySend(on(node.Release, "c", "1")) {
			t.Error("no end of room")
		}
		r.run()
		wantStatuses(t, r.wait(4), "ok ok ok ok")

		r.cancel()
		<-r.done
		if r.TrySend(on(node.Release, "c", "1")) {
			t.Error("taken although nobody will answer")
		}
	})
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")

		n.Hang()
		begin := time.Now()
		got := r.ask(grant("b", "1", 1))
		wantStatuses(t, got, "unknown")
		if took := time.Since(begin); took != timeout {
			t.Errorf("took %v", took)
		}
		if !errors.Is(got[0].Err, context.DeadlineExceeded) || r.state.Enrolled || r.state.Err == nil {
			t.Errorf("%v, %+v", got[0].Err, r.state)
		}
		// The first attempt after the loss is waited for.
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unsent")
		if took := time.Since(begin); took != 2*timeout {
			t.Errorf("took %v", took)
		}
		// No later one is.
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unsent")
		if took := time.Since(begin); took != 2*timeout {
			t.Errorf("took %v", took)
		}
		time.Sleep(10 * time.Second) // a fake one, of several attempts
		n.Resume()
		begin = time.Now()
		r.enrolled()
		if took := time.Since(begin); took > 400*time.Millisecond+timeout {
			t.Errorf("enrolled after %v", took)
		}
		if r.state.Life != 1 {
			t.Errorf("Life %d", r.state.Life)
		}
		// What was sent to the hung node was done after all.
		wantStatuses(t, r.ask(on(node.Release, "b", "1")), "ok")
	})
}

// far returns the Conn with a dial that takes so long, and has each answer of the node
// take as long from now on.
func far(n *nodetest.Node, c node.Conn, trip time.Duration) node.Conn {
	o := node.OptionOf(c)
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, dst string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
		select {
		case <-time.After(trip):
			return dial(ctx, dst, d, c)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.Delay(trip)
	return node.FromOption(o)
}

// Each step of connecting has the whole timeout: the dial, the greeting, who the
// server is, and the marker.
func TestEnrolsFromFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		const trip = timeout * 6 / 10
		begin := time.Now()
		r := start(t, far(n, n.Conn(), trip), guarded(time.Minute))
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		if took := time.Since(begin); took != 5*trip {
			t.Errorf("took %v", took)
		}
	})
}

// A node that hangs in the middle costs one timeout from there, and the end of Run
// waits for none.
func TestHangsFromFar(t *testing.T) {
	const trip = timeout * 6 / 10
	for steps := range 4 {
		t.Run(fmt.Sprint(steps), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				begin := time.Now()
				r := start(t, far(n, n.Conn(), trip), guarded(time.Minute))
				time.Sleep(time.Duration(steps)*trip + trip/2)
				n.Cut("") // whose dial and answers are lost
				wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
				if took := time.Since(begin); took != time.Duration(steps)*trip+timeout {
					t.Errorf("took %v", took)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, far(n, n.Conn(), trip), guarded(time.Minute))
				time.Sleep(time.Duration(steps)*trip + trip/2)
				begin := time.Now()
				r.cancel()
				<-r.done
				if took := time.Since(begin); took != 0 {
					t.Errorf("Run ended after %v", took)
				}
			})
		})
	}
}

// A node's time comes from anywhere in the round trip, so a slow answer tells less of it
// than a quick one that is not old.
func TestOffsetOfTheQuickest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		offset, at := r.state.Offset, r.state.OffsetAt
		n.Delay(100 * time.Millisecond)
		n.Jump(30 * time.Millisecond) // it may be what was there before
		for range 3 {
			wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
			if r.state.Offset != offset || r.state.OffsetAt != at || r.state.TimeBack <= at {
				t.Errorf("%+v", r.state)
			}
		}
		time.Sleep(5 * time.Second)
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
		if r.state.Offset == offset || r.state.OffsetAt == at {
			t.Errorf("%+v", r.state)
		}
	})
}

// What a slow answer tells is taken if the node's clock, or ours, has surely moved.
func TestOffsetOfAClockThatMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		offset := r.state.Offset
		n.Delay(100 * time.Millisecond)
		n.Jump(time.Hour)
		wantStatuses(t, r.ask(on(node.Release, "a", "1")), "absent")
		if moved := r.state.Offset - offset; moved < time.Hour-100*time.Millisecond || moved > time.Hour {
			t.Errorf("the offset moved by %v", moved)
		}
	})
}

func TestSilentWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		offset, at := r.state.Offset, r.state.OffsetAt
		n.Jump(time.Second)
		r.until("a heartbeat", func(s node.State) bool { return s.OffsetAt != at })
		if d := r.state.Offset - offset; d != time.Second || r.state.OffsetAt.Sub(at) != 10*time.Second {
			t.Errorf("offset moved by %v after %v", d, r.state.OffsetAt.Sub(at))
		}
		n.Hang()
		begin := time.Now()
		r.ended()
		if took := time.Since(begin); took != 10*time.Second+timeout {
			t.Errorf("noticed after %v", took)
		}
	})
}

func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Crash()
		r := start(t, n.Conn())
		got := r.ask(grant("a", "1", 1)) // waits for the first attempt
		wantStatuses(t, got, "unsent")
		if r.state.Enrolled || r.state.Err == nil || got[0].Err.Error() != r.state.Err.Error() || r.state.Life != 0 {
			t.Errorf("%+v, %+v", got, r.state)
		}
		time.Sleep(time.Minute)
		n.Restart()
		begin := time.Now()
		r.enrolled()
		if took := time.Since(begin); took > 400*time.Millisecond || r.state.Life != 1 {
			t.Errorf("after %v: %+v", took, r.state)
		}
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")

		time.Sleep(time.Second)
		begin = time.Now()
		n.Crash()
		r.ended() // at once, though nothing was asked
		if took := time.Since(begin); took != 0 {
			t.Errorf("noticed after %v", took)
		}
		n.Recover()
		r.enrolled()
		if r.state.Life != 2 {
			t.Errorf("Life %d", r.state.Life)
		}
		wantStatuses(t, r.ask(grant("a", "2", 2)), "other")
		n.Restart()
		r.ended()
		r.enrolled()
		if r.state.Life != 3 {
			t.Errorf("Life %d", r.state.Life)
		}
		wantStatuses(t, r.ask(grant("a", "2", 2)), "ok")
	})
}

func TestScriptFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1"), on(node.Inspect, "a", "")), "ok ok ok")
		n.FlushScripts()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1"), grant("b", "1", 1), on(node.Renew, "b", "1"), on(node.Inspect, "a", "")), "ok ok ok ok")

		n.FlushScripts()
		n.Delay(timeout / 4)
		stale := on(node.Renew, "a", "1")
		stale.By = clock.Runtime().Now().Add(timeout / 8)
		wantStatuses(t, r.ask(stale, on(node.Renew, "b", "1")), "unsent ok")

		// The second pipeline gets a timeout of its own, as it is an answer of its own.
		n.FlushScripts()
		n.Delay(timeout * 3 / 4)
		begin := time.Now()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "ok")
		if took := time.Since(begin); took != timeout*3/2 {
			t.Errorf("took %v", took)
		}
	})
}

// What the node has lost the script of is sent again after what gave it up, unless
// that is noticed, and then nothing would ever take it away again.
func TestScriptFlushBehindARelease(t *testing.T) {
	queued := on(node.Release, "a", "1")
	queued.Queued = true
	claim, heal := on(node.Claim, "a", "1"), on(node.Heal, "a", "1")
	claim.Fence, heal.Fence, heal.Life = 1, 1, 1
	adopt := on(node.Adopt, "a", "1")
	adopt.Fence, adopt.Former = 1, "0"
	for _, tc := range []struct {
		name   string
		set    node.Command
		behind node.Command
		want   string
	}{
		{"claim", claim, on(node.Release, "a", "1"), "unsent absent"},
		{"claim of a waiter", claim, queued, "unsent absent"},
		{"heal", heal, on(node.Release, "a", "1"), "unsent absent"},
		{"heal, and the key is left", heal, on(node.Vacate, "a", "1"), "unsent absent"},
		{"adoption", adopt, on(node.Release, "a", "1"), "unsent absent"},
		{"enqueue", enqueue("a", "1", 1), on(node.Leave, "a", "1"), "unsent absent"},
		{"enqueue, released", enqueue("a", "1", 1), queued, "unsent absent"},
		{"another's release", claim, on(node.Release, "a", "2"), "ok absent"},
		{"another name's", claim, on(node.Release, "b", "1"), "ok absent"},
		{"a lease that leaves the queue", claim, on(node.Leave, "a", "1"), "ok absent"},
		{"a release stays one", on(node.Release, "a", "1"), on(node.Leave, "a", "1"), "absent absent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn(), guarded(time.Minute))
				r.enrolled()
				first := tc.set // its script has been sent, and the other's has not
				first.Name, first.Token = "x", "x"
				r.ask(first)
				n.FlushScripts()

				n.Delay(timeout / 8) // while this is under way the two gather
				r.send(on(node.Inspect, "x", ""))
				synctest.Wait()
				r.send(tc.set, tc.behind)
				wantStatuses(t, r.wait(3)[1:], tc.want)
				kept := n.Keys()
				for _, key := range []string{"a", "leasehold:{a}:queue"} {
					if strings.HasPrefix(tc.want, "unsent") && slices.Contains(kept, key) {
						t.Errorf("%s is left behind", key)
					}
				}
			})
		})
	}
}

func TestStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		for _, answer := range []string{"$7\r\nanother\r\n", "$-1\r\n", "-ERR no\r\n", ":1\r\n", "*0\r\n"} {
			n.Reply("CLIENT GETNAME", answer)
			got := r.ask(on(node.Renew, "a", "1"), grant("b", "1", 1))
			wantStatuses(t, got, "unknown unknown")
			if r.state.Enrolled || got[0].Err == nil {
				t.Errorf("%q: %+v, %+v", answer, got, r.state)
			}
			n.Reply("CLIENT GETNAME", "")
			r.enrolled()
			wantStatuses(t, r.ask(on(node.Release, "b", "1")), "ok") // it had been set
		}
	})
}

func TestReadonly(t *testing.T) {
	for _, tc := range []struct {
		command, text string
		ends          bool
	}{
		{"SET", "READONLY You can't write against a read only replica.", true},
		{"EVAL", "ERR Error running script (call to f_0123): @user_script:7: @user_script: 7: -READONLY You can't write against a read only replica.", true},
		{"SET", "OOM command not allowed when used memory > 'maxmemory'.", false},
		{"EVAL", "NOPERM this user has no permissions to run the 'eval' command", false},
		{"EVAL", "ERR The user executing the script can't run this command or subcommand script: 0123", false},
		{"EVAL", "ERR Error running script (call to f_0123): @user_script:7: @user_script: 7: The user executing the script can't run this command or subcommand", false},
		{"EVAL", "ERR ACL failure in script: User default has no permissions to run the 'pexpire' command script: 0123, on @user_script:20.", false},
	} {
		t.Run(tc.command+" "+tc.text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn())
				r.enrolled()
				n.Fail(tc.command, tc.text)
				c := grant("a", "1", 1)
				if tc.command != "SET" {
					c = on(node.Release, "a", "1")
				}
				got := r.ask(c)
				wantStatuses(t, got, "unknown")
				want := strings.TrimPrefix(tc.text, "ERR ")
				if strings.Contains(want, "can't run") || strings.HasPrefix(want, "ACL failure") { // which does not say that it is NOPERM
					want = "NOPERM for a command of a script: " + want
				}
				if got[0].Err == nil || got[0].Err.Error() != want {
					t.Errorf("error %v", got[0].Err)
				}
				if r.state.Enrolled == tc.ends {
					t.Errorf("state %+v", r.state)
				}
				n.Fail(tc.command, "")
				r.enrolled()
				wantStatuses(t, r.ask(grant("b", "1", 1)), "ok")
			})
		})
	}
}

func TestWrongAnswersAreNoVotes(t *testing.T) {
	const (
		at = "$10\r\n1700000000\r\n$1\r\n5\r\n"
		ok = "+OK\r\n"
	)
	for _, tc := range []struct{ command, answer string }{
		{"SET", ":1\r\n"}, {"SET", "+QUEUED\r\n"}, {"SET", "*0\r\n"}, {"SET", "#t\r\n"}, {"SET", ",1\r\n"},
		{"ZADD", ok}, {"ZADD", "_\r\n"}, {"ZADD", ":2\r\n"}, {"ZADD", ":-1\r\n"}, {"ZADD", "-WRONGTYPE Operation\r\n"},
		{"EVAL", ok}, {"EVAL", ":1\r\n"}, {"EVAL", "*0\r\n"}, {"EVAL", "*-1\r\n"}, {"EVAL", "_\r\n"}, {"EVAL", "*3\r\n" + at + ":1\r\n"},
		{"EVAL", "*5\r\n" + at + ":1\r\n:1\r\n:1\r\n"}, {"EVAL", "*4\r\n" + at + ":1\r\n:3\r\n"},
		{"EVAL", "*4\r\n" + at + ":1\r\n:-1\r\n"}, {"EVAL", "*4\r\n" + at + ":1\r\n_\r\n"},
		{"EVAL", "*4\r\n" + at + ":1\r\n$1\r\n1\r\n"}, {"EVAL", "*4\r\n$1\r\nx\r\n:1\r\n:1\r\n:1\r\n"},
		{"EVAL", "*4\r\n:-5\r\n:1\r\n:1\r\n:1\r\n"}, {"EVAL", "*4\r\n_\r\n_\r\n:1\r\n:1\r\n"},
	} {
		t.Run(fmt.Sprintf("%s %q", tc.command, tc.answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				n.Reply(tc.command, tc.answer)
				commands := []node.Command{grant("a", "1", 1)}
				if tc.command == "EVAL" {
					commands = []node.Command{on(node.Renew, "a", "1"), on(node.Renew, "b", "1")}
				}
				r := prepare(t, n.Conn())
				r.send(commands...) // before it runs, so that they share a call
				r.run()
				r.enrolled()
				for _, re := range r.wait(len(commands)) {
					if re.Status != node.Unknown || re.Err == nil || re.Raised || re.Fence != 0 {
						t.Errorf("%+v", re)
					}
				}
				n.Reply(tc.command, "")
				wantStatuses(t, r.ask(grant("z", "1", 1)), "ok")
			})
		})
	}
}

// A server that does not speak the protocol must not end the process, and nothing
// it says may count.
func TestNoRedisAtAll(t *testing.T) {
	for _, tc := range []struct{ command, answer string }{
		{"HELLO", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + nodetest.EOF},
		{"HELLO", "-ERR\r\n-ERR\r\n"},
		{"SET", "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"},
		{"SET", ">3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"},
		{"SET", "$-2\r\n"}, {"SET", "*-2\r\n"}, {"SET", "%-1\r\n"}, {"SET", "$9999999999999\r\n"}, {"SET", "*99999999\r\n"},
		{"SET", strings.Repeat("*1\r\n", 100)}, {"SET", "|1\r\n+a\r\n+b\r\n+OK\r\n"}, {"SET", "$?\r\n;-5\r\n"},
		{"SET", "+OK\n"}, {"SET", "\x00\xff"}, {"SET", "+O" + nodetest.EOF}, {"SET", nodetest.EOF},
		{"SET", "$3\r\nabcde"}, {"ZADD", ":1\r\n:1\r\n"},
	} {
		t.Run(fmt.Sprintf("%s %.20q", tc.command, tc.answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				if tc.command == "HELLO" {
					n.Reply(tc.command, tc.answer)
				}
				r := start(t, n.Conn())
				if tc.command == "HELLO" {
					r.until("an error", func(s node.State) bool { return s.Err != nil })
					t.Log(r.state.Err)
				} else {
					r.enrolled()
					n.Reply(tc.command, tc.answer)
					got := r.ask(grant("a", "1", 1))
					// The surplus after a whole answer comes too late to matter.
					if tc.command == "SET" && got[0].Status != node.Unknown {
						t.Errorf("%+v", got)
					}
					r.ended()
					t.Log(r.state.Err)
				}
				n.Reply(tc.command, "")
				r.enrolled()
				wantStatuses(t, r.ask(grant("z", "1", 1)), "ok")
			})
		})
	}
}

func TestEnrolmentRefused(t *testing.T) {
	info := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	for _, tc := range []struct{ command, answer, want string }{
		{"INFO", info("# Replication\r\nrole:slave\r\nmaster_replid:abc\r\n"), "not a primary: its role is slave"},
		{"INFO", "-NOPERM this user has no permissions to run the 'info' command\r\n", "NOPERM this user"},
		{"TIME", "-LOADING Redis is loading the dataset in memory\r\n", "LOADING Redis is"},
		{"TIME", "*1\r\n:1\r\n", "unexpected answer to TIME"},
		{"TIME", "*2\r\n:1\r\n+x\r\n", "unexpected answer to TIME"},
		{"CLIENT SETNAME", "-NOPERM no\r\n", "NOPERM no"},
		{"CLIENT SETNAME", "+KO\r\n", "unexpected answer to CLIENT SETNAME"},
		{"HELLO", "-ERR odd command HELLO 3 AUTH default hunter2\r\n", "odd command HELLO 3 AUTH default ***"},
		{"INFO", "-ERR section (server) is not supported\r\n", ""},
		{"INFO", info("# Server\r\n"), ""},
	} {
		t.Run(tc.command+" "+tc.want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				n.Reply(tc.command, tc.answer)
				c := n.Conn()
				if tc.command == "HELLO" {
					c = node.WithPassword(c, "hunter2")
				}
				r := start(t, c)
				if tc.want == "" {
					r.enrolled()
					if r.state.Life != 1 {
						t.Errorf("Life %d", r.state.Life)
					}
					n.Crash()
					r.ended()
					n.Restart()
					r.enrolled()
					if r.state.Life != 1 { // nothing tells
						t.Errorf("Life %d", r.state.Life)
					}
					return
				}
				got := r.ask(grant("a", "1", 1))
				wantStatuses(t, got, "unsent")
				if err := got[0].Err; !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error %q", err)
				}
				n.Reply(tc.command, "")
				r.enrolled()
			})
		})
	}
}

func TestRunEndsAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault func(*nodetest.Node)
		want  node.Status
	}{
		{"enrolled and hung", func(n *nodetest.Node) { n.Hang() }, node.Unknown},
		{"down", func(n *nodetest.Node) { n.Crash() }, node.Unsent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				r := start(t, n.Conn())
				r.enrolled()
				tc.fault(n)
				synctest.Wait()
				r.send(grant("a", "1", 1))
				synctest.Wait()
				r.send(grant("b", "1", 1))
				begin := time.Now()
				r.cancel()
				<-r.done
				if took := time.Since(begin); took != 0 {
					t.Errorf("took %v", took)
				}
				got := r.wait(2)
				if got[0].Status != tc.want || got[1].Status != node.Unsent {
					t.Errorf("%+v", got)
				}
			})
		})
	}
	t.Run("hung in its enrolment", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			n.Hang()
			r := start(t, n.Conn())
			synctest.Wait()
			r.send(grant("a", "1", 1))
			begin := time.Now()
			r.cancel()
			<-r.done
			if took := time.Since(begin); took != 0 {
				t.Errorf("took %v", took)
			}
			wantStatuses(t, r.wait(1), "unsent")
		})
	})
}

func TestCloseAnswersWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn())
		r.send(grant("a", "1", 1), on(node.Release, "a", "1"))
		r.Close()
		r.run()
		<-r.done
		wantStatuses(t, r.wait(2), "ok ok")
		if keys := n.Keys(); slices.Contains(keys, "a") {
			t.Errorf("keys %v", keys)
		}
	})
}

func TestBrokenConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, node.URL("gopher://x"))
		got := r.ask(grant("a", "1", 1))
		wantStatuses(t, got, "unsent")
		if !strings.Contains(got[0].Err.Error(), "gopher") {
			t.Error(got[0].Err)
		}
	})
}

// A server that answers one thing too many to each of several commands shifts what
// follows, until a grant reads the answers to another name's. Nothing of such a
// pipeline is a vote.
func TestShiftedAnswersAreNoVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		n.Reply("SET", "+OK\r\n+OK\r\n+OK\r\n")
		var grants []node.Command
		for i := range 400 { // more than is read at once
			grants = append(grants, node.Command{
				Op: node.Grant, Name: fmt.Sprint("x", i), Token: "t",
				TTL: time.Second, Fence: 7,
			})
		}
		for _, reply := range r.ask(grants...) {
			if reply.Status != node.Unknown && reply.Status != node.Unsent || reply.Err == nil {
				t.Errorf("%+v", reply)
			}
		}
	})
}

// A server that refuses for good is asked more and more rarely, and at once if somebody waits;
// one that will not refuse for long is asked as before.
func TestRefusedForGood(t *testing.T) {
	for _, c := range []struct {
		command, answer string
		forGood         bool
	}{
		{"HELLO", "-WRONGPASS invalid username-password pair or user is disabled.\r\n", true},
		{"HELLO", "-ERR max number of clients reached\r\n", true},
		{"INFO", "-NOPERM this user has no permissions to run the 'info' command\r\n", true},
		{"HELLO", "-NOAUTH Authentication required.\r\n", true},
		{"HELLO", "-ERR DB index is out of range\r\n", true},
		{"HELLO", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + nodetest.EOF, true},
		{"EVAL", "-ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.\r\n", true},
		{"EVAL", "-ERR ACL failure in script: No permissions to access a key script: 1, on @user_script:1.\r\n", true},
		{"INFO", "$40\r\n# Replication\r\nrole:slave\r\nmaster_replid\r\n", false}, // it may be promoted
		{"TIME", "-LOADING Redis is loading the dataset in memory\r\n", false},
	} {
		t.Run(c.answer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				n.Reply(c.command, c.answer)
				var dials atomic.Int64
				o := n.Option("")
				dial := o.DialCtxFn
				o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
					dials.Add(1)
					return dial(ctx, addr, d, cfg)
				}
				r := start(t, node.FromOption(o), func(c *node.Config) { c.Window = time.Second })
				time.Sleep(time.Minute)
				before := dials.Load()
				time.Sleep(time.Minute)
				if n := dials.Load() - before; (n <= 2*60/4) != c.forGood {
					t.Errorf("dialled %d times in the second minute", n)
				}
				before = dials.Load()
				for range 100 { // in a second
					r.ask(grant("a", "1", 1))
					time.Sleep(10 * time.Millisecond)
				}
				if n := dials.Load() - before; n > 8 {
					t.Errorf("dialled %d times for those who waited for a second", n)
				}
				r.ask(grant("a", "1", 1))
				n.Reply(c.command, "")
				time.Sleep(300 * time.Millisecond)
				from := time.Now()
				r.ask(grant("a", "1", 1))
				r.enrolled()
				if took := time.Since(from); took > 300*time.Millisecond {
					t.Errorf("enrolled %v after somebody has waited", took)
				}
			})
		})
	}
}

// A lease that is kept elsewhere comes again and again, and hurries no connection to a server
// that refuses for good; one that had its vote there when the connection was lost does.
func TestRefusedForGoodWhileALeaseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		var dials atomic.Int64
		o := n.Option("")
		dial := o.DialCtxFn
		o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, addr, d, cfg)
		}
		r := start(t, node.FromOption(o), func(c *node.Config) { c.MaxTTL = 10 * time.Second })
		r.enrolled()
		keep := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end) && !r.state.Enrolled; time.Sleep(300 * time.Millisecond) {
				r.ask(on(node.Renew, "a", "1"), on(node.Heal, "b", "2"))
			}
		}
		lose := func() {
			n.Reply("HELLO", "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
			n.Crash()
			r.ended()
			n.Recover()
		}
		lose()
		keep(7 * time.Second)
		n.Reply("HELLO", "")
		if keep(time.Second); !r.state.Enrolled {
			t.Error("a lease that had its vote there a moment ago does not have the server asked")
		}
		lose()
		keep(time.Minute)
		before := dials.Load()
		keep(time.Minute)
		if n := dials.Load() - before; n > 2*60/4 {
			t.Errorf("dialled %d times in the second minute", n)
		}
	})
}

// A function of a user's for credentials that does not return keeps neither Run from ending
// nor the state from telling what is waited for; one that is merely slow is waited for.
func TestSlowCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.RequirePass("hunter2")
		var calls atomic.Int64
		o := n.Option("")
		release := make(chan struct{})
		o.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			calls.Add(1)
			<-release
			return rueidis.AuthCredentials{Username: "default", Password: "hunter2"}, nil
		}
		r := start(t, node.FromOption(o))
		r.until("an error", func(s node.State) bool { return s.Err != nil })
		if !strings.Contains(r.state.Err.Error(), "AuthCredentialsFn has not returned within 200ms") {
			t.Error(r.state.Err)
		}
		time.Sleep(10 * timeout)
		if n := calls.Load(); n != 1 {
			t.Errorf("called %d times before it has returned", n)
		}
		from := time.Now()
		r.cancel()
		<-r.done
		if took := time.Since(from); took != 0 {
			t.Errorf("ended after %v", took)
		}

		calls.Store(0)
		slow := start(t, node.FromOption(o))
		time.AfterFunc(3*timeout/2, func() { close(release) })
		from = time.Now()
		slow.enrolled()
		if took := time.Since(from); took > 3*timeout || calls.Load() > 2 {
			t.Errorf("enrolled after %v and %d calls", took, calls.Load())
		}
	})
}

// A node that a lease or a caller needs is tried often for a MaxTTL after it was lost, and not
// after that, nor if no lease is left to be kept, nor if it is there and says no.
func TestNeededNode(t *testing.T) {
	const loading, noRedis = "-LOADING Redis is loading the dataset in memory\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n" + nodetest.EOF
	crash := (*nodetest.Node).Crash
	say := func(command, answer string) func(n *nodetest.Node) {
		return func(n *nodetest.Node) { n.Reply(command, answer); n.Restart() }
	}
	often, fewer, asEver, rarely := [2]int64{80, 101}, [2]int64{20, 30}, [2]int64{0, 16}, [2]int64{0, 4}
	for _, c := range []struct {
		how    string
		lose   func(n *nodetest.Node)
		op     node.Op // of what is asked every 100 ms; 0 if nothing is
		until  int     // the second after the loss in which the lease ends
		maxTTL time.Duration
		tried  map[int][2]int64 // in a second: the least and the most attempts
	}{
		{"a lease", crash, node.Renew, 60, 10 * time.Second, map[int][2]int64{0: often, 2: often, 8: often, 11: asEver}},
		{"a lease to be healed", crash, node.Heal, 60, 10 * time.Second, map[int][2]int64{8: often}},
		{"a lease that ends", crash, node.Renew, 4, 10 * time.Second, map[int][2]int64{2: often, 5: asEver, 8: asEver}},
		{"a release", crash, node.Release, 60, 10 * time.Second, map[int][2]int64{8: often, 11: asEver}},
		{"a waiter", crash, node.Enqueue, 0, 10 * time.Second, map[int][2]int64{8: often, 11: asEver}},
		{"a short TTL", crash, node.Renew, 60, time.Second, map[int][2]int64{1: often, 3: asEver}},
		{"a long TTL", crash, node.Renew, 60, time.Minute, map[int][2]int64{8: often, 40: fewer, 61: asEver}},
		{"nobody", crash, 0, 0, 10 * time.Second, map[int][2]int64{1: asEver, 8: asEver}},
		{"a fingerprint", crash, node.Sign, 60, 10 * time.Second, map[int][2]int64{1: asEver, 8: asEver}},
		{"a lease, of a node that is loading", say("TIME", loading), node.Renew, 60, 10 * time.Second, map[int][2]int64{0: asEver, 8: asEver}},
		{"a lease, of what is no Redis", say("HELLO", noRedis), node.Renew, 60, 10 * time.Second, map[int][2]int64{0: {0, 6}, 8: rarely}},
	} {
		t.Run(c.how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				var dials atomic.Int64
				o := n.Option("")
				dial := o.DialCtxFn
				o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
					dials.Add(1)
					return dial(ctx, addr, d, cfg)
				}
				r := start(t, node.FromOption(o), func(cfg *node.Config) { cfg.MaxTTL = c.maxTTL })
				r.enrolled()
				n.Crash()
				r.ended()
				r.ask(on(node.Release, "a", "1")) // which is of no account once it is back
				n.Recover()
				r.enrolled()
				c.lose(n)
				r.ended()
				by := clock.Runtime().Now().Add(time.Duration(c.until) * time.Second)
				for second := range 62 {
					before := dials.Load()
					for range 10 {
						if c.op != 0 {
							x := on(c.op, "a", "1")
							x.By = by
							r.ask(x)
						}
						time.Sleep(100 * time.Millisecond)
					}
					n := dials.Load() - before
					if want, ok := c.tried[second]; ok && (n < want[0] || n > want[1]) {
						t.Errorf("tried %d times in second %d after it was lost, want %d to %d", n, second, want[0], want[1])
					}
				}
			})
		})
	}
}

// A node that a release needs is tried every 10 ms right after it was lost, whether the release
// came then, or failed with the connection.
func TestNeededForRelease(t *testing.T) {
	for how, lose := range map[string]func(n *nodetest.Node, r *rig) string{
		"it comes after the loss": func(n *nodetest.Node, r *rig) string {
			r.ask(on(node.Renew, "a", "1")) // the connection was of use, so another one is made at once
			n.Crash()
			r.ended()
			return statuses(r.ask(on(node.Release, "a", "1")))
		},
		"it fails with the connection": func(n *nodetest.Node, r *rig) string {
			n.Hang()
			r.send(on(node.Release, "a", "1"))
			synctest.Wait()
			n.Crash()
			return statuses(r.wait(1))
		},
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				dialled := make(chan time.Time, 1000)
				o := n.Option("")
				dial := o.DialCtxFn
				o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
					dialled <- time.Now()
					return dial(ctx, addr, d, cfg)
				}
				r := start(t, node.FromOption(o))
				r.enrolled()
				<-dialled
				said := lose(n, r)
				last := time.Now()
				for range 20 {
					at := <-dialled
					if pause := at.Sub(last); pause > 10*time.Millisecond {
						t.Fatalf("tried again after %v (%s)", pause, said)
					}
					last = at
				}
				n.Recover()
				r.enrolled()
			})
		})
	}
}

// dialling returns the Conn, and where it tells when it has dialled.
func dialling(n *nodetest.Node) (node.Conn, chan time.Time) {
	dialled := make(chan time.Time, 10_000)
	o := n.Option("")
	dial := o.DialCtxFn
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
		dialled <- time.Now()
		return dial(ctx, addr, d, cfg)
	}
	return node.FromOption(o), dialled
}

const wrongPass = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

// A server that has refused for long, and was of use since, is asked often when it refuses again:
// that may be for another reason, which ends soon.
func TestRefusedForGoodAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Reply("HELLO", wrongPass)
		c, dialled := dialling(n)
		r := start(t, c)
		time.Sleep(time.Minute)
		n.Reply("HELLO", "")
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "absent")
		n.Reply("HELLO", wrongPass)
		n.Restart()
		r.ended()
		for len(dialled) > 0 {
			<-dialled
		}
		time.Sleep(time.Second)
		if got := len(dialled); got < 3 {
			t.Errorf("dialled %d times in the first second", got)
		}
	})
}

// What a server said to an attempt is over with the next one that comes through: a connection
// that is lost then, before it was of any use, is made anew for the next that needs it, at once.
func TestRefusalEndsWithAnEnrolment(t *testing.T) {
	for command, answer := range map[string]string{
		"TIME": "-LOADING Redis is loading the dataset in memory\r\n", "HELLO": wrongPass,
	} {
		t.Run(command, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodetest.New()
				defer n.Close()
				n.Reply(command, answer)
				c, dialled := dialling(n)
				r := start(t, c)
				r.until("a refusal", func(s node.State) bool { return s.Err != nil })
				n.Reply(command, "")
				r.enrolled()
				n.Crash()
				r.ended()
				for len(dialled) > 0 {
					<-dialled
				}
				lost := time.Now()
				wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
				if pause := (<-dialled).Sub(lost); pause != 0 {
					t.Errorf("tried again after %v, as if it still refused", pause)
				}
			})
		})
	}
}

// The replies of a Batch stay as they are until they are given back, and are used again then.
func TestBatchDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		next := func(name string) node.Batch {
			r.send(grant(name, "1", 1))
			return r.batch()
		}
		kept := next("a")
		want := kept.Replies[0]
		other := next("b")
		if kept.Replies[0] != want || &kept.Replies[0] == &other.Replies[0] {
			t.Errorf("%+v: want %+v", kept.Replies[0], want)
		}
		first := &kept.Replies[0]
		kept.Done()
		if kept.Replies != nil {
			t.Errorf("%+v is there for use still", kept.Replies)
		}
		again := next("c")
		if &again.Replies[0] != first {
			t.Error("it is not used again")
		}
		again.Done()
		again.Done() // once counts
		if x, y := next("d"), next("e"); &x.Replies[0] == &y.Replies[0] {
			t.Error("it is used twice")
		}
	})
}
