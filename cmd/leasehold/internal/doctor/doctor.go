// Package doctor looks at a deployment, and says what is wrong with it. It asks each server by a
// plain connection first, so that a wrong list of nodes leaves no trace there. If the servers look
// as if they could give leases, it acquires a name of its own by the library, and hands it over. It
// writes to no key but those of that name, and what the library writes for every client: its
// fingerprint, its MaxTTL, and the fence of the lease.
package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/server"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Config says what to look at.
type Config struct {
	// Supervisor is the configuration of those that acquire leases otherwise. It has one node at
	// least. Its Observer and its Logger are not used. With Former both lists are looked at, and no
	// lease is acquired: that would begin the change.
	Supervisor supervisor.Config
	// For is how long to watch clocks and round trips. Default 3 s.
	For time.Duration
	// Name is the name to acquire; no other client may use it. Default: one that is made up.
	Name string
}

// A Report is what was found.
type Report struct {
	Level       Level // the worst of Findings
	TTL         say.Span
	NodeTimeout say.Span
	Servers     []Server // in the order of the nodes
	Findings    []Finding
	Acquired    say.Span `json:",omitzero"` // how long that took; 0 if none was acquired
	HandedOver  say.Span `json:",omitzero"` // from the release by one client until another one had the lease
	Advice      []string // on the times of the configuration
	Took        say.Span
}

// A Server is how one node was found. What is not known is zero.
type Server struct {
	Node        string
	Product     string   `json:",omitempty"` // "Redis", or a fork of it
	Version     string   `json:",omitempty"`
	Role        string   `json:",omitempty"`
	Up          say.Span `json:",omitzero"`
	Persistence string   `json:",omitempty"`
	Clients     int64    `json:",omitzero"` // that are connected
	MaxClients  int64    `json:",omitzero"`
	RoundTrips  int      `json:",omitzero"` // that were measured
	P50         say.Span `json:",omitzero"` // of these
	P99         say.Span `json:",omitzero"`
	Offset      say.Span // how far its clock is ahead of this host's
	Within      say.Span `json:",omitzero"` // how exact Offset is
	Rate        float64  // how much faster than this host's it runs, as a fraction
	RateWithin  float64  `json:",omitzero"`
	MaxTTL      say.Span `json:",omitzero"` // the largest of all clients, as its marker says
}

type doctor struct {
	cfg      Config
	ttl      time.Duration
	timeout  time.Duration // NodeTimeout
	step     time.Duration // how long to wait for an answer, longer than the library would
	cap      time.Duration // MaxTTLCap
	quorum   int
	patients []*patient

	mu     sync.Mutex // guards the fields after it
	report Report
}

// A patient is one node.
type patient struct {
	node     node.Conn
	conn     *server.Conn // nil if there is none
	facts    Server
	run      string // its run id
	identity string // of its data, if it has one
	others   []node.Electorate
	told     bool     // the nodes of other clients are known
	broken   []string // the checks that it failed
}

