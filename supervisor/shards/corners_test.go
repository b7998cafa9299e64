package shards_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/shards"
)

// A process that ends before it has settled moves nothing.
func TestFlapping(t *testing.T) {
	for _, c := range []struct {
		opts []shards.Option
		ends time.Duration
	}{{nil, 400 * time.Millisecond}, {[]shards.Option{shards.WithSettle(3 * time.Second)}, 2900 * time.Millisecond}} {
		bubble(t, 30, func(w *world) {
			w.joins(3)
			w.balanced(4 * time.Second)
			before := w.takes()
			for range 5 {
				p := w.join(c.opts...)
				time.Sleep(c.ends)
				p.quit()
				p.wantEnd(context.Canceled)
				time.Sleep(400 * time.Millisecond)
			}
			if w.balanced(time.Second); w.takes() != before {
				t.Errorf("%d moves", w.takes()-before)
			}
		})
	}
}

// While nothing changes nothing moves, and little is asked.
func TestIdle(t *testing.T) {
	bubble(t, 100, func(w *world) {
		w.joins(3)
		w.balanced(4 * time.Second)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		asked := func() (n int) {
			for _, of := range w.nodes[0].Commands() {
				n += of
			}
			return n
		}
		const long = 2 * time.Minute
		moves, before := w.takes(), asked()
		time.Sleep(long)
		if w.takes() != moves {
			t.Errorf("%d moves", w.takes()-moves)
		}
		each := float64(asked()-before) / long.Seconds() / 3
		t.Logf("%.1f commands a second, node and process", each)
		if each > 45 {
			t.Errorf("%.1f commands a second, node and process: want 45 at most", each)
		}
	})
}

// With more processes than names some wait for what gets free.
func TestMoreProcessesThanNames(t *testing.T) {
	bubble(t, 3, func(w *world) {
		w.joins(7)
		w.balanced(4 * time.Second)
		time.Sleep(30 * time.Second)
		for _, p := range w.all {
			if parts, _ := w.parts(); parts[p] == 1 {
				p.quit()
				break
			}
		}
		w.balanced(3 * time.Second)
		for _, p := range w.all {
			if parts, _ := w.parts(); parts[p] == 1 {
				p.cut()
				break
			}
		}
		w.balanced(ttl + 3*time.Second)
	})
}

// A function that takes long to return keeps its name meanwhile, and all is balanced then.
func TestSlowToReturn(t *testing.T) {
	bubble(t, 30, func(w *world) {
		w.stop = 5 * time.Second
		w.joins(3)
		w.balanced(4 * time.Second)
		least := 0
		w.joins(2)
		least = w.least()
		took, moves := w.balanced(9 * time.Second)
		t.Logf("after %v; %d moves of %d", took, moves, least)
		if moves > least+1 {
			t.Errorf("%d moves of %d", moves, least)
		}
	})
}

// A function that does not return keeps its name, which is told, and Own does not end.
func TestNeverReturns(t *testing.T) {
	bubble(t, 4, func(w *world) {
		w.stop = time.Hour
		first := w.join()
		w.balanced(4 * time.Second)
		second := w.join()
		time.Sleep(time.Minute)
		parts, _ := w.parts()
		if parts[first] != 4 || parts[second] != 0 {
			t.Errorf("%d and %d", parts[first], parts[second])
		}
		if n := first.count(shards.EventSlow); n != 2 {
			t.Errorf("%d are told to be slow: want 2", n)
		}
		first.quit()
		time.Sleep(time.Minute)
		select {
		case <-first.ended:
			t.Error("Own has returned before its functions")
		default:
		}
		if n := first.count(shards.EventSlow); n != 4 {
			t.Errorf("%d are told to be slow: want 4", n)
		}
	})
}

// A process that was cut off has lost what it had, and takes its part again when it is back. What it still
// runs it does not take: its functions return first.
func TestBackAgain(t *testing.T) {
	bubble(t, 20, func(w *world) {
		w.joins(4)
		w.balanced(4 * time.Second)
		p := w.all[1]
		p.cut()
		w.balanced(ttl + 3*time.Second)
		time.Sleep(time.Minute)
		if n := p.count(shards.EventLost); n != 5 {
			t.Errorf("%d are told to be lost: want 5", n)
		}
		p.mend()
		w.balanced(15 * time.Second)
	})
}

