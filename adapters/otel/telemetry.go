package leaseotel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config configures a [Telemetry]. A zero field takes its default.
type Config struct {
	// MeterProvider makes the instruments. Default otel.GetMeterProvider().
	MeterProvider metric.MeterProvider

	// TracerProvider makes the spans. Default: there are no spans.
	TracerProvider trace.TracerProvider

	// MaxNames is how many names of leases get an attribute of their own in metrics; all others share the
	// value "other". With names leasehold.lease.count is counted at each collection by a walk over all
	// leases that are held. Default 0: metrics have no such attribute. Spans have it always.
	MaxNames int

	// Attributes are those of the instrumentation scope of all metrics and spans. They tell the
	// supervisors of one process apart, which would otherwise have the same time series. Default none.
	Attributes []attribute.KeyValue
}

// Telemetry has the instruments of one supervisor. Make it with [New]. Its methods may be called from any
// goroutine. For several supervisors in one process make one of each, with [Config.Attributes] of its own.
type Telemetry struct {
	meter  metric.Meter
	wait   metric.Float64Histogram
	hold   metric.Float64Histogram
	lost   metric.Int64Counter
	read   readings
	names  *names // nil without an attribute of that name
	spans  *spans // nil without spans
	prefix atomic.Pointer[string]
	busy   utilization

	sets map[[2]string]metric.MeasurementOption // of the observer's goroutine
}

// scope is the name of the instrumentation.
const scope = "github.com/leasehold-go/leasehold/adapters/otel"

const (
	errorType    = attribute.Key("error.type") // as the semantic conventions have it, like the next two
	address      = attribute.Key("server.address")
	port         = attribute.Key("server.port")
	nodeKey      = attribute.Key("leasehold.node")
	nameKey      = attribute.Key("leasehold.lease.name")
	fenceKey     = attribute.Key("leasehold.lease.fence")
	endKey       = attribute.Key("leasehold.lease.end")
	marginTenths = attribute.Key("leasehold.renewal.margin_tenths")
)

var (
	waitBounds = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	holdBounds = []float64{.01, .1, 1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600}
)

// New makes the instruments. An error is one of the MeterProvider, or a negative MaxNames.
func New(cfg Config) (*Telemetry, error) {
	if cfg.MaxNames < 0 {
		return nil, fmt.Errorf("leaseotel: MaxNames %d: want 0 or more", cfg.MaxNames)
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	t := &Telemetry{meter: cfg.MeterProvider.Meter(scope, metric.WithInstrumentationAttributes(cfg.Attributes...)), sets: make(map[[2]string]metric.MeasurementOption)}
	if cfg.MaxNames > 0 {
		t.names = &names{most: cfg.MaxNames, known: make(map[string]string)}
	}
	if cfg.TracerProvider != nil {
		t.spans = &spans{tracer: cfg.TracerProvider.Tracer(scope, trace.WithInstrumentationAttributes(cfg.Attributes...)), now: time.Now, tenures: make(map[string]trace.Span)}
	}
	var errs [4]error
	t.wait, errs[0] = t.meter.Float64Histogram("leasehold.acquire.wait_time", metric.WithUnit("s"),
		metric.WithDescription("How long calls waited for a lease, the election included."),
		metric.WithExplicitBucketBoundaries(waitBounds...))
	t.hold, errs[1] = t.meter.Float64Histogram("leasehold.lease.hold_time", metric.WithUnit("s"),
		metric.WithDescription("How long leases were held, of those that are over."),
		metric.WithExplicitBucketBoundaries(holdBounds...))
	t.lost, errs[2] = t.meter.Int64Counter("leasehold.lease.lost", metric.WithUnit("{lease}"),
		metric.WithDescription("Leases that ended without their holder asking."))
	errs[3] = t.read.make(t.meter)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("leaseotel: %w", err)
	}
	return t, nil
}

// Instrument returns a configuration whose supervisor tells t what happens, and then the Observer that
// was there before. One Telemetry is for one supervisor.
func (t *Telemetry) Instrument(cfg supervisor.Config) supervisor.Config {
	next := cfg.Observer
	if f, is := next.(supervisor.ObserverFunc); is && f == nil {
		return cfg // which New of package supervisor refuses
	}
	t.prefix.Store(&cfg.Prefix)
	cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
		t.observe(e)
		if next != nil {
			next.Observe(e)
		}
	})
	return cfg
}

