package leaseprom

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = time.Second

// bubble runs f in a bubble of testing/synctest, with three nodes in memory.
func bubble(t *testing.T, f func(t *testing.T, nodes []*nodetest.Node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		defer func() {
			for _, n := range nodes {
				n.Close()
			}
		}()
		f(t, nodes)
	})
}

// start makes a supervisor whose metrics a collector has, and closes it after the test. The registry
// refuses what the collector has not described.
func start(t *testing.T, nodes []*nodetest.Node, c *Collector, change ...func(*supervisor.Config)) (*supervisor.Supervisor, *prometheus.Registry) {
	t.Helper()
	cfg := supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime()}
	for _, f := range change {
		f(&cfg)
	}
	if c != nil {
		cfg = c.Instrument(cfg)
	}
	sup, err := supervisor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = sup.Close(ctx)
	})
	registry := prometheus.NewPedanticRegistry()
	if c != nil {
		c.Attach(sup)
		registry.MustRegister(c)
	}
	synctest.Wait()
	return sup, registry
}

func acquire(t *testing.T, sup *supervisor.Supervisor, name string) *lease.Lease {
	t.Helper()
	held, err := sup.Acquire(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return held
}

// values returns what is gathered, by name and labels: a counter and a gauge as they are, and of a
// histogram or a summary the count and the sum.
func values(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			of := "{" + strings.Join(labels, ",") + "}"
			if of == "{}" {
				of = ""
			}
			switch name := strings.TrimPrefix(f.GetName(), "leasehold_"); f.GetType() {
			case dto.MetricType_COUNTER:
				got[name+of] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				got[name+of] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				got[name+"_count"+of] = float64(m.GetHistogram().GetSampleCount())
				got[name+"_sum"+of] = m.GetHistogram().GetSampleSum()
			case dto.MetricType_SUMMARY:
				got[name+"_count"+of] = float64(m.GetSummary().GetSampleCount())
				got[name+"_sum"+of] = m.GetSummary().GetSampleSum()
			}
		}
	}
	return got
}

