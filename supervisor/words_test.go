package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

func wordy() *Supervisor {
	s := &Supervisor{cfg: Config{MaxTTLCap: time.Minute}}
	l := newLists(node.URLs("redis-a", "redis-b", "redis-c"), nil)
	l.labels, l.quorum = []string{"redis-a", "redis-b", "redis-c"}, 2
	s.lists.Store(l)
	return s
}

// The verdicts of the core are those of the package, by number.
func TestVerdictsAreTheCores(t *testing.T) {
	for ours, cores := range map[Verdict]core.Verdict{
		VerdictSilent: core.VerdictSilent, VerdictGranted: core.VerdictGranted, VerdictFree: core.VerdictFree,
		VerdictHeld: core.VerdictHeld, VerdictGuarded: core.VerdictGuarded, VerdictUnreachable: core.VerdictUnreachable,
		VerdictNotAsked: core.VerdictNotAsked,
	} {
		if Verdict(cores) != ours {
			t.Errorf("%v is %d here and %d there", ours, ours, cores)
		}
	}
}

// How long a key lives may not be known, and it may live for ever: neither is told as a time.
func TestLeftInWords(t *testing.T) {
	r := &core.Report{}
	for _, left := range []time.Duration{0, -1, 1500 * time.Millisecond} {
		r.Answers = append(r.Answers, core.Answer{Verdict: core.VerdictHeld, Left: left})
	}
	for i, want := range []Answer{{}, {NoExpiry: true}, {Left: 1500 * time.Millisecond, LeftKnown: true}} {
		want.Node, want.Verdict, want.Kind = "redis-a", VerdictHeld, KeyOther
		if got := wordy().answers(r)[i]; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	for i, want := range []string{"redis-a: held", "redis-a: held, with no expiry", "redis-a: held for at most 1.5s"} {
		if got := wordy().answers(r)[i].String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	h, err := Holding{}.judge([]core.Answer{{Verdict: core.VerdictHeld, Value: "a", Left: -1}, {Verdict: core.VerdictHeld, Value: "a", Left: -1}, {Verdict: core.VerdictHeld, Value: "a", Left: time.Second}}, 2)
	if err != nil || !h.Held || !h.NoExpiry || h.Left != 0 {
		t.Errorf("a quorum keeps it for ever: %+v, %v", h, err)
	}
	h, err = Holding{}.judge([]core.Answer{{Verdict: core.VerdictHeld, Value: "a", Left: -1}, {Verdict: core.VerdictHeld, Value: "a", Left: time.Second}}, 2)
	if err != nil || !h.Held || h.NoExpiry || h.Left != time.Second {
		t.Errorf("a quorum keeps it for a second: %+v, %v", h, err)
	}

	// A name that was left is free after that. It was left if one node says so: another may not have been told.
	const token = "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	as := []core.Answer{
		{Verdict: core.VerdictHeld, Value: "!" + token, Left: 1500 * time.Millisecond},
		{Verdict: core.VerdictHeld, Value: token, Left: 1500 * time.Millisecond},
	}
	for i, want := range []string{"redis-a: left by me, free in at most 1.5s", "redis-a: held by me for at most 1.5s"} {
		if got := wordy().answers(&core.Report{Answers: as})[i].String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	h, err = Holding{}.judge(as, 2)
	if err != nil || !h.Held || !h.Vacated || h.Owner != "me" || h.Token != token || h.Left != 1500*time.Millisecond {
		t.Errorf("it was left: %+v, %v", h, err)
	}
	if h, err = (Holding{}).judge(append(as[1:], as[1]), 2); err != nil || !h.Held || h.Vacated {
		t.Errorf("it is held: %+v, %v", h, err)
	}
}

// What sort of value a key has is told of each node, and of a quorum.
func TestKeyKinds(t *testing.T) {
	const token = "me/ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, c := range []struct {
		values []string
		want   KeyKind
		held   bool
	}{
		{[]string{token, token, "?" + token}, KeyLease, true},
		{[]string{token, token + "A", token}, KeyLease, true},
		{[]string{"?" + token, "?other", token}, KeyReserved, false},
		{[]string{"8f", "8f", ""}, KeyForeign, true},
		{[]string{"8f", "9a", ""}, KeyForeign, false},
		{[]string{"", "", token}, KeyOther, false},
		{[]string{"", "8f", token}, KeyUnknown, false},
	} {
		r := &core.Report{}
		for _, v := range c.values {
			r.Answers = append(r.Answers, core.Answer{Verdict: core.VerdictHeld, Value: v, Left: time.Second})
		}
		h, err := Holding{}.judge(r.Answers, 2)
		if err != nil || h.Kind != c.want || h.Held != c.held || h.Free {
			t.Errorf("%q: %v, held %t, %v, want %v, %t", c.values, h.Kind, h.Held, err, c.want, c.held)
		}
	}
	as := wordy().answers(&core.Report{Answers: []core.Answer{{Verdict: core.VerdictFree}, {Verdict: core.VerdictHeld, Value: "?" + token}}})
	if as[0].Kind != KeyUnknown || as[1].Kind != KeyReserved {
		t.Errorf("%+v", as)
	}
}

// Each value of an enum has a word of its own, which is read back; any other is its number.
func TestEnums(t *testing.T) {
	check := func(n int, text func(uint8) string, parse func([]byte) (uint8, error), first int, name string) {
		seen := make(map[string]bool)
		for i := range 256 {
			word := text(uint8(i))
			if known := i >= first && i < n; known == strings.Contains(word, "(") || seen[word] {
				t.Errorf("%s %d is called %q", name, i, word)
			}
			if want := fmt.Sprintf("%s(%d)", name, i); (i < first || i >= n) && word != want {
				t.Errorf("%s %d is called %q, want %q", name, i, word, want)
			}
			if back, err := parse([]byte(word)); err != nil || int(back) != i {
				t.Errorf("%q is read as %d, %v, want %d", word, back, err, i)
			}
			seen[word] = true
		}
		for _, bad := range []string{"", "HELD", name + "(1000)", name + "(017)", name + "(200", name + fmt.Sprintf("(%d)", first)} {
			if _, err := parse([]byte(bad)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad)) {
				t.Errorf("%q is read: %v", bad, err)
			}
		}
	}
	check(int(VerdictNotAsked)+1, func(n uint8) string { return Verdict(n).String() },
		func(b []byte) (uint8, error) { var v Verdict; err := v.UnmarshalText(b); return uint8(v), err }, 0, "Verdict")
	check(int(KeyOther)+1, func(n uint8) string { return KeyKind(n).String() },
		func(b []byte) (uint8, error) { var k KeyKind; err := k.UnmarshalText(b); return uint8(k), err }, 0, "KeyKind")
	check(int(EventReconnected)+1, func(n uint8) string { return EventKind(n).String() },
		func(b []byte) (uint8, error) { var k EventKind; err := k.UnmarshalText(b); return uint8(k), err }, 1, "EventKind")
}

