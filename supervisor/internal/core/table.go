package core

// A table has the tenures that are not forgotten. The ID of each contains its slot, so that there
// is no search: every answer of a node looks one up.
type table struct {
	slots []*tenure // nil if there is none
	free  []uint32  // of the slots
}

// An ID is how many were given before it, and after that a slot. So no ID is ever given twice.
const (
	slotBits = 24
	noSlot   = 1<<slotBits - 1
)

// NextID returns the ID that follows the last one that was given, for a slot.
func NextID(last uint64, slot int) uint64 { return (last>>slotBits+1)<<slotBits | uint64(slot) }

// vacancy returns the slot of the next tenure.
func (r *table) vacancy() int {
	if n := len(r.free); n > 0 {
		return int(r.free[n-1])
	}
	return len(r.slots)
}

// add adds t, whose ID is of the vacancy.
func (r *table) add(t *tenure) {
	slot := t.id & noSlot
	if n := len(r.free); n > 0 {
		r.free = r.free[:n-1]
		r.slots[slot] = t
		return
	}
	r.slots = append(r.slots, t)
}

// get returns the tenure with that ID, or nil.
func (r *table) get(id uint64) *tenure {
	slot := id & noSlot
	if slot >= uint64(len(r.slots)) {
		return nil
	}
	if t := r.slots[slot]; t != nil && t.id == id {
		return t
	}
	return nil
}

// del removes t, if it is in.
func (r *table) del(t *tenure) {
	if r.get(t.id) == t {
		slot := t.id & noSlot
		r.slots[slot] = nil
		r.free = append(r.free, uint32(slot))
	}
}

func (r *table) len() int { return len(r.slots) - len(r.free) }

// Slot returns the slot of an ID. Its table is as long as the largest number of its kind at one
// time.
func Slot(id uint64) int { return int(id & noSlot) }

// A waitTable has the waiters that may give up, by the slots of their calls.
type waitTable []*waiter

func (t *waitTable) add(w *waiter) {
	slot := Slot(uint64(w.Call))
	for len(*t) <= slot {
		*t = append(*t, nil)
	}
	(*t)[slot] = w
}

// get returns the waiter of a call, or nil.
func (t waitTable) get(call Call) *waiter {
	if slot := Slot(uint64(call)); slot < len(t) && t[slot] != nil && t[slot].Call == call {
		return t[slot]
	}
	return nil
}

// del removes the waiter of a call, if it is in.
func (t waitTable) del(call Call) {
	if t.get(call) != nil {
		t[Slot(uint64(call))] = nil
	}
}
