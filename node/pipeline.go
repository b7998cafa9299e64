package node

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

var (
	errStale     = errors.New("not sent: deadline passed")
	errNoSuch    = errors.New("not sent: no such operation")
	errYoung     = errors.New("not sent: the node is young, and may have forgotten a grant that is still believed")
	errOtherLife = errors.New("not sent: the node has restarted or was replaced since")
	errForgot    = errors.New("the node does not answer with its marker: its data may be gone")
	errRaised    = errors.New("another client has changed the largest TTL in the node's marker, which is read again")
	errBroken    = errors.New("WRONGTYPE the name's fence or queue key is not a sorted set")
)

// lastOp is the largest Op.
const lastOp = Sign

var scripts = [...]*script.Script{
	Raise: &script.Raise, Renew: &script.Renew, Release: &script.Release, Inspect: &script.Inspect,
	Heal: &script.Heal, Enqueue: &script.Enqueue, Claim: &script.Claim, Leave: &script.Leave,
	Adopt: &script.Adopt, Sign: &script.Sign,
}

// by returns the Op whose script does it: a Release that must look into the queue is a
// Leave that deletes the key as well, so that the others need not.
func (c *Command) by() Op {
	if c.Op == Release && c.Queued {
		return Leave
	}
	return c.Op
}

// A pipeline turns commands into what is sent at once, and the answers back into
// replies. Its buffers are used again for the next one.
type pipeline struct {
	retention string              // in ms; an eighth longer than is promised
	again     time.Duration       // after which the retention of a fence is set again: an eighth of it
	retained  map[string]retained // when that was done last over this enrolment, by name
	inbox     string
	reserve   string // in ms
	alive     string // in ms

	sent     clock.Instant // when the commands were queued
	young    bool          // nothing is handed over: what was forgotten may be healed
	life     string        // the present one, as its marker tells it
	single   bool          // each call of a script carries one name
	tracks   bool          // the node tells what becomes of keys that are read
	commands []Command
	replies  []Reply // of the commands, by index; the receiver of the Batch owns them
	live     []int   // indices of the commands that are to be sent
	calls    []call
	multi    []rueidis.Completed
	names    map[string]struct{}

	ms   time.Duration // the latest TTL, and
	text string        // how it is sent
}

// retained is a fence whose retention was set.
type retained struct {
	key string
	at  clock.Instant
}

// A call is one grant, or one call of a script for several commands.
type call struct {
	op       Op // by which script
	eval     bool
	from, to int  // within live
	at       int  // where its answers begin
	retains  bool // a grant that sets the retention of its fence
}

// open takes the commands and gives each a reply. Those that nobody wants any
// more are not among the live ones.
func (p *pipeline) open(commands []Command, now clock.Instant) {
	p.commands = commands
	p.replies = make([]Reply, len(commands))
	p.live = p.live[:0]
	for i := range commands {
		c := &commands[i]
		p.replies[i] = Reply{ID: c.ID, Op: c.Op}
		switch {
		case c.Op < Grant || c.Op > lastOp:
			p.unsent(i, errNoSuch)
		case now > c.By:
			p.unsent(i, errStale)
		default:
			p.live = append(p.live, i)
		}
	}
}

func (p *pipeline) unsent(i int, err error) {
	p.replies[i].Status, p.replies[i].Err = Unsent, err
}

// fail answers every live command alike.
func (p *pipeline) fail(status Status, err error) {
	for _, i := range p.live {
		p.replies[i].Status, p.replies[i].Err = status, err
	}
}

