package leaseasynq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	leaseasynq "github.com/leasehold-go/leasehold/adapters/asynq"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A process with a scheduler: all replicas run this, and one of them schedules.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	sup, err := supervisor.New(supervisor.Config{
		Nodes: node.URLs("redis://redis-a:6379", "redis://redis-b:6379", "redis://redis-c:6379"),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.WithoutCancel(ctx))

	client := redis.NewClient(&redis.Options{Addr: "queue:6379"}) // that of asynq
	defer client.Close()
	err = leaseasynq.Run(ctx, sup, "scheduler", func(context.Context) (leaseasynq.Scheduler, error) {
		s := asynq.NewSchedulerFromRedisClient(client, nil)
		_, err := s.Register("*/5 * * * *", asynq.NewTask("report", nil))
		return s, err
	}, supervisor.WithCoolDown(10*time.Second))
	log.Print(err) // SIGTERM, or what is wrong
}

// A scheduler whose tasks are listed elsewhere is a PeriodicTaskManager.
func ExampleRun_periodicTaskManager() {
	var client redis.UniversalClient
	var list asynq.PeriodicTaskConfigProvider
	newScheduler := func(context.Context) (leaseasynq.Scheduler, error) {
		return asynq.NewPeriodicTaskManager(asynq.PeriodicTaskManagerOpts{
			RedisUniversalClient: client, PeriodicTaskConfigProvider: list,
		})
	}
	_, err := newScheduler(context.Background())
	fmt.Println(err) // Run returns it
	// Output:
	// PeriodicTaskConfigProvider cannot be nil
}

// A ticker stands for an *asynq.Scheduler, which needs a Redis server.
type ticker struct {
	host    int
	started chan<- int
}

func (t ticker) Start() error {
	fmt.Println("a scheduler starts")
	t.started <- t.host
	return nil
}

func (t ticker) Shutdown() { fmt.Println("and is shut down") }

// Of three replicas one has a scheduler at a time.
func ExampleRun() {
	nodes := nodetest.Start(3)
	defer func() {
		for _, n := range nodes {
			n.Close()
		}
	}()
	started := make(chan int, 3)
	stop, over := make([]func(), 3), make(chan error)
	for host := range stop {
		sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes)})
		if err != nil {
			log.Fatal(err)
		}
		defer sup.Close(context.Background())
		var ctx context.Context
		ctx, stop[host] = context.WithCancel(context.Background())
		go func() {
			over <- leaseasynq.Run(ctx, sup, "scheduler", func(context.Context) (leaseasynq.Scheduler, error) {
				return ticker{host, started}, nil
			})
		}()
	}
	for range stop {
		host := <-started
		stop[host]()
		if err := <-over; !errors.Is(err, context.Canceled) {
			log.Print(err)
		}
	}
	// Output:
	// a scheduler starts
	// and is shut down
	// a scheduler starts
	// and is shut down
	// a scheduler starts
	// and is shut down
}
