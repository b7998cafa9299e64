package leasecron_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	leasecron "github.com/leasehold-go/leasehold/adapters/cron"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A tick runs once in three replicas, however far the clocks of their hosts are apart within the
// period, also if all are due at the same moment.
func TestTickRunsOnce(t *testing.T) {
	for what, apart := range map[string]time.Duration{
		"0":      0,
		"1 ms":   time.Millisecond,
		"0.1 s":  100 * time.Millisecond,
		"0.25 s": 250 * time.Millisecond,
	} {
		t.Run(what+" apart", func(t *testing.T) {
			bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
				const ticks = 60
				var runs ledger
				all := startAll(t, nodetest.Conns(nodes), apart, &runs)
				time.Sleep(ticks * interval)
				for _, r := range all {
					r.close(t)
				}
				once(t, runs.all(), ticks)
				skipped := 0
				for _, r := range all {
					errs, infos := r.log.told()
					if skipped += len(infos); len(errs) > 0 {
						t.Errorf("errors: %v", errs)
					}
				}
				if skipped < 2*ticks {
					t.Errorf("told of %d ticks that another runs, want %d", skipped, 2*ticks)
				}
			})
		})
	}
}

// If the process that runs the ticks dies, another runs the next one.
func TestTickRunsOnceAfterADeath(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		var runs ledger
		all := startAll(t, nodetest.Conns(nodes), interval/20, &runs)
		time.Sleep(10 * interval)
		died := runs.all()[9].host
		all[died].sup.Close(canceled()) // no node is told
		all[died].cron.Stop()
		time.Sleep(10 * interval)
		for host, r := range all {
			if host != died {
				r.close(t)
			}
		}
		once(t, runs.all(), 20)
	})
}

// While no quorum of nodes answers no tick runs, and the logger is told why.
func TestTicksWithoutNodes(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		var runs ledger
		all := startAll(t, nodetest.Conns(nodes), 0, &runs)
		time.Sleep(5 * interval)
		nodes[0].Crash()
		nodes[1].Crash()
		time.Sleep(5*interval + interval/2)
		if n := len(runs.all()); n != 5 {
			t.Errorf("%d runs, want 5", n)
		}
		for host, r := range all {
			errs, _ := r.log.told()
			if len(errs) != 5 {
				t.Errorf("host %d was told of %d errors, want 5", host, len(errs))
			}
			for _, err := range errs {
				if !errors.Is(err, supervisor.ErrNoQuorum) {
					t.Errorf("host %d was told %v", host, err)
				}
			}
		}
		nodes[0].Recover()
		nodes[1].Recover()
		time.Sleep(5 * interval)
		for _, r := range all {
			r.close(t)
		}
		list := runs.all()
		if len(list) < 8 {
			t.Fatalf("%d runs, want 8 or more: %v", len(list), list)
		}
		once(t, list[:5], 5)
		once(t, list[5:], len(list)-5)
	})
}

// The context of a function ends with its lease and with that of NewOnce, but not with the waiting.
func TestFunctionsContext(t *testing.T) {
	for what, end := range map[string]struct {
		do  func(stop func(), nodes []*nodetest.Node)
		why error
	}{
		"the lease is lost": {func(_ func(), nodes []*nodetest.Node) {
			nodes[0].Crash()
			nodes[1].Crash()
		}, lease.ErrExpired},
		"the context is done": {func(stop func(), _ []*nodetest.Node) { stop() }, context.Canceled},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				r := start(t, ctx, nodetest.Conns(nodes), 0)
				ended := make(chan error, 10)
				r.cron.Schedule(each(0), r.once.Func("report", func(ctx context.Context) error {
					if lease.FromContext(ctx).Fence() == 0 {
						t.Error("no fence")
					}
					<-ctx.Done()
					ended <- context.Cause(ctx)
					return context.Cause(ctx)
				}))
				r.cron.Start()
				time.Sleep(5 * interval)
				select {
				case err := <-ended:
					t.Fatalf("the context has ended too soon: %v", err)
				default:
				}
				end.do(stop, nodes)
				if err := <-ended; !errors.Is(err, end.why) {
					t.Errorf("the context ended by %v, want %v", err, end.why)
				}
				<-r.cron.Stop().Done()
				errs, _ := r.log.told()
				if len(errs) == 0 || !errors.Is(errs[0], end.why) {
					t.Errorf("told %v, want %v", errs, end.why)
				}
				r.sup.Close(canceled())
			})
		})
	}
}

// A panic is cron's, and the tick has been run.
func TestPanic(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		r := start(t, t.Context(), nodetest.Conns(nodes), 0)
		chain := cron.NewChain(cron.Recover(r.log))
		chain.Then(r.once.Func("report", func(context.Context) error { panic("no") })).Run()
		chain.Then(r.once.Func("report", func(context.Context) error {
			t.Error("the tick runs again")
			return nil
		})).Run()
		errs, infos := r.log.told()
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), "no") || len(infos) != 1 {
			t.Errorf("told %v and %v", errs, infos)
		}
		r.close(t)
	})
}

func TestWrongConfig(t *testing.T) {
	for what, cfg := range map[string]leasecron.Config{
		"Period 0s":      {},
		"Period -1s":     {Period: -time.Second},
		"Wait -1s":       {Period: time.Second, Wait: -time.Second},
		"Wait 2s":        {Period: time.Second, Wait: 2 * time.Second},
		"want a supervi": {Period: time.Second},
	} {
		if _, err := leasecron.NewOnce(t.Context(), nil, cfg); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want %q", cfg, err, what)
		}
	}
}
