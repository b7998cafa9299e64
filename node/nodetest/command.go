package nodetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A command is one that the node knows. Its functions need n.mu, and get the
// arguments after its name.
type command struct {
	min, max int // arguments; many if max is -1
	run      func(n *Node, s *session, args []string) any
}

const many = -1

var commands = map[string]command{
	"AUTH":            {1, 2, auth},
	"CLIENT CACHING":  {1, 1, clientCaching},
	"CLIENT CAPA":     {1, many, okay},
	"CLIENT GETNAME":  {0, 0, clientGetName},
	"CLIENT ID":       {0, 0, func(_ *Node, s *session, _ []string) any { return s.id }},
	"CLIENT NO-EVICT": {1, 1, okay},
	"CLIENT NO-TOUCH": {1, 1, okay},
	"CLIENT SETINFO":  {2, 2, okay},
	"CLIENT SETNAME":  {1, 1, clientSetName},
	"CLIENT TRACKING": {1, many, clientTracking},
	"DBSIZE":          {0, 0, func(n *Node, _ *session, _ []string) any { return int64(len(n.turn().Names())) }},
	"DEL":             {1, many, data((*Node).del)},
	"ECHO":            {1, 1, func(_ *Node, _ *session, args []string) any { return args[0] }},
	"EVAL":            {2, many, data((*Node).eval)},
	"EVALSHA":         {2, many, data((*Node).evalSHA)},
	"EXISTS":          {1, many, data((*Node).exists)},
	"FLUSHALL":        {0, 1, data((*Node).flush)},
	"FLUSHDB":         {0, 1, data((*Node).flush)},
	"GET":             {1, 1, data((*Node).get)},
	"HELLO":           {0, many, hello},
	"INFO":            {0, many, data((*Node).info)},
	"MGET":            {1, many, data((*Node).mget)},
	"PEXPIRE":         {2, 2, data((*Node).pexpire)},
	"PING":            {0, 1, ping},
	"PTTL":            {1, 1, data((*Node).pttl)},
	"PUBLISH":         {2, 2, data((*Node).publish)},
	"QUIT":            {0, many, okay},
	"SCRIPT EXISTS":   {1, many, data((*Node).scriptExists)},
	"SCRIPT FLUSH":    {0, 1, data((*Node).scriptFlush)},
	"SCRIPT LOAD":     {1, 1, data((*Node).scriptLoad)},
	"SELECT":          {1, 1, data((*Node).selectDB)},
	"SET":             {2, many, data((*Node).set)},
	"SUBSCRIBE":       {1, many, subscribe},
	"TIME":            {0, 0, data((*Node).time)},
	"TYPE":            {1, 1, data((*Node).typeOf)},
	"UNSUBSCRIBE":     {0, many, unsubscribe},
	"ZADD":            {3, many, data((*Node).zadd)},
	"ZCARD":           {1, 1, data((*Node).zcard)},
	"ZCOUNT":          {3, 3, data((*Node).zcount)},
	"ZRANGEBYSCORE":   {3, 6, data((*Node).zrangebyscore)},
	"ZRANK":           {2, 2, data((*Node).zrank)},
	"ZREM":            {2, many, data((*Node).zrem)},
	"ZSCORE":          {2, 2, data((*Node).zscore)},
}

// containers are the commands whose first argument belongs to their name.
var containers = map[string]bool{"CLIENT": true, "SCRIPT": true}

// data makes a command of a method that does not look at the connection.
func data(f func(n *Node, args []string) any) func(*Node, *session, []string) any {
	return func(n *Node, _ *session, args []string) any { return f(n, args) }
}

func okay(*Node, *session, []string) any { return status("OK") }

// commandName returns the name by which commands knows a request.
func commandName(args []string) string {
	name := strings.ToUpper(args[0])
	if containers[name] && len(args) > 1 {
		name += " " + strings.ToUpper(args[1])
	}
	return name
}

const (
	errSyntax = failure("ERR syntax error")
	errInt    = failure(keyspace.ErrInt)
)

