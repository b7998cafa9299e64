package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// WithTTL is for a name that should be free sooner after a crash of its holder than others, or later.
func ExampleWithTTL() {
	sup, err := supervisor.New(supervisor.Config{
		Nodes:  nodes,
		MaxTTL: time.Minute, // the largest that WithTTL may ask for
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	held, err := sup.Acquire(ctx, "backup", supervisor.WithTTL(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("kept for more than 10 s without renewal:", held.Remaining() > 10*time.Second)

	_, err = sup.Acquire(ctx, "import", supervisor.WithTTL(time.Hour))
	fmt.Println(err)
	// Output:
	// kept for more than 10 s without renewal: true
	// acquire: TTL 1h0m0s: want at most MaxTTL = 1m0s: raise Config.MaxTTL
}

// WithoutRenewal is for work that has a fixed time. The lease ends when that is over.
func ExampleWithoutRenewal() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes, TTL: 500 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	held, err := sup.Acquire(context.Background(), "window", supervisor.WithoutRenewal())
	if err != nil {
		log.Fatal(err)
	}
	<-held.Lost()
	fmt.Println(errors.Is(held.Err(), lease.ErrExpired))
	// Output:
	// true
}

// WithMaxHold frees a name whose work is stuck.
func ExampleWithMaxHold() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	err = sup.Do(context.Background(), "import", func(ctx context.Context) error {
		<-ctx.Done() // stuck: nothing else ends it
		return nil
	}, supervisor.WithMaxHold(50*time.Millisecond))
	fmt.Println(errors.Is(err, lease.ErrMaxHold))
	// Output:
	// true
}

// WithAttempts has Acquire make so many attempts, with a pause after each, and then give up.
func ExampleWithAttempts() {
	sup, err := supervisor.New(supervisor.Config{
		Nodes:    nodes,
		RetryMin: 10 * time.Millisecond,
		RetryMax: 30 * time.Millisecond,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())
	other, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close(context.Background())

	ctx := context.Background()
	if _, err := other.Acquire(ctx, "cleanup"); err != nil {
		log.Fatal(err)
	}
	_, err = sup.Acquire(ctx, "cleanup", supervisor.WithAttempts(3))
	fmt.Println(errors.Is(err, supervisor.ErrHeld))
	// Output:
	// true
}
