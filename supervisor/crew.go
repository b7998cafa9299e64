package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

// A crew asks the nodes of both lists about a change, each over a connection of its own. It is no
// supervisor: that would begin a change, and tell the nodes that it uses them. It is for one
// goroutine.
type crew struct {
	cfg      Config
	settings core.Settings
	lists    *lists
	actors   []*node.Actor
	replies  chan node.Batch
	states   []node.State
	left     node.Electorate // the former list, as an opened change tells it in which a node has lost its identity since
	lastID   uint64
	kill     context.CancelFunc
	tasks    errgroup.Group
}

// ownMaxTTL is the MaxTTL of a crew. It is so small that it raises no other.
const ownMaxTTL = time.Millisecond

// gather makes a crew.
func gather(cfg Config) (*crew, error) {
	cfg, long := cfg.capped()
	cfg = cfg.withDefaults()
	if err := cfg.validate(long); err != nil {
		return nil, err
	}
	ctx, kill := context.WithCancel(context.Background())
	c := &crew{cfg: cfg, settings: cfg.settings(), lists: newLists(cfg.Nodes, cfg.Former), replies: make(chan node.Batch), kill: kill}
	c.lists.quorum, c.lists.formerQuorum = core.QuorumOf(len(cfg.Nodes)), 0
	if len(cfg.Former) > 0 {
		c.lists.formerQuorum = core.QuorumOf(len(cfg.Former))
	}
	c.states = make([]node.State, len(c.lists.conns))
	for i, conn := range c.lists.conns {
		a := node.NewActor(node.Config{
			Index: i, Conn: conn, Clock: cfg.Clock, Timeout: cfg.TTL / 4, Window: c.settings.Window(cfg.MaxTTLCap),
			MaxTTL: ownMaxTTL, Replies: c.replies,
		})
		c.actors = append(c.actors, a)
		c.tasks.Go(func() error { a.Run(ctx); return nil })
	}
	return c, nil
}

// dismiss ends the connections.
func (c *crew) dismiss() {
	c.kill()
	for _, a := range c.actors {
		a.Close()
	}
	go func() { _ = c.tasks.Wait(); close(c.replies) }()
	for range c.replies { // an actor may still be handing over its last batch
	}
}

// settle waits until each node is enrolled, or is known to be unreachable. Those that are missed and
// were met before may be connecting again: they are waited for as well. That takes a quarter of a TTL
// at most.
func (c *crew) settle(ctx context.Context, missed func(i int) bool) {
	timer := c.cfg.Clock.NewTimer(c.cfg.TTL / 4)
	defer timer.Stop()
	isOpen := func(i int) bool {
		s := &c.states[i]
		return !s.Enrolled && (s.Err == nil || s.Reconnecting || s.Life != 0 && missed(i))
	}
	for i := 0; i < len(c.states); {
		if !isOpen(i) {
			i++
			continue
		}
		select {
		case b := <-c.replies:
			c.states[b.Node] = b.State
		case <-timer.C():
			return
		case <-ctx.Done():
			return
		}
	}
}

// ask sends each node the command that is made for it, if one is, and returns the answers. A node
// that is not enrolled answers so.
func (c *crew) ask(ctx context.Context, command func(i int) (node.Command, bool)) []node.Reply {
	replies, waits := make([]node.Reply, len(c.actors)), make(map[uint64]int)
	for i, a := range c.actors {
		cmd, ok := command(i)
		if !ok {
			continue
		}
		c.lastID++
		cmd.ID, cmd.By = c.lastID, c.cfg.Clock.Now().Add(c.cfg.TTL/4)
		replies[i].Err = errNotConnected
		if a.TrySend(cmd) {
			waits[cmd.ID] = i
		}
	}
	for len(waits) > 0 {
		select {
		case b := <-c.replies:
			c.states[b.Node] = b.State
			for _, r := range b.Replies {
				if i, ok := waits[r.ID]; ok {
					replies[i] = r
					delete(waits, r.ID)
				}
			}
			b.Done()
		case <-ctx.Done():
			for _, i := range waits {
				replies[i].Err = ctx.Err()
			}
			return replies
		}
	}
	return replies
}

