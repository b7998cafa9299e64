package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// New reports every rule that the configuration breaks, each with the value and the bound. It does
// not wait for the nodes: that they are down is no error.
func ExampleNew() {
	_, err := supervisor.New(supervisor.Config{
		Nodes:       node.URLs("redis://10.0.0.1:6379", "redis://10.0.0.2:6379", "redis://10.0.0.1:6379"),
		NodeTimeout: 5 * time.Second,
	})
	fmt.Println(err)
	// Output:
	// supervisor: broken configuration:
	// Nodes[2] is the same node as Nodes[0]: 10.0.0.1:6379: want each node once, or its vote would count twice
	// NodeTimeout 5s: want at most TTL/4 = 2.5s
}

// The context of Acquire bounds the waiting, and not the lease. The error says what stood in the way.
func ExampleSupervisor_Acquire() {
	other, err := supervisor.New(supervisor.Config{Nodes: nodes, Owner: "host-2:34"})
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close(context.Background())
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	theirs, err := other.Acquire(ctx, "cleanup")
	if err != nil {
		log.Fatal(err)
	}

	soon, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	_, err = sup.Acquire(soon, "cleanup")
	var why *supervisor.AcquireError
	switch {
	case errors.Is(err, supervisor.ErrHeld) && errors.As(err, &why):
		for _, a := range why.Nodes {
			if a.Verdict == supervisor.VerdictHeld {
				fmt.Println("held by", a.Owner)
				break
			}
		}
	case errors.Is(err, supervisor.ErrNoQuorum):
		log.Fatal(err) // it names each node, and what is wrong with it
	}

	if err := theirs.Release(ctx); err != nil {
		log.Print(err)
	}
	held, err := sup.Acquire(ctx, "cleanup") // waits until held
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("holding", held.Name(), held.Valid())
	// Output:
	// held by host-2:34
	// holding cleanup true
}

// A node that was restarted may have forgotten a lease, so it is asked for no new one for a window.
// TryAcquire does not wait for that, and its error tells how long it takes.
func ExampleAcquireError_Young() {
	servers := nodetest.Start(3)
	for _, n := range servers {
		n.Restart() // all data are lost
	}
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(servers)})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	_, err = sup.TryAcquire(context.Background(), "cleanup")
	var why *supervisor.AcquireError
	if errors.As(err, &why) && why.Young() > 0 {
		fmt.Println("try again in", why.Young().Round(time.Minute))
	}
	// Output:
	// try again in 1m0s
}

// StepDown ends a leadership, as an operator may ask for. With WithCoolDown the process then waits
// for a while, so that another one may lead, and is a candidate again.
func ExampleSupervisor_StepDown() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	terms := 0
	err = sup.Lead(context.Background(), "scheduler", func(ctx context.Context) error {
		fmt.Println("leading")
		if terms++; terms == 2 {
			return nil // ends Lead
		}
		if err := sup.StepDown(context.Background(), "scheduler"); err != nil { // from anywhere
			log.Print(err)
		}
		<-ctx.Done() // work until then
		fmt.Println("stopped:", context.Cause(ctx))
		return nil
	}, supervisor.WithCoolDown(20*time.Millisecond))
	fmt.Println(err)
	// Output:
	// leading
	// stopped: lease: released
	// leading
	// <nil>
}

// Adopt goes on with a lease that another process has handed over: the name is never free in
// between, and the fence is larger.
func ExampleSupervisor_Adopt() {
	before, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer before.Close(context.Background())
	after, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer after.Close(context.Background())

	ctx := context.Background()
	held, err := before.Acquire(ctx, "session-7")
	if err != nil {
		log.Fatal(err)
	}
	handle, err := held.HandOver(ctx) // the work under it has stopped before
	if err != nil {
		log.Fatal(err)
	}
	sent := string(handle) // to the other process, by a way that nobody else can read

	heir, err := after.Adopt(ctx, lease.Handle(sent))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("before:", held.Err())
	fmt.Println("after:", heir.Err(), heir.Fence() > held.Fence())
	// Output:
	// before: lease: handed over
	// after: <nil> true
}

// FormerEnded lets a process that was restarted go on with its lease at once. Without it Adopt waits
// until what the nodes had promised to the former process has run out.
func ExampleFormerEnded() {
	servers := nodetest.Start(3)
	var conns []node.Conn
	for _, n := range servers {
		conns = append(conns, n.ConnOf("before"))
	}
	before, err := supervisor.New(supervisor.Config{Nodes: conns})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	held, err := before.Acquire(ctx, "session-7")
	if err != nil {
		log.Fatal(err)
	}
	stored := string(held.Handle()) // in a file that nobody else can read

	// The process is killed: nothing that it still does reaches the nodes.
	for _, n := range servers {
		n.Cut("before")
	}
	killed, kill := context.WithCancel(ctx)
	kill()
	_ = before.Close(killed)

	after, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(servers)})
	if err != nil {
		log.Fatal(err)
	}
	defer after.Close(ctx)
	heir, err := after.Adopt(ctx, lease.Handle(stored), supervisor.FormerEnded())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("going on with", heir.Name(), heir.Err())
	// Output:
	// going on with session-7 <nil>
}