// What operators read as JSON has every field that says something, once, durations and errors as
// text, and no token.
func TestJSONForOperators(t *testing.T) {
	for _, v := range []any{
		&Answer{LeftKnown: true}, &Event{}, &NodeStatus{}, &Holding{Held: true},
	} {
		s := reflect.ValueOf(v).Elem()
		want := make(map[string]any)
		for i := range s.NumField() {
			f, name := s.Field(i), s.Type().Field(i).Name
			if f.Type() == reflect.TypeFor[context.Context]() {
				f.Set(reflect.ValueOf(t.Context())) // which says nothing to operators
				continue
			}
			switch f.Interface().(type) {
			case time.Duration:
				f.SetInt(int64(1500 * time.Millisecond))
				want[name] = "1.5s"
			case lease.Token:
				f.SetString("geheim")
			case time.Time:
				f.Set(reflect.ValueOf(time.Unix(0, 0).UTC()))
				want[name] = "1970-01-01T00:00:00Z"
			case bool:
				if want[name] = true; name == "NoExpiry" || name == "LeftKnown" {
					delete(want, name) // they say which field is there
					continue
				}
				f.SetBool(true)
			case Verdict:
				f.SetUint(uint64(VerdictHeld))
				want[name] = "held"
			case KeyKind:
				f.SetUint(uint64(KeyForeign))
				want[name] = "foreign"
			case List:
				f.SetUint(uint64(ListFormer))
				want[name] = "former"
			case node.Stage:
				f.SetUint(uint64(node.StageClosed))
				want[name] = "closed"
			case EventKind:
				f.SetUint(uint64(EventLost))
				want[name] = "lost"
			case []Answer:
				f.Set(reflect.ValueOf([]Answer{{Node: "a", Verdict: VerdictFree}}))
				want[name] = []any{map[string]any{"Node": "a", "Verdict": "free"}}
			case string:
				f.SetString("text")
				want[name] = "text"
			case error, nil:
				f.Set(reflect.ValueOf(errors.New("why")))
				want[name] = "why"
			case float64:
				f.SetFloat(0.5)
				want[name] = 0.5
			case uint64, uint32:
				f.SetUint(17)
				want[name] = 17.0
			case int:
				f.SetInt(17)
				want[name] = 17.0
			default:
				t.Fatalf("%T.%s: of a type that this test does not know", v, name)
			}
		}
		for _, v := range []any{v, s.Interface()} {
			b, err := json.Marshal(v)
			var got map[string]any
			if err == nil {
				err = json.Unmarshal(b, &got)
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%T: %s, %v, want %v", v, b, err, want)
			}
		}
	}
	for _, c := range []struct {
		v    any
		want string
	}{
		{Answer{Node: "a", Verdict: VerdictHeld, NoExpiry: true}, `{"Node":"a","Verdict":"held","NoExpiry":true}`},
		{Holding{Name: "x", Free: true}, `{"Name":"x","Held":false,"Free":true,"Waiting":0,"Nodes":null}`},
		{Holding{Name: "x", Held: true, NoExpiry: true}, `{"Name":"x","Held":true,"Free":false,"NoExpiry":true,"Waiting":0,"Nodes":null}`},
		{Event{Kind: EventKind(17)}, `{"Kind":"EventKind(17)"}`},
	} {
		if b, err := json.Marshal(c.v); err != nil || string(b) != c.want {
			t.Errorf("%s, %v, want %s", b, err, c.want)
		}
	}
}

