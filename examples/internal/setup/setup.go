// Package setup is what the examples have in common: their flags, and the nodes
// that they run on.
package setup

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
)

// Nodes are the nodes that an example runs on.
type Nodes struct {
	Conns    []node.Conn
	Embedded []*nodetest.Node // nil if they are real servers
}

// Open returns the nodes at the given URLs, separated by commas, or five embedded
// ones if there are none. It does not connect.
func Open(urls string) Nodes {
	if urls == "" {
		embedded := nodetest.Start(5)
		return Nodes{Conns: nodetest.Conns(embedded), Embedded: embedded}
	}
	list := strings.Split(urls, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return Nodes{Conns: node.URLs(list...)}
}

// Close ends the embedded nodes, if there are any.
func (n Nodes) Close() {
	for _, e := range n.Embedded {
		e.Close()
	}
}

// String tells what kind of nodes they are.
func (n Nodes) String() string {
	if n.Embedded != nil {
		return fmt.Sprintf("%d embedded nodes (use -nodes for real ones)", len(n.Embedded))
	}
	return fmt.Sprintf("%d nodes", len(n.Conns))
}

// Flags returns a flag set with -nodes, and where to find its value.
func Flags(program string) (fs *flag.FlagSet, nodes *string) {
	fs = flag.NewFlagSet(program, flag.ContinueOnError)
	nodes = fs.String("nodes", "", "`URLs` of the Redis nodes, separated by commas (default: five embedded nodes)")
	return fs, nodes
}

// Parse parses a command line. If it is not ok, the program ends with status: 0
// after -h, and 2 after wrong flags.
func Parse(fs *flag.FlagSet, args []string) (status int, ok bool) {
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0, false
	case err != nil: // the flag set has said why
		return 2, false
	case fs.NArg() > 0:
		return Wrong(fs, fmt.Errorf("unexpected argument %q", fs.Arg(0))), false
	}
	return 0, true
}

// Wrong says what is wrong with the command line, and returns the exit status.
func Wrong(fs *flag.FlagSet, err error) (status int) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", fs.Name(), err)
	return 2
}

// Pause waits for d, or for ctx: then it returns why that ended.
func Pause(ctx context.Context, d time.Duration) error {
	pause, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-pause.Done()
	return context.Cause(ctx)
}
