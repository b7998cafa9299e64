package supervisor

import "github.com/leasehold-go/leasehold/clock"

// An alarm is something that the core must look at once an instant has come.
// It is embedded in what it belongs to.
type alarm struct {
	at  clock.Instant
	pos int // in alarms, from 1; 0 if not set
	who sleeper
}

// A sleeper is woken when its alarm is due. The alarm is no longer set then.
type sleeper interface {
	wake(c *core, now clock.Instant)
}

// alarms is a binary heap of the alarms that are set, the earliest first.
type alarms []*alarm

func (h *alarms) set(a *alarm, at clock.Instant) {
	if a.pos == 0 {
		a.at = at
		*h = append(*h, a)
		a.pos = len(*h)
		h.up(a.pos - 1)
		return
	}
	earlier := at < a.at
	a.at = at
	if earlier {
		h.up(a.pos - 1)
	} else {
		h.down(a.pos - 1)
	}
}

func (h *alarms) clear(a *alarm) {
	if a.pos == 0 {
		return
	}
	i, last := a.pos-1, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	a.pos = 0
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h alarms) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].at <= h[i].at {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h alarms) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].at < h[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

func (h alarms) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i+1, j+1
}
