package lease_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/leasehold-go/leasehold/lease"
)

// No way of printing a lease, a token or a handle shows the token, except that it is asked for.
func TestTokenIsNotPrinted(t *testing.T) {
	const secret = "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	held, control := lease.New(lease.Spec{Name: "n", Token: secret, Owner: "me", Fence: 7})
	control.Renewed(1<<62, 0)
	if string(held.Token()) != secret {
		t.Fatalf("the token is %q", string(held.Token()))
	}
	const handle lease.Handle = secret
	if string(handle) != secret {
		t.Fatalf("the handle is %q", string(handle))
	}
	type holding struct {
		Token  lease.Token
		Handle lease.Handle
		Lease  *lease.Lease
	}
	for _, v := range []any{
		(*lease.Lease)(nil), held, held.Token(), holding{held.Token(), handle, held}, &holding{held.Token(), handle, held},
		[]lease.Token{held.Token()}, handle, map[string]lease.Handle{"x": handle}, fmt.Errorf("%v: %w", held, fmt.Errorf("%v", held.Token())),
	} {
		var out bytes.Buffer
		for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d") {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
		}
		out.Write(b)
		if s := out.String(); strings.Contains(s, "panicked") || strings.Contains(s, "ABCDEF") || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", "ABCDEF")) {
			t.Errorf("%T is printed as %s", v, s)
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", held.Token(), held.Token(), held.Token()); got != strings.TrimSpace(strings.Repeat("lease.Token(redacted) ", 3)) {
		t.Error(got)
	}
	if got := fmt.Sprintf("%v %+v %#v", handle, handle, handle); got != strings.TrimSpace(strings.Repeat("lease.Handle(redacted) ", 3)) {
		t.Error(got)
	}
	if got, want := fmt.Sprint(held), `lease of "n" by "me" with fence 7: held`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	control.End(lease.ErrRevoked)
	if got := fmt.Sprint(held); !strings.Contains(got, "revoked") {
		t.Error(got)
	}
	var none *lease.Lease
	if got := fmt.Sprintf("%v", none); got != "<nil>" {
		t.Error(got)
	}
}

// In an unexported field package fmt does not ask a lease how it wants to be printed.
func TestHiddenLeaseIsNotPrinted(t *testing.T) {
	for _, token := range []lease.Token{"", "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
		held, control := lease.New(lease.Spec{Name: "n", Token: token, Owner: "me", Fence: 7})
		if held.Token() != token {
			t.Errorf("the token is %q, want %q", string(held.Token()), string(token))
		}
		type hiding struct{ l *lease.Lease }
		for _, v := range []any{control, &control, hiding{held}, &hiding{held}, []hiding{{held}}, map[string]hiding{"a": {held}}, struct{ v any }{held}} {
			for verb := 'A'; verb <= 'z'; verb++ {
				if text := fmt.Sprintf("%"+string(verb), v); strings.Contains(text, "ABCDEF") || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", "ABCDEF")) {
					t.Errorf("%T is printed by %%%c as %s", v, verb, text)
				}
			}
		}
	}
}

// A lease keeps its owner apart from its token only if that does not begin with it.
func TestOwnerOfALease(t *testing.T) {
	for _, token := range []lease.Token{"", "m", "me", "me/ABC", "em/ABC", "men/ABC"} {
		for _, owner := range []string{"", "m", "me", "you"} {
			l, _ := lease.New(lease.Spec{Token: token, Owner: owner})
			if l.Token() != token || l.Owner() != owner {
				t.Errorf("%q of %q, want %q of %q", string(l.Token()), l.Owner(), string(token), owner)
			}
		}
	}
}

var sink *lease.Lease // so that it is on the heap

// BenchmarkLease shows what a lease costs, by -benchmem.
func BenchmarkLease(b *testing.B) {
	for b.Loop() {
		sink, _ = lease.New(lease.Spec{Name: "n", Token: "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ", Owner: "me", Fence: 7})
	}
}
