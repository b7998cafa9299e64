package shards

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A place is what a name does in this process:
//
//	none → standing → running → giving → none
//	standing → leaving → none     if it is won meanwhile it is released at once
//	running → ending → none       the lease is over, and the function has to return
type place uint8

const (
	none place = iota
	standing
	leaving
	running
	giving
	ending
)

// A spot holds what this process does with one name.
type spot struct {
	at   place
	odd  bool          // it stands there for one more than the least that every process has
	once bool          // it makes one attempt, and does not stand in the queue
	rest clock.Instant // it is left alone until then

	stood int           // sweeps since it began to stand
	idle  int           // sweeps, one after the other, in which no process had it
	since clock.Instant // of the first of them
}

// A sight is the result of one look at a name.
type sight struct {
	known   bool // nothing else counts if it is not
	free    bool
	held    bool
	owner   string
	left    time.Duration // -1 for ever
	waiting int
}

// A verb says what to do with a name.
type verb uint8

const (
	give  verb = iota // end its function, and release it
	stand             // wait for it
	try               // make one attempt
	leave             // stop waiting for it
)

type step struct {
	do   verb
	name int
}

const (
	// patience is for how many sweeps a name is waited for at one holder.
	patience = 3
	// spare is for how many sweeps a name is free before a process takes it that has enough.
	spare = 3
	// unequal is for how many sweeps a process has two more before one that has enough stands
	// there.
	unequal = 5
	// orphaned is how long a name is free before a process takes it whatever its part is. A process
	// that has more waits longer, by waitMore for each.
	orphaned = 3 * time.Second
	waitMore = 500 * time.Millisecond

	sweepEvery = 250 * time.Millisecond
	// activeFor is how long it sweeps often after another number of processes takes part.
	activeFor = 4 * time.Second
	// lazyAfter is for how long nothing must have changed before it sweeps less often, although not
	// all is as it should be. Lists that differ may cause that, or a function that always fails.
	lazyAfter = 30 * time.Second
	lazyEvery = time.Second
	// unknownTTL is the assumed TTL as long as no lease was seen.
	unknownTTL = 10 * time.Second
)

// A plan decides what this process takes and gives. It reads no clock and starts nothing.
type plan struct {
	self    string
	pick    *rand.Rand
	spots   []spot
	members int

	longest map[string]time.Duration // how long an owner's leases were seen to have left at most
	last    []sight
	order   []int          // of the names, another one for each sweep
	counts  map[string]int // how many names others have
	asked   map[string]int // for how many of them another process waits
	richer  int            // sweeps, one after the other, in which a process had two more
	changed clock.Instant  // when another number of processes took part
	moved   clock.Instant  // or another process had a name
	uneven  bool           // not all is as it should be
}

func newPlan(self string, names int, pick *rand.Rand) *plan {
	return &plan{self: self, pick: pick, spots: make([]spot, names), members: 1, longest: make(map[string]time.Duration)}
}

// join notes how many take part, and reports whether that number has changed.
func (p *plan) join(now clock.Instant, members int) bool {
	if members == p.members {
		return false
	}
	p.members, p.changed, p.moved = members, now, now
	return true
}

// quota returns how many names each process has at least, and how many none exceeds.
func (p *plan) quota() (lo, hi int) {
	n := len(p.spots)
	return n / p.members, (n + p.members - 1) / p.members
}

// at counts the names in a place.
func (p *plan) at(where place) (n int) {
	for i := range p.spots {
		if p.spots[i].at == where {
			n++
		}
	}
	return n
}

// look updates the plan with the result of a sweep, and returns what to do, in this order.
func (p *plan) look(now clock.Instant, seen []sight) (steps []step) {
	p.note(now, seen)
	p.order = p.pick.Perm(len(p.spots))
	do := func(v verb, i int) { steps = append(steps, step{v, i}) }
	lo, hi := p.quota()
	have, stands := p.at(running), p.at(standing)

	for _, i := range p.order {
		if s := &p.spots[i]; s.at == standing && !s.once && p.tired(i, have, lo) {
			s.at = leaving
			do(leave, i)
			stands--
		}
	}
	most := lo
	if have == lo {
		most = hi
	}
	for _, i := range p.order {
		if s := &p.spots[i]; s.at == standing && !s.once && have+stands > most {
			s.at = leaving
			do(leave, i)
			stands--
		}
	}
	for _, i := range p.order {
		if s := &p.spots[i]; s.at == running && seen[i].known && seen[i].waiting > 0 && have > lo {
			s.at = giving
			do(give, i)
			have--
		}
	}
	for need := lo - have - stands; need > 0; need-- {
		i := p.wanted(now, lo)
		if i < 0 {
			break
		}
		p.begin(i, spot{at: standing})
		do(stand, i)
		stands++
	}
	if stands > 0 {
		return steps
	}
	if have == lo && lo < hi {
		if i := p.free(now, func(s *spot) bool { return s.idle >= spare }); i >= 0 {
			p.begin(i, spot{at: standing, once: true})
			do(try, i)
			return steps
		}
		if p.richer >= unequal {
			if i := p.richest(now, have+1); i >= 0 {
				p.begin(i, spot{at: standing, odd: true})
				do(stand, i)
				return steps
			}
		}
	}
	wait := orphaned + time.Duration(max(0, have-lo))*waitMore
	if i := p.free(now, func(s *spot) bool { return s.idle >= spare && now.Sub(s.since) >= wait }); i >= 0 {
		p.begin(i, spot{at: standing, once: true})
		do(try, i)
	}
	return steps
}

