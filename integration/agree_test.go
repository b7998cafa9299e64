package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

const (
	longest   = 2 * ttl // the TTL of a holder whose rival's is shortest
	shortest  = ttl / 2
	longGuard = longest + longest/100 + 2*time.Millisecond
)

// lasting returns what makes a client whose leases last for so long. The clients of a test
// agree on the cap, and on how long they wait for a node.
func lasting(ttl, most time.Duration) func(*supervisor.Config) {
	return func(cfg *supervisor.Config) {
		cfg.TTL, cfg.MaxTTLCap, cfg.NodeTimeout = ttl, most, nodeTimeout
	}
}

// The holder's TTL is four times as long as that of a rival. Two of their three nodes
// restart empty, and one of these is out of the holder's reach from then on. The window
// of the rival's own TTL is over before the holder has the other one back; so the rival
// must wait for the longest TTL that a client may have, as too few nodes remember whether
// there is such a client.
func TestLongerTTLOfAnother(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, who := range []string{"a newcomer", "who knew them"} {
		for _, how := range []string{"connected", "cut off"} {
			t.Run(who+", the holder "+how, func(t *testing.T) {
				onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
					longerTTL(t, c, who == "a newcomer", how == "cut off", n)
				})
			})
		}
	}
}

func longerTTL(t *testing.T, c *cluster.Cluster, newcomer, cutOff bool, n *notes) {
	toHolder, toRival := fronts(t, c), fronts(t, c)
	v := keepVigil(t)
	held := acquire(t, supervise(t, proxied(toHolder), lasting(longest, longest)), "x")
	v.over(held)
	var rival *supervisor.Supervisor
	if !newcomer {
		rival = supervise(t, proxied(toRival), lasting(shortest, longest))
	}
	kept(t, held, anyMoment())
	w := newWatch()
	toHolder[2].proxy.Cut()
	if cutOff {
		toHolder[0].proxy.Cut()
		toHolder[1].proxy.Cut()
		toRival[0].proxy.Cut()
	}
	each(c.Servers[1:], cluster.Server.Kill)
	from := time.Now()
	each(c.Servers[1:], cluster.Server.Start)
	up := time.Now()
	if newcomer {
		from = up
		rival = begin(t, proxied(toRival), lasting(shortest, longest))
	}
	waits(t, rival)
	d := duel{vigil: v, held: held, rival: rival, window: longGuard, watch: w}
	if newcomer {
		// The holder cannot know that the node out of its reach has another identity now. It goes on saying
		// that it uses one that is unknown to the rival, which therefore gives way.
		d.reunite = func() {
			toHolder[2].proxy.Mend()
			await(t, "the clients to agree on the nodes", func() error {
				for _, s := range rival.Nodes() {
					if s.Disagrees != "" {
						return fmt.Errorf("%s: %s", s.Node, s.Disagrees)
					}
				}
				return nil
			})
		}
	}
	if cutOff {
		d.afterTheWindow(t, from, up, n)
	} else {
		d.afterTheHolder(t, c.Servers[1], n)
	}
}

// A node that has forgotten is young for the window of the longest TTL that any client
// has, if enough of the others remember it, and for that of the cap if not. A client's own
// TTL may be much shorter.
func TestWindowOfTheLongestTTL(t *testing.T) {
	t.Parallel()
	const most = 3 * longest
	for _, x := range []struct {
		name      string
		forgetful int
		want      time.Duration
	}{
		{"one forgets", 1, longGuard},
		{"two forget", 2, most + most/100 + 2*time.Millisecond},
	} {
		t.Run(x.name, func(t *testing.T) {
			onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				start(t, c, lasting(longest, most))
				restart(c.Servers[:x.forgetful]...)
				begun := time.Now()
				rival := start(t, c, lasting(shortest, most))
				await(t, "the windows to be known", func() error {
					for i, s := range rival.Nodes() {
						left := time.Duration(0)
						if i < x.forgetful {
							left = x.want
						}
						if s.MaxTTL != longest || s.Young > left || s.Young < left-time.Since(begun) {
							return fmt.Errorf("%s: young for %v and not for %v; the longest TTL is %v", s.Node, s.Young, left, s.MaxTTL)
						}
					}
					return nil
				})
				n.took("known after", time.Since(begun))
			})
		})
	}
}

