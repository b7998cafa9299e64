package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// A bench drives a core by hand: it keeps the clock, collects what the core sends,
// and performs the effects as the loop does.
type bench struct {
	t        testing.TB
	c        *Core
	clock    *clocktest.Manual
	home     *lease.Home
	sent     []send
	signs    []send         // fingerprints that are left, apart: they come by themselves
	left     []send         // those that are still to be answered
	entries  map[int]string // what nodes answer to them
	deaf     nodeSet        // nodes that answer none
	strict   bool           // our own entries count for no longer than they live: most tests are about other things
	warned   []Warning
	young    []Effect
	log      []string // effects and sends in the order in which they are performed
	lastCall Call
	outcomes map[Call]outcome
	leases   []lease.Control // by the slots of their IDs
}

// A send is a command for one node.
type send struct {
	node int
	cmd  node.Command
}

// An outcome is what a caller was told.
type outcome struct {
	lease  *lease.Lease
	report *Report
	handle *Handle
}

// defaults are the settings of a supervisor's configuration that names nothing but its TTL.
func defaults(n int, ttl time.Duration) Settings {
	return Settings{
		Nodes: n, TTL: ttl, MaxTTL: ttl, MaxTTLCap: time.Minute, RenewEvery: ttl / 3, NodeTimeout: ttl / 20,
		RetryMin: 100 * time.Millisecond, RetryMax: 300 * time.Millisecond, Guard: true, Owner: "me", Seed: [32]byte{1},
	}
}

func termsOf(ttl time.Duration) *Terms {
	s := defaults(1, ttl)
	return s.Terms(ttl)
}

func newBench(t testing.TB, n int) *bench {
	return &bench{
		t: t, c: New(defaults(n, 3*time.Second)), clock: clocktest.NewManual(clock.Instant(time.Hour)),
		outcomes: make(map[Call]outcome),
	}
}

// enrolled returns a bench whose nodes are all enrolled.
func enrolled(t testing.TB, n int) *bench {
	b := newBench(t, n)
	for i := range n {
		b.enrol(i)
	}
	return b
}

func (b *bench) now() clock.Instant { return b.clock.Now() }

// nodesTime is the nodes' clock at the bench's origin: far from any real one.
const nodesTime = 1000 * time.Hour

func (b *bench) state() node.State {
	return node.State{
		Enrolled: true, Life: 1, Guarded: true, Grown: true, Offset: nodesTime, OffsetAt: b.now(),
		Time: nodesTime + time.Duration(b.now()), TimeSent: b.now(), TimeBack: b.now(),
	}
}

func (b *bench) enrol(i int) {
	b.c.Receive(b.now(), node.Batch{Node: i, State: b.state()})
	b.perform()
}

func (b *bench) drop(i int) {
	s := b.c.nodes[i].state
	s.Enrolled, s.Err = false, errDown
	b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	b.perform()
}

var errDown = errors.New("connection refused")

// perform does what the core has decided. Nodes take fingerprints at once.
func (b *bench) perform() {
	perform.All(b.now(), b.c, len(b.c.nodes), b)
	for len(b.left) > 0 {
		s := b.left[0]
		b.left = b.left[1:]
		r := node.Reply{ID: s.cmd.ID, Op: node.Sign, Status: node.OK, Value: b.entries[s.node]}
		b.c.Receive(b.now(), node.Batch{Node: s.node, Replies: []node.Reply{r}, State: b.c.nodes[s.node].state})
		if !b.strict {
			b.c.nodes[s.node].entry.until = clock.Never
		}
		perform.All(b.now(), b.c, len(b.c.nodes), b)
	}
}

// apart returns the commands with a renewal for each member of a group: the core takes an answer
// to one as well.
func apart(commands []node.Command) (all []node.Command) {
	for _, cmd := range commands {
		if cmd.Group == nil {
			all = append(all, cmd)
			continue
		}
		for _, m := range cmd.Group.Members {
			all = append(all, node.Command{ID: m.ID, Op: node.Renew, Name: m.Name, Token: m.Token, TTL: cmd.Group.TTL, By: m.By})
		}
	}
	return all
}

// Send collects what the core sends.
func (b *bench) Send(i int, commands []node.Command) []node.Command {
	for _, cmd := range apart(commands) {
		s := send{i, cmd}
		if cmd.Op == node.Sign {
			b.signs = append(b.signs, s)
			if !b.deaf.has(i) {
				b.left = append(b.left, s)
			}
			continue
		}
		b.log = append(b.log, fmt.Sprintf("%v %d", cmd.Op, i))
		b.sent = append(b.sent, s)
	}
	return nil
}

// Effect does what the loop does.
func (b *bench) Effect(now clock.Instant, e *Effect) {
	switch e.Kind {
	case EffectWon:
		if b.home == nil {
			b.home = &lease.Home{Clock: b.clock}
		}
		l, control := lease.New(lease.Spec{
			Name: e.Key, Token: lease.Token(e.Token), Fence: e.Fence, Home: b.home, Until: e.Until, Grace: e.Grace,
		})
		slot := Slot(e.ID)
		if slot >= len(b.leases) {
			b.leases = append(b.leases, make([]lease.Control, slot+1-len(b.leases))...)
		}
		b.leases[slot] = control
		b.tell(e.Call, outcome{lease: l})
		b.log = append(b.log, "won")
	case EffectFailed, EffectInspected:
		b.tell(e.Call, outcome{report: e.Report})
	case EffectRenewed:
		if l := b.leases[Slot(e.ID)]; !l.Renewed(e.Until, e.Grace) {
			why := ReasonExpired
			if l.Lease().Err() == lease.ErrReleased {
				why = ReasonReleased
			}
			b.c.HolderEnded(now, e.ID, why)
		}
		b.log = append(b.log, "renewed")
	case EffectEnded:
		b.leases[Slot(e.ID)].End(ends[e.Reason])
		b.log = append(b.log, "ended")
	case EffectAnswered:
		b.tell(e.Call, outcome{report: e.Report, handle: e.Handle})
		b.log = append(b.log, "answered")
	case EffectWarned:
		b.warned = append(b.warned, *e.Warning)
	case EffectYoung:
		b.young = append(b.young, *e)
	}
}

// ends are the reasons for which a lease ends, as its holder is told.
var ends = map[Reason]error{
	ReasonReleased: lease.ErrReleased, ReasonHandedOver: lease.ErrHandedOver, ReasonExpired: lease.ErrExpired,
	ReasonRevoked: lease.ErrRevoked, ReasonTaken: lease.ErrTaken, ReasonPaused: lease.ErrPaused,
	ReasonMaxHold: lease.ErrMaxHold, ReasonClosed: lease.ErrClosed,
}

// call returns the number of a new caller.
func (b *bench) call() Call {
	b.lastCall++
	return b.lastCall
}

func (b *bench) tell(call Call, o outcome) {
	if b.done(call) {
		b.t.Fatalf("caller %d is told something twice", call)
	}
	b.outcomes[call] = o
}

// done reports whether a caller was told something.
func (b *bench) done(call Call) bool {
	_, ok := b.outcomes[call]
	return ok
}

// answer returns what a caller was told: nil if all is well.
func (b *bench) answer(call Call) *Report {
	b.t.Helper()
	if !b.done(call) {
		b.t.Fatal("not answered")
	}
	return b.outcomes[call].report
}

// alarms counts those that are set, but for that of the next fingerprint.
func (b *bench) alarms() int {
	n := b.c.alarms.count
	if b.c.agreement.isSet() {
		n--
	}
	return n
}

// advance moves the clock and lets the core see it.
func (b *bench) advance(d time.Duration) {
	b.clock.Advance(d)
	b.c.Tick(b.now())
	b.perform()
}

func (b *bench) acquire(name string, change ...func(*Request)) Call {
	r := Request{Call: b.call(), Key: name, Terms: b.c.terms}
	for _, f := range change {
		f(&r)
	}
	b.c.Acquire(b.now(), r)
	b.perform()
	return r.Call
}

