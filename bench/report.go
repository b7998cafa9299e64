package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// A report is everything that one run has found.
type report struct {
	Date     string            `json:"date"`
	Took     string            `json:"took"`
	Quick    bool              `json:"quick"`
	Machine  map[string]string `json:"machine"`
	Versions map[string]string `json:"versions"`
	LeftOut  []string          `json:"left_out,omitempty"`
	Verdicts []verdict         `json:"goals"`
	Outcomes []outcome         `json:"scenarios"`
}

func newReport(quick bool) *report {
	return &report{Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Quick: quick, Machine: machine(), Versions: versions()}
}

func machine() map[string]string {
	m := map[string]string{
		"system": runtime.GOOS + "/" + runtime.GOARCH,
		"cores":  fmt.Sprint(runtime.NumCPU()),
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m["processor"] = strings.TrimSpace(value)
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m["kernel"] = strings.TrimSpace(string(text))
	}
	m["load before the run"] = systemLoad()
	return m
}

// systemLoad returns the average of the last minute, where the system tells it.
func systemLoad() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "not known"
	}
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

func versions() map[string]string {
	v := map[string]string{"go": runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/redis/rueidis", "github.com/redis/go-redis/v9", "github.com/go-redsync/redsync/v4",
				"github.com/bsm/redislock", "go.etcd.io/etcd/client/v3":
				v[m.Path] = m.Version
			}
		}
	}
	for _, k := range []kind{redisKind, etcdKind} {
		if said, err := exec.Command(k.String(), "--version").Output(); err == nil {
			v[k.String()], _, _ = strings.Cut(strings.TrimSpace(string(said)), "\n")
		}
	}
	return v
}

// finish adds what can only be said at the end.
func (r *report) finish(took time.Duration) {
	r.Took = took.Round(time.Second).String()
	r.Machine["load at the end, of this too"] = systemLoad()
	r.Verdicts = judge(r.Outcomes)
}

// write writes results.md, results.json and the charts to the directory.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	return errors.Join(
		err,
		os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "results.md"), []byte(r.markdown()), 0o644),
		r.charts(dir),
	)
}

func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("# Results of the bench\n\n")
	b.WriteString("Written by `make bench`. Each figure is the median of the repetitions; behind it, in brackets, its ratio to the floor in the same run.\n\n")
	fmt.Fprintf(&b, "- %s, in %s", r.Date, r.Took)
	if r.Quick {
		b.WriteString(", quick: each figure was measured once, and briefly")
	}
	b.WriteString("\n")
	for _, list := range []map[string]string{r.Machine, r.Versions} {
		for _, key := range sortedKeys(list) {
			fmt.Fprintf(&b, "- %s: %s\n", key, list[key])
		}
	}
	for _, what := range r.LeftOut {
		fmt.Fprintf(&b, "- left out: %s\n", what)
	}
	b.WriteString("\n## Goals\n\n")
	b.WriteString(r.goalTable())
	b.WriteString("\n## Scenarios\n")
	for _, o := range r.Outcomes {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n%s", o.Name, o.About, o.table())
	}
	return b.String()
}

func (r *report) goalTable() string {
	if len(r.Verdicts) == 0 {
		return "No scenario with a goal was measured.\n"
	}
	reached := 0
	var b strings.Builder
	b.WriteString("| goal | wanted | measured | reached |\n|---|---|---|---|\n")
	for _, v := range r.Verdicts {
		word := "no"
		if v.Reached {
			word = "yes"
			reached++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.What, v.Want, number(v.Measured), word)
	}
	fmt.Fprintf(&b, "\n%d of %d reached.\n", reached, len(r.Verdicts))
	return b.String()
}

// table shows the libraries below each other, and their figures side by side.
func (o outcome) table() string {
	var columns []series
	for _, r := range o.Results {
		if len(r.Figures) > len(columns) {
			columns = r.Figures
		}
	}
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", strings.TrimSpace(c.Name+" "+c.Unit))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, r := range o.Results {
		fmt.Fprintf(&b, "| %s |", r.Library)
		for i, c := range columns {
			switch v, ok := r.figure(c.Name); {
			case ok && v.Ratio != 0 && r.Library != floor:
				fmt.Fprintf(&b, " %s (%s) |", number(v.Median), number(v.Ratio))
			case ok:
				fmt.Fprintf(&b, " %s |", number(v.Median))
			case i == 0 && r.Failed != "":
				fmt.Fprintf(&b, " failed |")
			default:
				b.WriteString(" - |")
			}
		}
		b.WriteString("\n")
	}
	for _, r := range o.Results {
		if r.Failed != "" {
			fmt.Fprintf(&b, "\n%s: %s\n", r.Library, strings.ReplaceAll(r.Failed, "\n", "; "))
		}
	}
	return b.String()
}

func (r result) figure(name string) (series, bool) {
	for _, s := range r.Figures {
		if s.Name == name {
			return s, true
		}
	}
	return series{}, false
}

// summary is one line for who watches: the first figure of every library.
func (o outcome) summary() string {
	var parts []string
	for _, r := range o.Results {
		switch {
		case len(r.Figures) > 0:
			parts = append(parts, r.Library+" "+number(r.Figures[0].Median))
		case r.Failed != "":
			parts = append(parts, r.Library+" failed")
		}
	}
	what := ""
	for _, r := range o.Results {
		if len(r.Figures) > 0 {
			what = strings.TrimSpace(r.Figures[0].Name+" "+r.Figures[0].Unit) + ": "
			break
		}
	}
	return fmt.Sprintf("%-34s %s%s", o.Name, what, strings.Join(parts, ", "))
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
