// Package supervisor acquires names on independent Redis nodes and keeps the
// leases on them.
//
// # Usage
//
// Make one [Supervisor] for the process with [New], and end it with
// [Supervisor.Close]. New does not wait for the nodes: it succeeds while they are
// down.
//
// [Supervisor.Acquire] waits until a name is held, and returns a lease.Lease that
// renews itself until it is released or lost. [Supervisor.TryAcquire] makes one
// attempt. [Supervisor.Do] runs a function under a lease, [Supervisor.Lead] runs one
// for as long as this process can be the one that does, and [Supervisor.StepDown] ends
// that. [Supervisor.AcquireAll] acquires several names or none. A context bounds the
// waiting for a name, and never the lease.
//
// [Supervisor.Inspect] and [Supervisor.Watch] show who holds a name, which
// [WithOwner] tells them; neither is for deciding whether to work.
// [Supervisor.Revoke] takes a lease away from whoever holds it. HandOver of a lease
// and [Supervisor.Adopt] give it to another process, without a moment in which the name
// is free. The adopted lease has a token of its own and a larger fence.
//
// errors.Is tells a name that is held ([ErrHeld]) from nodes that cannot be
// reached ([ErrNoQuorum]), from a supervisor that was closed ([ErrClosed]) and from one
// whose nodes are one server twice ([ErrMisconfigured]). [AcquireError] lists what each
// node answered.
//
// A server that was never used, was restarted or has lost its data is young: it may have
// forgotten a lease, and is asked for no new one for a window. If all nodes are young, or
// there is one only, that is Config.MaxTTLCap and a little more: set it to the largest TTL
// of all clients. Acquire waits for it. TryAcquire fails with ErrNoQuorum, and
// [AcquireError.Young] tells for how long; a supervisor that is made anew counts again.
//
// # Concurrency properties
//
// Every method may be called from any goroutine. Every call ends with its context
// at the latest, also while nodes hang: what is still to be told to a node is told
// without the caller. Only Do and Lead go on until their function has returned.
//
// A lease is a value that may be handed to any goroutine. It is not re-entrant: a
// second Acquire of a name, also by the same goroutine, waits for the first lease to
// end. The callers of one process that wait for a name are served in the order in
// which they came; only the first of them talks to the nodes. It stands in a queue
// that the nodes keep, where processes are served in the order in which their first
// waiters came. Before it does it makes one attempt, which may win a name that is just
// free although others wait. With [WithAttempts] it makes those attempts, with a pause
// after each, and does not stand there.
//
// A node that hangs or is down delays nobody as long as a quorum answers: each node
// has a goroutine and a connection of its own.
//
// # What a holder owes
//
// Stop when Lost is closed. Where the lease has expired, lease.ErrExpired, that is the
// configured grace before the nodes may let anybody else in, so there is that much time
// to stop in. With any other reason, as that it was revoked or taken, or that this
// machine was paused, somebody else may hold the name already.
//
// Ask Valid right before a write: it reads the clock, where a channel needs a
// goroutine that is scheduled. And pass the Fence along with the write where the
// resource can check it, because no lease can stop a process that is frozen between
// the question and the write.
//
// Release when the work is over. That is not needed for safety, the keys expire by
// themselves; but others wait that long.
//
// # Goroutines and who closes what
//
// A supervisor runs one goroutine that decides and one for each node, and the
// nodes' clients have a few of their own; a lease costs none. Once something has
// waited for a name, a second connection to each node listens for what is reserved,
// with a goroutine that makes it anew when it breaks. If there is an
// Observer or a Logger, one more calls them. No goroutine is left when Close has
// returned, but for an observer that is stuck, and that of a client which the
// caller made, see node.Client.
//
// Between them go values. The loop sends commands to the mailbox of a node's actor,
// and never waits for room: a full mailbox is an answer at once. The actor hands
// back one batch for each pipeline, and may wait for the loop, as may who listens to
// a node with what it heard. So everybody may wait for the supervisor, and the
// supervisor waits for nobody, which leaves no cycle for a deadlock.
//
// Close closes s.stop. The loop then refuses work, ends every lease, which closes
// its channels, sends the releases, and goes on until each of them is answered or
// certain not to be. Very many leases end a piece at a time, each before its own
// release. Then it closes the mailboxes, whose only sender it is; each
// actor answers what it had taken and returns; behind the last of them s.replies is
// closed, and the loop, which has drained it meanwhile, ends. In any other order an
// actor could block on a batch that nobody takes, or a holder still believe in a
// lease whose release is on its way. If the context of Close ends first, it cuts
// the connections, and every actor answers the rest of its mailbox without sending.
//
// # Non-obvious
//
// The quorum is counted of the nodes that are configured, never of those that can
// be reached: two halves of a network would each find one.
//
// A promise counts from before its command was queued, never from its answer: the
// node's clock for the key started somewhere in between.
//
// There are no rounds. Each node's promise moves when that node answers, and the
// deadline of a lease is the q-th latest of them. A slow node delays no other, and
// a late grant still strengthens the lease.
//
// Effects are performed before sends: a holder hears that its lease is lost before
// any node hears the release, and so before anybody else can hold the name.
//
// A holder who saw the end is believed. Valid ends a lease whose time is over before
// the loop has noticed; a renewal that the loop is just taking in must then not
// bring it back, and the loop gives the lease up instead.
//
// Silence is not a no. A node that did not answer a grant may have the key, and may
// get the command out of some buffer later: it is sent a release all the same, and
// owes us an answer to it. These debts are sent again when the node is back, until
// the key must have expired, or for a quarter of an hour where it is not known
// whether the grant arrived. They outlive the attempt, and are dropped by Close.
//
// Every attempt has a token of its own, so that a release which arrives late cannot
// touch the lease of the next attempt.
//
// A vote was withdrawn if the node said that the key is gone or another's. It passes two
// trials before it counts again. The node is healed when a quorum of other nodes has
// answered renewals that were sent after this was noticed: meanwhile a rival may have come
// and gone on just those nodes. And the vote counts when a quorum of others has done so
// again, after the node was known to have the key: the rival may have come between the
// first confirmation and the heal. A grant that came late may have come after such a rival
// too. It is in doubt as soon as a vote is withdrawn, or a lapsed one is found gone.
//
// A node that has forgotten, by a restart or a flush, is healed without losing its vote,
// because every client's guard keeps it from being asked for a grant while it is young.
// The healing waits until no election can still be counting a vote of its former life. If
// the key is found in a life that was not asked for it, that counts after the same wait.
//
// Youth is counted on our own clock, from when we first heard of the life: a node's clock
// may be set right after a restart. Who has known a life for the window writes that down
// on the node, for those that come later.
//
// The window must outlast the longest lease that anybody may have been granted, so the
// nodes' markers keep the largest MaxTTL of all clients. A node that forgot has forgotten
// that too: its window is known when so many others have confirmed theirs that every
// quorum has one of them, and is that of MaxTTLCap until then.
//
// A lease that is adopted has no history here. An adoption is an election among the nodes
// that keep the former token. Each swaps it for one of the attempt's own. So the former
// holder is told, and its late writes have a smaller fence. Nothing that the handle
// says about time is believed. Unless its former holder has ended, the lease begins when
// what the nodes had promised to that one has run out. A failed adoption releases nothing:
// the former holder may still count these nodes, and the handle may be tried again.
//
// A line is the callers of this process that want one name. While one of them holds
// it, the rest send nothing. When it is given back, the next grant goes out right
// behind the release, in the same mailbox: commands of one node keep their order. Where
// other processes wait, the release has reserved the name for one of them by then, and
// that grant is refused: the line goes to the end of the queue.
//
// Who had to wait for a name and wants it again soon stands in the queue at once: an
// attempt before that would be refused.
//
// A reservation is a promise, and no vote. Who has it claims the name once a quorum
// has it reserved, and what counts is the answered claim. To the renewal and the heal of
// a lease such a key is absent and not another's, because nobody holds it: the holder
// has the node back by a heal, and the vote counts, or does not, as after any absence.
//
// A lease may be reserved a node that it was elected without, because its token still
// stands in the queue there. It claims that node, and the vote is on probation: a rival
// may have had it meanwhile.
//
// What a node tells unasked, of a reservation or of a key that has changed, is a reason
// to ask and never to believe. All of it may be lost: a waiter asks about as
// often as a reservation lasts, and when the holder's grant runs out, and a holder
// renews.
package supervisor