// build encodes the live commands, behind CLIENT GETNAME and, if asked for, TIME.
// loaded tells which scripts the node has had since the enrolment; eval sends the
// text of all of them. The pipeline ends in reading the marker, which tells that
// nothing was forgotten meanwhile, or else the name again: a server that answers one
// thing too many shifts all that follows, and the answers to another name could be
// taken for a vote.
func (p *pipeline) build(b rueidis.Builder, withTime, eval, marker bool, loaded *[lastOp + 1]bool) {
	p.calls = p.calls[:0]
	p.multi = append(p.multi[:0], b.Arbitrary("CLIENT", "GETNAME").Build())
	if withTime {
		p.multi = append(p.multi, b.Arbitrary("TIME").Build())
	}
	for i := 0; i < len(p.live); {
		c := &p.commands[p.live[i]]
		if c.Op == Grant {
			at := len(p.multi)
			p.calls = append(p.calls, call{op: Grant, from: i, to: i + 1, at: at, retains: p.grant(b, c)})
			i++
			continue
		}
		to := p.run(i)
		op := c.by()
		if p.tracks && (op == Renew || c.Track) {
			// It is for the very next command.
			p.multi = append(p.multi, b.Arbitrary("CLIENT", "CACHING", "YES").Build())
		}
		text := eval || !loaded[op]
		loaded[op] = true
		p.calls = append(p.calls, call{op: op, eval: text, from: i, to: to, at: len(p.multi)})
		p.multi = append(p.multi, p.script(b, i, to, text))
		i = to
	}
	if marker {
		p.multi = append(p.multi, b.Arbitrary("GET", script.Marker).Build())
	} else {
		p.multi = append(p.multi, b.Arbitrary("CLIENT", "GETNAME").Build())
	}
}

// run returns the end of the run of commands that one script call may carry: of
// one operation, and no name twice, because a script reads before it writes. To a
// renewal that does not matter: it changes no value. Renewals of one call have one TTL.
func (p *pipeline) run(from int) int {
	first := &p.commands[p.live[from]]
	to := from + 1
	if p.single || first.Op == Sign {
		return to
	}
	for ; to < len(p.live) && to-from < script.MaxNames; to++ {
		c := &p.commands[p.live[to]]
		if c.by() != first.by() || c.Track != first.Track {
			break
		}
		if c.Op == Renew {
			if c.TTL != first.TTL {
				break
			}
			continue
		}
		if to == from+1 {
			clear(p.names)
			p.names[first.Name] = struct{}{}
		}
		if _, twice := p.names[c.Name]; twice {
			break
		}
		p.names[c.Name] = struct{}{}
	}
	return to
}

// grant is plain commands: a script would cost a lone grant 1.3 times the latency. Each
// of them costs all nodes together about a fortieth of it, so what is not needed every
// time is left out: the retention of the fence is set again once an eighth of it is
// over, and is an eighth longer.
func (p *pipeline) grant(b rueidis.Builder, c *Command) (retains bool) {
	last := p.retained[c.Name]
	if last.key == "" {
		last.key = script.FenceKey(c.Name)
	}
	p.multi = append(p.multi,
		b.Arbitrary("SET", c.Name, c.Token, "NX", "PX", p.millis(c.TTL)).Build(),
		b.Arbitrary("ZADD", last.key, "GT", "CH", strconv.FormatUint(c.Fence, 10), script.Member).Build())
	if last.at != 0 && p.sent.Sub(last.at) < p.again {
		return false
	}
	p.multi = append(p.multi, b.Arbitrary("PEXPIRE", last.key, p.retention).Build())
	return true
}

func nameKey(name string) string { return name }

// keysOf are the keys that a script is given of each name.
var keysOf = [...][]func(name string) string{
	Raise: {nameKey, script.FenceKey}, Renew: {nameKey}, Release: {nameKey, script.QueueKey},
	Inspect: {nameKey, script.FenceKey, script.QueueKey}, Heal: {nameKey, script.FenceKey},
	Enqueue: {nameKey, script.FenceKey, script.QueueKey},
	Claim:   {nameKey, script.FenceKey, script.QueueKey},
	Leave:   {nameKey, script.QueueKey},
	Adopt:   {nameKey, script.FenceKey},
	Sign:    {always(script.Marker), always(script.Grown), always(script.Clients)},
}

// always is a key of the node itself.
func always(key string) func(string) string { return func(string) string { return key } }

