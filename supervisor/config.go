package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Config configures a [Supervisor]. A zero field takes its default. All clients
// that use a name must agree on Nodes and MaxTTLCap. No duration is longer than a year of
// 8760 h, but for GuardWindow, which may be two.
type Config struct {
	// Nodes are connections to independent Redis nodes, 1 to 64, odd for choice:
	// an even number tolerates no more failures than the odd one below it. The
	// quorum is counted of these, never of those that can be reached. Default, with a
	// warning: one, redis://localhost:6379.
	Nodes []node.Conn

	// TTL is how long a node keeps a name that is no longer renewed, and so the
	// longest that a crashed holder blocks others. Default 10 s; at least 100 ms;
	// whole milliseconds, the rest is cut off.
	TTL time.Duration

	// MaxTTL is the largest TTL that WithTTL may ask for. Default TTL. Clients of the
	// same nodes tell each other: each uses the guard window of the largest.
	MaxTTL time.Duration

	// MaxTTLCap is the largest MaxTTL that any client of these nodes may have: give all
	// of them the same. It is taken for the longest TTL in use while too few nodes can tell
	// that: if many have lost their data at once, if all of them are used for the first
	// time, or if there is only one. So it is how long a first start waits: set it to your
	// largest TTL. Default 60 s; at least MaxTTL.
	MaxTTLCap time.Duration

	// Drift is the allowance for clocks that run at different rates during one
	// TTL, and for small steps of a node's clock. Default TTL/100 + 2 ms, of each lease's own TTL.
	Drift time.Duration

	// RenewEvery is about how often a held lease is renewed; the actual interval
	// is up to a tenth shorter. Default TTL/3. For a lease with another TTL it is
	// in proportion.
	RenewEvery time.Duration

	// Grace is how long before the nodes may drop a lease that is not renewed its Lost
	// channel closes. A lease that ends otherwise leaves no grace, see lease.ErrLost.
	// Default TTL/20 of each lease's own TTL, and at least 10 ms.
	Grace time.Duration

	// NodeTimeout is for how long an answer of a node that is quick is waited for, and so how
	// soon it is noticed that it hangs. One that was slow lately is waited for twice as long as
	// its slowest answer, up to TTL/4; what was slow counts half after each two TTLs. So a node
	// that becomes slower than NodeTimeout is waited for in vain once. Each step of
	// connecting may take TTL/4, as nobody waits for it: the greeting, who the server is, its
	// marker; a dial NodeTimeout, and twice as long each time that it was in vain, while
	// others are begun every NodeTimeout.
	// See NodeStatus.Patience. Default TTL/20; at most TTL/4.
	NodeTimeout time.Duration

	// RetryMin and RetryMax bound the pause of a waiter after its first failed
	// attempt, which is drawn between them; it grows by half with each further
	// one, up to fivefold. That is if no quorum could be reached, or with
	// WithAttempts: who waits for a name that is held stands in its queue, and asks
	// again about every three times NodeTimeout, RetryMin at least. Defaults 100 ms and
	// 300 ms.
	RetryMin, RetryMax time.Duration

	// GuardWindow is for how long at least a node is asked for no new lease after it was
	// first used, restarted, flushed, or replaced in a failover: it may have forgotten a
	// lease that is still believed in. It still renews leases that are held; those it has forgotten are
	// restored. The window is never less than M + drift, where M is the largest MaxTTL of
	// all clients, or MaxTTLCap while that is not known. Default: no more than that.
	GuardWindow time.Duration

	// DisableGuard turns that off: the restart of a node that loses its data can
	// then let a second holder in. A deployment that is started for the first time need
	// not wait for the window then. Nor does this client take part in what the others tell
	// each other of MaxTTL and of their nodes.
	DisableGuard bool

	// Owner is whom others are shown as the holder; at most 128 bytes. It is not
	// used to decide anything. It does not begin with "?" or "!". Default "host:pid".
	Owner string

	// Prefix is put before every name to make its key. Default none.
	Prefix string

	// Observer is told what happens; see [Observer]. Default nobody.
	Observer Observer

	// Logger is told of leases that are won or released and of nodes that are enrolled at
	// level info, of leases that are lost, nodes that are not enrolled any more and
	// warnings at level warn, and of acquisitions that failed and connections that were made
	// anew at once at level debug. What ends because of Close is told at level info. Default
	// silent.
	Logger *slog.Logger

	// Clock is asked for the time. Default clock.System().
	Clock clock.Clock
}

