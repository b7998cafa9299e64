package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// runs is how often a scenario is played, each time with other jitter.
const runs = 3

// Steps of the nodes' clocks within the drift, which is 22 ms at a TTL of 2 s, end nothing,
// however often a busy client hears of them. Nor does a clock that is slowly gaining.
func TestHarmlessClockSteps(t *testing.T) {
	ms := time.Millisecond
	all := func(d ...time.Duration) func([]*nodetest.Node) {
		return func(nodes []*nodetest.Node) {
			for _, d := range d {
				for _, n := range nodes {
					n.Jump(d)
				}
				time.Sleep(1500 * ms) // every vote is renewed
			}
		}
	}
	for _, tt := range []struct {
		name string
		ttl  time.Duration
		busy bool
		opts []supervisor.Option
		step func(nodes []*nodetest.Node)
	}{
		{"15ms ahead", 2 * time.Second, false, nil, all(15 * ms)},
		{"15ms back", 2 * time.Second, false, nil, all(-15 * ms)},
		{"15ms twice", 2 * time.Second, false, nil, all(15*ms, 15*ms)},
		{"4ms, busy", 2 * time.Second, true, nil, all(4 * ms)},
		{"4ms, long", 10 * time.Second, false, nil, all(4 * ms)},
		{"4ms, long and busy", 10 * time.Second, true, nil, all(4 * ms)},
		{"4ms, not renewed", 10 * time.Second, true, []supervisor.Option{supervisor.WithoutRenewal()}, all(4 * ms)},
		{"15ms, not renewed", 10 * time.Second, true, []supervisor.Option{supervisor.WithoutRenewal()}, all(15 * ms)},
		{"one node gains 0.5 %", 2 * time.Second, true, nil, func(nodes []*nodetest.Node) {
			for range 300 {
				nodes[0].Jump(ms / 4)
				time.Sleep(50 * ms)
			}
		}},
		{"one of three 5s ahead", 2 * time.Second, false, nil, func(nodes []*nodetest.Node) {
			nodes[0].Jump(5 * time.Second)
			time.Sleep(3 * time.Second)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range runs {
				bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
					sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.TTL = tt.ttl })
					held := acquire(t, sup, "x", tt.opts...)
					if tt.busy {
						defer work(t, sup)()
					}
					time.Sleep(300 * time.Millisecond)
					tt.step(nodes)
					if err := held.Err(); err != nil {
						t.Fatal(err)
					}
				})
			}
		})
	}
}

// work acquires and releases another name again and again, until stop.
func work(t *testing.T, sup *supervisor.Supervisor) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for ctx.Err() == nil {
			if held, err := sup.Acquire(ctx, "other"); err == nil {
				time.Sleep(5 * time.Millisecond)
				_ = held.Release(context.WithoutCancel(ctx))
			}
		}
	})
	return func() {
		cancel()
		working.Wait()
	}
}

// If the clocks of a quorum are far ahead, the leases are lost as soon as two nodes have said
// so, and that is why. A name is free again then.
func TestClocksOfAQuorumFarAhead(t *testing.T) {
	for range runs {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes)
			held, unkept := acquire(t, sup, "x"), acquire(t, sup, "y", supervisor.WithoutRenewal())
			time.Sleep(300 * time.Millisecond)
			for _, n := range nodes[:2] {
				n.Jump(5 * time.Second)
			}
			if held.Err() != nil || unkept.Err() != nil {
				t.Fatalf("%v, %v: before anybody has said so", held.Err(), unkept.Err())
			}
			acquire(t, sup, "z")
			for _, l := range []*lease.Lease{held, unkept} {
				if !errors.Is(l.Err(), lease.ErrPaused) {
					t.Errorf("%s: %v", l.Name(), l.Err())
				}
			}
			acquire(t, start(t, nodes, owner("rival")), "x")
		})
	}
}

// A pause of the whole machine that our clock does not see: to it the nodes' clocks gain 3 s.
// What must have expired is lost, also if nothing is renewed; what has time left goes on, and
// the rest of its time is as much shorter.
func TestUnseenPause(t *testing.T) {
	const pause, grace = 3 * time.Second, 500 * time.Millisecond // grace is a twentieth of 10 s
	for range runs {
		bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
			sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.MaxTTL = 10 * time.Second })
			short, unkept := acquire(t, sup, "short"), acquire(t, sup, "unkept", supervisor.WithoutRenewal())
			long := acquire(t, sup, "long", supervisor.WithTTL(10*time.Second))
			alone := acquire(t, sup, "alone", supervisor.WithTTL(10*time.Second), supervisor.WithoutRenewal())
			time.Sleep(300 * time.Millisecond)
			before := alone.Remaining()
			for _, n := range nodes {
				n.Jump(pause)
			}
			acquire(t, sup, "next")
			if !errors.Is(short.Err(), lease.ErrPaused) || !errors.Is(unkept.Err(), lease.ErrPaused) {
				t.Errorf("%v, %v: want those to be lost whose keys have expired", short.Err(), unkept.Err())
			}
			if got := alone.Remaining(); got > before-pause || got < before-pause-10*time.Millisecond {
				t.Errorf("%v left, and %v before: want %v less", got, before, pause)
			}
			time.Sleep(alone.Remaining() - grace - time.Millisecond)
			if alone.Err() != nil || long.Err() != nil {
				t.Errorf("%v, %v: want those to go on that have time left", alone.Err(), long.Err())
			}
			time.Sleep(time.Millisecond)
			if !errors.Is(alone.Err(), lease.ErrExpired) || long.Err() != nil {
				t.Errorf("%v, %v: want the one to expire that is not renewed", alone.Err(), long.Err())
			}
		})
	}
}

// A lease that began while two nodes of five were young stands on all of them as soon as they
// are healed: TTL/4 and the drift, 522 ms, after this process first heard of their lives, and
// a few round trips; but not before 50 ms after it began. From then on one of the three that
// elected it may die.
//
// What no rule keeps is a lease one of whose voters dies before that. Two voters are left, so
// no quorum of others can confirm that nobody came between, and the two that are healed do not
// count. It is lost when its last votes run out, unless the dead node comes back. So with
// nodes that were restarted 0.5 s before, 0.1 s is enough, and with such that were restarted
// just now 0.6 s is.
func TestYoungNodesAreHealedSoon(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		restarted, dies time.Duration // before the lease began, and after
		kept            bool
	}{
		{500 * ms, 100 * ms, true},
		{500 * ms, 200 * ms, true},
		{500 * ms, 500 * ms, true},
		{500 * ms, time.Second, true},
		{250 * ms, 350 * ms, true},
		{0, 600 * ms, true},
		{0, 700 * ms, true},
		{500 * ms, 10 * ms, false},
		{0, 400 * ms, false},
	} {
		t.Run(fmt.Sprintf("restarted %v before, dies %v after", tt.restarted, tt.dies), func(t *testing.T) {
			for k := range runs {
				bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
					for _, n := range nodes {
						n.Delay(ms)
					}
					sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.MaxTTLCap = time.Minute })
					time.Sleep(time.Second)
					for _, n := range nodes[3:] {
						n.Restart()
					}
					time.Sleep(tt.restarted)
					held := acquire(t, sup, "x")
					wantKeys(t, nodes, "x", string(held.Token()), 3)
					time.Sleep(tt.dies)
					nodes[k%3].Crash()
					time.Sleep(5 * ttl)
					synctest.Wait()
					if err := held.Err(); (err == nil) != tt.kept {
						t.Errorf("run %d: %v", k, err)
					}
				})
			}
		})
	}
}
