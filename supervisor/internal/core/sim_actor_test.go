package core

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A simActor does what node.Actor promises, over connections whose bytes may be
// late or lost. It follows actor.go and session.go step by step; what it leaves out
// is what the core cannot see: NOSCRIPT and malformed answers.
type simActor struct {
	c     *simClient
	n     *simNode
	state node.State
	index int // of the core; negative if the process was not given this node

	mailbox []node.Command
	groups  []simRenewals // in the commands that were taken last
	rest    []string      // names whose hand-over is to go on
	room    int
	pumping bool
	watched bool // a timer runs for the pipeline under way, or an earlier one

	conn    *simConn // nil while there is none
	attempt *simConn // to make one
	asked   *simConn // an answer over it is overdue, and one after that is waited for
	hold    bool     // commands wait for the attempt
	pipe    *simPipe // under way
	slow    time.Duration
	slowAt  clock.Instant // roughly as in node's patience: it counts half after a period

	life     string // the server's incarnation, and since when
	known    string // the identity of this node's data, or what it is to be
	grown    bool
	age      time.Duration
	fails    int
	brokeAt  time.Duration // when the latest enrolment ended, or failed
	used     clock.Instant
	timeAt   time.Duration            // when the time was read that the node has told last, in true time
	signedAt time.Duration            // when our entry was sent last, in true time
	signed   node.Command             // that
	read     *simRead                 // which entries the node has told; nil if none in this life
	heard    map[string]time.Duration // since when it has told each of them, in true time
	stealthy bool                     // the client library reconnects by itself
	listener simListener

	// The way to the node.
	cutUntil  time.Duration
	slowUntil time.Duration
	slowBy    time.Duration
	lateness  time.Duration // of some bytes
	parked    time.Duration // until when they all wait at the sender; it may change
	waiting   []func()      // they
}

// A simConn is one connection and its enrolment.
type simConn struct {
	boot   int
	named  bool // with this enrolment's nonce
	closed bool // by the client
	dead   bool // the network drops everything
	lost   error
	marker string // what it must still say after every pipeline; "" without guard
	proved bool
	lates  int // how often an answer was overdue
	begun  clock.Instant

	there, back time.Duration // when the latest bytes arrive: they stay in order
}

// A simRenewals is a group whose members were taken out of it: each is played as a renewal of its own,
// and others may come in between.
type simRenewals struct {
	id       uint64
	from, to int // within the replies
}

type simPipe struct {
	conn     *simConn
	life     string // of the node, when it was sent
	boot     int
	commands []node.Command
	replies  []node.Reply
	own      int      // how many of the first commands are the actor's
	rest     []string // names whose hand-over is to go on
	live     []int
	few      [4]int // room for live
	sent     clock.Instant
	sentAt   time.Duration // the same in true time
	patience time.Duration // for how long it is waited for
	withTime bool
	read     *simRead
	tells    []*simLease // whose key the node does not have any more

	step     int
	half     bool // the SET of a grant is done, the rest is not
	stranger bool
	time     time.Duration // of the node, told before all that was done; 0 if it was not
	timeAt   time.Duration // then, in true time
	marker   string
}

var (
	errReset    = errors.New("connection closed by the node")
	errDial     = errors.New("connection refused")
	errOverdue  = errors.New("no answer in time")
	errForgot   = errors.New("the node has lost its marker")
	errStranger = errors.New("another connection answered")
	errUnsent   = errors.New("not sent")
)

const (
	simHeartbeat = 10 * time.Second
	simLastPause = 250 * time.Millisecond
	// simGrownAfter is how much longer than the window a life must have lasted, by the
	// node's clock, for it to count as grown although nobody has said so.
	simGrownAfter = time.Hour
)

func (a *simActor) trySend(cmd node.Command) bool {
	if cmd.Op == node.Enqueue {
		a.listener.wanted = true
		a.listen()
	}
	waiting := len(apart(a.mailbox))
	if (cmd.Op == node.Grant || cmd.Op == node.Enqueue || cmd.Op == node.Claim) && waiting >= (a.room+1)/2 || waiting >= a.room {
		return false
	}
	a.mailbox = append(a.mailbox, cmd)
	if cmd.Op == node.Sign && cmd.ID != relayed {
		a.signedAt, a.signed = a.c.w.now, cmd
	}
	a.wake()
	return true
}

