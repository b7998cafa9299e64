// Package nodetest offers in-memory Redis nodes, with faults, for tests and for
// demonstrations.
//
// A [Node] does what a Redis server does with the commands and scripts that
// leasehold sends, and speaks RESP2 and RESP3 to the same client that talks to
// real servers; only the network is a pipe in memory. Package conform holds the
// table of cases that keeps it equal to a real server. It runs no Lua: it knows
// leasehold's scripts by their text, and package keyspace plays them in Go.
//
//	nodes := nodetest.Start(3)
//	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodes)})
//	...
//	nodes[0].Crash()
//
// Inside a testing/synctest bubble a node lives by the bubble's time, so ten
// seconds of a hung server cost nothing: make the node inside the bubble, and
// give the supervisor [clock.Runtime] as its clock. A node has goroutines only for
// its connections: they end with the connection, or with [Node.Close].
//
// A key exists until the end of its last millisecond, as on a real server. The node's clock is at the
// beginning of a millisecond when the node is made.
//
// Every method of a Node may be called from any goroutine. None but
// [Node.Close] waits for anything.
package nodetest
