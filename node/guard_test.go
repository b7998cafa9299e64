package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

func guarded(window time.Duration) func(*node.Config) {
	return func(c *node.Config) { c.Window = window }
}

func widest(maxTTL time.Duration) func(*node.Config) {
	return func(c *node.Config) { c.MaxTTL = maxTTL }
}

// signed is a Sign that leaves a fingerprint for ten seconds.
func signed(fingerprint string) node.Command { return on(node.Sign, "", fingerprint) }

// grown is a Sign that has known a life for the window.
func grown(life uint32) node.Command {
	c := signed("1 a")
	c.Grown, c.Life = true, life
	return c
}

const (
	markerKey   = "leasehold:incarnation"
	grownKey    = "leasehold:{leasehold:incarnation}:grown"
	identityKey = "leasehold:{leasehold:incarnation}:identity"
	clientsKey  = "leasehold:{leasehold:incarnation}:clients"
)

// A grant that was sent before the node was known to be young is not sent on; what
// else is asked of it is. That ends with a Sign, also for what stands right after it, and
// not with time.
func TestYoungNodeGrantsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		if s := r.state; !s.Guarded || !s.Grown || s.Age != 24*time.Hour {
			t.Errorf("a new node: %+v", s)
		}
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		n.Restart()
		r.ended()
		r.enrolled()
		if s := r.state; !s.Guarded || s.Grown || s.Age != 0 || s.Life != 2 {
			t.Errorf("a restarted one: %+v", s)
		}
		claim := on(node.Claim, "b", "1")
		claim.Fence = 1
		wantStatuses(t, r.ask(grant("b", "1", 1), claim, on(node.Renew, "a", "1")), "unsent unsent absent")
		<-time.After(24 * time.Hour) // in fake time
		wantStatuses(t, r.ask(grant("b", "1", 1)), "unsent")
		n.Hang() // so that the two share a pipeline
		r.send(on(node.Inspect, "a", ""))
		synctest.Wait()
		r.send(grown(2), grant("b", "1", 1))
		n.Resume()
		wantStatuses(t, r.wait(3), "absent ok ok")
		if !r.state.Grown {
			t.Errorf("%+v", r.state)
		}
	})
}

// Without the guard nobody is young, and nothing of the node's own is written.
func TestGuardOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Restart()
		r := start(t, n.Conn(), widest(time.Minute))
		r.enrolled()
		if s := r.state; s.Guarded || !s.Grown || s.MaxTTL != 0 || s.Identity != "" || s.Run == "" {
			t.Errorf("%+v", s)
		}
		wantStatuses(t, r.ask(grant("a", "1", 1), grown(1)), "ok ok")
		if keys := n.Keys(); slices.Contains(keys, markerKey) || slices.Contains(keys, grownKey) {
			t.Errorf("keys %q", keys)
		}
		if s := r.state; s.MarkedAt != 0 {
			t.Errorf("marked at %v", s.MarkedAt)
		}
	})
}

// A node without its marker may have lost a grant with it, however long the server has
// been up, and whether or not this process has met it before.
func TestMissingMarkerIsYoung(t *testing.T) {
	for _, seen := range []bool{false, true} {
		for _, lost := range []string{"everything", "the marker"} {
			t.Run(fmt.Sprint(lost, ", seen=", seen), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := nodetest.New() // up for a day
					defer n.Close()
					r := prepare(t, n.Conn(), guarded(time.Minute))
					lose := func() {
						if lost == "everything" {
							n.Flush()
						} else {
							n.Del(markerKey)
						}
					}
					if !seen {
						lose()
					}
					r.run()
					r.enrolled()
					if seen {
						lose()
						wantStatuses(t, r.ask(on(node.Inspect, "a", "")), "unknown")
						r.enrolled()
					}
					if s := r.state; !s.Guarded || s.Grown || s.Age != 0 {
						t.Errorf("%+v", s)
					}
					wantStatuses(t, r.ask(grant("a", "1", 1)), "unsent")
				})
			})
		}
	}
}

