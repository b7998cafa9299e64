//go:build linux

package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/lease/fence"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// What a client process is told.
const (
	nemesisURLs   = "LEASEHOLD_TEST_NEMESIS_NODES"
	nemesisFormer = "LEASEHOLD_TEST_NEMESIS_FORMER"
	nemesisStore  = "LEASEHOLD_TEST_NEMESIS_STORE"
	nemesisRecord = "LEASEHOLD_TEST_NEMESIS_RECORD"
	nemesisLimit  = "LEASEHOLD_TEST_NEMESIS_LIMIT"
	nemesisMost   = "LEASEHOLD_TEST_NEMESIS_MOST" // its MaxTTL
)

// TestNemesisClient is another process of TestNemesis. It says "started", and contends for
// the name. It says "held" with the handle of each lease, and "over" with that of one which
// it has handed over. It reads what else it is to do:
//
//	adopt over|ended|living HANDLE   adopt it, of a lease that was handed over, whose process
//	                                 has ended, or of which nothing is known
//	revoke                           revoke whatever lease there is
//	lists URLS [URLS]                take other lists, the present one and the former one; it says
//	                                 "listed" when it has
//	come                             want the name with a supervisor that is new
//	calm                             get the name once more with each goroutine
//
// After that it says "done", or else what went wrong.
func TestNemesisClient(t *testing.T) {
	if os.Getenv(nemesisURLs) == "" {
		t.Skip("this is another process of TestNemesis")
	}
	limit, err := time.ParseDuration(os.Getenv(nemesisLimit))
	if err != nil {
		t.Fatal(err)
	}
	most, err := time.ParseDuration(os.Getenv(nemesisMost))
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
	h := hands{ctx: ctx, store: store, clock: clock.System(), out: json.NewEncoder(out), cfg: supervisor.Config{
		Nodes: node.URLs(strings.Fields(os.Getenv(nemesisURLs))...), Former: node.URLs(strings.Fields(os.Getenv(nemesisFormer))...), TTL: nemesisTTL, MaxTTL: most, MaxTTLCap: nemesisCap, NodeTimeout: nemesisTTL / 10,
	}}
	if h.sup, err = supervisor.New(h.cfg); err != nil {
		t.Fatal(err)
	}
	defer closeSoon(h.sup)

	h.say("started")
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for in := bufio.NewScanner(os.Stdin); !h.calm.Load() && in.Scan(); {
			h.hear(strings.Fields(in.Text()))
		}
		h.calm.Store(true)
	}()
	errs := make([]error, nemesisHands)
	atOnce(nemesisHands, func(i int) { errs[i] = h.work() })
	<-heard
	h.errands.Wait()
	if err := errors.Join(append(errs, h.failures...)...); err != nil {
		h.say(strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	h.say("done")
}

// hands are the goroutines of one client.
type hands struct {
	ctx   context.Context
	cfg   supervisor.Config
	sup   *supervisor.Supervisor
	store rueidis.Client
	clock clock.Clock
	calm  atomic.Bool // the faults have ended

	errands sync.WaitGroup // what it was told to do

	mu       sync.Mutex
	out      *json.Encoder
	leases   int
	failures []error // of errands
}

// say tells the parent something.
func (h *hands) say(words ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Println(words...)
}

// write records something.
func (h *hands) write(e entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.out.Encode(e); err != nil {
		h.failures = append(h.failures, err)
	}
}

func (h *hands) played(what string) { h.write(entry{Played: what}) }

// hear does what the parent says, beside everything else.
func (h *hands) hear(words []string) {
	if words[0] == "calm" {
		h.calm.Store(true)
		return
	}
	h.errands.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, 2*nemesisTTL+rand.N(5*time.Second))
		defer cancel()
		var err error
		switch words[0] {
		case "adopt":
			err = h.adopt(ctx, words[1], lease.Handle(words[2]))
		case "revoke":
			h.revoke(ctx)
		case "come":
			err = h.come(ctx)
		case "lists":
			h.relist(words[1:])
		}
		if err != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.failures = append(h.failures, err)
		}
	})
}

func (h *hands) adopt(ctx context.Context, how string, handle lease.Handle) error {
	var opts []supervisor.AdoptOption
	if how == "ended" {
		opts = append(opts, supervisor.FormerEnded())
	}
	l, err := h.sup.Adopt(ctx, handle, opts...)
	switch {
	case err == nil:
		h.played("adopted: " + how)
		return h.hold(l, rand.N(500*time.Millisecond))
	case errors.Is(err, lease.ErrLost):
		h.played("refused: " + how)
	case errors.Is(err, supervisor.ErrHeld):
		h.played("held here: " + how)
	case errors.Is(err, supervisor.ErrNoQuorum):
		h.played("no quorum: " + how)
	default:
		h.played("not adopted: " + how)
	}
	return nil
}

