package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/node"
)

// This file looks at a change of the nodes, finishes it and gives it up. What is decided is decided
// from a [ChangeStatus]; crew.go asks the nodes.

// A Use says how a client uses the lists of nodes.
type Use uint8

const (
	UseNodes   Use = iota // it was given Config.Nodes alone
	UseFormer             // it was given Config.Former alone, as its Nodes
	UseBoth               // it was given both
	UseFilling            // it was given both, and has leases that still rest on Config.Former alone
	UseOther              // it was given other lists
)

var uses = plain.Enum{Package: "supervisor", Name: "Use", Words: []string{
	UseNodes:   "nodes alone",
	UseFormer:  "former alone",
	UseBoth:    "both",
	UseFilling: "both, with leases on former alone",
	UseOther:   "other lists",
}}

// String returns the use in words, or its number if it has none: "Use(17)".
func (u Use) String() string { return uses.Text(uint8(u)) }

// MarshalText returns what String returns.
func (u Use) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText sets the use from what MarshalText returns.
func (u *Use) UnmarshalText(text []byte) error {
	n, err := uses.Parse(string(text))
	if err == nil {
		*u = Use(n)
	}
	return err
}

// A ClientUse says that one or more clients have told a node how they use the lists.
type ClientUse struct {
	Use Use
	// Left is for how long the node still counts what they have told. Clients tell it again long
	// before: it runs out if they end, or are given other lists.
	Left time.Duration
}

// A ChangeNode is what one node says of a change of the nodes.
type ChangeNode struct {
	Node    string        // its address, without credentials
	List    List          // in which list it is
	Err     error         // why it could not be asked; nil if it was
	Stage   node.Stage    // how far the change between these lists has come there
	Other   bool          // another change was begun there, and is not finished
	Floor   uint64        // every fence is larger
	MaxTTL  time.Duration // the largest of all clients
	Clients []ClientUse   // how clients use the lists, each use once

	change  node.Change
	isGrown bool
	isLost  bool // the change tells an identity that a node of these lists has lost
	isBack  bool // Other, and that one is between the same lists, the other way round
}

// MarshalJSON returns the fields that are set, durations as in "1.5s".
func (n ChangeNode) MarshalJSON() ([]byte, error) {
	type client struct {
		Use  Use
		Left span
	}
	clients := []client{}
	for _, c := range n.Clients {
		clients = append(clients, client{c.Use, span(c.Left)})
	}
	return json.Marshal(struct {
		Node    string
		List    List
		Err     string `json:",omitempty"`
		Stage   node.Stage
		Other   bool `json:",omitempty"`
		Floor   uint64
		MaxTTL  span
		Clients []client
	}{n.Node, n.List, plain.ErrorText(n.Err), n.Stage, n.Other, n.Floor, span(n.MaxTTL), clients})
}

// A ChangeStatus is how far a change of the nodes has come.
type ChangeStatus struct {
	Nodes []ChangeNode // those of Config.Nodes, and then those that are in Config.Former alone
	Next  string       // which step is safe next, in words

	quorum, formerQuorum int
	isChange             bool // two lists were given
}

// InspectChange asks all nodes of a configuration how far a change of the nodes has come. It changes
// nothing there. It waits until each node has answered, or TTL/4 for one that is silent, and for no
// longer than ctx allows. Err of a node says why it has not answered.
func InspectChange(ctx context.Context, cfg Config) (ChangeStatus, error) {
	c, err := gather(cfg)
	if err != nil {
		return ChangeStatus{}, err
	}
	defer c.dismiss()
	st := c.look(ctx)
	return st, ctx.Err()
}

// FinishOptions are for [FinishChange].
type FinishOptions struct {
	// Dead are nodes that are off for good, by their addresses or URLs. All others must answer.
	// Name no node that may come back with its data: it would count votes that it must not count.
	Dead []string
	// Force finishes although clients use Config.Former alone, or other lists. They get no lease
	// from then on, and lose those that they have when these are not renewed any more, which is
	// within the largest MaxTTL.
	Force bool
	// Say is called with each step, in words. Default none.
	Say func(string)
}

