package leaseasynq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	leaseasynq "github.com/leasehold-go/leasehold/adapters/asynq"
	"github.com/leasehold-go/leasehold/adapters/internal/redistest"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// patience bounds every wait of these tests. Nothing comes near it unless it hangs.
const patience = time.Minute

const name = "scheduler"

// A world is a Redis server of asynq, and what its schedulers do.
type world struct {
	t      *testing.T
	addr   string
	client redis.UniversalClient

	running, most atomic.Int32 // schedulers at present, and at most

	mu       sync.Mutex
	enqueued []int64 // the seconds in which a task was enqueued
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, addr: redistest.Start(t, 1)[0]}
	w.client = redis.NewClient(&redis.Options{Addr: w.addr})
	t.Cleanup(func() {
		if err := w.client.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// A counted scheduler counts how many run.
type counted struct {
	*asynq.Scheduler
	w *world
}

func (c counted) Start() error {
	for n := c.w.running.Add(1); ; {
		if most := c.w.most.Load(); n <= most || c.w.most.CompareAndSwap(most, n) {
			break
		}
	}
	return c.Scheduler.Start()
}

func (c counted) Shutdown() {
	c.Scheduler.Shutdown()
	c.w.running.Add(-1)
}

// scheduler makes a scheduler with a task each second.
func (w *world) scheduler(context.Context) (leaseasynq.Scheduler, error) {
	s := asynq.NewSchedulerFromRedisClient(w.client, &asynq.SchedulerOpts{
		LogLevel: asynq.FatalLevel,
		PostEnqueueFunc: func(_ *asynq.TaskInfo, err error) {
			if err != nil {
				w.t.Errorf("enqueue: %v", err)
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.enqueued = append(w.enqueued, time.Now().Unix())
		},
	})
	_, err := s.Register("@every 1s", asynq.NewTask("report", nil))
	return counted{s, w}, err
}

func (w *world) all() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.enqueued)
}

// until waits until so many tasks were enqueued.
func (w *world) until(n int) {
	w.t.Helper()
	for end := time.Now().Add(patience); len(w.all()) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%d tasks after %v, want %d", len(w.all()), patience, n)
		}
	}
}

// pending returns how many tasks asynq has.
func (w *world) pending() int {
	w.t.Helper()
	i := asynq.NewInspector(asynq.RedisClientOpt{Addr: w.addr})
	defer i.Close()
	q, err := i.GetQueueInfo("default")
	if err != nil {
		w.t.Fatal(err)
	}
	return q.Pending
}

func start(t *testing.T, conns []node.Conn, host int) *supervisor.Supervisor {
	t.Helper()
	sup, err := supervisor.New(supervisor.Config{
		Nodes: conns, Owner: fmt.Sprintf("host-%d", host), TTL: 5 * time.Second, MaxTTLCap: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = sup.Close(ctx) // nodes may be down
	})
	return sup
}

// run has each tick enqueued once by three replicas.
func run(t *testing.T, conns []node.Conn) {
	var all []int64
	if !redistest.InTime(t, 200*time.Millisecond, func() { all = play(t, conns) }) {
		return
	}
	for i, tick := range all[1:] {
		if tick != all[i]+1 {
			t.Errorf("ticks %v: want one each second", all)
			break
		}
	}
}

// play has three replicas run schedulers, and the leader step down, and the next one end. It
// returns the seconds in which tasks were enqueued.
func play(t *testing.T, conns []node.Conn) []int64 {
	w := newWorld(t)
	sups, stop, over := make([]*supervisor.Supervisor, 3), make([]func(), 3), make([]chan error, 3)
	for host := range sups {
		var ctx context.Context
		ctx, stop[host] = context.WithCancel(context.Background())
		sups[host], over[host] = start(t, conns, host), make(chan error, 1)
		go func() {
			over[host] <- leaseasynq.Run(ctx, sups[host], name, w.scheduler, supervisor.WithCoolDown(time.Second))
		}()
	}
	leader := func() int {
		return slices.IndexFunc(sups, func(s *supervisor.Supervisor) bool { return s.Leading(name) })
	}
	// middle waits for the middle between two ticks, and returns the leader.
	middle := func() int {
		now := time.Now()
		time.Sleep(now.Truncate(time.Second).Add(1500 * time.Millisecond).Sub(now))
		if host := leader(); host >= 0 {
			return host
		}
		t.Fatal("nobody leads")
		return 0
	}
	w.until(2)
	first := middle()
	if err := sups[first].StepDown(context.Background(), name); err != nil {
		t.Error(err)
	}
	w.until(4)
	second := middle()
	if second == first {
		t.Errorf("host %d leads again right after it stepped down", first)
	}
	stop[second]()
	w.until(6)
	if third := leader(); third == second {
		t.Errorf("host %d leads after its end", third)
	}
	middle()
	for host := range sups {
		stop[host]()
		if err := <-over[host]; !errors.Is(err, context.Canceled) {
			t.Errorf("Run of host %d has returned %v", host, err)
		}
	}
	if n := w.most.Load(); n != 1 {
		t.Errorf("%d schedulers ran at once", n)
	}
	for host, sup := range sups {
		if n := sup.Stats().Lost; n > 0 {
			t.Errorf("host %d has lost its lease %d times, though no node was down", host, n)
		}
	}
	if n := w.running.Load(); n != 0 {
		t.Errorf("%d schedulers run on", n)
	}
	all := w.all()
	if n := w.pending(); n != len(all) {
		t.Errorf("asynq has %d tasks, want %d", n, len(all))
	}
	return all
}

