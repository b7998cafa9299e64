package node_test

import (
	"context"
	"fmt"
	"log"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A Conn prints itself without the user and the password of its URL.
func ExampleURL() {
	for _, url := range []string{
		"10.0.0.1:6379",
		"rediss://me:secret@redis.example.com:6380/2",
		"unix:///run/redis/redis.sock",
		"redis://10.0.0.1:26379?addr=10.0.0.2:26379&master_set=main", // two Sentinels
	} {
		fmt.Println(node.URL(url))
	}
	// Output:
	// 10.0.0.1:6379
	// redis.example.com:6380/2
	// /run/redis/redis.sock
	// main@10.0.0.1:26379,10.0.0.2:26379
}

// URLs makes what goes into supervisor.Config.Nodes.
func ExampleURLs() {
	cfg := supervisor.Config{
		Nodes: node.URLs("redis://10.0.0.1:6379", "redis://10.0.0.2:6379", "redis://10.0.0.3:6379"),
	}
	fmt.Println(cfg.Nodes)
	// Output:
	// [10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379]
}

// FromOption is for what a URL cannot say, as a password that changes.
func ExampleFromOption() {
	conn := node.FromOption(rueidis.ClientOption{
		InitAddress: []string{"10.0.0.1:6379"},
		AuthCredentialsFn: func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			return rueidis.AuthCredentials{Username: "me", Password: "read anew for each connection"}, nil
		},
	})
	fmt.Println(conn, conn.Err())
	// Output:
	// 10.0.0.1:6379 <nil>
}

// FromClient is for a client that the program has already. The program closes it, after the supervisor.
func ExampleFromClient() {
	server := nodetest.New() // in a program, a Redis server
	client, err := rueidis.NewClient(server.Option(""))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	sup, err := supervisor.New(supervisor.Config{Nodes: []node.Conn{node.FromClient(client)}})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())

	err = sup.Do(context.Background(), "nightly-report", func(ctx context.Context) error {
		fmt.Println("holding", lease.FromContext(ctx).Name())
		return nil
	})
	fmt.Println(err)
	// Output:
	// holding nightly-report
	// <nil>
}

// Err tells what is wrong with a Conn before anything is connected to. supervisor.New returns it too.
func ExampleConn_Err() {
	fmt.Println(node.URL("redis://me:secret@10.0.0.1:x").Err())
	fmt.Println(node.FromOption(rueidis.ClientOption{InitAddress: []string{"10.0.0.1:6379"}, ReplicaOnly: true}).Err())
	// Output:
	// node: URL "redis://10.0.0.1:x": invalid port ":x" after host
	// node: option for "10.0.0.1:6379": ReplicaOnly true: want false, for the primary
}

// Same compares where two Conns lead, however that is written.
func ExampleConn_Same() {
	conn := node.URL("10.0.0.1:6379")
	fmt.Println(conn.Same(node.URL("redis://me:secret@10.0.0.1")))
	fmt.Println(conn.Same(node.URL("redis://10.0.0.1:6379/1"))) // another database
	// Output:
	// true
	// false
}