// Examine looks at a deployment. It takes a little longer than Config.For, and up to a TTL more if
// nodes do not answer; ctx ends it early. An error is about the configuration, or of ctx; whatever
// is wrong with the servers is a finding.
func Examine(ctx context.Context, cfg Config) (*Report, error) {
	begun := time.Now()
	d := newDoctor(cfg)
	defer func() {
		for _, p := range d.patients {
			if p.conn != nil {
				p.conn.Close()
			}
		}
	}()
	d.each(func(p *patient) { d.examine(ctx, p) })
	d.findTwins()
	if len(cfg.Supervisor.Former) == 0 {
		d.compareNodes()
		d.count()
	}
	d.each(func(p *patient) { d.measure(ctx, p) })
	d.compareClocks()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.try(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.advise()
	d.sort()
	for _, p := range d.patients {
		d.report.Servers = append(d.report.Servers, p.facts)
	}
	d.report.Took = say.Span(time.Since(begun))
	return &d.report, nil
}

func newDoctor(cfg Config) *doctor {
	or := func(d, other time.Duration) time.Duration {
		if d == 0 {
			return other
		}
		return d
	}
	s := &cfg.Supervisor
	s.Observer, s.Logger = nil, nil
	cfg.For = or(cfg.For, 3*time.Second)
	if cfg.Name == "" {
		cfg.Name = "leasehold-doctor/" + rand.Text()[:10]
	}
	d := &doctor{cfg: cfg, ttl: or(s.TTL, 10*time.Second), cap: or(s.MaxTTLCap, time.Minute), quorum: len(s.Nodes)/2 + 1}
	d.timeout, d.step = or(s.NodeTimeout, d.ttl/20), max(d.ttl/4, 2*time.Second)
	d.report.TTL, d.report.NodeTimeout = say.Span(d.ttl), say.Span(d.timeout)
	nodes := slices.Clone(s.Nodes)
	for _, n := range s.Former {
		if !slices.ContainsFunc(s.Nodes, n.Same) {
			nodes = append(nodes, n)
		}
	}
	for _, n := range nodes {
		d.patients = append(d.patients, &patient{node: n, facts: Server{Node: n.String()}})
	}
	return d
}

// each calls do for all nodes at once.
func (d *doctor) each(do func(*patient)) {
	var wg sync.WaitGroup
	for _, p := range d.patients {
		wg.Go(func() { do(p) })
	}
	wg.Wait()
}

// findTwins looks for one server that is given twice, so that its vote would count twice.
func (d *doctor) findTwins() {
	const advice = "give each server once: its failure would cost more than one vote, and a vote that counts twice makes no quorum"
	for i, p := range d.patients {
		for _, q := range d.patients[:i] {
			switch {
			case p.node.Same(q.node):
				d.found(p, SameServer, Broken, advice, "the same address as %s", q.facts.Node)
			case p.run == "" || p.run != q.run:
			case p.identity == q.identity && p.database() == q.database():
				d.found(p, SameServer, Broken, advice, "the same database of the same server as %s", q.facts.Node)
			default:
				d.found(p, SameServer, Warning, advice, "another database of the same server as %s", q.facts.Node)
			}
		}
	}
}

func (p *patient) database() int {
	o, _ := p.node.Option()
	return o.SelectDB
}

// compareNodes compares our nodes with those of others, by the fingerprints that these have left.
func (d *doctor) compareNodes() {
	var ours []string
	for _, p := range d.patients {
		if p.identity != "" {
			ours = append(ours, p.identity)
		}
	}
	mine := node.NewElectorate(len(d.patients), ours)
	for _, p := range d.patients {
		number, most, least := 0, 0, 0 // of those that have another number, or the same one
		for _, theirs := range p.others {
			unknown := 0
			for _, id := range theirs.Identities {
				if !slices.Contains(mine.Identities, id) {
					unknown++
				}
			}
			switch {
			case theirs.Nodes != mine.Nodes:
				number, most = theirs.Nodes, max(most, unknown)
			case len(mine.Identities)+unknown > mine.Nodes:
				least = max(least, unknown)
			}
		}
		switch {
		case number != 0:
			d.found(p, Agreement, Broken, "give the same nodes to all clients. While a node is added or removed, as docs/operating.md has it, this is expected; and clients that have ended are remembered for up to 40 s",
				"other clients use %d nodes, of which %d are unknown here, and %d are given here: two clients that do not agree on the nodes can hold one name at once",
				number, most, mine.Nodes)
		case least != 0:
			d.found(p, Agreement, Warning, "give the same nodes to all clients; if a node has lost its data within the last minute, look again in a minute",
				"other clients use %d nodes, too, but %d of them are unknown here", mine.Nodes, least)
		}
	}
}

func (d *doctor) count() {
	switch n := len(d.patients); {
	case n == 1:
		d.found(nil, Number, Note, "three nodes survive the failure of one", "there is one node: its outage stops everything")
	case n%2 == 0:
		d.found(nil, Number, Warning, fmt.Sprintf("use %d", n+1), "%d nodes tolerate the failure of %d, as %d do: the number should be odd", n, (n-1)/2, n-1)
	}
}

// votes returns how many nodes could give a vote.
func (d *doctor) votes() (n int) {
	for _, p := range d.patients {
		if p.conn != nil && !slices.ContainsFunc(p.broken, func(check string) bool {
			return slices.Contains([]string{Reachable, Login, Version, Role, ClusterMode, SameServer}, check)
		}) {
			n++
		}
	}
	return n
}
