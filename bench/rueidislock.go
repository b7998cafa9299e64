package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// rueidislockLocker is rueidislock with the options of its README: NOLOOP, and one
// key if there is one server. Two of three keys are its default. Another default
// is not kept: a key that takes longer than 20 ms is given up, and with NOLOOP its
// waiter is then never woken.
type rueidislockLocker struct {
	rueidislock.Locker
	life context.Context // of what hold has acquired
	end  context.CancelFunc
}

type rueidislockHeld context.CancelFunc

func rueidislockWith(majority int32) func(*fleet) (locker, error) {
	return func(f *fleet) (locker, error) {
		o := rueidis.ClientOption{InitAddress: f.addrs}
		f.shrink(&o)
		l, err := rueidislock.NewLocker(rueidislock.LockerOption{
			ClientOption: o, KeyMajority: majority, NoLoopTracking: true,
			KeyValidity: ttl, ExtendInterval: ttl / 3, TryNextAfter: time.Second,
		})
		if err != nil {
			return nil, err
		}
		life, end := context.WithCancel(context.Background())
		return &rueidislockLocker{l, life, end}, nil
	}
}

func (l *rueidislockLocker) acquire(ctx context.Context, name string) (held, error) {
	_, cancel, err := l.WithContext(ctx, name)
	if err != nil {
		return nil, err
	}
	return rueidislockHeld(cancel), nil
}

// release returns when the servers have answered, whatever they have said.
func (h rueidislockHeld) release(context.Context) error {
	h()
	return nil
}

// hold acquires with a context of its own, because a lease ends with the context
// that it was acquired with. ctx ends the waiting.
func (l *rueidislockLocker) hold(ctx context.Context, names []string) error {
	late := context.AfterFunc(ctx, l.end)
	defer late()
	return errors.Join(holdAll(l.life, l, names, nil), ctx.Err())
}

func (l *rueidislockLocker) close() {
	l.end()
	l.Close()
}
