package node

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

var (
	errStale      = errors.New("not sent: deadline passed")
	errMiscounted = errors.New("not every lease of a group was answered")

	errNoSuch    = errors.New("not sent: no such operation")
	errYoung     = errors.New("not sent: the node is young, and may have forgotten a grant that is still believed")
	errOtherLife = errors.New("not sent: the node has restarted or was replaced since")
	errForgot    = errors.New("the node does not answer with its marker: its data may be gone")
	errRaised    = errors.New("another client has changed the largest TTL, the floor or the change in the node's marker, which is read again")
	errAdvanced  = errors.New("the node's marker was changed, and is read again")
	errNoMarker  = errors.New("not sent: the node has no marker, because it is not guarded")
	errBroken    = errors.New("WRONGTYPE the name's fence or queue key is not a sorted set")
)

// by returns the Op whose script does it. A Release that must look into the queue is a Leave that
// deletes the key as well, so that the other releases need not look.
func (c *Command) by() Op {
	switch {
	case c.Op == Release && c.Queued:
		return Leave
	case c.Op == RenewAll:
		return Renew
	case c.Op == Forget:
		return Advance
	}
	return c.Op
}

// isPossible reports whether there is what an Advance, a Forget or a Highest asks for.
func (c *Command) isPossible() bool {
	switch c.Op {
	case Advance, Forget:
		_, ok := ParseChange(c.Token)
		return ok && c.Fence < 1<<53
	case Highest:
		return c.Ticket < script.Parts
	}
	return true
}

// A pipeline turns commands into what is sent at once, and the answers back into replies. Its
// buffers are used again for the next one.
type pipeline struct {
	inbox   string
	reserve script.Millis
	alive   script.Millis

	sent     clock.Instant // when the commands were queued
	young    bool          // nothing is handed over: what was forgotten may be healed
	life     string        // the present one, as its marker tells it
	marker   string        // the whole of it, after what is encoded so far
	refused  bool          // the latest Advance changes nothing: another change is under way
	single   bool          // each call of a script carries one name
	tracks   bool          // the node notifies of changes of keys that are read
	commands []Command
	replies  []Reply       // of the commands, by index; the receiver of the Batch owns them
	spare    chan []Reply  // those that were given back, to be used again
	own      int           // how many of the first commands are the actor's
	ours     []int         // of each group, by the index of its command: how many members are OK
	rest     []string      // names whose hand-over is to go on, see script.Unfinished
	live     []item        // what is to be sent
	moved    []item        // see together
	named    bool          // it begins with CLIENT GETNAME
	timed    bool          // TIME follows, or begins it
	time     time.Duration // of the node, read before everything that was done since the commands were accepted; 0 if it is not known
	calls    []call
	answer   answer // to the name that is being read
	others   []says // of the renewals of one call
	link     link
	words    []string // of the command that is being encoded
	names    map[string]struct{}

	ttl  time.Duration // the latest, and
	text script.Millis // how it is sent

	failed *failure // the latest
}

// A failure says why commands were not done. It can be compared, of whatever type err is.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failure returns the failure with the text of err. Very many commands that fail for one reason
// share one value.
func (p *pipeline) failure(err error) error {
	if err == nil {
		return nil
	}
	if p.failed == nil || p.failed.Error() != err.Error() {
		p.failed = &failure{err}
	}
	return p.failed
}

// A call is one grant, or one call of a script for several commands.
type call struct {
	op       Op // whose script it calls
	eval     bool
	from, to int // within live
	at       int // where its answers begin

	// These are of Advance: what the marker is after it, and that it changes nothing.
	marker  string
	refused bool
}

