package conform

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node/internal/script"
)

// rows are commands and their answers, as text writes them, one after the other
// on one server. An answer in tildes is to contain what is between them. A row
// that needs what the target lacks is left out.
var rows = []struct {
	command []string
	want    string
	needs   Feature
}{
	{is("PING"), "PONG", ""},
	{is("PING", "hi"), "hi", ""},
	{is("ping", "a", "b"), "-ERR", ""},
	{is("ECHO", "a b"), "a b", ""},
	{is("SELECT", "0"), "OK", ""},
	{is("SELECT", "99"), "-ERR", Strictness},
	{is("SELECT", "x"), "-ERR", ""},
	{is("NONSENSE", "1"), "-ERR", ""},
	{is("CLIENT"), "-ERR", ""},
	{is("CLIENT", "NONSENSE"), "-ERR", ""},
	{is("CLIENT", "GETNAME"), "nil", ""},
	{is("CLIENT", "SETNAME", "a b"), "-ERR", ""},
	{is("CLIENT", "SETNAME"), "-ERR", ""},
	{is("CLIENT", "SETNAME", "leasehold-abc"), "OK", ""},
	{is("client", "getname"), "leasehold-abc", ""},
	{is("CLIENT", "NO-EVICT", "ON"), "OK", NoEvict},
	{is("AUTH", "wrong"), "-ERR", ""},
	{is("INFO", "server"), "~run_id:~", Info},
	{is("INFO", "server"), "~uptime_in_seconds:~", Info},
	{is("INFO", "server"), "~server_time_usec:~", Info},
	{is("INFO", "server"), "~redis_version:~", Info},
	{is("INFO", "replication"), "~role:master~", Info},
	{is("INFO", "replication"), "~master_replid:~", Info},
	{is("INFO", "replication"), "~master_replid2:0000000000000000000000000000000000000000~", Info},
	{is("INFO", "nonsense"), "", Info},

	{is("SET", "a", "1"), "OK", ""},
	{is("GET", "a"), "1", ""},
	{is("get", "a"), "1", ""},
	{is("GET"), "-ERR", ""},
	{is("GET", "a", "b"), "-ERR", ""},
	{is("GET", "none"), "nil", ""},
	{is("SET", "a", "2", "NX"), "nil", ""},
	{is("SET", "a", "2", "nx", "px", "1000"), "nil", ""},
	{is("PTTL", "a"), ":-1", ""},
	{is("SET", "a", "2", "XX"), "OK", ""},
	{is("SET", "none", "2", "XX"), "nil", ""},
	{is("SET", "a", "3", "GET"), "2", ""},
	{is("SET", "none", "3", "XX", "GET"), "nil", ""},
	{is("SET", "a", "4", "NX", "GET"), "3", ""},
	{is("SET", "a", "4", "NX", "XX"), "-ERR", Strictness},
	{is("SET", "a", "4", "PX"), "-ERR", ""},
	{is("SET", "a", "4", "PX", "0"), "-ERR", ""},
	{is("SET", "a", "4", "PX", "-1"), "-ERR", ""},
	{is("SET", "a", "4", "PX", "x"), "-ERR", ""},
	{is("SET", "a", "4", "PX", "5", "EX", "5"), "-ERR", ""},
	{is("SET", "a", "4", "NONSENSE"), "-ERR", ""},
	{is("GET", "a"), "3", ""},
	{is("SET", "e", "1", "EX", "100"), "OK", ""},
	{is("PTTL", "e"), "~:~", ""},
	{is("SET", "e", "1", "KEEPTTL"), "OK", ""},
	{is("PEXPIRE", "e", "100000"), ":1", ""},
	{is("SET", "e", "1"), "OK", ""},
	{is("PTTL", "e"), ":-1", ""},
	{is("PTTL", "none"), ":-2", ""},
	{is("PEXPIRE", "none", "100"), ":0", ""},
	{is("PEXPIRE", "e", "x"), "-ERR", ""},
	{is("PEXPIRE", "e", "0"), ":1", ""},
	{is("EXISTS", "e"), ":0", ""},
	{is("TYPE", "e"), "none", ""},
	{is("TYPE", "a"), "string", ""},

	{is("ZADD", "a", "1", "f"), "-WRONGTYPE", ""},
	{is("ZSCORE", "a", "f"), "-WRONGTYPE", ""},
	{is("ZSCORE", "none", "f"), "nil", ""},
	{is("ZADD", "z", "GT", "CH", "5", "f"), ":1", ""},
	{is("ZADD", "z", "GT", "CH", "5", "f"), ":0", ""},
	{is("ZADD", "z", "GT", "CH", "4", "f"), ":0", ""},
	{is("ZSCORE", "z", "f"), "5", ""},
	{is("ZADD", "z", "GT", "CH", "6", "f"), ":1", ""},
	{is("ZADD", "z", "GT", "7", "f"), ":0", ""},
	{is("ZSCORE", "z", "f"), "7", ""},
	{is("ZSCORE", "z", "g"), "nil", ""},
	{is("ZADD", "z", "NX", "9", "f", "2", "g"), ":1", ""},
	{is("ZADD", "z", "XX", "CH", "8", "f", "3", "h"), ":1", ""},
	{is("ZADD", "z", "LT", "CH", "9", "f"), ":0", ""},
	{is("ZADD", "z", "CH", "8", "f"), ":0", ""},
	{is("ZSCORE", "z", "f"), "8", ""},
	{is("ZADD", "z", "GT", "NX", "9", "f"), "-ERR", ""},
	{is("ZADD", "z", "NX", "XX", "9", "f"), "-ERR", ""},
	{is("ZADD", "z", "x", "f"), "-ERR", ""},
	{is("ZADD", "z", "nan", "f"), "-ERR", Strictness},
	{is("ZADD", "z", "1"), "-ERR", ""},
	{is("ZADD", "z", "1", "f", "2"), "-ERR", ""},
	{is("ZADD", "z", "9007199254740991", "f"), ":0", ""},
	{is("ZSCORE", "z", "f"), "9007199254740991", ""},
	{is("ZADD", "z", "0.5", "f"), ":0", ""},
	{is("ZSCORE", "z", "f"), "0.5", ""},
	{is("TYPE", "z"), "zset", ""},
	{is("ZADD", "q", "5", "b", "5", "a", "-7", "c", "9", "d"), ":4", ""},
	{is("ZCARD", "q"), ":4", ""},
	{is("ZCARD", "none"), ":0", ""},
	{is("ZCARD", "a"), "-WRONGTYPE", ""},
	{is("ZRANK", "q", "b"), ":2", ""},
	{is("ZRANK", "q", "x"), "nil", ""},
	{is("ZRANK", "none", "x"), "nil", ""},
	{is("ZRANK", "a", "x"), "-WRONGTYPE", ""},
	{is("ZCOUNT", "q", "-inf", "(0"), ":1", ""},
	{is("ZCOUNT", "q", "(5", "+inf"), ":1", ""},
	{is("ZCOUNT", "q", "5", "9"), ":3", ""},
	{is("ZCOUNT", "q", "x", "9"), "-ERR", ""},
	{is("ZCOUNT", "none", "0", "1"), ":0", ""},
	{is("ZCOUNT", "a", "0", "1"), "-WRONGTYPE", ""},
	{is("ZRANGEBYSCORE", "q", "0", "+inf", "LIMIT", "0", "1"), "[a]", ""},
	{is("ZRANGEBYSCORE", "q", "0", "+inf", "LIMIT", "1", "-1"), "[b d]", ""},
	{is("ZRANGEBYSCORE", "q", "-inf", "(5"), "[c]", ""},
	{is("ZRANGEBYSCORE", "q", "10", "20"), "[]", ""},
	{is("ZRANGEBYSCORE", "none", "0", "1"), "[]", ""},
	{is("ZRANGEBYSCORE", "a", "0", "1"), "-WRONGTYPE", ""},
	{is("ZREM", "a", "x"), "-WRONGTYPE", ""},
	{is("ZREM", "none", "x"), ":0", ""},
	{is("ZREM", "q", "a", "x", "c"), ":2", ""},
	{is("ZREM", "q", "b", "d"), ":2", ""},
	{is("EXISTS", "q"), ":0", ""},
	{is("PUBLISH", "nobody", "x"), ":0", ""},
	{is("GET", "z"), "-WRONGTYPE", ""},
	{is("SET", "z", "1", "NX"), "nil", ""},
	{is("SET", "z", "1", "GET"), "-WRONGTYPE", ""},
	{is("MGET", "a", "z", "none", "a"), "[3 nil nil 3]", ""},
	{is("EXISTS", "a", "a", "z", "none"), ":3", ""},
	{is("DBSIZE"), ":2", ""},
	{is("DEL"), "-ERR", ""},
	{is("DEL", "a", "none", "a"), ":1", ""},
	{is("SET", "z", "1"), "OK", ""},
	{is("GET", "z"), "1", ""},

	{is("EVALSHA", strings.Repeat("0", 40), "0"), "-NOSCRIPT", ""},
	{is("EVALSHA", "short", "0"), "-NOSCRIPT", ""},
	{is("EVALSHA", script.Release.SHA, "-1"), "-ERR", Strictness},
	{is("EVALSHA", script.Release.SHA, "x"), "-ERR", Strictness},
	{is("EVALSHA", script.Release.SHA, "2", "a"), "-ERR", Strictness},
	{is("SCRIPT", "EXISTS", script.Release.SHA), "[:0]", ""},
	{is("EVALSHA", script.Release.SHA, "3", "z", "zq", "zf", "0", "1", "0"), "-NOSCRIPT", ""},
	{is("SCRIPT", "LOAD", script.Release.Text), script.Release.SHA, ""},
	{is("SCRIPT", "EXISTS", script.Release.SHA, script.Renew.SHA), "[:1 :0]", ""},
	{is("EVALSHA", strings.ToUpper(script.Release.SHA), "3", "z", "zq", "zf", "0", "2", "0"), "~ :2]~", Strictness},
	{is("EVALSHA", script.Release.SHA, "9", "z", "none", "z", "zq", "nq", "zq", "zf", "nf", "zf", "9", "2", "0", "1", "0", "1", "0"), "~ :2 :0 :1]~", ""},
	{is("EVALSHA", script.Release.SHA, "3", "z", "zq", "zf", "9", "1", "0"), "~ :0]~", ""},
	{is("EVALSHA", script.Renew.SHA, "1", "z", "0", "1000", "1"), "-NOSCRIPT", ""},
	{is("SET", "k", "t"), "OK", ""},
	{is("EVAL", script.Renew.Text, "2", "k", "none", "0", "x", "t", "t"), "-ERR", ""},
	{is("EVAL", script.Renew.Text, "2", "k", "none", "1", "100000", "t", "t"), "~ :1 :2 :0]~", ""},
	{is("EVALSHA", script.Renew.SHA, "1", "k", "0", "1000", "u"), "~ :0 :1 =t]~", ""},
	{is("EVAL", script.RenewAll.Text, "2", "k", "none", "0", "x", "", "tt"), "-ERR", ""},
	{is("EVAL", script.RenewAll.Text, "2", "k", "none", "1", "100000", "", "tt"), "~ :1 :2 :0]~", ""},
	{is("EVALSHA", script.RenewAll.SHA, "2", "k", "none", "0", "1000", "t", ""), "~ :1 :2 :0]~", ""},
	{is("EVALSHA", script.RenewAll.SHA, "1", "k", "0", "1000", "t", "u"), "~ :0 :1 =t]~", ""},
	{is("EVAL", script.Raise.Text, "2", "k", "kf", "t", "x", "0"), "-ERR", ""},
	{is("EXISTS", "kf"), ":0", ""},
	{is("GET", "k"), "t", ""},
	{is("EVAL", script.Raise.Text, "2", "k", "kf", "t", "8", "0"), "~ :1 ]~", ""},
	{is("GET", "k"), "t+8", ""},
	{is("ZSCORE", "kf", script.Member), "8", ""},
	{is("EVAL", script.Raise.Text, "4", "k", "none", "kf", "kf", "t", "7", "0", "t", "9", "0"), "~ :1 8 :0 ]~", ""},
	{is("ZSCORE", "kf", script.Member), "8", ""},
	{is("SET", "k", "t"), "OK", ""},
	{is("EVAL", script.Inspect.Text, "6", "k", "none", "kf", "none", "none", "none", "0"), "~ :1 t :-1 8 :0 :0  :-2  :0]~", ""},
	{is("EVAL", script.Inspect.Text, "3", "kf", "none", "none", "0"), "~ :2  :~", ""},
	{is("EVAL", script.Inspect.Text, "3", "k", "k", "k", "0"), "~ :1 t :-1  :0]~", ""},
	{is("EVAL", script.Inspect.Text, "9", "k", "none", "kf", "kf", "none", "none", "kf", "none", "k", "1"), "~ :1 t :-2  :0 :0  :-2  :0 :2  :-2  :0]~", ""},

	// A queue: nothing is handed over where a reservation is to last 0, by a young node.
	{is("EVAL", script.Enqueue.Text, "3", "n", "nf", "nq", "in", "0", "100000", "t", "7", "0"), "~ :2  :-2  :0 7 :~", ""},
	{is("ZRANGEBYSCORE", "nq", "0", "+inf"), "[win t]", ""},
	{is("EVAL", script.Inspect.Text, "3", "n", "nf", "nq", "0"), "~ :0  :-2  :1]~", ""},
	{is("EVAL", script.Inspect.Text, "6", "n", "k", "nf", "kf", "nq", "nq", "1"), "~ :0  :-2  :0 :1 t :-2  :1]~", ""},
	{is("EVAL", script.Release.Text, "3", "n", "nq", "nf", "0", "u", "0"), "~ :0]~", ""},
	{is("EVAL", script.Leave.Text, "3", "n", "nq", "nf", "in", "0", "u", "0", "0"), "~ :0]~", ""},
	{is("GET", "n"), "nil", ""},
	{is("ZCARD", "nq"), ":2", ""},
	{is("EVAL", script.Enqueue.Text, "3", "n", "nf", "nq", "in", "100000", "100000", "t", "6", "1"), "~ :1 ?t :~", ""},
	{is("GET", "n"), "?t", ""},
	{is("EVAL", script.Leave.Text, "3", "n", "nq", "nf", "in", "0", "t", "0", "0"), "~ :1]~", ""},
	{is("EXISTS", "n", "nq"), ":0", ""},
	{is("EVAL", script.Raise.Text, "2", "k", "k", "t", "7", "0"), "~ :3~", ""},

	// An adoption: of the former token, again, of another's, absent, another type, and with
	// a fence that cannot be kept.
	{is("SET", "k", "t"), "OK", ""},
	{is("DEL", "kf"), ":1", ""},
	{is("EVAL", script.Adopt.Text, "2", "k", "kf", "u", "t", "100000", "8"), "~ :1  :-1 8 :1]~", ""},
	{is("GET", "k"), "u+8", ""},
	{is("EVAL", script.Adopt.Text, "2", "k", "kf", "u", "t", "100000", "9"), "~ :1  :-2 9 :1]~", ""},
	{is("EVAL", script.Adopt.Text, "2", "k", "kf", "v", "u", "100000", "7"), "~ 9 :0]~", ""},
	{is("GET", "k"), "v+7", ""},
	{is("SET", "k", "v"), "OK", ""},
	{is("EVAL", script.Adopt.Text, "4", "k", "none", "kf", "none", "w", "u", "100000", "99", "w", "u", "100000", "99"), "~ :2 v :-1 9 :0 :0  :-2  :0]~", ""},
	{is("ZSCORE", "kf", script.Member), "9", ""},
	// What the former holder counts on is not shortened.
	{is("SET", "long", "t", "PX", "199999"), "OK", ""},
	{is("EVAL", script.Adopt.Text, "2", "long", "kf", "u", "t", "10", "9"), "~ :1  :~", ""},
	{is("EVAL", script.Adopt.Text, "2", "long", "kf", "u", "t", "10", "9"), "~ :1  :-2 9 :0]~", ""},
	{is("PTTL", "long"), "~:199~", ""},
	{is("EVAL", script.Adopt.Text, "2", "kf", "none", "w", "u", "100000", "99"), "~ :2  :~", ""},
	{is("EXISTS", "none"), ":0", ""},
	{is("EVAL", script.Adopt.Text, "2", "k", "k", "w", "v", "100000", "99"), "~ :3  :-2  :0]~", ""},
	{is("GET", "k"), "v", ""},
	{is("EVAL", script.Adopt.Text, "2", "k", "kf", "w", "v", "x", "99"), "-ERR", ""},

	// An enrolment: without a marker, with one of the first edition, the same, another
	// MaxTTL, another incarnation, and one that cannot be read.
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/repl", "500", "ME"), "~ 500 :0 ME]~", ""},
	{is("GET", "m"), "~run/repl 1~", ""},
	{is("SET", "m", "run/repl 5"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/repl", "0", "YOU"), "~ run/repl 5 0 :0 ME]~", ""},
	{is("GET", "m"), "run/repl 5 0", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/repl", "700", "YOU"), "~ run/repl 5 700 :0 ME]~", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/repl", "90", "YOU"), "~ run/repl 5 700 :0 ME]~", ""},
	{is("GET", "m"), "run/repl 5 700", ""},
	{is("SET", "g", "run/repl 5"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/repl", "1000", "YOU"), "~ run/repl 5 1000 :1 ME]~", ""},
	{is("SET", "g", "run/repl 55"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/repl", "1000", "YOU"), "~ run/repl 5 1000 :0 ME]~", ""},
	{is("SET", "g", "run/rep 5"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "YOU"), "~ 1000 :0 ME]~", ""},
	{is("GET", "m"), "~run/rep 1~", ""},
	{is("SET", "m", "run/rep soon"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "YOU"), "~ 90 :0 ME]~", ""},
	{is("GET", "m"), "~run/rep 1~", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "k", "run/rep", "90", "YOU"), "~ 90 :0 v]~", ""},
	{is("EVAL", script.Enrol.Text, "3", "kf", "g", "id", "run/rep", "90", "YOU"), "-WRONGTYPE", ScriptCodes},
	{is("EVAL", script.Enrol.Text, "3", "m", "kf", "id", "run/rep", "90", "YOU"), "-WRONGTYPE", ScriptCodes},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "kf", "run/rep", "90", "YOU"), "-WRONGTYPE", ScriptCodes},

	// A change and a floor stay, and what cannot be theirs is no marker.
	{is("SET", "m", "run/rep 5 90 7 2 3>5:=A"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "100", "YOU"), "~ run/rep 5 100 7 2 3>5:=A :1 ME]~", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/two", "90", "YOU"), "~ 100 7 2 3>5:=A :0 ME]~", ""},
	{is("SET", "m", "run/rep 5 90 7"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "YOU"), "~ run/rep 5 90 7 :1 ME]~", ""},
	{is("SET", "m", "run/rep 5  7"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "80", "YOU"), "~ 80 :0 ME]~", ""},
	{is("SET", "m", "run/rep 5 90 7 5 3>5:=A"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "80", "YOU"), "~ 80 :0 ME]~", ""},

	// Identities: one that is made of the life, and gives way to the one that a client knows until
	// the life is grown; which begins again then.
	{is("SET", "m", "run/rep 5 90"), "OK", ""},
	{is("DEL", "id", "g"), ":2", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", ""), "~ run/rep 5 90 :0 d64c9bd43907]~", ""},
	{is("GET", "id"), "d64c9bd43907", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", ""), "~ run/rep 5 90 :0 d64c9bd43907]~", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "d64c9bd43907"), "~ run/rep 5 90 :0 d64c9bd43907]~", ""},
	{is("SET", "g", "run/rep 5"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "ME"), "~ run/rep 5 90 :1 d64c9bd43907]~", ""},
	{is("SET", "g", "run/rep 4"), "OK", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "ME"), "~ run/rep 1~", ""},
	{is("GET", "id"), "ME", ""},
	{is("GET", "m"), "~run/rep 1~", ""},
	{is("EVAL", script.Enrol.Text, "3", "m", "g", "id", "run/rep", "90", "YOU"), "~ 90 :0 ME]~", ""},

	// An Advance: of the marker that was told, of another one, and without one.
	{is("SET", "m", "run/rep 5 90"), "OK", ""},
	{is("EVAL", script.Advance.Text, "1", "m", "run/rep 5 90", "run/rep 5 90 7"), "~ :1]~", ""},
	{is("GET", "m"), "run/rep 5 90 7", ""},
	{is("PTTL", "m"), ":-1", ""},
	{is("EVAL", script.Advance.Text, "1", "m", "run/rep 5 90", "run/rep 5 90 8"), "~ :2]~", ""},
	{is("GET", "m"), "run/rep 5 90 7", ""},
	{is("EVAL", script.Advance.Text, "1", "m", "run/rep 5 90 7", "run/rep 5 90 7"), "~ :1]~", ""},
	{is("EVAL", script.Advance.Text, "1", "none", "run/rep 5 90", "run/rep 5 90 8"), "~ :0]~", ""},
	{is("EXISTS", "none"), ":0", ""},
	{is("EVAL", script.Advance.Text, "1", "kf", "run/rep 5 90", "run/rep 5 90 8"), "-WRONGTYPE", ScriptCodes},

	// A Sign, without and with a life, of which only the present one is written.
	{is("SET", "m", "run/repl 5 0"), "OK", ""},
	{is("DEL", "g"), ":1", ""},
	{is("ZADD", "c", "99", "2 old", "9000000000001", "4 long"), ":2", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "3 a,b", "100000", "", "0"), "~\n3 a,b 1~", ""},
	{is("ZSCORE", "c", "2 old"), "nil", ""},
	{is("ZCARD", "c"), ":4", ""},
	{is("EXISTS", "g"), ":0", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "4 long", "1000", "run/repl 50", "0"), "~ 9000000000001]~", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "none", "1", "9", "other 5", "0"), "~ :1 1 ~", ""},
	{is("EXISTS", "g"), ":0", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "k", "1", "100000", "run/repl 5", "0"), "-WRONGTYPE", ScriptCodes},
	{is("GET", "g"), "~run/repl 5~", ScriptCodes},
	{is("SET", "m", "run/repl 5 7000"), "OK", ""},
	{is("SET", "g", "run/repl 4"), "OK", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "3 a,b", "100000", "run/repl 5", "0"), "~\n3 a,b 1~", ""},
	{is("GET", "g"), "run/repl 5", ""},
	{is("PTTL", "g"), ":-1", ""},
	{is("PTTL", "c"), "~:~", ""},
	{is("DEL", "m"), ":1", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "3 a,b", "100000", "run/repl 6", "0"), "~\n3 a,b 1~", ""},
	{is("GET", "g"), "run/repl 5", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "3 a,b", "x", "", "0"), "-ERR", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "3 a,b", "100000", "", "x"), "-ERR", ""},

	// Since when an entry counts: the first that tells the same, what is longer ago, and what a
	// client of an earlier state has left.
	{is("DEL", "c"), ":1", ""},
	{is("ZADD", "c", "9000000000001", "@5 >3>5:=A f", "9000000000001", ">3>5:=A f", "9000000000002", "4 old", "9000000000003", "@7 4 b", "9000000000003", "4 b"), ":5", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", ">3>5:=A", "100000", "", "0"), "~ :1 >3>5:=A f 5 9000000000001\n4 old 1~", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", ">3>5:=A", "100000", "", "0"), "~\n>3>5:=A 5 1~", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", ">3>5:=A,+D", "100000", "", "0"), "~\n4 b 7 9000000000003\n>3>5:=A,+D 1~", ""},
	{is("ZSCORE", "c", "@5 >3>5:=A"), "~1~", ""},
	{is("ZCARD", "c"), ":10", ""},
	{is("ZADD", "c", "9000000000003", "@9 4 b", "9000000000003", "@8 4 b", "9000000000004", "4 b"), ":2", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", ">3>5:=A", "100000", "", "0"), "~\n4 b 7 9000000000004\n>3>5:=A 5 1~", ""},
	{is("ZSCORE", "c", "@8 4 b"), "nil", ""},
	{is("ZSCORE", "c", "@9 4 b"), "nil", ""},
	{is("ZSCORE", "c", "@7 4 b"), "9000000000004", ""},
	{is("EVAL", script.Sign.Text, "3", "m", "g", "c", "4 b", "100000", "", "0"), "~\n4 b 7 9000000000004]~", ""},
	{is("ZSCORE", "c", "@7 4 b"), "9000000000004", ""},
	{is("ZCARD", "c"), ":10", ""},
	{is("SCRIPT", "FLUSH", "NONSENSE"), "-ERR", ""},
	{is("SCRIPT", "FLUSH"), "OK", ""},
	{is("EVALSHA", script.Renew.SHA, "1", "k", "0", "1000", "u"), "-NOSCRIPT", ""},
	{is("FLUSHALL", "NONSENSE"), "-ERR", ""},
	{is("FLUSHALL"), "OK", ""},
	{is("DBSIZE"), ":0", ""},
	{is("SET", "a", "1"), "OK", ""},
	{is("FLUSHDB", "ASYNC"), "OK", ""},
	{is("GET", "a"), "nil", ""},
	{is("HELLO", "4"), "-NOPROTO", ""},
	{is("HELLO", "x"), "-ERR", ""},
}