func (a *simActor) wake() {
	if a.pumping || len(a.mailbox)+len(a.rest) == 0 || a.pipe != nil || a.hold {
		return
	}
	a.pumping = true
	a.c.after(a.c.w.upTo(20*time.Microsecond), func() {
		a.pumping = false
		if len(a.mailbox)+len(a.rest) > 0 && a.pipe == nil && !a.hold {
			a.handle()
		}
	})
}

// handle answers what is in the mailbox, by a pipeline if there is a connection.
func (a *simActor) handle() {
	take := len(a.mailbox)
	if take > 1 && a.c.w.chance(0.1) {
		take = 1 + a.c.w.rand.IntN(take) // the rest came a moment later
	}
	commands := a.takeApart(a.mailbox[:take])
	a.mailbox = append(a.mailbox[:0], a.mailbox[take:]...)
	defer a.wake()
	if a.conn != nil && a.conn.lost != nil {
		a.lose(a.conn.lost, nil)
	}
	own := len(a.rest)
	for i, name := range a.rest {
		commands = slices.Insert(commands, i, node.Command{Op: node.Release, Name: name, Token: "nobody's", By: clock.Never})
	}
	a.rest = nil
	replies := make([]node.Reply, len(commands))
	for i, cmd := range commands {
		replies[i] = node.Reply{ID: cmd.ID, Op: cmd.Op, Status: node.Unsent, Err: errUnsent}
	}
	if a.conn == nil {
		a.tell(replies)
		return
	}
	now := a.c.Now()
	p := &simPipe{commands: commands, replies: replies, own: own}
	live := p.few[:0]
	for _, cmd := range commands {
		if cmd.Op == node.Sign && cmd.Grown && cmd.Life == a.state.Life && now <= cmd.By {
			a.grown, a.state.Grown = true, true
		}
	}
	for i, cmd := range commands {
		switch {
		case now > cmd.By:
		case (cmd.Op == node.Grant || cmd.Op == node.Claim) && !a.state.Grown:
			a.c.w.stats.young++
		case (cmd.Op == node.Heal || cmd.Op == node.Sign && cmd.Grown) && cmd.Life != a.state.Life:
			a.c.w.stats.otherLife++
		default:
			replies[i].Status, replies[i].Err = node.Unknown, nil
			live = append(live, i)
		}
	}
	if len(live) == 0 {
		a.tell(replies)
		return
	}
	p.live = live
	a.exchange(p)
}

// takeApart returns the commands with a renewal for each member of a group.
func (a *simActor) takeApart(commands []node.Command) (all []node.Command) {
	a.groups = a.groups[:0]
	for k := range commands {
		from := len(all)
		all = append(all, apart(commands[k:k+1])...)
		if commands[k].Group != nil {
			a.groups = append(a.groups, simRenewals{commands[k].ID, from, len(all)})
			a.c.w.stats.groups++
		}
	}
	return all
}

// putTogether returns the replies with one for each group.
func (a *simActor) putTogether(replies []node.Reply) (all []node.Reply) {
	next := 0
	for _, g := range a.groups {
		all = append(all, replies[next:g.from]...)
		r := node.Reply{ID: g.id, Op: node.RenewAll, Status: node.OK}
		var but node.Exceptions
		for k, one := range replies[g.from:g.to] {
			if one.Status != node.OK {
				but = append(but, node.Exception{Member: k, Status: one.Status, Value: one.Value, Err: one.Err})
				r.But = &but
			}
		}
		all, next = append(all, r), g.to
	}
	a.groups = a.groups[:0]
	return append(all, replies[next:]...)
}

// exchange sends a pipeline.
func (a *simActor) exchange(p *simPipe) {
	w := a.c.w
	now := a.c.Now()
	a.pipe = p
	a.used = now
	p.conn, p.sent, p.sentAt, p.life = a.conn, now, w.now, a.life
	p.boot, p.patience = p.conn.boot, a.patience()
	p.withTime = p.withTime || now.Sub(a.state.OffsetAt) >= simHeartbeat ||
		slices.ContainsFunc(p.live, func(i int) bool { return p.commands[i].Op == node.Grant })
	a.watch()
	late := false
	for _, i := range p.live {
		cmd := &p.commands[i]
		w.stats.sent[cmd.Op]++
		late = late || w.aimAtSend(a, cmd)
	}
	slow := w.chance(0.1)
	a.there(p.conn, late, func() { a.execute(p, slow) })
}

