// Package report is code that holds a lease, and report_test.go is how it is tested without
// a server: see docs/testing.md.
package report

import (
	"context"
	"fmt"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Send sends the pages under the name "report", which one process at a time holds. It stops
// as soon as the lease is lost, with an error that wraps lease.ErrLost.
func Send(ctx context.Context, sup *supervisor.Supervisor, pages []string, send func(page string, fence uint64)) error {
	held, err := sup.Acquire(ctx, "report")
	if err != nil {
		return err
	}
	defer held.Release(context.WithoutCancel(ctx))
	return sendAll(held, pages, send)
}

// sendAll needs a lease and no supervisor, so a test can make one and end it.
func sendAll(held *lease.Lease, pages []string, send func(page string, fence uint64)) error {
	for i, page := range pages {
		if err := held.Err(); err != nil {
			return fmt.Errorf("after %d of %d pages: %w", i, len(pages), err)
		}
		send(page, held.Fence())
	}
	return nil
}