// A server that starts with its clock ahead, and sets it back, has no age.
func TestMarkerFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Jump(24 * time.Hour)
		n.Restart()
		start(t, n.ConnOf("first"), guarded(time.Minute)).enrolled() // it writes the marker
		n.Jump(-24 * time.Hour)
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		if s := r.state; s.Grown || s.Age != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A life that is older than the window and an hour is grown without anybody having said
// so, but only if it is that old when it is first heard of: a server that has just started
// may set its clock.
func TestGrownByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Restart()
		first := start(t, n.ConnOf("first"), guarded(time.Minute))
		first.enrolled()
		n.Jump(time.Hour + time.Minute)
		second := start(t, n.ConnOf("second"), guarded(time.Minute))
		second.enrolled()
		if s := second.state; s.Grown || s.Age != time.Hour+time.Minute {
			t.Errorf("at the window and an hour: %+v", s)
		}
		n.Jump(time.Microsecond)
		third := start(t, n.ConnOf("third"), guarded(time.Minute), widest(time.Second))
		third.enrolled()
		if s := third.state; !s.Grown || s.Age != time.Hour+time.Minute+time.Microsecond {
			t.Errorf("later: %+v", s)
		}
		wantStatuses(t, third.ask(grant("a", "1", 1)), "ok")
		if _, _, there := n.Get(grownKey); there {
			t.Error("it was written down")
		}
		// The third has raised the marker, so the others enrol again.
		for _, r := range []*rig{first, second} {
			r.ask(on(node.Inspect, "a", ""))
			r.enrolled()
			if s := r.state; s.Life != 1 || s.Grown || s.MaxTTL != time.Second {
				t.Errorf("who knew it before: %+v", s)
			}
		}
		if s := first.state; s.Age != 0 {
			t.Errorf("an age that grows: %+v", s)
		}
	})
}

// A Sign writes down that the node is grown, and who comes new reads it.
func TestSignGrown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Restart()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		fresh := func() node.State {
			f := start(t, n.ConnOf("fresh"), guarded(time.Minute))
			f.enrolled()
			return f.state
		}
		of := signed("1 a")
		of.Life = 1
		wantStatuses(t, r.ask(of), "ok")
		if r.state.Grown || fresh().Grown {
			t.Error("grown by a Sign that does not say so")
		}
		wantStatuses(t, r.ask(grown(1)), "ok")
		if !r.state.Grown || !fresh().Grown {
			t.Error("not grown")
		}
		marker, _, _ := n.Get(markerKey)
		if got, left, _ := n.Get(grownKey); left != -1 || got+" 0" != marker {
			t.Errorf("%q for %v, and the marker is %q", got, left, marker)
		}
		// It goes with the life.
		n.Recover()
		r.ended()
		r.enrolled()
		if s := r.state; s.Grown || s.Life != 2 || fresh().Grown {
			t.Errorf("of the next life: %+v", s)
		}
	})
}

// What a Sign has said stays true of this life, also if the node did not write it down.
func TestSignGrownIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Restart()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Fail("EVAL", "OOM command not allowed")
		wantStatuses(t, r.ask(grown(1)), "unknown")
		n.Fail("EVAL", "")
		start(t, n.ConnOf("another"), guarded(time.Minute), widest(time.Second)).enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "unknown")
		r.enrolled()
		if s := r.state; s.Life != 1 || !s.Grown {
			t.Errorf("%+v", s)
		}
		wantStatuses(t, r.ask(grant("b", "1", 1)), "ok")
	})
}

// A Sign with Grown is for the life that it was decided for, on both sides of the wire.
func TestSignGrownOfAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Restart()
		r.ended()
		r.enrolled()
		wantStatuses(t, r.ask(grown(1), grant("a", "1", 1)), "unsent unsent")
		if r.state.Grown {
			t.Errorf("%+v", r.state)
		}
		// It was flushed, and somebody else has enrolled since.
		n.Jump(time.Microsecond)
		n.Flush()
		start(t, n.ConnOf("another"), guarded(time.Minute)).enrolled()
		wantStatuses(t, r.ask(grown(2)), "unknown")
		if _, _, there := n.Get(grownKey); there {
			t.Error("the new life is grown")
		}
		r.enrolled()
		if s := r.state; s.Life != 3 || s.Grown {
			t.Errorf("%+v", s)
		}
	})
}