func (p *pipeline) script(b rueidis.Builder, from, to int, eval bool) rueidis.Completed {
	live := p.live[from:to]
	op := p.commands[live[0]].by()
	sc := scripts[op]
	verb, body := "EVALSHA", sc.SHA
	if eval {
		verb, body = "EVAL", sc.Text
	}
	a := b.Arbitrary(verb, body, strconv.Itoa(len(live)*sc.Keys))
	for _, key := range keysOf[op] {
		for _, i := range live {
			a = a.Args(key(p.commands[i].Name))
		}
	}
	reserve := p.reserve
	if p.young {
		reserve = "0"
	}
	switch op {
	case Renew:
		again := "0"
		if p.tracks {
			again = "1"
		}
		a = a.Args(again, p.millis(p.commands[live[0]].TTL))
	case Release:
		a = a.Args(reserve)
	case Enqueue:
		a = a.Args(p.inbox, reserve, p.alive)
	case Claim:
		a = a.Args(p.inbox)
	case Leave:
		a = a.Args(p.inbox, reserve)
	}
	for _, i := range live {
		c := &p.commands[i]
		switch op {
		case Renew, Release:
			a = a.Args(c.Token)
		case Raise:
			a = a.Args(c.Token, strconv.FormatUint(c.Fence, 10), p.retention)
		case Heal, Claim:
			a = a.Args(c.Token, p.millis(c.TTL), strconv.FormatUint(c.Fence, 10), p.retention)
		case Enqueue:
			isNew := "0"
			if c.New {
				isNew = "1"
			}
			a = a.Args(c.Token, strconv.FormatUint(c.Ticket, 10), isNew)
		case Leave:
			whole := "0"
			if c.Op == Release {
				whole = "1"
			}
			a = a.Args(c.Token, whole)
		case Adopt:
			a = a.Args(c.Token, c.Former, p.millis(c.TTL), strconv.FormatUint(c.Fence, 10), p.retention)
		case Sign:
			life := ""
			if c.Grown {
				life = p.life
			}
			a = a.Args(c.Token, p.millis(c.TTL), life)
		}
	}
	return a.Build()
}

// millis is never "0", which would make PEXPIRE delete the key.
func (p *pipeline) millis(d time.Duration) string {
	if d != p.ms || p.text == "" {
		p.ms, p.text = d, strconv.FormatInt(max(1, d.Milliseconds()), 10)
	}
	return p.text
}

// read decodes the answers. It keeps in live only the commands that are to be sent again:
// the node did not have their script, or did not take so many names in one call, of which
// it has run none. After the last trip there are none. An error tells that the enrolment is
// over: the answers that came with it have been dealt with.
func (p *pipeline) read(rs []rueidis.RedisResult, s *session, last bool) (at time.Duration, err error) {
	again := p.live[:0] // never overtakes the reading
	for _, c := range p.calls {
		live := p.live[c.from:c.to]
		if c.op == Grant {
			r := &p.replies[live[0]]
			bad := readGrant(rs[c.at:c.at+2], r)
			if bad == nil && c.retains {
				bad = p.readRetention(rs[c.at+2], p.commands[live[0]].Name)
			}
			if bad != nil {
				// The key may be set all the same.
				*r = Reply{ID: r.ID, Op: r.Op, Err: s.why(bad)}
				err = over(err, bad, r.Err)
			}
			continue
		}
		answer, bad := rs[c.at].ToArray()
		refused := false
		if e, ok := rueidis.IsRedisErr(bad); ok {
			crosses := len(live) > 1 && strings.HasPrefix(e.Error(), "CROSSSLOT")
			s.single = s.single || crosses
			refused = e.IsNoScript() && !c.eval || crosses && !last
		}
		if refused {
			again = append(again, live...)
			continue
		}
		var t time.Duration
		if bad = plain(bad, scripts[c.op].Name); bad == nil {
			t, bad = p.readScript(answer, c.op, live)
		}
		if bad != nil {
			why := s.why(bad)
			for _, i := range live {
				p.replies[i] = Reply{ID: p.replies[i].ID, Op: p.replies[i].Op, Err: why}
			}
			err = over(err, bad, why)
			continue
		}
		at = t
	}
	p.live = again
	return at, err
}

// over returns why the enrolment ends, if it does: the connection failed, or the
// server is not a primary any more. Any other error is that command's alone.
func over(before, bad, why error) error {
	if before != nil {
		return before
	}
	e, ok := rueidis.IsRedisErr(bad)
	if ok && !readonly(e.Error()) || errors.Is(bad, errAnswer) {
		return nil
	}
	return why
}

