//go:build linux

package integration

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
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
	nemesisCap     = 3 * nemesisTTL / 2 // the MaxTTL of every other client; that of the others is nemesisTTL
	nemesisName    = "contended"
	nemesisCounter = "counter"
	nemesisMark    = "mark"
)

// A tenure is one lease, as its holder saw it, on the clock of the machine. At From
// and at To it was held for certain: Valid said so afterwards, and what is over does
// not come back.
type tenure struct {
	Fence    uint64
	Token    string
	From, To clock.Instant
	Lost     string // how, if it was; "" too if its process was killed
	Ended    bool   // it is known how
	Stale    bool   // the store has refused it, and yet it was valid
	Work     []increment
}

// An increment is a read-modify-write of the counter in the store.
type increment struct {
	Call, Return clock.Instant
	Old          int
	Done         bool // the write landed; otherwise it was not sent, or refused
	Refused      bool
	Unknown      bool // its process was killed before it knew
}

// A revocation is what an operator does to a lease: from Call on its holder may not be
// alone before it learns of it.
type revocation struct {
	Token string
	Call  clock.Instant
}

// Random faults on the nodes, on each client's wire to each of them, and on the clients,
// any number at once: killed and stopped servers, such as lose their data or have their
// clock set, spare ones that take an address, some of it right after a vote; and clients
// that are killed, hand their leases over, adopt those of the dead and of the living, once
// or twice, and revoke them. Nobody ever holds the name beside another, but for a holder
// that was revoked and does not know it yet; no increment is lost; and when the faults have
// ended every client gets on.
func TestNemesis(t *testing.T) {
	takesLong(t)
	t.Parallel()
	var all []int
	for i := range nemesisNodes {
		all = append(all, i)
	}
	seed, length := nemesisSeeded(t)
	beset(t, seed, length, lists{former: all})
}

// The same while the nodes are changed in two rollouts, which the seed chooses. Half of the clients are
// restarted, and half of them are given other lists while they run.
func TestNemesisOfChanges(t *testing.T) {
	takesLong(t)
	t.Parallel()
	seed, length := nemesisSeeded(t)
	kind := kinds[seed%uint64(len(kinds))]
	t.Log(kind.name)
	beset(t, seed, length, kind.of)
}

// nemesisSeeded returns the seed, and how long faults happen.
func nemesisSeeded(t *testing.T) (seed uint64, length time.Duration) {
	t.Helper()
	seed, length = *nemesisSeed, howLong(t)
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-nemesis.seed=%d -nemesis.for=%v", seed, length)
	return seed, length
}

