package leasecron_test

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/adapters/internal/redistest"
	"github.com/leasehold-go/leasehold/node"
)

// The same on three Redis servers, in real time: three replicas whose hosts' clocks are 0.25 s
// apart, and a job that is due each second.
func TestTickRunsOnceOnRealServers(t *testing.T) {
	const ticks = 5
	conns := redistest.Conns(redistest.Start(t, 3))
	var list []run
	if !redistest.InTime(t, interval/8, func() { list = play(t, conns, ticks) }) {
		return
	}
	once(t, list, ticks)
}

// play returns the runs of so many ticks.
func play(t *testing.T, conns []node.Conn, ticks int) (list []run) {
	var runs ledger
	all := startAll(t, conns, 250*time.Millisecond, &runs)
	for len(runs.all()) == 0 { // the servers are young at first
		time.Sleep(10 * time.Millisecond)
	}
	first := runs.all()[0].tick
	// The last host is half a second later than the first. The last tick is due on all of them by
	// then.
	time.Sleep(time.Duration(ticks-1)*interval + interval*7/8)
	for _, r := range all {
		r.close(t)
	}
	for _, r := range runs.all() {
		if r.tick < first+int64(ticks) { // the first host may have begun the next
			list = append(list, r)
		}
	}
	return list
}
