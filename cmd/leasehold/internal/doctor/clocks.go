package doctor

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/server"
)

// every is the pause between two questions to one server: some hundred in a few seconds.
const every = 10 * time.Millisecond

// A sample is one answer to TIME.
type sample struct {
	at     time.Duration // when it was asked, since the first
	took   time.Duration
	offset time.Duration // the server's clock less ours, by the middle of the round trip
}

// measure asks a server its time for a while.
func (d *doctor) measure(ctx context.Context, p *patient) {
	if p.conn == nil {
		return
	}
	var samples []sample
	pause := time.NewTimer(0)
	defer pause.Stop()
	begun := time.Now()
	for time.Since(begun) < d.cfg.For {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		asked := time.Now()
		answers, err := p.conn.Do(ctx, []string{"TIME"})
		took := time.Since(asked)
		if err == nil {
			err = answers[0].Err()
		}
		if err != nil {
			if !server.Begins(err, "NOPERM") {
				d.unreachable(p, err)
			}
			return
		}
		told, err := answers[0].Time()
		if err != nil {
			d.unreachable(p, err)
			return
		}
		ours := time.Duration(asked.UnixNano()) + took/2
		samples = append(samples, sample{asked.Sub(begun), took, told - ours})
		pause.Reset(max(0, every-took))
	}
	p.facts.take(samples)
	d.judgeRoundTrips(p)
}

// take computes the figures from the samples.
func (f *Server) take(samples []sample) {
	if len(samples) == 0 {
		return
	}
	took := make([]time.Duration, len(samples))
	for i, s := range samples {
		took[i] = s.took
	}
	slices.Sort(took)
	f.RoundTrips = len(took)
	f.P50, f.P99 = say.Span(took[len(took)/2]), say.Span(took[(len(took)-1)*99/100])
	best := quickest(samples)
	f.Offset, f.Within = say.Span(best.offset), say.Span(best.took/2)
	// The rate is computed from the fastest answers of the first third and the last: the others are
	// less exact.
	early, late := quickest(samples[:(len(samples)+2)/3]), quickest(samples[len(samples)*2/3:])
	if between := late.at - early.at; between > 0 {
		f.Rate = float64(late.offset-early.offset) / float64(between)
		f.RateWithin = float64(early.took+late.took) / 2 / float64(between)
	}
}

func quickest(samples []sample) sample {
	return slices.MinFunc(samples, func(a, b sample) int { return int(a.took - b.took) })
}

// judgeRoundTrips compares the round trips with the times of the configuration.
func (d *doctor) judgeRoundTrips(p *patient) {
	f := &p.facts
	if f.RoundTrips == 0 {
		return
	}
	p50, p99 := time.Duration(f.P50), time.Duration(f.P99)
	advice := "choose a TTL of at least " + say.Span(fitting(p99)).String() + ", or servers that are nearer"
	switch patience := d.ttl / 4; {
	case p50 >= patience:
		d.found(p, RoundTrip, Broken, advice, "half of the round trips take %v or more, and leasehold waits at most TTL/4 = %v for one", f.P50, patience)
	case 2*p99 > patience:
		d.found(p, RoundTrip, Warning, advice, "one round trip of a hundred takes %v or more, and leasehold waits at most TTL/4 = %v for one: that leaves little room", f.P99, patience)
	case p99 > d.timeout:
		d.found(p, RoundTrip, Warning, "choose a NodeTimeout above "+say.Span(2*p99).String()+", or a TTL of which that is a twentieth",
			"one round trip of a hundred takes %v or more, above NodeTimeout = %v: the first slow answer after a while is missed each time", f.P99, d.timeout)
	}
}

// fitting returns a TTL such that a round trip fits twice into a quarter of it, rounded up to a
// plain number.
func fitting(roundTrip time.Duration) time.Duration {
	ttl := 8 * roundTrip
	for _, nice := range []time.Duration{1, 2, 5, 10, 15, 20, 30, 60, 120, 300} {
		if ttl <= nice*time.Second {
			return nice * time.Second
		}
	}
	return ttl
}

// apart is how far clocks must differ before doctor says so, as the library does.
const apart = 3 * time.Second

// compareClocks judges offsets and rates.
func (d *doctor) compareClocks() {
	var offsets []time.Duration
	for _, p := range d.patients {
		if p.facts.RoundTrips > 0 {
			offsets = append(offsets, time.Duration(p.facts.Offset))
		}
	}
	if len(offsets) == 0 {
		return
	}
	slices.Sort(offsets)
	median := offsets[(len(offsets)-1)/2]
	if median.Abs() > apart {
		d.found(nil, ClockOffset, Note, "set this host's clock by NTP; leases do not depend on it", "the nodes' clocks are %v ahead of this host's", say.Span(median))
	}
	drift := d.cfg.Supervisor.Drift
	if drift == 0 {
		drift = d.ttl/100 + 2*time.Millisecond
	}
	most := float64(drift) / float64(d.ttl)
	for _, p := range d.patients {
		f := &p.facts
		if f.RoundTrips == 0 {
			continue
		}
		if off := time.Duration(f.Offset) - median; off.Abs() > apart {
			d.found(p, ClockOffset, Warning, "set the nodes' clocks by NTP", "its clock is %v ahead of that of most nodes: if nodes lose their data, fences may go back by as much", say.Span(off))
		}
		switch sure := math.Abs(f.Rate) - f.RateWithin; {
		case sure > most:
			d.found(p, ClockRate, Broken, "look at NTP there and here: the clock must neither jump nor run away", "its clock runs %.2f %% faster than this host's, and the drift covers %.2f %%: a lease may be over sooner than its holder knows", 100*f.Rate, 100*most)
		case sure > 0.001:
			d.found(p, ClockRate, Warning, "look at NTP there and here", "its clock runs %.2f %% faster than this host's", 100*f.Rate)
		}
	}
}

var errNotMeasured = errors.New("no round trip was measured")

// advise says which times would fit.
func (d *doctor) advise() {
	worst, err := d.worst()
	if err != nil {
		return
	}
	ttl := fitting(worst)
	if ttl < d.ttl {
		ttl = d.ttl
	}
	advice := "TTL " + d.ttl.String() + " fits: a round trip of " + say.Span(worst).String() + ", the slowest of a hundred, may take up to TTL/4"
	if ttl > d.ttl {
		advice = "TTL: at least " + say.Span(ttl).String() + ", as one round trip of a hundred takes " + say.Span(worst).String()
	}
	d.report.Advice = append(d.report.Advice, advice)
	if worst <= d.timeout {
		d.report.Advice = append(d.report.Advice, "NodeTimeout "+d.timeout.String()+" fits")
	} else {
		d.report.Advice = append(d.report.Advice, "NodeTimeout: at least "+say.Span(2*worst).String())
	}
	longest := d.ttl
	for _, p := range d.patients {
		longest = max(longest, time.Duration(p.facts.MaxTTL))
	}
	if d.cap > longest {
		d.report.Advice = append(d.report.Advice, "MaxTTLCap: "+longest.String()+" would do if no client has a longer TTL; with "+d.cap.String()+" a first start waits so long")
	}
}

// worst returns the largest of the nodes' p99.
func (d *doctor) worst() (time.Duration, error) {
	var worst say.Span
	for _, p := range d.patients {
		worst = max(worst, p.facts.P99)
	}
	if worst == 0 {
		return 0, errNotMeasured
	}
	return time.Duration(worst), nil
}
