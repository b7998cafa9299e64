package leasecron_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/robfig/cron/v3"

	leasecron "github.com/leasehold-go/leasehold/adapters/cron"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// nodes are those of the examples, which share them. A program has node.URLs instead.
var nodes = nodetest.Start(3)

// newSupervisor makes the supervisor of a process. Its jobs are due each second, so its TTL and its
// pauses are shorter than by default: a tick must not be lost by a pause.
func newSupervisor() *supervisor.Supervisor {
	sup, err := supervisor.New(supervisor.Config{
		Nodes: nodetest.Conns(nodes), TTL: time.Second, RetryMin: 10 * time.Millisecond, RetryMax: 30 * time.Millisecond,
	})
	if err != nil {
		log.Fatal(err)
	}
	return sup
}

// Three replicas have the same job. Each tick is run by one of them.
func Example() {
	ran := make(chan int64, 100) // the seconds in which the job was run, by whatever replica
	for range 3 {
		sup := newSupervisor()
		defer sup.Close(context.Background())
		once, err := leasecron.NewOnce(context.Background(), sup, leasecron.Config{Period: 750 * time.Millisecond})
		if err != nil {
			log.Fatal(err)
		}
		c := cron.New(cron.WithSeconds())
		_, err = c.AddJob("* * * * * *", once.Func("each-second", func(ctx context.Context) error {
			ran <- time.Now().Unix()
			return nil
		}))
		if err != nil {
			log.Fatal(err)
		}
		c.Start()
		defer func() { <-c.Stop().Done() }()
	}
	last := int64(0)
	for n := range 3 {
		tick := <-ran
		fmt.Printf("run %d, of a tick of its own: %t\n", n+1, tick != last)
		last = tick
	}
	// Output:
	// run 1, of a tick of its own: true
	// run 2, of a tick of its own: true
	// run 3, of a tick of its own: true
}

// The settings of jobs that are due each hour.
func ExampleNewOnce() {
	ctx, stop := context.WithCancel(context.Background()) // for example that of signal.NotifyContext
	defer stop()
	sup := newSupervisor()
	defer sup.Close(context.Background())
	_, err := leasecron.NewOnce(ctx, sup, leasecron.Config{
		Period:  45 * time.Minute,
		Wait:    5 * time.Minute, // a tick may be so late if the nodes are down
		Options: []supervisor.Option{supervisor.WithMaxHold(30 * time.Minute)},
		Logger:  cron.VerbosePrintfLogger(log.Default()), // tells of skipped ticks as well
	})
	fmt.Println(err)
	_, err = leasecron.NewOnce(ctx, sup, leasecron.Config{})
	fmt.Println(err)
	// Output:
	// <nil>
	// leasecron: Period 0s: want more than 0
}

// A function has the lease in its context, which ends with it.
func ExampleOnce_Func() {
	sup := newSupervisor()
	defer sup.Close(context.Background())
	once, err := leasecron.NewOnce(context.Background(), sup, leasecron.Config{Period: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	job := once.Func("transfer", func(ctx context.Context) error {
		// The store refuses a smaller fence than it has seen.
		fmt.Println("with a fence:", lease.FromContext(ctx).Fence() > 0)
		return ctx.Err()
	})
	job.Run() // as cron does when it is due
	job.Run() // another process, whose clock is behind
	// Output:
	// with a fence: true
}

// A wrapper is for jobs that are there already, beside others of package cron.
func ExampleOnce_Wrapper() {
	sup := newSupervisor()
	defer sup.Close(context.Background())
	once, err := leasecron.NewOnce(context.Background(), sup, leasecron.Config{Period: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	job := cron.NewChain(
		cron.Recover(cron.DefaultLogger),
		once.Wrapper("cleanup"),
	).Then(cron.FuncJob(func() { fmt.Println("cleaning up") }))
	job.Run()
	job.Run()
	// Output:
	// cleaning up
}

// One of three replicas runs its cron, and the others stand by. When it ends another goes on.
func ExampleLeader() {
	ran := make(chan int)
	stop, over := make([]func(), 3), make(chan error)
	for i := range stop {
		sup := newSupervisor()
		defer sup.Close(context.Background())
		c := cron.New()
		leader := leasecron.NewLeader(sup, "scheduler", c, nil, supervisor.WithCoolDown(time.Second))
		_, err := c.AddJob("@every 1s", leader.Func(func(ctx context.Context) error {
			select {
			case ran <- i:
			case <-ctx.Done():
			}
			return nil
		}))
		if err != nil {
			log.Fatal(err)
		}
		var ctx context.Context
		ctx, stop[i] = context.WithCancel(context.Background())
		go func() { over <- leader.Run(ctx) }()
	}
	first := <-ran
	fmt.Println("the same one goes on:", <-ran == first)
	stop[first]()
	fmt.Println("it has ended:", errors.Is(<-over, context.Canceled))
	second := <-ran
	fmt.Println("another goes on:", second != first)
	for i := range stop {
		if stop[i](); i != first {
			<-over
		}
	}
	// Output:
	// the same one goes on: true
	// it has ended: true
	// another goes on: true
}
