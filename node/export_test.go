package node

import (
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/clock"
)

// WithPassword returns the Conn with another password.
func WithPassword(c Conn, password string) Conn {
	o := *c.opt.ClientOption
	o.Password = password
	return FromOption(o)
}

// WithDialer returns the Conn, which dials as another does.
func WithDialer(c, dialer Conn) Conn {
	o := *c.opt.ClientOption
	o.DialFn, o.DialCtxFn = dialer.opt.DialFn, dialer.opt.DialCtxFn
	return FromOption(o)
}

// OptionOf returns what the Conn was made of.
func OptionOf(c Conn) rueidis.ClientOption { return *c.opt.ClientOption }

// An Answer is one that came at an instant, and how long it took.
type Answer struct {
	At   clock.Instant
	Took time.Duration
}

// PatienceAfter returns for how long a node is waited for, at the instants of its answers, in the order
// in which they are handled.
func PatienceAfter(least, most time.Duration, answers ...Answer) (list []time.Duration) {
	p := patience{least: least, most: most}
	for _, a := range answers {
		p.took(a.At, a.Took)
		list = append(list, p.of(a.At))
	}
	return list
}