// begin makes a name stand in the way that s says.
func (p *plan) begin(i int, s spot) {
	was := p.spots[i]
	s.rest, s.idle, s.since = was.rest, was.idle, was.since
	p.spots[i] = s
}

// note counts the results of a sweep.
func (p *plan) note(now clock.Instant, seen []sight) {
	p.counts, p.asked = make(map[string]int), make(map[string]int)
	owners := make(map[string]time.Duration)
	p.uneven = false
	for i, s := range seen {
		spot := &p.spots[i]
		if spot.at == standing {
			spot.stood++
		}
		if p.last != nil && (p.last[i].owner != s.owner || p.last[i].free != s.free) {
			p.moved = now
		}
		if s.known && s.free && spot.at != running && spot.at != giving {
			if spot.idle++; spot.idle == 1 {
				spot.since = now
			}
		} else {
			spot.idle = 0
		}
		if s.held {
			owners[s.owner] = max(owners[s.owner], p.longest[s.owner], s.left)
			if s.owner != p.self {
				p.counts[s.owner]++
				if s.waiting > 0 {
					p.asked[s.owner]++
				}
			}
		}
	}
	p.longest, p.last = owners, seen

	lo, hi := p.quota()
	have, top := p.at(running), 0
	for _, n := range p.counts {
		top = max(top, n)
		p.uneven = p.uneven || n < lo || n > hi
	}
	for i, s := range seen {
		p.uneven = p.uneven || !s.held || p.stale(i)
	}
	holders := len(p.counts)
	if have > 0 {
		holders++
	}
	p.uneven = p.uneven || have < lo || have > hi || holders != min(p.members, len(p.spots))
	if have == lo && lo < hi && top >= have+2 {
		p.richer++
	} else {
		p.richer = 0
	}
}

// stale reports whether no process seems to renew a lease that another process holds.
func (p *plan) stale(i int) bool {
	s := p.last[i]
	return s.held && s.owner != p.self && s.left >= 0 && s.left < p.longest[s.owner]/2
}

// tired reports whether it is no use to stand for a name any longer.
func (p *plan) tired(i, have, lo int) bool {
	s := p.last[i]
	if !s.known || !s.held || s.owner == p.self || p.stale(i) {
		return false
	}
	enough := lo
	if p.spots[i].odd {
		enough = have + 1
	}
	return p.spots[i].stood > patience || p.counts[s.owner] <= enough
}

// wanted returns the name to stand for if this process has less than its part. It prefers a free
// name, then one that no process renews, then one of the process that has most. It returns -1 if
// there is none.
func (p *plan) wanted(now clock.Instant, lo int) int {
	if i := p.free(now, func(*spot) bool { return true }); i >= 0 {
		return i
	}
	if i := p.choose(now, func(i int) int {
		if !p.stale(i) {
			return -1
		}
		return 1
	}); i >= 0 {
		return i
	}
	return p.richest(now, lo)
}

// free returns one of the free names for which ok holds.
func (p *plan) free(now clock.Instant, ok func(*spot) bool) int {
	return p.choose(now, func(i int) int {
		if !p.last[i].known || !p.last[i].free || !ok(&p.spots[i]) {
			return -1
		}
		return 1
	})
}

// richest returns a name of the process that has most names for which none waits, if it has more
// than enough names. It counts that process as having one less from then on.
func (p *plan) richest(now clock.Instant, enough int) int {
	i := p.choose(now, func(i int) int {
		s := p.last[i]
		n := p.counts[s.owner]
		if !s.known || !s.held || s.owner == p.self || n <= enough {
			return -1
		}
		worth := 2 * max(0, n-p.asked[s.owner])
		if s.waiting == 0 {
			worth++
		}
		return worth
	})
	if i >= 0 {
		p.counts[p.last[i].owner]--
	}
	return i
}

// choose returns one of the names with the largest worth that this process neither has nor stands
// for nor leaves alone. It returns -1 if none is worth 0 or more.
func (p *plan) choose(now clock.Instant, worth func(i int) int) int {
	best, most := -1, -1
	for _, i := range p.order {
		if s := &p.spots[i]; s.at == none && s.rest <= now {
			if w := worth(i); w > most {
				best, most = i, w
			}
		}
	}
	return best
}

// ttl returns how long leases seem to last.
func (p *plan) ttl() (longest time.Duration) {
	for _, d := range p.longest {
		longest = max(longest, d)
	}
	return cmp.Or(longest, unknownTTL)
}

// active reports whether it has to look often.
func (p *plan) active(now clock.Instant) bool {
	return p.uneven || now.Sub(p.changed) < activeFor || slices.ContainsFunc(p.spots, func(s spot) bool { return s.at != none && s.at != running })
}

// next returns when to sweep again.
func (p *plan) next(now clock.Instant) time.Duration {
	switch {
	case !p.active(now):
		return p.ttl()/2 + p.random(p.ttl()/4)
	case now.Sub(p.moved) > lazyAfter:
		return lazyEvery + p.random(lazyEvery/5)
	}
	return sweepEvery*9/10 + p.random(sweepEvery/5)
}

func (p *plan) random(d time.Duration) time.Duration {
	return time.Duration(p.pick.Int64N(int64(d) + 1))
}
