package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A holder asks the lease before each write, and passes its fence along.
func Example() {
	sup, err := supervisor.New(supervisor.Config{
		Nodes: nodetest.Conns(nodetest.Start(3)), // real ones: node.URLs("redis://10.0.0.1:6379", ...)
		Owner: "host-3:17",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	held, err := sup.Acquire(context.Background(), "account-7")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(held.Owner(), "holds", held.Name())
	fmt.Println("with a fence:", held.Fence() > 0)
	fmt.Println("for at most 10 s, if it is not renewed:", held.Remaining() <= 10*time.Second)
	if held.Valid() { // cheap: it reads the clock, and asks no node
		fmt.Println("write") // together with held.Fence(), so that the store can refuse it
	}
	fmt.Println(held.Release(context.Background()), held.Valid(), held.Err())
	// Output:
	// host-3:17 holds account-7
	// with a fence: true
	// for at most 10 s, if it is not renewed: true
	// write
	// <nil> false lease: released
}

// A test of code that holds a lease needs no nodes: New makes a lease, and its Control ends it.
func ExampleNew() {
	held, control := lease.New(lease.Spec{Name: "nightly-report", Fence: 34, Until: clock.Never})
	write := func(held *lease.Lease, pages int) error { // what is tested
		for page := range pages {
			if err := held.Err(); err != nil {
				return fmt.Errorf("after %d of %d pages: %w", page, pages, err)
			}
			fmt.Println("page", page)
			if page == 1 {
				control.End(lease.ErrRevoked) // as if somebody had taken the lease away
			}
		}
		return nil
	}
	err := write(held, 5)
	fmt.Println(errors.Is(err, lease.ErrLost), err)
	// Output:
	// page 0
	// page 1
	// true after 2 of 5 pages: lease: lost: revoked: its key is gone from too many nodes
}

// A Control renews its lease, as a supervisor does. What is over stays over.
func ExampleControl_Renewed() {
	now := clocktest.NewManual(0)
	const grace = time.Second // for which the nodes keep the lease after it was lost here
	_, control := lease.New(lease.Spec{
		Name: "nightly-report", Clock: now,
		Until: now.Now().Add(9 * time.Second), Grace: grace,
	})
	held := control.Lease()

	now.Advance(6 * time.Second)
	fmt.Println(held.Remaining(), held.Valid())
	fmt.Println(control.Renewed(now.Now().Add(9*time.Second), grace), held.Remaining())

	now.Advance(9 * time.Second) // without a renewal
	fmt.Println(held.Remaining(), held.Valid(), held.Err())
	fmt.Println(control.Renewed(now.Now().Add(9*time.Second), grace), held.Valid())
	// Output:
	// 4s true
	// true 10s
	// 0s false lease: lost: not renewed in time
	// false false
}

// Lost is closed when the lease ends without its holder asking, and Done when it ends for whatever
// reason.
func ExampleLease_Lost() {
	held, control := lease.New(lease.Spec{Name: "nightly-report", Until: clock.Never})
	go control.End(lease.ErrTaken)
	select {
	case <-held.Lost(): // stop now: somebody else may start
		fmt.Println(held.Err())
	case <-time.After(time.Minute): // the work
		fmt.Println("done")
	}
	<-held.Done() // for those who only want to know when it is over

	held, _ = lease.New(lease.Spec{Name: "nightly-report", Until: clock.Never})
	_ = held.Release(context.Background())
	<-held.Done()
	select {
	case <-held.Lost():
		fmt.Println("lost")
	default:
		fmt.Println("not lost:", held.Err())
	}
	// Output:
	// lease: lost: taken: too many nodes keep another value, or none
	// not lost: lease: released
}

// A context of the lease stops whatever takes a context. Its cause says why.
func ExampleLease_Context() {
	held, control := lease.New(lease.Spec{Name: "nightly-report", Fence: 34, Until: clock.Never})
	work := func(ctx context.Context) error {
		fmt.Println("working under fence", lease.FromContext(ctx).Fence())
		go control.End(lease.ErrRevoked)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	err := work(held.Context(context.Background()))
	fmt.Println(errors.Is(err, lease.ErrRevoked))
	// Output:
	// working under fence 34
	// true
}

// A lease that does not renew itself is extended by hand, before each piece of work. An error is a
// loss only if it wraps ErrLost.
func ExampleLease_Extend() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3)), MaxTTL: 30 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	ctx := context.Background()
	held, err := sup.Acquire(ctx, "batch", supervisor.WithoutRenewal())
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		switch err := held.Extend(ctx, 30*time.Second); {
		case errors.Is(err, lease.ErrLost):
			log.Fatal(err) // stop
		case err != nil:
			log.Print(err) // still held: held.Remaining() says for how long
		}
		fmt.Println("a piece of work, with more than 10 s for it:", held.Remaining() > 10*time.Second)
	}
	err = held.Extend(ctx, time.Hour)
	fmt.Println(err)
	fmt.Println("still held:", held.Valid())
	// Output:
	// a piece of work, with more than 10 s for it: true
	// a piece of work, with more than 10 s for it: true
	// a piece of work, with more than 10 s for it: true
	// extend: TTL 1h0m0s: want at most MaxTTL = 30s: raise Config.MaxTTL
	// still held: true
}

