package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// A link is how a session talks to its server. Commands are gathered, and sent at once. There are
// two kinds: a [stream] over a connection that is ours, and the client library over any other.
type link interface {
	// add gathers a command. It keeps nothing of the words.
	add(words ...string)
	// gathered returns how many commands are gathered.
	gathered() int
	// exchange sends the commands and returns an answer to each, in their order. They may be used
	// until add is called again. An answer that has not come has an error. The waiting ends with
	// ctx, or by what the session does to its connection.
	exchange(ctx context.Context) []value
}

// A value is a server's answer, or an element of one. Its methods fail alike: with the server's
// text if it is an error, with errNil, or with errType.
type value struct {
	kind     byte   // its first byte; 0 if there is none, for failed. '_' stands for each form of nothing
	text     []byte // of a string, of an error and of what is neither number nor list
	n        int64  // of ':'
	elements []value
	failed   error
}

var (
	errNil  = errors.New("nil")
	errType = errors.New("a value of another type")
)

// A serverError is an error that a server has answered.
type serverError string

func (e serverError) Error() string { return string(e) }

// said returns the text of a server's error, and whether err is one. The library may have got it,
// when it made a connection, or we.
func said(err error) (text string, did bool) {
	if err == nil {
		return "", false // what follows allocates
	}
	var ours serverError
	var theirs *rueidis.RedisError
	switch {
	case errors.As(err, &ours):
		return string(ours), true
	case errors.As(err, &theirs):
		return theirs.Error(), true
	}
	return "", false
}

func hasSaid(err error) bool {
	_, did := said(err)
	return did
}

func (v *value) err() error {
	switch v.kind {
	case 0:
		return v.failed
	case '_':
		return errNil
	case '-', '!':
		return serverError(strings.TrimPrefix(string(v.text), "ERR "))
	}
	return nil
}

// isString reports whether it is a string without anything else to it, as a verbatim string has.
func (v *value) isString() bool { return v.kind == '$' || v.kind == '+' }

// isText reports whether it is the given string.
func (v *value) isText(text string) bool { return v.isString() && string(v.text) == text }

// bytes returns a text, which may be used as long as the value.
func (v *value) bytes() ([]byte, error) {
	if err := v.err(); err != nil {
		return nil, err
	}
	if v.kind == ':' || v.isList() {
		return nil, v.wrong()
	}
	return v.text, nil
}

func (v *value) string() (string, error) {
	b, err := v.bytes()
	return string(b), err
}

func (v *value) isList() bool {
	return v.kind == '*' || v.kind == '%' || v.kind == '~' || v.kind == '>'
}

func (v *value) array() ([]value, error) {
	switch err := v.err(); {
	case err != nil:
		return nil, err
	case v.kind != '*' && v.kind != '~':
		return nil, v.wrong()
	}
	return v.elements, nil
}

func (v *value) integer() (int64, error) {
	switch err := v.err(); {
	case err != nil:
		return 0, err
	case v.kind != ':':
		return 0, v.wrong()
	}
	return v.n, nil
}

// decimal returns an integer, or the integer that a string spells.
func (v *value) decimal() (int64, error) {
	if v.isString() {
		if n, ok := number(v.text); ok {
			return n, nil
		}
		return 0, fmt.Errorf("%w: %q", errType, v.text)
	}
	return v.integer()
}

func (v *value) wrong() error { return fmt.Errorf("%w: %q", errType, v.kind) }

// A library is a link of the client library: over a connection that was lent, or that the library
// itself may make again.
type library struct {
	client rueidis.CoreClient
	multi  []rueidis.Completed
	values []value
}

func (l *library) add(words ...string) {
	l.multi = append(l.multi, l.client.B().Arbitrary(words...).Build())
}

func (l *library) gathered() int { return len(l.multi) }

func (l *library) exchange(ctx context.Context) []value {
	rs := l.client.DoMulti(ctx, l.multi...)
	l.values = l.values[:0]
	for i := range rs {
		l.values = append(l.values, valueOf(&rs[i]))
	}
	// The library has recycled the commands that were answered, and may still be reading the slice
	// if one was not. Then it is not used again.
	if rs[len(rs)-1].NonRedisError() != nil {
		l.multi = nil
	}
	clear(l.multi) // the library has these back, and its pools are collected
	l.multi = l.multi[:0]
	return l.values
}

func valueOf(r *rueidis.RedisResult) value {
	if err := r.NonRedisError(); err != nil {
		return value{failed: err}
	}
	m, err := r.ToMessage()
	if e, ok := rueidis.IsRedisErr(err); ok {
		return value{kind: '-', text: []byte(e.Error())}
	}
	return valueOfMessage(&m)
}

func valueOfMessage(m *rueidis.RedisMessage) (v value) {
	err := m.Error()
	e, isErr := rueidis.IsRedisErr(err)
	switch {
	case rueidis.IsRedisNil(err):
		return value{kind: '_'}
	case isErr:
		return value{kind: '-', text: []byte(e.Error())}
	case m.IsInt64():
		v.kind = ':'
		v.n, _ = m.ToInt64()
		return v
	case m.IsArray():
		all, _ := m.ToArray()
		v.kind, v.elements = '*', make([]value, len(all))
		for i := range all {
			v.elements[i] = valueOfMessage(&all[i])
		}
		return v
	case m.IsMap():
		return value{kind: '%'} // it is never asked for
	case m.IsFloat64():
		v.kind = ','
	case m.IsBool():
		return value{kind: '#'}
	case m.IsString():
		v.kind = '$'
	default:
		v.kind = '='
	}
	text, _ := m.ToString()
	v.text = []byte(text)
	return v
}
