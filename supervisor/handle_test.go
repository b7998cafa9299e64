package supervisor

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

const former = "former/ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// A text is a handle or one clear error, which never shows it.
func TestParseHandle(t *testing.T) {
	good := core.Handle{Key: "n\xffame", Token: former, Fence: 1<<53 - 1, TTL: time.Second}
	handle := encodeHandle(good)
	back, err := parseHandle(handle)
	text := string(handle)
	if err != nil || back != good {
		t.Errorf("%+v, %v", back, err)
	}
	if strings.Contains(text, "ABC") || strings.ContainsAny(text, " \n\"/+=") {
		t.Errorf("%s: want opaque text without characters that need quoting", text)
	}
	for _, broken := range []string{
		"", "x", former, "leasehold2." + text[len(handleForm):], handleForm + "!", handleForm,
		text[:len(text)-3], text + text,
		handleForm + base64.RawURLEncoding.EncodeToString([]byte(`{"key":7,"token":"Zm9ybWVy"}`)),
		handleForm + base64.RawURLEncoding.EncodeToString([]byte(`{"fence":-1}`)),
	} {
		if _, err := parseHandle(lease.Handle(broken)); err == nil || strings.Contains(err.Error(), "\n") || broken != "" && broken != "x" && strings.Contains(err.Error(), broken) && broken != handleForm {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

// FuzzParseHandle looks for texts that are taken for handles and are not.
func FuzzParseHandle(f *testing.F) {
	f.Add(string(encodeHandle(core.Handle{Key: "x", Token: former, Fence: 7, TTL: time.Second})))
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHandle(lease.Handle(text))
		if err != nil {
			return
		}
		if again, err := parseHandle(encodeHandle(h)); err != nil || again != h {
			t.Errorf("%+v, %v", again, err)
		}
	})
}
