package leasehold_test

import (
	"context"
	"fmt"
	"log"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A function runs on one process at a time. The nodes are in memory here; [node.URLs] gives real ones.
func Example() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3))})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	err = sup.Do(context.Background(), "nightly-report", func(ctx context.Context) error {
		// ctx ends when the lease does. A store that is told the fence refuses a smaller one.
		fmt.Println("report, with a fence:", lease.FromContext(ctx).Fence() > 0)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// report, with a fence: true
}