// FinishChange finishes a change of the nodes from Config.Former to Config.Nodes: from then on
// processes may be given Config.Nodes alone. All processes must have been given both lists before.
//
// It closes the former list: each of its nodes counts only votes for clients that were given both. It
// waits until no lease that rests on it alone can be believed in any more, the largest MaxTTL and the
// drift. It reads the highest fence, and opens the present list: each of its nodes counts votes for
// clients of that list alone, and all fences are larger than those that were handed out before.
//
// If it returns an error it may have closed the former list. Then leases of clients that were given
// both go on as before. Run it again, as often as needed, also from several places. A change that is
// closed cannot be given up any more. The error wraps [ErrTooEarly] if nothing was done because of
// what clients use, and [ErrNoQuorum] if a node that is needed has not answered.
func FinishChange(ctx context.Context, cfg Config, opts FinishOptions) error {
	if len(cfg.Former) == 0 {
		return errors.New("finish: Former: none given: want the nodes that are being left")
	}
	c, err := gather(cfg)
	if err != nil {
		return err
	}
	defer c.dismiss()
	if err := c.finish(ctx, opts); err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	return nil
}

// ForgetChange gives a change of the nodes up that was begun, and not closed. All processes must have
// been given the former list alone again before, unless force is set. Then the nodes are as if it had
// never begun. If it returns an error, run it again. The error wraps [ErrTooEarly] if nothing was done
// because of what clients use, and [ErrNoQuorum] if a node has not answered.
func ForgetChange(ctx context.Context, cfg Config, force bool) error {
	if len(cfg.Former) == 0 {
		return errors.New("forget: Former: none given: want the nodes that are kept after all")
	}
	c, err := gather(cfg)
	if err != nil {
		return err
	}
	defer c.dismiss()
	if err := c.forget(ctx, force); err != nil {
		return fmt.Errorf("forget: %w", err)
	}
	return nil
}

// RaiseFloor makes every fence on Config.Nodes larger than those that Config.Former have stored. It is
// for the way of one node at a time, which needs no two lists: run it after each step, when all
// processes have the next list. It returns the floor. All of Config.Nodes must answer, and a quorum of
// Config.Former; if one does not, the error wraps [ErrNoQuorum]: run it again.
func RaiseFloor(ctx context.Context, cfg Config) (uint64, error) {
	if len(cfg.Former) == 0 {
		return 0, errors.New("raise the floor: Former: none given: want the nodes of the step before")
	}
	c, err := gather(cfg)
	if err != nil {
		return 0, err
	}
	defer c.dismiss()
	floor, err := c.raise(ctx)
	if err != nil {
		err = fmt.Errorf("raise the floor: %w", err)
	}
	return floor, err
}

// usesOf returns how clients use the lists, by the entries that they have left on a node.
func usesOf(entries []node.Fingerprint, ours node.Change, now time.Duration) []ClientUse {
	until := make(map[Use]time.Duration)
	for _, f := range entries {
		if e, ok := node.ParseEntry(f.Text); ok {
			use := useOf(&e, ours)
			until[use] = max(until[use], f.Until)
		}
	}
	var list []ClientUse
	for use := UseNodes; use <= UseOther; use++ {
		if left := until[use] - now; until[use] != 0 && left > 0 {
			list = append(list, ClientUse{use, left})
		}
	}
	return list
}

func useOf(e *node.Entry, ours node.Change) Use {
	if e.Former.Nodes != 0 {
		switch {
		case !ours.SamePair(node.Change{Former: e.Former, Present: e.Present}):
			return UseOther
		case e.Modes&node.InFormer != 0:
			return UseFilling
		}
		return UseBoth
	}
	switch { // one that may be either, as it has met too few nodes, is taken for what is in the way
	case ours.Former.Nodes != 0 && mayBe(e.Present, ours.Former):
		return UseFormer
	case mayBe(e.Present, ours.Present):
		return UseNodes
	}
	return UseOther
}

