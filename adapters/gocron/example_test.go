package leasegocron_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	leasegocron "github.com/leasehold-go/leasehold/adapters/gocron"
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
		locker, err := leasegocron.NewLocker(sup, leasegocron.Config{Period: 750 * time.Millisecond})
		if err != nil {
			log.Fatal(err)
		}
		s, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker))
		if err != nil {
			log.Fatal(err)
		}
		defer s.Shutdown()
		_, err = s.NewJob(gocron.CronJob("* * * * * *", true),
			gocron.NewTask(func() { ran <- time.Now().Unix() }), gocron.WithName("each-second"))
		if err != nil {
			log.Fatal(err)
		}
		s.Start()
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

// A locker for the jobs of one scheduler whose ticks are an hour apart. AfterLockError is told of the ticks that
// are skipped.
func ExampleNewLocker() {
	sup := newSupervisor()
	defer sup.Close(context.Background())
	locker, err := leasegocron.NewLocker(sup, leasegocron.Config{
		Period:  45 * time.Minute,
		Wait:    5 * time.Minute, // a tick may be so late if the nodes are down
		Options: []supervisor.Option{supervisor.WithMaxHold(30 * time.Minute)},
	})
	if err != nil {
		log.Fatal(err)
	}
	s, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Shutdown()
	job, err := s.NewJob(gocron.CronJob("0 * * * *", false),
		locker.Task("report", func(ctx context.Context) error { return nil }),
		gocron.WithName("report"),
		gocron.WithEventListeners(gocron.AfterLockError(func(_ uuid.UUID, name string, err error) {
			log.Printf("%s is not run here: %v", name, err) // errors.Is(err, supervisor.ErrHeld): another runs it
		})))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Name())
	// Output:
	// report
}

// gocron calls Lock and Unlock. The name stays taken after Unlock, until the period is over.
func ExampleLocker_Lock() {
	sup := newSupervisor()
	defer sup.Close(context.Background())
	locker, err := leasegocron.NewLocker(sup, leasegocron.Config{Period: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	lock, err := locker.Lock(ctx, "nightly")
	if err != nil {
		log.Fatal(err)
	}
	if err := lock.Unlock(ctx); err != nil {
		log.Print(err)
	}
	_, err = locker.Lock(ctx, "nightly")
	fmt.Println(err)
	// Output:
	// job "nightly": another process runs it, or has run it within the last 1h0m0s: name is held
}

// A function that is given by Task has the lease in its context, which ends with it.
func ExampleLocker_Task() {
	sup := newSupervisor()
	defer sup.Close(context.Background())
	locker, err := leasegocron.NewLocker(sup, leasegocron.Config{Period: 45 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	s, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker))
	if err != nil {
		log.Fatal(err)
	}
	defer s.Shutdown()
	done := make(chan bool)
	transfer := func(ctx context.Context) error {
		// The store refuses a smaller fence than it has seen.
		done <- lease.FromContext(ctx).Fence() > 0
		return ctx.Err()
	}
	_, err = s.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()),
		locker.Task("transfer", transfer), gocron.WithName("transfer"))
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	fmt.Println("with a fence:", <-done)
	// Output:
	// with a fence: true
}

// Of three replicas one leads, and runs all jobs. When it closes its elector another leads.
func ExampleElector() {
	ran := make(chan int)
	electors := make([]*leasegocron.Elector, 3)
	for i := range electors {
		sup := newSupervisor()
		defer sup.Close(context.Background())
		e, err := leasegocron.NewElector(sup, "scheduler")
		if err != nil {
			log.Fatal(err)
		}
		s, err := gocron.NewScheduler(gocron.WithDistributedElector(e))
		if err != nil {
			log.Fatal(err)
		}
		defer s.Shutdown()
		_, err = s.NewJob(gocron.DurationJob(100*time.Millisecond), e.Task(func(ctx context.Context) error {
			select {
			case ran <- i:
			case <-ctx.Done():
			}
			return nil
		}), gocron.WithSingletonMode(gocron.LimitModeReschedule))
		if err != nil {
			log.Fatal(err)
		}
		s.Start()
		electors[i] = e
	}
	first := <-ran
	fmt.Println("the same one goes on:", <-ran == first)
	fmt.Println("it leads:", electors[first].IsLeader(context.Background()) == nil)
	if err := electors[first].Close(context.Background()); err != nil {
		log.Print(err)
	}
	fmt.Println("another goes on:", <-ran != first)
	fmt.Println(electors[first].IsLeader(context.Background()))
	for _, e := range electors {
		if err := e.Close(context.Background()); err != nil {
			log.Print(err)
		}
	}
	// Output:
	// the same one goes on: true
	// it leads: true
	// another goes on: true
	// not the leader of "scheduler"
}
