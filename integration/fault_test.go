package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Two servers of five that are killed cost nothing.
func TestKillTwo(t *testing.T) {
	t.Parallel()
	onProcesses(t, 5, 5, killTwo)
}

func killTwo(t *testing.T, c *cluster.Cluster, _ *notes) {
	held := acquire(t, start(t, c), "x")
	kept(t, held, anyMoment())
	kill(t, c.Servers[:2])
	kept(t, held, 3*ttl)
	newWatch().released(t, held.Release(t.Context()))
}

// When three of five are killed the holder is told before the nodes can give the
// name away.
func TestKillThree(t *testing.T) {
	t.Parallel()
	onProcesses(t, 5, 10, killThree)
}

func killThree(t *testing.T, c *cluster.Cluster, n *notes) {
	held := acquire(t, start(t, c), "x")
	kept(t, held, anyMoment())
	end := endingOf(t, held)
	kill(t, c.Servers[:3])
	n.took("told of the loss before the deadline", end.early(t))
	if !errors.Is(held.Err(), lease.ErrExpired) {
		t.Errorf("Err() = %v", held.Err())
	}
	if err := held.Release(t.Context()); !errors.Is(err, lease.ErrLost) {
		t.Errorf("Release of a lost lease: %v", err)
	}
}

// Two servers of five that are stopped do not slow an acquisition down, and the
// lease is kept.
func TestStopTwo(t *testing.T) { onProcesses(t, 5, 10, stopTwo) }

func stopTwo(t *testing.T, c *cluster.Cluster, n *notes) {
	sup := start(t, c)
	held := acquire(t, sup, "x")
	begun, healthy, stopped := func() (begun time.Time, healthy, stopped time.Duration) {
		measuring.Lock()
		defer measuring.Unlock()
		healthy = latency(t, sup)
		pause(t, c.Servers[:2])
		return time.Now(), healthy, latency(t, sup)
	}()
	n.took("median acquisition with all five up", healthy)
	n.took("median acquisition with two of five stopped", stopped)
	n.ratio("the latter to the former", float64(stopped)/float64(healthy))
	if stopped > 2*healthy {
		t.Errorf("the median acquisition took %v with two nodes stopped, and %v before", stopped, healthy)
	}
	kept(t, held, 3*ttl-time.Since(begun))
	newWatch().released(t, held.Release(t.Context()))
}

// measuring is held by the one run that measures latency while others only hold.
var measuring sync.Mutex

// latency returns the median of how long 200 acquisitions take.
func latency(t *testing.T, sup *supervisor.Supervisor) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 200 {
		begun := time.Now()
		held := acquire(t, sup, "y")
		took = append(took, time.Since(begun))
		giveBack(t, held)
	}
	slices.Sort(took)
	return quantile(took, .5)
}

// slack is how late a call may be after the end of its context.
const slack = 5 * time.Millisecond

// While three of five servers are stopped every call ends with its context, the
// holder is told in time, and Close leaves nothing behind. Three runs at once: they
// sleep nearly all the time.
func TestStopThree(t *testing.T) { onProcesses(t, 5, 3, stopThree) }

