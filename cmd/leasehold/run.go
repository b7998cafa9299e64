package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/clock"
	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

func newRunCommand(s *settings) *cobra.Command {
	j := &job{settings: s}
	c := &cobra.Command{
		Use:   "run NAME [NAME...] -- COMMAND [ARGUMENT...]",
		Short: "Run a command while it holds a name",
		Long: `run waits until it holds the name, and runs the command. The name is free again when the command
and all that it has started have ended. None of that works after the lease: if the lease cannot be
renewed, run sends the command SIGTERM, and SIGKILL before another process can hold the name.
` + statuses,
		Example: `  leasehold run nightly-report -- /usr/local/bin/report
  leasehold run --try -q --held-status 0 --at-least 30s cleanup -- cleanup.sh   # in a crontab of many hosts
  leasehold run -n 3 render -- render.sh                                        # three of them at once`,
		Args: j.parse,
		RunE: func(*cobra.Command, []string) error { return j.run() },
	}
	f := c.Flags()
	f.BoolVar(&j.try, "try", false, "do not wait for a name that is held. If the nodes are young, wait for that once, --max-ttl-cap at most")
	f.Var(durationVar(&j.wait, 0), "wait", "wait no longer than this, for the name and for nodes (default: for ever for the name)")
	f.Var(durationVar(&j.outage, time.Minute), "outage", "give up if no quorum of the nodes was reached for this long, so that jobs do not pile up; 0 is never. If --wait is given, only --wait bounds the waiting. With --try there is no such waiting: nodes that are down end it after one attempt")
	f.Uint8VarP(&j.slots, "slots", "n", 0, "hold any of NAME-1 to NAME-`N`, the first that is free, so that up to N commands run at once. Several names do the same for any names (default: NAME itself)")
	f.Uint8Var(&j.heldStatus, "held-status", nameHeld, "the exit `status` if --try or --wait finds the name held")
	j.bind(c)
	return c
}

// bind adds the flags that run and elect share.
func (j *job) bind(c *cobra.Command) {
	f := c.Flags()
	f.Var(durationVar(&j.grace, 0), "grace", "how long before the nodes may let others in the command gets SIGTERM; it gets SIGKILL after three quarters of that time (default: a fifth of --ttl)")
	f.StringVar(&j.owner, "owner", "", "`text` that others see as the holder (default host:pid)")
	f.Var(oneOf(&j.children, childrenWait, childrenKill), "children", "`wait` for what the command leaves running in the background, or kill it: SIGTERM, and SIGKILL after --grace. "+childrenNote)
	f.Var(durationVar(&j.atLeast, 0), "at-least", "keep the name taken for this long after it was acquired, even if the command ends earlier or this machine dies (default: until the command ends)")
	f.Var(durationVar(&j.maxHold, 0), "max-hold", "end the command when it has held the name for this long (default: never)")
}

// These are the values of --children.
const (
	childrenWait = "wait"
	childrenKill = "kill"
)

// childrenNote says which processes --children is about.
const childrenNote = "On Linux that is all that it has started, sessions of their own included; on other systems, the processes of its group"

// statuses is the part of the help about exit statuses.
const statuses = `
The exit status is the command's, 128 more than the number of the signal that killed it, or
   64  wrong usage
   69  no quorum of nodes could be reached
   75  the name is held, or --wait was over
   76  the lease was lost while the command ran
  126  the command could not be started; 127, it was not found
A signal while it waits ends it with 128 more than its number.

The command has LEASEHOLD_NAME and LEASEHOLD_FENCE in its environment, but not LEASEHOLD_NODES. It is in
a process group of its own, to which signals are passed on, and may use the terminal.`

// A job is a command to run under a lease.
type job struct {
	*settings
	try        bool
	wait       time.Duration
	outage     time.Duration
	heldStatus uint8
	grace      time.Duration
	owner      string
	children   string
	maxHold    time.Duration
	atLeast    time.Duration
	slots      uint8         // 0: the names as they are
	coolDown   time.Duration // of elect
	forever    bool          // elect

	names   []string
	command []string
	path    string    // the path of the command
	dieOf   os.Signal // the signal that is to kill this process in the end, as it has killed the command
}

