package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// oneRun returns a run of one scenario with these medians of a figure.
func oneRun(scenario, name string, medians map[string]float64) *report {
	o := outcome{Name: scenario, About: "About."}
	for _, lib := range sortedKeys(medians) {
		r := result{Library: lib}
		r.add(figure{name, "x", medians[lib]})
		o.Results = append(o.Results, r)
	}
	o.compare()
	return &report{Outcomes: []outcome{o}}
}

// TestRanges has a figure and its ratio in two runs, and a scenario that only one has.
func TestRanges(t *testing.T) {
	rs := runs{
		oneRun("a", "acquire p50", map[string]float64{ours: 30, floor: 10}),
		oneRun("a", "acquire p50", map[string]float64{ours: 20, floor: 20, "etcd": 50}),
	}
	rs[1].Outcomes = append(rs[1].Outcomes, oneRun("b", "pairs", map[string]float64{ours: 5}).Outcomes...)
	for name, want := range map[string][]string{
		"a": {"About.\n", "| leasehold | 20 to 30 (1 to 3) |", "| floor | 10 to 20 |", "| etcd | 50 (2.50) |"},
		"b": {"About. (In 1 of 2 runs.)", "| leasehold | 5 |"},
	} {
		for _, text := range want {
			if table := rs.scenarioTable(name); !strings.Contains(table, text) {
				t.Errorf("%s: %q is missing in\n%s", name, text, table)
			}
		}
	}
}

// TestSpreads has a goal that one of two runs reaches, and one that was wanted
// differently in each.
func TestSpreads(t *testing.T) {
	rs := runs{
		{Verdicts: []verdict{{"low", "<= 2", 1, true}, {"high", ">= 2", 3, true}, {"new", "<= 1", 1, true}}},
		{Verdicts: []verdict{{"low", "<= 2", 3, false}, {"high", ">= 2", 2, true}, {"new", "<= 9", 7, true}}},
	}
	table := rs.goalTable()
	for _, want := range []string{
		"| low | <= 2 | 1 | 3 | in 1 of 2 |", "| high | >= 2 | 3 | 2 | yes |",
		"| new | <= 1 | 1 | 1 | yes |", "| new | <= 9 | 7 | 7 | yes |", "3 of 4 reached",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is missing in\n%s", want, table)
		}
	}
}

// TestLosses compares rows in which less is better, and in which more is. The floor is no rival,
// and who was never ahead is not told.
func TestLosses(t *testing.T) {
	less := runs{
		oneRun("a", "acquire p50", map[string]float64{ours: 30, floor: 1, "etcd": 20, "redislock": 60}),
		oneRun("a", "acquire p50", map[string]float64{ours: 30, floor: 1, "etcd": 40, "redislock": 60}),
	}
	more := runs{oneRun("a", "pairs, repeated names", map[string]float64{ours: 10, floor: 99, "etcd": 20, "redislock": 40})}
	for _, c := range []struct {
		rs      runs
		want    string
		winner  string
		times   []float64
		ahead   int
		winners int
	}{
		{rs: less, want: "| a | acquire p50 x | 30 | etcd | 0.75 to 1.50 | 1 of 2 |", winners: 1, winner: "etcd", times: []float64{1.5, .75}, ahead: 1},
		{rs: more, want: "| a | pairs, repeated names x | 10 | redislock | 4 | 2 of 2 |", winners: 1, winner: "redislock", times: []float64{4}, ahead: 2},
		{rs: runs{oneRun("a", "pairs", map[string]float64{ours: 10, floor: 99, "etcd": 10.04})}, want: "No library"},
		{rs: runs{oneRun("a", "pairs", map[string]float64{floor: 99, "etcd": 10})}, want: "No library"},
	} {
		all := c.rs.losses()
		if len(all) != c.winners {
			t.Fatalf("%d losses: want %d", len(all), c.winners)
		}
		for _, l := range all {
			if l.winner != c.winner || !slices.Equal(l.times, c.times) || l.ahead != c.ahead {
				t.Errorf("%+v: want %s, %v times, %d ahead", l, c.winner, c.times, c.ahead)
			}
		}
		if table := c.rs.behindTable(); !strings.Contains(table, c.want) {
			t.Errorf("%q is missing in\n%s", c.want, table)
		}
	}
}

