package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReport has a goal reached, one missed and one that was not measured, a
// library that failed, a figure that is no number, and every chart.
func TestReport(t *testing.T) {
	r := newReport(true, "a note")
	for _, s := range (plan{}).scenarios() {
		o := outcome{Name: s.name, About: s.about, Results: make([]result, 3)}
		for i, lib := range []string{ours, floor, "etcd"} {
			o.Results[i].Library = lib
		}
		for _, g := range goals {
			if g.scenario == s.name {
				o.Results[0].add(figure{g.figure, "x", g.bound})
				o.Results[1].add(figure{g.figure, "x", 1})
			}
		}
		for _, name := range []string{"acquire p50", "pairs", "client CPU", "memory a lease", "wait p99"} {
			o.Results[1].add(figure{name, "x", 2})
			o.Results[1].add(figure{name, "x", math.Inf(1)})
		}
		o.Results[2].Failed = "why\nnot"
		o.compare()
		r.Outcomes = append(r.Outcomes, o)
	}
	r.Outcomes = r.Outcomes[:len(r.Outcomes)-1]
	r.Outcomes[0].Results[0].Figures[0].Values[0] = 1e9
	r.finish(0)
	dir := t.TempDir()
	if err := (runs{r}).write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| no |", "| yes |", "etcd: why; not", "| failed |", "| note | a note |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("results.md does not say %q", want)
		}
	}
	path := filepath.Join(dir, "results.json")
	again, err := readRuns([]string{path, path})
	if err != nil || len(again) != 2 || len(again[1].Verdicts) != len(r.Verdicts) {
		t.Errorf("results.json, read twice, has %d runs (%v): want 2 with the goals", len(again), err)
	}
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	charts, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(charts) == 0 {
		t.Fatalf("no charts: %v", err)
	}
	for _, chart := range charts {
		if !strings.Contains(string(page), "performance/"+filepath.Base(chart)) {
			t.Errorf("docs/performance.md does not show %s", filepath.Base(chart))
		}
	}
	if shown := strings.Count(string(page), ".svg)"); shown != len(charts) {
		t.Errorf("docs/performance.md shows %d charts: want %d", shown, len(charts))
	}
}

// TestGoals fails if a goal is about a scenario that does not exist.
func TestGoals(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range (plan{}).scenarios() {
		if exists[s.name] {
			t.Errorf("there are two scenarios %q", s.name)
		}
		exists[s.name] = true
	}
	for _, g := range goals {
		if !exists[g.scenario] {
			t.Errorf("goal %q: there is no scenario %q", g.what, g.scenario)
		}
	}
}