func (n *Node) execute(s *session, name string, args []string) any {
	if n.password != "" && !s.known && name != "AUTH" && name != "HELLO" && name != "QUIT" {
		return failure("NOAUTH Authentication required.")
	}
	c, ok := commands[name]
	switch {
	case ok:
		args = args[1+strings.Count(name, " "):]
	case !containers[strings.ToUpper(args[0])]:
		var with strings.Builder
		for _, arg := range args[1:] {
			fmt.Fprintf(&with, "'%.128s' ", arg)
		}
		return plain("ERR unknown command '%.128s', with args beginning with: %s", args[0], with.String())
	case len(args) > 1:
		return plain("ERR unknown subcommand '%.128s'. Try %s HELP.", args[1], strings.ToUpper(args[0]))
	}
	if !ok || len(args) < c.min || c.max != many && len(args) > c.max {
		return plain("ERR wrong number of arguments for '%s' command", strings.ToLower(strings.ReplaceAll(name, " ", "|")))
	}
	if s.proto == 2 && len(s.channels) > 0 && !whileSubscribed[name] {
		return plain("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", strings.ToLower(name))
	}
	n.counts[name]++
	n.current = s
	v := c.run(n, s, args)
	n.current = nil
	if !strings.HasPrefix(name, "CLIENT ") {
		s.caching = false
	}
	return v
}

// whileSubscribed are the commands that a RESP2 connection may still send then.
var whileSubscribed = map[string]bool{"SUBSCRIBE": true, "UNSUBSCRIBE": true, "PING": true, "QUIT": true}

