package cluster

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Proxy stands between clients and one server, in the test's own process, and
// breaks the wire when it is told to. Its methods may be called from any
// goroutine, and have taken effect when they return; [Proxy.Mend] ends all of
// them. A client may have one proxy to a server and another client another one:
// that is how a network is parted.
//
// It reads requests and replies, and hands them on in their order. A client that
// subscribes over RESP2 can be cut, silenced and delayed, but not lied to.
//
// While the server itself is down, a connection is accepted here and then reset.
type Proxy struct {
	address
	t testing.TB

	mu       sync.Mutex
	server   string
	listener net.Listener // nil while cut
	links    map[*link]bool
	silent   bool
	delay    time.Duration
	rules    []rule
	watches  []watch
	closed   bool
	running  sync.WaitGroup
}

// A rule says what happens to requests that begin with some words.
type rule struct {
	words  []string
	answer string // instead of the server's
	ask    bool   // the server is asked all the same, and acts
	hangUp bool   // the connection is closed after the answer
}

// A watch is told of requests that begin with some words.
type watch struct {
	words []string
	seen  func()
}

// NewProxy returns a proxy in front of the server with that address, on a port of
// its own that stays the same. It is closed when the test is over.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, server: server, links: map[*link]bool{}}
	err := onFreePort(t, func(a address) error {
		p.address = a
		return p.listen()
	})
	if err != nil {
		t.Fatalf("proxy to %s: %v", server, err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.cut()
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// Cut resets every connection, and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Silence lets every byte vanish in both directions, as a network does that drops
// packets: nothing is closed, and nobody is told, not even that the other side has
// closed. What vanishes is gone, so Mend resets the connections that it hit.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
}

// Delay lets each request arrive d later at the server, and each reply d later at
// the client, from those on that are read after the call.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Lie answers the bytes of answer to each request that begins with the words of
// command ("set", "client getname"; the case does not matter), in its place among
// the other replies. The server does not see the request. Of several rules for a
// request the latest counts.
func (p *Proxy) Lie(command, answer string) {
	p.rule(rule{words: strings.Fields(command), answer: answer})
}

// HangUp is as Lie, and closes the connection when the answer is sent: an answer
// that stops in its middle, or, with an empty one, none at all.
func (p *Proxy) HangUp(command, answer string) {
	p.rule(rule{words: strings.Fields(command), answer: answer, hangUp: true})
}

// Lose lets the server act on each request that begins with the words of command,
// and closes the connection instead of handing on the reply.
func (p *Proxy) Lose(command string) {
	p.rule(rule{words: strings.Fields(command), ask: true, hangUp: true})
}

// Lead has the proxy lead to another server from now on, as an address does that a
// spare server has taken. Every connection is reset. Mend does not lead it back.
func (p *Proxy) Lead(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = server
	for l := range p.links {
		l.reset()
	}
}

// Watch calls seen for each request that begins with the words of command, when it has
// been read and before the server has it. seen must not wait. Mend does not end it.
func (p *Proxy) Watch(command string, seen func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches = append(p.watches, watch{strings.Fields(command), seen})
}

// Mend ends every fault: what comes from now on is handed on as it is. Connections
// that silence has hit are reset, others go on.
func (p *Proxy) Mend() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.delay, p.rules = false, 0, nil
	for l := range p.links {
		if l.lost {
			l.reset()
		}
	}
	if p.listener == nil && !p.closed {
		if err := await(p.listen); err != nil {
			p.t.Errorf("proxy: listen again on %s: %v", p.address, err)
		}
	}
}

func (p *Proxy) rule(r rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append([]rule{r}, p.rules...)
}