// take removes and returns what was sent with the given op.
func (b *bench) take(op node.Op) []send {
	var taken []send
	b.sent = slices.DeleteFunc(b.sent, func(s send) bool {
		if s.cmd.Op == op {
			taken = append(taken, s)
		}
		return s.cmd.Op == op
	})
	return taken
}

// say has a node answer a command.
func (b *bench) say(s send, status node.Status, change ...func(*node.Reply)) {
	r := node.Reply{ID: s.cmd.ID, Op: s.cmd.Op, Status: status}
	if status == node.OK && (s.cmd.Op == node.Grant || s.cmd.Op == node.Claim || s.cmd.Op == node.Adopt) {
		r.Raised, r.Fence = true, s.cmd.Fence
	}
	if status == node.Unknown || status == node.Unsent {
		r.Err = errDown
	}
	for _, f := range change {
		f(&r)
	}
	b.c.Receive(b.now(), node.Batch{Node: s.node, Replies: []node.Reply{r}, State: b.c.nodes[s.node].state})
	b.perform()
}

// hold acquires a name with the votes of all nodes.
func (b *bench) hold(name string, change ...func(*Request)) *lease.Lease {
	b.t.Helper()
	w := b.acquire(name, change...)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	return b.got(w)
}

func (b *bench) got(w Call) *lease.Lease {
	b.t.Helper()
	if r := b.answer(w); r != nil {
		b.t.Fatalf("no lease: %+v", r)
	}
	return b.outcomes[w].lease
}

func (b *bench) refused(w Call, want Reason) *Report {
	b.t.Helper()
	r := b.answer(w)
	if r == nil || r.Reason != want {
		b.t.Fatalf("reason %+v: want %v", r, want)
	}
	return r
}

func (b *bench) waits(w Call) {
	b.t.Helper()
	if b.done(w) {
		b.t.Fatalf("answered already: %+v", b.outcomes[w])
	}
}

func nodesOf(sends []send) (nodes []int) {
	for _, s := range sends {
		nodes = append(nodes, s.node)
	}
	slices.Sort(nodes)
	return nodes
}

func (b *bench) wantNodes(sends []send, want ...int) {
	b.t.Helper()
	if got := nodesOf(sends); !slices.Equal(got, want) {
		b.t.Fatalf("sent to nodes %v, want %v", got, want)
	}
}

func to(sends []send, i int) send {
	return sends[slices.IndexFunc(sends, func(s send) bool { return s.node == i })]
}

// The quorum is of the configured nodes: two of five that answer are none, and an
// even number needs more than half.
func TestQuorumOfConfiguredNodes(t *testing.T) {
	for _, tt := range []struct{ n, grants, quorum int }{{1, 1, 1}, {2, 2, 2}, {3, 2, 2}, {4, 3, 3}, {5, 3, 3}, {6, 4, 4}} {
		b := enrolled(t, tt.n)
		w := b.acquire("x")
		grants := b.take(node.Grant)
		if len(grants) != tt.n {
			t.Fatalf("n=%d: asked %d nodes", tt.n, len(grants))
		}
		for _, s := range grants[:tt.grants-1] {
			b.say(s, node.OK)
		}
		b.waits(w)
		b.say(grants[tt.grants-1], node.OK)
		b.got(w)
	}
}

func TestNoQuorumWithoutEnoughNodes(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x", func(w *Request) { w.Attempts = 1 })
	grants := b.take(node.Grant)
	for _, s := range grants[:3] {
		b.say(s, node.Unsent)
	}
	e := b.refused(w, ReasonNoQuorum)
	if e.Answers[0].Err != errDown || e.Answers[0].Verdict != VerdictUnreachable {
		t.Errorf("node 0: %v, want its own words", e.Answers[0])
	}
}

// until counts from before the command was queued, however late the answer is.
func TestUntilCountsFromBeforeTheSend(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	b.advance(500 * time.Millisecond)
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	l := b.got(w)
	if want := b.c.terms.TTL - b.c.terms.Drift - 500*time.Millisecond; l.Remaining() != want {
		t.Errorf("Remaining() = %v, want %v", l.Remaining(), want)
	}
}

// The deadline is the q-th largest until of the votes that count.
func TestDeadline(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		n := 1 + r.IntN(MaxNodes)
		need := 1 + r.IntN(n)
		votes := make([]vote, n)
		var count nodeSet
		var untils []clock.Instant
		for i := range votes {
			votes[i].until = clock.Instant(r.IntN(20))
			if r.IntN(4) > 0 {
				count.add(i)
				untils = append(untils, votes[i].until)
			}
		}
		slices.Sort(untils)
		slices.Reverse(untils)
		var want clock.Instant
		if len(untils) >= need {
			want = untils[need-1]
		}
		if got := deadline(votes, count, need); got != want {
			t.Fatalf("seed %d: deadline of %v with %d needed = %d, want %d", seed, untils, need, got, want)
		}
	}
}

// A late grant counts for what it is worth: the lease then survives the loss of
// another vote.
func TestLateGrantStrengthens(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK)
	l := b.got(w)
	b.say(grants[2], node.OK)
	b.advance(b.c.terms.RenewEvery)
	b.say(to(b.take(node.Renew), 0), node.Absent)
	if err := l.Err(); err != nil {
		t.Fatalf("lost with two votes of three: %v", err)
	}
}

// Lost closes at the deadline less the grace, not before and not after.
func TestLostAtDeadlineLessGrace(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	end := l.Remaining() - b.c.terms.Grace
	for passed := time.Duration(0); passed < end-time.Millisecond; {
		step := min(50*time.Millisecond, end-time.Millisecond-passed)
		b.advance(step)
		passed += step
		for _, s := range b.take(node.Renew) {
			b.say(s, node.Unknown)
		}
		select {
		case <-l.Lost():
			t.Fatalf("lost after %v, before its time", passed)
		default:
		}
	}
	b.advance(time.Millisecond)
	select {
	case <-l.Lost():
	default:
		t.Fatal("not lost in time")
	}
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Errorf("Err() = %v", l.Err())
	}
	b.advance(b.c.terms.Grace - time.Millisecond)
	b.wantNodes(b.take(node.Release)) // its holder is still stopping
	b.advance(time.Millisecond)
	b.wantNodes(b.take(node.Release), 0, 1, 2, 3, 4)
}

// When everything is closed, what has expired is not kept until its grace is over.
func TestExpiredAndClosed(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x", func(w *Request) { w.NoRenew = true })
	b.advance(b.c.terms.TTL - b.c.terms.Drift - b.c.terms.Grace)
	b.wantNodes(b.take(node.Release))
	b.c.Close(b.now())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.OK)
	}
	if !b.c.Drained() || b.alarms() != 0 {
		t.Errorf("%d tenures and %d alarms are left", b.c.tenures.len(), b.alarms())
	}
}

// A lost lease is never revived by a late answer.
func TestLateAnswerDoesNotRevive(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	b.clock.Advance(b.c.terms.TTL) // the core's goroutine is late
	for _, s := range renewals {
		b.say(s, node.OK)
	}
	if !errors.Is(l.Err(), lease.ErrExpired) {
		t.Fatalf("Err() = %v, want expired", l.Err())
	}
}

// What the holder has seen to be over stays over, even if the core is given an
// answer that came in time.
func TestHolderWhoSawTheEndIsBelieved(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	before := b.now()
	b.clock.Advance(b.c.terms.TTL)
	if l.Valid() {
		t.Fatal("valid after its TTL")
	}
	for _, s := range renewals {
		b.c.Receive(before, node.Batch{Node: s.node, State: b.state(), Replies: []node.Reply{{ID: s.cmd.ID, Op: node.Renew, Status: node.OK}}})
	}
	b.perform()
	if l.Valid() || len(b.take(node.Release)) != 3 {
		t.Fatal("a lease that was seen to be over came back")
	}
}

