package supervisor

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// A probe does not wait for a supervisor that hangs. It is outside of a bubble, whose time stands
// still while somebody waits for a mutex.
func TestHealthyDoesNotHang(t *testing.T) {
	n := nodetest.New()
	defer n.Close()
	s, err := New(Config{Nodes: []node.Conn{n.Conn()}, DisableGuard: true, NodeTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	if _, err := s.Acquire(t.Context(), "a"); err != nil || !s.Leading("a") {
		t.Fatalf("Acquire = %v, and Leading() = %v", err, s.Leading("a"))
	}
	s.mu.Lock()
	begun := s.clock.Now()
	err = s.Healthy()
	leading := s.Leading("a")
	took := s.clock.Now().Sub(begun)
	s.mu.Unlock()
	if err == nil || !strings.Contains(err.Error(), "answered no call for 1s") || leading {
		t.Errorf("it hangs: Healthy() = %v, Leading() = %v", err, leading)
	}
	if took < 2*s.patience() || took > time.Minute {
		t.Errorf("they took %v", took)
	}

	// One that has much to do lets others in between.
	s.mu.Lock()
	time.AfterFunc(10*time.Millisecond, s.mu.Unlock)
	if !s.Leading("a") {
		t.Error("it did not wait a moment")
	}
}
