package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// A record is all that a supervisor ever says to anybody.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) Observe(e supervisor.Event) { r.add(e, e.Err) }

// add takes values down in each of the ways in which somebody may print them.
func (r *record) add(values ...any) {
	for _, v := range values {
		fmt.Fprintf(r, "%v\n%+v\n%#v\n", v, v, v)
		err, _ := v.(error)
		var e *supervisor.AcquireError
		if errors.As(err, &e) {
			r.add(e.Nodes)
			for _, a := range e.Nodes {
				r.add(a.Err)
			}
		}
	}
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// watched makes a supervisor of which everything is recorded.
func (r *record) watched(t *testing.T, conns ...node.Conn) *supervisor.Supervisor {
	t.Helper()
	cfg := configured(conns)
	r.add(cfg)
	cfg.Observer = r // from here on the record would be printed into itself
	cfg.Logger = slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, c := range conns {
		r.add(c, c.Err())
	}
	sup, err := supervisor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ttl)
		defer cancel()
		r.add(sup.Close(ctx))
	})
	return sup
}

// exercise calls everything that can fail, while trouble is there.
func (r *record) exercise(t *testing.T, sup *supervisor.Supervisor, name string, begin func()) {
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	held, err := sup.Acquire(soon(), name+"-held")
	r.add(err)
	begin()
	if err == nil {
		r.add(held.Extend(soon(), ttl), held.Release(soon()), held.Err())
	}
	for _, acquire := range []func(context.Context, string) error{
		func(ctx context.Context, name string) error { _, err := sup.TryAcquire(ctx, name); return err },
		func(ctx context.Context, name string) error { _, err := sup.Acquire(ctx, name); return err },
		func(ctx context.Context, name string) error { h, err := sup.Inspect(ctx, name); r.add(h); return err },
	} {
		r.add(acquire(soon(), name))
	}
	r.add(sup.Nodes(), sup.Stats(), len(sup.Leases()))
}

