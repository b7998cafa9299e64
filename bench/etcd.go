package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// etcdLocker is the mutex of etcd's concurrency package, with one session for all
// names. The mutexes of one session do not exclude each other.
type etcdLocker struct {
	client  *clientv3.Client
	session *concurrency.Session
}

type etcdHeld struct{ *concurrency.Mutex }

func openEtcd(f *fleet) (locker, error) {
	addr, err := f.etcd()
	if err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + addr}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	s, err := concurrency.NewSession(c, concurrency.WithTTL(int(ttl/time.Second)))
	if err != nil {
		c.Close()
		return nil, err
	}
	return etcdLocker{c, s}, nil
}

func (l etcdLocker) acquire(ctx context.Context, name string) (held, error) {
	m := concurrency.NewMutex(l.session, name)
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	return etcdHeld{m}, nil
}

func (h etcdHeld) release(ctx context.Context) error { return h.Unlock(ctx) }

func (l etcdLocker) hold(ctx context.Context, names []string) error {
	return holdAll(ctx, l, names, nil)
}

func (l etcdLocker) close() {
	l.session.Close()
	l.client.Close()
}
