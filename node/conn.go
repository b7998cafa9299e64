package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// A Conn says how one node is reached. It is a value without a connection in it: each supervisor
// connects by itself, and several may be given the same Conn. The zero Conn reaches nothing, and
// [Conn.Err] says so.
type Conn struct {
	opt    *option // nil if the connection is from a client, or broken
	client rueidis.Client
	label  string
	err    error
}

// An option has one more pointer in between, which package fmt does not follow. Package fmt asks no
// value in an unexported field how it wants to be printed, and prints what a pointer there points
// to if the verb does not fit.
type option struct{ *rueidis.ClientOption }

func behind(o *rueidis.ClientOption) *option { return &option{o} }

// URL returns a Conn for a URL of any form that rueidis.ParseURL understands:
//
//	redis://user:password@host:port/db   (rediss:// for TLS)
//	unix://user:password@/path/to/socket?db=1
//	redis://sentinel:port?addr=sentinel:port&master_set=name
//
// A text without a scheme is read as host:port or host:port/db. The default port is 6379, and the
// default database 0. If the URL is wrong, [Conn.Err] says why.
//
// With TLS these parameters name files in PEM, as the flags of redis-cli do. cacert has the
// authorities that are trusted instead of the system's. cert and key have the client's own
// certificate. URL reads the files at once. The parameter sni is the name for which the server's
// certificate must be, instead of the host's. If the servers use TLS, so do their Sentinels.
// Sentinels may have a user and a password of their own, sentinel_username and sentinel_password.
func URL(s string) Conn {
	full := s
	if s != "" && !strings.Contains(s, "://") {
		full = "redis://" + s
	}
	opt, err := parse(full)
	if err != nil {
		label := ""
		if full != "" {
			label = withoutSecrets(full)
		}
		if label == "" || strings.Contains(label, ",") || strings.Count(full, "://") > 1 {
			err = fmt.Errorf("%w: want one URL for each node", err)
		}
		return Conn{label: label, err: fmt.Errorf("node: URL %q: %w", label, err)}
	}
	return FromOption(opt)
}

// URLs returns a Conn for each URL, as [URL] does, in the same order.
func URLs(urls ...string) []Conn {
	conns := make([]Conn, len(urls))
	for i, s := range urls {
		conns[i] = URL(s)
	}
	return conns
}

// FromOption returns a Conn for what a URL cannot say: certificates, a dialer, changing
// credentials. Each supervisor makes its own connections to the node, one for commands and, once a
// caller has waited, one that listens. The Conn replaces what the option says about pipelining,
// retries, caching, buffers, timeouts, replicas and the client's name. Several addresses are those
// of Sentinels. The connections of a dialer should support deadlines, as those of package net do.
// Otherwise the node cannot notify of keys that change, see supervisor.NodeStatus.Tracks.
func FromOption(o rueidis.ClientOption) Conn {
	o.InitAddress = slices.Clone(o.InitAddress)
	c := Conn{opt: behind(&o), label: label(&o)}
	switch {
	case len(o.InitAddress) == 0 || slices.Contains(o.InitAddress, ""):
		c.err = fmt.Errorf("InitAddress %q: no address, or an empty one: give one, or those of Sentinels", o.InitAddress)
	case len(o.InitAddress) > 1 && o.Sentinel.MasterSet == "":
		c.err = fmt.Errorf("InitAddress has %d addresses without a master set: give one, because a cluster cannot be one node", len(o.InitAddress))
	case o.PipelineMultiplex > 0:
		c.err = fmt.Errorf("PipelineMultiplex %d: want 0 or less, for one connection on which commands keep their order", o.PipelineMultiplex)
	case o.ConnLifetime > 0:
		c.err = fmt.Errorf("ConnLifetime %v: want 0, for a connection that is replaced only when it fails", o.ConnLifetime)
	case o.ReplicaOnly:
		c.err = errors.New("ReplicaOnly true: want false, for the primary")
	}
	if c.err != nil {
		c.err = fmt.Errorf("node: option for %q: %w", c.label, c.err)
	}
	return c
}

