// Command leasehold runs a command while it holds a name, and shows which process holds one.
// docs/command.md describes it, and so does leasehold -h.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// These are the exit statuses of its own.
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

// The command is killed when the thread that started it ends. The thread of main lives as long as
// the process.
func init() { runtime.LockOSThread() }

func main() {
	if os.Args[0] == guardName {
		os.Exit(guard(os.Args[1:]))
	}
	heedNoIgnored()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run does what the arguments say, and returns the exit status.
func run(args []string, out, errs io.Writer) int {
	s := &settings{out: out, err: errs}
	root := newRootCommand(s)
	root.SetOut(out)
	root.SetErr(errs)
	root.SetArgs(withTwoDashes(root, args))
	err := root.Execute()
	if err == nil {
		return ok
	}
	if e := new(exit); errors.As(err, &e) {
		if e.err != nil {
			s.complain(e.err)
		}
		return e.status
	}
	s.complain(err)
	return usage
}

// newRootCommand makes the command with all its subcommands. A function in a file of its own makes
// each; the subcommand reads s when it is run.
func newRootCommand(s *settings) *cobra.Command {
	root := &cobra.Command{
		Use:   "leasehold",
		Short: "Run a command while it holds a name, on one or more Redis nodes",
		Long: `leasehold runs a command while it holds a name that no other process holds: once for
all the machines that share the Redis nodes. It also shows, watches and revokes the holder of a name.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           version(),
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return s.complete(c.Flags()) },
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprint(s.err, c.UsageString())
			return &exit{status: usage}
		},
	}
	s.bind(root.PersistentFlags())
	root.AddCommand(
		newRunCommand(s),
		newElectCommand(s),
		newShowCommand(s),
		newListCommand(s),
		newWatchCommand(s),
		newTopCommand(s),
		newRevokeCommand(s),
		newNodesCommand(s),
		newDoctorCommand(s),
		newCopyCommand(),
		newManCommand(),
		newVersionCommand(s),
	)
	return root
}

// An exit is an error with the exit status of the process. If it has an err, that is shown.
type exit struct {
	status int
	err    error
}

func (e *exit) Error() string { return fmt.Sprintf("exit status %d: %v", e.status, e.err) }
func (e *exit) Unwrap() error { return e.err }

// failure returns an error of the library with the exit status for it.
func (s *settings) failure(err error) error {
	status := usage
	switch {
	case errors.Is(err, supervisor.ErrNoQuorum):
		status = noQuorum
	case errors.Is(err, supervisor.ErrHeld), errors.Is(err, context.DeadlineExceeded):
		status = nameHeld // to be tried again
	case errors.Is(err, context.Canceled) && s.signal != nil:
		status = statusOf(s.signal)
	case errors.Is(err, lease.ErrLost):
		status = leaseLost
	case errors.Is(err, supervisor.ErrNotHolder), errors.Is(err, supervisor.ErrTooEarly):
		status = no
	}
	return &exit{status, err}
}
