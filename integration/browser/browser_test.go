// Package browser has the tests of the page of package status in a real browser.
package browser

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/status"
)

var pictures = flag.String("pictures", "", "the folder to put pictures of the page into; none are made without it")

// Every goroutine of a page has ended when its server, its supervisor and its browser have.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests. Nothing comes near it unless it hangs.
const patience = time.Minute

// takesLong leaves a test out under -short: a run of it takes more than six seconds.
func takesLong(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long, and -short is given")
	}
}

// chromium returns where the browser is. Without one the test is skipped; with REQUIRE_BROWSER=1 in the
// environment it fails instead.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("REQUIRE_BROWSER") == "1" {
		t.Fatal("there is no chromium on the PATH")
	}
	t.Skip("left out: this runs in a browser, and there is no chromium on the PATH")
	return ""
}

// A scene is two processes that share three nodes, and the page of the first one.
type scene struct {
	t     *testing.T
	nodes []*nodetest.Node
	sup   *supervisor.Supervisor
	page  *status.Page
	url   string
	stop  func() // the server of the page
	serve func() // it again, at the same address
}

var labels = []string{"redis-a.internal:6379", "redis-b.internal:6379", "redis-c.internal:6379"}

func play(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, nodes: nodetest.Start(len(labels))}
	var events status.Recorder
	s.sup = s.supervise("web-1:4127", &events)
	var err error
	s.page, err = status.New(s.sup, status.Options{Title: "Leases of web-1", Events: &events, Watch: []string{"nightly-report", "mail-sender", "tariff-import"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.page.Close() })
	mux := http.NewServeMux()
	mux.Handle("/leases/", http.StripPrefix("/leases", s.page))
	server := httptest.NewServer(mux)
	address := server.Listener.Addr().String()
	s.url = server.URL + "/leases/"
	s.stop = func() { server.CloseClientConnections(); server.Close() }
	s.serve = func() {
		server = httptest.NewUnstartedServer(mux)
		if server.Listener, err = listen(address); err != nil {
			t.Fatal(err)
		}
		server.Start()
	}
	t.Cleanup(func() { s.stop() })
	return s
}

// supervise makes a process on the nodes.
func (s *scene) supervise(owner string, observer supervisor.Observer) *supervisor.Supervisor {
	s.t.Helper()
	cfg := supervisor.Config{TTL: 10 * time.Second, MaxTTLCap: 10 * time.Second, Owner: owner, Observer: observer}
	for i, n := range s.nodes {
		o := n.Option(owner)
		o.InitAddress = []string{labels[i]}
		cfg.Nodes = append(cfg.Nodes, node.FromOption(o))
	}
	sup, err := supervisor.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		done, cancel := context.WithCancel(context.Background())
		cancel()
		_ = sup.Close(done)
	})
	return sup
}

// work has the processes hold some leases, and one wait.
func (s *scene) work() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	for _, name := range []string{"nightly-report", "orders/eu", "orders/us"} {
		if _, err := s.sup.Acquire(ctx, name); err != nil {
			s.t.Fatal(err)
		}
	}
	other := s.supervise("web-2:881", nil)
	if _, err := other.Acquire(ctx, "mail-sender"); err != nil {
		s.t.Fatal(err)
	}
	for _, sup := range []*supervisor.Supervisor{s.sup, other} {
		go sup.Acquire(ctx, "nightly-report") // which waits
	}
	go s.supervise("web-3:4127", nil).Acquire(ctx, "mail-sender")
}

// A tab is one of the browser. It notes what goes wrong in it.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string
	asked    []string // addresses
}

// open starts a browser with one tab.
func open(t *testing.T) *tab {
	t.Helper()
	path := chromium(t)
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // processes of the browser may write for a moment more
		for range 50 {
			if os.RemoveAll(dir) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-dev-shm-usage", true))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *tab) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *log.EventEntryAdded:
		b.troubles = append(b.troubles, fmt.Sprintf("%s: %s %s", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	case *runtime.EventExceptionThrown:
		b.troubles = append(b.troubles, (&chromedp.ExceptionError{ExceptionDetails: ev.ExceptionDetails}).Error())
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, ev.Request.URL)
	}
}

// quiet wants nothing to have gone wrong.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, trouble := range b.troubles {
		b.t.Errorf("the browser says: %s", trouble)
	}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// ask returns the value of an expression in the page.
func ask[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// await waits until an expression is true in the page. It asks from outside the page, which may have no
// scripts, or may be about to load itself again: an expression that fails is asked for again.
func (b *tab) await(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if is && err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			b.t.Fatalf("not true: %s: %v\n%s", expression, err, ask[string](b, `document.body ? document.body.innerText : "no page"`))
		}
	}
}

// scripts lets the page run scripts, or not.
func (b *tab) scripts(run bool) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run})
		return err
	}))
}

