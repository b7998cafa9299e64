// Package leasehold names the module; it has no code. Leasehold is leases over N independent Redis
// nodes: locks that renew themselves and end on their own. A name is held by the process that a
// majority of the nodes grants it to. A holder whose lease runs out is told before another process can
// have the name, and every tenure has a fencing token, so that a store can refuse a late writer.
//
//	sup, err := supervisor.New(supervisor.Config{
//		Nodes: node.URLs("redis://10.0.0.1:6379", "redis://10.0.0.2:6379", "redis://10.0.0.3:6379"),
//	})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer sup.Close(context.Background())
//
//	// One process at a time runs the function; its ctx ends with the lease.
//	err = sup.Do(ctx, "nightly-report", func(ctx context.Context) error {
//		return report(ctx, lease.FromContext(ctx).Fence())
//	})
//
// Its packages are
//
//   - [github.com/leasehold-go/leasehold/supervisor]: acquires names and keeps them; begin here
//   - [github.com/leasehold-go/leasehold/supervisor/shards]: shares a set of names among processes
//   - [github.com/leasehold-go/leasehold/lease]: the lease that a holder has, and what ends it
//   - [github.com/leasehold-go/leasehold/lease/fence]: helpers for stores that check fences
//   - [github.com/leasehold-go/leasehold/node]: connections to Redis nodes
//   - [github.com/leasehold-go/leasehold/node/nodetest]: nodes in memory, with faults, for tests
//   - [github.com/leasehold-go/leasehold/clock]: where the time comes from
//
// The command of [github.com/leasehold-go/leasehold/cmd/leasehold], which is a module of its own, runs
// a program while it holds a name.
package leasehold
