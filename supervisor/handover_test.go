package supervisor_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// always fails the test if a quorum of the nodes keeps nothing under key, or something for
// the rival, at any millisecond until the returned function is called.
func always(t *testing.T, nodes []*nodetest.Node, key string) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			kept := 0
			for _, n := range nodes {
				if value, _, ok := n.Get(key); ok && !strings.HasPrefix(value, "rival") && !strings.HasPrefix(value, "?") {
					kept++
				}
			}
			if kept < len(nodes)/2+1 {
				t.Errorf("%d of %d nodes keep the lease", kept, len(nodes))
				return
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}

// A lease goes from one process to another and back without a moment in which the
// name is free, each time with a token and an owner of its own and a larger fence, and a
// rival that wants it all the time gets it only at the end. A process that tries a handle for the
// second time is refused.
func TestHandOver(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		names := []string{"first", "second"}
		sups := []*supervisor.Supervisor{start(t, nodes, owner("first")), start(t, nodes, owner("second"))}
		rival := start(t, nodes, owner("rival"))
		third := start(t, nodes, owner("third"))
		held := acquire(t, sups[0], "x")
		got := make(chan *lease.Lease, 1)
		go func() {
			l, err := rival.Acquire(context.Background(), "x")
			if err != nil {
				t.Error(err)
				close(got)
				return
			}
			got <- l
		}()
		stop := always(t, nodes, "x")
		for i := range 4 {
			time.Sleep(ttl + 77*time.Millisecond)
			before := held
			handle, err := held.HandOver(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if held.Valid() || held.Err() != lease.ErrHandedOver || errors.Is(held.Err(), lease.ErrLost) {
				t.Fatalf("Err() = %v after HandOver", held.Err())
			}
			select {
			case <-held.Lost():
				t.Fatal("Lost is closed after HandOver")
			case <-held.Done():
			}
			time.Sleep(ttl * 8 / 10) // there is that much time for it
			if i == 2 {
				nodes[0].Crash()
				nodes[1].Hang()
			}
			if held, err = sups[(i+1)%2].Adopt(t.Context(), handle); err != nil {
				t.Fatal(err)
			}
			if !held.Valid() || held.Fence() <= before.Fence() || held.Token() == before.Token() || held.Owner() != names[(i+1)%2] || held.Name() != "x" {
				t.Fatalf("valid %v, fence %d after %d, owner %q", held.Valid(), held.Fence(), before.Fence(), held.Owner())
			}
			if _, err := third.Adopt(t.Context(), handle); !errors.Is(err, lease.ErrLost) {
				t.Fatalf("adopted for the second time: %v", err)
			}
		}
		time.Sleep(3 * ttl)
		stop()
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if l := <-got; l != nil && l.Fence() <= held.Fence() {
			t.Errorf("the rival's fence is %d, the lease's was %d", l.Fence(), held.Fence())
		}
	})
}

// A handle of a lease whose holder lives may be adopted: the holder learns it, and the
// heir does not believe in it before the holder's promise has run out.
func TestAdoptFromTheLiving(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, heir := start(t, nodes, owner("living")), start(t, nodes, owner("heir"))
		held := acquire(t, sup, "x")
		time.Sleep(ttl)
		got := make(chan *lease.Lease, 1)
		go func() {
			l, err := heir.Adopt(t.Context(), held.Handle())
			if err != nil {
				t.Error(err)
			}
			if held.Valid() {
				t.Error("two holders at once")
			}
			got <- l
		}()
		<-held.Lost()
		if !errors.Is(held.Err(), lease.ErrTaken) {
			t.Errorf("the former holder: %v", held.Err())
		}
		if l := <-got; l.Fence() <= held.Fence() {
			t.Errorf("fence %d after %d", l.Fence(), held.Fence())
		}
	})
}

