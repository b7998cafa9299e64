package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A Holding says which client holds a name, as the nodes answered at one moment. A key that is
// reserved for a waiter is neither held nor free.
type Holding struct {
	Name  string      // the name, prefix included
	Held  bool        // a quorum of nodes keeps the same token; with Config.Former, one of either list
	Free  bool        // a quorum of nodes keeps nothing; with Config.Former, one of each list
	Owner string      // if Held: the holder; empty if the token does not say, as with other libraries
	Token lease.Token // if Held: the lease's token, for Revoke; a client that knows it can delete the key, so it does not print itself
	Fence uint64      // if Held: the lease's fence; 0 if the token does not say

	// Kind is what sort of value a quorum of nodes has, whatever the values are; KeyUnknown if no
	// quorum has the same. It may say why the name is neither Held nor Free.
	Kind KeyKind

	Left     time.Duration // if Held, and not NoExpiry: how long a quorum keeps it at most, if it is not renewed
	NoExpiry bool          // if Held: a quorum keeps it until a client deletes it, as some other clients do

	// Vacated says, if Held, that the lease is over. No client holds the name, but it stays taken
	// for Left: see [WithMinHold]. Owner had it last.
	Vacated bool

	// Waiting is how many processes stand in the name's queue, on the node that knows the most.
	// Each process has one place there, however many of its callers wait. A process that has died
	// is counted for two heartbeats more, about seven times Config.NodeTimeout.
	Waiting int

	// Since is, if Held, when the lease began, by the nodes' clocks; zero if Fence is 0. It is
	// Fence read as a time, and as exact as the nodes' clocks agree with each other. It may be
	// later than now if one of these clocks was ahead once.
	Since time.Time

	Nodes []Answer // what each node answered

	// Err says why the holder is not known at present: too few nodes can be reached. Held and Free
	// are both false then. Only [Supervisor.Watch] sets it.
	Err error
}

// Format prints what package fmt prints of such a struct, without the token. If a verb does not fit
// a struct, fmt would print its fields without calling their methods.
func (h Holding) Format(f fmt.State, verb rune) {
	type plain Holding // without this method
	fmt.Fprintf(f, fmt.FormatString(f, verb), plain(h))
}

// MarshalJSON returns the fields that are set, Left as in "1.5s", Err as its text, and never the
// token.
func (h Holding) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name     string
		Held     bool
		Free     bool
		Kind     KeyKind   `json:",omitzero"`
		Owner    string    `json:",omitempty"`
		Fence    uint64    `json:",omitempty"`
		Left     string    `json:",omitempty"`
		NoExpiry bool      `json:",omitempty"`
		Vacated  bool      `json:",omitempty"`
		Since    time.Time `json:",omitzero"`
		Waiting  int
		Err      string `json:",omitempty"`
		Nodes    []Answer
	}{h.Name, h.Held, h.Free, h.Kind, h.Owner, h.Fence, spanIf(h.Held && !h.NoExpiry, h.Left), h.NoExpiry, h.Vacated, h.Since, h.Waiting, plain.ErrorText(h.Err), h.Nodes})
}

// Inspect asks every node which client holds a name. It is for display: the answer may be out of
// date when it returns. Never decide by it whether to work; acquire instead. It waits until every
// node has answered, for a silent one as long as Config.NodeTimeout says, and for no longer than
// ctx allows.
//
// Held and Free are both false if no quorum says the same, as during an election. If too few nodes
// could be reached, the error wraps [ErrNoQuorum], and Nodes has what each node answered all the
// same. Other errors wrap [ErrClosed] or ctx's error, or are about a broken name.
func (s *Supervisor) Inspect(ctx context.Context, name string) (Holding, error) {
	return s.inspect(ctx, name, false)
}

