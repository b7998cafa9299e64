package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
	errSealed   = errors.New("the connection that was enrolled is gone")
	errStranger = errors.New("another connection answered than the one that was enrolled")
	errShifted  = errors.New("the answers of the node do not fit what it was asked")
	errEnded    = errors.New("connection given up")
)

// A session is one enrolment: a connection, known by the nonce that was set as
// its name, to a server whose identity was asked for over it. It never reconnects;
// it ends, and a new session is opened.
//
// A pipeline is bounded by a watch goroutine and not by a context of its own,
// which would cost it five allocations.
type session struct {
	clock   clock.Clock
	timeout time.Duration
	ctx     context.Context // done when the session must be given up at once
	cancel  context.CancelCauseFunc
	nonce   string
	news    *news         // of keys that are tracked; nil if nobody wants them
	tracks  bool          // keys can be tracked
	listens bool          // it is not enrolled, but subscribes
	marker  string        // what it must still say behind every pipeline; "" without guard
	begun   clock.Instant // when it was enrolled
	proved  bool          // a pipeline was answered

	client  rueidis.CoreClient
	closing func()

	sent  atomic.Int64  // since when an answer is waited for; 0 if none is
	begin chan struct{} // wakes the watch; room for one

	lost chan struct{} // closed when the connection broke, also while idle

	mu      sync.Mutex
	wires   map[*wire]struct{} // open ones
	sealed  bool               // connected: no further dial of a data server, but by one that listens
	ended   bool               // no further dial at all
	broken  error              // why lost is closed
	secrets []string
}

