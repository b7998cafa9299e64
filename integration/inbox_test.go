package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/node"
)

// An actor is one that runs, and all that it has told.
type actor struct {
	*node.Actor
	replies chan node.Batch
	wakes   chan node.Wake
	state   node.State
}

const patience = 20 * time.Second

// act starts an actor with an inbox.
func act(t *testing.T, c node.Conn, inbox string) *actor {
	a := &actor{replies: make(chan node.Batch, 1000), wakes: make(chan node.Wake, 1000)}
	a.Actor = node.NewActor(node.Config{Conn: c, Timeout: time.Second, Replies: a.replies, Wakes: a.wakes, Inbox: inbox, Window: 1})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return a
}

// until takes batches in until one is as wanted.
func (a *actor) until(t *testing.T, what string, want func(node.Batch) bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case b := <-a.replies:
			if a.state = b.State; want(b) {
				return
			}
		case <-timer.C:
			t.Fatalf("no %s: %+v", what, a.state)
		}
	}
}

func (a *actor) enrolled(t *testing.T) {
	t.Helper()
	a.until(t, "enrolment", func(b node.Batch) bool { return b.State.Enrolled })
}

func (a *actor) ask(t *testing.T, c node.Command) (r node.Reply) {
	t.Helper()
	c.TTL, c.Fence, c.Ticket, c.Life, c.By = time.Minute, 5, 5, a.state.Life, clock.Never
	if !a.TrySend(c) {
		t.Fatal("no room")
	}
	a.until(t, "reply", func(b node.Batch) bool {
		if len(b.Replies) > 0 {
			r = b.Replies[0]
		}
		return len(b.Replies) > 0
	})
	return r
}

func (a *actor) wake(t *testing.T, want node.Wake) {
	t.Helper()
	if w := a.next(t); w != want {
		t.Fatalf("%+v: want %+v", w, want)
	}
}

// next waits for the next wake.
func (a *actor) next(t *testing.T) node.Wake {
	t.Helper()
	select {
	case w := <-a.wakes:
		return w
	case <-time.After(patience):
		t.Fatalf("no wake: %+v", a.state)
		panic("unreachable")
	}
}

// However a node is reached, its announcements are heard, and again after the
// subscription or the server has ended.
func TestInbox(t *testing.T) {
	t.Parallel()
	s := processes(t, 1).Servers[0]
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for _, form := range []struct {
		name string
		conn node.Conn
	}{
		{"RESP3", node.URL(s.URL())},
		{"RESP2", node.URL(s.URL() + "?protocol=2")},
		{"another database", node.URL(s.URL() + "/3")},
		{"client", node.FromClient(client)},
	} {
		t.Run(form.name, func(t *testing.T) {
			aged(t, s)
			a := act(t, form.conn, "in")
			a.enrolled(t)
			do := func(op node.Op, token string, want node.Status) {
				t.Helper()
				if r := a.ask(t, node.Command{Op: op, Name: form.name, Token: token}); r.Status != want {
					t.Fatalf("%v: %+v", op, r)
				}
			}
			do(node.Grant, "1", node.OK)
			do(node.Enqueue, "2", node.Other)
			a.wake(t, node.Wake{})
			for range 3 {
				if _, err := s.Do("CLIENT", "KILL", "TYPE", "pubsub"); err != nil {
					t.Fatal(err)
				}
				a.wake(t, node.Wake{})
			}
			do(node.Release, "1", node.OK)
			a.wake(t, node.Wake{Token: "2"})
			do(node.Claim, "2", node.OK)
			s.Kill()
			s.Start()
			aged(t, s)
			a.ask(t, node.Command{Op: node.Inspect, Name: form.name}) // so that a client's connection is looked at
			// It may subscribe once more before it knows that all of the node is new.
			for heard := ""; heard != "2"; heard = a.next(t).Token {
				for _, c := range []node.Command{{Op: node.Leave, Token: "2"}, {Op: node.Grant, Token: "1"}, {Op: node.Enqueue, Token: "2"}, {Op: node.Release, Token: "1"}} {
					c.Name = form.name
					a.ask(t, c) // whatever comes of it while it is not
				}
			}
		})
	}
}

