package status

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Options say what a [Page] shows. A zero field takes its default.
type Options struct {
	// Title is the heading of the page, and the end of the browser tab's. Default "leasehold".
	Title string

	// Watch are names of which the page shows the holder and the queue, also if another process holds
	// them, without the supervisor's prefix. At most 100, each once. Default none.
	Watch []string

	// Events is the [Recorder] that the supervisor has as its Observer. Default none: the page shows no
	// events then, and notices a change up to Every later.
	Events *Recorder

	// Every is how often the page is brought up to date, 100 ms to 5 s. A recorded event brings it up
	// to date at once, or a quarter of a second after the last time. Default 500 ms.
	Every time.Duration

	// Streams is how many browsers are kept up to date at once, 1 to 10,000. Further ones are
	// answered 503, and load the page every five seconds instead. Default 32.
	Streams int
}

const (
	maxWatch   = 100
	maxStreams = 10_000
	minEvery   = 100 * time.Millisecond
	maxEvery   = 5 * time.Second

	// rest is between two looks, whatever happens, unless Every is less.
	rest = 250 * time.Millisecond
	// askEvery is between two rounds of questions to the nodes.
	askEvery = time.Second
	// askFor is how long the nodes are asked after a request.
	askFor = 10 * time.Second
	// thrift is for how many times as long as a look at the leases took they are not looked at again.
	thrift = 100
)

// A Page is an [http.Handler] that shows one supervisor. Its methods may be called from any
// goroutine. Make it with [New], and end it with Close.
type Page struct {
	sup    *supervisor.Supervisor
	opt    Options
	clock  clock.Clock
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	poked  chan struct{} // with room for one: look now
	wanted chan struct{} // with room for one: somebody looks at the page

	// Of the goroutine that looks.
	nodes    []supervisor.NodeStatus // as known last
	since    []time.Time             // when each was seen to be as Enrolled as it is
	stats    supervisor.Stats
	leases   []*lease.Lease
	longest  map[leaseKey]time.Duration // that was left of a lease
	leasesAt clock.Instant              // when they may be looked at again

	mu          sync.Mutex
	report      *report       // the latest
	changed     chan struct{} // closed when there is a later one
	names       []name        // as known last
	namesAt     clock.Instant // when they were asked for; 0 if they were not
	viewedUntil clock.Instant
	streams     int
}

// A leaseKey tells one lease from all others.
type leaseKey struct {
	name  string
	fence uint64
}

// New makes a page of a supervisor. It does not wait for nodes. An error names every option that is
// wrong. End the page with [Page.Close], before the supervisor or after it: that of the supervisor is shown.
func New(sup *supervisor.Supervisor, opt Options) (*Page, error) {
	if opt.Title == "" {
		opt.Title = "leasehold"
	}
	if opt.Every == 0 {
		opt.Every = 500 * time.Millisecond
	}
	if opt.Streams == 0 {
		opt.Streams = 32
	}
	if err := opt.validate(sup); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	opt.Watch = append([]string(nil), opt.Watch...)
	p := &Page{
		sup: sup, opt: opt, clock: clock.Runtime(),
		poked: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		longest: make(map[leaseKey]time.Duration), changed: make(chan struct{}),
	}
	for _, watched := range opt.Watch {
		p.names = append(p.names, name{Asked: watched})
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if opt.Events != nil {
		opt.Events.attach(p.poked)
	}
	p.look(wallTime())
	p.tasks.Go(p.run)
	if len(opt.Watch) > 0 {
		p.tasks.Go(p.ask)
	}
	return p, nil
}

// validate reports all that is wrong.
func (opt Options) validate(sup *supervisor.Supervisor) error {
	var broken []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			broken = append(broken, fmt.Errorf(format, args...))
		}
	}
	want(sup != nil, "want a supervisor, not nil")
	want(opt.Every >= minEvery && opt.Every <= maxEvery, "Every %v: want %v to %v", opt.Every, minEvery, maxEvery)
	want(opt.Streams >= 1 && opt.Streams <= maxStreams, "Streams %d: want 1 to %d", opt.Streams, maxStreams)
	want(len(opt.Watch) <= maxWatch, "Watch: %d names given: want at most %d", len(opt.Watch), maxWatch)
	seen := make(map[string]int)
	for i, name := range opt.Watch {
		want(name != "", `Watch[%d] "": want a name that is not empty`, i)
		seen[name]++
		want(seen[name] != 2, "Watch: name %.64q: given more than once", name)
	}
	return errors.Join(broken...)
}

// Close ends the page: it ends the streams to browsers, waits for the page's own goroutines, and returns
// nil. Later requests for the page are answered 503, but the probes are answered as before. It does not wait
// for requests. As http.Server.Shutdown waits for streams, have the server call Close then: see
// RegisterOnShutdown there. Closing a page again does nothing.
func (p *Page) Close() error {
	p.cancel()
	if p.opt.Events != nil {
		p.opt.Events.detach(p.poked)
	}
	p.tasks.Wait()
	return nil
}