// Inspect shows who holds a name. It is for display, and never to decide by whether to work.
func ExampleSupervisor_Inspect() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	show := func() {
		h, err := sup.Inspect(ctx, "nightly-report")
		switch {
		case err != nil:
			log.Fatal(err) // too few nodes have answered
		case h.Free:
			fmt.Println("free")
		case h.Held:
			fmt.Println("held by", h.Owner, "with", h.Waiting, "waiting")
		default:
			fmt.Println("no quorum of nodes says the same, as during an election")
		}
	}
	err = sup.Do(ctx, "nightly-report", func(context.Context) error {
		show()
		return nil
	}, supervisor.WithOwner("http://10.0.0.7:8080"))
	if err != nil {
		log.Fatal(err)
	}
	show()
	// Output:
	// held by http://10.0.0.7:8080 with 0 waiting
	// free
}

// Revoke takes a lease away whose holder does not release it. The token that Inspect returns tells
// this lease from a later one.
func ExampleSupervisor_Revoke() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())
	operator, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer operator.Close(context.Background())

	ctx := context.Background()
	held, err := sup.Acquire(ctx, "stuck")
	if err != nil {
		log.Fatal(err)
	}
	h, err := operator.Inspect(ctx, "stuck")
	if err != nil {
		log.Fatal(err)
	}
	if err := operator.Revoke(ctx, "stuck", h.Token); err != nil {
		log.Fatal(err) // supervisor.ErrNotHolder, if another lease holds the name by now
	}
	<-held.Lost() // its holder is told
	fmt.Println(errors.Is(held.Err(), lease.ErrRevoked))
	// Output:
	// true
}

// Leases, Nodes and Stats are for a page of status, and for metrics.
func ExampleSupervisor_Stats() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	if _, err := sup.AcquireAll(context.Background(), []string{"account-3", "account-7"}); err != nil {
		log.Fatal(err)
	}
	for _, held := range sup.Leases() {
		fmt.Println("holding", held.Name())
	}
	enrolled := 0
	for _, n := range sup.Nodes() {
		if n.Enrolled {
			enrolled++ // else n.Err says why not
		}
	}
	fmt.Println("a quorum is enrolled:", enrolled >= 2)
	s := sup.Stats()
	fmt.Println(s.Acquired, "acquired,", s.Lost, "lost,", s.Held, "held")
	// Output:
	// holding account-3
	// holding account-7
	// a quorum is enrolled: true
	// 2 acquired, 0 lost, 2 held
}

// Close ends every lease and gives back every name, on all nodes at once. Its context bounds that.
func ExampleSupervisor_Close() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodes})
	if err != nil {
		log.Fatal(err)
	}
	held, err := sup.Acquire(context.Background(), "nightly-report")
	if err != nil {
		log.Fatal(err)
	}

	// The work has stopped. This process is given 5 s to end.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := sup.Close(ctx); err != nil {
		log.Print(err) // which names may stay taken, on which nodes, and for how long
	}
	fmt.Println(errors.Is(held.Err(), lease.ErrClosed))
	_, err = sup.Acquire(ctx, "nightly-report")
	fmt.Println(errors.Is(err, supervisor.ErrClosed))
	// Output:
	// true
	// true
}

// An ObserverFunc is told what happens, for logs and metrics. The error of a loss becomes a label
// here, of which there are few. The whole error, with what was wrong at each node, is for the log.
func ExampleObserverFunc() {
	label := func(err error) string {
		for _, reason := range []struct {
			err   error
			label string
		}{
			{lease.ErrForgotten, "forgotten"}, // before ErrExpired, which it wraps
			{lease.ErrExpired, "expired"},
			{lease.ErrRevoked, "revoked"},
			{lease.ErrTaken, "taken"},
			{lease.ErrPaused, "paused"},
			{lease.ErrMaxHold, "max-hold"},
			{lease.ErrClosed, "closed"},
		} {
			if errors.Is(err, reason.err) {
				return reason.label
			}
		}
		return "other"
	}
	losses := make(map[string]int) // in your program a counter with the label "reason"
	sup, err := supervisor.New(supervisor.Config{
		Nodes: nodes,
		Observer: supervisor.ObserverFunc(func(e supervisor.Event) {
			switch e.Kind {
			case supervisor.EventAcquired, supervisor.EventReleased:
				fmt.Println(e.Kind, e.Name)
			case supervisor.EventLost:
				losses[label(e.Err)]++
				fmt.Println(e.Kind, e.Name, "because:", e.Err)
			}
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	err = sup.Do(ctx, "nightly-report", func(context.Context) error { return nil })
	if err != nil {
		log.Fatal(err)
	}
	// This lease is lost when its maximum is over.
	held, err := sup.Acquire(ctx, "backup", supervisor.WithMaxHold(10*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	<-held.Lost()
	if err := sup.Close(context.Background()); err != nil { // the observer was told of all by then
		log.Fatal(err)
	}
	fmt.Println(losses)
	// Output:
	// acquired nightly-report
	// released nightly-report
	// acquired backup
	// lost backup because: lease: lost: held for its maximum
	// map[max-hold:1]
}
