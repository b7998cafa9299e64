package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// The nodes of these examples are in memory. Real ones are given by their URLs:
//
//	Nodes: node.URLs("redis://10.0.0.1:6379", "redis://10.0.0.2:6379", "redis://10.0.0.3:6379"),
var nodes = nodetest.Conns(nodetest.Start(3))

func Example() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	held, err := sup.Acquire(ctx, "nightly-report") // waits until held, or until ctx is done
	if err != nil {
		log.Fatal(err)
	}
	defer held.Release(context.Background())

	for job := range 3 {
		select {
		case <-held.Lost(): // a quorum is gone: stop now, somebody else may start
			fmt.Println("stop:", held.Err())
			return
		default:
			write(job, held.Fence()) // the store refuses a smaller fence than it has seen
		}
	}
	fmt.Println("done while holding", held.Name())
	// Output:
	// wrote job 0
	// wrote job 1
	// wrote job 2
	// done while holding nightly-report
}

// write writes to a resource that checks fences.
func write(job int, fence uint64) {
	if fence > 0 {
		fmt.Println("wrote job", job)
	}
}

// Do holds a name while a function runs.
func ExampleSupervisor_Do() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	err = sup.Do(context.Background(), "migrate", func(ctx context.Context) error {
		// ctx ends when the lease does.
		fmt.Println("holding", lease.FromContext(ctx).Name())
		return nil
	})
	fmt.Println(err)
	// Output:
	// holding migrate
	// <nil>
}

// Lead runs a function on one process of many, and runs it again after a loss.
func ExampleSupervisor_Lead() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx, shutdown := context.WithCancel(context.Background())
	err = sup.Lead(ctx, "scheduler", func(ctx context.Context) error {
		fmt.Println("leading")
		shutdown()
		<-ctx.Done() // work until then
		fmt.Println("stepping down:", context.Cause(ctx))
		return nil
	})
	fmt.Println(err)
	// Output:
	// leading
	// stepping down: context canceled
	// <nil>
}

// Three names are a semaphore of three: a fourth caller, of whichever process, waits until one
// of them is free.
func ExampleSupervisor_AcquireAny() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	licences := []string{"licence-1", "licence-2", "licence-3"}
	var held []*lease.Lease
	for range licences {
		l, err := sup.AcquireAny(ctx, licences)
		if err != nil {
			log.Fatal(err)
		}
		held = append(held, l)
	}
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = sup.AcquireAny(soon, licences)
	fmt.Println("all are in use:", errors.Is(err, supervisor.ErrHeld))

	free := held[1].Name()
	held[1].Release(ctx)
	l, err := sup.AcquireAny(ctx, licences)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the one that was given back:", l.Name() == free)
	// Output:
	// all are in use: true
	// the one that was given back: true
}

// TryAcquire does not wait. Its error tells a name that is held from nodes that
// cannot be reached.
func ExampleSupervisor_TryAcquire() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	held, err := sup.TryAcquire(ctx, "cleanup")
	if err != nil {
		log.Fatal(err)
	}
	_, err = sup.TryAcquire(ctx, "cleanup")
	switch {
	case errors.Is(err, supervisor.ErrHeld):
		fmt.Println("somebody else is at it")
	case errors.Is(err, supervisor.ErrNoQuorum):
		log.Fatal(err) // it names each node, and what is wrong with it
	}
	fmt.Println(held.Release(ctx), held.Err())
	// Output:
	// somebody else is at it
	// <nil> lease: released
}

// AcquireAll is for work that needs several names at once: all or nothing, and
// without deadlocks.
func ExampleSupervisor_AcquireAll() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	leases, err := sup.AcquireAll(ctx, []string{"account-7", "account-3"})
	if err != nil {
		log.Fatal(err)
	}
	for _, held := range leases {
		fmt.Println("holding", held.Name())
		defer held.Release(ctx)
	}
	// Output:
	// holding account-7
	// holding account-3
}

// Healthy and Leading are what a probe asks.
func ExampleSupervisor_Healthy() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ready := func() {
		switch err := sup.Healthy(); {
		case err != nil:
			fmt.Println("503:", err)
		case sup.Leading("primary"):
			fmt.Println("200: leader")
		default:
			fmt.Println("200: standby")
		}
	}
	err = sup.Do(context.Background(), "primary", func(context.Context) error {
		ready()
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	ready()
	// Output:
	// 200: leader
	// 200: standby
}

// Watch tells who leads, as it changes.
func ExampleSupervisor_Watch() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for h, err := range sup.Watch(ctx, "primary") {
		if err != nil {
			log.Fatal(err) // the watch has ended
		}
		switch {
		case h.Err != nil:
			fmt.Println("not known:", h.Err) // an outage: the watch goes on
		case h.Held:
			fmt.Println("requests go to", h.Owner)
			cancel() // ends the watch
		case h.Free:
			fmt.Println("nobody")
			go sup.Lead(ctx, "primary", func(ctx context.Context) error {
				<-ctx.Done() // serve until then
				return nil
			}, supervisor.WithOwner("http://10.0.0.7:8080"))
		}
	}
	// Output:
	// nobody
	// requests go to http://10.0.0.7:8080
}
