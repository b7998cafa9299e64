package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

const (
	ttl         = 2 * time.Second
	nodeTimeout = ttl / 20 // the default
	renewEvery  = ttl / 3  // the default
	grace       = ttl / 20 // the default

	// runs is how often a scenario runs on processes; LEASEHOLD_RUNS overrides it.
	runs = 20
	// containerRuns is how often on containers.
	containerRuns = 2
)

// A scenario is one run of something on a cluster, which it leaves as it was.
type scenario func(t *testing.T, c *cluster.Cluster, n *notes)

// onProcesses runs a scenario many times, each on n processes of its own, a few at
// once: one after the other those that wait would take very long. A test that
// measures does not call t.Parallel: the parallel ones run after all others.
func onProcesses(t *testing.T, n, atOnce int, s scenario) {
	t.Helper()
	if !slices.Contains(cluster.Kinds(t), cluster.Process) {
		t.Skip("left out: this runs on processes, and there is no redis-server on the PATH")
	}
	var results notes
	repeat(t, howOften(t), atOnce, func(t *testing.T, _ int) { s(t, cluster.Open(t, cluster.Process, n), &results) })
	results.log(t)
}

// takesLong leaves a test out under -short: a run of it takes more than six seconds.
func takesLong(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long, and -short is given")
	}
}

func howOften(t *testing.T) int {
	t.Helper()
	s := os.Getenv("LEASEHOLD_RUNS")
	if s == "" {
		return runs
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("LEASEHOLD_RUNS=%q: want a number, 1 or more", s)
	}
	return n
}

// The scenarios on containers. They share their clusters, because starting
// containers takes long and keeps the whole machine from its work meanwhile. So
// nothing else runs beside this test, and its runs go from one scenario to the
// next together.
func TestContainers(t *testing.T) {
	takesLong(t)
	if !slices.Contains(cluster.Kinds(t), cluster.Container) {
		t.Skip("left out: this runs on containers, and there is no Docker")
	}
	clusters := make([]*cluster.Cluster, min(containerRuns, howOften(t)))
	for i := range clusters {
		clusters[i] = cluster.Open(t, cluster.Container, 5)
	}
	for _, s := range []struct {
		name string
		run  scenario
	}{
		{"KillTwo", killTwo}, {"KillThree", killThree},
		{"StopTwo", stopTwo}, {"StopThree", stopThree},
		{"Cancel", cancelHealthy}, {"CancelStoppedBriefly", cancelStoppedBriefly}, {"CancelStoppedForLong", cancelStoppedForLong},
		{"ScriptFlush", scriptFlush}, {"OneNode", oneNode}, {"ThreeNodes", threeNodes},
	} {
		t.Run(s.name, func(t *testing.T) {
			var results notes
			// One that is repeated takes its turn when all others are over.
			repeat(t, len(clusters), len(clusters), func(t *testing.T, run int) {
				c := clusters[run%len(clusters)]
				t.Cleanup(func() { // after all others
					each(c.Servers, func(s cluster.Server) {
						if _, err := s.Do("FLUSHALL"); err != nil {
							t.Error(err)
						}
						if err := cluster.Age(s); err != nil { // the next scenario begins as the first
							t.Error(err)
						}
					})
				})
				s.run(t, c, &results)
			})
			results.log(t)
		})
	}
}

// A supervisor takes a server that was opened for a test for one that was known for long,
// and one that is young for what it is.
func TestServersAreGrown(t *testing.T) {
	t.Parallel()
	for _, kind := range cluster.Kinds(t) {
		t.Run(kind.String(), func(t *testing.T) {
			for _, s := range start(t, cluster.Open(t, kind, 3)).Nodes() {
				if s.Young != 0 || s.MaxTTL != ttl {
					t.Errorf("%s: young for %v, with a MaxTTL of %v", s.Node, s.Young, s.MaxTTL)
				}
			}
			for _, s := range start(t, cluster.OpenYoung(t, kind, 3)).Nodes() {
				if s.Young == 0 {
					t.Errorf("%s is not young", s.Node)
				}
			}
		})
	}
}

// each does the same to some servers, at once.
func each(servers []cluster.Server, do func(cluster.Server)) {
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() { do(s) })
	}
	wg.Wait()
}

// kill kills some servers, and starts them again after the test.
func kill(t *testing.T, servers []cluster.Server) {
	each(servers, cluster.Server.Kill)
	t.Cleanup(func() { each(servers, cluster.Server.Start) })
}

