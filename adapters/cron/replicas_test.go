package leasecron_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/robfig/cron/v3"

	leasecron "github.com/leasehold-go/leasehold/adapters/cron"
	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// interval is that of the jobs of these tests.
const interval = time.Second

// A hostSchedule is one on a host whose clock is ahead.
type hostSchedule struct {
	cron.Schedule
	ahead time.Duration
}

func (s hostSchedule) Next(t time.Time) time.Time {
	return s.Schedule.Next(t.Add(s.ahead)).Add(-s.ahead)
}

// each is a schedule that is due at each second of a host's clock.
func each(ahead time.Duration) cron.Schedule { return hostSchedule{cron.Every(interval), ahead} }

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
	sup  *supervisor.Supervisor
	cron *cron.Cron
	once *leasecron.Once
	log  *logger
}

// start starts a replica whose cron has no jobs yet.
func start(t *testing.T, ctx context.Context, conns []node.Conn, host int) *replica {
	t.Helper()
	sup, err := supervisor.New(supervisor.Config{
		Nodes: conns, Owner: fmt.Sprintf("host-%d", host), Clock: clock.Runtime(),
		TTL: 600 * time.Millisecond, MaxTTLCap: 600 * time.Millisecond,
		RetryMin: 10 * time.Millisecond, RetryMax: 30 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{sup: sup, cron: cron.New(), log: new(logger)}
	if r.once, err = leasecron.NewOnce(ctx, sup, leasecron.Config{Period: interval * 3 / 4, Logger: r.log}); err != nil {
		t.Fatal(err)
	}
	return r
}

// startAll starts three replicas whose hosts' clocks are so far apart, each with a job that writes
// its runs.
func startAll(t *testing.T, conns []node.Conn, apart time.Duration, runs *ledger) []*replica {
	t.Helper()
	all := make([]*replica, 3)
	for host := range all {
		ahead := time.Duration(host) * apart
		r := start(t, context.Background(), conns, host)
		write := cron.FuncJob(func() { runs.add(run{host, time.Now().Add(ahead).Unix()}) })
		r.cron.Schedule(each(ahead), cron.NewChain(r.once.Wrapper("report")).Then(write))
		all[host] = r
	}
	for _, r := range all {
		r.cron.Start()
	}
	return all
}

func (r *replica) close(t *testing.T) {
	t.Helper()
	<-r.cron.Stop().Done()
	if err := r.sup.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// bubble runs a test on three nodes in memory, in a bubble of its own time.
func bubble(t *testing.T, f func(t *testing.T, nodes []*nodetest.Node)) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.Start(3)
		time.Sleep(interval / 10) // no host is due at the beginning
		f(t, nodes)
		for _, n := range nodes {
			n.Close()
		}
	})
}

// A logger keeps what it is told.
type logger struct {
	mu     sync.Mutex
	errors []error
	infos  []string
}

func (l *logger) Info(msg string, _ ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.infos = append(l.infos, msg)
}

func (l *logger) Error(err error, _ string, _ ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors = append(l.errors, err)
}

func (l *logger) told() (errors []error, infos []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errors), slices.Clone(l.infos)
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
