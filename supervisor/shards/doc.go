// Package shards has some processes share a set of names, so that each name is owned by one
// of them at a time, and all own about as many.
//
//	err := shards.Own(ctx, sup, "orders", names, func(ctx context.Context, name string) error {
//		return consume(ctx, name, lease.FromContext(ctx).Fence())
//	})
//
// Every process calls [Own] with the same group and names. What it owns is a lease on
// GROUP/NAME, and its function runs under that lease. There is no leader and no plan: each
// process looks who holds what, and decides for itself alone what to take and what to give. A
// wrong view costs moves, and never a second owner: the lease is the ownership.
//
// # Who takes part
//
// Each process also acquires the name GROUP for as long as it takes part. One has it, the
// others stand in its queue, and one Inspect tells how many they are. So GROUP and
// everything that begins with it and a slash belong to the group: no other group, and nobody
// else, should use them. Who leaves is gone at once. Who dies while it stands there is gone
// after two heartbeats, and who dies while it has the name after its TTL.
//
// # How much each has
//
// Of N names and M processes each has at least N/M, rounded down, and nobody has more than that
// rounded up, once nothing changes. A process with more than the lower of the two
// gives a name if somebody stands in its queue. It ends the context of the function with
// [ErrMoved], waits until the function has returned, and releases the lease: the nodes hand it
// to whoever waits. A process with less takes names that are free, or stands in the queues of
// those who have most.
//
// # What a function owes
//
// It returns soon after its context has ended: until then its name is not given to anybody,
// unless its lease is lost. It passes the fence of its lease with each write, as every
// holder of a lease should: only the store can stop one that writes after a loss.
//
// A function that returns although its context has not ended gives its name up. This process
// leaves the name alone for a while then, from a second to a minute, so that another one
// may try. A function that panics ends Own: see there.
package shards