// One failed renewal is not a loss; it is tried again soon, and at most one is
// under way for a lease and node.
func TestFailedRenewalIsRetried(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	b.wantNodes(renewals, 0, 1, 2)
	b.say(to(renewals, 0), node.Unknown)
	b.say(to(renewals, 1), node.OK)
	b.advance(b.c.terms.RenewEvery / 8)
	again := b.take(node.Renew)
	b.wantNodes(again, 0) // node 2 has not answered yet, so it is not asked again
	b.say(again[0], node.OK)
	if got, want := l.Remaining(), b.c.terms.TTL-b.c.terms.Drift-b.c.terms.RenewEvery/8-1; got < want {
		t.Errorf("Remaining() = %v after two renewals of three, want about %v", got, want)
	}
	for range 20 {
		b.advance(b.c.terms.RenewEvery / 4)
		for _, s := range b.take(node.Renew) {
			if s.node == 2 {
				t.Fatal("a second renewal for a node that has not answered the first")
			}
			b.say(s, node.OK)
		}
	}
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
}

// A vote that is withdrawn does not count; on a majority the lease ends at once,
// on a minority it stays.
func TestWithdrawnVotes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		statuses []node.Status
		want     error
	}{
		{"deleted on a minority", []node.Status{node.Absent, node.Absent, node.OK, node.OK, node.OK}, nil},
		{"deleted on a majority", []node.Status{node.Absent, node.Absent, node.Absent, node.OK, node.OK}, lease.ErrRevoked},
		{"overwritten on a minority", []node.Status{node.Other, node.Other, node.OK, node.OK, node.OK}, nil},
		{"overwritten on a majority", []node.Status{node.Other, node.Other, node.Other, node.OK, node.OK}, lease.ErrTaken},
		{"both", []node.Status{node.Other, node.Other, node.Absent, node.OK, node.OK}, lease.ErrTaken},
		{"silence is not a no", []node.Status{node.Unknown, node.Unknown, node.Unknown, node.OK, node.OK}, nil},
		{"an error is not a no", []node.Status{node.Absent, node.Absent, node.Unknown, node.OK, node.OK}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := enrolled(t, 5)
			l := b.hold("x")
			b.advance(b.c.terms.RenewEvery)
			for _, s := range b.take(node.Renew) {
				b.say(s, tt.statuses[s.node])
			}
			if tt.want == nil {
				if err := l.Err(); err != nil {
					t.Fatalf("Err() = %v", err)
				}
				return
			}
			if !errors.Is(l.Err(), tt.want) || !errors.Is(l.Err(), lease.ErrLost) {
				t.Fatalf("Err() = %v, want %v", l.Err(), tt.want)
			}
			b.wantNodes(b.take(node.Release), 0, 1, 2, 3, 4)
			if b.log[len(b.log)-6] != "ended" {
				t.Errorf("the nodes were told before the holder: %v", b.log[len(b.log)-6:])
			}
		})
	}
}

// A withdrawn vote stays withdrawn.
func TestWithdrawnVoteDoesNotReturn(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	for _, s := range b.take(node.Renew) {
		b.say(s, []node.Status{node.Absent, node.OK, node.OK}[s.node])
	}
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	b.wantNodes(renewals, 0, 1, 2)
	b.say(renewals[1], node.Absent)
	if !errors.Is(l.Err(), lease.ErrRevoked) {
		t.Fatalf("Err() = %v with one vote of three", l.Err())
	}
}

// An election that takes longer than a quarter of the TTL is lost, even if the
// last vote comes then.
func TestElectionWindow(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", func(w *Request) { w.Attempts = 1 })
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.clock.Advance(b.c.terms.Window + 1)
	b.say(grants[1], node.OK)
	b.refused(w, ReasonNoQuorum)
	b.wantNodes(b.take(node.Release), 0, 1, 2)

	w = b.acquire("y", func(w *Request) { w.Attempts = 1 })
	b.advance(b.c.terms.Window)
	b.refused(w, ReasonNoQuorum)
	b.wantNodes(b.take(node.Release), 0, 1, 2)
}

// As soon as q grants are out of reach every node that was asked gets a release,
// the silent ones too, and the next attempt has a fresh token.
func TestLostElectionIsGivenBack(t *testing.T) {
	b := enrolled(t, 5)
	w := b.acquire("x", func(w *Request) { w.Attempts = 2 })
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.say(grants[1], node.Other)
	b.say(grants[2], node.Other)
	b.waits(w)
	b.say(grants[4], node.Unsent)
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 3) // node 3 is silent; 1 and 2 said that they do not keep it; 4 certainly got nothing
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.OK, func(r *node.Reply) { r.Value, r.Left = "other/"+fmt.Sprintf("%026d", 7), time.Minute })
	}
	b.advance(time.Second)
	again := b.take(node.Grant)
	b.wantNodes(again, 0, 1, 2, 3, 4)
	if again[0].cmd.Token == grants[0].cmd.Token || again[0].cmd.ID == grants[0].cmd.ID {
		t.Error("the second attempt has the token of the first")
	}
	// The late grant of the first attempt is no vote for the second.
	b.say(grants[3], node.OK)
	b.say(again[0], node.OK)
	b.say(again[1], node.OK)
	b.waits(w)
	b.say(again[2], node.OK)
	b.got(w)
}

// A grant whose answer is not known is given back when its election is decided against
// it, or its lease is over, and not before: on its way a renewal may adopt the key.
func TestUnknownGrantIsKeptUntilDecided(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.Unknown)
	b.wantNodes(b.take(node.Release))
	b.say(grants[1], node.OK)
	b.say(grants[2], node.OK)
	l := b.got(w)
	b.wantNodes(b.take(node.Release))
	b.c.Release(b.now(), b.c.lastID, b.call())
	b.perform()
	b.wantNodes(b.take(node.Release), 0, 1, 2)
	if l.Valid() {
		t.Error("valid after its release")
	}
}

// The holder of the name is asked for after a refusal, told in the error, and decides when
// to try again: when the holder's grant runs out, if that is before the pause ends.
func TestRefusalIsLookedInto(t *testing.T) {
	b := enrolled(t, 3)
	held := func(r *node.Reply) { r.Value, r.Left = "them/"+fmt.Sprintf("%026d", 7), 20*time.Millisecond }
	w := b.acquire("x", func(w *Request) { w.Attempts = 3 })
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.OK, held)
	}
	b.take(node.Release)
	b.advance(19 * time.Millisecond)
	b.wantNodes(b.take(node.Grant))
	b.advance(time.Millisecond)
	b.wantNodes(b.take(node.Grant), 0, 1, 2)

	b.c.Cancel(b.now(), w)
	b.perform()
	b.refused(w, ReasonHeld) // and not by what the unfinished attempt says

	w = b.acquire("y", func(w *Request) { w.Attempts = 1 })
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Other)
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.OK, held)
	}
	e := b.refused(w, ReasonHeld)
	if a := e.Answers[0]; node.OwnerOf(a.Value) != "them" || a.Left != 20*time.Millisecond || a.Verdict != VerdictHeld {
		t.Errorf("node 0: %v", a)
	}
}

// A cancelled waiter leaves nothing behind: its attempt is released everywhere, and
// a grant that comes later finds the release after it.
func TestCancelGivesBack(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.say(grants[0], node.OK)
	b.c.Cancel(b.now(), w)
	b.perform()
	b.refused(w, ReasonNoQuorum)
	releases := b.take(node.Release)
	b.wantNodes(releases, 0, 1, 2)
	b.say(grants[1], node.OK)
	b.say(grants[2], node.OK)
	for _, s := range releases {
		b.say(s, node.OK)
	}
	if b.c.tenures.len()+len(b.c.lines)+len(b.c.inquiries)+b.alarms() != 0 {
		t.Errorf("left behind: %d tenures, %d lines, %d looks, %d alarms", b.c.tenures.len(), len(b.c.lines), len(b.c.inquiries), b.alarms())
	}
}