// longest is for how long an answer is waited for at most.
func (a *simActor) longest() time.Duration { return max(a.c.cfg.TTL/4, a.c.w.timeout) }

// slowest is how slow the node has been lately.
func (a *simActor) slowest() time.Duration {
	return a.slow >> min(63, a.c.Now().Sub(a.slowAt)/(8*a.longest()))
}

// patience is for how long an answer is waited for now.
func (a *simActor) patience() time.Duration {
	return min(max(a.c.w.timeout, 2*a.slowest()), a.longest())
}

// took hears how long an answer has taken.
func (a *simActor) took(trip time.Duration) {
	if trip >= a.slowest() {
		a.slow, a.slowAt = min(trip, a.longest()), a.c.Now()
	}
}

// reserve is for how long the node reserves a name.
func (a *simActor) reserve() time.Duration {
	return a.c.cfg.Reserve() + max(0, 2*(a.slowest()-a.c.w.timeout))
}

// watch waits no longer for a pipeline that is not answered in time.
func (a *simActor) watch() {
	if a.watched {
		return
	}
	a.watched = true
	a.c.atLocal(a.pipe.sent.Add(a.pipe.patience), func() {
		a.watched = false
		p := a.pipe
		switch {
		case p == nil:
		case a.c.Now().Sub(p.sent) < p.patience:
			a.watch() // it is another one by now
		default:
			a.c.w.stats.timeouts++
			a.overdue(p)
		}
	})
}

// overdue answers a pipeline without knowing, and has the node say something after it. If it
// does, the connection goes on.
func (a *simActor) overdue(p *simPipe) {
	c, w, s := a.c, a.c.w, p.conn
	for _, i := range p.live {
		r := &p.replies[i]
		*r = node.Reply{ID: r.ID, Op: r.Op, Err: errOverdue}
		w.stats.answers[r.Op][r.Status]++
	}
	a.pipe, a.conn, a.asked, a.rest, a.brokeAt = nil, nil, s, nil, w.now
	s.lates++
	no := s.lates
	a.state.Enrolled, a.state.Err, a.state.Overdue = false, errOverdue, true
	w.aimAtOverdue(a.n)
	a.tell(p.replies[p.own:])
	a.try(true)
	sent, marker, at := c.Now(), "", time.Duration(0)
	c.atLocal(sent.Add(a.longest()), func() {
		if a.asked == s && s.lates == no {
			a.took(p.patience)
			a.stopAsking()
		}
	})
	var ask func()
	ask = func() {
		a.n.do(s.boot, func() {
			if p.step <= len(p.live)+1 && !p.stranger {
				w.after(w.upTo(time.Millisecond), ask) // the node has not done all that is ahead of it
				return
			}
			marker, at = a.n.text(simOwn.Marker), a.n.clock.now()
			a.back(s, func() {
				switch {
				case a.asked != s:
				case p.stranger || w.guard && marker != s.marker:
					a.stopAsking()
				default:
					a.took(max(p.patience, c.Now().Sub(sent)))
					a.resume(s, sent, at)
				}
			})
		}, func() { a.back(s, func() { a.lost(s, errReset) }) })
	}
	a.there(s, false, ask)
}

// resume goes on with a connection over which an answer was overdue.
func (a *simActor) resume(s *simConn, sent clock.Instant, at time.Duration) {
	w := a.c.w
	w.stats.resumed++
	if a.attempt != nil {
		a.attempt.closed = true
	}
	a.conn, a.asked, a.attempt, a.hold = s, nil, nil, false
	a.state.Enrolled, a.state.Err, a.state.Overdue = true, nil, false
	if w.guard {
		a.state.MarkedAt = sent
	}
	a.measured(at, sent, a.c.Now())
	a.listen()
	a.tell(nil)
	a.wake()
	a.used = sent
	a.beat(s)
}

