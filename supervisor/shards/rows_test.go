package shards_test

import (
	"flag"
	"testing"
	"time"
)

var seeds = flag.Int("shards.rows", 1, "how often each row of the table of moves is played")

// Each row is one change of who takes part. What has to happen is bounded in time and in
// moves; the figures of the design are well within.
func TestRows(t *testing.T) {
	const n = 100
	for _, row := range []struct {
		what   string
		before int // processes
		change func(w *world)
		within time.Duration
		gap    time.Duration // the longest without an owner
		more   int           // moves above the least
	}{
		{"the first", 0, func(w *world) { w.joins(1) }, time.Second, 0, 0},
		{"the second", 1, func(w *world) { w.joins(1) }, 1500 * time.Millisecond, 100 * time.Millisecond, 1},
		{"ten at once", 0, func(w *world) { w.joins(10) }, 1500 * time.Millisecond, 100 * time.Millisecond, 0},
		{"the tenth", 9, func(w *world) { w.joins(1) }, 2 * time.Second, 100 * time.Millisecond, 1},
		{"three join", 5, func(w *world) { w.joins(3) }, 3 * time.Second, time.Second, 4},
		{"one leaves", 10, func(w *world) { w.all[3].quit() }, 2 * time.Second, 2 * time.Second, 1},
		{"the chair leaves", 10, func(w *world) { w.all[0].quit() }, 2 * time.Second, 2 * time.Second, 1},
		{"four leave", 10, func(w *world) {
			for _, p := range w.all[2:6] {
				p.quit()
			}
		}, 3 * time.Second, 3 * time.Second, 3},
		{"one for another", 5, func(w *world) { w.all[2].quit(); w.joins(1) }, 3 * time.Second, 3 * time.Second, 3},
		{"one dies", 10, func(w *world) { w.all[3].cut() }, ttl + 3*time.Second, 4 * time.Second, 2},
		{"the chair dies", 10, func(w *world) { w.all[0].cut() }, ttl + 3*time.Second, 5 * time.Second, 4}, // its names may expire first
		{"two die", 5, func(w *world) { w.all[1].cut(); w.all[2].cut() }, ttl + 3*time.Second, 4 * time.Second, 4},
	} {
		t.Run(row.what, func(t *testing.T) {
			t.Parallel()
			// One play of 75 has more moves if a process dies, as its names expire one by one and each
			// decides for itself: so an unlucky play is played twice more.
			unlucky, plays := 0, *seeds
			for i := 0; i < plays; i++ {
				bubble(t, n, func(w *world) {
					w.joins(row.before)
					if row.before > 0 {
						w.balanced(4 * time.Second)
						time.Sleep(10 * time.Second) // it looks seldom by now
					}
					w.mu.Lock()
					w.gap = 0
					w.mu.Unlock()
					row.change(w)
					least := w.least()
					took, moves := w.balanced(row.within)
					t.Logf("after %v; %d moves of %d; without an owner for %v", took, moves, least, w.gap)
					if moves > least+row.more {
						t.Logf("%d moves: want at most %d more than %d", moves, row.more, least)
						if unlucky++; unlucky == 1 {
							plays += 2
						}
					}
					if w.gap > row.gap+w.stop {
						t.Errorf("a name had no owner for %v: want %v at most", w.gap, row.gap)
					}
				})
			}
			if unlucky > 1+plays/20 {
				t.Errorf("%d of %d plays had more moves than they may", unlucky, plays)
			}
		})
	}
}

// With more names it is the same; a thousand of them and twenty processes take half a minute.
func TestManyNames(t *testing.T) {
	t.Parallel()
	bubble(t, 400, func(w *world) {
		w.joins(10)
		w.balanced(5 * time.Second)
		time.Sleep(10 * time.Second)
		w.joins(1)
		least := w.least()
		took, moves := w.balanced(3 * time.Second)
		t.Logf("after %v; %d moves of %d", took, moves, least)
		if moves > least+2 {
			t.Errorf("%d moves: want at most 2 more than %d", moves, least)
		}
	})
}

// A history of joins and leaves costs hardly more moves than it must.
func TestMovesOfAHistory(t *testing.T) {
	t.Parallel()
	bubble(t, 100, func(w *world) {
		moves, least := 0, 0
		step := func(change func()) {
			change()
			must := w.least()
			_, n := w.balanced(4 * time.Second)
			moves, least = moves+n, least+must
		}
		for range 6 {
			step(func() { w.joins(1) })
		}
		for i := range 6 { // a rolling restart
			step(func() { w.all[i].quit() })
			step(func() { w.joins(1) })
		}
		t.Logf("%d moves of %d", moves, least)
		if moves > least+least/20 {
			t.Errorf("%d moves: want at most 1.05 of %d", moves, least)
		}
	})
}
