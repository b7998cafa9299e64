package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newRunCommand(s *settings) *cobra.Command {
	j := &job{settings: s}
	c := &cobra.Command{
		Use:   "run NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command while it holds a name",
		Args:  j.parse,
		RunE:  func(*cobra.Command, []string) error { return j.run() },
	}
	f := c.Flags()
	f.BoolVar(&j.try, "try", false, "do not wait for a name that is held")
	f.Var(durationVar(&j.wait, 0), "wait", "wait no longer than this for the name (for ever)")
	f.Var(durationVar(&j.grace, 0), "grace", "how long before the nodes may let others in the command is ended (a fifth of --ttl)")
	f.StringVar(&j.owner, "owner", "", "`text` that others are shown as the holder (host:pid)")
	return c
}

// A job is a command that is to be run under a lease.
type job struct {
	*settings
	try     bool
	wait    time.Duration
	grace   time.Duration
	owner   string
	name    string
	command []string
}

// parse takes the name and the command from the arguments.
func (j *job) parse(c *cobra.Command, args []string) error {
	dash := c.ArgsLenAtDash()
	switch {
	case dash < 0 && len(args) > 1:
		return errors.New(`want "--" before the command, as in: leasehold run NAME -- COMMAND`)
	case len(args) == 0 || dash == 0:
		return errors.New("no name")
	case dash < 0 || len(args) == dash:
		return errors.New("no command to run")
	case dash > 1:
		return fmt.Errorf("%q is one argument too many", args[1])
	}
	j.name, j.command = args[0], args[dash:]
	return nil
}

// check reports what is wrong with the flags.
func (j *job) check() error {
	switch {
	case j.wait < 0:
		return fmt.Errorf("--wait %v: want 0 or more", j.wait)
	case j.grace < 0:
		return fmt.Errorf("--grace %v: want 0 or more", j.grace)
	case j.try && j.wait > 0:
		return errors.New("--try and --wait: want one of them")
	}
	return nil
}

// run acquires the name and runs the command.
func (j *job) run() error {
	if err := j.check(); err != nil {
		return err
	}
	if j.grace == 0 {
		j.grace = j.ttl / 5
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	ctx, give := context.WithCancel(context.Background())
	defer give()
	told := make(nudge, 1)
	sup, err := j.supervise(supervisor.Config{Owner: j.owner, Grace: j.grace, Observer: told})
	if err != nil {
		return j.failure(err)
	}
	defer end(sup) // it releases the name, too
	acquire := sup.Acquire
	if j.try {
		acquire = func(ctx context.Context, name string, _ ...supervisor.Option) (*lease.Lease, error) {
			return j.tryOnce(ctx, sup, told)
		}
	}
	if j.wait > 0 {
		timed, cancel := context.WithTimeout(ctx, j.wait)
		defer cancel()
		ctx = timed
	}
	got := make(chan *lease.Lease, 1)
	go func() {
		held, failure := acquire(ctx, j.name)
		err = failure // read behind the receiving
		got <- held
	}()
	var held *lease.Lease
	for waiting := true; waiting; {
		select {
		case held = <-got:
			waiting = false
		case s := <-signals:
			if slices.Contains(endings, s) {
				give()
				<-got
				return &exit{status: statusOf(s)}
			}
		}
	}
	if err != nil {
		return j.failure(err)
	}
	status := j.work(held, j.grace, signals)
	moment, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := held.Release(moment); errors.Is(err, lease.ErrLost) {
		return j.failure(fmt.Errorf("the command ran without the lease on %q: %w", j.name, err))
	} else if err != nil {
		j.complain(err) // the keys expire
	}
	if status != ok {
		return &exit{status: status}
	}
	return nil
}

// tryOnce makes one attempt. If it fails because nodes are young, it waits until they are
// not, and makes another: a process that ended instead would leave them young, so where
// all processes are short none would ever get a lease. It waits for every young node
// that can be reached, so that all are written to be grown, and not only a quorum.
func (j *job) tryOnce(ctx context.Context, sup *supervisor.Supervisor, told nudge) (*lease.Lease, error) {
	held, err := sup.TryAcquire(ctx, j.name)
	var e *supervisor.AcquireError
	if !errors.As(err, &e) || e.Young() == 0 {
		return held, err
	}
	j.complain(fmt.Errorf("%w; waiting for that once", err))
	reached(ctx, sup, told) // the attempt did not wait for the slowest
	left := e.Young()
	for _, n := range sup.Nodes() {
		left = max(left, n.Young)
	}
	grown := clock.System().NewTimer(left)
	defer grown.Stop()
	select {
	case <-grown.C():
		return sup.TryAcquire(ctx, j.name)
	case <-ctx.Done():
		return nil, err
	}
}

// work runs the command under the lease, and returns its status. Nothing of it is left
// if the lease is lost.
func (j *job) work(held *lease.Lease, grace time.Duration, signals <-chan os.Signal) int {
	child := exec.Command(j.command[0], j.command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, j.out, j.err
	child.Env = append(os.Environ(), "LEASEHOLD_NAME="+j.name, fmt.Sprintf("LEASEHOLD_FENCE=%d", held.Fence()))
	ownGroup(child)
	if err := child.Start(); err != nil {
		j.complain(err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return notFound
		}
		return cannotRun
	}
	done := make(chan struct{})
	go func() { _ = child.Wait(); close(done) }() // its state says how it ended
	lost := held.Lost()
	// free is the instant at which the nodes may let others in, at the earliest. It is
	// followed while the lease is held, so that the end of the grace does not depend on
	// how late the loss is noticed: by a busy machine, or one that was suspended.
	clk := clock.System()
	next := clk.NewTimer(0)
	defer next.Stop()
	var free clock.Instant
	follow := func() {
		now := clk.Now() // before, so that free is early rather than late
		left := held.Remaining()
		free = now.Add(left)
		next.Reset(left - grace)
	}
	follow()
	for {
		select {
		case <-done:
			if lost == nil {
				killGroup(child) // what the command has started is to end as well
			}
			return exitStatus(child.ProcessState)
		case s := <-signals:
			signalGroup(child, s)
		case <-lost:
			lost = nil
			if err := held.Err(); !errors.Is(err, lease.ErrExpired) {
				killGroup(child) // others may hold the name already
				continue
			}
			terminateGroup(child)
			next.Reset(free.Add(-grace / 4).Sub(clk.Now()))
		case <-next.C():
			switch {
			case lost == nil:
				killGroup(child)
			case held.Valid(): // or else lost is closed by now
				follow()
			}
		}
	}
}
