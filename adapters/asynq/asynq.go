// Package leaseasynq has one of several processes run the scheduler of asynq,
// github.com/hibiken/asynq. Two schedulers with the same schedule enqueue every task twice, and
// asynq leaves it to its users to have only one at a time. [Run] does that: a scheduler runs while
// its process holds a lease of package supervisor.
//
//	err := leaseasynq.Run(ctx, sup, "scheduler", func(context.Context) (leaseasynq.Scheduler, error) {
//		s := asynq.NewSchedulerFromRedisClient(client, nil)
//		_, err := s.Register("*/5 * * * *", asynq.NewTask("report", nil))
//		return s, err
//	})
//
// The workers, asynq.Server, run in every process as ever: they share the queues.
//
// # When the lease is lost
//
// A lease is lost if it cannot be renewed: too few nodes answer, the process is stopped for too
// long, or somebody revokes it. Then Run shuts the scheduler down. If the nodes are silent, it
// begins with that at least a grace before another process can have the name. No tick begins after
// that. What has begun goes on: a task that is being sent to a Redis server which does not answer
// may be enqueued seconds later, because asynq tries again. And no lease stops a process that is
// frozen right before it sends. So a task can be enqueued by the former and by the next leader,
// seldom, and its handler must bear that, as it must with asynq alone, which delivers a task at
// least once.
//
// # When the leader changes
//
// Each scheduler goes by the clock of its host. If the clock of the next leader is behind, it may
// enqueue a tick again that the former one has enqueued. If it is ahead, or if none leads when a
// tick is due, the tick is lost: after a crash for the lease's TTL, and after a release for some
// milliseconds. If a tick must be enqueued once even then, enqueue the task with asynq.Client in a
// job of the adapter for cron or gocron:
//
//	once.Func("report", func(ctx context.Context) error {
//		_, err := client.EnqueueContext(ctx, asynq.NewTask("report", nil))
//		return err
//	})
//
// asynq.Unique does not help if a task is done before the other is enqueued: it is unique no
// longer.
package leaseasynq

import (
	"context"
	"errors"

	"github.com/leasehold-go/leasehold/supervisor"
)

// A Scheduler is an *asynq.Scheduler or an *asynq.PeriodicTaskManager.
type Scheduler interface {
	Start() error
	Shutdown()
}

// Run waits until this process leads, and runs a scheduler until the lease ends or ctx is done.
// newScheduler makes it, with its entries, once for each time that this process leads, because
// asynq starts none a second time. Its context ends with the lease; lease.FromContext takes the
// lease from it. Make the scheduler with asynq.NewSchedulerFromRedisClient, and close that client
// yourself after Run: then a scheduler that could not be started leaves nothing behind.
//
// At the end Run shuts the scheduler down, which waits for what is being enqueued, and then gives
// the name back. After a loss it is a candidate again. After [supervisor.Supervisor.StepDown] it is
// one if WithCoolDown is among the options, which are those of [supervisor.Supervisor.Lead].
//
// Run returns when ctx is done, with an error that wraps ctx's; if newScheduler or Start fails,
// with its error; and otherwise as Lead does: if the supervisor was closed, if an argument is
// wrong, or with nil if the lease was released.
func Run(ctx context.Context, sup *supervisor.Supervisor, name string, newScheduler func(ctx context.Context) (Scheduler, error), opts ...supervisor.Option) error {
	if sup == nil || newScheduler == nil {
		return errors.New("leaseasynq: want a supervisor and a function, not nil")
	}
	return sup.Lead(ctx, name, func(leads context.Context) error {
		s, err := newScheduler(leads)
		if err != nil {
			return err
		}
		if leads.Err() == nil { // it may have taken long
			if err := s.Start(); err != nil {
				return err
			}
			<-leads.Done()
			s.Shutdown()
		}
		return ctx.Err()
	}, opts...)
}
