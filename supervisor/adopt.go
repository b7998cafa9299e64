package supervisor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// Adopt continues the lease that a handle is of, see lease.Lease.Handle and HandOver: the
// name passes to this supervisor without a moment in which others can have it. The
// adopted lease has a token and an owner of its own and a larger fence, so that whatever
// its former holder still writes or renews is refused. A handle can be adopted once.
//
// It takes the key over on all nodes at once, and has a quorum store the fence. It waits
// for nodes that are not reachable yet, for a quarter of the lease's TTL or until ctx is
// done. If the handle is of HandOver, or with [FormerEnded], the lease is held then.
// Otherwise its former holder may still believe in it, and learns at its next renewal
// that it is taken: Adopt waits until what the nodes had promised to that one has run
// out, for the lease's former TTL at most, and keeps the keys meanwhile. The lease renews
// itself, whatever options it was acquired with.
//
// An error that wraps lease.ErrLost means that no quorum keeps the lease of the handle
// any more: it has expired, was revoked, or was adopted before. [ErrNoQuorum] means that
// too few nodes could be reached, and [ErrHeld] that this process itself holds the name,
// or is adopting this handle already;
// the same supervisor may try the handle again then, as after an error that wraps only
// ctx's. Nothing is deleted, so the name stays taken for the TTL at most. These are an
// [*AcquireError] with what each node said. Any other error is about the handle: broken,
// or of a lease that does not fit this supervisor's Prefix, MaxTTL or NodeTimeout.
func (s *Supervisor) Adopt(ctx context.Context, handle string, opts ...AdoptOption) (*lease.Lease, error) {
	h, err := parseHandle(handle)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	w, err := s.heir(h)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("adopt: nil option")
		}
		o(&h)
	}
	if err := ctx.Err(); err != nil {
		return nil, &AcquireError{Name: string(h.Key), Quorum: s.core.quorum, why: errNotTried, cause: err, op: "adopt"}
	}
	if !s.post(adoptMessage{w, h}) {
		return nil, &AcquireError{Name: string(h.Key), Quorum: s.core.quorum, why: ErrClosed, op: "adopt"}
	}
	var r acquired
	select {
	case r = <-w.result:
	case <-ctx.Done():
		s.post(unadoptMessage{w, ctx.Err()})
		r = <-w.result
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := ctx.Err(); err != nil {
		// No lease is returned after its context was done, but the handle may be
		// tried again, so the nodes keep it.
		s.post(disownMessage{r.id, string(h.Token)})
		return nil, &AcquireError{Name: string(h.Key), Quorum: s.core.quorum, why: errNotTaken, cause: err, op: "adopt"}
	}
	return r.lease, nil
}

// An AdoptOption changes one adoption.
type AdoptOption func(*handle)

// FormerEnded says that the process which held the lease has ended, or will surely do
// nothing under it any more: Adopt does not wait for its promise to run out then. If that
// is wrong there are two holders for a while, and only fences keep the former one out.
func FormerEnded() AdoptOption { return func(h *handle) { h.Over = true } }

type adoptMessage struct {
	w *waiter
	h handle
}

func (m adoptMessage) apply(c *Core, now clock.Instant) { c.Adopt(now, m.w, m.h) }

type unadoptMessage struct {
	w   *waiter
	why error
}

func (m unadoptMessage) apply(c *Core, now clock.Instant) { c.cancelAdoption(now, m.w, m.why) }

type disownMessage struct {
	id     uint64
	former string // the token of the handle
}

func (m disownMessage) apply(c *Core, now clock.Instant) {
	if t := c.tenures.get(m.id); t != nil && t.phase == phaseHeld {
		c.attempts[m.former] = []string{t.token} // which a quorum has now
		c.disown(now, t)
	}
}

// A handle is what a lease is continued with. Its texts are of the form that
// handleForm begins. Names and tokens may be any bytes.
type handle struct {
	Key   []byte        `json:"key"`
	Token []byte        `json:"token"`
	Fence uint64        `json:"fence"`
	TTL   time.Duration `json:"ttl"`            // in nanoseconds
	Over  bool          `json:"over,omitempty"` // nobody believes in the lease any more
}

const handleForm = "leasehold1."

// text returns the text of the handle. It is the key to the lease, and nothing to
// be shown.
func (h handle) text() string {
	b, _ := json.Marshal(h) // of bytes and numbers, which cannot fail
	return handleForm + base64.RawURLEncoding.EncodeToString(b)
}

