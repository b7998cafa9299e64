package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/server"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// These are the keys that leasehold keeps for itself on a node: see "What a node keeps" in
// docs/operating.md.
const (
	marker   = node.ReservedPrefix + "incarnation"
	grown    = node.ReservedPrefix + "{" + marker + "}:grown"
	identity = node.ReservedPrefix + "{" + marker + "}:identity"
	clients  = node.ReservedPrefix + "{" + marker + "}:clients"
)

// examine asks one server everything that can be asked at once.
func (d *doctor) examine(ctx context.Context, p *patient) {
	conn, err := server.Dial(ctx, p.node, d.step)
	if err != nil {
		d.unreachable(p, err)
		return
	}
	answers, err := conn.Do(ctx, []string{"INFO"}, []string{"TIME"})
	if err == nil {
		err = answers[0].Err()
	}
	if err != nil {
		conn.Close()
		d.unreachable(p, err)
		return
	}
	p.conn = conn
	info := answers[0].Info()
	d.look(p, info)
	now, err := answers[1].Time()
	if err != nil {
		now = time.Duration(time.Now().UnixNano())
	}
	if d.tryRights(ctx, p, info) {
		d.readMarks(ctx, p, now)
	}
}

// unreachable adds the finding that says why a server cannot be asked.
func (d *doctor) unreachable(p *patient, err error) {
	late := new(server.Error)
	switch {
	case server.Begins(err, "WRONGPASS", "NOAUTH", "AUTH ", "invalid password", "Client sent AUTH"):
		d.found(p, Login, Broken, "give the user and the password in the URL, percent-encoded: redis://user:password@host:port", "the server refuses the login: %v", err)
	case server.Begins(err, "NOPERM"):
		d.found(p, Rights, Broken, "give the user the rights that docs/operating.md lists", "the user has no right to begin: %v", err)
	case server.Begins(err, "max number of clients"):
		d.found(p, Clients, Broken, "raise maxclients, or end clients that are not needed", "%v", err)
	case server.Begins(err, "DB index"):
		d.found(p, Reachable, Broken, "use another database", "there is no such database: %v", err)
	case server.Begins(err, "LOADING"):
		d.found(p, Writes, Broken, "wait until it has read its data", "%v", err)
	case errors.As(err, &late) && late.Late:
		d.found(p, Reachable, Broken, "look whether the server hangs or the network drops packets", "no answer within %v: %v", d.step, err)
	default:
		d.found(p, Reachable, Broken, "look whether the server is up, and whether address, port and TLS (rediss://) are right", "%v", err)
	}
}