// A collector counts what has happened, and shows what there is.
func TestMetrics(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		sup, registry := start(t, nodes, NewCollector(Config{}))
		rival, _ := start(t, nodes, nil)
		for _, n := range nodes {
			n.Delay(10 * time.Millisecond)
		}
		want := func(when string, want map[string]float64) {
			t.Helper()
			synctest.Wait()
			got := values(t, registry)
			for name, v := range want {
				if g, is := got[name]; !is || math.Abs(g-v) > 1e-9 {
					t.Errorf("%s: %s is %v (it is there: %v), want %v", when, name, g, is, v)
				}
			}
		}
		between := func(when, name string, least, most float64) {
			t.Helper()
			if v, is := values(t, registry)[name]; !is || v < least || v > most {
				t.Errorf("%s: %s is %v (it is there: %v), want %v to %v", when, name, v, is, least, most)
			}
		}

		held := acquire(t, sup, "a")
		want("one is held", map[string]float64{"held": 1, "waiting": 0, "acquire_wait_seconds_count{outcome=acquired}": 1, "hold_seconds_count": 0})
		between("one is held", "acquire_wait_seconds_sum{outcome=acquired}", .01, .1)

		if _, err := sup.TryAcquire(t.Context(), "a"); err == nil {
			t.Error("acquired twice")
		}
		want("refused", map[string]float64{"acquire_wait_seconds_count{outcome=held}": 1})

		theirs := acquire(t, rival, "b")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = sup.Acquire(ctx, "b") })
		time.Sleep(ttl)
		want("one waits", map[string]float64{"waiting": 1})
		cancel()
		wg.Wait()
		want("it gave up", map[string]float64{"waiting": 0, "acquire_wait_seconds_count{outcome=held}": 2})
		between("it gave up", "acquire_wait_seconds_sum{outcome=held}", 1, 1.2)
		_ = theirs.Release(t.Context())

		time.Sleep(9 * ttl)
		between("renewed for long", "renewal_margin_seconds", .5, .7)
		between("renewed for long", "renewal_margin_ratio_count", 20, 40)
		between("renewed for long", "renewal_margin_ratio_sum", 10, 30)
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		want("released", map[string]float64{"held": 0, "hold_seconds_count": 1, "lost_total{reason=expired}": 0})
		between("released", "hold_seconds_sum", 10, 11)

		lost := acquire(t, sup, "c")
		for _, n := range nodes {
			n.Hang()
		}
		<-lost.Lost()
		up := "node_up{node=" + nodes[0].String() + "}"
		time.Sleep(ttl)
		want("all nodes hang", map[string]float64{"held": 0, "lost_total{reason=expired}": 1, "lost_total{reason=revoked}": 0, "hold_seconds_count": 2, up: 0})
		short, cancel := context.WithTimeout(t.Context(), ttl)
		defer cancel()
		if _, err := sup.Acquire(short, "d"); err == nil {
			t.Error("acquired while all nodes hang")
		}
		want("all nodes hang", map[string]float64{"acquire_wait_seconds_count{outcome=no_quorum}": 1})
		for _, n := range nodes {
			n.Resume()
		}
		time.Sleep(10 * ttl)
		want("they are back", map[string]float64{up: 1, "node_disagrees{node=" + nodes[0].String() + "}": 0, "events_untold_total": 0, "releases_owed": 0})
		between("they are back", "node_round_trip_seconds_count{node="+nodes[0].String()+"}", 10, 1000)
		between("they are back", "node_round_trip_seconds_sum{node="+nodes[0].String()+"}", .1, 20)
		between("they are back", "loop_busy_ratio", 0, 1)
		between("they are back", "loop_longest_seconds", 0, 10)

		nodes[1].Jump(10 * time.Second)
		acquire(t, sup, "e")
		time.Sleep(2 * ttl)
		between("a clock was set ahead", "clock_offset_seconds{node="+nodes[1].String()+"}", 9, 11)
		between("a clock was set ahead", "clock_offset_seconds{node="+nodes[0].String()+"}", -.1, .1)
	})
}

// A client of other nodes shows on those that both use.
func TestNodesThatDisagree(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		others := nodetest.Start(2)
		defer func() {
			for _, n := range others {
				n.Close()
			}
		}()
		sup, registry := start(t, nodes, NewCollector(Config{}))
		rival, _ := start(t, append(others, nodes[0]), nil)
		acquire(t, rival, "x")
		acquire(t, sup, "y")
		time.Sleep(time.Minute)
		got := values(t, registry)
		for i, n := range nodes {
			want := 0.
			if sup.Nodes()[i].Disagrees != "" {
				want = 1
			}
			if got["node_disagrees{node="+n.String()+"}"] != want || i == 0 && want == 0 {
				t.Errorf("node %d: %v, want %v", i, got, want)
			}
		}
	})
}

// So many names get a label, without the prefix of their keys, and all others share one.
func TestNames(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		sup, registry := start(t, nodes, NewCollector(Config{MaxNames: 2}), func(cfg *supervisor.Config) { cfg.Prefix = "app:" })
		const broken = "caf\xe9"
		first := acquire(t, sup, "one")
		acquire(t, sup, broken)
		acquire(t, sup, "three")
		acquire(t, sup, "four")
		if err := first.Release(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		got := values(t, registry)
		want := map[string]float64{
			"held{name=one}": 0, "held{name=caf\uFFFD}": 1, "held{name=other}": 2,
			"hold_seconds_count{name=one}":                            1,
			"acquire_wait_seconds_count{name=one,outcome=acquired}":   1,
			"lost_total{name=one,reason=expired}":                     0, // so that the first is a growth
			"acquire_wait_seconds_count{name=other,outcome=acquired}": 2,
		}
		for name, v := range want {
			if g, is := got[name]; !is || g != v {
				t.Errorf("%s is %v (it is there: %v), want %v", name, g, is, v)
			}
		}
		for name := range got {
			if strings.Contains(name, "app:") || strings.Contains(name, "three") || strings.Contains(name, "four") {
				t.Errorf("%s is there", name)
			}
		}
	})
}