// Two clients do not agree on the nodes, and could hold one name at once. The younger one
// acquires nothing, and says why. The older one goes on, and is warned.
func TestClientsDisagreeOnNodes(t *testing.T) {
	takesLong(t)
	t.Parallel()
	for _, x := range []struct {
		name   string
		theirs []int // the rival's nodes; the holder's are 0, 1 and 2
		words  string
		shared int // nodes that both reach
	}{
		// The holder has 0 and 1, the rival comes to have 2, 3 and 4.
		{"from three nodes to five", []int{0, 1, 2, 3, 4}, "older clients use 3 nodes", 2},
		// The holder has 0 and 1, the rival comes to have 2 and 3. One that signs for as
		// many nodes may have met one that has just been emptied, so that takes longer.
		{"one of three is replaced", []int{0, 3, 2}, "older clients use 3 nodes, 1 of them unknown to this client", 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				toHolder := fronts(t, c)
				toHolder[2].proxy.Cut()
				var holders, rivals warnings
				holder := superviseSome(t, proxied(toHolder), 2, holders.observe)
				held := acquire(t, holder, "x")
				kept(t, held, anyMoment())

				all := append(c.Servers, cluster.OpenYoung(t, cluster.Process, 2).Servers...)
				var theirs []node.Conn
				for _, i := range x.theirs {
					theirs = append(theirs, node.URL(all[i].URL()))
				}
				begun, w := time.Now(), newWatch()
				rival := begin(t, theirs, rivals.observe)
				said := func(sup *supervisor.Supervisor, nodes, warned int, about string, w *warnings) error {
					disagree, told := 0, 0
					for _, s := range sup.Nodes() {
						if s.Disagrees == "" {
							continue
						}
						disagree++
						if strings.Contains(strings.Join(w.about(about), "; "), s.Node) {
							told++
						}
					}
					if disagree != nodes || told < warned {
						return fmt.Errorf("%d nodes show it, want %d; warnings: %q", disagree, nodes, w.all())
					}
					return nil
				}
				await(t, "the rival to be warned", func() error { return said(rival, x.shared, 1, "so nothing is acquired", &rivals) })
				n.took("the rival was warned after", time.Since(begun))
				await(t, "the holder to be warned", func() error { return said(holder, x.shared, x.shared, "agree on the nodes", &holders) })
				n.took("the holder was warned after", time.Since(begun))
				// A second until the first sight of the other's signature, two more for it to be
				// renewed twice, and the time in which the rival begins.
				w.within(t, "both were warned after", time.Since(begun), 3*time.Second+ttl/4)

				for range 10 {
					_, err := rival.TryAcquire(t.Context(), "y")
					if err == nil || !strings.Contains(err.Error(), x.words) || !strings.Contains(err.Error(), "so nothing is acquired") {
						t.Fatalf("%v: want it to say %q", err, x.words)
					}
				}
				if !held.Valid() {
					t.Error(held.Err())
				}
				if err := acquire(t, holder, "y").Release(t.Context()); err != nil {
					t.Error(err)
				}
				n.add("the younger one acquired nothing (times)", 1)
			})
		})
	}
}

// warnings are those of one supervisor.
type warnings struct {
	mu   sync.Mutex
	text []string
}

// observe has a supervisor tell its warnings.
func (w *warnings) observe(cfg *supervisor.Config) { cfg.Observer = w }

func (w *warnings) Observe(e supervisor.Event) {
	if e.Kind == supervisor.EventWarning {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.text = append(w.text, e.Err.Error())
	}
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.text...)
}

// about returns the warnings with some words in them.
func (w *warnings) about(words string) (some []string) {
	for _, text := range w.all() {
		if strings.Contains(text, words) {
			some = append(some, text)
		}
	}
	return some
}