// parseHandle reads a text. Its errors do not show it.
func parseHandle(text string) (h handle, err error) {
	encoded, ok := strings.CutPrefix(text, handleForm)
	if !ok {
		return h, fmt.Errorf("broken handle: want one that begins with %q", handleForm)
	}
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return h, errors.New("broken handle: cut off or changed on the way")
	}
	return h, nil
}

// heir checks whether the handle's lease fits this supervisor, all of it, and makes
// who waits for it.
func (s *Supervisor) heir(h handle) (*waiter, error) {
	var broken []error
	name, ok := strings.CutPrefix(string(h.Key), s.cfg.Prefix)
	if !ok {
		broken = append(broken, fmt.Errorf("handle of %.64q: want a name behind the prefix %q", h.Key, s.cfg.Prefix))
	} else if err := s.cfg.checkName(name); err != nil {
		broken = append(broken, err)
	}
	if i := len(h.Token) - randomLen - 1; i < 0 || h.Token[i] != '/' || checkOwner("", string(h.Token[:i])) != nil {
		broken = append(broken, errors.New("handle with a broken token: want one of this library"))
	}
	if h.Fence == 0 {
		broken = append(broken, errors.New("handle with fence 0: want more"))
	}
	terms, err := s.termsFor(h.TTL)
	if err != nil {
		broken = append(broken, fmt.Errorf("handle with %w", err))
	}
	return &waiter{Key: name, Terms: terms, result: make(chan acquired, 1)}, errors.Join(broken...)
}

// An adoption is the passing of a lease to this supervisor. It is an election among the
// nodes that keep the former token, each of which swaps it for that of the attempt; a
// quorum of those stores the fence. Until nobody believes in the former one any more the
// lease is renewed, and nothing else.
type adoption struct {
	heir    *waiter
	former  string   // the token of the handle
	earlier []string // those of earlier attempts here
	over    bool     // nobody believes in the former lease any more
	elected bool     // a quorum has swapped the token, and stored the fence

	overAt clock.Instant // what the nodes had promised to the former holder has run out then
	absent nodeSet
	other  nodeSet
}

// adoptions are the tokens of the attempts to adopt a handle, by its token: a node may
// have swapped it for one whose answer was lost.
type adoptions map[string][]string

// maxAdoptions bounds of how many handles the attempts are remembered.
const maxAdoptions = 256

// adopt takes in that a lease is to be continued.
func (c *Core) Adopt(now clock.Instant, w *waiter, h handle) {
	n := len(c.nodes)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), key: string(h.Key), token: c.tokenFor(w), terms: w.Terms, begun: now,
		votes: make([]vote, n), ballot: &ballot{answers: make(answers, n), highest: h.Fence},
		adopt: &adoption{heir: w, former: string(h.Token), over: h.Over},
	}
	c.tenures.add(t)
	c.adopting.add(t)
	why := c.misconfigured()
	switch l := c.lines[t.key]; {
	case c.closing:
		c.failAdoption(t, ErrClosed, nil)
	case why != nil:
		c.failAdoption(t, why, nil)
	case l != nil && l.holder != nil:
		t.ballot.answers = c.ownAnswers(l.holder)
		c.failAdoption(t, ErrHeld, nil)
	case slices.ContainsFunc(c.adopting, func(o *tenure) bool { return o != t && o.adopt.former == t.adopt.former }):
		// It would swap the token of the other one, which still counts these nodes.
		c.failAdoption(t, ErrHeld, nil)
	default:
		t.adopt.earlier = c.attempts[t.adopt.former]
		c.swapAll(now, t)
	}
}

// ask has every node that has said nothing of a lease swap its token. One that keeps a
// token of an earlier attempt is asked for that.
func (c *Core) swapAll(now clock.Instant, t *tenure) {
	if t.phase != phaseWaiting && t.phase != phaseElecting {
		return
	}
	a, b := t.adopt, t.ballot
	end := t.begun.Add(t.terms.Window)
	c.alarms.set(t, min(end, now.Add(t.terms.Window/8)))
	if t.phase == phaseWaiting {
		fence, ok := c.proposal(now, b.highest)
		if !ok {
			return
		}
		if t.phase, t.fence = phaseElecting, fence; fence > maxFence {
			c.exhausted(now, t)
			return
		}
		if len(c.attempts) >= maxAdoptions {
			clear(c.attempts)
		}
		c.attempts[a.former] = append(slices.Clone(a.earlier), t.token)
	}
	for i := range c.nodes {
		if !(b.granted | a.absent | a.other | t.pending).has(i) {
			c.swap(now, t, i, a.former)
		}
	}
}

