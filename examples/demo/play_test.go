package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/clock/clocktest"
	"github.com/leasehold-go/leasehold/lease"
)

// The demo is worth something only if it would notice what it says never happens.
func TestRegisterNotices(t *testing.T) {
	const second = clock.Instant(time.Second)
	leader := func(c clock.Clock, fence uint64, until clock.Instant) (*lease.Lease, lease.Control) {
		return lease.New(lease.Spec{Name: "n", Fence: fence, Clock: c, Until: until})
	}
	for _, test := range []struct {
		name string
		play func(r *register, c *clocktest.Manual) []string
		want []string
		text string
		kept bool
	}{
		{"one after the other", func(r *register, c *clocktest.Manual) []string {
			a, _ := leader(c, 1, second)
			broken := r.enter("alpha", a)
			c.Advance(time.Second)
			b, _ := leader(c, 2, 2*second)
			return append(broken, r.enter("beta", b)...)
		}, nil, "Tenures: 2; nodes killed: 3; two leaders at once: never.", true},

		{"two at once", func(r *register, c *clocktest.Manual) []string {
			a, _ := leader(c, 1, second)
			b, _ := leader(c, 2, second)
			return append(r.enter("alpha", a), r.enter("beta", b)...)
		}, []string{"leads while alpha does"}, "Tenures: 2; nodes killed: 3; two leaders at once: 1 times.", false},

		{"entered after its end", func(r *register, c *clocktest.Manual) []string {
			a, _ := leader(c, 1, second)
			c.Advance(time.Second)
			b, _ := leader(c, 2, 2*second)
			return append(r.enter("beta", b), r.enter("alpha", a)...)
		}, nil, "Tenures: 2; nodes killed: 3; two leaders at once: never.", true},

		{"fence not grown", func(r *register, c *clocktest.Manual) []string {
			a, control := leader(c, 7, second)
			broken := r.enter("alpha", a)
			control.End(lease.ErrExpired)
			b, _ := leader(c, 7, second)
			return append(broken, r.enter("beta", b)...)
		}, []string{"has fence 7, but alpha had 7"}, "Tenures: 2; nodes killed: 3; two leaders at once: never. Other promises broken: 1.", false},

		{"told too late", func(r *register, c *clocktest.Manual) []string {
			r.lost(time.Millisecond)
			r.lost(0)
			return nil
		}, nil, "Tenures: 0; nodes killed: 3; two leaders at once: never. Other promises broken: 1.", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r register
			if got := test.play(&r, clocktest.NewManual(0)); !slices.Equal(got, test.want) {
				t.Errorf("violations %q, want %q", got, test.want)
			}
			if text, kept := r.verdict(3); text != test.text || kept != test.kept {
				t.Errorf("verdict %q, %v; want %q, %v", text, kept, test.text, test.kept)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	got := wrap("one two  three fourteen fifteen", 9, "  ")
	if want := "one two\n  three\n  fourteen\n  fifteen"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if strings.Contains(wrap(strings.Repeat("é", 10)+" x", 12, ""), "\n") {
		t.Error("bytes were counted, not runes")
	}
}
