package shards_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/shards"
)

// One process that is alone owns all names. Others that call Own with the same group and the same
// names get their parts within a second or two.
func ExampleOwn() {
	sup, err := supervisor.New(supervisor.Config{
		Nodes: nodetest.Conns(nodetest.Start(3)), // real ones: node.URLs("redis://10.0.0.1:6379", ...)
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	owned := make(chan string)
	go func() {
		var all []string
		for range 3 {
			all = append(all, <-owned)
		}
		slices.Sort(all)
		fmt.Println("owns", all)
		cancel() // leave
	}()
	err = shards.Own(ctx, sup, "orders", []string{"eu", "us", "asia"}, func(ctx context.Context, name string) error {
		if lease.FromContext(ctx).Fence() > 0 { // which goes with each write
			owned <- name
		}
		<-ctx.Done() // lost, to be given to another process, or the end: context.Cause(ctx) says which
		return nil
	})
	fmt.Println("left:", errors.Is(err, context.Canceled))
	// Output:
	// owns [asia eu us]
	// left: true
}

// An observer logs what moves.
func ExampleWithObserver() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3))})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_ = shards.Own(ctx, sup, "orders", []string{"eu"}, func(ctx context.Context, name string) error {
		cancel()
		<-ctx.Done()
		return nil
	}, shards.WithObserver(func(e shards.Event) { fmt.Println(e.Kind, e.Name, e.Members) }))
	// Output:
	// members  1
	// taken eu 1
	// given eu 1
}

// All leases of this call say who has them. A process that ends within the time of WithSettle has
// moved nothing.
func ExampleWithOwner() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3))})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err = shards.Own(ctx, sup, "orders", []string{"eu"}, func(ctx context.Context, name string) error {
		owner, _, _ := strings.Cut(lease.FromContext(ctx).Owner(), "#") // a random text follows
		fmt.Println(name, "is owned by", owner)
		cancel() // leave
		<-ctx.Done()
		return nil
	}, shards.WithOwner("host-3"), shards.WithTTL(5*time.Second), shards.WithSettle(100*time.Millisecond))
	fmt.Println("left:", errors.Is(err, context.Canceled))
	// Output:
	// eu is owned by host-3
	// left: true
}
