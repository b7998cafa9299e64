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

// dialTCP connects to a server. A name may have several addresses, the first of which is dead:
// so the next one is tried after a part of the timeout already, as RFC 8305 has it, and at
// once if one has failed. net.Dialer does so for the first address of the other family
// only, after 300 ms or its FallbackDelay.
func dialTCP(ctx context.Context, dst string, d *net.Dialer, t *tls.Config, handshake time.Duration) (net.Conn, error) {
	conn, err := dialAny(ctx, dst, d)
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

func dialAny(ctx context.Context, dst string, d *net.Dialer) (net.Conn, error) {
	host, port, err := net.SplitHostPort(dst)
	if err != nil {
		return d.DialContext(ctx, "tcp", dst) // which says what is wrong with it
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return d.DialContext(ctx, "tcp", dst)
	}
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ips, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addresses := make([]string, len(ips))
	for i, ip := range ips {
		addresses[i] = net.JoinHostPort(ip.Unmap().String(), port)
	}
	conn, err := race(ctx, addresses, d.Timeout/4, func(ctx context.Context, address string) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", address)
	})
	if err != nil && err == ctx.Err() {
		err = &net.OpError{Op: "dial", Net: "tcp", Err: err} // as a net.Dialer has it
	}
	return conn, err
}

// race dials addresses, one at least, all of which are under way after the given time, and
// returns the first connection.
func race(ctx context.Context, addresses []string, within time.Duration, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	step := within / time.Duration(max(1, len(addresses)-1))
	timer := clock.Runtime().NewTimer(step)
	defer timer.Stop()
	begun := 0
	begin := func() {
		address := addresses[begun]
		begun++
		timer.Reset(step)
		go func() {
			c, err := dial(ctx, address)
			select {
			case results <- result{c, err}:
			case <-ctx.Done(): // another one was first
				if c != nil {
					_ = c.Close()
				}
			}
		}()
	}
	begin()
	var failed error
	for failures := 0; ; {
		select {
		case r := <-results:
			switch {
			case r.err == nil:
				return r.conn, nil
			case failed == nil:
				failed = r.err
			default:
				failed = fmt.Errorf("%w; %w", failed, r.err)
			}
			if failures++; failures == len(addresses) {
				return nil, failed
			}
		case <-timer.C():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if begun < len(addresses) {
			begin()
		}
	}
}