// accept takes the commands and gives each a reply. Commands whose time is over are not among the
// live ones.
func (p *pipeline) accept(commands []Command, now clock.Instant) {
	p.commands, p.time = commands, 0
	p.replies = p.empty(len(commands))
	p.own, p.live, p.ours = 0, p.live[:0], append(p.ours[:0], make([]int, len(commands))...)
	for i := range commands {
		c := &commands[i]
		if c.own {
			p.own++
		}
		p.replies[i] = Reply{ID: c.ID, Op: c.Op}
		it := item{int32(i), alone}
		switch {
		case c.Op < Grant || c.Op > lastOp || (c.Op == RenewAll) != (c.Group != nil) || !c.isPossible():
			p.unsent(it, errNoSuch)
		case c.Group != nil:
			p.acceptGroup(int32(i), c.Group, now)
		case now > c.By:
			p.unsent(it, errStale)
		default:
			p.live = append(p.live, it)
		}
	}
}

// maxSpare is how many buffers of replies are kept for later.
const maxSpare = 2

// empty returns room for so many replies. It gives up a buffer that is too small for them, and one
// that is far too large because it was of a burst.
func (p *pipeline) empty(size int) []Reply {
	select {
	case b := <-p.spare:
		if n := cap(b); n >= size && n <= max(64, 8*size) {
			return b[:size]
		}
	default:
	}
	return make([]Reply, size)
}

// acceptGroup accepts the members of a group. Each has a deadline of its own.
func (p *pipeline) acceptGroup(command int32, g *Group, now clock.Instant) {
	g.packing.Do(g.pack)
	p.live = slices.Grow(p.live, len(g.Members))
	for k := range g.Members {
		it := item{command, int32(k)}
		if now > g.Members[k].By {
			p.unsent(it, errStale)
			continue
		}
		p.live = append(p.live, it)
	}
}

func (p *pipeline) unsent(it item, err error) { p.except(it, Unsent, "", err) }

// fail gives all live commands the same answer.
func (p *pipeline) fail(status Status, err error) {
	err = p.failure(err)
	for _, it := range p.live {
		p.except(it, status, "", err)
	}
}

// build encodes the live commands, after CLIENT GETNAME and, if asked for or if there are grants,
// TIME: scripts read it themselves. loaded says which scripts the node has had since the enrolment.
// If eval is set the text of all scripts is sent. The pipeline ends with reading the marker, which
// shows that nothing was forgotten meanwhile, or otherwise the name again. The reason is a server
// that answers one thing too many: that shifts all later answers, and the answers to another name
// could be taken for a vote.
//
// If sealed is set the connection can be no other than the enrolled one. Then TIME stands in the
// place of CLIENT GETNAME before grants: the end of the pipeline shows a stranger as well, and a
// grant is as cheap as without it.
func (p *pipeline) build(s *session, withTime, eval, sealed bool, loaded *[lastOp + 1]bool) {
	p.calls, p.marker = p.calls[:0], s.marker
	p.together()
	grants := slices.ContainsFunc(p.live, func(it item) bool { return p.commands[it.command].Op == Grant })
	p.named, p.timed = !(grants && sealed), withTime || grants
	p.link = s.link
	if p.named {
		p.link.add(getName...)
	}
	if p.timed {
		p.link.add(askTime...)
	}
	for i := 0; i < len(p.live); {
		c := &p.commands[p.live[i].command]
		if c.Op == Grant {
			p.calls = append(p.calls, call{op: Grant, from: i, to: i + 1, at: p.link.gathered()})
			p.grant(c)
			i++
			continue
		}
		if c.Op == Highest {
			p.calls = append(p.calls, call{op: Highest, from: i, to: i + 1, at: p.link.gathered()})
			p.highest(c)
			i++
			continue
		}
		to := p.run(i)
		op := c.by()
		if p.packs(p.live[i:to]) != nil {
			op = RenewAll
		}
		if p.tracks && (c.by() == Renew || c.Track) {
			// It applies to the very next command.
			p.link.add(trackNext...)
		}
		text := eval || !loaded[op]
		loaded[op] = true
		p.calls = append(p.calls, call{op: op, eval: text, from: i, to: to, at: p.link.gathered()})
		p.script(op, i, to, text)
		if op == Advance {
			last := &p.calls[len(p.calls)-1]
			last.marker, last.refused = p.marker, p.refused
		}
		i = to
	}
	s.addLast()
}

