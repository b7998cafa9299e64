package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Three hosts have a timer for a job of 0.1 s in each minute, 0.5 s and 5 s apart: here two seconds
// are a minute. One of them runs it in each.
func TestOnceReal(t *testing.T) {
	c := processes(t, 3)
	const (
		interval, period = 2 * time.Second, time.Second
		jobs             = 8 // at once
	)
	minute := func(d time.Duration) time.Duration { return d * interval / time.Minute }
	offsets := []time.Duration{0, minute(time.Second / 2), minute(5 * time.Second)}
	var hosts []*supervisor.Supervisor
	for range offsets {
		hosts = append(hosts, supervise(t, c.Conns()))
	}
	periods := max(2, 10*howOften(t)/jobs)
	ran, begun := make([][]atomic.Int64, jobs), make([][]time.Time, jobs)
	var mu sync.Mutex // of begun
	w, first := newWatch(), time.Now().Add(interval/2)
	var wg sync.WaitGroup
	for job := range jobs {
		ran[job] = make([]atomic.Int64, periods)
		for i, host := range hosts {
			wg.Go(func() {
				for k := range periods {
					<-time.After(time.Until(first.Add(time.Duration(k)*interval + time.Duration(job)*interval/jobs + offsets[i])))
					_, err := host.Once(t.Context(), fmt.Sprint("job-", job), period, func(context.Context) error {
						ran[job][k].Add(1)
						mu.Lock()
						begun[job] = append(begun[job], time.Now())
						mu.Unlock()
						<-time.After(minute(time.Second / 10))
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	odd := 0
	for job := range ran {
		for k := range ran[job] {
			if n := ran[job][k].Load(); n != 1 {
				odd++
				t.Logf("job %d was run %d times in period %d", job, n, k)
			}
		}
		for k, at := range begun[job][1:] {
			if d := at.Sub(begun[job][k]); d < period-20*time.Millisecond-w.starved() {
				t.Errorf("job %d was run again after %v; %v", job, d, w)
			}
		}
	}
	t.Logf("%d periods, %d of which have not just one run; %v", jobs*periods, odd, w)
	// A timer that is late by as much belongs to the next period, or runs in the one before.
	if odd > 0 && w.starved() < min(interval-period, period-offsets[2])/2 {
		t.Errorf("%d of %d periods have not just one run; %v", odd, jobs*periods, w)
	}
}

// A host dies at any moment, while it is elected or while it runs the job. The job is run at most once
// in a period, also by the others, who ask all the time; and in the next one within the TTL. If the host had not
// run it, the others do so within the TTL, unless it died between its election and the job.
func TestOnceOfAHostThatDies(t *testing.T) {
	takesLong(t)
	c := processes(t, 3)
	const period = 2 * ttl
	others := []*supervisor.Supervisor{supervise(t, c.Conns()), supervise(t, c.Conns())}
	var n notes
	var between, before, within atomic.Int64
	repeat(t, howOften(t), 4, func(t *testing.T, run int) {
		list := fronts(t, c)
		dies := supervise(t, proxied(list))
		name := fmt.Sprint("job-", run)
		var mu sync.Mutex
		var runs []time.Time
		job := func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			runs = append(runs, time.Now())
			return nil
		}
		w := newWatch()
		died, over := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(over)
			_, _ = dies.Once(ctx, name, period, func(ctx context.Context) error {
				err := job(ctx)
				<-died
				return err
			})
		}()
		<-time.After(rand.N(12 * time.Millisecond))
		atOnce(len(list), func(i int) { list[i].proxy.Cut() })
		close(died)
		cancel()
		<-over
		at, long := time.Now(), 0
		for _, s := range c.Servers {
			left, err := s.Do("PTTL", name)
			if err != nil {
				t.Fatal(err)
			}
			if ms, is := left.(int64); is && time.Duration(ms)*time.Millisecond > ttl {
				long++
			}
		}
		mu.Lock()
		byIt := len(runs)
		mu.Unlock()
		var wg sync.WaitGroup
		for _, host := range others {
			wg.Go(func() {
				for end := at.Add(period + ttl + time.Second); time.Now().Before(end); {
					if _, err := host.Once(t.Context(), name, period, job); err != nil {
						t.Error(err)
					}
					<-time.After(20 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		for i := range runs[:max(0, len(runs)-1)] {
			// Its time is counted from the beginning of the election, which the job follows.
			if d := runs[i+1].Sub(runs[i]); d < period-100*time.Millisecond-w.starved() {
				t.Errorf("run again after %v; %v", d, w)
			}
		}
		switch {
		case byIt > 0:
			within.Add(1)
			if len(runs) < 2 {
				t.Fatalf("%d runs", len(runs))
			}
			n.within(t, w, "the next run, after that of a host that died", runs[1].Sub(runs[0]), period+ttl)
		case long >= 2:
			between.Add(1)
		default:
			before.Add(1)
			if len(runs) == 0 {
				t.Fatal("nobody has run it")
			}
			n.within(t, w, "run by another, after a host died before", runs[0].Sub(at), ttl+ttl/4)
		}
	})
	t.Logf("%d hosts died in their election, %d running the job, %d between the two", before.Load(), within.Load(), between.Load())
	n.log(t)
}

// A name that was left is so on all servers, and an operator frees it.
func TestLeftOnServers(t *testing.T) {
	c := processes(t, 3)
	sup, operator := supervise(t, c.Conns()), supervise(t, c.Conns())
	repeat(t, howOften(t), 1, func(t *testing.T, run int) {
		name := fmt.Sprint("left-", run)
		held := acquire(t, sup, name, supervisor.WithMinHold(time.Hour))
		isRenewed(t, held)
		giveBack(t, held)
		var h supervisor.Holding
		if err := poll(ttl, func() (err error) {
			if h, err = operator.Inspect(t.Context(), name); err == nil && slices.ContainsFunc(h.Nodes, func(a supervisor.Answer) bool { return !a.Vacated }) {
				err = fmt.Errorf("%v", h.Nodes)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !h.Held || !h.Vacated || h.Token != held.Token() || h.Left > time.Hour || h.Left < time.Hour-time.Minute {
			t.Errorf("%+v", h)
		}
		got := make(chan *lease.Lease, 1)
		wait(t, operator, name, func(l *lease.Lease) { got <- l })
		lined(t, c, name, 1)
		if err := sup.Revoke(t.Context(), name, h.Token); err != nil {
			t.Fatal(err)
		}
		select {
		case l := <-got:
			giveBack(t, l)
		case <-time.After(10 * time.Second):
			t.Fatal("it is not free")
		}
	})
}
