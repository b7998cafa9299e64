package shards

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// ErrMoved is the cause of a function's context, see context.Cause, if another process is to get
// its name. That process waits until the function has returned.
var ErrMoved = errors.New("shards: moved to another process")

// A PanicError is the value with which Own panics if a function has panicked.
type PanicError struct {
	Name  string // the name whose function it was
	Value any    // the value with which the function has panicked
	Stack []byte // of the function's goroutine, as text
}

// Error returns a text with the name, the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("shards: the function of %q panicked: %v\n\n%s", e.Name, e.Value, e.Stack)
}

// Unwrap returns the value, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Own takes part in a group of processes that share names, until ctx is done or sup is closed. For
// each name that this process owns it runs fn, in a goroutine of its own. fn's context ends with
// the lease, when another process is to get the name, and with ctx. [lease.FromContext] gets the
// lease, and with it the fence, from that context. If fn returns an error, only the observer is
// told, see [WithObserver]: Own goes on.
//
// Own returns when every fn has returned and its leases are released, with an error that wraps
// ctx's or [supervisor.ErrClosed]. Nodes that cannot be reached do not end it. An error about the
// arguments is returned before anything was tried. A second Own of a group on one supervisor is
// such an error while the first runs.
//
// If fn panics, Own ends as if ctx were done, gives back all names, and then panics itself with a
// [*PanicError], in the goroutine of its caller. It waits for 10 s at most until every other fn has
// returned.
func Own(ctx context.Context, sup *supervisor.Supervisor, group string, names []string, fn func(ctx context.Context, name string) error, opts ...Option) error {
	o, err := prepare(sup, group, names, fn, opts)
	if err != nil {
		return fmt.Errorf("own %.64q: %w", group, err)
	}
	key := member{sup, group}
	if _, twice := members.LoadOrStore(key, true); twice {
		return fmt.Errorf("own %.64q: Own is already running for this group on this supervisor, which would count only once", group)
	}
	defer members.Delete(key)
	if err := o.run(ctx); err != nil {
		return fmt.Errorf("own %.64q: %w", group, err)
	}
	return nil
}

// A member is one call of Own. members has all that run.
type member struct {
	sup   *supervisor.Supervisor
	group string
}

var members sync.Map

// prepare checks all the arguments.
func prepare(sup *supervisor.Supervisor, group string, names []string, fn func(context.Context, string) error, opts []Option) (*owner, error) {
	if sup == nil {
		return nil, errors.New("want a supervisor, not nil")
	}
	var broken []error
	opt, err := gather(opts)
	if err != nil {
		broken = append(broken, err)
	}
	if fn == nil {
		broken = append(broken, errors.New("want a function, not nil"))
	}
	if len(names) == 0 {
		broken = append(broken, errors.New("no name given"))
	}
	id := opt.owner + "#" + rand.Text()[:16]
	leases := opt.leases(id)
	if group == "" {
		broken = append(broken, errors.New(`group: must not be empty`))
	} else if err := refused(sup, group, leases); err != nil {
		broken = append(broken, err)
	}
	seen := make(map[string]int)
	for i, name := range names {
		if seen[name]++; seen[name] == 2 {
			broken = append(broken, fmt.Errorf("name %.64q: given more than once", name))
		}
		switch {
		case seen[name] > 1:
		case name == "":
			broken = append(broken, fmt.Errorf(`names[%d]: must not be empty`, i))
		case len(broken) == 0:
			if err := refused(sup, group+"/"+name, leases); err != nil {
				broken = append(broken, err)
			}
		}
	}
	if broken != nil {
		return nil, errors.Join(broken...)
	}
	o := &owner{
		sup: sup, group: group, names: append([]string(nil), names...), fn: fn, opt: opt, leases: leases,
		clock: clock.Runtime(), in: make(chan report), gone: make(chan struct{}), jobs: make([]job, len(names)),
		plan: newPlan(id, len(names), mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64()))),
	}
	return o, nil
}

// refused returns the supervisor's error about a name or an option. It asks no node.
func refused(sup *supervisor.Supervisor, name string, opts []supervisor.Option) error {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := sup.Acquire(done, name, opts...); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// lost returns the error with which a lease ended if that was a loss.
func lost(held *lease.Lease) error {
	if err := held.Err(); errors.Is(err, lease.ErrLost) {
		return err
	}
	return nil
}
