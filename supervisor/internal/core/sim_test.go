package core

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"math/rand/v2"

	"github.com/leasehold-go/leasehold/node"
)

var (
	simSeeds = flag.Int("sim.seeds", 0, "how many histories TestSimulation plays; 0 for those of a few seconds")
	simAll   = flag.Bool("sim.all", false, "play on after a violation")
	simFrom  = flag.Uint64("sim.from", 1, "the seed of the first of the histories of -sim.seeds; the next ones follow")
	simSeed  = flag.Uint64("sim.seed", 0, "play this history alone; with -v it is told step by step")
)

// simStats are what happened in many histories: they show that what is interesting
// is reached.
type simStats struct {
	histories, events int
	time              time.Duration

	won, renewals, releases, freed, cancels, extends, held, noQuorum int
	lost                                                             map[string]int
	faults                                                           [faultKinds]int
	sent                                                             [node.Highest + 1]int
	answers                                                          [node.Highest + 1][node.Other + 1]int
	handed, given, gifts, reservations, deadSkipped, unfinished      int

	enrolments, timeouts, resumed, lateBytes, strangers, forgotten, raised, young, otherLife, noRoom, warnings, aims, groups int

	forgone, adoptions, adopted, refused, livingAdopted, handOvers, revocations, all, any int
	flushes, spares, sparesBack, steps, disagreeing, newcomers                            int

	relisted, finished, undone int // of histories in which the nodes are changed

	scenes  [scenes]int
	excused [excuses]int
}

// play plays one history, and returns what was wrong with it.
func play(seed uint64, stats *simStats, trace func(string, ...any)) error {
	return playWorld(newWorld(seed, stats), trace)
}

func playWorld(w *world, trace func(string, ...any)) (err error) {
	w.trace = trace
	defer func() {
		switch v := recover().(type) {
		case nil:
		case violation:
			err = fmt.Errorf("%s", string(v))
		default:
			err = fmt.Errorf("at %v: panic: %v\n%s", w.now, v, debug.Stack())
		}
	}()
	w.simulate()
	return nil
}

// Competing clients on nodes that forget, hang and lie about the time: at any
// instant one of them at most believes that it holds a name. What is checked, all
// the time:
//
//   - one believer at most, and a quorum that keeps his key to the very deadline, or
//     has lost its data, which the guard answers for: a restart, a failover, a FLUSHALL, a
//     spare server that takes the address;
//   - fences grow from each tenure to the next, in the order of their beginnings, those
//     that are adopted included;
//   - a handle is adopted once, with another token, and not if somebody else had the name
//     in between;
//   - a holder that was not alone, or whose handle was adopted, ends lost: by its present
//     deadline at the latest, and within a renewal interval and two node timeouts if nothing
//     else is wrong;
//   - a lease is lost when its time is up, as soon as the core runs, and never revived; no
//     release is sent while it is believed in;
//   - nobody has a name that is to stay taken after a tenure, for as long as that, and no key
//     that was left is counted, unless a node lost its data since, or it was taken away by hand;
//   - every caller is answered once;
//   - once the faults stop somebody gets each name, and when everybody has given up
//     nothing is left: no key on a node, nothing in a core.
//
// What the protocol does not promise to survive is excused, no wider than this, and
// counted: see the constants of type excuse. By hand is an administrator's DEL or SET, a
// Revoke, and a node's clock that was put forward.
//
//   - Two believers, if one of them has a quorum only with votes that were taken by hand. A
//     step of a clock is none once the node has told its time since, if it is of more than the
//     drift, twice what an answer may take and what rates make of a TTL: then it shows, unless the clock
//     was set back meanwhile, or the node has begun another life under the lease.
//   - Two believers, if one of them was stopped by what its own clock does not see, within
//     MaxTTL + W, and not all nodes have told their time since, or it was for no longer than
//     that.
//   - A fence that is not larger: of one of two such believers; of an adoption whose keys
//     were taken by hand while it waited for its former holder; if fences were forgotten,
//     and the clocks of so many nodes were stepped that the median may be that of one of
//     them; of a winner that was stopped unseen.
//   - A holder that was interrupted by hand and does not learn it, nor does the heir of its
//     lease: if a node lost its data before it had told what was taken there; if a node of
//     the deletion is silent, and a grant that arrived after it stands in; if the holder was
//     stopped unseen while nodes were started anew.
//   - An adoption although somebody had the name in between: if the adopter's own keys were
//     taken by hand while it waited; if a command of the former holder's was late, or was
//     under way when the other one won; if a node came back with a copy of older data.
//   - A key that stays until it expires: if its command came after its connection was given
//     up, if it is of a copy of older data, if its node's clock was put back, if it is of a
//     handle that nobody adopts; and of a client whose mailboxes have next to no room.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		var trace func(string, ...any)
		if testing.Verbose() {
			trace = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		}
		stats := &simStats{lost: map[string]int{}}
		if err := play(*simSeed, stats, trace); err != nil {
			t.Fatalf("seed %d: %v", *simSeed, err)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(2000)) // histories are small, and soon garbage
	begin := time.Now()
	// Without a number some that are always the same, and then fresh ones.
	const fixed, seconds = 200, 3
	enough := func(k int) bool { return k > fixed && time.Since(begin) > seconds*time.Second }
	if *simSeeds > 0 {
		enough = func(k int) bool { return k > *simSeeds }
	}
	fresh := rand.Uint64() >> 16

	var next atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	all := make([]simStats, runtime.GOMAXPROCS(0))
	for i := range all {
		stats := &all[i]
		stats.lost = map[string]int{}
		workers.Go(func() {
			for !failed.Load() {
				k := int(next.Add(1))
				if enough(k) {
					return
				}
				seed := uint64(k)
				switch {
				case *simSeeds > 0:
					seed += *simFrom - 1
				case k > fixed:
					seed += fresh
				}
				if err := play(seed, stats, nil); err != nil {
					failed.Store(!*simAll)
					t.Errorf("seed %d (history %d): %v\nreplay: go test ./supervisor/internal/core -run 'TestSimulation$' -v -sim.seed=%d", seed, k, err, seed)
				}
			}
		})
	}
	workers.Wait()
	total := simStats{lost: map[string]int{}}
	for i := range all {
		total.add(&all[i])
	}
	took := time.Since(begin)
	t.Logf("%d histories, %.1f simulated hours in %v: %.0f histories/s, %.0f events each", total.histories, total.time.Hours(), took.Round(time.Millisecond),
		float64(total.histories)/took.Seconds(), float64(total.events)/float64(max(1, total.histories)))
	t.Log(total.String())
}

