package nodetest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// acts are leasehold's scripts in Go, by the SHA of the text they stand for. Each
// calls the same commands as its text does, in the same order, so that an error
// in the midst leaves the same things done.
var acts = map[string]struct {
	script.Script
	run func(n *Node, keys, args []string) any
}{
	script.Renew.SHA:   {script.Renew, renew},
	script.Release.SHA: {script.Release, release},
	script.Leave.SHA:   {script.Leave, leave},
	script.Enqueue.SHA: {script.Enqueue, enqueue},
	script.Claim.SHA:   {script.Claim, claim},
	script.Raise.SHA:   {script.Raise, raise},
	script.Inspect.SHA: {script.Inspect, inspect},
	script.Heal.SHA:    {script.Heal, heal},
	script.Adopt.SHA:   {script.Adopt, adopt},
	script.Sign.SHA:    {script.Sign, sign},
	script.Enrol.SHA:   {script.Enrol, enrol},
}

func (n *Node) eval(args []string) any {
	sum := sha1.Sum([]byte(args[0]))
	sha := hex.EncodeToString(sum[:])
	keys, argv, e := n.scriptArgs(args)
	if e != "" {
		return e
	}
	if _, ok := acts[sha]; !ok {
		return failure("ERR nodetest knows only the scripts of leasehold")
	}
	n.scripts[sha] = true
	return n.act(sha, keys, argv)
}

func (n *Node) evalSHA(args []string) any {
	sha := strings.ToLower(args[0])
	keys, argv, e := n.scriptArgs(args)
	if e != "" {
		return e
	}
	if !n.scripts[sha] {
		return failure("NOSCRIPT No matching script. Please use EVAL.")
	}
	return n.act(sha, keys, argv)
}

func (n *Node) scriptArgs(args []string) (keys, argv []string, e failure) {
	count, err := strconv.Atoi(args[1])
	args = args[2:]
	switch {
	case err != nil:
		return nil, nil, errInt
	case count > len(args):
		return nil, nil, "ERR Number of keys can't be greater than number of args"
	case count < 0:
		return nil, nil, "ERR Number of keys can't be negative"
	}
	for _, key := range args[:count] {
		if n.slots && hashTag(key) != hashTag(args[0]) {
			return nil, nil, "CROSSSLOT Keys in request don't hash to the same slot"
		}
	}
	return args[:count], args[count:], ""
}

// hashTag is what the slot of a key is told by.
func hashTag(key string) string {
	if _, behind, ok := strings.Cut(key, "{"); ok {
		if tag, _, closed := strings.Cut(behind, "}"); closed && tag != "" {
			return tag
		}
	}
	return key
}

func (n *Node) act(sha string, keys, args []string) any {
	act := acts[sha]
	if len(keys)%act.Keys != 0 || len(args) != act.Call+len(keys)/act.Keys*act.Args {
		return plain("ERR the %s script was given %d keys and %d arguments", act.Name, len(keys), len(args))
	}
	v := act.run(n, keys, args)
	if e, bad := v.(failure); bad {
		return plain("%s script: %s, on @user_script:1.", e, sha)
	}
	return v
}

func (n *Node) scriptLoad(args []string) any {
	sum := sha1.Sum([]byte(args[0]))
	sha := hex.EncodeToString(sum[:])
	if _, ok := acts[sha]; !ok {
		return failure("ERR nodetest knows only the scripts of leasehold")
	}
	n.scripts[sha] = true
	return sha
}

func (n *Node) scriptExists(args []string) any {
	out := make([]any, len(args))
	for i, sha := range args {
		out[i] = int64(0)
		if n.scripts[strings.ToLower(sha)] {
			out[i] = int64(1)
		}
	}
	return out
}

