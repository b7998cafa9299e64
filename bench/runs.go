package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// runs are what the bench has found at different times, or on different machines. The
// charts are of the first one; the tables show the range of all.
type runs []*report

// file is results.json.
type file struct {
	Runs runs `json:"runs"`
}

// readRuns returns the runs of all these files, in their order.
func readRuns(paths []string) (runs, error) {
	var all runs
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var f file
		if err := json.Unmarshal(text, &f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(f.Runs) == 0 {
			return nil, fmt.Errorf("%s: there are no runs in it", path)
		}
		all = append(all, f.Runs...)
	}
	return all, nil
}

// write writes results.md, results.json and the charts to the directory.
func (rs runs) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(file{rs}, "", "\t")
	return errors.Join(
		err,
		os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "results.md"), []byte(rs.markdown()), 0o644),
		rs[0].charts(dir),
	)
}

// fill replaces what stands in a page between the markers of a table by that table.
func (rs runs) fill(page string) (string, error) {
	for name, table := range map[string]func() string{
		"runs": rs.runTable, "goals": rs.goalTable, "behind": rs.behindTable,
	} {
		begin, end := "<!-- bench: "+name+" -->\n", "<!-- end of "+name+" -->"
		before, rest, ok := strings.Cut(page, begin)
		if !ok {
			continue
		}
		_, after, ok := strings.Cut(rest, end)
		if !ok {
			return "", fmt.Errorf("there is no %q", end)
		}
		page = before + begin + "\n" + table() + "\n" + end + after
	}
	return page, nil
}

// fillPages does so with files.
func (rs runs) fillPages(paths []string) error {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		page, err := rs.fill(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// A spread is one goal in all runs that have it.
type spread struct {
	what, want string
	measured   []float64
	reached    int
}

// spreads returns the goals of all runs. One that was wanted differently before is one
// of its own.
func (rs runs) spreads() []spread {
	var all []spread
	for _, r := range rs {
		for _, v := range r.Verdicts {
			at := slices.IndexFunc(all, func(s spread) bool { return s.what == v.What && s.want == v.Want })
			if at < 0 {
				at = len(all)
				all = append(all, spread{what: v.What, want: v.Want})
			}
			all[at].measured = append(all[at].measured, v.Measured)
			if v.Reached {
				all[at].reached++
			}
		}
	}
	return all
}

// best returns the best and the worst of what was measured.
func (s spread) best() (best, worst float64) {
	best, worst = slices.Min(s.measured), slices.Max(s.measured)
	if strings.HasPrefix(s.want, ">=") {
		best, worst = worst, best
	}
	return best, worst
}

// A contest is a figure in which libraries are compared.
type contest struct {
	figure string
	more   bool // is better
}

var contests = []contest{
	{"acquire p50", false},
	{"pairs", true},
	{"pairs in the first second after", true},
	{"hand-over p50", false},
	{"drained after", false},
	{"turns", true},
	{"wait p99", false},
	{"client CPU", false},
	{"memory a lease", false},
}

// repeated returns the contests with repeated names as well.
func repeated(all []contest) []contest {
	var more []contest
	for _, c := range all {
		more = append(more, c, contest{c.figure + usedNames.suffix, c.more})
	}
	return more
}

// A loss is a figure of a scenario in which another library was ahead of leasehold at
// least once.
type loss struct {
	scenario, figure, unit string
	ours                   []float64
	winner                 string    // the library that was furthest ahead, in the median
	times                  []float64 // how many times that one is better, in each run that has both
	ahead, of              int       // how many libraries were ahead at least once
}

// losses returns all of them, in the order of the report.
func (rs runs) losses() []loss {
	var all []loss
	for _, name := range rs.scenarios() {
		for _, c := range repeated(contests) {
			if l := rs.loss(name, c); l.ahead > 0 {
				all = append(all, l)
			}
		}
	}
	return all
}

// loss compares one figure of a scenario. The floor and what is no lock are no rivals.
func (rs runs) loss(scenario string, c contest) loss {
	l := loss{scenario: scenario, figure: c.figure}
	times := map[string][]float64{}
	for _, r := range rs {
		o, ok := r.outcome(scenario)
		if !ok {
			continue
		}
		mine, ok := o.figure(ours, c.figure)
		if !ok || mine <= 0 {
			continue
		}
		l.ours, l.unit = append(l.ours, mine), o.unit(c.figure)
		for _, lib := range libraries {
			theirs, ok := o.figure(lib.name, c.figure)
			if lib.name == ours || lib.name == floor || !ok || theirs <= 0 {
				continue
			}
			ratio := mine / theirs
			if c.more {
				ratio = theirs / mine
			}
			times[lib.name] = append(times[lib.name], ratio)
		}
	}
	for _, lib := range sortedKeys(times) {
		l.of++
		if slices.Max(times[lib]) < 1.005 { // which would be written as 1.00
			continue
		}
		l.ahead++
		if l.winner == "" || median(times[lib]) > median(l.times) {
			l.winner, l.times = lib, times[lib]
		}
	}
	return l
}

// scenarios returns their names, in the order of the report.
func (rs runs) scenarios() []string {
	var all []string
	for _, r := range rs {
		for _, o := range r.Outcomes {
			if !slices.Contains(all, o.Name) {
				all = append(all, o.Name)
			}
		}
	}
	return all
}