// stopAsking gives up the connection over which an answer is overdue.
func (a *simActor) stopAsking() {
	if a.asked != nil {
		a.asked.closed = true
		a.asked = nil
		a.listener.end()
	}
}

// holdFor has commands wait for an attempt, for so long at most.
func (a *simActor) holdFor(s *simConn, d time.Duration) {
	a.hold = true
	a.c.atLocal(a.c.Now().Add(d), func() {
		if a.attempt == s && a.hold {
			a.hold = false
			a.wake()
		}
	})
}

// there carries bytes to the node. They may come late, also when the client has cut
// the connection meanwhile, or never.
func (a *simActor) there(s *simConn, late bool, arrive func()) {
	w := a.c.w
	if s.dead {
		return
	}
	at := w.now + a.delay()
	if a.cutUntil > w.now {
		if w.chance(0.5) {
			s.dead = true
			return
		}
		at = a.cutUntil + a.delay()
	}
	if late || a.lateness > 0 && w.chance(0.3) {
		at += w.upTo(max(a.lateness, w.maxTTL))
	}
	if !w.calm { // then all late bytes have come
		at = min(at, w.faults.end)
	}
	s.there = max(at, s.there)
	if a.parked <= w.now {
		w.after(s.there-w.now, arrive)
		return
	}
	a.waiting = append(a.waiting, arrive)
}

// park has all bytes wait at the sender up to an instant.
func (a *simActor) park(until time.Duration) {
	w := a.c.w
	a.parked = min(until, w.faults.end)
	w.after(a.parked-w.now, func() {
		if w.now < a.parked {
			return // it was changed
		}
		waiting := a.waiting
		a.waiting = nil
		d := a.delay()
		for _, arrive := range waiting {
			w.after(d, arrive)
			d += w.upTo(50 * time.Microsecond)
		}
	})
}

// back carries bytes from the node.
func (a *simActor) back(s *simConn, arrive func()) {
	w := a.c.w
	at := w.now + a.delay()
	if a.cutUntil > w.now {
		at = a.cutUntil + a.delay()
	}
	s.back = max(at, s.back)
	a.c.after(s.back-w.now, func() {
		if !s.closed {
			arrive()
		}
	})
}

func (a *simActor) delay() time.Duration {
	w := a.c.w
	d := 100*time.Microsecond + w.upTo(time.Millisecond)
	if a.slowUntil > w.now {
		d += w.upTo(a.slowBy)
	}
	return d
}

// execute runs a pipeline on the node, command by command. Other clients' may come
// in between, and so may the end of the process.
func (a *simActor) execute(p *simPipe, slow bool) {
	a.n.do(p.boot, func() {
		w := a.c.w
		n := a.n
		if p.conn.closed {
			w.stats.lateBytes++
		}
		for p.step <= len(p.live)+1 {
			switch {
			case p.step == 0:
				if p.withTime {
					a.timed(p, n.clock.now())
				}
				p.step++
			case p.step <= len(p.live):
				if a.command(p, p.live[p.step-1]) {
					p.step++
				}
			default:
				p.marker = n.text(simOwn.Marker)
				p.step++
			}
			if slow && p.step <= len(p.live)+1 && w.chance(0.4) {
				w.after(w.upTo(4*time.Millisecond), func() { a.execute(p, true) })
				return
			}
		}
		if w.changed {
			w.changed = false
			w.checkKept()
		}
		w.checkStranded()
		a.back(p.conn, func() { a.answered(p) })
	}, func() {
		if a.stealthy && p.step == 0 && a.n.up && !p.conn.closed && !p.stranger {
			// The library has dialled again, and sends it to the server that is there now.
			p.stranger = true
			p.boot = a.n.boot
			a.execute(p, slow)
			return
		}
		a.back(p.conn, func() { a.lost(p.conn, errReset) })
	})
}