func (n *Node) scriptFlush(args []string) any {
	if !flushMode(args) {
		return failure("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
	}
	clear(n.scripts)
	return status("OK")
}

// holds tells what a script says of a key, given what MGET said.
func (n *Node) holds(key string, held any, token string) int64 {
	switch {
	case held == token:
		return script.Ours
	case held != nil || n.exists([]string{key}) == int64(1):
		return script.Other
	}
	return script.Absent
}

// promised tells a reservation from the values of other clients.
var promised = regexp.MustCompile(`(?s)^\?.+/[0-9A-Za-z]+$`)

// renews tells what a script says of a key that keeps a lease or may be healed.
func (n *Node) renews(key string, held any, token string) int64 {
	if v, ok := held.(string); ok && v != token && promised.MatchString(v) {
		return script.Absent
	}
	return n.holds(key, held, token)
}

func renew(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	held := n.mget(keys).([]any)
	for i, key := range keys {
		is := n.renews(key, held[i], args[i+2])
		if is == script.Ours {
			if e, bad := n.pexpire([]string{key, args[1]}).(failure); bad {
				return e
			}
		}
		out = append(out, is)
	}
	if args[0] == "1" {
		n.mget(keys)
	}
	return out
}

// handOver reserves a key that is absent for the first living waiter.
func (n *Node) handOver(name, queue, self, reserve string) {
	now := n.ms()
	for range 100 {
		first, ok := n.zrangebyscore([]string{queue, "0", "+inf", "LIMIT", "0", "1"}).([]any)
		if !ok || len(first) == 0 {
			return
		}
		member := first[0].(string)
		id := member[min(1, len(member)):]
		inbox, token, named := strings.Cut(id, " ")
		until, _ := n.zscore([]string{queue, "l" + id}).(float64)
		if named && -until > float64(now) && (id == self || n.publish([]string{inbox, token}).(int64) > 0) {
			n.set([]string{name, script.Reserved(token), "PX", reserve})
			n.zadd([]string{queue, strconv.FormatInt(-now, 10), "l" + id})
			return
		}
		n.zrem([]string{queue, member, "l" + id})
	}
}

func (n *Node) ms() int64 { return n.wall().Milliseconds() }

// misused tells whether a key is there and is no sorted set.
func (n *Node) misused(key string) bool {
	e := n.lookup(key)
	return e != nil && e.set == nil
}

// ahead returns how many stand before a waiter, 0 if it does not wait.
func (n *Node) ahead(queue, waiter string) int64 {
	rank, _ := n.zrank([]string{queue, waiter}).(int64)
	beats, _ := n.zcount([]string{queue, "-inf", "(0"}).(int64)
	return max(0, rank-beats)
}

func release(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	names, queues := keys[:len(keys)/2], keys[len(keys)/2:]
	held := n.mget(names).([]any)
	var mine []string
	for i, key := range names {
		is := n.holds(key, held[i], args[i+1])
		if is == script.Ours {
			mine = append(mine, key)
		}
		out = append(out, is)
	}
	n.del(mine)
	if args[0] != "0" && n.exists(queues).(int64) > 0 {
		for i, name := range names {
			if out[i+2] != int64(script.Other) {
				n.handOver(name, queues[i], "", args[0])
			}
		}
	}
	return out
}

func leave(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	names, queues := keys[:len(keys)/2], keys[len(keys)/2:]
	held := n.mget(names).([]any)
	for i, name := range names {
		token := args[2*i+2]
		n.zrem([]string{queues[i], script.Waiter(args[0], token), script.Alive(args[0], token)})
		is := n.holds(name, held[i], token)
		if held[i] == script.Reserved(token) {
			is = script.Ours
		}
		if is == script.Ours && (held[i] != token || args[2*i+3] == "1") {
			n.del([]string{name})
		}
		if args[1] != "0" && n.lookup(name) == nil {
			n.handOver(name, queues[i], "", args[1])
		}
		out = append(out, is)
	}
	return out
}

func raise(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	names, fences := keys[:len(keys)/2], keys[len(keys)/2:]
	for i, name := range names {
		fence := fences[i]
		token, proposed, retention := args[3*i], args[3*i+1], args[3*i+2]
		is := n.holds(name, n.mget([]string{name}).([]any)[0], token)
		if is == script.Ours && n.misused(fence) {
			is = script.Broken
		}
		before := ""
		if is == script.Ours {
			before = n.fence(fence)
			if e, bad := n.zadd([]string{fence, "GT", proposed, script.Member}).(failure); bad {
				return e
			}
			if e, bad := n.pexpire([]string{fence, retention}).(failure); bad {
				return e
			}
		}
		out = append(out, is, before)
	}
	return out
}

func inspect(n *Node, keys, _ []string) any {
	out := n.time(nil).([]any)
	names := keys[:len(keys)/3]
	for i, name := range names {
		fence, queue := keys[len(names)+i], keys[2*len(names)+i]
		held := n.mget([]string{name}).([]any)[0]
		is, value := int64(script.Ours), held
		if held == nil {
			is, value = n.holds(name, nil, ""), ""
		}
		waiting, _ := n.zcount([]string{queue, "-inf", fmt.Sprintf("(%d", -n.ms())}).(int64)
		out = append(out, is, value, n.pttl([]string{name}), n.fence(fence), waiting)
	}
	return out
}

// fence returns the stored fence as scripts answer it.
func (n *Node) fence(key string) string {
	if f, ok := n.zscore([]string{key, script.Member}).(float64); ok {
		return score(f)
	}
	return ""
}

func enqueue(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	inbox, reserve := args[0], args[1]
	alive, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return failure("ERR attempt to perform arithmetic on a nil value")
	}
	names := keys[:len(keys)/3]
	for i, name := range names {
		fence, queue := keys[len(names)+i], keys[2*len(names)+i]
		token, ticket, place := args[3*i+3], args[3*i+4], ""
		if n.misused(queue) {
			out = append(out, int64(script.Broken), "", int64(-2), "", int64(0), "")
			continue
		}
		held := n.mget([]string{name}).([]any)[0]
		ahead := int64(0)
		if held != token {
			waiter := script.Waiter(inbox, token)
			if args[3*i+5] == "1" {
				ticket = n.behindAll(queue, waiter, ticket)
			}
			place = ticket
			until := strconv.FormatInt(-n.ms()-alive, 10)
			if e, bad := n.zadd([]string{queue, ticket, waiter, until, script.Alive(inbox, token)}).(failure); bad {
				return e
			}
			if n.pttl([]string{queue}).(int64) < alive {
				n.pexpire([]string{queue, args[2]})
			}
			if reserve != "0" && n.lookup(name) == nil {
				n.handOver(name, queue, inbox+" "+token, reserve)
				held = n.mget([]string{name}).([]any)[0]
			}
			ahead = n.ahead(queue, waiter)
		}
		is, value := int64(script.Other), held
		switch held {
		case nil:
			value = ""
		case token, script.Reserved(token):
			is = script.Ours
		}
		out = append(out, is, value, n.pttl([]string{name}), n.fence(fence), ahead, place)
	}
	return out
}

