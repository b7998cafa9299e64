package leasecron_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"

	leasecron "github.com/leasehold-go/leasehold/adapters/cron"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// enqueuedOnce is what docs/schedulers.md shows.
func enqueuedOnce(c *cron.Cron, once *leasecron.Once, enqueue func(context.Context) error) error {
	_, err := c.AddJob("*/5 * * * *", once.Func("report", enqueue)) // enqueue calls EnqueueContext of the client
	return err
}

// The code in docs/schedulers.md is that above, and works.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/schedulers.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, is := strings.Cut(string(text), "```go adapters/cron\n")
	block, _, _ = strings.Cut(block, "```\n")
	if !is || !strings.Contains(string(here), "\t"+block) {
		t.Errorf("docs/schedulers.md has another block for adapters/cron:\n%s", block)
	}
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		r := start(t, t.Context(), nodetest.Conns(nodes), 0)
		runs := make(chan struct{}, 10)
		if err := enqueuedOnce(r.cron, r.once, func(context.Context) error { runs <- struct{}{}; return nil }); err != nil {
			t.Fatal(err)
		}
		r.cron.Start()
		time.Sleep(11 * time.Minute)
		r.close(t)
		if len(runs) != 2 {
			t.Errorf("enqueued %d times in 11 minutes, want 2", len(runs))
		}
	})
}