// parse reads the names and the command from the arguments.
func (j *job) parse(c *cobra.Command, args []string) error {
	dash := c.ArgsLenAtDash()
	switch {
	case dash < 0 && len(args) > 1:
		return fmt.Errorf(`put "--" before the command, as in: leasehold %s NAME -- COMMAND`, c.Name())
	case len(args) == 0 || dash == 0:
		return errors.New("no name")
	case dash < 0 || len(args) == dash:
		return errors.New("no command to run")
	}
	j.names, j.command = args[:dash], args[dash:]
	return nil
}

// check returns an error if the flags are wrong.
func (j *job) check() error {
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"wait", j.wait}, {"outage", j.outage}, {"grace", j.grace}, {"max-hold", j.maxHold}, {"at-least", j.atLeast}, {"cool-down", j.coolDown}} {
		if f.d < 0 {
			return fmt.Errorf("--%s %v: want 0 or more", f.name, f.d)
		}
	}
	switch {
	case j.try && j.wait > 0:
		return errors.New("--try and --wait: give only one of them")
	case j.slots > 0 && len(j.names) > 1:
		return fmt.Errorf("--slots with %d names: give one, from which the names of the slots are made", len(j.names))
	}
	return nil
}

// places returns the names, of which the job needs any one.
func (j *job) places() []string {
	if j.slots == 0 {
		return j.names
	}
	list := make([]string, j.slots)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%d", j.names[0], i+1)
	}
	return list
}

// run acquires the name and runs the command, repeatedly for elect.
func (j *job) run() error {
	if err := j.check(); err != nil {
		return err
	}
	if j.grace == 0 {
		j.grace = j.ttl / 5
	}
	path, err := exec.LookPath(j.command[0])
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return &exit{notFound, err}
		}
		return &exit{cannotRun, err}
	}
	j.path = path
	prepare()
	signals := hearing()
	defer signal.Stop(signals)
	told := make(nudge, 1)
	cfg := supervisor.Config{Owner: j.owner, Grace: j.grace, Observer: j.observer(told)}
	if j.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(j.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	sup, err := j.supervise(cfg)
	if err != nil {
		return j.failure(err)
	}
	defer func() {
		end(sup) // it releases the name, too
		die(j.dieOf)
	}()
	for {
		held, err := j.acquire(sup, told, signals)
		if err != nil {
			return err
		}
		if !held.Valid() {
			continue // this process was stopped meanwhile
		}
		err = j.under(held, signals)
		var e *exit
		if !j.forever || !errors.As(err, &e) || e.status != leaseLost {
			return err
		}
		j.complain(fmt.Errorf("%w; waiting for the name again", e.err))
		if err := j.cool(signals); err != nil {
			return err
		}
	}
}

// observer returns the observer: it shows warnings, each once, unless they are logged anyway.
func (j *job) observer(told nudge) supervisor.Observer {
	said := make(map[string]bool)
	return supervisor.ObserverFunc(func(e supervisor.Event) {
		told.Observe(e)
		if e.Kind != supervisor.EventWarning || e.Err == nil || j.quiet || j.verbose || said[e.Err.Error()] {
			return
		}
		said[e.Err.Error()] = true
		j.complain(fmt.Errorf("warning: %s", plain.Line(e.Err.Error()))) // which names the node
	})
}

// under runs the command under a lease and gives the lease back.
func (j *job) under(held *lease.Lease, signals <-chan os.Signal) error {
	status := j.work(held, signals)
	moment, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := held.Release(moment); errors.Is(err, lease.ErrLost) {
		return &exit{leaseLost, fmt.Errorf("the lease on %q was lost, and the command has ended: %w", held.Name(), err)}
	} else if err != nil {
		j.complain(err) // the keys expire
	}
	if status != ok {
		return &exit{status: status}
	}
	return nil
}

// cool waits for --cool-down.
func (j *job) cool(signals <-chan os.Signal) error {
	timer := clock.System().NewTimer(j.coolDown)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
			return nil
		case s := <-signals:
			if slices.Contains(endings, s) {
				return &exit{status: statusOf(s)}
			}
			stopHere(s)
		}
	}
}

