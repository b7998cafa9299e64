package core

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
	"github.com/leasehold-go/leasehold/supervisor/internal/perform"
)

// A situation is everything at one moment of a search: real cores, the key spaces of
// servers, and what is on its way between them. It is never changed once it is complete;
// what follows from it shares the parts that are the same.
type situation struct {
	now     clock.Instant
	parties []*party
	servers []*server
	links   []*link // by party, then by node
	left    quota

	deleted   string // the token whose key was deleted by hand
	deletedOn int
	closedAt  clock.Instant // when a node of the former list was closed last; 0 if none was
	fence     uint64        // the highest of a lease that was won
}

// A quota is what may still happen.
type quota struct {
	slow                                                   int8 // pipelines that are under way when time passes
	restarts, flushes, cuts, deletions, refusals, releases int8
	relists                                                int8 // clients are given the next lists
	steps                                                  int8 // of finish: a node is closed, or opened
}

// A party is one client.
type party struct {
	core   *Core
	wishes int // acquisitions that it may still begin
	call   Call
	lease  belief
	role   simRole
}

// A belief is a lease as its holder knows it.
type belief struct {
	id          uint64 // 0 if there is none
	token       string
	fence       uint64
	until       clock.Instant
	interrupted clock.Instant // when a rival won by a key that was deleted by hand; 0 if never
	told        bool          // the node of the deletion has said that it does not have the key
}

func (b *belief) believes(now clock.Instant) bool { return b.id != 0 && now < b.until }

// A server is one node. What the search asks all the time stands beside its key space.
type server struct {
	space  keyspace.Space // a clone already, so that it may be copied
	boot   int
	value  string // of the lock key, which is there up to the end of a millisecond
	ends   int64
	fence  uint64
	marker string // and how far the change has come
	grown  string
	change node.Stage
}

// A link is the actor of one party for one node, and what is on its way.
type link struct {
	state   node.State
	out     bool   // the client was not given the node
	marker  string // what it must still say after each pipeline
	life    string
	mailbox []node.Command
	stage   stage
	pace    pace
	broken  bool           // the connection is no more, which is told with the next answer
	fresh   bool           // its node has done nothing since it ran the pipeline
	pipe    []node.Command // under way, not executed
	replies []node.Reply   // on their way back, or of what was not sent
	seen    string         // the marker after what was executed
	says    bool           // that a key which was deleted is not there
	late    [][]node.Command
}

type stage uint8

const (
	stageIdle stage = iota
	stageSent
	stageDone // on the node
)

// A pace is whether time passes while something is on its way.
type pace uint8

const (
	prompt pace = iota // not so far
	held               // it will: nothing comes of it in this tick
	ripe               // it has, and may go on
)

// A move is one thing that may happen.
type move struct {
	kind        moveKind
	party, node int8
}

type moveKind uint8

const (
	moveAcquire moveKind = iota
	moveRelease
	moveTrip         // a node runs a pipeline, and the client hears the answer
	moveRun          // a node runs a pipeline: see fresh
	moveHear         // a client hears the answer
	moveHold         // what is on its way to a node, or back, will be slow
	moveAnswerSlowly // a node runs a pipeline, and its answer will be slow
	moveEnrol        // a client enrols at a node
	moveTime         // a tick passes
	moveLate         // bytes of a connection that was given up arrive
	moveRestart
	moveFlush
	moveCut  // a client gives a connection up
	moveLose // a node runs a pipeline, and its client gives the connection up before it hears that
	moveDelete
	moveRefuse // a node answers a pipeline by errors
	moveRelist // a client is given the next lists
	moveClose  // a node is told that the former list is closed
	moveOpen   // and one that the present list is opened
	moveKinds
)

func (m move) String() string {
	words := [moveKinds]string{
		"client P asks for the name", "client P releases it",
		"node N runs what client P has sent, which hears the answer", "node N runs what client P has sent",
		"client P hears node N", "time will pass between client P and node N",
		"node N runs what client P has sent, and time will pass before it is heard",
		"client P enrols at node N", "a tick passes", "late bytes of client P arrive at node N",
		"node N restarts empty", "node N is flushed", "client P gives up its connection to node N",
		"node N runs what client P has sent, which gives up before it hears that",
		"somebody deletes the key on node N", "node N refuses what client P has sent",
		"client P is given the next lists", "node N is closed", "node N is opened",
	}
	return strings.NewReplacer("P", strconv.Itoa(int(m.party)), "N", strconv.Itoa(int(m.node))).Replace(words[m.kind])
}