// listen is called with the lock held, or before anyone else knows p.
func (p *Proxy) listen() error {
	l, err := net.Listen("tcp", string(p.address))
	if err != nil {
		return err
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(from net.Listener) {
	for {
		c, err := from.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		l := &link{p: p, client: c, gone: make(chan struct{})}
		if p.listener != from { // cut since
			l.reset()
		} else {
			p.links[l] = true
			p.running.Go(l.run)
		}
		p.mu.Unlock()
	}
}

// cut is called with the lock held.
func (p *Proxy) cut() {
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for l := range p.links {
		l.reset()
	}
}

// A link is one client's connection and the one to the server that belongs to it.
// Four goroutines serve it: one reads and one writes in each direction, with the
// delay in between.
type link struct {
	p      *Proxy
	client net.Conn
	server net.Conn // nil until dialled; set under p.mu

	gone chan struct{} // closed by close
	over bool          // gone is closed; under p.mu
	lost bool          // silence has swallowed something; under p.mu

	mu       sync.Mutex // orders what is written to the client
	toClient *bufio.Writer
	waiting  []*rule // what becomes of the next replies; nil: handed on
}

// A parcel is a frame on its way, or, without one, the end of the connection.
type parcel struct {
	frame
	due  time.Time
	rule *rule
}

func (l *link) run() {
	l.p.mu.Lock()
	to := l.p.server
	l.p.mu.Unlock()
	server, err := net.DialTimeout("tcp", to, 5*time.Second)
	l.p.mu.Lock()
	if err == nil {
		l.server = server
	}
	alive := err == nil && !l.over // Lead ends this link, too
	if !alive {
		l.reset()
	}
	l.p.mu.Unlock()
	if !alive {
		return
	}

	l.toClient = bufio.NewWriter(l.client)
	requests, replies := make(chan parcel, 4096), make(chan parcel, 4096)
	l.p.running.Go(func() { l.read(l.client, requests) })
	l.p.running.Go(func() { l.read(l.server, replies) })
	l.p.running.Go(func() { l.carry(requests, bufio.NewWriter(l.server), l.request) })
	l.p.running.Go(func() { l.carry(replies, l.toClient, l.reply) })
}

// close ends the link on both sides. It is called with p.mu held.
func (l *link) close() {
	if !l.over {
		l.over = true
		close(l.gone)
		delete(l.p.links, l)
	}
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

// reset is close with an RST instead of a FIN, which overtakes what was not read.
func (l *link) reset() {
	_ = l.client.(*net.TCPConn).SetLinger(0)
	l.close()
}

// read takes frames in until the connection ends, and the end as well: it takes
// as long as they do, and a late request is still delivered when its client has
// gone.
func (l *link) read(c net.Conn, out chan<- parcel) {
	r := bufio.NewReader(c)
	for {
		f, err := readFrame(r)
		if err != nil {
			f = frame{}
		}
		l.p.mu.Lock()
		next := parcel{frame: f, due: time.Now().Add(l.p.delay)}
		if c == l.client {
			next.rule = l.p.match(f)
		}
		l.p.mu.Unlock()
		select {
		case out <- next:
		case <-l.gone:
			return
		}
		if err != nil {
			return
		}
	}
}

// match tells the tests that watch for a request, and returns the rule for it, or nil. It is
// called with p.mu held.
func (p *Proxy) match(request frame) *rule {
	args, _ := request.what.([]any)
	for _, w := range p.watches {
		if begins(args, w.words) {
			w.seen()
		}
	}
	for i, r := range p.rules {
		if begins(args, r.words) {
			return &p.rules[i]
		}
	}
	return nil
}

// begins tells whether a request begins with some words.
func begins(args []any, words []string) bool {
	if len(words) > len(args) {
		return false
	}
	for j, word := range words {
		if arg, _ := args[j].(string); !strings.EqualFold(arg, word) {
			return false
		}
	}
	return true
}

// carry gives each parcel to deliver when it is due, and flushes w when no more of
// them are waiting.
func (l *link) carry(in <-chan parcel, w *bufio.Writer, deliver func(parcel, *bufio.Writer) bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var next parcel
		select {
		case next = <-in:
		case <-l.gone:
			return
		}
		if early := time.Until(next.due); early > 0 {
			l.mu.Lock()
			w.Flush() // an error comes back at the next write
			l.mu.Unlock()
			timer.Reset(early)
			select {
			case <-timer.C:
			case <-l.gone:
				return
			}
		}
		if l.swallowed() {
			continue
		}
		l.mu.Lock()
		more := next.raw != nil && deliver(next, w)
		if !more || len(in) == 0 {
			more = w.Flush() == nil && more
		}
		l.mu.Unlock()
		if !more {
			l.p.mu.Lock()
			l.close()
			l.p.mu.Unlock()
			return
		}
	}
}

// swallowed tells whether there is silence now, and remembers it.
func (l *link) swallowed() bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.lost = l.lost || l.p.silent
	return l.p.silent
}

// request sends a request to the server, or answers it. It reports whether the
// link goes on.
func (l *link) request(p parcel, server *bufio.Writer) bool {
	l.waiting = append(l.waiting, p.rule)
	if p.rule != nil && !p.rule.ask {
		return l.answer()
	}
	_, err := server.Write(p.raw)
	return err == nil
}

// reply hands a reply on to the client, and what is to be answered after it.
func (l *link) reply(p parcel, client *bufio.Writer) bool {
	if !p.push() && len(l.waiting) > 0 {
		r := l.waiting[0]
		l.waiting = l.waiting[1:]
		if r != nil { // asked, and to be lost
			return false
		}
	}
	_, err := client.Write(p.raw)
	return err == nil && l.answer()
}

// answer gives the client the made-up answers that are at the head of the queue.
func (l *link) answer() bool {
	for len(l.waiting) > 0 && l.waiting[0] != nil && !l.waiting[0].ask {
		r := l.waiting[0]
		l.waiting = l.waiting[1:]
		if _, err := l.toClient.WriteString(r.answer); err != nil {
			return false
		}
		if l.toClient.Flush() != nil || r.hangUp {
			return false
		}
	}
	return true
}
