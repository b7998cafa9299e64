package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A trouble is a way in which a server answers what is no vote.
type trouble struct {
	name  string
	words []string // the error shows one of them for each node that is in trouble
	// grants tells that acquiring does not meet the trouble. Inspect does.
	grants bool
	// begin and end are for one node; keys are those that are asked for.
	begin, end func(f front, keys []string) error
}

// A front is a server and the proxy before it, which all its clients go through.
type front struct {
	cluster.Server
	proxy *cluster.Proxy
}

func fronts(t *testing.T, c *cluster.Cluster) []front {
	list := make([]front, len(c.Servers))
	for i, s := range c.Servers {
		list[i] = front{s, cluster.NewProxy(t, s.Addr())}
	}
	return list
}

// do sends one command whose answer is of no interest.
func (f front) do(command ...string) error {
	_, err := f.Do(command...)
	return err
}

// command is a trouble's begin or end that is one command, its words parted by
// spaces, for each key if it has the word KEY in it, or KEY-REGISTER for the key of its fence.
func command(words string) func(front, []string) error {
	return func(f front, keys []string) error {
		if !strings.Contains(words, "KEY") {
			return f.do(strings.Fields(words)...)
		}
		for _, key := range keys {
			words := strings.ReplaceAll(words, "KEY-REGISTER", node.FenceKey(key))
			if err := f.do(strings.Fields(strings.ReplaceAll(words, "KEY", key))...); err != nil {
				return err
			}
		}
		return nil
	}
}

func sequence(fs ...func(front, []string) error) func(front, []string) error {
	return func(f front, keys []string) error {
		for _, do := range fs {
			if err := do(f, keys); err != nil {
				return err
			}
		}
		return nil
	}
}

// lie has the proxy answer some commands itself, and the server the rest.
func lie(answer string, commands ...string) func(front, []string) error {
	return func(f front, _ []string) error {
		for _, c := range commands {
			f.proxy.Lie(c, answer)
		}
		return nil
	}
}

func mend(f front, _ []string) error {
	f.proxy.Mend()
	return nil
}

// asAdmin sends commands over a connection that knows the password.
func asAdmin(password string, commands ...string) func(front, []string) error {
	return func(f front, _ []string) error {
		client, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{f.Addr()}, Password: password, DisableCache: true, ForceSingleClient: true,
		})
		if err != nil {
			return err
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, c := range commands {
			if err := client.Do(ctx, client.B().Arbitrary(strings.Fields(c)...).Build()).Error(); err != nil {
				return err
			}
		}
		return nil
	}
}

// failToSave has the server fail to save its data once.
func failToSave(f front, _ []string) error {
	if err := f.do("BGSAVE"); err != nil {
		return err
	}
	return poll(5*time.Second, func() error {
		said, err := f.Do("INFO", "persistence")
		if text, _ := said.(string); err == nil && !strings.Contains(text, "rdb_last_bgsave_status:err") {
			err = errors.New("BGSAVE has not failed")
		}
		return err
	})
}

var scriptCalls = []string{"eval", "evalsha"}

var troubles = []trouble{
	{
		name: "READONLY", words: []string{"READONLY ", "its role is slave"},
		begin: command("REPLICAOF 127.0.0.1 1"), end: command("REPLICAOF NO ONE"),
	}, {
		name: "LOADING", words: []string{"LOADING Redis is loading the dataset in memory"},
		begin: lie("-LOADING Redis is loading the dataset in memory\r\n",
			append([]string{"set", "zadd", "zscore", "pexpire"}, scriptCalls...)...),
		end: mend,
	}, {
		name: "OOM", words: []string{"OOM command not allowed"},
		begin: command("CONFIG SET maxmemory 1"), end: command("CONFIG SET maxmemory 0"),
	}, {
		name: "MISCONF", words: []string{"MISCONF "},
		begin: sequence(failToSave, command("CONFIG SET stop-writes-on-bgsave-error yes")),
		end:   command("CONFIG SET stop-writes-on-bgsave-error no"),
	}, {
		name: "NOAUTH", words: []string{"NOAUTH "},
		begin: sequence(command("CONFIG SET requirepass sesame"), asAdmin("sesame", "CLIENT KILL TYPE normal")),
		end:   asAdmin("sesame", "ACL SETUSER default resetpass nopass"),
	}, {
		name: "NOPERM for commands", words: []string{"NOPERM "},
		begin: command("ACL SETUSER default -set -eval -evalsha"), end: command("ACL SETUSER default +@all"),
	}, {
		name: "NOPERM for keys", words: []string{"NOPERM "},
		begin: command("ACL SETUSER default resetkeys ~other:*"), end: command("ACL SETUSER default allkeys"),
	}, {
		name: "a list under the name", words: []string{"held, with no expiry"},
		// In one step: a grant or a heal that comes between two would be in the way.
		begin: sequence(command("LPUSH list-KEY x"), command("RENAME list-KEY KEY")), end: command("DEL KEY"),
	}, {
		name: "a string under the fence", words: []string{"WRONGTYPE "},
		begin: command("SET KEY-REGISTER x"), end: command("DEL KEY-REGISTER"),
	}, {
		name: "too many answers", words: []string{"unexpected answer to ", "a reply that nobody asked for"},
		begin: lie("+OK\r\n+OK\r\n+OK\r\n", "set"), end: mend,
	}, {
		name: "too many elements", grants: true,
		// The latter from a node whose connection had to be made anew meanwhile.
		words: []string{"unexpected answer to inspect: 99 elements", "unexpected answer to enrol: 99 elements"},
		begin: lie("*99\r\n"+strings.Repeat(":1\r\n", 99), scriptCalls...), end: mend,
	}, {
		name: "the end in mid-reply", words: []string{"connection closed by the node", "unexpected EOF"},
		begin: func(f front, _ []string) error { f.proxy.HangUp("set", "$5\r\nab"); return nil }, end: mend,
	}, {
		name: "the end without a reply", words: []string{"connection closed by the node"},
		begin: func(f front, _ []string) error { f.proxy.Lose("set"); return nil }, end: mend,
	},
}

