// Package node reaches one Redis server, of the several that a supervisor counts the
// votes of.
//
// # For users
//
// A [Conn] says how a node is reached, and is what goes into supervisor.Config.Nodes. Make it
// with one of these:
//
//   - [URL], and [URLs] for several: redis://, rediss:// and unix://, with user, password,
//     database, certificates and Sentinels.
//   - [FromOption], for what a URL cannot say: a dialer, credentials that change.
//   - [FromClient], for a client that the program has already.
//
// Nothing is connected to by that. A Conn that cannot be used says why in [Conn.Err], and
// supervisor.New returns that. No error and no text of a Conn contains a credential. Package
// node/nodetest has nodes in memory for tests.
//
// # For the supervisor
//
// All else is what package supervisor is built on, and may change with it. It is exported
// because the supervisor, its tests and nodetest are packages of their own:
//
//   - An [Actor] owns the connection to one node. It takes each [Command] from its mailbox, and
//     hands back each [Reply] in a [Batch], with the [State] of the node. A [Wake] is what
//     the node has told unasked. A [Group] is leases that are renewed together.
//   - [NewToken], [TokenOf], [ValueOf], [OwnerOf], [CutLeft], [Reserved] and [FenceKey] say what a lock key
//     contains and how its keys are named; [ReservedPrefix], [ReservationMark] and [LeftMark] say
//     which names and owners cannot be used. docs/design.md has the protocol.
//   - An [Electorate] and its [Fingerprint] are how clients tell each other which nodes they use.
//
// Programs that want leases need none of it: they use supervisor and lease.
package node
