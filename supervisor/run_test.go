package supervisor_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// With a cool-down a leader that stepped down, or was lost, is a candidate again
// after it, and not before; another process that wants the name has it meanwhile.
func TestCoolDown(t *testing.T) {
	const d = 10 * time.Second
	for what, end := range map[string]func(*supervisor.Supervisor, []*nodetest.Node) error{
		"stepped down": func(sup *supervisor.Supervisor, _ []*nodetest.Node) error {
			return sup.StepDown(context.Background(), "x")
		},
		"lost": func(_ *supervisor.Supervisor, nodes []*nodetest.Node) error {
			for _, n := range nodes {
				n.Del("x")
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup, other := start(t, nodes, owner("first")), start(t, nodes, owner("second"))
				var ended time.Time
				terms, failure := 0, errors.New("the job's own")
				err := sup.Lead(t.Context(), "x", func(ctx context.Context) error {
					if terms++; terms == 2 {
						if idle := time.Since(ended); idle < d || idle > d+d/10 {
							t.Errorf("a candidate again after %v, want %v and up to a tenth more", idle, d)
						}
						return failure
					}
					if err := end(sup, nodes); err != nil {
						t.Error(err)
					}
					<-ctx.Done()
					ended = time.Now()
					go func() {
						held, err := other.Acquire(context.Background(), "x")
						if err != nil {
							t.Error(err)
							return
						}
						held.Release(context.Background())
					}()
					return nil
				}, supervisor.WithCoolDown(d))
				if terms != 2 || err != failure && !errors.Is(err, failure) {
					t.Errorf("%d terms, %v", terms, err)
				}
				if n := other.Stats().Acquired; n != 1 {
					t.Errorf("the other had it %d times meanwhile, want once", n)
				}
			})
		})
	}
}

// The cool-down ends with the context of Lead, and with the supervisor.
func TestCoolDownEnds(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		stepDown := func(ctx context.Context) error { return lease.FromContext(ctx).Release(ctx) }
		from := time.Now()
		err := sup.Lead(within(t, time.Second), "x", stepDown, supervisor.WithCoolDown(time.Hour))
		if took := time.Since(from); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("%v after %v, want the end of the context", err, took)
		}
		result := make(chan error)
		go func() {
			result <- sup.Lead(context.Background(), "x", stepDown, supervisor.WithCoolDown(time.Hour))
		}()
		synctest.Wait()
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-result; !errors.Is(err, supervisor.ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	})
}

// StepDown ends what this process holds, and nothing else.
func TestStepDown(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, other := start(t, nodes), start(t, nodes)
		err := sup.Lead(t.Context(), "x", func(ctx context.Context) error {
			if err := other.StepDown(ctx, "x"); !errors.Is(err, supervisor.ErrNotHolder) {
				t.Errorf("another process: %v, want ErrNotHolder", err)
			}
			if err := sup.StepDown(context.Background(), "x"); err != nil {
				t.Error(err)
			}
			if context.Cause(ctx) != lease.ErrReleased {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return nil
		})
		if err != nil {
			t.Errorf("a leader that stepped down: %v", err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
		for range 2 {
			if err := sup.StepDown(t.Context(), "x"); !errors.Is(err, supervisor.ErrNotHolder) {
				t.Errorf("nothing is held: %v, want ErrNotHolder", err)
			}
		}
	})
}

// A leader that is stepped down from keeps the name until its function has returned: another process
// leads then, and no sooner.
func TestStepDownWaitsForTheFunction(t *testing.T) {
	const d = 20 * ttl
	for what, run := range map[string]func(sup *supervisor.Supervisor, fn func(context.Context) error) error{
		"Do": func(sup *supervisor.Supervisor, fn func(context.Context) error) error {
			return sup.Do(context.Background(), "x", fn)
		},
		"Lead": func(sup *supervisor.Supervisor, fn func(context.Context) error) error {
			return sup.Lead(context.Background(), "x", fn)
		},
		"Lead with a cool-down": func(sup *supervisor.Supervisor, fn func(context.Context) error) error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			time.AfterFunc(2*d, cancel)
			err := sup.Lead(ctx, "x", fn, supervisor.WithCoolDown(time.Hour))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want the end of the context, as it cooled down", err)
			}
			return nil
		},
		"Once": func(sup *supervisor.Supervisor, fn func(context.Context) error) error {
			_, err := sup.Once(context.Background(), "x", time.Second, fn)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup, other := start(t, nodes), start(t, nodes)
				working := false
				next := make(chan error, 1)
				from := time.Now()
				err := run(sup, func(ctx context.Context) error {
					working = true
					go func() {
						held, err := other.Acquire(context.Background(), "x")
						if err == nil && (working || time.Since(from) < d) {
							t.Errorf("another process has the name after %v, while the function works", time.Since(from))
						}
						if err == nil {
							err = held.Release(context.Background())
						}
						next <- err
					}()
					synctest.Wait()
					for range 2 {
						if err := sup.StepDown(t.Context(), "x"); err != nil {
							t.Error(err)
						}
					}
					if context.Cause(ctx) != lease.ErrReleased {
						t.Errorf("cause %v", context.Cause(ctx))
					}
					time.Sleep(d) // it is slow to stop
					if l := lease.FromContext(ctx); l == nil || !l.Valid() || !sup.Leading("x") {
						t.Error("the lease was not kept until the function returned")
					}
					working = false
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if err := <-next; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A leader that panics gives the name back first.
func TestLeadPanics(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		func() {
			defer func() {
				if recover() != "stop" {
					t.Error("the panic was swallowed")
				}
			}()
			_ = sup.Lead(t.Context(), "x", func(context.Context) error { panic("stop") }, supervisor.WithCoolDown(time.Hour))
		}()
		synctest.Wait()
		wantKeys(t, nodes, "x", "", 0)
	})
}

// What a lease says of its holder is the owner of that lease, if one was given.
func TestWithOwner(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for _, want := range []string{"http://10.0.0.7:8080/", "with space and / slash"} {
			held := acquire(t, sup, "x", supervisor.WithOwner(want))
			if got := held.Owner(); got != want {
				t.Errorf("Owner() = %q, want %q", got, want)
			}
			if h, err := sup.Inspect(t.Context(), "x"); err != nil || h.Owner != want || h.Token != held.Token() {
				t.Errorf("%+v, %v; want the owner %q", h, err, want)
			}
			if err := held.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if held := acquire(t, sup, "x"); held.Owner() != "me" {
			t.Errorf("Owner() = %q without the option", held.Owner())
		}
	})
}

// A key that is reserved for a waiter is nobody's.
func TestReservationIsNoHolder(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		for _, n := range nodes {
			n.Set("x", "?me/ABCDEFGHIJKLMNOPQRSTUVWXYZ", time.Second)
		}
		h, err := sup.Inspect(t.Context(), "x")
		if err != nil || h.Held || h.Owner != "" || h.Token != "" || h.Nodes[0].Owner != "" {
			t.Errorf("%+v, %v", h, err)
		}
	})
}