// change returns the change between the two lists, as far as their nodes were met.
func (c *crew) change() node.Change {
	of := func(list List) node.Electorate {
		var ids []string
		nodes := c.lists.of(list)
		for _, i := range nodes {
			if id := c.states[i].Identity; id != "" {
				ids = append(ids, id)
			}
		}
		return node.NewElectorate(len(nodes), ids)
	}
	ch := node.Change{Former: of(ListFormer), Present: of(ListNodes)}
	if all := node.NewElectorate(ch.Former.Nodes, slices.Concat(ch.Former.Identities, c.left.Identities)); len(all.Identities) <= all.Nodes {
		ch.Former = all // these nodes may be off
	}
	return ch
}

// isSameButForLost reports whether an opened change that a node keeps is ours, but for nodes that have
// lost their identities since: a quorum of the present list has those that it had, and no node is in
// another list than before.
func isSameButForLost(ours, kept node.Change) bool {
	common := 0
	for _, list := range [][]string{kept.Former.Identities, kept.Present.Identities} {
		for _, id := range list {
			was, is := slices.Contains(ours.Former.Identities, id), slices.Contains(ours.Present.Identities, id)
			inFormer, inPresent := slices.Contains(kept.Former.Identities, id), slices.Contains(kept.Present.Identities, id)
			if (was || is) && (was != inFormer || is != inPresent) {
				return false
			}
		}
	}
	for _, id := range kept.Present.Identities {
		if slices.Contains(ours.Present.Identities, id) {
			common++
		}
	}
	return kept.Stage == node.StageOpened && ours.Former.Nodes == kept.Former.Nodes &&
		ours.Present.Nodes == kept.Present.Nodes && common >= core.QuorumOf(ours.Present.Nodes)
}

// known returns a change with what its nodes have kept of it. They know the former nodes, which may
// be off by now. Otherwise clients with the present list alone could not be told from others.
func (c *crew) known(change node.Change) node.Change {
	for i := range c.states {
		kept := c.states[i].Change
		if kept.Stage == node.StageNone || c.lists.formerQuorum == 0 {
			continue
		}
		told := node.Change{Former: change.Former, Present: change.Present, Stage: kept.Stage}
		if kept.SamePair(told) {
			change, _ = kept.Advanced(told)
		}
	}
	return change
}

// look asks all nodes.
func (c *crew) look(ctx context.Context) ChangeStatus {
	c.settle(ctx, nobody)
	ours := c.change()
	// To read the entries is to leave one, which is gone in a moment.
	entry := node.Entry{Former: ours.Former, Present: ours.Present}.String()
	replies := make([]node.Reply, len(c.actors))
	missed := func(i int) bool { return replies[i].Status != node.OK }
	for tries := 0; tries < mostTries && ctx.Err() == nil; tries++ {
		for i, r := range c.ask(ctx, func(i int) (node.Command, bool) {
			return node.Command{Op: node.Sign, Token: entry, TTL: time.Millisecond}, missed(i)
		}) {
			if missed(i) {
				replies[i] = r
			}
		}
		if !slices.ContainsFunc(c.lists.all(), func(i int) bool { return missed(i) && c.states[i].Life != 0 }) {
			break
		}
		c.settle(ctx, missed) // another client has changed the marker just then
	}
	st := ChangeStatus{quorum: c.lists.quorum, formerQuorum: c.lists.formerQuorum, isChange: c.lists.formerQuorum > 0}
	known := c.known(ours)
	for i, r := range replies {
		s := &c.states[i]
		n := ChangeNode{Node: c.lists.labels[i], List: c.lists.in[i], Floor: s.Floor, MaxTTL: s.MaxTTL, change: s.Change, isGrown: s.Grown}
		if n.MaxTTL <= ownMaxTTL {
			n.MaxTTL = 0 // no client has told it one
		}
		switch {
		case r.Status != node.OK:
			n.Err = r.Err
			if !s.Enrolled && s.Err != nil {
				n.Err = s.Err
			}
			st.Nodes = append(st.Nodes, n)
			continue
		case !s.Guarded:
			n.Err = errNoStage
		}
		if is := s.Change; is.Stage != node.StageNone {
			same := st.isChange && ours.SamePair(is)
			if n.isLost = st.isChange && !same && isSameButForLost(ours, is); n.isLost {
				c.left = is.Former
			}
			if same || n.isLost || !st.isChange {
				n.Stage = is.Stage
			}
			n.Other = !same && is.Stage != node.StageOpened
			n.isBack = n.Other && st.isChange && ours.SamePair(node.Change{Former: is.Present, Present: is.Former})
		}
		n.Clients = usesOf(node.Fingerprints(r.Value), known, s.Time+time.Millisecond) // not our own
		st.Nodes = append(st.Nodes, n)
	}
	st.judge()
	return st
}

