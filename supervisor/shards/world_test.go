package shards_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/shards"
)

const ttl = 10 * time.Second

// A world is some processes that share names, and the store that their functions write to.
type world struct {
	t     *testing.T
	nodes []*nodetest.Node
	names []string
	stop  time.Duration // how long a function takes to return
	opts  []shards.Option
	all   []*process

	mu    sync.Mutex
	store map[string]record
	taken int           // functions that were begun
	gap   time.Duration // the longest for which a name that had an owner had none
	steps []step        // of the nodes' clocks
	begun time.Time

	excused int // second owners after one
}

// A step is that of a node's clock.
type step struct {
	at time.Time
	by time.Duration
}

// A record is what the store knows of a name.
type record struct {
	owner *process // whose function runs
	fence uint64
	since time.Time // when the last owner's function returned
}

// A process has a supervisor of its own, and calls Own.
type process struct {
	w      *world
	id     string
	sup    *supervisor.Supervisor
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
	events []shards.Event
	in     bool // it takes part, and can reach the nodes
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%03d", i)
	}
	return all
}

// bubble runs f in a world of three nodes, and wants everything to end after it.
func bubble(t *testing.T, n int, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: nodetest.Start(3), names: names(n), stop: 80 * time.Millisecond, store: make(map[string]record), begun: time.Now()}
		f(w)
		for _, p := range w.all {
			p.cancel()
		}
		for _, p := range w.all {
			<-p.ended
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = p.sup.Close(ctx)
		}
		for _, n := range w.nodes {
			n.Close()
		}
	})
}

// supervise makes a supervisor that reaches the nodes by a path of its own.
func (w *world) supervise(id string) *supervisor.Supervisor {
	w.t.Helper()
	cfg := supervisor.Config{TTL: ttl, MaxTTLCap: ttl, Clock: clock.Runtime(), Owner: id}
	for _, n := range w.nodes {
		cfg.Nodes = append(cfg.Nodes, n.ConnOf(id))
	}
	sup, err := supervisor.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return sup
}

// join has one more process take part.
func (w *world) join(opts ...shards.Option) *process {
	w.t.Helper()
	id := fmt.Sprint("p", len(w.all))
	p := &process{w: w, id: id, sup: w.supervise(id), ended: make(chan struct{}), in: true}
	w.all = append(w.all, p)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	names := w.names
	opts = append(append([]shards.Option{shards.WithObserver(p.note)}, w.opts...), opts...)
	go func() {
		defer close(p.ended)
		p.err = shards.Own(ctx, p.sup, "g", names, p.work, opts...)
	}()
	return p
}

func (w *world) joins(n int) {
	for range n {
		w.join()
	}
}

func (p *process) note(e shards.Event) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.events = append(p.events, e)
}

// work is the function: it writes with its fence, and takes a while to return.
func (p *process) work(ctx context.Context, name string) error {
	p.w.enter(p, name, lease.FromContext(ctx).Fence())
	<-ctx.Done()
	time.Sleep(p.w.stop)
	p.w.leave(p, name)
	return ctx.Err()
}

func (w *world) enter(p *process, name string, fence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.store[name]
	if r.owner != nil {
		complain := w.t.Errorf
		if w.stepped() {
			complain = w.t.Logf
			w.excused++
		}
		complain("%7.3f s  %s has %s with the fence %d while %s does with %d", time.Since(w.begun).Seconds(), p.id, name, fence, r.owner.id, r.fence)
	}
	if fence <= r.fence {
		w.t.Errorf("%s writes %s with the fence %d after one of %d", p.id, name, fence, r.fence)
	}
	if !r.since.IsZero() {
		w.gap = max(w.gap, time.Since(r.since))
	}
	w.taken++
	w.store[name] = record{owner: p, fence: fence}
}

// jump sets the clock of a node ahead.
func (w *world) jump(i int, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = append(w.steps, step{time.Now(), d})
	w.nodes[i].Jump(d)
}

// stepped reports whether a node may have forgotten a lease too early, that its holder may not have
// renewed since: its clock was set ahead by more than the drift within a TTL, and the time for which
// a function that was told to return may still run.
func (w *world) stepped() bool {
	var sum time.Duration
	for _, s := range w.steps {
		if time.Since(s.at) <= ttl+w.stop {
			sum += s.by
		}
	}
	return sum > ttl/100+2*time.Millisecond
}

func (w *world) leave(p *process, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.store[name].owner != p {
		return // which was an error
	}
	w.store[name] = record{fence: w.store[name].fence, since: time.Now()}
}

// quit has a process end its Own.
func (p *process) quit() {
	p.in = false
	p.cancel()
}

// cut takes a process off the nodes, as the death of its machine does.
func (p *process) cut() {
	p.in = false
	for _, n := range p.w.nodes {
		n.Cut(p.id)
	}
}

func (p *process) mend() {
	p.in = true
	for _, n := range p.w.nodes {
		n.Mend(p.id)
	}
}

// parts returns how many names each process that takes part owns, and how many nobody of
// them does.
func (w *world) parts() (parts map[*process]int, idle int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	parts = make(map[*process]int)
	for _, p := range w.all {
		if p.in {
			parts[p] = 0
		}
	}
	for _, name := range w.names {
		if p := w.store[name].owner; p != nil && p.in {
			parts[p]++
		} else {
			idle++
		}
	}
	return parts, idle
}

// spread returns by how much the largest part is larger than the smallest.
func (w *world) spread() (spread, idle int) {
	parts, idle := w.parts()
	least, most := len(w.names), 0
	for _, n := range parts {
		least, most = min(least, n), max(most, n)
	}
	return most - least, idle
}

// least returns how many functions have to begin before all is balanced.
func (w *world) least() int {
	parts, idle := w.parts()
	n, m := len(w.names), len(parts)
	lo, hi := n/m, (n+m-1)/m
	need, over := 0, 0
	for _, have := range parts {
		need += max(0, lo-have)
		over += max(0, have-hi)
	}
	return max(need, idle+over)
}

// balanced waits until every name has an owner and the parts are equal, and then for some
// time more in which nothing may change. It returns how long that took, without the
// latter, and how many names have moved.
func (w *world) balanced(within time.Duration) (took time.Duration, moves int) {
	w.t.Helper()
	begun, before := time.Now(), w.takes()
	for {
		if spread, idle := w.spread(); spread <= 1 && idle == 0 {
			took = time.Since(begun)
			break
		}
		if time.Since(begun) > within {
			parts, idle := w.parts()
			for p, n := range parts {
				w.t.Logf("%s has %d", p.id, n)
			}
			w.t.Fatalf("not balanced after %v: %d without an owner", within, idle)
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	if spread, idle := w.spread(); spread > 1 || idle > 0 {
		w.t.Errorf("after it was balanced the spread is %d, and %d have no owner", spread, idle)
	}
	return took, w.takes() - before
}

func (w *world) takes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken
}

// count returns how many events of a kind a process was told.
func (p *process) count(kind shards.EventKind) (n int) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, e := range p.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (p *process) wantEnd(err error) {
	p.w.t.Helper()
	<-p.ended
	if !errors.Is(p.err, err) {
		p.w.t.Errorf("%s ended with %v: want %v", p.id, p.err, err)
	}
}
