package leaseprom

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/leasehold-go/leasehold/node/nodetest"
)

// patience bounds every wait. Nothing comes near it unless it hangs.
const patience = 2 * time.Minute

// tool returns the path of a program of Prometheus. Without it the test is left out, or fails if
// REQUIRE_REAL=1 is set, as in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_REAL") == "1":
		t.Fatalf("REQUIRE_REAL=1, but there is no %s in the path: it is of Debian's package prometheus", name)
	default:
		t.Skipf("left out: there is no %s in the path: it is of Debian's package prometheus", name)
	}
	return path
}

// promtool runs it with an input, and fails the test if it finds something.
func promtool(t *testing.T, input io.Reader, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "promtool"), args...)
	cmd.Stdin = input
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// What is exported is in order, with names and without.
func TestPromtoolCheckMetrics(t *testing.T) {
	tool(t, "promtool")
	for _, most := range []int{0, 3} {
		var text bytes.Buffer
		bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
			sup, registry := start(t, nodes, NewCollector(Config{MaxNames: most}))
			acquire(t, sup, "x")
			time.Sleep(ttl)
			writeText(t, registry, &text)
		})
		promtool(t, &text, "check", "metrics")
	}
}

func writeText(t *testing.T, g prometheus.Gatherer, to io.Writer) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(to, f); err != nil {
			t.Fatal(err)
		}
	}
}

// The alerts are in order, and each fires and is silent when it should.
func TestAlerts(t *testing.T) {
	promtool(t, nil, "check", "rules", "alerts.yaml")
	promtool(t, nil, "test", "rules", "alerts_test.yaml")
}

// Each alert is tested both ways, and asks for metrics that there are.
func TestAlertsAreTested(t *testing.T) {
	rules, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts []string
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1) {
		alerts = append(alerts, m[1])
		for _, kind := range []string{`\[\]`, `\n +- exp_labels`} {
			if !regexp.MustCompile(`alertname: ` + m[1] + `\n +exp_alerts: ?` + kind).Match(tests) {
				t.Errorf("%s has no test with exp_alerts:%s", m[1], kind)
			}
		}
	}
	if len(alerts) != 7 {
		t.Errorf("the alerts %v, want seven", alerts)
	}
	checkNames(t, "alerts.yaml", string(rules))
}

var metricName = regexp.MustCompile(`\bleasehold_[a-z_]+`)

// checkNames checks that a text names only metrics that are exported, and returns those.
func checkNames(t *testing.T, what, text string) (named []string) {
	t.Helper()
	all := exported(NewCollector(Config{}))
	for _, name := range metricName.FindAllString(text, -1) {
		if !slices.Contains(all, name) {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
		}
		if !slices.Contains(all, name) {
			t.Errorf("%s: %s is not exported", what, name)
		}
		named = append(named, name)
	}
	return named
}

// A panel is what the tests need to know of one.
type panel struct {
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct{ Panels []panel }
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	return board.Panels
}

