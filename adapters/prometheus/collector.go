package leaseprom

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config configures a [Collector]. A zero field takes its default.
type Config struct {
	// MaxNames is how many names of leases get a label of their own; all others share the label
	// "other". With names leasehold_held is counted at each scrape by a walk over all leases that are
	// held. Default 0: there is no label of that name.
	MaxNames int

	// WaitBuckets are the upper bounds of leasehold_acquire_wait_seconds, in seconds, growing. Default
	// 250 µs to 5 min.
	WaitBuckets []float64

	// HoldBuckets are the upper bounds of leasehold_hold_seconds, in seconds, growing. Default 10 ms to
	// 1 day.
	HoldBuckets []float64
}

// A Collector is a prometheus.Collector of the metrics of one supervisor. Make it with
// [NewCollector]. Its methods may be called from any goroutine.
//
// For several supervisors in one process register each collector with labels of its own, by
// prometheus.WrapRegistererWith.
type Collector struct {
	wait *prometheus.HistogramVec
	hold *prometheus.HistogramVec
	lost *prometheus.CounterVec

	names  *names // nil without a label name
	prefix atomic.Pointer[string]
	sup    atomic.Pointer[supervisor.Supervisor]
	busy   busyRatio
}

// other is the label of names beyond Config.MaxNames, and of what has no word of its own.
const other = "other"

var (
	waitBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	holdBuckets = []float64{.01, .1, 1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600}
)

// NewCollector makes a collector. It panics if buckets do not grow, or MaxNames is negative.
func NewCollector(cfg Config) *Collector {
	if cfg.MaxNames < 0 {
		panic("leaseprom: MaxNames " + strconv.Itoa(cfg.MaxNames) + ": want 0 or more")
	}
	if cfg.WaitBuckets == nil {
		cfg.WaitBuckets = waitBuckets
	}
	if cfg.HoldBuckets == nil {
		cfg.HoldBuckets = holdBuckets
	}
	c := &Collector{}
	var name []string
	if cfg.MaxNames > 0 {
		c.names = &names{most: cfg.MaxNames, known: make(map[string]string)}
		name = []string{"name"}
	}
	c.wait = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "leasehold_acquire_wait_seconds", Buckets: cfg.WaitBuckets,
		Help: "How long calls waited for a lease, the election included, by how that ended.",
	}, append([]string{"outcome"}, name...))
	c.hold = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "leasehold_hold_seconds", Buckets: cfg.HoldBuckets,
		Help: "How long leases were held, of those that are over.",
	}, name)
	c.lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "leasehold_lost_total",
		Help: "Leases that ended without their holder asking, by why.",
	}, append([]string{"reason"}, name...))
	if c.names == nil {
		c.wait.WithLabelValues("acquired")
		c.begin()
	}
	return c
}

// begin has the series of a name, or those of all names, be there with 0, so that the first loss is
// a growth.
func (c *Collector) begin(name ...string) {
	c.hold.WithLabelValues(name...)
	for _, r := range reasons {
		c.lost.WithLabelValues(append([]string{r.word}, name...)...)
	}
	c.lost.WithLabelValues(append([]string{other}, name...)...)
}

// Instrument returns a configuration whose supervisor tells the collector what happens, and then
// the Observer that was there before. One collector is for one supervisor.
func (c *Collector) Instrument(cfg supervisor.Config) supervisor.Config {
	next := cfg.Observer
	if f, is := next.(supervisor.ObserverFunc); is && f == nil {
		return cfg // which New refuses
	}
	c.prefix.Store(&cfg.Prefix)
	cfg.Observer = supervisor.ObserverFunc(func(e supervisor.Event) {
		c.observe(e)
		if next != nil {
			next.Observe(e)
		}
	})
	return cfg
}

// Attach has the collector read what a supervisor knows, whenever it is scraped: all that is not
// made of events. Give it the supervisor that was made with the configuration of Instrument. It
// may stay attached after Close.
func (c *Collector) Attach(sup *supervisor.Supervisor) { c.sup.Store(sup) }

