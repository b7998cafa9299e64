package nodetest

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// A server is the node as its keys see it.
type server Node

func (s *server) Publish(channel, message string) int { return (*Node)(s).tell(channel, message) }
func (s *server) Changes(key string)                  { (*Node)(s).changed(key) }
func (s *server) Expires(key string)                  { (*Node)(s).changed(key) }

// Reads has the session hear of the next change of a key, if it tracks what it reads.
func (s *server) Reads(key string) {
	if c := s.current; c != nil && c.tracking && (c.caching || !c.optin) {
		if s.tracked[key] == nil {
			s.tracked[key] = make(map[*session]bool)
		}
		s.tracked[key][c] = true
	}
}

// turn lets a command work on the keys. It needs n.mu.
func (n *Node) turn() *keyspace.Turn {
	return &keyspace.Turn{Space: &n.space, Server: (*server)(n), Now: n.wall()}
}

// said returns what a command answers that may have failed.
func said(v any, err error) any {
	if err == nil {
		return v
	}
	var e keyspace.Error
	if !errors.As(err, &e) {
		panic(err)
	}
	return failure(e)
}

// millis reads a number of milliseconds, and float a score; what cannot be read the
// command refuses when it comes to that.
func millis(s string) int64 {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return ms
	}
	return keyspace.Bad
}

func float(s string) float64 {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f
	}
	return keyspace.NoScore()
}

// scored is how a score is answered that may be none.
func scored(f float64) any {
	if keyspace.IsScore(f) {
		return f
	}
	return nil
}

func (n *Node) get(args []string) any {
	switch text, is := n.turn().Text(args[0]); is {
	case keyspace.String:
		return text
	case keyspace.SortedSet:
		return failure(keyspace.ErrType)
	}
	return nil
}

func (n *Node) mget(args []string) any {
	out := make([]any, len(args))
	for i, key := range args {
		if text, is := n.turn().Text(key); is == keyspace.String {
			out[i] = text
		}
	}
	return out
}

// A setting is the options of SET.
type setting struct {
	nx, xx, get, keep bool
	ms                int64 // 0 for no end
}

// read reads the first of the options that are left.
func (o *setting) read(args []string) (rest []string, e failure) {
	expires := o.ms != 0 || o.keep
	switch option := strings.ToUpper(args[0]); {
	case option == "NX" && !o.xx:
		o.nx = true
	case option == "XX" && !o.nx:
		o.xx = true
	case option == "GET":
		o.get = true
	case option == "KEEPTTL" && o.ms == 0:
		o.keep = true
	case option == "PX" && !expires && len(args) > 1:
		return args[2:], o.expire(args[1], 1)
	case option == "EX" && !expires && len(args) > 1:
		return args[2:], o.expire(args[1], 1000)
	default:
		return nil, errSyntax
	}
	return args[1:], ""
}

func (o *setting) expire(text string, unit int64) failure {
	v := millis(text)
	switch {
	case v == keyspace.Bad:
		return errInt
	case v <= 0 || v > math.MaxInt64/unit/2: // not so many that the sum with TIME has no room
		return failure(keyspace.ErrSetExpire)
	}
	o.ms = v * unit
	return ""
}

func (n *Node) set(args []string) any {
	key, text := args[0], args[1]
	var o setting
	for args = args[2:]; len(args) > 0; {
		var e failure
		if args, e = o.read(args); e != "" {
			return e
		}
	}
	t := n.turn()
	_, ends, there := t.Peek(key)
	var answer any = status("OK")
	if o.get {
		if answer = n.get([]string{key}); answer == failure(keyspace.ErrType) {
			return answer
		}
	}
	switch {
	case o.nx && there || o.xx && !there:
		if !o.get {
			return nil
		}
		return answer
	case o.ms > 0:
		ends = t.Now.Milliseconds() + o.ms
	case !o.keep || !there:
		ends = keyspace.Never
	}
	t.Set(key, text, ends)
	return answer
}

func (n *Node) del(keys []string) any {
	deleted := int64(0)
	for _, key := range keys {
		if n.turn().Del(key) {
			deleted++
		}
	}
	return deleted
}

