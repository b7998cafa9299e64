// Package conform is one table of cases that every Redis, and everything that
// stands for one, must pass: it keeps nodetest, miniredis and real servers equal
// in all that leasehold asks of them.
package conform

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A Target is one empty server under test.
type Target struct {
	// Conn is how leasehold reaches it.
	Conn node.Conn
	// Option is how the cases reach it themselves, to prepare and to look.
	Option rueidis.ClientOption
	// Elapse lets time pass for its keys at once. It may be nil: then the cases
	// wait for what has to expire.
	Elapse func(d time.Duration)
	// Lacks lists what the server is known to do otherwise, so that nothing asks
	// for it.
	Lacks []Feature
}

// A Feature is something that a stand-in may lack, and leasehold can do without.
type Feature string

const (
	// Info is INFO's sections server and replication.
	Info Feature = "INFO"
	// NoEvict is CLIENT NO-EVICT.
	NoEvict Feature = "CLIENT NO-EVICT"
	// Strictness refuses arguments that make no sense, and takes all that do.
	Strictness Feature = "strictness"
	// Tracking is CLIENT TRACKING.
	Tracking Feature = "CLIENT TRACKING"
	// ScriptCodes are the codes of errors within scripts, as in WRONGTYPE.
	ScriptCodes Feature = "error codes in scripts"
)

// Of returns the target that a nodetest node is.
func Of(n *nodetest.Node) Target {
	return Target{Conn: n.Conn(), Option: n.Option(""), Elapse: n.Jump}
}

// Run runs every case. It calls open several times, each time for a server that
// is empty, or may be emptied: the cases flush it.
func Run(t *testing.T, open func(t *testing.T) Target) {
	t.Run("commands", func(t *testing.T) { commands(t, begin(t, open(t), "")) })
	t.Run("pipelines", func(t *testing.T) { pipelines(t, begin(t, open(t), "")) })
	t.Run("queue", func(t *testing.T) { queue(t, open(t)) })
	t.Run("enrolment", func(t *testing.T) { enrolment(t, open(t)) })
	t.Run("lives", func(t *testing.T) { lives(t, open(t)) })
	t.Run("stages", func(t *testing.T) { stages(t, open(t)) })
	t.Run("highest", func(t *testing.T) { highest(t, begin(t, open(t), "")) })
	t.Run("adoptions", func(t *testing.T) { adoptions(t, begin(t, open(t), "")) })
	t.Run("news", func(t *testing.T) { changes(t, begin(t, open(t), "")) })
	for _, proto := range []string{"RESP2", "RESP3"} {
		t.Run("raw/"+proto, func(t *testing.T) {
			target := open(t)
			target.Option.AlwaysRESP2 = proto == "RESP2"
			raw(t, target, dial(t, target))
		})
	}
}

const (
	token    = "owner/" + random
	random   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" // so that it is told from a fence after it
	rival    = "rival/2"
	prepared = 10 * time.Second // what keys are prepared with
	ttl      = 20 * time.Second // what commands ask for
	reserve  = 15 * time.Second
	alive    = 50 * time.Second
	fence    = 10
	patience = 20 * time.Second // with a server that should answer at once
)

// A driver is an actor, and a client to prepare and to look with.
type driver struct {
	Target
	client  rueidis.Client
	actor   *node.Actor
	replies chan node.Batch
	inbox   string
	wakes   chan node.Wake
	tracks  bool // as it enrolled
	state   node.State
	lastID  uint64
}

func dial(t *testing.T, target Target) rueidis.Client {
	t.Helper()
	o := target.Option
	o.DisableCache, o.DisableRetry, o.ForceSingleClient = true, true, true
	o.ClientSetInfo = rueidis.DisableClientSetInfo
	client, err := rueidis.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// begin starts an actor and waits for its enrolment.
func begin(t *testing.T, target Target, inbox string, configure ...func(*node.Config)) *driver {
	t.Helper()
	d := &driver{
		Target: target, client: dial(t, target), replies: make(chan node.Batch),
		inbox: inbox, wakes: make(chan node.Wake, 100),
	}
	config := node.Config{
		Conn:    target.Conn,
		Clock:   clock.Runtime(),
		Timeout: patience / 4,
		Replies: d.replies,
		Inbox:   inbox,
		Wakes:   d.wakes,
		Reserve: reserve,
		Alive:   alive,
	}
	for _, f := range configure {
		f(&config)
	}
	d.actor = node.NewActor(config)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.actor.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		d.actor.Close()
		for {
			select {
			case <-d.replies:
			case <-ended:
				return
			}
		}
	})
	for {
		b := d.batch(t)
		if b.State.Enrolled {
			if b.State.Life != 1 || b.State.OffsetAt == 0 {
				t.Errorf("enrolled with Life %d and OffsetAt %d: want 1 and an instant", b.State.Life, b.State.OffsetAt)
			}
			d.tracks = b.State.Tracks
			return d
		}
		if b.State.Err != nil {
			t.Fatalf("the node does not enrol: %v", b.State.Err)
		}
	}
}

