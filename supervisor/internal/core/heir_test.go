package core

import (
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// An adopted lease's fence is larger than the handle's, even if the nodes have forgotten
// that one, and their clocks are behind it.
func TestAdoptedFenceIsLargerThanTheHandles(t *testing.T) {
	b := enrolled(t, 3)
	ahead, _ := b.c.proposal(b.now(), 0)
	ahead += uint64(time.Hour / time.Microsecond)
	w := b.call()
	b.c.Adopt(b.now(), Request{Call: w, Key: "x", Terms: b.c.terms}, Handle{Key: "x", Token: former, Fence: ahead, TTL: b.c.terms.TTL, Over: true})
	b.perform()
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.OK)
	}
	if l := b.got(w); l.Fence() != ahead+1 {
		t.Errorf("fence %d, want one more than %d", l.Fence(), ahead)
	}
}

// The longest promise is waited for, in whatever order the nodes tell theirs; one that is
// not known is taken for the widest MaxTTL, and one that is longer than any lease for the
// cap. Without a guard nobody tells the widest, so what is not known is the cap as well.
func TestAdoptWaitsForTheLongest(t *testing.T) {
	const widest = 8 * time.Second
	for name, c := range map[string]struct {
		lefts     []time.Duration
		unguarded bool
		want      time.Duration
	}{
		"the longest first":          {[]time.Duration{2 * time.Second, time.Second}, false, 2 * time.Second},
		"the longest last":           {[]time.Duration{time.Second, 2 * time.Second}, false, 2 * time.Second},
		"longer than the widest":     {[]time.Duration{10 * time.Second, time.Second}, false, 10 * time.Second},
		"not known":                  {[]time.Duration{0, time.Second}, false, widest},
		"not known, without a guard": {[]time.Duration{0, time.Second}, true, time.Minute},
		"for ever":                   {[]time.Duration{time.Second, -1}, false, widest},
		"for a year":                 {[]time.Duration{8760 * time.Hour, time.Second}, false, time.Minute},
		"nothing":                    {[]time.Duration{1, 1}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 3)
			b.told(2, func(s *node.State) { s.MaxTTL = widest })
			for i := range 3 {
				b.told(i, func(s *node.State) { s.Guarded = !c.unguarded })
			}
			w := b.adoptAfter("x", false)
			for i, s := range b.take(node.Adopt)[:2] {
				b.say(s, node.OK, left(c.lefts[i]))
			}
			over := b.now().Add(c.want + max(c.want, widest)/100 + 2*time.Millisecond)
			if got := b.c.adopting[0].adopt.overAt; got != over {
				t.Fatalf("it waits for %v, want %v", got.Sub(b.now()), over.Sub(b.now()))
			}
			for b.now() < over {
				b.waits(w)
				for _, s := range b.take(node.Renew) {
					b.wantNodes([]send{s}, s.node%2) // 0 and 1, which have swapped it
					if want := max(b.c.terms.TTL, over.Sub(b.now())); s.cmd.TTL < want || s.cmd.TTL > want+time.Millisecond {
						t.Fatalf("renewed for %v, want %v: the former holder may count on it", s.cmd.TTL, want)
					}
					b.say(s, node.OK)
				}
				b.advance(min(100*time.Millisecond, over.Sub(b.now())))
			}
			b.waits(w)
			b.answerAll(nil)
			if l := b.got(w); !l.Valid() {
				t.Error(l.Err())
			}
		})
	}
}