// Clients that agree are not warned: whatever the order of their nodes and the way to
// them, while one node restarts empty, one is flushed, and another server takes the
// address of the third.
func TestClientsAgreeOnNodes(t *testing.T) {
	takesLong(t)
	t.Parallel()
	onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
		list := fronts(t, c)
		a, b, d := proxied(list)[0], proxied(list)[1], proxied(list)[2]
		var told [3]warnings
		sups := []*supervisor.Supervisor{
			supervise(t, []node.Conn{a, b, d}, told[0].observe),
			supervise(t, []node.Conn{d, a, b}, told[1].observe),
		}
		for _, forget := range []func(){
			func() { restart(c.Servers[0]) },
			func() { mustDo(t, c.Servers[1], "FLUSHALL") },
			func() {
				spare := cluster.OpenYoung(t, cluster.Process, 1).Servers[0]
				list[2].proxy.Lead(spare.Addr())
			},
		} {
			forget()
			over := time.NewTimer(2*ttl + ttl/2) // they sign every second, and a signature counts for four
			if len(sups) == 2 {
				sups = append(sups, begin(t, []node.Conn{b, d, a}, told[2].observe)) // right after the first
			}
			<-over.C
			for i, sup := range sups {
				for _, s := range sup.Nodes() {
					if s.Disagrees != "" {
						t.Errorf("client %d: %s: %s", i, s.Node, s.Disagrees)
					}
				}
				if said := told[i].about("agree on the nodes"); said != nil {
					t.Errorf("client %d is warned: %q", i, said)
				}
			}
		}
		n.add("agreed (1)", 1)
	})
}

// Two connections that lead to one database would be two votes of one server. Every
// acquisition fails at once, and says which two they are. So it does if that comes about
// later, as by a mistake in DNS, for as long as it lasts; what is held then is kept.
func TestTwoConnectionsToOneServer(t *testing.T) {
	takesLong(t)
	t.Parallel()
	broken := func(t *testing.T, sup *supervisor.Supervisor, twins []node.Conn) {
		t.Helper()
		// Until the second one is met the others are two servers, and good for a lease.
		await(t, "the node to be met", func() error {
			for _, s := range sup.Nodes() {
				if s.Err != nil && strings.Contains(s.Err.Error(), supervisor.ErrMisconfigured.Error()) {
					return nil
				}
			}
			return fmt.Errorf("the nodes are %+v", sup.Nodes())
		})
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for _, acquire := range []func() error{
			func() error { _, err := sup.Acquire(ctx, "y"); return err },
			func() error { _, err := sup.TryAcquire(ctx, "y"); return err },
		} {
			err := acquire()
			if !errors.Is(err, supervisor.ErrMisconfigured) {
				t.Errorf("the error does not wrap ErrMisconfigured: %v", err)
				continue
			}
			for _, c := range twins {
				if !strings.Contains(err.Error(), c.String()) {
					t.Errorf("the error does not name %v: %v", c, err)
				}
			}
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("that took %v", took)
		}
	}
	for _, x := range []struct {
		name  string
		conns func(t *testing.T, c *cluster.Cluster) []node.Conn
	}{
		{"two names", func(t *testing.T, c *cluster.Cluster) []node.Conn {
			s := c.Servers[0]
			return node.URLs(s.URL(), "redis://localhost:"+portOf(s), c.Servers[1].URL())
		}},
		{"a proxy", func(t *testing.T, c *cluster.Cluster) []node.Conn {
			s := c.Servers[0]
			return node.URLs(s.URL(), cluster.NewProxy(t, s.Addr()).URL(), c.Servers[1].URL())
		}},
		{"the same database of both", func(t *testing.T, c *cluster.Cluster) []node.Conn {
			s := c.Servers[0]
			return node.URLs(s.URL()+"/3", cluster.NewProxy(t, s.Addr()).URL()+"/3", c.Servers[1].URL())
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			onProcesses(t, 2, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
				conns := x.conns(t, c)
				broken(t, begin(t, conns), conns[:2])
			})
		})
	}
	t.Run("it comes about later", func(t *testing.T) {
		onProcesses(t, 3, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
			list := fronts(t, c)
			v := keepVigil(t)
			holder, rival := supervise(t, proxied(list)), supervise(t, proxied(list))
			held := acquire(t, holder, "x")
			v.over(held)
			// If the grant of one of the others came late, its vote is in doubt as long as
			// these two have not renewed, and the third one comes back without its key.
			kept(t, held, ttl)
			list[2].proxy.Lead(c.Servers[1].Addr())
			await(t, "the rival to notice", func() error {
				_, err := rival.TryAcquire(t.Context(), "x")
				if !errors.Is(err, supervisor.ErrMisconfigured) {
					return fmt.Errorf("it says: %v", err)
				}
				return nil
			})
			broken(t, rival, proxied(list)[1:])
			kept(t, held, 2*ttl)
			list[2].proxy.Lead(c.Servers[2].Addr())
			// The server was never away, so it is not young.
			await(t, "the rival to be well again", func() error {
				l, err := rival.TryAcquire(t.Context(), "y")
				if err == nil {
					giveBack(t, l)
				}
				return err
			})
			giveBack(t, held)
			v.over(acquire(t, rival, "x"))
		})
	})
}

