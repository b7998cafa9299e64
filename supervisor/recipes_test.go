package supervisor_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/leasehold-go/leasehold/supervisor"
)

// Once runs a job once in a period, by the first process: here each of two processes has a timer
// for it. The period is a little less than the timers' interval.
func ExampleSupervisor_Once() {
	var hosts []*supervisor.Supervisor
	for _, owner := range []string{"host-1", "host-2"} {
		sup, err := supervisor.New(supervisor.Config{Nodes: nodes, Owner: owner})
		if err != nil {
			log.Fatal(err)
		}
		defer sup.Close(context.Background())
		hosts = append(hosts, sup)
	}

	ctx := context.Background()
	for _, sup := range hosts {
		ran, err := sup.Once(ctx, "report", 50*time.Minute, func(ctx context.Context) error {
			fmt.Println("writing the report")
			return nil
		})
		fmt.Println(ran, err)
	}
	h, err := hosts[1].Inspect(ctx, "report")
	if err != nil {
		log.Fatal(err)
	}
	if h.Vacated {
		fmt.Printf("left by %s, free in %v\n", h.Owner, h.Left.Round(time.Minute))
	}
	// Output:
	// writing the report
	// true <nil>
	// false <nil>
	// left by host-1, free in 50m0s
}

// With WithMinHold the next one begins so much later at the earliest. Here that is a rate: one
// call of a service each 100 ms, by any process.
func ExampleWithMinHold() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	begun := time.Now()
	for range 3 {
		err := sup.Do(context.Background(), "service", func(context.Context) error {
			return nil // call it
		}, supervisor.WithMinHold(100*time.Millisecond))
		if err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("three calls took longer than 0.2 s:", time.Since(begun) >= 200*time.Millisecond)
	// Output:
	// three calls took longer than 0.2 s: true
}

// A name for each hour has a job run once for it, as each host sees the hour.
func ExampleWithMinHold_slots() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	slot := time.Date(2026, 12, 24, 17, 42, 0, 0, time.UTC).Truncate(time.Hour)
	for range 2 {
		held, err := sup.TryAcquire(context.Background(), "report "+slot.Format(time.RFC3339), supervisor.WithMinHold(2*time.Hour))
		if err != nil {
			fmt.Println("somebody runs it, or has run it")
			continue
		}
		fmt.Println("writing the report of", slot.Format("15:04"))
		if err := held.Release(context.Background()); err != nil {
			log.Print(err)
		}
	}
	// Output:
	// writing the report of 17:00
	// somebody runs it, or has run it
}