// However many names there are, there are no more labels than were asked for, and one.
func TestNamesAreBounded(t *testing.T) {
	c := NewCollector(Config{MaxNames: 10})
	for i := range 10_000 {
		name := fmt.Sprint("name ", i)
		c.observe(supervisor.Event{Kind: supervisor.EventAcquired, Name: name})
		c.observe(supervisor.Event{Kind: supervisor.EventLost, Name: name, Err: lease.ErrExpired})
	}
	for m, want := range map[string]int{
		"leasehold_acquire_wait_seconds": 11, "leasehold_hold_seconds": 11,
		"leasehold_lost_total": 11 * (len(reasons) + 1),
	} {
		if n := testutil.CollectAndCount(c, m); n != want {
			t.Errorf("%d series of %s, want %d", n, m, want)
		}
	}
}

// Each reason for which a lease is lost, or not acquired, has a word.
func TestWords(t *testing.T) {
	for _, c := range []struct {
		err   error
		words []word
		want  string
	}{
		{&lease.LostError{Kind: lease.ErrExpired}, reasons, "expired"},
		{&lease.LostError{Kind: lease.ErrForgotten}, reasons, "forgotten"},
		{&lease.LostError{Kind: lease.ErrRevoked}, reasons, "revoked"},
		{&lease.LostError{Kind: lease.ErrTaken}, reasons, "taken"},
		{lease.ErrPaused, reasons, "paused"},
		{lease.ErrMaxHold, reasons, "max_hold"},
		{lease.ErrClosed, reasons, "closed"},
		{errors.New("what is yet to come"), reasons, "other"},
		{supervisor.ErrHeld, outcomes, "held"},
		{errors.Join(supervisor.ErrHeld, context.DeadlineExceeded), outcomes, "held"},
		{supervisor.ErrNoQuorum, outcomes, "no_quorum"},
		{supervisor.ErrClosed, outcomes, "closed"},
		{supervisor.ErrMisconfigured, outcomes, "misconfigured"},
		{supervisor.ErrFenceExhausted, outcomes, "fence_exhausted"},
		{&lease.LostError{Kind: lease.ErrTaken}, outcomes, "lost"},
		{context.Canceled, outcomes, "ended"},
		{context.DeadlineExceeded, outcomes, "ended"},
		{nil, outcomes, "other"},
	} {
		if got := wordOf(c.err, c.words); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
	}
}

// No credential is in a label, and no two nodes have the same one.
func TestNodeLabels(t *testing.T) {
	c := NewCollector(Config{})
	// Nothing listens there.
	cfg := supervisor.Config{Nodes: node.URLs("redis://user:geheim@127.0.0.1:1", "redis://:geheim@127.0.0.1:1/2", "redis://user:geheim@127.0.0.1:2")}
	sup, err := supervisor.New(c.Instrument(cfg))
	if err != nil {
		t.Fatal(err)
	}
	defer sup.Close(t.Context())
	c.Attach(sup)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	got := values(t, registry)
	for name := range got {
		if strings.Contains(name, "geheim") || strings.Contains(name, "user") {
			t.Errorf("%s tells a credential", name)
		}
	}
	if _, is := got["node_up{node=127.0.0.1:1/2}"]; !is {
		t.Errorf("no node is called by its address: %v", slices.Sorted(maps.Keys(got)))
	}
	twice := nodeLabels([]supervisor.NodeStatus{{Node: "a:1"}, {Node: "b:1"}, {Node: "a:1"}, {Node: "a:1"}})
	if want := []string{"a:1", "b:1", "a:1 #2", "a:1 #3"}; !slices.Equal(twice, want) {
		t.Errorf("%q, want %q", twice, want)
	}
}

