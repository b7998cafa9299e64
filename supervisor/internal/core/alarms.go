package core

import "github.com/leasehold-go/leasehold/clock"

// An alarm is something that the core must look at once an instant has come.
// It is embedded in what it belongs to.
type alarm struct {
	moment *moment // for which it is set; nil if it is not
	index  int32   // there
}

func (a *alarm) bell() *alarm { return a }

func (a *alarm) isSet() bool { return a.moment != nil }

// due returns the instant for which the alarm is set; Never if it is not.
func (a *alarm) due() clock.Instant {
	if a.moment == nil {
		return clock.Never
	}
	return a.moment.at
}

// A sleeper is woken when its alarm is due. The alarm is no longer set then.
type sleeper interface {
	bell() *alarm
	wake(c *Core, now clock.Instant)
}

// alarms has all alarms that are set: a heap of moments, the earliest first, and the sleepers to
// wake at each. Nearly all are of tenures, many of which are renewed at the same moment. So the
// heap stays small, and the leases that are not due are not touched.
type alarms struct {
	heap  []coming
	at    map[clock.Instant]*moment
	spare []*moment // to be used again
	count int       // of alarms
}

// A moment is an instant at which sleepers are to be woken.
type moment struct {
	at      clock.Instant
	pos     int       // in the heap
	tenures []*tenure // apart from the others: an interface is twice as large
	others  []sleeper
}

// coming is a moment in the heap together with its instant. With very many moments, looking at the
// moments themselves is what takes the time.
type coming struct {
	at clock.Instant
	*moment
}

const (
	children  = 4 // of each in the heap, at most
	maxSpare  = 64
	spareRoom = 1024 // for either kind of sleepers; a moment with more of it is not kept
)

// next returns the earliest instant for which an alarm is set; Never if there is none.
func (h *alarms) next() clock.Instant {
	if len(h.heap) == 0 {
		return clock.Never
	}
	return h.heap[0].at
}

// pop removes one of the earliest alarms; there must be one. It returns the sleeper to wake.
func (h *alarms) pop() (s sleeper) {
	m := h.heap[0].moment
	if n := len(m.others); n > 0 {
		s = m.others[n-1]
	} else {
		s = m.tenures[len(m.tenures)-1]
	}
	h.clear(s)
	return s
}

func (h *alarms) set(s sleeper, at clock.Instant) {
	a := s.bell()
	if a.moment != nil {
		if at == a.moment.at {
			return // as after nearly every answer to a renewal
		}
		h.clear(s)
	}
	m := h.at[at]
	if m == nil {
		m = h.add(at)
	}
	a.moment = m
	if t, is := s.(*tenure); is {
		a.index = int32(len(m.tenures))
		m.tenures = append(m.tenures, t)
	} else {
		a.index = int32(len(m.others))
		m.others = append(m.others, s)
	}
	h.count++
}

func (h *alarms) clear(s sleeper) {
	a := s.bell()
	m := a.moment
	if m == nil {
		return
	}
	if _, is := s.(*tenure); is {
		m.tenures = without(m.tenures, a.index)
	} else {
		m.others = without(m.others, a.index)
	}
	a.moment = nil
	h.count--
	if len(m.tenures)+len(m.others) == 0 {
		h.remove(m)
	}
}

// without removes one element; the last takes its place.
func without[T sleeper](from []T, index int32) []T {
	var none T
	last := len(from) - 1
	from[index] = from[last]
	from[index].bell().index = index
	from[last] = none
	return from[:last]
}

func (h *alarms) add(at clock.Instant) *moment {
	var m *moment
	if n := len(h.spare); n > 0 {
		m, h.spare = h.spare[n-1], h.spare[:n-1]
	} else {
		m = &moment{}
	}
	m.at = at
	if h.at == nil {
		h.at = make(map[clock.Instant]*moment)
	}
	h.at[at] = m
	h.heap = append(h.heap, coming{at, m})
	h.up(len(h.heap) - 1)
	return m
}

// remove removes a moment that has no sleepers any more.
func (h *alarms) remove(m *moment) {
	delete(h.at, m.at)
	last := len(h.heap) - 1
	moved := h.heap[last]
	h.heap[last] = coming{}
	h.heap = h.heap[:last]
	if i := m.pos; i < last {
		h.put(i, moved)
		h.up(i)
		h.down(moved.pos)
	}
	if len(h.spare) < maxSpare && max(cap(m.tenures), cap(m.others)) <= spareRoom {
		h.spare = append(h.spare, m)
	}
}

func (h *alarms) put(i int, d coming) {
	h.heap[i] = d
	d.pos = i
}

func (h *alarms) up(i int) {
	d := h.heap[i]
	for i > 0 {
		parent := (i - 1) / children
		if h.heap[parent].at <= d.at {
			break
		}
		h.put(i, h.heap[parent])
		i = parent
	}
	h.put(i, d)
}

func (h *alarms) down(i int) {
	d := h.heap[i]
	for {
		first := children*i + 1
		least, at := i, d.at
		for child := first; child < min(first+children, len(h.heap)); child++ {
			if h.heap[child].at < at {
				least, at = child, h.heap[child].at
			}
		}
		if least == i {
			break
		}
		h.put(i, h.heap[least])
		i = least
	}
	h.put(i, d)
}
