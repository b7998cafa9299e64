package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// BenchmarkPipelines measures what an actor and a node in memory do for one command, of
// 64 in a pipeline and of one alone. What the node in memory allocates is in it, so
// compare two builds.
func BenchmarkPipelines(b *testing.B) {
	for _, of := range []struct {
		name string
		ops  []node.Op
	}{
		{"renew", []node.Op{node.Renew}},
		{"grant and release", []node.Op{node.Grant, node.Release}},
		{"queue", []node.Op{node.Enqueue, node.Claim, node.Leave, node.Release}},
	} {
		for _, many := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", of.name, many), func(b *testing.B) { benchmark(b, of.ops, many) })
		}
	}
}

func benchmark(b *testing.B, ops []node.Op, many int) {
	n := nodetest.New()
	defer n.Close()
	replies := make(chan node.Batch)
	a := node.NewActor(node.Config{Conn: n.Conn(), Timeout: 30 * time.Second, Replies: replies, Inbox: "in"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(context.Background())
	}()
	defer func() {
		a.Close()
		<-done
	}()
	if first := <-replies; !first.State.Enrolled {
		b.Fatal(first.State.Err)
	}
	commands := make([]node.Command, many)
	send := func(op node.Op) {
		for i := range commands {
			commands[i].Op = op
		}
		if refused := a.TrySendAll(commands); len(refused) > 0 {
			b.Fatal("no room")
		}
		for left := many; left > 0; {
			batch := <-replies
			left -= len(batch.Replies)
			for _, r := range batch.Replies {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
		}
	}
	for i := range commands {
		commands[i] = node.Command{
			ID: uint64(i), Name: fmt.Sprintf("name-%d", i), Token: "host:1/" + strings.Repeat("T", 26),
			TTL: 10 * time.Second, Fence: 1 << 50, Ticket: 1 << 50, By: clock.Never,
		}
	}
	send(node.Grant)
	b.ReportAllocs()
	for b.Loop() {
		for _, op := range ops {
			send(op)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*many*len(ops)), "ns/command")
}
