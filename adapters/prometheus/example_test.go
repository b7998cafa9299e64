package leaseprom_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	leaseprom "github.com/leasehold-go/leasehold/adapters/prometheus"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// nodes are in memory, so that the examples run anywhere. A program gives node.URLs(...).
var nodes = nodetest.Conns(nodetest.Start(3))

func Example() {
	metrics := leaseprom.NewCollector(leaseprom.Config{})
	prometheus.MustRegister(metrics)
	defer prometheus.Unregister(metrics)

	sup, err := supervisor.New(metrics.Instrument(supervisor.Config{Nodes: nodes}))
	if err != nil {
		log.Fatal(err)
	}
	metrics.Attach(sup)
	// From here on http.Handle("/metrics", promhttp.Handler()) serves them.

	ctx := context.Background()
	if _, err := sup.Acquire(ctx, "nightly-report"); err != nil {
		log.Fatal(err)
	}
	show("leasehold_held", "leasehold_waiting")
	if err := sup.Close(ctx); err != nil {
		log.Fatal(err)
	}
	show("leasehold_held", "leasehold_lost_total")
	// Output:
	// # HELP leasehold_held Leases that are held now.
	// # TYPE leasehold_held gauge
	// leasehold_held 1
	// # HELP leasehold_waiting Callers that wait for a name now.
	// # TYPE leasehold_waiting gauge
	// leasehold_waiting 0
	// # HELP leasehold_held Leases that are held now.
	// # TYPE leasehold_held gauge
	// leasehold_held 0
	// # HELP leasehold_lost_total Leases that ended without their holder asking, by why.
	// # TYPE leasehold_lost_total counter
	// leasehold_lost_total{reason="closed"} 1
	// leasehold_lost_total{reason="expired"} 0
	// leasehold_lost_total{reason="forgotten"} 0
	// leasehold_lost_total{reason="max_hold"} 0
	// leasehold_lost_total{reason="other"} 0
	// leasehold_lost_total{reason="paused"} 0
	// leasehold_lost_total{reason="revoked"} 0
	// leasehold_lost_total{reason="taken"} 0
}

// A supervisor's leases are counted by name for as many names as there should be series.
func ExampleConfig() {
	metrics := leaseprom.NewCollector(leaseprom.Config{
		MaxNames:    2,
		WaitBuckets: []float64{.01, .1, 1, 10},
	})
	sup, err := supervisor.New(metrics.Instrument(supervisor.Config{Nodes: nodes}))
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())
	metrics.Attach(sup)

	for _, name := range []string{"backup", "import", "customer 1", "customer 2"} {
		held, err := sup.Acquire(context.Background(), name)
		if err != nil {
			log.Fatal(err)
		}
		defer held.Release(context.Background())
	}
	fmt.Println(testutil.CollectAndCount(metrics, "leasehold_held"), "series of leasehold_held")
	// Output:
	// 3 series of leasehold_held
}

// An Observer that was there before hears everything too.
func ExampleCollector_Instrument() {
	won := make(chan string, 1)
	cfg := supervisor.Config{
		Nodes: nodes,
		Observer: supervisor.ObserverFunc(func(e supervisor.Event) {
			if e.Kind == supervisor.EventAcquired {
				won <- e.Name
			}
		}),
	}
	metrics := leaseprom.NewCollector(leaseprom.Config{})
	sup, err := supervisor.New(metrics.Instrument(cfg))
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())
	metrics.Attach(sup)

	if _, err := sup.Acquire(context.Background(), "backup"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-won)
	// Output:
	// backup
}

// show prints metrics of the default registry, as they are served.
func show(names ...string) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		for _, name := range names {
			if f.GetName() == name {
				if _, err := expfmt.MetricFamilyToText(os.Stdout, f); err != nil {
					log.Fatal(err)
				}
			}
		}
	}
}
