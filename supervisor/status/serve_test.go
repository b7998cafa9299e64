package status_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/status"
)

// The probes follow the supervisor: what takes a process out of service does not restart it.
func TestProbes(t *testing.T) {
	bubble(t, status.Options{}, func(w *world) {
		w.wants("/livez", 200, "ok")
		w.wants("/readyz", 200, "ok")
		w.wants("/leader/orders/eu", 503, `this process does not hold "orders/eu"`)
		held := w.acquire("orders/eu")
		w.wants("/leader/orders/eu", 200, "ok")
		w.wants("/leader/orders%2Feu", 200, "ok")
		w.wants("/leader/orders", 503)
		w.wants("/leader/", 404)

		w.nodes[0].Crash()
		w.nodes[1].Crash()
		time.Sleep(time.Second)
		w.wants("/livez", 200, "ok")
		w.wants("/readyz", 503, "no quorum", "1 of 3 nodes are enrolled, and 2 are needed", w.nodes[0].String()+": ")
		w.wants("/leader/orders/eu", 200) // it has time left
		<-held.Lost()
		w.wants("/leader/orders/eu", 503)
		w.nodes[0].Recover()
		time.Sleep(ttl)
		w.wants("/readyz", 200)

		if err := w.page.Close(); err != nil { // the probes need no page
			t.Error(err)
		}
		w.wants("/readyz", 200)
		w.wants("/", 503, "the page was closed")
		w.wants("/status.json", 503)
		w.wants("/events", 503)
		_ = w.sup.Close(canceled())
		w.wants("/livez", 503, "closed")
		w.wants("/readyz", 503, "closed")
		w.wants("/leader/orders/eu", 503)
	})
}

// A jumping is a clock that is set ahead, as a machine that was paused finds it.
type jumping struct {
	clock.Clock
	by atomic.Int64
}

func (c *jumping) Now() clock.Instant { return c.Clock.Now().Add(time.Duration(c.by.Load())) }

// A supervisor that does not do what is due is not alive until it has done it.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.Start(1)
		late := &jumping{Clock: clock.Runtime()}
		sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(n), TTL: ttl, MaxTTLCap: ttl, Clock: late})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		page, err := status.New(sup, status.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(path string) *httptest.ResponseRecorder {
			answer := httptest.NewRecorder()
			page.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
			return answer
		}
		if got := ask("/livez"); got.Code != 200 {
			t.Errorf("livez: %d %s", got.Code, got.Body)
		}
		late.by.Store(int64(time.Hour))
		for _, path := range []string{"/livez", "/readyz"} {
			if got := ask(path); got.Code != 503 || !strings.Contains(got.Body.String(), "is not done") {
				t.Errorf("%s: %d %s", path, got.Code, got.Body)
			}
		}
		time.Sleep(time.Minute)
		if got := ask("/livez"); got.Code != 200 {
			t.Errorf("livez after the pause: %d %s", got.Code, got.Body)
		}
		page.Close()
		_ = sup.Close(canceled())
		n[0].Close()
	})
}