// A Sign tells the fingerprints of all that have signed lately, by the node's clock.
func TestSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := prepare(t, n.Conn(), guarded(time.Minute))
		texts := func(re node.Reply) string {
			if re.Status != node.OK || re.Err != nil {
				t.Errorf("%+v", re)
			}
			var all []string
			for _, f := range node.Fingerprints(re.Value) {
				all = append(all, fmt.Sprintf("%s until %v", f.Text, (f.Until-r.state.Time).Round(10*time.Millisecond)))
			}
			return strings.Join(all, ", ")
		}
		long := signed("5 a,b,c,d,e")
		long.TTL = 15 * time.Second
		long.Name = "x" // nothing is asked of it, so it stands in no call with others either
		r.send(signed("3 a,b,c"), signed("3 a,b,c"), long)
		r.run()
		r.enrolled()
		got := r.wait(3)
		for i, want := range []string{"3 a,b,c until 10s", "3 a,b,c until 10s", "3 a,b,c until 10s, 5 a,b,c,d,e until 15s"} {
			if is := texts(got[i]); is != want {
				t.Errorf("%d: %s: want %s", i, is, want)
			}
		}
		short := signed("5 a,b,c,d,e")
		short.TTL = time.Second // which takes nothing away
		n.Jump(10 * time.Second)
		if is := texts(r.ask(short)[0]); is != "5 a,b,c,d,e until 5s" {
			t.Error(is)
		}
		if _, left, _ := n.Get(clientsKey); left != 5*time.Second-time.Millisecond { // for which it waited
			t.Errorf("it is kept for %v", left)
		}
		n.Jump(5*time.Second + time.Millisecond)
		if _, _, there := n.Get(clientsKey); there {
			t.Error("nobody is left, and it is there")
		}
	})
}

func TestFingerprints(t *testing.T) {
	got := node.Fingerprints("1 a 4 5\n\n nothing\n7\n7 8\n 7 8\n2 b 4 nan\n2 c 4 -1\n2 d 4 1e300\n2 b nan 4\n2 c -1 4\n3 d,e 3 1.7e12\n text\n>3>5:=a b 1 2")
	want := []node.Fingerprint{
		{Text: "1 a", Since: 4 * time.Millisecond, Until: 5 * time.Millisecond},
		{Text: "3 d,e", Since: 3 * time.Millisecond, Until: 1_700_000_000 * time.Second},
		{Text: ">3>5:=a b", Since: time.Millisecond, Until: 2 * time.Millisecond},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := node.Fingerprints(""); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// A client with a larger MaxTTL ends the enrolments of the others, who learn it so. It is
// no new life, and a smaller one changes nothing.
func TestMaxTTLIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute), widest(10*time.Second))
		r.enrolled()
		want := func(maxTTL time.Duration) {
			t.Helper()
			if s := r.state; !s.Enrolled || s.MaxTTL != maxTTL || s.Life != 1 || !s.Grown {
				t.Errorf("%+v: want %v", s, maxTTL)
			}
		}
		want(10 * time.Second)
		start(t, n.ConnOf("smaller"), guarded(time.Minute), widest(5*time.Second)).enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		want(10 * time.Second)
		larger := start(t, n.ConnOf("larger"), guarded(time.Minute), widest(30*time.Second))
		larger.enrolled()
		larger.cancel()
		got := r.ask(on(node.Renew, "a", "1"))
		wantStatuses(t, got, "unknown")
		if r.state.Enrolled || !strings.Contains(got[0].Err.Error(), "largest TTL") {
			t.Errorf("%+v, %+v", got, r.state)
		}
		r.enrolled()
		want(30 * time.Second)
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "ok")
		// It stays for as long as the marker does.
		n.Recover()
		r.ended()
		r.enrolled()
		if s := r.state; s.MaxTTL != 30*time.Second || s.Life != 2 {
			t.Errorf("%+v", s)
		}
		n.Restart()
		r.ended()
		r.enrolled()
		if s := r.state; s.MaxTTL != 10*time.Second || s.Life != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// LifeAt is not before the node has told its marker: it may have been emptied until then.
