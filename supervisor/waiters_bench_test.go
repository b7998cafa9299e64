package supervisor_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

// BenchmarkManyWaiters has 100,000 callers wait for one name and give up shortly before
// another lease is lost, as its nodes hang; or be closed then. It measures by how
// much Lost and Close are late, and the longest that the loop was away.
func BenchmarkManyWaiters(b *testing.B) {
	const callers = 100_000
	for _, how := range []string{"given up", "closed"} {
		b.Run(how, func(b *testing.B) {
			var lost, closed, longest time.Duration
			for range b.N {
				nodes := nodetest.Start(3)
				s, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes), TTL: 4 * time.Second, DisableGuard: true})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Acquire(b.Context(), "x"); err != nil {
					b.Fatal(err)
				}
				other, err := s.Acquire(b.Context(), "y", supervisor.WithoutRenewal())
				if err != nil {
					b.Fatal(err)
				}
				ctx, giveUp := context.WithCancel(b.Context())
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						if l, err := s.Acquire(ctx, "x"); err == nil {
							_ = l.Release(context.Background())
						}
					})
				}
				for s.Stats().Waiting < callers {
					time.Sleep(time.Millisecond)
				}
				for _, n := range nodes {
					n.Hang()
				}
				supervisor.ForgetLongest(s)
				due := time.Now().Add(other.Remaining() - 200*time.Millisecond) // the grace
				heard := make(chan time.Duration, 1)
				go func() { // who waits for Lost is not who is busy waking 100,000 others
					<-other.Lost()
					heard <- time.Since(due)
				}()
				time.Sleep(time.Until(due) - 50*time.Millisecond) // so that it is lost while they give up
				const patience = 300 * time.Millisecond
				var closing time.Time
				if how == "given up" {
					giveUp()
				} else {
					closing = time.Now()
					go func() {
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						_ = s.Close(ctx)
						closed += max(0, time.Since(closing)-patience)
					}()
				}
				lost += max(0, <-heard)
				wg.Wait()
				if how == "given up" {
					longest += s.Stats().Longest
					closing = time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					_ = s.Close(ctx)
					cancel()
					closed += max(0, time.Since(closing)-patience)
				} else {
					_ = s.Close(context.Background())
					longest += s.Stats().Longest
				}
				giveUp()
				for _, n := range nodes {
					n.Close()
				}
			}
			b.ReportMetric(float64(lost.Microseconds())/float64(b.N)/1000, "ms-Lost-late")
			b.ReportMetric(float64(closed.Microseconds())/float64(b.N)/1000, "ms-Close-late")
			b.ReportMetric(float64(longest.Microseconds())/float64(b.N)/1000, "ms-longest")
		})
	}
}
