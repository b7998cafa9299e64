package shards

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

var errGoexit = errors.New("the goroutine of the function was ended by runtime.Goexit")

// work runs the function of a name, and releases the lease when it has returned. There is one path,
// however the function ends.
func (o *owner) work(ctx context.Context, name int, held *lease.Lease) {
	r := report{kind: reportReturned, name: name, held: held, err: errGoexit}
	defer func() {
		if v := recover(); v != nil {
			r.panicked = &PanicError{Name: o.names[name], Value: v, Stack: debug.Stack()}
		}
		_ = held.Release(context.WithoutCancel(ctx)) // the nodes are told in any case
		o.send(r)
	}()
	r.err = o.fn(held.Context(ctx), o.names[name])
}

// takePart holds the group's name, or waits for it, until ctx is done or the supervisor is closed.
func (o *owner) takePart(ctx context.Context) report {
	for {
		held, err := o.sup.Acquire(ctx, o.group, o.leases...)
		if err == nil {
			select {
			case <-held.Done():
			case <-ctx.Done():
			}
			_ = held.Release(context.WithoutCancel(ctx)) // nothing, if it was lost
		}
		if ctx.Err() != nil || errors.Is(err, supervisor.ErrClosed) {
			return report{kind: reportLeft}
		}
		if err != nil {
			o.send(report{kind: reportRefused, err: err})
			o.pause(ctx)
		}
	}
}

// pause waits before something is tried again.
func (o *owner) pause(ctx context.Context) {
	timer := o.clock.NewTimer(coolMin)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
	}
}

// count returns how many take part: the process that has the group's name, and those that wait for
// it.
func (o *owner) count(ctx context.Context) report {
	h, err := o.sup.Inspect(ctx, o.group)
	n := h.Waiting
	if !h.Free {
		n++ // also if it is reserved: for a process that is not counted as waiting then
	}
	return report{kind: reportCounted, members: max(1, n), err: err}
}

// atOnce is how many names are looked at at once.
const atOnce = 128

// sweep looks at all names.
func (o *owner) sweep(ctx context.Context) report {
	seen := make([]sight, len(o.names))
	var wg sync.WaitGroup
	for from := range min(atOnce, len(seen)) {
		wg.Go(func() {
			for i := from; i < len(seen); i += atOnce {
				h, err := o.sup.Inspect(ctx, o.key(i))
				seen[i] = sight{
					known: err == nil, free: err == nil && h.Free, held: err == nil && h.Held,
					owner: h.Owner, left: h.Left, waiting: h.Waiting,
				}
			}
		})
	}
	wg.Wait()
	return report{kind: reportSwept, seen: seen}
}
