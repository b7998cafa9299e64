package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

var (
	errSealed   = errors.New("enrolled connection closed")
	errStranger = errors.New("another connection answered than the one that was enrolled")
	errShifted  = errors.New("replies out of step with requests")
	errEnded    = errors.New("connection given up")
)

// A session is one enrolment. It is a connection, known by the nonce that was set as its name, to a
// server whose identity was asked for over it. It never reconnects; it ends, and a new session is
// opened.
//
// A pipeline is bounded by a watchdog goroutine and not by a context of its own, which would cost
// it five allocations.
type session struct {
	clock   clock.Clock
	within  time.Duration   // the time for each step of connecting
	dialled time.Duration   // the time within which a dial must succeed, without its TLS
	again   time.Duration   // after which a dial begins another one meanwhile; 0 if it does not
	ctx     context.Context // done when the session must be given up at once
	cancel  context.CancelCauseFunc
	nonce   string
	changed *changedKeys  // of those that are tracked; nil if they are not wanted
	tracks  bool          // keys can be tracked
	flushed atomic.Int64  // when the latest flush of data was reported; 0 if none was
	listens bool          // it is not enrolled, but subscribes
	heard   bool          // another session listens as long as this one lives
	marker  string        // what the server must still answer after every pipeline; "" without guard
	life    string        // the beginning of the marker: the incarnation, and since when
	single  bool          // the server refuses keys of several names in one call
	begun   clock.Instant // when it was enrolled
	proved  bool          // a pipeline was answered

	client  rueidis.CoreClient
	stream  *stream // the connection, if it is ours
	link    link    // that, or the client
	closing func()

	watched   bool          // the watcher reads the stream; the actor's alone
	watch     chan struct{} // begins that; room for one
	watchOver chan struct{} // receives when it has ended; room for one
	once      sync.Once     // guards the call of closing

	due    atomic.Int64  // when an answer is overdue; 0 if none is waited for, missed if it was
	sleeps atomic.Int64  // until when the watchdog does, Never without a timer
	begin  chan struct{} // wakes it; room for one

	// Once the session is enrolled, an overdue answer ends the waiting for it, and not the session.
	// This is the actor's alone, but for the function, which the watchdog calls.
	waiting context.Context
	endWait atomic.Pointer[func()]
	cutting sync.Mutex    // while the watchdog ends it
	late    time.Duration // how long the session waited for an answer in vain; 0 if it did not

	lost chan struct{} // closed when the connection broke, also while idle

	mu     sync.Mutex
	wires  map[*wire]struct{} // open ones
	sealed bool               // connected: no further dial of a data server, except by a session that listens
	ended  bool               // no further dial at all
	broken error              // why lost is closed

	callouts *callouts
	waits    map[string]int // what the session waits for besides the server, by how many
	secrets  []string
}

// missed replaces the due time of an answer that is overdue by now.
const missed = -1

