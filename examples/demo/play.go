package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A play is one performance: the acts are its method acts, and the candidates act
// by themselves in campaign.
type play struct {
	name     string
	ttl      time.Duration
	nodes    setup.Nodes
	alive    int // of the nodes
	killed   int
	cast     []candidate
	timeline *timeline
	register register
	leaders  chan *tenure
	running  sync.WaitGroup
	ended    atomic.Bool // a candidate that still waits need not say why
}

// A candidate competes with a supervisor of its own.
type candidate struct {
	name string
	sup  *supervisor.Supervisor
}

// A tenure is one candidate's time as the leader.
type tenure struct {
	candidate
	lease    *lease.Lease
	stepDown chan struct{} // closed to have it give the name up
	over     chan struct{} // closed when it leads no more
}

// perform plays the acts, says how it went, and returns the exit status.
func (p *play) perform(ctx context.Context) int {
	ctx, cancel := context.WithCancel(ctx)
	err := p.acts(ctx)
	p.ended.Store(err == nil || ctx.Err() != nil)
	cancel()
	p.running.Wait()
	if err != nil {
		p.timeline.say(event{Event: "failed", Text: err.Error()})
	}
	p.timeline.chart(p.cast)

	verdict, kept := p.register.verdict(p.killed)
	if err != nil {
		verdict += " But it did not come to its end."
	}
	p.timeline.say(event{Event: "verdict", Text: verdict})
	if err != nil || !kept {
		return 1
	}
	return 0
}

// acts is the plot.
func (p *play) acts(ctx context.Context) error {
	alpha, beta, gamma := p.cast[0], p.cast[1], p.cast[2]
	n := len(p.nodes.Conns)
	quorum := n/2 + 1

	p.act("Three candidates want to lead; %d of %d nodes must agree (TTL %v).", quorum, n, p.ttl)
	if p.nodes.Embedded != nil {
		if err := await(ctx, func() bool { return connected(alpha) == n }); err != nil {
			return fmt.Errorf("only %d nodes can be reached: %w", connected(alpha), err)
		}
	}
	p.join(ctx, alpha)
	first, err := p.next(ctx)
	if err != nil {
		return err
	}
	// It leads with a quorum; the other votes may still be on their way, and it is
	// to have them all before its rivals come, so that it can afford to lose two.
	if err := await(ctx, func() bool { return p.everywhere(first) }); err != nil {
		return fmt.Errorf("%s has not got every vote: %w", first.name, err)
	}
	p.join(ctx, beta)
	p.join(ctx, gamma)
	if err := setup.Pause(ctx, p.ttl/3); err != nil {
		return err
	}

	leader := first
	if p.nodes.Embedded == nil {
		p.act("The nodes are yours, so nobody kills them here; without -nodes there is more to see.")
	} else {
		if err := p.kill(ctx, first); err != nil {
			return err
		}
		if leader, err = p.next(ctx); err != nil {
			return err
		}
	}
	if err := setup.Pause(ctx, p.ttl/2); err != nil {
		return err
	}

	p.act("The leader steps down: the others need not wait for the TTL.")
	close(leader.stepDown)
	if leader, err = p.next(ctx); err != nil {
		return err
	}
	if err := setup.Pause(ctx, p.ttl/2); err != nil {
		return err
	}
	if err := leader.lease.Err(); err != nil {
		return fmt.Errorf("%s has lost a lease that nothing threatened: %w", leader.name, err)
	}
	return nil // the end of the context has the last leader give the name back
}

