package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// SCRIPT FLUSH fifty times a second on every node, during 1,000 acquisitions: no
// call fails, and a lease that is held meanwhile is kept.
func TestScriptFlush(t *testing.T) {
	takesLong(t)
	t.Parallel()
	cluster.Kinds(t)
	var results notes
	scriptFlush(t, cluster.Open(t, cluster.Process, 5), &results)
	results.log(t)
}

func scriptFlush(t *testing.T, c *cluster.Cluster, n *notes) {
	// A node that is slow for once is not what this is about, renewals are.
	patient := func(cfg *supervisor.Config) {
		cfg.TTL, cfg.NodeTimeout, cfg.RenewEvery = longTTL, longTTL/4, renewEvery
	}
	sup, rival := start(t, c, patient), start(t, c, patient)
	held := acquire(t, sup, "x")

	var flushes atomic.Int64
	stop := make(chan struct{})
	var flushing sync.WaitGroup
	for _, s := range c.Servers {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answers := bufio.NewReader(conn)
		flushing.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-stop:
					return
				}
				// Server.Do would connect anew for each.
				_, err := io.WriteString(conn, "SCRIPT FLUSH\r\n")
				if err == nil {
					var answer string
					if answer, err = answers.ReadString('\n'); err == nil && answer != "+OK\r\n" {
						err = errors.New(answer)
					}
				}
				if err != nil {
					t.Errorf("SCRIPT FLUSH: %v", err)
					return
				}
				flushes.Add(1)
			}
		})
	}

	begun := time.Now()
	var done atomic.Int64
	var wg sync.WaitGroup
	for k := range 4 {
		name := fmt.Sprint("y", k)
		wg.Go(func() {
			for done.Add(1) <= 1000 || time.Since(begun) < 3*ttl {
				if err := workOn(t.Context(), sup, name); err != nil {
					t.Error(err)
					return
				}
				if _, err := rival.TryAcquire(t.Context(), "x"); !errors.Is(err, supervisor.ErrHeld) {
					t.Errorf("a rival's attempt on a held name: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	close(stop)
	flushing.Wait()
	if !held.Valid() {
		t.Errorf("lost: %v", held.Err())
	} else if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
	n.ratio("acquisitions", float64(sup.Stats().Acquired-1))
	n.ratio("flushes of each node in a second", float64(flushes.Load())/5/took.Seconds())
}

// workOn makes one call of each kind, none of which may fail.
func workOn(ctx context.Context, sup *supervisor.Supervisor, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// One attempt: a second one would hide that the first has failed.
	held, err := sup.Acquire(ctx, name, supervisor.WithAttempts(1))
	if err != nil {
		return err
	}
	if err := held.Extend(ctx, longTTL); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	h, err := sup.Inspect(ctx, name)
	if err != nil {
		return err
	}
	if !h.Held || h.Token != held.Token() {
		return fmt.Errorf("inspect: %+v", h)
	}
	for _, a := range h.Nodes {
		if a.Err != nil {
			return fmt.Errorf("inspect: %v", a)
		}
	}
	return held.Release(ctx)
}

// What everybody does, on deployments of other sizes than the other tests.
func TestOneNode(t *testing.T) {
	t.Parallel()
	onProcesses(t, 1, 10, oneNode)
}

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	onProcesses(t, 3, 10, threeNodes)
}

func oneNode(t *testing.T, c *cluster.Cluster, n *notes)    { mainJob(t, c, 1, n) }
func threeNodes(t *testing.T, c *cluster.Cluster, n *notes) { mainJob(t, c, 3, n) }

// mainJob holds a name and hands it over to a rival, on some servers of a cluster.
func mainJob(t *testing.T, c *cluster.Cluster, nodes int, n *notes) {
	c = &cluster.Cluster{Servers: c.Servers[:nodes]}
	sup, rival := start(t, c), start(t, c)
	held := acquire(t, sup, "x")
	if _, err := rival.TryAcquire(t.Context(), "x"); !errors.Is(err, supervisor.ErrHeld) {
		t.Errorf("a rival's attempt: %v", err)
	}
	type won struct {
		held *lease.Lease
		err  error
		at   time.Time
	}
	next := make(chan won, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*ttl)
	defer cancel()
	go func() {
		held, err := rival.Acquire(ctx, "x")
		next <- won{held, err, time.Now()}
	}()
	kept(t, held, 2*ttl)
	select {
	case w := <-next:
		t.Fatalf("a rival's acquisition returned while the name was held: %v", w.err)
	default:
	}
	begun := time.Now()
	giveBack(t, held)
	w := <-next
	if w.err != nil {
		t.Fatal(w.err)
	}
	n.took("from the release to the rival's lease", w.at.Sub(begun))
	if w.held.Fence() <= held.Fence() {
		t.Errorf("fence %d after %d", w.held.Fence(), held.Fence())
	}
	giveBack(t, w.held)
	await(t, "the keys to be gone", func() error {
		for _, s := range c.Servers {
			if keys, err := lockKeys(s); err != nil || len(keys) > 0 {
				return fmt.Errorf("%s keeps %q, %v", s.Addr(), keys, err)
			}
		}
		return nil
	})
}