const (
	explored        = "x"
	exploredNodes   = 3
	exploredClients = 2

	tick    = 50 * time.Millisecond
	genesis = clock.Instant(time.Hour)
	// epoch is the servers' time less the clients': fences are large by it.
	epoch = 100 * 365 * 24 * time.Hour
)

var (
	exploredKeys = keyspace.KeysOf(explored)
	exploredOwn  = keyspace.OwnKeys()
	errExplored  = errors.New("no answer")
)

// A stepper makes one situation from another.
type stepper struct {
	b       *bounds
	s       *situation
	owned   map[any]bool // parts that are this situation's own
	copier  copier
	of      int // the party whose core is being given something
	turn    keyspace.Turn
	broken  string // the rule that is broken, if one is
	explain func(format string, args ...any)
	every   bool // no renewal is the next before others: see moves
}

func (x *stepper) tell(format string, args ...any) {
	if x.explain != nil {
		x.explain(format, args...)
	}
}

func (x *stepper) fail(format string, args ...any) {
	if x.broken == "" {
		x.broken = fmt.Sprintf(format, args...)
	}
}

// Servers have nobody to tell anything.
func (x *stepper) Publish(string, string) int { return 0 }
func (x *stepper) Reads(string)               {}
func (x *stepper) Changes(string)             {}
func (x *stepper) Expires(string)             {}

// begin returns the situation in which everybody is enrolled and all nodes are grown.
func (x *stepper) begin() *situation {
	b := x.b
	s := &situation{now: genesis - clock.Instant(time.Hour/2), left: b.quota}
	for n := range exploredNodes {
		s.servers = append(s.servers, &server{boot: 1 + n*100})
		if b.rollout != nil {
			s.servers[n].change = b.stage
		}
	}
	x.s, x.owned = s, map[any]bool{}
	for p := range exploredClients {
		set := b.settings()
		set.Owner, set.Seed = fmt.Sprint(p), [32]byte{byte(p)}
		given, role := all(exploredNodes), givenFormer
		if b.rollout != nil {
			role = b.told[p]
			former, present := b.given(role)
			set.Former, set.Present, given = indices(former), indices(present), former|present
		}
		c := New(set)
		c.rand = rand.New(zeroes{})
		c.alarms.set(&c.agreement, genesis+clock.Instant(1000*time.Hour)) // fingerprints are left out
		s.parties = append(s.parties, &party{core: c, wishes: 1 + b.more, role: role})
		for n := range exploredNodes {
			s.links = append(s.links, &link{out: !given.has(n)})
		}
		for n := range exploredNodes {
			if x.s.links[p*exploredNodes+n].out {
				continue
			}
			x.enrol(p, n)
			l := x.link(p, n)
			x.open(n)
			x.turn.Set(exploredOwn.Grown, l.life, keyspace.Never)
			x.close(n)
			l.state.Grown, l.state.LifeAt = true, 1
			x.receive(p, n, nil)
		}
		x.settle(p)
	}
	s.now = genesis
	return s
}

// next returns what follows from a situation by a move.
func (x *stepper) next(from *situation, m move) *situation {
	s := *from
	s.parties, s.servers, s.links = slices.Clone(s.parties), slices.Clone(s.servers), slices.Clone(s.links)
	x.s, x.broken = &s, ""
	clear(x.owned)
	x.do(m)
	return &s
}

// party, server and link return a part to be changed.
func (x *stepper) party(p int) *party {
	at := &x.s.parties[p]
	if !x.owned[*at] {
		q := **at
		q.core = x.copier.clone(q.core)
		*at = &q
		x.owned[*at] = true
	}
	return *at
}

func (x *stepper) server(n int) *server {
	at := &x.s.servers[n]
	if !x.owned[*at] {
		q := **at
		*at = &q
		x.owned[*at] = true
	}
	return *at
}

