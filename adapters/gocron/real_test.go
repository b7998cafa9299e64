package leasegocron_test

import (
	"os"
	"strconv"
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
	late := redistest.Lateness(t)
	first := runs.all()[0].tick
	// The last host is half a second later than the first. The last tick is due on all of them by then.
	time.Sleep(time.Duration(ticks-1)*interval + interval*7/8)
	closeAll(t, all)
	var list []run
	seen := make(map[int64]bool)
	for _, r := range runs.all() {
		if seen[r.tick] {
			t.Errorf("the tick %d has run twice", r.tick)
		}
		if seen[r.tick] = true; r.tick < first+int64(ticks) { // the first host may have begun the next
			list = append(list, r)
		}
	}
	t.Logf("%d ticks from %d on, %d runs", ticks, first, len(list))
	// A process that does not run in time loses ticks by that: a run that is late keeps the next tick
	// from running if that is not.
	if d := late(); d > interval/8 {
		t.Logf("this process was late by %v, so ticks may be lost: they are not counted", d)
		return
	}
	once(t, list, ticks)
}
