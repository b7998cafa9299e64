// Package shards shares a set of names among processes, so that each name is owned by one of them
// at a time, and all own about as many.
//
//	err := shards.Own(ctx, sup, "orders", names, func(ctx context.Context, name string) error {
//		return consume(ctx, name, lease.FromContext(ctx).Fence())
//	})
//
// Every process calls [Own] with the same group and names. A process owns a name while it holds a
// lease on GROUP/NAME, and the function runs under that lease. There is no leader and no plan: each
// process looks which process holds what, and decides for itself alone what to take and what to
// give. A wrong view costs moves, and never a second owner: the lease is the ownership.
//
// # Who takes part
//
// Each process also asks for the name GROUP for as long as it takes part. One process holds it, the
// others stand in its queue, and one Inspect counts them. So the name GROUP and all names that
// begin with GROUP and a slash belong to the group: use them for nothing else. A process that
// leaves is not counted any more at once. One that dies in the queue is counted for two heartbeats
// more, and one that dies while it holds GROUP for the TTL.
//
// # How much each has
//
// Of N names and M processes each process has N/M names, rounded down or up, once nothing changes.
// A process with more than N/M, rounded down, gives a name away if another process stands in its
// queue. It ends the context of the function with [ErrMoved], waits until the function has
// returned, and releases the lease. The nodes hand the name to the process that waits. A process
// with less takes names that are free, or stands in the queues of names of those processes that
// have most.
//
// # What a function owes
//
// It returns soon after its context has ended: until then its name is given to no other process,
// unless its lease is lost. It passes the fence of its lease along with each write, as every holder
// of a lease should: only the store can stop a holder that writes after a loss.
//
// A function that returns although its context has not ended gives its name up. Then this process
// leaves the name alone for a while, from a second to a minute, so that another process may try. A
// function that panics ends Own: see there.
package shards