// A process that was restarted gets its lease back by the handle that it had stored,
// as long as a quorum keeps it; afterwards it is lost, and nothing of it is left.
func TestAdoptAfterRestart(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		before := start(t, nodes, as("before", nodes))
		held := acquire(t, before, "x")
		handle := held.Handle()
		time.Sleep(3 * ttl)
		if handle != held.Handle() || !held.Valid() {
			t.Error("Handle has changed something")
		}
		for _, n := range nodes {
			n.Cut("before") // it is dead
		}
		time.Sleep(ttl / 2)
		after := start(t, nodes, as("after", nodes))
		from := time.Now()
		again, err := after.Adopt(t.Context(), handle, supervisor.FormerEnded())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(from); again.Fence() <= held.Fence() || again.Token() == held.Token() || took > ttl/20 {
			t.Errorf("fence %d after %d, after %v", again.Fence(), held.Fence(), took)
		}
		nodes[0].Restart() // empty: it is healed as for any other lease
		select {
		case <-again.Done():
			t.Fatal(again.Err())
		case <-time.After(5 * ttl):
		}
		wantKeys(t, nodes, "x", string(again.Token()), 3)
		if _, err := after.Adopt(t.Context(), handle); !errors.Is(err, supervisor.ErrHeld) {
			t.Errorf("adopted twice: %v, want ErrHeld", err)
		}

		// The next restart takes too long.
		for _, n := range nodes {
			n.Cut("after")
		}
		time.Sleep(2 * ttl)
		late := start(t, nodes, as("late", nodes))
		if _, err := late.Adopt(t.Context(), handle); !errors.Is(err, lease.ErrLost) || errors.Is(err, supervisor.ErrNoQuorum) {
			t.Errorf("adopted too late: %v, want ErrLost", err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
		if st := late.Stats(); st.Held+st.Owed != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A supervisor that was just made adopts as soon as it knows the nodes.
func TestAdoptAtOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		for _, n := range nodes {
			n.Delay(10 * time.Millisecond)
		}
		sup := start(t, nodes)
		time.Sleep(time.Second)
		handle, err := acquire(t, sup, "x").HandOver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: ttl, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close(canceled())
		from := time.Now()
		if _, err := other.Adopt(t.Context(), handle); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(from); took > 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// Without a quorum there is no lease, every call ends with its context, nothing is
// released, and the handle may be tried again.
func TestAdoptWithoutQuorum(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, heir := start(t, nodes), start(t, nodes)
		held := acquire(t, sup, "x")
		handle, err := held.HandOver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nodes[0].Hang()
		nodes[1].Hang()
		from := time.Now()
		_, err = heir.Adopt(within(t, 37*time.Millisecond), handle)
		if took := time.Since(from); !errors.Is(err, supervisor.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) || took != 37*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		from = time.Now()
		_, err = heir.Adopt(t.Context(), handle)
		if took := time.Since(from); !errors.Is(err, supervisor.ErrNoQuorum) || took != ttl/4 {
			t.Errorf("%v after %v", err, took)
		}
		var e *supervisor.AcquireError
		if _, err := heir.Adopt(canceled(), handle); !errors.Is(err, context.Canceled) || !errors.As(err, &e) {
			t.Errorf("%v with a context that is done", err)
		}
		nodes[0].Resume()
		again, err := heir.Adopt(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		if again.Fence() <= held.Fence() {
			t.Errorf("fence %d after %d", again.Fence(), held.Fence())
		}
	})
}

// While a majority hangs a lease is not handed over, and is held on.
func TestHandOverWithoutQuorum(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held := acquire(t, sup, "x")
		nodes[0].Hang()
		nodes[1].Hang()
		from := time.Now()
		handle, err := held.HandOver(within(t, 37*time.Millisecond))
		if took := time.Since(from); handle != "" || !errors.Is(err, context.DeadlineExceeded) || took != 37*time.Millisecond || !held.Valid() {
			t.Errorf("%q, %v after %v, and the lease is %v", handle, err, took, held.Err())
		}
		if handle, err = held.HandOver(t.Context()); handle != "" || !errors.Is(err, lease.ErrExpired) || held.Err() != err {
			t.Errorf("%q, %v, and the lease is %v", handle, err, held.Err())
		}
		if handle := held.Handle(); handle != "" {
			t.Error("a lost lease has a handle")
		}
	})
}

