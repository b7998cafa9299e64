// Package leasegocron has several processes run the jobs of gocron, github.com/go-co-op/gocron/v2, as
// one: a [Locker] has each tick of a job run by one of them, an [Elector] has one of them run all jobs
// for as long as it can. Both stand on leases of package supervisor.
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
// gocron locks a job's name when the job is due, and unlocks it when the job has returned. A lock that is
// free again then keeps nothing apart: of two hosts whose clocks differ by half a second, the second
// finds the lock free when it is due, and runs the same tick again. So a Locker leaves the name taken
// until [Config.Period] after the run began, also if the process dies. To whom the name is taken, gocron
// skips the tick, and tells AfterLockError.
//
// The name of a run is the job's name, and no time is in it. A tick is recognised by the steady clocks of
// the nodes: what is due within the period after a run began is the same tick. Let S be how far the
// clocks of the hosts, and their timers, are apart at most:
//
//   - No tick runs twice if S and Config.Wait together are less than the period.
//   - No tick is lost if the period is less than the interval by more than a timer may be late.
//   - If the host that ran the last tick dies, the others run the next one if the period is also less than
//     the interval by S. Else that one tick may be lost.
//
// Three quarters of the interval suit hosts that agree within an eighth of it. That is the
// distance between two ticks, for a job each hour 45 minutes. A job that is due in intervals of its own
// start (gocron.DurationJob) runs in that interval too; its hosts tick at any moments, and runs are a
// period apart at least.
//
// # When the lease is lost
//
// A lease is lost if it cannot be renewed: too few nodes answer, the process is stopped for too long, or
// somebody revokes it. gocron does not know: a job goes on that was given to gocron by itself, and with an
// Elector every job that is running. A function that is given by [Locker.Task] or [Elector.Task] is told: its
// context ends, at the latest a grace before another process can have the name if nodes are silent. It
// should return then. Its fence, lease.FromContext(ctx).Fence(), is for a store that can refuse a late
// writer: no lease stops a process that is frozen between its question and its write.
//
// After a loss a Locker leaves the name taken for the period as ever, so the tick is not run again. Of an
// Elector another process leads as soon as it can, and this one stands again when the functions that
// Elector.Task has made have returned.
package leasegocron
