//go:build linux

package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/lease/fence"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

var (
	nemesisSeed = flag.Uint64("nemesis.seed", 0, "the faults of TestNemesis are drawn from it; 0: from one that is drawn itself")
	nemesisFor  = flag.Duration("nemesis.for", 0, "how long TestNemesis lets faults happen; 0: what LEASEHOLD_NEMESIS says, or 20s")
)

const (
	nemesisNodes   = 5
	nemesisClients = 4 // processes
	nemesisHands   = 3 // goroutines of each
	nemesisTTL     = time.Second
	nemesisName    = "contended"
	nemesisCounter = "counter"
	nemesisMark    = "mark"

	// What a client process is told.
	nemesisURLs   = "LEASEHOLD_TEST_NEMESIS_NODES"
	nemesisStore  = "LEASEHOLD_TEST_NEMESIS_STORE"
	nemesisRecord = "LEASEHOLD_TEST_NEMESIS_RECORD"
	nemesisLimit  = "LEASEHOLD_TEST_NEMESIS_LIMIT"
)

// A tenure is one lease, as its holder saw it, on the clock of the machine. At From
// and at To it was held for certain: Valid said so afterwards, and what is over does
// not come back.
type tenure struct {
	Fence    uint64
	From, To clock.Instant
	Lost     string // how, if it was
	Work     []increment
}

// An increment is a read-modify-write of the counter in the store.
type increment struct {
	Call, Return clock.Instant
	Old          int
	Done         bool // the write landed; otherwise it was not sent, or refused
	Refused      bool
}

