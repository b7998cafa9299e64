package lease

import "context"

// Handle returns a text with which another process continues this lease, by Adopt of
// its supervisor: the same tenure, with the same token and fence. Empty once the lease
// is over. Calling it changes nothing: the lease is held here, and renewed, as before.
//
// It is for getting a lease back after a restart: store the handle, and adopt it when
// the process that stored it is surely dead. As long as that process lives, it
// believes in the lease as well, and then there are two holders that no node can tell
// apart, nor any fence. To give a lease to another process while this one lives, use
// [Lease.HandOver]. Take the handle anew after Extend.
//
// The handle is the key to the lease: whoever has it can take the lease, or end it.
// Keep it as you would a password, and out of logs.
func (l *Lease) Handle() string {
	if l.keeper == nil || l.Err() != nil {
		return ""
	}
	return l.keeper.Handle()
}

// HandOver gives the lease to another process without a moment in which the name is
// free: it renews the lease on a quorum of nodes, ends it here with [ErrHandedOver]
// without telling the nodes, and returns the handle with which the other process
// continues it, by Adopt of its supervisor. Done is closed by then; stop the work
// before, because the other one may start at once. From then on nobody renews the
// lease until it is adopted, for which there is its TTL; a handle that nobody adopts
// is a name that stays taken for so long.
//
// An error means that there is no handle: one that wraps [ErrLost], or the end of the
// lease otherwise, or ctx's error if ctx was done before a quorum had confirmed the
// renewal, and then the lease is held here as before; so it is where it is being handed
// over already, by another call that has not returned, which is an error as well. See [Lease.Handle] for what a
// handle is worth.
func (l *Lease) HandOver(ctx context.Context) (handle string, err error) {
	if err := l.Err(); err != nil {
		return "", err
	}
	if l.keeper == nil {
		l.finish(ErrHandedOver, over)
		return "", nil
	}
	handle, err = l.keeper.HandOver(ctx)
	if err != nil && l.Err() != nil {
		err = l.Err() // it ended meanwhile
	}
	return handle, err
}