// run keeps the report up to date.
func (p *Page) run() {
	rest := min(rest, p.opt.Every)
	timer := p.clock.NewTimer(p.opt.Every)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-p.poked:
		case <-p.ctx.Done():
			return
		}
		p.look(wallTime())
		if timer.Reset(rest); !p.sleep(timer) { // what happens meanwhile comes together
			return
		}
		timer.Reset(p.opt.Every - rest)
	}
}

// sleep waits for a timer, and reports false if Close was called.
func (p *Page) sleep(timer clock.Timer) bool {
	select {
	case <-timer.C():
		return true
	case <-p.ctx.Done():
		return false
	}
}

// look makes a new report. Only New and run call it.
func (p *Page) look(now time.Time) {
	unhealthy := p.sup.Healthy()
	if isAlive(unhealthy) || errors.Is(unhealthy, supervisor.ErrClosed) { // else what follows may have to wait
		p.take(now)
	}
	p.mu.Lock()
	names, namesAt := p.names, p.namesAt
	p.mu.Unlock()
	r := p.draw(now, unhealthy, names, namesAt)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report = r
	close(p.changed)
	p.changed = make(chan struct{})
}

// take asks the supervisor what it knows.
func (p *Page) take(now time.Time) {
	nodes := p.sup.Nodes()
	if p.since == nil {
		p.since = make([]time.Time, len(nodes))
	}
	for i, n := range nodes {
		if p.nodes == nil || n.Enrolled != p.nodes[i].Enrolled {
			p.since[i] = now
		}
	}
	p.nodes, p.stats = nodes, p.sup.Stats()
	begun := p.clock.Now()
	if begun < p.leasesAt {
		return
	}
	p.leases = p.sup.Leases()
	if len(p.leases) > maxLeases {
		p.leases = append([]*lease.Lease(nil), p.leases[:maxLeases]...) // so that the rest is freed
	}
	end := p.clock.Now()
	p.leasesAt = end.Add(thrift * end.Sub(begun))
}

// maxLeases is how many are shown.
const maxLeases = 200

// ask asks the nodes about the names to watch, while somebody looks at the page.
func (p *Page) ask() {
	timer := p.clock.NewTimer(askEvery)
	defer timer.Stop()
	for {
		if !p.isViewed() {
			select {
			case <-p.wanted:
			case <-p.ctx.Done():
				return
			}
			continue
		}
		p.askOnce()
		if timer.Reset(askEvery); !p.sleep(timer) {
			return
		}
	}
}

// askOnce asks about all names at once: each question is a command in a pipeline to each node. A silent
// node takes its time, which is why this has a goroutine of its own.
func (p *Page) askOnce() {
	begun := p.clock.Now()
	names := make([]name, len(p.opt.Watch))
	var wg sync.WaitGroup
	for i, asked := range p.opt.Watch {
		wg.Go(func() {
			h, err := p.sup.Inspect(p.ctx, asked)
			h.Err = err
			names[i] = name{Asked: asked, Answered: true, Here: p.sup.Leading(asked), Holding: h}
		})
	}
	wg.Wait()
	p.mu.Lock()
	p.names, p.namesAt = names, begun
	p.mu.Unlock()
	poke(p.poked)
}

// isViewed reports whether somebody looks at the page, or has done so a moment ago.
func (p *Page) isViewed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams > 0 || p.clock.Now() < p.viewedUntil
}

// view notes that somebody looks at the page, and returns the latest report. If the names were
// not asked for lately it waits for that a moment.
func (p *Page) view(ctx context.Context) *report {
	p.mu.Lock()
	p.viewedUntil = p.clock.Now().Add(askFor)
	p.mu.Unlock()
	poke(p.wanted)
	timer := p.clock.NewTimer(askEvery)
	defer timer.Stop()
	for {
		r, changed := p.latest()
		if len(p.opt.Watch) == 0 || p.clock.Now().Sub(r.namesAt) < 2*askEvery+p.opt.Every {
			return r
		}
		select {
		case <-changed:
		case <-timer.C():
			return r
		case <-ctx.Done():
			return r
		case <-p.ctx.Done():
			return r
		}
	}
}

// latest returns the latest report, and what is closed when there is a later one.
func (p *Page) latest() (*report, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report, p.changed
}

// enter begins a stream, or reports false if there are too many.
func (p *Page) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams >= p.opt.Streams {
		return false
	}
	p.streams++
	poke(p.wanted)
	return true
}

func (p *Page) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams--
}

// wallTime returns the time of day. Package clock tells instants, which have none; its timers tell the time
// at which they fire.
func wallTime() time.Time {
	timer := clock.Runtime().NewTimer(0)
	defer timer.Stop()
	return (<-timer.C()).UTC()
}