// look judges what a server says about itself.
func (d *doctor) look(p *patient, info server.Info) {
	f := &p.facts
	f.Product, f.Version = info.Product()
	if up, ok := info.Int("uptime_in_seconds"); ok {
		f.Up = say.Span(time.Duration(up) * time.Second)
	}
	p.run = info["run_id"]
	switch spoken := info["redis_version"]; {
	case f.Product == "":
		d.found(p, Version, Warning, "use Redis 6.2 or later, or a server that speaks the same", "the server does not say what it is")
	case spoken != "" && older(spoken, 6, 2):
		d.found(p, Version, Broken, "use Redis 6.2 or later, or a server that speaks the same", "%s %s speaks Redis %s", f.Product, f.Version, spoken)
	}
	if f.Role = info["role"]; f.Role != "" && f.Role != "master" {
		of := ""
		if info["master_host"] != "" {
			of = fmt.Sprintf(" of %s:%s", info["master_host"], info["master_port"])
		}
		d.found(p, Role, Broken, "give the primary, or its Sentinels: redis://sentinel:26379?master_set=NAME", "it is a replica%s: leasehold asks no replica for a lease", of)
		f.Role = "replica"
	} else if f.Role == "master" {
		f.Role = "primary"
	}
	if info["redis_mode"] == "cluster" || info["server_mode"] == "cluster" {
		d.found(p, ClusterMode, Broken, "use servers with cluster-enabled no", "it is in cluster mode: a cluster cannot be one node")
	}
	d.lookAtMemory(p, info)

	f.Clients, _ = info.Int("connected_clients")
	f.MaxClients, _ = info.Int("maxclients")
	if left := f.MaxClients - f.Clients; f.MaxClients > 0 {
		const advice = "raise maxclients: each process that waits needs two connections"
		switch {
		case left < 4: // the two of this one that are yet to come, and one more process
			d.found(p, Clients, Broken, advice, "%d of %d clients are connected", f.Clients, f.MaxClients)
		case left < 20 || left < f.MaxClients/10:
			d.found(p, Clients, Warning, advice, "%d of %d clients are connected", f.Clients, f.MaxClients)
		}
	}

	f.Persistence = "none told"
	switch {
	case info["aof_enabled"] == "1":
		f.Persistence = "AOF"
	case info["rdb_last_save_time"] != "":
		f.Persistence = "no AOF"
	}
	for field, what := range map[string]string{"rdb_last_bgsave_status": "the last snapshot", "aof_last_write_status": "the last write to the AOF", "aof_last_bgrewrite_status": "the last rewrite of the AOF"} {
		if info[field] == "err" {
			d.found(p, Persistence, Warning, "look at the disk, and at the server's log; leasehold itself needs no persistence", "%s has failed", what)
		}
	}
}

// lookAtMemory judges whether keys may be evicted, and whether there is room for more.
func (d *doctor) lookAtMemory(p *patient, info server.Info) {
	most, _ := info.Int("maxmemory")
	if most <= 0 {
		return
	}
	if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		d.found(p, Eviction, Broken, "CONFIG SET maxmemory-policy noeviction, and in the configuration file; or a server of its own for leases",
			"maxmemory-policy is %s: an evicted key is a vote withdrawn, so a lease may be lost, or have two holders", policy)
	}
	used, _ := info.Int("used_memory")
	const advice = "raise maxmemory: a full server grants nothing and renews nothing"
	switch percent := used * 100 / most; {
	case percent >= 100:
		d.found(p, Memory, Broken, advice, "%d %% of maxmemory are used", percent)
	case percent >= 90:
		d.found(p, Memory, Warning, advice, "%d %% of maxmemory are used", percent)
	}
}

// older reports whether a version is before another one. It returns false for a version that it
// cannot read.
func older(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}

// A right is a command with which a right is tried.
type right struct {
	name  string // as ACL SETUSER takes it
	words []string
}

// rightsOn returns what a client needs, tried on a key and a queue of our own. Each command is one
// that the library sends, or that a script of it runs.
func rightsOn(key, queue, channel string) []right {
	return []right{
		{"time", []string{"TIME"}},
		{"set", []string{"SET", key, "doctor", "PX", "10000"}},
		{"get", []string{"GET", key}},
		{"mget", []string{"MGET", key}},
		{"exists", []string{"EXISTS", key}},
		{"type", []string{"TYPE", key}},
		{"pttl", []string{"PTTL", key}},
		{"zadd", []string{"ZADD", queue, "GT", "CH", "1", "doctor"}},
		{"pexpire", []string{"PEXPIRE", queue, "10000"}},
		{"zscore", []string{"ZSCORE", queue, "doctor"}},
		{"zrank", []string{"ZRANK", queue, "doctor"}},
		{"zcount", []string{"ZCOUNT", queue, "-inf", "+inf"}},
		{"zrangebyscore", []string{"ZRANGEBYSCORE", queue, "-inf", "+inf", "LIMIT", "0", "1"}},
		{"zrem", []string{"ZREM", queue, "nobody"}},
		{"zremrangebyscore", []string{"ZREMRANGEBYSCORE", queue, "-inf", "+inf"}},
		{"del", []string{"DEL", key, queue}},
		{"publish", []string{"PUBLISH", channel, ""}},
		{"eval", []string{"EVAL", "return 1", "0"}},
		{"evalsha", []string{"EVALSHA", strings.Repeat("0", 40), "0"}}, // which is no script's
		{"client|setname", []string{"CLIENT", "SETNAME", "leasehold-doctor"}},
		{"client|getname", []string{"CLIENT", "GETNAME"}},
		{"client|tracking", []string{"CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP"}},
		{"client|caching", []string{"CLIENT", "CACHING", "NO"}},
		{"", []string{"CLIENT", "TRACKING", "OFF"}},
	}
}