// TestPages fails if a page does not show what is in results.json. `make bench-pages`
// writes them anew.
func TestPages(t *testing.T) {
	rs, err := readRuns([]string{"../docs/performance/results.json"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := rs.fill(string(text))
	if err != nil || page != string(text) {
		t.Errorf("performance.md is not what the runs say (%v): `make bench-pages`", err)
	}
	if n := strings.Count(page, "<!-- bench: "); n != 3 {
		t.Errorf("performance.md has %d tables of the bench: want 3", n)
	}
	text, err = os.ReadFile("../docs/performance/results.md")
	if err != nil || string(text) != rs.markdown() {
		t.Errorf("results.md is not what the runs say (%v): `make bench-pages`", err)
	}
	if _, err := rs.fill("<!-- bench: runs -->\n"); err == nil {
		t.Error("a marker without an end is taken")
	}
}

// TestReadmeFigures fails if a row of the README's table "Where others are faster" has other
// figures than the bench. That table is shorter and in other words, and is written by hand.
func TestReadmeFigures(t *testing.T) {
	rs, err := readRuns([]string{"../docs/performance/results.json"})
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Where others are faster\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, rows, is := strings.Cut(section, "|---|---|---|---|\n")
	if !found || !is {
		t.Fatal("the README has no such table")
	}
	all := rs.behindTable()
	compared := 0
	for row := range strings.Lines(rows) {
		_, figures, is := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		if !is {
			continue
		}
		compared++
		// performance.md has one more column: how many libraries are ahead.
		if !strings.Contains(all, "|"+strings.TrimSuffix(figures, "\n")) {
			t.Errorf("no row of performance.md has the figures of %s", row)
		}
	}
	if compared < 5 {
		t.Errorf("%d rows are compared", compared)
	}
}

// TestNames has new names never come twice, used ones come in turn, and all of them be
// of one length.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	a, b := newNames.source(), newNames.source()
	size := len(a())
	for range 1000 {
		for _, s := range []source{a, b} {
			name := s()
			if seen[name] {
				t.Fatalf("%q came twice", name)
			}
			seen[name] = true
		}
	}
	some := naming{used: 3}.source()
	x, y, z := some(), some(), some()
	if x == y || y == z || z == x || some() != x || some() != y {
		t.Error("three used names do not take turns")
	}
	if len(x) != size || seen[x] {
		t.Errorf("%q: want %d bytes, and none of the others'", x, size)
	}
	if n := testing.AllocsPerRun(10000, func() { a() }); n != 0 {
		t.Errorf("a new name costs %v allocations", n)
	}
}

// TestFloorVotes has each order of answers be decided once, as the quorum says.
func TestFloorVotes(t *testing.T) {
	const servers = 5
	for _, quorum := range []int32{1, 3, 5} {
		for answers := range 1 << servers {
			v := &floorVotes{quorum: quorum, veto: servers - quorum + 1, decided: make(chan error, servers)}
			yes := int32(0)
			for i := range servers {
				if answers>>i&1 == 1 {
					yes++
					v.count(nil)
				} else {
					v.count(errNotOurs)
				}
			}
			if len(v.decided) != 1 {
				t.Fatalf("quorum %d, answers %b: decided %d times", quorum, answers, len(v.decided))
			}
			if err := <-v.decided; (err == nil) != (yes >= quorum) {
				t.Fatalf("quorum %d, answers %b: %v", quorum, answers, err)
			}
		}
	}
}

// TestRates has the arithmetic of what a pair costs, and of who hung.
func TestRates(t *testing.T) {
	u := usage{client: 3000, servers: 5000, mallocs: 20}
	all := u.aPair(2, library{needs: redisKind})
	if len(all) != 3 || all[0].value != 10 || all[1].value != 1.5 || all[2].value != 2.5 {
		t.Errorf("a pair costs %v: want 10 allocations, 1.5 and 2.5 µs", all)
	}
	if named := usedName.figures(all); named[0].name != "allocations a pair, repeated names" {
		t.Errorf("it is called %q", named[0].name)
	}
	if all := u.aPair(2, library{needs: etcdKind}); len(all) != 2 {
		t.Errorf("%v: the servers' time of etcd is not known", all)
	}
	if share := growth([]float64{10, 7, 100}, []float64{30, 9, 110}); share != .5 {
		t.Errorf("the last has done %v of the first: want 0.5", share)
	}
	if none := growth([]float64{1, 1}, []float64{1, 1}); !math.IsNaN(none) {
		t.Errorf("of nothing: %v", none)
	}
}