// beset has faults happen to the former list, and to both while they are changed, if there are two.
func beset(t *testing.T, seed uint64, length time.Duration, of lists) {

	store := processes(t, 1).Servers[0]
	if _, err := store.Do("SET", nemesisCounter, "0"); err != nil {
		t.Fatal(err)
	}
	n := newNemesis(t, store.Addr(), length, of)
	plan := draw(seed, length, len(n.slots))
	var running, changing sync.WaitGroup
	if of.present != nil {
		changing.Go(func() { n.change(of) })
	}
	begun := time.Now()
	for target, faults := range plan.faults {
		running.Go(func() {
			for _, f := range faults {
				<-time.After(time.Until(begun.Add(f.at)))
				n.play(target, f)
			}
		})
	}
	stop := make(chan struct{})
	aiming := make(chan struct{})
	go func() { n.aim(stop); close(aiming) }()
	running.Wait()
	close(stop)
	<-aiming
	t.Logf("%d faults in %v: %s", plan.n, time.Since(begun).Round(time.Second), plan)
	changing.Wait()

	// What is said to a client is read before its last acquisition: that one has
	// nothing but sound nodes in front of it.
	for _, c := range n.clients {
		c.tell("calm")
	}
	for _, c := range n.clients {
		if said := <-c.said; said != "done" {
			t.Errorf("client %d: %s", c.i, said)
		}
	}
	final, err := store.Do("GET", nemesisCounter)
	if err != nil {
		t.Fatal(err)
	}
	n.verify(t, fmt.Sprint(final), length)
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

// A nemesis is what TestNemesis has: nodes, clients, and the wires between them.
type nemesis struct {
	t       *testing.T
	length  time.Duration
	store   string
	dir     string
	slots   []*slot
	wires   [][]*cluster.Proxy // by client and node; the last ones are those of the operator
	clients []*client
	votes   chan int      // a node that is being asked for a vote
	held    chan struct{} // somebody has the name now

	mu     sync.Mutex
	played map[string]int
	nodes  []int // what clients are given that are started now
	former []int
}

// A slot is one node's address, and who has it.
type slot struct {
	mu            sync.Mutex // of the servers: their calls must not overlap
	active, spare cluster.Server
}

func newNemesis(t *testing.T, store string, length time.Duration, of lists) *nemesis {
	n := &nemesis{
		t: t, length: length, store: store, dir: t.TempDir(), votes: make(chan int, 1), held: make(chan struct{}, 1),
		wires: make([][]*cluster.Proxy, nemesisClients+1), played: map[string]int{}, nodes: of.former,
	}
	count := 1 + slices.Max(slices.Concat(of.former, of.present))
	var servers []cluster.Server
	if list, err := cluster.OpenClocked(t, 2*count); err == nil {
		servers = clusterOf(list).Servers
	} else {
		t.Logf("left out: no clock is set: %v", err)
		servers = cluster.OpenYoung(t, cluster.Process, 2*count).Servers
	}
	for i := range count {
		n.slots = append(n.slots, &slot{active: servers[i], spare: servers[count+i]})
	}
	for i := range n.wires {
		for k, s := range n.slots {
			p := cluster.NewProxy(t, s.active.Addr())
			p.Watch("set "+nemesisName, func() {
				select {
				case n.votes <- k:
				default:
				}
			})
			n.wires[i] = append(n.wires[i], p)
		}
	}
	for i := range nemesisClients {
		c := &client{n: n, i: i, held: make(chan struct{}, 1), list: make(chan struct{}, 1)}
		n.clients = append(n.clients, c)
	}
	for _, c := range n.clients {
		c.start()
	}
	return n
}

func (n *nemesis) count(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.played[what]++
}

func (n *nemesis) anybody() *client { return n.clients[rand.IntN(len(n.clients))] }

// play does what a plan says, and returns when it is over.
func (n *nemesis) play(x target, f fault) {
	switch {
	case f.kind == revoked:
		awhile(n.held, nemesisTTL)
		n.anybody().tell("revoke")
	case f.kind == came:
		n.anybody().tell("come")
	case x.client == anyone:
		n.slots[x.node].mu.Lock()
		defer n.slots[x.node].mu.Unlock()
		n.strike(x.node, f)
	case f.kind == murdered:
		n.clients[x.client].murder()
	case x.node == anyone:
		n.clients[x.client].halt(f.d)
	default:
		sever(n.wires[x.client][x.node], f)
	}
}

// awhile waits until something happens, for so long at most.
func awhile(what chan struct{}, most time.Duration) {
	select {
	case <-what: // which was a while ago
	default:
	}
	over := time.NewTimer(most)
	defer over.Stop()
	select {
	case <-what:
		<-time.After(rand.N(30 * time.Millisecond))
	case <-over.C:
	}
}

// tellOf tells those that wait for it that something happens.
func tellOf(what chan struct{}) {
	select {
	case what <- struct{}{}:
	default:
	}
}

// strike does something to a node, and returns when it is over. Its slot is locked.
func (n *nemesis) strike(node int, f fault) {
	slot := n.slots[node]
	switch f.kind {
	case killed:
		slot.active.Kill()
		<-time.After(f.d)
		slot.active.Start()
	case stepped:
		s, ok := slot.active.(*cluster.Clocked)
		if !ok {
			return
		}
		s.Kill()
		<-time.After(f.d)
		s.Start()
		s.SetAhead(f.ahead) // right after the restart, as by NTP
	case stopped:
		slot.active.Pause()
		<-time.After(f.d)
		slot.active.Resume()
	case swapped:
		// The spare is empty, and has run since it was the last time.
		if f.d > nemesisTTL/4 {
			slot.active.Pause() // the former one hangs
		} else {
			slot.active.Kill()
		}
		<-time.After(f.d)
		for i := range n.wires {
			n.wires[i][node].Lead(slot.spare.Addr())
		}
		slot.active.Kill()
		slot.active.Start()
		slot.active, slot.spare = slot.spare, slot.active
	case emptied:
		if _, err := slot.active.Do("FLUSHALL"); err != nil {
			n.t.Errorf("FLUSHALL: %v", err)
		}
	case flushed:
		if _, err := slot.active.Do("SCRIPT", "FLUSH"); err != nil {
			n.t.Errorf("SCRIPT FLUSH: %v", err)
		}
	}
}

// aim has nodes forget what they have just granted, or are about to, and has newcomers
// want the name right then, until stop is closed.
func (n *nemesis) aim(stop <-chan struct{}) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-stop:
			return
		}
		var node int
		select {
		case <-n.votes: // which was seen a while ago
		default:
		}
		select {
		case node = <-n.votes:
		case <-stop:
			return
		}
		<-time.After(rand.N(4 * time.Millisecond))
		others := rand.Perm(len(n.slots))[:[]int{0, 0, 0, 0, 1, 2}[rand.IntN(6)]]
		for _, k := range append(others, node) {
			if s := n.slots[k]; s.mu.TryLock() {
				f := fault{kind: []string{emptied, emptied, emptied, swapped, swapped, killed}[rand.IntN(6)]}
				n.strike(k, f)
				n.count("aimed: " + f.kind)
				s.mu.Unlock()
			}
		}
		for range rand.IntN(3) {
			n.anybody().tell("come")
		}
		again.Reset(nemesisTTL + rand.N(2*nemesisTTL))
	}
}