// The proposed fence is the nodes' time; it wins as it is if q nodes had less
// stored, and is raised on them otherwise.
func TestFence(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	want := uint64((time.Duration(b.now()) + nodesTime) / time.Microsecond)
	if grants[0].cmd.Fence != want {
		t.Fatalf("proposed %d, want the nodes' time %d", grants[0].cmd.Fence, want)
	}
	b.say(grants[0], node.OK)
	b.say(grants[1], node.OK, func(r *node.Reply) { r.Raised = false })
	b.waits(w)
	raises := b.take(node.Raise)
	b.wantNodes(raises, 0, 1)
	if want += 2 * claimLead; raises[0].cmd.Fence != want || raises[1].cmd.Fence != want {
		t.Fatalf("raised to %d and %d, want a little more than the nodes' time, %d", raises[0].cmd.Fence, raises[1].cmd.Fence, want)
	}
	b.say(grants[2], node.OK) // comes too late to be one of those that confirm
	b.say(raises[0], node.OK, func(r *node.Reply) { r.Fence = grants[0].cmd.Fence })
	b.waits(w)
	b.say(raises[1], node.OK, func(r *node.Reply) { r.Fence = want - 1 })
	if f := b.got(w).Fence(); f != want {
		t.Errorf("Fence() = %d, want %d", f, want)
	}
}

// A node that had more stored than it was asked to store is asked once more, for one
// more than that. What it tells in its first answer is what counts: it has granted
// before, so one that stored more after that has no lease.
func TestFenceRaisedTwice(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	unraised := func(r *node.Reply) { r.Raised = false }
	b.say(grants[0], node.OK, unraised)
	b.say(grants[1], node.OK, unraised)
	first := b.take(node.Raise)
	b.wantNodes(first, 0, 1)
	before := func(fence uint64) func(*node.Reply) { return func(r *node.Reply) { r.Fence = fence } }
	stored := first[0].cmd.Fence + 700
	b.say(first[0], node.OK, before(stored))
	b.waits(w)
	second := b.take(node.Raise)
	b.wantNodes(second, 0) // the other has yet to answer
	if got := second[0].cmd.Fence; got != stored+1 {
		t.Fatalf("raised to %d, want one more than was stored, %d", got, stored)
	}
	b.say(second[0], node.OK, before(stored+90)) // a rival's proposal, refused meanwhile
	b.waits(w)
	b.say(first[1], node.OK, before(first[1].cmd.Fence)) // not smaller, so it was not raised
	b.waits(w)
	late := b.take(node.Raise)
	b.wantNodes(late, 1)
	if got := late[0].cmd.Fence; got != stored+1 {
		t.Fatalf("raised to %d, want %d", got, stored+1)
	}
	b.say(late[0], node.OK, before(stored+90))
	if f := b.got(w).Fence(); f != stored+1 {
		t.Errorf("Fence() = %d, want %d", f, stored+1)
	}
}

// Equal is not larger: it may be the fence of the tenure before.
func TestEqualFenceIsRaised(t *testing.T) {
	b := enrolled(t, 1)
	w := b.acquire("x")
	b.say(b.take(node.Grant)[0], node.OK, func(r *node.Reply) { r.Raised = false })
	first := b.take(node.Raise)[0]
	b.say(first, node.OK, func(r *node.Reply) { r.Fence = first.cmd.Fence })
	b.waits(w)
	again := b.take(node.Raise)[0]
	b.say(again, node.OK, func(r *node.Reply) { r.Fence = first.cmd.Fence })
	if f := b.got(w).Fence(); f != first.cmd.Fence+1 {
		t.Errorf("Fence() = %d, want %d", f, first.cmd.Fence+1)
	}
}

// If a granted node does not confirm the raise, the election is lost.
func TestFenceNotRaised(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", func(w *Request) { w.Attempts = 1 })
	grants := b.take(node.Grant)
	for _, s := range grants[:2] {
		b.say(s, node.OK, func(r *node.Reply) { r.Raised = false })
	}
	b.say(b.take(node.Raise)[0], node.Absent)
	b.take(node.Release)
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.Absent)
	}
	b.refused(w, ReasonNoQuorum)
}

// Nothing is proposed before the time of q nodes is known; the median is the lower
// one of an even number, and counts nodes that are gone.
func TestProposalWaitsForQuorumOfOffsets(t *testing.T) {
	b := newBench(t, 3)
	w := b.acquire("x")
	b.enrol(0)
	if len(b.take(node.Grant)) != 0 {
		t.Fatal("proposed by the time of one node of three")
	}
	b.drop(0)
	s := b.state()
	s.Offset += time.Hour
	b.c.Receive(b.now(), node.Batch{Node: 1, State: s})
	b.perform()
	grants := b.take(node.Grant)
	b.wantNodes(grants, 0, 1, 2)
	if want := uint64((time.Duration(b.now()) + nodesTime) / time.Microsecond); grants[0].cmd.Fence != want {
		t.Errorf("proposed %d, want the lower median %d", grants[0].cmd.Fence, want)
	}
	b.waits(w)

	b = newBench(t, 3)
	w = b.acquire("x", func(w *Request) { w.Attempts = 1 })
	b.advance(b.c.terms.Window)
	b.waits(w) // all may be slow
	b.advance(b.c.terms.Window)
	b.refused(w, ReasonNoQuorum)

	b = newBench(t, 3)
	w = b.acquire("x", func(w *Request) { w.Attempts = 1 })
	for i := range 2 {
		b.c.Receive(b.now(), node.Batch{Node: i, State: node.State{Err: errors.New("refused"), Overdue: i == 0}})
	}
	b.advance(b.c.terms.Window)
	b.waits(w) // that is one of three
	b.c.Receive(b.now(), node.Batch{Node: 0, State: node.State{Err: errors.New("refused")}})
	b.advance(b.c.terms.Window)
	b.refused(w, ReasonNoQuorum)
	w = b.acquire("x", func(w *Request) { w.Attempts = 1 })
	b.advance(b.c.terms.Window)
	b.refused(w, ReasonNoQuorum)
}

// Waiters of one process are served in the order in which they came, and only the
// first of them talks to the nodes. A release goes out before the next one's grant.
func TestLine(t *testing.T) {
	b := enrolled(t, 3)
	first := b.hold("x")
	w2, w3 := b.acquire("x"), b.acquire("x")
	b.advance(time.Second)
	if len(b.take(node.Grant)) != 0 {
		t.Fatal("the nodes were asked for a name that this process holds")
	}
	b.log = nil
	id := b.c.lines["x"].holder.id
	first.Release(t.Context())
	b.c.Release(b.now(), id, b.call())
	b.perform()
	want := []string{"ended", "release 0", "grant 0", "release 1", "grant 1", "release 2", "grant 2"}
	if !slices.Equal(b.log, want) {
		t.Fatalf("order %v, want %v", b.log, want)
	}
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	l := b.got(w2)
	b.waits(w3)
	if l.Token() == first.Token() {
		t.Error("two tenures with one token")
	}
	// A waiter that leaves in between does not stop those after it.
	w4 := b.acquire("x")
	b.c.Cancel(b.now(), w3)
	b.perform()
	b.refused(w3, ReasonHeld)
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(w4)
}

// TryAcquire does not queue, and does not split the votes of its own process.
func TestTryBehindOthers(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	w := b.acquire("x", func(w *Request) { w.Once, w.Attempts = true, 1 })
	if len(b.take(node.Grant)) != 0 {
		t.Fatal("an attempt beside the holder's")
	}
	for _, s := range b.take(node.Inspect) {
		b.say(s, node.OK, func(r *node.Reply) { r.Value, r.Left = string(l.Token()), time.Second })
	}
	if e := b.refused(w, ReasonHeld); node.OwnerOf(e.Answers[2].Value) != "me" {
		t.Errorf("held by %q", e.Answers[2].Value)
	}
}

// A TryAcquire that is only being told who holds the name ends with its context,
// and with the supervisor.
func TestTryBehindOthersEnds(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	once := func(w *Request) { w.Once, w.Attempts = true, 1 }
	w := b.acquire("x", once)
	b.c.Cancel(b.now(), w)
	b.perform()
	b.refused(w, ReasonHeld)
	w = b.acquire("x", once)
	b.c.Close(b.now())
	b.perform()
	b.refused(w, ReasonClosed)
}

