package leaseotel_test

import (
	"context"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	leaseotel "github.com/leasehold-go/leasehold/adapters/otel"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// nodes are in memory, so that the examples run anywhere. A program gives node.URLs(...).
var nodes = nodetest.Conns(nodetest.Start(3))

func Example() {
	reader := metric.NewManualReader() // a program has a metric.NewPeriodicReader with an exporter
	telemetry, err := leaseotel.New(leaseotel.Config{
		MeterProvider: metric.NewMeterProvider(metric.WithReader(reader)), // default otel.GetMeterProvider()
	})
	if err != nil {
		log.Fatal(err)
	}
	sup, err := supervisor.New(telemetry.Instrument(supervisor.Config{Nodes: nodes}))
	if err != nil {
		log.Fatal(err)
	}
	registration, err := telemetry.Attach(sup)
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()

	ctx := context.Background()
	if _, err := sup.Acquire(ctx, "nightly-report"); err != nil {
		log.Fatal(err)
	}
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &collected); err != nil {
		log.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if sum, is := m.Data.(metricdata.Sum[int64]); is && m.Name == "leasehold.lease.count" {
			fmt.Println(m.Name, sum.DataPoints[0].Value, m.Unit)
		}
	}
	if err := sup.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// leasehold.lease.count 1 {lease}
}

// With a TracerProvider each lease has two spans: that of its acquisition, in the caller's trace, and
// that of its tenure.
func ExampleConfig() {
	recorder := tracetest.NewSpanRecorder() // a program has a batch processor with an exporter
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	telemetry, err := leaseotel.New(leaseotel.Config{TracerProvider: tracer})
	if err != nil {
		log.Fatal(err)
	}
	sup, err := supervisor.New(telemetry.Instrument(supervisor.Config{Nodes: nodes}))
	if err != nil {
		log.Fatal(err)
	}

	ctx, request := tracer.Tracer("example").Start(context.Background(), "import of orders")
	held, err := sup.Acquire(ctx, "orders")
	if err != nil {
		log.Fatal(err)
	}
	if err := held.Release(ctx); err != nil {
		log.Fatal(err)
	}
	if err := sup.Close(ctx); err != nil { // the last events are told by then
		log.Fatal(err)
	}
	for _, s := range recorder.Ended() {
		fmt.Println(s.Name(), "is of the same trace:", s.SpanContext().TraceID() == request.SpanContext().TraceID())
	}
	// Output:
	// leasehold acquire is of the same trace: true
	// leasehold tenure is of the same trace: false
}