func is(command ...string) []string { return command }

func raw(t *testing.T, target Target, client rueidis.Client) {
	if got := ask(client, "FLUSHALL"); got != "OK" {
		t.Fatalf("FLUSHALL: %s", got)
	}
	ask(client, "SCRIPT", "FLUSH")
	for i, row := range rows {
		if slices.Contains(target.Lacks, row.needs) {
			continue
		}
		got := ask(client, row.command...)
		part, contains := strings.CutPrefix(row.want, "~")
		part = strings.TrimSuffix(part, "~")
		if got != row.want && !(contains && strings.Contains(got, part)) {
			t.Errorf("row %d: %.80q answers %.300q: want %q", i+1, row.command, got, row.want)
		}
	}
	// TIME is two strings, and does not stand still.
	if got := ask(client, "TIME"); !strings.HasPrefix(got, "[") || strings.Count(got, " ") != 1 || strings.Contains(got, ":") {
		t.Errorf("TIME: %s", got)
	}
	ask(client, "SET", "a", "1", "PX", "20")
	gone(t, target, client, "a", 20*time.Millisecond)
	for _, command := range [][]string{is("GET", "a"), is("TYPE", "a"), is("PTTL", "a"), is("MGET", "a"), is("DEL", "a"), is("SET", "a", "1", "NX")} {
		want := map[string]string{"GET": "nil", "TYPE": "none", "PTTL": ":-2", "MGET": "[nil]", "DEL": ":0", "SET": "OK"}[command[0]]
		if got := ask(client, command...); got != want {
			t.Errorf("%q of an expired key answers %s: want %s", command, got, want)
		}
	}
	ask(client, "FLUSHALL")
}
