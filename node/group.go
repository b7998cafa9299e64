package node

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node/internal/script"
)

// A Group is a set of leases that one [RenewAll] renews together, for one TTL. All nodes are sent
// the same Group, so its sender must not change it before each of them has answered.
type Group struct {
	TTL     time.Duration // whole milliseconds
	Members []Member

	packing sync.Once // by the first of the nodes
	packed
}

// packed is the form in which a group is sent if all its tokens begin alike and are of one length.
type packed struct {
	begin string // of the tokens; "" if they are not alike
	rests string // of the tokens, one after the other
	size  int    // of each rest
}

// pack packs a group, and stores the names side by side, because each of the nodes reads all of
// them.
func (g *Group) pack() {
	if len(g.Members) == 0 {
		return
	}
	first := g.Members[0].Token
	begin := first[:strings.LastIndexByte(first, '/')+1]
	size, alike := len(first)-len(begin), begin != ""
	names := 0
	for k := range g.Members {
		m := &g.Members[k]
		names += len(m.Name)
		alike = alike && len(m.Token) == len(first) && m.Token[:len(begin)] == begin
	}
	if !alike {
		return
	}
	var text strings.Builder
	text.Grow(size*len(g.Members) + names)
	for k := range g.Members {
		text.WriteString(g.Members[k].Token[len(begin):])
	}
	for k := range g.Members {
		text.WriteString(g.Members[k].Name)
	}
	all := text.String()
	g.packed = packed{begin, all[:size*len(g.Members)], size}
	all = all[len(g.rests):]
	for k := range g.Members {
		name := &g.Members[k].Name
		*name, all = all[:len(*name)], all[len(*name):]
	}
}

// A Member is one lease of a [Group].
type Member struct {
	ID    uint64        // the sender's
	Name  string        // the lock key, prefix included
	Token string        // of the lease
	By    clock.Instant // it is not renewed after this instant; the Command's own By is the latest of them
}

// An Exception is the outcome of one member of a [Group] that was not simply renewed.
type Exception struct {
	Member int    // its index in the group
	Status Status // not OK
	Value  string // as in a [Reply]
	Err    error  // likewise
}

// Exceptions has all the exceptions of one reply.
type Exceptions []Exception

// All returns the exceptions. A nil *Exceptions has none.
func (e *Exceptions) All() []Exception {
	if e == nil {
		return nil
	}
	return *e
}

// weight returns how many names a command is about, and so for how many it takes room.
func (c *Command) weight() int {
	if c.Group == nil {
		return 1
	}
	return max(1, len(c.Group.Members))
}

// An item is what a pipeline does for one name: a command, or what it asks of one member of its
// group.
type item struct {
	command int32 // its index
	member  int32 // likewise; alone if the command has no group
}

const alone = -1

// memberOf returns the member that an item is about, nil if it is about a command.
func (p *pipeline) memberOf(it item) *Member {
	if it.member == alone {
		return nil
	}
	return &p.commands[it.command].Group.Members[it.member]
}

// packs returns the group if one call can carry the given members packed: they must stand one after
// the other. It returns nil if they cannot.
func (p *pipeline) packs(live []item) *Group {
	first, last := live[0], live[len(live)-1]
	g := p.commands[first.command].Group
	if g == nil || g.begin == "" || last.command != first.command || int(last.member-first.member) != len(live)-1 {
		return nil
	}
	return g
}

// renewAll encodes one call for a group's members.
func (p *pipeline) renewAll(to []string, g *Group, live []item) []string {
	from := int(live[0].member) * g.size
	return script.RenewAllCall(to, p.tracks, p.millis(g.TTL), g.begin, g.rests[from:from+g.size*len(live)])
}

func (p *pipeline) nameOf(it item) string {
	if m := p.memberOf(it); m != nil {
		return m.Name
	}
	return p.commands[it.command].Name
}

func (p *pipeline) tokenOf(it item) string {
	if m := p.memberOf(it); m != nil {
		return m.Token
	}
	return p.commands[it.command].Token
}

// ttlOf returns for how long to renew an item.
func (p *pipeline) ttlOf(it item) time.Duration {
	if c := &p.commands[it.command]; c.Group == nil {
		return c.TTL
	}
	return p.commands[it.command].Group.TTL
}

// byOf returns the instant after which an item is not sent any more.
func (p *pipeline) byOf(it item) clock.Instant {
	if m := p.memberOf(it); m != nil {
		return m.By
	}
	return p.commands[it.command].By
}

// except answers one item that is not OK.
func (p *pipeline) except(it item, status Status, value string, err error) {
	r := &p.replies[it.command]
	if it.member == alone {
		r.Status, r.Value, r.Err = status, value, err
		return
	}
	if r.But == nil {
		r.But = &Exceptions{}
	}
	*r.But = append(*r.But, Exception{int(it.member), status, value, err})
}

// renewed answers one item that is OK.
func (p *pipeline) renewed(it item) {
	if it.member == alone {
		p.replies[it.command].Status = OK
		return
	}
	p.ours[it.command]++
}

// finish gives the groups their replies. A reply says OK of all but its exceptions, so every member
// must have been answered. Otherwise no member's outcome is known.
func (p *pipeline) finish() {
	for i := range p.replies {
		if p.replies[i].Op != RenewAll {
			continue
		}
		r, g := &p.replies[i], p.commands[i].Group
		if g == nil {
			continue
		}
		if p.ours[i]+len(r.But.All()) != len(g.Members) {
			r.Status, r.But, r.Err = Unknown, nil, errMiscounted
			continue
		}
		r.Status = OK
		slices.SortFunc(r.But.All(), func(a, b Exception) int { return a.Member - b.Member })
	}
}