func (x *stepper) link(p, n int) *link {
	at := &x.s.links[p*exploredNodes+n]
	if !x.owned[*at] {
		q := **at
		*at = &q
		x.owned[*at] = true
	}
	return *at
}

func (x *stepper) do(m move) {
	s, p, n := x.s, int(m.party), int(m.node)
	switch m.kind {
	case moveAcquire:
		q := x.party(p)
		q.wishes--
		q.call = Call(1 + q.wishes)
		q.core.Acquire(s.now, Request{Call: q.call, Key: explored, Terms: q.core.settings.Terms(q.core.settings.TTL), Attempts: 1})
		x.settle(p)
	case moveRelease:
		q := x.party(p)
		s.left.releases--
		id := q.lease.id
		q.lease = belief{}
		q.core.Release(s.now, id, 100)
		x.settle(p)
	case moveTrip, moveRun, moveAnswerSlowly:
		l := x.link(p, n)
		x.execute(n, l)
		l.pipe, l.stage = nil, stageDone
		switch m.kind {
		case moveTrip:
			x.hear(p, n)
		case moveRun:
			l.fresh = true
		default:
			x.hold(l)
		}
	case moveHold:
		x.hold(x.link(p, n))
	case moveHear:
		x.hear(p, n)
	case moveEnrol:
		x.enrol(p, n)
		x.receive(p, n, nil)
		x.settle(p)
	case moveTime:
		x.passTime()
	case moveLate:
		l := x.link(p, n)
		run := &link{pipe: l.late[0], replies: make([]node.Reply, len(l.late[0]))}
		l.late = l.late[1:]
		x.execute(n, run)
	case moveRestart:
		s.left.restarts--
		v := x.open(n)
		*v = server{boot: v.boot + 1}
		for p := range s.parties {
			l := x.link(p, n)
			l.broken = l.state.Enrolled
			if l.stage == stageSent {
				l.stage, l.pipe = stageDone, nil
				l.seen = "nobody"
			}
		}
	case moveFlush:
		s.left.flushes--
		v := x.open(n)
		*v = server{boot: v.boot}
	case moveCut, moveLose:
		s.left.cuts--
		l := x.link(p, n)
		if m.kind == moveLose {
			x.execute(n, l)
			l.stage = stageDone
		}
		if l.stage == stageSent {
			l.late = append(slices.Clone(l.late), l.pipe)
		}
		l.stage, l.pipe, l.seen, l.broken = stageDone, nil, "nobody", true
		x.hear(p, n)
	case moveDelete:
		s.left.deletions--
		v := x.open(n)
		s.deleted, s.deletedOn = v.value, n
		x.turn.Del(exploredKeys.Name)
		x.close(n)
	case moveRelist:
		s.left.relists--
		x.relist(p)
	case moveClose, moveOpen:
		s.left.steps--
		v := x.open(n)
		if v.change = node.StageOpened; m.kind == moveClose {
			v.change, s.closedAt = node.StageClosed, s.now
		}
		x.close(n)
	case moveRefuse:
		s.left.refusals--
		l := x.link(p, n)
		x.open(n)
		x.close(n)
		l.seen = x.s.servers[n].marker
		l.replies = slices.Clone(l.replies)
		for i := range l.replies {
			if r := &l.replies[i]; r.Status != node.Unsent {
				r.Status, r.Err = node.Unknown, errExplored
			}
		}
		l.pipe, l.stage = nil, stageDone
	}
}

