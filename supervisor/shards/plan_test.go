package shards

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

const now = clock.Instant(time.Hour)

// free, of and mine are what a look at a name tells.
func free() sight { return sight{known: true, free: true} }
func of(owner string, waiting int) sight {
	return sight{known: true, held: true, owner: owner, left: 9 * time.Second, waiting: waiting}
}
func mine(waiting int) sight { return of("me", waiting) }
func many(n int, s sight) []sight {
	return slices.Repeat([]sight{s}, n)
}
func in(n int, at place) []spot { return slices.Repeat([]spot{{at: at}}, n) }

// What one sweep has this process do.
func TestPlan(t *testing.T) {
	for _, c := range []struct {
		what    string
		members int
		spots   []spot
		seen    []sight
		richer  int
		want    map[verb]int // how many
		within  []int        // the names of these steps, if not empty
	}{
		{"alone it takes all", 1, in(5, none), many(5, free()), 0, map[verb]int{stand: 5}, nil},
		{"of two it takes half", 2, in(6, none), many(6, free()), 0, map[verb]int{stand: 3}, nil},
		{"what it waits for counts", 2, append(in(2, standing), in(4, none)...), many(6, free()), 0, map[verb]int{stand: 1}, nil},
		{"what is being given does not count", 2, append(in(2, giving), in(4, none)...), append(many(2, mine(1)), many(4, free())...), 0, map[verb]int{stand: 3}, nil},
		{"nor what is lost", 2, append(in(2, ending), in(4, none)...), append(many(2, of("a", 0)), many(4, free())...), 0, map[verb]int{stand: 3}, nil},
		{"it gives to who waits", 2, in(6, running), append(many(2, mine(1)), many(4, mine(0))...), 0, map[verb]int{give: 2}, []int{0, 1}},
		{"and keeps its part", 2, in(6, running), many(6, mine(2)), 0, map[verb]int{give: 3}, nil},
		{"it gives nothing at its least", 2, append(in(3, running), in(3, none)...), append(many(3, mine(1)), many(3, of("a", 0))...), 0, nil, nil},
		{"it gives nothing of which it knows nothing", 2, in(6, running), many(6, sight{waiting: 1}), 0, nil, nil},
		{"free names come first", 2, in(4, none), []sight{of("a", 0), free(), of("a", 0), free()}, 0, map[verb]int{stand: 2}, []int{1, 3}},
		{"what nobody renews comes before what somebody has", 2, in(4, none), []sight{of("a", 0), {known: true, held: true, owner: "a", left: 4 * time.Second}, of("b", 0), of("b", 0)}, 0,
			map[verb]int{stand: 1}, []int{1}},
		{"who has most is asked", 3, in(6, none), []sight{of("a", 0), of("a", 0), of("b", 0), of("b", 0), of("b", 0), of("b", 0)}, 0,
			map[verb]int{stand: 2}, []int{2, 3, 4, 5}},
		{"in an empty queue", 3, in(6, none), []sight{of("a", 0), of("a", 0), of("b", 1), of("b", 0), of("b", 0), of("b", 1)}, 0,
			map[verb]int{stand: 2}, []int{3, 4}},
		{"who is asked by others is asked last", 3, append(in(3, running), in(11, none)...), append(append(many(3, mine(0)), append(many(4, of("a", 0)), many(2, of("a", 1))...)...), many(5, of("b", 0))...), 0,
			map[verb]int{stand: 1}, []int{9, 10, 11, 12, 13}},
		{"nobody is asked for what he needs", 3, in(6, none), []sight{of("a", 0), of("a", 0), of("b", 0), of("b", 0), of("c", 0), of("c", 0)}, 0, nil, nil},
		{"it does not stand where it would be at its least", 2, append(in(1, standing), in(3, none)...), []sight{of("a", 1), of("a", 0), of("b", 0), of("b", 0)}, 0,
			map[verb]int{leave: 1}, []int{0}},
		{"it stands on where somebody has more", 2, append(in(1, standing), in(3, none)...), []sight{of("a", 1), of("a", 0), of("a", 0), of("a", 0)}, 0, map[verb]int{stand: 1}, nil},
		{"for a while", 2, append([]spot{{at: standing, stood: patience}}, in(3, none)...), []sight{of("a", 1), of("a", 0), of("a", 0), of("a", 0)}, 0, map[verb]int{leave: 1, stand: 2}, nil},
		{"it stands on at what nobody renews", 2, append([]spot{{at: standing, stood: 99}}, in(3, none)...), []sight{{known: true, held: true, owner: "a", left: time.Second}, of("a", 0), of("b", 0), of("b", 0)}, 0,
			nil, nil},
		{"it stands for no more than its part", 3, append(in(2, running), append(in(2, standing), in(2, none)...)...), append(many(2, mine(0)), many(4, of("a", 0))...), 0, map[verb]int{leave: 2}, []int{2, 3}},
		{"one more only if it was free for a while", 2, append(in(1, running), in(2, none)...), []sight{mine(0), of("a", 0), free()}, 0, nil, nil},
		{"and then it tries", 2, append(in(1, running), spot{}, spot{idle: spare}), []sight{mine(0), of("a", 0), free()}, 0, map[verb]int{try: 1}, []int{2}},
		{"but not if it has one more", 2, append(in(2, running), spot{idle: spare, since: now}), []sight{mine(0), mine(0), free()}, 0, nil, nil},
		{"one more of somebody with two more not at once", 2, append(in(1, running), in(4, none)...)[:5], []sight{mine(0), of("a", 0), of("a", 0), of("a", 0), of("a", 0)}, 0, map[verb]int{stand: 1}, nil},
		{"nor soon", 2, append(in(2, running), in(3, none)...), []sight{mine(0), mine(0), of("a", 0), of("a", 0), of("a", 0)}, 0, nil, nil},
		{"nobody's for long is taken whatever the part", 3, append(in(1, running), spot{idle: 20, since: now.Add(-orphaned)}, spot{}), []sight{mine(0), free(), of("a", 0)}, 0, map[verb]int{try: 1}, []int{1}},
		{"later by those who have more", 3, append(in(2, running), spot{idle: 20, since: now.Add(-orphaned)}), []sight{mine(0), mine(0), free()}, 0, nil, nil},
		{"what is left alone is not taken", 1, []spot{{rest: now + 1}, {rest: now}}, many(2, free()), 0, map[verb]int{stand: 1}, []int{1}},
		{"with fewer names than processes it has none or one", 5, in(2, none), many(2, free()), 0, nil, nil},
		{"and takes what stays free", 5, []spot{{idle: spare}, {}}, []sight{free(), of("a", 0)}, 0, map[verb]int{try: 1}, []int{0}},
		{"two more for long", 3, append(in(2, running), in(5, none)...), []sight{mine(0), mine(0), of("a", 0), of("a", 0), of("a", 0), of("a", 0), of("b", 0)}, unequal, map[verb]int{stand: 1}, []int{2, 3, 4, 5}},
	} {
		t.Run(c.what, func(t *testing.T) {
			for seed := range uint64(20) {
				p := newPlan("me", len(c.spots), rand.New(rand.NewPCG(seed, 0)))
				p.longest["a"] = 10 * time.Second
				p.spots = slices.Clone(c.spots)
				p.join(now, c.members)
				p.richer = c.richer
				got := map[verb]int{}
				for _, s := range p.look(now, c.seen) {
					got[s.do]++
					if c.within != nil && s.do != leave && !slices.Contains(c.within, s.name) {
						t.Errorf("step %v of name %d: want one of %v", s.do, s.name, c.within)
					}
				}
				for _, v := range []verb{give, stand, try, leave} {
					if got[v] != c.want[v] {
						t.Fatalf("steps %v: want %v", got, c.want)
					}
				}
			}
		})
	}
}