// mayBe reports whether two electorates may be the same: neither tells those that it has not met.
func mayBe(a, b node.Electorate) bool {
	return a.Nodes == b.Nodes && len(node.NewElectorate(a.Nodes, slices.Concat(a.Identities, b.Identities)).Identities) <= a.Nodes
}

// use returns the nodes on which clients use the lists so, and for how long that counts at most.
func (st *ChangeStatus) use(use Use) (nodes []string, left time.Duration) {
	for i := range st.Nodes {
		n := &st.Nodes[i]
		for _, c := range n.Clients {
			if c.Use == use {
				nodes, left = append(nodes, n.Node), max(left, c.Left)
			}
		}
	}
	return nodes, left
}

// count returns how many nodes of a list are as far as a stage.
func (st *ChangeStatus) count(list List, stage node.Stage) (n int) {
	for i := range st.Nodes {
		if x := &st.Nodes[i]; x.List.has(list) && x.Err == nil && x.Stage >= stage {
			n++
		}
	}
	return n
}

// inTheWay returns what speaks against closing the former list, by what clients have told.
func (st *ChangeStatus) inTheWay() error {
	var broken []error
	for _, x := range []struct {
		use  Use
		what string
	}{
		{UseFormer, "clients use the former nodes alone: give them both lists"},
		{UseFilling, "leases of clients that were given both lists still rest on the former nodes alone: wait, or see why the other nodes cannot take their keys"},
		{UseOther, "clients use other lists of nodes: give them both lists"},
	} {
		if nodes, left := st.use(x.use); nodes != nil {
			broken = append(broken, fmt.Errorf("%s (seen at %s; it counts for %v unless they tell it again)", x.what, strings.Join(nodes, ", "), left.Round(time.Millisecond)))
		}
	}
	return tooEarly(broken)
}

// mayFinish returns what speaks against finishing, and whether the present list is opened already.
func (st *ChangeStatus) mayFinish(dead map[int]bool, force bool) (opened bool, err error) {
	if err := st.other(); err != nil {
		return false, err
	}
	// Once it is opened the former nodes are of no concern, and may be off.
	opened = st.count(ListNodes, node.StageOpened) >= st.quorum
	for i := range st.Nodes {
		if n := &st.Nodes[i]; n.Err != nil && !dead[i] && !(opened && n.List == ListFormer) {
			return false, silenceError{fmt.Errorf("%s cannot be asked: %w: mend it, or name it as dead if it is off for good", n.Node, n.Err)}
		}
	}
	lost := slices.ContainsFunc(st.Nodes, func(n ChangeNode) bool { return n.isLost })
	if err := st.inTheWay(); err != nil && !force && (!opened || lost) {
		return false, err
	}
	return opened, nil
}

// tooEarly returns an error that wraps ErrTooEarly, or nil if there is no reason.
func tooEarly(broken []error) error {
	if broken == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrTooEarly, errors.Join(broken...))
}

// A lateError says that a change has come too far to be given up.
type lateError struct{ error }

// Is reports that nothing was done because of how far the change has come, which [ErrTooEarly] says as
// well. Its text would be wrong here.
func (lateError) Is(target error) bool { return target == ErrTooEarly }

// A silenceError says that a node which is needed has not answered.
type silenceError struct{ error }

func (e silenceError) Unwrap() error { return e.error }

// Is reports that too few nodes could be reached.
func (silenceError) Is(target error) bool { return target == ErrNoQuorum }