// moves returns what may happen. Three rules leave out what leads nowhere else.
//
//   - Whether time will pass while something is on its way is decided before. Nothing comes
//     of it then in this tick.
//   - That a node runs a pipeline and that the client hears the answer is one move, unless
//     something comes between: if only other nodes, or the other client, do something then,
//     it could as well come before or after. So it is two moves only if the node itself does
//     something next, before the client hears anything. What is believed overlaps in the
//     same way whichever comes first.
//   - If a renewal will find its key, and nothing else is under way for its client but
//     such renewals, then it is the next, unless something goes wrong with its node before:
//     others find the name held before as well as after. If anything may still go wrong, the
//     others must have nothing to do until then.
func (x *stepper) moves(s *situation, to []move) []move {
	to = to[:0]
	add := func(kind moveKind, p, n int) { to = append(to, move{kind, int8(p), int8(n)}) }
	if p, n := x.plain(s); !x.every && p >= 0 && (p == 0 || x.b.rivalry == nil || !x.b.atOnce) {
		add(moveTrip, p, n)
		if x.maySlow(s, p, n) {
			add(moveHold, p, n)
			if !x.there() {
				add(moveAnswerSlowly, p, n)
			}
		}
		x.faults(s, n, add)
		return to
	}
	if x.b.rivalry != nil && x.b.atOnce {
		for n, l := range s.links[exploredNodes:] {
			switch {
			case l.stage == stageSent:
				add(moveTrip, 1, n)
			case !l.state.Enrolled:
				add(moveEnrol, 1, n)
			case l.lags():
				add(moveHear, 1, n)
			}
		}
		if len(to) > 0 {
			return to
		}
	}
	for p, q := range s.parties {
		links := s.links[p*exploredNodes : (p+1)*exploredNodes]
		waits := slices.ContainsFunc(links, func(l *link) bool { return l.fresh })
		if !waits && q.wishes > 0 && !x.bides(s, p) && q.call == 0 && q.lease.id == 0 {
			add(moveAcquire, p, 0)
		}
		if !waits && q.lease.id != 0 && s.left.releases > 0 {
			add(moveRelease, p, 0)
		}
		for n, l := range links {
			if len(l.late) > 0 {
				add(moveLate, p, n)
			}
			if l.lags() && l.pace == prompt && x.maySlow(s, p, n) && (l.stage == stageSent || !x.there()) {
				add(moveHold, p, n)
			}
			switch {
			case waits || l.pace == held:
				continue
			case l.stage == stageSent:
				add(moveTrip, p, n)
				if !x.there() && x.mayIntervene(s, p) {
					add(moveRun, p, n)
				}
				if s.left.refusals > 0 {
					add(moveRefuse, p, n)
				}
				if s.left.cuts > 0 {
					add(moveLose, p, n)
				}
			case l.stage == stageDone || l.broken:
				add(moveHear, p, n)
			case !l.state.Enrolled && !l.out, x.b.rollout != nil && !l.out && l.marker != s.servers[n].marker:
				add(moveEnrol, p, n) // its entry was to be left anew, which has failed the check of the marker
			}
			if l.stage != stageIdle && s.left.cuts > 0 && !l.broken {
				add(moveCut, p, n)
			}
		}
	}
	for n := range s.servers {
		x.faults(s, n, add)
	}
	if x.b.rollout != nil {
		x.changes(s, add)
	}
	if x.mayPass(s) {
		add(moveTime, 0, 0)
	}
	return to
}

// changes adds how the change may go on: clients are given the next lists, and the nodes are closed and
// opened, once no lease on the former list alone is believed in.
func (x *stepper) changes(s *situation, add func(kind moveKind, p, n int)) {
	for p, q := range s.parties {
		if s.left.relists > 0 && q.role != givenPresent {
			add(moveRelist, p, 0)
		}
	}
	closed := true
	for n, v := range s.servers {
		if x.b.former.has(n) && v.change < node.StageClosed {
			closed = false
			if s.left.steps > 0 {
				add(moveClose, 0, n)
			}
		}
	}
	for n, v := range s.servers {
		if x.b.present.has(n) && closed && v.change < node.StageOpened && s.left.steps > 0 && s.now >= s.closedAt.Add(time.Duration(x.b.ttl)*tick) {
			add(moveOpen, 0, n)
		}
	}
}

// relist gives a client the next lists, if it takes them.
func (x *stepper) relist(p int) {
	q := x.party(p)
	former, present := x.b.given(q.role + 1)
	if q.core.Reconfigure(x.s.now, Lists{Nodes: exploredNodes, Former: indices(former), Present: indices(present)}) != nil {
		return
	}
	q.role++
	for n := range exploredNodes {
		if l := x.link(p, n); (former | present).has(n) {
			l.out = false
		} else {
			late := l.late
			if l.stage == stageSent {
				late = append(slices.Clone(late), l.pipe)
			}
			*l = link{out: true, late: late}
		}
	}
	x.settle(p)
}