// A tenure is forgotten also if its release found no room in the mailbox while a renewal was
// under way: when the release that is owed since has been answered.
func TestForgottenWithoutRoomForRelease(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewal := b.take(node.Renew)[0]
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	b.c.Unsent(b.now(), 0, b.take(node.Release)[0].cmd)
	b.say(renewal, node.OK)
	if b.c.tenures.len() != 1 || len(b.c.nodes[0].debts.owed) != 1 {
		t.Errorf("%d tenures, %d debts", b.c.tenures.len(), len(b.c.nodes[0].debts.owed))
	}
	b.advance(collectEvery)
	b.say(b.take(node.Release)[0], node.OK)
	if b.c.tenures.len() != 0 || len(b.c.nodes[0].debts.owed) != 0 || b.alarms() != 0 {
		t.Errorf("%d tenures, %d debts, %d alarms", b.c.tenures.len(), len(b.c.nodes[0].debts.owed), b.alarms())
	}
}

// A release is confirmed when a quorum is free, and is owed to a node that did not answer
// until it is enrolled again. A caller that waits no longer is told which nodes may keep the key.
func TestRelease(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	id := b.c.lines["x"].holder.id
	answer := b.call()
	b.c.Release(b.now(), id, answer)
	b.perform()
	releases := b.take(node.Release)
	b.say(releases[0], node.OK)
	if b.done(answer) {
		t.Fatal("confirmed by one node of three")
	}
	b.say(releases[1], node.Absent)
	if err := b.answer(answer); err != nil {
		t.Fatal(err)
	}
	b.say(releases[2], node.Unknown)
	if b.c.tenures.len() != 0 {
		t.Error("the tenure was not forgotten")
	}
	b.drop(2)
	b.take(node.Release)
	b.enrol(2)
	owed := b.take(node.Release)
	b.wantNodes(owed, 2)
	if owed[0].cmd.Token != releases[2].cmd.Token {
		t.Error("the release of another token")
	}
	b.say(owed[0], node.OK)
	if len(b.c.nodes[2].debts.owed) != 0 || b.alarms() != 0 {
		t.Error("the debt was not forgotten")
	}

	b.hold("y")
	answer = b.call()
	b.c.Release(b.now(), b.c.lines["y"].holder.id, answer)
	b.perform()
	releases = b.take(node.Release)
	b.say(releases[0], node.Unknown)
	b.say(releases[1], node.Unknown)
	b.waits(answer)
	b.c.StopWaiting(b.now(), releases[0].cmd.ID)
	b.perform()
	r := b.refused(answer, ReasonUnconfirmed)
	if len(r.Answers) != 3 || r.Left != b.c.terms.TTL {
		t.Fatalf("%+v, want the three nodes that may keep the key, and for how long", r)
	}
	for i, want := range []Verdict{VerdictUnreachable, VerdictUnreachable, VerdictSilent} {
		if a := r.Answers[i]; a.Verdict != want || (a.Err != nil) != (want == VerdictUnreachable) {
			t.Errorf("node %d: %+v", i, a)
		}
	}
}

// A node that missed the renewals for a shorter TTL may keep the longer one.
func TestReleaseBehindAShorterTTL(t *testing.T) {
	b := enrolled(t, 1)
	b.c.settings.MaxTTL *= 2
	b.hold("x")
	id := b.c.lines["x"].holder.id
	short := *b.c.terms
	short.TTL /= 2
	long, answer := b.c.terms.TTL, b.call()
	b.c.Extend(b.now(), id, &short, b.call())
	b.c.Release(b.now(), id, answer)
	b.perform()
	b.say(b.take(node.Release)[0], node.Unknown)
	b.c.StopWaiting(b.now(), id)
	b.perform()
	if r := b.refused(answer, ReasonUnconfirmed); r.Left != long {
		t.Errorf("%+v, want %v", r, long)
	}
}

// A renewal that is answered while the holder releases finds the lease over, and has it
// given back. The holder waits for a quorum nevertheless, and is told if there is none.
func TestReleaseBehindARenewal(t *testing.T) {
	for _, says := range []node.Status{node.OK, node.Unknown} {
		b := enrolled(t, 3)
		l := b.hold("x")
		id := b.c.lines["x"].holder.id
		b.advance(b.c.terms.RenewEvery)
		if err := l.Release(t.Context()); err != nil { // the supervisor does not know yet
			t.Fatal(err)
		}
		for _, s := range b.take(node.Renew) {
			b.say(s, node.OK)
		}
		releases := b.take(node.Release)
		b.say(releases[0], says)
		answer := b.call()
		b.c.Release(b.now(), id, answer)
		b.perform()
		if b.done(answer) {
			t.Fatal("confirmed by one node of three")
		}
		b.say(releases[1], says)
		b.c.StopWaiting(b.now(), id)
		b.perform()
		if r := b.answer(answer); (r == nil) != (says == node.OK) {
			t.Errorf("%+v after two nodes of three said %v", r, says)
		}
	}
}

// A debt ends by itself when the key must have expired, if the node had answered
// the grant; it is kept longer if not, because the grant may lie in a buffer.
func TestDebtsEnd(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unknown)
	}
	w := b.acquire("y")
	for _, s := range b.take(node.Grant) {
		b.say(s, node.Unknown)
	}
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unsent)
	}
	b.c.Cancel(b.now(), w)
	b.perform()
	b.drop(0)
	if n := len(b.c.nodes[0].debts.owed); n != 2 {
		t.Fatalf("%d debts, want 2", n)
	}
	b.advance(b.c.terms.TTL + time.Second)
	if n := len(b.c.nodes[0].debts.owed); n != 1 {
		t.Fatalf("%d debts after the TTL, want 1", n)
	}
	b.advance(owedFor)
	if n := len(b.c.nodes[0].debts.owed); n != 0 {
		t.Fatalf("%d debts at last, want none", n)
	}
}

// A renewal that was never answered may have given the key another TTL, or may yet: the
// release after it is owed for as long as one after such a grant.
func TestDebtBehindLateRenewal(t *testing.T) {
	b := enrolled(t, 1)
	b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	b.say(b.take(node.Renew)[0], node.Unknown)
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	b.say(b.take(node.Release)[0], node.Unsent)
	b.drop(0)
	b.advance(owedFor - time.Second)
	b.enrol(0)
	if n := len(b.take(node.Release)); n != 1 {
		t.Errorf("%d releases when the node was back, want 1", n)
	}
}

// However many releases are owed, they go out within moments of a node's return.
func TestManyDebts(t *testing.T) {
	b := enrolled(t, 1)
	b.drop(0)
	const n = 3*maxCollect + 7
	for i := range n {
		b.c.owe(b.now(), &tenure{id: uint64(1000 + i), key: "x", terms: b.c.terms, votes: newVotes(1), stages: &noStages}, 0)
	}
	b.enrol(0)
	got := 0
	for range 4 {
		sends := b.take(node.Release)
		if len(sends) > maxCollect {
			t.Fatalf("%d at once", len(sends))
		}
		got += len(sends)
		for _, s := range sends {
			b.say(s, node.OK)
		}
		b.advance(collectMore)
	}
	if got != n {
		t.Errorf("%d of %d went out", got, n)
	}
}

// An extension shortens at once and lengthens only when a quorum has answered; an
// answer to an earlier renewal counts for that one's TTL.
func TestExtend(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x", func(w *Request) { w.NoRenew = true })
	id := b.c.lines["x"].holder.id
	long := termsOf(9 * time.Second)
	short := termsOf(time.Second)
	answer := b.call()
	b.c.Extend(b.now(), id, long, answer)
	b.perform()
	first := b.take(node.Renew)
	b.say(first[0], node.OK)
	if b.done(answer) || l.Remaining() > b.c.terms.TTL {
		t.Fatal("longer by the word of one node of three")
	}
	b.c.Extend(b.now(), id, short, b.call())
	b.perform()
	b.wantNodes(b.take(node.Renew), 0) // the others have yet to answer the first
	b.say(first[1], node.OK)
	b.say(first[2], node.OK)
	b.wantNodes(b.take(node.Renew), 1, 2)
	if want := time.Second - short.Drift; l.Remaining() > want {
		t.Errorf("Remaining() = %v with a shorter renewal under way, want at most %v", l.Remaining(), want)
	}
	if b.done(answer) {
		t.Fatal("answered by renewals that were sent before it")
	}
}