// plain returns an error of one line, whatever the client sent.
func plain(format string, args ...any) failure {
	return failure(strings.Map(func(r rune) rune {
		if r == '\r' || r == '\n' {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...)))
}

// Connections.

func (n *Node) logIn(s *session, user, password string) any {
	if user != "default" || n.password != "" && password != n.password {
		return failure("WRONGPASS invalid username-password pair or user is disabled.")
	}
	s.known = true
	return status("OK")
}

func auth(n *Node, s *session, args []string) any {
	if len(args) == 2 {
		return n.logIn(s, args[0], args[1])
	}
	if n.password == "" {
		return failure("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	}
	return n.logIn(s, "default", args[0])
}

func hello(n *Node, s *session, args []string) any {
	proto, name := s.proto, s.name
	if len(args) > 0 {
		p, err := strconv.Atoi(args[0])
		if err != nil {
			return failure("ERR Protocol version is not an integer or out of range")
		}
		if p != 2 && p != 3 {
			return failure("NOPROTO unsupported protocol version")
		}
		proto = p
		args = args[1:]
	}
	for len(args) > 0 {
		switch option := strings.ToUpper(args[0]); {
		case option == "AUTH" && len(args) > 2:
			if e, bad := n.logIn(s, args[1], args[2]).(failure); bad {
				return e
			}
			args = args[3:]
		case option == "SETNAME" && len(args) > 1:
			if !validName(args[1]) {
				return errName
			}
			name = args[1]
			args = args[2:]
		default:
			return plain("ERR Syntax error in HELLO option '%.128s'", args[0])
		}
	}
	if n.password != "" && !s.known {
		return failure("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	}
	s.proto, s.name = proto, name
	return pairs{
		"server", "redis", "version", version, "proto", int64(proto), "id", s.id,
		"mode", "standalone", "role", "master", "modules", []any{},
	}
}

const errName = failure("ERR Client names cannot contain spaces, newlines or special characters.")

func validName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' })
}

func clientSetName(_ *Node, s *session, args []string) any {
	if !validName(args[0]) {
		return errName
	}
	s.name = args[0]
	return status("OK")
}

func clientGetName(_ *Node, s *session, _ []string) any {
	if s.name == "" {
		return nil
	}
	return s.name
}

// Tracking.

func clientTracking(_ *Node, s *session, args []string) any {
	var optin, noloop bool
	for _, option := range args[1:] {
		switch strings.ToUpper(option) {
		case "OPTIN":
			optin = true
		case "NOLOOP":
			noloop = true
		default:
			return errSyntax
		}
	}
	switch strings.ToUpper(args[0]) {
	case "ON":
		s.tracking, s.optin, s.noloop = true, optin, noloop
	case "OFF":
		s.tracking = false
	default:
		return errSyntax
	}
	return status("OK")
}

func clientCaching(_ *Node, s *session, args []string) any {
	if !s.tracking || !s.optin {
		return failure("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	}
	if !strings.EqualFold(args[0], "YES") {
		return errSyntax
	}
	s.caching = true
	return status("OK")
}

// changed tells the sessions that have read a key, and tracks it no more.
func (n *Node) changed(key string) {
	of := n.tracked[key]
	delete(n.tracked, key)
	for s := range of {
		if s != n.current || !s.noloop {
			n.invalidate(s, []any{key})
		}
	}
}

func (n *Node) flushed() {
	n.space = keyspace.Space{}
	clear(n.tracked)
	for s := range n.sessions {
		if s.tracking {
			n.invalidate(s, nil)
		}
	}
}

func (n *Node) invalidate(s *session, keys any) {
	if s.proto == 3 && !s.gone && !s.last {
		n.push(s, push{"invalidate", keys})
	}
}

func ping(_ *Node, s *session, args []string) any {
	if s.proto == 2 && len(s.channels) > 0 {
		return []any{"pong", strings.Join(args, "")}
	}
	if len(args) == 1 {
		return args[0]
	}
	return status("PONG")
}

// Messages.

func subscribe(_ *Node, s *session, args []string) any {
	var out each
	for _, channel := range args {
		s.channels[channel] = true
		out = append(out, push{"subscribe", channel, int64(len(s.channels))})
	}
	return out
}

func unsubscribe(_ *Node, s *session, args []string) any {
	if len(args) == 0 {
		args = slices.Sorted(maps.Keys(s.channels))
	}
	var out each
	for _, channel := range args {
		delete(s.channels, channel)
		out = append(out, push{"unsubscribe", channel, int64(len(s.channels))})
	}
	if out == nil {
		out = each{push{"unsubscribe", nil, int64(0)}}
	}
	return out
}

// publish counts those to whom the message is on its way. A client that is cut off is
// one of them: the server does not know.
func (n *Node) publish(args []string) any { return int64(n.tell(args[0], args[1])) }

func (n *Node) tell(channel, message string) (reached int) {
	for _, s := range slices.SortedFunc(maps.Keys(n.sessions), func(a, b *session) int { return cmp.Compare(a.id, b.id) }) {
		if s.channels[channel] && !s.gone && !s.last {
			n.push(s, push{"message", channel, message})
			reached++
		}
	}
	return reached
}

func (n *Node) selectDB(args []string) any {
	db, err := strconv.Atoi(args[0])
	switch {
	case err != nil:
		return errInt
	case db != 0:
		return failure("ERR DB index is out of range")
	}
	return status("OK")
}

// The server.

const version = "7.2.0"

// epoch is the time of day at the instant 0 of the nodes' clock: so TIME tells the time of day, as a real
// server does. In a bubble that is the bubble's.
var epoch = func() time.Duration {
	c := clock.Runtime()
	timer := c.NewTimer(0)
	defer timer.Stop()
	now := <-timer.C()
	return time.Duration(now.UnixNano() - int64(c.Now())).Truncate(time.Millisecond)
}()

func (n *Node) time([]string) any {
	us := n.wall().Microseconds()
	return []any{strconv.FormatInt(us/1e6, 10), strconv.FormatInt(us%1e6, 10)}
}

// uptime is in seconds, from two times that are cut to seconds, as on a real server.
func (n *Node) uptime() int64 {
	return int64(n.wall()/time.Second) - int64((epoch+time.Duration(n.born))/time.Second)
}

// wall is what the node's clock shows.
func (n *Node) wall() time.Duration { return epoch + time.Duration(n.now()) }

func (n *Node) info(args []string) any {
	all := len(args) == 0
	mode := map[bool]string{false: "standalone", true: "cluster"}[n.cluster]
	var sections []string
	for _, of := range []struct{ name, text string }{
		{"server", fmt.Sprintf("# Server\r\nredis_version:%s\r\nredis_mode:%s\r\nrun_id:%s\r\nserver_time_usec:%d\r\nuptime_in_seconds:%d\r\n",
			version, mode, n.id("run"), n.wall().Microseconds(), n.uptime())},
		{"memory", "# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"},
		{"replication", fmt.Sprintf("# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:%s\r\nmaster_replid2:%040d\r\n",
			n.id("replication"), 0)},
		{"cluster", "# Cluster\r\ncluster_enabled:0\r\n"},
	} {
		if all || slices.ContainsFunc(args, func(arg string) bool {
			arg = strings.ToLower(arg)
			return arg == of.name || arg == "all" || arg == "default" || arg == "everything"
		}) {
			sections = append(sections, of.text)
		}
	}
	return verbatim(strings.Join(sections, "\r\n"))
}

func (n *Node) flush(args []string) any {
	if !flushMode(args) {
		return errSyntax
	}
	n.flushed()
	return status("OK")
}

func flushMode(args []string) bool {
	return len(args) == 0 || strings.EqualFold(args[0], "SYNC") || strings.EqualFold(args[0], "ASYNC")
}