// faults adds what may go wrong with a node.
func (x *stepper) faults(s *situation, n int, add func(kind moveKind, p, n int)) {
	if x.b.rivalry != nil && x.b.aimed && s.parties[1].call == 0 {
		return
	}
	if !slices.ContainsFunc(s.parties, func(q *party) bool { return q.call != 0 || q.lease.id != 0 }) {
		return
	}
	if s.left.restarts > 0 {
		add(moveRestart, 0, n)
	}
	// A former node that is flushed after it was left has forgotten that, and nothing tells it again.
	if s.left.flushes > 0 && (x.b.rollout == nil || x.b.present.has(n)) {
		add(moveFlush, 0, n)
	}
	if v := s.servers[n]; s.left.deletions > 0 && v.has(s.now) && x.settled(s, v.value) {
		add(moveDelete, 0, n)
	}
}

func (x *stepper) maySlow(s *situation, p, n int) bool {
	return s.left.slow > 0 && (x.b.rivalry == nil || x.b.slowAt[p].has(n))
}

func (x *stepper) there() bool { return x.b.rivalry != nil && x.b.there }

// bides reports whether a client must not ask yet.
func (x *stepper) bides(s *situation, p int) bool {
	if x.b.rivalry == nil || p == 0 {
		return false
	}
	switch x.b.asks {
	case askAfter:
		return s.left.faults() == x.b.faults()
	case askQuiet:
		return s.parties[0].lease.id == 0 || slices.ContainsFunc(s.links[:exploredNodes], func(l *link) bool { return l.lags() && l.pace == prompt })
	}
	return false
}

// idle reports whether a client will never do anything more by itself.
func (x *stepper) idle(s *situation, p int) bool {
	q := s.parties[p]
	return q.wishes == 0 && q.call == 0 && q.lease.id == 0 && !slices.ContainsFunc(s.links[p*exploredNodes:(p+1)*exploredNodes], (*link).lags)
}

func (q quota) faults() int8 { return q.restarts + q.flushes + q.cuts + q.deletions + q.refusals }

// plain returns whose renewal, at which node, may as well be the next; -1 if there is none.
func (x *stepper) plain(s *situation) (p, n int) {
	if s.left.cuts+s.left.refusals > 0 {
		return -1, -1
	}
	for p := range s.parties {
		links, first := s.links[p*exploredNodes:(p+1)*exploredNodes], -1
		if o := (p + 1) % len(s.parties); s.left.faults() > 0 && !x.bides(s, o) && !x.idle(s, o) {
			continue
		}
		for n, l := range links {
			switch v := s.servers[n]; {
			case len(s.links[(p+1)%len(s.parties)*exploredNodes+n].late)+len(l.late) > 0:
				first = -2
			case l.pace == held || !l.lags() && len(l.mailbox) == 0:
			case l.pace == prompt && l.stage == stageSent && !l.broken && len(l.replies) == 1 && len(l.pipe) == 1 &&
				l.pipe[0].Op == node.Renew && v.value == l.pipe[0].Token && v.has(s.now) && v.marker == l.marker:
				if first == -1 {
					first = n
				}
			default:
				first = -2
			}
		}
		if first >= 0 {
			return p, first
		}
	}
	return -1, -1
}

// mayIntervene reports whether a node may do something between what it does for a party and
// what that hears of it.
func (x *stepper) mayIntervene(s *situation, p int) bool {
	if s.left.slow > 0 || s.left.restarts+s.left.flushes+s.left.deletions > 0 {
		return true
	}
	for o, q := range s.parties {
		if o != p && (q.wishes > 0 || q.call != 0 || q.lease.id != 0) {
			return true
		}
	}
	for i, l := range s.links {
		if len(l.late) > 0 || i/exploredNodes != p && l.lags() {
			return true
		}
	}
	return false
}