// change changes the nodes.
func (n *nemesis) change(of lists) {
	<-time.After(n.length / 4)
	n.rollOut(of.present, of.former)
	operator := n.wires[nemesisClients]
	conns := func(list []int) []node.Conn { return node.URLs(urlsOf(operator, list)...) }
	cfg := supervisor.Config{Nodes: conns(of.present), Former: conns(of.former), TTL: nemesisTTL, MaxTTLCap: nemesisCap, NodeTimeout: nemesisTTL / 10}
	begun := time.Now()
	for {
		err := supervisor.FinishChange(n.t.Context(), cfg, supervisor.FinishOptions{})
		if err == nil {
			break
		}
		n.count("not finished")
		if time.Since(begun) > n.length+time.Minute {
			n.t.Errorf("not finished after %v: %v", time.Since(begun), err)
			return
		}
		<-time.After(rand.N(nemesisTTL / 4))
	}
	n.t.Logf("finished after %v", time.Since(begun).Round(time.Millisecond))
	n.rollOut(of.present, nil)
}

// rollOut gives lists to one client after the other. Some take them while they run, unless they do not
// within a while. Others are killed.
func (n *nemesis) rollOut(nodes, former []int) {
	n.mu.Lock()
	n.nodes, n.former = nodes, former
	n.mu.Unlock()
	for _, i := range rand.Perm(nemesisClients) {
		if c := n.clients[i]; rand.IntN(2) == 0 || !c.relist(nodes, former) {
			c.murder()
		} else {
			n.count("given other lists")
		}
	}
}

// urlsOf returns the URLs of some of the wires of a client.
func urlsOf(wires []*cluster.Proxy, list []int) (urls []string) {
	for _, i := range list {
		urls = append(urls, wires[i].URL())
	}
	return urls
}