// Every warning names the nodes and the figures that it is about.
func TestWarningsInWords(t *testing.T) {
	s := wordy()
	for _, c := range []struct {
		w    core.Warning
		want []string
	}{
		{core.Warning{Kind: core.WarnPaused, Node: 1, Count: 2, Time: time.Hour, Of: time.Second}, []string{"2 nodes", "redis-b by 1h0m0s in 1s", "paused?"}},
		{core.Warning{Kind: core.WarnNoGuard, Node: 1}, []string{"redis-b", "incarnation"}},
		{core.Warning{Kind: core.WarnEvicts, Node: 2, Policy: "allkeys-lru"}, []string{"redis-c", "allkeys-lru", "noeviction"}},
		{core.Warning{Kind: core.WarnCap, Node: 1, Time: time.Hour}, []string{"redis-b", "1h0m0s", "MaxTTLCap is 1m0s"}},
		{core.Warning{Kind: core.WarnTwins, Node: 0, Other: 2}, []string{"redis-a and redis-c are the same database of one server"}},
		{core.Warning{Kind: core.WarnDatabases, Node: 2, Other: 0}, []string{"redis-a and redis-c are two databases of one server"}},
		{core.Warning{Kind: core.WarnDisagreement, Node: 1, Count: 5}, []string{"redis-b: other clients use 5 nodes, and this client uses 3"}},
		{core.Warning{Kind: core.WarnDisagreement, Node: 1, Count: 3, Unknown: 1}, []string{"redis-b: other clients use 3 nodes, 1 of them unknown to this client"}},
		{core.Warning{Kind: core.WarnClocksApart, Node: 0, Other: 1, Time: 2 * time.Hour}, []string{"the clock of redis-a is 2h0m0s ahead of that of redis-b"}},
		{core.Warning{Kind: core.WarnYoung, Count: 2, Time: time.Minute}, []string{"2 of 3 nodes are young:", "used for the first time", "1m0s"}},
		{core.Warning{Kind: core.WarnYoung, Count: 1, Down: 1, Time: time.Minute}, []string{"1 of 3 nodes are young, and 1 more cannot be reached:", "1m0s"}},
	} {
		for _, want := range c.want {
			if got := s.warning(&c.w).Error(); !strings.Contains(got, want) {
				t.Errorf("%q: want %q in it", got, want)
			}
		}
	}
}

