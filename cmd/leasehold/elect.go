package main

import (
	"github.com/spf13/cobra"
)

func newElectCommand(s *settings) *cobra.Command {
	j := &job{settings: s, forever: true, heldStatus: nameHeld}
	c := &cobra.Command{
		Use:   "elect NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command while it leads, and again after each loss",
		Long: `elect is for a service of which one of several processes is to be active. It waits until it holds the
name and runs the command, as run does, but for ever: it does not give up while nodes are away. When the lease is lost the command is
ended, and elect is a candidate again. When the command ends by itself, so does elect.
` + statuses,
		Example: `  leasehold elect scheduler -- /usr/local/bin/scheduler`,
		Args:    j.parse,
		RunE:    func(*cobra.Command, []string) error { return j.run() },
	}
	j.bind(c)
	c.Flags().Var(durationVar(&j.coolDown, 0), "cool-down", "how long after a loss it is no candidate (0s)")
	return c
}