// optional are the rights without which leases are safe and work, but slower.
var optional = map[string]string{
	"publish": "waiters are not told that it is their turn", "subscribe": "waiters are not told that it is their turn",
	"client|tracking": "changed keys are not told at once", "client|caching": "changed keys are not told at once",
	"zremrangebyscore": "clients that use other nodes go unnoticed",
}

// tryRights tries every command, key and channel that a client needs. It says which of them the
// user may not use, and what else keeps the server from writing. It reports whether the server
// answered.
func (d *doctor) tryRights(ctx context.Context, p *patient, info server.Info) bool {
	name := d.cfg.Supervisor.Prefix + d.cfg.Name
	queue := node.ReservedPrefix + "{" + name + "}:queue"
	channel := node.InboxChannel(rand.Text())
	list := rightsOn(name, queue, channel)
	var commands [][]string
	for _, r := range list {
		commands = append(commands, r.words)
	}
	// A script may touch the keys that it is given, and this one does not.
	keys := []string{name, queue, node.FenceKey(name), marker, grown, identity, clients}
	for _, key := range keys {
		commands = append(commands, []string{"EVAL", "return 1", "1", key})
	}
	answers, err := p.conn.Do(ctx, commands...)
	if err != nil {
		d.unreachable(p, err)
		return false
	}
	var missing, slower []string
	why := make(map[string]bool) // what the optional ones are for
	lack := func(right string) {
		if loss, is := optional[right]; is {
			slower, why[loss] = append(slower, "+"+right), true
		} else if right != "" {
			missing = append(missing, "+"+right)
		}
	}
	maySet, mayEval := true, true
	for i, r := range list {
		err := answers[i].Err()
		if err == nil || isClustered(err) {
			continue
		}
		switch denied := server.Denied(err); {
		case denied == "channel":
			slower, why[optional["publish"]] = append(slower, "&"+node.ReservedPrefix+"inbox:*"), true
		case denied == "key":
			// Keys are tried below.
		case denied == "command":
			lack(r.name)
			maySet, mayEval = maySet && r.name != "set", mayEval && r.name != "eval"
		case strings.Contains(err.Error(), "unknown command"), r.name == "zadd" && server.Begins(err, "syntax"):
			d.found(p, Version, Broken, "use Redis 6.2 or later, or a server that speaks the same", "it does not know %s as it is needed: %v", strings.ToUpper(r.name), err)
		case r.name == "set":
			d.cannotWrite(p, info, err)
		}
	}
	if mayEval {
		for i, key := range keys {
			if err := answers[len(list)+i].Err(); !server.Begins(err, "NOPERM") {
				continue
			}
			pattern := "~" + node.ReservedPrefix + "*"
			if key == name {
				if pattern = "~" + d.cfg.Supervisor.Prefix + "*"; d.cfg.Supervisor.Prefix == "" {
					pattern = "~" + name
				}
			}
			if !slices.Contains(missing, pattern) {
				missing = append(missing, pattern)
			}
		}
	}
	switch server.Denied(p.conn.Listen(ctx, channel)) {
	case "channel":
		if pattern := "&" + node.ReservedPrefix + "inbox:*"; !slices.Contains(slower, pattern) {
			slower, why[optional["publish"]] = append(slower, pattern), true
		}
	case "":
	default:
		lack("subscribe")
	}
	d.reconnect(ctx, p)
	if missing != nil {
		d.found(p, Rights, Broken, "ACL SETUSER the user "+strings.Join(missing, " "), "the user has no right to %s, and without it nothing can be acquired here", strings.Join(missing, " "))
	}
	if slower != nil {
		losses := slices.Sorted(maps.Keys(why))
		d.found(p, Rights, Warning, "ACL SETUSER the user "+strings.Join(slower, " "), "the user has no right to %s: %s", strings.Join(slower, " "), strings.Join(losses, ", "))
	}
	return p.conn != nil
}

