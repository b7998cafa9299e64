package supervisor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// An Option changes one acquisition, or each of those that AcquireAll, Do, Once and Lead make. If a
// call cannot use an option, it fails before it asks any node. The error names both.
type Option func(*request)

// A request holds the sum of the options of one call.
type request struct {
	ttl      time.Duration
	attempts int
	counted  bool
	noRenew  bool
	maxHold  time.Duration
	bounded  bool
	minHold  time.Duration
	stays    bool
	owner    string
	named    bool
	coolDown time.Duration
	cools    bool

	terms *core.Terms
}

// These are the calls that take options, as errors name them.
const (
	callAcquire    = "Acquire"
	callTryAcquire = "TryAcquire"
	callAcquireAll = "AcquireAll"
	callAcquireAny = "AcquireAny"
	callDo         = "Do"
	callOnce       = "Once"
	callLead       = "Lead"
)

// WithTTL gives the lease another TTL than Config.TTL: 100 ms to Config.MaxTTL, in whole
// milliseconds, and at least four times Config.NodeTimeout. Default Config.TTL.
func WithTTL(ttl time.Duration) Option { return func(r *request) { r.ttl = ttl } }

// WithoutRenewal makes the lease end with lease.ErrExpired when its TTL ends, unless Extend is
// called. The supervisor still looks which client has the key, as often as it would renew the
// lease. So Lost is closed after a revocation, too.
func WithoutRenewal() Option { return func(r *request) { r.noRenew = true } }

// WithMaxHold ends the lease with lease.ErrMaxHold once it has been held for d. It is for work that
// must not block others for ever when it is stuck. Lead treats that as any other loss, and becomes
// a candidate again. d is more than 0, and at most 8760 h. Default: no bound.
func WithMaxHold(d time.Duration) Option { return func(r *request) { r.maxHold, r.bounded = d, true } }

// WithMinHold keeps the name taken for d from when the lease began, however the lease ends. It is
// for a job that must not run again too soon, see [Supervisor.Once]. When the lease is over, by
// Release or otherwise, its keys stay on the nodes until d is over. No client holds the name
// meanwhile, and Inspect says Vacated. To others the name is held, and a caller that waits for it
// gets it right after d. If less than three times Config.NodeTimeout was left of d when the lease
// ended, the caller may get it up to that much later, because it is not notified of that end.
// The name also stays taken if the process dies. For that a quorum stores the keys for d, or for
// the TTL if that is longer, before the lease is handed out. It costs a round trip. If the call
// fails there was no lease, and the name does not stay taken. Lost, Valid and Extend are those of
// any lease.
//
// It is no promise about safety. Nodes that lose their data may end it early, and
// [Supervisor.Revoke] ends it. A lease that was adopted does not have it.
//
// d is more than 0, and at most 8760 h. AcquireAll does not take this option, because it gives back
// the names it has if it cannot get all. Once does not take it either: it has its period instead.
func WithMinHold(d time.Duration) Option { return func(r *request) { r.minHold, r.stays = d, true } }

// WithAttempts ends the call after n attempts, 1 or more, with the error of the last. AcquireAll
// makes n attempts for each name. Between two attempts the call makes a pause, see Config.RetryMin,
// and does not stand in a queue. By default Acquire waits until its context is done. Three calls do
// not take this option: TryAcquire, which makes one attempt, AcquireAny, which stands in queues,
// and Once.
func WithAttempts(n int) Option { return func(r *request) { r.attempts, r.counted = n, true } }

// WithOwner gives the lease another text for its holder than Config.Owner, for example the address
// at which it can be reached. Others read it with Inspect and Watch, so it must not be secret. 1 to
// 128 bytes, not beginning with "?" or "!". Default Config.Owner.
func WithOwner(owner string) Option { return func(r *request) { r.owner, r.named = owner, true } }

// WithCoolDown makes [Supervisor.Lead] wait for d, or up to a tenth longer, after each tenure
// before it is a candidate again. So another process gets a chance. With it Lead also goes on after
// a lease that was released while its function ran, as [Supervisor.StepDown] does. Only Lead takes
// it. 0 to 8760 h. Default 0: Lead does not wait after a loss, and a release ends it.
func WithCoolDown(d time.Duration) Option {
	return func(r *request) { r.coolDown, r.cools = d, true }
}