func newSession(ctx context.Context, clk clock.Clock, within, dialled time.Duration, callouts *callouts) *session {
	s := &session{
		callouts: callouts, clock: clk, within: within, dialled: dialled, nonce: "leasehold-" + rand.Text(),
		begin: make(chan struct{}, 1), lost: make(chan struct{}), wires: map[*wire]struct{}{},
		closing: func() {},
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// watchdog ends the session when an answer is overdue. Once the session is enrolled it ends only
// the waiting for that answer. It cuts the session when its context is done. It sleeps while
// nothing is under way, and otherwise wakes about once for each patience, however many pipelines
// there are.
func (s *session) watchdog() {
	defer s.lose(errEnded) // if it is overdue just when the answer comes
	defer s.sever()
	t := s.clock.NewTimer(s.within)
	defer t.Stop()
	var unheeded clock.Instant // when the goroutine that waits should long have heard that the waiting must end; 0 if it has
	for {
		due := s.due.Load()
		at := clock.Never
		switch {
		case due == missed && unheeded != 0:
			at = unheeded
		case due != 0 && due != missed:
			at, unheeded = clock.Instant(due), 0
		}
		s.sleeps.Store(int64(at))
		if s.due.Load() != due {
			continue // the goroutine that has changed it may not know yet until when this sleeps
		}
		if at != clock.Never {
			left := at.Sub(s.clock.Now())
			switch {
			case left > 0:
			case due == missed: // it is over a connection that does not heed its deadlines
				s.cancel(s.overdue(s.within))
				return
			case s.missed(due):
				return
			default:
				unheeded = s.clock.Now().Add(s.within)
				continue
			}
			t.Reset(left)
		}
		select {
		case <-s.begin:
		case <-t.C():
		case <-s.ctx.Done():
			return
		}
	}
}

// missed handles an overdue answer, and reports whether the session is over.
func (s *session) missed(due int64) bool {
	end := s.endWait.Load()
	s.cutting.Lock()
	defer s.cutting.Unlock()
	switch {
	case !s.due.CompareAndSwap(due, missed): // the session waits for another one by now
	case end == nil:
		s.cancel(s.overdue(s.within))
		return true
	default:
		(*end)()
	}
	return false
}

func (s *session) overdue(within time.Duration) error {
	return fmt.Errorf("%s within %v: %w", s.waitedFor(), within, context.DeadlineExceeded)
}

func noAnswer(within time.Duration) error {
	return fmt.Errorf("no answer within %v: %w", within, context.DeadlineExceeded)
}

// start makes the watchdog wait from now on, for so long, until stop.
func (s *session) start(now clock.Instant, patience time.Duration) {
	due := int64(now.Add(patience))
	s.due.Store(due)
	if due >= s.sleeps.Load() {
		return
	}
	select {
	case s.begin <- struct{}{}:
	default:
	}
}

// stop ends the waiting, and reports whether the answer is overdue.
func (s *session) stop() bool {
	overdue := s.due.Swap(0) == missed
	if overdue && s.stream != nil {
		s.cutting.Lock() // after the watchdog has ended the waiting
		s.stream.goOn()
		s.cutting.Unlock()
	}
	return overdue
}

// stepped returns when the present step of connecting has begun; false if there is none.
func (s *session) stepped() (clock.Instant, bool) {
	due := s.due.Load()
	return clock.Instant(due).Add(-s.within), due != 0 && due != missed
}

// await makes an overdue answer end only the waiting from now on, and not the session.
func (s *session) await() {
	s.waiting = s.ctx
	var end func()
	if s.stream != nil {
		end = s.stream.endWaiting
	} else {
		s.waiting, end = context.WithCancel(s.ctx)
	}
	s.endWait.Store(&end)
}

// take makes the connection ours, once the library has greeted the server. There is a connection by
// then, and the library does nothing over it unasked. It reports false if there is none, or if it
// knows no deadlines.
func (s *session) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.wires {
		if w.Conn.SetDeadline(time.Time{}) != nil {
			return false
		}
		w.taken.Store(true)
		s.stream = &stream{wire: w}
		if s.changed != nil {
			s.stream.news = s.invalidated
		}
		s.watch, s.watchOver = make(chan struct{}, 1), make(chan struct{}, 1)
		go s.watcher()
		return true
	}
	return false
}

// watcher reads what comes over the connection while nothing is asked: its end, and notifications.
// It ends with the session.
func (s *session) watcher() {
	for {
		select {
		case <-s.watch:
			s.stream.watch()
			s.watchOver <- struct{}{}
		case <-s.ctx.Done():
			return
		}
	}
}

// beginWatch makes the watcher read until unwatch.
func (s *session) beginWatch() {
	s.watched = true
	s.watch <- struct{}{}
}

// isUnwatched reports whether it would go unnoticed that the connection has broken.
func (s *session) isUnwatched() bool { return s.stream != nil && !s.watched }

// unwatch ends the watch. It reports false if the watch does not end in time. Then the connection
// has been given up.
func (s *session) unwatch() bool {
	if !s.watched {
		return true
	}
	s.stream.endWatch()
	tooLong := s.clock.NewTimer(s.within)
	defer tooLong.Stop()
	select {
	case <-s.watchOver:
	case <-tooLong.C():
		s.lose(errDeadlines)
		s.sever()
		return false
	}
	s.watched = false
	s.stream.goOn()
	return true
}

var errDeadlines = errors.New("the connection does not heed its deadlines")

// step restarts the time that the watchdog allows. Connecting takes several round trips, and each
// may be as long as one of a pipeline. It neither starts the watchdog nor saves an answer that is
// overdue: the library goes on to another Sentinel then.
func (s *session) step() {
	now := s.clock.Now()
	if due := s.due.Load(); due != 0 && due != missed && now < clock.Instant(due) {
		s.due.CompareAndSwap(due, int64(now.Add(s.within)))
	}
}

// dial connects within the enrolment. Once the enrolment is over, it dials only a Sentinel.
// Otherwise the library would reconnect on its own, or follow a failover to a server whose identity
// was not asked for. If it wants that, a new enrolment is due.
func (s *session) dial(sentinel bool, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	// It needs s.mu.
	refused := func() bool { return s.ended || s.sealed && !sentinel && !s.listens }
	s.mu.Lock()
	no := refused()
	s.mu.Unlock()
	if no {
		s.lose(errSealed)
		return nil, errSealed
	}
	c, err := dial(s.ctx)
	if err != nil {
		return nil, err
	}
	pushes := nothing
	switch {
	case sentinel:
		pushes = anything
	case s.listens:
		pushes = messages
	case s.changed != nil:
		pushes = invalidations
	}
	w := newWire(c, pushes)
	w.onClose = s.forget
	if !sentinel {
		w.onError = s.fail
	}
	if pushes == messages {
		// Over RESP2 it subscribes over a second connection, and nothing of ours runs between its
		// greeting and that.
		begin := w.written.begin
		w.written.begin = func(kind byte) error {
			s.step()
			return begin(kind)
		}
	}
	s.mu.Lock()
	no = refused()
	behind := s.sealed && sentinel // of what is being connected or asked
	if !no {
		s.wires[w] = struct{}{}
	}
	s.mu.Unlock()
	if no {
		w.sever()
		return nil, errSealed
	}
	if !behind {
		s.step()
	}
	return w, nil
}

func (s *session) forget(w *wire) {
	s.mu.Lock()
	delete(s.wires, w)
	s.mu.Unlock()
}

// fail records an error in reading. An error on a connection that the library has closed before is
// none: it looks at several servers behind Sentinels.
func (s *session) fail(w *wire, err error) {
	s.mu.Lock()
	_, open := s.wires[w]
	s.mu.Unlock()
	if open {
		s.lose(err)
	}
}

func (s *session) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = err
		close(s.lost)
	}
}