// What is asked in a wrong way is refused, and every answer has the headers that protect it.
func TestAnswers(t *testing.T) {
	bubble(t, status.Options{}, func(w *world) {
		w.acquire("a")
		for _, test := range []struct {
			method, path string
			code         int
			kind, cache  string
		}{
			{"GET", "/", 200, "text/html; charset=utf-8", "no-store"},
			{"HEAD", "/", 200, "text/html; charset=utf-8", "no-store"},
			{"POST", "/", 405, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/status.json", 200, "application/json", "no-store"},
			{"DELETE", "/status.json", 405, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/style.css", 200, "text/css; charset=utf-8", "no-cache"},
			{"GET", "/script.js", 200, "text/javascript; charset=utf-8", "no-cache"},
			{"GET", "/icon.svg", 200, "image/svg+xml", "no-cache"},
			{"PUT", "/icon.svg", 405, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/livez", 200, "text/plain; charset=utf-8", "no-store"},
			{"HEAD", "/readyz", 200, "text/plain; charset=utf-8", "no-store"},
			{"POST", "/readyz", 405, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/leader/a", 200, "text/plain; charset=utf-8", "no-store"},
			{"OPTIONS", "/leader/a", 405, "text/plain; charset=utf-8", "no-store"},
			{"HEAD", "/events", 200, "text/event-stream", "no-store"},
			{"POST", "/events", 405, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/else", 404, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/assets/page.html", 404, "text/plain; charset=utf-8", "no-store"},
			{"GET", "/style.css/", 404, "text/plain; charset=utf-8", "no-store"},
		} {
			answer := w.request(test.method, test.path)
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			h := answer.Header
			if answer.StatusCode != test.code || h.Get("Content-Type") != test.kind || h.Get("Cache-Control") != test.cache {
				t.Errorf("%s %s: %d, %v", test.method, test.path, answer.StatusCode, h)
			}
			if test.method == "HEAD" && len(body) > 0 {
				t.Errorf("HEAD %s has a body", test.path)
			}
			if test.code == 405 && h.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s allows %q", test.method, test.path, h.Get("Allow"))
			}
			csp := h.Get("Content-Security-Policy")
			if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: %v", test.method, test.path, h)
			}
		}
		answer := w.request("GET", "/style.css")
		answer.Body.Close()
		again := w.request("GET", "/style.css", "If-None-Match", answer.Header.Get("ETag"))
		again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("the same file again: %d", again.StatusCode)
		}
	})
}

// The page works under any prefix: every address in it is relative, and there.
func TestPrefix(t *testing.T) {
	bubble(t, status.Options{}, func(w *world) {
		page, _ := w.get("/")
		links := regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(page, -1)
		if len(links) < 6 {
			t.Errorf("%d links in\n%s", len(links), page)
		}
		for _, link := range links {
			if strings.HasPrefix(link[1], "/") || strings.Contains(link[1], ":") {
				t.Errorf("the page leads to %s", link[1])
			}
			w.wants("/"+link[1], 200)
		}
		if strings.Contains(page, "style=") || strings.Contains(page, "<style") || regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(page) || regexp.MustCompile(`\son\w+=`).MatchString(page) {
			t.Error("the page has a style or a script in it, which its policy forbids")
		}
		answer := w.request("GET", "?x")
		answer.Body.Close()
		if answer.StatusCode != http.StatusPermanentRedirect || answer.Header.Get("Location") != "./leases/" {
			t.Errorf("without a slash at the end: %d, to %q", answer.StatusCode, answer.Header.Get("Location"))
		}
		for _, h := range []http.Handler{w.page, http.StripPrefix("/deep/er/", w.page)} {
			path := "/"
			if h != http.Handler(w.page) {
				path = "/deep/er/"
			}
			for _, end := range []string{"", "style.css", "livez"} {
				answer := httptest.NewRecorder()
				h.ServeHTTP(answer, httptest.NewRequest("GET", path+end, nil))
				if answer.Code != 200 {
					t.Errorf("%s%s: %d", path, end, answer.Code)
				}
			}
		}
	})
}

// Browsers get each state as it comes: a node that is killed within a second.
func TestEvents(t *testing.T) {
	bubble(t, status.Options{Watch: []string{"b"}}, func(w *world) {
		s := w.listen()
		s.await("All is well: 3 of 3 nodes are up, and 2 are needed")
		w.acquire("b")
		begun := time.Now()
		s.await(`data-key="lease `)
		if took := time.Since(begun); took > 300*time.Millisecond { // four states a second, and one between two
			t.Errorf("a lease is seen after %v", took)
		}
		s.await("(held here)")
		w.nodes[2].Crash()
		begun = time.Now()
		data := s.await("2 of 3 nodes are up")
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the dead node is seen after %v", took)
		}
		for _, want := range []string{`class="down"`, "connection refused", "node down", "Leases are kept. If one more node fails, they end.", `data-tab="1 node down`} {
			if !strings.Contains(data, want) {
				t.Errorf("%q is not in\n%s", want, data)
			}
		}
		w.nodes[1].Crash()
		s.await("Too few nodes: 1 of 3 nodes is up, and 2 are needed")
		s.await("not renewed")
		s.await("This process holds no lease.")
		w.nodes[1].Recover()
		w.nodes[2].Restart()
		s.await("All is well")
		w.page.Close()
		for {
			if _, err := s.next(); err != nil {
				break
			}
		}
		s.close()
	})
}

