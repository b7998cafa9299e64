// Package node connects to one Redis server, of the several whose votes a supervisor counts.
//
// # For users
//
// A [Conn] says how a node is reached. Put it into supervisor.Config.Nodes. Make it with one of
// these:
//
//   - [URL], and [URLs] for several: redis://, rediss:// and unix://, with user, password,
//     database, certificates and Sentinels.
//   - [FromOption], for what a URL cannot say: a dialer, credentials that change.
//   - [FromClient], for a client that the program has already.
//
// Making a Conn connects to nothing. If a Conn cannot be used, [Conn.Err] says why, and
// supervisor.New returns that error. No error and no text of a Conn contains a credential. Package
// node/nodetest has nodes in memory for tests.
//
// # For the supervisor
//
// Package supervisor is built on all the rest, which may change with it. It is exported because the
// supervisor, its tests and nodetest are packages of their own:
//
//   - An [Actor] owns the connection to one node. It takes each [Command] from its mailbox, and
//     hands back each [Reply] in a [Batch], with the [State] of the node. A [Wake] is a message
//     that the node has sent unasked. A [Group] is leases that are renewed together.
//   - [NewToken], [TokenOf], [ValueOf], [OwnerOf], [CutLeft], [Reserved] and [FenceKey] say what a lock key
//     contains and how its keys are named; [ReservedPrefix], [ReservationMark] and [LeftMark] say
//     which names and owners cannot be used. docs/design.md has the protocol.
//   - With an [Electorate] and its [Fingerprint] clients tell each other which nodes they use.
//
// Programs that want leases need none of it: they use supervisor and lease.
package node