// Two of five nodes that answer something else than a vote change nothing. Three of
// them make an error in time, which shows each node's own words.
func TestAnswersAreNoVotes(t *testing.T) {
	takesLong(t)
	t.Parallel()
	pool := make(chan []front, 3)
	for range cap(pool) {
		pool <- fronts(t, processes(t, 5, canFail()...))
	}
	inTrouble(t, pool, howOften(t))
}

// canFail returns arguments for servers that can be brought into any of the
// troubles: in that directory not even root can save anything.
func canFail() []string {
	args := []string{"--save", "3600 1", "--stop-writes-on-bgsave-error", "no"}
	if runtime.GOOS == "linux" {
		args = append(args, "--dir", "/proc")
	}
	return args
}

// inTrouble has the servers of a pool of clusters answer in all those ways.
func inTrouble(t *testing.T, pool chan []front, runs int) {
	atOnce(len(troubles), func(i int) {
		list := <-pool
		defer func() { pool <- list }()
		x := troubles[i]
		t.Run(x.name, func(t *testing.T) {
			if x.name == "MISCONF" && runtime.GOOS != "linux" {
				t.Skip("left out: there is no directory that nobody can write to")
			}
			x.runs(t, list, runs)
		})
	})
}

// What is tested here on processes, on containers. Starting them keeps the whole
// machine from its work: so they are shared, and nothing else runs beside.
func TestContainersAnswer(t *testing.T) {
	takesLong(t)
	if !slices.Contains(cluster.Kinds(t), cluster.Container) {
		t.Skip("left out: this runs on containers, and there is no Docker")
	}
	clusters := make([]*cluster.Cluster, 3)
	for i := range clusters {
		clusters[i] = cluster.Open(t, cluster.Container, 5, canFail()...)
	}
	alone := cluster.Open(t, cluster.Container, 1) // a client of one node gives way to those that use five
	pool := make(chan []front, len(clusters))
	pool <- fronts(t, clusters[0])
	pool <- fronts(t, clusters[1])
	healthy := []struct {
		name string
		run  func(*testing.T, *cluster.Cluster, int)
		on   *cluster.Cluster
	}{{"revoke", revoke, clusters[2]}, {"frozen", frozen, clusters[2]}, {"connection forms", connectionForms, alone}}
	runs := min(containerRuns, howOften(t))
	atOnce(2, func(i int) {
		if i == 0 {
			inTrouble(t, pool, runs)
			return
		}
		atOnce(len(healthy), func(k int) {
			t.Run(healthy[k].name, func(t *testing.T) { healthy[k].run(t, healthy[k].on, runs) })
		})
		pool <- fronts(t, clusters[2])
	})
}

