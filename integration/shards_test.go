//go:build linux

package integration

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/lease/fence"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/shards"
)

var (
	shardsFor  = flag.Duration("shards.for", 0, "how long TestShards has processes come and go; 0: what LEASEHOLD_SHARDS says, or 20s")
	shardsSeed = flag.Uint64("shards.seed", 0, "what the processes of TestShards do is drawn from it; 0: from one that is drawn itself")
)

const (
	shardsURLs  = "LEASEHOLD_TEST_SHARDS_NODES"
	shardsStore = "LEASEHOLD_TEST_SHARDS_STORE"
	shardsTTL   = 3 * time.Second
	shardsNames = 100
	shardsMost  = 10 // processes
)

// TestShardsWorker is another process of TestShards. It takes part in the group until it is told
// to quit. It says "taken NAME FENCE" and "gone NAME FENCE" of each function, "bad" and what
// if the store has refused it although its lease is valid, and "ended" with the error of Own.
func TestShardsWorker(t *testing.T) {
	if os.Getenv(shardsURLs) == "" {
		t.Skip("this is another process of TestShards")
	}
	store, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{os.Getenv(shardsStore)}, DisableCache: true, ForceSingleClient: true,
		DisableRetry: true, ConnWriteTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sup, err := supervisor.New(supervisor.Config{
		Nodes: node.URLs(strings.Fields(os.Getenv(shardsURLs))...), TTL: shardsTTL, MaxTTLCap: shardsTTL, NodeTimeout: shardsTTL / 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSoon(sup)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // or its end
		cancel()
	}()
	var mu sync.Mutex
	say := func(words ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(words...)
	}
	err = shards.Own(ctx, sup, "g", shardNames(), func(ctx context.Context, name string) error {
		l := lease.FromContext(ctx)
		mark := strconv.FormatUint(l.Fence(), 10)
		say("taken", name, mark)
		defer say("gone", name, mark)
		every := time.NewTicker(200 * time.Millisecond)
		defer every.Stop()
		for {
			n, err := store.Do(context.Background(), store.B().Eval().Script(fence.Advance).Numkeys(1).Key("mark:"+name).Arg(mark).Build()).AsInt64()
			if err != nil {
				say("bad", name, err)
			} else if n != 1 && l.Valid() {
				say("bad", name, "has another owner, and the lease of", mark, "is valid")
			}
			select {
			case <-every.C:
			case <-ctx.Done():
				<-time.After(rand.N(50 * time.Millisecond))
				return nil
			}
		}
	})
	say("ended", err)
}

func shardNames() []string {
	names := make([]string, shardsNames)
	for i := range names {
		names[i] = fmt.Sprintf("%03d", i)
	}
	return names
}

// A sharer is one process, as TestShards knows it.
type sharer struct {
	*worker
	id   int
	part bool // it takes part, and runs
}

// An ownership is who has a name, as far as was said.
type ownership struct {
	who   *sharer
	fence uint64
}

// A sharing is what TestShards knows.
type sharing struct {
	t   *testing.T
	env []string

	mu     sync.Mutex
	all    []*sharer
	owners map[string]ownership
	taken  int
	bad    []string
}

func (s *sharing) join() {
	w := newWorker(s.t, "TestShardsWorker", 0, s.env...)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &sharer{worker: w, id: len(s.all), part: true}
	s.all = append(s.all, p)
	go func() {
		for w.out.Scan() {
			s.hear(p, strings.Fields(w.out.Text()))
		}
	}()
}

func (s *sharing) hear(p *sharer, words []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "taken", "gone":
		name := words[1]
		mark, err := strconv.ParseUint(words[2], 10, 64)
		was := s.owners[name]
		switch {
		case err != nil:
			s.bad = append(s.bad, err.Error())
		case words[0] == "gone" && mark == was.fence:
			s.owners[name] = ownership{nil, mark}
		case words[0] == "taken":
			s.taken++
			if mark == was.fence {
				s.bad = append(s.bad, fmt.Sprintf("%s was taken twice with the fence %d", name, mark))
			}
			if mark > was.fence { // one that was stopped may say so late
				s.owners[name] = ownership{p, mark}
			}
		}
	case "bad":
		s.bad = append(s.bad, strings.Join(words, " "))
	}
}

// set notes whether a process takes part.
func (s *sharing) set(p *sharer, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.part = in
}

// parts returns how many names each process that takes part has, and how many none of them has.
func (s *sharing) parts() (parts map[*sharer]int, idle, taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts = map[*sharer]int{}
	for _, p := range s.all {
		if p.part {
			parts[p] = 0
		}
	}
	for _, name := range shardNames() {
		if o := s.owners[name]; o.who != nil && o.who.part {
			parts[o.who]++
		} else {
			idle++
		}
	}
	return parts, idle, s.taken
}

