package leasecron

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config configures a [Once].
type Config struct {
	// Period is how long a job's name stays taken after its run began. Hosts may be apart by less
	// than that. It must be set, and be shorter than the interval of the job: see the package
	// comment.
	Period time.Duration

	// Wait is how long a run tries to find out whether another process runs the tick, if nodes are
	// down or young. A tick may begin late by as much. After that it is skipped. It is at most
	// Period. Default: a quarter of Period, and at most a minute.
	Wait time.Duration

	// Options are given to [supervisor.Supervisor.Once]: WithTTL, WithOwner, WithMaxHold,
	// WithoutRenewal. A process that dies keeps the name for the TTL, if that is more than Period.
	Options []supervisor.Option

	// Logger gets the errors of functions, leases that were lost, and ticks that were skipped
	// because too few nodes could be reached. At level info it gets the ticks that another process
	// runs. Default: cron.DefaultLogger, which writes the errors.
	Logger cron.Logger
}

// A Once makes jobs of which each tick is run by one process. One is for all jobs that have the
// same period. Its methods may be called from any goroutine.
type Once struct {
	ctx context.Context
	sup *supervisor.Supervisor
	cfg Config
}

// NewOnce returns a Once. It asks no node. When ctx is done the contexts of its functions are, and
// no run begins any more. An error is about the configuration.
func NewOnce(ctx context.Context, sup *supervisor.Supervisor, cfg Config) (*Once, error) {
	if cfg.Wait == 0 {
		cfg.Wait = min(cfg.Period/4, time.Minute)
	}
	if cfg.Logger == nil {
		cfg.Logger = cron.DefaultLogger
	}
	var wrong []string
	if sup == nil {
		wrong = append(wrong, "want a supervisor, not nil")
	}
	if cfg.Period <= 0 {
		wrong = append(wrong, fmt.Sprintf("Period %v: want more than 0", cfg.Period))
	}
	if cfg.Wait < 0 || cfg.Wait > max(cfg.Period, 0) {
		wrong = append(wrong, fmt.Sprintf("Wait %v: want more than 0 and at most Period = %v", cfg.Wait, cfg.Period))
	}
	if wrong != nil {
		return nil, fmt.Errorf("leasecron: %s", strings.Join(wrong, "\n"))
	}
	return &Once{ctx: ctx, sup: sup, cfg: cfg}, nil
}

// Func returns a job that runs fn if no other process runs the tick. The name is that of the job in
// all processes, 1 to 512 bytes, the prefix of the supervisor included; another job has another
// name. The context of fn ends with the lease of the run, and with that of NewOnce;
// lease.FromContext takes the lease from it. If fn panics, the name stays taken as if it had
// returned, and cron has the panic: see cron.Recover.
func (o *Once) Func(name string, fn func(ctx context.Context) error) cron.Job {
	return cron.FuncJob(func() { o.run(name, fn) })
}

// Wrapper returns a wrapper for one job, for a cron.Chain. Each job needs a name of its own, and a
// chain that is given to cron.WithChain wraps all jobs of a cron. So wrap one job with it:
//
//	c.AddJob(spec, cron.NewChain(once.Wrapper("report")).Then(job))
//
// The job is not told of the end of the lease: see [Once.Func].
func (o *Once) Wrapper(name string) cron.JobWrapper {
	return func(job cron.Job) cron.Job {
		return o.Func(name, func(context.Context) error {
			job.Run()
			return nil
		})
	}
}

func (o *Once) run(name string, fn func(context.Context) error) {
	wait, cancel := context.WithTimeout(o.ctx, o.cfg.Wait)
	defer cancel()
	ran, err := o.sup.Once(wait, name, o.cfg.Period, func(ctx context.Context) error {
		return fn(lease.FromContext(ctx).Context(o.ctx)) // the end of the waiting does not end the run
	}, o.cfg.Options...)
	switch {
	case ran && err != nil:
		o.cfg.Logger.Error(err, "job failed", "job", name)
	case ran:
	case err == nil:
		o.cfg.Logger.Info("tick skipped: another process runs it, or has run it", "job", name)
	case o.ctx.Err() != nil:
		o.cfg.Logger.Info("tick skipped at the end", "job", name)
	default:
		o.cfg.Logger.Error(err, "tick skipped: it is not known whether another process runs it", "job", name)
	}
}