// Random faults on the nodes, on each client's wire to each of them, and on the
// clients, any number at once: nobody ever holds the name beside another, no
// increment is lost, and when the faults have ended every client gets on.
func TestNemesis(t *testing.T) {
	t.Parallel()
	seed, length := *nemesisSeed, howLong(t)
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-nemesis.seed=%d -nemesis.for=%v", seed, length)

	c := processes(t, nemesisNodes)
	store := processes(t, 1).Servers[0]
	if _, err := store.Do("SET", nemesisCounter, "0"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	record := func(i int) string { return filepath.Join(dir, fmt.Sprint("client-", i)) }
	wires := make([][]*cluster.Proxy, nemesisClients)
	clients := make([]*worker, nemesisClients)
	for i := range clients {
		var urls []string
		for _, s := range c.Servers {
			p := cluster.NewProxy(t, s.Addr())
			wires[i] = append(wires[i], p)
			urls = append(urls, p.URL())
		}
		clients[i] = newWorker(t, "TestNemesisClient", 0,
			nemesisURLs+"="+strings.Join(urls, " "), nemesisStore+"="+store.Addr(),
			nemesisRecord+"="+record(i), nemesisLimit+"="+(length+2*time.Minute).String())
		if said := clients[i].line(); said != "started" {
			t.Fatalf("client %d: %s", i, said)
		}
	}

	plan := draw(seed, length)
	var running sync.WaitGroup
	begun := time.Now()
	for target, faults := range plan.faults {
		running.Go(func() {
			for _, f := range faults {
				<-time.After(time.Until(begun.Add(f.at)))
				switch {
				case target.client == anyone:
					strike(t, c.Servers[target.node], f)
				case target.node == anyone:
					halt(t, clients[target.client], f)
				default:
					sever(wires[target.client][target.node], f)
				}
			}
		})
	}
	running.Wait()
	t.Logf("%d faults in %v: %s", plan.n, time.Since(begun).Round(time.Second), plan)

	// What is said to a client is read before its last acquisition: that one has
	// nothing but sound nodes in front of it.
	var tenures []tenure
	for i, w := range clients {
		if _, err := io.WriteString(w.in, "calm\n"); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	for i, w := range clients {
		if said := w.line(); said != "done" {
			t.Errorf("client %d: %s", i, said)
		}
		theirs := recorded(t, record(i))
		if len(theirs) < nemesisHands {
			t.Errorf("client %d has held the name %d times, want once for each goroutine at least", i, len(theirs))
		}
		tenures = append(tenures, theirs...)
	}
	final, err := store.Do("GET", nemesisCounter)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, tenures, fmt.Sprint(final))
}

func howLong(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("LEASEHOLD_NEMESIS")
	switch {
	case *nemesisFor > 0:
		return *nemesisFor
	case s == "":
		return 20 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		t.Fatalf("LEASEHOLD_NEMESIS=%q: want a duration, such as 60s", s)
	}
	return d
}

// verify judges what the clients have recorded.
func verify(t *testing.T, tenures []tenure, final string) {
	t.Helper()
	slices.SortFunc(tenures, func(a, b tenure) int { return cmp.Compare(a.From, b.From) })
	var history []porcupine.Operation
	var held notes
	ends := map[string]int{}
	done, refused, wrong := 0, 0, 0
	for i, x := range tenures {
		held.took("held for", x.To.Sub(x.From))
		if i > 0 {
			last := tenures[i-1]
			held.took("between two holders", x.From.Sub(last.To))
			if x.From <= last.To {
				wrong++
				t.Errorf("two holders: fence %d until %d, fence %d from %d on, %v before", last.Fence, last.To, x.Fence, x.From, last.To.Sub(x.From))
				tenures[i].To = max(x.To, last.To) // who comes next must come behind both
			}
			if x.Fence <= last.Fence {
				wrong++
				t.Errorf("fence %d behind fence %d, %v later", x.Fence, last.Fence, x.From.Sub(last.From))
			}
		}
		if x.Lost == "" {
			x.Lost = lease.ErrReleased.Error()
		}
		ends[x.Lost]++
		for _, w := range x.Work {
			history = append(history, porcupine.Operation{Call: int64(w.Call), Return: int64(w.Return), Output: w})
			if w.Done {
				done++
			}
			if w.Refused {
				refused++
			}
		}
	}
	if want := strconv.Itoa(done); final != want {
		t.Errorf("the counter is %s after %s increments", final, want)
	}
	if result := porcupine.CheckOperationsTimeout(counter, history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history of the counter, %d operations, linearizable: %v", len(history), result)
	}
	t.Logf("%d leases (%s), %d increments, %d refused by the store, %d violations", len(tenures), counted(ends), done, refused, wrong)
	held.log(t)
}

// counter is the register in the store. What was read and not written back is a
// read; what was written back is one step, in which nothing may come between.
var counter = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, _, output any) (bool, any) {
		w := output.(increment)
		if state.(int) != w.Old {
			return false, state
		}
		if w.Done {
			return true, w.Old + 1
		}
		return true, state
	},
}

func recorded(t *testing.T, file string) []tenure {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []tenure
	for in := json.NewDecoder(f); ; {
		var x tenure
		err := in.Decode(&x)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return all
		}
		all = append(all, x)
	}
}

func counted(n map[string]int) string {
	var s []string
	for _, what := range slices.Sorted(maps.Keys(n)) {
		s = append(s, fmt.Sprintf("%s %d", what, n[what]))
	}
	return strings.Join(s, ", ")
}