// The names are kept by nodes in memory, and the tasks by a Redis server.
func TestTickRunsOnce(t *testing.T) {
	nodes := nodetest.Start(3)
	t.Cleanup(func() {
		for _, n := range nodes {
			n.Close()
		}
	})
	run(t, nodetest.Conns(nodes))
}

// The names are kept by three Redis servers, and the tasks by another.
func TestTickRunsOnceOnRealServers(t *testing.T) {
	run(t, redistest.Conns(redistest.Start(t, 3)))
}

// A loss shuts the scheduler down. Another is made when this process leads again.
func TestLossShutsTheSchedulerDown(t *testing.T) {
	w := newWorld(t)
	nodes := nodetest.Start(3)
	t.Cleanup(func() {
		for _, n := range nodes {
			n.Close()
		}
	})
	sup := start(t, nodetest.Conns(nodes), 0)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	over := make(chan error, 1)
	made := make(chan *lease.Lease, 10)
	go func() {
		over <- leaseasynq.Run(ctx, sup, name, func(ctx context.Context) (leaseasynq.Scheduler, error) {
			made <- lease.FromContext(ctx)
			return w.scheduler(ctx)
		})
	}()
	held := <-made
	w.until(1)
	for _, n := range nodes {
		n.Hang()
	}
	<-held.Lost()
	for end := time.Now().Add(patience); w.running.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the scheduler runs on after the loss")
		}
	}
	before := len(w.all())
	for _, n := range nodes {
		n.Resume()
	}
	if next := <-made; next.Fence() <= held.Fence() {
		t.Errorf("fence %d after %d", next.Fence(), held.Fence())
	}
	w.until(before + 1)
	stop()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("Run has returned %v", err)
	}
	if n := w.most.Load(); n != 1 {
		t.Errorf("%d schedulers ran at once", n)
	}
}

// A stub is a scheduler that does nothing.
type stub struct {
	err       error
	shut, ran *atomic.Int32
}

func (s stub) Start() error { s.ran.Add(1); return s.err }
func (s stub) Shutdown()    { s.shut.Add(1) }

// Run says why it has ended, and shuts down only what it has started.
func TestRunEnds(t *testing.T) {
	nodes := nodetest.Start(3)
	t.Cleanup(func() {
		for _, n := range nodes {
			n.Close()
		}
	})
	wrong := errors.New("wrong")
	for what, c := range map[string]struct {
		makes error
		start error
		ends  func(*supervisor.Supervisor) // once it has started
		want  error
		shut  int32
	}{
		"newScheduler fails": {makes: wrong, want: wrong},
		"Start fails":        {start: wrong, want: wrong},
		"the supervisor is closed": {ends: func(s *supervisor.Supervisor) { s.Close(context.Background()) },
			want: supervisor.ErrClosed, shut: 1},
		"the lease is released": {ends: func(s *supervisor.Supervisor) { s.StepDown(context.Background(), name) }, shut: 1},
	} {
		t.Run(what, func(t *testing.T) {
			sup := start(t, nodetest.Conns(nodes), 0)
			s := stub{err: c.start, shut: new(atomic.Int32), ran: new(atomic.Int32)}
			over := make(chan error, 1)
			go func() {
				over <- leaseasynq.Run(context.Background(), sup, name, func(context.Context) (leaseasynq.Scheduler, error) {
					return s, c.makes
				})
			}()
			if c.ends != nil {
				for s.ran.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				c.ends(sup)
			}
			if err := <-over; !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("Run has returned %v, want %v", err, c.want)
			}
			if n := s.shut.Load(); n != c.shut {
				t.Errorf("shut down %d times, want %d", n, c.shut)
			}
		})
	}
	sup := start(t, nodetest.Conns(nodes), 0)
	if err := leaseasynq.Run(t.Context(), nil, name, func(context.Context) (leaseasynq.Scheduler, error) { return nil, nil }); err == nil {
		t.Error("it runs without a supervisor")
	}
	if err := leaseasynq.Run(t.Context(), sup, name, nil); err == nil {
		t.Error("it runs without a function")
	}
	if err := leaseasynq.Run(t.Context(), sup, name, func(context.Context) (leaseasynq.Scheduler, error) { return nil, nil }, supervisor.WithOwner("")); err == nil {
		t.Error("it runs with a wrong option")
	}
}
