package main

import (
	"cmp"
	"errors"
	"image/color"
	"maps"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// charts writes a chart of each kind of which there are figures.
func (r *report) charts(dir string) error {
	return errors.Join(
		r.bars(dir, "acquire.svg", "Acquire, p50, µs", "acquire p50", false, "acquire/N=1", "acquire/N=5"),
		r.bars(dir, "callers.svg", "Acquire and release, 256 callers, pairs/s", "pairs", false, "callers/N=1", "callers/N=5"),
		r.bars(dir, "cpu.svg", "Client CPU a pair, 256 callers, µs", "client CPU a pair", false, "callers/N=1", "callers/N=5"),
		r.bars(dir, "hand-over.svg", "Hand-over to another client, p50, ms", "hand-over p50", true, "hand-over/N=1", "hand-over/N=5"),
		r.bars(dir, "hung.svg", "One of five servers hangs: acquire, p50, µs", "acquire p50", true, "hung/1 of 5"),
		r.bars(dir, "hung-callers.svg", "Servers of five hang, 256 callers, pairs/s", "pairs", true,
			"hung/1 of 5, 256 callers", "hung/2 of 5, 256 callers"),
		r.bars(dir, "drain.svg", "64 clients drained at 1 ms each, ms", "drained after", true,
			"drain/N=1, each a client of its own", "drain/N=5, each a client of its own"),
		r.bars(dir, "crowd.svg", "64 clients on one name, p99 of the wait, ms", "wait p99", true, "crowd/N=1", "crowd/N=5"),
		r.lines(dir, "nodes.svg", "Acquire on more servers, p50, µs", "servers", "acquire p50", false, map[float64]string{
			1: "nodes/N=1", 3: "nodes/N=3", 5: "nodes/N=5", 7: "nodes/N=7", 9: "nodes/N=9"}),
		r.lines(dir, "load.svg", "More callers, N=5, pairs/s", "callers", "pairs", true, map[float64]string{
			1: "callers/N=5/callers=1", 4: "callers/N=5/callers=4", 16: "callers/N=5/callers=16",
			64: "callers/N=5/callers=64", 256: "callers/N=5/callers=256", 1024: "callers/N=5/callers=1024"}),
		r.lines(dir, "held.svg", "Held leases, N=5, client CPU, %", "leases", "client CPU", true, map[float64]string{
			1_000: "held/N=5, 1000 leases", 10_000: "held/N=5, 10000 leases", 100_000: "held/N=5, 100000 leases"}),
		r.lines(dir, "held-memory.svg", "Held leases, N=5, memory a lease, B", "leases", "memory a lease", true, map[float64]string{
			1_000: "held/N=5, 1000 leases", 10_000: "held/N=5, 10000 leases", 100_000: "held/N=5, 100000 leases"}),
	)
}

func (r *report) outcome(name string) (outcome, bool) {
	for _, o := range r.Outcomes {
		if o.Name == name {
			return o, true
		}
	}
	return outcome{}, false
}

// bars draws a horizontal bar for each library and scenario.
func (r *report) bars(dir, file, title, figure string, log bool, scenarios ...string) error {
	var libs []string // that have a bar, the first one lowest
	for _, l := range slices.Backward(libraries) {
		for _, name := range scenarios {
			if o, ok := r.outcome(name); ok {
				if v, ok := o.figure(l.name, figure); ok && v > 0 && !slices.Contains(libs, l.name) {
					libs = append(libs, l.name)
				}
			}
		}
	}
	if len(libs) == 0 {
		return nil
	}
	p := newPlot(title)
	p.NominalY(libs...)
	width := vg.Points(22) / vg.Length(len(scenarios))
	least := 0.0
	for i, name := range scenarios {
		o, ok := r.outcome(name)
		if !ok {
			continue
		}
		values := make(plotter.Values, len(libs))
		for j, lib := range libs {
			values[j], _ = o.figure(lib, figure)
			if v := values[j]; v > 0 && (least == 0 || v < least) {
				least = v
			}
		}
		b, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		b.Horizontal = true
		b.LineStyle.Width = 0
		b.Color = shade(i)
		b.Offset = width * (vg.Length(len(scenarios)-1)/2 - vg.Length(i))
		p.Add(b)
		if len(scenarios) > 1 {
			p.Legend.Add(name, b)
		}
	}
	p.X.Max *= 1.25 // room for the legend
	if log {
		p.X.Max *= 2
		p.X.Scale, p.X.Tick.Marker = clampedLog{}, plot.LogTicks{Prec: -1}
		p.X.Min = least / 2
	}
	return p.Save(vg.Points(640), vg.Points(110+28*float64(len(libs))), filepath.Join(dir, file))
}

// lines draws a line for each library, over scenarios that differ in one number.
func (r *report) lines(dir, file, title, axis, figure string, log bool, scenarios map[float64]string) error {
	p := newPlot(title)
	p.Legend.Left = true
	p.X.Label.Text = axis
	drawn := 0
	for _, l := range libraries {
		var points plotter.XYs
		for _, x := range sortedKeys(scenarios) {
			if o, ok := r.outcome(scenarios[x]); ok {
				if v, ok := o.figure(l.name, figure); ok && v > 0 {
					points = append(points, plotter.XY{X: x, Y: v})
				}
			}
		}
		if len(points) < 2 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, dots.Color, dots.Shape = shade(drawn), shade(drawn), plotutil.Shape(drawn)
		line.Width = vg.Points(1.5)
		p.Add(line, dots)
		p.Legend.Add(l.name, line, dots)
		drawn++
	}
	if drawn == 0 {
		return nil
	}
	p.Y.Max *= 1.25 // room for the legend
	if log {
		p.Y.Max *= 2
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	} else {
		p.Y.Min = 0
	}
	return p.Save(vg.Points(640), vg.Points(320), filepath.Join(dir, file))
}

// clampedLog is a logarithmic scale for bars, which begin at 0.
type clampedLog struct{ plot.LogScale }

func (s clampedLog) Normalize(least, most, v float64) float64 {
	return s.LogScale.Normalize(least, most, max(least, v))
}

func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.BackgroundColor = color.White
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	return p
}

// shade returns a colour that can be told from its neighbours, also by the
// colour-blind.
func shade(i int) color.Color {
	shades := []color.RGBA{
		{0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff},
	}
	return shades[i%len(shades)]
}