// A job that hands its lease over ends as one that steps down.
func TestHandOverInDo(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for name, run := range map[string]func(func(context.Context) error) error{
			"Do":   func(f func(context.Context) error) error { return sup.Do(t.Context(), "do", f) },
			"Lead": func(f func(context.Context) error) error { return sup.Lead(t.Context(), "lead", f) },
		} {
			err := run(func(ctx context.Context) error {
				_, err := lease.FromContext(ctx).HandOver(ctx)
				if context.Cause(ctx) != lease.ErrHandedOver {
					t.Errorf("%s: cause %v", name, context.Cause(ctx))
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		synctest.Wait()
		wantKeys(t, nodes, "do", "", 3)
		wantKeys(t, nodes, "lead", "", 3)
	})
}

// encode makes a handle of anything.
func encode(t *testing.T, fields map[string]any) lease.Handle {
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return lease.Handle("leasehold1." + base64.RawURLEncoding.EncodeToString(b))
}

// A handle that does not fit is refused at once and whole, before any node is asked.
func TestBrokenHandles(t *testing.T) {
	good := func(change func(map[string]any)) map[string]any {
		fields := map[string]any{
			"key": []byte("p:x"), "token": []byte("me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "fence": 7, "ttl": 10 * time.Second,
		}
		change(fields)
		return fields
	}
	set := func(field string, value any) map[string]any {
		return good(func(fields map[string]any) { fields[field] = value })
	}
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.TTL, cfg.MaxTTL, cfg.NodeTimeout, cfg.Prefix = 10*time.Second, 20*time.Second, 500*time.Millisecond, "p:"
		})
		keys := len(nodes[0].Keys())
		for name, c := range map[string]struct {
			handle lease.Handle
			want   []string
		}{
			"nothing":             {"", []string{`broken handle: it must begin with "leasehold1."`}},
			"a token":             {"me/ABCDEFGHIJKLMNOPQRSTUVWXYZ", []string{"broken handle: it must begin"}},
			"a printed one":       {lease.Handle(fmt.Sprint(encode(t, good(func(map[string]any) {})))), []string{"broken handle: it is lease.Handle(redacted), as a handle is printed or encoded: store string(handle) instead"}},
			"another version":     {"leasehold2.e30", []string{"broken handle: it must begin"}},
			"cut off":             {encode(t, good(func(map[string]any) {}))[:50], []string{"broken handle: cut off or changed"}},
			"another prefix":      {encode(t, set("key", []byte("q:x"))), []string{`handle of "q:x": the name must begin with the prefix "p:"`}},
			"no name":             {encode(t, set("key", []byte("p:"))), []string{`name "": must not be empty`}},
			"a name too long":     {encode(t, set("key", []byte("p:"+strings.Repeat("n", 511)))), []string{"of 513 bytes with its prefix: want at most 512"}},
			"a TTL above MaxTTL":  {encode(t, set("ttl", time.Minute)), []string{"handle with TTL 1m0s: want at most MaxTTL = 20s: raise Config.MaxTTL"}},
			"no TTL":              {encode(t, set("ttl", 0)), []string{"handle with TTL 0s: want at least 100ms"}},
			"a TTL too short":     {encode(t, set("ttl", time.Second)), []string{"handle with NodeTimeout 500ms: want at most TTL/4 = 250ms"}},
			"no fence":            {encode(t, set("fence", 0)), []string{"handle: the fence is 0"}},
			"no token":            {encode(t, set("token", nil)), []string{"handle: the token is broken"}},
			"a foreign token":     {encode(t, set("token", []byte("secret-of-another-library"))), []string{"handle: the token is broken"}},
			"a reservation":       {encode(t, set("token", []byte("?me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"))), []string{"handle: the token is broken"}},
			"an owner too long":   {encode(t, set("token", []byte(strings.Repeat("o", 129)+"/ABCDEFGHIJKLMNOPQRSTUVWXYZ"))), []string{"handle: the token is broken"}},
			"an empty one":        {encode(t, nil), []string{"the name must begin with the prefix", "the token is broken", "the fence is 0", "TTL 0s"}},
			"the name of its own": {encode(t, set("key", []byte("leasehold:x"))), []string{`handle of "leasehold:x": the name must begin with the prefix "p:"`}},
		} {
			_, err := sup.Adopt(t.Context(), c.handle)
			if err == nil {
				t.Errorf("%s: accepted", name)
				continue
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v\nwant %q", name, err, want)
				}
			}
			if lines := 1 + strings.Count(err.Error(), "\n"); lines != len(c.want) {
				t.Errorf("%s: %d rules are said to be broken, want %d:\n%v", name, lines, len(c.want), err)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "ABCDEF") {
				t.Errorf("%s: the error shows a token: %v", name, err)
			}
		}
		if n := len(nodes[0].Keys()); n != keys {
			t.Errorf("a node was asked, and has %d keys", n)
		}
	})
}

