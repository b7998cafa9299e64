package core

import (
	"flag"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

var (
	exploreOnly   = flag.String("explore", "", "search the bounds of these names, or all, instead of the short ones")
	exploreLevels = flag.Bool("explore.levels", false, "tell how far a search is")
	exploreMost   = flag.Int("explore.states", 50_000_000, "give up after so many states")
)

// Bounds are what a search is complete within.
type bounds struct {
	name  string
	ttl   int // in ticks
	moves int // at most; 0 for as many as there are
	more  int // acquisitions that each client may ask for after its first
	quota
	*rivalry
	*rollout
	short bool // it is searched by go test
}

// A rollout says which lists the clients were given. Without one there is one list of all nodes.
type rollout struct {
	former, present nodeSet
	told            [exploredClients]simRole
	stage           node.Stage // of all nodes at first
}

// given returns the lists of a role.
func (r *rollout) given(role simRole) (former, present nodeSet) {
	switch role {
	case givenFormer:
		return 0, r.former
	case givenPresent:
		return 0, r.present
	}
	return r.former, r.present
}

func indices(s nodeSet) (list []int) {
	for i := range exploredNodes {
		if s.has(i) {
			list = append(list, i)
		}
	}
	return list
}

// A rivalry narrows what the clients do, so that a search gets further. Without one they are
// alike: client 1 does whatever client 0 does.
type rivalry struct {
	asks   asking
	atOnce bool       // nothing else happens while anything of client 1 is under way
	aimed  bool       // things go wrong only while client 1 has asked and has no answer
	there  bool       // only what is on its way to a node takes time: answers are heard at once
	slowAt [2]nodeSet // the nodes from or to which something may be slow, by client
}

// alike reports whether the clients may be taken for each other.
func (b *bounds) alike() bool {
	r := b.rivalry
	return b.rollout == nil && r == nil || b.rollout == nil && r.asks == askEver && !r.atOnce && !r.aimed && r.slowAt[0] == r.slowAt[1]
}

// An asking is when client 1 asks for the name.
type asking uint8

const (
	askEver  asking = iota
	askQuiet        // when client 0 holds it, and nothing of that is under way but what is slow
	askAfter        // when something has gone wrong
)

var searches = []bounds{
	{name: "prompt", ttl: 4, quota: quota{releases: 2}, short: true},
	{name: "slow", ttl: 2, quota: quota{slow: 1, releases: 1}, rivalry: alikeThere},
	{name: "tenures", ttl: 2, more: 1, quota: quota{releases: 3}, rivalry: alikeThere},
	{name: "restart", ttl: 2, quota: quota{restarts: 1, releases: 1}, rivalry: alikeThere},
	{name: "cut", ttl: 2, quota: quota{cuts: 1, releases: 1}, rivalry: alikeThere},
	{name: "refusal", ttl: 2, quota: quota{refusals: 1, releases: 1}, rivalry: alikeThere},
	{name: "flush", ttl: 2, quota: quota{flushes: 1, releases: 1}, rivalry: alikeThere},
	{name: "slow flush", ttl: 2, quota: quota{slow: 1, flushes: 1}, rivalry: alikeThere},
	{name: "deletion", ttl: 2, quota: quota{slow: 2, deletions: 1, releases: 1},
		rivalry: &rivalry{asks: askAfter, atOnce: true, there: true, slowAt: [2]nodeSet{7, 0}}},
	{name: "election", ttl: 5, moves: 22, quota: quota{slow: 3, flushes: 1},
		rivalry: &rivalry{asks: askQuiet, aimed: true, there: true, slowAt: [2]nodeSet{5, 1}}},

	{name: "lists apart", ttl: 2, quota: quota{slow: 1, releases: 1}, rivalry: alikeThere,
		rollout: &rollout{former: 1, present: 6, told: [2]simRole{givenFormer, givenBoth}, stage: node.StageBegun}},
	{name: "lists one in three", ttl: 2, quota: quota{slow: 1, releases: 1}, rivalry: alikeThere,
		rollout: &rollout{former: 1, present: 7, told: [2]simRole{givenFormer, givenBoth}, stage: node.StageBegun}},
	{name: "lists relisted", ttl: 4, quota: quota{relists: 1}, rivalry: alikeThere,
		rollout: &rollout{former: 1, present: 6, told: [2]simRole{givenFormer, givenBoth}, stage: node.StageBegun}},
	{name: "lists finished", ttl: 2, quota: quota{slow: 1, steps: 2, releases: 1}, rivalry: alikeThere,
		rollout: &rollout{former: 1, present: 2, told: [2]simRole{givenFormer, givenPresent}, stage: node.StageBegun}},
	{name: "lists flushed", ttl: 2, quota: quota{flushes: 1, steps: 3}, rivalry: alikeThere,
		rollout: &rollout{former: 1, present: 6, told: [2]simRole{givenFormer, givenPresent}, stage: node.StageBegun}},
	{name: "lists left", ttl: 2, quota: quota{slow: 1, relists: 1, releases: 1}, rivalry: alikeThere,
		rollout: &rollout{former: 1, present: 6, told: [2]simRole{givenBoth, givenPresent}, stage: node.StageOpened}},
}

// alikeThere are clients which are alike, and hear answers at once.
var alikeThere = &rivalry{there: true, slowAt: [2]nodeSet{7, 7}}

// settings are those of the clients. A TTL ends just before its last tick, so that a key
// whose time is up is gone then.
func (b *bounds) settings() Settings {
	ttl := time.Duration(b.ttl)*tick - time.Millisecond
	return Settings{
		Nodes: exploredNodes, TTL: ttl, MaxTTL: ttl, MaxTTLCap: ttl, Drift: time.Millisecond, Grace: time.Millisecond,
		RenewEvery: time.Duration(b.ttl/2) * tick, NodeTimeout: time.Minute, RetryMin: tick, RetryMax: tick, Guard: true,
	}
}

// A found is a situation that was met first by a move from another one.
type found struct {
	from uint32
	move move
}

// A search looks at every situation within its bounds, those that take the fewest moves
// first.
type search struct {
	b       *bounds
	seeds   [2]maphash.Seed
	shards  [256]shard
	mu      sync.Mutex
	found   []found
	broken  string // what rule, if one is broken
	lastOne found  // the move that broke it
	moves   atomic.Int64
}

type shard struct {
	sync.Mutex
	seen map[[2]uint64]struct{}
}

type frontier struct {
	no uint32
	s  *situation
}

// run searches, and returns the trace to a violation, or nothing.
func (h *search) run(most int) (trace []string, complete bool) {
	h.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].seen = make(map[[2]uint64]struct{})
	}
	x := &stepper{b: h.b}
	first := x.begin()
	h.found = []found{{}}
	h.isNew(newCoder(), first)
	began := clock.System().Now()
	for level, depth := []frontier{{0, first}}, 0; len(level) > 0 && (h.b.moves == 0 || depth < h.b.moves); depth++ {
		level = h.expand(level)
		if *exploreLevels {
			fmt.Printf("%v: after %d moves %d situations, %d of them new, %d moves tried\n",
				clock.System().Now().Sub(began).Round(time.Second/10), depth+1, len(h.found), len(level), h.moves.Load())
		}
		if h.broken != "" {
			return h.explain(), false
		}
		if len(h.found) > most {
			return nil, false
		}
	}
	return nil, true
}

