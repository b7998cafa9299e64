// Package leaseprom exports what a supervisor of leasehold does as metrics for Prometheus. Its
// [Collector] hears the supervisor's events, and reads its counters when it is scraped. No node is
// asked anything, and no call waits for it.
//
//	metrics := leaseprom.NewCollector(leaseprom.Config{})
//	prometheus.MustRegister(metrics)
//
//	sup, err := supervisor.New(metrics.Instrument(cfg))
//	...
//	metrics.Attach(sup)
//
// # Metrics
//
// A label in brackets is there only if [Config.MaxNames] asks for it.
//
//	leasehold_acquire_wait_seconds     histogram  outcome [name]  how long calls waited for a lease, the election included
//	leasehold_hold_seconds             histogram  [name]          how long leases were held, of those that are over
//	leasehold_lost_total               counter    reason [name]   leases that ended without their holder asking
//	leasehold_held                     gauge      [name]          leases that are held now
//	leasehold_waiting                  gauge                      callers that wait for a name now
//	leasehold_releases_owed            gauge                      releases that a node has yet to confirm
//	leasehold_events_untold_total      counter                    events that were dropped, because an observer or the logger was too slow
//	leasehold_renewal_margin_seconds   gauge                      the least time that a lease had left when it was renewed, of the last half to whole minute; absent if none was renewed
//	leasehold_renewal_margin_ratio     histogram                  the same of all renewals, as a fraction of the lease's TTL; about 0.6 is ordinary
//	leasehold_loop_busy_ratio          gauge                      the share of time in which the supervisor's goroutine worked, since the collection before; at 1 it is saturated, and leases will be lost
//	leasehold_loop_longest_seconds     gauge                      the longest that it worked without a pause, of the last half to whole minute
//	leasehold_node_up                  gauge      node            1 if the node is enrolled, else 0
//	leasehold_node_round_trip_seconds  summary    node            how long a node took to answer; count and sum alone
//	leasehold_clock_offset_seconds     gauge      node            how far the node's clock is ahead of the median of all nodes
//	leasehold_node_disagrees           gauge      node            1 if other clients of the node use other nodes than this one, else 0
//
// An outcome is "acquired", or why there is no lease: "held", "no_quorum", "closed", "misconfigured",
// "fence_exhausted", "lost" of a handle that was to be adopted, "ended" if nothing but the end of the
// context stood in the way, and "other".
//
// A reason is "expired", "forgotten", "revoked", "taken", "paused", "max_hold", "closed" of a lease that
// Close has ended, and "other". Each is there from the beginning, with 0, unless there is a label name.
//
// The label node is the node's address, which has no credentials in it: "10.0.0.1:6379", with the master
// set and the database if there are such. A second node with the same address is "10.0.0.1:6379 #2".
//
// The sum of leasehold_renewal_margin_ratio takes each renewal for one in the middle of its bucket.
//
// Before Attach there are only the histograms of waiting and holding, and leasehold_lost_total.
//
// # Names
//
// Names of leases are no label unless they are asked for: a service with a lease for each customer
// would make a series for each. With Config.MaxNames the first names that are acquired, or not, get a label
// of their own, up to so many, and all that come later share the label "other". They are the names that
// were given to Acquire, without Config.Prefix of the supervisor.
//
// # Dashboard and alerts
//
// The folder of this package has dashboard.json for Grafana, and alerts.yaml with five rules for
// Prometheus: nodes that are down, renewals that come later and later, a goroutine that is saturated, clocks
// that differ, and clients that do not agree on the nodes.
package leaseprom
