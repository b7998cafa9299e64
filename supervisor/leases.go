package supervisor

import (
	"maps"
	"math"
	"slices"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// Leases returns the leases that this supervisor holds, in the order in which they were acquired.
// It asks no node. A lease in the list may end at any moment: ask it.
func (s *Supervisor) Leases() []*lease.Lease {
	const piece = 4096 // how many leases the loop is stopped for at once
	if s.core == nil {
		return nil // it is the zero Supervisor
	}
	byID := make(map[uint64]*lease.Lease)
	for left := math.MaxInt; left > 0; {
		s.read(func(c *core.Core) {
			left = min(left, c.Counts().Held)
			from := max(0, left-piece)
			for _, id := range c.HeldIDs(from, left) {
				byID[id] = s.leases[core.Slot(id)].Lease()
			}
			left = from
		})
	}
	list := make([]*lease.Lease, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		list = append(list, byID[id])
	}
	return list
}