func (n *Node) exists(keys []string) any {
	found := int64(0)
	for _, key := range keys {
		if n.turn().Kind(key) != keyspace.None {
			found++
		}
	}
	return found
}

func (n *Node) typeOf(args []string) any {
	return map[keyspace.Kind]status{keyspace.None: "none", keyspace.String: "string", keyspace.SortedSet: "zset"}[n.turn().Kind(args[0])]
}

func (n *Node) pttl(args []string) any { return n.turn().PTTL(args[0]) }

func (n *Node) pexpire(args []string) any {
	set, err := n.turn().PExpire(args[0], millis(args[1]))
	return said(count(set), err)
}

// count is how an integer tells whether something was done.
func count(done bool) int64 {
	if done {
		return 1
	}
	return 0
}

// adding reads the options of ZADD, and returns what follows them.
func adding(args []string) (how keyspace.Add, changes bool, rest []string, e failure) {
	for ; len(args) > 0; args = args[1:] {
		switch strings.ToUpper(args[0]) {
		case "NX":
			how.NX = true
			continue
		case "XX":
			how.XX = true
			continue
		case "GT":
			how.GT = true
			continue
		case "LT":
			how.LT = true
			continue
		case "CH":
			changes = true
			continue
		}
		break
	}
	switch {
	case len(args) == 0 || len(args)%2 == 1:
		e = errSyntax
	case how.NX && how.XX:
		e = "ERR XX and NX options at the same time are not compatible"
	case how.NX && (how.GT || how.LT) || how.GT && how.LT:
		e = "ERR GT, LT, and/or NX options at the same time are not compatible"
	}
	return how, changes, args, e
}

func (n *Node) zadd(args []string) any {
	how, changes, rest, e := adding(args[1:])
	if e != "" {
		return e
	}
	var members []keyspace.Member
	for ; len(rest) > 0; rest = rest[2:] {
		members = append(members, keyspace.Member{Name: rest[1], Score: float(rest[0])})
	}
	added, changed, err := n.turn().ZAdd(args[0], how, members...)
	if changes {
		added += changed
	}
	return said(int64(added), err)
}

func (n *Node) zscore(args []string) any {
	f, err := n.turn().ZScore(args[0], args[1])
	return said(scored(f), err)
}

func (n *Node) zrem(args []string) any {
	removed, err := n.turn().ZRem(args[0], args[1:]...)
	return said(int64(removed), err)
}

func (n *Node) zcard(args []string) any {
	set, err := n.turn().Members(args[0])
	return said(int64(len(set)), err)
}

func (n *Node) zrank(args []string) any {
	switch i, err := n.turn().ZRank(args[0], args[1]); {
	case err == nil && i < 0:
		return nil
	default:
		return said(int64(i), err)
	}
}

// between returns the members of a key whose scores are within a range.
func (n *Node) between(key, low, high string) ([]keyspace.Member, error) {
	bound := func(s string) keyspace.Bound {
		s, open := strings.CutPrefix(s, "(")
		return keyspace.Bound{Score: float(s), Open: open}
	}
	return n.turn().Between(key, bound(low), bound(high))
}

func (n *Node) zcount(args []string) any {
	members, err := n.between(args[0], args[1], args[2])
	return said(int64(len(members)), err)
}

func (n *Node) zrangebyscore(args []string) any {
	offset, count := 0, -1
	if rest := args[3:]; len(rest) > 0 {
		if len(rest) != 3 || !strings.EqualFold(rest[0], "LIMIT") {
			return errSyntax
		}
		var err, err2 error
		offset, err = strconv.Atoi(rest[1])
		count, err2 = strconv.Atoi(rest[2])
		if err != nil || err2 != nil {
			return errInt
		}
	}
	members, err := n.between(args[0], args[1], args[2])
	out := []any{}
	for i, m := range members {
		if offset >= 0 && i >= offset && (count < 0 || i < offset+count) {
			out = append(out, m.Name)
		}
	}
	return said(out, err)
}