// behindAll returns the ticket of a new waiter, behind all that stand in the queue.
func (n *Node) behindAll(queue, waiter, ticket string) string {
	if mine, ok := n.zscore([]string{queue, waiter}).(float64); ok {
		return score(mine)
	}
	later, _ := n.between(queue, ticket, "+inf")
	if len(later) == 0 {
		return ticket
	}
	last, _ := n.zscore([]string{queue, later[len(later)-1]}).(float64)
	return score(last + 1)
}

func claim(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	names := keys[:len(keys)/3]
	for i, name := range names {
		fence, queue := keys[len(names)+i], keys[2*len(names)+i]
		token, ttl, proposed, retention := args[4*i+1], args[4*i+2], args[4*i+3], args[4*i+4]
		broken := n.misused(fence)
		var raised any
		if !broken {
			raised = n.zadd([]string{fence, "GT", "CH", proposed, script.Member})
			if e, bad := raised.(failure); bad {
				return e
			}
			if e, bad := n.pexpire([]string{fence, retention}).(failure); bad {
				return e
			}
		}
		if broken || n.misused(queue) {
			out = append(out, int64(script.Broken), "", int64(-2), "", int64(0), int64(0))
			continue
		}
		held := n.mget([]string{name}).([]any)[0]
		waiter := script.Waiter(args[0], token)
		is, value, left, ahead := int64(script.Ours), "", any(int64(-2)), int64(0)
		var done any
		switch {
		case held == token:
			done = n.pexpire([]string{name, ttl})
		case held == script.Reserved(token) || n.lookup(name) == nil:
			done = n.set([]string{name, token, "PX", ttl})
		default:
			is, left, ahead = script.Other, n.pttl([]string{name}), n.ahead(queue, waiter)
			value, _ = held.(string)
		}
		if e, bad := done.(failure); bad {
			return e
		}
		if is == script.Ours {
			n.zrem([]string{queue, waiter, script.Alive(args[0], token)})
		}
		out = append(out, is, value, left, n.fence(fence), ahead, raised)
	}
	return out
}