// readonly recognises the error on its own and, before Redis 7, within the error
// of a script.
func readonly(text string) bool {
	return strings.HasPrefix(text, "READONLY ") || strings.Contains(text, "-READONLY ")
}

var errAnswer = errors.New("unexpected answer")

func unexpected(to string, got any) error { return fmt.Errorf("%w to %s: %v", errAnswer, to, got) }

func readGrant(rs []rueidis.RedisResult, r *Reply) error {
	status, err := readSet(rs[0])
	if err != nil {
		return err
	}
	changed, err := integer(rs[1], "ZADD")
	if err != nil {
		return err
	}
	if changed < 0 || changed > 1 {
		return unexpected("ZADD", changed)
	}
	r.Status, r.Raised = status, changed == 1
	return nil
}

// readRetention reads whether the retention of a name's fence was set.
func (p *pipeline) readRetention(r rueidis.RedisResult, name string) error {
	set, err := integer(r, "PEXPIRE")
	if err != nil {
		return err
	}
	switch set {
	case 0: // it has expired just now
		return nil
	case 1:
		if len(p.retained) == maxRetained {
			clear(p.retained)
		}
		p.retained[name] = retained{script.FenceKey(name), p.sent}
		return nil
	}
	return unexpected("PEXPIRE", set)
}

// maxRetained is of how many names an actor knows when the retention of their fences
// was set.
const maxRetained = 1024

func readSet(r rueidis.RedisResult) (Status, error) {
	m, err := r.ToMessage()
	if rueidis.IsRedisNil(err) {
		return Other, nil
	}
	if err != nil {
		return Unknown, plain(err, "SET")
	}
	if text, err := m.ToString(); err != nil || text != "OK" || !m.IsString() {
		return Unknown, unexpected("SET", "not OK")
	}
	return OK, nil
}

func integer(r rueidis.RedisResult, command string) (int64, error) {
	n, err := r.ToInt64()
	return n, plain(err, command)
}

// plain leaves the node's own errors and those of the connection as they are; what
// the library says of a wrong type becomes errAnswer.
func plain(err error, command string) error {
	switch {
	case err == nil:
		return nil
	case rueidis.IsRedisNil(err):
		return unexpected(command, "nil")
	case rueidis.IsParseErr(err):
		return unexpected(command, err)
	}
	return err
}

