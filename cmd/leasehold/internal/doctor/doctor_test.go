package doctor_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/doctor"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/redistest"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// examine looks at a deployment for a little while.
func examine(t *testing.T, cfg supervisor.Config, urls ...string) *doctor.Report {
	t.Helper()
	cfg.Nodes = node.URLs(urls...)
	r, err := doctor.Examine(t.Context(), doctor.Config{Supervisor: cfg, For: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func urlsOf(servers []*redistest.Server) (urls []string) {
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	return urls
}

// want checks that something was found, and nothing else of that level or a worse one.
func want(t *testing.T, r *doctor.Report, check string, level doctor.Level, node, words string) {
	t.Helper()
	text := new(strings.Builder)
	if err := r.WriteText(text); err != nil {
		t.Error(err)
	}
	found := false
	for _, f := range r.Findings {
		if f.Check == check && f.Level == level && f.Node == node && strings.Contains(f.Text, words) {
			found = true
		}
	}
	if !found || !strings.Contains(text.String(), check+": ") {
		t.Errorf("no %v finding %s of %q with %q:\n%s", level, check, node, words, text)
	}
}

// only checks that nothing as bad was found but by some checks.
func only(t *testing.T, r *doctor.Report, level doctor.Level, checks ...string) {
	t.Helper()
	if r.Level > level {
		t.Errorf("it is %v, want %v", r.Level, level)
	}
	for _, f := range r.Findings {
		if f.Level >= level && !slices.Contains(checks, f.Check) {
			t.Errorf("found besides: %v %s of %q: %s", f.Level, f.Check, f.Node, f.Text)
		}
	}
}

// Of a good deployment it says so, in less than ten seconds. It leaves nothing behind that the
// library does not leave.
func TestGood(t *testing.T) {
	servers := redistest.StartAll(t, 3)
	begun := time.Now()
	r, err := doctor.Examine(t.Context(), doctor.Config{Supervisor: supervisor.Config{Nodes: node.URLs(urlsOf(servers)...)}})
	if took := time.Since(begun); err != nil || took > 10*time.Second {
		t.Errorf("it took %v, %v", took, err)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || r.Level != doctor.Fine || len(r.Findings) != 0 || !strings.Contains(text.String(), "fine: nothing is wrong") {
		t.Errorf("%v, %v\n%s", r.Level, err, &text)
	}
	t.Log("\n" + text.String())
	if r.Acquired <= 0 || r.HandedOver <= 0 || len(r.Servers) != 3 || len(r.Advice) == 0 {
		t.Errorf("%+v", r)
	}
	for _, s := range r.Servers {
		if s.Product != servers[0].Product || s.Role != "primary" || s.RoundTrips < 20 || s.P99 < s.P50 || s.P50 <= 0 || s.Offset > 1e8 || s.Offset < -1e8 {
			t.Errorf("%+v", s)
		}
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"Level":"fine"`) || !strings.Contains(string(b), `"TTL":"10s"`) {
		t.Errorf("%s, %v", b, err)
	}
	known := regexp.MustCompile(`^leasehold:(incarnation|\{leasehold:incarnation\}:(grown|identity|clients)|fence:\{....\})$`)
	for _, s := range servers {
		for _, key := range s.Do([]string{"KEYS", "*"})[0].Strings() {
			if !known.MatchString(key) {
				t.Errorf("it has left the key %s", key)
			}
		}
	}
}

// Each broken deployment is found to be, by name.
func TestBroken(t *testing.T) {
	t.Run("a node is down", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 2)
		r := examine(t, supervisor.Config{}, append(urlsOf(servers), "redis://127.0.0.1:1")...)
		want(t, r, doctor.Reachable, doctor.Broken, "127.0.0.1:1", "refused")
		only(t, r, doctor.Broken, doctor.Reachable)
		if r.Acquired == 0 || r.HandedOver == 0 {
			t.Error("two of three nodes are enough for a lease")
		}
	})
	t.Run("a node hangs", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 3)
		servers[2].Hang()
		begun := time.Now()
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Reachable, doctor.Broken, servers[2].Addr, "no answer within 2.5s")
		only(t, r, doctor.Broken, doctor.Reachable)
		if took := time.Since(begun); took > 10*time.Second || r.HandedOver == 0 {
			t.Errorf("it took %v, and the lease was handed over in %v", took, r.HandedOver)
		}
	})
	t.Run("a replica", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 3)
		host, port, _ := strings.Cut(servers[0].Addr, ":")
		servers[2].Do([]string{"REPLICAOF", host, port})
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Role, doctor.Broken, servers[2].Addr, "replica of "+servers[0].Addr)
		only(t, r, doctor.Broken, doctor.Role)
	})
	t.Run("one server twice", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 2)
		again := "redis://localhost" + strings.TrimPrefix(servers[0].Addr, "127.0.0.1")
		r := examine(t, supervisor.Config{}, append(urlsOf(servers), again)...)
		want(t, r, doctor.SameServer, doctor.Broken, strings.TrimPrefix(again, "redis://"), "the same database of the same server as "+servers[0].Addr)
		only(t, r, doctor.Broken, doctor.SameServer, doctor.Acquisition)
		r = examine(t, supervisor.Config{}, append(urlsOf(servers), servers[0].URL())...)
		want(t, r, doctor.SameServer, doctor.Broken, servers[0].Addr, "the same address as ")
		r = examine(t, supervisor.Config{}, append(urlsOf(servers), servers[0].URL()+"/1")...)
		want(t, r, doctor.SameServer, doctor.Warning, servers[0].Addr+"/1", "another database of the same server as ")
	})
	t.Run("eviction", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.StartAll(t, 1, "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")...)
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Eviction, doctor.Broken, servers[2].Addr, "volatile-lru")
		only(t, r, doctor.Broken, doctor.Eviction)
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.StartAll(t, 1)...)
		servers[2].Do([]string{"CONFIG", "SET", "maxmemory", "1"})
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Memory, doctor.Broken, servers[2].Addr, "OOM")
	})
	t.Run("a right is missing", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 3)
		var urls []string
		for i, s := range servers {
			rights := strings.Fields("ACL SETUSER worker on >geheim123 ~locks:* ~leasehold:* resetchannels &leasehold:inbox:* -@all +info +time +client|setname +client|getname +client|tracking +client|caching +eval +evalsha +get +mget +set +del +exists +type +pttl +pexpire +zadd +zscore +zrank +zcount +zrem +zrangebyscore +zremrangebyscore +publish +subscribe")
			if i == 2 {
				rights = append(rights, "-zadd", "-pexpire", "-client|tracking", "-subscribe", "resetkeys", "~locks:*", "~leasehold:fence:*", "~leasehold:incarnation")
			}
			s.Do(rights)
			urls = append(urls, "redis://worker:geheim123@"+s.Addr)
		}
		r := examine(t, supervisor.Config{Prefix: "locks:"}, urls...)
		want(t, r, doctor.Rights, doctor.Broken, servers[2].Addr, "+zadd +pexpire ~leasehold:*,")
		want(t, r, doctor.Rights, doctor.Warning, servers[2].Addr, "+client|tracking")
		want(t, r, doctor.Rights, doctor.Warning, servers[2].Addr, "+subscribe")
		only(t, r, doctor.Broken, doctor.Rights)
		noSecret(t, r, "geheim123")
		r = examine(t, supervisor.Config{}, urls...) // other names are not to be written
		want(t, r, doctor.Rights, doctor.Broken, servers[0].Addr, "~leasehold-doctor/")
		servers[2].Do([]string{"ACL", "SETUSER", "worker", "~leasehold:*", "+zadd", "+pexpire", "+client|tracking", "+subscribe"})
		r = examine(t, supervisor.Config{Prefix: "locks:"}, urls...)
		only(t, r, doctor.Note) // these rights are enough
	})
	t.Run("hardly room for clients", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.StartAll(t, 1, "--maxclients", "10")...)
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Clients, doctor.Warning, servers[2].Addr, "of 10 clients")
		servers[2].Do([]string{"CONFIG", "SET", "maxclients", "4"})
		r = examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Clients, doctor.Broken, servers[2].Addr, "of 4 clients")
	})
	t.Run("no room for clients, and no such database", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 1), redistest.StartAll(t, 2)...)
		others, err := supervisor.New(supervisor.Config{Nodes: node.URLs(servers[2].URL())})
		if err != nil {
			t.Fatal(err)
		}
		defer others.Close(t.Context())
		redistest.Until(t, "another client is there", func() bool { return others.Nodes()[0].Enrolled })
		servers[2].Do([]string{"CONFIG", "SET", "maxclients", "1"})
		r := examine(t, supervisor.Config{}, servers[0].URL(), servers[1].URL()+"/9999", servers[2].URL())
		want(t, r, doctor.Reachable, doctor.Broken, servers[1].Addr+"/9999", "there is no such database")
		want(t, r, doctor.Clients, doctor.Broken, servers[2].Addr, "max number of clients reached")
	})
	t.Run("cluster mode", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.Start(t, "--cluster-enabled", "yes"))
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.ClusterMode, doctor.Broken, servers[2].Addr, "cluster mode")
		only(t, r, doctor.Broken, doctor.ClusterMode)
	})
	t.Run("a wrong password", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.Start(t, "--requirepass", "geheim123"))
		r := examine(t, supervisor.Config{}, append(urlsOf(servers[:2]), "redis://:falsch123@"+servers[2].Addr)...)
		want(t, r, doctor.Login, doctor.Broken, servers[2].Addr, "WRONGPASS")
		only(t, r, doctor.Broken, doctor.Login)
		noSecret(t, r, "falsch123")
		r = examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Login, doctor.Broken, servers[2].Addr, "NOAUTH")
	})
	t.Run("a clock is an hour ahead", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 3)
		ahead := servers[2].Proxy(redistest.Fault{Ahead: time.Hour})
		r := examine(t, supervisor.Config{}, servers[0].URL(), servers[1].URL(), ahead)
		want(t, r, doctor.ClockOffset, doctor.Warning, strings.TrimPrefix(ahead, "redis://"), "1h0m0s ahead")
		only(t, r, doctor.Warning, doctor.ClockOffset)
	})
	t.Run("a slow network", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 3)
		slow := servers[2].Proxy(redistest.Fault{Delay: 100 * time.Millisecond})
		r := examine(t, supervisor.Config{TTL: 2 * time.Second}, servers[0].URL(), servers[1].URL(), slow)
		want(t, r, doctor.RoundTrip, doctor.Warning, strings.TrimPrefix(slow, "redis://"), "one round trip of a hundred")
		only(t, r, doctor.Warning, doctor.RoundTrip)
		if len(r.Advice) == 0 || !strings.HasPrefix(r.Advice[0], "TTL ") || !strings.Contains(strings.Join(r.Advice, "\n"), "NodeTimeout: at least ") {
			t.Errorf("%q", r.Advice)
		}
		r = examine(t, supervisor.Config{TTL: 500 * time.Millisecond}, servers[0].URL(), servers[1].URL(), slow)
		want(t, r, doctor.RoundTrip, doctor.Broken, strings.TrimPrefix(slow, "redis://"), "half of the round trips")
	})
	t.Run("young", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.Start(t))
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Young, doctor.Warning, servers[2].Addr, "was started or has lost its data")
		only(t, r, doctor.Warning, doctor.Young)
		servers = append(redistest.StartAll(t, 1), redistest.Start(t), redistest.Start(t))
		r = examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Acquisition, doctor.Warning, "", "too few nodes are old enough")
	})
	t.Run("others have other nodes and a longer TTL", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 5)
		others, err := supervisor.New(supervisor.Config{Nodes: node.URLs(urlsOf(servers)...), MaxTTL: 2 * time.Minute, MaxTTLCap: 2 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer others.Close(t.Context())
		redistest.Until(t, "the others have signed", func() bool {
			for _, s := range servers {
				if !slices.ContainsFunc(s.Do([]string{"ZRANGE", "leasehold:{leasehold:incarnation}:clients", "0", "-1"})[0].Strings(),
					func(text string) bool { return strings.HasPrefix(text, "5 ") && strings.Count(text, ",") == 4 }) {
					return false
				}
			}
			return true
		})
		r := examine(t, supervisor.Config{}, urlsOf(servers[:3])...)
		for _, s := range servers[:3] {
			want(t, r, doctor.Agreement, doctor.Broken, s.Addr, "other clients use 5 nodes, of which 2 are unknown here")
			want(t, r, doctor.LongestTTL, doctor.Broken, s.Addr, "2m0s")
			for _, text := range s.Do([]string{"ZRANGE", "leasehold:{leasehold:incarnation}:clients", "0", "-1"})[0].Strings() {
				if strings.HasPrefix(text, "3 ") {
					t.Errorf("it has signed for nodes that others do not have: %q", text)
				}
			}
		}
		only(t, r, doctor.Broken, doctor.Agreement, doctor.LongestTTL, doctor.Acquisition)
		r = examine(t, supervisor.Config{MaxTTLCap: 2 * time.Minute}, urlsOf(servers)...)
		only(t, r, doctor.Warning)
	})
	t.Run("the disk is full", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.StartAll(t, 1, "--save", "3600 1")...)
		// It cannot put its snapshot where a directory is.
		if err := os.MkdirAll(filepath.Join(servers[2].Dir, "dump.rdb"), 0o700); err != nil {
			t.Fatal(err)
		}
		servers[2].Do([]string{"BGSAVE"})
		redistest.Until(t, "it has failed to save", func() bool {
			return servers[2].Do([]string{"INFO", "persistence"})[0].Info()["rdb_last_bgsave_status"] == "err"
		})
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Persistence, doctor.Broken, servers[2].Addr, "MISCONF")
		only(t, r, doctor.Broken, doctor.Persistence)
	})
	t.Run("it wants replicas", func(t *testing.T) {
		t.Parallel()
		servers := append(redistest.StartAll(t, 2), redistest.StartAll(t, 1)...)
		servers[2].Do([]string{"CONFIG", "SET", "min-replicas-to-write", "1"})
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Writes, doctor.Broken, servers[2].Addr, "NOREPLICAS")
		only(t, r, doctor.Broken, doctor.Writes)
	})
	t.Run("an even number, and one", func(t *testing.T) {
		t.Parallel()
		servers := redistest.StartAll(t, 2)
		r := examine(t, supervisor.Config{}, urlsOf(servers)...)
		want(t, r, doctor.Number, doctor.Warning, "", "2 nodes tolerate the failure of 0, as 1 do")
		r = examine(t, supervisor.Config{}, servers[0].URL())
		want(t, r, doctor.Number, doctor.Note, "", "there is one node")
	})
	t.Run("nothing is there", func(t *testing.T) {
		t.Parallel()
		r := examine(t, supervisor.Config{}, "redis://127.0.0.1:1", "redis://127.0.0.1:2", "http://geheim123@x")
		want(t, r, doctor.Acquisition, doctor.Broken, "", "0 of 3 nodes can be used, and 2 are needed")
		noSecret(t, r, "geheim123")
	})
}

// noSecret checks that nothing says a password.
func noSecret(t *testing.T, r *doctor.Report, secret string) {
	t.Helper()
	b, _ := json.Marshal(r)
	if text := fmt.Sprintf("%+v %s", r, b); strings.Contains(text, secret) {
		t.Errorf("a password is told: %s", text)
	}
}
