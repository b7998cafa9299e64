package leasegocron_test

import (
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/adapters/internal/redistest"
)

// The same on three Redis servers, in real time: three replicas whose hosts' clocks are 0.25 s apart, and
// a job that is due each second, for ten seconds. LEASEHOLD_TICKS=60 says for how many.
func TestTickRunsOnceOnRealServers(t *testing.T) {
	ticks := 10
	if s := os.Getenv("LEASEHOLD_TICKS"); s != "" {
		var err error
		if ticks, err = strconv.Atoi(s); err != nil || ticks < 1 {
			t.Fatalf("LEASEHOLD_TICKS=%q: want a number, 1 or more", s)
		}
	}
	conns := redistest.Conns(redistest.Start(t, 3))
	var runs ledger
	all := startAll(t, conns, 250*time.Millisecond, &runs, locked)
	for len(runs.all()) == 0 { // the servers are young
		time.Sleep(10 * time.Millisecond)
	}
	late := lateness(t)
	first := runs.all()[0].tick
	// The hosts are 0, 0.25 and 0.5 s ahead. Half-way between two ticks of the one that ran the first tick
	// none has a tick under way.
	time.Sleep(time.Duration(ticks-1)*interval + interval*7/8)
	closeAll(t, all)
	list := runs.all()
	t.Logf("%d ticks from %d on, %d runs: %v", ticks, first, len(list), list)
	seen := make(map[int64]bool)
	for _, r := range list {
		if seen[r.tick] {
			t.Errorf("the tick %d has run twice", r.tick)
		}
		seen[r.tick] = true
	}
	// A machine that does not run the test in time loses ticks: what is due later than the margin of a
	// quarter of a second is due within the period of another run, or not before the next tick.
	if d := late(); d > interval/8 {
		t.Logf("this process was late by %v, so ticks may be lost: they are not counted", d)
		return
	}
	once(t, list, ticks)
}

// lateness returns how to ask by how much this process was late at most, from now on.
func lateness(t *testing.T) func() time.Duration {
	var most atomic.Int64
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		const every = 10 * time.Millisecond
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-time.After(every):
			}
			now := time.Now()
			most.Store(max(most.Load(), int64(now.Sub(last)-every)))
			last = now
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-over
	})
	return func() time.Duration { return time.Duration(most.Load()) }
}