// It sweeps often after a change, and as long as not all is as it should be; less often if
// that lasts; and seldom otherwise.
func TestNextSweep(t *testing.T) {
	even := []sight{mine(0), mine(0), of("a", 0), of("a", 0)}
	dead := []sight{mine(0), mine(0), of("a", 0), {known: true, held: true, owner: "a", left: time.Second}}
	for _, c := range []struct {
		what     string
		seen     []sight
		after    time.Duration // since the last change
		from, to time.Duration
	}{
		{"a change", even, time.Second, sweepEvery * 9 / 10, sweepEvery * 11 / 10},
		{"all is well", even, activeFor, ttlOfTest / 2, ttlOfTest * 3 / 4},
		{"nobody renews one", dead, activeFor, sweepEvery * 9 / 10, sweepEvery * 11 / 10},
		{"one is free", []sight{mine(0), mine(0), of("a", 0), free()}, activeFor, sweepEvery * 9 / 10, sweepEvery * 11 / 10},
		{"one is free for long", []sight{mine(0), mine(0), of("a", 0), free()}, time.Minute, lazyEvery, lazyEvery * 6 / 5},
		{"another has too many", []sight{mine(0), mine(0), of("a", 0), of("b", 0)}, activeFor, sweepEvery * 9 / 10, sweepEvery * 11 / 10},
	} {
		p := newPlan("me", 4, rand.New(rand.NewPCG(1, 0)))
		p.longest["a"] = ttlOfTest
		copy(p.spots, in(2, running))
		p.join(now, 2)
		p.last = c.seen
		p.look(now, c.seen)
		p.spots[2].at, p.spots[3].at = none, none
		for range 20 {
			if d := p.next(now.Add(c.after)); d < c.from || d > c.to {
				t.Errorf("%s: %v: want %v to %v", c.what, d, c.from, c.to)
			}
		}
	}
}

const ttlOfTest = 10 * time.Second
