package core

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
)

// A coder writes what can influence the future of a world in a form which equal worlds
// share. Instants are told relative to now; tokens, lives and IDs by the order in which
// they come first; fences by their order and by how near they are to each other. Nodes and
// clients are visited in an order that is given to it.
type coder struct {
	buf    []byte
	now    clock.Instant
	tick   time.Duration
	past   int64          // instants that many ticks ago and more are all the same
	place  [MaxNodes]int8 // of each node in the order
	order  []int          // of the nodes
	seen   []unsafe.Pointer
	ids    []uint64
	names  []string
	fences []fenceAt
}

// A fenceAt is where a fence is to be told.
type fenceAt struct {
	at    int
	fence uint64
}

func (e *coder) reset() {
	e.buf, e.seen, e.ids, e.names, e.fences = e.buf[:0], e.seen[:0], e.ids[:0], e.names[:0], e.fences[:0]
}

func (e *coder) byte(b byte) { e.buf = append(e.buf, b) }
func (e *coder) flag(b bool) {
	if b {
		e.byte(1)
	} else {
		e.byte(0)
	}
}
func (e *coder) number(n uint64) { e.buf = binary.AppendUvarint(e.buf, n) }

// instant tells when something is, in whole ticks: a core is woken at ticks only.
func (e *coder) instant(t clock.Instant) {
	const never, zero, far = 127, -128, 100
	switch d := int64(t - e.now); {
	case t == 0:
		e.byte(0x100 + zero)
	case t == clock.Never:
		e.byte(never)
	case d > far*int64(e.tick):
		e.byte(far)
	default:
		ticks := -(-d / int64(e.tick)) // toward zero if it is past
		if d > 0 {
			ticks = (d + int64(e.tick) - 1) / int64(e.tick)
		}
		e.byte(byte(int8(max(ticks, -e.past))))
	}
}

// name tells a text that is merely compared with others.
func (e *coder) name(s string) {
	if rest, reserved := strings.CutPrefix(s, node.ReservationMark); reserved {
		e.byte(255)
		s = rest
	}
	if s == "" {
		e.byte(0)
		return
	}
	i := slices.Index(e.names, s)
	if i < 0 {
		i = len(e.names)
		e.names = append(e.names, s)
	}
	e.byte(byte(i + 1))
}

const leastFence = 1 << 50 // all fences are above, and all IDs below

// big tells a fence, an ID, or a small number.
func (e *coder) big(n uint64) {
	switch {
	case n >= leastFence:
		e.byte(2)
		e.fences = append(e.fences, fenceAt{len(e.buf), n})
		e.buf = append(e.buf, 0, 0)
	case n>>slotBits != 0:
		i := slices.Index(e.ids, n)
		if i < 0 {
			i = len(e.ids)
			e.ids = append(e.ids, n)
		}
		e.byte(1)
		e.byte(byte(i))
	default:
		e.byte(0)
		e.number(n)
	}
}

// settle tells the fences, now that all are known: how far each is from that which would
// be proposed now. Fences that are far from each other are so for ever.
func (e *coder) settle(proposal uint64) {
	const apart = 8
	e.fences = append(e.fences, fenceAt{-1, proposal})
	slices.SortFunc(e.fences, func(a, b fenceAt) int { return cmp.Compare(a.fence, b.fence) })
	codes, code := make([]int16, len(e.fences)), int16(0)
	var origin int16
	for i := range e.fences {
		if i > 0 {
			code += int16(min(e.fences[i].fence-e.fences[i-1].fence, apart))
		}
		if codes[i] = code; e.fences[i].at < 0 {
			origin = code
		}
	}
	for i, f := range e.fences {
		if f.at >= 0 {
			binary.LittleEndian.PutUint16(e.buf[f.at:], uint16(codes[i]-origin))
		}
	}
}

func (e *coder) nodes(s nodeSet) {
	var to nodeSet
	for i := range e.order {
		if s.has(i) {
			to.add(int(e.place[i]))
		}
	}
	e.byte(byte(to))
}

// A codePlan is how a value of a type is told.
type codePlan struct {
	size  uintptr
	steps []codeStep
}

type codeStep struct {
	offset uintptr
	do     func(e *coder, at unsafe.Pointer)
}

var codePlans = map[reflect.Type]*codePlan{}

