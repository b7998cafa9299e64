package main

import (
	"github.com/spf13/cobra"
)

func newElectCommand(s *settings) *cobra.Command {
	j := &job{settings: s, forever: true, heldStatus: nameHeld}
	c := &cobra.Command{
		Use:   "elect NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command while it leads, and again after each loss",
		Long: `elect is for a service of which one of several processes must be active. It waits until it holds the
name and runs the command, as run does, but it does not give up while nodes are away. When the lease is
lost it ends the command, and waits for the name again. When the command ends by itself, so does elect.
` + statuses,
		Example: `  leasehold elect scheduler -- /usr/local/bin/scheduler`,
		Args:    j.parse,
		RunE:    func(*cobra.Command, []string) error { return j.run() },
	}
	j.bind(c)
	c.Flags().Var(durationVar(&j.coolDown, 0), "cool-down", "how long to wait after a loss before it is a candidate again (default 0s)")
	return c
}
