package integration

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A loss says what was wrong at each node, in the words of real servers.
func TestLossCarriesItsReasons(t *testing.T) {
	t.Parallel()
	onProcesses(t, 3, 5, lossesCarryReasons)
}

const foreign = "rival:1/ABCDEFGHIJKLMNOPQRSTUVWXYZ"

func lossesCarryReasons(t *testing.T, c *cluster.Cluster, _ *notes) {
	do := func(i int, command ...string) {
		t.Helper()
		if _, err := c.Servers[i].Do(command...); err != nil {
			t.Fatal(err)
		}
	}
	sup := start(t, c)
	careless := start(t, c, func(cfg *supervisor.Config) { cfg.DisableGuard = true })
	deleted, overwritten, refused := acquire(t, sup, "deleted"), acquire(t, sup, "overwritten"), acquire(t, sup, "refused")
	for _, l := range []*lease.Lease{deleted, overwritten, refused} {
		isRenewed(t, l)
	}
	for i := range 2 {
		do(i, "DEL", "deleted")
		do(i, "SET", "overwritten", foreign)
	}
	saysWhy(t, c, deleted, lease.ErrRevoked, map[int]string{0: "deleted", 1: "deleted"})
	saysWhy(t, c, overwritten, lease.ErrTaken, map[int]string{0: "overwritten by rival:1", 1: "overwritten by rival:1"})

	do(0, "ACL", "SETUSER", "default", "-pexpire")
	do(1, "ACL", "SETUSER", "default", "-evalsha", "-eval")
	resume := pause(t, c.Servers[2:])
	saysWhy(t, c, refused, lease.ErrExpired, map[int]string{0: "NOPERM", 1: "NOPERM", 2: "no answer within"})
	for _, n := range sup.Nodes() {
		if n.Err == nil {
			t.Errorf("%s says nothing of what is wrong", n.Node)
		}
	}
	resume()
	for i := range 2 {
		do(i, "ACL", "SETUSER", "default", "+@all")
	}
	flushed := acquire(t, careless, "flushed")
	isRenewed(t, flushed)
	for i := range c.Servers {
		do(i, "FLUSHALL")
	}
	saysWhy(t, c, flushed, lease.ErrRevoked, map[int]string{0: "flushed", 1: "flushed", 2: "flushed"})
}

// saysWhy waits for the loss of a lease, and wants these reasons of these nodes. The third may
// have renewed it right before, and is not blamed then.
func saysWhy(t *testing.T, c *cluster.Cluster, held *lease.Lease, kind error, want map[int]string) {
	t.Helper()
	w := newWatch()
	select {
	case <-held.Lost():
	case <-time.After(2 * ttl):
		t.Fatalf("%s is not lost", held.Name())
	}
	var lost *lease.LostError
	if err := held.Err(); !errors.Is(err, kind) || !errors.As(err, &lost) {
		if w.expired(t, held) {
			t.SkipNow()
		}
		t.Fatalf("%s: %v, want %v", held.Name(), err, kind)
	}
	for _, r := range lost.Nodes {
		i := slices.IndexFunc(c.Servers, func(s cluster.Server) bool { return s.Addr() == r.Node })
		if says, is := want[i]; !is || !strings.Contains(r.Err.Error(), says) {
			t.Errorf("%s: node %d: %v, want %q; %v", held.Name(), i, r.Err, says, lost)
		}
	}
	if len(lost.Nodes) < 2 {
		t.Errorf("%s: %d reasons: %v", held.Name(), len(lost.Nodes), lost)
	}
	if strings.Contains(lost.Error(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") || strings.Contains(lost.Error(), string(held.Token())) {
		t.Errorf("%s: %v tells a token", held.Name(), lost)
	}
}
