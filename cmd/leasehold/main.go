// Command leasehold runs a command while it holds a name, and shows, watches and
// revokes who holds one.
//
//	leasehold run [-ttl D] [-grace D] [-try | -wait D] [-owner TEXT] NAME -- COMMAND [ARGUMENT...]
//	leasehold show [-token] NAME
//	leasehold watch NAME
//	leasehold revoke NAME -token TOKEN
//
// The nodes are given by -nodes, or in the environment variable LEASEHOLD_NODES, as
// URLs with commas between them; the latter hides passwords from the list of
// processes. -prefix is put before the name, as Config.Prefix.
//
// -ttl is for how long the nodes keep a name that is no longer renewed, 10 s by default.
// -max-ttl is the largest TTL that this client counts on for itself, -ttl by default: it is
// written on the nodes for the others. -max-ttl-cap is the largest -max-ttl, or
// Config.MaxTTL, of any client of the nodes, 1 minute by default: give it to all of them
// alike. A node that was started or has lost its data is young for this long, and about a
// hundredth more, at most: it is asked for nothing meanwhile.
//
// # run
//
// It waits until the name is held, and runs the command. -wait bounds the waiting. -try does
// not wait for a name that is held. It waits once for nodes that are young, if too few
// others are left, for as long as they are. Then it writes that they are grown, so that
// the next process need not wait. The command has LEASEHOLD_NAME and LEASEHOLD_FENCE in its environment, and a process
// group of its own, to which signals are passed on. While it waits a signal ends it. One
// that it was started to ignore, as by nohup, ends nothing and is not passed on. Its exit
// status is the command's, 128 more than the number of the signal that killed the
// command, or
//
//	 64  wrong usage
//	 69  no quorum of nodes could be reached, or was grown
//	 75  the name is held, or -wait was over
//	 76  the lease was lost while the command ran
//	126  the command could not be started; 127, it was not found
//
// When the lease is lost the whole group is sent SIGTERM, and SIGKILL when three
// quarters of -grace (a fifth of the TTL) are over, which is before the nodes may let
// others in. If the lease was taken away, or this machine was paused, others may be
// in already, and it is killed at once. On Linux the command is killed if this one dies. It is for jobs: a command
// that reads a terminal is stopped, as others in the background.
//
// # show, watch, revoke
//
// show prints who holds the name, or has left it, and what each node says; with -token also the token,
// which is the key to the lease, and what revoke wants. Its exit status is 0 if the
// name is held or was left, and 1 if it is not. watch prints a line for each change until it is
// interrupted. revoke takes the lease with that token away; its exit status is 1 if
// that is not the holder's. The holder learns of it at its next renewal at the latest,
// and others may get the name before that. A signal ends show and revoke with 128 more
// than its number.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// Exit statuses of its own.
const (
	ok        = 0
	no        = 1
	usage     = 64
	noQuorum  = 69
	nameHeld  = 75
	leaseLost = 76
	cannotRun = 126
	notFound  = 127
)

// The command is killed when the thread that started it ends: that of main lives as
// long as the process.
func init() { runtime.LockOSThread() }

