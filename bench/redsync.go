package main

import (
	"context"
	"errors"
	"math"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	redsyncrueidis "github.com/go-redsync/redsync/v4/redis/rueidis"
	goredislib "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis/rueidiscompat"
)

// redsyncLocker is redsync with the retry delay that it comes with, 50 to 250 ms,
// and as many tries as it takes. Fail-fast has it return at the quorum, instead of
// when all servers have answered.
type redsyncLocker struct {
	rs      *redsync.Redsync
	options []redsync.Option
	renewer *renewer
	done    func()
}

type redsyncHeld struct{ *redsync.Mutex }

// redsyncOver returns what opens redsync over one of its kinds of clients.
func redsyncOver(pools func(*fleet) ([]redis.Pool, func(), error), failFast bool) func(*fleet) (locker, error) {
	return func(f *fleet) (locker, error) {
		all, done, err := pools(f)
		if err != nil {
			return nil, err
		}
		return &redsyncLocker{
			rs: redsync.New(all...),
			options: []redsync.Option{
				redsync.WithExpiry(ttl), redsync.WithTries(math.MaxInt32), redsync.WithFailFast(failFast),
			},
			renewer: newRenewer(),
			done:    done,
		}, nil
	}
}

func rueidisPools(f *fleet) ([]redis.Pool, func(), error) {
	clients, err := rueidisClients(f, 0)
	var pools []redis.Pool
	for _, c := range clients {
		pools = append(pools, redsyncrueidis.NewPool(rueidiscompat.NewAdapter(c)))
	}
	return pools, func() {
		for _, c := range clients {
			c.Close()
		}
	}, err
}

func goredisPools(f *fleet) ([]redis.Pool, func(), error) {
	quietly()
	var pools []redis.Pool
	var clients []*goredislib.Client
	for _, addr := range f.addrs {
		c := goredislib.NewClient(&goredislib.Options{Addr: addr})
		clients = append(clients, c)
		pools = append(pools, goredis.NewPool(c))
	}
	return pools, func() {
		for _, c := range clients {
			c.Close()
		}
	}, nil
}

func (l *redsyncLocker) acquire(ctx context.Context, name string) (held, error) {
	m := l.rs.NewMutex(name, l.options...)
	if err := m.LockContext(ctx); err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	return redsyncHeld{m}, nil
}

func (h redsyncHeld) release(ctx context.Context) error { return told(h.UnlockContext(ctx)) }

func (l *redsyncLocker) hold(ctx context.Context, names []string) error {
	return holdAll(ctx, l, names, func(h held) {
		l.renewer.keep(func(ctx context.Context) error { return told(h.(redsyncHeld).ExtendContext(ctx)) })
	})
}

func told(ok bool, err error) error {
	if err == nil && !ok {
		return errNotOurs
	}
	return err
}

func (l *redsyncLocker) close() {
	l.renewer.close()
	l.done()
}
