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

// alarms is a heap of the alarms that are set, the earliest first. Each has up to four
// children, and says itself when it is due: with very many, looking at the alarms
// themselves is what takes the time.
type alarms []due

type due struct {
	at clock.Instant
	*alarm
}

const children = 4

func (h *alarms) set(a *alarm, at clock.Instant) {
	if a.pos == 0 {
		*h = append(*h, due{})
		a.pos = len(*h)
		a.at = clock.Never
	} else if at == a.at {
		return // as after nearly every answer to a renewal
	}
	earlier := at < a.at
	a.at = at
	(*h)[a.pos-1] = due{at, a}
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
	moved := (*h)[last]
	(*h)[last] = due{}
	*h = (*h)[:last]
	a.pos = 0
	if i < last {
		h.put(i, moved)
		h.up(i)
		h.down(i)
	}
}

func (h alarms) put(i int, d due) {
	h[i] = d
	d.pos = i + 1
}

func (h alarms) up(i int) {
	d := h[i]
	for i > 0 {
		parent := (i - 1) / children
		if h[parent].at <= d.at {
			break
		}
		h.put(i, h[parent])
		i = parent
	}
	h.put(i, d)
}

func (h alarms) down(i int) {
	d := h[i]
	for {
		first := children*i + 1
		least, at := i, d.at
		for child := first; child < min(first+children, len(h)); child++ {
			if h[child].at < at {
				least, at = child, h[child].at
			}
		}
		if least == i {
			break
		}
		h.put(i, h[least])
		i = least
	}
	h.put(i, d)
}
