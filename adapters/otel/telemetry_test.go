package leaseotel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = time.Second

// A kit is a supervisor on three nodes in memory, in a bubble, and the SDK that has its telemetry.
type kit struct {
	sup    *supervisor.Supervisor
	nodes  []*nodetest.Node
	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
	tracer *sdktrace.TracerProvider
}

func bubble(t *testing.T, cfg Config, change func(*supervisor.Config), f func(t *testing.T, k *kit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &kit{nodes: nodetest.Start(3), reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
		defer func() {
			for _, n := range k.nodes {
				n.Close()
			}
		}()
		meters := metric.NewMeterProvider(metric.WithReader(k.reader))
		defer meters.Shutdown(context.Background())
		k.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(k.spans))
		defer k.tracer.Shutdown(context.Background())
		cfg.MeterProvider = meters
		if cfg.TracerProvider != nil {
			cfg.TracerProvider = k.tracer
		}
		telemetry, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		of := supervisor.Config{Nodes: nodetest.Conns(k.nodes), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime()}
		if change != nil {
			change(&of)
		}
		if k.sup, err = supervisor.New(telemetry.Instrument(of)); err != nil {
			t.Fatal(err)
		}
		defer k.sup.Close(context.Background())
		registration, err := telemetry.Attach(k.sup)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := registration.Unregister(); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		f(t, k)
	})
}

