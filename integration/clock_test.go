//go:build linux

package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// clocked returns servers whose clocks can be set, of which the clients think that they
// were known for long.
func clocked(t *testing.T, n int) []*cluster.Clocked {
	t.Helper()
	list, err := cluster.OpenClocked(t, n)
	if err != nil {
		missing(t, "this sets the clocks of servers, and %v", err)
	}
	for _, s := range list {
		if err := cluster.Age(s); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// clusterOf returns the same servers as a cluster.
func clusterOf(list []*cluster.Clocked) *cluster.Cluster {
	c := &cluster.Cluster{}
	for _, s := range list {
		c.Servers = append(c.Servers, s)
	}
	return c
}

// A node restarts empty, and 0.2 s later NTP sets its clock ahead by half a minute, which
// is much longer than the window. It is young for the window all the same: to a client
// that comes afterwards, and to one that knew it as young but had to enrol it again.
func TestClockIsSetBehindARestart(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, who := range []string{"a newcomer", "who knew it"} {
		for _, how := range []string{"connected", "cut off"} {
			t.Run(who+", the holder "+how, func(t *testing.T) {
				onClocks(t, 3, 5, func(t *testing.T, list []*cluster.Clocked, n *notes) {
					setBehindRestart(t, list, who == "a newcomer", how == "cut off", n)
				})
			})
		}
	}
}

// onClocks is onProcesses for servers whose clocks can be set.
func onClocks(t *testing.T, n, atOnce int, s func(*testing.T, []*cluster.Clocked, *notes)) {
	t.Helper()
	onProcesses(t, 0, atOnce, func(t *testing.T, _ *cluster.Cluster, results *notes) { s(t, clocked(t, n), results) })
}

func setBehindRestart(t *testing.T, list []*cluster.Clocked, newcomer, cutOff bool, n *notes) {
	c := clusterOf(list)
	toHolder, toRival := fronts(t, c), fronts(t, c)
	toHolder[2].proxy.Cut()
	toRival[0].proxy.Cut()
	v := keepVigil(t)
	held := acquire(t, superviseSome(t, proxied(toHolder), 2), "x")
	v.over(held)
	var rival *supervisor.Supervisor
	if !newcomer {
		rival = superviseSome(t, proxied(toRival), 2)
	}
	kept(t, held, anyMoment())
	w := newWatch()
	if cutOff {
		toHolder[0].proxy.Cut()
		toHolder[1].proxy.Cut()
	}
	b := list[1]
	b.Kill()
	from := time.Now()
	b.Start()
	<-time.After(200 * time.Millisecond)
	if !newcomer {
		await(t, "the rival to know that the node is young", func() error {
			if s := rival.Nodes()[1]; !s.Enrolled || s.Young <= 0 {
				return fmt.Errorf("enrolled %v, young for %v: %v", s.Enrolled, s.Young, s.Err)
			}
			return nil
		})
		toRival[1].proxy.Silence()
	}
	b.SetAhead(30 * time.Second)
	if newcomer {
		from = time.Now()
		rival = begin(t, proxied(toRival))
	} else {
		ask := fmt.Errorf("it was never asked")
		await(t, "the rival to miss the node", func() error {
			_, err := rival.Inspect(t.Context(), "x")
			if rival.Nodes()[1].Enrolled {
				return errors.Join(ask, err)
			}
			return nil
		})
		toRival[1].proxy.Mend()
	}
	waits(t, rival)
	d := duel{vigil: v, held: held, rival: rival, window: guardWindow, watch: w}
	if cutOff {
		d.afterTheWindow(t, from, from, n)
	} else {
		d.afterTheHolder(t, b, n)
	}
}

// The clocks of servers are set, under leases of 2 s and of 10 s, the latter also without
// renewal, by a client that keeps asking. What is within the drift ends nothing, nor does one
// clock of three, however far it is set. If all of them are set ahead by 3 s, to the client
// that is a pause which its own clock has not seen: the leases of 2 s are lost with that
// reason, and the others go on.
func TestClocksAreSet(t *testing.T) {
	t.Parallel()
	onClocks(t, 3, 5, clocksAreSet)
}

func clocksAreSet(t *testing.T, list []*cluster.Clocked, n *notes) {
	sup := start(t, clusterOf(list), func(cfg *supervisor.Config) { cfg.MaxTTL = 10 * time.Second })
	short := acquire(t, sup, "short")
	long := acquire(t, sup, "long", supervisor.WithTTL(10*time.Second))
	alone := acquire(t, sup, "alone", supervisor.WithTTL(10*time.Second), supervisor.WithoutRenewal())
	ahead := make([]time.Duration, len(list))
	set := func(d time.Duration, nodes ...int) {
		for _, i := range nodes {
			ahead[i] += d
			list[i].SetAhead(ahead[i])
		}
	}
	hears := func() {
		held := acquire(t, sup, "other")
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []time.Duration{15 * time.Millisecond, -15 * time.Millisecond, 4 * time.Millisecond} {
		set(d, 0, 1, 2)
		hears()
		kept(t, short, renewEvery)
		hears()
	}
	set(5*time.Second, 0)
	hears()
	kept(t, short, renewEvery)
	kept(t, long, 0)
	kept(t, alone, 0)
	left := alone.Remaining()

	set(3*time.Second, 0, 1, 2)
	hears()
	timer := time.NewTimer(ttl)
	defer timer.Stop()
	select {
	case <-short.Lost():
	case <-timer.C:
	}
	if !errors.Is(short.Err(), lease.ErrPaused) {
		t.Errorf("the lease of 2s: %v", short.Err())
	}
	kept(t, long, 0)
	kept(t, alone, 0)
	// A grant that was long on its way has been believed for less from the beginning.
	if got := alone.Remaining(); got > left-3*time.Second+nodeTimeout {
		t.Errorf("%v left, and %v before the clocks were set", got, left)
	}
	n.took("left of what is not renewed", alone.Remaining())
	hears()
	kept(t, long, renewEvery)
}

// One clock is two hours behind those of the others: every client warns of it soon after
// it has met the nodes, and names both. If they agree nobody says anything.
func TestClocksApart(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, x := range []struct {
		behind time.Duration
		warned bool
	}{{2 * time.Hour, true}, {-time.Minute, true}, {time.Second, false}, {0, false}} {
		t.Run(x.behind.String(), func(t *testing.T) {
			onClocks(t, 3, 5, func(t *testing.T, list []*cluster.Clocked, n *notes) {
				list[1].SetAhead(-x.behind)
				var told warnings
				begun := time.Now()
				sup := start(t, clusterOf(list), told.observe)
				l := acquire(t, sup, "x")
				kept(t, l, 0)
				said := func() error {
					for _, w := range told.all() {
						if strings.Contains(w, "clock") && strings.Contains(w, list[1].Addr()) {
							return nil
						}
					}
					return fmt.Errorf("warnings: %q", told.all())
				}
				if !x.warned {
					kept(t, l, 2*ttl)
					if said() == nil {
						t.Errorf("warned of clocks that are %v apart: %q", x.behind, told.all())
					}
					return
				}
				await(t, "a warning", said)
				n.took("warned after", time.Since(begun))
			})
		})
	}
}

// The nodes of a name have all been changed, one at a time and without a tenure in between,
// and the clocks of the new ones are an hour behind. The fence goes back, unless the floor was
// raised there, as docs/operating.md says.
func TestFenceFloor(t *testing.T) {
	t.Parallel()
	onClocks(t, 6, 5, func(t *testing.T, list []*cluster.Clocked, n *notes) {
		former, next := clusterOf(list[:3]), clusterOf(list[3:])
		for _, s := range list[3:] {
			s.SetAhead(-time.Hour)
		}
		sup := start(t, former)
		fences := map[string]uint64{}
		for _, name := range []string{"floored", "not"} {
			l := acquire(t, sup, name)
			fences[name] = l.Fence()
			giveBack(t, l)
		}
		sup = start(t, next)
		if l := acquire(t, sup, "not"); l.Fence() > fences["not"] {
			t.Errorf("fence %d behind %d, without a floor: this test shows nothing", l.Fence(), fences["not"])
		}
		floor, err := supervisor.RaiseFloor(t.Context(), configured(next.Conns(), func(cfg *supervisor.Config) { cfg.Former = former.Conns() }))
		if err != nil || floor < fences["floored"] {
			t.Fatalf("floor %d, %v", floor, err)
		}
		if l := acquire(t, sup, "floored"); l.Fence() <= fences["floored"] {
			t.Errorf("fence %d behind %d, with a floor", l.Fence(), fences["floored"])
		}
	})
}

// No fence is given twice: if the largest is stored on a majority then the name cannot be
// acquired any more, and others can.
func TestFenceIsExhausted(t *testing.T) {
	t.Parallel()
	onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
		const largest = 1 << 53
		for _, s := range c.Servers[:2] {
			mustDo(t, s, "ZADD", node.FenceKey("x"), fmt.Sprint(largest), "f")
		}
		sup := start(t, c)
		for _, acquire := range []func() (*lease.Lease, error){
			func() (*lease.Lease, error) { return sup.TryAcquire(t.Context(), "x") },
			func() (*lease.Lease, error) { return sup.Acquire(t.Context(), "x") },
		} {
			await(t, "the error to say why", func() error {
				l, err := acquire()
				switch {
				case err == nil:
					t.Fatalf("acquired with fence %d", l.Fence())
				case !errors.Is(err, supervisor.ErrFenceExhausted): // too few nodes may answer in time
					return err
				}
				return nil
			})
		}
		for _, s := range c.Servers {
			gone(t, s, "x")
		}
		giveBack(t, acquire(t, sup, "y"))
	})
}