const (
	minTTL = 100 * time.Millisecond
	// defaultCap is that of MaxTTLCap.
	defaultCap = time.Minute
	// defaultNode is used if no nodes are given.
	defaultNode = "redis://localhost:6379"
	maxTime     = 8760 * time.Hour // so that no sum of times overflows
	maxName     = 512
	maxOwner    = 128

	// reserved begins the keys that leasehold keeps for itself.
	reserved = node.ReservedPrefix
)

// capped returns the configuration with no time that is longer than its bound, and
// which ones were: what is derived of them would overflow, and turn the guard off.
func (cfg Config) capped() (Config, []error) {
	var broken []error
	for _, f := range []struct {
		name string
		d    *time.Duration
		most time.Duration
	}{
		{"TTL", &cfg.TTL, maxTime}, {"MaxTTL", &cfg.MaxTTL, maxTime}, {"MaxTTLCap", &cfg.MaxTTLCap, maxTime}, {"Drift", &cfg.Drift, maxTime},
		{"RenewEvery", &cfg.RenewEvery, maxTime}, {"Grace", &cfg.Grace, maxTime}, {"NodeTimeout", &cfg.NodeTimeout, maxTime},
		{"RetryMin", &cfg.RetryMin, maxTime}, {"RetryMax", &cfg.RetryMax, maxTime},
		{"GuardWindow", &cfg.GuardWindow, 2 * maxTime}, // it is more than MaxTTL
	} {
		if *f.d > f.most {
			broken = append(broken, fmt.Errorf("%s %v: want at most %v", f.name, *f.d, f.most))
			*f.d = f.most
		}
	}
	return cfg, broken
}

// withDefaults returns the configuration with its zero fields filled in.
func (cfg Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = node.URLs(defaultNode)
	}
	def(&cfg.TTL, 10*time.Second)
	cfg.TTL = cfg.TTL.Truncate(time.Millisecond)
	def(&cfg.MaxTTL, cfg.TTL)
	def(&cfg.MaxTTLCap, defaultCap)
	ttl := cfg.TTL
	if ttl < minTTL {
		ttl = minTTL // that is an error of its own, and needs no others after it
	}
	def(&cfg.RenewEvery, ttl/3)
	def(&cfg.NodeTimeout, ttl/20)
	def(&cfg.RetryMin, 100*time.Millisecond)
	def(&cfg.RetryMax, max(300*time.Millisecond, cfg.RetryMin))
	if cfg.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown-host"
		}
		cfg.Owner = fmt.Sprintf("%.100s:%d", host, os.Getpid())
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System()
	}
	return cfg
}

// validate reports every rule that the configuration breaks, each with the value
// and the bound, after the times that are too long.
func (cfg Config) validate(long []error) error {
	broken := long
	want := func(ok bool, format string, args ...any) {
		if !ok {
			broken = append(broken, fmt.Errorf(format, args...))
		}
	}
	want(len(cfg.Nodes) <= core.MaxNodes, "Nodes: %d given: want 1 to %d", len(cfg.Nodes), core.MaxNodes)
	for i, n := range cfg.Nodes {
		if err := n.Err(); err != nil {
			want(false, "Nodes[%d]: %w", i, err)
			continue
		}
		for j := range i {
			want(!n.Same(cfg.Nodes[j]), "Nodes[%d] is the same node as Nodes[%d]: %v: want each node once, or its vote would count twice", i, j, n)
		}
	}
	want(cfg.TTL >= minTTL, "TTL %v: want at least %v", cfg.TTL, minTTL)
	want(cfg.MaxTTL >= cfg.TTL, "MaxTTL %v: want at least TTL = %v", cfg.MaxTTL, cfg.TTL)
	positive := func(what string, d time.Duration) {
		want(d > 0, "%s %v: want more than 0", what, d)
	}
	positive("RenewEvery", cfg.RenewEvery)
	positive("NodeTimeout", cfg.NodeTimeout)
	positive("RetryMin", cfg.RetryMin)
	want(cfg.Drift >= 0, "Drift %v: want 0 or more", cfg.Drift)
	want(cfg.Grace == 0 || cfg.Grace >= core.MinGrace, "Grace %v: want at least %v", cfg.Grace, core.MinGrace)
	want(cfg.RetryMax >= cfg.RetryMin, "RetryMax %v: want at least RetryMin = %v", cfg.RetryMax, cfg.RetryMin)
	want(long != nil || cfg.MaxTTL <= cfg.MaxTTLCap, "MaxTTL %v: want at most MaxTTLCap = %v, the same for all clients of the nodes", cfg.MaxTTL, cfg.MaxTTLCap)
	settings := cfg.settings()
	if least := cfg.MaxTTL + settings.DriftOf(cfg.MaxTTL); cfg.GuardWindow != 0 && cfg.GuardWindow < least {
		want(false, "GuardWindow %v: want 0 or at least MaxTTL + drift = %v", cfg.GuardWindow, least)
	}
	if cfg.TTL >= minTTL && long == nil {
		if err := validateTerms(settings.Terms(cfg.TTL), cfg.NodeTimeout); err != nil {
			broken = append(broken, err)
		}
	}
	if f, is := cfg.Observer.(ObserverFunc); is {
		want(f != nil, "Observer: want a function, not nil")
	}
	if err := checkOwner("Owner", cfg.Owner); err != nil {
		broken = append(broken, err)
	}
	want(len(cfg.Prefix) < maxName, "Prefix of %d bytes: want less than %d", len(cfg.Prefix), maxName)
	want(!strings.HasPrefix(cfg.Prefix, reserved), "Prefix %q: want none that begins with %q, which is kept for leasehold itself", cfg.Prefix, reserved)
	if broken == nil {
		return nil
	}
	return fmt.Errorf("supervisor: broken configuration:\n%w", errors.Join(broken...))
}

