package main

import (
	"context"
	"sync"
	"time"

	"github.com/bsm/redislock"
	goredis "github.com/redis/go-redis/v9"
)

// redislockLocker is redislock with the linear backoff of its examples: a waiter
// tries again every 100 ms.
type redislockLocker struct {
	redis   *goredis.Client
	client  *redislock.Client
	options *redislock.Options
	renewer *renewer
}

type redislockHeld struct{ *redislock.Lock }

// quietly keeps go-redis from writing to the terminal.
var quietly = sync.OnceFunc(func() { goredis.SetLogger(silence{}) })

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func openRedislock(f *fleet) (locker, error) {
	quietly()
	c := goredis.NewClient(&goredis.Options{Addr: f.addrs[0]})
	return &redislockLocker{
		redis: c, client: redislock.New(c),
		options: &redislock.Options{RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond)},
		renewer: newRenewer(),
	}, nil
}

func (l *redislockLocker) acquire(ctx context.Context, name string) (held, error) {
	// Without a deadline of its own it gives up after one TTL.
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Hour)
		defer cancel()
	}
	h, err := l.client.Obtain(ctx, name, ttl, l.options)
	if err != nil {
		return nil, err
	}
	return redislockHeld{h}, nil
}

func (h redislockHeld) release(ctx context.Context) error { return h.Release(ctx) }

func (l *redislockLocker) hold(ctx context.Context, names []string) error {
	return holdAll(ctx, l, names, func(h held) {
		l.renewer.keep(func(ctx context.Context) error { return h.(redislockHeld).Refresh(ctx, ttl, nil) })
	})
}

func (l *redislockLocker) close() {
	l.renewer.close()
	l.redis.Close()
}