// isLost reports whether the connection is known to have broken.
func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// ask asks whether the connection still is the one that was enrolled, and the node's data what it
// was. Its answer comes after all that the node has yet to answer. It returns the node's time as
// well.
func (s *session) ask() (time.Duration, error) {
	s.link.add(getName...)
	s.link.add(askTime...)
	s.addLast()
	vs := s.link.exchange(s.ctx)
	if _, err := s.disbelieve(vs, s.named(&vs[0]), s.marker); err != nil {
		return 0, err
	}
	return nodeTime(vs[1].array())
}

// addLast adds the command that ends a round trip: reading the marker, which shows that nothing was
// forgotten meanwhile, or otherwise the name.
func (s *session) addLast() {
	if s.marker != "" {
		s.link.add(getMarker...)
	} else {
		s.link.add(getName...)
	}
}

// These commands are made once, because each would be an object for itself.
var (
	getName   = []string{"CLIENT", "GETNAME"}
	getMarker = []string{"GET", script.Marker}
	askTime   = []string{"TIME"}
	trackNext = []string{"CLIENT", "CACHING", "YES"}
)

// named returns an error if the answer to CLIENT GETNAME is not that of the connection which was
// enrolled.
func (s *session) named(answer *value) error {
	name, err := answer.bytes()
	if err == nil && string(name) != s.nonce || err == errNil {
		return errStranger
	}
	return plain(err, "CLIENT GETNAME")
}

