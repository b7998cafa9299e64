package supervisor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
)

// Adopt continues the lease that a handle is of, see lease.Lease.Handle and HandOver:
// the same tenure, with the same token and fence, renewed by this supervisor from now
// on. The handle must be of a lease that nobody keeps any more: one that was handed
// over, or whose process is dead.
//
// It renews the lease on all nodes at once, and returns it as soon as a quorum has
// confirmed that. It waits for nodes that are not reachable yet, for a quarter of the
// lease's TTL or until ctx is done. The lease renews itself, whatever options it was
// acquired with. An extension to a longer TTL is believed in only a quarter of an
// hour later, because a renewal of the former holder's may still be under way.
//
// An error that wraps lease.ErrLost means that no quorum keeps the lease any more; the
// rest of it is released. [ErrNoQuorum] means that too few nodes could be reached, and
// [ErrHeld] that this process itself holds the name; nothing is released then, and the
// handle may be tried again, as after an error that wraps only ctx's. These are an
// [*AcquireError] with what each node said.
// Any other error is about the handle: broken, or of a lease that does not fit this
// supervisor's Prefix, MaxTTL or NodeTimeout.
func (s *Supervisor) Adopt(ctx context.Context, handle string) (*lease.Lease, error) {
	h, err := parseHandle(handle)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	w, err := s.heir(h)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
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
		s.post(disownMessage{r.id})
		return nil, &AcquireError{Name: string(h.Key), Quorum: s.core.quorum, why: errNotTaken, cause: err, op: "adopt"}
	}
	return r.lease, nil
}

type adoptMessage struct {
	w *waiter
	h handle
}

func (m adoptMessage) apply(c *core, now clock.Instant) { c.adopt(now, m.w, m.h) }

type unadoptMessage struct {
	w   *waiter
	why error
}

func (m unadoptMessage) apply(c *core, now clock.Instant) { c.unadopt(now, m.w, m.why) }

type disownMessage struct{ id uint64 }

func (m disownMessage) apply(c *core, now clock.Instant) { c.disown(now, c.tenures.get(m.id)) }

// A handle is what a lease is continued with. Its texts are of the form that
// handleForm begins. Names and tokens may be any bytes.
type handle struct {
	Key   []byte        `json:"key"`
	Token []byte        `json:"token"`
	Fence uint64        `json:"fence"`
	TTL   time.Duration `json:"ttl"` // in nanoseconds
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
	return &waiter{name: name, terms: terms, result: make(chan acquired, 1)}, errors.Join(broken...)
}

// An adoption is the continuing of a lease of which no node has said anything yet.
type adoption struct {
	heir    *waiter
	answers answers
	renewed set
	absent  set
	other   set
}

// adopt takes in that a lease is to be continued.
func (c *core) adopt(now clock.Instant, w *waiter, h handle) {
	n := len(c.nodes)
	t := &tenure{
		id: c.newID(c.tenures.vacancy()), phase: adopting, key: string(h.Key), token: string(h.Token), fence: h.Fence,
		terms: w.terms, begun: now, votes: make([]vote, n),
		asked: all(n), // by its former holder
		adopt: &adoption{heir: w, answers: make(answers, n)},
	}
	c.tenures.add(t)
	c.adopting.add(t)
	switch l := c.lines[t.key]; {
	case c.closing:
		c.refuse(t, ErrClosed, nil)
	case l != nil && l.holder != nil:
		t.adopt.answers = c.ownAnswers(l.holder)
		c.refuse(t, ErrHeld, nil)
	default:
		c.ask(now, t)
	}
}

// ask sends renewals for a lease that is being adopted to every node that has not
// said anything of it, and has none unanswered.
func (c *core) ask(now clock.Instant, t *tenure) {
	a := t.adopt
	end := t.begun.Add(t.terms.window)
	for i := range c.nodes {
		if (a.renewed | a.absent | a.other | t.pending).has(i) {
			continue
		}
		t.votes[i].promise = now.Add(t.terms.ttl - t.terms.drift)
		t.pending.add(i)
		c.send(i, node.Command{ID: t.id, Op: node.Renew, Name: t.key, Token: t.token, TTL: t.terms.ttl, By: end})
	}
	c.alarms.set(t, min(end, now.Add(t.terms.window/8)))
}

