package supervisor

import (
	"context"
	"errors"

	"github.com/leasehold-go/leasehold/lease"
)

// Do runs fn once while name is held, and gives the name back when fn has
// returned or panicked. fn's context ends with the lease; [lease.FromContext]
// takes the lease, and its fence, from it. Do returns fn's error; if the lease was
// lost meanwhile, the error wraps lease.ErrLost as well, also where fn returned nil.
func (s *Supervisor) Do(ctx context.Context, name string, fn func(ctx context.Context) error, opts ...Option) error {
	held, err := s.Acquire(ctx, name, opts...)
	if err != nil {
		return err
	}
	err, lost := under(ctx, held, fn)
	return errors.Join(err, lost)
}

// Lead runs fn while name is held, for as long as possible: when the lease is lost
// it waits for fn to return, becomes a candidate again, and calls fn anew. It
// returns when fn returns while the lease is held, with fn's error, or when ctx is
// done, with an error that wraps ctx's. fn's context ends with the lease, and fn
// should return then: until it does, nobody runs on behalf of this caller.
func (s *Supervisor) Lead(ctx context.Context, name string, fn func(ctx context.Context) error, opts ...Option) error {
	for {
		held, err := s.Acquire(ctx, name, opts...)
		if err != nil {
			return err
		}
		err, lost := under(ctx, held, fn)
		if lost == nil || errors.Is(lost, lease.ErrClosed) {
			return errors.Join(err, lost)
		}
		if ctx.Err() != nil {
			return errors.Join(err, lost, ctx.Err())
		}
	}
}

// under runs fn under a lease and gives it back. It returns fn's error, and how
// the lease was lost before fn returned, or nil.
func under(ctx context.Context, held *lease.Lease, fn func(context.Context) error) (err, lost error) {
	defer func() {
		if lost = held.Err(); lost == lease.ErrReleased {
			lost = nil // fn has stepped down
		}
		// Release tells the nodes also where ctx is done. That it is not confirmed by
		// then concerns nobody here: the supervisor goes on, and the keys expire.
		_ = held.Release(ctx)
	}()
	return fn(held.Context(ctx)), nil
}