// readScript gives each live command its reply, or none of them if anything is
// not as the script answers.
func (p *pipeline) readScript(answer []rueidis.RedisMessage, op Op, live []int) (time.Duration, error) {
	sc := scripts[op]
	if len(answer) != 2+sc.Each*len(live) {
		return 0, unexpected(sc.Name, fmt.Sprintf("%d elements for %d names", len(answer), len(live)))
	}
	at, err := nodeTime(answer[:2], nil)
	if err != nil {
		return 0, err
	}
	for k, i := range live {
		part := answer[2+sc.Each*k:][:sc.Each]
		r := &p.replies[i]
		n, err := part[0].ToInt64()
		if err != nil {
			return 0, plain(err, sc.Name)
		}
		switch n {
		case script.Absent:
			r.Status = Absent
		case script.Ours:
			r.Status = OK
		case script.Other:
			r.Status = Other
		case script.Broken:
			r.Err = errBroken
		}
		if n < script.Absent || n > script.Broken || !says[op][n] {
			return 0, unexpected(sc.Name, n)
		}
		if err := readMore(part, op, r); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// says tells what a script may answer of a name, by the numbers of package script.
var says = [...][script.Broken + 1]bool{
	Raise:   {true, true, true, true},
	Renew:   {true, true, true, false},
	Release: {true, true, true, false},
	Inspect: {true, true, true, false},
	Heal:    {false, true, true, true},
	Enqueue: {false, true, true, true},
	Claim:   {false, true, true, true},
	Leave:   {true, true, true, false},
	Adopt:   {true, true, true, true},
	Sign:    {false, true, false, false},
}

// readMore reads what some scripts answer behind the status.
func readMore(part []rueidis.RedisMessage, op Op, r *Reply) error {
	name := scripts[op].Name
	switch op {
	case Inspect, Enqueue, Claim, Adopt:
	case Sign:
		if !part[1].IsString() {
			return unexpected(name, "no string")
		}
		text, err := part[1].ToString()
		r.Value = text
		return plain(err, name)
	case Raise:
		return readFence(part[1], name, &r.Fence)
	default:
		return nil
	}
	if err := readHolding(part, name, r); err != nil {
		return err
	}
	if op == Adopt {
		if stored, _ := part[3].ToString(); r.Status == OK && stored == "" {
			return unexpected(name, "no fence")
		}
		return readRaised(part[4], name, r)
	}
	ahead, err := part[4].ToInt64()
	if err != nil {
		return plain(err, name)
	}
	if ahead < 0 || ahead > math.MaxInt32 {
		return unexpected(name, ahead)
	}
	r.Ahead = int(ahead)
	switch op {
	case Inspect:
		return nil
	case Enqueue:
		return readFence(part[5], name, &r.Ticket)
	}
	// A claim reads its fence whether or not it was taken.
	if stored, _ := part[3].ToString(); r.Err == nil && stored == "" {
		return unexpected(name, "no fence")
	}
	return readRaised(part[5], name, r)
}

func readRaised(m rueidis.RedisMessage, name string, r *Reply) error {
	raised, err := m.ToInt64()
	if err != nil {
		return plain(err, name)
	}
	if raised < 0 || raised > 1 {
		return unexpected(name, raised)
	}
	r.Raised = raised == 1
	return nil
}

// fingerprints leaves out what it cannot read: somebody else has written it.
func fingerprints(value string) (all []Fingerprint) {
	for line := range strings.SplitSeq(value, "\n") {
		at := strings.LastIndexByte(line, ' ')
		if at < 1 {
			continue
		}
		ms, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil || !(ms >= 0 && ms <= float64(maxMillis)) {
			continue
		}
		all = append(all, Fingerprint{Text: line[:at], Until: time.Duration(ms) * time.Millisecond})
	}
	return all
}

// maxMillis is how many fit into a Duration.
const maxMillis = math.MaxInt64 / int64(time.Millisecond)

func readHolding(part []rueidis.RedisMessage, name string, r *Reply) (err error) {
	if !part[1].IsString() {
		return unexpected(name, "no string")
	}
	if r.Value, err = part[1].ToString(); err != nil {
		return plain(err, name)
	}
	left, err := part[2].ToInt64()
	if err != nil {
		return plain(err, name)
	}
	switch {
	case left >= 0:
		r.Left = time.Duration(min(left, maxMillis)) * time.Millisecond
	case left == -1:
		r.Left = -1
	case left != -2: // there is no key
		return unexpected(name, left)
	}
	return readFence(part[3], name, &r.Fence)
}

// readFence reads a fence or a ticket, which is 0 where there is none.
func readFence(m rueidis.RedisMessage, name string, to *uint64) error {
	if !m.IsString() {
		return unexpected(name, "no string")
	}
	text, err := m.ToString()
	if err != nil || text == "" {
		return plain(err, name)
	}
	*to, err = fence(text)
	return err
}

// fence reads a score. Scores are doubles, which are exact up to 2^53.
func fence(text string) (uint64, error) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n <= 1<<53 {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f >= 0 && f <= 1<<53) || f != math.Trunc(f) {
		return 0, unexpected("a fence", text)
	}
	return uint64(f), nil
}

// nodeTime reads the answer to TIME: the time since the Unix epoch.
func nodeTime(answer []rueidis.RedisMessage, err error) (time.Duration, error) {
	if err != nil {
		return 0, plain(err, "TIME")
	}
	if len(answer) != 2 {
		return 0, unexpected("TIME", fmt.Sprintf("%d elements", len(answer)))
	}
	sec, err := answer[0].AsInt64()
	if err != nil {
		return 0, unexpected("TIME", err)
	}
	usec, err := answer[1].AsInt64()
	if err != nil || sec < 0 || sec > 1<<33 || usec < 0 || usec >= 1e6 {
		return 0, unexpected("TIME", fmt.Sprint(sec, usec))
	}
	return time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond, nil
}
