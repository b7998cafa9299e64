package integration

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/supervisor"
)

// reconnections counts what is told of nodes that were connected to anew.
type reconnections struct{ atomic.Int64 }

func (r *reconnections) Observe(e supervisor.Event) {
	if e.Kind == supervisor.EventReconnected {
		r.Add(1)
	}
}

// Servers that close idle connections, and an operator who kills one, are ordinary: leases are
// held and nobody is warned.
func TestOrdinaryWarnsNobody(t *testing.T) {
	t.Parallel()
	c := processes(t, 3)
	var logged record
	var anew reconnections
	sup := start(t, c, func(cfg *supervisor.Config) {
		cfg.TTL = 10 * time.Second // and so half a second for a node, on however busy a machine
		cfg.Observer = &anew
		cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	each(c.Servers, func(s cluster.Server) {
		if _, err := s.Do("CONFIG", "SET", "timeout", "1"); err != nil {
			t.Error(err)
		}
	})
	await(t, "idle connections to be closed", func() error {
		if n := anew.Load(); n < 3 {
			return fmt.Errorf("%d were", n)
		}
		return nil
	})
	held := acquire(t, sup, "name")
	before := anew.Load()
	each(c.Servers, func(s cluster.Server) {
		if _, err := s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); err != nil {
			t.Error(err)
		}
	})
	await(t, "killed connections to be made anew", func() error {
		if n := anew.Load() - before; n < 3 {
			return fmt.Errorf("%d were", n)
		}
		return nil
	})
	kept(t, held, time.Second)
	if text := logged.String(); strings.Count(text, "node up") != 3 || strings.Contains(text, "WARN") {
		t.Errorf("more is told than that nodes came and a lease was won:\n%s", text)
	}
}