// A renewal that was never answered may come late, when the node has promised more:
// it shortens that. So after an extension such a node is believed for the shorter TTL
// only, and renewed in time for it.
func TestLateShorterRenewal(t *testing.T) {
	for _, answered := range []node.Status{node.Unknown, node.OK, node.Unsent} {
		b := enrolled(t, 1)
		l := b.hold("x")
		b.advance(b.c.terms.RenewEvery)
		b.say(b.take(node.Renew)[0], answered)
		at := b.now()
		long := *termsOf(30 * time.Second)
		answer := b.call()
		b.c.Extend(b.now(), b.c.lastID, &long, answer)
		b.perform()
		b.say(b.take(node.Renew)[0], node.OK)
		if err := b.answer(answer); err != nil {
			t.Fatal(err)
		}
		want := long
		if answered == node.Unknown {
			want.TTL, want.RenewEvery = b.c.terms.TTL, b.c.terms.RenewEvery
		}
		if got := l.Remaining(); got != want.TTL-want.Drift {
			t.Errorf("%v: it is believed for %v, want %v", answered, got, want.TTL-want.Drift)
		}
		renewals := 0
		for b.now() < at.Add(long.RenewEvery) {
			b.advance(100 * time.Millisecond)
			for _, s := range b.take(node.Renew) {
				renewals++
				b.say(s, node.OK)
			}
		}
		if !l.Valid() || renewals < int(long.RenewEvery/want.RenewEvery)-1 {
			t.Errorf("%v: Err() = %v after %d renewals", answered, l.Err(), renewals)
		}
		// So late it does not come any more.
		for b.now() < at.Add(owedFor+long.RenewEvery) {
			b.advance(100 * time.Millisecond)
			for _, s := range b.take(node.Renew) {
				b.say(s, node.OK)
			}
		}
		if got := l.Remaining(); got < long.TTL-long.RenewEvery-long.Drift-time.Second {
			t.Errorf("%v: it is believed for %v in the end", answered, got)
		}
	}
}

// An extension to a shorter TTL shortens with the first renewal that goes out for it,
// even if that goes out later.
func TestShortenedByARetry(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	early := b.take(node.Renew)[0]
	short := termsOf(time.Second)
	b.c.Extend(b.now(), b.c.lastID, short, b.call())
	b.perform()
	b.say(early, node.Unknown)
	for len(b.sent) == 0 {
		b.advance(10 * time.Millisecond)
	}
	if got, most := l.Remaining(), short.TTL-short.Drift; got > most {
		t.Errorf("it is believed for %v while a renewal for less is under way, want %v at most", got, most)
	}
}

// A renewal that was under way when the lease was extended counts as such a one until
// it is answered.
func TestExtendBehindARenewal(t *testing.T) {
	for _, answered := range []node.Status{node.Unknown, node.OK} {
		b := enrolled(t, 1)
		l := b.hold("x")
		b.advance(b.c.terms.RenewEvery)
		early := b.take(node.Renew)[0]
		long := *termsOf(30 * time.Second)
		answer := b.call()
		b.c.Extend(b.now(), b.c.lastID, &long, answer)
		b.perform()
		b.say(early, answered)
		b.advance(l.Remaining() / 4)
		b.say(b.take(node.Renew)[0], node.OK)
		want := long.TTL
		if answered == node.Unknown {
			want = b.c.terms.TTL
		}
		if got := l.Remaining(); got > want || got < want-want/2 {
			t.Errorf("%v: it is believed for %v, want %v", answered, got, want)
		}
	}
}

// The caller of an extension is told when the lease has it, not before.
func TestExtendedBeforeAnswered(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	long := termsOf(9 * time.Second)
	b.c.Extend(b.now(), b.c.lastID, long, b.call())
	b.perform()
	renewals := b.take(node.Renew)
	b.say(renewals[0], node.OK)
	b.log = nil
	b.say(renewals[1], node.OK)
	if want := []string{"renewed", "answered"}; !slices.Equal(b.log, want) {
		t.Errorf("%v, want %v", b.log, want)
	}
}

// WithMaxHold ends a lease that is renewed as it should be.
func TestMaxHold(t *testing.T) {
	b := enrolled(t, 1)
	l := b.hold("x", func(w *Request) { w.MaxHold = 5 * time.Second })
	for range 49 {
		b.advance(100 * time.Millisecond)
		for _, s := range b.take(node.Renew) {
			b.say(s, node.OK)
		}
	}
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	b.advance(100 * time.Millisecond)
	if !errors.Is(l.Err(), lease.ErrMaxHold) {
		t.Fatalf("Err() = %v", l.Err())
	}
}

// Close ends the leases first, then tells the nodes, and is done with the last
// answer.
func TestCoreClose(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	w := b.acquire("x")
	v := b.acquire("y")
	grants := b.take(node.Grant)
	b.log = nil
	b.c.Close(b.now())
	b.perform()
	if !errors.Is(l.Err(), lease.ErrClosed) || b.log[0] != "ended" {
		t.Fatalf("Err() = %v, order %v", l.Err(), b.log)
	}
	b.refused(w, ReasonClosed)
	b.refused(v, ReasonClosed)
	b.refused(b.acquire("z"), ReasonClosed)
	for _, s := range grants {
		b.say(s, node.OK)
	}
	releases := b.take(node.Release)
	if len(releases) != 6 {
		t.Fatalf("%d releases, want one for each name and node", len(releases))
	}
	for _, s := range releases {
		if b.c.Drained() {
			t.Fatal("drained before the last answer")
		}
		b.say(s, node.OK)
	}
	if !b.c.Drained() {
		t.Fatal("not drained")
	}
}

// A caller that closes with a context that is done may be heard twice in one wake-up: that
// nothing can be sent any more comes first then.
func TestCutBeforeClose(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	w := b.acquire("x")
	b.c.Cut(b.now())
	b.perform()
	for _, s := range b.take(node.Release) {
		b.say(s, node.Unsent)
	}
	b.c.Close(b.now())
	b.perform()
	b.refused(w, ReasonClosed)
	if !errors.Is(l.Err(), lease.ErrClosed) || len(b.take(node.Grant)) > 0 {
		t.Errorf("Err() = %v, or the next one of the line has tried", l.Err())
	}
	if n := b.c.UnreleasedInAll(); n != 1 || !b.c.Drained() {
		t.Errorf("%d names may stay taken, drained %v", n, b.c.Drained())
	}
}

// Waiters that found no quorum try again as soon as a node comes back.
func TestHurryWhenANodeReturns(t *testing.T) {
	b := enrolled(t, 3)
	b.drop(0)
	b.drop(1)
	b.acquire("x")
	for _, s := range b.take(node.Grant) {
		if s.node == 2 {
			b.say(s, node.OK)
		} else {
			b.say(s, node.Unsent)
		}
	}
	b.enrol(0)
	b.advance(b.c.settings.RetryMin / 4)
	b.wantNodes(b.take(node.Grant), 0, 1, 2)
}

// Pauses are jittered between the bounds, and grow.
func TestPause(t *testing.T) {
	c := New(defaults(1, time.Second))
	for tries := range 100 {
		p := c.pauseAfter(tries)
		lo, hi := c.settings.RetryMin, c.settings.RetryMax
		for i := 1; i < min(tries, 5); i++ {
			lo, hi = lo+lo/2, hi+hi/2
		}
		if p < lo || p > hi+1 {
			t.Fatalf("pause %v after %d attempts, want %v to %v", p, tries, lo, hi)
		}
	}
}

// The alarms come in order whatever is set, moved and cleared.
func TestAlarms(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		var h alarms
		all := make([]tenure, 50)
		for range 500 {
			a := &all[r.IntN(len(all))]
			if r.IntN(3) == 0 {
				h.clear(a)
			} else {
				h.set(a, clock.Instant(r.IntN(100)))
			}
		}
		last := clock.Instant(-1)
		set := 0
		for i := range all {
			if all[i].isSet() {
				set++
			}
		}
		if h.count != set {
			t.Fatalf("seed %d: %d alarms, want %d", seed, h.count, set)
		}
		for h.count > 0 {
			at := h.next()
			if at < last {
				t.Fatalf("seed %d: %d after %d", seed, at, last)
			}
			last = at
			if h.pop().bell().isSet() {
				t.Fatalf("seed %d: one that is due is still set", seed)
			}
		}
		if len(h.heap)+len(h.at) != 0 {
			t.Fatalf("seed %d: %d moments are left", seed, len(h.heap))
		}
	}
}

