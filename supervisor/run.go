package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Do waits until name is held, as [Supervisor.Acquire] does, and runs fn. It gives the name back
// when fn has returned or panicked. fn's context ends with the lease and with ctx.
// [lease.FromContext] gets the lease, and with it the fence, from that context. If fn did not run,
// Do returns the error of Acquire, otherwise fn's error. If the lease was lost meanwhile, the error
// wraps lease.ErrLost as well, even if fn returned nil. At its end Do waits for the nodes as
// Release does with ctx. It is no error if they have not confirmed by then that the name is free.
func (s *Supervisor) Do(ctx context.Context, name string, fn func(ctx context.Context) error, opts ...Option) error {
	if fn == nil {
		return fmt.Errorf("do %q: want a function, not nil", s.cfg.Prefix+name)
	}
	r, err := s.request(callDo, name, opts)
	if err != nil {
		return err
	}
	held, err := s.acquire(ctx, r.of(s.cfg.Prefix+name))
	if err != nil {
		return err
	}
	err, ended := under(ctx, held, fn)
	return errors.Join(err, loss(ended))
}

// Once runs fn if no process has run it under name within the last period, and reports whether it
// did. It returns false and nil if another has run it, or is running it now. So many processes may
// call Once at the same moment, each by a timer of its own, and one of them runs fn. The name is
// held while fn runs, as in [Supervisor.Do]. It stays taken until the period is over, even if the
// process dies, but then for the TTL at least: see [WithMinHold]. The period is more than 0, and at
// most 8760 h. It is counted from when the lease began, by steady clocks. Wall clocks do not
// matter: hosts whose clocks differ call Once at different moments, and one of them runs fn as long
// as these moments lie within the period.
//
// If fn fails or panics, the period is used up all the same. Once returns true and fn's error. If
// the lease was lost meanwhile, the error wraps lease.ErrLost as well, even if fn returned nil.
//
// If a timer calls Once, period must be shorter than the timer's interval, by more than a timer may
// be late: the name must be free again at the next tick.
//
// Once waits until it knows whether another process runs fn. It waits for nodes as Acquire does,
// until ctx is done. If ran is false, an error is one of Acquire, or about the arguments. If
// another process has the name, that is no error, and no [EventFailed]. Once does not take
// WithMinHold and WithAttempts.
func (s *Supervisor) Once(ctx context.Context, name string, period time.Duration, fn func(ctx context.Context) error, opts ...Option) (ran bool, err error) {
	if fn == nil {
		return false, fmt.Errorf("once %q: want a function, not nil", s.cfg.Prefix+name)
	}
	r, err := s.request(callOnce, name, opts)
	if period <= 0 || period > maxTime {
		err = errors.Join(err, fmt.Errorf("once: period %v: want more than 0 and at most %v", period, maxTime))
	}
	if err != nil {
		return false, err
	}
	q := r.of(s.cfg.Prefix + name)
	q.MinHold, q.Once, q.Attempts = period, true, 1
	for {
		held, err := s.acquireFor(ctx, q, true)
		if err == nil {
			err, ended := under(ctx, held, fn)
			return true, errors.Join(err, loss(ended))
		}
		var e *AcquireError
		switch {
		case errors.As(err, &e) && e.taken:
			return false, nil
		case ctx.Err() != nil || !errors.Is(err, ErrHeld) && !errors.Is(err, ErrNoQuorum):
			return false, err
		}
		// Several may have come at once, and none of them has won. Or the holder is not known.
		if s.cool(ctx, s.cfg.RetryMin+rand.N(s.cfg.RetryMax-s.cfg.RetryMin+1)); ctx.Err() != nil {
			return false, errors.Join(err, ctx.Err())
		}
	}
}

// Lead waits until name is held, and runs fn under the lease. When the lease is lost it waits for
// fn to return, becomes a candidate again, and calls fn once more. fn's context ends with the lease
// and with ctx. fn should return then: until it does, this process is no candidate.
//
// Lead returns fn's error when fn returns while the lease is held, even if ctx was done meanwhile.
// If ctx is done while Lead waits for the name, it returns an error that wraps ctx's, otherwise as
// Acquire does.
//
// If the lease is released while fn runs, by fn itself or with [Supervisor.StepDown], Lead ends
// too, with fn's error. With [WithCoolDown] it becomes a candidate again after a while instead. If
// fn panics the name is given back.
func (s *Supervisor) Lead(ctx context.Context, name string, fn func(ctx context.Context) error, opts ...Option) error {
	if fn == nil {
		return fmt.Errorf("lead %q: want a function, not nil", s.cfg.Prefix+name)
	}
	r, err := s.request(callLead, name, opts)
	if err != nil {
		return err
	}
	for {
		held, err := s.acquire(ctx, r.of(s.cfg.Prefix+name))
		if err != nil {
			return err
		}
		err, ended := under(ctx, held, fn)
		lost := loss(ended)
		if ended == nil || lost == nil && r.coolDown == 0 || errors.Is(lost, lease.ErrClosed) {
			return errors.Join(err, lost)
		}
		if s.cool(ctx, r.coolDown); ctx.Err() != nil {
			return errors.Join(err, lost, ctx.Err())
		}
	}
}

// cool waits for d, or up to a tenth longer, or for the end of ctx or of s.
func (s *Supervisor) cool(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	timer := s.clock.NewTimer(d + rand.N(d/10+1))
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
	case <-s.stop:
	}
}

// StepDown releases the lease that this process holds on name. The context of a function that runs
// under it, in Do, Once or Lead, ends. For ctx and the errors see [lease.Lease.Release]. If this
// process does not hold the name, the error is an [*AcquireError] that wraps [ErrNotHolder].
func (s *Supervisor) StepDown(ctx context.Context, name string) error {
	if err := s.cfg.checkName(name); err != nil {
		return fmt.Errorf("step down: %w", err)
	}
	var held *lease.Lease
	s.read(func(c *core.Core) {
		if id, ok := c.Holder(s.cfg.Prefix + name); ok {
			held = s.leases[core.Slot(id)].Lease()
		}
	})
	if held == nil {
		return &AcquireError{Op: opStepDown, Name: s.cfg.Prefix + name, Quorum: s.quorum, why: ErrNotHolder}
	}
	return held.Release(ctx)
}

// under runs fn under a lease and gives the lease back. It returns fn's error, and the error with
// which the lease had ended before fn returned, or nil.
func under(ctx context.Context, held *lease.Lease, fn func(context.Context) error) (err, ended error) {
	defer func() {
		ended = held.Err()
		// Release tells the nodes even if ctx is done. An error here asks nothing of this caller:
		// the supervisor goes on telling them, and so does Close.
		_ = held.Release(ctx)
	}()
	return fn(held.Context(ctx)), nil
}

// loss returns the error with which a lease ended if that was a loss, and nil if its holder asked.
func loss(ended error) error {
	if errors.Is(ended, lease.ErrLost) {
		return ended
	}
	return nil
}