// inspect asks the nodes. If track is set, it also makes those that can notify of the next change.
func (s *Supervisor) inspect(ctx context.Context, name string, track bool) (Holding, error) {
	if err := s.cfg.checkName(name); err != nil {
		return Holding{}, fmt.Errorf("inspect: %w", err)
	}
	h := Holding{Name: s.cfg.Prefix + name}
	m := &inspectMessage{s.newCall(opInspect), h.Name, track}
	if !s.post(m) {
		return h, s.newError(opInspect, h.Name, ErrClosed, nil)
	}
	select {
	case o := <-m.result:
		if o.err != nil {
			return h, s.newError(opInspect, h.Name, o.err, nil)
		}
		h.Nodes = s.answers(o.report)
		return h.judgeAll(o.report.Answers, s.lists.Load())
	case <-ctx.Done():
		return h, s.newError(opInspect, h.Name, errNotKnown, ctx.Err())
	}
}

type inspectMessage struct {
	call
	key   string
	track bool
}

func (m *inspectMessage) apply(s *Supervisor, now clock.Instant) {
	s.core.Inspect(now, m.key, m.track, s.calls.add(&m.call, now))
}

// judgeAll returns h with what a quorum of either list says. A lease may rest on one of them alone,
// so the name is free only if both lists say so.
func (h Holding) judgeAll(as []core.Answer, l *lists) (Holding, error) {
	if l.formerQuorum == 0 {
		return h.judge(as, l.quorum)
	}
	of := func(list List, quorum int) (Holding, error) {
		return h.judge(slices.DeleteFunc(slices.Clone(as), func(a core.Answer) bool { return !l.in[a.Node].has(list) }), quorum)
	}
	is, err := of(ListNodes, l.quorum)
	was, err2 := of(ListFormer, l.formerQuorum)
	both := is
	switch {
	case was.Held && (!is.Held || was.Fence > is.Fence || was.Token == is.Token && was.Left > is.Left):
		both = was
	case is.Held:
	case is.Kind != was.Kind:
		both.Kind = KeyUnknown
	}
	both.Waiting, both.Free = max(is.Waiting, was.Waiting), is.Free && was.Free
	if both.Held || err == nil && err2 == nil {
		return both, nil
	}
	return both, &AcquireError{Op: opInspect, Name: h.Name, Quorum: l.quorum, FormerQuorum: l.formerQuorum, Nodes: h.Nodes, why: ErrNoQuorum}
}

// judge returns h with what a quorum of the answers says.
func (h Holding) judge(as []core.Answer, quorum int) (Holding, error) {
	left, fence, vacated := make(map[string][]time.Duration), make(map[string]uint64), make(map[string]bool)
	free, reached, token := 0, 0, ""
	kinds := make(map[KeyKind]int)
	for _, a := range as {
		h.Waiting = max(h.Waiting, a.Waiting)
		switch a.Verdict {
		case core.VerdictUnreachable, core.VerdictSilent:
			continue
		case core.VerdictFree:
			free++
		}
		reached++
		kind := keyKindOf(a)
		if kinds[kind]++; kind != KeyUnknown && kinds[kind] >= quorum {
			h.Kind = kind
		}
		if kind != KeyLease && kind != KeyForeign {
			continue
		}
		d := a.Left
		if d < 0 {
			d = math.MaxInt64
		}
		is, wasLeft := node.CutLeft(a.Value)
		left[is] = append(left[is], d)
		fence[is] = max(fence[is], a.Holds)  // a node that was away may know the one before
		vacated[is] = vacated[is] || wasLeft // what is left is over, even if a node was not told
		if ds := left[is]; len(ds) >= quorum {
			slices.Sort(ds)
			h.Held, h.Owner, token = true, node.OwnerOf(is), is
			h.Left = ds[len(ds)-quorum]
		}
	}
	if h.Left == math.MaxInt64 {
		h.Left, h.NoExpiry = 0, true
	}
	if h.Held {
		h.Token, h.Vacated = lease.Token(token), vacated[token]
	}
	if h.Fence = fence[token]; h.Fence != 0 {
		h.Token, h.Since = lease.Token(node.ValueOf(token, h.Fence)), time.UnixMicro(int64(h.Fence))
	}
	h.Free = free >= quorum
	if reached < quorum {
		return h, &AcquireError{Op: opInspect, Name: h.Name, Quorum: quorum, Nodes: h.Nodes, why: ErrNoQuorum}
	}
	return h, nil
}
