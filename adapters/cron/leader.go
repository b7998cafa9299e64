package leasecron

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/robfig/cron/v3"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A Leader runs a cron for as long as this process leads, and no longer. Its methods may be called
// from any goroutine.
//
// When the leader changes, a tick that the former one has run may be run by the next one too, if
// its clock is behind, and a tick may be lost, if none leads when it is due. A job whose ticks must
// not run twice is one of a [Once], with a name of its own. Such jobs may be given to the cron of a
// Leader.
type Leader struct {
	sup    *supervisor.Supervisor
	name   string
	cron   *cron.Cron
	logger cron.Logger
	opts   []supervisor.Option

	mu    sync.Mutex
	leads context.Context // that of the tenure, while this process leads; else nil
}

// NewLeader returns a leader for a cron that nothing else starts. The logger gets the errors of
// functions and the leases that were lost while they ran; nil means cron.DefaultLogger. The options
// are those of [supervisor.Supervisor.Lead]; they are checked by Run.
func NewLeader(sup *supervisor.Supervisor, name string, c *cron.Cron, logger cron.Logger, opts ...supervisor.Option) *Leader {
	if logger == nil {
		logger = cron.DefaultLogger
	}
	return &Leader{sup: sup, name: name, cron: c, logger: logger, opts: opts}
}

// Run waits until this process leads, runs the cron, and stops it when the lease ends or ctx is
// done. Then it waits for the jobs that are running, and gives the name back. After a loss it is a
// candidate again. After [supervisor.Supervisor.StepDown] it is one if WithCoolDown is among the
// options.
//
// Run returns when ctx is done, with an error that wraps ctx's, and otherwise as Lead does: if the
// supervisor was closed, if an argument is wrong, or with nil if the lease was released.
func (l *Leader) Run(ctx context.Context) error {
	if l.sup == nil || l.cron == nil {
		return errors.New("leasecron: want a supervisor and a cron, not nil")
	}
	return l.sup.Lead(ctx, l.name, func(leads context.Context) error {
		l.set(leads)
		l.cron.Start()
		<-leads.Done()
		stopped := l.cron.Stop() // no job begins any more
		l.set(noTenure)
		<-stopped.Done()
		return ctx.Err()
	}, l.opts...)
}

// noTenure is the context of a process that does not lead.
var noTenure context.Context

func (l *Leader) set(leads context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leads = leads
}

// Func returns a job for the cron of the leader. It runs fn with a context that ends with the
// lease, and with that of Run; lease.FromContext takes the lease from it. If the lease is over when
// the run begins, fn does not run.
func (l *Leader) Func(fn func(ctx context.Context) error) cron.Job {
	return cron.FuncJob(func() {
		l.mu.Lock()
		leads := l.leads
		l.mu.Unlock()
		if leads == nil || leads.Err() != nil || !lease.FromContext(leads).Valid() {
			l.logger.Info("tick skipped: this process does not lead", "name", l.name)
			return
		}
		err := fn(leads)
		if ended := lease.FromContext(leads).Err(); errors.Is(ended, lease.ErrLost) {
			err = errors.Join(err, ended)
		}
		if err != nil {
			l.logger.Error(fmt.Errorf("job of the leader of %q: %w", l.name, err), "job failed")
		}
	})
}