func (h *hands) revoke(ctx context.Context) {
	x, err := h.sup.Inspect(ctx, nemesisName)
	if err != nil || !x.Held {
		h.played("nobody to revoke")
		return
	}
	h.write(entry{Revoked: &revocation{Token: string(x.Token), Call: h.clock.Now()}})
	if err := h.sup.Revoke(ctx, nemesisName, x.Token); err != nil {
		h.played("not revoked")
	} else {
		h.played("revoked")
	}
}

// relist takes other lists, as soon as it may.
func (h *hands) relist(urls []string) {
	lists := make([][]node.Conn, 2)
	for i, list := range urls {
		lists[i] = node.URLs(strings.Split(list, ",")...)
	}
	ctx, cancel := context.WithTimeout(h.ctx, 10*nemesisTTL)
	defer cancel()
	for ctx.Err() == nil {
		if err := h.sup.Reconfigure(ctx, lists[0], lists[1]); err == nil {
			h.mu.Lock()
			h.cfg.Nodes, h.cfg.Former = lists[0], lists[1]
			h.mu.Unlock()
			h.say("listed")
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(nemesisTTL / 10):
		}
	}
	h.played("lists not taken")
}

// come is a process of its own as far as the nodes can see.
func (h *hands) come(ctx context.Context) error {
	h.mu.Lock()
	cfg := h.cfg
	h.mu.Unlock()
	sup, err := supervisor.New(cfg)
	if err != nil {
		return err
	}
	defer closeSoon(sup)
	l, err := sup.Acquire(ctx, nemesisName)
	if err != nil {
		h.played("newcomers, turned away")
		return nil
	}
	h.played("newcomers")
	return h.hold(l, rand.N(200*time.Millisecond))
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
		l, err := h.sup.Acquire(ctx, nemesisName, supervisor.WithTTL(6*nemesisTTL/10+rand.N(h.cfg.MaxTTL-6*nemesisTTL/10)))
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
	from := h.clock.Now()
	h.mu.Lock()
	h.leases++
	id := h.leases
	h.mu.Unlock()
	h.write(entry{Lease: id, Begun: &tenure{Fence: l.Fence(), Token: string(l.Token()), From: from}})
	if handle := l.Handle(); handle != "" {
		h.say("held", string(handle))
	}
	valid := func() bool {
		at := h.clock.Now()
		ok := l.Valid()
		if ok {
			h.write(entry{Lease: id, Valid: at})
		}
		return ok
	}
	var err error
	for more := true; more && err == nil && valid(); more = more && h.clock.Now().Sub(from) < d {
		more, err = h.increment(id, l, valid)
		if more {
			<-time.After(rand.N(10 * time.Millisecond))
		}
	}
	h.finish(id, l, valid)
	return err
}

// kindOf returns how a lease was lost, without what its nodes have said, so that it can be counted.
func kindOf(err error) string {
	if lost, ok := errors.AsType[*lease.LostError](err); ok {
		err = lost.Kind
	}
	return err.Error()
}

// finish ends a lease in one of the ways that there are.
func (h *hands) finish(id int, l *lease.Lease, valid func() bool) {
	how := ""
	defer func() { h.write(entry{Lease: id, Ended: &how}) }()
	if !valid() {
		how = kindOf(l.Err())
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, nemesisTTL)
	defer cancel()
	if !h.calm.Load() && rand.IntN(5) == 0 {
		if handle, err := l.HandOver(ctx); err == nil {
			how = lease.ErrHandedOver.Error()
			h.played("handed over")
			h.say("over", string(handle))
			return
		}
	}
	if err := l.Release(ctx); errors.Is(err, lease.ErrLost) {
		how = kindOf(err)
	}
}

// increment adds one to the counter, in the order that package fence asks for. It
// reports whether it did.
func (h *hands) increment(id int, l *lease.Lease, valid func() bool) (bool, error) {
	w := increment{Call: h.clock.Now()}
	mark := strconv.FormatUint(l.Fence(), 10)
	ask := func(script string, keys []string, args ...string) (bool, error) {
		n, err := h.store.Do(context.Background(), h.store.B().Eval().Script(script).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()).AsInt64()
		if err == nil && n != 1 && l.Valid() {
			h.write(entry{Lease: id, Stale: true}) // which is judged in the end
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
		h.write(entry{Lease: id, Tried: &w})
		w.Done, err = ask(fence.Write, []string{nemesisMark, nemesisCounter}, mark, strconv.Itoa(w.Old+1))
		w.Refused = !w.Done
		if w.Done {
			w.Return = h.clock.Now()
		}
	}
	h.write(entry{Lease: id, Did: &w})
	return w.Done, err
}
