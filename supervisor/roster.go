package supervisor

// A roster is the tenures that are not forgotten. The ID of each tells its place, so
// that nothing is searched for: one is looked up for every answer of a node.
type roster struct {
	places []*tenure // nil where there is none
	free   []uint32  // of the places
}

// An ID is how many were given before it, and behind that a place. So none is ever
// given twice.
const (
	placeBits = 24
	noPlace   = 1<<placeBits - 1
)

// vacancy returns the place of the next one.
func (r *roster) vacancy() uint64 {
	if n := len(r.free); n > 0 {
		return uint64(r.free[n-1])
	}
	return uint64(len(r.places))
}

// add puts t in, whose ID is of the vacancy.
func (r *roster) add(t *tenure) {
	place := t.id & noPlace
	if n := len(r.free); n > 0 {
		r.free = r.free[:n-1]
		r.places[place] = t
		return
	}
	r.places = append(r.places, t)
}

// get returns the tenure with that ID, or nil.
func (r *roster) get(id uint64) *tenure {
	place := id & noPlace
	if place >= uint64(len(r.places)) {
		return nil
	}
	if t := r.places[place]; t != nil && t.id == id {
		return t
	}
	return nil
}

// del takes t out, if it is in.
func (r *roster) del(t *tenure) {
	if r.get(t.id) == t {
		place := t.id & noPlace
		r.places[place] = nil
		r.free = append(r.free, uint32(place))
	}
}

func (r *roster) len() int { return len(r.places) - len(r.free) }