// screen sets the size of the window, and whether colours are dark.
func (b *tab) screen(width, height int64, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

const (
	allIsWell = `document.querySelector("main .headline").innerText.includes("All is well: 3 of 3 nodes are up")`
	heldHere  = `document.querySelectorAll("[data-key^='lease ']").length === 3`
	watched   = `document.querySelector("[data-key='name 1']").innerText.includes("web-2:881")`
)

// A node that is killed is seen on the page within a second, and nothing of the page comes from elsewhere.
func TestKilledNodeIsShown(t *testing.T) {
	b, s := open(t), play(t)
	s.work()
	b.do(chromedp.Navigate(s.url))
	b.await(allIsWell)
	b.await(heldHere)
	b.await(watched)
	ask[any](b, `
		window.sameRow = document.querySelector("[data-key='node 1']");
		window.sameBar = document.querySelector("[data-key^='lease '] .fill");
		window.downAt = 0;
		new MutationObserver(() => {
			if (!window.downAt && document.querySelector("[data-key='node 1']").innerText.includes("down")) window.downAt = Date.now();
		}).observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true, attributes: true });
		null`)
	killed := time.Now()
	s.nodes[1].Crash()
	b.await(`window.downAt > 0`)
	took := time.UnixMilli(ask[int64](b, "window.downAt")).Sub(killed.Truncate(time.Millisecond))
	t.Logf("the page shows the dead node after %v", took)
	if took < 0 || took > time.Second {
		t.Errorf("the page shows the dead node after %v: want a second at most", took)
	}
	b.await(`document.querySelector("main [role=status]").innerText.startsWith("2 of 3 nodes are up")`)
	b.await(`document.title === "1 node down – Leases of web-1"`)
	if !ask[bool](b, `sameRow === document.querySelector("[data-key='node 1']") && sameBar === document.querySelector("[data-key^='lease '] .fill")`) {
		t.Error("the rows were replaced, and not brought up to date")
	}
	s.nodes[1].Recover()
	b.await(allIsWell)
	b.quiet()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, url := range b.asked {
		if !strings.HasPrefix(url, s.url) {
			t.Errorf("the page asks for %s", url)
		}
	}
}

// The bar of a lease moves all the time, down and up again.
func TestBarMoves(t *testing.T) {
	takesLong(t)
	b, s := open(t), play(t)
	s.work()
	b.do(chromedp.Navigate(s.url))
	b.await(heldHere)
	b.await(`
		(window.widths ??= []).push(parseFloat(getComputedStyle(document.querySelector("[data-key^='lease '] .fill")).width)),
		new Set(widths).size > 20 && widths.some((w, i) => i > 0 && w < widths[i - 1]) && widths.some((w, i) => i > 0 && w > widths[i - 1])`)
	b.quiet()
}

// Without scripts the page has the same, and loads itself again.
func TestWithoutScripts(t *testing.T) {
	takesLong(t)
	b, s := open(t), play(t)
	s.work()
	b.scripts(false)
	b.do(chromedp.Navigate(s.url))
	b.await(allIsWell)
	b.await(watched)
	s.nodes[0].Crash()
	b.await(`document.querySelector("main .headline").innerText.includes("2 of 3 nodes are up")`)
	b.quiet()
}

// A page that gets no news says so, and goes on when the server is back.
func TestServerGone(t *testing.T) {
	takesLong(t)
	b, s := open(t), play(t)
	b.do(chromedp.Navigate(s.url))
	b.await(allIsWell)
	s.stop()
	b.await(`document.getElementById("note").innerText.includes("no news") && document.body.classList.contains("stale")`)
	s.serve()
	b.await(`document.getElementById("note").innerText === "" && !document.body.classList.contains("stale")`)
}

// A browser that is one too many loads the page now and then.
func TestTooManyBrowsers(t *testing.T) {
	takesLong(t)
	b, s := open(t), play(t)
	page, err := status.New(s.sup, status.Options{Streams: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	server := httptest.NewServer(page)
	defer server.Close()
	defer page.Close() // before the server waits for its streams
	first, err := http.Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	b.do(chromedp.Navigate(server.URL + "/"))
	b.await(allIsWell)
	s.nodes[2].Crash()
	b.await(`document.querySelector("main .headline").innerText.includes("2 of 3 nodes are up")`)
}

// Every text can be read: it fits on a phone, and differs enough from what is behind it.
func TestReadable(t *testing.T) {
	takesLong(t)
	b, s := open(t), play(t)
	s.work()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.sup.Acquire(ctx, strings.Repeat("a-very-long-name/", 29)); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(s.url))
	b.await(watched)
	for _, down := range []int{0, 1, 2} {
		if down > 0 {
			s.nodes[down].Crash()
			b.await(fmt.Sprintf(`document.querySelector("[data-key='node %d']").innerText.includes("down")`, down))
		}
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{320, 390, 700, 1280} {
				b.screen(width, 800, dark)
				if wide := ask[int64](b, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%d nodes down: the page is %d wide on a screen of %d", down, wide, width)
				}
			}
			for _, text := range ask[[]string](b, contrasts) {
				t.Errorf("%d nodes down, dark %v: %s", down, dark, text)
			}
		}
	}
}

// contrasts lists the texts whose contrast is less than 4.5, by the formula of WCAG 2.2.
const contrasts = `(() => {
	const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = (el) => { for (; el; el = el.parentElement) { const c = parse(getComputedStyle(el).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
	const bad = new Set();
	for (const el of document.querySelectorAll("body *")) {
		if (![...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
		const a = light(parse(getComputedStyle(el).color)), b = light(behind(el));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) bad.add(ratio.toFixed(2) + " of " + el.innerText);
	}
	return [...bad];
})()`

// A screen reader finds tables with names, headings, and the summary, of which it tells each change.
func TestScreenReader(t *testing.T) {
	b, s := open(t), play(t)
	s.work()
	b.do(chromedp.Navigate(s.url))
	b.await(heldHere)
	b.await(watched)
	for _, width := range []int64{1280, 390} { // a table stays a table if it is shown as blocks
		b.screen(width, 800, false)
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		tree, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]int)
		for _, n := range tree.Nodes {
			if n.Ignored || n.Role == nil || n.Name == nil {
				continue
			}
			found[fmt.Sprintf("%s %s", n.Role.Value, n.Name.Value)]++
			found[string(n.Role.Value)]++
		}
		for _, want := range []string{
			`"table" "Nodes"`, `"table" "Leases held here 3"`, `"table" "Names watched"`, `"table" "Last events"`,
			`"heading" "Leases of web-1"`, `"heading" "Nodes"`, `"columnheader" "Round trip"`, `"rowheader" "orders/eu"`,
			`"meter" "Time left of orders/eu"`,
			`"main" ""`, `"contentinfo" ""`, `"region" "Summary"`, `"region" "Nodes"`, `"region" "Last events"`,
		} {
			if found[want] != 1 {
				t.Errorf("%d wide: %s is found %d times", width, want, found[want])
			}
		}
		// The summary, and the note that the page gets no news. Neither interrupts what is being read.
		if found[`"status"`] != 2 || found[`"alert"`] != 0 || found[`"rowheader"`] != 9 {
			t.Errorf("%d wide: %d regions that tell of changes, %d headings of rows", width, found[`"status"`], found[`"rowheader"`])
		}
	}
}

