//go:build unix

package leaseprom

import (
	"io"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/leasehold-go/leasehold/adapters/internal/overhead"
	"github.com/leasehold-go/leasehold/supervisor"
)

// The benchmarks show on/off, which is 1 if metrics cost nothing.
func BenchmarkAcquire(b *testing.B) { overhead.Acquire(b, instrumented) }
func BenchmarkHeld(b *testing.B)    { overhead.Held(b, instrumented) }

func instrumented(b testing.TB, cfg supervisor.Config) (sup *supervisor.Supervisor, scrape func()) {
	c := NewCollector(Config{})
	sup, err := supervisor.New(c.Instrument(cfg))
	if err != nil {
		b.Fatal(err)
	}
	c.Attach(sup)
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	return sup, func() {
		families, err := registry.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(io.Discard, f); err != nil {
				b.Fatal(err)
			}
		}
	}
}
