package lease

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unsafe"
)

// A Token is the value of a name's key on the nodes: the owner, a slash, 128 random bits and the
// fence. It is fresh for every attempt. A client that knows it can delete the key, so it shows
// itself only on purpose: string(t) is the value. The verbs of package fmt, package slog and the
// encoders of JSON and text print lease.Token(redacted) instead. In four cases they cannot do that:
// for a Token, or a Holding of package supervisor, in an unexported field, for the key of a map in
// JSON, and for %p and %w, which go vet finds. A [Lease] may be in any field.
type Token string

const redacted = "lease.Token(redacted)"

// A hidden is a token as a lease has it. Package fmt asks no value in an unexported field how it
// wants to be printed. With a verb that does not fit, as %s, it prints what a pointer in such a
// field points to, and so a lease with all its strings. It prints no byte that is behind a pointer,
// and this costs a lease no more than a string would.
//
// The owner is there as well: a supervisor's token begins with it, so that it needs no room.
type hidden struct {
	first *byte
	owner int32 // bytes of the owner, with which the text begins; if it is no part of the token, -1 less these
	size  int32 // of the text
}

func hide(t Token, owner string) hidden {
	text, begins := string(t), int32(len(owner))
	if !strings.HasPrefix(text, owner) {
		text, begins = owner+text, ^begins
	}
	return hidden{unsafe.StringData(text), begins, int32(len(text))}
}

func (h hidden) text() string { return unsafe.String(h.first, h.size) }

func (h hidden) token() Token {
	if h.owner < 0 {
		return Token(h.text()[^h.owner:])
	}
	return Token(h.text())
}

func (h hidden) ownerName() string { return h.text()[:max(h.owner, ^h.owner)] }

// String returns a text without the token.
func (Token) String() string { return redacted }

// Format prints a text without the token, for every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns a text without the token.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a text without the token.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// With a Handle another process takes a lease over, see [Lease.Handle] and [Lease.HandOver]. The
// token is in it, so it shows itself only on purpose, as a [Token] does. Store or send string(h),
// and give lease.Handle(text) to Adopt of package supervisor. If the Handle itself is printed or
// encoded, that gives lease.Handle(redacted), which Adopt refuses.
type Handle string

const redactedHandle = "lease.Handle(redacted)"

// String returns a text without the handle.
func (Handle) String() string { return redactedHandle }

// Format prints a text without the handle, for every verb.
func (Handle) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedHandle) }

// LogValue returns a text without the handle.
func (Handle) LogValue() slog.Value { return slog.StringValue(redactedHandle) }

// MarshalText returns a text without the handle.
func (Handle) MarshalText() ([]byte, error) { return []byte(redactedHandle), nil }

// String describes the lease in one line, without its token.
func (l *Lease) String() string {
	state := "held"
	if err := l.Err(); err != nil {
		state = err.Error()
	}
	return fmt.Sprintf("lease of %q by %q with fence %d: %s", l.name, l.Owner(), l.fence, state)
}

// Format prints what String returns, for every verb.
func (l *Lease) Format(f fmt.State, _ rune) {
	if l == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = io.WriteString(f, l.String())
}

// LogValue returns the lease's name, owner and fence, and why it is over if it is.
func (l *Lease) LogValue() slog.Value {
	if l == nil {
		return slog.AnyValue(nil)
	}
	attrs := []slog.Attr{slog.String("name", l.name), slog.String("owner", l.Owner()), slog.Uint64("fence", l.fence)}
	if err := l.Err(); err != nil {
		attrs = append(attrs, slog.Any("over", err))
	}
	return slog.GroupValue(attrs...)
}

// MarshalJSON returns the lease's name, owner and fence, without its token.
func (l *Lease) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name, Owner string
		Fence       uint64
	}{l.name, l.Owner(), l.fence})
}