func stopThree(t *testing.T, c *cluster.Cluster, n *notes) {
	var sup, second, third *supervisor.Supervisor
	labelled(t, func() { sup, second, third = start(t, c), start(t, c), start(t, c) })
	held := acquire(t, sup, "x")
	acquire(t, second, "of second")
	acquire(t, third, "of third")

	// bounded makes a call whose context ends before the nodes' timeout or after it.
	bounded := func(what string, call func(context.Context) error) error {
		w := newWatch()
		ctx, cancel := context.WithTimeout(t.Context(), rand.N(130*time.Millisecond)+20*time.Millisecond)
		defer cancel()
		err := call(ctx)
		end, _ := ctx.Deadline()
		late := time.Since(end)
		n.took(what+" returned after its context was done, or before", late)
		// Two of twenty are of one kind, so one in twenty may be late and none always is.
		n.within(t, w, "any of these calls", late, slack)
		if late > slack {
			t.Logf("that was %s", what)
		}
		return err
	}
	failed := func(what string, err error) {
		if err == nil {
			t.Errorf("%s succeeded with three nodes of five stopped", what)
		}
	}
	calls := func(name string, release *lease.Lease) map[string]func(context.Context) error {
		return map[string]func(context.Context) error{
			"Acquire":                   func(ctx context.Context) error { _, err := sup.Acquire(ctx, name); return err },
			"TryAcquire":                func(ctx context.Context) error { _, err := sup.TryAcquire(ctx, name+" too"); return err },
			"Acquire of a held name":    func(ctx context.Context) error { _, err := sup.Acquire(ctx, "x"); return err },
			"TryAcquire of a held name": func(ctx context.Context) error { _, err := sup.TryAcquire(ctx, "x"); return err },
			"Inspect":                   func(ctx context.Context) error { _, err := sup.Inspect(ctx, "x"); return err },
			"Extend":                    func(ctx context.Context) error { return held.Extend(ctx, ttl) },
			"Release":                   release.Release,
			"Do":                        func(ctx context.Context) error { return sup.Do(ctx, name+" to do", nil) },
			"Lead":                      func(ctx context.Context) error { return sup.Lead(ctx, name+" to lead", nil) },
		}
	}
	first, then := calls("y", acquire(t, sup, "r")), calls("z", acquire(t, sup, "s"))
	stepDown := runningFunctions(t, sup)
	kept(t, held, anyMoment())
	end := endingOf(t, held)
	pause(t, c.Servers[:3])

	// All at once: each finds nodes that seemed well a moment ago.
	var wg sync.WaitGroup
	for what, call := range first {
		wg.Go(func() { failed(what, bounded(what, call)) })
	}
	wg.Go(func() { failed("Close", bounded("Close", second.Close)) })
	wg.Go(func() {
		w, begun := newWatch(), time.Now()
		failed("Close", third.Close(context.Background()))
		took := time.Since(begun)
		n.took("Close without a deadline", took)
		w.within(t, "Close without a deadline", took, ttl/2)
	})
	wg.Wait()

	// One after the other: the nodes are known to be away.
	for what, call := range then {
		failed(what, bounded(what, call))
	}
	w := newWatch()
	for what, took := range stepDown() {
		n.within(t, w, what+" returned after its context was done", took, slack)
	}
	n.took("told of the loss before the deadline", end.early(t))
	_ = bounded("Close", sup.Close) // nothing is held any more

	begun := time.Now()
	await(t, "the supervisors' goroutines to end", func() error { return leftOf(t) })
	n.took("no goroutine left after Close", time.Since(begun))
}

// runningFunctions has Do and Lead run functions, which end with their context.
// What it returns ends that context, and returns for how long each call went on.
func runningFunctions(t *testing.T, sup *supervisor.Supervisor) (stepDown func() map[string]time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	inside := make(chan struct{}, 2)
	work := func(ctx context.Context) error {
		inside <- struct{}{}
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	var ofDo, ofLead time.Time
	wg.Go(func() { _ = sup.Do(ctx, "running do", work); ofDo = time.Now() })
	wg.Go(func() { _ = sup.Lead(ctx, "running lead", work); ofLead = time.Now() })
	<-inside
	<-inside
	return func() map[string]time.Duration {
		begun := time.Now()
		cancel()
		wg.Wait()
		return map[string]time.Duration{
			"Do with its function running":   ofDo.Sub(begun),
			"Lead with its function running": ofLead.Sub(begun),
		}
	}
}

const labelKey = "leasehold-test"

// labelled runs f so that leftOf knows every goroutine that it starts, directly or
// not: they inherit the label.
func labelled(t *testing.T, f func()) {
	pprof.Do(t.Context(), pprof.Labels(labelKey, t.Name()), func(context.Context) { f() })
}

// leftOf returns an error with the stacks of the goroutines that were started
// under labelled and live on.
func leftOf(t *testing.T) error {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err
	}
	var left []string
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(group, fmt.Sprintf("%q:%q", labelKey, t.Name())) {
			left = append(left, group)
		}
	}
	if left != nil {
		return fmt.Errorf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
	}
	return nil
}
