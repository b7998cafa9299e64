package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// AcquireAny waits until one of the names is held, whichever can be had first, or until ctx is
// done. [lease.Lease.Name] tells which it is. It never holds more than one of them. So n names are
// a semaphore of n, a pool of n licences, or n places on a machine, and as safe as n leases are:
// there are never more than n holders. An error is one of Acquire, about one of the names.
//
// If one of the names is free it makes one attempt to get it. Otherwise it waits as Acquire does,
// for all of the names at once: it stands in the queues of up to 8 names. Of more it stands in the
// shortest queues, at least four and all in which fewer than two wait, and looks at all names about
// as often as a reservation lasts, three times Config.NodeTimeout. A name that is given back while
// nobody stands in its queue may stay free for as long as that. Each queue is served in order, and
// a caller who has to go on waiting keeps its places. Who names more names has more turns.
//
// In a process each name serves its callers in the order in which they came, those of Acquire and
// those of AcquireAny alike.
//
// A broken name, one that is given twice, none at all or a broken option is an error about the
// arguments before anything is tried. [WithAttempts] is one: to try for a while, let ctx end.
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
