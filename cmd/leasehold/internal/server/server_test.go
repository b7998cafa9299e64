package server_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/redistest"
	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/server"
	"github.com/leasehold-go/leasehold/node"
)

func TestConn(t *testing.T) {
	s := redistest.Start(t)
	c, err := server.Dial(t.Context(), node.URL(s.URL()+"/3"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers, err := c.Do(t.Context(), []string{"SET", "a", "x"}, []string{"GET", "a"}, []string{"GET", "b"}, []string{"LPUSH", "a", "y"},
		[]string{"TIME"}, []string{"INFO"}, []string{"SCAN", "0"}, []string{"MGET", "a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if answers[1].Text() != "x" || answers[1].Err() != nil || answers[2].Text() != "" || answers[2].Err() != nil {
		t.Errorf("%q, %q", answers[1].Text(), answers[2].Text())
	}
	if err := answers[3].Err(); !server.Begins(err, "OOM", "WRONGTYPE") || server.Begins(err, "OOM") || server.Denied(err) != "" {
		t.Errorf("%v", err)
	}
	if at, err := answers[4].Time(); err != nil || time.Since(time.Unix(0, int64(at))).Abs() > time.Minute {
		t.Errorf("%v, %v", at, err)
	}
	if _, err := answers[3].Time(); err == nil {
		t.Error("an error is no time")
	}
	info := answers[5].Info()
	if name, version := info.Product(); name != s.Product || version != s.Version || info["role"] != "master" {
		t.Errorf("%s %s, %s", name, version, info["role"])
	}
	if n, ok := info.Int("maxmemory"); !ok || n != 0 {
		t.Errorf("%d, %t", n, ok)
	}
	if next, keys, err := answers[6].Scan(); next != "0" || !slices.Equal(keys, []string{"a"}) || err != nil {
		t.Errorf("%s, %q, %v", next, keys, err)
	}
	if got := answers[7].Strings(); !slices.Equal(got, []string{"x", ""}) {
		t.Errorf("%q", got)
	}
	if err := c.Listen(t.Context(), "news"); err != nil {
		t.Error(err)
	}
}

func TestProducts(t *testing.T) {
	for want, info := range map[string]server.Info{
		"Redis 7.0.15":     {"redis_version": "7.0.15", "executable": "/usr/bin/redis-server"},
		"Valkey 8.1.1":     {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.1"},
		"Valkey 7.2.4":     {"redis_version": "7.2.4", "server_name": "valkey"},
		"Dragonfly 1.36.0": {"redis_version": "7.4.0", "dragonfly_version": "df-v1.36.0"},
		"KeyDB 6.3.4":      {"redis_version": "6.3.4", "mvcc_depth": "0"},
		"Garnet 1.0":       {"redis_version": "7.4.3", "garnet_version": "1.0"},
		" ":                {},
	} {
		if name, version := info.Product(); name+" "+version != want {
			t.Errorf("%s %s, want %s", name, version, want)
		}
	}
}

// No error has a password in it, and each says whether it is the server's.
func TestErrors(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "geheim")
	for url, words := range map[string]string{
		"redis://:falsch@" + s.Addr:           "WRONGPASS ",
		s.URL():                               "NOAUTH ",
		"redis://:falsch@127.0.0.1:1":         "refused",
		"redis://:geheim@" + s.Addr + "/9999": "DB index",
	} {
		_, err := server.Dial(t.Context(), node.URL(url), time.Minute)
		var e *server.Error
		if !errors.As(err, &e) || !strings.Contains(e.Text, words) || e.Refused == (words == "refused") || e.Late || strings.Contains(e.Text, "falsch") || strings.Contains(e.Text, "geheim") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := server.Dial(t.Context(), node.URL("http://:geheim@x"), time.Minute); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("%v", err)
	}
	s.Password = "geheim"
	s.Do([]string{"ACL", "SETUSER", "monkey", "on", ">affe", "~a", "resetchannels", "-@all", "+get", "+publish", "+echo"})
	c, err := server.Dial(t.Context(), node.URL("redis://monkey:affe@"+s.Addr), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers, err := c.Do(t.Context(), []string{"SET", "a", "x"}, []string{"GET", "b"}, []string{"PUBLISH", "c", "x"}, []string{"GET", "a"}, []string{"ECHO", "affe"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"command", "key", "channel", ""} {
		if got := server.Denied(answers[i].Err()); got != want {
			t.Errorf("%v is about a %s, want a %s", answers[i].Err(), got, want)
		}
	}
	if got := server.Denied(c.Listen(t.Context(), "c")); got != "command" {
		t.Errorf("subscribe: %s", got)
	}
}

// What does not answer is left when its time is over, or nobody wants it any more.
func TestLate(t *testing.T) {
	s := redistest.Start(t)
	s.Hang()
	_, err := server.Dial(t.Context(), node.URL(s.URL()), 50*time.Millisecond)
	if e := new(server.Error); !errors.As(err, &e) || !e.Late || e.Refused {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := server.Dial(ctx, node.URL(s.URL()), 10*time.Second); err == nil || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}
