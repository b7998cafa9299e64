//go:build unix

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// TestManyLeases has one supervisor hold very many leases: what they cost, that their
// renewals do not come in bursts, that names are acquired beside them and waited for,
// that a node which restarts empty is healed of all, and that each is lost in time when
// three of five nodes hang. LEASEHOLD_SCALE says how many there are; 100000 take a
// minute or two on two cores.
func TestManyLeases(t *testing.T) {
	takesLong(t)
	if !slices.Contains(cluster.Kinds(t), cluster.Process) {
		t.Skip("left out: this runs on processes, and there is no redis-server on the PATH")
	}
	const ttl = 10 * time.Second // the default
	leases := 5000
	if s := os.Getenv("LEASEHOLD_SCALE"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 100 {
			t.Fatalf("LEASEHOLD_SCALE=%q: want a number, 100 or more", s)
		}
		leases = n
	}
	repeat(t, 1, 1, func(t *testing.T, _ int) {
		c := cluster.Open(t, cluster.Process, 5)
		sup := start(t, c, func(cfg *supervisor.Config) { cfg.TTL, cfg.Observer = ttl, nodeEvents{t} })
		m := &many{T: t, sup: sup, c: c, held: make([]*lease.Lease, leases), watch: newWatch()}

		m.acquireAll()
		m.keepFor(2*ttl/3 + time.Second) // each is renewed twice
		m.acquireBeside(3*time.Second, 1000)
		m.waitFor(leases / 10)
		m.restartOne()
		m.loseAll(ttl)
	})
}

// nodeEvents logs what becomes of the nodes.
type nodeEvents struct{ t *testing.T }

func (n nodeEvents) Observe(e supervisor.Event) {
	switch e.Kind {
	case supervisor.EventNodeUp, supervisor.EventNodeDown, supervisor.EventWarning:
		n.t.Log(e.Kind, e.Node, e.Err)
	}
}

type many struct {
	*testing.T
	sup   *supervisor.Supervisor
	c     *cluster.Cluster
	held  []*lease.Lease
	watch watch
}

// stage logs for how long the supervisor's goroutine was away at most, in the last half to
// whole minute.
func (m *many) stage(format string, args ...any) {
	m.Helper()
	m.Logf("%s; the loop was away for %v at most", fmt.Sprintf(format, args...), m.sup.Stats().Longest)
}

func heap() float64 {
	runtime.GC()
	runtime.GC() // what has a finalizer, and what pools keep
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}

func processorTime(t *testing.T) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func (m *many) acquireAll() {
	m.Helper()
	names := make([]string, len(m.held))
	for i := range names {
		names[i] = fmt.Sprint("many-", i)
	}
	giveBack(m.T, acquire(m.T, m.sup, names[0]))
	before, goroutines, begun := heap(), runtime.NumGoroutine(), time.Now()
	ctx, cancel := context.WithTimeout(m.Context(), 2*time.Minute)
	defer cancel()
	var callers sync.WaitGroup
	const atOnce = 256
	for k := range atOnce {
		callers.Go(func() {
			for i := k; i < len(m.held); i += atOnce {
				l, err := m.sup.Acquire(ctx, names[i])
				if err != nil {
					m.Error(err)
					return
				}
				m.held[i] = l
			}
		})
	}
	callers.Wait()
	if m.Failed() {
		m.FailNow()
	}
	took := time.Since(begun)
	if more := runtime.NumGoroutine() - goroutines; more > len(m.held)/100 {
		m.Errorf("%d goroutines more for %d leases", more, len(m.held))
	}
	m.stage("%d leases acquired in %v, by %d callers: %.0f B of heap each", len(m.held), took, atOnce, (heap()-before)/float64(len(m.held)))
	runtime.KeepAlive(names)
}

// keepFor does nothing but hold for so long.
func (m *many) keepFor(d time.Duration) {
	m.Helper()
	cpu, before, begun := processorTime(m.T), m.renewals(), time.Now()
	var bursts []float64 // renewals in each tenth of a second
	for tick := time.Tick(time.Second / 10); time.Since(begun) < d; {
		<-tick
		now := m.renewals()
		bursts = append(bursts, float64(now-before))
		before = now
	}
	share := 100 * float64(processorTime(m.T)-cpu) / float64(time.Since(begun))
	var sum float64
	for _, n := range bursts {
		sum += n
	}
	m.stage("held for %v: %.2f %% of a processor; in 0.1 s a node was asked for %.0f renewals on average and %.0f at most",
		d, share, sum/float64(len(bursts)), slices.Max(bursts))
	m.allHeld()
}

// renewals returns how many times one node has lengthened the life of a key.
func (m *many) renewals() int {
	m.Helper()
	info, err := m.c.Servers[0].Do("INFO", "commandstats")
	if err != nil {
		m.Fatal(err)
	}
	text, _ := info.(string)
	_, rest, _ := strings.Cut(text, "cmdstat_pexpire:calls=")
	calls, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.Atoi(calls) // 0 before the first
	return n
}

// allHeld wants every lease to be held. Others may have kept some from being renewed.
func (m *many) allHeld() {
	m.Helper()
	expired, lost := 0, 0
	for _, l := range m.held {
		switch err := l.Err(); {
		case err == nil:
		case errors.Is(err, lease.ErrExpired):
			expired++
		default:
			if lost++; lost == 1 {
				m.Logf("%s: %v", l.Name(), err)
			}
		}
	}
	if expired > 0 && lost == 0 && m.watch.busy() {
		excuse(m.T, "%d of %d leases have expired; %v", expired, len(m.held), m.watch)
		m.SkipNow()
	}
	if expired+lost > 0 {
		m.Fatalf("of %d leases %d have expired and %d ended otherwise; %v", len(m.held), expired, lost, m.watch)
	}
}