// request checks the options of a call and the name that it is given. It returns all errors at
// once.
func (s *Supervisor) request(call, name string, opts []Option) (*request, error) {
	r, broken := s.options(call, opts)
	if err := s.cfg.checkName(name); err != nil {
		broken = append([]error{err}, broken...)
	}
	if broken != nil {
		doing := strings.ToLower(call)
		if call == callTryAcquire {
			doing = opAcquire
		}
		return nil, fmt.Errorf("%s: %w", doing, errors.Join(broken...))
	}
	return r, nil
}

// options returns the sum of the options, and every error that giving them to call makes.
func (s *Supervisor) options(call string, opts []Option) (*request, []error) {
	r := &request{ttl: s.cfg.TTL}
	for i, o := range opts {
		if o == nil {
			return nil, []error{fmt.Errorf("option %d is nil", i+1)}
		}
		o(r)
	}
	var broken []error
	terms, err := s.termsFor(r.ttl)
	if r.terms = terms; err != nil {
		broken = append(broken, err)
	}
	if r.counted && call == callTryAcquire {
		broken = append(broken, fmt.Errorf("WithAttempts: %s cannot use it, because it makes one attempt; use Acquire", call))
	} else if r.counted && call == callOnce {
		broken = append(broken, fmt.Errorf("WithAttempts: %s cannot use it, because it tries until the holder is known; use TryAcquire", call))
	} else if r.counted && call == callAcquireAny {
		broken = append(broken, fmt.Errorf("WithAttempts: %s cannot use it, because it stands in queues; use a context that ends", call))
	} else if r.counted && r.attempts < 1 {
		broken = append(broken, fmt.Errorf("WithAttempts %d: want at least 1", r.attempts))
	}
	if r.bounded && (r.maxHold <= 0 || r.maxHold > maxTime) {
		broken = append(broken, fmt.Errorf("WithMaxHold %v: want more than 0 and at most %v", r.maxHold, maxTime))
	}
	switch {
	case r.stays && call == callAcquireAll:
		broken = append(broken, fmt.Errorf("WithMinHold: %s cannot use it, because it gives back the names that it has if it cannot get all; use Acquire", call))
	case r.stays && call == callOnce:
		broken = append(broken, fmt.Errorf("WithMinHold: %s cannot use it, because its period does the same; use Do", call))
	case r.stays && (r.minHold <= 0 || r.minHold > maxTime):
		broken = append(broken, fmt.Errorf("WithMinHold %v: want more than 0 and at most %v", r.minHold, maxTime))
	}
	if err := checkOwner("WithOwner", r.owner); err != nil {
		broken = append(broken, err)
	}
	if r.named && r.owner == "" {
		broken = append(broken, errors.New("WithOwner: must not be empty"))
	}
	if r.cools && call != callLead {
		broken = append(broken, fmt.Errorf("WithCoolDown: %s cannot use it, because it holds the name once; use Lead", call))
	} else if r.coolDown < 0 || r.coolDown > maxTime {
		broken = append(broken, fmt.Errorf("WithCoolDown %v: want 0 to %v", r.coolDown, maxTime))
	}
	return r, broken
}

// of returns the request to the core for key.
func (r *request) of(key string) core.Request {
	return core.Request{Key: key, Owner: r.owner, Terms: r.terms, Attempts: r.attempts, NoRenew: r.noRenew, MaxHold: r.maxHold, MinHold: r.minHold}
}

// termsFor returns the times of a lease with the given TTL. Each way to a lease comes by here.
func (s *Supervisor) termsFor(ttl time.Duration) (*core.Terms, error) {
	if s.cfg.NoLeases {
		return nil, errors.New("Config.NoLeases is set, so this supervisor acquires nothing")
	}
	if ttl == s.cfg.TTL {
		return s.terms, nil
	}
	switch {
	case ttl < minTTL:
		return nil, fmt.Errorf("TTL %v: want at least %v", ttl, minTTL)
	case ttl.Truncate(time.Millisecond) > s.cfg.MaxTTL:
		return nil, fmt.Errorf("TTL %v: want at most MaxTTL = %v: raise Config.MaxTTL", ttl, s.cfg.MaxTTL)
	}
	t := s.settings.Terms(ttl.Truncate(time.Millisecond))
	if err := validateTerms(t, s.cfg.NodeTimeout); err != nil {
		return nil, err
	}
	return t, nil
}