// What the nodes say after the former holder's promise is over decides, to what they were
// asked after it: until then one that has lost its data may have taken the key for the
// former holder again. A node that has begun another life counts once it is grown.
func TestHeirAsksOnceMore(t *testing.T) {
	waiting := func(t *testing.T, n int) (b *bench, w Call) {
		b = enrolled(t, n)
		w = b.adoptAfter("x", false)
		for _, s := range b.take(node.Adopt) {
			b.say(s, node.OK, left(500*time.Millisecond))
		}
		return b, w
	}
	over := func(b *bench) { b.advance(b.c.adopting[0].adopt.overAt.Sub(b.now())) }

	t.Run("asked before", func(t *testing.T) {
		b, w := waiting(t, 1)
		before := b.take(node.Renew)
		over(b)
		b.say(before[0], node.OK)
		b.waits(w)
		b.say(b.take(node.Renew)[0], node.OK)
		b.got(w)
	})
	t.Run("forgotten", func(t *testing.T) {
		b, w := waiting(t, 1)
		b.answerAll(nil)
		b.restart(0)
		over(b)
		b.say(b.take(node.Renew)[0], node.Other, theirs)
		b.refused(w, ReasonLost)
	})
	t.Run("reborn", func(t *testing.T) {
		b, w := waiting(t, 1)
		b.answerAll(nil)
		b.keptData(0)
		over(b)
		for b.now() < b.c.youngUntil(0) {
			b.answerAll(nil)
			b.waits(w)
			b.advance(50 * time.Millisecond)
		}
		b.advance(b.c.terms.RenewEvery)
		b.answerAll(nil)
		b.got(w)
	})
	t.Run("gone again", func(t *testing.T) {
		b, w := waiting(t, 3)
		b.answerAll(nil)
		over(b)
		asked := b.take(node.Renew)
		b.say(asked[0], node.OK)
		b.say(asked[1], node.Unknown)
		b.say(asked[2], node.Unknown)
		b.advance(b.c.terms.RenewEvery)
		again := b.take(node.Renew)
		b.say(again[0], node.Absent)
		b.say(again[1], node.OK)
		b.waits(w)
		b.say(again[2], node.OK)
		b.got(w)
	})
	t.Run("swapped late", func(t *testing.T) {
		// The third has promised the former holder more, and helps after that.
		b := enrolled(t, 3)
		w := b.adoptAfter("x", false)
		for i, s := range b.take(node.Adopt) {
			b.say(s, node.OK, left(time.Duration(i+1)*200*time.Millisecond))
		}
		b.answerAll(nil)
		begun := b.now()
		for b.now().Sub(begun) < 600*time.Millisecond+b.c.terms.Drift {
			b.waits(w)
			b.advance(time.Millisecond)
			b.answerAll(map[int]node.Status{1: node.Unsent})
		}
		b.got(w)
	})
	t.Run("silent", func(t *testing.T) {
		b, w := waiting(t, 1)
		begun := b.now()
		for !b.done(w) {
			for _, s := range b.take(node.Renew) {
				b.say(s, node.Unknown)
			}
			b.advance(10 * time.Millisecond)
		}
		b.refused(w, ReasonNoQuorum)
		if waited := b.now().Sub(begun); waited > b.c.terms.TTL+b.c.terms.RenewEvery {
			t.Errorf("refused after %v", waited)
		}
	})
}

// While it waits an heir has at most one renewal under way for each node that counts.
func TestHeirIsRenewedOnceAtATime(t *testing.T) {
	b := enrolled(t, 3)
	b.adoptAfter("x", false)
	for _, s := range b.take(node.Adopt)[:2] {
		b.say(s, node.OK, left(2*time.Second))
	}
	b.wantNodes(b.take(node.Renew), 0, 1)
	b.advance(b.c.terms.RenewEvery)
	b.wantNodes(b.take(node.Renew))
}

// A lease that waited for its former holder began when it was handed out: what its nodes
// are asked right after the win, and how long it was held, counts from there.
func TestHeirBeginsWhenItIsHandedOut(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adoptAfter("x", false)
	swaps := b.take(node.Adopt)
	b.say(swaps[0], node.OK, left(time.Second))
	b.say(swaps[1], node.OK, left(time.Second))
	b.say(swaps[2], node.Unknown)
	for !b.done(w) {
		b.advance(time.Millisecond)
		for _, s := range b.take(node.Renew) {
			b.say(s, node.OK)
		}
	}
	b.got(w)
	mine := b.c.lines["x"].holder
	if mine.begun != b.now() {
		t.Errorf("begun %v ago", b.now().Sub(mine.begun))
	}
	b.advance(trackAfter)
	b.wantNodes(b.take(node.Renew), 2)
}