// runs makes k runs at once, each with names of its own; five share a supervisor.
func (x trouble) runs(t *testing.T, list []front, k int) {
	several(t, k)
	shuffled := slices.Clone(list)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	two, third, three, healthy := shuffled[:2], shuffled[2:3], shuffled[:3], shuffled[2:]

	sups := make([]*supervisor.Supervisor, k)
	names, rivals := make([]string, k), make([]string, k)
	// The names are this trouble's own: a node that has not been reached again when
	// the trouble before ended keeps what it had for a TTL.
	own := strings.ReplaceAll(x.name, " ", "-")
	for i := range k {
		names[i], rivals[i] = fmt.Sprint(own, "-run-", i), fmt.Sprint(own, "-rival-", i)
		if sups[i] = sups[max(0, i-1)]; i%5 == 0 {
			// This is not about slow nodes, and hundreds of calls at once are slow now and then.
			sups[i] = supervise(t, proxied(list), func(cfg *supervisor.Config) { cfg.NodeTimeout = ttl / 5 })
			grown(t, sups[i])
		}
		if err := third[0].do("SET", rivals[i], "another client", "PX", "60000"); err != nil {
			t.Fatal(err)
		}
	}
	change := func(f func(front, []string) error, to []front) {
		t.Helper()
		for _, one := range to {
			if err := f(one, append(slices.Clone(names), rivals...)); err != nil {
				t.Errorf("%s on %s: %v", x.name, one.Addr(), err)
			}
		}
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Minute) // for what must succeed in the end
	defer cancel()

	// Half of the runs hold their lease when the trouble begins.
	leases := make([]*lease.Lease, k)
	hold := func(i int) {
		var err error
		if leases[i], err = sups[i].Acquire(soon, names[i]); err != nil {
			t.Errorf("two nodes in trouble: %v", err)
		}
	}
	atOnce(k/2, hold)
	if t.Failed() {
		return
	}
	// A grant that came late counts without condition once the others have renewed: two
	// nodes that fail before may be one too many.
	atOnce(k/2, func(i int) { stays(t, leases[i], ttl/2) })
	in := two
	defer func() { change(x.end, in) }()
	change(x.begin, two)
	atOnce(k-k/2, func(i int) { hold(k/2 + i) })
	if t.Failed() {
		return
	}
	if !x.grants {
		atOnce(k, func(i int) { // two healthy nodes and two in trouble are no quorum
			if l, err := sups[i].TryAcquire(t.Context(), rivals[i]); err == nil {
				t.Errorf("a vote of a node in trouble was counted")
				_ = l.Release(t.Context())
			}
		})
	}
	atOnce(k, func(i int) { stays(t, leases[i], 2*ttl) })
	atOnce(k, func(i int) {
		w := newWatch()
		if err := leases[i].Release(soon); !errors.Is(err, lease.ErrLost) {
			w.released(t, err)
		}
		for _, f := range healthy {
			gone(t, f, names[i])
		}
	})

	in = three
	change(x.begin, third)
	atOnce(k, func(i int) { x.refused(t, sups[i], names[i], three) })
	change(x.end, three)
	in = nil
	atOnce(k, func(i int) {
		l, err := sups[i].Acquire(soon, names[i])
		if err != nil {
			t.Errorf("the trouble is over: %v", err)
			return
		}
		newWatch().released(t, l.Release(soon))
	})
}