// TestPictures makes the pictures of docs/, if it is told where to put them.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("-pictures is not given")
	}
	b, s := open(t), play(t)
	s.work()
	b.do(chromedp.Navigate(s.url))
	b.await(allIsWell)
	b.await(heldHere)
	b.await(watched)
	time.Sleep(4 * time.Second) // so that there are ages to be seen
	b.take("healthy")
	s.nodes[1].Crash()
	b.await(`document.querySelector("[data-key='node 1']").innerText.includes("down")`)
	time.Sleep(2 * time.Second)
	b.take("node-down")
	s.nodes[2].Crash()
	b.await(`document.querySelector("main .headline").innerText.includes("Too few nodes")`)
	b.await(`document.querySelector("[data-key^='lease '].late") !== null`)
	b.take("majority-down")
}

// take takes three pictures of the same moment.
func (b *tab) take(what string) {
	b.t.Helper()
	b.scripts(false)
	defer b.scripts(true)
	for _, p := range []struct {
		how   string
		width int64
		dark  bool
	}{{"light", 960, false}, {"dark", 960, true}, {"narrow", 390, false}} {
		b.screen(p.width, 600, p.dark)
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		text, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		cancel()
		if err != nil {
			b.t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(text))
		if err != nil {
			b.t.Fatal(err)
		}
		var small bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(img)); err != nil {
			b.t.Fatal(err)
		}
		name := fmt.Sprintf("status-%s-%s.png", what, p.how)
		if small.Len() > 100_000 {
			b.t.Errorf("%s has %d bytes", name, small.Len())
		}
		if err := os.WriteFile(filepath.Join(*pictures, name), small.Bytes(), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// fewColours returns a picture with its 256 most frequent colours, and for each other one the nearest of
// them. That makes it a third as large, and nobody sees it.
func fewColours(img image.Image) image.Image {
	count := make(map[color.Color]int)
	box := img.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			count[img.At(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return cmp.Compare(count[b], count[a]) })
	out := image.NewPaletted(box, frequent[:min(256, len(frequent))])
	nearest := make(map[color.Color]uint8)
	for c := range count {
		nearest[c] = uint8(out.Palette.Index(c))
	}
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			out.SetColorIndex(x, y, nearest[img.At(x, y)])
		}
	}
	return out
}

// listen listens at an address that was in use a moment ago.
func listen(address string) (net.Listener, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return l, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("nobody can listen there"), err)
}
