package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// try acquires a lease by the library, if nothing speaks against that, and hands it over. An error
// is about the configuration.
func (d *doctor) try(ctx context.Context) error {
	if len(d.cfg.Supervisor.Former) > 0 {
		d.found(nil, Acquisition, Note, "leasehold nodes says how far that has come", "no lease was acquired as a test: the nodes are being changed")
		return nil
	}
	if not := d.notTried(); not != "" {
		d.found(nil, Acquisition, Broken, "first mend what was found about the nodes", "no lease was acquired as a test: %s", not)
		return nil
	}
	first, err := supervisor.New(d.cfg.Supervisor)
	if err != nil {
		return err
	}
	defer end(first)
	second, err := supervisor.New(d.cfg.Supervisor)
	if err != nil {
		return err
	}
	defer end(second)
	// A connection that failed at first, as to a node that is slower than NodeTimeout, may still
	// come about.
	bounded, cancel := context.WithTimeout(ctx, d.step)
	defer cancel()
	for _, sup := range []*supervisor.Supervisor{first, second} {
		until(bounded, func() bool {
			for i, n := range sup.Nodes() {
				if !n.Enrolled && len(d.patients[i].broken) == 0 {
					return false
				}
			}
			return true
		})
	}
	d.judgeStatus(first.Nodes())
	d.handOver(ctx, first, second)
	return nil
}

// notTried returns why no acquisition is tried; "" if one is.
func (d *doctor) notTried() string {
	for _, f := range d.report.Findings {
		switch {
		case f.Check == SameServer && f.Level == Broken:
			return "one server is given twice"
		case f.Check == Agreement && f.Level == Broken:
			return "other clients use other nodes, and would be warned of this one"
		}
	}
	if n := d.votes(); n < d.quorum {
		return fmt.Sprintf("%d of %d nodes can be used, and %d are needed", n, len(d.patients), d.quorum)
	}
	return ""
}

// judgeStatus adds what the library reports about the nodes.
func (d *doctor) judgeStatus(nodes []supervisor.NodeStatus) {
	for i, n := range nodes {
		p := d.patients[i]
		switch {
		case !n.Enrolled && len(p.broken) > 0: // that is why
			continue
		case !n.Enrolled && n.Err == nil:
			d.found(p, Enrolment, Broken, "", "the library is not connected to it after %v", d.step)
			continue
		case !n.Enrolled:
			d.found(p, Enrolment, Broken, "", "the library does not use it: %v", n.Err)
			continue
		}
		if !n.Guarded && !d.cfg.Supervisor.DisableGuard {
			d.found(p, Guard, Warning, "use a server that tells its run_id and its master_replid", "it does not say which incarnation it is, so a restart that loses its data cannot be noticed")
		}
		if n.Young > 0 {
			d.found(p, Young, Warning, "let one client run until then; MaxTTLCap bounds that time",
				"it is used for the first time, was started or has lost its data, so it is asked for no new lease for %v", say.Span(n.Young))
		}
		if !n.Tracks && !slices.Contains(p.broken, Rights) {
			d.found(p, Tracking, Note, "use a server that speaks RESP3 with client tracking", "changed keys are not told at once, only at the next renewal")
		}
	}
}

// handOver acquires the name by one client, and gives it to another that waits.
func (d *doctor) handOver(ctx context.Context, first, second *supervisor.Supervisor) {
	ctx, cancel := context.WithTimeout(ctx, d.ttl/2+3*time.Second)
	defer cancel()
	begun := time.Now()
	held, err := first.TryAcquire(ctx, d.cfg.Name)
	if errors.Is(err, supervisor.ErrNoQuorum) && young(err) == 0 {
		// A quorum can be used, and was too slow. The library waits longer for it now.
		slow := err
		bounded, cancel := context.WithTimeout(ctx, d.step)
		until(bounded, func() bool { return first.Healthy() == nil })
		cancel()
		begun = time.Now()
		if held, err = first.TryAcquire(ctx, d.cfg.Name); err == nil {
			d.found(nil, Acquisition, Warning, "look at what keeps the nodes or this host from answering, or choose a longer TTL", "the first attempt has failed, and the second succeeded: %v", slow)
		}
	}
	switch left := young(err); {
	case left > 0:
		d.found(nil, Acquisition, Warning, "look again then", "no lease was acquired as a test: too few nodes are old enough, for %v", say.Span(left))
		return
	case err != nil:
		d.found(nil, Acquisition, Broken, "", "no lease can be acquired: %v", err)
		return
	}
	d.report.Acquired = say.Span(time.Since(begun))

	next := make(chan *lease.Lease, 1)
	go func() {
		got, failed := second.Acquire(ctx, d.cfg.Name)
		err = failed // read after the receiving
		next <- got
	}()
	until(ctx, func() bool {
		h, _ := first.Inspect(ctx, d.cfg.Name)
		return h.Waiting > 0
	})
	begun = time.Now()
	released := held.Release(ctx)
	got := <-next
	if err != nil {
		d.found(nil, HandOver, Broken, "", "the waiter did not get the lease: %v", err)
		return
	}
	took := time.Since(begun)
	d.report.HandedOver = say.Span(took)
	if released != nil {
		d.found(nil, HandOver, Warning, "", "the release was not confirmed: %v", released)
	}
	if got.Fence() <= held.Fence() {
		d.found(nil, HandOver, Broken, "", "the fence went from %d to %d: it must grow", held.Fence(), got.Fence())
	}
	if most := 2*d.timeout + 6*d.slowest(); took > most {
		d.found(nil, HandOver, Warning, "", "it took %v, as if the waiter was not notified: it should take less than %v", say.Span(took), say.Span(most))
	}
	for i, n := range second.Nodes() {
		if p := d.patients[i]; n.Enrolled && n.NoInbox != nil && !slices.Contains(p.broken, Rights) {
			d.found(p, Inbox, Warning, "", "it cannot tell waiters at once that it is their turn: %v", n.NoInbox)
		}
	}
	_ = got.Release(ctx) // or it expires
}

func (d *doctor) slowest() time.Duration {
	worst, _ := d.worst()
	return worst
}

// until waits until is returns true, or ctx is done.
func until(ctx context.Context, is func() bool) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// end closes a supervisor, and waits for the nodes no longer than a moment.
func end(sup *supervisor.Supervisor) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = sup.Close(ctx) // what is not confirmed expires
}
