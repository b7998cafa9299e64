// Package leaseotel tells OpenTelemetry what a supervisor of leasehold does: as metrics, and as spans if they
// are asked for. Its [Telemetry] hears the supervisor's events, and reads its counters when metrics are
// collected. No node is asked anything, and no call waits for it.
//
//	telemetry, err := leaseotel.New(leaseotel.Config{TracerProvider: otel.GetTracerProvider()})
//	...
//	sup, err := supervisor.New(telemetry.Instrument(cfg))
//	...
//	registration, err := telemetry.Attach(sup)
//	...
//	defer registration.Unregister()
//
// # Metrics
//
// An attribute in brackets is there only if [Config.MaxNames] asks for it.
//
//	leasehold.acquire.wait_time      histogram      s             error.type [leasehold.lease.name]  how long calls waited for a lease, the election included
//	leasehold.acquire.waiting        updowncounter  {call}                                           calls that wait for a name now
//	leasehold.lease.hold_time        histogram      s             [leasehold.lease.name]             how long leases were held, of those that are over
//	leasehold.lease.lost             counter        {lease}       error.type [leasehold.lease.name]  leases that ended without their holder asking
//	leasehold.lease.count            updowncounter  {lease}       [leasehold.lease.name]             leases that are held now
//	leasehold.release.owed           updowncounter  {release}                                        releases that a node has yet to confirm
//	leasehold.event.dropped          counter        {event}                                          events that were dropped, because an observer or the logger was too slow
//	leasehold.renewal.margin         gauge          s                                                the least time that a lease had left when it was renewed, of the last half to whole minute; absent if none was renewed
//	leasehold.renewal.count          counter        {renewal}     leasehold.renewal.margin_tenths    renewals, by how many tenths of its TTL the lease had left, 0 to 9; 6 is ordinary
//	leasehold.loop.utilization       gauge          1                                                the share of time in which the supervisor's goroutine worked, since the collection before; at 1 it is saturated, and leases will be lost
//	leasehold.loop.longest           gauge          s                                                the longest that it worked without a pause, of the last half to whole minute
//	leasehold.node.up                gauge          1             of the node                        1 if the node is enrolled, else 0
//	leasehold.node.round_trip.count  counter        {round_trip}  of the node                        pipelines of commands that the node has answered
//	leasehold.node.round_trip.time   counter        s             of the node                        how long they took together
//	leasehold.node.clock_offset      gauge          s             of the node                        how far the node's clock is ahead of the median of all nodes
//	leasehold.node.disagrees         gauge          1             of the node                        1 if other clients of the node use other nodes than this one, else 0
//
// The attributes of a node are server.address, server.port, and leasehold.node, which is its address as
// the supervisor shows it, with no credentials in it: "10.0.0.1:6379". A second node with the same
// address is "10.0.0.1:6379 #2" there.
//
// A call that got its lease has no error.type. Otherwise it is "held", "no_quorum", "closed",
// "misconfigured", "fence_exhausted", "lost" of a handle that was to be adopted, "ended" if nothing but the end of
// the context stood in the way, or "_OTHER". Of a lost lease it is "expired", "forgotten", "revoked", "taken",
// "paused", "max_hold", "closed" of a lease that Close has ended, or "_OTHER".
//
// Names of leases are no attribute of metrics unless they are asked for. With Config.MaxNames the first
// names get an attribute of their own, up to so many, and all that come later share the value "other". They are
// the names that were given to Acquire, without Config.Prefix of the supervisor.
//
// # Spans
//
// With a [Config.TracerProvider] there are two spans for each lease. Both have leasehold.lease.name.
//
// "leasehold acquire" is a child of the span in the context that was given to Acquire, Do or another call,
// and lasts from the call to its outcome. Its events say what the call did: "waiting", if it
// had to wait before the attempt that was decided; "election", when the nodes were asked for their
// votes; "raise", when they were asked to store a larger fence, if that was needed. A call that failed
// has an error.type, and the status Error unless the name was just held. The other has leasehold.lease.fence.
//
// "leasehold tenure" is a root of its own, links to the span of the acquisition, and lasts until the lease
// is over. Its leasehold.lease.end is "released", "handed_over" or why it was lost, which is its error.type
// too, with the status Error. A lease that Close has ended is no error. The end is "untold" if the event was
// dropped.
//
// Spans are made when the supervisor tells of an event, a moment after it. Their times are counted
// back from that moment.
package leaseotel