// MarkedAt is not after that was asked for, and goes on with every answer that has the
// marker after it.
func TestWhenALifeIsHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		const trip = 50 * time.Millisecond
		n.Delay(trip)
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		now := clock.Runtime().Now()
		if s := r.state; s.LifeAt != now || s.MarkedAt != now.Add(-trip) {
			t.Errorf("at %v: %+v", now, s)
		}
		r.send(grant("a", "1", 1))
		r.wait(1)
		if s := r.state; s.MarkedAt != now || s.LifeAt != now {
			t.Errorf("at %v: %+v", now.Add(trip), s)
		}
		n.Flush()
		r.send(grant("a", "1", 1))
		r.wait(1)
		if s := r.state; s.MarkedAt != now {
			t.Errorf("without the marker: %+v", s)
		}
	})
}

// A node is given an identity once, keeps it over a restart with its data, and gets it
// back from a client that knew it. One that did not does not change it.
func TestEnrolGivesIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		fresh := func() *rig {
			r := start(t, n.ConnOf("fresh"), guarded(time.Minute))
			r.enrolled()
			return r
		}
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		id := r.state.Identity
		if stored, left, _ := n.Get(identityKey); len(id) != 12 || stored != id || left != -1 {
			t.Errorf("%q, and the node keeps %q for %v", id, stored, left)
		}
		if got := fresh().state.Identity; got != id {
			t.Errorf("another reads %q: want %q", got, id)
		}
		for i, lose := range []func(){n.Recover, n.Restart, n.Restart} {
			lose()
			r.ended()
			r.enrolled()
			if got := r.state.Identity; got != id {
				t.Errorf("%d: %q: want %q", i, got, id)
			}
		}
		// Another was there first.
		n.Crash()
		r.ended()
		n.Restart()
		n.Set(identityKey, "SOMEBODY", 0)
		r.enrolled()
		if got := r.state.Identity; got != "SOMEBODY" {
			t.Errorf("%q: want the one that is there", got)
		}
		m := nodetest.New()
		defer m.Close()
		o := start(t, m.Conn(), guarded(time.Minute))
		o.enrolled()
		if o.state.Identity == id || o.state.Run == r.state.Run {
			t.Errorf("two nodes are one: %+v, %+v", o.state, r.state)
		}
	})
}

// What does not answer the enrolment as the script does is not enrolled.
func TestEnrolWrongAnswers(t *testing.T) {
	const at = "$10\r\n1700000000\r\n$1\r\n5\r\n"
	text := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		marker, _, _ := n.Get(markerKey)
		life, _, _ := n.Get(grownKey)
		incarnation, _, _ := strings.Cut(life, " ")
		for _, answer := range []string{
			"+OK\r\n", "*0\r\n", "_\r\n", ":1\r\n",
			"*3\r\n" + at + text(marker),
			"*5\r\n" + at + ":1\r\n:1\r\n" + text("ABC"),
			"*5\r\n" + at + text(life) + ":1\r\n" + text("ABC"),
			"*5\r\n" + at + text(life+" -5") + ":1\r\n" + text("ABC"),
			"*5\r\n" + at + text(life+" 99999999999999999") + ":1\r\n" + text("ABC"),
			"*5\r\n" + at + text(life+" 5 5 5") + ":1\r\n" + text("ABC"),
			"*5\r\n" + at + text(incarnation+" -5 5") + ":1\r\n" + text("ABC"),
			"*5\r\n" + at + text("x/y 5 5") + ":1\r\n" + text("ABC"),
			"*5\r\n" + at + text(marker) + ":2\r\n" + text("ABC"),
			"*5\r\n" + at + text(marker) + "$1\r\n1\r\n" + text("ABC"),
			"*5\r\n" + at + text(marker) + ":1\r\n" + text(""),
			"*5\r\n" + at + text(marker) + ":1\r\n" + text("A,B"),
			"*5\r\n" + at + text(marker) + ":1\r\n:5\r\n",
			"*5\r\n$1\r\nx\r\n$1\r\n5\r\n" + text(marker) + ":1\r\n" + text("ABC"),
		} {
			n.Reply("EVAL", answer)
			r := start(t, n.Conn(), guarded(time.Minute))
			got := r.ask(grant("a", "1", 1))
			wantStatuses(t, got, "unsent")
			if r.state.Enrolled || r.state.Err == nil {
				t.Errorf("%q: %+v", answer, r.state)
			}
			r.cancel()
		}
	})
}