// Attach has what a supervisor knows read whenever metrics are collected: all that is not made of events.
// Give it the supervisor that was made with the configuration of Instrument. Unregister what it returns
// when the supervisor is closed and not of interest any more.
func (t *Telemetry) Attach(sup *supervisor.Supervisor) (metric.Registration, error) {
	return t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		t.collect(o, sup)
		return nil
	}, t.read.all()...)
}

// name returns the name that a key is of.
func (t *Telemetry) name(key string) string {
	if p := t.prefix.Load(); p != nil {
		return strings.TrimPrefix(key, *p)
	}
	return key
}

// observe takes an event into metrics and spans.
func (t *Telemetry) observe(e supervisor.Event) {
	ctx := e.Ctx
	if ctx == nil {
		ctx = context.Background()
	}
	name := t.name(e.Name)
	switch e.Kind {
	case supervisor.EventAcquired:
		t.wait.Record(ctx, e.Waited.Seconds(), t.set("", name))
		if t.spans != nil {
			t.spans.acquired(ctx, e, name)
		}
	case supervisor.EventFailed:
		why := wordOf(e.Err, outcomes)
		t.wait.Record(ctx, e.Waited.Seconds(), t.set(why, name))
		if t.spans != nil {
			t.spans.failed(ctx, e, name, why)
		}
	case supervisor.EventReleased, supervisor.EventLost:
		why := ""
		if e.Kind == supervisor.EventLost {
			why = wordOf(e.Err, reasons)
			t.lost.Add(ctx, 1, t.set(why, name))
		}
		t.hold.Record(ctx, e.Elapsed.Seconds(), t.set("", name))
		if t.spans != nil {
			t.spans.ended(e, name, why)
		}
	}
}

// set returns the attributes of a measurement: an error type if there is one, and a name if names are
// attributes.
func (t *Telemetry) set(why, name string) metric.MeasurementOption {
	label := ""
	if t.names != nil {
		label = t.names.label(name)
	}
	key := [2]string{why, label}
	if o, is := t.sets[key]; is {
		return o
	}
	var list []attribute.KeyValue
	if why != "" {
		list = append(list, errorType.String(why))
	}
	if t.names != nil {
		list = append(list, nameKey.String(label))
	}
	o := metric.WithAttributeSet(attribute.NewSet(list...))
	t.sets[key] = o
	return o
}

// other is the name of all beyond Config.MaxNames.
const other = "other"

// names are those that have an attribute of their own.
type names struct {
	most  int
	mu    sync.Mutex
	known map[string]string // their attributes
}

func (n *names) label(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	label, is := n.known[name]
	switch {
	case is:
		return label
	case len(n.known) >= n.most:
		return other
	}
	label = text(name)
	n.known[name] = label
	return label
}

// text returns a name as text: a name is bytes, and an attribute must be text.
func text(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

// A word is what an error is called in an attribute.
type word struct {
	err  error
	word string
}

// reasons are those of a loss. The first that an error wraps is its own.
var reasons = []word{
	{lease.ErrForgotten, "forgotten"}, // which wraps the next
	{lease.ErrExpired, "expired"},
	{lease.ErrRevoked, "revoked"},
	{lease.ErrTaken, "taken"},
	{lease.ErrPaused, "paused"},
	{lease.ErrMaxHold, "max_hold"},
	{lease.ErrClosed, closed},
}

// outcomes are those of a call that did not get its lease.
var outcomes = []word{
	{supervisor.ErrClosed, closed},
	{supervisor.ErrMisconfigured, "misconfigured"},
	{supervisor.ErrFenceExhausted, "fence_exhausted"},
	{supervisor.ErrHeld, held},
	{supervisor.ErrNoQuorum, "no_quorum"},
	{lease.ErrLost, "lost"},
	{context.Canceled, "ended"},
	{context.DeadlineExceeded, "ended"},
}

const (
	held   = "held"
	closed = "closed"
	// unnamed is for what has no word of its own, by the semantic conventions.
	unnamed = "_OTHER"
)

func wordOf(err error, words []word) string {
	for _, w := range words {
		if errors.Is(err, w.err) {
			return w.word
		}
	}
	return unnamed
}
