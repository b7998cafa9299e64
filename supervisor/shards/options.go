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

// WithSettle makes Own wait for d after it has joined the group before it takes its part. So a
// process that ends within that time has moved nothing. Default 500 ms; 0 to 1 h.
func WithSettle(d time.Duration) Option { return func(o *options) { o.settle = d } }

// WithTTL gives the leases another TTL than that of the supervisor, within the bounds of
// [supervisor.WithTTL]. All processes of a group should give the same. Default: the supervisor's.
func WithTTL(ttl time.Duration) Option { return func(o *options) { o.ttl, o.timed = ttl, true } }

// WithOwner sets the owner that the leases show, before a "#" and a random text that tells this
// call of Own from all others. Default: the host and the process ID, as "host:pid". At most 100
// bytes, not beginning with "?" or "!".
func WithOwner(owner string) Option { return func(o *options) { o.owner = owner } }

// WithObserver calls observe with every event. The goroutine that decides what to take and to give
// calls it, one event after the other: so it must not wait, and must not call Own. Default: none.
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

// leases returns the options of every lease. id is the owner that the leases show.
func (o options) leases(id string) []supervisor.Option {
	opts := []supervisor.Option{supervisor.WithOwner(id)}
	if o.timed {
		opts = append(opts, supervisor.WithTTL(o.ttl))
	}
	return opts
}
