package status_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/status"
)

const ttl = 10 * time.Second

// A world is a supervisor on nodes in memory, its page, and an HTTP server for that.
type world struct {
	t      *testing.T
	nodes  []*nodetest.Node
	events *status.Recorder
	sup    *supervisor.Supervisor
	page   *status.Page
	server *http.Server
	client *http.Client
	dial   func() net.Conn
}

// bubble runs f in a world of three nodes. It wants every goroutine to end after it.
func bubble(t *testing.T, opt status.Options, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: nodetest.Start(3), events: &status.Recorder{}}
		w.sup = w.supervise("me", w.events)
		synctest.Wait() // for every node to be enrolled
		opt.Events = w.events
		page, err := status.New(w.sup, opt)
		if err != nil {
			t.Fatal(err)
		}
		w.page = page
		stop := w.serve(http.StripPrefix("/leases", page))
		f(w)
		if err := page.Close(); err != nil {
			t.Error(err)
		}
		stop()
		_ = w.sup.Close(canceled())
		for _, n := range w.nodes {
			n.Close()
		}
	})
}

func (w *world) supervise(owner string, observer supervisor.Observer) *supervisor.Supervisor {
	w.t.Helper()
	sup, err := supervisor.New(supervisor.Config{
		Nodes: nodetest.Conns(w.nodes), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime(), Owner: owner, Observer: observer,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sup
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// serve serves over pipes, which know the time of the bubble, and returns how to stop that.
func (w *world) serve(h http.Handler) (stop func()) {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	// The timeouts are shorter than what the tests do, as those of a careful server are.
	server := &http.Server{Handler: h, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second}
	w.server = server
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	w.dial = func() net.Conn {
		theirs, ours := net.Pipe()
		l.conns <- theirs
		return ours
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial(), nil }}
	w.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	}
}

// pipes is a listener.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (w *world) request(method, path string, header ...string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://page/leases"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

// get returns the body and the code of an answer.
func (w *world) get(path string) (body string, code int) {
	w.t.Helper()
	answer := w.request("GET", path)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text), answer.StatusCode
}

// wants wants an answer to have a code, and some words.
func (w *world) wants(path string, code int, words ...string) string {
	w.t.Helper()
	body, got := w.get(path)
	if got != code {
		w.t.Errorf("%s: %d, want %d: %s", path, got, code, body)
	}
	for _, word := range words {
		if !strings.Contains(body, word) {
			w.t.Errorf("%s: want %q in\n%s", path, word, body)
		}
	}
	return body
}

func (w *world) acquire(name string) *lease.Lease {
	w.t.Helper()
	held, err := w.sup.Acquire(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return held
}

// A stream is what the server sends to one browser.
type stream struct {
	w    *world
	body io.Closer
	in   *bufio.Reader
}

func (w *world) listen() *stream {
	w.t.Helper()
	answer := w.request("GET", "/events")
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || kind != "text/event-stream" {
		w.t.Fatalf("events: %d, %s", answer.StatusCode, kind)
	}
	return &stream{w, answer.Body, bufio.NewReader(answer.Body)}
}

// next returns the data of the next event, or an error.
func (s *stream) next() (string, error) {
	var data strings.Builder
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		switch text, isData := strings.CutPrefix(line, "data: "); {
		case isData:
			data.WriteString(text)
		case line == "\n":
			return data.String(), nil
		case line != "retry: 2000\n":
			s.w.t.Errorf("a line of an event is %q", line)
		}
	}
}

// await reads until an event has a text, and returns it.
func (s *stream) await(text string) string {
	s.w.t.Helper()
	for {
		data, err := s.next()
		if err != nil {
			s.w.t.Fatalf("no event has %q: %v", text, err)
		}
		if strings.Contains(data, text) {
			return data
		}
	}
}

func (s *stream) close() { _ = s.body.Close() }