// Neither a token nor a handle is logged, or stands in an error.
func TestNoTokenIsShown(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var logged bytes.Buffer
		log := func(cfg *supervisor.Config) {
			cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		sup := start(t, nodes, log)
		held := acquire(t, sup, "x")
		token := held.Token()
		handle, err := held.HandOver(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		random := token[strings.LastIndexByte(string(token), '/')+1:]
		held, err = sup.Adopt(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		token = held.Token()
		_, twice := sup.Adopt(t.Context(), handle)
		synctest.Wait()
		revoke := sup.Revoke(t.Context(), "x", token)
		<-held.Lost()
		_, lost := sup.Adopt(t.Context(), handle)
		again := sup.Revoke(t.Context(), "x", token)
		nodes[0].Crash()
		nodes[1].Crash()
		_, unreachable := sup.Adopt(t.Context(), handle)
		if err := sup.Close(canceled()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		text := logged.String() + fmt.Sprint(twice, revoke, held.Err(), lost, again, unreachable)
		adopted := token[strings.LastIndexByte(string(token), '/')+1:]
		if strings.Contains(text, string(random)) || strings.Contains(text, string(adopted)) || strings.Contains(text, string(handle)) {
			t.Errorf("a token or handle is shown: %s", text)
		}
		if !strings.Contains(text, `error="lease: handed over"`) {
			t.Errorf("the hand-over was not logged: %s", text)
		}
		if !errors.Is(twice, supervisor.ErrHeld) || !errors.Is(lost, lease.ErrLost) || !errors.Is(again, supervisor.ErrNotHolder) || !errors.Is(unreachable, supervisor.ErrNoQuorum) {
			t.Errorf("%v\n%v\n%v\n%v", twice, lost, again, unreachable)
		}
	})
}

// That a lease was handed over is told as a release, with its reason: nothing was lost.
func TestHandOverIsTold(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		var ends []supervisor.Event
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Observer = observer(func(e supervisor.Event) {
				if e.Kind == supervisor.EventReleased || e.Kind == supervisor.EventLost {
					ends = append(ends, e)
				}
			})
		})
		held := acquire(t, sup, "x")
		if _, err := held.HandOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := sup.Close(t.Context()); err != nil { // all is told before it returns
			t.Fatal(err)
		}
		if len(ends) != 1 || ends[0].Kind != supervisor.EventReleased || ends[0].Err != lease.ErrHandedOver || ends[0].Fence != held.Fence() {
			t.Errorf("told %+v", ends)
		}
	})
}
