package leasegocron_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	leasegocron "github.com/leasehold-go/leasehold/adapters/gocron"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// elected has the jobs run by the one that leads, and returns the electors in their order.
func elected(t *testing.T, all *[]*leasegocron.Elector) func(*supervisor.Supervisor, *leasegocron.Locker) gocron.SchedulerOption {
	return func(sup *supervisor.Supervisor, _ *leasegocron.Locker) gocron.SchedulerOption {
		e, err := leasegocron.NewElector(sup, "scheduler")
		if err != nil {
			t.Fatal(err)
		}
		*all = append(*all, e)
		return gocron.WithDistributedElector(e)
	}
}

// One of three replicas runs all ticks, each once. If it steps down, or closes its elector, another
// does.
func TestOneLeads(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		time.Sleep(interval / 10)
		var runs ledger
		var electors []*leasegocron.Elector
		all := startAll(t, nodetest.Conns(nodes), 0, &runs, elected(t, &electors))
		led := make(map[int]bool)
		next := func(end func(host int)) {
			t.Helper()
			time.Sleep(10 * interval)
			host, leaders := runs.all()[len(runs.all())-1].host, 0
			for h, e := range electors {
				switch err := e.IsLeader(t.Context()); {
				case err == nil:
					leaders++
					if h != host {
						t.Errorf("host %d leads, and host %d runs the jobs", h, host)
					}
				case !strings.Contains(err.Error(), "scheduler"):
					t.Errorf("%v names no name", err)
				}
			}
			if leaders != 1 || led[host] {
				t.Errorf("%d leaders, host %d, and before %v", leaders, host, led)
			}
			led[host] = true
			end(host)
		}
		next(func(host int) {
			if err := all[host].sup.StepDown(t.Context(), "scheduler"); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond) // longer than a hand-over, and less than to the next tick
		})
		next(func(host int) {
			if err := electors[host].Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(10 * interval)
		for _, e := range electors {
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		closeAll(t, all)
		once(t, runs.all(), 30)
	})
}

// The context of a function ends with the lease, with gocron and with Close; and Close keeps the
// name until the function has returned.
func TestElectorsTask(t *testing.T) {
	for what, end := range map[string]struct {
		do  func(t *testing.T, r *replica, e *leasegocron.Elector, nodes []*nodetest.Node, may func())
		why error
	}{
		"the lease is lost": {func(_ *testing.T, _ *replica, _ *leasegocron.Elector, nodes []*nodetest.Node, may func()) {
			nodes[0].Crash()
			nodes[1].Crash()
			time.Sleep(interval)
			may()
		}, lease.ErrExpired},
		"gocron ends": {func(t *testing.T, r *replica, _ *leasegocron.Elector, _ []*nodetest.Node, may func()) {
			may() // gocron spins until its jobs have returned, and time stands still in a bubble meanwhile
			if err := r.s.StopJobs(); err != nil {
				t.Error(err)
			}
		}, context.Canceled},
		"the elector is closed": {func(t *testing.T, r *replica, e *leasegocron.Elector, _ []*nodetest.Node, may func()) {
			if err := e.Close(canceled()); !errors.Is(err, context.Canceled) {
				t.Errorf("Close does not wait for the function: %v", err)
			}
			if !r.sup.Leading("scheduler") {
				t.Error("the name is given back before the function has returned")
			}
			may()
		}, context.Canceled},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
				var electors []*leasegocron.Elector
				r := start(t, nodetest.Conns(nodes), 0, 0, elected(t, &electors))
				e := electors[0]
				ended := make(chan error, 10)
				told := make(chan error, 10)
				may := make(chan struct{}) // closed when functions may return
				r.job(t, e.Task(func(ctx context.Context) error {
					if lease.FromContext(ctx).Fence() == 0 {
						t.Error("no fence")
					}
					<-ctx.Done()
					<-may
					ended <- context.Cause(ctx)
					return nil
				}), gocron.WithSingletonMode(gocron.LimitModeReschedule),
					gocron.WithEventListeners(gocron.AfterJobRunsWithError(func(_ uuid.UUID, _ string, err error) { told <- err })))
				r.s.Start()
				time.Sleep(3 * interval)
				end.do(t, r, e, nodes, func() { close(may) })
				if err := <-ended; !errors.Is(err, end.why) {
					t.Errorf("the context ended by %v, want %v", err, end.why)
				}
				if end.why == lease.ErrExpired {
					if err := <-told; !errors.Is(err, lease.ErrExpired) {
						t.Errorf("gocron was told %v", err)
					}
				}
				r.s.Shutdown()
				if err := e.Close(context.Background()); err != nil {
					t.Error(err)
				}
				r.sup.Close(canceled())
				if err := e.IsLeader(t.Context()); err == nil {
					t.Error("it leads after Close")
				}
			})
		})
	}
}

// An elector that can lead no more says why.
func TestElectorThatEnds(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		sup, err := supervisor.New(config(nodetest.Conns(nodes), 0))
		if err != nil {
			t.Fatal(err)
		}
		wrong, err := leasegocron.NewElector(sup, "scheduler", supervisor.WithOwner(""))
		if err != nil {
			t.Fatal(err)
		}
		e, err := leasegocron.NewElector(sup, "scheduler")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(interval)
		if err := wrong.IsLeader(t.Context()); err == nil || !strings.Contains(err.Error(), "WithOwner") {
			t.Errorf("with a wrong option: %v", err)
		}
		if err := e.IsLeader(t.Context()); err != nil {
			t.Error(err)
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(interval)
		if err := e.IsLeader(t.Context()); !errors.Is(err, supervisor.ErrClosed) {
			t.Errorf("with a closed supervisor: %v", err)
		}
		for _, e := range []*leasegocron.Elector{wrong, e} {
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := leasegocron.NewElector(nil, "scheduler"); err == nil {
		t.Error("an elector without a supervisor")
	}
}
