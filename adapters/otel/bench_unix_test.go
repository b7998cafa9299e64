//go:build unix

package leaseotel

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/leasehold-go/leasehold/adapters/internal/overhead"
	"github.com/leasehold-go/leasehold/supervisor"
)

// The benchmarks show on/off, which is 1 if metrics, or metrics and spans, cost nothing.
func BenchmarkAcquire(b *testing.B)      { overhead.Acquire(b, instrumented) }
func BenchmarkAcquireSpans(b *testing.B) { overhead.Acquire(b, traced) }
func BenchmarkHeld(b *testing.B)         { overhead.Held(b, instrumented) }
func BenchmarkHeldSpans(b *testing.B)    { overhead.Held(b, traced) }

func instrumented(b testing.TB, cfg supervisor.Config) (*supervisor.Supervisor, func()) {
	return with(b, cfg, Config{})
}

// traced has every span recorded, and handed to an exporter in batches, which drops it.
func traced(b testing.TB, cfg supervisor.Config) (*supervisor.Supervisor, func()) {
	tracer := sdktrace.NewTracerProvider(sdktrace.WithBatcher(nowhere{}))
	b.Cleanup(func() { _ = tracer.Shutdown(context.Background()) })
	return with(b, cfg, Config{TracerProvider: tracer})
}

func with(b testing.TB, cfg supervisor.Config, of Config) (sup *supervisor.Supervisor, collect func()) {
	reader := metric.NewManualReader()
	of.MeterProvider = metric.NewMeterProvider(metric.WithReader(reader))
	t, err := New(of)
	if err != nil {
		b.Fatal(err)
	}
	if sup, err = supervisor.New(t.Instrument(cfg)); err != nil {
		b.Fatal(err)
	}
	if _, err := t.Attach(sup); err != nil {
		b.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	return sup, func() {
		if err := reader.Collect(context.Background(), &all); err != nil {
			b.Fatal(err)
		}
	}
}

// nowhere is an exporter.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }
