//go:build linux

package integration

import (
	"bufio"
	"context"
	"errors"
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

	"github.com/leasehold-go/leasehold/lease/fence"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

const (
	anyURLs  = "LEASEHOLD_TEST_ANY_NODES"
	anyStore = "LEASEHOLD_TEST_ANY_STORE"
	anyHold  = 20 * time.Millisecond
)

var anyNames = []string{"any-0", "any-1", "any-2"}

// TestAnyWorker is another process of TestAnyOnServers. It has one of the names for a moment, again
// and again, until it is told to quit. It says "turn NAME FENCE" of each, and "bad" and what if the
// store has refused the fence although its lease is valid.
func TestAnyWorker(t *testing.T) {
	if os.Getenv(anyURLs) == "" {
		t.Skip("this is another process of TestAnyOnServers")
	}
	store, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{os.Getenv(anyStore)}, DisableCache: true, ForceSingleClient: true,
		DisableRetry: true, ConnWriteTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sup, err := supervisor.New(configured(node.URLs(strings.Fields(os.Getenv(anyURLs))...)))
	if err != nil {
		t.Fatal(err)
	}
	defer closeSoon(sup)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // or its end
		cancel()
	}()
	for ctx.Err() == nil {
		l, err := sup.AcquireAny(ctx, anyNames)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				fmt.Println("bad", err)
			}
			continue
		}
		mark := strconv.FormatUint(l.Fence(), 10)
		for range 2 { // at its beginning and at its end
			n, err := store.Do(context.Background(), store.B().Eval().Script(fence.Advance).Numkeys(1).Key("mark:"+l.Name()).Arg(mark).Build()).AsInt64()
			switch {
			case err != nil:
				fmt.Println("bad", l.Name(), err)
			case n != 1 && l.Valid():
				fmt.Println("bad", l.Name(), "has another holder, and the lease of", mark, "is valid")
			}
			<-time.After(anyHold / 2)
		}
		fmt.Println("turn", l.Name(), mark)
		_ = l.Release(context.Background())
	}
}

// Ten processes want any of three names, and now and then one is killed and another one comes: no
// name ever has two holders, so there are never more than three of them, and nobody is in want of a
// turn for longer than the dead are believed.
func TestAnyOnServers(t *testing.T) {
	takesLong(t)
	const processesAtOnce, turnsWanted = 10, 1000
	c := processes(t, 3)
	env := []string{anyURLs + "=" + strings.Join(c.URLs(), " "), anyStore + "=" + processes(t, 1).Servers[0].Addr()}
	var mu sync.Mutex
	var bad []string
	turns, names := 0, map[string]int{}
	fences := map[string]uint64{}
	enough := make(chan struct{})
	hear := func(words []string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case len(words) == 3 && words[0] == "turn":
			mark, err := strconv.ParseUint(words[2], 10, 64)
			if err != nil || mark == fences[words[1]] {
				bad = append(bad, fmt.Sprint(words, " twice: ", err))
			}
			fences[words[1]] = max(fences[words[1]], mark)
			names[words[1]]++
			if turns++; turns == turnsWanted {
				close(enough)
			}
		case len(words) > 0 && words[0] == "bad":
			bad = append(bad, strings.Join(words, " "))
		}
	}
	var all []*worker
	join := func() {
		w := newWorker(t, "TestAnyWorker", 0, env...)
		all = append(all, w)
		go func() {
			for w.out.Scan() {
				hear(strings.Fields(w.out.Text()))
			}
		}()
	}
	for range processesAtOnce {
		join()
	}
	begun, w, kills := time.Now(), newWatch(), 0
	kill := time.NewTicker(500 * time.Millisecond)
	defer kill.Stop()
	for over := false; !over; {
		select {
		case <-enough:
			over = true
		case <-kill.C:
			i := rand.IntN(len(all))
			all[i].signal(syscall.SIGKILL)
			all = slices.Delete(all, i, i+1)
			join()
			kills++
		case <-time.After(2 * time.Minute):
			t.Fatalf("%d turns; %v", turns, w)
		}
	}
	took := time.Since(begun)
	for _, w := range all {
		_, _ = fmt.Fprintln(w.in, "quit")
	}
	cleanWithin(t, c, 2*ttl)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d turns in %v, with %d kills; of each name: %v; %v", turns, took.Round(time.Millisecond), kills, names, w)
	for _, what := range bad {
		t.Error(what)
	}
	if len(names) != len(anyNames) || kills == 0 {
		t.Errorf("turns of each name: %v, %d kills", names, kills)
	}
}

// Ten supervisors and three names that are held for 60 ms, and forty with twenty names that are held
// for 5 ms: everybody has turns, and about as many as any other. How close this is to a name being
// held in each moment is a figure of make bench.
func TestAnyCrowdOnServers(t *testing.T) {
	takesLong(t)
	c := processes(t, 3)
	for _, x := range []struct {
		sups, names  int
		hold, length time.Duration
	}{
		{10, 3, 60 * time.Millisecond, 6 * time.Second},
		{40, 20, 5 * time.Millisecond, 3 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d want %d", x.sups, x.names), func(t *testing.T) {
			var names []string
			for k := range x.names {
				names = append(names, fmt.Sprintf("crowd-%d-%d", x.names, k))
			}
			sups := make([]*supervisor.Supervisor, x.sups)
			for i := range sups {
				sups[i] = supervise(t, c.Conns())
			}
			turns := make([]int, x.sups)
			ctx, cancel := context.WithTimeout(t.Context(), x.length)
			defer cancel()
			atOnce(x.sups, func(i int) {
				for ctx.Err() == nil {
					l, err := sups[i].AcquireAny(ctx, names)
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						return
					}
					<-time.After(x.hold)
					turns[i]++
					_ = l.Release(context.Background())
				}
			})
			sum := 0
			for _, n := range turns {
				sum += n
			}
			t.Logf("%d turns, %.0f a second, of a supervisor %d to %d", sum, float64(sum)/x.length.Seconds(), slices.Min(turns), slices.Max(turns))
			if slices.Min(turns) < sum/x.sups/2 {
				t.Errorf("turns of each: %v", turns)
			}
		})
	}
}

// Three names that stay taken for a second each, while five supervisors want any of them all the
// time: three jobs a second at most, and not many fewer.
func TestAnyAsARateOnServers(t *testing.T) {
	takesLong(t)
	c := processes(t, 3)
	const places, every, length = 3, time.Second, 5 * time.Second
	var mu sync.Mutex
	begun := map[string][]time.Time{}
	sups := make([]*supervisor.Supervisor, 5)
	for i := range sups {
		sups[i] = supervise(t, c.Conns())
	}
	w := newWatch()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	atOnce(len(sups), func(i int) {
		for ctx.Err() == nil {
			l, err := sups[i].AcquireAny(ctx, []string{"rate-0", "rate-1", "rate-2"}, supervisor.WithMinHold(every))
			if err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			begun[l.Name()] = append(begun[l.Name()], time.Now())
			mu.Unlock()
			_ = l.Release(context.Background())
		}
	})
	sum := 0
	for name, at := range begun {
		sum += len(at)
		for i := range at[1:] {
			// Its time is counted from the beginning of the election.
			if d := at[i+1].Sub(at[i]); d < every-100*time.Millisecond-w.starved() {
				t.Errorf("%q again after %v; %v", name, d, w)
			}
		}
	}
	t.Logf("%d jobs in %v", sum, length)
	if len(begun) != places || sum < places*int(length/every)/2 {
		t.Errorf("%d jobs in %v, on %d places", sum, length, len(begun))
	}
}
