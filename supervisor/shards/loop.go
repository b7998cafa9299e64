package shards

import (
	"context"
	"errors"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

const (
	countEvery = 500 * time.Millisecond
	// slow is how long after its end an event says that a function has not returned.
	slow = 10 * time.Second
	// After a function has returned by itself its name is left alone for coolMin, and twice as long
	// each further time, up to coolMax. If the function has run for coolMax, it is coolMin again.
	coolMin = time.Second
	coolMax = time.Minute
)

// An owner is one call of Own. One goroutine, that of the caller, decides: it alone touches the
// fields after in. All others send it reports.
type owner struct {
	sup    *supervisor.Supervisor
	group  string
	names  []string
	fn     func(context.Context, string) error
	opt    options
	leases []supervisor.Option
	clock  clock.Clock
	in     chan report
	gone   chan struct{} // closed when the caller takes no reports any more

	plan    *plan
	jobs    []job
	busy    int  // goroutines that have not sent their last report
	counted bool // it is known how many take part, and it sweeps since then
	over    bool // nothing is begun any more
	stop    context.CancelFunc
	countAt clock.Instant
	sweepAt clock.Instant
	panic   *PanicError
}

// A job is what goes on with one name.
type job struct {
	cancel context.CancelCauseFunc // of its waiting, or of its function's context
	held   *lease.Lease            // while its function runs
	begun  clock.Instant           // the instant when the function began
	told   clock.Instant           // the instant when it was told to return; 0 if it was not
	failed int                     // how often it has returned by itself
}

// A report is what a goroutine tells the owner.
type report struct {
	kind     reportKind
	name     int
	held     *lease.Lease
	members  int
	seen     []sight
	err      error
	panicked *PanicError
}

type reportKind uint8

const (
	reportCounted  reportKind = iota // how many take part
	reportSwept                      // which process has what
	reportAcquired                   // the result of waiting for a name
	reportDropped                    // a lease that was won too late is released
	reportReturned                   // a function has returned, and its lease is released
	reportRefused                    // the group has to be joined again
	reportLeft                       // the group was left
)

// last reports whether the goroutine that sends the report ends.
func (k reportKind) last() bool { return k != reportRefused }

// run takes part until ctx is done, the supervisor is closed or a function panics.
func (o *owner) run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer close(o.gone)
	inner, stop := context.WithCancel(ctx)
	defer stop()
	o.stop = stop
	now := o.clock.Now()
	o.countAt, o.sweepAt = now.Add(o.opt.settle), clock.Never // the first count makes it sweep
	o.begin(func() report { return o.takePart(inner) })
	timer := o.clock.NewTimer(0)
	defer timer.Stop()
	closed := false
	for inner.Err() == nil {
		now := o.clock.Now()
		o.ask(inner, now)
		timer.Reset(min(o.countAt, o.sweepAt).Sub(now))
		select {
		case <-inner.Done():
		case <-timer.C():
		case r := <-o.in:
			if r.kind == reportLeft && inner.Err() == nil {
				closed = true
				stop()
			}
			o.hear(inner, r)
		}
	}
	o.end(timer)
	switch {
	case o.panic != nil:
		panic(o.panic)
	case closed && ctx.Err() == nil:
		return supervisor.ErrClosed
	}
	return ctx.Err()
}

// ask starts looking at the group and the names if it is time to.
func (o *owner) ask(ctx context.Context, now clock.Instant) {
	if now >= o.countAt {
		o.countAt = clock.Never
		o.begin(func() report { return o.count(ctx) })
	}
	if now >= o.sweepAt {
		o.sweepAt = clock.Never
		o.begin(func() report { return o.sweep(ctx) })
	}
}

// begin starts a goroutine that ends with a report.
func (o *owner) begin(f func() report) {
	o.busy++
	go func() { o.send(f()) }()
}

func (o *owner) send(r report) {
	select {
	case o.in <- r:
	case <-o.gone:
	}
}

func (o *owner) hear(ctx context.Context, r report) {
	if r.kind.last() {
		o.busy--
	}
	now := o.clock.Now()
	switch r.kind {
	case reportCounted:
		o.heardCount(now, r)
	case reportSwept:
		o.heardSweep(ctx, now, r)
	case reportAcquired:
		o.heardAcquired(ctx, now, r)
	case reportDropped:
		o.plan.spots[r.name].at = none
	case reportReturned:
		o.heardReturned(now, r)
	case reportRefused:
		o.tell(Event{Kind: EventFailed, Err: r.err})
	}
}

func (o *owner) heardCount(now clock.Instant, r report) {
	o.countAt = now.Add(countEvery*9/10 + o.plan.random(countEvery/5))
	o.nag(now)
	if r.err != nil {
		return // the last known state is the best there is
	}
	first := !o.counted
	o.counted = true
	if o.plan.join(now, r.members) || first {
		o.tell(Event{Kind: EventMembers})
		if first {
			o.sweepAt = now
		} else {
			o.sweepSoon(now)
		}
	}
}