// A client is a process of TestNemesisClient, and the next one when it is killed.
type client struct {
	n    *nemesis
	i    int
	said chan string   // what the present process said last
	held chan struct{} // it has the name now
	list chan struct{} // it has taken other lists
	turn sync.Mutex    // of what is done to the process

	mu      sync.Mutex
	w       *worker
	records int           // how many processes there were
	last    string        // the handle of the lease that it had last
	ended   chan struct{} // closed when nothing more is to be heard of the present process
}

func (c *client) record(k int) string {
	return filepath.Join(c.n.dir, fmt.Sprintf("client-%d-%d", c.i, k))
}

func (c *client) start() {
	c.n.mu.Lock()
	nodes, former := urlsOf(c.n.wires[c.i], c.n.nodes), urlsOf(c.n.wires[c.i], c.n.former)
	c.n.mu.Unlock()
	most := nemesisTTL
	if c.i%2 == 1 {
		most = nemesisCap
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w = newWorker(c.n.t, "TestNemesisClient", 0,
		nemesisURLs+"="+strings.Join(nodes, " "), nemesisFormer+"="+strings.Join(former, " "), nemesisStore+"="+c.n.store, nemesisMost+"="+most.String(),
		nemesisRecord+"="+c.record(c.records), nemesisLimit+"="+(c.n.length+2*time.Minute).String())
	c.records++
	c.last, c.said, c.ended = "", make(chan string, 1), make(chan struct{})
	started := make(chan struct{})
	go c.listen(c.w, started, c.said, c.ended)
	select {
	case <-started:
	case <-c.ended:
		c.n.t.Errorf("client %d has ended at once", c.i)
	}
}

// listen hears what a process says: of handles, which are passed on to others, and in the
// end how it went.
func (c *client) listen(w *worker, started chan<- struct{}, said chan<- string, ended chan<- struct{}) {
	n := c.n
	defer close(ended)
	for w.out.Scan() {
		what, rest, _ := strings.Cut(w.out.Text(), " ")
		switch what {
		case "started":
			close(started)
		case "held":
			c.mu.Lock()
			if c.w == w {
				c.last = rest
			}
			c.mu.Unlock()
			tellOf(n.held)
			tellOf(c.held)
			if rand.IntN(12) == 0 {
				n.pass("living", rest)
			}
		case "over":
			n.pass("over", rest)
		case "listed":
			tellOf(c.list)
		case "PASS", "---", "===", "ok":
		default:
			select {
			case said <- w.out.Text():
			default:
			}
		}
	}
	select {
	case said <- "it has ended":
	default:
	}
}

// pass gives a handle to somebody, now and then to two.
func (n *nemesis) pass(how, handle string) {
	for range 1 + rand.IntN(3)/2 {
		n.anybody().tell("adopt " + how + " " + handle)
	}
}

// tell says something to the present process.
func (c *client) tell(line string) {
	c.mu.Lock()
	w := c.w
	c.mu.Unlock()
	_, _ = io.WriteString(w.in, line+"\n") // it may have been killed
}

// murder kills the process, while it has the name if it gets it soon, has somebody adopt
// what it held, and starts another one.
func (c *client) murder() {
	c.turn.Lock()
	defer c.turn.Unlock()
	awhile(c.held, 3*nemesisTTL)
	c.mu.Lock()
	w, ended := c.w, c.ended
	c.mu.Unlock()
	if err := w.cmd.Process.Kill(); err != nil {
		c.n.t.Errorf("kill client %d: %v", c.i, err)
	}
	<-ended
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last != "" && rand.IntN(8) > 0 {
		for range 1 + rand.IntN(4)/3 {
			heir := c.n.clients[(c.i+1+rand.IntN(nemesisClients-1))%nemesisClients]
			heir.tell("adopt " + []string{"ended", "ended", "ended", "living"}[rand.IntN(4)] + " " + last)
		}
	}
	c.start()
}

// relist gives the process other lists, and reports whether it has taken them within a while.
func (c *client) relist(nodes, former []int) bool {
	select {
	case <-c.list: // of before
	default:
	}
	c.tell("lists " + strings.Join(urlsOf(c.n.wires[c.i], nodes), ",") + " " + strings.Join(urlsOf(c.n.wires[c.i], former), ","))
	select {
	case <-c.list:
		return true
	case <-time.After(10 * nemesisTTL):
		return false
	}
}

// halt stops the process for a while.
func (c *client) halt(d time.Duration) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.mu.Lock()
	w := c.w
	c.mu.Unlock()
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := w.cmd.Process.Signal(s); err != nil {
			c.n.t.Errorf("%v to client %d: %v", s, c.i, err)
		}
		if s == syscall.SIGSTOP {
			<-time.After(d)
		}
	}
}

