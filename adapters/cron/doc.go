// Package leasecron has several processes run the jobs of cron, github.com/robfig/cron/v3, as one. [Once]
// has each tick of a job run by one of them. [Leader] has one of them run all jobs for as long as it can. Both
// stand on leases of package supervisor.
//
//	once, err := leasecron.NewOnce(ctx, sup, leasecron.Config{Period: 45 * time.Minute})
//	...
//	c := cron.New()
//	_, err = c.AddJob("0 * * * *", once.Func("report", report))
//	c.Start()
//
// # A tick runs once
//
// A lock that is free again when the job has returned keeps nothing apart: of two hosts whose clocks differ
// by half a second, the second finds the lock free when it is due, and runs the same tick again. So Once
// leaves the job's name taken until [Config.Period] after the run began, also if the process dies.
//
// No time is in the name of a run. A tick is recognised by the steady clocks of the nodes: what is due
// within the period after a run began is the same tick. Let S be how far the clocks of the hosts, and
// their timers, are apart at most:
//
//   - No tick runs twice if S and Config.Wait together are less than the period.
//   - No tick is lost if the period is less than the interval by more than a timer may be late.
//   - If the host that ran the last tick dies, the others run the next one if the period is also less than
//     the interval by S. Else that one tick may be lost.
//
// Three quarters of the interval suit hosts that agree within an eighth of it. The interval is the least
// distance between two ticks: for "0 9 * * MON-FRI" it is a day.
//
// # When the lease is lost
//
// A lease is lost if it cannot be renewed: too few nodes answer, the process is stopped for too long, or
// somebody revokes it. A job of cron has no context, so it goes on. A function that is given by [Once.Func]
// or [Leader.Func] is told: its context ends, at the latest a grace before another process can have the name
// if nodes are silent. It should return then. Its fence, lease.FromContext(ctx).Fence(), is for a store that
// can refuse a late writer: no lease stops a process that is frozen between its question and its write.
//
// After a loss Once leaves the name taken for the period as ever, so the tick is not run again. A Leader
// stops its cron, waits for the jobs that are running, and stands again.
package leasecron
