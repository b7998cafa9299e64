package core

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A world is one history: clients with real cores, nodes in memory, and what goes
// wrong between them. It has one queue of events and one source of chance, no
// goroutine and no clock but its own, so a seed replays exactly.
//
// Its time is the true one. Each client and each node has a clock that runs at a
// rate of its own, and may be stepped or stopped.
type world struct {
	seed   uint64
	rand   *rand.Rand
	now    time.Duration
	queue  []event
	seq    uint64
	events int
	trace  func(format string, args ...any) // nil for none

	names   []string
	choices bool                    // some want any of several names
	keys    [maxNames]keyspace.Keys // of the names
	quorum  int
	change  *simChange // of the nodes; nil in histories without
	guard   bool
	maxTTL  time.Duration   // the largest that a client may have
	widths  []time.Duration // those that clients have: one if they agree
	most    time.Duration   // MaxTTLCap
	timeout time.Duration
	spread  time.Duration // of the nodes' clocks

	maxLooks int // how many entries of queues one call looks at; 0 for as many as a server

	nodes   []*simNode
	clients []*simClient
	lastID  int
	faults  faults
	calm    bool // no fault any more
	ending  bool // no acquisition any more

	leases     [maxNames][]*simLease   // by name: those that may be believed in
	tenures    [maxNames][]*simLease   // all that there were, in the order of their beginnings
	fence      [maxNames]uint64        // the highest that was handed out
	progress   [maxNames]bool          // somebody got it since the faults have stopped
	changed    bool                    // a key, since what is believed was checked
	lookAt     time.Duration           // when to look for stranded names again
	lostData   bool                    // a node did
	stepped    nodeSet                 // nodes whose clock was
	nudgedAt   time.Duration           // when the nodes' clocks were set forward without an excuse
	ranAt      time.Duration           // and last with one
	setBack    time.Duration           // by how much the nodes' clocks were put back
	strandedAt [maxNames]time.Duration // since when a name is free that somebody waits for
	leftTokens map[string]excuse       // what may be found on a node after its release, and why
	formers    map[string]string       // by the token of an adoption: the one that it takes the place of
	ofCopies   map[string]bool         // the tokens of adoptions that have swapped what a copy of the data had brought back
	minHolds   bool                    // some names are to stay taken
	handAt     [maxNames]time.Duration // when somebody has touched its keys by hand last
	heldAt     [maxNames]time.Duration // when a lease on it was over last
	handles    [maxNames]*simHandle    // the last that was given away
	stats      *simStats
}

const maxNames = 3

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// after has something happen a while from now.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	q := append(w.queue, event{w.now + max(0, d), w.seq, do})
	i := len(q) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if q[parent].before(&q[i]) {
			break
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
	w.queue = q
}

// step lets the next event happen, and reports whether there was one before end.
func (w *world) step(end time.Duration) bool {
	q := w.queue
	if len(q) == 0 || q[0].at > end {
		w.now = end
		return false
	}
	e := q[0]
	last := len(q) - 1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q[child].before(&q[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	w.queue = q
	w.now = e.at
	w.stats.events++
	if w.events++; w.events > 5_000_000 {
		w.fail("there is no end of events")
	}
	e.do()
	return true
}

func (w *world) run(d time.Duration) {
	for end := w.now + d; w.step(end); {
	}
}

// A violation ends a history.
type violation string

func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.tell("VIOLATION: %s", text)
	panic(violation(fmt.Sprintf("at %v: %s", w.now, text)))
}

func (w *world) tell(format string, args ...any) {
	if w.trace != nil {
		w.trace("%12v  "+format, append([]any{w.now}, args...)...)
	}
}

func (w *world) chance(p float64) bool { return w.rand.Float64() < p }

// upTo returns anything from 0 to d.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(d) + 1))
}

// between returns anything from a to b times the largest TTL.
func (w *world) between(a, b float64) time.Duration {
	return time.Duration((a + (b-a)*w.rand.Float64()) * float64(w.maxTTL))
}

// rate is that of a clock. Any two of them differ by less than the drift that is
// allowed for: 1 % and 2 ms of the TTL.
func (w *world) rate() float64 { return 1 + 0.0045*(2*w.rand.Float64()-1) }

// A rateClock runs at a rate of its own against the true time.
type rateClock struct {
	w    *world
	rate float64
	base time.Duration // what it said
	from time.Duration // then
	stop bool
}

func (c *rateClock) now() time.Duration { return c.at(c.w.now) }

func (c *rateClock) at(t time.Duration) time.Duration {
	if c.stop {
		return c.base
	}
	return c.base + time.Duration(float64(t-c.from)*c.rate)
}

// when returns the true time at which it says t.
func (c *rateClock) when(t time.Duration) time.Duration {
	return c.from + time.Duration(float64(t-c.base)/c.rate)
}

// until returns the true time that passes until it says t, rounded up.
func (c *rateClock) until(t time.Duration) time.Duration {
	return time.Duration(float64(t-c.now())/c.rate) + 1
}

func (c *rateClock) jump(d time.Duration) { c.base, c.from = c.now()+d, c.w.now }

func (c *rateClock) freeze(stop bool) {
	c.base, c.from = c.now(), c.w.now
	c.stop = stop
}

var simOrigin = clock.Instant(time.Hour)