// validateTerms reports whether renewals fit into the TTL.
func validateTerms(t *core.Terms, nodeTimeout time.Duration) error {
	var broken []error
	if nodeTimeout > t.TTL/4 {
		broken = append(broken, fmt.Errorf("NodeTimeout %v: want at most TTL/4 = %v", nodeTimeout, t.TTL/4))
	}
	if sum := t.RenewEvery + nodeTimeout + t.Grace + t.Drift; sum >= t.TTL {
		broken = append(broken, fmt.Errorf("RenewEvery %v + NodeTimeout %v + Grace %v + Drift %v = %v: want less than TTL = %v, or one late renewal loses the lease",
			t.RenewEvery, nodeTimeout, t.Grace, t.Drift, sum, t.TTL))
	}
	return errors.Join(broken...)
}

// settings returns what the core needs of it.
func (cfg Config) settings() core.Settings {
	return core.Settings{
		Nodes: len(cfg.Nodes), TTL: cfg.TTL, MaxTTL: cfg.MaxTTL, MaxTTLCap: cfg.MaxTTLCap,
		Drift: cfg.Drift, Grace: cfg.Grace, RenewEvery: cfg.RenewEvery, NodeTimeout: cfg.NodeTimeout,
		RetryMin: cfg.RetryMin, RetryMax: cfg.RetryMax, Guard: !cfg.DisableGuard, GuardWindow: cfg.GuardWindow,
		Owner: cfg.Owner,
	}
}

// errNotMade is for the zero Supervisor.
var errNotMade = errors.New("this Supervisor does nothing: want one that New has made")

// checkName reports what is wrong with a name.
func (cfg Config) checkName(name string) error {
	key := cfg.Prefix + name
	switch {
	case cfg.Clock == nil:
		return errNotMade
	case name == "":
		return fmt.Errorf("name %q: want at least one byte", name)
	case len(key) > maxName:
		return fmt.Errorf("name %.32q... of %d bytes with its prefix: want at most %d", key, len(key), maxName)
	case strings.HasPrefix(key, reserved):
		return fmt.Errorf("name %q: want none that begins with %q, which is kept for leasehold itself", key, reserved)
	}
	return nil
}

// checkOwner reports what is wrong with what a lease is to say of its holder.
func checkOwner(what, owner string) error {
	switch {
	case len(owner) > maxOwner:
		return fmt.Errorf("%s of %d bytes: want at most %d", what, len(owner), maxOwner)
	case node.IsReservation(owner):
		return fmt.Errorf("%s %q: want none that begins with %q, which marks a key as reserved for a waiter", what, owner, node.ReservationMark)
	case strings.HasPrefix(owner, node.LeftMark):
		return fmt.Errorf("%s %q: want none that begins with %q, which marks a key as left", what, owner, node.LeftMark)
	}
	return nil
}