func (d *driver) batch(t *testing.T) node.Batch {
	t.Helper()
	timer := clock.Runtime().NewTimer(patience)
	defer timer.Stop()
	select {
	case b := <-d.replies:
		d.state = b.State
		return b
	case <-timer.C():
		t.Fatalf("nothing from the node for %v", patience)
		panic("unreachable")
	}
}

// do sends the commands at once and returns their replies in the same order. It
// fills in what they leave out.
func (d *driver) do(t *testing.T, commands ...node.Command) []node.Reply {
	t.Helper()
	first := d.lastID + 1
	for _, c := range commands {
		d.lastID++
		c.ID = d.lastID
		c.By = clock.Never
		if c.Op != node.Raise { // one with a TTL changes that of the key
			c.TTL = cmp.Or(c.TTL, ttl)
		}
		changes := c.Op == node.Advance || c.Op == node.Forget
		if !changes { // it tells nothing of a change then
			c.Token = cmp.Or(c.Token, token)
		}
		if c.Op != node.Release && !changes { // one with a fence gives, or raises the floor
			c.Fence = cmp.Or(c.Fence, fence)
		}
		c.Life = 1 // of Heal: the server is not restarted here
		if !d.actor.TrySend(c) {
			t.Fatalf("no room for command %d of %d", c.ID-first+1, len(commands))
		}
	}
	var replies []node.Reply
	for len(replies) < len(commands) {
		replies = append(replies, d.batch(t).Replies...)
	}
	slices.SortFunc(replies, func(a, b node.Reply) int { return cmp.Compare(a.ID, b.ID) })
	for i, r := range replies {
		if r.ID != first+uint64(i) || r.Op != commands[i].Op {
			t.Fatalf("reply %d of %d is to %v %d: want to %v %d", i+1, len(replies), r.Op, r.ID, commands[i].Op, first+uint64(i))
		}
	}
	return replies
}

// ask asks the server directly, and returns the answer as text.
func (d *driver) ask(args ...string) string { return ask(d.client, args...) }

func ask(client rueidis.Client, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return text(client.Do(ctx, client.B().Arbitrary(args...).Build()))
}

// text writes an answer such that RESP2 and RESP3 look the same: integers begin
// with a colon; of an error only the first word remains, after a minus.
func text(r rueidis.RedisResult) string {
	v, err := r.ToAny()
	if rueidis.IsRedisNil(err) {
		return "nil"
	}
	if err != nil {
		return textOf(err)
	}
	return textOf(v)
}

func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case int64:
		return fmt.Sprintf(":%d", v)
	case float64:
		return fmt.Sprintf("%.17g", v)
	case []any:
		out := make([]string, len(v))
		for i := range v {
			out[i] = textOf(v[i])
		}
		return "[" + strings.Join(out, " ") + "]"
	case error:
		code, _, _ := strings.Cut(v.Error(), " ")
		switch code {
		case "WRONGTYPE", "NOSCRIPT", "NOPROTO":
			return "-" + code
		}
		return "-ERR" // which rueidis takes away
	case string:
		return strings.TrimPrefix(v, "txt:") // of a verbatim string
	}
	return fmt.Sprint(v)
}

// gone lets a key expire that has d left.
func gone(t *testing.T, target Target, client rueidis.Client, key string, d time.Duration) {
	t.Helper()
	if target.Elapse != nil {
		target.Elapse(d + time.Millisecond)
	}
	c := clock.Runtime()
	for end := c.Now().Add(patience); ask(client, "EXISTS", key) != ":0"; {
		if c.Now() > end {
			t.Fatalf("%q does not expire", key)
		}
		<-c.NewTimer(d / 2).C()
	}
}

// near tells whether a time that is left fits what it was set to: a slow machine
// may have used a part of it.
func near(got, set time.Duration) bool {
	if set <= 0 {
		return got == set
	}
	return got <= set && got > set-prepared/2
}
