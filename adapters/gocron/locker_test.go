package leasegocron_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	leasegocron "github.com/leasehold-go/leasehold/adapters/gocron"
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
				time.Sleep(interval / 10) // no host is due at the beginning
				var runs ledger
				all := startAll(t, nodetest.Conns(nodes), apart, &runs, locked)
				time.Sleep(ticks * interval)
				closeAll(t, all)
				once(t, runs.all(), ticks)
			})
		})
	}
}

// If the process that runs the ticks dies, another runs the next one.
func TestTickRunsOnceAfterADeath(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		time.Sleep(interval / 10)
		var runs ledger
		all := startAll(t, nodetest.Conns(nodes), interval/20, &runs, locked)
		time.Sleep(10 * interval)
		died := runs.all()[9].host
		all[died].sup.Close(canceled()) // no node is told
		if err := all[died].s.Shutdown(); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * interval)
		for host, r := range all {
			if host != died {
				r.close(t)
			}
		}
		once(t, runs.all(), 20)
		if last := runs.all()[19].host; last == died {
			t.Errorf("host %d runs on", died)
		}
	})
}

// While no quorum of nodes answers no tick runs, and gocron is told why. After that they go on, and
// none has run twice.
func TestTicksWithoutNodes(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		time.Sleep(interval / 10)
		var runs ledger
		var unknown, held atomic.Int32
		all := startAll(t, nodetest.Conns(nodes), 0, &runs, locked, gocron.WithEventListeners(
			gocron.AfterLockError(func(_ uuid.UUID, name string, err error) {
				switch {
				case name != "report":
					t.Errorf("told of a job %q", name)
				case errors.Is(err, supervisor.ErrNoQuorum) && errors.Is(err, context.DeadlineExceeded):
					unknown.Add(1)
				case errors.Is(err, supervisor.ErrHeld):
					held.Add(1)
				default:
					t.Errorf("told %v", err)
				}
			})))
		time.Sleep(5 * interval)
		nodes[0].Crash()
		nodes[1].Crash()
		time.Sleep(5*interval + interval/2)
		if n := len(runs.all()); n != 5 {
			t.Errorf("%d runs, want 5", n)
		}
		if h, u := held.Load(), unknown.Load(); h != 10 || u != 15 { // on two of three hosts, and on all of them, five times each
			t.Errorf("told %d times that the name is held, and %d times that there is no quorum", h, u)
		}
		nodes[0].Recover()
		nodes[1].Recover()
		time.Sleep(5 * interval)
		closeAll(t, all)
		list := runs.all()
		if len(list) < 8 {
			t.Fatalf("%d runs, want 8 or more: %v", len(list), list)
		}
		once(t, list[:5], 5)
		once(t, list[5:], len(list)-5)
	})
}

// A lease that is lost ends the context of the run, and gocron is told of the loss, also if the
// function returns nil.
func TestLossEndsTheContext(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		time.Sleep(interval / 10)
		r := start(t, nodetest.Conns(nodes), 0, 0, locked)
		var cause, told error
		r.job(t, r.locker.Task("report", func(ctx context.Context) error {
			if lease.FromContext(ctx).Fence() == 0 {
				t.Error("no fence")
			}
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil
		}), gocron.WithEventListeners(gocron.AfterJobRunsWithError(func(_ uuid.UUID, _ string, err error) { told = err })))
		r.s.Start()
		time.Sleep(interval)
		for _, n := range nodes {
			n.Hang()
		}
		time.Sleep(interval)
		for _, n := range nodes {
			n.Resume()
		}
		r.close(t)
		if !errors.Is(cause, lease.ErrExpired) || !errors.Is(told, lease.ErrExpired) {
			t.Errorf("the context ended by %v, and gocron was told %v", cause, told)
		}
	})
}

// The end of gocron ends the context of a run, and the name stays with the run until it has
// returned.
func TestShutdownEndsTheContext(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		time.Sleep(interval / 10)
		r, other := start(t, nodetest.Conns(nodes), 0, 0, locked), start(t, nodetest.Conns(nodes), 1, 0, locked)
		r.job(t, r.locker.Task("report", func(ctx context.Context) error {
			<-ctx.Done()
			if _, err := other.locker.Lock(context.Background(), "report"); !errors.Is(err, supervisor.ErrHeld) {
				t.Errorf("another locks the name of a run: %v", err)
			}
			return context.Cause(ctx)
		}))
		r.s.Start()
		time.Sleep(3 * interval)
		r.close(t)
		l, err := other.locker.Lock(t.Context(), "report")
		if err != nil {
			t.Errorf("after the run: %v", err)
		} else if err := l.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		other.close(t)
	})
}

// What Lock and Unlock say.
func TestLock(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		r := start(t, nodetest.Conns(nodes), 0, 0, locked)
		lock := func(ctx context.Context, name string, want error) gocron.Lock {
			t.Helper()
			l, err := r.locker.Lock(ctx, name)
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("lock %.10q: %v, want %v", name, err, want)
			}
			if err != nil && !strings.Contains(err.Error(), "job ") {
				t.Errorf("%v names no job", err)
			}
			return l
		}
		l := lock(t.Context(), "a", nil)
		lock(t.Context(), "a", supervisor.ErrHeld) // this process has it
		time.Sleep(2 * interval)
		lock(t.Context(), "a", supervisor.ErrHeld) // a run may be longer than its period
		for range 2 {
			if err := l.Unlock(t.Context()); err != nil {
				t.Error(err)
			}
		}
		begun := time.Now()
		if err := lock(t.Context(), "a", nil).Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		lock(t.Context(), "a", supervisor.ErrHeld)
		time.Sleep(interval*3/4 - time.Since(begun) + 2*time.Millisecond)
		l = lock(t.Context(), "a", nil)
		if err := l.Unlock(canceled()); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		lock(canceled(), "b", context.Canceled)
		if l := lock(t.Context(), "b", nil); l != nil { // with an error nothing was left behind
			l.Unlock(t.Context())
		}
		if _, err := r.locker.Lock(t.Context(), strings.Repeat("x", 513)); err == nil {
			t.Error("a name that is too long is locked")
		}
		r.close(t)
		lock(t.Context(), "c", supervisor.ErrClosed)
	})
}

// A function whose job has another name than its task, or another locker, does not run.
func TestTaskWithoutItsLock(t *testing.T) {
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		r := start(t, nodetest.Conns(nodes), 0, 0, locked)
		var told error
		r.job(t, r.locker.Task("another", func(context.Context) error {
			t.Error("it runs")
			return nil
		}), gocron.WithEventListeners(gocron.AfterJobRunsWithError(func(_ uuid.UUID, _ string, err error) { told = err })))
		r.s.Start()
		time.Sleep(2 * interval)
		r.close(t)
		if told == nil || !strings.Contains(told.Error(), `job "another" is not locked`) {
			t.Errorf("told %v", told)
		}
	})
}

func TestWrongConfig(t *testing.T) {
	for what, cfg := range map[string]leasegocron.Config{
		"Period 0s":      {},
		"Period -1s":     {Period: -time.Second},
		"Wait -1s":       {Period: time.Second, Wait: -time.Second},
		"Wait 2s":        {Period: time.Second, Wait: 2 * time.Second},
		"want a supervi": {Period: time.Second},
	} {
		if _, err := leasegocron.NewLocker(nil, cfg); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want %q", cfg, err, what)
		}
	}
}
