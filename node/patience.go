package node

import (
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// A patience says how long to wait for a node's answer: twice as long as the slowest one that came
// lately, within bounds. RFC 6298 takes the average and four times the deviation instead. But that
// forgets within twenty round trips. A busy client makes them in a few milliseconds, and an idle
// lease in seven TTLs. So here the slowest answer of a period counts in that and in the next one,
// and half as much in each that follows.
type patience struct {
	least, most time.Duration
	slow        time.Duration // the slowest answer of the period that began at
	at          clock.Instant
	before      time.Duration // what counts of earlier ones in that period
}

// periodOf is how many times the longest patience a period lasts: two TTLs.
const periodOf = 8

// periods returns how many periods have passed since the one of slow. None has if this process was stopped
// for long: then it may handle an answer that came before it was stopped after one that came later.
func (p *patience) periods(now clock.Instant) time.Duration {
	return max(0, min(63, now.Sub(p.at)/(periodOf*p.most)))
}

// slowest returns how slow the node has been lately.
func (p *patience) slowest(now clock.Instant) time.Duration {
	n := p.periods(now)
	return max(p.slow>>max(0, n-1), p.before>>n)
}

// of returns how long to wait for an answer to what is sent now.
func (p *patience) of(now clock.Instant) time.Duration {
	return min(max(p.least, 2*p.slowest(now)), p.most)
}

// took hears how long an answer has taken.
func (p *patience) took(now clock.Instant, trip time.Duration) {
	if p.periods(now) > 0 {
		p.before, p.slow, p.at = p.slowest(now), 0, now
	}
	p.slow = max(p.slow, min(trip, p.most))
}
