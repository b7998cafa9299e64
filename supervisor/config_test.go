package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A broken configuration is one error, which says of every broken rule, and of no
// other, what was given and what is wanted.
func TestBrokenConfiguration(t *testing.T) {
	var many []string
	for i := range 65 {
		many = append(many, fmt.Sprintf("h%d:6379", i))
	}
	nowhere := nodetest.New().Option("")
	nowhere.InitAddress = nil
	for name, c := range map[string]struct {
		cfg  supervisor.Config
		want []string // in this order, a line each
	}{
		"too many nodes": {
			supervisor.Config{Nodes: node.URLs(many...)}, []string{"Nodes: 65 given: want 1 to 64"},
		},
		"a node twice": {
			supervisor.Config{Nodes: node.URLs("h1:6379", "h2:6379", "redis://me:secret@H1:6379")},
			[]string{"Nodes[2] is the same node as Nodes[0]: H1:6379: want each node once"},
		},
		"a former node twice": {
			supervisor.Config{Nodes: node.URLs("h1:6379"), Former: node.URLs("h1:6379", "h2:6379", "H2")},
			[]string{"Former[2] is the same node as Former[1]: H2:6379: want each node once"},
		},
		"too many former nodes": {
			supervisor.Config{Nodes: node.URLs("a:6379"), Former: node.URLs(many...)}, []string{"Former: 65 given: want at most 64"},
		},
		"too many nodes in both lists": {
			supervisor.Config{Nodes: node.URLs(many[:33]...), Former: node.URLs(many[32:]...)}, []string{"Nodes and Former: 65 nodes together: want at most 64"},
		},
		"a former node that is broken": {
			supervisor.Config{Nodes: node.URLs("h1:6379"), Former: node.URLs("redis://me:secret@h2:port")}, []string{`Former[0]: node: URL "redis://h2:port"`},
		},
		"former nodes alone": {
			supervisor.Config{Former: node.URLs("h1:6379", "h2:6379")}, []string{"Nodes: none given with 2 in Former"},
		},
		"the same nodes": {
			supervisor.Config{Nodes: node.URLs("h1:6379", "h2:6379", "h3:6379"), Former: node.URLs("h3:6379", "h1:6379", "h2:6379")},
			[]string{"Former: the same 3 nodes as Nodes: want it empty if no node is changed"},
		},
		"former nodes without a guard": {
			supervisor.Config{Nodes: node.URLs("h1:6379"), Former: node.URLs("h2:6379"), DisableGuard: true}, []string{"Former of 1 nodes with DisableGuard: want the guard on"},
		},
		"an empty node": {
			supervisor.Config{Nodes: make([]node.Conn, 1)}, []string{"Nodes[0]: node: empty connection"},
		},
		"a client that is nil": {
			supervisor.Config{Nodes: []node.Conn{node.FromClient(nil)}}, []string{"Nodes[0]: node: no client"},
		},
		"an option without an address": {
			supervisor.Config{Nodes: []node.Conn{node.FromOption(nowhere)}}, []string{"Nodes[0]: ", "no address"},
		},
		"a wrong port": {
			supervisor.Config{Nodes: node.URLs("h1:6379", "redis://me:secret@h2:port")}, []string{`Nodes[1]: node: URL "redis://h2:port"`},
		},
		"all nodes in one text": {
			supervisor.Config{Nodes: node.URLs("redis://me:secret@h1:1,redis://me:secret@h2:2")}, []string{"want one URL for each node"},
		},
		"all nodes in one text, without schemes": {
			supervisor.Config{Nodes: node.URLs("h1:1,h2:2")}, []string{`Nodes[0]: node: URL "redis://h1:1,h2:2": `, "want one URL for each node"},
		},
		"all hosts in one text": {
			supervisor.Config{Nodes: node.URLs("h1,h2")}, []string{`Nodes[0]: node: URL "redis://h1,h2": `, "want one URL for each node"},
		},
		"no URL": {
			supervisor.Config{Nodes: node.URLs("")}, []string{`Nodes[0]: node: URL "": empty: want one URL for each node`},
		},
		"a wrong scheme": {
			supervisor.Config{Nodes: node.URLs("http://me:secret@h1:6379")}, []string{`Nodes[0]: node: URL "http://h1:6379"`},
		},
		"a wrong db": {
			supervisor.Config{Nodes: node.URLs("redis://:secret@h1:6379/one")}, []string{`Nodes[0]: node: URL "redis://h1:6379/one"`},
		},
		"a password with a slash": {
			supervisor.Config{Nodes: node.URLs("redis://:secret/more@h1:6379")}, []string{"Nodes[0]: node: URL "},
		},
		"a TTL that is too short": {
			good(supervisor.Config{TTL: 99 * time.Millisecond}), []string{"TTL 99ms: want at least 100ms"},
		},
		"a TTL that is too short by a nanosecond": {
			good(supervisor.Config{TTL: 100*time.Millisecond - 1}), []string{"TTL 99.999999ms: want at least 100ms"},
		},
		"a TTL without a unit": {
			good(supervisor.Config{TTL: 30}), []string{"TTL 30ns: want at least 100ms"},
		},
		"MaxTTL below TTL": {
			good(supervisor.Config{TTL: 5 * time.Second, MaxTTL: 4 * time.Second}), []string{"MaxTTL 4s: want at least TTL = 5s"},
		},
		"a negative interval": {
			good(supervisor.Config{RenewEvery: -1}), []string{"RenewEvery -1ns: want more than 0"},
		},
		"a negative node timeout": {
			good(supervisor.Config{NodeTimeout: -time.Second}), []string{"NodeTimeout -1s: want more than 0"},
		},
		"a node timeout that is too long": {
			good(supervisor.Config{TTL: time.Second, RenewEvery: time.Millisecond, NodeTimeout: 251 * time.Millisecond}),
			[]string{"NodeTimeout 251ms: want at most TTL/4 = 250ms"},
		},
		"a renewal that does not fit": {
			good(supervisor.Config{TTL: 10 * time.Second, RenewEvery: 7 * time.Second, NodeTimeout: time.Second, Grace: time.Second, Drift: time.Second}),
			[]string{"RenewEvery 7s + NodeTimeout 1s + Grace 1s + Drift 1s = 10s: want less than TTL = 10s"},
		},
		"a negative drift": {
			good(supervisor.Config{Drift: -1}), []string{"Drift -1ns: want 0 or more"},
		},
		"too little grace": {
			good(supervisor.Config{Grace: 9 * time.Millisecond}), []string{"Grace 9ms: want at least 10ms"},
		},
		"a negative pause": {
			good(supervisor.Config{RetryMin: -1, RetryMax: time.Second}), []string{"RetryMin -1ns: want more than 0"},
		},
		"the longest pause below the shortest": {
			good(supervisor.Config{RetryMin: time.Second, RetryMax: time.Millisecond}), []string{"RetryMax 1ms: want at least RetryMin = 1s"},
		},
		"an owner that is too long": {
			good(supervisor.Config{Owner: strings.Repeat("o", 129)}), []string{"Owner of 129 bytes: want at most 128"},
		},
		"a prefix that is too long": {
			good(supervisor.Config{Prefix: strings.Repeat("p", 512)}), []string{"Prefix of 512 bytes: want less than 512"},
		},
		"a reserved prefix": {
			good(supervisor.Config{Prefix: "leasehold:mine:"}), []string{`Prefix "leasehold:mine:": must not begin with "leasehold:" (reserved)`},
		},
		"times that are too long": {
			good(supervisor.Config{
				TTL: math.MaxInt64, MaxTTL: math.MaxInt64, MaxTTLCap: math.MaxInt64, Drift: math.MaxInt64, RenewEvery: math.MaxInt64, Grace: math.MaxInt64,
				NodeTimeout: math.MaxInt64, RetryMin: math.MaxInt64, RetryMax: math.MaxInt64, GuardWindow: math.MaxInt64,
			}),
			[]string{
				"TTL 2562047h47m16.854775807s: want at most 8760h", "MaxTTL 25", "MaxTTLCap 25", "Drift 25", "RenewEvery 25", "Grace 25",
				"NodeTimeout 25", "RetryMin 25", "RetryMax 25", "GuardWindow 2562047h47m16.854775807s: want at most 17520h",
			},
		},
		"a MaxTTL that is too long": {
			good(supervisor.Config{MaxTTL: math.MaxInt64}), []string{"MaxTTL 2562047h47m16.854775807s: want at most 8760h"},
		},
		"a MaxTTL above that of all clients": {
			good(supervisor.Config{MaxTTL: 61 * time.Second}), []string{"MaxTTL 1m1s: want at most MaxTTLCap = 1m0s"},
		},
		"a drift that is too long": {
			good(supervisor.Config{Drift: math.MaxInt64}), []string{"Drift 2562047h47m16.854775807s: want at most 8760h"},
		},
		"a pause that is too long": {
			good(supervisor.Config{RetryMax: 8760*time.Hour + 1}), []string{"RetryMax 8760h0m0.000000001s: want at most 8760h"},
		},
		"everything at once": {
			supervisor.Config{
				Nodes: append(node.URLs("h1:1", "h1:1"), node.Conn{}), TTL: time.Second, MaxTTL: time.Millisecond,
				NodeTimeout: time.Minute, Grace: 1, Drift: -1, RetryMin: -1, Prefix: "leasehold:",
			},
			[]string{"Nodes[1] is", "Nodes[2]: ", "MaxTTL 1ms", "RetryMin -1ns", "Drift -1ns", "Grace 1ns", "NodeTimeout 1m0s", "= 1m0.333", `Prefix "leasehold:"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sup, err := supervisor.New(c.cfg)
			if err == nil {
				sup.Close(canceled())
				t.Fatal("accepted")
			}
			text := err.Error()
			rest := text
			for _, want := range c.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("%s\nwant %q", text, want)
				}
				rest = after
			}
			if lines := strings.Count(text, "\n"); lines > len(c.want) {
				t.Errorf("%d rules are said to be broken, want %d:\n%s", lines, len(c.want), text)
			}
			if strings.Contains(text, "secret") {
				t.Errorf("a password is shown: %s", text)
			}
		})
	}
}

// good gives a configuration the nodes that it needs to be complete.
func good(cfg supervisor.Config) supervisor.Config {
	cfg.Nodes = node.URLs("h1:6379", "h2:6379", "h3:6379")
	return cfg
}

// The largest of everything is accepted, and works.
func TestLargestConfiguration(t *testing.T) {
	bubble(t, 64, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.TTL, cfg.MaxTTL, cfg.RetryMax = 100*time.Millisecond, 24*time.Hour, 8760*time.Hour
			cfg.MaxTTLCap = cfg.MaxTTL
			cfg.Owner = strings.Repeat("o", 128)
			cfg.Prefix = strings.Repeat("p", 511)
		})
		held := acquire(t, sup, "x", supervisor.WithTTL(24*time.Hour))
		synctest.Wait() // the late grants count too
		wantKeys(t, nodes, strings.Repeat("p", 511)+"x", string(held.Token()), 64)
		if h, err := sup.Inspect(within(t, time.Minute), "x"); err != nil || !h.Held || len(h.Nodes) != 64 || h.Nodes[63].Verdict != supervisor.VerdictHeld {
			t.Errorf("%+v, %v", h, err)
		}
		for _, n := range nodes[:31] {
			n.Crash()
		}
		if err := held.Extend(t.Context(), time.Second); err != nil {
			t.Error(err)
		}
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The same server is another node in another database or behind another master
// set: whether that is wise is the user's matter.
func TestNodesThatLookAlike(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		other := nodes[0].Option("")
		other.SelectDB = 1
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Nodes = append(cfg.Nodes, node.FromOption(other))
		})
		if n := len(sup.Nodes()); n != 2 {
			t.Errorf("%d nodes", n)
		}
	})
}

// Bad arguments are refused at once and whole, before any node is asked.
func TestBrokenArguments(t *testing.T) {
	long := strings.Repeat("n", 513)
	for name, c := range map[string]struct {
		name string
		opts []supervisor.Option
		want []string
	}{
		"an empty name":                         {"", nil, []string{`name "": must not be empty`}},
		"a name that is too long":               {long, nil, []string{"of 513 bytes with its prefix: want at most 512"}},
		"a reserved name":                       {"leasehold:{x}:fence", nil, []string{`name "leasehold:{x}:fence": must not begin with "leasehold:" (reserved)`}},
		"a TTL above MaxTTL":                    {"x", opts(supervisor.WithTTL(time.Minute)), []string{"TTL 1m0s: want at most MaxTTL = 20s: raise Config.MaxTTL"}},
		"a TTL that is too short":               {"x", opts(supervisor.WithTTL(99 * time.Millisecond)), []string{"TTL 99ms: want at least 100ms"}},
		"a TTL without a unit":                  {"x", opts(supervisor.WithTTL(30)), []string{"TTL 30ns: want at least 100ms"}},
		"no TTL":                                {"x", opts(supervisor.WithTTL(0)), []string{"TTL 0s: want at least 100ms"}},
		"a TTL too short for the node timeout":  {"x", opts(supervisor.WithTTL(time.Second)), []string{"NodeTimeout 500ms: want at most TTL/4 = 250ms"}},
		"no attempts":                           {"x", opts(supervisor.WithAttempts(0)), []string{"WithAttempts 0: want at least 1"}},
		"fewer than no attempts":                {"x", opts(supervisor.WithAttempts(-1)), []string{"WithAttempts -1: want at least 1"}},
		"a negative time to hold":               {"x", opts(supervisor.WithMaxHold(-time.Second)), []string{"WithMaxHold -1s: want more than 0"}},
		"no time to hold":                       {"x", opts(supervisor.WithMaxHold(0)), []string{"WithMaxHold 0s: want more than 0"}},
		"an owner that is too long":             {"x", opts(supervisor.WithOwner(strings.Repeat("o", 129))), []string{"WithOwner of 129 bytes: want at most 128"}},
		"an empty owner":                        {"x", opts(supervisor.WithOwner("")), []string{"WithOwner: must not be empty"}},
		"an owner like a reservation":           {"x", opts(supervisor.WithOwner("?me")), []string{`WithOwner "?me": must not begin with "?"`}},
		"an owner like a key that was left":     {"x", opts(supervisor.WithOwner("!me")), []string{`WithOwner "!me": must not begin with "!"`}},
		"no time to stay taken":                 {"x", opts(supervisor.WithMinHold(0)), []string{"WithMinHold 0s: want more than 0 and at most 8760h"}},
		"a negative time to stay taken":         {"x", opts(supervisor.WithMinHold(-1)), []string{"WithMinHold -1ns: want more than 0"}},
		"a time to stay taken that is too long": {"x", opts(supervisor.WithMinHold(8760*time.Hour + 1)), []string{"WithMinHold 8760h0m0.000000001s: want more than 0 and at most 8760h"}},
		"a negative cool-down":                  {"x", opts(supervisor.WithCoolDown(-1)), []string{"WithCoolDown -1ns: want 0 to 8760h"}},
		"a time to hold that is too long":       {"x", opts(supervisor.WithMaxHold(math.MaxInt64)), []string{"WithMaxHold 2562047h47m16.854775807s: want more than 0 and at most 8760h"}},
		"a cool-down that is too long":          {"x", opts(supervisor.WithCoolDown(8760*time.Hour + 1)), []string{"WithCoolDown 8760h0m0.000000001s: want 0 to 8760h"}},
		"everything at once": {
			"", opts(supervisor.WithTTL(time.Hour), supervisor.WithAttempts(0), supervisor.WithMaxHold(-1), supervisor.WithMinHold(-1), supervisor.WithOwner("?"), supervisor.WithCoolDown(-1)),
			[]string{`name ""`, "TTL 1h0m0s", "WithAttempts 0", "WithMaxHold -1ns", "WithMinHold -1ns", `WithOwner "?"`, "WithCoolDown -1ns"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
				sup := start(t, nodes, func(cfg *supervisor.Config) {
					cfg.TTL, cfg.MaxTTL, cfg.NodeTimeout = 10*time.Second, 20*time.Second, 500*time.Millisecond
				})
				ctx := within(t, time.Hour) // what is accepted may wait for ever
				_, err := sup.Acquire(ctx, c.name, c.opts...)
				_, try := sup.TryAcquire(ctx, c.name, c.opts...)
				_, all := sup.AcquireAll(ctx, []string{c.name}, c.opts...)
				_, some := sup.AcquireAny(ctx, []string{c.name}, c.opts...)
				calls := map[string]error{
					"Acquire": err, "TryAcquire": try, "AcquireAll": all, "AcquireAny": some,
					"Do":   sup.Do(ctx, c.name, never(t), c.opts...),
					"Lead": sup.Lead(ctx, c.name, never(t), c.opts...),
				}
				_, calls["Once"] = sup.Once(ctx, c.name, time.Minute, never(t), c.opts...)
				// What is wrong with an option that a call cannot use, it does not say.
				words := strings.Join(c.want, " ")
				if strings.Contains(words, "WithCoolDown") {
					calls = map[string]error{"Lead": calls["Lead"]}
				}
				if strings.Contains(words, "WithAttempts") {
					delete(calls, "TryAcquire")
					delete(calls, "Once")
					delete(calls, "AcquireAny")
				}
				if strings.Contains(words, "WithMinHold") {
					delete(calls, "AcquireAll")
					delete(calls, "Once")
				}
				if len(c.opts) == 0 {
					_, calls["Inspect"] = sup.Inspect(ctx, c.name)
					calls["StepDown"] = sup.StepDown(ctx, c.name)
					calls["Revoke"] = sup.Revoke(ctx, c.name, "me/1")
					for _, calls["Watch"] = range sup.Watch(ctx, c.name) {
					}
				}
				for call, err := range calls {
					if err == nil {
						t.Errorf("%s: accepted", call)
						continue
					}
					for _, want := range c.want {
						if !strings.Contains(err.Error(), want) {
							t.Errorf("%s: %v\nwant %q", call, err, want)
						}
					}
					if lines := 1 + strings.Count(err.Error(), "\n"); lines > len(c.want) {
						t.Errorf("%s: %d rules are said to be broken, want %d:\n%v", call, lines, len(c.want), err)
					}
					if errors.Is(err, supervisor.ErrHeld) || errors.Is(err, supervisor.ErrNoQuorum) {
						t.Errorf("%s: %v: want an error about the arguments only", call, err)
					}
				}
				if n := nodes[0].Commands()["SET"]; n != 0 {
					t.Errorf("a node was asked %d times", n)
				}
			})
		})
	}

	// A prefix and a name may add up to what neither is alone.
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes, func(cfg *supervisor.Config) { cfg.Prefix = "lease" })
		for _, name := range []string{"hold:x", strings.Repeat("n", 508)} {
			if _, err := sup.TryAcquire(t.Context(), name); err == nil {
				t.Errorf("the name %.20q... was accepted behind the prefix", name)
			}
		}
		acquire(t, sup, strings.Repeat("n", 507))
	})
}

func opts(o ...supervisor.Option) []supervisor.Option { return o }

// A call either heeds an option, or refuses it with an error that names both.
func TestOptionsThatACallCannotHeed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		done := func(context.Context) error { return nil }
		var name string // of its own for each: one may stay taken
		calls := map[string]func(...supervisor.Option) error{
			"Acquire": func(o ...supervisor.Option) error {
				l, err := sup.Acquire(t.Context(), name, o...)
				if err == nil {
					err = l.Release(t.Context())
				}
				return err
			},
			"TryAcquire": func(o ...supervisor.Option) error {
				l, err := sup.TryAcquire(t.Context(), name, o...)
				if err == nil {
					err = l.Release(t.Context())
				}
				return err
			},
			"AcquireAll": func(o ...supervisor.Option) error {
				ls, err := sup.AcquireAll(t.Context(), []string{name, name + " too"}, o...)
				for _, l := range ls {
					err = errors.Join(err, l.Release(t.Context()))
				}
				return err
			},
			"AcquireAny": func(o ...supervisor.Option) error {
				l, err := sup.AcquireAny(t.Context(), []string{name, name + "2"}, o...)
				if err == nil {
					err = l.Release(t.Context())
				}
				return err
			},
			"Do": func(o ...supervisor.Option) error { return sup.Do(t.Context(), name, done, o...) },
			"Once": func(o ...supervisor.Option) error {
				ran, err := sup.Once(t.Context(), name, time.Minute, done, o...)
				if err == nil && !ran {
					err = errors.New("not run")
				}
				return err
			},
			"Lead": func(o ...supervisor.Option) error { return sup.Lead(t.Context(), name, done, o...) },
		}
		for option, o := range map[string]supervisor.Option{
			"WithTTL": supervisor.WithTTL(ttl), "WithoutRenewal": supervisor.WithoutRenewal(), "WithMaxHold": supervisor.WithMaxHold(time.Hour),
			"WithOwner": supervisor.WithOwner("me"), "WithAttempts": supervisor.WithAttempts(3), "WithCoolDown": supervisor.WithCoolDown(0),
			"WithMinHold": supervisor.WithMinHold(1),
		} {
			for call, f := range calls {
				heeds := !slices.Contains(map[string][]string{
					"WithCoolDown": {"Acquire", "TryAcquire", "AcquireAll", "AcquireAny", "Do", "Once"},
					"WithAttempts": {"TryAcquire", "AcquireAny", "Once"},
					"WithMinHold":  {"AcquireAll", "Once"},
				}[option], call)
				name = call + " " + option
				err := f(o)
				if heeds && err != nil || !heeds && (err == nil || !strings.Contains(err.Error(), option+": "+call+" cannot use it")) {
					t.Errorf("%s with %s: %v", call, option, err)
				}
			}
		}
	})
}

// never returns work that must not be done.
func never(t *testing.T) func(context.Context) error {
	return func(context.Context) error {
		t.Error("the work was done")
		return nil
	}
}

// After Close every call returns at once and says so.
func TestUseAfterClose(t *testing.T) {
	bubble(t, 3, func(t *testing.T, nodes []*nodetest.Node) {
		sup := start(t, nodes)
		held, released := acquire(t, sup, "held"), acquire(t, sup, "released")
		handle := held.Handle()
		if err := released.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		closed := time.Now()
		_, err := sup.Acquire(t.Context(), "x")
		_, try := sup.TryAcquire(t.Context(), "x")
		_, inspect := sup.Inspect(t.Context(), "x")
		_, acquireAll := sup.AcquireAll(t.Context(), []string{"x", "y"})
		_, acquireAny := sup.AcquireAny(t.Context(), []string{"x", "y"})
		_, adopt := sup.Adopt(t.Context(), handle)
		for call, err := range map[string]error{
			"Acquire": err, "TryAcquire": try, "Inspect": inspect, "AcquireAll": acquireAll, "AcquireAny": acquireAny, "Adopt": adopt,
			"Revoke": sup.Revoke(t.Context(), "x", "me/1"),
			"Do":     sup.Do(t.Context(), "x", never(t)), "Lead": sup.Lead(t.Context(), "x", never(t)),
		} {
			if !errors.Is(err, supervisor.ErrClosed) || errors.Is(err, supervisor.ErrHeld) || errors.Is(err, supervisor.ErrNoQuorum) {
				t.Errorf("%s = %v, want ErrClosed", call, err)
			}
		}
		_, handOver := held.HandOver(t.Context())
		for call, err := range map[string]error{
			"Release": held.Release(t.Context()), "Extend": held.Extend(t.Context(), ttl), "Err": held.Err(), "HandOver": handOver,
		} {
			if !errors.Is(err, lease.ErrClosed) || !errors.Is(err, lease.ErrLost) {
				t.Errorf("%s of a lease = %v, want lease.ErrClosed", call, err)
			}
		}
		if err := released.Release(t.Context()); err != nil {
			t.Errorf("Release once more = %v", err)
		}
		if n := len(sup.Leases()); n != 0 {
			t.Errorf("%d leases", n)
		}
		if n := len(sup.Nodes()); n != 3 {
			t.Errorf("%d nodes", n)
		}
		if st := sup.Stats(); st.Acquired != 2 || st.Released != 1 || st.Lost != 1 || st.Held != 0 || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
		if err := sup.Close(canceled()); err != nil {
			t.Errorf("Close once more = %v", err)
		}
		if took := time.Since(closed); took != 0 {
			t.Errorf("the calls took %v", took)
		}
	})
}

// An even number of nodes works, and is warned about.
func TestEvenNumberOfNodes(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			bubble(t, n, func(t *testing.T, nodes []*nodetest.Node) {
				var mu sync.Mutex
				var told []string
				var logged bytes.Buffer
				sup := start(t, nodes, func(cfg *supervisor.Config) {
					cfg.Observer = observer(func(e supervisor.Event) {
						mu.Lock()
						defer mu.Unlock()
						if e.Kind == supervisor.EventWarning {
							told = append(told, e.Err.Error())
						}
					})
					cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
				})
				acquire(t, sup, "x")
				if err := sup.Close(t.Context()); err != nil {
					t.Error(err)
				}
				synctest.Wait() // the observer is told on a goroutine of its own
				mu.Lock()
				defer mu.Unlock()
				if n%2 == 1 {
					if told != nil || strings.Contains(logged.String(), "msg=warning") {
						t.Errorf("told %q and logged %s", told, logged.String())
					}
					return
				}
				want := fmt.Sprintf("an even number of nodes, %d, tolerates no more failures than %d", n, n-1)
				if len(told) != 1 || told[0] != want {
					t.Errorf("told %q, want %q", told, want)
				}
				if !strings.Contains(logged.String(), `level=WARN msg=warning error="`+want+`"`) {
					t.Errorf("logged %s", logged.String())
				}
			})
		})
	}
}

// No credential is shown, wherever a node is named.
func TestNoCredentialIsShown(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		nodes[0].RequirePass("secret")
		option := nodes[0].Option("")
		option.Password = "secret-wrong"
		var logged bytes.Buffer
		sup := start(t, nodes, func(cfg *supervisor.Config) {
			cfg.Nodes = []node.Conn{node.FromOption(option)}
			cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			cfg.Clock = clock.Runtime()
		})
		var printed strings.Builder
		conn := node.FromOption(option)
		for _, verb := range strings.Fields("%v %+v %#v %s %q %d %x %c %U %e %t") {
			for _, v := range []any{sup, conn, &conn, []node.Conn{conn}, map[string]*node.Conn{"a": &conn}, supervisor.Config{Nodes: []node.Conn{conn}}, struct{ S *supervisor.Supervisor }{sup}} {
				fmt.Fprintf(&printed, verb, v)
			}
		}
		_, err := sup.TryAcquire(t.Context(), "x")
		_, inspect := sup.Inspect(t.Context(), "x")
		status := sup.Nodes()[0]
		if !errors.Is(err, supervisor.ErrNoQuorum) || !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("TryAcquire = %v", err)
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for what, text := range map[string]string{
			"TryAcquire": fmt.Sprint(err), "Inspect": fmt.Sprint(inspect),
			"Nodes": fmt.Sprintf("%+v %v", status, status.Err), "the log": logged.String(),
			"what was printed": printed.String(),
		} {
			if strings.Contains(text, "secret") {
				t.Errorf("%s shows a password: %s", what, text)
			}
		}
	})
}

// The zero Supervisor fails at once, whatever is asked of it.
func TestZeroSupervisor(t *testing.T) {
	var s supervisor.Supervisor
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"Acquire":    func() error { _, err := s.Acquire(ctx, "x"); return err },
		"TryAcquire": func() error { _, err := s.TryAcquire(ctx, "x"); return err },
		"AcquireAll": func() error { _, err := s.AcquireAll(ctx, []string{"x"}); return err },
		"AcquireAny": func() error { _, err := s.AcquireAny(ctx, []string{"x"}); return err },
		"Adopt":      func() error { _, err := s.Adopt(ctx, "x"); return err },
		"Do":         func() error { return s.Do(ctx, "x", func(context.Context) error { return nil }) },
		"Lead":       func() error { return s.Lead(ctx, "x", func(context.Context) error { return nil }) },
		"StepDown":   func() error { return s.StepDown(ctx, "x") },
		"Inspect":    func() error { _, err := s.Inspect(ctx, "x"); return err },
		"Revoke":     func() error { return s.Revoke(ctx, "x", "y/z") },
		"Watch": func() error {
			for _, err := range s.Watch(ctx, "x") {
				return err
			}
			return nil
		},
	} {
		if err := call(); err == nil {
			t.Errorf("%s succeeds", what)
		}
	}
	if s.Leases() != nil || len(s.Nodes()) != 0 || s.Stats().Held != 0 || s.Close(ctx) != nil {
		t.Error("it tells of something")
	}
}

// A nil function and a nil option are errors before anything is acquired.
func TestNilArguments(t *testing.T) {
	bubble(t, 1, func(t *testing.T, nodes []*nodetest.Node) {
		s := start(t, nodes)
		for what, err := range map[string]error{
			"Do":                s.Do(t.Context(), "x", nil),
			"Lead":              s.Lead(t.Context(), "x", nil),
			"Do, option":        s.Do(t.Context(), "x", func(context.Context) error { return nil }, nil),
			"Lead, option":      s.Lead(t.Context(), "x", func(context.Context) error { return nil }, nil),
			"Acquire, option 2": func() error { _, err := s.Acquire(t.Context(), "x", supervisor.WithoutRenewal(), nil); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "nil") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if st := s.Stats(); st.Acquired != 0 {
			t.Errorf("%+v", st)
		}
	})
}