// balanced returns nil if every name has an owner, and all have as many but for one.
func (s *sharing) balanced() error {
	parts, idle, _ := s.parts()
	least, most := shardsNames, 0
	for _, n := range parts {
		least, most = min(least, n), max(most, n)
	}
	if idle > 0 || most-least > 1 {
		return fmt.Errorf("%d of %d processes: from %d to %d names each, %d with none of them", len(parts), len(s.all), least, most, idle)
	}
	return nil
}

// least returns how many names have to move.
func (s *sharing) least() int {
	parts, idle, _ := s.parts()
	lo, hi := shardsNames/len(parts), (shardsNames+len(parts)-1)/len(parts)
	need, over := 0, 0
	for _, have := range parts {
		need += max(0, lo-have)
		over += max(0, have-hi)
	}
	return max(need, idle+over)
}

// A hundred names and one to ten processes, which come, leave, are killed, and are stopped
// and go on: no name ever has two owners, all is balanced soon after each change, and hardly
// more names move than must.
func TestShards(t *testing.T) {
	takesLong(t)
	if !slices.Contains(cluster.Kinds(t), cluster.Process) {
		t.Skip("left out: this runs on processes, and there is no redis-server on the PATH")
	}
	seed, length := *shardsSeed, shardsLength(t)
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-shards.seed=%d -shards.for=%v", seed, length)
	random := rand.New(rand.NewPCG(seed, 0))
	s := &sharing{t: t, owners: map[string]ownership{}, env: []string{
		shardsURLs + "=" + strings.Join(processes(t, 3).URLs(), " "), shardsStore + "=" + processes(t, 1).Servers[0].Addr(),
	}}
	var n notes
	whole, begun, moves, least := newWatch(), time.Now(), 0, 0
	change := func(what string, within time.Duration, do func()) {
		do()
		must := s.least()
		_, _, before := s.parts()
		w, from := newWatch(), time.Now()
		if err := poll(within+20*time.Second, s.balanced); err != nil {
			t.Fatalf("%s: %v; %v", what, err, w)
		}
		n.within(t, w, what, time.Since(from), within)
		<-time.After(200*time.Millisecond + time.Duration(random.Int64N(int64(time.Second))))
		_, _, after := s.parts()
		moves, least = moves+after-before, least+must
		if after-before > must+must/10 {
			t.Logf("%s: %d moves, of %d", what, after-before, must)
		}
	}
	const soon, death = 3 * time.Second, shardsTTL + 3*time.Second
	// A new process has to start and to connect, which is not the business of the group.
	join := func() { change("balanced after a process came", soon+time.Second, s.join) }
	join()
	var stopped []*sharer
	for time.Since(begun) < length {
		var in []*sharer
		for _, p := range s.all {
			if p.part {
				in = append(in, p)
			}
		}
		p := in[random.IntN(len(in))]
		switch what := random.IntN(6); {
		case len(in) == 1 || what < 2 && len(in) < shardsMost:
			if len(stopped) > 0 {
				back := stopped[0]
				stopped = stopped[1:]
				change("balanced after one that was stopped went on", death, func() {
					back.signal(syscall.SIGCONT)
					s.set(back, true)
				})
			} else {
				join()
			}
		case what < 4:
			change("balanced after a process left", soon, func() {
				s.set(p, false)
				if _, err := fmt.Fprintln(p.in, "quit"); err != nil {
					t.Error(err)
				}
			})
		case what == 4:
			change("balanced after a process was killed", death, func() {
				s.set(p, false)
				p.signal(syscall.SIGKILL)
			})
		default:
			change("balanced after a process was stopped", death, func() {
				p.stop()
				s.set(p, false)
			})
			stopped = append(stopped, p)
		}
	}
	for _, p := range stopped {
		p.signal(syscall.SIGCONT)
	}
	n.log(t)
	t.Logf("%d processes in all; %d moves of %d", len(s.all), moves, least)
	if moves > least+least/10 {
		if whole.busy() {
			excuse(t, "%d moves of %d; %v", moves, least, whole)
		} else {
			t.Errorf("%d moves: want at most 1.1 times %d; %v", moves, least, whole)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bad := range s.bad {
		t.Error(bad)
	}
}

func shardsLength(t *testing.T) time.Duration {
	t.Helper()
	if *shardsFor > 0 {
		return *shardsFor
	}
	text := os.Getenv("LEASEHOLD_SHARDS")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("LEASEHOLD_SHARDS=%q: want a duration, such as 5m", text)
	}
	return d
}