func newSession(ctx context.Context, clk clock.Clock, timeout time.Duration) *session {
	s := &session{
		clock: clk, timeout: timeout, nonce: "leasehold-" + rand.Text(),
		begin: make(chan struct{}, 1), lost: make(chan struct{}), wires: map[*wire]struct{}{},
		closing: func() {},
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// watch cuts the session when an answer is overdue, or when its context is done.
// It sleeps while nothing is under way, and wakes once for each timeout otherwise,
// however many pipelines there are.
func (s *session) watch() {
	defer s.lose(errEnded) // if it is overdue just when the answer comes
	defer s.sever()
	t := s.clock.NewTimer(s.timeout)
	defer t.Stop()
	for {
		select {
		case <-s.begin:
		case <-s.ctx.Done():
			return
		}
		for {
			sent := clock.Instant(s.sent.Load())
			if sent == 0 {
				break
			}
			left := s.timeout - s.clock.Now().Sub(sent)
			if left <= 0 {
				s.cancel(s.overdue())
				return
			}
			t.Reset(left)
			select {
			case <-t.C():
			case <-s.ctx.Done():
				return
			}
		}
	}
}

func (s *session) overdue() error {
	return fmt.Errorf("no answer within %v: %w", s.timeout, context.DeadlineExceeded)
}

// start has the watch count from now until stop.
func (s *session) start(now clock.Instant) {
	s.sent.Store(int64(now))
	select {
	case s.begin <- struct{}{}:
	default:
	}
}

func (s *session) stop() { s.sent.Store(0) }

// step has the watch count anew: connecting takes several round trips, and each may
// be as long as one of a pipeline. It neither starts the watch nor saves what is
// overdue: the library goes on to another Sentinel then.
func (s *session) step() {
	now := s.clock.Now()
	if sent := s.sent.Load(); sent != 0 && now.Sub(clock.Instant(sent)) < s.timeout {
		s.sent.CompareAndSwap(sent, int64(now))
	}
}

// dial connects within the enrolment. Once that is over, only a Sentinel is
// dialled: the library would otherwise reconnect behind our back, or follow a
// failover to a server that nobody has asked who it is. Wanting that is a reason
// to enrol anew.
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
	case s.news != nil:
		pushes = invalidations
	}
	w := newWire(c, pushes)
	w.onClose = s.forget
	if !sentinel {
		w.onError = s.fail
	}
	if pushes == messages {
		// Over RESP2 it subscribes over a second connection, and nothing of ours runs
		// between its greeting and that.
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

// fail is told of an error in reading. One on a connection that the library has
// closed before is none: it looks at several servers behind Sentinels.
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

// connect fills in the client. It blocks until a connection was made or ctx is
// done. Where the client is a user's, lend makes the connection.
func (s *session) connect(c Conn, lend func(context.Context) (rueidis.DedicatedClient, error)) error {
	if err := c.Err(); err != nil {
		return err
	}
	if c.client != nil {
		d, err := lend(s.ctx)
		if err != nil {
			return err
		}
		s.client = d
		// Its Close may wait a second for a hung node.
		s.closing = func() { go d.Close() }
		return nil
	}
	o := c.options(s.timeout, s.dial, func(p string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p != "" {
			s.secrets = append(s.secrets, p)
		}
		if len(p) > echoed {
			s.secrets = append(s.secrets, p[:echoed])
		}
	})
	if s.news != nil {
		o.OnInvalidations = s.invalidated
	}
	client, err := rueidis.NewClient(o)
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	if client != nil { // also with an error
		s.client, s.closing = client, client.Close
	}
	return err
}

// echoed is to how many bytes Redis cuts an argument that it repeats in an error.
const echoed = 128

// An identity is what an enrolment finds out.
type identity struct {
	run, replication string // the run id and the replication id, "" where not told
	time             time.Duration
	sent, back       clock.Instant // before that was asked, and after it was answered
	latency          time.Duration
	evicts           string        // the policy, if the server may evict keys
	marker           string        // the whole of it; "" without guard
	age              time.Duration // how long ago the marker says that this incarnation began; not negative
}

// enrol asks who the server is and marks the connection, in one pipeline; then it
// compares the server's incarnation with the marker, and writes it there, in a
// second one, unless guard is off or the server does not say who it is. seen tells
// that there was a marker before.
func (s *session) enrol(guard, seen bool) (identity, error) {
	s.step()
	b := s.client.B()
	sent := s.clock.Now()
	commands := []rueidis.Completed{
		b.Arbitrary("INFO", "server").Build(),
		b.Arbitrary("INFO", "replication").Build(),
		b.Arbitrary("TIME").Build(),
		b.Arbitrary("CLIENT", "SETNAME", s.nonce).Build(),
		b.Arbitrary("INFO", "memory").Build(),
	}
	if s.news != nil {
		commands = append(commands, b.Arbitrary("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP").Build())
	}
	rs := s.client.DoMulti(s.ctx, commands...)
	back := s.clock.Now()
	id := identity{latency: back.Sub(sent), sent: sent, back: back}

	server, err := info(rs[0])
	if err != nil {
		return id, err
	}
	replication, err := info(rs[1])
	if err != nil {
		return id, err
	}
	if role := field(replication, "role"); role != "" && role != "master" {
		return id, fmt.Errorf("not a primary: its role is %s", role)
	}
	id.run, id.replication = field(server, "run_id"), field(replication, "master_replid")
	if id.time, err = nodeTime(rs[2].ToArray()); err != nil {
		return id, err
	}
	if name, err := rs[3].ToString(); err != nil {
		return id, err
	} else if name != "OK" {
		return id, unexpected("CLIENT SETNAME", name)
	}
	if memory, err := info(rs[4]); err == nil && field(memory, "maxmemory") != "0" {
		if policy := field(memory, "maxmemory_policy"); policy != "noeviction" {
			id.evicts = policy
		}
	}
	if s.news != nil {
		// Over RESP2 a server accepts it, and tells nothing. INFO shows which it is: in
		// RESP3 it is a verbatim string.
		m, _ := rs[0].ToMessage()
		on, err := rs[5].ToString()
		s.tracks = err == nil && on == "OK" && !m.IsString()
	}
	s.begun = back
	if !guard || id.run == "" || id.replication == "" {
		return id, nil
	}
	ago := upFor(server)
	promoted := strings.Trim(field(replication, "master_replid2"), "0") != ""
	if seen || promoted {
		// It has forgotten its marker, or never had it where its data comes from.
		ago = 0
	}
	return id, s.mark(&id, ago)
}

// upFor returns for how many microseconds a server has been up at least. It tells
// that in seconds, as the difference of two times that were cut to seconds: with its
// present time that gives the second in which it started, and the end of that second
// is when it started at the latest. One that does not tell its time (before Redis
// 6.0) may have started a second later still than its uptime says.
func upFor(server string) int64 {
	uptime, err := strconv.ParseInt(field(server, "uptime_in_seconds"), 10, 64)
	if err != nil {
		return 0
	}
	atLeast := (uptime - 1) * 1e6
	if now, err := strconv.ParseInt(field(server, "server_time_usec"), 10, 64); err == nil {
		atLeast += now % 1e6
	}
	return max(0, atLeast)
}

// mark fills in the marker, and since when the server counts as young, for one that
// has been up for so many microseconds at least, or 0 if it may just have forgotten
// everything.
func (s *session) mark(id *identity, ago int64) error {
	s.step()
	b := s.client.B()
	rs := s.client.DoMulti(s.ctx,
		b.Arbitrary("CLIENT", "GETNAME").Build(),
		b.Arbitrary("EVAL", script.Enrol.Text, "1", script.Marker, id.run+"/"+id.replication, strconv.FormatInt(ago, 10)).Build())
	if name, err := rs[0].ToString(); err != nil {
		return err
	} else if name != s.nonce {
		return errStranger
	}
	answer, err := rs[1].ToArray()
	if err != nil {
		return err
	}
	if len(answer) != 3 {
		return unexpected(script.Enrol.Name, fmt.Sprintf("%d elements", len(answer)))
	}
	now, err := nodeTime(answer[:2], nil)
	if err != nil {
		return err
	}
	if id.marker, err = answer[2].ToString(); err != nil {
		return plain(err, script.Enrol.Name)
	}
	at := strings.LastIndexByte(id.marker, ' ')
	since, err := strconv.ParseInt(id.marker[at+1:], 10, 64)
	if err != nil || at < 0 {
		return unexpected(script.Enrol.Name, id.marker)
	}
	// One from the future was written by a clock that has been set back since: a window
	// from now is long enough.
	id.age = max(0, now-time.Duration(since)*time.Microsecond)
	s.marker = id.marker
	return nil
}

// info returns one section, or nothing where the server has no such section.
func info(r rueidis.RedisResult) (string, error) {
	m, err := r.ToMessage()
	if err == nil {
		// RESP3 answers a verbatim string, which rueidis does not call a string.
		if m.IsInt64() || m.IsArray() || m.IsMap() || m.IsFloat64() || m.IsBool() {
			return "", errors.New("unexpected answer to INFO")
		}
		return r.ToString()
	}
	if e, ok := rueidis.IsRedisErr(err); ok && strings.Contains(e.Error(), "section") && strings.Contains(e.Error(), "support") {
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
	s.closing()
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

// why explains an error of the client in terms of what the session knows, and
// without credentials: a server may repeat a command that it did not understand.
func (s *session) why(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return s.overdue() // the library, or the dialer, was quicker than the watch
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) {
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
	return err
}
