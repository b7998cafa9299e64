package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/leasehold-go/leasehold/clock"
)

// dialTCP connects to a server. A name may have several addresses, and the first of them may be
// dead. So dialTCP tries the next one after a part of the timeout already, as RFC 8305 has it, and
// at once if one has failed. net.Dialer does so for the first address of the other family only,
// after 300 ms or its FallbackDelay. If again is not 0, dialTCP dials all of them once more after
// each such time, until one answers. The kernel sends a lost packet again only after a second, then
// two, then four.
func dialTCP(ctx context.Context, dst string, d *net.Dialer, t *tls.Config, handshake, again time.Duration) (net.Conn, error) {
	conn, err := dialAny(ctx, dst, d, again)
	if err != nil || t == nil {
		return conn, err
	}
	if t.ServerName == "" {
		host, _, _ := net.SplitHostPort(dst) // it was dialled
		t = t.Clone()
		t.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	secure := tls.Client(conn, t)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func dialAny(ctx context.Context, dst string, d *net.Dialer, again time.Duration) (net.Conn, error) {
	host, port, err := net.SplitHostPort(dst)
	if err != nil {
		return d.DialContext(ctx, "tcp", dst) // which says what is wrong with it
	}
	_, err = netip.ParseAddr(host)
	resolved := err == nil || host == ""
	if resolved && again == 0 {
		return d.DialContext(ctx, "tcp", dst)
	}
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	addresses := []string{dst}
	if !resolved {
		if addresses, err = lookUp(ctx, host, port, d); err != nil {
			return nil, err
		}
	}
	conn, err := race(ctx, addresses, d.Timeout/4, again, func(ctx context.Context, address string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	})
	if err != nil && err == ctx.Err() {
		err = &net.OpError{Op: "dial", Net: "tcp", Err: err} // as a net.Dialer has it
	}
	return conn, err
}

// lookUp returns the addresses of a name, with the port.
func lookUp(ctx context.Context, host, port string, d *net.Dialer) ([]string, error) {
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ips, err := resolver.LookupNetIP(ctx, "ip", host)
	addresses := make([]string, len(ips))
	for i, ip := range ips {
		addresses[i] = net.JoinHostPort(ip.Unmap().String(), port)
	}
	return addresses, err
}

// race dials addresses, one at least, and returns the first connection. All dials are under way
// after the given time. If again is not 0 it dials them once more after each such time. It fails as
// soon as each of them has failed.
func race(ctx context.Context, addresses []string, within, again time.Duration, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		address int
		conn    net.Conn
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	step := within / time.Duration(max(1, len(addresses)-1))
	timer := clock.Runtime().NewTimer(step)
	defer timer.Stop()
	begun := 0
	begin := func() {
		i := begun % len(addresses)
		begun++
		switch {
		case begun < len(addresses):
			timer.Reset(step)
		case again > 0:
			timer.Reset(again / time.Duration(len(addresses)))
		default:
			timer.Stop()
		}
		go func() {
			c, err := dial(ctx, addresses[i])
			select {
			case results <- result{i, c, err}:
			case <-ctx.Done(): // another one was first
				if c != nil {
					_ = c.Close()
				}
			}
		}()
	}
	begin()
	var failed error
	failures := make(map[int]bool)
	for {
		select {
		case r := <-results:
			switch {
			case r.err == nil:
				return r.conn, nil
			case failed == nil:
				failed = r.err
			case !failures[r.address]:
				failed = fmt.Errorf("%w; %w", failed, r.err)
			}
			failures[r.address] = true
			if len(failures) == len(addresses) {
				return nil, failed
			}
			if begun >= len(addresses) {
				continue
			}
		case <-timer.C():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		begin()
	}
}
