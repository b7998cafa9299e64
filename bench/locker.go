package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ttl is how long a server keeps a name that is not renewed, for every library.
const ttl = 10 * time.Second

// A locker is one client of a library, connected to all servers of a fleet. Its
// methods may be called from any goroutine; close comes last.
type locker interface {
	// acquire waits until name is held, or until ctx is done.
	acquire(ctx context.Context, name string) (held, error)

	// hold acquires the names and keeps them renewed until close.
	hold(ctx context.Context, names []string) error

	close()
}

// A held is a name that is held. It is small enough to cost no allocation beside
// the library's own.
type held interface {
	release(ctx context.Context) error
}

// A library is one subject of the measurements.
type library struct {
	name   string
	nodes  int // how many servers it can use at most; 0 for any number
	needs  kind
	rivals bool // the callers of one locker exclude each other
	open   func(*fleet) (locker, error)
}

const (
	ours  = "leasehold"
	floor = "floor"
)

// libraries are all of them. The peers are configured as their own documentation
// recommends; if a setting helps one, it is here twice.
var libraries = []library{
	{name: ours, rivals: true, open: openLeasehold},
	{name: floor, rivals: true, open: openFloor},
	{name: "redsync rueidis", rivals: true, open: redsyncOver(rueidisPools, false)},
	{name: "redsync rueidis, fail-fast", rivals: true, open: redsyncOver(rueidisPools, true)},
	{name: "redsync go-redis", rivals: true, open: redsyncOver(goredisPools, false)},
	{name: "redsync go-redis, fail-fast", rivals: true, open: redsyncOver(goredisPools, true)},
	{name: "rueidislock, 1 key", nodes: 1, rivals: true, open: rueidislockWith(1)},
	{name: "rueidislock, 3 keys", nodes: 1, rivals: true, open: rueidislockWith(2)},
	{name: "redislock", nodes: 1, rivals: true, open: openRedislock},
	{name: "etcd", nodes: 1, needs: etcdKind, open: openEtcd},
}

// named returns the libraries with these names, in the order above.
func named(names ...string) []library {
	var some []library
	for _, l := range libraries {
		for _, name := range names {
			if l.name == name {
				some = append(some, l)
			}
		}
	}
	return some
}

// on returns those libraries that can use n servers and that this machine offers.
func on(n int, from []library) []library {
	var some []library
	for _, l := range from {
		if (l.nodes == 0 || n <= l.nodes) && l.needs.missing() == nil {
			some = append(some, l)
		}
	}
	return some
}

// holdAll acquires the names, up to 256 at once, and hands each to keep.
func holdAll(ctx context.Context, l locker, names []string, keep func(held)) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range min(256, len(names)) {
		all.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(names) {
					return
				}
				h, err := l.acquire(ctx, names[i])
				if err != nil {
					err = fmt.Errorf("%s: %w", names[i], err)
					failed.CompareAndSwap(nil, &err)
					return
				}
				if keep != nil {
					keep(h)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// A renewer keeps what its library renews only by hand: with a goroutine for each
// lease, as a user would, that calls renew every third of the TTL until close.
type renewer struct {
	stop chan struct{}
	all  sync.WaitGroup
}

func newRenewer() *renewer { return &renewer{stop: make(chan struct{})} }

func (r *renewer) keep(renew func(context.Context) error) {
	r.all.Go(func() {
		ticker := time.NewTicker(ttl / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if renew(context.Background()) != nil {
					return
				}
			case <-r.stop:
				return
			}
		}
	})
}

func (r *renewer) close() {
	close(r.stop)
	r.all.Wait()
}

var errNotOurs = errors.New("the name was not held any more")
