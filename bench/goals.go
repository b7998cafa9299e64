package main

import "fmt"

// A goal is what leasehold is meant to reach.
type goal struct {
	what     string
	scenario string
	figure   string
	to       string // the ratio to this library counts, not the figure
	atLeast  bool   // more is better
	bound    float64
}

// goals are the figures that leasehold was designed for, with a new name for each pair.
// Those without a ratio are of two cores with Redis on loopback.
var goals = []goal{
	{what: "acquire p50, N=1", scenario: "acquire/N=1", figure: "acquire p50", to: floor, bound: 1.35},
	{what: "acquire p50, N=3", scenario: "nodes/N=3", figure: "acquire p50", to: floor, bound: 1.08},
	{what: "acquire p50, N=5", scenario: "acquire/N=5", figure: "acquire p50", to: floor, bound: 1.08},
	{what: "allocations a pair, N=1", scenario: "acquire/N=1", figure: "allocations a pair", bound: 25},
	{what: "allocations a pair, N=5", scenario: "acquire/N=5", figure: "allocations a pair", bound: 70},
	{what: "pairs/s, N=1, 256 callers", scenario: "callers/N=1", figure: "pairs", to: floor, atLeast: true, bound: .9},
	{what: "pairs/s, N=5, 256 callers", scenario: "callers/N=5", figure: "pairs", to: floor, atLeast: true, bound: 3},
	{what: "client CPU a pair, N=5, 256 callers", scenario: "callers/N=5", figure: "client CPU a pair", to: floor, bound: .2},
	{what: "server CPU a pair, N=5, 256 callers", scenario: "callers/N=5", figure: "server CPU a pair", to: floor, bound: .4},
	{what: "102,400 names used once, N=5: keys left but registers", scenario: "once/N=5", figure: "keys left", bound: 0},

	{what: "1 of 5 hung: acquire p50", scenario: "hung/1 of 5", figure: "acquire p50", to: "redsync rueidis, fail-fast", bound: 1},
	{what: "1 of 5 hung: acquire p50 to healthy", scenario: "hung/1 of 5", figure: "acquire p50 to healthy", bound: 1.3},
	{what: "1 of 5 hung: acquire max, ms", scenario: "hung/1 of 5", figure: "acquire max", bound: 5},
	{what: "1 of 5 hung: release max, ms", scenario: "hung/1 of 5", figure: "release max", bound: 5},
	{what: "1 of 5 hung: errors", scenario: "hung/1 of 5", figure: "errors", bound: 0},
	{what: "1 of 5 hung, 256 callers: pairs/s to before", scenario: "hung/1 of 5, 256 callers", figure: "pairs to before", atLeast: true, bound: 1},
	{what: "1 of 5 hung, 256 callers: more goroutines", scenario: "hung/1 of 5, 256 callers", figure: "more goroutines", bound: 0},
	{what: "1 of 5 hung, 256 callers: more memory, MB", scenario: "hung/1 of 5, 256 callers", figure: "more memory", bound: 5},
	{what: "1 of 5 hung, 256 callers: pairs in the first second after, to before", scenario: "hung/1 of 5, 256 callers", figure: "first second to before", atLeast: true, bound: .8},

	{what: "hand-over p50, N=1", scenario: "hand-over/N=1", figure: "hand-over p50", to: floor, bound: .35},
	{what: "hand-over p50, N=5", scenario: "hand-over/N=5", figure: "hand-over p50", to: floor, bound: .4},
	{what: "drain of 64 clients, N=1, ms", scenario: "drain/N=1, each a client of its own", figure: "drained after", bound: 100},
	{what: "drain of 64 clients, N=5, ms", scenario: "drain/N=5, each a client of its own", figure: "drained after", bound: 105},
	{what: "drain of 64 callers, N=1, ms", scenario: "drain/N=1, of one client", figure: "drained after", bound: 100},
	{what: "drain of 64 callers, N=5, ms", scenario: "drain/N=5, of one client", figure: "drained after", bound: 105},
	{what: "64 clients on one name, N=5: turns/s", scenario: "crowd/N=5", figure: "turns", atLeast: true, bound: 560},
	{what: "64 clients on one name, N=5: turns to those of one alone", scenario: "crowd/N=5", figure: "turns to those of one alone", atLeast: true, bound: 0.7},
	{what: "64 clients on one name, N=5: most to fewest turns", scenario: "crowd/N=5", figure: "most to fewest turns", bound: 1.1},
	{what: "64 clients on one name, N=5: wait p99, ms", scenario: "crowd/N=5", figure: "wait p99", bound: 150},

	{what: "10 clients on any of 3 names, N=3: turns to the most that there can be", scenario: "any/10 clients, 3 names", figure: "turns to the most that there can be", atLeast: true, bound: .95},
	{what: "10 clients on any of 3 names, N=3: most to fewest turns", scenario: "any/10 clients, 3 names", figure: "most to fewest turns", bound: 1.1},
	{what: "40 clients on any of 20 names, N=3: turns/s", scenario: "any/40 clients, 20 names", figure: "turns", atLeast: true, bound: 3000},

	{what: "10k held leases, N=5: client CPU, %", scenario: "held/N=5, 10000 leases", figure: "client CPU", bound: 1.6},
	{what: "10k held leases, N=5: memory a lease, B", scenario: "held/N=5, 10000 leases", figure: "memory a lease", bound: 600},
	{what: "10k held leases, N=5: more goroutines", scenario: "held/N=5, 10000 leases", figure: "more goroutines", bound: 0},
	{what: "100k held leases, N=1: client CPU, %", scenario: "held/N=1, 100000 leases", figure: "client CPU", bound: 6},
	{what: "100k held leases, N=1: memory a lease, B", scenario: "held/N=1, 100000 leases", figure: "memory a lease", bound: 450},

	{what: "0.5 ms away: acquire p50 to a round trip", scenario: "distance/500µs, acquire", figure: "acquire p50 to round trip", bound: 1.1},
	{what: "5 ms away: acquire p50 to a round trip", scenario: "distance/5ms, acquire", figure: "acquire p50 to round trip", bound: 1.1},
	{what: "0.5 ms away: hand-over p50 to a round trip, from when the servers have the release", scenario: "distance/500µs, hand-over", figure: "from when the servers have the release to round trip", bound: 1.6},
	{what: "5 ms away: hand-over p50 to a round trip, from when the servers have the release", scenario: "distance/5ms, hand-over", figure: "from when the servers have the release to round trip", bound: 1.6},
}

// A verdict is what became of a goal.
type verdict struct {
	What     string  `json:"what"`
	Want     string  `json:"want"`
	Measured float64 `json:"measured"`
	Reached  bool    `json:"reached"`
}

// judge compares what was measured with the goals. Those of scenarios that were not
// measured, or failed, are left out.
func judge(all []outcome) []verdict {
	var vs []verdict
	for _, g := range goals {
		for _, o := range all {
			if o.Name != g.scenario {
				continue
			}
			got, ok := o.figure(ours, g.figure)
			if other, measured := o.figure(g.to, g.figure); g.to != "" {
				ok = ok && measured && other > 0
				got /= other
			}
			if !ok {
				continue
			}
			v := verdict{What: g.what, Want: fmt.Sprintf("<= %v", g.bound), Measured: got, Reached: got <= g.bound}
			if g.atLeast {
				v.Want, v.Reached = fmt.Sprintf(">= %v", g.bound), got >= g.bound
			}
			if g.to != "" {
				v.Want += " x " + g.to
			}
			vs = append(vs, v)
		}
	}
	return vs
}
