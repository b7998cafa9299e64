package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A lease without renewal that an operator takes away learns of it at once, or, if nothing is
// told of changes, within a third of its TTL.
func TestUnrenewedIsRevokedReal(t *testing.T) {
	c := processes(t, 3)
	operator := supervise(t, c.Conns())
	for _, x := range []struct {
		name  string
		conns []node.Conn
		most  time.Duration
	}{{"tracked", c.Conns(), nodeTimeout}, {"untracked", untracked(c), renewEvery + nodeTimeout}} {
		sup := supervise(t, x.conns)
		t.Run(x.name, func(t *testing.T) {
			var n notes
			repeat(t, howOften(t), 10, func(t *testing.T, run int) {
				name := fmt.Sprint(x.name, run)
				l := acquire(t, sup, name, supervisor.WithoutRenewal())
				end := time.Now().Add(l.Remaining())
				kept(t, l, nodeTimeout+rand.N(renewEvery))
				if later := time.Now().Add(l.Remaining()).Sub(end); later > time.Millisecond {
					t.Errorf("it is held for %v longer", later)
				}
				w := newWatch()
				if err := operator.Revoke(t.Context(), name, l.Token()); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				<-l.Lost()
				n.within(t, w, "told after", time.Since(begun), x.most)
				if !errors.Is(l.Err(), lease.ErrRevoked) {
					t.Errorf("%v, want %v", l.Err(), lease.ErrRevoked)
				}
			})
			n.log(t)
		})
	}
}
