//go:build linux

package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/lease/fence"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// These say to the test binary that it works on a store that checks fences: which
// one, and how. See also workerNodes and workerName.
const (
	workerStore = "LEASEHOLD_TEST_WORKER_STORE"
	workerWay   = "LEASEHOLD_TEST_WORKER_WAY"
)

// These are the places at which a worker is stopped.
const (
	beforeWrite = "before a write"             // it has asked Valid, and writes when it goes on
	beforeSave  = "between a read and a write" // of a read-modify-write; the rival is there too
	anywhere    = "anywhere"                   // in a loop of read-modify-writes

	// The same as beforeSave, but the rival reads before it advances the mark. The
	// late write is taken then, and lost: the tests above can see it.
	hollow = "with the mark not advanced"
)

// A store is a Redis that keeps a number, and takes it from nobody whose fence is
// smaller than its mark.
type store struct {
	client rueidis.Client
	key    string
}

var (
	advanceScript = rueidis.NewLuaScript(fence.Advance)
	writeScript   = rueidis.NewLuaScript(fence.Write)
)

func openStore(addr, key string) (*store, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true,
	})
	return &store{client, key}, err
}

func (s *store) mark() string { return "mark:" + s.key }

// advance and write return fence.ErrStale if the store refuses.
func (s *store) advance(ctx context.Context, f uint64) error {
	return taken(advanceScript.Exec(ctx, s.client, []string{s.mark()}, []string{fmt.Sprint(f)}))
}

func (s *store) write(ctx context.Context, f uint64, value int) error {
	return taken(writeScript.Exec(ctx, s.client, []string{s.mark(), s.key}, []string{fmt.Sprint(f), fmt.Sprint(value)}))
}

func taken(r rueidis.RedisResult) error {
	answer, err := r.AsInt64()
	if err == nil && answer != 1 {
		err = fence.ErrStale
	}
	return err
}

