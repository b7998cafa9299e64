package lease

import "context"

// Handle returns that with which another process can take this lease over, by Adopt
// of its supervisor. It is empty once the lease is over. Calling it changes nothing: the
// lease is held here, and renewed, as before.
//
// It is for getting a lease back after a restart: store string(handle), and adopt it in the
// next process. The lease that Adopt returns has a token of its own and a larger fence.
// If this process still lives then, it learns at its next renewal that the lease is
// taken, and the lease ends here with [ErrTaken]. The other process believes in its lease
// only after what the nodes had promised here has run out, unless its caller says that
// this process has ended. A handle can be adopted once. To give a lease to another
// process while this one lives, use [Lease.HandOver]: that needs no such wait. Take the
// handle again after Extend.
//
// The handle is the key to the lease: whoever has it can take the lease, or end it.
// Keep it as you would a password; printed or encoded, it does not tell itself, see [Handle].
func (l *Lease) Handle() Handle {
	keeper := l.keeper()
	if keeper == nil || l.Err() != nil {
		return ""
	}
	return keeper.Handle()
}

// HandOver gives the lease to another process without a moment in which the name is
// free. It renews the lease on a quorum of nodes, ends it here with [ErrHandedOver]
// without telling the nodes, and returns a handle. The other process takes the lease over
// with it, by Adopt of its supervisor: the heir's lease has a token of its own and a
// larger fence, and begins without a wait. Done is closed when HandOver returns; stop the
// work before, because the heir may start at once. Nobody renews the lease until it is
// adopted, for which there is its TTL. If nobody adopts it, the name stays taken for so
// long.
//
// An error means that there is no handle. It is one that wraps [ErrLost], or why the lease
// ended otherwise; or ctx's error, if ctx was done before a quorum had confirmed the
// renewal, and then the lease stays held here. A second HandOver while one is in progress
// also fails, and leaves the lease held. See [Lease.Handle] for what a handle is worth.
func (l *Lease) HandOver(ctx context.Context) (handle Handle, err error) {
	if err := l.Err(); err != nil {
		return "", err
	}
	keeper := l.keeper()
	if keeper == nil {
		if l.finish(ErrHandedOver, over) {
			l.endContexts()
		}
		return "", nil
	}
	handle, err = keeper.HandOver(ctx)
	if err == nil {
		l.endContexts() // whose end may be under way
	}
	if err != nil && l.Err() != nil {
		err = l.Err() // it ended meanwhile
	}
	return handle, err
}