func main() {
	heedNoIgnored()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// A job is one of the commands: what it was told, and where it says things.
type job struct {
	flags    *flag.FlagSet
	nodes    string
	prefix   string
	ttl      time.Duration
	maxTTL   time.Duration // 0: as ttl
	cap      time.Duration // of the maxTTL of all clients
	name     string
	rest     []string // behind the name and its flags
	out, err io.Writer
	signal   os.Signal // that ended a question; read where its context is done
}

const synopsis = `usage:
  leasehold run [-ttl D] [-grace D] [-try | -wait D] [-owner TEXT] NAME -- COMMAND [ARGUMENT...]
  leasehold show [-token] NAME
  leasehold watch NAME
  leasehold revoke NAME -token TOKEN
each with
  -nodes URL,...  the Redis nodes (or LEASEHOLD_NODES)
  -prefix TEXT    put before the name
  -ttl D          how long the nodes keep a name that is not renewed (10s)
  -max-ttl D      the largest TTL of this client (that of -ttl)
  -max-ttl-cap D  the largest -max-ttl of any client of the nodes (1m); the same for all.
                  A node that was started or has lost its data grants nothing for so
                  long at most; run -try waits for that once
`

func run(args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(errs, synopsis)
		return usage
	}
	j := &job{flags: flag.NewFlagSet(args[0], flag.ContinueOnError), out: out, err: errs}
	j.flags.SetOutput(errs)
	j.flags.Usage = func() { fmt.Fprint(errs, synopsis) }
	j.flags.StringVar(&j.nodes, "nodes", os.Getenv("LEASEHOLD_NODES"), "")
	j.flags.StringVar(&j.prefix, "prefix", "", "")
	j.flags.DurationVar(&j.ttl, "ttl", 10*time.Second, "")
	j.flags.DurationVar(&j.maxTTL, "max-ttl", 0, "")
	j.flags.DurationVar(&j.cap, "max-ttl-cap", time.Minute, "")
	commands := map[string]func(*job, []string) int{"run": runJob, "show": show, "watch": watch, "revoke": revoke}
	do, known := commands[args[0]]
	if !known {
		fmt.Fprint(errs, synopsis)
		return usage
	}
	return do(j, args[1:])
}

// parse reads the flags, which may stand before and behind the name.
func (j *job) parse(args []string) bool {
	if j.flags.Parse(args) != nil {
		return false
	}
	if j.flags.NArg() == 0 {
		j.complain(errors.New("no name"))
		return false
	}
	j.name = j.flags.Arg(0)
	if j.flags.Parse(j.flags.Args()[1:]) != nil {
		return false
	}
	j.rest = j.flags.Args()
	return true
}

func (j *job) complain(err error) { fmt.Fprintf(j.err, "leasehold: %v\n", err) }

// fail says what went wrong, and returns the status for it.
func (j *job) fail(err error) int {
	j.complain(err)
	switch {
	case errors.Is(err, supervisor.ErrNoQuorum):
		return noQuorum
	case errors.Is(err, supervisor.ErrHeld), errors.Is(err, context.DeadlineExceeded):
		return nameHeld // to be tried again
	case errors.Is(err, context.Canceled) && j.signal != nil:
		return statusOf(j.signal)
	case errors.Is(err, lease.ErrLost):
		return leaseLost
	case errors.Is(err, supervisor.ErrNotHolder):
		return no
	}
	return usage
}

// supervise makes a supervisor on the nodes that were given.
func (j *job) supervise(cfg supervisor.Config) (*supervisor.Supervisor, error) {
	var urls []string
	for url := range strings.SplitSeq(j.nodes, ",") {
		if url = strings.TrimSpace(url); url != "" {
			urls = append(urls, url)
		}
	}
	if urls == nil {
		return nil, errors.New("no nodes: want -nodes or LEASEHOLD_NODES")
	}
	cfg.Nodes, cfg.TTL, cfg.Prefix = node.URLs(urls...), j.ttl, j.prefix
	// The library would say the same of its fields, whose names nobody has typed here.
	longest := "-max-ttl"
	if cfg.MaxTTL = j.maxTTL; j.maxTTL == 0 {
		longest, cfg.MaxTTL = "-ttl", j.ttl
	}
	cfg.MaxTTLCap = j.cap
	if cfg.MaxTTL < j.ttl {
		return nil, fmt.Errorf("-max-ttl %v: want at least -ttl = %v", cfg.MaxTTL, j.ttl)
	}
	if j.cap < cfg.MaxTTL {
		return nil, fmt.Errorf("-max-ttl-cap %v: want at least %s = %v, and the same for all clients of the nodes", j.cap, longest, cfg.MaxTTL)
	}
	return supervisor.New(cfg)
}

// A nudge is sent to, if it has room, when something happens.
type nudge chan struct{}

// Observe implements supervisor.Observer.
func (n nudge) Observe(supervisor.Event) {
	select {
	case n <- struct{}{}:
	default:
	}
}