// expand returns what is new after one move more.
func (h *search) expand(level []frontier) (next []frontier) {
	var wg sync.WaitGroup
	var at atomic.Int64
	parts := make([][]frontier, runtime.GOMAXPROCS(0))
	for w := range parts {
		wg.Go(func() {
			x, e, moves := &stepper{b: h.b, owned: map[any]bool{}}, newCoder(), []move(nil)
			for {
				i := int(at.Add(1)) - 1
				if i >= len(level) {
					return
				}
				f := level[i]
				level[i].s = nil
				moves = x.moves(f.s, moves)
				h.moves.Add(int64(len(moves)))
				for _, m := range moves {
					s := x.next(f.s, m)
					if x.broken == "" && !h.isNew(e, s) {
						continue
					}
					h.mu.Lock()
					if x.broken != "" {
						if h.broken == "" {
							h.broken, h.lastOne = x.broken, found{f.no, m}
						}
					} else {
						parts[w] = append(parts[w], frontier{uint32(len(h.found)), s})
						h.found = append(h.found, found{f.no, m})
					}
					h.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return slices.Concat(parts...)
}

// isNew notes a situation, and reports whether neither it nor one that is the same but for
// the names of nodes and clients was met before.
func (h *search) isNew(e *coder, s *situation) bool {
	least := e.least(s, h.b, h.seeds)
	d := &h.shards[least[0]&255]
	d.Lock()
	defer d.Unlock()
	if _, seen := d.seen[least]; seen {
		return false
	}
	d.seen[least] = struct{}{}
	return true
}

// explain plays the way to a violation again, and tells it.
func (h *search) explain() (trace []string) {
	var moves []move
	for f := h.lastOne; ; f = h.found[f.from] {
		moves = append(moves, f.move)
		if f.from == 0 {
			break
		}
	}
	slices.Reverse(moves)
	x := &stepper{b: h.b}
	s := x.begin()
	x.explain = func(format string, args ...any) { trace = append(trace, fmt.Sprintf(format, args...)) }
	for _, m := range moves {
		trace = append(trace, fmt.Sprintf("%g: %v", x.ticks(s.now), m))
		s = x.next(s, m)
	}
	return append(trace, x.broken)
}

// TestExplore searches all that can happen to real cores within small bounds: see
// docs/guarantees.md.
func TestExplore(t *testing.T) {
	for _, b := range searches {
		if *exploreOnly == "" && !b.short || *exploreOnly != "" && *exploreOnly != "all" && !slices.Contains(strings.Split(*exploreOnly, ","), b.name) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			h, began := &search{b: &b}, clock.System().Now()
			trace, complete := h.run(*exploreMost)
			t.Logf("%d states, %d moves, %v", len(h.found), h.moves.Load(), clock.System().Now().Sub(began).Round(time.Second/10))
			if trace != nil {
				t.Errorf("%s", strings.Join(trace, "\n"))
			} else if !complete {
				t.Error("not complete")
			}
		})
	}
}

// What is made from a situation shares nothing with it that is written to.
func TestExploreCopies(t *testing.T) {
	b := searches[0]
	b.quota = quota{slow: 2, restarts: 1, flushes: 1, cuts: 1, deletions: 1, refusals: 1, releases: 2}
	x, e, chosen := &stepper{b: &b}, newCoder(), rand.New(rand.NewPCG(1, 2))
	order, nodes := []int{0, 1}, []int{0, 1, 2}
	code := func(s *situation) string {
		e.now, e.tick, e.past = s.now, tick, 100
		e.situation(s, order, nodes)
		return string(e.buf)
	}
	for range 200 {
		s := x.begin()
		for range 60 {
			before := code(s)
			moves := x.moves(s, nil)
			if len(moves) == 0 {
				break
			}
			for _, m := range moves {
				first := code(x.next(s, m))
				if code(s) != before {
					t.Fatalf("%v has changed what it began with", m)
				}
				if code(x.next(s, m)) != first {
					t.Fatalf("%v has two outcomes", m)
				}
			}
			s = x.next(s, moves[chosen.IntN(len(moves))])
		}
	}
}

// Situations that are taken for the same have the same future: they are followed by the same
// ones. So the search loses nothing.
func TestExploreTakesOnlyTheSameForTheSame(t *testing.T) {
	most := 20_000
	if *exploreOnly == "" {
		most = 300
	}
	for _, b := range searches {
		x, e := &stepper{b: &b, owned: map[any]bool{}, every: true}, newCoder()
		seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
		after := make(map[[2]uint64][][2]uint64)
		again := 0
		for queue := []*situation{x.begin()}; len(queue) > 0 && len(after) < most; queue = queue[1:] {
			var codes [][2]uint64
			code := e.least(queue[0], &b, seeds)
			first, met := after[code]
			for _, m := range x.moves(queue[0], nil) {
				next := x.next(queue[0], m)
				codes = append(codes, e.least(next, &b, seeds))
				if !met {
					queue = append(queue, next)
				}
			}
			slices.SortFunc(codes, func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) })
			codes = slices.Compact(codes)
			if after[code] = codes; met {
				if again++; !slices.Equal(first, codes) {
					t.Fatalf("%s: of two situations that are taken for the same, one is followed by %x and one by %x", b.name, first, codes)
				}
			}
		}
		t.Logf("%s: %d situations, %d met again", b.name, len(after), again)
	}
}