// A server in cluster mode is refused, by whatever way it is reached: it would take one
// name and refuse the next.
func TestClusterModeRefused(t *testing.T) {
	info := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	for _, reply := range []string{"", info("# Server\r\nserver_mode:cluster\r\nrun_id:a\r\n")} {
		for _, way := range []string{"option", "URL", "client"} {
			t.Run(fmt.Sprintf("%s %q", way, reply), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := nodetest.New()
					defer n.Close()
					c := n.Conn()
					switch way {
					case "URL":
						c = node.WithDialer(node.URL("redis://h:1"), c)
					case "client":
						client := lend(t, n)
						defer client.Close()
						c = node.FromClient(client)
					}
					if reply == "" {
						n.ClusterMode(true)
					} else {
						n.Reply("INFO", reply)
					}
					r := start(t, c)
					got := r.ask(grant("a", "1", 1))
					wantStatuses(t, got, "unsent")
					if err := got[0].Err; err.Error() != "server in cluster mode: a cluster cannot be one node" {
						t.Errorf("%v", err)
					}
					n.ClusterMode(false)
					n.Reply("INFO", "")
					r.enrolled()
					r.cancel()
					<-r.done
				})
			})
		}
	}
}

// A proxy before a cluster says that it is none, and refuses a call of names that are in
// several slots. Such calls are sent again as calls of one name, once, and no more of
// them are sent.
func TestClusterProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		n.Slots(true)
		r := prepare(t, n.Conn())
		all := func(op node.Op) (commands []node.Command) {
			for _, name := range []string{"a", "b", "c"} {
				c := on(op, name, "1")
				c.Fence, c.Life = 1, 1
				commands = append(commands, c)
			}
			return commands
		}
		ask := func(op node.Op) int {
			before := n.Commands()
			n.Hang() // so that they share a pipeline
			r.send(on(node.Renew, "none", ""))
			synctest.Wait()
			r.send(all(op)...)
			n.Resume()
			wantStatuses(t, r.wait(4)[1:], "ok ok ok")
			after := n.Commands()
			return after["EVAL"] + after["EVALSHA"] - before["EVAL"] - before["EVALSHA"] - 1
		}
		r.run()
		r.enrolled()
		for _, step := range []struct {
			op    node.Op
			calls int
		}{{node.Heal, 4}, {node.Heal, 3}, {node.Raise, 3}, {node.Renew, 3}} {
			if got := ask(step.op); got != step.calls {
				t.Errorf("%v: %d calls, want %d", step.op, got, step.calls)
			}
		}
		// A script that is lost meanwhile is still sent again.
		n.FlushScripts()
		ask(node.Renew)
		if !r.state.Enrolled || r.state.Life != 1 {
			t.Errorf("%+v", r.state)
		}
		// What is refused alone, or again, is an error.
		n.Fail("EVALSHA", "CROSSSLOT Keys in request don't hash to the same slot")
		n.Fail("EVAL", "CROSSSLOT Keys in request don't hash to the same slot")
		got := r.ask(all(node.Inspect)...)
		wantStatuses(t, got, "unknown unknown unknown")
		for _, re := range got {
			if re.Err == nil || !strings.HasPrefix(re.Err.Error(), "CROSSSLOT") {
				t.Errorf("%+v", re)
			}
		}
	})
}