// command runs one command, or the first half of a grant, and reports whether it
// is done.
func (a *simActor) command(p *simPipe, i int) bool {
	n, w := a.n, a.c.w
	cmd, r := &p.commands[i], &p.replies[i]
	t := n.begin()
	if cmd.Op == node.Sign {
		a.sign(t, p, cmd, r)
		return true
	}
	if cmd.Op == node.Advance {
		r.Status = node.Other
		if n.advance(t, cmd.Token, cmd.Fence, p.conn.marker) {
			r.Status = node.OK
		}
		return true
	}
	k := w.nameIndex(cmd.Name)
	if cmd.Op == node.Grant {
		p.half = !p.half
		return a.grant(t, p, k, cmd, r)
	}
	a.timed(p, t.Now)
	was := simBefore{stands: n.queue(t, k)}
	was.alive = cmd.Op == node.Enqueue && t.Alive(w.keys[k].Queue, a.c.channel, cmd.Token)
	was.value, _, _ = t.Peek(w.keys[k].Name)
	was.value, _ = node.TokenOf(was.value)
	w.swaps(n, k, was.value, cmd)
	w.deletes(n, k, was.value, cmd)
	if a.act(t, k, cmd, r) {
		w.stats.unfinished++
		p.rest = append(p.rest, cmd.Name)
	}
	a.note(t, p, k, was, cmd, r)
	if r.Status == node.OK && cmd.Op != node.Release && cmd.Op != node.Leave && p.conn.closed {
		w.leftTokens[cmd.Token] = leftLate // it came after its sender had given up on it
	}
	return true
}

// timed notes the time that the node tells, if it has told none in this pipeline.
func (a *simActor) timed(p *simPipe, at time.Duration) {
	if p.time == 0 {
		p.time, p.timeAt = at, a.c.w.now
	}
}

// grant is the two commands of one, and reports whether it is done.
func (a *simActor) grant(t *keyspace.Turn, p *simPipe, k int, cmd *node.Command, r *node.Reply) bool {
	n, w := a.n, a.c.w
	keys := &w.keys[k]
	if !p.half {
		r.Raised, _ = t.Propose(keys.Fence, float64(cmd.Fence))
		return true
	}
	r.Status = node.Other
	if set, _ := t.SetFree(keys.Name, cmd.Token, cmd.TTL.Milliseconds()); set {
		r.Status = node.OK
		n.noteSet(k, cmd.Token, p.sentAt)
		w.granted(n, k, cmd.Token)
		w.aimAtVote(a)
		if p.conn.closed {
			w.leftTokens[cmd.Token] = leftLate
		}
	}
	return false
}

// act has the node play the script, and decodes its answer. It reports whether its hand-over is
// to go on.
func (a *simActor) act(t *keyspace.Turn, k int, cmd *node.Command, r *node.Reply) (unfinished bool) {
	keys, inbox := &a.c.w.keys[k], a.c.channel
	ttl, fence := cmd.TTL.Milliseconds(), float64(cmd.Fence)
	reserve := int64(0) // a young node hands nothing over: what it has forgotten may be healed
	if a.state.Grown {
		reserve = a.reserve().Milliseconds()
	}
	var it keyspace.Answer
	var err error
	switch cmd.Op {
	case node.Inspect:
		it = t.Inspect(keys, cmd.Brief)
		describe(r, it)
	case node.Enqueue:
		it, err = t.Enqueue(keys, inbox, cmd.Token, keyspace.Enqueuing{
			Ticket: float64(cmd.Ticket), New: cmd.New, Reserve: reserve, Alive: a.c.cfg.Alive().Milliseconds(),
		})
		describe(r, it)
		r.Ticket, r.Until = keyspace.Whole(it.Ticket), time.Duration(it.Until)*time.Millisecond
	case node.Claim:
		it, err = t.Claim(keys, inbox, cmd.Token, ttl, fence)
		describe(r, it)
	case node.Leave:
		it.Says = t.Leave(keys, inbox, cmd.Token, reserve, false, 0)
	case node.Adopt:
		it, err = t.Adopt(keys, cmd.Token, cmd.Former, ttl, fence)
		describe(r, it)
	case node.Renew:
		it, err = t.Renew(keys.Name, cmd.Token, ttl)
	case node.Release:
		if cmd.Queued {
			it.Says = t.Leave(keys, inbox, cmd.Token, reserve, true, fence)
		} else {
			it.Says = t.Release(keys, cmd.Token, reserve, fence)
		}
	case node.Vacate:
		it.Says, err = t.Vacate(keys, inbox, cmd.Token, ttl)
	case node.Raise:
		var before float64
		it.Says, before, err = t.Raise(keys, cmd.Token, fence, ttl)
		r.Fence = keyspace.Whole(before)
	case node.Heal:
		it, err = t.Heal(keys, cmd.Token, ttl, fence, "")
	}
	if err != nil || it.Says == keyspace.Broken {
		a.c.w.fail("node %d: %v of %s: %+v, %v", a.n.id, cmd.Op, cmd.Token, it, err)
	}
	r.Status = [...]node.Status{keyspace.Absent: node.Absent, keyspace.Ours: node.OK, keyspace.Other: node.Other}[it.Says&^keyspace.Unfinished]
	return it.Says&keyspace.Unfinished != 0
}