func (o *owner) heardSweep(ctx context.Context, now clock.Instant, r report) {
	if o.over || r.seen == nil {
		return
	}
	for i := range o.jobs {
		if j := &o.jobs[i]; o.plan.spots[i].at == running && j.held.Err() != nil {
			o.plan.spots[i].at, j.told = ending, now
		}
	}
	for _, s := range o.plan.look(now, r.seen) {
		o.do(ctx, now, s)
	}
	o.sweepAt = now.Add(o.plan.next(now))
}

// do does one step of the plan.
func (o *owner) do(ctx context.Context, now clock.Instant, s step) {
	j := &o.jobs[s.name]
	switch s.do {
	case give:
		o.tell(Event{Kind: EventGiving, Name: o.names[s.name], Fence: j.held.Fence()})
		j.told = now
		j.cancel(ErrMoved)
	case leave:
		j.cancel(nil)
	case stand, try:
		acquire := o.sup.Acquire
		if s.do == try {
			acquire = o.sup.TryAcquire
		}
		var waiting context.Context
		waiting, j.cancel = context.WithCancelCause(ctx)
		o.begin(func() report {
			held, err := acquire(waiting, o.key(s.name), o.leases...)
			return report{kind: reportAcquired, name: s.name, held: held, err: err}
		})
	}
}

func (o *owner) heardAcquired(ctx context.Context, now clock.Instant, r report) {
	spot, j := &o.plan.spots[r.name], &o.jobs[r.name]
	j.cancel(nil)
	switch {
	case r.held != nil && (o.over || spot.at == leaving):
		spot.at = leaving
		o.begin(func() report {
			_ = r.held.Release(context.WithoutCancel(ctx)) // the nodes are told in any case
			return report{kind: reportDropped, name: r.name}
		})
	case r.held != nil:
		o.start(ctx, now, r.name, r.held)
	default:
		wanted := spot.at == standing && !o.over
		spot.at = none
		if wanted && !errors.Is(r.err, supervisor.ErrHeld) {
			spot.rest = now.Add(coolMin)
			o.tell(Event{Kind: EventFailed, Name: o.names[r.name], Err: r.err})
		}
	}
}

// start runs the function of a name.
func (o *owner) start(ctx context.Context, now clock.Instant, name int, held *lease.Lease) {
	spot, j := &o.plan.spots[name], &o.jobs[name]
	spot.at, spot.idle = running, 0
	j.held, j.begun, j.told = held, now, 0
	var parent context.Context
	parent, j.cancel = context.WithCancelCause(ctx)
	o.tell(Event{Kind: EventTaken, Name: o.names[name], Fence: held.Fence()})
	o.busy++
	go o.work(parent, name, held)
}

func (o *owner) heardReturned(now clock.Instant, r report) {
	spot, j := &o.plan.spots[r.name], &o.jobs[r.name]
	gave := spot.at == giving || o.over
	j.cancel(nil)
	spot.at = none
	e := Event{Kind: EventGiven, Name: o.names[r.name], Fence: j.held.Fence(), Err: r.err}
	switch why := lost(r.held); {
	case r.panicked != nil:
		e.Kind, e.Err = EventPanicked, r.panicked
		if o.panic == nil {
			o.panic = r.panicked
		}
		o.stop()
	case why != nil:
		e.Kind, e.Err = EventLost, errors.Join(why, r.err)
	case !gave:
		e.Kind = EventReturned
		if now.Sub(j.begun) >= coolMax {
			j.failed = 0
		}
		spot.rest = now.Add(min(coolMax, coolMin<<min(j.failed, 6)))
		j.failed++
	}
	j.held = nil
	o.tell(e)
	o.sweepSoon(now)
}

// sweepSoon makes the next sweep come soon, unless one is under way.
func (o *owner) sweepSoon(now clock.Instant) {
	if o.sweepAt != clock.Never {
		o.sweepAt = min(o.sweepAt, now.Add(o.plan.random(sweepEvery)))
	}
}

// nag sends an event for each function that does not return.
func (o *owner) nag(now clock.Instant) {
	for i := range o.jobs {
		if j := &o.jobs[i]; j.held != nil && j.told != 0 && j.told != clock.Never && now.Sub(j.told) >= slow {
			j.told = clock.Never // once
			o.tell(Event{Kind: EventSlow, Name: o.names[i], Fence: j.held.Fence()})
		}
	}
}

// end waits until all goroutines have ended. After a panic it waits only for a while.
func (o *owner) end(timer clock.Timer) {
	o.over = true
	ctx, begun := context.Background(), o.clock.Now()
	for i := range o.jobs {
		if j := &o.jobs[i]; j.held != nil && j.told == 0 {
			j.told = begun
		}
	}
	for o.busy > 0 {
		timer.Reset(time.Second)
		select {
		case r := <-o.in:
			o.hear(ctx, r)
		case <-timer.C():
			now := o.clock.Now()
			o.nag(now)
			if o.panic != nil && now.Sub(begun) >= slow {
				return
			}
		}
	}
}

func (o *owner) key(name int) string { return o.group + "/" + o.names[name] }

func (o *owner) tell(e Event) {
	e.Group, e.Members = o.group, o.plan.members
	o.opt.observer(e)
}