// askAgain is called when a node has been enrolled.
func (c *core) askAgain(now clock.Instant) {
	c.asking.begin(c, now, &c.adopting, c.ask)
}

// adoptionDue asks the nodes that have failed again, or ends an adoption that takes
// too long.
func (c *core) adoptionDue(now clock.Instant, t *tenure) {
	if now < t.begun.Add(t.terms.window) {
		c.ask(now, t)
		return
	}
	c.refuse(t, ErrNoQuorum, nil)
}

// readopted takes in an answer to a renewal of a lease that is being adopted, and
// decides as soon as the outcome is certain.
func (c *core) readopted(now clock.Instant, t *tenure, i int, r node.Reply) {
	t.pending.del(i)
	a, v := t.adopt, &t.votes[i]
	switch r.Status {
	case node.OK:
		v.until, v.life = v.promise, c.nodes[i].state.Life
		a.renewed.add(i)
		a.answers[i] = answer{verdict: Granted, at: now}
	case node.Absent:
		a.absent.add(i)
		a.answers[i] = answer{verdict: Free, at: now}
	case node.Other:
		a.other.add(i)
		a.answers[i] = answer{verdict: Held, at: now}
	default:
		a.answers[i] = answer{verdict: Unreachable, at: now, err: r.Err}
	}
	switch {
	case a.renewed.len() >= c.quorum:
		c.succeed(now, t)
	case len(c.nodes)-(a.absent|a.other).len() < c.quorum:
		c.turnAway(t, lease.ErrLost, nil)
		c.giveBack(now, t, nil)
	}
}

// succeed hands an adopted lease to its heir. From here on it is a held lease like
// any other; the votes of nodes that did not have it are on trial.
func (c *core) succeed(now clock.Instant, t *tenure) {
	a := t.adopt
	until := deadline(t.votes, a.renewed, c.quorum).Add(-t.terms.grace)
	if until <= now { // the answers were as old as the lease is long
		c.refuse(t, ErrNoQuorum, nil)
		return
	}
	l := c.lines[t.key]
	if l == nil {
		l = &line{}
		c.lines[t.key] = l
	}
	if l.holder != nil { // it was adopted twice at the same time
		c.refuse(t, ErrHeld, nil)
		return
	}
	t.line, l.holder = l, t
	if l.queue != nil {
		l.fence = max(l.fence, t.fence)
	}
	c.adopting.del(t)
	c.held.add(t)
	t.adopt, t.phase = nil, held
	c.beginHold(t, a.heir, until)
	o := t.hold.odd()
	o.longer = true // maybe, by whoever kept it before
	// Whoever kept it before may have sent renewals that have not arrived yet.
	o.doubt = &doubt{late: all(len(c.nodes)), until: now.Add(owedFor)}
	c.effects = append(c.effects, effect{kind: won, waiter: a.heir, tenure: t, until: until, elapsed: now.Sub(t.begun)})
	for i := range c.nodes {
		switch {
		case a.absent.has(i):
			t.suspectOf(now, i, &t.probation)
			c.heal(now, t, i)
		case a.other.has(i):
			t.suspectOf(now, i, &t.withdrawn)
			t.taken.add(i)
		case !a.renewed.has(i) && !t.pending.has(i):
			c.retryLater(now, t, i)
		}
	}
	c.schedule(t)
	c.standBack(now, l)
}