// Two databases of one server are two nodes that fail at once. That is warned of, and
// works.
func TestTwoDatabasesOfOneServer(t *testing.T) {
	t.Parallel()
	onProcesses(t, 2, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
		s := c.Servers[0]
		conns := node.URLs(s.URL(), s.URL()+"/1", c.Servers[1].URL())
		var told warnings
		sup := supervise(t, conns, told.observe)
		var said []string
		await(t, "a warning", func() error {
			if said = told.about("databases of one server"); len(said) == 0 {
				return fmt.Errorf("warnings: %q", told.all())
			}
			return nil
		})
		if !strings.Contains(said[0], conns[0].String()) || !strings.Contains(said[0], conns[1].String()) || len(said) > 1 {
			t.Errorf("warnings: %q, want one that names %v and %v", said, conns[0], conns[1])
		}
		l := acquire(t, sup, "x")
		for db := range 2 {
			key, err := s.Do("EVAL", "redis.call('SELECT', ARGV[1]); return redis.call('GET', KEYS[1])", "1", "x", fmt.Sprint(db))
			if err != nil || db == 0 && key != string(l.Token()) {
				t.Errorf("database %d has %v, %v", db, key, err)
			}
		}
		giveBack(t, l)
	})
}

// A server in cluster mode is refused with words, by whatever way it is given, also if
// it is the whole cluster; and nothing is left on it. A deployment of which it is one
// node works by the others.
func TestClusterModeIsRefused(t *testing.T) {
	t.Parallel()
	processes(t, 0) // or skip
	onProcesses(t, 2, 5, func(t *testing.T, c *cluster.Cluster, n *notes) {
		s := cluster.OpenYoung(t, cluster.Process, 1, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf").Servers[0]
		mustDo(t, s, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
		if err := poll(10*time.Second, func() error {
			if _, err := s.Do("SET", "x", "y"); err != nil {
				return err
			}
			_, err := s.Do("DEL", "x")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		option := rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true}
		of := func(single bool) rueidis.Client {
			option := option
			option.ForceSingleClient = single
			client, err := rueidis.NewClient(option)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			return client
		}
		for _, form := range []struct {
			name string
			conn node.Conn
		}{
			{"URL", node.URL(s.URL())},
			{"URL with RESP2", node.URL(s.URL() + "?protocol=2")},
			{"option", node.FromOption(option)},
			{"client", node.FromClient(of(true))},
		} {
			begun := time.Now()
			sup := begin(t, []node.Conn{form.conn})
			await(t, form.name+" to be refused", func() error {
				st := sup.Nodes()[0]
				if st.Enrolled || st.Err == nil || !strings.Contains(st.Err.Error(), "cluster") {
					return fmt.Errorf("enrolled %v, %v", st.Enrolled, st.Err)
				}
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			_, err := sup.Acquire(ctx, "x")
			cancel()
			if err == nil || !strings.Contains(err.Error(), "cluster") {
				t.Errorf("%s: the error of an acquisition does not say why: %v", form.name, err)
			}
			n.took("refused after", time.Since(begun))
		}
		if _, err := supervisor.New(configured([]node.Conn{node.FromClient(of(false))})); err == nil || !strings.Contains(err.Error(), "cluster") {
			t.Errorf("a client of a cluster: %v", err)
		}
		if keys := mustDo(t, s, "KEYS", "*"); len(keys.([]any)) != 0 {
			t.Errorf("the server in cluster mode has %q", keys)
		}

		three := begin(t, append(c.Conns(), node.URL(s.URL())))
		l := acquire(t, three, "x")
		kept(t, l, renewEvery)
		giveBack(t, l)
	})
}