// Every reason of the core is an error of the package, or of package lease.
func TestReasonsInWords(t *testing.T) {
	s := wordy()
	cause := errors.New("the context's")
	for r := core.ReasonHeld; r <= core.ReasonFormerHolder; r++ {
		e := s.acquireError(opAcquire, &core.Report{Key: "x", Reason: r, Twins: core.Twins{First: 0, Second: 1}}, cause)
		if !errors.Is(e, reasons[r]) || !strings.HasPrefix(e.Error(), `acquire "x": `) {
			t.Errorf("reason %d: %v", r, e)
		}
		if errors.Is(e, cause) != (r != core.ReasonClosed) {
			t.Errorf("reason %d: %v: the cause is told %v", r, e, errors.Is(e, cause))
		}
	}
	for r := core.ReasonReleased; r <= core.ReasonMaxHold; r++ {
		if end := endOf(r); end == nil || errors.Is(end, lease.ErrLost) == (r <= core.ReasonHandedOver) {
			t.Errorf("reason %d: %v", r, end)
		}
	}
	if endOf(core.ReasonClosed) != lease.ErrClosed {
		t.Errorf("closed: %v", endOf(core.ReasonClosed))
	}
	for end, want := range map[error]core.Reason{
		lease.ErrReleased: core.ReasonReleased, lease.ErrHandedOver: core.ReasonHandedOver, lease.ErrExpired: core.ReasonExpired,
	} {
		if got := reasonOf(end); got != want {
			t.Errorf("%v: reason %d, want %d", end, got, want)
		}
	}
}

// What a caller is told who has given up, or whose call could not be confirmed.
func TestCallsInWords(t *testing.T) {
	s := wordy()
	unconfirmed := &core.Report{
		Key: "x", Reason: core.ReasonUnconfirmed, Left: time.Second,
		Answers: []core.Answer{{Node: 1}, {Node: 2, Verdict: core.VerdictUnreachable, Err: core.FaultTwin}},
		Twins:   core.Twins{First: 0, Second: 2},
	}
	for _, c := range []struct {
		op    string
		r     *core.Report
		cause error
		is    error
		has   string
	}{
		{opRelease, nil, nil, nil, ""},
		{opRelease, unconfirmed, context.Canceled, context.Canceled, "redis-c: unreachable (broken configuration: redis-a and redis-c are the same database"},
		{opGive, &core.Report{Reason: core.ReasonKept}, context.Canceled, context.Canceled, ""},
		{opGive, &core.Report{Reason: core.ReasonHandingOver}, nil, errHandingOver, ""},
		{opExtend, &core.Report{Reason: core.ReasonLost}, nil, lease.ErrLost, ""},
		{opExtend, &core.Report{Reason: core.ReasonClosed}, nil, lease.ErrClosed, ""},
		{opRevoke, &core.Report{Key: "x", Reason: core.ReasonClosed}, nil, ErrClosed, `revoke "x": `},
		{opRevoke, &core.Report{Key: "x", Reason: core.ReasonNotHolder}, nil, ErrNotHolder, `revoke "x": `},
	} {
		err := s.failed(&call{op: c.op, cause: c.cause}, c.r)
		if !errors.Is(err, c.is) || c.has != "" && !strings.Contains(err.Error(), c.has) {
			t.Errorf("%s: %v, want %v, and %q in it", c.op, err, c.is, c.has)
		}
	}
}

// That the supervisor is closed is one reason, whether it ends a lease or an acquisition.
func TestClosedIsOne(t *testing.T) {
	refused := &AcquireError{Op: opAcquire, Name: "x", why: ErrClosed}
	for _, c := range []struct {
		err, target error
		want        bool
	}{
		{ErrClosed, lease.ErrClosed, true},
		{lease.ErrClosed, ErrClosed, true},
		{refused, lease.ErrClosed, true},
		{fmt.Errorf("wrapped: %w", lease.ErrClosed), ErrClosed, true},
		{lease.ErrClosed, lease.ErrLost, true},
		{ErrClosed, lease.ErrLost, false},
		{ErrHeld, lease.ErrClosed, false},
		{lease.ErrExpired, ErrClosed, false},
		{lease.ErrClosed, ErrHeld, false},
	} {
		if got := errors.Is(c.err, c.target); got != c.want {
			t.Errorf("errors.Is(%v, %v) is %v", c.err, c.target, got)
		}
	}
}

