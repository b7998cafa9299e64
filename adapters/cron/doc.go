// Package leasecron has several processes run the jobs of cron, github.com/robfig/cron/v3, as one.
// With [Once] one of them runs each tick of a job. With [Leader] one of them runs all jobs for as
// long as it can. Both use leases of package supervisor.
//
//	once, err := leasecron.NewOnce(ctx, sup, leasecron.Config{Period: 45 * time.Minute})
//	...
//	c := cron.New()
//	_, err = c.AddJob("0 * * * *", once.Func("report", report))
//	c.Start()
//
// # A tick runs once
//
// A lock that is free again when the job has returned is not enough: if the clocks of two hosts
// differ by half a second, the second host finds the lock free when the job is due there, and runs
// the same tick again. So Once leaves the job's name taken until [Config.Period] after the run
// began, also if the process dies.
//
// The name has no time in it. The nodes' steady clocks tell ticks apart: a run that is due within
// the period after another run began belongs to the same tick. Let S be how far the clocks of the
// hosts, and their timers, are apart at most:
//
//   - No tick runs twice if S and Config.Wait together are less than the period.
//   - No tick is lost if the period is less than the interval by more than a timer may be late.
//   - If the host that ran the last tick dies, the others run the next one if the period is also less than
//     the interval by S. Else that one tick may be lost.
//
// The interval is the least distance between two ticks: for "0 9 * * MON-FRI" it is a day. Three
// quarters of it are a good period if the hosts agree within an eighth of it.
//
// # When the lease is lost
//
// A lease is lost if it cannot be renewed: too few nodes answer, the process is stopped for too
// long, or somebody revokes it. A plain job of cron has no context, so it goes on. The context of a
// function that was made into a job with [Once.Func] or [Leader.Func] ends. If the nodes are
// silent, it ends at least a grace before another process can have the name. It should return then.
// Its fence, lease.FromContext(ctx).Fence(), is for a store that can refuse a late writer: no lease
// stops a process that is frozen right before it writes.
//
// After a loss Once leaves the name taken for the period as ever, so the tick is not run again. A
// Leader stops its cron, waits for the jobs that are running, and is a candidate again.
package leasecron