// errNoStage says that a node cannot keep how far a change has come.
var errNoStage = errors.New("it does not say which incarnation it is, so it cannot keep how far a change of the nodes has come")

// tell writes a stage and a floor on nodes, until each has confirmed both or cannot be reached. It
// returns why a node has not.
func (c *crew) tell(ctx context.Context, op node.Op, stage node.Stage, floor uint64, to func(i int) bool) []error {
	errs := make([]error, len(c.actors))
	for i := range errs {
		if to(i) {
			errs[i] = errNotConnected
		}
	}
	missed := nobody
	for range mostTries {
		c.settle(ctx, missed)
		missed = func(i int) bool { return errs[i] != nil }
		told := c.change() // which grows with what was met
		told.Stage = stage
		again := false
		for i, r := range c.ask(ctx, func(i int) (node.Command, bool) {
			return node.Command{Op: op, Token: told.String(), Fence: floor}, errs[i] != nil
		}) {
			switch {
			case errs[i] == nil:
			case r.Status == node.OK:
				errs[i] = nil
			case r.Status == node.Other:
				errs[i] = errOtherKept
			default:
				if errs[i] = r.Err; c.states[i].Err != nil && !c.states[i].Enrolled {
					errs[i] = c.states[i].Err
				}
				again = again || c.states[i].Life != 0 // another client may have changed the marker just then
			}
		}
		if !again || ctx.Err() != nil {
			break
		}
	}
	return errs
}

// mostTries bounds how often a node is told, because other clients may change its marker at the same
// time.
const mostTries = 5

// nobody is missed.
func nobody(int) bool { return false }

var errOtherKept = errors.New("it keeps another change of the nodes, or has come further")

// finish is FinishChange.
func (c *crew) finish(ctx context.Context, opts FinishOptions) error {
	say := func(format string, args ...any) {
		if opts.Say != nil {
			opts.Say(fmt.Sprintf(format, args...))
		}
	}
	dead, err := c.dead(opts.Dead)
	if err != nil {
		return err
	}
	st := c.look(ctx)
	opened, err := st.mayFinish(dead, opts.Force)
	if err == nil && !opened && !opts.Force {
		// A client that has just begun is enrolled a moment before it says what it uses.
		if err = c.wait(ctx, c.cfg.NodeTimeout); err == nil {
			st = c.look(ctx)
			opened, err = st.mayFinish(dead, opts.Force)
		}
	}
	if err != nil {
		return err
	}
	var floor uint64
	for i := range st.Nodes {
		floor = max(floor, st.Nodes[i].Floor)
	}
	if !opened {
		if err := c.close(ctx, &st, dead, say); err != nil {
			return err
		}
		if floor, err = c.highest(ctx); err != nil {
			return err
		}
	}
	present := func(i int) bool { return c.lists.in[i].has(ListNodes) }
	if err := c.confirmed(c.tell(ctx, node.Advance, node.StageOpened, floor, present), dead, present, st.quorum); err != nil {
		return fmt.Errorf("not all nodes are opened: %w", err)
	}
	// The others may be off. If they are used again one day, they must not say that this is not finished.
	c.tell(ctx, node.Advance, node.StageOpened, floor, func(i int) bool { return !present(i) })
	say("finished: fences are larger than %d; give each process the present list alone, in any order", floor)
	return nil
}

