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

// Config configures a [Supervisor]. A zero field takes its default. All clients that use a name
// must agree on Nodes and MaxTTLCap. A duration is at most 8760 h, a year; GuardWindow is at most
// two years. One late renewal must not lose a lease, so RenewEvery + NodeTimeout + Grace + Drift is
// less than TTL. [New] reports every broken rule.
type Config struct {
	// Nodes are connections to independent Redis nodes, 1 to 64, each node once. An odd number is
	// best: an even one tolerates no more failures than the odd one below it. The quorum is n/2 + 1
	// of these n, however many can be reached. Default, with a warning: one,
	// redis://localhost:6379.
	Nodes []node.Conn

	// Former are the nodes that are being left, while Nodes are the ones that take their place; a
	// node that stays is in both. A lease then needs a quorum of each list, so processes that were
	// given Former alone as their Nodes and processes that were given both keep each other out.
	// Give it to all processes, run "leasehold nodes finish", and take it away again: see
	// docs/operating.md. At most 64, each node once, and no more than 64 in both lists together.
	// Default none: the nodes are not being changed.
	Former []node.Conn

	// TTL is how long a node keeps a name that is no longer renewed. So it is the longest time that
	// a crashed holder blocks others. Default 10 s; at least 100 ms; in whole milliseconds, the
	// rest is cut off.
	TTL time.Duration

	// MaxTTL is the largest TTL that WithTTL and Extend may ask for. Default TTL; at least TTL.
	// Clients of the same nodes tell each other their MaxTTL, and all use the guard window of the
	// largest.
	MaxTTL time.Duration

	// MaxTTLCap is the largest MaxTTL that any client of these nodes may have. Give all of them the
	// same. The guard assumes that leases last so long while too few nodes know the largest MaxTTL:
	// if many have lost their data at once, if all of them are used for the first time, or if there
	// is only one. So a first start waits for that long. Set it to your largest TTL. Default 60 s;
	// at least MaxTTL.
	MaxTTLCap time.Duration

	// Drift is the allowance for clocks that run at different rates during one TTL, and for small
	// steps of a node's clock. Default TTL/100 + 2 ms, of each lease's own TTL; a value that is set
	// here is for all TTLs. 0 or more.
	Drift time.Duration

	// RenewEvery is about how often a held lease is renewed; the actual interval is up to a tenth
	// shorter. Default TTL/3. A lease with another TTL has an interval in proportion.
	RenewEvery time.Duration

	// Grace is how much earlier the Lost channel of a lease that is not renewed closes than the
	// nodes may drop its keys. A lease that ends otherwise leaves no grace, see lease.ErrExpired.
	// Default TTL/20 of each lease's own TTL, or 10 ms if that is more; a value that is set here is
	// for all TTLs. At least 10 ms.
	Grace time.Duration

	// NodeTimeout is how long the supervisor waits for the answer of a fast node, and so how soon
	// it notices that the node hangs. For a node that was slow lately it waits twice as long as its
	// slowest answer took, up to TTL/4. Every two TTLs that answer counts half as much. So when a
	// node becomes slower than NodeTimeout, one wait for it is in vain. NodeStatus.Patience is the
	// present value. Default TTL/20; at most TTL/4.
	//
	// A dial may take NodeTimeout, and twice as long after each dial that was in vain, up to TTL/4;
	// further dials are begun meanwhile. Each step after that (the greeting, which server it is,
	// its marker) may take TTL/4, because no call waits for it.
	NodeTimeout time.Duration

	// RetryMin and RetryMax bound the pause between attempts that are repeated: if no quorum could
	// be reached, and with WithAttempts. The pause after the first failed attempt is drawn between
	// them. It grows by half with each further one, up to fivefold. A caller that waits for a held
	// name makes no such pauses: it stands in the name's queue. It asks again about every three
	// times NodeTimeout, or RetryMin if that is more. Defaults: 100 ms, and 300 ms or RetryMin if
	// that is more; RetryMax is at least RetryMin.
	RetryMin, RetryMax time.Duration

	// GuardWindow is the least time for which a node is asked for no new lease after it was first
	// used, restarted, flushed, or replaced in a failover. It may have forgotten a lease that is
	// still believed in. The node still renews leases that are held; those it has forgotten are
	// restored. The window is never less than M + drift. M is the largest MaxTTL of all clients, or
	// MaxTTLCap while that is not known. Default: that, and no more.
	GuardWindow time.Duration

	// DisableGuard turns the guard off: then the restart of a node that loses its data can let a
	// second holder in. It is for tests. The supervisor then waits for no window, not even at a
	// first start. This client does not tell the others its MaxTTL and its nodes, and does not heed
	// theirs.
	DisableGuard bool

	// NoLeases is for a program that only asks, as a dashboard does: Inspect, Watch, Nodes and
	// Revoke work, and every call that would acquire or adopt a lease returns an error. The nodes
	// are not told of MaxTTL, which would lengthen the guard window of all clients if it is larger
	// than theirs. Nor are they told that they are being changed, see Former. Default false.
	NoLeases bool

	// Owner is the name under which others see this holder; at most 128 bytes. It decides nothing.
	// It does not begin with "?" or "!". Default "host:pid".
	Owner string

	// Prefix is put before every name to make its key. It has less than 512 bytes, and does not
	// begin with "leasehold:". Default empty.
	Prefix string

	// Observer is called with what happens; see [Observer]. Default none.
	Observer Observer

	// Logger logs every [Event]: EventWaiting, EventFailed and EventReconnected at level debug,
	// EventLost, EventNodeDown and EventWarning at level warn, and all others at level info. So is
	// whatever ends because of Close. The goroutine that calls the Observer calls it. Default
	// silent.
	Logger *slog.Logger

	// Clock tells the time. Default clock.System(). In a testing/synctest bubble it must be
	// clock.Runtime().
	Clock clock.Clock
}