func (s *store) read(ctx context.Context) (int, error) {
	text, err := s.client.Do(ctx, s.client.B().Get().Key(s.key).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// TestFenceWorker is the other process of TestFencedStore. It says "held" with its
// fence, waits for a line, and works. Unless it is to be stopped anywhere it says
// "ready" when it has asked whether its lease is valid, waits for a line and writes
// whatever the time is by then. In the end it says how many of its writes were
// taken, and why there were no more.
func TestFenceWorker(t *testing.T) {
	if os.Getenv(workerStore) == "" {
		t.Skip("this is the other process of TestFencedStore")
	}
	in := bufio.NewReader(os.Stdin)
	awaitLine := func() {
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	way, name := os.Getenv(workerWay), os.Getenv(workerName)
	s, err := openStore(os.Getenv(workerStore), name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.client.Close()
	sup, err := supervisor.New(configured(node.URLs(strings.Fields(os.Getenv(workerNodes))...)))
	if err != nil {
		t.Fatal(err)
	}
	defer closeSoon(sup)
	l, err := sup.Acquire(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("held", l.Fence())
	awaitLine()

	ctx := t.Context()
	written := 0
	// change adds one to the number, and calls before between its reading and its
	// writing.
	change := func(before func()) error {
		if err := s.advance(ctx, l.Fence()); err != nil {
			return err
		}
		n, err := s.read(ctx)
		if err != nil {
			return err
		}
		before()
		if err := s.write(ctx, l.Fence(), n+1); err != nil {
			return err
		}
		written++
		return nil
	}
	for why := error(nil); ; {
		switch {
		case why == nil && way == anywhere && l.Valid():
			why = change(func() {})
		case why == nil && way != anywhere && written == 0:
			why = change(func() {}) // a first one, that nobody disturbs
		case why == nil && way != anywhere:
			before := func() {
				if !l.Valid() {
					t.Fatalf("not valid: %v", l.Err())
				}
				fmt.Println("ready")
				awaitLine()
			}
			if way == beforeWrite {
				before()
				why = s.write(ctx, l.Fence(), -1)
			} else {
				why = change(before)
			}
			if why == nil {
				fmt.Printf("%d written, the last one late\n", written)
				return
			}
		default:
			if why == nil {
				why = l.Err()
			}
			if !errors.Is(why, fence.ErrStale) && !errors.Is(why, lease.ErrLost) {
				t.Fatal(why)
			}
			fmt.Printf("%d written, then %v\n", written, why)
			return
		}
	}
}

// A worker is stopped for two TTL, wherever it is, while a rival has its name and
// works on the same store. The store takes nothing more of it, and no write of
// either is lost.
func TestFencedStore(t *testing.T) {
	takesLong(t)
	t.Parallel()
	c, at := processes(t, 5), processes(t, 1).Servers[0].Addr()
	sup := supervise(t, c.Conns())
	awake := make(chan struct{}, 1) // a worker that writes all the time occupies a core
	for _, way := range []string{beforeWrite, beforeSave, anywhere, hollow} {
		t.Run(way, func(t *testing.T) {
			var n notes
			runs := howOften(t)
			if way == hollow {
				runs = min(2, runs)
			}
			repeat(t, runs, 10, func(t *testing.T, i int) {
				fencedStore(t, sup, c.URLs(), at, way, fmt.Sprintf("%s %d", way, i), awake, &n)
			})
			n.log(t)
		})
	}
}

func fencedStore(t *testing.T, sup *supervisor.Supervisor, nodes []string, at, way, name string, awake chan struct{}, n *notes) {
	ctx := t.Context()
	s, err := openStore(at, name)
	if err != nil {
		t.Fatal(err)
	}
	defer s.client.Close()
	asleep := func() {}
	if way == anywhere {
		awake <- struct{}{}
		asleep = sync.OnceFunc(func() { <-awake })
		defer asleep()
	}
	w := newWorker(t, "TestFenceWorker", time.Minute, workerNodes+"="+strings.Join(nodes, " "),
		workerName+"="+name, workerStore+"="+at, workerWay+"="+way)
	var first uint64
	if _, err := fmt.Sscanf(w.line(), "held %d", &first); err != nil {
		t.Fatalf("the worker: %v", err)
	}
	goOn := func() {
		if _, err := io.WriteString(w.in, "\n"); err != nil {
			t.Fatal(err)
		}
	}
	goOn()
	if way == anywhere {
		<-time.After(20*time.Millisecond + rand.N(200*time.Millisecond))
	} else if said := w.line(); said != "ready" {
		t.Fatalf("the worker said %q", said)
	}
	w.stop()
	asleep()
	over := time.NewTimer(2 * ttl)
	defer over.Stop()

	acquiring, cancel := context.WithTimeout(ctx, 2*ttl)
	defer cancel()
	rival, err := sup.Acquire(acquiring, name)
	if err != nil {
		t.Fatalf("a rival of the stopped worker: %v", err)
	}
	defer func() { _ = rival.Release(context.Background()) }()
	if rival.Fence() <= first {
		t.Errorf("fence %d of the rival, behind %d", rival.Fence(), first)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if way != hollow {
		check(s.advance(ctx, rival.Fence()))
	}
	read, err := s.read(ctx)
	check(err)
	written := 0
	if way == beforeWrite || way == anywhere { // its work is done before the worker goes on
		check(s.write(ctx, rival.Fence(), read+1))
		written++
	}
	<-over.C

	w.signal(syscall.SIGCONT)
	if way != anywhere {
		goOn()
	}
	said := w.line() // its late write has been tried by then
	late := strings.HasSuffix(said, "late")
	if way == beforeSave || way == hollow { // and falls between the rival's read and write
		check(s.write(ctx, rival.Fence(), read+1))
		written++
	}
	stays(t, rival, 0)
	var of int
	if _, err := fmt.Sscanf(said, "%d written", &of); err != nil {
		t.Fatalf("the worker said %q", said)
	}
	sum, err := s.read(ctx)
	check(err)
	if way == hollow {
		if !late || sum != of+written-1 {
			t.Errorf("the worker said %q, and the number is %d after %d writes: a store whose mark is not advanced before the read should have lost one", said, sum, of+written)
		}
		n.add("lost writes (times)", float64(of+written-sum))
		return
	}
	if late {
		t.Errorf("a late write was taken: %q", said)
	}
	if way != anywhere && !strings.HasSuffix(said, fence.ErrStale.Error()) {
		t.Errorf("the worker said %q, want that it was refused", said)
	}
	if sum != of+written {
		t.Errorf("the number is %d after %d and %d writes", sum, of, written)
	}
	n.add("late writes that were taken (times)", float64(of+written-sum))
	refused := 0.
	if strings.HasSuffix(said, fence.ErrStale.Error()) {
		refused = 1
	}
	n.add("late writes that were refused (times)", refused)
}