// No password stands in an error, a log line, an event or anything else that can
// be printed, whatever goes wrong.
func TestNoSecretIsShown(t *testing.T) {
	takesLong(t)
	t.Parallel()
	c := cluster.Open(t, cluster.Kinds(t)[0], 5, "--save", "3600 1", "--stop-writes-on-bgsave-error", "no")
	list := fronts(t, c)

	const user = "worker"
	var cores []string // of the passwords; around them is what must be escaped in a URL
	password := func() string {
		core := rand.Text()
		cores = append(cores, core)
		return "p@ss:/?#%" + core + "%41ü"
	}
	right, wrong := password(), password()
	asUser := func(scheme string, f front, password string) string {
		return scheme + "://" + url.UserPassword(user, password).String() + "@" + f.proxy.Addr()
	}
	conns := func(password string) []node.Conn {
		var conns []node.Conn
		for _, f := range list {
			conns = append(conns, node.URL(asUser("redis", f, password)))
		}
		return conns
	}
	allow := func(f front, _ []string) error {
		return f.do("ACL", "SETUSER", user, "reset", "on", ">"+right, "~*", "&*", "+@all")
	}
	change := func(do func(front, []string) error, key string) {
		t.Helper()
		for _, f := range list[:3] {
			if err := do(f, []string{key}); err != nil {
				t.Errorf("%s: %v", f.Addr(), err)
			}
		}
	}
	for _, f := range list {
		if err := allow(f, nil); err != nil {
			t.Fatal(err)
		}
	}

	var r record
	sup := r.watched(t, conns(right)...)
	own := []trouble{
		{name: "password changed", end: allow, begin: sequence(
			func(f front, _ []string) error { return f.do("ACL", "SETUSER", user, "resetpass", ">"+wrong) },
			command("CLIENT KILL USER "+user))},
		{name: "user deleted", end: allow, begin: command("ACL DELUSER " + user)},
		{name: "user without rights", end: allow, begin: command("ACL SETUSER " + user + " -@all")},
	}
	for i, x := range append(own, troubles...) {
		if x.name == "MISCONF" {
			continue // it needs a server that cannot save, and says nothing of the client
		}
		key := fmt.Sprint("secret-", i)
		r.exercise(t, sup, key, func() { change(x.begin, key) })
		change(x.end, key)
		if err := poll(10*time.Second, func() error {
			for _, n := range sup.Nodes() {
				if !n.Enrolled {
					return n.Err
				}
				if n.Young > 0 {
					return fmt.Errorf("%s is young for %v, and asked for no lease", n.Node, n.Young)
				}
			}
			return nil
		}); err != nil {
			t.Errorf("behind %s: %v", x.name, err)
		}
	}

	// Nodes that are never reached, one after the other.
	f := list[0]
	never := func(c node.Conn) { r.exercise(t, r.watched(t, c), "never", func() {}) }
	never(conns(wrong)[0])
	never(node.URL("redis://" + url.UserPassword("", right).String() + "@" + f.proxy.Addr()))
	never(node.URL(asUser("rediss", f, right)))
	never(node.URL("unix://" + url.UserPassword(user, right).String() + "@/nowhere/redis.sock"))
	never(node.FromOption(rueidis.ClientOption{
		InitAddress: []string{f.proxy.Addr()}, Username: user, Password: wrong,
		Sentinel: rueidis.SentinelOption{MasterSet: "main", Username: user, Password: right},
	}))
	never(node.FromOption(rueidis.ClientOption{
		InitAddress: []string{f.proxy.Addr()},
		AuthCredentialsFn: func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			return rueidis.AuthCredentials{Username: user, Password: wrong}, nil
		},
	}))
	never(node.FromOption(rueidis.ClientOption{
		InitAddress: []string{f.proxy.Addr()},
		AuthCredentialsFn: func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			return rueidis.AuthCredentials{Username: user, Password: right}, errors.New("the vault is closed")
		},
	}))
	// A server that repeats what it was sent, as some do with what they do not know.
	for _, command := range []string{"HELLO", "AUTH"} {
		if command == "AUTH" {
			f.proxy.Lie("HELLO", "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `"+user+"`, `"+right+"`\r\n")
		}
		f.proxy.Lie(command, "-ERR odd command "+command+" 3 AUTH "+user+" "+right+"\r\n")
		never(conns(right)[0])
	}
	f.proxy.Mend()
	f.proxy.Cut()
	never(conns(right)[0])
	f.proxy.Mend()

	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{f.proxy.Addr()}, Username: user, Password: right, DisableCache: true, ForceSingleClient: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r.exercise(t, r.watched(t, node.FromClient(client)), "client", func() { change(own[1].begin, "") })
	change(allow, "")

	// URLs that are refused, with a password that is escaped, and with one that is not.
	for _, p := range []string{url.QueryEscape(right), right, cores[0], "%zz" + cores[0], "[" + cores[0], cores[0] + " " + cores[0]} {
		for _, form := range []string{
			"redis://worker:%s@:port", "redis://worker:%s@[::1", "redis://worker:%s@127.0.0.1:6379/db", "redis://worker:%s@127.0.0.1:6379/1/2",
			"gopher://worker:%s@127.0.0.1", "worker:%s@127.0.0.1:6379", ":%s@127.0.0.1:port", "unix://worker:%s@/socket?db=x", "://worker:%s@h",
			"redis://h\x7f:%s@x", "redis://worker:%s@h?db=x", "redis://h:port?password=%s", "redis://h/x?auth=%s",
		} {
			c := node.URL(fmt.Sprintf(form, p))
			r.add(c, c.Err(), node.URLs(fmt.Sprintf(form, p)))
			_, err := supervisor.New(supervisor.Config{Nodes: []node.Conn{c, c}, TTL: ttl, NodeTimeout: ttl})
			r.add(err)
		}
	}

	text := r.String()
	for _, line := range strings.Split(text, "\n") {
		for _, core := range cores {
			if strings.Contains(line, core) {
				t.Errorf("a password is shown: %s", strings.ReplaceAll(line, core, "PASSWORD"))
			}
		}
	}
	for _, words := range []string{
		"WRONGPASS", "NOPERM", "READONLY", "LOADING", "OOM", "WRONGTYPE", "unexpected answer", "the vault is closed", "odd command", "refused",
		"not acquired", "node down", "level=DEBUG", "level=WARN",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("nothing was said with %q in it, so less was tried than is written here", words)
		}
	}
	t.Logf("%d lines", strings.Count(text, "\n"))
}