// What was sent again because of its script is not sent a third time, and no answer is
// left out.
func TestClusterProxyWithoutScripts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn())
		r.enrolled()
		wantStatuses(t, r.ask(on(node.Inspect, "a", "")), "absent")
		n.Fail("EVALSHA", "NOSCRIPT No matching script. Please use EVAL.")
		n.Fail("EVAL", "CROSSSLOT Keys in request don't hash to the same slot")
		n.Hang() // so that the two share a call
		r.send(on(node.Grant, "x", "1"))
		synctest.Wait()
		r.send(on(node.Inspect, "a", ""), on(node.Inspect, "b", ""))
		n.Resume()
		got := r.wait(3)[1:]
		wantStatuses(t, got, "unknown unknown")
		for _, re := range got {
			if re.Err == nil || !strings.HasPrefix(re.Err.Error(), "CROSSSLOT") {
				t.Errorf("%+v", re)
			}
		}
		n.Fail("EVALSHA", "")
		n.Fail("EVAL", "")
		wantStatuses(t, r.ask(on(node.Inspect, "a", ""), on(node.Inspect, "b", "")), "absent absent")
	})
}

// An adoption takes the key from the token that the handle names and from nobody else,
// tells how long that would still have had it, and can be repeated.
func TestAdopt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		adopt := func(name, former, token string, fence uint64) node.Reply {
			c := on(node.Adopt, name, token)
			c.Former, c.Fence, c.TTL = former, fence, 20*time.Second
			re := r.ask(c)[0]
			re.ID = 0
			return re
		}
		want := func(got, want node.Reply) {
			t.Helper()
			want.Op = node.Adopt
			if got != want {
				t.Errorf("%+v\nwant %+v", got, want)
			}
		}
		wantStatuses(t, r.ask(grant("a", "1", 5)), "ok")
		<-time.After(3 * time.Second) // in fake time
		want(adopt("a", "1", "2", 9), node.Reply{Status: node.OK, Left: 7 * time.Second, Raised: true, Fence: 9})
		if v, left, _ := n.Get("a"); v != "2+9" || left != 20*time.Second {
			t.Errorf("%q for %v", v, left)
		}
		want(adopt("a", "1", "2", 9), node.Reply{Status: node.OK, Fence: 9})
		want(adopt("a", "2", "3", 7), node.Reply{Status: node.OK, Left: 20 * time.Second, Fence: 9})
		want(adopt("a", "1", "4", 11), node.Reply{Status: node.Other, Left: 20 * time.Second, Fence: 9, Value: "3+7"})
		want(adopt("b", "1", "2", 9), node.Reply{Status: node.Absent})
		n.Set("c", "1", 0)
		want(adopt("c", "1", "2", 9), node.Reply{Status: node.OK, Left: -1, Raised: true, Fence: 9})
		n.Set("d", "1", time.Minute)
		n.Set(node.FenceKey("d"), "broken", 0)
		got := adopt("d", "1", "2", 9)
		if got.Status != node.Unknown || got.Err == nil || got.Raised {
			t.Errorf("%+v", got)
		}
		if v, left, _ := n.Get("d"); v != "1" || left != time.Minute {
			t.Errorf("%q for %v", v, left)
		}
	})
}

// A heal is for the incarnation that it was decided for.
func TestHealOfAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		heal := on(node.Heal, "a", "1")
		heal.Fence, heal.Life = 7, r.state.Life
		wantStatuses(t, r.ask(heal), "ok")
		n.Restart()
		r.ended()
		r.enrolled()
		wantStatuses(t, r.ask(heal), "unsent")
		heal.Life = r.state.Life
		wantStatuses(t, r.ask(heal), "ok")
	})
}

// What is answered without the marker of the enrolment behind it is not believed:
// the node may have forgotten before it, or right after it. That is a life of its own.
func TestFlushIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		wantStatuses(t, r.ask(grant("a", "1", 1)), "ok")
		n.Flush()
		wantStatuses(t, r.ask(on(node.Renew, "a", "1"), grant("b", "1", 1)), "unknown unknown")
		if r.state.Enrolled {
			t.Error("still enrolled")
		}
		r.enrolled()
		if r.state.Life != 2 || r.state.Grown || r.state.Age != 0 {
			t.Errorf("%+v: want another life of the same server, and young", r.state)
		}
		wantStatuses(t, r.ask(on(node.Release, "b", "1")), "ok") // it had been set
	})
}

// The right marker does not make up for the wrong connection.
func TestStrangerWithMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Reply("CLIENT GETNAME", "$7\r\nanother\r\n")
		wantStatuses(t, r.ask(on(node.Renew, "a", "1")), "unknown")
		if r.state.Enrolled {
			t.Error("still enrolled")
		}
	})
}