// A browser that takes nothing is cut off after ten seconds. Meanwhile all others get their events, and
// leases are renewed.
func TestSlowBrowser(t *testing.T) {
	bubble(t, status.Options{Streams: 2}, func(w *world) {
		held := w.acquire("a")
		slow := w.dial()
		fmt.Fprint(slow, "GET /leases/events HTTP/1.1\r\nHost: page\r\n\r\n")
		synctest.Wait()
		s := w.listen()
		answer := w.request("GET", "/events")
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode != 503 || answer.Header.Get("Retry-After") != "5" || !strings.Contains(string(text), "2 browsers") {
			t.Errorf("a third browser gets %d, %s", answer.StatusCode, text)
		}
		answer.Body.Close()
		begun, got := time.Now(), 0
		for time.Since(begun) < 9*time.Second {
			if _, err := s.next(); err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got < 15 {
			t.Errorf("beside a slow browser another one gets %d events in 9 s", got)
		}
		w.wants("/events", 503) // the slow one is waited for still, whatever the server's WriteTimeout is
		for time.Since(begun) < 3*ttl {
			if _, err := s.next(); err != nil {
				t.Fatal(err)
			}
		}
		if held.Err() != nil {
			t.Errorf("the lease: %v", held.Err())
		}
		third := w.listen() // there is room again
		third.close()
		s.close()
		_ = slow.Close()
	})
}

// A stream ends with its browser, and with Page.Close, so that Server.Shutdown comes to an end.
func TestStreamsEnd(t *testing.T) {
	bubble(t, status.Options{Streams: 1}, func(w *world) {
		for range 3 { // there is room for one only
			s := w.listen()
			s.await("All is well")
			s.close()
			synctest.Wait()
		}
		s := w.listen()
		s.await("All is well")
		w.server.RegisterOnShutdown(func() { w.page.Close() })
		begun := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- w.server.Shutdown(w.t.Context()) }()
		for {
			if _, err := s.next(); err != nil {
				break
			}
		}
		s.close()
		if err := <-ended; err != nil || time.Since(begun) > 2*time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(begun))
		}
	})
}

// However much happens, a browser gets about four states a second, and never a state that is old.
func TestBusyProcess(t *testing.T) {
	bubble(t, status.Options{}, func(w *world) {
		s := w.listen()
		begun, frames := time.Now(), 0
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				w.events.Observe(supervisor.Event{Kind: supervisor.EventAcquired, Name: fmt.Sprint("n", i)})
			}
		}()
		for ; time.Since(begun) < 10*time.Second; frames++ {
			if _, err := s.next(); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		<-stopped
		if frames < 20 || frames > 45 {
			t.Errorf("%d states in 10 s", frames)
		}
		w.events.Observe(supervisor.Event{Kind: supervisor.EventAcquired, Name: "the-last"})
		s.await("the-last")
		s.close()
	})
}

