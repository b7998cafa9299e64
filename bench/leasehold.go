package main

import (
	"context"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// leaseholdLocker is leasehold as it comes: guard and fence included.
type leaseholdLocker struct{ sup *supervisor.Supervisor }

type leaseholdHeld struct{ *lease.Lease }

func openLeasehold(f *fleet) (locker, error) {
	sup, err := supervisor.New(supervisor.Config{Nodes: node.URLs(f.addrs...), TTL: ttl})
	if err != nil {
		return nil, err
	}
	return leaseholdLocker{sup}, nil
}

func (l leaseholdLocker) acquire(ctx context.Context, name string) (held, error) {
	h, err := l.sup.Acquire(ctx, name)
	if err != nil {
		return nil, err
	}
	return leaseholdHeld{h}, nil
}

func (l leaseholdLocker) hold(ctx context.Context, names []string) error {
	return holdAll(ctx, l, names, nil)
}

func (l leaseholdLocker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = l.sup.Close(ctx) // that it could not tell every server is part of some scenarios
}

func (h leaseholdHeld) release(ctx context.Context) error { return h.Release(ctx) }
