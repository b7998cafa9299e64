package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/leasehold-go/leasehold/supervisor"
)

func newWatchCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Print a line for each change of who holds a name",
		Long:  `watch prints who holds a name, and a line for each change, until it is interrupted.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return s.ask(func(ctx context.Context, sup *supervisor.Supervisor) error {
				for h, err := range sup.Watch(ctx, args[0]) {
					if err != nil {
						return s.failure(err)
					}
					if h.Err != nil {
						fmt.Fprintln(s.out, "not known:", h.Err)
						continue
					}
					fmt.Fprintln(s.out, describe(h))
				}
				return nil
			})
		},
	}
}
