package keyspace

import "math"

// An Error is an error as a server words it.
type Error string

func (e Error) Error() string { return string(e) }

const (
	ErrType      = Error("WRONGTYPE Operation against a key holding the wrong kind of value")
	ErrInt       = Error("ERR value is not an integer or out of range")
	ErrFloat     = Error("ERR value is not a valid float")
	ErrRange     = Error("ERR min or max is not a float")
	ErrSetExpire = Error("ERR invalid expire time in 'set' command")
	ErrExpire    = Error("ERR invalid expire time in 'pexpire' command")
)

// A Kind is what a key is.
type Kind uint8

const (
	None Kind = iota // it is not there
	String
	SortedSet
)

func (e *entry) kind() Kind {
	switch {
	case e == nil:
		return None
	case e.set != nil:
		return SortedSet
	}
	return String
}

// Kind returns what a key is.
func (t *Turn) Kind(key string) Kind { return t.read(key).kind() }

// Text returns what a string holds.
func (t *Turn) Text(key string) (text string, is Kind) {
	e := t.read(key)
	if is = e.kind(); is == String {
		text = e.text
	}
	return text, is
}

// get is Text for a script, which fails if the key is no string.
func (t *Turn) get(key string) (text string, err error) {
	text, is := t.Text(key)
	if is == SortedSet {
		return "", ErrType
	}
	return text, nil
}

// Set has a key hold a text up to the end of a millisecond.
func (t *Turn) Set(key, text string, ends int64) {
	t.Server.Changes(key)
	t.put(&entry{name: key, text: text, ends: ends})
}

// SetFor has a key hold a text for some milliseconds.
func (t *Turn) SetFor(key, text string, ms int64) error {
	switch {
	case ms == Bad:
		return ErrInt
	case ms <= 0 || ms > math.MaxInt64-t.ms():
		return ErrSetExpire
	}
	t.Set(key, text, t.ms()+ms)
	return nil
}

// SetKeeping has a key that is there hold a text for as long as it would have lived.
func (t *Turn) SetKeeping(key, text string) { t.Set(key, text, t.lookup(key).ends) }

// SetFree is SetFor of a key that must not be there.
func (t *Turn) SetFree(key, text string, ms int64) (set bool, err error) {
	if t.lookup(key) != nil {
		return false, nil
	}
	return true, t.SetFor(key, text, ms)
}

// Del deletes a key, and reports whether it was there.
func (t *Turn) Del(key string) bool {
	if t.lookup(key) == nil {
		return false
	}
	t.Server.Changes(key)
	at, _ := t.find(key)
	t.remove(at)
	return true
}

// Peek returns the text that a key holds and the last millisecond in which it is there. It
// does not count as reading.
func (t *Turn) Peek(key string) (text string, ends int64, found bool) {
	e := t.lookup(key)
	if e == nil {
		return "", 0, false
	}
	return e.text, e.ends, true
}

// PTTL returns how many milliseconds a key has left, -1 if it does not expire, -2 if there
// is none.
func (t *Turn) PTTL(key string) int64 {
	switch e := t.read(key); {
	case e == nil:
		return -2
	case e.ends == Never:
		return -1
	default:
		return e.ends - t.ms()
	}
}

// PExpire has a key expire in some milliseconds, and reports whether it was there.
func (t *Turn) PExpire(key string, ms int64) (bool, error) {
	switch {
	case ms == Bad:
		return false, ErrInt
	case ms > math.MaxInt64-t.ms():
		return false, ErrExpire
	case ms <= 0:
		return t.Del(key), nil
	}
	e := t.lookup(key)
	if e == nil {
		return false, nil
	}
	t.Server.Changes(key)
	if e != t.fresh {
		copied := *e
		e = &copied
		t.put(e)
	}
	e.ends = t.ms() + ms
	return true, nil
}
