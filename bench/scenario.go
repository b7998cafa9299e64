package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// A figure is one measured value.
type figure struct {
	name, unit string
	value      float64
}

// A scenario is measured for some libraries, several times over.
type scenario struct {
	name    string
	about   string // what is done, in a sentence
	nodes   int
	libs    []library
	repeat  int
	away    time.Duration // each way, between clients and servers
	crowded bool          // with many clients
	fresh   bool          // new servers for each measurement
	bound   time.Duration // of one measurement; default 20 s
	extra   bool          // not part of a quick run
	slow    bool          // the peers are not part of a quick run

	// measure makes one measurement. It opens and closes the lockers itself, and
	// nothing that it has started goes on after it.
	measure func(ctx context.Context, f *fleet, lib library) ([]figure, error)
}

// A result is what one library did in one scenario.
type result struct {
	Library string   `json:"library"`
	Figures []series `json:"figures"`
	Failed  string   `json:"failed,omitempty"` // why there are no figures, or not all
}

// A series is one figure of all repetitions.
type series struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Ratio  float64   `json:"ratio_to_floor,omitempty"` // of the medians; 0 if there is none
}

// An outcome is a scenario with its results.
type outcome struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Results []result `json:"results"`
}

// run measures every library in turn, repeat times, in an order that rotates: what
// disturbs the machine for a while does not hit one library alone.
func (s scenario) run(ctx context.Context, progress func(rep int, lib string)) (outcome, error) {
	libs := on(s.nodes, s.libs)
	out := outcome{Name: s.name, About: s.about, Results: make([]result, len(libs))}
	f, err := s.start()
	if err != nil {
		return out, err
	}
	defer func() { f.close() }()
	renew := false // the servers, before the next measurement
	for rep := range s.repeat {
		for i := range libs {
			at := (i + rep) % len(libs)
			lib, r := libs[at], &out.Results[at]
			r.Library = lib.name
			if r.Failed != "" {
				continue
			}
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			progress(rep, lib.name)
			if renew {
				f.close()
				if f, err = s.start(); err != nil {
					return out, err
				}
			}
			figures, err := s.once(ctx, f, lib)
			if err != nil {
				r.Failed = err.Error()
			}
			renew = s.fresh || errors.Is(err, errStuck)
			for _, one := range figures {
				r.add(one)
			}
		}
	}
	out.compare()
	return out, nil
}

func (s scenario) start() (*fleet, error) {
	f, err := startFleet(s.nodes)
	if err != nil {
		return f, err
	}
	f.crowded = s.crowded
	if s.away > 0 {
		err = f.away(s.away)
	}
	return f, err
}

// errStuck is of a library whose calls outlast their context by far.
var errStuck = errors.New("stuck: given up")

// once makes one measurement. One that does not end is left behind.
func (s scenario) once(ctx context.Context, f *fleet, lib library) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	type measured struct {
		figures []figure
		err     error
	}
	done := make(chan measured, 1)
	go func() {
		figures, err := s.measure(ctx, f, lib)
		done <- measured{figures, err}
	}()
	select {
	case m := <-done:
		if m.err != nil && ctx.Err() != nil {
			m.err = fmt.Errorf("not done within %v: %w", s.bound, m.err)
		}
		return m.figures, m.err
	case <-time.After(s.bound + 10*time.Second):
		return nil, errStuck
	}
}

// add adds a figure. One that is no number, because it was compared with nothing,
// is left out.
func (r *result) add(one figure) {
	if math.IsNaN(one.value) || math.IsInf(one.value, 0) {
		return
	}
	for i := range r.Figures {
		if r.Figures[i].Name == one.name {
			r.Figures[i].Values = append(r.Figures[i].Values, one.value)
			return
		}
	}
	r.Figures = append(r.Figures, series{Name: one.name, Unit: one.unit, Values: []float64{one.value}})
}