// One that waits in the line of the group and takes no names, for ever, leaves none without an
// owner.
func TestOneTooMany(t *testing.T) {
	bubble(t, 40, func(w *world) {
		stranger := w.supervise("stranger")
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if l, err := stranger.Acquire(ctx, "g"); err == nil {
				<-ctx.Done()
				_ = l.Release(context.Background())
			}
		})
		w.joins(4)
		time.Sleep(20 * time.Second)
		spread, idle := w.spread()
		if spread > 2 || idle > 0 {
			t.Errorf("spread %d, %d without an owner", spread, idle)
		}
		moves := w.takes()
		time.Sleep(time.Minute)
		if w.takes() > moves+2 {
			t.Errorf("%d moves although nothing changes", w.takes()-moves)
		}
		cancel()
		wg.Wait()
		w.balanced(4 * time.Second)
		if err := stranger.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// Lists may differ while a new version is rolled out: every name of any list has an owner.
func TestListsDiffer(t *testing.T) {
	bubble(t, 20, func(w *world) {
		all := w.names
		w.names = all[:15]
		w.joins(2)
		time.Sleep(5 * time.Second)
		w.names = all[5:]
		w.joins(2)
		time.Sleep(20 * time.Second)
		w.names = all
		if _, idle := w.spread(); idle > 0 {
			t.Errorf("%d have no owner", idle)
		}
		moves := w.takes()
		time.Sleep(time.Minute)
		if w.takes() > moves+2 {
			t.Errorf("%d moves although nothing changes", w.takes()-moves)
		}
	})
}

// own runs Own in a bubble until it ends or a time is over, and returns its error.
func (w *world) own(d time.Duration, names []string, fn func(context.Context, string) error, opts ...shards.Option) error {
	sup := w.supervise(fmt.Sprint("own", len(names)))
	defer sup.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return shards.Own(ctx, sup, "g", names, fn, opts...)
}

// A function that returns by itself gives up its name, which this process takes again later and
// later.
func TestReturnsByItself(t *testing.T) {
	bubble(t, 0, func(w *world) {
		begun, runs, events := time.Now(), []time.Duration{}, 0
		broken := errors.New("broken")
		err := w.own(time.Minute, []string{"a", "b"}, func(ctx context.Context, name string) error {
			if name == "a" {
				<-ctx.Done()
				return nil
			}
			runs = append(runs, time.Since(begun).Round(time.Second))
			return broken
		}, shards.WithObserver(func(e shards.Event) {
			if e.Kind == shards.EventReturned && e.Name == "b" && errors.Is(e.Err, broken) {
				events++
			}
		}))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if len(runs) < 5 || len(runs) > 7 || events != len(runs) {
			t.Errorf("it ran after %v; %d events", runs, events)
		}
	})
}

// Another process takes a name whose function has returned by itself here.
func TestAnotherTakesIt(t *testing.T) {
	bubble(t, 4, func(w *world) {
		w.joins(1)
		w.balanced(4 * time.Second)
		sup := w.supervise("bad")
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = shards.Own(ctx, sup, "g", w.names, func(context.Context, string) error { return errors.New("not on this machine") })
		})
		time.Sleep(2 * time.Minute)
		parts, _ := w.parts()
		if parts[w.all[0]] != 4 {
			t.Errorf("it has %d of 4", parts[w.all[0]])
		}
		cancel()
		wg.Wait()
		_ = sup.Close(context.Background())
	})
}

// A function that panics ends Own by a panic in the goroutine of its caller, when the others
// have returned and all names are given back.
func TestPanic(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(fmt.Sprint("stuck ", stuck), func(t *testing.T) {
			bubble(t, 0, func(w *world) {
				cause := errors.New("broken")
				sup := w.supervise("panics")
				var returned atomic.Bool
				begun := time.Now()
				func() {
					defer func() {
						var p *shards.PanicError
						if err, ok := recover().(error); !ok || !errors.As(err, &p) || !errors.Is(err, cause) || p.Name != "b" ||
							!strings.Contains(err.Error(), "TestPanic") {
							t.Errorf("recovered %v", err)
						}
					}()
					err := shards.Own(context.Background(), sup, "g", []string{"a", "b"}, func(ctx context.Context, name string) error {
						if name == "b" {
							time.Sleep(time.Second)
							panic(cause)
						}
						<-ctx.Done()
						if stuck {
							time.Sleep(20 * time.Second)
						}
						returned.Store(true)
						return nil
					})
					t.Errorf("it has returned %v", err)
				}()
				if took := time.Since(begun); returned.Load() == stuck || took > 15*time.Second {
					t.Errorf("the other has returned: %v; after %v", returned.Load(), took)
				}
				time.Sleep(time.Minute)
				for _, name := range []string{"g", "g/a", "g/b"} {
					if h, err := sup.Inspect(context.Background(), name); err != nil || !h.Free {
						t.Errorf("%q is not free: %+v, %v", name, h, err)
					}
				}
				_ = sup.Close(context.Background())
			})
		})
	}
}