// refused asks until each of three nodes in trouble has been shown with its own
// words: on a busy machine it may be slow first. No call may succeed.
func (x trouble) refused(t *testing.T, sup *supervisor.Supervisor, name string, in []front) {
	acquire := func(ctx context.Context) error {
		l, err := sup.Acquire(ctx, name)
		if err == nil {
			_ = l.Release(ctx)
		}
		return err
	}
	try := func(ctx context.Context) error {
		l, err := sup.TryAcquire(ctx, name)
		if err == nil {
			_ = l.Release(ctx)
		}
		return err
	}
	if x.grants {
		inspect := func(ctx context.Context) error { _, err := sup.Inspect(ctx, name); return err }
		acquire, try = inspect, inspect
	}
	for what, call := range map[string]func(context.Context) error{"at once": try, "waiting": acquire} {
		const patience = 700 * time.Millisecond
		words := map[string]string{} // by node
		var last error
		end := time.Now().Add(20 * time.Second)
		again := time.NewTicker(50 * time.Millisecond) // trying without a pause would make it busy
		defer again.Stop()
		for ; len(words) < len(in); <-again.C {
			if time.Now().After(end) {
				t.Errorf("%s: only of these nodes it was said what their trouble is: %v; the last error: %v", what, words, last)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			begun := time.Now()
			err := call(ctx)
			last = err
			cancel()
			// The exact bound is another test's, on a machine without other work.
			if took := time.Since(begun); took > patience+time.Second {
				t.Errorf("%s: it took %v", what, took)
			}
			var e *supervisor.AcquireError
			if !errors.As(err, &e) {
				t.Errorf("%s, with a majority in trouble: %v", what, err)
				return
			}
			for _, a := range e.Nodes {
				if !slices.ContainsFunc(in, func(f front) bool { return f.proxy.Addr() == a.Node }) {
					continue
				}
				said := a.String()
				if a.Verdict == supervisor.VerdictGranted || a.Verdict == supervisor.VerdictFree {
					t.Errorf("%s: a node in trouble: %s", what, said)
				}
				if slices.ContainsFunc(x.words, func(w string) bool { return strings.Contains(said, w) }) {
					words[a.Node] = said
				} else if !strings.Contains(said, "no answer within") && a.Verdict != supervisor.VerdictSilent {
					t.Logf("%s: %s", what, said)
				}
			}
		}
	}
}

// Two answers too many to each SET shift all those after them, so that those to
// one grant look just like a vote for the name of another. Only what comes at the
// end of the pipeline shows that.
func TestShiftedAnswersAreNoVotes(t *testing.T) {
	p := cluster.NewProxy(t, processes(t, 1).Servers[0].Addr())
	p.Lie("set", "+OK\r\n+OK\r\n+OK\r\n")
	const grants = 20
	for range 20 {
		replies := make(chan node.Batch, grants)
		a := node.NewActor(node.Config{Conn: node.URL(p.URL()), Replies: replies})
		for i := range grants {
			a.TrySend(node.Command{
				ID: uint64(i), Op: node.Grant, Name: fmt.Sprint("shifted-", i), Token: "token",
				TTL: ttl, Fence: 7, By: clock.Never,
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { a.Run(ctx); close(done) }()
		for got := 0; got < grants; {
			b := <-replies
			got += len(b.Replies)
			for _, r := range b.Replies {
				if r.Status == node.OK {
					t.Errorf("a vote that no server gave: %+v", r)
				}
			}
		}
		cancel()
		<-done
		if t.Failed() {
			return
		}
	}
}

// processes returns a cluster of n processes of this machine, or skips the test.
func processes(t *testing.T, n int, args ...string) *cluster.Cluster {
	t.Helper()
	if !slices.Contains(cluster.Kinds(t), cluster.Process) {
		t.Skip("left out: this runs on processes, and there is no redis-server on the PATH")
	}
	return cluster.Open(t, cluster.Process, n, args...)
}

func proxied(list []front) []node.Conn {
	conns := make([]node.Conn, len(list))
	for i, f := range list {
		conns[i] = node.URL(f.proxy.URL())
	}
	return conns
}

// supervise makes a supervisor, and returns when all of its nodes are enrolled.
func supervise(t *testing.T, conns []node.Conn, change ...func(*supervisor.Config)) *supervisor.Supervisor {
	t.Helper()
	sup, err := supervisor.New(configured(conns, change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSoon(sup) })
	if err := poll(10*time.Second, func() error {
		for _, n := range sup.Nodes() {
			if !n.Enrolled {
				return fmt.Errorf("%s is not enrolled: %v", n.Node, n.Err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return sup
}

// grown waits until no node is young. A name that is acquired earlier has the votes of the
// first quorum that grew, so it is lost with one of those: no q others can confirm the
// vote of a node that was never asked.
func grown(t *testing.T, sup *supervisor.Supervisor) {
	t.Helper()
	if err := poll(10*time.Second, func() error {
		for _, n := range sup.Nodes() {
			if n.Young > 0 {
				return fmt.Errorf("%s is young for %v", n.Node, n.Young)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// closeSoon closes a supervisor, whatever its nodes may keep.
func closeSoon(sup *supervisor.Supervisor) {
	ctx, cancel := context.WithTimeout(context.Background(), ttl)
	defer cancel()
	_ = sup.Close(ctx)
}

// isRenewed waits until a new lease has been renewed. Before, a grant that came late, as
// on a busy machine, is in doubt as soon as a key is deleted anywhere.
func isRenewed(t *testing.T, l *lease.Lease) {
	t.Helper()
	last := l.Remaining()
	if err := poll(ttl, func() error {
		left := l.Remaining()
		if left <= last {
			last = left
			return errors.New("not renewed")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// stays wants the lease to be held for d.
func stays(t *testing.T, l *lease.Lease, d time.Duration) {
	t.Helper()
	over, w := time.NewTimer(d), newWatch()
	defer over.Stop()
	select {
	case <-l.Lost():
	case <-over.C:
	}
	if !l.Valid() && !w.expired(t, l) {
		t.Errorf("lost with a healthy majority: %v; %v", l.Err(), w)
	}
}

// gone wants the server to have no such key soon: Release waits for a quorum only.
func gone(t *testing.T, s cluster.Server, key string) {
	t.Helper()
	if err := poll(5*time.Second, func() error {
		value, err := s.Do("GET", key)
		if err == nil && value != nil {
			err = fmt.Errorf("%s keeps %s = %v", s.Addr(), key, value)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// poll asks until there is no error, and returns the last one after d.
func poll(d time.Duration, ask func() error) error {
	end := time.Now().Add(d)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask()
		if err == nil || time.Now().After(end) {
			return err
		}
		<-again.C
	}
}

// atOnce calls f for 0 to n-1, all at once, and waits for them.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// frozen is set if processes can be stopped and end with their parent.
var frozen = func(t *testing.T, _ *cluster.Cluster, _ int) { t.Skip("left out: this needs Linux") }
