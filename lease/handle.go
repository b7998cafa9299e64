package lease

import "context"

// Handle returns a handle, with which another process can take this lease over by Adopt of its
// supervisor. It returns "" once the lease is over. Calling Handle changes nothing: the lease is
// held here, and renewed, as before.
//
// A handle is for getting a lease back after a restart: store string(handle), and adopt it in the
// next process. It contains the TTL, so take it again after Extend. It can be adopted once. The
// lease that Adopt returns has a token of its own and a larger fence. If this process still lives
// then, its next renewal finds that the lease was taken, and the lease ends here with [ErrTaken].
// Adopt waits until what the nodes had promised to this process has run out, unless its caller says
// that this process has ended. To give a lease to another process while this one lives, use
// [Lease.HandOver]: that needs no such wait.
//
// The handle is the key to the lease: anyone that has it can take the lease, or end it. Keep it as
// you would a password. If it is printed or encoded it hides itself, see [Handle].
func (l *Lease) Handle() Handle {
	keeper := l.keeper()
	if keeper == nil || l.Err() != nil {
		return ""
	}
	return keeper.Handle()
}

// HandOver gives the lease to another process without a moment in which the name is free. It renews
// the lease on a quorum of nodes, ends it here with [ErrHandedOver] without telling the nodes, and
// returns a handle. The other process takes the lease over with that handle, by Adopt of its
// supervisor. The adopted lease has a token of its own and a larger fence, and begins without a
// wait. Stop the work before HandOver: when it returns Done is closed, and the other process may
// start at once. Nothing renews the lease until it is adopted, so the other process has the lease's
// TTL to do that. If no process adopts it, the name stays taken for that time.
//
// If HandOver returns an error there is no handle. If the lease is over, the error is [Lease.Err].
// Otherwise the lease stays held here. Either ctx was done before a quorum had confirmed the
// renewal, and the error wraps ctx's; or another HandOver of the lease is in progress. A handle is
// a secret, see [Lease.Handle].
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
