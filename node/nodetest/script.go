package nodetest

import (
	"crypto/sha1"
	"encoding/hex"
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
	script.Raise.SHA:   {script.Raise, raise},
	script.Inspect.SHA: {script.Inspect, inspect},
	script.Heal.SHA:    {script.Heal, heal},
	script.Enrol.SHA:   {script.Enrol, enrol},
}

func (n *Node) eval(args []string) any {
	sum := sha1.Sum([]byte(args[0]))
	sha := hex.EncodeToString(sum[:])
	keys, argv, e := scriptArgs(args)
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
	keys, argv, e := scriptArgs(args)
	if e != "" {
		return e
	}
	if !n.scripts[sha] {
		return failure("NOSCRIPT No matching script. Please use EVAL.")
	}
	return n.act(sha, keys, argv)
}

func scriptArgs(args []string) (keys, argv []string, e failure) {
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
	return args[:count], args[count:], ""
}

func (n *Node) act(sha string, keys, args []string) any {
	act := acts[sha]
	if len(keys)%act.Keys != 0 || len(args) != len(keys)/act.Keys*act.Args {
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

func renew(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	held := n.mget(keys).([]any)
	for i, key := range keys {
		is := n.holds(key, held[i], args[2*i])
		if is == script.Ours {
			if e, bad := n.pexpire([]string{key, args[2*i+1]}).(failure); bad {
				return e
			}
		}
		out = append(out, is)
	}
	return out
}

func release(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	held := n.mget(keys).([]any)
	var mine []string
	for i, key := range keys {
		is := n.holds(key, held[i], args[i])
		if is == script.Ours {
			mine = append(mine, key)
		}
		out = append(out, is)
	}
	n.del(mine)
	return out
}

func raise(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	for i := 0; 2*i < len(keys); i++ {
		name, fence := keys[2*i], keys[2*i+1]
		token, proposed, retention := args[3*i], args[3*i+1], args[3*i+2]
		is := n.holds(name, n.mget([]string{name}).([]any)[0], token)
		if e := n.lookup(fence); is == script.Ours && e != nil && e.set == nil {
			is = script.Broken
		}
		if is == script.Ours {
			if e, bad := n.zadd([]string{fence, "GT", proposed, script.Member}).(failure); bad {
				return e
			}
			if e, bad := n.pexpire([]string{fence, retention}).(failure); bad {
				return e
			}
		}
		out = append(out, is)
	}
	return out
}

func inspect(n *Node, keys, _ []string) any {
	out := n.time(nil).([]any)
	for i := 0; 2*i < len(keys); i++ {
		name, fence := keys[2*i], keys[2*i+1]
		held := n.mget([]string{name}).([]any)[0]
		is, value := int64(script.Ours), held
		if held == nil {
			is, value = n.holds(name, nil, ""), ""
		}
		stored := ""
		if f, ok := n.zscore([]string{fence, script.Member}).(float64); ok {
			stored = score(f)
		}
		out = append(out, is, value, n.pttl([]string{name}), stored)
	}
	return out
}

func heal(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	for i := 0; 2*i < len(keys); i++ {
		name, fence := keys[2*i], keys[2*i+1]
		token, ttl, proposed, retention := args[4*i], args[4*i+1], args[4*i+2], args[4*i+3]
		is := n.holds(name, n.mget([]string{name}).([]any)[0], token)
		switch e := n.lookup(fence); {
		case is == script.Ours:
			if e, bad := n.pexpire([]string{name, ttl}).(failure); bad {
				return e
			}
		case is == script.Other:
		case e != nil && e.set == nil:
			is = script.Broken
		default:
			for _, done := range []any{
				n.set([]string{name, token, "NX", "PX", ttl}),
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

func enrol(n *Node, keys, args []string) any {
	out := n.time(nil).([]any)
	held := n.get(keys)
	if e, bad := held.(failure); bad {
		return e
	}
	marker, ok := held.(string)
	if ok && strings.HasPrefix(marker, args[0]+" ") {
		return append(out, marker)
	}
	sec, _ := strconv.ParseInt(out[0].(string), 10, 64)
	usec, _ := strconv.ParseInt(out[1].(string), 10, 64)
	since := sec*1_000_000 + usec
	if !ok {
		ago, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return failure("ERR attempt to perform arithmetic on a string value")
		}
		since -= ago
	}
	marker = args[0] + " " + strconv.FormatInt(since, 10)
	n.set([]string{keys[0], marker})
	return append(out, marker)
}
