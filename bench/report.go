package main

import (
	"fmt"
	"os"
	"os/exec"
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
	Build    string            `json:"build"` // of leasehold and of the bench
	Note     string            `json:"note,omitempty"`
	Machine  map[string]string `json:"machine"`
	Versions map[string]string `json:"versions"`
	LeftOut  []string          `json:"left_out,omitempty"`
	Verdicts []verdict         `json:"goals"`
	Outcomes []outcome         `json:"scenarios"`
}

func newReport(quick bool, note string) *report {
	return &report{
		Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Quick: quick, Note: note,
		Build: build(), Machine: machine(), Versions: versions(),
	}
}

// build returns the commit that is measured, and whether something was changed since.
func build() string {
	said, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=7").Output()
	if err != nil {
		return "not known"
	}
	return strings.TrimSpace(string(said))
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

// systemLoad returns the average of the last minute, if the system tells it.
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
		program, err := k.program()
		if err != nil {
			continue
		}
		if said, err := exec.Command(program, "--version").Output(); err == nil {
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

func (r result) figure(name string) (series, bool) {
	for _, s := range r.Figures {
		if s.Name == name {
			return s, true
		}
	}
	return series{}, false
}

// summary is one line to watch: the first figure of every library.
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
