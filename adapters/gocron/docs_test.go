package leasegocron_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	leasegocron "github.com/leasehold-go/leasehold/adapters/gocron"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// hourly is what docs/schedulers.md shows.
func hourly(sup *supervisor.Supervisor, work func(context.Context) error) error {
	locker, err := leasegocron.NewLocker(sup, leasegocron.Config{Period: 45 * time.Minute})
	if err != nil {
		return err
	}
	s, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker))
	if err != nil {
		return err
	}
	_, err = s.NewJob(gocron.CronJob("0 * * * *", false), locker.Task("report", work),
		gocron.WithName("report"), gocron.WithEventListeners(gocron.AfterLockError(
			func(_ uuid.UUID, job string, err error) {
				if !errors.Is(err, supervisor.ErrHeld) { // perhaps no process runs this tick
					slog.Warn("tick skipped", "job", job, "error", err)
				}
			})))
	return errors.Join(err, s.Shutdown())
}

// The code in docs/schedulers.md is that above, and compiles.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/schedulers.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, is := strings.Cut(string(text), "```go adapters/gocron\n")
	block, _, _ = strings.Cut(block, "```\n")
	if !is || !strings.Contains(strings.ReplaceAll(string(here), "\n\t", "\n"), block) {
		t.Errorf("docs/schedulers.md has another block for adapters/gocron:\n%s", block)
	}
	bubble(t, func(t *testing.T, nodes []*nodetest.Node) {
		sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes)})
		if err != nil {
			t.Fatal(err)
		}
		if err := hourly(sup, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := sup.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