// Nothing that the handler answers has a token or a password. The second supervisor has nodes that refuse it.
func TestNoSecrets(t *testing.T) {
	const password = "correct-horse-battery"
	bubble(t, status.Options{Watch: []string{"a", "b"}}, func(w *world) {
		option := w.nodes[0].Option("other")
		option.Password = password
		other, err := supervisor.New(supervisor.Config{
			Nodes: []node.Conn{node.FromOption(option), node.URL("redis://ops:" + password + "@127.0.0.1:1")},
			TTL:   ttl, MaxTTLCap: ttl, Clock: clock.Runtime(), Owner: "other",
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = other.Close(canceled()) }()
		page, err := status.New(other, status.Options{Watch: []string{"a", "b"}})
		if err != nil {
			t.Fatal(err)
		}
		defer page.Close()
		lost := w.acquire("a")
		held := w.acquire("b")
		if err := lost.Release(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		s := w.listen()
		event, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		texts := map[string]string{"/events": event}
		for _, path := range []string{"/", "/status.json", "/livez", "/readyz", "/leader/a", "/leader/b", "/nothing"} {
			texts[path], _ = w.get(path)
			answer := httptest.NewRecorder()
			page.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
			texts["other"+path] = answer.Body.String()
		}
		if !strings.Contains(texts["other/"], "127.0.0.1:1") || !strings.Contains(texts["/"], fmt.Sprint(held.Fence())) {
			t.Errorf("the pages do not show what they should:\n%s\n%s", texts["other/"], texts["/"])
		}
		for path, text := range texts {
			for _, secret := range []string{password, string(lost.Token()), string(held.Token())} {
				if strings.Contains(text, secret) {
					t.Errorf("%s shows %q", path, secret)
				}
			}
		}
	})
}

// What others have chosen breaks neither the page nor the events.
func TestEscapes(t *testing.T) {
	const evil = "</main><script>alert(1)</script>\n\ndata: x\x1b[31m\u202e\"'`"
	bubble(t, status.Options{Title: evil, Watch: []string{evil, "b"}}, func(w *world) {
		other := w.supervise("<b>"+evil, nil)
		defer func() { _ = other.Close(canceled()) }()
		if _, err := other.Acquire(w.t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		w.acquire(evil)
		w.nodes[0].Fail("*", "ERR "+strings.ReplaceAll(evil, "\n", " "))
		w.nodes[0].Crash()
		w.nodes[0].Recover()
		time.Sleep(time.Second)
		w.get("/")
		time.Sleep(2 * time.Second)
		page, _ := w.get("/")
		s := w.listen()
		event, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		for _, text := range []string{page, event} {
			if n := strings.Count(text, "<main"); n != 1 {
				t.Errorf("%d beginnings of main", n)
			}
			if n := strings.Count(text, "</main>"); n != 1 {
				t.Errorf("%d ends of main", n)
			}
			for _, bad := range []string{"<script>", "\x1b", "\u202e", "<b>"} {
				if strings.Contains(text, bad) {
					t.Errorf("%q is in\n%s", bad, text)
				}
			}
			if !strings.Contains(text, "&lt;script&gt;alert(1)&lt;/script&gt; data: x [31m") {
				t.Errorf("the name is not in\n%s", text)
			}
		}
		if body, _ := w.get("/leader/" + "%1b%5b2J%0ax"); body != "this process does not hold \"[2J x\"\n" {
			t.Errorf("leader: %q", body)
		}
		if text, _ := w.get("/status.json"); !json.Valid([]byte(text)) {
			t.Errorf("no JSON:\n%s", text)
		}
	})
}

// Neither the page nor status.json has a token, and status.json has all that the page shows.
func TestJSON(t *testing.T) {
	bubble(t, status.Options{Watch: []string{"a", "b", "c"}}, func(w *world) {
		held := w.acquire("a")
		other := w.supervise("other", nil)
		defer func() { _ = other.Close(canceled()) }()
		theirs, err := other.Acquire(w.t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan struct{})
		go func() { defer close(waiting); _, _ = w.sup.Acquire(w.t.Context(), "b") }()
		time.Sleep(time.Second)
		w.nodes[2].Crash()
		time.Sleep(3 * time.Second)
		text := w.wants("/status.json", 200)
		page := w.wants("/", 200, "other", "nobody", fmt.Sprint(theirs.Fence()))
		for _, secret := range []string{string(held.Token()), string(theirs.Token()), "Token"} {
			if strings.Contains(text, secret) || strings.Contains(page, secret) {
				t.Errorf("%q is shown", secret)
			}
		}
		var r struct {
			Level, Summary, Why string
			Time                time.Time
			Up, Need, Held      int
			Nodes               []struct {
				State   string
				Since   time.Time
				Remarks []string
				Status  struct{ Node, Latency string }
			}
			Leases []struct {
				Name, Owner, Left string
				Fence             uint64
				Since             time.Time
			}
			Names []struct {
				Asked          string
				Answered, Here bool
				Holding        struct {
					Held, Free bool
					Owner      string
					Waiting    int
				}
			}
			Events []struct {
				Time  time.Time
				Event struct{ Kind, Name, Node, Err string }
			}
			Counts struct {
				Acquired, Waits uint64
				Waiting         int
				Up              string
			}
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if r.Level != "warning" || r.Up != 2 || r.Need != 2 || r.Held != 1 || r.Why != "" || time.Since(r.Time) > time.Second {
			t.Errorf("the whole: %+v", r)
		}
		if len(r.Nodes) != 3 || r.Nodes[0].State != "up" || r.Nodes[2].State != "down" || len(r.Nodes[2].Remarks) == 0 || r.Nodes[2].Status.Node != w.nodes[2].String() {
			t.Errorf("nodes: %+v", r.Nodes)
		}
		if age := time.Since(r.Nodes[2].Since); age < 2500*time.Millisecond || age > 4*time.Second {
			t.Errorf("the node is down for %v: want about 3 s", age)
		}
		if len(r.Leases) != 1 || r.Leases[0].Name != "a" || r.Leases[0].Owner != "me" || r.Leases[0].Fence != held.Fence() {
			t.Fatalf("leases: %+v", r.Leases)
		}
		if left, err := time.ParseDuration(r.Leases[0].Left); err != nil || left < ttl/2 || left > ttl {
			t.Errorf("left %v, %v", left, err)
		}
		if age := time.Since(r.Leases[0].Since); age < 3*time.Second || age > 5*time.Second {
			t.Errorf("held for %v: want about 4 s", age)
		}
		if n := r.Names; len(n) != 3 || !n[0].Here || !n[0].Holding.Held || n[1].Here || n[1].Holding.Owner != "other" || n[1].Holding.Waiting != 1 || !n[2].Holding.Free {
			t.Errorf("names: %+v", r.Names)
		}
		if e := r.Events; len(e) < 5 || e[0].Event.Kind != "node down" || e[0].Event.Node != w.nodes[2].String() || time.Since(e[0].Time) > 5*time.Second {
			t.Errorf("events: %+v", r.Events)
		}
		if r.Counts.Acquired != 1 || r.Counts.Waits != 1 || r.Counts.Waiting != 1 {
			t.Errorf("counts: %+v", r.Counts)
		}
		_ = w.sup.Close(canceled())
		<-waiting
	})
}

// Many may ask at once, also while the page and the supervisor end.
func TestAtOnce(t *testing.T) {
	bubble(t, status.Options{Watch: []string{"a"}, Every: 100 * time.Millisecond}, func(w *world) {
		w.acquire("a")
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				paths := []string{"/", "/status.json", "/livez", "/readyz", "/leader/a", "/events", "/script.js"}
				answer := httptest.NewRecorder()
				request := httptest.NewRequest("GET", paths[i%len(paths)], nil).WithContext(w.t.Context())
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				w.page.ServeHTTP(answer, request)
				if answer.Body.Len() == 0 {
					t.Errorf("%s: nothing", request.URL)
				}
			})
		}
		time.Sleep(350 * time.Millisecond)
		_ = w.sup.Close(canceled())
		w.page.Close()
		wg.Wait()
	})
}
