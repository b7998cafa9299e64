package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// An operator takes a lease away with the token that Inspect shows: the holder learns
// of it at its next renewal. What is not the holder's token takes nothing away.
func TestRevoke(t *testing.T) {
	bubble(t, 5, func(t *testing.T, nodes []*nodetest.Node) {
		sup, operator := start(t, nodes, owner("holder")), start(t, nodes, owner("operator"))
		held := acquire(t, sup, "x")
		for _, token := range []lease.Token{"holder", held.Token() + "x", "holder/ABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
			if err := operator.Revoke(t.Context(), "x", token); !errors.Is(err, supervisor.ErrNotHolder) {
				t.Fatalf("%v, want ErrNotHolder", err)
			}
		}
		if err := operator.Revoke(t.Context(), "y", held.Token()); !errors.Is(err, supervisor.ErrNotHolder) {
			t.Fatalf("another name: %v, want ErrNotHolder", err)
		}
		synctest.Wait()
		wantKeys(t, nodes, "x", string(held.Token()), 5)

		nodes[0].Hang()
		h, err := operator.Inspect(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if err := operator.Revoke(t.Context(), "x", h.Token); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // for the nodes beyond the quorum
		wantKeys(t, nodes[1:], "x", "", 0)
		from := time.Now()
		<-held.Lost()
		if took := time.Since(from); took > ttl/3 || !errors.Is(held.Err(), lease.ErrRevoked) {
			t.Errorf("told %v after %v", held.Err(), took)
		}
		nodes[0].Resume()
		time.Sleep(ttl / 2) // it is owed
		wantKeys(t, nodes, "x", "", 0)
	})
}

// Without a quorum a revocation is not confirmed, and every call ends with its context.
func TestRevokeWithoutQuorum(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup, operator := start(t, nodes), start(t, nodes)
		held := acquire(t, sup, "x")
		nodes[0].Crash()
		nodes[1].Hang()
		from := time.Now()
		err := operator.Revoke(within(t, 37*time.Millisecond), "x", held.Token())
		if took := time.Since(from); !errors.Is(err, context.DeadlineExceeded) || took != 37*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		err = operator.Revoke(t.Context(), "x", held.Token())
		var e *supervisor.AcquireError
		if !errors.Is(err, supervisor.ErrNoQuorum) || !errors.As(err, &e) || e.Nodes[0].Err == nil || e.Nodes[1].Verdict != supervisor.VerdictUnreachable {
			t.Errorf("%v, want ErrNoQuorum and which nodes", err)
		}
		if err := operator.Revoke(canceled(), "x", held.Token()); !errors.Is(err, context.Canceled) {
			t.Errorf("%v with a context that is done", err)
		}
	})
}

// What a supervisor is refused is one type of error, which says what was tried with which name.
func TestRefusalsSayWhatWasTried(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.Prefix = "p:" })
		held := acquire(t, sup, "held")
		token := held.Token()
		handle := held.Handle()
		try := func(ctx context.Context, name string) map[string]error {
			errs := make(map[string]error)
			_, errs["acquire"] = sup.TryAcquire(ctx, name)
			_, errs["adopt"] = sup.Adopt(ctx, handle)
			errs["revoke"] = sup.Revoke(ctx, name, token)
			_, errs["inspect"] = sup.Inspect(ctx, name)
			errs["step down"] = sup.StepDown(ctx, "free")
			return errs
		}
		check := func(errs map[string]error, name string, want error) {
			for op, err := range errs {
				if op == "adopt" {
					name = "held"
				}
				if op == "step down" {
					want, name = supervisor.ErrNotHolder, "free"
				}
				var e *supervisor.AcquireError
				if !errors.As(err, &e) || e.Op != op || e.Name != "p:"+name || e.Quorum != 2 || !errors.Is(err, want) || !strings.HasPrefix(err.Error(), fmt.Sprintf("%s %q: ", op, e.Name)) {
					t.Errorf("%s: %v, want it of %s and %v", op, err, name, want)
				}
			}
		}
		for op, err := range try(canceled(), "x") {
			check(map[string]error{op: err}, "x", context.Canceled)
		}
		for _, n := range nodes {
			n.Crash()
		}
		time.Sleep(2 * ttl) // the lease is lost meanwhile
		for op, err := range try(t.Context(), "x") {
			check(map[string]error{op: err}, "x", supervisor.ErrNoQuorum)
		}
		_ = sup.Close(within(t, ttl))
		for op, err := range try(t.Context(), "x") {
			check(map[string]error{op: err}, "x", supervisor.ErrClosed)
		}
	})
}