// observe takes an event into the histograms and the counter.
func (c *Collector) observe(e supervisor.Event) {
	switch e.Kind {
	case supervisor.EventAcquired:
		labels := c.labels("acquired", e.Name)
		c.wait.WithLabelValues(labels...).Observe(e.Waited.Seconds())
		if c.names != nil {
			c.begin(labels[1:]...)
		}
	case supervisor.EventFailed:
		c.wait.WithLabelValues(c.labels(wordOf(e.Err, outcomes), e.Name)...).Observe(e.Waited.Seconds())
	case supervisor.EventReleased, supervisor.EventLost:
		if e.Kind == supervisor.EventLost {
			c.lost.WithLabelValues(c.labels(wordOf(e.Err, reasons), e.Name)...).Inc()
		}
		if c.names == nil {
			c.hold.WithLabelValues().Observe(e.Elapsed.Seconds())
		} else {
			c.hold.WithLabelValues(c.label(e.Name)).Observe(e.Elapsed.Seconds())
		}
	}
}

// labels returns a word, and the label of a name if there is such a label.
func (c *Collector) labels(word, key string) []string {
	if c.names == nil {
		return []string{word}
	}
	return []string{word, c.label(key)}
}

// label returns the label of the name that a key is of.
func (c *Collector) label(key string) string {
	if p := c.prefix.Load(); p != nil {
		key = strings.TrimPrefix(key, *p)
	}
	return c.names.label(key)
}

// names are those that have a label of their own.
type names struct {
	most  int
	mu    sync.Mutex
	known map[string]string // their labels
}

func (n *names) label(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	label, is := n.known[name]
	switch {
	case is:
		return label
	case len(n.known) >= n.most:
		return other
	}
	label = strings.ToValidUTF8(name, "\uFFFD") // a name is bytes, and a label must be text
	n.known[name] = label
	return label
}

// A word is what an error is called in a label.
type word struct {
	err  error
	word string
}

// reasons are those of a loss. The first that an error wraps is its own.
var reasons = []word{
	{lease.ErrForgotten, "forgotten"}, // which wraps the next
	{lease.ErrExpired, "expired"},
	{lease.ErrRevoked, "revoked"},
	{lease.ErrTaken, "taken"},
	{lease.ErrPaused, "paused"},
	{lease.ErrMaxHold, "max_hold"},
	{lease.ErrClosed, "closed"},
}

// outcomes are those of a call that did not get its lease.
var outcomes = []word{
	{supervisor.ErrClosed, "closed"},
	{supervisor.ErrMisconfigured, "misconfigured"},
	{supervisor.ErrFenceExhausted, "fence_exhausted"},
	{supervisor.ErrHeld, "held"},
	{supervisor.ErrNoQuorum, "no_quorum"},
	{lease.ErrLost, "lost"},
	{context.Canceled, "ended"},
	{context.DeadlineExceeded, "ended"},
}

func wordOf(err error, words []word) string {
	for _, w := range words {
		if errors.Is(err, w.err) {
			return w.word
		}
	}
	return other
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("leasehold_"+name, help, labels, nil)
}

var (
	heldDesc      = desc("held", "Leases that are held now.")
	heldOfDesc    = desc("held", "Leases that are held now.", "name")
	waitingDesc   = desc("waiting", "Callers that wait for a name now.")
	owedDesc      = desc("releases_owed", "Releases that a node has yet to confirm.")
	untoldDesc    = desc("events_untold_total", "Events that were dropped, because an observer or the logger was too slow.")
	leastDesc     = desc("renewal_margin_seconds", "The least time that a lease had left when it was renewed, of the last half to whole minute.")
	marginDesc    = desc("renewal_margin_ratio", "The time that leases had left when they were renewed, as a fraction of their TTL.")
	busyDesc      = desc("loop_busy_ratio", "The share of time in which the supervisor's goroutine worked, since the collection before.")
	longestDesc   = desc("loop_longest_seconds", "The longest that the supervisor's goroutine worked without a pause, of the last half to whole minute.")
	upDesc        = desc("node_up", "1 if the node is enrolled, else 0.", "node")
	roundTripDesc = desc("node_round_trip_seconds", "How long the node took to answer pipelines of commands.", "node")
	offsetDesc    = desc("clock_offset_seconds", "How far the node's clock is ahead of the median of all nodes.", "node")
	disagreesDesc = desc("node_disagrees", "1 if other clients of the node use other nodes than this one, else 0.", "node")
)