// together moves the releases to the first of them, so that few calls carry all. With many callers
// grants and releases alternate, and a call costs the server as much as ten grants. Commands about
// one name keep their order. So do all that come after a group, whose names are many.
func (p *pipeline) together() {
	first := 0
	for first < len(p.live) && !p.isRelease(p.live[first]) {
		first++
	}
	if len(p.live)-first < 3 {
		return
	}
	clear(p.names)
	to, others := first, p.moved[:0]
	for _, it := range p.live[first:] {
		c := &p.commands[it.command]
		if c.Group != nil {
			break
		}
		if _, before := p.names[c.Name]; p.isRelease(it) && !before {
			p.live[to] = it
			to++
			continue
		}
		p.names[c.Name] = struct{}{}
		others = append(others, it)
	}
	copy(p.live[to:], others)
	p.moved = others
}

func (p *pipeline) isRelease(it item) bool { return p.commands[it.command].by() == Release }

// run returns the end of the run of commands that one script call may carry. They have one
// operation, and no name twice, because a script reads before it writes. A renewal may have a name
// twice: it changes no value. Renewals of one call have one TTL.
func (p *pipeline) run(from int) int {
	start := p.live[from]
	first := &p.commands[start.command]
	to := from + 1
	if p.single || first.Op == Sign || first.by() == Advance {
		return to
	}
	for ; to < len(p.live) && to-from < script.MaxNames; to++ {
		if p.live[to].command == start.command {
			continue // of one group
		}
		if p.packs(p.live[from:to]) != nil {
			break
		}
		c := &p.commands[p.live[to].command]
		if c.by() != first.by() || c.Track != first.Track || c.Brief != first.Brief {
			break
		}
		if first.by() == Renew {
			if p.ttlOf(p.live[to]) != p.ttlOf(start) {
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

// grant adds plain commands: a script would cost a lone grant 1.3 times the latency. Each of them
// costs all nodes together about a fortieth of it, so what is not needed is left out.
func (p *pipeline) grant(c *Command) {
	p.add(append(p.words[:0], "SET", c.Name, c.Token, "NX", "PX", string(p.millis(c.TTL))))
	p.add(append(p.words[:0], "ZADD", script.FenceKey(c.Name), "GT", "CH", strconv.FormatUint(c.Fence, 10), script.Member))
}

// highest adds plain commands as well. A script would need the rights to keys of many slots at once.
func (p *pipeline) highest(c *Command) {
	for _, key := range script.Part(int(c.Ticket)) {
		p.add(append(p.words[:0], "ZSCORE", key, script.Member))
	}
}

// advance computes the marker that an Advance or a Forget leaves. The node compares its own with the one from
// which this began, so that nothing is decided here of which it knows otherwise.
func (p *pipeline) advance(c *Command) {
	mark, change, _ := readMark(p.marker)
	told, _ := ParseChange(c.Token)
	next, ok := change.Advanced(told)
	floor := max(mark.Floor, c.Fence)
	if c.Op == Forget {
		next, ok = change.Forgotten(told)
		floor = mark.Floor
	}
	if p.refused = !ok; ok {
		mark.Floor, mark.Change = floor, next.String()
		p.marker = mark.String()
	}
}

// readMark reads a marker. It returns false if that cannot be read.
func readMark(marker string) (mark script.Mark, change Change, ok bool) {
	mark, ok = script.ReadMark(marker)
	if ok {
		change, ok = ParseChange(mark.Change)
	}
	return mark, change, ok
}

// leaves returns what the marker must be at the end of a pipeline: what its last Advance left that
// the node has run, or else what it was. A marker that was as told when the Advance was run was so
// all the time before.
func (p *pipeline) leaves(vs []value, s *session) string {
	marker := s.marker
	for _, c := range p.calls {
		if c.op != Advance {
			continue
		}
		if answer, err := vs[c.at].array(); err == nil && len(answer) == 2+script.Advance.Each {
			if says, err := answer[2+script.Says].integer(); err == nil && says == script.Ours {
				marker = c.marker
			}
		}
	}
	return marker
}

// add gathers a command whose words are in the buffer for that.
func (p *pipeline) add(words []string) {
	p.link.add(words...)
	clear(words)
	p.words = words
}

// script encodes one call for a run of the live commands.
func (p *pipeline) script(by Op, from, to int, eval bool) {
	live := p.live[from:to]
	op := &operations[by]
	words := append(p.words[:0], "EVALSHA", op.SHA, strconv.Itoa(len(live)*op.Keys))
	if eval {
		words[0], words[1] = "EVAL", op.Text
	}
	for _, key := range op.KeysOf {
		for _, it := range live {
			words = append(words, key(p.nameOf(it)))
		}
	}
	if op.call != nil {
		words = op.call(p, words, live[0])
	}
	switch {
	case by == RenewAll:
		words = p.renewAll(words, p.packs(live), live)
	case by == Renew:
		for _, it := range live {
			words = script.RenewArgs(words, p.tokenOf(it))
		}
	case op.args != nil:
		for _, it := range live {
			words = op.args(p, words, &p.commands[it.command])
		}
	}
	p.add(words)
}

// reserves returns how long a reservation lasts that the node makes.
func (p *pipeline) reserves() script.Millis {
	if p.young {
		return script.ReserveNothing
	}
	return p.reserve
}

func (p *pipeline) millis(ttl time.Duration) script.Millis {
	if ttl != p.ttl || p.text == "" {
		p.ttl, p.text = ttl, script.InMillis(ttl)
	}
	return p.text
}

// readFirst reads the answers that begin a pipeline, and returns the node's time, 0 if that was not
// asked for.
func (p *pipeline) readFirst(vs []value, s *session) (time.Duration, error) {
	if p.named {
		if err := s.named(&vs[0]); err != nil {
			return 0, err
		}
		vs = vs[1:]
	}
	if !p.timed {
		return 0, nil
	}
	return nodeTime(vs[0].array())
}

// read decodes the answers. It keeps in live only the commands that must be sent again: the node
// did not have their script, or did not take so many names in one call. It has run none of these.
// After the last trip there are none. An error means that the enrolment is over: the answers that
// came with it have been dealt with.
func (p *pipeline) read(vs []value, s *session, last bool) (at time.Duration, over error) {
	resend := p.live[:0] // never overtakes the reading
	for _, c := range p.calls {
		live := p.live[c.from:c.to]
		t, refused, bad := p.readCall(vs, s, c, last)
		if refused {
			resend = append(resend, live...)
			continue
		}
		if bad == nil {
			if at == 0 {
				at = t // before any of them was run
			}
			continue
		}
		why := s.why(bad)
		shared := p.failure(why)
		for _, it := range live { // a key may be set all the same
			if r := &p.replies[it.command]; it.member == alone {
				*r = Reply{ID: r.ID, Op: r.Op}
			}
			p.except(it, Unknown, "", shared)
		}
		if over == nil && endsEnrolment(bad) {
			over = why
		}
	}
	p.live = resend
	return at, over
}

// readCall reads the answers to one call. refused says that it must be sent again.
func (p *pipeline) readCall(vs []value, s *session, c call, last bool) (at time.Duration, refused bool, err error) {
	live := p.live[c.from:c.to]
	switch c.op {
	case Grant:
		return 0, false, readGrant(vs[c.at:c.at+2], &p.replies[live[0].command])
	case Highest:
		return 0, false, p.readHighest(vs[c.at:], live[0])
	}
	answer, err := vs[c.at].array()
	if s.refuses(err, c, last) {
		return 0, true, nil
	}
	if err = plain(err, operations[c.op].Name); err != nil {
		return 0, false, err
	}
	if c.op == Renew || c.op == RenewAll {
		at, err = p.readRenewals(answer, c.op, live)
	} else {
		at, err = p.readScript(answer, c.op, live)
	}
	if err == nil && c.op == Advance {
		readAdvance(c, &p.replies[live[0].command])
	}
	return at, false, err
}

// readAdvance tells what the node keeps, if it has run the command. Else the marker is another one
// than the pipeline began with, and the end of the pipeline says the same.
func readAdvance(c call, r *Reply) {
	if r.Status != OK {
		r.Status, r.Err = Unknown, errRaised
		return
	}
	if c.refused {
		r.Status = Other
	}
	mark, _ := script.ReadMark(c.marker)
	r.Value, r.Fence = mark.Change, mark.Floor
}

// readHighest reads the largest fence of one part of the registers. A key of another type keeps
// none.
func (p *pipeline) readHighest(vs []value, it item) error {
	c, r := &p.commands[it.command], &p.replies[it.command]
	highest := uint64(0)
	for i := range script.Part(int(c.Ticket)) {
		text, err := vs[i].string()
		if told, did := said(err); did && strings.HasPrefix(told, "WRONGTYPE") || err == errNil {
			continue
		}
		if err = plain(err, "ZSCORE"); err != nil {
			return err
		}
		stored, err := score(text)
		if err != nil {
			return err
		}
		highest = max(highest, stored)
	}
	r.Status, r.Fence, r.Ticket = OK, highest, (c.Ticket+1)%script.Parts
	return nil
}

// refuses reports whether the node has run nothing of a call, so that another try is worthwhile:
// with the text of the script, or with one name in a call.
func (s *session) refuses(err error, c call, last bool) (refused bool) {
	if text, did := said(err); did {
		crosses := c.to-c.from > 1 && strings.HasPrefix(text, "CROSSSLOT")
		s.single = s.single || crosses
		refused = strings.HasPrefix(text, "NOSCRIPT") && !c.eval || crosses && !last
	}
	return refused
}

// endsEnrolment reports whether the connection has failed, or the server is not a primary
// any more. Any other error is that command's alone.
func endsEnrolment(bad error) bool {
	if text, did := said(bad); did {
		return readonly(text)
	}
	return !errors.Is(bad, errAnswer)
}

// readonly reports whether an error is READONLY, on its own or, before Redis 7, within the error of
// a script.
func readonly(text string) bool {
	return strings.HasPrefix(text, "READONLY ") || strings.Contains(text, "-READONLY ")
}

var errAnswer = errors.New("unexpected answer")

func unexpected(to string, got any) error { return fmt.Errorf("%w to %s: %v", errAnswer, to, got) }

func readGrant(vs []value, r *Reply) error {
	status, err := readSet(&vs[0])
	if err != nil {
		return err
	}
	changed, err := integer(&vs[1], "ZADD")
	if err != nil {
		return err
	}
	if changed < 0 || changed > 1 {
		return unexpected("ZADD", changed)
	}
	r.Status, r.Raised = status, changed == 1
	return nil
}

func readSet(v *value) (Status, error) {
	switch err := v.err(); {
	case err == errNil:
		return Other, nil
	case err != nil:
		return Unknown, plain(err, "SET")
	case !v.isText("OK"):
		return Unknown, unexpected("SET", "not OK")
	}
	return OK, nil
}

func integer(v *value, command string) (int64, error) {
	n, err := v.integer()
	return n, plain(err, command)
}

// plain leaves the node's own errors and those of the connection as they are; a value of another
// type becomes errAnswer.
func plain(err error, command string) error {
	switch {
	case err == nil:
		return nil
	case err == errNil:
		return unexpected(command, "nil")
	case errors.Is(err, errType):
		return unexpected(command, err)
	}
	return err
}

// readScript gives each live command its reply. If anything differs from what the script answers,
// it gives none of them a reply.
func (p *pipeline) readScript(all []value, by Op, live []item) (time.Duration, error) {
	op := &operations[by]
	if len(all) != 2+op.Each*len(live) {
		return 0, unexpected(op.Name, fmt.Sprintf("%d elements for %d names", len(all), len(live)))
	}
	at, err := nodeTime(all[:2], nil)
	if err != nil {
		return 0, err
	}
	a := &p.answer
	a.script, a.err = op.Name, nil
	for k, it := range live {
		a.elements = all[2+op.Each*k:][:op.Each]
		r := &p.replies[it.command]
		unfinished := a.status(op.Script, r)
		if a.err == nil && op.read != nil {
			op.read(a, r)
		}
		if a.err != nil {
			break
		}
		if name := p.commands[it.command].Name; unfinished && !slices.Contains(p.rest, name) {
			p.rest = append(p.rest, name)
		}
	}
	a.elements = nil
	return at, a.err
}

// A says is what a renewal answers about a name that is not ours.
type says struct {
	at    int // within the call
	reply Reply
}

// readRenewals does for renewals what readScript does. Their answer has only the names that are not
// ours. It believes nothing before it has read everything.
func (p *pipeline) readRenewals(all []value, by Op, live []item) (time.Duration, error) {
	op := &operations[by]
	const first = 2 + script.RenewOthers
	if len(all) < first {
		return 0, unexpected(op.Name, fmt.Sprintf("%d elements", len(all)))
	}
	at, err := nodeTime(all[:2], nil)
	if err != nil {
		return 0, err
	}
	a := &p.answer
	a.script, a.err, a.elements = op.Name, nil, all[2:]
	others := len(live) - int(a.number(script.RenewOurs, int64(len(live))))
	if a.err == nil && len(all) != first+2*others {
		a.err = unexpected(op.Name, fmt.Sprintf("%d elements for %d of %d names", len(all), others, len(live)))
	}
	p.others = p.others[:0]
	for next := 1; len(p.others) < others && a.err == nil; {
		a.elements = all[first+2*len(p.others):][:2]
		k := int(a.number(0, int64(len(live))))
		if a.err == nil && k < next {
			a.err = unexpected(op.Name, fmt.Sprintf("name %d after %d", k, next-1))
		}
		r := Reply{Op: Renew}
		a.elements = a.elements[1:]
		if a.err == nil {
			a.status(op.Script, &r)
		}
		p.others = append(p.others, says{k - 1, r})
		next = k + 1
	}
	a.elements = nil
	if a.err != nil {
		return 0, a.err
	}
	rest := p.others
	for k, it := range live {
		if len(rest) > 0 && rest[0].at == k {
			p.except(it, rest[0].reply.Status, rest[0].reply.Value, nil)
			rest = rest[1:]
			continue
		}
		p.renewed(it)
	}
	clear(p.others)
	return at, nil
}

// fingerprints reads the entries, and leaves out what it cannot read: another program has written
// it.
func fingerprints(value string) (all []Fingerprint) {
	if value == "" {
		return nil
	}
	for line := range strings.SplitSeq(value, "\n") {
		text, since, until := "", "", ""
		if at := strings.LastIndexByte(line, ' '); at > 0 {
			text, until = line[:at], line[at+1:]
		}
		if at := strings.LastIndexByte(text, ' '); at > 0 {
			text, since = text[:at], text[at+1:]
		}
		began, ok := moment(since)
		ends, ok2 := moment(until)
		if ok && ok2 {
			all = append(all, Fingerprint{Text: text, Since: began, Until: ends})
		}
	}
	return all
}

// moment reads a time of a node in ms.
func moment(text string) (time.Duration, bool) {
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ms >= 0 && ms <= float64(maxMillis)) {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

// maxMillis is how many milliseconds fit into a Duration.
const maxMillis = math.MaxInt64 / int64(time.Millisecond)

// score reads a fence or a ticket. Scores are doubles, which are exact up to 2^53.
func score(text string) (uint64, error) {
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
func nodeTime(answer []value, err error) (time.Duration, error) {
	if err != nil {
		return 0, plain(err, "TIME")
	}
	if len(answer) != 2 {
		return 0, unexpected("TIME", fmt.Sprintf("%d elements", len(answer)))
	}
	sec, err := answer[0].decimal()
	if err != nil {
		return 0, unexpected("TIME", err)
	}
	usec, err := answer[1].decimal()
	if err != nil || sec < 0 || sec > 1<<33 || usec < 0 || usec >= 1e6 {
		return 0, unexpected("TIME", fmt.Sprint(sec, usec))
	}
	return time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond, nil
}
