package core

import (
	"math/rand/v2"
	"testing"

	"github.com/leasehold-go/leasehold/clock"
)

// check returns which invariant of votes is broken; "" if none is. A core with the guard
// forgets no vote, so each late one has its key.
func (vs *votes) check(guard bool) string {
	for i, v := range vs.of {
		trials := 0
		for _, x := range vs.trials() {
			if x.node == i {
				trials++
			}
		}
		switch {
		case trials > 1:
			return "a vote has two trials"
		case (trials == 1) != (v.standing != counts):
			return "invariant 2: a vote counts and is on trial, or neither"
		case guard && v.standing == late && v.until == 0:
			return "invariant 3: a late vote has no key, and counts"
		}
	}
	return ""
}

// What happens at the nodes, in any order, leaves the invariants in force, and a vote that
// is withdrawn counts again by a trial only.
func TestVotesKeepTheirInvariants(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		n, guard := 1+r.IntN(5), seed%2 == 0
		vs := newVotes(n)
		m := &mode{first: electorateOf(all(n))}
		for step := range 60 {
			now := clock.Instant(step + 1)
			i, pending := r.IntN(n), nodeSet(r.Uint64())&all(n)
			before := vs.of[i].standing
			what := r.IntN(7)
			switch what {
			case 0, 1:
				vs.of[i].promise = now + 10
				if vs.kept(i, 1, 0) {
					vs.joined(now, i, r.IntN(2) == 0, pending)
				}
			case 2:
				vs.deleted(now, i, pending)
			case 3:
				vs.overwritten(now, i, pending)
			case 4:
				vs.lapsed(now, i, pending)
			case 5:
				if !guard {
					vs.forgot(i)
				}
			default:
				trial := vs.trialOf(i) != nil
				healable, _ := vs.confirmedBy(i, m)
				if trial && healable != 0 {
					t.Fatalf("seed %d: invariant 4: node %d is on trial and confirms", seed, i)
				}
			}
			if broken := vs.check(guard); broken != "" {
				t.Fatalf("seed %d, step %d: %s: %v, %+v", seed, step, broken, vs.of, vs.trials())
			}
			if what < 5 && before >= withdrawn && vs.of[i].standing < withdrawn {
				t.Fatalf("seed %d, step %d: invariant 5: %v became %v", seed, step, before, vs.of[i].standing)
			}
		}
	}
}

// Each thing that happens at a node moves a vote to one standing.
func TestStandings(t *testing.T) {
	q := &mode{first: electorateOf(all(3))}
	kept := func(vs *votes, i int) {
		vs.of[i].promise = 100
		vs.kept(i, 1, 0)
	}
	for name, c := range map[string]struct {
		do   func(vs *votes)
		want string
	}{
		"granted":                {func(vs *votes) {}, "counts until 100ns"},
		"deleted":                {func(vs *votes) { vs.deleted(1, 0, 0) }, "withdrawn, without the key"},
		"overwritten":            {func(vs *votes) { vs.overwritten(1, 0, 0) }, "taken, without the key"},
		"overwritten, then gone": {func(vs *votes) { vs.overwritten(1, 0, 0); vs.lapsed(2, 0, 0) }, "withdrawn, without the key"},
		"lapsed":                 {func(vs *votes) { vs.lapsed(1, 0, 0) }, "on probation, without the key"},
		"forgot":                 {func(vs *votes) { vs.forgot(0) }, "counts, without the key"},
		"healed": {func(vs *votes) {
			vs.deleted(1, 0, 0)
			kept(vs, 0)
			vs.joined(2, 0, false, 0)
		}, "withdrawn until 100ns"},
		"healed, and confirmed by one": {func(vs *votes) {
			vs.deleted(1, 0, 0)
			kept(vs, 0)
			vs.confirmedBy(1, q)
		}, "withdrawn until 100ns"},
		"healed, and confirmed by two": {func(vs *votes) {
			vs.deleted(1, 0, 0)
			kept(vs, 0)
			vs.confirmedBy(1, q)
			vs.confirmedBy(2, q)
		}, "counts until 100ns"},
		"healed, and confirmed too early": {func(vs *votes) {
			vs.deleted(1, 0, 1<<1)
			kept(vs, 0)
			vs.confirmedBy(1, q)
			vs.confirmedBy(2, q)
		}, "withdrawn until 100ns"},
		"came late": {func(vs *votes) {
			vs.forgot(0)
			kept(vs, 0)
			vs.joined(1, 0, true, 0)
		}, "late until 100ns"},
		"came late, and another was deleted": {func(vs *votes) {
			vs.forgot(0)
			kept(vs, 0)
			vs.joined(1, 0, true, 0)
			vs.deleted(2, 1, 0)
		}, "on probation, without the key"},
		"came late, and was confirmed": {func(vs *votes) {
			vs.forgot(0)
			kept(vs, 0)
			vs.joined(1, 0, true, 0)
			vs.confirmedBy(1, q)
			vs.confirmedBy(2, q)
		}, "counts until 100ns"},
	} {
		vs := newVotes(3)
		for i := range 3 {
			kept(&vs, i)
		}
		c.do(&vs)
		if got := vs.of[0].String(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