// describe fills in what four scripts answer alike, and Claim and Adopt of the fence.
func describe(r *node.Reply, it keyspace.Answer) {
	r.Value, r.Holds = node.TokenOf(it.Value)
	r.Fence, r.Ahead, r.Raised = keyspace.Whole(it.Fence), it.Ahead, it.Raised
	r.Left = time.Duration(max(0, it.Left)) * time.Millisecond // -2 if there is no key; all others expire
}

// note notes what a script has done.
func (a *simActor) note(t *keyspace.Turn, p *simPipe, k int, was simBefore, cmd *node.Command, r *node.Reply) {
	n, w := a.n, a.c.w
	switch cmd.Op {
	case node.Claim:
		if r.Status == node.OK {
			n.noteSet(k, cmd.Token, p.sentAt)
			w.granted(n, k, cmd.Token)
			w.aimAtVote(a)
		}
		n.noteQueue(t, k, cmd, was)
	case node.Heal:
		if r.Status == node.OK && was.value != cmd.Token {
			n.noteSet(k, cmd.Token, p.sentAt)
		}
	case node.Adopt:
		if r.Status == node.OK {
			n.notBroken(k, cmd.Token)
		}
	case node.Renew:
		w.observes(n, p, k, cmd, r)
		if r.Status == node.OK {
			w.tell("node %d renews %s for %v", n.id, cmd.Token, cmd.TTL)
		}
	case node.Inspect:
		if t := a.c.core.tenures.get(cmd.ID); t != nil {
			w.looks(n, p, k, t.token, r)
		}
	case node.Vacate:
		if r.Status == node.OK {
			n.noteSet(k, node.LeftMark+cmd.Token, p.sentAt)
		}
		n.noteQueue(t, k, cmd, was)
	case node.Enqueue, node.Leave, node.Release:
		n.noteQueue(t, k, cmd, was)
	}
}

// sign is the script of that name.
func (a *simActor) sign(t *keyspace.Turn, p *simPipe, cmd *node.Command, r *node.Reply) {
	a.timed(p, t.Now)
	life := ""
	if cmd.Grown {
		life = p.life // of when it was sent: its bytes may come late
		a.c.w.tell("client %d says that node %d is grown", a.c.id, a.n.id)
	}
	all, err := t.Sign(&simOwn, cmd.Token, cmd.TTL.Milliseconds(), cmd.Age.Milliseconds(), life)
	if err != nil {
		a.c.w.fail("node %d: sign: %v", a.n.id, err)
	}
	r.Status, r.Value = node.OK, all
	a.reads(p, cmd, all)
}

// answered takes the answers to the pipeline.
func (a *simActor) answered(p *simPipe) {
	w := a.c.w
	if a.pipe != p {
		return
	}
	if p.stranger {
		w.stats.strangers++
		a.failed(p, errStranger)
		return
	}
	if w.guard && p.marker != p.conn.marker {
		w.stats.forgotten++
		if keyspace.MayGrow(p.marker, a.life) {
			w.stats.raised++
		}
		a.failed(p, errForgot)
		return
	}
	if w.guard {
		a.state.MarkedAt = p.sent
	}
	for _, l := range p.tells {
		l.told.add(a.n.id)
	}
	if p.read != nil {
		a.wasTold(p.read)
	}
	now := a.c.Now()
	if p.time != 0 {
		a.measured(p.time, p.sent, now)
		a.timeAt = p.timeAt
	}
	p.conn.proved = true
	a.fails = 0
	a.took(now.Sub(p.sent))
	a.pipe = nil
	for i := range p.replies {
		w.stats.answers[p.replies[i].Op][p.replies[i].Status]++
	}
	a.rest = p.rest
	a.tell(p.replies[p.own:])
	a.wake()
}