// disbelieve returns an error if no answer of a round trip counts, and the status of the commands
// then. Another connection answered, or the server has forgotten something, or one answer too many
// has shifted the others. first is what was wrong with the first answers, and marker what the last
// one must be if there is a marker.
func (s *session) disbelieve(vs []value, first error, marker string) (Status, error) {
	switch {
	case first == nil:
	case errors.Is(first, errSealed), errors.As(first, new(*unsentError)): // the library would have had to dial, or the connection was closed before
		return Unsent, s.why(first)
	default:
		return Unknown, s.why(first)
	}
	last, want := errShifted, s.nonce
	if s.marker != "" {
		last, want = errForgot, marker
	}
	if got, err := vs[len(vs)-1].bytes(); err != nil || string(got) != want {
		if s.marker != "" && strings.HasPrefix(string(got), s.life+" ") {
			last = errRaised
		}
		// It may have forgotten before this answer or after it, or have answered something else.
		if err != nil && err != errNil {
			last = s.why(err)
		}
		return Unknown, last
	}
	return OK, nil
}

// connect sets up the client. It blocks until a connection was made or ctx is done. If the client
// is a user's, lend makes the connection.
func (s *session) connect(c Conn, lend func(context.Context) (rueidis.DedicatedClient, error)) error {
	if err := c.Err(); err != nil {
		return err
	}
	if c.client != nil {
		done := s.waitFor(inClient)
		d, err := lend(s.ctx)
		done()
		if err != nil {
			return err
		}
		s.client, s.link = d, &library{client: d}
		// Its Close may wait a second for a hung node.
		s.closing = func() { go d.Close() }
		return nil
	}
	own := *c.opt.ClientOption
	if fn := own.AuthCredentialsFn; fn != nil {
		own.AuthCredentialsFn = s.withCredentials(fn)
	}
	if dial := dialerOf(&own); dial != nil {
		own.DialCtxFn = s.withDialer(dial)
	}
	c.opt = behind(&own)
	o := c.options(s.within, s.dialled, s.again, s.dial, func(p string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p != "" {
			s.secrets = append(s.secrets, p)
		}
		if len(p) > echoed {
			s.secrets = append(s.secrets, p[:echoed])
		}
	})
	ours := c.isTaken() && !s.listens
	switch {
	case ours:
		// Then the library reads only what it has asked for, until it gets the first command after
		// its greeting.
		o.AlwaysPipelining = false
		o.RingScaleEachConn, o.ReadBufferEachConn, o.WriteBufferEachConn = 1, 1<<10, 1<<10
	case s.changed != nil:
		o.OnInvalidations = s.told
	}
	client, err := rueidis.NewClient(o)
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	if client != nil { // also with an error
		s.client, s.closing = client, client.Close
		s.link = &library{client: client}
	}
	if err == nil && ours {
		if s.take() {
			s.link = s.stream
		} else {
			s.changed = nil // the library has no callback for it
		}
	}
	return err
}

// echoed is to how many bytes Redis cuts an argument that it repeats in an error.
const echoed = 128

// refusals are the beginnings of errors that a server repeats until its configuration, or ours, is
// changed.
var refusals = []string{
	"WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "AUTH ", "invalid password", "max number of clients",
	"DB index", "The user executing the script can't",
}

// isRefusal reports whether a server refuses a connection for good.
func isRefusal(err error) bool {
	if text, did := said(err); did {
		text = strings.TrimPrefix(text, "ERR ")
		return slices.ContainsFunc(refusals, func(begin string) bool { return strings.HasPrefix(text, begin) })
	}
	var certificate *tls.CertificateVerificationError
	var plain tls.RecordHeaderError // it does not speak TLS
	return errors.Is(err, errCluster) || errors.Is(err, errNoRedis) || errors.As(err, &certificate) || errors.As(err, &plain) ||
		isAlert(err)
}