// Each panel of the dashboard asks for metrics that are exported, each of which is on some panel, and no
// two panels lie on each other.
func TestDashboard(t *testing.T) {
	shown := make(map[string]bool)
	taken := make(map[[2]int]string)
	for _, p := range panels(t) {
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			named := checkNames(t, p.Title, target.Expr)
			if len(named) == 0 {
				t.Errorf("%s: %s asks for no metric", p.Title, target.Expr)
			}
			for _, name := range named {
				shown[name] = true
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
	for _, name := range exported(NewCollector(Config{})) {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// A real Prometheus scrapes the example program: it has every metric then, its rules are in order, and
// every panel of the dashboard can be drawn.
func TestPrometheusScrapesTheExample(t *testing.T) {
	server := tool(t, "prometheus")
	dir := t.TempDir()
	program := filepath.Join(dir, "example")
	if said, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./example").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	example := exec.Command(program, "-listen", "127.0.0.1:0")
	out, err := example.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	run(t, example)
	line, err := bufio.NewReader(out).ReadString('\n')
	address := regexp.MustCompile(`http://(127\.0\.0\.1:\d+)/metrics`).FindStringSubmatch(line)
	if err != nil || address == nil {
		t.Fatalf("the example says %q, %v", line, err)
	}
	rules, err := filepath.Abs("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: example
    static_configs: [{targets: [%q]}]
`, rules, address[1])
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	prom := startPrometheus(t, server, dir)

	prom.until(t, "the example is scraped several times", `sum_over_time(up{job="example"}[1m]) >= 5`)
	prom.until(t, "leases were renewed", `leasehold_renewal_margin_seconds`)
	prom.until(t, "a lease was lost, and that was scraped twice", `rate(leasehold_lost_total[1m])`)
	for _, name := range exported(NewCollector(Config{})) {
		if n := prom.query(t, `count({__name__=~"`+name+`(_count|_sum|_bucket)?"})`); len(n) == 0 {
			t.Errorf("Prometheus has no %s", name)
		}
	}
	for _, c := range []string{
		`leasehold_node_up == 1`, `leasehold_acquire_wait_seconds_count{outcome="acquired"} > 0`, `leasehold_hold_seconds_count > 0`,
		`leasehold_held{name="report"}`, `leasehold_lost_total{name="export", reason="max_hold"} > 0`, `histogram_quantile(0.5, sum by (le) (leasehold_renewal_margin_ratio_bucket)) > 0.4`,
	} {
		if len(prom.query(t, c)) == 0 {
			t.Errorf("%s is so nowhere", c)
		}
	}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "30s", "$job", ".*", "$instance", ".*").Replace(target.Expr)
			if got := prom.query(t, expr); len(got) == 0 {
				t.Errorf("%s: nothing is there to be drawn: %s", p.Title, expr)
			}
		}
	}
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	prom.get(t, "/api/v1/rules", &loaded)
	n := 0
	for _, g := range loaded.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" || r.State == "firing" {
				t.Errorf("%s is %s and %s: %s", r.Name, r.Health, r.State, r.LastError)
			}
		}
	}
	if n != 7 {
		t.Errorf("Prometheus has %d rules, want seven", n)
	}
}

// run starts a program, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it fails only if the process has ended
		_ = cmd.Wait()
	})
}

// A promServer is a Prometheus on a port of the loopback interface.
type promServer struct {
	url    string
	client *http.Client
}

// startPrometheus starts one whose configuration is in dir, where it keeps its data too.
func startPrometheus(t *testing.T, path, dir string) *promServer {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for range 5 { // the port may be taken
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)) // below those of outgoing connections
		var log bytes.Buffer
		cmd := exec.Command(path, "--config.file", filepath.Join(dir, "prometheus.yml"),
			"--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address, "--log.level", "warn")
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		stop := func() {
			_ = cmd.Process.Kill()
			<-ended
		}
		p := &promServer{url: "http://" + address, client: client}
		if err := p.ready(ended); err != nil {
			if errors.Is(err, errEnded) {
				t.Logf("%v\n%s", err, log.String())
				continue
			}
			stop()
			t.Fatalf("%v\n%s", err, log.String())
		}
		t.Cleanup(stop)
		return p
	}
	t.Fatal("no Prometheus could be started")
	return nil
}

var errEnded = errors.New("the server has ended")

func (p *promServer) ready(ended <-chan error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if resp, err := p.client.Get(p.url + "/-/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%w: %w", errEnded, err)
		case <-tick.C:
		}
	}
	return errors.New("Prometheus does not get ready")
}

// get asks for the data of an answer of the API.
func (p *promServer) get(t *testing.T, path string, data any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %s, %s, %v", path, answer.Status, answer.Error, err)
	}
}

// query returns the series that an expression gives at present.
func (p *promServer) query(t *testing.T, expr string) []json.RawMessage {
	t.Helper()
	var data struct{ Result []json.RawMessage }
	p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	return data.Result
}

// until waits until an expression gives something.
func (p *promServer) until(t *testing.T, what, expr string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if len(p.query(t, expr)) > 0 {
			return
		}
	}
	t.Fatalf("not so after %v: %s (%s)", patience, what, expr)
}
