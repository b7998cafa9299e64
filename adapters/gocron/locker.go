package leasegocron

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config configures a [Locker].
type Config struct {
	// Period is how long a job's name stays taken after its run began. Hosts may be apart by less
	// than that. It must be set, and be shorter than the interval of the job: see the package
	// comment.
	Period time.Duration

	// Wait is how long Lock tries to find out whether another process runs the tick, if nodes are
	// down or young. A tick may begin late by as much. After that it is skipped. It is at most
	// Period. Default: a quarter of Period, and at most a minute.
	Wait time.Duration

	// Options are given to [supervisor.Supervisor.Once]: WithTTL, WithOwner, WithMaxHold,
	// WithoutRenewal. A process that dies keeps the name for the TTL, if that is more than Period.
	Options []supervisor.Option
}

// A Locker is a gocron.Locker: give it to gocron.WithDistributedLocker for all jobs of a scheduler,
// or to gocron.WithDistributedJobLocker for one of them, if their intervals differ. Its methods may
// be called from any goroutine.
type Locker struct {
	sup *supervisor.Supervisor
	cfg Config

	mu   sync.Mutex
	held map[string]*lease.Lease // by the names of jobs that are running
}

// NewLocker returns a locker. It asks no node. An error is about the configuration.
func NewLocker(sup *supervisor.Supervisor, cfg Config) (*Locker, error) {
	if cfg.Wait == 0 {
		cfg.Wait = min(cfg.Period/4, time.Minute)
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
		return nil, fmt.Errorf("leasegocron: %s", strings.Join(wrong, "\n"))
	}
	return &Locker{sup: sup, cfg: cfg, held: make(map[string]*lease.Lease)}, nil
}

// Lock acquires the name of a job for one run. gocron calls it when the job is due, and runs the
// job if the error is nil. If another process runs the job, or has run it within the period, the
// error wraps [supervisor.ErrHeld]. If too few nodes could be reached within Config.Wait it wraps
// [supervisor.ErrNoQuorum]. In both cases gocron skips the tick. The name is 1 to 512 bytes, the
// prefix of the supervisor included. gocron's default is the name of the function, so give jobs
// names.
func (l *Locker) Lock(ctx context.Context, name string) (gocron.Lock, error) {
	wait, cancel := context.WithTimeout(ctx, l.cfg.Wait)
	k := &lock{unlock: make(chan struct{}), over: make(chan struct{})}
	won := make(chan struct{})
	// gocron wants a lock and not a function. Once is called all the same: if several processes
	// come at the same moment and none of them wins, only Once tries again, and it tells that from
	// a name that is taken.
	go func() {
		defer close(k.over)
		defer cancel()
		_, k.err = l.sup.Once(wait, name, l.cfg.Period, func(ctx context.Context) error {
			held := lease.FromContext(ctx)
			l.begin(name, held)
			defer l.end(name)
			close(won)
			<-k.unlock
			return nil
		}, l.cfg.Options...)
	}()
	select {
	case <-won:
		return k, nil
	case <-k.over:
	}
	if k.err == nil {
		return nil, fmt.Errorf("job %q: another process runs it, or has run it within the last %v: %w", name, l.cfg.Period, supervisor.ErrHeld)
	}
	return nil, fmt.Errorf("job %q: not known within %v whether another process runs it: %w", name, l.cfg.Wait, k.err)
}

func (l *Locker) begin(name string, held *lease.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[name] = held
}

func (l *Locker) end(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, name)
}

func (l *Locker) lease(name string) *lease.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[name]
}

// Task returns a task for a job that has the given name, see gocron.WithName. It runs fn with a
// context that ends with the lease of the run, and with gocron's context; lease.FromContext takes
// the lease from it. If the lease was lost meanwhile, the error of the run wraps lease.ErrLost as
// well, also if fn returned nil. If gocron has not locked the name by this locker, fn does not run,
// which is an error of the run.
func (l *Locker) Task(name string, fn func(ctx context.Context) error) gocron.Task {
	return gocron.NewTask(func(ctx context.Context) error {
		held := l.lease(name)
		if held == nil {
			return fmt.Errorf("job %q is not locked by this locker: give the job the same name, and the locker to gocron", name)
		}
		return under(ctx, held, fn)
	})
}

// under runs fn under a lease.
func under(ctx context.Context, held *lease.Lease, fn func(context.Context) error) error {
	err := fn(held.Context(ctx))
	if ended := held.Err(); errors.Is(ended, lease.ErrLost) {
		return errors.Join(err, ended)
	}
	return err
}

// A lock is a job's name while the job runs.
type lock struct {
	once   sync.Once
	unlock chan struct{}
	over   chan struct{} // closed when Once has returned
	err    error         // of Once, after that
}

// Unlock ends the lease of the run, and leaves the name taken until the period is over. It waits
// for the nodes, until ctx is done or Config.Wait has passed since Lock was called. An error asks
// nothing of the caller; it wraps lease.ErrLost if the lease was lost during the run.
func (k *lock) Unlock(ctx context.Context) error {
	k.once.Do(func() { close(k.unlock) })
	select {
	case <-k.over:
		return k.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