func (c *Core) swap(now clock.Instant, t *tenure, i int, former string) {
	v := &t.votes[i]
	v.promise, v.life = now.Add(t.terms.TTL-t.terms.Drift), c.nodes[i].state.Life
	t.asked.add(i)
	t.pending.add(i)
	c.send(i, node.Command{
		ID: t.id, Op: node.Adopt, Name: t.key, Token: t.token, Former: former,
		TTL: t.terms.TTL, Fence: t.fence, By: t.begun.Add(t.terms.Window),
	})
}

// askAgain is called when a node has been enrolled.
func (c *Core) retryAdoptions(now clock.Instant) {
	c.asking.begin(c, now, &c.adopting, c.swapAll)
}

// swapped takes in that a node has swapped the token of a lease, or has not.
func (c *Core) onAdopt(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	switch t.phase {
	case phaseHeld:
		c.onLateAdopt(now, t, i, r)
		return
	case phaseReleasing:
		c.settled(now, t)
		return
	}
	a, b := t.adopt, t.ballot
	b.answers[i] = answerTo(now, r)
	switch from := c.youngUntil(i); {
	case r.Status == node.OK && now < from:
		// The former token may have come back with a copy of the data, or by a command that
		// was late, and somebody else count on what the node has forgotten: a rival, or who
		// has adopted the handle before. As with a grant, the node does not count before it
		// is grown. It is asked again.
		t.votes[i].life = 0 // nor does a renewal right after: see renewed
		b.answers[i] = answer{Verdict: Guarded, Left: from.Sub(now), At: now}
	case r.Status == node.OK:
		t.votes[i].until = t.votes[i].promise
		t.votes[i].life = c.nodes[i].state.Life
		b.highest = max(b.highest, r.Fence)
		left := r.Left
		switch {
		case left > 0:
			left = min(left, c.limits.maxTTLCap)
		case c.nodes[i].state.Guarded:
			left = c.widest // it had swapped it before, and its marker knows the former holder's MaxTTL
		default:
			left = c.limits.maxTTLCap
		}
		if a.elected {
			break // a quorum less this node keeps the former holder out already
		}
		a.overAt = max(a.overAt, now.Add(left+driftOf(c.limits.drift, max(left, c.widest))))
		if t.phase == phaseElecting {
			b.granted.add(i)
			b.known.add(i)
			if r.Raised {
				b.raised.add(i)
			}
		}
	case r.Status == node.Absent:
		a.absent.add(i)
	case r.Status == node.Other && slices.Contains(a.earlier, r.Value):
		c.swap(now, t, i, r.Value)
	case r.Status == node.Other:
		a.other.add(i)
	}
	c.decideAdoption(now, t)
}

// swappedLate takes in the same of a lease that is held already.
func (c *Core) onLateAdopt(now clock.Instant, t *tenure, i int, r node.Reply) {
	v := &t.votes[i]
	if now >= t.hold.until {
		c.end(now, t, lease.ErrExpired, nil)
		return
	}
	switch from := c.healFrom(i, false); {
	case r.Status == node.OK && now < from:
		v.life = 0 // as if it had never been asked: see renewed
		c.retryAt(now, t, i, from)
	case r.Status == node.OK && v.until == 0:
		v.until, v.life = v.promise, c.nodes[i].state.Life
		c.firstVote(now, t, i)
	case r.Status == node.Absent:
		c.onKeyAbsent(now, t, i)
	case r.Status == node.Other:
		c.suspectOf(now, t, i, &t.withdrawn)
		t.taken.add(i)
	default:
		c.retryLater(now, t, i)
	}
	c.recomputeDeadline(now, t)
}

// decideAdoption ends the election of an adoption as soon as its outcome is certain.
func (c *Core) decideAdoption(now clock.Instant, t *tenure) {
	a, b := t.adopt, t.ballot
	if t.phase == phaseRaising { // a node may have said that the key is gone again
		gone := b.answers.with(Free) | b.answers.with(Held)
		gone &^= b.granted | t.pending
		a.absent |= gone & b.answers.with(Free)
		a.other |= gone & b.answers.with(Held)
	}
	switch {
	case a.elected:
	case now.Sub(t.begun) > t.terms.Window:
		c.failAdoption(t, ErrNoQuorum, nil)
	case len(c.nodes)-(a.absent|a.other).len() < c.quorum:
		c.failAdoption(t, lease.ErrLost, nil)
	case b.raised.len() >= c.quorum:
		c.elected(now, t)
	case b.granted.len() < c.quorum:
		if t.phase == phaseRaising { // a node did not answer: the swap there is asked for again
			t.phase = phaseElecting
			c.swapAll(now, t)
		}
	case t.phase == phaseElecting, (b.raised | t.pending&b.granted).len() < c.quorum:
		c.raise(now, t)
	}
}

