package shards

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/leasehold-go/leasehold/supervisor"
)

// An Option changes one call of Own.
type Option func(*options)

type options struct {
	settle   time.Duration
	ttl      time.Duration
	timed    bool
	owner    string
	observer func(Event)
}

// WithSettle has Own wait for so long after it has joined before it takes its part: a process
// that ends within that time has moved nothing. Default 500 ms; at most an hour.
func WithSettle(d time.Duration) Option { return func(o *options) { o.settle = d } }

// WithTTL has the leases last for another TTL than that of the supervisor. All processes of a
// group want the same.
func WithTTL(ttl time.Duration) Option { return func(o *options) { o.ttl, o.timed = ttl, true } }

// WithOwner is what the leases say of their holder, before a "#" and a random text which
// tells this call from all others. Default: the host and the process. At most 100 bytes.
func WithOwner(owner string) Option { return func(o *options) { o.owner = owner } }

// WithObserver has every event told to a function. It is called by one goroutine, the one that
// decides what to take and to give, so it must not wait; and it must not call Own.
func WithObserver(observe func(Event)) Option { return func(o *options) { o.observer = observe } }

const (
	defaultSettle = 500 * time.Millisecond
	maxSettle     = time.Hour
	maxOwner      = 100
)

func gather(opts []Option) (options, error) {
	o := options{settle: defaultSettle, observer: func(Event) {}}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	o.owner = fmt.Sprintf("%.80s:%d", host, os.Getpid())
	var broken []error
	for i, opt := range opts {
		if opt == nil {
			broken = append(broken, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		opt(&o)
	}
	if o.settle < 0 || o.settle > maxSettle {
		broken = append(broken, fmt.Errorf("WithSettle %v: want 0 to %v", o.settle, maxSettle))
	}
	if len(o.owner) > maxOwner {
		broken = append(broken, fmt.Errorf("WithOwner of %d bytes: want at most %d", len(o.owner), maxOwner))
	}
	if o.observer == nil {
		broken = append(broken, errors.New("WithObserver: want a function, not nil"))
	}
	return o, errors.Join(broken...)
}

// leases are the options of every lease. id is what it says of its holder.
func (o options) leases(id string) []supervisor.Option {
	opts := []supervisor.Option{supervisor.WithOwner(id)}
	if o.timed {
		opts = append(opts, supervisor.WithTTL(o.ttl))
	}
	return opts
}