// TestNemesisClient is another process of TestNemesis. It says "started", contends
// for the name until it reads a line, gets it once more with each goroutine, and
// says "done", or else what went wrong.
func TestNemesisClient(t *testing.T) {
	if os.Getenv(nemesisURLs) == "" {
		t.Skip("this is another process of TestNemesis")
	}
	limit, err := time.ParseDuration(os.Getenv(nemesisLimit))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, err := os.Create(os.Getenv(nemesisRecord))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// The store is sound, and each command is sent once. A process that was stopped
	// meanwhile must not take a late answer for none.
	store, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{os.Getenv(nemesisStore)}, DisableCache: true, ForceSingleClient: true,
		DisableRetry: true, ConnWriteTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sup, err := supervisor.New(supervisor.Config{
		Nodes: node.URLs(strings.Fields(os.Getenv(nemesisURLs))...), TTL: nemesisTTL, NodeTimeout: nemesisTTL / 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSoon(sup)

	h := hands{ctx: ctx, sup: sup, store: store, clock: clock.System(), out: json.NewEncoder(out)}
	fmt.Println("started")
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		h.calm.Store(true)
	}()
	errs := make([]error, nemesisHands)
	atOnce(nemesisHands, func(i int) { errs[i] = h.work() })
	if err := errors.Join(errs...); err != nil {
		fmt.Println(strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	fmt.Println("done")
}

// hands are the goroutines of one client.
type hands struct {
	ctx   context.Context
	sup   *supervisor.Supervisor
	store rueidis.Client
	clock clock.Clock
	calm  atomic.Bool // the faults have ended

	mu  sync.Mutex
	out *json.Encoder
}

func (h *hands) work() error {
	for last := false; !last; {
		last = h.calm.Load()
		// Mostly patient, now and then not.
		patience, holding := 10*time.Second, rand.N(100*time.Millisecond)
		switch rand.N(10) {
		case 0:
			patience = rand.N(300 * time.Millisecond)
		case 1, 2:
			holding = rand.N(3 * nemesisTTL)
		}
		if last {
			patience, holding = 45*time.Second, 0
		}
		ctx, cancel := context.WithTimeout(h.ctx, patience)
		l, err := h.sup.Acquire(ctx, nemesisName)
		cancel()
		if err != nil {
			if last || h.ctx.Err() != nil {
				return fmt.Errorf("no lease after %v without faults: %w", patience, err)
			}
			continue
		}
		if err := h.hold(l, holding); err != nil {
			return err
		}
		<-time.After(rand.N(50 * time.Millisecond)) // let others try, too
	}
	return nil
}

// hold counts for as long as it may, and records it.
func (h *hands) hold(l *lease.Lease, d time.Duration) error {
	x := tenure{Fence: l.Fence(), From: h.clock.Now()}
	valid := func() bool {
		at := h.clock.Now()
		ok := l.Valid()
		if ok {
			x.To = at
		}
		return ok
	}
	var err error
	for more := true; more && err == nil && valid(); more = more && x.To.Sub(x.From) < d {
		more, err = h.increment(l, valid, &x)
		if more {
			<-time.After(rand.N(10 * time.Millisecond))
		}
	}
	if x.To == 0 { // over before it was looked at
		return err
	}
	if valid() {
		ctx, cancel := context.WithTimeout(h.ctx, nemesisTTL)
		defer cancel()
		if err := l.Release(ctx); errors.Is(err, lease.ErrLost) {
			x.Lost = err.Error()
		}
	} else {
		x.Lost = l.Err().Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(err, h.out.Encode(x))
}

// increment adds one to the counter, in the order that package fence asks for. It
// reports whether it did.
func (h *hands) increment(l *lease.Lease, valid func() bool, x *tenure) (bool, error) {
	w := increment{Call: h.clock.Now()}
	mark := strconv.FormatUint(l.Fence(), 10)
	ask := func(script string, keys []string, args ...string) (bool, error) {
		n, err := h.store.Do(context.Background(), h.store.B().Eval().Script(script).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()).AsInt64()
		if err == nil && n != 1 && l.Valid() {
			err = fmt.Errorf("fence %d: refused by the store, and yet valid", l.Fence())
		}
		return n == 1, err
	}
	if ok, err := ask(fence.Advance, []string{nemesisMark}, mark); !ok || err != nil {
		return false, err
	}
	old, err := h.store.Do(context.Background(), h.store.B().Get().Key(nemesisCounter).Build()).AsInt64()
	if err != nil {
		return false, err
	}
	w.Old, w.Return = int(old), h.clock.Now()
	<-time.After(rand.N(3 * time.Millisecond))
	if valid() {
		w.Done, err = ask(fence.Write, []string{nemesisMark, nemesisCounter}, mark, strconv.Itoa(w.Old+1))
		w.Refused = !w.Done
		if w.Done {
			w.Return = h.clock.Now()
		}
	}
	x.Work = append(x.Work, w)
	return w.Done, err
}