// pause stops some servers from running until they are resumed by what it returns,
// or at the latest after the test.
func pause(t *testing.T, servers []cluster.Server) (resume func()) {
	each(servers, cluster.Server.Pause)
	resume = sync.OnceFunc(func() { each(servers, cluster.Server.Resume) })
	t.Cleanup(resume)
	return resume
}

// start makes a supervisor on all servers of a cluster, waits until it has
// enrolled them, and closes it after the test.
func start(t *testing.T, c *cluster.Cluster, change ...func(*supervisor.Config)) *supervisor.Supervisor {
	t.Helper()
	sup := begin(t, c.Conns(), change...)
	await(t, "every node to be enrolled", func() error {
		for _, n := range sup.Nodes() {
			if !n.Enrolled {
				return fmt.Errorf("%s: %v", n.Node, n.Err)
			}
		}
		return nil
	})
	return sup
}

// begin makes a supervisor that no node has heard of yet, and closes it after the test.
func begin(t *testing.T, conns []node.Conn, change ...func(*supervisor.Config)) *supervisor.Supervisor {
	t.Helper()
	sup, err := supervisor.New(configured(conns, change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sup.Close(ended()) })
	return sup
}

// configured returns the configuration of a client. All clients of a test have the same
// MaxTTL, unless it says otherwise, and so it is the cap as well: with the default one, a
// test that waits for young servers would take a minute.
func configured(conns []node.Conn, change ...func(*supervisor.Config)) supervisor.Config {
	cfg := supervisor.Config{Nodes: conns, TTL: ttl}
	for _, f := range change {
		f(&cfg)
	}
	cfg.MaxTTLCap = cmp.Or(cfg.MaxTTLCap, cfg.MaxTTL, cfg.TTL)
	return cfg
}

// ended returns a context that is done.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func acquire(t *testing.T, sup *supervisor.Supervisor, name string, opts ...supervisor.Option) *lease.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	held, err := sup.Acquire(ctx, name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func handOver(t *testing.T, held *lease.Lease) lease.Handle {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	handle, err := held.HandOver(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

// adopt wants a handle to be adopted, and returns after how long it was. On a machine
// that is so busy that the nodes do not answer in time it may be refused.
func adopt(t *testing.T, sup *supervisor.Supervisor, handle lease.Handle, opts ...supervisor.AdoptOption) (*lease.Lease, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	begun, w := time.Now(), newWatch()
	l, err := sup.Adopt(ctx, handle, opts...)
	if errors.Is(err, supervisor.ErrNoQuorum) && w.busy() {
		excuse(t, "%v; %v", err, w)
		t.SkipNow()
	}
	if err != nil {
		t.Fatalf("not adopted after %v: %v", time.Since(begun), err)
	}
	return l, time.Since(begun)
}

// kept wants a lease to be held for so long. On a machine that is so busy that nodes
// do not answer in time it may be lost: then the rest of the run is left out.
func kept(t *testing.T, held *lease.Lease, d time.Duration) {
	t.Helper()
	begun, w := time.Now(), newWatch()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-held.Lost():
	case <-timer.C:
	}
	if held.Valid() {
		return
	}
	if w.expired(t, held) {
		t.SkipNow()
	}
	t.Fatalf("lost after %v: %v; %v", time.Since(begun), held.Err(), w)
}

// anyMoment returns a time within which a lease is renewed about once, so that what
// follows comes at any moment between two renewals.
func anyMoment() time.Duration { return rand.N(renewEvery) }

// An ending sees how a lease ends. It begins before the fault: to kill containers may take
// longer than what is left of the lease by then.
type ending struct {
	done     chan struct{}
	deadline clock.Instant // up to which the nodes keep the lease
	told     clock.Instant
	err      error // what is wrong with the lease after it was told
}

func endingOf(t *testing.T, held *lease.Lease) *ending {
	e := &ending{done: make(chan struct{})}
	c := clock.System()
	ticks := time.NewTicker(10 * time.Millisecond) // the deadline moves with each renewal, and stays
	go func() {
		defer close(e.done)
		defer ticks.Stop()
		for {
			now := c.Now()
			if left := held.Remaining(); left > 0 {
				e.deadline = max(e.deadline, now.Add(left))
			}
			select {
			case <-held.Lost():
				e.told = c.Now()
				if held.Valid() || !errors.Is(held.Err(), lease.ErrLost) {
					e.err = fmt.Errorf("Valid() = %v, Err() = %v", held.Valid(), held.Err())
				}
				return
			case <-t.Context().Done():
				return
			case <-ticks.C:
			}
		}
	}()
	return e
}