// acquire waits for the name, and says what it waits for. A signal ends it.
func (j *job) acquire(sup *supervisor.Supervisor, told nudge, signals <-chan os.Signal) (*lease.Lease, error) {
	ctx, give := context.WithCancel(context.Background())
	defer give()
	if j.wait > 0 {
		timed, cancel := context.WithTimeout(ctx, j.wait)
		defer cancel()
		ctx = timed
	}
	var held *lease.Lease
	var err error
	got := make(chan struct{})
	go func() {
		defer close(got)
		switch names := j.places(); {
		case j.try:
			held, err = j.tryOnce(ctx, sup, told)
		case len(names) == 1:
			held, err = sup.Acquire(ctx, names[0], j.options()...)
		default:
			held, err = sup.AcquireAny(ctx, names, j.options()...)
		}
	}()
	clk := clock.System()
	second := clk.NewTimer(time.Second)
	defer second.Stop()
	r := reporter{job: j, sup: sup, reachedAt: clk.Now()}
	for {
		select {
		case <-got:
			if err == nil {
				r.done(held)
				return held, nil
			}
			err = j.failure(err)
			if e := new(exit); errors.As(err, &e) && e.status == nameHeld {
				if e.status = int(j.heldStatus); j.quiet {
					e.err = nil
				}
			}
			return nil, err
		case s := <-signals:
			if slices.Contains(endings, s) {
				give()
				<-got
				return nil, &exit{status: statusOf(s)}
			}
			stopHere(s)
		case <-second.C():
			if r.look(ctx, clk.Now()); j.outage > 0 && j.wait == 0 && clk.Now().Sub(r.reachedAt) >= j.outage {
				give()
				if <-got; err == nil {
					return held, nil
				}
				return nil, &exit{noQuorum, fmt.Errorf("no quorum of nodes was reached for --outage %v: %s", short(j.outage), r.unreachable())}
			}
			second.Reset(time.Second)
		}
	}
}

// options returns the options of an acquisition.
func (j *job) options() (opts []supervisor.Option) {
	if j.maxHold > 0 {
		opts = append(opts, supervisor.WithMaxHold(j.maxHold))
	}
	if j.atLeast > 0 {
		opts = append(opts, supervisor.WithMinHold(j.atLeast))
	}
	return opts
}

// tryOnce makes one attempt. If that fails because nodes are young, it waits until they are not,
// and makes another. A process that ended instead would leave them young. So if all processes were
// short, none would ever get a lease. It waits for every young node that can be reached, and not
// only for a quorum, so that all are noted as grown.
func (j *job) tryOnce(ctx context.Context, sup *supervisor.Supervisor, told nudge) (*lease.Lease, error) {
	held, err := j.tryAny(ctx, sup)
	var e *supervisor.AcquireError
	if !errors.As(err, &e) || e.Young() == 0 {
		return held, err
	}
	if !j.quiet {
		fmt.Fprintf(j.err, "leasehold: waiting: servers are young for %s (at most --max-ttl-cap); waiting for that once\n", seconds(e.Young()))
	}
	reached(ctx, sup, told) // the attempt did not wait for the slowest
	left := e.Young()
	for _, n := range sup.Nodes() {
		left = max(left, n.Young)
	}
	grown := clock.System().NewTimer(left)
	defer grown.Stop()
	select {
	case <-grown.C():
		return j.tryAny(ctx, sup)
	case <-ctx.Done():
		return nil, err
	}
}

// tryAny makes one attempt for each name, beginning with any, until one is held.
func (j *job) tryAny(ctx context.Context, sup *supervisor.Supervisor) (held *lease.Lease, err error) {
	names := j.places()
	first := rand.N(len(names)) // otherwise all processes would meet at the first that are taken
	for i := range names {
		held, err = sup.TryAcquire(ctx, names[(first+i)%len(names)], j.options()...)
		if !errors.Is(err, supervisor.ErrHeld) {
			break
		}
	}
	return held, err
}

// environment returns the command's environment: this process's without what only leasehold needs
// to know, and with the lease's name and fence.
func (j *job) environment(held *lease.Lease) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == variable("nodes") || name == variable("former") || name == variable("token")
	})
	return append(env, "LEASEHOLD_NAME="+strings.TrimPrefix(held.Name(), j.prefix), fmt.Sprintf("LEASEHOLD_FENCE=%d", held.Fence()))
}