// failed answers a pipeline without knowing, and ends the enrolment.
func (a *simActor) failed(p *simPipe, err error) {
	for _, i := range p.live {
		r := &p.replies[i]
		*r = node.Reply{ID: r.ID, Op: r.Op, Err: err}
		a.c.w.stats.answers[r.Op][r.Status]++
	}
	a.pipe = nil
	a.lose(err, p.replies[p.own:])
}

// lost is told that a connection is no more.
func (a *simActor) lost(s *simConn, err error) {
	switch {
	case a.attempt == s:
		a.notEnrolled(err)
	case a.asked == s:
		a.stopAsking()
	case a.conn != s:
	case a.pipe != nil:
		a.failed(a.pipe, err)
	case a.c.w.chance(0.3):
		s.lost = err // it is noticed with the next command
		a.c.after(a.c.w.upTo(time.Millisecond), func() {
			if a.conn == s && a.pipe == nil {
				a.lose(err, nil)
			}
		})
	default:
		a.lose(err, nil)
	}
}

// lose ends the enrolment and begins another, at once unless it has been of no use.
func (a *simActor) lose(err error, replies []node.Reply) {
	s := a.conn
	s.closed = true
	a.listener.end()
	a.conn, a.rest, a.brokeAt = nil, nil, a.c.w.now
	a.state.Enrolled, a.state.Err, a.state.Overdue = false, err, false
	a.tell(replies)
	if s.proved || a.c.Now().Sub(s.begun) >= simLastPause {
		a.try(true)
	} else {
		a.pause()
	}
	a.wake()
}

func (a *simActor) pause() {
	d := 40 * time.Millisecond << min(a.fails, 3)
	d = min(d, simLastPause*2/3)
	a.fails++
	d = d/2 + a.c.w.upTo(d)
	a.c.atLocal(a.c.Now().Add(d), func() {
		if a.conn == nil && a.attempt == nil {
			a.try(false)
		}
	})
}

// A simIdentity is what an enrolment finds out.
type simIdentity struct {
	run, incarnation   string
	at                 time.Duration // the node's time
	sent, back, heard  clock.Instant
	marker, life, data string // "" without guard
	marked             clock.Instant
	age                time.Duration
	grown              bool
}

// try enrols: it dials, asks who the server is, and compares with the marker.
func (a *simActor) try(hold bool) {
	c, n, w := a.c, a.n, a.c.w
	s := &simConn{}
	a.attempt, a.hold = s, false
	if hold {
		a.holdFor(s, a.patience())
	}
	c.atLocal(c.Now().Add(a.longest()), func() {
		if a.attempt == s {
			a.notEnrolled(errOverdue)
		}
	})
	a.there(s, false, func() {
		if !n.up {
			a.back(s, func() { a.lost(s, errDial) })
			return
		}
		s.boot = n.boot
		a.back(s, func() {
			id := &simIdentity{sent: c.Now()}
			a.onNode(s, func() {
				s.named = true
				id.run, id.incarnation, id.at = n.run, n.incarnation(), n.clock.now()
				a.back(s, func() {
					id.back, id.heard = c.Now(), c.Now()
					s.begun = id.back
					if !w.guard {
						a.enrolled(s, id)
						return
					}
					a.mark(s, id)
				})
			})
		})
	})
}

// mark has the node say which life this is.
func (a *simActor) mark(s *simConn, id *simIdentity) {
	c, n := a.c, a.n
	id.marked = c.Now()
	a.onNode(s, func() {
		t := n.begin()
		e, err := t.Enrol(&simOwn, n.incarnation(), c.cfg.MaxTTL.Milliseconds(), a.known)
		if err != nil {
			c.w.fail("node %d: enrol: %v", n.id, err)
		}
		now := t.Now
		a.back(s, func() {
			id.heard = c.Now()
			id.marker, id.life, id.grown, id.data = e.Marker, e.Life, e.Grown, e.Identity
			_, since, _ := strings.Cut(e.Life, " ")
			us, err := strconv.ParseInt(since, 10, 64)
			if err != nil {
				c.w.fail("marker %q: %v", e.Marker, err)
			}
			id.age = max(0, now-time.Duration(us)*time.Microsecond)
			s.marker = e.Marker
			a.enrolled(s, id)
		})
	})
}

