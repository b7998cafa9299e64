// Package leasegocron has several processes run the jobs of gocron, github.com/go-co-op/gocron/v2,
// as one. With a [Locker] one of them runs each tick of a job. With an [Elector] one of them runs
// all jobs for as long as it can. Both use leases of package supervisor.
//
//	locker, err := leasegocron.NewLocker(sup, leasegocron.Config{Period: 45 * time.Minute})
//	...
//	s, err := gocron.NewScheduler(gocron.WithDistributedLocker(locker))
//	...
//	_, err = s.NewJob(gocron.CronJob("0 * * * *", false),
//		locker.Task("report", report), gocron.WithName("report"))
//
// # A tick runs once
//
// gocron locks a job's name when the job is due, and unlocks it when the job has returned. That is
// not enough: if the clocks of two hosts differ by half a second, the second host finds the lock
// free when the job is due there, and runs the same tick again. So a Locker leaves the name taken
// until [Config.Period] after the run began, also if the process dies. In the other processes
// gocron skips the tick, and calls AfterLockError.
//
// The name that is locked is the job's, without a time. The nodes' steady clocks tell ticks apart:
// a run that is due within the period after another run began belongs to the same tick. Let S be
// how far the clocks of the hosts, and their timers, are apart at most:
//
//   - No tick runs twice if S and Config.Wait together are less than the period.
//   - No tick is lost if the period is less than the interval by more than a timer may be late.
//   - If the host that ran the last tick dies, the others run the next one if the period is also less than
//     the interval by S. Else that one tick may be lost.
//
// The interval is the distance between two ticks. Three quarters of it are a good period if the
// hosts agree within an eighth of it: 45 minutes for a job that runs each hour. A job that is due
// in intervals of its own start (gocron.DurationJob) runs in that interval too; its hosts tick at
// any moments, and runs are a period apart at least.
//
// # When the lease is lost
//
// A lease is lost if it cannot be renewed: too few nodes answer, the process is stopped for too
// long, or somebody revokes it. gocron does not know, and a plain job goes on. The context of a
// function that was made into a task with [Locker.Task] or [Elector.Task] ends. If the nodes are
// silent, it ends at least a grace before another process can have the name. It should return then.
// Its fence, lease.FromContext(ctx).Fence(), is for a store that can refuse a late writer: no lease
// stops a process that is frozen right before it writes.
//
// After a loss a Locker leaves the name taken for the period as ever, so the tick is not run again.
// With an Elector another process leads as soon as it can. This process is a candidate again when
// the running functions of Elector.Task have returned.
package leasegocron