// A goroutine that ends without a result, as by FailNow of a test, gives its name up.
func TestGoexit(t *testing.T) {
	bubble(t, 0, func(w *world) {
		runs := 0
		err := w.own(10*time.Second, []string{"a"}, func(context.Context, string) error {
			runs++
			runtime.Goexit()
			return nil
		})
		if runs < 3 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
}

// Own ends when its supervisor is closed, and when its functions have returned.
func TestClosed(t *testing.T) {
	bubble(t, 6, func(w *world) {
		w.joins(2)
		w.balanced(4 * time.Second)
		for _, p := range w.all {
			if err := p.sup.Close(context.Background()); err != nil {
				t.Error(err)
			}
			p.wantEnd(supervisor.ErrClosed)
		}
		if _, idle := w.parts(); idle != 6 {
			t.Errorf("%d still run", 6-idle)
		}
	})
}

// The context of a function says why it ends.
func TestCauses(t *testing.T) {
	bubble(t, 2, func(w *world) {
		causes := make(chan error, 10)
		sup := w.supervise("first")
		why := errors.New("no more")
		ctx, cancel := context.WithCancelCause(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = shards.Own(ctx, sup, "g", w.names, func(ctx context.Context, name string) error {
				if l := lease.FromContext(ctx); l == nil || l.Name() != "g/"+name || !l.Valid() {
					t.Errorf("%q runs under %v", name, l)
				}
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return nil
			})
		})
		time.Sleep(2 * time.Second)
		w.joins(1)
		if err := <-causes; !errors.Is(err, shards.ErrMoved) {
			t.Error(err)
		}
		cancel(why)
		if err := <-causes; err != why {
			t.Error(err)
		}
		wg.Wait()
		_ = sup.Close(context.Background())
	})
}

// A second Own of a group would count once.
func TestTwice(t *testing.T) {
	bubble(t, 2, func(w *world) {
		p := w.join()
		time.Sleep(time.Second)
		twice, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := shards.Own(twice, p.sup, "g", w.names, p.work)
		if err == nil || !strings.Contains(err.Error(), `"g": Own is already running for this group`) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := shards.Own(ctx, p.sup, "another", w.names, func(ctx context.Context, _ string) error { <-ctx.Done(); return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.quit()
		p.wantEnd(context.Canceled)
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := shards.Own(ctx, p.sup, "g", w.names, p.work); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// What is wrong with the arguments is one error, which names the values.
func TestArguments(t *testing.T) {
	fn := func(context.Context, string) error { return nil }
	bubble(t, 0, func(w *world) {
		sup := w.supervise("x")
		defer sup.Close(context.Background())
		for _, c := range []struct {
			group string
			names []string
			fn    func(context.Context, string) error
			opts  []shards.Option
			want  []string
		}{
			{"", []string{"a"}, fn, nil, []string{"group: must not be empty"}},
			{"g", nil, fn, nil, []string{"no name"}},
			{"g", []string{"a", "b", "a", "a"}, fn, nil, []string{`"a": given more than once`}},
			{"g", []string{"a", ""}, fn, nil, []string{"names[1]: must not be empty"}},
			{"g", []string{"a"}, nil, nil, []string{"want a function"}},
			{"g", []string{strings.Repeat("x", 70_000)}, fn, nil, []string{"bytes"}},
			{"leasehold:x", []string{"a"}, fn, nil, []string{`"leasehold:`}},
			{"g", []string{"a"}, fn, []shards.Option{nil, shards.WithSettle(-1), shards.WithOwner(strings.Repeat("x", 101)), shards.WithObserver(nil)},
				[]string{"option 1 is nil", "WithSettle -1ns", "WithOwner of 101 bytes", "WithObserver"}},
			{"g", []string{"a"}, fn, []shards.Option{shards.WithTTL(time.Millisecond)}, []string{"TTL 1ms"}},
			{"", nil, nil, nil, []string{"group: must not be empty", "no name", "want a function"}},
		} {
			err := shards.Own(context.Background(), sup, c.group, c.names, c.fn, c.opts...)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 600 {
					t.Errorf("%.20q, %.20q: %v: want %q", c.group, c.names, err, want)
				}
			}
		}
		if err := shards.Own(context.Background(), nil, "g", []string{"a"}, fn); err == nil || !strings.Contains(err.Error(), "supervisor") {
			t.Error(err)
		}
		done, cancel := context.WithCancel(context.Background())
		cancel()
		if err := shards.Own(done, sup, "g", []string{"a"}, fn); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range map[shards.EventKind]string{
		shards.EventMembers: "members", shards.EventFailed: "failed", 0: "EventKind(0)", 99: "EventKind(99)",
	} {
		text, err := k.MarshalText()
		if k.String() != want || string(text) != want || err != nil {
			t.Errorf("%v, %q: want %q", k, text, want)
		}
		var back shards.EventKind
		if err := back.UnmarshalText(text); err != nil || back != k {
			t.Errorf("%q is read as %d, %v", text, back, err)
		}
	}
}

func TestEventsInJSON(t *testing.T) {
	text, err := json.Marshal(shards.Event{Kind: shards.EventLost, Group: "g", Name: "a", Members: 2, Fence: 7, Err: lease.ErrExpired})
	want := `{"Kind":"lost","Group":"g","Name":"a","Members":2,"Fence":7,"Err":"` + lease.ErrExpired.Error() + `"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v: want %s", text, err, want)
	}
}
