package leasecron_test

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/adapters/internal/redistest"
)

// The same on three Redis servers, in real time: three replicas whose hosts' clocks are 0.25 s apart, and
// a job that is due each second.
func TestTickRunsOnceOnRealServers(t *testing.T) {
	const ticks = 5
	var runs ledger
	all := startAll(t, redistest.Conns(redistest.Start(t, 3)), 250*time.Millisecond, &runs)
	for len(runs.all()) == 0 { // the servers are young
		time.Sleep(10 * time.Millisecond)
	}
	late := redistest.Lateness(t)
	first := runs.all()[0].tick
	// The last host is half a second later than the first. The last tick is due on all of them by then.
	time.Sleep((ticks-1)*interval + interval*7/8)
	for _, r := range all {
		r.close(t)
	}
	var list []run
	seen := make(map[int64]bool)
	for _, r := range runs.all() {
		if seen[r.tick] {
			t.Errorf("the tick %d has run twice", r.tick)
		}
		if seen[r.tick] = true; r.tick < first+ticks { // the first host may have begun the next
			list = append(list, r)
		}
	}
	// A process that does not run in time loses ticks by that: a run that is late keeps the next tick
	// from running if that is not.
	if d := late(); d > interval/8 {
		t.Logf("this process was late by %v, so ticks may be lost: they are not counted", d)
		return
	}
	once(t, list, ticks)
}
