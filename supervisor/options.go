package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// An Option changes one acquisition, or each of those that AcquireAll, Do, Once and Lead make. One
// that a call cannot heed is an error of that call before anything is asked, which names both.
type Option func(*request)

// A request is what the options of one call add up to.
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

// The calls that take options, as errors name them.
const (
	callAcquire    = "Acquire"
	callTryAcquire = "TryAcquire"
	callAcquireAll = "AcquireAll"
	callAcquireAny = "AcquireAny"
	callDo         = "Do"
	callOnce       = "Once"
	callLead       = "Lead"
)

// WithTTL has the lease last for another TTL than Config.TTL: 100 ms to
// Config.MaxTTL.
func WithTTL(ttl time.Duration) Option { return func(r *request) { r.ttl = ttl } }

// WithoutRenewal has the lease end when its TTL does, unless Extend is called. It looks who
// has the key as often as it would be renewed, so Lost tells of a revocation all the same.
func WithoutRenewal() Option { return func(r *request) { r.noRenew = true } }

// WithMaxHold ends the lease with lease.ErrMaxHold once it has been held for d:
// for work that must not block others for ever when it is stuck. More than 0, and at
// most 8760 h.
func WithMaxHold(d time.Duration) Option { return func(r *request) { r.maxHold, r.bounded = d, true } }

// WithMinHold has the name stay taken for d, counted from when the lease began, whatever becomes
// of the lease: for a job that is not to run again too soon, see [Supervisor.Once]. When the
// lease is over, by Release or otherwise, its keys are left on the nodes until d is. Nobody holds
// the name meanwhile, and Inspect says Vacated; to others it is held, and who waits has it right
// after d. It also stays taken if the process dies: a quorum keeps the keys for so long before the
// lease is handed out, which costs a round trip. Lost, Valid and Extend are those of any lease.
//
// It is no promise about safety. Nodes that lose their data may end it early, and
// [Supervisor.Revoke] ends it. Who adopts the lease has it without that.
//
// More than 0, and at most 8760 h. AcquireAll does not take it, because it gives back what it has
// if it cannot have all; nor does Once, whose period is that.
func WithMinHold(d time.Duration) Option { return func(r *request) { r.minHold, r.stays = d, true } }

// WithAttempts gives up after n attempts, 1 or more, with the error of the last; with AcquireAll,
// after n for one name. By default Acquire tries until its context is done. TryAcquire, which
// makes one, AcquireAny, which stands in queues, and Once do not take it.
func WithAttempts(n int) Option { return func(r *request) { r.attempts, r.counted = n, true } }

// WithOwner has the lease say something else of its holder than Config.Owner: an
// address at which it can be reached, say. Others read it with Inspect and Watch. 1
// to 128 bytes, and nothing secret. It does not begin with "?" or "!".
func WithOwner(owner string) Option { return func(r *request) { r.owner, r.named = owner, true } }

// WithCoolDown has [Supervisor.Lead] wait for d, or up to a tenth longer, after each
// tenure before it is a candidate again, so that another process gets a chance. With
// it Lead also goes on after a lease that was released while its function ran, as by
// [Supervisor.StepDown]. Only Lead takes it. Default: no waiting after a loss, and a
// release ends Lead. At most 8760 h.
func WithCoolDown(d time.Duration) Option {
	return func(r *request) { r.coolDown, r.cools = d, true }
}

// request checks the options of a call and the name that it is given, all of them.
func (s *Supervisor) request(call, name string, opts []Option) (*request, error) {
	r, broken := s.options(call, opts)
	if err := s.cfg.checkName(name); err != nil {
		broken = append([]error{err}, broken...)
	}
	if broken != nil {
		return nil, fmt.Errorf("acquire: %w", errors.Join(broken...))
	}
	return r, nil
}

// options returns what options add up to, and what is wrong with them if they are given to a call.
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
		broken = append(broken, fmt.Errorf("WithAttempts: %s cannot heed it, because it makes one attempt: want Acquire", call))
	} else if r.counted && call == callOnce {
		broken = append(broken, fmt.Errorf("WithAttempts: %s cannot heed it, because it tries until it is known who has the name: want TryAcquire", call))
	} else if r.counted && call == callAcquireAny {
		broken = append(broken, fmt.Errorf("WithAttempts: %s cannot heed it, because it stands in queues: want a context that ends", call))
	} else if r.counted && r.attempts < 1 {
		broken = append(broken, fmt.Errorf("WithAttempts %d: want at least 1", r.attempts))
	}
	if r.bounded && (r.maxHold <= 0 || r.maxHold > maxTime) {
		broken = append(broken, fmt.Errorf("WithMaxHold %v: want more than 0 and at most %v", r.maxHold, maxTime))
	}
	switch {
	case r.stays && call == callAcquireAll:
		broken = append(broken, fmt.Errorf("WithMinHold: %s cannot heed it, because it gives back the names that it has if it cannot have all: want Acquire", call))
	case r.stays && call == callOnce:
		broken = append(broken, fmt.Errorf("WithMinHold: %s cannot heed it, because its period is that: want Do", call))
	case r.stays && (r.minHold <= 0 || r.minHold > maxTime):
		broken = append(broken, fmt.Errorf("WithMinHold %v: want more than 0 and at most %v", r.minHold, maxTime))
	}
	if err := checkOwner("WithOwner", r.owner); err != nil {
		broken = append(broken, err)
	}
	if r.named && r.owner == "" {
		broken = append(broken, errors.New("WithOwner of 0 bytes: want at least 1"))
	}
	if r.cools && call != callLead {
		broken = append(broken, fmt.Errorf("WithCoolDown: %s cannot heed it, because it holds once: want Lead", call))
	} else if r.coolDown < 0 || r.coolDown > maxTime {
		broken = append(broken, fmt.Errorf("WithCoolDown %v: want 0 to %v", r.coolDown, maxTime))
	}
	return r, broken
}

// of returns what the core is asked for.
func (r *request) of(key string) core.Request {
	return core.Request{Key: key, Owner: r.owner, Terms: r.terms, Attempts: r.attempts, NoRenew: r.noRenew, MaxHold: r.maxHold, MinHold: r.minHold}
}

// termsFor returns the times of a lease with the given TTL.
func (s *Supervisor) termsFor(ttl time.Duration) (*core.Terms, error) {
	if ttl == s.cfg.TTL {
		return s.terms, nil
	}
	ttl = ttl.Truncate(time.Millisecond)
	if ttl < minTTL || ttl > s.cfg.MaxTTL {
		return nil, fmt.Errorf("TTL %v: want %v to MaxTTL = %v", ttl, minTTL, s.cfg.MaxTTL)
	}
	t := s.settings.Terms(ttl)
	if err := validateTerms(t, s.cfg.NodeTimeout); err != nil {
		return nil, err
	}
	return t, nil
}
