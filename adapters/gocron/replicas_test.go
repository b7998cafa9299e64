package leasegocron_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"

	leasegocron "github.com/leasehold-go/leasehold/adapters/gocron"
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// interval is that of the jobs of these tests.
const interval = time.Second

// A hostClock is the clock of a host: ahead of the others by so much.
type hostClock struct {
	clockwork.Clock
	ahead time.Duration
}

func (c hostClock) Now() time.Time                  { return c.Clock.Now().Add(c.ahead) }
func (c hostClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c hostClock) Until(t time.Time) time.Duration { return t.Sub(c.Now()) }

// A run is one of a job.
type run struct {
	host int
	tick int64 // the second of the host's clock
}

// A ledger is where the runs of all hosts are written.
type ledger struct {
	mu   sync.Mutex
	runs []run
}

func (l *ledger) add(r run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, r)
}

func (l *ledger) all() []run {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.runs)
}

// once fails the test if a tick from the first to the last has not run once.
func once(t *testing.T, runs []run, want int) {
	t.Helper()
	if len(runs) != want {
		t.Errorf("%d runs, want %d", len(runs), want)
	}
	for i, r := range runs[min(1, len(runs)):] {
		if r.tick != runs[i].tick+1 {
			t.Errorf("host %d ran the tick %d after host %d had run %d", r.host, r.tick, runs[i].host, runs[i].tick)
		}
	}
}

// A replica is one process of several.
type replica struct {
	sup    *supervisor.Supervisor
	locker *leasegocron.Locker
	s      gocron.Scheduler
}

// config is that of a supervisor whose jobs are due each second.
func config(conns []node.Conn, host int) supervisor.Config {
	return supervisor.Config{
		Nodes: conns, Owner: fmt.Sprintf("host-%d", host), Clock: clock.Runtime(),
		TTL: 600 * time.Millisecond, MaxTTLCap: 600 * time.Millisecond,
		RetryMin: 10 * time.Millisecond, RetryMax: 30 * time.Millisecond,
	}
}

// start starts a replica whose host's clock is ahead.
func start(t *testing.T, conns []node.Conn, host int, ahead time.Duration, option func(*supervisor.Supervisor, *leasegocron.Locker) gocron.SchedulerOption) *replica {
	t.Helper()
	sup, err := supervisor.New(config(conns, host))
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{sup: sup}
	if r.locker, err = leasegocron.NewLocker(sup, leasegocron.Config{Period: interval * 3 / 4}); err != nil {
		t.Fatal(err)
	}
	its := hostClock{clockwork.NewRealClock(), ahead}
	if r.s, err = gocron.NewScheduler(gocron.WithClock(its), option(sup, r.locker)); err != nil {
		t.Fatal(err)
	}
	return r
}

// locked has the ticks run once by the locker.
func locked(_ *supervisor.Supervisor, l *leasegocron.Locker) gocron.SchedulerOption {
	return gocron.WithDistributedLocker(l)
}

// job adds a job that is due at each second of the host's clock.
func (r *replica) job(t *testing.T, task gocron.Task, opts ...gocron.JobOption) {
	t.Helper()
	_, err := r.s.NewJob(gocron.CronJob("* * * * * *", true), task, append(opts, gocron.WithName("report"))...)
	if err != nil {
		t.Fatal(err)
	}
}

func (r *replica) close(t *testing.T) {
	t.Helper()
	if err := r.s.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := r.sup.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// bubble runs a test on three nodes in memory, in a bubble of its own time.
func bubble(t *testing.T, f func(t *testing.T, nodes []*nodetest.Node)) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		f(t, nodes)
		for _, n := range nodes {
			n.Close()
		}
	})
}

// startAll starts three replicas whose hosts' clocks are so far apart, each with a job that writes
// its runs.
func startAll(t *testing.T, conns []node.Conn, apart time.Duration, runs *ledger, option func(*supervisor.Supervisor, *leasegocron.Locker) gocron.SchedulerOption, opts ...gocron.JobOption) []*replica {
	t.Helper()
	all := make([]*replica, 3)
	for host := range all {
		ahead := time.Duration(host) * apart
		all[host] = start(t, conns, host, ahead, option)
		all[host].job(t, gocron.NewTask(func() {
			runs.add(run{host, time.Now().Add(ahead).Unix()})
		}), opts...)
	}
	for _, r := range all {
		r.s.Start()
	}
	return all
}

func closeAll(t *testing.T, all []*replica) {
	t.Helper()
	for _, r := range all {
		r.close(t)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
