package supervisor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// In an unexported field package fmt asks no value how it wants to be printed.
type hiding[T any] struct{ v T }

// hidden returns a value in whatever users may keep it in.
func hidden[T any](v T) []any {
	h := hiding[T]{v}
	return []any{
		v, &v, []T{v}, map[string]T{"a": v}, struct{ V T }{v}, struct{ V *T }{&v},
		h, &h, []hiding[T]{h}, map[string]hiding[T]{"a": h}, hiding[hiding[T]]{h}, struct{ V hiding[T] }{h},
		hiding[*T]{&v}, hiding[any]{v}, hiding[any]{&v}, hiding[any]{h}, hiding[[]T]{[]T{v}}, hiding[[1]T]{[1]T{v}}, hiding[map[int]T]{map[int]T{1: v}},
		hiding[*hiding[T]]{&h}, fmt.Errorf("%v: %w", v, fmt.Errorf("%v", h)),
	}
}

// No verb of package fmt shows a token or a password of what a user has in hand, wherever it is.
func TestNoVerbShowsASecret(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		const password = "PASSWORD"
		option := nodes[0].Option("")
		option.Password = password
		nodes[0].RequirePass(password)
		var cfg supervisor.Config
		sup := start(t, nodes, func(c *supervisor.Config) {
			c.Nodes = []node.Conn{node.FromOption(option), nodes[1].Conn(), nodes[2].Conn()}
			cfg = *c
		})
		held := acquire(t, sup, "x")
		_, token, _ := strings.Cut(string(held.Token()), "/")
		h, err := sup.Inspect(t.Context(), "x")
		if err != nil || h.Token != held.Token() {
			t.Fatalf("%v, %v", h, err)
		}
		_, refused := sup.TryAcquire(t.Context(), "x")
		if err := sup.Revoke(t.Context(), "x", held.Token()); err != nil {
			t.Fatal(err)
		}
		<-held.Lost()
		other, control := lease.New(lease.Spec{Name: "n", Token: held.Token()})
		released := acquire(t, sup, "y")
		nodes[1].Crash()
		nodes[2].Hang()
		unconfirmed := released.Release(canceled())
		_ = sup.Close(canceled()) // or fmt would read what its loop writes
		synctest.Wait()

		var all []any
		all = append(all, hidden(held)...)
		all = append(all, hidden(other)...)
		all = append(all, hidden(control)...)
		all = append(all, hidden(cfg)...)
		all = append(all, hidden(cfg.Nodes[0])...)
		all = append(all, hidden(node.URL("redis://me:"+password+"@host:1"))...)
		all = append(all, hidden(sup)...)
		all = append(all, hidden(held.Context(t.Context()))...)
		for _, err := range []error{refused, held.Err(), unconfirmed} {
			if err == nil {
				t.Error("not an error")
			}
			all = append(all, hidden(err)...)
		}
		// Its token is in a field, which has a method for that. Package fmt asks none for %p and %w,
		// which go vet finds.
		holdings := []any{h, &h, []supervisor.Holding{h}, []*supervisor.Holding{&h}, map[string]*supervisor.Holding{"a": &h}, struct{ H *supervisor.Holding }{&h}}
		for i, v := range append(holdings, all...) {
			for verb := 'A'; verb <= 'z'; verb++ {
				if i < len(holdings) && (verb == 'p' || verb == 'w') {
					continue
				}
				for _, flag := range []string{"", "+", "#"} {
					text := fmt.Sprintf("%"+flag+string(verb), v)
					for _, secret := range []string{token, password} {
						if strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", secret)) {
							t.Errorf("%T is printed by %%%s%c as %s", v, flag, verb, text)
						}
					}
				}
			}
		}
	})
}

// Whatever says why something has failed says so in JSON too, in which errors are {} otherwise.
func TestReasonsInJSON(t *testing.T) {
	why := errors.New("it is full")
	answer := supervisor.Answer{Node: "a:1", Verdict: supervisor.VerdictUnreachable, Err: why}
	for _, c := range []struct {
		v    any
		want string
	}{
		{answer, `{"Node":"a:1","Verdict":"unreachable","Err":"it is full"}`},
		{[]*supervisor.Answer{{Verdict: supervisor.VerdictHeld, Owner: "me", Left: time.Minute, LeftKnown: true}}, `[{"Node":"","Verdict":"held","Owner":"me","Left":"1m0s"}]`},
		{&supervisor.ReleaseError{Name: "x", Nodes: []supervisor.Answer{answer}, Left: time.Second},
			`"release \"x\": not confirmed by a quorum; the key may remain for up to 1s on: a:1: unreachable (it is full)"`},
		{lease.NodeReason{Node: "a:1", Err: why}, `{"Node":"a:1","Err":"it is full"}`},
		{lease.NodeReason{Node: "a:1"}, `{"Node":"a:1","Err":""}`},
		{&lease.LostError{Kind: lease.ErrTaken, Nodes: []lease.NodeReason{{Node: "a:1", Err: why}}},
			`"lease: lost: taken: too many nodes keep another value, or none: a:1: it is full"`},
		{supervisor.Event{Kind: supervisor.EventLost, Name: "x", Err: lease.ErrMaxHold},
			`{"Kind":"lost","Name":"x","Err":"lease: lost: held for its maximum"}`},
	} {
		if b, err := json.Marshal(c.v); err != nil || string(b) != c.want {
			t.Errorf("%s, %v\nwant %s", b, err, c.want)
		}
	}
	b, err := json.Marshal(supervisor.NodeStatus{Node: "a:1", Err: why, NoInbox: why})
	if text := string(b); err != nil || !strings.Contains(text, `"Err":"it is full","NoInbox":"it is full"`) || strings.Contains(text, "{}") {
		t.Errorf("%s, %v", b, err)
	}
	if b, err := json.Marshal(supervisor.NodeStatus{}); err != nil || strings.Contains(string(b), `"Err"`) {
		t.Errorf("%s, %v", b, err)
	}
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		_, err := start(t, nodes).Acquire(canceled(), "x")
		var logged strings.Builder
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "error", err)
		const want = `"acquire \"x\": not tried: context canceled"`
		if b, e := json.Marshal(err); e != nil || string(b) != want || !strings.Contains(logged.String(), `"error":`+want) {
			t.Errorf("%s, %v, and %s in a log", b, e, &logged)
		}
	})
}
