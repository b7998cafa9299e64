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

// Do runs fn once while name is held, and gives the name back when fn has
// returned or panicked. fn's context ends with the lease; [lease.FromContext]
// takes the lease, and its fence, from it. Do returns fn's error; if the lease was
// lost meanwhile, the error wraps lease.ErrLost as well, also if fn returned nil. It waits for the
// nodes as Release does with ctx; a name that they do not confirm to be free by then is no error.
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

// Once runs fn if nobody has done so under name within the last period, and reports whether
// it did. It returns false and nil if another has run it, or runs it now. So many processes
// may call it at the same moment, each by a timer of its own, and one of them runs fn. The
// name is held while fn runs, as in [Supervisor.Do], and stays taken until the period is over,
// also if the process dies: see [WithMinHold]. The period is counted from when the lease began,
// by steady clocks. No wall clock takes part in it: hosts whose clocks differ call it at other
// moments, and as long as these are within the period, one of them runs fn.
//
// If fn fails, or panics, the period is used up all the same: Once returns true and fn's error. If
// the lease was lost meanwhile, the error wraps lease.ErrLost as well, also if fn returned nil.
//
// If a timer calls it, let period be less than the timer's interval, by more than a timer may be
// late: the name must be free again at the next tick.
//
// Once waits until it is known whether another runs fn, and for nodes as Acquire does, until ctx
// is done. An error with ran = false is that of Acquire, or about the arguments. That another
// has the name is no error, and no [EventFailed]. Once does not take WithMinHold and WithAttempts.
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
		// Several may have come at once, of which none has won. Or it is not known who has it.
		if s.cool(ctx, s.cfg.RetryMin+rand.N(s.cfg.RetryMax-s.cfg.RetryMin+1)); ctx.Err() != nil {
			return false, errors.Join(err, ctx.Err())
		}
	}
}

// Lead runs fn while name is held, for as long as possible: when the lease is lost
// it waits for fn to return, becomes a candidate again, and calls fn anew. It
// returns when fn returns while the lease is held, with fn's error, or when ctx is
// done, with an error that wraps ctx's. fn's context ends with the lease, and fn
// should return then: until it does, nobody runs on behalf of this caller.
//
// A lease that is released while fn runs, by fn itself or with
// [Supervisor.StepDown], ends Lead too, with fn's error; but [WithCoolDown] makes it
// a candidate again after a while. If fn panics the name is given back.
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

// StepDown releases the lease that this process holds on name, as its holder would
// with Release, which see for ctx and for the errors: whoever runs under it, in Do or
// Lead, finds its context done. That this process holds none is an [*AcquireError] that wraps
// [ErrNotHolder].
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

// under runs fn under a lease and gives it back. It returns fn's error, and how
// the lease had ended before fn returned, or nil.
func under(ctx context.Context, held *lease.Lease, fn func(context.Context) error) (err, ended error) {
	defer func() {
		ended = held.Err()
		// Release tells the nodes also if ctx is done. That it is not confirmed by
		// then concerns nobody here: the supervisor goes on, and so does Close.
		_ = held.Release(ctx)
	}()
	return fn(held.Context(ctx)), nil
}

// loss returns the end of a lease if that was a loss, and nil if its holder asked.
func loss(ended error) error {
	if errors.Is(ended, lease.ErrLost) {
		return ended
	}
	return nil
}