// reached waits until every node was reached, or was found not to be reachable.
func reached(ctx context.Context, sup *supervisor.Supervisor, told nudge) {
	for !known(sup.Nodes()) && ctx.Err() == nil {
		select {
		case <-told:
		case <-ctx.Done():
		}
	}
}

// known reports whether that is so.
func known(nodes []supervisor.NodeStatus) bool {
	for _, n := range nodes {
		if !n.Enrolled && n.Err == nil {
			return false
		}
	}
	return true
}

// end closes the supervisor, and waits for the nodes no longer than a moment.
func end(sup *supervisor.Supervisor) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = sup.Close(ctx) // what is not confirmed expires
}

// ask makes a supervisor for a question, and asks it until a signal comes.
func (j *job) ask(args []string, check func() error, do func(context.Context, *supervisor.Supervisor) int) int {
	if !j.parse(args) {
		return usage
	}
	var err error
	if len(j.rest) > 0 {
		err = fmt.Errorf("%q is one argument too many", j.rest[0])
	} else if check != nil {
		err = check()
	}
	if err != nil {
		j.complain(err)
		return usage
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, endings...)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		select {
		case j.signal = <-signals:
			stop()
		case <-ctx.Done():
		}
	}()
	told := make(nudge, 1)
	sup, err := j.supervise(supervisor.Config{Observer: told})
	if err != nil {
		return j.fail(err)
	}
	defer end(sup)
	reached(ctx, sup, told) // or some would be shown as unreachable
	return do(ctx, sup)
}

func show(j *job, args []string) int {
	token := j.flags.Bool("token", false, "")
	return j.ask(args, nil, func(ctx context.Context, sup *supervisor.Supervisor) int {
		h, err := sup.Inspect(ctx, j.name)
		if err != nil {
			return j.fail(err)
		}
		fmt.Fprintln(j.out, describe(h))
		if *token && h.Held {
			fmt.Fprintln(j.out, "token", string(h.Token))
		}
		if h.Waiting > 0 {
			fmt.Fprintln(j.out, h.Waiting, "waiting")
		}
		for _, a := range h.Nodes {
			fmt.Fprintln(j.out, " ", a)
		}
		if !h.Held {
			return no
		}
		return ok
	})
}

func watch(j *job, args []string) int {
	return j.ask(args, nil, func(ctx context.Context, sup *supervisor.Supervisor) int {
		for h, err := range sup.Watch(ctx, j.name) {
			if err != nil {
				return j.fail(err)
			}
			if h.Err != nil {
				fmt.Fprintln(j.out, "not known:", h.Err)
				continue
			}
			fmt.Fprintln(j.out, describe(h))
		}
		return ok
	})
}

func revoke(j *job, args []string) int {
	token := j.flags.String("token", "", "")
	check := func() error {
		if *token == "" {
			return errors.New("no -token: want that of the lease, as show -token prints it")
		}
		return nil
	}
	return j.ask(args, check, func(ctx context.Context, sup *supervisor.Supervisor) int {
		if err := sup.Revoke(ctx, j.name, lease.Token(*token)); err != nil {
			return j.fail(err)
		}
		return ok
	})
}

// describe says in a line who holds a name.
func describe(h supervisor.Holding) string {
	if !h.Held {
		if h.Free {
			return "free"
		}
		return "not clear: no quorum says the same"
	}
	var b strings.Builder
	if h.Vacated {
		b.WriteString("left")
	} else {
		b.WriteString("held")
	}
	if h.Owner != "" {
		fmt.Fprintf(&b, " by %s", plain.Line(h.Owner)) // which others have chosen
	}
	switch left := h.Left.Round(time.Millisecond); {
	case h.NoExpiry:
		b.WriteString(" with no expiry")
	case h.Vacated:
		fmt.Fprintf(&b, ", free in %v", left)
	default:
		fmt.Fprintf(&b, " for %v unless renewed", left)
	}
	if !h.Since.IsZero() {
		fmt.Fprintf(&b, ", since %s or before", h.Since.UTC().Format(time.RFC3339))
	}
	return b.String()
}