// aged is cluster.Age, for each database that a test uses.
func aged(t *testing.T, s cluster.Server) {
	t.Helper()
	if err := cluster.Age(s); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{marker, "leasehold:{" + marker + "}:grown"} {
		if _, err := s.Do("COPY", key, key, "DB", "3", "REPLACE"); err != nil {
			t.Fatal(err)
		}
	}
}

// rights are those that a user needs, less the names and the channels.
const rights = "+info +time +client|setname +client|getname +client|tracking +client|caching +eval +evalsha " +
	"+get +mget +set +del +exists +type +pttl +pexpire +zadd +zscore +zrank +zcount +zrem +zrangebyscore +zremrangebyscore +publish +subscribe"

// With these rights everything works, and without any one of them something does not.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	s := processes(t, 1).Servers[0]
	all := append(strings.Fields(rights), "~name", "~leasehold:*", "&in")
	try := func(t *testing.T, left int) []string {
		t.Helper()
		if _, err := s.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
		aged(t, s)
		user := []string{"ACL", "SETUSER", "worker", "reset", "on", ">sesame", "resetchannels", "-@all"}
		for i, right := range all {
			if i != left {
				user = append(user, right)
			}
		}
		if _, err := s.Do(user...); err != nil {
			t.Fatal(err)
		}
		return works(t, s)
	}
	if missing := try(t, -1); len(missing) > 0 {
		t.Fatalf("with all of them: %v", missing)
	}
	for i, right := range all {
		if missing := try(t, i); len(missing) == 0 {
			t.Errorf("%s is not needed", right)
		} else {
			t.Logf("without %s: %v", right, missing)
		}
	}
}

// works returns what does not work for the user.
func works(t *testing.T, s cluster.Server) (missing []string) {
	a := act(t, node.URL("redis://worker:sesame@"+s.Addr()), "in")
	a.until(t, "attempt", func(b node.Batch) bool { return b.State.Enrolled || b.State.Err != nil })
	if !a.state.Enrolled {
		return []string{a.state.Err.Error()}
	}
	for _, step := range []struct {
		op    node.Op
		token string
		want  node.Status
	}{
		{node.Grant, "1", node.OK}, {node.Raise, "1", node.OK}, {node.Renew, "1", node.OK}, {node.Renew, "1", node.OK},
		{node.Enqueue, "2", node.Other}, {node.Inspect, "", node.OK}, {node.Claim, "2", node.Other},
		{node.Sign, "3 a,b,c", node.OK}, {node.Adopt, "1", node.OK}, {node.Highest, "", node.OK},
	} {
		if r := a.ask(t, node.Command{Op: step.op, Name: "name", Token: step.token}); r.Status != step.want {
			missing = append(missing, step.op.String())
		}
	}
	if missing != nil {
		return missing
	}
	heard := time.NewTimer(patience)
	defer heard.Stop()
	for up := false; !up; {
		select {
		case w := <-a.wakes:
			up = w == node.Wake{}
		case b := <-a.replies:
			if b.State.NoInbox != nil {
				return []string{b.State.NoInbox.Error()}
			}
		case <-heard.C:
			t.Fatal("neither a subscription nor an error")
		}
	}
	for _, step := range []struct {
		op    node.Op
		token string
		want  node.Status
	}{
		{node.Enqueue, "2", node.Other}, {node.Release, "1", node.OK}, {node.Inspect, "", node.OK}, // reserved
		{node.Enqueue, "2", node.OK}, {node.Claim, "2", node.OK}, {node.Release, "2", node.OK},
		{node.Heal, "3", node.OK}, {node.Leave, "4", node.Other}, {node.Renew, "3", node.OK},
	} {
		if r := a.ask(t, node.Command{Op: step.op, Name: "name", Token: step.token}); r.Status != step.want {
			missing = append(missing, step.op.String())
		}
	}
	if missing != nil {
		return missing
	}
	if _, err := s.Do("DEL", "name"); err != nil {
		t.Fatal(err)
	}
	told := time.NewTimer(patience / 4)
	defer told.Stop()
	for {
		select {
		case w := <-a.wakes:
			if w.Key == "name" {
				return nil
			}
		case <-told.C:
			return []string{"tracking"}
		}
	}
}
