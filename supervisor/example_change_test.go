package supervisor_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// All three nodes are replaced. Every process is given both lists, as Nodes and Former. When the nodes
// know of no client that uses the former ones alone, the change is finished. Then every process is given
// the present list alone.
func ExampleFinishChange() {
	servers := nodetest.Start(6)
	former, present := nodetest.Conns(servers[:3]), nodetest.Conns(servers[3:])
	ctx := context.Background()
	// The largest TTL of all clients is short here, because to finish takes as long.
	cfg := supervisor.Config{Nodes: present, Former: former, TTL: time.Second, MaxTTLCap: time.Second}
	sup, err := supervisor.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(ctx)
	held, err := sup.Acquire(ctx, "nightly-report")
	if err != nil {
		log.Fatal(err)
	}

	if err := supervisor.FinishChange(ctx, cfg, supervisor.FinishOptions{}); err != nil {
		log.Fatal(err) // run it again
	}
	st, err := supervisor.InspectChange(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.Nodes[0].Stage)
	fmt.Println("held all the time:", held.Valid())
	// Output:
	// opened
	// held all the time: true
}

// A process is given both lists without a restart, and its lease goes on. Here the change is given up:
// the process is given the former list alone again, and the nodes forget it.
func ExampleSupervisor_Reconfigure() {
	servers := nodetest.Start(5)
	former, present := nodetest.Conns(servers[:3]), nodetest.Conns(servers)
	ctx := context.Background()
	cfg := supervisor.Config{Nodes: former, TTL: time.Second, MaxTTLCap: time.Second}
	sup, err := supervisor.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(ctx)
	held, err := sup.Acquire(ctx, "nightly-report")
	if err != nil {
		log.Fatal(err)
	}

	if err := sup.Reconfigure(ctx, present, former); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sup.Nodes()), "nodes")
	if err := sup.Reconfigure(ctx, former, nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(sup.Nodes()), "nodes")

	cfg.Nodes, cfg.Former = present, former
	// Without force it is too early for some seconds: the nodes remember that a client had both.
	if err := supervisor.ForgetChange(ctx, cfg, true); err != nil {
		log.Fatal(err)
	}
	fmt.Println("held all the time:", held.Valid())
	// Output:
	// 5 nodes
	// 3 nodes
	// held all the time: true
}

// One node is added, by one step of one node: every process was given the next list. After the step the
// fences on the new node are larger than those that the others have handed out.
func ExampleRaiseFloor() {
	servers := nodetest.Start(4)
	former, next := nodetest.Conns(servers[:3]), nodetest.Conns(servers)
	ctx := context.Background()
	sup, err := supervisor.New(supervisor.Config{Nodes: former})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(ctx)
	held, err := sup.Acquire(ctx, "nightly-report")
	if err != nil {
		log.Fatal(err)
	}

	floor, err := supervisor.RaiseFloor(ctx, supervisor.Config{Nodes: next, Former: former})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(floor >= held.Fence())
	// Output:
	// true
}