// acquireBeside acquires and releases other names, so many a second.
func (m *many) acquireBeside(d time.Duration, perSecond int) {
	m.Helper()
	due := make(chan int, perSecond)
	took := make(chan time.Duration, perSecond*int(d/time.Second)+perSecond)
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for i := range due {
				begun := time.Now()
				l, err := m.sup.Acquire(m.Context(), fmt.Sprint("beside-", i))
				if err != nil {
					m.Error(err)
					continue
				}
				took <- time.Since(begun)
				if err := l.Release(m.Context()); err != nil {
					m.Error(err)
				}
			}
		})
	}
	begun, sent := time.Now(), 0
	for tick := time.Tick(10 * time.Millisecond); time.Since(begun) < d; {
		<-tick
		for want := int(float64(perSecond) * time.Since(begun).Seconds()); sent < want; sent++ {
			due <- sent
		}
	}
	close(due)
	callers.Wait()
	rate := float64(sent) / time.Since(begun).Seconds()
	close(took)
	var all []time.Duration
	for d := range took {
		all = append(all, d)
	}
	slices.Sort(all)
	m.stage("%.0f acquired and released a second beside them: median %v, p99 %v", rate, quantile(all, .5), quantile(all, .99))
	m.allHeld()
}

// waitFor waits for names that another supervisor holds, each of which it gets.
func (m *many) waitFor(names int) {
	m.Helper()
	rival := start(m.T, m.c, func(cfg *supervisor.Config) { cfg.TTL = 10 * time.Second })
	theirs := make([]*lease.Lease, names)
	inParallel(names, func(i int) { theirs[i] = acquire(m.T, rival, fmt.Sprint("wanted-", i)) })
	if m.Failed() {
		m.FailNow()
	}
	ctx, cancel := context.WithTimeout(m.Context(), time.Minute)
	defer cancel()
	var waiters sync.WaitGroup
	for i := range names {
		waiters.Go(func() {
			l, err := m.sup.Acquire(ctx, fmt.Sprint("wanted-", i))
			if err != nil {
				m.Error(err)
				return
			}
			// So many at once may find no room at a node, which is then told later.
			_ = l.Release(ctx)
		})
	}
	await(m.T, "everybody to wait", func() error {
		if n := m.sup.Stats().Waiting; n < names {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	begun := time.Now()
	inParallel(names, func(i int) { giveBack(m.T, theirs[i]) })
	waiters.Wait()
	m.stage("%d names of another supervisor got within %v of its releases", names, time.Since(begun))
	m.allHeld()
}

// inParallel calls f(0) to f(n-1) on a few goroutines.
func inParallel(n int, f func(int)) {
	var wg sync.WaitGroup
	const atOnce = 64
	for k := range atOnce {
		wg.Go(func() {
			for i := k; i < n; i += atOnce {
				f(i)
			}
		})
	}
	wg.Wait()
}

// restartOne restarts a node empty, and waits until it has every lease again.
func (m *many) restartOne() {
	m.Helper()
	s := m.c.Servers[4]
	s.Kill()
	begun := time.Now()
	s.Start()
	registers := map[string]bool{}
	for _, l := range m.held {
		registers[node.FenceKey(l.Name())] = true
	}
	want := int64(len(m.held) + len(registers) + 1) // and the marker
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(100 * time.Millisecond); ; <-tick {
		answer, err := s.Do("DBSIZE")
		if err != nil {
			m.Fatal(err)
		}
		if n, _ := answer.(int64); n >= want {
			break
		}
		if time.Now().After(deadline) {
			m.Fatalf("a node that restarted empty has %v of %d keys", answer, want)
		}
	}
	m.stage("a node that restarted empty has all of them again after %v", time.Since(begun))
	m.allHeld()
}

// loseAll stops three of the five nodes. Each Lost closes before its deadline, or after it
// by no more than others kept this process from running.
func (m *many) loseAll(ttl time.Duration) {
	m.Helper()
	now := clock.System().Now
	deadlines, told := make([]clock.Instant, len(m.held)), make([]clock.Instant, len(m.held))
	var holders sync.WaitGroup
	for i, l := range m.held {
		holders.Go(func() {
			<-l.Lost()
			told[i] = now()
		})
	}
	w := newWatch()
	defer pause(m.T, m.c.Servers[:3])()
	// What was answered before may be read a moment later, and counts.
	for range 3 {
		<-time.After(ttl / 20)
		for i, l := range m.held {
			if left := l.Remaining(); left > 0 {
				deadlines[i] = max(deadlines[i], now().Add(left))
			}
		}
	}
	done := make(chan struct{})
	go func() { holders.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * ttl):
		m.Fatal("some were never told")
	}
	early := make([]time.Duration, len(m.held))
	for i, l := range m.held {
		early[i] = deadlines[i].Sub(told[i])
		if !errors.Is(l.Err(), lease.ErrExpired) {
			m.Errorf("%s: %v", l.Name(), l.Err())
		}
	}
	slices.Sort(early)
	m.stage("three of five nodes hang: told %v before the deadline, median %v", early[0], quantile(early, .5))
	w.within(m.T, "the last one was told after its deadline by", -early[0], 0)
}