// standBack has the waiters of a line send nothing, because this process itself holds
// the name now.
func (c *core) standBack(now clock.Instant, l *line) {
	if l.queue == nil {
		return
	}
	if l.waiters[0].once {
		c.effects = append(c.effects, effect{kind: failed, waiter: l.waiters[0], err: c.failure(l, nil)})
		c.drop(now, l, 0)
		return
	}
	if l.attempt != nil {
		c.abandon(now, l.attempt)
	}
	if l.look != nil {
		delete(c.looks, l.look.id)
		l.look = nil
	}
	c.alarms.clear(l)
}

// refuse tells the heir why there is no lease, and forgets the tenure.
func (c *core) refuse(t *tenure, why, cause error) {
	c.turnAway(t, why, cause)
	c.tenures.del(t)
}

// turnAway tells the heir why there is no lease, and ends the adoption.
func (c *core) turnAway(t *tenure, why, cause error) {
	a := t.adopt
	t.adopt = nil
	c.adopting.del(t)
	c.alarms.clear(t)
	e := &AcquireError{Name: t.key, Quorum: c.quorum, Nodes: c.named(a.answers), why: why, cause: cause, op: "adopt"}
	c.effects = append(c.effects, effect{kind: failed, waiter: a.heir, err: e})
}

// unadopt takes in that an heir gave up, because of why.
func (c *core) unadopt(_ clock.Instant, w *waiter, why error) {
	for _, t := range c.adopting { // one of them at most
		if t.adopt.heir == w {
			c.refuse(t, ErrNoQuorum, why)
			return
		}
	}
}

// disown ends a lease here and leaves it to whoever has its handle: no node is told.
func (c *core) disown(now clock.Instant, t *tenure) {
	if t == nil || t.phase != held {
		return
	}
	t.asked = 0
	c.end(now, t, lease.ErrHandedOver, nil)
}

// errHandingOver is for the second of two.
var errHandingOver = errors.New("the lease is being handed over already")

// handOver renews a lease at once, and disowns it when a quorum has confirmed that. The
// handle is filled in by then, and is not touched after the answer.
func (c *core) handOver(now clock.Instant, id uint64, answer chan<- error, h *handle) {
	t := c.tenures.get(id)
	if t == nil || t.phase != held {
		// Its holder asks the lease itself why.
		c.effects = append(c.effects, effect{kind: answered, answer: answer, err: lease.ErrLost})
		return
	}
	if x := t.hold.extend; x != nil && x.handOver != nil {
		c.effects = append(c.effects, effect{kind: answered, answer: answer, err: errHandingOver})
		return
	}
	c.extend(now, id, t.terms, answer)
	if x := t.hold.extend; x != nil {
		x.handOver, x.handle = answer, h
	}
}

// keep takes in that who wanted to hand a lease over waits no longer.
func (c *core) keep(_ clock.Instant, id uint64, answer chan<- error, why error) {
	t := c.tenures.get(id)
	if t == nil || t.phase != held || t.hold.extend == nil || t.hold.extend.handOver != answer {
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
	c.effects = append(c.effects, effect{kind: answered, answer: answer, err: why})
}

// handle returns what a held lease is continued with: with the TTL that a node may
// yet shorten it to, where that is less than its own.
func (t *tenure) handle(now clock.Instant) handle {
	h := handle{Key: []byte(t.key), Token: []byte(t.token), Fence: t.fence, TTL: t.terms.ttl}
	if short := t.hold.shortened(now); short != nil {
		h.TTL = min(h.TTL, short.ttl)
	}
	return h
}

// Handle returns what the lease is continued with, or nothing if it is over.
func (k keeper) Handle() (text string) {
	now := k.s.clock.Now()
	k.s.read(func(c *core) {
		if t := c.tenures.get(k.id); t != nil && t.phase == held {
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

func (m handOverMessage) apply(c *core, now clock.Instant) { c.handOver(now, m.id, m.answer, m.handle) }

type keepMessage struct {
	id     uint64
	answer chan<- error
	why    error
}

func (m keepMessage) apply(c *core, now clock.Instant) { c.keep(now, m.id, m.answer, m.why) }
