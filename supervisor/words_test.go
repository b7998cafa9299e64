package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor/internal/core"
)

func wordy() *Supervisor {
	return &Supervisor{cfg: Config{MaxTTLCap: time.Minute}, labels: []string{"redis-a", "redis-b", "redis-c"}, quorum: 2}
}

// The verdicts of the core are those of the package, by number.
func TestVerdictsAreTheCores(t *testing.T) {
	for ours, cores := range map[Verdict]core.Verdict{
		Silent: core.VerdictSilent, Granted: core.VerdictGranted, Free: core.VerdictFree,
		Held: core.VerdictHeld, Guarded: core.VerdictGuarded, Unreachable: core.VerdictUnreachable,
	} {
		if Verdict(cores) != ours {
			t.Errorf("%v is %d here and %d there", ours, ours, cores)
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
		{core.Warning{Kind: core.WarnDisagreement, Node: 1, Count: 3, Unknown: 1}, []string{"redis-b: other clients use 3 nodes, of which this client does not know 1"}},
		{core.Warning{Kind: core.WarnClocksApart, Node: 0, Other: 1, Time: 2 * time.Hour}, []string{"the clock of redis-a is 2h0m0s ahead of that of redis-b"}},
		{core.Warning{Kind: core.WarnYoung, Count: 2, Time: time.Minute}, []string{"2 of 3 nodes are young", "used for the first time", "1m0s"}},
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
	refused := &AcquireError{Name: "x", why: ErrClosed}
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