// An error of Release says for how long the name may stay taken. It asks nothing of the caller: the
// nodes are told as soon as they answer again.
func ExampleLease_Release() {
	nodes := nodetest.Start(3)
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes)})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	held, err := sup.Acquire(context.Background(), "nightly-report")
	if err != nil {
		log.Fatal(err)
	}
	nodes[0].Hang()
	nodes[1].Hang()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err = held.Release(ctx)
	var late *supervisor.ReleaseError
	if errors.As(err, &late) {
		fmt.Println(late.Name, "may stay taken for at most 10 s:", late.Left <= 10*time.Second)
	}
	fmt.Println(held.Err())
	nodes[0].Resume()
	nodes[1].Resume()
	fmt.Println(held.Release(context.Background())) // again: does nothing
	// Output:
	// nightly-report may stay taken for at most 10 s: true
	// lease: released
	// <nil>
}

// HandOver gives the lease to another process, which goes on with it by Adopt of its supervisor.
func ExampleLease_HandOver() {
	nodes := nodetest.Conns(nodetest.Start(3))
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
	// The work under it has stopped.
	handle, err := held.HandOver(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(held.Err())

	heir, err := after.Adopt(ctx, handle)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(heir.Name(), heir.Err())
	// Output:
	// lease: handed over
	// session-7 <nil>
}

// A handle and a token are secrets: a program that has one can end the lease. So they show themselves only
// if they are converted to a string.
func ExampleLease_Handle() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3))})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	held, err := sup.Acquire(context.Background(), "session-7")
	if err != nil {
		log.Fatal(err)
	}
	handle := held.Handle()
	stored := string(handle) // what Adopt of a later process is given as lease.Handle(stored)
	fmt.Println(handle, stored != handle.String())
	fmt.Println(held.Token())
	// Output:
	// lease.Handle(redacted) true
	// lease.Token(redacted)
}

// What was wrong with a lease that was lost, node by node.
func ExampleLostError() {
	held, control := lease.New(lease.Spec{Name: "nightly-report", Until: clock.Never})
	control.End(&lease.LostError{Kind: lease.ErrExpired, Nodes: []lease.NodeReason{ // as a supervisor does
		{Node: "10.0.0.1:6379", Err: errors.New("connection refused")},
		{Node: "10.0.0.2:6379", Err: errors.New("no answer within 500ms")},
	}})

	var lost *lease.LostError
	if errors.As(held.Err(), &lost) {
		fmt.Println(lost.Kind)
		for _, n := range lost.Nodes {
			fmt.Println(n.Node, "says:", n.Err)
		}
	}
	// Output:
	// lease: lost: not renewed in time
	// 10.0.0.1:6379 says: connection refused
	// 10.0.0.2:6379 says: no answer within 500ms
}