// untold are the fields that influence nothing that is searched for, or only repeat what
// is told elsewhere: settings; warnings; where things are kept; what an actor only reports.
var untold = map[string]string{
	"Core":      "settings terms all modes toldKind changing spread waiters failed lost causes margins own random rand lastID alarms groups fetched outbox spareBox spare effects",
	"table":     "free",
	"tenure":    "inSet key terms",
	"waitList":  "inSet key",
	"Request":   "Key Owner Terms",
	"peer":      "known confirmed entry disagreement firstReading ranAt aging warned backlog failures",
	"vote":      "lead fault failure",
	"waiter":    "waits choice",
	"inquiry":   "choice",
	"agreement": "widest text warnedOf apart few",
	"Answer":    "Node",
	"State":     "Run Identity Database Age MaxTTL MarkedAt NoInbox Tracks FlushedAt Evicts Time TimeSent TimeBack Offset OffsetAt Latency RoundTrips RoundTripTime",
	"youth":     "node",
	"debts":     "node",
	"debt":      "key",
	"giving":    "begun",
	"sweep":     "of",
	"Command":   "Name",
}

// byNode are the types of slices that have one element for each node.
var byNode = []reflect.Type{reflect.TypeFor[[]peer](), reflect.TypeFor[[]vote](), reflect.TypeFor[answers](), reflect.TypeFor[[]error]()}

func codePlanOf(t reflect.Type) *codePlan {
	if p := codePlans[t]; p != nil {
		return p
	}
	p := &codePlan{size: t.Size()}
	codePlans[t] = p
	p.add(0, t, false)
	return p
}

func typeName(t reflect.Type) string {
	name, _, _ := strings.Cut(t.Name(), "[")
	return name
}

func (p *codePlan) add(offset uintptr, t reflect.Type, isNode bool) {
	do := func(do func(*coder, unsafe.Pointer)) { p.steps = append(p.steps, codeStep{offset, do}) }
	switch {
	case t == reflect.TypeFor[alarm]():
		do(func(e *coder, at unsafe.Pointer) { e.alarm((*alarm)(at)) })
		return
	case t == reflect.TypeFor[clock.Instant]():
		do(func(e *coder, at unsafe.Pointer) { e.instant(*(*clock.Instant)(at)) })
		return
	case t == reflect.TypeFor[nodeSet]():
		do(func(e *coder, at unsafe.Pointer) { e.nodes(*(*nodeSet)(at)) })
		return
	case t == reflect.TypeFor[error]():
		do(func(e *coder, at unsafe.Pointer) { e.flag(*(*error)(at) != nil) })
		return
	case isNode:
		do(func(e *coder, at unsafe.Pointer) { e.byte(byte(e.place[*(*int)(at)])) })
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if typeName(t) == "sweep" { // one that is not under way begins from the start
			rest := &codePlan{}
			rest.fields(0, t)
			do(func(e *coder, at unsafe.Pointer) {
				e.flag((*alarm)(at).isSet())
				if (*alarm)(at).isSet() {
					e.tell(at, rest)
				}
			})
			return
		}
		p.fields(offset, t)
	case reflect.Bool, reflect.Uint8, reflect.Int8:
		do(func(e *coder, at unsafe.Pointer) { e.byte(*(*byte)(at)) })
	case reflect.Int32, reflect.Uint32:
		do(func(e *coder, at unsafe.Pointer) { e.number(uint64(*(*uint32)(at))) })
	case reflect.Int, reflect.Int64:
		do(func(e *coder, at unsafe.Pointer) { e.number(*(*uint64)(at)) })
	case reflect.Uint64:
		do(func(e *coder, at unsafe.Pointer) { e.big(*(*uint64)(at)) })
	case reflect.String:
		do(func(e *coder, at unsafe.Pointer) { e.name(*(*string)(at)) })
	case reflect.Pointer:
		p.pointer(do, t)
	case reflect.Slice:
		p.slice(do, t)
	case reflect.Map:
		do(func(e *coder, at unsafe.Pointer) { e.mapping(reflect.NewAt(t, at).Elem()) })
		codePlanOf(t.Elem())
		codePlanOf(t.Key())
	default:
		panic("cannot be told: " + t.String())
	}
}

func (p *codePlan) fields(offset uintptr, t reflect.Type) {
	left := strings.Fields(untold[typeName(t)])
	for i := range t.NumField() {
		f := t.Field(i)
		if k := slices.Index(left, f.Name); k >= 0 {
			left = slices.Delete(left, k, k+1)
			continue
		}
		if typeName(t)+"."+f.Name == "tenure.begun" {
			// It matters for an election, and for whether a grant is late.
			p.steps = append(p.steps, codeStep{offset + f.Offset, func(e *coder, at unsafe.Pointer) {
				e.instant(max(*(*clock.Instant)(at), e.now.Add(-2*e.tick)))
			}})
			continue
		}
		p.add(offset+f.Offset, f.Type, f.Type.Kind() == reflect.Int && strings.EqualFold(f.Name, "node"))
	}
	if len(left) > 0 {
		panic(fmt.Sprintf("%v has no %v", t, left))
	}
}