// elected takes in that a lease was adopted, as far as the nodes go.
func (c *Core) elected(now clock.Instant, t *tenure) {
	t.adopt.elected = true
	t.phase = phaseAdopting
	c.adoptionDue(now, t)
}

// adoptionDue asks the nodes that have failed again, ends an adoption that takes too
// long, keeps a lease until its former holder is over, or hands it out then.
func (c *Core) adoptionDue(now clock.Instant, t *tenure) {
	a := t.adopt
	switch {
	case a.elected && (a.over || now >= a.overAt):
		c.completeAdoption(now, t)
	case a.elected:
		// The former holder may have been promised more than this lease's TTL.
		ttl := max(t.terms.TTL, (a.overAt.Sub(now) + time.Millisecond).Truncate(time.Millisecond))
		for i := range c.nodes {
			if t.ballot.granted.has(i) && !t.pending.has(i) {
				t.votes[i].promise = now.Add(t.terms.TTL - t.terms.Drift)
				t.pending.add(i)
				c.send(i, node.Command{ID: t.id, Op: node.Renew, Name: t.key, Token: t.token, TTL: ttl, By: now.Add(t.terms.TTL)})
			}
		}
		c.alarms.set(t, min(a.overAt, now.Add(t.terms.RenewEvery)))
	case now < t.begun.Add(t.terms.Window):
		c.swapAll(now, t)
	default:
		c.failAdoption(t, ErrNoQuorum, nil)
	}
}

// keptOn takes in an answer to the renewal of an adopted lease that has not begun.
func (c *Core) onKeeping(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	a, b, v := t.adopt, t.ballot, &t.votes[i]
	switch r.Status {
	case node.OK:
		if v.life == c.nodes[i].state.Life || now >= c.healFrom(i, v.until > now) {
			v.until, v.life = v.promise, c.nodes[i].state.Life
		}
		return
	case node.Absent:
		a.absent.add(i)
	case node.Other:
		a.other.add(i)
	default:
		return
	}
	b.answers[i] = answerTo(now, r)
	b.granted.del(i)
	v.until = 0
	if b.granted.len() < c.quorum {
		c.failAdoption(t, lease.ErrLost, nil)
	}
}

// succeed hands an adopted lease to its heir. From here on it is a held lease like
// any other; the votes of nodes that did not have it are on trial.
func (c *Core) completeAdoption(now clock.Instant, t *tenure) {
	a := t.adopt
	until := deadline(t.votes, t.ballot.granted, c.quorum).Add(-t.terms.Grace)
	if until <= now { // the answers were as old as the lease is long
		c.failAdoption(t, ErrNoQuorum, nil)
		return
	}
	l := c.lines[t.key]
	if l == nil {
		l = &line{}
		c.lines[t.key] = l
	}
	if l.holder != nil { // it was adopted twice at the same time, or acquired meanwhile
		c.failAdoption(t, ErrHeld, nil)
		return
	}
	t.line, l.holder = l, t
	if l.waitList != nil {
		l.fence = max(l.fence, t.fence)
	}
	c.adopting.del(t)
	c.held.add(t)
	delete(c.attempts, a.former)
	taken, elapsed := a.other, now.Sub(t.begun)
	t.begun = now // it may have waited for its former holder
	t.adopt, t.ballot, t.phase = nil, nil, phaseHeld
	c.beginHold(t, a.heir, until)
	c.effects = append(c.effects, Effect{Kind: EffectWon, waiter: a.heir, tenure: t, Until: until, Elapsed: elapsed})
	for i := range c.nodes {
		switch {
		case a.absent.has(i):
			c.suspectOf(now, t, i, &t.probation)
		case a.other.has(i):
			c.suspectOf(now, t, i, &t.withdrawn)
			t.taken.add(i)
		}
	}
	c.askTheRest(t, taken)
	c.recomputeDeadline(now, t)
	c.standBack(now, l)
}

// standBack has the waiters of a line send nothing, because this process itself holds
// the name now.
func (c *Core) standBack(now clock.Instant, l *line) {
	if l.waitList == nil {
		return
	}
	if l.waiters[0].Once {
		c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: l.waiters[0], err: c.failure(l, nil)})
		c.drop(now, l, 0)
		return
	}
	if l.attempt != nil {
		c.abandon(now, l.attempt)
	}
	if l.inquiry != nil {
		delete(c.inquiries, l.inquiry.id)
		l.inquiry = nil
	}
	c.alarms.clear(l)
}