// other returns an error if another change is not finished.
func (st *ChangeStatus) other() error {
	var nodes []string
	isBack := false
	for i := range st.Nodes {
		if n := &st.Nodes[i]; n.Other {
			nodes, isBack = append(nodes, n.Node), isBack || n.isBack
		}
	}
	if nodes == nil {
		return nil
	}
	own := "with its own lists"
	if isBack && st.unreached() == nil { // otherwise it may be between others
		own = "which has these lists the other way round"
	}
	return fmt.Errorf("%w: another change of the nodes was begun and is not finished (at %s): finish or forget that one, %s", ErrTooEarly, strings.Join(nodes, ", "), own)
}

// unreached returns the nodes that could not be asked.
func (st *ChangeStatus) unreached() (nodes []string) {
	for i := range st.Nodes {
		if st.Nodes[i].Err != nil {
			nodes = append(nodes, st.Nodes[i].Node)
		}
	}
	return nodes
}

// judge says which step is safe next.
func (st *ChangeStatus) judge() {
	former, _ := st.use(UseFormer)
	both, _ := st.use(UseBoth)
	filling, _ := st.use(UseFilling)
	switch err := st.other(); {
	case err != nil:
		st.Next = strings.TrimPrefix(err.Error(), ErrTooEarly.Error()+": ")
	case !st.isChange:
		st.Next = "the nodes are not being changed, as far as these nodes know"
		if i := slices.IndexFunc(st.Nodes, func(n ChangeNode) bool { return n.Err == nil && n.Stage == node.StageOpened }); i >= 0 {
			st.Next = "the change to these nodes, or from them, is finished"
		}
	case st.count(ListNodes, node.StageOpened) >= st.quorum:
		switch {
		case former != nil:
			st.Next = "the change is finished, and clients that use the former nodes alone get no lease: give them the present list alone"
		case both != nil || filling != nil:
			st.Next = "the change is finished: give each process the present list alone, in any order"
		default:
			st.Next = "the change is finished, and no client uses the former nodes any more: switch off those that are in the former list alone"
		}
	case st.count(ListFormer, node.StageClosed)+st.count(ListNodes, node.StageClosed) > 0:
		st.Next = "the former nodes are closed: finish, which goes on from there"
		if nodes := st.unreached(); nodes != nil {
			st.Next += "; it" + needed(nodes)
		}
	case both == nil && filling == nil:
		st.Next = st.begin()
	case st.inTheWay() != nil:
		st.Next = "do not finish yet: " + strings.ReplaceAll(strings.TrimPrefix(st.inTheWay().Error(), ErrTooEarly.Error()+": "), "\n", "; ")
	case st.unreached() != nil:
		st.Next = "finish" + needed(st.unreached())
	default:
		st.Next = "finish, if each process was given both lists"
		if present, _ := st.use(UseNodes); present != nil {
			st.Next += "; until then clients that use the present list alone get no lease"
		}
	}
}

// needed says that finish needs nodes that could not be asked.
func needed(nodes []string) string {
	return " needs an answer of each node: mend " + strings.Join(nodes, ", ") + ", or finish and name them as dead if they are off for good"
}

// begin says what to do while no client has both lists. The first client that has them the wrong way
// round ends the leases of all that have the former list. So this is asked before.
func (st *ChangeStatus) begin() string {
	former, _ := st.use(UseFormer)
	present, _ := st.use(UseNodes)
	if present != nil && former == nil {
		return fmt.Sprintf("clients use the present list alone, and none uses the former one (seen at %s): look whether the lists are the wrong way round, before a process is given both", strings.Join(present, ", "))
	}
	next := "give each process both lists, in any order"
	if st.count(ListFormer, node.StageBegun)+st.count(ListNodes, node.StageBegun) > 0 {
		next += ", or forget the change, which was begun"
	}
	var nodes []string // a former one may be the reason for the change
	for i := range st.Nodes {
		if n := &st.Nodes[i]; n.Err != nil && n.List.has(ListNodes) {
			nodes = append(nodes, n.Node)
		}
	}
	if nodes != nil {
		next = "mend " + strings.Join(nodes, ", ") + " first; then " + next
	}
	return next
}