// Describe sends what the metrics are, as a prometheus.Collector does.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	c.wait.Describe(ch)
	c.hold.Describe(ch)
	c.lost.Describe(ch)
	if c.names == nil {
		ch <- heldDesc
	} else {
		ch <- heldOfDesc
	}
	for _, d := range []*prometheus.Desc{
		waitingDesc, owedDesc, untoldDesc, leastDesc, marginDesc, busyDesc, longestDesc,
		upDesc, roundTripDesc, offsetDesc, disagreesDesc,
	} {
		ch <- d
	}
}

// Collect sends the metrics, as a prometheus.Collector does. It waits for the supervisor's goroutine,
// and for no node.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.wait.Collect(ch)
	c.hold.Collect(ch)
	c.lost.Collect(ch)
	sup := c.sup.Load()
	if sup == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := sup.Stats()
	if c.names == nil {
		gauge(heldDesc, float64(st.Held))
	} else {
		for label, n := range c.held(sup) {
			gauge(heldOfDesc, float64(n), label)
		}
	}
	gauge(waitingDesc, float64(st.Waiting))
	gauge(owedDesc, float64(st.Owed))
	ch <- prometheus.MustNewConstMetric(untoldDesc, prometheus.CounterValue, float64(st.Untold))
	if st.LeastMargin > 0 {
		gauge(leastDesc, st.LeastMargin.Seconds())
	}
	ch <- margins(st.Margins)
	gauge(busyDesc, c.busy.since(st.Busy, st.Up))
	gauge(longestDesc, st.Longest.Seconds())

	nodes := sup.Nodes()
	for i, label := range nodeLabels(nodes) {
		n := &nodes[i]
		gauge(upDesc, number(n.Enrolled), label)
		ch <- prometheus.MustNewConstSummary(roundTripDesc, n.RoundTrips, n.RoundTripTime.Seconds(), nil, label)
		if n.Incarnation > 0 { // its clock is known
			gauge(offsetDesc, n.Offset.Seconds(), label)
		}
		gauge(disagreesDesc, number(n.Disagrees != ""), label)
	}
}

// held counts the leases by the labels of their names. A name that was held once stays, with 0.
func (c *Collector) held(sup *supervisor.Supervisor) map[string]int {
	held := make(map[string]int)
	c.names.mu.Lock()
	for _, label := range c.names.known {
		held[label] = 0
	}
	c.names.mu.Unlock()
	for _, l := range sup.Leases() {
		held[c.names.label(l.Name())]++
	}
	return held
}

// margins returns the histogram of how much of their TTL leases had left when they were renewed.
func margins(tenths [10]uint64) prometheus.Metric {
	buckets := make(map[float64]uint64, len(tenths))
	var count uint64
	var sum float64
	for i, n := range tenths {
		count += n
		sum += float64(n) * (float64(i) + .5) / 10
		buckets[float64(i+1)/10] = count
	}
	return prometheus.MustNewConstHistogram(marginDesc, count, sum, buckets)
}

// nodeLabels returns a label for each node, no two the same: two connections may have one address, and
// Prometheus refuses two series with the same labels.
func nodeLabels(nodes []supervisor.NodeStatus) []string {
	labels := make([]string, len(nodes))
	seen := make(map[string]int)
	for i, n := range nodes {
		labels[i] = strings.ToValidUTF8(n.Node, "\uFFFD")
		if seen[labels[i]]++; seen[labels[i]] > 1 {
			labels[i] += " #" + strconv.Itoa(seen[labels[i]])
		}
	}
	return labels
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// A busyRatio tells which share of its time a goroutine has worked since it was asked before.
type busyRatio struct {
	mu       sync.Mutex
	busy, up time.Duration
	ratio    float64
}

// atLeast is how long a stretch must be to tell something. Two that scrape at once get the same.
const atLeast = time.Second

func (b *busyRatio) since(busy, up time.Duration) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := up - b.up; d >= atLeast || b.up == 0 && d > 0 {
		b.ratio = max(0, min(1, float64(busy-b.busy)/float64(d)))
		b.busy, b.up = busy, up
	}
	return b.ratio
}