// refuse tells the heir why there is no lease, and forgets the tenure. Nothing is
// deleted: the former holder may still count these nodes, and what they have swapped runs
// out by itself.
func (c *Core) failAdoption(t *tenure, why, cause error) {
	heir, as := t.adopt.heir, t.ballot.answers
	t.adopt, t.ballot = nil, nil
	c.adopting.del(t)
	c.alarms.clear(t)
	e := &AcquireError{Name: t.key, Quorum: c.quorum, Nodes: c.named(as), why: why, cause: cause, op: "adopt", disagrees: c.disagrees()}
	c.effects = append(c.effects, Effect{Kind: EffectFailed, waiter: heir, err: e})
	c.tenures.del(t)
}

// unadopt takes in that an heir gave up, because of why.
func (c *Core) cancelAdoption(_ clock.Instant, w *waiter, why error) {
	for _, t := range c.adopting { // one of them at most
		if t.adopt.heir == w {
			reason := ErrNoQuorum
			if t.adopt.elected {
				reason = errNotOver
			}
			c.failAdoption(t, reason, why)
			return
		}
	}
}

// disown ends a lease here and leaves it to whoever has its handle: no node is told.
func (c *Core) disown(now clock.Instant, t *tenure) {
	if t == nil || t.phase != phaseHeld {
		return
	}
	t.asked = 0
	c.end(now, t, lease.ErrHandedOver, nil)
}

// errHandingOver is for the second of two.
var errHandingOver = errors.New("the lease is being handed over already")

// handOver renews a lease at once, and disowns it when a quorum has confirmed that. The
// handle is filled in by then, and is not touched after the answer.
func (c *Core) HandOver(now clock.Instant, id uint64, answer chan<- error, h *handle) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld {
		// Its holder asks the lease itself why.
		c.effects = append(c.effects, Effect{Kind: EffectAnswered, answer: answer, err: lease.ErrLost})
		return
	}
	if x := t.hold.extend; x != nil && x.handOver != nil {
		c.effects = append(c.effects, Effect{Kind: EffectAnswered, answer: answer, err: errHandingOver})
		return
	}
	c.Extend(now, id, t.terms, answer)
	if x := t.hold.extend; x != nil {
		x.handOver, x.handle = answer, h
	}
}

// keep takes in that who wanted to hand a lease over waits no longer.
func (c *Core) Keep(_ clock.Instant, id uint64, answer chan<- error, why error) {
	t := c.tenures.get(id)
	if t == nil || t.phase != phaseHeld || t.hold.extend == nil || t.hold.extend.handOver != answer {
		return // it was answered
	}
	x := t.hold.extend
	x.handOver = nil
	for i, w := range x.waiters {
		if w == answer {
			x.waiters = append(x.waiters[:i], x.waiters[i+1:]...)
			break
		}
	}
	c.effects = append(c.effects, Effect{Kind: EffectAnswered, answer: answer, err: why})
}

// handle returns what a held lease is continued with: with the TTL that a node may
// yet shorten it to, where that is less than its own.
func (t *tenure) handle(now clock.Instant) handle {
	h := handle{Key: []byte(t.key), Token: []byte(t.token), Fence: t.fence, TTL: t.terms.TTL}
	if short := t.hold.shortened(now); short != nil {
		h.TTL = min(h.TTL, short.TTL)
	}
	return h
}

// Handle returns what the lease is continued with, or nothing if it is over.
func (k keeper) Handle() (text string) {
	now := k.s.clock.Now()
	k.s.read(func(c *Core) {
		if t := c.tenures.get(k.id); t != nil && t.phase == phaseHeld {
			text = t.handle(now).text()
		}
	})
	return text
}

// HandOver renews at once and ends the lease here.
func (k keeper) HandOver(ctx context.Context) (string, error) {
	var h handle
	answer := make(chan error, 1)
	if !k.s.post(handOverMessage{k.id, answer, &h}) {
		return "", lease.ErrClosed
	}
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		k.s.post(keepMessage{k.id, answer, ctx.Err()})
		err = <-answer
	}
	if err != nil {
		return "", fmt.Errorf("hand over: %w", err)
	}
	return h.text(), nil
}

type handOverMessage struct {
	id     uint64
	answer chan<- error
	handle *handle
}

func (m handOverMessage) apply(c *Core, now clock.Instant) { c.HandOver(now, m.id, m.answer, m.handle) }

type keepMessage struct {
	id     uint64
	answer chan<- error
	why    error
}

func (m keepMessage) apply(c *Core, now clock.Instant) { c.Keep(now, m.id, m.answer, m.why) }
