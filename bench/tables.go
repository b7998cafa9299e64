package main

import (
	"fmt"
	"slices"
	"strings"
)

// markdown is results.md.
func (rs runs) markdown() string {
	var b strings.Builder
	b.WriteString("# Results of the bench\n\n")
	b.WriteString("Written by `make bench`. Each figure is the median of the repetitions; behind it, in brackets, its ratio to the floor in the same run.")
	if len(rs) > 1 {
		b.WriteString(" A range is from the lowest to the highest of these medians, and of these ratios, in the runs that have it.")
	}
	b.WriteString("\n\n" + rs.runTable())
	b.WriteString("\n## Goals\n\n" + rs.goalTable())
	b.WriteString("\n## Where others are ahead\n\n" + rs.behindTable())
	b.WriteString("\n## Scenarios\n")
	for _, name := range rs.scenarios() {
		fmt.Fprintf(&b, "\n### %s\n\n%s", name, rs.scenarioTable(name))
	}
	return b.String()
}

// runTable shows what was measured, and on what, a run in each column.
func (rs runs) runTable() string {
	rows := []struct {
		name string
		of   func(*report) string
	}{
		{"build", func(r *report) string { return r.Build }},
		{"begun", func(r *report) string { return r.Date }},
		{"took", func(r *report) string {
			if r.Quick {
				return r.Took + ", quick: each figure was measured once, and briefly"
			}
			return r.Took
		}},
		{"note", func(r *report) string { return r.Note }},
		{"left out", func(r *report) string { return strings.Join(r.LeftOut, "; ") }},
	}
	keys := map[string]bool{}
	for _, r := range rs {
		for _, list := range []map[string]string{r.Machine, r.Versions} {
			for key := range list {
				keys[key] = true
			}
		}
	}
	for _, key := range sortedKeys(keys) {
		rows = append(rows, struct {
			name string
			of   func(*report) string
		}{key, func(r *report) string { return r.Machine[key] + r.Versions[key] }})
	}
	var b strings.Builder
	b.WriteString("| |")
	for i := range rs {
		fmt.Fprintf(&b, " run %d |", i+1)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(rs)) + "\n")
	for _, row := range rows {
		line, said := "| "+row.name+" |", false
		for _, r := range rs {
			text := row.of(r)
			line, said = line+" "+text+" |", said || text != ""
		}
		if said {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// goalTable shows the best and the worst of all runs.
func (rs runs) goalTable() string {
	all := rs.spreads()
	if len(all) == 0 {
		return "No scenario with a goal was measured.\n"
	}
	reached := 0
	var b strings.Builder
	b.WriteString("| goal | wanted | best | worst | reached |\n|---|---|---|---|---|\n")
	for _, s := range all {
		word := fmt.Sprintf("in %d of %d", s.reached, len(s.measured))
		switch s.reached {
		case 0:
			word = "no"
		case len(s.measured):
			word = "yes"
			reached++
		}
		best, worst := s.best()
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", s.what, s.want, number(best), number(worst), word)
	}
	fmt.Fprintf(&b, "\n%d of %d reached in every run that has them.\n", reached, len(all))
	return b.String()
}

// behindTable shows where another library is ahead.
func (rs runs) behindTable() string {
	all := rs.losses()
	if len(all) == 0 {
		return "No library that was measured is ahead of leasehold in any of these figures.\n"
	}
	var b strings.Builder
	b.WriteString("| scenario | figure | leasehold | furthest ahead | times | libraries ahead |\n|---|---|---|---|---|---|\n")
	for _, l := range all {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d of %d |\n", l.scenario, strings.TrimSpace(l.figure+" "+l.unit),
			span(l.ours), l.winner, span(l.times), l.ahead, l.of)
	}
	return b.String()
}

// scenarioTable shows the libraries below each other, and their figures side by side.
func (rs runs) scenarioTable(name string) string {
	var all []outcome
	for _, r := range rs {
		if o, ok := r.outcome(name); ok {
			all = append(all, o)
		}
	}
	var libs, failed []string
	var columns []series
	for _, o := range all {
		for _, r := range o.Results {
			if !slices.Contains(libs, r.Library) {
				libs = append(libs, r.Library)
			}
			if r.Failed != "" {
				failed = append(failed, fmt.Sprintf("%s: %s", r.Library, strings.ReplaceAll(r.Failed, "\n", "; ")))
			}
			for _, s := range r.Figures {
				if !slices.ContainsFunc(columns, func(c series) bool { return c.Name == s.Name }) {
					columns = append(columns, s)
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString(all[len(all)-1].About)
	if len(all) < len(rs) {
		fmt.Fprintf(&b, " (In %d of %d runs.)", len(all), len(rs))
	}
	b.WriteString("\n\n| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(c.Name+" "+c.Unit))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, lib := range libs {
		fmt.Fprintf(&b, "| %s |", lib)
		for i, c := range columns {
			fmt.Fprintf(&b, " %s |", cell(all, lib, c.Name, i == 0))
		}
		b.WriteString("\n")
	}
	for _, text := range failed {
		fmt.Fprintf(&b, "\n%s\n", text)
	}
	return b.String()
}

// cell returns one figure of one library, with its ratio to the floor. The first one
// says if there is none because the library has failed.
func cell(all []outcome, lib, name string, first bool) string {
	var values, ratios []float64
	failed := false
	for _, o := range all {
		for _, r := range o.Results {
			if r.Library != lib {
				continue
			}
			failed = failed || r.Failed != ""
			if s, ok := r.figure(name); ok {
				values = append(values, s.Median)
				if s.Ratio != 0 && lib != floor {
					ratios = append(ratios, s.Ratio)
				}
			}
		}
	}
	switch {
	case len(ratios) > 0:
		return fmt.Sprintf("%s (%s)", span(values), span(ratios))
	case len(values) > 0:
		return span(values)
	case first && failed:
		return "failed"
	}
	return "-"
}

// span writes the range of values, or the one that it is written as.
func span(values []float64) string {
	least, most := number(slices.Min(values)), number(slices.Max(values))
	if least == most {
		return least
	}
	return least + " to " + most
}

// number writes a value with three significant digits, and no more than are there.
func number(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	case v >= .1 || v <= -.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
