package leaseotel_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"

	leaseotel "github.com/leasehold-go/leasehold/adapters/otel"
	"github.com/leasehold-go/leasehold/supervisor"
)

// instrumented is what docs/metrics.md shows.
func instrumented(cfg supervisor.Config) error {
	telemetry, err := leaseotel.New(leaseotel.Config{
		TracerProvider: otel.GetTracerProvider(), // leave it out for no spans
	})
	if err != nil {
		return err
	}
	sup, err := supervisor.New(telemetry.Instrument(cfg))
	if err != nil {
		return err
	}
	registration, err := telemetry.Attach(sup)
	return errors.Join(err, registration.Unregister(), sup.Close(context.Background()))
}

// The code in docs/metrics.md is that above, and works.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, is := strings.Cut(string(text), "```go adapters/otel\n")
	block, _, _ = strings.Cut(block, "```\n")
	unindented := strings.ReplaceAll(string(here), "\n\t", "\n")
	if !is || !strings.Contains(unindented, block) {
		t.Errorf("docs/metrics.md has another block for adapters/otel:\n%s", block)
	}
	if err := instrumented(supervisor.Config{Nodes: nodes}); err != nil {
		t.Error(err)
	}
}
