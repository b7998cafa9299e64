package integration

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
)

// A vigil watches the leases on one name for as long as a test runs. Two that are valid
// at one instant are a second holder, which must never be seen. It also plays a store
// that checks fences: one that is not larger than those before has gone back.
type vigil struct {
	t *testing.T

	mu     sync.Mutex
	leases []*lease.Lease // that are not known to be over, in the order in which they began
	mark   uint64         // of the store
	two    bool           // it was said
}

func keepVigil(t *testing.T) *vigil {
	v := &vigil{t: t}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				v.look()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		v.look()
	})
	return v
}

// over adds a lease, which its holder has just got.
func (v *vigil) over(l *lease.Lease) {
	v.t.Helper()
	v.mu.Lock()
	if l.Fence() <= v.mark {
		v.t.Errorf("fence %d behind %d", l.Fence(), v.mark)
	}
	v.mark = max(v.mark, l.Fence())
	v.leases = append(v.leases, l)
	v.mu.Unlock()
	v.look()
}

// look asks every lease whether it is valid. One that is so before and after another was
// found valid was so at that instant, too: what is over does not come back, and need not
// be asked again.
func (v *vigil) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leases = slices.DeleteFunc(v.leases, func(l *lease.Lease) bool { return !l.Valid() })
	for i, a := range v.leases {
		for _, b := range v.leases[i+1:] {
			if !v.two && b.Valid() && a.Valid() {
				v.two = true
				v.t.Errorf("two holders: fence %d for another %v, fence %d for another %v", a.Fence(), a.Remaining(), b.Fence(), b.Remaining())
			}
		}
	}
}