// close closes the former nodes, and waits until no lease that rests on them alone is believed in. A
// node that forgot meanwhile may have counted votes again. So each quorum must have one that has kept
// the mark all the time; otherwise it waits again.
func (c *crew) close(ctx context.Context, st *ChangeStatus, dead map[int]bool, say func(string, ...any)) error {
	former := func(i int) bool { return c.lists.in[i].has(ListFormer) }
	least := len(c.cfg.Former) - st.formerQuorum + 1
	errs := c.tell(ctx, node.Advance, node.StageClosed, 0, former)
	for {
		if err := c.confirmed(errs, dead, former, least); err != nil {
			return fmt.Errorf("the former nodes were not closed: %w", err)
		}
		c.settle(ctx, nobody)
		lives := make([]uint32, len(c.states)) // in which they are closed; 0 if they are not
		for i := range c.states {
			if former(i) && errs[i] == nil && c.states[i].Change.Stage >= node.StageClosed {
				lives[i] = c.states[i].Life
			}
		}
		longest := c.longest(st)
		wait := longest + c.settings.DriftOf(longest)
		say("the former nodes are closed: waiting %v, until no lease that rests on them alone is believed in", wait)
		if err := c.wait(ctx, wait); err != nil {
			return fmt.Errorf("the former nodes are closed, and the others are not opened: run it again: %w", err)
		}
		errs = c.tell(ctx, node.Advance, node.StageClosed, 0, former)
		kept := 0
		for i, err := range errs {
			if lives[i] != 0 && err == nil && c.states[i].Life == lives[i] {
				kept++
			}
		}
		if kept >= least {
			return nil
		}
	}
}

// dead returns the nodes that were named so.
func (c *crew) dead(names []string) (map[int]bool, error) {
	dead := make(map[int]bool)
	for _, name := range names {
		conn := node.URL(name)
		i := slices.IndexFunc(c.lists.conns, func(other node.Conn) bool { return other.String() == name || conn.Err() == nil && conn.Same(other) })
		if i < 0 {
			return nil, fmt.Errorf("dead node %s: want one of %s", conn, strings.Join(c.lists.labels, ", "))
		}
		dead[i] = true
	}
	for _, list := range []struct {
		name string
		list List
		need int
	}{{"Former", ListFormer, c.lists.formerQuorum}, {"Nodes", ListNodes, c.lists.quorum}} {
		alive := 0
		for _, i := range c.lists.of(list.list) {
			if !dead[i] {
				alive++
			}
		}
		if alive < list.need {
			return nil, fmt.Errorf("%d of the nodes of %s are not dead: want at least %d", alive, list.name, list.need)
		}
	}
	return dead, nil
}

// confirmed returns an error if a node that is not dead has not confirmed, or too few have.
func (c *crew) confirmed(errs []error, dead map[int]bool, is func(i int) bool, least int) error {
	var broken []error
	confirmed := 0
	for i, err := range errs {
		switch {
		case !is(i):
		case err == nil:
			confirmed++
		case !dead[i]:
			broken = append(broken, fmt.Errorf("%s: %w", c.lists.labels[i], err))
		}
	}
	if confirmed < least {
		broken = append(broken, fmt.Errorf("%d nodes have confirmed: want at least %d", confirmed, least))
	}
	if broken == nil {
		return nil
	}
	return silenceError{errors.Join(broken...)}
}

// longest returns how long a lease may last, by what the nodes know of the clients.
func (c *crew) longest(st *ChangeStatus) time.Duration {
	var longest time.Duration
	for i := range st.Nodes {
		n := &st.Nodes[i]
		if longest = max(longest, n.MaxTTL, c.states[i].MaxTTL); n.List.has(ListFormer) && n.Err == nil && !n.isGrown {
			longest = max(longest, c.cfg.MaxTTLCap) // it may have forgotten a longer one
		}
	}
	return max(longest, c.cfg.MaxTTL)
}

