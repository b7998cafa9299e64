package leaseotel

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/leasehold-go/leasehold/supervisor"
)

// readings are the instruments whose values are read when metrics are collected.
type readings struct {
	held, waiting, owed        metric.Int64ObservableUpDownCounter
	untold, renewals, trips    metric.Int64ObservableCounter
	tripTime                   metric.Float64ObservableCounter
	margin, busy, longest, off metric.Float64ObservableGauge
	up, disagrees              metric.Int64ObservableGauge
}

func (r *readings) all() []metric.Observable {
	return []metric.Observable{
		r.held, r.waiting, r.owed, r.untold, r.renewals, r.trips, r.tripTime, r.margin, r.busy, r.longest, r.off, r.up, r.disagrees,
	}
}

func (r *readings) make(m metric.Meter) error {
	var errs []error
	upDown := func(to *metric.Int64ObservableUpDownCounter, name, unit, what string) {
		var err error
		*to, err = m.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
	}
	counter := func(to *metric.Int64ObservableCounter, name, unit, what string) {
		var err error
		*to, err = m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
	}
	gauge := func(to *metric.Float64ObservableGauge, name, unit, what string) {
		var err error
		*to, err = m.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
	}
	flag := func(to *metric.Int64ObservableGauge, name, what string) {
		var err error
		*to, err = m.Int64ObservableGauge(name, metric.WithUnit("1"), metric.WithDescription(what))
		errs = append(errs, err)
	}
	upDown(&r.held, "leasehold.lease.count", "{lease}", "Leases that are held now.")
	upDown(&r.waiting, "leasehold.acquire.waiting", "{call}", "Calls that wait for a name now.")
	upDown(&r.owed, "leasehold.release.owed", "{release}", "Releases that a node has yet to confirm.")
	counter(&r.untold, "leasehold.event.dropped", "{event}", "Events that were dropped, because an observer or the logger was too slow.")
	counter(&r.renewals, "leasehold.renewal.count", "{renewal}", "Renewals, by how many tenths of its TTL the lease had left.")
	counter(&r.trips, "leasehold.node.round_trip.count", "{round_trip}", "Pipelines of commands that the node has answered.")
	gauge(&r.margin, "leasehold.renewal.margin", "s", "The least time that a lease had left when it was renewed, of the last half to whole minute.")
	gauge(&r.busy, "leasehold.loop.utilization", "1", "The share of time in which the supervisor's goroutine worked, since the collection before.")
	gauge(&r.longest, "leasehold.loop.longest", "s", "The longest that the supervisor's goroutine worked without a pause, of the last half to whole minute.")
	gauge(&r.off, "leasehold.node.clock_offset", "s", "How far the node's clock is ahead of the median of all nodes.")
	flag(&r.up, "leasehold.node.up", "1 if the node is enrolled, else 0.")
	flag(&r.disagrees, "leasehold.node.disagrees", "1 if other clients of the node use other nodes than this one, else 0.")
	var err error
	r.tripTime, err = m.Float64ObservableCounter("leasehold.node.round_trip.time", metric.WithUnit("s"),
		metric.WithDescription("How long the pipelines of commands took that the node has answered."))
	return errors.Join(append(errs, err)...)
}

// tenths are the attributes of renewals.
var tenths = func() (sets [10]metric.MeasurementOption) {
	for i := range sets {
		sets[i] = metric.WithAttributeSet(attribute.NewSet(marginTenths.Int(i)))
	}
	return sets
}()

// collect reads what a supervisor knows.
func (t *Telemetry) collect(o metric.Observer, sup *supervisor.Supervisor) {
	r, st := &t.read, sup.Stats()
	if t.names == nil {
		o.ObserveInt64(r.held, int64(st.Held))
	} else {
		for label, n := range t.names.count(sup) {
			o.ObserveInt64(r.held, int64(n), metric.WithAttributes(nameKey.String(label)))
		}
	}
	o.ObserveInt64(r.waiting, int64(st.Waiting))
	o.ObserveInt64(r.owed, int64(st.Owed))
	o.ObserveInt64(r.untold, int64(st.Untold))
	for i, n := range st.Margins {
		o.ObserveInt64(r.renewals, int64(n), tenths[i])
	}
	if st.LeastMargin > 0 {
		o.ObserveFloat64(r.margin, st.LeastMargin.Seconds())
	}
	o.ObserveFloat64(r.busy, t.busy.since(st.Busy, st.Up))
	o.ObserveFloat64(r.longest, st.Longest.Seconds())

	nodes := sup.Nodes()
	for i, set := range nodeSets(nodes) {
		n, of := &nodes[i], metric.WithAttributeSet(set)
		o.ObserveInt64(r.up, number(n.Enrolled), of)
		o.ObserveInt64(r.trips, int64(n.RoundTrips), of)
		o.ObserveFloat64(r.tripTime, n.RoundTripTime.Seconds(), of)
		if n.Incarnation > 0 { // its clock is known
			o.ObserveFloat64(r.off, n.Offset.Seconds(), of)
		}
		o.ObserveInt64(r.disagrees, number(n.Disagrees != ""), of)
	}
	if t.spans != nil {
		t.spans.reconcile(st.Untold, sup)
	}
}

// count counts the leases by the attributes of their names. A name that was held once stays, with 0.
func (n *names) count(sup *supervisor.Supervisor) map[string]int {
	count := make(map[string]int)
	n.mu.Lock()
	for _, label := range n.known {
		count[label] = 0
	}
	n.mu.Unlock()
	for _, l := range sup.Leases() {
		count[n.label(l.Name())]++
	}
	return count
}

// nodeSets returns the attributes of each node, no two the same: two connections may have one address.
func nodeSets(nodes []supervisor.NodeStatus) []attribute.Set {
	sets := make([]attribute.Set, len(nodes))
	seen := make(map[string]int)
	for i, n := range nodes {
		label := text(n.Node)
		server := label[strings.LastIndexByte(label, '@')+1:] // behind a master set
		server, _, _ = strings.Cut(server, "/")               // in front of a database
		list := make([]attribute.KeyValue, 0, 3)
		if host, p, err := net.SplitHostPort(server); err != nil {
			list = append(list, address.String(label))
		} else {
			list = append(list, address.String(host))
			if n, err := strconv.Atoi(p); err == nil {
				list = append(list, port.Int(n))
			}
		}
		if seen[label]++; seen[label] > 1 {
			label += " #" + strconv.Itoa(seen[label])
		}
		sets[i] = attribute.NewSet(append(list, nodeKey.String(label))...)
	}
	return sets
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// A utilization tells which share of its time a goroutine has worked since it was asked before.
type utilization struct {
	mu       sync.Mutex
	busy, up time.Duration
	ratio    float64
}

// atLeast is how long a stretch must be to tell something. Two that collect at once get the same.
const atLeast = time.Second

func (b *utilization) since(busy, up time.Duration) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := up - b.up; d >= atLeast || b.up == 0 && d > 0 {
		b.ratio = max(0, min(1, float64(busy-b.busy)/float64(d)))
		b.busy, b.up = busy, up
	}
	return b.ratio
}