// settled reports whether a token is that of a lease which began a tick ago at least: it is
// taken that nobody deletes its keys sooner, see lateAfter.
func (x *stepper) settled(s *situation, token string) bool {
	for _, q := range s.parties {
		for _, t := range q.core.tenures.slots {
			if t != nil && t.token == token {
				return q.lease.token == token && s.now > t.begun
			}
		}
	}
	return false
}

func (v *server) has(now clock.Instant) bool {
	return v.value != "" && serverTime(now).Milliseconds() <= v.ends
}

func serverTime(now clock.Instant) time.Duration { return epoch + time.Duration(now) }

// open has a turn at a server, and close ends it.
func (x *stepper) open(n int) *server {
	v := x.server(n)
	for p := range x.s.parties {
		if x.s.links[p*exploredNodes+n].fresh {
			x.link(p, n).fresh = false
		}
	}
	x.turn = keyspace.Turn{Space: &v.space, Server: x, Now: serverTime(x.s.now)}
	return v
}

func (x *stepper) close(n int) {
	v := x.server(n)
	a := x.turn.Inspect(&exploredKeys, false)
	v.value, _ = node.TokenOf(a.Value)
	v.fence = keyspace.Whole(a.Fence)
	_, v.ends, _ = x.turn.Peek(exploredKeys.Name)
	v.marker, _ = x.turn.Text(exploredOwn.Marker)
	v.marker += fmt.Sprint(" ", int(v.change))
	v.grown, _ = x.turn.Text(exploredOwn.Grown)
	v.space = v.space.Clone()
}

// mayPass reports whether a tick may pass: all that is still under way is slow.
func (x *stepper) mayPass(s *situation) bool {
	return !slices.ContainsFunc(s.links, func(l *link) bool { return l.lags() && l.pace == prompt })
}

func (x *stepper) hold(l *link) {
	x.s.left.slow--
	l.pace, l.fresh = held, false
}

func (l *link) lags() bool { return !l.out && (l.stage != stageIdle || !l.state.Enrolled || l.broken) }

func (x *stepper) passTime() {
	s := x.s
	for i, l := range s.links {
		if l.pace == held {
			x.link(i/exploredNodes, i%exploredNodes).pace = ripe
		}
	}
	s.now = s.now.Add(tick)
	for p, q := range s.parties {
		if q.core.Next() > s.now {
			continue
		}
		for c := x.party(p).core; c.Next() <= s.now; {
			c.Tick(s.now)
			x.settle(p)
		}
	}
}

// enrol has an actor ask a node who it is. The client is told afterwards.
func (x *stepper) enrol(p, n int) {
	l, v := x.link(p, n), x.open(n)
	set := &x.s.parties[p].core.settings
	e, err := x.turn.Enrol(&exploredOwn, fmt.Sprint("run", v.boot), set.MaxTTL.Milliseconds(), fmt.Sprint("data", n))
	if err != nil {
		panic(err)
	}
	x.close(n)
	st := &l.state
	if st.Life == 0 || l.life != e.Life {
		st.Life++
		st.LifeAt = x.s.now
	}
	l.marker, l.life = v.marker, e.Life
	*st = node.State{
		Enrolled: true, Life: st.Life, LifeAt: st.LifeAt, Run: fmt.Sprint("run", v.boot), Identity: e.Identity,
		Guarded: true, Grown: e.Grown, MaxTTL: set.MaxTTL, Offset: epoch, OffsetAt: 1 << 62,
	}
	if r := x.b.rollout; r != nil && v.change != node.StageNone {
		st.Change = node.Change{Former: exploredList(r.former), Present: exploredList(r.present), Stage: v.change}
	}
	l.pace, l.broken = prompt, false
}

func exploredList(s nodeSet) node.Electorate {
	var ids []string
	for _, n := range indices(s) {
		ids = append(ids, fmt.Sprint("data", n))
	}
	return node.NewElectorate(s.len(), ids)
}

