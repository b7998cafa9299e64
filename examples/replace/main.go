// Replace changes two of five nodes while one process holds a lease that another one waits for, without
// a restart of either. Both are supervisors of this program here. In a deployment each process calls
// Reconfigure when its configuration changes, or is restarted, and one of them, or an operator with
// "leasehold nodes finish", finishes the change.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/leasehold-go/leasehold/examples/internal/setup"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout))
}

func run(ctx context.Context, args []string, out io.Writer) int {
	fs := flag.NewFlagSet("replace", flag.ContinueOnError)
	former := fs.String("former", "", "`URLs` of the nodes that are left, separated by commas (default: five embedded nodes)")
	present := fs.String("nodes", "", "`URLs` of the nodes that take their place (default: three of them and two more)")
	ttl := fs.Duration("ttl", time.Second, "how long the nodes keep a lease that is not renewed")
	if status, ok := setup.Parse(fs, args); !ok {
		return status
	}
	r := replacement{out: out, former: node.URLs(strings.Split(*former, ",")...), present: node.URLs(strings.Split(*present, ",")...), ttl: *ttl}
	switch {
	case (*former == "") != (*present == ""):
		return setup.Wrong(fs, errors.New("-former and -nodes: want both, or none"))
	case *former == "":
		embedded := nodetest.Start(7)
		for _, n := range embedded {
			defer n.Close()
		}
		r.former, r.present = nodetest.Conns(embedded[:5]), nodetest.Conns(embedded[2:])
		r.off = func() {
			for _, n := range embedded[:2] {
				n.Crash()
			}
		}
	}
	if err := r.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "replace: %v\n", err)
		return 1
	}
	return 0
}

// A replacement changes the nodes.
type replacement struct {
	out             io.Writer
	former, present []node.Conn
	ttl             time.Duration
	off             func() // switches the nodes off that are left; nil if that is not for this program
}

func (r *replacement) run(ctx context.Context) error {
	cfg := supervisor.Config{Nodes: r.former, TTL: r.ttl, MaxTTLCap: r.ttl}
	holder, err := supervisor.New(cfg)
	if err != nil {
		return err
	}
	defer holder.Close(context.WithoutCancel(ctx))
	waiter, err := supervisor.New(cfg)
	if err != nil {
		return err
	}
	defer waiter.Close(context.WithoutCancel(ctx))

	held, err := holder.Acquire(ctx, "example-replace")
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "held with fence %d\n", held.Fence())
	ctx = held.Context(ctx) // it ends if the lease is lost
	next := make(chan *lease.Lease, 1)
	waiting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		l, err := waiter.Acquire(waiting, "example-replace")
		if err != nil {
			l = nil
		}
		next <- l
	}()

	// The first rollout: every process is given both lists. The lease goes on, and the new nodes get
	// its key.
	for _, sup := range []*supervisor.Supervisor{holder, waiter} {
		if err := sup.Reconfigure(ctx, r.present, r.former); err != nil {
			return err
		}
	}
	fmt.Fprintln(r.out, "both lists are given")
	if err := until(ctx, func() (bool, error) { return holder.Stats().Filling == 0, nil }); err != nil {
		return err
	}
	fmt.Fprintln(r.out, "the lease rests on both lists")

	// Finish: it is too early as long as the nodes know of a client with the former list alone.
	cfg.Nodes, cfg.Former = r.present, r.former
	if err := until(ctx, func() (bool, error) {
		err := supervisor.FinishChange(ctx, cfg, supervisor.FinishOptions{})
		if errors.Is(err, supervisor.ErrTooEarly) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	fmt.Fprintln(r.out, "finished")

	// The second rollout, in any order. A process hears within ten seconds that it may.
	for _, sup := range []*supervisor.Supervisor{waiter, holder} {
		if err := until(ctx, func() (bool, error) {
			err := sup.Reconfigure(ctx, r.present, nil)
			if errors.Is(err, supervisor.ErrTooEarly) {
				return false, nil
			}
			return err == nil, err
		}); err != nil {
			return err
		}
	}
	if r.off != nil {
		r.off()
	}
	fmt.Fprintln(r.out, "the former nodes are off")
	if err := setup.Pause(ctx, 2*r.ttl); err != nil {
		return err
	}

	fmt.Fprintf(r.out, "held all the time: %t\n", held.Valid())
	if err := held.Release(ctx); err != nil {
		return err
	}
	l := <-next
	if l == nil {
		return errors.New("the other one did not get it")
	}
	fmt.Fprintf(r.out, "then held with fence %d\n", l.Fence())
	return l.Release(context.WithoutCancel(ctx))
}

// until asks again and again, until the answer is yes.
func until(ctx context.Context, is func() (bool, error)) error {
	for {
		if yes, err := is(); yes || err != nil {
			return err
		}
		if err := setup.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