// isClustered reports whether an error is one that a server gives because it is in cluster mode:
// that is reported already.
func isClustered(err error) bool {
	return server.Begins(err, "CLUSTERDOWN", "MOVED", "CROSSSLOT", "SELECT is not allowed")
}

// reconnect replaces the connection: one that has listened can do nothing else.
func (d *doctor) reconnect(ctx context.Context, p *patient) {
	p.conn.Close()
	conn, err := server.Dial(ctx, p.node, d.step)
	if p.conn = conn; err != nil {
		p.conn = nil
		d.unreachable(p, err)
	}
}

// cannotWrite adds the finding that says why a server refuses to write.
func (d *doctor) cannotWrite(p *patient, info server.Info, err error) {
	switch {
	case server.Begins(err, "READONLY"):
		if info["role"] == "master" {
			d.found(p, Role, Broken, "give the primary", "it writes nothing: %v", err)
		} // or it is reported already
	case server.Begins(err, "MISCONF"):
		d.found(p, Persistence, Broken, "make room on the disk, and look at the server's log; without need of persistence: CONFIG SET save '' or stop-writes-on-bgsave-error no",
			"it has stopped writing, because it cannot save: %v", err)
	case server.Begins(err, "OOM"):
		d.found(p, Memory, Broken, "raise maxmemory: a full server grants nothing", "it writes nothing: %v", err)
	case server.Begins(err, "NOREPLICAS"):
		d.found(p, Writes, Broken, "mend its replicas, or lower min-replicas-to-write", "it writes nothing: %v", err)
	default:
		d.found(p, Writes, Broken, "", "it writes nothing: %v", err)
	}
}

// readMarks reads what leasehold has left on a server: its identity, the longest TTL, and the nodes
// of other clients.
func (d *doctor) readMarks(ctx context.Context, p *patient, now time.Duration) {
	answers, err := p.conn.Do(ctx, []string{"GET", marker}, []string{"GET", identity},
		[]string{"ZRANGEBYSCORE", clients, "(" + strconv.FormatInt(now.Milliseconds(), 10), "+inf"})
	if err != nil {
		d.unreachable(p, err)
		return
	}
	if words := strings.Fields(answers[0].Text()); len(words) >= 3 {
		if ms, err := strconv.ParseInt(words[2], 10, 64); err == nil && ms > 0 {
			longest := time.Duration(ms) * time.Millisecond
			p.facts.MaxTTL = say.Span(longest)
			if longest > d.cap {
				d.found(p, LongestTTL, Broken, fmt.Sprintf("give all clients a MaxTTLCap (-max-ttl-cap) of at least %v", longest),
					"another client has a MaxTTL of %v, and MaxTTLCap is %v here: after a loss of data a lease of that client may get a second holder", longest, d.cap)
			}
		}
	}
	p.identity = answers[1].Text()
	for _, text := range answers[2].Strings() {
		if theirs, ok := node.ParseElectorate(text); ok {
			p.others, p.told = append(p.others, theirs), true
		}
	}
}

// young returns for how long nodes are young, if that made an acquisition fail; 0 otherwise.
func young(err error) time.Duration {
	if e := new(supervisor.AcquireError); errors.As(err, &e) {
		return e.Young()
	}
	return 0
}
