package shards_test

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	histories = flag.Int("shards.histories", 0, "how many random histories are played; 0: 200, or 20 with the race detector")
	seed      = flag.Uint64("shards.seed", 0, "play this one alone")

	excused atomic.Int64 // second owners, after a clock was set
)

// Random histories: processes join, leave, die, are cut off and come back, while nodes hang,
// restart and have the clock of one set. The store refuses a second owner and a fence that does
// not grow, and in the end all is balanced. A second owner is excused after a step of the clock
// by more than the drift, and only for one TTL: see what is not promised in docs/guarantees.md.
// For ten thousand of them, in about an hour:
//
//	go test ./supervisor/shards -run TestHistories -timeout 0 -shards.histories 10000
func TestHistories(t *testing.T) {
	if *seed != 0 {
		history(t, *seed)
		return
	}
	n := cmp.Or(*histories, fewHistories)
	if testing.Short() {
		n = min(n, 20)
	}
	t.Cleanup(func() { t.Logf("%d histories, %d second owners after the step of a clock", n, excused.Load()) })
	for range runtime.GOMAXPROCS(0) {
		t.Run("at once", func(t *testing.T) {
			t.Parallel()
			for range (n + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0) {
				history(t, rand.Uint64())
			}
		})
	}
}

// history plays one. Of one that fails it says what was done, and how to play it again.
func history(t *testing.T, seed uint64) {
	excuses := 0
	defer func() {
		excused.Add(int64(excuses))
		if t.Failed() || excuses > 0 {
			t.Logf("again: -shards.seed %d", seed)
		}
	}()
	random := rand.New(rand.NewPCG(seed, 0))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	bubble(t, 1+random.IntN(30), func(w *world) {
		w.stop = upTo(300 * time.Millisecond)
		w.joins(1 + random.IntN(4))
		one := func(in bool) *process {
			for _, i := range random.Perm(len(w.all)) {
				p := w.all[i]
				if p.in == in {
					return p
				}
			}
			return nil
		}
		var cut []*process // those that will be back; others are dead
		ill := 0           // so many of the nodes hang: the first of them
		tell := func(format string, args ...any) {
			w.t.Logf("%7.3f s  %s", time.Since(w.begun).Seconds(), fmt.Sprintf(format, args...))
		}
		for range 5 + random.IntN(10) {
			time.Sleep(upTo([]time.Duration{500 * time.Millisecond, 3 * time.Second, 15 * time.Second}[random.IntN(3)]))
			switch random.IntN(8) {
			case 0, 1:
				if len(w.all) < 12 {
					w.joins(1 + random.IntN(2))
					tell("%d have joined", len(w.all))
				}
			case 2:
				if p := one(true); p != nil {
					p.quit()
					tell("%s quits", p.id)
				}
			case 3:
				if p := one(true); p != nil {
					if p.cut(); random.IntN(2) == 0 {
						cut = append(cut, p)
					}
					tell("%s is cut off", p.id)
				}
			case 4:
				if len(cut) > 0 {
					cut[0].mend()
					tell("%s is back", cut[0].id)
					cut = cut[1:]
				}
			case 5:
				if ill < 2 { // two are a quorum
					w.nodes[ill].Hang()
					ill++
				} else {
					w.resume(&ill)
				}
				tell("%d nodes hang", ill)
			case 6:
				if ill == 0 {
					i := random.IntN(len(w.nodes))
					w.nodes[i].Restart()
					tell("node %d restarts empty", i)
				}
			case 7:
				if ill == 0 {
					d := upTo(time.Second)
					w.jump(2, d) // of no other: a quorum keeps the time
					tell("the clock of node 2 jumps by %v", d)
				}
			}
		}
		w.resume(&ill)
		for _, p := range cut {
			p.mend()
		}
		if one(true) == nil {
			w.joins(2)
		}
		synctest.Wait()
		time.Sleep(4 * ttl) // those who were cut off connect again, and nodes grow up
		w.balanced(10 * time.Second)
		excuses = w.excused
	})
}

// resume has the nodes that hang go on.
func (w *world) resume(ill *int) {
	for ; *ill > 0; *ill-- {
		w.nodes[*ill-1].Resume()
	}
}
