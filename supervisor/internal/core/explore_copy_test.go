package core

import (
	"reflect"
	"slices"
	"unsafe"
)

// A copier makes copies of cores which share nothing that is ever written to. It knows no
// field by name: it follows the types, by plans that are made once.
type copier struct {
	spans []span // what was copied
	todo  []job
}

// A span is a piece of memory that was copied. Pointers into it, also to its midst, as to
// an alarm in a peer, become pointers into the copy.
type span struct {
	from, to uintptr
	copy     unsafe.Pointer
}

// A job is memory of the copy in which pointers still lead to the original.
type job struct {
	at   unsafe.Pointer
	plan *copyPlan
	n    int // values of that type, one after the other
}

// A copyPlan is where the references are in a value of a type.
type copyPlan struct {
	size uintptr
	refs []reference
}

type reference struct {
	offset uintptr
	typ    reflect.Type
	kind   reflect.Kind
	elem   *copyPlan // of what it leads to; of a map, of its elements
}

// shared are the types of what is never written to once it is there.
var shared = []reflect.Type{
	reflect.TypeFor[Terms](), reflect.TypeFor[Report](), reflect.TypeFor[error](), reflect.TypeFor[zeroes](),
}

var copyPlans = map[reflect.Type]*copyPlan{}

func copyPlanOf(t reflect.Type) *copyPlan {
	if p := copyPlans[t]; p != nil {
		return p
	}
	p := &copyPlan{size: t.Size()}
	copyPlans[t] = p // types refer to themselves
	p.add(0, t)
	return p
}

func (p *copyPlan) add(offset uintptr, t reflect.Type) {
	if slices.Contains(shared, t) {
		return
	}
	r := reference{offset: offset, typ: t, kind: t.Kind()}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			p.add(offset+f.Offset, f.Type)
		}
		return
	case reflect.Array:
		for i := range t.Len() {
			p.add(offset+uintptr(i)*t.Elem().Size(), t.Elem())
		}
		return
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if t.Kind() == reflect.Pointer && slices.Contains(shared, t.Elem()) {
			return
		}
		r.elem = copyPlanOf(t.Elem())
	case reflect.Interface:
	case reflect.Chan, reflect.Func, reflect.UnsafePointer:
		panic("a core that cannot be copied: " + t.String())
	default:
		return
	}
	p.refs = append(p.refs, r)
}

var corePlan = copyPlanOf(reflect.TypeFor[Core]())

func init() { // what interfaces hold is not found by following the types
	for _, t := range []any{new(tenure), new(line), new(choice), new(youth), new(debts), new(backlog), new(agreement), new(changing), new(reader), new(sweep[*line]), new(sweep[*tenure])} {
		copyPlanOf(reflect.TypeOf(t).Elem())
	}
}

// clone returns a copy of a core.
func (k *copier) clone(c *Core) *Core {
	k.spans, k.todo = k.spans[:0], k.todo[:0]
	d := (*Core)(k.moved(unsafe.Pointer(c), reflect.TypeFor[Core](), corePlan))
	for i := 0; i < len(k.todo); i++ {
		j := k.todo[i]
		for n := range j.n {
			k.mend(unsafe.Add(j.at, uintptr(n)*j.plan.size), j.plan)
		}
	}
	return d
}

// mend has the references in a value lead to copies.
func (k *copier) mend(at unsafe.Pointer, p *copyPlan) {
	for i := range p.refs {
		r := &p.refs[i]
		f := unsafe.Add(at, r.offset)
		switch r.kind {
		case reflect.Pointer:
			if q := (*unsafe.Pointer)(f); *q != nil {
				*q = k.moved(*q, r.typ.Elem(), r.elem)
			}
		case reflect.Slice:
			k.mendSlice(f, r)
		case reflect.Map:
			if m := reflect.NewAt(r.typ, f).Elem(); !m.IsNil() {
				m.Set(k.copyMap(m, r))
			}
		case reflect.Interface:
			if w := (*[2]unsafe.Pointer)(f); w[1] != nil {
				if t := reflect.NewAt(r.typ, f).Elem().Elem().Type(); t.Kind() == reflect.Pointer && !slices.Contains(shared, t.Elem()) {
					w[1] = k.moved(w[1], t.Elem(), copyPlans[t.Elem()])
				}
			}
		}
	}
}

// moved returns where the copy of what is at a place is.
func (k *copier) moved(old unsafe.Pointer, t reflect.Type, p *copyPlan) unsafe.Pointer {
	if q := k.find(old); q != nil {
		return q
	}
	if old == unsafe.Pointer(&noRare) || old == unsafe.Pointer(&noStages) {
		return old
	}
	v := reflect.New(t)
	v.Elem().Set(reflect.NewAt(t, old).Elem())
	k.note(old, v.UnsafePointer(), p, 1)
	return v.UnsafePointer()
}

func (k *copier) find(old unsafe.Pointer) unsafe.Pointer {
	for i := range k.spans {
		if s := &k.spans[i]; s.from <= uintptr(old) && uintptr(old) < s.to {
			return unsafe.Add(s.copy, uintptr(old)-s.from)
		}
	}
	return nil
}

func (k *copier) note(old, new unsafe.Pointer, p *copyPlan, n int) {
	from := uintptr(old)
	to := from + uintptr(n)*p.size
	for i := range k.spans {
		if s := &k.spans[i]; s.from < to && from < s.to {
			panic("a part was copied before the whole")
		}
	}
	k.spans = append(k.spans, span{from, to, new})
	if len(p.refs) > 0 {
		k.todo = append(k.todo, job{new, p, n})
	}
}

func (k *copier) mendSlice(f unsafe.Pointer, r *reference) {
	s := (*struct {
		data     unsafe.Pointer
		len, cap int
	})(f)
	if s.data == nil {
		return
	}
	s.cap = s.len
	if s.len == 0 {
		s.data = reflect.MakeSlice(r.typ, 0, 0).UnsafePointer()
		return
	}
	if q := k.find(s.data); q != nil {
		s.data = q
		return
	}
	v := reflect.MakeSlice(r.typ, s.len, s.len)
	reflect.Copy(v, reflect.NewAt(r.typ, f).Elem())
	k.note(s.data, v.UnsafePointer(), r.elem, s.len)
	s.data = v.UnsafePointer()
}

func (k *copier) copyMap(m reflect.Value, r *reference) reflect.Value {
	d := reflect.MakeMap(r.typ)
	for i := m.MapRange(); m.Len() > 0 && i.Next(); {
		e := reflect.New(r.typ.Elem())
		e.Elem().Set(i.Value())
		k.mend(e.UnsafePointer(), r.elem)
		d.SetMapIndex(i.Key(), e.Elem())
	}
	return d
}

// zeroes are random numbers that are none: every jitter is nil.
type zeroes struct{}

// Uint64 returns a number of which package rand makes 0, whatever the range: 0 itself it
// would refuse for ever.
func (zeroes) Uint64() uint64 { return 1<<32 | 1 }
