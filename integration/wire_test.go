package integration

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// What a node is sent for a lease with its fence is one pipeline of plain commands,
// in the ordinary case: no script, and so no raise. This counts on the servers.
func TestOnTheWire(t *testing.T) {
	takesLong(t)
	t.Parallel()
	const acquisitions = 1000
	several(t, 2*acquisitions)
	c := processes(t, 5)
	// So long that nothing is renewed meanwhile; and over RESP2, where no lease is
	// renewed early to have its key tracked.
	sup := start(t, c, func(cfg *supervisor.Config) { cfg.TTL, cfg.Nodes = 10*time.Minute, untracked(c) })
	reset := func() {
		for _, s := range c.Servers {
			if _, err := s.Do("CONFIG", "RESETSTAT"); err != nil {
				t.Fatal(err)
			}
		}
	}
	// every waits until all servers have, or have not, the key, so that no two
	// acquisitions share a pipeline on a server that was not waited for.
	every := func(name string, want int64) {
		for i, s := range c.Servers {
			if err := poll(5*time.Second, func() error {
				got, err := s.Do("EXISTS", name)
				if err == nil && got != want {
					err = fmt.Errorf("EXISTS is %v, want %d", got, want)
				}
				return err
			}); err != nil {
				t.Fatalf("server %d, key %s: %v", i, name, err)
			}
		}
	}
	check := func(what string, want map[string]int) {
		t.Helper()
		for i, s := range c.Servers {
			got := commandsOn(t, s)
			// A client signs about every ten seconds, and each time takes one of these.
			signs := got["zremrangebyscore"]
			if signs > acquisitions/50 {
				t.Errorf("server %d has been signed on %d times", i, signs)
			}
			for name, calls := range got {
				if more := calls - want[name]; more > 0 && more <= 2*signs {
					got[name] = want[name] // of the signing, or of the pipeline that it had
				}
				if got[name] == 0 {
					delete(got, name)
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("%d %s: server %d has seen %v, want %v", acquisitions, what, i, got, want)
			} else if i == 0 {
				t.Logf("%d %s, on each of 5 servers: %v", acquisitions, what, got)
			}
		}
	}

	held := make([]*lease.Lease, acquisitions)
	reset()
	for i := range held {
		name := fmt.Sprint("wire-", i)
		held[i] = acquire(t, sup, name)
		every(name, 1)
	}
	check("acquisitions", map[string]int{
		"time": acquisitions, "set": acquisitions, "zadd": acquisitions,
		"get": acquisitions,
	})

	// The same name again, after its release.
	for i, l := range held {
		giveBack(t, l)
		every(fmt.Sprint("wire-", i), 0)
	}
	reset()
	for i := range held {
		name := fmt.Sprint("wire-", i%10)
		l := acquire(t, sup, name)
		every(name, 1)
		giveBack(t, l)
		every(name, 0)
	}
	// The pipeline of a release is checked as well. The last line is what its script
	// does on the server itself; that of a raise would be one more.
	check("acquisitions and releases of names that were used before", map[string]int{
		"set": acquisitions, "zadd": acquisitions,
		"client|getname": acquisitions, "get": 2 * acquisitions,
		"evalsha": acquisitions,
		"time":    2 * acquisitions, // one of them by that script
		"mget":    acquisitions, "del": acquisitions,
	})
}

// commandsOn returns how often a server was sent each command since CONFIG
// RESETSTAT, but for what the test itself sends.
func commandsOn(t *testing.T, s cluster.Server) map[string]int {
	t.Helper()
	answer, err := s.Do("INFO", "commandstats")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	text, _ := answer.(string)
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "cmdstat_"), ":calls=")
		number, _, _ := strings.Cut(rest, ",")
		switch calls, err := strconv.Atoi(number); {
		case !ok || name == "exists" || name == "info" || name == "config|resetstat":
		case err != nil:
			t.Fatalf("INFO commandstats: %q", line)
		default:
			counts[name] = calls
		}
	}
	return counts
}

// If a round trip is long a lease with its fence takes one of them.
func TestOneRoundTrip(t *testing.T) {
	takesLong(t)
	const oneWay, acquisitions = 20 * time.Millisecond, 100
	several(t, acquisitions)
	c := processes(t, 5)
	list := fronts(t, c)
	// A node that is late once enrols again, for which it needs three round trips.
	sup := supervise(t, proxied(list), func(cfg *supervisor.Config) { cfg.NodeTimeout = ttl / 4 })
	for _, f := range list {
		f.proxy.Delay(oneWay)
	}
	var n notes
	for i := range acquisitions {
		w, begun := newWatch(), time.Now()
		l := acquire(t, sup, fmt.Sprint("far-", i%10))
		n.within(t, w, fmt.Sprintf("an acquisition over round trips of %v", 2*oneWay), time.Since(begun), 4*oneWay)
		giveBack(t, l)
	}
	n.log(t)
}