func (s *simStats) add(o *simStats) {
	s.histories += o.histories
	s.events += o.events
	s.time += o.time
	for _, p := range [][2]*int{
		{&s.won, &o.won}, {&s.renewals, &o.renewals}, {&s.releases, &o.releases}, {&s.cancels, &o.cancels},
		{&s.extends, &o.extends}, {&s.held, &o.held}, {&s.noQuorum, &o.noQuorum}, {&s.enrolments, &o.enrolments},
		{&s.timeouts, &o.timeouts}, {&s.resumed, &o.resumed}, {&s.lateBytes, &o.lateBytes}, {&s.strangers, &o.strangers}, {&s.forgotten, &o.forgotten},
		{&s.young, &o.young}, {&s.otherLife, &o.otherLife}, {&s.noRoom, &o.noRoom}, {&s.groups, &o.groups}, {&s.warnings, &o.warnings},
		{&s.aims, &o.aims}, {&s.handed, &o.handed}, {&s.given, &o.given}, {&s.gifts, &o.gifts}, {&s.reservations, &o.reservations}, {&s.deadSkipped, &o.deadSkipped}, {&s.unfinished, &o.unfinished}, {&s.raised, &o.raised},
		{&s.forgone, &o.forgone}, {&s.adoptions, &o.adoptions}, {&s.adopted, &o.adopted}, {&s.refused, &o.refused}, {&s.livingAdopted, &o.livingAdopted},
		{&s.handOvers, &o.handOvers}, {&s.freed, &o.freed}, {&s.revocations, &o.revocations}, {&s.all, &o.all}, {&s.any, &o.any}, {&s.flushes, &o.flushes},
		{&s.spares, &o.spares}, {&s.sparesBack, &o.sparesBack}, {&s.steps, &o.steps}, {&s.disagreeing, &o.disagreeing},
		{&s.newcomers, &o.newcomers},
	} {
		*p[0] += *p[1]
	}
	for k, n := range o.lost {
		s.lost[k] += n
	}
	for k := range o.scenes {
		s.scenes[k] += o.scenes[k]
	}
	for e := range o.excused {
		s.excused[e] += o.excused[e]
	}
	for k := range o.faults {
		s.faults[k] += o.faults[k]
	}
	for op := range o.sent {
		s.sent[op] += o.sent[op]
		for st := range o.answers[op] {
			s.answers[op][st] += o.answers[op][st]
		}
	}
}

func (s *simStats) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\n  "+format, args...) }
	line("%d acquisitions, %d renewals, %d releases (%d confirmed), %d forgone, %d extensions, %d cancelled, %d refused as held, %d without a quorum; lost: %v",
		s.won, s.renewals, s.releases, s.freed, s.forgone, s.extends, s.cancels, s.held, s.noQuorum, s.lost)
	for op := node.Grant; op <= node.Sign; op++ {
		line("%-8s %8d sent, answered:", op, s.sent[op])
		for st, n := range s.answers[op] {
			fmt.Fprintf(&b, " %v %d", node.Status(st), n)
		}
	}
	line("%d enrolments, %d timeouts (%d connections went on after one), %d pipelines came late, %d strangers, %d forgotten or raised markers (%d), %d grants for a young node, %d heals for another life, %d without room, %d warnings",
		s.enrolments, s.timeouts, s.resumed, s.lateBytes, s.strangers, s.forgotten, s.raised, s.young, s.otherLife, s.noRoom, s.warnings)
	line("%d leases were won out of the queue, %d of them by messages alone; %d keys were given, %d reserved; %d waiters passed over as dead, %d hand-overs met only such", s.handed, s.given, s.gifts, s.reservations, s.deadSkipped, s.unfinished)
	line("%d renewals were of a group of leases", s.groups)
	line("%d aimed faults; others:", s.aims)
	for k, n := range s.faults {
		if n > 0 {
			fmt.Fprintf(&b, " %s %d,", faultNames[k], n)
		}
	}
	line("%d adoptions: %d won, %d refused; %d handed over, %d adopted of a living holder's; %d revoked, %d times all names, %d any of several",
		s.adoptions, s.adopted, s.refused, s.handOvers, s.livingAdopted, s.revocations, s.all, s.any)
	line("%d flushes, %d spares, %d of which gave way again, %d clocks set after a restart; %d clients with a smaller MaxTTL, %d newcomers",
		s.flushes, s.spares, s.sparesBack, s.steps, s.disagreeing, s.newcomers)
	line("scenes:")
	for k, n := range s.scenes {
		fmt.Fprintf(&b, " %s %d;", sceneNames[k], n)
	}
	line("excused:")
	for e, n := range s.excused {
		fmt.Fprintf(&b, " %s %d;", excuseNames[e], n)
	}
	return b.String()
}
