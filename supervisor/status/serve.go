package status

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
)

// policy allows the page its own files, and nothing else: no script or style in the page itself, no other
// address, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP answers GET and HEAD for the page, its files and the probes. The probes answer within a second,
// also if the supervisor hangs; they ask no node.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	what := strings.TrimPrefix(r.URL.Path, "/")
	file, isFile := files[what]
	leader, isLeader := strings.CutPrefix(what, "leader/")
	answer, is := map[string]func(http.ResponseWriter, *http.Request){
		"": p.servePage, "status.json": p.serveJSON, "events": p.serveEvents, "livez": p.serveLive, "readyz": p.serveReady,
	}[what]
	switch {
	case is:
	case isFile:
		answer = file.serve
	case isLeader && leader != "":
		answer = func(w http.ResponseWriter, _ *http.Request) { p.serveLeader(w, leader) }
	default:
		say(w, http.StatusNotFound, "not found: want /, /status.json, /livez, /readyz or /leader/NAME")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		say(w, http.StatusMethodNotAllowed, "method not allowed: want GET or HEAD")
		return
	}
	answer(w, r)
}

// say answers with a line of text.
func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a client that has gone needs no answer
}

// serveLive is for a probe that restarts the process.
func (p *Page) serveLive(w http.ResponseWriter, _ *http.Request) {
	if err := p.sup.Healthy(); !isAlive(err) {
		say(w, http.StatusServiceUnavailable, plain.Line(err.Error()))
		return
	}
	say(w, http.StatusOK, "ok")
}

// serveReady is for a probe that takes the process out of service.
func (p *Page) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := p.sup.Healthy(); err != nil {
		say(w, http.StatusServiceUnavailable, plain.Line(err.Error()))
		return
	}
	say(w, http.StatusOK, "ok")
}

// serveLeader is for a load balancer that sends all work to the holder of a name.
func (p *Page) serveLeader(w http.ResponseWriter, name string) {
	if !p.sup.Leading(name) {
		say(w, http.StatusServiceUnavailable, fmt.Sprintf("this process does not hold %q", plain.Line(name)))
		return
	}
	say(w, http.StatusOK, "ok")
}

func (p *Page) servePage(w http.ResponseWriter, r *http.Request) {
	// Relative links need the slash at the end, which a prefix may have taken along.
	if asked, _, _ := strings.Cut(r.RequestURI, "?"); asked != "" && !strings.HasSuffix(asked, "/") && r.URL.Path == "" {
		w.Header().Set("Location", "./"+path.Base(asked)+"/")
		say(w, http.StatusPermanentRedirect, "the address ends with a slash")
		return
	}
	if p.isClosed(w) {
		return
	}
	page := render("page", p.view(r.Context()))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page) // a client that has gone needs no answer
}

func (p *Page) serveJSON(w http.ResponseWriter, r *http.Request) {
	if p.isClosed(w) {
		return
	}
	text, err := p.view(r.Context()).json()
	if err != nil {
		say(w, http.StatusInternalServerError, plain.Line(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // a client that has gone needs no answer
}

// isClosed reports whether Close was called, and answers then.
func (p *Page) isClosed(w http.ResponseWriter) bool {
	if p.ctx.Err() == nil {
		return false
	}
	say(w, http.StatusServiceUnavailable, "the page was closed")
	return true
}

// serve answers with the file, or that it is the one that the client has.
func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // ask each time whether it is the same
	h.Set("Content-Type", a.kind)
	h.Set("ETag", a.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.text))
}

// patience is how long a browser may take nothing before it is cut off.
const patience = 10 * time.Second

// serveEvents sends the middle of the page each time that there is a later one, as server-sent events.
// It is always the latest: a browser that is slow misses some.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	switch {
	case p.isClosed(w):
		return
	case !p.enter():
		h.Set("Retry-After", "5")
		say(w, http.StatusServiceUnavailable, fmt.Sprintf("%d browsers are kept up to date already", p.opt.Streams))
		return
	}
	defer p.leave()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would gather what it gets
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	frame := bytes.NewBufferString("retry: 2000\n")
	for {
		report, changed := p.latest()
		for line := range bytes.Lines(report.main()) {
			frame.WriteString("data: ")
			frame.Write(line)
		}
		frame.WriteByte('\n')
		// What wraps w may have no deadline. Then the number of streams is the only bound.
		_ = out.SetWriteDeadline(wallTime().Add(patience))
		if _, err := w.Write(frame.Bytes()); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		_ = out.SetWriteDeadline(time.Time{}) // HTTP/2 ends a stream at its deadline, also if nothing is written then
		frame.Reset()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-p.ctx.Done():
			return
		}
	}
}