// An adopted lease is told by the votes of the nodes that elected it alone, less its grace.
func TestAdoptedUntil(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adopt("x")
	swaps := b.take(node.Adopt)
	b.say(swaps[0], node.OK)
	b.clock.Advance(time.Millisecond)
	b.say(swaps[1], node.OK)
	l := b.got(w)
	mine := b.c.lines["x"].holder
	if want := b.now().Add(l.Remaining() - b.c.terms.Grace); mine.hold.until != want || l.Remaining() != b.c.terms.TTL-b.c.terms.Drift-time.Millisecond {
		t.Errorf("lost at %v, want %v; Remaining() = %v", mine.hold.until, want, l.Remaining())
	}
}

// The memory of attempts is bounded.
func TestAttemptsToAdoptAreBounded(t *testing.T) {
	b := enrolled(t, 1)
	for i := range 2*maxAdoptions + 10 {
		w := b.call()
		token := []byte(former)
		token[len(token)-1], token[len(token)-2] = byte('A'+i%26), byte('A'+i/26)
		b.c.Adopt(b.now(), Request{Call: w, Key: "x", Terms: b.c.terms}, Handle{Key: "x", Token: string(token), Fence: 7, TTL: b.c.terms.TTL, Over: true})
		b.perform()
		for _, s := range b.take(node.Adopt) {
			b.say(s, node.Absent)
		}
		b.refused(w, ReasonLost)
	}
	if n := len(b.c.attempts); n > maxAdoptions {
		t.Errorf("the attempts to adopt %d handles are remembered", n)
	}
}

// A handle can be adopted once: what took its place is the token of a lease of its own,
// which somebody else may have the handle of by now.
func TestHandleIsAdoptedOnce(t *testing.T) {
	b := enrolled(t, 3)
	w := b.adopt("x")
	swaps := b.take(node.Adopt)
	for _, s := range swaps {
		b.say(s, node.OK)
	}
	b.got(w)
	b.c.disown(b.now(), b.c.lines["x"].holder) // it is handed on
	b.perform()
	w = b.adopt("x")
	for _, s := range b.take(node.Adopt) {
		b.say(s, node.Other, func(r *node.Reply) { r.Value = swaps[0].cmd.Token })
	}
	b.wantNodes(b.take(node.Adopt))
	b.refused(w, ReasonLost)
}

// An answer that comes after the time for an adoption is over elects nobody, even if the
// alarm that ends the adoption has not been heard yet.
func TestSwappedTooLate(t *testing.T) {
	for _, late := range []time.Duration{0, 1} {
		b := enrolled(t, 1)
		w := b.adopt("x")
		b.clock.Advance(b.c.terms.Window + late)
		b.say(b.take(node.Adopt)[0], node.OK)
		if late == 0 {
			b.got(w)
		} else {
			b.refused(w, ReasonNoQuorum)
		}
	}
}

// Nothing is adopted by one that is closing.
func TestAdoptAfterClose(t *testing.T) {
	b := enrolled(t, 3)
	b.c.Close(b.now())
	b.perform()
	b.refused(b.adopt("x"), ReasonClosed)
	b.wantNodes(b.take(node.Adopt))
}

// A waiter of this process sends nothing more after the process has adopted the name,
// neither if it was asking who holds the name nor if it was pausing after an attempt.
func TestWaiterStandsBackForAnHeir(t *testing.T) {
	for _, looks := range []bool{true, false} {
		b := enrolled(t, 3)
		patient := b.acquire("x", func(w *Request) { w.Attempts = 100 })
		for _, s := range b.take(node.Grant) {
			b.say(s, node.Other)
		}
		inspects := b.take(node.Inspect)
		if !looks {
			for _, s := range inspects {
				b.say(s, node.OK, theirs)
			}
		}
		w := b.adopt("x")
		for _, s := range b.take(node.Adopt) {
			b.say(s, node.OK)
		}
		b.got(w)
		if looks {
			for _, s := range inspects {
				b.say(s, node.OK, theirs)
			}
		}
		for range 20 {
			b.advance(b.c.settings.RetryMax / 4)
			b.answerAll(nil)
		}
		b.wantNodes(b.take(node.Grant))
		b.waits(patient)
	}
}