func (p *codePlan) pointer(do func(func(*coder, unsafe.Pointer)), t reflect.Type) {
	if slices.Contains(shared, t.Elem()) {
		return
	}
	elem := codePlanOf(t.Elem())
	do(func(e *coder, at unsafe.Pointer) {
		to := *(*unsafe.Pointer)(at)
		if to == nil || to == unsafe.Pointer(&noRare) || to == unsafe.Pointer(&noStages) {
			e.flag(to != nil)
			return
		}
		if i := slices.Index(e.seen, to); i >= 0 {
			e.byte(2)
			e.byte(byte(i))
			return
		}
		e.seen = append(e.seen, to)
		e.byte(3)
		e.tell(to, elem)
	})
}

func (p *codePlan) slice(do func(func(*coder, unsafe.Pointer)), t reflect.Type) {
	elem, each := codePlanOf(t.Elem()), slices.Contains(byNode, t)
	tenures := t == reflect.TypeFor[[]*tenure]()
	do(func(e *coder, at unsafe.Pointer) {
		s := *(*[]byte)(at) // of whatever type: its length is right
		data, n := unsafe.Pointer(unsafe.SliceData(s)), len(s)
		if each {
			e.flag(n != 0)
			for k := 0; k < n; k++ {
				e.tell(unsafe.Add(data, uintptr(e.order[k])*elem.size), elem)
			}
			return
		}
		if tenures { // by their age: which of them is in which slot does not matter
			for last := (*tenure)(nil); ; e.byte(1) {
				if last = older(*(*[]*tenure)(at), last); last == nil {
					break
				}
				e.tell(unsafe.Pointer(&last), elem)
			}
			e.byte(0)
			return
		}
		for k := range n {
			e.byte(1)
			e.tell(unsafe.Add(data, uintptr(k)*elem.size), elem)
		}
		e.byte(0)
	})
}

// older returns the oldest of some tenures that is younger than another one.
func older(all []*tenure, than *tenure) (next *tenure) {
	for _, t := range all {
		if t != nil && (than == nil || t.id > than.id) && (next == nil || t.id < next.id) {
			next = t
		}
	}
	return next
}

func (e *coder) tell(at unsafe.Pointer, p *codePlan) {
	for i := range p.steps {
		p.steps[i].do(e, unsafe.Add(at, p.steps[i].offset))
	}
}

func (e *coder) alarm(a *alarm) {
	if !a.isSet() {
		e.byte(126)
		return
	}
	e.instant(a.due())
	if len(a.moment.tenures)+len(a.moment.others) > 1 {
		e.byte(byte(a.index))
	}
}

// mapping tells a map in the order of its keys.
func (e *coder) mapping(m reflect.Value) {
	e.byte(byte(m.Len()))
	if m.Len() == 0 {
		return
	}
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		if a.Kind() == reflect.String {
			return strings.Compare(a.String(), b.String())
		}
		return cmp.Compare(a.Uint(), b.Uint())
	})
	for _, k := range keys {
		for _, v := range []reflect.Value{k, m.MapIndex(k)} {
			c := reflect.New(v.Type())
			c.Elem().Set(v)
			e.tell(c.UnsafePointer(), codePlans[v.Type()])
		}
	}
}

var coreCode = codePlanOf(reflect.TypeFor[Core]())
var commandCode = codePlanOf(reflect.TypeFor[node.Command]())
var stateCode = codePlanOf(reflect.TypeFor[node.State]())
var replyCode = codePlanOf(reflect.TypeFor[node.Reply]())

func newCoder() *coder { return &coder{} }

// least returns what a situation has in common with all that differ from it by the names
// of nodes and clients alone.
func (e *coder) least(s *situation, b *bounds, seeds [2]maphash.Seed) (least [2]uint64) {
	e.now, e.tick, e.past = s.now, tick, int64(b.ttl) // nothing is counted for longer
	first := true
	permute(len(s.parties), func(parties []int) {
		if !b.alike() && parties[0] != 0 {
			return
		}
		looks := make([][]byte, len(s.servers))
		for n := range looks {
			if b.rivalry != nil {
				looks[n] = []byte{byte(b.slowAt[0] >> n & 1), byte(b.slowAt[1] >> n & 1)} // the bounds tell them apart
			}
			if b.rollout != nil {
				looks[n] = append(looks[n], byte(b.former>>n&1), byte(b.present>>n&1)) // and so do the lists
			}
			looks[n] = append(looks[n], s.look(n, parties)...)
		}
		permute(len(s.servers), func(nodes []int) {
			for i := range nodes[1:] {
				if slices.Compare(looks[nodes[i]], looks[nodes[i+1]]) > 0 {
					return
				}
			}
			e.situation(s, parties, nodes)
			code := [2]uint64{maphash.Bytes(seeds[0], e.buf), maphash.Bytes(seeds[1], e.buf)}
			if first || code[0] < least[0] {
				least, first = code, false
			}
		})
	})
	return least
}