func (k *kit) acquire(t *testing.T, name string, opts ...supervisor.Option) *lease.Lease {
	t.Helper()
	got, err := k.sup.Acquire(t.Context(), name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return got
}

// collect returns what is collected: by instrument and attributes the value, and of a histogram
// the count, and the sum as NAME.sum.
func (k *kit) collect(t *testing.T) (values map[string]float64, instruments map[string]string) {
	t.Helper()
	synctest.Wait()
	var all metricdata.ResourceMetrics
	if err := k.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values, instruments = make(map[string]float64), make(map[string]string)
	add := func(name string, set attribute.Set, v float64) {
		var list []string
		for _, kv := range set.ToSlice() {
			if kv.Key != address && kv.Key != port {
				list = append(list, string(kv.Key)+"="+kv.Value.String())
			}
		}
		if list != nil {
			name += "{" + strings.Join(list, ",") + "}"
		}
		values[name] = v
	}
	for _, s := range all.ScopeMetrics {
		if s.Scope.Name != scope {
			t.Errorf("a scope %q", s.Scope.Name)
		}
		for _, m := range s.Metrics {
			if m.Description == "" || m.Unit == "" {
				t.Errorf("%s has the unit %q and the description %q", m.Name, m.Unit, m.Description)
			}
			kind := ""
			sum := func(monotonic bool) {
				if kind = "updowncounter"; monotonic {
					kind = "counter"
				}
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				sum(d.IsMonotonic)
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Sum[float64]:
				sum(d.IsMonotonic)
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				kind = "gauge"
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				kind = "gauge"
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				kind = "histogram"
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, float64(p.Count))
					add(m.Name+".sum", p.Attributes, p.Sum)
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
			instruments[m.Name] = kind + " " + m.Unit
		}
	}
	return values, instruments
}

// What has happened is counted, what there is is shown, and the package comment and docs/metrics.md list every
// instrument with its type and unit.
func TestMetrics(t *testing.T) {
	bubble(t, Config{}, nil, func(t *testing.T, k *kit) {
		between := func(when string, values map[string]float64, name string, least, most float64) {
			t.Helper()
			if v, is := values[name]; !is || v < least || v > most {
				t.Errorf("%s: %s is %v (it is there: %v), want %v to %v", when, name, v, is, least, most)
			}
		}
		for _, n := range k.nodes {
			n.Delay(10 * time.Millisecond)
		}
		first := k.acquire(t, "a")
		if _, err := k.sup.TryAcquire(t.Context(), "a"); err == nil {
			t.Error("acquired twice")
		}
		time.Sleep(10 * ttl)
		got, _ := k.collect(t)
		node := "{leasehold.node=" + k.nodes[0].String() + "}"
		const when = "one is held"
		between(when, got, "leasehold.lease.count", 1, 1)
		between(when, got, "leasehold.acquire.waiting", 0, 0)
		between(when, got, "leasehold.acquire.wait_time", 1, 1)
		between(when, got, "leasehold.acquire.wait_time.sum", .01, .2)
		between(when, got, "leasehold.acquire.wait_time{error.type=held}", 1, 1)
		between(when, got, "leasehold.renewal.margin", .5, .7)
		between(when, got, "leasehold.renewal.count{leasehold.renewal.margin_tenths=0}", 0, 0)
		between(when, got, "leasehold.renewal.count{leasehold.renewal.margin_tenths=6}", 1, 40)
		between(when, got, "leasehold.loop.utilization", 0, 1)
		between(when, got, "leasehold.loop.longest", 0, 10)
		between(when, got, "leasehold.node.up"+node, 1, 1)
		between(when, got, "leasehold.node.round_trip.count"+node, 10, 1000)
		between(when, got, "leasehold.node.round_trip.time"+node, .1, 20)
		between(when, got, "leasehold.node.clock_offset"+node, -.1, .1)
		between(when, got, "leasehold.node.disagrees"+node, 0, 0)
		between(when, got, "leasehold.event.dropped", 0, 0)
		between(when, got, "leasehold.release.owed", 0, 0)
		if err := first.Release(t.Context()); err != nil {
			t.Error(err)
		}
		lost := k.acquire(t, "b", supervisor.WithMaxHold(5*time.Second))
		<-lost.Lost()
		got, instruments := k.collect(t)
		between("both are over", got, "leasehold.lease.count", 0, 0)
		between("both are over", got, "leasehold.lease.hold_time", 2, 2)
		between("both are over", got, "leasehold.lease.hold_time.sum", 15, 16)
		between("both are over", got, "leasehold.lease.lost{error.type=max_hold}", 1, 1)

		for file, line := range map[string]string{
			"doc.go":                `(?m)^//\t(leasehold\.[a-z_.]+) +([a-z]+) +(\S+)`,
			"../../docs/metrics.md": "(?m)^\\| `(leasehold\\.[a-z_.]+)` \\| ([a-z]+) \\| `(\\S+)` \\|",
		} {
			comment, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			listed := make(map[string]bool)
			for _, m := range regexp.MustCompile(line).FindAllStringSubmatch(string(comment), -1) {
				listed[m[1]] = true
				if is, want := instruments[m[1]], m[2]+" "+m[3]; is != want {
					t.Errorf("%s: %s is a %q, listed as %q", file, m[1], is, want)
				}
			}
			for name := range instruments {
				if !listed[name] {
					t.Errorf("%s does not list %s", file, name)
				}
			}
		}
	})
}

// So many names are attributes, without the prefix of their keys, and all others share one.
func TestNames(t *testing.T) {
	bubble(t, Config{MaxNames: 2}, func(cfg *supervisor.Config) { cfg.Prefix = "app:" }, func(t *testing.T, k *kit) {
		first := k.acquire(t, "one")
		k.acquire(t, "caf\xe9")
		for i := range 5 {
			k.acquire(t, fmt.Sprint("more ", i))
		}
		if err := first.Release(t.Context()); err != nil {
			t.Error(err)
		}
		got, _ := k.collect(t)
		for name, v := range map[string]float64{
			"leasehold.lease.count{leasehold.lease.name=one}":         0,
			"leasehold.lease.count{leasehold.lease.name=caf\uFFFD}":   1,
			"leasehold.lease.count{leasehold.lease.name=other}":       5,
			"leasehold.lease.hold_time{leasehold.lease.name=one}":     1,
			"leasehold.acquire.wait_time{leasehold.lease.name=other}": 5,
		} {
			if g, is := got[name]; !is || g != v {
				t.Errorf("%s is %v (it is there: %v), want %v", name, g, is, v)
			}
		}
		for name := range got {
			if strings.Contains(name, "app:") || strings.Contains(name, "more") {
				t.Errorf("%s is there", name)
			}
		}
	})
}

// Two supervisors of one process have one provider, and scopes of their own. What is unregistered is not read any more.
func TestTwoWithOneProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		defer func() {
			for _, n := range nodes {
				n.Close()
			}
		}()
		reader := metric.NewManualReader()
		meters := metric.NewMeterProvider(metric.WithReader(reader))
		defer meters.Shutdown(context.Background())
		var registrations []interface{ Unregister() error }
		for i, of := range []string{"a", "b"} {
			telemetry, err := New(Config{MeterProvider: meters, Attributes: []attribute.KeyValue{attribute.String("supervisor", of)}})
			if err != nil {
				t.Fatal(err)
			}
			sup, err := supervisor.New(telemetry.Instrument(supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime()}))
			if err != nil {
				t.Fatal(err)
			}
			defer sup.Close(context.Background())
			registration, err := telemetry.Attach(sup)
			if err != nil {
				t.Fatal(err)
			}
			registrations = append(registrations, registration)
			for j := range i + 1 { // one of the first, two of the second
				if _, err := sup.Acquire(t.Context(), fmt.Sprint(of, j)); err != nil {
					t.Fatal(err)
				}
			}
		}
		counts := func() map[string]int64 {
			var all metricdata.ResourceMetrics
			if err := reader.Collect(t.Context(), &all); err != nil {
				t.Fatal(err)
			}
			got := make(map[string]int64)
			for _, s := range all.ScopeMetrics {
				of, _ := s.Scope.Attributes.Value("supervisor")
				for _, m := range s.Metrics {
					if d, is := m.Data.(metricdata.Sum[int64]); is && m.Name == "leasehold.lease.count" {
						got[of.String()] = d.DataPoints[0].Value
					}
				}
			}
			return got
		}
		if got := counts(); len(got) != 2 || got["a"] != 1 || got["b"] != 2 {
			t.Errorf("%v are held, want one and two", got)
		}
		if err := registrations[1].Unregister(); err != nil {
			t.Error(err)
		}
		if got := counts(); len(got) != 1 || got["a"] != 1 {
			t.Errorf("%v are held, want one of the first alone", got)
		}
		if err := registrations[0].Unregister(); err != nil {
			t.Error(err)
		}
	})
}