// What nobody asked for is told at level warn, and what is ordinary at level debug. What ends
// because of Close, which cuts connections, warns nobody.
func TestLog(t *testing.T) {
	why := errors.New("why")
	for _, closing := range []bool{false, true} {
		cut := "WARN"
		if closing {
			cut = "INFO"
		}
		for _, c := range []struct {
			e    Event
			want string
		}{
			{Event{Kind: EventAcquired, Name: "x", Fence: 7, Waited: time.Second, Elapsed: time.Minute}, "INFO msg=acquired name=x fence=7 waited=1s elapsed=1m0s"},
			{Event{Kind: EventReleased}, "INFO msg=released"},
			{Event{Kind: EventReleased, Elapsed: time.Minute}, "INFO msg=released held=1m0s"},
			{Event{Kind: EventLost, Elapsed: time.Minute}, "WARN msg=lost held=1m0s"},
			{Event{Kind: EventYoung, Elapsed: time.Minute}, `INFO msg="nodes are young" left=1m0s`},
			{Event{Kind: EventFailed, Err: why}, `DEBUG msg="not acquired" error=why`},
			{Event{Kind: EventFailed, Err: ErrClosed}, `INFO msg="not acquired" error="` + ErrClosed.Error() + `"`},
			{Event{Kind: EventWaiting}, "DEBUG msg=waiting"},
			{Event{Kind: EventLost, Err: why}, "WARN msg=lost error=why"},
			{Event{Kind: EventLost, Err: lease.ErrClosed}, `INFO msg=lost error="` + lease.ErrClosed.Error() + `"`},
			{Event{Kind: EventNodeUp, Node: "a:1"}, `INFO msg="node up" node=a:1`},
			{Event{Kind: EventNodeDown, Err: why}, `WARN msg="node down" error=why`},
			{Event{Kind: EventNodeDown, Err: context.Canceled}, cut + ` msg="node down" error="context canceled"`},
			{Event{Kind: EventReconnected}, `DEBUG msg="node reconnected"`},
			{Event{Kind: EventWarning}, "WARN msg=warning"},
			{Event{Kind: EventYoung}, `INFO msg="nodes are young"`},
		} {
			var logged bytes.Buffer
			s := &Supervisor{stop: make(chan struct{})}
			s.cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{
				Level: slog.LevelDebug,
				ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
					if a.Key == slog.TimeKey {
						return slog.Attr{}
					}
					return a
				},
			}))
			if closing {
				close(s.stop)
			}
			s.announce(c.e)
			if got, want := logged.String(), "level="+c.want+"\n"; got != want {
				t.Errorf("closing: %v: %q, want %q", closing, got, want)
			}
		}
	}
}

// docs/metrics.md lists the message, the level and the keys of every kind of event.
func TestLinesOfTheLog(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string) // by message: the level and the keys
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z ]+)` \\| (debug|info|warn) \\| (.+) \\|$").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = m[2] + " " + strings.ReplaceAll(m[3], "`", "")
	}
	for _, e := range []Event{
		{Kind: EventAcquired, Name: "x", Fence: 1, Waited: 2, Elapsed: 1, Raise: 1, Ctx: t.Context()},
		{Kind: EventFailed, Name: "x", Err: ErrHeld, Waited: 1, Ctx: t.Context()},
		{Kind: EventReleased, Name: "x", Fence: 1, Elapsed: 1, Err: lease.ErrHandedOver},
		{Kind: EventLost, Name: "x", Fence: 1, Elapsed: 1, Err: lease.ErrExpired},
		{Kind: EventNodeUp, Node: "a:1"},
		{Kind: EventNodeDown, Node: "a:1", Err: errors.New("refused")},
		{Kind: EventWarning, Node: "a:1", Err: errors.New("wrong")},
		{Kind: EventWaiting, Name: "x", Ctx: t.Context()},
		{Kind: EventYoung, Err: errors.New("young"), Elapsed: 1},
		{Kind: EventReconnected, Node: "a:1", Err: errors.New("idle")},
	} {
		line := func(e Event) (logged string) {
			var out bytes.Buffer
			s := wordy()
			s.cfg.Logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			s.announce(e)
			var keys []string
			level := ""
			for d := json.NewDecoder(&out); ; {
				token, err := d.Token()
				if err != nil {
					break
				}
				key, is := token.(string)
				if !is {
					continue // a brace
				}
				value, _ := d.Token()
				switch key {
				case slog.TimeKey:
				case slog.LevelKey:
					level = strings.ToLower(fmt.Sprint(value))
				case slog.MessageKey:
					if value != e.Kind.String() {
						t.Errorf("%v is logged as %v", e.Kind, value)
					}
				default:
					keys = append(keys, key)
				}
			}
			return level + " " + strings.Join(keys, ", ")
		}
		if got := line(e); got != listed[e.Kind.String()] {
			t.Errorf("%v is logged as %q, and docs/metrics.md says %q", e.Kind, got, listed[e.Kind.String()])
		}
		delete(listed, e.Kind.String())
		if e.Kind == EventLost {
			e.Err = lease.ErrClosed
			if got := line(e); !strings.HasPrefix(got, "info ") {
				t.Errorf("what Close ends is logged as %q", got)
			}
		}
	}
	if len(listed) != 0 || int(EventReconnected) != len(eventKinds.Words)-1 {
		t.Errorf("docs/metrics.md lists %v, of no kind of event", listed)
	}
}
