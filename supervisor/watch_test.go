package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A viewer notes what a watch tells.
type viewer struct {
	mu   sync.Mutex
	told []string
	done chan struct{}
}

func watch(ctx context.Context, sup *supervisor.Supervisor, name string) *viewer {
	v := &viewer{done: make(chan struct{})}
	go func() {
		defer close(v.done)
		for h, err := range sup.Watch(ctx, name) {
			text := "unclear"
			switch {
			case errors.Is(err, supervisor.ErrClosed):
				text = "closed"
			case err != nil:
				text = err.Error()
			case errors.Is(h.Err, supervisor.ErrNoQuorum) && !h.Held && !h.Free && len(h.Nodes) > 0:
				text = "outage"
			case h.Err != nil:
				text = h.Err.Error()
			case h.Held:
				text = h.Owner
			case h.Free:
				text = "free"
			}
			v.mu.Lock()
			v.told = append(v.told, text)
			v.mu.Unlock()
		}
	}()
	return v
}

// sees waits for a few looks, and compares what was told since the last call.
func (v *viewer) sees(t *testing.T, want ...string) {
	t.Helper()
	time.Sleep(ttl / 2) // several looks, also past nodes that hang
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if fmt.Sprint(v.told) != fmt.Sprint(want) {
		t.Errorf("told %v, want %v", v.told, want)
	}
	v.told = nil
}

// endsWith is sees if what lasted for a moment may have been told before.
func (v *viewer) endsWith(t *testing.T, want string) {
	t.Helper()
	time.Sleep(ttl / 2)
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := len(v.told); n == 0 || v.told[n-1] != want {
		t.Errorf("told %v, want it to end with %s", v.told, want)
	}
	v.told = nil
}

// A watch tells how it is and then what changes, resumes after an outage, and ends
// with its context.
func TestWatch(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		one, two := start(t, nodes, owner("one")), start(t, nodes, owner("two"))
		viewing := start(t, nodes)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		v := watch(ctx, viewing, "x")
		v.sees(t, "free")
		held := acquire(t, one, "x")
		v.sees(t, "one")
		time.Sleep(5 * ttl)
		v.sees(t)
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		v.sees(t, "free")
		held = acquire(t, two, "x")
		v.sees(t, "two")
		if err := held.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		acquire(t, two, "x") // another lease of the same holder, at once
		v.endsWith(t, "two")

		nodes[0].Crash()
		nodes[1].Hang()
		v.sees(t) // a quorum is left
		nodes[2].Hang()
		v.sees(t, "outage")
		time.Sleep(5 * ttl)
		v.sees(t)
		nodes[1].Resume()
		nodes[2].Resume()
		time.Sleep(ttl)
		v.sees(t, "free") // the holder is lost by now
		for _, n := range nodes[1:3] {
			n.Set("x", "a", 0)
		}
		for _, n := range nodes[3:] {
			n.Set("x", "b", 0)
		}
		v.sees(t, "unclear")
		for _, n := range nodes {
			n.Set("x", "?me/ABCDEFGHIJKLMNOPQRSTUVWXYZ", 0) // a reservation is no holder
		}
		v.sees(t)
		cancel()
		<-v.done
		v.sees(t)
	})
}

// A lease of the watching process itself is seen at once. The watch ends, and says so,
// with its supervisor.
func TestWatchOwnAndClose(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		v := watch(t.Context(), sup, "x")
		v.sees(t, "free")
		acquire(t, sup, "x")
		v.mu.Lock()
		if fmt.Sprint(v.told) != "[me]" {
			t.Errorf("told %v in no time", v.told)
		}
		v.told = nil
		v.mu.Unlock()
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		<-v.done
		v.sees(t, "closed")
		for _, err := range sup.Watch(t.Context(), "x") {
			if !errors.Is(err, supervisor.ErrClosed) {
				t.Errorf("a closed supervisor: %v", err)
			}
		}
	})
}

// The end of its supervisor is told even if the last that was told is an outage.
func TestWatchClosedInAnOutage(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		v := watch(t.Context(), sup, "x")
		v.sees(t, "free")
		for _, n := range nodes {
			n.Crash()
		}
		v.sees(t, "outage")
		_ = sup.Close(t.Context())
		<-v.done
		v.sees(t, "closed")
	})
}

// A loop may be left at any time, and a broken name ends it at once.
func TestWatchEnds(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for range 3 {
			n := 0
			for h, err := range sup.Watch(t.Context(), "x") {
				if n++; n > 1 || err != nil || !h.Free {
					t.Fatalf("%d: %+v, %v", n, h, err)
				}
				break
			}
		}
		n := 0
		for _, err := range sup.Watch(t.Context(), "") {
			if n++; n > 1 || err == nil || errors.Is(err, supervisor.ErrNoQuorum) {
				t.Fatalf("%d: %v", n, err)
			}
		}
		for h, err := range sup.Watch(canceled(), "x") {
			t.Errorf("told %+v, %v with a context that is done", h, err)
		}
		from := time.Now()
		for range sup.Watch(within(t, 137*time.Millisecond), "x") {
		}
		if took := time.Since(from); took != 137*time.Millisecond {
			t.Errorf("ended after %v", took)
		}
	})
}

// Since is when the lease began, by the nodes' clocks.
func TestSince(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		nodeTime := func() time.Time {
			held := acquire(t, sup, "clock") // its fence is the nodes' time
			defer held.Release(t.Context())
			return time.UnixMicro(int64(held.Fence()))
		}
		before := nodeTime()
		time.Sleep(time.Second)
		acquire(t, sup, "x")
		time.Sleep(5 * ttl)
		h, err := sup.Inspect(t.Context(), "x")
		if err != nil || h.Since.Sub(before).Round(time.Millisecond) != time.Second {
			t.Errorf("Since is %v behind, want 1s; %v", h.Since.Sub(before), err)
		}
		if h, err := sup.Inspect(t.Context(), "y"); err != nil || !h.Since.IsZero() {
			t.Errorf("Since = %v of a free name; %v", h.Since, err)
		}
		for _, n := range nodes {
			n.Set("z", "a foreign value", 0)
		}
		if h, err := sup.Inspect(t.Context(), "z"); err != nil || !h.Held || !h.Since.IsZero() {
			t.Errorf("Since = %v of a lease without a fence; %v", h.Since, err)
		}
	})
}

// A watch looks at once if a node tells of a change, and not only when it would have looked
// anyway.
func TestWatchIsWoken(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		v := watch(t.Context(), start(t, nodes), "x")
		v.sees(t, "free")
		for i := range 20 {
			owner := fmt.Sprint("owner", i)
			for _, n := range nodes {
				n.Set("x", owner+"/ABCDEFGHIJKLMNOPQRSTUVWXYZ", ttl)
			}
			time.Sleep(ttl / 1000) // two looks are ttl/20 apart
			synctest.Wait()
			v.mu.Lock()
			if n := len(v.told); n == 0 || v.told[n-1] != owner {
				t.Errorf("told %v right after %s has it", v.told, owner)
			}
			v.mu.Unlock()
		}
	})
}