// execute has a node run a pipeline.
func (x *stepper) execute(n int, l *link) {
	x.open(n)
	l.replies = slices.Clone(l.replies)
	at := 0
	for i := range l.replies {
		r := &l.replies[i]
		if r.Status == node.Unsent {
			continue
		}
		cmd := &l.pipe[at]
		at++
		if cmd.Op == node.Advance {
			r.Status = node.Other
			if v := x.server(n); v.marker == l.marker {
				to, _ := node.ParseChange(cmd.Token)
				v.change, r.Status = max(v.change, to.Stage), node.OK
			}
			x.tell("  node %d: %v to %v: %v", n, cmd.Op, cmd.Token, r.Status)
			continue
		}
		x.run(cmd, r, l.life)
		if x.s.deleted != "" && cmd.Token == x.s.deleted && n == x.s.deletedOn && (cmd.Op == node.Renew || cmd.Op == node.Heal) {
			l.says = l.says || r.Status == node.Absent || r.Status == node.Other
		}
		x.tell("  node %d: %v of %s: %v", n, cmd.Op, cmd.Token, r.Status)
	}
	x.close(n)
	l.seen = x.s.servers[n].marker
}

var saysOf = map[int]node.Status{keyspace.Absent: node.Absent, keyspace.Ours: node.OK, keyspace.Other: node.Other}

// run runs one command on the server whose turn it is.
func (x *stepper) run(cmd *node.Command, r *node.Reply, life string) {
	t, k, ttl := &x.turn, &exploredKeys, cmd.TTL.Milliseconds()
	var err error
	says := keyspace.Other
	switch cmd.Op {
	case node.Grant:
		var set bool
		if set, err = t.SetFree(k.Name, cmd.Token, ttl); set {
			says = keyspace.Ours
		}
		r.Raised, _ = t.Propose(k.Fence, float64(cmd.Fence))
	case node.Raise:
		var before float64
		says, before, err = t.Raise(k, cmd.Token, float64(cmd.Fence), ttl)
		r.Fence = keyspace.Whole(before)
	case node.Renew:
		var a keyspace.Answer // whose it is decides nothing
		a, err = t.Renew(k.Name, cmd.Token, ttl)
		says = a.Says
	case node.Heal:
		var a keyspace.Answer
		a, err = t.Heal(k, cmd.Token, ttl, float64(cmd.Fence), "")
		says = a.Says
	case node.Release:
		says = t.Release(k, cmd.Token, 0, 0)
	case node.Inspect:
		a := t.Inspect(k, cmd.Brief)
		r.Value, r.Holds = node.TokenOf(a.Value)
		says, r.Fence, r.Left = a.Says, keyspace.Whole(a.Fence), time.Duration(a.Left)*time.Millisecond
	case node.Sign:
		_, err = t.Sign(&exploredOwn, cmd.Token, ttl, cmd.Age.Milliseconds(), life)
		says = keyspace.Ours
	default:
		panic("not in these bounds: " + cmd.Op.String())
	}
	if err != nil {
		panic(err)
	}
	r.Status = saysOf[says]
}

// hear has a client hear what a node answered, or that the connection is no more.
func (x *stepper) hear(p, n int) {
	l := x.link(p, n)
	replies, says := l.replies, l.says
	if l.stage == stageDone && l.seen != l.marker || l.stage == stageIdle {
		for i := range replies {
			if r := &replies[i]; r.Status != node.Unsent {
				replies = slices.Clone(replies)
				replies[i] = node.Reply{ID: r.ID, Op: r.Op, Err: errExplored}
			}
		}
		l.broken, says = true, false
	}
	l.stage, l.pipe, l.replies, l.seen, l.says, l.pace, l.fresh = stageIdle, nil, nil, "", false, prompt, false
	if l.out {
		return
	}
	if l.broken {
		l.state.Enrolled, l.state.Err, l.broken = false, errExplored, false
	}
	if q := x.party(p); says && q.lease.token == x.s.deleted {
		q.lease.told = true
	}
	x.receive(p, n, replies)
	x.settle(p)
}

func (x *stepper) receive(p, n int, replies []node.Reply) {
	for i := range replies {
		x.tell("  client %d, node %d: %v %v", p, n, replies[i].Op, replies[i].Status)
	}
	x.party(p).core.Receive(x.s.now, node.Batch{Node: n, Replies: slices.Clone(replies), State: x.link(p, n).state})
}