// FromClient returns a Conn for a client that the program has already. Each supervisor takes a
// connection out of the client's pool, as Client.Dedicate does, another one once a caller has
// waited, and keeps both. So the pool (BlockingPoolSize, 1,000 unless set) must have two for each
// supervisor that uses it, beside those of the program's own blocking commands. If no connection is
// free, supervisor.NodeStatus says so in Err or in NoInbox. The caller keeps the client, and closes
// it after the supervisor.
//
// The client's own timeouts apply: a node that hangs may occupy a goroutine for that long. A
// connection that broke while it was idle is noticed only when it is used again, after ten seconds
// at most. [URL] and [FromOption] have neither weakness. FromClient refuses a client of a cluster.
func FromClient(client rueidis.Client) Conn {
	c := Conn{client: client, label: "client"}
	switch {
	case client == nil:
		c.err = errors.New("node: no client")
	case client.Mode() == rueidis.ClientModeCluster:
		c.err = errors.New("node: client of a cluster: a cluster cannot be one node")
	default:
		var addrs []string
		for addr := range client.Nodes() {
			addrs = append(addrs, addr)
		}
		sort.Strings(addrs)
		c.label = "client of " + strings.Join(addrs, ",")
	}
	return c
}

// A lender borrows connections of a user's client, one after the other. It is for one
// goroutine at a time.
type lender struct {
	client  rueidis.Client
	pending chan rueidis.DedicatedClient // nil if nothing is being borrowed
}

