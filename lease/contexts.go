package lease

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// contexts holds the contexts that end with a lease. They have a lock of their own: a goroutine
// that ends the lease does not wait for those that are being forgotten, of which there may be very
// many at once.
type contexts struct {
	sync.Mutex
	of   map[any]*leaseContext // by their parents
	most int                   // there were in this map, which never becomes smaller
}

type leaseContext struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	forget func() bool
}

func (c *leaseContext) end(why error) {
	c.forget() // otherwise it would start a goroutine to do what its caller does
	c.cancel(why)
}

// makeContexts returns the contexts, and makes them if there are none yet.
func (e *ends) makeContexts() *contexts {
	all := e.contexts.Load()
	if all == nil {
		e.contexts.CompareAndSwap(nil, &contexts{})
		all = e.contexts.Load() // another goroutine may have been first
	}
	return all
}

func (all *contexts) get(key any) *leaseContext {
	all.Lock()
	defer all.Unlock()
	return all.of[key]
}

// keep adds a context. Its caller holds the lock.
func (all *contexts) keep(key any, c *leaseContext) {
	if all.of == nil {
		all.of = make(map[any]*leaseContext)
	}
	all.of[key] = c
	all.most = max(all.most, len(all.of))
}

// forget removes a context whose parent is done, and frees the memory that a great many have
// needed.
func (all *contexts) forget(key any, c *leaseContext) {
	all.Lock()
	defer all.Unlock()
	if all.of[key] != c {
		return
	}
	delete(all.of, key)
	if n := len(all.of); n <= all.most/8 && all.most > 64 {
		smaller := make(map[any]*leaseContext, n)
		maps.Copy(smaller, all.of)
		all.of, all.most = smaller, n
	}
}

// endContexts ends the contexts of a lease that is over.
func (l *Lease) endContexts() {
	all := l.toEnd().contexts.Load()
	if all == nil {
		return
	}
	why := l.cause()
	all.Lock()
	ended := slices.Collect(maps.Values(all.of))
	all.Unlock()
	for _, c := range ended {
		c.end(why) // it calls code of others
	}
	all.Lock()
	all.of, all.most = nil, 0
	all.Unlock()
}

// endContextsSoon ends them too, but its caller does not wait.
func (l *Lease) endContextsSoon() {
	if l.toEnd().contexts.Load() != nil {
		go l.endContexts()
	}
}