// renewAll lets an interval pass, and has every node renew whatever is due. It
// allocates nothing itself.
func (b *bench) renewAll() {
	c := b.c
	b.clock.Advance(c.terms.RenewEvery)
	now := b.now()
	for c.alarms.count > 0 && c.alarms.next() <= now {
		c.Tick(now)
		perform.All(now, c, len(c.nodes), agreeable{b})
	}
}

// An agreeable one has every node say yes to what it is sent.
type agreeable struct{ b *bench }

func (a agreeable) Send(i int, commands []node.Command) []node.Command {
	now := a.b.now()
	for _, cmd := range commands {
		a.b.c.hear(now, i, node.Reply{ID: cmd.ID, Op: cmd.Op, Status: node.OK})
	}
	return nil
}

func (a agreeable) Effect(_ clock.Instant, e *Effect) {
	a.b.leases[Slot(e.ID)].Renewed(e.Until, e.Grace)
}

// An extension during another one is done when a quorum has answered renewals that were
// sent since the second one was asked for.
func TestExtendTwice(t *testing.T) {
	b := enrolled(t, 3)
	b.hold("x")
	id := b.c.lines["x"].holder.id
	b.round(nil)
	first, second := b.call(), b.call()
	b.c.Extend(b.now(), id, b.c.terms, first)
	b.perform()
	early := b.take(node.Renew)
	b.say(to(early, 0), node.OK)
	b.c.Extend(b.now(), id, b.c.terms, second)
	b.perform()
	again := b.take(node.Renew)
	b.wantNodes(again, 0)
	b.say(to(early, 1), node.OK)
	b.say(to(early, 2), node.OK)
	rest := b.take(node.Renew)
	b.wantNodes(rest, 1, 2)
	b.waits(first)
	b.waits(second)
	b.say(to(rest, 1), node.OK)
	b.waits(second)
	b.say(to(again, 0), node.OK)
	if r := b.answer(first); r != nil {
		t.Errorf("%+v", r)
	}
	if r := b.answer(second); r != nil {
		t.Errorf("%+v", r)
	}
}

// One renewal round in the pure core: ns and allocations for 1,000 leases on five
// nodes.
func BenchmarkRenewalRound(bm *testing.B) {
	b := enrolled(bm, 5)
	const leases = 1000
	for i := range leases {
		b.hold(fmt.Sprintf("lease-%d", i))
	}
	b.renewAll()
	bm.ReportAllocs()
	bm.ResetTimer()
	for range bm.N {
		b.renewAll()
	}
	bm.ReportMetric(float64(bm.Elapsed().Nanoseconds())/float64(bm.N)/leases, "ns/lease")
}

// healAfter is how long a life of a node must have been known before it is healed.
func (b *bench) healAfter() time.Duration { return b.c.terms.Window + b.c.terms.Drift }

// restart has a node come back as another incarnation that has forgotten all.
func (b *bench) restart(i int, change ...func(*node.State)) {
	s := b.state()
	s.Life, s.LifeAt = b.c.nodes[i].state.Life+1, b.now()
	s.Grown = false
	delete(b.entries, i)
	for _, f := range change {
		f(&s)
	}
	b.c.Receive(b.now(), node.Batch{Node: i, State: s})
	b.perform()
}

// round renews on all nodes, and has each give the answer that says finds for it.
func (b *bench) round(says map[int]node.Status) {
	b.advance(b.c.terms.RenewEvery)
	b.answerAll(says)
}

// answerAll has each node give its answer, OK by default, to every renewal: also to those
// that a trial asks for because of them.
func (b *bench) answerAll(says map[int]node.Status) {
	for range 10 {
		asked := b.take(node.Renew)
		if len(asked) == 0 {
			return
		}
		for _, s := range asked {
			status, ok := says[s.node]
			if !ok {
				status = node.OK
			}
			b.say(s, status)
		}
	}
	b.t.Fatal("there is no end of renewals")
}

// A node that has restarted and forgotten keeps its vote until it had promised it,
// because the guard holds it back; and it is healed once every election that may
// have had its vote is over, not before.
func TestForgottenVoteCountsAndIsHealed(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.round(nil) // no regular renewal comes before the heal
	b.restart(0)
	b.restart(1)
	b.advance(b.healAfter() / 2) // it is early, and a renewal by hand asks
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, b.c.terms, b.call())
	b.perform()
	for _, s := range b.take(node.Renew) {
		b.say(s, []node.Status{node.Absent, node.Absent, node.OK}[s.node])
	}
	if err := l.Err(); err != nil {
		t.Fatalf("two nodes of three restarted: %v", err)
	}
	b.wantNodes(b.take(node.Heal))
	b.advance(b.healAfter()/2 - 1)
	b.wantNodes(b.take(node.Renew))
	b.advance(1)
	again := b.take(node.Renew)
	b.wantNodes(again, 0, 1)
	for _, s := range again {
		b.say(s, node.Absent)
	}
	heals := b.take(node.Heal)
	b.wantNodes(heals, 0, 1)
	if c := heals[0].cmd; c.Fence != l.Fence() || c.Token != string(l.Token()) || c.Life != 2 || c.TTL != b.c.terms.TTL {
		t.Errorf("healed by %+v", c)
	}
	for _, s := range heals {
		b.say(s, node.OK)
	}
	for range 10 {
		b.round(map[int]node.Status{2: node.Unknown})
	}
	if err := l.Err(); err != nil {
		t.Fatalf("held by the two that were healed: %v", err)
	}
}

// Without a guard a node that has forgotten may have given the name away: its vote
// does not count until it is healed.
func TestForgottenVoteWithoutGuard(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	b.restart(0, func(s *node.State) { s.Guarded, s.Grown = false, true })
	b.round(map[int]node.Status{0: node.Absent})
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	b.restart(1, func(s *node.State) { s.Guarded, s.Grown = false, true })
	b.round(map[int]node.Status{0: node.Absent, 1: node.Absent})
	if l.Err() == nil {
		t.Fatal("held by one node of three")
	}
}

// A deleted vote is healed a renewal interval later, and counts again only when a
// quorum of other nodes has answered renewals that were sent after it was gone.
func TestTrial(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	b.say(renewals[0], node.Absent)
	noticed := b.now()
	// The answers to renewals that were sent before it was noticed say nothing, but that
	// they may be asked again.
	for _, s := range renewals[1:] {
		b.say(s, node.OK)
	}
	tt := b.c.lines["x"].holder
	if x := tt.votes.trials()[0]; x.confirmed != 0 {
		t.Fatalf("confirmed by %b by answers to earlier renewals", x.confirmed)
	}
	again := b.take(node.Renew) // at once
	b.wantNodes(again, 1, 2, 3, 4)
	for _, s := range again {
		b.say(s, node.Unknown)
	}
	b.round(map[int]node.Status{0: node.Absent, 3: node.Unknown, 4: node.Unknown})
	b.wantNodes(b.take(node.Heal)) // two others have confirmed
	b.round(map[int]node.Status{0: node.Absent, 4: node.Unknown})
	heal := b.take(node.Heal)
	b.wantNodes(heal, 0)
	if b.now() < noticed.Add(b.c.terms.RenewEvery) {
		t.Fatal("healed before a renewal interval has passed")
	}

	// The second trial: others must have renewed after the node had the key again.
	b.advance(b.c.terms.RenewEvery)
	before := b.take(node.Renew)
	b.say(heal[0], node.OK)
	for _, s := range before {
		b.say(s, node.OK)
	}
	if tt.counting().has(0) {
		t.Fatal("it counts by answers to earlier renewals")
	}
	renewals = b.take(node.Renew) // at once
	b.wantNodes(renewals, 1, 2, 3, 4)
	b.say(to(renewals, 1), node.OK)
	b.say(to(renewals, 2), node.OK)
	if tt.counting().has(0) {
		t.Fatal("it counts by the word of two others")
	}
	b.say(to(renewals, 3), node.OK)
	if !tt.counting().has(0) {
		t.Fatal("it does not count by the word of three others")
	}
	b.say(to(renewals, 4), node.OK)
	// Now it can stand in for others.
	b.round(map[int]node.Status{1: node.Absent, 2: node.Absent})
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
}

