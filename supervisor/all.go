package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/leasehold-go/leasehold/lease"
)

// AcquireAll waits until every one of the names is held, or until ctx is done, and returns their
// leases in the order of the names. It is all or nothing: if it returns an error it holds nothing,
// and leaves nothing behind. It acquires the names one after the other in sorted order, whatever
// the order in which they are given. So two callers that want some of the same names cannot wait
// for each other. Each lease renews itself from its own beginning on. The leases are independent of
// each other once they are returned.
//
// The options are for each of the leases: WithTTL is the TTL of every one, and WithMaxHold counts
// from each one's own beginning.
//
// A broken name, a name that is given twice, no name at all or a broken option is an error about
// the arguments before anything is tried. Any other error says at which name it ended. It wraps the
// [*AcquireError] of that name, as Acquire returns it. If a lease was lost while the names after it
// were acquired, it wraps lease.ErrLost instead: try again.
func (s *Supervisor) AcquireAll(ctx context.Context, names []string, opts ...Option) ([]*lease.Lease, error) {
	r, broken := s.options(callAcquireAll, opts)
	if broken = append(s.checkNames(names), broken...); broken != nil {
		return nil, fmt.Errorf("acquire all: %w", errors.Join(broken...))
	}
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(names[i], names[j]) })

	leases := make([]*lease.Lease, len(names))
	// all ends with ctx and with every lease that is held already.
	all, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, i := range order {
		held, err := s.acquire(all, r.of(s.cfg.Prefix+names[i]))
		if done := ctx.Err(); err == nil && done != nil { // all may be told later
			err = s.newError(opAcquire, s.cfg.Prefix+names[i], errGivenBack, done)
		}
		if lost := firstLost(leases); lost != nil {
			err = fmt.Errorf("%q ended before %q was acquired: %w", s.cfg.Prefix+lost.Name(), s.cfg.Prefix+names[i], lost.Err())
		}
		leases[i] = held
		if err != nil {
			releaseAll(ctx, leases)
			return nil, fmt.Errorf("acquire all: %w", err)
		}
		all = held.Context(all)
	}
	return leases, nil
}

// checkNames returns an error for every name that is broken or given twice.
func (s *Supervisor) checkNames(names []string) (broken []error) {
	if len(names) == 0 {
		broken = append(broken, errors.New("no name given"))
	}
	seen := make(map[string]int)
	for _, name := range names {
		if seen[name]++; seen[name] == 2 {
			broken = append(broken, fmt.Errorf("name %.64q: given more than once", name))
		}
		if err := s.cfg.checkName(name); err != nil && seen[name] == 1 {
			broken = append(broken, err)
		}
	}
	return broken
}

// firstLost returns one of the leases that is over, or nil.
func firstLost(leases []*lease.Lease) *lease.Lease {
	for _, l := range leases {
		if l != nil && l.Err() != nil {
			return l
		}
	}
	return nil
}

// releaseAll gives the leases back, all at once, and waits as their Release does.
func releaseAll(ctx context.Context, leases []*lease.Lease) {
	var wg sync.WaitGroup
	for _, l := range leases {
		if l != nil {
			// The keys of one that is not confirmed expire by themselves.
			wg.Go(func() { _ = l.Release(ctx) })
		}
	}
	wg.Wait()
}