// wait waits until so much time has passed by the clock. Meanwhile it listens to the nodes.
func (c *crew) wait(ctx context.Context, d time.Duration) error {
	for end := c.cfg.Clock.Now().Add(d); c.cfg.Clock.Now() < end; {
		timer := c.cfg.Clock.NewTimer(end.Sub(c.cfg.Clock.Now()))
		select {
		case b := <-c.replies:
			c.states[b.Node] = b.State
		case <-timer.C():
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// highest returns the highest fence that is stored on any node. A quorum of the former list must have
// told all that they have, as a fence is stored on one before it is handed out.
func (c *crew) highest(ctx context.Context) (uint64, error) {
	c.settle(ctx, nobody)
	parts := make([]reading, len(c.actors))
	for i := range c.states {
		parts[i].highest, parts[i].life = c.states[i].Floor, c.states[i].Life
	}
	missed := func(i int) bool { return !parts[i].over && parts[i].err != nil }
	for slices.ContainsFunc(parts, func(p reading) bool { return !p.over }) {
		for i, r := range c.ask(ctx, func(i int) (node.Command, bool) {
			return node.Command{Op: node.Highest, Ticket: parts[i].next}, !parts[i].over
		}) {
			p := &parts[i]
			switch {
			case p.over:
			case c.states[i].Life != p.life:
				p.over, p.err = true, errForgot
			case r.Status == node.OK:
				p.highest, p.next, p.err = max(p.highest, r.Fence), r.Ticket, nil
				p.over = p.next == 0
			default:
				p.err = r.Err
				p.tries++
				p.over = p.tries == mostTries || p.life == 0
			}
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		c.settle(ctx, missed)
	}
	var highest uint64
	for i := range parts {
		highest = max(highest, parts[i].highest)
	}
	read := 0
	var broken []error
	for _, i := range c.lists.of(ListFormer) {
		if err := parts[i].err; err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", c.lists.labels[i], err))
		} else {
			read++
		}
	}
	if read < c.lists.formerQuorum {
		return 0, silenceError{fmt.Errorf("the highest fence is known of %d former nodes: want at least %d: %w", read, c.lists.formerQuorum, errors.Join(broken...))}
	}
	return highest, nil
}

// A reading is what one node has told of its fences.
type reading struct {
	highest uint64
	life    uint32 // that it began with
	next    uint64 // part
	tries   int    // that failed
	over    bool
	err     error
}

var errForgot = errors.New("it has lost its data, or was replaced, while it was read")

// forget is ForgetChange.
func (c *crew) forget(ctx context.Context, force bool) error {
	st := c.look(ctx)
	if err := st.other(); err != nil {
		return err
	}
	for i := range st.Nodes {
		if n := &st.Nodes[i]; n.Stage > node.StageBegun {
			return lateError{fmt.Errorf("too late: the change is %v at %s: finish it, if that was not done, and then change the nodes back", n.Stage, n.Node)}
		}
	}
	if n := st.unreached(); n != nil {
		return silenceError{fmt.Errorf("%s cannot be asked, but each node must forget it: mend it, or start an empty server at its address if it is off for good", strings.Join(n, ", "))}
	}
	if !force {
		var broken []error
		for _, use := range []Use{UseBoth, UseFilling, UseNodes, UseOther} {
			if nodes, left := st.use(use); nodes != nil {
				broken = append(broken, fmt.Errorf("clients use %v: give them the former list alone (seen at %s; it counts for %v unless they tell it again)", use, strings.Join(nodes, ", "), left.Round(time.Millisecond)))
			}
		}
		if broken != nil {
			return tooEarly(broken)
		}
	}
	all := func(int) bool { return true }
	return c.confirmed(c.tell(ctx, node.Forget, node.StageBegun, 0, all), nil, all, 0)
}

// raise is RaiseFloor.
func (c *crew) raise(ctx context.Context) (uint64, error) {
	floor, err := c.highest(ctx)
	if err != nil {
		return 0, err
	}
	present := func(i int) bool { return c.lists.in[i].has(ListNodes) }
	return floor, c.confirmed(c.tell(ctx, node.Advance, node.StageNone, floor, present), nil, present, c.lists.quorum)
}