const (
	minTTL = 100 * time.Millisecond
	// defaultCap is the default of MaxTTLCap.
	defaultCap = time.Minute
	// defaultNode is used if no nodes are given.
	defaultNode = "redis://localhost:6379"
	maxTime     = 8760 * time.Hour // so that no sum of times overflows
	maxName     = 512
	maxOwner    = 128

	// reserved begins the keys that leasehold keeps for itself.
	reserved = node.ReservedPrefix
)

// capped returns the configuration with every time cut to its bound, and an error for each time
// that was longer. A value that is computed from such a time would overflow, and turn the guard
// off.
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
	if len(cfg.Nodes) == 0 && len(cfg.Former) == 0 {
		cfg.Nodes = node.URLs(defaultNode)
	}
	def(&cfg.TTL, 10*time.Second)
	if cfg.TTL >= minTTL { // else the error shows it as it was given
		cfg.TTL = cfg.TTL.Truncate(time.Millisecond)
	}
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

// validate returns an error with every rule that the configuration breaks, each with the value and
// the bound, after the errors of the times that are too long.
func (cfg Config) validate(long []error) error {
	broken := long
	want := func(ok bool, format string, args ...any) {
		if !ok {
			broken = append(broken, fmt.Errorf(format, args...))
		}
	}
	broken = append(broken, checkLists(cfg.Nodes, cfg.Former)...)
	want(len(cfg.Former) == 0 || !cfg.DisableGuard, "Former of %d nodes with DisableGuard: want the guard on, because its marker says how far the change has come", len(cfg.Former))
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
	want(!strings.HasPrefix(cfg.Prefix, reserved), "Prefix %q: must not begin with %q (reserved)", cfg.Prefix, reserved)
	if broken == nil {
		return nil
	}
	return fmt.Errorf("supervisor: broken configuration:\n%w", errors.Join(broken...))
}

// validateTerms returns an error if renewals do not fit into the TTL.
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

// settings returns what the core needs of the configuration.
func (cfg Config) settings() core.Settings {
	return core.Settings{
		TTL: cfg.TTL, MaxTTL: cfg.MaxTTL, MaxTTLCap: cfg.MaxTTLCap,
		Drift: cfg.Drift, Grace: cfg.Grace, RenewEvery: cfg.RenewEvery, NodeTimeout: cfg.NodeTimeout,
		RetryMin: cfg.RetryMin, RetryMax: cfg.RetryMax, Guard: !cfg.DisableGuard, GuardWindow: cfg.GuardWindow,
		Owner: cfg.Owner, NoLeases: cfg.NoLeases,
	}
}

// errNotMade is the error of the zero Supervisor.
var errNotMade = errors.New("this Supervisor was not made with New")

// checkName returns an error if a name is broken.
func (cfg Config) checkName(name string) error {
	key := cfg.Prefix + name
	switch {
	case cfg.Clock == nil:
		return errNotMade
	case name == "":
		return fmt.Errorf("name %q: must not be empty", name)
	case len(key) > maxName:
		return fmt.Errorf("name %.32q... of %d bytes with its prefix: want at most %d", key, len(key), maxName)
	case strings.HasPrefix(key, reserved):
		return fmt.Errorf("name %q: must not begin with %q (reserved)", key, reserved)
	}
	return nil
}

// checkOwner returns an error if the text that names a holder is broken.
func checkOwner(what, owner string) error {
	switch {
	case len(owner) > maxOwner:
		return fmt.Errorf("%s of %d bytes: want at most %d", what, len(owner), maxOwner)
	case node.IsReservation(owner):
		return fmt.Errorf("%s %q: must not begin with %q (it marks a key as reserved for a waiter)", what, owner, node.ReservationMark)
	case strings.HasPrefix(owner, node.LeftMark):
		return fmt.Errorf("%s %q: must not begin with %q (it marks a key as left)", what, owner, node.LeftMark)
	}
	return nil
}
