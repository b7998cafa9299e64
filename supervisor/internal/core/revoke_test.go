package core

import (
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
		want Reason
	}{
		"all had it":                       {[]node.Status{ok, ok, ok, ok, ok}, 3, ReasonNone},
		"a quorum had it, two are silent":  {[]node.Status{silent, ok, silent, ok, ok}, 5, ReasonNone},
		"the rest has nothing":             {[]node.Status{absent, absent, ok, ok, ok}, 3, ReasonNone},
		"the rest might have another":      {[]node.Status{other, other, ok, ok, ok}, 5, ReasonNone},
		"one had it":                       {[]node.Status{absent, absent, absent, absent, ok}, 5, ReasonNone},
		"too many are silent":              {[]node.Status{silent, ok, ok, silent, silent}, 5, ReasonNoQuorum},
		"all are silent":                   {[]node.Status{silent, silent, silent, silent, silent}, 5, ReasonNoQuorum},
		"too many are unsent":              {[]node.Status{node.Unsent, node.Unsent, node.Unsent, ok, absent}, 5, ReasonNoQuorum},
		"nobody has anything":              {[]node.Status{absent, absent, absent, absent, absent}, 5, ReasonNotHolder},
		"nobody has it, two are silent":    {[]node.Status{absent, absent, absent, silent, silent}, 5, ReasonNotHolder},
		"another holds it":                 {[]node.Status{other, other, other, ok, ok}, 3, ReasonNotHolder},
		"another holds it, a rest is left": {[]node.Status{ok, ok, other, other, other}, 5, ReasonNotHolder},
	} {
		t.Run(name, func(t *testing.T) {
			b := enrolled(t, 5)
			answer := b.call()
			b.c.Revoke(b.now(), "x", "them/1", answer)
			b.perform()
			sends := b.take(node.Release)
			b.wantNodes(sends, 0, 1, 2, 3, 4)
			for i, s := range sends {
				if s.cmd.Token != "them/1" || s.cmd.Name != "x" {
					t.Fatalf("sent %+v", s.cmd)
				}
				if b.done(answer) && i < c.done {
					t.Fatalf("answered after %d answers", i)
				}
				b.say(s, c.says[i])
				if !b.done(answer) && i+1 >= c.done {
					t.Fatalf("not answered after %d answers", i+1)
				}
			}
			if r := b.answer(answer); c.want == ReasonNone {
				if r != nil {
					t.Fatalf("%+v, want none", r)
				}
			} else if b.refused(answer, c.want); len(r.Answers) != 5 || r.Key != "x" {
				t.Errorf("%+v: want every node's answer", r)
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
	answer := b.call()
	b.c.Revoke(b.now(), "x", "them/1", answer)
	b.perform()
	for i, s := range b.take(node.Release) {
		b.say(s, []node.Status{node.OK, node.OK, node.Unknown}[i])
	}
	if err := b.answer(answer); err != nil {
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
	first, second := b.call(), b.call()
	b.c.Revoke(b.now(), "x", "them/1", first)
	b.perform()
	b.c.Close(b.now())
	b.c.Revoke(b.now(), "y", "them/2", second)
	b.perform()
	b.refused(second, ReasonClosed)
	for _, s := range b.take(node.Release) {
		b.say(s, node.OK)
	}
	if err := b.answer(first); err != nil || !b.c.Drained() {
		t.Errorf("%v, drained %v", err, b.c.Drained())
	}
}

// A node that is young counts for no revocation: what it forgot is healed, and what is deleted there
// the holder takes for forgotten.
func TestRevokedOnAYoungNode(t *testing.T) {
	for _, says := range []node.Status{node.Absent, node.OK} {
		b := enrolled(t, 3)
		b.restart(0)
		answer := b.call()
		b.c.Revoke(b.now(), "x", "them/1", answer)
		b.perform()
		sends := b.take(node.Release)
		b.say(sends[0], says)
		b.say(sends[1], node.OK)
		if b.done(answer) {
			t.Errorf("a young node says %v: revoked by that and by one other", says)
		}
		b.say(sends[2], node.Unknown)
		b.refused(answer, ReasonNoQuorum)
	}
}

// What was deleted first may be healed when the last node is reached: it is asked again.
func TestRevokedOneAfterTheOther(t *testing.T) {
	b := enrolled(t, 3)
	answer := b.call()
	b.c.Revoke(b.now(), "x", "them/1", answer)
	b.perform()
	sends := b.take(node.Release)
	b.say(sends[0], node.OK)
	b.clock.Advance(b.c.terms.RenewEvery)
	b.say(sends[1], node.OK)
	b.waits(answer)
	again := b.take(node.Release)
	b.wantNodes(again, 0, 1)
	b.say(again[0], node.OK)
	b.waits(answer)
	b.say(again[1], node.Absent)
	if r := b.answer(answer); r != nil {
		t.Errorf("%+v", r)
	}
	b.say(sends[2], node.OK)
	if b.c.tenures.len() != 0 {
		t.Error("the tenure was not forgotten")
	}
}

// A process that was given the wrong list takes nothing away: the lease may rest on nodes that it does
// not know, and is absent on those that it does.
func TestRevokedByTheWrongList(t *testing.T) {
	for _, early := range []bool{true, false} {
		b := given(t, "", "abc")
		if early {
			b.marks(changeOf("abc", "cde", node.StageClosed), 0, 1)
		}
		answer := b.call()
		b.c.Revoke(b.now(), "x", "them/1", answer)
		b.perform()
		sends := b.take(node.Release)
		if !early {
			b.marks(changeOf("abc", "cde", node.StageClosed), 0, 1)
			b.say(sends[0], node.Absent)
			b.say(sends[1], node.Absent)
			b.say(sends[2], node.OK)
		} else if len(sends) > 0 {
			t.Error("something was deleted")
		}
		b.refused(answer, ReasonNodesLeft)
	}
}