// In a pipeline with grants TIME stands in the place of the name, because our dialer lets no
// other connection be made. A client that was lent may make one.
func TestStrangerBeforeAGrant(t *testing.T) {
	for _, lent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := nodetest.New()
			defer n.Close()
			conn, want := n.Conn(), "ok"
			if lent {
				client := lend(t, n)
				defer client.Close()
				conn, want = node.FromClient(client), "unknown"
			}
			r := start(t, conn, guarded(time.Minute))
			r.enrolled()
			n.Reply("CLIENT GETNAME", "$7\r\nanother\r\n")
			wantStatuses(t, r.ask(grant("a", "1", 1)), want)
			if r.state.Enrolled == lent {
				t.Errorf("lent %v, enrolled %v", lent, r.state.Enrolled)
			}
		})
	}
}

// The time that a batch tells was read before anything that its replies tell was done:
// before the first of several calls of scripts, and before a second trip. A pipeline of
// grants reads it as well, and one whose answer is not the time counts for nothing.
func TestTimeIsReadFirst(t *testing.T) {
	const early = "*2\r\n$4\r\n1000\r\n$1\r\n0\r\n"
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Reply("TIME", early) // scripts tell the present time
		wantStatuses(t, r.ask(grant("a", "1", 1), on(node.Renew, "a", "1"), on(node.Inspect, "a", "")), "ok ok ok")
		if got := r.state.Time; got != 1000*time.Second {
			t.Errorf("Time = %v", got)
		}
		n.FlushScripts()
		sent := r.state.TimeSent
		time.Sleep(time.Second)
		wantStatuses(t, r.ask(grant("b", "1", 1), on(node.Renew, "a", "1")), "ok ok")
		if got := r.state.Time; got != 1000*time.Second || r.state.TimeSent.Sub(sent) != time.Second {
			t.Errorf("Time = %v, sent %v later", got, r.state.TimeSent.Sub(sent))
		}
		time.Sleep(time.Second)
		wantStatuses(t, r.ask(grant("c", "1", 1)), "ok")
		if got := r.state.TimeSent.Sub(sent); got != 2*time.Second {
			t.Errorf("a pipeline of grants: the time is of %v later", got)
		}
		// The time of the first of two calls, of which the second has its own.
		n.Reply("EVALSHA", "*7\r\n$4\r\n2000\r\n$1\r\n0\r\n:0\r\n$0\r\n\r\n:-2\r\n$0\r\n\r\n:0\r\n")
		wantStatuses(t, r.ask(on(node.Release, "b", "1"), on(node.Inspect, "b", "")), "ok absent") // a release for the first time
		if got := r.state.Time; got == 2000*time.Second {
			t.Errorf("Time = %v", got)
		}
		n.Reply("EVALSHA", "")
		n.Reply("TIME", "+OK\r\n")
		wantStatuses(t, r.ask(grant("d", "1", 1)), "unknown")
		if r.state.Enrolled {
			t.Error("still enrolled")
		}
	})
}

// A fingerprint goes with a grant that comes right after it: alone it would hold the grant up
// for a round trip.
func TestSignHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		r := start(t, n.Conn(), guarded(time.Minute))
		r.enrolled()
		n.Delay(20 * time.Millisecond)
		begun := time.Now()
		r.send(node.Command{Op: node.Sign, Token: "3 a,b,c", TTL: time.Minute})
		time.Sleep(500 * time.Microsecond) // fake time
		r.send(grant("a", "1", 1))
		for _, re := range r.wait(2) {
			if re.Status != node.OK {
				t.Errorf("%+v", re)
			}
		}
		if took := time.Since(begun); took > 30*time.Millisecond {
			t.Errorf("both were answered after %v, of one round trip of 20 ms", took)
		}
		// It does not wait for ever.
		r.send(node.Command{Op: node.Sign, Token: "3 a,b,c", TTL: time.Minute})
		if got := r.wait(1); got[0].Status != node.OK {
			t.Errorf("%+v", got)
		}
	})
}