// An operator that deletes the key on a majority need not reach the nodes all at once: within a
// renewal interval is enough, however soon each of them tells that it has changed.
func TestDeletedOneAfterTheOther(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	for gone := 1; gone <= 3; gone++ {
		for range 3 { // that it has changed is told, and told again
			b.advance(b.c.terms.RenewEvery / 12)
			b.c.Hear(b.now(), node.Wake{Node: gone - 1, Key: "x"})
			b.perform()
			for len(b.sent) > 0 { // everything else is answered at once, and first
				s := b.sent[len(b.sent)-1]
				b.sent = b.sent[:len(b.sent)-1]
				switch {
				case s.cmd.Op == node.Heal:
					t.Fatalf("node %d is healed before the last was reached", s.node)
				case s.cmd.Op == node.Renew && s.node < gone:
					b.say(s, node.Absent)
				default:
					b.say(s, node.OK)
				}
			}
		}
	}
	if !errors.Is(l.Err(), lease.ErrRevoked) {
		t.Errorf("Err() = %v, want %v", l.Err(), lease.ErrRevoked)
	}
}

// Keys were deleted on a majority, a rival came and went: the holder heals one after
// the other faster than it learns of the third, and must end lost all the same.
func TestHealingDoesNotHideARevocation(t *testing.T) {
	b := enrolled(t, 5)
	l := b.hold("x")
	b.advance(b.c.terms.RenewEvery)
	renewals := b.take(node.Renew)
	b.say(renewals[3], node.OK)
	b.say(renewals[4], node.OK)
	b.say(renewals[0], node.Absent)
	b.say(renewals[1], node.Absent)
	b.advance(b.c.terms.RenewEvery)
	for _, s := range b.take(node.Renew) {
		b.say(s, map[bool]node.Status{true: node.Absent, false: node.OK}[s.node < 2])
	}
	b.wantNodes(b.take(node.Heal)) // node 2 has not confirmed
	if err := l.Err(); err != nil {
		t.Fatalf("with three votes of five: %v", err)
	}
	for range 2 { // somebody else has healed nodes 0 and 1; node 2 is slow
		b.advance(b.c.terms.RenewEvery / 8)
		b.c.renewAnd(b.now(), b.c.lines["x"].holder, all(5))
		b.perform()
		again := b.take(node.Renew)
		b.wantNodes(again, 0, 1, 3, 4)
		for _, s := range again {
			b.say(s, node.OK)
		}
	}
	b.say(renewals[2], node.Absent)
	if !errors.Is(l.Err(), lease.ErrRevoked) {
		t.Fatalf("Err() = %v", l.Err())
	}
}

// A node that never had the lease is given it, on probation.
func TestNodeThatNeverHadIt(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x")
	for _, s := range b.take(node.Grant) {
		if s.node == 2 {
			b.say(s, node.Unsent)
		} else {
			b.say(s, node.OK)
		}
	}
	l := b.got(w)
	b.round(map[int]node.Status{2: node.Absent})
	heals := b.take(node.Heal)
	b.wantNodes(heals, 2)
	b.say(heals[0], node.OK)
	if b.c.lines["x"].holder.counting().has(2) {
		t.Fatal("it counts at once")
	}
	b.round(nil)
	b.round(map[int]node.Status{0: node.Unknown, 1: node.OK, 2: node.OK})
	for range 5 {
		b.round(map[int]node.Status{0: node.Unknown})
	}
	if err := l.Err(); err != nil {
		t.Fatalf("held by node 1 and the one that was healed: %v", err)
	}
	// The release goes to it too.
	b.c.Release(b.now(), b.c.lines["x"].holder.id, b.call())
	b.perform()
	b.wantNodes(b.take(node.Release), 0, 1, 2)
}

// A lapsed vote of another incarnation has to wait for its healing as well.
func TestLapsedAndForgottenWaits(t *testing.T) {
	b := enrolled(t, 3)
	l := b.hold("x")
	for range 4 {
		b.round(map[int]node.Status{0: node.Unknown}) // unreachable for more than the TTL
	}
	b.restart(0)
	b.c.Extend(b.now(), b.c.lines["x"].holder.id, b.c.terms, b.call())
	b.perform()
	b.say(to(b.take(node.Renew), 0), node.Absent)
	b.wantNodes(b.take(node.Heal))
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
}

// Young nodes are asked for no grant, and named with how long that will last.
func TestYoungNodesAreNotAsked(t *testing.T) {
	b := enrolled(t, 5)
	b.restart(0)
	b.restart(1)
	w := b.acquire("x")
	grants := b.take(node.Grant)
	b.wantNodes(grants, 2, 3, 4)
	for _, s := range grants {
		b.say(s, node.OK)
	}
	b.got(w)

	b.restart(2)
	w = b.acquire("y", func(w *Request) { w.Attempts = 1 })
	b.wantNodes(b.take(node.Grant))
	e := b.refused(w, ReasonNoQuorum)
	if a := e.Answers[0]; a.Verdict != VerdictGuarded || a.Left != b.c.settings.Window(b.c.settings.MaxTTLCap) {
		t.Errorf("answer %v", a)
	}
	// A waiter tries as soon as enough of them are old.
	w = b.acquire("z")
	for range 40 {
		b.advance(b.c.settings.Window(b.c.settings.MaxTTLCap) / 40)
	}
	for _, s := range b.take(node.Grant) {
		b.say(s, node.OK)
	}
	b.got(w)
}

// A node that turns out to be young when a grant has been sent to its actor, which
// refuses that, is said to be young and not to be unreachable.
func TestYoungWhenAsked(t *testing.T) {
	b := enrolled(t, 3)
	w := b.acquire("x", func(w *Request) { w.Attempts = 1 })
	grants := b.take(node.Grant)
	for i := range 2 {
		b.restart(i)
		b.say(to(grants, i), node.Unsent)
	}
	e := b.refused(w, ReasonNoQuorum)
	if a := e.Answers[0]; a.Verdict != VerdictGuarded || a.Left != b.c.settings.Window(b.c.settings.MaxTTLCap) {
		t.Errorf("answer %+v", a)
	}
}

// That a node has gone is told once, and a connection that is made anew at the first attempt, to
// the same data, is ordinary.
func TestNodesAreTold(t *testing.T) {
	b := newBench(t, 1)
	hear := func(change func(s *node.State)) string {
		s := b.state()
		change(&s)
		b.c.Receive(b.now(), node.Batch{State: s})
		var told []string
		for _, e := range b.c.effects {
			switch e.Kind {
			case EffectNodeUp:
				told = append(told, "up")
			case EffectNodeDown:
				told = append(told, fmt.Sprint("down: ", e.Err))
			case EffectReconnected:
				told = append(told, fmt.Sprint("anew: ", e.Err))
			}
		}
		b.perform()
		return strings.Join(told, ", ")
	}
	gone := func(err error, reconnecting bool) func(*node.State) {
		return func(s *node.State) { s.Enrolled, s.Err, s.Reconnecting = false, err, reconnecting }
	}
	cut := errors.New("cut")
	for i, step := range []struct {
		change func(*node.State)
		want   string
	}{
		{gone(nil, false), ""},
		{gone(errDown, false), "down: connection refused"},
		{gone(cut, false), ""},
		{func(*node.State) {}, "up"},
		{gone(cut, true), ""},
		{func(*node.State) {}, "anew: cut"},
		{gone(cut, true), ""},
		{gone(errDown, false), "down: connection refused"},
		{gone(cut, false), ""},
		{func(*node.State) {}, "up"},
		{gone(cut, true), ""},
		{func(s *node.State) { s.Life = 2 }, "down: cut, up"}, // it has lost its data
	} {
		if got := hear(step.change); got != step.want {
			t.Errorf("step %d: told %q, want %q", i, got, step.want)
		}
	}
}
