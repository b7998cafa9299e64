// Package supervisor acquires names on independent Redis nodes and keeps the leases on them.
//
// # Usage
//
// Make one [Supervisor] for the process with [New], and end it with [Supervisor.Close]. New
// does not wait for the nodes: it succeeds while they are down.
//
// [Supervisor.Acquire] waits until a name is held. It returns a lease.Lease that renews itself
// until it is released or lost. [Supervisor.TryAcquire] makes one attempt. [Supervisor.Do]
// runs a function under a lease. [Supervisor.Once] runs a function once in a period, in the
// first process that asks. [Supervisor.Lead] runs a function each time this process is
// elected, and [Supervisor.StepDown] ends its turn. [Supervisor.AcquireAll] acquires several
// names or none. [Supervisor.AcquireAny] acquires one of several names, which makes a
// semaphore of n names. A context bounds the waiting for a name, and never the lease. Package
// shards shares a set of names among processes in equal parts.
//
// [Supervisor.Inspect] and [Supervisor.Watch] show the holder of a name, as its Config.Owner
// or [WithOwner] describes it. Use neither to decide whether to work. [Supervisor.Revoke]
// takes a lease away from its holder. A process gives a lease to another with
// [lease.Lease.HandOver], and the other takes it with [Supervisor.Adopt]. The name is not free
// in between. The adopted lease has a token of its own and a larger fence.
//
// While the nodes are being changed, Config.Former has those that are being left, and a lease
// needs a quorum of each list. [Supervisor.Reconfigure] gives a running supervisor other lists.
// [InspectChange] says which step is safe next, and [FinishChange] lets processes be given the
// present list alone.
//
// [Supervisor.Healthy] and [Supervisor.Leading] are for probes, and ask no node.
//
// Test with errors.Is why there is no lease: the name is held ([ErrHeld]), too few nodes can
// be reached ([ErrNoQuorum]), the supervisor was closed ([ErrClosed]), or two nodes are one
// server ([ErrMisconfigured]). [AcquireError] says what was tried, and lists what each node
// answered.
//
// A name is 1 to 512 bytes, Config.Prefix included, and its key does not begin with
// "leasehold:".
//
// A server that was never used, was restarted or has lost its data is young: it may have
// forgotten a lease. The supervisor asks it for no new lease for a window. If all nodes are
// young, or there is only one node, the window is Config.MaxTTLCap plus the drift, 60.6 s by
// default. Set MaxTTLCap to the largest TTL of all clients. Acquire waits until the window is
// over. TryAcquire fails with ErrNoQuorum, and [AcquireError.Young] returns how long the
// window still lasts. Another supervisor that is made meanwhile counts the window from its own
// start.
//
// # Concurrency properties
//
// Every method may be called from any goroutine. Every call ends with its context at the
// latest, even if nodes hang: the supervisor tells the nodes the rest without the caller. Only
// Do, Once and Lead go on until their function has returned.
//
// A lease is a value that may be handed to any goroutine. It is not re-entrant: a second
// Acquire of a name waits for the first lease to end, even in the same goroutine. The callers
// of one process that wait for a name are served in order of arrival. Only the first of them
// talks to the nodes. It stands in a queue that the nodes keep. That queue serves processes in
// the order in which their first waiters came. Before it joins the queue it makes one attempt,
// which may win a name that is just free although others wait. With [WithAttempts] it makes
// that many attempts instead, with a pause after each, and does not queue. A caller of
// AcquireAny waits in the lines of several names at once.
//
// A node that hangs or is down delays no call as long as a quorum answers: each node has a
// goroutine and a connection of its own.
//
// # What a holder owes
//
// Stop when Lost is closed. If the lease has expired (lease.ErrExpired), the nodes grant the
// name to no other client before the configured grace is over. Stop within that time. With any
// other reason, another client may hold the name already: for example, if the lease was
// revoked or taken, or if this machine was paused. lease.LostError lists what was wrong at
// each node. It is in Err, in the event, in the log and in the cause of a context.
//
// Ask Valid right before a write: it reads the clock, while the closing of a channel needs a
// goroutine that is scheduled in time. Pass the Fence along with the write if the resource can
// check it. No lease can stop a process that is frozen between the question and the write.
//
// Release when the work is over. Safety does not need that, because the keys expire by
// themselves. But others wait until they do.
//
// # How a lease is kept
//
// For each node of a lease the supervisor keeps an instant, until. Up to that instant the node surely
// keeps the lease:
//
//	until    = the instant before a command was queued + TTL - drift, if the node has said yes to it
//	deadline = the q-th largest until of the votes that count, with q = n/2 + 1 of n nodes
//	Lost     = deadline - grace
//
// At any instant before the deadline q nodes keep the token of the lease, so no other lease
// can have q. A tenure is one attempt to hold a name and, if the attempt is won, the holding.
// It only moves forward:
//
//	Acquire        waiting ─▶ electing ─▶ raising ──────────────▶ held ─▶ releasing
//	after refusal   queued ─▶ electing ─▶ raising ──────────────▶ held ─▶ releasing
//	Adopt          waiting ─▶ electing ─▶ raising ─▶ adopting ──▶ held ─▶ releasing
//
//	waiting    the time of a quorum of nodes is not known yet
//	queued     it stands in the queues of the nodes, until a quorum has reserved the name for it, or given it
//	electing   grants, claims or swaps of the token are out, for TTL/4 at most
//	raising    q nodes have granted, and store a higher fence; left out if they had less stored,
//	           and the name is not to stay taken
//	adopting   it is renewed until no process believes in the former lease any more
//	held       each node is renewed by itself
//	releasing  it is over; releases are out
//
// A tenure that fails moves on to releasing. An adoption that fails is forgotten at once. The
// next attempt is another tenure with another token. Twelve histories in docs/design.md show
// all this at work.
//
// # Goroutines and who closes what
//
// A supervisor runs one goroutine that decides, the loop, and one for each node, its actor.
// Each connection has a few more, which sleep while commands come and go. A lease needs none.
// A caller decides in the loop's place if no other goroutine does: it holds s.mu, which no
// goroutine holds while it waits for anything. Once a caller has waited for a name, a second
// connection to each node listens for reservations. A goroutine opens it again when it breaks.
// If there is an Observer or a Logger, one more goroutine calls them. No goroutine is left
// when Close has returned, with two exceptions: that of a stuck observer, and those of a
// client which the caller made, see node.FromClient.
//
// Values go between them. The goroutine that decides sends commands to the mailbox of a node's
// actor, and never waits for room: if the mailbox is full, the command is answered at once.
// Leases that are renewed together are one command, and have one reply. The actor hands back
// one batch for each pipeline. It may wait for the loop, and so may the listener of a node. So
// every goroutine may wait for the supervisor, and the supervisor waits for none. That leaves
// no cycle for a deadlock.
//
// Close closes s.stop. The loop then refuses work, and ends every lease, which closes its
// channels. It sends the releases. It goes on until each node has answered and each name is
// free on a quorum, or the keys must have expired. Meanwhile actors connect again, and the
// loop sends again what is owed. Very many leases end a piece at a time, each before its own
// release. Then the loop closes the mailboxes, whose only sender it is. Each actor answers
// what it had taken and returns. After the last of them s.replies is closed. The loop has
// drained it meanwhile, and ends. In any other order an actor could block on a batch that the
// loop does not take, or a holder could believe in a lease whose release is on its way. If the
// context of Close ends first, Close cuts the connections. Every actor then answers the rest
// of its mailbox without sending.
//
// Reconfigure starts the actors of new nodes, and closes the mailboxes of those that are left,
// after they were sent what was decided before. The core then hears nothing of them.
//
// # Invariants
//
// These are the rules that are not obvious. Comments of the code cite them by their number.
//
//  1. The quorum is counted of the nodes that are configured, never of those that can be
//     reached. Two halves of a network would each find one.
//  2. A promise counts from before its command was queued, never from its answer. The node's
//     clock for the key started somewhere in between.
//  3. There are no rounds. A promise moves when its node answers. So a slow node delays no
//     other, and a late grant still strengthens the lease.
//  4. Effects are performed before sends. A holder hears that its lease is lost before any
//     node hears the release, and so before another client can hold the name.
//  5. What is over stays over. Valid ends a lease whose time is up before the loop has
//     noticed. A renewal that the loop hears after that does not bring it back.
//  6. Silence is not a no. A node that did not answer a grant may have the key, or get the
//     command later. It is sent a release, and owes us an answer to it. Such a debt outlives
//     the attempt, until the key must have expired. If the grant may still arrive, it lasts a
//     quarter of an hour. Release and Close wait for debts as long as no quorum is free, and
//     until the keys must have expired. Close drops what only a minority owes.
//  7. Every attempt has a token of its own. A release that arrives late cannot touch the next
//     attempt.
//  8. A fence is stored on a quorum before the lease is handed out, and it is larger than any
//     that these nodes had stored. So every later winner finds it on one of them.
//  9. A vote that was withdrawn, or is on probation, passes two trials. In the first, a
//     quorum of other nodes renews after this was noticed. Only then is the node healed,
//     because a rival may have come and gone on just those nodes. In the second, a quorum of
//     others renews again after the node was known to have the key. Only then does the vote
//     count, because the rival may have come in between.
//  10. A late grant may have come after such a rival. It counts, but it is on probation as
//     soon as a vote is withdrawn, or a lapsed one is found gone. A quorum of others ends the
//     doubt by renewing.
//  11. A node that has forgotten, by a restart or a flush, keeps its vote. The guard of every
//     client keeps it from being asked for another vote while it is young. It is healed when
//     no election can still count a vote of its former life. If a key is found in a life that
//     was not asked for it, the key counts after the same wait.
//  12. Youth is counted on our own clock, from when we first heard of the life. The node's
//     clock may be set right after a restart. A process that has known a life for the window
//     writes that on the node, for the processes that come later.
//  13. The window outlasts the longest lease that any client may have been granted. So the
//     nodes' markers keep the largest MaxTTL of all clients. A node that forgot has forgotten
//     that too. Its window is that of MaxTTLCap, until so many others have confirmed their
//     markers that every quorum has one of them.
//  14. A lease that is adopted has no history here. Each node that keeps the former token
//     swaps it for one of the attempt's own. So the former holder is told, and its late
//     writes have a smaller fence. Nothing that the handle says about time is believed.
//  15. An adopted lease begins when what the nodes had promised to its former holder has run
//     out, and a quorum that was asked after that still had the key. It need not wait if the
//     former holder has ended. A node that forgot the swap may have let the former holder
//     heal. An adoption that fails releases nothing: the former holder may still count these
//     nodes, and the handle may be tried again.
//  16. A line is the callers of this process that want one name. Only the first talks to the
//     nodes, and none does while this process holds the name. The next command goes out right
//     after the release, in the same mailbox: commands of one node keep their order.
//  17. A caller that had to wait for a name, and wants it again soon, stands in the queue at
//     once. An attempt before that would be refused.
//  18. A reservation is a promise, not a vote. The waiter claims the name once a quorum has
//     reserved it, and the answered claim counts. A gift is a vote. Each heartbeat of a
//     waiter is a grant that stays open until the heartbeat's end. The message of a release
//     names that heartbeat, so the message is its answer. The key is given for as long as a
//     reservation lasts, only within the heartbeat, and only with a fence that is larger than
//     what the node has stored. q gifts of one fence are a lease. Its until counts from the
//     sending of the heartbeat: the time that the node's clock runs from then to the end of
//     the key.
//  19. To a renewal and a heal a reserved key is absent and not another's, because no client
//     holds it. If a node that a lease was elected without reserves the name for it, that
//     node is not claimed. Its vote is on probation: a rival may have had the node meanwhile.
//  20. A message that a node sends unasked, of a reservation or of a changed key, is a reason
//     to ask and never to believe. A gift is no exception: it answers a heartbeat. All such
//     messages may be lost. So a waiter also asks about as often as a reservation lasts, and
//     when the holder's grant runs out. A holder also renews, or looks which client has the
//     key if its lease is not to be renewed.
//  21. An end begins nothing. What ends a lease or loses an attempt puts the line on a list.
//     The list is served after the input, a piece at a time. So one input takes as long with
//     very many waiters as with one.
//  22. A key dies by its node's clock. So a vote carries how far that clock was ahead of ours
//     when it was given. That is what the node had read before it did anything of that batch,
//     counted from the sending. A later answer, counted to its receipt, may prove that the
//     clock has gained more than the drift. Then the vote is believed for a shorter time:
//     less by all that the clock may have gained, counted from the sending. With the receipt
//     in both places votes would be believed for longer than the node keeps the key.
//  23. A name that is to stay taken does so by keys of a longer life, which no vote takes
//     notice of. A quorum has them before the lease is handed out. An attempt asks for the
//     TTL until a quorum has granted: an attempt that dies before must not keep others out
//     for longer. Only a lease that was held leaves its keys, and a key that was left is no
//     vote.
//  24. A caller that wants any of several names waits in several lines, and asks for votes in
//     one of them at a time. In that step it gives back all that it has in the others,
//     reserved or given. It keeps its places there, and goes on if the election is lost. So a
//     caller that wants one name never holds two. Nor does it keep a name from those after it
//     for longer than a message takes.
//  25. While the nodes are being changed, a vote counts only if the stage that was enrolled at
//     its node lets it. Clients of the former list alone and clients of the present list alone
//     may have no node in common: the nodes let votes of the second count only when no lease
//     of the first can be believed in any more. Fences of the second are larger than the floor
//     that the nodes keep, because it was read when the first handed out no fence any more.
//     After that a list which is neither counts, too, unless it may be the former one.
//  26. A lease rests on the lists with which it was elected or adopted. Whatever needs a quorum
//     needs one of each. When its process is given a second list, the nodes of that get its
//     key as nodes that never had it, on probation. As soon as all of them count, the lease
//     rests on both, for good; after a window, or once the former list is closed, a quorum of
//     them suffices. Only such a lease may leave the former list.
//  27. A vote counts only if this client's entry on the node, which says which nodes it uses,
//     is alive for as long as the vote may be believed in. Of two clients whose lists do not
//     meet, the younger one by the word of any node acquires nothing. What is held is not
//     shortened.
package supervisor