// The observer of before hears everything, a broken one is still refused, and one that panics takes
// nothing from the metrics.
func TestInstrument(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		c := NewCollector(Config{})
		heard := make(chan supervisor.EventKind, 100)
		sup, registry := start(t, nodes, c, func(cfg *supervisor.Config) {
			cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) { heard <- e.Kind; panic("broken") })
		})
		acquire(t, sup, "x")
		var kinds []supervisor.EventKind
		for len(heard) > 0 {
			kinds = append(kinds, <-heard)
		}
		if !slices.Contains(kinds, supervisor.EventAcquired) || !slices.Contains(kinds, supervisor.EventNodeUp) {
			t.Errorf("heard %v", kinds)
		}
		if n := values(t, registry)["acquire_wait_seconds_count{outcome=acquired}"]; n != 1 {
			t.Errorf("%v acquisitions are counted", n)
		}
	})
	var none supervisor.ObserverFunc
	if _, err := supervisor.New(NewCollector(Config{}).Instrument(supervisor.Config{Observer: none})); err == nil {
		t.Error("an observer that is a nil function is accepted")
	}
}

// A collector without a supervisor has what events have told it, and after Close what was last.
func TestBeforeAndAfter(t *testing.T) {
	c := NewCollector(Config{})
	if n := testutil.CollectAndCount(c); n == 0 || testutil.CollectAndCount(c, "leasehold_held") != 0 {
		t.Errorf("%d series without a supervisor", n)
	}
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		sup, registry := start(t, nodes, c)
		acquire(t, sup, "x")
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := values(t, registry); got["held"] != 0 || got["lost_total{reason=closed}"] != 1 || got["hold_seconds_count"] != 1 {
			t.Errorf("after Close: %v", got)
		}
	})
}

// Two supervisors of one process are in one registry, each with labels of its own. What is unregistered leaves
// nothing there, and may be registered again.
func TestTwoInOneRegistry(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		registry := prometheus.NewPedanticRegistry()
		var sups []*supervisor.Supervisor
		var collectors []*Collector
		for i, label := range []string{"a", "b"} {
			c := NewCollector(Config{})
			sup, _ := start(t, nodes, c)
			with := prometheus.WrapRegistererWith(prometheus.Labels{"supervisor": label}, registry)
			with.MustRegister(c)
			if i == 1 {
				defer func() {
					if !with.Unregister(c) {
						t.Error("it was not registered")
					}
					for name := range values(t, registry) {
						if strings.Contains(name, "supervisor=b") {
							t.Errorf("%s is left", name)
						}
					}
					if err := with.Register(c); err != nil {
						t.Error(err)
					}
				}()
			}
			sups, collectors = append(sups, sup), append(collectors, c)
		}
		acquire(t, sups[0], "x")
		got := values(t, registry)
		if got["held{supervisor=a}"] != 1 || got["held{supervisor=b}"] != 0 || got["acquire_wait_seconds_count{outcome=acquired,supervisor=b}"] != 0 {
			t.Errorf("one holds a lease, and the other none: %v", got)
		}
		plain := prometheus.NewRegistry()
		plain.MustRegister(collectors[0])
		if err := plain.Register(collectors[1]); err == nil {
			t.Error("two without labels of their own are accepted")
		}
	})
}

// Before a node has answered its clock is not known, and it is down. No renewal has a margin yet.
func TestBeforeTheFirstAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Hang()
		}
		_, registry := start(t, nodes, NewCollector(Config{}))
		got := values(t, registry)
		of := "{node=" + nodes[0].String() + "}"
		if up, is := got["node_up"+of]; !is || up != 0 {
			t.Errorf("node_up is %v (it is there: %v)", up, is)
		}
		for _, name := range []string{"clock_offset_seconds" + of, "renewal_margin_seconds"} {
			if v, is := got[name]; is {
				t.Errorf("%s is %v, want none", name, v)
			}
		}
		for name, v := range got {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s is %v", name, v)
			}
		}
	})
}

