package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/clock"
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
	err, ended := s.under(ctx, held, fn)
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
	called := s.clock.Now()
	for {
		m := &acquireMessage{s.newCall(opAcquire), q}
		m.quiet, m.since = true, called
		held, err := s.wait(ctx, m, &m.call, q.Key)
		if err == nil {
			err, ended := s.under(ctx, held, fn)
			return true, errors.Join(err, loss(ended))
		}
		var e *AcquireError
		switch {
		case errors.As(err, &e) && e.taken:
			return false, nil
		case !inconclusive(err):
			return false, err
		}
		// Several may have come at once, and none of them has won. Or the holder is not known.
		if ctx.Err() == nil {
			s.cool(ctx, s.cfg.RetryMin+rand.N(s.cfg.RetryMax-s.cfg.RetryMin+1))
		}
		if done := ctx.Err(); done != nil {
			if !errors.Is(err, done) {
				err = errors.Join(err, done)
			}
			s.post(&failedMessage{Event{Kind: EventFailed, Name: q.Key, Err: err, Waited: s.clock.Now().Sub(called), Ctx: ctx}})
			return false, err
		}
	}
}

// inconclusive reports whether Once tries again after an attempt that ended with err.
func inconclusive(err error) bool { return errors.Is(err, ErrHeld) || errors.Is(err, ErrNoQuorum) }

// A failedMessage has the loop tell that a call of Once has failed.
type failedMessage struct{ event Event }

func (m *failedMessage) apply(s *Supervisor, _ clock.Instant) { s.tell(m.event) }

// Lead waits until name is held, and runs fn under the lease. When the lease is lost it waits for
// fn to return, becomes a candidate again, and calls fn once more. fn's context ends with the lease
// and with ctx. fn should return then: until it does, this process is no candidate.
//
// Lead returns fn's error when fn returns while the lease is held, even if ctx was done meanwhile.
// If ctx is done while Lead waits for the name, it returns an error that wraps ctx's, otherwise as
// Acquire does.
//
// If fn releases the lease, or this process steps down ([Supervisor.StepDown]), Lead ends too when
// fn returns, with fn's error. With [WithCoolDown] it becomes a candidate again after a while instead. If
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
		err, ended := s.under(ctx, held, fn)
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

// StepDown ends the context of the function that this process runs under name in Do, Once or Lead.
// It does not wait: the name is given back when the function has returned, and until then nobody
// else can have it. So a function may call it as well. A lease under which none of them runs a
// function is released: for ctx and the errors of that see [lease.Lease.Release]. If this process
// does not hold the name, the error is an [*AcquireError] that wraps [ErrNotHolder].
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
	switch {
	case held == nil:
		return s.newError(opStepDown, s.cfg.Prefix+name, ErrNotHolder, nil)
	case s.tenures.stepDown(held):
		return nil
	}
	return held.Release(ctx)
}

// under runs fn under a lease and gives the lease back. It returns fn's error, and the error with
// which the lease had ended before fn returned, or nil. If it was stepped down from, that is
// lease.ErrReleased.
func (s *Supervisor) under(ctx context.Context, held *lease.Lease, fn func(context.Context) error) (err, ended error) {
	working, end := context.WithCancelCause(held.Context(ctx))
	s.tenures.begin(held, end)
	defer func() {
		if ended = held.Err(); s.tenures.end(held) && ended == nil {
			ended = lease.ErrReleased
		}
		end(nil)
		// Release tells the nodes even if ctx is done. An error here asks nothing of this caller:
		// the supervisor goes on telling them, and so does Close.
		_ = held.Release(ctx)
	}()
	return fn(working), nil
}

// tenures are the leases under which a function runs, and how to end the context of each. A lease
// that is stepped down from is held until its function has returned: released at once it would have
// two functions run, here and at the next holder.
type tenures struct {
	sync.Mutex
	of map[*lease.Lease]context.CancelCauseFunc // nil if it was stepped down from
}

func (t *tenures) begin(l *lease.Lease, end context.CancelCauseFunc) {
	t.Lock()
	defer t.Unlock()
	if t.of == nil {
		t.of = map[*lease.Lease]context.CancelCauseFunc{}
	}
	t.of[l] = end
}

// stepDown ends the context of the function that runs under a lease, and reports whether there is
// one.
func (t *tenures) stepDown(l *lease.Lease) bool {
	t.Lock()
	end, runs := t.of[l]
	if runs {
		t.of[l] = nil
	}
	t.Unlock()
	if end != nil {
		end(lease.ErrReleased)
	}
	return runs
}

// end forgets a lease, and reports whether it was stepped down from.
func (t *tenures) end(l *lease.Lease) (stepped bool) {
	t.Lock()
	defer t.Unlock()
	stepped = t.of[l] == nil
	delete(t.of, l)
	return stepped
}

// loss returns the error with which a lease ended if that was a loss, and nil if its holder asked.
func loss(ended error) error {
	if errors.Is(ended, lease.ErrLost) {
		return ended
	}
	return nil
}
