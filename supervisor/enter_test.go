package supervisor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A caller has its message decided at once only if nothing is on its way to the loop, nobody
// works, few wait, and the loop has not ended.
func TestEnter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		s, err := New(Config{Nodes: []node.Conn{n.Conn()}, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		enters := func() bool {
			ok := s.enter()
			if ok {
				s.leave(s.clock.Now())
			}
			return ok
		}
		if !enters() {
			t.Error("nothing is to be done, and it does not enter")
		}
		s.coming.Add(1)
		if enters() {
			t.Error("a message on its way to the loop is overtaken")
		}
		s.coming.Add(-1)
		s.mu.Lock()
		if enters() {
			t.Error("it enters while somebody works")
		}
		var some []*call
		for s.calls.len() <= maxEntering {
			c := s.newCall(opAcquire)
			s.calls.add(&c, 0)
			some = append(some, &c)
		}
		s.mu.Unlock()
		if enters() {
			t.Error("it enters though many wait")
		}
		s.mu.Lock()
		for _, c := range some {
			s.calls.answer(c, outcome{})
		}
		s.mu.Unlock()
		if !enters() {
			t.Error("it does not enter again")
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if enters() {
			t.Error("it enters after the end")
		}
	})
}

// The loop looks again if what was decided without it is due before the loop's timer.
func TestLoopLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		s, err := New(Config{Nodes: []node.Conn{n.Conn()}, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		synctest.Wait()
		if !s.enter() {
			t.Fatal("nothing is to be done, and it does not enter")
		}
		s.armed = clock.Never // as if the loop slept for longer than anything may wait
		s.leave(s.clock.Now())
		synctest.Wait()
		s.mu.Lock()
		armed := s.armed
		s.mu.Unlock()
		if armed == clock.Never {
			t.Error("the loop sleeps on")
		}
	})
}

// What is decided without the loop has its alarms heard in time: a lease is renewed for the first
// time 50 ms after its grant, which has its key tracked, however long the loop would have slept.
func TestAlarmsOfWhoEnters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodetest.New()
		defer n.Close()
		s, err := New(Config{Nodes: []node.Conn{n.Conn()}, Clock: clock.Runtime()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		for i := range 10 {
			time.Sleep(time.Minute + time.Duration(i)*100*time.Millisecond)
			l, err := s.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(60 * time.Millisecond)
			from := time.Now()
			n.Del(s.cfg.Prefix + "a")
			<-l.Lost()
			if took := time.Since(from); took > 10*time.Millisecond {
				t.Errorf("that the key was deleted is told after %v", took)
			}
		}
	})
}