// verify judges what the clients have recorded.
func (n *nemesis) verify(t *testing.T, final string, length time.Duration) {
	t.Helper()
	var tenures []tenure
	revocations := map[string]clock.Instant{} // when the first of each token began
	for _, c := range n.clients {
		theirs := 0
		for k := range c.records {
			r := recorded(t, c.record(k))
			if k == c.records-1 {
				theirs = len(r.tenures)
			}
			tenures = append(tenures, r.tenures...)
			for _, x := range r.revocations {
				if at, ok := revocations[x.Token]; !ok || x.Call < at {
					revocations[x.Token] = x.Call
				}
			}
			for what, times := range r.played {
				n.played[what] += times
			}
		}
		if theirs < nemesisHands {
			t.Errorf("client %d has held the name %d times, want once for each goroutine at least", c.i, theirs)
		}
	}
	slices.SortFunc(tenures, func(a, b tenure) int { return cmp.Compare(a.From, b.From) })
	var history []porcupine.Operation
	var held notes
	ends := map[string]int{}
	done, unknown, refused, wrong, known := 0, 0, 0, 0, 0
	// wasRevoked tells whether somebody tried to revoke a lease before an instant. Its
	// holder learns of it when it renews, or by its deadline.
	wasRevoked := func(x tenure, by clock.Instant) bool {
		at, ok := revocations[x.Token]
		return ok && at <= by
	}
	for i, x := range tenures {
		held.took("held for", x.To.Sub(x.From))
		if i > 0 {
			last := tenures[i-1]
			held.took("between two holders", x.From.Sub(last.To))
			excused := wasRevoked(last, x.From)
			if x.From <= last.To {
				if excused && last.To.Sub(x.From) <= nemesisCap {
					known++
				} else {
					wrong++
					t.Errorf("two holders: fence %d until %d, fence %d from %d on, %v before", last.Fence, last.To, x.Fence, x.From, last.To.Sub(x.From))
				}
				if last.To > x.To { // who comes next must come after both
					tenures[i].To, tenures[i].Token = last.To, last.Token
				}
			}
			if x.Fence <= last.Fence {
				if excused && x.From.Sub(revocations[last.Token]) <= nemesisCap {
					known++
				} else {
					wrong++
					t.Errorf("fence %d behind fence %d, %v later", x.Fence, last.Fence, x.From.Sub(last.From))
				}
			}
			// One of two holders whom a revocation explains may be refused; it depends on
			// the order of their fences which one.
			if x.Stale && !excused && !wasRevoked(x, x.To) {
				wrong++
				t.Errorf("fence %d: refused by the store, and yet valid", x.Fence)
			}
		}
		switch {
		case !x.Ended:
			x.Lost = "its process was killed"
		case x.Lost == "":
			x.Lost = lease.ErrReleased.Error()
		}
		ends[x.Lost]++
		for _, w := range x.Work {
			if w.Unknown {
				w.Return = math.MaxInt64
				unknown++
			}
			history = append(history, porcupine.Operation{Call: int64(w.Call), Return: int64(w.Return), Output: w})
			if w.Done {
				done++
			}
			if w.Refused {
				refused++
			}
		}
	}
	if sum, err := strconv.Atoi(final); err != nil || sum < done || sum > done+unknown {
		t.Errorf("the counter is %s after %d increments, and %d more that may have been", final, done, unknown)
	}
	if result := porcupine.CheckOperationsTimeout(counter.ToModel(), history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history of the counter, %d operations, linearizable: %v", len(history), result)
	}
	t.Logf("%d leases (%s), %d increments, %d refused by the store, %d violations; %d overlaps or fences behind that revocations explain",
		len(tenures), counted(ends), done, refused, wrong, known)
	t.Logf("besides: %s", counted(n.played))
	held.log(t)
	if length < 2*time.Minute { // a slow machine has few leases in one
		return
	}
	for _, what := range []string{
		"handed over", "adopted: over", "adopted: living", "adopted: ended", "refused: over", "refused: living",
		"revoked", "newcomers", "aimed: " + emptied, "aimed: " + swapped,
	} {
		if n.played[what] == 0 {
			t.Errorf("in %v there was none of: %s", length, what)
		}
	}
}