// onNode does something on the server that is being connected to.
func (a *simActor) onNode(s *simConn, do func()) {
	a.there(s, false, func() {
		a.n.do(s.boot, do, func() { a.back(s, func() { a.lost(s, errReset) }) })
	})
}

func (a *simActor) notEnrolled(err error) {
	a.attempt.closed = true
	a.attempt, a.hold, a.brokeAt = nil, false, a.c.w.now
	changed := a.state.Err != err
	a.state.Err, a.state.Overdue = err, err == errOverdue
	a.pause()
	if changed {
		a.tell(nil)
	}
	a.wake()
}

func (a *simActor) enrolled(s *simConn, id *simIdentity) {
	w := a.c.w
	a.stopAsking()
	a.conn = s
	a.attempt, a.hold = nil, false
	a.used = id.back
	life := id.life
	if !w.guard {
		life = id.incarnation
	}
	st := &a.state
	if st.Life == 0 || life != a.life {
		st.Life++
		a.read, a.heard = nil, nil
		st.LifeAt = id.heard
		a.life, a.age = life, id.age
		a.grown = id.age-simGrownAfter > a.c.core.settings.Window(a.c.cfg.MaxTTLCap)
	}
	a.grown = a.grown || id.grown
	st.Enrolled, st.Err, st.Overdue = true, nil, false
	st.Guarded, st.Grown = w.guard, a.grown || !w.guard
	st.Run, st.Identity, st.Age, st.MarkedAt = id.run, id.data, a.age, id.marked
	if w.guard {
		a.known = id.data
		mark, ok := keyspace.ReadMark(id.marker)
		change, isChange := node.ParseChange(mark.Change)
		if !ok || !isChange {
			w.fail("marker %q", id.marker)
		}
		st.MaxTTL = time.Duration(mark.MaxTTL) * time.Millisecond
		st.Change, st.Floor = change, mark.Floor
	}
	a.measured(id.at, id.sent, id.back)
	w.stats.enrolments++
	a.listen()
	w.tell("client %d enrolled at node %d: life %d, grown %v, %q", a.c.id, a.n.id, st.Life, st.Grown, id.marker)
	a.tell(nil)
	a.wake()
	a.beat(s)
}

// beat asks for the time if there was nothing else to ask for a while.
func (a *simActor) beat(s *simConn) {
	at := a.used.Add(simHeartbeat)
	if now := a.c.Now(); at <= now {
		at = now.Add(simHeartbeat)
	}
	a.c.atLocal(at, func() {
		if a.conn != s {
			return
		}
		if a.pipe == nil && a.c.Now().Sub(a.used) >= simHeartbeat {
			a.exchange(&simPipe{withTime: true})
		}
		a.beat(s)
	})
}

func (a *simActor) measured(at time.Duration, sent, back clock.Instant) {
	at = at.Truncate(time.Microsecond)
	middle := sent.Add(back.Sub(sent) / 2)
	a.state.Offset, a.state.OffsetAt = at-time.Duration(middle), middle
	a.state.Time, a.state.TimeSent, a.state.TimeBack = at, sent, back
}

func (a *simActor) tell(replies []node.Reply) {
	if a.index < 0 {
		return
	}
	b := node.Batch{Node: a.index, Replies: replies, State: a.state}
	if len(replies) > 0 {
		b.Replies = a.putTogether(replies)
	}
	if a.c.w.trace != nil {
		for _, r := range replies {
			a.c.w.tell("client %d, node %d: %v of %d: %v %v", a.c.id, a.n.id, r.Op, r.ID, r.Status, r.Err)
		}
	}
	c := a.c
	now := c.Now()
	c.core.Receive(now, b)
	c.perform(now)
	c.arm()
}
