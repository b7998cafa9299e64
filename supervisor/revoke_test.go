package supervisor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
)

// What the answers to a revocation amount to, and when that is certain.
func TestRevokeAnswers(t *testing.T) {
	const (
		ok, absent, other, silent = node.OK, node.Absent, node.Other, node.Unknown
	)
	for name, c := range map[string]struct {
		says []node.Status // in the order in which they come; of five nodes
		done int           // how many of them it takes to be certain
		want error
	}{
		"all had it":                       {[]node.Status{ok, ok, ok, ok, ok}, 3, nil},
		"a quorum had it, two are silent":  {[]node.Status{silent, ok, silent, ok, ok}, 5, nil},
		"the rest has nothing":             {[]node.Status{absent, absent, ok, ok, ok}, 3, nil},
		"the rest might have another":      {[]node.Status{other, other, ok, ok, ok}, 5, nil},
		"one had it":                       {[]node.Status{absent, absent, absent, absent, ok}, 5, nil},
		"too many are silent":              {[]node.Status{silent, ok, ok, silent, silent}, 5, ErrNoQuorum},
		"all are silent":                   {[]node.Status{silent, silent, silent, silent, silent}, 5, ErrNoQuorum},
		"too many are unsent":              {[]node.Status{node.Unsent, node.Unsent, node.Unsent, ok, absent}, 5, ErrNoQuorum},
		"nobody has anything":              {[]node.Status{absent, absent, absent, absent, absent}, 5, ErrNotHolder},
		"nobody has it, two are silent":    {[]node.Status{absent, absent, absent, silent, silent}, 5, ErrNotHolder},
		"another holds it":                 {[]node.Status{other, other, other, ok, ok}, 3, ErrNotHolder},
		"another holds it, a rest is left": {[]node.Status{ok, ok, other, other, other}, 5, ErrNotHolder},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 5)
			answer := make(chan error, 1)
			b.c.Revoke(b.now(), "x", "them/1", answer)
			b.perform()
			sends := b.take(node.Release)
			b.wantNodes(sends, 0, 1, 2, 3, 4)
			for i, s := range sends {
				if s.cmd.Token != "them/1" || s.cmd.Name != "x" {
					t.Fatalf("sent %+v", s.cmd)
				}
				if len(answer) > 0 && i < c.done {
					t.Fatalf("answered after %d answers", i)
				}
				b.say(s, c.says[i])
				if len(answer) == 0 && i+1 >= c.done {
					t.Fatalf("not answered after %d answers", i+1)
				}
			}
			err := <-answer
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if e := (*AcquireError)(nil); errors.As(err, &e) && (len(e.Nodes) != 5 || !strings.HasPrefix(err.Error(), `revoke "x": `)) {
				t.Errorf("%v: want every node's answer", err)
			}
			if b.c.tenures.len() != 0 {
				t.Error("the tenure was not forgotten")
			}
		})
	}
}

// A node that is silent is told again.
func TestRevocationIsOwed(t *testing.T) {
	b := enrolled(t, 3)
	answer := make(chan error, 1)
	b.c.Revoke(b.now(), "x", "them/1", answer)
	b.perform()
	for i, s := range b.take(node.Release) {
		b.say(s, []node.Status{node.OK, node.OK, node.Unknown}[i])
	}
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	b.advance(time.Second)
	again := b.take(node.Release)
	b.wantNodes(again, 2)
	b.say(again[0], node.OK)
	b.advance(time.Second)
	b.wantNodes(b.take(node.Release))
}

// It is refused once the supervisor closes, which does not wait for who asked.
func TestRevokeAndClose(t *testing.T) {
	b := enrolled(t, 3)
	first, second := make(chan error, 1), make(chan error, 1)
	b.c.Revoke(b.now(), "x", "them/1", first)
	b.perform()
	b.c.Close(b.now())
	b.c.Revoke(b.now(), "y", "them/2", second)
	b.perform()
	if err := <-second; !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	for _, s := range b.take(node.Release) {
		b.say(s, node.OK)
	}
	if err := <-first; err != nil || !b.c.Drained() {
		t.Errorf("%v, drained %v", err, b.c.Drained())
	}
}
