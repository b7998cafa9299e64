package nodetest

import (
	"context"
	"crypto/tls"
	"net"
	"os"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/node"
)

// Conns returns the [Node.Conn] of each node.
func Conns(nodes []*Node) []node.Conn {
	conns := make([]node.Conn, len(nodes))
	for i, n := range nodes {
		conns[i] = n.Conn()
	}
	return conns
}

// Conn returns how to reach the node, for supervisor.Config.Nodes.
func (n *Node) Conn() node.Conn { return n.ConnOf("") }

// ConnOf returns how one client reaches the node: by a path of its own, which
// [Node.Cut] can cut. The name of the client is any text; [Node.Conn] uses the empty one.
func (n *Node) ConnOf(client string) node.Conn { return node.FromOption(n.Option(client)) }

// Option returns what [Node.ConnOf] is made of, for tests that add a password to
// it or use the client library directly.
func (n *Node) Option(client string) rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress:  []string{n.name},
		DisableCache: true, // for which the library needs MULTI, and the node has none
		DialCtxFn: func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			if d != nil && d.Timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d.Timeout)
				defer cancel()
			}
			return n.Dial(ctx, client)
		},
	}
}

// Dial returns a connection to the node by a client's path, see [Node.ConnOf]. While the path is
// cut it waits until it is mended, or until ctx is done.
func (n *Node) Dial(ctx context.Context, client string) (net.Conn, error) {
	for {
		if ctx.Err() != nil {
			return nil, n.dialError(ctx.Err())
		}
		conn, mended, err := n.accept(client)
		if mended == nil {
			return conn, err
		}
		select {
		case <-mended:
		case <-ctx.Done():
		}
	}
}

// accept returns a connection, or what to wait for first.
func (n *Node) accept(client string) (net.Conn, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if mended := n.cuts[client]; mended != nil {
		return nil, mended, nil
	}
	if !n.up {
		return nil, nil, n.dialError(os.NewSyscallError("connect", errRefused))
	}
	theirs, ours := net.Pipe()
	n.lastID++
	s := &session{
		n: n, client: client, conn: ours, id: n.lastID, proto: 2,
		done: make(chan struct{}), wake: make(chan struct{}, 1), channels: make(map[string]bool),
	}
	n.sessions[s] = struct{}{}
	n.wg.Go(s.read)
	n.wg.Go(s.write)
	return theirs, nil, nil
}

func (n *Node) dialError(err error) error {
	return &net.OpError{Op: "dial", Net: "nodetest", Addr: addr(n.name), Err: err}
}

// An addr is a node's name as an address.
type addr string

func (addr) Network() string  { return "nodetest" }
func (a addr) String() string { return string(a) }