// kill is the part in which nodes die, one after the other, until the leader goes.
func (p *play) kill(ctx context.Context, first *tenure) error {
	p.act("Two nodes die. Three remain, a majority: the leader renews there and nobody notices.")
	p.crash(0)
	p.crash(1)
	if err := setup.Pause(ctx, p.ttl*3/2); err != nil {
		return err
	}
	if err := first.lease.Err(); err != nil {
		return fmt.Errorf("%s has lost its lease although a majority lives: %w", first.name, err)
	}
	p.timeline.say(event{
		Event: "unharmed", Owner: first.name, Name: p.name, Fence: first.lease.Fence(),
		Remaining: first.lease.Remaining().Seconds(),
		Text:      fmt.Sprintf("still leads, one and a half TTLs later; %s in hand", seconds(first.lease.Remaining())),
	})

	p.act("A third one dies. Nobody can renew now, and the leader must know in time.")
	p.crash(2)
	select {
	case <-first.over:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := setup.Pause(ctx, p.ttl/4); err != nil {
		return err
	}

	p.act("The dead come back with nothing in memory: for a TTL they are asked for no new lease.")
	for i := range 3 {
		p.nodes.Embedded[i].Restart()
		p.alive++
		p.timeline.say(event{Event: "node_up", Node: p.nodes.Conns[i].String(), Alive: p.alive, Text: "is back"})
	}
	return nil
}

func (p *play) act(format string, args ...any) {
	p.timeline.say(event{Event: "act", Alive: p.alive, Text: fmt.Sprintf(format, args...)})
}

func (p *play) crash(i int) {
	p.nodes.Embedded[i].Crash()
	p.alive--
	p.killed++
	p.timeline.say(event{Event: "node_down", Node: p.nodes.Conns[i].String(), Alive: p.alive, Text: fmt.Sprintf("dies; %d left", p.alive)})
}

// connected returns how many nodes a candidate can reach.
func connected(c candidate) (n int) {
	for _, node := range c.sup.Nodes() {
		if node.Enrolled {
			n++
		}
	}
	return n
}

// everywhere reports whether every embedded node keeps the leader's token.
func (p *play) everywhere(t *tenure) bool {
	for _, n := range p.nodes.Embedded {
		if token, _, _ := n.Get(p.name); token != string(t.lease.Token()) {
			return false
		}
	}
	return true
}

// await polls until a condition holds.
func await(ctx context.Context, holds func() bool) error {
	for !holds() {
		if err := setup.Pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// next waits for the next leader.
func (p *play) next(ctx context.Context) (*tenure, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited for %v", patience))
	defer cancel()
	select {
	case t := <-p.leaders:
		return t, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("nobody leads: %w", context.Cause(ctx))
	}
}

// join makes c a candidate, for one tenure.
func (p *play) join(ctx context.Context, c candidate) {
	p.timeline.say(event{Event: "candidate", Owner: c.name, Name: p.name, Text: "wants to lead"})
	p.running.Go(func() { p.campaign(ctx, c) })
}

// campaign waits until c leads, and leads until it steps down or the lease is lost.
func (p *play) campaign(ctx context.Context, c candidate) {
	held, err := c.sup.Acquire(ctx, p.name)
	if err != nil {
		if !p.ended.Load() {
			p.timeline.say(event{Event: "failed", Owner: c.name, Name: p.name, Text: err.Error()})
		}
		return
	}
	// Whatever happens: the name is not kept.
	defer held.Release(context.WithoutCancel(ctx))
	say := func(e event) {
		e.Owner, e.Name, e.Fence = c.name, p.name, held.Fence()
		p.timeline.say(e)
	}
	violations := p.register.enter(c.name, held)
	say(event{Event: "acquired", Remaining: held.Remaining().Seconds(), Text: fmt.Sprintf("leads, with fence %d", held.Fence())})
	for _, v := range violations {
		say(event{Event: "violation", Text: v})
	}
	t := &tenure{c, held, make(chan struct{}), make(chan struct{})}
	defer close(t.over)
	select {
	case p.leaders <- t:
	case <-held.Lost(): // told below
	case <-ctx.Done():
	}

	// A lost lease has nothing remaining, so the instant until which the nodes keep
	// it is noted while it is held.
	now := clock.System().Now
	end := now().Add(held.Remaining())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			end = max(end, now().Add(held.Remaining()))
			continue
		case <-t.stepDown:
		case <-ctx.Done():
		case <-held.Lost():
			left := end.Sub(now())
			p.register.lost(left)
			say(event{
				Event: "lost", Remaining: left.Seconds(),
				Text: fmt.Sprintf("is told that the name is lost, %s before the nodes may let others in", seconds(left)),
			})
			return
		}
		// Before the release, or else the next leader might be announced first. The
		// work has stopped by now: this leader only watched.
		say(event{Event: "released", Text: "gives the name back"})
		return
	}
}

// seconds shows a duration as people like it.
func seconds(d time.Duration) string {
	return strings.TrimSuffix(fmt.Sprintf("%.2f", d.Seconds()), ".00") + " s"
}

// A register sees every leader. It does not take their word: a lease that is held
// while another one is held is a violation, and so is a fence that does not grow,
// and a loss that is told too late.
type register struct {
	mu       sync.Mutex
	leases   []entry
	overlaps int // two leaders at once
	others   int // other violations
}

type entry struct {
	who   string
	lease *lease.Lease
}

// enter notes a new leader, and returns what is wrong with it.
func (r *register) enter(who string, l *lease.Lease) (violations []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.leases {
		// In this order: if the other one was valid and this one still is, then both
		// were at once. One that ended while its goroutine was on the way here has
		// harmed nobody.
		switch otherValid := other.lease.Valid(); {
		case !l.Valid():
		case otherValid:
			r.overlaps++
			violations = append(violations, fmt.Sprintf("leads while %s does", other.who))
		case l.Fence() <= other.lease.Fence():
			r.others++
			violations = append(violations, fmt.Sprintf("has fence %d, but %s had %d", l.Fence(), other.who, other.lease.Fence()))
		}
	}
	r.leases = append(r.leases, entry{who, l})
	return violations
}

// lost notes how long before the end of a lease its holder was told.
func (r *register) lost(left time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if left <= 0 {
		r.others++
	}
}

// verdict sums it up in a sentence, and reports whether every promise was kept.
func (r *register) verdict(killed int) (text string, kept bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := "never"
	if r.overlaps > 0 {
		times = fmt.Sprintf("%d times", r.overlaps)
	}
	text = fmt.Sprintf("Tenures: %d; nodes killed: %d; two leaders at once: %s.", len(r.leases), killed, times)
	if r.others > 0 {
		text += fmt.Sprintf(" Other promises broken: %d.", r.others)
	}
	return text, r.overlaps+r.others == 0
}