// span is the one with that name, for a lease of that name, or nil.
func (k *kit) span(name, of string) sdktrace.ReadOnlySpan {
	synctest.Wait()
	for _, s := range k.spans.Ended() {
		if s.Name() == name && attributes(s)[nameKey] == of {
			return s
		}
	}
	return nil
}

func attributes(s sdktrace.ReadOnlySpan) map[attribute.Key]string {
	list := make(map[attribute.Key]string)
	for _, kv := range s.Attributes() {
		list[kv.Key] = kv.Value.String()
	}
	return list
}

func eventsOf(s sdktrace.ReadOnlySpan) (names []string) {
	for _, e := range s.Events() {
		names = append(names, e.Name)
	}
	return names
}

const (
	acquisition = "leasehold acquire"
	tenure      = "leasehold tenure"
)

var withSpans = Config{TracerProvider: sdktrace.NewTracerProvider()} // in whose place comes that of the kit

// A caller that waits for a name, and has it in the end, has a span in its own trace, and its tenure has
// another that links to it.
func TestSpans(t *testing.T) {
	bubble(t, withSpans, func(cfg *supervisor.Config) { cfg.Prefix = "app:" }, func(t *testing.T, k *kit) {
		const way = 10 * time.Millisecond
		for _, n := range k.nodes {
			n.Delay(way)
		}
		former := k.acquire(t, "x")
		time.AfterFunc(3*time.Second, func() { _ = former.Release(context.Background()) })
		ctx, request := k.tracer.Tracer("test").Start(t.Context(), "request")
		began := time.Now()
		got, err := k.sup.Acquire(ctx, "x", supervisor.WithMinHold(time.Minute)) // which is raised
		if err != nil {
			t.Fatal(err)
		}
		won := time.Now()
		request.End()
		time.Sleep(5 * time.Second)
		if err := got.Release(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()

		var a, held sdktrace.ReadOnlySpan
		for _, s := range k.spans.Ended() {
			if attributes(s)[fenceKey] == fmt.Sprint(got.Fence()) {
				switch s.Name() {
				case acquisition:
					a = s
				case tenure:
					held = s
				}
			}
		}
		if a == nil || held == nil {
			t.Fatalf("no span of the acquisition, or of the tenure: %v", k.spans.Ended())
		}
		if a.Parent().SpanID() != request.SpanContext().SpanID() || a.SpanContext().TraceID() != request.SpanContext().TraceID() {
			t.Error("the acquisition is not a child of the caller's span")
		}
		if !a.StartTime().Equal(began) || !a.EndTime().Equal(won) {
			t.Errorf("acquired from %v to %v, want %v to %v", a.StartTime(), a.EndTime(), began, won)
		}
		if got := eventsOf(a); !slices.Equal(got, []string{"waiting", "election", "raise"}) {
			t.Fatalf("the events %v", got)
		}
		e := a.Events()
		if !e[0].Time.Equal(began) || e[1].Time.Sub(began) < 3*time.Second-way || e[2].Time.Before(e[1].Time) || won.Sub(e[2].Time) < way {
			t.Errorf("events at %v of %v to %v", e, began, won)
		}
		if attributes(a)[nameKey] != "x" || a.Status().Code != codes.Unset {
			t.Errorf("acquired %v, %v", a.Attributes(), a.Status())
		}
		if held.Parent().IsValid() || len(held.Links()) != 1 || !held.Links()[0].SpanContext.Equal(a.SpanContext()) {
			t.Errorf("the tenure has the parent %v and the links %v", held.Parent(), held.Links())
		}
		if d := held.EndTime().Sub(held.StartTime()); !held.StartTime().Equal(won) || d != 5*time.Second {
			t.Errorf("held from %v for %v", held.StartTime(), d)
		}
		if got := attributes(held); got[nameKey] != "x" || got[endKey] != "released" || held.Status().Code != codes.Unset {
			t.Errorf("held %v, %v", got, held.Status())
		}
		if n := len(k.spans.Started()); n != len(k.spans.Ended()) {
			t.Errorf("%d spans began, and %d ended", n, len(k.spans.Ended()))
		}
	})
}

// A span says why there was no lease, and how a lease has ended.
func TestSpansThatFail(t *testing.T) {
	bubble(t, withSpans, nil, func(t *testing.T, k *kit) {
		taken := k.acquire(t, "taken")
		if _, err := k.sup.TryAcquire(t.Context(), "taken"); err == nil {
			t.Error("acquired twice")
		}
		synctest.Wait()
		ended := k.spans.Ended()
		if s := ended[len(ended)-1]; s.Name() != acquisition || attributes(s)[errorType] != "held" || s.Status().Code != codes.Unset || len(s.Events()) != 0 {
			t.Errorf("%s %v %v %v", s.Name(), s.Attributes(), s.Status(), s.Events())
		}
		if _, err := taken.HandOver(t.Context()); err != nil {
			t.Error(err)
		}
		<-k.acquire(t, "long", supervisor.WithMaxHold(time.Second)).Lost()
		for _, n := range k.nodes {
			n.Hang()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := k.sup.Acquire(ctx, "nobody's"); err == nil {
			t.Error("acquired while all nodes hang")
		}
		for _, n := range k.nodes {
			n.Resume()
		}
		time.Sleep(10 * ttl)
		k.acquire(t, "closed")
		if err := k.sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for _, c := range []struct {
			name, of, end, why string
			code               codes.Code
		}{
			{tenure, "taken", "handed_over", "", codes.Unset},
			{tenure, "long", "max_hold", "max_hold", codes.Error},
			{tenure, "closed", "closed", "", codes.Unset},
			{acquisition, "nobody's", "", "no_quorum", codes.Error},
		} {
			s := k.span(c.name, c.of)
			if s == nil {
				t.Errorf("no span %s of %s", c.name, c.of)
				continue
			}
			if a := attributes(s); a[endKey] != c.end || a[errorType] != c.why || s.Status().Code != c.code {
				t.Errorf("%s of %s: %v, %v", c.name, c.of, a, s.Status())
			}
		}
		if n := len(k.spans.Started()); n != len(k.spans.Ended()) {
			t.Errorf("%d spans began, and %d ended", n, len(k.spans.Ended()))
		}
	})
}

// A tenure whose end was not told is not kept for ever: the next of its name ends it, or the next
// collection.
func TestUntoldEnds(t *testing.T) {
	bubble(t, withSpans, nil, func(t *testing.T, k *kit) {
		s := &spans{tracer: k.tracer.Tracer("test"), now: time.Now, tenures: make(map[string]trace.Span)}
		k.acquire(t, "is held")
		for _, name := range []string{"again", "again", "gone", "is held"} {
			s.acquired(t.Context(), supervisor.Event{Name: name}, name)
		}
		s.reconcile(0, k.sup) // nothing was dropped
		if len(s.tenures) != 3 {
			t.Errorf("%d tenures, want 3", len(s.tenures))
		}
		s.reconcile(1, k.sup)
		if len(s.tenures) != 1 || s.tenures["is held"] == nil {
			t.Errorf("%v are left", s.tenures)
		}
		untold := 0
		for _, e := range k.spans.Ended() {
			if attributes(e)[endKey] == "untold" {
				untold++
			}
		}
		if untold != 3 {
			t.Errorf("%d ended untold, want 3", untold)
		}
	})
}

// The observer of before hears everything, and a broken one is still refused.
func TestInstrument(t *testing.T) {
	heard := make(chan supervisor.EventKind, 100)
	observer := func(cfg *supervisor.Config) {
		cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) { heard <- e.Kind })
	}
	bubble(t, withSpans, func(cfg *supervisor.Config) { observer(cfg) }, func(t *testing.T, k *kit) { k.acquire(t, "x") })
	var kinds []supervisor.EventKind
	for len(heard) > 0 {
		kinds = append(kinds, <-heard)
	}
	if !slices.Contains(kinds, supervisor.EventAcquired) || !slices.Contains(kinds, supervisor.EventNodeUp) {
		t.Errorf("heard %v", kinds)
	}
	telemetry, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var none supervisor.ObserverFunc
	if _, err := supervisor.New(telemetry.Instrument(supervisor.Config{Observer: none})); err == nil {
		t.Error("an observer that is a nil function is accepted")
	}
	if _, err := New(Config{MaxNames: -1}); err == nil {
		t.Error("MaxNames -1 is accepted")
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
		{lease.ErrRevoked, reasons, "revoked"},
		{lease.ErrTaken, reasons, "taken"},
		{lease.ErrPaused, reasons, "paused"},
		{lease.ErrMaxHold, reasons, "max_hold"},
		{lease.ErrClosed, reasons, "closed"},
		{errors.New("what is yet to come"), reasons, "_OTHER"},
		{errors.Join(supervisor.ErrHeld, context.DeadlineExceeded), outcomes, "held"},
		{supervisor.ErrNoQuorum, outcomes, "no_quorum"},
		{supervisor.ErrClosed, outcomes, "closed"},
		{supervisor.ErrMisconfigured, outcomes, "misconfigured"},
		{supervisor.ErrFenceExhausted, outcomes, "fence_exhausted"},
		{&lease.LostError{Kind: lease.ErrTaken}, outcomes, "lost"},
		{context.Canceled, outcomes, "ended"},
		{nil, outcomes, "_OTHER"},
	} {
		if got := wordOf(c.err, c.words); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
	}
}

// A node has the attributes of a server, and one of its own, no two the same.
func TestNodeSets(t *testing.T) {
	sets := nodeSets([]supervisor.NodeStatus{{Node: "10.0.0.1:6379"}, {Node: "[::1]:6380/2"}, {Node: "main@10.0.0.1:26379/2"}, {Node: "10.0.0.1:6379"}, {Node: "nodetest-1"}})
	want := []string{
		"leasehold.node=10.0.0.1:6379,server.address=10.0.0.1,server.port=6379",
		"leasehold.node=[::1]:6380/2,server.address=::1,server.port=6380",
		"leasehold.node=main@10.0.0.1:26379/2,server.address=10.0.0.1,server.port=26379",
		"leasehold.node=10.0.0.1:6379 #2,server.address=10.0.0.1,server.port=6379",
		"leasehold.node=nodetest-1,server.address=nodetest-1",
	}
	for i, s := range sets {
		if got := s.Encoded(attribute.DefaultEncoder()); got != want[i] {
			t.Errorf("%q, want %q", got, want[i])
		}
	}
}
