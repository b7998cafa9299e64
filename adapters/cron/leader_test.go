package leasecron_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	leasecron "github.com/leasehold-go/leasehold/adapters/cron"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A led is a replica whose cron runs while it leads.
type led struct {
	*replica
	leader *leasecron.Leader
	over   chan error // what Run has returned
}

// lead starts a replica and has its leader stand, with the jobs that add adds.
func lead(t *testing.T, ctx context.Context, nodes []*nodetest.Node, host int, add func(l *led)) *led {
	t.Helper()
	l := &led{replica: start(t, ctx, nodetest.Conns(nodes), host), over: make(chan error, 1)}
	l.leader = leasecron.NewLeader(l.sup, "scheduler", l.cron, l.log, supervisor.WithCoolDown(interval))
	add(l)
	go func() { l.over <- l.leader.Run(ctx) }()
	return l
}

// One of three replicas runs all ticks, each once. If it steps down, or ends, another does.
func TestOneLeads(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		var runs ledger
		all, stop := make([]*led, 3), make([]func(), 3)
		for host := range all {
			var ctx context.Context
			ctx, stop[host] = context.WithCancel(t.Context())
			all[host] = lead(t, ctx, nodes, host, func(l *led) {
				l.cron.Schedule(each(0), l.leader.Func(func(ctx context.Context) error {
					if !lease.FromContext(ctx).Valid() {
						t.Error("it runs without a lease")
					}
					runs.add(run{host, time.Now().Unix()})
					return nil
				}))
			})
		}
		led := make(map[int]bool)
		next := func() int {
			t.Helper()
			time.Sleep(10 * interval)
			host := runs.all()[len(runs.all())-1].host
			if led[host] || !all[host].sup.Leading("scheduler") {
				t.Errorf("host %d leads, and before %v", host, led)
			}
			led[host] = true
			return host
		}
		if err := all[next()].sup.StepDown(t.Context(), "scheduler"); err != nil {
			t.Error(err)
		}
		stop[next()]()
		time.Sleep(10 * interval)
		for host, l := range all {
			stop[host]()
			if err := <-l.over; !errors.Is(err, context.Canceled) {
				t.Errorf("Run of host %d has returned %v", host, err)
			}
			l.close(t)
		}
		once(t, runs.all(), 30)
	})
}

// After a loss no job begins, and the leader stands again when those that run have returned.
func TestLossStopsTheCron(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var begun atomic.Int32
		ended := make(chan error, 10)
		l := lead(t, ctx, nodes, 0, func(l *led) {
			l.cron.Schedule(each(0), cron.NewChain(cron.SkipIfStillRunning(cron.DiscardLogger)).Then(
				l.leader.Func(func(ctx context.Context) error {
					begun.Add(1)
					<-ctx.Done()
					time.Sleep(3 * interval)
					ended <- context.Cause(ctx)
					return nil
				})))
		})
		time.Sleep(2 * interval)
		for _, n := range nodes {
			n.Hang()
		}
		time.Sleep(interval)
		for _, n := range nodes {
			n.Resume()
		}
		time.Sleep(interval)
		if l.sup.Leading("scheduler") {
			t.Error("it leads again while a job is running")
		}
		if err := <-ended; !errors.Is(err, lease.ErrExpired) {
			t.Errorf("the context ended by %v", err)
		}
		if n := begun.Load(); n != 1 {
			t.Errorf("%d jobs have begun, want 1", n)
		}
		time.Sleep(4 * interval)
		if errs, _ := l.log.told(); len(errs) != 1 || !errors.Is(errs[0], lease.ErrLost) {
			t.Errorf("told %v", errs)
		}
		if n := begun.Load(); n != 2 || !l.sup.Leading("scheduler") {
			t.Errorf("%d jobs have begun, want 2", n)
		}
		// The name is not given back before the second one has returned.
		stop()
		time.Sleep(2 * interval)
		if !l.sup.Leading("scheduler") {
			t.Error("the name is given back while a job is running")
		}
		if err := <-l.over; !errors.Is(err, context.Canceled) {
			t.Errorf("Run has returned %v", err)
		}
		// A job that begins late, after its cron was stopped, does not run.
		l.leader.Func(func(context.Context) error {
			t.Error("it runs without a leader")
			return nil
		}).Run()
		l.close(t)
	})
}

// Run says what is wrong, and that the supervisor was closed.
func TestRunFails(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		l := lead(t, t.Context(), nodes, 0, func(*led) {})
		if err := leasecron.NewLeader(nil, "scheduler", l.cron, nil).Run(t.Context()); err == nil {
			t.Error("it runs without a supervisor")
		}
		if err := leasecron.NewLeader(l.sup, "other", cron.New(), nil, supervisor.WithOwner("")).Run(t.Context()); err == nil {
			t.Error("it runs with a wrong option")
		}
		time.Sleep(interval)
		if err := l.sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-l.over; !errors.Is(err, supervisor.ErrClosed) {
			t.Errorf("Run has returned %v", err)
		}
	})
}