// An identity holds what an enrolment finds out.
type identity struct {
	run, replication string // the run id and the replication id, "" if the server does not say
	time             time.Duration
	sent, back       clock.Instant // before they were asked for, and after they were answered
	heard            clock.Instant // after the answer that says which incarnation this is
	latency          time.Duration
	evicts           string // the policy, if the server may evict keys

	// These are not known without guard.
	marker   string        // the whole of it
	since    string        // when this incarnation began, as the marker says
	age      time.Duration // how long ago that was by the node's clock; not negative
	maxTTL   time.Duration
	change   Change
	floor    uint64
	marked   clock.Instant // before the marker was asked for
	grown    bool          // a client has written that this life is
	identity string        // of the data
}

// errCluster is for a server that answers CROSSSLOT to many commands, and moves its slots.
var errCluster = errors.New("server in cluster mode: a cluster cannot be one node")

// enrol asks the server for its identity and marks the connection, in one pipeline. In a second one
// it compares the server's incarnation with the marker, and writes it there. It sends no second one
// if guard is off or the server does not say which one it is. maxTTL and known are what mark needs.
func (s *session) enrol(guard bool, maxTTL time.Duration, known string) (identity, error) {
	s.step()
	sent := s.clock.Now()
	s.link.add("INFO", "server")
	s.link.add("INFO", "replication")
	s.link.add("TIME")
	s.link.add("CLIENT", "SETNAME", s.nonce)
	s.link.add("INFO", "memory")
	if s.changed != nil {
		s.link.add("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP")
	}
	vs := s.link.exchange(s.ctx)
	back := s.clock.Now()
	id := identity{latency: back.Sub(sent), sent: sent, back: back, heard: back}

	server, err := info(&vs[0])
	if err != nil {
		return id, err
	}
	if field(server, "redis_mode") == "cluster" || field(server, "server_mode") == "cluster" {
		return id, errCluster
	}
	replication, err := info(&vs[1])
	if err != nil {
		return id, err
	}
	if role := field(replication, "role"); role != "" && role != "master" {
		return id, fmt.Errorf("not a primary: its role is %s", role)
	}
	id.run, id.replication = field(server, "run_id"), field(replication, "master_replid")
	if id.time, err = nodeTime(vs[2].array()); err != nil {
		return id, err
	}
	if name, err := vs[3].string(); err != nil {
		return id, err
	} else if name != "OK" {
		return id, unexpected("CLIENT SETNAME", name)
	}
	if memory, err := info(&vs[4]); err == nil && field(memory, "maxmemory") != "0" {
		if policy := field(memory, "maxmemory_policy"); policy != "noeviction" {
			id.evicts = policy
		}
	}
	if s.changed != nil {
		// Over RESP2 a server accepts it, and sends nothing. INFO shows which protocol it is: in
		// RESP3 it is a verbatim string.
		on, err := vs[5].string()
		s.tracks = err == nil && on == "OK" && !vs[0].isString()
	}
	s.begun = back
	if !guard || id.run == "" || id.replication == "" {
		return id, nil
	}
	return id, s.mark(&id, maxTTL, known)
}

