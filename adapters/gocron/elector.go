package leasegocron

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// coolDown is how long an Elector waits after a loss before it is a candidate again, unless its
// options say otherwise.
const coolDown = time.Second

// An Elector is a gocron.Elector: give it to gocron.WithDistributedElector. Of all processes that
// have an elector with the same name one leads, and its scheduler runs all jobs. The others skip
// every tick. Its methods may be called from any goroutine.
//
// When the leader changes, a tick that the former one has run may be run by the next one too, if
// its clock is behind, and a tick may be lost, if none leads when it is due. For jobs whose ticks
// must not run twice use a [Locker]: gocron takes one of the two.
type Elector struct {
	name string
	stop context.CancelFunc
	over chan struct{} // closed when Lead has returned

	mu      sync.Mutex
	leads   context.Context // that of the tenure, while this process leads; else nil
	running int             // functions of Task that have not returned
	idle    chan struct{}   // closed when running falls to 0; nil if nobody waits for that
	err     error           // of Lead, after over
}

// NewElector returns an elector that is a candidate for the name at once, in the background. It
// asks no node before it returns. End it with [Elector.Close]. The options are those of
// [supervisor.Supervisor.Lead]. The default adds WithCoolDown(time.Second): after a loss, and after
// [supervisor.Supervisor.StepDown], others come first, and then it is a candidate again. An error
// is about the arguments; one about the options is that of IsLeader.
func NewElector(sup *supervisor.Supervisor, name string, opts ...supervisor.Option) (*Elector, error) {
	if sup == nil {
		return nil, errors.New("leasegocron: want a supervisor, not nil")
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Elector{name: name, stop: stop, over: make(chan struct{})}
	opts = append([]supervisor.Option{supervisor.WithCoolDown(coolDown)}, opts...)
	go func() {
		defer close(e.over)
		err := sup.Lead(ctx, name, e.lead, opts...)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.err = err; ctx.Err() != nil {
			e.err = nil
		}
	}()
	return e, nil
}

// lead keeps the lease until it ends, or Close is called, and the functions of Task have returned.
func (e *Elector) lead(ctx context.Context) error {
	e.set(ctx)
	<-ctx.Done()
	if idle := e.set(noTenure); idle != nil {
		<-idle
	}
	return nil
}

// noTenure is the context of a process that does not lead.
var noTenure context.Context

// set sets the tenure, and returns what is closed when no function of Task runs any more; nil if
// none does.
func (e *Elector) set(leads context.Context) (idle <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leads = leads
	if leads == nil && e.running > 0 {
		e.idle = make(chan struct{})
	}
	return e.idle
}

// IsLeader returns nil if this process leads, and otherwise why it does not. gocron calls it when a
// job is due. It reads the clock and asks no node, so it returns at once. If the elector can lead
// no more, because the supervisor was closed or an option is wrong, the error wraps that of Lead.
func (e *Elector) IsLeader(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leading()
}

// leading needs e.mu.
func (e *Elector) leading() error {
	switch {
	case e.leads != nil && e.leads.Err() == nil && lease.FromContext(e.leads).Valid():
		return nil
	case e.err != nil:
		return fmt.Errorf("not the leader of %q: %w", e.name, e.err)
	}
	return fmt.Errorf("not the leader of %q", e.name)
}

// Task returns a task that runs fn with a context that ends when this process leads no more, when
// Close is called, and with gocron's context; lease.FromContext takes the lease from it. If the
// lease was lost meanwhile, the error of the run wraps lease.ErrLost as well, also if fn returned
// nil. If this process does not lead when the run begins, fn does not run, and the error is that of
// IsLeader. While fn runs, Close keeps the name.
func (e *Elector) Task(fn func(ctx context.Context) error) gocron.Task {
	return gocron.NewTask(func(ctx context.Context) error {
		leads, err := e.begin()
		if err != nil {
			return err
		}
		defer e.end()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(leads, func() { cancel(context.Cause(leads)) })()
		return under(ctx, lease.FromContext(leads), fn)
	})
}

// begin counts a function that is about to run, and returns the context of the tenure.
func (e *Elector) begin() (context.Context, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.leading(); err != nil {
		return nil, err
	}
	e.running++
	return e.leads, nil
}

func (e *Elector) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running--; e.running == 0 && e.idle != nil {
		close(e.idle)
		e.idle = nil
	}
}

// Close ends the contexts of the functions that Task has made, waits until these have returned, and
// gives the name back. If ctx is done before, it returns ctx's error, and the rest is done without
// the caller. Shut the scheduler down first, so that jobs of other tasks have returned.
func (e *Elector) Close(ctx context.Context) error {
	e.stop()
	select {
	case <-e.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
