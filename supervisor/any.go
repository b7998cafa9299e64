package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// AcquireAny waits until one of the names is held, whichever it gets first, or until ctx is done.
// [lease.Lease.Name] returns that name. AcquireAny never holds more than one of them. So n names
// are a semaphore of n, a pool of n licences, or n places on a machine. The semaphore is as safe as
// n leases are: there are never more than n holders. Its errors are those of Acquire, about one of
// the names; ErrHeld means that all of them are held.
//
// If one of the names is free, AcquireAny makes one attempt to get it. Otherwise it waits as
// Acquire does, for all of the names at once: it stands in the queues of up to 8 names. If there
// are more, it stands in the shortest queues, at least four and all in which fewer than two wait.
// It looks at all names about as often as a reservation lasts, three times Config.NodeTimeout. A
// name that is given back while its queue is empty may stay free for as long as that. Of more than
// 512 names it looks at 512 each time, in turn, and stands in as many queues at most. Then it takes
// so many times as long to find one. Each queue is served in order, and a caller that has to go on
// waiting keeps its places. A caller that gives more names gets more turns.
//
// In a process each name serves its callers in order of arrival, those of Acquire and those of
// AcquireAny alike.
//
// A broken name, a name that is given twice, no name at all or a broken option is an error about
// the arguments before anything is tried. [WithAttempts] is such an option: to try for a while
// only, use a ctx that ends.
func (s *Supervisor) AcquireAny(ctx context.Context, names []string, opts ...Option) (*lease.Lease, error) {
	r, broken := s.options(callAcquireAny, opts)
	if broken = append(s.checkNames(names), broken...); broken != nil {
		return nil, fmt.Errorf("acquire any: %w", errors.Join(broken...))
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = s.cfg.Prefix + name
	}
	m := &anyMessage{s.newCall(opAny), r.of(keys[0]), keys}
	return s.wait(ctx, m, &m.call, keys[0])
}

// An anyMessage asks for any of several names.
type anyMessage struct {
	call
	request core.Request
	keys    []string
}

func (m *anyMessage) apply(s *Supervisor, now clock.Instant) {
	m.request.Call = s.calls.add(&m.call, now)
	s.core.AcquireAny(now, m.request, m.keys)
}