// mark asks the server which incarnation this is, and since when. It raises the marker's MaxTTL to
// maxTTL. known is the identity of this node, "" if it was never met: it gets that if it was emptied.
func (s *session) mark(id *identity, maxTTL time.Duration, known string) error {
	s.step()
	id.marked = s.clock.Now()
	words := []string{"EVAL", script.Enrol.Text, strconv.Itoa(script.Enrol.Keys)}
	for _, key := range script.Enrol.KeysOf {
		words = append(words, key(""))
	}
	s.link.add("CLIENT", "GETNAME")
	s.link.add(script.EnrolArgs(words, id.run+"/"+id.replication, maxTTL, known)...)
	vs := s.link.exchange(s.ctx)
	// It is not set earlier: the data may have been lost since the first pipeline.
	id.heard = s.clock.Now()
	if name, err := vs[0].string(); err != nil {
		return err
	} else if name != s.nonce {
		return errStranger
	}
	answer, err := vs[1].array()
	if err != nil {
		return plain(err, script.Enrol.Name)
	}
	if len(answer) != 2+script.Enrol.Each {
		return unexpected(script.Enrol.Name, fmt.Sprintf("%d elements", len(answer)))
	}
	now, err := nodeTime(answer[:2], nil)
	if err != nil {
		return err
	}
	answer = answer[2:]
	if id.marker, err = answer[script.EnrolMarker].string(); err != nil {
		return plain(err, script.Enrol.Name)
	}
	grown, err := answer[script.EnrolGrown].integer()
	if err != nil {
		return plain(err, script.Enrol.Name)
	}
	id.grown = grown == 1
	if id.identity, err = answer[script.EnrolIdentity].string(); err != nil {
		return plain(err, script.Enrol.Name)
	}
	mark, change, ok := readMark(id.marker)
	text, ours := strings.CutPrefix(mark.Life, id.run+"/"+id.replication+" ")
	since, err := strconv.ParseInt(text, 10, 64)
	if !ok || !ours || err != nil || mark.MaxTTL > maxMillis || grown < 0 || grown > 1 || !isIdentity(id.identity) {
		return unexpected(script.Enrol.Name, fmt.Sprintf("%q, %d, %q", id.marker, grown, id.identity))
	}
	id.since, id.maxTTL = text, time.Duration(mark.MaxTTL)*time.Millisecond
	id.change, id.floor = change, mark.Floor
	// A time from the future was written by a clock that has been set back since.
	id.age = time.Duration(max(0, now.Microseconds()-since)) * time.Microsecond
	s.marker, s.life = id.marker, mark.Life
	return nil
}

// isIdentity reports whether a text can stand in a list of identities, and that in a marker.
func isIdentity(text string) bool { return text != "" && !strings.ContainsAny(text, " ,\t\v\f\r\n") }

// info returns one section, or nothing if the server has no such section.
func info(v *value) (string, error) {
	text, err := v.string()
	switch {
	case errors.Is(err, errType), v.kind == '#', v.kind == ',':
		return "", errors.New("unexpected answer to INFO")
	case err == nil:
		return text, nil
	}
	if text, did := said(err); did && strings.Contains(text, "section") && strings.Contains(text, "support") {
		return "", nil
	}
	return "", err
}

func field(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// end gives the session up: nothing is read or sent over it afterwards.
func (s *session) end() {
	s.cancel(errEnded)
	s.sever()
	s.once.Do(s.closing)
}

// sever cuts every connection. Without it, closing the client would wait a second
// for a node that hangs.
func (s *session) sever() {
	s.mu.Lock()
	s.ended = true
	wires := s.wires
	s.wires = map[*wire]struct{}{}
	s.mu.Unlock()
	for w := range wires {
		w.sever()
	}
}

// why turns an error of the client into one that says what the session knows, without credentials.
// A server may repeat a command that it did not understand.
func (s *session) why(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	if err == nil {
		return nil
	}
	theirs := errors.As(err, new(*credentialsError))
	if !theirs && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)) {
		if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
			return noAnswer(s.dialled)
		}
		return s.overdue(s.within) // the library was faster than the watchdog
	}
	if !theirs && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed)) {
		return fmt.Errorf("connection closed by the node: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := err.Error()
	clean := text
	for _, p := range s.secrets {
		clean = strings.ReplaceAll(clean, p, "***")
	}
	if clean != text {
		return errors.New(clean)
	}
	if strings.Contains(text, noRight) {
		return fmt.Errorf("NOPERM for a command of a script: %w", err)
	}
	return err
}

// noRight is the error of Redis before 7.2 if the user may not run a command of a script. It says
// neither which command, nor that it is NOPERM.
const noRight = "The user executing the script can't run this command"
