package nodetest

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/leasehold-go/leasehold/node/internal/script"
	"github.com/leasehold-go/leasehold/node/nodetest/keyspace"
)

// acts are leasehold's scripts in Go, by the SHA of the text that they stand for.
var acts = map[string]act{
	script.Renew.SHA:    {script.Renew, renew},
	script.RenewAll.SHA: {script.RenewAll, renew},
	script.Release.SHA:  {script.Release, release},
	script.Vacate.SHA:   {script.Vacate, vacate},
	script.Leave.SHA:    {script.Leave, leave},
	script.Raise.SHA:    {script.Raise, raise},
	script.Enqueue.SHA:  {script.Enqueue, enqueue},
	script.Claim.SHA:    {script.Claim, claim},
	script.Inspect.SHA:  {script.Inspect, inspect},
	script.Heal.SHA:     {script.Heal, heal},
	script.Adopt.SHA:    {script.Adopt, adopt},
	script.Sign.SHA:     {script.Sign, sign},
	script.Enrol.SHA:    {script.Enrol, enrol},
	script.Advance.SHA:  {script.Advance, advance},
}

// An act plays a script for one name: it is given the name's keys, the arguments of the
// call and those of the name, and appends what is answered for the name.
type act struct {
	script.Script
	run func(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error)
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
		if n.slots && script.Register(key) != script.Register(args[0]) { // their slots
			return nil, nil, "CROSSSLOT Keys in request don't hash to the same slot"
		}
	}
	return args[:count], args[count:], ""
}

func (n *Node) act(sha string, keys, args []string) any {
	act := acts[sha]
	if len(keys)%act.Keys != 0 || len(args) != act.Call+len(keys)/act.Keys*act.Args {
		return plain("ERR the %s script was given %d keys and %d arguments", act.Name, len(keys), len(args))
	}
	t := n.turn()
	out := n.time(nil).([]any)
	names := len(keys) / act.Keys
	call, args := args[:act.Call], args[act.Call:]
	if act.SHA == script.RenewAll.SHA {
		act, args = acts[script.Renew.SHA], tokens(call[2], call[3], names)
	}
	if act.SHA == script.Renew.SHA {
		out = append(out, int64(0))
	}
	for i := range names {
		of := make([]string, act.Keys)
		for k := range of {
			of[k] = keys[k*names+i]
		}
		before := len(out)
		var err error
		if out, err = act.run(t, out, of, call, args[i*act.Args:]); err != nil {
			return plain("%s script: %s, on @user_script:1.", err, sha)
		}
		if act.SHA == script.Renew.SHA {
			out = exceptions(out, before, i)
		}
	}
	if act.SHA == script.Renew.SHA && call[0] == "1" {
		n.mget(keys)
	}
	return out
}

// tokens returns those that one renewal has for all names.
func tokens(begin, rests string, names int) []string {
	all := make([]string, names)
	size := len(rests) / names
	for i := range all {
		all[i] = begin + rests[size*i:size*(i+1)]
	}
	return all
}

// exceptions turns what was said of the name with an index into what a renewal answers: how many
// are ours, and after that the others.
func exceptions(out []any, at, index int) []any {
	says := out[at]
	out = out[:at]
	if says == int64(script.Ours) {
		ours := &out[2+script.RenewOurs]
		*ours = (*ours).(int64) + 1
		return out
	}
	return append(out, int64(index+1), says)
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

func fenced(keys []string) *keyspace.Keys { return &keyspace.Keys{Name: keys[0], Fence: keys[1]} }
func given(keys []string) *keyspace.Keys {
	return &keyspace.Keys{Name: keys[0], Queue: keys[1], Fence: keys[2]}
}
func all(keys []string) *keyspace.Keys {
	return &keyspace.Keys{Name: keys[0], Fence: keys[1], Queue: keys[2]}
}

func renew(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error) {
	a, err := t.Renew(keys[0], args[0], millis(call[1]))
	return keeping(out, a), err
}

// keeping appends what two scripts answer alike: what an other's key holds, if that is a string.
func keeping(out []any, a keyspace.Answer) []any {
	if a.Value != "" {
		return append(out, a.Value)
	}
	return append(out, int64(a.Says))
}

func release(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error) {
	return append(out, int64(t.Release(given(keys), args[0], millis(call[0]), float(args[1])))), nil
}

func vacate(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error) {
	says, err := t.Vacate(&keyspace.Keys{Name: keys[0], Queue: keys[1]}, call[0], args[0], millis(args[1]))
	return append(out, int64(says)), err
}

func leave(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error) {
	return append(out, int64(t.Leave(given(keys), call[0], args[0], millis(call[1]), args[1] == "1", float(args[2])))), nil
}

func raise(t *keyspace.Turn, out []any, keys, _, args []string) ([]any, error) {
	says, before, err := t.Raise(fenced(keys), args[0], float(args[1]), millis(args[2]))
	return append(out, int64(says), keyspace.ScoreText(before)), err
}

// holding appends what four scripts answer alike.
func holding(out []any, a keyspace.Answer) []any {
	return append(out, int64(a.Says), a.Value, a.Left, keyspace.ScoreText(a.Fence))
}

func inspect(t *keyspace.Turn, out []any, keys, call, _ []string) ([]any, error) {
	a := t.Inspect(all(keys), call[0] == "1")
	return append(holding(out, a), int64(a.Ahead)), nil
}

func enqueue(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error) {
	a, err := t.Enqueue(all(keys), call[0], args[0], keyspace.Enqueuing{
		Ticket: float(args[1]), New: args[2] == "1", Reserve: millis(call[1]), Alive: millis(call[2]),
	})
	return append(holding(out, a), int64(a.Ahead), keyspace.ScoreText(a.Ticket), a.Until), err
}

func claim(t *keyspace.Turn, out []any, keys, call, args []string) ([]any, error) {
	a, err := t.Claim(all(keys), call[0], args[0], millis(args[1]), float(args[2]))
	return append(holding(out, a), int64(a.Ahead), count(a.Raised)), err
}

func heal(t *keyspace.Turn, out []any, keys, _, args []string) ([]any, error) {
	a, err := t.Heal(fenced(keys), args[0], millis(args[1]), float(args[2]), args[3])
	return keeping(out, a), err
}

func adopt(t *keyspace.Turn, out []any, keys, _, args []string) ([]any, error) {
	a, err := t.Adopt(fenced(keys), args[0], args[1], millis(args[2]), float(args[3]))
	return append(holding(out, a), count(a.Raised)), err
}

func sign(t *keyspace.Turn, out []any, keys, _, args []string) ([]any, error) {
	all, err := t.Sign(&keyspace.Own{Marker: keys[0], Grown: keys[1], Clients: keys[2]}, args[0], millis(args[1]), millis(args[3]), args[2])
	return append(out, int64(script.Ours), all), err
}

func enrol(t *keyspace.Turn, out []any, keys, _, args []string) ([]any, error) {
	e, err := t.Enrol(&keyspace.Own{Marker: keys[0], Grown: keys[1], Identity: keys[2]}, args[0], millis(args[1]), args[2])
	return append(out, e.Marker, count(e.Grown), e.Identity), err
}

func advance(t *keyspace.Turn, out []any, keys, _, args []string) ([]any, error) {
	says, err := t.Advance(&keyspace.Own{Marker: keys[0]}, args[0], args[1])
	return append(out, int64(says)), err
}