// lend borrows a connection. That cannot be cancelled: lend keeps a connection that comes too late
// for the next time.
func (l *lender) lend(ctx context.Context) (rueidis.DedicatedClient, error) {
	if l.pending == nil {
		pending := make(chan rueidis.DedicatedClient, 1)
		l.pending = pending
		go func() {
			d, _ := l.client.Dedicate()
			pending <- d
		}()
	}
	select {
	case d := <-l.pending:
		l.pending = nil
		return d, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// giveBack gives the connection back.
func (l *lender) giveBack() {
	if pending := l.pending; pending != nil {
		go func() { (<-pending).Close() }()
	}
}

// Err returns why the Conn cannot be used, or nil. It connects to nothing, so a node that is down is
// no error. The error contains no credential.
func (c Conn) Err() error {
	if c.err == nil && c.opt == nil && c.client == nil {
		return errors.New("node: empty connection")
	}
	return c.err
}

// Option returns how the node is reached, for a client of the caller's own, which may ask the
// server for what this package does not. It contains the credentials, so do not print it. It
// reports false if the Conn is a client's, or broken.
func (c Conn) Option() (o rueidis.ClientOption, ok bool) {
	if c.Err() != nil || c.opt == nil {
		return o, false
	}
	o = *c.opt.ClientOption
	o.InitAddress = slices.Clone(o.InitAddress)
	return o, true
}

// String returns the address, the master set if there is one and the database if it is not 0, as in
// "main@10.0.0.1:26379/2". It contains no credential.
func (c Conn) String() string {
	if c.label == "" {
		return "none"
	}
	return c.label
}

// Same reports whether both reach the same node: by the same client, or the same database and
// master set at an address that both have. It does not resolve names, so false may be wrong.
func (c Conn) Same(d Conn) bool {
	if c.client != nil || d.client != nil {
		return c.client != nil && d.client != nil && reflect.TypeOf(c.client).Comparable() &&
			reflect.TypeOf(d.client).Comparable() && c.client == d.client
	}
	if c.opt == nil || d.opt == nil {
		return false
	}
	return c.opt.SelectDB == d.opt.SelectDB && c.opt.Sentinel.MasterSet == d.opt.Sentinel.MasterSet &&
		slices.ContainsFunc(c.opt.InitAddress, func(a string) bool {
			return slices.ContainsFunc(d.opt.InitAddress, func(b string) bool { return strings.EqualFold(a, b) })
		})
}

// isTaken reports whether the actor takes the connections from the library once it has made them.
// It does not if the library goes on to other servers by itself, or sends a server new credentials
// now and then.
func (c Conn) isTaken() bool {
	return c.opt != nil && c.opt.Sentinel.MasterSet == "" && c.opt.AuthCredentialsFn == nil
}

// database returns the number of the database, -1 if that is not known.
func (c Conn) database() int {
	if c.opt == nil {
		return -1
	}
	return c.opt.SelectDB
}

func label(o *rueidis.ClientOption) string {
	s := strings.Join(o.InitAddress, ",")
	if o.Sentinel.MasterSet != "" {
		s = o.Sentinel.MasterSet + "@" + s
	}
	if o.SelectDB != 0 {
		s += "/" + strconv.Itoa(o.SelectDB)
	}
	return s
}

// parse does what rueidis.ParseURL does, but its errors quote no credential. A password that is not
// percent-encoded moves the borders of everything after it. So a part of it may stand in any part
// of the URL, and of the error.
func parse(s string) (rueidis.ClientOption, error) {
	if s == "" {
		return rueidis.ClientOption{}, errors.New("empty")
	}
	safe := withoutUser(s)
	if _, err := rueidis.ParseURL(safe); err != nil {
		if e := new(url.Error); errors.As(err, &e) {
			err = e.Err
		}
		return rueidis.ClientOption{}, err
	}
	opt, err := rueidis.ParseURL(s)
	_, rest, _ := strings.Cut(s, "://")
	if i := strings.IndexAny(rest, "/?#"); err != nil || i >= 0 && strings.Contains(rest[i:], "@") {
		return rueidis.ClientOption{}, errors.New("broken user or password: they must be percent-encoded")
	}
	u, err := url.Parse(s)
	if err != nil {
		return rueidis.ClientOption{}, errors.New("broken") // it was parsed above
	}
	if strings.Contains(u.Host, ",") {
		return rueidis.ClientOption{}, errors.New("a comma in the host")
	}
	return opt, addSecurity(&opt, u.Query())
}

// withoutUser removes everything up to the last @ after the scheme.
func withoutUser(s string) string {
	scheme, rest, _ := strings.Cut(s, "://")
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

// withoutSecrets returns a URL as it may be shown: no user, no password, no query.
func withoutSecrets(s string) string {
	s = withoutUser(s)
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	return s
}

// options returns the option with ours laid over it. A dial must succeed within dialled, and each
// later step within timeout. See dialTCP for again. wrap gets every connection that the option
// dials, and secret every password that it uses.
func (c Conn) options(timeout, dialled, again time.Duration,
	wrap func(sentinel bool, dial func(context.Context) (net.Conn, error)) (net.Conn, error),
	secret func(string),
) rueidis.ClientOption {
	o := *c.opt.ClientOption
	secret(o.Password)
	secret(o.Sentinel.Password)
	if fn := o.AuthCredentialsFn; fn != nil {
		o.AuthCredentialsFn = func(c rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			a, err := fn(c)
			secret(a.Password)
			return a, err
		}
	}
	dial := dialerOf(c.opt.ClientOption)
	if dial == nil {
		dial = func(ctx context.Context, dst string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
			return dialTCP(ctx, dst, d, t, timeout, again)
		}
	}
	o.DialFn = nil
	// The library passes the Sentinel's net.Dialer when it dials a Sentinel. So a resolver of its
	// own shows which of the two it is.
	mark := &net.Resolver{}
	if r := o.Sentinel.Dialer.Resolver; r != nil {
		mark = &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: r.Dial}
	}
	o.Sentinel.Dialer.Resolver = mark
	o.DialCtxFn = func(_ context.Context, dst string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		dialer := *d // the library bounds its greeting by the Dialer.Timeout as well
		dialer.Timeout = dialled
		return wrap(d.Resolver == mark, func(ctx context.Context) (net.Conn, error) { return dial(ctx, dst, &dialer, t) })
	}

	o.ForceSingleClient = o.Sentinel.MasterSet == ""
	o.PipelineMultiplex = -1 // one connection: commands keep their order
	o.BlockingPipeline = -1  // and a long pipeline does not get another one
	o.AlwaysPipelining = true
	o.DisableAutoPipelining = false
	o.DisableRetry = true
	o.DisableCache = true
	o.ClientTrackingOptions = nil
	o.OnInvalidations = nil
	o.ClientName = "" // each enrolment sets one
	o.ClientSetInfo = rueidis.DisableClientSetInfo
	o.SendToReplicas = nil
	o.EnableReplicaAZInfo = false
	o.Standalone = rueidis.StandaloneOption{}
	o.ShuffleInit = false
	o.MaxFlushDelay = 0
	o.RingScaleEachConn = 8
	o.ReadBufferEachConn = 16 << 10
	o.WriteBufferEachConn = 16 << 10
	o.ConnWriteTimeout = timeout
	o.Dialer.Timeout = timeout
	// The kernel's probes stay. The library's PING each second goes: an actor has a heartbeat of
	// its own.
	if !o.Dialer.KeepAliveConfig.Enable {
		probe := max(0, o.Dialer.KeepAlive)
		o.Dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: probe, Interval: probe}
	}
	o.Dialer.KeepAlive = -1
	o.Sentinel.Dialer.Timeout = timeout
	o.Sentinel.ClientName = ""
	if o.Sentinel.Dialer.KeepAlive == 0 {
		o.Sentinel.Dialer.KeepAlive = sentinelPing
	}
	if o.Sentinel.TopologyRefreshInterval <= 0 {
		o.Sentinel.TopologyRefreshInterval = sentinelRefresh
	}
	return o
}

const (
	sentinelPing    = 5 * time.Second
	sentinelRefresh = 5 * time.Second
)