// settle does what a core has decided, and has its actors send what they can.
func (x *stepper) settle(p int) {
	c := x.party(p).core
	for again := true; again; {
		again = false
		x.of = p
		perform.All(x.s.now, c, exploredNodes, x)
		for n := range exploredNodes {
			if l := x.s.links[p*exploredNodes+n]; l.state.Enrolled && l.stage == stageIdle && !l.broken && len(l.mailbox) > 0 {
				again = x.depart(p, n) || again
			}
		}
	}
	if b := &x.party(p).lease; b.interrupted != 0 && b.told && b.believes(x.s.now) && b.until > b.interrupted.Add(c.settings.TTL) {
		x.fail("client %d was interrupted at %v, was told that its key is gone, and believes until %v", p, x.ticks(b.interrupted), x.ticks(b.until))
	}
}

func (x *stepper) ticks(t clock.Instant) float64 { return float64(t-genesis) / float64(tick) }

// depart sends what is in a mailbox as one pipeline, and reports whether the core was told
// at once that nothing of it was sent.
func (x *stepper) depart(p, n int) bool {
	l := x.link(p, n)
	l.replies = make([]node.Reply, len(l.mailbox))
	l.pipe = nil
	for _, cmd := range l.mailbox {
		if cmd.Op == node.Sign && cmd.Life == l.state.Life {
			l.state.Grown = true
		}
	}
	for i, cmd := range l.mailbox {
		r := &l.replies[i]
		*r = node.Reply{ID: cmd.ID, Op: cmd.Op, Status: node.Unsent, Err: errExplored}
		switch {
		case x.s.now > cmd.By:
		case cmd.Op == node.Grant && !l.state.Grown:
		case (cmd.Op == node.Heal || cmd.Op == node.Sign) && cmd.Life != l.state.Life:
		default:
			r.Status, r.Err = node.Unknown, nil
			cmd.By = 0 // nobody asks any more
			l.pipe = append(l.pipe, cmd)
			x.tell("  client %d to node %d: %v", p, n, cmd.Op)
		}
	}
	l.mailbox = nil
	if len(l.pipe) == 0 {
		replies := l.replies
		l.replies = nil
		x.receive(p, n, replies)
		return true
	}
	l.stage = stageSent
	return false
}

// Send puts commands into a mailbox. Fingerprints are left out.
func (x *stepper) Send(n int, commands []node.Command) []node.Command {
	l := x.link(x.of, n)
	l.mailbox = slices.Clone(l.mailbox)
	for _, cmd := range apart(commands) {
		if cmd.Op == node.Sign {
			x.party(x.of).core.nodes[n].entry = entryAt{until: clock.Never}
		}
		if cmd.Op != node.Sign || cmd.Grown {
			l.mailbox = append(l.mailbox, cmd)
		}
	}
	return nil
}

// Effect does what the loop does, and looks whether a rule is broken.
func (x *stepper) Effect(now clock.Instant, e *Effect) {
	s, q := x.s, x.party(x.of)
	b := &q.lease
	switch e.Kind {
	case EffectWon:
		x.tell("  client %d has won with fence %d", x.of, e.Fence)
		q.call, *b = 0, belief{id: e.ID, token: e.Token, fence: e.Fence, until: e.Until}
		excused := false
		for p := range s.parties {
			if p == x.of || !s.parties[p].lease.believes(now) {
				continue
			}
			o := &x.party(p).lease
			if s.deleted == "" || s.deleted != o.token && s.deleted != e.Token {
				x.fail("clients %d and %d both hold the name", p, x.of)
			}
			excused = true
			o.interrupted = now
		}
		if e.Fence <= s.fence && !excused {
			x.fail("the fence of client %d does not grow: %d after %d", x.of, e.Fence, s.fence)
		}
		s.fence = max(s.fence, e.Fence)
	case EffectFailed:
		x.tell("  client %d has failed", x.of)
		q.call = 0
	case EffectRenewed:
		if b.id != e.ID || now >= b.until {
			*b = belief{}
			q.core.HolderEnded(now, e.ID, ReasonExpired)
			return
		}
		b.until = e.Until
	case EffectEnded:
		x.tell("  client %d: the lease is over: %v", x.of, e.Reason)
		if b.id == e.ID {
			*b = belief{}
		}
	}
}