// figure returns the median of one figure of one library.
func (o outcome) figure(lib, name string) (float64, bool) {
	for _, r := range o.Results {
		if r.Library != lib {
			continue
		}
		for _, s := range r.Figures {
			if s.Name == name {
				return median(s.Values), true
			}
		}
	}
	return 0, false
}

// unit returns the unit of a figure.
func (o outcome) unit(name string) string {
	for _, r := range o.Results {
		if s, ok := r.figure(name); ok {
			return s.Unit
		}
	}
	return ""
}

// compare fills in the medians, and their ratios to those of the floor.
func (o outcome) compare() {
	for _, r := range o.Results {
		for i := range r.Figures {
			s := &r.Figures[i]
			s.Median = median(s.Values)
			if bare, ok := o.figure(floor, s.Name); ok && bare != 0 {
				s.Ratio = s.Median / bare
			}
		}
	}
}

// A plan says how much is measured.
type plan struct {
	quick  bool
	longer int // times as long; 0 is 1
}

// times returns how often something is measured.
func (p plan) times(n int) int {
	if p.quick {
		return 1
	}
	return n
}

// long returns for how long something is measured.
func (p plan) long(d time.Duration) time.Duration {
	if p.quick {
		d /= 2
	}
	return d * time.Duration(max(1, p.longer))
}

// scenarios returns all of them, in the order of the report.
func (p plan) scenarios() []scenario {
	var all []scenario
	for _, group := range [][]scenario{
		p.acquire(), p.callers(), p.once(), p.hung(), p.handover(), p.crowd(), p.anyOf(), p.held(), p.distance(),
	} {
		for _, s := range group {
			if p.quick && s.extra {
				continue
			}
			if p.quick && s.slow {
				s.libs = slices.DeleteFunc(slices.Clone(s.libs), func(l library) bool { return l.name != ours && l.name != floor })
			}
			if s.bound == 0 {
				s.bound = 20 * time.Second
			}
			s.bound *= time.Duration(max(1, p.longer))
			all = append(all, s)
		}
	}
	return all
}

// with opens a locker for as long as do runs.
func with(f *fleet, lib library, do func(locker) error) error {
	l, err := lib.open(f)
	if err != nil {
		return err
	}
	defer l.close()
	return do(l)
}

// names returns n names that no other call returns.
func names(n int) []string {
	namesMade++
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("bench-%d-%d", namesMade, i)
	}
	return all
}

var namesMade int

// A source gives the names that one goroutine uses, one after the other.
type source func() string

// A naming says which names are used: most users have a new one for each pair, and some
// have a few again and again.
type naming struct {
	suffix string // of the figures
	used   int    // how many names take turns; 0 for a new one each time
}

var (
	newNames = naming{}
	// A server that is not waited for may be behind: names take turns.
	usedNames = naming{", repeated names", 64}
	usedName  = naming{", repeated names", 1}
)

// source returns a source of names that no other one gives. A name has no allocation of
// its own, and all names have the same length.
func (n naming) source() source {
	const block = 256
	prefix, made, left := names(1)[0], int64(1e9), ""
	fresh := func() string {
		if left == "" {
			b := make([]byte, 0, block*(len(prefix)+10))
			for range block {
				b = strconv.AppendInt(append(b, prefix...), made, 10)
				made++
			}
			left = string(b)
		}
		name := left[:len(prefix)+10]
		left = left[len(name):]
		return name
	}
	if n.used == 0 {
		return fresh
	}
	all := make([]string, n.used)
	for i := range all {
		all[i] = fresh()
	}
	at := 0
	return func() string {
		name := all[at]
		at = (at + 1) % len(all)
		return name
	}
}

// warm makes some pairs that are not measured.
func warm(ctx context.Context, l locker, pairs int) error {
	return warmWith(ctx, l, newNames.source(), pairs)
}

// warmWith does so with names that are measured afterwards: they are not new then.
func warmWith(ctx context.Context, l locker, names source, pairs int) error {
	for range pairs {
		h, err := l.acquire(ctx, names())
		if err != nil {
			return err
		}
		if err := h.release(ctx); err != nil {
			return err
		}
	}
	return nil
}