// permute calls do with the numbers from 0 to n-1 in every order.
func permute(n int, do func(order []int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var from func(k int)
	from = func(k int) {
		if k == n {
			do(order)
			return
		}
		for i := k; i < n; i++ {
			order[k], order[i] = order[i], order[k]
			from(k + 1)
			order[k], order[i] = order[i], order[k]
		}
	}
	from(0)
}

// look returns what a node looks like, whatever number it has: orders in which the nodes
// are not sorted by it need not be tried.
func (s *situation) look(n int, parties []int) []byte {
	v := s.servers[n]
	look := make([]byte, 0, 32)
	if v.has(s.now) {
		owner, _, _ := strings.Cut(v.value, "/")
		for k, p := range parties {
			if owner[0] == byte('0'+p) {
				look = append(look, byte(1+k))
			}
		}
		look = append(look, byte((v.ends-serverTime(s.now).Milliseconds())/tick.Milliseconds()))
	}
	for _, p := range parties {
		l := s.links[p*len(s.servers)+n]
		look = append(look, 255, byte(l.stage), byte(l.pace), byte(len(l.mailbox)), byte(len(l.replies)), byte(len(l.late)))
		for i := range l.pipe {
			look = append(look, byte(l.pipe[i].Op))
		}
	}
	return look
}

// situation writes a situation.
func (e *coder) situation(s *situation, parties, nodes []int) {
	e.reset()
	e.order = nodes
	for k, n := range nodes {
		e.place[n] = int8(k)
	}
	e.tell(unsafe.Pointer(&s.left), quotaCode)
	e.name(s.deleted)
	if s.deleted != "" {
		e.byte(byte(e.place[s.deletedOn]))
	}
	e.big(s.fence)
	e.instant(s.closedAt)
	for _, p := range parties {
		q := s.parties[p]
		e.ids = e.ids[:0] // each client has its own
		e.number(uint64(q.wishes))
		e.number(uint64(q.call))
		b := q.lease
		if b.id == 0 {
			b = belief{}
		}
		e.tell(unsafe.Pointer(&b), beliefCode)
		e.tell(unsafe.Pointer(q.core), coreCode)
		e.byte(byte(q.role))
		e.changing(&q.core.changing)
		for _, n := range nodes {
			e.link(s.links[p*len(nodes)+n])
		}
	}
	for _, n := range nodes {
		v := s.servers[n]
		e.flag(v.has(s.now))
		if v.has(s.now) {
			e.name(v.value)
			e.byte(byte((v.ends - serverTime(s.now).Milliseconds()) / tick.Milliseconds()))
		}
		e.big(v.fence)
		e.name(v.marker)
		e.name(v.grown)
	}
	e.settle(uint64(serverTime(s.now) / time.Microsecond))
}

var quotaCode, beliefCode = codePlanOf(reflect.TypeFor[quota]()), codePlanOf(reflect.TypeFor[belief]())

// changing writes what a client knows of a change. The lists of that are always the same.
func (e *coder) changing(x *changing) {
	e.alarm(&x.alarm)
	e.instant(x.patience)
	e.flag(x.begun)
	e.byte(byte(x.seen.Stage))
	e.number(uint64(x.why))
	for _, s := range x.barred {
		e.nodes(s)
	}
}

func (e *coder) link(l *link) {
	e.flag(l.out)
	e.tell(unsafe.Pointer(&l.state), stateCode)
	e.byte(byte(l.stage))
	e.byte(byte(l.pace))
	e.flag(l.broken)
	e.flag(l.fresh)
	e.flag(l.says)
	e.name(l.marker)
	e.name(l.life)
	e.name(l.seen)
	e.commands(l.mailbox)
	e.commands(l.pipe)
	e.byte(byte(len(l.replies)))
	for i := range l.replies {
		e.tell(unsafe.Pointer(&l.replies[i]), replyCode)
	}
	e.byte(byte(len(l.late)))
	for _, commands := range l.late {
		e.commands(commands)
	}
}

func (e *coder) commands(commands []node.Command) {
	e.byte(byte(len(commands)))
	for i := range commands {
		e.tell(unsafe.Pointer(&commands[i]), commandCode)
	}
}
