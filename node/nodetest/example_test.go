package nodetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A quorum of three nodes fails under a lease.
func Example() {
	nodes := nodetest.Start(3)
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: 500 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	held, err := sup.Acquire(context.Background(), "nightly-report")
	if err != nil {
		log.Fatal(err)
	}
	nodes[0].Crash()
	nodes[1].Crash()
	<-held.Lost()
	fmt.Println(errors.Is(held.Err(), lease.ErrExpired))

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = sup.Close(ctx) // two nodes are down
	for _, n := range nodes {
		n.Close()
	}
	// Output:
	// true
}

// The client that talks to real servers talks to a node, too.
func ExampleNode_Option() {
	n := nodetest.New()
	defer n.Close()
	n.RequirePass("secret")

	option := n.Option("")
	option.Password = "secret"
	client, err := rueidis.NewClient(option)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx := context.Background()
	set := client.B().Set().Key("nightly-report").Value("me").Nx().PxMilliseconds(5000).Build()
	fmt.Println(client.Do(ctx, set).Error())
	value, left, ok := n.Get("nightly-report")
	fmt.Println(value, left > 4*time.Second, ok)
	// Output:
	// <nil>
	// me true true
}

// Crash, Restart and Recover are the ends and the beginnings of a server: without its data, and with
// them.
func ExampleNode_Crash() {
	n := nodetest.New()
	defer n.Close()

	n.Set("account-7", "me", 0)
	n.Crash()
	fmt.Println("alive:", n.Alive())
	_, err := n.Dial(context.Background(), "")
	fmt.Println("refused:", err != nil)
	n.Recover()
	fmt.Println("alive:", n.Alive(), "keys kept:", len(n.Keys()) > 0)
	n.Restart()
	fmt.Println("alive:", n.Alive(), "keys kept:", len(n.Keys()) > 0)
	// Output:
	// alive: false
	// refused: true
	// alive: true keys kept: true
	// alive: true keys kept: false
}

// A node that hangs, or is slow, delays nobody as long as a quorum of others answers.
func ExampleNode_Hang() {
	nodes := nodetest.Start(3)
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes)})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	try := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		held, err := sup.Acquire(ctx, "nightly-report")
		if err != nil {
			return err
		}
		return held.Release(ctx)
	}
	fmt.Println("all answer:", try(time.Minute))
	nodes[0].Hang()
	nodes[1].Delay(time.Millisecond)
	fmt.Println("one hangs:", try(time.Minute))
	nodes[1].Hang()
	fmt.Println("two hang, no quorum:", errors.Is(try(100*time.Millisecond), supervisor.ErrNoQuorum))
	nodes[0].Resume()
	nodes[1].Resume()
	fmt.Println("all go on:", try(time.Minute))
	// Output:
	// all answer: <nil>
	// one hangs: <nil>
	// two hang, no quorum: true
	// all go on: <nil>
}

// Cut parts one client from a node, and no other client.
func ExampleNode_Cut() {
	n := nodetest.New()
	defer n.Close()
	reaches := func(client string, within time.Duration) bool {
		sup, err := supervisor.New(supervisor.Config{Nodes: []node.Conn{n.ConnOf(client)}})
		if err != nil {
			log.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		defer sup.Close(ctx)
		held, err := sup.Acquire(ctx, "nightly-report")
		return err == nil && held.Release(ctx) == nil
	}
	n.Cut("host-1")
	fmt.Println("host-1:", reaches("host-1", 100*time.Millisecond))
	fmt.Println("host-2:", reaches("host-2", time.Minute))
	n.Mend("host-1")
	fmt.Println("host-1:", reaches("host-1", time.Minute))
	// Output:
	// host-1: false
	// host-2: true
	// host-1: true
}

// Fail has commands answer an error, as a server whose memory is full does.
func ExampleNode_Fail() {
	n := nodetest.New()
	defer n.Close()
	client, err := rueidis.NewClient(n.Option(""))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	get := func() error {
		return client.Do(context.Background(), client.B().Get().Key("x").Build()).Error()
	}

	n.Fail("GET", "OOM command not allowed when used memory > 'maxmemory'.")
	fmt.Println(get())
	n.Fail("GET", "") // no more
	n.Reply("GET", "$3\r\nyes\r\n")
	fmt.Println(get())
	n.Reply("GET", "")
	fmt.Println(rueidis.IsRedisNil(get()))
	fmt.Println(n.Commands()["GET"], "executed")
	// Output:
	// OOM command not allowed when used memory > 'maxmemory'.
	// <nil>
	// true
	// 1 executed
}

// A test may look at the keys of a node and change them. A lease is one key, and to delete it on a
// quorum is to revoke the lease.
func ExampleNode_Del() {
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
	deleted := 0
	for _, n := range nodes {
		if n.Del("nightly-report") {
			deleted++
		}
	}
	fmt.Println("deleted on a quorum:", deleted >= 2)
	<-held.Lost()
	fmt.Println(errors.Is(held.Err(), lease.ErrRevoked))
	// Output:
	// deleted on a quorum: true
	// true
}

// Keys expire by the node's clock, which Jump sets.
func ExampleNode_Jump() {
	n := nodetest.New()
	defer n.Close()

	n.Set("short", "1", time.Minute)
	n.Set("long", "2", time.Hour)
	n.Jump(2 * time.Minute)
	for _, key := range n.Keys() {
		if !strings.HasPrefix(key, node.ReservedPrefix) { // leasehold's own
			fmt.Println(key)
		}
	}
	n.Flush()
	fmt.Println(len(n.Keys()), "keys after FLUSHALL")
	// Output:
	// long
	// 0 keys after FLUSHALL
}

// Dial is for a test that speaks the protocol itself.
func ExampleNode_Dial() {
	n := nodetest.New()
	defer n.Close()

	conn, err := n.Dial(context.Background(), "")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "*1\r\n$4\r\nPING\r\n"); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, 7)
	_, err = io.ReadFull(conn, answer)
	fmt.Printf("%q %v\n", answer, err)
	// Output:
	// "+PONG\r\n" <nil>
}