// early waits for the loss of the lease, wants it to be told before the deadline, and
// returns how long before. It may be told later by as much as others kept this process
// from running since it was due.
func (e *ending) early(t *testing.T) time.Duration {
	t.Helper()
	select {
	case <-e.done:
	case <-time.After(2 * ttl):
		t.Fatalf("not told that the lease is lost within %v", 2*ttl)
	}
	if e.err != nil {
		t.Errorf("told of the loss, and then: %v", e.err)
	}
	early := e.deadline.Sub(e.told)
	watch{e.deadline.Add(-grace)}.within(t, "told after the deadline", -early, 0)
	return early
}

// marker is the key that says which life of a server's data this is; others are named
// after it.
const marker = "leasehold:incarnation"

// lockKeys returns the keys of a server but for those that stay: the fences, and what
// says of which server and which clients they are.
func lockKeys(s cluster.Server) ([]string, error) {
	answer, err := s.Do("KEYS", "*")
	if err != nil {
		return nil, err
	}
	all, ok := answer.([]any)
	if !ok {
		return nil, fmt.Errorf("KEYS: %v", answer)
	}
	var keys []string
	for _, k := range all {
		k, _ := k.(string)
		if !strings.HasPrefix(k, "leasehold:fence:") && k != marker && !strings.HasPrefix(k, "leasehold:{"+marker+"}:") {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// await waits until ok returns nil, for 10 s at most.
func await(t *testing.T, what string, ok func() error) {
	t.Helper()
	err := backoff.Retry(ok, backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Millisecond),
		backoff.WithMaxInterval(20*time.Millisecond),
		backoff.WithMaxElapsedTime(10*time.Second),
	))
	if err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}

// notes collect what was measured in the runs of a scenario. They may be added to
// from any goroutine.
type notes struct {
	mu   sync.Mutex
	what []string // in the order in which they came
	all  map[string][]float64
	// How many were beyond their bound, because of others and not.
	excused, late map[string]int
}

// within notes a duration that must be no longer than most. A call that waits for what it
// should not wait for is late each time; one that shared its two cores with three servers
// being stopped is late now and then. So one in twenty may be, and one in ten by no more
// than others kept this process from running at once. Each is shown.
func (n *notes) within(t *testing.T, w watch, what string, took, most time.Duration) {
	t.Helper()
	n.took(what, took)
	if took <= most {
		return
	}
	starved := w.starved()
	t.Logf("%s %v, want %v at most; %v", what, took, most, w)
	n.mu.Lock()
	defer n.mu.Unlock()
	if took <= most+starved {
		n.excused[what]++
	} else {
		n.late[what]++
	}
}

// took notes a duration, and ratio a plain number.
func (n *notes) took(what string, d time.Duration) { n.add(what, float64(d)/1e6) }
func (n *notes) ratio(what string, r float64)      { n.add(what+" (ratio)", r) }

func (n *notes) add(what string, v float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all, n.excused, n.late = make(map[string][]float64), make(map[string]int), make(map[string]int)
	}
	if n.all[what] == nil {
		n.what = append(n.what, what)
	}
	n.all[what] = append(n.all[what], v)
}

// log shows each distribution in one line.
func (n *notes) log(t *testing.T) {
	t.Helper()
	for _, what := range n.what {
		all, unit := n.all[what], " ms"
		if strings.HasSuffix(what, ")") {
			unit = ""
		}
		slices.Sort(all)
		at := func(p float64) string { return fmt.Sprintf("%.2f%s", quantile(all, p), unit) }
		t.Logf("%s: n %d, min %s, median %s, p90 %s, p99 %s, max %s", what, len(all), at(0), at(.5), at(.9), at(.99), at(1))
		if late := n.late[what]; late > len(all)/20 {
			t.Errorf("%s: %d of %d were beyond the bound", what, late, len(all))
		}
		leftOut(t, what, n.excused[what], len(all), len(all))
	}
}

// quantile returns the value below which the part p of them lies.
func quantile[T any](sorted []T, p float64) T {
	return sorted[int(math.Round(p*float64(len(sorted)-1)))]
}