func heal(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	names, fences := keys[:len(keys)/2], keys[len(keys)/2:]
	for i, name := range names {
		fence := fences[i]
		token, ttl, proposed, retention := args[4*i], args[4*i+1], args[4*i+2], args[4*i+3]
		is := n.renews(name, n.mget([]string{name}).([]any)[0], token)
		switch {
		case is == script.Ours:
			if e, bad := n.pexpire([]string{name, ttl}).(failure); bad {
				return e
			}
		case is == script.Other:
		case n.misused(fence):
			is = script.Broken
		default:
			for _, done := range []any{
				n.set([]string{name, token, "PX", ttl}),
				n.zadd([]string{fence, "GT", proposed, script.Member}),
				n.pexpire([]string{fence, retention}),
			} {
				if e, bad := done.(failure); bad {
					return e
				}
			}
			is = script.Ours
		}
		out = append(out, is)
	}
	return out
}

func adopt(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	names, fences := keys[:len(keys)/2], keys[len(keys)/2:]
	for i, name := range names {
		fence := fences[i]
		token, former, ttl, proposed, retention := args[5*i], args[5*i+1], args[5*i+2], args[5*i+3], args[5*i+4]
		ms, err := strconv.ParseInt(ttl, 10, 64)
		if err != nil {
			return failure("ERR bad argument #1 to 'max' (number expected, got nil)")
		}
		held := n.mget([]string{name}).([]any)[0]
		left := n.pttl([]string{name})
		is, value, raised := n.holds(name, held, token), "", any(int64(0))
		switch {
		case is != script.Ours && held != former:
			value, _ = held.(string)
		case n.misused(fence):
			is, left = script.Broken, int64(-2)
		default:
			raised = n.zadd([]string{fence, "GT", "CH", proposed, script.Member})
			for _, done := range []any{
				raised,
				n.pexpire([]string{fence, retention}),
				n.set([]string{name, token, "PX", strconv.FormatInt(max(ms, left.(int64)), 10)}),
			} {
				if e, bad := done.(failure); bad {
					return e
				}
			}
			if is = script.Ours; held == token {
				left = int64(-2)
			}
		}
		out = append(out, is, value, left, n.fence(fence), raised)
	}
	return out
}

func sign(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	marker, grown, clients := keys[0], keys[1], keys[2]
	fingerprint, life := args[0], args[2]
	alive, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return failure("ERR attempt to perform arithmetic on a nil value")
	}
	if life != "" {
		held := n.get([]string{marker})
		if e, bad := held.(failure); bad {
			return e
		}
		if text, _ := held.(string); MayGrow(text, life) {
			n.set([]string{grown, life})
		}
	}
	now := n.ms()
	old, e := n.between(clients, "-inf", strconv.FormatInt(now, 10))
	if e != nil {
		return e
	}
	if len(old) > 0 {
		n.zrem(append([]string{clients}, old...))
	}
	n.zadd([]string{clients, "GT", strconv.FormatInt(now+alive, 10), fingerprint})
	if n.pttl([]string{clients}).(int64) < alive {
		n.pexpire([]string{clients, args[1]})
	}
	all, _ := n.between(clients, "-inf", "+inf")
	for i, text := range all {
		until, _ := n.zscore([]string{clients, text}).(float64)
		all[i] = text + " " + score(until)
	}
	return append(out, int64(script.Ours), strings.Join(all, "\n"))
}

func enrol(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	held := n.get(keys[:1])
	if e, bad := held.(failure); bad {
		return e
	}
	before, _ := held.(string)
	ours, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return failure("ERR attempt to compare number with nil")
	}
	marker, life := Mark(before, args[0], ours, n.wall().Microseconds())
	if marker != before {
		n.set([]string{keys[0], marker})
	}
	identity := n.get(keys[2:])
	if identity == nil {
		identity = args[2]
		n.set([]string{keys[2], args[2]})
	}
	if e, bad := identity.(failure); bad {
		return e
	}
	grown := n.get(keys[1:2])
	if e, bad := grown.(failure); bad {
		return e
	}
	is := int64(0)
	if grown == life {
		is = 1
	}
	return append(out, marker, is, identity)
}
