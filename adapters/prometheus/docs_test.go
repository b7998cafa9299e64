package leaseprom_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	leaseprom "github.com/leasehold-go/leasehold/adapters/prometheus"
	"github.com/leasehold-go/leasehold/supervisor"
)

// instrumented is what docs/metrics.md shows.
func instrumented(cfg supervisor.Config) error {
	metrics := leaseprom.NewCollector(leaseprom.Config{})
	prometheus.MustRegister(metrics)
	sup, err := supervisor.New(metrics.Instrument(cfg)) // an Observer of cfg goes on to hear everything
	if err != nil {
		return err
	}
	metrics.Attach(sup)
	prometheus.Unregister(metrics)
	return sup.Close(context.Background())
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
	_, block, is := strings.Cut(string(text), "```go adapters/prometheus\n")
	block, _, _ = strings.Cut(block, "```\n")
	unindented := strings.ReplaceAll(string(here), "\n\t", "\n")
	if !is || !strings.Contains(unindented, block) {
		t.Errorf("docs/metrics.md has another block for adapters/prometheus:\n%s", block)
	}
	if err := instrumented(supervisor.Config{Nodes: nodes}); err != nil {
		t.Error(err)
	}
}
