package leasegocron_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/adapters/internal/redistest"
	"github.com/leasehold-go/leasehold/node"
)

// The same on three Redis servers, in real time: three replicas whose hosts' clocks are 0.25 s
// apart, and a job that is due each second, ten times. LEASEHOLD_TICKS=60 says how often.
func TestTickRunsOnceOnRealServers(t *testing.T) {
	ticks := 10
	if s := os.Getenv("LEASEHOLD_TICKS"); s != "" {
		var err error
		if ticks, err = strconv.Atoi(s); err != nil || ticks < 1 {
			t.Fatalf("LEASEHOLD_TICKS=%q: want a number, 1 or more", s)
		}
	}
	conns := redistest.Conns(redistest.Start(t, 3))
	var list []run
	if !redistest.InTime(t, interval/8, func() { list = play(t, conns, ticks) }) {
		return
	}
	t.Logf("%d ticks, %d runs", ticks, len(list))
	once(t, list, ticks)
}

// play returns the runs of so many ticks.
func play(t *testing.T, conns []node.Conn, ticks int) (list []run) {
	var runs ledger
	all := startAll(t, conns, 250*time.Millisecond, &runs, locked)
	for len(runs.all()) == 0 { // the servers are young at first
		time.Sleep(10 * time.Millisecond)
	}
	first := runs.all()[0].tick
	// The last host is half a second later than the first. The last tick is due on all of them by
	// then.
	time.Sleep(time.Duration(ticks-1)*interval + interval*7/8)
	closeAll(t, all)
	for _, r := range runs.all() {
		if r.tick < first+int64(ticks) { // the first host may have begun the next
			list = append(list, r)
		}
	}
	return list
}