// counter is the register in the store. What was read and not written back is a
// read; what was written back is one step, in which nothing may come between. If it is
// not known which of the two it was, then it is either.
var counter = porcupine.NondeterministicModel{
	Init: func() []any { return []any{0} },
	Step: func(state, _, output any) []any {
		switch w := output.(increment); {
		case state.(int) != w.Old:
			return nil
		case w.Unknown:
			return []any{w.Old, w.Old + 1}
		case w.Done:
			return []any{w.Old + 1}
		}
		return []any{state}
	},
}

// A journal is what one process has recorded.
type journal struct {
	tenures     []tenure
	revocations []revocation
	played      map[string]int
}

// An entry is one line of it, in the order in which it came about. A process that is
// killed has no time to sum anything up.
type entry struct {
	Lease   int           `json:",omitempty"` // which of this process
	Begun   *tenure       `json:",omitempty"`
	Valid   clock.Instant `json:",omitempty"`
	Tried   *increment    `json:",omitempty"` // the write is sent after this
	Did     *increment    `json:",omitempty"`
	Ended   *string       `json:",omitempty"`
	Stale   bool          `json:",omitempty"`
	Revoked *revocation   `json:",omitempty"`
	Played  string        `json:",omitempty"`
}

func recorded(t *testing.T, file string) journal {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := journal{played: map[string]int{}}
	all := map[int]*tenure{}
	tried := map[int]*increment{}
	for in := json.NewDecoder(f); ; {
		var e entry
		err := in.Decode(&e)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			break
		}
		x := all[e.Lease]
		switch {
		case e.Begun != nil:
			all[e.Lease] = e.Begun
		case e.Valid != 0:
			x.To = e.Valid
		case e.Tried != nil:
			tried[e.Lease] = e.Tried
		case e.Did != nil:
			delete(tried, e.Lease)
			x.Work = append(x.Work, *e.Did)
		case e.Ended != nil:
			x.Lost, x.Ended = *e.Ended, true
		case e.Stale:
			x.Stale = true
		case e.Revoked != nil:
			r.revocations = append(r.revocations, *e.Revoked)
		case e.Played != "":
			r.played[e.Played]++
		}
	}
	for id, x := range all {
		if w := tried[id]; w != nil {
			w.Unknown = true
			x.Work = append(x.Work, *w)
		}
		if x.To != 0 { // else it was over before it was looked at
			r.tenures = append(r.tenures, *x)
		}
	}
	return r
}

func counted(n map[string]int) string {
	var s []string
	for _, what := range slices.Sorted(maps.Keys(n)) {
		s = append(s, fmt.Sprintf("%s %d", what, n[what]))
	}
	return strings.Join(s, ", ")
}