func TestBusyRatio(t *testing.T) {
	var b busyRatio
	for i, c := range []struct {
		busy, up time.Duration
		want     float64
	}{
		{0, 0, 0},
		{100 * time.Millisecond, 200 * time.Millisecond, .5}, // the first
		{200 * time.Millisecond, 300 * time.Millisecond, .5}, // another that scrapes at once
		{1100 * time.Millisecond, 10200 * time.Millisecond, .1},
		{12 * time.Second, 20200 * time.Millisecond, 1}, // two clocks do not agree on it
		{11 * time.Second, 30200 * time.Millisecond, 0},
	} {
		if got := b.since(c.busy, c.up); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("reading %d: %v, want %v", i, got, c.want)
		}
	}
}

func TestMargins(t *testing.T) {
	var m dto.Metric
	if err := margins([10]uint64{0: 1, 6: 98, 9: 1}).Write(&m); err != nil {
		t.Fatal(err)
	}
	h := m.GetHistogram()
	if h.GetSampleCount() != 100 || math.Abs(h.GetSampleSum()-(.05+98*.65+.95)) > 1e-9 {
		t.Errorf("%d renewals, %v in sum", h.GetSampleCount(), h.GetSampleSum())
	}
	for _, b := range h.GetBucket() {
		want := uint64(1)
		switch le := b.GetUpperBound(); {
		case le == 1:
			want = 100
		case le >= .7:
			want = 99
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("%d with at most %v, want %d", b.GetCumulativeCount(), b.GetUpperBound(), want)
		}
	}
}

func TestBrokenConfig(t *testing.T) {
	for _, cfg := range []Config{{MaxNames: -1}, {WaitBuckets: []float64{2, 1}}, {HoldBuckets: []float64{2, 1}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is accepted", cfg)
				}
			}()
			c := NewCollector(cfg)
			c.observe(supervisor.Event{Kind: supervisor.EventAcquired})
			c.observe(supervisor.Event{Kind: supervisor.EventLost})
		}()
	}
}

// Prometheus's own linter finds nothing, with names and without.
func TestLint(t *testing.T) {
	for _, most := range []int{0, 3} {
		bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
			sup, registry := start(t, nodes, NewCollector(Config{MaxNames: most}))
			acquire(t, sup, "x")
			time.Sleep(ttl)
			found, err := testutil.GatherAndLint(registry)
			if err != nil {
				t.Error(err)
			}
			for _, p := range found {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		})
	}
}

// exported returns the metrics that a collector describes.
func exported(c *Collector) []string {
	ch := make(chan *prometheus.Desc, 100)
	c.Describe(ch)
	close(ch)
	var list []string
	for d := range ch {
		list = append(list, regexp.MustCompile(`fqName: "([a-z_]+)"`).FindStringSubmatch(d.String())[1])
	}
	slices.Sort(list)
	return list
}

// The package comment and docs/metrics.md list the metrics that there are.
func TestMetricsAreListed(t *testing.T) {
	want := exported(NewCollector(Config{}))
	if with := exported(NewCollector(Config{MaxNames: 1})); !slices.Equal(with, want) {
		t.Errorf("with names %v", with)
	}
	for file, line := range map[string]string{
		"doc.go":                "(?m)^//\t(leasehold_[a-z_]+) +(?:counter|gauge|histogram|summary) ",
		"../../docs/metrics.md": "(?m)^\\| `(leasehold_[a-z_]+)` \\|",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var listed []string
		for _, m := range regexp.MustCompile(line).FindAllStringSubmatch(string(text), -1) {
			listed = append(listed, m[1])
		}
		slices.Sort(listed)
		if !slices.Equal(listed, want) {
			t.Errorf("%s lists %v, want %v", file, listed, want)
		}
	}
}
